/* Following a log that others write: a reader's refresh, a shared log's turn. Every allocation and every
 * call of the system fails once on the way: a typed error, what was seen before is still seen, and the
 * next try gets there. */
#include "db_fixture.h"

enum { KEYS = 60 };

/* What the other one does between two looks. */
enum news { APPENDED, COMPACTED, TORN };

static void key_of(int n, char key[24])
{
    snprintf(key, 24, "key %d", n);
}

static void put_all(syna_db *db, int from, int to, int64_t value)
{
    char key[24];
    for (int n = from; n < to; n++) {
        key_of(n, key);
        put_int(db, key, value);
    }
}

static void check_all(syna_db *db, int from, int to, int64_t value)
{
    char key[24];
    for (int n = from; n < to; n++) {
        key_of(n, key);
        CHECK_EQ(int_of(db, key), value);
    }
}

/* Bytes behind the log that are no commit. */
static void tear(syna_db *writer)
{
    static const uint8_t half[40] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(writer, &stats));
    poke("a.db", stats.file_bytes, half, sizeof half);
}

static void make_news(syna_db *writer, enum news news, int64_t value)
{
    put_all(writer, 0, KEYS, value);
    put_all(writer, KEYS, KEYS + (int)value, value);
    if (news == COMPACTED)
        compact(writer, SYNA_COMPACT_LATEST);
    if (news == TORN)
        tear(writer);
}

/* One failure at step k, when there are as many. */
static void arm(int64_t k, bool memory)
{
    if (memory)
        fault_alloc(k, false);
    else
        fault_arm(&(struct fault){.at = k, .system = EIO});
}

static bool disarm(bool memory)
{
    bool fired = (memory ? fault_alloc_fired() : fault_fired()) > 0;
    fault_alloc(0, false);
    fault_arm(NULL);
    return fired;
}

static void typed(syna_rc rc, bool memory)
{
    if (memory)
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    else
        CHECK_RC(rc, SYNA_ERR_IO);
}

/* A reader's refresh with failures. The writer is another handle, as in another process. */
static void refresh_with_failures(enum news news, bool memory, syna_db_options how)
{
    syna_db *writer = fast("a.db");
    put_all(writer, 0, KEYS, 1);
    how.read_only = 1;
    syna_db *db = open_with("a.db", how);
    int failures = 0;
    fault_begin(&vfs_posix);
    for (int64_t k = 1;; k++) {
        bool changed = true;
        check_note("news %d, %s, step %lld", news, memory ? "memory" : "disk", (long long)k);
        syna_test_set_vfs(NULL);
        make_news(writer, news, k + 1);
        syna_test_set_vfs(&vfs_fault);
        arm(k, memory);
        syna_rc rc = db_refresh(db, &changed);
        bool fired = disarm(memory);
        if (rc != SYNA_SUCCESS) {
            CHECK(fired);
            typed(rc, memory);
            CHECK(!changed);
            failures++;
            char key[24];
            key_of(0, key);
            CHECK(int_of(db, key) >= 1); /* what was seen before, or more */
            CHECK_OK(db_refresh(db, &changed));
        }
        check_all(db, 0, KEYS + (int)k + 1, k + 1);
        CHECK_EQ(count_of(db), KEYS + (uint64_t)k + 1);
        if (!fired || (how.no_mmap && k == 40)) /* without a map each commit is a read */
            break;
        CHECK(k < 500);
    }
    CHECK(failures > 0);
    syna_test_set_vfs(NULL);
    CHECK_OK(db_close(db));
    CHECK_OK(db_close(writer));
}

TEST(P7_P10_a_readers_refresh_fails_cleanly_at_every_step)
{
    for (int news = APPENDED; news <= COMPACTED; news++)
        for (int memory = 0; memory < 2; memory++) {
            refresh_with_failures((enum news)news, memory, (syna_db_options){0});
            unlink(check_path("a.db"));
            refresh_with_failures((enum news)news, memory, (syna_db_options){.no_mmap = 1});
            unlink(check_path("a.db"));
        }
}

/* A commit, flush or refresh of a shared log after another has written. */
static syna_rc take_a_turn(syna_db *db, int what, int64_t value)
{
    bool changed;
    if (what == 0)
        return db_put(db, "mine", 4, SYNA_TYPE_INT, &value, sizeof value, NULL, NULL);
    return what == 1 ? db_flush(db) : db_refresh(db, &changed);
}

static void turn_with_failures(enum news news, bool memory, int what)
{
    syna_db_options shared = {.shared = 1, .no_sync = 1};
    syna_db *other = open_with("a.db", shared), *db = open_with("a.db", shared);
    int failures = 0;
    int64_t mine = 0;
    put_all(other, 0, KEYS, 1);
    fault_begin(&vfs_posix);
    for (int64_t k = 1;; k++) {
        check_note("news %d, %s, turn %d, step %lld", news, memory ? "memory" : "disk", what,
                   (long long)k);
        syna_test_set_vfs(NULL);
        make_news(other, news, k + 1);
        syna_test_set_vfs(&vfs_fault);
        arm(k, memory);
        syna_rc rc = take_a_turn(db, what, k);
        bool fired = disarm(memory);
        if (rc != SYNA_SUCCESS) {
            CHECK(fired);
            failures++;
            if (!memory && status_get()->reason == SYNA_WHY_SYNC_FAILED) { /* final: start again */
                syna_test_set_vfs(NULL);
                CHECK_OK(db_close(db));
                db = open_with("a.db", shared);
                syna_test_set_vfs(&vfs_fault);
            } else {
                typed(rc, memory);
            }
            CHECK_OK(take_a_turn(db, what, k));
        }
        mine = k;
        check_all(db, 0, KEYS + (int)k + 1, k + 1);
        if (what == 0)
            CHECK_EQ(int_of(db, "mine"), mine);
        if (!fired)
            break;
        CHECK(k < 500);
    }
    CHECK(failures > 0);
    syna_test_set_vfs(NULL);
    CHECK_OK(db_close(db));
    CHECK_OK(db_close(other));
    sound("a.db");
    names_with("a.db", true);
}

TEST(P7_P10_a_turn_in_a_shared_log_fails_cleanly_at_every_step)
{
    for (int news = APPENDED; news <= TORN; news++)
        for (int memory = 0; memory < 2; memory++)
            for (int what = 0; what < 3; what++)
                turn_with_failures((enum news)news, memory, what);
}

/* ---------------------------------------------------------------- a log that another damaged */

TEST(P5_a_shared_log_in_which_another_left_damage_is_no_longer_written_to)
{
    syna_db_options shared = {.shared = 1};
    syna_db *other = open_with("a.db", shared), *db = open_with("a.db", shared);
    put_int(db, "k", 1);
    put_int(other, "damaged", 2);
    put_int(other, "behind", 3); /* says that what is before it had been synced */
    flip("a.db", find_bytes("a.db", "damaged", 7, 0) + 9, 1);
    int64_t v = 4;
    CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_EQ(int_of(db, "k"), 1);
    CHECK_FAILS(db_close(db), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(int_of(other, "behind"), 3);
    CHECK_OK(db_close(other));
    CHECK(verify("a.db").damaged > 0); /* still there for who wants to see it */
}

/* ---------------------------------------------------------------- what a look costs */

static uint64_t bytes_read;

static int64_t count_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    int64_t got = vfs_posix.read_at(fd, buf, len, offset);
    bytes_read += got > 0 ? (uint64_t)got : 0;
    return got;
}

TEST(a_refresh_without_news_reads_a_page_however_much_room_is_ahead)
{
    struct vfs table = vfs_posix;
    table.read_at = count_read;
    bool changed;
    syna_db *writer = fast("a.db");
    char value[4000] = {1};
    for (int i = 0; i < 5000; i++)
        CHECK_OK(db_put(writer, "k", 1, SYNA_TYPE_BYTES, value, sizeof value, NULL, NULL));
    syna_db *db = open_with("a.db", (syna_db_options){.read_only = 1});
    syna_test_set_vfs(&table);
    bytes_read = 0;
    CHECK_OK(db_refresh(db, &changed));
    CHECK(!changed);
    CHECK(bytes_read <= 4096);
    put_int(writer, "new", 1);
    CHECK_OK(db_refresh(db, &changed));
    syna_test_set_vfs(NULL);
    CHECK(changed);
    CHECK_EQ(int_of(db, "new"), 1);
    CHECK_OK(db_close(db));
    CHECK_OK(db_close(writer));
}

TEST(a_turn_in_a_shared_log_opens_no_file)
{
    syna_db_options shared = {.shared = 1, .no_sync = 1};
    syna_db *db = open_with("a.db", shared), *other = open_with("a.db", shared);
    put_int(db, "k", 0);
    put_int(other, "k", 0);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int64_t i = 1; i <= 10; i++) {
        put_int(db, "k", i);
        put_int(other, "k", i);
    }
    CHECK_EQ(fault_count(FAULT_OPEN), 0);
    CHECK_EQ(fault_count(FAULT_LOCK), 20);
    CHECK(fault_count(FAULT_STAT) <= 40);
    syna_test_set_vfs(NULL);
    CHECK_OK(db_close(db));
    CHECK_OK(db_close(other));
}
