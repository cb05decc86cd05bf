/* The C interface of mapped vector stores (the second part of synadb/vector.h): check pointers, find the
 * store, call the engine, write results as JSON for the path-keyed search. */
#include "base/internal.h"

#include "api/row_handles.h"
#include "engine/mmap_vectors.h"

/* ---------------------------------------------------------------- the open stores */

static syna_rc store_open(const char *path, const void *options, void **out)
{
    syna_mmap *store;
    SYNA_TRY(mmap_vectors_open(path, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return mmap_vectors_again(store, options);
}

static const struct file_component component =
    ROW_COMPONENT("syna_mmap_vector_store_new", store_open, store_again);
static struct file_table stores = FILE_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_mmap_open(const char *path, const syna_mmap_options *given, syna_mmap **out)
{
    syna_mmap_options options;
    void *store;
    REQUIRE(given);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(mmap_vectors_options(given, &options));
    SYNA_TRY(file_table_open(&stores, path, options.read_only, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_mmap_close(syna_mmap *store)
{
    REQUIRE(store);
    return file_table_close(&stores, store);
}

int32_t syna_mmap_insert(syna_mmap *store, const char *key, size_t key_len, const float *vector,
                         uint32_t dimensions)
{
    size_t added;
    REQUIRE(store);
    REQUIRE(key);
    REQUIRE(vector);
    return mmap_vectors_insert(store, &key, &key_len, vector, dimensions, 1, &added);
}

int32_t syna_mmap_insert_batch(syna_mmap *store, const char *const *keys, const size_t *key_lens,
                               const float *vectors, uint32_t dimensions, size_t count,
                               size_t *added)
{
    size_t ignored;
    REQUIRE(store);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    return mmap_vectors_insert(store, keys, key_lens, vectors, dimensions, count,
                               added ? added : &ignored);
}

int32_t syna_mmap_delete(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(store);
    REQUIRE(key);
    return mmap_vectors_delete(store, key, key_len, deleted ? deleted : &ignored);
}

int32_t syna_mmap_get(syna_mmap *store, const char *key, size_t key_len, float *out,
                      uint32_t dimensions)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    REQUIRE(out);
    return check_missing(mmap_vectors_get(store, key, key_len, out, dimensions), key, key_len);
}

int32_t syna_mmap_view(syna_mmap *store, const char *key, size_t key_len, const float **out,
                       syna_mmap_pin **pin)
{
    REQUIRE(store);
    REQUIRE(out);
    REQUIRE(pin);
    *out = NULL;
    *pin = NULL;
    REQUIRE_KEY(key, key_len);
    return check_missing(mmap_vectors_view(store, key, key_len, out, pin), key, key_len);
}

void syna_mmap_unpin(syna_mmap_pin *pin)
{
    mmap_vectors_unpin(pin);
}

int32_t syna_mmap_contains(syna_mmap *store, const char *key, size_t key_len)
{
    bool found;
    REQUIRE(store);
    REQUIRE(key);
    syna_rc rc = mmap_vectors_contains(store, key, key_len, &found);
    return rc == SYNA_SUCCESS ? found : not_zero(rc);
}

uint64_t syna_mmap_count(syna_mmap *store)
{
    return store ? mmap_vectors_count(store) : 0;
}

int32_t syna_mmap_search(syna_mmap *store, const float *queries, size_t count,
                         uint32_t dimensions, const syna_search *how, syna_hit **hits,
                         size_t *counts)
{
    REQUIRE(store);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    if (count > 0) {
        REQUIRE(queries);
        REQUIRE(counts);
    }
    return mmap_vectors_search(store, queries, count, dimensions, how, hits, counts);
}

int32_t syna_mmap_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    REQUIRE(store);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return mmap_vectors_rows(store, flags, hits, count);
}

int32_t syna_mmap_build_index(syna_mmap *store, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    return mmap_vectors_build_index(store, progress, context);
}

int32_t syna_mmap_has_index(syna_mmap *store)
{
    REQUIRE(store);
    return mmap_vectors_has_index(store);
}

int32_t syna_mmap_checkpoint(syna_mmap *store)
{
    REQUIRE(store);
    return mmap_vectors_checkpoint(store);
}

int32_t syna_mmap_refresh(syna_mmap *store, int32_t *changed)
{
    bool newer;
    REQUIRE(store);
    SYNA_TRY(mmap_vectors_refresh(store, &newer));
    if (changed)
        *changed = newer;
    return SYNA_SUCCESS;
}

int32_t syna_mmap_compact(syna_mmap *store, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    return mmap_vectors_compact(store, progress, context);
}

int32_t syna_mmap_verify(const char *path, syna_finding_fn visit, void *context,
                         syna_progress_fn progress, syna_check *out)
{
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    return mmap_vectors_verify(path, visit, context, progress, out);
}

int32_t syna_mmap_get_stats(syna_mmap *store, syna_mmap_stats *out)
{
    REQUIRE(store);
    REQUIRE(out);
    return mmap_vectors_get_stats(store, out);
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_mmap_vector_store_new(const char *path, uint16_t dimensions, int32_t metric,
                                   size_t initial_capacity)
{
    syna_mmap *store;
    syna_mmap_options options = {.size = sizeof options,
                                 .dimensions = dimensions,
                                 .metric = metric,
                                 .initial_capacity = initial_capacity};
    return syna_mmap_open(path, &options, &store);
}

int32_t syna_mmap_vector_store_insert(const char *path, const char *key, const float *vector,
                                      uint16_t dimensions)
{
    syna_rc rc;
    REQUIRE(key);
    syna_mmap *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_mmap_insert(store, key, strlen(key), vector, dimensions);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_mmap_vector_store_insert_batch(const char *path, const char *const *keys,
                                            const float *vectors, uint16_t dimensions,
                                            size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_mmap *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_mmap_insert_batch(store, keys, NULL, vectors, dimensions, count, &added);
    file_table_leave(&stores, store);
    return count_or_code(rc, added);
}

int32_t syna_mmap_vector_store_search(const char *path, const float *query, uint16_t dimensions,
                                      size_t k, char **out_json, size_t *out_len)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    size_t count = 0;
    syna_search how = {.size = sizeof how, .k = k};
    REQUIRE(out_json);
    *out_json = NULL;
    syna_mmap *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_mmap_search(store, query, 1, dimensions, &how, &hits, &count);
    file_table_leave(&stores, store);
    return row_path_hits(rc, hits, count, out_json, out_len);
}

int32_t syna_mmap_vector_store_build_index(const char *path)
{
    syna_rc rc;
    syna_mmap *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = mmap_vectors_build_index(store, NULL, NULL);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_mmap_vector_store_flush(const char *path)
{
    return row_path_save(&stores, path, ROW_SAVE_CHECKPOINT);
}

int32_t syna_mmap_vector_store_close(const char *path)
{
    return row_path_close(&stores, path);
}

int64_t syna_mmap_vector_store_len(const char *path)
{
    return row_path_count(&stores, path);
}
