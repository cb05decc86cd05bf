/* gwi_read.c - look-ups, the list of rows, figures. */
#include "base/internal.h"

#include "engine/gwi_core.h"

/* ---------------------------------------------------------------- look-ups */

syna_rc gwi_begin_lookup(syna_wells *store)
{
    for (;;) {
        pthread_rwlock_rdlock(&store->state_lock);
        if (LIKELY(store->rows.slots != NULL))
            return SYNA_SUCCESS;
        pthread_rwlock_unlock(&store->state_lock);
        pthread_rwlock_wrlock(&store->state_lock);
        syna_rc rc = mmap_keys_build(&store->rows);
        pthread_rwlock_unlock(&store->state_lock);
        SYNA_TRY(gwi_note_damage(store, rc));
    }
}

/* The row of a key. gwi_begin_lookup was called. */
static syna_rc find_row(const syna_wells *store, const char *key, size_t len, uint32_t *row)
{
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, len), key, len);
    *row = MMAP_ROW_NONE;
    if (slot == store->rows.slot_count)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, store->path, -1, 0,
                            "no row has the key %.*s", (int)MIN(len, (size_t)200), key);
    *row = store->rows.slots[slot].row;
    return SYNA_SUCCESS;
}

static syna_rc get_locked(syna_wells *store, const char *key, size_t key_len, float *out,
                          uint32_t dims)
{
    uint32_t row;
    SYNA_TRY(gwi_check_dims(store, "array for the vector", dims));
    SYNA_TRY(find_row(store, key, key_len, &row));
    SYNA_TRY(gwi_note_damage(store, rowfile_touch(store->rows.file, row, 1)));
    memcpy(out, mmap_rows_vector(&store->rows, row), dims * sizeof *out);
    return SYNA_SUCCESS;
}

syna_rc gwi_get(syna_wells *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    SYNA_TRY(gwi_begin_lookup(store));
    syna_rc rc = get_locked(store, key, key_len, out, dims);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc copy_metadata(const syna_wells *store, const char *key, size_t key_len, char **out,
                             size_t *len)
{
    uint32_t row;
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

syna_rc gwi_get_metadata(syna_wells *store, const char *key, size_t key_len, char **out, size_t *len)
{
    SYNA_TRY(gwi_begin_lookup(store));
    syna_rc rc = copy_metadata(store, key, key_len, out, len);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc gwi_contains(syna_wells *store, const char *key, size_t key_len, bool *found)
{
    SYNA_TRY(gwi_begin_lookup(store));
    *found = mmap_keys_find(&store->rows, mmap_key_hash(key, key_len), key, key_len) !=
             store->rows.slot_count;
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

uint64_t gwi_count(syna_wells *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = store->rows.live;
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

/* ---------------------------------------------------------------- figures */

static void fill_stats(const syna_wells *store, syna_wells_stats *out)
{
    const struct rowfile *file = store->rows.file;
    const struct partition *part = &store->part;
    out->dimensions = store->dims;
    out->metric = store->metric;
    out->branching_factor = store->branching;
    out->num_levels = store->levels;
    out->wells = part->count;
    out->initialized = store->sampled || store->rows.live > 0;
    out->rows = store->rows.live;
    out->dead_rows = store->rows.count - store->rows.live;
    out->fresh_rows = store->rows.count - part->end;
    out->trained_rows = part->trained;
    out->splits = part->splits;
    out->unsaved_rows = rowfile_rows(file) - __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
    out->generation = file->header.generation;
    out->memory_bytes = sizeof *store + mmap_rows_bytes(&store->rows) + meta_bytes(store->meta) +
                        partition_bytes(part);
    out->file_bytes = rowfile_file_bytes(file);
    memcpy(out->uuid, file->header.uuid, sizeof out->uuid);
    snprintf(out->simd, sizeof out->simd, "%s", store->kernels->name);
}

syna_rc gwi_get_stats(syna_wells *store, syna_wells_stats *out)
{
    syna_wells_stats stats = {.size = out->size};
    pthread_mutex_lock(&store->write_lock); /* not one that is held across syncs or trainings */
    pthread_rwlock_rdlock(&store->state_lock);
    fill_stats(store, &stats);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- listing */

static syna_rc list_rows(syna_wells *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    const struct mmap_rows *rows = &store->rows;
    struct hit_block b;
    size_t text_bytes = 0;
    if (flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_METADATA))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "flags are %#x; this list takes VECTORS and METADATA", flags);
    if (flags & SYNA_SEARCH_VECTORS)
        SYNA_TRY(gwi_note_damage(store, rowfile_touch(rows->file, 0, rows->count)));
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            text_bytes += hit_block_text_bytes(store, flags, row);
    SYNA_TRY(hit_block_begin(&b, store, flags, rows->live, text_bytes));
    syna_hit *hit = b.hits;
    for (uint32_t row = 0; row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            hit_block_add(&b, hit++, row, 0);
    *hits = b.hits;
    *count = rows->live;
    return SYNA_SUCCESS;
}

syna_rc gwi_rows(syna_wells *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = list_rows(store, flags, hits, count);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}
