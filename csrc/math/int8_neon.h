/* What both levels of int8_neon.c share, over their NAME(multiply) and NAME(acc_*). */

INLINE struct step NAME(step_load)(const void *p)
{
    struct step s;
    QUARTERS(i)
        s.v[i] = vld1q_s8((const int8_t *)p + 16 * i);
    return s;
}

INLINE int8x16_t NAME(to_signed)(int8x16_t row)
{
    return veorq_s8(row, vdupq_n_s8(-128));
}

INLINE int32x4_t NAME(sum_product)(int32x4_t sum, const uint8_t *row, struct step step)
{
    struct step r = NAME(step_load)(row);
    QUARTERS(i)
        sum = NAME(multiply)(sum, NAME(to_signed)(r.v[i]), step.v[i]);
    return sum;
}

INLINE int32x4_t NAME(sum_difference)(int32x4_t sum, const uint8_t *row, struct step step)
{
    struct step r = NAME(step_load)(row);
    QUARTERS(i) {
        int8x16_t d = vsubq_s8(r.v[i], step.v[i]);
        sum = NAME(multiply)(sum, d, d);
    }
    return sum;
}

INLINE void NAME(tile_block)(ACC acc[TILE_ROWS][TILE_PANELS], const uint8_t *const *rows,
                             const int8_t *panel, size_t n, size_t used, bool difference)
{
    ACC sum[TILE_ROWS];
    (void)used;
    _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++)
        sum[r] = NAME(acc_zero)();
    for (size_t i = 0; i < n; i += 4, panel += 4 * INT8_PANEL) {
        struct step columns = NAME(step_load)(panel);
        _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++) {
            int32_t four;
            memcpy(&four, rows[r] + i, sizeof four);
            int8x16_t row = vreinterpretq_s8_s32(vdupq_n_s32(four));
            sum[r] = NAME(acc_multiply)(sum[r], difference ? row : NAME(to_signed)(row), &columns);
        }
    }
    _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++)
        acc[r][0] = sum[r];
}

INLINE void NAME(acc_finish)(ACC acc, int shift, int32_t row_base, const int32_t *bases, int32_t *out,
                             size_t columns)
{
    int32_t sums[INT8_PANEL];
    int32_t *to = columns >= INT8_PANEL ? out : sums;
    QUARTERS(i) {
        int32x4_t sum = vshlq_s32(NAME(acc_quarter)(&acc, i), vdupq_n_s32(shift));
        sum = vaddq_s32(vaddq_s32(sum, vdupq_n_s32(row_base)), vld1q_s32(bases + 4 * i));
        vst1q_s32(to + 4 * i, sum);
    }
    if (columns < INT8_PANEL)
        memcpy(out, sums, columns * sizeof *out);
}

INLINE uint32_t NAME(within_4)(const int32_t *values, const int32_t *limits)
{
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcleq_s32(vld1q_s32(values), vld1q_s32(limits)), vld1q_u32(bits)));
}

INLINE uint32_t NAME(within_16)(const int32_t *values, const int32_t *limits)
{
    return NAME(within_4)(values, limits) | NAME(within_4)(values + 4, limits + 4) << 4 |
           NAME(within_4)(values + 8, limits + 8) << 8 |
           NAME(within_4)(values + 12, limits + 12) << 12;
}
