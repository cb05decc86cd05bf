/* Metadata in the vector store: memory agrees with the log whatever allocation fails, and what a race of
 * two writers could leave in a log is never taken for a pair. */
#include "check.h"

#include "engine/vectors.h"

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static void open_store(struct open_store *o, const char *path)
{
    syna_vectors_options options = {.size = sizeof options, .dimensions = 1,
                                    .metric = SYNA_METRIC_EUCLIDEAN};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    CHECK_OK(db_open(path, &log, &o->db));
    CHECK_OK(vectors_new(o->db, &options, &o->store));
}

static void close_store(struct open_store *o)
{
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

static syna_rc insert(syna_vectors *store, const char *key, float x, const char *json)
{
    size_t added;
    struct vectors_batch row = {.keys = &key, .vectors = &x, .metadata = &json, .dims = 1, .count = 1};
    return vectors_insert(store, &row, &added);
}

/* "-" without a row, "none" without metadata. */
static const char *metadata(syna_vectors *store, const char *key)
{
    static char text[4][600];
    static int next;
    char *json = NULL, *to = text[next++ % 4];
    size_t len;
    syna_rc rc = vectors_get_metadata(store, key, strlen(key), &json, &len);
    snprintf(to, sizeof text[0], "%s", rc == SYNA_ERR_KEY_NOT_FOUND ? "-" : json ? json : "none");
    mem_free(json);
    return to;
}

static uint64_t count_where(syna_vectors *store, const char *json)
{
    struct filter *filter;
    uint64_t count;
    CHECK_OK(filter_parse(json, strlen(json), &filter));
    CHECK_OK(vectors_count_where(store, filter, &count));
    filter_free(filter);
    return count;
}

/* ---------------------------------------------------------------- no memory */

#define LONG_TEXT "{\"n\":1,\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

static syna_rc change(syna_vectors *store)
{
    const char *keys[3] = {"b", "c", "d"}, *texts[3] = {"{\"n\":2}", NULL, "{\"n\":[1,\"x\",null]}"};
    const float rows[3] = {2, 3, 4};
    struct vectors_batch batch = {.keys = keys, .vectors = rows, .metadata = texts, .dims = 1, .count = 3};
    struct filter *filter = NULL;
    size_t added;
    uint64_t deleted;
    int32_t gone;
    SYNA_TRY(insert(store, "a", 1, LONG_TEXT));
    SYNA_TRY(vectors_insert(store, &batch, &added));
    SYNA_TRY(vectors_update_metadata(store, "b", 1, "{\"m\":3}", 7, false));
    SYNA_TRY(vectors_update_metadata(store, "c", 1, LONG_TEXT, strlen(LONG_TEXT), false));
    SYNA_TRY(insert(store, "a", 5, NULL));
    SYNA_TRY(vectors_delete(store, "d", 1, &gone));
    SYNA_TRY(filter_parse("{\"n\":2}", 7, &filter));
    syna_rc rc = vectors_delete_where(store, filter, &deleted);
    filter_free(filter);
    return rc;
}

TEST(without_memory_at_any_call_metadata_agrees_with_the_log)
{
    const char *path = check_path("v.db");
    for (int k = 1;; k++) {
        struct open_store o;
        char before[4][600];
        int left = k;
        check_note("k = %d", k);
        open_store(&o, path);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = change(o.store);
        syna_test_set_alloc(NULL, NULL);
        if (left <= 0 && rc != SYNA_SUCCESS)
            CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
        CHECK_OK(insert(o.store, "later", 7, "{\"later\":true}"));
        CHECK_EQ(count_where(o.store, "{\"later\":true}"), 1);
        for (int i = 0; i < 4; i++)
            snprintf(before[i], sizeof before[i], "%s", metadata(o.store, (char[]){"abcd"[i], 0}));
        uint64_t ones = count_where(o.store, "{\"n\":1}");
        close_store(&o);
        open_store(&o, path);
        for (int i = 0; i < 4; i++)
            CHECK_STR(metadata(o.store, (char[]){"abcd"[i], 0}), before[i]);
        CHECK_EQ(count_where(o.store, "{\"n\":1}"), ones);
        close_store(&o);
        CHECK_EQ(unlink(path), 0);
        if (left > 0) {
            CHECK_OK(rc);
            CHECK_STR(before[0], "none");
            CHECK_STR(before[1], "-");
            CHECK_STR(before[2], LONG_TEXT);
            CHECK_STR(before[3], "-");
            break;
        }
    }
}

/* ---------------------------------------------------------------- what belongs together */

TEST(metadata_before_its_row_in_the_log_is_of_a_row_that_is_gone)
{
    struct open_store o;
    const char *path = check_path("v.db");
    const float x = 9;
    open_store(&o, path);
    CHECK_OK(insert(o.store, "a", 1, "{\"n\":1}"));
    CHECK_OK(insert(o.store, "b", 1, "{\"n\":2}"));
    /* as a writer that knew of no metadata would write: the row alone */
    CHECK_OK(db_put(o.db, "vec/a", 5, SYNA_TYPE_VECTOR, &x, sizeof x, NULL, NULL));
    close_store(&o);
    for (int compacted = 0; compacted < 2; compacted++) {
        open_store(&o, path);
        CHECK_STR(metadata(o.store, "a"), "none");
        CHECK_STR(metadata(o.store, "b"), "{\"n\":2}");
        CHECK_EQ(count_where(o.store, "{\"n\":{\"$exists\":true}}"), 1);
        CHECK_OK(db_compact(o.db, SYNA_COMPACT_LATEST, NULL, NULL));
        close_store(&o);
    }
}

TEST(compaction_beside_an_open_store_keeps_pairs)
{
    struct open_store o;
    const char *path = check_path("v.db");
    char key[8], json[40];
    open_store(&o, path);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i % 50);
        snprintf(json, sizeof json, "{\"n\":%d}", i);
        CHECK_OK(insert(o.store, key, (float)i, i % 3 ? json : NULL));
        if (i % 40 == 39)
            CHECK_OK(db_compact(o.db, SYNA_COMPACT_LATEST, NULL, NULL));
    }
    for (int reopened = 0; reopened < 2; reopened++) {
        for (int i = 150; i < 200; i++) {
            snprintf(key, sizeof key, "k%d", i % 50);
            snprintf(json, sizeof json, i % 3 ? "{\"n\":%d}" : "none", i);
            CHECK_STR(metadata(o.store, key), json);
        }
        close_store(&o);
        open_store(&o, path);
    }
    close_store(&o);
}

TEST(what_is_no_object_is_refused_and_nothing_is_written)
{
    struct open_store o;
    const char *path = check_path("v.db");
    const char *keys[2] = {"a", "b"}, *texts[2] = {"{}", "{\"n\":}"};
    const float rows[2] = {1, 2};
    size_t added;
    struct vectors_batch batch = {.keys = keys, .vectors = rows, .metadata = texts, .dims = 1, .count = 2};
    open_store(&o, path);
    CHECK_FAILS(vectors_insert(o.store, &batch, &added), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(status_get()->message, "row 1, key b: ") && strstr(status_get()->message, "byte 5"));
    CHECK_FAILS(insert(o.store, "a", 1, "[]"), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(insert(o.store, "a", 1, "{}"));
    CHECK_FAILS(vectors_update_metadata(o.store, "a", 1, "7", 1, true), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(vectors_update_metadata(o.store, "z", 1, "{}", 2, true), SYNA_ERR_KEY_NOT_FOUND,
                SYNA_WHY_NONE);
    CHECK_STR(metadata(o.store, "a"), "{}");
    CHECK_STR(metadata(o.store, "b"), "-");
    close_store(&o);
}
