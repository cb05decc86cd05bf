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

/* ---------------------------------------------------------------- scoring every row */

struct scan {
    const syna_mmap *store;
    const float *queries;
    const float *norms; /* of the queries */
    struct topk *tops;
    size_t count;
    uint64_t scored;
};

/* Score rows [first, first + rows), which share a word of live bits, for one query. */
static bool score_block(const struct scan *s, size_t q, uint32_t first, uint32_t rows)
{
    const syna_mmap *store = s->store;
    const float *query = s->queries + q * store->dims;
    const float *matrix = mmap_rows_vector(&store->rows, first);
    const float *norms = mmap_rows_norms(&store->rows) + first;
    size_t stride = mmap_vectors_stride(store);
    float sums[SCORE_ROWS];
    if (store->metric == SYNA_METRIC_EUCLIDEAN)
        store->kernels->l2sq_rows(query, matrix, stride, rows, store->dims, sums);
    else
        store->kernels->dot_rows(query, matrix, stride, rows, store->dims, sums);

    uint64_t live = mmap_rows_live(&store->rows)[first / SCORE_ROWS];
    for (; live; live &= live - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(live);
        float rank = score_rank(store->metric, sums[i], s->norms[q], norms[i]);
        if (topk_admits(&s->tops[q], rank) && !topk_offer(&s->tops[q], rank, first + i))
            return false;
    }
    return true;
}

static syna_rc score_all(struct scan *s)
{
    const struct mmap_rows *rows = &s->store->rows;
    for (uint32_t first = 0; first < rows->count; first += SCORE_ROWS) {
        uint32_t some = MIN(rows->count - first, SCORE_ROWS);
        if (mmap_rows_live(rows)[first / SCORE_ROWS] == 0)
            continue;
        SYNA_TRY(rowfile_touch(rows->file, first, some));
        for (size_t q = 0; q < s->count; q++)
            if (!score_block(s, q, first, some))
                return syna_no_memory(sizeof(struct ranked));
        s->scored += some * s->count;
    }
    return SYNA_SUCCESS;
}

static syna_rc search_all(struct mmap_searching *s)
{
    const syna_mmap *store = s->store;
    float *norms = mem_alloc(s->count * sizeof *norms);
    if (!norms)
        return syna_no_memory(s->count * sizeof *norms);
    for (size_t q = 0; q < s->count; q++)
        norms[q] = vector_norm(store->kernels, s->queries + q * store->dims, store->dims);
    struct scan scan = {store, s->queries, norms, s->tops, s->count, 0};
    syna_rc rc = score_all(&scan);
    mem_free(norms);
    s->explain.plan = SYNA_PLAN_SCAN;
    s->explain.full = scan.scored;
    return rc;
}

/* ---------------------------------------------------------------- codes and graph */

/* One bit a row, NULL when all rows are live. */
static const uint64_t *chosen_rows(const struct mmap_rows *rows)
{
    return rows->live == rows->count ? NULL : mmap_rows_live(rows);
}

static syna_rc search_exact(struct mmap_searching *s, const struct row_set *set, uint32_t first)
{
    uint64_t full = 0;
    if (first == set->count)
        return SYNA_SUCCESS;
    SYNA_TRY(exact_search(set, first, set->count - first, chosen_rows(&s->store->rows), s->queries,
                          s->count, s->tops, &full));
    s->explain.full += full;
    s->explain.codes += (uint64_t)(set->count - first) * s->count;
    return SYNA_SUCCESS;
}

static uint32_t width_for(const struct mmap_searching *s, const struct hnsw *graph)
{
    uint32_t k = (uint32_t)s->how.k, ef = s->how.ef;
    if (ef == 0)
        ef = s->how.recall > 0 ? hnsw_ef_for(graph, k, s->how.recall) : HNSW_EF_DEFAULT;
    return MAX(ef, k);
}

static syna_rc search_graph(struct mmap_searching *s, const struct row_set *set)
{
    struct hnsw *graph = &s->store->index->graph; /* its scratch has a lock of its own */
    const uint64_t *chosen = chosen_rows(&s->store->rows);
    uint32_t dims = set->codes.dims, ef = width_for(s, graph);
    struct hnsw_visits visits = {0};
    struct hnsw_query *asked = mem_alloc(s->count * sizeof *asked);
    if (!asked)
        return syna_no_memory(s->count * sizeof *asked);
    for (size_t q = 0; q < s->count; q++) {
        const float *query = s->queries + q * dims;
        asked[q] = (struct hnsw_query){query, vector_norm(set->kernels, query, dims), ef, chosen};
    }
    syna_rc rc = hnsw_search_many(graph, set, asked, s->count, s->tops, &visits);
    mem_free(asked);
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = ef;
    s->explain.recall = hnsw_recall_at(graph, (uint32_t)s->how.k, ef);
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return rc == SYNA_SUCCESS ? search_exact(s, set, graph->linked) : rc;
}

static bool graph_pays(const struct mmap_searching *s)
{
    const syna_search *how = &s->how;
    return s->store->index->graph.linked > 0 &&
           !(how->flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) && how->k <= HNSW_EF_MAX &&
           how->k <= s->store->rows.live / EXACT_SHARE && how->recall < 1;
}

/* A walk among rows of which many are dead may come home with too few. */
static bool complete(const struct mmap_searching *s)
{
    size_t wanted = (size_t)MIN(s->how.k, (uint64_t)s->store->rows.live);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

static syna_rc search_index(struct mmap_searching *s)
{
    const syna_mmap *store = s->store;
    struct mmap_reader reader;
    struct row_set set =
        mmap_index_set(store->index, &store->rows.norms, store->rows.file, &reader);
    if (graph_pays(s)) {
        SYNA_TRY(search_graph(s, &set));
        if (complete(s))
            return mmap_reader_end(&reader);
        for (size_t q = 0; q < s->count; q++)
            s->tops[q].count = 0;
    }
    s->explain.plan = SYNA_PLAN_EXACT;
    s->explain.ef = 0;
    s->explain.recall = 1;
    SYNA_TRY(search_exact(s, &set, 0));
    return mmap_reader_end(&reader);
}

syna_rc mmap_vectors_rank(struct mmap_searching *s)
{
    s->explain.recall = 1;
    syna_rc rc = mmap_vectors_note_damage(s->store,
                                          s->store->index ? search_index(s) : search_all(s));
    for (size_t q = 0; rc == SYNA_SUCCESS && q < s->count; q++)
        topk_sort(&s->tops[q]);
    return rc;
}
