/* 8-bit codes with AVX2, in two levels: with the byte products of AVX-VNNI, and without them.
 *
 * Without them, products go by way of 16 bits: pairs of products of unsigned by signed bytes are added
 * with saturation, so an unsigned operand must stay within 128 for the pair to stay exact (128 * 127 *
 * 2 < 2^15). Rows become signed first, |row - 128| is multiplied by the query with the row's sign.
 * Compiled for its instruction sets function by function. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/int8.h"

struct step {
    __m256i low, high;
};

struct acc {
    __m256i low, high; /* columns 0..7, 8..15 */
};

#define STEP struct step
#define SUM __m256i
#define ACC struct acc
#define SUM_ZERO() _mm256_setzero_si256()
#define STEP_LOAD(p) NAME(step_load)(p)
#define SUM_PRODUCT(sum, row, step) NAME(sum_product)(sum, row, step)
#define SUM_DIFFERENCE(sum, row, step) NAME(sum_difference)(sum, row, step)
#define UNITE(upper, lower, each, coarse, shift, out) NAME(unite_step)(upper, lower, each, coarse, shift, out)
#define SUM_OF(sum) NAME(sum_of)(sum)
#define TILE_ROWS 4
#define TILE_PANELS 1
#define WITHIN_16(values, limits) NAME(within_16)(values, limits)
#define PACK NULL
#define TILE_BLOCK NAME(tile_block)
#define ACC_FINISH NAME(acc_finish)

#define KERNEL static __attribute__((target("avx2")))
#define INLINE static inline __attribute__((target("avx2"), always_inline))
#define NAME(x) avx2_##x
#define TABLE int8_avx2
#define UNSIGNED_ROWS false

/* Products of bytes, four in each sum; rows as they are or, when `biased`, less 128. */
INLINE __m256i avx2_multiply(__m256i sum, __m256i row, __m256i column, bool biased)
{
    if (biased) {
        row = _mm256_xor_si256(row, _mm256_set1_epi8(-128));
        column = _mm256_sign_epi8(column, row);
        row = _mm256_abs_epi8(row);
    }
    __m256i pairs = _mm256_maddubs_epi16(row, column);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "math/int8_avx2.h"
#include "math/int8_loops.h"

#undef KERNEL
#undef INLINE
#undef NAME
#undef TABLE
#undef UNSIGNED_ROWS
#define KERNEL static __attribute__((target("avx2,avxvnni")))
#define INLINE static inline __attribute__((target("avx2,avxvnni"), always_inline))
#define NAME(x) vnni_##x
#define TABLE int8_avx2vnni
#define UNSIGNED_ROWS true

INLINE __m256i vnni_multiply(__m256i sum, __m256i row, __m256i column, bool biased)
{
    (void)biased; /* the base takes it out */
    return _mm256_dpbusd_avx_epi32(sum, row, column);
}

#include "math/int8_avx2.h"
#include "math/int8_loops.h"

#endif
