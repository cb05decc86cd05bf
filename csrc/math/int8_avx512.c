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
/* 24 sums, four panel registers and one of a row's four bytes, of 32. */
#define TILE_ROWS 6
#define TILE_PANELS 4
#define WITHIN_16(values, limits) \
    _mm512_cmple_epi32_mask(_mm512_loadu_si512(values), _mm512_loadu_si512(limits))
#define TILE_BLOCK tile_block
#define ACC_FINISH acc_finish

INLINE __m512i sum_difference(__m512i sum, const uint8_t *row, __m512i step)
{
    __m512i d = _mm512_abs_epi8(_mm512_sub_epi8(_mm512_loadu_si512(row), step));
    return _mm512_dpbusd_epi32(sum, d, d);
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

#include "math/int8_loops.h"

#endif
