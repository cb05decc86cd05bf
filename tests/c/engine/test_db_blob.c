/* Streamed values: any size, whole or not at all, across compactions, and what damage does. */
#include "db_fixture.h"

#include "base/rng.h"
#include "store/format.h"

/* Content that does not repeat. */
static void content(uint8_t *to, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = rng_next(&seed);
        memcpy(to + i, &word, MIN(len - i, (size_t)8));
    }
}

static uint8_t *content_of(size_t len, uint64_t seed)
{
    uint8_t *bytes = malloc(len + 1);
    CHECK(bytes);
    content(bytes, len, seed);
    return bytes;
}

static syna_blob *create(syna_db *db, const char *key)
{
    syna_blob *blob = NULL;
    CHECK_OK(db_blob_create(db, key, strlen(key), &blob));
    return blob;
}

static void put_blob(syna_db *db, const char *key, size_t len, uint64_t seed, size_t piece)
{
    uint8_t *bytes = content_of(len, seed);
    syna_blob *blob = create(db, key);
    for (size_t at = 0; at < len; at += piece)
        CHECK_OK(db_blob_write(blob, bytes + at, MIN(piece, len - at)));
    CHECK_EQ(db_blob_size(blob), len);
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    free(bytes);
}

static void content_is(syna_blob *blob, size_t len, uint64_t seed)
{
    uint8_t *want = content_of(len, seed), *got = malloc(len + 1);
    size_t n;
    CHECK_EQ(db_blob_size(blob), len);
    CHECK_OK(db_blob_read(blob, 0, got, len + 1, &n));
    CHECK_EQ(n, len);
    CHECK_MEM(got, want, len);
    for (int i = 0; i < 20 && len > 0; i++) {
        uint64_t at = check_random() % len;
        size_t some = (size_t)(check_random() % 9000);
        CHECK_OK(db_blob_read(blob, at, got, some, &n));
        CHECK_EQ(n, MIN(some, len - (size_t)at));
        CHECK_MEM(got, want + at, n);
    }
    CHECK_OK(db_blob_read(blob, len, got, 1, &n));
    CHECK_EQ(n, 0);
    CHECK_OK(db_blob_read(blob, UINT64_MAX, got, 1, &n));
    CHECK_EQ(n, 0);
    free(want);
    free(got);
}

static void blob_is(syna_db *db, const char *key, size_t len, uint64_t seed)
{
    syna_blob *blob = NULL;
    CHECK_OK(db_blob_open(db, key, strlen(key), &blob));
    content_is(blob, len, seed);
    db_blob_free(blob);
}

TEST(blobs_of_any_size_read_back_whole_and_in_parts)
{
    static const size_t sizes[] = {0, 1, 100, 65536, BLOB_CHUNK_BYTES - 1, BLOB_CHUNK_BYTES,
                                   BLOB_CHUNK_BYTES + 1, 2 * BLOB_CHUNK_BYTES + 12345};
    char key[32];
    syna_db *db = open_with("a.db", (syna_db_options){0});
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        snprintf(key, sizeof key, "blob/%zu", i);
        put_blob(db, key, sizes[i], i, i % 2 ? 1000003 : SIZE_MAX);
    }
    for (int round = 0; round < 4; round++) {
        check_note("round %d", round);
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            snprintf(key, sizeof key, "blob/%zu", i);
            blob_is(db, key, sizes[i], i);
        }
        if (round == 1)
            compact(db, SYNA_COMPACT_LATEST);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = open_with("a.db", (syna_db_options){.no_mmap = round == 1, .read_only = round == 2});
    }
    CHECK_OK(db_close(db));
}

TEST(plain_gets_give_the_content_and_its_type)
{
    enum { LEN = BLOB_CHUNK_BYTES + 77 };
    syna_db *db = fast("a.db");
    put_blob(db, "b", LEN, 1, SIZE_MAX);
    put_blob(db, "empty", 0, 1, SIZE_MAX);
    uint8_t *want = content_of(LEN, 1), *buf = malloc(LEN);
    size_t len;
    int32_t type;
    void *copy = NULL;
    CHECK_OK(db_get(db, "b", 1, buf, LEN - 1, &len, &type));
    CHECK_EQ(len, LEN);
    CHECK_EQ(type, SYNA_TYPE_BLOB);
    CHECK_OK(db_get(db, "b", 1, buf, LEN, &len, &type));
    CHECK_MEM(buf, want, LEN);
    CHECK_OK(db_get_copy(db, "b", 1, -1, &copy, &len, &type));
    CHECK_EQ(type, SYNA_TYPE_BLOB);
    CHECK_EQ(len, LEN);
    CHECK_MEM(copy, want, LEN);
    mem_free(copy);
    CHECK_OK(db_get_copy(db, "empty", 5, -1, &copy, &len, &type));
    CHECK_EQ(len, 0);
    mem_free(copy);
    CHECK_RC(db_get_copy(db, "b", 1, SYNA_TYPE_BYTES, &copy, &len, &type), SYNA_ERR_TYPE_MISMATCH);
    free(want);
    free(buf);
    CHECK_OK(db_close(db));
}

static int32_t sum_lengths(void *context, const syna_record *record)
{
    *(size_t *)context += record->len + (record->deleted ? 1000000000u : 0);
    CHECK(record->deleted || record->type == SYNA_TYPE_BLOB);
    return 0;
}

TEST(histories_hold_every_version)
{
    syna_db *db = fast("a.db");
    size_t sum = 0;
    put_blob(db, "b", 5000000, 1, SIZE_MAX);
    put_blob(db, "b", 0, 1, SIZE_MAX);
    put_blob(db, "b", 300, 2, SIZE_MAX);
    del(db, "b");
    compact(db, SYNA_COMPACT_HISTORY);
    CHECK_OK(db_history(db, "b", 1, sum_lengths, &sum));
    CHECK_EQ(sum, 1005000300);
    CHECK_OK(db_close(db));
    sound("a.db");
}

TEST(nothing_is_visible_before_finish)
{
    uint8_t *bytes = content_of(BLOB_CHUNK_BYTES + 1, 1);
    syna_db *db = fast("a.db");
    syna_blob *blob = create(db, "b"), *other;
    CHECK_OK(db_blob_write(blob, bytes, BLOB_CHUNK_BYTES + 1));
    CHECK(!has(db, "b"));
    CHECK_EQ(count_of(db), 0);
    CHECK_RC(db_blob_open(db, "b", 1, &other), SYNA_ERR_KEY_NOT_FOUND);
    db_blob_free(blob); /* forgotten */
    CHECK(!has(db, "b"));
    uint64_t with_garbage = size_of("a.db");
    CHECK(with_garbage > BLOB_CHUNK_BYTES);
    put_int(db, "k", 1);
    CHECK_OK(db_close(db));
    sound("a.db");
    db = fast("a.db");
    CHECK_EQ(count_of(db), 1);
    compact(db, SYNA_COMPACT_HISTORY);
    CHECK_OK(db_close(db));
    CHECK(size_of("a.db") < 4096);
    free(bytes);
}

TEST(other_values_can_be_read_as_blobs)
{
    char text[5000];
    size_t n;
    memset(text, 'y', sizeof text);
    syna_db *db = fast("a.db");
    syna_blob *blob;
    put(db, "bytes", SYNA_TYPE_BYTES, "\1\2\3", 3);
    put(db, "text", SYNA_TYPE_TEXT, text, sizeof text); /* compressed */
    put(db, "packed", SYNA_TYPE_PACKED, "\x90", 1);
    put(db, "empty", SYNA_TYPE_TEXT, "", 0);
    put_int(db, "int", 1);
    CHECK_OK(db_blob_open(db, "bytes", 5, &blob));
    put(db, "bytes", SYNA_TYPE_BYTES, "\4", 1); /* the version opened is pinned */
    compact(db, SYNA_COMPACT_LATEST);
    CHECK_OK(db_blob_read(blob, 1, text, 100, &n));
    CHECK_EQ(n, 2);
    CHECK_MEM(text, "\2\3", 2);
    db_blob_free(blob);
    CHECK_OK(db_blob_open(db, "text", 4, &blob));
    CHECK_EQ(db_blob_size(blob), 5000);
    CHECK_OK(db_blob_read(blob, 4990, text, 100, &n));
    CHECK_EQ(n, 10);
    CHECK_MEM(text, "yyyyyyyyyy", 10);
    db_blob_free(blob);
    CHECK_OK(db_blob_open(db, "empty", 5, &blob));
    CHECK_EQ(db_blob_size(blob), 0);
    db_blob_free(blob);
    CHECK_OK(db_blob_open(db, "packed", 6, &blob));
    CHECK_EQ(db_blob_size(blob), 1);
    db_blob_free(blob);
    CHECK_RC(db_blob_open(db, "int", 3, &blob), SYNA_ERR_TYPE_MISMATCH);
    CHECK_OK(db_close(db));
}

TEST(an_open_reader_keeps_its_version)
{
    enum { LEN = 2 * BLOB_CHUNK_BYTES };
    syna_db *db = fast("a.db");
    syna_blob *blob;
    put_blob(db, "b", LEN, 1, SIZE_MAX);
    CHECK_OK(db_blob_open(db, "b", 1, &blob));
    put_blob(db, "b", 10, 2, SIZE_MAX);
    compact(db, SYNA_COMPACT_LATEST);
    del(db, "b");
    compact(db, SYNA_COMPACT_LATEST);
    CHECK(size_of("a.db") < LEN);
    content_is(blob, LEN, 1);
    db_blob_free(blob);
    CHECK_OK(db_close(db));
}

TEST(a_writer_goes_on_across_compactions)
{
    enum { LEN = 3 * BLOB_CHUNK_BYTES + 5 };
    uint8_t *bytes = content_of(LEN, 9);
    for (int32_t mode = SYNA_COMPACT_LATEST; mode <= SYNA_COMPACT_LIVE_HISTORY; mode++)
        for (int sync = 0; sync < 2; sync++) {
            syna_db *db = open_with("a.db", (syna_db_options){.no_sync = !sync});
            syna_blob *blob = create(db, "b");
            put_int(db, "k", 1);
            CHECK_OK(db_blob_write(blob, bytes, 2 * BLOB_CHUNK_BYTES));
            compact(db, mode);
            put_int(db, "k", 2);
            compact(db, mode); /* two while the writer does nothing */
            CHECK_OK(db_blob_write(blob, bytes + 2 * BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES));
            CHECK_OK(db_blob_write(blob, bytes + 3 * BLOB_CHUNK_BYTES, 5));
            compact(db, mode);
            CHECK_OK(db_blob_finish(blob));
            db_blob_free(blob);
            blob_is(db, "b", LEN, 9);
            compact(db, mode);
            blob_is(db, "b", LEN, 9);
            CHECK_EQ(int_of(db, "k"), 2);
            CHECK_OK(db_close(db));
            sound("a.db");
            db = fast("a.db");
            blob_is(db, "b", LEN, 9);
            del(db, "b");
            CHECK_OK(db_close(db));
        }
    free(bytes);
}

struct writing {
    syna_db *db;
    int index;
    int64_t rounds;
    bool failed;
};

static void *write_blobs(void *context)
{
    struct writing *w = context;
    static uint8_t bytes[4][BLOB_CHUNK_BYTES + 1000];
    uint8_t *mine = bytes[w->index];
    for (int64_t i = 0; i < w->rounds; i++) {
        char key[32];
        syna_blob *blob;
        snprintf(key, sizeof key, "blob/%d/%d", w->index, (int)(i % 2));
        content(mine, sizeof bytes[0], (uint64_t)i);
        if (db_blob_create(w->db, key, strlen(key), &blob) != SYNA_SUCCESS)
            w->failed = true;
        for (size_t at = 0; !w->failed && at < sizeof bytes[0]; at += 700000)
            w->failed |= db_blob_write(blob, mine + at, MIN((size_t)700000, sizeof bytes[0] - at)) !=
                         SYNA_SUCCESS;
        w->failed |= db_blob_finish(blob) != SYNA_SUCCESS;
        db_blob_free(blob);
        if (w->failed)
            return NULL;
    }
    return NULL;
}

TEST(writers_beside_compactions_lose_nothing)
{
    syna_db *db = open_with("a.db", (syna_db_options){0});
    int64_t rounds = MAX(check_rounds(4), 2); /* each writer's last two are looked at */
    struct writing w[2] = {{db, 0, rounds, false}, {db, 1, rounds, false}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_blobs, &w[i]), 0);
    for (int i = 0; i < 6; i++)
        compact(db, i % 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        char key[32];
        CHECK(!w[i].failed);
        for (int64_t last = w[i].rounds - 2; last < w[i].rounds; last++) {
            snprintf(key, sizeof key, "blob/%d/%d", i, (int)(last % 2));
            blob_is(db, key, BLOB_CHUNK_BYTES + 1000, (uint64_t)last);
        }
    }
    CHECK_OK(db_close(db));
    sound("a.db");
}

/* ---- shared logs: another process compacts between two writes */

static void compact_elsewhere(void *context)
{
    (void)context;
    syna_db *db = open_with("a.db", (syna_db_options){.shared = 1});
    put_int(db, "theirs", 1);
    compact(db, SYNA_COMPACT_HISTORY);
    CHECK_OK(db_close(db));
}

TEST(P9_a_writer_of_a_shared_log_follows_foreign_compactions)
{
    enum { LEN = 2 * BLOB_CHUNK_BYTES + 5 };
    uint8_t *bytes = content_of(LEN, 4);
    for (int when = 0; when < 3; when++) {
        syna_db *db = open_with("a.db", (syna_db_options){.shared = 1});
        syna_blob *blob = create(db, "b");
        CHECK_OK(db_blob_write(blob, bytes, BLOB_CHUNK_BYTES + 1));
        if (when != 1)
            CHECK_EQ(check_child(compact_elsewhere, NULL), 0);
        CHECK_OK(db_blob_write(blob, bytes + BLOB_CHUNK_BYTES + 1, BLOB_CHUNK_BYTES + 4));
        if (when != 0)
            CHECK_EQ(check_child(compact_elsewhere, NULL), 0);
        CHECK_OK(db_blob_finish(blob));
        db_blob_free(blob);
        blob_is(db, "b", LEN, 4);
        CHECK_EQ(int_of(db, "theirs"), 1);
        CHECK_OK(db_close(db));
        sound("a.db");
    }
    free(bytes);
}

/* ---- refusals */

TEST(misuse_is_refused_and_changes_nothing)
{
    syna_db *db = fast("a.db");
    syna_blob *blob;
    char buf[8];
    size_t n;
    CHECK_RC(db_blob_create(db, "", 0, &blob), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(db_blob_open(db, "none", 4, &blob), SYNA_ERR_KEY_NOT_FOUND);
    blob = create(db, "b");
    CHECK_FAILS(db_blob_read(blob, 0, buf, 1, &n), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(db_blob_write(blob, "abc", 3));
    CHECK_OK(db_blob_finish(blob));
    CHECK_FAILS(db_blob_write(blob, "d", 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(db_blob_finish(blob), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    db_blob_free(blob);
    CHECK_OK(db_blob_open(db, "b", 1, &blob));
    CHECK_FAILS(db_blob_write(blob, "d", 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(db_blob_finish(blob), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(db_blob_read(blob, 0, buf, 8, &n));
    CHECK_EQ(n, 3);
    db_blob_free(blob);
    db_blob_free(NULL);
    CHECK_OK(db_close(db));
    db = reader("a.db");
    CHECK_FAILS(db_blob_create(db, "b", 1, &blob), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(db_close(db));
}

TEST(P4_a_damaged_chunk_is_an_error_that_says_where)
{
    enum { LEN = 2 * BLOB_CHUNK_BYTES };
    syna_db *db = fast("a.db");
    put_blob(db, "b", LEN, 5, SIZE_MAX);
    CHECK_OK(db_close(db));
    uint8_t *bytes = content_of(LEN, 5), *buf = malloc(LEN);
    uint64_t second = find_bytes("a.db", bytes + BLOB_CHUNK_BYTES, 64, 0);
    db = fast("a.db");
    syna_blob *blob;
    size_t n;
    CHECK_OK(db_blob_open(db, "b", 1, &blob));
    flip("a.db", second + 1000000, 5);
    CHECK_OK(db_blob_read(blob, 0, buf, BLOB_CHUNK_BYTES, &n)); /* the first is sound */
    CHECK_MEM(buf, bytes, BLOB_CHUNK_BYTES);
    CHECK_FAILS(db_blob_read(blob, BLOB_CHUNK_BYTES - 5, buf, 10, &n), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, second - FRAME_HEADER_BYTES - 1);
    CHECK_EQ(n, 0);
    db_blob_free(blob);
    CHECK(db_get(db, "b", 1, buf, LEN, &n, &(int32_t){0}) == SYNA_ERR_SERIALIZATION);
    /* Damage makes the handle read-only. */
    CHECK_FAILS(db_put(db, "x", 1, SYNA_TYPE_NULL, NULL, 0, NULL, NULL), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    db_close(db);
    free(bytes);
    free(buf);
}

/* ---- failures (P7) */

static syna_rc try_blob(syna_db *db, const uint8_t *bytes, size_t len, bool *finished)
{
    syna_blob *blob = NULL;
    *finished = false;
    syna_rc rc = db_blob_create(db, "b", 1, &blob);
    if (rc == SYNA_SUCCESS)
        rc = db_blob_write(blob, bytes, len);
    if (rc == SYNA_SUCCESS) {
        rc = db_blob_finish(blob);
        *finished = rc == SYNA_SUCCESS;
    } else if (blob) {
        /* A blob whose write has failed cannot be finished as if nothing had happened. */
        CHECK_FAILS(db_blob_finish(blob), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
        status_set(&(struct status_record){.code = rc, .offset = -1});
    }
    db_blob_free(blob);
    return rc;
}

TEST(P7_without_memory_there_is_an_error_or_the_whole_blob)
{
    enum { LEN = BLOB_CHUNK_BYTES + 3 };
    uint8_t *bytes = content_of(LEN, 6), *buf = malloc(LEN);
    for (int64_t k = 1;; k++) {
        check_note("k = %lld", (long long)k);
        syna_db *db = fast("a.db");
        bool finished;
        fault_alloc(k, false);
        syna_rc rc = try_blob(db, bytes, LEN, &finished);
        bool fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        CHECK(finished || rc == SYNA_ERR_INTERNAL);
        CHECK_EQ(has(db, "b"), finished);
        if (finished)
            blob_is(db, "b", LEN, 6);
        put_int(db, "k", k);
        CHECK_OK(db_close(db));
        sound("a.db");
        unlink(check_path("a.db"));
        if (!fired)
            break;
    }
    free(bytes);
    free(buf);
}

TEST(P7_a_failing_disk_gives_an_error_or_the_whole_blob)
{
    enum { LEN = BLOB_CHUNK_BYTES + 3 };
    uint8_t *bytes = content_of(LEN, 6);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int64_t k = 1;; k++) {
        check_note("k = %lld", (long long)k);
        fault_arm(NULL);
        syna_db *db = open_with("a.db", (syna_db_options){0});
        bool finished;
        fault_arm(&(struct fault){.at = k, .system = k % 2 ? EIO : ENOSPC});
        syna_rc rc = try_blob(db, bytes, LEN, &finished);
        bool fired = fault_fired() > 0;
        fault_arm(NULL);
        CHECK(finished || rc == SYNA_ERR_IO || rc == SYNA_ERR_INTERNAL);
        CHECK_EQ(has(db, "b"), finished);
        db_close(db);
        db = open_with("a.db", (syna_db_options){0});
        CHECK_EQ(has(db, "b"), finished);
        if (finished)
            blob_is(db, "b", LEN, 6);
        CHECK_OK(db_close(db));
        sound("a.db");
        unlink(check_path("a.db"));
        if (!fired)
            break;
    }
    syna_test_set_vfs(NULL);
    free(bytes);
}
