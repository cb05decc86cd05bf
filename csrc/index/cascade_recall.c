/* cascade_recall.c - what recall a width of the walk gives, measured on the store's own rows.
 *
 * A query is a row of the store that the index does not have: the building holds some back until they were
 * asked for. So queries have exactly the distribution of the rows, whatever it is, isotropic noise included,
 * and nothing is known beforehand of where their neighbours are. An index that has all its rows is measured
 * with rows as if they were not there: neither their bucket nor the graph show them to the search. That
 * leaves gaps in the graph where the queries are, so it finds a little less than other queries do, never
 * more. The truth is exact search. The walk is widened until recall is full, or until looking at every code
 * is the cheaper way. What is kept is less by SURE standard errors than what was measured, so it holds for
 * other queries, too. Between two points the logarithm of what is missed is taken as linear in log(ef). */
#include "base/internal.h"

#include "base/rng.h"
#include "index/cascade_core.h"
#include "index/workers.h"

#include <float.h>
#include <math.h>

#define QUERIES MEASURE_ROWS
#define HIDDEN_QUERIES 256u /* of an index that has all its rows */
#define PILOT 64u           /* of them say first how wide the walk has to be */
#define FULL_RECALL 0.993f  /* beyond, looking at every code takes hardly longer */
#define SURE 2.0            /* standard errors that are taken off what was measured */
#define EF_LEAST 10u
#define K_MAX 100u
#define WIDEN(ef) ((ef) * 8 / 5)
#define WIDTHS 15u /* from EF_LEAST to less than CASCADE_EF_MAX */
#define PILOT_WIDTHS 6u
#define PILOT_MORE 3u
/* A code in a walk costs as much as so many in a scan: they lie anywhere, and a pool is kept. */
#define WALK_COST 3.0f
/* Rows that came one by one since the measuring make a walk less sure: it is wider by this share when there
 * are twice as many. */
#define GROWN 0.5f

static const uint32_t curve_ks[CASCADE_CURVES] = {1, 10, 100};

/* What the walk of a query came to at each width: right ones of each curve, and codes compared. */
struct seen {
    uint8_t right[WIDTHS][CASCADE_CURVES];
    uint32_t codes[WIDTHS];
};

struct measuring {
    struct cascade *c;
    const struct row_set *set;
    const uint64_t *live;   /* rows that are the truth */
    bool hidden;            /* queries are in the index */
    unsigned threads;
    uint32_t count;
    uint32_t rows[QUERIES];
    float *queries;
    struct topk truth[QUERIES];
    struct seen seen[QUERIES];
    uint32_t efs[WIDTHS];
    uint32_t widths; /* of the walks now */
    uint32_t every;  /* so-manieth query is looked at */
};

/* ---------------------------------------------------------------- queries and truth */

static void copy_row(const struct measuring *m, uint32_t row, float *out)
{
    memcpy(out, m->set->full(m->set->context, row), m->set->codes.dims * sizeof(float));
}

/* Rows by chance, none twice in a row of draws; fewer when the store has fewer. */
static void choose_rows(struct measuring *m)
{
    uint64_t seed = 1;
    for (uint32_t tries = 0; tries < 4 * HIDDEN_QUERIES && m->count < HIDDEN_QUERIES; tries++) {
        uint32_t row = (uint32_t)(rng_next(&seed) % m->c->linked);
        if (m->live && !bit_of(m->live, row))
            continue;
        m->rows[m->count++] = row;
    }
}

static void copy_rows(const struct measuring *m)
{
    for (uint32_t q = 0; q < m->count; q++)
        copy_row(m, m->rows[q], m->queries + (size_t)q * m->set->codes.dims);
}

/* Every other query is for the smaller curves only: far rows are what most of the time goes to. */
static uint32_t nearest_of(uint32_t q)
{
    return q % 2 ? curve_ks[CASCADE_CURVES - 2] : K_MAX;
}

static size_t wanted_of(const struct measuring *m, uint32_t q, uint32_t curve)
{
    return curve_ks[curve] <= nearest_of(q) ? MIN((size_t)curve_ks[curve], m->truth[q].count) : 0;
}

/* The nearest rows of each query, without the query's own; one more than wanted shows which are as near as
 * the last. */
static syna_rc find_truth(struct measuring *m)
{
    for (uint32_t q = 0; q < m->count; q++)
        topk_init(&m->truth[q], nearest_of(q) + 1 + m->hidden, FLT_MAX);
    SYNA_TRY(exact_search(m->set, 0, m->c->linked, m->live, m->queries, m->count, m->truth, NULL));
    for (uint32_t q = 0; q < m->count; q++) {
        struct topk *t = &m->truth[q];
        topk_sort(t);
        size_t at = 0;
        while (at < t->count && t->items[at].row != m->rows[q])
            at++;
        if (at == t->count)
            continue;
        t->count--;
        memmove(t->items + at, t->items + at + 1, (t->count - at) * sizeof *t->items);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- one walk */

/* The walk that keeps few candidates is the beginning of one that keeps more: it ends when its few nearest
 * were all followed. So one walk shows all widths. */
struct watching {
    struct measuring *m;
    uint32_t q;
    struct candidate truth[K_MAX]; /* the true nearest, by their codes */
};

/* How many of the pool, which is sorted, are as near as `last` by their codes. */
static size_t count_near(const struct candidate *pool, size_t count, int32_t last)
{
    size_t near = 0;
    while (near < count && pool[near].key <= last)
        near++;
    return near;
}

/* Those of the true nearest that stand in the pool. Where others are as near as the last one, as many as
 * are not farther are as good. */
static size_t count_right(const struct watching *w, const struct cascade_room *room, size_t kept,
                          size_t wanted)
{
    const struct topk *truth = &w->m->truth[w->q];
    struct candidate last = room->pool[kept - 1];
    int32_t farthest = INT32_MIN;
    size_t right = 0;
    last.row &= ~FOLLOWED;
    for (size_t t = 0; t < wanted; t++) {
        farthest = MAX(farthest, w->truth[t].key);
        right += bit_of(room->seen, w->truth[t].row) && !candidate_before(last, w->truth[t]);
    }
    if (wanted > 0 && truth->count > wanted &&
        truth->items[wanted].rank <= truth->items[wanted - 1].rank)
        right = MAX(right, MIN(wanted, count_near(room->pool, kept, farthest)));
    return right;
}

static void see_width(void *context, uint32_t width, const struct cascade_room *room)
{
    const struct watching *w = context;
    struct seen *seen = &w->m->seen[w->q];
    size_t kept = MIN(w->m->efs[width], room->pool_count);
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        seen->right[width][i] =
            kept ? (uint8_t)count_right(w, room, kept, wanted_of(w->m, w->q, i)) : 0;
    seen->codes[width] = (uint32_t)room->visits.codes;
}

static void code_truth(struct watching *w, const struct code_query *query)
{
    const struct measuring *m = w->m;
    const struct topk *truth = &m->truth[w->q];
    for (size_t t = 0; t < MIN(truth->count, (size_t)K_MAX); t++) {
        uint32_t row = (uint32_t)truth->items[t].row;
        const uint8_t *code = array_at(&m->set->code_rows, row);
        w->truth[t].row = row;
        codes_many(&m->set->codes, m->set->kernels, query, &code, 1, &w->truth[t].key);
    }
}

static syna_rc walk_one(void *context, unsigned thread, uint64_t place)
{
    struct measuring *m = context;
    struct watching w = {.m = m, .q = (uint32_t)place * m->every};
    const float *vector = m->queries + (size_t)w.q * m->set->codes.dims;
    struct cascade_watch watch = {m->efs, m->widths, 0, see_width, &w};
    struct cascade_room *room;
    uint32_t ef = m->efs[m->widths - 1];
    (void)thread;
    SYNA_TRY(room_take(m->c, m->set, ef, &room));
    codes_query(&m->set->codes, m->set->kernels, vector, room->bytes, &room->query);
    codes_encode(&m->set->codes, m->set->kernels, vector, room->code);
    code_truth(&w, &room->query);
    room->watch = &watch;
    cascade_walk(m->c, m->set, room, ef, m->c->params.probes, NULL,
                 m->hidden ? m->rows[w.q] : CASCADE_NONE);
    room->watch = NULL;
    room_give(m->c, room);
    return SYNA_SUCCESS;
}

static syna_rc walk(struct measuring *m, uint32_t widths, uint32_t every)
{
    m->widths = widths;
    m->every = every;
    return workers_run(m->threads, (m->count + every - 1) / every, walk_one, m, NULL, NULL);
}

/* ---------------------------------------------------------------- curves */

/* The share that was found at a width, less what chance may have added; 1 when nothing was wanted. */
static float recall_of(const struct measuring *m, uint32_t width, uint32_t curve, double sure)
{
    double sum = 0, squares = 0, count = 0;
    for (uint32_t q = 0; q < m->count; q += m->every) {
        size_t wanted = wanted_of(m, q, curve);
        if (wanted == 0)
            continue;
        double share = m->seen[q].right[width][curve] / (double)wanted;
        sum += share;
        squares += share * share;
        count++;
    }
    if (count == 0)
        return 1;
    double mean = sum / count, variance = MAX(squares / count - mean * mean, 0);
    return (float)MAX(mean - sure * sqrt(variance / count), 0);
}

static float codes_at(const struct measuring *m, uint32_t width)
{
    double codes = 0, count = 0;
    for (uint32_t q = 0; q < m->count; q += m->every, count++)
        codes += m->seen[q].codes[width];
    return count > 0 ? (float)(codes / count) : 0;
}

/* Nothing is to be learnt from wider walks. */
static bool is_enough(const struct measuring *m, uint32_t width, double sure)
{
    bool full = true;
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        full = full && m->efs[width] >= curve_ks[i] && recall_of(m, width, i, sure) >= FULL_RECALL;
    return full || codes_at(m, width) * WALK_COST > (float)m->c->filed;
}

/* How many widths all queries are to walk. */
static syna_rc find_widths(struct measuring *m, uint32_t *widths)
{
    uint32_t every = MAX(m->count / PILOT, 1u);
    for (*widths = PILOT_WIDTHS;; *widths = MIN(*widths + PILOT_MORE, WIDTHS)) {
        SYNA_TRY(walk(m, *widths, every));
        for (uint32_t width = 0; width < *widths; width++)
            if (is_enough(m, width, 0)) {
                *widths = MIN(width + 2, WIDTHS); /* few queries may have been easy ones */
                return SYNA_SUCCESS;
            }
        if (*widths == WIDTHS)
            return SYNA_SUCCESS;
    }
}

static void make_curve(const struct measuring *m, uint32_t i, struct cascade_curve *curve)
{
    *curve = (struct cascade_curve){.k = curve_ks[i]};
    for (uint32_t width = 0; width < m->widths && curve->count < CASCADE_CURVE_POINTS; width++) {
        uint32_t at = curve->count;
        if (m->efs[width] < curve->k)
            continue;
        float recall = recall_of(m, width, i, SURE);
        curve->ef[at] = m->efs[width];
        curve->recall[at] = at > 0 ? MAX(recall, curve->recall[at - 1]) : recall;
        curve->codes[at] = codes_at(m, width);
        curve->count++;
        if (recall >= FULL_RECALL)
            break;
    }
}

static syna_rc measure_curves(struct measuring *m, struct cascade_curve *curves)
{
    uint32_t widths, ef = EF_LEAST;
    for (uint32_t width = 0; width < WIDTHS; width++, ef = WIDEN(ef))
        m->efs[width] = ef;
    SYNA_TRY(find_widths(m, &widths));
    SYNA_TRY(walk(m, widths, 1));
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        make_curve(m, i, &curves[i]);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- calibration */

static syna_rc measure(struct measuring *m, struct cascade_curve *curves)
{
    copy_rows(m);
    syna_rc rc = find_truth(m);
    if (rc == SYNA_SUCCESS)
        rc = measure_curves(m, curves);
    for (uint32_t q = 0; q < m->count; q++)
        topk_dispose(&m->truth[q]);
    return rc;
}

static syna_rc measure_rows(struct cascade *c, const struct row_set *set, const uint64_t *live,
                            const uint32_t *rows, uint32_t count, unsigned threads,
                            struct cascade_curve curves[CASCADE_CURVES])
{
    memset(curves, 0, CASCADE_CURVES * sizeof *curves);
    if (c->filed == 0)
        return SYNA_SUCCESS;
    size_t bytes = (size_t)QUERIES * set->codes.dims * sizeof(float);
    struct measuring *m = mem_zalloc(sizeof *m);
    if (m)
        m->queries = mem_alloc(bytes);
    syna_rc rc;
    if (m && m->queries) {
        m->c = c;
        m->set = set;
        m->live = live;
        m->hidden = !rows;
        m->threads = MAX(threads, 1u);
        m->count = count;
        if (rows)
            memcpy(m->rows, rows, count * sizeof *rows);
        else
            choose_rows(m);
        rc = measure(m, curves);
    } else {
        rc = syna_no_memory(bytes);
    }
    if (m)
        mem_free(m->queries);
    mem_free(m);
    return rc;
}

syna_rc cascade_measure(struct cascade *c, const struct row_set *set, const uint64_t *live,
                        unsigned threads, struct cascade_curve curves[CASCADE_CURVES])
{
    return measure_rows(c, set, live, NULL, 0, threads, curves);
}

syna_rc cascade_measure_with(struct cascade *c, const struct row_set *set, const uint64_t *filed,
                             const uint32_t *rows, uint32_t count, unsigned threads,
                             struct cascade_curve curves[CASCADE_CURVES])
{
    return measure_rows(c, set, filed, rows, MIN(count, QUERIES), threads, curves);
}

void cascade_take_curves(struct cascade *c, const struct cascade_curve curves[CASCADE_CURVES])
{
    memcpy(c->curves, curves, sizeof c->curves);
    c->calibrated = c->filed;
}

/* ---------------------------------------------------------------- reading the curves */

/* The curve measured for the smallest k that is not below this one, else the last. */
static const struct cascade_curve *curve_for(const struct cascade *c, uint32_t k)
{
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        if (c->curves[i].k >= k)
            return &c->curves[i];
    return &c->curves[CASCADE_CURVES - 1];
}

/* What is missed, on the scale on which it is about linear; nothing at all is taken as very little. */
static float missed(float recall)
{
    return logf(MAX(1 - recall, 1e-4f));
}

/* How far on the way from one recall to the next another stands. */
static float part_of(float low, float high, float recall)
{
    float from = missed(low), to = missed(high);
    return from > to ? MIN((from - missed(recall)) / (from - to), 1.0f) : 1;
}

static float between(float low, float high, float part)
{
    return low + part * (high - low);
}

uint32_t cascade_ef_for(const struct cascade *c, uint32_t k, float recall, float *expected)
{
    const struct cascade_curve *curve = curve_for(c, k);
    float scale = k > curve->k && curve->k ? (float)k / (float)curve->k : 1; /* beyond the last curve */
    if (c->calibrated && c->filed > c->calibrated)
        scale *= 1 + GROWN * MIN((float)(c->filed - c->calibrated) / (float)c->calibrated, 1.0f);
    *expected = 0;
    if (curve->count == 0)
        return MAX(k, CASCADE_EF_DEFAULT);
    for (uint32_t i = 0; i < curve->count; i++) {
        if (curve->recall[i] < recall)
            continue;
        float part = i == 0 ? 1 : part_of(curve->recall[i - 1], curve->recall[i], recall);
        float codes = between(curve->codes[i == 0 ? 0 : i - 1], curve->codes[i], part);
        float low = logf((float)curve->ef[i == 0 ? 0 : i - 1]), high = logf((float)curve->ef[i]);
        if (codes * scale * WALK_COST > (float)c->filed)
            break;
        *expected = MAX(recall, curve->recall[0]);
        return MAX(k, (uint32_t)ceilf(expf(between(low, high, part)) * scale));
    }
    *expected = 1;
    return 0;
}

float cascade_recall_at(const struct cascade *c, uint32_t k, uint32_t ef)
{
    const struct cascade_curve *curve = curve_for(c, k);
    for (uint32_t i = 0; i < curve->count; i++) {
        if (curve->ef[i] < ef)
            continue;
        if (i == 0 || curve->ef[i] == ef)
            return curve->recall[i];
        float low = logf((float)curve->ef[i - 1]), high = logf((float)curve->ef[i]);
        float part = (logf((float)ef) - low) / (high - low);
        return 1 - expf(between(missed(curve->recall[i - 1]), missed(curve->recall[i]), part));
    }
    return curve->count ? curve->recall[curve->count - 1] : 0;
}
