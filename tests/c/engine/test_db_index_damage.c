/* A key checkpoint of which pages are damaged, under a log that is whole: whatever is asked first, the
 * answer is right. The damage is met, the index is built again from the log, and nobody hears of it. */
#include "db_fixture.h"

#include "base/bytes.h"

enum {
    KEYS = 172200,     /* so many that the table, too, is checked page by page */
    AGAIN = 40000,     /* of them have a second record */
    PAGE = 64 << 10,
    TRAILER = 32,
    FOOTER_FIXED = 24,
    LINE = 32,
};

static const char *const sections[] = {"groups", "entries", "history"};

static size_t key_of(uint32_t n, char key[16])
{
    return (size_t)snprintf(key, 16, "key %06u", n);
}

static int64_t value_of(uint32_t n)
{
    return (int64_t)n * 3 + (n < AGAIN ? 1000000 : 0);
}

static void build(void)
{
    syna_db *db = fast("a.db");
    char key[16];
    for (uint32_t n = 0; n < KEYS + AGAIN; n++) {
        int64_t value = n < KEYS ? (int64_t)n * 3 : value_of(n - KEYS);
        CHECK_OK(db_put(db, key, key_of(n % KEYS, key), SYNA_TYPE_INT, &value, 8, NULL, NULL));
    }
    put_text(db, "text", "some text");
    put_how(db, "short-lived", 1, (syna_put){.expires_us = 1});
    put_int(db, "to be deleted", 1);
    CHECK_OK(db_close(db));
    CHECK(there("a.db.idx"));
}

/* One wrong byte in every page of a section. */
static void spoil(uint8_t *bytes, size_t len, const char *name)
{
    uint64_t footer = load_u64(bytes + len - TRAILER);
    uint32_t count = load_u32(bytes + footer + 4);
    char padded[8] = {0};
    memcpy(padded, name, strlen(name));
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *line = bytes + footer + FOOTER_FIXED + i * LINE;
        uint64_t at = load_u64(line + 8), size = load_u64(line + 16);
        if (memcmp(line, padded, sizeof padded) != 0)
            continue;
        CHECK(size > 1 << 20); /* smaller ones are checked as a whole when the file is opened */
        for (uint64_t page = 0; page < size; page += PAGE)
            bytes[at + page + 17] ^= 0x24;
        return;
    }
    CHECK(false);
}

/* ---------------------------------------------------------------- what can be asked first */

static void get_a_number(syna_db *db)
{
    CHECK_EQ(int_of(db, "key 000123"), value_of(123));
}

static void get_a_text(syna_db *db)
{
    text_is(db, "text", "some text");
}

static void get_at_a_time(syna_db *db)
{
    int64_t value;
    size_t len;
    int32_t type;
    CHECK_OK(db_get_at(db, "key 000123", 10, syna_vfs->now_us(), &value, sizeof value, &len, &type));
    CHECK_EQ(value, value_of(123));
    CHECK_RC(db_get_at(db, "key 000123", 10, 5, &value, sizeof value, &len, &type),
             SYNA_ERR_KEY_NOT_FOUND);
}

static void see_whether_it_exists(syna_db *db)
{
    CHECK(has(db, "key 100000"));
    CHECK(!has(db, "key 999999"));
}

static void count_keys(syna_db *db)
{
    uint64_t count = count_of(db);
    CHECK(count >= KEYS + 1);
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    CHECK_EQ(stats.keys, count);
}

static void read_numbers(syna_db *db)
{
    uint64_t bits[4], times[4];
    size_t count;
    CHECK_OK(db_history_numbers(db, "key 000123", 10, SYNA_TYPE_INT, bits, NULL, 4, &count));
    CHECK_EQ(count, 2);
    CHECK_EQ(bits[0], 369);
    CHECK_EQ(bits[1], value_of(123));
    CHECK_OK(db_history_numbers(db, "key 000124", 10, SYNA_TYPE_INT, bits, times, 4, &count));
    CHECK_EQ(count, 2);
    CHECK(times[0] <= times[1]);
}

static void read_numbers_with_times(syna_db *db)
{
    uint64_t bits[4], times[4];
    size_t count;
    CHECK_OK(db_history_numbers(db, "key 000123", 10, SYNA_TYPE_INT, bits, times, 4, &count));
    CHECK_EQ(count, 2);
    CHECK_EQ(bits[1], value_of(123));
}

static int32_t count_record(void *context, const syna_record *record)
{
    CHECK_EQ(record->type, SYNA_TYPE_INT);
    ++*(int *)context;
    return 0;
}

static void visit_a_history(syna_db *db)
{
    int count = 0;
    CHECK_OK(db_history(db, "key 000123", 10, count_record, &count));
    CHECK_EQ(count, 2);
}

static void scan_a_prefix(syna_db *db)
{
    syna_scan *scan;
    syna_record r = {.size = sizeof r};
    uint32_t n = 1230;
    CHECK_OK(db_scan_new(db, "key 00123", 9, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &scan));
    for (; db_scan_next(scan, &r) == SYNA_SUCCESS; n++) {
        char key[16];
        int64_t value;
        CHECK_EQ(r.key_len, key_of(n, key));
        CHECK_MEM(r.key, key, r.key_len);
        CHECK_EQ(r.len, sizeof value);
        memcpy(&value, r.data, sizeof value);
        CHECK_EQ(value, value_of(n));
    }
    CHECK_EQ(n, 1240);
    db_scan_free(scan);
}

static syna_rc count_newest(void *context, const syna_record *record)
{
    (void)record;
    ++*(uint32_t *)context;
    return SYNA_SUCCESS;
}

static void walk_the_newest(syna_db *db)
{
    uint32_t seen = 0;
    uint64_t count;
    CHECK_OK(db_newest(db, "key 0012", 8, SYNA_TYPE_INT, &count, count_newest, &seen));
    CHECK_EQ(count, 100);
    CHECK_EQ(seen, 100);
    seen = 0;
    CHECK_OK(db_newest(db, "short", 5, SYNA_TYPE_INT, &count, count_newest, &seen));
    CHECK_EQ(count + seen, 0);
    CHECK_OK(db_newest(db, "a prefix longer than any key", 28, SYNA_TYPE_INT, &count, count_newest,
                       &seen));
    CHECK_EQ(count + seen, 0);
}

static void put_a_new_key(syna_db *db)
{
    put_int(db, "new", 1);
    CHECK_EQ(int_of(db, "new"), 1);
}

static void put_an_old_key(syna_db *db)
{
    put_int(db, "key 000123", value_of(123));
    CHECK_EQ(int_of(db, "key 000123"), value_of(123));
}

static void delete_a_key(syna_db *db)
{
    int32_t deleted;
    if (!has(db, "to be deleted"))
        put_int(db, "to be deleted", 2);
    CHECK_OK(db_delete(db, "to be deleted", 13, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK(!has(db, "to be deleted"));
}

static void commit_a_batch(syna_db *db)
{
    syna_batch *batch;
    CHECK_OK(db_batch_new(db, &batch));
    for (int64_t n = 0; n < 50; n++) {
        char key[32];
        snprintf(key, sizeof key, "batch %lld", (long long)n);
        CHECK_OK(db_batch_put(batch, key, strlen(key), SYNA_TYPE_INT, &n, 8, NULL));
    }
    CHECK_OK(db_batch_commit(batch));
    db_batch_free(batch);
    CHECK_EQ(int_of(db, "batch 49"), 49);
}

static void append_a_column(syna_db *db)
{
    uint64_t bits[100], back[256];
    size_t before = 0, count;
    for (size_t i = 0; i < COUNT_OF(bits); i++)
        bits[i] = i;
    if (has(db, "column"))
        CHECK_OK(db_history_numbers(db, "column", 6, SYNA_TYPE_INT, NULL, NULL, 0, &before));
    CHECK_OK(db_append_numbers(db, "column", 6, SYNA_TYPE_INT, bits, NULL, COUNT_OF(bits)));
    CHECK_OK(db_history_numbers(db, "column", 6, SYNA_TYPE_INT, back, NULL, 256, &count));
    CHECK_EQ(count, before + COUNT_OF(bits));
    CHECK_MEM(back, bits, sizeof bits);
}

static void write_a_blob(syna_db *db)
{
    syna_blob *blob;
    CHECK_OK(db_blob_create(db, "blob", 4, &blob));
    CHECK_OK(db_blob_write(blob, "content", 7));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    CHECK_OK(db_blob_open(db, "blob", 4, &blob));
    CHECK_EQ(db_blob_size(blob), 7);
    db_blob_free(blob);
}

static void open_a_blob(syna_db *db)
{
    syna_blob *blob;
    CHECK_OK(db_blob_open(db, "text", 4, &blob));
    CHECK_EQ(db_blob_size(blob), 9);
    db_blob_free(blob);
}

static void fold_histories(syna_db *db)
{
    compact(db, SYNA_COMPACT_HISTORY);
    CHECK_EQ(int_of(db, "key 000123"), value_of(123));
}

/* ---------------------------------------------------------------- asking */

struct first {
    const char *name;
    void (*ask)(syna_db *db);
    bool histories_only; /* meets the section of histories as well */
    bool writes;
};

static const struct first all[] = {
    {"get", get_a_number, false, false},
    {"text", get_a_text, false, false},
    {"get at", get_at_a_time, true, false},
    {"exists", see_whether_it_exists, false, false},
    {"count", count_keys, false, false},
    {"numbers", read_numbers, true, false},
    {"numbers with times", read_numbers_with_times, true, false},
    {"history", visit_a_history, true, false},
    {"scan", scan_a_prefix, false, false},
    {"newest", walk_the_newest, false, false},
    {"open blob", open_a_blob, false, false},
    {"put new", put_a_new_key, false, true},
    {"put old", put_an_old_key, false, true},
    {"delete", delete_a_key, false, true},
    {"batch", commit_a_batch, false, true},
    {"column", append_a_column, false, true},
    {"blob", write_a_blob, false, true},
};

/* Does this question touch every page that it must, whatever the section? */
static bool meets(const struct first *f, const char *section)
{
    bool walks = f->ask == count_keys || f->ask == scan_a_prefix || f->ask == walk_the_newest;
    if (strcmp(section, "history") == 0)
        return f->histories_only;
    return strcmp(section, "entries") == 0 || !walks;
}

static void ask(const struct first *f, const char *section, const uint8_t *index, size_t len,
                syna_db_options options)
{
    check_note("%s, %s%s", f->name, section, options.read_only ? ", a reader" : "");
    spill("a.db.idx", index, len);
    syna_db *db = open_with("a.db", options);
    f->ask(db);
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    CHECK(stats.index_bytes > KEYS * 24); /* it is ours now, and was the checkpoint's */
    get_a_number(db);
    CHECK_OK(db_close(db));
}

TEST(P4_whatever_meets_a_damaged_page_of_the_checkpoint_first_gets_the_right_answer)
{
    size_t len;
    build();
    uint8_t *index = slurp("a.db.idx", &len), *spoiled = malloc(len);
    syna_db *db = fast("a.db"); /* the sound one is used, and costs next to nothing */
    get_a_number(db);
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    CHECK(stats.index_bytes < KEYS);
    CHECK_OK(db_close(db));

    for (size_t s = 0; s < COUNT_OF(sections); s++) {
        memcpy(spoiled, index, len);
        spoil(spoiled, len, sections[s]);
        for (size_t i = 0; i < COUNT_OF(all); i++) {
            if (!meets(&all[i], sections[s]) || all[i].writes)
                continue;
            if (check_rounds(4) < 4 && strcmp(sections[s], all[i].histories_only ? "history" : "entries"))
                continue; /* under a sanitizer each question is asked over one section only */
            ask(&all[i], sections[s], spoiled, len, (syna_db_options){.no_sync = 1});
        }
    }
    spoil(memcpy(spoiled, index, len), len, "entries");
    ask(&all[0], "entries", spoiled, len, (syna_db_options){.read_only = 1});
    free(index);
    free(spoiled);
}

TEST(P4_whoever_writes_over_a_damaged_page_of_the_checkpoint_loses_nothing)
{
    size_t len;
    build();
    uint8_t *index = slurp("a.db.idx", &len), *spoiled = malloc(len);
    size_t log_len;
    uint8_t *log = slurp("a.db", &log_len);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (!all[i].writes)
            continue;
        for (uint8_t synced = 0; synced < 2; synced++) {
            if (check_rounds(4) < 4 && i % 2 != synced)
                continue;
            spill("a.db", log, log_len); /* so that opening has nothing to apply */
            spoil(memcpy(spoiled, index, len), len, synced ? "groups" : "entries");
            ask(&all[i], synced ? "groups" : "entries", spoiled, len,
                (syna_db_options){.no_sync = !synced});
        }
    }
    free(log);
    free(index);
    free(spoiled);
}

TEST(P4_records_behind_the_checkpoint_are_applied_to_an_index_built_anew)
{
    size_t len;
    build();
    uint8_t *index = slurp("a.db.idx", &len);
    syna_db *db = fast("a.db");
    put_int(db, "key 000123", 77);
    put_int(db, "new", 78);
    CHECK_OK(db_close(db));
    for (size_t s = 0; s < 2; s++) {
        uint8_t *spoiled = malloc(len);
        spoil(memcpy(spoiled, index, len), len, sections[s]);
        spill("a.db.idx", spoiled, len);
        free(spoiled);
        db = fast("a.db");
        syna_open_report report;
        db_get_report(db, &report);
        CHECK(report.rebuilt);
        CHECK(report.clean);
        CHECK_EQ(int_of(db, "key 000123"), 77);
        CHECK_EQ(int_of(db, "new"), 78);
        CHECK_EQ(int_of(db, "key 000124"), value_of(124));
        CHECK_OK(db_close(db));
    }
    free(index);
}

TEST(P4_a_compaction_over_a_damaged_checkpoint_keeps_everything)
{
    size_t len;
    build();
    uint8_t *index = slurp("a.db.idx", &len);
    spoil(index, len, "entries");
    spill("a.db.idx", index, len);
    free(index);
    syna_db *db = fast("a.db");
    fold_histories(db);
    read_numbers(db);
    scan_a_prefix(db);
    CHECK_OK(db_close(db));
    sound("a.db");
}

TEST(P10_a_shared_log_is_followed_over_a_damaged_checkpoint)
{
    size_t len;
    build();
    uint8_t *index = slurp("a.db.idx", &len);
    spoil(index, len, "entries");
    spill("a.db.idx", index, len);
    free(index);
    syna_db *one = open_with("a.db", (syna_db_options){.shared = 1, .no_sync = 1});
    syna_db *two = open_with("a.db", (syna_db_options){.shared = 1, .no_sync = 1});
    bool changed;
    put_int(one, "key 000123", 77);
    put_int(one, "new", 78);
    CHECK_OK(db_refresh(two, &changed));
    CHECK(changed);
    CHECK_EQ(int_of(two, "key 000123"), 77);
    CHECK_EQ(int_of(two, "new"), 78);
    CHECK_EQ(int_of(two, "key 000124"), value_of(124));
    put_int(two, "key 000123", 79);
    CHECK_OK(db_refresh(one, &changed));
    CHECK_EQ(int_of(one, "key 000123"), 79);
    CHECK_OK(db_close(two));
    CHECK_OK(db_close(one));
}
