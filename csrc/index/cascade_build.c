/* cascade_build.c - the whole index from many rows: the tree from the rows' codes, the graph by the bulk
 * build of hnsw_bulk.c at half its usual degree. Only live rows take part; where some are dead, the graph is
 * built over a copy of the codes in which the live ones stand together. */
#include "base/internal.h"

#include "index/cascade_core.h"
#include "index/hnsw.h"

struct building {
    struct cascade *fresh;
    const struct row_set *set;
    const uint64_t *live;
    uint32_t count; /* rows of the set that are looked at */
    uint32_t *rows; /* the live ones */
    uint32_t *order; /* a copy that the tree's building puts in its order */
    uint32_t row_count;
    struct row_set dense;
    unsigned threads;
};

static syna_rc list_rows(struct building *b)
{
    b->rows = mem_alloc(MAX(b->count, 1u) * sizeof *b->rows);
    b->order = mem_alloc(MAX(b->count, 1u) * sizeof *b->order);
    if (!b->rows || !b->order)
        return syna_no_memory(b->count * sizeof *b->rows);
    for (uint32_t row = 0; row < b->count; row++)
        if (!b->live || bit_of(b->live, row))
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

static syna_rc build(struct building *b, const struct cascade_progress *progress)
{
    SYNA_TRY(list_rows(b));
    if (b->row_count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(build_tree(b));
    SYNA_TRY(build_graph(b, progress));
    struct cascade_curve curves[CASCADE_CURVES];
    b->fresh->linked = b->count;
    SYNA_TRY(cascade_measure(b->fresh, b->set, b->live, b->threads, curves));
    cascade_take_curves(b->fresh, curves);
    return SYNA_SUCCESS;
}

syna_rc cascade_build(struct cascade *c, const struct row_set *set, const uint64_t *live,
                      uint32_t count, unsigned threads, const struct cascade_progress *progress)
{
    struct cascade fresh;
    struct building b = {.fresh = &fresh, .set = set, .live = live, .count = count,
                         .threads = MAX(threads, 1u)};
    SYNA_TRY(cascade_init(&fresh, &c->params, c->stride));
    syna_rc rc = build(&b, progress);
    mem_free(b.rows);
    mem_free(b.order);
    if (rc == SYNA_SUCCESS)
        cascade_replace(c, &fresh);
    else
        cascade_dispose(&fresh);
    return rc;
}
