/* vectors_read.c - get and list rows, facts, and the blocks that results are. */
#include "base/internal.h"

#include "engine/vectors_core.h"

/* ---------------------------------------------------------------- single rows */

static syna_rc no_row(const syna_vectors *store, const char *key, size_t key_len)
{
    return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                        "no row has the key %.*s", (int)MIN(key_len, (size_t)200), key);
}

syna_rc vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, "array for the vector", dims);
    uint32_t row = row_keys_find(&store->keys, key, key_len);
    if (rc == SYNA_SUCCESS && row != ROW_NONE) {
        const void *vector = vectors_row(store, row);
        rc = vectors_damage(store);
        if (rc == SYNA_SUCCESS)
            row_set_read(&store->set, vector, out);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return rc == SYNA_SUCCESS && row == ROW_NONE ? no_row(store, key, key_len) : rc;
}

static syna_rc copy_metadata(const syna_vectors *store, uint32_t row, char **out, size_t *len)
{
    const char *text = meta_text(store->meta, row, len);
    *out = text ? mem_dup(text, *len) : NULL;
    return text && !*out ? syna_no_memory(*len) : SYNA_SUCCESS;
}

syna_rc vectors_get_metadata(syna_vectors *store, const char *key, size_t key_len, char **out,
                             size_t *len)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t row = row_keys_find(&store->keys, key, key_len);
    if (row != ROW_NONE)
        rc = copy_metadata(store, row, out, len);
    pthread_rwlock_unlock(&store->state_lock);
    return row == ROW_NONE ? no_row(store, key, key_len) : rc;
}

bool vectors_contains(syna_vectors *store, const char *key, size_t key_len)
{
    pthread_rwlock_rdlock(&store->state_lock);
    bool found = row_keys_find(&store->keys, key, key_len) != ROW_NONE;
    pthread_rwlock_unlock(&store->state_lock);
    return found;
}

uint64_t vectors_count(syna_vectors *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->live_count;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

static uint64_t memory_of(const syna_vectors *store)
{
    const struct row_set *set = &store->set;
    return array_bytes(&set->code_rows) + array_bytes(&set->norms) + array_bytes(&set->errors) +
           array_bytes(&store->tail.chunks) + array_bytes(&store->places) + array_bytes(&store->live) +
           array_bytes(&store->checked) + row_keys_bytes(&store->keys) +
           hnsw_bytes(&store->graph, &set->codes) + meta_bytes(store->meta);
}

syna_rc vectors_get_stats(syna_vectors *store, syna_vectors_stats *out)
{
    syna_db_stats log = {.size = sizeof log};
    SYNA_TRY(db_get_stats(store->db, &log));
    syna_vectors_stats stats = {.size = out->size, .file_bytes = log.file_bytes};
    pthread_rwlock_rdlock(&store->state_lock);
    stats.dimensions = vectors_dims(store);
    stats.metric = vectors_metric(store);
    stats.dtype = (uint8_t)(SYNA_ROWS_FLOAT32 + store->set.kind);
    stats.quantization = store->codes;
    stats.row_bytes = (uint32_t)vectors_row_bytes(store);
    stats.code_bytes = vectors_trained(store) ? store->set.codes.stride : 0;
    stats.rows = store->live_count;
    stats.dead_rows = store->set.count - store->live_count;
    stats.indexed_rows = store->graph.linked;
    stats.changes = store->all_changes;
    stats.memory_bytes = memory_of(store);
    snprintf(stats.simd, sizeof stats.simd, "%s", store->set.kernels->name);
    pthread_rwlock_unlock(&store->state_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- results */

size_t vectors_hit_text_bytes(const syna_vectors *store, uint32_t row, uint32_t flags)
{
    size_t len, meta_len = 0;
    vectors_row_key(store, row, &len);
    if (flags & SYNA_SEARCH_METADATA && meta_text(store->meta, row, &meta_len))
        meta_len++;
    return len + 1 + meta_len;
}

syna_rc hit_writer_begin(struct hit_writer *w, const syna_vectors *store, uint32_t flags,
                         size_t count, size_t text_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? vectors_dims(store) * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + text_bytes;
    w->store = store;
    w->hits = w->next = mem_alloc(bytes);
    if (!w->hits)
        return syna_no_memory(bytes);
    w->vectors = row_bytes ? (float *)(void *)(w->hits + count) : NULL;
    w->metadata = flags & SYNA_SEARCH_METADATA;
    w->texts = (char *)(w->hits + count) + count * row_bytes;
    return SYNA_SUCCESS;
}

static const char *add_text(struct hit_writer *w, const char *text, size_t len)
{
    char *at = w->texts;
    memcpy(at, text, len);
    at[len] = '\0';
    w->texts += len + 1;
    return at;
}

void hit_writer_add(struct hit_writer *w, uint32_t row, float score)
{
    uint32_t dims = vectors_dims(w->store);
    size_t len;
    const char *key = vectors_row_key(w->store, row, &len);
    syna_hit *hit = w->next++;
    *hit = (syna_hit){.key = add_text(w, key, len), .key_len = (uint32_t)len, .score = score};
    const char *metadata = w->metadata ? meta_text(w->store->meta, row, &len) : NULL;
    if (metadata) {
        hit->metadata = add_text(w, metadata, len);
        hit->metadata_len = len;
    }
    if (w->vectors) {
        row_set_read(&w->store->set, vectors_row(w->store, row), w->vectors);
        hit->vector = w->vectors;
        w->vectors += dims;
    }
}

/* ---------------------------------------------------------------- listing */

static bool in(const uint64_t *bits, uint32_t row)
{
    return !bits || bits[row / 64] >> row % 64 & 1;
}

/* Rows of `bits`; NULL: all. */
static syna_rc list_rows(const syna_vectors *store, const uint64_t *bits, uint64_t rows, uint32_t flags,
                         syna_hit **hits, size_t *count)
{
    struct hit_writer w;
    size_t text_bytes = 0;
    for (uint32_t row = 0; row < store->set.count; row++)
        if (in(bits, row))
            text_bytes += vectors_hit_text_bytes(store, row, flags);
    SYNA_TRY(hit_writer_begin(&w, store, flags, rows, text_bytes));
    for (uint32_t row = 0; row < store->set.count; row++)
        if (in(bits, row))
            hit_writer_add(&w, row, 0);
    syna_rc rc = vectors_damage(store);
    if (rc != SYNA_SUCCESS) {
        mem_free(w.hits);
        return rc;
    }
    *hits = w.hits;
    *count = rows;
    return SYNA_SUCCESS;
}

syna_rc vectors_rows(syna_vectors *store, const struct filter *filter, uint32_t flags, syna_hit **hits,
                     size_t *count)
{
    uint64_t *bits = NULL, rows;
    pthread_rwlock_rdlock(&store->state_lock);
    rows = store->live_count;
    syna_rc rc = filter ? vectors_select(store, filter, &bits, &rows) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS)
        rc = list_rows(store, filter ? bits : vectors_live_bits(store), rows, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    mem_free(bits);
    return rc;
}

syna_rc vectors_count_where(syna_vectors *store, const struct filter *filter, uint64_t *count)
{
    uint64_t *bits = NULL;
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_select(store, filter, &bits, count);
    pthread_rwlock_unlock(&store->state_lock);
    mem_free(bits);
    return rc;
}
