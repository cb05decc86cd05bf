/* The log on a disk with a mind of its own: syncs and reads that fail, bytes that change between two
 * looks, tails that are cut while they are read. */
#include "kvlog_fixture.h"

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
