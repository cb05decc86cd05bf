/* The inside of postings.h; for the postings*.c files only.
 *
 * A window is a run of rows, sealed: lists sorted by term, first the one of positive values, then
 * the one of negative ones, each in its part of `ids` and `codes`. |value| <= code * scale, so that
 * a sum of codes is a bound of a score. COUNTS: the row numbers of a list ascend; WEIGHTS: they do within
 * each class of codes, and the strongest class comes first. Windows are sorted by their first row and do not overlap;
 * rows that no window covers are dead, or fresh: [sealed, count). */
#ifndef SYNA_INDEX_POSTINGS_CORE_H
#define SYNA_INDEX_POSTINGS_CORE_H

#include "base/bytes.h"
#include "base/vec.h"
#include "index/postings.h"
#include "math/accumulate.h"

#define LIST_NEGATIVE 0x80000000u /* in posting_list.count */
#define COUNT_LARGE 255u          /* a count of 255 or more is in `large` */
#define WINDOW_VALUES_MAX (1u << 30)
#define STRENGTHS 32u             /* WEIGHTS: lists are in so many classes of codes, the strongest first */

struct posting_list {
    uint32_t term;
    uint32_t start; /* its first posting */
    uint32_t count; /* | LIST_NEGATIVE */
    float scale;
};

struct large_count {
    uint32_t posting;
    uint32_t count;
};

struct window {
    uint32_t first, rows; /* covers rows [first, first + rows) */
    uint32_t held;        /* live rows when it was sealed */
    uint32_t live;        /* of them, now */
    uint32_t list_count;
    uint32_t posting_count;
    uint32_t large_count;
    float base, slope; /* COUNTS: what the codes were made for */
    const struct posting_list *lists;
    const uint16_t *ids;             /* rows, less `first` */
    const uint8_t *codes;            /* impacts, rounded up; at least 1 */
    const uint8_t *counts;           /* COUNTS only; COUNT_LARGE: see `large` */
    const struct large_count *large; /* by posting */
    uint32_t *buckets; /* lists with term >> shift >= b begin at buckets[b]; always its own */
    uint32_t bucket_count;
    uint32_t shift;
    uint32_t *wide; /* lists that have maxima, ascending; always its own, and so are these: */
    uint32_t wide_count;
    uint32_t groups; /* of ACCUMULATE_GROUP rows */
    uint8_t *maxima; /* groups of them for each wide list: the largest code of a group */
    uint16_t *starts; /* COUNTS: of each wide list, its postings before each block of rows */
    void *block; /* what the arrays above stand in; NULL: they belong to a snapshot */
    size_t block_bytes;
};

/* Terms of fresh rows (COUNTS): uint32 terms, then uint32 counts, at byte `at` of fresh.bytes. */
struct fresh_row {
    size_t at;
    uint32_t count;
};

/* A list of a COUNTS window in which rows are looked for. */
struct list_ref {
    const struct posting_list *list; /* NULL: the term has none */
    const uint16_t *starts;          /* NULL: the list is not wide */
};

struct search_scratch;

/* What approximate searches find, measured (postings_near.c). */
#define NEAR_CUTS 12u
#define NEAR_K_MAX 100u /* searches for more are exact */
enum near_range { NEAR_FEW, NEAR_MANY, NEAR_RANGES }; /* of k: ten rows at most, more */
struct near_curve {
    uint32_t live; /* rows when it was measured; 0: it was not */
    float reached[NEAR_CUTS];
};

struct postings {
    enum postings_kind kind;
    postings_row_fn row;
    postings_expect_fn expect; /* NULL: the owner is not told */
    void *context;
    uint32_t count;  /* rows added */
    uint32_t sealed; /* rows below are in windows, or dead */
    uint32_t live_count;
    uint64_t fresh_values; /* of rows from `sealed` on */
    uint64_t *live;
    size_t live_words;
    struct window *windows;
    uint32_t window_count;
    float base, slope; /* expected: slope times average length */

    struct buf lengths;    /* COUNTS: uint32 a row */
    uint64_t length_sum;   /* of live rows */
    struct buf fresh;      /* COUNTS: their terms and counts */
    struct buf fresh_rows; /* COUNTS: struct fresh_row */

    struct search_scratch *idle; /* of earlier searches */
    struct near_curve near[NEAR_RANGES];
    pthread_mutex_t idle_lock; /* of these two */
};

static inline uint32_t list_rows(const struct posting_list *list)
{
    return list->count & ~LIST_NEGATIVE;
}
static inline uint32_t window_blocks(const struct window *w)
{
    return w->groups / (ACCUMULATE_BLOCK / ACCUMULATE_GROUP);
}
static inline bool list_negative(const struct posting_list *list)
{
    return list->count & LIST_NEGATIVE;
}
static inline uint32_t code_strength(uint8_t code)
{
    return code / (256 / STRENGTHS);
}
static inline float load_f32(const void *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t row_term(const struct postings_row *row, uint32_t i)
{
    return load_u32((const uint8_t *)row->terms + (size_t)i * 4);
}
static inline uint32_t row_length(const struct postings *p, uint32_t row)
{
    return load_u32(p->lengths.bytes + (size_t)row * 4);
}
static inline float count_impact(uint32_t count, uint32_t length, float base, float slope)
{
    return (float)count / ((float)count + base + slope * (float)length);
}

/* ---- postings.c */
/* Room for `rows` more rows and nothing of what is in them. */
syna_rc postings_reserve_rows(struct postings *p, size_t rows);
/* A row that no window has yet, or with WEIGHTS any. */
void postings_show(const struct postings *p, uint32_t row, struct postings_row *out);
uint32_t postings_live_in(const struct postings *p, uint32_t first, uint32_t rows);

/* ---- postings_window.c */
/* Rows [first, first + rows) that are live, as a window; for COUNTS they are fresh. */
syna_rc window_build(const struct postings *p, uint32_t first, uint32_t rows, struct window *out);
/* COUNTS: `count` neighbours as one, without the dead. */
syna_rc window_join(const struct postings *p, const struct window *parts, uint32_t count,
                    struct window *out);
void window_dispose(struct window *w);
/* Make the buckets of a window whose lists are there. */
syna_rc window_make_buckets(struct window *w);
/* And the maxima of its wide lists (postings_maxima.c). */
syna_rc window_make_maxima(struct window *w);
/* NULL when the list is not wide, and starts of a WEIGHTS window. */
const uint8_t *window_maxima(const struct window *w, const struct posting_list *list);
const uint16_t *window_starts(const struct window *w, const struct posting_list *list);
/* The lists of a term: *found of them, 0..2, next to each other. */
const struct posting_list *window_find(const struct window *w, uint32_t term, uint32_t *found);
/* It is about to be looked for: first this for all terms, then the other. */
static inline void window_expect_bucket(const struct window *w, uint32_t term)
{
    if (term >> w->shift < w->bucket_count)
        __builtin_prefetch(&w->buckets[term >> w->shift]);
}
static inline void window_expect_list(const struct window *w, uint32_t term)
{
    if (term >> w->shift < w->bucket_count)
        __builtin_prefetch(&w->lists[w->buckets[term >> w->shift]]);
}
/* The posting of a row in a list, UINT32_MAX when there is none. */
uint32_t window_posting(const struct window *w, const struct list_ref *ref, uint32_t row);
uint32_t window_count_at(const struct window *w, uint32_t posting);
const struct window *postings_window_of(const struct postings *p, uint32_t row);

/* ---- postings_score.c: exact scores of rows for one query */
struct scorer {
    const struct postings *p;
    const struct postings_query *query;
    struct query_slot *slots;  /* those of the table; NULL: look terms up */
    struct query_table table;
    const struct accumulate *by; /* what the machine has */
};
#define SCORER_SLOTS_MAX 65536u
/* `room`: SCORER_SLOTS_MAX slots, zeroed, that scorer_dispose leaves zeroed; NULL: no table. */
void scorer_init(struct scorer *s, const struct postings *p, const struct postings_query *query,
                 struct query_slot *room);
void scorer_dispose(struct scorer *s);
float scorer_row(const struct scorer *s, const struct postings_row *row);
/* Any live row. `w` is its window, NULL = it is fresh. `refs`: for COUNTS, the list of each term of
 * the query in this window; NULL: they are looked up. */
float scorer_score(const struct scorer *s, const struct window *w, const struct list_ref *refs,
                   uint32_t row);

/* ---- postings_scratch.c */
struct search_scratch {
    struct search_scratch *next;
    uint16_t *sums;   /* zero between windows */
    uint64_t *scored; /* rows of the window that were scored; zero between windows */
    uint32_t *found;  /* candidates */
    uint16_t *maxima;
    uint16_t *bounds; /* of groups of rows: what the wide lists that are not added can add */
    struct query_slot *slots; /* zero between searches */
};
syna_rc scratch_take(const struct postings *p, struct search_scratch **out);
void scratch_give(const struct postings *p, struct search_scratch *scratch);
void search_scratch_free(struct search_scratch *scratch); /* and those behind it */

/* ---- postings_search.c */
/* As postings_search, whatever the query says about recall; postings that add less than `cut` of the
 * bound, more in long lists, are left out, 0: exact. WEIGHTS only, where it is not 0. */
syna_rc search_cut(const struct postings *p, const struct postings_query *query, double cut,
                   struct topk *top, struct postings_visits *visits);

/* ---- postings_near.c: the cut with which about `recall` of the k best are found; 0: none does. */
syna_rc near_cut(const struct postings *p, size_t k, float recall, double *cut);

#endif
