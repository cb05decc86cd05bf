/* postings_score.c - the exact score of a row. One definition for every way a
 * search takes: products in double precision, which hold a product of two
 * floats exactly, summed over ascending terms, rounded to float at the end. */
#include "base/internal.h"

#include "index/postings_core.h"

#include <float.h>

/* ---------------------------------------------------------------- terms of the
 * query by hash */

#define TABLE_TERMS_MAX 400u
#define TABLE_TRIES 64u

static uint32_t slot_of(const struct scorer *s, uint32_t term)
{
    return term * s->factor >> s->shift;
}

static void clear(struct scorer *s, size_t terms)
{
    for (size_t i = 0; i < terms; i++)
        s->table[slot_of(s, s->query->terms[i])] = (struct scorer_slot){0};
}

/* Put the terms in. When two share a slot, none stays there. */
static bool fill(struct scorer *s)
{
    const struct postings_query *q = s->query;
    for (size_t i = 0; i < q->count; i++) {
        struct scorer_slot *slot = &s->table[slot_of(s, q->terms[i])];
        if (slot->weight != 0) {
            clear(s, i);
            return false;
        }
        if (q->weights[i] != 0)
            *slot = (struct scorer_slot){q->terms[i], q->weights[i]};
    }
    return true;
}

/* A multiplier that gives every term a slot of its own makes looking up a row's
 * term one compare. There are about as many slots as pairs of terms, so every
 * second one will do. */
void scorer_init(struct scorer *s, const struct postings *p, const struct postings_query *query,
                 struct scorer_slot *room)
{
    *s = (struct scorer){.p = p, .query = query, .table = room};
    if (!room || query->count > TABLE_TERMS_MAX || p->kind == POSTINGS_COUNTS) {
        s->table = NULL;
        return;
    }
    uint32_t bits = 8;
    while (bits < 16 && 1u << bits < query->count * query->count)
        bits++;
    s->shift = 32 - bits;
    s->factor = 0x9e3779b1u;
    for (uint32_t i = 0; i < TABLE_TRIES; i++) {
        if (fill(s))
            return;
        s->factor = s->factor * 0x2c1b3c6du | 1;
    }
    s->table = NULL;
}

void scorer_dispose(struct scorer *s)
{
    if (s->table)
        clear(s, s->query->count);
}

/* ---------------------------------------------------------------- sums */

static float rounded(double sum)
{
    if (UNLIKELY(sum > FLT_MAX))
        return FLT_MAX;
    return UNLIKELY(sum < -FLT_MAX) ? -FLT_MAX : (float)sum;
}

#define TERMS_AT_ONCE 256u

/* Products of shared terms first, without a branch for the processor to guess;
 * then their sum. */
static double sum_by_table(const struct scorer *s, const struct postings_row *row)
{
    double products[TERMS_AT_ONCE + 1], sum = 0;
    const uint8_t *values = row->values;
    for (uint32_t at = 0; at < row->count; at += TERMS_AT_ONCE) {
        uint32_t end = MIN(row->count, at + TERMS_AT_ONCE), shared = 0;
        for (uint32_t i = at; i < end; i++) {
            uint32_t term = row_term(row, i);
            struct scorer_slot slot = s->table[slot_of(s, term)];
            products[shared] = (double)slot.weight * load_f32(values + (size_t)i * 4);
            shared += (slot.term == term) & (slot.weight != 0);
        }
        for (uint32_t i = 0; i < shared; i++)
            sum += products[i];
    }
    return sum;
}

static float value_at(const struct scorer *s, const struct postings_row *row, uint32_t i)
{
    const uint8_t *at = (const uint8_t *)row->values + (size_t)i * 4;
    return s->p->kind == POSTINGS_WEIGHTS
               ? load_f32(at)
               : count_impact(load_u32(at), row->length, s->query->base, s->query->slope);
}

/* Both lists ascend; the shorter one leads, the other is searched from where
 * the last term was. */
static double sum_by_search(const struct scorer *s, const struct postings_row *row)
{
    const struct postings_query *q = s->query;
    double sum = 0;
    uint32_t i = 0;
    for (size_t j = 0; j < q->count && i < row->count; j++) {
        uint32_t high = row->count, term = q->terms[j];
        if (q->weights[j] == 0)
            continue;
        for (uint32_t step = 1; i + step < high; step *= 2)
            if (row_term(row, i + step) >= term)
                high = i + step + 1;
        while (i < high) {
            uint32_t mid = i + (high - i) / 2;
            if (row_term(row, mid) < term)
                i = mid + 1;
            else
                high = mid;
        }
        if (i < row->count && row_term(row, i) == term)
            sum += (double)q->weights[j] * value_at(s, row, i);
    }
    return sum;
}

float scorer_row(const struct scorer *s, const struct postings_row *row)
{
    return rounded(s->table ? sum_by_table(s, row) : sum_by_search(s, row));
}

/* A row of a COUNTS window: each list is asked for it. */
static float score_sealed(const struct scorer *s, const struct window *w,
                          const struct list_ref *refs, uint32_t row)
{
    const struct postings_query *q = s->query;
    uint32_t length = row_length(s->p, row), found;
    double sum = 0;
    for (size_t j = 0; j < q->count; j++) {
        struct list_ref looked_up = {NULL, NULL};
        const struct list_ref *ref = refs ? &refs[j] : &looked_up;
        if (!refs)
            looked_up.list = window_find(w, q->terms[j], &found);
        if (!ref->list || q->weights[j] == 0)
            continue;
        uint32_t posting = window_posting(w, ref, row);
        if (posting != UINT32_MAX)
            sum += (double)q->weights[j] *
                   count_impact(window_count_at(w, posting), length, q->base, q->slope);
    }
    return rounded(sum);
}

float scorer_score(const struct scorer *s, const struct window *w, const struct list_ref *refs,
                   uint32_t row)
{
    struct postings_row shown;
    if (w && s->p->kind == POSTINGS_COUNTS)
        return score_sealed(s, w, refs, row);
    postings_show(s->p, row, &shown);
    return scorer_row(s, &shown);
}

float postings_score(const struct postings *p, const struct postings_query *query, uint32_t row)
{
    struct scorer s;
    scorer_init(&s, p, query, NULL);
    return scorer_score(&s, postings_window_of(p, row), NULL, row);
}
