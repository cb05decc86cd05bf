/* exact_seeker.c - what one query knows: bounds so far, suspects, and their scores.
 *
 * The limit only ever falls, and it never falls below the rank of the k-th best row: it is the k-th
 * smallest upper bound, or the k-th score, or the caller's radius. So a row that is out stays out, and
 * one of equal rank is never ruled out: ties are decided by the scores. */
#include "base/internal.h"

#include "index/exact_core.h"
#include <synadb/vector.h>

#include <float.h>

#define SUSPECTS_FIRST 256u
#define SUSPECTS_MAX 8192u /* then they are settled, which lowers the limit */
#define BUCKETS 256u
#define SCORE_ROWS 8u
#define PRUNABLE 4u /* k times this many rows are needed for bounds to rule any out */

static void set_limit(struct seeker *s, float limit)
{
    s->limit = limit;
    codes_limit_init(&s->code_limit, &s->set->codes, &s->code, limit);
}

static void lower_limit(struct seeker *s, const struct topk *best)
{
    if (best->count == best->k && best->items[0].rank < s->limit)
        set_limit(s, best->items[0].rank);
}

void seeker_init(struct seeker *s, const struct row_set *set, const float *query, uint8_t *room,
                 struct topk *top, size_t rows)
{
    *s = (struct seeker){.set = set, .query = query, .top = top, .limit = top->limit};
    s->norm = vector_norm(set->kernels, query, set->codes.dims);
    topk_init(&s->highest, top->k, FLT_MAX);
    if (top->k > 0 && top->count == top->k && top->items[0].rank < s->limit)
        s->limit = top->items[0].rank;
    s->plain = set->codes.step == 0 || set->codes.bits || (s->limit >= FLT_MAX && top->k >= rows / PRUNABLE);
    if (s->plain)
        return;
    codes_query(&set->codes, set->kernels, query, room, &s->code);
    s->plain = !(s->code.error <= FLT_MAX);
    set_limit(s, s->limit);
}

void seeker_dispose(struct seeker *s)
{
    topk_dispose(&s->highest);
    mem_free(s->suspects);
}


/* ---------------------------------------------------------------- scoring */

bool seeker_score(struct seeker *s, const uint32_t *rows, size_t count)
{
    const struct row_set *set = s->set;
    const void *full[SCORE_ROWS];
    float sums[SCORE_ROWS];
    for (size_t at = 0; at < count; at += SCORE_ROWS) {
        size_t some = MIN(count - at, (size_t)SCORE_ROWS);
        for (size_t i = 0; i < some; i++)
            full[i] = set->full(set->context, rows[at + i]);
        row_set_sums(set, s->query, full, some, sums);
        for (size_t i = 0; i < some; i++) {
            uint32_t row = rows[at + i];
            float norm = *(const float *)array_at(&set->norms, row);
            float rank = score_rank(set->codes.metric, sums[i], s->norm, norm);
            if (!topk_offer(s->top, rank, row))
                return false;
        }
    }
    s->scored += count;
    return true;
}

/* ---------------------------------------------------------------- suspects */

/* Those still possible, in the order of their lowest ranks, roughly: into as many buckets. */
static size_t sort_suspects(const struct seeker *s, struct suspect *out)
{
    size_t ends[BUCKETS + 1] = {0}, kept = 0;
    float least = s->limit;
    for (size_t i = 0; i < s->count; i++)
        least = MIN(least, s->suspects[i].lowest);
    double span = (double)s->limit - (double)least;
    double scale = span > 0 ? (BUCKETS - 1) / span : 0;
    for (int placing = 0; placing < 2; placing++) {
        for (size_t i = 0; i < s->count; i++) {
            struct suspect one = s->suspects[i];
            if (one.lowest > s->limit)
                continue;
            size_t bucket = (size_t)(((double)one.lowest - (double)least) * scale);
            if (placing)
                out[ends[bucket]++] = one;
            else
                ends[bucket + 1]++, kept++;
        }
        for (size_t b = 0; !placing && b < BUCKETS; b++)
            ends[b + 1] += ends[b];
    }
    return kept;
}

static bool score_in_order(struct seeker *s, const struct suspect *sorted, size_t count)
{
    uint32_t rows[SCORE_ROWS];
    for (size_t i = 0; i < count;) {
        size_t some = 0;
        for (; some < SCORE_ROWS && i < count; i++)
            if (sorted[i].lowest <= s->limit)
                rows[some++] = sorted[i].row;
        if (!seeker_score(s, rows, some))
            return false;
        lower_limit(s, s->top);
    }
    return true;
}

bool seeker_settle(struct seeker *s)
{
    if (s->count == 0)
        return true;
    struct suspect *sorted = mem_alloc(s->count * sizeof *sorted);
    if (!sorted)
        return false;
    bool enough = score_in_order(s, sorted, sort_suspects(s, sorted));
    mem_free(sorted);
    s->count = 0;
    return enough;
}

static bool reserve_suspect(struct seeker *s)
{
    if (s->count < s->cap)
        return true;
    if (s->count == SUSPECTS_MAX)
        return seeker_settle(s);
    size_t cap = s->cap ? MIN(2 * s->cap, (size_t)SUSPECTS_MAX) : SUSPECTS_FIRST;
    struct suspect *more = mem_resize(s->suspects, cap * sizeof *more);
    if (!more)
        return false;
    s->suspects = more;
    s->cap = cap;
    return true;
}

bool seeker_suspect(struct seeker *s, uint32_t row, int32_t integer, float error, float norm)
{
    float lowest, highest;
    codes_bounds(&s->set->codes, &s->code, integer, error, norm, &lowest, &highest);
    if (lowest > s->limit)
        return true;
    if (topk_admits(&s->highest, highest)) {
        if (!topk_offer(&s->highest, highest, row))
            return false;
        lower_limit(s, &s->highest);
    }
    if (!reserve_suspect(s))
        return false;
    s->suspects[s->count++] = (struct suspect){lowest, row};
    return true;
}
