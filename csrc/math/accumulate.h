/* Score accumulators of a window of rows: 16 bits each, in units that a search chooses so that no sum of
 * its lists overflows. */
#ifndef SYNA_MATH_ACCUMULATE_H
#define SYNA_MATH_ACCUMULATE_H

#include "base/internal.h"

#define ACCUMULATE_ROWS 65536u /* accumulators of a window */
#define ACCUMULATE_BLOCK 64u
#define ACCUMULATE_GROUP 8u /* rows that share a bound */

/* For each posting: sums[id] += codes * factor / 256, rounded down, plus 1: at least codes * factor / 256
 * without rounding. `sums` has ACCUMULATE_ROWS items, so any id is in bounds. */
void accumulate_add(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
                    uint32_t factor);

/* The sums that are `limit` or more, as sum << 16 | id, by id, at most `room` of them, among `count` sums, a
 * multiple of ACCUMULATE_BLOCK; limit is 1 at least. Returns how many. */
size_t accumulate_collect(const uint16_t *sums, size_t count, uint16_t limit, uint32_t *out,
                          size_t room);

/* Bounds of groups of ACCUMULATE_GROUP rows, in the unit of the sums: add (or take back) what a list can add
 * to any row of a group, given the largest code of each. `groups` is a multiple of ACCUMULATE_GROUP. */
void accumulate_raise(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor);
void accumulate_lower(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor);

/* As accumulate_collect, of sums to which their group's bound is added. No such sum exceeds 65,535. */
size_t accumulate_collect_bounded(const uint16_t *sums, const uint16_t *bounds, size_t count,
                                  uint16_t limit, uint32_t *out, size_t room);

/* The largest sum of each block. */
void accumulate_maxima(const uint16_t *sums, size_t count, uint16_t *out);

#endif
