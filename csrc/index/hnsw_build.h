/* What the files of the bulk build share. */
#ifndef SYNA_INDEX_HNSW_BUILD_H
#define SYNA_INDEX_HNSW_BUILD_H

#include "index/hnsw_core.h"

#define CARVE_LEAF 512u

/* Told each leaf; leaves of different threads at the same time. */
typedef syna_rc (*carve_leaf_fn)(void *context, unsigned thread, const uint32_t *rows,
                                 uint32_t count);
/* Cut rows [0, count) into overlapping leaves of at most CARVE_LEAF near rows. */
syna_rc carve(const struct row_set *set, uint32_t count, unsigned threads, carve_leaf_fn leaf,
              void *context, const struct hnsw_progress *progress);

#define NEAR_MAX 60u

/* The candidates of one row, nearest first, each in a direction of its own. For each row of a build, so
 * they are most of what it needs beside what it makes. */
struct near_rows {
    uint32_t lock; /* atomic */
    uint32_t count;
    struct candidate rows[NEAR_MAX];
};

/* ---- hnsw_refine.c */
/* Choose all links anew: among the candidates that are there, which are lost, and what walks over the graph
 * meet. Exclusive; rows may be out of reach then. On failure the links are what they were. `order`: all rows
 * of the graph, near ones together; the result does not depend on it, the time does. */
syna_rc hnsw_refine(struct hnsw *graph, const struct row_set *set, struct near_rows *near,
                    const uint32_t *order, unsigned threads, const struct hnsw_progress *progress);

/* The `want` (at most 16) smallest of `count` keys, as candidates with their position as the row, in
 * order. Returns how many there are. */
uint32_t nearest_few(const struct kernels *kernels, const int32_t *keys, uint32_t count, uint32_t want,
                     struct candidate *out);

#endif
