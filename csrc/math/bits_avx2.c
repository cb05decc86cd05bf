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

#define OWN_CONDITIONS

KERNEL uint64_t bytes_equal(const uint8_t *bytes, uint8_t value)
{
    __m256i wanted = _mm256_set1_epi8((char)value);
    uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(word_load(bytes), wanted));
    uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(word_load(bytes + 32), wanted));
    return low | (uint64_t)high << 32;
}

/* There are signed comparisons only: the top bit is turned round on both sides. */
KERNEL uint64_t words_within(const uint64_t *words, uint64_t low, uint64_t span)
{
    __m256i from = _mm256_set1_epi64x((long long)(low ^ 1ull << 63));
    __m256i last = _mm256_set1_epi64x((long long)(span ^ 1ull << 63));
    uint64_t beyond = 0;
    _Pragma("GCC unroll 16") for (uint32_t i = 0; i < 64; i += 4) {
        __m256i above = _mm256_sub_epi64(word_load((const uint8_t *)(words + i)), from);
        __m256d more = _mm256_castsi256_pd(_mm256_cmpgt_epi64(above, last));
        beyond |= (uint64_t)(uint32_t)_mm256_movemask_pd(more) << i;
    }
    return ~beyond;
}

KERNEL uint64_t doubles_within(const uint64_t *words, double low, double high)
{
    __m256d from = _mm256_set1_pd(low), to = _mm256_set1_pd(high);
    uint64_t bits = 0;
    _Pragma("GCC unroll 16") for (uint32_t i = 0; i < 64; i += 4) {
        __m256d x = _mm256_castsi256_pd(word_load((const uint8_t *)(words + i)));
        __m256d hits = _mm256_and_pd(_mm256_cmp_pd(x, from, _CMP_GE_OQ), _mm256_cmp_pd(x, to, _CMP_LE_OQ));
        bits |= (uint64_t)(uint32_t)_mm256_movemask_pd(hits) << i;
    }
    return bits;
}

#include "math/bits_loops.h"

#endif
