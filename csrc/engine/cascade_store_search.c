/* cascade_store_search.c - one search: which way it takes, and what comes back.
 *
 *   no index yet, few rows match        every matching row is scored
 *   exact by wish, or cheaper so        every code is looked at, and the rows that could matter are
 * scored otherwise                           hash, buckets and graph; and all rows that are not
 * linked yet
 *
 * How wide the walk is follows from the recall that is wanted, as it was measured. A search that
 * comes home with fewer rows than there are, because they are dead or filtered out, looks at every
 * code. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

#include <float.h>
#include <math.h>

#define SCORE_ROWS 64u   /* a word of live bits */
#define EXACT_SHARE 4u   /* asking for a quarter of the rows: looking at all of them is as quick */
#define DIRECT_ROWS 512u /* so few matches are always scored */
#define HOP_CODES 16u    /* codes that a step of the walk costs, with what else it does */
#define MARGIN 0.01f     /* on a recall that is wanted: what was measured is a sample */

struct searching {
    const syna_buckets *store;
    const float *queries;
    size_t count;
    syna_buckets_search_options how;
    syna_buckets_explain explain;
    struct bucket_rows rows;
    struct row_set set;
    struct filter *filter;
    uint64_t *bits; /* of the filter; NULL: none */
    const uint64_t *chosen;
    uint64_t matches;
    struct topk *tops;
};

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_buckets_search_options *given, syna_buckets_search_options *how)
{
    *how = (syna_buckets_search_options){0};
    if (given->size < offsetof(syna_buckets_search_options, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_buckets_search_options.size is %u, expected %zu", given->size,
                         sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT |
                        SYNA_SEARCH_METADATA))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "flags are %#x; this index takes VECTORS, RADIUS, EXACT and METADATA", how->flags);
    if ((how->flags & SYNA_SEARCH_RADIUS) && isnan(how->radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the radius is NaN");
    if (!(how->recall >= 0 && how->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)how->recall);
    if (how->nprobe > CASCADE_PROBES_MAX || how->ef_search > CASCADE_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%u probes and an ef_search of %u, expected at most %u and %u",
                         how->nprobe, how->ef_search, CASCADE_PROBES_MAX, CASCADE_EF_MAX);
    return SYNA_SUCCESS;
}

static syna_rc check_queries(const struct searching *s, uint32_t dims)
{
    for (size_t q = 0; q < s->count; q++) {
        size_t at = vector_first_not_finite(s->queries + q * dims, dims);
        if (at < dims)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "query %zu: element %zu is %f, expected a finite number", q, at,
                             (double)s->queries[q * dims + at]);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- scoring in full */

struct few_rows {
    uint32_t rows[SCORE_ROWS];
    const void *full[SCORE_ROWS];
    uint32_t count;
};

static syna_rc take_word(struct searching *s, uint32_t word, uint32_t first, struct few_rows *out)
{
    const struct mmap_rows *rows = &s->store->rows;
    uint32_t start = word * SCORE_ROWS, some = MIN(rows->count - start, SCORE_ROWS);
    uint64_t bits = s->chosen[word];
    out->count = 0;
    if (first > start)
        bits &= UINT64_MAX << (first - start);
    if (bits == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_touch(rows->file, start, some));
    for (; bits; bits &= bits - 1) {
        uint32_t row = start + (uint32_t)__builtin_ctzll(bits);
        out->full[out->count] = mmap_rows_vector(rows, row);
        out->rows[out->count++] = row;
    }
    return SYNA_SUCCESS;
}

static bool score_few(struct searching *s, const struct few_rows *few, size_t q, float query_norm)
{
    const syna_buckets *store = s->store;
    const float *query = s->queries + q * store->dims, *norms = mmap_rows_norms(&store->rows);
    float sums[SCORE_ROWS];
    if (store->metric == SYNA_METRIC_EUCLIDEAN)
        store->kernels->l2sq_many(query, few->full, few->count, store->dims, sums);
    else
        store->kernels->dot_many(query, few->full, few->count, store->dims, sums);
    for (uint32_t i = 0; i < few->count; i++) {
        float rank = score_rank(store->metric, sums[i], query_norm, norms[few->rows[i]]);
        if (!topk_offer(&s->tops[q], rank, few->rows[i]))
            return false;
    }
    s->explain.full += few->count;
    return true;
}

/* Every chosen row from `first` on. */
static syna_rc score_from(struct searching *s, uint32_t first)
{
    const syna_buckets *store = s->store;
    uint32_t words = (store->rows.count + SCORE_ROWS - 1) / SCORE_ROWS;
    if (first >= store->rows.count)
        return SYNA_SUCCESS;
    float *norms = mem_alloc(s->count * sizeof *norms);
    syna_rc rc = norms ? SYNA_SUCCESS : syna_no_memory(s->count * sizeof *norms);
    for (size_t q = 0; norms && q < s->count; q++)
        norms[q] = vector_norm(store->kernels, s->queries + q * store->dims, store->dims);
    for (uint32_t word = first / SCORE_ROWS; rc == SYNA_SUCCESS && word < words; word++) {
        struct few_rows few;
        rc = take_word(s, word, first, &few);
        for (size_t q = 0; rc == SYNA_SUCCESS && few.count && q < s->count; q++)
            if (!score_few(s, &few, q, norms[q]))
                rc = syna_no_memory(sizeof(struct ranked));
    }
    mem_free(norms);
    return rc;
}

/* ---------------------------------------------------------------- the way */

enum way { SCORE_ALL, ALL_CODES, WALK };

static bool must_be_exact(const struct searching *s)
{
    return (s->how.flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) || s->how.recall >= 1;
}

/* Half the way to all of them where the margin would ask for more. */
static float with_margin(float recall)
{
    return recall + MIN(MARGIN, (1 - recall) / 2);
}

/* The width of the walk; 0 = every code is looked at. */
static uint32_t width(struct searching *s)
{
    const struct cascade *index = &s->store->index;
    uint32_t k = (uint32_t)MIN(s->how.k, (uint64_t)CASCADE_EF_MAX);
    if (s->how.ef_search > 0 && s->how.recall <= 0) {
        s->explain.recall = cascade_recall_at(index, k, s->how.ef_search);
        return MAX(s->how.ef_search, k);
    }
    float recall = s->how.recall > 0 ? s->how.recall : s->store->recall;
    return cascade_ef_for(index, k, with_margin(recall), &s->explain.recall);
}

/* Rows that are dead or filtered out take places in the walk: it has to be so much wider. */
static enum way choose_way(struct searching *s, uint32_t *ef)
{
    const struct cascade *index = &s->store->index;
    *ef = 0;
    if (index->linked == 0 || s->matches <= DIRECT_ROWS)
        return SCORE_ALL;
    if (must_be_exact(s) || s->how.k > s->matches / EXACT_SHARE)
        return ALL_CODES;
    uint64_t wanted = width(s);
    uint64_t stones = index->linked - s->store->dead_before;
    wanted = (wanted * stones + s->matches - 1) / s->matches;
    if (wanted == 0 || wanted > CASCADE_EF_MAX ||
        (s->matches < s->store->rows.live && wanted * HOP_CODES > s->matches))
        return ALL_CODES;
    *ef = (uint32_t)wanted;
    return WALK;
}

static syna_rc look_at_all(struct searching *s)
{
    uint32_t linked = s->store->index.linked;
    s->explain.plan = SYNA_PLAN_EXACT;
    s->explain.recall = 1;
    s->explain.codes += linked * (uint64_t)s->count;
    SYNA_TRY(exact_search(&s->set, 0, linked, s->chosen, s->queries, s->count, s->tops,
                          &s->explain.full));
    return score_from(s, linked);
}

static syna_rc walk_all(struct searching *s, uint32_t ef)
{
    const syna_buckets *store = s->store;
    struct cascade *index =
        (struct cascade *)(uintptr_t)&store->index; /* whose scratch has a lock */
    struct cascade_visits visits = {0};
    bool all = s->matches == store->rows.live &&
               index->filed + store->dead_before == index->linked;
    for (size_t q = 0; q < s->count; q++) {
        const float *vector = s->queries + q * store->dims;
        struct cascade_query query = {.vector = vector,
                                      .norm = vector_norm(store->kernels, vector, store->dims),
                                      .ef = ef,
                                      .probes =
                                          s->how.nprobe ? s->how.nprobe : store->params.probes,
                                      .chosen = all ? NULL : s->chosen,
                                      .without = CASCADE_NONE};
        SYNA_TRY(cascade_search(index, &s->set, &query, &s->tops[q], &visits));
    }
    s->explain.plan = SYNA_PLAN_GRAPH;
    s->explain.ef = ef;
    s->explain.buckets += visits.buckets;
    s->explain.codes += visits.codes;
    s->explain.full += visits.full;
    s->explain.hops += visits.hops;
    return score_from(s, index->linked);
}

static bool complete(const struct searching *s)
{
    size_t wanted = (size_t)MIN(s->how.k, s->matches);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

/* ---------------------------------------------------------------- the search */

static syna_rc choose_rows(struct searching *s)
{
    const struct mmap_rows *rows = &s->store->rows;
    s->chosen = mmap_rows_live(rows);
    s->matches = rows->live;
    if (!s->filter || rows->count == 0)
        return SYNA_SUCCESS;
    size_t words = (rows->count + 63) / 64;
    s->bits = mem_alloc(words * sizeof *s->bits);
    if (!s->bits)
        return syna_no_memory(words * sizeof *s->bits);
    SYNA_TRY(meta_select(s->store->meta, s->filter, rows->count, s->chosen, s->bits, &s->matches));
    s->chosen = s->bits;
    return SYNA_SUCCESS;
}

static void start_tops(struct searching *s)
{
    bool within = s->how.flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(s->store->metric, s->how.radius) : FLT_MAX;
    for (size_t q = 0; q < s->count; q++) {
        topk_dispose(&s->tops[q]);
        topk_init(&s->tops[q], (size_t)MIN(s->how.k, s->matches), limit);
    }
}

static syna_rc rank_rows(struct searching *s)
{
    uint32_t ef;
    enum way way = choose_way(s, &ef);
    start_tops(s);
    if (way == SCORE_ALL) {
        s->explain.plan = SYNA_PLAN_SCAN;
        s->explain.recall = 1;
        return score_from(s, 0);
    }
    if (way == ALL_CODES)
        return look_at_all(s);
    SYNA_TRY(walk_all(s, ef));
    if (complete(s))
        return SYNA_SUCCESS;
    start_tops(s);
    return look_at_all(s);
}

static syna_rc collect_hits(const struct searching *s, syna_hit **hits, size_t *counts)
{
    const syna_buckets *store = s->store;
    size_t total = 0, text_bytes = 0;
    for (size_t q = 0; q < s->count; q++) {
        topk_sort(&s->tops[q]);
        total += s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            text_bytes += bucket_hits_text_bytes(store, s->how.flags, s->tops[q].items[i].row);
    }
    struct bucket_hits b;
    SYNA_TRY(bucket_hits_begin(&b, store, s->how.flags, total, text_bytes));
    syna_hit *hit = b.hits;
    for (size_t q = 0; q < s->count; q++) {
        counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            bucket_hits_add(&b, hit++, s->tops[q].items[i].row,
                            score_final(store->metric, s->tops[q].items[i].rank));
    }
    *hits = b.hits;
    return SYNA_SUCCESS;
}

static syna_rc search_locked(struct searching *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    SYNA_TRY(cascade_store_check_dims(s->store, "query", dims));
    SYNA_TRY(check_queries(s, dims));
    cascade_store_row_set(&s->rows, &s->set);
    SYNA_TRY(choose_rows(s));
    SYNA_TRY(rank_rows(s));
    if (s->rows.damaged)
        return status_set(&s->rows.why);
    s->explain.buckets_there = s->store->index.leaf_count;
    s->explain.matches = s->matches;
    s->explain.total = s->store->rows.live;
    return collect_hits(s, hits, counts);
}

static void give_explain(const struct searching *s)
{
    syna_buckets_explain *to = s->how.explain, from = s->explain;
    if (!to)
        return;
    from.size = to->size;
    memcpy(to, &from, MIN((size_t)to->size, sizeof from));
}

syna_rc cascade_store_search(syna_buckets *store, const float *queries, size_t count, uint32_t dims,
                             const syna_buckets_search_options *given, syna_hit **hits,
                             size_t *counts)
{
    struct searching s = {.store = store, .queries = queries, .count = count, .rows.store = store};
    SYNA_TRY(check_how(given, &s.how));
    if (s.how.filter)
        SYNA_TRY(filter_parse(s.how.filter, s.how.filter_len, &s.filter));
    s.tops = mem_zalloc(count * sizeof *s.tops);
    syna_rc rc = s.tops ? SYNA_SUCCESS : syna_no_memory(count * sizeof *s.tops);
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_rdlock(&store->state_lock);
        rc = cascade_store_note_damage(store, search_locked(&s, dims, hits, counts));
        pthread_rwlock_unlock(&store->state_lock);
        for (size_t q = 0; q < count; q++)
            topk_dispose(&s.tops[q]);
    }
    if (rc == SYNA_SUCCESS)
        give_explain(&s);
    mem_free(s.tops);
    mem_free(s.bits);
    if (s.filter)
        filter_free(s.filter);
    return rc;
}
