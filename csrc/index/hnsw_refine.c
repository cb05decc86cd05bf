/* hnsw_refine.c - every row looks for its neighbours once more, in the graph that the first choice made.
 *
 * The leaves of the first choice cut some near rows apart, and such rows are what a wide walk still
 * misses. So each row walks from itself through the graph as it is (Subramanya et al. 2019, DiskANN: the
 * second pass), chooses its links among the nearest it meets, and asks those for a link back; a row that
 * is asked for more than it has room for chooses among all of them. All walks are over before a link is
 * changed, and what a row is asked for is put in order, so the number of threads leaves no trace. */
#include "base/internal.h"

#include "index/hnsw_build.h"
#include "index/workers.h"

#define NEAR 40u /* rows that a walk keeps, or a quarter more than there is room for */
#define TURNS 4u /* walks that take turns */
_Static_assert(TURNS <= WALK_TURNS_MAX, "walk_together takes no more");
#define HOPS 24u /* of a walk: those to the nearest rows bring nearly all that it would find */
#define BLOCK 256u
#define PARTS 4u /* of the rows: what one of them is asked for is in memory at a time */

struct refine_room {
    struct hnsw_walk *walks[TURNS];
    struct prune_room *prune;
};

struct refining {
    uint32_t ef;
    struct hnsw *graph;
    const struct row_set *set;
    const uint32_t *order;  /* rows as they are taken: near ones together */
    struct near_rows *near; /* a row's candidates; after its walk what it chose, then the rest of them */
    uint8_t *chosen;        /* how many it chose */
    uint32_t *places;       /* where a row is in `order` */
    uint32_t first, end;    /* of `order`: the part whose links are chosen */
    size_t *starts;         /* what order[first + i] is asked for: asked[starts[i]] .. [starts[i + 1]] */
    struct candidate *asked;
    struct refine_room *rooms; /* one a thread */
};

/* ---------------------------------------------------------------- what a row would like */

/* What the walk met and the candidates, nearest first, no row twice. */
static uint32_t merge(const struct hnsw_walk *walk, const struct near_rows *near, uint32_t row,
                      struct candidate *out)
{
    uint32_t w = 0, n = 0, count = 0;
    while (count < PRUNE_MAX && (w < walk->pool_count || n < near->count)) {
        bool met = n == near->count ||
                   (w < walk->pool_count && candidate_before(walk->pool[w], near->rows[n]));
        struct candidate next = met ? walk->pool[w++] : near->rows[n++];
        if (next.row != row && (count == 0 || out[count - 1].row != next.row))
            out[count++] = next;
    }
    return count;
}

static bool among(const struct candidate *rows, uint32_t count, uint32_t row)
{
    for (uint32_t i = 0; i < count; i++)
        if (rows[i].row == row)
            return true;
    return false;
}

/* Put what was chosen before the other candidates, which lie in more directions than what the walk met: they
 * are better for the places that remain. */
static void put_first(struct near_rows *near, const struct candidate *chosen, uint32_t count)
{
    struct candidate rest[NEAR_MAX];
    uint32_t rest_count = 0;
    for (uint32_t i = 0; i < near->count; i++)
        if (!among(chosen, count, near->rows[i].row))
            rest[rest_count++] = near->rows[i];
    rest_count = MIN(rest_count, NEAR_MAX - count);
    memcpy(near->rows, chosen, count * sizeof *chosen);
    memcpy(near->rows + count, rest, rest_count * sizeof *rest);
    near->count = count + rest_count;
}

/* Choose among the rows that the walk from `row` met and its candidates. */
static void choose(const struct refining *r, struct prune_room *prune, const struct hnsw_walk *walk,
                   uint32_t row)
{
    struct candidate all[PRUNE_MAX] = {{0}}, chosen[NEAR_MAX];
    uint32_t links[LINKS_MAX], degree = MIN(r->graph->degree, NEAR_MAX), used = 0;
    uint32_t count = merge(walk, &r->near[row], row, all);
    uint32_t wanted = prune_diverse(r->set, prune, all, count, degree, links);
    for (uint32_t i = 0; used < wanted; i++) /* in the order of `all` */
        if (all[i].row == links[used])
            chosen[used++] = all[i];
    put_first(&r->near[row], chosen, used);
    r->chosen[row] = (uint8_t)used;
}

/* The walks of `count` rows. */
static void walk_rows(const struct refining *r, struct refine_room *room, const uint32_t *rows,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct hnsw_walk *walk = room->walks[i];
        codes_query_row(&r->set->codes, array_at(&r->set->code_rows, rows[i]), walk->query_room,
                        &walk->query);
        walk_begin_at(walk, rows[i]);
    }
    walk_together(r->graph, r->set, room->walks, count, r->ef, HOPS);
    for (uint32_t i = 0; i < count; i++)
        choose(r, room->prune, room->walks[i], rows[i]);
}

static syna_rc walk_round(void *context, unsigned thread, uint64_t i)
{
    struct refining *r = context;
    uint32_t first = (uint32_t)i * BLOCK, end = (uint32_t)MIN((i + 1) * BLOCK, (uint64_t)r->graph->linked);
    for (uint32_t at = first; at < end; at += TURNS)
        walk_rows(r, &r->rooms[thread], r->order + at, MIN(TURNS, end - at));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- what it is asked for */

/* Where a row is in the part; behind its end when it is not in it. */
static uint32_t place_in_part(const struct refining *r, uint32_t row)
{
    return r->places[row] - r->first;
}

static syna_rc gather(struct refining *r)
{
    uint32_t rows = r->graph->linked, part = r->end - r->first;
    size_t total = 0;
    memset(r->starts, 0, ((size_t)part + 2) * sizeof *r->starts);
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < r->chosen[row]; i++) {
            uint32_t place = place_in_part(r, r->near[row].rows[i].row);
            if (place < part)
                r->starts[place + 1]++;
        }
    for (uint32_t i = 0; i <= part; i++) { /* counts become starts, one place on */
        size_t count = r->starts[i + 1];
        r->starts[i + 1] = total;
        total += count;
    }
    mem_free(r->asked);
    r->asked = mem_alloc(MAX(total, (size_t)1) * sizeof *r->asked);
    if (!r->asked)
        return syna_no_memory(total * sizeof *r->asked);
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < r->chosen[row]; i++) {
            struct candidate c = r->near[row].rows[i];
            uint32_t place = place_in_part(r, c.row);
            if (place < part)
                r->asked[r->starts[place + 1]++] = (struct candidate){c.key, row};
        }
    return SYNA_SUCCESS;
}

static int by_nearness(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    return candidate_before(*a, *b) ? -1 : candidate_before(*b, *a);
}

/* The nearest of what `row` chose and is asked for, no row twice. */
static uint32_t wanted(const struct refining *r, uint32_t row, struct candidate *out)
{
    const struct candidate *own = r->near[row].rows;
    const size_t *start = &r->starts[place_in_part(r, row)];
    struct candidate *asked = r->asked + start[0];
    size_t asked_count = start[1] - start[0], a = 0;
    uint32_t o = 0, count = 0;
    qsort(asked, asked_count, sizeof *asked, by_nearness);
    while (count < PRUNE_MAX && (o < r->chosen[row] || a < asked_count)) {
        bool mine = a == asked_count || (o < r->chosen[row] && candidate_before(own[o], asked[a]));
        struct candidate next = mine ? own[o++] : asked[a++];
        if (count == 0 || out[count - 1].row != next.row)
            out[count++] = next;
    }
    return count;
}

static void link_row(const struct refining *r, struct prune_room *prune, uint32_t row)
{
    struct candidate near[PRUNE_MAX];
    uint32_t *links = hnsw_links(r->graph, row), degree = r->graph->degree, used = 0;
    uint32_t count = wanted(r, row, near);
    if (count > degree) {
        prune_links(r->set, prune, near, count, degree, links);
        return;
    }
    for (; used < count; used++)
        links[used] = near[used].row;
    for (uint32_t i = r->chosen[row]; i < r->near[row].count && used < degree; i++)
        if (!among(near, count, r->near[row].rows[i].row))
            links[used++] = r->near[row].rows[i].row;
    for (; used < degree; used++)
        links[used] = HNSW_NONE;
}

static syna_rc link_round(void *context, unsigned thread, uint64_t i)
{
    struct refining *r = context;
    uint32_t first = r->first + (uint32_t)i * BLOCK, end = MIN(first + BLOCK, r->end);
    for (uint32_t at = first; at < end; at++)
        link_row(r, r->rooms[thread].prune, r->order[at]);
    return SYNA_SUCCESS;
}

static syna_rc link_rows(struct refining *r, unsigned threads)
{
    uint64_t rows = r->graph->linked;
    for (uint32_t part = 0; part < PARTS; part++) {
        r->first = (uint32_t)(rows * part / PARTS);
        r->end = (uint32_t)(rows * (part + 1) / PARTS);
        SYNA_TRY(gather(r));
        SYNA_TRY(workers_run(threads, (r->end - r->first + BLOCK - 1) / BLOCK, link_round, r, NULL,
                             NULL));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- both */

static syna_rc make_room(struct refining *r, unsigned threads)
{
    size_t rows = r->graph->linked, bytes = (rows / PARTS + 3) * sizeof *r->starts;
    r->chosen = mem_alloc(rows);
    r->places = mem_alloc(rows * sizeof *r->places);
    r->starts = mem_alloc(bytes);
    r->rooms = mem_zalloc(threads * sizeof *r->rooms);
    if (!r->chosen || !r->places || !r->starts || !r->rooms)
        return syna_no_memory(bytes);
    for (uint32_t i = 0; i < rows; i++)
        r->places[r->order[i]] = i;
    for (unsigned t = 0; t < threads; t++) {
        for (uint32_t i = 0; i < TURNS; i++)
            SYNA_TRY(walk_take(r->graph, r->set, r->ef, &r->rooms[t].walks[i]));
        r->rooms[t].prune = prune_room_new(r->set);
        if (!r->rooms[t].prune)
            return syna_no_memory(bytes);
    }
    return SYNA_SUCCESS;
}

static void free_room(struct refining *r, unsigned threads)
{
    for (unsigned t = 0; r->rooms && t < threads; t++) {
        for (uint32_t i = 0; i < TURNS; i++)
            if (r->rooms[t].walks[i])
                walk_give(r->graph, r->rooms[t].walks[i]);
        prune_room_free(r->rooms[t].prune);
    }
    mem_free(r->chosen);
    mem_free(r->places);
    mem_free(r->starts);
    mem_free(r->asked);
    mem_free(r->rooms);
}

syna_rc hnsw_refine(struct hnsw *graph, const struct row_set *set, struct near_rows *near,
                    const uint32_t *order, unsigned threads, const struct hnsw_progress *progress)
{
    uint32_t ef = MIN(MAX(NEAR, graph->degree * 5 / 4), PRUNE_MAX);
    struct refining r = {.ef = ef, .graph = graph, .set = set, .order = order, .near = near};
    uint64_t blocks = ((uint64_t)graph->linked + BLOCK - 1) / BLOCK;
    syna_rc rc = make_room(&r, threads);
    if (rc == SYNA_SUCCESS)
        rc = workers_run(threads, blocks, walk_round, &r, progress->step, progress->context);
    if (rc == SYNA_SUCCESS)
        rc = link_rows(&r, threads);
    free_room(&r, threads);
    return rc;
}
