/* Opening: paths of every kind, options that do not go together, what a crash left, calls of the
 * system that fail on the way. */
#include "db_fixture.h"

#include "base/bytes.h"
#include "store/keydir.h"

static void refused(const char *path, syna_rc code)
{
    syna_db *db = NULL;
    check_note("%.60s", path);
    CHECK_RC(db_open(path, NULL, &db), code);
    CHECK(db == NULL);
}

/* A path below the test's directory, which lives until the next call. */
static const char *below(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s%s", check_path(""), name);
    return path;
}

TEST(what_names_a_folder_or_nothing_is_no_path_of_a_database)
{
    static const char *const names[] = {"/", "/.", "/..", "/sub/", "/sub/.", "/sub/..", "/none/",
                                        "/none/.", "/none/..", "/none/a.db"};
    CHECK_EQ(mkdir(below("/sub"), 0700), 0);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        refused(below(names[i]), SYNA_ERR_INVALID_PATH);
    refused("", SYNA_ERR_INVALID_PATH);
    CHECK_EQ(symlink("loop", below("/loop")), 0);
    refused(below("/loop"), SYNA_ERR_INVALID_PATH);
    refused(below("/loop/a.db"), SYNA_ERR_INVALID_PATH);
    spill("file", "text", 4);
    refused(below("/file/a.db"), SYNA_ERR_INVALID_PATH);
    char longest[600] = "/";
    memset(longest + 1, 'n', 300);
    refused(below(longest), SYNA_ERR_INVALID_PATH);
    memcpy(longest, "/none-such/", 11);
    refused(below(longest), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(names_with(".", false), 2); /* the folder itself and its parent: nothing was made */
}

TEST(a_missing_database_in_the_root_folder_is_missing)
{
    syna_db *db;
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    CHECK_RC(db_open("/there is no such database.db", &options, &db), SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, ENOENT);
    CHECK_STR(status_get()->path, "/there is no such database.db");
}

TEST(a_name_without_a_folder_is_below_the_working_directory)
{
    char before[4096];
    CHECK(getcwd(before, sizeof before) != NULL);
    CHECK_EQ(chdir(check_path("")), 0);
    syna_db *db = NULL;
    syna_rc rc = db_open("plain.db", NULL, &db);
    CHECK_EQ(chdir(before), 0);
    CHECK_OK(rc);
    CHECK_STR(db_path(db), below("/plain.db"));
    put_int(db, "k", 1);
    CHECK_OK(db_close(db));
    CHECK(there("plain.db"));
}

TEST(options_that_exclude_each_other_or_are_of_another_size_are_refused)
{
    syna_db *db;
    syna_db_options options = {.size = sizeof options, .read_only = 1, .shared = 1};
    CHECK_FAILS(db_open(check_path("a.db"), &options, &db), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    options = (syna_db_options){.size = 4};
    CHECK_FAILS(db_open(check_path("a.db"), &options, &db), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK(!there("a.db"));
    options = (syna_db_options){.size = sizeof options, .shared = 1, .timeout_ms = 100};
    CHECK_OK(db_open(check_path("a.db"), &options, &db));
    CHECK_OK(db_close(db));
}

TEST(a_handle_knows_its_file)
{
    struct stat a, b;
    syna_db *db = fast("a.db");
    spill("b", "", 0);
    CHECK_EQ(stat(check_path("a.db"), &a), 0);
    CHECK_EQ(stat(check_path("b"), &b), 0);
    CHECK(db_is_file(db, a.st_dev, a.st_ino));
    CHECK(!db_is_file(db, b.st_dev, b.st_ino));
    CHECK(!db_is_file(db, a.st_dev + 1, a.st_ino));
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- after a crash */

static void write_and_die(void *context)
{
    const size_t len = 1 << 20;
    uint8_t *value = malloc(len);
    syna_db *db = fast("a.db");
    for (size_t i = 0; i < len; i++)
        value[i] = (uint8_t)check_random();
    for (int n = 0; n < *(int *)context; n++) {
        char key[16];
        snprintf(key, sizeof key, "big %d", n);
        store_u64(value, (uint64_t)n);
        CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_BYTES, value, len, NULL, NULL));
    }
    _exit(0);
}

TEST(P1_a_log_that_took_long_to_replay_gets_its_checkpoint_at_once)
{
    int megabytes = 66;
    check_path(""); /* made here, not in the child */
    CHECK_EQ(check_child(write_and_die, &megabytes), 0);
    CHECK(!there("a.db.idx"));
    syna_db *db = fast("a.db");
    syna_open_report report;
    db_get_report(db, &report);
    CHECK(!report.clean && report.rebuilt);
    CHECK_EQ(report.frames_scanned, megabytes);
    CHECK(there("a.db.idx")); /* before anything is written or closed */
    CHECK_EQ(count_of(db), megabytes);
    syna_db *second = reader("a.db");
    db_get_report(second, &report);
    CHECK_EQ(report.frames_scanned, 0);
    CHECK_EQ(count_of(second), megabytes);
    CHECK_OK(db_close(second));
    CHECK_OK(db_close(db));
}

TEST(P8_a_sync_that_fails_after_a_long_replay_leaves_the_data_and_refuses_writes)
{
    int megabytes = 65;
    check_path(""); /* made here, not in the child */
    CHECK_EQ(check_child(write_and_die, &megabytes), 0);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 1, .system = EIO, .only = 1 << FAULT_SYNC});
    syna_db *db = fast("a.db");
    CHECK_EQ(fault_fired(), 1);
    CHECK(!there("a.db.idx"));
    CHECK_EQ(count_of(db), megabytes);
    int64_t v = 1;
    CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_IO,
                SYNA_WHY_SYNC_FAILED);
    CHECK_OK(db_close(db));
    syna_test_set_vfs(NULL);
    db = fast("a.db");
    CHECK_EQ(count_of(db), megabytes);
    put_int(db, "k", 1);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- counts */

TEST(a_key_that_expired_and_was_deleted_is_counted_once)
{
    syna_db *db = fast("a.db");
    syna_db_stats stats = {.size = sizeof stats};
    put_how(db, "gone", 1, (syna_put){.expires_us = 1});
    put_how(db, "deleted", 1, (syna_put){.expires_us = syna_vfs->now_us() + 3600000000u});
    put_how(db, "stays", 1, (syna_put){.expires_us = syna_vfs->now_us() + 3600000000u});
    del(db, "deleted");
    CHECK_OK(db_get_stats(db, &stats));
    CHECK_EQ(stats.keys, 1);
    CHECK_EQ(stats.deleted_keys, 2);
    CHECK_EQ(count_of(db), 1);
    CHECK_OK(db_close(db));
}

TEST(P4_a_damaged_record_with_an_expiry_fails_the_counting_and_nothing_else)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 7);
    put_how(db, "expiring", 1, (syna_put){.expires_us = syna_vfs->now_us() + 3600000000u});
    CHECK_OK(db_flush(db));
    flip("a.db", find_bytes("a.db", "expiring", 8, 0) + 10, 3);
    uint64_t count;
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_FAILS(db_count(db, &count), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(db_get_stats(db, &stats), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(int_of(db, "k"), 7);
    int64_t v = 1;
    CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT); /* damage was met: no more writing */
    CHECK_OK(db_close(db));
}
