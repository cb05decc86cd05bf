/* cascade_store_read.c - look-ups, the list of rows, figures. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

/* ---------------------------------------------------------------- look-ups */

syna_rc cascade_store_begin_lookup(syna_buckets *store)
{
    for (;;) {
        pthread_rwlock_rdlock(&store->state_lock);
        if (LIKELY(store->rows.slots != NULL))
            return SYNA_SUCCESS;
        pthread_rwlock_unlock(&store->state_lock);
        pthread_rwlock_wrlock(&store->state_lock);
        syna_rc rc = mmap_keys_build(&store->rows);
        pthread_rwlock_unlock(&store->state_lock);
        SYNA_TRY(cascade_store_note_damage(store, rc));
    }
}

/* The row of a key. cascade_store_begin_lookup was called. */
static syna_rc find_row(const syna_buckets *store, const char *key, size_t len, uint32_t *row)
{
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, len), key, len);
    if (slot == store->rows.slot_count)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, store->path, -1, 0,
                            "no row has the key %.*s", (int)MIN(len, (size_t)200), key);
    *row = store->rows.slots[slot].row;
    return SYNA_SUCCESS;
}

static syna_rc get_locked(syna_buckets *store, const char *key, size_t key_len, float *out,
                          uint32_t dims)
{
    uint32_t row = MMAP_ROW_NONE;
    SYNA_TRY(cascade_store_check_dims(store, "array for the vector", dims));
    SYNA_TRY(find_row(store, key, key_len, &row));
    SYNA_TRY(cascade_store_note_damage(store, rowfile_touch(store->rows.file, row, 1)));
    memcpy(out, mmap_rows_vector(&store->rows, row), dims * sizeof *out);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_get(syna_buckets *store, const char *key, size_t key_len, float *out,
                          uint32_t dims)
{
    SYNA_TRY(cascade_store_begin_lookup(store));
    syna_rc rc = get_locked(store, key, key_len, out, dims);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc copy_metadata(const syna_buckets *store, const char *key, size_t key_len, char **out,
                             size_t *len)
{
    uint32_t row = MMAP_ROW_NONE;
    SYNA_TRY(find_row(store, key, key_len, &row));
    const char *text = meta_text(store->meta, row, len);
    *out = NULL;
    if (!text) {
        *len = 0;
        return SYNA_SUCCESS;
    }
    *out = mem_dup(text, *len);
    return *out ? SYNA_SUCCESS : syna_no_memory(*len);
}

syna_rc cascade_store_get_metadata(syna_buckets *store, const char *key, size_t key_len, char **out,
                                   size_t *len)
{
    SYNA_TRY(cascade_store_begin_lookup(store));
    syna_rc rc = copy_metadata(store, key, key_len, out, len);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc cascade_store_contains(syna_buckets *store, const char *key, size_t key_len, bool *found)
{
    SYNA_TRY(cascade_store_begin_lookup(store));
    *found = mmap_keys_find(&store->rows, mmap_key_hash(key, key_len), key, key_len) !=
             store->rows.slot_count;
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

uint64_t cascade_store_count(syna_buckets *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->rows.live;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

/* ---------------------------------------------------------------- figures */

static uint64_t set_bytes(const struct row_set *set)
{
    return array_bytes(&set->code_rows) + array_bytes(&set->norms) + array_bytes(&set->errors);
}

static uint64_t used_bytes(const syna_buckets *store)
{
    const struct cascade *index = &store->index;
    uint64_t each = store->set.codes.stride + 2 * sizeof(float);
    return index->linked ? index->linked * each + cascade_used_bytes(index) : 0;
}

static void fill_stats(const syna_buckets *store, syna_buckets_stats *out)
{
    const struct rowfile *file = store->rows.file;
    const struct cascade *index = &store->index;
    out->dimensions = store->dims;
    out->metric = store->metric;
    out->num_hyperplanes = store->params.hyperplanes;
    out->bucket_capacity = store->params.capacity;
    out->nprobe = store->params.probes;
    out->recall = store->recall;
    out->hash_bits = index->hash_bits;
    out->buckets = index->leaf_count;
    out->rows = store->rows.live;
    out->dead_rows = store->rows.count - store->rows.live;
    out->indexed_rows = index->linked;
    out->unsaved_rows =
        rowfile_rows(file) - __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
    out->generation = file->header.generation;
    out->index_bytes = used_bytes(store);
    out->memory_bytes = sizeof *store + mmap_rows_bytes(&store->rows) + meta_bytes(store->meta) +
                        cascade_bytes(index) + set_bytes(&store->set);
    out->file_bytes = rowfile_file_bytes(file);
    memcpy(out->uuid, file->header.uuid, sizeof out->uuid);
    snprintf(out->simd, sizeof out->simd, "%s", store->kernels->name);
}

syna_rc cascade_store_get_stats(syna_buckets *store, syna_buckets_stats *out)
{
    syna_buckets_stats stats = {.size = out->size};
    pthread_mutex_lock(&store->write_lock); /* not one that is held across syncs or trainings */
    pthread_rwlock_rdlock(&store->state_lock);
    fill_stats(store, &stats);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(syna_buckets *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    const struct mmap_rows *rows = &store->rows;
    struct bucket_hits b;
    size_t text_bytes = 0;
    if (flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_METADATA))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "flags are %#x, expected VECTORS or METADATA", flags);
    if (flags & SYNA_SEARCH_VECTORS)
        SYNA_TRY(cascade_store_note_damage(store, rowfile_touch(rows->file, 0, rows->count)));
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            text_bytes += bucket_hits_text_bytes(store, flags, row);
    SYNA_TRY(bucket_hits_begin(&b, store, flags, rows->live, text_bytes));
    syna_hit *hit = b.hits;
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            bucket_hits_add(&b, hit++, row, 0);
    *hits = b.hits;
    *count = rows->live;
    return SYNA_SUCCESS;
}

syna_rc cascade_store_rows(syna_buckets *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
