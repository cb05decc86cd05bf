/* 16-bit floats: IEEE binary16 ("f16") and the upper half of binary32 ("bf16").
 *
 * Conversion to 16 bits rounds to nearest, ties to even; what is too large becomes infinite; NaN stays
 * NaN (quiet, with the upper bits of its payload); subnormal values are kept. Distances widen the row,
 * which is exact, and then are those of distance.h: the canonical sums, the same bits on every level.
 * Arrays of halves need no alignment. */
#ifndef SYNA_MATH_HALF_H
#define SYNA_MATH_HALF_H

#include "base/internal.h"

struct half_kernels {
    void (*f16_to_f32)(const void *halves, size_t n, float *out);
    void (*f32_to_f16)(const float *floats, size_t n, void *out);
    void (*bf16_to_f32)(const void *halves, size_t n, float *out);
    void (*f32_to_bf16)(const float *floats, size_t n, void *out);
    float (*dot_f16)(const float *query, const void *row, size_t n);
    float (*l2sq_f16)(const float *query, const void *row, size_t n);
    float (*dot_bf16)(const float *query, const void *row, size_t n);
    float (*l2sq_bf16)(const float *query, const void *row, size_t n);
};

/* One value at a time; what every level's kernels give. */
float half_from_f16(uint16_t half);
uint16_t half_to_f16(float value);
float half_from_bf16(uint16_t half);
uint16_t half_to_bf16(float value);

#endif
