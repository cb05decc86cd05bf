/* The NEON level (every AArch64 processor has it): a block is eight registers of four lanes. */
#include "base/internal.h"

#if defined(__aarch64__)

#include "math/distance.h"

#include <arm_neon.h>

#define KERNEL static
#define INLINE static inline __attribute__((always_inline))
#define LEVEL_ROWS 2
#define LEVEL_TABLE kernels_neon
#define LEVEL_NAME "neon"
#define REGISTERS 8
#define EACH_REGISTER(i) _Pragma("GCC unroll 8") for (int i = 0; i < REGISTERS; i++)

struct block {
    float32x4_t v[REGISTERS];
};

INLINE struct block block_zero(void)
{
    struct block b;
    EACH_REGISTER(i)
        b.v[i] = vdupq_n_f32(0);
    return b;
}

INLINE struct block block_load(const float *p)
{
    struct block b;
    EACH_REGISTER(i)
        b.v[i] = vld1q_f32(p + 4 * i);
    return b;
}

INLINE struct block block_load_tail(const float *p, size_t n)
{
    float padded[DISTANCE_LANES] = {0};
    memcpy(padded, p, n * sizeof *p);
    return block_load(padded);
}

INLINE struct block block_fma(struct block x, struct block y, struct block z)
{
    EACH_REGISTER(i)
        z.v[i] = vfmaq_f32(z.v[i], x.v[i], y.v[i]);
    return z;
}

INLINE struct block block_sub(struct block x, struct block y)
{
    EACH_REGISTER(i)
        x.v[i] = vsubq_f32(x.v[i], y.v[i]);
    return x;
}

INLINE float block_sum(struct block x)
{
    float32x4_t even = vaddq_f32(vaddq_f32(x.v[0], x.v[4]), vaddq_f32(x.v[2], x.v[6]));
    float32x4_t odd = vaddq_f32(vaddq_f32(x.v[1], x.v[5]), vaddq_f32(x.v[3], x.v[7]));
    float32x4_t four = vaddq_f32(even, odd);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#include "math/distance_loops.h"

#endif
