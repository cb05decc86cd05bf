/* Certified exact search: scan the 8-bit codes, keep the rows whose distance could be among the k best
 * by the bounds of codes.h, score those from the full rows. The result is that of scoring every full
 * row, bit for bit, ties included; only the time differs. Used for small stores, fresh rows, selective
 * filters, and as the truth that recall is measured against. */
#ifndef SYNA_INDEX_EXACT_H
#define SYNA_INDEX_EXACT_H

#include "index/array.h"
#include "index/codes.h"
#include "math/topk.h"

/* What the elements of full rows are. */
enum row_kind { ROW_FLOAT, ROW_F16, ROW_BF16 };

/* The rows of a store as an index sees them: row i has a code, a length, an error and a full vector. */
struct row_set {
    const struct kernels *kernels;
    struct codes codes;
    struct array code_rows; /* codes.stride bytes an item */
    struct array norms;     /* float: length of the full row */
    struct array errors;    /* float: codes_encode */
    uint32_t count;         /* rows that exist, dead ones included */
    /* The full row, `dims` elements of `kind` whatever the pointer says, any alignment; valid as long
     * as the store's lock is held. Whoever reads elements does so by the functions below. */
    const float *(*full)(void *context, uint32_t row);
    void *context;
    enum row_kind kind;
};

/* The bytes of `dims` elements. */
static inline size_t row_kind_bytes(enum row_kind kind, uint32_t dims)
{
    return (size_t)dims * (kind == ROW_FLOAT ? sizeof(float) : sizeof(uint16_t));
}
/* A full row as floats, which is exact. */
void row_set_read(const struct row_set *set, const void *full, float *out);
/* The sums that score_rank takes, of the query with `count` full rows; the same bits as for rows of
 * floats with these values. */
void row_set_sums(const struct row_set *set, const float *query, const void *const *full, size_t count,
                  float *sums);
/* Exact distances are what score_rank gives for the full rows. */
float row_set_rank(const struct row_set *set, const float *query, float query_norm, uint32_t row);

/* Offer the rows of [first, first + count) whose bit in `chosen` is set (NULL: all) to tops[q], q below
 * `queries`: ranks as score_rank gives them, the k best and their order exactly as if every row had
 * been scored. Radius limits are the tops' own. *scored (may be NULL): full rows that were scored. */
syna_rc exact_search(const struct row_set *set, uint32_t first, uint32_t count,
                     const uint64_t *chosen, const float *queries, size_t query_count,
                     struct topk *tops, uint64_t *scored);

#endif
