/* The gravity well index in C: rows and lists agree whatever fails: memory at any call, the disk at any
 * call, the process between any two calls. What it finds is tested in Python (tests/python/test_gwi.py). */
#include "check.h"

#include "engine/gwi.h"
#include "engine/gwi_core.h"
#include "vfs_fault.h"

#define DIMS 4u
#define MANY 1200u /* enough for a training */

/* ---------------------------------------------------------------- an index for a test */

static syna_rc open_as(const char *path, bool read_only, syna_wells **out)
{
    syna_wells_options options = {.size = sizeof options,
                                  .dimensions = DIMS,
                                  .metric = SYNA_METRIC_EUCLIDEAN,
                                  .read_only = read_only,
                                  .threads = 1};
    return gwi_open(path, &options, out);
}

static syna_wells *open_index(const char *path)
{
    syna_wells *index;
    CHECK_OK(open_as(path, false, &index));
    return index;
}

/* Rows and keys of numbers [first, first + count): row n is near n on a line with bends. */
struct batch {
    char keys[MANY][8];
    const char *pointers[MANY];
    float rows[MANY][DIMS];
    struct gwi_batch batch;
};

static void make_row(uint32_t n, float *out)
{
    for (uint32_t i = 0; i < DIMS; i++)
        out[i] = (float)(n >> i & 7) + (float)n / 64;
}

static struct batch *make_batch(uint32_t first, uint32_t count)
{
    static struct batch b;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(b.keys[i], sizeof b.keys[i], "%u", first + i);
        b.pointers[i] = b.keys[i];
        make_row(first + i, b.rows[i]);
    }
    b.batch = (struct gwi_batch){
        .keys = b.pointers, .vectors = b.rows[0], .dims = DIMS, .count = count};
    return &b;
}

static syna_rc insert_some(syna_wells *index, uint32_t first, uint32_t count)
{
    size_t added;
    return gwi_insert(index, &make_batch(first, count)->batch, &added);
}

static void check_found(syna_wells *index, uint32_t n)
{
    char key[8];
    float query[DIMS];
    syna_wells_search_options how = {.size = sizeof how, .k = 1};
    syna_hit *hits;
    size_t count;
    snprintf(key, sizeof key, "%u", n);
    make_row(n, query);
    CHECK_OK(gwi_search(index, query, 1, DIMS, &how, &hits, &count));
    CHECK_EQ(count, 1);
    CHECK_STR(hits[0].key, key);
    CHECK(hits[0].score == 0);
    syna_free_hits(hits);
}

static void check_all(syna_wells *index, uint32_t count)
{
    CHECK_EQ(gwi_count(index), count);
    for (uint32_t n = 0; n < count; n += 1 + count / 50)
        check_found(index, n);
}

static void check_sound(const char *path)
{
    syna_check found = {.size = sizeof found};
    CHECK_OK(gwi_verify(path, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
}

/* ---------------------------------------------------------------- lists follow rows */

TEST(rows_are_in_lists_once_there_are_enough_and_come_back_in_them)
{
    const char *path = check_path("a.gwi");
    syna_wells *index = open_index(path);
    CHECK_OK(insert_some(index, 0, 1000));
    CHECK_EQ(index->part.count, 0);
    CHECK_OK(insert_some(index, 1000, 100));
    CHECK(index->part.count > 1);
    CHECK_EQ(index->part.end, 1100);
    CHECK_OK(insert_some(index, 1100, 50)); /* too few to be put away */
    CHECK_EQ(index->part.end, 1100);
    CHECK_OK(insert_some(index, 1150, 50));
    CHECK_EQ(index->part.end, 1200);
    check_all(index, 1200);
    CHECK_OK(gwi_close(index));
    index = open_index(path);
    CHECK(index->snapshot != NULL);
    CHECK_EQ(index->part.end, 1200);
    check_all(index, 1200);
    CHECK_OK(gwi_close(index));
    check_sound(path);
}

/* Rows of all places from the first on, none of them twice. */
static syna_rc insert_spread(syna_wells *index, uint32_t first, uint32_t count)
{
    struct batch *b = make_batch(first, count);
    size_t added;
    for (uint32_t i = 0; i < count; i++)
        make_row((first + i) * 3719 % 9601, b->rows[i]);
    return gwi_insert(index, &b->batch, &added);
}

static void fill_spread(syna_wells *index, uint32_t first, uint32_t end)
{
    for (; first < end; first += MANY)
        CHECK_OK(insert_spread(index, first, MANY));
    CHECK_EQ(index->part.end, end);
}

static void search_by_lists(syna_wells *index)
{
    syna_wells_explain how = {.size = sizeof how};
    syna_wells_search_options ask = {.size = sizeof ask, .k = 10, .nprobe = 5, .explain = &how};
    float query[DIMS];
    syna_hit *hits;
    size_t count;
    make_row(77, query);
    CHECK_OK(gwi_search(index, query, 1, DIMS, &ask, &hits, &count));
    CHECK_EQ(count, 10);
    CHECK(!how.exact && how.recall > 0 && how.lists < index->part.count);
    syna_free_hits(hits);
}

TEST(where_rows_only_pass_wells_are_trained_less_often_and_a_search_measures)
{
    syna_wells *index = open_index(check_path("a.gwi"));
    gwi_pass_on(index);
    fill_spread(index, 0, 4800);
    CHECK_EQ(index->part.trained, 1200);
    CHECK_EQ(index->part.calibrated, 0);
    search_by_lists(index);
    CHECK_EQ(index->part.calibrated, 4800);
    fill_spread(index, 4800, 9600);
    CHECK_EQ(index->part.trained, 9600); /* eight times as many */
    CHECK_EQ(index->part.calibrated, 0);
    CHECK_OK(gwi_close(index));
}

TEST(what_is_searched_is_measured_by_those_who_insert)
{
    syna_wells *index = open_index(check_path("a.gwi"));
    fill_spread(index, 0, 4800);
    CHECK_EQ(index->part.trained, 4800);
    CHECK_EQ(index->part.calibrated, 0); /* nobody searched */
    search_by_lists(index);
    CHECK_EQ(index->part.calibrated, 4800);
    fill_spread(index, 4800, 7200);
    CHECK_EQ(index->part.calibrated, 4800);
    fill_spread(index, 7200, 9600);
    CHECK_EQ(index->part.calibrated, 9600);
    CHECK_OK(gwi_close(index));
}

TEST(what_is_saved_or_trained_was_measured)
{
    static const char *const names[] = {"trained.gwi", "flushed.gwi", "closed.gwi"};
    for (int way = 0; way < 3; way++) {
        const char *path = check_path(names[way]);
        syna_wells *index = open_index(path);
        fill_spread(index, 0, 4800);
        CHECK_EQ(index->part.calibrated, 0);
        if (way == 0)
            CHECK_OK(gwi_train(index, NULL, NULL));
        if (way == 1)
            CHECK_OK(gwi_flush(index));
        CHECK_EQ(index->part.calibrated, way < 2 ? 4800u : 0u);
        CHECK_OK(gwi_close(index));
        index = open_index(path);
        CHECK_EQ(index->part.calibrated, 4800);
        search_by_lists(index);
        CHECK_OK(gwi_close(index));
    }
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    CHECK(in && out);
    for (size_t len; (len = fread(bytes, 1, sizeof bytes, in)) > 0;)
        CHECK_EQ(fwrite(bytes, 1, len, out), len);
    CHECK_EQ(fclose(in) | fclose(out), 0);
}

TEST(lists_of_rows_that_a_crash_took_back_are_not_used)
{
    const char *path = check_path("a.gwi"), *wells = check_path("a.gwi.wells");
    syna_wells *index = open_index(path);
    CHECK_OK(insert_some(index, 0, 1100));
    CHECK_OK(gwi_close(index));
    /* The lists of 1200 rows beside the file of 1100: as if a backup of the one had come back. */
    copy_file(path, check_path("old"));
    index = open_index(path);
    CHECK_OK(insert_some(index, 1100, 100));
    CHECK_OK(gwi_close(index));
    CHECK_EQ(rename(check_path("old"), path), 0);
    CHECK_EQ(access(wells, R_OK), 0);
    index = open_index(path);
    CHECK(index->snapshot == NULL);
    check_all(index, 1100);
    CHECK_OK(gwi_close(index));
}

TEST(a_flush_saves_the_lists_when_many_rows_are_new_in_them)
{
    syna_wells *index = open_index(check_path("a.gwi"));
    CHECK_OK(insert_some(index, 0, 1100));
    CHECK_OK(gwi_flush(index));
    CHECK_EQ(index->saved_end, 1100);
    CHECK_OK(insert_some(index, 1100, 90));
    CHECK_OK(gwi_flush(index));
    CHECK_EQ(index->saved_end, 1100); /* a tenth: the next opening puts them away again */
    CHECK_OK(gwi_close(index));
}

/* ---------------------------------------------------------------- crashes */

static void crash_body(void *context)
{
    syna_wells *index = open_index(context);
    CHECK_OK(insert_some(index, 0, 1100));
    CHECK_OK(gwi_flush(index));
    CHECK_OK(insert_some(index, 1100, 100));
    _exit(0);
}

TEST(P1_what_was_flushed_survives_a_crash)
{
    char *path = (char *)(uintptr_t)check_path("a.gwi");
    CHECK_EQ(check_child(crash_body, path), 0);
    syna_wells *index = open_index(path);
    CHECK_EQ(gwi_count(index), 1100);
    check_all(index, 1100);
    CHECK_OK(insert_some(index, 1100, 100));
    check_all(index, 1200);
    CHECK_OK(gwi_close(index));
    check_sound(path);
}

/* ---------------------------------------------------------------- no memory */

static bool fail_at(void *context, size_t bytes)
{
    (void)bytes;
    int *left = context;
    return __atomic_sub_fetch(left, 1, __ATOMIC_RELAXED) != 0;
}

static syna_rc work(syna_wells *index)
{
    struct batch *b = make_batch(1100, 100);
    const char *meta[] = {"{\"n\":1}"};
    float query[DIMS] = {0};
    size_t added, counts;
    int32_t deleted;
    syna_hit *hits = NULL;
    syna_wells_search_options how = {
        .size = sizeof how, .k = 3, .filter = "{\"n\":1}", .filter_len = 7};
    SYNA_TRY(gwi_insert(index, &b->batch, &added));
    b = make_batch(0, 1);
    b->batch.metadata = meta;
    SYNA_TRY(gwi_insert(index, &b->batch, &added));
    SYNA_TRY(gwi_delete(index, "5", 1, &deleted));
    SYNA_TRY(gwi_search(index, query, 1, DIMS, &how, &hits, &counts));
    syna_free_hits(hits);
    SYNA_TRY(gwi_flush(index));
    SYNA_TRY(gwi_train(index, NULL, NULL));
    return gwi_compact(index, NULL, NULL);
}

TEST(P7_without_memory_at_any_call_rows_and_lists_agree)
{
    const char *path = check_path("a.gwi");
    for (int k = 1, done = 0; !done; k += 1 + k / 16) {
        syna_wells *index = open_index(path);
        int left = k;
        CHECK_OK(insert_some(index, 0, 1100));
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = work(index);
        syna_test_set_alloc(NULL, NULL);
        done = left > 0;
        if (rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        uint64_t count = gwi_count(index);
        CHECK(count >= 1099 && count <= 1200);
        check_found(index, 77);
        CHECK_OK(insert_some(index, 5, 1));
        check_found(index, 5);
        CHECK_OK(gwi_close(index));
        index = open_index(path);
        check_found(index, 5);
        check_found(index, 1000);
        CHECK_OK(gwi_close(index));
        check_sound(path);
        CHECK_EQ(unlink(path) + unlink(check_path("a.gwi.wells")), 0);
    }
}

TEST(P7_without_memory_while_opening_nothing_leaks)
{
    const char *path = check_path("a.gwi");
    syna_wells *index = open_index(path);
    CHECK_OK(insert_some(index, 0, 1200));
    CHECK_OK(gwi_close(index));
    for (int k = 1;; k++) {
        int left = k;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = open_as(path, k % 2, &index);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS) { /* lists are not needed for an answer */
            check_all(index, 1200);
            CHECK_OK(gwi_close(index));
        } else {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        }
        if (left > 0)
            break;
    }
}

/* ---------------------------------------------------------------- the disk */

TEST(P7_a_disk_that_fails_at_any_call_loses_nothing_that_was_flushed)
{
    const char *path = check_path("a.gwi");
    for (int k = 1, done = 0; !done; k++) {
        syna_wells *index = open_index(path);
        CHECK_OK(insert_some(index, 0, 1100));
        CHECK_OK(gwi_flush(index));
        CHECK_OK(insert_some(index, 1100, 50));
        fault_begin(&vfs_posix);
        syna_test_set_vfs(&vfs_fault);
        fault_arm(&(struct fault){.at = k, .system = k % 2 ? EIO : ENOSPC, .forever = k % 3 == 0});
        check_note("k = %d", k);
        syna_rc rc = gwi_compact(index, NULL, NULL);
        if (rc == SYNA_SUCCESS)
            rc = gwi_close(index);
        else
            gwi_close(index);
        done = fault_fired() == 0;
        syna_test_set_vfs(NULL);
        CHECK(!done || rc == SYNA_SUCCESS);
        index = open_index(path);
        CHECK(gwi_count(index) == 1100 || gwi_count(index) == 1150);
        CHECK(rc != SYNA_SUCCESS || gwi_count(index) == 1150);
        check_found(index, 999);
        CHECK_OK(gwi_close(index));
        check_sound(path);
        CHECK_EQ(unlink(path), 0);
        unlink(check_path("a.gwi.wells"));
    }
}

TEST(P8_a_failed_sync_ends_the_writing)
{
    const char *path = check_path("a.gwi");
    syna_wells *index = open_index(path);
    CHECK_OK(insert_some(index, 0, 10));
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 1, .system = EIO, .only = 1u << FAULT_SYNC});
    CHECK_FAILS(gwi_flush(index), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    fault_arm(NULL);
    CHECK_FAILS(insert_some(index, 10, 1), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    check_all(index, 10);
    CHECK_OK(gwi_close(index));
    syna_test_set_vfs(NULL);
}

/* ---------------------------------------------------------------- the sample comes first */

static uint64_t file_bytes(const char *path, uint8_t *out, size_t room)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t len = fread(out, 1, room, file);
    CHECK(len < room);
    fclose(file);
    return len;
}

static syna_wells *open_handle(const char *path)
{
    syna_wells_options options = {.size = sizeof options, .dimensions = DIMS, .threads = 1};
    syna_wells *index;
    CHECK_OK(syna_wells_open(path, &options, &index));
    return index;
}

TEST(rows_before_a_sample_are_refused_by_both_faces_and_change_nothing)
{
    static uint8_t before[1 << 20], after[1 << 20];
    const char *path = check_path("a.gwi");
    struct batch *b = make_batch(0, 3);
    size_t added;
    int32_t deleted = 1;
    char *json;
    syna_wells *index = open_handle(path);
    uint64_t len = file_bytes(path, before, sizeof before);
    CHECK_FAILS(syna_wells_insert(index, "0", 1, b->rows[0], DIMS), SYNA_ERR_GENERIC,
                SYNA_WHY_NOT_INITIALIZED);
    CHECK(strstr(syna_last_error(), "a.gwi") && strstr(syna_last_error(), "call initialize"));
    CHECK_STR(syna_last_path(), path);
    CHECK_FAILS(syna_wells_insert_batch(index, b->pointers, NULL, b->rows[0], DIMS, NULL, NULL, 3, &added),
                SYNA_ERR_GENERIC, SYNA_WHY_NOT_INITIALIZED);
    CHECK_FAILS(syna_gwi_insert(path, "0", b->rows[0], DIMS), SYNA_ERR_GENERIC,
                SYNA_WHY_NOT_INITIALIZED);
    CHECK_RC(syna_gwi_insert_batch(path, b->pointers, b->rows[0], DIMS, 3),
             SYNA_ERR_INTERNAL); /* 0 would be a count */
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NOT_INITIALIZED);
    CHECK_EQ(file_bytes(path, after, sizeof after), len);
    CHECK_MEM(after, before, len);
    CHECK_EQ(syna_gwi_len(path), 0);
    CHECK_OK(syna_wells_delete(index, "0", 1, &deleted));
    CHECK_EQ(deleted, 0);
    CHECK_EQ(syna_gwi_search(path, b->rows[0], DIMS, 1, &json), 0);
    syna_free_json(json);
    CHECK_OK(syna_gwi_initialize(path, b->rows[0], 1, DIMS));
    CHECK_EQ(syna_gwi_insert_batch(path, b->pointers, b->rows[0], DIMS, 3), 3);
    CHECK_OK(syna_wells_close(index));
}

static void sampled_body(void *context)
{
    float row[DIMS] = {1};
    syna_wells *index = open_handle(context);
    CHECK_OK(syna_wells_initialize(index, row, 1, DIMS, NULL, NULL));
    CHECK_OK(syna_wells_flush(index));
    _exit(0);
}

TEST(that_there_was_a_sample_outlives_a_crash_after_a_flush)
{
    char *path = (char *)(uintptr_t)check_path("a.gwi");
    float row[DIMS] = {2};
    CHECK_EQ(check_child(sampled_body, path), 0);
    syna_wells *index = open_handle(path);
    CHECK_OK(syna_wells_insert(index, "a", 1, row, DIMS));
    CHECK_OK(syna_wells_close(index));
}

TEST(a_file_with_rows_takes_more_without_a_sample_also_when_all_are_dead)
{
    const char *path = check_path("a.gwi");
    syna_wells *index = open_index(path);
    int32_t deleted;
    CHECK_OK(insert_some(index, 0, 1)); /* as the hot layer of a hybrid store stores rows */
    CHECK_OK(gwi_close(index));
    index = open_index(path);
    CHECK_OK(gwi_check_initialized(index));
    CHECK_OK(gwi_delete(index, "0", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(gwi_check_initialized(index));
    CHECK_OK(gwi_compact(index, NULL, NULL));
    CHECK_FAILS(gwi_check_initialized(index), SYNA_ERR_GENERIC, SYNA_WHY_NOT_INITIALIZED);
    CHECK_OK(gwi_close(index));
    CHECK_OK(open_as(path, true, &index));
    CHECK_FAILS(gwi_check_initialized(index), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(gwi_close(index));
}

/* ---------------------------------------------------------------- bad input of the C interface */

TEST(structs_that_are_too_short_and_null_pointers_are_refused)
{
    const char *path = check_path("a.gwi");
    syna_wells *index;
    syna_wells_options options = {.size = 4, .dimensions = DIMS};
    char *json = (char *)1;
    float row[DIMS] = {1};
    CHECK_FAILS(syna_wells_open(path, &options, &index), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_wells_open(NULL, &options, &index), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_gwi_new(NULL, 4, 0, 0, 0), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_gwi_new(path, 0, 0, 0, 0), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_gwi_new(path, 4, 1, 0, 0), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_gwi_open(path), SYNA_ERR_IO);
    CHECK_RC(syna_gwi_insert(path, "a", row, DIMS), SYNA_ERR_DB_NOT_FOUND);
    CHECK_EQ(syna_gwi_len(path), SYNA_ERR_DB_NOT_FOUND);
    CHECK_OK(syna_gwi_new(path, DIMS, 16, 3, 10000));
    CHECK_EQ(syna_gwi_insert_batch(path, NULL, row, DIMS, 1), SYNA_ERR_INVALID_PATH);
    CHECK_OK(syna_gwi_initialize(path, row, 1, DIMS));
    CHECK_FAILS(syna_gwi_initialize(path, NULL, 0, DIMS), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_gwi_initialize(path, NULL, 1, DIMS), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_gwi_insert(path, NULL, row, DIMS), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_gwi_insert(path, "a", row, DIMS + 1), SYNA_ERR_TYPE_MISMATCH);
    CHECK_EQ(syna_gwi_insert_batch(path, NULL, row, DIMS, 1), SYNA_ERR_INVALID_PATH);
    CHECK_OK(syna_gwi_insert(path, "a", row, DIMS));
    CHECK_RC(syna_gwi_search(path, row, DIMS, 1, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_gwi_search(path, NULL, DIMS, 1, &json), SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_EQ(syna_gwi_search_nprobe(path, row, DIMS, 5, 0, &json), 1);
    CHECK_STR(json, "[{\"key\":\"a\",\"score\":0}]");
    syna_free_json(json);
    CHECK_OK(syna_gwi_flush(path));
    CHECK_EQ(syna_gwi_len(path), 1);
    CHECK_OK(syna_gwi_close(path));
    CHECK_OK(syna_gwi_open(path)); /* dimensions are the file's */
    CHECK_EQ(syna_gwi_len(path), 1);
    CHECK_OK(syna_gwi_close(path));
    CHECK_RC(syna_gwi_close(path), SYNA_ERR_DB_NOT_FOUND);
}
