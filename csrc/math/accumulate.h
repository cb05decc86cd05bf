/* Score accumulators of a window of rows: 16 bits each, in units that a search chooses so that no sum of
 * its lists overflows. Every level gives the numbers of the plain one. */
#ifndef SYNA_MATH_ACCUMULATE_H
#define SYNA_MATH_ACCUMULATE_H

#include "base/internal.h"

#define ACCUMULATE_ROWS 65536u /* accumulators of a window */
#define ACCUMULATE_BLOCK 64u
#define ACCUMULATE_GROUP 8u /* rows that share a bound */

/* `factor` is 65,535 at most. What a code adds to a sum is codes * factor / 256, rounded down, plus 1: at
 * least codes * factor / 256 without rounding. */
struct accumulate {
    const char *name;

    /* For each posting, what its code adds, to sums[id]. `sums` has ACCUMULATE_ROWS items, so any id is
     * in bounds. */
    void (*add)(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
                uint32_t factor);

    /* Bounds of groups of ACCUMULATE_GROUP rows: add (or take back) what a list can add to any row of a
     * group, given the largest code of each, 0 for none. `groups` is a multiple of ACCUMULATE_GROUP. */
    void (*raise)(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor);
    void (*lower)(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor);

    /* The sums that are `limit` or more, the bound of their group added (bounds NULL: none is), as
     * sum << 16 | id, by id, at most `room` of them, among `count` sums, a multiple of ACCUMULATE_BLOCK.
     * limit is 1 at least; no sum with its bound exceeds 65,535. Returns how many. */
    size_t (*collect)(const uint16_t *sums, const uint16_t *bounds, size_t count, uint16_t limit,
                      uint32_t *out, size_t room);

    /* The largest sum of each block. */
    void (*maxima)(const uint16_t *sums, size_t count, uint16_t *out);
};

/* That of kernels_get (math/distance.h). */
const struct accumulate *accumulate_get(void);
/* "plain", "avx2", "avx512"; NULL when this machine has no such level. */
const struct accumulate *accumulate_find(const char *name);

/* Parts of the tables. */
extern const struct accumulate accumulate_plain;
#if defined(__x86_64__)
extern const struct accumulate accumulate_avx2, accumulate_avx512;
#endif

/* As `add` for the postings that are left when a level has taken as many at a time as it can. */
static inline void accumulate_add_rest(uint16_t *sums, const uint16_t *ids, const uint8_t *codes,
                                       size_t count, uint32_t factor)
{
    for (size_t i = 0; i < count; i++)
        sums[ids[i]] = (uint16_t)(sums[ids[i]] + (codes[i] * factor >> 8) + 1);
}

#endif
