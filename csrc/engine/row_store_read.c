/* row_store_read.c - look-ups, the list of rows, results, the frame of figures. A result is one block of
 * memory with everything that it points to, made while state_lock is held: what the caller gets is one
 * moment of the store. */
#include "base/internal.h"

#include "engine/row_store.h"

/* ---------------------------------------------------------------- look-ups */

syna_rc row_store_begin_lookup(struct row_store *store)
{
    for (;;) {
        pthread_rwlock_rdlock(&store->state_lock);
        if (LIKELY(store->rows.slots != NULL))
            return SYNA_SUCCESS;
        pthread_rwlock_unlock(&store->state_lock);
        pthread_rwlock_wrlock(&store->state_lock);
        syna_rc rc = mmap_keys_build(&store->rows);
        pthread_rwlock_unlock(&store->state_lock);
        SYNA_TRY(row_store_note_damage(store, rc));
    }
}

static uint32_t row_of(const struct row_store *store, const char *key, size_t len)
{
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, len), key, len);
    return slot == store->rows.slot_count ? MMAP_ROW_NONE : store->rows.slots[slot].row;
}

static syna_rc find_key(const struct row_store *store, const char *key, size_t len, uint32_t *row)
{
    *row = row_of(store, key, len);
    if (*row != MMAP_ROW_NONE)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, store->path, -1, 0,
                        "no row has the key %.*s", (int)MIN(len, (size_t)200), key);
}

syna_rc row_store_find(struct row_store *store, const char *key, size_t key_len, uint32_t *row)
{
    SYNA_TRY(find_key(store, key, key_len, row));
    return row_store_note_damage(store, rowfile_touch(store->rows.file, *row, 1));
}

syna_rc row_store_get(struct row_store *store, const char *key, size_t key_len, float *out,
                      uint32_t dims)
{
    uint32_t row = MMAP_ROW_NONE;
    SYNA_TRY(row_store_begin_lookup(store));
    syna_rc rc = row_store_check_dims(store, "array for the vector", dims);
    if (rc == SYNA_SUCCESS)
        rc = row_store_find(store, key, key_len, &row);
    if (rc == SYNA_SUCCESS)
        memcpy(out, mmap_rows_vector(&store->rows, row), dims * sizeof *out);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc copy_metadata(const struct row_store *store, const char *key, size_t key_len, char **out,
                             size_t *len)
{
    uint32_t row = MMAP_ROW_NONE;
    *out = NULL;
    SYNA_TRY(find_key(store, key, key_len, &row));
    const char *text = meta_text(store->meta, row, len);
    if (!text) {
        *len = 0;
        return SYNA_SUCCESS;
    }
    *out = mem_dup(text, *len);
    return *out ? SYNA_SUCCESS : syna_no_memory(*len);
}

syna_rc row_store_get_metadata(struct row_store *store, const char *key, size_t key_len, char **out,
                               size_t *len)
{
    SYNA_TRY(row_store_begin_lookup(store));
    syna_rc rc = copy_metadata(store, key, key_len, out, len);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc row_store_contains(struct row_store *store, const char *key, size_t key_len, bool *found)
{
    SYNA_TRY(row_store_begin_lookup(store));
    *found = row_of(store, key, key_len) != MMAP_ROW_NONE;
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

uint64_t row_store_count(struct row_store *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->rows.live;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

/* ---------------------------------------------------------------- figures */

syna_rc row_store_get_stats(struct row_store *store,
                            void (*fill)(const struct row_store *store, void *stats), void *stats,
                            size_t size, void *out)
{
    uint32_t asked; /* both structs begin with how long the caller's is */
    memcpy(&asked, out, sizeof asked);
    memcpy(stats, &asked, sizeof asked);
    pthread_mutex_lock(&store->write_lock); /* not one that is held across syncs or trainings */
    pthread_rwlock_rdlock(&store->state_lock);
    fill(store, stats);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    memcpy(out, stats, MIN(size, (size_t)asked));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- results */

syna_rc row_hits_begin(struct row_hits *b, const struct row_store *store, uint32_t flags, size_t count,
                       size_t text_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + text_bytes;
    b->store = store;
    b->hits = mem_alloc(bytes);
    if (!b->hits)
        return syna_no_memory(bytes);
    b->vectors = row_bytes ? (float *)(void *)(b->hits + count) : NULL;
    b->texts = (char *)(b->hits + count) + count * row_bytes;
    b->metadata = flags & SYNA_SEARCH_METADATA;
    return SYNA_SUCCESS;
}

size_t row_hits_text_bytes(const struct row_store *store, uint32_t flags, uint32_t row)
{
    size_t len, meta_len = 0;
    mmap_rows_key(&store->rows, row, &len);
    if ((flags & SYNA_SEARCH_METADATA) && meta_text(store->meta, row, &meta_len))
        len += meta_len + 1;
    return len + 1;
}

static const char *put_text(struct row_hits *b, const char *text, size_t len)
{
    char *to = b->texts;
    memcpy(to, text, len);
    to[len] = '\0';
    b->texts += len + 1;
    return to;
}

void row_hits_add(struct row_hits *b, syna_hit *hit, uint32_t row, float score)
{
    size_t len;
    const char *key = mmap_rows_key(&b->store->rows, row, &len);
    *hit = (syna_hit){.key = put_text(b, key, len), .key_len = (uint32_t)len, .score = score};
    const char *meta = b->metadata ? meta_text(b->store->meta, row, &len) : NULL;
    if (meta) {
        hit->metadata = put_text(b, meta, len);
        hit->metadata_len = len;
    }
    if (b->vectors) {
        memcpy(b->vectors, mmap_rows_vector(&b->store->rows, row), b->store->dims * sizeof(float));
        hit->vector = b->vectors;
        b->vectors += b->store->dims;
    }
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(struct row_store *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    const struct mmap_rows *rows = &store->rows;
    uint32_t metadata = store->kind->metadata ? SYNA_SEARCH_METADATA : 0;
    struct row_hits b;
    size_t text_bytes = 0;
    if (flags & ~(SYNA_SEARCH_VECTORS | metadata))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "flags are %#x; this list takes %s", flags,
                         metadata ? "VECTORS and METADATA" : "VECTORS");
    if (flags & SYNA_SEARCH_VECTORS)
        SYNA_TRY(row_store_note_damage(store, rowfile_touch(rows->file, 0, rows->count)));
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            text_bytes += row_hits_text_bytes(store, flags, row);
    SYNA_TRY(row_hits_begin(&b, store, flags, rows->live, text_bytes));
    syna_hit *hit = b.hits;
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            row_hits_add(&b, hit++, row, 0);
    *hits = b.hits;
    *count = rows->live;
    return SYNA_SUCCESS;
}

syna_rc row_store_rows(struct row_store *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
