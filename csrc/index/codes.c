/* Codes and what they promise.
 *
 * Encoding is plain float arithmetic without fused operations (the build turns contraction off), so a
 * row has the same code and the same error everywhere. Rounding to the nearest integer, halves to even,
 * is done by adding 1.5 * 2^23, whose last mantissa bit is worth one.
 *
 * Where the bounds come from. Let u be the row as coded (normalised under cosine), c what its code
 * stands for, v the query and d what its code stands for, all as exact numbers. Then
 *
 *   |<u,v> - <c,d>| <= |<u-c,d>| + |<u,v-d>| <= |u-c| |d| + |u| |v-d|        and
 *   ||u-v| - |c-d|| <= |u-c| + |v-d|.
 *
 * What is computed in float differs from the exact numbers by relative errors of a few units of 2^-24,
 * and by (n/32 + 8) units for a canonical sum of n terms (math/distance.h): a score under cosine has
 * one of the sum, half of one of each norm, two divisions and a subtraction. `slack_of` is at least four
 * times that. Sums of products below 2^-126 lose an absolute 2^-149 a term instead, which TINY covers
 * for lengths (a root) and TINY_RANK for ranks. Cosine divides by lengths, so there a relative error is
 * needed: a row or query whose length is outside [LENGTH_MIN, LENGTH_MAX], where squares neither
 * underflow nor overflow, gets the error INFINITY, which means that nothing is certain. */
#include "base/internal.h"

#include "index/array.h"
#include "index/codes_bits.h"
#include "math/int8.h"
#include <synadb/vector.h>

#include <float.h>
#include <math.h>

#define MAGIC 12582912.0f /* 1.5 * 2^23 */
#define CHUNK 256u
#define LENGTH_MIN 0x1p-50f
#define LENGTH_MAX 0x1p60f
#define SCALE_MIN 0x1p-110f
#define SCALE_MAX 0x1p110f
#define TINY 0x1p-66
#define TINY_RANK 0x1p-130

void codes_init(struct codes *codes, uint32_t dims, int32_t metric)
{
    uint32_t stride = (dims + INT8_STEP - 1) / INT8_STEP * INT8_STEP;
    *codes = (struct codes){.metric = metric, .dims = dims, .stride = stride};
}

#define SPLIT_LEAST 256u /* bytes of a row: half of it is two cache lines fewer */

#ifdef SYNA_TESTING
uint32_t codes_test_split_least = SPLIT_LEAST;
#undef SPLIT_LEAST
#define SPLIT_LEAST codes_test_split_least
#endif

void codes_split(struct codes *codes)
{
    codes->split = !codes->bits && codes->stride >= SPLIT_LEAST;
}

/* ---------------------------------------------------------------- encoding */

/* element = low + step * k, least <= k <= most, stored as k + zero. */
struct grid {
    float low, step, least, most;
    int32_t zero;
};

static struct grid grid_signed(float step)
{
    return (struct grid){0, step, -127, 127, 128};
}

static struct grid grid_of(const struct codes *codes)
{
    if (codes_euclidean(codes))
        return (struct grid){codes->low, codes->step, 0, 127, 0};
    return grid_signed(codes->step);
}

/* Codes of x * factor, at most CHUNK elements; `rest` gets what they leave out. */
static void encode_some(const struct grid *grid, const float *x, size_t n, float factor, uint8_t *out,
                        float *rest)
{
    float low = grid->low, step = grid->step, inverse = 1 / grid->step;
    float least = grid->least, most = grid->most;
    for (size_t i = 0; i < n; i++) {
        float y = codes_load(x + i) * factor, t = (y - low) * inverse;
        uint32_t bits;
        t = t > least ? t : least;
        t = t < most ? t : most;
        t += MAGIC;
        memcpy(&bits, &t, sizeof bits);
        out[i] = (uint8_t)(bits + (uint32_t)grid->zero);
        rest[i] = y - (low + step * (t - MAGIC));
    }
}

/* A whole row and its padding; the length of what is left out. */
static double encode(const struct codes *codes, const struct kernels *kernels,
                     const struct grid *grid, const float *x, float factor, bool split, uint8_t *out)
{
    float rest[CHUNK];
    uint8_t some[CHUNK];
    double squares = 0;
    for (size_t i = 0; i < codes->dims; i += CHUNK) {
        size_t n = MIN(codes->dims - i, (size_t)CHUNK), whole = MIN(codes->stride - i, (size_t)CHUNK);
        uint8_t *to = split ? some : out + i;
        encode_some(grid, x + i, n, factor, to, rest);
        squares += (double)kernels->dot(rest, rest, n);
        memset(to + n, grid->zero, whole - n);
        if (split)
            int8_split(codes_euclidean(codes), some, i, whole, codes->stride, out);
    }
    return sqrt(squares);
}

void codes_split_row(const struct codes *codes, const uint8_t *row, uint8_t *out)
{
    if (codes->split)
        int8_split(codes_euclidean(codes), row, 0, codes->stride, codes->stride, out);
    else
        memcpy(out, row, codes->stride);
}

syna_rc codes_split_rows(const struct codes *codes, struct array *rows, uint32_t count, size_t max)
{
    struct array split;
    SYNA_TRY(array_init(&split, codes->stride, max));
    syna_rc rc = array_reserve(&split, count);
    if (rc != SYNA_SUCCESS) {
        array_dispose(&split);
        return rc;
    }
    for (uint32_t row = 0; row < count; row++)
        codes_split_row(codes, array_at(rows, row), array_at(&split, row));
    array_dispose(rows);
    *rows = split;
    return SYNA_SUCCESS;
}

/* At least four times the relative error of a canonical sum and the few operations around it. */
static double slack_of(const struct codes *codes)
{
    return ((double)codes->dims / 32 + 16) * 0x1p-22;
}

static float round_up(double x)
{
    float f = (float)(x * (1 + 0x1p-20));
    return f < FLT_MAX ? f : INFINITY;
}

/* The error of a coded row, an upper bound: of what the sum of squares and the elements' own rounding
 * may have hidden, too. Under cosine the row's length was a canonical sum, so all of it is relative. */
static float error_of(const struct codes *codes, const struct grid *grid, double rest)
{
    double hidden = codes->metric == SYNA_METRIC_COSINE
                        ? slack_of(codes)
                        : 0x1p-22 * sqrt((double)codes->dims) *
                              (fabs((double)grid->low) + 127 * (double)grid->step);
    return round_up(rest * (1 + slack_of(codes)) + hidden + TINY);
}

float codes_inverse_length(const struct kernels *kernels, const float *x, size_t n, bool *certain)
{
    float length = vector_norm(kernels, x, n);
    *certain = length == 0 || (length >= LENGTH_MIN && length <= LENGTH_MAX);
    return length > 0 && length <= FLT_MAX ? 1 / length : 0;
}

float codes_encode(const struct codes *codes, const struct kernels *kernels, const float *row,
                   uint8_t *out)
{
    if (codes->bits) {
        codes_bits_encode(codes, kernels, row, out);
        return INFINITY;
    }
    struct grid grid = grid_of(codes);
    bool certain = true;
    float factor = codes->metric == SYNA_METRIC_COSINE
                       ? codes_inverse_length(kernels, row, codes->dims, &certain)
                       : 1;
    double rest = encode(codes, kernels, &grid, row, factor, codes->split, out);
    return certain ? error_of(codes, &grid, rest) : INFINITY;
}

/* ---------------------------------------------------------------- queries */

/* A row in signed codes becomes the query that it is multiplied by: negated, so that a larger product
 * gives a smaller integer. */
static void negate(const struct codes *codes, uint8_t *bytes, struct code_query *out)
{
    int32_t sum = 0, squares = 0; /* of 2^16 elements at most: a loop that compilers make vectors of */
    for (uint32_t i = 0; i < codes->stride; i++) {
        int16_t element = (int16_t)(128 - bytes[i]);
        bytes[i] = (uint8_t)element;
        sum += element;
        squares += (int16_t)(element * element);
    }
    out->bytes = bytes;
    out->base = -128 * sum;
    out->norm = (float)sqrt((double)squares); /* of the integers; the caller knows the step */
}

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabsf(codes_load(x + i)) > most ? fabsf(codes_load(x + i)) : most;
    return most;
}

static void query_signed(const struct codes *codes, const struct kernels *kernels,
                         const float *query, uint8_t *room, struct code_query *out)
{
    bool certain = true, cosine = codes->metric == SYNA_METRIC_COSINE;
    float factor = cosine ? codes_inverse_length(kernels, query, codes->dims, &certain) : 1;
    float step = largest(query, codes->dims) * factor / 127;
    struct grid grid = grid_signed(MAX(step, CODES_STEP_MIN));
    double rest = encode(codes, kernels, &grid, query, factor, false, room);
    negate(codes, room, out);
    out->norm = round_up((double)out->norm * (double)grid.step);
    out->error = error_of(codes, &grid, rest);
    double scale = (double)grid.step * (double)codes->step;
    if (!certain || scale < (double)SCALE_MIN || scale > (double)SCALE_MAX)
        out->error = INFINITY;
    out->scale = (float)scale;
    out->offset = cosine ? 1 : 0;
}

static float euclidean_norm(const struct codes *codes, const uint8_t *bytes)
{
    double squares = 0;
    for (uint32_t i = 0; i < codes->dims; i++) {
        double element = (double)codes->low + (double)codes->step * bytes[i];
        squares += element * element;
    }
    return round_up(sqrt(squares));
}

void codes_query(const struct codes *codes, const struct kernels *kernels, const float *query,
                 uint8_t *room, struct code_query *out)
{
    *out = (struct code_query){0};
    if (codes->bits) {
        codes_bits_query(codes, kernels, query, room, out);
        return;
    }
    if (!codes_euclidean(codes)) {
        query_signed(codes, kernels, query, room, out);
        return;
    }
    struct grid grid = grid_of(codes);
    out->bytes = room;
    out->error = error_of(codes, &grid, encode(codes, kernels, &grid, query, 1, false, room));
    out->scale = codes->step * codes->step;
    out->norm = euclidean_norm(codes, room);
}

void codes_query_row(const struct codes *codes, const uint8_t *row, uint8_t *room,
                     struct code_query *out)
{
    *out = (struct code_query){.bytes = room, .scale = codes->step * codes->step};
    if (codes->bits) {
        codes_bits_query_row(codes, row, room, out);
        return;
    }
    const struct int8_kernels *int8 = kernels_get()->int8;
    if (codes->split)
        int8->unite(codes_euclidean(codes), row, codes->stride, room);
    if (codes_euclidean(codes)) {
        if (!codes->split)
            memcpy(room, row, codes->stride);
        return;
    }
    out->base = -128 * int8->turn(codes->split ? room : row, codes->stride, (int8_t *)room);
    out->offset = codes->metric == SYNA_METRIC_COSINE ? 1 : 0;
}

/* ---------------------------------------------------------------- comparing */

void codes_many(const struct codes *codes, const struct kernels *kernels,
                const struct code_query *query, const uint8_t *const *rows, size_t count,
                int32_t *out)
{
    const struct int8_kernels *int8 = kernels->int8;
    if (codes->bits)
        codes_bits_many(codes, kernels, query, rows, count, out);
    else if (codes_euclidean(codes))
        (codes->split ? int8->difference_split_many : int8->difference_many)(query->bytes, rows, count,
                                                                             codes->stride, out);
    else
        (codes->split ? int8->product_split_many : int8->product_many)(
            (const int8_t *)query->bytes, query->base, rows, count, codes->stride, out);
}

void codes_coarse_many(const struct codes *codes, const struct kernels *kernels,
                       const struct code_query *query, const uint8_t *const *rows, size_t count,
                       int32_t *out)
{
    if (codes_euclidean(codes))
        kernels->int8->difference_coarse_many(query->bytes, rows, count, codes->stride, out);
    else
        kernels->int8->product_coarse_many((const int8_t *)query->bytes, query->base, rows, count,
                                           codes->stride, out);
}

const uint8_t *const *codes_whole(const struct codes *codes, const struct kernels *kernels,
                                  const uint8_t *const *rows, size_t count, uint8_t *room,
                                  const uint8_t **out)
{
    if (!codes->split)
        return rows;
    for (size_t i = 0; i < count; i++) {
        out[i] = room + i * codes->stride;
        kernels->int8->unite(codes_euclidean(codes), rows[i], codes->stride, room + i * codes->stride);
    }
    return out;
}

void codes_scan(const struct codes *codes, const struct kernels *kernels,
                const struct code_query *query, const uint8_t *rows, size_t count, int32_t *out)
{
    const struct int8_kernels *int8 = kernels->int8;
    if (codes->bits)
        codes_bits_scan(codes, kernels, query, rows, count, out);
    else if (codes_euclidean(codes))
        (codes->split ? int8->difference_split_scan : int8->difference_scan)(query->bytes, rows, count,
                                                                             codes->stride, out);
    else
        (codes->split ? int8->product_split_scan : int8->product_scan)(
            (const int8_t *)query->bytes, query->base, rows, count, codes->stride, out);
}

#define ROOM_ALIGN ((uintptr_t)64)

size_t codes_tile_scratch(const struct codes *codes, size_t na, size_t nb)
{
    size_t each = codes->split ? codes->stride + sizeof(uint8_t *) : 0; /* rows that are put together */
    return int8_room(nb, codes->stride) + 2 * ROOM_ALIGN + (na + nb) * each;
}

/* The product is the same whichever row is the query, so the b are packed and the a read as they are. */
void codes_tile(const struct codes *codes, const struct kernels *kernels, const uint8_t *const *a,
                size_t na, const uint8_t *const *b, size_t nb, int32_t *out, size_t out_stride,
                void *scratch)
{
    struct int8_panels panels;
    if (na == 0 || nb == 0)
        return;
    if (codes->bits) {
        codes_bits_tile(codes, kernels, a, na, b, nb, out, out_stride);
        return;
    }
    void *room = (void *)(((uintptr_t)scratch + ROOM_ALIGN - 1) & ~(ROOM_ALIGN - 1));
    if (codes->split) {
        const uint8_t **pointers = (const uint8_t **)room;
        uint8_t *rows = (uint8_t *)(pointers + na + nb);
        bool same = a == b && na == nb;
        b = codes_whole(codes, kernels, b, nb, rows, pointers);
        a = same ? b : codes_whole(codes, kernels, a, na, rows + nb * codes->stride, pointers + nb);
        room = rows + (na + nb) * codes->stride;
        room = (void *)(((uintptr_t)room + ROOM_ALIGN - 1) & ~(ROOM_ALIGN - 1));
    }
    int8_pack(kernels->int8, codes_euclidean(codes), b, nb, codes->stride, room, &panels);
    kernels->int8->tile(&panels, 0, a, na, out, out_stride);
}

/* ---------------------------------------------------------------- bounds */

static float not_above(double x)
{
    if (x >= (double)FLT_MAX)
        return FLT_MAX;
    float f = (float)x;
    return (double)f > x ? nextafterf(f, -INFINITY) : f;
}

static float not_below(double x)
{
    return -not_above(-x);
}

/* Half the width of the interval around an estimated product. Infinite when nothing is certain. */
static double product_width(const struct codes *codes, const struct code_query *q, double estimate,
                            double error, double length)
{
    double slack = slack_of(codes), query_length = (double)q->norm + (double)q->error;
    double size = query_length * length;
    if (!(size < (double)FLT_MAX / 8)) /* the score itself may overflow */
        return INFINITY;
    return error * (double)q->norm + (double)q->error * length +
           slack * (fabs(estimate) + size) + TINY_RANK;
}

void codes_bounds(const struct codes *codes, const struct code_query *q, int32_t integer,
                  float error, float norm, float *lowest, float *highest)
{
    double slack = slack_of(codes);
    *lowest = -FLT_MAX;
    *highest = FLT_MAX;
    if (!(error <= FLT_MAX) || !(q->error <= FLT_MAX))
        return;
    if (codes_euclidean(codes)) {
        double estimate = (double)codes->step * sqrt((double)integer);
        double width = (double)error + (double)q->error;
        double low = MAX(estimate * (1 - slack) - width, 0), high = estimate * (1 + slack) + width;
        *lowest = not_above(MAX(low * low * (1 - slack) - TINY_RANK, 0));
        *highest = MIN(not_below(high * high * (1 + slack) + TINY_RANK), FLT_MAX);
        return;
    }
    bool cosine = codes->metric == SYNA_METRIC_COSINE;
    double length = cosine ? 1 : (double)norm * (1 + slack) + TINY;
    double estimate = (double)q->scale * integer;
    double width = product_width(codes, q, estimate, (double)error, length);
    if (!(width <= (double)FLT_MAX))
        return;
    double low = estimate - width, high = estimate + width;
    if (cosine) { /* distances are brought into [0, 2] */
        low = MIN(MAX(1 + low, 0), 2);
        high = MIN(MAX(1 + high, 0), 2);
    }
    *lowest = MAX(not_above(low), -FLT_MAX);
    *highest = MIN(not_below(high), FLT_MAX);
}

/* Every estimate is at most as large as the lengths of the two codes allow, which makes the width of
 * codes_bounds linear in a row's error and length. The last step up is for the roundings here. */
static void limit_products(struct code_limit *limit, const struct codes *codes,
                           const struct code_query *q, double rank)
{
    bool cosine = codes->metric == SYNA_METRIC_COSINE;
    double slack = slack_of(codes), up = (1 + 0x1p-40) / (double)q->scale;
    double by_error = (double)q->norm * (1 + slack);
    double by_length = (double)q->error + slack * (2 * (double)q->norm + (double)q->error);
    double longest = (double)FLT_MAX / 8 / ((double)q->norm + (double)q->error) / (1 + slack);
    limit->by_error = by_error * up;
    limit->by_norm = cosine ? 0 : by_length * (1 + slack) * up;
    limit->norm_max = cosine ? INFINITY : longest * (1 - slack);
    double length = cosine ? 1 : TINY;
    limit->base = (rank - (cosine ? 1 : 0) + length * by_length + TINY_RANK) * up;
    limit->base += fabs(limit->base) * 0x1p-40;
}

void codes_limit_init(struct code_limit *limit, const struct codes *codes, const struct code_query *q,
                      float rank)
{
    bool euclidean = codes_euclidean(codes), cosine = codes->metric == SYNA_METRIC_COSINE;
    double slack = slack_of(codes);
    *limit = (struct code_limit){.norm_max = -1};
    if (!(q->error <= FLT_MAX) || rank >= FLT_MAX || (cosine && rank >= 2))
        return;
    limit->norm_max = INFINITY;
    if (rank < 0 && (euclidean || cosine)) { /* no rank is */
        limit->base = -INFINITY;
        limit->squared = false;
        return;
    }
    double above = (double)nextafterf(rank, INFINITY); /* bounds are floats */
    if (euclidean) {
        double up = (1 + slack) / ((1 - slack) * (double)codes->step);
        limit->base = (sqrt((above + TINY_RANK) / (1 - slack)) + (double)q->error) * up;
        limit->by_error = up;
        limit->squared = true;
        return;
    }
    limit_products(limit, codes, q, above);
}
