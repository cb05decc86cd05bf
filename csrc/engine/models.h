/* The model registry: versions of named blobs in a log. Functions mirror registry.h and have its
 * contract; only what differs is said here. Nothing is kept in memory: every call reads the log's index,
 * and every change is one db_update, so that processes that share a log agree.
 *
 * Keys, <n> a decimal number without leading zeros. A key is understood from its right end, so a name
 * may contain anything that a key may:
 *
 *   model/<name>/v<n>/data    BYTES or BLOB
 *   model/<name>/v<n>/format  TEXT, the kind of bytes
 *   model/<name>/v<n>/meta    TEXT, the version as JSON; without it there is no version
 *   model/<name>/registry     TEXT, JSON: next version number, time of the last change
 *   model/<name>/stage/<us>   TEXT, "<n> <stage>": a change at this time, 20 digits, microseconds
 *   model/<name>/@<alias>     INT, a version
 *
 * Files: models_keys.[ch] the keys; models_json.[ch] the records; models.c look up and list;
 * models_write.c save; models_read.c read; models_change.c stages, aliases, deletion. */
#ifndef SYNA_ENGINE_MODELS_H
#define SYNA_ENGINE_MODELS_H

#include "engine/db.h"
#include <synadb/registry.h>

#define MODELS_STAGES 4
extern const char *const models_stage_names[MODELS_STAGES];

/* ---- models.c */
syna_rc models_info(syna_db *db, const char *name, uint32_t version, char **json, size_t *len);
/* *count (may be NULL): versions visited. */
syna_rc models_list(syna_db *db, const char *name, syna_model_fn visit, void *context,
                    size_t *count);
syna_rc models_production(syna_db *db, const char *name, uint32_t *version);
syna_rc models_stages(syna_db *db, const char *name, char **json, size_t *len);
syna_rc models_alias(syna_db *db, const char *name, const char *alias, uint32_t *version);
syna_rc models_aliases(syna_db *db, const char *name, syna_model_fn visit, void *context);

/* ---- models_write.c */
syna_rc models_create(syna_db *db, const char *name, const syna_model_facts *facts,
                      syna_model_writer **out);
syna_rc models_write(syna_model_writer *writer, const void *data, size_t len);
syna_rc models_commit(syna_model_writer *writer, syna_model_saved *out);
void models_writer_free(syna_model_writer *writer);

/* ---- models_read.c */
syna_rc models_open(syna_db *db, const char *name, uint32_t version, syna_model_reader **out);
uint64_t models_size(const syna_model_reader *reader);
syna_rc models_read(syna_model_reader *reader, uint64_t offset, void *buf, size_t len, size_t *got);
const char *models_reader_json(const syna_model_reader *reader, size_t *len);
void models_reader_free(syna_model_reader *reader);

/* ---- models_change.c */
syna_rc models_set_stage(syna_db *db, const char *name, uint32_t version, int32_t stage);
syna_rc models_set_alias(syna_db *db, const char *name, const char *alias, uint32_t version);
syna_rc models_delete(syna_db *db, const char *name, uint32_t version, uint32_t *deleted);

#endif
