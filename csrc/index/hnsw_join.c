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

static bool has_link(const struct hnsw *graph, uint32_t from, uint32_t to)
{
    const uint32_t *links = hnsw_links(graph, from);
    for (uint32_t i = 0; i < graph->degree && links[i] != HNSW_NONE; i++)
        if (links[i] == to)
            return true;
    return false;
}

/* A link where there is a place, else in the last one's; the row that was linked there, HNSW_NONE if none. */
static uint32_t put_link(struct hnsw *graph, uint32_t from, uint32_t to)
{
    uint32_t at = MIN(hnsw_link_count(graph, from), graph->degree - 1);
    uint32_t old = hnsw_links(graph, from)[at];
    hnsw_links(graph, from)[at] = to;
    return old;
}

/* Put `row`, which nothing led to, between `from` and the last row that it links to: that one is still
 * come to, through `row`. What `row` linked to last was no better off for it. */
static void put_between(struct hnsw *graph, uint32_t from, uint32_t row)
{
    uint32_t behind = put_link(graph, from, row);
    if (behind < graph->linked && behind != row && !has_link(graph, row, behind))
        put_link(graph, row, behind);
}

/* The nearest row that is reached: one that `row` itself links to, or what a walk comes to. */
static uint32_t find_reached(struct joining *j, uint32_t row)
{
    struct hnsw_walk *walk = j->walk;
    const uint32_t *links = hnsw_links(j->graph, row);
    for (uint32_t i = 0; i < j->graph->degree && links[i] < j->graph->linked; i++)
        if (is_reached(j, links[i]))
            return links[i];
    codes_query_row(&j->set->codes, array_at(&j->set->code_rows, row), walk->query_room,
                    &walk->query);
    walk_run(j->graph, j->set, walk, ISLAND_EF, NULL);
    return walk->pool[0].row; /* walks begin at reached rows and stay among them */
}

static void join(struct joining *j, bool lonely)
{
    struct hnsw *graph = j->graph;
    for (uint32_t e = 0; e < graph->entry_count; e++)
        spread(j, graph->entries[e]);
    for (uint32_t row = 0; row < graph->linked; row++)
        if (!is_reached(j, row) && (lonely || hnsw_links(graph, row)[0] != HNSW_NONE)) {
            put_between(graph, find_reached(j, row), row);
            spread(j, row);
        }
}

syna_rc hnsw_join(struct hnsw *graph, const struct row_set *set, bool lonely)
{
    struct joining j = {.graph = graph, .set = set};
    if (graph->linked == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(walk_take(graph, set, ISLAND_EF, &j.walk));
    j.reached = mem_zalloc((graph->linked / 64 + 1) * sizeof *j.reached);
    j.stack = mem_alloc(graph->linked * sizeof *j.stack);
    syna_rc rc = SYNA_SUCCESS;
    if (j.reached && j.stack)
        join(&j, lonely);
    else
        rc = syna_no_memory(graph->linked * sizeof *j.stack);
    mem_free(j.reached);
    mem_free(j.stack);
    walk_give(graph, j.walk);
    return rc;
}
