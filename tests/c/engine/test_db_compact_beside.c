/* Compaction beside those who do not wait for it: writers that add more than it copies, another process
 * that compacts the same log, a second call in line, a disk that fails at its last step. */
#include "db_fixture.h"

enum { VALUE = 100000 };

struct beside {
    syna_db *db;
    int calls, puts; /* of the callback; values put by it */
    int most;        /* values that it may put */
    bool at_the_end; /* act when everything is copied, once */
    void (*act)(struct beside *b);
    syna_db *other;
};

static void put_large(syna_db *db, int number)
{
    static uint8_t value[VALUE];
    char key[24];
    for (size_t i = 0; i < sizeof value; i += 8) {
        uint64_t noise = check_random(); /* not to be compressed away */
        memcpy(value + i, &noise, 8);
    }
    value[0] = value[VALUE - 1] = (uint8_t)number;
    snprintf(key, sizeof key, "large %d", number);
    CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_BYTES, value, sizeof value, NULL, NULL));
}

static void check_large(syna_db *db, int count)
{
    for (int n = 0; n < count; n++) {
        char key[24];
        void *bytes;
        size_t len;
        int32_t type;
        check_note("value %d of %d", n, count);
        snprintf(key, sizeof key, "large %d", n);
        CHECK_OK(db_get_copy(db, key, strlen(key), SYNA_TYPE_BYTES, &bytes, &len, &type));
        bool right = len == VALUE && ((uint8_t *)bytes)[0] == (uint8_t)n &&
                     ((uint8_t *)bytes)[len - 1] == (uint8_t)n;
        mem_free(bytes);
        CHECK(right);
    }
}

static int32_t progress(void *context, uint64_t done, uint64_t total)
{
    struct beside *b = context;
    b->calls++;
    if (b->act && (!b->at_the_end || done == total))
        b->act(b);
    return 0;
}

/* A clock that jumps, so that the callback is asked at every look at it. */
static uint64_t jumps;

static uint64_t jumping_clock(void)
{
    return vfs_posix.now_us() + 60000 * __atomic_add_fetch(&jumps, 1, __ATOMIC_RELAXED);
}

/* Two values more for each that is copied. */
static void add_two(struct beside *b)
{
    for (int i = 0; i < 2 && b->puts < b->most; i++)
        put_large(b->db, b->puts++);
}

TEST(P3_a_writer_that_outruns_a_compaction_loses_nothing_and_does_not_hold_it_up_for_ever)
{
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_LIVE_HISTORY; mode++) {
        struct vfs table = vfs_posix;
        table.now_us = jumping_clock;
        syna_test_set_vfs(&table);
        unlink(check_path("a.db"));
        unlink(check_path("a.db.idx"));
        struct beside b = {.db = fast("a.db"), .most = 400, .act = add_two};
        while (b.puts < 30)
            put_large(b.db, b.puts++);
        CHECK_OK(db_compact(b.db, mode, progress, &b));
        CHECK(b.puts > 90); /* more than the copy of the snapshot had steps */
        check_large(b.db, b.puts);
        CHECK_OK(db_close(b.db));
        syna_test_set_vfs(NULL);
        syna_db *db = fast("a.db");
        check_large(db, b.puts);
        CHECK_EQ(count_of(db), b.puts);
        CHECK_OK(db_close(db));
        sound("a.db");
    }
}

TEST(a_checkpoint_that_cannot_be_saved_is_left_out_of_a_compaction)
{
    syna_db *db = fast("a.db");
    for (int n = 0; n < 15; n++)
        put_large(db, n);
    CHECK_OK(db_close(db));
    CHECK(there("a.db.idx"));
    db = fast("a.db");
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 1, .system = EIO, .only = 1 << FAULT_REPLACE});
    compact(db, SYNA_COMPACT_LATEST);
    CHECK_EQ(fault_fired(), 1);
    syna_test_set_vfs(NULL);
    CHECK(!there("a.db.idx")); /* the old one would be taken for the new log's */
    check_large(db, 15);
    CHECK_OK(db_close(db));
    db = fast("a.db");
    check_large(db, 15);
    CHECK_OK(db_close(db));
}

TEST(P7_a_compaction_of_sorted_keys_fails_cleanly_without_memory)
{
    syna_db *db = fast("a.db");
    char key[16];
    for (int n = 0; n < 300; n++) {
        snprintf(key, sizeof key, "k%d", n * 7919 % 300);
        put_int(db, key, n);
    }
    syna_scan *scan; /* from now on the keys are kept in order */
    CHECK_OK(db_scan_new(db, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    db_scan_free(scan);
    int refused = 0;
    for (int64_t k = 1;; k++) {
        check_note("allocation %lld", (long long)k);
        fault_alloc(k, false);
        syna_rc rc = db_compact(db, SYNA_COMPACT_LATEST, NULL, NULL);
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (rc != SYNA_SUCCESS) {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            refused++;
        }
        CHECK_EQ(count_of(db), 300);
        CHECK(!temp_left());
        if (!fired)
            break;
    }
    CHECK(refused > 10);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- the last step */

static void write_and_arm(struct beside *b)
{
    if (b->puts++ > 0)
        return;
    put_int(b->db, "late", 1);
    fault_arm(&(struct fault){.at = b->most, .system = EIO, .only = 1 << FAULT_SYNC});
}

/* The old log's last sync fails, or the new log's. */
TEST(P8_a_compaction_whose_last_syncs_fail_leaves_the_old_log)
{
    for (int at = 1; at <= 2; at++) {
        char name[16];
        snprintf(name, sizeof name, "%d.db", at);
        struct beside b = {
            .db = fast(name), .most = at, .at_the_end = true, .act = write_and_arm};
        put_int(b.db, "k", 1);
        CHECK_OK(db_flush(b.db));
        fault_begin(&vfs_posix);
        syna_test_set_vfs(&vfs_fault);
        CHECK_FAILS(db_compact(b.db, SYNA_COMPACT_LATEST, progress, &b), SYNA_ERR_IO,
                    SYNA_WHY_SYNC_FAILED);
        CHECK_EQ(fault_fired(), 1);
        CHECK(!temp_left());
        CHECK_EQ(int_of(b.db, "k"), 1);
        int64_t v = 2;
        syna_rc rc = db_put(b.db, "k", 1, SYNA_TYPE_INT, &v, 8, NULL, NULL);
        if (at == 1)
            CHECK_FAILS(rc, SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
        else
            CHECK_OK(rc); /* the log that is written to has not failed */
        CHECK_EQ(has(b.db, "late"), at == 2);
        syna_test_set_vfs(NULL);
        CHECK_OK(db_close(b.db));
        syna_db *db = fast(name);
        CHECK_EQ(int_of(db, "k"), at);
        CHECK_EQ(has(db, "late"), at == 2);
        CHECK_OK(db_close(db));
    }
}

/* ---------------------------------------------------------------- others that compact */

static int waiting, finish_now; /* atomic */

static int32_t wait_in_callback(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    __atomic_store_n(&waiting, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&finish_now, __ATOMIC_ACQUIRE))
        usleep(200);
    return 0;
}

static void *compact_slowly(void *context)
{
    CHECK_OK(db_compact(context, SYNA_COMPACT_LATEST, wait_in_callback, NULL));
    return NULL;
}

static int32_t stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    ++*(int *)context;
    return 1;
}

TEST(P13_a_compaction_in_line_can_be_cancelled_and_the_one_before_it_goes_on)
{
    syna_db *db = fast("a.db");
    pthread_t thread;
    int asked = 0;
    put_int(db, "k", 1);
    waiting = finish_now = 0;
    CHECK_EQ(pthread_create(&thread, NULL, compact_slowly, db), 0);
    while (!__atomic_load_n(&waiting, __ATOMIC_ACQUIRE))
        usleep(200);
    CHECK_FAILS(db_compact(db, SYNA_COMPACT_LATEST, stop_at_once, &asked), SYNA_ERR_GENERIC,
                SYNA_WHY_CANCELLED);
    CHECK_EQ(asked, 1);
    __atomic_store_n(&finish_now, 1, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    compact(db, SYNA_COMPACT_LATEST); /* the line is free again */
    CHECK_EQ(int_of(db, "k"), 1);
    CHECK_OK(db_close(db));
}

/* Another handle of the shared log, as another process has it, compacts it first. */
static void let_the_other_compact(struct beside *b)
{
    if (b->puts++ < b->most)
        compact(b->other, SYNA_COMPACT_LATEST);
}

TEST(P9_a_shared_log_that_another_compacts_meanwhile_is_compacted_anew_or_given_up)
{
    for (int others = 1; others <= 5; others += 4) {
        syna_db_options shared = {.shared = 1, .no_sync = 1};
        struct beside b = {.db = open_with("a.db", shared),
                           .other = open_with("a.db", shared),
                           .most = others,
                           .act = let_the_other_compact};
        put_int(b.db, "k", 1);
        put_int(b.other, "k", 2);
        syna_rc rc = db_compact(b.db, SYNA_COMPACT_LATEST, progress, &b);
        if (others == 1)
            CHECK_OK(rc);
        else
            CHECK_FAILS(rc, SYNA_ERR_IO, SYNA_WHY_LOCKED);
        put_int(b.db, "mine", 3);
        put_int(b.other, "theirs", 4);
        bool changed;
        CHECK_OK(db_refresh(b.db, &changed));
        CHECK_EQ(int_of(b.db, "k"), 2);
        CHECK_EQ(int_of(b.db, "theirs"), 4);
        CHECK_EQ(int_of(b.other, "mine"), 3);
        CHECK(!temp_left());
        CHECK_OK(db_close(b.other));
        CHECK_OK(db_close(b.db));
        sound("a.db");
    }
}
