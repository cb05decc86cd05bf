/* cascade_store.c - open and close a cascade index, and what fork() does to it.
 *
 * Dimensions and metric are in the configuration of the row file. They are fixed by the first row:
 * an index without rows takes those of whoever opens it last. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"
#include "index/workers.h"

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- configuration */

static void write_config(uint32_t dims, int32_t metric, uint8_t out[CASCADE_CONFIG_BYTES])
{
    store_u32(out, dims);
    store_u32(out + 4, (uint32_t)metric);
}

syna_rc cascade_store_read_config(const struct rowfile *file, uint32_t *dims, int32_t *metric)
{
    *dims = load_u32(file->config);
    uint32_t number = load_u32(file->config + 4);
    if (file->config_len < CASCADE_CONFIG_BYTES || *dims < 1 || *dims > SYNA_DIMENSIONS_MAX ||
        number >= COUNT_OF(metric_names) || file->row_bytes != cascade_store_row_bytes(*dims))
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, file->file.path,
                            SLOT_OFFSET + SLOT_AT_CONFIG, 0,
                            "%u dimensions, metric %u and rows of %u bytes do not go together",
                            *dims, number, file->row_bytes);
    *metric = (int32_t)number;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- options */

/* What the presets of the seeds promise is a recall; how it is reached is measured, not fixed. */
static const struct preset {
    float recall;
    uint32_t probes;
} presets[] = {[SYNA_CASCADE_LARGE] = {0.95f, 4},
               [SYNA_CASCADE_SMALL] = {0.95f, 4},
               [SYNA_CASCADE_HIGH_RECALL] = {0.99f, 8},
               [SYNA_CASCADE_FAST_SEARCH] = {0.90f, 2}};

static syna_rc check_numbers(const syna_buckets_options *o)
{
    if (o->dimensions > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u",
                         o->dimensions, SYNA_DIMENSIONS_MAX);
    if (o->metric < 0 || o->metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)",
                         o->metric);
    if (o->preset >= COUNT_OF(presets))
        return syna_fail(
            SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
            "preset %u, expected 0 (large), 1 (small), 2 (high recall) or 3 (fast search)",
            o->preset);
    if (!(o->recall >= 0 && o->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)o->recall);
    return SYNA_SUCCESS;
}

static struct cascade_params params_of(const syna_buckets_options *o)
{
    return (struct cascade_params){o->num_hyperplanes, o->bucket_capacity, o->nprobe};
}

syna_rc cascade_store_options(const syna_buckets_options *given, syna_buckets_options *out)
{
    *out = (syna_buckets_options){.size = sizeof *out};
    if (given->size < offsetof(syna_buckets_options, read_only))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_buckets_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    SYNA_TRY(check_numbers(out));
    out->num_hyperplanes = out->num_hyperplanes ? out->num_hyperplanes : SYNA_CASCADE_HYPERPLANES;
    out->bucket_capacity = out->bucket_capacity ? out->bucket_capacity : SYNA_CASCADE_CAPACITY;
    out->nprobe = out->nprobe ? out->nprobe : presets[out->preset].probes;
    out->recall = out->recall > 0 ? out->recall : presets[out->preset].recall;
    struct cascade_params params = params_of(out);
    return cascade_check_params(&params);
}

syna_rc cascade_store_check_same(const syna_buckets *store, uint32_t dims, int32_t metric)
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

syna_rc cascade_store_check_dims(const syna_buckets *store, const char *what, uint32_t dims)
{
    if (dims == store->dims)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                        "the %s has %u dimensions, this index %u", what, dims, store->dims);
}

syna_rc cascade_store_check_writable(const syna_buckets *store)
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

syna_rc cascade_store_note_damage(syna_buckets *store, syna_rc rc)
{
    if (rc == SYNA_ERR_SERIALIZATION)
        __atomic_store_n(&store->damaged, true, __ATOMIC_RELEASE);
    return rc;
}

/* ---------------------------------------------------------------- memory */

static void init_locks(syna_buckets *store)
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

static void store_free(syna_buckets *store)
{
    cascade_store_drop_index(store);
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
    mem_free(store->index_path);
    mem_free(store);
}

static void remember_identity(syna_buckets *store)
{
    __atomic_store_n(&store->device, store->rows.file->device, __ATOMIC_RELAXED);
    __atomic_store_n(&store->inode, store->rows.file->inode, __ATOMIC_RELAXED);
}

void cascade_store_swap(syna_buckets *store, struct mmap_rows *rows, struct meta *meta)
{
    struct mmap_rows old = store->rows;
    struct meta *old_meta = store->meta;
    store->rows = *rows;
    store->meta = meta;
    *rows = (struct mmap_rows){0};
    cascade_store_drop_index(store);
    remember_identity(store);
    rowfile_detach(old.file);
    mmap_rows_dispose(&old);
    meta_free(old_meta);
}

syna_rc cascade_store_apply_meta(const struct mmap_rows *rows, struct meta *meta, uint32_t first)
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

static syna_rc create(const syna_buckets *store, const syna_buckets_options *options)
{
    uint8_t config[CASCADE_CONFIG_BYTES];
    bool exists;
    write_config(options->dimensions, options->metric, config);
    struct rowfile_setup setup = {.component = CASCADE_COMPONENT,
                                  .row_bytes = cascade_store_row_bytes(options->dimensions),
                                  .config = config,
                                  .config_len = sizeof config,
                                  .generation = 1};
    return rowfile_create(store->path, &setup, &exists);
}

static syna_rc ensure_file(const syna_buckets *store, const syna_buckets_options *options)
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

static void take_tuning(syna_buckets *store, const syna_buckets_options *o)
{
    pthread_rwlock_wrlock(&store->state_lock);
    store->capacity = MAX(store->capacity, o->initial_capacity);
    store->params = params_of(o);
    store->recall = o->recall;
    store->threads = o->threads ? o->threads : workers_available();
    pthread_rwlock_unlock(&store->state_lock);
}

/* write_lock is held. *dead: the store has no rows, but its file has dead ones, which must go
 * first. */
static syna_rc configure_locked(syna_buckets *store, const syna_buckets_options *o, bool *dead)
{
    uint8_t config[CASCADE_CONFIG_BYTES];
    *dead = false;
    bool other = o->dimensions != 0 && (o->dimensions != store->dims || o->metric != store->metric);
    if (other && (store->rows.live > 0 || !store->writer))
        return cascade_store_check_same(store, o->dimensions, o->metric);
    take_tuning(store, o);
    *dead = other && store->rows.count > 0;
    if (!other || *dead)
        return SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    cascade_store_drop_index(store);
    store->dims = o->dimensions;
    store->metric = o->metric;
    write_config(store->dims, store->metric, config);
    rowfile_configure(store->rows.file, cascade_store_row_bytes(store->dims), config,
                      sizeof config);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

/* checkpoint_lock and index_lock are held. */
static syna_rc configure(syna_buckets *store, const syna_buckets_options *options)
{
    for (;;) {
        bool dead;
        pthread_mutex_lock(&store->write_lock);
        syna_rc rc = configure_locked(store, options, &dead);
        pthread_mutex_unlock(&store->write_lock);
        SYNA_TRY(rc);
        if (!dead) /* readers are to see it before the first row comes */
            return store->rows.file->config_changed ? cascade_store_save_rows(store) : SYNA_SUCCESS;
        SYNA_TRY(cascade_store_rewrite(store, NULL, NULL));
    }
}

static syna_rc configure_alone(syna_buckets *store, const syna_buckets_options *options)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = configure(store, options);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

/* ---------------------------------------------------------------- opening */

static syna_rc open_file(syna_buckets *store, const syna_buckets_options *options)
{
    struct rowfile *file;
    SYNA_TRY(rowfile_open(store->path, CASCADE_COMPONENT, store->writer, &file));
    mmap_rows_init(&store->rows, file);
    remember_identity(store);
    if (store->writer &&
        !file->writable) { /* a feature that only readers of this release may meet */
        lock_release(&store->lock);
        store->writer = false;
    }
    SYNA_TRY(mmap_rows_apply(&store->rows));
    SYNA_TRY(cascade_store_read_config(file, &store->dims, &store->metric));
    store->params = params_of(options);
    SYNA_TRY(cascade_store_load_index(store));
    SYNA_TRY(cascade_store_apply_meta(&store->rows, store->meta, 0));
    SYNA_TRY(configure_alone(store, options));
    return cascade_store_maintain(store, options->progress, options->context);
}

static syna_rc make_index_path(syna_buckets *store)
{
    static const char suffix[] = ".index";
    size_t len = strlen(store->path);
    store->index_path = mem_alloc(len + sizeof suffix);
    if (!store->index_path)
        return syna_no_memory(len + sizeof suffix);
    memcpy(store->index_path, store->path, len);
    memcpy(store->index_path + len, suffix, sizeof suffix);
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_buckets *store, const char *path, const syna_buckets_options *options)
{
    store->writer = !options->read_only;
    store->kernels = kernels_get();
    SYNA_TRY(db_canonical_path(path, &store->path));
    SYNA_TRY(make_index_path(store));
    SYNA_TRY(meta_new(&store->meta));
    SYNA_TRY(ensure_file(store, options));
    if (store->writer) {
        SYNA_TRY(lock_acquire(&store->lock, store->path, 0, NULL));
        file_sweep_temps(store->path);
        file_sweep_temps(store->index_path);
    }
    return open_file(store, options);
}

syna_rc cascade_store_open(const char *path, const syna_buckets_options *given, syna_buckets **out)
{
    syna_buckets_options options;
    SYNA_TRY(cascade_store_options(given, &options));
    syna_buckets *store = mem_zalloc(sizeof *store);
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

syna_rc cascade_store_again(syna_buckets *store, const syna_buckets_options *given)
{
    syna_buckets_options options;
    SYNA_TRY(cascade_store_options(given, &options));
    return configure_alone(store, &options);
}

/* ---------------------------------------------------------------- closing */

/* What rows there are is durable before the index of them is saved; that may fail, it is made anew.
 */
static syna_rc save_on_close(syna_buckets *store)
{
    if (!store->writer || store->inherited || rowfile_failed(store->rows.file))
        return SYNA_SUCCESS;
    if (rowfile_changed(store->rows.file))
        SYNA_TRY(cascade_store_save_rows(store));
    if (store->index_changed || store->index.linked != store->saved_end)
        cascade_store_save_index(store);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_close(syna_buckets *store)
{
    syna_rc rc = save_on_close(store);
    struct status_record why = *status_get();
    store_free(store);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- fork, facts */

void cascade_store_before_fork(syna_buckets *store)
{
    pthread_mutex_lock(&store->write_lock);
    pthread_rwlock_wrlock(&store->state_lock);
}

void cascade_store_after_fork(syna_buckets *store, bool child)
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

bool cascade_store_is_file(const syna_buckets *store, uint64_t device, uint64_t inode)
{
    return __atomic_load_n(&store->device, __ATOMIC_RELAXED) == device &&
           __atomic_load_n(&store->inode, __ATOMIC_RELAXED) == inode;
}
