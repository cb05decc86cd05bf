/* cascade_store_write.c - insert, replace and delete rows: room, copy, publish (see
 * cascade_store_core.h). The index follows. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

#include <math.h>

struct named {
    uint32_t hash;
    uint32_t len;
};

struct insertion {
    syna_buckets *store;
    const struct cascade_store_batch *batch;
    struct named *names; /* what the keys are, looked at once */
    uint64_t record_bytes;
    size_t metas; /* rows with metadata */
    size_t meta_bytes;
    size_t added;
};

/* ---------------------------------------------------------------- keys and metadata */

static syna_rc check_key(const char *key, size_t len)
{
    if (!key)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the key is a null pointer");
    if (len > SYNA_VECTOR_KEY_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes, at most %u fit", len, SYNA_VECTOR_KEY_MAX);
    return db_check_key(key, len);
}

static const char *meta_of(const struct cascade_store_batch *batch, size_t i, size_t *len)
{
    const char *text = batch->metadata ? batch->metadata[i] : NULL;
    *len = !text ? 0 : batch->metadata_lens ? batch->metadata_lens[i] : strlen(text);
    return text;
}

static syna_rc take_meta(struct insertion *in, size_t i, size_t *len)
{
    const char *text = meta_of(in->batch, i, len);
    if (!text)
        return SYNA_SUCCESS;
    if (*len == 0 || *len > INT32_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the metadata of row %zu has %zu bytes, expected a JSON object", i, *len);
    SYNA_TRY(meta_check(text, *len));
    in->metas++;
    in->meta_bytes += *len;
    return SYNA_SUCCESS;
}

static syna_rc take_names(struct insertion *in)
{
    const struct cascade_store_batch *batch = in->batch;
    in->names = mem_alloc(batch->count * sizeof *in->names);
    if (!in->names)
        return syna_no_memory(batch->count * sizeof *in->names);
    for (size_t i = 0; i < batch->count; i++) {
        const char *key = batch->keys[i];
        size_t len = batch->key_lens ? batch->key_lens[i] : key ? strlen(key) : 0, meta_len;
        SYNA_TRY(check_key(key, len));
        SYNA_TRY(take_meta(in, i, &meta_len));
        in->names[i] = (struct named){mmap_key_hash(key, len), (uint32_t)len};
        in->record_bytes += record_bytes(len, meta_len);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- copying */

static syna_rc refuse_row(const struct insertion *in, size_t i, size_t at)
{
    const float *v = in->batch->vectors + i * in->store->dims;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, in->store->path, -1, 0,
                        "row %zu, key %.*s: element %zu is %f, expected a finite number", i,
                        (int)MIN(in->names[i].len, 200u), in->batch->keys[i], at, (double)v[at]);
}

/* Copy the vectors behind the committed rows, with their lengths. The length tells NaN and
 * infinity; only when it is not finite is the vector looked at element by element, because finite
 * ones can have an infinite length. */
static syna_rc copy_rows(struct insertion *in)
{
    const syna_buckets *store = in->store;
    const struct rowfile *file = store->rows.file;
    size_t bytes = store->dims * sizeof(float), padding = file->row_bytes - bytes;
    uint8_t *to = rowfile_next_row(file);
    float *norms = mmap_rows_norms(&store->rows) + store->rows.count;
    for (size_t i = 0; i < in->batch->count; i++, to += file->row_bytes) {
        const float *v = in->batch->vectors + i * store->dims;
        norms[i] = vector_norm(store->kernels, v, store->dims);
        if (UNLIKELY(!isfinite(norms[i]))) {
            size_t at = vector_first_not_finite(v, store->dims);
            if (at < store->dims) {
                rowfile_abandon(in->store->rows.file, i);
                return refuse_row(in, i, at);
            }
        }
        memcpy(to, v, bytes);
        memset(to + bytes, 0, padding);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- publishing */

static void publish_others(struct insertion *in, const struct row_record *record)
{
    if (record->replaces != ROWFILE_NONE) {
        meta_clear(in->store->meta, record->replaces);
        cascade_remove(&in->store->index, record->replaces);
    }
    if (record->meta_len > 0) /* there is room, and the text was checked */
        meta_set(in->store->meta, record->row, (const char *)record->meta, record->meta_len);
}

/* state_lock is held exclusively, and there is room for everything. */
static uint64_t publish_row(struct insertion *in, size_t i, uint64_t at)
{
    struct mmap_rows *rows = &in->store->rows;
    const struct named *name = &in->names[i];
    const char *key = in->batch->keys[i];
    size_t slot = mmap_keys_find(rows, name->hash, key, name->len), meta_len;
    const char *meta = meta_of(in->batch, i, &meta_len);
    bool added = slot == rows->slot_count;
    float norm = mmap_rows_norms(rows)[rows->count];
    struct row_record record = {.sequence = ++rows->sequence,
                                .row = rows->count,
                                .replaces = added ? ROWFILE_NONE : rows->slots[slot].row,
                                .kind = RECORD_ROW,
                                .key_len = (uint16_t)name->len,
                                .key = (const uint8_t *)key,
                                .meta_len = (uint32_t)meta_len,
                                .meta = (const uint8_t *)meta};
    memcpy(&record.word, &norm, sizeof norm);
    record_encode(&record, (uint8_t *)(uintptr_t)rowfile_base(rows->file, STREAM_RECORDS) + at);
    mmap_rows_add(rows, at, norm, record.replaces);
    if (added)
        mmap_keys_add(rows, name->hash, record.row);
    else
        rows->slots[slot].row = record.row;
    publish_others(in, &record);
    in->added += added;
    return at + record_bytes(name->len, meta_len);
}

#define LOOK_AHEAD 8u

static void publish(struct insertion *in)
{
    syna_buckets *store = in->store;
    struct mmap_rows *rows = &store->rows;
    size_t count = in->batch->count;
    pthread_rwlock_wrlock(&store->state_lock);
    uint64_t at = rows->applied;
    for (size_t i = 0; i < count; i++) {
        if (i + LOOK_AHEAD < count) /* the slot is about never in the cache */
            __builtin_prefetch(
                &rows->slots[in->names[i + LOOK_AHEAD].hash & (rows->slot_count - 1)], 1);
        at = publish_row(in, i, at);
    }
    rows->applied = at;
    rowfile_commit(rows->file, count, in->record_bytes, count);
    pthread_rwlock_unlock(&store->state_lock);
}

/* ---------------------------------------------------------------- inserting */

/* Everything that can fail, but for the vectors themselves. write_lock is held. */
static syna_rc make_room(syna_buckets *store, size_t count, uint64_t bytes, size_t metas,
                         size_t meta_bytes)
{
    struct mmap_rows *rows = &store->rows;
    SYNA_TRY(rowfile_reserve(rows->file, count, bytes, store->capacity));
    if (metas == 0 && mmap_rows_have_room(rows, count))
        return SYNA_SUCCESS; /* which only a writer uses up: searches need not wait */
    pthread_rwlock_wrlock(&store->state_lock); /* arrays may move */
    syna_rc rc = mmap_keys_build(rows);
    if (rc == SYNA_SUCCESS)
        rc = mmap_keys_reserve(rows, count);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_reserve(rows, count);
    if (rc == SYNA_SUCCESS && metas)
        rc = meta_reserve(store->meta, (uint32_t)(rows->count + count), metas, meta_bytes);
    pthread_rwlock_unlock(&store->state_lock);
    return cascade_store_note_damage(store, rc);
}

static syna_rc insert_locked(struct insertion *in)
{
    SYNA_TRY(cascade_store_check_writable(in->store));
    SYNA_TRY(cascade_store_check_dims(in->store, "vector", in->batch->dims));
    SYNA_TRY(make_room(in->store, in->batch->count, in->record_bytes, in->metas, in->meta_bytes));
    SYNA_TRY(copy_rows(in));
    publish(in);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_insert(syna_buckets *store, const struct cascade_store_batch *batch,
                             size_t *added)
{
    struct insertion in = {.store = store, .batch = batch};
    *added = 0;
    syna_rc rc = batch->count ? take_names(&in) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS && batch->count) {
        pthread_mutex_lock(&store->write_lock);
        rc = insert_locked(&in);
        pthread_mutex_unlock(&store->write_lock);
        *added = in.added;
    }
    mem_free(in.names);
    return rc == SYNA_SUCCESS ? cascade_store_maintain(store, batch->progress, batch->context) : rc;
}

/* ---------------------------------------------------------------- deleting */

static void publish_deletion(syna_buckets *store, size_t slot, const char *key, size_t key_len)
{
    struct mmap_rows *rows = &store->rows;
    struct row_record record = {.sequence = ++rows->sequence,
                                .row = ROWFILE_NONE,
                                .replaces = rows->slots[slot].row,
                                .kind = RECORD_DELETION,
                                .key_len = (uint16_t)key_len,
                                .key = (const uint8_t *)key};
    record_encode(&record, rowfile_next_record(rows->file));
    mmap_rows_drop(rows, record.replaces);
    mmap_keys_remove(rows, slot);
    meta_clear(store->meta, record.replaces);
    cascade_remove(&store->index, record.replaces);
    rows->applied += record_bytes(key_len, 0);
    rowfile_commit(rows->file, 0, record_bytes(key_len, 0), 1);
}

static syna_rc delete_locked(syna_buckets *store, const char *key, size_t key_len, int32_t *deleted)
{
    SYNA_TRY(cascade_store_check_writable(store));
    SYNA_TRY(make_room(store, 0, record_bytes(key_len, 0), 0, 0));
    pthread_rwlock_wrlock(&store->state_lock);
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, key_len), key, key_len);
    *deleted = slot != store->rows.slot_count;
    if (*deleted)
        publish_deletion(store, slot, key, key_len);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_delete(syna_buckets *store, const char *key, size_t key_len, int32_t *deleted)
{
    *deleted = 0;
    SYNA_TRY(check_key(key, key_len));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = delete_locked(store, key, key_len, deleted);
    pthread_mutex_unlock(&store->write_lock);
    return rc == SYNA_SUCCESS ? cascade_store_maintain(store, NULL, NULL) : rc;
}
