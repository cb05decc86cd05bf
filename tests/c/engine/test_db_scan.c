/* Ordered scans: order, bounds, what is left out, and what goes on meanwhile. */
#include "db_fixture.h"

#include "store/column.h"

static syna_scan *scan_from(syna_db *db, const char *prefix, const char *start, const char *end,
                            int32_t mode)
{
    syna_scan *scan = NULL;
    CHECK_OK(db_scan_new(db, prefix, prefix ? strlen(prefix) : 0, start, start ? strlen(start) : 0, end,
                         end ? strlen(end) : 0, mode, &scan));
    return scan;
}

/* The keys of a scan, each followed by a blank. */
static void keys_are(syna_db *db, const char *prefix, const char *start, const char *end,
                     const char *want)
{
    char got[1024] = "";
    for (int32_t mode = SYNA_SCAN_KEYS; mode <= SYNA_SCAN_VALUES; mode++) {
        syna_scan *scan = scan_from(db, prefix, start, end, mode);
        syna_record r;
        syna_rc rc;
        got[0] = 0;
        while ((rc = db_scan_next(scan, &r)) == SYNA_SUCCESS) {
            strncat(got, r.key, r.key_len);
            strcat(got, " ");
        }
        CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
        CHECK_RC(db_scan_next(scan, &r), SYNA_ERR_KEY_NOT_FOUND);
        db_scan_free(scan);
        CHECK_STR(got, want);
    }
}

TEST(keys_come_in_byte_order_within_the_bounds)
{
    syna_db *db = fast("a.db");
    keys_are(db, NULL, NULL, NULL, "");
    const char *keys[] = {"b", "a/2", "ä", "a", "a/10", "c", "a/1", "B"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        put_int(db, keys[i], (int64_t)i);
    for (int round = 0; round < 2; round++) {
        keys_are(db, NULL, NULL, NULL, "B a a/1 a/10 a/2 b c ä ");
        keys_are(db, "a", NULL, NULL, "a a/1 a/10 a/2 ");
        keys_are(db, "a/", NULL, NULL, "a/1 a/10 a/2 ");
        keys_are(db, "a/1", NULL, NULL, "a/1 a/10 ");
        keys_are(db, "x", NULL, NULL, "");
        keys_are(db, NULL, "a/1", NULL, "a/1 a/10 a/2 b c ä ");
        keys_are(db, NULL, "a/11", "c", "a/2 b ");
        keys_are(db, NULL, NULL, "a", "B ");
        keys_are(db, "a/", "a/10", "a/2", "a/10 ");
        keys_are(db, "a/", "A", "b", "a/1 a/10 a/2 ");
        keys_are(db, "a/", "b", NULL, "");
        keys_are(db, NULL, "c", "a", "");
        keys_are(db, "", "", NULL, "B a a/1 a/10 a/2 b c ä ");
        keys_are(db, NULL, NULL, "", "");
        CHECK_OK(db_close(db));
        db = fast("a.db");
    }
    CHECK_OK(db_close(db));
}

TEST(deleted_and_expired_keys_are_left_out)
{
    syna_db *db = fast("a.db");
    uint64_t now = syna_vfs->now_us();
    put_int(db, "a", 1);
    put_int(db, "b", 1);
    put_how(db, "c", 1, (syna_put){.expires_us = now - 1});
    put_how(db, "d", 1, (syna_put){.expires_us = now + 3600000000u});
    put_int(db, "e", 1);
    del(db, "b");
    keys_are(db, NULL, NULL, NULL, "a d e ");
    put_int(db, "b", 2);
    del(db, "a");
    keys_are(db, NULL, NULL, NULL, "b d e ");
    CHECK_OK(db_close(db));
}

static void next_is(syna_scan *scan, const char *key, int32_t type, const void *data, size_t len,
                    uint64_t time_us)
{
    syna_record r;
    CHECK_OK(db_scan_next(scan, &r));
    CHECK_EQ(r.key_len, strlen(key));
    CHECK_MEM(r.key, key, r.key_len);
    CHECK_EQ(r.type, type);
    CHECK_EQ(r.deleted, 0);
    CHECK_EQ(r.len, len);
    if (data)
        CHECK_MEM(r.data, data, len);
    if (time_us)
        CHECK_EQ(r.time_us, time_us);
}

TEST(values_of_every_type_come_with_their_times)
{
    const float vector[2] = {1, -2};
    char text[4000];
    memset(text, 'x', sizeof text);
    uint64_t bits[COLUMN_MIN], times[COLUMN_MIN];
    for (unsigned i = 0; i < COLUMN_MIN; i++) {
        bits[i] = i * 3;
        times[i] = 1000000 + i;
    }
    syna_db *db = fast("a.db");
    syna_blob *blob;
    put_text(db, "a", "one");
    put_text(db, "a", "two");
    CHECK_OK(db_append_numbers(db, "b", 1, SYNA_TYPE_INT, bits, times, COLUMN_MIN));
    CHECK_OK(db_append_numbers(db, "c", 1, SYNA_TYPE_INT, bits, NULL, COLUMN_MIN));
    put(db, "d", SYNA_TYPE_VECTOR, vector, sizeof vector);
    put(db, "e", SYNA_TYPE_BYTES, text, sizeof text); /* compressed */
    put(db, "f", SYNA_TYPE_NULL, NULL, 0);
    put_how(db, "g", 5, (syna_put){.when_us = 77});
    CHECK_OK(db_blob_create(db, "h", 1, &blob));
    CHECK_OK(db_blob_write(blob, text, sizeof text));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    for (int round = 0; round < 2; round++) {
        int64_t five = 5;
        syna_scan *scan = scan_from(db, NULL, NULL, NULL, SYNA_SCAN_VALUES);
        next_is(scan, "a", SYNA_TYPE_TEXT, "two", 3, 0);
        next_is(scan, "b", SYNA_TYPE_INT, &bits[COLUMN_MIN - 1], 8, times[COLUMN_MIN - 1]);
        next_is(scan, "c", SYNA_TYPE_INT, &bits[COLUMN_MIN - 1], 8, 0);
        next_is(scan, "d", SYNA_TYPE_VECTOR, vector, sizeof vector, 0);
        next_is(scan, "e", SYNA_TYPE_BYTES, text, sizeof text, 0);
        next_is(scan, "f", SYNA_TYPE_NULL, NULL, 0, 0);
        next_is(scan, "g", SYNA_TYPE_INT, &five, 8, 77);
        next_is(scan, "h", SYNA_TYPE_BLOB, NULL, sizeof text, 0);
        db_scan_free(scan);
        compact(db, round ? SYNA_COMPACT_LATEST : SYNA_COMPACT_HISTORY);
    }
    CHECK_OK(db_close(db));
}

/* One entry of the ancestor's format: a float, or the difference to the one before. */
static size_t old_float(uint8_t *p, uint8_t flags, double value)
{
    store_u64(p + FRAME_AT_STAMP, (uint64_t)1700000000000000);
    store_u16(p + FRAME_AT_KEY_LEN, 1);
    store_u32(p + FRAME_AT_VAL_LEN, 12);
    p[FRAME_AT_FLAGS] = flags;
    p[FRAME_HEADER_BYTES] = 'f';
    store_u32(p + FRAME_HEADER_BYTES + 1, ATOM_FLOAT);
    store_f64(p + FRAME_HEADER_BYTES + 5, value);
    return FRAME_HEADER_BYTES + 13;
}

TEST(P16_the_ancestors_differences_are_scanned_as_whole_values)
{
    uint8_t bytes[100];
    size_t len = old_float(bytes, 0, 2.5);
    len += old_float(bytes + len, FRAME_DELTA, 0.25);
    spill("old.db", bytes, len);
    syna_db *db = reader("old.db");
    syna_scan *scan = scan_from(db, NULL, NULL, NULL, SYNA_SCAN_VALUES);
    double want = 2.75;
    next_is(scan, "f", SYNA_TYPE_FLOAT, &want, 8, (uint64_t)1700000000000000);
    db_scan_free(scan);
    CHECK_OK(db_close(db));
}

static void numbered(char *key, int i)
{
    snprintf(key, 32, "key/%06d", i);
}

static void fill(syna_db *db, int from, int to, int step)
{
    for (int i = from; i < to; i += step) {
        char key[32];
        numbered(key, i);
        put_int(db, key, i);
    }
}

TEST(long_scans_see_every_key_once)
{
    enum { COUNT = 3000 };
    syna_db *db = fast("a.db");
    for (int i = 0; i < COUNT; i++) { /* out of order */
        char key[32];
        numbered(key, i * 1009 % COUNT);
        put_int(db, key, i * 1009 % COUNT);
    }
    for (int i = 0; i < COUNT; i++)
        if (i % 3 == 0 || (i > 1000 && i < 1900)) { /* a long run of deleted keys */
            char key[32];
            numbered(key, i);
            del(db, key);
        }
    syna_scan *scan = scan_from(db, "key/", NULL, NULL, SYNA_SCAN_VALUES);
    for (int i = 0; i < COUNT; i++) {
        char key[32];
        int64_t value = i;
        if (i % 3 == 0 || (i > 1000 && i < 1900))
            continue;
        numbered(key, i);
        next_is(scan, key, SYNA_TYPE_INT, &value, 8, 0);
    }
    syna_record r;
    CHECK_RC(db_scan_next(scan, &r), SYNA_ERR_KEY_NOT_FOUND);
    db_scan_free(scan);
    CHECK_OK(db_close(db));
}

TEST(a_scan_goes_on_while_keys_come_and_go)
{
    enum { COUNT = 2000 };
    syna_db *db = fast("a.db");
    fill(db, 0, COUNT, 2);
    syna_scan *scan = scan_from(db, NULL, NULL, NULL, SYNA_SCAN_VALUES), *other;
    syna_record r;
    char last[32] = "";
    int seen = 0;
    syna_rc rc;
    while ((rc = db_scan_next(scan, &r)) == SYNA_SUCCESS) {
        char key[32] = "";
        memcpy(key, r.key, r.key_len);
        CHECK(strcmp(last, key) < 0); /* ascending, so none twice */
        strcpy(last, key);
        seen += (atoi(key + 4) % 2) == 0;
        if (seen % 100 == 1) {
            /* New keys before and behind, and a new order by another scan. */
            fill(db, seen * 2 + 1, seen * 2 + 3, 2);
            fill(db, COUNT - seen - 1 + (seen % 2 == 0), COUNT - seen + 1, 2);
            other = scan_from(db, NULL, NULL, NULL, SYNA_SCAN_KEYS);
            CHECK_OK(db_scan_next(other, &r));
            db_scan_free(other);
        }
        if (seen == 300)
            compact(db, SYNA_COMPACT_LATEST);
        if (seen == 600)
            del(db, "key/001998");
    }
    CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
    CHECK(seen >= COUNT / 2 - 1); /* every old key but perhaps the deleted one */
    db_scan_free(scan);
    CHECK_OK(db_close(db));
}

struct busy {
    syna_db *db;
    bool stop;
};

static void *insert_keys(void *context)
{
    struct busy *b = context;
    for (int i = 1; !__atomic_load_n(&b->stop, __ATOMIC_RELAXED); i += 2) {
        char key[32];
        numbered(key, i % 20000);
        if (db_put(b->db, key, strlen(key), SYNA_TYPE_INT, "12345678", 8, NULL, NULL) != SYNA_SUCCESS)
            return b;
    }
    return NULL;
}

TEST(scans_beside_a_writer_see_all_that_was_there)
{
    struct busy b = {fast("a.db"), false};
    pthread_t thread;
    void *failed;
    fill(b.db, 0, 4000, 2);
    CHECK_EQ(pthread_create(&thread, NULL, insert_keys, &b), 0);
    for (int64_t round = 0; round < check_rounds(20); round++) {
        syna_scan *scan = scan_from(b.db, NULL, NULL, "key/004", SYNA_SCAN_VALUES);
        syna_record r;
        int even = 0;
        while (db_scan_next(scan, &r) == SYNA_SUCCESS)
            even += (r.key[r.key_len - 1] - '0') % 2 == 0;
        db_scan_free(scan);
        CHECK_EQ(even, 2000);
    }
    __atomic_store_n(&b.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, &failed);
    CHECK(!failed);
    CHECK_OK(db_close(b.db));
}

TEST(P4_a_damaged_record_fails_at_its_turn_and_not_the_others)
{
    static uint8_t big[20000];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)check_random();
    syna_db *db = fast("a.db");
    put_text(db, "a", "before");
    put_text(db, "b", "damage me");
    put(db, "c", SYNA_TYPE_BYTES, big, sizeof big);
    put_text(db, "d", "behind");
    CHECK_OK(db_flush(db));
    flip("a.db", find_bytes("a.db", "damage me", 9, 0), 0);
    flip("a.db", find_bytes("a.db", big, 100, 0) + 5000, 3);

    syna_scan *scan = scan_from(db, NULL, NULL, NULL, SYNA_SCAN_VALUES);
    syna_record r;
    CHECK_OK(db_scan_next(scan, &r));
    CHECK(!db_scan_next_beside(scan, &r, &(syna_record){0})); /* it is not skipped either */
    CHECK_MEM(r.data, "before", 6);
    CHECK_FAILS(db_scan_next(scan, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(db_scan_next(scan, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    next_is(scan, "d", SYNA_TYPE_TEXT, "behind", 6, 0);
    db_scan_free(scan);

    /* A list of keys does not read large values, so it does not meet the damage in one. */
    scan = scan_from(db, "c", NULL, NULL, SYNA_SCAN_KEYS);
    next_is(scan, "c", SYNA_TYPE_BYTES, NULL, 0, 0);
    db_scan_free(scan);
    db_close(db);
}

TEST(P7_a_scan_without_memory_fails_and_can_go_on)
{
    syna_db *db = fast("a.db");
    fill(db, 0, 500, 1);
    for (int64_t k = 1;; k++) {
        check_note("k = %lld", (long long)k);
        syna_scan *scan = NULL;
        syna_record r;
        int seen = 0, failures = 0;
        fault_alloc(k, false);
        syna_rc rc = db_scan_new(db, "key/", 4, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &scan);
        while (rc == SYNA_SUCCESS) {
            rc = db_scan_next(scan, &r);
            seen += rc == SYNA_SUCCESS;
            if (rc == SYNA_ERR_INTERNAL && ++failures < 3)
                rc = SYNA_SUCCESS;
        }
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (scan) {
            CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
            CHECK_EQ(seen, 500);
            db_scan_free(scan);
        } else {
            CHECK_RC(rc, SYNA_ERR_INTERNAL);
        }
        if (!fired)
            break;
        /* The next round sorts again: one key more, one less. */
        put_int(db, "zzz", k);
    }
    CHECK_OK(db_close(db));
}
