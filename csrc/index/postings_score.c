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

static struct query_slot *slot_of(const struct scorer *s, uint32_t term)
{
    return &s->slots[term * s->table.factor >> s->table.shift];
}

static void clear(struct scorer *s, size_t terms)
{
    for (size_t i = 0; i < terms; i++)
        *slot_of(s, s->query->terms[i]) = (struct query_slot){0};
}

/* Put the terms in. When two share a slot, none stays there. */
static bool fill(struct scorer *s)
{
    const struct postings_query *q = s->query;
    for (size_t i = 0; i < q->count; i++) {
        struct query_slot *slot = slot_of(s, q->terms[i]);
        if (slot->weight != 0) {
            clear(s, i);
            return false;
        }
        if (q->weights[i] != 0)
            *slot = (struct query_slot){q->terms[i], q->weights[i]};
    }
    return true;
}

static void fill_filter(struct scorer *s)
{
    const struct postings_query *q = s->query;
    for (size_t i = 0; i < q->count; i++) {
        uint32_t bit = query_bit(&s->table, q->terms[i]);
        s->table.filter[bit / 32] |= 1u << bit % 32;
    }
}

/* A multiplier that gives every term a slot of its own makes looking up a row's
 * term one compare. There are about as many slots as pairs of terms, so every
 * second one will do. */
static bool make_table(struct scorer *s)
{
    struct query_table *t = &s->table;
    size_t count = s->query->count;
    uint32_t bits = 8;
    while (bits < 16 && 1u << bits < count * count)
        bits++;
    t->shift = 32 - bits;
    t->factor = 0x9e3779b1u;
    for (uint32_t i = 0; i < TABLE_TRIES; i++) {
        if (fill(s)) {
            fill_filter(s);
            return true;
        }
        t->factor = t->factor * 0x2c1b3c6du | 1;
    }
    return false;
}

void scorer_init(struct scorer *s, const struct postings *p, const struct postings_query *query,
                 struct query_slot *room)
{
    *s = (struct scorer){.p = p, .query = query, .slots = room, .table.slots = room};
    s->by = accumulate_get();
    if (!room || query->count > TABLE_TERMS_MAX || p->kind == POSTINGS_COUNTS || !make_table(s))
        s->slots = NULL;
}

void scorer_dispose(struct scorer *s)
{
    if (s->slots)
        clear(s, s->query->count);
}

/* ---------------------------------------------------------------- sums */

static float rounded(double sum)
{
    if (UNLIKELY(sum > FLT_MAX))
        return FLT_MAX;
    return UNLIKELY(sum < -FLT_MAX) ? -FLT_MAX : (float)sum;
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
    return rounded(s->slots ? s->by->dot(&s->table, row->terms, row->values, row->count)
                            : sum_by_search(s, row));
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
