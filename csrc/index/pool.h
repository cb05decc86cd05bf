/* Sorted lists of the nearest rows that a search over a graph has seen. */
#ifndef SYNA_INDEX_POOL_H
#define SYNA_INDEX_POOL_H

#include "base/internal.h"

/* A row on the way, nearest first in every list of them: by key, then by row. */
struct candidate {
    int32_t key; /* codes_many: smaller is nearer */
    uint32_t row;
};
#define FOLLOWED 0x80000000u /* in candidate.row of a walk's pool: its links were followed */

/* The order as a number; FOLLOWED does not matter for it. */
static inline int64_t candidate_order(struct candidate c)
{
    return (int64_t)((uint64_t)(uint32_t)c.key << 32 | (c.row & ~FOLLOWED));
}
static inline bool candidate_before(struct candidate a, struct candidate b)
{
    return candidate_order(a) < candidate_order(b);
}

/* Where a number stands among the orders of a list: so many are below it. Without branches, which no
 * processor could foresee here. */
static inline uint32_t list_place(const struct candidate *list, uint32_t count, int64_t order)
{
    const struct candidate *from = list;
    if (count == 0)
        return 0;
    for (uint32_t n = count; n > 1;) {
        uint32_t half = n / 2;
        from += candidate_order(from[half - 1]) < order ? half : 0;
        n -= half;
    }
    return (uint32_t)(from - list) + (candidate_order(*from) < order);
}

/* Put c into a sorted list of at most `cap`, of which `count` are there. Returns its place, `cap` when
 * it is not among the nearest. */
static inline uint32_t list_put(struct candidate *list, uint32_t *count, uint32_t cap, struct candidate c)
{
    int64_t order = candidate_order(c);
    if (*count == cap && order >= candidate_order(list[cap - 1]))
        return cap;
    uint32_t last = MIN(*count, cap - 1), at = list_place(list, last, order);
    memmove(list + at + 1, list + at, (last - at) * sizeof *list);
    list[at] = c;
    *count = last + 1;
    return at;
}

#endif
