/* row_store.c - open and close a store of rows, and what fork() does to it. */
#include "base/internal.h"

#include "engine/row_store.h"

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- configuration */

static uint32_t row_bytes(uint32_t dims)
{
    return (dims * (uint32_t)sizeof(float) + 63) & ~63u;
}

syna_rc row_store_check_numbers(uint32_t dims, int32_t metric)
{
    if (dims < 1 || dims > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u", dims,
                         SYNA_DIMENSIONS_MAX);
    if (metric < 0 || metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)", metric);
    return SYNA_SUCCESS;
}

static void encode_config(const struct row_store *store, uint8_t out[ROWFILE_CONFIG_MAX])
{
    store_u32(out, store->dims);
    store_u32(out + 4, (uint32_t)store->metric);
    if (store->kind->write_config)
        store->kind->write_config(store, out + ROW_CONFIG_BYTES);
}

void row_store_write_config(struct row_store *store)
{
    uint8_t config[ROWFILE_CONFIG_MAX];
    encode_config(store, config);
    rowfile_configure(store->rows.file, row_bytes(store->dims), config, store->kind->config_len);
}

syna_rc row_store_read_config(const struct row_store_kind *kind, const struct rowfile *file,
                              uint32_t *dims, int32_t *metric)
{
    *dims = load_u32(file->config);
    uint32_t number = load_u32(file->config + 4);
    if (file->config_len < kind->config_len || *dims < 1 || *dims > SYNA_DIMENSIONS_MAX ||
        number >= COUNT_OF(metric_names) || file->row_bytes != row_bytes(*dims))
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, file->file.path,
                            SLOT_OFFSET + SLOT_AT_CONFIG, 0,
                            "%u dimensions, metric %u and rows of %u bytes do not go together", *dims,
                            number, file->row_bytes);
    *metric = (int32_t)number;
    return SYNA_SUCCESS;
}

static syna_rc take_config(struct row_store *store)
{
    const struct rowfile *file = store->rows.file;
    SYNA_TRY(row_store_read_config(store->kind, file, &store->dims, &store->metric));
    if (store->kind->read_config)
        store->kind->read_config(store, file->config + ROW_CONFIG_BYTES);
    return SYNA_SUCCESS;
}

static syna_rc check_same(const char *path, uint32_t has_dims, int32_t has_metric, uint32_t dims,
                          int32_t metric)
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

syna_rc row_store_check_config(const struct row_store *store, const struct rowfile *file)
{
    uint32_t dims;
    int32_t metric = 0;
    SYNA_TRY(row_store_read_config(store->kind, file, &dims, &metric));
    return check_same(store->path, dims, metric, store->dims, store->metric);
}

/* ---------------------------------------------------------------- checks */

syna_rc row_store_check_dims(const struct row_store *store, const char *what, uint32_t dims)
{
    if (dims == store->dims)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT, store->path, -1, 0,
                        "the %s has %u dimensions, this %s %u", what, dims, store->kind->noun,
                        store->dims);
}

syna_rc row_store_check_can_save(const struct row_store *store)
{
    if (store->inherited)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_FORKED, store->path, -1, 0,
                            "opened before fork(); open it again in this process to write");
    if (!store->writer)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "opened read-only");
    return SYNA_SUCCESS;
}

syna_rc row_store_check_writable(const struct row_store *store)
{
    SYNA_TRY(row_store_check_can_save(store));
    if (row_store_is_damaged(store))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->path, -1, 0,
                            "damage was met in this file; no more writes");
    if (rowfile_failed(store->rows.file))
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, store->path, -1, 0,
                            "an earlier sync failed; reopen the %s to continue", store->kind->noun);
    return SYNA_SUCCESS;
}

syna_rc row_store_note_damage(struct row_store *store, syna_rc rc)
{
    if (rc == SYNA_ERR_SERIALIZATION)
        __atomic_store_n(&store->damaged, true, __ATOMIC_RELEASE);
    return rc;
}

syna_rc row_store_tend(struct row_store *store, syna_progress_fn progress, void *context)
{
    return store->kind->tend ? store->kind->tend(store, progress, context) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- memory */

static void init_locks(struct row_store *store)
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

static void store_free(struct row_store *store)
{
    store->kind->drop(store);
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

static void remember_identity(struct row_store *store)
{
    __atomic_store_n(&store->device, store->rows.file->device, __ATOMIC_RELAXED);
    __atomic_store_n(&store->inode, store->rows.file->inode, __ATOMIC_RELAXED);
}

void row_store_swap(struct row_store *store, struct mmap_rows *rows, struct meta *meta)
{
    struct mmap_rows old = store->rows;
    meta_free(store->meta);
    store->rows = *rows;
    store->meta = meta;
    *rows = (struct mmap_rows){0};
    remember_identity(store);
    rowfile_detach(old.file);
    mmap_rows_dispose(&old);
}

/* ---------------------------------------------------------------- rows of a file */

/* Metadata of the live rows from `first` on, as their records have it. */
static syna_rc apply_meta(const struct mmap_rows *rows, struct meta *meta, uint32_t first)
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

syna_rc row_store_load_rows(const struct row_store *store, struct rowfile *file, struct mmap_rows *rows,
                            struct meta **meta)
{
    *meta = NULL;
    mmap_rows_init(rows, file);
    syna_rc rc = row_store_check_config(store, file);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_apply(rows);
    if (rc == SYNA_SUCCESS && store->kind->metadata) {
        rc = meta_new(meta);
        if (rc == SYNA_SUCCESS)
            rc = apply_meta(rows, *meta, 0);
    }
    if (rc == SYNA_SUCCESS)
        return rc;
    struct status_record why = *status_get();
    mmap_rows_dispose(rows);
    meta_free(*meta);
    *meta = NULL;
    return status_set(&why);
}

syna_rc row_store_follow_rows(struct row_store *store)
{
    uint32_t before = store->rows.count;
    SYNA_TRY(mmap_rows_apply(&store->rows));
    if (!store->meta)
        return SYNA_SUCCESS;
    for (uint32_t row = 0; row < before; row++)
        if (!mmap_rows_is_live(&store->rows, row))
            meta_clear(store->meta, row);
    return apply_meta(&store->rows, store->meta, before);
}

/* ---------------------------------------------------------------- what an opening asks for */

static void tune(struct row_store *store, const struct row_store_options *o)
{
    store->capacity = MAX(store->capacity, o->capacity);
    if (store->kind->tune)
        store->kind->tune(store, o->own);
}

/* Exclusive, and there are no rows. */
static void become_other(struct row_store *store, uint32_t dims, int32_t metric)
{
    store->kind->drop(store);
    store->dims = dims;
    store->metric = metric;
    if (store->kind->renew)
        store->kind->renew(store);
    row_store_write_config(store);
}

/* write_lock is held. *dead: the store has no rows, but its file has dead ones, which must go first. */
static syna_rc configure_locked(struct row_store *store, const struct row_store_options *o, bool *dead)
{
    bool other = o->dims != 0 && (o->dims != store->dims || o->metric != store->metric);
    *dead = false;
    if (other && (store->rows.live > 0 || !store->writer))
        return check_same(store->path, store->dims, store->metric, o->dims, o->metric);
    *dead = other && store->rows.count > 0;
    pthread_rwlock_wrlock(&store->state_lock);
    tune(store, o);
    if (other && !*dead)
        become_other(store, o->dims, o->metric);
    pthread_rwlock_unlock(&store->state_lock);
    return SYNA_SUCCESS;
}

static syna_rc configure(struct row_store *store, const struct row_store_options *options)
{
    for (;;) {
        bool dead;
        pthread_mutex_lock(&store->write_lock);
        syna_rc rc = configure_locked(store, options, &dead);
        pthread_mutex_unlock(&store->write_lock);
        SYNA_TRY(rc);
        if (!dead) /* readers are to see it before the first row comes */
            return store->rows.file->config_changed ? row_store_save_rows(store) : SYNA_SUCCESS;
        SYNA_TRY(row_store_rewrite(store, NULL, NULL));
    }
}

syna_rc row_store_again(struct row_store *store, const struct row_store_options *options)
{
    row_store_begin_upkeep(store);
    syna_rc rc = configure(store, options);
    row_store_end_upkeep(store);
    return rc;
}

/* ---------------------------------------------------------------- opening */

static syna_rc create(struct row_store *store, const struct row_store_options *options)
{
    uint8_t config[ROWFILE_CONFIG_MAX];
    bool exists;
    store->dims = options->dims;
    store->metric = options->metric;
    encode_config(store, config);
    struct rowfile_setup setup = {.component = store->kind->component,
                                  .row_bytes = row_bytes(store->dims),
                                  .config = config,
                                  .config_len = store->kind->config_len,
                                  .generation = 1};
    return rowfile_create(store->path, &setup, &exists);
}

static syna_rc ensure_file(struct row_store *store, const struct row_store_options *options)
{
    struct vfs_stat st;
    const char *noun = store->kind->noun;
    int rc = syna_vfs->stat_path(store->path, &st);
    if (rc == 0 && st.is_dir)
        return syna_fail_at(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, store->path, -1, EISDIR,
                            "not a path that this kind of %s can have", noun);
    if (rc == 0)
        return SYNA_SUCCESS;
    if (rc != -ENOENT || options->read_only || options->dims == 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->path, -1, -rc, "cannot open the %s",
                            noun);
    return create(store, options);
}

static syna_rc open_file(struct row_store *store, const struct row_store_options *options)
{
    struct rowfile *file;
    SYNA_TRY(rowfile_open(store->path, store->kind->component, store->writer, &file));
    mmap_rows_init(&store->rows, file);
    remember_identity(store);
    if (store->writer && !file->writable) { /* a feature that only readers of this release may meet */
        lock_release(&store->lock);
        store->writer = false;
    }
    SYNA_TRY(mmap_rows_apply(&store->rows));
    SYNA_TRY(take_config(store));
    if (store->meta)
        SYNA_TRY(apply_meta(&store->rows, store->meta, 0));
    SYNA_TRY(store->kind->load(store));
    SYNA_TRY(row_store_again(store, options));
    return row_store_tend(store, options->progress, options->context);
}

static syna_rc make_index_path(struct row_store *store)
{
    size_t len = strlen(store->path) + strlen(store->kind->index_suffix) + 1;
    store->index_path = mem_alloc(len);
    if (!store->index_path)
        return syna_no_memory(len);
    snprintf(store->index_path, len, "%s%s", store->path, store->kind->index_suffix);
    return SYNA_SUCCESS;
}

static syna_rc open_into(struct row_store *store, const char *path,
                         const struct row_store_options *options)
{
    store->writer = !options->read_only;
    store->kernels = kernels_get();
    tune(store, options);
    SYNA_TRY(db_canonical_path(path, &store->path));
    SYNA_TRY(make_index_path(store));
    if (store->kind->metadata)
        SYNA_TRY(meta_new(&store->meta));
    SYNA_TRY(ensure_file(store, options));
    if (store->writer) {
        SYNA_TRY(lock_acquire(&store->lock, store->path, 0, NULL));
        file_sweep_temps(store->path);
        file_sweep_temps(store->index_path);
    }
    return open_file(store, options);
}

syna_rc row_store_open(const struct row_store_kind *kind, size_t size, const char *path,
                       const struct row_store_options *options, struct row_store **out)
{
    struct row_store *store = mem_zalloc(size);
    if (!store)
        return syna_no_memory(size);
    store->kind = kind;
    store->lock = (struct writer_lock)WRITER_LOCK_NONE;
    init_locks(store);
    syna_rc rc = open_into(store, path, options);
    if (rc == SYNA_SUCCESS) {
        *out = store;
        return rc;
    }
    struct status_record why = *status_get();
    store_free(store);
    return status_set(&why);
}

/* ---------------------------------------------------------------- closing */

/* What rows there are is durable before the index of them is saved; that may fail, it is made anew. */
static syna_rc save_on_close(struct row_store *store)
{
    if (!store->writer || store->inherited || rowfile_failed(store->rows.file))
        return SYNA_SUCCESS;
    if (rowfile_changed(store->rows.file))
        SYNA_TRY(row_store_save_rows(store));
    store->kind->save(store, ROW_SAVE_CLOSE);
    return SYNA_SUCCESS;
}

syna_rc row_store_close(struct row_store *store)
{
    syna_rc rc = save_on_close(store);
    struct status_record why = *status_get();
    store_free(store);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- fork, facts */

static void lock_for_fork(struct row_store *store, bool lock)
{
    if (store->kind->lock_for_fork)
        store->kind->lock_for_fork(store, lock);
}

void row_store_before_fork(struct row_store *store)
{
    pthread_mutex_lock(&store->write_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    lock_for_fork(store, true);
}

void row_store_after_fork(struct row_store *store, bool child)
{
    lock_for_fork(store, false);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->write_lock);
    if (!child)
        return;
    init_locks(store); /* threads that waited for them, or held another one, are not here */
    store->inherited = true;
    /* The lock belongs to the open file description, which the parent still has. */
    lock_forget(&store->lock);
}

bool row_store_is_file(const struct row_store *store, uint64_t device, uint64_t inode)
{
    return __atomic_load_n(&store->device, __ATOMIC_RELAXED) == device &&
           __atomic_load_n(&store->inode, __ATOMIC_RELAXED) == inode;
}
