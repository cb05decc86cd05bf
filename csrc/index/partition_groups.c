/* partition_groups.c - wells in groups of near ones, for ranking (partition_rank.c). A training numbers the
 * wells so that those of a group follow each other; wells that splits make later come after all groups.
 * The centre of a group is the mean of its centroids. */
#include "base/internal.h"

#include "index/partition_core.h"

#define GROUPED_LEAST 512u /* fewer wells are all compared */

void partition_groups_dispose(struct well_groups *g)
{
    mem_free(g->starts);
    mem_free_aligned(g->centers);
    *g = (struct well_groups){.count = 0};
}

static void set_center(const struct partition *p, uint32_t group, uint8_t *center)
{
    const struct well_groups *g = &p->groups;
    uint32_t first = g->starts[group], wells = g->starts[group + 1] - first;
    for (uint32_t i = 0; i < p->codes.stride; i++) {
        uint32_t sum = wells / 2;
        for (uint32_t w = 0; w < wells; w++)
            sum += partition_centroid(p, first + w)[i];
        center[i] = (uint8_t)(sum / wells);
    }
}

syna_rc partition_set_groups(struct partition *p, const uint32_t *starts, uint32_t count)
{
    struct well_groups *g = &p->groups;
    partition_groups_dispose(g);
    g->starts = mem_alloc((count + (size_t)1) * sizeof *g->starts);
    g->centers = mem_alloc_aligned(count * (size_t)p->codes.stride, 64);
    if (!g->starts || !g->centers) {
        partition_groups_dispose(g);
        return syna_no_memory(count * (size_t)p->codes.stride);
    }
    memcpy(g->starts, starts, (count + (size_t)1) * sizeof *starts);
    g->count = count;
    g->share = 1; /* before it is measured */
    for (uint32_t group = 0; group < count; group++)
        set_center(p, group, g->centers + group * (size_t)p->codes.stride);
    return SYNA_SUCCESS;
}

/* In the order of the columns, in which there are gaps between groups. */
static syna_rc renumber(struct partition *p, const struct centers *c)
{
    size_t stride = p->codes.stride;
    uint8_t *centroids = mem_alloc_aligned(p->cap * stride, 64);
    int32_t *weights = mem_alloc(p->cap * sizeof *weights);
    uint32_t starts[PARTITION_GROUPS_MAX + 1], at = 0;
    if (!centroids || !weights) {
        mem_free_aligned(centroids);
        mem_free(weights);
        return syna_no_memory(p->cap * stride);
    }
    for (uint32_t g = 0; g < c->groups; g++) {
        starts[g] = at;
        for (uint32_t i = 0; i < c->sizes[g]; i++, at++) {
            uint32_t well = c->well_of[c->starts[g] + i];
            memcpy(centroids + at * stride, partition_centroid(p, well), stride);
            weights[at] = p->weights[well];
        }
    }
    starts[c->groups] = at;
    mem_free_aligned(p->centroids);
    mem_free(p->weights);
    p->centroids = centroids;
    p->weights = weights;
    return partition_set_groups(p, starts, c->groups);
}

syna_rc partition_group_wells(struct partition *p, const struct kernels *kernels)
{
    struct centers *c;
    if (p->count < GROUPED_LEAST)
        return SYNA_SUCCESS;
    SYNA_TRY(centers_new(kernels, &p->codes, p->centroids, p->weights, p->count, &c));
    syna_rc rc = renumber(p, c);
    centers_free(c);
    return rc;
}
