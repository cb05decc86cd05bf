/* The distance loops, written once over a block of 32 lanes. Included by one .c file per level,
 * which first defines
 *
 *   KERNEL                   how functions of this level are declared (static, target attribute)
 *   struct block             32 float lanes
 *   block_zero()             all +0
 *   block_load(p)            32 floats
 *   block_load_tail(p, n)    n < 32 floats, the other lanes +0; reads nothing behind them
 *   block_fma(a, b, c)       a * b + c with one rounding
 *   block_sub(a, b)
 *   block_sum(a)             the tree of distance.h
 *   LEVEL_ROWS               rows that fit the registers at a time
 *
 * and afterwards defines its tables with LEVEL(table, name, tables of the other families).
 */

/* Unrolled whole, so that the sums of a group stay in registers at every optimisation level. */
#define EACH_ROW(r) _Pragma("GCC unroll 4") for (size_t r = 0; r < LEVEL_ROWS; r++)

KERNEL float dot_one(const float *a, const float *b, size_t n)
{
    struct block sum = block_zero();
    size_t i = 0;
    for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES)
        sum = block_fma(block_load(a + i), block_load(b + i), sum);
    if (i < n)
        sum = block_fma(block_load_tail(a + i, n - i), block_load_tail(b + i, n - i), sum);
    return block_sum(sum);
}

KERNEL float l2sq_one(const float *a, const float *b, size_t n)
{
    struct block sum = block_zero();
    size_t i = 0;
    for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES) {
        struct block d = block_sub(block_load(a + i), block_load(b + i));
        sum = block_fma(d, d, sum);
    }
    if (i < n) {
        struct block d =
            block_sub(block_load_tail(a + i, n - i), block_load_tail(b + i, n - i));
        sum = block_fma(d, d, sum);
    }
    return block_sum(sum);
}

/* LEVEL_ROWS rows: several independent chains hide the latency of the additions. */
KERNEL void dot_group(const float *query, const float *const *rows, size_t n, float *out)
{
    struct block sum[LEVEL_ROWS];
    EACH_ROW(r)
        sum[r] = block_zero();
    size_t i = 0;
    for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES) {
        struct block q = block_load(query + i);
        EACH_ROW(r)
            sum[r] = block_fma(q, block_load(rows[r] + i), sum[r]);
    }
    if (i < n) {
        struct block q = block_load_tail(query + i, n - i);
        EACH_ROW(r)
            sum[r] = block_fma(q, block_load_tail(rows[r] + i, n - i), sum[r]);
    }
    EACH_ROW(r)
        out[r] = block_sum(sum[r]);
}

KERNEL void l2sq_group(const float *query, const float *const *rows, size_t n, float *out)
{
    struct block sum[LEVEL_ROWS];
    EACH_ROW(r)
        sum[r] = block_zero();
    size_t i = 0;
    for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES) {
        struct block q = block_load(query + i);
        EACH_ROW(r) {
            struct block d = block_sub(q, block_load(rows[r] + i));
            sum[r] = block_fma(d, d, sum[r]);
        }
    }
    if (i < n) {
        struct block q = block_load_tail(query + i, n - i);
        EACH_ROW(r) {
            struct block d = block_sub(q, block_load_tail(rows[r] + i, n - i));
            sum[r] = block_fma(d, d, sum[r]);
        }
    }
    EACH_ROW(r)
        out[r] = block_sum(sum[r]);
}

#define FETCH_BYTES 2048 /* of a row ahead; the processor follows a longer one by itself */

KERNEL void fetch(const void *row, size_t n)
{
    for (size_t i = 0; i < MIN(n * sizeof(float), (size_t)FETCH_BYTES); i += 64)
        __builtin_prefetch((const char *)row + i);
}

#define DEFINE_ROWS(name, one, group)                                                              \
    KERNEL void name##_rows(const float *query, const float *rows, size_t stride, size_t count,    \
                            size_t n, float *out)                                                  \
    {                                                                                              \
        size_t r = 0;                                                                              \
        for (; r + LEVEL_ROWS <= count; r += LEVEL_ROWS) {                                         \
            const float *some[LEVEL_ROWS];                                                         \
            EACH_ROW(i)                                                                            \
                some[i] = rows + (r + i) * stride;                                                 \
            group(query, some, n, out + r);                                                        \
        }                                                                                          \
        for (; r < count; r++)                                                                     \
            out[r] = one(query, rows + r * stride, n);                                             \
    }                                                                                              \
    KERNEL void name##_many(const float *query, const void *const *rows, size_t count, size_t n,   \
                            float *out)                                                            \
    {                                                                                              \
        size_t r = 0;                                                                              \
        for (; r + LEVEL_ROWS <= count; r += LEVEL_ROWS) {                                         \
            const float *some[LEVEL_ROWS];                                                         \
            EACH_ROW(i)                                                                            \
                some[i] = rows[r + i];                                                             \
            for (size_t next = r + LEVEL_ROWS; next < MIN(r + 2 * LEVEL_ROWS, count); next++)      \
                fetch(rows[next], n);                                                              \
            group(query, some, n, out + r);                                                        \
        }                                                                                          \
        for (; r < count; r++)                                                                     \
            out[r] = one(query, rows[r], n);                                                       \
    }
DEFINE_ROWS(dot, dot_one, dot_group)
DEFINE_ROWS(l2sq, l2sq_one, l2sq_group)

/* A table of this level's functions and those of the other families. */
#define LEVEL(table, level_name, int8_table, half_table, bits_table, accumulate_table)             \
    const struct kernels table = {level_name,  dot_one,     l2sq_one,    dot_rows,                 \
                                  l2sq_rows,   dot_many,    l2sq_many,   &int8_table,              \
                                  &half_table, &bits_table, &accumulate_table}
