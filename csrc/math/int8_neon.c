/* 8-bit codes with NEON, in two levels: with the byte products of the DotProd extension, and without
 * them. Both multiply signed bytes, so rows are brought to -128..127 as they are read; pairs of 16-bit
 * products stay exact (128 * 127 * 2 < 2^15). */
#include "base/internal.h"

#if defined(__aarch64__)

#include "math/int8.h"

#include <arm_neon.h>

struct step {
    int8x16_t v[4];
};

#define UNSIGNED_ROWS false
#define STEP struct step
#define SUM int32x4_t
#define SUM_ZERO() vdupq_n_s32(0)
#define STEP_LOAD(p) NAME(step_load)(p)
#define SUM_PRODUCT(sum, row, step) NAME(sum_product)(sum, row, step)
#define SUM_DIFFERENCE(sum, row, step) NAME(sum_difference)(sum, row, step)
#define SUM_OF(sum) vaddvq_s32(sum)
#define TILE_PANELS 1
#define WITHIN_16(values, limits) NAME(within_16)(values, limits)
#define PACK NULL
#define TILE_BLOCK NAME(tile_block)
#define ACC_FINISH NAME(acc_finish)
#define QUARTERS(i) _Pragma("GCC unroll 4") for (size_t i = 0; i < 4; i++)

/* ---------------------------------------------------------------- without byte products */

#define KERNEL static
#define INLINE static inline __attribute__((always_inline))
#define NAME(x) neon_##x
#define TABLE int8_neon
#define TILE_ROWS 2
#define ACC struct neon_acc

struct neon_acc {
    int32x4_t half[8]; /* two sums of each column, which stand beside each other */
};

INLINE int32x4_t neon_multiply(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    int16x8_t pairs = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return vpadalq_s16(sum, vmlal_high_s8(pairs, a, b));
}

INLINE struct neon_acc neon_acc_zero(void)
{
    struct neon_acc acc;
    _Pragma("GCC unroll 8") for (size_t i = 0; i < 8; i++)
        acc.half[i] = vdupq_n_s32(0);
    return acc;
}

INLINE struct neon_acc neon_acc_multiply(struct neon_acc acc, int8x16_t row, const struct step *columns)
{
    QUARTERS(i) {
        int8x16_t column = columns->v[i];
        acc.half[2 * i] = vpadalq_s16(acc.half[2 * i], vmull_s8(vget_low_s8(row), vget_low_s8(column)));
        acc.half[2 * i + 1] = vpadalq_s16(acc.half[2 * i + 1], vmull_high_s8(row, column));
    }
    return acc;
}

INLINE int32x4_t neon_acc_quarter(const struct neon_acc *acc, size_t i)
{
    return vpaddq_s32(acc->half[2 * i], acc->half[2 * i + 1]);
}

#include "math/int8_neon.h"
#include "math/int8_loops.h"

/* ---------------------------------------------------------------- with them */

#undef KERNEL
#undef INLINE
#undef NAME
#undef TABLE
#undef TILE_ROWS
#undef ACC

#if defined(INT8_NEONDOT)

#define DOT "arch=armv8.2-a+dotprod"
#define KERNEL static __attribute__((target(DOT)))
#define INLINE static inline __attribute__((target(DOT), always_inline))
#define NAME(x) dot_##x
#define TABLE int8_neondot
#define TILE_ROWS 4
#define ACC struct dot_acc

struct dot_acc {
    int32x4_t quarter[4];
};

INLINE int32x4_t dot_multiply(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    return vdotq_s32(sum, a, b);
}

INLINE struct dot_acc dot_acc_zero(void)
{
    struct dot_acc acc;
    QUARTERS(i)
        acc.quarter[i] = vdupq_n_s32(0);
    return acc;
}

INLINE struct dot_acc dot_acc_multiply(struct dot_acc acc, int8x16_t row, const struct step *columns)
{
    QUARTERS(i)
        acc.quarter[i] = vdotq_s32(acc.quarter[i], columns->v[i], row);
    return acc;
}

INLINE int32x4_t dot_acc_quarter(const struct dot_acc *acc, size_t i)
{
    return acc->quarter[i];
}

#include "math/int8_neon.h"
#include "math/int8_loops.h"

#endif
#endif
