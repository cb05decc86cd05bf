/* hnsw_search.c - one walk over the graph, and the scoring of what it finds.
 *
 * The pool is one sorted array of the ef nearest rows seen so far; the walk follows the nearest of them
 * that was not followed yet, until there is none. A row's neighbours are looked at in two passes: the
 * first marks the unseen ones and asks for their codes from memory, the second compares them, four and
 * more at a time, while the later ones are still arriving. */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include <synadb/vector.h>

#include <math.h>

#define CACHE_LINE 64
#define PREFETCH_BYTES 512 /* of a row; the processor follows the rest by itself */
#define LOOK_BEHIND 8u

/* ---------------------------------------------------------------- the pool */

/* FOLLOWED does not matter for the order. */
static inline bool stands_before(struct candidate c, struct candidate in_list)
{
    in_list.row &= ~FOLLOWED;
    return candidate_before(c, in_list);
}

/* Put c into a sorted list of at most `cap`, of which `count` are there. Returns its place, `cap` when
 * it is not among the nearest. */
static uint32_t list_put(struct candidate *list, uint32_t *count, uint32_t cap, struct candidate c)
{
    if (*count == cap && !stands_before(c, list[cap - 1]))
        return cap;
    uint32_t low = 0, high = *count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (stands_before(c, list[middle]))
            high = middle;
        else
            low = middle + 1;
    }
    uint32_t last = MIN(*count, cap - 1);
    memmove(list + low + 1, list + low, (last - low) * sizeof *list);
    list[low] = c;
    *count = last + 1;
    return low;
}

static bool first_sight(struct hnsw_walk *walk, uint32_t row)
{
    uint32_t word = row / 64;
    uint64_t bit = 1ull << row % 64, old = walk->seen[word];
    if (old & bit)
        return false;
    if (old == 0) {
        if (walk->touched_count < WALK_TOUCHED)
            walk->touched[walk->touched_count] = word;
        walk->touched_count++;
    }
    walk->seen[word] = old | bit;
    return true;
}

static void forget_seen(struct hnsw_walk *walk)
{
    if (walk->touched_count > WALK_TOUCHED)
        memset(walk->seen, 0, walk->seen_cap);
    else
        for (uint32_t i = 0; i < walk->touched_count; i++)
            walk->seen[walk->touched[i]] = 0;
    walk->touched_count = 0;
}

/* ---------------------------------------------------------------- walking */

static inline bool is_chosen(const uint64_t *chosen, uint32_t row)
{
    return chosen[row / 64] >> row % 64 & 1;
}

static inline void prefetch_code(const uint8_t *code, size_t stride)
{
    for (size_t at = 0; at < MIN(stride, (size_t)PREFETCH_BYTES); at += CACHE_LINE)
        __builtin_prefetch(code + at);
}

/* Offer a row that was just compared. Returns where it stands in the pool. */
static uint32_t offer(struct hnsw_walk *walk, uint32_t ef, const uint64_t *chosen, uint32_t row,
                      int32_t key)
{
    struct candidate c = {key, row};
    if (chosen && is_chosen(chosen, row))
        list_put(walk->found, &walk->found_count, ef, c);
    return list_put(walk->pool, &walk->pool_count, ef, c);
}

static void begin(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                  uint32_t ef, const uint64_t *chosen)
{
    int32_t keys[HNSW_ENTRIES];
    struct candidate best[HNSW_BEGINNINGS];
    uint32_t count = 0;
    for (uint32_t at = 0; at < graph->entry_count; at += HNSW_ENTRIES) {
        uint32_t some = MIN(HNSW_ENTRIES, graph->entry_count - at);
        codes_scan(&set->codes, set->kernels, &walk->query,
                   graph->entry_codes + (size_t)at * set->codes.stride, some, keys);
        for (uint32_t i = 0; i < some; i++)
            list_put(best, &count, HNSW_BEGINNINGS,
                     (struct candidate){keys[i], graph->entries[at + i]});
    }
    walk->visits.codes += graph->entry_count;
    for (uint32_t i = 0; i < count; i++)
        if (first_sight(walk, best[i].row))
            offer(walk, ef, chosen, best[i].row, best[i].key);
}

/* Collect the unseen neighbours of a row and ask for their codes. */
static uint32_t collect(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                        uint32_t row, uint32_t *rows, const uint8_t **codes)
{
    const uint32_t *links = hnsw_links(graph, row);
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->degree; i++) {
        uint32_t next = links[i];
        if (next >= graph->linked) /* the end, or a damaged link */
            break;
        if (!first_sight(walk, next))
            continue;
        const uint8_t *code = array_at(&set->code_rows, next);
        prefetch_code(code, set->codes.stride);
        rows[count] = next;
        codes[count++] = code;
    }
    return count;
}

/* Follow the links of a row; the nearest place in the pool that got a new row. */
static uint32_t follow(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                       uint32_t row, uint32_t ef, const uint64_t *chosen)
{
    uint32_t rows[LINKS_MAX], nearest = ef;
    const uint8_t *codes[LINKS_MAX];
    int32_t keys[LINKS_MAX];
    uint32_t count = collect(graph, set, walk, row, rows, codes);
    walk->visits.hops++;
    if (count == 0)
        return nearest;
    codes_many(&set->codes, set->kernels, &walk->query, codes, count, keys);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = offer(walk, ef, chosen, rows[i], keys[i]);
        nearest = MIN(nearest, at);
    }
    walk->visits.codes += count;
    return nearest;
}

void walk_run(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
              uint32_t ef, const uint64_t *chosen)
{
    walk->pool_count = walk->found_count = 0;
    walk->visits = (struct hnsw_visits){0};
    begin(graph, set, walk, ef, chosen);
    for (uint32_t at = 0; at < walk->pool_count;) {
        uint32_t row = walk->pool[at].row;
        if (row & FOLLOWED) {
            at++;
            continue;
        }
        walk->pool[at].row = row | FOLLOWED;
        uint32_t nearest = follow(graph, set, walk, row, ef, chosen);
        at = MIN(nearest, at + 1);
        if (at < walk->pool_count)
            __builtin_prefetch(hnsw_links(graph, walk->pool[at].row & ~FOLLOWED));
    }
    for (uint32_t i = 0; i < walk->pool_count; i++)
        walk->pool[i].row &= ~FOLLOWED;
    forget_seen(walk);
}

/* ---------------------------------------------------------------- scoring */

/* How far the rank of a row's code may be off: three standard deviations, taking what the codes leave out
 * of the row and of the query as vectors of known length and any direction. A difference of length e
 * changes the product with a vector v by |v| e / sqrt(dims), typically. */
static float likely_error(const struct row_set *set, const struct hnsw_query *query,
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
static syna_rc score(const struct row_set *set, const struct hnsw_query *query,
                     struct hnsw_walk *walk, const struct candidate *list, uint32_t count,
                     struct topk *top)
{
    uint32_t behind = 0;
    for (uint32_t i = 0; i < count && behind < LOOK_BEHIND; i++) {
        float rank = codes_rank(&walk->query, list[i].key);
        if (top->count == top->k &&
            rank - likely_error(set, query, &walk->query, list[i].row, rank) > top->items[0].rank) {
            behind++;
            continue;
        }
        behind = 0;
        walk->visits.full++;
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

syna_rc hnsw_search(struct hnsw *graph, const struct row_set *set, const struct hnsw_query *query,
                    struct topk *top, struct hnsw_visits *visits)
{
    struct hnsw_walk *walk;
    if (graph->linked == 0 || top->k == 0)
        return SYNA_SUCCESS;
    uint32_t ef = MAX(query->ef, (uint32_t)MIN(top->k, (size_t)graph->linked));
    SYNA_TRY(walk_take(graph, set, ef, &walk));
    codes_query(&set->codes, set->kernels, query->vector, walk->query_room, &walk->query);
    walk_run(graph, set, walk, ef, query->chosen);
    const struct candidate *list = query->chosen ? walk->found : walk->pool;
    uint32_t count = query->chosen ? walk->found_count : walk->pool_count;
    prefetch_full(set, list, (uint32_t)MIN(top->k, (size_t)count));
    syna_rc rc = score(set, query, walk, list, count, top);
    if (visits) {
        visits->codes += walk->visits.codes;
        visits->full += walk->visits.full;
        visits->hops += walk->visits.hops;
    }
    walk_give(graph, walk);
    return rc;
}
