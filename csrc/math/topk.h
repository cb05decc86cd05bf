/* The k best of a stream of ranked rows. Smaller ranks are better; of equal ranks the smaller row
 * number (the row written earlier) is better, so the result does not depend on the order in which
 * rows are offered. */
#ifndef SYNA_MATH_TOPK_H
#define SYNA_MATH_TOPK_H

#include "base/mem.h"

struct ranked {
    float rank;
    uint32_t row;
};

/* A heap with the worst row on top. It grows as rows come in, so a huge k costs nothing. */
struct topk {
    struct ranked *items;
    size_t count, cap, k;
    float limit; /* ranks above it are refused */
};

void topk_init(struct topk *t, size_t k, float limit);
void topk_dispose(struct topk *t);

/* Would a row of this rank be taken, if its number is larger than all before? */
static inline bool topk_admits(const struct topk *t, float rank)
{
    return t->count < t->k ? rank <= t->limit : t->k > 0 && rank < t->items[0].rank;
}

/* Take the row if it is among the best so far. false = no memory; the rows so far stay. */
bool topk_offer(struct topk *t, float rank, uint32_t row);

/* Best first. Nothing can be offered afterwards. */
void topk_sort(struct topk *t);

#endif
