/* Key checkpoints that lie: every checksum is right, what they say is not. Whatever cannot be true is
 * ignored when it is opened, or KEYDIR_DAMAGED when it is met; nothing is read out of bounds, and no
 * look-up takes a lie for an answer where the log says otherwise. */
#include "check.h"

#include "base/crc32c.h"
#include "store/keydir_fixture.h"

#define KEYS 60
#define LONG_RECORDS 200u

/* Where things are in a checkpoint (FORMATS.md). */
enum meta_at {
    META_VERSION = 0,
    META_COUNT = 4,
    META_PROBE = 8,
    META_GROUPS = 16,
    META_OLD_GROUPS = 24,
    META_MOVED = 32,
    META_HISTORIES = 40,
    META_RECORDS_LEN = 48,
    META_DELETED = 56,
    META_EXPIRING = 64,
    META_LIVE_BYTES = 80,
    META_LAST_OFFSET = 88,
};
enum { TRAILER = 32, FOOTER_FIXED = 24, ENTRY = 32, ENTRY_OFFSET = 8, ENTRY_LEN = 16, ENTRY_CRC = 24 };

/* A log and a true checkpoint of it: "key 0" .. "key 59" with one record each, then "long" with 200
 * records, "pair" with two, "block" with a column block and a number behind it. */
struct forger {
    struct memlog m;
    struct keydir *dir;
    uint8_t *truth, *bytes; /* the checkpoint; the one that is tampered with */
    size_t len;
};

static void put(struct forger *f, const char *key, uint64_t bits)
{
    struct frame frame;
    CHECK(memlog_add_number(&f->m, key, strlen(key), SYNA_TYPE_INT, bits, &frame));
    CHECK_OK(keydir_apply(f->dir, &frame));
}

static void put_block(struct forger *f, const char *key)
{
    struct frame frame;
    uint64_t bits[16];
    for (size_t i = 0; i < COUNT_OF(bits); i++)
        bits[i] = i * i;
    CHECK(memlog_add_block(&f->m, key, strlen(key), SYNA_TYPE_INT, bits, COUNT_OF(bits), &frame));
    CHECK_OK(keydir_apply(f->dir, &frame));
}

static uint8_t *load_file(const char *path, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    *len = (size_t)st.st_size;
    uint8_t *bytes = malloc(*len);
    CHECK_EQ(read(fd, bytes, *len), *len);
    close(fd);
    return bytes;
}

static void save(struct forger *f)
{
    const char *path = check_path("true.idx");
    CHECK_OK(keydir_save(f->dir, path, f->m.log.last_offset, f->m.log.end, f->m.log.last_crc));
    free(f->truth);
    free(f->bytes);
    f->truth = load_file(path, &f->len);
    f->bytes = malloc(f->len);
    memcpy(f->bytes, f->truth, f->len);
}

static void forger_init(struct forger *f, int keys)
{
    char key[16];
    memset(f, 0, sizeof *f);
    CHECK(memlog_init(&f->m, "memory"));
    CHECK_OK(keydir_new(&f->m.log, &f->dir));
    for (int i = 0; i < keys; i++) {
        snprintf(key, sizeof key, "key %d", i);
        put(f, key, (uint64_t)i);
    }
    for (uint32_t i = 0; i < LONG_RECORDS; i++)
        put(f, "long", i);
    put(f, "pair", 1);
    put(f, "pair", 2);
    put_block(f, "block");
    put(f, "block", 7);
    put_block(f, "only a block");
    save(f);
}

static void forger_dispose(struct forger *f)
{
    keydir_free(f->dir);
    memlog_dispose(&f->m);
    free(f->truth);
    free(f->bytes);
}

/* ---------------------------------------------------------------- tampering */

static uint32_t place_crc(const struct forger *f, uint64_t offset, size_t len)
{
    uint8_t place[8];
    store_u64(place, offset);
    return crc32c(crc32c(load_u32(f->bytes + HEADER_AT_CRC), place, 8), f->bytes + offset, len);
}

/* The line of a section in the footer's table. */
static uint8_t *line_of(const struct forger *f, const char *name)
{
    uint64_t footer = load_u64(f->bytes + f->len - TRAILER);
    uint32_t count = load_u32(f->bytes + footer + 4);
    char padded[8] = {0};
    memcpy(padded, name, strlen(name));
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *line = f->bytes + footer + FOOTER_FIXED + i * ENTRY;
        if (memcmp(line, padded, sizeof padded) == 0)
            return line;
    }
    return NULL;
}

static uint8_t *section(const struct forger *f, const char *name)
{
    uint8_t *line = line_of(f, name);
    CHECK(line != NULL);
    return f->bytes + load_u64(line + ENTRY_OFFSET);
}

/* Make all checksums right and open what came of it. *dir NULL: the checkpoint was ignored. The next
 * forgery starts from the truth again. */
static struct keydir *open_forged(struct forger *f)
{
    uint8_t *trailer = f->bytes + f->len - TRAILER;
    uint64_t footer = load_u64(trailer), footer_len = load_u64(trailer + 8);
    uint32_t count = load_u32(f->bytes + footer + 4);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *line = f->bytes + footer + FOOTER_FIXED + i * ENTRY;
        if (load_u64(line + ENTRY_LEN) <= SNAPSHOT_LAZY)
            store_u32(line + ENTRY_CRC, place_crc(f, load_u64(line + ENTRY_OFFSET),
                                                  (size_t)load_u64(line + ENTRY_LEN)));
    }
    store_u32(trailer + 24, place_crc(f, footer, (size_t)footer_len + 24));

    const char *path = check_path("forged.idx");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK_EQ(write(fd, f->bytes, f->len), f->len);
    close(fd);
    memcpy(f->bytes, f->truth, f->len);
    uint64_t end = f->m.log.end;
    struct keydir *dir;
    CHECK_OK(keydir_load(&f->m.log, path, &dir));
    f->m.log.end = end;
    return dir;
}

static void ignored(struct forger *f)
{
    struct keydir *dir = open_forged(f);
    bool none = dir == NULL;
    keydir_free(dir);
    CHECK(none);
}

static uint32_t id_of(const struct forger *f, const char *key)
{
    struct entry e;
    CHECK_OK(keydir_find(f->dir, key, strlen(key), &e));
    return e.id;
}

static struct packed_entry *entry_line(const struct forger *f, const char *key)
{
    return (struct packed_entry *)(void *)section(f, "entries") + id_of(f, key);
}

static struct saved_history *history_line(const struct forger *f, const char *key)
{
    uint32_t number = packed_history(entry_line(f, key));
    CHECK(number > 0);
    return (struct saved_history *)(void *)section(f, "history") + (number - 1);
}

static uint8_t *records_of(const struct forger *f, const char *key)
{
    return section(f, "records") + history_line(f, key)->at;
}

static void move_entry(struct packed_entry *p, uint64_t offset)
{
    p->place = (p->place & ~OFFSET_MAX) | offset;
}

/* ---------------------------------------------------------------- meta and sections */

TEST(P14_numbers_that_cannot_be_true_make_a_checkpoint_none)
{
    struct forger f;
    forger_init(&f, KEYS);
    keydir_free(open_forged(&f));
    uint64_t groups = load_u64(section(&f, "meta") + META_GROUPS);
    const struct {
        int at, bytes;
        uint64_t value;
    } lies[] = {
        {META_VERSION, 4, 2},
        {META_PROBE, 8, 0},
        {META_COUNT, 4, UINT32_MAX},
        {META_COUNT, 4, KEYS},
        {META_HISTORIES, 8, 1000},
        {META_HISTORIES, 8, 2},
        {META_HISTORIES, 8, UINT64_MAX},
        {META_GROUPS, 8, 0},
        {META_GROUPS, 8, groups + 1},
        {META_GROUPS, 8, 2},
        {META_GROUPS, 8, groups * 2},
        {META_GROUPS, 8, 4},
        {META_OLD_GROUPS, 8, 3},
        {META_OLD_GROUPS, 8, groups * 4},
        {META_OLD_GROUPS, 8, groups / 2}, /* there is no such section */
        {META_MOVED, 8, groups + 1},
        {META_RECORDS_LEN, 8, 1},
        {META_RECORDS_LEN, 8, UINT64_MAX},
        {META_LAST_OFFSET, 8, 0},
        {META_LAST_OFFSET, 8, f.m.log.last_offset + 1},
        {META_LAST_OFFSET, 8, f.m.log.end},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        check_note("lie %zu", i);
        memcpy(section(&f, "meta") + lies[i].at, &lies[i].value, (size_t)lies[i].bytes);
        ignored(&f);
    }
    forger_dispose(&f);
}

static void without_section(struct forger *f, const char *name)
{
    check_note("%s", name);
    line_of(f, name)[0] ^= 0x20;
    ignored(f);
    for (int more = -1; more <= 1; more += 2) {
        uint8_t *line = line_of(f, name);
        store_u64(line + ENTRY_LEN, load_u64(line + ENTRY_LEN) + (uint64_t)more);
        ignored(f);
    }
}

TEST(P14_a_missing_section_or_one_of_another_length_makes_a_checkpoint_none)
{
    static const char *const names[] = {"meta", "groups", "entries", "history", "records"};
    struct forger f;
    forger_init(&f, KEYS);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        without_section(&f, names[i]);
    forger_dispose(&f);

    int keys = KEYS; /* and in the middle of a move to a bigger table */
    for (forger_init(&f, keys); !f.dir->old.groups; forger_init(&f, ++keys))
        forger_dispose(&f);
    without_section(&f, "groups");
    without_section(&f, "old");
    store_u64(section(&f, "meta") + META_OLD_GROUPS, load_u64(section(&f, "meta") + META_GROUPS) * 2);
    ignored(&f);
    store_u64(section(&f, "meta") + META_MOVED, UINT64_MAX);
    ignored(&f);
    forger_dispose(&f);
}

/* ---------------------------------------------------------------- table and entries */

static syna_rc find(struct keydir *dir, const char *key, struct entry *e)
{
    return keydir_find(dir, key, strlen(key), e);
}

/* Append a record of this key to the log and apply it. The log is put back. */
static syna_rc apply_one(struct forger *f, struct keydir *dir, const char *key)
{
    struct frame frame;
    size_t len = f->m.bytes.len;
    struct kvlog before = f->m.log;
    CHECK(memlog_add_number(&f->m, key, strlen(key), SYNA_TYPE_INT, 1, &frame));
    syna_rc rc = keydir_reserve(dir, 1);
    if (rc == SYNA_SUCCESS)
        rc = keydir_apply(dir, &frame);
    f->m.bytes.len = len;
    memlog_sync(&f->m);
    f->m.log.last_offset = before.last_offset;
    f->m.log.last_crc = before.last_crc;
    return rc;
}

TEST(a_table_whose_slots_name_no_entry_is_damaged)
{
    struct forger f;
    struct entry e;
    forger_init(&f, KEYS);
    struct group *g = (struct group *)(void *)section(&f, "groups");
    uint64_t groups = load_u64(section(&f, "meta") + META_GROUPS);
    for (uint64_t i = 0; i < groups; i++)
        for (uint32_t slot = 0; slot < GROUP_SLOTS; slot++)
            g[i].slots[slot] = UINT32_MAX - slot;
    struct keydir *dir = open_forged(&f);
    CHECK(dir != NULL);
    CHECK_EQ(find(dir, "key 3", &e), KEYDIR_DAMAGED);
    keydir_free(dir);
    forger_dispose(&f);
}

TEST(a_table_without_a_free_slot_takes_no_key_and_ends_every_search)
{
    struct forger f;
    struct entry e;
    forger_init(&f, KEYS);
    struct group *g = (struct group *)(void *)section(&f, "groups");
    uint64_t groups = load_u64(section(&f, "meta") + META_GROUPS);
    for (uint64_t i = 0; i < groups; i++) {
        memset(g[i].tags, 0x80, sizeof g[i].tags);
        memset(g[i].slots, 0, sizeof g[i].slots);
        g[i].passed = 1;
    }
    struct keydir *dir = open_forged(&f);
    CHECK(dir != NULL);
    syna_rc rc = find(dir, "no such key", &e);
    CHECK(rc == SYNA_ERR_KEY_NOT_FOUND);
    CHECK_EQ(apply_one(&f, dir, "no such key"), KEYDIR_DAMAGED);
    keydir_free(dir);
    forger_dispose(&f);
}

TEST(an_entry_that_leads_to_another_key_is_damaged)
{
    struct forger f;
    struct entry e;
    forger_init(&f, KEYS);
    uint64_t other_length = packed_offset(entry_line(&f, "long"));
    uint64_t same_length = packed_offset(entry_line(&f, "key 4"));
    const uint64_t places[] = {0, HEADER_BYTES - 1, f.m.log.end, f.m.log.end - 4, OFFSET_MAX, same_length};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        check_note("place %zu", i);
        move_entry(entry_line(&f, "key 3"), places[i]);
        struct keydir *dir = open_forged(&f);
        CHECK(dir != NULL);
        CHECK_EQ(find(dir, "key 3", &e), KEYDIR_DAMAGED);
        CHECK_OK(find(dir, "key 5", &e));
        CHECK_EQ(keydir_sort(dir), KEYDIR_DAMAGED);
        /* A place that the new record brings into the log has no frame. */
        CHECK_EQ(apply_one(&f, dir, "key 3"),
                 places[i] == f.m.log.end - 4 ? SYNA_ERR_SERIALIZATION : KEYDIR_DAMAGED);
        keydir_free(dir);
    }
    /* The same with the length of the other key: its hash is not the entry's. */
    struct packed_entry *p = entry_line(&f, "key 3");
    move_entry(p, other_length);
    p->place = (p->place & ~((uint64_t)0xffff << 48)) | (uint64_t)4 << 48;
    struct keydir *dir = open_forged(&f);
    CHECK(dir != NULL);
    CHECK_RC(find(dir, "key 3", &e), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_EQ(keydir_sort(dir), KEYDIR_DAMAGED);
    keydir_free(dir);

    /* And with a length that the frame there does not have. */
    p = entry_line(&f, "key 3");
    move_entry(p, other_length);
    dir = open_forged(&f);
    CHECK(dir != NULL);
    CHECK_EQ(find(dir, "key 3", &e), KEYDIR_DAMAGED);
    keydir_free(dir);
    forger_dispose(&f);
}

/* A hundred entries of one and the same long key: putting them in order must not compare it with
 * itself a hundred times over. */
TEST(P14_entries_that_all_lead_to_one_key_are_put_in_some_order_at_once)
{
    struct forger f;
    struct order_cursor c;
    uint32_t id, seen = 0;
    forger_init(&f, KEYS);
    struct packed_entry *first = entry_line(&f, "key 0");
    for (int i = 1; i < KEYS; i++) {
        first[i].place = first[0].place;
        first[i].hash = first[0].hash;
    }
    struct keydir *dir = open_forged(&f);
    CHECK(dir != NULL);
    CHECK_OK(keydir_sort(dir));
    CHECK_OK(keydir_order_seek(dir, "", 0, &c));
    while (keydir_order_next(dir, &c, &id) == SYNA_SUCCESS)
        seen++;
    CHECK_EQ(seen, keydir_count(dir));
    keydir_free(dir);
    forger_dispose(&f);
}

TEST(a_number_that_its_entry_does_not_carry_is_left_out_of_its_history)
{
    struct forger f;
    struct entry e;
    size_t count = 9;
    forger_init(&f, KEYS);
    entry_line(&f, "key 3")->place &= ~((uint64_t)ENTRY_INLINE << OFFSET_BITS);
    struct keydir *dir = open_forged(&f);
    CHECK_OK(find(dir, "key 3", &e));
    CHECK_OK(history_values(dir, &e, SYNA_TYPE_INT, NULL, 0, &count));
    CHECK_EQ(count, 0);
    keydir_free(dir);
    forger_dispose(&f);
}

TEST(counts_that_are_too_small_stop_at_nothing)
{
    struct forger f;
    struct keydir_stats stats;
    struct frame frame;
    forger_init(&f, KEYS);
    CHECK(memlog_add(&f.m, "short-lived", 11, SYNA_TYPE_TEXT, "x", 1, 12345, &frame));
    CHECK_OK(keydir_apply(f.dir, &frame));
    CHECK(memlog_delete(&f.m, "key 1", 5, &frame));
    CHECK_OK(keydir_apply(f.dir, &frame));
    save(&f);
    keydir_get_stats(f.dir, &stats);
    CHECK_EQ(stats.deleted, 1);
    CHECK_EQ(stats.expiring, 1);
    memset(section(&f, "meta") + META_DELETED, 0, 16);
    memset(section(&f, "meta") + META_LIVE_BYTES, 0, 8);
    struct keydir *dir = open_forged(&f);
    CHECK_OK(apply_one(&f, dir, "key 1"));
    CHECK_OK(apply_one(&f, dir, "short-lived"));
    CHECK_OK(apply_one(&f, dir, "key 2"));
    keydir_get_stats(dir, &stats);
    CHECK_EQ(stats.deleted, 0);
    CHECK_EQ(stats.expiring, 0);
    CHECK(stats.live_bytes < 200);
    keydir_free(dir);
    forger_dispose(&f);
}

/* ---------------------------------------------------------------- histories */

/* Every use of the key's history is damage, but other keys are as they were. */
static void damaged_history(struct forger *f, const char *key, bool adoptable)
{
    struct keydir *dir = open_forged(f);
    struct entry e;
    struct history_cursor c;
    size_t count;
    CHECK(dir != NULL);
    CHECK_OK(find(dir, key, &e));
    syna_rc rc = history_seek(dir, &e, 0, &c);
    while (rc == SYNA_SUCCESS)
        rc = history_next(&c);
    CHECK_EQ(rc, KEYDIR_DAMAGED);
    CHECK_EQ(history_values(dir, &e, SYNA_TYPE_INT, NULL, 0, &count), KEYDIR_DAMAGED);
    if (!adoptable) {
        CHECK_EQ(history_records(dir, &e), 0);
        CHECK_EQ(keydir_save(dir, check_path("again.idx"), f->m.log.last_offset, f->m.log.end,
                             f->m.log.last_crc),
                 KEYDIR_DAMAGED);
        CHECK_EQ(access(check_path("again.idx"), F_OK), -1);
        CHECK_EQ(apply_one(f, dir, key), KEYDIR_DAMAGED);
    }
    CHECK_OK(find(dir, "key 3", &e));
    CHECK_OK(history_values(dir, &e, SYNA_TYPE_INT, NULL, 0, &count));
    CHECK_EQ(count, 1);
    keydir_free(dir);
}

TEST(a_history_that_lies_outside_its_section_is_damaged)
{
    struct forger f;
    forger_init(&f, KEYS);
    uint64_t len = load_u64(section(&f, "meta") + META_RECORDS_LEN);
    for (int lie = 0; lie < 7; lie++) {
        struct saved_history *h = history_line(&f, "long");
        check_note("lie %d", lie);
        switch (lie) {
        case 0: h->records = 0; break;
        case 1: h->at = len + 1; break;
        case 2: h->len = len - h->at + 1; break;
        case 3: h->records = h->len + 1; break;
        case 4: h->at = UINT64_MAX - 7; break;
        case 5: h->at = len - h->len - 8; break; /* its bytes fit, its restarts do not */
        default: entry_line(&f, "long")->chain |= HISTORY_MAX; break;
        }
        damaged_history(&f, "long", false);
    }
    /* The last one without the padding behind it. */
    uint8_t *line = line_of(&f, "records");
    len = history_line(&f, "only a block")->at + history_line(&f, "only a block")->len;
    CHECK(len % 8 != 0);
    store_u64(line + ENTRY_LEN, len);
    store_u64(section(&f, "meta") + META_RECORDS_LEN, len);
    damaged_history(&f, "only a block", false);
    forger_dispose(&f);
}

TEST(records_that_make_no_sense_are_damaged)
{
    struct forger f;
    forger_init(&f, KEYS);
    for (int lie = 0; lie < 9; lie++) {
        const char *key = lie < 6 ? "block" : lie == 6 ? "pair" : "long";
        uint8_t *records = records_of(&f, key);
        uint64_t len = history_line(&f, key)->len;
        uint64_t head;
        size_t n = varint_get(records, records + len, &head); /* then the count of a block */
        check_note("lie %d", lie);
        switch (lie) {
        case 0: memset(records, 0x80, (size_t)len); break;          /* a number without an end */
        case 1: records[n] = 0; break;                              /* a block of nothing */
        case 2: records[n] = 0xff; records[n + 1] = 0x7f; break;    /* one of 16,383 values */
        case 3: memset(records + n, 0x80, (size_t)len - n); break;  /* a count without an end */
        case 4: records[n] = 15; break;                             /* the block has 16 */
        case 5: records[0] ^= 1; records[n] = 2; break;             /* not a block */
        case 6: records[0] = 2; break;                              /* before the log */
        case 7: store_u32(records + len - 4, 0x7fffffff); break;    /* behind it */
        default: store_u64(records + ((len + 7) & ~(uint64_t)7) + 8, len + 1); break; /* a restart */
        }
        if (lie == 8) {
            struct keydir *dir = open_forged(&f);
            struct history_cursor c;
            struct entry e;
            CHECK_OK(find(dir, key, &e));
            CHECK_OK(history_seek(dir, &e, RESTART_EVERY - 1, &c));
            CHECK_EQ(history_seek(dir, &e, RESTART_EVERY, &c), KEYDIR_DAMAGED);
            keydir_free(dir);
        } else if (lie == 4 || lie == 5) {
            struct keydir *dir = open_forged(&f);
            struct entry e;
            uint64_t bits[32];
            size_t count;
            CHECK_OK(find(dir, key, &e));
            CHECK_EQ(history_values(dir, &e, SYNA_TYPE_INT, bits, 32, &count), KEYDIR_DAMAGED);
            keydir_free(dir);
        } else {
            damaged_history(&f, key, true);
        }
    }
    forger_dispose(&f);
}

static uint64_t first_record_of(struct forger *f, const char *key)
{
    struct entry e;
    struct history_cursor c;
    CHECK_OK(keydir_find(f->dir, key, strlen(key), &e));
    CHECK_OK(history_seek(f->dir, &e, 0, &c));
    return c.offset;
}

TEST(a_record_of_another_key_or_behind_the_log_is_damage)
{
    struct forger f;
    struct entry e;
    size_t count;
    forger_init(&f, KEYS);
    const uint64_t places[] = {first_record_of(&f, "long"), /* a key of the same length */
                               first_record_of(&f, "block"), f.m.log.end, f.m.log.end + 1000};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        check_note("place %zu", i);
        uint8_t *records = records_of(&f, "pair");
        uint64_t head;
        size_t n = varint_get(records, records + 10, &head);
        for (size_t b = 0; b < n; b++) /* as long as the true one, though it need not be */
            records[b] = (uint8_t)((places[i] << 1 >> (7 * b) & 0x7f) | (b + 1 < n ? 0x80 : 0));
        struct keydir *dir = open_forged(&f);
        CHECK_OK(find(dir, "pair", &e));
        CHECK_EQ(history_values(dir, &e, SYNA_TYPE_INT, NULL, 0, &count), KEYDIR_DAMAGED);
        keydir_free(dir);
    }
    forger_dispose(&f);
}

TEST(a_history_that_ends_behind_a_new_record_takes_no_more)
{
    struct forger f;
    struct entry e;
    forger_init(&f, KEYS);
    history_line(&f, "pair")->last = OFFSET_MAX;
    struct keydir *dir = open_forged(&f);
    CHECK_EQ(apply_one(&f, dir, "pair"), KEYDIR_DAMAGED);
    CHECK_OK(find(dir, "pair", &e));
    CHECK_EQ(history_records(dir, &e), 2);
    keydir_free(dir);
    forger_dispose(&f);
}

/* ---------------------------------------------------------------- damaged pages */

TEST(P4_a_damaged_page_of_histories_is_met_by_those_on_it_only)
{
    const uint32_t keys = 40000; /* sections of histories and records of more than 1 MiB */
    struct forger f;
    char key[16];
    size_t count, damaged = 0, good = 0;
    memset(&f, 0, sizeof f);
    CHECK(memlog_init(&f.m, "memory"));
    CHECK_OK(keydir_new(&f.m.log, &f.dir));
    CHECK(buf_reserve(&f.m.bytes, (size_t)keys * 96));
    for (uint32_t n = 0; n < 2 * keys; n++) {
        snprintf(key, sizeof key, "%u", n % keys);
        put(&f, key, n);
    }
    save(&f);
    uint8_t *line = line_of(&f, "history");
    f.bytes[load_u64(line + ENTRY_OFFSET) + load_u64(line + ENTRY_LEN) / 2] ^= 1;
    struct keydir *dir = open_forged(&f);
    CHECK(dir != NULL);
    for (uint32_t n = 0; n < keys; n += 41) {
        struct entry e;
        snprintf(key, sizeof key, "%u", n);
        CHECK_OK(find(dir, key, &e));
        syna_rc rc = history_values(dir, &e, SYNA_TYPE_INT, NULL, 0, &count);
        if (rc == SYNA_SUCCESS)
            CHECK_EQ(count, 2);
        else
            CHECK_EQ(rc, KEYDIR_DAMAGED);
        *(rc == SYNA_SUCCESS ? &good : &damaged) += 1;
    }
    CHECK(damaged > 0 && damaged < 100);
    CHECK(good > 800);
    keydir_free(dir);
    forger_dispose(&f);
}
