/* The C interface of the gravity well index (synadb/gwi.h): check pointers, find the index, call the
 * engine, write results as JSON for the path-keyed searches. */
#include "base/internal.h"

#include "api/row_handles.h"
#include "engine/gwi.h"

/* ---------------------------------------------------------------- the open indexes */

static syna_rc store_open(const char *path, const void *options, void **out)
{
    syna_wells *store;
    SYNA_TRY(gwi_open(path, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return gwi_again(store, options);
}

static const struct file_component component =
    ROW_COMPONENT("syna_gwi_new", store_open, store_again);
static struct file_table stores = FILE_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_wells_open(const char *path, const syna_wells_options *given, syna_wells **out)
{
    syna_wells_options options;
    void *store;
    REQUIRE(given);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(gwi_options(given, &options));
    SYNA_TRY(file_table_open(&stores, path, options.read_only, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_wells_close(syna_wells *index)
{
    REQUIRE(index);
    return file_table_close(&stores, index);
}

int32_t syna_wells_initialize(syna_wells *index, const float *vectors, size_t count,
                              uint32_t dimensions, syna_progress_fn progress, void *context)
{
    REQUIRE(index);
    if (count > 0)
        REQUIRE(vectors);
    return gwi_initialize(index, vectors, count, dimensions, progress, context);
}

int32_t syna_wells_train(syna_wells *index, syna_progress_fn progress, void *context)
{
    REQUIRE(index);
    return gwi_train(index, progress, context);
}

int32_t syna_wells_insert(syna_wells *index, const char *key, size_t key_len, const float *vector,
                          uint32_t dimensions)
{
    REQUIRE(key);
    return syna_wells_insert_batch(index, &key, &key_len, vector, dimensions, NULL, NULL, 1, NULL);
}

int32_t syna_wells_insert_batch(syna_wells *index, const char *const *keys, const size_t *key_lens,
                                const float *vectors, uint32_t dimensions,
                                const char *const *metadata, const size_t *metadata_lens,
                                size_t count, size_t *added)
{
    struct gwi_batch batch = {keys, key_lens, vectors, metadata, metadata_lens, dimensions, count};
    size_t ignored;
    REQUIRE(index);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    SYNA_TRY(gwi_check_initialized(index));
    return gwi_insert(index, &batch, added ? added : &ignored);
}

int32_t syna_wells_update_metadata(syna_wells *index, const char *key, size_t key_len,
                                   const char *json, size_t json_len, uint32_t flags)
{
    REQUIRE(index);
    REQUIRE_KEY(key, key_len);
    return check_missing(gwi_update_metadata(index, key, key_len, json, json_len,
                                             flags & SYNA_METADATA_REPLACE),
                         key, key_len);
}

int32_t syna_wells_delete(syna_wells *index, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(index);
    REQUIRE(key);
    return gwi_delete(index, key, key_len, deleted ? deleted : &ignored);
}

int32_t syna_wells_get(syna_wells *index, const char *key, size_t key_len, float *out,
                       uint32_t dimensions)
{
    REQUIRE(index);
    REQUIRE_KEY(key, key_len);
    REQUIRE(out);
    return check_missing(gwi_get(index, key, key_len, out, dimensions), key, key_len);
}

int32_t syna_wells_get_metadata(syna_wells *index, const char *key, size_t key_len, char **out,
                                size_t *len)
{
    size_t ignored;
    REQUIRE(index);
    REQUIRE(out);
    *out = NULL;
    REQUIRE_KEY(key, key_len);
    return check_missing(gwi_get_metadata(index, key, key_len, out, len ? len : &ignored), key,
                         key_len);
}

int32_t syna_wells_contains(syna_wells *index, const char *key, size_t key_len)
{
    bool found;
    REQUIRE(index);
    REQUIRE(key);
    syna_rc rc = gwi_contains(index, key, key_len, &found);
    return rc == SYNA_SUCCESS ? found : not_zero(rc);
}

uint64_t syna_wells_count(syna_wells *index)
{
    return index ? gwi_count(index) : 0;
}

int32_t syna_wells_search(syna_wells *index, const float *queries, size_t count, uint32_t dimensions,
                          const syna_wells_search_options *how, syna_hit **hits, size_t *counts)
{
    REQUIRE(index);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    if (count > 0) {
        REQUIRE(queries);
        REQUIRE(counts);
    }
    return gwi_search(index, queries, count, dimensions, how, hits, counts);
}

int32_t syna_wells_rows(syna_wells *index, uint32_t flags, syna_hit **hits, size_t *count)
{
    REQUIRE(index);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return gwi_rows(index, flags, hits, count);
}

int32_t syna_wells_flush(syna_wells *index)
{
    REQUIRE(index);
    return gwi_flush(index);
}

int32_t syna_wells_refresh(syna_wells *index, int32_t *changed)
{
    bool newer;
    REQUIRE(index);
    SYNA_TRY(gwi_refresh(index, &newer));
    if (changed)
        *changed = newer;
    return SYNA_SUCCESS;
}

int32_t syna_wells_compact(syna_wells *index, syna_progress_fn progress, void *context)
{
    REQUIRE(index);
    return gwi_compact(index, progress, context);
}

int32_t syna_wells_verify(const char *path, syna_finding_fn visit, void *context,
                          syna_progress_fn progress, syna_check *out)
{
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    return gwi_verify(path, visit, context, progress, out);
}

int32_t syna_wells_get_stats(syna_wells *index, syna_wells_stats *out)
{
    REQUIRE(index);
    REQUIRE(out);
    return gwi_get_stats(index, out);
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_gwi_new(const char *path, uint16_t dimensions, uint16_t branching_factor,
                     uint8_t num_levels, size_t initial_capacity)
{
    syna_wells *store;
    syna_wells_options options = {.size = sizeof options,
                                  .dimensions = dimensions,
                                  .branching_factor = branching_factor,
                                  .num_levels = num_levels,
                                  .initial_capacity = initial_capacity};
    if (dimensions == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "0 dimensions, expected 1..%u",
                         SYNA_DIMENSIONS_MAX);
    return syna_wells_open(path, &options, &store);
}

int32_t syna_gwi_open(const char *path)
{
    syna_wells *store;
    syna_wells_options options = {.size = sizeof options};
    return syna_wells_open(path, &options, &store);
}

int32_t syna_gwi_initialize(const char *path, const float *vectors, size_t num_vectors,
                            uint16_t dimensions)
{
    syna_rc rc;
    syna_wells *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_wells_initialize(store, vectors, num_vectors, dimensions, NULL, NULL);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_gwi_insert(const char *path, const char *key, const float *vector, uint16_t dimensions)
{
    syna_rc rc;
    REQUIRE(key);
    syna_wells *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_wells_insert(store, key, strlen(key), vector, dimensions);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_gwi_insert_batch(const char *path, const char *const *keys, const float *vectors,
                              uint16_t dimensions, size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_wells *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_wells_insert_batch(store, keys, NULL, vectors, dimensions, NULL, NULL, count, &added);
    file_table_leave(&stores, store);
    return count_or_code(rc, added);
}

int32_t syna_gwi_search(const char *path, const float *query, uint16_t dimensions, size_t k,
                        char **out_json)
{
    return syna_gwi_search_nprobe(path, query, dimensions, k, SYNA_GWI_NPROBE, out_json);
}

int32_t syna_gwi_search_nprobe(const char *path, const float *query, uint16_t dimensions, size_t k,
                               size_t nprobe, char **out_json)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    size_t count = 0;
    syna_wells_search_options how = {.size = sizeof how, .k = k, .nprobe = nprobe};
    REQUIRE(out_json);
    *out_json = NULL;
    syna_wells *store = file_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_wells_search(store, query, 1, dimensions, &how, &hits, &count);
    file_table_leave(&stores, store);
    return row_path_hits(rc, hits, count, out_json, NULL);
}

int32_t syna_gwi_flush(const char *path)
{
    return row_path_save(&stores, path, ROW_SAVE_CHECKPOINT);
}

int32_t syna_gwi_close(const char *path)
{
    return row_path_close(&stores, path);
}

int64_t syna_gwi_len(const char *path)
{
    return row_path_count(&stores, path);
}
