/* The append-only file of frames: create, open, recover, append, sync, scan, trim. It knows nothing
 * of keys' meaning; keydir.h does. Invariants:
 *
 *   1. [HEADER_BYTES, end) is whole, valid commits. Behind end there are zeros up to `allocated`.
 *   2. Bytes below `durable` are on disk. durable <= end.
 *   3. Bytes below end never change while the file has this inode.
 *
 * Locking is the engine's: appends under its write_lock; reads below a published end need none. */
#ifndef SYNA_STORE_KVLOG_H
#define SYNA_STORE_KVLOG_H

#include "io/map.h"
#include "store/frame.h"

struct kvlog {
    struct file file;
    struct map map;
    struct header header;
    uint32_t seed;       /* frame_seed(header.uuid) */
    bool legacy;         /* a file of the ancestor: starts at 0, no checksums, read-only */
    bool writable;
    bool failed;         /* atomic: a sync failed, no more writes */
    bool by_write;       /* append with write calls: a sync follows every commit */
    bool grown;          /* written since the last CLOSE frame */
    uint64_t start;      /* offset of the first frame */
    uint64_t end;        /* behind the last whole commit */
    uint64_t allocated;  /* file size; zeros behind end */
    uint64_t durable;    /* atomic: synced up to here by this handle */
    uint64_t floor;      /* what was there before this handle wrote: never cut below it */
    uint64_t last_stamp; /* of the last frame */
    uint32_t last_crc;   /* of the last frame */
    uint64_t last_offset; /* where the last frame starts; 0 = there is none */
    uint64_t device, inode;
    uint64_t syncs; /* atomic: data syncs since open */
};

/* What a replay found. Frames in file order are walked with kvlog_frame: the next one starts at
 * frame.offset + frame.len, the last one ends at log->end. */
struct kvlog_recovery {
    uint64_t frames;
    uint64_t cut_offset, cut_bytes; /* a torn tail was found; 0 bytes = none */
    bool cut_saved;
    bool clean;
};

/* Create a new empty log at `path` (temp file, sync, link, directory sync); *exists (success, nothing
 * done) when another process made one first. generation 1, fresh uuid. */
syna_rc kvlog_create(const char *path, bool *exists);

/* Open the file and check its header; end is still `start`: scan or kvlog_trust to move it. An empty
 * or all-zero file of at most 4 KiB is given a header when `writable`. The ancestor's files, and files
 * with unknown read-only feature bits, open with log->writable false whatever was asked. copy: read
 * with pread into memory instead of mapping. */
syna_rc kvlog_open(struct kvlog *log, const char *path, bool writable, bool copy);
void kvlog_close(struct kvlog *log); /* no trimming, no syncing */

/* Start behind a key checkpoint: accept [start, end) as valid if the frame with `end_crc` ends at
 * `end`. `last_offset` is where that frame starts. false = it does not. */
bool kvlog_trust(struct kvlog *log, uint64_t last_offset, uint64_t end, uint32_t end_crc);

/* Replay frames from log->end on; each whole commit moves log->end, last_stamp and last_crc past it
 * and maps it. At the end of the valid frames: for a writer decides torn tail (reported in *r, not
 * yet cut) or damage (SYNA_ERR_SERIALIZATION at its offset); a reader just stops. */
syna_rc kvlog_replay(struct kvlog *log, syna_rc (*visit)(void *context, const struct frame *f),
                     void *context, struct kvlog_recovery *r);

/* The same for a handle that has been open since an earlier replay, and a file of `size` bytes now:
 * whatever came since was written by processes of the running system, and those store the first bytes
 * of a commit before its others. So where the next frame would start, a header of zeros is the end, and
 * what is behind is not looked at. */
syna_rc kvlog_follow(struct kvlog *log, uint64_t size,
                     syna_rc (*visit)(void *context, const struct frame *f), void *context,
                     struct kvlog_recovery *r);
/* Writer: would kvlog_follow find nothing? False when in doubt. */
bool kvlog_is_quiet(const struct kvlog *log, uint64_t size);

/* Where a torn tail is saved: the log's path with this behind it. */
#define KVLOG_CUT_SUFFIX ".cut"

/* Writer, after replay: save the torn tail to <path>.cut when it holds a complete-looking frame, zero
 * the whole tail, sync. Only then may anything be appended. */
syna_rc kvlog_cut(struct kvlog *log, struct kvlog_recovery *r);

/* Zero [at, at + len) in the file, where a commit stands or was to stand; its first bytes last: as long
 * as they are there, whoever follows the log looks at the rest, too. */
syna_rc kvlog_zero(struct kvlog *log, uint64_t at, uint64_t len);

/* Append one commit: `frames` holds `count` frames made by frame_append; they are sealed here with
 * one stamp = max(when_us or clock, last stamp), COMMIT on the last, PRIOR_DURABLE on the first when
 * it is so. Not durable yet. On success *offset is where the first frame starts. On failure the log
 * is as it was. */
syna_rc kvlog_append(struct kvlog *log, uint8_t *frames, size_t len, uint64_t when_us,
                     uint64_t *offset, uint64_t *stamp);

/* Bytes that become a CHUNK frame, written from where they are. */
struct kvlog_chunk {
    const void *data;
    uint32_t len, crc; /* crc: crc32c(0, data, len) */
    uint64_t offset;   /* out: where its frame starts */
};

/* Append `count` commits of one chunk each, all or none, by one write where the log is written to. With
 * align > 1, a power of two up to a page, a PAD frame goes before each, so that its data start at a
 * multiple of it in the file. Fails as kvlog_append does. */
#define KVLOG_ALIGN_MAX 4096u
#define KVLOG_CHUNKS_MAX 8
syna_rc kvlog_append_chunks(struct kvlog *log, struct kvlog_chunk *chunks, size_t count,
                            uint32_t align);

/* One fdatasync of everything appended so far; moves durable to `end` as it was before the sync.
 * Call without the write_lock, but never from two threads at once: `durable` could go back, and the
 * kernel reports an error to one of them only. After a failure the log has failed for good, and
 * kvlog_cut_back must follow under the write_lock. */
syna_rc kvlog_sync(struct kvlog *log);
static inline bool kvlog_failed(const struct kvlog *log)
{
    return __atomic_load_n(&log->failed, __ATOMIC_ACQUIRE);
}
/* Zero what this handle wrote and did not get durable, [max(durable, floor), end), after a failed
 * sync, so that what the page cache still shows cannot look durable to a later open. Keeps the error
 * record. */
void kvlog_cut_back(struct kvlog *log);

/* Append an engine frame (CLOSE or MARK) as a commit of its own. */
syna_rc kvlog_append_engine(struct kvlog *log, enum engine_frame kind);

/* Clean close of a writer: sync, CLOSE frame, sync, trim the preallocation. Then kvlog_close. */
syna_rc kvlog_finish(struct kvlog *log);

/* The valid frame at `offset`, checksum verified on this call; SYNA_ERR_SERIALIZATION when it is not
 * one. Any thread, for offsets below a published end. */
syna_rc kvlog_frame(const struct kvlog *log, uint64_t offset, struct frame *out);

/* The key of the frame at `offset` without checking it. */
static inline const uint8_t *kvlog_key(const struct kvlog *log, uint64_t offset)
{
    return map_base(&log->map) + offset + FRAME_HEADER_BYTES;
}

#endif
