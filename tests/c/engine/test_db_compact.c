/* Compaction: what it keeps, in any order of anything, and the key checkpoint that it saves. */
#include "db_dump.h"

/* ---------------------------------------------------------------- what is kept */

TEST(latest_keeps_the_newest_value_of_live_keys_and_nothing_else)
{
    syna_db *db = fast("a.db");
    fill_with_everything(db);
    char *want = dump_keys(db, some_keys, COUNT_OF(some_keys), false);
    syna_db_stats before = stats_of(db);
    compact(db, SYNA_COMPACT_LATEST);
    for (int round = 0; round < 3; round++) {
        check_note("round %d", round);
        same(dump_keys(db, some_keys, COUNT_OF(some_keys), false), want);
        syna_db_stats after = stats_of(db);
        CHECK_EQ(after.keys, 9);
        CHECK_EQ(after.deleted_keys, 0);
        CHECK_EQ(after.frames, 9); /* one for each */
        CHECK(after.file_bytes < before.file_bytes / 2);
        CHECK_EQ(after.generation, before.generation + (round == 2 ? 2 : 1));
        CHECK_MEM(after.uuid, before.uuid, 16);
        if (round == 1) {
            compact(db, SYNA_COMPACT_LATEST);
        } else {
            CHECK_OK(db_close(db));
            sound("a.db");
            db = open_with("a.db", (syna_db_options){.no_mmap = round == 0});
        }
    }
    CHECK_OK(db_close(db));
    free(want);
}

TEST(times_and_expiries_survive)
{
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_HISTORY; mode++) {
        syna_db *db = fast("a.db");
        put_how(db, "k", 1, (syna_put){.when_us = 1000, .expires_us = syna_vfs->now_us() + 400000});
        struct dump before = {0}, after = {0};
        CHECK_OK(db_history(db, "k", 1, say_record, &before));
        compact(db, mode);
        CHECK_OK(db_history(db, "k", 1, say_record, &after));
        CHECK_STR(after.text, before.text);
        CHECK(has(db, "k"));
        usleep(500000);
        CHECK(!has(db, "k"));
        free(before.text);
        free(after.text);
        CHECK_OK(db_close(db));
        unlink(check_path("a.db"));
    }
}

TEST(history_keeps_every_record_and_deletion)
{
    syna_db *db = fast("a.db");
    fill_with_everything(db);
    char *want = dump_keys(db, some_keys, COUNT_OF(some_keys), true);
    for (int round = 0; round < 4; round++) {
        check_note("round %d", round);
        compact(db, SYNA_COMPACT_HISTORY);
        same(dump_keys(db, some_keys, COUNT_OF(some_keys), true), want);
        if (round % 2) {
            CHECK_OK(db_close(db));
            sound("a.db");
            db = fast("a.db");
            same(dump_keys(db, some_keys, COUNT_OF(some_keys), true), want);
        }
    }
    CHECK_OK(db_close(db));
    free(want);
}

TEST(a_deleted_key_stays_deleted_and_an_overwritten_value_does_not_come_back)
{
    syna_db *db = fast("a.db");
    put_int(db, "a", 1);
    put_int(db, "b", 1);
    put_how(db, "b", 2, (syna_put){.expires_us = 1});
    del(db, "a");
    compact(db, SYNA_COMPACT_LATEST);
    CHECK(!has(db, "a") && !has(db, "b"));
    CHECK_EQ(stats_of(db).frames, 0);
    put_int(db, "a", 3);
    CHECK_OK(db_close(db));
    db = fast("a.db");
    CHECK(!has(db, "b"));
    CHECK_EQ(int_of(db, "a"), 3);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- any order of anything */

static void random_step(syna_db *db, const char *const *keys, size_t count)
{
    const char *key = keys[check_random() % count];
    double values[40];
    int32_t deleted;
    switch (check_random() % 8) {
    case 0:
        CHECK_OK(db_delete(db, key, strlen(key), &deleted));
        return;
    case 1:
        put_text(db, key, "some text that is long enough to be compressed: aaaaaaaaaaaaaaaaaaaaaaaaaa");
        return;
    case 2:
        for (size_t i = 0; i < COUNT_OF(values); i++)
            values[i] = (double)(check_random() % 1000);
        append_floats(db, key, values, NULL, check_random() % COUNT_OF(values));
        return;
    case 3:
        put_how(db, key, (int64_t)check_random(), (syna_put){.when_us = check_random() % 1000000 + 1});
        return;
    default:
        put_float(db, key, (double)(check_random() % 100));
    }
}

TEST(random_histories_survive_random_compactions)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e"};
    for (int64_t round = 0; round < check_rounds(6); round++) {
        syna_db *db = fast("a.db");
        for (int i = 0; i < 6; i++) {
            size_t active = 1 + check_random() % COUNT_OF(keys);
            for (uint64_t steps = check_random() % 200; steps > 0; steps--)
                random_step(db, keys, active);
            bool history = check_random() % 4 != 0;
            char *want = dump_keys(db, keys, COUNT_OF(keys), history);
            compact(db, history ? SYNA_COMPACT_HISTORY : SYNA_COMPACT_LATEST);
            same(dump_keys(db, keys, COUNT_OF(keys), history), want);
            CHECK_OK(db_close(db));
            sound("a.db");
            db = fast("a.db");
            same(dump_keys(db, keys, COUNT_OF(keys), history), want);
            free(want);
        }
        CHECK_OK(db_close(db));
        unlink(check_path("a.db"));
    }
}

/* ---------------------------------------------------------------- key checkpoints */

TEST(a_large_log_opens_from_the_checkpoint_that_compaction_saved)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 60000; i++) {
        char key[32];
        key_of(key, i % 30000, 0);
        put_int(db, key, i);
    }
    compact(db, SYNA_COMPACT_LATEST);
    CHECK(there("a.db.idx"));
    put_int(db, "behind", 1);
    CHECK_OK(db_flush(db));

    /* As a reader sees it, and as it is after a crash. */
    syna_db *beside = reader("a.db");
    syna_open_report report;
    db_get_report(beside, &report);
    CHECK(!report.rebuilt);
    CHECK(report.frames_scanned < 10);
    CHECK_EQ(count_of(beside), 30001);
    CHECK_OK(db_close(beside));
    sound("a.db");

    for (int i = 0; i < 30000; i++) {
        char key[32];
        key_of(key, i, 0);
        del(db, key);
    }
    compact(db, SYNA_COMPACT_LATEST);
    CHECK(!there("a.db.idx")); /* a small log needs none, and a stale one must not stay */
    CHECK_EQ(count_of(db), 1);
    CHECK_OK(db_close(db));
}
