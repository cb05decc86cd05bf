/* The inside of the model registry, for the models*.c files only: a version as it was read, the record of
 * a name, and what every change puts into its batch. */
#ifndef SYNA_ENGINE_MODELS_CORE_H
#define SYNA_ENGINE_MODELS_CORE_H

#include "engine/db_update.h"
#include "engine/models.h"
#include "engine/models_json.h"
#include "engine/models_keys.h"

/* A version that was read: the fields are spans of `text`. Free with model_dispose, on failure too. */
struct model {
    struct model_record record;
    char *text;       /* as it is stored */
    char *format;     /* JSON, when it is not in the text */
};
/* SYNA_ERR_KEY_NOT_FOUND, naming the version, when there is none. */
syna_rc model_load(syna_db *db, const char *name, uint32_t version, struct model *out);
void model_dispose(struct model *model);

/* The newest version; SYNA_ERR_KEY_NOT_FOUND when the name has none. */
syna_rc models_newest(syna_db *db, const char *name, uint32_t *version);
/* version 0 becomes the newest. */
syna_rc models_resolve(syna_db *db, const char *name, uint32_t *version);

/* The record of a name. */
struct model_counter {
    uint64_t next;    /* version number; may be one more than fits */
    uint64_t last_us; /* of the latest change */
};
/* Within a db_update. */
syna_rc models_counter_read(syna_db *db, const char *name, struct model_counter *out);
/* The time of a change: now, and later than every earlier one of this name. */
uint64_t models_now(struct model_counter *counter);
syna_rc models_counter_put(syna_batch *batch, const char *name, const struct model_counter *counter);
/* Put the record of a version. */
syna_rc models_record_put(syna_batch *batch, const char *name, uint32_t version,
                          const struct model_record *record);
/* Put a change of a stage; stage NULL: the version is deleted. */
syna_rc models_event_put(syna_batch *batch, const char *name, uint32_t version, const char *stage,
                         uint64_t time_us);

#endif
