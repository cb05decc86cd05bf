/* Distances between strings of bits, 8 to a byte; bytes beyond a multiple of 8 are fine, and so is any
 * address. And 64 values at a time turned into the bits of which of them meet a condition. */
#ifndef SYNA_MATH_BITS_H
#define SYNA_MATH_BITS_H

#include "base/internal.h"

struct bits_kernels {
    /* Bits that differ. */
    uint64_t (*hamming)(const void *a, const void *b, size_t bytes);
    /* Bits set in both; in *either those set in one of them at least. */
    uint64_t (*overlap)(const void *a, const void *b, size_t bytes, uint64_t *either);
    /* hamming of the query with `count` rows that start `stride` bytes apart. */
    void (*hamming_rows)(const void *query, const void *rows, size_t stride, size_t count,
                         size_t bytes, uint32_t *out);
    /* Bit i: is bytes[i] this value, i < 64? */
    uint64_t (*bytes_equal)(const uint8_t *bytes, uint8_t value);
    /* Bit i: is words[i] one of the span + 1 numbers that begin at low? They may go past the last number
     * and on from 0, so signed limits do as well. */
    uint64_t (*words_within)(const uint64_t *words, uint64_t low, uint64_t span);
    /* Bit i: low <= x <= high, of the double x whose bits are words[i]? NaN is nowhere. */
    uint64_t (*doubles_within)(const uint64_t *words, double low, double high);
};

/* 1 - |both| / |either|, 0 when no bit is set. */
float bits_jaccard(const struct bits_kernels *kernels, const void *a, const void *b, size_t bytes);

extern const struct bits_kernels bits_scalar;
#if defined(__x86_64__)
extern const struct bits_kernels bits_avx2, bits_avx512;
#elif defined(__aarch64__)
extern const struct bits_kernels bits_neon;
#endif

#endif
