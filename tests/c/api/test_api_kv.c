/* The functions of synadb/kv.h as a C program uses them: both faces, ownership, openings, spellings. */
#include "check.h"

#include <synadb.h>

#define LEN(s) (s), strlen(s)

static const char *opened(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_open_with_config(path, 0));
    return path;
}

/* ---------------------------------------------------------------- the path-keyed face */

TEST(every_type_goes_in_and_comes_out)
{
    const char *p = opened("a.db");
    static const float vector[3] = {1.5f, -0.0f, 3};
    const uint8_t bytes[] = {0, 1, 255};
    double d = 0;
    int64_t i = 0;
    size_t len = 99;
    CHECK(syna_put_float(p, "f", -0.0) >= 0);
    CHECK(syna_put_int(p, "i", INT64_MIN) > 0);
    CHECK(syna_put_text(p, "t", "grüße") > 0);
    CHECK(syna_put_text(p, "t0", "") > 0);
    CHECK(syna_put_bytes(p, "b", bytes, 3) > 0);
    CHECK(syna_put_bytes(p, "b0", NULL, 0) > 0);
    CHECK(syna_put_vector(p, "v", vector, 3) > 0);

    CHECK_OK(syna_get_float(p, "f", &d));
    CHECK(d == 0 && __builtin_signbit(d));
    CHECK_OK(syna_get_int(p, "i", &i));
    CHECK_EQ(i, INT64_MIN);
    char *t = syna_get_text(p, "t", &len);
    CHECK_STR(t, "grüße");
    CHECK_EQ(len, 7);
    syna_free_text(t, len);
    t = syna_get_text(p, "t", NULL); /* the length is optional, and freeing does not look at it */
    CHECK_STR(t, "grüße");
    syna_free_text(t, 12345);
    t = syna_get_text(p, "t0", &len);
    CHECK(t && !*t && len == 0);
    syna_free_text(t, 0);
    uint8_t *b = syna_get_bytes(p, "b", &len);
    CHECK_EQ(len, 3);
    CHECK_MEM(b, bytes, 3);
    syna_free_bytes(b, 0);
    b = syna_get_bytes(p, "b0", &len);
    CHECK(b && len == 0); /* empty is not absent */
    syna_free_bytes(b, 7);
    float *v = NULL;
    uint16_t dims = 0;
    CHECK_OK(syna_get_vector(p, "v", &v, &dims));
    CHECK_EQ(dims, 3);
    CHECK_MEM(v, vector, sizeof vector);
    syna_free_vector(v, 1);
    CHECK_OK(syna_close(p));
}

TEST(reading_what_is_not_there_or_of_another_type)
{
    const char *p = opened("a.db");
    double d = 5;
    int64_t i = 5;
    size_t len = 5;
    float *v = (float *)&d;
    uint16_t dims = 5;
    syna_put_text(p, "t", "x");
    CHECK_RC(syna_get_float(p, "none", &d), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_get_float(p, "t", &d), SYNA_ERR_TYPE_MISMATCH);
    CHECK_RC(syna_get_int(p, "t", &i), SYNA_ERR_TYPE_MISMATCH);
    CHECK(d == 5 && i == 5);
    CHECK(!syna_get_bytes(p, "t", &len));
    CHECK_EQ(len, 0);
    CHECK(strstr(syna_last_error(), "text") && strstr(syna_last_error(), "bytes"));
    len = 5;
    CHECK(!syna_get_text(p, "none", &len));
    CHECK_EQ(len, 0);
    CHECK_RC(syna_get_vector(p, "t", &v, &dims), SYNA_ERR_TYPE_MISMATCH);
    CHECK(!v && !dims);
    CHECK_EQ(syna_exists(p, "t"), 1);
    CHECK_EQ(syna_exists(p, "none"), 0);
    CHECK_OK(syna_delete(p, "t"));
    CHECK_OK(syna_delete(p, "t")); /* deleting what is not there succeeds */
    CHECK_OK(syna_delete(p, "none"));
    CHECK_EQ(syna_exists(p, "t"), 0);
    CHECK(!syna_get_text(p, "t", NULL));
    CHECK_OK(syna_close(p));
}

TEST(histories_are_floats_in_order_and_survive_a_deletion)
{
    const char *p = opened("a.db");
    const double more[] = {4, 5, 6};
    size_t len = 9;
    CHECK(!syna_get_history_tensor(p, "h", &len));
    CHECK_EQ(len, 0);
    syna_put_float(p, "h", 1);
    syna_put_text(p, "h", "text between");
    syna_put_float(p, "h", 2);
    syna_delete(p, "h");
    syna_put_int(p, "h", 7);
    CHECK_EQ(syna_put_floats_batch(p, "h", more, 3), 3);
    CHECK_EQ(syna_put_floats_batch(p, "h", NULL, 0), 0);
    double *h = syna_get_history_tensor(p, "h", &len);
    const double want[] = {1, 2, 4, 5, 6};
    CHECK_EQ(len, 5);
    CHECK_MEM(h, want, sizeof want);
    syna_free_tensor(h, 0);
    CHECK_OK(syna_compact(p));
    h = syna_get_history_tensor(p, "h", &len);
    CHECK_EQ(len, 1);
    CHECK(h[0] == 6);
    syna_free_tensor(h, 1);
    CHECK_OK(syna_close(p));
}

TEST(keys_are_sorted_and_freed_at_once)
{
    const char *p = opened("a.db");
    size_t len = 9;
    CHECK(!syna_keys(p, &len));
    CHECK_EQ(len, 0);
    const char *names[] = {"b", "ä", "a", "gone", "a/1"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        syna_put_int(p, names[i], 1);
    syna_delete(p, "gone");
    char **keys = syna_keys(p, &len);
    CHECK_EQ(len, 4);
    CHECK_STR(keys[0], "a");
    CHECK_STR(keys[1], "a/1");
    CHECK_STR(keys[2], "b");
    CHECK_STR(keys[3], "ä");
    syna_free_keys(keys, 1);
    syna_free_keys(NULL, 0);
    syna_free_text(NULL, 0);
    syna_free_bytes(NULL, 0);
    syna_free_vector(NULL, 0);
    syna_free_tensor(NULL, 0);
    CHECK_OK(syna_close(p));
}

/* ---------------------------------------------------------------- openings and spellings */

TEST(openings_are_counted)
{
    const char *p = opened("a.db");
    int64_t n;
    CHECK_OK(syna_open(p));
    CHECK_OK(syna_close(p));
    CHECK(syna_put_int(p, "k", 3) > 0); /* the other opening still counts */
    CHECK_OK(syna_get_int(p, "k", &n));
    CHECK_OK(syna_close(p));
    CHECK_FAILS(syna_get_int(p, "k", &n), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_RC((syna_rc)syna_put_int(p, "k", 3), SYNA_ERR_DB_NOT_FOUND);
    CHECK_RC(syna_close(p), SYNA_ERR_DB_NOT_FOUND);
    CHECK_OK(syna_open(p));
    CHECK_OK(syna_get_int(p, "k", &n));
    CHECK_EQ(n, 3);
    CHECK_OK(syna_close(p));
}

static void name_it_all_ways(const char *p)
{
    int64_t n;
    char other[600];
    CHECK_EQ(mkdir("sub", 0777), 0);
    CHECK_OK(syna_open(p));
    syna_put_int(p, "k", 1);
    CHECK_EQ(symlink(p, "link"), 0);
    CHECK_EQ(link(p, "hard"), 0);
    const char *ways[] = {"a.db", "./a.db", "sub/../a.db", ".//a.db", "link", "hard"};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        check_note("%s", ways[i]);
        CHECK_OK(syna_get_int(ways[i], "k", &n));
        CHECK_EQ(n, (int64_t)i + 1);
        CHECK(syna_put_int(ways[i], "k", n + 1) > 0);
        CHECK_OK(syna_open(ways[i])); /* one more opening of the same */
        CHECK_OK(syna_compact(p));    /* also when the file behind the name is another one */
        CHECK_OK(syna_close(p));
        CHECK_EQ(unlink("hard"), 0);
        CHECK_EQ(link(p, "hard"), 0); /* of the compacted file */
    }
    snprintf(other, sizeof other, "%s/sub/../sub/../a.db", check_path(""));
    CHECK_OK(syna_get_int(other, "k", &n));
    CHECK_OK(syna_close(other));
    CHECK_RC(syna_get_int(p, "k", &n), SYNA_ERR_DB_NOT_FOUND);
}

TEST(every_spelling_of_a_path_means_the_same_database)
{
    const char *p = check_path("a.db");
    int before = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(before >= 0);
    CHECK_EQ(chdir(check_path("")), 0);
    name_it_all_ways(p);
    CHECK_EQ(fchdir(before), 0);
    close(before);
}

struct many {
    const char *path;
    int64_t failures;
};

static void *open_write_close(void *context)
{
    struct many *m = context;
    for (int i = 0; i < 100; i++) {
        int64_t n;
        bool ok = syna_open_with_config(m->path, 0) == SYNA_SUCCESS &&
                  syna_put_int(m->path, "k", i) > 0 && syna_get_int(m->path, "k", &n) == SYNA_SUCCESS &&
                  syna_close(m->path) == SYNA_SUCCESS;
        if (!ok)
            __atomic_fetch_add(&m->failures, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

TEST(P12_threads_open_use_and_close_as_they_like)
{
    struct many m = {check_path("a.db"), 0};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, open_write_close, &m), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(m.failures, 0);
    CHECK_RC(syna_close(m.path), SYNA_ERR_DB_NOT_FOUND);
}

/* ---------------------------------------------------------------- handles */

static int32_t count_records(void *context, const syna_record *r)
{
    CHECK_EQ(r->size, sizeof *r);
    return ++*(int *)context == 3;
}

TEST(a_tour_of_the_handle_functions)
{
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    syna_open_report report = {.size = sizeof report};
    syna_db_stats stats = {.size = sizeof stats};
    syna_db *db = NULL, *again = NULL;
    uint64_t offset = 0;
    int32_t flag = 9, type = 9;
    int64_t n;
    double d, values[4];
    size_t len, count;
    char buf[16];
    CHECK_OK(syna_db_open(check_path("a.db"), &options, &db));
    CHECK_OK(syna_db_open(check_path("a.db"), &options, &again));
    CHECK(db == again);
    CHECK_OK(syna_db_close(again));
    CHECK_OK(syna_db_report(db, &report));
    CHECK(report.created && report.clean && !report.read_only);
    CHECK(strstr(syna_db_path(db), "a.db") && syna_db_path(db)[0] == '/');

    syna_put how = {.size = sizeof how, .when_us = 500};
    CHECK_OK(syna_db_put(db, LEN("t"), SYNA_TYPE_TEXT, "text", 4, &how, &offset));
    CHECK(offset > 0);
    CHECK_OK(syna_db_put_float(db, LEN("f"), 1.5, NULL));
    CHECK_OK(syna_db_put_int(db, LEN("i"), 42, &offset));
    CHECK_OK(syna_db_append_floats(db, LEN("f"), (double[]){2, 3}, (uint64_t[]){10, 20}, 2));
    CHECK_OK(syna_db_append_ints(db, LEN("n"), (int64_t[]){2, 3}, NULL, 2));
    CHECK_OK(syna_db_flush(db));

    CHECK_OK(syna_db_get(db, LEN("t"), buf, sizeof buf, &len, &type));
    CHECK(len == 4 && type == SYNA_TYPE_TEXT && memcmp(buf, "text", 4) == 0);
    CHECK_OK(syna_db_get(db, LEN("t"), NULL, 0, &len, &type));
    CHECK_EQ(len, 4);
    CHECK_OK(syna_db_get_float(db, LEN("f"), &d));
    CHECK(d == 3);
    CHECK_OK(syna_db_get_int(db, LEN("i"), &n));
    CHECK_EQ(n, 42);
    CHECK_EQ(syna_db_exists(db, LEN("i")), 1);
    CHECK_EQ(syna_db_exists(db, LEN("none")), 0);
    CHECK_EQ(syna_db_count(db), 4);
    uint64_t times[4];
    CHECK_OK(syna_db_history_floats(db, LEN("f"), NULL, NULL, 0, &count));
    CHECK_EQ(count, 3);
    CHECK_OK(syna_db_history_floats(db, LEN("f"), values, times, 4, &count));
    CHECK(values[2] == 3 && times[1] == 10 && times[2] == 20);
    int64_t ints[2];
    CHECK_OK(syna_db_history_ints(db, LEN("n"), ints, NULL, 2, &count));
    CHECK(count == 2 && ints[1] == 3);
    int seen = 0;
    CHECK_OK(syna_db_history(db, LEN("f"), count_records, &seen));
    CHECK_EQ(seen, 3);
    CHECK_OK(syna_db_get_at(db, LEN("f"), UINT64_MAX, &d, 8, &len, &type));
    CHECK(d == 3);
    CHECK_RC(syna_db_get_at(db, LEN("f"), 1, &d, 8, &len, &type), SYNA_ERR_KEY_NOT_FOUND);

    syna_batch *batch = NULL;
    CHECK_OK(syna_batch_new(db, &batch));
    CHECK_OK(syna_batch_put(batch, LEN("b"), SYNA_TYPE_INT, &n, 8, NULL));
    CHECK_OK(syna_batch_delete(batch, LEN("i")));
    CHECK_EQ(syna_batch_count(batch), 2);
    CHECK_OK(syna_batch_commit(batch));
    CHECK_EQ(syna_batch_count(batch), 0);
    syna_batch_free(batch);
    CHECK_EQ(syna_db_exists(db, LEN("i")), 0);
    CHECK_OK(syna_db_delete(db, LEN("b"), &flag));
    CHECK_EQ(flag, 1);
    CHECK_OK(syna_db_delete(db, LEN("b"), &flag));
    CHECK_EQ(flag, 0);

    CHECK_OK(syna_db_get_stats(db, &stats));
    CHECK_EQ(stats.keys, 3);
    CHECK_EQ(stats.size, sizeof stats);
    CHECK_OK(syna_db_compact(db, SYNA_COMPACT_HISTORY, NULL, NULL));
    CHECK_OK(syna_db_refresh(db, &flag));
    CHECK_OK(syna_db_refresh(db, NULL));
    CHECK_OK(syna_db_backup(db, check_path("b.db"), NULL, NULL));
    CHECK_OK(syna_db_close(db));

    syna_check check = {.size = sizeof check};
    CHECK_OK(syna_verify(check_path("b.db"), NULL, NULL, NULL, &check));
    CHECK_EQ(check.damaged, 0);
    CHECK_OK(syna_salvage(check_path("b.db"), check_path("c.db"), NULL, NULL, NULL, &check));
    CHECK(check.records_saved > 5);
}

TEST(scans_and_blobs_through_the_interface)
{
    syna_db *db = NULL;
    syna_scan *scan = NULL;
    syna_blob *blob = NULL;
    syna_record r = {.size = sizeof r};
    size_t got;
    char buf[16];
    CHECK_OK(syna_db_open(check_path("a.db"), NULL, &db));
    CHECK_OK(syna_db_put_int(db, LEN("a"), 1, NULL));
    CHECK_OK(syna_blob_create(db, LEN("b"), &blob));
    CHECK_OK(syna_blob_write(blob, "streamed", 8));
    CHECK_OK(syna_blob_write(blob, NULL, 0));
    CHECK_OK(syna_blob_finish(blob));
    syna_blob_free(blob);
    CHECK_OK(syna_blob_open(db, LEN("b"), &blob));
    CHECK_EQ(syna_blob_size(blob), 8);
    CHECK_OK(syna_blob_read(blob, 6, buf, sizeof buf, &got));
    CHECK(got == 2 && memcmp(buf, "ed", 2) == 0);
    syna_blob_free(blob);

    CHECK_OK(syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    CHECK_OK(syna_scan_next(scan, &r));
    CHECK(r.key_len == 1 && r.key[0] == 'a');
    r.size = 0; /* as good as sizeof */
    CHECK_OK(syna_scan_next(scan, &r));
    CHECK_EQ(r.size, sizeof r);
    CHECK_RC(syna_scan_next(scan, &r), SYNA_ERR_KEY_NOT_FOUND);
    syna_scan_free(scan);
    CHECK_OK(syna_db_close(db));
}

#define SCANNED 400

static void put_of_every_kind(syna_db *db)
{
    char key[16], text[3000];
    for (int i = 0; i < SCANNED; i++) {
        size_t len = (size_t)snprintf(key, sizeof key, "key%03d", i);
        memset(text, 'a' + i % 26, sizeof text);
        if (i % 4 == 0)
            CHECK_OK(syna_db_put_int(db, key, len, i, NULL));
        else if (i % 4 == 1)
            CHECK_OK(syna_db_put_float(db, key, len, i / 8.0, NULL));
        else /* the long ones are stored compressed: one lies in memory at a time */
            CHECK_OK(syna_db_put(db, key, len, SYNA_TYPE_TEXT, text, i % 16 == 3 ? sizeof text : 20,
                                 NULL, NULL));
    }
}

static void is_record(const syna_record *r, int i)
{
    char key[16], text[3000];
    const int64_t number = i;
    const double fraction = i / 8.0;
    snprintf(key, sizeof key, "key%03d", i);
    memset(text, 'a' + i % 26, sizeof text);
    CHECK_EQ(r->size, sizeof *r);
    CHECK_EQ(r->key_len, 6);
    CHECK_MEM(r->key, key, 6);
    if (i % 4 < 2) {
        CHECK_EQ(r->len, 8);
        CHECK_MEM(r->data, i % 4 ? (const void *)&fraction : &number, 8);
    } else {
        CHECK_EQ(r->len, i % 16 == 3 ? sizeof text : 20);
        CHECK_MEM(r->data, text, r->len);
    }
}

TEST(many_records_of_a_scan_live_beside_each_other)
{
    static const size_t rooms[] = {1, 7, 64, 1000};
    static syna_record records[1000];
    syna_db *db = NULL;
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    CHECK_OK(syna_db_open(check_path("a.db"), &options, &db));
    put_of_every_kind(db);
    for (size_t r = 0; r < COUNT_OF(rooms); r++) {
        syna_scan *scan = NULL;
        size_t seen = 0, count, calls = 0;
        CHECK_OK(syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &scan));
        for (; seen < SCANNED; calls++) {
            records[0].size = calls % 2 ? sizeof *records : 0; /* as good as sizeof */
            CHECK_OK(syna_scan_next_many(scan, records, rooms[r], &count));
            CHECK(count >= 1 && count <= rooms[r]);
            for (size_t i = 0; i < count; i++)
                is_record(&records[i], (int)(seen + i));
            seen += count;
        }
        CHECK_EQ(seen, SCANNED);
        CHECK(rooms[r] == 1 ? calls == SCANNED : calls <= SCANNED / 4);
        CHECK_RC(syna_scan_next_many(scan, records, rooms[r], &count), SYNA_ERR_KEY_NOT_FOUND);
        CHECK_EQ(count, 0);
        syna_scan_free(scan);
    }
    CHECK_OK(syna_db_close(db));
}

TEST(structs_of_a_later_release_are_filled_as_far_as_they_are_known)
{
    struct {
        syna_db_stats known;
        uint64_t later[4];
    } big;
    syna_db *db = NULL;
    memset(&big, 0xee, sizeof big);
    big.known.size = sizeof big;
    CHECK_OK(syna_db_open(check_path("a.db"), NULL, &db));
    CHECK_OK(syna_db_get_stats(db, &big.known));
    CHECK_EQ(big.known.size, sizeof big.known); /* so the caller knows what is not */
    CHECK_EQ(big.later[0], 0xeeeeeeeeeeeeeeee);
    CHECK_OK(syna_db_close(db));
}

TEST(an_error_says_what_where_and_why)
{
    const char *p = check_path("text.db");
    FILE *f = fopen(p, "w");
    fputs("this is not a database at all", f);
    fclose(f);
    CHECK_FAILS(syna_open(p), SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK(strstr(syna_last_error(), "text.db"));
    CHECK(strstr(syna_last_path(), "text.db"));
    CHECK_RC(syna_open(check_path("")), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_open(check_path("none/a.db")), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_open(""), SYNA_ERR_INVALID_PATH);
    f = fopen(p, "r"); /* untouched */
    char text[64] = "";
    CHECK_EQ(fread(text, 1, sizeof text, f), 29);
    fclose(f);
    CHECK_STR(syna_version(), SYNA_VERSION);
    CHECK_EQ(syna_abi_version(), SYNA_ABI_VERSION);
}
