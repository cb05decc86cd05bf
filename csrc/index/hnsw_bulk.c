/* hnsw_bulk.c - the whole graph at once (Rubel et al. 2026, PiPNN, arXiv:2602.21247).
 *
 *   1  carve: overlapping leaves of at most 512 near rows (hnsw_carve.c)
 *   2  per leaf one matrix product gives all distances; each row's LEAF_NEAR nearest become candidates of
 *      it, and it of them
 *   3  of the candidates that lie in the same direction from a row only the nearest is kept (HashPrune of
 *      the same paper), of those the NEAR_MAX nearest; among them the row chooses its links
 *   4  rows that no walk comes to are joined (hnsw_join.c)
 *   5  with this graph every row looks for its neighbours once more (hnsw_refine.c), and 4 again
 *
 * What goes through all rows takes them in the order in which leaves first held them: near rows follow each
 * other, so the codes and links that one needs are in the cache from the one before.
 *
 * Which candidates a row ends with does not depend on the order in which they come: a direction's nearest
 * is its nearest, and what was pushed out by NEAR_MAX nearer ones stays out. So the number of threads
 * leaves no trace in the result. */
#include "base/internal.h"

#include "base/rng.h"
#include "index/hnsw_build.h"
#include "index/workers.h"
#include "math/int8.h"

#define LEAF_NEAR 6u
#define SKETCH_BITS 12u
#define PRUNE_BLOCK 256u
#define AHEAD 4u /* rows whose memory is asked for before it is needed */

/* ---------------------------------------------------------------- the smallest of many */

#define SCAN 16u
#define WIDE 512u /* keys looked at together */

static void keep_few(struct candidate *out, uint32_t *count, uint32_t want, int32_t key, uint32_t row)
{
    uint32_t at = *count < want ? (*count)++ : want - 1;
    for (; at > 0 && out[at - 1].key > key; at--)
        out[at] = out[at - 1];
    out[at] = (struct candidate){key, row};
}

/* No key above it is among the `want` <= SCAN smallest of `count` >= SCAN: so many keys, one of each lane, are
 * not above it. */
static int32_t bound_of(const struct int8_kernels *kernels, const int32_t *keys, uint32_t count,
                        uint32_t want)
{
    int32_t lanes[SCAN];
    struct candidate few[SCAN];
    uint32_t got = 0;
    kernels->least(keys, count, lanes);
    for (uint32_t j = 0; j < SCAN; j++)
        if (got < want || lanes[j] < few[want - 1].key)
            keep_few(few, &got, want, lanes[j], j);
    return few[want - 1].key;
}

static void look_at(const struct int8_kernels *kernels, const int32_t *keys, uint32_t first,
                    uint32_t count, uint32_t want, struct candidate *out, uint32_t *got)
{
    int32_t limits[WIDE], bound = INT32_MAX;
    uint32_t within[WIDE];
    if (*got == want)
        bound = out[want - 1].key;
    else if (count >= SCAN)
        bound = bound_of(kernels, keys + first, count, want);
    for (uint32_t i = 0; i < count; i++)
        limits[i] = bound;
    size_t found = kernels->within(keys + first, limits, count, within);
    for (size_t i = 0; i < found; i++) {
        uint32_t at = first + within[i];
        if (*got < want || keys[at] < out[want - 1].key)
            keep_few(out, got, want, keys[at], at);
    }
}

uint32_t nearest_few(const struct kernels *kernels, const int32_t *keys, uint32_t count, uint32_t want,
                     struct candidate *out)
{
    uint32_t got = 0;
    for (uint32_t at = 0; want > 0 && at < count; at += WIDE)
        look_at(kernels->int8, keys, at, MIN(count - at, WIDE), want, out, &got);
    return got;
}

/* ---------------------------------------------------------------- candidates of all rows */

static void near_lock(struct near_rows *near)
{
    while (__atomic_exchange_n(&near->lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&near->lock, __ATOMIC_RELAXED))
            sched_yield();
}

static void near_unlock(struct near_rows *near)
{
    __atomic_store_n(&near->lock, 0, __ATOMIC_RELEASE);
}

/* Where each candidate of a row lies, seen from it. Apart from them, and given back as soon as all leaves
 * were looked at. */
struct directions {
    uint16_t of[(NEAR_MAX + SCAN - 1) / SCAN * SCAN];
};

static void near_take_out(struct near_rows *near, struct directions *seen, uint32_t at)
{
    uint32_t behind = --near->count - at;
    memmove(near->rows + at, near->rows + at + 1, behind * sizeof near->rows[0]);
    memmove(seen->of + at, seen->of + at + 1, behind * sizeof seen->of[0]);
}

/* The place of a direction, NEAR_MAX when it is not there. */
static uint32_t find_direction(const struct directions *seen, uint32_t count, uint16_t direction)
{
    for (uint32_t at = 0; at < count; at += SCAN) {
        int any = 0;
        for (uint32_t j = 0; j < SCAN; j++) /* the compiler takes them at once */
            any |= seen->of[at + j] == direction;
        for (uint32_t j = at; any && j < MIN(at + SCAN, count); j++)
            if (seen->of[j] == direction)
                return j;
    }
    return NEAR_MAX;
}

static void near_put(struct near_rows *near, struct directions *seen, struct candidate c,
                     uint16_t direction)
{
    if (near->count == NEAR_MAX && !candidate_before(c, near->rows[NEAR_MAX - 1]))
        return;
    uint32_t same = find_direction(seen, near->count, direction);
    if (same < NEAR_MAX) {
        if (!candidate_before(c, near->rows[same]))
            return;
        near_take_out(near, seen, same);
    }
    uint32_t at = MIN(near->count, NEAR_MAX - 1), last = at;
    while (at > 0 && candidate_before(c, near->rows[at - 1]))
        at--;
    memmove(near->rows + at + 1, near->rows + at, (last - at) * sizeof c);
    memmove(seen->of + at + 1, seen->of + at, (last - at) * sizeof direction);
    near->rows[at] = c;
    seen->of[at] = direction;
    near->count = last + 1;
}

/* ---------------------------------------------------------------- directions */

/* Products of a row's code with SKETCH_BITS vectors of +1 and -1: which of two rows lies further along each
 * of them tells in which direction one lies from the other. */
struct sketch {
    int16_t along[SKETCH_BITS]; /* so many times smaller that the longest code's fits */
};

/* Four at once, for any processor. */
typedef int16_t four __attribute__((vector_size(8)));

static uint16_t direction_of(const struct sketch *from, const struct sketch *to)
{
    four bits = {0}, bit = {1, 2, 4, 8};
    for (uint32_t b = 0; b < SKETCH_BITS / 4; b++, bit <<= 4) {
        four here, there;
        memcpy(&here, from->along + 4 * b, sizeof here);
        memcpy(&there, to->along + 4 * b, sizeof there);
        bits |= (there > here) & bit;
    }
    return (uint16_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

static void sketch_row(const uint8_t *code, const int16_t *signs, size_t stride, struct sketch *out)
{
    const int32_t smaller = (int32_t)(stride * UINT8_MAX / INT16_MAX) + 1;
    for (uint32_t b = 0; b < SKETCH_BITS; b++) {
        int32_t sum = 0;
        for (size_t i = 0; i < stride; i++)
            sum += code[i] * signs[b * stride + i];
        out->along[b] = (int16_t)(sum / smaller);
    }
}

/* ---------------------------------------------------------------- the build */

struct room {
    const uint8_t *codes[CARVE_LEAF];
    int32_t *pairs; /* CARVE_LEAF x CARVE_LEAF */
    void *tile;
    struct prune_room *prune;
    /* Of a leaf, whose rows are numbered from 0 here: */
    struct sketch sketches[CARVE_LEAF];
    struct candidate few[CARVE_LEAF][LEAF_NEAR]; /* the nearest of a row */
    uint32_t few_count;
    struct candidate met[2 * CARVE_LEAF * LEAF_NEAR];
    uint32_t starts[CARVE_LEAF + 2]; /* candidates for row i are met[starts[i]] .. [starts[i + 1]] */
};

struct build {
    const struct row_set *set;
    uint32_t count;
    uint32_t degree;
    struct array near_array;
    struct near_rows *near; /* in it */
    struct array directions_array;
    struct directions *directions; /* in it */
    uint8_t *chosen; /* links of a row that it chose itself */
    uint32_t *order; /* rows as leaves first held them: near ones together */
    uint32_t ordered; /* atomic */
    int16_t *signs; /* SKETCH_BITS x stride */
    struct sketch *sketches;
    struct array links;
    struct room *rooms;
    unsigned threads;
    const struct hnsw_progress *progress;
    uint64_t part; /* of the work: 0 carving and leaves, 1 links, 2 looking once more */
};

static syna_rc rooms_make(struct build *b)
{
    size_t tile = codes_tile_scratch(&b->set->codes, CARVE_LEAF, CARVE_LEAF);
    b->rooms = mem_zalloc(b->threads * sizeof *b->rooms);
    for (unsigned t = 0; b->rooms && t < b->threads; t++) {
        struct room *room = &b->rooms[t];
        room->pairs = mem_alloc_aligned(CARVE_LEAF * CARVE_LEAF * sizeof(int32_t), 64);
        room->tile = mem_alloc_aligned(tile, 64);
        room->prune = prune_room_new(b->set);
        if (!room->pairs || !room->tile || !room->prune)
            return syna_no_memory(CARVE_LEAF * CARVE_LEAF * sizeof(int32_t));
    }
    return b->rooms ? SYNA_SUCCESS : syna_no_memory(b->threads * sizeof *b->rooms);
}

static void rooms_free(struct build *b)
{
    for (unsigned t = 0; b->rooms && t < b->threads; t++) {
        mem_free_aligned(b->rooms[t].pairs);
        mem_free_aligned(b->rooms[t].tile);
        prune_room_free(b->rooms[t].prune);
    }
    mem_free(b->rooms);
}

static bool is_few(const struct room *room, uint32_t row, uint32_t other)
{
    for (uint32_t f = 0; f < room->few_count; f++)
        if (room->few[row][f].row == other)
            return true;
    return false;
}

/* The nearest of each row of the leaf. */
static void find_few(const struct build *b, struct room *room, uint32_t count)
{
    room->few_count = MIN(LEAF_NEAR, count - 1);
    for (uint32_t i = 0; i < count; i++) {
        int32_t *keys = room->pairs + (size_t)i * CARVE_LEAF;
        keys[i] = INT32_MAX; /* not its own neighbour */
        nearest_few(b->set->kernels, keys, count, room->few_count, room->few[i]);
    }
}

/* What each row is to meet: first its nearest, then the rows among whose nearest it is. */
static void gather_met(struct room *room, uint32_t count)
{
    uint32_t *fill = room->starts + 1;
    memset(room->starts, 0, sizeof room->starts);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t f = 0; f < room->few_count; f++) {
            fill[i + 1]++;
            fill[room->few[i][f].row + 1]++;
        }
    for (uint32_t i = 0; i < count; i++)
        fill[i + 1] += fill[i];
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t f = 0; f < room->few_count; f++)
            room->met[fill[i]++] = room->few[i][f];
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t f = 0; f < room->few_count; f++) {
            struct candidate c = room->few[i][f];
            room->met[fill[c.row]++] = (struct candidate){c.key, i};
        }
}

static void expect_near(const struct build *b, uint32_t row)
{
    const char *near = (const char *)&b->near[row], *seen = (const char *)&b->directions[row];
    for (size_t at = 0; at < sizeof *b->near; at += 64)
        __builtin_prefetch(near + at, 1);
    for (size_t at = 0; at < sizeof *b->directions; at += 64)
        __builtin_prefetch(seen + at, 1);
}

/* Leaf row i gets its candidates. True: it was in no leaf before. */
static bool meet(struct build *b, const struct room *room, const uint32_t *rows, uint32_t i)
{
    struct near_rows *near = &b->near[rows[i]];
    near_lock(near);
    bool first = near->count == 0;
    for (uint32_t m = room->starts[i]; m < room->starts[i + 1]; m++) {
        struct candidate c = room->met[m];
        if (m >= room->starts[i] + room->few_count && is_few(room, i, c.row))
            continue;
        uint16_t direction = direction_of(&room->sketches[i], &room->sketches[c.row]);
        near_put(near, &b->directions[rows[i]], (struct candidate){c.key, rows[c.row]}, direction);
    }
    near_unlock(near);
    return first;
}

/* A leaf's rows are candidates of each other, as far as they are among each other's nearest. */
static syna_rc compare_leaf(void *context, unsigned thread, const uint32_t *rows, uint32_t count)
{
    struct build *b = context;
    struct room *room = &b->rooms[thread];
    uint32_t fresh[CARVE_LEAF + 1], fresh_count = 0;
    if (count < 2) /* it meets nobody */
        return SYNA_SUCCESS;
    for (uint32_t i = 0; i < count; i++) {
        room->codes[i] = array_at(&b->set->code_rows, rows[i]);
        room->sketches[i] = b->sketches[rows[i]];
    }
    codes_tile(&b->set->codes, b->set->kernels, room->codes, count, room->codes, count, room->pairs,
               CARVE_LEAF, room->tile);
    find_few(b, room, count);
    gather_met(room, count);
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            expect_near(b, rows[i + AHEAD]);
        fresh[fresh_count] = rows[i];
        fresh_count += meet(b, room, rows, i);
    }
    uint32_t at = __atomic_fetch_add(&b->ordered, fresh_count, __ATOMIC_RELAXED);
    memcpy(b->order + at, fresh, fresh_count * sizeof *fresh);
    return SYNA_SUCCESS;
}

static syna_rc link_round(void *context, unsigned thread, uint64_t i)
{
    struct build *b = context;
    uint32_t end = (uint32_t)MIN((i + 1) * PRUNE_BLOCK, (uint64_t)b->count);
    for (uint32_t at = (uint32_t)i * PRUNE_BLOCK; at < end; at++) {
        uint32_t row = b->order[at];
        const struct near_rows *near = &b->near[row];
        uint32_t *links = array_at(&b->links, row);
        uint32_t used = prune_diverse(b->set, b->rooms[thread].prune, near->rows, near->count,
                                      b->degree, links);
        b->chosen[row] = (uint8_t)used;
        for (; used < b->degree; used++)
            links[used] = HNSW_NONE;
    }
    return SYNA_SUCCESS;
}

/* Put `row` among the links of `of`, if it is not there and there is a place. */
static void link_to(struct build *b, uint32_t of, uint32_t row)
{
    uint32_t *links = array_at(&b->links, of), i = 0;
    while (i < b->degree && links[i] != HNSW_NONE && links[i] != row)
        i++;
    if (i < b->degree)
        links[i] = row;
}

/* A row that others chose no link to would hardly be found: every choice is answered by a link back while
 * there is room, first choices first. */
static void link_back(struct build *b)
{
    for (uint32_t rank = 0; rank < b->degree; rank++)
        for (uint32_t row = 0; row < b->count; row++) {
            uint32_t ahead = MIN(row + 2 * AHEAD, b->count - 1);
            uint32_t next = ((uint32_t *)array_at(&b->links, ahead))[rank];
            if (next < b->count)
                __builtin_prefetch(array_at(&b->links, next), 1);
            if (rank < b->chosen[row])
                link_to(b, ((uint32_t *)array_at(&b->links, row))[rank], row);
        }
}

/* What places remain go to the nearest candidates: a walk reads the whole cache line anyway. */
static syna_rc fill_round(void *context, unsigned thread, uint64_t i)
{
    struct build *b = context;
    uint32_t end = (uint32_t)MIN((i + 1) * PRUNE_BLOCK, (uint64_t)b->count);
    (void)thread;
    for (uint32_t row = (uint32_t)i * PRUNE_BLOCK; row < end; row++)
        for (uint32_t c = 0; c < b->near[row].count; c++)
            link_to(b, row, b->near[row].rows[c].row);
    return SYNA_SUCCESS;
}

/* All parts count the same, near enough. */
static bool step_part(void *context, uint64_t done, uint64_t total)
{
    const struct build *b = context;
    if (!b->progress || !b->progress->step)
        return true;
    uint64_t third = b->count / 3;
    return b->progress->step(b->progress->context,
                             b->part * third + (uint64_t)((double)third * (double)done / (double)total),
                             b->count);
}

static syna_rc sketch_round(void *context, unsigned thread, uint64_t i)
{
    struct build *b = context;
    uint32_t end = (uint32_t)MIN((i + 1) * PRUNE_BLOCK, (uint64_t)b->count);
    for (uint32_t row = (uint32_t)i * PRUNE_BLOCK; row < end; row++) {
        const uint8_t *code = array_at(&b->set->code_rows, row), *whole;
        code = *codes_whole(&b->set->codes, b->set->kernels, &code, 1, b->rooms[thread].tile, &whole);
        sketch_row(code, b->signs, b->set->codes.stride, &b->sketches[row]);
    }
    return SYNA_SUCCESS;
}

static syna_rc sketch_rows(struct build *b)
{
    size_t signs = (size_t)SKETCH_BITS * b->set->codes.stride;
    uint64_t seed = 1;
    b->signs = mem_alloc(signs * sizeof *b->signs);
    b->sketches = mem_alloc(b->count * sizeof *b->sketches);
    if (!b->signs || !b->sketches)
        return syna_no_memory(b->count * sizeof *b->sketches);
    for (size_t i = 0; i < signs; i++)
        b->signs[i] = rng_next(&seed) >> 63 ? 1 : -1;
    return workers_run(b->threads, (b->count + PRUNE_BLOCK - 1) / PRUNE_BLOCK, sketch_round, b, NULL,
                       NULL);
}

/* Rows that met nobody in their leaves. */
static void order_the_rest(struct build *b)
{
    for (uint32_t row = 0; row < b->count && b->ordered < b->count; row++)
        if (b->near[row].count == 0)
            b->order[b->ordered++] = row;
}

/* Room for `rows` items, zeroed. */
static syna_rc make_array(struct array *a, size_t item, uint32_t rows)
{
    SYNA_TRY(array_init(a, item, HNSW_ROWS_MAX));
    return array_reserve(a, rows);
}

/* The candidates of all rows. */
static syna_rc find_near(struct build *b)
{
    struct hnsw_progress step = {step_part, b};
    SYNA_TRY(make_array(&b->near_array, sizeof *b->near, b->count));
    SYNA_TRY(make_array(&b->directions_array, sizeof *b->directions, b->count));
    b->near = array_at(&b->near_array, 0);
    b->directions = array_at(&b->directions_array, 0);
    b->order = mem_alloc(b->count * sizeof *b->order);
    if (!b->order)
        return syna_no_memory(b->count * sizeof *b->order);
    SYNA_TRY(sketch_rows(b));
    SYNA_TRY(carve(b->set, b->count, b->threads, compare_leaf, b, &step));
    order_the_rest(b);
    return SYNA_SUCCESS;
}

/* What only leaves need. */
static void forget_leaves(struct build *b)
{
    array_dispose(&b->directions_array);
    mem_free(b->signs);
    mem_free(b->sketches);
    b->signs = NULL;
    b->sketches = NULL;
}

static syna_rc build_links(struct build *b)
{
    SYNA_TRY(rooms_make(b));
    SYNA_TRY(find_near(b));
    forget_leaves(b);
    SYNA_TRY(make_array(&b->links, b->degree * sizeof(uint32_t), b->count));
    b->chosen = mem_alloc(b->count);
    if (!b->chosen)
        return syna_no_memory(b->count);
    b->part = 1;
    SYNA_TRY(workers_run(b->threads, (b->count + PRUNE_BLOCK - 1) / PRUNE_BLOCK, link_round, b,
                         step_part, b));
    link_back(b);
    return workers_run(b->threads, (b->count + PRUNE_BLOCK - 1) / PRUNE_BLOCK, fill_round, b, NULL,
                       NULL);
}

/* What is not needed once the first choice is made. */
static void forget_choice(struct build *b)
{
    forget_leaves(b);
    rooms_free(b);
    mem_free(b->chosen);
}

/* The graph of the first choice, then that of the second. */
static syna_rc settle(struct build *b, struct hnsw *fresh)
{
    struct hnsw_progress step = {step_part, b};
    fresh->linked = b->count;
    SYNA_TRY(hnsw_settle(fresh, b->set));
    b->part = 2;
    SYNA_TRY(hnsw_refine(fresh, b->set, b->near, b->order, b->threads, &step));
    return hnsw_join(fresh, b->set, true);
}

syna_rc hnsw_build(struct hnsw *graph, const struct row_set *set, uint32_t count, unsigned threads,
                   const struct hnsw_progress *progress)
{
    struct build b = {.set = set, .count = count, .degree = graph->degree,
                      .threads = MAX(threads, 1u), .progress = progress};
    struct hnsw fresh;
    SYNA_TRY(hnsw_init(&fresh, graph->degree / 2, graph->ef_construction));
    syna_rc rc = build_links(&b);
    forget_choice(&b);
    array_dispose(&fresh.links);
    fresh.links = b.links;
    if (rc == SYNA_SUCCESS)
        rc = settle(&b, &fresh);
    array_dispose(&b.near_array);
    mem_free(b.order);
    if (rc != SYNA_SUCCESS) {
        hnsw_dispose(&fresh);
        return rc;
    }
    hnsw_replace(graph, &fresh);
    return SYNA_SUCCESS;
}
