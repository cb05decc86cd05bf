/* mmap_vectors_read.c - get, view, search and list rows. A result is one block of memory with everything
 * that it points to, made while state_lock is held: what the caller gets is one moment of the store. A
 * view points into the mapping, and holds the file that it is of. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

#include <float.h>
#include <math.h>

struct syna_mmap_pin {
    struct rowfile *file;
};

/* ---------------------------------------------------------------- look-ups */

/* Take state_lock shared with the key table built. On failure it is not held. */
static syna_rc begin_lookup(syna_mmap *store)
{
    for (;;) {
        pthread_rwlock_rdlock(&store->state_lock);
        if (LIKELY(store->rows.slots != NULL))
            return SYNA_SUCCESS;
        pthread_rwlock_unlock(&store->state_lock);
        pthread_rwlock_wrlock(&store->state_lock);
        syna_rc rc = mmap_keys_build(&store->rows);
        pthread_rwlock_unlock(&store->state_lock);
        SYNA_TRY(mmap_vectors_note_damage(store, rc));
    }
}

static uint32_t find(const syna_mmap *store, const char *key, size_t len)
{
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, len), key, len);
    return slot == store->rows.slot_count ? MMAP_ROW_NONE : store->rows.slots[slot].row;
}

/* The row of a key, its block checked. begin_lookup was called. */
static syna_rc find_row(syna_mmap *store, const char *key, size_t key_len, uint32_t *row)
{
    *row = find(store, key, key_len);
    if (*row == MMAP_ROW_NONE)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, store->path, -1, 0,
                            "no row has the key %.*s", (int)MIN(key_len, (size_t)200), key);
    return mmap_vectors_note_damage(store, rowfile_touch(store->rows.file, *row, 1));
}

syna_rc mmap_vectors_get(syna_mmap *store, const char *key, size_t key_len, float *out,
                         uint32_t dims)
{
    uint32_t row;
    SYNA_TRY(begin_lookup(store));
    syna_rc rc = mmap_vectors_check_dims(store, "array for the vector", dims);
    if (rc == SYNA_SUCCESS)
        rc = find_row(store, key, key_len, &row);
    if (rc == SYNA_SUCCESS)
        memcpy(out, mmap_rows_vector(&store->rows, row), dims * sizeof *out);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc mmap_vectors_view(syna_mmap *store, const char *key, size_t key_len, const float **out,
                          syna_mmap_pin **pin)
{
    uint32_t row;
    struct syna_mmap_pin *hold = mem_alloc(sizeof *hold);
    if (!hold)
        return syna_no_memory(sizeof *hold);
    syna_rc rc = begin_lookup(store);
    if (rc == SYNA_SUCCESS) {
        rc = find_row(store, key, key_len, &row);
        if (rc == SYNA_SUCCESS) {
            *out = mmap_rows_vector(&store->rows, row);
            hold->file = rowfile_ref(store->rows.file);
        }
        pthread_rwlock_unlock(&store->state_lock);
    }
    if (rc == SYNA_SUCCESS)
        *pin = hold;
    else
        mem_free(hold);
    return rc;
}

void mmap_vectors_unpin(syna_mmap_pin *pin)
{
    if (!pin)
        return;
    rowfile_unref(pin->file);
    mem_free(pin);
}

syna_rc mmap_vectors_contains(syna_mmap *store, const char *key, size_t key_len, bool *found)
{
    SYNA_TRY(begin_lookup(store));
    *found = find(store, key, key_len) != MMAP_ROW_NONE;
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

uint64_t mmap_vectors_count(syna_mmap *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->rows.live;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

syna_rc mmap_vectors_get_stats(syna_mmap *store, syna_mmap_stats *out)
{
    syna_mmap_stats stats = {.size = out->size};
    pthread_mutex_lock(&store->write_lock); /* not checkpoint_lock, which is held across syncs */
    pthread_rwlock_rdlock(&store->state_lock);
    const struct rowfile *file = store->rows.file;
    stats.dimensions = store->dims;
    stats.metric = store->metric;
    stats.rows = store->rows.live;
    stats.dead_rows = store->rows.count - store->rows.live;
    stats.capacity = file->streams[STREAM_ROWS].room / file->row_bytes;
    stats.unsaved_rows = rowfile_rows(file) -
                         __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
    stats.checkpoints = __atomic_load_n(&file->sequence, __ATOMIC_RELAXED);
    stats.generation = file->header.generation;
    stats.memory_bytes = sizeof *store + mmap_rows_bytes(&store->rows) + mmap_index_bytes(store->index);
    stats.indexed_rows = store->index ? store->index->graph.linked : 0;
    stats.file_bytes = rowfile_file_bytes(file);
    memcpy(stats.uuid, file->header.uuid, sizeof stats.uuid);
    snprintf(stats.simd, sizeof stats.simd, "%s", store->kernels->name);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- results */

/* Fills one block: the hits, then their vectors, then their keys. */
struct result {
    const syna_mmap *store;
    syna_hit *hits;
    float *vectors; /* NULL when not asked for */
    char *keys;
};

static syna_rc result_begin(struct result *r, const syna_mmap *store, uint32_t flags, size_t count,
                            size_t key_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + key_bytes;
    r->store = store;
    r->hits = mem_alloc(bytes);
    if (!r->hits)
        return syna_no_memory(bytes);
    r->vectors = row_bytes ? (float *)(void *)(r->hits + count) : NULL;
    r->keys = (char *)(r->hits + count) + count * row_bytes;
    return SYNA_SUCCESS;
}

static size_t key_bytes_of(const syna_mmap *store, uint32_t row)
{
    size_t len;
    mmap_rows_key(&store->rows, row, &len);
    return len + 1;
}

static void result_add(struct result *r, syna_hit *hit, uint32_t row, float score)
{
    size_t len;
    const char *key = mmap_rows_key(&r->store->rows, row, &len);
    *hit = (syna_hit){.key = r->keys, .key_len = (uint32_t)len, .score = score};
    memcpy(r->keys, key, len);
    r->keys[len] = '\0';
    r->keys += len + 1;
    if (r->vectors) {
        memcpy(r->vectors, mmap_rows_vector(&r->store->rows, row), r->store->dims * sizeof(float));
        hit->vector = r->vectors;
        r->vectors += r->store->dims;
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
    if (how->flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_search.flags is %#x; this store takes VECTORS, RADIUS and EXACT",
                         how->flags);
    if (!(how->recall >= 0 && how->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)how->recall);
    if (how->ef > HNSW_EF_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "ef is %u, expected at most %u",
                         how->ef, HNSW_EF_MAX);
    return SYNA_SUCCESS;
}

static syna_rc check_queries(const float *queries, size_t count, uint32_t dims)
{
    for (size_t q = 0; q < count; q++) {
        size_t at = vector_first_not_finite(queries + q * dims, dims);
        if (at < dims)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "query %zu: element %zu is %f, expected a finite number", q, at,
                             (double)queries[q * dims + at]);
    }
    return SYNA_SUCCESS;
}

static syna_rc collect_hits(const syna_mmap *store, const struct topk *tops, size_t count,
                            uint32_t flags, syna_hit **hits, size_t *counts)
{
    size_t total = 0, key_bytes = 0;
    for (size_t q = 0; q < count; q++) {
        total += tops[q].count;
        for (size_t i = 0; i < tops[q].count; i++)
            key_bytes += key_bytes_of(store, tops[q].items[i].row);
    }
    struct result r;
    SYNA_TRY(result_begin(&r, store, flags, total, key_bytes));
    syna_hit *hit = r.hits;
    for (size_t q = 0; q < count; q++) {
        counts[q] = tops[q].count;
        for (size_t i = 0; i < tops[q].count; i++, hit++)
            result_add(&r, hit, tops[q].items[i].row,
                       score_final(store->metric, tops[q].items[i].rank));
    }
    *hits = r.hits;
    return SYNA_SUCCESS;
}

static syna_rc search_locked(struct mmap_searching *s, uint32_t dims, syna_hit **hits,
                             size_t *counts)
{
    const syna_mmap *store = s->store;
    SYNA_TRY(mmap_vectors_check_dims(store, "query", dims));
    SYNA_TRY(check_queries(s->queries, s->count, dims));
    bool within = s->how.flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(store->metric, s->how.radius) : FLT_MAX;
    for (size_t q = 0; q < s->count; q++)
        topk_init(&s->tops[q], (size_t)MIN(s->how.k, (uint64_t)store->rows.live), limit);
    SYNA_TRY(mmap_vectors_rank(s));
    return collect_hits(store, s->tops, s->count, s->how.flags, hits, counts);
}

syna_rc mmap_vectors_search(syna_mmap *store, const float *queries, size_t count, uint32_t dims,
                            const syna_search *given, syna_hit **hits, size_t *counts)
{
    struct mmap_searching s = {.store = store, .queries = queries, .count = count};
    SYNA_TRY(check_how(given, &s.how));
    s.tops = mem_zalloc(count * sizeof *s.tops);
    if (!s.tops)
        return syna_no_memory(count * sizeof *s.tops);
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = search_locked(&s, dims, hits, counts);
    pthread_rwlock_unlock(&store->state_lock);
    for (size_t q = 0; q < count; q++)
        topk_dispose(&s.tops[q]);
    mem_free(s.tops);
    if (rc == SYNA_SUCCESS && s.how.explain) {
        s.explain.size = s.how.explain->size;
        memcpy(s.how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    return rc;
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    const struct mmap_rows *rows = &store->rows;
    struct result r;
    size_t key_bytes = 0;
    if (flags & ~SYNA_SEARCH_VECTORS)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "flags are %#x, expected 0 or %#x",
                         flags, SYNA_SEARCH_VECTORS);
    if (flags & SYNA_SEARCH_VECTORS)
        SYNA_TRY(mmap_vectors_note_damage(store, rowfile_touch(rows->file, 0, rows->count)));
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            key_bytes += key_bytes_of(store, row);
    SYNA_TRY(result_begin(&r, store, flags, rows->live, key_bytes));
    syna_hit *hit = r.hits;
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            result_add(&r, hit++, row, 0);
    *hits = r.hits;
    *count = rows->live;
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
