/* Integer products and differences of 8-bit code rows: exact, so every level gives the same numbers.
 *
 *   product      sum of (row[i] - 128) * query[i]; rows 0..255, queries -127..127
 *   difference   sum of (row[i] - query[i])^2; rows and queries 0..127
 *
 * n is a multiple of INT8_STEP up to 65,536, the largest for which no int32 sum overflows. Rows need no
 * alignment. Some processors multiply unsigned by signed bytes, others signed by signed. For the first
 * the 128 is taken out of the sum afterwards, so the callers of products give `base`, which is
 * -128 * (the sum of the query's elements).
 *
 * A split row has the same n bytes in another order: its first half holds the upper four bits of all
 * elements, its second half the lower ones. Elements 128b + j and 128b + 64 + j, j < 64, are in the lower
 * and the upper bits of byte 64b + j of each; of 64 elements that remain at the end, so are j and 32 + j
 * in the last 32 bytes. Elements below 128, those of differences, are split as
 * twice what they are. Whoever takes each element's lower half for its middle, 8, needs the first half
 * of a row only: a coarse comparison. */
#ifndef SYNA_MATH_INT8_H
#define SYNA_MATH_INT8_H

#include "base/internal.h"

#define INT8_STEP 64u
#define INT8_PANEL 16u /* columns of the matrix product that stand together */

/* The columns of a matrix product, in the order in which the kernels take them: in each panel of 16
 * columns bytes 0..3 of every column, then bytes 4..7, and so on. Columns beyond the last are zeros. */
struct int8_panels {
    const int8_t *bytes;   /* 16 * n a panel */
    const int32_t *bases;  /* 16 a panel, added to a column's sums */
    size_t columns, n;
    bool difference;
};

enum int8_form { INT8_PLAIN, INT8_SPLIT, INT8_COARSE }; /* how a row is read */

struct int8_kernels {
    /* The rows need 128 taken out of the sum (the base); otherwise it is taken out of each element. */
    bool unsigned_rows;
    /* `count` rows anywhere, the next ones fetched while the first are compared. */
    void (*product_many)(const int8_t *query, int32_t base, const uint8_t *const *rows, size_t count,
                         size_t n, int32_t *out);
    void (*difference_many)(const uint8_t *query, const uint8_t *const *rows, size_t count, size_t n,
                            int32_t *out);
    /* `count` rows one after the other, n bytes apart. */
    void (*product_scan)(const int8_t *query, int32_t base, const uint8_t *rows, size_t count,
                         size_t n, int32_t *out);
    void (*difference_scan)(const uint8_t *query, const uint8_t *rows, size_t count, size_t n,
                            int32_t *out);
    /* out[r * out_stride + c]: the product (or difference) of row r with column c, every pair of
     * `row_count` rows and the panels' columns from `first`, a multiple of 16, on. */
    void (*tile)(const struct int8_panels *panels, size_t first, const uint8_t *const *rows,
                 size_t row_count, int32_t *out, size_t out_stride);
    /* The same for split rows. */
    void (*product_split_many)(const int8_t *query, int32_t base, const uint8_t *const *rows,
                               size_t count, size_t n, int32_t *out);
    void (*difference_split_many)(const uint8_t *query, const uint8_t *const *rows, size_t count,
                                  size_t n, int32_t *out);
    void (*product_split_scan)(const int8_t *query, int32_t base, const uint8_t *rows, size_t count,
                               size_t n, int32_t *out);
    void (*difference_split_scan)(const uint8_t *query, const uint8_t *rows, size_t count, size_t n,
                                  int32_t *out);
    /* Coarsely, by the first halves of split rows of n bytes. */
    void (*product_coarse_many)(const int8_t *query, int32_t base, const uint8_t *const *rows,
                                size_t count, size_t n, int32_t *out);
    void (*difference_coarse_many)(const uint8_t *query, const uint8_t *const *rows, size_t count,
                                   size_t n, int32_t *out);
    /* A split row as it was. */
    void (*unite)(bool difference, const uint8_t *row, size_t n, uint8_t *out);
    /* The places below `count` where values[i] <= limits[i], ascending; how many. */
    size_t (*within)(const int32_t *values, const int32_t *limits, size_t count, uint32_t *out);
    /* A code row as the query of products: out[i] = 128 - row[i]. Returns the sum of `out`. */
    int32_t (*turn)(const uint8_t *row, size_t n, int8_t *out);
    /* out[j]: the least of values j, j + 16, j + 32 and so on; of `count` >= 16 those in whole sixteens. */
    void (*least)(const int32_t *values, size_t count, int32_t out[16]);
    /* Sixteen code rows become a full panel, see int8_pack; sums[c] is of the elements of column c or,
     * under `difference`, of their squares. NULL: nothing quicker than copying four bytes at a time. */
    void (*pack)(bool difference, const uint8_t *const *rows, size_t n, int8_t *panel, int32_t *sums);
};

extern const struct int8_kernels int8_scalar;
#if defined(__x86_64__)
extern const struct int8_kernels int8_avx2, int8_avx2vnni, int8_avx512vnni;
#if !defined(__clang__) && __GNUC__ >= 11 || defined(__clang__) && __clang_major__ >= 12
#define INT8_AMX 1
extern const struct int8_kernels int8_amx; /* matrix products in tile registers, int8_tiles.h */
/* Whether these registers multiply as they should. The processor has them, and the system gave leave. */
bool int8_amx_agrees(void);
#endif
#elif defined(__aarch64__)
extern const struct int8_kernels int8_neon;
/* Older compilers hide the intrinsics unless the whole file is for such processors. */
#if defined(__ARM_FEATURE_DOTPROD) || !defined(__clang__) || __clang_major__ >= 16
#define INT8_NEONDOT 1
extern const struct int8_kernels int8_neondot;
#endif
#endif

/* Panels of `columns` code rows, in `room`: int8_room bytes, aligned to 64. Under `difference` a
 * column is the row negated, otherwise 128 minus the row: so products with it are negated, smaller is
 * nearer in both. */
size_t int8_room(size_t columns, size_t n);
/* Some elements of a row into the split row `out` of n bytes: `at` and `count` are multiples of 128, but of
 * the last ones. */
void int8_split(bool difference, const uint8_t *elements, size_t at, size_t count, size_t n, uint8_t *out);
void int8_pack(const struct int8_kernels *kernels, bool difference, const uint8_t *const *rows,
               size_t columns, size_t n, void *room, struct int8_panels *out);

#endif
