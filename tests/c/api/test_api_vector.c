/* The C interface of vector stores: path-keyed calls over one counted table, handles beside them,
 * JSON results, codes for every kind of bad argument. */
#include "check.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <synadb/kv.h>
#include <synadb/vector.h>

static const float X[2] = {1, 0}, Y[2] = {0, 1};

static const char *new_store(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_vector_store_new(path, 2, SYNA_METRIC_COSINE));
    return path;
}

TEST(the_seeds_calls_store_search_and_close)
{
    const char *path = new_store("v.db");
    const char *keys[2] = {"y", "x"};
    const float rows[4] = {0, 1, 0.5f, 0.5f};
    char *json = NULL;
    CHECK_OK(syna_vector_store_insert(path, "x", X, 2));
    CHECK_EQ(syna_vector_store_insert_batch(path, keys, rows, 2, 2), 1);
    CHECK_EQ(syna_vector_store_insert_batch_fast(path, keys, rows, 2, 2), 0);
    CHECK_OK(syna_vector_store_insert(path, "x", X, 2));
    CHECK_EQ(syna_vector_store_search(path, X, 2, 5, &json), 2);
    CHECK_STR(json, "[{\"key\":\"x\",\"score\":0,\"vector\":[1,0]},"
                    "{\"key\":\"y\",\"score\":1,\"vector\":[0,1]}]");
    syna_free_json(json);
    CHECK_EQ(syna_vector_store_search(path, X, 2, 0, &json), 0);
    CHECK_STR(json, "[]");
    syna_free_json(json);
    CHECK_OK(syna_vector_store_flush(path));
    CHECK_OK(syna_vector_store_close(path));
    CHECK_FAILS(syna_vector_store_close(path), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
}

TEST(json_escapes_keys_and_brings_floats_back)
{
    const char *path = new_store("v.db");
    const float odd[2] = {0.1f, -1.17549435e-38f};
    char *json = NULL;
    CHECK_OK(syna_vector_store_insert(path, "a\"b\\c\n\x01 \xc3\xa9", odd, 2));
    /* A locale with a decimal comma, where the system has one. */
    bool comma = setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL;
    CHECK_EQ(syna_vector_store_search(path, X, 2, 1, &json), 1);
    if (comma)
        setlocale(LC_NUMERIC, "C");
    CHECK(strstr(json, "{\"key\":\"a\\\"b\\\\c\\u000a\\u0001 \xc3\xa9\",\"score\":0,\"vector\":["));
    const char *numbers = strstr(json, "\"vector\":[") + 10;
    char *end;
    CHECK(strtof(numbers, &end) == odd[0] && *end == ',');
    CHECK(strtof(end + 1, &end) == odd[1] && *end == ']');
    syna_free_json(json);
    CHECK_OK(syna_vector_store_close(path));
}

TEST(metadata_and_filters_by_path)
{
    const char *path = new_store("v.db");
    char *json = NULL;
    CHECK_OK(syna_vector_store_insert_with_metadata(path, "x", X, 2, "{\"n\": 1}"));
    CHECK_OK(syna_vector_store_insert_with_metadata(path, "y", Y, 2, NULL));
    CHECK_FAILS(syna_vector_store_insert_with_metadata(path, "z", Y, 2, "{"), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_EQ(syna_vector_store_search_filtered(path, Y, 2, 5, "{\"n\":{\"$gt\":0}}", &json), 1);
    CHECK_STR(json, "[{\"key\":\"x\",\"score\":1,\"vector\":[1,0],\"metadata\":{\"n\": 1}}]");
    syna_free_json(json);
    CHECK_EQ(syna_vector_store_search_filtered(path, Y, 2, 5, NULL, &json), 2);
    CHECK(strncmp(json, "[{\"key\":\"y\",\"score\":0,\"vector\":[0,1]},", 38) == 0);
    syna_free_json(json);
    CHECK_EQ(syna_vector_store_search_filtered(path, Y, 2, 5, "{\"$no\":1}", &json),
             SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_OK(syna_vector_store_get_metadata(path, "x", &json));
    CHECK_STR(json, "{\"n\": 1}");
    syna_free_json(json);
    CHECK_OK(syna_vector_store_get_metadata(path, "y", &json));
    CHECK(json == NULL);
    CHECK_RC(syna_vector_store_get_metadata(path, "z", &json), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(syna_vector_store_close(path));
}

TEST(every_spelling_of_a_path_is_one_counted_store)
{
    const char *path = new_store("v.db");
    char other[600];
    snprintf(other, sizeof other, "%s/./v.db", check_path(""));
    CHECK_OK(syna_vector_store_insert(path, "x", X, 2));
    CHECK_OK(syna_vector_store_new(other, 2, SYNA_METRIC_COSINE));
    CHECK_EQ(syna_vector_store_insert_batch(other, (const char *[]){"y"}, Y, 2, 1), 1);
    CHECK_FAILS(syna_vector_store_new(other, 3, SYNA_METRIC_COSINE), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_vector_store_close(path));
    CHECK_OK(syna_vector_store_insert(path, "z", X, 2)); /* one opening is left */
    CHECK_OK(syna_vector_store_close(other));
    CHECK_FAILS(syna_vector_store_insert(path, "z", X, 2), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
}

TEST(a_store_is_an_ordinary_database_open_at_the_same_time)
{
    const char *path = new_store("v.db");
    float *vector;
    uint16_t dims;
    size_t len;
    CHECK_OK(syna_vector_store_insert(path, "x", X, 2));
    CHECK_OK(syna_open(path));
    CHECK_OK(syna_get_vector(path, "vec/x", &vector, &dims));
    CHECK_EQ(dims, 2);
    CHECK_MEM(vector, X, sizeof X);
    syna_free_vector(vector, dims);
    char *text = syna_get_text(path, "vec-store/config", &len);
    CHECK_STR(text, "{\"dimensions\":2,\"metric\":\"cosine\"}");
    syna_free_text(text, len);
    CHECK_OK(syna_vector_store_close(path));
    CHECK_EQ(syna_exists(path, "vec/x"), 1); /* the database is still open */
    CHECK_FAILS(syna_vector_store_insert(path, "y", Y, 2), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_OK(syna_close(path));
}

TEST(compaction_keeps_the_rows_and_their_order)
{
    const char *path = new_store("v.db");
    char *json;
    CHECK_OK(syna_vector_store_insert(path, "b", X, 2));
    CHECK_OK(syna_vector_store_insert(path, "a", Y, 2));
    CHECK_OK(syna_vector_store_insert(path, "a", X, 2));
    CHECK_OK(syna_compact(path));
    CHECK_OK(syna_vector_store_insert(path, "c", X, 2));
    CHECK_OK(syna_vector_store_close(path));
    CHECK_OK(syna_vector_store_new(path, 2, SYNA_METRIC_COSINE));
    CHECK_EQ(syna_vector_store_search(path, X, 2, 5, &json), 3);
    CHECK(strstr(json, "\"b\"") < strstr(json, "\"a\"") && strstr(json, "\"a\"") < strstr(json, "\"c\""));
    syna_free_json(json);
    CHECK_OK(syna_vector_store_close(path));
}

TEST(bad_arguments_have_their_codes)
{
    const char *path = check_path("v.db");
    const float nan[2] = {NAN, 0};
    const char *keys[1] = {"a"};
    char *json = (char *)1;
    CHECK_FAILS(syna_vector_store_new(path, 0, 0), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_vector_store_new(path, 2, 3), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_vector_store_new_with_config(path, 2, 0, 2), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_vector_store_new(NULL, 2, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_new(check_path(""), 2, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert(path, "a", X, 2), SYNA_ERR_DB_NOT_FOUND);
    CHECK_EQ(access(path, F_OK), -1); /* refusals created nothing */

    CHECK_OK(syna_vector_store_new_with_config(path, 2, SYNA_METRIC_COSINE, 0));
    CHECK_RC(syna_vector_store_insert(NULL, "a", X, 2), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert(path, NULL, X, 2), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert(path, "a", NULL, 2), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert(path, "", X, 2), SYNA_ERR_EMPTY_KEY);
    CHECK_FAILS(syna_vector_store_insert(path, "a", X, 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_vector_store_insert(path, "a", nan, 2), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    /* Where a count is returned, 0 is no error. */
    CHECK_RC(syna_vector_store_insert_batch(path, keys, nan, 2, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert_batch(path, NULL, X, 2, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_insert_batch(path, (const char *[]){NULL}, X, 2, 1),
             SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_vector_store_insert_batch(path, NULL, NULL, 2, 0), 0);
    CHECK_RC(syna_vector_store_search(path, X, 3, 1, &json), SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_RC(syna_vector_store_search(path, nan, 2, 1, &json), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_vector_store_search(path, X, 2, 1, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_vector_store_search(path, X, 2, 1, &json), 0);
    syna_free_json(json);
    syna_free_json(NULL);
    syna_free_hits(NULL);
    CHECK_OK(syna_vector_store_close(path));
}

static syna_vectors *open_handle(const char *name)
{
    syna_vectors *store;
    syna_vectors_options options = {.size = sizeof options, .dimensions = 2};
    CHECK_OK(syna_vectors_open(check_path(name), &options, &store));
    return store;
}

TEST(handles_and_paths_reach_the_same_store)
{
    syna_vectors *store = open_handle("v.db"), *again = open_handle("v.db");
    float got[2];
    int32_t deleted;
    CHECK(store == again);
    CHECK_OK(syna_vectors_insert(store, "x", 1, X, 2));
    CHECK_OK(syna_vector_store_insert(check_path("v.db"), "y", Y, 2));
    CHECK_EQ(syna_vectors_count(store), 2);
    CHECK_OK(syna_vectors_get(store, "y", 1, got, 2));
    CHECK_MEM(got, Y, sizeof Y);
    CHECK_EQ(syna_vectors_contains(store, "x", 1), 1);
    CHECK_OK(syna_vectors_delete(store, "x", 1, &deleted));
    CHECK_OK(syna_vectors_delete(store, "x", 1, NULL));
    CHECK_EQ(syna_vectors_contains(store, "x", 1), 0);
    CHECK_OK(syna_vectors_flush(store));
    CHECK_OK(syna_vectors_close(store));
    CHECK_EQ(syna_vectors_count(again), 1);
    CHECK_OK(syna_vectors_close(again));
    CHECK_FAILS(syna_vectors_close(again), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
}

TEST(an_older_program_with_shorter_structs_is_served)
{
    syna_vectors *store;
    syna_vectors_options options = {.size = offsetof(syna_vectors_options, no_sync), .dimensions = 2,
                                    .no_sync = 77}; /* behind its end: not read */
    CHECK_OK(syna_vectors_open(check_path("v.db"), &options, &store));
    syna_vectors_stats stats = {.size = offsetof(syna_vectors_stats, rows), .rows = 12345};
    CHECK_OK(syna_vectors_get_stats(store, &stats));
    CHECK_EQ(stats.dimensions, 2);
    CHECK_EQ(stats.rows, 12345);
    syna_search how = {.size = offsetof(syna_search, radius), .k = 1};
    syna_hit *hits;
    size_t count;
    CHECK_OK(syna_vectors_search(store, X, 1, 2, &how, &hits, &count));
    syna_free_hits(hits);
    CHECK_OK(syna_vectors_close(store));
}

enum { OPENERS = 6, TIMES = 40 };

static void *open_insert_close(void *context)
{
    const char *path = context;
    for (int i = 0; i < TIMES; i++) {
        char *json = NULL;
        CHECK_OK(syna_vector_store_new_with_config(path, 2, SYNA_METRIC_COSINE, 0));
        CHECK_OK(syna_vector_store_insert(path, "shared", X, 2));
        CHECK(syna_vector_store_search(path, X, 2, 1, &json) == 1);
        syna_free_json(json);
        CHECK_OK(syna_vector_store_close(path));
    }
    return NULL;
}

TEST(threads_open_and_close_one_store_at_random)
{
    pthread_t threads[OPENERS];
    const char *path = check_path("v.db");
    for (int i = 0; i < OPENERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, open_insert_close, (void *)(uintptr_t)path), 0);
    for (int i = 0; i < OPENERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_FAILS(syna_vector_store_close(path), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
}

struct forked {
    const char *path;
    bool stop;
};

static void *keep_writing(void *context)
{
    struct forked *f = context;
    for (int i = 0; !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); i++)
        CHECK_OK(syna_vector_store_insert(f->path, i % 2 ? "a" : "b", X, 2));
    return NULL;
}

static void search_in_child(void *context)
{
    struct forked *f = context;
    char *json = NULL;
    CHECK(syna_vector_store_search(f->path, X, 2, 9, &json) >= 1);
    syna_free_json(json);
    CHECK_FAILS(syna_vector_store_insert(f->path, "child", X, 2), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_OK(syna_vector_store_close(f->path));
}

TEST(a_forked_child_searches_and_does_not_write)
{
    struct forked f = {.path = check_path("v.db")};
    pthread_t thread;
    CHECK_OK(syna_vector_store_new_with_config(f.path, 2, SYNA_METRIC_COSINE, 0));
    CHECK_OK(syna_vector_store_insert(f.path, "x", X, 2));
    CHECK_EQ(pthread_create(&thread, NULL, keep_writing, &f), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(check_child(search_in_child, &f), 0);
    __atomic_store_n(&f.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK_OK(syna_vector_store_close(f.path));
}
