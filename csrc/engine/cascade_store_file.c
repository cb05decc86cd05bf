/* cascade_store_file.c - the snapshot of the index, <path>.index: codes and the sections of
 * index/cascade_file.c. It names the rows that it covers by their number, the last of them also by
 * its checksum, and is written after these are durable; whatever does not fit is as if it were not
 * there. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/cascade_store_core.h"

#include <math.h>

#define SNAPSHOT_CASCADE SNAPSHOT_FOURCC('C', 'A', 'S', 'C')
#define STORE_VERSION 1u

struct store_head {
    uint32_t version;
    uint32_t dims;
    int32_t metric;
    uint32_t rows;
    float step, low;
    uint32_t trained_of;
    uint32_t dead_before;
};

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

static void cover_of(const syna_buckets *store, uint64_t end, struct snapshot_cover *out)
{
    const struct header *header = &store->rows.file->header;
    *out = (struct snapshot_cover){.generation = header->generation,
                                   .end = end,
                                   .end_crc = end_sum(&store->rows, end),
                                   .purpose = SNAPSHOT_CASCADE};
    memcpy(out->uuid, header->uuid, sizeof out->uuid);
}

static syna_rc write_codes(const syna_buckets *store, struct snapshot_writer *writer)
{
    const struct row_set *set = &store->set;
    const struct store_head head = {.version = STORE_VERSION,
                                    .dims = store->dims,
                                    .metric = store->metric,
                                    .rows = store->index.linked,
                                    .step = set->codes.step,
                                    .low = set->codes.low,
                                    .trained_of = store->trained_of,
                                    .dead_before = store->dead_before};
    SYNA_TRY(snapshot_section(writer, "store"));
    SYNA_TRY(snapshot_append(writer, &head, sizeof head));
    SYNA_TRY(snapshot_section(writer, "codes"));
    SYNA_TRY(array_save(&set->code_rows, head.rows, writer));
    SYNA_TRY(snapshot_section(writer, "norms"));
    SYNA_TRY(array_save(&set->norms, head.rows, writer));
    SYNA_TRY(snapshot_section(writer, "errors"));
    return array_save(&set->errors, head.rows, writer);
}

static syna_rc write_all(const syna_buckets *store, struct snapshot_writer *writer)
{
    SYNA_TRY(write_codes(store, writer));
    return cascade_save(&store->index, writer);
}

/* Writers wait meanwhile, because a deletion changes buckets; searches do not. */
static syna_rc write_locked(syna_buckets *store)
{
    struct snapshot_writer *writer;
    struct snapshot_cover cover;
    cover_of(store, store->index.linked, &cover);
    SYNA_TRY(snapshot_begin(store->index_path, &cover, &writer));
    syna_rc rc = write_all(store, writer);
    if (rc == SYNA_SUCCESS)
        return snapshot_commit(writer);
    struct status_record why = *status_get();
    snapshot_abort(writer);
    return status_set(&why);
}

syna_rc cascade_store_save_index(syna_buckets *store)
{
    if (store->index.linked == 0)
        return SYNA_SUCCESS;
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = write_locked(store);
    pthread_mutex_unlock(&store->write_lock);
    if (rc == SYNA_SUCCESS) {
        store->saved_end = store->index.linked;
        store->index_changed = false;
    }
    return rc;
}

/* ---------------------------------------------------------------- reading */

/* The rows were checkpointed before the index was saved: a reader that came between looks again. */
static syna_rc catch_up(syna_buckets *store, uint64_t end)
{
    bool changed;
    if (store->writer || end <= store->rows.count)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_refresh(store->rows.file, &changed));
    return changed ? mmap_rows_apply(&store->rows) : SYNA_SUCCESS;
}

static syna_rc covers(syna_buckets *store, const struct snapshot_cover *found, bool *fits)
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

static bool head_sound(const syna_buckets *store, const struct store_head *head)
{
    return head->version == STORE_VERSION && head->dead_before < head->rows && head->dims == store->dims &&
           head->metric == store->metric && head->rows > 0 && head->rows <= store->rows.count &&
           isfinite(head->step) && head->step > 0 && isfinite(head->low);
}

/* Let an array begin with a section. *found: it is there and whole. */
static syna_rc load_array(struct array *a, uint32_t rows, const char *name,
                          struct snapshot *snapshot, bool *found)
{
    size_t len, item = a->item, max = a->reserved / item;
    void *bytes = snapshot_find(snapshot, name, &len);
    *found = bytes && len == rows * item && snapshot_touch(snapshot, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(a);
    return array_init_head(a, item, rows + max, bytes, rows);
}

static syna_rc load_codes(syna_buckets *store, struct snapshot *snapshot, struct row_set *set,
                          bool *found)
{
    struct store_head head;
    size_t len;
    const void *bytes = snapshot_find(snapshot, "store", &len);
    *found = bytes && len == sizeof head && snapshot_touch(snapshot, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    memcpy(&head, bytes, sizeof head);
    *found = head_sound(store, &head);
    if (!*found)
        return SYNA_SUCCESS;
    set->codes.step = head.step;
    set->codes.low = head.low;
    set->count = head.rows;
    store->trained_of = head.trained_of;
    store->dead_before = head.dead_before;
    SYNA_TRY(load_array(&set->code_rows, head.rows, "codes", snapshot, found));
    if (*found)
        SYNA_TRY(load_array(&set->norms, head.rows, "norms", snapshot, found));
    if (*found)
        SYNA_TRY(load_array(&set->errors, head.rows, "errors", snapshot, found));
    return SYNA_SUCCESS;
}

static syna_rc load_parts(syna_buckets *store, struct snapshot *snapshot, bool *taken)
{
    const struct snapshot_cover *cover = snapshot_cover_of(snapshot);
    SYNA_TRY(covers(store, cover, taken));
    if (*taken)
        SYNA_TRY(load_codes(store, snapshot, &store->set, taken));
    if (*taken)
        SYNA_TRY(cascade_init(&store->index, &store->params, store->set.codes.stride));
    if (*taken)
        SYNA_TRY(cascade_load(&store->index, &store->set, snapshot, taken));
    *taken = *taken && store->index.linked == cover->end && store->set.count == cover->end;
    return SYNA_SUCCESS;
}

static syna_rc take(syna_buckets *store, struct snapshot *snapshot, bool *taken)
{
    SYNA_TRY(cascade_store_init_set(store, &store->set));
    syna_rc rc = load_parts(store, snapshot, taken);
    if (rc != SYNA_SUCCESS || !*taken) {
        struct status_record why = *status_get();
        *taken = false;
        cascade_store_drop_index(store);
        return rc == SYNA_SUCCESS ? rc : status_set(&why);
    }
    store->snapshot = snapshot;
    store->saved_end = store->index.linked;
    cascade_store_sweep(store);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_load_index(syna_buckets *store)
{
    struct snapshot_cover cover;
    struct snapshot *snapshot;
    bool taken = false;
    cover_of(store, 0, &cover);
    SYNA_TRY(snapshot_open(store->index_path, &cover, &snapshot));
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
