/* gwi_file.c - the snapshot of the lists, <path>.wells: the sections of index/partition_file.c. It names
 * the rows that it covers by their number, the last of them also by its checksum, and is written after
 * these are durable; whatever does not fit is as if it were not there. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/gwi_core.h"

#define SNAPSHOT_GWI SNAPSHOT_FOURCC('G', 'W', 'E', 'L')

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

static void cover_of(const syna_wells *store, uint64_t end, struct snapshot_cover *out)
{
    const struct header *header = &store->rows.file->header;
    *out = (struct snapshot_cover){.generation = header->generation,
                                   .end = end,
                                   .end_crc = end_sum(&store->rows, end),
                                   .purpose = SNAPSHOT_GWI};
    memcpy(out->uuid, header->uuid, sizeof out->uuid);
}

syna_rc gwi_save_lists(syna_wells *store)
{
    struct snapshot_writer *writer;
    struct snapshot_cover cover;
    if (!partition_trained(&store->part))
        return SYNA_SUCCESS;
    pthread_rwlock_rdlock(&store->state_lock); /* records' places may move in memory */
    cover_of(store, store->part.end, &cover);
    pthread_rwlock_unlock(&store->state_lock);
    SYNA_TRY(snapshot_begin(store->wells_path, &cover, &writer));
    syna_rc rc = partition_save(&store->part, writer);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        snapshot_abort(writer);
        return status_set(&why);
    }
    SYNA_TRY(snapshot_commit(writer));
    store->saved_end = store->part.end;
    store->lists_changed = false;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

/* The rows were checkpointed before the lists were saved: a reader that came between looks again. */
static syna_rc catch_up(syna_wells *store, uint64_t end)
{
    bool changed;
    if (store->writer || end <= store->rows.count)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_refresh(store->rows.file, &changed));
    return changed ? mmap_rows_apply(&store->rows) : SYNA_SUCCESS;
}

static syna_rc covers(syna_wells *store, const struct snapshot_cover *found, bool *fits)
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

static syna_rc take(syna_wells *store, struct snapshot *snapshot, bool *taken)
{
    const struct snapshot_cover *cover = snapshot_cover_of(snapshot);
    SYNA_TRY(covers(store, cover, taken));
    if (!*taken)
        return SYNA_SUCCESS;
    SYNA_TRY(partition_load(&store->part, snapshot, store->rows.count, taken));
    if (*taken && store->part.end != cover->end) {
        partition_dispose(&store->part);
        *taken = false;
    }
    if (*taken) {
        store->snapshot = snapshot;
        store->saved_end = store->part.end;
    }
    return SYNA_SUCCESS;
}

syna_rc gwi_load_lists(syna_wells *store)
{
    struct snapshot_cover cover;
    struct snapshot *snapshot;
    bool taken = false;
    cover_of(store, 0, &cover);
    SYNA_TRY(snapshot_open(store->wells_path, &cover, &snapshot));
    if (!snapshot)
        return SYNA_SUCCESS;
    syna_rc rc = take(store, snapshot, &taken);
    if (!taken) {
        struct status_record why = *status_get();
        snapshot_close(snapshot);
        if (rc != SYNA_SUCCESS)
            status_set(&why);
    }
    return rc;
}
