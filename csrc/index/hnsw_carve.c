/* hnsw_carve.c - rows cut into overlapping balls of near rows, the leaves in which the build compares
 * all pairs (Rubel et al. 2026, PiPNN, arXiv:2602.21247: randomised ball carving).
 *
 * Leaders are sampled, every row goes to its nearest ones, and each leader's rows are cut again until
 * they are few enough. A row stands in FANOUT leaves at the top times two below, so near rows meet in
 * some leaf although each cut is coarse. Deterministic: leaders depend on the rows alone. */
#include "base/internal.h"

#include "base/rng.h"
#include "index/hnsw_build.h"
#include "index/workers.h"

#define LEADERS_MAX 1000u
#define BLOCK 256u      /* rows assigned at a time */
#define DEPTH_MAX 12u   /* rows that no leader can part are cut by number */

static const uint32_t fanouts[] = {6, 2, 1};

struct carving {
    const struct row_set *set;
    carve_leaf_fn leaf;
    void *context;
};

/* Leaders and rows of one cut; what the assigning of a block needs. */
struct cut {
    const struct row_set *set;
    const uint32_t *rows; /* NULL: row i is i */
    uint32_t count;
    uint32_t fanout;
    const uint8_t **leaders;
    uint32_t leader_count;
    uint32_t *near; /* fanout leaders for each row, nearest first */
};

static uint32_t row_of(const struct cut *cut, uint32_t i)
{
    return cut->rows ? cut->rows[i] : i;
}

/* ---------------------------------------------------------------- one cut */

static size_t assign_room(const struct cut *cut)
{
    return BLOCK * cut->leader_count * sizeof(int32_t) +
           codes_tile_scratch(&cut->set->codes, BLOCK, cut->leader_count);
}

/* The nearest leaders of rows [first, first + BLOCK). */
static void assign_block(const struct cut *cut, uint32_t first, void *room)
{
    const uint8_t *codes[BLOCK] = {NULL};
    uint32_t count = MIN(BLOCK, cut->count - first);
    int32_t *keys = room;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = array_at(&cut->set->code_rows, row_of(cut, first + i));
    codes_tile(&cut->set->codes, cut->set->kernels, codes, count, cut->leaders, cut->leader_count,
               keys, cut->leader_count, keys + BLOCK * cut->leader_count);
    for (uint32_t i = 0; i < count; i++) {
        struct candidate best[8];
        uint32_t got = nearest_few(cut->set->kernels, keys + (size_t)i * cut->leader_count, cut->leader_count,
                                   cut->fanout, best);
        uint32_t *near = cut->near + (size_t)(first + i) * cut->fanout;
        for (uint32_t f = 0; f < cut->fanout; f++)
            near[f] = best[MIN(f, got - 1)].row;
    }
}

static syna_rc cut_begin(struct cut *cut, uint32_t wanted, uint32_t fanout)
{
    uint64_t seed = (uint64_t)cut->count << 32 | row_of(cut, 0);
    cut->leader_count = MIN(MAX(wanted, 2u), LEADERS_MAX);
    cut->fanout = MIN(fanout, cut->leader_count);
    cut->leaders = mem_alloc(cut->leader_count * sizeof *cut->leaders);
    cut->near = mem_alloc((size_t)cut->count * cut->fanout * sizeof *cut->near);
    if (!cut->leaders || !cut->near)
        return syna_no_memory((size_t)cut->count * cut->fanout * sizeof *cut->near);
    for (uint32_t l = 0; l < cut->leader_count; l++) {
        uint32_t at = (uint32_t)(rng_next(&seed) % cut->count);
        cut->leaders[l] = array_at(&cut->set->code_rows, row_of(cut, at));
    }
    return SYNA_SUCCESS;
}

static void cut_end(struct cut *cut)
{
    mem_free(cut->leaders);
    mem_free(cut->near);
}

/* The rows of each leader, one after the other: group l is members[starts[l]] .. [starts[l + 1]]. */
struct groups {
    uint32_t *members;
    size_t *starts;
};

static void groups_free(struct groups *g)
{
    mem_free(g->members);
    mem_free(g->starts);
}

static bool repeats(const uint32_t *near, uint32_t f)
{
    return f > 0 && near[f] == near[f - 1];
}

static syna_rc group(const struct cut *cut, struct groups *g)
{
    size_t slots = (size_t)cut->count * cut->fanout;
    g->members = mem_alloc(slots * sizeof *g->members);
    g->starts = mem_zalloc((cut->leader_count + 2) * sizeof *g->starts);
    if (!g->members || !g->starts)
        return syna_no_memory(slots * sizeof *g->members);
    size_t *fill = g->starts + 1; /* counts, then ends: the usual shift by one */
    for (size_t i = 0; i < slots; i++)
        if (!repeats(cut->near + i / cut->fanout * cut->fanout, (uint32_t)(i % cut->fanout)))
            fill[cut->near[i] + 1]++;
    for (uint32_t l = 0; l < cut->leader_count; l++)
        fill[l + 1] += fill[l];
    for (size_t i = 0; i < slots; i++)
        if (!repeats(cut->near + i / cut->fanout * cut->fanout, (uint32_t)(i % cut->fanout)))
            g->members[fill[cut->near[i]]++] = row_of(cut, (uint32_t)(i / cut->fanout));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- below the first cut */

static syna_rc carve_rows(const struct carving *c, unsigned thread, const uint32_t *rows,
                          uint32_t count, uint32_t depth);

/* Cut by number: for rows so alike that leaders do not part them. */
static syna_rc carve_evenly(const struct carving *c, unsigned thread, const uint32_t *rows,
                            uint32_t count)
{
    for (uint32_t at = 0; at < count; at += CARVE_LEAF)
        SYNA_TRY(c->leaf(c->context, thread, rows + at, MIN(CARVE_LEAF, count - at)));
    return SYNA_SUCCESS;
}

static syna_rc carve_groups(const struct carving *c, unsigned thread, const struct cut *cut,
                            const struct groups *g, uint32_t depth)
{
    for (uint32_t l = 0; l < cut->leader_count; l++) {
        const uint32_t *rows = g->members + g->starts[l];
        uint32_t count = (uint32_t)(g->starts[l + 1] - g->starts[l]);
        if (count > cut->count / 8 * 7)
            SYNA_TRY(carve_evenly(c, thread, rows, count));
        else
            SYNA_TRY(carve_rows(c, thread, rows, count, depth + 1));
    }
    return SYNA_SUCCESS;
}

static syna_rc cut_rows(struct cut *cut, uint32_t depth, struct groups *g)
{
    uint32_t fanout = fanouts[MIN(depth, (uint32_t)COUNT_OF(fanouts) - 1)];
    SYNA_TRY(cut_begin(cut, 3 * (cut->count / CARVE_LEAF + 1), fanout));
    void *room = mem_alloc_aligned(assign_room(cut), 64);
    if (!room)
        return syna_no_memory(assign_room(cut));
    for (uint32_t first = 0; first < cut->count; first += BLOCK)
        assign_block(cut, first, room);
    mem_free_aligned(room);
    return group(cut, g);
}

static syna_rc carve_rows(const struct carving *c, unsigned thread, const uint32_t *rows,
                          uint32_t count, uint32_t depth)
{
    if (count <= 1)
        return SYNA_SUCCESS;
    if (count <= CARVE_LEAF)
        return c->leaf(c->context, thread, rows, count);
    if (depth > DEPTH_MAX)
        return carve_evenly(c, thread, rows, count);
    struct cut cut = {.set = c->set, .rows = rows, .count = count};
    struct groups g = {0};
    syna_rc rc = cut_rows(&cut, depth, &g);
    if (rc == SYNA_SUCCESS)
        rc = carve_groups(c, thread, &cut, &g, depth);
    groups_free(&g);
    cut_end(&cut);
    return rc;
}

/* ---------------------------------------------------------------- the first cut, on all threads */

struct first_cut {
    struct carving carving;
    struct cut cut;
    struct groups groups;
    uint8_t *rooms; /* one a thread */
    size_t room;
};

static syna_rc assign_round(void *context, unsigned thread, uint64_t i)
{
    struct first_cut *f = context;
    assign_block(&f->cut, (uint32_t)i * BLOCK, f->rooms + thread * f->room);
    return SYNA_SUCCESS;
}

static syna_rc group_round(void *context, unsigned thread, uint64_t i)
{
    struct first_cut *f = context;
    size_t start = f->groups.starts[i];
    uint32_t count = (uint32_t)(f->groups.starts[i + 1] - start);
    return carve_rows(&f->carving, thread, f->groups.members + start, count, 1);
}

static syna_rc run_first_cut(struct first_cut *f, unsigned threads,
                             const struct hnsw_progress *progress)
{
    struct cut *cut = &f->cut;
    SYNA_TRY(cut_begin(cut, 6 * (cut->count / CARVE_LEAF + 1), fanouts[0]));
    f->room = (assign_room(cut) + 63) / 64 * 64;
    f->rooms = mem_alloc_aligned(threads * f->room, 64);
    if (!f->rooms)
        return syna_no_memory(threads * f->room);
    SYNA_TRY(workers_run(threads, (cut->count + BLOCK - 1) / BLOCK, assign_round, f, NULL, NULL));
    SYNA_TRY(group(cut, &f->groups));
    return workers_run(threads, cut->leader_count, group_round, f, progress->step,
                       progress->context);
}

syna_rc carve(const struct row_set *set, uint32_t count, unsigned threads, carve_leaf_fn leaf,
              void *context, const struct hnsw_progress *progress)
{
    struct first_cut f = {.carving = {set, leaf, context}, .cut = {.set = set, .count = count}};
    if (count <= CARVE_LEAF) {
        uint32_t rows[CARVE_LEAF];
        for (uint32_t i = 0; i < count; i++)
            rows[i] = i;
        return leaf(context, 0, rows, count);
    }
    syna_rc rc = run_first_cut(&f, threads, progress);
    groups_free(&f.groups);
    mem_free_aligned(f.rooms);
    cut_end(&f.cut);
    return rc;
}
