/* The C interface of vector stores (synadb/vector.h): check pointers, find the store, call the engine,
 * write results as JSON for the path-keyed search. */
#include "base/internal.h"

#include "api/vector_handles.h"
#include "base/status.h"
#include "base/vec.h"

/* ---------------------------------------------------------------- arguments */

static syna_rc null_pointer(const char *what)
{
    return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "%s is a null pointer", what);
}

#define REQUIRE(pointer)                    \
    do {                                    \
        if (!(pointer))                     \
            return null_pointer(#pointer);  \
    } while (0)

/* Functions that return a count cannot return 0 for an error. */
static int32_t count_or_code(syna_rc rc, size_t count)
{
    if (rc == SYNA_SUCCESS)
        return (int32_t)MIN(count, (size_t)INT32_MAX);
    if (rc != SYNA_ERR_GENERIC)
        return rc;
    return status_get()->reason == SYNA_WHY_ARGUMENT ? SYNA_ERR_INVALID_PATH : SYNA_ERR_INTERNAL;
}

/* ---------------------------------------------------------------- handles */

int32_t syna_vectors_open(const char *path, const syna_vectors_options *options, syna_vectors **out)
{
    REQUIRE(path);
    REQUIRE(options);
    REQUIRE(out);
    *out = NULL;
    return vector_handles_open(path, options, out);
}

int32_t syna_vectors_close(syna_vectors *store)
{
    REQUIRE(store);
    return vector_handles_close(store);
}

int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len,
                            const float *vector, uint32_t dimensions)
{
    size_t added;
    REQUIRE(store);
    REQUIRE(key);
    REQUIRE(vector);
    return vectors_insert(store, &key, &key_len, vector, dimensions, 1, &added);
}

int32_t syna_vectors_insert_batch(syna_vectors *store, const char *const *keys,
                                  const size_t *key_lens, const float *vectors,
                                  uint32_t dimensions, size_t count, size_t *added)
{
    size_t ignored;
    REQUIRE(store);
    if (count > 0) {
        REQUIRE(keys);
        REQUIRE(vectors);
    }
    return vectors_insert(store, keys, key_lens, vectors, dimensions, count,
                          added ? added : &ignored);
}

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
    return vectors_rows(store, flags, hits, count);
}

void syna_free_hits(syna_hit *hits)
{
    mem_free(hits);
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
    syna_vectors *store = vector_handles_enter(path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_insert(store, key, strlen(key), data, dimensions);
    vector_handles_leave(store);
    return rc;
}

int32_t syna_vector_store_insert_batch(const char *path, const char *const *keys,
                                       const float *data, uint16_t dimensions, size_t count)
{
    syna_rc rc;
    size_t added = 0;
    syna_vectors *store = vector_handles_enter(path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_insert_batch(store, keys, NULL, data, dimensions, count, &added);
    vector_handles_leave(store);
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
    syna_vectors *store = vector_handles_enter(path, &rc);
    if (!store)
        return rc;
    rc = vectors_flush(store);
    vector_handles_leave(store);
    return rc;
}

int32_t syna_vector_store_close(const char *path)
{
    syna_rc rc;
    syna_vectors *store = vector_handles_enter(path, &rc);
    if (!store)
        return rc;
    vector_handles_leave(store);
    return vector_handles_close(store);
}

/* ---------------------------------------------------------------- JSON */

static bool json_text(struct buf *to, const char *text)
{
    return buf_append(to, text, strlen(text));
}

/* A key is valid UTF-8 without NUL; quotes, backslashes and control characters are escaped. */
static bool json_string(struct buf *to, const char *bytes, size_t len)
{
    bool enough = json_text(to, "\"");
    for (size_t i = 0; i < len && enough; i++) {
        char escaped[8];
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
            enough = json_text(to, escaped);
        } else if (c < 0x20) {
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
            enough = json_text(to, escaped);
        } else {
            enough = buf_append(to, &c, 1);
        }
    }
    return enough && json_text(to, "\"");
}

/* Nine significant digits bring the same float back. The decimal point is the program's locale's
 * until here. */
static bool json_number(struct buf *to, float value)
{
    char text[40];
    int len = snprintf(text, sizeof text, "%.9g", (double)value);
    size_t start = to->len;
    for (int i = 0; i < len; i++) {
        bool plain = (text[i] >= '0' && text[i] <= '9') || strchr("+-e", text[i]);
        if (!plain && to->len > start && to->bytes[to->len - 1] == '.')
            continue; /* the rest of a decimal point of several bytes */
        if (!buf_append(to, plain ? &text[i] : ".", 1))
            return false;
    }
    return true;
}

static bool json_hit(struct buf *to, const syna_hit *hit, uint32_t dims)
{
    bool enough = json_text(to, "{\"key\":") && json_string(to, hit->key, hit->key_len) &&
                  json_text(to, ",\"score\":") && json_number(to, hit->score) &&
                  json_text(to, ",\"vector\":[");
    for (uint32_t i = 0; i < dims && enough; i++)
        enough = (i == 0 || json_text(to, ",")) && json_number(to, hit->vector[i]);
    return enough && json_text(to, "]}");
}

static syna_rc json_hits(const syna_hit *hits, size_t count, uint32_t dims, char **out)
{
    struct buf json = {0};
    bool enough = json_text(&json, "[");
    for (size_t i = 0; i < count && enough; i++)
        enough = (i == 0 || json_text(&json, ",")) && json_hit(&json, &hits[i], dims);
    if (!enough || !buf_append(&json, "]", 2)) {
        buf_dispose(&json);
        return syna_no_memory(json.len);
    }
    *out = (char *)json.bytes;
    return SYNA_SUCCESS;
}

int32_t syna_vector_store_search(const char *path, const float *query, uint16_t dimensions,
                                 size_t k, char **out_json)
{
    syna_rc rc;
    syna_hit *hits = NULL;
    size_t count = 0;
    syna_search how = {.size = sizeof how, .flags = SYNA_SEARCH_VECTORS, .k = k};
    REQUIRE(out_json);
    *out_json = NULL;
    syna_vectors *store = vector_handles_enter(path, &rc);
    if (!store)
        return rc;
    rc = syna_vectors_search(store, query, 1, dimensions, &how, &hits, &count);
    vector_handles_leave(store);
    if (rc == SYNA_SUCCESS)
        rc = json_hits(hits, count, dimensions, out_json);
    syna_free_hits(hits);
    return count_or_code(rc, count);
}

void syna_free_json(char *json)
{
    mem_free(json);
}
