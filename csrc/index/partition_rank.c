/* partition_rank.c - which lists are nearest to a query.
 *
 * Wells stand in groups of near ones (partition_groups.c). A query that is to look into few lists is
 * compared with the centres of the groups, then with the centroids of the nearest groups alone, until
 * these are a quarter of all, or half of them. Which of that loses hardly anything depends on how well the
 * rows fall into groups, and is measured (partition_recall.c). */
#include "base/internal.h"

#include "index/partition_core.h"

#define BUCKETS 1024u

bool partition_ranking_init(struct well_ranking *r, uint32_t wells)
{
    r->count = 0;
    r->keys = mem_alloc(wells * sizeof *r->keys);
    r->wells = mem_alloc(wells * sizeof *r->wells);
    r->order = mem_alloc(wells * sizeof *r->order);
    return r->keys && r->wells && r->order;
}

void partition_ranking_dispose(struct well_ranking *r)
{
    mem_free(r->keys);
    mem_free(r->wells);
    mem_free(r->order);
    *r = (struct well_ranking){.count = 0};
}

/* ---------------------------------------------------------------- order */

void partition_sort(const int32_t *keys, uint32_t *places, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint32_t place = places[i], at = i;
        for (; at > 0 && (keys[places[at - 1]] > keys[place] ||
                          (keys[places[at - 1]] == keys[place] && places[at - 1] > place));
             at--)
            places[at] = places[at - 1];
        places[at] = place;
    }
}

static uint32_t bucket_of(int32_t key, int32_t least, unsigned shift)
{
    return (uint32_t)(((int64_t)key - least) >> shift);
}

/* By counting into buckets; only the bucket that is cut through is sorted. */
void partition_rank(const int32_t *keys, uint32_t count, uint32_t probes, uint32_t *out)
{
    uint32_t ends[BUCKETS] = {0}, last = 0, placed = 0;
    int32_t least = keys[0], most = keys[0];
    for (uint32_t i = 1; i < count; i++) {
        least = MIN(least, keys[i]);
        most = MAX(most, keys[i]);
    }
    unsigned shift = 0;
    while (bucket_of(most, least, shift) >= BUCKETS)
        shift++;
    for (uint32_t i = 0; i < count; i++)
        ends[bucket_of(keys[i], least, shift)]++;
    while (placed + ends[last] < probes)
        placed += ends[last++];
    uint32_t start = placed, in_last = 0;
    for (uint32_t b = 0, at = 0; b < last; b++) {
        uint32_t some = ends[b];
        ends[b] = at;
        at += some;
    }
    /* The last bucket may hold more than are wanted: it keeps the best of them sorted. */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t b = bucket_of(keys[i], least, shift);
        if (b < last)
            out[ends[b]++] = i;
        else if (b == last)
            out[start + in_last++] = i; /* `out` has room for all */
    }
    partition_sort(keys, out + start, in_last);
}

uint32_t partition_within(const struct partition *p, const uint32_t *lists, uint32_t count,
                          uint64_t most)
{
    uint64_t rows = well_rows(&p->wells[lists[0]]);
    uint32_t taken = 1;
    while (taken < count && (rows += well_rows(&p->wells[lists[taken]])) <= most)
        taken++;
    return taken;
}

/* ---------------------------------------------------------------- comparing */

static void compare(const struct partition *p, const struct kernels *kernels,
                    const struct code_query *query, uint32_t first, uint32_t end, struct well_ranking *r)
{
    codes_scan(&p->codes, kernels, query, partition_centroid(p, first), end - first, r->keys + r->count);
    for (uint32_t w = first; w < end; w++)
        r->wells[r->count++] = w;
}

/* The nearest groups, so many that they have enough wells, in the order of their numbers. */
static uint32_t choose_groups(const struct partition *p, const struct kernels *kernels,
                              const struct code_query *query, uint32_t share, uint32_t *chosen)
{
    const struct well_groups *g = &p->groups;
    int32_t keys[PARTITION_GROUPS_MAX];
    uint32_t order[PARTITION_GROUPS_MAX], count = 0, wells = 0;
    codes_scan(&p->codes, kernels, query, g->centers, g->count, keys);
    partition_rank(keys, g->count, g->count, order);
    do {
        uint32_t group = order[count++];
        wells += g->starts[group + 1] - g->starts[group];
    } while (wells < g->starts[g->count] / share);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && chosen[at - 1] > order[i]; at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = order[i];
    }
    return count;
}

void partition_compare_near(const struct partition *p, const struct kernels *kernels,
                            const struct code_query *query, uint32_t share, struct well_ranking *r)
{
    uint32_t chosen[PARTITION_GROUPS_MAX];
    r->count = 0;
    if (p->groups.count == 0 || share <= 1) {
        compare(p, kernels, query, 0, p->count, r);
        return;
    }
    uint32_t count = choose_groups(p, kernels, query, share, chosen);
    for (uint32_t i = 0; i < count; i++)
        compare(p, kernels, query, p->groups.starts[chosen[i]], p->groups.starts[chosen[i] + 1], r);
    compare(p, kernels, query, p->groups.starts[p->groups.count], p->count, r); /* splits made them */
}

void partition_rank_near(const struct partition *p, const struct kernels *kernels,
                         const struct code_query *query, uint32_t probes, struct well_ranking *r)
{
    uint32_t share = probes > partition_near_most(p) ? 1 : p->groups.share;
    partition_compare_near(p, kernels, query, share, r);
    partition_rank(r->keys, r->count, probes, r->order);
}

void partition_ranked_wells(const struct well_ranking *r, uint32_t count, uint32_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = r->wells[r->order[i]];
}
