/* Exact search by way of the codes.
 *
 * Rows are taken in blocks. For each query a block's integers are compared with one number, which
 * stands for the query's limit and the block's largest error; the few rows that pass are looked at one
 * by one (exact_seeker.c). A few queries scan a stretch of blocks one after the other, long enough to be read
 * in several places at once (math/int8_loops.h); many make a matrix product of a block, for which their
 * codes are packed once. */
#include "base/internal.h"

#include "index/exact_core.h"
#include "math/half.h"
#include "math/int8.h"
#include <synadb/vector.h>

#define BLOCK_ROWS 128u
#define STRETCH_BLOCKS 16u
#define STRETCH_ROWS (STRETCH_BLOCKS * BLOCK_ROWS)
#define DENSE_SHARE 8u  /* of a stretch of which fewer are left out, all codes are scanned */
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

/* ---------------------------------------------------------------- stretches of rows */

struct rows {
    const struct row_set *set;
    const uint64_t *chosen;
    uint64_t next, end;
};

/* Some blocks; only the last one may have fewer rows than BLOCK_ROWS. */
struct stretch {
    uint32_t rows[STRETCH_ROWS];
    uint32_t count;
    const uint64_t *chosen; /* NULL: all these rows are; otherwise a bit each, as for exact_search */
    const uint8_t *codes[STRETCH_ROWS]; /* of runs to be scanned the first alone */
    const float *errors, *norms;        /* in place, or copied to what follows */
    float copied[2][STRETCH_ROWS];
    float error[STRETCH_BLOCKS], norm[STRETCH_BLOCKS]; /* the largest of each block */
    bool run; /* codes stand one after the other */
};

/* Are nearly all of the next rows chosen? */
static bool is_dense(const struct rows *from)
{
    if (from->next >= from->end)
        return false;
    uint64_t end = MIN(from->end, from->next + STRETCH_ROWS), most = (end - from->next) / DENSE_SHARE;
    uint64_t left_out = 0;
    for (uint64_t at = from->next; at < end && left_out <= most; at = (at / 64 + 1) * 64) {
        uint64_t bits = ~from->chosen[at / 64] >> at % 64;
        if (end - at < 64)
            bits &= (1ull << (end - at)) - 1;
        left_out += (unsigned)__builtin_popcountll(bits);
    }
    return left_out <= most;
}

static void take_chosen(struct rows *from, struct stretch *some)
{
    while (some->count < BLOCK_ROWS && from->next < from->end) {
        uint64_t bits = from->chosen[from->next / 64] >> from->next % 64;
        if (bits == 0) {
            from->next = (from->next / 64 + 1) * 64;
            continue;
        }
        from->next += (unsigned)__builtin_ctzll(bits);
        if (from->next < from->end)
            some->rows[some->count++] = (uint32_t)from->next++;
    }
}

static void take_all(struct rows *from, uint32_t most, struct stretch *some)
{
    some->count = (uint32_t)MIN(from->end - from->next, (uint64_t)most);
    for (uint32_t i = 0; i < some->count; i++)
        some->rows[i] = (uint32_t)from->next + i;
    from->next += some->count;
}

/* Do the items of these rows stand one after the other? */
static bool is_run(const struct array *a, const struct stretch *some)
{
    uint32_t last = some->count - 1;
    return some->rows[last] - some->rows[0] == last &&
           array_at(a, some->rows[last]) == (uint8_t *)array_at(a, some->rows[0]) + last * a->item;
}

static const float *take_floats(const struct array *a, const struct stretch *some, float *room)
{
    if (is_run(a, some))
        return array_at(a, some->rows[0]);
    for (uint32_t i = 0; i < some->count; i++)
        room[i] = *(const float *)array_at(a, some->rows[i]);
    return room;
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

static uint32_t block_end(const struct stretch *some, uint32_t first)
{
    return MIN(first + BLOCK_ROWS, some->count);
}

static void take_codes(const struct row_set *set, struct stretch *some, bool each)
{
    some->run = is_run(&set->code_rows, some);
    const uint8_t *code = array_at(&set->code_rows, some->rows[0]);
    uint32_t count = some->run && !each ? 1 : some->count;
    for (uint32_t i = 0; some->run && i < count; i++)
        some->codes[i] = code + (size_t)i * set->codes.stride;
    for (uint32_t i = 0; !some->run && i < count; i++)
        some->codes[i] = array_at(&set->code_rows, some->rows[i]);
}

/* The next rows, with codes, errors and lengths; false at the end. For a batch a block of chosen rows, with the
 * codes of each. */
static bool next_stretch(struct rows *from, bool batch, struct stretch *some)
{
    const struct row_set *set = from->set;
    bool dense = from->chosen && !batch && is_dense(from);
    some->count = 0;
    some->chosen = dense ? from->chosen : NULL;
    if (from->chosen && !dense)
        take_chosen(from, some);
    else
        take_all(from, batch ? BLOCK_ROWS : STRETCH_ROWS, some);
    if (some->count == 0)
        return false;
    take_codes(set, some, batch);
    some->errors = take_floats(&set->errors, some, some->copied[0]);
    some->norms = take_floats(&set->norms, some, some->copied[1]);
    for (uint32_t i = 0; i < some->count; i += BLOCK_ROWS) {
        uint32_t rows = block_end(some, i) - i;
        some->error[i / BLOCK_ROWS] = largest(some->errors + i, rows);
        some->norm[i / BLOCK_ROWS] = largest(some->norms + i, rows);
    }
    return true;
}

static bool is_chosen(const struct stretch *some, uint32_t i)
{
    return !some->chosen || (some->chosen[some->rows[i] / 64] >> some->rows[i] % 64 & 1);
}

static bool suspect(struct seeker *s, const struct stretch *some, uint32_t i, int32_t integer)
{
    return !is_chosen(some, i) ||
           seeker_suspect(s, some->rows[i], integer, some->errors[i], some->norms[i]);
}

/* For the block that row i of the stretch is in. */
static int32_t limit_for(const struct seeker *s, const struct stretch *some, uint32_t i)
{
    return codes_limit(&s->code_limit, some->error[i / BLOCK_ROWS], some->norm[i / BLOCK_ROWS]);
}

/* ---------------------------------------------------------------- a few queries */

/* The rows of the block from `first` on, by their integers. */
static bool judge_block(struct seeker *s, const struct stretch *some, uint32_t first,
                        const int32_t *integers)
{
    int32_t limits[BLOCK_ROWS], limit = limit_for(s, some, first);
    uint32_t within[BLOCK_ROWS], rows = block_end(some, first) - first;
    for (uint32_t i = 0; i < rows; i++)
        limits[i] = limit;
    size_t found = s->set->kernels->int8->within(integers, limits, rows, within);
    for (size_t i = 0; i < found; i++)
        if (!suspect(s, some, first + within[i], integers[within[i]]))
            return false;
    return true;
}

/* Of a seeker to whom codes say nothing. */
static bool score(struct seeker *s, const struct stretch *some)
{
    uint32_t rows[STRETCH_ROWS], count = 0;
    for (uint32_t i = 0; i < some->count; i++) {
        rows[count] = some->rows[i];
        count += is_chosen(some, i);
    }
    return seeker_score(s, rows, count);
}

static bool scan(struct seeker *s, const struct stretch *some)
{
    const struct row_set *set = s->set;
    int32_t integers[STRETCH_ROWS];
    if (s->plain)
        return score(s, some);
    if (some->run)
        codes_scan(&set->codes, set->kernels, &s->code, some->codes[0], some->count, integers);
    else
        codes_many(&set->codes, set->kernels, &s->code, some->codes, some->count, integers);
    for (uint32_t i = 0; i < some->count; i += BLOCK_ROWS)
        if (!judge_block(s, some, i, integers + i))
            return false;
    return true;
}

/* ---------------------------------------------------------------- many queries */

/* The queries that have codes, as columns; the others scan. */
struct batch {
    struct seeker *seekers[BATCH];
    size_t count;
    void *room;
    uint8_t *whole; /* a block of rows, where rows are split */
    struct int8_panels panels;
    int32_t *integers; /* BLOCK_ROWS rows of BATCH */
    int32_t limits[BATCH];
};

static void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    mem_free_aligned(batch->room);
    mem_free_aligned(batch->whole);
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
    if (set->codes.split)
        batch->whole = mem_alloc_aligned(BLOCK_ROWS * (size_t)set->codes.stride, 64);
    if (!batch->integers || (set->codes.split && !batch->whole) ||
        (batch->count > 0 && !batch_pack(batch, set))) {
        batch_free(batch);
        return NULL;
    }
    return batch;
}

static bool multiply(struct batch *batch, const struct stretch *block, const struct row_set *set)
{
    const uint8_t *room[BLOCK_ROWS];
    if (batch->count == 0)
        return true;
    const uint8_t *const *rows =
        codes_whole(&set->codes, set->kernels, block->codes, block->count, batch->whole, room);
    set->kernels->int8->tile(&batch->panels, 0, rows, block->count, batch->integers, BATCH);
    for (size_t q = 0; q < batch->count; q++)
        batch->limits[q] = limit_for(batch->seekers[q], block, 0);
    for (uint32_t i = 0; i < block->count; i++) {
        const int32_t *integers = batch->integers + (size_t)i * BATCH;
        uint32_t within[BATCH];
        size_t found =
            set->kernels->int8->within(integers, batch->limits, batch->count, within);
        for (size_t w = 0; w < found; w++)
            if (!suspect(batch->seekers[within[w]], block, i, integers[within[w]]))
                return false;
    }
    return true;
}

/* ---------------------------------------------------------------- the search */

static bool search_rows(struct seeker *seekers, size_t count, struct batch *batch, struct rows *from)
{
    struct stretch some;
    while (next_stretch(from, batch != NULL, &some)) {
        if (batch && !multiply(batch, &some, from->set))
            return false;
        for (size_t q = 0; q < count; q++)
            if ((!batch || seekers[q].plain) && !scan(&seekers[q], &some))
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
