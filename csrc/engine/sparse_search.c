/* sparse_search.c - searches: queries are normalised as rows are, the filter becomes a bit a row, the index
 * ranks, and what the caller gets is made in one block while the lock is held: one moment of the store. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/sparse_core.h"

#include <float.h>
#include <math.h>

struct searching {
    const syna_sparse *store;
    const syna_sparse_rows *queries;
    syna_sparse_search how;
    struct buf *normal; /* of each query: as a row of the log */
    struct filter *filter;
    uint64_t *chosen;
    struct topk *tops;
    struct postings_visits visits;
    uint64_t matches;
};

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_sparse_search *given, syna_sparse_search *how)
{
    *how = (syna_sparse_search){0};
    if (given->size < offsetof(syna_sparse_search, min_score))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_sparse_search.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if ((how->flags & SYNA_SPARSE_MIN_SCORE) && isnan(how->min_score))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "min_score is NaN");
    if (!(how->recall >= 0 && how->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)how->recall);
    return SYNA_SUCCESS;
}

static syna_rc take_queries(struct searching *s, uint32_t vocabulary)
{
    const syna_sparse_rows *q = s->queries;
    for (size_t i = 0; i < q->count; i++) {
        uint64_t from = q->offsets[i], to = q->offsets[i + 1];
        char what[32] = "the query";
        if (q->count > 1)
            snprintf(what, sizeof what, "query %zu", i);
        if (to < from)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "%s: its pairs end before they begin", what);
        SYNA_TRY(sparse_row_append(&s->normal[i], q->terms ? q->terms + from : NULL,
                                   q->weights ? q->weights + from : NULL, to - from, vocabulary,
                                   NULL, 0, what));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- ranking; a lock is held */

static syna_rc select_rows(struct searching *s)
{
    const struct postings *post = s->store->post;
    uint32_t count = postings_count(post);
    s->matches = postings_live_count(post);
    if (!s->filter || count == 0)
        return SYNA_SUCCESS;
    size_t bytes = ((size_t)count / 64 + 1) * sizeof *s->chosen;
    s->chosen = mem_zalloc(bytes);
    if (!s->chosen)
        return syna_no_memory(bytes);
    return meta_select(s->store->meta, s->filter, count, postings_live(post), s->chosen,
                       &s->matches);
}

static syna_rc rank_query(struct searching *s, size_t i)
{
    const uint8_t *row = s->normal[i].bytes + SPARSE_ROW_HEAD;
    uint32_t count = load_u32(s->normal[i].bytes);
    struct postings_query query = {
        .terms = (const uint32_t *)(const void *)row,
        .weights = (const float *)(const void *)(row + (size_t)count * 4),
        .count = count,
        .chosen = s->chosen,
        .recall = s->how.recall,
    };
    float limit = s->how.flags & SYNA_SPARSE_MIN_SCORE ? -s->how.min_score : FLT_MAX;
    topk_init(&s->tops[i], (size_t)MIN(s->how.k, s->matches), limit);
    SYNA_TRY(postings_search(s->store->post, &query, &s->tops[i], &s->visits));
    topk_sort(&s->tops[i]);
    return SYNA_SUCCESS;
}

static syna_rc rank_rows(struct searching *s)
{
    SYNA_TRY(select_rows(s));
    for (size_t i = 0; i < s->queries->count; i++)
        SYNA_TRY(rank_query(s, i));
    return sparse_damage(s->store);
}

/* ---------------------------------------------------------------- the result */

struct hit_writer {
    const syna_sparse *store;
    bool metadata;
    syna_sparse_hit *next;
    char *texts;
};

static size_t text_bytes(const struct hit_writer *w, uint32_t row)
{
    size_t len;
    struct sparse_row at = {0};
    sparse_row_key(w->store, row, &len);
    if (w->metadata)
        sparse_row_at(w->store, row, &at);
    return len + 1 + (at.metadata ? at.metadata_len + 1 : 0);
}

static const char *put_text(struct hit_writer *w, const char *text, size_t len)
{
    char *at = w->texts;
    memcpy(at, text, len);
    at[len] = '\0';
    w->texts += len + 1;
    return at;
}

static void add_hit(struct hit_writer *w, uint32_t row, float score)
{
    size_t len;
    struct sparse_row at = {0};
    const char *key = sparse_row_key(w->store, row, &len);
    if (w->metadata)
        sparse_row_at(w->store, row, &at);
    *w->next = (syna_sparse_hit){.key_len = (uint32_t)len, .score = score};
    w->next->key = put_text(w, key, len);
    if (at.metadata) {
        w->next->metadata = put_text(w, at.metadata, at.metadata_len);
        w->next->metadata_len = at.metadata_len;
    }
    w->next++;
}

static syna_rc begin_hits(struct hit_writer *w, size_t count, size_t texts)
{
    size_t bytes = count * sizeof *w->next + texts;
    w->next = mem_alloc(bytes);
    if (!w->next)
        return syna_no_memory(bytes);
    w->texts = (char *)(w->next + count);
    return SYNA_SUCCESS;
}

static syna_rc collect_hits(const struct searching *s, syna_sparse_hit **hits, size_t *counts)
{
    struct hit_writer w = {s->store, s->how.flags & SYNA_SPARSE_METADATA, NULL, NULL};
    size_t total = 0, texts = 0;
    for (size_t q = 0; q < s->queries->count; q++) {
        total += counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            texts += text_bytes(&w, s->tops[q].items[i].row);
    }
    SYNA_TRY(begin_hits(&w, total, texts));
    *hits = w.next;
    for (size_t q = 0; q < s->queries->count; q++)
        for (size_t i = 0; i < s->tops[q].count; i++)
            add_hit(&w, s->tops[q].items[i].row, -s->tops[q].items[i].rank);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- searching */

static void explain(const struct searching *s, syna_sparse_explain *out)
{
    syna_sparse_explain told = {
        .size = out->size,
        .windows = (uint32_t)MIN(s->visits.windows, (uint64_t)UINT32_MAX),
        .postings = s->visits.postings,
        .scored = s->visits.rows,
        .matches = s->matches,
    };
    memcpy(out, &told, MIN((size_t)told.size, sizeof told));
}

static syna_rc search(struct searching *s, syna_sparse_hit **hits, size_t *counts)
{
    syna_sparse *store = (syna_sparse *)(uintptr_t)s->store;
    SYNA_TRY(take_queries(s, sparse_vocabulary(store)));
    if (s->how.filter)
        SYNA_TRY(filter_parse(s->how.filter, s->how.filter_len, &s->filter));
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = rank_rows(s);
    if (rc == SYNA_SUCCESS)
        rc = collect_hits(s, hits, counts);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static void dispose(struct searching *s)
{
    for (size_t i = 0; i < s->queries->count; i++) {
        if (s->tops)
            topk_dispose(&s->tops[i]);
        if (s->normal)
            buf_dispose(&s->normal[i]);
    }
    mem_free(s->tops);
    mem_free(s->normal);
    mem_free(s->chosen);
    if (s->filter)
        filter_free(s->filter);
}

syna_rc sparse_search(syna_sparse *store, const syna_sparse_rows *queries,
                      const syna_sparse_search *given, syna_sparse_hit **hits, size_t *counts)
{
    struct searching s = {.store = store, .queries = queries};
    SYNA_TRY(check_how(given, &s.how));
    size_t count = MAX(queries->count, (uint64_t)1);
    s.tops = mem_zalloc(count * sizeof *s.tops);
    s.normal = mem_zalloc(count * sizeof *s.normal);
    syna_rc rc = s.tops && s.normal ? search(&s, hits, counts)
                                    : syna_no_memory(count * sizeof *s.tops);
    dispose(&s);
    if (rc == SYNA_SUCCESS && s.how.explain)
        explain(&s, s.how.explain);
    return rc;
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(const syna_sparse *store, uint32_t flags, syna_sparse_hit **hits,
                         size_t *count)
{
    struct hit_writer w = {store, flags & SYNA_SPARSE_METADATA, NULL, NULL};
    uint32_t rows = postings_count(store->post);
    size_t texts = 0;
    for (uint32_t row = 0; row < rows; row++)
        if (sparse_is_live(store, row))
            texts += text_bytes(&w, row);
    SYNA_TRY(begin_hits(&w, postings_live_count(store->post), texts));
    *hits = w.next;
    for (uint32_t row = 0; row < rows; row++)
        if (sparse_is_live(store, row))
            add_hit(&w, row, 0);
    *count = postings_live_count(store->post);
    syna_rc rc = sparse_damage(store);
    if (rc != SYNA_SUCCESS) {
        mem_free(*hits);
        *hits = NULL;
    }
    return rc;
}

syna_rc sparse_list(syna_sparse *store, uint32_t flags, syna_sparse_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
