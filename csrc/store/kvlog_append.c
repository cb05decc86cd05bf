/* kvlog_append.c - the writing half of a log: room ahead, append, sync, cut back, finish.
 *
 * An append is a store into the mapped, preallocated tail: no system call, and the death of the
 * process cannot take it back. Where a sync follows every commit it is a write instead: after a sync
 * the mapped page is write-protected, in every processor, and the next store would fault. Room is
 * made before the store, so a full disk is an error return and never a signal (P7, P15). */
#include "base/internal.h"

#include "store/kvlog.h"

#define ROOM_MIN (64u << 10)
#define ROOM_MAX (16u << 20)
#define ROOM_UNIT 4096u
/* From this size on, room is made in whole huge pages, so that the kernel can map the log with them. */
#define HUGE_FROM (4u << 20)
#define HUGE_UNIT (2u << 20)

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static syna_rc allocate_to(struct kvlog *log, uint64_t size)
{
    SYNA_TRY(file_allocate(&log->file, log->allocated, size - log->allocated));
    /* Bytes on disk that are not mapped yet do no harm, so a failing map leaves them. */
    log->allocated = size;
    return SYNA_SUCCESS;
}

/* Preallocate 1/8 of the file ahead (ARCHITECTURE 2.5); when the disk cannot give that, just what is
 * needed. */
static syna_rc make_room(struct kvlog *log, size_t len)
{
    uint64_t need = log->end + len;
    if (need > log->allocated) {
        uint64_t ahead = MIN(MAX(need / 8, (uint64_t)ROOM_MIN), (uint64_t)ROOM_MAX);
        uint64_t unit = need >= HUGE_FROM ? HUGE_UNIT : ROOM_UNIT;
        if (allocate_to(log, round_up(need + ahead, unit)) != SYNA_SUCCESS)
            SYNA_TRY(allocate_to(log, round_up(need, ROOM_UNIT)));
    }
    if (need > log->map.len)
        SYNA_TRY(map_grow(&log->map, &log->file, log->allocated));
    return SYNA_SUCCESS;
}

syna_rc kvlog_zero(struct kvlog *log, uint64_t at, uint64_t len)
{
    uint64_t first = MIN(len, (uint64_t)FRAME_HEADER_BYTES);
    SYNA_TRY(file_zero(&log->file, at + first, len - first));
    return file_zero(&log->file, at, first);
}

static syna_rc write_out(struct kvlog *log, const uint8_t *bytes, size_t len)
{
    syna_rc rc = file_write_all(&log->file, log->end, bytes, len);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        kvlog_zero(log, log->end, len);
        return status_set(&why);
    }
    if (log->map.copy)
        map_fill(&log->map, log->end, bytes, len);
    return SYNA_SUCCESS;
}

/* The header first, for kvlog_follow: this process may die at any instruction. */
static void store_mapped(struct kvlog *log, const uint8_t *bytes, size_t len)
{
    uint8_t *at = (uint8_t *)(uintptr_t)map_base(&log->map) + log->end;
    memcpy(at, bytes, FRAME_HEADER_BYTES);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(at + FRAME_HEADER_BYTES, bytes + FRAME_HEADER_BYTES, len - FRAME_HEADER_BYTES);
    syna_vfs->note_store(log->file.fd, log->end, bytes, len);
}

/* Put the commit at log->end. When that fails there are zeros. */
static syna_rc store(struct kvlog *log, const uint8_t *bytes, size_t len)
{
    if (log->by_write || log->map.copy)
        return write_out(log, bytes, len);
    store_mapped(log, bytes, len);
    return SYNA_SUCCESS;
}

/* Seal the frames of one commit for their places. Returns where the last one starts. */
static uint64_t seal_commit(struct kvlog *log, uint8_t *frames, size_t len, uint64_t stamp,
                            uint32_t *crc)
{
    uint64_t durable = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);
    uint8_t flags = durable == log->end ? FRAME_PRIOR_DURABLE : 0;
    size_t at = 0;
    for (;;) {
        size_t next = at + (size_t)frame_length(frames + at);
        if (next == len)
            flags |= FRAME_COMMIT;
        *crc = frame_seal(frames + at, log->end + at, stamp, flags, log->seed);
        if (next == len)
            return log->end + at;
        at = next;
        flags = 0;
    }
}

static syna_rc failed_earlier(const struct kvlog *log)
{
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, log->file.path, -1, 0,
                        "an earlier sync failed; reopen the database to continue");
}

/* A time given in the future stays the event time only: it must not push all later stamps. */
static uint64_t next_stamp(const struct kvlog *log, uint64_t when_us)
{
    uint64_t now = syna_vfs->now_us();
    uint64_t when = when_us && when_us < now ? when_us : now;
    return MAX(when, log->last_stamp);
}

/* The commit stands at log->end: count it in. */
static void accept(struct kvlog *log, size_t len, uint64_t last, uint64_t stamp, uint32_t crc)
{
    log->last_offset = last;
    log->last_stamp = stamp;
    log->last_crc = crc;
    log->grown = true;
    __atomic_store_n(&log->end, log->end + len, __ATOMIC_RELEASE);
}

syna_rc kvlog_append(struct kvlog *log, uint8_t *frames, size_t len, uint64_t when_us,
                     uint64_t *offset, uint64_t *stamp)
{
    if (UNLIKELY(kvlog_failed(log)))
        return failed_earlier(log);
    SYNA_TRY(make_room(log, len));
    uint64_t new_stamp = next_stamp(log, when_us);
    uint32_t crc = 0;
    uint64_t last = seal_commit(log, frames, len, new_stamp, &crc);
    SYNA_TRY(store(log, frames, len));
    *offset = log->end;
    if (stamp)
        *stamp = new_stamp;
    accept(log, len, last, new_stamp, crc);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- chunks */

/* What stands before and behind the bytes of a chunk. */
struct chunk_frame {
    uint8_t front[FRAME_PAD_MAX(KVLOG_ALIGN_MAX) + FRAME_CHUNK_FRONT], back[FRAME_CRC_BYTES];
    size_t pad; /* bytes of the PAD frame, the first of `front` */
};

static size_t front_bytes(const struct chunk_frame *frame)
{
    return frame->pad + FRAME_CHUNK_FRONT;
}

/* Lay the chunk out at `at`, pads included; returns where the next one may start. */
static uint64_t place_chunk(struct kvlog_chunk *chunk, uint64_t at, uint32_t align,
                            struct chunk_frame *frame)
{
    frame->pad = align > 1 ? frame_pad_length(at, align) : 0;
    chunk->offset = at + frame->pad;
    return at + front_bytes(frame) + chunk->len + FRAME_CRC_BYTES;
}

static void seal_chunk(const struct kvlog *log, const struct kvlog_chunk *chunk, uint64_t stamp,
                       uint8_t flags, struct chunk_frame *frame)
{
    frame_pad(frame->front, frame->pad);
    if (frame->pad) {
        frame_seal(frame->front, chunk->offset - frame->pad, stamp, flags, log->seed);
        flags = 0;
    }
    frame_chunk(frame->front + frame->pad, chunk->len);
    store_u32(frame->back, frame_chunk_seal(frame->front + frame->pad, chunk->offset, stamp,
                                            flags | FRAME_COMMIT, log->seed, chunk->len, chunk->crc));
}

/* The bytes of the chunks in the order in which they stand in the file. */
static size_t list_parts(const struct kvlog_chunk *chunks, const struct chunk_frame *frames,
                         size_t count, struct vfs_part *parts)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        parts[n++] = (struct vfs_part){frames[i].front, front_bytes(&frames[i])};
        parts[n++] = (struct vfs_part){chunks[i].data, chunks[i].len};
        parts[n++] = (struct vfs_part){frames[i].back, FRAME_CRC_BYTES};
    }
    return n;
}

static syna_rc write_parts_out(struct kvlog *log, const struct vfs_part *parts, size_t count,
                               size_t total)
{
    struct vfs_part left[VFS_PARTS_MAX];
    memcpy(left, parts, count * sizeof *parts);
    syna_rc rc = file_write_parts(&log->file, log->end, left, count);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        kvlog_zero(log, log->end, total);
        return status_set(&why);
    }
    uint64_t at = log->end;
    for (size_t i = 0; i < count && log->map.copy; at += parts[i++].len)
        map_fill(&log->map, at, parts[i].bytes, parts[i].len);
    return SYNA_SUCCESS;
}

/* The first part begins with a header. */
static syna_rc store_parts(struct kvlog *log, const struct vfs_part *parts, size_t count, size_t total)
{
    if (log->by_write || log->map.copy)
        return write_parts_out(log, parts, count, total);
    uint64_t at = log->end + parts[0].len;
    store_mapped(log, parts[0].bytes, parts[0].len);
    for (size_t i = 1; i < count; at += parts[i++].len) {
        memcpy((uint8_t *)(uintptr_t)map_base(&log->map) + at, parts[i].bytes, parts[i].len);
        syna_vfs->note_store(log->file.fd, at, parts[i].bytes, parts[i].len);
    }
    return SYNA_SUCCESS;
}

syna_rc kvlog_append_chunks(struct kvlog *log, struct kvlog_chunk *chunks, size_t count,
                            uint32_t align)
{
    struct chunk_frame frames[KVLOG_CHUNKS_MAX];
    struct vfs_part parts[3 * KVLOG_CHUNKS_MAX];
    _Static_assert(COUNT_OF(parts) <= VFS_PARTS_MAX, "all of it is one write");
    if (UNLIKELY(kvlog_failed(log)))
        return failed_earlier(log);
    uint64_t end = log->end;
    for (size_t i = 0; i < count; i++)
        end = place_chunk(&chunks[i], end, align, &frames[i]);
    SYNA_TRY(make_room(log, (size_t)(end - log->end)));
    uint64_t stamp = next_stamp(log, 0), durable = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);
    for (size_t i = 0; i < count; i++)
        seal_chunk(log, &chunks[i], stamp, i == 0 && durable == log->end ? FRAME_PRIOR_DURABLE : 0,
                   &frames[i]);
    size_t n = list_parts(chunks, frames, count, parts);
    SYNA_TRY(store_parts(log, parts, n, (size_t)(end - log->end)));
    accept(log, (size_t)(end - log->end), chunks[count - 1].offset, stamp,
           load_u32(frames[count - 1].back));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- sync, cut back, finish */

syna_rc kvlog_sync(struct kvlog *log)
{
    if (kvlog_failed(log))
        return failed_earlier(log);
    uint64_t end = __atomic_load_n(&log->end, __ATOMIC_ACQUIRE);
    __atomic_fetch_add(&log->syncs, 1, __ATOMIC_RELAXED);
    syna_rc rc = file_sync(&log->file);
    if (rc != SYNA_SUCCESS) {
        /* The kernel may have dropped the dirty pages, and reports it only once. */
        __atomic_store_n(&log->failed, true, __ATOMIC_RELEASE);
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, log->file.path, -1,
                            status_get()->system, "cannot make the log durable");
    }
    __atomic_store_n(&log->durable, end, __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

void kvlog_cut_back(struct kvlog *log)
{
    struct status_record why = *status_get();
    uint64_t keep = MAX(__atomic_load_n(&log->durable, __ATOMIC_ACQUIRE), log->floor);
    if (log->end > keep) {
        /* The disk is failing: what cannot be zeroed is caught by its missing PRIOR_DURABLE. */
        kvlog_zero(log, keep, log->end - keep);
        if (log->map.copy)
            map_fill(&log->map, keep, NULL, (size_t)(log->end - keep));
        __atomic_store_n(&log->end, keep, __ATOMIC_RELEASE);
        log->last_offset = 0; /* unknown; a failed log appends no more */
    }
    status_set(&why);
}

syna_rc kvlog_append_engine(struct kvlog *log, enum engine_frame kind)
{
    uint8_t body = (uint8_t)kind;
    struct buf frame = {0};
    uint64_t offset;
    if (!frame_append(&frame, NULL, 0, 0, &body, 1)) {
        buf_dispose(&frame);
        return syna_no_memory(FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES);
    }
    syna_rc rc = kvlog_append(log, frame.bytes, frame.len, 0, &offset, NULL);
    buf_dispose(&frame);
    return rc;
}

syna_rc kvlog_finish(struct kvlog *log)
{
    if (!log->grown || kvlog_failed(log))
        return SYNA_SUCCESS;
    if (__atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) < log->end)
        SYNA_TRY(kvlog_sync(log));
    SYNA_TRY(kvlog_append_engine(log, ENGINE_CLOSE));
    if (log->allocated > log->end) {
        SYNA_TRY(file_truncate(&log->file, log->end));
        log->allocated = log->end;
    }
    SYNA_TRY(kvlog_sync(log));
    log->grown = false;
    return SYNA_SUCCESS;
}
