/* row_store_upkeep.c - what makes rows durable and what shows them to others: checkpoint, and refresh of a
 * reader. The rows are durable before an index of them is saved, so that one never names a row that a
 * crash could take back. */
#include "base/internal.h"

#include "engine/row_store.h"

void row_store_begin_upkeep(struct row_store *store)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    if (!store->kind->index_apart)
        pthread_mutex_lock(&store->index_lock);
}

void row_store_end_upkeep(struct row_store *store)
{
    if (!store->kind->index_apart)
        pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
}

/* ---------------------------------------------------------------- checkpoint */

syna_rc row_store_save_rows(struct row_store *store)
{
    struct rowfile *file = store->rows.file; /* only a compaction swaps it, which we exclude */
    struct row_slot slot;
    pthread_mutex_lock(&store->write_lock);
    bool changed = rowfile_changed(file);
    rowfile_capture(file, &slot);
    pthread_mutex_unlock(&store->write_lock);
    return changed ? rowfile_checkpoint(file, &slot) : rowfile_settle(file);
}

syna_rc row_store_save(struct row_store *store, enum row_save why)
{
    SYNA_TRY(row_store_check_can_save(store));
    row_store_begin_upkeep(store);
    syna_rc rc = row_store_save_rows(store);
    syna_rc saved = rc == SYNA_SUCCESS ? store->kind->save(store, why) : rc;
    row_store_end_upkeep(store);
    return why == ROW_SAVE_ALL ? saved : rc; /* the index can be made again, and durable the rows are */
}

/* ---------------------------------------------------------------- refresh */

/* The file was replaced by a compaction. */
static syna_rc refresh_other(struct row_store *store)
{
    struct rowfile *file;
    struct mmap_rows rows;
    struct meta *meta;
    SYNA_TRY(rowfile_open(store->path, store->kind->component, false, &file));
    SYNA_TRY(row_store_load_rows(store, file, &rows, &meta));
    pthread_rwlock_wrlock(&store->state_lock);
    store->kind->drop(store);
    row_store_swap(store, &rows, meta);
    syna_rc rc = store->kind->load(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* The file has a newer checkpoint. Exclusive. */
static syna_rc follow(struct row_store *store)
{
    SYNA_TRY(row_store_check_config(store, store->rows.file));
    SYNA_TRY(row_store_follow_rows(store));
    return store->kind->follow ? store->kind->follow(store) : SYNA_SUCCESS;
}

static syna_rc refresh_same(struct row_store *store, bool *changed)
{
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = rowfile_refresh(store->rows.file, changed);
    if (rc == SYNA_SUCCESS && *changed)
        rc = follow(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc refresh_locked(struct row_store *store, bool *changed)
{
    struct vfs_stat st;
    int found = syna_vfs->stat_path(store->path, &st);
    if (found < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -found,
                            "cannot be examined");
    if (row_store_is_file(store, st.device, st.inode))
        return refresh_same(store, changed);
    SYNA_TRY(refresh_other(store));
    *changed = true;
    return SYNA_SUCCESS;
}

syna_rc row_store_look(struct row_store *store, bool *changed)
{
    *changed = false;
    if (store->writer)
        return SYNA_SUCCESS; /* nobody else writes */
    row_store_begin_upkeep(store);
    syna_rc rc = refresh_locked(store, changed);
    row_store_end_upkeep(store);
    return rc;
}

syna_rc row_store_refresh(struct row_store *store, bool *changed)
{
    SYNA_TRY(row_store_look(store, changed));
    return *changed ? row_store_tend(store, NULL, NULL) : SYNA_SUCCESS;
}
