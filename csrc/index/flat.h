/* A matrix of float32 rows in memory, searched by scoring every row: exact by construction, and the
 * reference that every other index is tested against. Rows are numbered in the order in which they
 * were added; a removed row's number is not used again before flat_pack.
 *
 * Not thread-safe: calls marked (w) need the matrix exclusively, the others share it. */
#ifndef SYNA_INDEX_FLAT_H
#define SYNA_INDEX_FLAT_H

#include "base/status.h"
#include "base/vec.h"
#include "math/distance.h"
#include "math/topk.h"

#define FLAT_MAX_ROWS UINT32_MAX

struct flat {
    const struct kernels *kernels;
    int32_t metric; /* SYNA_METRIC_* */
    uint32_t dims;
    size_t stride;         /* floats from row to row: dims rounded up to a cache line */
    uint32_t chunk_shift;  /* a chunk holds 1 << chunk_shift rows, at least 64 */
    uint32_t count, live;  /* row numbers given out; rows not removed */
    struct buf chunks;     /* struct flat_chunk[] */
};

struct flat_chunk {
    void *block;    /* what mem_free gets */
    float *rows;    /* aligned to 64 bytes */
    float *norms;   /* one a row */
    uint64_t *live; /* one bit a row */
};

void flat_init(struct flat *flat, uint32_t dims, int32_t metric);
void flat_dispose(struct flat *flat);

/* (w) Room for this many more rows, so that adding them cannot fail. */
syna_rc flat_reserve(struct flat *flat, size_t rows);

/* (w) Append a row; there must be room (flat_reserve). Returns its number. The vector may stand at
 * flat_next already. */
uint32_t flat_add(struct flat *flat, const float *vector);
/* (w) Where the next row will stand: `dims` floats to fill in. There must be room. */
float *flat_next(const struct flat *flat);
/* (w) */
void flat_remove(struct flat *flat, uint32_t row);

/* (w) Move the live rows together, in their order, so that removed ones cost nothing; `moved` is
 * told the old and new number of each, in ascending order. */
void flat_pack(struct flat *flat, void (*moved)(void *context, uint32_t from, uint32_t to),
               void *context);

bool flat_is_live(const struct flat *flat, uint32_t row);
/* `dims` floats; valid until the next (w) call. */
const float *flat_row(const struct flat *flat, uint32_t row);
uint64_t flat_bytes(const struct flat *flat); /* heap in use */

/* Offer every live row to tops[q] for each of `count` queries, which stand one after the other.
 * Ranks, not final scores: see score_final. One pass over the matrix serves all queries. */
syna_rc flat_search(const struct flat *flat, const float *queries, size_t count,
                    struct topk *tops);

#endif
