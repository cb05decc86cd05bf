/* gwi.c - a gravity well index is a row store with a partition: its options and configuration, its
 * figures, and what it takes over as it is. */
#include "base/internal.h"

#include "engine/gwi_core.h"
#include "index/workers.h"

#define LEVELS_MAX 8u
#define GWI_CONFIG_BYTES 12u /* behind dimensions and metric */

/* ---------------------------------------------------------------- options and configuration */

static syna_rc check_numbers(const syna_wells_options *o)
{
    SYNA_TRY(row_store_check_numbers(o->dimensions ? o->dimensions : 1, o->metric));
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

static void tune(struct row_store *base, const void *options)
{
    syna_wells *store = gwi_of(base);
    const syna_wells_options *o = options;
    if (o->branching_factor)
        store->branching = o->branching_factor;
    if (o->num_levels)
        store->levels = o->num_levels;
    if (o->threads)
        store->threads = o->threads;
    else if (store->threads == 0)
        store->threads = workers_available();
}

static void read_config(struct row_store *base, const uint8_t *config)
{
    syna_wells *store = gwi_of(base);
    store->branching = load_u32(config);
    store->levels = load_u32(config + 4);
    store->sampled = load_u32(config + 8) != 0;
    partition_init(&store->part, base->dims, base->metric);
}

static void write_config(const struct row_store *base, uint8_t *config)
{
    const syna_wells *store = (const syna_wells *)(const void *)base;
    store_u32(config, store->branching);
    store_u32(config + 4, store->levels);
    store_u32(config + 8, store->sampled);
}

static void renew(struct row_store *base)
{
    syna_wells *store = gwi_of(base);
    store->sampled = false;
    partition_init(&store->part, base->dims, base->metric);
}

static const struct row_store_kind kind = {
    .component = SNAPSHOT_FOURCC('G', 'W', 'E', 'L'),
    .noun = "index",
    .index_suffix = ".wells",
    .config_len = ROW_CONFIG_BYTES + GWI_CONFIG_BYTES,
    .metadata = true,
    .tune = tune,
    .read_config = read_config,
    .write_config = write_config,
    .renew = renew,
    .load = gwi_load_lists,
    .drop = gwi_drop_lists,
    .save = gwi_save_lists,
    .tend = gwi_maintain,
};

/* ---------------------------------------------------------------- opening, closing */

static syna_rc take_options(const syna_wells_options *given, syna_wells_options *own,
                            struct row_store_options *out)
{
    SYNA_TRY(gwi_options(given, own));
    *out = (struct row_store_options){.dims = own->dimensions,
                                      .metric = own->metric,
                                      .capacity = own->initial_capacity,
                                      .read_only = own->read_only,
                                      .own = own};
    return SYNA_SUCCESS;
}

syna_rc gwi_open(const char *path, const syna_wells_options *given, syna_wells **out)
{
    syna_wells_options own;
    struct row_store_options options;
    struct row_store *store;
    SYNA_TRY(take_options(given, &own, &options));
    SYNA_TRY(row_store_open(&kind, sizeof **out, path, &options, &store));
    *out = gwi_of(store);
    return SYNA_SUCCESS;
}

syna_rc gwi_again(syna_wells *store, const syna_wells_options *given)
{
    syna_wells_options own;
    struct row_store_options options;
    SYNA_TRY(take_options(given, &own, &options));
    return row_store_again(&store->base, &options);
}

syna_rc gwi_close(syna_wells *store)
{
    return row_store_close(&store->base);
}

void gwi_before_fork(syna_wells *store)
{
    row_store_before_fork(&store->base);
}

void gwi_after_fork(syna_wells *store, bool child)
{
    row_store_after_fork(&store->base, child);
}

bool gwi_is_file(const syna_wells *store, uint64_t device, uint64_t inode)
{
    return row_store_is_file(&store->base, device, inode);
}

/* ---------------------------------------------------------------- rows */

static bool initialized_locked(const syna_wells *store)
{
    return store->sampled || store->base.rows.count > 0;
}

syna_rc gwi_check_initialized(syna_wells *store)
{
    struct row_store *base = &store->base;
    pthread_rwlock_rdlock(&base->state_lock);
    bool initialized = initialized_locked(store);
    pthread_rwlock_unlock(&base->state_lock);
    if (LIKELY(initialized))
        return SYNA_SUCCESS;
    SYNA_TRY(row_store_check_writable(base)); /* who may not write is told that instead */
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_NOT_INITIALIZED, base->path, -1, 0,
                        "the index has neither a sample nor rows; call initialize before the first "
                        "insert");
}

syna_rc gwi_insert(syna_wells *store, const struct gwi_batch *batch, size_t *added)
{
    struct row_batch rows = {.keys = batch->keys,
                             .key_lens = batch->key_lens,
                             .vectors = batch->vectors,
                             .metadata = batch->metadata,
                             .metadata_lens = batch->metadata_lens,
                             .dims = batch->dims,
                             .count = batch->count};
    return row_store_insert(&store->base, &rows, added);
}

syna_rc gwi_update_metadata(syna_wells *store, const char *key, size_t key_len, const char *json,
                            size_t len, bool replace)
{
    return row_store_update_metadata(&store->base, key, key_len, json, len, replace);
}

syna_rc gwi_delete(syna_wells *store, const char *key, size_t key_len, int32_t *deleted)
{
    return row_store_delete(&store->base, key, key_len, deleted);
}

syna_rc gwi_get(syna_wells *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    return row_store_get(&store->base, key, key_len, out, dims);
}

syna_rc gwi_get_metadata(syna_wells *store, const char *key, size_t key_len, char **out, size_t *len)
{
    return row_store_get_metadata(&store->base, key, key_len, out, len);
}

syna_rc gwi_contains(syna_wells *store, const char *key, size_t key_len, bool *found)
{
    return row_store_contains(&store->base, key, key_len, found);
}

uint64_t gwi_count(syna_wells *store)
{
    return row_store_count(&store->base);
}

syna_rc gwi_rows(syna_wells *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    return row_store_rows(&store->base, flags, hits, count);
}

/* ---------------------------------------------------------------- figures */

static void fill_stats(const struct row_store *base, void *to)
{
    const syna_wells *store = (const syna_wells *)(const void *)base;
    const struct rowfile *file = base->rows.file;
    const struct partition *part = &store->part;
    syna_wells_stats *out = to;
    out->dimensions = base->dims;
    out->metric = base->metric;
    out->branching_factor = store->branching;
    out->num_levels = store->levels;
    out->wells = part->count;
    out->initialized = initialized_locked(store);
    out->rows = base->rows.live;
    out->dead_rows = base->rows.count - base->rows.live;
    out->fresh_rows = base->rows.count - part->end;
    out->trained_rows = part->trained;
    out->splits = part->splits;
    out->unsaved_rows = row_store_unsaved(base);
    out->generation = file->header.generation;
    out->memory_bytes = sizeof *store + mmap_rows_bytes(&base->rows) + meta_bytes(base->meta) +
                        partition_bytes(part);
    out->file_bytes = rowfile_file_bytes(file);
    memcpy(out->uuid, file->header.uuid, sizeof out->uuid);
    snprintf(out->simd, sizeof out->simd, "%s", base->kernels->name);
}

syna_rc gwi_get_stats(syna_wells *store, syna_wells_stats *out)
{
    syna_wells_stats stats = {0};
    return row_store_get_stats(&store->base, fill_stats, &stats, sizeof stats, out);
}

/* ---------------------------------------------------------------- upkeep */

syna_rc gwi_flush(syna_wells *store)
{
    return row_store_save(&store->base, ROW_SAVE_CHECKPOINT);
}

syna_rc gwi_refresh(syna_wells *store, bool *changed)
{
    return row_store_refresh(&store->base, changed);
}

syna_rc gwi_look(syna_wells *store, bool *changed)
{
    return row_store_look(&store->base, changed);
}

syna_rc gwi_tend(syna_wells *store)
{
    return row_store_tend(&store->base, NULL, NULL);
}

syna_rc gwi_compact(syna_wells *store, syna_progress_fn progress, void *context)
{
    return row_store_compact(&store->base, progress, context);
}

syna_rc gwi_verify(const char *path, syna_finding_fn visit, void *context, syna_progress_fn progress,
                   syna_check *out)
{
    return row_store_verify(&kind, path, visit, context, progress, out);
}
