/* vectors_read.c - get, search and list rows. A result is one block of memory with everything that it
 * points to, made while the lock is held: what the caller gets is one moment of the store. */
#include "base/internal.h"

#include "engine/vectors_core.h"

#include <float.h>
#include <math.h>

/* ---------------------------------------------------------------- single rows */

syna_rc vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, "array for the vector", dims);
    uint32_t row = vector_keys_find(&store->keys, key, key_len);
    if (rc == SYNA_SUCCESS && row != ROW_NONE)
        memcpy(out, flat_row(&store->flat, row), dims * sizeof *out);
    pthread_rwlock_unlock(&store->state_lock);
    if (rc == SYNA_SUCCESS && row == ROW_NONE)
        rc = syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                          "no row has the key %.*s", (int)MIN(key_len, (size_t)200), key);
    return rc;
}

bool vectors_contains(syna_vectors *store, const char *key, size_t key_len)
{
    pthread_rwlock_rdlock(&store->state_lock);
    bool found = vector_keys_find(&store->keys, key, key_len) != ROW_NONE;
    pthread_rwlock_unlock(&store->state_lock);
    return found;
}

uint64_t vectors_count(syna_vectors *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->flat.live;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

syna_rc vectors_get_stats(syna_vectors *store, syna_vectors_stats *out)
{
    syna_db_stats log = {.size = sizeof log};
    SYNA_TRY(db_get_stats(store->db, &log));
    syna_vectors_stats stats = {.size = out->size, .file_bytes = log.file_bytes};
    pthread_rwlock_rdlock(&store->state_lock);
    stats.dimensions = store->flat.dims;
    stats.metric = store->flat.metric;
    stats.rows = store->flat.live;
    stats.memory_bytes = flat_bytes(&store->flat) + vector_keys_bytes(&store->keys);
    snprintf(stats.simd, sizeof stats.simd, "%s", store->flat.kernels->name);
    pthread_rwlock_unlock(&store->state_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- results */

/* Fills one block: the hits, then their vectors, then their keys. */
struct result {
    const syna_vectors *store;
    syna_hit *hits;
    float *vectors; /* NULL when not asked for */
    char *keys;
};

static const struct row_name *name_of(const syna_vectors *store, uint32_t row)
{
    return vector_keys_name(&store->keys, row);
}

static syna_rc result_begin(struct result *r, const syna_vectors *store, uint32_t flags,
                            size_t count, size_t key_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->flat.dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + key_bytes;
    r->store = store;
    r->hits = mem_alloc(bytes);
    if (!r->hits)
        return syna_no_memory(bytes);
    r->vectors = row_bytes ? (float *)(void *)(r->hits + count) : NULL;
    r->keys = (char *)(r->hits + count) + count * row_bytes;
    return SYNA_SUCCESS;
}

static size_t result_key_bytes(const syna_vectors *store, uint32_t row)
{
    return row_name_key_len(name_of(store, row)) + 1;
}

static void result_add(struct result *r, syna_hit *hit, uint32_t row, float score)
{
    const struct flat *flat = &r->store->flat;
    const struct row_name *name = name_of(r->store, row);
    *hit = (syna_hit){.key = r->keys, .key_len = row_name_key_len(name), .score = score};
    memcpy(r->keys, row_name_key(name), hit->key_len + 1);
    r->keys += hit->key_len + 1;
    if (r->vectors) {
        memcpy(r->vectors, flat_row(flat, row), flat->dims * sizeof(float));
        hit->vector = r->vectors;
        r->vectors += flat->dims;
    }
}

/* ---------------------------------------------------------------- searching */

static syna_rc check_how(const syna_search *given, syna_search *how)
{
    *how = (syna_search){0};
    if (given->size < offsetof(syna_search, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_search.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if ((how->flags & SYNA_SEARCH_RADIUS) && isnan(how->radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the radius is NaN");
    return SYNA_SUCCESS;
}

static syna_rc check_query(const float *query, size_t q, uint32_t dims)
{
    if (LIKELY(vectors_finite(query, dims)))
        return SYNA_SUCCESS;
    size_t at = vector_first_not_finite(query, dims);
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "query %zu: element %zu is %f, expected a finite number", q, at,
                     (double)query[at]);
}

/* Rank every row for every query; the bests are sorted. A lock is held. */
static syna_rc rank_rows(const syna_vectors *store, const float *queries, size_t count,
                         const syna_search *how, struct topk *tops)
{
    const struct flat *flat = &store->flat;
    bool within = how->flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(flat->metric, how->radius) : FLT_MAX;
    for (size_t q = 0; q < count; q++)
        topk_init(&tops[q], (size_t)MIN(how->k, (uint64_t)flat->live), limit);
    SYNA_TRY(flat_search(flat, queries, count, tops));
    for (size_t q = 0; q < count; q++)
        topk_sort(&tops[q]);
    return SYNA_SUCCESS;
}

static syna_rc collect_hits(const syna_vectors *store, const struct topk *tops, size_t count,
                            uint32_t flags, syna_hit **hits, size_t *counts)
{
    size_t total = 0, key_bytes = 0;
    for (size_t q = 0; q < count; q++) {
        total += tops[q].count;
        for (size_t i = 0; i < tops[q].count; i++)
            key_bytes += result_key_bytes(store, tops[q].items[i].row);
    }
    struct result r;
    SYNA_TRY(result_begin(&r, store, flags, total, key_bytes));
    syna_hit *hit = r.hits;
    for (size_t q = 0; q < count; q++) {
        counts[q] = tops[q].count;
        for (size_t i = 0; i < tops[q].count; i++, hit++)
            result_add(&r, hit, tops[q].items[i].row,
                       score_final(store->flat.metric, tops[q].items[i].rank));
    }
    *hits = r.hits;
    return SYNA_SUCCESS;
}

syna_rc vectors_search(syna_vectors *store, const float *queries, size_t count, uint32_t dims,
                       const syna_search *given, syna_hit **hits, size_t *counts)
{
    syna_search how;
    SYNA_TRY(check_how(given, &how));
    SYNA_TRY(vectors_check_dims_first(store, "query", dims));
    for (size_t q = 0; q < count; q++)
        SYNA_TRY(check_query(queries + q * dims, q, dims));
    struct topk *tops = mem_zalloc(count * sizeof *tops);
    if (!tops)
        return syna_no_memory(count * sizeof *tops);

    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, "query", dims);
    if (rc == SYNA_SUCCESS)
        rc = rank_rows(store, queries, count, &how, tops);
    if (rc == SYNA_SUCCESS)
        rc = collect_hits(store, tops, count, how.flags, hits, counts);
    pthread_rwlock_unlock(&store->state_lock);

    for (size_t q = 0; q < count; q++)
        topk_dispose(&tops[q]);
    mem_free(tops);
    return rc;
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(const syna_vectors *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    const struct flat *flat = &store->flat;
    struct result r;
    size_t key_bytes = 0;
    for (uint32_t row = 0; row < flat->count; row++)
        if (flat_is_live(flat, row))
            key_bytes += result_key_bytes(store, row);
    SYNA_TRY(result_begin(&r, store, flags, flat->live, key_bytes));
    syna_hit *hit = r.hits;
    for (uint32_t row = 0; row < flat->count; row++)
        if (flat_is_live(flat, row))
            result_add(&r, hit++, row, 0);
    *hits = r.hits;
    *count = flat->live;
    return SYNA_SUCCESS;
}

syna_rc vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
