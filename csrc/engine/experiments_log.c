/* experiments_log.c - what is logged to a run: parameters, metrics, artifacts. Each call is one commit.
 *
 * That a run has not ended is looked up in the log's index before each commit, so an end by another
 * process counts from the moment on that this process has seen it: with its next commit at the latest. */
#include "base/internal.h"

#include "engine/experiments_core.h"

/* ---------------------------------------------------------------- the run */

static syna_rc require_running(syna_db *db, const char *run_id, const char *json, size_t len)
{
    struct json_span status = json_field(json, len, "status");
    if (json_equals_word(status, "running"))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_CLOSED, db_path(db), -1, 0,
                        "run %.40s has ended (status %.*s); resume it to log more", run_id,
                        (int)MIN(status.len, (size_t)40), status.at ? status.at : "");
}

syna_rc run_enter(syna_db *db, const char *run_id, struct buf *run)
{
    char *json;
    size_t len;
    SYNA_TRY(run_find(db, run_id, run));
    SYNA_TRY(run_record(db, run, &json, &len));
    syna_rc rc = require_running(db, run_id, json, len);
    mem_free(json);
    return rc;
}

syna_rc exp_check_running(syna_db *db, const char *run_id)
{
    struct buf run = {0};
    syna_rc rc = run_enter(db, run_id, &run);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- parameters */

syna_rc exp_log_params(syna_db *db, const char *run_id, const char *const *names,
                       const char *const *values, size_t count)
{
    struct buf run = {0}, key = {0};
    syna_batch *batch = NULL;
    syna_rc rc = run_enter(db, run_id, &run);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_new(db, &batch);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++) {
        rc = key_in_run(&key, &run, "/param/", names[i]);
        if (rc == SYNA_SUCCESS)
            rc = db_batch_put(batch, (const char *)key.bytes, key.len, SYNA_TYPE_TEXT, values[i],
                              strlen(values[i]), NULL);
    }
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    buf_dispose(&key);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- metrics */

/* The record that comes behind everything there is now. */
static syna_rc next_point(syna_db *db, const struct buf *key, double value, int64_t step,
                          uint8_t bytes[POINT_BYTES_MAX], size_t *len)
{
    struct metric_point p = {.value = value, .by_count = step < 0, .step = (uint64_t)step};
    SYNA_TRY(metric_read(db, key, &p.before, &p.before_crc));
    if (step < 0) {
        if (p.before.points > 0 && p.before.top_step >= INT64_MAX)
            return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(db), -1, 0,
                                "there is no step behind %lld, the highest of \"%.*s\"",
                                (long long)INT64_MAX, (int)MIN(key->len, (size_t)200),
                                (const char *)key->bytes);
        p.step = p.before.points > 0 ? p.before.top_step + 1 : 0;
    }
    *len = point_encode(&p, bytes);
    return SYNA_SUCCESS;
}

/* One metric is one put, which needs no memory. */
static syna_rc put_metric(syna_db *db, syna_batch *batch, const struct buf *key, double value,
                          int64_t step)
{
    uint8_t bytes[POINT_BYTES_MAX];
    size_t len = 0;
    SYNA_TRY(next_point(db, key, value, step, bytes, &len));
    const char *name = (const char *)key->bytes;
    return batch ? db_batch_put(batch, name, key->len, SYNA_TYPE_BYTES, bytes, len, NULL)
                 : db_put(db, name, key->len, SYNA_TYPE_BYTES, bytes, len, NULL, NULL);
}

syna_rc exp_log_metrics(syna_db *db, const char *run_id, const char *const *names,
                        const double *values, size_t count, int64_t step)
{
    struct buf run = {0}, key = {0};
    syna_batch *batch = NULL;
    syna_rc rc = run_enter(db, run_id, &run);
    if (rc == SYNA_SUCCESS && count > 1)
        rc = db_batch_new(db, &batch);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++) {
        rc = key_in_run(&key, &run, "/metric/", names[i]);
        if (rc == SYNA_SUCCESS)
            rc = put_metric(db, batch, &key, values[i], step);
    }
    if (rc == SYNA_SUCCESS && batch)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    buf_dispose(&key);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- artifacts */

/* Without a kind the bytes are just bytes; one that was there before must go in the same commit. */
static syna_rc put_kind(syna_db *db, syna_batch *batch, const struct buf *key, const char *kind)
{
    bool exists;
    const char *name = (const char *)key->bytes;
    if (kind)
        return db_batch_put(batch, name, key->len, SYNA_TYPE_TEXT, kind, strlen(kind), NULL);
    SYNA_TRY(db_exists(db, name, key->len, &exists));
    return exists ? db_batch_delete(batch, name, key->len) : SYNA_SUCCESS;
}

syna_rc exp_log_artifact(syna_db *db, const char *run_id, const char *name, const void *data,
                         size_t len, const char *kind)
{
    struct buf run = {0}, key = {0};
    syna_batch *batch = NULL;
    syna_rc rc = run_enter(db, run_id, &run);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_new(db, &batch);
    if (rc == SYNA_SUCCESS)
        rc = key_in_run(&key, &run, "/artifact/", name);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_put(batch, (const char *)key.bytes, key.len, SYNA_TYPE_BYTES, data, len,
                          NULL);
    if (rc == SYNA_SUCCESS)
        rc = key_in_run(&key, &run, "/kind/", name);
    if (rc == SYNA_SUCCESS)
        rc = put_kind(db, batch, &key, kind);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    buf_dispose(&key);
    buf_dispose(&run);
    return rc;
}
