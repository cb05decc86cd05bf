/* vectors_write.c - insert, replace and delete rows. See vectors_core.h for the order of things. */
#include "base/internal.h"

#include "engine/vectors_core.h"

/* ---------------------------------------------------------------- names of rows in the log */

/* A key as it stands in the log, ROW_PREFIX in front. */
struct name {
    size_t len;
    char *bytes;
    struct db_place place; /* where its newest record was found */
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
    struct name *names;
    const float *vectors;
    uint32_t dims;
    size_t count;
    bool with_config; /* nothing, or something else, is remembered in the log */
    char config[VECTORS_CONFIG_ROOM];
    size_t config_len;
};

static void free_names(struct insertion *in)
{
    for (size_t i = 0; in->names && i < in->count; i++)
        mem_free(in->names[i].bytes);
    mem_free(in->names);
}

static syna_rc refuse_row(const struct insertion *in, size_t i)
{
    const float *v = in->vectors + i * in->dims;
    const struct name *name = &in->names[i];
    size_t at = vector_first_not_finite(v, in->dims);
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(in->store->db), -1, 0,
                        "row %zu, key %.*s: element %zu is %f, expected a finite number", i,
                        (int)MIN(name->len - ROW_PREFIX_LEN, 200u), name->bytes + ROW_PREFIX_LEN, at,
                        (double)v[at]);
}

/* Check keys and vectors and make the names. On failure free_names is still to be called. */
static syna_rc take_rows(struct insertion *in, const char *const *keys, const size_t *key_lens)
{
    in->names = mem_zalloc(in->count * sizeof *in->names);
    if (!in->names)
        return syna_no_memory(in->count * sizeof *in->names);
    for (size_t i = 0; i < in->count; i++) {
        size_t len = key_lens ? key_lens[i] : keys[i] ? strlen(keys[i]) : 0;
        SYNA_TRY(make_name(keys[i], len, &in->names[i]));
        if (!vectors_finite(in->vectors + i * in->dims, in->dims))
            return refuse_row(in, i);
    }
    return SYNA_SUCCESS;
}

static syna_rc promise_locked(struct insertion *in)
{
    syna_vectors *store = in->store;
    size_t rows = store->promised + in->count;
    SYNA_TRY(vectors_check_dims(store, "vector", in->dims));
    if (!db_view_current(store->view))
        SYNA_TRY(vectors_rebase(store));
    SYNA_TRY(vectors_rows_reserve(store, rows));
    store->promised = rows;
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

static syna_rc put_in_batch(const struct insertion *in, syna_batch *batch)
{
    if (in->with_config)
        SYNA_TRY(db_batch_put(batch, VECTORS_CONFIG_KEY, strlen(VECTORS_CONFIG_KEY),
                              SYNA_TYPE_TEXT, in->config, in->config_len, NULL));
    for (size_t i = 0; i < in->count; i++)
        SYNA_TRY(db_batch_put(batch, in->names[i].bytes, in->names[i].len, SYNA_TYPE_VECTOR,
                              in->vectors + i * in->dims, in->dims * sizeof(float), NULL));
    return SYNA_SUCCESS;
}

/* One row alone is a put; everything else is a batch, so that it is there whole or not at all. */
static syna_rc commit(const struct insertion *in)
{
    syna_db *db = in->store->db;
    if (in->count == 1 && !in->with_config)
        return db_put(db, in->names[0].bytes, in->names[0].len, SYNA_TYPE_VECTOR, in->vectors,
                      in->dims * sizeof(float), NULL, NULL);
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
    store->promised -= in->count;
    if (committed == SYNA_SUCCESS && in->with_config) {
        store->config_dims = vectors_dims(store);
        store->config_metric = vectors_metric(store);
    }
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

syna_rc vectors_insert(syna_vectors *store, const char *const *keys, const size_t *key_lens,
                       const float *vectors, uint32_t dims, size_t count, size_t *added)
{
    struct insertion in = {.store = store, .vectors = vectors, .dims = dims, .count = count};
    *added = 0;
    if (count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(vectors_check_dims_first(store, "vector", dims));
    syna_rc rc = take_rows(&in, keys, key_lens);
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

static syna_rc apply_deletion(syna_vectors *store, const struct name *name)
{
    bool added;
    pthread_rwlock_wrlock(&store->state_lock);
    /* A racing insert may have put the key again, so this too may add a row. */
    syna_rc rc = vectors_rows_reserve(store, store->promised + 1);
    if (rc == SYNA_SUCCESS)
        rc = catch_up(store);
    if (rc == SYNA_SUCCESS)
        rc = vectors_apply(store, name->bytes, name->len, &added);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc vectors_delete(syna_vectors *store, const char *key, size_t key_len, int32_t *deleted)
{
    struct name name = {0};
    *deleted = 0;
    SYNA_TRY(make_name(key, key_len, &name));
    syna_rc rc = SYNA_SUCCESS;
    bool found = vectors_contains(store, key, key_len); /* a value that is no row of ours stays */
    if (found)
        rc = db_delete(store->db, name.bytes, name.len, deleted);
    if (found && rc == SYNA_SUCCESS) {
        rc = apply_deletion(store, &name);
        maintain(store);
    }
    mem_free(name.bytes);
    return rc;
}

syna_rc vectors_flush(syna_vectors *store)
{
    return db_flush(store->db);
}
