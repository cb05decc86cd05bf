/* mmap_vectors_write.c - insert, replace and delete rows. See mmap_vectors_core.h for the order of
 * things: room, copy, publish. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

#include <math.h>

struct named {
    uint32_t hash;
    uint32_t len;
};

struct insertion {
    syna_mmap *store;
    const char *const *keys;
    struct named *names; /* what the keys are, looked at once */
    const float *vectors;
    size_t count;
    uint64_t record_bytes;
    size_t added;
};

/* ---------------------------------------------------------------- keys */

static syna_rc check_key(const char *key, size_t len)
{
    if (!key)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the key is a null pointer");
    if (len > SYNA_VECTOR_KEY_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes, at most %u fit", len, SYNA_VECTOR_KEY_MAX);
    return db_check_key(key, len);
}

static syna_rc take_names(struct insertion *in, const size_t *key_lens)
{
    in->names = mem_alloc(in->count * sizeof *in->names);
    if (!in->names)
        return syna_no_memory(in->count * sizeof *in->names);
    for (size_t i = 0; i < in->count; i++) {
        const char *key = in->keys[i];
        size_t len = key_lens ? key_lens[i] : key ? strlen(key) : 0;
        SYNA_TRY(check_key(key, len));
        in->names[i] = (struct named){mmap_key_hash(key, len), (uint32_t)len};
        in->record_bytes += record_bytes(len, 0);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- copying */

static syna_rc refuse_row(const struct insertion *in, size_t i, size_t at)
{
    const float *v = in->vectors + i * in->store->dims;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, in->store->path, -1, 0,
                        "row %zu, key %.*s: element %zu is %f, expected a finite number", i,
                        (int)MIN(in->names[i].len, 200u), in->keys[i], at, (double)v[at]);
}

/* Copy the vectors behind the committed rows, with their lengths. The length tells NaN and infinity;
 * only when it is not finite is the vector looked at element by element, because finite ones can have
 * an infinite length. */
static syna_rc copy_rows(struct insertion *in)
{
    const syna_mmap *store = in->store;
    const struct rowfile *file = store->rows.file;
    size_t bytes = store->dims * sizeof(float), padding = file->row_bytes - bytes;
    uint8_t *to = rowfile_next_row(file);
    float *norms = mmap_rows_norms(&store->rows) + store->rows.count;
    for (size_t i = 0; i < in->count; i++, to += file->row_bytes) {
        const float *v = in->vectors + i * store->dims;
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

/* Codes for the rows, where there is an index. */
static void encode_rows(const struct insertion *in)
{
    const syna_mmap *store = in->store;
    for (size_t i = 0; store->index && i < in->count; i++)
        mmap_index_encode_row(store->index, store->rows.count + (uint32_t)i,
                              in->vectors + i * store->dims);
}

/* ---------------------------------------------------------------- publishing */

/* A row that nobody names any more. */
static void note_dead(const syna_mmap *store, uint32_t row)
{
    if (store->index)
        mmap_index_drop(store->index, row);
}


/* state_lock is held exclusively, and there is room for everything. */
static uint64_t publish_row(struct insertion *in, size_t i, uint64_t at)
{
    struct mmap_rows *rows = &in->store->rows;
    const struct named *name = &in->names[i];
    size_t slot = mmap_keys_find(rows, name->hash, in->keys[i], name->len);
    bool added = slot == rows->slot_count;
    float norm = mmap_rows_norms(rows)[rows->count];
    struct row_record record = {.sequence = ++rows->sequence,
                                .row = rows->count,
                                .replaces = added ? ROWFILE_NONE : rows->slots[slot].row,
                                .kind = RECORD_ROW,
                                .key_len = (uint16_t)name->len,
                                .key = (const uint8_t *)in->keys[i]};
    memcpy(&record.word, &norm, sizeof norm);
    record_encode(&record, (uint8_t *)(uintptr_t)rowfile_base(rows->file, STREAM_RECORDS) + at);
    mmap_rows_add(rows, at, norm, record.replaces);
    if (added)
        mmap_keys_add(rows, name->hash, record.row);
    else
        rows->slots[slot].row = record.row;
    in->added += added;
    if (!added)
        note_dead(in->store, record.replaces);
    return at + record_bytes(name->len, 0);
}

#define LOOK_AHEAD 8u

static void publish(struct insertion *in)
{
    syna_mmap *store = in->store;
    struct mmap_rows *rows = &store->rows;
    pthread_rwlock_wrlock(&store->state_lock);
    uint64_t at = rows->applied;
    for (size_t i = 0; i < in->count; i++) {
        if (i + LOOK_AHEAD < in->count) /* the slot is about never in the cache */
            __builtin_prefetch(
                &rows->slots[in->names[i + LOOK_AHEAD].hash & (rows->slot_count - 1)], 1);
        at = publish_row(in, i, at);
    }
    rows->applied = at;
    rowfile_commit(rows->file, in->count, in->record_bytes, in->count);
    if (store->index)
        store->index->set.count = rows->count;
    pthread_rwlock_unlock(&store->state_lock);
}

/* ---------------------------------------------------------------- inserting */

/* Everything that can fail, but for the vectors themselves. write_lock is held. */
static syna_rc make_room(syna_mmap *store, size_t count, uint64_t bytes)
{
    struct mmap_rows *rows = &store->rows;
    SYNA_TRY(rowfile_reserve(rows->file, count, bytes, store->capacity));
    uint64_t total = (uint64_t)rows->count + count;
    if (mmap_rows_have_room(rows, count) && /* which only a writer uses up: searches need not wait */
        (!store->index || mmap_index_has_room(store->index, total)))
        return SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock); /* arrays may move */
    syna_rc rc = mmap_keys_build(rows);
    if (rc == SYNA_SUCCESS)
        rc = mmap_keys_reserve(rows, count);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_reserve(rows, count);
    if (rc == SYNA_SUCCESS && store->index)
        rc = mmap_index_reserve(store->index, total);
    pthread_rwlock_unlock(&store->state_lock);
    return mmap_vectors_note_damage(store, rc);
}

static syna_rc insert_locked(struct insertion *in, uint32_t dims)
{
    SYNA_TRY(mmap_vectors_check_writable(in->store));
    SYNA_TRY(mmap_vectors_check_dims(in->store, "vector", dims));
    SYNA_TRY(make_room(in->store, in->count, in->record_bytes));
    SYNA_TRY(copy_rows(in));
    encode_rows(in);
    publish(in);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_insert(syna_mmap *store, const char *const *keys, const size_t *key_lens,
                            const float *vectors, uint32_t dims, size_t count, size_t *added)
{
    struct insertion in = {.store = store, .keys = keys, .vectors = vectors, .count = count};
    *added = 0;
    syna_rc rc = count ? take_names(&in, key_lens) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS && count) {
        pthread_mutex_lock(&store->write_lock);
        rc = insert_locked(&in, dims);
        pthread_mutex_unlock(&store->write_lock);
        *added = in.added;
    }
    mem_free(in.names);
    return rc;
}

/* ---------------------------------------------------------------- deleting */

static void publish_deletion(syna_mmap *store, size_t slot, const char *key, size_t key_len)
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
    note_dead(store, record.replaces);
    mmap_keys_remove(rows, slot);
    rows->applied += record_bytes(key_len, 0);
    rowfile_commit(rows->file, 0, record_bytes(key_len, 0), 1);
}

static syna_rc delete_locked(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted)
{
    SYNA_TRY(mmap_vectors_check_writable(store));
    SYNA_TRY(make_room(store, 0, record_bytes(key_len, 0)));
    pthread_rwlock_wrlock(&store->state_lock);
    size_t slot = mmap_keys_find(&store->rows, mmap_key_hash(key, key_len), key, key_len);
    *deleted = slot != store->rows.slot_count;
    if (*deleted)
        publish_deletion(store, slot, key, key_len);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_delete(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted)
{
    *deleted = 0;
    SYNA_TRY(check_key(key, key_len));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = delete_locked(store, key, key_len, deleted);
    pthread_mutex_unlock(&store->write_lock);
    return rc;
}
