/* The inside of a partition; for the partition*.c files only.
 *
 * Many centroids stand in groups of near ones, a centre above each: a row is compared with the centres,
 * then with the centroids of the nearest groups alone. That looks at a quarter of a thousand centroids,
 * and at a tenth of eight thousand. */
#ifndef SYNA_INDEX_PARTITION_CORE_H
#define SYNA_INDEX_PARTITION_CORE_H

#include "index/partition.h"
#include "math/int8.h"

struct centers {
    const struct codes *codes;
    const struct kernels *kernels;
    const uint8_t *centroids; /* of the wells, in their order, as are the next three */
    const int32_t *weights;
    uint8_t *queries;         /* each centroid as a query, stride bytes */
    int32_t *bases;           /* of these */
    uint32_t wells;
    uint32_t groups;
    struct centers *above;    /* the centres of the groups; NULL: there is one group */
    uint32_t *starts;         /* of each group the first of its columns, groups + 1 of them */
    uint32_t *sizes;          /* of each group, the centroids in it */
    uint32_t *well_of;        /* of a column; groups begin with a panel, what they leave of one is unused */
    void *room;
    struct int8_panels panels;
};

/* The k that curves are measured for. */
extern const uint32_t partition_curve_ks[PARTITION_CURVES];

/* How hard a query is. */
#define CLASS_LISTS 2u /* that are looked into before it is known */
#define CLASS_YARD 8u  /* the place of the centroid that distances are compared with */
#define NEAREST_CODES_MAX 100u

/* The k least integers of the rows that a query met, ascending. */
struct nearest_codes {
    uint32_t k, count, without;
    int32_t least[NEAREST_CODES_MAX];
    uint32_t rows[NEAREST_CODES_MAX];
};
/* One row (UINT32_MAX: none) is left out. */
void nearest_codes_init(struct nearest_codes *n, uint32_t k, uint32_t without);
void nearest_codes_take(struct nearest_codes *n, const int32_t *integers, const uint32_t *rows,
                        uint32_t count);
/* Of a query whose first lists had these codes; `yard` is from partition_first_lists. */
float partition_hardness(const struct code_query *query, const struct nearest_codes *n, int32_t yard);
uint32_t partition_class_of(const float *bounds, float hardness);
/* Put the first of `count` that were ranked in order, up to place CLASS_YARD; the key of the last of these. */
struct well_ranking;
int32_t partition_first_lists(struct well_ranking *r, uint32_t count);

/* partition_curve.c: what more lists for a class of queries bring, best first. */
void partition_make_steps(struct probe_curve *curve);
/* The codes at which a query that may be stopped is. */
uint64_t partition_stop(const struct partition *p);
/* ---------------------------------------------------------------- groups of wells, and ranking */

#define PARTITION_GROUPS_MAX 128u
#define PARTITION_SHARE_MOST 4u

/* partition_groups.c: number the wells of a training by groups. */
syna_rc partition_group_wells(struct partition *p, const struct kernels *kernels);
/* As they are numbered. starts: count + 1 of them, ascending. */
syna_rc partition_set_groups(struct partition *p, const uint32_t *starts, uint32_t count);
void partition_groups_dispose(struct well_groups *g);

/* A query that looks into so many lists, or fewer, is compared with the nearest groups only, if any is. */
static inline uint32_t partition_near_most(const struct partition *p)
{
    return p->count / 16;
}

/* Wells that a query was compared with, ascending, the integers of each, and the order of these. */
struct well_ranking {
    uint32_t count;
    int32_t *keys;
    uint32_t *wells, *order;
};
/* Room for so many wells. It is to be disposed on failure, too. */
bool partition_ranking_init(struct well_ranking *r, uint32_t wells);
void partition_ranking_dispose(struct well_ranking *r);
/* Compare a query with the wells of its nearest groups, until these are such a part of all; 1: with all. */
void partition_compare_near(const struct partition *p, const struct kernels *kernels,
                            const struct code_query *query, uint32_t share, struct well_ranking *r);
/* Compare a query that is to look into so many lists, and rank: order[0] .. order[probes - 1] are places of
 * the nearest in `wells`. */
void partition_rank_near(const struct partition *p, const struct kernels *kernels,
                         const struct code_query *query, uint32_t probes, struct well_ranking *r);
void partition_ranked_wells(const struct well_ranking *r, uint32_t count, uint32_t *out);

/* The places of the `probes` least keys, ascending but for equal-looking ones. out: room for all. */
void partition_rank(const int32_t *keys, uint32_t count, uint32_t probes, uint32_t *out);
/* A few places by their keys, equal ones as they are numbered. */
void partition_sort(const int32_t *keys, uint32_t *places, uint32_t count);
/* How many of the lists, one at least, have no more than `most` rows between them. */
uint32_t partition_within(const struct partition *p, const uint32_t *lists, uint32_t count,
                          uint64_t most);
/* partition_curve.c: arrays of so many lists, zeroed; what there is of them on failure goes with the curve. */
bool partition_make_curve(struct probe_curve *curve);
void partition_free_curve(struct probe_curve *curve);

/* partition_search in all lists, for many queries at once. wells: PARTITION_COPIES a row, the first of
 * them a list that has it, where alone it is looked at. */
syna_rc partition_search_all(const struct partition *p, const struct row_set *set,
                             const uint32_t *wells, const float *queries, size_t count, bool exact,
                             const uint64_t *chosen, struct topk *tops);

#endif
