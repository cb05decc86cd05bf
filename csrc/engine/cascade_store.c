/* cascade_store.c - a cascade index is a row store with index/cascade.h: its options, its figures, and
 * what it takes over as it is. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"
#include "index/workers.h"

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
    SYNA_TRY(row_store_check_numbers(o->dimensions ? o->dimensions : 1, o->metric));
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

static void tune(struct row_store *base, const void *options)
{
    syna_buckets *store = buckets_of(base);
    const syna_buckets_options *o = options;
    store->params = params_of(o);
    store->recall = o->recall;
    store->threads = o->threads ? o->threads : workers_available();
}

static void removed(struct row_store *base, uint32_t row)
{
    cascade_remove(&buckets_of(base)->index, row);
}

static void lock_for_fork(struct row_store *base, bool lock)
{
    struct cascade *index = &buckets_of(base)->index;
    if (index->linked > 0 && lock)
        pthread_mutex_lock(&index->idle_lock);
    else if (index->linked > 0)
        pthread_mutex_unlock(&index->idle_lock);
}

static const struct row_store_kind kind = {
    .component = SNAPSHOT_FOURCC('C', 'A', 'S', 'C'),
    .noun = "index",
    .index_suffix = ".index",
    .config_len = ROW_CONFIG_BYTES,
    .metadata = true,
    .tune = tune,
    .load = cascade_store_load_index,
    .drop = cascade_store_drop_index,
    .save = cascade_store_save_index,
    .tend = cascade_store_maintain,
    .removed = removed,
    .follow = cascade_store_sweep,
    .lock_for_fork = lock_for_fork,
};

/* ---------------------------------------------------------------- opening, closing */

static syna_rc take_options(const syna_buckets_options *given, syna_buckets_options *own,
                            struct row_store_options *out)
{
    SYNA_TRY(cascade_store_options(given, own));
    *out = (struct row_store_options){.dims = own->dimensions,
                                      .metric = own->metric,
                                      .capacity = own->initial_capacity,
                                      .read_only = own->read_only,
                                      .own = own,
                                      .progress = own->progress,
                                      .context = own->context};
    return SYNA_SUCCESS;
}

syna_rc cascade_store_open(const char *path, const syna_buckets_options *given, syna_buckets **out)
{
    syna_buckets_options own;
    struct row_store_options options;
    struct row_store *store;
    SYNA_TRY(take_options(given, &own, &options));
    SYNA_TRY(row_store_open(&kind, sizeof **out, path, &options, &store));
    *out = buckets_of(store);
    return SYNA_SUCCESS;
}

syna_rc cascade_store_again(syna_buckets *store, const syna_buckets_options *given)
{
    syna_buckets_options own;
    struct row_store_options options;
    SYNA_TRY(take_options(given, &own, &options));
    return row_store_again(&store->base, &options);
}

syna_rc cascade_store_close(syna_buckets *store)
{
    return row_store_close(&store->base);
}

void cascade_store_before_fork(syna_buckets *store)
{
    row_store_before_fork(&store->base);
}

void cascade_store_after_fork(syna_buckets *store, bool child)
{
    row_store_after_fork(&store->base, child);
}

bool cascade_store_is_file(const syna_buckets *store, uint64_t device, uint64_t inode)
{
    return row_store_is_file(&store->base, device, inode);
}

/* ---------------------------------------------------------------- rows */

syna_rc cascade_store_insert(syna_buckets *store, const struct row_batch *batch, size_t *added)
{
    return row_store_insert(&store->base, batch, added);
}

syna_rc cascade_store_update_metadata(syna_buckets *store, const char *key, size_t key_len,
                                      const char *json, size_t len, bool replace)
{
    return row_store_update_metadata(&store->base, key, key_len, json, len, replace);
}

syna_rc cascade_store_delete(syna_buckets *store, const char *key, size_t key_len, int32_t *deleted)
{
    return row_store_delete(&store->base, key, key_len, deleted);
}

syna_rc cascade_store_get(syna_buckets *store, const char *key, size_t key_len, float *out,
                          uint32_t dims)
{
    return row_store_get(&store->base, key, key_len, out, dims);
}

syna_rc cascade_store_get_metadata(syna_buckets *store, const char *key, size_t key_len, char **out,
                                   size_t *len)
{
    return row_store_get_metadata(&store->base, key, key_len, out, len);
}

syna_rc cascade_store_contains(syna_buckets *store, const char *key, size_t key_len, bool *found)
{
    return row_store_contains(&store->base, key, key_len, found);
}

uint64_t cascade_store_count(syna_buckets *store)
{
    return row_store_count(&store->base);
}

syna_rc cascade_store_rows(syna_buckets *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    return row_store_rows(&store->base, flags, hits, count);
}

/* ---------------------------------------------------------------- figures */

static uint64_t set_bytes(const struct row_set *set)
{
    return array_bytes(&set->code_rows) + array_bytes(&set->norms) + array_bytes(&set->errors);
}

static uint64_t used_bytes(const syna_buckets *store)
{
    const struct cascade *index = &store->index;
    uint64_t each = store->set.codes.stride + 2 * sizeof(float);
    return index->linked ? index->linked * each + cascade_used_bytes(index) : 0;
}

static void fill_stats(const struct row_store *base, void *to)
{
    const syna_buckets *store = (const syna_buckets *)(const void *)base;
    const struct rowfile *file = base->rows.file;
    const struct cascade *index = &store->index;
    syna_buckets_stats *out = to;
    out->dimensions = base->dims;
    out->metric = base->metric;
    out->num_hyperplanes = store->params.hyperplanes;
    out->bucket_capacity = store->params.capacity;
    out->nprobe = store->params.probes;
    out->recall = store->recall;
    out->hash_bits = index->hash_bits;
    out->buckets = index->leaf_count;
    out->rows = base->rows.live;
    out->dead_rows = base->rows.count - base->rows.live;
    out->indexed_rows = index->linked;
    out->unsaved_rows = row_store_unsaved(base);
    out->generation = file->header.generation;
    out->index_bytes = used_bytes(store);
    out->memory_bytes = sizeof *store + mmap_rows_bytes(&base->rows) + meta_bytes(base->meta) +
                        cascade_bytes(index) + set_bytes(&store->set);
    out->file_bytes = rowfile_file_bytes(file);
    memcpy(out->uuid, file->header.uuid, sizeof out->uuid);
    snprintf(out->simd, sizeof out->simd, "%s", base->kernels->name);
}

syna_rc cascade_store_get_stats(syna_buckets *store, syna_buckets_stats *out)
{
    syna_buckets_stats stats = {0};
    return row_store_get_stats(&store->base, fill_stats, &stats, sizeof stats, out);
}

/* ---------------------------------------------------------------- upkeep */

syna_rc cascade_store_flush(syna_buckets *store)
{
    return row_store_save(&store->base, ROW_SAVE_CHECKPOINT);
}

syna_rc cascade_store_save(syna_buckets *store)
{
    return row_store_save(&store->base, ROW_SAVE_ALL);
}

syna_rc cascade_store_refresh(syna_buckets *store, bool *changed)
{
    return row_store_refresh(&store->base, changed);
}

syna_rc cascade_store_look(syna_buckets *store, bool *changed)
{
    return row_store_look(&store->base, changed);
}

syna_rc cascade_store_tend(syna_buckets *store)
{
    return row_store_tend(&store->base, NULL, NULL);
}

syna_rc cascade_store_compact(syna_buckets *store, syna_progress_fn progress, void *context)
{
    return row_store_compact(&store->base, progress, context);
}

syna_rc cascade_store_verify(const char *path, syna_finding_fn visit, void *context,
                             syna_progress_fn progress, syna_check *out)
{
    return row_store_verify(&kind, path, visit, context, progress, out);
}
