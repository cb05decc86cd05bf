/* The AVX2 + FMA level: a block is four registers of eight lanes. Compiled for its instruction set
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

#define KERNEL static __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((target("avx2,fma,f16c"), always_inline))
#define LEVEL_ROWS 2

struct block {
    __m256 a, b, c, d;
};

INLINE struct block block_zero(void)
{
    __m256 z = _mm256_setzero_ps();
    return (struct block){z, z, z, z};
}

INLINE struct block block_load(const float *p)
{
    return (struct block){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8), _mm256_loadu_ps(p + 16),
                          _mm256_loadu_ps(p + 24)};
}

/* Lanes first .. first+7 of a tail of n floats. A masked-off lane is not read. */
INLINE __m256 load_some(const float *p, int first, int n)
{
    __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                    _mm256_set1_epi32(first));
    return _mm256_maskload_ps(p + first, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}

INLINE struct block block_load_tail(const float *p, size_t count)
{
    int n = (int)count;
    return (struct block){load_some(p, 0, n), load_some(p, 8, n), load_some(p, 16, n),
                          load_some(p, 24, n)};
}

INLINE struct block block_fma(struct block x, struct block y, struct block z)
{
    return (struct block){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b),
                          _mm256_fmadd_ps(x.c, y.c, z.c), _mm256_fmadd_ps(x.d, y.d, z.d)};
}

INLINE struct block block_sub(struct block x, struct block y)
{
    return (struct block){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b),
                          _mm256_sub_ps(x.c, y.c), _mm256_sub_ps(x.d, y.d)};
}

INLINE float block_sum(struct block x)
{
    __m256 eight = _mm256_add_ps(_mm256_add_ps(x.a, x.c), _mm256_add_ps(x.b, x.d));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#include "math/distance_loops.h"

#define HALF_TABLE half_avx2

INLINE __m128i eight_halves(const void *p, int first)
{
    return _mm_loadu_si128((const __m128i *)(const void *)((const char *)p + 2 * first));
}

INLINE void store_eight_halves(void *p, int first, __m128i halves)
{
    _mm_storeu_si128((__m128i *)(void *)((char *)p + 2 * first), halves);
}

INLINE struct block block_load_f16(const void *p)
{
    return (struct block){
        _mm256_cvtph_ps(eight_halves(p, 0)), _mm256_cvtph_ps(eight_halves(p, 8)),
        _mm256_cvtph_ps(eight_halves(p, 16)), _mm256_cvtph_ps(eight_halves(p, 24))};
}

INLINE __m256 widen_bf16(__m128i halves)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

INLINE struct block block_load_bf16(const void *p)
{
    return (struct block){widen_bf16(eight_halves(p, 0)), widen_bf16(eight_halves(p, 8)),
                          widen_bf16(eight_halves(p, 16)), widen_bf16(eight_halves(p, 24))};
}

INLINE void block_store_f16(void *p, struct block x)
{
    store_eight_halves(p, 0, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    store_eight_halves(p, 8, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
    store_eight_halves(p, 16, _mm256_cvtps_ph(x.c, _MM_FROUND_TO_NEAREST_INT));
    store_eight_halves(p, 24, _mm256_cvtps_ph(x.d, _MM_FROUND_TO_NEAREST_INT));
}

/* In integers: the processors' own conversion to bf16 flushes subnormal values. */
INLINE __m128i narrow_bf16(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x), upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i halves = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

INLINE void block_store_bf16(void *p, struct block x)
{
    store_eight_halves(p, 0, narrow_bf16(x.a));
    store_eight_halves(p, 8, narrow_bf16(x.b));
    store_eight_halves(p, 16, narrow_bf16(x.c));
    store_eight_halves(p, 24, narrow_bf16(x.d));
}

INLINE void block_store(float *p, struct block x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
    _mm256_storeu_ps(p + 16, x.c);
    _mm256_storeu_ps(p + 24, x.d);
}

#include "math/half_loops.h"

LEVEL(kernels_avx2, "avx2", int8_avx2, half_avx2, bits_avx2, accumulate_avx2);
LEVEL(kernels_avx2vnni, "avx2vnni", int8_avx2vnni, half_avx2, bits_avx2, accumulate_avx2);

#endif
