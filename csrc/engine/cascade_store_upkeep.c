/* cascade_store_upkeep.c - what makes rows durable and what shows them to others: flush and save, refresh of
 * a reader. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

#define SAVE_SHARE 4u /* a flush saves the index when a quarter of its rows is new */

/* ---------------------------------------------------------------- flush */

static syna_rc check_can_save(const syna_buckets *store)
{
    if (store->inherited)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_FORKED, store->path, -1, 0,
                            "opened before fork(); open it again in this process to write");
    if (!store->writer)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "opened read-only");
    return SYNA_SUCCESS;
}

syna_rc cascade_store_save_rows(syna_buckets *store)
{
    struct rowfile *file = store->rows.file; /* only a compaction swaps it, which we exclude */
    struct row_slot slot;
    pthread_mutex_lock(&store->write_lock);
    bool changed = rowfile_changed(file);
    rowfile_capture(file, &slot);
    pthread_mutex_unlock(&store->write_lock);
    return changed ? rowfile_checkpoint(file, &slot) : rowfile_settle(file);
}

static bool index_due(const syna_buckets *store)
{
    uint32_t linked = store->index.linked;
    if (linked == 0)
        return false;
    return store->saved_end == 0 || linked - store->saved_end > linked / SAVE_SHARE;
}

/* checkpoint_lock and index_lock are held: an index that is saved covers no row that is not
 * durable. */
static syna_rc save(syna_buckets *store, bool index)
{
    SYNA_TRY(cascade_store_save_rows(store));
    if (index)
        index = store->index_changed || store->index.linked != store->saved_end;
    return index || index_due(store) ? cascade_store_save_index(store) : SYNA_SUCCESS;
}

static syna_rc save_alone(syna_buckets *store, bool index)
{
    SYNA_TRY(check_can_save(store));
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = save(store, index);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

syna_rc cascade_store_flush(syna_buckets *store)
{
    return save_alone(store, false);
}

syna_rc cascade_store_save(syna_buckets *store)
{
    return save_alone(store, true);
}

/* ---------------------------------------------------------------- refresh */

static syna_rc check_config(const syna_buckets *store, const struct rowfile *file)
{
    uint32_t dims;
    int32_t metric;
    SYNA_TRY(cascade_store_read_config(file, &dims, &metric));
    return cascade_store_check_same(store, dims, metric);
}

/* The file was replaced by a compaction. */
static syna_rc refresh_other(syna_buckets *store)
{
    struct rowfile *file;
    struct mmap_rows rows;
    struct meta *meta = NULL;
    SYNA_TRY(rowfile_open(store->path, CASCADE_COMPONENT, false, &file));
    mmap_rows_init(&rows, file);
    syna_rc rc = check_config(store, file);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_apply(&rows);
    if (rc == SYNA_SUCCESS)
        rc = meta_new(&meta);
    if (rc == SYNA_SUCCESS)
        rc = cascade_store_apply_meta(&rows, meta, 0);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        mmap_rows_dispose(&rows);
        meta_free(meta);
        return status_set(&why);
    }
    pthread_rwlock_wrlock(&store->state_lock);
    cascade_store_swap(store, &rows, meta);
    rc = cascade_store_load_index(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static void clear_dead_meta(syna_buckets *store, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        if (!mmap_rows_is_live(&store->rows, row))
            meta_clear(store->meta, row);
}

static syna_rc refresh_same(syna_buckets *store, bool *changed)
{
    pthread_rwlock_wrlock(&store->state_lock);
    uint32_t before = store->rows.count;
    syna_rc rc = rowfile_refresh(store->rows.file, changed);
    if (rc == SYNA_SUCCESS && *changed)
        rc = check_config(store, store->rows.file);
    if (rc == SYNA_SUCCESS && *changed)
        rc = mmap_rows_apply(&store->rows);
    if (rc == SYNA_SUCCESS && *changed) {
        clear_dead_meta(store, before);
        cascade_store_sweep(store);
        rc = cascade_store_apply_meta(&store->rows, store->meta, before);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc refresh_locked(syna_buckets *store, bool *changed)
{
    struct vfs_stat st;
    int found = syna_vfs->stat_path(store->path, &st);
    if (found < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -found,
                            "cannot be examined");
    if (cascade_store_is_file(store, st.device, st.inode))
        return refresh_same(store, changed);
    SYNA_TRY(refresh_other(store));
    *changed = true;
    return SYNA_SUCCESS;
}

syna_rc cascade_store_refresh(syna_buckets *store, bool *changed)
{
    *changed = false;
    if (store->writer)
        return SYNA_SUCCESS; /* nobody else writes */
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = refresh_locked(store, changed);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc == SYNA_SUCCESS && *changed ? cascade_store_maintain(store, NULL, NULL) : rc;
}
