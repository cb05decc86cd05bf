/* The three stages that CascadeIndex finds near rows with, over the rows of a row_set:
 *
 *   1  hash     sign bits of a row's code along a few random hyperplanes through the middle of the rows
 *               (Charikar 2002): they choose a cell. Cells and buckets are visited in the order of how
 *               near a query is to the planes that part it from them (multi-probe, Lv et al. 2007).
 *   2  buckets  below each cell a tree that parts a bucket in two when it is full, across the direction
 *               between the two halves' middles (2-means at the median), through the bucket's own middle.
 *               A bucket keeps its rows' sign codes, one bit a dimension, side by side.
 *   3  graph    sixteen links a row. A search ranks the rows of the nearest buckets by their sign codes,
 *               enters the graph at the best of them, walks on 8-bit codes, and scores the last candidates
 *               from the full rows.
 *
 * Nothing is trained before rows come: a later row is routed to its bucket, linked to the near rows that a
 * short walk from there meets, and they to it. Building from many rows at once compares all pairs in
 * overlapping groups of near rows by matrix products (hnsw_bulk.c), which gives the better graph and is
 * quicker.
 *
 * Rows [0, linked) of the set are in the index; what comes behind is the caller's to search. Dead rows
 * leave their bucket and stay stepping stones of the graph until it is built anew. Everything is computed
 * from integers in a fixed order: the same rows give the same index on every machine.
 *
 * Not thread-safe: calls marked (w) need the index exclusively, the others share it.
 *
 * Files: cascade.c the struct and scratch memory; cascade_plane.c directions, projections and sign codes;
 * cascade_tree.c cells and buckets; cascade_graph.c links of later rows; cascade_build.c all at once;
 * cascade_search.c; cascade_recall.c calibration; cascade_file.c. */
#ifndef SYNA_INDEX_CASCADE_H
#define SYNA_INDEX_CASCADE_H

#include "index/exact.h"
#include "store/snapshot.h"

#define CASCADE_NONE UINT32_MAX
#define CASCADE_ROWS_MAX (1u << 31) /* the top bit of a row number is the walk's own */
#define CASCADE_DEGREE 16u
#define CASCADE_HYPERPLANES_MAX 64u
#define CASCADE_CAPACITY_MIN 16u
#define CASCADE_CAPACITY_MAX 4096u
#define CASCADE_PROBES_MAX 256u
#define CASCADE_EF_MAX 8192u
#define CASCADE_EF_DEFAULT 64u /* before recall was measured */

struct cascade_params {
    uint32_t hyperplanes; /* hash bits at most, 1..64; as many are used as there are rows for */
    uint32_t capacity;    /* rows of a bucket, 16..4096 */
    uint32_t probes;      /* buckets that a search looks at, 1..256 */
};

/* Told how far a long call is; false stops it with reason CANCELLED. On the calling thread only. */
struct cascade_progress {
    bool (*step)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* What a width of the walk gives: measured, see cascade_measure. */
#define CASCADE_CURVE_POINTS 12
struct cascade_curve {
    uint32_t k;     /* results asked for; 0 = not measured */
    uint32_t count; /* points, ef ascending, recall not descending */
    uint32_t ef[CASCADE_CURVE_POINTS];
    float recall[CASCADE_CURVE_POINTS];
    float codes[CASCADE_CURVE_POINTS]; /* compared in a search, on average */
};
#define CASCADE_CURVES 3 /* for k = 1, 10 and 100 */

struct cascade {
    struct cascade_params params;
    size_t stride;        /* bytes of a code row */
    uint32_t linked;      /* rows in the index, dead ones included */
    uint32_t filed;       /* rows in buckets: those that live */
    uint32_t hash_bits;   /* of the hyperplanes, so many are in use */
    uint32_t root;        /* where routing begins: a node, or a bucket */
    uint32_t plane_count, node_count, leaf_count;
    struct array planes;  /* struct cascade_plane and its direction */
    struct array nodes;   /* struct cascade_node */
    struct array leaves;  /* struct cascade_leaf, row numbers, sign codes */
    struct array leaf_of; /* uint32 a row: its bucket, CASCADE_NONE of a dead one */
    struct array links;   /* CASCADE_DEGREE uint32 a row; CASCADE_NONE behind the last */
    uint8_t *centre;      /* the middle of the rows, as a code row */
    uint32_t calibrated;  /* `filed` when the curves were measured; 0 = never */
    struct cascade_curve curves[CASCADE_CURVES];
    struct cascade_room *idle; /* scratch of earlier searches */
    pthread_mutex_t idle_lock;
};

/* ---- cascade.c */
/* An empty index for code rows of `stride` bytes. ARGUMENT when a parameter is out of range. */
syna_rc cascade_init(struct cascade *c, const struct cascade_params *params, size_t stride);
void cascade_dispose(struct cascade *c); /* zeros are fine */
/* (w) `c` becomes what `fresh` is, which is gone then. */
void cascade_replace(struct cascade *c, struct cascade *fresh);
syna_rc cascade_check_params(const struct cascade_params *params);
uint64_t cascade_bytes(const struct cascade *c); /* memory of its own */
uint64_t cascade_used_bytes(const struct cascade *c); /* what it takes, wherever it stands */

/* ---- cascade_build.c */
/* (w) Build from rows [0, count) of the set, of which those count whose bit in `live` is set (NULL: all),
 * and measure its recall. What the index was before is replaced on success only. Deterministic,
 * whatever the number of threads. */
syna_rc cascade_build(struct cascade *c, const struct row_set *set, const uint64_t *live,
                      uint32_t count, unsigned threads, const struct cascade_progress *progress);

/* ---- cascade_graph.c: one more row, in two steps */
struct cascade_change {
    uint32_t row;
    uint32_t links[CASCADE_DEGREE];
    struct {
        uint32_t row, at; /* links[at] of that row becomes the new row */
    } back[CASCADE_DEGREE];
    uint32_t back_count;
};
/* Work out the links of row `linked` of the set, without touching the index. `live`: as for build. */
syna_rc cascade_plan(struct cascade *c, const struct row_set *set, const uint64_t *live,
                     struct cascade_change *out);
/* (w) Make room for the next row, so that cascade_apply cannot fail; and is there? */
syna_rc cascade_reserve(struct cascade *c);
bool cascade_has_room(const struct cascade *c);
/* (w) The planned row is in the index from now on. */
void cascade_apply(struct cascade *c, const struct row_set *set, const struct cascade_change *change);
/* (w) Row `linked` is dead already: it is passed over. There must be room. */
void cascade_skip(struct cascade *c);
/* (w) A row of the index died. */
void cascade_remove(struct cascade *c, uint32_t row);

/* ---- cascade_search.c */
struct cascade_query {
    const float *vector;
    float norm;             /* its length */
    uint32_t ef;            /* candidates kept in the walk, at least k */
    uint32_t probes;        /* buckets; 0 = params.probes */
    const uint64_t *chosen; /* rows that may be returned, one bit a row; NULL = all */
    uint32_t without;       /* a row that is as if it were not there; CASCADE_NONE = none */
};
struct cascade_visits {
    uint64_t buckets; /* whose rows were ranked */
    uint64_t codes;   /* rows whose 8-bit code was compared */
    uint64_t full;    /* rows that were scored in full */
    uint64_t hops;    /* rows whose links were followed */
};
/* Offer near rows among [0, linked) to `top`: exact ranks. visits (may be NULL) is added to. */
syna_rc cascade_search(struct cascade *c, const struct row_set *set,
                       const struct cascade_query *query, struct topk *top,
                       struct cascade_visits *visits);

/* ---- cascade_recall.c */
/* Measure recall against exact search, for k = 1, 10, 100 and a range of ef, and (w) take it over. */
syna_rc cascade_measure(struct cascade *c, const struct row_set *set, const uint64_t *live,
                        unsigned threads, struct cascade_curve curves[CASCADE_CURVES]);
void cascade_take_curves(struct cascade *c, const struct cascade_curve curves[CASCADE_CURVES]);
/* The ef that is expected to give this recall for k results. *expected: the recall that it gave when it
 * was measured. 0: looking at every code costs less than a walk that wide, and finds all. */
uint32_t cascade_ef_for(const struct cascade *c, uint32_t k, float recall, float *expected);
/* The recall expected at this ef, 0 when not known. */
float cascade_recall_at(const struct cascade *c, uint32_t k, uint32_t ef);

/* ---- cascade_file.c */
syna_rc cascade_save(const struct cascade *c, struct snapshot_writer *writer);
/* (w) Take over what a snapshot holds for a set of at least that many rows; the snapshot must outlive
 * the index. *found false, nothing changed: there is none, or its structure is not sound. */
syna_rc cascade_load(struct cascade *c, const struct row_set *set, struct snapshot *snapshot,
                     bool *found);

#endif
