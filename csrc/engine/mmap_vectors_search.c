/* mmap_vectors_search.c - how searches of a mapped vector store are answered: the rest of the store does
 * not know.
 *
 *   no index                every live row is scored where it is mapped, in blocks that stay in the
 *                           processor's cache while all queries pass over them
 *   radius, all rows, exact exact search over the codes (index/exact.h), the same result
 *   otherwise               the graph for the rows in it, exact search for the fresh ones behind
 *
 * A block of the file is checked against its CRC before a row in it is scored for the first time. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

#define SCORE_ROWS 64u /* a word of live bits */
/* Searching the graph for more rows than this share of it costs more than looking at all codes. */
#define EXACT_SHARE 16u

struct searching {
    struct row_search base;
    struct mmap_index *index; /* NULL: none */
    uint32_t ef;
    syna_explain explain;
};

/* ---------------------------------------------------------------- scoring every row */

/* Score rows [first, first + rows), which share a word of live bits, for one query. */
static bool score_block(const struct row_search *s, const float *query_norms, size_t q, uint32_t first,
                        uint32_t rows)
{
    const struct row_store *store = s->store;
    const float *query = s->queries + q * store->dims;
    const float *matrix = mmap_rows_vector(&store->rows, first);
    const float *norms = mmap_rows_norms(&store->rows) + first;
    size_t stride = store->rows.file->row_bytes / sizeof(float);
    float sums[SCORE_ROWS];
    if (store->metric == SYNA_METRIC_EUCLIDEAN)
        store->kernels->l2sq_rows(query, matrix, stride, rows, store->dims, sums);
    else
        store->kernels->dot_rows(query, matrix, stride, rows, store->dims, sums);

    uint64_t live = s->chosen[first / SCORE_ROWS];
    for (; live; live &= live - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(live);
        float rank = score_rank(store->metric, sums[i], query_norms[q], norms[i]);
        if (topk_admits(&s->tops[q], rank) && !topk_offer(&s->tops[q], rank, first + i))
            return false;
    }
    return true;
}

static syna_rc score_all(struct row_search *s, const float *query_norms)
{
    const struct mmap_rows *rows = &s->store->rows;
    for (uint32_t first = 0; first < rows->count; first += SCORE_ROWS) {
        uint32_t some = MIN(rows->count - first, SCORE_ROWS);
        if (s->chosen[first / SCORE_ROWS] == 0)
            continue;
        SYNA_TRY(rowfile_touch(rows->file, first, some));
        for (size_t q = 0; q < s->count; q++)
            if (!score_block(s, query_norms, q, first, some))
                return syna_no_memory(sizeof(struct ranked));
        s->scored += some * s->count;
    }
    return SYNA_SUCCESS;
}

static syna_rc search_all(struct searching *s)
{
    float *norms = row_search_norms(&s->base);
    if (!norms)
        return syna_no_memory(s->base.count * sizeof *norms);
    syna_rc rc = score_all(&s->base, norms);
    mem_free(norms);
    s->explain.plan = SYNA_PLAN_SCAN;
    s->explain.full = s->base.scored;
    return rc;
}

/* ---------------------------------------------------------------- codes and graph */

/* One bit a row, NULL when all rows are live. */
static const uint64_t *chosen_rows(const struct row_search *s)
{
    return s->matches == s->store->rows.count ? NULL : s->chosen;
}

static syna_rc search_exact(struct searching *s, const struct row_set *set, uint32_t first)
{
    const struct row_search *base = &s->base;
    uint64_t full = 0;
    if (first == set->count)
        return SYNA_SUCCESS;
    SYNA_TRY(exact_search(set, first, set->count - first, chosen_rows(base), base->queries, base->count,
                          base->tops, &full));
    s->explain.full += full;
    s->explain.codes += (uint64_t)(set->count - first) * base->count;
    return SYNA_SUCCESS;
}

/* The recall that the width of a walk is chosen by; 0: the width is given. */
static float recall_aim(const struct searching *s)
{
    uint32_t k = (uint32_t)s->base.k;
    if (s->ef > 0)
        return 0;
    return s->base.recall > 0 ? s->base.recall
                              : hnsw_aim_beyond(&s->index->graph, k, MAX(k, HNSW_EF_DEFAULT));
}

static uint32_t width_for(const struct searching *s)
{
    uint32_t k = (uint32_t)s->base.k;
    float recall = recall_aim(s);
    uint32_t ef = s->ef > 0 ? s->ef : HNSW_EF_DEFAULT;
    return MAX(recall > 0 ? hnsw_ef_for(&s->index->graph, k, recall) : ef, k);
}

static syna_rc search_graph(struct searching *s, const struct row_set *set)
{
    struct hnsw *graph = &s->index->graph; /* its scratch has a lock of its own */
    const struct row_search *base = &s->base;
    const uint64_t *chosen = chosen_rows(base);
    uint32_t dims = set->codes.dims, ef = width_for(s);
    struct hnsw_visits visits = {0};
    struct hnsw_query *asked = mem_alloc(base->count * sizeof *asked);
    if (!asked)
        return syna_no_memory(base->count * sizeof *asked);
    for (size_t q = 0; q < base->count; q++) {
        const float *query = base->queries + q * dims;
        asked[q] = (struct hnsw_query){query, vector_norm(set->kernels, query, dims), ef, chosen};
    }
    syna_rc rc = hnsw_search_many(graph, set, asked, base->count, base->tops, &visits);
    mem_free(asked);
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = ef;
    s->explain.recall = hnsw_recall_at(graph, (uint32_t)base->k, ef);
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return rc == SYNA_SUCCESS ? search_exact(s, set, graph->linked) : rc;
}

static bool graph_pays(const struct searching *s)
{
    const struct row_search *base = &s->base;
    return s->index->graph.linked > 0 && !row_search_is_exact(base) && base->k <= HNSW_EF_MAX &&
           base->k <= base->matches / EXACT_SHARE &&
           hnsw_reaches(&s->index->graph, (uint32_t)base->k, recall_aim(s));
}

/* A walk among rows of which many are dead may come home with too few. */
static syna_rc search_index(struct searching *s)
{
    struct row_store *store = s->base.store;
    struct row_set set =
        mmap_index_set(s->index, &store->rows.norms, store->rows.file, &s->base.reader);
    if (graph_pays(s)) {
        SYNA_TRY(search_graph(s, &set));
        if (row_search_is_complete(&s->base))
            return SYNA_SUCCESS;
        row_search_start(&s->base);
    }
    s->explain.plan = SYNA_PLAN_EXACT;
    s->explain.ef = 0;
    s->explain.recall = 1;
    return search_exact(s, &set, 0);
}

static syna_rc rank_rows(struct row_search *base)
{
    struct searching *s = (struct searching *)(void *)base;
    s->index = mmap_of(base->store)->index;
    s->explain.recall = 1;
    return s->index ? search_index(s) : search_all(s);
}

/* ---------------------------------------------------------------- the call */

static syna_rc take_how(const syna_search *given, syna_search *how)
{
    *how = (syna_search){0};
    if (given->size < offsetof(syna_search, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_search.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->ef > HNSW_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "ef is %u, expected at most %u",
                         how->ef, HNSW_EF_MAX);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_search(syna_mmap *store, const float *queries, size_t count, uint32_t dims,
                            const syna_search *given, syna_hit **hits, size_t *counts)
{
    syna_search how;
    SYNA_TRY(take_how(given, &how));
    struct searching s = {.base = {.store = &store->base,
                                   .queries = queries,
                                   .count = count,
                                   .k = how.k,
                                   .flags = how.flags,
                                   .radius = how.radius,
                                   .recall = how.recall,
                                   .rank = rank_rows},
                          .ef = how.ef};
    SYNA_TRY(row_search_run(&s.base, dims, hits, counts));
    if (how.explain) {
        s.explain.size = how.explain->size;
        memcpy(how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return SYNA_SUCCESS;
}
