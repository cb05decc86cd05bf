/* Backups: consistent, complete, sound, and in nobody's way. */
#include "db_fixture.h"

#include "store/format.h"

static syna_rc backup(syna_db *db, const char *to)
{
    return db_backup(db, check_path(to), NULL, NULL);
}

TEST(a_backup_is_the_database_as_it_was)
{
    static const double numbers[] = {1, 2.5, -0.0};
    for (int sync = 0; sync < 2; sync++) {
        syna_db *db = open_with("a.db", (syna_db_options){.no_sync = !sync});
        syna_blob *blob;
        put_int(db, "a", 1);
        for (int i = 0; i < 3; i++)
            put_float(db, "h", numbers[i]);
        put_text(db, "gone", "x");
        del(db, "gone");
        CHECK_OK(db_blob_create(db, "blob", 4, &blob));
        CHECK_OK(db_blob_write(blob, "streamed", 8));
        CHECK_OK(db_blob_finish(blob));
        db_blob_free(blob);
        CHECK_OK(backup(db, "b.db"));
        put_int(db, "a", 2);
        put_int(db, "later", 1);
        CHECK_OK(db_close(db));

        sound("b.db");
        syna_open_report report;
        db = fast("b.db");
        db_get_report(db, &report);
        CHECK(report.clean);
        CHECK_EQ(int_of(db, "a"), 1);
        CHECK(!has(db, "later") && !has(db, "gone"));
        double got[4];
        size_t count;
        char text[8];
        int32_t type;
        CHECK_OK(db_history_numbers(db, "h", 1, SYNA_TYPE_FLOAT, (uint64_t *)(void *)got, NULL, 4,
                                    &count));
        CHECK_EQ(count, 3);
        CHECK_MEM(got, numbers, sizeof numbers);
        CHECK_OK(db_get(db, "blob", 4, text, 8, &count, &type));
        CHECK_MEM(text, "streamed", 8);
        put_int(db, "own", 1); /* a database of its own */
        CHECK_OK(db_close(db));
        sound("b.db");
        unlink(check_path("a.db"));
        unlink(check_path("b.db"));
    }
}

TEST(an_empty_database_and_a_reader_can_be_backed_up)
{
    syna_db *db = fast("a.db");
    CHECK_OK(backup(db, "empty.db"));
    syna_db *beside = reader("a.db");
    CHECK_OK(backup(beside, "empty-beside.db"));
    CHECK_OK(db_close(beside));
    sound("empty-beside.db");
    put_int(db, "a", 1);
    beside = reader("a.db");
    CHECK_OK(backup(beside, "beside.db"));
    CHECK_OK(db_close(beside));
    CHECK_OK(db_close(db));
    db = reader("a.db");
    CHECK_OK(backup(db, "closed.db"));
    CHECK_OK(db_close(db));
    sound("empty.db");
    sound("beside.db");
    sound("closed.db");
    CHECK_EQ(size_of("closed.db"), size_of("a.db"));
    db = reader("beside.db");
    CHECK_EQ(int_of(db, "a"), 1);
    CHECK_OK(db_close(db));
}

TEST(the_target_must_not_exist_and_stays_as_it_is)
{
    syna_db *db = fast("a.db");
    spill("b.db", "mine", 4);
    CHECK_RC(backup(db, "b.db"), SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, EEXIST);
    CHECK_EQ(size_of("b.db"), 4);
    CHECK_RC(backup(db, "a.db"), SYNA_ERR_IO);
    CHECK(backup(db, "none/b.db") != SYNA_SUCCESS);
    CHECK(!temp_left());
    CHECK_OK(db_close(db));
}

static int32_t stop_at_second(void *context, uint64_t done, uint64_t total)
{
    CHECK(done <= total);
    return ++*(int *)context >= 2;
}

TEST(P13_a_cancelled_backup_leaves_nothing)
{
    syna_db *db = fast("a.db");
    int asked = 0;
    put_int(db, "a", 1);
    CHECK_FAILS(db_backup(db, check_path("b.db"), stop_at_second, &asked), SYNA_ERR_GENERIC,
                SYNA_WHY_CANCELLED);
    CHECK_EQ(asked, 2);
    CHECK(!there("b.db") && !temp_left());
    CHECK_OK(db_close(db));
}

TEST(P4_damage_is_not_copied)
{
    syna_db *db = fast("a.db");
    put_text(db, "a", "damage me");
    put_int(db, "b", 1);
    CHECK_OK(db_flush(db));
    flip("a.db", find_bytes("a.db", "damage me", 9, 0), 1);
    CHECK_FAILS(backup(db, "b.db"), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, HEADER_BYTES);
    CHECK(!there("b.db") && !temp_left());
    db_close(db);
}

/* The most that is put beside one backup. A writer without a bound outruns a slow disk: every round's
 * log would be a multiple of the last one's. */
#define PUTS_A_ROUND 100000

struct busy {
    syna_db *db;
    int64_t last;    /* atomic: put and acknowledged */
    int64_t allowed; /* atomic: put up to here */
    bool stop, failed;
};

static void *count_up(void *context)
{
    struct busy *b = context;
    for (int64_t i = 1; !__atomic_load_n(&b->stop, __ATOMIC_RELAXED); i++) {
        while (i > __atomic_load_n(&b->allowed, __ATOMIC_ACQUIRE) &&
               !__atomic_load_n(&b->stop, __ATOMIC_RELAXED))
            sched_yield();
        b->failed |= db_put(b->db, "n", 1, SYNA_TYPE_INT, &i, 8, NULL, NULL) != SYNA_SUCCESS;
        __atomic_store_n(&b->last, i, __ATOMIC_RELEASE);
    }
    return NULL;
}

TEST(P2_backups_beside_a_writer_and_compactions_are_prefixes)
{
    for (int sync = 0; sync < 2; sync++) {
        struct busy b = {.db = open_with("a.db", (syna_db_options){.no_sync = !sync}),
                         .allowed = PUTS_A_ROUND};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, count_up, &b), 0);
        while (__atomic_load_n(&b.last, __ATOMIC_ACQUIRE) < 10)
            sched_yield();
        for (int64_t i = 0; i < check_rounds(8); i++) {
            int64_t before = __atomic_load_n(&b.last, __ATOMIC_ACQUIRE);
            CHECK_OK(backup(b.db, "b.db"));
            int64_t after = __atomic_load_n(&b.last, __ATOMIC_ACQUIRE);
            if (i % 3 == 2)
                compact(b.db, SYNA_COMPACT_LATEST);
            sound("b.db");
            syna_db *copy = reader("b.db");
            int64_t n = int_of(copy, "n");
            CHECK(n >= before && n <= after + 1);
            CHECK_OK(db_close(copy));
            unlink(check_path("b.db"));
            __atomic_store_n(&b.allowed, after + PUTS_A_ROUND, __ATOMIC_RELEASE);
        }
        __atomic_store_n(&b.stop, true, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        CHECK(!b.failed);
        CHECK_OK(db_close(b.db));
        unlink(check_path("a.db"));
    }
}

TEST(P7_a_backup_that_fails_leaves_nothing_and_one_that_succeeds_everything)
{
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(NULL);
    syna_db *db = fast("a.db");
    put_int(db, "a", 1);
    for (int memory = 0; memory < 2; memory++)
        for (int64_t k = 1;; k++) {
            check_note("memory %d, k = %lld", memory, (long long)k);
            put_int(db, "a", k); /* so that there is something to sync */
            CHECK_OK(db_flush(db));
            if (memory)
                fault_alloc(k, false);
            else /* a failing sync of the log itself ends the handle: not what is tested here */
                fault_arm(&(struct fault){.at = k, .system = EIO, .short_io = k % 2});
            syna_rc rc = backup(db, "b.db");
            bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
            enum fault_call first = fault_first();
            fault_alloc(0, false);
            fault_arm(NULL);
            if (rc == SYNA_SUCCESS) {
                sound("b.db");
                syna_db *copy = reader("b.db");
                CHECK_EQ(int_of(copy, "a"), k);
                CHECK_OK(db_close(copy));
            } else {
                CHECK(!there("b.db"));
            }
            bool removed = memory || !fired || first != FAULT_REMOVE; /* else the temp file stays */
            CHECK(!removed || !temp_left());
            names_with("b.db", true);
            if (!fired)
                break;
        }
    CHECK_OK(db_close(db));
    syna_test_set_vfs(NULL);
}
