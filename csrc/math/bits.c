/* The scalar level: 64 bits at a time, counted by adding neighbours. */
#include "base/internal.h"

#include "math/bits.h"

#define KERNEL static
#define INLINE static inline
#define TABLE bits_scalar
#define WORD uint64_t
#define WORD_BYTES 8u
#define SUM uint64_t

INLINE uint64_t word_load(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

INLINE uint64_t word_and(uint64_t a, uint64_t b)
{
    return a & b;
}

INLINE uint64_t word_or(uint64_t a, uint64_t b)
{
    return a | b;
}

INLINE uint64_t word_xor(uint64_t a, uint64_t b)
{
    return a ^ b;
}

INLINE uint64_t sum_zero(void)
{
    return 0;
}

INLINE uint64_t sum_add(uint64_t sum, uint64_t w)
{
    return sum + (uint64_t)__builtin_popcountll(w);
}

INLINE uint64_t sum_of(uint64_t sum)
{
    return sum;
}

#include "math/bits_loops.h"

float bits_jaccard(const struct bits_kernels *kernels, const void *a, const void *b, size_t bytes)
{
    uint64_t either, both = kernels->overlap(a, b, bytes, &either);
    return either ? (float)(1 - (double)both / (double)either) : 0;
}
