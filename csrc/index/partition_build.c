/* partition_build.c - a partition from rows: codes, centroids trained from a part of them, lists of all.
 * The lists of a build stand one after the other in an arena. */
#include "base/internal.h"

#include "index/partition_core.h"
#include "index/workers.h"
#include <synadb/vector.h>

#include <math.h>

#define ROWS_PER_WELL 32u
#define ROWS_LEAST 16u /* in a well, of few rows */
#define SAMPLE_PER_WELL 20u /* rows that centroids are trained from: more hardly better them */
#define CODE_BLOCK 256u

struct building {
    struct partition *p;
    const struct partition_source *from;
    uint32_t *rows;  /* the live ones */
    uint32_t count;
    uint8_t *codes;  /* of each, in their order */
    uint32_t *near; /* of each row, then the second list of each */
};

uint32_t partition_wells_for(uint32_t rows, uint32_t most)
{
    uint32_t root = (uint32_t)(4 * sqrt((double)rows));
    uint32_t wells = MIN(MAX(root, rows / ROWS_PER_WELL), 2 * root);
    return MAX(MIN(MIN(MIN(wells, rows / ROWS_LEAST), most), PARTITION_WELLS_MAX), 1u);
}

/* ---------------------------------------------------------------- codes */

static syna_rc list_live(struct building *b)
{
    const struct partition_source *from = b->from;
    b->rows = mem_alloc(from->count * sizeof *b->rows);
    if (!b->rows)
        return syna_no_memory(from->count * sizeof *b->rows);
    for (uint32_t row = 0; row < from->count; row++)
        if (!from->live || (from->live[row / 64] >> row % 64 & 1))
            b->rows[b->count++] = row;
    return SYNA_SUCCESS;
}

static const float *live_row(void *context, size_t i)
{
    const struct building *b = context;
    return b->from->row(b->from->context, b->rows[i]);
}

static syna_rc code_block(void *context, unsigned thread, uint64_t block)
{
    struct building *b = context;
    const struct codes *codes = &b->p->codes;
    uint32_t first = (uint32_t)block * CODE_BLOCK, end = MIN(first + CODE_BLOCK, b->count);
    (void)thread;
    for (uint32_t i = first; i < end; i++)
        *(float *)array_at(&b->p->errors, b->rows[i]) = codes_encode(
            codes, b->from->kernels, live_row(b, i), b->codes + (size_t)i * codes->stride);
    return SYNA_SUCCESS;
}

static syna_rc code_rows(struct building *b)
{
    struct partition *p = b->p;
    SYNA_TRY(codes_train(&p->codes, b->count, live_row, b));
    SYNA_TRY(array_init(&p->errors, sizeof(float), PARTITION_ROWS_MAX));
    SYNA_TRY(array_reserve(&p->errors, b->from->count));
    b->codes = mem_alloc_aligned((size_t)b->count * p->codes.stride, 64);
    b->near = mem_alloc(2 * (size_t)b->count * sizeof *b->near);
    if (!b->codes || !b->near)
        return syna_no_memory((size_t)b->count * p->codes.stride);
    return workers_run(b->from->threads, ((uint64_t)b->count + CODE_BLOCK - 1) / CODE_BLOCK,
                       code_block, b, b->from->step, b->from->step_context);
}

/* ---------------------------------------------------------------- centroids */

static struct code_rows coded(const struct building *b, uint32_t count)
{
    return (struct code_rows){.kernels = b->from->kernels,
                              .codes = &b->p->codes,
                              .rows = b->codes,
                              .count = count,
                              .of = b->count,
                              .threads = b->from->threads,
                              .step = b->from->step,
                              .step_context = b->from->step_context};
}

static syna_rc train(struct building *b, uint32_t wells)
{
    struct partition *p = b->p;
    struct code_rows sample = coded(b, MIN(b->count, wells * SAMPLE_PER_WELL));
    SYNA_TRY(partition_reserve_wells(p, wells));
    SYNA_TRY(partition_train(&sample, wells, p->centroids, p->weights));
    memset(p->wells, 0, wells * sizeof *p->wells);
    p->count = wells;
    return partition_group_wells(p, b->from->kernels);
}

/* ---------------------------------------------------------------- lists */

static syna_rc assign(struct building *b)
{
    struct partition *p = b->p;
    struct code_rows rows = coded(b, b->count);
    struct centers *centers;
    SYNA_TRY(centers_new(b->from->kernels, &p->codes, p->centroids, p->weights, p->count, &centers));
    syna_rc rc = partition_assign(&rows, centers, b->near, b->near + b->count);
    centers_free(centers);
    return rc;
}

static float norm_of(const struct building *b, uint32_t i)
{
    return b->p->codes.metric == SYNA_METRIC_DOT_PRODUCT
               ? vector_norm(b->from->kernels, live_row((void *)(uintptr_t)b, i), b->p->codes.dims)
               : 0;
}

static void put_row(struct building *b, uint32_t i, uint32_t well, float norm, size_t *fill)
{
    struct partition *p = b->p;
    struct well *w = &p->wells[well];
    size_t stride = p->codes.stride, at = fill[well]++;
    p->arena_rows[at] = b->rows[i];
    memcpy(p->arena_codes + at * stride, b->codes + i * stride, stride);
    w->error = MAX(w->error, *(const float *)array_at(&p->errors, b->rows[i]));
    w->norm = MAX(w->norm, norm);
}

static syna_rc fill_lists(struct building *b)
{
    struct partition *p = b->p;
    size_t stride = p->codes.stride;
    size_t copies = p->count > 1 ? 2 : 1, entries = copies * b->count, at = 0;
    size_t *fill = mem_alloc(p->count * sizeof *fill);
    p->arena_rows = mem_alloc(entries * sizeof *p->arena_rows);
    p->arena_codes = mem_alloc_aligned(entries * stride, 64);
    if (!fill || !p->arena_rows || !p->arena_codes) {
        mem_free(fill);
        return syna_no_memory(entries * stride);
    }
    for (size_t i = 0; i < entries; i++)
        p->wells[b->near[i]].head_count++;
    for (uint32_t w = 0; w < p->count; w++) {
        p->wells[w].head_rows = p->arena_rows + at;
        p->wells[w].head_codes = p->arena_codes + at * stride;
        fill[w] = at;
        at += p->wells[w].head_count;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        float norm = norm_of(b, i);
        for (size_t copy = 0; copy < copies; copy++)
            put_row(b, i, b->near[copy * b->count + i], norm, fill);
    }
    mem_free(fill);
    p->rows = b->count;
    p->entries = (uint32_t)entries;
    p->end = b->from->count;
    p->trained = b->count;
    return SYNA_SUCCESS;
}

static syna_rc build(struct building *b, uint32_t most_wells, bool sample)
{
    SYNA_TRY(list_live(b));
    if (b->count == 0)
        return SYNA_SUCCESS; /* nothing to learn from: it stays untrained */
    SYNA_TRY(code_rows(b));
    SYNA_TRY(train(b, partition_wells_for(b->count, most_wells)));
    if (sample)
        return SYNA_SUCCESS;
    SYNA_TRY(assign(b));
    return fill_lists(b);
}

syna_rc partition_build(struct partition *p, const struct partition_source *from, uint32_t most_wells,
                        bool sample)
{
    struct building b = {.p = p, .from = from};
    syna_rc rc = build(&b, most_wells, sample);
    mem_free(b.rows);
    mem_free_aligned(b.codes);
    mem_free(b.near);
    return rc;
}
