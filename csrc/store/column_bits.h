/* The two ways in which column blocks store small unsigned numbers.
 *
 * Packed: each number in `width` bits. Four lanes stand side by side: number i is in lane i % 4 at
 * row i / 4; a lane is a run of 64-bit words filled from the low bit up, and word w of all lanes
 * lies before word w + 1 of any. So four neighbours are always at the same shift of four
 * neighbouring words, and one vector instruction moves them (the idea of Lemire & Boytsov 2015,
 * doi:10.1002/spe.2203, and of FastLanes, Afroozeh & Boncz 2023, doi:10.14778/3598581.3598587).
 *
 * Unary: number q is q zero bits and a one bit, in 64-bit words from the low bit up. With the low k
 * bits packed elsewhere this is a Rice code in two streams, both of which decode without a
 * dependency from one number to the next. */
#ifndef SYNA_STORE_COLUMN_BITS_H
#define SYNA_STORE_COLUMN_BITS_H

#include "base/bytes.h"

#define BITS_LANES 4u

/* Functions marked BITS_WIDE are for processors with AVX2 and BMI2, and are called only when
 * bits_wide() says so (the variable SYNADB_SIMD=scalar forbids it). They give the same bits. */
#ifdef __x86_64__
#define BITS_WIDE __attribute__((target("avx2,bmi,bmi2,popcnt")))
#endif
bool bits_wide(void);

#ifdef SYNA_TESTING
void bits_test_force(int choice); /* 1 or 0: what bits_wide says from now on; -1: ask the machine */
#endif

/* Bytes that `count` packed numbers take. */
static inline size_t bits_packed_size(size_t count, unsigned width)
{
    size_t rows = (count + BITS_LANES - 1) / BITS_LANES;
    return (rows * width + 63) / 64 * (8 * BITS_LANES);
}

/* Numbers of at most `width` bits, 0..64. */
void bits_pack(const uint64_t *numbers, size_t count, unsigned width, uint8_t *to);

/* Reads bits_packed_size bytes; writes `count` numbers rounded up to whole rows of BITS_LANES. */
void bits_unpack(const uint8_t *from, size_t count, unsigned width, uint64_t *numbers);

/* 64-bit words that numbers[i] >> shift take in unary; a sum of more than `limit` gives limit + 1.
 */
size_t bits_unary_words(const uint64_t *numbers, size_t count, unsigned shift, size_t limit);

/* Write numbers[i] >> shift in unary; `to` has room for the words. */
void bits_pack_unary(const uint64_t *numbers, size_t count, unsigned shift, size_t words,
                     uint8_t *to);

/* Read `count` unary numbers and put each, shifted left, into the bits of numbers[i] above those
 * that are there. false when the words do not hold exactly `count` numbers. */
bool bits_unpack_unary(const uint8_t *from, size_t words, size_t count, unsigned shift,
                       uint64_t *numbers);

#endif
