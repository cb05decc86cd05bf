/* Compaction: what it keeps, what goes on beside it, and that it happens as a whole or not at all. */
#include "db_fixture.h"

#include <stdarg.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "store/column.h"
#include "store/format.h"

/* ---------------------------------------------------------------- the state of a database as text */

struct dump {
    char *text;
    size_t len, cap;
};

__attribute__((format(printf, 2, 3))) static void say(struct dump *d, const char *format, ...)
{
    va_list args;
    if (d->cap - d->len < 400)
        d->text = realloc(d->text, d->cap = d->cap * 2 + 4000);
    CHECK(d->text);
    va_start(args, format);
    d->len += (size_t)vsnprintf(d->text + d->len, d->cap - d->len, format, args);
    va_end(args);
}

static int32_t say_record(void *context, const syna_record *r)
{
    say(context, "  %d %d %llu %llu %zu %08x\n", r->deleted, r->type, (unsigned long long)r->time_us,
        (unsigned long long)r->expires_us, r->len, r->len ? crc32c(0, r->data, r->len) : 0);
    return 0;
}

/* The newest value of a key and its whole history. */
static void say_key(syna_db *db, struct dump *d, const char *key, bool history)
{
    void *data = NULL;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(db, key, strlen(key), -1, &data, &len, &type);
    if (rc == SYNA_SUCCESS)
        say(d, "%.50s = %d %zu %08x\n", key, type, len, len ? crc32c(0, data, len) : 0);
    else
        say(d, "%.50s is missing\n", key);
    mem_free(rc == SYNA_SUCCESS ? data : NULL);
    CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND);
    if (history)
        CHECK_OK(db_history(db, key, strlen(key), say_record, d));
}

static char *dump_keys(syna_db *db, const char *const *keys, size_t count, bool history)
{
    struct dump d = {0};
    say(&d, "%llu keys\n", (unsigned long long)count_of(db));
    for (size_t i = 0; i < count; i++)
        say_key(db, &d, keys[i], history);
    return d.text;
}

static void same(char *got, char *want)
{
    size_t at = 0;
    while (got[at] && got[at] == want[at])
        at++;
    bool equal = got[at] == want[at];
    if (!equal)
        fprintf(stderr, "differs behind\n%.*s\ngot\n%.200s\nwant\n%.200s\n", (int)MIN(at, (size_t)400),
                got + at - MIN(at, (size_t)400), got + at, want + at);
    free(got);
    CHECK(equal);
}

static syna_db_stats stats_of(syna_db *db)
{
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    return stats;
}

static void append_floats(syna_db *db, const char *key, const double *values, const uint64_t *times,
                          size_t count)
{
    CHECK_OK(db_append_numbers(db, key, strlen(key), SYNA_TYPE_FLOAT, (const uint64_t *)(const void *)values,
                               times, count));
}

/* ---------------------------------------------------------------- what is kept */

static const char *const some_keys[] = {"i", "f", "t", "v", "n", "p", "old", "ttl", "over", "blob", "hist"};

static void fill_with_everything(syna_db *db)
{
    static const float vector[3] = {1, 2, 3};
    double numbers[20];
    uint64_t times[20];
    char text[3000];
    syna_blob *blob;
    memset(text, 'z', sizeof text);
    for (int i = 0; i < 20; i++) {
        numbers[i] = i * 0.5;
        times[i] = 5000 + (uint64_t)i;
    }
    for (int i = 0; i < 50; i++) {
        put_int(db, "i", i);
        put_float(db, "f", i * 0.25);
        put(db, "t", SYNA_TYPE_TEXT, text, sizeof text - (size_t)i);
        put_int(db, "old", i);
    }
    put(db, "v", SYNA_TYPE_VECTOR, vector, sizeof vector);
    put(db, "n", SYNA_TYPE_NULL, NULL, 0);
    put(db, "p", SYNA_TYPE_PACKED, "\x90", 1);
    put_how(db, "ttl", 7, (syna_put){.expires_us = syna_vfs->now_us() + 3600000000u, .when_us = 1234});
    put_int(db, "over", 1);
    put_how(db, "over", 2, (syna_put){.expires_us = syna_vfs->now_us() - 1});
    del(db, "old");
    CHECK_OK(db_blob_create(db, "blob", 4, &blob));
    CHECK_OK(db_blob_write(blob, text, sizeof text));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    append_floats(db, "hist", numbers, times, 20);
}

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

/* ---------------------------------------------------------------- folding */

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

/* ---------------------------------------------------------------- beside others */

struct beside {
    syna_db *db;
    int index;
    bool *stop;
    int64_t last[8]; /* acknowledged value of each key; atomic */
    bool failed;
};

static void key_of(char *key, int index, int i)
{
    snprintf(key, 32, "w%d/%d", index, i);
}

static void *write_beside(void *context)
{
    struct beside *b = context;
    for (int64_t n = 1; !__atomic_load_n(b->stop, __ATOMIC_RELAXED) && !b->failed; n++) {
        char key[32];
        int i = (int)(n % 8);
        key_of(key, b->index, i);
        if (n % 64 == 0)
            usleep(500); /* the test is about overlap, not about load */
        if (n % 50 == 0) {
            b->failed |= db_delete(b->db, key, strlen(key), NULL) != SYNA_SUCCESS;
            __atomic_store_n(&b->last[i], 0, __ATOMIC_RELEASE);
        } else {
            b->failed |= db_put(b->db, key, strlen(key), SYNA_TYPE_INT, &n, 8, NULL, NULL) !=
                         SYNA_SUCCESS;
            __atomic_store_n(&b->last[i], n, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

/* Values of a key never go back while it is read, whatever is swapped underneath. */
static void *read_beside(void *context)
{
    struct beside *b = context;
    int64_t seen[8] = {0};
    uint64_t state = (uint64_t)b->index;
    while (!__atomic_load_n(b->stop, __ATOMIC_RELAXED) && !b->failed) {
        char key[32];
        uint64_t bits;
        int i = (int)(rng_next(&state) % 8);
        key_of(key, b->index, i);
        syna_rc rc = db_get_number(b->db, key, strlen(key), SYNA_TYPE_INT, &bits);
        if (rc == SYNA_SUCCESS) {
            b->failed |= (int64_t)bits < seen[i];
            seen[i] = (int64_t)bits;
        } else {
            b->failed |= rc != SYNA_ERR_KEY_NOT_FOUND;
        }
    }
    return NULL;
}

static void acknowledged_is_there(syna_db *db, const struct beside *writers)
{
    for (int w = 0; w < 2; w++)
        for (int i = 0; i < 8; i++) {
            char key[32];
            key_of(key, w, i);
            if (writers[w].last[i])
                CHECK_EQ(int_of(db, key), writers[w].last[i]);
            else
                CHECK(!has(db, key));
        }
}

TEST(P3_P12_readers_and_writers_go_on_beside_compactions)
{
    for (int sync = 0; sync < 2; sync++) {
        bool stop = false;
        syna_db *db = open_with("a.db", (syna_db_options){.no_sync = !sync});
        struct beside all[4];
        pthread_t threads[4];
        memset(all, 0, sizeof all);
        for (int i = 0; i < 4; i++) {
            all[i] = (struct beside){.db = db, .index = i % 2, .stop = &stop};
            CHECK_EQ(pthread_create(&threads[i], NULL, i < 2 ? write_beside : read_beside, &all[i]), 0);
        }
        for (int64_t i = 0; i < check_rounds(30); i++) {
            compact(db, i % 3 == 0 ? SYNA_COMPACT_HISTORY : SYNA_COMPACT_LATEST);
            usleep(2000);
        }
        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(!all[i].failed);
        }
        acknowledged_is_there(db, all);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = fast("a.db");
        acknowledged_is_there(db, all);
        CHECK_OK(db_close(db));
        unlink(check_path("a.db"));
    }
}

static void *compact_some(void *context)
{
    for (int i = 0; i < 5; i++)
        if (db_compact(context, i % 2, NULL, NULL) != SYNA_SUCCESS)
            return context;
    return NULL;
}

TEST(compactions_of_one_handle_wait_for_each_other)
{
    syna_db *db = fast("a.db");
    pthread_t threads[3];
    for (int i = 0; i < 2000; i++)
        put_int(db, "k", i);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, compact_some, db), 0);
    for (int i = 0; i < 3; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(!failed);
    }
    CHECK_EQ(stats_of(db).generation, 16);
    CHECK_EQ(int_of(db, "k"), 1999);
    CHECK_OK(db_close(db));
}

TEST(P10_readers_keep_their_view_until_they_refresh)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    put_int(db, "gone", 1);
    syna_db *beside = reader("a.db");
    bool changed;
    del(db, "gone");
    compact(db, SYNA_COMPACT_LATEST);
    put_int(db, "k", 2);
    CHECK_EQ(int_of(beside, "k"), 1);
    CHECK(has(beside, "gone"));
    CHECK_OK(db_refresh(beside, &changed));
    CHECK(changed);
    CHECK_EQ(int_of(beside, "k"), 2);
    CHECK(!has(beside, "gone"));
    CHECK_OK(db_close(beside));
    CHECK_OK(db_close(db));
}

static void open_second(void *context)
{
    syna_db *db;
    syna_db_options options = {.size = sizeof options};
    CHECK_FAILS(db_open(context, &options, &db), SYNA_ERR_IO, SYNA_WHY_LOCKED);
}

TEST(P9_the_new_file_is_locked_from_its_first_moment_on)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    for (int i = 0; i < 3; i++) {
        compact(db, SYNA_COMPACT_LATEST);
        CHECK_EQ(check_child(open_second, (void *)(uintptr_t)check_path("a.db")), 0);
    }
    CHECK_OK(db_close(db));
}

/* ---- shared logs */

static void write_and_compact_shared(void *context)
{
    int me = *(int *)context;
    syna_db *db = open_with("a.db", (syna_db_options){.shared = 1, .no_sync = 1, .timeout_ms = 60000});
    for (int i = 0; i < 300; i++) {
        char key[32];
        key_of(key, me, i);
        put_int(db, key, i);
        if (i % 60 == 59) {
            syna_rc rc = db_compact(db, i % 120 == 59, NULL, NULL);
            /* Losing the race again and again is allowed, and says so. */
            CHECK(rc == SYNA_SUCCESS ||
                  (rc == SYNA_ERR_IO && status_get()->reason == SYNA_WHY_LOCKED));
        }
    }
    CHECK_OK(db_close(db));
}

TEST(P9_processes_that_share_a_log_compact_it_without_losing_anything)
{
    pid_t children[3];
    check_path("a.db"); /* one directory for all */
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            write_and_compact_shared(&i);
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++) {
        int status;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, 0);
    }
    syna_db *db = fast("a.db");
    for (int me = 0; me < 3; me++)
        for (int i = 0; i < 300; i++) {
            char key[32];
            key_of(key, me, i);
            CHECK_EQ(int_of(db, key), i);
        }
    CHECK_OK(db_close(db));
    sound("a.db");
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

/* ---------------------------------------------------------------- refusals, damage */

TEST(what_cannot_be_compacted_is_refused)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    CHECK_FAILS(db_compact(db, 2, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
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
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_HISTORY; mode++) {
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
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_HISTORY; mode++) {
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
