/* The flat index: chunks of aligned rows with their norms and a bit for each live row.
 *
 * A chunk is about a megabyte, so growing never copies rows and small stores stay small. The scan
 * goes by blocks of 64 rows, one word of live bits: all queries score a block while it is in the
 * cache. Removed rows are scored with the rest of their block (a branch would cost more) and then
 * passed over. */
#include "base/internal.h"

#include "index/flat.h"

#include <synadb/vector.h>

#define CHUNK_BYTES ((size_t)1 << 20)
#define LINE_BYTES 64u
#define LINE_FLOATS (LINE_BYTES / sizeof(float))
#define BLOCK_ROWS 64u
#define BLOCK_SHIFT 6

void flat_init(struct flat *flat, uint32_t dims, int32_t metric)
{
    *flat = (struct flat){.kernels = kernels_get(), .metric = metric, .dims = dims};
    flat->stride = (dims + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
    flat->chunk_shift = BLOCK_SHIFT;
    while ((flat->stride * sizeof(float) << (flat->chunk_shift + 1)) <= CHUNK_BYTES)
        flat->chunk_shift++;
}

static struct flat_chunk *chunk_at(const struct flat *flat, size_t i)
{
    return (struct flat_chunk *)(void *)flat->chunks.bytes + i;
}

static size_t chunk_count(const struct flat *flat)
{
    return flat->chunks.len / sizeof(struct flat_chunk);
}

static struct flat_chunk *chunk_of(const struct flat *flat, uint32_t row)
{
    return chunk_at(flat, row >> flat->chunk_shift);
}

static uint32_t row_in_chunk(const struct flat *flat, uint32_t row)
{
    return row & (((uint32_t)1 << flat->chunk_shift) - 1);
}

void flat_dispose(struct flat *flat)
{
    for (size_t i = 0; i < chunk_count(flat); i++)
        mem_free(chunk_at(flat, i)->block);
    buf_dispose(&flat->chunks);
}

static size_t chunk_bytes(const struct flat *flat)
{
    size_t rows = (size_t)1 << flat->chunk_shift;
    return LINE_BYTES + rows * (flat->stride + 1) * sizeof(float) + rows / 8;
}

static syna_rc add_chunk(struct flat *flat)
{
    size_t rows = (size_t)1 << flat->chunk_shift;
    if (!buf_reserve(&flat->chunks, sizeof(struct flat_chunk)))
        return syna_no_memory(sizeof(struct flat_chunk));
    struct flat_chunk chunk = {.block = mem_alloc(chunk_bytes(flat))};
    if (!chunk.block)
        return syna_no_memory(chunk_bytes(flat));
    uintptr_t start = ((uintptr_t)chunk.block + LINE_BYTES - 1) & ~(uintptr_t)(LINE_BYTES - 1);
    chunk.rows = (float *)start;
    chunk.live = (uint64_t *)(void *)(chunk.rows + rows * flat->stride);
    chunk.norms = (float *)(void *)(chunk.live + rows / BLOCK_ROWS);
    memset(chunk.live, 0, rows / 8);
    buf_append(&flat->chunks, &chunk, sizeof chunk); /* reserved above */
    return SYNA_SUCCESS;
}

syna_rc flat_reserve(struct flat *flat, size_t rows)
{
    if (rows > FLAT_MAX_ROWS - flat->count)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%zu more rows on top of %u, at most %u fit", rows, flat->count,
                         (unsigned)FLAT_MAX_ROWS);
    while (chunk_count(flat) << flat->chunk_shift < flat->count + rows)
        SYNA_TRY(add_chunk(flat));
    return SYNA_SUCCESS;
}

static void set_row(struct flat *flat, uint32_t row, const float *vector, float norm)
{
    struct flat_chunk *chunk = chunk_of(flat, row);
    uint32_t at = row_in_chunk(flat, row);
    float *to = chunk->rows + at * flat->stride;
    memmove(to, vector, flat->dims * sizeof *to);
    memset(to + flat->dims, 0, (flat->stride - flat->dims) * sizeof *to);
    chunk->norms[at] = norm;
    chunk->live[at / BLOCK_ROWS] |= (uint64_t)1 << at % BLOCK_ROWS;
}

uint32_t flat_add(struct flat *flat, const float *vector)
{
    uint32_t row = flat->count++;
    flat->live++;
    set_row(flat, row, vector, vector_norm(flat->kernels, vector, flat->dims));
    return row;
}

static void clear_live(struct flat *flat, uint32_t row)
{
    uint32_t at = row_in_chunk(flat, row);
    chunk_of(flat, row)->live[at / BLOCK_ROWS] &= ~((uint64_t)1 << at % BLOCK_ROWS);
}

void flat_remove(struct flat *flat, uint32_t row)
{
    clear_live(flat, row);
    flat->live--;
}

bool flat_is_live(const struct flat *flat, uint32_t row)
{
    uint32_t at = row_in_chunk(flat, row);
    return row < flat->count && chunk_of(flat, row)->live[at / BLOCK_ROWS] >> at % BLOCK_ROWS & 1;
}

const float *flat_row(const struct flat *flat, uint32_t row)
{
    return chunk_of(flat, row)->rows + row_in_chunk(flat, row) * flat->stride;
}

float *flat_next(const struct flat *flat)
{
    return chunk_of(flat, flat->count)->rows + row_in_chunk(flat, flat->count) * flat->stride;
}

uint64_t flat_bytes(const struct flat *flat)
{
    return chunk_count(flat) * chunk_bytes(flat) + flat->chunks.cap;
}

void flat_pack(struct flat *flat, void (*moved)(void *context, uint32_t from, uint32_t to),
               void *context)
{
    uint32_t to = 0;
    for (uint32_t from = 0; from < flat->count; from++) {
        if (!flat_is_live(flat, from))
            continue;
        if (from != to) {
            float norm = chunk_of(flat, from)->norms[row_in_chunk(flat, from)];
            set_row(flat, to, flat_row(flat, from), norm);
            clear_live(flat, from);
        }
        moved(context, from, to++);
    }
    flat->count = to;
}

/* Score the rows of one block for one query and offer those that can still matter. */
static bool search_block(const struct flat *flat, const struct flat_chunk *chunk, uint32_t first_row,
                         uint32_t block, uint32_t rows, const float *query, float query_norm,
                         struct topk *top)
{
    float sums[BLOCK_ROWS];
    const float *matrix = chunk->rows + (size_t)block * BLOCK_ROWS * flat->stride;
    const float *norms = chunk->norms + (size_t)block * BLOCK_ROWS;
    if (flat->metric == SYNA_METRIC_EUCLIDEAN)
        flat->kernels->l2sq_rows(query, matrix, flat->stride, rows, flat->dims, sums);
    else
        flat->kernels->dot_rows(query, matrix, flat->stride, rows, flat->dims, sums);

    for (uint64_t live = chunk->live[block]; live; live &= live - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(live);
        float rank = score_rank(flat->metric, sums[i], query_norm, norms[i]);
        if (topk_admits(top, rank) && !topk_offer(top, rank, first_row + i))
            return false;
    }
    return true;
}

syna_rc flat_search(const struct flat *flat, const float *queries, size_t count, struct topk *tops)
{
    float *norms = mem_alloc(count * sizeof *norms);
    if (!norms)
        return syna_no_memory(count * sizeof *norms);
    for (size_t q = 0; q < count; q++)
        norms[q] = vector_norm(flat->kernels, queries + q * flat->dims, flat->dims);

    bool enough = true;
    for (size_t next = 0; next < flat->count && enough; next += BLOCK_ROWS) {
        uint32_t first = (uint32_t)next;
        const struct flat_chunk *chunk = chunk_of(flat, first);
        uint32_t block = row_in_chunk(flat, first) / BLOCK_ROWS;
        uint32_t rows = MIN(flat->count - first, BLOCK_ROWS);
        if (!chunk->live[block])
            continue;
        for (size_t q = 0; q < count && enough; q++)
            enough = search_block(flat, chunk, first, block, rows, queries + q * flat->dims,
                                  norms[q], &tops[q]);
    }
    mem_free(norms);
    return enough ? SYNA_SUCCESS : syna_no_memory(sizeof(struct ranked));
}
