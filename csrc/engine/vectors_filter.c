/* vectors_filter.c - which rows a filter chooses, and the nearest of them.
 *
 * When few rows match, their codes are compared one after the other: exact, and the cost is the matches.
 * When many do, a walk through the graph is shorter; it goes over all rows and keeps those that match.
 * To come by as many of them as a walk without a filter keeps, it has to keep more rows, by the share
 * that matches near the query, and that share may be far from the share in the store (the section of a
 * text and its meaning go together). So it is measured for every query: among the few dozen nearest rows
 * of a short walk without the filter. Where it is small the matches are searched exactly. */
#include "base/internal.h"

#include "engine/vectors_search.h"

#include <float.h>

#define PILOT_ROWS 48u   /* nearest rows that are looked at for the share that matches */
#define PILOT_LEAST 3u   /* fewer matches among them: the walk would not come by them */
#define WALK_COST 24u    /* codes that can be compared in a row in the time that one candidate takes */

syna_rc vectors_select(const syna_vectors *store, const struct filter *filter, uint64_t **bits,
                       uint64_t *matches)
{
    size_t bytes = (store->set.count / 64 + 1) * sizeof **bits;
    *bits = mem_zalloc(bytes);
    *matches = 0;
    if (!*bits)
        return syna_no_memory(bytes);
    if (store->set.count == 0)
        return SYNA_SUCCESS;
    syna_rc rc = meta_select(store->meta, filter, store->set.count, vectors_live_bits(store), *bits,
                             matches);
    if (rc != SYNA_SUCCESS) {
        mem_free(*bits);
        *bits = NULL;
    }
    return rc;
}

static struct hnsw *graph_of(const struct searching *s)
{
    return (struct hnsw *)(uintptr_t)&s->store->graph; /* its scratch has a lock of its own */
}

/* How many of the nearest PILOT_ROWS rows match. */
static syna_rc matches_nearby(struct searching *s, const struct hnsw_query *query,
                              struct hnsw_visits *visits, uint32_t *count)
{
    struct topk nearest;
    struct hnsw_query all = *query;
    all.ef = PILOT_ROWS;
    all.chosen = NULL;
    topk_init(&nearest, PILOT_ROWS, FLT_MAX);
    syna_rc rc = hnsw_search(graph_of(s), &s->store->set, &all, &nearest, visits);
    *count = 0;
    for (size_t i = 0; i < nearest.count; i++)
        *count += s->chosen[nearest.items[i].row / 64] >> nearest.items[i].row % 64 & 1;
    topk_dispose(&nearest);
    return rc;
}

/* Candidates to keep so that as many as usual match; 0: looking at all matches costs less. */
static uint64_t widened(const struct searching *s, uint32_t nearby)
{
    uint64_t ef = (uint64_t)vectors_search_ef(s) * PILOT_ROWS / MAX(nearby, 1u);
    if (nearby < PILOT_LEAST || ef > HNSW_EF_MAX || ef * WALK_COST > s->matches)
        return 0;
    return ef;
}

static syna_rc search_one(struct searching *s, size_t q, struct hnsw_visits *visits)
{
    const struct row_set *set = &s->store->set;
    const float *query = s->queries + q * set->codes.dims;
    struct hnsw_query hq = {query, vector_norm(set->kernels, query, set->codes.dims), 0, s->chosen};
    uint32_t nearby;
    SYNA_TRY(matches_nearby(s, &hq, visits, &nearby));
    hq.ef = (uint32_t)widened(s, nearby);
    if (hq.ef > 0) {
        s->explain.plan = SYNA_PLAN_GRAPH;
        s->explain.ef = MAX(s->explain.ef, hq.ef);
        SYNA_TRY(hnsw_search(graph_of(s), set, &hq, &s->tops[q], visits));
        SYNA_TRY(vectors_search_exact(s, s->store->graph.linked, q, 1));
        if (s->tops[q].count >= MIN(s->how.k, s->matches))
            return SYNA_SUCCESS;
        s->tops[q].count = 0;
    }
    return vectors_search_exact(s, 0, q, 1);
}

syna_rc vectors_search_filtered(struct searching *s)
{
    struct hnsw_visits visits = {0};
    uint32_t ef = vectors_search_ef(s);
    s->explain.plan = SYNA_PLAN_EXACT;
    if ((uint64_t)ef * WALK_COST > s->matches) /* no walk can be shorter */
        return vectors_search_exact(s, 0, 0, s->count);
    for (size_t q = 0; q < s->count; q++)
        SYNA_TRY(search_one(s, q, &visits));
    if (s->explain.plan == SYNA_PLAN_GRAPH)
        s->explain.recall = hnsw_recall_at(&s->store->graph, (uint32_t)s->how.k, ef);
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return SYNA_SUCCESS;
}
