/* gwi.c - open and close a gravity well index, and what fork() does to it.
 *
 * Dimensions and metric are in the configuration of the row file. They are fixed by the first row: an
 * index without rows takes those of whoever opens it last. */
#include "base/internal.h"

#include "engine/gwi_core.h"
#include "index/workers.h"

#define LEVELS_MAX 8u

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- configuration */

static void write_config(const struct gwi_config *config, uint8_t out[GWI_CONFIG_BYTES])
{
    store_u32(out, config->dims);
    store_u32(out + 4, (uint32_t)config->metric);
    store_u32(out + 8, config->branching);
    store_u32(out + 12, config->levels);
    store_u32(out + 16, config->sampled);
}

syna_rc gwi_read_config(const struct rowfile *file, struct gwi_config *out)
{
    const uint8_t *bytes = file->config;
    uint32_t metric = load_u32(bytes + 4);
    *out = (struct gwi_config){.dims = load_u32(bytes),
                               .metric = (int32_t)metric,
                               .branching = load_u32(bytes + 8),
                               .levels = load_u32(bytes + 12),
                               .sampled = load_u32(bytes + 16) != 0};
    if (file->config_len >= GWI_CONFIG_BYTES && out->dims >= 1 && out->dims <= SYNA_DIMENSIONS_MAX &&
        metric < COUNT_OF(metric_names) && file->row_bytes == gwi_row_bytes(out->dims))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, file->file.path,
                        SLOT_OFFSET + SLOT_AT_CONFIG, 0,
                        "%u dimensions, metric %u and rows of %u bytes do not go together", out->dims,
                        metric, file->row_bytes);
}

static syna_rc check_numbers(const syna_wells_options *o)
{
    if (o->dimensions > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u",
                         o->dimensions, SYNA_DIMENSIONS_MAX);
    if (o->metric < 0 || o->metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)",
                         o->metric);
    if (o->branching_factor == 1 || o->branching_factor > UINT16_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "a branching factor of %u, expected 2..%u, or 0 for the default",
                         o->branching_factor, UINT16_MAX);
    if (o->num_levels > LEVELS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%u levels, expected 1..%u, or 0 for the default", o->num_levels, LEVELS_MAX);
    return SYNA_SUCCESS;
}

syna_rc gwi_options(const syna_wells_options *given, syna_wells_options *out)
{
    *out = (syna_wells_options){.size = sizeof *out};
    if (given->size < offsetof(syna_wells_options, read_only))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_wells_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    return check_numbers(out);
}

syna_rc gwi_check_same(const syna_wells *store, uint32_t dims, int32_t metric)
{
    if (store->dims != dims)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                            "holds vectors of %u dimensions, opened with %u", store->dims, dims);
    if (store->metric != metric)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                            "its metric is %s, opened with %s", metric_names[store->metric],
                            metric_names[metric]);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- checks */

syna_rc gwi_check_dims(const syna_wells *store, const char *what, uint32_t dims)
{
    if (dims == store->dims)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                        "the %s has %u dimensions, this index %u", what, dims, store->dims);
}

syna_rc gwi_check_writable(const syna_wells *store)
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
                            "an earlier sync failed; reopen the index to continue");
    return SYNA_SUCCESS;
}

syna_rc gwi_note_damage(syna_wells *store, syna_rc rc)
{
    if (rc == SYNA_ERR_SERIALIZATION)
        __atomic_store_n(&store->damaged, true, __ATOMIC_RELEASE);
    return rc;
}

/* ---------------------------------------------------------------- memory */

static void init_locks(syna_wells *store)
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

static void store_free(syna_wells *store)
{
    gwi_drop_lists(store);
    if (store->rows.file)
        rowfile_detach(store->rows.file);
    mmap_rows_dispose(&store->rows);
    meta_free(store->meta);
    lock_release(&store->lock);
    pthread_rwlock_destroy(&store->state_lock);
    pthread_mutex_destroy(&store->write_lock);
    pthread_mutex_destroy(&store->index_lock);
    pthread_mutex_destroy(&store->checkpoint_lock);
    mem_free(store->path);
    mem_free(store->wells_path);
    mem_free(store);
}

static void remember_identity(syna_wells *store)
{
    __atomic_store_n(&store->device, store->rows.file->device, __ATOMIC_RELAXED);
    __atomic_store_n(&store->inode, store->rows.file->inode, __ATOMIC_RELAXED);
}

void gwi_swap(syna_wells *store, struct mmap_rows *rows, struct meta *meta)
{
    struct mmap_rows old = store->rows;
    struct meta *old_meta = store->meta;
    store->rows = *rows;
    store->meta = meta;
    *rows = (struct mmap_rows){0};
    gwi_drop_lists(store);
    remember_identity(store);
    rowfile_detach(old.file);
    mmap_rows_dispose(&old);
    meta_free(old_meta);
}

syna_rc gwi_apply_meta(const struct mmap_rows *rows, struct meta *meta, uint32_t first)
{
    for (uint32_t row = first; row < rows->count; row++) {
        struct row_record r;
        uint64_t next;
        if (!mmap_rows_is_live(rows, row))
            continue;
        SYNA_TRY(rowfile_record(rows->file, mmap_rows_offset(rows, row), &r, &next));
        if (r.meta_len == 0)
            continue;
        SYNA_TRY(meta_check((const char *)r.meta, r.meta_len));
        SYNA_TRY(meta_set(meta, row, (const char *)r.meta, r.meta_len));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- files */

static syna_rc create(const syna_wells *store, const syna_wells_options *options)
{
    uint8_t bytes[GWI_CONFIG_BYTES];
    bool exists;
    struct gwi_config config = {.dims = options->dimensions,
                                .metric = options->metric,
                                .branching = options->branching_factor,
                                .levels = options->num_levels};
    write_config(&config, bytes);
    struct rowfile_setup setup = {.component = GWI_COMPONENT,
                                  .row_bytes = gwi_row_bytes(options->dimensions),
                                  .config = bytes,
                                  .config_len = sizeof bytes,
                                  .generation = 1};
    return rowfile_create(store->path, &setup, &exists);
}

static syna_rc ensure_file(const syna_wells *store, const syna_wells_options *options)
{
    struct vfs_stat st;
    int rc = syna_vfs->stat_path(store->path, &st);
    if (rc == 0 && st.is_dir)
        return syna_fail_at(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, store->path, -1, EISDIR,
                            "not a path that an index can have");
    if (rc == 0)
        return SYNA_SUCCESS;
    if (rc != -ENOENT || options->read_only || options->dimensions == 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -rc,
                            "cannot open the index");
    return create(store, options);
}

/* ---------------------------------------------------------------- what an opening asks for */

static void write_own_config(syna_wells *store)
{
    uint8_t bytes[GWI_CONFIG_BYTES];
    struct gwi_config config = {store->dims, store->metric, store->branching, store->levels,
                                store->sampled};
    write_config(&config, bytes);
    rowfile_configure(store->rows.file, gwi_row_bytes(store->dims), bytes, sizeof bytes);
}

void gwi_configure_sampled(syna_wells *store)
{
    pthread_rwlock_wrlock(&store->state_lock);
    store->sampled = true;
    if (store->rows.count == 0)
        write_own_config(store);
    pthread_rwlock_unlock(&store->state_lock);
}

static bool asks_for_other(const syna_wells *store, const syna_wells_options *o)
{
    return o->dimensions != store->dims || o->metric != store->metric;
}

/* write_lock is held. *dead: the store has no rows, but its file has dead ones, which must go first. */
static syna_rc configure_locked(syna_wells *store, const syna_wells_options *o, bool *dead)
{
    *dead = false;
    store->capacity = MAX(store->capacity, o->initial_capacity);
    if (o->branching_factor)
        store->branching = o->branching_factor;
    if (o->num_levels)
        store->levels = o->num_levels;
    if (o->threads)
        store->threads = o->threads;
    if (o->dimensions == 0 || !asks_for_other(store, o))
        return SYNA_SUCCESS;
    if (store->rows.live > 0 || !store->writer)
        return gwi_check_same(store, o->dimensions, o->metric);
    *dead = store->rows.count > 0;
    if (*dead)
        return SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    gwi_drop_lists(store);
    store->dims = o->dimensions;
    store->metric = o->metric;
    store->sampled = false;
    partition_init(&store->part, store->dims, store->metric);
    write_own_config(store);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

/* checkpoint_lock and index_lock are held. */
static syna_rc configure(syna_wells *store, const syna_wells_options *options)
{
    for (;;) {
        bool dead;
        pthread_mutex_lock(&store->write_lock);
        syna_rc rc = configure_locked(store, options, &dead);
        pthread_mutex_unlock(&store->write_lock);
        SYNA_TRY(rc);
        if (!dead) /* readers are to see it before the first row comes */
            return store->rows.file->config_changed ? gwi_save_rows(store) : SYNA_SUCCESS;
        SYNA_TRY(gwi_rewrite(store, NULL, NULL));
    }
}

static syna_rc configure_alone(syna_wells *store, const syna_wells_options *options)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = configure(store, options);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

/* ---------------------------------------------------------------- opening */

static syna_rc take_config(syna_wells *store)
{
    struct gwi_config config;
    SYNA_TRY(gwi_read_config(store->rows.file, &config));
    store->dims = config.dims;
    store->metric = config.metric;
    store->branching = config.branching;
    store->levels = config.levels;
    store->sampled = config.sampled;
    partition_init(&store->part, store->dims, store->metric);
    return SYNA_SUCCESS;
}

static syna_rc open_file(syna_wells *store, const syna_wells_options *options)
{
    struct rowfile *file;
    SYNA_TRY(rowfile_open(store->path, GWI_COMPONENT, store->writer, &file));
    mmap_rows_init(&store->rows, file);
    remember_identity(store);
    if (store->writer && !file->writable) { /* a feature that only readers of this release may meet */
        lock_release(&store->lock);
        store->writer = false;
    }
    SYNA_TRY(mmap_rows_apply(&store->rows));
    SYNA_TRY(take_config(store));
    SYNA_TRY(gwi_load_lists(store));
    SYNA_TRY(gwi_apply_meta(&store->rows, store->meta, 0));
    SYNA_TRY(configure_alone(store, options));
    gwi_maintain(store);
    return SYNA_SUCCESS;
}

static syna_rc make_wells_path(syna_wells *store)
{
    static const char suffix[] = ".wells";
    size_t len = strlen(store->path);
    store->wells_path = mem_alloc(len + sizeof suffix);
    if (!store->wells_path)
        return syna_no_memory(len + sizeof suffix);
    memcpy(store->wells_path, store->path, len);
    memcpy(store->wells_path + len, suffix, sizeof suffix);
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_wells *store, const char *path, const syna_wells_options *options)
{
    store->writer = !options->read_only;
    store->kernels = kernels_get();
    store->threads = workers_available();
    SYNA_TRY(db_canonical_path(path, &store->path));
    SYNA_TRY(make_wells_path(store));
    SYNA_TRY(meta_new(&store->meta));
    SYNA_TRY(ensure_file(store, options));
    if (store->writer) {
        SYNA_TRY(lock_acquire(&store->lock, store->path, 0, NULL));
        file_sweep_temps(store->path);
        file_sweep_temps(store->wells_path);
    }
    return open_file(store, options);
}

syna_rc gwi_open(const char *path, const syna_wells_options *given, syna_wells **out)
{
    syna_wells_options options;
    SYNA_TRY(gwi_options(given, &options));
    syna_wells *store = mem_zalloc(sizeof *store);
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

syna_rc gwi_again(syna_wells *store, const syna_wells_options *given)
{
    syna_wells_options options;
    SYNA_TRY(gwi_options(given, &options));
    return configure_alone(store, &options);
}

/* ---------------------------------------------------------------- closing */

/* What rows there are is durable before the lists of them are saved; those may fail, and are made anew. */
static syna_rc save_on_close(syna_wells *store)
{
    if (!store->writer || store->inherited || rowfile_failed(store->rows.file))
        return SYNA_SUCCESS;
    if (rowfile_changed(store->rows.file))
        SYNA_TRY(gwi_save_rows(store));
    if (store->lists_changed || store->part.end != store->saved_end)
        gwi_save_lists(store);
    return SYNA_SUCCESS;
}

syna_rc gwi_close(syna_wells *store)
{
    syna_rc rc = save_on_close(store);
    struct status_record why = *status_get();
    store_free(store);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- fork, facts */

void gwi_before_fork(syna_wells *store)
{
    pthread_mutex_lock(&store->write_lock);
    pthread_rwlock_wrlock(&store->state_lock);
}

void gwi_after_fork(syna_wells *store, bool child)
{
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    if (!child)
        return;
    init_locks(store); /* threads that waited for them, or held another one, are not here */
    store->inherited = true;
    /* The lock belongs to the open file description, which the parent still has. */
    lock_forget(&store->lock);
}

bool gwi_is_file(const syna_wells *store, uint64_t device, uint64_t inode)
{
    return __atomic_load_n(&store->device, __ATOMIC_RELAXED) == device &&
           __atomic_load_n(&store->inode, __ATOMIC_RELAXED) == inode;
}
