/* The mapped vector store: what it returns, what a checkpoint keeps, what it refuses, views. */
#include "mmap_fixture.h"

#include "math/distance.h"
#include "vfs_fault.h"

#include <float.h>
#include <math.h>

/* ---------------------------------------------------------------- what it does */

TEST(rows_are_found_nearest_first)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    check_found(store, 0, 10, "");
    put(store, "five", 5);
    put(store, "one", 1);
    put(store, "minus", -2);
    check_found(store, 0, 10, "one minus five");
    check_found(store, 4, 2, "five one");
    check_found(store, 0, 0, "");
    CHECK_OK(mmap_vectors_close(store));
}

TEST(the_same_key_replaces_and_moves_to_the_end)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    put(store, "z", 1);
    put(store, "b", 2);
    put(store, "z", 3);
    check_rows(store, "b=2 z=3");
    drop(store, "b");
    check_rows(store, "z=3");
    int32_t deleted = 7;
    CHECK_OK(mmap_vectors_delete(store, "b", 1, &deleted));
    CHECK_EQ(deleted, 0);
    put(store, "b", 4);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, 1);
    check_rows(store, "z=3 b=4");
    check_found(store, 0, 9, "z b");
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

TEST(a_batch_counts_new_keys_and_keeps_the_last_of_two)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    const char *keys[] = {"a", "b", "a", "c"};
    const float rows[] = {1, 2, 3, 4};
    size_t added;
    CHECK_OK(mmap_vectors_insert(store, keys, NULL, rows, 1, 4, &added));
    CHECK_EQ(added, 3);
    check_rows(store, "b=2 a=3 c=4");
    CHECK_OK(mmap_vectors_insert(store, keys, NULL, rows, 1, 2, &added));
    CHECK_EQ(added, 0);
    check_rows(store, "c=4 a=1 b=2");
    CHECK_OK(mmap_vectors_insert(store, keys, NULL, rows, 1, 0, &added));
    CHECK_EQ(added, 0);
    CHECK_OK(mmap_vectors_close(store));
}

TEST(a_batch_with_a_bad_row_or_key_changes_nothing)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    put(store, "a", 1);
    const float bad[][3] = {{2, NAN, 4}, {2, 3, INFINITY}, {-INFINITY, 3, 4}};
    const char *keys[] = {"b", "a", "c"}, *bad_keys[] = {"b", "", "c"}, *null_keys[] = {"b", NULL, "c"};
    const float good[] = {7, 8, 9};
    size_t added;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_FAILS(mmap_vectors_insert(store, keys, NULL, bad[i], 1, 3, &added), SYNA_ERR_GENERIC,
                    SYNA_WHY_ARGUMENT);
        CHECK(strstr(status_get()->message, i == 0 ? "row 1, key a" : i == 1 ? "row 2" : "row 0"));
    }
    CHECK_RC(mmap_vectors_insert(store, bad_keys, NULL, good, 1, 3, &added), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(mmap_vectors_insert(store, null_keys, NULL, good, 1, 3, &added), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(mmap_vectors_insert(store, keys, NULL, good, 2, 1, &added), SYNA_ERR_TYPE_MISMATCH,
                SYNA_WHY_ARGUMENT);
    check_rows(store, "a=1");
    CHECK_OK(mmap_vectors_insert(store, keys, NULL, good, 1, 3, &added));
    check_rows(store, "b=7 a=8 c=9");
    CHECK_OK(mmap_vectors_close(store));
}

TEST(finite_vectors_of_infinite_length_are_kept)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 2);
    const float huge[] = {FLT_MAX, FLT_MAX};
    float back[2];
    CHECK_OK(insert(store, "huge", huge, 2));
    CHECK_OK(mmap_vectors_get(store, "huge", 4, back, 2));
    CHECK_MEM(back, huge, sizeof huge);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

static float cosine(const float *a, const float *b, uint32_t dims)
{
    const struct kernels *k = kernels_get();
    float rank = score_rank(SYNA_METRIC_COSINE, k->dot(a, b, dims), vector_norm(k, a, dims),
                            vector_norm(k, b, dims));
    return score_final(SYNA_METRIC_COSINE, rank);
}

TEST(every_metric_is_honoured_and_survives_reopening)
{
    enum { DIMS = 100, ROWS = 300 };
    static float rows[ROWS][DIMS];
    for (int32_t metric = 0; metric < 3; metric++) {
        char name[16];
        snprintf(name, sizeof name, "%d.mmap", metric);
        syna_mmap *store;
        CHECK_OK(open_as(check_path(name), DIMS, metric, false, &store));
        for (int r = 0; r < ROWS; r++) {
            char key[8];
            snprintf(key, sizeof key, "%d", r);
            for (int i = 0; i < DIMS; i++)
                rows[r][i] = (float)((int)(check_random() % 2001) - 1000) / 100;
            CHECK_OK(insert(store, key, rows[r], DIMS));
        }
        CHECK_OK(mmap_vectors_close(store));
        CHECK_OK(open_as(check_path(name), DIMS, metric, false, &store));
        syna_search how = {.size = sizeof how, .k = ROWS, .flags = SYNA_SEARCH_VECTORS};
        syna_hit *hits;
        size_t count;
        CHECK_OK(mmap_vectors_search(store, rows[7], 1, DIMS, &how, &hits, &count));
        CHECK_EQ(count, ROWS);
        for (size_t i = 0; i < count; i++) {
            const float *v = rows[atoi(hits[i].key)];
            CHECK_MEM(hits[i].vector, v, sizeof rows[0]);
            CHECK(i == 0 || hits[i].score >= hits[i - 1].score);
            const struct kernels *k = kernels_get();
            float expected = metric == SYNA_METRIC_COSINE ? cosine(rows[7], v, DIMS)
                             : metric == SYNA_METRIC_EUCLIDEAN
                                 ? sqrtf(k->l2sq(rows[7], v, DIMS))
                                 : -k->dot(rows[7], v, DIMS);
            CHECK(hits[i].score == expected);
        }
        syna_free_hits(hits);
        CHECK_OK(mmap_vectors_close(store));
    }
}

TEST(searches_in_a_batch_and_with_a_radius)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    const float queries[] = {0, 10};
    for (int i = 0; i < 200; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        put(store, key, (float)i);
    }
    syna_search how = {.size = sizeof how, .k = UINT64_MAX, .flags = SYNA_SEARCH_RADIUS, .radius = 2};
    syna_hit *hits;
    size_t counts[2];
    CHECK_OK(mmap_vectors_search(store, queries, 2, 1, &how, &hits, counts));
    CHECK(counts[0] == 3 && counts[1] == 5);
    CHECK_STR(joined(hits, 8), "0 1 2 10 9 11 8 12");
    syna_free_hits(hits);
    how.radius = NAN;
    CHECK_FAILS(mmap_vectors_search(store, queries, 2, 1, &how, &hits, counts), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    how = (syna_search){.size = sizeof how, .k = 1, .flags = 0x100};
    CHECK_FAILS(mmap_vectors_search(store, queries, 2, 1, &how, &hits, counts), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    const float nan = NAN;
    how.flags = 0;
    CHECK_FAILS(mmap_vectors_search(store, &nan, 1, 1, &how, &hits, counts), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(mmap_vectors_search(store, queries, 1, 2, &how, &hits, counts),
                SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT);
    CHECK_OK(mmap_vectors_close(store));
}

TEST(dimensions_and_metric_are_fixed_by_the_first_row)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 3);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, 1); /* empty: the latest decides */
    CHECK_FAILS(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &store), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    put(store, "a", 1);
    syna_mmap_options other = {.size = sizeof other, .dimensions = 2, .metric = 1};
    CHECK_FAILS(mmap_vectors_again(store, &other), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    drop(store, "a");
    CHECK_OK(mmap_vectors_again(store, &other)); /* its dead row goes */
    const float v[] = {1, 2};
    CHECK_OK(insert(store, "a", v, 2));
    CHECK_OK(mmap_vectors_close(store));
    CHECK_FAILS(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &store), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(open_as(path, 2, SYNA_METRIC_COSINE, true, &store), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    store = open_store(path, 2);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

TEST(the_largest_dimensions_work)
{
    const char *path = check_path("a.mmap");
    static float v[SYNA_DIMENSIONS_MAX], back[SYNA_DIMENSIONS_MAX];
    syna_mmap *store = open_store(path, SYNA_DIMENSIONS_MAX);
    for (int r = 0; r < 5; r++) {
        char key[2] = {(char)('a' + r), 0};
        for (size_t i = 0; i < COUNT_OF(v); i++)
            v[i] = (float)(i % 97) + (float)r;
        CHECK_OK(insert(store, key, v, SYNA_DIMENSIONS_MAX));
    }
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, SYNA_DIMENSIONS_MAX);
    CHECK_OK(mmap_vectors_get(store, "e", 1, back, SYNA_DIMENSIONS_MAX));
    CHECK_MEM(back, v, sizeof v);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
    for (uint32_t dims = 0; dims <= 65536; dims += 65536)
        CHECK_FAILS(open_as(check_path("b"), dims, 0, false, &store), SYNA_ERR_GENERIC,
                    SYNA_WHY_ARGUMENT);
    CHECK_FAILS(open_as(check_path("b"), 4, 3, false, &store), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(keys_of_every_length_are_kept_and_longer_ones_refused)
{
    const char *path = check_path("a.mmap");
    static char key[SYNA_VECTOR_KEY_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    const char *k = key;
    const float x = 1;
    size_t added, len = SYNA_VECTOR_KEY_MAX + 1;
    syna_mmap *store = open_store(path, 1);
    CHECK_RC(mmap_vectors_insert(store, &k, &len, &x, 1, 1, &added), SYNA_ERR_KEY_TOO_LONG);
    for (len = SYNA_VECTOR_KEY_MAX; len > 0; len = len * 2 / 3)
        CHECK_OK(mmap_vectors_insert(store, &k, &len, &x, 1, 1, &added));
    uint64_t count = mmap_vectors_count(store);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, 1);
    CHECK_EQ(mmap_vectors_count(store), count);
    bool found;
    CHECK_OK(mmap_vectors_contains(store, key, SYNA_VECTOR_KEY_MAX, &found));
    CHECK(found);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- durability */

static void rows_without_a_checkpoint(syna_mmap *store)
{
    put(store, "a", 1);
    put(store, "b", 2);
    CHECK_OK(mmap_vectors_checkpoint(store));
    put(store, "a", 3);
    put(store, "c", 4);
    drop(store, "b");
}

TEST(P1_P3_after_a_crash_the_store_is_that_of_the_last_checkpoint)
{
    const char *path = check_path("a.mmap");
    crash_after(path, rows_without_a_checkpoint);
    syna_mmap *store = open_store(path, 1);
    check_rows(store, "a=1 b=2");
    put(store, "d", 5); /* over what was left there */
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, 1);
    check_rows(store, "a=1 b=2 d=5");
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

TEST(a_checkpoint_without_changes_writes_nothing)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    syna_mmap_stats stats = {.size = sizeof stats};
    put(store, "a", 1);
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_OK(mmap_vectors_get_stats(store, &stats));
    uint64_t before = stats.checkpoints;
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_OK(mmap_vectors_get_stats(store, &stats));
    CHECK_EQ(stats.checkpoints, before);
    CHECK_EQ(stats.rows, 1);
    CHECK_EQ(stats.unsaved_rows, 0);
    CHECK_STR(stats.simd, kernels_get()->name);
    CHECK_OK(mmap_vectors_close(store));
}

/* The slot that an opening finds may be in the page cache only: the first flush syncs it. */
TEST(the_first_checkpoint_without_changes_syncs_what_was_found)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    put(store, "a", 1);
    CHECK_OK(mmap_vectors_close(store));
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    store = open_store(path, 1);
    fault_arm(NULL);
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_EQ(fault_count(FAULT_SYNC), 1);
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_EQ(fault_count(FAULT_SYNC), 1);
    CHECK_EQ(fault_count(FAULT_WRITE), 0);
    CHECK_OK(mmap_vectors_close(store));
    syna_test_set_vfs(NULL);
}

TEST(P8_a_failed_sync_ends_the_writing)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    put(store, "a", 1);
    CHECK_OK(mmap_vectors_checkpoint(store));
    put(store, "b", 2);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 1, .system = EIO, .only = 1u << FAULT_SYNC});
    CHECK_FAILS(mmap_vectors_checkpoint(store), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    fault_arm(NULL);
    const float x = 3;
    CHECK_FAILS(insert(store, "c", &x, 1), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    CHECK_FAILS(mmap_vectors_checkpoint(store), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    check_rows(store, "a=1 b=2");
    CHECK_OK(mmap_vectors_close(store));
    syna_test_set_vfs(NULL);
    store = open_store(path, 1);
    check_rows(store, "a=1");
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- views */

TEST(a_view_outlives_replacement_compaction_and_close)
{
    syna_mmap *store = open_store(check_path("a.mmap"), 1);
    const float *view, *other;
    syna_mmap_pin *pin, *pins;
    CHECK_RC(mmap_vectors_view(store, "a", 1, &view, &pin), SYNA_ERR_KEY_NOT_FOUND);
    put(store, "a", 1);
    CHECK_OK(mmap_vectors_view(store, "a", 1, &view, &pin));
    put(store, "a", 2);
    CHECK(*view == 1);
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    CHECK_OK(mmap_vectors_view(store, "a", 1, &other, &pins));
    CHECK(*view == 1 && *other == 2);
    CHECK_OK(mmap_vectors_close(store));
    CHECK(*view == 1 && *other == 2);
    mmap_vectors_unpin(pin);
    CHECK(*other == 2);
    mmap_vectors_unpin(pins);
    mmap_vectors_unpin(NULL);
}
