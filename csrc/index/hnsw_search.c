/* hnsw_search.c - the k nearest of queries: walks over the graph (hnsw_walk.c), and the scoring of what they
 * find.
 *
 * When several queries are asked at once their walks take turns between asking for codes and comparing
 * them, which overlaps the waiting of one with the work of the others; each walk does what it would do
 * alone. Many queries are spread over threads as well.
 *
 * Half of a walk is waiting for codes. Where these are split and their first halves tell rows apart well
 * enough, which hnsw_calibrate finds out, a search reads only those on its way, and ranks the foremost rows
 * of the pool again by whole codes at its end. */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include "index/workers.h"
#include <synadb/vector.h>

#include <math.h>

#define LOOK_BEHIND 8u
#define AGAIN_TIMES 2u /* rows ranked again: at most so many times those that are asked for, */
#define AGAIN_MORE 32u /* and so many more */
#define LANES 8u /* queries that take turns */
#define THREAD_QUERIES 32u /* fewer are not worth a thread */

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
        for (size_t at = 0; at < MIN(row_kind_bytes(set->kind, set->codes.dims), (size_t)HNSW_AHEAD);
             at += CACHE_LINE)
            __builtin_prefetch(row + at);
    }
}

/* ---------------------------------------------------------------- searching */

/* What one query is at. */
struct lane {
    enum { WALKING, RANKING, SCORING, DONE } state;
    struct hnsw_walk *walk;
    const struct hnsw_query *query;
    struct topk *top;
    uint32_t ef;
};

struct searches {
    struct hnsw *graph;
    const struct row_set *set;
    const struct hnsw_query *queries;
    struct topk *tops;
    size_t *next; /* query that nobody has begun; atomic: several threads take from it */
    size_t count;
    struct hnsw_visits *visits; /* may be NULL */
    const uint64_t *counted; /* what `share` is of */
    float share; /* of the entries, which are a sample of the rows */
};

/* After a coarse walk: so many as a walk of whole codes would have kept, and some more for what halves do not
 * tell apart. */
static uint32_t ranked_again(const struct lane *lane)
{
    size_t k = lane->top->k, most = AGAIN_TIMES * k + AGAIN_MORE;
    return (uint32_t)MIN(most, MAX(lane->query->ef, k) + k / 2);
}

static struct candidate *walked(const struct lane *lane, uint32_t *count)
{
    bool all = !lane->query->chosen;
    *count = all ? lane->walk->pool_count : lane->walk->found_count;
    if (lane->walk->coarse)
        *count = MIN(*count, ranked_again(lane));
    return all ? lane->walk->pool : lane->walk->found;
}

#define SHARE_LEAST 0.5f

static float share_of(const struct hnsw *graph, const uint64_t *chosen)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < graph->entry_count; e++)
        count += bit_of(chosen, graph->entries[e]);
    return MAX((float)count / (float)MAX(graph->entry_count, 1u), SHARE_LEAST);
}

/* Candidates that the walk of query i may keep. Rows that may not come back, dead ones above all, take places
 * among them: so there are more places, lest a store find less with every row that is deleted. */
static uint32_t width_of(struct searches *s, size_t i)
{
    const struct hnsw_query *query = &s->queries[i];
    uint32_t ef = MAX(query->ef, (uint32_t)MIN(s->tops[i].k, (size_t)s->graph->linked));
    if (!query->chosen)
        return walk_width(s->graph, ef);
    if (s->counted != query->chosen)
        s->share = share_of(s->graph, s->counted = query->chosen);
    return walk_width(s->graph, (uint32_t)((float)ef / s->share));
}

/* A query that nobody has begun and that asks for anything; s->count when there is none. */
static size_t next_query(const struct searches *s)
{
    size_t i;
    do
        i = __atomic_fetch_add(s->next, 1, __ATOMIC_RELAXED);
    while (i < s->count && s->tops[i].k == 0);
    return MIN(i, s->count);
}

/* Begin another query; DONE when there is none. */
static void lane_begin(struct searches *s, struct lane *lane)
{
    size_t i = next_query(s);
    lane->state = DONE;
    if (i == s->count)
        return;
    lane->query = &s->queries[i];
    lane->top = &s->tops[i];
    lane->ef = width_of(s, i);
    lane->state = WALKING;
    lane->walk->coarse = s->graph->measured.coarse && s->set->codes.split;
    codes_query(&s->set->codes, s->set->kernels, lane->query->vector, lane->walk->query_room,
                &lane->walk->query);
    walk_aim(s->graph, s->set, lane->walk, lane->query, (uint32_t)MIN(lane->top->k, (size_t)UINT32_MAX));
    walk_begin(s->graph, s->set, lane->walk, lane->ef, lane->query->chosen);
}

/* The full rows of the nearest are asked for. */
static void lane_ranked(const struct searches *s, struct lane *lane)
{
    uint32_t count;
    const struct candidate *list = walked(lane, &count);
    prefetch_full(s->set, list, (uint32_t)MIN(lane->top->k, (size_t)count));
    lane->state = SCORING;
}

/* The end of a walk; after a coarse one whole codes are asked for. */
static void lane_walked(const struct searches *s, struct lane *lane)
{
    uint32_t count;
    walk_end(lane->walk);
    if (!lane->walk->coarse) {
        lane_ranked(s, lane);
        return;
    }
    const struct candidate *list = walked(lane, &count);
    for (uint32_t i = 0; i < count; i++)
        prefetch_code(array_at(&s->set->code_rows, list[i].row), s->set->codes.stride, HNSW_AHEAD);
    lane->state = RANKING;
}

/* Whole codes say which rows are nearest; they stand nearly in that order as it is. */
static void lane_rank(const struct searches *s, struct lane *lane)
{
    const uint8_t *codes[LINKS_MAX];
    int32_t keys[LINKS_MAX];
    uint32_t count;
    struct candidate *list = walked(lane, &count);
    for (uint32_t first = 0, some; first < count; first += some) {
        some = MIN(count - first, (uint32_t)LINKS_MAX);
        for (uint32_t i = 0; i < some; i++)
            codes[i] = array_at(&s->set->code_rows, list[first + i].row);
        codes_many(&s->set->codes, s->set->kernels, &lane->walk->query, codes, some, keys);
        for (uint32_t i = 0; i < some; i++) {
            struct candidate c = {keys[i], list[first + i].row};
            uint32_t at = list_place(list, first + i, candidate_order(c));
            memmove(list + at + 1, list + at, (first + i - at) * sizeof *list);
            list[at] = c;
        }
    }
    lane_ranked(s, lane);
}

static syna_rc lane_score(const struct searches *s, struct lane *lane)
{
    uint32_t count;
    const struct candidate *list = walked(lane, &count);
    SYNA_TRY(score(s->set, lane->query, lane->walk, list, count, lane->top));
    if (s->visits) {
        s->visits->codes += lane->walk->visits.codes;
        s->visits->full += lane->walk->visits.full;
        s->visits->hops += lane->walk->visits.hops;
    }
    return SYNA_SUCCESS;
}

/* Every lane has room for the widest walk. */
static syna_rc take_walks(struct searches *s, struct lane *lanes, uint32_t count)
{
    uint32_t widest = 0;
    for (size_t i = 0; i < s->count; i++)
        widest = MAX(widest, width_of(s, i));
    for (uint32_t i = 0; i < count; i++)
        SYNA_TRY(walk_take(s->graph, s->set, widest, &lanes[i].walk));
    return SYNA_SUCCESS;
}

/* One turn of every lane: first each asks for what it will read, then each reads. */
static syna_rc turn(struct searches *s, struct lane *lanes, uint32_t count, bool *busy)
{
    *busy = false;
    for (uint32_t i = 0; i < count; i++)
        if (lanes[i].state == WALKING && !walk_ask(s->graph, s->set, lanes[i].walk))
            lane_walked(s, &lanes[i]);
    for (uint32_t i = 0; i < count; i++) {
        struct lane *lane = &lanes[i];
        if (lane->state == WALKING) {
            walk_compare(s->graph, s->set, lane->walk, lane->ef, lane->query->chosen);
        } else if (lane->state == RANKING) {
            lane_rank(s, lane);
        } else if (lane->state == SCORING) {
            SYNA_TRY(lane_score(s, lane));
            lane_begin(s, lane);
        }
        *busy |= lane->state != DONE;
    }
    return SYNA_SUCCESS;
}

/* Some queries, whose walks take turns on one thread. */
static syna_rc search_together(struct searches *s)
{
    struct lane lanes[LANES] = {0};
    uint32_t used = (uint32_t)MIN(s->count, (size_t)LANES);
    syna_rc rc = take_walks(s, lanes, used);
    bool busy = rc == SYNA_SUCCESS;
    for (uint32_t i = 0; busy && i < used; i++)
        lane_begin(s, &lanes[i]);
    while (rc == SYNA_SUCCESS && busy)
        rc = turn(s, lanes, used, &busy);
    for (uint32_t i = 0; i < used; i++)
        if (lanes[i].walk)
            walk_give(s->graph, lanes[i].walk);
    return rc;
}

/* ---------------------------------------------------------------- rows that are not in the graph */

#define SCAN_ROWS 64u

/* Compare some rows, at most SCAN_ROWS, while the codes of `next` are fetched. */
static void compare_some(const struct row_set *set, struct hnsw_walk *walk, uint32_t ef,
                         const uint64_t *chosen, const uint32_t *rows, uint32_t count, uint32_t next)
{
    const uint8_t *codes[SCAN_ROWS];
    int32_t keys[SCAN_ROWS], limit = walk->pool_count == ef ? walk->pool[ef - 1].key : INT32_MAX;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = array_at(&set->code_rows, rows[i]);
    for (uint32_t i = count; i < count + next; i++)
        prefetch_code(array_at(&set->code_rows, rows[i]), set->codes.stride, HNSW_AHEAD);
    codes_many(&set->codes, set->kernels, &walk->query, codes, count, keys);
    for (uint32_t i = 0; i < count; i++)
        if (keys[i] <= limit && (!chosen || bit_of(chosen, rows[i])))
            list_put(walk->pool, &walk->pool_count, ef, (struct candidate){keys[i], rows[i]});
    walk->visits.codes += count;
}

static void compare_range(const struct row_set *set, struct hnsw_walk *walk, uint32_t ef,
                          const uint64_t *chosen, uint32_t first, uint32_t end)
{
    uint32_t rows[SCAN_ROWS];
    for (uint32_t at = first, count; at < end; at += count) {
        count = MIN(end - at, SCAN_ROWS);
        for (uint32_t i = 0; i < count; i++)
            rows[i] = at + i;
        compare_some(set, walk, ef, chosen, rows, count, 0);
    }
}

syna_rc hnsw_scan(struct hnsw *graph, const struct row_set *set, const struct hnsw_query *query,
                  uint32_t first, uint32_t end, const uint32_t *rows, uint32_t count, struct topk *top,
                  struct hnsw_visits *visits)
{
    struct hnsw_walk *walk;
    uint32_t ef = MAX(query->ef, (uint32_t)MIN(top->k, (size_t)end - first + count));
    if (top->k == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(walk_take(graph, set, ef, &walk));
    walk->pool_count = 0;
    walk->visits = (struct hnsw_visits){0};
    codes_query(&set->codes, set->kernels, query->vector, walk->query_room, &walk->query);
    compare_range(set, walk, ef, query->chosen, first, end);
    for (uint32_t at = 0, some; at < count; at += some) {
        some = MIN(count - at, SCAN_ROWS);
        compare_some(set, walk, ef, query->chosen, rows + at, some, MIN(count - at - some, SCAN_ROWS));
    }
    prefetch_full(set, walk->pool, (uint32_t)MIN(top->k, (size_t)walk->pool_count));
    syna_rc rc = score(set, query, walk, walk->pool, walk->pool_count, top);
    visits->codes += walk->visits.codes;
    visits->full += walk->visits.full;
    walk_give(graph, walk);
    return rc;
}

/* ---------------------------------------------------------------- several threads */

struct shared_search {
    const struct searches *all;
    struct hnsw_visits visits; /* atomic */
};

/* What one thread does: queries until none is left. */
static syna_rc search_some(void *context, unsigned thread, uint64_t i)
{
    struct shared_search *shared = context;
    struct hnsw_visits visits = {0};
    struct searches s = *shared->all;
    s.visits = &visits;
    (void)thread;
    (void)i;
    SYNA_TRY(search_together(&s));
    __atomic_fetch_add(&shared->visits.codes, visits.codes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&shared->visits.full, visits.full, __ATOMIC_RELAXED);
    __atomic_fetch_add(&shared->visits.hops, visits.hops, __ATOMIC_RELAXED);
    return SYNA_SUCCESS;
}

/* Which thread a query falls to does not matter: its walk is the same on each. */
static syna_rc search_shared(struct searches *s, unsigned threads)
{
    struct shared_search shared = {.all = s};
    SYNA_TRY(workers_run(threads, threads, search_some, &shared, NULL, NULL));
    if (s->visits) {
        s->visits->codes += shared.visits.codes;
        s->visits->full += shared.visits.full;
        s->visits->hops += shared.visits.hops;
    }
    return SYNA_SUCCESS;
}

syna_rc hnsw_search_many(struct hnsw *graph, const struct row_set *set,
                         const struct hnsw_query *queries, size_t count, struct topk *tops,
                         struct hnsw_visits *visits)
{
    size_t next = 0;
    struct searches s = {graph, set, queries, tops, &next, count, visits, NULL, 1};
    if (graph->linked == 0 || count == 0)
        return SYNA_SUCCESS;
    unsigned threads = (unsigned)MIN((size_t)graph->search_threads, count / THREAD_QUERIES);
    return threads > 1 ? search_shared(&s, threads) : search_together(&s);
}

syna_rc hnsw_search(struct hnsw *graph, const struct row_set *set, const struct hnsw_query *query,
                    struct topk *top, struct hnsw_visits *visits)
{
    return hnsw_search_many(graph, set, query, 1, top, visits);
}
