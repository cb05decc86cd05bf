/* hnsw_renumber.c - the same graph after its rows got other numbers, because those that died went. */
#include "base/internal.h"

#include "index/hnsw_core.h"

uint32_t hnsw_renumber(const struct hnsw *from, const uint32_t *numbers, struct hnsw *to)
{
    uint32_t linked = 0;
    for (uint32_t row = 0; row < from->linked; row++) {
        if (numbers[row] == HNSW_NONE)
            continue;
        const uint32_t *old = hnsw_links(from, row);
        uint32_t *links = hnsw_links(to, numbers[row]), used = 0;
        for (uint32_t i = 0; i < from->degree && old[i] < from->linked; i++)
            if (numbers[old[i]] != HNSW_NONE)
                links[used++] = numbers[old[i]];
        for (; used < to->degree; used++)
            links[used] = HNSW_NONE;
        linked = numbers[row] + 1;
    }
    return linked;
}

syna_rc hnsw_settle(struct hnsw *graph, const struct row_set *set)
{
    SYNA_TRY(hnsw_choose_entries(graph, set, graph->linked));
    return hnsw_join(graph, set, true);
}
