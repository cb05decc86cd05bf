/* Accumulators with AVX2. Compiled for its instruction set function by function. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/accumulate.h"

#define KERNEL static __attribute__((target("avx2")))
#define INLINE static inline __attribute__((target("avx2"), always_inline))
#define TABLE accumulate_avx2
#define NAME "avx2"
#define WORD __m256i
#define LANES 16u
#define word_load(p) _mm256_loadu_si256((const void *)(p))
#define word_store(p, w) _mm256_storeu_si256((void *)(p), w)
#define word_set(n) _mm256_set1_epi16((short)(n))
#define word_add(a, b) _mm256_add_epi16(a, b)
#define word_sub(a, b) _mm256_sub_epi16(a, b)
#define word_max(a, b) _mm256_max_epu16(a, b)

INLINE __m256i codes_at(const uint8_t *codes)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)codes));
}
#define word_steps(p, factors) _mm256_mulhi_epu16(_mm256_slli_epi16(codes_at(p), 8), factors)
#define word_nonzero(p, w) _mm256_min_epu16(codes_at(p), w) /* of ones */

INLINE __m256i word_bounds(const uint16_t *bounds)
{
    int32_t two;
    memcpy(&two, bounds, sizeof two);
    const __m256i pick = _mm256_setr_epi64x(0x0100010001000100, 0x0100010001000100,
                                            0x0302030203020302, 0x0302030203020302);
    return _mm256_shuffle_epi8(_mm256_set1_epi32(two), pick);
}

INLINE uint32_t word_reach(__m256i w, __m256i limits)
{
    __m256i reach = _mm256_cmpeq_epi16(_mm256_max_epu16(w, limits), w);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(reach), _mm256_extracti128_si256(reach, 1));
    return (uint32_t)_mm_movemask_epi8(bytes);
}

/* The smallest of eight is an instruction, the largest is not. */
INLINE uint16_t word_largest(__m256i w)
{
    __m128i max = _mm_max_epu16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    __m128i turned = _mm_minpos_epu16(_mm_xor_si128(max, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(turned);
}

#define DOT accumulate_dot

#include "math/accumulate_loops.h"

#endif
