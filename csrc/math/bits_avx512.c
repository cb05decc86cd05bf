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

#include "math/bits_loops.h"

#endif
