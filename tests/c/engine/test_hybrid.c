/* The hybrid store in C: whatever fails, memory at any call or the disk at any call, every key has one row;
 * beside each other threads ingest, delete, search and promote. What it finds is tested in Python
 * (tests/python/test_hybrid.py), what a crash leaves in test_hybrid_crash.c. */
#include "check.h"

#include "engine/hybrid_core.h"
#include "vfs_fault.h"

#define DIMS 4u
#define SOME 40u

/* ---------------------------------------------------------------- a store for a test */

static syna_rc try_open_as(uint64_t promote_rows, bool read_only, syna_layers **out)
{
    struct hybrid_setup setup = {.cold_path = check_path("a.cascade"),
                                 .options = {.size = sizeof setup.options,
                                             .dimensions = DIMS,
                                             .metric = SYNA_METRIC_EUCLIDEAN,
                                             .threads = 1,
                                             .read_only = read_only,
                                             .promote_rows = promote_rows}};
    return hybrid_open(check_path("a.gwi"), &setup, out);
}

static syna_rc try_open(uint64_t promote_rows, syna_layers **out)
{
    return try_open_as(promote_rows, false, out);
}

static syna_layers *open_store(uint64_t promote_rows)
{
    syna_layers *store;
    CHECK_OK(try_open(promote_rows, &store));
    return store;
}

static void remove_files(void)
{
    const char *names[] = {"a.gwi", "a.cascade", "a.gwi.wells", "a.cascade.index"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(check_path(names[i]));
}

/* Rows of keys [first, first + count), all of one value. */
static syna_rc put_some(syna_layers *store, uint32_t first, uint32_t count, float value)
{
    char names[SOME][8];
    const char *keys[SOME], *metadata[SOME];
    float vectors[SOME][DIMS];
    size_t added;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "k%u", first + i);
        keys[i] = names[i];
        metadata[i] = i % 2 ? NULL : "{\"even\":true}";
        for (uint32_t d = 0; d < DIMS; d++)
            vectors[i][d] = value + (float)(first + i);
    }
    struct gwi_batch batch = {
        .keys = keys, .vectors = vectors[0], .metadata = metadata, .dims = DIMS, .count = count};
    return hybrid_ingest(store, &batch, &added);
}

static bool has_key(const syna_hit *hits, size_t count, const char *key)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += strcmp(hits[i].key, key) == 0;
    CHECK(found <= 1);
    return found == 1;
}

/* The list, the counts, look-ups and a search say the same. */
static void check_agrees(syna_layers *store)
{
    float query[DIMS] = {0}, vector[DIMS];
    syna_layers_search_options how = {
        .size = sizeof how, .k = UINT64_MAX, .flags = SYNA_SEARCH_VECTORS};
    syna_hit *hits, *rows;
    uint8_t *sources;
    size_t found, listed, hot = 0;
    CHECK_OK(hybrid_search(store, query, 1, DIMS, &how, &hits, &sources, &found));
    CHECK_OK(hybrid_rows(store, SYNA_SEARCH_VECTORS, &rows, NULL, &listed));
    CHECK_EQ(found, listed);
    CHECK_EQ(hybrid_count(store), listed);
    for (size_t i = 0; i < found; i++) {
        CHECK(has_key(rows, listed, hits[i].key));
        CHECK(has_key(hits, found, rows[i].key));
        CHECK_OK(hybrid_get(store, rows[i].key, rows[i].key_len, vector, DIMS));
        CHECK_MEM(rows[i].vector, vector, sizeof vector);
        hot += sources[i] == SYNA_LAYER_HOT;
    }
    CHECK_EQ(hybrid_count_in(store, SYNA_LAYER_HOT), hot);
    CHECK_EQ(hybrid_count_in(store, SYNA_LAYER_COLD), found - hot);
    syna_free_hits(hits);
    syna_free_hits(rows);
}

/* ---------------------------------------------------------------- no memory, no disk */

static syna_layers *begun_store(void)
{
    size_t moved;
    syna_layers *store = open_store(0);
    CHECK_OK(put_some(store, 0, 20, 0));
    CHECK_OK(hybrid_promote(store, NULL, NULL, &moved));
    CHECK_EQ(moved, 20);
    CHECK_OK(put_some(store, 15, 10, 100));
    CHECK_OK(hybrid_save(store));
    return store;
}

static syna_rc work(syna_layers *store)
{
    float query[DIMS] = {0};
    syna_layers_search_options how = {
        .size = sizeof how, .k = 3, .filter = "{\"even\":true}", .filter_len = 13};
    syna_hit *hits = NULL;
    int32_t deleted;
    size_t count, moved;
    SYNA_TRY(put_some(store, 10, 10, 200)); /* replaces cold and hot ones */
    SYNA_TRY(hybrid_delete(store, "k3", 2, &deleted));
    SYNA_TRY(hybrid_delete(store, "k12", 3, &deleted));
    SYNA_TRY(hybrid_delete(store, "k24", 3, &deleted));
    SYNA_TRY(hybrid_update_metadata(store, "k5", 2, "{\"n\":1}", 7, false));
    SYNA_TRY(hybrid_search(store, query, 1, DIMS, &how, &hits, NULL, &count));
    syna_free_hits(hits);
    SYNA_TRY(hybrid_flush_hot(store));
    SYNA_TRY(hybrid_promote(store, NULL, NULL, &moved));
    SYNA_TRY(put_some(store, 30, 5, 0));
    SYNA_TRY(hybrid_save(store));
    return hybrid_compact(store, NULL, NULL);
}

/* What was there before the work is there, as it was or as the work leaves it. */
static void check_nothing_lost(syna_layers *store)
{
    static const char *const never_changed[] = {"k0", "k1", "k2", "k4", "k20", "k23"};
    bool found;
    check_agrees(store);
    for (size_t i = 0; i < COUNT_OF(never_changed); i++) {
        CHECK_OK(hybrid_contains(store, never_changed[i], strlen(never_changed[i]), &found));
        CHECK(found);
    }
    uint64_t count = hybrid_count(store);
    CHECK(count >= 22 && count <= 30);
}

static bool fail_at(void *context, size_t bytes)
{
    (void)bytes;
    int *left = context;
    return __atomic_sub_fetch(left, 1, __ATOMIC_RELAXED) != 0;
}

TEST(P7_without_memory_at_any_call_every_key_has_one_row)
{
    for (int k = 1, done = 0; !done; k += 1 + k / 32) {
        syna_layers *store = begun_store();
        int left = k;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = work(store);
        syna_test_set_alloc(NULL, NULL);
        done = left > 0;
        if (rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        check_nothing_lost(store);
        CHECK_OK(put_some(store, 0, 3, 300));
        CHECK_OK(hybrid_close(store));
        store = open_store(0);
        check_nothing_lost(store);
        CHECK_OK(hybrid_close(store));
        remove_files();
    }
}

TEST(P7_without_memory_while_opening_nothing_leaks)
{
    CHECK_OK(hybrid_close(begun_store()));
    for (int k = 1;; k++) {
        syna_layers *store;
        int left = k;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = try_open(0, &store);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS) {
            check_nothing_lost(store);
            CHECK_OK(hybrid_close(store));
        } else {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        }
        if (left > 0)
            break;
    }
}

TEST(P7_P8_a_disk_that_fails_at_any_call_loses_nothing_that_was_covered)
{
    for (int k = 1, done = 0; !done; k++) {
        syna_layers *store = begun_store();
        fault_begin(&vfs_posix);
        syna_test_set_vfs(&vfs_fault);
        fault_arm(&(struct fault){.at = k, .system = k % 2 ? EIO : ENOSPC, .forever = k % 3 == 0});
        check_note("k = %d", k);
        syna_rc rc = work(store);
        check_agrees(store);
        syna_rc closed = hybrid_close(store);
        done = fault_fired() == 0;
        syna_test_set_vfs(NULL);
        CHECK(!done || (rc == SYNA_SUCCESS && closed == SYNA_SUCCESS));
        store = open_store(0);
        check_nothing_lost(store);
        CHECK(rc != SYNA_SUCCESS || hybrid_count(store) == 27);
        CHECK_OK(hybrid_close(store));
        remove_files();
    }
}

static int32_t stop_later(void *context, uint64_t done, uint64_t total)
{
    int *left = context;
    CHECK(done <= total);
    return --*left <= 0;
}

TEST(a_promotion_that_is_stopped_anywhere_goes_on_later)
{
    syna_layers *store = open_store(0);
    size_t moved = 0;
    for (int n = 1, stopped = 1; stopped; n++) {
        int left = n;
        check_note("n = %d", n);
        for (uint32_t first = 0; first < 1200; first += SOME)
            CHECK_OK(put_some(store, first, SOME, (float)n));
        syna_rc rc = hybrid_promote(store, stop_later, &left, &moved);
        stopped = rc != SYNA_SUCCESS;
        if (stopped)
            CHECK_FAILS(rc, SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
        CHECK_EQ(hybrid_count(store), 1200);
        if (n % 2) { /* what was copied is taken for outdated then */
            CHECK_OK(hybrid_close(store));
            store = open_store(0);
        }
        check_agrees(store);
    }
    CHECK_EQ(moved, 1200);
    CHECK_EQ(hybrid_count_in(store, SYNA_LAYER_HOT), 0);
    CHECK_OK(hybrid_close(store));
}

/* ---------------------------------------------------------------- threads */

struct crowd {
    syna_layers *store;
    bool done;        /* atomic */
    uint32_t changes; /* atomic: refreshes of a reader that brought something */
};

static bool goes_on(struct crowd *c)
{
    return !__atomic_load_n(&c->done, __ATOMIC_ACQUIRE);
}

static void *ingests(void *context)
{
    struct crowd *c = context;
    for (int n = 0; n < 60; n++) {
        CHECK_OK(put_some(c->store, 0, 20, (float)(n + 1)));
        CHECK_OK(put_some(c->store, 40 + (uint32_t)n % 20, 10, 0));
    }
    __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void *deletes(void *context)
{
    struct crowd *c = context;
    char key[8];
    int32_t deleted;
    for (uint32_t n = 0; goes_on(c); n++) {
        snprintf(key, sizeof key, "k%u", 40 + n % 30);
        CHECK_OK(hybrid_delete(c->store, key, strlen(key), &deleted));
    }
    return NULL;
}

/* Keys 20 to 39 are never touched, 0 to 19 only replaced. */
static void *searches(void *context)
{
    struct crowd *c = context;
    float query[DIMS] = {0};
    syna_layers_search_options how = {.size = sizeof how, .k = UINT64_MAX};
    while (goes_on(c)) {
        syna_hit *hits;
        size_t count, seen = 0;
        CHECK_OK(hybrid_search(c->store, query, 1, DIMS, &how, &hits, NULL, &count));
        for (size_t i = 0; i < count; i++) {
            seen += strtoul(hits[i].key + 1, NULL, 10) < 40;
            CHECK(i < 1 || hits[i - 1].score <= hits[i].score);
        }
        CHECK_EQ(seen, 40);
        syna_free_hits(hits);
    }
    return NULL;
}

static void *promotes(void *context)
{
    struct crowd *c = context;
    size_t moved;
    while (goes_on(c)) {
        CHECK_OK(hybrid_promote(c->store, NULL, NULL, &moved));
        CHECK_OK(hybrid_flush_hot(c->store));
    }
    return NULL;
}

TEST(P12_each_key_is_seen_once_while_rows_come_move_and_go)
{
    void *(*const work_of[])(void *) = {ingests, deletes, searches, searches, promotes};
    pthread_t threads[COUNT_OF(work_of)];
    struct crowd crowd = {.store = open_store(25)}; /* and promotions by themselves */
    CHECK_OK(put_some(crowd.store, 0, SOME, 0));
    for (size_t i = 0; i < COUNT_OF(work_of); i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, work_of[i], &crowd), 0);
    for (size_t i = 0; i < COUNT_OF(work_of); i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    promoter_stop(&crowd.store->promoter);
    check_agrees(crowd.store);
    CHECK_OK(hybrid_close(crowd.store));
    syna_layers *store = open_store(0);
    check_agrees(store);
    CHECK_OK(hybrid_close(store));
}

/* ---------------------------------------------------------------- readers */

static syna_layers *open_reader(void)
{
    syna_layers *store;
    CHECK_OK(try_open_as(5, true, &store));
    return store;
}

static int no_sync(vfs_fd fd)
{
    (void)fd;
    return 0;
}

/* Key after key gets the next value, and each is made durable: at every moment the values do not grow from
 * key to key, and differ by one at most. Goes on until the reader had news, however late it came. */
static void *turns(void *context)
{
    struct crowd *c = context;
    size_t moved;
    for (uint32_t n = 0; n < 60 * SOME / 4 || __atomic_load_n(&c->changes, __ATOMIC_ACQUIRE) < 2; n++) {
        CHECK_OK(put_some(c->store, n % (SOME / 4), 1, 10.0F * (float)(1 + n / (SOME / 4))));
        CHECK_OK(hybrid_flush_hot(c->store));
        if (n % 7 == 0)
            CHECK_OK(hybrid_promote(c->store, NULL, NULL, &moved));
        if (n % 97 == 0)
            CHECK_OK(hybrid_compact(c->store, NULL, NULL));
    }
    __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* By number of key. */
static void values_of(syna_layers *reader, float values[SOME / 4])
{
    float query[DIMS] = {0};
    syna_layers_search_options how = {
        .size = sizeof how, .k = UINT64_MAX, .flags = SYNA_SEARCH_VECTORS};
    syna_hit *hits;
    size_t count;
    CHECK_OK(hybrid_search(reader, query, 1, DIMS, &how, &hits, NULL, &count));
    CHECK_EQ(count, SOME / 4);
    CHECK_EQ(hybrid_count(reader), count);
    for (size_t i = 0; i < count; i++) {
        unsigned long key = strtoul(hits[i].key + 1, NULL, 10);
        CHECK(key < SOME / 4);
        values[key] = hits[i].vector[0] - (float)key;
    }
    syna_free_hits(hits);
}

static void *follows(void *context)
{
    struct crowd *c = context;
    syna_layers *reader = open_reader();
    do {
        bool changed;
        float values[SOME / 4];
        CHECK_OK(hybrid_refresh(reader, &changed));
        __atomic_add_fetch(&c->changes, changed, __ATOMIC_ACQ_REL);
        values_of(reader, values);
        for (size_t i = 1; i < SOME / 4; i++)
            CHECK(values[i] <= values[i - 1]);
        CHECK(values[0] - values[SOME / 4 - 1] <= 10);
    } while (goes_on(c));
    CHECK_OK(hybrid_close(reader));
    return NULL;
}

TEST(P12_a_reader_sees_one_moment_of_both_layers)
{
    pthread_t writer, reader;
    struct vfs quick = vfs_posix;
    quick.sync_data = no_sync;
    syna_test_set_vfs(&quick);
    struct crowd crowd = {.store = open_store(0)};
    CHECK_OK(put_some(crowd.store, 0, SOME / 4, 0));
    CHECK_OK(hybrid_save(crowd.store));
    CHECK_EQ(pthread_create(&writer, NULL, turns, &crowd), 0);
    CHECK_EQ(pthread_create(&reader, NULL, follows, &crowd), 0);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK_EQ(pthread_join(reader, NULL), 0);
    CHECK_OK(hybrid_close(crowd.store));
    syna_test_set_vfs(NULL);
}

/* Nothing of what the file holds is missing after an error: reads say so until a refresh succeeds. */
TEST(P7_a_refresh_without_memory_at_any_call_hides_nothing)
{
    for (int k = 1, done = 0; !done; k += 1 + k / 16) {
        syna_layers *store = begun_store(), *reader = open_reader();
        int left = k;
        bool changed, found;
        CHECK_OK(work(store));
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = hybrid_refresh(reader, &changed);
        syna_test_set_alloc(NULL, NULL);
        done = left > 0;
        if (rc == SYNA_SUCCESS) {
            CHECK(changed);
        } else {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            rc = hybrid_contains(reader, "k0", 2, &found);
            CHECK(rc == SYNA_ERR_IO || (rc == SYNA_SUCCESS && found));
            CHECK_OK(hybrid_refresh(reader, &changed));
        }
        CHECK_EQ(hybrid_count(reader), 27);
        check_agrees(reader);
        CHECK_OK(hybrid_close(reader));
        CHECK_OK(hybrid_close(store));
        remove_files();
    }
}

TEST(a_reader_changes_nothing)
{
    syna_layers *store = begun_store(), *reader = open_reader();
    float sample[DIMS] = {1, 2, 3, 4};
    int32_t deleted;
    size_t moved;
    bool changed;
    CHECK_FAILS(put_some(reader, 0, 3, 1), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_initialize_hot(reader, sample, 1, DIMS, NULL, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_delete(reader, "k0", 2, &deleted), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_delete(reader, "no", 2, &deleted), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_update_metadata(reader, "k0", 2, NULL, 0, true), SYNA_ERR_GENERIC,
                SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_promote(reader, NULL, NULL, &moved), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_flush_hot(reader), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_save_cold(reader), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_save(reader), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(hybrid_compact(reader, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(hybrid_refresh(store, &changed));
    CHECK(!changed);
    CHECK_OK(hybrid_refresh(reader, &changed));
    CHECK(!changed);
    check_agrees(reader);
    CHECK_OK(hybrid_close(reader));
    CHECK_OK(hybrid_close(store));
    remove_files();
    CHECK_RC(try_open_as(0, true, &reader), SYNA_ERR_IO); /* it makes no files either */
}

/* ---------------------------------------------------------------- the C interface */

TEST(structs_that_are_too_short_and_null_pointers_are_refused)
{
    const char *hot = check_path("a.gwi"), *cold = check_path("a.cascade");
    syna_layers *store;
    syna_layers_options options = {.size = 4, .dimensions = DIMS};
    CHECK_FAILS(syna_layers_open(hot, cold, &options, &store), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    options.size = sizeof options;
    CHECK_RC(syna_layers_open(NULL, cold, &options, &store), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_layers_open(hot, NULL, &options, &store), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_layers_open(hot, hot, &options, &store), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_layers_open(hot, cold, &options, &store));
    syna_hit *hits;
    float query[DIMS] = {0};
    size_t count;
    syna_layers_search_options how = {.size = 8, .k = 1};
    CHECK_FAILS(syna_layers_search(store, query, 1, DIMS, &how, &hits, NULL, &count),
                SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    how.size = sizeof how;
    how.layers = 3;
    CHECK_FAILS(syna_layers_search(store, query, 1, DIMS, &how, &hits, NULL, &count),
                SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_layers_update_metadata(store, "a", 1, NULL, 0, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_layers_close(NULL), SYNA_ERR_INVALID_PATH);
    CHECK_OK(syna_layers_close(store));
}

TEST(the_functions_by_path_do_as_the_seeds_say)
{
    const char *hot = check_path("a.gwi"), *cold = check_path("a.cascade"), *keys[] = {"a", "b"};
    float rows[2][DIMS] = {{1, 0, 0, 0}, {0, 1, 0, 0}};
    char *json = (char *)1;
    CHECK_FAILS(syna_hybrid_new(hot, cold, 0), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_hybrid_ingest(hot, "a", rows[0], DIMS), SYNA_ERR_DB_NOT_FOUND);
    CHECK_EQ(syna_hybrid_len(hot), SYNA_ERR_DB_NOT_FOUND);
    CHECK_OK(syna_hybrid_new(hot, cold, DIMS));
    CHECK_OK(syna_hybrid_initialize_hot(hot, rows[0], 2, DIMS));
    CHECK_RC(syna_hybrid_ingest(hot, "a", rows[0], DIMS + 1), SYNA_ERR_TYPE_MISMATCH);
    CHECK_RC(syna_hybrid_ingest(hot, NULL, rows[0], DIMS), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_hybrid_ingest_batch(hot, keys, rows[0], DIMS, 2), 2);
    CHECK_EQ(syna_hybrid_promote_to_cold(hot), 2);
    CHECK_OK(syna_hybrid_ingest(hot, "b", rows[0], DIMS));
    CHECK_EQ(syna_hybrid_search(hot, rows[0], DIMS, 5, &json), 2);
    CHECK_STR(json, "[{\"key\":\"a\",\"score\":0.0,\"source\":\"cold\"},"
                    "{\"key\":\"b\",\"score\":0.0,\"source\":\"hot\"}]");
    syna_free_json(json);
    CHECK_EQ(syna_hybrid_search_hot(hot, rows[0], DIMS, 5, &json), 1);
    syna_free_json(json);
    CHECK_EQ(syna_hybrid_search_cold(hot, rows[0], DIMS, 5, &json), 1);
    CHECK_STR(json, "[{\"key\":\"a\",\"score\":0.0,\"source\":\"cold\"}]");
    syna_free_json(json);
    CHECK_EQ(syna_hybrid_search(hot, NULL, DIMS, 5, &json), SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_EQ(syna_hybrid_hot_count(hot), 1);
    CHECK_EQ(syna_hybrid_cold_count(hot), 1);
    CHECK_EQ(syna_hybrid_delete(hot, "b"), 1);
    CHECK_EQ(syna_hybrid_delete(hot, "b"), 0);
    CHECK_EQ(syna_hybrid_len(hot), 1);
    CHECK_OK(syna_hybrid_flush_hot(hot));
    CHECK_OK(syna_hybrid_save_cold(hot));
    CHECK_OK(syna_hybrid_close(hot));
    CHECK_RC(syna_hybrid_close(hot), SYNA_ERR_DB_NOT_FOUND);
}
