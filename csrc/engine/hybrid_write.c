/* hybrid_write.c - ingest and delete. An ingest is one insertion into the hot layer; before it, keys that the
 * cold layer has are noted, after it they count as outdated. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

/* ---------------------------------------------------------------- what is outdated */

void hybrid_forget_outdated(syna_layers *store, const char *key, size_t len)
{
    pthread_rwlock_wrlock(&store->map_lock);
    if (outdated_remove(&store->outdated, key, len))
        __atomic_add_fetch(&store->epoch, 1, __ATOMIC_RELEASE);
    pthread_rwlock_unlock(&store->map_lock);
}

/* A cold row of this key will be out of date. *replaced counts keys that the cold layer has and the hot
 * one has not. */
static syna_rc note_key(syna_layers *store, const char *key, size_t len, size_t *replaced)
{
    bool cold, hot;
    if (outdated_has(&store->outdated, key, len, OUTDATED_PENDING))
        return SYNA_SUCCESS;
    SYNA_TRY(cascade_store_contains(store->cold, key, len, &cold));
    if (!cold)
        return SYNA_SUCCESS;
    SYNA_TRY(gwi_contains(store->hot, key, len, &hot));
    *replaced += !hot;
    pthread_rwlock_wrlock(&store->map_lock);
    syna_rc rc = outdated_add(&store->outdated, key, len, OUTDATED_PENDING);
    pthread_rwlock_unlock(&store->map_lock);
    return rc;
}

static syna_rc note_keys(syna_layers *store, const struct gwi_batch *batch, size_t *replaced)
{
    if (cascade_store_count(store->cold) == 0)
        return SYNA_SUCCESS;
    for (size_t i = 0; i < batch->count; i++) {
        const char *key = batch->keys[i];
        if (!key) /* the insertion refuses it */
            return SYNA_SUCCESS;
        SYNA_TRY(note_key(store, key, batch->key_lens ? batch->key_lens[i] : strlen(key), replaced));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- ingest */

syna_rc hybrid_initialize_hot(syna_layers *store, const float *vectors, size_t count, uint32_t dims,
                              syna_progress_fn progress, void *context)
{
    SYNA_TRY(hybrid_check_writer(store));
    return gwi_initialize(store->hot, vectors, count, dims, progress, context);
}

/* Until the insertion is there, searches may show the cold rows; from then on they may not. */
static void settle_keys(syna_layers *store, size_t first, bool stored)
{
    if (store->outdated.count == first)
        return;
    pthread_rwlock_wrlock(&store->map_lock);
    if (stored)
        outdated_stamp(&store->outdated, first,
                       __atomic_add_fetch(&store->stamp, 1, __ATOMIC_RELEASE));
    else
        outdated_cut(&store->outdated, first);
    pthread_rwlock_unlock(&store->map_lock);
}

syna_rc hybrid_ingest_locked(syna_layers *store, const struct gwi_batch *batch, size_t *added)
{
    size_t first = store->outdated.count, replaced = 0, new_in_hot = 0;
    syna_rc rc = note_keys(store, batch, &replaced);
    if (rc == SYNA_SUCCESS)
        rc = gwi_insert(store->hot, batch, &new_in_hot);
    settle_keys(store, first, rc == SYNA_SUCCESS);
    if (rc != SYNA_SUCCESS)
        return rc;
    *added = new_in_hot - replaced;
    __atomic_add_fetch(&store->live, *added, __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

syna_rc hybrid_ingest(syna_layers *store, const struct gwi_batch *batch, size_t *added)
{
    *added = 0;
    SYNA_TRY(hybrid_check_writer(store));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = hybrid_ingest_locked(store, batch, added);
    pthread_mutex_unlock(&store->write_lock);
    if (rc == SYNA_SUCCESS)
        promoter_wake(store);
    return rc;
}

/* ---------------------------------------------------------------- delete */

static void count_deleted(syna_layers *store, int32_t deleted)
{
    if (deleted)
        __atomic_sub_fetch(&store->live, 1, __ATOMIC_RELEASE);
}

/* *cold: the cold layer has the key, nothing was done. write_lock is held. */
static syna_rc delete_hot_only(syna_layers *store, const char *key, size_t len, int32_t *deleted,
                               bool *cold)
{
    SYNA_TRY(cascade_store_contains(store->cold, key, len, cold));
    if (*cold)
        return SYNA_SUCCESS;
    SYNA_TRY(gwi_delete(store->hot, key, len, deleted));
    count_deleted(store, *deleted);
    return SYNA_SUCCESS;
}

/* The cold row first: when that fails, all is as it was; when the hot one fails, the newest row stays. gate
 * and write_lock are held. */
static syna_rc delete_both(syna_layers *store, const char *key, size_t len, int32_t *deleted)
{
    bool hot;
    int32_t ignored;
    SYNA_TRY(gwi_contains(store->hot, key, len, &hot));
    store->cold_deletions = true;
    SYNA_TRY(cascade_store_delete(store->cold, key, len, deleted));
    hybrid_forget_outdated(store, key, len);
    if (hot) {
        *deleted = 0;
        SYNA_TRY(gwi_delete(store->hot, key, len, &ignored));
        *deleted = 1;
    }
    count_deleted(store, *deleted);
    return SYNA_SUCCESS;
}

static syna_rc delete_at_gate(syna_layers *store, const char *key, size_t len, int32_t *deleted)
{
    if (store->hot_drops) /* rule 3: a promotion could not make them durable */
        SYNA_TRY(hybrid_checkpoint_hot(store));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = delete_both(store, key, len, deleted);
    pthread_mutex_unlock(&store->write_lock);
    return rc;
}

syna_rc hybrid_delete(syna_layers *store, const char *key, size_t key_len, int32_t *deleted)
{
    bool cold;
    *deleted = 0;
    SYNA_TRY(hybrid_check_writer(store));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = delete_hot_only(store, key, key_len, deleted, &cold);
    pthread_mutex_unlock(&store->write_lock);
    if (rc != SYNA_SUCCESS || !cold)
        return rc;
    pthread_mutex_lock(&store->gate);
    rc = delete_at_gate(store, key, key_len, deleted);
    pthread_mutex_unlock(&store->gate);
    return rc;
}
