/* The AVX-512F level: a block is two registers of sixteen lanes. Compiled for its instruction set
 * function by function, so the file needs no compiler flags of its own. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/accumulate.h"
#include "math/bits.h"
#include "math/distance.h"
#include "math/half.h"
#include "math/int8.h"

#define KERNEL static __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((target("avx512f"), always_inline))
#define LEVEL_ROWS 4

struct block {
    __m512 a, b;
};

INLINE struct block block_zero(void)
{
    return (struct block){_mm512_setzero_ps(), _mm512_setzero_ps()};
}

INLINE struct block block_load(const float *p)
{
    return (struct block){_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16)};
}

INLINE struct block block_load_tail(const float *p, size_t n)
{
    uint32_t mask = ((uint32_t)1 << n) - 1; /* n < 32 */
    return (struct block){_mm512_maskz_loadu_ps((__mmask16)(mask & 0xffff), p),
                          _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), p + 16)};
}

INLINE struct block block_fma(struct block x, struct block y, struct block z)
{
    return (struct block){_mm512_fmadd_ps(x.a, y.a, z.a), _mm512_fmadd_ps(x.b, y.b, z.b)};
}

INLINE struct block block_sub(struct block x, struct block y)
{
    return (struct block){_mm512_sub_ps(x.a, y.a), _mm512_sub_ps(x.b, y.b)};
}

INLINE float block_sum(struct block x)
{
    __m512d sixteen = _mm512_castps_pd(_mm512_add_ps(x.a, x.b));
    __m256 low = _mm256_castpd_ps(_mm512_castpd512_pd256(sixteen));
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(sixteen, 1));
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#include "math/distance_loops.h"

#define HALF_TABLE half_avx512

INLINE __m256i sixteen_halves(const void *p, int first)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)((const char *)p + 2 * first));
}

INLINE void store_sixteen_halves(void *p, int first, __m256i halves)
{
    _mm256_storeu_si256((__m256i *)(void *)((char *)p + 2 * first), halves);
}

INLINE struct block block_load_f16(const void *p)
{
    return (struct block){_mm512_cvtph_ps(sixteen_halves(p, 0)),
                          _mm512_cvtph_ps(sixteen_halves(p, 16))};
}

INLINE __m512 widen_bf16(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE struct block block_load_bf16(const void *p)
{
    return (struct block){widen_bf16(sixteen_halves(p, 0)), widen_bf16(sixteen_halves(p, 16))};
}

INLINE void block_store_f16(void *p, struct block x)
{
    store_sixteen_halves(p, 0, _mm512_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    store_sixteen_halves(p, 16, _mm512_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

/* In integers: the processors' own conversion to bf16 flushes subnormal values. */
INLINE __m256i narrow_bf16(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x), upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40)));
}

INLINE void block_store_bf16(void *p, struct block x)
{
    store_sixteen_halves(p, 0, narrow_bf16(x.a));
    store_sixteen_halves(p, 16, narrow_bf16(x.b));
}

INLINE void block_store(float *p, struct block x)
{
    _mm512_storeu_ps(p, x.a);
    _mm512_storeu_ps(p + 16, x.b);
}

#include "math/half_loops.h"

LEVEL(kernels_avx512, "avx512", int8_avx2, half_avx512, bits_avx2, accumulate_avx512);
LEVEL(kernels_avx512vnni, "avx512vnni", int8_avx512vnni, half_avx512, bits_avx2, accumulate_avx512);
LEVEL(kernels_avx512vpop, "avx512vpop", int8_avx512vnni, half_avx512, bits_avx512,
      accumulate_avx512);
#if defined(INT8_AMX)
LEVEL(kernels_amx, "amx", int8_amx, half_avx512, bits_avx512, accumulate_avx512);
#endif

#endif
