/* The cascade index on disk: what it returns, what a flush keeps, what a failure at any call leaves behind,
 * damage, and the path-keyed face. */
#include "check.h"

#include "engine/cascade_store_core.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#include <math.h>

enum { MANY = 2100 }; /* enough for the index to be built */

/* ---------------------------------------------------------------- an index for a test */

static syna_rc open_as(const char *path, bool read_only, syna_buckets **out)
{
    syna_buckets_options options = {.size = sizeof options,
                                    .dimensions = 2,
                                    .metric = SYNA_METRIC_EUCLIDEAN,
                                    .read_only = read_only,
                                    .bucket_capacity = 16,
                                    .threads = 1};
    return cascade_store_open(path, &options, out);
}

static syna_buckets *open_store(const char *path)
{
    syna_buckets *store;
    CHECK_OK(open_as(path, false, &store));
    return store;
}

static syna_rc insert(syna_buckets *store, const char *const *keys, const float *rows, size_t count,
                      const char *const *metadata)
{
    struct row_batch batch = {.keys = keys, .vectors = rows, .metadata = metadata, .dims = 2,
                              .count = count};
    size_t added;
    return cascade_store_insert(store, &batch, &added);
}

/* Rows "r0", "r1" ... far from everything that the tests look for, in one batch. */
static void insert_many(syna_buckets *store)
{
    static char names[MANY][8];
    const char *keys[MANY];
    float rows[MANY * 2];
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "r%zu", i);
        keys[i] = names[i];
        rows[2 * i] = 1000 + (float)(check_random() % 1000);
        rows[2 * i + 1] = 1000 + (float)(check_random() % 1000);
    }
    CHECK_OK(insert(store, keys, rows, MANY, NULL));
}

/* Keys that do not begin with "r", in the order written, joined by spaces. */
static const char *others_of(syna_buckets *store)
{
    static char text[256];
    syna_hit *hits;
    size_t count;
    CHECK_OK(cascade_store_rows(store, SYNA_SEARCH_VECTORS, &hits, &count));
    CHECK_EQ(cascade_store_count(store), count);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        if (hits[i].key[0] != 'r')
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%g", text[0] ? " " : "",
                     hits[i].key, (double)hits[i].vector[0]);
    syna_free_hits(hits);
    return text;
}

static syna_rc search(syna_buckets *store, uint32_t flags, const char *filter, char *nearest)
{
    const float query[] = {0, 0};
    syna_buckets_search_options how = {.size = sizeof how, .k = 1, .flags = flags, .filter = filter,
                                       .filter_len = filter ? strlen(filter) : 0};
    syna_hit *hits;
    size_t count;
    SYNA_TRY(cascade_store_search(store, query, 1, 2, &how, &hits, &count));
    nearest[0] = '\0';
    if (count)
        snprintf(nearest, 16, "%s", hits[0].key);
    syna_free_hits(hits);
    return SYNA_SUCCESS;
}

static void check_sound(const char *path)
{
    syna_check found = {.size = sizeof found};
    CHECK_OK(cascade_store_verify(path, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
}

/* ---------------------------------------------------------------- what a failure leaves behind */

static const char *const four_keys[] = {"a", "b", "c", "d"};
static const float four_rows[] = {1, 0, 2, 0, 3, 0, 4, 0};
static const char *const four_metas[] = {"{\"n\":1}", NULL, "{\"n\":3}", "{\"n\":4}"};

static syna_rc work(syna_buckets *store, bool compact)
{
    char nearest[16];
    int32_t deleted;
    SYNA_TRY(insert(store, four_keys, four_rows, 4, four_metas));
    SYNA_TRY(cascade_store_delete(store, "b", 1, &deleted));
    SYNA_TRY(cascade_store_update_metadata(store, "d", 1, "{\"m\":5}", 7, false));
    SYNA_TRY(search(store, 0, NULL, nearest));
    CHECK_STR(nearest, "a");
    SYNA_TRY(search(store, 0, "{\"m\":5}", nearest));
    CHECK_STR(nearest, "d");
    SYNA_TRY(search(store, 0, "{\"n\":{\"$gt\":1}}", nearest));
    CHECK_STR(nearest, "c");
    SYNA_TRY(cascade_store_save(store));
    if (compact)
        SYNA_TRY(cascade_store_compact(store, NULL, NULL));
    SYNA_TRY(search(store, SYNA_SEARCH_EXACT, NULL, nearest));
    CHECK_STR(nearest, "a");
    return SYNA_SUCCESS;
}

/* What "d" has, if it is there: as it was inserted, or as it was changed. */
static void check_metadata(syna_buckets *store, bool changed)
{
    char *text;
    size_t len;
    if (cascade_store_get_metadata(store, "d", 1, &text, &len) != SYNA_SUCCESS)
        return;
    if (changed || strcmp(text, "{\"n\":4}") != 0)
        CHECK_STR(text, "{\"n\":4,\"m\":5}");
    mem_free(text);
}

struct failing {
    bool memory;  /* allocations, else calls to the system */
    bool forever; /* and all after it */
    int system;
    bool many; /* with an index that was built */
};

/* One round: the k-th call fails. false: there are fewer. */
static bool fail_at(const struct failing *f, int64_t k)
{
    struct mem_fs *fs = mem_fs_new(5);
    mem_fs_use(fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    syna_buckets *store = open_store(MEM_DIR "/a.cascade");
    if (f->many)
        insert_many(store);
    CHECK_OK(insert(store, four_keys, (const float[]){0, 0}, 1, NULL));
    CHECK_OK(cascade_store_close(store));
    if (f->memory)
        fault_alloc(k, f->forever);
    else
        fault_arm(&(struct fault){.at = k, .system = f->system, .forever = f->forever});
    store = NULL;
    syna_rc rc = open_as(MEM_DIR "/a.cascade", false, &store);
    if (rc == SYNA_SUCCESS)
        rc = work(store, !f->many);
    if (store) {
        syna_rc closed = cascade_store_close(store);
        rc = rc == SYNA_SUCCESS ? closed : rc;
    }
    bool fired = f->memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
    fault_alloc(0, false);
    fault_arm(NULL);
    if (!fired)
        CHECK_OK(rc);
    store = open_store(MEM_DIR "/a.cascade");
    const char *rows = others_of(store);
    CHECK(strcmp(rows, "a=0") == 0 || strcmp(rows, "a=1 b=2 c=3 d=4") == 0 ||
          strcmp(rows, "a=1 c=3 d=4") == 0);
    if (rc == SYNA_SUCCESS)
        CHECK_STR(rows, "a=1 c=3 d=4");
    check_metadata(store, rc == SYNA_SUCCESS);
    CHECK_EQ(store->base.rows.live, store->index.linked ? store->index.filed : store->base.rows.live);
    CHECK_OK(cascade_store_close(store));
    check_sound(MEM_DIR "/a.cascade");
    CHECK_EQ(mem_fs_open_count(fs), 0);
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    return fired;
}

static void fail_each(struct failing f, int64_t slow)
{
    for (int64_t k = 1, more = 1; more; k += 1 + k / slow) {
        check_note("%s %lld%s, errno %d", f.memory ? "allocation" : "call", (long long)k,
                   f.forever ? " and all after it" : "", f.system);
        more = fail_at(&f, k);
    }
}

TEST(P7_every_allocation_may_fail)
{
    fail_each((struct failing){.memory = true}, 1000);
    fail_each((struct failing){.memory = true, .forever = true}, 1000);
}

TEST(P7_every_call_to_the_system_may_fail)
{
    fail_each((struct failing){.system = EIO}, 1000);
    fail_each((struct failing){.system = ENOSPC, .forever = true}, 1000);
    fail_each((struct failing){.system = EINTR}, 1000);
}

TEST(P7_allocations_and_calls_may_fail_with_an_index)
{
    fail_each((struct failing){.memory = true, .many = true}, 3);
    fail_each((struct failing){.system = EIO, .many = true}, 5);
}

/* ---------------------------------------------------------------- index and rows */

TEST(the_index_is_saved_taken_over_and_goes_on)
{
    const char *path = check_path("a.cascade");
    syna_buckets *store = open_store(path);
    insert_many(store);
    CHECK_EQ(store->index.linked, MANY);
    CHECK_OK(cascade_store_save(store));
    CHECK_EQ(store->saved_end, MANY);
    CHECK_OK(insert(store, four_keys, four_rows, 4, NULL));
    CHECK_EQ(store->index.linked, MANY + 4);
    CHECK_OK(cascade_store_flush(store)); /* durable, the index of few new rows is not */
    CHECK_EQ(store->saved_end, MANY);

    syna_buckets *reader; /* sees what is durable, and links what is not in the saved index */
    CHECK_OK(open_as(path, true, &reader));
    CHECK_EQ(reader->saved_end, MANY);
    CHECK_EQ(reader->index.linked, MANY + 4);
    CHECK_STR(others_of(reader), "a=1 b=2 c=3 d=4");
    int32_t deleted;
    bool changed;
    CHECK_OK(cascade_store_delete(store, "a", 1, &deleted));
    CHECK_OK(cascade_store_flush(store));
    CHECK_OK(cascade_store_refresh(reader, &changed));
    CHECK(changed);
    CHECK_EQ(reader->index.filed, MANY + 3);
    char nearest[16];
    CHECK_OK(search(reader, 0, NULL, nearest));
    CHECK_STR(nearest, "b");
    CHECK_OK(cascade_store_close(reader));
    CHECK_OK(cascade_store_close(store));
    check_sound(path);
}

TEST(a_key_that_is_written_again_and_again_does_not_build_for_ever)
{
    syna_buckets *store = open_store(check_path("a.cascade"));
    insert_many(store);
    for (int round = 0; round < 4; round++) {
        insert_many(store);
        CHECK_EQ(store->base.rows.live, MANY);
        CHECK_EQ(store->index.filed, MANY);
        CHECK_EQ(store->index.linked, store->base.rows.count);
    }
    CHECK_OK(cascade_store_close(store));
}

TEST(a_crash_takes_it_back_to_the_last_flush_whatever_index_is_there)
{
    const char *path = check_path("a.cascade");
    pid_t child = fork();
    if (child == 0) {
        syna_buckets *store = open_store(path);
        insert_many(store);
        CHECK_OK(cascade_store_save(store));
        CHECK_OK(insert(store, four_keys, four_rows, 4, NULL));
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    syna_buckets *store = open_store(path);
    CHECK_EQ(cascade_store_count(store), MANY);
    CHECK_STR(others_of(store), "");
    CHECK_EQ(store->index.linked, MANY);
    /* Other rows take the numbers of those that were lost. */
    CHECK_OK(insert(store, four_keys + 2, four_rows, 1, NULL));
    char nearest[16];
    CHECK_OK(search(store, 0, NULL, nearest));
    CHECK_STR(nearest, "c");
    CHECK_OK(cascade_store_close(store));
    check_sound(path);
}

/* ---------------------------------------------------------------- the path-keyed face */

TEST(the_functions_of_the_seeds)
{
    const char *path = check_path("a.cascade"), *keys[] = {"x", "y"};
    const float rows[] = {1, 0, 0, 1}, query[] = {1, 0.1f};
    char *json = NULL;
    CHECK_EQ(syna_cascade_len(path), SYNA_ERR_DB_NOT_FOUND);
    CHECK_FAILS(syna_cascade_new(path, 0), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_cascade_new(path, 2));
    CHECK_EQ(syna_cascade_insert_batch(path, keys, rows, 2, 2), 2);
    CHECK_OK(syna_cascade_insert(path, "y", rows + 2, 2));
    CHECK_EQ(syna_cascade_len(path), 2);
    CHECK_EQ(syna_cascade_search(path, query, 2, 1, &json), 1);
    CHECK(strstr(json, "{\"key\":\"x\",\"score\":0.00496") != NULL);
    syna_free_json(json);
    CHECK_EQ(syna_cascade_search_params(path, query, 2, 5, 3, 40, &json), 2);
    syna_free_json(json);
    CHECK_EQ(syna_cascade_search_params(path, query, 2, 5, 300, 0, &json), SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_FAILS(syna_cascade_insert(path, "z", rows, 3), SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_cascade_search(path, NULL, 2, 1, &json), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_cascade_flush(path));
    CHECK_OK(syna_cascade_close(path));
    CHECK_OK(syna_cascade_new(path, 2));
    CHECK_EQ(syna_cascade_len(path), 2);
    CHECK_OK(syna_cascade_close(path));
}
