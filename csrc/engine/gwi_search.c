/* gwi_search.c - which way a search of a gravity well index takes.
 *
 *   no lists yet, k close to all rows, few rows match   every matching row is scored
 *   otherwise                                           the nearest lists, and all fresh rows
 *
 * A search that comes home with fewer rows than there are, because they are dead or filtered out, looks
 * into all lists. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#include <math.h>

#define EXACT_SHARE 4u   /* asking for a quarter of the rows: scoring all of them is as quick */
#define DIRECT_ROWS 256u /* so few matches are always scored */
#define DIRECT_COST 6u   /* codes that cost as much as a full row */

struct searching {
    struct row_search base;
    const struct partition *part;
    struct row_set set;
    size_t nprobe;
    syna_wells_explain explain;
};

/* ---------------------------------------------------------------- lists */

static void reach_all(const struct searching *s, struct partition_reach *reach)
{
    *reach = (struct partition_reach){.lists = s->part->count, .exact = true};
}

/* Matches that are spread over the lists are found farther away. */
static void reach_wanted(const struct searching *s, struct partition_reach *reach)
{
    const struct row_search *base = &s->base;
    const struct partition *part = s->part;
    uint64_t live = base->store->rows.live;
    if (row_search_is_exact(base) || live <= GWI_SMALL) {
        reach_all(s, reach);
        return;
    }
    if (base->recall > 0)
        partition_reach_for(part, base->k, base->recall, reach);
    else
        *reach = (struct partition_reach){.lists = partition_lists_of(part, s->nprobe)};
    if (base->matches < live)
        partition_widen(reach, sqrt((double)live / (double)MAX(base->matches, 1u)), part->count);
    else if (base->recall <= 0)
        reach->codes = partition_codes_of(part, s->nprobe, reach->lists);
    if (partition_usual_lists(reach) == part->count)
        reach_all(s, reach);
}

static bool lists_pay(const struct searching *s, const struct partition_reach *reach)
{
    const struct row_search *base = &s->base;
    const struct partition *part = s->part;
    if (!partition_trained(part) || part->rows == 0 || base->k > base->matches / EXACT_SHARE)
        return false;
    if (base->matches == base->store->rows.live)
        return true;
    uint64_t codes = (uint64_t)part->entries * partition_usual_lists(reach) / part->count;
    return base->matches > DIRECT_ROWS && base->matches * DIRECT_COST > codes;
}

static syna_rc search_lists(struct searching *s, const struct partition_reach *reach)
{
    struct row_search *base = &s->base;
    const struct partition *part = s->part;
    struct partition_visits visits = {0};
    SYNA_TRY(partition_search(part, &s->set, base->queries, base->count, reach, base->chosen,
                              base->tops, &visits));
    s->explain.lists += visits.lists;
    s->explain.rows += visits.codes;
    s->explain.full += visits.full;
    s->explain.exact = reach->exact;
    s->explain.recall = reach->exact ? 1 : partition_recall_of(part, base->k, reach);
    return row_search_score(base, part->end);
}

/* ---------------------------------------------------------------- the search */

static void make_set(struct searching *s)
{
    const struct row_store *store = s->base.store;
    s->set = (struct row_set){.kernels = store->kernels,
                              .codes = s->part->codes,
                              .count = store->rows.count,
                              .norms = store->rows.norms,
                              .full = row_reader_row,
                              .context = &s->base.reader};
}

static syna_rc rank_rows(struct row_search *base)
{
    struct searching *s = (struct searching *)(void *)base;
    s->part = &gwi_of(base->store)->part;
    make_set(s);
    struct partition_reach reach;
    reach_wanted(s, &reach);
    if (!lists_pay(s, &reach)) {
        s->explain.exact = 1;
        s->explain.recall = 1;
        return row_search_score(base, 0);
    }
    SYNA_TRY(search_lists(s, &reach));
    if (reach.exact || row_search_is_complete(base))
        return SYNA_SUCCESS;
    row_search_start(base);
    reach_all(s, &reach);
    return search_lists(s, &reach);
}

static syna_rc rank_and_tell(struct row_search *base)
{
    struct searching *s = (struct searching *)(void *)base;
    SYNA_TRY(rank_rows(base));
    s->explain.full += base->scored;
    s->explain.rows += base->scored;
    s->explain.wells = s->part->count;
    s->explain.queries = base->count;
    s->explain.matches = base->matches;
    s->explain.total = base->store->rows.live;
    return SYNA_SUCCESS;
}

static syna_rc take_how(const syna_wells_search_options *given, syna_wells_search_options *how)
{
    *how = (syna_wells_search_options){0};
    if (given->size < offsetof(syna_wells_search_options, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_wells_search_options.size is %u, expected %zu", given->size,
                         sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->nprobe == 0)
        how->nprobe = SYNA_GWI_NPROBE;
    return SYNA_SUCCESS;
}

syna_rc gwi_search(syna_wells *store, const float *queries, size_t count, uint32_t dims,
                   const syna_wells_search_options *given, syna_hit **hits, size_t *counts)
{
    syna_wells_search_options how;
    SYNA_TRY(take_how(given, &how));
    gwi_measure_for_search(store);
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
                          .nprobe = how.nprobe};
    SYNA_TRY(row_search_run(&s.base, dims, hits, counts));
    if (how.explain) {
        s.explain.size = how.explain->size;
        memcpy(how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return SYNA_SUCCESS;
}
