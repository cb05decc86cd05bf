/* What searches of postings compute. Score accumulators of a window of rows: 16 bits each, in units that a
 * search chooses so that no sum of its lists overflows. Exact scores of single rows. Every level gives the
 * numbers of the plain one. */
#ifndef SYNA_MATH_ACCUMULATE_H
#define SYNA_MATH_ACCUMULATE_H

#include "base/internal.h"

#define ACCUMULATE_ROWS 65536u /* accumulators of a window */
#define ACCUMULATE_BLOCK 64u
#define ACCUMULATE_GROUP 8u /* rows that share a bound */

/* The terms of a query in a hash table: term * factor >> shift is the slot of a term, and no two share one. A
 * slot without a term has weight 0. */
struct query_slot {
    uint32_t term;
    float weight;
};
struct query_table {
    const struct query_slot *slots;
    uint32_t factor, shift;
    uint32_t filter[32]; /* the bit of a term of the query (query_bit) is 1; so may others be */
};
static inline uint32_t query_bit(const struct query_table *t, uint32_t term)
{
    return term * t->factor >> 22;
}

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

    /* The largest sum of every `block` sums, of which the last may be fewer; both numbers are multiples of
     * ACCUMULATE_BLOCK. */
    void (*maxima)(const uint16_t *sums, size_t count, size_t block, uint16_t *out);

    /* Block by block make sums 0, up to the end of the first block with some that are `limit` (1 at least) or more:
     * these go to `out`, as `collect` gives them, ACCUMULATE_BLOCK at most. Returns how many; *swept: the sums that
     * are 0 now, `count` when none is left. */
    size_t (*sweep)(uint16_t *sums, size_t count, uint16_t limit, uint32_t *out, size_t *swept);

    /* The dot product of a query with a row of `count` terms, each once, and their values (float, finite), at any
     * alignment: products in double precision, added up in the order of the row. */
    double (*dot)(const struct query_table *query, const uint8_t *terms, const uint8_t *values,
                  size_t count);
};

/* That of kernels_get (math/distance.h). */
const struct accumulate *accumulate_get(void);
/* "plain", "avx2", "avx512"; NULL when this machine has no such level. */
const struct accumulate *accumulate_find(const char *name);

/* Parts of the tables. */
extern const struct accumulate accumulate_plain;
double accumulate_dot(const struct query_table *query, const uint8_t *terms, const uint8_t *values,
                      size_t count);
#if defined(__x86_64__)
extern const struct accumulate accumulate_avx2, accumulate_avx512;
#endif

/* The terms that a row shares with a query, so many at a time, without a branch for the processor to guess:
 * what is not shared is written over by the next. */
#define SHARED_AT_ONCE 256u
struct shared_terms {
    float weights[SHARED_AT_ONCE], values[SHARED_AT_ONCE];
    size_t count;
};
static inline void shared_add(struct shared_terms *s, const struct query_table *query,
                              const uint8_t *terms, const uint8_t *values, size_t i)
{
    uint32_t term;
    memcpy(&term, terms + i * sizeof term, sizeof term);
    struct query_slot slot = query->slots[term * query->factor >> query->shift];
    s->weights[s->count] = slot.weight;
    memcpy(&s->values[s->count], values + i * sizeof(float), sizeof(float));
    s->count += slot.term == term; /* an empty slot has term 0, whose product is 0 */
}
static inline double shared_sum(const struct shared_terms *s, double sum)
{
    for (size_t i = 0; i < s->count; i++)
        sum += (double)s->weights[i] * (double)s->values[i];
    return sum;
}

/* As `add` for the postings that are left when a level has taken as many at a time as it can. */
static inline void accumulate_add_rest(uint16_t *sums, const uint16_t *ids, const uint8_t *codes,
                                       size_t count, uint32_t factor)
{
    for (size_t i = 0; i < count; i++)
        sums[ids[i]] = (uint16_t)(sums[ids[i]] + (codes[i] * factor >> 8) + 1);
}

#endif
