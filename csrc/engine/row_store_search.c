/* row_store_search.c - what searches of all components share: the checks, the rows that a filter leaves,
 * the scoring of full rows that no index has, and the results. Which way a search takes is the component's
 * business. */
#include "base/internal.h"

#include "engine/row_store.h"

#include <float.h>
#include <math.h>

#define SCORE_ROWS 64u /* a word of live bits */

/* ---------------------------------------------------------------- arguments */

static syna_rc check_numbers(const struct row_search *s)
{
    const struct row_store_kind *kind = s->store->kind;
    uint32_t metadata = kind->metadata ? SYNA_SEARCH_METADATA : 0;
    if (s->flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT | metadata))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "flags are %#x; this %s takes VECTORS, RADIUS%s", s->flags, kind->noun,
                         metadata ? ", EXACT and METADATA" : " and EXACT");
    if ((s->flags & SYNA_SEARCH_RADIUS) && isnan(s->radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the radius is NaN");
    if (!(s->recall >= 0 && s->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)s->recall);
    return SYNA_SUCCESS;
}

static syna_rc check_queries(const struct row_search *s, uint32_t dims)
{
    SYNA_TRY(row_store_check_dims(s->store, "query", dims));
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

static syna_rc take_word(const struct row_search *s, uint32_t word, uint32_t first,
                         struct few_rows *out)
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

static bool score_few(struct row_search *s, const struct few_rows *few, size_t q, float query_norm)
{
    const struct row_store *store = s->store;
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
    s->scored += few->count;
    return true;
}

float *row_search_norms(const struct row_search *s)
{
    const struct row_store *store = s->store;
    float *norms = mem_alloc(s->count * sizeof *norms);
    for (size_t q = 0; norms && q < s->count; q++)
        norms[q] = vector_norm(store->kernels, s->queries + q * store->dims, store->dims);
    return norms;
}

syna_rc row_search_score(struct row_search *s, uint32_t first)
{
    const struct row_store *store = s->store;
    uint32_t words = (store->rows.count + SCORE_ROWS - 1) / SCORE_ROWS;
    if (first >= store->rows.count)
        return SYNA_SUCCESS;
    float *norms = row_search_norms(s);
    syna_rc rc = norms ? SYNA_SUCCESS : syna_no_memory(s->count * sizeof *norms);
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

/* ---------------------------------------------------------------- rows and tops */

static syna_rc choose_rows(struct row_search *s)
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

void row_search_start(struct row_search *s)
{
    bool within = s->flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(s->store->metric, s->radius) : FLT_MAX;
    for (size_t q = 0; q < s->count; q++) {
        topk_dispose(&s->tops[q]);
        topk_init(&s->tops[q], (size_t)MIN(s->k, s->matches), limit);
    }
}

bool row_search_is_complete(const struct row_search *s)
{
    size_t wanted = (size_t)MIN(s->k, s->matches);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

/* ---------------------------------------------------------------- the search */

static syna_rc collect_hits(const struct row_search *s, syna_hit **hits, size_t *counts)
{
    const struct row_store *store = s->store;
    size_t total = 0, text_bytes = 0;
    for (size_t q = 0; q < s->count; q++) {
        topk_sort(&s->tops[q]);
        total += s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            text_bytes += row_hits_text_bytes(store, s->flags, s->tops[q].items[i].row);
    }
    struct row_hits b;
    SYNA_TRY(row_hits_begin(&b, store, s->flags, total, text_bytes));
    syna_hit *hit = b.hits;
    for (size_t q = 0; q < s->count; q++) {
        counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            row_hits_add(&b, hit++, s->tops[q].items[i].row,
                         score_final(store->metric, s->tops[q].items[i].rank));
    }
    *hits = b.hits;
    return SYNA_SUCCESS;
}

static syna_rc search_locked(struct row_search *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    SYNA_TRY(check_queries(s, dims));
    row_reader_init(&s->reader, s->store->rows.file);
    SYNA_TRY(choose_rows(s));
    row_search_start(s);
    SYNA_TRY(s->rank(s));
    SYNA_TRY(row_reader_end(&s->reader));
    return collect_hits(s, hits, counts);
}

static syna_rc search(struct row_search *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    struct row_store *store = s->store;
    s->tops = mem_zalloc(s->count * sizeof *s->tops);
    if (!s->tops)
        return syna_no_memory(s->count * sizeof *s->tops);
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = row_store_note_damage(store, search_locked(s, dims, hits, counts));
    pthread_rwlock_unlock(&store->state_lock);
    for (size_t q = 0; q < s->count; q++)
        topk_dispose(&s->tops[q]);
    mem_free(s->tops);
    return rc;
}

syna_rc row_search_run(struct row_search *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    SYNA_TRY(check_numbers(s));
    if (s->filter_json)
        SYNA_TRY(filter_parse(s->filter_json, s->filter_len, &s->filter));
    syna_rc rc = search(s, dims, hits, counts);
    mem_free(s->bits);
    if (s->filter)
        filter_free(s->filter);
    return rc;
}
