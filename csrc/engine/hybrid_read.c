/* hybrid_read.c - look-ups, the list of rows, figures. A look-up asks the hot layer first: what it has is
 * the newest; a row that leaves it is in the cold one already. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

/* ---------------------------------------------------------------- look-ups */

static syna_rc get_in_view(syna_layers *store, const char *key, size_t key_len, float *out,
                           uint32_t dims)
{
    syna_rc rc = gwi_get(store->hot, key, key_len, out, dims);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? cascade_store_get(store->cold, key, key_len, out, dims) : rc;
}

syna_rc hybrid_get(syna_layers *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    SYNA_TRY(hybrid_begin_view(store));
    syna_rc rc = get_in_view(store, key, key_len, out, dims);
    hybrid_end_view(store);
    return rc;
}

static syna_rc get_metadata_in_view(syna_layers *store, const char *key, size_t key_len, char **out,
                                    size_t *len)
{
    syna_rc rc = gwi_get_metadata(store->hot, key, key_len, out, len);
    return rc == SYNA_ERR_KEY_NOT_FOUND
               ? cascade_store_get_metadata(store->cold, key, key_len, out, len)
               : rc;
}

syna_rc hybrid_get_metadata(syna_layers *store, const char *key, size_t key_len, char **out,
                            size_t *len)
{
    SYNA_TRY(hybrid_begin_view(store));
    syna_rc rc = get_metadata_in_view(store, key, key_len, out, len);
    hybrid_end_view(store);
    return rc;
}

syna_rc hybrid_contains(syna_layers *store, const char *key, size_t key_len, bool *found)
{
    SYNA_TRY(hybrid_begin_view(store));
    syna_rc rc = gwi_contains(store->hot, key, key_len, found);
    if (rc == SYNA_SUCCESS && !*found)
        rc = cascade_store_contains(store->cold, key, key_len, found);
    hybrid_end_view(store);
    return rc;
}

/* ---------------------------------------------------------------- figures */

uint64_t hybrid_count(syna_layers *store)
{
    return __atomic_load_n(&store->live, __ATOMIC_ACQUIRE);
}

/* Every hot row is the newest of its key; the others are cold. */
uint64_t hybrid_count_in(syna_layers *store, uint32_t layer)
{
    if (!store->writer)
        pthread_rwlock_rdlock(&store->view_lock);
    uint64_t hot = gwi_count(store->hot), all = hybrid_count(store);
    hybrid_end_view(store);
    if (layer == SYNA_LAYER_HOT)
        return hot;
    return all > hot ? all - hot : 0;
}

syna_rc hybrid_get_stats(syna_layers *store, syna_layers_stats *out)
{
    syna_layers_stats stats = {.size = out->size};
    stats.hot.size = sizeof stats.hot;
    stats.cold.size = sizeof stats.cold;
    SYNA_TRY(hybrid_begin_view(store));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = gwi_get_stats(store->hot, &stats.hot);
    if (rc == SYNA_SUCCESS)
        rc = cascade_store_get_stats(store->cold, &stats.cold);
    stats.dimensions = store->dims;
    stats.metric = store->metric;
    stats.rows = hybrid_count(store);
    stats.outdated_rows = store->outdated.count;
    pthread_mutex_unlock(&store->write_lock);
    hybrid_end_view(store);
    SYNA_TRY(rc);
    stats.hot_rows = stats.hot.rows;
    stats.cold_rows = stats.rows > stats.hot_rows ? stats.rows - stats.hot_rows : 0;
    stats.promoting = __atomic_load_n(&store->promoting, __ATOMIC_RELAXED);
    stats.promotions = __atomic_load_n(&store->promotions, __ATOMIC_RELAXED);
    stats.promoted_rows = __atomic_load_n(&store->promoted, __ATOMIC_RELAXED);
    stats.promote_rows = __atomic_load_n(&store->promoter.rows, __ATOMIC_RELAXED);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- listing */

struct listing {
    syna_layers *store;
    syna_hit *hot, *cold;
    size_t hot_count, cold_count;
    struct layer_hit *all;
    size_t count;
};

/* Cold rows whose keys the hot layer has are not the newest. write_lock is held: nothing moves. */
static syna_rc choose_rows(struct listing *l)
{
    size_t most = l->hot_count + l->cold_count;
    l->all = mem_alloc(most * sizeof *l->all);
    if (!l->all)
        return syna_no_memory(most * sizeof *l->all);
    for (size_t i = 0; i < l->cold_count; i++) {
        bool newer = false;
        if (l->hot_count)
            SYNA_TRY(gwi_contains(l->store->hot, l->cold[i].key, l->cold[i].key_len, &newer));
        if (!newer)
            l->all[l->count++] = (struct layer_hit){&l->cold[i], SYNA_LAYER_COLD};
    }
    for (size_t i = 0; i < l->hot_count; i++)
        l->all[l->count++] = (struct layer_hit){&l->hot[i], SYNA_LAYER_HOT};
    return SYNA_SUCCESS;
}

static syna_rc list_locked(struct listing *l, uint32_t flags)
{
    SYNA_TRY(gwi_rows(l->store->hot, flags, &l->hot, &l->hot_count));
    SYNA_TRY(cascade_store_rows(l->store->cold, flags, &l->cold, &l->cold_count));
    return choose_rows(l);
}

syna_rc hybrid_rows(syna_layers *store, uint32_t flags, syna_hit **hits, uint8_t **sources,
                    size_t *count)
{
    struct listing l = {.store = store};
    SYNA_TRY(hybrid_begin_view(store));
    pthread_mutex_lock(&store->write_lock);
    uint32_t dims = store->dims;
    syna_rc rc = list_locked(&l, flags);
    pthread_mutex_unlock(&store->write_lock);
    hybrid_end_view(store);
    if (rc == SYNA_SUCCESS)
        rc = hybrid_copy_hits(l.all, l.count, dims, hits, sources);
    *count = rc == SYNA_SUCCESS ? l.count : 0;
    mem_free(l.all);
    mem_free(l.hot);
    mem_free(l.cold);
    return rc;
}
