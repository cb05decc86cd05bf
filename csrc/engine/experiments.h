/* Runs of experiments in a log: everything that synadb/experiment.h does. Functions that mirror it have
 * its contract. They need no state beside the database: what is known about a run is in the log, so
 * several processes, and handles opened for anything else, see the same.
 *
 * Files: experiments.c start, end, tags, resume, delete; experiments_log.c params, metrics, artifacts;
 * experiments_metric.c reading metrics; experiments_find.c keys, looking up and listing runs;
 * metric_point.c the records of metrics; run_json.c the records of runs.
 *
 * Keys, with <run> = exp/<experiment>/run/<id> ('/' and '%' of the experiment's name as %2F, %25):
 *
 *   exp/.run/<id>        text    <run>: finds a run by its id
 *   <run>/meta           text    JSON: id, experiment_name, status, started_at, ended_at, tags, parent
 *   <run>/system         text    JSON, when facts about the machine were given at the start
 *   <run>/param/<name>   text
 *   <run>/metric/<name>  bytes   one record a point (metric_point.h); its history is the metric
 *   <run>/artifact/<name> bytes or blob
 *   <run>/kind/<name>    text    what the artifact's bytes are; absent = bytes
 *
 * In the ancestor's files there is no exp/.run, experiments' names are not escaped, and a metric is one
 * float per key <run>/metric/<name>/<step>. */
#ifndef SYNA_ENGINE_EXPERIMENTS_H
#define SYNA_ENGINE_EXPERIMENTS_H

#include <synadb/experiment.h>

#include "engine/db.h"
#include "engine/metric_point.h"

/* ---- experiments.c */
syna_rc exp_start(syna_db *db, const syna_run_options *options, char id[SYNA_RUN_ID_ROOM]);
syna_rc exp_end(syna_db *db, const char *run_id, int32_t status);
syna_rc exp_resume(syna_db *db, const char *run_id);
syna_rc exp_set_tags(syna_db *db, const char *run_id, const char *tags_json);
syna_rc exp_delete(syna_db *db, const char *run_id, int64_t *deleted);

/* ---- experiments_log.c */
syna_rc exp_check_running(syna_db *db, const char *run_id);
syna_rc exp_log_params(syna_db *db, const char *run_id, const char *const *names,
                       const char *const *values, size_t count);
/* step < 0: the next one of each metric. */
syna_rc exp_log_metrics(syna_db *db, const char *run_id, const char *const *names,
                        const double *values, size_t count, int64_t step);
syna_rc exp_log_artifact(syna_db *db, const char *run_id, const char *name, const void *data,
                         size_t len, const char *kind);

/* ---- experiments_metric.c */
syna_rc exp_metric(syna_db *db, const char *run_id, const char *name, int64_t *steps,
                   double *values, uint64_t *times_us, size_t cap, size_t *count);
syna_rc exp_metric_stats(syna_db *db, const char *run_id, const char *name,
                         syna_metric_stats *out);
syna_rc exp_latest(syna_db *db, const char *experiment, const char *metric, syna_latest_fn visit,
                   void *context);

/* ---- experiments_find.c */
syna_rc exp_runs(syna_db *db, const char *experiment, syna_run_fn visit, void *context);
/* The record of a run: mem_alloc'ed. */
syna_rc exp_meta(syna_db *db, const char *run_id, char **json, size_t *len);

#endif
