/* A stream of up to COLUMN_MAX 64-bit numbers, as small as it gets with what decodes at memory
 * speed: each number is predicted (not at all, by the one before, by the line through the two
 * before), what is left over is taken relative to a base and in units of its greatest common
 * divisor, and packed plainly, with patches for outliers, or as a Rice code. Every combination is
 * weighed by its exact size. Arithmetic is modulo 2^64, so any numbers come back as they were. */
#ifndef SYNA_STORE_COLUMN_INT_H
#define SYNA_STORE_COLUMN_INT_H

#include "base/bytes.h"
#include "store/column_bits.h"

/* The first byte of a stream. FORMATS.md has the rest. */
enum ints_mode {
    INTS_PREDICTOR = 3, /* mask: 0 none, 1 the number before, 2 the line through two before */
    INTS_ZIGZAG = 4,    /* left-overs lie on both sides of the base */
    INTS_UNIT = 8,      /* a unit other than 1 follows the base */
    INTS_PACKED = 0 << 4,
    INTS_PATCHED = 1 << 4,
    INTS_RICE = 2 << 4,
    INTS_PACKING = 3 << 4, /* mask */
};

/* Encode 1..COLUMN_MAX numbers into at most `cap` bytes: the length, or 0 when it would be more. */
size_t ints_encode(const uint64_t *numbers, size_t count, uint8_t *to, size_t cap);

/* Decode `count` numbers. false when the stream is not one; `from` then stands anywhere. */
bool ints_decode(struct reader *from, size_t count, uint64_t *numbers);

#endif
