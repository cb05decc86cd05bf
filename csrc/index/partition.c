/* partition.c - wells and their lists: memory, and rows that are added one plan at a time. A plan is
 * made beside searches; putting it in takes only the copying. */
#include "base/internal.h"

#include "index/partition_core.h"
#include "index/workers.h"
#include <synadb/vector.h>

#define FIRST_ROWS 16u
#define CODE_BLOCK 256u
#define NO_WELL UINT32_MAX
#define DRIFT_MEASURE 0.1f /* of the entries: the curves are of other rows than these */
#define DRIFT_TRAIN 0.25f   /* the wells are where the rows are no longer, */
#define DRIFT_GROWTH 2u     /* when there are so many times as many rows */

void partition_init(struct partition *p, uint32_t dims, int32_t metric)
{
    *p = (struct partition){.end = 0};
    codes_init(&p->codes, dims, metric);
}

void well_dispose(struct well *w)
{
    mem_free(w->rows);
    mem_free(w->codes);
    *w = (struct well){.head_count = 0};
}

void partition_dispose(struct partition *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        well_dispose(&p->wells[i]);
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        partition_free_curve(&p->curves[c]);
    mem_free(p->wells);
    mem_free_aligned(p->centroids);
    mem_free(p->weights);
    partition_groups_dispose(&p->groups);
    array_dispose(&p->errors);
    mem_free_aligned(p->arena_codes);
    mem_free(p->arena_rows);
    centers_free(p->centers);
    partition_init(p, p->codes.dims, p->codes.metric);
}

uint64_t partition_bytes(const struct partition *p)
{
    size_t stride = p->codes.stride;
    uint64_t bytes = p->cap * (sizeof *p->wells + stride + sizeof *p->weights);
    bytes += centers_bytes(p->centers) + p->groups.count * (stride + sizeof *p->groups.starts);
    bytes += p->errors.item ? array_bytes(&p->errors) : 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct well *w = &p->wells[i];
        uint32_t own = w->cap + (p->arena_codes ? w->head_count : 0);
        bytes += own * (stride + sizeof *w->rows);
    }
    return bytes;
}

/* ---------------------------------------------------------------- wells */

uint8_t *partition_centroid(const struct partition *p, uint32_t well)
{
    return p->centroids + (size_t)well * p->codes.stride;
}

syna_rc partition_reserve_wells(struct partition *p, uint32_t count)
{
    if (count <= p->cap)
        return SYNA_SUCCESS;
    uint32_t cap = p->count ? MAX(count, p->cap + p->cap / 8 + 8) : count;
    size_t stride = p->codes.stride;
    struct well *wells = mem_alloc(cap * sizeof *wells);
    uint8_t *centroids = mem_alloc_aligned(cap * stride, 64);
    int32_t *weights = mem_alloc(cap * sizeof *weights);
    if (!wells || !centroids || !weights) {
        mem_free(wells);
        mem_free_aligned(centroids);
        mem_free(weights);
        return syna_no_memory(cap * stride);
    }
    if (p->count) {
        memcpy(wells, p->wells, p->count * sizeof *wells);
        memcpy(centroids, p->centroids, p->count * stride);
        memcpy(weights, p->weights, p->count * sizeof *weights);
    }
    mem_free(p->wells);
    mem_free_aligned(p->centroids);
    mem_free(p->weights);
    p->wells = wells;
    p->centroids = centroids;
    p->weights = weights;
    p->cap = cap;
    return SYNA_SUCCESS;
}

bool well_reserve(struct well *w, uint32_t more, size_t stride)
{
    if (w->cap - w->count >= more)
        return true;
    uint32_t cap = MAX(w->cap + w->cap / 2, w->count + more);
    cap = MAX(cap, FIRST_ROWS);
    uint32_t *rows = mem_resize(w->rows, cap * sizeof *rows);
    if (!rows)
        return false;
    w->rows = rows;
    uint8_t *codes = mem_resize(w->codes, cap * stride);
    if (!codes)
        return false;
    w->codes = codes;
    w->cap = cap;
    return true;
}

void well_append(struct well *w, uint32_t row, const uint8_t *code, size_t stride, float error,
                 float norm)
{
    w->rows[w->count] = row;
    memcpy(w->codes + w->count * stride, code, stride);
    w->count++;
    w->error = MAX(w->error, error);
    w->norm = MAX(w->norm, norm);
}

int32_t partition_weight(const struct codes *codes, const uint8_t *centroid)
{
    int64_t squares = 0;
    if (codes->metric == SYNA_METRIC_EUCLIDEAN)
        return 0;
    for (uint32_t i = 0; i < codes->stride; i++) {
        int32_t element = centroid[i] - 128;
        squares += element * element;
    }
    return (int32_t)(squares / 2);
}

/* ---------------------------------------------------------------- plans */

struct coding {
    const struct partition *p;
    const struct partition_source *from;
    struct partition_plan *plan;
};

static bool is_live(const struct partition_source *from, uint32_t row)
{
    return !from->live || (from->live[row / 64] >> row % 64 & 1);
}

static void code_row(const struct coding *c, uint32_t i)
{
    struct partition_plan *plan = c->plan;
    const struct codes *codes = &c->p->codes;
    uint8_t *code = plan->codes + (size_t)i * codes->stride;
    if (!is_live(c->from, plan->first + i)) {
        memset(code, 0, codes->stride);
        plan->errors[i] = 0;
        return;
    }
    const float *row = c->from->row(c->from->context, plan->first + i);
    plan->errors[i] = codes_encode(codes, c->from->kernels, row, code);
    if (plan->norms)
        plan->norms[i] = vector_norm(c->from->kernels, row, codes->dims);
}

static syna_rc code_block(void *context, unsigned thread, uint64_t block)
{
    const struct coding *c = context;
    uint32_t first = (uint32_t)block * CODE_BLOCK, end = MIN(first + CODE_BLOCK, c->plan->count);
    (void)thread;
    for (uint32_t i = first; i < end; i++)
        code_row(c, i);
    return SYNA_SUCCESS;
}

static syna_rc make_plan(struct partition *p, const struct partition_source *from,
                         struct partition_plan *plan)
{
    struct coding coding = {p, from, plan};
    size_t count = plan->count, stride = p->codes.stride;
    bool dot = p->codes.metric == SYNA_METRIC_DOT_PRODUCT;
    plan->codes = mem_alloc_aligned(count * stride, 64);
    plan->errors = mem_alloc(count * sizeof *plan->errors);
    plan->wells = mem_alloc(2 * count * sizeof *plan->wells);
    plan->norms = dot ? mem_zalloc(count * sizeof *plan->norms) : NULL;
    if (!plan->codes || !plan->errors || !plan->wells || (dot && !plan->norms))
        return syna_no_memory(count * stride);
    if (!p->centers)
        SYNA_TRY(centers_new(from->kernels, &p->codes, p->centroids, p->weights, p->count,
                             &p->centers));
    SYNA_TRY(workers_run(from->threads, (count + CODE_BLOCK - 1) / CODE_BLOCK, code_block, &coding,
                         NULL, NULL));
    struct code_rows rows = {.kernels = from->kernels, .codes = &p->codes, .rows = plan->codes,
                             .count = plan->count, .of = plan->count, .threads = from->threads,
                             .step = from->step, .step_context = from->step_context};
    SYNA_TRY(partition_assign(&rows, p->centers, plan->wells, plan->wells + count));
    for (uint32_t i = 0; i < plan->count; i++)
        if (!is_live(from, plan->first + i))
            plan->wells[i] = plan->wells[count + i] = NO_WELL;
    return SYNA_SUCCESS;
}

syna_rc partition_plan_add(struct partition *p, const struct partition_source *from, uint32_t count,
                           struct partition_plan *plan)
{
    *plan = (struct partition_plan){.first = p->end, .count = count};
    syna_rc rc = make_plan(p, from, plan);
    if (rc != SYNA_SUCCESS)
        partition_plan_dispose(plan);
    return rc;
}

void partition_plan_dispose(struct partition_plan *plan)
{
    mem_free_aligned(plan->codes);
    mem_free(plan->errors);
    mem_free(plan->wells);
    mem_free(plan->norms);
    *plan = (struct partition_plan){.count = 0};
}

/* How many rows each well gets, and room for them. */
static syna_rc reserve_for(struct partition *p, const struct partition_plan *plan)
{
    uint32_t *more = mem_zalloc(p->count * sizeof *more);
    if (!more)
        return syna_no_memory(p->count * sizeof *more);
    for (size_t i = 0; i < 2 * (size_t)plan->count; i++)
        if (plan->wells[i] != NO_WELL)
            more[plan->wells[i]]++;
    bool enough = true;
    for (uint32_t w = 0; enough && w < p->count; w++)
        enough = well_reserve(&p->wells[w], more[w], p->codes.stride);
    mem_free(more);
    return enough ? array_reserve(&p->errors, (size_t)plan->first + plan->count)
                  : syna_no_memory(plan->count * (size_t)p->codes.stride);
}

static void add_to_list(struct partition *p, const struct partition_plan *plan, uint32_t i,
                        uint32_t well)
{
    size_t stride = p->codes.stride;
    if (well == NO_WELL)
        return;
    well_append(&p->wells[well], plan->first + i, plan->codes + i * stride, stride, plan->errors[i],
                plan->norms ? plan->norms[i] : 0);
    p->entries++;
}

static float drift_of(const struct partition *p)
{
    double then = 0, now = p->entries, less = 0;
    for (uint32_t w = 0; w < p->count; w++)
        then += p->wells[w].head_count;
    for (uint32_t w = 0; w < p->count && then > 0 && now > 0; w++)
        less += MAX(p->wells[w].head_count / then - well_rows(&p->wells[w]) / now, 0);
    return (float)less;
}

/* Rows that come region by region, not spread as those that the wells and the curves are of. Whoever
 * looks after the partition goes by how many times as many rows there are now: so these numbers are
 * made as small as is due. */
static void note_drift(struct partition *p)
{
    if (p->trained == 0)
        return; /* from a sample: there is nothing to compare with */
    p->drift = drift_of(p);
    if (p->drift >= DRIFT_TRAIN && p->rows / DRIFT_GROWTH >= p->trained)
        p->trained = MAX(p->rows / PARTITION_GROWTH, 1u);
    if (p->calibrated > 0 && p->drift - p->drift_measured >= DRIFT_MEASURE)
        p->calibrated = 1;
}

syna_rc partition_add(struct partition *p, const struct partition_plan *plan)
{
    SYNA_TRY(reserve_for(p, plan));
    for (uint32_t i = 0; i < plan->count; i++) {
        *(float *)array_at(&p->errors, plan->first + i) = plan->errors[i];
        p->rows += plan->wells[i] != NO_WELL;
        add_to_list(p, plan, i, plan->wells[i]);
        add_to_list(p, plan, i, plan->wells[plan->count + i]);
    }
    p->end += plan->count;
    note_drift(p);
    return SYNA_SUCCESS;
}
