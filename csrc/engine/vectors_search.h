/* One search of a vector store, as vectors_search.c and vectors_filter.c hand it to each other. */
#ifndef SYNA_ENGINE_VECTORS_SEARCH_H
#define SYNA_ENGINE_VECTORS_SEARCH_H

#include "engine/vectors_core.h"

struct searching {
    const syna_vectors *store;
    const float *queries;
    size_t count;
    syna_search how;
    syna_explain explain;
    struct topk *tops;
    struct choice *choice;  /* of the filter; NULL = none */
    const uint64_t *chosen; /* rows that may come back; NULL = all */
    uint64_t matches;       /* how many they are */
};

/* vectors_tail.c: search for all queries among the rows that are not in the graph. */
syna_rc vectors_search_tail(struct searching *s);
/* Exact search for queries [q, q + count) among rows [first, end), and [first, ...). */
syna_rc vectors_search_range(struct searching *s, uint32_t first, uint32_t end, size_t q, size_t count);
syna_rc vectors_search_exact(struct searching *s, uint32_t first, size_t q, size_t count);
/* Candidates that a walk is to keep when every row may come back. */
uint32_t vectors_search_ef(const struct searching *s);
/* Search among the rows that match a filter, where a graph may pay. */
syna_rc vectors_search_filtered(struct searching *s);

#endif
