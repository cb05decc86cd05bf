/* synadb/experiment.h - experiments: runs with parameters, metrics, tags and artifacts.
 *
 * They lie in an ordinary SynaDB log; several processes may log to one file at once. What Python's
 * `Experiment` writes is read here and the reverse. Two faces, as in kv.h:
 *
 *   path-keyed   syna_exp_tracker_open(path) once, then the path with every call.
 *   handles      syna_run_* take any open `syna_db *`; open it with `shared` set when other processes
 *                write to the same file.
 *
 * A run is running until it is ended; logging to one that has ended fails with SYNA_ERR_GENERIC and
 * reason CLOSED, as does a second end. After a crash a run is there as far as it was logged, still
 * running, and can be resumed.
 *
 * Durability: the tracker does not sync what is logged one by one: it survives the death of the
 * process at once, and power loss after the run has been ended or the tracker closed. For syncs of every
 * call use a database that was opened with them.
 *
 * Names are 1 or more bytes of UTF-8 and may contain '/'. Errors beside those of kv.h: -5 no such run;
 * -2 null pointer or bad UTF-8. All arguments are borrowed. */
#ifndef SYNADB_EXPERIMENT_H
#define SYNADB_EXPERIMENT_H

#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_RUN_RUNNING 0
#define SYNA_RUN_COMPLETED 1
#define SYNA_RUN_FAILED 2
#define SYNA_RUN_KILLED 3

#define SYNA_RUN_ID_ROOM 37 /* a run's id: 36 characters and a NUL */

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create the file. Openings are counted. Several processes may have it open. When this process
 * has the file open already, that database is used as it is. */
SYNA_API int32_t syna_exp_tracker_open(const char *path);
SYNA_API int32_t syna_exp_tracker_close(const char *path);

/* Start a run. tags_json: a JSON list of strings, or NULL for none. *out_run_id is given
 * (syna_free_text) and *out_run_id_len, which may be NULL, is its length. */
SYNA_API int32_t syna_exp_start_run(const char *path, const char *experiment, const char *tags_json,
                                    char **out_run_id, size_t *out_run_id_len);
SYNA_API int32_t syna_exp_log_param(const char *path, const char *run_id, const char *key,
                                    const char *value);
/* step < 0: one more than the highest so far, 0 for the first. A step that is logged again has the
 * later value. */
SYNA_API int32_t syna_exp_log_metric(const char *path, const char *run_id, const char *key,
                                     double value, int64_t step);
SYNA_API int32_t syna_exp_log_artifact(const char *path, const char *run_id, const char *name,
                                       const uint8_t *data, size_t data_len);
/* status: SYNA_RUN_COMPLETED, FAILED or KILLED. Everything logged is durable when it returns. */
SYNA_API int32_t syna_exp_end_run(const char *path, const char *run_id, int32_t status);

/* ---------------------------------------------------------------- handles */

/* Set size = sizeof(syna_run_options); NULL for what is not wanted. */
typedef struct syna_run_options {
    uint32_t size;
    const char *experiment;  /* its name */
    const char *tags_json;   /* a JSON list of strings */
    const char *parent;      /* id of the run that this one belongs to */
    const char *system_json; /* a JSON object with facts about the machine and the program */
} syna_run_options;

/* Start a run; its id, a random UUID as text, goes to `id`. */
SYNA_API int32_t syna_run_start(syna_db *db, const syna_run_options *options,
                                char id[SYNA_RUN_ID_ROOM]);
/* SYNA_SUCCESS when the run may be logged to. */
SYNA_API int32_t syna_run_check(syna_db *db, const char *run_id);
/* `count` parameters or metrics, all in one commit. step as in syna_exp_log_metric. */
SYNA_API int32_t syna_run_log_params(syna_db *db, const char *run_id, const char *const *names,
                                     const char *const *values, size_t count);
SYNA_API int32_t syna_run_log_metrics(syna_db *db, const char *run_id, const char *const *names,
                                      const double *values, size_t count, int64_t step);
/* kind: what the bytes are, for whoever reads them; NULL = just bytes. Up to SYNA_VALUE_MAX bytes;
 * larger ones are written with syna_blob_create under <run>/artifact/<name>. */
SYNA_API int32_t syna_run_log_artifact(syna_db *db, const char *run_id, const char *name,
                                       const void *data, size_t len, const char *kind);
/* Replace the tags. */
SYNA_API int32_t syna_run_set_tags(syna_db *db, const char *run_id, const char *tags_json);
SYNA_API int32_t syna_run_end(syna_db *db, const char *run_id, int32_t status);
/* Make a run that has ended, or whose process died, a running one again. */
SYNA_API int32_t syna_run_resume(syna_db *db, const char *run_id);
/* Delete a run with everything logged, in one commit. *deleted (may be NULL): keys that were there. */
SYNA_API int32_t syna_run_delete(syna_db *db, const char *run_id, int64_t *deleted);

/* The record of a run as a JSON object: id, experiment_name, status ("running", "completed", "failed",
 * "killed"), started_at and ended_at (seconds since 1970, or null), tags, parent (an id or null).
 * *out_json is given (syna_free_text). In files of the ancestor the fields are its own. */
SYNA_API int32_t syna_run_meta(syna_db *db, const char *run_id, char **out_json);

/* Visit the runs of an experiment, or with NULL of all, in the order of their ids. `json` and what it
 * holds as in syna_run_meta; NUL-terminated, valid during the visit. Return 0 to go on. */
typedef int32_t (*syna_run_fn)(void *context, const char *run_id, const char *json,
                               size_t json_len);
SYNA_API int32_t syna_runs(syna_db *db, const char *experiment, syna_run_fn visit, void *context);

/* The points of a metric in the order of their steps; a step that was logged more than once has its
 * last value. *count is how many there are, at most cap are written; each of the arrays may be NULL.
 * times_us: microseconds since 1970. A metric that was never logged has 0 points. */
SYNA_API int32_t syna_run_metric(syna_db *db, const char *run_id, const char *name, int64_t *steps,
                                 double *values, uint64_t *times_us, size_t cap, size_t *count);

/* `latest` is the value at the highest step. min and max leave NaN out (NaN when there is nothing
 * else); mean does not. Costs a few look-ups, and a reading of the whole metric only where steps were
 * logged twice or out of order. SYNA_ERR_KEY_NOT_FOUND when it was never logged. */
typedef struct syna_metric_stats {
    uint32_t size;
    uint64_t count;
    int64_t latest_step;
    double latest, min, max, mean;
} syna_metric_stats;
SYNA_API int32_t syna_run_metric_stats(syna_db *db, const char *run_id, const char *name,
                                       syna_metric_stats *out);

/* Visit every run of an experiment (NULL: of all) that has the metric, in the order of ids, with the
 * value at its highest step. One pass over the keys; no history is read. Return 0 to go on. */
typedef int32_t (*syna_latest_fn)(void *context, const char *run_id, int64_t step, double value);
SYNA_API int32_t syna_runs_latest(syna_db *db, const char *experiment, const char *metric,
                                  syna_latest_fn visit, void *context);

#ifdef __cplusplus
}
#endif
#endif
