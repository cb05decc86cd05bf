/* The log file alone: creation, appending, and what an open finds after every kind of ending. */
#include "check.h"

#include "base/crc32c.h"
#include "store/kvlog.h"
#include "vfs_fault.h"

static struct kvlog opened(const char *path, bool writable)
{
    struct kvlog log;
    CHECK_OK(kvlog_open(&log, path, writable, false));
    return log;
}

static const char *new_log_at(const char *path)
{
    bool exists;
    CHECK_OK(kvlog_create(path, &exists));
    CHECK(!exists);
    return path;
}

static const char *new_log(const char *name)
{
    return new_log_at(check_path(name));
}

static syna_rc count_frame(void *context, const struct frame *f)
{
    (void)f;
    ++*(int *)context;
    return SYNA_SUCCESS;
}

static syna_rc replay(struct kvlog *log, int *frames, struct kvlog_recovery *r)
{
    *frames = 0;
    return kvlog_replay(log, count_frame, frames, r);
}

/* One commit of `count` frames with keys k0, k1 ... and an 8-byte value each. */
static uint64_t append(struct kvlog *log, int count)
{
    struct buf frames = {0};
    uint64_t offset;
    for (int i = 0; i < count; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%d", i);
        CHECK(frame_append(&frames, key, (size_t)len, 0, "\x02\0\0\0\x2a\0\0\0\0\0\0\0", 12));
    }
    CHECK_OK(kvlog_append(log, frames.bytes, frames.len, 0, &offset, NULL));
    buf_dispose(&frames);
    return offset;
}

static void xor_byte(const char *path, uint64_t offset, uint8_t bits)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= bits;
    CHECK_EQ(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    close(fd);
}

static uint64_t size_of(const char *path)
{
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

TEST(a_new_log_is_a_header_and_nothing_else)
{
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_EQ(size_of(path), HEADER_BYTES);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 0);
    CHECK_EQ(log.end, HEADER_BYTES);
    CHECK_EQ(log.header.generation, 1);
    CHECK_EQ(r.cut_bytes, 0);
    kvlog_close(&log);
}

TEST(creating_over_an_existing_file_leaves_it)
{
    const char *path = check_path("a.db");
    bool exists;
    write_file(path, "precious", 8);
    CHECK_OK(kvlog_create(path, &exists));
    CHECK(exists);
    CHECK_EQ(size_of(path), 8);
}

TEST(frames_come_back_in_order_and_a_close_is_clean)
{
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    uint64_t first = append(&log, 1), second = append(&log, 3);
    CHECK_EQ(first, HEADER_BYTES);
    CHECK(second > first);
    CHECK_OK(kvlog_finish(&log));
    CHECK_EQ(size_of(path), log.end);
    kvlog_close(&log);

    log = opened(path, false);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 5); /* CLOSE included */
    CHECK(r.clean);
    struct frame f;
    CHECK_OK(kvlog_frame(&log, second, &f));
    CHECK_EQ(f.key_len, 2);
    CHECK_MEM(f.key, "k0", 2);
    CHECK(!(f.flags & FRAME_COMMIT));
    CHECK_RC(kvlog_frame(&log, second + 1, &f), SYNA_ERR_SERIALIZATION);
    CHECK_RC(kvlog_frame(&log, log.end, &f), SYNA_ERR_SERIALIZATION);
    kvlog_close(&log);
}

TEST(stamps_never_decrease_and_future_times_do_not_push_them)
{
    struct kvlog log = opened(new_log("a.db"), true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    uint64_t last = 0;
    const uint64_t times[] = {1, 0, UINT64_MAX / 2, 5, 0};
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        struct buf frame = {0};
        uint64_t offset, stamp;
        CHECK(frame_append(&frame, "k", 1, 0, "\0\0\0\0", 4));
        CHECK_OK(kvlog_append(&log, frame.bytes, frame.len, times[i], &offset, &stamp));
        buf_dispose(&frame);
        CHECK(stamp >= last);
        CHECK(stamp <= syna_vfs->now_us());
        last = stamp;
    }
    kvlog_close(&log);
}

TEST(only_frames_behind_a_sync_say_prior_durable)
{
    struct kvlog log = opened(new_log("a.db"), true);
    struct kvlog_recovery r;
    struct frame f;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    uint64_t a = append(&log, 1), b = append(&log, 1);
    CHECK_OK(kvlog_sync(&log));
    uint64_t c = append(&log, 2);
    CHECK_OK(kvlog_frame(&log, a, &f));
    CHECK(f.flags & FRAME_PRIOR_DURABLE); /* nothing but the header before it */
    CHECK_OK(kvlog_frame(&log, b, &f));
    CHECK(!(f.flags & FRAME_PRIOR_DURABLE));
    CHECK_OK(kvlog_frame(&log, c, &f));
    CHECK(f.flags & FRAME_PRIOR_DURABLE);
    CHECK_OK(kvlog_frame(&log, c + f.len, &f));
    CHECK(!(f.flags & FRAME_PRIOR_DURABLE));
    CHECK_EQ(log.syncs, 1);
    kvlog_close(&log);
}

/* The file as it is after the process died without closing: its zeros are still there. */
static const char *log_of_commits_at(const char *path, int commits, int each, uint64_t *ends)
{
    new_log_at(path);
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    for (int i = 0; i < commits; i++) {
        append(&log, each);
        ends[i] = log.end;
    }
    kvlog_close(&log);
    return path;
}

static const char *log_of_commits(int commits, int each, uint64_t *ends)
{
    return log_of_commits_at(check_path("torn.db"), commits, each, ends);
}

TEST(a_log_cut_at_any_byte_keeps_every_whole_commit_and_takes_new_ones)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 2, ends);
    for (uint64_t cut = HEADER_BYTES; cut <= ends[2]; cut++) {
        check_note("cut at %llu", (unsigned long long)cut);
        unlink(path);
        log_of_commits_at(path, 3, 2, ends);
        CHECK_EQ(truncate(path, (off_t)cut), 0);

        int whole = 0, frames;
        while (whole < 3 && ends[whole] <= cut)
            whole++;
        uint64_t end = whole ? ends[whole - 1] : HEADER_BYTES;
        struct kvlog log = opened(path, true);
        struct kvlog_recovery r;
        CHECK_OK(replay(&log, &frames, &r));
        CHECK_EQ(frames, whole * 2);
        CHECK_EQ(log.end, end);
        CHECK_EQ(r.cut_bytes > 0, cut > end);
        CHECK_OK(kvlog_cut(&log, &r));
        append(&log, 1);
        kvlog_close(&log);

        log = opened(path, true);
        CHECK_OK(replay(&log, &frames, &r));
        CHECK_EQ(frames, whole * 2 + 1);
        CHECK_EQ(r.cut_bytes, 0);
        kvlog_close(&log);
    }
}

TEST(every_bit_flip_before_a_clean_close_is_damage_at_its_frame)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    append(&log, 1);
    uint64_t end = log.end;
    CHECK_OK(kvlog_finish(&log));
    kvlog_close(&log);

    for (uint64_t at = HEADER_BYTES; at < end; at++)
        for (int bit = 0; bit < 8; bit++) {
            check_note("bit %d of byte %llu", bit, (unsigned long long)at);
            xor_byte(path, at, (uint8_t)(1 << bit));
            uint64_t before = size_of(path);
            log = opened(path, true);
            CHECK_FAILS(replay(&log, &frames, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
            CHECK((uint64_t)status_get()->offset <= at);
            CHECK((uint64_t)status_get()->offset == log.end);
            kvlog_close(&log);
            CHECK_EQ(size_of(path), before);
            xor_byte(path, at, (uint8_t)(1 << bit));
        }
}

TEST(a_tail_with_a_whole_looking_frame_is_kept_beside_the_file)
{
    uint64_t ends[2];
    const char *path = log_of_commits(2, 1, ends);
    struct kvlog log;
    struct kvlog_recovery r;
    int frames;
    xor_byte(path, ends[1] - 6, 1);
    log = opened(path, true);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(r.cut_bytes, ends[1] - ends[0]);
    CHECK_OK(kvlog_cut(&log, &r));
    CHECK(r.cut_saved);
    CHECK_EQ(size_of(check_path("torn.db.cut")), r.cut_bytes);
    kvlog_close(&log);
}

TEST(foreign_files_are_refused_and_left_alone)
{
    const char *path = check_path("a.db");
    uint8_t noise[1000];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(0xc1 + i * 7);
    struct kvlog log;
    const struct {
        const void *bytes;
        size_t len;
    } files[] = {{noise, sizeof noise}, {"PK\3\4 a zip archive", 18}, {"hello", 5}, {noise, 1}};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        write_file(path, files[i].bytes, files[i].len);
        for (int writable = 0; writable < 2; writable++)
            CHECK_FAILS(kvlog_open(&log, path, writable, false), SYNA_ERR_SERIALIZATION,
                        SYNA_WHY_WRONG_KIND);
        CHECK_EQ(size_of(path), files[i].len);
    }
}

TEST(an_empty_or_zero_file_becomes_a_log_only_for_a_writer)
{
    const char *path = check_path("a.db");
    static const uint8_t zeros[4096];
    const size_t sizes[] = {0, 1, 128, 4096};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct kvlog log;
        struct kvlog_recovery r;
        int frames;
        write_file(path, zeros, sizes[i]);
        CHECK_RC(kvlog_open(&log, path, false, false), SYNA_ERR_SERIALIZATION);
        log = opened(path, true);
        CHECK_OK(replay(&log, &frames, &r));
        append(&log, 1);
        kvlog_close(&log);
        log = opened(path, false);
        CHECK_OK(replay(&log, &frames, &r));
        CHECK_EQ(frames, 1);
        kvlog_close(&log);
    }
}

TEST(a_damaged_header_is_refused_at_every_bit)
{
    const char *path = new_log("a.db");
    for (uint64_t at = 0; at < HEADER_BYTES; at++)
        for (int bit = 0; bit < 8; bit++) {
            struct kvlog log;
            check_note("bit %d of byte %llu", bit, (unsigned long long)at);
            xor_byte(path, at, (uint8_t)(1 << bit));
            CHECK(kvlog_open(&log, path, true, false) != SYNA_SUCCESS);
            CHECK_EQ(size_of(path), HEADER_BYTES);
            xor_byte(path, at, (uint8_t)(1 << bit));
        }
}

TEST(the_file_grows_by_an_eighth_and_is_trimmed_by_a_clean_close)
{
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    for (int i = 0; i < 20000; i++)
        append(&log, 4);
    CHECK(log.allocated >= log.end);
    CHECK(log.allocated - log.end <= log.end / 8 + (128u << 10));
    CHECK_OK(kvlog_finish(&log));
    CHECK_EQ(size_of(path), log.end);
    kvlog_close(&log);
    log = opened(path, false);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 80001);
    kvlog_close(&log);
}

TEST(reading_into_memory_sees_the_same_log)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 2, ends);
    struct kvlog log;
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(kvlog_open(&log, path, false, true));
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 6);
    kvlog_close(&log);

    CHECK_OK(kvlog_open(&log, path, true, true));
    CHECK_OK(replay(&log, &frames, &r));
    append(&log, 5);
    CHECK_OK(kvlog_finish(&log));
    kvlog_close(&log);
    log = opened(path, false);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 12);
    CHECK(r.clean);
    kvlog_close(&log);
}

TEST(a_checkpoint_position_is_trusted_only_when_its_frame_is_there)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    struct kvlog log = opened(path, false);
    struct kvlog_recovery r;
    struct frame f;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_OK(kvlog_frame(&log, ends[0], &f));
    kvlog_close(&log);

    log = opened(path, false);
    CHECK(!kvlog_trust(&log, ends[0], ends[1], f.crc + 1));
    CHECK(!kvlog_trust(&log, ends[0], ends[2], f.crc));
    CHECK(!kvlog_trust(&log, ends[0] + 1, ends[1], f.crc));
    CHECK(!kvlog_trust(&log, 0, ends[1], f.crc));
    CHECK(!kvlog_trust(&log, ends[0], ends[0], f.crc));
    CHECK(!kvlog_trust(&log, ends[0], UINT64_MAX, f.crc));
    CHECK_EQ(log.end, HEADER_BYTES);
    CHECK(kvlog_trust(&log, ends[0], ends[1], f.crc));
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 1);
    CHECK_EQ(log.end, ends[2]);
    kvlog_close(&log);
}

TEST(a_checkpoint_position_inside_a_commit_is_not_trusted)
{
    uint64_t end;
    struct kvlog log = opened(log_of_commits(1, 2, &end), false);
    struct kvlog_recovery r;
    struct frame f;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_OK(kvlog_frame(&log, HEADER_BYTES, &f));
    CHECK(!kvlog_trust(&log, HEADER_BYTES, HEADER_BYTES + f.len, f.crc));
    kvlog_close(&log);
}

TEST(a_log_with_a_feature_that_only_readers_need_not_know_is_not_written_to)
{
    uint8_t block[HEADER_BYTES];
    const char *path = new_log("a.db");
    struct header h;
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, block, sizeof block, 0), sizeof block);
    CHECK_OK(header_decode(block, sizeof block, KIND_LOG, path, &h));
    h.read_only = 1;
    header_encode(&h, block);
    CHECK_EQ(pwrite(fd, block, sizeof block, 0), sizeof block);
    close(fd);
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK(!log.writable);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 0);
    kvlog_close(&log);
}

TEST(a_frame_that_became_zeros_is_damage_and_told_as_such)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    struct kvlog log = opened(path, false);
    struct kvlog_recovery r;
    struct frame f;
    int frames;
    static const uint8_t zeros[256];
    CHECK_OK(replay(&log, &frames, &r));
    int fd = open(path, O_RDWR);
    CHECK_EQ(pwrite(fd, zeros, (size_t)(ends[2] - ends[0]), (off_t)ends[0]), ends[2] - ends[0]);
    close(fd);
    CHECK_FAILS(kvlog_frame(&log, ends[0], &f), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK(strstr(status_get()->message, "found zeros") != NULL);
    CHECK_EQ(status_get()->offset, ends[0]);
    CHECK_OK(kvlog_frame(&log, HEADER_BYTES, &f));
    kvlog_close(&log);
}

/* ---------------------------------------------------------------- a disk with its own mind */

TEST(P8_after_a_failed_sync_nothing_is_synced_appended_or_finished)
{
    struct kvlog log = opened(new_log("a.db"), true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    append(&log, 1);
    CHECK_OK(kvlog_sync(&log));
    uint64_t durable = log.end;
    append(&log, 2);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 1, .system = ENOSPC, .only = 1 << FAULT_SYNC});
    CHECK_FAILS(kvlog_sync(&log), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    CHECK_EQ(status_get()->system, ENOSPC);
    CHECK(kvlog_failed(&log));
    CHECK_FAILS(kvlog_sync(&log), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    CHECK_EQ(fault_count(FAULT_SYNC), 1); /* the kernel is not asked again */
    CHECK_FAILS(kvlog_append_engine(&log, ENGINE_MARK), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    kvlog_cut_back(&log);
    CHECK_EQ(log.end, durable);
    uint64_t size = size_of(log.file.path);
    CHECK_OK(kvlog_finish(&log));
    CHECK_EQ(size_of(log.file.path), size);
    kvlog_close(&log);
    syna_test_set_vfs(NULL);
    log = opened(check_path("a.db"), true);
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_EQ(frames, 1);
    CHECK_EQ(r.cut_bytes, 0);
    CHECK(!r.clean);
    kvlog_close(&log);
}

struct choosy {
    int seen, refused; /* frames; the one with this number */
};

static syna_rc refuse_one(void *context, const struct frame *f)
{
    struct choosy *c = context;
    if (++c->seen == c->refused)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, "it", (int64_t)f->offset, 0,
                            "this frame makes no sense");
    return SYNA_SUCCESS;
}

TEST(P4_a_frame_that_its_visitor_refuses_is_never_passed_over)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    for (int writable = 0; writable < 2; writable++) {
        struct kvlog log = opened(path, writable);
        struct kvlog_recovery r;
        struct choosy c = {.refused = 2};
        CHECK_FAILS(kvlog_replay(&log, refuse_one, &c, &r), SYNA_ERR_SERIALIZATION,
                    SYNA_WHY_CORRUPT);
        CHECK_STR(status_get()->path, "it");
        CHECK_EQ(status_get()->offset, ends[0]);
        CHECK_EQ(c.seen, 2);
        kvlog_close(&log);
    }
}

/* Reads: the bytes at `flip_at` are wrong `flips` times; the file seems to end at `reads_end` from
 * read number `cut_from` on. */
static struct {
    uint64_t flip_at, reads_end;
    int flips, reads, cut_from;
} odd;

static int64_t odd_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    if (++odd.reads >= odd.cut_from) {
        if (offset >= odd.reads_end)
            return 0;
        len = (size_t)MIN((uint64_t)len, odd.reads_end - offset);
    }
    int64_t got = vfs_posix.read_at(fd, buf, len, offset);
    if (odd.flips > 0 && odd.flip_at >= offset && odd.flip_at < offset + (uint64_t)got) {
        odd.flips--;
        ((uint8_t *)buf)[odd.flip_at - offset] ^= 0x20;
    }
    return got;
}

static struct vfs odd_table(void)
{
    struct vfs table = vfs_posix;
    table.read_at = odd_read;
    memset(&odd, 0, sizeof odd);
    odd.cut_from = INT32_MAX;
    return table;
}

/* A log of five commits with everything but the last one durable. */
static const char *mostly_durable(const char *name)
{
    struct kvlog log = opened(new_log(name), true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    for (int i = 0; i < 5; i++) {
        append(&log, 1);
        CHECK_OK(kvlog_sync(&log));
    }
    kvlog_close(&log);
    return check_path(name);
}

TEST(P10_a_reader_looks_twice_before_it_calls_bytes_damaged)
{
    const char *path = mostly_durable("a.db");
    struct vfs table = odd_table();
    for (int flips = 0; flips < 3; flips++) {
        struct kvlog log = opened(path, false);
        struct kvlog_recovery r;
        int frames;
        odd.flip_at = HEADER_BYTES + 20;
        odd.flips = flips;
        syna_test_set_vfs(&table);
        syna_rc rc = replay(&log, &frames, &r);
        syna_test_set_vfs(NULL);
        if (flips < 2) {
            CHECK_OK(rc);
            CHECK_EQ(frames, 5);
        } else {
            CHECK_FAILS(rc, SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
            CHECK_EQ(status_get()->offset, HEADER_BYTES);
        }
        kvlog_close(&log);
    }
}

TEST(P10_a_second_look_fails_when_the_visitor_refuses_a_frame_of_it)
{
    struct kvlog log = opened(mostly_durable("a.db"), false);
    struct vfs table = odd_table();
    struct kvlog_recovery r;
    struct choosy c = {.refused = 3};
    odd.flip_at = HEADER_BYTES + 20;
    odd.flips = 1;
    syna_test_set_vfs(&table);
    CHECK_FAILS(kvlog_replay(&log, refuse_one, &c, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    syna_test_set_vfs(NULL);
    CHECK_STR(status_get()->path, "it");
    kvlog_close(&log);
}

TEST(P10_a_reader_goes_on_while_the_writer_trims_its_zeros)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    struct vfs table = odd_table();
    struct kvlog_recovery r;
    int frames;
    CHECK_EQ(truncate(path, 5 << 20), 0);
    for (int from = 1; from < 4; from++) {
        struct kvlog log = opened(path, false);
        odd.reads = 0;
        odd.cut_from = from; /* the trim happens before this read of a piece of 1 MiB */
        odd.reads_end = ends[2] + 100;
        syna_test_set_vfs(&table);
        CHECK_OK(replay(&log, &frames, &r));
        syna_test_set_vfs(NULL);
        CHECK_EQ(frames, 3);
        CHECK_EQ(log.end, ends[2]);
        CHECK_EQ(r.cut_bytes, 0);
        kvlog_close(&log);
    }
}

TEST(P10_a_reader_goes_on_while_a_long_torn_tail_is_cut_off)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    const size_t tail = 3u << 20;
    uint8_t *noise = malloc(tail);
    struct vfs table = odd_table();
    struct kvlog_recovery r;
    int frames;
    for (size_t i = 0; i < tail; i++)
        noise[i] = (uint8_t)(check_random() & 0x7f); /* never a flag byte with PRIOR_DURABLE */
    memset(noise + FRAME_AT_KEY_LEN, 0, 6); /* no long frame begins here: it is read in pieces */
    int fd = open(path, O_RDWR);
    CHECK_EQ(pwrite(fd, noise, tail, (off_t)ends[2]), tail);
    close(fd);
    free(noise);
    struct kvlog log = opened(path, false);
    odd.cut_from = 5; /* all of it is read once; the search for durable frames starts over */
    odd.reads_end = ends[2] + 100;
    syna_test_set_vfs(&table);
    CHECK_OK(replay(&log, &frames, &r));
    syna_test_set_vfs(NULL);
    CHECK(odd.reads > odd.cut_from);
    CHECK_EQ(frames, 3);
    CHECK_EQ(log.end, ends[2]);
    kvlog_close(&log);
}

/* Bytes of which every fifteenth could begin a frame of 100 KB: to look at them all would take an
 * hour for a tail of a few gigabytes. The search ends, and nothing is cut. */
TEST(P6_P14_a_tail_that_would_take_too_long_to_judge_is_left_alone)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    const size_t tail = 600u << 10;
    uint8_t *bytes = calloc(1, tail);
    for (size_t at = 0; at + FRAME_HEADER_BYTES <= tail; at += FRAME_HEADER_BYTES) {
        store_u64(bytes + at + FRAME_AT_STAMP, (uint64_t)1 << 55);
        store_u16(bytes + at + FRAME_AT_KEY_LEN, 1);
        store_u32(bytes + at + FRAME_AT_VAL_LEN, 100000);
        bytes[at + FRAME_AT_FLAGS] = FRAME_PRIOR_DURABLE;
    }
    int fd = open(path, O_RDWR);
    CHECK_EQ(pwrite(fd, bytes, tail, (off_t)ends[2]), tail);
    close(fd);
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_FAILS(replay(&log, &frames, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, ends[2]);
    CHECK_EQ(frames, 3);
    CHECK_EQ(r.cut_bytes, 0);
    CHECK_MEM(map_base(&log.map) + ends[2], bytes, tail);
    kvlog_close(&log);
    free(bytes);
}

TEST(P7_a_read_that_fails_at_any_point_of_a_replay_is_told_and_changes_nothing)
{
    uint64_t ends[3];
    const char *path = log_of_commits(3, 1, ends);
    struct kvlog_recovery r;
    int frames;
    uint8_t tail[200];
    for (size_t i = 0; i < sizeof tail; i++)
        tail[i] = (uint8_t)(i % 100);
    store_u32(tail + FRAME_AT_VAL_LEN, 2u << 20); /* to be read whole it takes a window of its own */
    int fd = open(path, O_RDWR);
    CHECK_EQ(pwrite(fd, tail, sizeof tail, (off_t)ends[2]), sizeof tail);
    CHECK_EQ(ftruncate(fd, 4 << 20), 0);
    CHECK_EQ(pwrite(fd, tail, sizeof tail, 3 << 20), sizeof tail);
    close(fd);
    fault_begin(&vfs_posix);
    int64_t k = 1;
    for (;; k++) {
        check_note("read %lld", (long long)k);
        struct kvlog log = opened(path, false);
        syna_test_set_vfs(&vfs_fault);
        fault_arm(&(struct fault){.at = k, .system = EIO, .only = 1 << FAULT_READ});
        syna_rc rc = replay(&log, &frames, &r);
        bool fired = fault_fired() > 0;
        syna_test_set_vfs(NULL);
        if (fired)
            CHECK_FAILS(rc, SYNA_ERR_IO, SYNA_WHY_NONE);
        else
            CHECK_OK(rc);
        CHECK_EQ(log.end, k == 1 ? HEADER_BYTES : ends[2]);
        kvlog_close(&log);
        if (!fired)
            break;
    }
    CHECK(k > 5);
    CHECK_EQ(frames, 3);
    CHECK_EQ(r.cut_bytes, (3 << 20) + sizeof tail - ends[2]);
}

/* The zeros at the end of a checksum look like the room behind the log: the frame they belong to still
 * proves that what is before it had been durable. */
TEST(P5_a_checksum_that_ends_in_zeros_is_one)
{
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    uint64_t offset = 0, before;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    do {
        before = offset;
        offset = append(&log, 1);
        CHECK_OK(kvlog_sync(&log));
    } while (before == 0 || log.last_crc >> 24 != 0);
    kvlog_close(&log);
    xor_byte(path, before + FRAME_HEADER_BYTES, 1);
    log = opened(path, true);
    CHECK_FAILS(replay(&log, &frames, &r), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, before);
    kvlog_close(&log);
}

/* Whoever follows a log takes a header of zeros for its end: so a torn commit is zeroed from its second
 * part on, and a process that dies in between leaves the header to be found. */
TEST(P6_zeroing_that_stops_half_way_leaves_the_first_bytes)
{
    struct kvlog log = opened(new_log("a.db"), true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    uint64_t at = append(&log, 3);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    fault_arm(&(struct fault){.at = 2, .system = EIO, .only = 1u << FAULT_WRITE});
    CHECK_RC(kvlog_zero(&log, at, log.end - at), SYNA_ERR_IO);
    syna_test_set_vfs(NULL);
    const uint8_t *bytes = map_base(&log.map) + at;
    CHECK(nonzero_end(bytes, FRAME_HEADER_BYTES) > 0);
    CHECK_EQ(nonzero_end(bytes + FRAME_HEADER_BYTES, log.end - at - FRAME_HEADER_BYTES), 0);
    CHECK_OK(kvlog_zero(&log, at, log.end - at));
    CHECK_EQ(nonzero_end(bytes, FRAME_HEADER_BYTES), 0);
    kvlog_close(&log);
}

TEST(P4_P6_following_finds_new_commits_and_torn_ones_and_stops_at_a_header_of_zeros)
{
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true), other = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    CHECK_OK(replay(&log, &frames, &r));
    CHECK_OK(replay(&other, &frames, &r));
    append(&other, 2);
    append(&other, 3);
    CHECK(!kvlog_is_quiet(&log, size_of(path)));
    frames = 0;
    CHECK_OK(kvlog_follow(&log, size_of(path), count_frame, &frames, &r));
    CHECK_EQ(frames, 5);
    CHECK_EQ(log.end, other.end);
    CHECK(kvlog_is_quiet(&log, size_of(path)));
    CHECK(!kvlog_is_quiet(&log, size_of(path) + 1)); /* somebody made room */

    xor_byte(path, log.end + FRAME_HEADER_BYTES + 10, 1); /* nobody leaves such a thing */
    CHECK_OK(kvlog_follow(&log, size_of(path), count_frame, &frames, &r));
    CHECK_EQ(r.cut_bytes, 0);
    CHECK(kvlog_is_quiet(&log, size_of(path)));
    xor_byte(path, log.end + 3, 1); /* this is how a commit begins that was never finished */
    CHECK(!kvlog_is_quiet(&log, size_of(path)));
    CHECK_OK(kvlog_follow(&log, size_of(path), count_frame, &frames, &r));
    CHECK_EQ(r.cut_offset, log.end);
    CHECK_EQ(r.cut_bytes, FRAME_HEADER_BYTES + 11);
    CHECK_OK(kvlog_cut(&log, &r));
    CHECK_OK(kvlog_follow(&log, size_of(path), count_frame, &frames, &r));
    CHECK_EQ(r.cut_bytes, 0);
    CHECK_EQ(frames, 5);
    kvlog_close(&log);
    kvlog_close(&other);
}

/* ---------------------------------------------------------------- chunks */

/* Returns where its frame ends. */
static uint64_t check_chunk(struct kvlog *log, const struct kvlog_chunk *chunk, uint64_t before,
                            uint32_t align)
{
    struct frame f;
    CHECK_OK(kvlog_frame(log, chunk->offset, &f));
    CHECK_EQ((chunk->offset + FRAME_CHUNK_FRONT) % align, 0);
    CHECK(chunk->offset - before <= FRAME_PAD_MAX(align));
    CHECK_EQ(f.value_len, chunk->len + 1);
    CHECK_EQ(f.value[0], ENGINE_CHUNK);
    CHECK_MEM(f.value + 1, chunk->data, chunk->len);
    CHECK(f.flags & FRAME_COMMIT);
    return f.offset + f.len;
}

static void append_aligned(struct kvlog *log, const uint8_t *data, uint32_t len, uint32_t align)
{
    struct kvlog_chunk chunk = {.data = data, .len = len, .crc = crc32c(0, data, len)};
    uint64_t before = log->end;
    CHECK_OK(kvlog_append_chunks(log, &chunk, 1, align));
    CHECK_EQ(check_chunk(log, &chunk, before, align), log->end);
}

TEST(a_chunk_written_from_where_it_is_reads_like_any_frame)
{
    static const uint32_t lens[] = {0, 1, 63, 4096, 100001};
    static const uint32_t aligns[] = {1, 64, KVLOG_ALIGN_MAX};
    static uint8_t data[100001];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + 7);
    for (int by_write = 0; by_write < 2; by_write++) {
        const char *path = new_log(by_write ? "a.db" : "b.db");
        struct kvlog log = opened(path, true);
        struct kvlog_recovery r;
        int frames;
        CHECK_OK(replay(&log, &frames, &r));
        log.by_write = by_write;
        for (size_t a = 0; a < COUNT_OF(aligns); a++)
            for (size_t i = 0; i < COUNT_OF(lens); i++)
                append_aligned(&log, data, lens[i], aligns[a]);
        uint64_t end = log.end;
        kvlog_close(&log);
        log = opened(path, true);
        CHECK_OK(replay(&log, &frames, &r));
        CHECK_EQ(log.end, end);
        CHECK_EQ(r.cut_bytes, 0);
        CHECK(frames >= 15);
        kvlog_close(&log);
    }
}

TEST(chunks_that_are_written_together_read_like_those_written_one_by_one)
{
    static uint8_t data[KVLOG_CHUNKS_MAX * 5000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + 7);
    for (int by_write = 0; by_write < 2; by_write++) {
        const char *path = new_log(by_write ? "a.db" : "b.db");
        struct kvlog log = opened(path, true);
        struct kvlog_recovery r;
        int frames;
        CHECK_OK(replay(&log, &frames, &r));
        log.by_write = by_write;
        for (uint32_t align = 1; align <= KVLOG_ALIGN_MAX; align *= 64) {
            struct kvlog_chunk chunks[KVLOG_CHUNKS_MAX];
            uint64_t at = log.end;
            for (uint32_t i = 0; i < KVLOG_CHUNKS_MAX; i++) {
                uint32_t len = i == 3 ? 0 : 5000 - i;
                chunks[i] = (struct kvlog_chunk){.data = data + i * 5000,
                                                 .len = len,
                                                 .crc = crc32c(0, data + i * 5000, len)};
            }
            CHECK_OK(kvlog_append_chunks(&log, chunks, COUNT_OF(chunks), align));
            for (size_t i = 0; i < COUNT_OF(chunks); i++)
                at = check_chunk(&log, &chunks[i], at, align);
            CHECK_EQ(at, log.end);
        }
        uint64_t end = log.end;
        kvlog_close(&log);
        log = opened(path, true);
        CHECK_OK(replay(&log, &frames, &r));
        CHECK_EQ(log.end, end);
        CHECK_EQ(r.cut_bytes, 0);
        CHECK(frames >= 3 * KVLOG_CHUNKS_MAX);
        kvlog_close(&log);
    }
}

TEST(P7_a_chunk_whose_write_fails_leaves_zeros)
{
    static uint8_t data[70000];
    const char *path = new_log("a.db");
    struct kvlog log = opened(path, true);
    struct kvlog_recovery r;
    int frames;
    memset(data, 9, sizeof data);
    CHECK_OK(replay(&log, &frames, &r));
    log.by_write = true;
    append_aligned(&log, data, 100, 64);
    uint64_t end = log.end;
    struct kvlog_chunk chunk = {.data = data, .len = sizeof data, .crc = crc32c(0, data, sizeof data)};
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int64_t k = 1; k <= 3; k++)
        for (int half = 0; half < 2; half++) {
            fault_arm(&(struct fault){
                .at = k, .system = EIO, .only = 1u << FAULT_WRITE, .short_io = half});
            CHECK_RC(kvlog_append_chunks(&log, &chunk, 1, 64), SYNA_ERR_IO);
            CHECK_EQ(log.end, end);
            CHECK_EQ(nonzero_end(map_base(&log.map) + end, (size_t)(log.allocated - end)), 0);
        }
    syna_test_set_vfs(NULL);
    append_aligned(&log, data, sizeof data, 64);
    kvlog_close(&log);
}
