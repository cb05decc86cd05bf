/* Bits with NEON, which counts those of each byte. */
#include "base/internal.h"

#if defined(__aarch64__)

#include "math/bits.h"

#include <arm_neon.h>

#define KERNEL static
#define INLINE static inline __attribute__((always_inline))
#define TABLE bits_neon
#define WORD uint8x16_t
#define WORD_BYTES 16u
#define SUM uint64x2_t
#define word_load(p) vld1q_u8(p)
#define word_and(a, b) vandq_u8(a, b)
#define word_or(a, b) vorrq_u8(a, b)
#define word_xor(a, b) veorq_u8(a, b)
#define sum_zero() vdupq_n_u64(0)
#define sum_add(sum, w) vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(vcntq_u8(w))))
#define sum_of(sum) vaddvq_u64(sum)

#include "math/bits_loops.h"

#endif
