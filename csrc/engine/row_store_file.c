/* row_store_file.c - which rows a saved index is of: their number, and the checksum of the last one with
 * its record. It is written after these rows are durable. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/row_store.h"

/* Checksum of row number end - 1, and of its record; 0 for none. */
static uint32_t end_sum(const struct mmap_rows *rows, uint64_t end)
{
    if (end == 0)
        return 0;
    uint32_t row = (uint32_t)(end - 1);
    uint64_t at = mmap_rows_offset(rows, row);
    uint32_t sum = crc32c(0, rowfile_row(rows->file, row), rows->file->row_bytes);
    return crc32c(sum, rowfile_base(rows->file, STREAM_RECORDS) + at, RECORD_HEAD_BYTES);
}

static void cover_of(const struct row_store *store, uint32_t purpose, uint64_t end,
                     struct snapshot_cover *out)
{
    const struct header *header = &store->rows.file->header;
    *out = (struct snapshot_cover){.generation = header->generation,
                                   .end = end,
                                   .end_crc = end_sum(&store->rows, end),
                                   .purpose = purpose};
    memcpy(out->uuid, header->uuid, sizeof out->uuid);
}

syna_rc row_store_save_snapshot(struct row_store *store, uint32_t purpose, uint32_t end,
                                syna_rc (*put)(struct row_store *store,
                                               struct snapshot_writer *writer))
{
    struct snapshot_writer *writer;
    struct snapshot_cover cover;
    pthread_rwlock_rdlock(&store->state_lock); /* records' places may move in memory */
    cover_of(store, purpose, end, &cover);
    pthread_rwlock_unlock(&store->state_lock);
    SYNA_TRY(snapshot_begin(store->index_path, &cover, &writer));
    syna_rc rc = put(store, writer);
    if (rc == SYNA_SUCCESS)
        return snapshot_commit(writer);
    struct status_record why = *status_get();
    snapshot_abort(writer);
    return status_set(&why);
}

/* ---------------------------------------------------------------- reading */

/* The rows were checkpointed before the index was saved: a reader that came between looks again. */
static syna_rc catch_up(struct row_store *store, uint64_t end)
{
    bool changed;
    if (store->writer || end <= store->rows.count)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_refresh(store->rows.file, &changed));
    return changed ? row_store_follow_rows(store) : SYNA_SUCCESS;
}

static syna_rc covers(struct row_store *store, const struct snapshot_cover *found, bool *fits)
{
    *fits = false;
    SYNA_TRY(catch_up(store, found->end));
    if (found->end > store->rows.count)
        return SYNA_SUCCESS;
    if (found->end > 0)
        SYNA_TRY(rowfile_touch(store->rows.file, found->end - 1, 1));
    *fits = end_sum(&store->rows, found->end) == found->end_crc;
    return SYNA_SUCCESS;
}

syna_rc row_store_load_snapshot(struct row_store *store, uint32_t purpose,
                                syna_rc (*take)(struct row_store *store, struct snapshot *snapshot,
                                                bool *taken))
{
    struct snapshot_cover cover;
    struct snapshot *snapshot;
    bool taken = false;
    cover_of(store, purpose, 0, &cover);
    SYNA_TRY(snapshot_open(store->index_path, &cover, &snapshot));
    if (!snapshot)
        return SYNA_SUCCESS;
    syna_rc rc = covers(store, snapshot_cover_of(snapshot), &taken);
    if (rc == SYNA_SUCCESS && taken)
        rc = take(store, snapshot, &taken);
    if (!taken) {
        struct status_record why = *status_get();
        snapshot_close(snapshot);
        if (rc != SYNA_SUCCESS)
            status_set(&why);
    }
    return rc;
}
