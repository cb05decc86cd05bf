/* cascade_store_file.c - the snapshot of the index, <path>.index: codes and the sections of
 * index/cascade_file.c. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

#include <math.h>

#define SNAPSHOT_CASCADE SNAPSHOT_FOURCC('C', 'A', 'S', 'C')
#define STORE_VERSION 1u
#define SAVE_SHARE 4u /* a checkpoint saves the index when a quarter of its rows is new */

struct store_head {
    uint32_t version;
    uint32_t dims;
    int32_t metric;
    uint32_t rows;
    float step, low;
    uint32_t trained_of;
    uint32_t dead_before;
};

static syna_rc write_codes(const syna_buckets *store, struct snapshot_writer *writer)
{
    const struct row_set *set = &store->set;
    const struct store_head head = {.version = STORE_VERSION,
                                    .dims = store->base.dims,
                                    .metric = store->base.metric,
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

static syna_rc put_index(struct row_store *base, struct snapshot_writer *writer)
{
    const syna_buckets *store = buckets_of(base);
    SYNA_TRY(write_codes(store, writer));
    return cascade_save(&store->index, writer);
}

static bool save_due(const syna_buckets *store, enum row_save why)
{
    uint32_t linked = store->index.linked;
    if (linked == 0)
        return false;
    if (why != ROW_SAVE_CHECKPOINT)
        return store->index_changed || linked != store->saved_end;
    return store->saved_end == 0 || linked - store->saved_end > linked / SAVE_SHARE;
}

/* Writers wait meanwhile, because a deletion changes buckets; searches do not. */
syna_rc cascade_store_save_index(struct row_store *base, enum row_save why)
{
    syna_buckets *store = buckets_of(base);
    if (!save_due(store, why))
        return SYNA_SUCCESS;
    pthread_mutex_lock(&base->write_lock);
    syna_rc rc = row_store_save_snapshot(base, SNAPSHOT_CASCADE, store->index.linked, put_index);
    pthread_mutex_unlock(&base->write_lock);
    SYNA_TRY(rc);
    store->saved_end = store->index.linked;
    store->index_changed = false;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

static bool head_sound(const syna_buckets *store, const struct store_head *head)
{
    return head->version == STORE_VERSION && head->dead_before < head->rows && head->dims == store->base.dims &&
           head->metric == store->base.metric && head->rows > 0 && head->rows <= store->base.rows.count &&
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
    uint64_t end = snapshot_cover_of(snapshot)->end;
    SYNA_TRY(load_codes(store, snapshot, &store->set, taken));
    if (*taken)
        SYNA_TRY(cascade_init(&store->index, &store->params, store->set.codes.stride));
    if (*taken)
        SYNA_TRY(cascade_load(&store->index, &store->set, snapshot, taken));
    *taken = *taken && store->index.linked == end && store->set.count == end;
    return SYNA_SUCCESS;
}

static syna_rc take_index(struct row_store *base, struct snapshot *snapshot, bool *taken)
{
    syna_buckets *store = buckets_of(base);
    *taken = false;
    SYNA_TRY(cascade_store_init_set(store, &store->set));
    syna_rc rc = load_parts(store, snapshot, taken);
    if (rc != SYNA_SUCCESS || !*taken) {
        struct status_record why = *status_get();
        *taken = false;
        cascade_store_drop_index(base);
        return rc == SYNA_SUCCESS ? rc : status_set(&why);
    }
    store->snapshot = snapshot;
    store->saved_end = store->index.linked;
    return cascade_store_sweep(base);
}

syna_rc cascade_store_load_index(struct row_store *base)
{
    return row_store_load_snapshot(base, SNAPSHOT_CASCADE, take_index);
}
