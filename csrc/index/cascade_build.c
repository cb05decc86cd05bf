/* cascade_build.c - the whole index from many rows: the tree from the rows' codes, the graph by the bulk
 * build of hnsw_bulk.c at half its usual degree. Only live rows take part. A few of them are held back until
 * recall was measured with them, as queries that the index has never met, and are then linked one by one:
 * the graph is built over a copy of the codes in which the others stand together. */
#include "base/internal.h"

#include "base/rng.h"
#include "index/cascade_core.h"
#include "index/hnsw.h"

#define HELD_SHARE 32u /* of so many rows one is held back, MEASURE_ROWS at most */

struct building {
    struct cascade *fresh;
    const struct row_set *set;
    const uint64_t *live;
    uint32_t count; /* rows of the set that are looked at */
    uint64_t *kept; /* live ones that are not held back, one bit a row */
    uint32_t held[MEASURE_ROWS];
    uint32_t held_count;
    uint32_t *rows; /* the kept ones */
    uint32_t *order; /* a copy that the tree's building puts in its order */
    uint32_t row_count;
    struct row_set dense;
    unsigned threads;
};

/* By chance, one out of each of as many equal parts; fewer where rows are dead. */
static syna_rc hold_rows(struct building *b)
{
    size_t words = (size_t)b->count / 64 + 1;
    uint32_t wanted = MIN(b->count / HELD_SHARE, MEASURE_ROWS);
    uint64_t seed = 1;
    b->kept = mem_alloc(words * sizeof *b->kept);
    if (!b->kept)
        return syna_no_memory(words * sizeof *b->kept);
    for (uint32_t word = 0; word < words; word++)
        b->kept[word] = b->live && word * 64 < b->count ? b->live[word] : ~0ull;
    for (uint32_t h = 0; wanted >= MEASURE_LEAST && h < wanted; h++) {
        uint64_t from = (uint64_t)h * b->count / wanted, end = (uint64_t)(h + 1) * b->count / wanted;
        uint32_t row = (uint32_t)(from + rng_next(&seed) % (end - from));
        if (bit_of(b->kept, row))
            b->held[b->held_count++] = row;
    }
    if (b->held_count < MEASURE_LEAST)
        b->held_count = 0;
    for (uint32_t h = 0; h < b->held_count; h++)
        b->kept[b->held[h] / 64] &= ~(1ull << b->held[h] % 64);
    return SYNA_SUCCESS;
}

static syna_rc list_rows(struct building *b)
{
    b->rows = mem_alloc(MAX(b->count, 1u) * sizeof *b->rows);
    b->order = mem_alloc(MAX(b->count, 1u) * sizeof *b->order);
    if (!b->rows || !b->order)
        return syna_no_memory(b->count * sizeof *b->rows);
    for (uint32_t row = 0; row < b->count; row++)
        if (bit_of(b->kept, row))
            b->rows[b->row_count++] = row;
    memcpy(b->order, b->rows, b->row_count * sizeof *b->rows);
    return SYNA_SUCCESS;
}

static syna_rc build_tree(struct building *b)
{
    struct cascade *c = b->fresh;
    SYNA_TRY(array_reserve(&c->leaf_of, b->count));
    for (uint32_t row = 0; row < b->count; row++)
        *leaf_of(c, row) = CASCADE_NONE;
    return tree_build(c, b->set, b->order, b->row_count);
}

static syna_rc copy_codes(struct building *b)
{
    struct row_set *dense = &b->dense;
    *dense = *b->set;
    dense->code_rows = (struct array){0};
    dense->count = b->row_count;
    SYNA_TRY(array_init(&dense->code_rows, b->set->code_rows.item, MAX(b->row_count, 1u)));
    SYNA_TRY(array_reserve(&dense->code_rows, b->row_count));
    for (uint32_t i = 0; i < b->row_count; i++)
        memcpy(array_at(&dense->code_rows, i), array_at(&b->set->code_rows, b->rows[i]),
               b->set->code_rows.item);
    return SYNA_SUCCESS;
}

/* The graph's rows are numbered as in `rows`; here they get the set's numbers. */
static syna_rc take_links(struct building *b, const struct hnsw *graph)
{
    struct cascade *c = b->fresh;
    SYNA_TRY(array_reserve(&c->links, b->count));
    if (b->row_count < b->count)
        for (uint32_t row = 0; row < b->count; row++)
            memset(links_of(c, row), 0xff, CASCADE_DEGREE * sizeof(uint32_t));
    for (uint32_t i = 0; i < b->row_count; i++) {
        const uint32_t *from = hnsw_links(graph, i);
        uint32_t *to = links_of(c, b->rows[i]);
        for (uint32_t l = 0; l < CASCADE_DEGREE; l++)
            to[l] = from[l] == HNSW_NONE ? CASCADE_NONE : b->rows[from[l]];
    }
    return SYNA_SUCCESS;
}

static syna_rc build_graph(struct building *b, const struct cascade_progress *progress)
{
    struct hnsw graph;
    struct hnsw_progress steps = {progress ? progress->step : NULL,
                                  progress ? progress->context : NULL};
    bool all = b->row_count == b->count;
    SYNA_TRY(hnsw_init(&graph, CASCADE_DEGREE / 2, HNSW_EF_CONSTRUCTION_DEFAULT));
    syna_rc rc = all ? SYNA_SUCCESS : copy_codes(b);
    if (rc == SYNA_SUCCESS)
        rc = hnsw_build(&graph, all ? b->set : &b->dense, b->row_count, b->threads, &steps);
    if (rc == SYNA_SUCCESS)
        rc = take_links(b, &graph);
    hnsw_dispose(&graph);
    if (!all)
        array_dispose(&b->dense.code_rows);
    return rc;
}

/* Held back rows first look for their nearest ones, then are linked like rows that come later. */
static syna_rc measure(struct building *b)
{
    struct cascade *c = b->fresh;
    struct cascade_curve curves[CASCADE_CURVES];
    struct cascade_change change;
    if (b->held_count == 0)
        SYNA_TRY(cascade_measure(c, b->set, b->live, b->threads, curves));
    else
        SYNA_TRY(cascade_measure_with(c, b->set, b->kept, b->held, b->held_count, b->threads, curves));
    for (uint32_t h = 0; h < b->held_count; h++) {
        SYNA_TRY(tree_reserve(c));
        SYNA_TRY(cascade_plan_row(c, b->set, b->live, b->held[h], &change));
        cascade_put_row(c, b->set, &change);
    }
    cascade_take_curves(c, curves);
    return SYNA_SUCCESS;
}

static syna_rc build(struct building *b, const struct cascade_progress *progress)
{
    SYNA_TRY(hold_rows(b));
    SYNA_TRY(list_rows(b));
    if (b->row_count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(build_tree(b));
    SYNA_TRY(build_graph(b, progress));
    b->fresh->linked = b->count;
    return measure(b);
}

syna_rc cascade_build(struct cascade *c, const struct row_set *set, const uint64_t *live,
                      uint32_t count, unsigned threads, const struct cascade_progress *progress)
{
    struct cascade fresh;
    struct building b = {.fresh = &fresh, .set = set, .live = live, .count = count,
                         .threads = MAX(threads, 1u)};
    SYNA_TRY(cascade_init(&fresh, &c->params, c->stride));
    syna_rc rc = build(&b, progress);
    mem_free(b.kept);
    mem_free(b.rows);
    mem_free(b.order);
    if (rc == SYNA_SUCCESS)
        cascade_replace(c, &fresh);
    else
        cascade_dispose(&fresh);
    return rc;
}
