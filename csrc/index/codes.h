/* Rows as 8-bit codes: a quarter of the bytes of float32, so that scans and graph walks read a quarter
 * of the memory. A code is good enough to choose candidates and to bound a distance from both sides;
 * scores that leave the library always come from the full rows.
 *
 *   cosine       the row divided by its length, element = step * (code - 128), codes 1..255
 *   dot product  the row as it is, element = step * (code - 128)
 *   euclidean    element = low + step * code, codes 0..127, so that squared differences need no
 *                per-row term and a code is both a valid signed and unsigned byte
 *
 * or, when that is asked for, as codes of one bit a dimension, a thirty-second (codes_bits.c): candidates
 * are chosen more coarsely, so more of them are wanted, and no distance is bounded.
 *
 * step is chosen so that the 99.95th percentile of the elements is representable, and under cosine and
 * dot product what lies up to 1.3 times as far; elements beyond are clipped, which shows in the row's
 * error. Code rows are `stride` bytes: dims rounded up to 64, the
 * rest filled with the code that contributes nothing.
 *
 * Longer ones may be split (codes_split): their first half has the upper four bits of all elements, the second
 * the lower ones (math/int8.h). Whoever compares coarsely reads half of the memory; everything else gives the
 * same numbers as for rows that are not split. */
#ifndef SYNA_INDEX_CODES_H
#define SYNA_INDEX_CODES_H

#include "base/status.h"
#include "math/distance.h"

struct array;

struct codes {
    int32_t metric; /* SYNA_METRIC_* */
    uint32_t dims;
    uint32_t stride; /* bytes from code row to code row, a multiple of 64 */
    float step;      /* 0 = not trained */
    float low;       /* euclidean only */
    bool split;      /* rows have the upper and the lower halves of their elements apart */
    bool bits;       /* one bit a dimension; step is the typical size of an element */
    float *centre;   /* of bits: the mean of each dimension, once trained (codes_dispose) */
};

/* A query in the form that the kernels take, and the factors that turn their integer back into a
 * distance: rank ~ scale * (double)integer + offset, of the kind that score_rank gives. The integer
 * itself is smaller for nearer rows in both forms, so it can be compared as it is. */
struct code_query {
    uint8_t *bytes;    /* stride of them, 64-byte aligned: signed for cosine and dot, codes for euclidean */
    int32_t base;      /* added to the kernel's sum */
    float scale, offset;
    float error;       /* length of (query - its code), in the units of the rows' errors */
    float norm;        /* length of the query, as its code represents it */
    uint32_t planes;   /* of bits */
};

void codes_init(struct codes *codes, uint32_t dims, int32_t metric);
void codes_init_bits(struct codes *codes, uint32_t dims, int32_t metric);
/* Rows are split from now on, if they are so long that half of one is fewer cache lines by two or more and not
 * of bits. Before the first row is encoded. */
void codes_split(struct codes *codes);
void codes_dispose(struct codes *codes);

/* Choose step (and low) from `count` >= 1 rows; row(context, i) is the i-th of them. Deterministic. */
syna_rc codes_train(struct codes *codes, size_t count,
                    const float *(*row)(void *context, size_t i), void *context);

/* Encode a row into `stride` bytes. Returns the length of what the code leaves out, |x - code(x)|, of
 * the normalised row under cosine: the e(x) of codes_bounds; INFINITY for bits. */
float codes_encode(const struct codes *codes, const struct kernels *kernels, const float *row,
                   uint8_t *out);

/* `room` is codes_room bytes (`stride`, but of bits) aligned to 64, which the query keeps. */
size_t codes_room(const struct codes *codes);
void codes_query(const struct codes *codes, const struct kernels *kernels, const float *query,
                 uint8_t *room, struct code_query *out);
/* A stored code row as a query, for distances between rows, not for bounds: `norm` is not set. Its room is
 * `stride` bytes. */
void codes_query_row(const struct codes *codes, const uint8_t *row, uint8_t *room,
                     struct code_query *out);

/* Integers for `count` rows: int32, smaller is nearer, comparable within one query. */
void codes_many(const struct codes *codes, const struct kernels *kernels,
                const struct code_query *query, const uint8_t *const *rows, size_t count,
                int32_t *out);
/* Of split rows, the lower halves of whose elements are taken for what is in their middle. */
void codes_coarse_many(const struct codes *codes, const struct kernels *kernels,
                       const struct code_query *query, const uint8_t *const *rows, size_t count,
                       int32_t *out);
/* Rows that are not split (of elements, in their order): `rows` themselves or, where they are split, copies
 * in `room`, which has `count` of them; `out` has as many pointers. */
const uint8_t *const *codes_whole(const struct codes *codes, const struct kernels *kernels,
                                  const uint8_t *const *rows, size_t count, uint8_t *room,
                                  const uint8_t **out);
/* A row that is not split becomes one that is, if the codes are. Another place. */
void codes_split_row(const struct codes *codes, const uint8_t *row, uint8_t *out);
/* The same for `count` rows, into memory of their own with address space for `max`. When it fails, nothing
 * has changed. */
syna_rc codes_split_rows(const struct codes *codes, struct array *rows, uint32_t count, size_t max);
/* The same as codes_many for `count` rows that stand one after the other. */
void codes_scan(const struct codes *codes, const struct kernels *kernels,
                const struct code_query *query, const uint8_t *rows, size_t count, int32_t *out);

/* All pairs: out[i * out_stride + j] = the integer that codes_many gives for b[j] when a[i] is the query
 * (codes_query_row), base included. `scratch` has codes_tile_scratch(codes, na, nb) bytes. */
size_t codes_tile_scratch(const struct codes *codes, size_t na, size_t nb);
void codes_tile(const struct codes *codes, const struct kernels *kernels, const uint8_t *const *a,
                size_t na, const uint8_t *const *b, size_t nb, int32_t *out, size_t out_stride,
                void *scratch);

/* The approximate rank of an integer, and the interval that the exact rank is certain to lie in.
 * error: the row's, from codes_encode. norm: the row's length (dot product; others ignore it). */
static inline float codes_rank(const struct code_query *q, int32_t integer)
{
    return q->scale * (float)integer + q->offset;
}
void codes_bounds(const struct codes *codes, const struct code_query *q, int32_t integer,
                  float error, float norm, float *lowest, float *highest);
/* The same turned round: rows with at most this error and length whose lowest bound does not exceed
 * `rank` have integers up to codes_limit (others may, too). INT32_MAX when nothing is certain. What
 * depends on the query and the rank is prepared once. */
struct code_limit {
    double base, by_error, by_norm; /* base + by_error * error + by_norm * norm */
    double norm_max;                /* rows up to this length; negative: nothing is certain */
    bool squared;
};
void codes_limit_init(struct code_limit *limit, const struct codes *codes, const struct code_query *q,
                      float rank);
static inline int32_t codes_limit(const struct code_limit *limit, float error, float norm)
{
    double x = limit->base + limit->by_error * (double)error + limit->by_norm * (double)norm;
    x = limit->squared ? x * x : x;
    if (!((double)norm <= limit->norm_max && x < (double)INT32_MAX - 2))
        return INT32_MAX;
    return x <= (double)INT32_MIN ? INT32_MIN : (int32_t)x + 1; /* not below x */
}

#endif
