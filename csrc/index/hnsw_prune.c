/* hnsw_prune.c - the choice of a row's links among candidates.
 *
 * Relative neighbourhood rule (Malkov and Yashunin 2018, algorithm 4; Subramanya et al. 2019, DiskANN,
 * algorithm 2): nearest first, a candidate is left out when one that was taken is nearer to it than
 * the row is, by the factor SLACK. Places that remain are filled with the nearest of those left out:
 * a row of full degree costs a walk nothing, its links stand in the same cache lines. The distances
 * between candidates come from one matrix product of their codes. */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include <synadb/vector.h>

#define SLACK 1.05f

struct prune_room {
    int32_t pairs[PRUNE_MAX * PRUNE_MAX];
    const uint8_t *codes[PRUNE_MAX];
    float own[PRUNE_MAX]; /* distance from the row */
    bool taken[PRUNE_MAX];
    uint8_t *code_room; /* a code row as a query */
    void *tile_room;
};

struct prune_room *prune_room_new(const struct row_set *set)
{
    struct prune_room *room = mem_zalloc(sizeof *room);
    if (!room)
        return NULL;
    room->code_room = mem_alloc_aligned(set->codes.stride, 64);
    room->tile_room = mem_alloc_aligned(codes_tile_scratch(&set->codes, PRUNE_MAX, PRUNE_MAX), 64);
    if (!room->code_room || !room->tile_room) {
        prune_room_free(room);
        return NULL;
    }
    return room;
}

void prune_room_free(struct prune_room *room)
{
    if (!room)
        return;
    mem_free_aligned(room->code_room);
    mem_free_aligned(room->tile_room);
    mem_free(room);
}

/* How an integer of code rows becomes a distance: scale * integer + offset. An inner product is no
 * distance; there integers are compared as they are, and nothing is gained by slack. */
struct measure {
    float scale, offset, slack;
};

static struct measure measure_of(const struct row_set *set, struct prune_room *room)
{
    struct code_query q;
    if (set->codes.metric == SYNA_METRIC_DOT_PRODUCT)
        return (struct measure){1, 0, 1};
    codes_query_row(&set->codes, room->codes[0], room->code_room, &q);
    return (struct measure){q.scale, q.offset, SLACK};
}

static uint32_t take_diverse(struct prune_room *room, const struct measure *m, uint32_t count,
                             uint32_t degree, uint32_t *picked)
{
    uint32_t taken = 0;
    for (uint32_t c = 0; c < count && taken < degree; c++) {
        const int32_t *pairs = room->pairs + (size_t)c * PRUNE_MAX;
        bool keep = true;
        for (uint32_t t = 0; t < taken && keep; t++)
            keep = m->slack * (m->scale * (float)pairs[picked[t]] + m->offset) > room->own[c];
        room->taken[c] = keep;
        if (keep)
            picked[taken++] = c;
    }
    return taken;
}

uint32_t prune_diverse(const struct row_set *set, struct prune_room *room,
                       const struct candidate *candidates, uint32_t count, uint32_t degree,
                       uint32_t *links)
{
    uint32_t picked[LINKS_MAX];
    count = MIN(count, PRUNE_MAX);
    memset(room->taken, 0, sizeof room->taken);
    if (count == 0)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        room->codes[i] = array_at(&set->code_rows, candidates[i].row);
    struct measure m = measure_of(set, room);
    for (uint32_t i = 0; i < count; i++)
        room->own[i] = m.scale * (float)candidates[i].key + m.offset;
    codes_tile(&set->codes, set->kernels, room->codes, count, room->codes, count, room->pairs,
               PRUNE_MAX, room->tile_room);
    uint32_t used = take_diverse(room, &m, count, degree, picked);
    for (uint32_t i = 0; i < used; i++)
        links[i] = candidates[picked[i]].row;
    return used;
}

void prune_links(const struct row_set *set, struct prune_room *room,
                 const struct candidate *candidates, uint32_t count, uint32_t degree,
                 uint32_t *links)
{
    uint32_t used = prune_diverse(set, room, candidates, count, degree, links);
    for (uint32_t i = 0; i < MIN(count, PRUNE_MAX) && used < degree; i++)
        if (!room->taken[i])
            links[used++] = candidates[i].row;
    for (; used < degree; used++)
        links[used] = HNSW_NONE;
}
