/* row_store_write.c - insert, replace and delete rows: room, copy, publish (see row_store.h). The index
 * follows. */
#include "base/internal.h"

#include "engine/meta_merge.h"
#include "engine/row_store.h"

#include <math.h>

/* Room is made at once for so many bytes of rows that somebody said would come; later the file grows by
 * half. */
#define AHEAD_BYTES_MAX (64u << 20)

struct named {
    uint32_t hash;
    uint32_t len;
};

struct insertion {
    struct row_store *store;
    const struct row_batch *batch;
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

static const char *meta_of(const struct row_batch *batch, size_t i, size_t *len)
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
    const struct row_batch *batch = in->batch;
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

/* Copy the vectors behind the committed rows, with their lengths. The length tells NaN and infinity;
 * only when it is not finite is the vector looked at element by element, because finite ones can have
 * an infinite length. */
static syna_rc copy_rows(struct insertion *in)
{
    const struct row_store *store = in->store;
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

/* Nobody names the row any more. */
static void forget_row(struct row_store *store, uint32_t row)
{
    if (store->meta)
        meta_clear(store->meta, row);
    if (store->kind->removed)
        store->kind->removed(store, row);
}

/* state_lock is held exclusively, and there is room for everything. */
static uint64_t publish_row(struct insertion *in, size_t i, uint64_t at)
{
    struct row_store *store = in->store;
    struct mmap_rows *rows = &store->rows;
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
    if (added) {
        mmap_keys_add(rows, name->hash, record.row);
    } else {
        rows->slots[slot].row = record.row;
        forget_row(store, record.replaces);
    }
    if (meta_len > 0) /* there is room, and the text was checked */
        meta_set(store->meta, record.row, meta, meta_len);
    in->added += added;
    return at + record_bytes(name->len, meta_len);
}

#define LOOK_AHEAD 8u

static void publish(struct insertion *in)
{
    struct row_store *store = in->store;
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
    if (store->kind->came)
        store->kind->came(store);
    pthread_rwlock_unlock(&store->state_lock);
}

/* ---------------------------------------------------------------- inserting */

/* Shared, so that searches go on; a look-up that builds the key table just now is waited for, because the
 * table is not whole before. */
static bool has_room(struct row_store *store, size_t count)
{
    const struct row_store_kind *kind = store->kind;
    pthread_rwlock_rdlock(&store->state_lock);
    bool room = mmap_rows_have_room(&store->rows, count) &&
                (!kind->has_room || kind->has_room(store, (uint64_t)store->rows.count + count));
    pthread_rwlock_unlock(&store->state_lock);
    return room;
}

/* Most say nothing, and the default is no reason to take gigabytes of the disk for a few wide rows. */
static uint64_t rows_ahead(const struct row_store *store)
{
    return MIN(store->capacity, AHEAD_BYTES_MAX / (store->dims * sizeof(float)));
}

/* Everything that can fail, but for the vectors themselves. write_lock is held. */
static syna_rc make_room(struct row_store *store, size_t count, uint64_t bytes, size_t metas,
                         size_t meta_bytes)
{
    struct mmap_rows *rows = &store->rows;
    SYNA_TRY(rowfile_reserve(rows->file, count, bytes, rows_ahead(store)));
    if (metas == 0 && has_room(store, count))
        return SYNA_SUCCESS; /* which only a writer uses up: searches need not wait */
    pthread_rwlock_wrlock(&store->state_lock); /* arrays may move */
    syna_rc rc = mmap_keys_build(rows);
    if (rc == SYNA_SUCCESS)
        rc = mmap_keys_reserve(rows, count);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_reserve(rows, count);
    if (rc == SYNA_SUCCESS && metas)
        rc = meta_reserve(store->meta, (uint32_t)(rows->count + count), metas, meta_bytes);
    if (rc == SYNA_SUCCESS && store->kind->reserve)
        rc = store->kind->reserve(store, (uint64_t)rows->count + count);
    pthread_rwlock_unlock(&store->state_lock);
    return row_store_note_damage(store, rc);
}

static syna_rc insert_locked(struct insertion *in)
{
    struct row_store *store = in->store;
    const struct row_batch *batch = in->batch;
    SYNA_TRY(row_store_check_writable(store));
    SYNA_TRY(row_store_check_dims(store, "vector", batch->dims));
    SYNA_TRY(make_room(store, batch->count, in->record_bytes, in->metas, in->meta_bytes));
    SYNA_TRY(copy_rows(in));
    if (store->kind->coming)
        store->kind->coming(store, batch->vectors, batch->count);
    publish(in);
    return SYNA_SUCCESS;
}

syna_rc row_store_insert(struct row_store *store, const struct row_batch *batch, size_t *added)
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
    return rc == SYNA_SUCCESS ? row_store_tend(store, batch->progress, batch->context) : rc;
}

/* ---------------------------------------------------------------- deleting */

static void publish_deletion(struct row_store *store, size_t slot, const char *key, size_t key_len)
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
    forget_row(store, record.replaces);
    rows->applied += record_bytes(key_len, 0);
    rowfile_commit(rows->file, 0, record_bytes(key_len, 0), 1);
}

static syna_rc delete_locked(struct row_store *store, const char *key, size_t key_len, int32_t *deleted)
{
    SYNA_TRY(row_store_check_writable(store));
    SYNA_TRY(make_room(store, 0, record_bytes(key_len, 0), 0, 0));
    pthread_rwlock_wrlock(&store->state_lock);
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, key_len), key, key_len);
    *deleted = slot != store->rows.slot_count;
    if (*deleted)
        publish_deletion(store, slot, key, key_len);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

syna_rc row_store_delete(struct row_store *store, const char *key, size_t key_len, int32_t *deleted)
{
    *deleted = 0;
    SYNA_TRY(check_key(key, key_len));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = delete_locked(store, key, key_len, deleted);
    pthread_mutex_unlock(&store->write_lock);
    return rc == SYNA_SUCCESS ? row_store_tend(store, NULL, NULL) : rc;
}

/* ---------------------------------------------------------------- metadata */

/* A row does not change: its vector is stored anew, with other metadata. */
struct update {
    struct row_batch batch;
    const char *key, *json; /* NULL: no metadata */
    size_t key_len, len;
    const float *vector; /* where it is mapped */
    struct buf merged;
};

static syna_rc find_row(struct row_store *store, struct update *u, bool replace)
{
    uint32_t row;
    size_t old_len;
    SYNA_TRY(row_store_find(store, u->key, u->key_len, &row));
    u->vector = mmap_rows_vector(&store->rows, row);
    const char *old = meta_text(store->meta, row, &old_len);
    if (replace || !old || !u->json)
        return SYNA_SUCCESS;
    SYNA_TRY(meta_merge(old, old_len, u->json, u->len, &u->merged));
    u->json = (const char *)u->merged.bytes;
    u->len = u->merged.len;
    return SYNA_SUCCESS;
}

/* write_lock is held: nobody else changes the row between reading and storing. */
static syna_rc update_locked(struct insertion *in, struct update *u, bool replace)
{
    struct row_store *store = in->store;
    SYNA_TRY(row_store_check_writable(store));
    SYNA_TRY(row_store_begin_lookup(store));
    syna_rc rc = find_row(store, u, replace);
    pthread_rwlock_unlock(&store->state_lock);
    SYNA_TRY(rc);
    u->batch = (struct row_batch){.keys = &u->key,
                                  .key_lens = &u->key_len,
                                  .vectors = u->vector,
                                  .metadata = &u->json,
                                  .metadata_lens = &u->len,
                                  .dims = store->dims,
                                  .count = 1};
    SYNA_TRY(take_names(in));
    return insert_locked(in);
}

syna_rc row_store_update_metadata(struct row_store *store, const char *key, size_t key_len,
                                  const char *json, size_t len, bool replace)
{
    struct update u = {.key = key, .key_len = key_len, .json = json, .len = len};
    struct insertion in = {.store = store, .batch = &u.batch};
    if (json)
        SYNA_TRY(meta_check(json, len));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = update_locked(&in, &u, replace);
    pthread_mutex_unlock(&store->write_lock);
    mem_free(in.names);
    buf_dispose(&u.merged);
    return rc == SYNA_SUCCESS ? row_store_tend(store, NULL, NULL) : rc;
}
