/* vectors_search.c - one search: which way it takes, and what comes back.
 *
 *   few rows, no codes yet        every full row is scored
 *   radius, all rows, flat index  exact search over the codes (index/exact.h), the same result
 *   a filter                      exact search over the rows that match, or see vectors_filter.c
 *   otherwise                     the graph for the rows in it, exact search for the fresh ones behind,
 *                                 of many of them those near the query (vectors_tail.c)
 *
 * A result is one block of memory with everything that it points to, made while the lock is held: what
 * the caller gets is one moment of the store. */
#include "base/internal.h"

#include "engine/vectors_search.h"

#include <float.h>
#include <math.h>

/* Searching the graph for more rows than this share of it costs more than looking at all codes. */
#define EXACT_SHARE 16u

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
    if (how->filter_len > 0 && !how->filter)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "filter is a null pointer, filter_len %zu", how->filter_len);
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

syna_rc vectors_search_range(struct searching *s, uint32_t first, uint32_t end, size_t q, size_t count)
{
    const struct row_set *set = &s->store->set;
    uint64_t full = 0;
    if (first == end)
        return SYNA_SUCCESS;
    SYNA_TRY(exact_search(set, first, end - first, s->chosen, s->queries + q * set->codes.dims, count,
                          s->tops + q, &full));
    s->explain.full += full;
    s->explain.codes += (s->choice ? s->matches : (uint64_t)(end - first)) * count;
    return SYNA_SUCCESS;
}

syna_rc vectors_search_exact(struct searching *s, uint32_t first, size_t q, size_t count)
{
    return vectors_search_range(s, first, s->store->set.count, q, count);
}

/* The recall that the width of a walk is chosen by; 0: the width is given. */
static float recall_aim(const struct searching *s)
{
    uint32_t k = (uint32_t)s->how.k;
    if (s->how.ef > 0)
        return 0;
    return s->how.recall > 0
               ? s->how.recall
               : hnsw_aim_beyond(&s->store->graph, k, MAX(k, s->store->options.ef_search));
}

uint32_t vectors_search_ef(const struct searching *s)
{
    uint32_t k = (uint32_t)s->how.k;
    float recall = recall_aim(s);
    if (recall > 0)
        return MAX(k, hnsw_ef_for(&s->store->graph, k, recall));
    return MAX(k, s->how.ef > 0 ? s->how.ef : s->store->options.ef_search);
}

static syna_rc search_exact(struct searching *s)
{
    s->explain.plan = SYNA_PLAN_EXACT;
    s->explain.recall = 1;
    return vectors_search_exact(s, 0, 0, s->count);
}

static syna_rc walk_together(struct searching *s, struct hnsw *graph, struct hnsw_visits *visits)
{
    const struct row_set *set = &s->store->set;
    uint32_t dims = set->codes.dims;
    struct hnsw_query *asked = mem_alloc(s->count * sizeof *asked);
    if (!asked)
        return syna_no_memory(s->count * sizeof *asked);
    for (size_t q = 0; q < s->count; q++) {
        const float *query = s->queries + q * dims;
        asked[q] = (struct hnsw_query){query, vector_norm(set->kernels, query, dims), s->explain.ef,
                                       s->chosen};
    }
    syna_rc rc = hnsw_search_many(graph, set, asked, s->count, s->tops, visits);
    mem_free(asked);
    return rc;
}

static syna_rc search_graph(struct searching *s)
{
    const syna_vectors *store = s->store;
    struct hnsw *graph = (struct hnsw *)(uintptr_t)&store->graph; /* its scratch has a lock of its own */
    struct hnsw_visits visits = {0};
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = vectors_search_ef(s);
    s->explain.recall = hnsw_recall_at(graph, (uint32_t)s->how.k, s->explain.ef);
    SYNA_TRY(walk_together(s, graph, &visits));
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return vectors_search_tail(s);
}

/* Walks have met damaged links, or one just did: what it found may not be the nearest. */
static bool graph_damaged(const syna_vectors *store)
{
    return UNLIKELY(__atomic_load_n(&store->graph.damaged, __ATOMIC_RELAXED));
}

static bool graph_pays(const struct searching *s)
{
    const syna_vectors *store = s->store;
    return store->graph.linked > 0 && !graph_damaged(store) &&
           !(s->how.flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) && s->how.k <= HNSW_EF_MAX &&
           s->how.k <= store->live_count / EXACT_SHARE && s->how.recall < 1 &&
           hnsw_reaches(&store->graph, (uint32_t)s->how.k, recall_aim(s));
}

/* A walk among rows of which many are dead may come home with too few. */
static bool complete(const struct searching *s)
{
    size_t wanted = (size_t)MIN(s->how.k, s->matches);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

/* Which rows may come back, and how many they are. */
static syna_rc choose(struct searching *s)
{
    const syna_vectors *store = s->store;
    s->matches = store->live_count;
    s->chosen = vectors_live_bits(store);
    if (!s->how.filter)
        return SYNA_SUCCESS;
    return vectors_choose((syna_vectors *)(uintptr_t)store, s->how.filter, s->how.filter_len, &s->choice,
                          &s->chosen, &s->matches);
}

static syna_rc rank_by(struct searching *s)
{
    if (!vectors_trained(s->store))
        return score_all(s);
    if (!graph_pays(s))
        return search_exact(s);
    if (s->choice)
        return vectors_search_filtered(s);
    SYNA_TRY(search_graph(s));
    if (complete(s) && !graph_damaged(s->store))
        return SYNA_SUCCESS;
    for (size_t q = 0; q < s->count; q++)
        s->tops[q].count = 0;
    return search_exact(s);
}

/* Rank the rows for every query; the bests are sorted. A lock is held. */
static syna_rc rank_rows(struct searching *s)
{
    const syna_vectors *store = s->store;
    bool within = s->how.flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(vectors_metric(store), s->how.radius) : FLT_MAX;
    SYNA_TRY(choose(s));
    for (size_t q = 0; q < s->count; q++)
        topk_init(&s->tops[q], (size_t)MIN(s->how.k, s->matches), limit);
    s->explain.recall = 1;
    s->explain.matches = s->matches;
    syna_rc rc = s->matches > 0 ? rank_by(s) : SYNA_SUCCESS;
    for (size_t q = 0; rc == SYNA_SUCCESS && q < s->count; q++)
        topk_sort(&s->tops[q]);
    return rc == SYNA_SUCCESS ? vectors_damage(store) : rc;
}

/* ---------------------------------------------------------------- the result */

/* A key lies where its row was logged, two cache misses from its number: while one query's keys are
 * measured those of the next arrive, and the places of the one after that. */
static void ask_for_keys(const struct searching *s, size_t q)
{
    for (size_t i = 0; q + 2 < s->count && i < s->tops[q + 2].count; i++)
        vectors_prefetch_place(s->store, s->tops[q + 2].items[i].row);
    for (size_t i = 0; q + 1 < s->count && i < s->tops[q + 1].count; i++)
        vectors_prefetch_key(s->store, s->tops[q + 1].items[i].row);
}

static syna_rc collect_hits(const struct searching *s, syna_hit **hits, size_t *counts)
{
    const syna_vectors *store = s->store;
    size_t total = 0, text_bytes = 0;
    for (size_t q = 0; q < s->count; q++) {
        ask_for_keys(s, q);
        total += s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            text_bytes += vectors_hit_text_bytes(store, s->tops[q].items[i].row, s->how.flags);
    }
    struct hit_writer w;
    SYNA_TRY(hit_writer_begin(&w, store, s->how.flags, total, text_bytes));
    for (size_t q = 0; q < s->count; q++) {
        counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            hit_writer_add(&w, s->tops[q].items[i].row,
                           score_final(vectors_metric(store), s->tops[q].items[i].rank));
    }
    *hits = w.hits;
    return SYNA_SUCCESS;
}

static syna_rc search_locked(struct searching *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    syna_vectors *store = (syna_vectors *)(uintptr_t)s->store;
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, "query", dims);
    if (rc == SYNA_SUCCESS)
        rc = rank_rows(s);
    if (rc == SYNA_SUCCESS)
        rc = collect_hits(s, hits, counts);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
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
    syna_rc rc = s.tops ? search_locked(&s, dims, hits, counts) : syna_no_memory(count * sizeof *s.tops);
    for (size_t q = 0; s.tops && q < count; q++)
        topk_dispose(&s.tops[q]);
    mem_free(s.tops);
    choice_release(s.choice);
    if (graph_damaged(store))
        absorber_wake(store); /* it builds another */
    if (rc == SYNA_SUCCESS && s.how.explain) {
        s.explain.size = s.how.explain->size;
        memcpy(s.how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return rc;
}
