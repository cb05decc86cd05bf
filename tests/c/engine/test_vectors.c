/* The vector store over a real log: what it returns, what it remembers, what it refuses, and what a
 * failure at any call leaves behind. */
#include "check.h"

#include "engine/vectors.h"

#include <float.h>
#include <math.h>

/* ---------------------------------------------------------------- a store for a test */

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static syna_rc open_as(struct open_store *o, const char *name, uint32_t dims, int32_t metric)
{
    syna_vectors_options options = {.size = sizeof options, .dimensions = dims, .metric = metric};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    CHECK_OK(db_open(check_path(name), &log, &o->db));
    syna_rc rc = vectors_new(o->db, &options, &o->store);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        CHECK_OK(db_close(o->db));
        return status_set(&why);
    }
    return rc;
}

static void open_store(struct open_store *o, uint32_t dims)
{
    CHECK_OK(open_as(o, "v.db", dims, SYNA_METRIC_EUCLIDEAN));
}

static void close_store(struct open_store *o)
{
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

static syna_rc insert(syna_vectors *store, const char *key, const float *v, uint32_t dims)
{
    size_t added, len = strlen(key);
    struct vectors_batch row = {.keys = &key, .key_lens = &len, .vectors = v, .dims = dims, .count = 1};
    return vectors_insert(store, &row, &added);
}

static syna_rc insert_many(syna_vectors *store, const char *const *keys, const float *v, uint32_t dims,
                           size_t count, size_t *added)
{
    struct vectors_batch rows = {.keys = keys, .vectors = v, .dims = dims, .count = count};
    return vectors_insert(store, &rows, added);
}

/* One-dimensional rows: easy to say where they are. */
static void insert_at(syna_vectors *store, const char *key, float x)
{
    CHECK_OK(insert(store, key, &x, 1));
}

static syna_hit *search_at(syna_vectors *store, float x, uint64_t k, size_t *count)
{
    syna_search how = {.size = sizeof how, .k = k};
    syna_hit *hits;
    CHECK_OK(vectors_search(store, &x, 1, 1, &how, &hits, count));
    return hits;
}

/* The keys found around x, nearest first, joined by spaces. */
static void check_found(syna_vectors *store, float x, uint64_t k, const char *expected)
{
    char found[1024] = "";
    size_t count;
    syna_hit *hits = search_at(store, x, k, &count);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(hits[i].key_len, strlen(hits[i].key));
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? " " : "",
                 hits[i].key);
    }
    CHECK_STR(found, expected);
    syna_free_hits(hits);
}

static void check_rows(syna_vectors *store, const char *expected)
{
    char found[1024] = "";
    syna_hit *hits;
    size_t count;
    CHECK_OK(vectors_rows(store, NULL, 0, &hits, &count));
    for (size_t i = 0; i < count; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? " " : "",
                 hits[i].key);
    CHECK_STR(found, expected);
    CHECK_EQ(vectors_count(store), count);
    syna_free_hits(hits);
}

/* ---------------------------------------------------------------- what it does */

TEST(rows_are_found_nearest_first)
{
    struct open_store o;
    open_store(&o, 1);
    check_found(o.store, 0, 10, "");
    insert_at(o.store, "five", 5);
    insert_at(o.store, "one", 1);
    insert_at(o.store, "minus", -2);
    check_found(o.store, 0, 10, "one minus five");
    check_found(o.store, 4, 2, "five one");
    check_found(o.store, 0, 0, "");
    size_t count;
    syna_hit *hits = search_at(o.store, 4, 1, &count);
    CHECK(hits[0].score == 1 && hits[0].vector == NULL);
    syna_free_hits(hits);
    close_store(&o);
}

TEST(everything_is_there_after_reopening_in_the_order_written)
{
    struct open_store o;
    float x;
    open_store(&o, 1);
    insert_at(o.store, "z", 1);
    insert_at(o.store, "b", 1);
    insert_at(o.store, "a", 1);
    insert_at(o.store, "z", 1); /* replaced: now the last */
    check_found(o.store, 1, 3, "b a z");
    check_rows(o.store, "b a z");
    close_store(&o);
    open_store(&o, 1);
    check_found(o.store, 1, 3, "b a z");
    check_rows(o.store, "b a z");
    CHECK_OK(vectors_get(o.store, "a", 1, &x, 1));
    CHECK(x == 1);
    close_store(&o);
}

TEST(the_same_key_replaces_and_counts_once)
{
    struct open_store o;
    open_store(&o, 1);
    insert_at(o.store, "a", 1);
    insert_at(o.store, "a", 100);
    CHECK_EQ(vectors_count(o.store), 1);
    check_found(o.store, 1, 5, "a");
    float x;
    CHECK_OK(vectors_get(o.store, "a", 1, &x, 1));
    CHECK(x == 100);
    close_store(&o);
}

TEST(a_deleted_row_is_gone_everywhere_also_after_reopening)
{
    struct open_store o;
    int32_t deleted;
    float x;
    open_store(&o, 1);
    insert_at(o.store, "a", 1);
    insert_at(o.store, "b", 2);
    CHECK_OK(vectors_delete(o.store, "a", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(vectors_delete(o.store, "a", 1, &deleted));
    CHECK_EQ(deleted, 0);
    for (int round = 0; round < 2; round++) {
        CHECK(!vectors_contains(o.store, "a", 1));
        CHECK_RC(vectors_get(o.store, "a", 1, &x, 1), SYNA_ERR_KEY_NOT_FOUND);
        check_found(o.store, 1, 5, "b");
        check_rows(o.store, "b");
        close_store(&o);
        open_store(&o, 1);
    }
    insert_at(o.store, "a", 3);
    check_found(o.store, 3, 1, "a");
    close_store(&o);
}

TEST(a_batch_counts_new_keys_and_keeps_the_last_of_a_repeated_one)
{
    struct open_store o;
    const char *keys[4] = {"a", "b", "a", "c"};
    const float rows[4] = {1, 2, 3, 4};
    size_t added;
    open_store(&o, 1);
    insert_at(o.store, "c", 9);
    CHECK_OK(insert_many(o.store, keys, rows, 1, 4, &added));
    CHECK_EQ(added, 2);
    check_rows(o.store, "b a c");
    float x;
    CHECK_OK(vectors_get(o.store, "a", 1, &x, 1));
    CHECK(x == 3);
    CHECK_OK(insert_many(o.store, NULL, NULL, 1, 0, &added));
    CHECK_EQ(added, 0);
    close_store(&o);
    open_store(&o, 1);
    check_rows(o.store, "b a c");
    close_store(&o);
}

TEST(queries_of_a_batch_get_their_own_hits_and_vectors)
{
    struct open_store o;
    CHECK_OK(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE));
    const char *keys[3] = {"x", "y", "zero"};
    const float rows[9] = {2, 0, 0, 0, 3, 0, 0, 0, 0}, queries[6] = {1, 0.1f, 0, 0, 5, 0};
    size_t added, counts[2];
    syna_hit *hits;
    syna_search how = {.size = sizeof how, .k = 2, .flags = SYNA_SEARCH_VECTORS};
    CHECK_OK(insert_many(o.store, keys, rows, 3, 3, &added));
    CHECK_OK(vectors_search(o.store, queries, 2, 3, &how, &hits, counts));
    CHECK_EQ(counts[0], 2);
    CHECK_EQ(counts[1], 2);
    CHECK_STR(hits[0].key, "x");
    CHECK_MEM(hits[0].vector, rows, 3 * sizeof(float));
    CHECK_STR(hits[2].key, "y");
    CHECK(hits[2].score == 0);
    CHECK_STR(hits[3].key, "x"); /* distance 1 like the zero vector, and written earlier */
    CHECK(hits[3].score == 1);
    syna_free_hits(hits);
    how.k = UINT64_MAX;
    CHECK_OK(vectors_search(o.store, queries, 1, 3, &how, &hits, counts));
    CHECK_EQ(counts[0], 3);
    CHECK(hits[2].score == 1);
    syna_free_hits(hits);
    CHECK_OK(vectors_search(o.store, NULL, 0, 3, &how, &hits, NULL));
    syna_free_hits(hits);
    close_store(&o);
}

TEST(a_radius_limits_the_hits)
{
    struct open_store o;
    size_t count;
    syna_hit *hits;
    float x = 0;
    syna_search how = {
        .size = sizeof how, .k = UINT64_MAX, .flags = SYNA_SEARCH_RADIUS, .radius = 2};
    open_store(&o, 1);
    insert_at(o.store, "far", 2.0000002f);
    insert_at(o.store, "edge", -2);
    insert_at(o.store, "near", 1);
    CHECK_OK(vectors_search(o.store, &x, 1, 1, &how, &hits, &count));
    CHECK_EQ(count, 2);
    CHECK_STR(hits[0].key, "near");
    CHECK_STR(hits[1].key, "edge");
    syna_free_hits(hits);
    how.radius = -1;
    CHECK_OK(vectors_search(o.store, &x, 1, 1, &how, &hits, &count));
    CHECK_EQ(count, 0);
    syna_free_hits(hits);
    how.radius = NAN;
    CHECK_FAILS(vectors_search(o.store, &x, 1, 1, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    close_store(&o);
}

TEST(overwriting_one_key_for_ever_does_not_grow_memory)
{
    struct open_store o;
    syna_vectors_stats stats = {.size = sizeof stats};
    open_store(&o, 1);
    insert_at(o.store, "other", -1);
    for (int i = 0; i < 40000; i++)
        insert_at(o.store, "a", (float)i);
    CHECK_OK(vectors_get_stats(o.store, &stats));
    CHECK_EQ(stats.rows, 2);
    CHECK(stats.memory_bytes < (2u << 20) + (64u << 10)); /* a chunk of rows, and keys */
    check_found(o.store, 39999, 2, "a other");
    close_store(&o);
}

TEST(stats_tell_what_is_there)
{
    struct open_store o;
    syna_vectors_stats stats = {.size = sizeof stats};
    CHECK_OK(open_as(&o, "v.db", 4, SYNA_METRIC_DOT_PRODUCT));
    const float v[4] = {1, 2, 3, 4};
    CHECK_OK(insert(o.store, "a", v, 4));
    CHECK_OK(vectors_get_stats(o.store, &stats));
    CHECK_EQ(stats.dimensions, 4);
    CHECK_EQ(stats.metric, SYNA_METRIC_DOT_PRODUCT);
    CHECK_EQ(stats.rows, 1);
    CHECK(stats.memory_bytes > 0 && stats.file_bytes > 0 && stats.simd[0]);
    close_store(&o);
}

/* ---------------------------------------------------------------- what it remembers and refuses */

TEST(a_store_with_rows_keeps_dimensions_and_metric)
{
    struct open_store o;
    const float v[2] = {1, 2};
    CHECK_OK(open_as(&o, "v.db", 2, SYNA_METRIC_COSINE));
    CHECK_OK(insert(o.store, "a", v, 2));
    close_store(&o);
    CHECK_FAILS(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(syna_last_error(), "v.db: holds vectors of 2 dimensions, opened with 3"));
    CHECK_FAILS(open_as(&o, "v.db", 2, SYNA_METRIC_EUCLIDEAN), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(strstr(syna_last_error(), "its metric is cosine, opened with euclidean"));
    CHECK_OK(open_as(&o, "v.db", 2, SYNA_METRIC_COSINE));
    CHECK_EQ(vectors_count(o.store), 1);
    close_store(&o);
}

TEST(an_empty_store_takes_what_the_latest_opening_says)
{
    struct open_store o;
    const float v[5] = {1, 2, 3, 4, 5};
    int32_t deleted;
    CHECK_OK(open_as(&o, "v.db", 2, SYNA_METRIC_COSINE));
    close_store(&o);
    CHECK_OK(open_as(&o, "v.db", 3, SYNA_METRIC_DOT_PRODUCT));
    CHECK_OK(insert(o.store, "a", v, 3));
    CHECK_OK(vectors_delete(o.store, "a", 1, &deleted));
    syna_vectors_options other = {.size = sizeof other, .dimensions = 4};
    CHECK_OK(vectors_reopen(o.store, &other)); /* a second opening in the process */
    CHECK_FAILS(insert(o.store, "b", v, 3), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(insert(o.store, "b", v, 4));
    other.dimensions = 5;
    CHECK_FAILS(vectors_reopen(o.store, &other), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    close_store(&o);
    CHECK_OK(open_as(&o, "v.db", 4, SYNA_METRIC_COSINE)); /* remembered with row b */
    close_store(&o);
    CHECK_FAILS(open_as(&o, "v.db", 4, SYNA_METRIC_EUCLIDEAN), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(rows_put_as_plain_values_are_rows)
{
    struct open_store o;
    syna_db *db;
    const float v[3] = {1, 2, 3};
    CHECK_OK(db_open(check_path("v.db"), NULL, &db));
    CHECK_OK(db_put(db, "vec/a", 5, SYNA_TYPE_VECTOR, v, sizeof v, NULL, NULL));
    CHECK_OK(db_put(db, "vec/", 4, SYNA_TYPE_VECTOR, v, 4, NULL, NULL)); /* no key: no row */
    CHECK_OK(db_put(db, "vec/note", 8, SYNA_TYPE_TEXT, "no row", 6, NULL, NULL));
    CHECK_OK(db_close(db));
    CHECK_FAILS(open_as(&o, "v.db", 4, SYNA_METRIC_COSINE), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(open_as(&o, "v.db", 3, SYNA_METRIC_EUCLIDEAN));
    check_rows(o.store, "a");
    int32_t deleted;
    CHECK_OK(vectors_delete(o.store, "note", 4, &deleted)); /* not ours to delete */
    CHECK_EQ(deleted, 0);
    bool exists;
    CHECK_OK(db_exists(o.db, "vec/note", 8, &exists));
    CHECK(exists);
    CHECK_OK(insert(o.store, "b", v, 3));
    close_store(&o);
    CHECK_FAILS(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(a_row_of_other_dimensions_in_the_log_is_named)
{
    struct open_store o;
    const float v[3] = {1, 2, 3};
    CHECK_OK(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE));
    CHECK_OK(insert(o.store, "a", v, 3));
    CHECK_OK(db_put(o.db, "vec/odd", 7, SYNA_TYPE_VECTOR, v, 8, NULL, NULL));
    close_store(&o);
    CHECK_RC(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE), SYNA_ERR_TYPE_MISMATCH);
    CHECK(strstr(syna_last_error(), "key vec/odd holds a vector of 8 bytes, a row of this store has 12"));
}

TEST(a_broken_config_record_is_reported)
{
    struct open_store o;
    syna_db *db;
    CHECK_OK(db_open(check_path("v.db"), NULL, &db));
    CHECK_OK(db_put(db, "vec-store/config", 16, SYNA_TYPE_TEXT, "{\"dimensions\":0}", 16, NULL, NULL));
    CHECK_OK(db_close(db));
    CHECK_FAILS(open_as(&o, "v.db", 3, SYNA_METRIC_COSINE), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
}

TEST(bad_rows_are_refused_by_name_and_nothing_of_the_batch_is_kept)
{
    struct open_store o;
    const char *keys[3] = {"a", "bad", "c"};
    float rows[6] = {1, 2, 3, 4, 5, 6};
    size_t added;
    CHECK_OK(open_as(&o, "v.db", 2, SYNA_METRIC_COSINE));
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        rows[3] = wrong[i];
        CHECK_FAILS(insert_many(o.store, keys, rows, 2, 3, &added), SYNA_ERR_GENERIC,
                    SYNA_WHY_ARGUMENT);
        CHECK(strstr(syna_last_error(), "row 1, key bad: element 1"));
    }
    rows[3] = 4;
    CHECK_FAILS(insert_many(o.store, keys, rows, 1, 3, &added), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    keys[2] = "";
    CHECK_RC(insert_many(o.store, keys, rows, 2, 3, &added), SYNA_ERR_EMPTY_KEY);
    char *long_key = malloc(SYNA_VECTOR_KEY_MAX + 2);
    memset(long_key, 'k', SYNA_VECTOR_KEY_MAX + 1);
    long_key[SYNA_VECTOR_KEY_MAX + 1] = '\0';
    keys[2] = long_key;
    CHECK_RC(insert_many(o.store, keys, rows, 2, 3, &added), SYNA_ERR_KEY_TOO_LONG);
    keys[2] = "\xff";
    CHECK(insert_many(o.store, keys, rows, 2, 3, &added) != SYNA_SUCCESS);
    CHECK_EQ(vectors_count(o.store), 0);
    long_key[SYNA_VECTOR_KEY_MAX] = '\0';
    keys[2] = long_key;
    CHECK_OK(insert_many(o.store, keys, rows, 2, 3, &added));
    CHECK(vectors_contains(o.store, long_key, SYNA_VECTOR_KEY_MAX));
    free(long_key);
    close_store(&o);
}

TEST(bad_queries_and_options_are_refused)
{
    struct open_store o;
    syna_hit *hits = NULL;
    size_t count;
    float query[2] = {0, NAN};
    syna_search how = {.size = sizeof how, .k = 1};
    syna_vectors_options out, options = {.size = sizeof options, .dimensions = 2};
    CHECK_OK(open_as(&o, "v.db", 2, SYNA_METRIC_COSINE));
    CHECK_FAILS(vectors_search(o.store, query, 1, 2, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(vectors_search(o.store, query, 1, 1, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    how.size = 4;
    CHECK_FAILS(vectors_search(o.store, query, 1, 1, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    close_store(&o);
    CHECK_OK(vectors_options(&options, &out));
    options.metric = 3;
    CHECK_FAILS(vectors_options(&options, &out), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    options.metric = 0;
    options.m = 3;
    CHECK_FAILS(vectors_options(&options, &out), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    options.m = 0;
    options.dimensions = 65536;
    CHECK_FAILS(vectors_options(&options, &out), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    options.size = 0;
    CHECK_FAILS(vectors_options(&options, &out), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(the_largest_dimension_survives_reopening)
{
    struct open_store o;
    float *v = malloc(SYNA_DIMENSIONS_MAX * sizeof *v), *got = malloc(SYNA_DIMENSIONS_MAX * sizeof *v);
    for (uint32_t i = 0; i < SYNA_DIMENSIONS_MAX; i++)
        v[i] = (float)i;
    CHECK_OK(open_as(&o, "v.db", SYNA_DIMENSIONS_MAX, SYNA_METRIC_COSINE));
    CHECK_OK(insert(o.store, "a", v, SYNA_DIMENSIONS_MAX));
    close_store(&o);
    CHECK_OK(open_as(&o, "v.db", SYNA_DIMENSIONS_MAX, SYNA_METRIC_COSINE));
    CHECK_OK(vectors_get(o.store, "a", 1, got, SYNA_DIMENSIONS_MAX));
    CHECK_MEM(got, v, SYNA_DIMENSIONS_MAX * sizeof *v);
    close_store(&o);
    free(v);
    free(got);
}

static int32_t stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return 1;
}

TEST(reading_rows_can_be_stopped)
{
    struct open_store o;
    size_t added;
    enum { ROWS = 70000 };
    char (*texts)[12] = malloc(ROWS * sizeof *texts);
    const char **keys = malloc(ROWS * sizeof *keys);
    float *rows = calloc(ROWS, sizeof *rows);
    for (int i = 0; i < ROWS; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", i);
        keys[i] = texts[i];
    }
    open_store(&o, 1);
    CHECK_OK(insert_many(o.store, keys, rows, 1, ROWS, &added));
    CHECK_EQ(added, ROWS);
    vectors_free(o.store);
    syna_vectors_options options = {.size = sizeof options,
                                    .dimensions = 1,
                                    .metric = SYNA_METRIC_EUCLIDEAN,
                                    .progress = stop_at_once};
    CHECK_FAILS(vectors_new(o.db, &options, &o.store), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_OK(db_close(o.db));
    free(texts);
    free(keys);
    free(rows);
}

/* ---------------------------------------------------------------- against a model */

#define MODEL_KEYS 60

/* Random inserts, batches, deletes and reopenings, compared with an array. */
TEST(random_changes_agree_with_an_array)
{
    struct open_store o;
    float model[MODEL_KEYS];
    bool there[MODEL_KEYS] = {false};
    open_store(&o, 1);
    int64_t rounds = check_rounds(3000);
    for (int64_t i = 0; i < rounds; i++) {
        char keys[3][8];
        const char *pointers[3] = {keys[0], keys[1], keys[2]};
        float rows[3];
        size_t added, n = 1 + check_random() % 3;
        int32_t deleted;
        unsigned ids[3];
        for (size_t j = 0; j < n; j++) {
            ids[j] = (unsigned)(check_random() % MODEL_KEYS);
            snprintf(keys[j], sizeof keys[j], "k%u", ids[j]);
            rows[j] = (float)(check_random() % 1000);
        }
        check_note("round %lld", (long long)i);
        if (check_random() % 3 == 0) {
            CHECK_OK(vectors_delete(o.store, keys[0], strlen(keys[0]), &deleted));
            CHECK_EQ(deleted, there[ids[0]]);
            there[ids[0]] = false;
        } else {
            CHECK_OK(insert_many(o.store, pointers, rows, 1, n, &added));
            for (size_t j = 0; j < n; j++) {
                added -= !there[ids[j]];
                there[ids[j]] = true;
                model[ids[j]] = rows[j];
            }
            CHECK_EQ(added, 0);
        }
        if (check_random() % 200 == 0) {
            close_store(&o);
            open_store(&o, 1);
        }
        unsigned id = (unsigned)(check_random() % MODEL_KEYS), live = 0;
        float x;
        snprintf(keys[0], sizeof keys[0], "k%u", id);
        if (there[id]) {
            CHECK_OK(vectors_get(o.store, keys[0], strlen(keys[0]), &x, 1));
            CHECK(x == model[id]);
            size_t count;
            syna_hit *hits = search_at(o.store, x, 1, &count);
            CHECK(count == 1 && hits[0].score == 0);
            syna_free_hits(hits);
        } else {
            CHECK_RC(vectors_get(o.store, keys[0], strlen(keys[0]), &x, 1), SYNA_ERR_KEY_NOT_FOUND);
        }
        for (int j = 0; j < MODEL_KEYS; j++)
            live += there[j];
        CHECK_EQ(vectors_count(o.store), live);
    }
    close_store(&o);
}

/* ---------------------------------------------------------------- threads */

enum { THREADS = 4, PER_THREAD = 400 };

struct worker {
    syna_vectors *store;
    int number;
    bool *stop;
};

static void *write_rows(void *context)
{
    struct worker *w = context;
    for (int i = 0; i < PER_THREAD; i++) {
        char own[24];
        int32_t deleted;
        snprintf(own, sizeof own, "t%d-%d", w->number, i % 50);
        insert_at(w->store, own, (float)i);
        insert_at(w->store, "contested", (float)(w->number * PER_THREAD + i));
        if (i % 7 == 0)
            CHECK_OK(vectors_delete(w->store, "contested", 9, &deleted));
    }
    return NULL;
}

static void *search_rows(void *context)
{
    struct worker *w = context;
    while (!__atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
        size_t count;
        syna_hit *hits = search_at(w->store, 3, 20, &count);
        for (size_t i = 1; i < count; i++)
            CHECK(hits[i - 1].score <= hits[i].score);
        syna_free_hits(hits);
    }
    return NULL;
}

TEST(writers_race_readers_search_and_memory_ends_up_as_the_log)
{
    struct open_store o;
    pthread_t threads[THREADS + 1];
    struct worker workers[THREADS + 1];
    bool stop = false;
    open_store(&o, 1);
    for (int i = 0; i <= THREADS; i++) {
        workers[i] = (struct worker){o.store, i, &stop};
        CHECK_EQ(pthread_create(&threads[i], NULL, i < THREADS ? write_rows : search_rows,
                                &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(threads[THREADS], NULL);

    uint64_t count = vectors_count(o.store);
    float in_memory = -1, reopened = -1;
    syna_rc found = vectors_get(o.store, "contested", 9, &in_memory, 1);
    CHECK_EQ(count, THREADS * 50u + (found == SYNA_SUCCESS));
    close_store(&o);
    open_store(&o, 1);
    CHECK_EQ(vectors_count(o.store), count);
    CHECK_RC(vectors_get(o.store, "contested", 9, &reopened, 1), found);
    CHECK(in_memory == reopened);
    close_store(&o);
}

/* ---------------------------------------------------------------- failures at every call */

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

static syna_rc change_and_search(syna_vectors *store)
{
    const char *keys[2] = {"b", "c"};
    const float rows[2] = {2, 3};
    size_t added, count;
    int32_t deleted;
    syna_search how = {.size = sizeof how, .k = 3};
    syna_hit *hits = NULL;
    SYNA_TRY(insert(store, "a", rows, 1));
    SYNA_TRY(insert_many(store, keys, rows, 1, 2, &added));
    SYNA_TRY(vectors_delete(store, "b", 1, &deleted));
    SYNA_TRY(vectors_search(store, rows, 1, 1, &how, &hits, &count));
    syna_free_hits(hits);
    return SYNA_SUCCESS;
}

/* Whatever fails, memory and log agree: a reopened store holds the same rows. */
TEST(without_memory_at_any_call_the_store_agrees_with_its_log)
{
    for (int k = 1;; k++) {
        struct open_store o;
        char name[24], before[3], after[3];
        int left = k;
        snprintf(name, sizeof name, "f%d.db", k);
        check_note("k = %d", k);
        CHECK_OK(open_as(&o, name, 1, SYNA_METRIC_EUCLIDEAN));
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = change_and_search(o.store);
        syna_test_set_alloc(NULL, NULL);
        if (left <= 0)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        for (int i = 0; i < 3; i++)
            before[i] = (char)vectors_contains(o.store, &"abc"[i], 1);
        insert_at(o.store, "later", 7);
        check_found(o.store, 7, 1, "later");
        close_store(&o);
        CHECK_OK(open_as(&o, name, 1, SYNA_METRIC_EUCLIDEAN));
        for (int i = 0; i < 3; i++)
            after[i] = (char)vectors_contains(o.store, &"abc"[i], 1);
        CHECK_MEM(after, before, 3);
        CHECK_EQ(before[1] && !before[2], 0); /* b came in one batch with c */
        close_store(&o);
        if (left > 0)
            break;
    }
}

TEST(without_memory_while_opening_nothing_leaks)
{
    struct open_store o;
    open_store(&o, 1);
    insert_at(o.store, "a", 1);
    insert_at(o.store, "b", 2);
    vectors_free(o.store);
    for (int k = 1;; k++) {
        syna_vectors_options options = {
            .size = sizeof options, .dimensions = 1, .metric = SYNA_METRIC_EUCLIDEAN};
        int left = k;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = vectors_new(o.db, &options, &o.store);
        syna_test_set_alloc(NULL, NULL);
        if (left > 0) {
            CHECK_OK(rc);
            break;
        }
        if (rc == SYNA_SUCCESS) { /* only what saves work was given up, such as a snapshot */
            check_rows(o.store, "a b");
            vectors_free(o.store);
            continue;
        }
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    }
    check_rows(o.store, "a b");
    close_store(&o);
}
