/* Compaction: series of numbers are folded into blocks, and nothing of them is lost. */
#include "db_dump.h"

struct series {
    uint64_t bits[5000], times[5000];
    size_t count;
};

static void series_of(syna_db *db, const char *key, int32_t type, struct series *s)
{
    CHECK_OK(db_history_numbers(db, key, strlen(key), type, s->bits, s->times, 5000, &s->count));
    CHECK(s->count <= 5000);
}

TEST(folded_histories_are_the_same_bit_for_bit_with_their_times)
{
    static struct series before, after;
    const uint64_t odd[] = {0x8000000000000000u, 0x7ff8000000001234u, 0xfff0000000000000u, 1,
                            0x7fefffffffffffffu, 0x7ff0000000000001u};
    syna_db *db = fast("a.db");
    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t bits = i % 7 < COUNT_OF(odd) ? odd[i % 7] : check_random();
        syna_put how = {.size = sizeof how, .when_us = i % 3 ? 1000000 + i : 0};
        CHECK_OK(db_put(db, "f", 1, SYNA_TYPE_FLOAT, &bits, 8, &how, NULL));
        if (i % 2)
            put_int(db, "i", (int64_t)bits);
    }
    for (int round = 0; round < 5; round++) {
        check_note("round %d", round);
        series_of(db, "f", SYNA_TYPE_FLOAT, &before);
        compact(db, SYNA_COMPACT_HISTORY);
        series_of(db, "f", SYNA_TYPE_FLOAT, &after);
        CHECK_EQ(after.count, before.count);
        CHECK_MEM(after.bits, before.bits, before.count * 8);
        CHECK_MEM(after.times, before.times, before.count * 8);
        series_of(db, "i", SYNA_TYPE_INT, &after);
        CHECK_EQ(after.count, 1500);
        CHECK_EQ(int_of(db, "i"), (int64_t)after.bits[1499]);
        CHECK(stats_of(db).frames < 40 + (uint64_t)round * 20);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = fast("a.db");
        for (int i = 0; i < 300; i++) /* partly filled blocks are filled by the next round */
            put_float(db, "f", i);
    }
    CHECK_OK(db_close(db));
}

TEST(folding_makes_sensor_data_small)
{
    enum { COUNT = 20000 };
    static double values[COUNT];
    double level = 20;
    for (int i = 0; i < COUNT; i++) {
        level += (double)(int64_t)(check_random() % 101) / 100 - 0.5;
        values[i] = (double)(int64_t)(level * 100) / 100;
    }
    syna_db *db = fast("a.db");
    for (int i = 0; i < COUNT; i++)
        put_float(db, "s", values[i]);
    uint64_t before = stats_of(db).file_bytes;
    compact(db, SYNA_COMPACT_HISTORY);
    CHECK(stats_of(db).file_bytes < before / 8);
    CHECK_OK(db_close(db));
}

/* The value as of every time that there is, and just before it. */
static char *dump_at(syna_db *db, const char *key, const uint64_t *times, size_t count)
{
    struct dump d = {0};
    for (size_t i = 0; i < count; i++)
        for (uint64_t at = times[i] - 1; at <= times[i]; at++) {
            uint8_t buf[64];
            size_t len;
            int32_t type;
            syna_rc rc = db_get_at(db, key, strlen(key), at, buf, sizeof buf, &len, &type);
            CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND);
            say(&d, "%llu: %d %08x\n", (unsigned long long)at, rc,
                rc == SYNA_SUCCESS ? crc32c((uint32_t)type, buf, len) : 0);
        }
    return d.text;
}

struct stamps {
    uint64_t at[4000];
    size_t count;
};

static int32_t note_stamp(void *context, const syna_record *r)
{
    struct stamps *s = context;
    s->at[s->count++] = r->time_us;
    return 0;
}

TEST(time_travel_gives_the_same_after_folding)
{
    static struct stamps s;
    syna_db *db = fast("a.db");
    for (int i = 0; i < 1500; i++) {
        put_float(db, "k", i);
        if (i % 10 == 0)
            usleep(20); /* some values share a stamp, some do not */
        if (i == 1300)
            put_text(db, "k", "text between");
        if (i == 1400)
            del(db, "k");
    }
    CHECK_OK(db_history(db, "k", 1, note_stamp, &s));
    char *want = dump_at(db, "k", s.at, s.count);
    compact(db, SYNA_COMPACT_HISTORY);
    same(dump_at(db, "k", s.at, s.count), want);
    put_float(db, "k", -1);
    compact(db, SYNA_COMPACT_HISTORY);
    same(dump_at(db, "k", s.at, s.count), want);
    CHECK_OK(db_close(db));
    free(want);
}

TEST(a_run_ends_where_something_else_begins)
{
    static const char *const keys[] = {"text", "type", "deleted", "expiring", "short", "single", "first"};
    syna_db *db = fast("a.db");
    double block[COLUMN_MIN + 3] = {0};
    for (int i = 0; i < 40; i++) {
        for (size_t k = 0; k < 4; k++)
            put_float(db, keys[k], i);
        if (i == 20) {
            put_text(db, "text", "x");
            put_int(db, "type", 1);
            del(db, "deleted");
            put_how(db, "expiring", 3, (syna_put){.expires_us = syna_vfs->now_us() + 60000000});
        }
    }
    for (int i = 0; i < 3; i++)
        put_float(db, "short", i);
    append_floats(db, "single", block, NULL, COUNT_OF(block));
    put_text(db, "first", "x");
    append_floats(db, "first", block, NULL, COUNT_OF(block));
    char *want = dump_keys(db, keys, COUNT_OF(keys), true);
    compact(db, SYNA_COMPACT_HISTORY);
    same(dump_keys(db, keys, COUNT_OF(keys), true), want);
    compact(db, SYNA_COMPACT_HISTORY);
    same(dump_keys(db, keys, COUNT_OF(keys), true), want);
    free(want);
    want = dump_keys(db, keys, COUNT_OF(keys), false);
    compact(db, SYNA_COMPACT_LATEST);
    same(dump_keys(db, keys, COUNT_OF(keys), false), want);
    CHECK_OK(db_close(db));
    sound("a.db");
    free(want);
}

TEST(the_last_value_of_a_block_keeps_its_time_in_latest_mode)
{
    for (int folded = 0; folded < 2; folded++)
        for (int events = 0; events < 2; events++) {
            double values[100];
            uint64_t times[100];
            syna_db *db = fast("a.db");
            put_int(db, "first", 1);
            for (int i = 0; i < 100; i++) {
                values[i] = i;
                times[i] = 7000 + (uint64_t)i;
                if (folded)
                    put_float(db, "k", i);
            }
            if (!folded)
                append_floats(db, "k", values, events ? times : NULL, 100);
            else if (events)
                append_floats(db, "k", values, times, 100);
            if (folded)
                compact(db, SYNA_COMPACT_HISTORY);
            struct dump all = {0}, got = {0};
            CHECK_OK(db_history(db, "k", 1, say_record, &all));
            for (int round = 0; round < 3; round++) {
                got.len = 0;
                compact(db, SYNA_COMPACT_LATEST);
                CHECK_OK(db_history(db, "k", 1, say_record, &got));
                CHECK(got.len > 0 && got.len < all.len);
                CHECK_STR(got.text, all.text + all.len - got.len);
            }
            put_float(db, "k", 1.5);
            CHECK_OK(db_close(db));
            sound("a.db");
            unlink(check_path("a.db"));
            free(all.text);
            free(got.text);
        }
}
