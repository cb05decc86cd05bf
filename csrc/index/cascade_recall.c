/* cascade_recall.c - what recall a width of the walk gives, measured on the store's own rows.
 *
 * A query is a row of the store, as if the row itself were not there: neither its bucket nor the graph
 * show it to the search, and the truth leaves it out. So queries have exactly the distribution of the
 * rows, whatever it is, isotropic noise included, and nothing is known beforehand of where their
 * neighbours are. The truth is exact search. The walk is widened until recall is full, or until looking at
 * every code is the cheaper way. Between two points recall is taken as linear in log(ef). */
#include "base/internal.h"

#include "base/rng.h"
#include "index/cascade_core.h"
#include "index/workers.h"

#include <float.h>
#include <math.h>

#define QUERIES 256u
#define FULL_RECALL 0.9955f /* beyond, looking at every code takes hardly longer */
#define EF_LEAST 10u
#define K_MAX 100u
#define WIDEN(ef) ((ef) * 8 / 5)
/* A code in a walk costs as much as so many in a scan: they lie anywhere, and a pool is kept. */
#define WALK_COST 3.0f
/* Rows that came one by one since the measuring make a walk less sure: it is wider by this share when there
 * are twice as many. */
#define GROWN 0.5f

static const uint32_t curve_ks[CASCADE_CURVES] = {1, 10, 100};

struct measuring {
    struct cascade *c;
    const struct row_set *set;
    const uint64_t *live;
    unsigned threads;
    uint32_t count;
    uint32_t rows[QUERIES];
    float *queries;
    struct topk truth[QUERIES];
    struct cascade_visits visits[QUERIES];
    uint32_t right[QUERIES][CASCADE_CURVES], wanted[QUERIES][CASCADE_CURVES];
    uint32_t ef; /* now being measured */
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
    for (uint32_t tries = 0; tries < 4 * QUERIES && m->count < QUERIES; tries++) {
        uint32_t row = (uint32_t)(rng_next(&seed) % m->c->linked);
        if (m->live && !bit_of(m->live, row))
            continue;
        m->rows[m->count] = row;
        copy_row(m, row, m->queries + (size_t)m->count * m->set->codes.dims);
        m->count++;
    }
}

/* The nearest rows of each query, without the query's own. */
static syna_rc find_truth(struct measuring *m)
{
    for (uint32_t q = 0; q < m->count; q++)
        topk_init(&m->truth[q], curve_ks[CASCADE_CURVES - 1] + 1, FLT_MAX);
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

/* ---------------------------------------------------------------- one width */

/* One search with the largest k shows what smaller ones would have found, too. */
static syna_rc search_one(void *context, unsigned thread, uint64_t q)
{
    struct measuring *m = context;
    struct topk top;
    const float *vector = m->queries + (size_t)q * m->set->codes.dims;
    const struct topk *truth = &m->truth[q];
    struct cascade_query query = {.vector = vector,
                                  .norm = vector_norm(m->set->kernels, vector, m->set->codes.dims),
                                  .ef = m->ef,
                                  .chosen = m->live,
                                  .without = m->rows[q]};
    (void)thread;
    topk_init(&top, MIN(m->ef, K_MAX), FLT_MAX);
    m->visits[q] = (struct cascade_visits){0};
    syna_rc rc = cascade_search(m->c, m->set, &query, &top, &m->visits[q]);
    topk_sort(&top);
    for (uint32_t i = 0; i < CASCADE_CURVES; i++) {
        size_t wanted = MIN((size_t)curve_ks[i], truth->count);
        m->wanted[q][i] = (uint32_t)wanted;
        m->right[q][i] = 0;
        /* Rows at the same distance as the k-th are as good as it. */
        for (size_t t = 0; t < MIN(top.count, wanted); t++)
            m->right[q][i] += top.items[t].rank <= truth->items[wanted - 1].rank;
    }
    topk_dispose(&top);
    return rc;
}

/* One more point on the curve of curve_ks[i]; false when it needs no more. */
static bool add_point(const struct measuring *m, uint32_t i, float codes, struct cascade_curve *curve)
{
    uint64_t right = 0, wanted = 0;
    uint32_t at = curve->count;
    if (m->ef < curve->k)
        return true;
    if (at == CASCADE_CURVE_POINTS || (at > 0 && curve->recall[at - 1] >= FULL_RECALL))
        return false;
    for (uint32_t q = 0; q < m->count; q++) {
        right += m->right[q][i];
        wanted += m->wanted[q][i];
    }
    float recall = wanted ? (float)((double)right / (double)wanted) : 1;
    curve->ef[at] = m->ef;
    curve->recall[at] = at > 0 ? MAX(recall, curve->recall[at - 1]) : recall;
    curve->codes[at] = codes;
    curve->count++;
    return curve->recall[at] < FULL_RECALL;
}

static syna_rc measure_curves(struct measuring *m, struct cascade_curve *curves)
{
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        curves[i] = (struct cascade_curve){.k = curve_ks[i]};
    bool more = true;
    for (m->ef = EF_LEAST; more && m->ef <= CASCADE_EF_MAX; m->ef = WIDEN(m->ef)) {
        uint64_t compared = 0;
        SYNA_TRY(workers_run(m->threads, m->count, search_one, m, NULL, NULL));
        for (uint32_t q = 0; q < m->count; q++)
            compared += m->visits[q].codes;
        float codes = m->count ? (float)((double)compared / m->count) : 0;
        more = false;
        for (uint32_t i = 0; i < CASCADE_CURVES; i++)
            more |= add_point(m, i, codes, &curves[i]);
        if (codes * WALK_COST > (float)m->c->filed)
            break;
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- calibration */

static syna_rc measure(struct measuring *m, struct cascade_curve *curves)
{
    choose_rows(m);
    syna_rc rc = find_truth(m);
    if (rc == SYNA_SUCCESS)
        rc = measure_curves(m, curves);
    for (uint32_t q = 0; q < m->count; q++)
        topk_dispose(&m->truth[q]);
    return rc;
}

syna_rc cascade_measure(struct cascade *c, const struct row_set *set, const uint64_t *live,
                        unsigned threads, struct cascade_curve curves[CASCADE_CURVES])
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
        m->threads = MAX(threads, 1u);
        rc = measure(m, curves);
    } else {
        rc = syna_no_memory(bytes);
    }
    if (m)
        mem_free(m->queries);
    mem_free(m);
    return rc;
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
        float part = i == 0 ? 1 : (recall - curve->recall[i - 1]) / (curve->recall[i] - curve->recall[i - 1]);
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
        return between(curve->recall[i - 1], curve->recall[i], (logf((float)ef) - low) / (high - low));
    }
    return curve->count ? curve->recall[curve->count - 1] : 0;
}
