/* The NEON level (every AArch64 processor has it): a block is eight registers of four lanes. */
#include "base/internal.h"

#if defined(__aarch64__)

#include "math/accumulate.h"
#include "math/bits.h"
#include "math/distance.h"
#include "math/half.h"
#include "math/int8.h"

#include <arm_neon.h>

#define KERNEL static
#define INLINE static inline __attribute__((always_inline))
#define LEVEL_ROWS 2
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

#define HALF_TABLE half_neon

INLINE uint16x4_t four_halves(const void *p, int i)
{
    return vld1_u16((const uint16_t *)p + 4 * i);
}

INLINE struct block block_load_f16(const void *p)
{
    struct block b;
    EACH_REGISTER(i)
        b.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(four_halves(p, i)));
    return b;
}

INLINE struct block block_load_bf16(const void *p)
{
    struct block b;
    EACH_REGISTER(i)
        b.v[i] = vreinterpretq_f32_u32(vshll_n_u16(four_halves(p, i), 16));
    return b;
}

INLINE void block_store_f16(void *p, struct block x)
{
    EACH_REGISTER(i)
        vst1_u16((uint16_t *)p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}

INLINE void block_store_bf16(void *p, struct block x)
{
    EACH_REGISTER(i) {
        uint32x4_t bits = vreinterpretq_u32_f32(x.v[i]), upper = vshrq_n_u32(bits, 16);
        uint32x4_t odd = vandq_u32(upper, vdupq_n_u32(1));
        uint32x4_t rounded =
            vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
        uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
        uint32x4_t halves = vbslq_u32(vceqq_f32(x.v[i], x.v[i]), rounded, quiet);
        vst1_u16((uint16_t *)p + 4 * i, vmovn_u32(halves));
    }
}

INLINE void block_store(float *p, struct block x)
{
    EACH_REGISTER(i)
        vst1q_f32(p + 4 * i, x.v[i]);
}

#include "math/half_loops.h"

LEVEL(kernels_neon, "neon", int8_neon, half_neon, bits_neon, accumulate_plain);
#if defined(INT8_NEONDOT)
LEVEL(kernels_neondot, "neondot", int8_neondot, half_neon, bits_neon, accumulate_plain);
#endif

#endif
