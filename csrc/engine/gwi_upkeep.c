/* gwi_upkeep.c - flush and refresh. A flush makes the rows durable first and saves the lists of them
 * after that, so what is saved never names a row that a crash could take back. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#define SAVE_SHARE 4u /* lists are saved when a quarter of the rows is new in them */
#define SAVE_LEAST 1024u

/* ---------------------------------------------------------------- flush */

static syna_rc check_can_save(const syna_wells *store)
{
    if (store->inherited)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_FORKED, store->path, -1, 0,
                            "opened before fork(); open it again in this process to write");
    if (!store->writer)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "opened read-only");
    return SYNA_SUCCESS;
}

syna_rc gwi_save_rows(syna_wells *store)
{
    struct rowfile *file = store->rows.file; /* only a compaction swaps it, which we exclude */
    struct row_slot slot;
    pthread_mutex_lock(&store->write_lock);
    bool changed = rowfile_changed(file);
    rowfile_capture(file, &slot);
    pthread_mutex_unlock(&store->write_lock);
    return changed ? rowfile_checkpoint(file, &slot) : rowfile_settle(file);
}

static bool lists_due(const syna_wells *store)
{
    uint32_t end = store->part.end;
    if (!partition_trained(&store->part))
        return false;
    return store->saved_end == 0 ? end >= SAVE_LEAST || store->lists_changed
                                 : end - store->saved_end > end / SAVE_SHARE;
}

/* checkpoint_lock and index_lock are held: lists that are saved cover no row that is not durable. */
static syna_rc save(syna_wells *store)
{
    SYNA_TRY(gwi_save_rows(store));
    return lists_due(store) ? gwi_save_lists(store) : SYNA_SUCCESS;
}

syna_rc gwi_flush(syna_wells *store)
{
    SYNA_TRY(check_can_save(store));
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = save(store);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

/* ---------------------------------------------------------------- refresh */

static syna_rc check_config(const syna_wells *store, const struct rowfile *file)
{
    struct gwi_config config;
    SYNA_TRY(gwi_read_config(file, &config));
    return gwi_check_same(store, config.dims, config.metric);
}

/* The file was replaced by a compaction. */
static syna_rc refresh_other(syna_wells *store)
{
    struct rowfile *file;
    struct mmap_rows rows;
    struct meta *meta = NULL;
    SYNA_TRY(rowfile_open(store->path, GWI_COMPONENT, false, &file));
    mmap_rows_init(&rows, file);
    syna_rc rc = check_config(store, file);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_apply(&rows);
    if (rc == SYNA_SUCCESS)
        rc = meta_new(&meta);
    if (rc == SYNA_SUCCESS)
        rc = gwi_apply_meta(&rows, meta, 0);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        mmap_rows_dispose(&rows);
        meta_free(meta);
        return status_set(&why);
    }
    pthread_rwlock_wrlock(&store->state_lock);
    gwi_swap(store, &rows, meta);
    rc = gwi_load_lists(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static void clear_dead_meta(syna_wells *store, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        if (!mmap_rows_is_live(&store->rows, row))
            meta_clear(store->meta, row);
}

static syna_rc refresh_same(syna_wells *store, bool *changed)
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
        rc = gwi_apply_meta(&store->rows, store->meta, before);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc refresh_locked(syna_wells *store, bool *changed)
{
    struct vfs_stat st;
    int found = syna_vfs->stat_path(store->path, &st);
    if (found < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -found,
                            "cannot be examined");
    if (gwi_is_file(store, st.device, st.inode))
        return refresh_same(store, changed);
    SYNA_TRY(refresh_other(store));
    *changed = true;
    return SYNA_SUCCESS;
}

syna_rc gwi_refresh(syna_wells *store, bool *changed)
{
    *changed = false;
    if (store->writer)
        return SYNA_SUCCESS; /* nobody else writes */
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = refresh_locked(store, changed);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    if (rc == SYNA_SUCCESS && *changed)
        gwi_maintain(store);
    return rc;
}
