/* hnsw_join.c - no row out of reach. Groups of rows that lie apart, duplicates above all, may have links
 * among themselves only; here one of each group gets a link from the nearest row that walks come to. */
#include "base/internal.h"

#include "index/hnsw_core.h"

#define ISLAND_EF 64u

struct joining {
    struct hnsw *graph;
    const struct row_set *set;
    uint64_t *reached; /* one bit a row */
    uint32_t *stack;
    struct hnsw_walk *walk;
};

static bool is_reached(const struct joining *j, uint32_t row)
{
    return j->reached[row / 64] >> row % 64 & 1;
}

/* Mark everything that links lead to from `row`. */
static void spread(struct joining *j, uint32_t row)
{
    uint32_t depth = 0;
    if (is_reached(j, row))
        return;
    j->reached[row / 64] |= 1ull << row % 64;
    j->stack[depth++] = row;
    while (depth > 0) {
        const uint32_t *links = hnsw_links(j->graph, j->stack[--depth]);
        for (uint32_t i = 0; i < j->graph->degree && links[i] < j->graph->linked; i++)
            if (!is_reached(j, links[i])) {
                j->reached[links[i] / 64] |= 1ull << links[i] % 64;
                j->stack[depth++] = links[i];
            }
    }
}

/* Can one of the links of `from` be given up? The last is the least; it can when others lead there,
 * which is certain only for rows that link to each other through a third. */
static uint32_t spare_link(const struct hnsw *graph, uint32_t from)
{
    const uint32_t *links = hnsw_links(graph, from);
    for (uint32_t i = graph->degree; i-- > 1;) {
        for (uint32_t other = 0; other < i; other++) {
            const uint32_t *through = hnsw_links(graph, links[other]);
            for (uint32_t t = 0; t < graph->degree && through[t] != HNSW_NONE; t++)
                if (through[t] == links[i])
                    return i;
        }
    }
    return HNSW_NONE;
}

/* Give `from` a link to `to`. false: it has no place to spare. */
static bool add_link(struct hnsw *graph, uint32_t from, uint32_t to)
{
    uint32_t count = hnsw_link_count(graph, from);
    uint32_t at = count < graph->degree ? count : spare_link(graph, from);
    if (at == HNSW_NONE)
        return false;
    hnsw_links(graph, from)[at] = to;
    return true;
}

/* Link `row` from the nearest row that is reached and has a place. */
static bool bridge(struct joining *j, uint32_t row)
{
    struct hnsw_walk *walk = j->walk;
    codes_query_row(&j->set->codes, array_at(&j->set->code_rows, row), walk->query_room,
                    &walk->query);
    walk_run(j->graph, j->set, walk, ISLAND_EF, NULL);
    for (uint32_t i = 0; i < walk->pool_count; i++)
        if (is_reached(j, walk->pool[i].row) && add_link(j->graph, walk->pool[i].row, row))
            return true;
    return false;
}

static syna_rc join(struct joining *j)
{
    struct hnsw *graph = j->graph;
    for (uint32_t e = 0; e < graph->entry_count; e++)
        spread(j, graph->entries[e]);
    for (uint32_t row = 0; row < graph->linked; row++)
        if (!is_reached(j, row)) {
            if (!bridge(j, row))
                SYNA_TRY(hnsw_add_entry(graph, j->set, row));
            spread(j, row);
        }
    return SYNA_SUCCESS;
}

syna_rc hnsw_join(struct hnsw *graph, const struct row_set *set)
{
    struct joining j = {.graph = graph, .set = set};
    if (graph->linked == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(walk_take(graph, set, ISLAND_EF, &j.walk));
    j.reached = mem_zalloc((graph->linked / 64 + 1) * sizeof *j.reached);
    j.stack = mem_alloc(graph->linked * sizeof *j.stack);
    syna_rc rc = j.reached && j.stack ? join(&j) : syna_no_memory(graph->linked * sizeof *j.stack);
    mem_free(j.reached);
    mem_free(j.stack);
    walk_give(graph, j.walk);
    return rc;
}
