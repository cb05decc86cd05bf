/* The loops over 16-bit floats, written once over the block of distance_loops.h, which comes first.
 * Each level also defines
 *
 *   block_load_f16(p), block_load_bf16(p)            32 halves
 *   block_store_f16(p, block), block_store_bf16(p, block)
 *   block_store(p, block)                            32 floats
 *   HALF_TABLE                                       the table to define */

#define HALF_BYTES 2

#define DEFINE_HALF(kind)                                                                          \
    KERNEL struct block load_tail_##kind(const char *halves, size_t n)                             \
    {                                                                                              \
        uint16_t padded[DISTANCE_LANES] = {0};                                                     \
        memcpy(padded, halves, n * HALF_BYTES);                                                    \
        return block_load_##kind(padded);                                                          \
    }                                                                                              \
    KERNEL void kind##_to_f32(const void *halves, size_t n, float *out)                            \
    {                                                                                              \
        const char *from = halves;                                                                 \
        size_t i = 0;                                                                              \
        for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES)                                       \
            block_store(out + i, block_load_##kind(from + i * HALF_BYTES));                        \
        if (i < n) {                                                                               \
            float padded[DISTANCE_LANES];                                                          \
            block_store(padded, load_tail_##kind(from + i * HALF_BYTES, n - i));                   \
            memcpy(out + i, padded, (n - i) * sizeof *out);                                        \
        }                                                                                          \
    }                                                                                              \
    KERNEL void f32_to_##kind(const float *floats, size_t n, void *out)                            \
    {                                                                                              \
        char *to = out;                                                                            \
        size_t i = 0;                                                                              \
        for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES)                                       \
            block_store_##kind(to + i * HALF_BYTES, block_load(floats + i));                       \
        if (i < n) {                                                                               \
            uint16_t padded[DISTANCE_LANES];                                                       \
            block_store_##kind((char *)padded, block_load_tail(floats + i, n - i));                \
            memcpy(to + i * HALF_BYTES, padded, (n - i) * HALF_BYTES);                             \
        }                                                                                          \
    }                                                                                              \
    KERNEL float dot_##kind(const float *query, const void *row, size_t n)                         \
    {                                                                                              \
        const char *from = row;                                                                    \
        struct block sum = block_zero();                                                           \
        size_t i = 0;                                                                              \
        for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES)                                       \
            sum = block_fma(block_load(query + i), block_load_##kind(from + i * HALF_BYTES), sum); \
        if (i < n)                                                                                 \
            sum = block_fma(block_load_tail(query + i, n - i),                                     \
                            load_tail_##kind(from + i * HALF_BYTES, n - i), sum);                  \
        return block_sum(sum);                                                                     \
    }                                                                                              \
    KERNEL float l2sq_##kind(const float *query, const void *row, size_t n)                        \
    {                                                                                              \
        const char *from = row;                                                                    \
        struct block sum = block_zero();                                                           \
        size_t i = 0;                                                                              \
        for (; i + DISTANCE_LANES <= n; i += DISTANCE_LANES) {                                     \
            struct block d =                                                                       \
                block_sub(block_load(query + i), block_load_##kind(from + i * HALF_BYTES));        \
            sum = block_fma(d, d, sum);                                                            \
        }                                                                                          \
        if (i < n) {                                                                               \
            struct block d = block_sub(block_load_tail(query + i, n - i),                          \
                                       load_tail_##kind(from + i * HALF_BYTES, n - i));            \
            sum = block_fma(d, d, sum);                                                            \
        }                                                                                          \
        return block_sum(sum);                                                                     \
    }
DEFINE_HALF(f16)
DEFINE_HALF(bf16)

static const struct half_kernels HALF_TABLE = {f16_to_f32, f32_to_f16, bf16_to_f32, f32_to_bf16,
                                               dot_f16,    l2sq_f16,   dot_bf16,    l2sq_bf16};
