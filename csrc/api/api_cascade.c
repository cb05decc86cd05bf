/* The C interface of the cascade index (synadb/gwi.h): check pointers, find the index, call the
 * engine, write results as JSON for the path-keyed searches. */
#include "base/internal.h"

#include "api/row_handles.h"
#include "engine/cascade_store.h"

/* ---------------------------------------------------------------- the open indexes */

static syna_rc store_open(const char *path, const void *options, void **out)
{
    syna_buckets *store;
    SYNA_TRY(cascade_store_open(path, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return cascade_store_again(store, options);
}

static const struct file_component component =
    ROW_COMPONENT("syna_cascade_new", store_open, store_again);
static struct file_table stores = FILE_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_buckets_open(const char *path, const syna_buckets_options *given, syna_buckets **out)
{
    syna_buckets_options options;
    void *store;
    REQUIRE(given);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(cascade_store_options(given, &options));
    SYNA_TRY(file_table_open(&stores, path, options.read_only, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_buckets_close(syna_buckets *index)
{
    REQUIRE(index);
    return file_table_close(&stores, index);
}

int32_t syna_buckets_insert(syna_buckets *index, const char *key, size_t key_len,
                            const float *vector, uint32_t dimensions)
{
    REQUIRE(key);
    return syna_buckets_insert_batch(index, &key, &key_len, vector, dimensions, NULL, NULL, 1, NULL,
                                     NULL, NULL);
}

int32_t syna_buckets_insert_batch(syna_buckets *index, const char *const *keys,
                                  const size_t *key_lens, const float *vectors, uint32_t dimensions,
                                  const char *const *metadata, const size_t *metadata_lens,
                                  size_t count, syna_progress_fn progress, void *context,
                                  size_t *added)
{
    struct row_batch batch = {keys,       key_lens, vectors,  metadata, metadata_lens,
                              dimensions, count,    progress, context};
    size_t ignored;
    REQUIRE(index);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    return cascade_store_insert(index, &batch, added ? added : &ignored);
}

int32_t syna_buckets_delete(syna_buckets *index, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(index);
    REQUIRE(key);
    return cascade_store_delete(index, key, key_len, deleted ? deleted : &ignored);
}

int32_t syna_buckets_update_metadata(syna_buckets *index, const char *key, size_t key_len,
                                     const char *json, size_t json_len, uint32_t flags)
{
    REQUIRE(index);
    REQUIRE_KEY(key, key_len);
    return check_missing(cascade_store_update_metadata(index, key, key_len, json, json_len,
                                                       flags & SYNA_METADATA_REPLACE),
                         key, key_len);
}

int32_t syna_buckets_get(syna_buckets *index, const char *key, size_t key_len, float *out,
                         uint32_t dimensions)
{
    REQUIRE(index);
    REQUIRE_KEY(key, key_len);
    REQUIRE(out);
    return check_missing(cascade_store_get(index, key, key_len, out, dimensions), key, key_len);
}

int32_t syna_buckets_get_metadata(syna_buckets *index, const char *key, size_t key_len, char **out,
                                  size_t *len)
{
    size_t ignored;
    REQUIRE(index);
    REQUIRE(out);
    *out = NULL;
    REQUIRE_KEY(key, key_len);
    return check_missing(cascade_store_get_metadata(index, key, key_len, out, len ? len : &ignored),
                         key, key_len);
}

int32_t syna_buckets_contains(syna_buckets *index, const char *key, size_t key_len)
{
    bool found;
    REQUIRE(index);
    REQUIRE(key);
    syna_rc rc = cascade_store_contains(index, key, key_len, &found);
    return rc == SYNA_SUCCESS ? found : not_zero(rc);
}

uint64_t syna_buckets_count(syna_buckets *index)
{
    return index ? cascade_store_count(index) : 0;
}

int32_t syna_buckets_search(syna_buckets *index, const float *queries, size_t count,
                            uint32_t dimensions, const syna_buckets_search_options *how,
                            syna_hit **hits, size_t *counts)
{
    REQUIRE(index);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    if (count > 0) {
        REQUIRE(queries);
        REQUIRE(counts);
    }
    return cascade_store_search(index, queries, count, dimensions, how, hits, counts);
}

int32_t syna_buckets_rows(syna_buckets *index, uint32_t flags, syna_hit **hits, size_t *count)
{
    REQUIRE(index);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return cascade_store_rows(index, flags, hits, count);
}

int32_t syna_buckets_flush(syna_buckets *index)
{
    REQUIRE(index);
    return cascade_store_flush(index);
}

int32_t syna_buckets_save(syna_buckets *index)
{
    REQUIRE(index);
    return cascade_store_save(index);
}

int32_t syna_buckets_refresh(syna_buckets *index, int32_t *changed)
{
    bool newer;
    REQUIRE(index);
    SYNA_TRY(cascade_store_refresh(index, &newer));
    if (changed)
        *changed = newer;
    return SYNA_SUCCESS;
}

int32_t syna_buckets_compact(syna_buckets *index, syna_progress_fn progress, void *context)
{
    REQUIRE(index);
    return cascade_store_compact(index, progress, context);
}

int32_t syna_buckets_verify(const char *path, syna_finding_fn visit, void *context,
                            syna_progress_fn progress, syna_check *out)
{
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    return cascade_store_verify(path, visit, context, progress, out);
}

int32_t syna_buckets_get_stats(syna_buckets *index, syna_buckets_stats *out)
{
    REQUIRE(index);
    REQUIRE(out);
    return cascade_store_get_stats(index, out);
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_cascade_new(const char *path, uint16_t dimensions)
{
    syna_buckets *store;
    syna_buckets_options options = {.size = sizeof options, .dimensions = dimensions};
    if (dimensions == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "0 dimensions, expected 1..%u",
                         SYNA_DIMENSIONS_MAX);
    return syna_buckets_open(path, &options, &store);
}

int32_t syna_cascade_insert(const char *path, const char *key, const float *vector,
                            uint16_t dimensions)
{
    syna_rc rc;
    REQUIRE(key);
    syna_buckets *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_buckets_insert(store, key, strlen(key), vector, dimensions);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_cascade_insert_batch(const char *path, const char *const *keys, const float *vectors,
                                  uint16_t dimensions, size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_buckets *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_buckets_insert_batch(store, keys, NULL, vectors, dimensions, NULL, NULL, count, NULL,
                                   NULL, &added);
    file_table_leave(&stores, store);
    return count_or_code(rc, added);
}

int32_t syna_cascade_search(const char *path, const float *query, uint16_t dimensions, size_t k,
                            char **out_json)
{
    return syna_cascade_search_params(path, query, dimensions, k, 0, 0, out_json);
}

int32_t syna_cascade_search_params(const char *path, const float *query, uint16_t dimensions,
                                   size_t k, size_t num_probes, size_t ef_search, char **out_json)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    size_t count = 0;
    syna_buckets_search_options how = {.size = sizeof how,
                                       .k = k,
                                       .nprobe = (uint32_t)MIN(num_probes, (size_t)UINT32_MAX),
                                       .ef_search = (uint32_t)MIN(ef_search, (size_t)UINT32_MAX)};
    REQUIRE(out_json);
    *out_json = NULL;
    syna_buckets *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_buckets_search(store, query, 1, dimensions, &how, &hits, &count);
    file_table_leave(&stores, store);
    return row_path_hits(rc, hits, count, out_json, NULL);
}

int32_t syna_cascade_flush(const char *path)
{
    return row_path_save(&stores, path, ROW_SAVE_ALL);
}

int32_t syna_cascade_close(const char *path)
{
    return row_path_close(&stores, path);
}

int64_t syna_cascade_len(const char *path)
{
    return row_path_count(&stores, path);
}
