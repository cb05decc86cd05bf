/* A navigable graph over the rows of a row_set: near rows are found by walking from neighbour to
 * neighbour on 8-bit codes, the last candidates are scored from the full rows.
 *
 * One layer: a walk enters at the best of a sample of rows, which replaces the upper layers of Malkov
 * and Yashunin (2018, arXiv:1603.09320) up to millions of rows (Munyampirwa et al. 2024,
 * arXiv:2412.01940). Links are chosen by the relative neighbourhood rule of the same paper with the
 * slack of Subramanya et al. (2019, DiskANN).
 *
 * Rows [0, linked) of the set are in the graph; what comes behind is the fresh tail, which the caller
 * searches exactly. Dead rows stay as stepping stones until they are repaired away.
 *
 * Not thread-safe: calls marked (w) need the graph exclusively, the others share it. Changes are made
 * in two steps, so that searches wait for the second only: a plan is worked out beside searches (one
 * plan at a time, no other change meanwhile), then applied, which copies the new links and nothing
 * else.
 *
 * Files: hnsw.c the struct; hnsw_walk.c, hnsw_search.c and hnsw_filtered.c; hnsw_prune.c the choice of links;
 * hnsw_bulk.c, hnsw_carve.c and hnsw_refine.c the build; hnsw_join.c reach; hnsw_plan.c later rows and dead ones;
 * hnsw_renumber.c; hnsw_recall.c calibration; hnsw_file.c. */
#ifndef SYNA_INDEX_HNSW_H
#define SYNA_INDEX_HNSW_H

#include "base/vec.h"
#include "index/exact.h"
#include "store/snapshot.h"

#define HNSW_M_DEFAULT 16u
#define HNSW_M_MIN 4u
#define HNSW_M_MAX 64u
#define HNSW_EF_CONSTRUCTION_DEFAULT 200u
#define HNSW_EF_DEFAULT 100u
#define HNSW_EF_MAX 4096u
#define HNSW_NONE UINT32_MAX
#define HNSW_ROWS_MAX (1u << 31) /* the top bit of a row number is the walk's own */

/* Told how far a long call is; false stops it with reason CANCELLED. On the calling thread only. */
struct hnsw_progress {
    bool (*step)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* What the graph needs to reach a recall: measured, see hnsw_calibrate. */
#define HNSW_CURVE_POINTS 10
struct hnsw_curve {
    uint32_t k;     /* results asked for; 0 = not measured */
    uint32_t count; /* points, ef ascending, recall not descending */
    uint32_t ef[HNSW_CURVE_POINTS];
    float recall[HNSW_CURVE_POINTS];
};
#define HNSW_CURVES 3 /* for k = 1, 10 and 100 */

/* What was measured of a graph, by hnsw_calibrate. */
struct hnsw_measured {
    uint32_t calibrated; /* `linked` at that time; 0: it was not measured */
    bool coarse;   /* searches walk by the first halves of split codes (codes.h) */
    float growth;  /* the j-th nearest row is about j ^ growth times as far as the first (hnsw_walk.c); 0: unknown */
    float longest; /* dot product: the length of the longest row that was met among the nearest */
    struct hnsw_curve curves[HNSW_CURVES];
};

struct hnsw {
    uint32_t degree; /* links a row has room for: 2 * m */
    uint32_t ef_construction;
    uint32_t search_threads; /* that a call with many queries may use; at first all processors */
    uint32_t linked; /* rows in the graph */
    struct array links; /* degree uint32 a row; HNSW_NONE behind the last */
    uint32_t *entries;  /* rows where walks may begin */
    uint8_t *entry_codes; /* their codes, one after the other, 64-byte aligned */
    uint32_t entry_count;
    uint32_t entries_of; /* they are a sample of rows [0, entries_of) */
    struct hnsw_measured measured;
    struct snapshot *unsure; /* links are there, and some pages unchecked (atomic; NULL: none is) */
    bool damaged;            /* links were met that are wrong (atomic): build anew */
    struct hnsw_walk *idle; /* scratch of earlier walks */
    pthread_mutex_t idle_lock;
};

/* ---- hnsw.c */
/* An empty graph. m links in a typical row (4..64), twice as many at most. */
syna_rc hnsw_init(struct hnsw *graph, uint32_t m, uint32_t ef_construction);
void hnsw_dispose(struct hnsw *graph);
/* (w) `graph` becomes what `fresh` is, which is gone then. Its recall is to be measured anew. */
void hnsw_replace(struct hnsw *graph, struct hnsw *fresh);
/* Memory of its own; `codes` are those of its rows. */
uint64_t hnsw_bytes(const struct hnsw *graph, const struct codes *codes);

static inline uint32_t *hnsw_links(const struct hnsw *graph, uint32_t row)
{
    return array_at(&graph->links, row);
}
uint32_t hnsw_link_count(const struct hnsw *graph, uint32_t row);

/* ---- hnsw_search.c */
struct hnsw_query {
    const float *vector;
    float norm;             /* its length */
    uint32_t ef;            /* how wide the walk is, at least k: about so many candidates for a typical query */
    const uint64_t *chosen; /* rows that may be returned, one bit a row; NULL = all */
};
struct hnsw_visits {
    uint64_t codes; /* rows whose code was compared */
    uint64_t full;  /* rows that were scored in full */
    uint64_t hops;  /* rows whose links were followed */
};
/* Offer near rows among [0, linked) to `top`: exact ranks. visits (may be NULL) is added to. */
syna_rc hnsw_search(struct hnsw *graph, const struct row_set *set, const struct hnsw_query *query,
                    struct topk *top, struct hnsw_visits *visits);

/* The same for several queries at once, with the same results, in less time: their walks take turns, so
 * that one computes while the codes of the others arrive from memory, and from 64 queries on they are
 * spread over threads. set->full is called from all of them. tops[i] is of queries[i]. */
syna_rc hnsw_search_many(struct hnsw *graph, const struct row_set *set,
                         const struct hnsw_query *queries, size_t count, struct topk *tops,
                         struct hnsw_visits *visits);

/* The same among rows that are not in the graph, [first, end) and `rows`: the codes of all of them are
 * compared, the nearest `ef` kept, and of these as many scored as after a walk. */
syna_rc hnsw_scan(struct hnsw *graph, const struct row_set *set, const struct hnsw_query *query,
                  uint32_t first, uint32_t end, const uint32_t *rows, uint32_t count, struct topk *top,
                  struct hnsw_visits *visits);

/* ---- hnsw_bulk.c */
/* (w) Build the graph over rows [0, count) of the set from nothing; what it was before is replaced on
 * success only. Deterministic, whatever the number of threads. */
syna_rc hnsw_build(struct hnsw *graph, const struct row_set *set, uint32_t count, unsigned threads,
                   const struct hnsw_progress *progress);

/* ---- hnsw_plan.c */
struct hnsw_plan {
    struct buf rows;   /* uint32: rows that get new links */
    struct buf links;  /* degree uint32 for each */
    uint32_t linked;   /* rows in the graph afterwards */
    bool repairs;      /* links were taken away: rows may be out of reach */
};
/* Link rows [linked, linked + count) of the set to the graph. */
syna_rc hnsw_plan_insert(struct hnsw *graph, const struct row_set *set, uint32_t count,
                         struct hnsw_plan *plan);
/* Lead the links to rows whose bit in `live` is not set past them (Singh et al. 2021, FreshDiskANN,
 * arXiv:2105.09613, section 4.2), and take theirs away. */
syna_rc hnsw_plan_repair(struct hnsw *graph, const struct row_set *set, const uint64_t *live,
                         struct hnsw_plan *plan);
/* (w) */
syna_rc hnsw_apply(struct hnsw *graph, const struct row_set *set, const struct hnsw_plan *plan);
void hnsw_plan_dispose(struct hnsw_plan *plan);

/* ---- hnsw_renumber.c */
/* The links of `from` into `to`, which has room for them, with row i as numbers[i]; HNSW_NONE: it is gone,
 * and so are links to it. Numbers keep the order of the rows. Returns how many there are in `to`. */
uint32_t hnsw_renumber(const struct hnsw *from, const uint32_t *numbers, struct hnsw *to);
/* (w) After links were changed by hand: where walks begin, and no row out of reach. */
syna_rc hnsw_settle(struct hnsw *graph, const struct row_set *set);

/* ---- hnsw_recall.c */
/* (w) Measure recall against exact search on queries made from the set's own rows, for k = 1, 10, 100
 * and a range of ef. `live`: rows that count, NULL = all. */
syna_rc hnsw_calibrate(struct hnsw *graph, const struct row_set *set, const uint64_t *live);
/* The ef that is expected to give this recall for k results; HNSW_EF_DEFAULT (or k) before the first
 * calibration. */
uint32_t hnsw_ef_for(const struct hnsw *graph, uint32_t k, float recall);
/* Whether some width is expected to give this recall for k results. Where a few rows are a thousand times as
 * long as the others, codes tell most rows apart so badly that none does. True before the first calibration. */
bool hnsw_reaches(const struct hnsw *graph, uint32_t k, float recall);
/* The recall that searches have unless told otherwise (API 1.3), and the one to aim at for that: 0 when walks
 * of the width `ef` have it, or nothing was measured. */
#define HNSW_RECALL_DEFAULT 0.95f
float hnsw_aim_beyond(const struct hnsw *graph, uint32_t k, uint32_t ef);
/* The recall expected at this ef, 0 when not known. */
float hnsw_recall_at(const struct hnsw *graph, uint32_t k, uint32_t ef);

/* ---- hnsw_file.c */
syna_rc hnsw_save(const struct hnsw *graph, struct snapshot_writer *writer);
/* (w) Take over what a snapshot holds for a set of at least that many rows; the snapshot must outlive
 * the graph. *found false, nothing changed: there is none, or its structure is not sound.
 *
 * `later`: links that are many bytes are not read now. Walks check those that they follow, and pass over
 * damaged ones: whoever searched looks at graph->damaged then. hnsw_check is called before anything else
 * is done with the graph (but replacing it). */
syna_rc hnsw_load(struct hnsw *graph, const struct row_set *set, struct snapshot *snapshot, bool later,
                  bool *found);
/* Check the links that were not checked yet. Any thread. *stop (atomic; NULL = never) turning true ends
 * that early. false: some are damaged, or it was stopped. */
bool hnsw_check(struct hnsw *graph, const bool *stop);

#endif
