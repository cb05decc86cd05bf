/* The log file alone: creation, appending, and what an open finds after every kind of ending. */
#include "kvlog_fixture.h"

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

/* Whether a byte of [from, to) is not zero: the first of a frame that was cut short may be. */
static bool any_set(const char *path, uint64_t from, uint64_t to)
{
    FILE *file = fopen(path, "rb");
    bool any = false;
    CHECK(file && fseek(file, (long)from, SEEK_SET) == 0);
    for (uint64_t at = from; at < to; at++)
        any |= fgetc(file) != 0;
    fclose(file);
    return any;
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
        CHECK_EQ(r.cut_bytes > 0, any_set(path, end, cut)); /* zeros are space that nobody wrote to */
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
