/* Accumulators with AVX-512 BW. Compiled for its instruction set function by function. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/accumulate.h"

#define ISA "avx2,avx512f,avx512bw,avx512vl"
#define KERNEL static __attribute__((target(ISA)))
#define INLINE static inline __attribute__((target(ISA), always_inline))
#define TABLE accumulate_avx512
#define NAME "avx512"
#define WORD __m512i
#define LANES 32u
#define word_load(p) _mm512_loadu_si512((const void *)(p))
#define word_store(p, w) _mm512_storeu_si512((void *)(p), w)
#define word_set(n) _mm512_set1_epi16((short)(n))
#define word_add(a, b) _mm512_add_epi16(a, b)
#define word_sub(a, b) _mm512_sub_epi16(a, b)
#define word_max(a, b) _mm512_max_epu16(a, b)

INLINE __m512i codes_at(const uint8_t *codes)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)codes));
}
#define word_steps(p, factors) _mm512_mulhi_epu16(_mm512_slli_epi16(codes_at(p), 8), factors)
#define word_nonzero(p, w) _mm512_min_epu16(codes_at(p), w) /* of ones */

INLINE __m512i word_bounds(const uint16_t *bounds)
{
    long long four;
    memcpy(&four, bounds, sizeof four);
    const __m512i pick = _mm512_set_epi64(0x0706070607060706, 0x0706070607060706,
                                          0x0504050405040504, 0x0504050405040504,
                                          0x0302030203020302, 0x0302030203020302,
                                          0x0100010001000100, 0x0100010001000100);
    return _mm512_shuffle_epi8(_mm512_set1_epi64(four), pick);
}

#define word_reach(w, limits) _mm512_cmpge_epu16_mask(w, limits)

INLINE uint16_t word_largest(__m512i w)
{
    __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(w), _mm512_extracti64x4_epi64(w, 1));
    __m128i max = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    __m128i turned = _mm_minpos_epu16(_mm_xor_si128(max, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(turned);
}

/* Most terms of a row are not in the query: 16 at a time are asked for in the query's filter, which fits into
 * two registers, and those that it lets through are looked up. */
KERNEL double dot(const struct query_table *query, const uint8_t *terms, const uint8_t *values,
                  size_t count)
{
    const __m512i low = _mm512_loadu_si512(query->filter), high = _mm512_loadu_si512(query->filter + 16);
    const __m512i factor = _mm512_set1_epi32((int)query->factor), one = _mm512_set1_epi32(1);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    struct shared_terms shared;
    double sum = 0;
    for (size_t at = 0; at < count; at += SHARED_AT_ONCE) {
        uint32_t maybe[SHARED_AT_ONCE];
        size_t end = MIN(count, at + SHARED_AT_ONCE), found = 0;
        for (size_t i = at; i < end; i += 16) {
            __mmask16 in = (__mmask16)(end - i < 16 ? (1u << (end - i)) - 1 : 0xffffu);
            __m512i term = _mm512_maskz_loadu_epi32(in, terms + i * 4);
            __m512i bit = _mm512_srli_epi32(_mm512_mullo_epi32(term, factor), 22);
            __m512i word = _mm512_permutex2var_epi32(low, _mm512_srli_epi32(bit, 5), high);
            __mmask16 hit = _mm512_mask_test_epi32_mask(in, _mm512_rorv_epi32(word, bit), one);
            __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)i));
            _mm512_storeu_si512(maybe + found, _mm512_maskz_compress_epi32(hit, places));
            found += (size_t)__builtin_popcount(hit);
        }
        shared.count = 0;
        for (size_t i = 0; i < found; i++)
            shared_add(&shared, query, terms, values, maybe[i]);
        sum = shared_sum(&shared, sum);
    }
    return sum;
}
#define DOT dot

#include "math/accumulate_loops.h"

#endif
