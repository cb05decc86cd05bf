/* The AVX2 + FMA level: a block is four registers of eight lanes. Compiled for its instruction set
 * function by function, so the file needs no compiler flags of its own. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/distance.h"

#define KERNEL static __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((target("avx2,fma"), always_inline))
#define LEVEL_ROWS 2
#define LEVEL_TABLE kernels_avx2
#define LEVEL_NAME "avx2"

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

#endif
