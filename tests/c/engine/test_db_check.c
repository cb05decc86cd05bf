/* verify: every damage is seen, nothing sound is called damaged, and no file makes it run wild. */
#include "db_fixture.h"

#include "store/column.h"
#include "store/frame.h"
#include "store/keydir.h"

struct found {
    syna_check check;
    int lines;
    char text[4000]; /* the findings, a line each */
};

static int32_t note(void *context, uint64_t offset, const char *text)
{
    struct found *f = context;
    size_t len = strlen(f->text);
    f->lines++;
    snprintf(f->text + len, sizeof f->text - len, "%llu: %s\n", (unsigned long long)offset, text);
    CHECK(strlen(text) > 5);
    return 0;
}

static struct found look(const char *name)
{
    struct found f = {.check.size = sizeof f.check};
    CHECK_OK(db_verify(check_path(name), note, &f, NULL, &f.check));
    return f;
}

/* A few records of every kind, cleanly closed. */
static void make_sample(const char *name)
{
    static const float vector[2] = {1, 2};
    double numbers[COLUMN_MIN + 4] = {1, 2, 3};
    syna_db *db = fast(name);
    syna_blob *blob;
    syna_batch *batch;
    put_int(db, "i", 1);
    put_text(db, "t", "text");
    put_text(db, "long", "a text that is long enough to be compressed: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    put(db, "v", SYNA_TYPE_VECTOR, vector, sizeof vector);
    put_how(db, "e", 3, (syna_put){.when_us = 5, .expires_us = UINT64_MAX});
    CHECK_OK(db_append_numbers(db, "h", 1, SYNA_TYPE_FLOAT, (uint64_t *)(void *)numbers, NULL,
                               COUNT_OF(numbers)));
    CHECK_OK(db_blob_create(db, "b", 1, &blob));
    CHECK_OK(db_blob_write(blob, "streamed", 8));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    CHECK_OK(db_batch_new(db, &batch));
    CHECK_OK(db_batch_put(batch, "x", 1, SYNA_TYPE_NULL, NULL, 0, NULL));
    CHECK_OK(db_batch_delete(batch, "t", 1));
    CHECK_OK(db_batch_commit(batch));
    db_batch_free(batch);
    CHECK_OK(db_close(db));
}

TEST(a_sound_file_has_no_findings)
{
    make_sample("a.db");
    struct found f = look("a.db");
    CHECK_STR(f.text, "");
    CHECK_EQ(f.check.damaged, 0);
    CHECK_EQ(f.check.torn_bytes, 0);
    CHECK_EQ(f.check.frames, 11); /* chunk, manifest, two of the batch and CLOSE included */
    CHECK_EQ(f.check.bytes, size_of("a.db"));
    CHECK_EQ(f.check.size, sizeof f.check);
    syna_db *db = fast("e.db");
    struct found open = look("e.db"); /* new, open, empty */
    CHECK_EQ(open.lines, 0);
    CHECK_EQ(open.check.bytes, HEADER_BYTES);
    put_int(db, "k", 1);
    CHECK_EQ(look("e.db").check.frames, 1); /* beside its writer, with room allocated ahead */
    CHECK_EQ(look("e.db").lines, 0);
    CHECK_OK(db_close(db));
}

TEST(T4_every_flipped_bit_is_found)
{
    make_sample("a.db");
    uint64_t size = size_of("a.db");
    uint64_t close_frame = size - FRAME_HEADER_BYTES - 1 - FRAME_CRC_BYTES;
    for (uint64_t at = 0; at < size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            check_note("byte %llu, bit %u", (unsigned long long)at, bit);
            flip("a.db", at, bit);
            struct found f = look("a.db");
            flip("a.db", at, bit);
            CHECK(f.lines > 0);
            /* The CLOSE frame alone has nothing durable behind it that could tell. */
            if (at < close_frame)
                CHECK(f.check.damaged >= 1); /* a blob counts beside its chunk */
            else
                CHECK(f.check.damaged == 0 && f.check.torn_bytes > 0);
        }
    sound("a.db");
}

TEST(T4_every_truncation_is_a_tail_or_damage)
{
    make_sample("a.db");
    size_t size;
    uint8_t *bytes = slurp("a.db", &size);
    for (size_t len = 0; len < size; len++) {
        check_note("%zu bytes", len);
        spill("b.db", bytes, len);
        struct found f = {.check.size = sizeof f.check};
        syna_rc rc = db_verify(check_path("b.db"), note, &f, NULL, &f.check);
        if (rc != SYNA_SUCCESS) {
            CHECK_RC(rc, SYNA_ERR_SERIALIZATION);
            CHECK(len < HEADER_MAGIC_BYTES);
            continue;
        }
        CHECK(f.check.damaged == 0 || len < HEADER_BYTES);
        CHECK(f.check.bytes + f.check.torn_bytes <= len);
    }
    free(bytes);
}

TEST(P5_a_torn_tail_is_not_damage)
{
    make_sample("a.db");
    size_t size;
    uint8_t *bytes = slurp("a.db", &size);
    uint8_t *torn = malloc(size + 5000);
    memcpy(torn, bytes, size);
    memset(torn + size, 0, 5000);
    memset(torn + size + 10, 0xa5, 700);
    spill("b.db", torn, size + 5000);
    struct found f = look("b.db");
    CHECK_EQ(f.check.damaged, 0);
    CHECK_EQ(f.check.torn_bytes, 710);
    CHECK_EQ(f.check.frames, 11);
    CHECK_EQ(f.lines, 1);

    /* A batch without its end: its frames are whole, but were never acknowledged. */
    uint64_t batch_end = size - (FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES);
    uint64_t last = batch_end - (FRAME_HEADER_BYTES + 1 + 4 + FRAME_CRC_BYTES);
    spill("b.db", bytes, (size_t)last);
    f = look("b.db");
    CHECK_EQ(f.check.damaged, 0);
    CHECK_EQ(f.check.frames, 8);
    CHECK_EQ(f.check.torn_bytes, FRAME_HEADER_BYTES + 1 + 4 + FRAME_CRC_BYTES);
    free(bytes);
    free(torn);
}

TEST(a_hole_of_zeros_is_damage)
{
    uint8_t zeros[64] = {0};
    make_sample("a.db");
    poke("a.db", HEADER_BYTES + 20, zeros, sizeof zeros);
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 1);
    make_sample("b.db");
    poke("b.db", HEADER_BYTES, zeros, 32); /* exactly the first frame */
    f = look("b.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.frames, 10);
}

TEST(several_damaged_places_are_listed_each)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 100; i++) {
        char key[32];
        snprintf(key, sizeof key, "key %02d", i);
        put_text(db, key, "some value");
    }
    CHECK_OK(db_close(db));
    for (int i = 10; i < 100; i += 20) {
        char key[32];
        snprintf(key, sizeof key, "key %02d", i);
        flip("a.db", find_bytes("a.db", key, 6, 0) + 8, 3);
    }
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 5);
    CHECK_EQ(f.lines, 5);
    CHECK_EQ(f.check.frames, 96);
}

/* ---- what a checksum does not see: frames with the right one and nonsense inside */

static void append_frame(const char *name, const void *key, size_t key_len, uint8_t flags,
                         const void *value, size_t len, uint64_t stamp)
{
    size_t size;
    uint8_t *bytes = slurp(name, &size);
    struct header h;
    struct buf frame = {0};
    CHECK_OK(header_decode(bytes, size, KIND_LOG, name, &h));
    CHECK(frame_append(&frame, key, key_len, flags, value, len));
    frame_seal(frame.bytes, size, stamp, FRAME_COMMIT | FRAME_PRIOR_DURABLE, frame_seed(h.uuid));
    bytes = realloc(bytes, size + frame.len);
    memcpy(bytes + size, frame.bytes, frame.len);
    spill(name, bytes, size + frame.len);
    free(bytes);
    buf_dispose(&frame);
}

TEST(nonsense_under_a_valid_checksum_is_found)
{
    static const struct {
        const char *key;
        uint8_t flags;
        const char *value;
        size_t len;
        const char *finding;
    } cases[] = {
        {"k", 0, "\x09\0\0\0", 4, "atom tag"},
        {"k", 0, "\x01\0\0\0\0\0", 6, "atom of length"},
        {"k", 0, "\x03\0\0\0\1\0\0\0\0\0\0\0\xff", 13, "not UTF-8"},
        {"\xff", 0, "\0\0\0\0", 4, "key that is not UTF-8"},
        {"k", FRAME_TOMBSTONE, "\x02\0\0\0\1\0\0\0\0\0\0\0", 12, "deletion that carries"},
        {"k", FRAME_BLOCK, "\x01\x02", 2, ""},
        {"k", FRAME_BLOCK | FRAME_EXT, "\0", 1, "column block with flags"},
        {"k", FRAME_LZ4, "\xff\xff\xff\x3f\0", 5, "LZ4"},
        {"k", FRAME_EXT, "\x03\x03\x01\x09\x04\0\0\0\0\0\0\0\0\0\0\0", 16, "unknown type"},
        {"k", FRAME_EXT, "\x03\x03\x01\x07\x04\0\0\0\x0c\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0", 28,
         "size"},
        {"k", FRAME_EXT,
         "\x03\x03\x01\x07\x04\0\0\0\x18\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\x10\0\0\0\0\0\0\0\1\0\0\0", 40,
         "missing chunk"},
        {"", 0, "\x09", 1, "unknown kind"},
        {"", 0, "\x01\x01", 2, "CLOSE or MARK"},
        {"", 0, "\x02\x01", 2, "PAD"},
        {"", 0, "\x04", 1, "CHUNK"},
        {"", FRAME_TOMBSTONE, "\x03", 1, "engine frame with flags"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("case %zu", i);
        CHECK_OK(db_close(fast("a.db")));
        append_frame("a.db", cases[i].key, strlen(cases[i].key), cases[i].flags, cases[i].value,
                     cases[i].len, UINT64_MAX / 2);
        struct found f = look("a.db");
        CHECK_EQ(f.check.damaged, 1);
        if (!strstr(f.text, cases[i].finding))
            CHECK_STR(f.text, cases[i].finding);
        unlink(check_path("a.db"));
    }
}

TEST(stamps_that_go_back_are_found)
{
    CHECK_OK(db_close(fast("a.db")));
    append_frame("a.db", "k", 1, 0, "\0\0\0\0", 4, 2000);
    append_frame("a.db", "k", 1, 0, "\0\0\0\0", 4, 1999);
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK(strstr(f.text, "stamp"));
}

TEST(frames_of_any_stamp_are_found_behind_damage)
{
    CHECK_OK(db_close(fast("a.db")));
    append_frame("a.db", "k", 1, 0, "\0\0\0\0", 4, 2000);
    append_frame("a.db", "k", 1, 0, "\0\0\0\0", 4, UINT64_MAX - 1); /* in no likely year */
    flip("a.db", HEADER_BYTES + 3, 0);
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.frames, 1);
}

/* ---- blobs */

TEST(a_damaged_chunk_is_found_twice_as_bytes_and_as_a_blob_that_lacks_it)
{
    static uint8_t big[300000];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)check_random();
    syna_db *db = fast("a.db");
    syna_blob *blob;
    CHECK_OK(db_blob_create(db, "b", 1, &blob));
    CHECK_OK(db_blob_write(blob, big, sizeof big));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    CHECK_OK(db_close(db));
    flip("a.db", 200000, 0);
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 2);
    CHECK(strstr(f.text, "missing chunk"));
}

/* ---- header blocks */

TEST(a_file_with_a_ruined_header_is_checked_with_the_identity_in_its_key_checkpoint)
{
    syna_db *db = fast("a.db");
    for (int i = 0; i < 40000; i++) {
        char key[32];
        snprintf(key, sizeof key, "a rather long key %d", i);
        put_int(db, key, i);
    }
    CHECK_OK(db_close(db));
    CHECK(there("a.db.idx"));
    poke("a.db", 20, "ruined", 6);
    struct found f = look("a.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.frames, 40001);
    unlink(check_path("a.db.idx"));
    f = look("a.db");
    CHECK_EQ(f.check.damaged, 1);
    CHECK_EQ(f.check.frames, 0);
}

TEST(what_is_no_log_is_an_error)
{
    syna_check check = {.size = sizeof check};
    spill("text", "this is not a database, it is a text of some length", 50);
    CHECK_FAILS(db_verify(check_path("text"), NULL, NULL, NULL, &check), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
    CHECK_RC(db_verify(check_path("none"), NULL, NULL, NULL, &check), SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, ENOENT);
    CHECK(db_verify(check_path(""), NULL, NULL, NULL, &check) != SYNA_SUCCESS);
    CHECK(db_verify("", NULL, NULL, NULL, &check) != SYNA_SUCCESS);
    spill("empty", "", 0);
    struct found f = look("empty");
    CHECK(f.check.damaged == 0 && f.lines == 1);

    /* A later release's file is refused, not guessed at. */
    uint8_t block[HEADER_BYTES];
    struct header h = {.major = 9, .kind = KIND_LOG, .generation = 1};
    header_encode(&h, block);
    spill("newer", block, sizeof block);
    CHECK_FAILS(db_verify(check_path("newer"), NULL, NULL, NULL, &check), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_NEWER_FORMAT);
    h.major = FORMAT_MAJOR;
    h.kind = KIND_ROWS;
    header_encode(&h, block);
    spill("rows", block, sizeof block);
    CHECK_FAILS(db_verify(check_path("rows"), NULL, NULL, NULL, &check), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
}

/* ---- the key checkpoint */

struct skipping {
    struct keydir *dir;
    uint64_t skip;
};

static syna_rc apply_but_one(void *context, const struct frame *f)
{
    struct skipping *s = context;
    return f->offset == s->skip ? SYNA_SUCCESS : keydir_apply(s->dir, f);
}

/* Save a checkpoint that lacks the frame at `skip`. */
static void save_wrong_index(const char *name, const char *index, uint64_t skip)
{
    struct kvlog log;
    struct kvlog_recovery recovery;
    struct skipping s = {.skip = skip};
    CHECK_OK(kvlog_open(&log, check_path(name), false, false));
    CHECK_OK(keydir_new(&log, &s.dir));
    CHECK_OK(kvlog_replay(&log, apply_but_one, &s, &recovery));
    CHECK_OK(keydir_save(s.dir, check_path(index), log.last_offset, log.end, log.last_crc));
    keydir_free(s.dir);
    kvlog_close(&log);
}

TEST(a_key_checkpoint_that_disagrees_with_the_log_is_found)
{
    syna_db *db = fast("a.db");
    uint64_t offset[4];
    for (int i = 0; i < 4; i++) {
        int64_t n = i;
        const char *key = i < 3 ? "k" : "other";
        CHECK_OK(db_put(db, key, strlen(key), SYNA_TYPE_INT, &n, 8, NULL, &offset[i]));
    }
    CHECK_OK(db_close(db));
    save_wrong_index("a.db", "a.db.idx", 0);
    sound("a.db");
    for (int i = 0; i < 4; i++) { /* a record of the history, the newest, a whole key */
        save_wrong_index("a.db", "a.db.idx", offset[i]);
        struct found f = look("a.db");
        CHECK_EQ(f.check.damaged, i == 3 ? 2 : 1);
        CHECK(strstr(f.text, "key checkpoint"));
    }
}

TEST(a_stale_or_damaged_key_checkpoint_is_no_damage)
{
    make_sample("a.db");
    save_wrong_index("a.db", "a.db.idx", 0);
    flip("a.db.idx", size_of("a.db.idx") / 2, 1);
    CHECK_EQ(look("a.db").check.damaged, 0);
    syna_db *db = fast("a.db");
    compact(db, SYNA_COMPACT_LATEST);
    put_int(db, "i", 2);
    CHECK_OK(db_close(db));
    sound("a.db");
}

/* ---- beside a writer */

struct busy {
    syna_db *db;
    bool stop, failed;
};

static void *write_on(void *context)
{
    struct busy *b = context;
    static uint8_t bytes[3000];
    for (int i = 0; !__atomic_load_n(&b->stop, __ATOMIC_RELAXED); i++) {
        char key[32];
        snprintf(key, sizeof key, "key %d", i % 1000);
        bytes[i % 3000] = (uint8_t)i;
        b->failed |= db_put(b->db, key, strlen(key), SYNA_TYPE_BYTES, bytes, (size_t)i * 7 % 3000, NULL,
                            NULL) != SYNA_SUCCESS;
        if (i % 20 == 0)
            usleep(200);
        if (i % 5000 == 4999)
            b->failed |= db_compact(b->db, SYNA_COMPACT_LATEST, NULL, NULL) != SYNA_SUCCESS;
    }
    return NULL;
}

TEST(P10_a_log_that_is_being_written_is_not_called_damaged)
{
    struct busy b = {.db = fast("a.db")};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, write_on, &b), 0);
    for (int64_t i = 0; i < check_rounds(300); i++) {
        struct found f = look("a.db");
        CHECK_STR(f.text, "");
    }
    __atomic_store_n(&b.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK(!b.failed);
    CHECK_OK(db_close(b.db));
}

/* ---- hostile files */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Nothing but headers of long frames that might be: each would have to be checksummed. */
TEST(P14_a_file_of_plausible_headers_does_not_take_time_squared)
{
    enum { SIZE = 4 << 20 };
    CHECK_OK(db_close(fast("a.db")));
    size_t len;
    uint8_t *start = slurp("a.db", &len), *bytes = malloc(SIZE);
    memcpy(bytes, start, len);
    for (size_t at = len; at + FRAME_HEADER_BYTES <= SIZE; at += FRAME_HEADER_BYTES) {
        store_u64(bytes + at, syna_vfs->now_us());
        store_u16(bytes + at + FRAME_AT_KEY_LEN, 1);
        store_u32(bytes + at + FRAME_AT_VAL_LEN, SIZE / 2);
        bytes[at + FRAME_AT_FLAGS] = FRAME_COMMIT | FRAME_PRIOR_DURABLE;
    }
    spill("b.db", bytes, SIZE);
    double began = seconds();
    struct found f = look("b.db");
    CHECK(seconds() - began < 20); /* a debug build under a sanitizer on a busy machine; honest: 0.1 */
    CHECK(f.lines > 0);
    free(start);
    free(bytes);
}

TEST(P14_random_bytes_behind_a_header_are_survived)
{
    CHECK_OK(db_close(fast("a.db")));
    for (int64_t round = 0; round < check_rounds(30); round++) {
        uint8_t noise[3000];
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)(check_random() & check_random());
        poke("a.db", HEADER_BYTES, noise, sizeof noise);
        struct found f = look("a.db");
        CHECK(f.check.damaged > 0 || f.check.torn_bytes > 0);
        CHECK_EQ(f.check.frames, 0);
    }
}

/* ---- stopping, failing */

static int32_t stop_now(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    (void)done;
    return --*(int *)context == 0;
}

static int32_t stop_finding(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    (void)text;
    ++*(int *)context;
    return 1;
}

TEST(P13_a_check_can_be_stopped)
{
    syna_check check = {.size = sizeof check};
    make_sample("a.db");
    for (int after = 1; after < 3; after++) {
        int left = after;
        CHECK_FAILS(db_verify(check_path("a.db"), NULL, &left, stop_now, &check), SYNA_ERR_GENERIC,
                    SYNA_WHY_CANCELLED);
    }
    int findings = 0;
    flip("a.db", HEADER_BYTES + 10, 1);
    flip("a.db", HEADER_BYTES + 200, 1);
    CHECK_FAILS(db_verify(check_path("a.db"), stop_finding, &findings, NULL, &check),
                SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_EQ(findings, 1);
}

TEST(P7_failures_are_errors_and_never_verdicts)
{
    make_sample("a.db");
    save_wrong_index("a.db", "a.db.idx", 0);
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
                fault_arm(&(struct fault){.at = k, .system = EIO, .short_io = k % 2});
            syna_rc rc = db_verify(check_path("a.db"), note, &f, NULL, &f.check);
            bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
            fault_alloc(0, false);
            fault_arm(NULL);
            CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_INTERNAL || !memory);
            if (rc == SYNA_ERR_INTERNAL)
                CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
            else if (rc != SYNA_SUCCESS)
                CHECK(rc == SYNA_ERR_IO || rc == SYNA_ERR_INVALID_PATH);
            CHECK_EQ(f.check.damaged, 0);
            if (!fired)
                break;
        }
    syna_test_set_vfs(NULL);
}
