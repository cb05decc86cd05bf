/* Bits with AVX2: each nibble's count is looked up by a shuffle (Mula, Kurz and Lemire 2018,
 * arXiv:1611.07612). Compiled for its instruction set function by function. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/bits.h"

#define KERNEL static __attribute__((target("avx2")))
#define INLINE static inline __attribute__((target("avx2"), always_inline))
#define TABLE bits_avx2
#define WORD __m256i
#define WORD_BYTES 32u
#define SUM __m256i
#define word_and(a, b) _mm256_and_si256(a, b)
#define word_or(a, b) _mm256_or_si256(a, b)
#define word_xor(a, b) _mm256_xor_si256(a, b)
#define sum_zero() _mm256_setzero_si256()

INLINE __m256i word_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

INLINE __m256i sum_add(__m256i sum, __m256i w)
{
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                            1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(w, nibble));
    __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble));
    __m256i bytes = _mm256_add_epi8(low, high);
    return _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
}

INLINE uint64_t sum_of(__m256i sum)
{
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}

#include "math/bits_loops.h"

#endif
