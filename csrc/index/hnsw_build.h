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

/* The `want` (at most 16) smallest of `count` keys, as candidates with their position as the row, in
 * order. Returns how many there are. */
uint32_t nearest_few(const int32_t *keys, uint32_t count, uint32_t want, struct candidate *out);

#endif
