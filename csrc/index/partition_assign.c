/* partition_assign.c - which lists a row goes to.
 *
 * A row's nearest centroid is the smallest integer of one matrix product: squared differences under
 * euclidean, otherwise half the centroid's square minus the product, which has the same order. Twice
 * that plus the row's own square is the squared distance D.
 *
 * The second list is the one with the least D + (part of the distance along the first residual)^2, of the
 * NEAREST centroids nearest to the row: among those to the same side of the row as the first the
 * residual would be as wrong about the same queries. With G the squared distance of the two centroids
 * and D1 that of the first, the part is (D + D1 - G) / (2 sqrt(D1)).
 *
 * When the centroids stand in groups (partition_core.h) a row is compared with those of its nearest groups
 * only. Then "nearest" is so but for about one row in a hundred. What a row gets depends on nothing but the
 * row and the centroids. */
#include "base/internal.h"

#include "index/codes_core.h"
#include "index/partition_core.h"
#include "index/workers.h"

#define BLOCK 512u     /* rows that are sorted by the groups they are compared with */
#define TILE 64u       /* of them in a product */
#define COLUMNS 512u   /* centroids in a product: its integers stay in the cache */
#define GROUPS_MAX 128u
#define GROUPS_NEAR 8u /* groups that a row is compared with, */
#define GROUPS_FEW 4u  /* or these when only its nearest centroid is asked for */
#define LANES 16u
#define NEAREST LANES
#define NO_WELL UINT32_MAX

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

static bool is_before(int32_t key, uint32_t well, const struct near_well *other)
{
    return key < other->key || (key == other->key && well < other->well);
}

static void take(struct near_few *few, int32_t key, uint32_t well)
{
    uint32_t at = few->count;
    if (at == NEAREST && !is_before(key, well, &few->wells[NEAREST - 1]))
        return;
    at = MIN(at, NEAREST - 1);
    for (; at > 0 && is_before(key, well, &few->wells[at - 1]); at--)
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

static void take_columns(const struct int8_kernels *kernels, const int32_t *keys, size_t count,
                         const uint32_t *wells, struct near_few *few)
{
    int32_t limits[COLUMNS], bound;
    uint32_t within[COLUMNS];
    bound = few->count == NEAREST ? few->wells[NEAREST - 1].key : bound_of(keys, count);
    for (size_t i = 0; i < count; i++)
        limits[i] = bound;
    size_t found = kernels->within(keys, limits, count, within);
    for (size_t i = 0; i < found; i++)
        take(few, keys[within[i]], wells[within[i]]);
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

static void take_nearest(const int32_t *keys, size_t count, const uint32_t *wells,
                         struct near_few *few)
{
    int32_t least = least_of(keys, count);
    size_t at = 0;
    while (keys[at] != least)
        at++;
    if (few->count > 0 && !is_before(least, wells[at], &few->wells[0]))
        return;
    few->wells[0] = (struct near_well){least, wells[at]};
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

/* ---------------------------------------------------------------- a block of rows */

struct assigning {
    const struct code_rows *rows;
    const struct centers *centers;
    uint32_t *near, *second;
    uint32_t groups; /* that a row is compared with */
    struct assigner *assigners; /* one a thread */
};

/* What a thread works with: some rows, the nearest centroids of each so far, and the groups that each is
 * compared with, nearest first. */
struct assigner {
    int32_t keys[TILE * COLUMNS];
    const uint8_t *rows[BLOCK];
    uint32_t count;
    struct near_few few[BLOCK];
    uint16_t groups[GROUPS_NEAR][BLOCK];
    uint16_t members[GROUPS_NEAR * BLOCK]; /* rows of group g: members[starts[g]] .. */
    uint32_t starts[GROUPS_MAX + 2];
};

/* Compare `count` rows, at most TILE, with `some` of the columns of `c` from `first` on. The integers of
 * a row are so many behind those of the one before. */
static uint32_t multiply(const struct centers *c, const uint8_t *const *rows, uint32_t count,
                         uint32_t first, uint32_t some, int32_t *keys)
{
    uint32_t stride = (some + INT8_PANEL - 1) / INT8_PANEL * INT8_PANEL;
    struct int8_panels panels = {c->panels.bytes + (size_t)first * c->panels.n,
                                 c->panels.bases + first, some, c->panels.n, c->panels.difference};
    c->kernels->int8->tile(&panels, 0, rows, count, keys, stride);
    return stride;
}

/* The groups whose centres are nearest to the rows of a tile. */
static void find_near_groups(struct assigner *a, const struct assigning *all, uint32_t first)
{
    const struct centers *above = all->centers->above;
    uint32_t count = MIN(a->count - first, TILE);
    size_t stride = multiply(above, a->rows + first, count, 0, above->wells, a->keys);
    for (uint32_t i = 0; i < count; i++) {
        struct near_few few = {.count = 0};
        take_columns(above->kernels->int8, a->keys + i * stride, above->wells, above->well_of,
                     &few);
        for (uint32_t g = 0; g < all->groups; g++)
            a->groups[g][first + i] = (uint16_t)few.wells[g].well;
    }
}

/* Who is compared with which group, as its nearest ones from `from` to `to`. */
static void group_rows(struct assigner *a, uint32_t groups, uint32_t from, uint32_t to)
{
    memset(a->starts, 0, ((size_t)groups + 2) * sizeof *a->starts);
    for (uint32_t g = from; g < to; g++)
        for (uint32_t i = 0; i < a->count; i++)
            a->starts[a->groups[g][i] + 2]++;
    for (uint32_t g = 2; g <= groups; g++)
        a->starts[g] += a->starts[g - 1];
    for (uint32_t g = from; g < to; g++)
        for (uint32_t i = 0; i < a->count; i++)
            a->members[a->starts[a->groups[g][i] + 1]++] = (uint16_t)i;
}

/* Rows that stand in `members` (at most TILE) with a group. */
static void compare_tile(struct assigner *a, const struct assigning *all, uint32_t group,
                         const uint16_t *members, uint32_t count)
{
    const struct centers *c = all->centers;
    const uint8_t *rows[TILE];
    for (uint32_t i = 0; i < count; i++)
        rows[i] = a->rows[members[i]];
    for (uint32_t at = 0; at < c->sizes[group]; at += COLUMNS) {
        uint32_t first = c->starts[group] + at, some = MIN(c->sizes[group] - at, COLUMNS);
        size_t stride = multiply(c, rows, count, first, some, a->keys);
        for (uint32_t i = 0; i < count; i++) {
            const int32_t *keys = a->keys + i * stride;
            if (all->second)
                take_columns(c->kernels->int8, keys, some, c->well_of + first, &a->few[members[i]]);
            else
                take_nearest(keys, some, c->well_of + first, &a->few[members[i]]);
        }
    }
}

static void compare(struct assigner *a, const struct assigning *all)
{
    for (uint32_t g = 0; g < all->centers->groups; g++)
        for (uint32_t i = a->starts[g]; i < a->starts[g + 1]; i += TILE)
            compare_tile(a, all, g, a->members + i, MIN(a->starts[g + 1] - i, TILE));
}

/* Each row first with its nearest group: most of the others have nothing nearer then. */
static syna_rc assign_block(void *context, unsigned thread, uint64_t block)
{
    const struct assigning *all = context;
    struct assigner *a = all->assigners + thread;
    uint32_t first = (uint32_t)block * BLOCK;
    a->count = MIN(all->rows->count - first, BLOCK);
    for (uint32_t i = 0; i < a->count; i++) {
        a->rows[i] = code_row_at(all->rows, first + i);
        a->few[i].count = 0;
        a->groups[0][i] = 0;
    }
    for (uint32_t i = 0; all->centers->above && i < a->count; i += TILE)
        find_near_groups(a, all, i);
    group_rows(a, all->centers->groups, 0, 1);
    compare(a, all);
    group_rows(a, all->centers->groups, 1, all->groups);
    compare(a, all);
    for (uint32_t i = 0; i < a->count; i++) {
        all->near[first + i] = a->few[i].wells[0].well;
        if (all->second)
            all->second[first + i] = second_of(all->centers, a->rows[i], &a->few[i]);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- all rows */

syna_rc partition_assign(const struct code_rows *rows, const struct centers *centers, uint32_t *near,
                         uint32_t *second)
{
    uint64_t blocks = ((uint64_t)rows->count + BLOCK - 1) / BLOCK;
    unsigned threads = MAX((unsigned)MIN((uint64_t)rows->threads, blocks), 1u);
    struct assigning a = {.rows = rows, .centers = centers, .near = near, .second = second};
    a.groups = MIN(centers->groups, second ? GROUPS_NEAR : GROUPS_FEW);
    a.assigners = mem_alloc_aligned(threads * sizeof *a.assigners, 64);
    if (!a.assigners)
        return syna_no_memory(threads * sizeof *a.assigners);
    syna_rc rc = workers_run(threads, blocks, assign_block, &a, rows->step, rows->step_context);
    mem_free_aligned(a.assigners);
    return rc;
}
