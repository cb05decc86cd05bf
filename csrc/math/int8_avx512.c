/* 8-bit codes with AVX-512 VNNI: a register of 64 bytes is one step. Compiled for its instruction set
 * function by function, so the file needs no compiler flags of its own. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/int8.h"

#define ISA "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define KERNEL static __attribute__((target(ISA)))
#define INLINE static inline __attribute__((target(ISA), always_inline))
#define NAME(x) x
#define TABLE int8_avx512vnni
#define UNSIGNED_ROWS true
#define STEP __m512i
#define SUM __m512i
#define ACC __m512i
#define STEP_LOAD(p) _mm512_loadu_si512(p)
#define SUM_ZERO() _mm512_setzero_si512()
#define SUM_PRODUCT(sum, row, step) _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row), step)
#define SUM_DIFFERENCE(sum, row, step) sum_difference(sum, row, step)
#define SUM_OF(sum) _mm512_reduce_add_epi32(sum)
#define SUMS_OF(sum, base, out) sums_of(sum, base, out)
/* 24 sums, four panel registers and one of a row's four bytes, of 32. */
#define TILE_ROWS 6
#define TILE_PANELS 4
#define WITHIN_16(values, limits) \
    _mm512_cmple_epi32_mask(_mm512_loadu_si512(values), _mm512_loadu_si512(limits))
#define TILE_BLOCK tile_block
#define ACC_FINISH acc_finish
#define PACK pack_16

INLINE __m512i sum_difference(__m512i sum, const uint8_t *row, __m512i step)
{
    __m512i d = _mm512_abs_epi8(_mm512_sub_epi8(_mm512_loadu_si512(row), step));
    return _mm512_dpbusd_epi32(sum, d, d);
}

/* Four sums at once, for a third of the steps: the parts of all four end up side by side. */
INLINE void sums_of(const __m512i sum[4], int32_t base, int32_t *out)
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]),
                                 _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]),
                                 _mm512_unpackhi_epi32(sum[2], sum[3]));
    a = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128((__m128i *)(void *)out, _mm_add_epi32(quarter, _mm_set1_epi32(base)));
}

INLINE __m512i four_bytes(const uint8_t *row)
{
    int32_t four;
    memcpy(&four, row, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE void tile_block(__m512i acc[TILE_ROWS][TILE_PANELS], const uint8_t *const *rows,
                       const int8_t *panels, size_t n, size_t used, bool difference)
{
    __m512i sum[TILE_ROWS][TILE_PANELS];
    (void)difference; /* products of unsigned rows in both */
    _Pragma("GCC unroll 6") for (size_t r = 0; r < TILE_ROWS; r++)
        _Pragma("GCC unroll 4") for (size_t p = 0; p < used; p++)
            sum[r][p] = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 4) {
        __m512i panel[TILE_PANELS];
        _Pragma("GCC unroll 4") for (size_t p = 0; p < used; p++)
            panel[p] = _mm512_loadu_si512(panels + (p * n + i) * INT8_PANEL);
        _Pragma("GCC unroll 6") for (size_t r = 0; r < TILE_ROWS; r++) {
            __m512i row = four_bytes(rows[r] + i);
            _Pragma("GCC unroll 4") for (size_t p = 0; p < used; p++)
                sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], row, panel[p]);
        }
    }
    _Pragma("GCC unroll 6") for (size_t r = 0; r < TILE_ROWS; r++)
        _Pragma("GCC unroll 4") for (size_t p = 0; p < used; p++)
            acc[r][p] = sum[r][p];
}

INLINE void acc_finish(__m512i acc, int shift, int32_t row_base, const int32_t *bases, int32_t *out,
                       size_t columns)
{
    acc = _mm512_sll_epi32(acc, _mm_cvtsi32_si128(shift));
    acc = _mm512_add_epi32(acc, _mm512_set1_epi32(row_base));
    acc = _mm512_add_epi32(acc, _mm512_loadu_si512(bases));
    if (columns >= INT8_PANEL)
        _mm512_storeu_si512(out, acc);
    else
        _mm512_mask_storeu_epi32(out, (__mmask16)((1u << columns) - 1), acc);
}

/* Sixteen rows of sixteen times four bytes become sixteen columns of them. */
INLINE void transpose(__m512i row[16])
{
    __m512i pair[16], four[16];
    _Pragma("GCC unroll 8") for (size_t i = 0; i < 16; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    _Pragma("GCC unroll 4") for (size_t i = 0; i < 16; i += 4) {
        four[i] = _mm512_unpacklo_epi64(pair[i], pair[i + 2]);
        four[i + 1] = _mm512_unpackhi_epi64(pair[i], pair[i + 2]);
        four[i + 2] = _mm512_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        four[i + 3] = _mm512_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    _Pragma("GCC unroll 4") for (size_t i = 0; i < 4; i++) { /* quarters 0 and 2, then 1 and 3 */
        __m512i a = _mm512_shuffle_i32x4(four[i], four[4 + i], 0x88);
        __m512i b = _mm512_shuffle_i32x4(four[8 + i], four[12 + i], 0x88);
        __m512i c = _mm512_shuffle_i32x4(four[i], four[4 + i], 0xdd);
        __m512i d = _mm512_shuffle_i32x4(four[8 + i], four[12 + i], 0xdd);
        row[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        row[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
        row[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        row[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

KERNEL void pack_16(bool difference, const uint8_t *const *rows, size_t n, int8_t *panel,
                    int32_t *sums)
{
    __m512i zero = _mm512_set1_epi8(difference ? 0 : -128), ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512(), row[16];
    for (size_t i = 0; i < n; i += INT8_STEP, panel += INT8_STEP * INT8_PANEL) {
        _Pragma("GCC unroll 16") for (size_t r = 0; r < 16; r++)
            row[r] = _mm512_sub_epi8(zero, _mm512_loadu_si512(rows[r] + i));
        transpose(row);
        _Pragma("GCC unroll 16") for (size_t c = 0; c < 16; c++) {
            __m512i size = difference ? _mm512_abs_epi8(row[c]) : ones;
            __m512i other = difference ? size : row[c];
            sum = _mm512_dpbusd_epi32(sum, size, other);
            _mm512_storeu_si512(panel + c * 64, row[c]);
        }
    }
    _mm512_storeu_si512(sums, sum);
}

#include "math/int8_loops.h"

#endif
