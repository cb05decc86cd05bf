/* Compaction that keeps the histories of live keys: what it takes away of deleted, expired and revived
 * ones, how what is left is folded, and keys that change while it runs. */
#include "db_dump.h"

enum { LONG = 2600 }; /* records: more than are looked up at once, more than two blocks */

struct records {
    uint64_t count, deletions, first, last; /* the first and the last value */
};

static int32_t note(void *context, const syna_record *r)
{
    struct records *found = context;
    uint64_t value = 0;
    found->count++;
    found->deletions += r->deleted != 0;
    if (!r->deleted && r->len == sizeof value)
        memcpy(&value, r->data, sizeof value);
    if (found->count == 1)
        found->first = value;
    found->last = value;
    return 0;
}

static struct records history_of(syna_db *db, const char *key)
{
    struct records found = {0};
    CHECK_OK(db_history(db, key, strlen(key), note, &found));
    return found;
}

/* `count` ints from `first` on. */
static void put_ints(syna_db *db, const char *key, int first, int count)
{
    for (int i = 0; i < count; i++)
        put_int(db, key, first + i);
}

static void has_ints(syna_db *db, const char *key, uint64_t first, uint64_t count)
{
    struct records found = history_of(db, key);
    check_note("%s: %llu records from %llu on", key, (unsigned long long)found.count,
               (unsigned long long)found.first);
    CHECK_EQ(found.count, count);
    CHECK_EQ(found.deletions, 0);
    CHECK_EQ(found.first, count ? first : 0);
    CHECK_EQ(found.last, count ? first + count - 1 : 0);
}

TEST(live_keys_keep_everything_deleted_and_expired_ones_leave_nothing)
{
    syna_db *db = fast("a.db");
    fill_with_everything(db);
    put_text(db, "mail", "a secret");
    put_text(db, "mail", "another");
    del(db, "mail");
    put_text(db, "once", "a secret");
    del(db, "once");
    static const char *const live[] = {"i", "f", "t", "v", "n", "p", "ttl", "blob", "hist"};
    char *want = dump_keys(db, live, COUNT_OF(live), true);
    compact(db, SYNA_COMPACT_LIVE_HISTORY);
    same(dump_keys(db, live, COUNT_OF(live), true), want);
    static const char *const gone[] = {"old", "over", "mail", "once"};
    for (size_t i = 0; i < COUNT_OF(gone); i++)
        CHECK_EQ(history_of(db, gone[i]).count, 0);
    CHECK_EQ(stats_of(db).deleted_keys, 0);
    CHECK_OK(db_close(db));
    size_t len;
    uint8_t *bytes = slurp("a.db", &len);
    CHECK(memmem(bytes, len, "a secret", 8) == NULL);
    free(bytes);
    db = fast("a.db");
    same(dump_keys(db, live, COUNT_OF(live), true), want);
    CHECK_OK(db_close(db));
    sound("a.db");
    free(want);
}

TEST(a_key_that_lives_again_keeps_what_was_put_since_its_last_deletion)
{
    static const struct { const char *key; int before, after; } cases[] = {
        {"short", 3, 2}, {"single", 5, 1}, {"long before", LONG, 3}, {"long after", 3, LONG},
        {"long", LONG, LONG}};
    syna_db *db = fast("a.db");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_ints(db, cases[i].key, 1, cases[i].before);
        del(db, cases[i].key);
        put_text(db, cases[i].key, "between two deletions");
        del(db, cases[i].key);
        put_ints(db, cases[i].key, 100000, cases[i].after);
    }
    for (int round = 0; round < 3; round++) { /* folded before, and folded again */
        compact(db, SYNA_COMPACT_LIVE_HISTORY);
        for (size_t i = 0; i < COUNT_OF(cases); i++)
            has_ints(db, cases[i].key, 100000, (uint64_t)cases[i].after);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = fast("a.db");
    }
    CHECK_OK(db_close(db));
}

TEST(what_was_folded_before_a_deletion_goes_too)
{
    syna_db *db = fast("a.db");
    put_ints(db, "k", 1, LONG);
    put_ints(db, "dead", 1, LONG);
    compact(db, SYNA_COMPACT_HISTORY);
    del(db, "k");
    del(db, "dead");
    put_ints(db, "k", 7, 40);
    compact(db, SYNA_COMPACT_LIVE_HISTORY);
    has_ints(db, "k", 7, 40);
    has_ints(db, "dead", 0, 0);
    CHECK_EQ(count_of(db), 1);
    CHECK_OK(db_close(db));
    sound("a.db");
}

TEST(a_value_that_expired_before_the_newest_one_is_history)
{
    syna_db *db = fast("a.db");
    put_how(db, "k", 1, (syna_put){.expires_us = syna_vfs->now_us() - 1});
    put_int(db, "k", 2);
    compact(db, SYNA_COMPACT_LIVE_HISTORY);
    has_ints(db, "k", 1, 2);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- beside writers */

struct beside {
    syna_db *db;
    int at, calls; /* act when asked for the at-th time */
    bool acted;
};

/* The first look comes behind the snapshot. */
static int32_t change(void *context, uint64_t done, uint64_t total)
{
    struct beside *b = context;
    (void)done;
    (void)total;
    if (++b->calls != b->at)
        return 0;
    del(b->db, "deleted");
    put_int(b->db, "revived", 5);
    del(b->db, "again");
    put_int(b->db, "again", 5);
    put_int(b->db, "new", 5);
    b->acted = true;
    return 0;
}

static uint64_t jumps;

static uint64_t jumping_clock(void)
{
    return vfs_posix.now_us() + 60000 * ++jumps;
}

/* Work between the keys, so that there are moments to change them at. */
static void put_noise(syna_db *db)
{
    static uint64_t noise[10000];
    for (int i = 0; i < 5; i++) {
        for (size_t k = 0; k < COUNT_OF(noise); k++)
            noise[k] = check_random(); /* not to be compressed away */
        put(db, "noise", SYNA_TYPE_BYTES, noise, sizeof noise);
    }
}

/* Whenever a key changes while the file is rewritten: its history up to the snapshot is there or not as
 * it was then, and what was done since follows. */
static bool change_at(int at)
{
    syna_db *db = fast("a.db");
    struct beside b = {.db = db, .at = at};
    put_ints(db, "deleted", 1, 40);
    put_noise(db);
    put_ints(db, "revived", 1, 40);
    put_ints(db, "again", 1, 40);
    put_noise(db);
    del(db, "revived");
    put_noise(db);
    CHECK_OK(db_compact(db, SYNA_COMPACT_LIVE_HISTORY, change, &b));
    if (b.acted) {
        struct records deleted = history_of(db, "deleted"), again = history_of(db, "again");
        CHECK(!has(db, "deleted"));
        CHECK_EQ(deleted.count, 41);
        CHECK_EQ(deleted.deletions, 1);
        CHECK_EQ(again.count, 42);
        CHECK_EQ(again.deletions, 1);
        CHECK_EQ(again.last, 5);
        has_ints(db, "revived", 5, 1);
        has_ints(db, "new", 5, 1);
    }
    CHECK_OK(db_close(db));
    sound("a.db");
    unlink(check_path("a.db"));
    unlink(check_path("a.db.idx"));
    return b.acted;
}

TEST(keys_that_change_meanwhile_are_taken_as_they_were_when_it_began)
{
    struct vfs table = vfs_posix;
    table.now_us = jumping_clock;
    syna_test_set_vfs(&table);
    int at = 1;
    while (change_at(at))
        at++;
    CHECK(at > 10); /* so many moments */
    syna_test_set_vfs(NULL);
}
