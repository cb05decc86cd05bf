/* Exact search by way of the codes.
 *
 * Rows are taken in blocks. For each query a block's integers are compared with one number, which
 * stands for the query's limit and the block's largest error; the few rows that pass are looked at one
 * by one (exact_seeker.c). A few queries scan a block one after the other; many make a matrix product
 * of it, for which their codes are packed once. */
#include "base/internal.h"

#include "index/exact_core.h"
#include "math/half.h"
#include "math/int8.h"
#include <synadb/vector.h>

#define BLOCK_ROWS 128u
#define BATCH 256u      /* queries that share a pass over the rows */
#define BATCH_LEAST 6u  /* fewer scan one by one */

/* ---------------------------------------------------------------- full rows */

void row_set_read(const struct row_set *set, const void *full, float *out)
{
    size_t dims = set->codes.dims;
    if (set->kind == ROW_F16)
        set->kernels->half->f16_to_f32(full, dims, out);
    else if (set->kind == ROW_BF16)
        set->kernels->half->bf16_to_f32(full, dims, out);
    else
        memcpy(out, full, dims * sizeof *out);
}

static float half_sum(const struct row_set *set, const float *query, const void *full)
{
    const struct half_kernels *half = set->kernels->half;
    bool euclidean = set->codes.metric == SYNA_METRIC_EUCLIDEAN;
    if (set->kind == ROW_F16)
        return (euclidean ? half->l2sq_f16 : half->dot_f16)(query, full, set->codes.dims);
    return (euclidean ? half->l2sq_bf16 : half->dot_bf16)(query, full, set->codes.dims);
}

void row_set_sums(const struct row_set *set, const float *query, const void *const *full, size_t count,
                  float *sums)
{
    size_t dims = set->codes.dims;
    for (size_t i = 0; set->kind != ROW_FLOAT && i < count; i++)
        sums[i] = half_sum(set, query, full[i]);
    if (set->kind != ROW_FLOAT)
        return;
    if (set->codes.metric == SYNA_METRIC_EUCLIDEAN)
        set->kernels->l2sq_many(query, full, count, dims, sums);
    else
        set->kernels->dot_many(query, full, count, dims, sums);
}

float row_set_rank(const struct row_set *set, const float *query, float query_norm, uint32_t row)
{
    const float *full = set->full(set->context, row);
    float sum = set->kind != ROW_FLOAT ? half_sum(set, query, full)
                : set->codes.metric == SYNA_METRIC_EUCLIDEAN
                    ? set->kernels->l2sq(query, full, set->codes.dims)
                    : set->kernels->dot(query, full, set->codes.dims);
    return score_rank(set->codes.metric, sum, query_norm, *(const float *)array_at(&set->norms, row));
}

/* ---------------------------------------------------------------- blocks of rows */

struct rows {
    const struct row_set *set;
    const uint64_t *chosen;
    uint64_t next, end;
};

struct block {
    uint32_t rows[BLOCK_ROWS];
    uint32_t count;
    const uint8_t *codes[BLOCK_ROWS];
    float errors[BLOCK_ROWS], norms[BLOCK_ROWS];
    float error, norm; /* the largest */
    bool run;          /* codes stand one after the other */
};

static void take_chosen(struct rows *from, struct block *b)
{
    while (b->count < BLOCK_ROWS && from->next < from->end) {
        uint64_t bits = from->chosen[from->next / 64] >> from->next % 64;
        if (bits == 0) {
            from->next = (from->next / 64 + 1) * 64;
            continue;
        }
        from->next += (unsigned)__builtin_ctzll(bits);
        if (from->next < from->end)
            b->rows[b->count++] = (uint32_t)from->next++;
    }
}

static void take_all(struct rows *from, struct block *b)
{
    b->count = (uint32_t)MIN(from->end - from->next, (uint64_t)BLOCK_ROWS);
    for (uint32_t i = 0; i < b->count; i++)
        b->rows[i] = (uint32_t)from->next + i;
    from->next += b->count;
}

/* Do the items of these rows stand one after the other? */
static bool is_run(const struct array *a, const struct block *b)
{
    uint32_t last = b->count - 1;
    return b->rows[last] - b->rows[0] == last &&
           array_at(a, b->rows[last]) == (uint8_t *)array_at(a, b->rows[0]) + last * a->item;
}

static void take_floats(const struct array *a, const struct block *b, float *out)
{
    if (is_run(a, b)) {
        memcpy(out, array_at(a, b->rows[0]), b->count * sizeof *out);
        return;
    }
    for (uint32_t i = 0; i < b->count; i++)
        out[i] = *(const float *)array_at(a, b->rows[i]);
}

/* Of floats that are not negative, which sort as integers do; compilers make vectors of those. */
static float largest(const float *values, size_t count)
{
    int32_t most = 0;
    float largest_value;
    for (size_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        most = MAX(most, bits);
    }
    memcpy(&largest_value, &most, sizeof largest_value);
    return largest_value;
}

/* The next block, with codes, errors and lengths; false at the end. */
static bool next_block(struct rows *from, struct block *b)
{
    const struct row_set *set = from->set;
    b->count = 0;
    if (from->chosen)
        take_chosen(from, b);
    else
        take_all(from, b);
    if (b->count == 0)
        return false;
    b->run = is_run(&set->code_rows, b);
    const uint8_t *code = array_at(&set->code_rows, b->rows[0]);
    for (uint32_t i = 0; b->run && i < b->count; i++)
        b->codes[i] = code + (size_t)i * set->codes.stride;
    for (uint32_t i = 0; !b->run && i < b->count; i++)
        b->codes[i] = array_at(&set->code_rows, b->rows[i]);
    take_floats(&set->errors, b, b->errors);
    take_floats(&set->norms, b, b->norms);
    b->error = largest(b->errors, b->count);
    b->norm = largest(b->norms, b->count);
    return true;
}

static bool suspect(struct seeker *s, const struct block *b, uint32_t i, int32_t integer)
{
    return seeker_suspect(s, b->rows[i], integer, b->errors[i], b->norms[i]);
}

static int32_t limit_for(const struct seeker *s, const struct block *b)
{
    return codes_limit(&s->code_limit, b->error, b->norm);
}

/* ---------------------------------------------------------------- a few queries */

static bool scan_block(struct seeker *s, const struct block *b)
{
    const struct row_set *set = s->set;
    int32_t integers[BLOCK_ROWS];
    if (s->plain)
        return seeker_score(s, b->rows, b->count);
    if (b->run)
        codes_scan(&set->codes, set->kernels, &s->code, b->codes[0], b->count, integers);
    else
        codes_many(&set->codes, set->kernels, &s->code, b->codes, b->count, integers);
    int32_t limits[BLOCK_ROWS], limit = limit_for(s, b);
    uint32_t within[BLOCK_ROWS];
    for (uint32_t i = 0; i < b->count; i++)
        limits[i] = limit;
    size_t found = set->kernels->int8->within(integers, limits, b->count, within);
    for (size_t i = 0; i < found; i++)
        if (!suspect(s, b, within[i], integers[within[i]]))
            return false;
    return true;
}

/* ---------------------------------------------------------------- many queries */

/* The queries that have codes, as columns; the others scan. */
struct batch {
    struct seeker *seekers[BATCH];
    size_t count;
    void *room;
    struct int8_panels panels;
    int32_t *integers; /* BLOCK_ROWS rows of BATCH */
    int32_t limits[BATCH];
};

static void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    mem_free_aligned(batch->room);
    mem_free_aligned(batch->integers);
    mem_free(batch);
}

/* The panels are made of rows; a query's code is a negated one, except for differences. */
static bool batch_pack(struct batch *batch, const struct row_set *set)
{
    size_t stride = set->codes.stride;
    bool difference = set->codes.metric == SYNA_METRIC_EUCLIDEAN;
    uint8_t *rows = mem_alloc(batch->count * stride);
    const uint8_t *pointers[BATCH];
    batch->room = mem_alloc_aligned(int8_room(batch->count, stride), 64);
    if (!rows || !batch->room) {
        mem_free(rows);
        return false;
    }
    for (size_t q = 0; q < batch->count; q++) {
        pointers[q] = rows + q * stride;
        for (size_t i = 0; i < stride; i++)
            rows[q * stride + i] = difference ? batch->seekers[q]->code.bytes[i]
                                              : (uint8_t)(128 - batch->seekers[q]->code.bytes[i]);
    }
    int8_pack(set->kernels->int8, difference, pointers, batch->count, stride, batch->room,
              &batch->panels);
    mem_free(rows);
    return true;
}

static struct batch *batch_new(struct seeker *seekers, size_t count, const struct row_set *set)
{
    struct batch *batch = mem_zalloc(sizeof *batch);
    if (!batch)
        return NULL;
    for (size_t q = 0; q < count; q++)
        if (!seekers[q].plain)
            batch->seekers[batch->count++] = &seekers[q];
    batch->integers = mem_alloc_aligned(BLOCK_ROWS * BATCH * sizeof(int32_t), 64);
    if (!batch->integers || (batch->count > 0 && !batch_pack(batch, set))) {
        batch_free(batch);
        return NULL;
    }
    return batch;
}

static bool multiply_block(struct batch *batch, const struct block *b, const struct row_set *set)
{
    if (batch->count == 0)
        return true;
    set->kernels->int8->tile(&batch->panels, 0, b->codes, b->count, batch->integers, BATCH);
    for (size_t q = 0; q < batch->count; q++)
        batch->limits[q] = limit_for(batch->seekers[q], b);
    for (uint32_t i = 0; i < b->count; i++) {
        const int32_t *integers = batch->integers + (size_t)i * BATCH;
        uint32_t within[BATCH];
        size_t found =
            set->kernels->int8->within(integers, batch->limits, batch->count, within);
        for (size_t w = 0; w < found; w++)
            if (!suspect(batch->seekers[within[w]], b, i, integers[within[w]]))
                return false;
    }
    return true;
}

/* ---------------------------------------------------------------- the search */

static bool search_rows(struct seeker *seekers, size_t count, struct batch *batch, struct rows *from)
{
    struct block b;
    while (next_block(from, &b)) {
        if (batch && !multiply_block(batch, &b, from->set))
            return false;
        for (size_t q = 0; q < count; q++)
            if ((!batch || seekers[q].plain) && !scan_block(&seekers[q], &b))
                return false;
    }
    for (size_t q = 0; q < count; q++)
        if (!seeker_settle(&seekers[q]))
            return false;
    return true;
}

static bool search_some(const struct row_set *set, struct rows from, const float *queries,
                        size_t count, struct topk *tops, uint64_t *scored)
{
    size_t used = 0, stride = set->codes.stride;
    struct batch *batch = NULL;
    struct seeker *seekers = mem_zalloc(count * sizeof *seekers);
    uint8_t *rooms = mem_alloc_aligned(count * stride, 64);
    bool enough = seekers && rooms;
    for (size_t q = 0; enough && q < count; q++)
        if (tops[q].k > 0)
            seeker_init(&seekers[used++], set, queries + q * set->codes.dims, rooms + q * stride,
                        &tops[q], from.end - from.next);
    if (enough && used >= BATCH_LEAST) {
        batch = batch_new(seekers, used, set);
        enough = batch != NULL;
    }
    enough = enough && search_rows(seekers, used, batch, &from);
    for (size_t q = 0; q < used; q++) {
        *scored += seekers[q].scored;
        seeker_dispose(&seekers[q]);
    }
    batch_free(batch);
    mem_free(seekers);
    mem_free_aligned(rooms);
    return enough;
}

syna_rc exact_search(const struct row_set *set, uint32_t first, uint32_t count,
                     const uint64_t *chosen, const float *queries, size_t query_count,
                     struct topk *tops, uint64_t *scored)
{
    struct rows from = {set, chosen, first, (uint64_t)first + count};
    uint64_t counted = 0;
    bool enough = true;
    for (size_t q = 0; count > 0 && enough && q < query_count; q += BATCH)
        enough = search_some(set, from, queries + q * set->codes.dims,
                             MIN(query_count - q, (size_t)BATCH), tops + q, &counted);
    if (scored)
        *scored = counted;
    return enough ? SYNA_SUCCESS : syna_no_memory(BLOCK_ROWS * BATCH * sizeof(int32_t));
}
