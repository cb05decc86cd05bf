/* partition_assign.c - which lists a row goes to.
 *
 * A row's nearest centroid is the smallest integer of one matrix product: squared differences under
 * euclidean, otherwise half the centroid's square minus the product, which has the same order. Twice
 * that plus the row's own square is the squared distance D.
 *
 * The second list is the one with the least D + (part of the distance along the first residual)^2, of the
 * NEAREST centroids nearest to the row: among those to the same side of the row as the first the
 * residual would be as wrong about the same queries. With G the squared distance of the two centroids
 * and D1 that of the first, the part is (D + D1 - G) / (2 sqrt(D1)). */
#include "base/internal.h"

#include "index/codes_core.h"
#include "index/partition.h"
#include "index/workers.h"
#include "math/int8.h"

#define BLOCK 64u      /* rows at a time */
#define COLUMNS 1024u  /* centroids at a time: their integers stay in the cache */
#define KEYS ((size_t)BLOCK * COLUMNS)
#define LANES 16u
#define NEAREST LANES
#define NO_WELL UINT32_MAX

struct centers {
    const struct codes *codes;
    const struct kernels *kernels;
    const uint8_t *centroids;
    const int32_t *weights;
    uint32_t wells;
    void *room;
    struct int8_panels panels;
    uint8_t *queries; /* each centroid as a query, stride bytes */
    int32_t *bases;   /* of these */
};

/* ---------------------------------------------------------------- centers */

void centers_free(struct centers *centers)
{
    if (!centers)
        return;
    mem_free_aligned(centers->room);
    mem_free_aligned(centers->queries);
    mem_free(centers->bases);
    mem_free(centers);
}

uint64_t centers_bytes(const struct centers *centers)
{
    if (!centers)
        return 0;
    size_t stride = centers->codes->stride;
    return sizeof *centers + int8_room(centers->wells, stride) +
           centers->wells * (stride + sizeof *centers->bases);
}

static bool pack(struct centers *c)
{
    size_t stride = c->codes->stride;
    const uint8_t **rows = mem_alloc(c->wells * sizeof *rows);
    c->room = mem_alloc_aligned(int8_room(c->wells, stride), 64);
    c->queries = mem_alloc_aligned(c->wells * stride, 64);
    c->bases = mem_alloc(c->wells * sizeof *c->bases);
    if (!rows || !c->room || !c->queries || !c->bases) {
        mem_free(rows);
        return false;
    }
    for (uint32_t w = 0; w < c->wells; w++) {
        struct code_query query;
        rows[w] = c->centroids + w * stride;
        codes_query_row(c->codes, rows[w], c->queries + w * stride, &query);
        c->bases[w] = query.base;
    }
    int8_pack(c->kernels->int8, codes_euclidean(c->codes), rows, c->wells, stride, c->room,
              &c->panels);
    int32_t *bases = (int32_t *)(uintptr_t)c->panels.bases;
    for (uint32_t w = 0; w < c->wells; w++)
        bases[w] += c->weights[w];
    mem_free(rows);
    return true;
}

syna_rc centers_new(const struct kernels *kernels, const struct codes *codes,
                    const uint8_t *centroids, const int32_t *weights, uint32_t wells,
                    struct centers **out)
{
    struct centers *c = mem_zalloc(sizeof *c);
    if (!c)
        return syna_no_memory(sizeof *c);
    c->codes = codes;
    c->kernels = kernels;
    c->centroids = centroids;
    c->weights = weights;
    c->wells = wells;
    if (pack(c)) {
        *out = c;
        return SYNA_SUCCESS;
    }
    centers_free(c);
    return syna_no_memory(wells * (size_t)codes->stride * 2);
}

/* ---------------------------------------------------------------- the nearest few */

struct near_well {
    int32_t key;
    uint32_t well;
};

/* The nearest of one row so far, in order. */
struct near_few {
    struct near_well wells[NEAREST];
    uint32_t count;
};

static void take(struct near_few *few, int32_t key, uint32_t well)
{
    uint32_t at = few->count;
    if (at == NEAREST && key >= few->wells[NEAREST - 1].key)
        return;
    at = MIN(at, NEAREST - 1);
    for (; at > 0 && few->wells[at - 1].key > key; at--)
        few->wells[at] = few->wells[at - 1];
    few->wells[at] = (struct near_well){key, well};
    few->count = MIN(few->count + 1, NEAREST);
}

/* No key above it is among the LANES smallest: so many keys, one of each lane, are not above it. */
static int32_t bound_of(const int32_t *keys, size_t count)
{
    int32_t lanes[LANES], most;
    if (count < LANES)
        return INT32_MAX;
    for (size_t j = 0; j < LANES; j++)
        lanes[j] = keys[j];
    for (size_t i = LANES; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] = MIN(lanes[j], keys[i + j]);
    most = lanes[0];
    for (size_t j = 1; j < LANES; j++)
        most = MAX(most, lanes[j]);
    return most;
}

/* Wells come in ascending order, so of equal keys the first stays in front. */
static void take_columns(const struct int8_kernels *kernels, const int32_t *keys, size_t count,
                         size_t first, struct near_few *few)
{
    int32_t limits[COLUMNS], bound = bound_of(keys, count);
    uint32_t within[COLUMNS];
    if (few->count == NEAREST)
        bound = MIN(bound, few->wells[NEAREST - 1].key);
    for (size_t i = 0; i < count; i++)
        limits[i] = bound;
    size_t found = kernels->within(keys, limits, count, within);
    for (size_t i = 0; i < found; i++)
        take(few, keys[within[i]], (uint32_t)first + within[i]);
}

static int32_t least_of(const int32_t *keys, size_t count)
{
    int32_t lanes[LANES], least = INT32_MAX;
    size_t i = 0;
    for (size_t j = 0; j < LANES; j++)
        lanes[j] = INT32_MAX;
    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] = MIN(lanes[j], keys[i + j]);
    for (; i < count; i++)
        least = MIN(least, keys[i]);
    for (size_t j = 0; j < LANES; j++)
        least = MIN(least, lanes[j]);
    return least;
}

static void take_nearest(const int32_t *keys, size_t count, size_t first, struct near_few *few)
{
    int32_t least = least_of(keys, count);
    size_t at = 0;
    if (few->count > 0 && least >= few->wells[0].key)
        return;
    while (keys[at] != least)
        at++;
    few->wells[0] = (struct near_well){least, (uint32_t)(first + at)};
    few->count = 1;
}

/* ---------------------------------------------------------------- the second list */

static double squares_of(const struct codes *codes, const uint8_t *row)
{
    int32_t sum = 0; /* of at most 65,536 squares up to 2^14 */
    for (uint32_t i = 0; i < codes->stride; i++) {
        int32_t element = row[i] - 128;
        sum += element * element;
    }
    return sum;
}

/* Squared distances of the first centroid from the others. */
static void gaps_of(const struct centers *c, const struct near_few *few, double *out)
{
    const uint8_t *rows[NEAREST];
    int32_t integers[NEAREST];
    uint32_t first = few->wells[0].well;
    struct code_query query = {.bytes = c->queries + (size_t)first * c->codes->stride,
                               .base = c->bases[first]};
    for (uint32_t i = 0; i < few->count; i++)
        rows[i] = c->centroids + (size_t)few->wells[i].well * c->codes->stride;
    codes_many(c->codes, c->kernels, &query, rows, few->count, integers);
    for (uint32_t i = 0; i < few->count; i++)
        out[i] = codes_euclidean(c->codes)
                     ? integers[i]
                     : 2 * ((double)c->weights[first] + (double)c->weights[few->wells[i].well] +
                            (double)integers[i]);
}

static uint32_t second_of(const struct centers *c, const uint8_t *row, const struct near_few *few)
{
    bool euclidean = codes_euclidean(c->codes);
    double gaps[NEAREST], own = euclidean ? 0 : squares_of(c->codes, row), least = 0;
    double scale = euclidean ? 1 : 2, d1 = own + scale * few->wells[0].key;
    uint32_t best = NO_WELL;
    gaps_of(c, few, gaps);
    for (uint32_t i = 1; i < few->count; i++) {
        double d = own + scale * few->wells[i].key, part = d + d1 - gaps[i];
        double loss = d + (d1 > 0 ? part * part / (4 * d1) : 0);
        if (best != NO_WELL && loss >= least)
            continue;
        least = loss;
        best = few->wells[i].well;
    }
    return best;
}

/* ---------------------------------------------------------------- all rows */

struct assigning {
    const struct code_rows *rows;
    const struct centers *centers;
    uint32_t *near, *second;
    int32_t *keys; /* KEYS a thread */
};

static syna_rc assign_block(void *context, unsigned thread, uint64_t block)
{
    const struct assigning *a = context;
    const struct int8_panels *all = &a->centers->panels;
    const struct int8_kernels *kernels = a->rows->kernels->int8;
    const uint8_t *rows[BLOCK] = {NULL};
    struct near_few few[BLOCK];
    int32_t *keys = a->keys + thread * KEYS;
    uint32_t first = (uint32_t)block * BLOCK, count = MIN(a->rows->count - first, BLOCK);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = code_row_at(a->rows, first + i);
        few[i].count = 0;
    }
    for (size_t c = 0; c < all->columns; c += COLUMNS) {
        struct int8_panels some = {all->bytes + c * all->n, all->bases + c,
                                   MIN(all->columns - c, (size_t)COLUMNS), all->n, all->difference};
        kernels->tile(&some, 0, rows, count, keys, COLUMNS);
        for (uint32_t i = 0; i < count && a->second; i++)
            take_columns(kernels, keys + (size_t)i * COLUMNS, some.columns, c, &few[i]);
        for (uint32_t i = 0; i < count && !a->second; i++)
            take_nearest(keys + (size_t)i * COLUMNS, some.columns, c, &few[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        a->near[first + i] = few[i].wells[0].well;
        if (a->second)
            a->second[first + i] = second_of(a->centers, rows[i], &few[i]);
    }
    return SYNA_SUCCESS;
}

syna_rc partition_assign(const struct code_rows *rows, const struct centers *centers, uint32_t *near,
                         uint32_t *second)
{
    uint64_t blocks = ((uint64_t)rows->count + BLOCK - 1) / BLOCK;
    unsigned threads = MAX((unsigned)MIN((uint64_t)rows->threads, blocks), 1u);
    size_t bytes = threads * KEYS * sizeof(int32_t);
    struct assigning a = {rows, centers, near, second, mem_alloc_aligned(bytes, 64)};
    if (!a.keys)
        return syna_no_memory(bytes);
    syna_rc rc = workers_run(threads, blocks, assign_block, &a, rows->step, rows->step_context);
    mem_free_aligned(a.keys);
    return rc;
}
