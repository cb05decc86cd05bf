/* codes_bits.c - rows as one bit a dimension: is the element above the mean of its dimension?
 *
 * A query is finer, for it is coded once: PLANES bits an element, of which bit p of all elements makes the
 * p-th string of bits. With element = step * (k - 7.5), k = 0..15, and a row's bits standing for -1 and 1,
 * their product is a constant minus step * sum over p of 2^p * (bits in which plane p and row differ): so
 * that sum is the integer, and smaller is nearer. Two rows are compared by the bits in which they differ.
 *
 * What a bit leaves out is most of the row, so nothing is certain: errors are INFINITY, exact search scores
 * full rows (exact_seeker.c), and a walk scores all candidates that it kept. */
#include "base/internal.h"

#include "base/mem.h"
#include "index/codes_bits.h"
#include "math/bits.h"

#include <math.h>

#define PLANES 4u
#define LEVELS 16
#define RANGE 3.0f /* the levels reach so many times the typical size of an element */
#define STRIDE_BITS 512u
#define SAMPLE_ROWS 10000u
#define TOGETHER 64u

void codes_init_bits(struct codes *codes, uint32_t dims, int32_t metric)
{
    uint32_t stride = (dims + STRIDE_BITS - 1) / STRIDE_BITS * (STRIDE_BITS / 8);
    *codes = (struct codes){.metric = metric, .dims = dims, .stride = stride, .bits = true};
}

size_t codes_room(const struct codes *codes)
{
    return codes->bits ? PLANES * (size_t)codes->stride : codes->stride;
}

void codes_dispose(struct codes *codes)
{
    mem_free(codes->centre);
    codes->centre = NULL;
}

/* What a row is multiplied by before it is coded. */
static float factor_of(const struct codes *codes, const struct kernels *kernels, const float *row)
{
    bool certain;
    return codes->metric == SYNA_METRIC_COSINE
               ? codes_inverse_length(kernels, row, codes->dims, &certain)
               : 1;
}

/* ---------------------------------------------------------------- training */

/* Sums of the elements of each dimension in `sums`; returns the sum of all squares. */
static double add_up(const struct codes *codes, size_t sampled, size_t count,
                     const float *(*row)(void *context, size_t i), void *context, double *sums)
{
    const struct kernels *kernels = kernels_get();
    double squares = 0;
    for (size_t i = 0; i < sampled; i++) {
        const float *x = row(context, (size_t)((double)i / (double)sampled * (double)count));
        float factor = factor_of(codes, kernels, x);
        for (uint32_t j = 0; j < codes->dims; j++) {
            double y = (double)(codes_load(x + j) * factor);
            sums[j] += y;
            squares += y * y;
        }
    }
    return squares;
}

syna_rc codes_bits_train(struct codes *codes, size_t count,
                         const float *(*row)(void *context, size_t i), void *context)
{
    size_t sampled = MIN(count, (size_t)SAMPLE_ROWS);
    double *sums = mem_zalloc(codes->dims * sizeof *sums);
    if (!codes->centre)
        codes->centre = mem_zalloc(codes->dims * sizeof *codes->centre);
    if (!sums || !codes->centre) {
        mem_free(sums);
        return syna_no_memory(codes->dims * sizeof *sums);
    }
    double rest = add_up(codes, sampled, count, row, context, sums) / (double)sampled;
    for (uint32_t j = 0; j < codes->dims; j++) {
        double mean = sums[j] / (double)sampled;
        codes->centre[j] = (float)mean;
        rest -= mean * mean;
    }
    mem_free(sums);
    double step = sqrt(MAX(rest, 0) / codes->dims); /* the typical size of an element */
    codes->step = step >= (double)CODES_STEP_MIN && step <= (double)CODES_STEP_MAX ? (float)step : 1;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- coding */

void codes_bits_encode(const struct codes *codes, const struct kernels *kernels, const float *row,
                       uint8_t *out)
{
    float factor = factor_of(codes, kernels, row);
    memset(out, 0, codes->stride);
    for (uint32_t j = 0; j < codes->dims; j++)
        out[j / 8] |= (uint8_t)((codes_load(row + j) * factor > codes->centre[j]) << j % 8);
}

/* One of LEVELS; elements beyond the range take the outermost. */
static unsigned level_of(float y, float inverse)
{
    float t = y * inverse + LEVELS / 2;
    t = t > 0 ? t : 0;
    t = t < LEVELS - 1 ? t : LEVELS - 1;
    return (unsigned)t;
}

void codes_bits_query(const struct codes *codes, const struct kernels *kernels, const float *query,
                      uint8_t *room, struct code_query *out)
{
    float factor = factor_of(codes, kernels, query), inverse = LEVELS / 2 / (RANGE * codes->step);
    memset(room, 0, codes_room(codes));
    for (uint32_t j = 0; j < codes->dims; j++) {
        unsigned level = level_of(query[j] * factor - codes->centre[j], inverse);
        for (uint32_t p = 0; p < PLANES; p++)
            room[p * codes->stride + j / 8] |= (uint8_t)((level >> p & 1) << j % 8);
    }
    *out = (struct code_query){.bytes = room, .planes = PLANES, .error = INFINITY};
    out->scale = 4 * codes->step * codes->step / (LEVELS - 1);
}

void codes_bits_query_row(const struct codes *codes, const uint8_t *row, uint8_t *room,
                          struct code_query *out)
{
    memcpy(room, row, codes->stride);
    *out = (struct code_query){.bytes = room, .planes = 1, .error = INFINITY};
    out->scale = 4 * codes->step * codes->step;
}

/* ---------------------------------------------------------------- comparing */

void codes_bits_many(const struct codes *codes, const struct kernels *kernels,
                     const struct code_query *query, const uint8_t *const *rows, size_t count,
                     int32_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t sum = 0;
        for (uint32_t p = 0; p < query->planes; p++)
            sum += kernels->bits->hamming(query->bytes + (size_t)p * codes->stride, rows[i],
                                          codes->stride)
                   << p;
        out[i] = (int32_t)sum;
    }
}

void codes_bits_scan(const struct codes *codes, const struct kernels *kernels,
                     const struct code_query *query, const uint8_t *rows, size_t count, int32_t *out)
{
    uint32_t differ[TOGETHER];
    for (size_t at = 0; at < count; at += TOGETHER) {
        size_t some = MIN(count - at, (size_t)TOGETHER);
        memset(out + at, 0, some * sizeof *out);
        for (uint32_t p = 0; p < query->planes; p++) {
            kernels->bits->hamming_rows(query->bytes + (size_t)p * codes->stride,
                                        rows + at * codes->stride, codes->stride, some,
                                        codes->stride, differ);
            for (size_t i = 0; i < some; i++)
                out[at + i] += (int32_t)(differ[i] << p);
        }
    }
}

void codes_bits_tile(const struct codes *codes, const struct kernels *kernels,
                     const uint8_t *const *a, size_t na, const uint8_t *const *b, size_t nb,
                     int32_t *out, size_t out_stride)
{
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            out[i * out_stride + j] = (int32_t)kernels->bits->hamming(a[i], b[j], codes->stride);
}
