/* partition_split.c - drift: rows that come from where no centroid is fill up the list of the nearest
 * one. A list with several times its share is parted by two centroids of its own. */
#include "base/internal.h"

#include "index/partition.h"

#define SPLIT_OVER 2u    /* times the mean */
#define SPLIT_LEAST 128u /* rows */

uint32_t partition_overfull(const struct partition *p)
{
    uint32_t mean = p->count ? p->entries / p->count : 0, found = UINT32_MAX;
    uint32_t limit = MAX(SPLIT_LEAST, mean * SPLIT_OVER);
    for (uint32_t w = 0; p->count < PARTITION_WELLS_MAX && w < p->count; w++) {
        /* What a training left as it is would not be parted better by another, nor what a split did. */
        uint32_t rows = well_rows(&p->wells[w]), settled = MAX(p->wells[w].head_count,
                                                               p->wells[w].settled);
        if (rows <= limit || rows <= settled + settled / 2)
            continue;
        limit = rows;
        found = w;
    }
    return found;
}

void partition_split_dispose(struct partition_split *split)
{
    for (int h = 0; h < 2; h++)
        well_dispose(&split->halves[h]);
    mem_free_aligned(split->centroids);
    split->centroids = NULL;
}

/* The live rows of a list in one piece. */
static syna_rc gather(const struct partition *p, const struct partition_source *from,
                      const struct well *w, struct well *all)
{
    size_t stride = p->codes.stride;
    if (!well_reserve(all, well_rows(w), stride))
        return syna_no_memory(well_rows(w) * stride);
    for (uint32_t i = 0; i < well_rows(w); i++) {
        bool head = i < w->head_count;
        uint32_t at = head ? i : i - w->head_count, row = head ? w->head_rows[at] : w->rows[at];
        const uint8_t *code = (head ? w->head_codes : w->codes) + at * stride;
        if (!from->live || (from->live[row / 64] >> row % 64 & 1))
            well_append(all, row, code, stride, *(const float *)array_at(&p->errors, row), w->norm);
    }
    return SYNA_SUCCESS;
}

static syna_rc assign_halves(const struct code_rows *rows, const struct partition_split *split,
                             uint32_t *near)
{
    struct centers *centers;
    SYNA_TRY(centers_new(rows->kernels, rows->codes, split->centroids, split->weights, 2, &centers));
    syna_rc rc = partition_assign(rows, centers, near, NULL);
    centers_free(centers);
    return rc;
}

static syna_rc part(const struct partition *p, const struct partition_source *from,
                    const struct well *all, uint32_t *near, struct partition_split *split)
{
    size_t stride = p->codes.stride;
    uint32_t second = 0;
    struct code_rows rows = {.kernels = from->kernels, .codes = &p->codes, .rows = all->codes,
                             .count = all->count, .of = all->count, .threads = 1};
    SYNA_TRY(partition_train(&rows, 2, split->centroids, split->weights));
    SYNA_TRY(assign_halves(&rows, split, near));
    for (uint32_t i = 0; i < all->count; i++)
        second += near[i];
    if (!well_reserve(&split->halves[0], all->count - second, stride) ||
        !well_reserve(&split->halves[1], second, stride))
        return syna_no_memory(all->count * stride);
    for (uint32_t i = 0; i < all->count; i++)
        well_append(&split->halves[near[i]], all->rows[i], all->codes + i * stride, stride,
                    *(const float *)array_at(&p->errors, all->rows[i]), all->norm);
    return SYNA_SUCCESS;
}

static void keep_centroid(const struct partition *p, uint32_t well, struct partition_split *split,
                          int half)
{
    size_t stride = p->codes.stride;
    memcpy(split->centroids + (size_t)half * stride, partition_centroid(p, well), stride);
    split->weights[half] = p->weights[well];
}

syna_rc partition_plan_split(const struct partition *p, const struct partition_source *from,
                             uint32_t well, struct partition_split *split)
{
    struct well all = {.head_count = 0};
    uint32_t *near = mem_alloc(well_rows(&p->wells[well]) * sizeof *near);
    *split = (struct partition_split){.well = well};
    split->centroids = mem_alloc_aligned(2 * (size_t)p->codes.stride, 64);
    syna_rc rc = near && split->centroids ? gather(p, from, &p->wells[well], &all)
                                          : syna_no_memory(2 * (size_t)p->codes.stride);
    if (rc == SYNA_SUCCESS && all.count == 0) /* all of them died */
        for (int h = 0; h < 2; h++)
            keep_centroid(p, well, split, h);
    else if (rc == SYNA_SUCCESS)
        rc = part(p, from, &all, near, split);
    well_dispose(&all);
    mem_free(near);
    if (rc != SYNA_SUCCESS)
        partition_split_dispose(split);
    return rc;
}

static void put_half(struct partition *p, uint32_t well, struct partition_split *split, int half)
{
    size_t stride = p->codes.stride;
    p->wells[well] = split->halves[half];
    p->wells[well].settled = p->wells[well].count;
    split->halves[half] = (struct well){.head_count = 0};
    memcpy(partition_centroid(p, well), split->centroids + (size_t)half * stride, stride);
    p->weights[well] = split->weights[half];
}

syna_rc partition_apply_split(struct partition *p, struct partition_split *split)
{
    SYNA_TRY(partition_reserve_wells(p, p->count + 1));
    uint32_t before = well_rows(&p->wells[split->well]);
    well_dispose(&p->wells[split->well]);
    uint32_t after = split->halves[0].count + split->halves[1].count;
    put_half(p, split->well, split, 0);
    put_half(p, p->count++, split, 1);
    p->entries -= before - after;
    p->splits++;
    centers_free(p->centers); /* packed anew when rows come */
    p->centers = NULL;
    return SYNA_SUCCESS;
}
