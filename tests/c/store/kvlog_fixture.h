/* A log file for tests of the log alone: made, filled, damaged and read again. */
#ifndef SYNA_TESTS_KVLOG_FIXTURE_H
#define SYNA_TESTS_KVLOG_FIXTURE_H

#include "check.h"

#include "base/crc32c.h"
#include "store/kvlog.h"
#include "vfs_fault.h"

static inline struct kvlog opened(const char *path, bool writable)
{
    struct kvlog log;
    CHECK_OK(kvlog_open(&log, path, writable, false));
    return log;
}

static inline const char *new_log_at(const char *path)
{
    bool exists;
    CHECK_OK(kvlog_create(path, &exists));
    CHECK(!exists);
    return path;
}

static inline const char *new_log(const char *name)
{
    return new_log_at(check_path(name));
}

static inline syna_rc count_frame(void *context, const struct frame *f)
{
    (void)f;
    ++*(int *)context;
    return SYNA_SUCCESS;
}

static inline syna_rc replay(struct kvlog *log, int *frames, struct kvlog_recovery *r)
{
    *frames = 0;
    return kvlog_replay(log, count_frame, frames, r);
}

/* One commit of `count` frames with keys k0, k1 ... and an 8-byte value each. */
static inline uint64_t append(struct kvlog *log, int count)
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

static inline void xor_byte(const char *path, uint64_t offset, uint8_t bits)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= bits;
    CHECK_EQ(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static inline void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    close(fd);
}

static inline uint64_t size_of(const char *path)
{
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

/* The file as it is after the process died without closing: its zeros are still there. */
static inline const char *log_of_commits_at(const char *path, int commits, int each, uint64_t *ends)
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

static inline const char *log_of_commits(int commits, int each, uint64_t *ends)
{
    return log_of_commits_at(check_path("torn.db"), commits, each, ends);
}

#endif
