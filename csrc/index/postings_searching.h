/* A search under way: what postings_search.c, which searches exactly, shares with the files that it is made
 * of, and with postings_strong.c, which searches approximately. */
#ifndef SYNA_INDEX_POSTINGS_SEARCHING_H
#define SYNA_INDEX_POSTINGS_SEARCHING_H

#include "index/postings_core.h"

#include <math.h>

#define MARGIN 1e-5         /* of bounds, for the rounding of floats */
#define AHEAD 768u         /* so many postings are asked for before they are added, */
#define AT_ONCE 256u        /* as many again whenever so many were added */
#define LINE 64u            /* of the cache: bytes, and codes */
#define LISTED_SHARE 16u    /* lists with a posting in every so many rows are not short against a window */

struct part { /* a list that can raise scores */
    const struct posting_list *list;
    double bound;          /* its largest contribution */
    const uint8_t *maxima; /* of groups of rows, NULL: the list is not wide */
    uint32_t factor;
    uint32_t expected; /* so many of its postings are asked for ahead */
    uint32_t least;    /* approximate: the least code that is added, 256: none is */
};

struct found_lists { /* of a term in a window */
    const struct posting_list *first;
    uint32_t count;
};

struct plan { /* of a window */
    uint32_t window;
    double bound;
};

/* Rows with the largest sums so far, the best first: the bits of the score that a sum stands for, which compare
 * as scores do that are not negative, above the row's number turned round. */
struct near_pool {
    uint64_t *keys;
    size_t count, size;
};

struct searching {
    const struct postings *p;
    const struct postings_query *q;
    struct topk *top;
    struct postings_visits visits;
    struct search_scratch *scratch;
    struct scorer scorer;
    const struct accumulate *sums_by; /* what the machine has */
    struct plan *plans;
    struct part *parts;
    struct part *unordered;
    uint64_t *keys;
    struct list_ref *refs;     /* COUNTS: list of each term of the query in the window */
    struct near_pool near;     /* approximate searches */
    double near_left;          /* the score that postings left out add to a row at most */
    bool lowers;               /* some posting lowers scores */
    double cut;                /* approximate: what postings are left out (postings_near.c); 0:
                                  exact */
    struct found_lists *found; /* of each window, its terms; NULL: too many to remember */
    /* of the window: */
    const struct window *w;
    uint32_t part_count;
    uint32_t narrow; /* so many parts come first, whose lists are not wide */
    uint32_t next_part, next_posting; /* is asked for next, */
    uint32_t expected; /* of the parts before this one */
    uint32_t added;  /* so many parts are in the sums */
    uint32_t listed; /* candidates are in one of so many parts at the front; 0:
                        anywhere */
    uint16_t whole; /* all rows whose sums reach it were candidates of priming; 0: not so */
    bool primed;
    double primed_left; /* the bound of the parts that were not added then */
    uint32_t rows;      /* of it, up to a multiple of ACCUMULATE_BLOCK */
    uint32_t block;     /* so many of them have a maximum, */
    uint32_t blocks;    /* and so many maxima there are */
    double unit;        /* score of one unit of a sum */
    double *left;       /* left[i]: bound of parts from i on, in units */
};

/* The score that a row must reach; rows that come later in number must exceed
 * it. */
static inline float threshold(const struct searching *s)
{
    const struct topk *top = s->top;
    return top->count < top->k ? -top->limit : -top->items[0].rank;
}

static inline bool chosen(const struct searching *s, uint32_t row)
{
    const uint64_t *bits = s->q->chosen;
    return (s->p->live[row / 64] >> row % 64 & 1) && (!bits || (bits[row / 64] >> row % 64 & 1));
}

static inline void search_expect_row(const struct searching *s, uint32_t row, enum postings_ahead what)
{
    if (s->p->expect)
        s->p->expect(s->p->context, row, what);
}

/* The least whole bound, in units, of a row that is worth scoring. */
static inline double search_needed(const struct searching *s)
{
    double score = (double)threshold(s) * (1 - MARGIN);
    return score > 0 ? score / s->unit : 0;
}

/* The same of a sum, bound of its group included, when the parts from i on are
 * not in it. */
static inline uint16_t search_sum_needed(const struct searching *s, uint32_t i)
{
    double beside = i < s->narrow ? s->left[i] - s->left[s->narrow] : 0;
    double sum = floor(search_needed(s) - beside);
    return sum <= 1 ? 1 : sum >= UINT16_MAX ? UINT16_MAX : (uint16_t)sum;
}

/* ---- postings_plan.c */
/* The bounds of all windows, the largest first. */
void search_plan_windows(struct searching *s);
/* The lists of the query in a window; *bound of all that raise scores. `again`: they were looked up before. */
void search_find_parts(struct searching *s, const struct window *w, bool again, double *bound);
/* The parts that were found, in the order in which they are added. */
void search_order_parts(struct searching *s);
/* The unit of sums, the factors of parts, and what is left behind each. */
void search_scale_parts(struct searching *s, double bound);
/* COUNTS: codes were made for another base and slope, by which an impact grows at most by the larger of the
 * two ratios. Infinite when a query has none of what a window counts on. */
double search_growth(const struct searching *s, const struct window *w);
/* COUNTS: where rows of the window are looked up for a term. */
void search_refer(struct searching *s, const struct window *w, size_t term,
                  const struct posting_list *list);

/* ---- postings_candidates.c */
/* Are the lists of the first `parts` parts short against the window? */
bool search_are_short(const struct searching *s, uint32_t parts);
/* Score about k rows with large sums, so that there is a threshold. `parts` are added up. */
syna_rc search_prime(struct searching *s, uint32_t parts);
/* The rows that may be among the best, bounds of their groups included, into scratch->found; the parts from i
 * on are not added up. Returns how many, at most `room`. */
size_t search_collect(const struct searching *s, uint32_t i, size_t room);
/* Score them, the most promising first, until none that is left can be among the best. */
syna_rc search_score_candidates(struct searching *s, uint32_t i, size_t count);
/* The largest sum of each block of the first `rows` rows, a multiple of ACCUMULATE_BLOCK. Returns what at least
 * `wanted` of them reach, 0: fewer do. */
uint16_t search_find_maxima(struct searching *s, uint32_t rows, size_t wanted);
/* The sums that reach the limit, into scratch->found, of blocks whose maxima are known. */
size_t search_collect_blocks(const struct searching *s, uint16_t limit, size_t room);

/* ---- postings_search.c */
/* The parts [from, to) are going to be added, one after the other: `expected` postings of each. */
void search_expect_parts(struct searching *s, uint32_t from, uint32_t to);
/* Ask for the next `count` postings of them. */
void search_expect_postings(struct searching *s, uint32_t count);
/* A row that was scored; scores below zero are not its business. */
syna_rc search_offer_score(struct searching *s, uint32_t row, float score);

/* ---- postings_strong.c */
/* How many rows an approximate search for k scores. */
size_t search_near_size(size_t k);
/* The best rows of a window, by what their strongest postings add up to: into `near`. Sums are 0 again. */
void search_strong(struct searching *s);
/* Score them. */
syna_rc search_near_rows(struct searching *s);

#endif
