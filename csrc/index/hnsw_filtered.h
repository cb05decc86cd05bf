/* Walks over the graph that compare only rows which may be returned: for filters. */
#ifndef SYNA_INDEX_HNSW_FILTERED_H
#define SYNA_INDEX_HNSW_FILTERED_H

#include "index/hnsw.h"

/* Offer near rows among those of [0, linked) whose bit in query->chosen, not NULL, is set to `top`: exact
 * ranks. `most`: codes that may be compared; *found is false when that was not enough, or when fewer than
 * top->k rows were met, and then nothing was offered. visits (may be NULL) is added to. */
syna_rc hnsw_search_chosen(struct hnsw *graph, const struct row_set *set,
                           const struct hnsw_query *query, uint64_t most, struct topk *top,
                           struct hnsw_visits *visits, bool *found);

#endif
