/* The C interface of mapped vector stores: both faces, what they return and what they refuse. */
#include "check.h"

#include <synadb.h>

#include "vfs_fault.h"

static const float row[] = {1, 2, 3};

static const char *new_store(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_mmap_vector_store_new(path, 3, SYNA_METRIC_EUCLIDEAN, 100));
    return path;
}

static syna_mmap *open_handle(const char *path, uint8_t read_only)
{
    syna_mmap_options options = {.size = sizeof options,
                                 .dimensions = 3,
                                 .metric = SYNA_METRIC_EUCLIDEAN,
                                 .read_only = read_only};
    syna_mmap *store;
    CHECK_OK(syna_mmap_open(path, &options, &store));
    return store;
}

TEST(the_path_keyed_face_stores_finds_and_keeps)
{
    const char *path = new_store("a.mmap");
    const char *keys[] = {"b", "q\"\\\n", "b"};
    const float rows[] = {4, 5, 6, 1, 2, 4, 4, 5, 7};
    char *json;
    size_t len;
    CHECK_EQ(syna_mmap_vector_store_len(path), 0);
    CHECK_OK(syna_mmap_vector_store_insert(path, "a", row, 3));
    CHECK_EQ(syna_mmap_vector_store_insert_batch(path, keys, rows, 3, 3), 2);
    CHECK_EQ(syna_mmap_vector_store_insert_batch(path, keys, rows, 3, 0), 0);
    CHECK_EQ(syna_mmap_vector_store_len(path), 3);
    CHECK_OK(syna_mmap_vector_store_build_index(path));
    CHECK_EQ(syna_mmap_vector_store_search(path, row, 3, 2, &json, &len), 2);
    CHECK_STR(json, "[{\"key\":\"a\",\"score\":0},{\"key\":\"q\\\"\\\\\\u000a\",\"score\":1}]");
    CHECK_EQ(len, strlen(json));
    syna_free_json(json);
    CHECK_EQ(syna_mmap_vector_store_search(path, row, 3, 0, &json, NULL), 0);
    CHECK_STR(json, "[]");
    syna_free_json(json);
    CHECK_OK(syna_mmap_vector_store_flush(path));
    CHECK_OK(syna_mmap_vector_store_close(path));
    CHECK_RC(syna_mmap_vector_store_close(path), SYNA_ERR_DB_NOT_FOUND);
    new_store("a.mmap");
    CHECK_EQ(syna_mmap_vector_store_len(path), 3);
    CHECK_OK(syna_mmap_vector_store_close(path));
}

TEST(an_index_is_built_told_of_and_explained)
{
    syna_mmap *store;
    const char *path = new_store("a.mmap");
    syna_explain told = {.size = sizeof told};
    syna_search how = {.size = sizeof how, .k = 1, .recall = 0.9f, .explain = &told};
    syna_mmap_stats stats = {.size = sizeof stats};
    syna_hit *hits;
    size_t count;
    store = open_handle(path, 0);
    for (int i = 0; i < 100; i++) {
        char key[16];
        const float at[] = {(float)i, (float)(i % 7), 0};
        snprintf(key, sizeof key, "%d", i);
        CHECK_OK(syna_mmap_insert(store, key, strlen(key), at, 3));
    }
    CHECK_EQ(syna_mmap_has_index(store), 0);
    CHECK_OK(syna_mmap_build_index(store, NULL, NULL));
    CHECK_EQ(syna_mmap_has_index(store), 1);
    CHECK_OK(syna_mmap_get_stats(store, &stats));
    CHECK_EQ(stats.indexed_rows, 100);
    const float query[] = {50, 1, 0};
    CHECK_OK(syna_mmap_search(store, query, 1, 3, &how, &hits, &count));
    CHECK_STR(hits[0].key, "50");
    CHECK_EQ(told.plan, SYNA_PLAN_GRAPH);
    CHECK(told.recall >= 0.9f && told.ef > 0 && told.hops > 0);
    syna_free_hits(hits);
    CHECK(syna_mmap_has_index(NULL) <= 0);
    CHECK_OK(syna_mmap_close(store));
    CHECK_OK(syna_mmap_vector_store_close(path));
}

TEST(openings_are_counted_and_every_spelling_is_one_store)
{
    const char *path = new_store("a.mmap");
    CHECK_OK(syna_mmap_vector_store_new(path, 3, SYNA_METRIC_EUCLIDEAN, 0));
    CHECK_EQ(symlink(path, check_path("link")), 0);
    CHECK_OK(syna_mmap_vector_store_insert(check_path("link"), "a", row, 3));
    CHECK_EQ(syna_mmap_vector_store_len(check_path("./a.mmap")), 1);
    CHECK_OK(syna_mmap_vector_store_close(path));
    CHECK_EQ(syna_mmap_vector_store_len(path), 1);
    CHECK_OK(syna_mmap_vector_store_close(check_path("link")));
    CHECK_EQ(syna_mmap_vector_store_len(path), SYNA_ERR_DB_NOT_FOUND);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_CLOSED);
}

TEST(an_opening_that_differs_is_refused_and_not_counted)
{
    const char *path = new_store("a.mmap");
    CHECK_OK(syna_mmap_vector_store_insert(path, "a", row, 3));
    CHECK_FAILS(syna_mmap_vector_store_new(path, 4, SYNA_METRIC_EUCLIDEAN, 0), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_mmap_vector_store_new(path, 3, SYNA_METRIC_COSINE, 0), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_mmap_vector_store_close(path));
    CHECK_RC(syna_mmap_vector_store_flush(path), SYNA_ERR_DB_NOT_FOUND);
}

TEST(handles_do_everything)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_handle(path, 0);
    const char *keys[] = {"a", "b"};
    const float rows[] = {1, 2, 3, 4, 5, 6}, *view;
    float back[3];
    size_t added, count;
    int32_t deleted, changed;
    syna_hit *hits;
    syna_mmap_pin *pin;
    syna_mmap_stats stats = {.size = sizeof stats};
    syna_check found = {.size = sizeof found};
    syna_search how = {.size = sizeof how, .k = 5, .flags = SYNA_SEARCH_VECTORS};
    CHECK_OK(syna_mmap_insert_batch(store, keys, NULL, rows, 3, 2, &added));
    CHECK_EQ(added, 2);
    CHECK_OK(syna_mmap_insert(store, "c", 1, row, 3));
    CHECK_EQ(syna_mmap_contains(store, "c", 1), 1);
    CHECK_EQ(syna_mmap_contains(store, "d", 1), 0);
    CHECK_OK(syna_mmap_delete(store, "c", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(syna_mmap_delete(store, "c", 1, NULL));
    CHECK_EQ(syna_mmap_count(store), 2);
    CHECK_OK(syna_mmap_get(store, "b", 1, back, 3));
    CHECK_MEM(back, rows + 3, sizeof back);
    CHECK_RC(syna_mmap_get(store, "c", 1, back, 3), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_mmap_get(store, "b", 1, back, 2), SYNA_ERR_TYPE_MISMATCH);
    CHECK_OK(syna_mmap_search(store, rows, 1, 3, &how, &hits, &count));
    CHECK(count == 2 && hits[0].score == 0 && hits[1].vector[0] == 4);
    syna_free_hits(hits);
    CHECK_OK(syna_mmap_search(store, rows, 0, 3, &how, &hits, NULL));
    syna_free_hits(hits);
    CHECK_OK(syna_mmap_rows(store, 0, &hits, &count));
    CHECK_EQ(count, 2);
    syna_free_hits(hits);
    CHECK_OK(syna_mmap_checkpoint(store));
    syna_mmap *reader = open_handle(path, 1);
    CHECK(reader != store);
    CHECK_EQ(syna_mmap_count(reader), 2);
    CHECK_OK(syna_mmap_compact(store, NULL, NULL));
    CHECK_OK(syna_mmap_refresh(reader, &changed));
    CHECK_EQ(changed, 1);
    CHECK_OK(syna_mmap_refresh(reader, NULL));
    CHECK_OK(syna_mmap_view(reader, "a", 1, &view, &pin));
    CHECK_OK(syna_mmap_close(reader));
    CHECK(view[2] == 3);
    syna_mmap_unpin(pin);
    CHECK_OK(syna_mmap_build_index(store, NULL, NULL));
    CHECK_OK(syna_mmap_get_stats(store, &stats));
    CHECK(stats.rows == 2 && stats.generation == 2 && stats.dead_rows == 0 && stats.dimensions == 3);
    CHECK_OK(syna_mmap_close(store));
    CHECK_FAILS(syna_mmap_close(store), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_OK(syna_mmap_verify(path, NULL, NULL, NULL, &found));
    CHECK(found.damaged == 0 && found.frames == 2);
}

TEST(options_of_an_older_program_are_taken)
{
    syna_mmap_options options = {.size = offsetof(syna_mmap_options, read_only),
                                 .dimensions = 3,
                                 .read_only = 1, /* behind what it knows: not looked at */
                                 .initial_capacity = UINT64_MAX};
    syna_mmap *store;
    CHECK_OK(syna_mmap_open(check_path("a.mmap"), &options, &store));
    CHECK_OK(syna_mmap_insert(store, "a", 1, row, 3));
    CHECK_OK(syna_mmap_close(store));
    options.size = 4;
    CHECK_FAILS(syna_mmap_open(check_path("b.mmap"), &options, &store), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
}

TEST(a_hint_beyond_the_disk_makes_the_room_that_is_needed)
{
    const char *path = check_path("a.mmap");
    CHECK_OK(syna_mmap_vector_store_new(path, 65535, SYNA_METRIC_EUCLIDEAN, SIZE_MAX));
    static float large[65535];
    CHECK_OK(syna_mmap_vector_store_insert(path, "a", large, 65535));
    CHECK_OK(syna_mmap_vector_store_close(path));
}

TEST(null_pointers_and_bad_text_are_refused)
{
    const char *path = new_store("a.mmap"), *keys[] = {"a"}, *none[] = {NULL};
    syna_mmap *store = open_handle(path, 0);
    char *json = NULL;
    syna_check found = {.size = 4};
    syna_search how = {.size = sizeof how};
    syna_hit *hits;
    syna_mmap_pin *pin;
    const float *view;
    CHECK_RC(syna_mmap_vector_store_new(NULL, 3, 0, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_new("\xff", 3, 0, 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_new(path, 0, 0, 0), SYNA_ERR_GENERIC);
    CHECK_RC(syna_mmap_vector_store_new(path, 3, 9, 0), SYNA_ERR_GENERIC);
    CHECK_RC(syna_mmap_vector_store_insert(path, NULL, row, 3), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert(path, "a", NULL, 3), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert(path, "", row, 3), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(syna_mmap_vector_store_insert(path, "\xff", row, 3), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert(path, "a", row, 2), SYNA_ERR_TYPE_MISMATCH);
    CHECK_RC(syna_mmap_vector_store_insert_batch(path, NULL, row, 3, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert_batch(path, none, row, 3, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert_batch(path, keys, NULL, 3, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_insert_batch("none", keys, row, 3, 1), SYNA_ERR_DB_NOT_FOUND);
    CHECK_RC(syna_mmap_vector_store_search(path, row, 3, 1, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_search(path, NULL, 3, 1, &json, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_vector_store_search(path, row, 2, 1, &json, NULL), SYNA_ERR_TYPE_MISMATCH);
    CHECK(json == NULL);
    CHECK_RC((syna_rc)syna_mmap_vector_store_len(NULL), SYNA_ERR_INVALID_PATH);
    syna_mmap *no_store;
    CHECK_RC(syna_mmap_open(path, NULL, &no_store), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_get(store, NULL, 1, NULL, 3), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_get(store, "", 0, NULL, 3), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(syna_mmap_view(store, "", 0, &view, &pin), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(syna_mmap_view(store, "a", 1, NULL, &pin), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_contains(NULL, "a", 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_search(store, row, 1, 3, NULL, &hits, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_search(store, row, 1, 3, &how, &hits, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_close(NULL), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_mmap_count(NULL), 0);
    CHECK_RC(syna_mmap_verify(NULL, NULL, NULL, NULL, &found), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_mmap_verify(path, NULL, NULL, NULL, &found), SYNA_ERR_GENERIC);
    CHECK_EQ(syna_mmap_count(store), 0);
    CHECK_OK(syna_mmap_close(store));
    CHECK_OK(syna_mmap_vector_store_close(path));
}

TEST(an_opening_that_fails_for_want_of_memory_leaves_nothing_open)
{
    const char *path = check_path("a.mmap");
    for (int64_t k = 1;; k++) {
        fault_alloc(k, false);
        syna_rc rc = syna_mmap_vector_store_new(path, 3, 0, 0);
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (rc == SYNA_SUCCESS)
            CHECK_OK(syna_mmap_vector_store_close(path));
        CHECK_RC((syna_rc)syna_mmap_vector_store_len(path), SYNA_ERR_DB_NOT_FOUND);
        if (!fired)
            break;
    }
}
