/* hnsw.c - the graph as a value: made, freed, measured; and the scratch memory of its walks. */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include "index/workers.h"

syna_rc hnsw_init(struct hnsw *graph, uint32_t m, uint32_t ef_construction)
{
    *graph = (struct hnsw){.degree = 2 * m, .ef_construction = ef_construction,
                           .search_threads = workers_available()};
    if (m < HNSW_M_MIN || m > HNSW_M_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "m is %u, expected %u..%u", m,
                         HNSW_M_MIN, HNSW_M_MAX);
    if (ef_construction < 1 || ef_construction > HNSW_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "ef_construction is %u, expected 1..%u",
                         ef_construction, HNSW_EF_MAX);
    SYNA_TRY(array_init(&graph->links, graph->degree * sizeof(uint32_t), HNSW_ROWS_MAX));
    pthread_mutex_init(&graph->idle_lock, NULL);
    return SYNA_SUCCESS;
}

void hnsw_forget_entries(struct hnsw *graph)
{
    mem_free(graph->entries);
    mem_free_aligned(graph->entry_codes);
    graph->entries = NULL;
    graph->entry_codes = NULL;
    graph->entry_count = 0;
}

void hnsw_dispose(struct hnsw *graph)
{
    if (graph->degree == 0)
        return;
    hnsw_forget_entries(graph);
    array_dispose(&graph->links);
    for (struct hnsw_walk *w = graph->idle, *next; w; w = next) {
        next = w->next;
        walk_free(w);
    }
    pthread_mutex_destroy(&graph->idle_lock);
    graph->degree = 0;
}

uint32_t hnsw_link_count(const struct hnsw *graph, uint32_t row)
{
    const uint32_t *links = hnsw_links(graph, row);
    uint32_t count = 0;
    while (count < graph->degree && links[count] < graph->linked) /* the end, or a damaged link */
        count++;
    return count;
}

uint64_t hnsw_bytes(const struct hnsw *graph, const struct codes *codes)
{
    uint64_t entry = sizeof(uint32_t) + codes->stride;
    return array_bytes(&graph->links) + graph->entry_count * entry;
}

/* ---------------------------------------------------------------- where walks begin */

/* Take the rows of `entries` (mem_alloc'ed, given) as the places to begin. */
static syna_rc set_entries(struct hnsw *graph, const struct row_set *set, uint32_t *entries,
                           uint32_t count)
{
    size_t stride = set->codes.stride;
    uint8_t *codes = mem_alloc_aligned(MAX(count, 1u) * stride, 64);
    if (!entries || !codes) {
        mem_free(entries);
        mem_free_aligned(codes);
        return syna_no_memory(count * stride);
    }
    for (uint32_t i = 0; i < count; i++)
        memcpy(codes + i * stride, array_at(&set->code_rows, entries[i]), stride);
    hnsw_forget_entries(graph);
    graph->entries = entries;
    graph->entry_codes = codes;
    graph->entry_count = count;
    return SYNA_SUCCESS;
}

/* A sample of rows [0, rows) that have links: from a row that has none a walk gets nowhere. When no row
 * has any, any row. */
static uint32_t sample(const struct hnsw *graph, uint32_t rows, uint32_t want, uint32_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < want; i++) {
        uint32_t row = (uint32_t)((uint64_t)i * rows / want);
        uint32_t end = (uint32_t)((uint64_t)(i + 1) * rows / want);
        while (row < end && hnsw_links(graph, row)[0] == HNSW_NONE)
            row++;
        if (row < end)
            out[count++] = row;
    }
    if (count == 0 && want > 0)
        out[count++] = 0;
    return count;
}

syna_rc hnsw_choose_entries(struct hnsw *graph, const struct row_set *set, uint32_t rows)
{
    uint32_t want = MIN(rows, HNSW_ENTRIES), count = 0;
    uint32_t *entries = mem_alloc(MAX(want, 1u) * sizeof *entries);
    if (entries)
        count = sample(graph, rows, want, entries);
    SYNA_TRY(set_entries(graph, set, entries, count));
    graph->entries_of = rows;
    return SYNA_SUCCESS;
}

syna_rc hnsw_take_entries(struct hnsw *graph, const struct row_set *set, const uint32_t *entries,
                          uint32_t count, uint32_t of)
{
    uint32_t *copy = mem_alloc(MAX(count, 1u) * sizeof *copy);
    if (copy)
        memcpy(copy, entries, count * sizeof *copy);
    SYNA_TRY(set_entries(graph, set, copy, count));
    graph->entries_of = of;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- scratch */

void walk_free(struct hnsw_walk *walk)
{
    mem_free(walk->seen);
    mem_free(walk->pool);
    mem_free(walk->found);
    mem_free_aligned(walk->query_room);
    mem_free(walk);
}

/* A block of at least `bytes`: the old one, or another in its place whose content is zero. *cap is 0 when
 * there is no memory. */
static void *grown(void *block, size_t *cap, size_t bytes)
{
    if (*cap >= bytes)
        return block;
    mem_free(block);
    block = mem_zalloc(bytes);
    *cap = block ? bytes : 0;
    return block;
}

static bool walk_fit(struct hnsw_walk *walk, uint32_t rows, uint32_t ef, size_t stride)
{
    size_t seen = ((size_t)rows / 64 + 1) * sizeof *walk->seen;
    if (walk->seen_cap < seen)
        walk->touched_count = 0;
    walk->seen = grown(walk->seen, &walk->seen_cap, seen > walk->seen_cap ? seen + seen / 4 : seen);
    walk->pool = grown(walk->pool, &walk->pool_cap, (ef + 1) * sizeof *walk->pool);
    walk->found = grown(walk->found, &walk->found_cap, (ef + 1) * sizeof *walk->found);
    if (walk->room_cap < stride) {
        mem_free_aligned(walk->query_room);
        walk->query_room = mem_alloc_aligned(stride, 64);
        walk->room_cap = walk->query_room ? stride : 0;
    }
    return walk->seen && walk->pool && walk->found && walk->query_room;
}

syna_rc walk_take(struct hnsw *graph, const struct row_set *set, uint32_t ef, struct hnsw_walk **out)
{
    pthread_mutex_lock(&graph->idle_lock);
    struct hnsw_walk *walk = graph->idle;
    if (walk)
        graph->idle = walk->next;
    pthread_mutex_unlock(&graph->idle_lock);
    if (!walk)
        walk = mem_zalloc(sizeof *walk);
    if (!walk)
        return syna_no_memory(sizeof *walk);
    if (!walk_fit(walk, set->count, ef, codes_room(&set->codes))) {
        walk_free(walk);
        return syna_no_memory((size_t)set->count / 8);
    }
    walk->coarse = false;
    walk->aim.reach = 0;
    *out = walk;
    return SYNA_SUCCESS;
}

void walk_give(struct hnsw *graph, struct hnsw_walk *walk)
{
    pthread_mutex_lock(&graph->idle_lock);
    walk->next = graph->idle;
    graph->idle = walk;
    pthread_mutex_unlock(&graph->idle_lock);
}

/* ---------------------------------------------------------------- replacing */

void hnsw_replace(struct hnsw *graph, struct hnsw *fresh)
{
    struct hnsw old = *graph;
    graph->links = fresh->links;
    graph->entries = fresh->entries;
    graph->entry_codes = fresh->entry_codes;
    graph->entry_count = fresh->entry_count;
    graph->entries_of = fresh->entries_of;
    graph->linked = fresh->linked;
    __atomic_store_n(&graph->unsure, fresh->unsure, __ATOMIC_RELAXED);
    __atomic_store_n(&graph->damaged, false, __ATOMIC_RELAXED);
    graph->measured = (struct hnsw_measured){0};
    fresh->links = old.links;
    fresh->entries = old.entries;
    fresh->entry_codes = old.entry_codes;
    hnsw_dispose(fresh);
}
