/* hnsw_recall.c - what recall a width of the walk gives, measured on the store's own rows.
 *
 * Queries are made half-way between two rows that are STEPS links apart: near rows, but none of them at
 * hand. Nearer pairs make queries that are easier than those of users, rows by chance much harder ones;
 * with four steps the curve met that of held-back queries on text embeddings (384 dimensions) and
 * image descriptors (128) within 0.01. The truth is exact search. For k = 1, 10 and 100 the walk's
 * width is grown until the recall is full; between the points recall is taken as linear in log(ef). */
#include "base/internal.h"

#include "base/rng.h"
#include "index/hnsw_core.h"

#include <synadb/vector.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>

#define QUERIES 200u
#define STEPS 4u
#define MANY 100u /* results, of which a quarter of the queries has enough */
#define FULL_RECALL 0.9995f
#define MARGIN 0.003f /* the measure is by so much too kind to queries from elsewhere, */
#define MARGIN_SHARE 0.14f /* and by this share of what may be missed */
#define BITS_SHARE 0.16f /* by so much more where codes have one bit a dimension */
#define GROWTH_FROM 10u /* nearest rows: that one's distance is the first that is looked at */
#define TRIAL_K 10u
#define TRIAL_EF 32u
#define TRIAL_LOSS 0.01f /* of recall, that walking by half of a code may cost there */

static const uint32_t curve_ks[HNSW_CURVES] = {1, 10, 100};

struct measuring {
    struct hnsw *graph;
    const struct row_set *set;
    const uint64_t *live;
    float *queries; /* QUERIES of them, and room for a row */
    uint32_t count;
    struct topk truth[QUERIES];
};

/* ---------------------------------------------------------------- queries */

static bool counts(const struct measuring *m, uint32_t row)
{
    return !m->live || (m->live[row / 64] >> row % 64 & 1);
}

/* A live row of the graph, by chance; HNSW_NONE when none was met. */
static uint32_t some_row(const struct measuring *m, uint64_t *seed)
{
    for (int tries = 0; tries < 64; tries++) {
        uint32_t row = (uint32_t)(rng_next(seed) % m->graph->linked);
        if (counts(m, row))
            return row;
    }
    return HNSW_NONE;
}

/* Where a walk by chance gets to. */
static uint32_t wander(const struct measuring *m, uint32_t row, uint64_t *seed)
{
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t links = hnsw_link_count(m->graph, row);
        if (links)
            row = hnsw_links(m->graph, row)[rng_next(seed) % links];
    }
    return row;
}

static void between(const struct measuring *m, uint32_t row, uint64_t *seed, float *out)
{
    uint32_t dims = m->set->codes.dims, other = wander(m, row, seed);
    float *second = m->queries + (size_t)QUERIES * dims;
    row_set_read(m->set, m->set->full(m->set->context, row), out);
    row_set_read(m->set, m->set->full(m->set->context, other), second);
    for (uint32_t i = 0; i < dims; i++)
        out[i] = out[i] / 2 + second[i] / 2;
}

static void make_queries(struct measuring *m)
{
    uint64_t seed = 1;
    for (uint32_t q = 0; q < QUERIES; q++) {
        uint32_t row = some_row(m, &seed);
        if (row != HNSW_NONE)
            between(m, row, &seed, m->queries + (size_t)m->count++ * m->set->codes.dims);
    }
}

/* ---------------------------------------------------------------- one width */

static bool in_truth(const struct topk *truth, uint32_t k, float rank)
{
    /* Rows at the same distance as the k-th are as good as it. */
    return truth->count >= k ? rank <= truth->items[k - 1].rank : true;
}

static syna_rc recall_of(struct measuring *m, uint32_t k, uint32_t ef, float *recall)
{
    uint64_t right = 0, wanted = 0;
    uint32_t count = k < MANY ? m->count : (m->count + 3) / 4; /* as telling, and walks are long */
    for (uint32_t q = 0; q < count; q++) {
        const float *vector = m->queries + (size_t)q * m->set->codes.dims;
        struct topk top;
        struct hnsw_query query = {vector, vector_norm(m->set->kernels, vector, m->set->codes.dims),
                                   ef, m->live};
        topk_init(&top, k, FLT_MAX);
        syna_rc rc = hnsw_search(m->graph, m->set, &query, &top, NULL);
        for (size_t i = 0; i < top.count; i++)
            right += in_truth(&m->truth[q], k, top.items[i].rank);
        wanted += MIN((size_t)k, m->truth[q].count);
        topk_dispose(&top);
        SYNA_TRY(rc);
    }
    *recall = wanted ? (float)((double)right / (double)wanted) : 1;
    if (m->set->codes.bits)
        *recall -= BITS_SHARE * (1 - *recall);
    *recall = MAX(*recall, 0.0f);
    return SYNA_SUCCESS;
}

/* Coarse codes need walks tens of times as wide as fine ones: where recall is far from what is asked for,
 * the points lie further apart, so that they reach to where it is full. */
static uint32_t next_ef(uint32_t ef, const struct hnsw_curve *curve)
{
    float recall = curve->recall[curve->count - 1];
    uint32_t halves = recall < 0.6f ? 6 : recall < 0.8f ? 4 : 3;
    return MIN(ef * halves / 2, HNSW_EF_MAX);
}

static syna_rc measure_curve(struct measuring *m, uint32_t k, struct hnsw_curve *curve)
{
    *curve = (struct hnsw_curve){.k = k};
    for (uint32_t ef = MAX(k, 8u); curve->count < HNSW_CURVE_POINTS; ef = next_ef(ef, curve)) {
        float recall;
        SYNA_TRY(recall_of(m, k, ef, &recall));
        if (curve->count > 0)
            recall = MAX(recall, curve->recall[curve->count - 1]);
        curve->ef[curve->count] = ef;
        curve->recall[curve->count++] = recall;
        if (recall >= FULL_RECALL || ef == HNSW_EF_MAX)
            break;
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- calibration */

static syna_rc find_truth(struct measuring *m)
{
    for (uint32_t q = 0; q < m->count; q++)
        topk_init(&m->truth[q], curve_ks[HNSW_CURVES - 1], FLT_MAX);
    SYNA_TRY(exact_search(m->set, 0, m->graph->linked, m->live, m->queries, m->count, m->truth,
                          NULL));
    for (uint32_t q = 0; q < m->count; q++)
        topk_sort(&m->truth[q]);
    return SYNA_SUCCESS;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* How the distance grows with the number of rows, by the GROWTH_FROM-th and the last that is known: of the
 * typical query. 0: too few rows. */
static float growth_of(const struct measuring *m)
{
    float growth[QUERIES];
    uint32_t count = 0;
    for (uint32_t q = 0; q < m->count; q++) {
        const struct topk *truth = &m->truth[q];
        if (truth->count < 2 * GROWTH_FROM)
            continue;
        float norm = vector_norm(m->set->kernels, m->queries + (size_t)q * m->set->codes.dims,
                                 m->set->codes.dims);
        float shift = m->graph->measured.longest * norm;
        float near = truth->items[GROWTH_FROM - 1].rank + shift;
        float far = truth->items[truth->count - 1].rank + shift;
        if (near > 0 && far < FLT_MAX)
            growth[count++] = logf(far / near) / logf((float)truth->count / GROWTH_FROM);
    }
    if (count == 0)
        return 0;
    qsort(growth, count, sizeof *growth, by_size);
    return MIN(growth[count / 2], HNSW_GROWTH_MAX);
}

/* The longest row among the nearest, by which products become distances. */
static float longest_of(const struct measuring *m)
{
    float longest = 0;
    for (uint32_t q = 0; q < m->count; q++)
        for (size_t i = 0; i < m->truth[q].count; i++)
            longest = MAX(longest, *(const float *)array_at(&m->set->norms, m->truth[q].items[i].row));
    return longest;
}

static void measure_growth(struct measuring *m)
{
    m->graph->measured.longest = m->set->codes.metric == SYNA_METRIC_DOT_PRODUCT ? longest_of(m) : 0;
    m->graph->measured.growth = growth_of(m);
}

/* Whether half of a code is enough to walk by: nearly as much is found as by whole ones. Rows of which a few
 * elements are much larger than the others have too little in their upper bits. */
static syna_rc choose_coarse(struct measuring *m)
{
    float by_whole, by_half;
    m->graph->measured.coarse = false;
    if (!m->set->codes.split)
        return SYNA_SUCCESS;
    SYNA_TRY(recall_of(m, TRIAL_K, TRIAL_EF, &by_whole));
    m->graph->measured.coarse = true;
    syna_rc rc = recall_of(m, TRIAL_K, TRIAL_EF, &by_half);
    m->graph->measured.coarse = rc == SYNA_SUCCESS && by_half >= by_whole - TRIAL_LOSS;
    return rc;
}

static syna_rc measure(struct measuring *m)
{
    struct hnsw_curve curves[HNSW_CURVES];
    make_queries(m);
    syna_rc rc = find_truth(m);
    if (rc == SYNA_SUCCESS) {
        measure_growth(m);
        rc = choose_coarse(m);
    }
    for (uint32_t c = 0; rc == SYNA_SUCCESS && c < HNSW_CURVES; c++)
        rc = measure_curve(m, curve_ks[c], &curves[c]);
    for (uint32_t q = 0; q < m->count; q++)
        topk_dispose(&m->truth[q]);
    if (rc == SYNA_SUCCESS) {
        memcpy(m->graph->measured.curves, curves, sizeof curves);
        m->graph->measured.calibrated = m->graph->linked;
    }
    return rc;
}

syna_rc hnsw_calibrate(struct hnsw *graph, const struct row_set *set, const uint64_t *live)
{
    struct measuring *m = mem_zalloc(sizeof *m);
    size_t bytes = (size_t)(QUERIES + 1) * set->codes.dims * sizeof(float);
    if (graph->linked == 0) {
        mem_free(m);
        return SYNA_SUCCESS;
    }
    if (m)
        m->queries = mem_alloc(bytes);
    syna_rc rc = syna_no_memory(bytes);
    if (m && m->queries) {
        m->graph = graph;
        m->set = set;
        m->live = live;
        rc = measure(m);
    }
    if (m)
        mem_free(m->queries);
    mem_free(m);
    return rc;
}

/* ---------------------------------------------------------------- reading the curves */

/* The curve measured for the smallest k that is not below this one, else the last. */
static const struct hnsw_curve *curve_for(const struct hnsw *graph, uint32_t k)
{
    for (uint32_t c = 0; c < HNSW_CURVES; c++)
        if (graph->measured.curves[c].k >= k)
            return &graph->measured.curves[c];
    return &graph->measured.curves[HNSW_CURVES - 1];
}

uint32_t hnsw_ef_for(const struct hnsw *graph, uint32_t k, float recall)
{
    const struct hnsw_curve *curve = curve_for(graph, k);
    float want = MIN(recall + MARGIN + MARGIN_SHARE * (1 - recall), 1.0f);
    if (curve->count == 0)
        return MAX(k, HNSW_EF_DEFAULT);
    for (uint32_t i = 0; i < curve->count; i++) {
        if (curve->recall[i] < want)
            continue;
        if (i == 0)
            return MAX(k, curve->ef[0]);
        float low = logf((float)curve->ef[i - 1]), high = logf((float)curve->ef[i]);
        float part = (want - curve->recall[i - 1]) / (curve->recall[i] - curve->recall[i - 1]);
        return MAX(k, (uint32_t)ceilf(expf(low + part * (high - low))));
    }
    return MIN(MAX(k, curve->ef[curve->count - 1] * 2), HNSW_EF_MAX);
}

float hnsw_recall_at(const struct hnsw *graph, uint32_t k, uint32_t ef)
{
    const struct hnsw_curve *curve = curve_for(graph, k);
    for (uint32_t i = 0; i < curve->count; i++) {
        if (curve->ef[i] < ef)
            continue;
        if (i == 0 || curve->ef[i] == ef)
            return curve->recall[i];
        float low = logf((float)curve->ef[i - 1]), high = logf((float)curve->ef[i]);
        float part = (logf((float)ef) - low) / (high - low);
        return curve->recall[i - 1] + part * (curve->recall[i] - curve->recall[i - 1]);
    }
    return curve->count ? curve->recall[curve->count - 1] : 0;
}

bool hnsw_reaches(const struct hnsw *graph, uint32_t k, float recall)
{
    const struct hnsw_curve *curve = curve_for(graph, k);
    if (curve->count == 0)
        return true;
    float best = curve->recall[curve->count - 1];
    return best >= MIN(recall, FULL_RECALL);
}

float hnsw_aim_beyond(const struct hnsw *graph, uint32_t k, uint32_t ef)
{
    bool known = curve_for(graph, k)->count > 0;
    return known && hnsw_recall_at(graph, k, ef) < HNSW_RECALL_DEFAULT ? HNSW_RECALL_DEFAULT : 0;
}
