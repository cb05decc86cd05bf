/* An open database: values, order, time travel, batches, group commit, sharing, fork. */
#include "check.h"

#include "engine/db.h"
#include "io/vfs.h"

static syna_db *open_with(const char *name, syna_db_options options)
{
    syna_db *db = NULL;
    options.size = sizeof options;
    CHECK_OK(db_open(check_path(name), &options, &db));
    return db;
}

static syna_db *fast(const char *name)
{
    return open_with(name, (syna_db_options){.no_sync = 1});
}

static void put_int(syna_db *db, const char *key, int64_t value)
{
    CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_INT, &value, sizeof value, NULL, NULL));
}

static void put_float(syna_db *db, const char *key, double value)
{
    CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_FLOAT, &value, sizeof value, NULL, NULL));
}

static void put_text(syna_db *db, const char *key, const char *text)
{
    CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_TEXT, text, strlen(text), NULL, NULL));
}

static int64_t int_of(syna_db *db, const char *key)
{
    uint64_t bits = 0;
    CHECK_OK(db_get_number(db, key, strlen(key), SYNA_TYPE_INT, &bits));
    return (int64_t)bits;
}

static bool has(syna_db *db, const char *key)
{
    bool exists;
    CHECK_OK(db_exists(db, key, strlen(key), &exists));
    return exists;
}

static uint64_t file_size(const char *name)
{
    struct stat st;
    CHECK_EQ(stat(check_path(name), &st), 0);
    return (uint64_t)st.st_size;
}

static void text_is(syna_db *db, const char *key, const char *want)
{
    char buf[256];
    size_t len;
    int32_t type;
    CHECK_OK(db_get(db, key, strlen(key), buf, sizeof buf - 1, &len, &type));
    CHECK_EQ(type, SYNA_TYPE_TEXT);
    CHECK_EQ(len, strlen(want));
    buf[len] = 0;
    CHECK_STR(buf, want);
}

TEST(every_type_reads_back_after_reopening)
{
    static const float vector[3] = {1.5f, -2.0f, 0.0f};
    const double nan_bits = -__builtin_nan("0x1234");
    syna_db *db = open_with("a.db", (syna_db_options){0});
    put_int(db, "int", INT64_MIN);
    put_float(db, "float", nan_bits);
    put_text(db, "text", "grüße");
    put_text(db, "empty", "");
    CHECK_OK(db_put(db, "bytes", 5, SYNA_TYPE_BYTES, "\0\1\2", 3, NULL, NULL));
    CHECK_OK(db_put(db, "vector", 6, SYNA_TYPE_VECTOR, vector, sizeof vector, NULL, NULL));
    CHECK_OK(db_put(db, "null", 4, SYNA_TYPE_NULL, NULL, 0, NULL, NULL));
    CHECK_OK(db_put(db, "packed", 6, SYNA_TYPE_PACKED, "\x90", 1, NULL, NULL));

    for (int round = 0; round < 3; round++) {
        char buf[64];
        size_t len;
        int32_t type;
        uint64_t bits;
        CHECK_EQ(int_of(db, "int"), INT64_MIN);
        CHECK_OK(db_get_number(db, "float", 5, SYNA_TYPE_FLOAT, &bits));
        CHECK_MEM(&bits, &nan_bits, 8);
        text_is(db, "text", "grüße");
        text_is(db, "empty", "");
        CHECK_OK(db_get(db, "bytes", 5, buf, sizeof buf, &len, &type));
        CHECK_EQ(type, SYNA_TYPE_BYTES);
        CHECK_EQ(len, 3);
        CHECK_MEM(buf, "\0\1\2", 3);
        CHECK_OK(db_get(db, "vector", 6, buf, sizeof buf, &len, &type));
        CHECK_EQ(type, SYNA_TYPE_VECTOR);
        CHECK_MEM(buf, vector, sizeof vector);
        CHECK_OK(db_get(db, "null", 4, buf, sizeof buf, &len, &type));
        CHECK_EQ(type, SYNA_TYPE_NULL);
        CHECK_EQ(len, 0);
        CHECK_OK(db_get(db, "packed", 6, buf, sizeof buf, &len, &type));
        CHECK_EQ(type, SYNA_TYPE_PACKED);
        CHECK_RC(db_get_number(db, "text", 4, SYNA_TYPE_INT, &bits), SYNA_ERR_TYPE_MISMATCH);
        CHECK_RC(db_get_number(db, "none", 4, SYNA_TYPE_INT, &bits), SYNA_ERR_KEY_NOT_FOUND);
        CHECK_OK(db_close(db));
        db = open_with("a.db", (syna_db_options){.read_only = round == 1});
        syna_open_report report;
        db_get_report(db, &report);
        CHECK(report.clean);
    }
    CHECK_OK(db_close(db));
}

TEST(bad_keys_and_values_change_nothing)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    syna_db_stats before = {0}, after = {0};
    CHECK_OK(db_get_stats(db, &before));
    char *huge = malloc(SYNA_KEY_MAX + 2);
    memset(huge, 'x', SYNA_KEY_MAX + 1);
    int64_t v = 1;
    const float nan = __builtin_nanf("");
    CHECK_RC(db_put(db, "", 0, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(db_put(db, huge, SYNA_KEY_MAX + 1, SYNA_TYPE_INT, &v, 8, NULL, NULL),
             SYNA_ERR_KEY_TOO_LONG);
    CHECK_FAILS(db_put(db, "a\0b", 3, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(db_put(db, "\xff", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_INVALID_PATH,
                SYNA_WHY_ARGUMENT);
    CHECK(db_put(db, "k", 1, SYNA_TYPE_TEXT, "\xc3", 1, NULL, NULL) != SYNA_SUCCESS);
    CHECK(db_put(db, "k", 1, SYNA_TYPE_VECTOR, &nan, 4, NULL, NULL) != SYNA_SUCCESS);
    CHECK(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 7, NULL, NULL) != SYNA_SUCCESS);
    CHECK(db_put(db, "k", 1, 99, &v, 8, NULL, NULL) != SYNA_SUCCESS);
    CHECK_OK(db_get_stats(db, &after));
    CHECK_EQ(after.file_bytes, before.file_bytes);
    CHECK_EQ(int_of(db, "k"), 1);

    CHECK_OK(db_put(db, huge, SYNA_KEY_MAX, SYNA_TYPE_INT, &v, 8, NULL, NULL));
    CHECK_OK(db_close(db));
    db = fast("a.db");
    uint64_t bits;
    CHECK_OK(db_get_number(db, huge, SYNA_KEY_MAX, SYNA_TYPE_INT, &bits));
    free(huge);
    CHECK_OK(db_close(db));
}

TEST(deleting_hides_the_key_keeps_its_history_and_a_missing_key_writes_nothing)
{
    syna_db *db = fast("a.db");
    int32_t deleted;
    uint64_t values[8];
    size_t count;
    put_float(db, "k", 1);
    put_float(db, "k", 2);
    CHECK_OK(db_delete(db, "k", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK(!has(db, "k"));
    syna_db_stats before = {0}, after = {0};
    CHECK_OK(db_get_stats(db, &before));
    CHECK_OK(db_delete(db, "k", 1, &deleted));
    CHECK_EQ(deleted, 0);
    CHECK_OK(db_delete(db, "never", 5, &deleted));
    CHECK_EQ(deleted, 0);
    CHECK_OK(db_get_stats(db, &after));
    CHECK_EQ(after.file_bytes, before.file_bytes);
    put_float(db, "k", 3);
    CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, values, NULL, 8, &count));
    CHECK_EQ(count, 3);
    CHECK_OK(db_close(db));
}

TEST(a_get_at_a_time_sees_what_was_there_then)
{
    syna_db *db = fast("a.db");
    uint64_t stamps[100];
    for (int i = 0; i < 100; i++) {
        put_int(db, "k", i);
        stamps[i] = syna_vfs->now_us();
        usleep(20);
        if (i == 50) {
            CHECK_OK(db_delete(db, "k", 1, NULL));
            usleep(20);
            stamps[i] = syna_vfs->now_us();
            usleep(20);
        }
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 100; i++) {
            int64_t value;
            size_t len;
            int32_t type;
            check_note("i = %d", i);
            syna_rc rc = db_get_at(db, "k", 1, stamps[i], &value, sizeof value, &len, &type);
            if (i == 50) {
                CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
                continue;
            }
            CHECK_OK(rc);
            CHECK_EQ(value, i);
        }
        CHECK_OK(db_close(db));
        db = fast("a.db");
    }
    CHECK_OK(db_close(db));
}

TEST(times_given_are_what_histories_show_and_stamps_still_never_decrease)
{
    syna_db *db = fast("a.db");
    const uint64_t given[] = {1000, 500, 1u << 30};
    for (size_t i = 0; i < COUNT_OF(given); i++) {
        syna_put how = {.size = sizeof how, .when_us = given[i]};
        double v = (double)i;
        CHECK_OK(db_put(db, "k", 1, SYNA_TYPE_FLOAT, &v, 8, &how, NULL));
    }
    uint64_t values[3], times[3];
    size_t count;
    CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, values, times, 3, &count));
    CHECK_EQ(count, 3);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(times[i], given[i]);
    CHECK_OK(db_close(db));
}

TEST(appended_columns_and_plain_puts_make_one_history)
{
    syna_db *db = fast("a.db");
    uint64_t want[5000], got[5000], bits;
    size_t n = 0, count;
    uint64_t seed = 7;
    const size_t pieces[] = {1, 3, 7, 8, 100, 1024, 1025, 2500};
    for (size_t p = 0; p < COUNT_OF(pieces); p++) {
        uint64_t piece[2500];
        for (size_t i = 0; i < pieces[p]; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            double v = (double)(int64_t)(seed >> 40) / 100.0;
            memcpy(&piece[i], &v, 8);
            want[n++] = piece[i];
        }
        CHECK_OK(db_append_numbers(db, "k", 1, SYNA_TYPE_FLOAT, piece, NULL, pieces[p]));
        put_float(db, "k", (double)p);
        double v = (double)p;
        memcpy(&want[n++], &v, 8);
    }
    for (int round = 0; round < 3; round++) {
        CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, got, NULL, COUNT_OF(got), &count));
        CHECK_EQ(count, n);
        CHECK_MEM(got, want, n * 8);
        CHECK_OK(db_history_numbers(db, "k", 1, SYNA_TYPE_FLOAT, got, NULL, 10, &count));
        CHECK_EQ(count, n);
        CHECK_OK(db_get_number(db, "k", 1, SYNA_TYPE_FLOAT, &bits));
        CHECK_EQ(bits, want[n - 1]);
        CHECK_OK(db_close(db));
        db = fast("a.db");
    }
    CHECK_OK(db_close(db));
}

TEST(a_value_expires_at_its_time)
{
    syna_db *db = fast("a.db");
    uint64_t now = syna_vfs->now_us(), count;
    syna_put soon = {.size = sizeof soon, .expires_us = now + 30000};
    syna_put later = {.size = sizeof later, .expires_us = now + 3600000000u};
    CHECK_OK(db_put(db, "soon", 4, SYNA_TYPE_TEXT, "x", 1, &soon, NULL));
    CHECK_OK(db_put(db, "later", 5, SYNA_TYPE_TEXT, "x", 1, &later, NULL));
    CHECK(has(db, "soon"));
    usleep(40000);
    CHECK(!has(db, "soon"));
    CHECK(has(db, "later"));
    CHECK_OK(db_count(db, &count));
    CHECK_EQ(count, 1);
    put_text(db, "soon", "again");
    CHECK(has(db, "soon"));
    CHECK_OK(db_close(db));
}

TEST(a_batch_is_one_commit_and_forgotten_when_freed)
{
    syna_db *db = open_with("a.db", (syna_db_options){0});
    syna_batch *batch;
    syna_db_stats before = {0}, after = {0};
    put_int(db, "old", 1);
    CHECK_OK(db_get_stats(db, &before));
    CHECK_OK(db_batch_new(db, &batch));
    for (int64_t i = 0; i < 1000; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%lld", (long long)i);
        CHECK_OK(db_batch_put(batch, key, (size_t)len, SYNA_TYPE_INT, &i, sizeof i, NULL));
    }
    CHECK_OK(db_batch_delete(batch, "old", 3));
    CHECK(has(db, "old"));
    CHECK_EQ(db_batch_count(batch), 1001);
    CHECK_OK(db_batch_commit(batch));
    CHECK(!has(db, "old"));
    CHECK_EQ(int_of(db, "k999"), 999);
    CHECK_OK(db_get_stats(db, &after));
    CHECK_EQ(after.commits - before.commits, 1);
    CHECK_EQ(after.syncs - before.syncs, 1);
    int64_t v = 5;
    CHECK_OK(db_batch_put(batch, "never", 5, SYNA_TYPE_INT, &v, sizeof v, NULL));
    db_batch_free(batch);
    CHECK(!has(db, "never"));
    CHECK_OK(db_close(db));
}

TEST(a_single_threads_commit_is_one_sync)
{
    syna_db *db = open_with("a.db", (syna_db_options){0});
    syna_db_stats s = {0};
    for (int i = 0; i < 50; i++)
        put_int(db, "k", i);
    CHECK_OK(db_get_stats(db, &s));
    CHECK_EQ(s.commits, 50);
    CHECK_EQ(s.syncs, 50);
    CHECK_EQ(s.durable_bytes, s.file_bytes);
    CHECK_OK(db_close(db));
}

#define THREADS 8
#define EACH 200

struct worker {
    syna_db *db;
    int number;
};

static void *put_many(void *context)
{
    struct worker *w = context;
    for (int i = 0; i < EACH; i++) {
        char key[32];
        int64_t value = i;
        int len = snprintf(key, sizeof key, "t%d/%d", w->number, i % 20);
        CHECK_OK(db_put(w->db, key, (size_t)len, SYNA_TYPE_INT, &value, sizeof value, NULL, NULL));
        uint64_t bits;
        CHECK_OK(db_get_number(w->db, key, (size_t)len, SYNA_TYPE_INT, &bits));
        CHECK_EQ(bits, i);
    }
    return NULL;
}

static void run_writers(syna_db *db)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){db, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, put_many, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

TEST(threads_share_syncs_and_read_their_own_writes)
{
    syna_db *db = open_with("a.db", (syna_db_options){0});
    syna_db_stats s = {0};
    run_writers(db);
    CHECK_OK(db_get_stats(db, &s));
    CHECK_EQ(s.commits, THREADS * EACH);
    CHECK(s.syncs <= s.commits);
    CHECK_EQ(s.keys, THREADS * 20);
    CHECK_EQ(s.durable_bytes, s.file_bytes);
    CHECK_OK(db_close(db));
    db = fast("a.db");
    for (int t = 0; t < THREADS; t++) {
        char key[32];
        snprintf(key, sizeof key, "t%d/%d", t, (EACH - 1) % 20);
        CHECK_EQ(int_of(db, key), EACH - 1);
    }
    CHECK_OK(db_close(db));
}

TEST(threads_without_sync_and_in_a_shared_log_lose_nothing)
{
    syna_db_options kinds[] = {{.no_sync = 1}, {.shared = 1, .no_sync = 1}, {.shared = 1}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu.db", i);
        syna_db *db = open_with(name, kinds[i]);
        run_writers(db);
        uint64_t count;
        CHECK_OK(db_count(db, &count));
        CHECK_EQ(count, THREADS * 20);
        CHECK_OK(db_flush(db));
        CHECK_OK(db_close(db));
    }
}

TEST(an_unsynced_put_survives_without_a_close)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 1000; i++)
        put_int(db, "k", i);
    syna_db *reader = open_with("a.db", (syna_db_options){.read_only = 1});
    CHECK_EQ(int_of(reader, "k"), 999);
    put_int(db, "k", 1000);
    bool changed;
    CHECK_OK(db_refresh(reader, &changed));
    CHECK(changed);
    CHECK_EQ(int_of(reader, "k"), 1000);
    CHECK_OK(db_refresh(reader, &changed));
    CHECK(!changed);
    CHECK_FAILS(db_delete(reader, "k", 1, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(db_close(reader));
    CHECK_OK(db_close(db));
}

static void expect_locked(void *context)
{
    (void)context;
    syna_db *db;
    syna_db_options options = {.size = sizeof options};
    CHECK_FAILS(db_open(check_path("a.db"), &options, &db), SYNA_ERR_IO, SYNA_WHY_LOCKED);
}

TEST(a_second_writer_is_refused_while_the_first_lives)
{
    syna_db *db = fast("a.db");
    CHECK_EQ(check_child(expect_locked, NULL), 0);
    CHECK_OK(db_close(db));
}

static void read_and_fail_to_write(void *context)
{
    syna_db *db = context;
    int64_t v = 9;
    CHECK_EQ(int_of(db, "k"), 7);
    CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_FORKED);
    CHECK_FAILS(db_flush(db), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_OK(db_close(db));
}

TEST(a_forked_child_reads_and_cannot_write)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 7);
    CHECK_EQ(check_child(read_and_fail_to_write, db), 0);
    CHECK_EQ(check_child(expect_locked, NULL), 0); /* the child's close did not unlock */
    put_int(db, "k", 8);
    CHECK_OK(db_close(db));
}

TEST(a_long_history_costs_a_get_nothing_and_reopens_from_its_checkpoint)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 60000; i++)
        put_int(db, i % 2 ? "a" : "b", i);
    CHECK_OK(db_close(db));
    CHECK(file_size("a.db.idx") > 0);
    db = fast("a.db");
    syna_open_report report;
    db_get_report(db, &report);
    CHECK(report.clean);
    CHECK(!report.rebuilt);
    CHECK_EQ(report.frames_scanned, 0);
    CHECK_EQ(int_of(db, "a"), 59999);
    uint64_t *values = malloc(30000 * sizeof *values);
    size_t count;
    CHECK_OK(db_history_numbers(db, "b", 1, SYNA_TYPE_INT, values, NULL, 30000, &count));
    CHECK_EQ(count, 30000);
    CHECK_EQ(values[12345], 24690);
    put_int(db, "c", 1);
    CHECK_OK(db_history_numbers(db, "b", 1, SYNA_TYPE_INT, values, NULL, 30000, &count));
    CHECK_EQ(count, 30000);
    free(values);
    CHECK_OK(db_close(db));
}

TEST(ten_small_values_fit_in_a_page)
{
    syna_db *db = open_with("a.db", (syna_db_options){0});
    for (int i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %d", i);
        put_int(db, key, i);
    }
    CHECK_OK(db_close(db));
    CHECK(file_size("a.db") <= 4096);
    CHECK_EQ(access(check_path("a.db.idx"), F_OK), -1);
}

TEST(paths_that_cannot_be_databases_are_told_apart)
{
    syna_db *db = NULL;
    syna_db_options must = {.size = sizeof must, .must_exist = 1};
    CHECK_RC(db_open("", NULL, &db), SYNA_ERR_INVALID_PATH);
    CHECK_RC(db_open(check_path(""), NULL, &db), SYNA_ERR_INVALID_PATH);
    CHECK_RC(db_open(check_path("no/such/folder.db"), NULL, &db), SYNA_ERR_INVALID_PATH);
    CHECK_RC(db_open(check_path("missing.db"), &must, &db), SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, ENOENT);
    CHECK_EQ(access(check_path("missing.db"), F_OK), -1);
}
