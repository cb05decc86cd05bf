/* The C interface of experiments (synadb/experiment.h): check pointers, find the database, call the
 * engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"
#include "engine/experiments.h"

/* ---------------------------------------------------------------- arguments */

static syna_rc check_texts(const char *const *texts, size_t count, const char *what)
{
    if (count > 0 && !texts)
        return null_pointer(what);
    for (size_t i = 0; i < count; i++)
        SYNA_TRY(check_text(texts[i], what));
    return SYNA_SUCCESS;
}

/* Options that an older program filled in are shorter. */
static syna_rc read_options(const syna_run_options *given, syna_run_options *o)
{
    REQUIRE(given);
    if (given->size < sizeof(uint32_t))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT,
                         "syna_run_options.size is %u; set it to sizeof(syna_run_options)",
                         given->size);
    memset(o, 0, sizeof *o);
    memcpy(o, given, MIN((size_t)given->size, sizeof *o));
    SYNA_TRY(check_text(o->experiment, "experiment"));
    if (o->tags_json)
        SYNA_TRY(check_text(o->tags_json, "tags_json"));
    if (o->parent)
        SYNA_TRY(check_text(o->parent, "parent"));
    if (o->system_json)
        SYNA_TRY(check_text(o->system_json, "system_json"));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- handles */

int32_t syna_run_start(syna_db *db, const syna_run_options *options, char id[SYNA_RUN_ID_ROOM])
{
    syna_run_options o;
    REQUIRE(db);
    REQUIRE(id);
    SYNA_TRY(read_options(options, &o));
    return exp_start(db, &o, id);
}

int32_t syna_run_check(syna_db *db, const char *run_id)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    return exp_check_running(db, run_id);
}

int32_t syna_run_log_params(syna_db *db, const char *run_id, const char *const *names,
                            const char *const *values, size_t count)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    SYNA_TRY(check_texts(names, count, "names"));
    SYNA_TRY(check_texts(values, count, "values"));
    return exp_log_params(db, run_id, names, values, count);
}

int32_t syna_run_log_metrics(syna_db *db, const char *run_id, const char *const *names,
                             const double *values, size_t count, int64_t step)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    SYNA_TRY(check_texts(names, count, "names"));
    if (count > 0)
        REQUIRE(values);
    return exp_log_metrics(db, run_id, names, values, count, step);
}

int32_t syna_run_log_artifact(syna_db *db, const char *run_id, const char *name, const void *data,
                              size_t len, const char *kind)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    REQUIRE_TEXT(name);
    if (kind)
        REQUIRE_TEXT(kind);
    if (len > 0)
        REQUIRE(data);
    return exp_log_artifact(db, run_id, name, data, len, kind);
}

int32_t syna_run_set_tags(syna_db *db, const char *run_id, const char *tags_json)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    REQUIRE_TEXT(tags_json);
    return exp_set_tags(db, run_id, tags_json);
}

int32_t syna_run_end(syna_db *db, const char *run_id, int32_t status)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    return exp_end(db, run_id, status);
}

int32_t syna_run_resume(syna_db *db, const char *run_id)
{
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    return exp_resume(db, run_id);
}

int32_t syna_run_delete(syna_db *db, const char *run_id, int64_t *deleted)
{
    int64_t ignored;
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    return exp_delete(db, run_id, deleted ? deleted : &ignored);
}

int32_t syna_run_meta(syna_db *db, const char *run_id, char **out_json)
{
    size_t len;
    REQUIRE(out_json);
    *out_json = NULL;
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    return exp_meta(db, run_id, out_json, &len);
}

int32_t syna_runs(syna_db *db, const char *experiment, syna_run_fn visit, void *context)
{
    REQUIRE(db);
    REQUIRE(visit);
    if (experiment)
        REQUIRE_TEXT(experiment);
    return exp_runs(db, experiment, visit, context);
}

int32_t syna_run_metric(syna_db *db, const char *run_id, const char *name, int64_t *steps,
                        double *values, uint64_t *times_us, size_t cap, size_t *count)
{
    REQUIRE(count);
    *count = 0;
    REQUIRE(db);
    REQUIRE_TEXT(run_id);
    REQUIRE_TEXT(name);
    return exp_metric(db, run_id, name, steps, values, times_us, cap, count);
}

int32_t syna_run_metric_stats(syna_db *db, const char *run_id, const char *name,
                              syna_metric_stats *out)
{
    syna_metric_stats s = {.size = sizeof s};
    REQUIRE(db);
    REQUIRE(out);
    REQUIRE_TEXT(run_id);
    REQUIRE_TEXT(name);
    uint32_t room = out->size ? out->size : (uint32_t)sizeof s;
    SYNA_TRY(exp_metric_stats(db, run_id, name, &s));
    s.size = (uint32_t)MIN((size_t)room, sizeof s);
    memcpy(out, &s, s.size);
    return SYNA_SUCCESS;
}

int32_t syna_runs_latest(syna_db *db, const char *experiment, const char *metric,
                         syna_latest_fn visit, void *context)
{
    REQUIRE(db);
    REQUIRE(visit);
    REQUIRE_TEXT(metric);
    if (experiment)
        REQUIRE_TEXT(experiment);
    return exp_latest(db, experiment, metric, visit, context);
}

/* ---------------------------------------------------------------- path-keyed */

int32_t syna_exp_tracker_open(const char *path)
{
    SYNA_TRY(check_path(path));
    return handles_open_shared(path, &(syna_db_options){.size = sizeof(syna_db_options), .no_sync = 1});
}

int32_t syna_exp_tracker_close(const char *path)
{
    return handles_close_path(path);
}

int32_t syna_exp_start_run(const char *path, const char *experiment, const char *tags_json,
                           char **out_run_id, size_t *out_run_id_len)
{
    syna_rc rc;
    char id[SYNA_RUN_ID_ROOM];
    syna_run_options options = {.size = sizeof options,
                                .experiment = experiment,
                                .tags_json = tags_json && *tags_json ? tags_json : NULL};
    REQUIRE(out_run_id);
    *out_run_id = NULL;
    if (out_run_id_len)
        *out_run_id_len = 0;
    char *text = mem_alloc(sizeof id);
    if (!text)
        return syna_no_memory(sizeof id);
    syna_db *db = handles_enter(path, &rc);
    if (db) {
        rc = syna_run_start(db, &options, id);
        handles_leave(db);
    }
    if (rc != SYNA_SUCCESS) {
        mem_free(text);
        return rc;
    }
    memcpy(text, id, sizeof id);
    *out_run_id = text;
    if (out_run_id_len)
        *out_run_id_len = strlen(id);
    return SYNA_SUCCESS;
}

int32_t syna_exp_log_param(const char *path, const char *run_id, const char *key,
                           const char *value)
{
    syna_rc rc;
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = syna_run_log_params(db, run_id, &key, &value, 1);
    handles_leave(db);
    return rc;
}

int32_t syna_exp_log_metric(const char *path, const char *run_id, const char *key, double value,
                            int64_t step)
{
    syna_rc rc;
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = syna_run_log_metrics(db, run_id, &key, &value, 1, step);
    handles_leave(db);
    return rc;
}

int32_t syna_exp_log_artifact(const char *path, const char *run_id, const char *name,
                              const uint8_t *data, size_t data_len)
{
    syna_rc rc;
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = syna_run_log_artifact(db, run_id, name, data, data_len, NULL);
    handles_leave(db);
    return rc;
}

int32_t syna_exp_end_run(const char *path, const char *run_id, int32_t status)
{
    syna_rc rc;
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = syna_run_end(db, run_id, status);
    handles_leave(db);
    return rc;
}
