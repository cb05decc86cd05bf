/* How column blocks turn doubles into small integers, bit for bit reversibly. Three ways:
 *
 *   decimal  the doubles are decimal fractions: n / 10^p, or n * 10^-p, is the very double; the n
 * are a stream of column_int.h, the few that are not follow as they are. (The decimal mapping of
 * ALP: Afroozeh, Kuffo & Boncz 2024, doi:10.1145/3626717. A division instead of two multiplications
 * leaves hardly an exception on rounded data.) ordered  the bit patterns as integers in the order
 * of the doubles: neighbours in value are neighbours here, so the differences of a smooth series
 * are small. split    exponents through a dictionary ordered by frequency, mantissas as they are
 * less their common trailing zeros (after ALP-RD of the same paper): for noise. */
#ifndef SYNA_STORE_COLUMN_FLOAT_H
#define SYNA_STORE_COLUMN_FLOAT_H

#include "store/column_int.h"

/* Each encodes `count` doubles, given as bits, into at most `cap` bytes and returns the length, 0
 * when it does not fit or is not for these numbers. */
size_t floats_encode_decimal(const uint64_t *bits, size_t count, uint8_t *to, size_t cap);
size_t floats_encode_ordered(const uint64_t *bits, size_t count, uint8_t *to, size_t cap);
size_t floats_encode_split(const uint64_t *bits, size_t count, uint8_t *to, size_t cap);

/* false when the bytes are not such an encoding. */
bool floats_decode_decimal(struct reader *from, size_t count, uint64_t *bits);
bool floats_decode_ordered(struct reader *from, size_t count, uint64_t *bits);
bool floats_decode_split(struct reader *from, size_t count, uint64_t *bits);

#endif
