/* The AVX-512F level: a block is two registers of sixteen lanes. Compiled for its instruction set
 * function by function, so the file needs no compiler flags of its own. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#if defined(__x86_64__)

#include "math/distance.h"

#define KERNEL static __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((target("avx512f"), always_inline))
#define LEVEL_ROWS 4
#define LEVEL_TABLE kernels_avx512
#define LEVEL_NAME "avx512"

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

#endif
