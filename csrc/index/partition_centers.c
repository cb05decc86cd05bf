/* partition_centers.c - centroids packed for assigning, in groups when there are many. The groups are
 * the lists of a small partition of the centroids themselves. */
#include "base/internal.h"

#include "index/codes_core.h"
#include "index/partition_core.h"

#include <math.h>

#define GROUPED_LEAST 256u /* fewer centroids are one group */

void centers_free(struct centers *centers)
{
    if (!centers)
        return;
    struct centers *above = centers->above;
    if (above) { /* its centroids are ours */
        mem_free_aligned((void *)(uintptr_t)above->centroids);
        mem_free((void *)(uintptr_t)above->weights);
    }
    centers_free(above);
    mem_free_aligned(centers->room);
    mem_free_aligned(centers->queries);
    mem_free(centers->bases);
    mem_free(centers->starts);
    mem_free(centers->sizes);
    mem_free(centers->well_of);
    mem_free(centers);
}

uint64_t centers_bytes(const struct centers *c)
{
    if (!c)
        return 0;
    size_t stride = c->codes->stride;
    uint64_t above = c->above ? c->groups * (stride + sizeof *c->weights) : 0;
    return sizeof *c + int8_room(c->panels.columns, stride) + c->panels.columns * sizeof *c->well_of +
           c->groups * (sizeof *c->starts + sizeof *c->sizes) +
           c->wells * (stride + sizeof *c->bases) + above + centers_bytes(c->above);
}

/* ---------------------------------------------------------------- groups */

static syna_rc make_above(struct centers *c)
{
    size_t stride = c->codes->stride;
    struct code_rows rows = {.kernels = c->kernels, .codes = c->codes, .rows = c->centroids,
                             .count = c->wells, .of = c->wells, .threads = 1};
    uint8_t *centroids = mem_alloc_aligned(c->groups * stride, 64);
    int32_t *weights = mem_alloc(c->groups * sizeof *weights);
    syna_rc rc = centroids && weights ? partition_train(&rows, c->groups, centroids, weights)
                                      : syna_no_memory(c->groups * stride);
    if (rc == SYNA_SUCCESS)
        rc = centers_new(c->kernels, c->codes, centroids, weights, c->groups, &c->above);
    if (rc != SYNA_SUCCESS) {
        mem_free_aligned(centroids);
        mem_free(weights);
    }
    return rc;
}

/* The group of each centroid: of its nearest centre. */
static syna_rc find_groups(const struct centers *c, uint32_t *group_of)
{
    struct code_rows rows = {.kernels = c->kernels, .codes = c->codes, .rows = c->centroids,
                             .count = c->wells, .of = c->wells, .threads = 1};
    if (c->above)
        return partition_assign(&rows, c->above, group_of, NULL);
    memset(group_of, 0, c->wells * sizeof *group_of);
    return SYNA_SUCCESS;
}

/* A centre that no centroid is nearest to goes: the others keep theirs, under other numbers. So a row that
 * is compared with any group is compared with a centroid. */
static syna_rc drop_empty(struct centers *c, uint32_t *group_of)
{
    size_t stride = c->codes->stride;
    uint8_t *centroids = (uint8_t *)(uintptr_t)c->above->centroids;
    int32_t *weights = (int32_t *)(uintptr_t)c->above->weights;
    uint32_t *number = mem_alloc(c->groups * sizeof *number), kept = 0;
    if (!number)
        return syna_no_memory(c->groups * sizeof *number);
    memset(number, 0xff, c->groups * sizeof *number);
    for (uint32_t w = 0; w < c->wells; w++)
        number[group_of[w]] = 0;
    for (uint32_t g = 0; g < c->groups; g++) {
        if (number[g] != 0)
            continue;
        memmove(centroids + kept * stride, centroids + g * stride, stride);
        weights[kept] = weights[g];
        number[g] = kept++;
    }
    for (uint32_t w = 0; w < c->wells; w++)
        group_of[w] = number[group_of[w]];
    mem_free(number);
    c->groups = kept;
    struct centers *fewer;
    SYNA_TRY(centers_new(c->kernels, c->codes, centroids, weights, kept, &fewer));
    centers_free(c->above); /* leaves the centroids, which `fewer` has now */
    c->above = fewer;
    return SYNA_SUCCESS;
}

static bool place_columns(struct centers *c, const uint32_t *group_of)
{
    uint32_t at = 0;
    c->starts = mem_alloc((c->groups + (size_t)1) * sizeof *c->starts);
    c->sizes = mem_zalloc(c->groups * sizeof *c->sizes);
    if (!c->starts || !c->sizes)
        return false;
    for (uint32_t w = 0; w < c->wells; w++)
        c->sizes[group_of[w]]++;
    for (uint32_t g = 0; g < c->groups; g++) {
        c->starts[g] = at;
        at += (c->sizes[g] + INT8_PANEL - 1) / INT8_PANEL * INT8_PANEL;
    }
    c->starts[c->groups] = at;
    c->well_of = mem_zalloc(at * sizeof *c->well_of);
    if (!c->well_of)
        return false;
    memset(c->sizes, 0, c->groups * sizeof *c->sizes);
    for (uint32_t w = 0; w < c->wells; w++)
        c->well_of[c->starts[group_of[w]] + c->sizes[group_of[w]]++] = w;
    return true;
}

/* ---------------------------------------------------------------- packing */

static bool pack(struct centers *c)
{
    size_t stride = c->codes->stride, columns = c->starts[c->groups];
    const uint8_t **rows = mem_alloc(columns * sizeof *rows);
    c->room = mem_alloc_aligned(int8_room(columns, stride), 64);
    c->queries = mem_alloc_aligned(c->wells * stride, 64);
    c->bases = mem_alloc(c->wells * sizeof *c->bases);
    if (!rows || !c->room || !c->queries || !c->bases) {
        mem_free(rows);
        return false;
    }
    for (uint32_t w = 0; w < c->wells; w++) {
        struct code_query query;
        codes_query_row(c->codes, c->centroids + w * stride, c->queries + w * stride, &query);
        c->bases[w] = query.base;
    }
    for (size_t column = 0; column < columns; column++)
        rows[column] = c->centroids + c->well_of[column] * stride;
    int8_pack(c->kernels->int8, codes_euclidean(c->codes), rows, columns, stride, c->room,
              &c->panels);
    int32_t *bases = (int32_t *)(uintptr_t)c->panels.bases;
    for (size_t column = 0; column < columns; column++)
        bases[column] += c->weights[c->well_of[column]];
    mem_free(rows);
    return true;
}

static syna_rc make(struct centers *c)
{
    uint32_t *group_of = mem_alloc(c->wells * sizeof *group_of);
    syna_rc rc = group_of ? SYNA_SUCCESS : syna_no_memory(c->wells * sizeof *group_of);
    if (rc == SYNA_SUCCESS && c->groups > 1)
        rc = make_above(c);
    if (rc == SYNA_SUCCESS)
        rc = find_groups(c, group_of);
    if (rc == SYNA_SUCCESS && c->above)
        rc = drop_empty(c, group_of);
    if (rc == SYNA_SUCCESS && !(place_columns(c, group_of) && pack(c)))
        rc = syna_no_memory(c->wells * (size_t)c->codes->stride * 2);
    mem_free(group_of);
    return rc;
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
    c->groups = wells < GROUPED_LEAST ? 1 : (uint32_t)sqrt((double)wells);
    syna_rc rc = make(c);
    if (rc == SYNA_SUCCESS)
        *out = c;
    else
        centers_free(c);
    return rc;
}
