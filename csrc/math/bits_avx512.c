/* Bits with AVX-512 VPOPCNTDQ. Compiled for its instruction set function by function. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/bits.h"

#define ISA "avx512f,avx512bw,avx512vpopcntdq"
#define KERNEL static __attribute__((target(ISA)))
#define INLINE static inline __attribute__((target(ISA), always_inline))
#define TABLE bits_avx512
#define WORD __m512i
#define WORD_BYTES 64u
#define SUM __m512i
#define word_load(p) _mm512_loadu_si512(p)
#define word_and(a, b) _mm512_and_si512(a, b)
#define word_or(a, b) _mm512_or_si512(a, b)
#define word_xor(a, b) _mm512_xor_si512(a, b)
#define sum_zero() _mm512_setzero_si512()
#define sum_add(sum, w) _mm512_add_epi64(sum, _mm512_popcnt_epi64(w))
#define sum_of(sum) (uint64_t)_mm512_reduce_add_epi64(sum)

#define OWN_CONDITIONS
#define OWN_TAIL
#define OWN_ROWS

/* The last bytes, fewer than 64, zeros behind them: what is masked is not read. */
INLINE __m512i word_load_tail(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8((1ull << n) - 1, p);
}

INLINE __m512i counts_of(const uint8_t *query, const uint8_t *row, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 64 <= bytes; i += 64)
        sum = sum_add(sum, word_xor(word_load(query + i), word_load(row + i)));
    if (i < bytes)
        sum = sum_add(sum, word_xor(word_load_tail(query + i, bytes - i),
                                    word_load_tail(row + i, bytes - i)));
    return sum;
}

/* Four rows, whose counts are added up side by side; they are below 2^32. */
INLINE void hamming_four(const uint8_t *query, const uint8_t *rows, size_t stride, size_t bytes,
                         uint32_t *out)
{
    __m512i a = counts_of(query, rows, bytes), b = counts_of(query, rows + stride, bytes);
    __m512i c = counts_of(query, rows + 2 * stride, bytes);
    __m512i d = counts_of(query, rows + 3 * stride, bytes);
    a = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    c = _mm512_add_epi64(_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    a = _mm512_or_si512(a, _mm512_slli_epi64(c, 32)); /* a c b d, four times */
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128((__m128i *)(void *)out, _mm_shuffle_epi32(sums, _MM_SHUFFLE(3, 1, 2, 0)));
}

/* Rows of 16 bytes one after the other: eight in two registers. */
INLINE void hamming_eight(__m512i query, const uint8_t *rows, uint32_t *out)
{
    __m512i a = _mm512_popcnt_epi64(word_xor(query, word_load(rows)));
    __m512i b = _mm512_popcnt_epi64(word_xor(query, word_load(rows + 64)));
    a = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); /* of a and b by turns */
    _mm256_storeu_si256((__m256i *)(void *)out,
                        _mm256_permutevar8x32_epi32(_mm512_cvtepi64_epi32(a), order));
}

static uint64_t hamming(const void *a, const void *b, size_t bytes);

KERNEL void hamming_rows(const void *query, const void *rows, size_t stride, size_t count, size_t bytes,
                         uint32_t *out)
{
    const uint8_t *row = rows;
    size_t r = 0;
    if (bytes == 16 && stride == 16) {
        __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)query));
        for (; r + 8 <= count; r += 8)
            hamming_eight(four, row + r * stride, out + r);
    }
    for (; r + 4 <= count; r += 4)
        hamming_four(query, row + r * stride, stride, bytes, out + r);
    for (; r < count; r++)
        out[r] = (uint32_t)hamming(query, row + r * stride, bytes);
}

KERNEL uint64_t bytes_equal(const uint8_t *bytes, uint8_t value)
{
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8((char)value));
}

KERNEL uint64_t words_within(const uint64_t *words, uint64_t low, uint64_t span)
{
    __m512i from = _mm512_set1_epi64((long long)low), last = _mm512_set1_epi64((long long)span);
    uint64_t bits = 0;
    _Pragma("GCC unroll 8") for (uint32_t i = 0; i < 64; i += 8) {
        __m512i above = _mm512_sub_epi64(_mm512_loadu_si512(words + i), from);
        bits |= (uint64_t)_mm512_cmple_epu64_mask(above, last) << i;
    }
    return bits;
}

KERNEL uint64_t doubles_within(const uint64_t *words, double low, double high)
{
    __m512d from = _mm512_set1_pd(low), to = _mm512_set1_pd(high);
    uint64_t bits = 0;
    _Pragma("GCC unroll 8") for (uint32_t i = 0; i < 64; i += 8) {
        __m512d x = _mm512_loadu_pd(words + i);
        __mmask8 hits = _mm512_cmp_pd_mask(x, from, _CMP_GE_OQ);
        bits |= (uint64_t)_mm512_mask_cmp_pd_mask(hits, x, to, _CMP_LE_OQ) << i;
    }
    return bits;
}

#include "math/bits_loops.h"

#endif
