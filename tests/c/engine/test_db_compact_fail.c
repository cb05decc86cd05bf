/* Compaction: what it refuses, and that it happens as a whole or not at all. */
#include "db_dump.h"

/* ---------------------------------------------------------------- refusals, damage */

TEST(what_cannot_be_compacted_is_refused)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    CHECK_FAILS(db_compact(db, 3, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(db_compact(db, -1, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(db_close(db));
    db = reader("a.db");
    CHECK_FAILS(db_compact(db, 0, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(db_close(db));
}

static void compact_in_child(void *context)
{
    CHECK_FAILS(db_compact(context, 0, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
}

TEST(P11_a_forked_child_does_not_compact)
{
    syna_db *db = fast("a.db");
    CHECK_EQ(check_child(compact_in_child, db), 0);
    CHECK_OK(db_close(db));
}

TEST(P5_damage_is_refused_and_nothing_changes)
{
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_LIVE_HISTORY; mode++) {
        syna_db *db = fast("a.db");
        for (int i = 0; i < 20; i++)
            put_float(db, "h", i);
        put_text(db, "a", "damage me");
        put_text(db, "a", "newest");
        CHECK_OK(db_flush(db));
        uint64_t place = find_bytes("a.db", "damage me", 9, 0);
        flip("a.db", place, 2);
        size_t len, len_after;
        uint8_t *before = slurp("a.db", &len);
        CHECK_FAILS(db_compact(db, mode, NULL, NULL), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
        CHECK(status_get()->offset > HEADER_BYTES && status_get()->offset < (int64_t)place);
        uint8_t *after = slurp("a.db", &len_after);
        CHECK_EQ(len_after, len);
        CHECK_MEM(after, before, len);
        free(before);
        free(after);
        CHECK(!temp_left());
        text_is(db, "a", "newest"); /* reading goes on, writing does not */
        CHECK_FAILS(db_put(db, "k", 1, SYNA_TYPE_NULL, NULL, 0, NULL, NULL), SYNA_ERR_SERIALIZATION,
                    SYNA_WHY_CORRUPT);
        db_close(db);
        unlink(check_path("a.db"));
    }
}

TEST(P5_damage_to_a_compacted_file_is_not_taken_for_a_torn_tail)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 30; i++) {
        char key[32];
        key_of(key, i, 0);
        put_text(db, key, "a value");
    }
    compact(db, SYNA_COMPACT_LATEST);
    size_t len;
    uint8_t *bytes = slurp("a.db", &len);
    uint64_t end = stats_of(db).file_bytes;
    spill("b.db", bytes, len); /* as after a crash: no CLOSE frame */
    free(bytes);
    CHECK_OK(db_close(db));
    for (uint64_t at = HEADER_BYTES; at + 20 < end; at += 7) {
        syna_db_options options = {.size = sizeof options};
        flip("b.db", at, (unsigned)at % 8);
        CHECK_FAILS(db_open(check_path("b.db"), &options, &db), SYNA_ERR_SERIALIZATION,
                    SYNA_WHY_CORRUPT);
        flip("b.db", at, (unsigned)at % 8);
    }
    db = fast("b.db");
    CHECK_EQ(count_of(db), 30);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- stopping, failing */

struct stopper {
    int asked, stop_at;
    uint64_t last;
};

static int32_t stop(void *context, uint64_t done, uint64_t total)
{
    struct stopper *s = context;
    CHECK(done <= total);
    CHECK(done >= s->last);
    s->last = done;
    return ++s->asked == s->stop_at;
}

TEST(P13_a_cancelled_compaction_leaves_everything_as_it_was)
{
    syna_db *db = fast("a.db");
    fill_with_everything(db);
    char *want = dump_keys(db, some_keys, COUNT_OF(some_keys), true);
    struct stopper s = {.stop_at = 1};
    for (;; s.stop_at++) {
        s.asked = 0;
        s.last = 0;
        syna_rc rc = db_compact(db, SYNA_COMPACT_HISTORY, stop, &s);
        if (rc == SYNA_SUCCESS)
            break;
        CHECK_FAILS(rc, SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
        CHECK(!temp_left());
        same(dump_keys(db, some_keys, COUNT_OF(some_keys), true), want);
        put_int(db, "x", 1);
        del(db, "x");
    }
    CHECK(s.stop_at > 2);
    same(dump_keys(db, some_keys, COUNT_OF(some_keys), true), want);
    CHECK_OK(db_close(db));
    free(want);
}

TEST(P7_without_memory_everything_stays_as_it_was)
{
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_LIVE_HISTORY; mode++) {
        bool history = mode == SYNA_COMPACT_HISTORY;
        syna_db *db = fast("a.db");
        fill_with_everything(db);
        char *want = dump_keys(db, some_keys, COUNT_OF(some_keys), history);
        for (int64_t k = 1;; k++) {
            check_note("mode %d, k = %lld", mode, (long long)k);
            uint64_t generation = stats_of(db).generation;
            fault_alloc(k, k % 5 == 0);
            syna_rc rc = db_compact(db, mode, NULL, NULL);
            bool fired = fault_alloc_fired() > 0;
            fault_alloc(0, false);
            CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_INTERNAL);
            CHECK_EQ(stats_of(db).generation, generation + (rc == SYNA_SUCCESS));
            CHECK(!temp_left());
            same(dump_keys(db, some_keys, COUNT_OF(some_keys), history), want);
            if (!fired)
                break;
        }
        put_int(db, "x", 1);
        CHECK_OK(db_close(db));
        sound("a.db");
        free(want);
        unlink(check_path("a.db"));
    }
}

TEST(P7_P8_a_failing_disk_leaves_the_old_state_or_the_new_one)
{
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int64_t k = 1;; k++) {
        bool history = k % 2;
        check_note("k = %lld", (long long)k);
        fault_arm(NULL);
        syna_db *db = fast("a.db");
        fill_with_everything(db);
        CHECK_OK(db_flush(db));
        char *want = dump_keys(db, some_keys, COUNT_OF(some_keys), history);
        fault_arm(&(struct fault){.at = k, .system = k % 3 ? EIO : ENOSPC, .short_io = k % 3 == 0});
        syna_rc rc = db_compact(db, history, NULL, NULL);
        bool fired = fault_fired() > 0;
        enum fault_call first = fault_first();
        fault_arm(NULL);
        CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_IO || rc == SYNA_ERR_INTERNAL);
        same(dump_keys(db, some_keys, COUNT_OF(some_keys), history), want);
        syna_rc put = db_put(db, "x", 1, SYNA_TYPE_INT, "12345678", 8, NULL, NULL);
        /* A sync of the log or of its folder that fails ends the handle; nothing else does. */
        CHECK(put == SYNA_SUCCESS || first == FAULT_SYNC || first == FAULT_SYNC_DIR);
        if (put == SYNA_SUCCESS)
            del(db, "x");
        CHECK(!temp_left() || first == FAULT_REMOVE);
        db_close(db);
        sound("a.db");
        db = open_with("a.db", (syna_db_options){0});
        CHECK(!temp_left());
        same(dump_keys(db, some_keys, COUNT_OF(some_keys), history), want);
        CHECK_OK(db_close(db));
        free(want);
        unlink(check_path("a.db"));
        if (!fired)
            break;
    }
    syna_test_set_vfs(NULL);
}

TEST(P6_an_abandoned_temp_file_is_removed_by_the_next_writer)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    CHECK_OK(db_close(db));
    spill("a.db.tmp-999999-1", "half a compaction", 17); /* of a process that is no more */
    db = fast("a.db");
    CHECK(!temp_left());
    CHECK_OK(db_close(db));
}
