/* codes_train.c - the choice of a step: the element at a place in the order of all elements of a sample
 * of rows is found exactly, in two passes that count the upper and then the lower halves of its bits.
 *
 * One element in two thousand may lie beyond what a code can say. A difference of two such elements stays
 * small when both are clipped; a product does not: a row whose largest element is clipped looks far from
 * everything, itself included. Where one element stands for much of a row's length, as in histograms of
 * gradients, that hides the row. So under cosine and inner product the step reaches on to the largest
 * element. That costs the others up to 0.4 of a bit, and no more: the reach of one outlier may be any. */
#include "base/internal.h"

#include "base/mem.h"
#include "index/codes_bits.h"

#include <math.h>

#define SAMPLE_ROWS 10000u
#define SAMPLE_ROWS_MIN 64u
#define SAMPLE_ELEMENTS ((size_t)1 << 22)
#define CLIPPED 0.0005 /* of the elements are not representable */
#define REACH_MOST 1.3 /* times what nearly all elements need; measured between 1.2 and 1.5 */
#define BINS 65536u

/* Selects elements by their place in the order: first the upper half of the bits, then the lower. */
struct selection {
    const struct codes *codes;
    const struct kernels *kernels;
    const float *(*row)(void *context, size_t i);
    void *context;
    size_t count, sampled;
    uint32_t upper[2]; /* of the elements looked for */
    uint64_t place[2]; /* in the order; then among those of the same upper half */
    uint32_t bins[3][BINS];
};

/* Floats in the order of their values as unsigned integers. */
static uint32_t order_key(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static float order_value(uint32_t key)
{
    uint32_t bits = key >> 31 ? key & 0x7fffffffu : ~key;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void count_upper(struct selection *s, uint32_t key)
{
    s->bins[0][key >> 16]++;
}

static void count_lower(struct selection *s, uint32_t key)
{
    for (int i = 0; i < 2; i++)
        if (key >> 16 == s->upper[i])
            s->bins[1 + i][key & 0xffff]++;
}

/* Elements as they will be coded: normalised under cosine; without sign where codes are symmetric. */
static void each_element(struct selection *s, void (*take)(struct selection *s, uint32_t key))
{
    const struct codes *codes = s->codes;
    for (size_t i = 0; i < s->sampled; i++) {
        const float *x = s->row(s->context, (size_t)((double)i / (double)s->sampled * (double)s->count));
        bool certain;
        float factor = codes->metric == SYNA_METRIC_COSINE
                           ? codes_inverse_length(s->kernels, x, codes->dims, &certain)
                           : 1;
        for (uint32_t j = 0; j < codes->dims; j++) {
            float y = codes_load(x + j) * factor;
            take(s, order_key(codes_euclidean(codes) ? y : fabsf(y)));
        }
    }
}

/* The bin of the element at *place; *place becomes its place in the bin. */
static uint32_t find_bin(const uint32_t *bins, uint64_t *place)
{
    uint32_t bin = 0;
    while (*place >= bins[bin])
        *place -= bins[bin++];
    return bin;
}

/* The elements with `below` before them and `above` behind them in the order. */
static void select_two(struct selection *s, uint64_t below, uint64_t above, float *first, float *last)
{
    uint64_t elements = (uint64_t)s->sampled * s->codes->dims;
    s->place[0] = below;
    s->place[1] = elements - 1 - above;
    each_element(s, count_upper);
    for (int i = 0; i < 2; i++)
        s->upper[i] = find_bin(s->bins[0], &s->place[i]);
    each_element(s, count_lower);
    *first = order_value(s->upper[0] << 16 | find_bin(s->bins[1], &s->place[0]));
    *last = order_value(s->upper[1] << 16 | find_bin(s->bins[2], &s->place[1]));
}

static float step_over(double range, float fallback)
{
    float step = (float)(range / 127);
    return step >= CODES_STEP_MIN ? step : MAX(fallback / 127, CODES_STEP_MIN);
}

syna_rc codes_train(struct codes *codes, size_t count,
                    const float *(*row)(void *context, size_t i), void *context)
{
    float first, last;
    if (codes->bits)
        return codes_bits_train(codes, count, row, context);
    struct selection *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->codes = codes;
    s->kernels = kernels_get();
    s->row = row;
    s->context = context;
    s->count = count;
    s->sampled = MIN(MIN(count, (size_t)SAMPLE_ROWS),
                     MAX(SAMPLE_ELEMENTS / codes->dims, (size_t)SAMPLE_ROWS_MIN));
    uint64_t clipped = (uint64_t)(CLIPPED * (double)s->sampled * codes->dims);
    if (codes_euclidean(codes)) {
        select_two(s, clipped / 2, clipped / 2, &first, &last);
        codes->low = first;
        codes->step = step_over((double)last - (double)first, fabsf(first));
    } else {
        float largest;
        select_two(s, (uint64_t)s->sampled * codes->dims - 1, clipped, &largest, &last);
        codes->step = step_over(MIN((double)largest, REACH_MOST * (double)last), 1);
    }
    mem_free(s);
    return SYNA_SUCCESS;
}
