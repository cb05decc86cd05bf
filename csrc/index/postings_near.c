/* postings_near.c - how strong the postings are that an approximate search adds up: a posting is left out
 * that adds less than the cut, a share of what the query's lists add at most together (postings_strong.c).
 *
 * What is found when postings are left out depends on the rows: it is measured on them. Queries are made of
 * rows that are there and searched exactly and with every cut: a sixth of the terms of one and a twelfth of
 * each of two others, and twice as many every second time, for long queries lose more than short ones. What
 * counts is the kind that finds less. The first row is left out of both: it is found too easily. The same
 * rows give the same figures. Searches for more than ten rows are measured apart. Nothing of it is saved: to measure takes a fraction of a second. */
#include "base/internal.h"

#include "index/postings_core.h"

#include <float.h>

#define QUERIES 256u
#define SOURCES 3u
#define TERMS_MAX 1024u /* of a query */
#define TERMS_LEAST 4u  /* of a row, if it has them */
#define ASIDE 0.25f     /* of what may be missed is kept in hand: no sample is like the queries to come */
#define STALE 1.5       /* so many times as many rows, or fewer: measured again */

/* Rows asked for, of which one is the row that the query was made of: the more are wanted, the more are missed. */
static const size_t ks[NEAR_RANGES] = {[NEAR_FEW] = 11, [NEAR_MANY] = 101};

static const float cuts[NEAR_CUTS] = {0.15f, 0.23f, 0.3f, 0.45f, 0.6f, 0.75f,
                                      0.9f,  1.2f,  1.5f, 2.0f,  2.4f, 3.0f};

enum kind { SHORT, LONG, KINDS }; /* of queries */

struct term_weight {
    uint32_t term;
    float weight;
};

struct measuring {
    const struct postings *p;
    size_t k;
    uint32_t rows[QUERIES];
    uint32_t count;
    struct term_weight pairs[SOURCES * TERMS_MAX];
    uint32_t terms[SOURCES * TERMS_MAX];
    float weights[SOURCES * TERMS_MAX];
    uint64_t wanted[KINDS], found[KINDS][NEAR_CUTS];
};

/* Rows at equal distances, the next live one each. */
static void pick_rows(struct measuring *m)
{
    uint32_t count = postings_count(m->p), last = UINT32_MAX;
    for (uint32_t i = 0; i < QUERIES; i++) {
        uint32_t row = (uint32_t)((uint64_t)count * i / QUERIES);
        while (row < count && !postings_is_live(m->p, row))
            row++;
        if (row < count && row != last)
            m->rows[m->count++] = last = row;
    }
}

/* Some `share`-th of a row's terms, which ones by their numbers. */
static uint32_t take_terms(struct measuring *m, uint32_t row, uint32_t share, uint32_t at)
{
    struct postings_row shown;
    postings_show(m->p, row, &shown);
    uint32_t wanted = MIN(MIN(MAX(shown.count / share, TERMS_LEAST), shown.count), TERMS_MAX);
    for (uint32_t i = 0, taken = 0; i < shown.count && taken < wanted; i++) {
        uint32_t term = row_term(&shown, i);
        if ((term * 0x9e3779b1u >> 8) % (shown.count - i) >= wanted - taken)
            continue;
        float weight = load_f32((const uint8_t *)shown.values + (size_t)i * 4);
        m->pairs[at++] = (struct term_weight){term, weight};
        taken++;
    }
    return at;
}

static int by_term(const void *left, const void *right)
{
    const struct term_weight *a = left, *b = right;
    if (a->term != b->term)
        return a->term < b->term ? -1 : 1;
    return a->weight < b->weight ? -1 : a->weight > b->weight;
}

static struct postings_query make_query(struct measuring *m, uint32_t i, enum kind kind)
{
    uint32_t pairs = 0, count = 0, part = kind == LONG ? 3 : 6;
    pairs = take_terms(m, m->rows[i], part, pairs);
    pairs = take_terms(m, m->rows[(i * 7 + 13) % m->count], 2 * part, pairs);
    pairs = take_terms(m, m->rows[(i * 11 + 29) % m->count], 2 * part, pairs);
    qsort(m->pairs, pairs, sizeof *m->pairs, by_term);
    for (uint32_t j = 0; j < pairs; j++) {
        if (count > 0 && m->terms[count - 1] == m->pairs[j].term)
            continue;
        m->terms[count] = m->pairs[j].term;
        m->weights[count++] = m->pairs[j].weight;
    }
    return (struct postings_query){.terms = m->terms, .weights = m->weights, .count = count};
}

/* How many of the rows of `best`, without `own`, are in `top`. */
static uint32_t count_common(const struct topk *best, const struct topk *top, uint32_t own)
{
    uint32_t common = 0;
    for (size_t i = 0; i < best->count; i++)
        for (size_t j = 0; j < top->count && best->items[i].row != own; j++)
            common += best->items[i].row == top->items[j].row;
    return common;
}

static syna_rc measure_query(struct measuring *m, uint32_t i)
{
    enum kind kind = i % 2 ? LONG : SHORT;
    struct postings_query query = make_query(m, i, kind);
    struct topk best, top;
    topk_init(&best, m->k, FLT_MAX);
    syna_rc rc = search_cut(m->p, &query, 0, &best, NULL);
    m->wanted[kind] += count_common(&best, &best, m->rows[i]);
    for (uint32_t c = 0; rc == SYNA_SUCCESS && c < NEAR_CUTS; c++) {
        topk_init(&top, m->k, FLT_MAX);
        rc = search_cut(m->p, &query, (double)cuts[c], &top, NULL);
        m->found[kind][c] += count_common(&best, &top, m->rows[i]);
        topk_dispose(&top);
    }
    topk_dispose(&best);
    return rc;
}

static float reached_by(const struct measuring *m, enum kind kind, uint32_t c)
{
    return m->wanted[kind] ? (float)m->found[kind][c] / (float)m->wanted[kind] : 1;
}

/* A wider cut never counts as better. */
static void conclude(const struct measuring *m, struct near_curve *curve)
{
    float least = 1;
    for (uint32_t c = 0; c < NEAR_CUTS; c++) {
        least = MIN(least, MIN(reached_by(m, SHORT, c), reached_by(m, LONG, c)));
        curve->reached[c] = least;
    }
    curve->live = m->p->live_count;
}

static syna_rc measure(const struct postings *p, enum near_range range, struct near_curve *curve)
{
    struct measuring *m = mem_zalloc(sizeof *m);
    if (!m)
        return syna_no_memory(sizeof *m);
    m->p = p;
    m->k = ks[range];
    pick_rows(m);
    syna_rc rc = SYNA_SUCCESS;
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < m->count; i++)
        rc = measure_query(m, i);
    conclude(m, curve);
    mem_free(m);
    return rc;
}

static bool is_stale(const struct near_curve *curve, uint32_t live)
{
    return curve->live == 0 || live > curve->live * STALE || live * STALE < curve->live;
}

/* The curve as it is known, or measured now. Threads that come at the same time measure the same. */
static syna_rc take_curve(const struct postings *p, enum near_range range, struct near_curve *curve)
{
    struct postings *own = (struct postings *)(uintptr_t)p; /* it has a lock, so that searches may share it */
    pthread_mutex_lock(&own->idle_lock);
    *curve = own->near[range];
    pthread_mutex_unlock(&own->idle_lock);
    if (!is_stale(curve, p->live_count))
        return SYNA_SUCCESS;
    SYNA_TRY(measure(p, range, curve));
    pthread_mutex_lock(&own->idle_lock);
    own->near[range] = *curve;
    pthread_mutex_unlock(&own->idle_lock);
    return SYNA_SUCCESS;
}

syna_rc near_cut(const struct postings *p, size_t k, float recall, double *cut)
{
    enum near_range range = k < ks[NEAR_FEW] ? NEAR_FEW : NEAR_MANY;
    struct near_curve curve;
    *cut = 0;
    if (p->kind == POSTINGS_COUNTS || p->window_count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(take_curve(p, range, &curve));
    recall += (1 - recall) * ASIDE;
    for (uint32_t c = 0; c < NEAR_CUTS && curve.reached[c] >= recall; c++) {
        *cut = (double)cuts[c];
        if (c + 1 < NEAR_CUTS && curve.reached[c + 1] < recall) /* on the line between the two */
            *cut += (double)((cuts[c + 1] - cuts[c]) * (curve.reached[c] - recall) /
                             (curve.reached[c] - curve.reached[c + 1]));
    }
    return SYNA_SUCCESS;
}
