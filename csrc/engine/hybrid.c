/* hybrid.c - open and close a hybrid store, and what fork() does to it.
 *
 * After a crash in the middle of a promotion keys stand in both files. Whatever their cold rows are, the hot
 * ones count: they are noted as outdated, and the next promotion replaces them. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

/* ---------------------------------------------------------------- options */

syna_rc hybrid_options(const syna_layers_options *given, syna_layers_options *out)
{
    *out = (syna_layers_options){.size = sizeof *out};
    if (given->size < offsetof(syna_layers_options, preset))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_layers_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    return SYNA_SUCCESS;
}

static syna_wells_options hot_options(const syna_layers_options *o)
{
    return (syna_wells_options){.size = sizeof(syna_wells_options),
                                .dimensions = o->dimensions,
                                .metric = o->metric,
                                .threads = o->threads,
                                .read_only = o->read_only,
                                .initial_capacity = o->hot_capacity};
}

static syna_buckets_options cold_options(const syna_layers_options *o)
{
    return (syna_buckets_options){.size = sizeof(syna_buckets_options),
                                  .dimensions = o->dimensions,
                                  .metric = o->metric,
                                  .preset = o->preset,
                                  .threads = o->threads,
                                  .read_only = o->read_only,
                                  .recall = o->recall};
}

/* Readers move nothing. */
static uint64_t promote_rows(const syna_layers_options *o)
{
    return o->read_only ? 0 : o->promote_rows;
}

/* ---------------------------------------------------------------- memory */

static void init_locks(syna_layers *store)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep ingests out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&store->map_lock, &attr);
    pthread_rwlock_init(&store->view_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->gate, NULL);
    pthread_mutex_init(&store->promote_lock, NULL);
}

/* The first error of closing counts. */
static syna_rc close_layers(syna_layers *store)
{
    syna_rc cold = store->cold ? cascade_store_close(store->cold) : SYNA_SUCCESS;
    struct status_record why = *status_get();
    syna_rc hot = store->hot ? gwi_close(store->hot) : SYNA_SUCCESS;
    return cold == SYNA_SUCCESS ? hot : status_set(&why);
}

static syna_rc store_free(syna_layers *store)
{
    promoter_dispose(&store->promoter);
    syna_rc rc = close_layers(store);
    outdated_dispose(&store->outdated);
    pthread_rwlock_destroy(&store->map_lock);
    pthread_rwlock_destroy(&store->view_lock);
    pthread_mutex_destroy(&store->write_lock);
    pthread_mutex_destroy(&store->gate);
    pthread_mutex_destroy(&store->promote_lock);
    mem_free(store->hot_path);
    mem_free(store->cold_path);
    mem_free(store);
    return rc;
}

/* ---------------------------------------------------------------- opening */

/* One file cannot be both layers, under whichever names. */
static syna_rc check_paths(const syna_layers *store)
{
    struct vfs_stat hot, cold;
    bool same = strcmp(store->hot_path, store->cold_path) == 0 ||
                (syna_vfs->stat_path(store->hot_path, &hot) == 0 &&
                 syna_vfs->stat_path(store->cold_path, &cold) == 0 && hot.inode == cold.inode &&
                 hot.device == cold.device);
    if (!same)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, store->hot_path, -1, 0,
                        "named as the hot and as the cold layer; these are two files");
}

/* What the layers have, which must be the same. write_lock is held, or nobody else has the store. */
static syna_rc take_config(syna_layers *store)
{
    syna_wells_stats hot = {.size = sizeof hot};
    syna_buckets_stats cold = {.size = sizeof cold};
    SYNA_TRY(gwi_get_stats(store->hot, &hot));
    SYNA_TRY(cascade_store_get_stats(store->cold, &cold));
    if (hot.dimensions != cold.dimensions || hot.metric != cold.metric)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, store->hot_path, -1, 0,
                            "%u dimensions and metric %d, its cold layer has %u and %d",
                            hot.dimensions, hot.metric, cold.dimensions, cold.metric);
    store->dims = hot.dimensions;
    store->metric = hot.metric;
    return SYNA_SUCCESS;
}

static syna_rc note_doubles(syna_layers *store, const syna_hit *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool cold;
        SYNA_TRY(cascade_store_contains(store->cold, rows[i].key, rows[i].key_len, &cold));
        if (cold)
            SYNA_TRY(outdated_add(&store->outdated, rows[i].key, rows[i].key_len, 0));
    }
    return SYNA_SUCCESS;
}

syna_rc hybrid_take_keys(syna_layers *store)
{
    syna_hit *rows = NULL;
    size_t count = 0;
    uint64_t cold = cascade_store_count(store->cold);
    outdated_cut(&store->outdated, 0);
    if (cold) {
        SYNA_TRY(gwi_rows(store->hot, 0, &rows, &count));
        syna_rc rc = note_doubles(store, rows, count);
        mem_free(rows);
        SYNA_TRY(rc);
    }
    __atomic_store_n(&store->live, gwi_count(store->hot) + cold - store->outdated.count,
                     __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

/* Now that the hot file is there, the cold path may turn out to lead to it. */
static syna_rc open_layers(syna_layers *store, const syna_layers_options *o)
{
    syna_wells_options hot = hot_options(o);
    syna_buckets_options cold = cold_options(o);
    SYNA_TRY(gwi_open(store->hot_path, &hot, &store->hot));
    gwi_pass_on(store->hot);
    SYNA_TRY(check_paths(store));
    return cascade_store_open(store->cold_path, &cold, &store->cold);
}

static syna_rc open_into(syna_layers *store, const char *hot_path, const struct hybrid_setup *setup)
{
    SYNA_TRY(db_canonical_path(hot_path, &store->hot_path));
    SYNA_TRY(db_canonical_path(setup->cold_path, &store->cold_path));
    SYNA_TRY(check_paths(store));
    SYNA_TRY(open_layers(store, &setup->options));
    SYNA_TRY(take_config(store));
    if (!store->writer)
        SYNA_TRY(hybrid_first_look(store));
    SYNA_TRY(hybrid_take_keys(store));
    promoter_set(&store->promoter, promote_rows(&setup->options));
    return SYNA_SUCCESS;
}

syna_rc hybrid_open(const char *hot_path, const struct hybrid_setup *setup, syna_layers **out)
{
    syna_layers *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->writer = !setup->options.read_only;
    init_locks(store);
    outdated_init(&store->outdated);
    promoter_init(&store->promoter);
    syna_rc rc = open_into(store, hot_path, setup);
    if (rc == SYNA_SUCCESS) {
        promoter_wake(store);
        *out = store;
        return rc;
    }
    struct status_record why = *status_get();
    store_free(store);
    return status_set(&why);
}

/* ---------------------------------------------------------------- opening again */

static syna_rc check_cold_path(const syna_layers *store, const char *cold_path)
{
    char *canonical;
    struct vfs_stat st;
    SYNA_TRY(db_canonical_path(cold_path, &canonical));
    bool same = strcmp(canonical, store->cold_path) == 0 ||
                (syna_vfs->stat_path(canonical, &st) == 0 &&
                 cascade_store_is_file(store->cold, st.device, st.inode));
    mem_free(canonical);
    if (same)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, store->hot_path, -1, 0,
                        "open with the cold layer %.200s, opened with %.200s", store->cold_path,
                        cold_path);
}

/* The layer with rows is asked first: when it refuses, the empty one stays as it is. */
static syna_rc configure(syna_layers *store, const syna_layers_options *o)
{
    syna_wells_options hot = hot_options(o);
    syna_buckets_options cold = cold_options(o);
    bool hot_first = gwi_count(store->hot) > 0;
    if (hot_first)
        SYNA_TRY(gwi_again(store->hot, &hot));
    SYNA_TRY(cascade_store_again(store->cold, &cold));
    if (!hot_first)
        SYNA_TRY(gwi_again(store->hot, &hot));
    return take_config(store);
}

syna_rc hybrid_again(syna_layers *store, const struct hybrid_setup *setup)
{
    SYNA_TRY(check_cold_path(store, setup->cold_path));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = configure(store, &setup->options);
    pthread_mutex_unlock(&store->write_lock);
    if (rc == SYNA_SUCCESS) {
        promoter_set(&store->promoter, promote_rows(&setup->options));
        promoter_wake(store);
    }
    return rc;
}

/* ---------------------------------------------------------------- closing */

/* In the order of the rules; closing the layers makes nothing durable that this has not. */
syna_rc hybrid_close(syna_layers *store)
{
    promoter_stop(&store->promoter);
    syna_rc saved = SYNA_SUCCESS;
    if (store->writer && !store->inherited) {
        pthread_mutex_lock(&store->gate);
        saved = hybrid_checkpoint_hot(store);
        pthread_mutex_unlock(&store->gate);
    }
    struct status_record why = *status_get();
    syna_rc closed = store_free(store);
    return saved == SYNA_SUCCESS ? closed : status_set(&why);
}

/* ---------------------------------------------------------------- fork, facts */

void hybrid_before_fork(syna_layers *store)
{
    pthread_rwlock_wrlock(&store->view_lock);
    pthread_mutex_lock(&store->write_lock);
    pthread_rwlock_wrlock(&store->map_lock);
    pthread_mutex_lock(&store->promoter.lock);
    gwi_before_fork(store->hot);
    cascade_store_before_fork(store->cold);
}

void hybrid_after_fork(syna_layers *store, bool child)
{
    cascade_store_after_fork(store->cold, child);
    gwi_after_fork(store->hot, child);
    pthread_mutex_unlock(&store->promoter.lock);
    pthread_rwlock_unlock(&store->map_lock);
    pthread_mutex_unlock(&store->write_lock);
    pthread_rwlock_unlock(&store->view_lock);
    if (!child)
        return;
    init_locks(store); /* threads that waited for them, or held another one, are not here */
    promoter_forget(&store->promoter);
    store->inherited = true;
}

bool hybrid_is_file(const syna_layers *store, uint64_t device, uint64_t inode)
{
    return gwi_is_file(store->hot, device, inode);
}
