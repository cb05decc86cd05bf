/* The inside of the exact search; for the exact*.c files, and for hnsw_filtered.c, whose candidates are
 * scored in the same way. */
#ifndef SYNA_INDEX_EXACT_CORE_H
#define SYNA_INDEX_EXACT_CORE_H

#include "base/mem.h"
#include "index/exact.h"

/* A row that could be among the k best: no smaller rank than `lowest` is possible. */
struct suspect {
    float lowest;
    uint32_t row;
};

/* One query's search. */
struct seeker {
    const struct row_set *set;
    const float *query;
    float norm;
    struct code_query code;
    struct topk *top;
    struct topk highest; /* the k smallest upper bounds: the worst of them bounds the k-th rank */
    float limit;         /* a row whose lowest possible rank is above it is out */
    struct code_limit code_limit; /* the same for integers */
    bool plain;          /* codes say nothing: every row is scored */
    struct suspect *suspects;
    size_t count, cap;
    uint64_t scored;
};

/* `room`: set->codes.stride bytes, aligned to 64, for the seeker's life. `rows`: how many there are to
 * search. */
void seeker_init(struct seeker *s, const struct row_set *set, const float *query, uint8_t *room,
                 struct topk *top, size_t rows);
void seeker_dispose(struct seeker *s);
/* A row whose integer did not rule it out. false = no memory, as below. */
bool seeker_suspect(struct seeker *s, uint32_t row, int32_t integer, float error, float norm);
/* Score rows whatever their codes say. */
bool seeker_score(struct seeker *s, const uint32_t *rows, size_t count);
/* Score the suspects that are still possible. */
bool seeker_settle(struct seeker *s);

#endif
