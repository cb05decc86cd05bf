/* What both levels of int8_avx2.c share, over their NAME(multiply). */

INLINE struct step NAME(step_load)(const void *p)
{
    const __m256i *at = p;
    return (struct step){_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}

INLINE __m256i NAME(sum_product)(__m256i sum, const uint8_t *row, struct step step)
{
    struct step r = NAME(step_load)(row);
    sum = NAME(multiply)(sum, r.low, step.low, true);
    return NAME(multiply)(sum, r.high, step.high, true);
}

INLINE __m256i NAME(sum_difference)(__m256i sum, const uint8_t *row, struct step step)
{
    struct step r = NAME(step_load)(row);
    r.low = _mm256_abs_epi8(_mm256_sub_epi8(r.low, step.low));
    r.high = _mm256_abs_epi8(_mm256_sub_epi8(r.high, step.high));
    sum = NAME(multiply)(sum, r.low, r.low, false);
    return NAME(multiply)(sum, r.high, r.high, false);
}

INLINE __m256i NAME(choose)(__m256i high, __m256i low, int shift)
{
    __m256i mask = _mm256_set1_epi8((char)0xf0);
    __m256i all = _mm256_or_si256(_mm256_and_si256(mask, high), _mm256_andnot_si256(mask, low));
    return shift ? _mm256_and_si256(_mm256_srli_epi16(all, 1), _mm256_set1_epi8(127)) : all;
}

INLINE void NAME(unite_step)(const uint8_t *upper, const uint8_t *lower, size_t each, bool coarse,
                             int shift, uint8_t *out)
{
    for (size_t j = 0; j < each; j += 32) {
        __m256i middle = _mm256_set1_epi8(8);
        __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(upper + j));
        __m256i low = coarse ? middle : _mm256_loadu_si256((const __m256i *)(const void *)(lower + j));
        __m256i lows = coarse ? middle : _mm256_srli_epi16(low, 4);
        __m256i first = NAME(choose)(_mm256_slli_epi16(high, 4), low, shift);
        _mm256_storeu_si256((__m256i *)(void *)(out + j), first);
        _mm256_storeu_si256((__m256i *)(void *)(out + each + j), NAME(choose)(high, lows, shift));
    }
}

INLINE int32_t NAME(sum_of)(__m256i sum)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

INLINE void NAME(tile_block)(struct acc acc[TILE_ROWS][TILE_PANELS], const uint8_t *const *rows,
                             const int8_t *panel, size_t n, size_t used, bool difference)
{
    struct acc sum[TILE_ROWS];
    (void)used;
    _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++)
        sum[r] = (struct acc){_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t i = 0; i < n; i += 4, panel += 4 * INT8_PANEL) {
        struct step columns = NAME(step_load)(panel);
        _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++) {
            int32_t four;
            memcpy(&four, rows[r] + i, sizeof four);
            __m256i row = _mm256_set1_epi32(four);
            sum[r].low = NAME(multiply)(sum[r].low, row, columns.low, !difference);
            sum[r].high = NAME(multiply)(sum[r].high, row, columns.high, !difference);
        }
    }
    _Pragma("GCC unroll 4") for (size_t r = 0; r < TILE_ROWS; r++)
        acc[r][0] = sum[r];
}

INLINE void NAME(acc_finish)(struct acc acc, int shift, int32_t row_base, const int32_t *bases,
                             int32_t *out, size_t columns)
{
    int32_t sums[INT8_PANEL];
    struct step base = NAME(step_load)(bases);
    __m256i row = _mm256_set1_epi32(row_base);
    __m128i by = _mm_cvtsi32_si128(shift);
    int32_t *to = columns >= INT8_PANEL ? out : sums;
    acc.low = _mm256_add_epi32(_mm256_add_epi32(_mm256_sll_epi32(acc.low, by), row), base.low);
    acc.high = _mm256_add_epi32(_mm256_add_epi32(_mm256_sll_epi32(acc.high, by), row), base.high);
    _mm256_storeu_si256((__m256i *)(void *)to, acc.low);
    _mm256_storeu_si256((__m256i *)(void *)(to + 8), acc.high);
    if (columns < INT8_PANEL)
        memcpy(out, sums, columns * sizeof *out);
}

INLINE uint32_t NAME(above_8)(const int32_t *values, const int32_t *limits)
{
    __m256i value = _mm256_loadu_si256((const __m256i *)(const void *)values);
    __m256i limit = _mm256_loadu_si256((const __m256i *)(const void *)limits);
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(value, limit)));
}

INLINE uint32_t NAME(within_16)(const int32_t *values, const int32_t *limits)
{
    return 0xffff ^ (NAME(above_8)(values, limits) | NAME(above_8)(values + 8, limits + 8) << 8);
}
