/* vectors_filter.c - the nearest of the rows that a filter chooses.
 *
 * When few rows match, their codes are compared one after the other: exact, and the cost is the matches.
 * When many do, a walk through the graph is shorter, one that compares only what matches
 * (index/hnsw_filtered.h). It need not be told how the filter goes together with the query: a walk that
 * does not come by enough rows, or compares more codes than there are matches, is given up, and all of these
 * are compared after all. */
#include "base/internal.h"

#include "engine/vectors_search.h"
#include "index/hnsw_filtered.h"

#define WALK_LEAST 512u  /* codes that can be compared in a row while a walk begins and ends */
#define WALK_COST 100u   /* and while it takes one of its `ef` steps */
#define FULL_COST 8u     /* a full row takes as long as so many codes; bits rule none out (codes_bits.c) */
#define WIDEN_LEAST 4u   /* candidates more when few rows match, and half as many again */

/* Candidates to keep. The links among some rows are not as well chosen as those among all, the less so
 * the fewer they are and the more they lie together: measured on the sections of real texts. */
static uint32_t widened(const struct searching *s)
{
    uint64_t ef = vectors_search_ef(s), live = s->store->live_count;
    return (uint32_t)MIN(ef + (ef / 2 + WIDEN_LEAST) * (live - s->matches) / live, (uint64_t)HNSW_EF_MAX);
}

/* Does looking at all matches cost less than a walk? Many queries at once could look at more of them, but
 * are to find what they find one by one. */
static bool few(const struct searching *s, uint32_t ef)
{
    uint64_t rows = WALK_LEAST + (uint64_t)ef * WALK_COST;
    return s->matches < (s->store->set.codes.bits ? rows / FULL_COST : rows);
}

static syna_rc search_one(struct searching *s, size_t q, uint32_t ef, struct hnsw_visits *visits)
{
    const struct row_set *set = &s->store->set;
    struct hnsw *graph = (struct hnsw *)(uintptr_t)&s->store->graph; /* its scratch has a lock of its own */
    const float *query = s->queries + q * set->codes.dims;
    struct hnsw_query hq = {query, vector_norm(set->kernels, query, set->codes.dims), ef, s->chosen};
    bool found;
    SYNA_TRY(hnsw_search_chosen(graph, set, &hq, s->matches, &s->tops[q], visits, &found));
    if (!found)
        return vectors_search_exact(s, 0, q, 1);
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = ef;
    return vectors_search_exact(s, graph->linked, q, 1);
}

syna_rc vectors_search_filtered(struct searching *s)
{
    struct hnsw_visits visits = {0};
    uint32_t ef = widened(s);
    s->explain.plan = SYNA_PLAN_EXACT;
    if (few(s, ef) || !hnsw_check((struct hnsw *)(uintptr_t)&s->store->graph, NULL))
        return vectors_search_exact(s, 0, 0, s->count);
    for (size_t q = 0; q < s->count; q++)
        SYNA_TRY(search_one(s, q, ef, &visits));
    if (s->explain.plan == SYNA_PLAN_GRAPH)
        s->explain.recall = hnsw_recall_at(&s->store->graph, (uint32_t)s->how.k, vectors_search_ef(s));
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return SYNA_SUCCESS;
}
