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
