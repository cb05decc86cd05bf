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

/* Matches that are spread over the lists are found farther away. */
static uint32_t lists_wanted(const struct searching *s)
{
    const struct row_search *base = &s->base;
    const struct partition *part = s->part;
    uint64_t live = base->store->rows.live;
    if (row_search_is_exact(base) || live <= GWI_SMALL)
        return part->count;
    uint32_t lists = base->recall > 0 ? partition_lists_for(part, base->k, base->recall)
                                      : partition_lists_of(part, s->nprobe);
    if (base->matches < live)
        lists = (uint32_t)MIN(ceil(lists * sqrt((double)live / (double)MAX(base->matches, 1u))),
                              part->count);
    return lists;
}

static bool lists_pay(const struct searching *s, uint32_t lists)
{
    const struct row_search *base = &s->base;
    const struct partition *part = s->part;
    if (!partition_trained(part) || part->rows == 0 || base->k > base->matches / EXACT_SHARE)
        return false;
    if (base->matches == base->store->rows.live)
        return true;
    uint64_t codes = (uint64_t)part->entries * lists / part->count;
    return base->matches > DIRECT_ROWS && base->matches * DIRECT_COST > codes;
}

static syna_rc search_lists(struct searching *s, uint32_t lists)
{
    struct row_search *base = &s->base;
    const struct partition *part = s->part;
    struct partition_visits visits = {0};
    struct partition_reach reach = {.lists = lists, .exact = lists == part->count};
    if (base->recall <= 0 && base->matches == base->store->rows.live)
        reach.codes = partition_codes_of(part, s->nprobe, lists);
    SYNA_TRY(partition_search(part, &s->set, base->queries, base->count, &reach, base->chosen,
                              base->tops, &visits));
    s->explain.lists += visits.lists;
    s->explain.rows += visits.codes;
    s->explain.full += visits.full;
    s->explain.exact = lists == part->count;
    s->explain.recall = s->explain.exact ? 1 : partition_recall_at(part, base->k, lists);
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
    uint32_t lists = lists_wanted(s);
    if (!lists_pay(s, lists)) {
        s->explain.exact = 1;
        s->explain.recall = 1;
        return row_search_score(base, 0);
    }
    SYNA_TRY(search_lists(s, lists));
    if (lists == s->part->count || row_search_is_complete(base))
        return SYNA_SUCCESS;
    row_search_start(base);
    return search_lists(s, s->part->count);
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
