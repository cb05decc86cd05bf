/* mmap_vectors.c - a mapped vector store is a row store with a graph: its options, its figures, views. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"

/* ---------------------------------------------------------------- opening, closing */

syna_rc mmap_vectors_options(const syna_mmap_options *given, syna_mmap_options *out)
{
    *out = (syna_mmap_options){.size = sizeof *out};
    if (given->size < offsetof(syna_mmap_options, read_only))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_mmap_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    return row_store_check_numbers(out->dimensions, out->metric);
}

static syna_rc take_options(const syna_mmap_options *given, struct row_store_options *out)
{
    syna_mmap_options options;
    SYNA_TRY(mmap_vectors_options(given, &options));
    *out = (struct row_store_options){.dims = options.dimensions,
                                      .metric = options.metric,
                                      .capacity = options.initial_capacity,
                                      .read_only = options.read_only};
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_open(const char *path, const syna_mmap_options *given, syna_mmap **out)
{
    struct row_store_options options;
    struct row_store *store;
    SYNA_TRY(take_options(given, &options));
    SYNA_TRY(row_store_open(&mmap_vectors_kind, sizeof **out, path, &options, &store));
    *out = mmap_of(store);
    return SYNA_SUCCESS;
}

syna_rc mmap_vectors_again(syna_mmap *store, const syna_mmap_options *given)
{
    struct row_store_options options;
    SYNA_TRY(take_options(given, &options));
    return row_store_again(&store->base, &options);
}

syna_rc mmap_vectors_close(syna_mmap *store)
{
    return row_store_close(&store->base);
}

void mmap_vectors_before_fork(syna_mmap *store)
{
    row_store_before_fork(&store->base);
}

void mmap_vectors_after_fork(syna_mmap *store, bool child)
{
    row_store_after_fork(&store->base, child);
}

bool mmap_vectors_is_file(const syna_mmap *store, uint64_t device, uint64_t inode)
{
    return row_store_is_file(&store->base, device, inode);
}

/* ---------------------------------------------------------------- rows */

syna_rc mmap_vectors_insert(syna_mmap *store, const char *const *keys, const size_t *key_lens,
                            const float *vectors, uint32_t dims, size_t count, size_t *added)
{
    struct row_batch batch = {
        .keys = keys, .key_lens = key_lens, .vectors = vectors, .dims = dims, .count = count};
    return row_store_insert(&store->base, &batch, added);
}

syna_rc mmap_vectors_delete(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted)
{
    return row_store_delete(&store->base, key, key_len, deleted);
}

syna_rc mmap_vectors_get(syna_mmap *store, const char *key, size_t key_len, float *out, uint32_t dims)
{
    return row_store_get(&store->base, key, key_len, out, dims);
}

syna_rc mmap_vectors_contains(syna_mmap *store, const char *key, size_t key_len, bool *found)
{
    return row_store_contains(&store->base, key, key_len, found);
}

uint64_t mmap_vectors_count(syna_mmap *store)
{
    return row_store_count(&store->base);
}

syna_rc mmap_vectors_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    return row_store_rows(&store->base, flags, hits, count);
}

/* ---------------------------------------------------------------- views */

/* A view points into the mapping, and holds the file that it is of. */
struct syna_mmap_pin {
    struct rowfile *file;
};

syna_rc mmap_vectors_view(syna_mmap *store, const char *key, size_t key_len, const float **out,
                          syna_mmap_pin **pin)
{
    uint32_t row;
    struct row_store *base = &store->base;
    struct syna_mmap_pin *hold = mem_alloc(sizeof *hold);
    if (!hold)
        return syna_no_memory(sizeof *hold);
    syna_rc rc = row_store_begin_lookup(base);
    if (rc == SYNA_SUCCESS) {
        rc = row_store_find(base, key, key_len, &row);
        if (rc == SYNA_SUCCESS) {
            *out = mmap_rows_vector(&base->rows, row);
            hold->file = rowfile_ref(base->rows.file);
        }
        pthread_rwlock_unlock(&base->state_lock);
    }
    if (rc == SYNA_SUCCESS)
        *pin = hold;
    else
        mem_free(hold);
    return rc;
}

void mmap_vectors_unpin(syna_mmap_pin *pin)
{
    if (!pin)
        return;
    rowfile_unref(pin->file);
    mem_free(pin);
}

/* ---------------------------------------------------------------- figures */

static void fill_stats(const struct row_store *base, void *to)
{
    const syna_mmap *store = (const syna_mmap *)(const void *)base;
    const struct rowfile *file = base->rows.file;
    syna_mmap_stats *out = to;
    out->dimensions = base->dims;
    out->metric = base->metric;
    out->rows = base->rows.live;
    out->dead_rows = base->rows.count - base->rows.live;
    out->capacity = file->streams[STREAM_ROWS].room / file->row_bytes;
    out->unsaved_rows = row_store_unsaved(base);
    out->checkpoints = __atomic_load_n(&file->sequence, __ATOMIC_RELAXED);
    out->generation = file->header.generation;
    out->memory_bytes = sizeof *store + mmap_rows_bytes(&base->rows) + mmap_index_bytes(store->index);
    out->indexed_rows = store->index ? store->index->graph.linked : 0;
    out->file_bytes = rowfile_file_bytes(file);
    memcpy(out->uuid, file->header.uuid, sizeof out->uuid);
    snprintf(out->simd, sizeof out->simd, "%s", base->kernels->name);
}

syna_rc mmap_vectors_get_stats(syna_mmap *store, syna_mmap_stats *out)
{
    syna_mmap_stats stats = {0};
    return row_store_get_stats(&store->base, fill_stats, &stats, sizeof stats, out);
}

/* ---------------------------------------------------------------- upkeep */

syna_rc mmap_vectors_checkpoint(syna_mmap *store)
{
    return row_store_save(&store->base, ROW_SAVE_CHECKPOINT);
}

syna_rc mmap_vectors_refresh(syna_mmap *store, bool *changed)
{
    return row_store_refresh(&store->base, changed);
}

syna_rc mmap_vectors_compact(syna_mmap *store, syna_progress_fn progress, void *context)
{
    return row_store_compact(&store->base, progress, context);
}

syna_rc mmap_vectors_verify(const char *path, syna_finding_fn visit, void *context,
                            syna_progress_fn progress, syna_check *out)
{
    return row_store_verify(&mmap_vectors_kind, path, visit, context, progress, out);
}
