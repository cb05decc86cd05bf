/* salvage: everything readable comes over, the rest is listed, the original stays as it is. */
#include "db_fixture.h"

#include "base/rng.h"
#include "store/column.h"
#include "store/frame.h"

struct found {
    syna_check check;
    int lines;
    char text[4000];
};

static int32_t note(void *context, uint64_t offset, const char *text)
{
    struct found *f = context;
    size_t len = strlen(f->text);
    f->lines++;
    snprintf(f->text + len, sizeof f->text - len, "%llu: %s\n", (unsigned long long)offset, text);
    return 0;
}

/* Salvage into a new file; the original must not change by a byte. */
static struct found salvage(const char *from, const char *to)
{
    struct found f = {.check.size = sizeof f.check};
    size_t before_len, after_len;
    uint8_t *before = slurp(from, &before_len);
    CHECK_OK(db_salvage(check_path(from), check_path(to), note, &f, NULL, &f.check));
    uint8_t *after = slurp(from, &after_len);
    CHECK_EQ(after_len, before_len);
    CHECK_MEM(after, before, before_len);
    free(before);
    free(after);
    return f;
}

static void name_key(char key[32], int i)
{
    snprintf(key, 32, "key %03d", i);
}

static void make_texts(const char *name, int count)
{
    syna_db *db = fast(name);
    for (int i = 0; i < count; i++) {
        char key[32], text[32];
        name_key(key, i);
        snprintf(text, sizeof text, "value %d", i);
        put_text(db, key, text);
    }
    CHECK_OK(db_close(db));
}

/* Every text but those between `from` and `to` is there. */
static void texts_are(const char *name, int count, int from, int to)
{
    syna_db *db = fast(name);
    for (int i = 0; i < count; i++) {
        char key[32], text[32];
        name_key(key, i);
        snprintf(text, sizeof text, "value %d", i);
        if (i >= from && i < to)
            CHECK(!has(db, key));
        else
            text_is(db, key, text);
    }
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- sound files */

struct history {
    char text[6000];
};

static int32_t say(void *context, const syna_record *r)
{
    struct history *h = context;
    size_t len = strlen(h->text);
    snprintf(h->text + len, sizeof h->text - len, "%d %d %llu %llu %zu\n", r->deleted, r->type,
             (unsigned long long)r->time_us, (unsigned long long)r->expires_us, r->len);
    return 0;
}

static struct history history_of(syna_db *db, const char *key)
{
    struct history h = {""};
    CHECK_OK(db_history(db, key, strlen(key), say, &h));
    return h;
}

TEST(a_sound_file_comes_over_whole_with_its_times)
{
    double numbers[30] = {1, 2, 3};
    uint64_t times[30];
    for (uint64_t i = 0; i < 30; i++)
        times[i] = 100 + i;
    syna_db *db = fast("a.db");
    syna_blob *blob;
    put_int(db, "k", 1);
    put_how(db, "k", 2, (syna_put){.when_us = 77, .expires_us = UINT64_MAX});
    del(db, "k");
    put_text(db, "k", "last");
    CHECK_OK(db_append_numbers(db, "h", 1, SYNA_TYPE_FLOAT, (uint64_t *)(void *)numbers, times, 30));
    CHECK_OK(db_append_numbers(db, "h", 1, SYNA_TYPE_FLOAT, (uint64_t *)(void *)numbers, NULL, 30));
    compact(db, SYNA_COMPACT_HISTORY); /* folded blocks, too */
    CHECK_OK(db_blob_create(db, "b", 1, &blob));
    CHECK_OK(db_blob_write(blob, "streamed", 8));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    struct history k = history_of(db, "k"), h = history_of(db, "h"), b = history_of(db, "b");
    syna_db_stats old = {.size = sizeof old}, new = {.size = sizeof new};
    CHECK_OK(db_get_stats(db, &old));
    CHECK_OK(db_close(db));

    struct found f = salvage("a.db", "b.db");
    CHECK_STR(f.text, "");
    CHECK_EQ(f.check.damaged, 0);
    CHECK_EQ(f.check.records_saved, 6);
    sound("b.db");
    db = fast("b.db");
    CHECK_STR(history_of(db, "k").text, k.text);
    CHECK_STR(history_of(db, "h").text, h.text);
    CHECK_STR(history_of(db, "b").text, b.text);
    char text[8];
    size_t len;
    int32_t type;
    CHECK_OK(db_get(db, "b", 1, text, 8, &len, &type));
    CHECK_MEM(text, "streamed", 8);
    CHECK_OK(db_get_stats(db, &new));
    CHECK(memcmp(new.uuid, old.uuid, 16) != 0); /* another database from now on */
    syna_open_report report;
    db_get_report(db, &report);
    CHECK(report.clean);
    put_int(db, "k", 3);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- damage */

TEST(T4_every_flip_costs_at_most_the_record_it_hits)
{
    enum { COUNT = 12 };
    make_texts("a.db", COUNT);
    uint64_t size = size_of("a.db");
    uint64_t frame = (size - HEADER_BYTES - (FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES)) / COUNT;
    for (uint64_t at = 0; at < size; at++) {
        unsigned bit = (unsigned)(check_random() % 8);
        check_note("byte %llu, bit %u", (unsigned long long)at, bit);
        flip("a.db", at, bit);
        struct found f = salvage("a.db", "b.db");
        flip("a.db", at, bit);
        sound("b.db");
        /* Values 10 and 11 have one digit more than the others. */
        int hit = -1;
        for (int i = 0; at >= HEADER_BYTES && i < COUNT && hit < 0; i++) {
            char key[32];
            name_key(key, i);
            uint64_t start = find_bytes("a.db", key, strlen(key), 0) - FRAME_HEADER_BYTES;
            if (at >= start && at < start + frame + 2)
                hit = i;
            if (i + 1 < COUNT) {
                name_key(key, i + 1);
                if (hit == i && at >= find_bytes("a.db", key, strlen(key), 0) - FRAME_HEADER_BYTES)
                    hit = -1;
            }
        }
        uint64_t close_frame = size - (FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES);
        if (at >= close_frame)
            hit = -1;
        texts_are("b.db", COUNT, hit, hit + 1);
        CHECK_EQ(f.check.records_saved, COUNT - (hit >= 0));
        CHECK(f.lines > 0);
        CHECK_EQ(names_with("b.db", true), 1);
    }
}

TEST(several_damaged_places_cost_only_themselves)
{
    make_texts("a.db", 50);
    uint8_t zeros[200] = {0};
    char key[32];
    name_key(key, 20);
    uint64_t at = find_bytes("a.db", key, strlen(key), 0) - FRAME_HEADER_BYTES;
    name_key(key, 23);
    uint64_t end = find_bytes("a.db", key, strlen(key), 0) - FRAME_HEADER_BYTES;
    poke("a.db", at, zeros, (size_t)(end - at));
    struct found f = salvage("a.db", "b.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.records_saved, 47);
    texts_are("b.db", 50, 20, 23);
}

TEST(a_ruined_header_is_replaced_by_the_identity_in_the_key_checkpoint)
{
    syna_check check = {.size = sizeof check};
    syna_db *db = fast("a.db");
    for (int i = 0; i < 40000; i++) {
        char key[64];
        snprintf(key, sizeof key, "a rather long key %d", i);
        put_int(db, key, i);
    }
    CHECK_OK(db_close(db));
    poke("a.db", 0, "ruined!!ruined!!ruined!!ruined!!ruined", 38);
    struct found f = salvage("a.db", "b.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.records_saved, 40000);
    db = fast("b.db");
    CHECK_EQ(count_of(db), 40000);
    CHECK_OK(db_close(db));

    unlink(check_path("a.db.idx"));
    CHECK_RC(db_salvage(check_path("a.db"), check_path("c.db"), NULL, NULL, NULL, &check),
             SYNA_ERR_SERIALIZATION);
    CHECK(!there("c.db"));
}

static void put_blob(syna_db *db, const char *key, const void *bytes, size_t len)
{
    syna_blob *blob;
    CHECK_OK(db_blob_create(db, key, strlen(key), &blob));
    CHECK_OK(db_blob_write(blob, bytes, len));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
}

TEST(a_blob_comes_over_whole_or_not_at_all)
{
    enum { LEN = BLOB_CHUNK_BYTES + 5000 };
    uint64_t state = 1;
    uint64_t *words = malloc(3 * LEN);
    for (size_t i = 0; i < 3 * LEN / 8; i++)
        words[i] = rng_next(&state);
    const uint8_t *bytes = (const uint8_t *)words;
    syna_db *db = fast("a.db");
    put_blob(db, "one", bytes, LEN);
    put_blob(db, "two", bytes + LEN, LEN);
    put_blob(db, "three", bytes + 2 * LEN, LEN);
    CHECK_OK(db_close(db));
    flip("a.db", find_bytes("a.db", bytes + LEN + BLOB_CHUNK_BYTES, 64, 0) + 10, 4);

    struct found f = salvage("a.db", "b.db");
    CHECK_EQ(f.check.damaged, 2); /* the chunk, the blob */
    CHECK_EQ(f.check.records_saved, 2);
    CHECK(strstr(f.text, "two"));
    sound("b.db");
    CHECK(size_of("b.db") < 2 * LEN + 100000); /* nothing of the lost one */
    db = fast("b.db");
    uint8_t *got = malloc(LEN);
    size_t len;
    int32_t type;
    CHECK_OK(db_get(db, "one", 3, got, LEN, &len, &type));
    CHECK_MEM(got, bytes, LEN);
    CHECK_OK(db_get(db, "three", 5, got, LEN, &len, &type));
    CHECK_MEM(got, bytes + 2 * LEN, LEN);
    CHECK(!has(db, "two"));
    CHECK_OK(db_close(db));
    free(got);
    free(words);
}

TEST(an_unfinished_batch_at_the_end_is_left_out)
{
    syna_db *db = fast("a.db");
    syna_batch *batch;
    put_int(db, "before", 1);
    CHECK_OK(db_batch_new(db, &batch));
    for (int64_t i = 0; i < 3; i++)
        CHECK_OK(db_batch_put(batch, "batched", 7, SYNA_TYPE_INT, &i, 8, NULL));
    CHECK_OK(db_batch_commit(batch));
    db_batch_free(batch);
    CHECK_OK(db_close(db));
    size_t len;
    uint8_t *bytes = slurp("a.db", &len);
    uint64_t second = find_bytes("a.db", "batched", 7,
                                 (size_t)find_bytes("a.db", "batched", 7, 0) + 7);
    spill("cut.db", bytes, (size_t)second + 30); /* one whole frame of the batch, part of another */
    struct found f = salvage("cut.db", "b.db");
    CHECK_EQ(f.check.damaged, 0);
    CHECK(f.check.torn_bytes > 60);
    CHECK_EQ(f.check.records_saved, 1);
    db = fast("b.db");
    CHECK_EQ(int_of(db, "before"), 1);
    CHECK(!has(db, "batched"));
    CHECK_OK(db_close(db));
    free(bytes);
}

/* ---------------------------------------------------------------- the ancestor's files */

struct old_file {
    uint8_t bytes[4000];
    size_t len;
};

static void old_record(struct old_file *f, uint64_t time, const char *key, uint8_t flags,
                       const void *value, size_t len)
{
    uint8_t *p = f->bytes + f->len;
    size_t key_len = strlen(key);
    store_u64(p + FRAME_AT_STAMP, time);
    store_u16(p + FRAME_AT_KEY_LEN, (uint16_t)key_len);
    store_u32(p + FRAME_AT_VAL_LEN, (uint32_t)len);
    p[FRAME_AT_FLAGS] = flags;
    memcpy(p + FRAME_HEADER_BYTES, key, key_len);
    memcpy(p + FRAME_HEADER_BYTES + key_len, value, len);
    f->len += FRAME_HEADER_BYTES + key_len + len;
}

static void old_float(struct old_file *f, uint64_t time, const char *key, uint8_t flags, double value)
{
    uint8_t atom[12];
    store_u32(atom, ATOM_FLOAT);
    store_f64(atom + 4, value);
    old_record(f, time, key, flags, atom, sizeof atom);
}

static void old_text(struct old_file *f, uint64_t time, const char *key, const char *text)
{
    uint8_t atom[200];
    store_u32(atom, ATOM_TEXT);
    store_u64(atom + 4, strlen(text));
    memcpy(atom + 12, text, strlen(text));
    old_record(f, time, key, 0, atom, 12 + strlen(text));
}

#define T0 ((uint64_t)1700000000000000) /* a time in 2023 */

TEST(the_ancestors_files_come_over_with_deltas_made_whole)
{
    static const uint8_t null_atom[4] = {0};
    /* The text "packed" as one LZ4 block: length, then a run of literals. */
    static const uint8_t lz4[] = {18, 0, 0, 0, 0xf0, 3, 3, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
                                  'p', 'a', 'c', 'k', 'e', 'd'};
    struct old_file old = {.len = 0};
    old_float(&old, T0, "f", 0, 10);
    old_float(&old, T0 + 5, "f", FRAME_DELTA, 0.5);
    old_float(&old, T0 + 6, "g", FRAME_DELTA, 3); /* the first of its key: as it is */
    old_text(&old, T0 + 7, "f", "between");
    old_float(&old, T0 + 2, "f", FRAME_DELTA, -1); /* the clock went back */
    old_float(&old, T0 + 9, "f", 0, 7);
    old_float(&old, T0 + 10, "f", FRAME_DELTA, 1);
    old_text(&old, T0 + 11, "t", "text");
    old_record(&old, T0 + 12, "t", FRAME_TOMBSTONE, null_atom, 4);
    old_record(&old, T0 + 13, "z", FRAME_LZ4, lz4, sizeof lz4);
    spill("old.db", old.bytes, old.len);

    syna_check seen = verify("old.db");
    CHECK_EQ(seen.damaged, 0);
    CHECK_EQ(seen.frames, 10);
    struct found f = salvage("old.db", "new.db");
    CHECK_EQ(f.check.damaged, 0);
    CHECK_EQ(f.check.records_saved, 10);
    sound("new.db");

    syna_db *db = fast("new.db");
    double values[8];
    uint64_t times[8];
    size_t count;
    CHECK_OK(db_history_numbers(db, "f", 1, SYNA_TYPE_FLOAT, (uint64_t *)(void *)values, times, 8, &count));
    CHECK_EQ(count, 5);
    const double want[] = {10, 10.5, 9.5, 7, 8};
    const uint64_t when[] = {T0, T0 + 5, T0 + 2, T0 + 9, T0 + 10}; /* as they were */
    CHECK_MEM(values, want, sizeof want);
    CHECK_MEM(times, when, sizeof when);
    CHECK(!has(db, "t"));
    text_is(db, "z", "packed");
    put_int(db, "new", 1);
    CHECK_OK(db_close(db));
}

TEST(damage_in_the_ancestors_files_is_skipped)
{
    struct old_file old = {.len = 0};
    for (int i = 0; i < 20; i++) {
        char key[32];
        name_key(key, i);
        old_float(&old, T0 + (uint64_t)i, key, 0, i);
    }
    size_t frame = old.len / 20;
    memset(old.bytes + 5 * frame + 3, 0xee, frame + 9); /* into the lengths of the seventh */
    spill("old.db", old.bytes, old.len - 7);        /* and the last is torn */
    struct found f = salvage("old.db", "new.db");
    CHECK_EQ(f.check.records_saved, 17);
    CHECK_EQ(f.check.damaged, 1);
    CHECK(f.check.torn_bytes > 0 && f.check.torn_bytes <= frame - 7);
    syna_db *db = fast("new.db");
    CHECK_EQ(count_of(db), 17);
    CHECK_OK(db_close(db));
}

TEST(many_keys_with_deltas_keep_their_own_sums)
{
    size_t cap = 200000;
    uint8_t *bytes = malloc(cap);
    size_t len = 0;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 500; i++) {
            struct old_file one = {.len = 0};
            char key[32];
            name_key(key, i);
            old_float(&one, T0, key, round ? FRAME_DELTA : 0, round ? 0.5 : i);
            memcpy(bytes + len, one.bytes, one.len);
            len += one.len;
        }
    CHECK(len < cap);
    spill("old.db", bytes, len);
    free(bytes);
    CHECK_EQ(salvage("old.db", "new.db").check.records_saved, 1500);
    syna_db *db = fast("new.db");
    for (int i = 0; i < 500; i++) {
        char key[32];
        double value;
        name_key(key, i);
        CHECK_OK(db_get_number(db, key, strlen(key), SYNA_TYPE_FLOAT, (uint64_t *)(void *)&value));
        CHECK(value == i + 1.0);
    }
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- refusals and failures */

TEST(the_target_must_not_exist_and_the_source_must)
{
    syna_check check = {.size = sizeof check};
    make_texts("a.db", 3);
    spill("b.db", "mine", 4);
    CHECK_RC(db_salvage(check_path("a.db"), check_path("b.db"), NULL, NULL, NULL, &check), SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, EEXIST);
    CHECK_EQ(size_of("b.db"), 4);
    CHECK_RC(db_salvage(check_path("a.db"), check_path("a.db"), NULL, NULL, NULL, &check), SYNA_ERR_IO);
    CHECK_RC(db_salvage(check_path("none"), check_path("c.db"), NULL, NULL, NULL, &check), SYNA_ERR_IO);
    CHECK_FAILS(db_salvage(check_path("b.db"), check_path("c.db"), NULL, NULL, NULL, &check),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK(!there("c.db") && !temp_left());
}

static int32_t stop(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return --*(int *)context == 0;
}

TEST(P13_a_cancelled_salvage_leaves_nothing)
{
    syna_check check = {.size = sizeof check};
    make_texts("a.db", 3);
    for (int after = 1; after < 3; after++) {
        int left = after;
        CHECK_FAILS(db_salvage(check_path("a.db"), check_path("b.db"), NULL, &left, stop, &check),
                    SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
        CHECK(!there("b.db") && !temp_left());
    }
}

TEST(P7_a_failing_salvage_leaves_nothing)
{
    syna_db *db = fast("a.db");
    put_text(db, "t", "text");
    put_blob(db, "b", "streamed", 8);
    CHECK_OK(db_close(db));
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int memory = 0; memory < 2; memory++)
        for (int64_t k = 1;; k++) {
            struct found f = {.check.size = sizeof f.check};
            check_note("memory %d, k = %lld", memory, (long long)k);
            fault_arm(NULL);
            if (memory)
                fault_alloc(k, false);
            else
                fault_arm(&(struct fault){.at = k, .system = ENOSPC, .short_io = k % 2});
            syna_rc rc = db_salvage(check_path("a.db"), check_path("b.db"), note, &f, NULL, &f.check);
            bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
            enum fault_call first = fault_first();
            fault_alloc(0, false);
            fault_arm(NULL);
            CHECK_EQ(f.check.damaged, 0);
            if (rc == SYNA_SUCCESS) {
                sound("b.db");
                CHECK_EQ(f.check.records_saved, 2);
            } else {
                CHECK(!there("b.db"));
            }
            CHECK(!temp_left() || first == FAULT_REMOVE);
            names_with("b.db", true);
            if (!fired)
                break;
        }
    syna_test_set_vfs(NULL);
}
