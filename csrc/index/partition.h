/* Rows parted into wells: every row stands in the list of the centroid that it is nearest to, as an
 * 8-bit code, and a search looks into the lists whose centroids are nearest to the query (an inverted
 * file: Jegou, Douze, Schmid 2011, doi:10.1109/TPAMI.2010.57). What comes out of the codes is scored
 * from the full rows.
 *
 * Everything is derived from the rows. Centroids are codes, too: training and assigning are integer
 * matrix products and integer sums, so the lists are the same on every machine and for any number of
 * threads.
 *
 * A row stands in two lists: that of the nearest centroid, and one of those behind it, chosen so that it
 * is near where the first is not (SOAR: Sun et al. 2023, arXiv:2404.00774). On text embeddings that finds
 * 98 of 100 in a third of the codes.
 *
 * How many lists a search looks into is said as a share of the true nearest that it shall find. What
 * share a number of lists finds is measured (partition_calibrate), not assumed.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it.
 *
 * Files: partition.c wells and what is added to them; partition_train.c centroids; partition_centers.c
 * centroids packed for comparing; partition_groups.c groups of near wells; partition_assign.c which list a
 * row goes to; partition_build.c a partition from rows; partition_split.c wells that became too full;
 * partition_rank.c the lists nearest to a query; partition_search.c searches; partition_class.c how hard a
 * query is; partition_recall.c calibration; partition_curve.c what it says; partition_file.c snapshots. */
#ifndef SYNA_INDEX_PARTITION_H
#define SYNA_INDEX_PARTITION_H

#include "index/exact.h"
#include "store/snapshot.h"

#define PARTITION_WELLS_MAX 8192u
#define PARTITION_ROWS_MAX (1u << 31)
#define PARTITION_COPIES 2u /* lists that a row stands in, at most */
/* A partition is to be made anew when there are so many times `trained` rows. */
#define PARTITION_GROWTH 4u

/* Rows in the order in which they came. The first head_count of them came when the partition was made. */
struct well {
    const uint32_t *head_rows; /* borrowed from the arena or a snapshot */
    const uint8_t *head_codes;
    uint32_t *rows; /* those that came later */
    uint8_t *codes;
    uint32_t head_count, count, cap;
    uint32_t settled;       /* rows when a split made it */
    float error, norm; /* the largest of its rows: codes_encode, length */
};

/* What was measured: found[i] of the nearest rows of all queries stood in the list that came at place
 * i (0 = the nearest list); `total` of them in all. The same for each class of queries (partition_class.c)
 * apart: those of class c begin at by_class[c * lists], and are harder than bounds[c - 1]. */
#define PARTITION_CLASSES 8u
struct probe_step;
struct probe_curve {
    uint32_t k;
    uint32_t lists; /* then */
    uint64_t total;
    uint32_t *found;
    uint32_t *by_class; /* NULL: not known */
    uint32_t *stopped;  /* found[i] of queries that stop as partition_codes_of says; NULL: not known */
    uint64_t totals[PARTITION_CLASSES];
    float bounds[PARTITION_CLASSES - 1];
    struct probe_step *steps; /* NULL: there was no memory. See partition_curve.c */
    uint32_t step_count;
};
#define PARTITION_CURVES 2u

/* Wells starts[g] to starts[g + 1] are group g; those from starts[count] on are in none. */
struct well_groups {
    uint32_t count; /* 0: there are no groups */
    uint32_t share; /* a query that looks into few lists is compared with such a part of the wells; 1: all */
    uint32_t *starts;
    uint8_t *centers; /* a code row each */
};

struct partition {
    struct codes codes;  /* step 0: nothing was trained */
    uint32_t count, cap; /* wells */
    struct well *wells;
    uint8_t *centroids;   /* a code row each, aligned to 64 */
    int32_t *weights;     /* partition_weight of each */
    struct well_groups groups;
    struct array errors;  /* float a row: codes_encode */
    uint32_t end;         /* rows below it are in lists, or were dead when they would have been put there */
    uint32_t rows;        /* in lists */
    uint32_t entries;     /* of all lists: up to two a row */
    /* Rows the centroids were trained from, 0 = from a sample; rows when the curves were measured, 0 =
     * they were not. Fewer when rows came from elsewhere: then both are due again earlier. */
    uint32_t trained, calibrated;
    bool certain; /* what a code leaves out is not by chance: searches take its whole length as possible */
    /* The share of the entries that stand in other lists than if all had been spread as those of the
     * training were; and what it was when the curves were measured. See note_drift. */
    float drift, drift_measured;
    uint8_t *arena_codes; /* what heads point to, unless it is a snapshot */
    uint32_t *arena_rows;
    struct centers *centers; /* the centroids packed for assigning, NULL = they are not */
    struct probe_curve curves[PARTITION_CURVES];
    uint64_t splits;
};

void partition_init(struct partition *p, uint32_t dims, int32_t metric);
void partition_dispose(struct partition *p);
static inline bool partition_trained(const struct partition *p)
{
    return p->count > 0;
}
uint64_t partition_bytes(const struct partition *p); /* memory of its own */
static inline uint32_t well_rows(const struct well *w)
{
    return w->head_count + w->count;
}

/* ---------------------------------------------------------------- making */

/* Where rows come from. */
struct partition_source {
    const struct kernels *kernels;
    const float *(*row)(void *context, size_t i);
    void *context;
    const uint64_t *live; /* one bit a row; NULL: all */
    uint32_t count;
    unsigned threads;
    bool (*step)(void *context, uint64_t done, uint64_t total); /* as in workers.h; may be NULL */
    void *step_context;
};

/* Wells for so many rows: four times the root, and up to twice that while there are 32 rows for each; of few
 * rows at least 16 in each, at most `most`. */
uint32_t partition_wells_for(uint32_t rows, uint32_t most);

/* Train centroids from the live rows of `from` and, unless they are only a sample, put all of them into
 * the lists. `p` is initialised and empty; on failure it is to be disposed. */
syna_rc partition_build(struct partition *p, const struct partition_source *from, uint32_t most_wells,
                        bool sample);

/* ---------------------------------------------------------------- adding rows */

/* Rows [end, end + count) coded and assigned, ready to be put into the lists. */
struct partition_plan {
    uint32_t first, count;
    uint8_t *codes;
    float *errors;
    uint32_t *wells; /* two a row; UINT32_MAX: none */
    float *norms;    /* dot product only */
};
syna_rc partition_plan_add(struct partition *p, const struct partition_source *from, uint32_t count,
                           struct partition_plan *plan);
void partition_plan_dispose(struct partition_plan *plan);
/* (w) All of the plan's rows or, without memory, none. */
syna_rc partition_add(struct partition *p, const struct partition_plan *plan);

/* A well that holds SPLIT_OVER times its share, or UINT32_MAX; its rows parted by two new centroids
 * (LIRE's split: Xu et al. 2023, arXiv:2410.14452). */
struct partition_split {
    uint32_t well;
    struct well halves[2];
    uint8_t *centroids;
    int32_t weights[2];
};
uint32_t partition_overfull(const struct partition *p);
/* Dead rows (live may be NULL) are left out. */
syna_rc partition_plan_split(const struct partition *p, const struct partition_source *from,
                             uint32_t well, struct partition_split *split);
void partition_split_dispose(struct partition_split *split);
/* (w) */
syna_rc partition_apply_split(struct partition *p, struct partition_split *split);

/* ---------------------------------------------------------------- searching */

struct partition_visits {
    uint64_t lists, codes, full;
};

/* How much of the index a search looks at. */
struct partition_reach {
    uint32_t lists; /* the nearest ones */
    uint64_t codes; /* lists are left out from the one on with which they have more rows; 0: none is */
    bool exact; /* what the codes rule out is certain to be out; else but for six standard deviations */
    /* When not 0 a query looks into as many lists as its class has here, `lists` at most; how hard it is
     * is said by the code that comes at this place. */
    uint32_t nearest;
    uint32_t by_class[PARTITION_CLASSES];
    float bounds[PARTITION_CLASSES - 1];
};
/* So many times the lists, `wells` at most. */
void partition_widen(struct partition_reach *reach, double times, uint32_t wells);
/* Lists that queries look into on average, where they are like the rows. */
uint32_t partition_usual_lists(const struct partition_reach *reach);
/* Offer the rows of each query's nearest lists, chosen ones only (NULL: all), to tops[q]. `set` has lengths
 * and full rows; its codes are the partition's. */
syna_rc partition_search(const struct partition *p, const struct row_set *set, const float *queries,
                         size_t count, const struct partition_reach *reach, const uint64_t *chosen,
                         struct topk *tops, struct partition_visits *visits);

/* ---------------------------------------------------------------- recall */

/* Measure, with live rows as queries. Makes the curves of `into`, which may be another thread's copy. */
struct partition_curves {
    struct probe_curve curves[PARTITION_CURVES];
    uint32_t rows;
    uint32_t near_share; /* well_groups */
    bool certain;
};
syna_rc partition_measure(const struct partition *p, const struct row_set *set, const uint64_t *live,
                          uint32_t count, struct partition_curves *out);
/* (w) Takes them. */
void partition_take_curves(struct partition *p, struct partition_curves *curves);
void partition_curves_dispose(struct partition_curves *curves);

/* Lists to look into for a share of the k nearest; all of them while nothing was measured. */
uint32_t partition_lists_for(const struct partition *p, uint64_t k, float recall);
/* The same, for each class of queries as many as it needs. */
void partition_reach_for(const struct partition *p, uint64_t k, float recall,
                         struct partition_reach *reach);
/* The share that so many lists find, as measured; 0 = it was not. */
float partition_recall_at(const struct partition *p, uint64_t k, uint32_t lists);
float partition_recall_of(const struct partition *p, uint64_t k, const struct partition_reach *reach);
/* What `nprobe` means: 50 finds 98 of 100 of the 10 nearest and 100 all of them, on any data; smaller
 * and larger ones look into lists in proportion. From as many as there are lists on: all. */
uint32_t partition_lists_of(const struct partition *p, uint64_t nprobe);
/* The codes that these lists may have for one query, see partition_reach: where 50 is to look at a quarter of
 * the rows, no query looks at more, unless it would miss rows by that. */
uint64_t partition_codes_of(const struct partition *p, uint64_t nprobe, uint32_t lists);

/* ---------------------------------------------------------------- snapshots */

/* Sections of a snapshot that was begun; the caller adds its own before or after. */
syna_rc partition_save(const struct partition *p, struct snapshot_writer *writer);
/* Into an empty partition of the same dimensions and metric. *found false: there is none, or it does not
 * fit `rows` rows, and the partition is still empty. The snapshot must outlive the partition. */
syna_rc partition_load(struct partition *p, struct snapshot *snapshot, uint32_t rows, bool *found);

/* ---------------------------------------------------------------- shared by the partition*.c files */

/* Room for so many wells. */
syna_rc partition_reserve_wells(struct partition *p, uint32_t wells);
uint8_t *partition_centroid(const struct partition *p, uint32_t well);
bool well_reserve(struct well *w, uint32_t more, size_t stride);
void well_append(struct well *w, uint32_t row, const uint8_t *code, size_t stride, float error,
                 float norm);
void well_dispose(struct well *w);
/* Half the square of a centroid; 0 under euclidean, whose integers need no weight. */
int32_t partition_weight(const struct codes *codes, const uint8_t *centroid);

/* Code rows that stand one after the other. */
struct code_rows {
    const struct kernels *kernels;
    const struct codes *codes;
    const uint8_t *rows;
    uint32_t count;  /* to look at: evenly spread over `of` */
    uint32_t of;
    unsigned threads;
    bool (*step)(void *context, uint64_t done, uint64_t total);
    void *step_context;
};
/* `wells` centroids of the rows, with their weights. */
syna_rc partition_train(const struct code_rows *rows, uint32_t wells, uint8_t *centroids,
                        int32_t *weights);
/* Centroids as the assigning takes them (partition_centers.c), which keeps the pointers. */
struct centers;
syna_rc centers_new(const struct kernels *kernels, const struct codes *codes,
                    const uint8_t *centroids, const int32_t *weights, uint32_t wells,
                    struct centers **out);
void centers_free(struct centers *centers);
uint64_t centers_bytes(const struct centers *centers);
/* near[i] = the centroid nearest to row i, of equal ones the first; among many centroids one that is so
 * nearly always (partition_core.h). second (may be NULL) gets the other list of each row, UINT32_MAX when
 * there is but one. */
syna_rc partition_assign(const struct code_rows *rows, const struct centers *centers, uint32_t *near,
                         uint32_t *second);
static inline const uint8_t *code_row_at(const struct code_rows *rows, uint32_t i)
{
    uint64_t place = rows->count == rows->of ? i : (uint64_t)i * rows->of / rows->count;
    return rows->rows + place * rows->codes->stride;
}

#endif
