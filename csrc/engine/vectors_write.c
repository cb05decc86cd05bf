/* vectors_write.c - insert, replace and delete rows. See vectors_core.h for the order of things. */
#include "base/internal.h"

#include "engine/vectors_core.h"

/* Removed rows are cleared out when they outnumber the live ones by this. */
#define PACK_SLACK 1024u

/* ---------------------------------------------------------------- rows in memory */

void vectors_put_row(syna_vectors *store, struct row_name *name, const float *vector, bool *added)
{
    uint32_t old =
        vector_keys_find(&store->keys, row_name_key(name), row_name_key_len(name));
    uint32_t row = flat_add(&store->flat, vector);
    *added = old == ROW_NONE;
    if (*added) {
        vector_keys_add(&store->keys, row, name);
        return;
    }
    /* A replaced row counts as written now: it moves to the end, as in the log. */
    vector_keys_move(&store->keys, old, row);
    flat_remove(&store->flat, old);
    row_name_free(name);
}

void vectors_drop_row(syna_vectors *store, uint32_t row)
{
    vector_keys_remove(&store->keys, row);
    flat_remove(&store->flat, row);
}

static void row_moved(void *context, uint32_t from, uint32_t to)
{
    syna_vectors *store = context;
    if (from != to)
        vector_keys_move(&store->keys, from, to);
}

static void pack_when_sparse(syna_vectors *store)
{
    struct flat *flat = &store->flat;
    if (flat->count - flat->live <= (uint64_t)flat->live + PACK_SLACK)
        return;
    flat_pack(flat, row_moved, store);
    vector_keys_truncate(&store->keys, flat->count);
}

/* Make the row of `name` what the log has. Takes the name. Exclusive, rows promised. */
static syna_rc apply_newest(syna_vectors *store, struct row_name *name, bool *added)
{
    const struct flat *flat = &store->flat;
    size_t room = flat->dims * sizeof(float), len = 0;
    int32_t type = SYNA_TYPE_NULL;
    float *place = flat_next(flat);
    *added = false;
    syna_rc rc = db_get(store->db, name->bytes, name->len, place, room, &len, &type);
    if (rc == SYNA_SUCCESS && type == SYNA_TYPE_VECTOR && len == room) {
        vectors_put_row(store, name, place, added);
        return SYNA_SUCCESS;
    }
    if (rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND) {
        uint32_t row = vector_keys_find(&store->keys, row_name_key(name), row_name_key_len(name));
        if (row != ROW_NONE)
            vectors_drop_row(store, row);
        rc = SYNA_SUCCESS;
    }
    row_name_free(name);
    return rc;
}

/* ---------------------------------------------------------------- inserting */

struct insertion {
    syna_vectors *store;
    struct row_name **names;
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
        row_name_free(in->names[i]);
    mem_free(in->names);
}

static syna_rc refuse_row(const struct insertion *in, size_t i)
{
    const float *v = in->vectors + i * in->dims;
    const struct row_name *name = in->names[i];
    size_t at = vector_first_not_finite(v, in->dims);
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(in->store->db), -1, 0,
                        "row %zu, key %.*s: element %zu is %f, expected a finite number", i,
                        (int)MIN(row_name_key_len(name), 200u), row_name_key(name), at,
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
        SYNA_TRY(row_name_new(keys[i], len, &in->names[i]));
        if (!vectors_finite(in->vectors + i * in->dims, in->dims))
            return refuse_row(in, i);
    }
    return SYNA_SUCCESS;
}

static syna_rc promise(struct insertion *in)
{
    syna_vectors *store = in->store;
    pthread_rwlock_wrlock(&store->state_lock);
    size_t rows = store->promised + in->count;
    syna_rc rc = vectors_check_dims(store, "vector", in->dims);
    if (rc == SYNA_SUCCESS)
        rc = flat_reserve(&store->flat, rows);
    if (rc == SYNA_SUCCESS)
        rc = vector_keys_reserve(&store->keys, rows, store->flat.count + rows);
    if (rc == SYNA_SUCCESS) {
        store->promised = rows;
        in->with_config = !vectors_config_current(store);
        in->config_len = vectors_config_text(store, in->config);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc put_in_batch(const struct insertion *in, syna_batch *batch)
{
    if (in->with_config)
        SYNA_TRY(db_batch_put(batch, VECTORS_CONFIG_KEY, strlen(VECTORS_CONFIG_KEY),
                              SYNA_TYPE_TEXT, in->config, in->config_len, NULL));
    for (size_t i = 0; i < in->count; i++)
        SYNA_TRY(db_batch_put(batch, in->names[i]->bytes, in->names[i]->len, SYNA_TYPE_VECTOR,
                              in->vectors + i * in->dims, in->dims * sizeof(float), NULL));
    return SYNA_SUCCESS;
}

/* One row alone is a put; everything else is a batch, so that it is there whole or not at all. */
static syna_rc commit(const struct insertion *in)
{
    syna_db *db = in->store->db;
    if (in->count == 1 && !in->with_config)
        return db_put(db, in->names[0]->bytes, in->names[0]->len, SYNA_TYPE_VECTOR, in->vectors,
                      in->dims * sizeof(float), NULL, NULL);
    syna_batch *batch;
    SYNA_TRY(db_batch_new(db, &batch));
    syna_rc rc = put_in_batch(in, batch);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc;
}

/* After the commit, or to take the promise back when `committed` is a failure. */
static syna_rc settle(struct insertion *in, syna_rc committed, size_t *added)
{
    syna_vectors *store = in->store;
    syna_rc rc = committed;
    pthread_rwlock_wrlock(&store->state_lock);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < in->count; i++) {
        bool is_new;
        rc = apply_newest(store, in->names[i], &is_new);
        in->names[i] = NULL;
        *added += is_new;
    }
    store->promised -= in->count;
    if (committed == SYNA_SUCCESS && in->with_config) {
        store->config_dims = store->flat.dims;
        store->config_metric = store->flat.metric;
    }
    pack_when_sparse(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
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
    return rc;
}

/* ---------------------------------------------------------------- deleting */

syna_rc vectors_delete(syna_vectors *store, const char *key, size_t key_len, int32_t *deleted)
{
    struct row_name *name;
    bool added;
    *deleted = 0;
    SYNA_TRY(row_name_new(key, key_len, &name));
    syna_rc rc = SYNA_SUCCESS;
    bool found = vectors_contains(store, key, key_len); /* a value that is no row of ours stays */
    if (found)
        rc = db_delete(store->db, name->bytes, name->len, deleted);
    if (rc != SYNA_SUCCESS || !found) {
        row_name_free(name);
        return rc;
    }
    pthread_rwlock_wrlock(&store->state_lock);
    /* A racing insert may have put the key again, so this too may add a row. */
    rc = flat_reserve(&store->flat, store->promised + 1);
    if (rc == SYNA_SUCCESS)
        rc = vector_keys_reserve(&store->keys, store->promised + 1,
                                 store->flat.count + store->promised + 1);
    if (rc == SYNA_SUCCESS)
        rc = apply_newest(store, name, &added);
    else
        row_name_free(name);
    pack_when_sparse(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc vectors_flush(syna_vectors *store)
{
    return db_flush(store->db);
}
