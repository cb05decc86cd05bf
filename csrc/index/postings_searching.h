/* A search under way, for postings_search.c and postings_strong.c, which searches approximately. */
#ifndef SYNA_INDEX_POSTINGS_SEARCHING_H
#define SYNA_INDEX_POSTINGS_SEARCHING_H

#include "index/postings_core.h"

#define MARGIN 1e-5         /* of bounds, for the rounding of floats */
#define AHEAD 4096u         /* so many postings are asked for before they are added, */
#define AT_ONCE 512u        /* as many again whenever so many were added */
#define LINE 64u            /* of the cache: bytes, and codes */

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
    struct topk near;          /* approximate searches: rows by what their sums stand for */
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
    return postings_is_live(s->p, row) && (!bits || (bits[row / 64] >> row % 64 & 1));
}

/* ---- postings_search.c */
/* The parts [from, to) are going to be added, one after the other: `expected` postings of each. */
void search_expect_parts(struct searching *s, uint32_t from, uint32_t to);
/* Ask for the next `count` postings of them. */
void search_expect_postings(struct searching *s, uint32_t count);
/* The sums that reach the limit, into scratch->found, of blocks whose maxima are known. */
size_t search_collect_blocks(const struct searching *s, uint16_t limit, size_t room);
/* A row that is going to be scored. */
void search_expect_row(const struct postings_row *row);
/* A row that was scored; scores below zero are not its business. */
syna_rc search_offer_score(struct searching *s, uint32_t row, float score);

/* ---- postings_strong.c */
/* How many rows an approximate search for k scores. */
size_t search_near_pool(size_t k);
/* The best rows of a window, by what their strongest postings add up to: into `near`. */
syna_rc search_strong(struct searching *s);
/* Score them. */
syna_rc search_near_rows(struct searching *s);

#endif
