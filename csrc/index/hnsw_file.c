/* hnsw_file.c - the graph as sections of a snapshot:
 *
 *   "hnsw"     struct graph_head
 *   "entries"  entry_count uint32
 *   "links"    linked * degree uint32, mapped and used in place
 *
 * Loading checks checksums, the head and the entries; a link is checked where it is followed: a walk
 * stops at a number that is no row. Checksums of many links may be left for later: the first searches of
 * a store follow few, and whoever opens it need not wait for all to be read. */
#include "base/internal.h"

#include "index/hnsw_core.h"

#define GRAPH_VERSION 2u
#define LATER_BYTES ((size_t)16 << 20) /* fewer bytes of links are read in a millisecond or two */
#define CHECK_BYTES ((size_t)4 << 20)  /* between two looks at who stops it */

#ifdef SYNA_TESTING
size_t hnsw_test_later_bytes = LATER_BYTES;
#undef LATER_BYTES
#define LATER_BYTES hnsw_test_later_bytes
#endif

struct graph_head {
    uint32_t version;
    uint32_t degree;
    uint32_t ef_construction;
    uint32_t linked;
    uint32_t entry_count;
    uint32_t entries_of;
    uint32_t calibrated;
    uint32_t coarse; /* 1 where searches walk by the first halves of codes */
    float growth;
    float longest;
    struct hnsw_curve curves[HNSW_CURVES];
};

syna_rc hnsw_save(const struct hnsw *graph, struct snapshot_writer *writer)
{
    struct graph_head head = {
        .version = GRAPH_VERSION,
        .degree = graph->degree,
        .ef_construction = graph->ef_construction,
        .linked = graph->linked,
        .entry_count = graph->entry_count,
        .entries_of = graph->entries_of,
        .calibrated = graph->measured.calibrated,
        .coarse = graph->measured.coarse,
        .growth = graph->measured.growth,
        .longest = graph->measured.longest,
    };
    memcpy(head.curves, graph->measured.curves, sizeof head.curves);
    SYNA_TRY(snapshot_section(writer, "hnsw"));
    SYNA_TRY(snapshot_append(writer, &head, sizeof head));
    SYNA_TRY(snapshot_section(writer, "entries"));
    SYNA_TRY(snapshot_append(writer, graph->entries, graph->entry_count * sizeof(uint32_t)));
    SYNA_TRY(snapshot_section(writer, "links"));
    return array_save(&graph->links, graph->linked, writer);
}

static bool head_sound(const struct graph_head *head, size_t len, uint32_t rows)
{
    if (len != sizeof *head || head->version != GRAPH_VERSION || head->linked > rows ||
        head->degree % 2 || head->degree < 2 * HNSW_M_MIN || head->degree > LINKS_MAX ||
        head->ef_construction < 1 || head->ef_construction > HNSW_EF_MAX ||
        (head->linked > 0) != (head->entry_count > 0) ||
        !(head->growth >= 0 && head->growth <= HNSW_GROWTH_MAX) || !(head->longest >= 0))
        return false;
    for (uint32_t c = 0; c < HNSW_CURVES; c++) {
        const struct hnsw_curve *curve = &head->curves[c];
        if (curve->count > HNSW_CURVE_POINTS)
            return false;
        for (uint32_t i = 0; i < curve->count; i++)
            if (curve->ef[i] < 1 || curve->ef[i] > HNSW_EF_MAX || !(curve->recall[i] >= 0) ||
                !(curve->recall[i] <= 1) || (i > 0 && curve->ef[i] <= curve->ef[i - 1]))
                return false;
    }
    return true;
}

static const uint32_t *entries_sound(struct snapshot *snapshot, const struct graph_head *head)
{
    size_t len;
    const uint32_t *entries = snapshot_find(snapshot, "entries", &len);
    if (!entries || len != head->entry_count * sizeof *entries || !snapshot_touch(snapshot, entries, len))
        return NULL;
    for (uint32_t i = 0; i < head->entry_count; i++)
        if (entries[i] >= head->linked)
            return NULL;
    return entries;
}

/* ---------------------------------------------------------------- checksums of links */

static void note_damage(const struct hnsw *graph)
{
    __atomic_store_n(&((struct hnsw *)(uintptr_t)graph)->damaged, true, __ATOMIC_RELAXED);
}

bool hnsw_touch(const struct hnsw *graph, uint32_t row)
{
    struct snapshot *snapshot = __atomic_load_n(&graph->unsure, __ATOMIC_RELAXED);
    if (!snapshot || row >= graph->links.head_count ||
        snapshot_touch(snapshot, hnsw_links(graph, row), graph->links.item))
        return true;
    note_damage(graph);
    return false;
}

bool hnsw_check(struct hnsw *graph, const bool *stop)
{
    struct snapshot *snapshot = __atomic_load_n(&graph->unsure, __ATOMIC_RELAXED);
    size_t len = graph->links.head_count * graph->links.item;
    if (LIKELY(!snapshot))
        return !__atomic_load_n(&graph->damaged, __ATOMIC_RELAXED);
    for (size_t at = 0; at < len; at += CHECK_BYTES) {
        if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED))
            return false;
        if (!snapshot_touch(snapshot, graph->links.head + at, MIN(len - at, CHECK_BYTES))) {
            note_damage(graph);
            return false;
        }
    }
    __atomic_store_n(&graph->unsure, NULL, __ATOMIC_RELAXED);
    return true;
}

/* ---------------------------------------------------------------- loading */

syna_rc hnsw_load(struct hnsw *graph, const struct row_set *set, struct snapshot *snapshot, bool later,
                  bool *found)
{
    struct graph_head head;
    struct hnsw fresh;
    size_t len, links_len;
    *found = false;
    const void *bytes = snapshot_find(snapshot, "hnsw", &len);
    if (!bytes || len != sizeof head || !snapshot_touch(snapshot, bytes, len))
        return SYNA_SUCCESS;
    memcpy(&head, bytes, sizeof head);
    if (!head_sound(&head, len, set->count))
        return SYNA_SUCCESS;
    const uint32_t *entries = entries_sound(snapshot, &head);
    void *links = snapshot_find(snapshot, "links", &links_len);
    later &= links_len >= LATER_BYTES;
    if (!entries || !links || links_len != (size_t)head.linked * head.degree * sizeof(uint32_t) ||
        !(later || snapshot_touch(snapshot, links, links_len)))
        return SYNA_SUCCESS;

    SYNA_TRY(hnsw_init(&fresh, head.degree / 2, head.ef_construction));
    array_dispose(&fresh.links);
    syna_rc rc = array_init_head(&fresh.links, head.degree * sizeof(uint32_t), HNSW_ROWS_MAX, links,
                                 head.linked);
    if (rc == SYNA_SUCCESS)
        rc = hnsw_take_entries(&fresh, set, entries, head.entry_count, head.entries_of);
    if (rc != SYNA_SUCCESS) {
        hnsw_dispose(&fresh);
        return rc;
    }
    fresh.linked = head.linked;
    fresh.unsure = later ? snapshot : NULL;
    hnsw_replace(graph, &fresh);
    graph->degree = head.degree;
    graph->ef_construction = head.ef_construction;
    graph->measured.calibrated = head.calibrated;
    graph->measured.growth = head.growth;
    graph->measured.longest = head.longest;
    graph->measured.coarse = head.coarse == 1 && set->codes.split;
    memcpy(graph->measured.curves, head.curves, sizeof head.curves);
    *found = true;
    return SYNA_SUCCESS;
}
