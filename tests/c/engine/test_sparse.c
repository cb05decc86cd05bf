/* The sparse vector store over a real log: what it returns, what it remembers, what it refuses, and what a
 * failure of memory at any call leaves behind. */
#include "check.h"

#include "engine/sparse.h"

#include <math.h>

/* ---------------------------------------------------------------- a store for a test */

struct open_store {
    syna_db *db;
    syna_sparse *store;
};

static syna_rc try_open(struct open_store *o, const char *name, uint32_t vocabulary)
{
    syna_sparse_options options = {.size = sizeof options, .vocab_size = vocabulary};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    SYNA_TRY(db_open(check_path(name), &log, &o->db));
    syna_rc rc = sparse_new(o->db, &options, &o->store);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        db_close(o->db);
        return status_set(&why);
    }
    return rc;
}

static void open_store(struct open_store *o)
{
    CHECK_OK(try_open(o, "s.svs", 100));
}

static void close_store(struct open_store *o)
{
    sparse_close_snapshot(o->store);
    sparse_free(o->store);
    CHECK_OK(db_close(o->db));
}

static syna_rc index_one(syna_sparse *store, const char *key, const uint32_t *terms,
                         const float *weights, uint64_t count, const char *metadata)
{
    uint64_t offsets[2] = {0, count};
    size_t added;
    syna_sparse_rows rows = {.size = sizeof rows, .count = 1, .offsets = offsets, .terms = terms,
                             .weights = weights, .keys = &key, .metadata = &metadata};
    return sparse_index(store, &rows, &added, NULL);
}

/* A row with one term. */
static syna_rc put(syna_sparse *store, const char *key, uint32_t term, float weight)
{
    return index_one(store, key, &term, &weight, 1, NULL);
}

static syna_rc search_one(syna_sparse *store, uint32_t term, const char *filter,
                          syna_sparse_hit **hits, size_t *count)
{
    uint64_t offsets[2] = {0, 1};
    float weight = 1;
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = &term, .weights = &weight};
    syna_sparse_search how = {.size = sizeof how, .flags = SYNA_SPARSE_METADATA, .k = 10,
                              .filter = filter, .filter_len = filter ? strlen(filter) : 0};
    *hits = NULL;
    return sparse_search(store, &query, &how, hits, count);
}

static void check_best(syna_sparse *store, uint32_t term, size_t count, const char *key, float score)
{
    syna_sparse_hit *hits;
    size_t found;
    CHECK_OK(search_one(store, term, NULL, &hits, &found));
    CHECK_EQ(found, count);
    if (count) {
        CHECK_STR(hits[0].key, key);
        CHECK(hits[0].score == score);
    }
    syna_free_sparse_hits(hits);
}

/* ---------------------------------------------------------------- what it does */

TEST(rows_are_found_replaced_deleted_and_remembered)
{
    struct open_store o;
    int32_t deleted;
    open_store(&o);
    CHECK_OK(put(o.store, "a", 7, 2));
    CHECK_OK(put(o.store, "b", 7, 3));
    check_best(o.store, 7, 2, "b", 3);
    CHECK_OK(put(o.store, "b", 8, 1));
    check_best(o.store, 7, 1, "a", 2);
    CHECK_OK(sparse_delete(o.store, "a", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(sparse_delete(o.store, "a", 1, &deleted));
    CHECK_EQ(deleted, 0);
    check_best(o.store, 7, 0, NULL, 0);
    close_store(&o);
    open_store(&o);
    CHECK_EQ(sparse_count(o.store), 1u);
    check_best(o.store, 8, 1, "b", 1);
    close_store(&o);
}

TEST(metadata_come_back_and_filter)
{
    struct open_store o;
    uint32_t term = 5;
    float weight = 1;
    syna_sparse_hit *hits;
    size_t count;
    open_store(&o);
    CHECK_OK(index_one(o.store, "a", &term, &weight, 1, "{\"n\":1}"));
    CHECK_OK(index_one(o.store, "b", &term, &weight, 1, "{\"n\":2}"));
    CHECK_OK(index_one(o.store, "c", &term, &weight, 1, NULL));
    CHECK_FAILS(index_one(o.store, "d", &term, &weight, 1, "[1]"), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    for (int round = 0; round < 2; round++) { /* the second time from the snapshot */
        CHECK_OK(search_one(o.store, 5, "{\"n\":{\"$gt\":1}}", &hits, &count));
        CHECK_EQ(count, 1u);
        CHECK_STR(hits[0].key, "b");
        CHECK_STR(hits[0].metadata, "{\"n\":2}");
        syna_free_sparse_hits(hits);
        close_store(&o);
        open_store(&o);
    }
    close_store(&o);
}

TEST(bad_rows_are_refused_and_write_nothing)
{
    struct open_store o;
    uint32_t outside = 100, fine = 1;
    float nan_weight = NAN, weight = 1;
    open_store(&o);
    CHECK_OK(put(o.store, "a", 1, 1));
    CHECK_FAILS(put(o.store, "a", outside, 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(index_one(o.store, "a", &fine, &nan_weight, 1, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(index_one(o.store, "", &fine, &weight, 1, NULL), SYNA_ERR_EMPTY_KEY,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(index_one(o.store, "\xff", &fine, &weight, 1, NULL), SYNA_ERR_INVALID_PATH,
                SYNA_WHY_ARGUMENT);
    check_best(o.store, 1, 1, "a", 1);
    CHECK_EQ(sparse_count(o.store), 1u);
    close_store(&o);
    CHECK_FAILS(try_open(&o, "s.svs", 50), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

/* ---------------------------------------------------------------- memory that is not there */

static bool refuse_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return (*left)-- != 0;
}

/* One call after the other with the n-th allocation refused, until one gets through untouched. */
TEST(any_allocation_may_fail_and_the_store_stays_whole)
{
    struct open_store o;
    syna_sparse_hit *hits;
    size_t count;
    open_store(&o);
    CHECK_OK(put(o.store, "first", 3, 1));
    for (int fail_at = 0, done = 0; !done; fail_at++) {
        char key[16];
        int left = fail_at;
        snprintf(key, sizeof key, "k%d", fail_at);
        uint64_t before = sparse_count(o.store);
        syna_test_set_alloc(refuse_at, &left);
        syna_rc rc = put(o.store, key, 3, 2);
        done = left >= 0;
        syna_test_set_alloc(NULL, NULL);
        CHECK_EQ(sparse_count(o.store), before + (rc == SYNA_SUCCESS));
        CHECK_EQ(sparse_contains(o.store, key, strlen(key)), rc == SYNA_SUCCESS);
    }
    for (int fail_at = 0, done = 0; !done; fail_at++) {
        int left = fail_at;
        syna_test_set_alloc(refuse_at, &left);
        syna_rc rc = search_one(o.store, 3, "{\"a\":1}", &hits, &count);
        done = left >= 0;
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS)
            syna_free_sparse_hits(hits);
        else
            CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
    }
    close_store(&o);
    for (int fail_at = 0, done = 0; !done; fail_at++) {
        int left = fail_at;
        syna_test_set_alloc(refuse_at, &left);
        syna_rc rc = try_open(&o, "s.svs", 100);
        done = left >= 0;
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS) {
            CHECK(sparse_contains(o.store, "first", 5));
            close_store(&o);
        }
    }
}

/* ---------------------------------------------------------------- by path */

TEST(the_path_keyed_face)
{
    const char *path = check_path("p.svs"), *copy = check_path("q.svs");
    uint32_t terms[] = {1, 2}, docs, vocabulary, postings, found;
    float weights[] = {0.5f, 2}, average, scores[4];
    char *keys[4];
    CHECK_EQ(syna_svs_exists(path), 0);
    CHECK_EQ(syna_svs_len(path), SYNA_ERR_DB_NOT_FOUND);
    CHECK_OK(syna_svs_new(path));
    CHECK_EQ(syna_svs_exists(path), 1);
    CHECK_EQ(syna_svs_index(path, "a", terms, weights, 2), 0);
    CHECK_EQ(syna_svs_index(path, "b", terms, weights, 1), 1);
    CHECK(syna_svs_index(path, "b", NULL, weights, 1) < 0);
    weights[0] = INFINITY;
    CHECK_EQ(syna_svs_index(path, "b", terms, weights, 1), SYNA_ERR_INVALID_PATH);
    weights[0] = 0.5f;
    CHECK_OK(syna_svs_search(path, terms, weights, 2, 4, keys, scores, &found));
    CHECK_EQ(found, 2u);
    CHECK_STR(keys[0], "a");
    CHECK(scores[0] == 4.25f && scores[1] == 0.25f);
    syna_svs_free_key(keys[0]);
    syna_svs_free_key(keys[1]);
    CHECK_EQ(syna_svs_len(path), 2);
    CHECK_OK(syna_svs_stats(path, &docs, &vocabulary, &postings, &average));
    CHECK_EQ(docs, 2u);
    CHECK_EQ(postings, 3u);
    CHECK(average == 1.5f);
    CHECK_OK(syna_svs_delete(path, "b"));
    CHECK_RC(syna_svs_delete(path, "b"), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(syna_svs_save(path, copy));
    CHECK_OK(syna_svs_close(path));
    CHECK_RC(syna_svs_close(path), SYNA_ERR_DB_NOT_FOUND);
    CHECK_OK(syna_svs_open(copy, NULL));
    CHECK_EQ(syna_svs_len(copy), 1);
    CHECK_OK(syna_svs_close(copy));
    CHECK_OK(syna_svs_open(check_path("r.svs"), copy));
    CHECK_EQ(syna_svs_len(check_path("r.svs")), 1);
    CHECK_OK(syna_svs_close(check_path("r.svs")));
    CHECK(syna_svs_open(check_path("none.svs"), NULL) != SYNA_SUCCESS);
}
