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
#define UNITE(upper, lower, each, coarse, shift, out) unite_step(upper, lower, each, coarse, shift, out)
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

/* Upper bits of `high` and lower bits of `low`, or the middle of what these may be. */
INLINE __m512i choose(__m512i high, __m512i low, bool coarse, int shift)
{
    low = coarse ? _mm512_set1_epi8(8) : low;
    __m512i all = _mm512_ternarylogic_epi32(high, _mm512_set1_epi8((char)0xf0), low, 0xe2);
    return shift ? _mm512_and_si512(_mm512_srli_epi16(all, 1), _mm512_set1_epi8(127)) : all;
}

/* Of 32 bytes the halves of a register are shifted by as many bits as each needs. */
INLINE void unite_step(const uint8_t *upper, const uint8_t *lower, size_t each, bool coarse, int shift,
                       uint8_t *out)
{
    if (each == INT8_STEP) {
        __m512i high = _mm512_loadu_si512(upper), low = high;
        if (!coarse)
            low = _mm512_loadu_si512(lower);
        _mm512_storeu_si512(out, choose(_mm512_slli_epi16(high, 4), low, coarse, shift));
        _mm512_storeu_si512(out + 64, choose(high, _mm512_srli_epi16(low, 4), coarse, shift));
        return;
    }
    const __m512i none = _mm512_setzero_si512();
    const __m512i first = _mm512_inserti64x4(none, _mm256_set1_epi16(4), 0);
    const __m512i second = _mm512_inserti64x4(none, _mm256_set1_epi16(4), 1);
    __m512i high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)upper));
    __m512i low = high;
    if (!coarse)
        low = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)lower));
    high = _mm512_sllv_epi16(high, first);
    _mm512_storeu_si512(out, choose(high, _mm512_srlv_epi16(low, second), coarse, shift));
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

#if defined(INT8_AMX)
/* All eight registers whole. Static: a compiler takes the load of a shape for one of eight bytes, and would
 * leave out the stores of the others. */
struct tile_shapes {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static const struct tile_shapes whole_tiles __attribute__((aligned(64))) = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

#define TILES_KERNEL static __attribute__((target("amx-tile,amx-int8," ISA)))
#define TILES_BEGIN() _tile_loadconfig(&whole_tiles)
#define TILES_END() _tile_release() /* or every change of context saves eight KiB */
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_PRODUCT(s, a, b) _tile_dpbusd(s, a, b)
#define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define TILES_SQUARES(row, n) squares(row, n)
#define TILES_FINISH(sums, shift, add, others, out, columns) \
    tiles_finish_16(sums, shift, add, others, out, columns)

INLINE void tiles_finish_16(const int32_t *sums, int shift, int32_t add, const int32_t *others,
                            int32_t *out, size_t columns)
{
    __mmask16 some = (__mmask16)((1u << columns) - 1);
    __m512i sum = _mm512_sll_epi32(_mm512_loadu_si512(sums), _mm_cvtsi32_si128(shift));
    sum = _mm512_add_epi32(sum, _mm512_set1_epi32(add));
    sum = _mm512_add_epi32(sum, _mm512_maskz_loadu_epi32(some, others));
    _mm512_mask_storeu_epi32(out, some, sum);
}

#include "math/int8_tiles.h"

#define TILES_WORTH 8u /* fewer rows leave most of a register empty */

TILES_KERNEL void tile_by_tiles(const struct int8_panels *panels, size_t first,
                                const uint8_t *const *rows, size_t row_count, int32_t *out,
                                size_t out_stride)
{
    if (row_count < TILES_WORTH)
        tile(panels, first, rows, row_count, out, out_stride);
    else
        tiles_product(panels, first, rows, row_count, out, out_stride);
}

const struct int8_kernels int8_amx = {UNSIGNED_ROWS, product_many,    difference_many, product_scan,
                                      difference_scan, tile_by_tiles, product_split_many,
                                      difference_split_many, product_split_scan,
                                      difference_split_scan, product_coarse_many,
                                      difference_coarse_many, unite, within, turn, least, PACK};

#define TRIAL_ROWS 33u
#define TRIAL_COLUMNS 35u
#define TRIAL_BYTES 128u

bool int8_amx_agrees(void)
{
    static const bool differences[] = {false, true};
    uint8_t codes[TRIAL_ROWS + TRIAL_COLUMNS][TRIAL_BYTES];
    const uint8_t *rows[TRIAL_ROWS + TRIAL_COLUMNS];
    int32_t want[TRIAL_ROWS * TRIAL_COLUMNS], found[TRIAL_ROWS * TRIAL_COLUMNS];
    uint8_t room[3 * 16 * (TRIAL_BYTES + sizeof(int32_t))] __attribute__((aligned(64)));
    struct int8_panels panels;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        rows[r] = codes[r];
        for (size_t i = 0; i < TRIAL_BYTES; i++)
            codes[r][i] = (uint8_t)((r * 37 + i * 11 + r * i) % 127 + 1);
    }
    for (size_t d = 0; d < COUNT_OF(differences); d++) {
        int8_pack(&int8_avx512vnni, differences[d], rows + TRIAL_ROWS, TRIAL_COLUMNS, TRIAL_BYTES,
                  room, &panels);
        tile(&panels, 0, rows, TRIAL_ROWS, want, TRIAL_COLUMNS);
        tile_by_tiles(&panels, 0, rows, TRIAL_ROWS, found, TRIAL_COLUMNS);
        if (memcmp(want, found, sizeof want) != 0)
            return false;
    }
    return true;
}
#endif

#endif
