/* vectors_write.c - insert, replace and delete rows. See vectors_core.h for the order of things. */
#include "base/internal.h"

#include "engine/vectors_core.h"
#include "math/half.h"

/* ---------------------------------------------------------------- names of rows in the log */

/* A key as it stands in the log, ROW_PREFIX in front. */
struct name {
    size_t len;
    char *bytes;
    struct db_place place; /* where its newest record was found */
    bool had_metadata;     /* there may be a record of it in the log */
};

static syna_rc make_name(const char *key, size_t key_len, struct name *out)
{
    if (!key)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the key is a null pointer");
    if (key_len == 0)
        return syna_fail(SYNA_ERR_EMPTY_KEY, SYNA_WHY_ARGUMENT, "the key is empty");
    if (key_len > SYNA_VECTOR_KEY_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes, at most %u fit", key_len, SYNA_VECTOR_KEY_MAX);
    SYNA_TRY(db_check_key(key, key_len));
    out->bytes = mem_alloc(ROW_PREFIX_LEN + key_len);
    if (!out->bytes)
        return syna_no_memory(key_len);
    out->len = ROW_PREFIX_LEN + key_len;
    memcpy(out->bytes, ROW_PREFIX, ROW_PREFIX_LEN);
    memcpy(out->bytes + ROW_PREFIX_LEN, key, key_len);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- inserting */

struct insertion {
    syna_vectors *store;
    const struct vectors_batch *rows;
    enum row_kind kind; /* what the rows are written as */
    size_t row_bytes;
    uint8_t *halves; /* the rows, unless they are floats */
    struct name *names;
    size_t count;
    size_t meta_rows, meta_bytes; /* rows with metadata, and its length */
    size_t meta_longest;
    bool with_config; /* nothing, or something else, is remembered in the log */
    char config[VECTORS_CONFIG_ROOM];
    size_t config_len;
};

static void free_names(struct insertion *in)
{
    for (size_t i = 0; in->names && i < in->count; i++)
        mem_free(in->names[i].bytes);
    mem_free(in->names);
    mem_free(in->halves);
}

static syna_rc refuse_row(const struct insertion *in, size_t i)
{
    const float *v = in->rows->vectors + i * in->rows->dims;
    const struct name *name = &in->names[i];
    size_t at = vector_first_not_finite(v, in->rows->dims);
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(in->store->db), -1, 0,
                        "row %zu, key %.*s: element %zu is %f, expected a finite number", i,
                        (int)MIN(name->len - ROW_PREFIX_LEN, 200u), name->bytes + ROW_PREFIX_LEN, at,
                        (double)v[at]);
}

/* The metadata of a row, NULL when it gets none. */
static const char *metadata_of(const struct vectors_batch *rows, size_t i, size_t *len)
{
    const char *json = rows->metadata ? rows->metadata[i] : NULL;
    *len = !json ? 0 : rows->metadata_lens ? rows->metadata_lens[i] : strlen(json);
    return json;
}

static syna_rc refuse_metadata(const struct insertion *in, size_t i)
{
    struct status_record why = *status_get();
    if (in->count == 1 || why.reason != SYNA_WHY_ARGUMENT)
        return status_set(&why);
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "row %zu, key %.*s: %.300s", i,
                     (int)MIN(in->names[i].len - ROW_PREFIX_LEN, 100u),
                     in->names[i].bytes + ROW_PREFIX_LEN, why.message);
}

static syna_rc take_metadata(struct insertion *in, size_t i)
{
    size_t len;
    const char *json = metadata_of(in->rows, i, &len);
    if (!json)
        return SYNA_SUCCESS;
    if (meta_check(json, len) != SYNA_SUCCESS)
        return refuse_metadata(in, i);
    in->meta_rows++;
    in->meta_bytes += len;
    in->meta_longest = MAX(in->meta_longest, len);
    return SYNA_SUCCESS;
}

/* Check keys, vectors and metadata and make the names. On failure free_names is still to be called. */
static syna_rc take_rows(struct insertion *in)
{
    const struct vectors_batch *rows = in->rows;
    in->names = mem_zalloc(in->count * sizeof *in->names);
    if (!in->names)
        return syna_no_memory(in->count * sizeof *in->names);
    for (size_t i = 0; i < in->count; i++) {
        const char *key = rows->keys[i];
        SYNA_TRY(make_name(key, rows->key_lens ? rows->key_lens[i] : key ? strlen(key) : 0,
                           &in->names[i]));
        if (!vectors_finite(rows->vectors + i * rows->dims, rows->dims))
            return refuse_row(in, i);
        SYNA_TRY(take_metadata(in, i));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- rows as halves */

static bool half_finite(enum row_kind kind, uint16_t half)
{
    uint16_t exponent = kind == ROW_F16 ? 0x7c00 : 0x7f80;
    return (half & exponent) != exponent;
}

static syna_rc refuse_large(const struct insertion *in, size_t i, size_t at)
{
    const struct name *name = &in->names[i];
    bool f16 = in->kind == ROW_F16;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(in->store->db), -1, 0,
                        "row %zu, key %.*s: element %zu is %g, too large for %s, expected at most %s", i,
                        (int)MIN(name->len - ROW_PREFIX_LEN, 200u), name->bytes + ROW_PREFIX_LEN, at,
                        (double)in->rows->vectors[i * in->rows->dims + at],
                        f16 ? "float16" : "bfloat16", f16 ? "65504" : "3.38953e+38");
}

static syna_rc make_halves_of(const struct insertion *in, const struct half_kernels *half, size_t i)
{
    uint32_t dims = in->rows->dims;
    const float *row = in->rows->vectors + i * dims;
    uint16_t *out = (uint16_t *)(void *)(in->halves + i * in->row_bytes);
    if (in->kind == ROW_F16)
        half->f32_to_f16(row, dims, out);
    else
        half->f32_to_bf16(row, dims, out);
    bool finite = true;
    for (uint32_t at = 0; at < dims; at++)
        finite &= half_finite(in->kind, out[at]);
    for (uint32_t at = 0; !finite && at < dims; at++)
        if (!half_finite(in->kind, out[at]))
            return refuse_large(in, i, at);
    return SYNA_SUCCESS;
}

/* Nothing to do where rows are floats. An odd number of halves is filled up with a zero. */
static syna_rc make_halves(struct insertion *in)
{
    if (in->kind == ROW_FLOAT)
        return SYNA_SUCCESS;
    in->halves = mem_zalloc(in->count * in->row_bytes);
    if (!in->halves)
        return syna_no_memory(in->count * in->row_bytes);
    for (size_t i = 0; i < in->count; i++)
        SYNA_TRY(make_halves_of(in, kernels_get()->half, i));
    return SYNA_SUCCESS;
}

/* What the rows are to be, and whether the store has their dimensions. */
static syna_rc take_kind(struct insertion *in)
{
    syna_vectors *store = in->store;
    pthread_rwlock_rdlock(&store->state_lock);
    in->kind = store->set.kind;
    in->row_bytes = vectors_row_bytes(store);
    syna_rc rc = vectors_check_dims(store, "vector", in->rows->dims);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- promising and committing */

/* Which rows leave metadata behind that a new row does not take over? It would be no more than garbage in
 * the log. */
static void find_old_metadata(struct insertion *in)
{
    const syna_vectors *store = in->store;
    for (size_t i = 0; store->has_meta && i < in->count; i++) {
        size_t len;
        uint32_t row = row_keys_find(&store->keys, in->names[i].bytes + ROW_PREFIX_LEN,
                                     in->names[i].len - ROW_PREFIX_LEN);
        in->names[i].had_metadata = row != ROW_NONE && meta_text(store->meta, row, &len);
    }
}

/* Room for everything that is promised by now. */
static syna_rc promise_rows(struct insertion *in)
{
    syna_vectors *store = in->store;
    SYNA_TRY(vectors_rows_reserve(store, store->promised));
    return vectors_meta_reserve(store, in->meta_longest);
}

static void take_back(struct insertion *in)
{
    in->store->promised -= in->count;
    in->store->meta_rows -= in->meta_rows;
    in->store->meta_bytes -= in->meta_bytes;
}

static syna_rc promise_locked(struct insertion *in)
{
    syna_vectors *store = in->store;
    SYNA_TRY(vectors_check_dims(store, "vector", in->rows->dims));
    if (in->kind != store->set.kind)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "the store, which was empty, was opened with another dtype meanwhile");
    if (!db_view_current(store->view))
        SYNA_TRY(vectors_rebase(store));
    if (in->meta_rows > 0)
        SYNA_TRY(vectors_meta_enable(store));
    store->promised += in->count;
    store->meta_rows += in->meta_rows;
    store->meta_bytes += in->meta_bytes;
    syna_rc rc = promise_rows(in);
    if (rc != SYNA_SUCCESS) {
        take_back(in);
        return rc;
    }
    find_old_metadata(in);
    in->with_config = !vectors_config_current(store);
    in->config_len = vectors_config_text(store, in->config);
    return SYNA_SUCCESS;
}

static syna_rc promise(struct insertion *in)
{
    pthread_rwlock_wrlock(&in->store->state_lock);
    syna_rc rc = promise_locked(in);
    pthread_rwlock_unlock(&in->store->state_lock);
    return rc;
}

/* A key as its metadata has it, in the buffer. */
static syna_rc meta_name(struct buf *room, const struct name *name)
{
    room->len = 0;
    if (!buf_append(room, META_PREFIX, META_PREFIX_LEN) ||
        !buf_append(room, name->bytes + ROW_PREFIX_LEN, name->len - ROW_PREFIX_LEN))
        return syna_no_memory(name->len);
    return SYNA_SUCCESS;
}

/* The value of a row in the log. */
static const void *value_of(const struct insertion *in, size_t i)
{
    return in->halves ? (const void *)(in->halves + i * in->row_bytes)
                      : (const void *)(in->rows->vectors + i * in->rows->dims);
}

/* The row, and behind it its metadata. */
static syna_rc put_row(const struct insertion *in, syna_batch *batch, size_t i, struct buf *room)
{
    const struct name *name = &in->names[i];
    const struct vectors_batch *rows = in->rows;
    size_t len;
    const char *json = metadata_of(rows, i, &len);
    SYNA_TRY(db_batch_put(batch, name->bytes, name->len, SYNA_TYPE_VECTOR, value_of(in, i),
                          in->row_bytes, NULL));
    if (!json && !name->had_metadata)
        return SYNA_SUCCESS;
    SYNA_TRY(meta_name(room, name));
    if (!json)
        return db_batch_delete(batch, (const char *)room->bytes, room->len);
    return db_batch_put(batch, (const char *)room->bytes, room->len, SYNA_TYPE_TEXT, json, len, NULL);
}

static syna_rc put_in_batch(const struct insertion *in, syna_batch *batch)
{
    struct buf room = {0};
    syna_rc rc = SYNA_SUCCESS;
    if (in->with_config)
        rc = db_batch_put(batch, VECTORS_CONFIG_KEY, strlen(VECTORS_CONFIG_KEY), SYNA_TYPE_TEXT,
                          in->config, in->config_len, NULL);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < in->count; i++)
        rc = put_row(in, batch, i, &room);
    buf_dispose(&room);
    return rc;
}

/* One row alone is a put; everything else is a batch, so that it is there whole or not at all. */
static syna_rc commit(const struct insertion *in)
{
    syna_db *db = in->store->db;
    if (in->count == 1 && !in->with_config && in->meta_rows == 0 && !in->names[0].had_metadata)
        return db_put(db, in->names[0].bytes, in->names[0].len, SYNA_TYPE_VECTOR, value_of(in, 0),
                      in->row_bytes, NULL, NULL);
    syna_batch *batch;
    SYNA_TRY(db_batch_new(db, &batch));
    syna_rc rc = put_in_batch(in, batch);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc;
}

/* After a compaction the places of all rows are others. */
static syna_rc catch_up(syna_vectors *store)
{
    return LIKELY(db_view_current(store->view)) ? SYNA_SUCCESS : vectors_rebase(store);
}

static int by_frame(const void *left, const void *right)
{
    const struct name *a = left, *b = right;
    return a->place.frame < b->place.frame ? -1 : a->place.frame > b->place.frame;
}

/* Rows are numbered in the order of the log, in which the last of several rows of one key counts. */
static syna_rc apply_all(struct insertion *in, size_t *added)
{
    syna_vectors *store = in->store;
    const struct db_view *view;
    SYNA_TRY(catch_up(store));
    do { /* again, should a compaction have come between: places are of one generation */
        view = store->view;
        for (size_t i = 0; i < in->count; i++)
            SYNA_TRY(
                vectors_find(store, in->names[i].bytes, in->names[i].len, &in->names[i].place));
    } while (view != store->view);
    if (in->count > 1)
        qsort(in->names, in->count, sizeof *in->names, by_frame);
    for (size_t i = 0; i < in->count; i++)
        *added += vectors_put(store, in->names[i].bytes, in->names[i].len, &in->names[i].place);
    for (size_t i = 0; i < in->count; i++)
        SYNA_TRY(vectors_meta_apply(store, in->names[i].bytes, in->names[i].len));
    return SYNA_SUCCESS;
}

/* After the commit, or to take the promise back when `committed` is a failure. */
static syna_rc settle(struct insertion *in, syna_rc committed, size_t *added)
{
    syna_vectors *store = in->store;
    syna_rc rc = committed;
    pthread_rwlock_wrlock(&store->state_lock);
    if (rc == SYNA_SUCCESS)
        rc = apply_all(in, added);
    take_back(in);
    if (committed == SYNA_SUCCESS && in->with_config)
        vectors_config_written(store, in->config);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* The row is written; that the index could not be brought up to date is no failure of the write. */
static void maintain(syna_vectors *store)
{
    struct status_record why = *status_get();
    if (vectors_maintain(store) != SYNA_SUCCESS)
        status_set(&why);
}

syna_rc vectors_insert(syna_vectors *store, const struct vectors_batch *batch, size_t *added)
{
    struct insertion in = {.store = store, .rows = batch, .count = batch->count};
    *added = 0;
    if (batch->count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(take_kind(&in));
    syna_rc rc = take_rows(&in);
    if (rc == SYNA_SUCCESS)
        rc = make_halves(&in);
    if (rc == SYNA_SUCCESS)
        rc = promise(&in);
    if (rc == SYNA_SUCCESS)
        rc = settle(&in, commit(&in), added);
    free_names(&in);
    if (rc == SYNA_SUCCESS)
        maintain(store);
    return rc;
}

/* ---------------------------------------------------------------- deleting */

static syna_rc apply_deletions(syna_vectors *store, const struct name *names, size_t count)
{
    bool added;
    pthread_rwlock_wrlock(&store->state_lock);
    /* A racing insert may have put a key again, so this too may add rows. */
    syna_rc rc = vectors_rows_reserve(store, store->promised + count);
    if (rc == SYNA_SUCCESS)
        rc = catch_up(store);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++)
        rc = vectors_apply(store, names[i].bytes, names[i].len, &added);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc put_deletions(syna_batch *batch, const struct name *names, size_t count)
{
    struct buf room = {0};
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++) {
        rc = db_batch_delete(batch, names[i].bytes, names[i].len);
        if (rc == SYNA_SUCCESS && names[i].had_metadata)
            rc = meta_name(&room, &names[i]);
        if (rc == SYNA_SUCCESS && names[i].had_metadata)
            rc = db_batch_delete(batch, (const char *)room.bytes, room.len);
    }
    buf_dispose(&room);
    return rc;
}

/* In one commit. */
static syna_rc delete_all(syna_vectors *store, const struct name *names, size_t count)
{
    syna_batch *batch;
    SYNA_TRY(db_batch_new(store->db, &batch));
    syna_rc rc = put_deletions(batch, names, count);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc == SYNA_SUCCESS ? apply_deletions(store, names, count) : rc;
}

/* Is there a row of this key, and has it metadata? */
static bool look_up(syna_vectors *store, struct name *name)
{
    size_t len;
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t row = row_keys_find(&store->keys, name->bytes + ROW_PREFIX_LEN, name->len - ROW_PREFIX_LEN);
    name->had_metadata = row != ROW_NONE && meta_text(store->meta, row, &len);
    pthread_rwlock_unlock(&store->state_lock);
    return row != ROW_NONE;
}

syna_rc vectors_delete(syna_vectors *store, const char *key, size_t key_len, int32_t *deleted)
{
    struct name name = {0};
    *deleted = 0;
    SYNA_TRY(make_name(key, key_len, &name));
    syna_rc rc = SYNA_SUCCESS;
    bool found = look_up(store, &name); /* a value that is no row of ours stays */
    if (found && name.had_metadata) {
        rc = delete_all(store, &name, 1);
        *deleted = rc == SYNA_SUCCESS;
    } else if (found) {
        rc = db_delete(store->db, name.bytes, name.len, deleted);
        if (rc == SYNA_SUCCESS)
            rc = apply_deletions(store, &name, 1);
    }
    if (found && rc == SYNA_SUCCESS)
        maintain(store);
    mem_free(name.bytes);
    return rc;
}

/* The names of the rows that match now. */
static syna_rc matching_names(syna_vectors *store, const struct filter *filter, struct insertion *out)
{
    uint64_t *bits, matches;
    SYNA_TRY(vectors_select(store, filter, &bits, &matches));
    out->names = mem_zalloc(MAX(matches, (uint64_t)1) * sizeof *out->names);
    syna_rc rc = out->names ? SYNA_SUCCESS : syna_no_memory(matches * sizeof *out->names);
    for (uint32_t row = 0; rc == SYNA_SUCCESS && row < store->set.count; row++) {
        size_t len;
        if (!(bits[row / 64] >> row % 64 & 1))
            continue;
        struct name *name = &out->names[out->count];
        name->had_metadata = meta_text(store->meta, row, &len) != NULL;
        const char *key = vectors_row_key(store, row, &len);
        rc = make_name(key, len, name);
        out->count += rc == SYNA_SUCCESS;
    }
    mem_free(bits);
    return rc;
}

syna_rc vectors_delete_where(syna_vectors *store, const struct filter *filter, uint64_t *deleted)
{
    struct insertion in = {.store = store};
    *deleted = 0;
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = matching_names(store, filter, &in);
    pthread_rwlock_unlock(&store->state_lock);
    if (rc == SYNA_SUCCESS && in.count > 0)
        rc = delete_all(store, in.names, in.count);
    if (rc == SYNA_SUCCESS) {
        *deleted = in.count;
        maintain(store);
    }
    free_names(&in);
    return rc;
}

syna_rc vectors_flush(syna_vectors *store)
{
    return db_flush(store->db);
}
