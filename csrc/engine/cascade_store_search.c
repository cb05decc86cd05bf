/* cascade_store_search.c - which way a search of a cascade index takes.
 *
 *   no index yet, few rows match     every matching row is scored
 *   exact by wish, or cheaper so     every code is looked at, and the rows that could matter are scored
 *   otherwise                        hash, buckets and graph; and all rows that are not linked yet
 *
 * How wide the walk is follows from the recall that is wanted, as it was measured. A search that comes home
 * with fewer rows than there are, because they are dead or filtered out, looks at every code. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

#include <math.h>

#define EXACT_SHARE 4u   /* asking for a quarter of the rows: looking at all of them is as quick */
#define DIRECT_ROWS 512u /* so few matches are always scored */
#define HOP_CODES 16u    /* codes that a step of the walk costs, with what else it does */

struct searching {
    struct row_search base;
    struct cascade *index;
    struct row_set set;
    uint32_t nprobe, ef;
    syna_buckets_explain explain;
};

/* ---------------------------------------------------------------- the way */

enum way { SCORE_ALL, ALL_CODES, WALK };

/* The width of the walk; 0 = every code is looked at. */
static uint32_t width(struct searching *s)
{
    const struct cascade *index = s->index;
    uint32_t k = (uint32_t)MIN(s->base.k, (uint64_t)CASCADE_EF_MAX);
    if (s->ef > 0 && s->base.recall <= 0) {
        s->explain.recall = cascade_recall_at(index, k, s->ef);
        return MAX(s->ef, k);
    }
    float recall = s->base.recall > 0 ? s->base.recall : buckets_of(s->base.store)->recall;
    return cascade_ef_for(index, k, recall, &s->explain.recall);
}

/* Rows that are dead or filtered out take places in the walk: it has to be so much wider. */
static enum way choose_way(struct searching *s, uint32_t *ef)
{
    const struct cascade *index = s->index;
    *ef = 0;
    if (index->linked == 0 || s->base.matches <= DIRECT_ROWS)
        return SCORE_ALL;
    if (row_search_is_exact(&s->base) || s->base.k > s->base.matches / EXACT_SHARE)
        return ALL_CODES;
    uint64_t wanted = width(s);
    uint64_t stones = index->linked - buckets_of(s->base.store)->dead_before;
    wanted = (wanted * stones + s->base.matches - 1) / s->base.matches;
    if (wanted == 0 || wanted > CASCADE_EF_MAX ||
        (s->base.matches < s->base.store->rows.live && wanted * HOP_CODES > s->base.matches))
        return ALL_CODES;
    *ef = (uint32_t)wanted;
    return WALK;
}

static syna_rc look_at_all(struct searching *s)
{
    uint32_t linked = s->index->linked;
    s->explain.plan = SYNA_PLAN_EXACT;
    s->explain.recall = 1;
    s->explain.codes += linked * (uint64_t)s->base.count;
    SYNA_TRY(exact_search(&s->set, 0, linked, s->base.chosen, s->base.queries, s->base.count, s->base.tops,
                          &s->explain.full));
    return row_search_score(&s->base, linked);
}

static syna_rc walk_all(struct searching *s, uint32_t ef)
{
    const syna_buckets *store = buckets_of(s->base.store);
    struct cascade *index = s->index; /* whose scratch has a lock */
    struct cascade_visits visits = {0};
    bool all = s->base.matches == store->base.rows.live &&
               index->filed + store->dead_before == index->linked;
    for (size_t q = 0; q < s->base.count; q++) {
        const float *vector = s->base.queries + q * store->base.dims;
        struct cascade_query query = {.vector = vector,
                                      .norm = vector_norm(store->base.kernels, vector, store->base.dims),
                                      .ef = ef,
                                      .probes =
                                          s->nprobe ? s->nprobe : store->params.probes,
                                      .chosen = all ? NULL : s->base.chosen,
                                      .without = CASCADE_NONE};
        SYNA_TRY(cascade_search(index, &s->set, &query, &s->base.tops[q], &visits));
    }
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = ef;
    s->explain.buckets += visits.buckets;
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return row_search_score(&s->base, index->linked);
}

/* ---------------------------------------------------------------- the search */

static syna_rc rank_rows(struct searching *s)
{
    struct row_search *base = &s->base;
    uint32_t ef;
    enum way way = choose_way(s, &ef);
    if (way == SCORE_ALL) {
        s->explain.plan = SYNA_PLAN_SCAN;
        s->explain.recall = 1;
        return row_search_score(base, 0);
    }
    if (way == ALL_CODES)
        return look_at_all(s);
    SYNA_TRY(walk_all(s, ef));
    if (row_search_is_complete(base))
        return SYNA_SUCCESS;
    row_search_start(base);
    return look_at_all(s);
}

static syna_rc rank_and_tell(struct row_search *base)
{
    struct searching *s = (struct searching *)(void *)base;
    syna_buckets *store = buckets_of(base->store);
    s->index = &store->index;
    cascade_store_row_set(store, &base->reader, &s->set);
    SYNA_TRY(rank_rows(s));
    s->explain.full += base->scored;
    s->explain.buckets_there = s->index->leaf_count;
    s->explain.matches = base->matches;
    s->explain.total = base->store->rows.live;
    return SYNA_SUCCESS;
}

static syna_rc take_how(const syna_buckets_search_options *given, syna_buckets_search_options *how)
{
    *how = (syna_buckets_search_options){0};
    if (given->size < offsetof(syna_buckets_search_options, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_buckets_search_options.size is %u, expected %zu", given->size,
                         sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->nprobe > CASCADE_PROBES_MAX || how->ef_search > CASCADE_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%u probes and an ef_search of %u, expected at most %u and %u",
                         how->nprobe, how->ef_search, CASCADE_PROBES_MAX, CASCADE_EF_MAX);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_search(syna_buckets *store, const float *queries, size_t count, uint32_t dims,
                             const syna_buckets_search_options *given, syna_hit **hits,
                             size_t *counts)
{
    syna_buckets_search_options how;
    SYNA_TRY(take_how(given, &how));
    struct searching s = {.base = {.store = &store->base,
                                   .queries = queries,
                                   .count = count,
                                   .k = how.k,
                                   .flags = how.flags,
                                   .radius = how.radius,
                                   .recall = how.recall,
                                   .filter_json = how.filter,
                                   .filter_len = how.filter_len,
                                   .rank = rank_and_tell},
                          .nprobe = how.nprobe,
                          .ef = how.ef_search};
    SYNA_TRY(row_search_run(&s.base, dims, hits, counts));
    if (how.explain) {
        s.explain.size = how.explain->size;
        memcpy(how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return SYNA_SUCCESS;
}
