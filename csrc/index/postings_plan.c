/* postings_plan.c - what a search adds up: the lists of its terms in a window, which are narrow and which
 * wide, the order in which they are added, and what each can add to a row at most. Windows are searched
 * from the one on whose lists can add most. */
#include "base/internal.h"

#include "index/postings_heap.h"
#include "index/postings_searching.h"

#include <math.h>

#define SUM_MAX 65000u /* what sums of a window stay below, with 3 a list for rounding */

static bool raises(const struct searching *s, size_t term, const struct posting_list *list)
{
    return (s->q->weights[term] < 0) == list_negative(list);
}

double search_growth(const struct searching *s, const struct window *w)
{
    double growth = 1;
    if (s->p->kind == POSTINGS_WEIGHTS)
        return 1;
    if (s->q->base < w->base)
        growth = (double)w->base / (double)s->q->base;
    if (s->q->slope < w->slope)
        growth = MAX(growth, (double)w->slope / (double)s->q->slope);
    return growth;
}

/* `again`: they were looked up before. */
static const struct posting_list *lists_of_term(const struct searching *s, const struct window *w,
                                                size_t term, bool again, uint32_t *count)
{
    if (!s->found)
        return window_find(w, s->q->terms[term], count);
    struct found_lists *f = &s->found[(size_t)(w - s->p->windows) * s->q->count + term];
    if (!again)
        f->first = window_find(w, s->q->terms[term], &f->count);
    *count = f->count;
    return f->first;
}

/* Terms lie anywhere in a window: asked for together, they come at the price of
 * a few. */
static void expect_lists(const struct searching *s, const struct window *w)
{
    for (size_t i = 0; i < s->q->count; i++)
        window_expect_bucket(w, s->q->terms[i]);
    for (size_t i = 0; i < s->q->count; i++)
        window_expect_list(w, s->q->terms[i]);
}

void search_refer(struct searching *s, const struct window *w, size_t term,
                  const struct posting_list *list)
{
    s->refs[term] = (struct list_ref){list, list ? window_starts(w, list) : NULL};
}

void search_find_parts(struct searching *s, const struct window *w, bool again, double *bound)
{
    double growth = search_growth(s, w) * (1 + MARGIN);
    *bound = 0;
    s->part_count = 0;
    for (size_t i = 0; i < s->q->count; i++) {
        uint32_t found;
        const struct posting_list *list = lists_of_term(s, w, i, again, &found);
        if (s->refs)
            search_refer(s, w, i, list);
        if (s->q->weights[i] == 0)
            continue;
        for (uint32_t j = 0; j < found; j++) {
            if (!raises(s, i, &list[j])) {
                s->lowers = true;
                continue;
            }
            struct part *part = &s->unordered[s->part_count++];
            part->list = &list[j];
            part->expected = list_rows(&list[j]);
            part->bound = fabs((double)s->q->weights[i]) * (double)list[j].scale * 255 * growth;
            *bound += part->bound;
        }
    }
}

static int by_plan_bound(const void *left, const void *right)
{
    const struct plan *a = left, *b = right;
    if (a->bound != b->bound)
        return a->bound > b->bound ? -1 : 1;
    return a->window < b->window ? -1 : a->window > b->window;
}

/* A sort key that puts wide lists behind all others, first among them those
 * that add most for each of their postings. Positive floats compare as their
 * bits do. */
static uint64_t key_of(const struct part *part, bool wide, uint32_t place)
{
    float first = (float)(wide ? part->bound / list_rows(part->list) : part->bound);
    uint32_t bits;
    memcpy(&bits, &first, sizeof bits);
    return (uint64_t)wide << 63 | (uint64_t)(0x7fffffffu - bits) << 32 | place;
}

void search_order_parts(struct searching *s)
{
    uint64_t *keys = s->keys;
    s->narrow = s->part_count;
    if (s->cut > 0) {
        memcpy(s->parts, s->unordered, s->part_count * sizeof *s->parts);
        return;
    }
    for (uint32_t i = 0; i < s->part_count; i++) {
        s->unordered[i].maxima = window_maxima(s->w, s->unordered[i].list);
        keys[i] = key_of(&s->unordered[i], s->unordered[i].maxima, i);
    }
    sort_keys(keys, s->part_count);
    for (uint32_t i = 0; i < s->part_count; i++)
        s->parts[i] = s->unordered[(uint32_t)keys[i]];
    while (s->narrow > 0 && s->parts[s->narrow - 1].maxima)
        s->narrow--;
}

void search_plan_windows(struct searching *s)
{
    for (uint32_t i = 0; i < s->p->window_count; i++) {
        s->plans[i].window = i;
        expect_lists(s, &s->p->windows[i]);
        search_find_parts(s, &s->p->windows[i], false, &s->plans[i].bound);
    }
    qsort(s->plans, s->p->window_count, sizeof *s->plans, by_plan_bound);
}

void search_scale_parts(struct searching *s, double bound)
{
    s->unit = bound / (SUM_MAX - 3 * s->part_count);
    s->left[s->part_count] = 0;
    for (uint32_t i = s->part_count; i-- > 0;) {
        struct part *part = &s->parts[i];
        double units = part->bound / s->unit;
        part->factor = (uint32_t)(units / 255 * 256) + 1;
        s->left[i] = s->left[i + 1] + units + 3;
    }
}
