/* How far the codes of rows reach that are compared by inner products. See code_reach.c. */
#ifndef SYNA_INDEX_CODE_REACH_H
#define SYNA_INDEX_CODE_REACH_H

#include "index/codes.h"

/* After codes_train, with the same rows: let the step reach the largest element of some of them, as far as
 * that is no more than half as large again as what it reaches. Euclidean codes stay as they are.
 * Deterministic. */
void code_reach(struct codes *codes, const struct kernels *kernels, size_t count,
                const float *(*row)(void *context, size_t i), void *context);

#endif
