/* mmap_vectors.c - open and close a mapped vector store, and what fork() does to it.
 *
 * Dimensions and metric are in the configuration of the row file. They are fixed by the first row: a
 * store without rows takes those of whoever opens it last. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

#define MMAP_INDEX_SUFFIX ".hnsw"

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- configuration */

void mmap_vectors_config(uint32_t dims, int32_t metric, uint8_t out[MMAP_CONFIG_BYTES])
{
    store_u32(out, dims);
    store_u32(out + 4, (uint32_t)metric);
}

syna_rc mmap_vectors_read_config(const struct rowfile *file, uint32_t *dims, int32_t *metric)
{
    *dims = load_u32(file->config);
    uint32_t number = load_u32(file->config + 4);
    if (file->config_len < MMAP_CONFIG_BYTES || *dims < 1 || *dims > SYNA_DIMENSIONS_MAX ||
        number >= COUNT_OF(metric_names) || file->row_bytes != mmap_vectors_row_bytes(*dims))
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, file->file.path,
                            SLOT_OFFSET + SLOT_AT_CONFIG, 0,
                            "%u dimensions, metric %u and rows of %u bytes do not go together", *dims,
                            number, file->row_bytes);
    *metric = (int32_t)number;
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_options(const syna_mmap_options *given, syna_mmap_options *out)
{
    *out = (syna_mmap_options){.size = sizeof *out};
    if (given->size < offsetof(syna_mmap_options, read_only))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_mmap_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    if (out->dimensions < 1 || out->dimensions > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u",
                         out->dimensions, SYNA_DIMENSIONS_MAX);
    if (out->metric < 0 || out->metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)",
                         out->metric);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_check_same(const char *path, uint32_t has_dims, int32_t has_metric,
                                uint32_t dims, int32_t metric)
{
    if (has_dims != dims)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "holds vectors of %u dimensions, opened with %u", has_dims, dims);
    if (has_metric != metric)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its metric is %s, opened with %s", metric_names[has_metric],
                            metric_names[metric]);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_check_dims(const syna_mmap *store, const char *what, uint32_t dims)
{
    if (dims == store->dims)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                        "the %s has %u dimensions, this store %u", what, dims, store->dims);
}

/* ---------------------------------------------------------------- checks */

syna_rc mmap_vectors_check_writable(const syna_mmap *store)
{
    if (store->inherited)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_FORKED, store->path, -1, 0,
                            "opened before fork(); open it again in this process to write");
    if (!store->writer)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "opened read-only");
    if (__atomic_load_n(&store->damaged, __ATOMIC_ACQUIRE))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "damage was met in this file; no more writes");
    if (rowfile_failed(store->rows.file))
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, store->path, -1, 0,
                            "an earlier sync failed; reopen the store to continue");
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_note_damage(syna_mmap *store, syna_rc rc)
{
    if (rc == SYNA_ERR_SERIALIZATION)
        __atomic_store_n(&store->damaged, true, __ATOMIC_RELEASE);
    return rc;
}

/* ---------------------------------------------------------------- opening */

static void init_locks(syna_mmap *store)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep inserts out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&store->state_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->index_lock, NULL);
    pthread_mutex_init(&store->checkpoint_lock, NULL);
}

static void store_free(syna_mmap *store)
{
    if (store->rows.file)
        rowfile_detach(store->rows.file);
    mmap_index_free(store->index);
    mmap_rows_dispose(&store->rows);
    lock_release(&store->lock);
    pthread_rwlock_destroy(&store->state_lock);
    pthread_mutex_destroy(&store->write_lock);
    pthread_mutex_destroy(&store->index_lock);
    pthread_mutex_destroy(&store->checkpoint_lock);
    mem_free(store->index_path);
    mem_free(store->path);
    mem_free(store);
}

static void remember_identity(syna_mmap *store)
{
    __atomic_store_n(&store->device, store->rows.file->device, __ATOMIC_RELAXED);
    __atomic_store_n(&store->inode, store->rows.file->inode, __ATOMIC_RELAXED);
}

void mmap_vectors_swap(syna_mmap *store, struct mmap_rows *rows)
{
    struct mmap_rows old = store->rows;
    store->rows = *rows;
    *rows = (struct mmap_rows){0};
    remember_identity(store);
    rowfile_detach(old.file);
    mmap_rows_dispose(&old);
}

static syna_rc create(const syna_mmap *store, const syna_mmap_options *options)
{
    uint8_t config[MMAP_CONFIG_BYTES];
    bool exists;
    mmap_vectors_config(options->dimensions, options->metric, config);
    struct rowfile_setup setup = {.component = MMAP_COMPONENT,
                                  .row_bytes = mmap_vectors_row_bytes(options->dimensions),
                                  .config = config,
                                  .config_len = sizeof config,
                                  .generation = 1};
    return rowfile_create(store->path, &setup, &exists);
}

static syna_rc ensure_file(const syna_mmap *store, const syna_mmap_options *options)
{
    struct vfs_stat st;
    int rc = syna_vfs->stat_path(store->path, &st);
    if (rc == 0 && st.is_dir)
        return syna_fail_at(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, store->path, -1, EISDIR,
                            "not a path that a store can have");
    if (rc == 0)
        return SYNA_SUCCESS;
    if (rc != -ENOENT || options->read_only)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -rc,
                            "cannot open the store");
    return create(store, options);
}

/* write_lock is held: the dimensions and the metric that the store shall have. *dead: it has no rows,
 * but its file has dead ones, which must go first. */
static syna_rc configure_locked(syna_mmap *store, uint32_t dims, int32_t metric, bool *dead)
{
    uint8_t config[MMAP_CONFIG_BYTES];
    *dead = false;
    if (store->rows.live > 0 || !store->writer || (store->dims == dims && store->metric == metric))
        return mmap_vectors_check_same(store->path, store->dims, store->metric, dims, metric);
    *dead = store->rows.count > 0;
    if (*dead)
        return SYNA_SUCCESS;
    mmap_vectors_config(dims, metric, config);
    pthread_rwlock_wrlock(&store->state_lock);
    rowfile_configure(store->rows.file, mmap_vectors_row_bytes(dims), config, sizeof config);
    store->dims = dims;
    store->metric = metric;
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

/* checkpoint_lock is held. */
static syna_rc configure(syna_mmap *store, const syna_mmap_options *options)
{
    for (;;) {
        bool dead;
        pthread_mutex_lock(&store->write_lock);
        store->capacity = MAX(store->capacity, options->initial_capacity);
        syna_rc rc = configure_locked(store, options->dimensions, options->metric, &dead);
        pthread_mutex_unlock(&store->write_lock);
        SYNA_TRY(rc);
        if (!dead) /* readers are to see it before the first row comes */
            return store->rows.file->config_changed ? mmap_vectors_save(store) : SYNA_SUCCESS;
        SYNA_TRY(mmap_vectors_rewrite(store, NULL, NULL));
    }
}

static syna_rc open_file(syna_mmap *store, const syna_mmap_options *options)
{
    struct rowfile *file;
    SYNA_TRY(rowfile_open(store->path, MMAP_COMPONENT, store->writer, &file));
    mmap_rows_init(&store->rows, file);
    remember_identity(store);
    if (store->writer && !file->writable) { /* a feature that only readers of this release may meet */
        lock_release(&store->lock);
        store->writer = false;
    }
    SYNA_TRY(mmap_rows_apply(&store->rows));
    SYNA_TRY(mmap_vectors_read_config(file, &store->dims, &store->metric));
    pthread_mutex_lock(&store->checkpoint_lock);
    syna_rc rc = configure(store, options);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc == SYNA_SUCCESS ? mmap_vectors_load_index(store) : rc;
}

static syna_rc make_index_path(syna_mmap *store)
{
    size_t len = strlen(store->path) + sizeof MMAP_INDEX_SUFFIX;
    store->index_path = mem_alloc(len);
    if (!store->index_path)
        return syna_no_memory(len);
    snprintf(store->index_path, len, "%s" MMAP_INDEX_SUFFIX, store->path);
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_mmap *store, const char *path, const syna_mmap_options *options)
{
    store->writer = !options->read_only;
    store->kernels = kernels_get();
    SYNA_TRY(db_canonical_path(path, &store->path));
    SYNA_TRY(make_index_path(store));
    SYNA_TRY(ensure_file(store, options));
    if (store->writer) {
        SYNA_TRY(lock_acquire(&store->lock, store->path, 0, NULL));
        file_sweep_temps(store->path);
        file_sweep_temps(store->index_path);
    }
    return open_file(store, options);
}

syna_rc mmap_vectors_open(const char *path, const syna_mmap_options *given, syna_mmap **out)
{
    syna_mmap_options options;
    SYNA_TRY(mmap_vectors_options(given, &options));
    syna_mmap *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->lock.fd = -1;
    init_locks(store);
    syna_rc rc = open_into(store, path, &options);
    if (rc == SYNA_SUCCESS) {
        *out = store;
        return rc;
    }
    struct status_record why = *status_get();
    store_free(store);
    return status_set(&why);
}

syna_rc mmap_vectors_again(syna_mmap *store, const syna_mmap_options *given)
{
    syna_mmap_options options;
    SYNA_TRY(mmap_vectors_options(given, &options));
    pthread_mutex_lock(&store->checkpoint_lock);
    syna_rc rc = configure(store, &options);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

/* ---------------------------------------------------------------- closing */

syna_rc mmap_vectors_close(syna_mmap *store)
{
    syna_rc rc = SYNA_SUCCESS;
    if (store->writer && !store->inherited && !rowfile_failed(store->rows.file)) {
        pthread_mutex_lock(&store->checkpoint_lock);
        if (rowfile_changed(store->rows.file))
            rc = mmap_vectors_save(store);
        if (rc == SYNA_SUCCESS)
            mmap_vectors_tend_index(store, true);
        pthread_mutex_unlock(&store->checkpoint_lock);
    }
    struct status_record why = *status_get();
    store_free(store);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- fork, facts */

void mmap_vectors_before_fork(syna_mmap *store)
{
    pthread_mutex_lock(&store->write_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    if (store->index)
        pthread_mutex_lock(&store->index->graph.idle_lock);
}

void mmap_vectors_after_fork(syna_mmap *store, bool child)
{
    if (store->index)
        pthread_mutex_unlock(&store->index->graph.idle_lock);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    if (!child)
        return;
    init_locks(store); /* threads that waited for them, or held checkpoint_lock, are not here */
    store->inherited = true;
    /* The lock belongs to the open file description, which the parent still has. */
    lock_forget(&store->lock);
}

bool mmap_vectors_is_file(const syna_mmap *store, uint64_t device, uint64_t inode)
{
    return __atomic_load_n(&store->device, __ATOMIC_RELAXED) == device &&
           __atomic_load_n(&store->inode, __ATOMIC_RELAXED) == inode;
}
