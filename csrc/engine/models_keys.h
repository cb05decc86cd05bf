/* The keys of the model registry (models.h): made, and taken apart from the right. */
#ifndef SYNA_ENGINE_MODELS_KEYS_H
#define SYNA_ENGINE_MODELS_KEYS_H

#include "engine/db.h"

/* ARGUMENT, or a code of its own: 1..SYNA_MODEL_NAME_MAX bytes of UTF-8. */
syna_rc models_check_name(const char *name);
syna_rc models_check_alias(const char *alias);

/* "model/<name>/" and what is printed behind it. The buffer is emptied first; a NUL stands behind the
 * key. */
syna_rc models_key(struct buf *key, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
syna_rc models_version_key(struct buf *key, const char *name, uint32_t version, const char *part);

/* Is this the key of a version's `part`? *name points into the key. */
bool models_parse(const char *key, size_t len, const char *part, const char **name,
                  size_t *name_len, uint32_t *version);

/* Which versions of a name have a record, ascending (uint32_t[]). */
syna_rc models_versions(syna_db *db, const char *name, struct buf *versions);

#endif
