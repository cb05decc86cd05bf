/* What codes.c and codes_train.c share: the least step, and reading an element of a row that may stand at any
 * address. */
#ifndef SYNA_INDEX_CODES_CORE_H
#define SYNA_INDEX_CODES_CORE_H

#include "index/codes.h"
#include <synadb/vector.h>

#define CODES_STEP_MIN 0x1p-100f /* 1 / step is finite, and so is what is multiplied by it */
#define CODES_STEP_MAX 0x1p60f  /* so is its square */

static inline bool codes_euclidean(const struct codes *codes)
{
    return codes->metric == SYNA_METRIC_EUCLIDEAN;
}

/* An element of a row, which need not be aligned. */
static inline float codes_load(const float *x)
{
    float f;
    memcpy(&f, x, sizeof f);
    return f;
}

/* 1 / length; 0 for rows of no length, which are at distance 1 from everything, and without a finite
 * one. *certain false: the length is not in the range where it is accurate. */
float codes_inverse_length(const struct kernels *kernels, const float *x, size_t n, bool *certain);

#endif
