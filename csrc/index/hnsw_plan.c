/* hnsw_plan.c - changes to a graph that is being searched: rows that came later, rows that died.
 *
 * A plan is made from the graph as it is, without touching it, and holds the new links of every row
 * that gets others. Rows of one plan see each other through a matrix product of their codes, so a
 * batch may be as large as one likes. */
#include "base/internal.h"

#include "index/hnsw_build.h"

#define BATCH_NEAR 16u  /* nearest of a row within its batch */
#define BATCH_BLOCK 512u /* rows compared with each other */
#define TURNS WALK_TURNS_MAX /* walks that take turns */

void hnsw_plan_dispose(struct hnsw_plan *plan)
{
    buf_dispose(&plan->rows);
    buf_dispose(&plan->links);
}

static uint32_t plan_count(const struct hnsw_plan *plan)
{
    return (uint32_t)(plan->rows.len / sizeof(uint32_t));
}

/* Room for the links of one more row. */
static uint32_t *plan_add(struct hnsw_plan *plan, uint32_t degree, uint32_t row)
{
    uint8_t *links = buf_extend(&plan->links, degree * sizeof(uint32_t));
    if (!links || !buf_append(&plan->rows, &row, sizeof row))
        return NULL;
    return (uint32_t *)(void *)links;
}

syna_rc hnsw_apply(struct hnsw *graph, const struct row_set *set, const struct hnsw_plan *plan)
{
    const uint32_t *rows = (const uint32_t *)(const void *)plan->rows.bytes;
    const uint32_t *links = (const uint32_t *)(const void *)plan->links.bytes;
    SYNA_TRY(array_reserve(&graph->links, plan->linked));
    for (uint32_t i = 0; i < plan_count(plan); i++)
        memcpy(hnsw_links(graph, rows[i]), links + (size_t)i * graph->degree,
               graph->degree * sizeof *links);
    graph->linked = plan->linked;
    if (graph->entry_count < HNSW_ENTRIES || graph->linked / 2 > graph->entries_of || plan->repairs)
        SYNA_TRY(hnsw_choose_entries(graph, set, graph->linked));
    return plan->repairs ? hnsw_join(graph, set, false) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- candidates of new rows */

struct planning {
    struct hnsw *graph;
    const struct row_set *set;
    uint32_t first, count; /* the new rows */
    struct hnsw_walk *walks[TURNS];
    struct prune_room *prune;
    struct hnsw_plan *plan;
    struct buf reverse; /* struct wish[]: links that others should get */
    int32_t *pairs;
    void *tile;
};

/* `to` would like a link from row `from`. */
struct wish {
    uint32_t from, to;
    int32_t key;
};

static int by_from(const void *left, const void *right)
{
    const struct wish *a = left, *b = right;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->to < b->to ? -1 : a->to > b->to;
}

static void query_row(const struct planning *p, struct hnsw_walk *walk, uint32_t row)
{
    codes_query_row(&p->set->codes, array_at(&p->set->code_rows, row), walk->query_room, &walk->query);
}

/* Walk from each of rows [row, row + count), at most TURNS. */
static void walk_rows(const struct planning *p, uint32_t row, uint32_t count)
{
    uint32_t ef = p->graph->ef_construction;
    for (uint32_t i = 0; i < count; i++) {
        p->walks[i]->coarse = p->graph->measured.coarse && p->set->codes.split;
        query_row(p, p->walks[i], row + i);
        walk_begin(p->graph, p->set, p->walks[i], ef, NULL);
    }
    walk_together(p->graph, p->set, p->walks, count, ef, UINT32_MAX);
}

/* Compare the rows of a block of new ones with each other. */
static void compare_block(struct planning *p, uint32_t first, uint32_t count)
{
    const uint8_t *codes[BATCH_BLOCK] = {NULL};
    for (uint32_t i = 0; i < count; i++)
        codes[i] = array_at(&p->set->code_rows, first + i);
    codes_tile(&p->set->codes, p->set->kernels, codes, count, codes, count, p->pairs, BATCH_BLOCK,
               p->tile);
}

/* Keys of `count` rows seen from the query of a walk, sorted into `out` without repeats. */
static uint32_t rank_rows(const struct planning *p, const struct hnsw_walk *walk, const uint32_t *rows,
                          uint32_t count, struct candidate *out)
{
    const uint8_t *codes[PRUNE_MAX] = {NULL};
    int32_t keys[PRUNE_MAX];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = array_at(&p->set->code_rows, rows[i]);
    codes_many(&p->set->codes, p->set->kernels, &walk->query, codes, count, keys);
    for (uint32_t i = 0; i < count; i++) {
        struct candidate c = {keys[i], rows[i]};
        uint32_t at = kept;
        while (at > 0 && candidate_before(c, out[at - 1]))
            at--;
        if (at > 0 && out[at - 1].row == c.row)
            continue;
        memmove(out + at + 1, out + at, (kept - at) * sizeof c);
        out[at] = c;
        kept++;
    }
    return kept;
}

/* The rows that a walk found, at most PRUNE_MAX, ranked by whole codes. */
static uint32_t found_by(const struct planning *p, const struct hnsw_walk *walk, struct candidate *out)
{
    uint32_t rows[PRUNE_MAX], count = MIN(walk->pool_count, PRUNE_MAX);
    if (!walk->coarse) {
        memcpy(out, walk->pool, count * sizeof *out);
        return count;
    }
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = walk->pool[i].row;
        prefetch_code(array_at(&p->set->code_rows, rows[i]), p->set->codes.stride, HNSW_AHEAD);
    }
    return rank_rows(p, walk, rows, count, out);
}

/* The nearest rows of `row`: from the graph by its walk, from its block by the matrix. Sorted. */
static uint32_t find_near(struct planning *p, const struct hnsw_walk *walk, uint32_t row, uint32_t block,
                          uint32_t block_count, struct candidate *out)
{
    struct candidate few[BATCH_NEAR], found[PRUNE_MAX + 1];
    int32_t *keys = p->pairs + (size_t)(row - block) * BATCH_BLOCK;
    uint32_t count = 0, got, w = 0, f = 0, walked = found_by(p, walk, found);
    keys[row - block] = INT32_MAX;
    got = nearest_few(p->set->kernels, keys, block_count, MIN(BATCH_NEAR, block_count), few);
    while (count < PRUNE_MAX && (w < walked || f < got)) {
        if (f < got && few[f].row == row - block) {
            f++;
        } else if (f == got || (w < walked && found[w].key <= few[f].key)) {
            out[count++] = found[w++];
        } else {
            out[count++] = (struct candidate){few[f].key, block + few[f].row};
            f++;
        }
    }
    return count;
}

static syna_rc plan_row(struct planning *p, const struct hnsw_walk *walk, uint32_t row, uint32_t block,
                        uint32_t block_count)
{
    struct candidate near[PRUNE_MAX];
    uint32_t degree = p->graph->degree;
    uint32_t count = find_near(p, walk, row, block, block_count, near);
    uint32_t *links = plan_add(p->plan, degree, row);
    if (!links)
        return syna_no_memory(degree * sizeof *links);
    prune_links(p->set, p->prune, near, count, degree, links);
    for (uint32_t i = 0; i < degree && links[i] != HNSW_NONE; i++) {
        uint32_t c = 0;
        while (near[c].row != links[i])
            c++;
        struct wish wish = {links[i], row, near[c].key};
        if (!buf_append(&p->reverse, &wish, sizeof wish))
            return syna_no_memory(sizeof wish);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- links back */

/* The links that a row has now: those in the plan for a new row. */
static const uint32_t *links_now(const struct planning *p, uint32_t row)
{
    if (row < p->first)
        return hnsw_links(p->graph, row);
    return (const uint32_t *)(const void *)p->plan->links.bytes +
           (size_t)(row - p->first) * p->graph->degree;
}

/* New links for `row`: what it has, and the rows that wish for one. */
static syna_rc link_back(struct planning *p, uint32_t row, const struct wish *wishes, uint32_t count)
{
    uint32_t rows[PRUNE_MAX], have = 0, degree = p->graph->degree;
    struct candidate near[PRUNE_MAX + 1];
    const uint32_t *old = links_now(p, row);
    while (have < degree && old[have] < p->plan->linked) { /* the end, or a damaged link */
        rows[have] = old[have];
        have++;
    }
    for (uint32_t i = 0; i < count && have < PRUNE_MAX; i++)
        rows[have++] = wishes[i].to;
    query_row(p, p->walks[0], row);
    uint32_t kept = rank_rows(p, p->walks[0], rows, have, near);
    if (row >= p->first) {
        prune_links(p->set, p->prune, near, kept, degree, (uint32_t *)(uintptr_t)old);
        return SYNA_SUCCESS;
    }
    uint32_t *links = plan_add(p->plan, degree, row);
    if (!links)
        return syna_no_memory(degree * sizeof *links);
    prune_links(p->set, p->prune, near, kept, degree, links);
    return SYNA_SUCCESS;
}

static syna_rc link_back_all(struct planning *p)
{
    struct wish *wishes = (struct wish *)(void *)p->reverse.bytes;
    size_t count = p->reverse.len / sizeof *wishes;
    if (count == 0)
        return SYNA_SUCCESS;
    qsort(wishes, count, sizeof *wishes, by_from);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i; end < count && wishes[end].from == wishes[i].from; end++)
            ;
        SYNA_TRY(link_back(p, wishes[i].from, wishes + i, (uint32_t)(end - i)));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- plans */

static syna_rc planning_begin(struct planning *p)
{
    size_t pairs = BATCH_BLOCK * BATCH_BLOCK * sizeof(int32_t);
    *p->plan = (struct hnsw_plan){.linked = p->first + p->count};
    for (uint32_t i = 0; i < TURNS; i++)
        SYNA_TRY(walk_take(p->graph, p->set, p->graph->ef_construction, &p->walks[i]));
    p->prune = prune_room_new(p->set);
    p->pairs = mem_alloc_aligned(pairs, 64);
    p->tile = mem_alloc_aligned(codes_tile_scratch(&p->set->codes, BATCH_BLOCK, BATCH_BLOCK), 64);
    return p->prune && p->pairs && p->tile ? SYNA_SUCCESS : syna_no_memory(pairs);
}

static syna_rc planning_end(struct planning *p, syna_rc rc)
{
    for (uint32_t i = 0; i < TURNS; i++)
        if (p->walks[i])
            walk_give(p->graph, p->walks[i]);
    prune_room_free(p->prune);
    mem_free_aligned(p->pairs);
    mem_free_aligned(p->tile);
    buf_dispose(&p->reverse);
    if (rc != SYNA_SUCCESS)
        hnsw_plan_dispose(p->plan);
    return rc;
}

static syna_rc plan_new_rows(struct planning *p)
{
    uint32_t end = p->first + p->count;
    SYNA_TRY(planning_begin(p));
    for (uint32_t block = p->first; block < end; block += BATCH_BLOCK) {
        uint32_t count = MIN(BATCH_BLOCK, end - block);
        compare_block(p, block, count);
        for (uint32_t at = 0; at < count; at += TURNS) {
            uint32_t some = MIN(count - at, TURNS);
            walk_rows(p, block + at, some);
            for (uint32_t i = 0; i < some; i++)
                SYNA_TRY(plan_row(p, p->walks[i], block + at + i, block, count));
        }
    }
    return link_back_all(p);
}

syna_rc hnsw_plan_insert(struct hnsw *graph, const struct row_set *set, uint32_t count,
                         struct hnsw_plan *plan)
{
    struct planning p = {.graph = graph, .set = set, .first = graph->linked, .count = count,
                         .plan = plan};
    return planning_end(&p, plan_new_rows(&p));
}

/* ---------------------------------------------------------------- repair */

static bool is_live(const uint64_t *live, uint32_t row)
{
    return live[row / 64] >> row % 64 & 1;
}

static uint32_t add_new(uint32_t *rows, uint32_t count, uint32_t row, uint32_t self)
{
    for (uint32_t i = 0; i < count; i++)
        if (rows[i] == row)
            return count;
    if (row == self || count == PRUNE_MAX)
        return count;
    rows[count] = row;
    return count + 1;
}

/* The live rows that `row` links to, and those that its dead neighbours do. *dead: it has such. */
static uint32_t live_around(const struct planning *p, const uint64_t *live, uint32_t row,
                            uint32_t *rows, bool *dead)
{
    const struct hnsw *graph = p->graph;
    const uint32_t *links = hnsw_links(graph, row);
    uint32_t count = 0;
    *dead = false;
    for (uint32_t i = 0; i < graph->degree && links[i] < graph->linked; i++)
        if (is_live(live, links[i]))
            count = add_new(rows, count, links[i], row);
        else
            *dead = true;
    for (uint32_t i = 0; *dead && i < graph->degree && links[i] < graph->linked; i++) {
        if (is_live(live, links[i]))
            continue;
        const uint32_t *through = hnsw_links(graph, links[i]);
        for (uint32_t t = 0; t < graph->degree && through[t] < graph->linked; t++)
            if (is_live(live, through[t]))
                count = add_new(rows, count, through[t], row);
    }
    return count;
}

/* Too few live rows are around `row`, whose code is the query: add those that a walk comes to. */
static uint32_t live_beyond(const struct planning *p, const uint64_t *live, uint32_t row,
                            uint32_t *rows, uint32_t count)
{
    struct hnsw_walk *walk = p->walks[0];
    walk_run(p->graph, p->set, walk, p->graph->ef_construction, NULL);
    for (uint32_t i = 0; i < walk->pool_count; i++)
        if (is_live(live, walk->pool[i].row))
            count = add_new(rows, count, walk->pool[i].row, row);
    return count;
}

static syna_rc repair_row(struct planning *p, const uint64_t *live, uint32_t row)
{
    uint32_t rows[PRUNE_MAX], degree = p->graph->degree;
    struct candidate near[PRUNE_MAX + 1];
    bool dead;
    if (!is_live(live, row)) {
        uint32_t *none = plan_add(p->plan, degree, row);
        if (!none)
            return syna_no_memory(degree * sizeof *none);
        memset(none, 0xff, degree * sizeof *none);
        return SYNA_SUCCESS;
    }
    uint32_t count = live_around(p, live, row, rows, &dead);
    if (!dead)
        return SYNA_SUCCESS;
    query_row(p, p->walks[0], row);
    if (count < degree / 2)
        count = live_beyond(p, live, row, rows, count);
    count = rank_rows(p, p->walks[0], rows, count, near);
    uint32_t *links = plan_add(p->plan, degree, row);
    if (!links)
        return syna_no_memory(degree * sizeof *links);
    prune_links(p->set, p->prune, near, count, degree, links);
    return SYNA_SUCCESS;
}

static syna_rc plan_repair(struct planning *p, const uint64_t *live)
{
    SYNA_TRY(planning_begin(p));
    p->plan->repairs = true;
    for (uint32_t row = 0; row < p->first; row++)
        SYNA_TRY(repair_row(p, live, row));
    return SYNA_SUCCESS;
}

syna_rc hnsw_plan_repair(struct hnsw *graph, const struct row_set *set, const uint64_t *live,
                         struct hnsw_plan *plan)
{
    struct planning p = {.graph = graph, .set = set, .first = graph->linked, .plan = plan};
    return planning_end(&p, plan_repair(&p, live));
}
