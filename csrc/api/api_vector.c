/* The C interface of vector stores (synadb/vector.h): check pointers, find the store, call the engine,
 * write results as JSON for the path-keyed search. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/hits_json.h"
#include "api/log_handles.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/vectors.h"

/* Programs step from hit to hit by the size that they were built with. */
_Static_assert(sizeof(void *) != 8 || sizeof(syna_hit) == 40, "the layout of syna_hit is fixed");

/* ---------------------------------------------------------------- the open stores */

static syna_rc store_create(syna_db *db, const void *options, void **out)
{
    syna_vectors *store;
    SYNA_TRY(vectors_new(db, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return vectors_reopen(store, options);
}

static void store_finish(void *store)
{
    vectors_save(store);
    vectors_free(store);
}

static void store_before_fork(void *store)
{
    vectors_before_fork(store);
}

static void store_after_fork(void *store, bool child)
{
    vectors_after_fork(store, child);
}

static const struct log_component component = {
    .noun = "a vector store", .opener = "syna_vector_store_new", .create = store_create, .again = store_again,
    .finish = store_finish, .before_fork = store_before_fork, .after_fork = store_after_fork};
static struct log_table stores = LOG_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_vectors_open(const char *path, const syna_vectors_options *given, syna_vectors **out)
{
    syna_vectors_options options;
    void *store;
    REQUIRE(path);
    REQUIRE(given);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(vectors_options(given, &options));
    syna_db_options log = {.size = sizeof log, .no_sync = options.no_sync,
                           .read_only = options.read_only, .must_exist = options.dimensions == 0};
    SYNA_TRY(log_table_open(&stores, path, &log, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_vectors_close(syna_vectors *store)
{
    REQUIRE(store);
    return log_table_close(&stores, store);
}

int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len,
                            const float *vector, uint32_t dimensions)
{
    size_t added;
    REQUIRE(store);
    REQUIRE(key);
    REQUIRE(vector);
    struct vectors_batch row = {.keys = &key, .key_lens = &key_len, .vectors = vector,
                                .dims = dimensions, .count = 1};
    return vectors_insert(store, &row, &added);
}

int32_t syna_vectors_insert_batch(syna_vectors *store, const char *const *keys,
                                  const size_t *key_lens, const float *vectors,
                                  uint32_t dimensions, size_t count, size_t *added)
{
    return syna_vectors_insert_rows(store, keys, key_lens, vectors, dimensions, NULL, NULL, count,
                                    added);
}

int32_t syna_vectors_insert_rows(syna_vectors *store, const char *const *keys,
                                 const size_t *key_lens, const float *vectors, uint32_t dimensions,
                                 const char *const *metadata, const size_t *metadata_lens,
                                 size_t count, size_t *added)
{
    size_t ignored;
    REQUIRE(store);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    struct vectors_batch rows = {keys, key_lens, vectors, metadata, metadata_lens, dimensions, count};
    return vectors_insert(store, &rows, added ? added : &ignored);
}

int32_t syna_vectors_update_metadata(syna_vectors *store, const char *key, size_t key_len,
                                     const char *json, size_t json_len, uint32_t flags)
{
    REQUIRE(store);
    REQUIRE(key);
    return vectors_update_metadata(store, key, key_len, json, json_len,
                                   flags & SYNA_METADATA_REPLACE);
}

int32_t syna_vectors_get_metadata(syna_vectors *store, const char *key, size_t key_len, char **json,
                                  size_t *json_len)
{
    size_t ignored;
    REQUIRE(store);
    REQUIRE(key);
    REQUIRE(json);
    *json = NULL;
    return vectors_get_metadata(store, key, key_len, json, json_len ? json_len : &ignored);
}

/* ---------------------------------------------------------------- by filter */

int32_t syna_vectors_delete_where(syna_vectors *store, const char *filter, size_t filter_len,
                                  uint64_t *deleted)
{
    struct filter *parsed;
    uint64_t ignored;
    REQUIRE(store);
    REQUIRE(filter);
    SYNA_TRY(filter_parse(filter, filter_len, &parsed));
    syna_rc rc = vectors_delete_where(store, parsed, deleted ? deleted : &ignored);
    filter_free(parsed);
    return rc;
}

int32_t syna_vectors_count_where(syna_vectors *store, const char *filter, size_t filter_len,
                                 uint64_t *count)
{
    struct filter *parsed;
    REQUIRE(store);
    REQUIRE(filter);
    REQUIRE(count);
    SYNA_TRY(filter_parse(filter, filter_len, &parsed));
    syna_rc rc = vectors_count_where(store, parsed, count);
    filter_free(parsed);
    return rc;
}

int32_t syna_vectors_rows_where(syna_vectors *store, const char *filter, size_t filter_len,
                                uint32_t flags, syna_hit **hits, size_t *count)
{
    struct filter *parsed;
    REQUIRE(store);
    REQUIRE(filter);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    SYNA_TRY(filter_parse(filter, filter_len, &parsed));
    syna_rc rc = vectors_rows(store, parsed, flags, hits, count);
    filter_free(parsed);
    return rc;
}

/* ---------------------------------------------------------------- reading */

int32_t syna_vectors_delete(syna_vectors *store, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(store);
    REQUIRE(key);
    return vectors_delete(store, key, key_len, deleted ? deleted : &ignored);
}

int32_t syna_vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out,
                         uint32_t dimensions)
{
    REQUIRE(store);
    REQUIRE(key);
    REQUIRE(out);
    return vectors_get(store, key, key_len, out, dimensions);
}

int32_t syna_vectors_contains(syna_vectors *store, const char *key, size_t key_len)
{
    REQUIRE(store);
    REQUIRE(key);
    return vectors_contains(store, key, key_len);
}

uint64_t syna_vectors_count(syna_vectors *store)
{
    return store ? vectors_count(store) : 0;
}

int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
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
    return vectors_search(store, queries, count, dimensions, how, hits, counts);
}

int32_t syna_vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits, size_t *count)
{
    REQUIRE(store);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return vectors_rows(store, NULL, flags, hits, count);
}

void syna_free_hits(syna_hit *hits)
{
    mem_free(hits);
}

int32_t syna_vectors_build_index(syna_vectors *store, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    return vectors_build_index(store, progress, context);
}

int32_t syna_vectors_absorb(syna_vectors *store, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    return vectors_absorb(store, progress, context);
}

int32_t syna_vectors_has_index(syna_vectors *store)
{
    REQUIRE(store);
    return vectors_has_index(store);
}

int32_t syna_vectors_refresh(syna_vectors *store, int32_t *changed)
{
    bool is;
    REQUIRE(store);
    syna_rc rc = vectors_refresh(store, &is);
    if (rc == SYNA_SUCCESS && changed)
        *changed = is;
    return rc;
}

int32_t syna_vectors_flush(syna_vectors *store)
{
    REQUIRE(store);
    return vectors_flush(store);
}

int32_t syna_vectors_get_stats(syna_vectors *store, syna_vectors_stats *out)
{
    REQUIRE(store);
    REQUIRE(out);
    return vectors_get_stats(store, out);
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_vector_store_new_with_config(const char *path, uint16_t dimensions, int32_t metric,
                                          int32_t sync_on_write)
{
    syna_vectors *store;
    syna_vectors_options options = {.size = sizeof options,
                                    .dimensions = dimensions,
                                    .metric = metric,
                                    .no_sync = !sync_on_write};
    if (dimensions == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "0 dimensions, expected 1..%u",
                         SYNA_DIMENSIONS_MAX);
    if (sync_on_write != 0 && sync_on_write != 1)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "sync_on_write is %d, expected 0 or 1",
                         sync_on_write);
    return syna_vectors_open(path, &options, &store);
}

int32_t syna_vector_store_new(const char *path, uint16_t dimensions, int32_t metric)
{
    return syna_vector_store_new_with_config(path, dimensions, metric, 1);
}

int32_t syna_vector_store_insert(const char *path, const char *key, const float *data,
                                 uint16_t dimensions)
{
    syna_rc rc;
    REQUIRE(key);
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_insert(store, key, strlen(key), data, dimensions);
    log_table_leave(&stores, store);
    return rc;
}

int32_t syna_vector_store_insert_batch(const char *path, const char *const *keys,
                                       const float *data, uint16_t dimensions, size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_insert_batch(store, keys, NULL, data, dimensions, count, &added);
    log_table_leave(&stores, store);
    return count_or_code(rc, added);
}

int32_t syna_vector_store_insert_batch_fast(const char *path, const char *const *keys,
                                            const float *data, uint16_t dimensions, size_t count)
{
    return syna_vector_store_insert_batch(path, keys, data, dimensions, count);
}

int32_t syna_vector_store_flush(const char *path)
{
    syna_rc rc;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = vectors_flush(store);
    log_table_leave(&stores, store);
    return rc;
}

int32_t syna_vector_store_close(const char *path)
{
    syna_rc rc;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    log_table_leave(&stores, store);
    return log_table_close(&stores, store);
}

/* ---------------------------------------------------------------- search as JSON */

static int32_t search_json(const char *path, const float *query, uint32_t dimensions,
                           const syna_search *how, char **out_json)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    size_t count = 0;
    REQUIRE(out_json);
    *out_json = NULL;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_search(store, query, 1, dimensions, how, &hits, &count);
    log_table_leave(&stores, store);
    if (rc == SYNA_SUCCESS)
        rc = hits_json(hits, count, dimensions, out_json, NULL);
    syna_free_hits(hits);
    return count_or_code(rc, count);
}

int32_t syna_vector_store_search(const char *path, const float *query, uint16_t dimensions,
                                 size_t k, char **out_json)
{
    syna_search how = {.size = sizeof how, .flags = SYNA_SEARCH_VECTORS, .k = k};
    return search_json(path, query, dimensions, &how, out_json);
}

int32_t syna_vector_store_insert_with_metadata(const char *path, const char *key, const float *data,
                                               uint16_t dimensions, const char *metadata)
{
    syna_rc rc;
    REQUIRE(key);
    REQUIRE(data);
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_insert_rows(store, &key, NULL, data, dimensions, &metadata, NULL, 1, NULL);
    log_table_leave(&stores, store);
    return rc;
}

int32_t syna_vector_store_search_filtered(const char *path, const float *query, uint16_t dimensions,
                                          size_t k, const char *filter, char **out_json)
{
    syna_search how = {.size = sizeof how,
                       .flags = SYNA_SEARCH_VECTORS | SYNA_SEARCH_METADATA,
                       .k = k,
                       .filter = filter,
                       .filter_len = filter ? strlen(filter) : 0};
    return search_json(path, query, dimensions, &how, out_json);
}

int32_t syna_vector_store_get_metadata(const char *path, const char *key, char **out_json)
{
    syna_rc rc;
    REQUIRE(key);
    REQUIRE(out_json);
    *out_json = NULL;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_get_metadata(store, key, strlen(key), out_json, NULL);
    log_table_leave(&stores, store);
    return rc;
}

void syna_free_json(char *json)
{
    mem_free(json);
}

/* ---------------------------------------------------------------- under the names of the index */

int32_t syna_vector_store_build_index(const char *path)
{
    syna_rc rc;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = vectors_build_index(store, NULL, NULL);
    log_table_leave(&stores, store);
    return rc;
}

int32_t syna_vector_store_has_index(const char *path)
{
    syna_rc rc;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    bool has = vectors_has_index(store);
    log_table_leave(&stores, store);
    return has;
}

int32_t syna_hnsw_create(const char *path, uint16_t dimensions, int32_t metric, size_t m,
                         size_t ef_construction)
{
    syna_vectors *store;
    syna_vectors_options options = {.size = sizeof options,
                                    .dimensions = dimensions,
                                    .metric = metric,
                                    .index = SYNA_INDEX_HNSW,
                                    .m = (uint32_t)MIN(m, (size_t)UINT32_MAX),
                                    .ef_construction =
                                        (uint32_t)MIN(ef_construction, (size_t)UINT32_MAX)};
    if (dimensions == 0 || m == 0 || ef_construction == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%u dimensions, m %zu, ef_construction %zu: none may be 0", dimensions, m,
                         ef_construction);
    return syna_vectors_open(path, &options, &store);
}

int32_t syna_hnsw_load(const char *path)
{
    syna_vectors *store;
    syna_vectors_options options = {.size = sizeof options, .index = SYNA_INDEX_HNSW};
    return syna_vectors_open(path, &options, &store);
}

int32_t syna_hnsw_insert(const char *path, const char *key, const float *data, uint16_t dimensions)
{
    return syna_vector_store_insert(path, key, data, dimensions);
}

int32_t syna_hnsw_search(const char *path, const float *query, uint16_t dimensions, size_t k,
                         size_t ef_search, char **out_json)
{
    syna_search how = {.size = sizeof how,
                       .flags = SYNA_SEARCH_VECTORS,
                       .k = k,
                       .ef = (uint32_t)MIN(ef_search, (size_t)UINT32_MAX)};
    return search_json(path, query, dimensions, &how, out_json);
}

int32_t syna_hnsw_save(const char *path)
{
    int32_t rc = syna_vector_store_build_index(path);
    return rc == SYNA_SUCCESS ? syna_vector_store_flush(path) : rc;
}

int32_t syna_hnsw_stats(const char *path, char **out_json)
{
    static const char *const metrics[] = {"cosine", "euclidean", "dot_product"};
    syna_rc rc;
    syna_vectors_stats stats = {.size = sizeof stats};
    char text[256];
    REQUIRE(out_json);
    *out_json = NULL;
    syna_vectors *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = vectors_get_stats(store, &stats);
    log_table_leave(&stores, store);
    if (rc != SYNA_SUCCESS)
        return rc;
    int len = snprintf(text, sizeof text,
                       "{\"num_vectors\":%llu,\"dimensions\":%u,\"metric\":\"%s\","
                       "\"indexed\":%llu,\"memory_bytes\":%llu}",
                       (unsigned long long)stats.rows, stats.dimensions, metrics[stats.metric],
                       (unsigned long long)stats.indexed_rows,
                       (unsigned long long)stats.memory_bytes);
    *out_json = mem_dup(text, (size_t)len);
    return *out_json ? SYNA_SUCCESS : syna_no_memory(sizeof text);
}

int32_t syna_hnsw_close(const char *path)
{
    return syna_vector_store_close(path);
}
