/* gwi_file.c - the snapshot of the lists, <path>.wells: the sections of index/partition_file.c. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#define SNAPSHOT_GWI SNAPSHOT_FOURCC('G', 'W', 'E', 'L')
#define SAVE_SHARE 4u /* lists are saved when a quarter of the rows is new in them */
#define SAVE_LEAST 1024u

static syna_rc put_lists(struct row_store *base, struct snapshot_writer *writer)
{
    return partition_save(&gwi_of(base)->part, writer);
}

static bool save_due(const syna_wells *store, enum row_save why)
{
    uint32_t end = store->part.end;
    if (!partition_trained(&store->part))
        return false;
    if (why != ROW_SAVE_CHECKPOINT)
        return store->lists_changed || end != store->saved_end;
    return store->saved_end == 0 ? end >= SAVE_LEAST || store->lists_changed
                                 : end - store->saved_end > end / SAVE_SHARE;
}

syna_rc gwi_save_lists(struct row_store *base, enum row_save why)
{
    syna_wells *store = gwi_of(base);
    if (!save_due(store, why))
        return SYNA_SUCCESS;
    gwi_measure_for_later(store);
    SYNA_TRY(row_store_save_snapshot(base, SNAPSHOT_GWI, store->part.end, put_lists));
    store->saved_end = store->part.end;
    store->lists_changed = false;
    return SYNA_SUCCESS;
}

static syna_rc take_lists(struct row_store *base, struct snapshot *snapshot, bool *taken)
{
    syna_wells *store = gwi_of(base);
    SYNA_TRY(partition_load(&store->part, snapshot, base->rows.count, taken));
    if (*taken && store->part.end != snapshot_cover_of(snapshot)->end) {
        partition_dispose(&store->part);
        *taken = false;
    }
    if (*taken) {
        store->snapshot = snapshot;
        store->saved_end = store->part.end;
    }
    return SYNA_SUCCESS;
}

syna_rc gwi_load_lists(struct row_store *base)
{
    return row_store_load_snapshot(base, SNAPSHOT_GWI, take_lists);
}
