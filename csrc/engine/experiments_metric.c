/* experiments_metric.c - reading metrics: the summary that the newest record carries, whole histories, the
 * latest value of a metric in every run.
 *
 *   record   r0   r1   r2   r3   r4   r5
 *   covers    0    1    2    2    4    5      (the writer of r3 had not seen r2, which another process
 *                                              put before it)
 *
 * The newest record with number n that covers n records tells everything: its summary and itself. One
 * that covers k < n (r3: k = 2) tells it of the first k; the rest, a few, are read and added in order.
 * The checksum of record k - 1, which it also carries, makes sure that those k are the ones its writer
 * meant: a compaction in between may have dropped some. If they are not, the history is read. */
#include "base/internal.h"

#include <math.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/db_tail.h"
#include "engine/experiments_core.h"

/* ---------------------------------------------------------------- records */

static syna_rc decode(syna_db *db, const syna_record *record, struct metric_point *p)
{
    if (record->type == SYNA_TYPE_BYTES && point_decode(record->data, record->len, p))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, db_path(db), -1, 0,
                        "key \"%.*s\" holds %zu bytes of type %d, expected the points of a metric",
                        (int)MIN(record->key_len, (size_t)200), record->key, record->len,
                        record->type);
}

/* Collects the summary of a part of a history. */
struct adding {
    syna_db *db;
    struct metric_summary sum;
    uint32_t crc;       /* of the last record added */
    uint32_t wanted_crc; /* of the first one, which is only compared */
    bool compare_first, differs;
};

static syna_rc add_record(void *context, const syna_record *record)
{
    struct adding *a = context;
    struct metric_point p;
    a->crc = crc32c(0, record->data, record->len);
    if (a->compare_first) {
        a->compare_first = false;
        a->differs = a->crc != a->wanted_crc;
        return SYNA_SUCCESS;
    }
    if (record->deleted) {
        summary_add(&a->sum, NULL);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(decode(a->db, record, &p));
    summary_add(&a->sum, &p);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the newest record */

/* The last two records: all that is needed unless processes got in each other's way. */
struct newest {
    syna_db *db;
    struct metric_point point;
    uint32_t crc, crc_before;
    bool deleted;
    uint64_t seen;
};

static syna_rc see_newest(void *context, const syna_record *record)
{
    struct newest *n = context;
    n->crc_before = n->seen++ ? n->crc : 0;
    n->crc = crc32c(0, record->data, record->len);
    n->deleted = record->deleted;
    return record->deleted ? SYNA_SUCCESS : decode(n->db, record, &n->point);
}

static syna_rc read_all(syna_db *db, const struct buf *key, struct metric_summary *out,
                        uint32_t *crc)
{
    uint64_t records;
    struct adding a = {.db = db, .sum = METRIC_SUMMARY_EMPTY};
    SYNA_TRY(db_tail(db, (const char *)key->bytes, key->len, 0, UINT64_MAX, add_record, &a,
                     &records));
    *out = a.sum;
    *crc = a.crc;
    return SYNA_SUCCESS;
}

/* From the first records, which the newest one covers, go on with those behind them. */
static syna_rc read_rest(syna_db *db, const struct buf *key, const struct metric_point *newest,
                         struct metric_summary *out, uint32_t *crc)
{
    uint64_t records, covered = newest->before.records;
    struct adding a = {.db = db,
                       .sum = newest->before,
                       .wanted_crc = newest->before_crc,
                       .compare_first = covered > 0};
    SYNA_TRY(db_tail(db, (const char *)key->bytes, key->len, covered > 0 ? covered - 1 : 0,
                     UINT64_MAX, add_record, &a, &records));
    if (a.differs)
        return read_all(db, key, out, crc);
    *out = a.sum;
    *crc = a.crc;
    return SYNA_SUCCESS;
}

syna_rc metric_read(syna_db *db, const struct buf *key, struct metric_summary *out, uint32_t *crc)
{
    uint64_t records;
    struct newest n = {.db = db};
    *out = METRIC_SUMMARY_EMPTY;
    *crc = 0;
    SYNA_TRY(db_tail(db, (const char *)key->bytes, key->len, DB_TAIL_LAST, 2, see_newest, &n,
                     &records));
    if (records == 0)
        return SYNA_SUCCESS;
    uint64_t covered = n.point.before.records;
    if (n.deleted || covered >= records)
        return read_all(db, key, out, crc);
    if (covered != records - 1 || (covered > 0 && n.point.before_crc != n.crc_before))
        return read_rest(db, key, &n.point, out, crc);
    *out = n.point.before;
    summary_add(out, &n.point);
    *crc = n.crc;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- all points */

struct series_point {
    uint64_t step;
    uint64_t number; /* the later one of two with the same step counts */
    uint64_t time_us;
    double value;
};

struct series {
    syna_db *db;
    struct metric_summary sum; /* for the steps that were counted */
    struct buf points;
};

static syna_rc add_to_series(struct series *s, uint64_t step, double value, uint64_t time_us)
{
    struct series_point p = {step, s->points.len, time_us, value};
    return buf_append(&s->points, &p, sizeof p) ? SYNA_SUCCESS : syna_no_memory(s->points.len);
}

static syna_rc see_point(void *context, const syna_record *record)
{
    struct series *s = context;
    struct metric_point p;
    if (record->deleted) {
        summary_add(&s->sum, NULL);
        s->points.len = 0;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(decode(s->db, record, &p));
    uint64_t step = point_step(&p, &s->sum);
    summary_add(&s->sum, &p);
    return add_to_series(s, step, p.value, record->time_us);
}

/* The digits behind the last slash of an ancestor's key. */
static bool step_of(const char *text, size_t len, uint64_t *step)
{
    *step = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || *step > INT64_MAX / 10)
            return false;
        *step = *step * 10 + (uint64_t)(text[i] - '0');
    }
    return len > 0 && *step <= INT64_MAX;
}

struct ancestor_walk {
    struct series *series;
    size_t prefix_len;
};

static syna_rc see_ancestor_point(void *context, const syna_record *record)
{
    struct ancestor_walk *w = context;
    uint64_t step, bits;
    if (record->type != SYNA_TYPE_FLOAT ||
        !step_of(record->key + w->prefix_len, record->key_len - w->prefix_len, &step))
        return SYNA_SUCCESS;
    SYNA_TRY(db_get_number(w->series->db, record->key, record->key_len, SYNA_TYPE_FLOAT, &bits));
    return add_to_series(w->series, step, load_f64(&bits), record->time_us);
}

static int by_step(const void *a, const void *b)
{
    const struct series_point *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Into the order of steps; of those with the same step the last one stays. */
static void settle(struct series *s)
{
    struct series_point *points = (struct series_point *)(void *)s->points.bytes;
    size_t count = s->points.len / sizeof *points, kept = 0;
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = points[i - 1].step < points[i].step;
    if (sorted)
        return;
    qsort(points, count, sizeof *points, by_step);
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || points[i].step != points[i + 1].step)
            points[kept++] = points[i];
    s->points.len = kept * sizeof *points;
}

static syna_rc series_read(syna_db *db, struct buf *key, struct series *s)
{
    uint64_t records;
    *s = (struct series){.db = db, .sum = METRIC_SUMMARY_EMPTY};
    SYNA_TRY(db_tail(db, (const char *)key->bytes, key->len, 0, UINT64_MAX, see_point, s,
                     &records));
    if (records == 0) {
        SYNA_TRY(key_add(key, "/"));
        struct ancestor_walk w = {s, key->len};
        SYNA_TRY(keys_walk(db, key, see_ancestor_point, &w));
    }
    settle(s);
    return SYNA_SUCCESS;
}

static syna_rc series_of(syna_db *db, const char *run_id, const char *name, struct buf *key,
                         struct series *s)
{
    struct buf run = {0};
    syna_rc rc = run_find(db, run_id, &run);
    if (rc == SYNA_SUCCESS)
        rc = key_in_run(key, &run, "/metric/", name);
    if (rc == SYNA_SUCCESS)
        rc = series_read(db, key, s);
    buf_dispose(&run);
    return rc;
}

syna_rc exp_metric(syna_db *db, const char *run_id, const char *name, int64_t *steps,
                   double *values, uint64_t *times_us, size_t cap, size_t *count)
{
    struct buf key = {0};
    struct series s = {0};
    syna_rc rc = series_of(db, run_id, name, &key, &s);
    if (rc == SYNA_SUCCESS) {
        const struct series_point *points = (struct series_point *)(void *)s.points.bytes;
        *count = s.points.len / sizeof *points;
        for (size_t i = 0; i < MIN(cap, *count); i++) {
            if (steps)
                steps[i] = (int64_t)points[i].step;
            if (values)
                values[i] = points[i].value;
            if (times_us)
                times_us[i] = points[i].time_us;
        }
    }
    buf_dispose(&s.points);
    buf_dispose(&key);
    return rc;
}

/* ---------------------------------------------------------------- statistics */

static void fill_stats(syna_metric_stats *out, const struct metric_summary *s)
{
    out->count = s->points;
    out->latest_step = (int64_t)s->top_step;
    out->latest = s->top_value;
    out->min = s->min;
    out->max = s->max;
    out->mean = s->sum / (double)s->points;
}

/* Of points in the order of their steps, each step once. */
static void sum_up(const struct series *series, struct metric_summary *out)
{
    const struct series_point *points = (struct series_point *)(void *)series->points.bytes;
    *out = METRIC_SUMMARY_EMPTY;
    for (size_t i = 0; i < series->points.len / sizeof *points; i++)
        summary_add(out, &(struct metric_point){.step = points[i].step, .value = points[i].value});
}

static syna_rc stats_of_key(syna_db *db, struct buf *key, struct metric_summary *out)
{
    uint32_t crc;
    struct series s = {0};
    SYNA_TRY(metric_read(db, key, out, &crc));
    if (out->records > 0 && !out->rough)
        return SYNA_SUCCESS;
    syna_rc rc = series_read(db, key, &s);
    if (rc == SYNA_SUCCESS)
        sum_up(&s, out);
    buf_dispose(&s.points);
    return rc;
}

syna_rc exp_metric_stats(syna_db *db, const char *run_id, const char *name, syna_metric_stats *out)
{
    struct buf run = {0}, key = {0};
    struct metric_summary s = METRIC_SUMMARY_EMPTY;
    syna_rc rc = run_find(db, run_id, &run);
    if (rc == SYNA_SUCCESS)
        rc = key_in_run(&key, &run, "/metric/", name);
    if (rc == SYNA_SUCCESS)
        rc = stats_of_key(db, &key, &s);
    if (rc == SYNA_SUCCESS && s.points == 0)
        rc = syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(db), -1, 0,
                          "run %.40s has no metric \"%.200s\"", run_id, name);
    if (rc == SYNA_SUCCESS)
        fill_stats(out, &s);
    buf_dispose(&key);
    buf_dispose(&run);
    return rc;
}

/* ---------------------------------------------------------------- the latest of every run */

struct latest_walk {
    syna_db *db;
    const char *metric;
    size_t metric_len;
    syna_latest_fn visit;
    void *context;
    struct buf key;
    /* The ancestor's run whose points come one by one; id "" = none. */
    char id[SYNA_RUN_ID_ROOM];
    uint64_t step;
    double value;
};

static void copy_id(char id[SYNA_RUN_ID_ROOM], struct json_span from)
{
    memcpy(id, from.at, from.len);
    id[from.len] = 0;
}

/* The last point of an ancestor's run is known when another run's keys begin. */
static syna_rc finish_ancestor(struct latest_walk *w)
{
    if (w->id[0] == 0)
        return SYNA_SUCCESS;
    int32_t stop = w->visit(w->context, w->id, (int64_t)w->step, w->value);
    w->id[0] = 0;
    return stop ? STOP_WALK : SYNA_SUCCESS;
}

static syna_rc latest_of_key(struct latest_walk *w, const syna_record *record,
                             const struct run_key *parts)
{
    struct metric_summary s;
    uint32_t crc;
    char id[SYNA_RUN_ID_ROOM];
    w->key.len = 0;
    if (!buf_append(&w->key, record->key, record->key_len))
        return syna_no_memory(record->key_len);
    SYNA_TRY(metric_read(w->db, &w->key, &s, &crc));
    if (s.points == 0)
        return SYNA_SUCCESS;
    copy_id(id, parts->id);
    return w->visit(w->context, id, (int64_t)s.top_step, s.top_value) ? STOP_WALK : SYNA_SUCCESS;
}

static syna_rc latest_of_ancestor(struct latest_walk *w, const syna_record *record,
                                  const struct run_key *parts, uint64_t step)
{
    uint64_t bits;
    if (w->id[0] != 0 && step < w->step)
        return SYNA_SUCCESS;
    SYNA_TRY(db_get_number(w->db, record->key, record->key_len, SYNA_TYPE_FLOAT, &bits));
    copy_id(w->id, parts->id);
    w->step = step;
    w->value = load_f64(&bits);
    return SYNA_SUCCESS;
}

static syna_rc see_key(void *context, const syna_record *record)
{
    struct latest_walk *w = context;
    struct run_key parts;
    uint64_t step;
    if (!run_key_parse(record->key, record->key_len, &parts))
        return SYNA_SUCCESS;
    if (w->id[0] != 0 && (strlen(w->id) != parts.id.len ||
                          memcmp(w->id, parts.id.at, parts.id.len) != 0))
        SYNA_TRY(finish_ancestor(w));
    size_t head = strlen("metric/") + w->metric_len;
    if (parts.rest.len < head || memcmp(parts.rest.at, "metric/", 7) != 0 ||
        memcmp(parts.rest.at + 7, w->metric, w->metric_len) != 0)
        return SYNA_SUCCESS;
    if (parts.rest.len == head && record->type == SYNA_TYPE_BYTES)
        return latest_of_key(w, record, &parts);
    if (record->type == SYNA_TYPE_FLOAT && parts.rest.len > head && parts.rest.at[head] == '/' &&
        step_of(parts.rest.at + head + 1, parts.rest.len - head - 1, &step))
        return latest_of_ancestor(w, record, &parts, step);
    return SYNA_SUCCESS;
}

syna_rc exp_latest(syna_db *db, const char *experiment, const char *metric, syna_latest_fn visit,
                   void *context)
{
    struct latest_walk w = {.db = db,
                            .metric = metric,
                            .metric_len = strlen(metric),
                            .visit = visit,
                            .context = context};
    SYNA_TRY(db_check_key(metric, w.metric_len));
    syna_rc rc = experiment_walk(db, experiment, see_key, &w);
    if (rc == SYNA_SUCCESS)
        rc = finish_ancestor(&w);
    buf_dispose(&w.key);
    return rc == STOP_WALK ? SYNA_SUCCESS : rc;
}
