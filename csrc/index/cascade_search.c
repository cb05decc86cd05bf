/* cascade_search.c - the three stages of one search, and the scoring of what they find.
 *
 * The pool is one sorted array of the ef nearest rows seen so far; the walk follows the nearest of them
 * that was not followed yet, until there is none. A row's neighbours are looked at in two passes: the
 * first marks the unseen ones and asks for their codes from memory, the second compares them, several at
 * a time, while the later ones are still arriving. Row numbers are compared with the index's rows wherever
 * one is followed, because they may come from a damaged file. */
#include "base/internal.h"

#include "index/cascade_core.h"
#include <synadb/vector.h>

#include <math.h>

#define PREFETCH_BYTES 1024u /* of a row: half a row asked for takes longer to come than a whole one */
#define LOOK_BEHIND 8u

/* ---------------------------------------------------------------- rows seen */

/* Mark a row; was it not yet? There is a place behind the last in `touched`. */
static inline bool first_sight(struct cascade_room *room, uint32_t row)
{
    uint32_t word = row / 64;
    uint64_t bit = 1ull << row % 64, old = room->seen[word];
    room->touched[MIN(room->touched_count, (uint32_t)ROOM_TOUCHED)] = word;
    room->touched_count += old == 0;
    room->seen[word] = old | bit;
    return !(old & bit);
}

static void forget_seen(struct cascade_room *room)
{
    if (room->touched_count > ROOM_TOUCHED)
        memset(room->seen, 0, room->seen_cap);
    else
        for (uint32_t i = 0; i < room->touched_count; i++)
            room->seen[room->touched[i]] = 0;
    room->touched_count = 0;
}

/* ---------------------------------------------------------------- stages 1 and 2: where to begin */

/* The rows of a bucket whose sign codes are nearest, into the sorted `best`. */
static void rank_bucket(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                        uint32_t leaf, struct candidate *best, uint32_t *count)
{
    struct candidate few[ENTRIES_MAX];
    int32_t distances[CASCADE_CAPACITY_MAX];
    const struct cascade_leaf *l = leaf_at(c, leaf);
    uint32_t rows = MIN(l->count, c->params.capacity);
    set->kernels->bits->hamming_rows(room->signs, leaf_signs(c, l, 0), sign_bytes(c), rows,
                                     sign_bytes(c), (uint32_t *)(void *)distances);
    uint32_t got = nearest_few(set->kernels, distances, rows, ENTRIES_MAX, few);
    for (uint32_t i = 0; i < got; i++)
        if (l->rows[few[i].row] < c->linked)
            list_put(best, count, ENTRIES_MAX,
                     (struct candidate){few[i].key, l->rows[few[i].row]});
    room->visits.buckets++;
}

/* Offer a row that was just compared. Returns where it stands in the pool. */
static uint32_t offer(struct cascade_room *room, uint32_t ef, const uint64_t *chosen, uint32_t row,
                      int32_t key)
{
    struct candidate c = {key, row};
    if (chosen && bit_of(chosen, row))
        list_put(room->found, &room->found_count, ef, c);
    return list_put(room->pool, &room->pool_count, ef, c);
}

static void begin(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                  uint32_t ef, uint32_t probes, const uint64_t *chosen)
{
    uint32_t leaves[CASCADE_PROBES_MAX], rows[ENTRIES_MAX], best_count = 0, count = 0;
    struct candidate best[ENTRIES_MAX + 1];
    const uint8_t *codes[ENTRIES_MAX];
    int32_t keys[ENTRIES_MAX];
    uint32_t leaf_count = tree_probe(c, set, room->code, probes, leaves);
    sign_code(room->code, c->centre, c->stride, room->signs);
    for (uint32_t i = 0; i < leaf_count; i++) {
        if (i + 1 < leaf_count)
            __builtin_prefetch(leaf_signs(c, leaf_at(c, leaves[i + 1]), 0));
        rank_bucket(c, set, room, leaves[i], best, &best_count);
    }
    for (uint32_t i = 0; i < best_count; i++) {
        if (!first_sight(room, best[i].row))
            continue;
        rows[count] = best[i].row;
        codes[count] = array_at(&set->code_rows, best[i].row);
        prefetch_code(codes[count++], c->stride, PREFETCH_BYTES);
    }
    if (count > 0)
        codes_many(&set->codes, set->kernels, &room->query, codes, count, keys);
    for (uint32_t i = 0; i < count; i++)
        offer(room, ef, chosen, rows[i], keys[i]);
    room->visits.codes += count;
}

/* ---------------------------------------------------------------- stage 3: the walk */

/* Collect the unseen neighbours of a row and ask for their codes. */
static uint32_t collect(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                        uint32_t row, uint32_t *rows, const uint8_t **codes)
{
    const uint32_t *links = links_of(c, row);
    uint32_t count = 0;
    for (uint32_t i = 0; i < CASCADE_DEGREE; i++) {
        if (links[i] >= c->linked) /* the end, or a damaged link */
            break;
        rows[count] = links[i];
        count += first_sight(room, links[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        codes[i] = array_at(&set->code_rows, rows[i]);
        prefetch_code(codes[i], c->stride, PREFETCH_BYTES);
    }
    return count;
}

/* Follow the links of a row; the nearest place in the pool that got a new row. */
static uint32_t follow(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                       uint32_t row, uint32_t ef, const uint64_t *chosen)
{
    uint32_t rows[CASCADE_DEGREE], nearest = ef;
    const uint8_t *codes[CASCADE_DEGREE];
    int32_t keys[CASCADE_DEGREE];
    uint32_t count = collect(c, set, room, row, rows, codes);
    room->visits.hops++;
    if (count == 0)
        return nearest;
    codes_many(&set->codes, set->kernels, &room->query, codes, count, keys);
    for (uint32_t i = 0; i < count; i++) {
        if (!chosen && room->pool_count == ef && keys[i] > room->pool[ef - 1].key)
            continue; /* as most are */
        uint32_t at = offer(room, ef, chosen, rows[i], keys[i]);
        if (at < ef) /* its links are needed before long */
            __builtin_prefetch(links_of(c, rows[i]));
        nearest = MIN(nearest, at);
    }
    room->visits.codes += count;
    return nearest;
}

/* Narrower walks, which keep `followed` candidates at most, would end here. */
static void tell_watch(struct cascade_room *room, uint32_t followed)
{
    struct cascade_watch *watch = room->watch;
    while (watch->next < watch->count && watch->efs[watch->next] <= followed) {
        watch->see(watch->context, watch->next, room);
        watch->next++;
    }
}

void cascade_walk(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                  uint32_t ef, uint32_t probes, const uint64_t *chosen, uint32_t without)
{
    room->pool_count = room->found_count = 0;
    room->visits = (struct cascade_visits){0};
    if (without != CASCADE_NONE)
        first_sight(room, without);
    begin(c, set, room, ef, probes, chosen);
    uint32_t most = room->follow ? room->follow : ef;
    for (uint32_t at = 0; at < MIN(room->pool_count, most);) {
        uint32_t row = room->pool[at].row;
        if (row & FOLLOWED) {
            at++;
            continue;
        }
        if (UNLIKELY(room->watch))
            tell_watch(room, at);
        room->pool[at].row = row | FOLLOWED;
        uint32_t nearest = follow(c, set, room, row, ef, chosen);
        at = MIN(nearest, at + 1);
        if (at < room->pool_count)
            __builtin_prefetch(links_of(c, room->pool[at].row & ~FOLLOWED));
    }
    if (room->watch)
        tell_watch(room, UINT32_MAX);
    for (uint32_t i = 0; i < room->pool_count; i++)
        room->pool[i].row &= ~FOLLOWED;
    forget_seen(room);
}

/* ---------------------------------------------------------------- scoring */

/* How far the rank of a row's code may be off: three standard deviations, taking what the codes leave out
 * of the row and of the query as vectors of known length and any direction. A difference of length e
 * changes the product with a vector v by |v| e / sqrt(dims), typically. */
static float likely_error(const struct row_set *set, const struct cascade_query *query,
                          const struct code_query *code, uint32_t row, float rank)
{
    float row_error = *(const float *)array_at(&set->errors, row);
    float each = 3 / sqrtf((float)set->codes.dims);
    switch (set->codes.metric) {
    case SYNA_METRIC_COSINE: /* both are unit vectors */
        return each * (row_error + code->error);
    case SYNA_METRIC_EUCLIDEAN: /* the rank is the square of the distance */
        return each * 2 * sqrtf(MAX(rank, 0.0f)) * (row_error + code->error);
    default:
        return each * (row_error * query->norm +
                       code->error * *(const float *)array_at(&set->norms, row));
    }
}

/* Score the k nearest by their codes, and those behind them that are likely to belong there. They stand
 * in order, so after LOOK_BEHIND that are not, none is looked for any more. */
static syna_rc score(const struct row_set *set, const struct cascade_query *query,
                     struct cascade_room *room, const struct candidate *list, uint32_t count,
                     struct topk *top)
{
    uint32_t behind = 0;
    for (uint32_t i = 0; i < count && behind < LOOK_BEHIND; i++) {
        float rank = codes_rank(&room->query, list[i].key);
        if (top->count == top->k &&
            rank - likely_error(set, query, &room->query, list[i].row, rank) > top->items[0].rank) {
            behind++;
            continue;
        }
        behind = 0;
        room->visits.full++;
        if (!topk_offer(top, row_set_rank(set, query->vector, query->norm, list[i].row),
                        list[i].row))
            return syna_no_memory(top->k * sizeof *top->items);
    }
    return SYNA_SUCCESS;
}

/* The full rows of the nearest are about to be read, and lie anywhere. */
static void prefetch_full(const struct row_set *set, const struct candidate *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *row = (const char *)set->full(set->context, list[i].row);
        for (size_t at = 0; at < MIN(set->codes.dims * sizeof(float), (size_t)PREFETCH_BYTES);
             at += CACHE_LINE)
            __builtin_prefetch(row + at);
    }
}

syna_rc cascade_search(struct cascade *c, const struct row_set *set,
                       const struct cascade_query *query, struct topk *top,
                       struct cascade_visits *visits)
{
    struct cascade_room *room;
    if (c->linked == 0 || top->k == 0)
        return SYNA_SUCCESS;
    uint32_t ef = MAX(query->ef, (uint32_t)MIN(top->k, (size_t)c->linked));
    SYNA_TRY(room_take(c, set, ef, &room));
    codes_query(&set->codes, set->kernels, query->vector, room->bytes, &room->query);
    codes_encode(&set->codes, set->kernels, query->vector, room->code);
    cascade_walk(c, set, room, ef, query->probes ? query->probes : c->params.probes, query->chosen,
                 query->without);
    const struct candidate *list = query->chosen ? room->found : room->pool;
    uint32_t count = query->chosen ? room->found_count : room->pool_count;
    prefetch_full(set, list, (uint32_t)MIN(top->k, (size_t)count));
    syna_rc rc = score(set, query, room, list, count, top);
    if (visits) {
        visits->buckets += room->visits.buckets;
        visits->codes += room->visits.codes;
        visits->full += room->visits.full;
        visits->hops += room->visits.hops;
    }
    room_give(c, room);
    return rc;
}
