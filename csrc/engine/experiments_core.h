/* What the experiments*.c files share: keys and how they are taken apart, finding a run by its id, walks
 * over runs, and the summary of a metric. */
#ifndef SYNA_ENGINE_EXPERIMENTS_CORE_H
#define SYNA_ENGINE_EXPERIMENTS_CORE_H

#include "base/vec.h"
#include "engine/experiments.h"
#include "engine/run_json.h"

/* ---- keys (experiments_find.c). A key is built behind what the buffer holds already. */
#define POINTER_PREFIX "exp/.run/"
syna_rc key_add(struct buf *key, const char *text);
/* exp/<experiment>/run/ */
syna_rc key_of_experiment(struct buf *key, const char *experiment);
/* <run>/<part>/<name> into an empty buffer; the name is at least one byte. */
syna_rc key_in_run(struct buf *key, const struct buf *run, const char *part, const char *name);
/* The prefix of a run, without the last slash. KEY_NOT_FOUND when there is none. In a shared log what
 * other processes have written is looked at when it was not found at first. */
syna_rc run_find(syna_db *db, const char *run_id, struct buf *run);
/* Its record: mem_alloc'ed. */
syna_rc run_record(syna_db *db, const struct buf *run, char **json, size_t *len);
/* The parts of a key that begins with exp/<experiment>/run/<id>/. false: it does not. */
struct run_key {
    struct json_span run;  /* up to and with the id */
    struct json_span id;
    struct json_span rest; /* behind the slash after the id */
};
bool run_key_parse(const char *key, size_t len, struct run_key *out);

/* A walk over the keys with a prefix, in their order. What the visitor returns but SYNA_SUCCESS ends it
 * and is passed on; STOP_WALK, which no call returns, is for ending it early. */
#define STOP_WALK (-1001)
typedef syna_rc (*key_fn)(void *context, const syna_record *record);
syna_rc keys_walk(syna_db *db, const struct buf *prefix, key_fn visit, void *context);
/* The same over the runs of an experiment, NULL: of all; a walk stopped early is a success. */
syna_rc experiment_walk(syna_db *db, const char *experiment, key_fn visit, void *context);

/* ---- experiments_log.c: SYNA_SUCCESS for a run that may be logged to; *run gets its prefix. */
syna_rc run_enter(syna_db *db, const char *run_id, struct buf *run);

/* ---- experiments_metric.c: all points of the metric under `key` as one summary, from the newest record
 * where that can tell; *crc is the checksum of the newest record. No record: an empty summary. */
syna_rc metric_read(syna_db *db, const struct buf *key, struct metric_summary *out, uint32_t *crc);

#endif
