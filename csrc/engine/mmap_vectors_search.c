/* mmap_vectors_search.c - how searches of a mapped vector store are answered, and nothing else: the rest
 * of the store does not know.
 *
 * Every live row is scored where it is mapped, in blocks that stay in the processor's cache while all
 * queries pass over them; so the result is exact, and one pass over the file serves a whole batch. A
 * block of the file is checked against its CRC before it is scored for the first time. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

#define SCORE_ROWS 64u /* a word of live bits */

struct scan {
    const syna_mmap *store;
    const float *queries;
    const float *norms; /* of the queries */
    struct topk *tops;
    size_t count;
};

/* Score rows [first, first + rows), which share a word of live bits, for one query. */
static bool score_block(const struct scan *s, size_t q, uint32_t first, uint32_t rows)
{
    const syna_mmap *store = s->store;
    const float *query = s->queries + q * store->dims;
    const float *matrix = mmap_rows_vector(&store->rows, first);
    const float *norms = mmap_rows_norms(&store->rows) + first;
    size_t stride = mmap_vectors_stride(store);
    float sums[SCORE_ROWS];
    if (store->metric == SYNA_METRIC_EUCLIDEAN)
        store->kernels->l2sq_rows(query, matrix, stride, rows, store->dims, sums);
    else
        store->kernels->dot_rows(query, matrix, stride, rows, store->dims, sums);

    uint64_t live = mmap_rows_live(&store->rows)[first / SCORE_ROWS];
    for (; live; live &= live - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(live);
        float rank = score_rank(store->metric, sums[i], s->norms[q], norms[i]);
        if (topk_admits(&s->tops[q], rank) && !topk_offer(&s->tops[q], rank, first + i))
            return false;
    }
    return true;
}

static syna_rc score_all(const struct scan *s)
{
    const struct mmap_rows *rows = &s->store->rows;
    for (uint32_t first = 0; first < rows->count; first += SCORE_ROWS) {
        uint32_t some = MIN(rows->count - first, SCORE_ROWS);
        if (mmap_rows_live(rows)[first / SCORE_ROWS] == 0)
            continue;
        SYNA_TRY(rowfile_touch(rows->file, first, some));
        for (size_t q = 0; q < s->count; q++)
            if (!score_block(s, q, first, some))
                return syna_no_memory(sizeof(struct ranked));
    }
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_rank(syna_mmap *store, const float *queries, size_t count, struct topk *tops)
{
    float *norms = mem_alloc(count * sizeof *norms);
    if (!norms)
        return syna_no_memory(count * sizeof *norms);
    for (size_t q = 0; q < count; q++)
        norms[q] = vector_norm(store->kernels, queries + q * store->dims, store->dims);
    struct scan scan = {store, queries, norms, tops, count};
    syna_rc rc = mmap_vectors_note_damage(store, score_all(&scan));
    mem_free(norms);
    for (size_t q = 0; rc == SYNA_SUCCESS && q < count; q++)
        topk_sort(&tops[q]);
    return rc;
}
