/* vectors_search.c - one search: which way it takes, and what comes back.
 *
 *   few rows, no codes yet        every full row is scored
 *   radius, all rows, flat index  exact search over the codes (index/exact.h), the same result
 *   otherwise                     the graph for the rows in it, exact search for the fresh ones behind
 *
 * A result is one block of memory with everything that it points to, made while the lock is held: what
 * the caller gets is one moment of the store. */
#include "base/internal.h"

#include "engine/vectors_core.h"

#include <float.h>
#include <math.h>

/* Searching the graph for more rows than this share of it costs more than looking at all codes. */
#define EXACT_SHARE 16u

struct searching {
    const syna_vectors *store;
    const float *queries;
    size_t count;
    syna_search how;
    syna_explain explain;
    struct topk *tops;
    const uint64_t *chosen; /* NULL = all rows */
};

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_search *given, syna_search *how)
{
    *how = (syna_search){0};
    if (given->size < offsetof(syna_search, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_search.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if ((how->flags & SYNA_SEARCH_RADIUS) && isnan(how->radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the radius is NaN");
    if (!(how->recall >= 0 && how->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)how->recall);
    if (how->ef > HNSW_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "ef is %u, expected at most %u",
                         how->ef, HNSW_EF_MAX);
    return SYNA_SUCCESS;
}

static syna_rc check_query(const float *query, size_t q, uint32_t dims)
{
    if (LIKELY(vectors_finite(query, dims)))
        return SYNA_SUCCESS;
    size_t at = vector_first_not_finite(query, dims);
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "query %zu: element %zu is %f, expected a finite number", q, at,
                     (double)query[at]);
}

/* ---------------------------------------------------------------- ways to search */

static syna_rc score_all(struct searching *s)
{
    const struct row_set *set = &s->store->set;
    for (size_t q = 0; q < s->count; q++) {
        const float *query = s->queries + q * set->codes.dims;
        float norm = vector_norm(set->kernels, query, set->codes.dims);
        for (uint32_t row = 0; row < set->count; row++) {
            if (s->chosen && !(s->chosen[row / 64] >> row % 64 & 1))
                continue;
            s->explain.full++;
            if (!topk_offer(&s->tops[q], row_set_rank(set, query, norm, row), row))
                return syna_no_memory(s->tops[q].count * sizeof(struct ranked));
        }
    }
    s->explain.plan = SYNA_PLAN_SCAN;
    return SYNA_SUCCESS;
}

static syna_rc search_exact(struct searching *s, uint32_t first)
{
    const struct row_set *set = &s->store->set;
    uint64_t full = 0;
    if (first == set->count)
        return SYNA_SUCCESS;
    SYNA_TRY(exact_search(set, first, set->count - first, s->chosen, s->queries, s->count, s->tops,
                          &full));
    s->explain.full += full;
    s->explain.codes += (uint64_t)(set->count - first) * s->count;
    return SYNA_SUCCESS;
}

static syna_rc search_graph(struct searching *s)
{
    const syna_vectors *store = s->store;
    struct hnsw *graph = (struct hnsw *)(uintptr_t)&store->graph; /* its scratch has a lock of its own */
    const struct row_set *set = &store->set;
    uint32_t k = (uint32_t)s->how.k, ef = s->how.ef;
    struct hnsw_visits visits = {0};
    if (ef == 0)
        ef = s->how.recall > 0 ? hnsw_ef_for(graph, k, s->how.recall) : store->options.ef_search;
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = MAX(ef, k);
    s->explain.recall = hnsw_recall_at(graph, k, s->explain.ef);
    for (size_t q = 0; q < s->count; q++) {
        const float *query = s->queries + q * set->codes.dims;
        struct hnsw_query hq = {query, vector_norm(set->kernels, query, set->codes.dims),
                                s->explain.ef, s->chosen};
        SYNA_TRY(hnsw_search(graph, set, &hq, &s->tops[q], &visits));
    }
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return search_exact(s, graph->linked);
}

static bool graph_pays(const struct searching *s)
{
    const syna_vectors *store = s->store;
    return store->graph.linked > 0 && !(s->how.flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) &&
           s->how.k <= HNSW_EF_MAX && s->how.k <= store->live_count / EXACT_SHARE &&
           s->how.recall < 1;
}

/* A walk among rows of which many are dead may come home with too few. */
static bool complete(const struct searching *s)
{
    size_t wanted = (size_t)MIN(s->how.k, (uint64_t)s->store->live_count);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

static void start_over(struct searching *s)
{
    for (size_t q = 0; q < s->count; q++)
        s->tops[q].count = 0;
}

/* Rank the rows for every query; the bests are sorted. A lock is held. */
static syna_rc rank_rows(struct searching *s)
{
    const syna_vectors *store = s->store;
    bool within = s->how.flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(vectors_metric(store), s->how.radius) : FLT_MAX;
    for (size_t q = 0; q < s->count; q++)
        topk_init(&s->tops[q], (size_t)MIN(s->how.k, (uint64_t)store->live_count), limit);
    s->chosen = vectors_live_bits(store);
    s->explain.recall = 1;
    syna_rc rc = SYNA_SUCCESS;
    bool done = false;
    if (!vectors_trained(store)) {
        rc = score_all(s);
        done = true;
    } else if (graph_pays(s)) {
        rc = search_graph(s);
        done = rc != SYNA_SUCCESS || complete(s);
        if (!done)
            start_over(s);
    }
    if (!done) {
        s->explain.plan = SYNA_PLAN_EXACT;
        s->explain.recall = 1;
        rc = search_exact(s, 0);
    }
    for (size_t q = 0; rc == SYNA_SUCCESS && q < s->count; q++)
        topk_sort(&s->tops[q]);
    return rc == SYNA_SUCCESS ? vectors_damage(store) : rc;
}

/* ---------------------------------------------------------------- the result */

static syna_rc collect_hits(const struct searching *s, syna_hit **hits, size_t *counts)
{
    const syna_vectors *store = s->store;
    size_t total = 0, key_bytes = 0;
    for (size_t q = 0; q < s->count; q++) {
        total += s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            key_bytes += vectors_hit_key_bytes(store, s->tops[q].items[i].row);
    }
    struct hit_writer w;
    SYNA_TRY(hit_writer_begin(&w, store, s->how.flags, total, key_bytes));
    for (size_t q = 0; q < s->count; q++) {
        counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            hit_writer_add(&w, s->tops[q].items[i].row,
                           score_final(vectors_metric(store), s->tops[q].items[i].rank));
    }
    *hits = w.hits;
    return SYNA_SUCCESS;
}

syna_rc vectors_search(syna_vectors *store, const float *queries, size_t count, uint32_t dims,
                       const syna_search *given, syna_hit **hits, size_t *counts)
{
    struct searching s = {.store = store, .queries = queries, .count = count};
    SYNA_TRY(check_how(given, &s.how));
    SYNA_TRY(vectors_check_dims_first(store, "query", dims));
    for (size_t q = 0; q < count; q++)
        SYNA_TRY(check_query(queries + q * dims, q, dims));
    s.tops = mem_zalloc(count * sizeof *s.tops);
    if (!s.tops)
        return syna_no_memory(count * sizeof *s.tops);

    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, "query", dims);
    if (rc == SYNA_SUCCESS)
        rc = rank_rows(&s);
    if (rc == SYNA_SUCCESS)
        rc = collect_hits(&s, hits, counts);
    pthread_rwlock_unlock(&store->state_lock);

    for (size_t q = 0; q < count; q++)
        topk_dispose(&s.tops[q]);
    mem_free(s.tops);
    if (rc == SYNA_SUCCESS && s.how.explain) {
        s.explain.size = s.how.explain->size;
        memcpy(s.how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return rc;
}
