/* Inverted lists with exact top-k search: the index of SparseVectorStore and of TextIndex.
 *
 * Documents are rows, numbered from 0 in the order in which they are added; a number is never used
 * again. A row is a list of (term, value). There are two kinds of index:
 *
 *   POSTINGS_WEIGHTS  a value is a float of either sign; a row's score is the sum of q * w over the terms
 *                     that it shares with the query. Rows stay with their owner, who shows them on demand.
 *   POSTINGS_COUNTS   a value is a count, a row has a length; its score is the sum of
 *                     q * count / (count + base + slope * length). With q = idf * (k1 + 1),
 *                     base = k1 * (1 - b), slope = k1 * b / average length, all three of them of the
 *                     query, that is BM25. The index keeps everything itself.
 *
 * Sums run over ascending terms in double precision and are rounded to float once; rows are ranked by that
 * float, equal ones by number. A search gives exactly that ranking, whatever it skips on the way.
 *
 * Rows come into a fresh part, which is searched row by row, and are sealed into windows of at most
 * 65,536 rows: per term a list of 16-bit row numbers and 8-bit impacts, rounded up. Small windows are
 * joined, windows of which much is dead are written anew. Sealed windows never change.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_INDEX_POSTINGS_H
#define SYNA_INDEX_POSTINGS_H

#include "math/topk.h"
#include "store/snapshot.h"

#define POSTINGS_WINDOW 65536u
#define POSTINGS_ROWS_MAX (UINT32_MAX - POSTINGS_WINDOW)
#define POSTINGS_ROW_TERMS_MAX (1u << 20) /* terms of one row */

enum postings_kind { POSTINGS_WEIGHTS, POSTINGS_COUNTS };

/* A row as it is handed over: `count` terms, ascending, none twice, and their values: float32 weights
 * (finite) or uint32 counts (at least 1). Any alignment. */
struct postings_row {
    const void *terms;  /* uint32 */
    const void *values; /* float or uint32 */
    uint32_t count;
    uint32_t length; /* COUNTS: the length of the document */
};

/* WEIGHTS: show a live row; what it points to stays as long as the lock is held. The row of a damaged
 * file may be shown with count 0 (the owner reports it). */
typedef void (*postings_row_fn)(void *context, uint32_t row, struct postings_row *out);

/* WEIGHTS: a live row is going to be shown: ask the memory for what says where it is and, when that has had time to
 * come, for the row. */
enum postings_ahead { POSTINGS_PLACE, POSTINGS_ROW };
typedef void (*postings_expect_fn)(void *context, uint32_t row, enum postings_ahead what);

struct postings;

/* `row` is NULL for COUNTS. */
syna_rc postings_new(enum postings_kind kind, postings_row_fn row, void *context,
                     struct postings **out);
void postings_free(struct postings *p); /* NULL is fine */

/* WEIGHTS: rows are shown sooner when their owner is told a few rows before. */
void postings_tell(struct postings *p, postings_expect_fn expect);

/* Around fork(), while nobody has the index exclusively: the child's copy of its lock is free. */
void postings_before_fork(struct postings *p);
void postings_after_fork(struct postings *p, bool child);

/* (w) COUNTS: what queries are going to use, slope given as slope * average length. Windows sealed from now
 * on have tight bounds for it; any other query is as exact, only slower. As made: 0.3 and 0.9, which
 * is k1 = 1.2 and b = 0.75. */
void postings_expect(struct postings *p, float base, float slope);

/* (w) Room so that `rows` more postings_add with `values` values together cannot fail. */
syna_rc postings_reserve(struct postings *p, size_t rows, size_t values);
/* (w) The next row. Must have been reserved. Returns its number. In a WEIGHTS index only row->count is
 * looked at; the owner must be able to show the row from now on. */
uint32_t postings_add(struct postings *p, const struct postings_row *row);
/* (w) The row is gone. */
void postings_drop(struct postings *p, uint32_t row);

uint32_t postings_count(const struct postings *p); /* rows that were added, dropped ones included */
uint32_t postings_live_count(const struct postings *p);
/* One bit a row, in words of 64; the words cover postings_count rows, the bits behind are 0. */
const uint64_t *postings_live(const struct postings *p);
static inline bool postings_is_live(const struct postings *p, uint32_t row)
{
    return row < postings_count(p) && (postings_live(p)[row / 64] >> row % 64 & 1);
}
/* COUNTS: the length that the row was added with. */
uint32_t postings_length(const struct postings *p, uint32_t row);
/* Rows that have the term. Dropped rows count until their window is written anew. */
uint64_t postings_term_rows(const struct postings *p, uint32_t term);
/* COUNTS: how often the row has the term, 0 = not at all. */
uint32_t postings_term_count(const struct postings *p, uint32_t row, uint32_t term);
/* Set the bit of every row that has the term. `bits` covers postings_count rows; other bits are left as
 * they are, those of dropped rows may be set. */
void postings_mark(const struct postings *p, uint32_t term, uint64_t *bits);

/* ---- searching */

struct postings_query {
    const uint32_t *terms;  /* ascending, none twice */
    const float *weights;   /* finite; a weight of 0 is as if the term were not there */
    size_t count;
    float base, slope;      /* COUNTS; both >= 0 */
    const uint64_t *chosen; /* one bit a row; NULL = all. Dropped rows are left out in any case */
    /* 0 or >= 1: exact. Below: about this share of the k best is found, faster; how is measured on the
     * index's own rows, by the first such search and again when the rows have become half as many more
     * or fewer: some thousands of searches. COUNTS, with `chosen`, or for more than 256 rows: exact. */
    float recall;
};

struct postings_visits {
    uint64_t postings; /* added up */
    uint64_t rows;     /* scored exactly */
    uint64_t windows;
};

/* Offer the best rows to `top` with rank = -score, rows that score exactly 0 left out. A row may be
 * offered that does not make it into the top. visits may be NULL. On failure the top is of no use. */
syna_rc postings_search(const struct postings *p, const struct postings_query *query,
                        struct topk *top, struct postings_visits *visits);

/* The score of one live row. */
float postings_score(const struct postings *p, const struct postings_query *query, uint32_t row);

/* ---- upkeep: sealing, joining, writing anew. Call it after writes:
 *
 *   if (postings_due(p)) { lock shared; postings_prepare(p, &job); unlock;
 *                          lock exclusively; postings_install(p, job); unlock; }
 *
 * until it is not due. One job at a time: the owner has a lock for that. Rows may be added and dropped
 * between prepare and install. */
struct postings_job;
bool postings_due(const struct postings *p);
syna_rc postings_prepare(const struct postings *p, struct postings_job **out);
void postings_install(struct postings *p, struct postings_job *job); /* (w); NULL is fine */
/* (w) Seal all fresh rows, and do all that is due. */
syna_rc postings_settle(struct postings *p);

/* ---- facts */
struct postings_facts {
    uint64_t memory_bytes; /* of its own: what stands in a mapped snapshot is not */
    uint64_t mapped_bytes;
    uint64_t postings; /* in windows and fresh rows, dropped rows included until written anew */
    uint64_t terms;    /* lists of all windows: at least the distinct terms of each */
    uint32_t windows;
    uint32_t fresh_rows;
};
void postings_get_facts(const struct postings *p, struct postings_facts *out);

/* ---- postings_file.c: sections "post*" of a snapshot. postings_settle comes first. (w) loading, into an
 * index that is empty: *found false, nothing changed, when they are not there or not sound. The snapshot
 * must outlive the index. */
syna_rc postings_save(const struct postings *p, struct snapshot_writer *writer);
syna_rc postings_load(struct postings *p, struct snapshot *snapshot, bool *found);

#endif
