/* The C interface of the hybrid store (synadb/hybrid.h): check pointers, find the store, call the engine,
 * write results as JSON for the path-keyed searches. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/file_handles.h"
#include "base/json.h"
#include "engine/hybrid.h"

/* ---------------------------------------------------------------- the open stores */

static syna_rc store_open(const char *path, const void *setup, void **out)
{
    syna_layers *store;
    SYNA_TRY(hybrid_open(path, setup, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *setup)
{
    return hybrid_again(store, setup);
}

static syna_rc store_close(void *store)
{
    return hybrid_close(store);
}

static bool store_is_file(const void *store, uint64_t device, uint64_t inode)
{
    return hybrid_is_file(store, device, inode);
}

static void store_before_fork(void *store)
{
    hybrid_before_fork(store);
}

static void store_after_fork(void *store, bool child)
{
    hybrid_after_fork(store, child);
}

static const struct file_component component = {
    .opener = "syna_hybrid_new",
    .open_store = store_open,
    .again = store_again,
    .close_store = store_close,
    .is_file = store_is_file,
    .before_fork = store_before_fork,
    .after_fork = store_after_fork,
};
static struct file_table stores = FILE_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_layers_open(const char *hot_path, const char *cold_path,
                         const syna_layers_options *options, syna_layers **out)
{
    struct hybrid_setup setup = {.cold_path = cold_path};
    void *store;
    REQUIRE(options);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(hot_path));
    SYNA_TRY(check_path(cold_path));
    SYNA_TRY(hybrid_options(options, &setup.options));
    SYNA_TRY(file_table_open(&stores, hot_path, setup.options.read_only, &setup, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_layers_close(syna_layers *store)
{
    REQUIRE(store);
    return file_table_close(&stores, store);
}

int32_t syna_layers_initialize_hot(syna_layers *store, const float *vectors, size_t count,
                                   uint32_t dimensions, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    if (count > 0)
        REQUIRE(vectors);
    return hybrid_initialize_hot(store, vectors, count, dimensions, progress, context);
}

int32_t syna_layers_ingest_batch(syna_layers *store, const char *const *keys,
                                 const size_t *key_lens, const float *vectors, uint32_t dimensions,
                                 const char *const *metadata, const size_t *metadata_lens,
                                 size_t count, size_t *added)
{
    struct gwi_batch batch = {keys, key_lens, vectors, metadata, metadata_lens, dimensions, count};
    size_t ignored;
    REQUIRE(store);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    return hybrid_ingest(store, &batch, added ? added : &ignored);
}

int32_t syna_layers_update_metadata(syna_layers *store, const char *key, size_t key_len,
                                    const char *json, size_t len, int32_t replace)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    return check_missing(hybrid_update_metadata(store, key, key_len, json, len, replace != 0), key,
                         key_len);
}

int32_t syna_layers_delete(syna_layers *store, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(store);
    REQUIRE(key);
    return hybrid_delete(store, key, key_len, deleted ? deleted : &ignored);
}

int32_t syna_layers_get(syna_layers *store, const char *key, size_t key_len, float *out,
                        uint32_t dimensions)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    REQUIRE(out);
    return check_missing(hybrid_get(store, key, key_len, out, dimensions), key, key_len);
}

int32_t syna_layers_get_metadata(syna_layers *store, const char *key, size_t key_len, char **out,
                                 size_t *len)
{
    size_t ignored;
    REQUIRE(store);
    REQUIRE(out);
    *out = NULL;
    REQUIRE_KEY(key, key_len);
    return check_missing(hybrid_get_metadata(store, key, key_len, out, len ? len : &ignored), key,
                         key_len);
}

int32_t syna_layers_contains(syna_layers *store, const char *key, size_t key_len)
{
    bool found;
    REQUIRE(store);
    REQUIRE(key);
    syna_rc rc = hybrid_contains(store, key, key_len, &found);
    return rc == SYNA_SUCCESS ? found : not_zero(rc);
}

int32_t syna_layers_search(syna_layers *store, const float *queries, size_t count,
                           uint32_t dimensions, const syna_layers_search_options *how,
                           syna_hit **hits, uint8_t **sources, size_t *counts)
{
    REQUIRE(store);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    if (sources)
        *sources = NULL;
    if (count > 0) {
        REQUIRE(queries);
        REQUIRE(counts);
    }
    return hybrid_search(store, queries, count, dimensions, how, hits, sources, counts);
}

int32_t syna_layers_rows(syna_layers *store, uint32_t flags, syna_hit **hits, uint8_t **sources,
                         size_t *count)
{
    REQUIRE(store);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    if (sources)
        *sources = NULL;
    return hybrid_rows(store, flags, hits, sources, count);
}

int32_t syna_layers_promote(syna_layers *store, syna_progress_fn progress, void *context,
                            size_t *moved)
{
    size_t ignored;
    REQUIRE(store);
    return hybrid_promote(store, progress, context, moved ? moved : &ignored);
}

int32_t syna_layers_flush_hot(syna_layers *store)
{
    REQUIRE(store);
    return hybrid_flush_hot(store);
}

int32_t syna_layers_save_cold(syna_layers *store)
{
    REQUIRE(store);
    return hybrid_save_cold(store);
}

int32_t syna_layers_save(syna_layers *store)
{
    REQUIRE(store);
    return hybrid_save(store);
}

int32_t syna_layers_refresh(syna_layers *store, int32_t *changed)
{
    bool newer;
    REQUIRE(store);
    SYNA_TRY(hybrid_refresh(store, &newer));
    if (changed)
        *changed = newer;
    return SYNA_SUCCESS;
}

int32_t syna_layers_compact(syna_layers *store, syna_progress_fn progress, void *context)
{
    REQUIRE(store);
    return hybrid_compact(store, progress, context);
}

int32_t syna_layers_get_stats(syna_layers *store, syna_layers_stats *out)
{
    REQUIRE(store);
    REQUIRE(out);
    return hybrid_get_stats(store, out);
}

uint64_t syna_layers_count_in(syna_layers *store, uint32_t layer)
{
    return store ? hybrid_count_in(store, layer) : 0;
}

uint64_t syna_layers_count(syna_layers *store)
{
    return store ? hybrid_count(store) : 0;
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_hybrid_new(const char *hot_path, const char *cold_path, uint16_t dimensions)
{
    syna_layers *store;
    syna_layers_options options = {.size = sizeof options, .dimensions = dimensions};
    if (dimensions == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "0 dimensions, expected 1..%u",
                         SYNA_DIMENSIONS_MAX);
    return syna_layers_open(hot_path, cold_path, &options, &store);
}

int32_t syna_hybrid_initialize_hot(const char *hot_path, const float *vectors, size_t num_vectors,
                                   uint16_t dimensions)
{
    syna_rc rc;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = syna_layers_initialize_hot(store, vectors, num_vectors, dimensions, NULL, NULL);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_hybrid_ingest(const char *hot_path, const char *key, const float *vector,
                           uint16_t dimensions)
{
    syna_rc rc;
    REQUIRE(key);
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = syna_layers_ingest_batch(store, &key, NULL, vector, dimensions, NULL, NULL, 1, NULL);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_hybrid_ingest_batch(const char *hot_path, const char *const *keys,
                                 const float *vectors, uint16_t dimensions, size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = syna_layers_ingest_batch(store, keys, NULL, vectors, dimensions, NULL, NULL, count, &added);
    file_table_leave(&stores, store);
    return count_or_code(rc, added);
}

int32_t syna_hybrid_delete(const char *hot_path, const char *key)
{
    syna_rc rc;
    int32_t deleted = 0;
    REQUIRE(key);
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = hybrid_delete(store, key, strlen(key), &deleted);
    file_table_leave(&stores, store);
    return rc == SYNA_SUCCESS ? deleted : not_zero(rc);
}

/* ---------------------------------------------------------------- searches as JSON */

static bool put_hit(struct buf *to, const syna_hit *hit, uint8_t source)
{
    return json_put_text(to, "{\"key\":") && json_put_string(to, hit->key, hit->key_len) &&
           json_put_text(to, ",\"score\":") && json_put_double(to, (double)hit->score) &&
           json_put_text(to, source == SYNA_LAYER_HOT ? ",\"source\":\"hot\"}"
                                                      : ",\"source\":\"cold\"}");
}

static syna_rc put_hits(const syna_hit *hits, const uint8_t *sources, size_t count, char **out)
{
    struct buf json = {0};
    bool enough = json_put_text(&json, "[");
    for (size_t i = 0; i < count && enough; i++)
        enough = (i == 0 || json_put_text(&json, ",")) && put_hit(&json, &hits[i], sources[i]);
    if (!enough || !buf_append(&json, "]", 2)) {
        buf_dispose(&json);
        return syna_no_memory(json.len);
    }
    *out = (char *)json.bytes;
    return SYNA_SUCCESS;
}

static int32_t search_layers(const char *hot_path, const float *query, uint16_t dimensions,
                             size_t k, uint32_t layers, char **out_json)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    uint8_t *sources = NULL;
    size_t count = 0;
    syna_layers_search_options how = {.size = sizeof how, .k = k, .layers = layers};
    REQUIRE(out_json);
    *out_json = NULL;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = syna_layers_search(store, query, 1, dimensions, &how, &hits, &sources, &count);
    file_table_leave(&stores, store);
    if (rc == SYNA_SUCCESS)
        rc = put_hits(hits, sources, count, out_json);
    syna_free_hits(hits);
    return count_or_code(rc, count);
}

int32_t syna_hybrid_search(const char *hot_path, const float *query, uint16_t dimensions, size_t k,
                           char **out_json)
{
    return search_layers(hot_path, query, dimensions, k, 0, out_json);
}

int32_t syna_hybrid_search_hot(const char *hot_path, const float *query, uint16_t dimensions,
                               size_t k, char **out_json)
{
    return search_layers(hot_path, query, dimensions, k, 1, out_json);
}

int32_t syna_hybrid_search_cold(const char *hot_path, const float *query, uint16_t dimensions,
                                size_t k, char **out_json)
{
    return search_layers(hot_path, query, dimensions, k, 2, out_json);
}

/* ---------------------------------------------------------------- upkeep by path */

int64_t syna_hybrid_promote_to_cold(const char *hot_path)
{
    syna_rc rc;
    size_t moved = 0;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = hybrid_promote(store, NULL, NULL, &moved);
    file_table_leave(&stores, store);
    return rc == SYNA_SUCCESS ? (int64_t)moved : not_zero(rc);
}

static int32_t upkeep(const char *hot_path, syna_rc (*call)(syna_layers *store))
{
    syna_rc rc;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    rc = call(store);
    file_table_leave(&stores, store);
    return rc;
}

int32_t syna_hybrid_flush_hot(const char *hot_path)
{
    return upkeep(hot_path, hybrid_flush_hot);
}

int32_t syna_hybrid_save_cold(const char *hot_path)
{
    return upkeep(hot_path, hybrid_save_cold);
}

int32_t syna_hybrid_close(const char *hot_path)
{
    syna_rc rc;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    file_table_leave(&stores, store);
    return file_table_close(&stores, store);
}

static uint64_t count_hot(syna_layers *store)
{
    return hybrid_count_in(store, SYNA_LAYER_HOT);
}

static uint64_t count_cold(syna_layers *store)
{
    return hybrid_count_in(store, SYNA_LAYER_COLD);
}

static int64_t count_by(const char *hot_path, uint64_t (*count)(syna_layers *store))
{
    syna_rc rc;
    syna_layers *store = file_table_enter(&stores, hot_path, &rc);
    if (!store)
        return rc;
    uint64_t rows = count(store);
    file_table_leave(&stores, store);
    return (int64_t)rows;
}

int64_t syna_hybrid_hot_count(const char *hot_path)
{
    return count_by(hot_path, count_hot);
}

int64_t syna_hybrid_cold_count(const char *hot_path)
{
    return count_by(hot_path, count_cold);
}

int64_t syna_hybrid_len(const char *hot_path)
{
    return count_by(hot_path, hybrid_count);
}
