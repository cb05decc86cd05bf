/* kvlog.c - a log file as an object: create, open, close, and look at one frame. Appending is in
 * kvlog_append.c, finding the end after a crash in kvlog_recover.c. This file never changes bytes of
 * an existing log, except that an empty file is given its header. */
#include "base/internal.h"

#include "store/kvlog.h"

/* A file of zeros up to this size is taken for a creation that did not get further. */
#define EMPTY_FILE_MAX 4096u

static syna_rc fresh_header(struct header *h)
{
    memset(h, 0, sizeof *h);
    h->major = FORMAT_MAJOR;
    h->minor = FORMAT_MINOR;
    h->kind = KIND_LOG;
    h->generation = 1;
    h->created_us = syna_vfs->now_us();
    int rc = syna_vfs->random(h->uuid, sizeof h->uuid);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, NULL, -1, -rc,
                            "the system gave no random bytes for a new file's identity");
    return SYNA_SUCCESS;
}

static syna_rc write_header(const struct file *f, struct header *h)
{
    uint8_t block[HEADER_BYTES];
    SYNA_TRY(fresh_header(h));
    header_encode(h, block);
    SYNA_TRY(file_write_all(f, 0, block, sizeof block));
    return file_sync(f);
}

syna_rc kvlog_create(const char *path, bool *exists)
{
    struct file temp = FILE_NONE;
    struct header h;
    *exists = false;

    SYNA_TRY(file_create_temp(&temp, path));
    syna_rc rc = write_header(&temp, &h);
    if (rc == SYNA_SUCCESS)
        rc = file_publish(&temp, path, false, exists);
    if (rc != SYNA_SUCCESS || *exists)
        file_discard_temp(&temp);
    else
        file_close(&temp);
    return rc;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

static syna_rc is_empty(const struct file *f, uint64_t size, bool *empty)
{
    uint8_t bytes[EMPTY_FILE_MAX];
    *empty = false;
    if (size > sizeof bytes)
        return SYNA_SUCCESS;
    size_t got = 0;
    SYNA_TRY(file_read(f, 0, bytes, (size_t)size, &got));
    *empty = all_zero(bytes, got);
    return SYNA_SUCCESS;
}

/* The ancestor's files have no header: the first entry has to look like one of theirs. */
static bool looks_legacy(const struct kvlog *log, uint64_t size)
{
    struct frame f;
    return frame_parse_legacy(map_base(&log->map), size, 0, &f) == FRAME_GOOD;
}

static syna_rc read_header(struct kvlog *log, uint64_t size)
{
    uint8_t block[HEADER_BYTES] = {0};
    size_t got = 0;
    SYNA_TRY(file_read(&log->file, 0, block, sizeof block, &got));

    syna_rc rc = header_decode(block, got, KIND_LOG, log->file.path, &log->header);
    if (rc == SYNA_SUCCESS) {
        if (log->header.read_only != 0)
            log->writable = false;
        log->start = HEADER_BYTES;
        return SYNA_SUCCESS;
    }
    if (got >= HEADER_MAGIC_BYTES && memcmp(block, HEADER_MAGIC, HEADER_MAGIC_BYTES) == 0)
        return rc; /* one of ours, but damaged or too new */

    struct status_record why = *status_get();
    SYNA_TRY(map_grow(&log->map, &log->file, size));
    if (!looks_legacy(log, size))
        return status_set(&why);
    memset(&log->header, 0, sizeof log->header);
    log->legacy = true;
    log->writable = false;
    log->start = 0;
    return SYNA_SUCCESS;
}

static syna_rc open_checked(struct kvlog *log, bool writable)
{
    struct vfs_stat st;
    bool empty = false;
    SYNA_TRY(file_stat(&log->file, &st));
    SYNA_TRY(is_empty(&log->file, st.size, &empty));
    if (empty && !writable)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, log->file.path, 0, 0,
                            "the file is empty: no header block, expected one of %u bytes",
                            HEADER_BYTES);
    if (empty) {
        SYNA_TRY(write_header(&log->file, &log->header));
        SYNA_TRY(file_stat(&log->file, &st));
        log->start = HEADER_BYTES;
    } else {
        SYNA_TRY(read_header(log, st.size));
    }

    SYNA_TRY(map_grow(&log->map, &log->file, log->start)); /* even an empty log can be read */
    log->seed = frame_seed(log->header.uuid);
    log->end = log->durable = log->start;
    log->allocated = st.size;
    log->last_stamp = 0; /* times given may lie before the creation */
    log->device = st.device;
    log->inode = st.inode;
    return SYNA_SUCCESS;
}

syna_rc kvlog_open(struct kvlog *log, const char *path, bool writable, bool copy)
{
    memset(log, 0, sizeof *log);
    log->file.fd = -1;
    log->writable = writable;
    SYNA_TRY(file_open(&log->file, path, writable ? VFS_WRITE : VFS_READ));
    map_init(&log->map, writable, copy);

    syna_rc rc = open_checked(log, writable);
    if (rc != SYNA_SUCCESS)
        kvlog_close(log);
    return rc;
}

void kvlog_close(struct kvlog *log)
{
    map_dispose(&log->map);
    file_close(&log->file);
}

bool kvlog_trust(struct kvlog *log, uint64_t last_offset, uint64_t end, uint32_t end_crc)
{
    struct frame f;
    if (last_offset < log->start || end <= last_offset || end > log->allocated)
        return false;
    if (map_grow(&log->map, &log->file, end) != SYNA_SUCCESS)
        return false;
    if (frame_parse(map_base(&log->map) + last_offset, end - last_offset, last_offset, log->seed,
                    &f) != FRAME_GOOD)
        return false;
    if (f.crc != end_crc || last_offset + f.len != end || !(f.flags & FRAME_COMMIT))
        return false;
    log->last_offset = last_offset;
    log->last_stamp = f.stamp;
    log->last_crc = f.crc;
    __atomic_store_n(&log->end, end, __ATOMIC_RELEASE);
    return true;
}

syna_rc kvlog_frame(const struct kvlog *log, uint64_t offset, struct frame *out)
{
    uint64_t end = __atomic_load_n(&log->end, __ATOMIC_ACQUIRE);
    if (offset < log->start || offset >= end)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, log->file.path,
                            (int64_t)offset, 0,
                            "no frame can start here: the log is [%llu, %llu)",
                            (unsigned long long)log->start, (unsigned long long)end);

    const uint8_t *bytes = map_base(&log->map) + offset;
    enum frame_state state = log->legacy
                                 ? frame_parse_legacy(bytes, end - offset, offset, out)
                                 : frame_parse(bytes, end - offset, offset, log->seed, out);
    if (LIKELY(state == FRAME_GOOD))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, log->file.path, (int64_t)offset, 0,
                        "damaged frame: found %s, expected a frame with a valid checksum",
                        state == FRAME_ZERO    ? "zeros"
                        : state == FRAME_SHORT ? "a frame longer than the log"
                                               : "bytes that do not match their checksum");
}
