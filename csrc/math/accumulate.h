/* Score accumulators of a window of rows: 16 bits each, in units that a search chooses so that no sum of
 * its lists overflows. */
#ifndef SYNA_MATH_ACCUMULATE_H
#define SYNA_MATH_ACCUMULATE_H

#include "base/internal.h"

#define ACCUMULATE_ROWS 65536u /* accumulators of a window */
#define ACCUMULATE_BLOCK 64u

/* For each posting: sums[id] += codes * factor / 256, rounded down, plus 1: at least codes * factor / 256
 * without rounding. `sums` has ACCUMULATE_ROWS items, so any id is in bounds. */
void accumulate_add(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
                    uint32_t factor);

/* How many of `count` sums, a multiple of ACCUMULATE_BLOCK, are `limit` or more; limit is 1 at least. */
size_t accumulate_count(const uint16_t *sums, size_t count, uint16_t limit);

/* Those sums as sum << 16 | id, by id, at most `room` of them. Returns how many. */
size_t accumulate_collect(const uint16_t *sums, size_t count, uint16_t limit, uint32_t *out,
                          size_t room);

/* The largest sum of each block. */
void accumulate_maxima(const uint16_t *sums, size_t count, uint16_t *out);

#endif
