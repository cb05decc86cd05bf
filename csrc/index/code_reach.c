/* code_reach.c - a wider step for codes that are compared by inner products.
 *
 * codes_train leaves one element in two thousand beyond what a code can say. A difference of two such
 * elements stays small when both are clipped; a product does not: a row whose largest element is clipped
 * looks far from everything, itself included. Where one element stands for much of a row's length, as in
 * histograms of gradients, that hides the row. So under cosine and inner product the step reaches on to the
 * largest element. That costs the others up to 0.6 of a bit, and no more: the reach of one outlier may be any. */
#include "base/internal.h"

#include "index/code_reach.h"
#include <synadb/vector.h>

#include <math.h>

#define SAMPLE_ROWS 8192u
#define REACH_MOST 1.5f /* times the reach that nearly all elements need */

static float largest_of(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float y;
        memcpy(&y, x + i, sizeof y); /* rows may stand at any address */
        most = MAX(most, fabsf(y));
    }
    return most;
}

void code_reach(struct codes *codes, const struct kernels *kernels, size_t count,
                const float *(*row)(void *context, size_t i), void *context)
{
    size_t some = MIN(count, (size_t)SAMPLE_ROWS);
    float most = 0;
    if (codes->metric == SYNA_METRIC_EUCLIDEAN)
        return;
    for (size_t i = 0; i < some; i++) {
        const float *x = row(context, (size_t)((double)i / (double)some * (double)count));
        float length = codes->metric == SYNA_METRIC_COSINE ? vector_norm(kernels, x, codes->dims) : 1;
        float largest = largest_of(x, codes->dims) / length;
        if (length > 0 && isfinite(largest))
            most = MAX(most, largest);
    }
    codes->step = MAX(codes->step, MIN(most / 127, codes->step * REACH_MOST));
}
