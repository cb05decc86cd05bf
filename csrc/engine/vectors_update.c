/* vectors_update.c - change the metadata of a row that stays. The change is one record of the log. */
#include "base/internal.h"

#include "engine/meta_merge.h"
#include "engine/vectors_core.h"

/* ---------------------------------------------------------------- one row */

struct update {
    syna_vectors *store;
    const char *key;
    size_t key_len;
    const char *json; /* NULL: take the metadata away */
    size_t len;
    struct buf merged, row_name, meta_name;
    bool with_config;
    char config[VECTORS_CONFIG_ROOM];
    size_t config_len;
};

static bool make_names(struct update *u)
{
    return buf_append(&u->row_name, ROW_PREFIX, ROW_PREFIX_LEN) &&
           buf_append(&u->row_name, u->key, u->key_len) &&
           buf_append(&u->meta_name, META_PREFIX, META_PREFIX_LEN) &&
           buf_append(&u->meta_name, u->key, u->key_len);
}

/* What the row is to have. Shared. */
static syna_rc make_text(struct update *u, uint32_t row, bool replace)
{
    size_t old_len;
    const char *old = meta_text(u->store->meta, row, &old_len);
    if (replace || !old || !u->json)
        return SYNA_SUCCESS;
    SYNA_TRY(meta_merge(old, old_len, u->json, u->len, &u->merged));
    u->json = (const char *)u->merged.bytes;
    u->len = u->merged.len;
    return SYNA_SUCCESS;
}

static syna_rc promise_text(struct update *u, bool replace)
{
    syna_vectors *store = u->store;
    uint32_t row = row_keys_find(&store->keys, u->key, u->key_len);
    if (row == ROW_NONE)
        return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                            "no row has the key %.*s", (int)MIN(u->key_len, (size_t)200), u->key);
    SYNA_TRY(make_text(u, row, replace));
    SYNA_TRY(vectors_meta_enable(store));
    store->meta_rows++;
    store->meta_bytes += u->len;
    syna_rc rc = vectors_meta_reserve(store, u->len);
    if (rc == SYNA_SUCCESS) /* a racing insert may have put the key again */
        rc = vectors_rows_reserve(store, store->promised + 1);
    if (rc != SYNA_SUCCESS) {
        store->meta_rows--;
        store->meta_bytes -= u->len;
        return rc;
    }
    u->with_config = !vectors_config_current(store);
    u->config_len = vectors_config_text(store, u->config);
    return SYNA_SUCCESS;
}

static syna_rc put_text(const struct update *u, syna_batch *batch)
{
    const char *name = (const char *)u->meta_name.bytes;
    if (u->with_config)
        SYNA_TRY(db_batch_put(batch, VECTORS_CONFIG_KEY, strlen(VECTORS_CONFIG_KEY), SYNA_TYPE_TEXT,
                              u->config, u->config_len, NULL));
    if (!u->json)
        return db_batch_delete(batch, name, u->meta_name.len);
    return db_batch_put(batch, name, u->meta_name.len, SYNA_TYPE_TEXT, u->json, u->len, NULL);
}

static syna_rc commit_text(const struct update *u)
{
    syna_batch *batch;
    SYNA_TRY(db_batch_new(u->store->db, &batch));
    syna_rc rc = put_text(u, batch);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc;
}

static syna_rc settle_text(struct update *u, syna_rc committed)
{
    syna_vectors *store = u->store;
    syna_rc rc = committed;
    bool added;
    pthread_rwlock_wrlock(&store->state_lock);
    if (rc == SYNA_SUCCESS)
        rc = vectors_apply(store, (const char *)u->row_name.bytes, u->row_name.len, &added);
    store->meta_rows--;
    store->meta_bytes -= u->len;
    if (committed == SYNA_SUCCESS && u->with_config)
        vectors_config_written(store, u->config);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc update_row(struct update *u, bool replace)
{
    syna_vectors *store = u->store;
    if (!make_names(u))
        return syna_no_memory(u->key_len);
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = promise_text(u, replace);
    pthread_rwlock_unlock(&store->state_lock);
    return rc == SYNA_SUCCESS ? settle_text(u, commit_text(u)) : rc;
}

syna_rc vectors_update_metadata(syna_vectors *store, const char *key, size_t key_len, const char *json,
                                size_t len, bool replace)
{
    struct update u = {.store = store, .key = key, .key_len = key_len, .json = json, .len = len};
    if (json)
        SYNA_TRY(meta_check(json, len));
    pthread_mutex_lock(&store->update_lock); /* what is merged is read, and then written */
    syna_rc rc = update_row(&u, replace);
    pthread_mutex_unlock(&store->update_lock);
    buf_dispose(&u.merged);
    buf_dispose(&u.row_name);
    buf_dispose(&u.meta_name);
    return rc;
}
