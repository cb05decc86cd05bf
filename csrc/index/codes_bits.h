/* Codes of one bit a dimension: what codes.c hands over to codes_bits.c when codes->bits. The contracts are
 * those of the functions of codes.h without the "bits". */
#ifndef SYNA_INDEX_CODES_BITS_H
#define SYNA_INDEX_CODES_BITS_H

#include "index/codes_core.h"

syna_rc codes_bits_train(struct codes *codes, size_t count,
                         const float *(*row)(void *context, size_t i), void *context);
void codes_bits_encode(const struct codes *codes, const struct kernels *kernels, const float *row,
                       uint8_t *out);
void codes_bits_query(const struct codes *codes, const struct kernels *kernels, const float *query,
                      uint8_t *room, struct code_query *out);
void codes_bits_query_row(const struct codes *codes, const uint8_t *row, uint8_t *room,
                          struct code_query *out);
void codes_bits_many(const struct codes *codes, const struct kernels *kernels,
                     const struct code_query *query, const uint8_t *const *rows, size_t count,
                     int32_t *out);
void codes_bits_scan(const struct codes *codes, const struct kernels *kernels,
                     const struct code_query *query, const uint8_t *rows, size_t count, int32_t *out);
void codes_bits_tile(const struct codes *codes, const struct kernels *kernels,
                     const uint8_t *const *a, size_t na, const uint8_t *const *b, size_t nb,
                     int32_t *out, size_t out_stride);

#endif
