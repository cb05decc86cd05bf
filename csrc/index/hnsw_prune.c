/* hnsw_prune.c - the choice of a row's links among candidates.
 *
 * Relative neighbourhood rule (Malkov and Yashunin 2018, algorithm 4; Subramanya et al. 2019, DiskANN,
 * algorithm 2): nearest first, a candidate is left out when one that was taken is nearer to it than
 * the row is, by the factor SLACK. Places that remain are filled with the nearest of those left out:
 * a row of full degree costs a walk nothing, its links stand in the same cache lines. Distances are taken
 * from each candidate that is chosen to those that are still in question: a few hundred of the
 * thousands of pairs that a matrix product would give. */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include <synadb/vector.h>

#define SLACK 1.05f

struct prune_room {
    uint8_t *code_room;      /* a code row as a query */
    float own[PRUNE_MAX];    /* distance from the row */
    bool taken[PRUNE_MAX];
    uint32_t left[PRUNE_MAX]; /* candidates that nothing taken is nearer to */
    const uint8_t *codes[PRUNE_MAX];
    int32_t keys[PRUNE_MAX];
};

struct prune_room *prune_room_new(const struct row_set *set)
{
    struct prune_room *room = mem_zalloc(sizeof *room);
    if (!room)
        return NULL;
    room->code_room = mem_alloc_aligned(set->codes.stride, 64);
    if (!room->code_room) {
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
    mem_free(room);
}

/* How an integer of code rows becomes a distance: scale * integer + offset. An inner product is no
 * distance; there integers are compared as they are, and nothing is gained by slack. */
struct measure {
    float scale, offset, slack;
};

static struct measure measure_of(const struct row_set *set, const struct code_query *q)
{
    if (set->codes.metric == SYNA_METRIC_DOT_PRODUCT)
        return (struct measure){1, 0, 1};
    return (struct measure){q->scale, q->offset, SLACK};
}

static void query_of(const struct row_set *set, struct prune_room *room, uint32_t row,
                     struct code_query *q)
{
    codes_query_row(&set->codes, array_at(&set->code_rows, row), room->code_room, q);
}

/* Leave out those of left[1..count) that left[0], which is `q`, is nearer to than the row is. */
static uint32_t leave_out(const struct row_set *set, struct prune_room *room,
                          const struct candidate *candidates, const struct code_query *q,
                          uint32_t count)
{
    struct measure m = measure_of(set, q);
    uint32_t kept = 0;
    for (uint32_t i = 1; i < count; i++)
        room->codes[i] = array_at(&set->code_rows, candidates[room->left[i]].row);
    codes_many(&set->codes, set->kernels, q, room->codes + 1, count - 1, room->keys + 1);
    for (uint32_t i = 1; i < count; i++) {
        uint32_t c = room->left[i];
        if (m.slack * (m.scale * (float)room->keys[i] + m.offset) > room->own[c])
            room->left[kept++] = c;
    }
    return kept;
}

uint32_t prune_diverse(const struct row_set *set, struct prune_room *room,
                       const struct candidate *candidates, uint32_t count, uint32_t degree,
                       uint32_t *links)
{
    struct code_query q;
    uint32_t used = 0, left = MIN(count, PRUNE_MAX);
    memset(room->taken, 0, sizeof room->taken);
    if (left == 0)
        return 0;
    query_of(set, room, candidates[0].row, &q);
    struct measure m = measure_of(set, &q);
    for (uint32_t i = 0; i < left; i++) {
        room->own[i] = m.scale * (float)candidates[i].key + m.offset;
        room->left[i] = i;
    }
    while (left > 0 && used < degree) {
        uint32_t next = room->left[0];
        room->taken[next] = true;
        links[used++] = candidates[next].row;
        if (left == 1 || used == degree)
            break;
        if (next > 0)
            query_of(set, room, candidates[next].row, &q);
        left = leave_out(set, room, candidates, &q, left);
    }
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
