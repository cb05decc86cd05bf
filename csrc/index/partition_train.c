/* partition_train.c - centroids of code rows: Lloyd's iterations on a sample. A new centroid is the mean of
 * its rows, from integer sums, whose order does not matter: so threads and machines agree on every bit.
 * Under cosine centroids are as long as rows are. */
#include "base/internal.h"

#include "base/rng.h"
#include "index/codes_core.h"
#include "index/partition.h"
#include "index/workers.h"

#include <math.h>

/* The part of the sample that each iteration looks at: the first ones only bring centroids near. */
static const uint32_t parts[] = {4, 4, 2, 2, 1};
#define PART_LEAST 4096u
#define FEW_ROWS 257u /* whose bytes add up to 65,535 at most */
#define AHEAD 2u      /* rows that are fetched before they are added */

/* ---------------------------------------------------------------- means */

struct training {
    const struct code_rows *rows;
    uint32_t wells;
    uint8_t *centroids;
    int32_t *weights;
    uint32_t *near;    /* of each row */
    uint32_t *starts;  /* wells + 1: the rows of well w are members[starts[w]] .. */
    uint32_t *members;
    uint32_t *sums;    /* stride a thread */
    uint16_t *parts;   /* the same, of a few rows */
};

static void group(struct training *t)
{
    uint32_t *fill = t->starts;
    memset(fill, 0, (t->wells + 2) * sizeof *fill);
    for (uint32_t i = 0; i < t->rows->count; i++)
        fill[t->near[i] + 2]++;
    for (uint32_t w = 2; w <= t->wells; w++)
        fill[w] += fill[w - 1];
    for (uint32_t i = 0; i < t->rows->count; i++)
        t->members[fill[t->near[i] + 1]++] = i;
}

static uint8_t signed_code(double element)
{
    double rounded = floor(element + 0.5);
    return (uint8_t)(128 + (int)MIN(MAX(rounded, -127), 127));
}

/* The mean of `count` rows from their sums. Under cosine it is as long as a row is. */
static void mean_of(const struct codes *codes, const uint32_t *sums, uint32_t count, uint8_t *out)
{
    double squares = 0, scale = 1.0 / count;
    for (uint32_t i = 0; codes->metric == SYNA_METRIC_COSINE && i < codes->stride; i++) {
        double element = (double)sums[i] * scale - 128;
        squares += element * element;
    }
    double stretch = squares > 0 ? 1 / (sqrt(squares) * (double)codes->step) : 1;
    for (uint32_t i = 0; i < codes->stride; i++) {
        double mean = (double)sums[i] * scale;
        out[i] = codes_euclidean(codes) ? (uint8_t)floor(mean + 0.5)
                                        : signed_code((mean - 128) * stretch);
    }
}

/* Add up rows members[first] .. members[end - 1], by sums of a few that fit 16 bits. */
static void add_rows(const struct training *t, uint32_t first, uint32_t end, uint16_t *part,
                     uint32_t *sums)
{
    uint32_t stride = t->rows->codes->stride;
    memset(sums, 0, stride * sizeof *sums);
    for (uint32_t m = first; m < end;) {
        uint32_t stop = MIN(end, m + FEW_ROWS);
        memset(part, 0, stride * sizeof *part);
        for (; m < stop; m++) {
            const uint8_t *row = code_row_at(t->rows, t->members[m]);
            const uint8_t *ahead = code_row_at(t->rows, t->members[MIN(m + AHEAD, end - 1)]);
            for (uint32_t i = 0; i < stride; i += 64)
                __builtin_prefetch(ahead + i);
            for (uint32_t i = 0; i < stride; i++)
                part[i] = (uint16_t)(part[i] + row[i]);
        }
        for (uint32_t i = 0; i < stride; i++)
            sums[i] += part[i];
    }
}

static syna_rc move_centroid(void *context, unsigned thread, uint64_t well)
{
    const struct training *t = context;
    const struct codes *codes = t->rows->codes;
    uint32_t *sums = t->sums + (size_t)thread * codes->stride;
    uint32_t first = t->starts[well], end = t->starts[well + 1];
    if (first == end)
        return SYNA_SUCCESS;
    add_rows(t, first, end, t->parts + (size_t)thread * codes->stride, sums);
    mean_of(codes, sums, end - first, t->centroids + well * codes->stride);
    t->weights[well] = partition_weight(codes, t->centroids + well * codes->stride);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- iterations */

static void put_centroid(struct training *t, uint32_t well, uint32_t row)
{
    const struct codes *codes = t->rows->codes;
    uint8_t *centroid = t->centroids + (size_t)well * codes->stride;
    memcpy(centroid, code_row_at(t->rows, row), codes->stride);
    t->weights[well] = partition_weight(codes, centroid);
}

/* A row by chance out of each of as many equal parts. */
static void first_centroids(struct training *t)
{
    uint64_t seed = t->rows->count;
    for (uint32_t w = 0; w < t->wells; w++) {
        uint64_t from = (uint64_t)w * t->rows->count / t->wells;
        uint64_t to = (uint64_t)(w + 1) * t->rows->count / t->wells;
        put_centroid(t, w, (uint32_t)(from + rng_next(&seed) % MAX(to - from, 1)));
    }
}

/* A well that nobody is nearest to moves to a row of the fullest one. */
static void move_empty(struct training *t)
{
    uint32_t fullest = 0;
    uint64_t seed = t->wells;
    for (uint32_t w = 1; w < t->wells; w++)
        if (t->starts[w + 1] - t->starts[w] > t->starts[fullest + 1] - t->starts[fullest])
            fullest = w;
    uint32_t size = t->starts[fullest + 1] - t->starts[fullest];
    for (uint32_t w = 0; w < t->wells; w++)
        if (t->starts[w + 1] == t->starts[w])
            put_centroid(t, w, t->members[t->starts[fullest] + rng_next(&seed) % size]);
}

static syna_rc assign_all(struct training *t)
{
    struct centers *centers;
    struct code_rows quiet = *t->rows;
    quiet.step = NULL;
    SYNA_TRY(centers_new(t->rows->kernels, t->rows->codes, t->centroids, t->weights, t->wells,
                         &centers));
    syna_rc rc = partition_assign(&quiet, centers, t->near, NULL);
    centers_free(centers);
    return rc;
}

static syna_rc iterate(struct training *t)
{
    const struct code_rows *rows = t->rows;
    if (rows->step && !rows->step(rows->step_context, 0, 0))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED, "stopped by the progress callback");
    SYNA_TRY(assign_all(t));
    group(t);
    SYNA_TRY(workers_run(rows->threads, t->wells, move_centroid, t, NULL, NULL));
    move_empty(t);
    return SYNA_SUCCESS;
}

syna_rc partition_train(const struct code_rows *rows, uint32_t wells, uint8_t *centroids,
                        int32_t *weights)
{
    struct code_rows some = *rows;
    struct training t = {.rows = &some, .wells = wells, .centroids = centroids, .weights = weights};
    size_t sums = (size_t)MAX(rows->threads, 1u) * rows->codes->stride;
    t.near = mem_alloc(rows->count * sizeof *t.near);
    t.starts = mem_alloc(((size_t)wells + 2) * sizeof *t.starts);
    t.members = mem_alloc(rows->count * sizeof *t.members);
    t.sums = mem_alloc(sums * sizeof *t.sums);
    t.parts = mem_alloc(sums * sizeof *t.parts);
    syna_rc rc = t.near && t.starts && t.members && t.sums && t.parts
                     ? SYNA_SUCCESS
                     : syna_no_memory(rows->count * 2 * sizeof *t.near);
    if (rc == SYNA_SUCCESS)
        first_centroids(&t);
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < COUNT_OF(parts); i++) {
        some.count = MIN(rows->count, MAX(rows->count / parts[i], PART_LEAST));
        rc = iterate(&t);
    }
    mem_free(t.near);
    mem_free(t.starts);
    mem_free(t.members);
    mem_free(t.sums);
    mem_free(t.parts);
    return rc;
}
