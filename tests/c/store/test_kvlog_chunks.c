/* Chunks: frames whose data are written from where they lie, one by one and in groups. */
#include "kvlog_fixture.h"

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
