/* A row file: fixed rows of bytes and a stream of records about them, both mapped, durable by
 * checkpoint. What a row or a record means is its component's business (MmapVectorStore,
 * GravityWellIndex, CascadeIndex); that rows and records are what was stored is this file's.
 *
 *   1. What a checkpoint covers never changes: rows and records are only appended. Replacing is a new
 *      row and a new record.
 *   2. A slot is written after everything that it covers was synced, in the place of the older of the
 *      two. So the newest good slot is always true, and the one before it is there until it is.
 *   3. Segments never move and never shrink while the file has this inode, and have their disk blocks
 *      before anything is stored into them: no access below a committed end can raise SIGBUS.
 *   4. Every finished block has a CRC of its own, written once; that of the unfinished last block of a
 *      stream is in the slot, beside the count that it covers. What a slot covers is checked before
 *      it is first used: records on opening, rows by rowfile_touch.
 *   5. What a crash left behind the committed end is never read, and every byte of it is stored anew
 *      before it can be: a row and a record are written whole, padding included.
 *
 * Streams are mapped end to end: row n stands at base + n * row_bytes whatever its segment.
 *
 * Locking is the engine's. One thread at a time reserves, stores and commits; one at a time makes a
 * checkpoint, beside it; reading below a committed end needs no lock. Calls marked (x) exclude all.
 *
 * Files: rowfile_format.c bytes; rowfile.c create, open, refresh; rowfile_stream.c the mapping of a
 * stream; rowfile_check.c the CRCs; rowfile_write.c room, commit, checkpoint. */
#ifndef SYNA_STORE_ROWFILE_H
#define SYNA_STORE_ROWFILE_H

#include "io/file.h"
#include "store/frame.h"
#include "store/rowfile_format.h"

/* One stream as it is mapped. */
struct row_stream {
    uint8_t *base;     /* atomic: stream byte 0; an older mapping stays valid until the end */
    uint64_t room;     /* bytes mapped, all of them on disk */
    uint8_t *range;    /* the address space that holds them, base somewhere in it */
    uint64_t reserved; /* its length */
    uint64_t end;      /* atomic: committed bytes */
    uint64_t sealed;   /* blocks whose CRC is in the file for good */
    struct retired_range *retired;
    struct row_segment segments[ROWFILE_SEGMENTS_MAX];
    uint32_t segment_count;
    /* CRCs of the blocks that a slot covered on opening or refresh, and which are still to be checked.
     * A block that this handle filled itself needs none. */
    uint32_t *sums;
    uint64_t *unchecked; /* atomic words, one bit a block */
    uint64_t sum_count;
    uint64_t waiting; /* atomic: bits set in `unchecked` */
};

struct rowfile {
    struct file file;
    struct header header;
    uint32_t seed;
    bool writable;
    bool failed; /* atomic: a sync failed, no more checkpoints */
    uint64_t device, inode;
    uint64_t file_end; /* behind the last segment */
    uint32_t row_bytes;
    uint32_t component;
    uint64_t rows;            /* atomic: committed */
    uint64_t record_sequence; /* of the last committed record */
    uint64_t sequence;        /* atomic: of the newest slot */
    uint64_t checkpoint_rows, checkpoint_record_bytes; /* atomic: what it covers */
    bool settled;             /* the newest slot was synced by this handle */
    uint32_t config_len;
    uint8_t config[ROWFILE_CONFIG_MAX];
    bool config_changed; /* since the newest slot */
    struct row_stream streams[STREAMS];
    uint32_t refs;        /* atomic */
};

/* What a new file begins with. */
struct rowfile_setup {
    uint32_t component; /* SNAPSHOT_FOURCC-like */
    uint32_t row_bytes; /* a multiple of 4, at most ROWFILE_ROW_MAX */
    const void *config; /* at most ROWFILE_CONFIG_MAX bytes */
    uint32_t config_len;
    const uint8_t *uuid; /* NULL: a fresh one */
    uint64_t generation; /* 1 for a new store */
    uint64_t record_sequence;
};

/* ---- rowfile.c */
/* Create an empty file at `path` (temp file, sync, link, directory sync); *exists (success, nothing
 * done) when another process made one first. */
syna_rc rowfile_create(const char *path, const struct rowfile_setup *setup, bool *exists);
/* A new file beside `path`, open for writing under a temp name: rowfile_publish gives it the name,
 * rowfile_unref drops it. */
syna_rc rowfile_create_temp(const char *path, const struct rowfile_setup *setup,
                            struct rowfile **out);
/* Put a temp file that was checkpointed in the place of `path`. SYNC_FAILED: the name is given, the
 * directory's sync failed, and the file takes no more writes. */
syna_rc rowfile_publish(struct rowfile *rf, const char *path);

/* Open, check the structure of the newest slot, the unfinished blocks and all records. WRONG_KIND:
 * another kind of file or component; CORRUPT names the offset. A file with unknown read-only features
 * opens with rf->writable false whatever was asked. */
syna_rc rowfile_open(const char *path, uint32_t component, bool writable, struct rowfile **out);
/* (x) A reader takes over the newest slot; *changed when there was a newer one. */
syna_rc rowfile_refresh(struct rowfile *rf, bool *changed);

struct rowfile *rowfile_ref(struct rowfile *rf);
/* The last one unmaps and closes; nothing is written. NULL is fine. */
void rowfile_unref(struct rowfile *rf);
/* No more calls but reads of what is mapped: gives the descriptor back before the last unref. */
void rowfile_detach(struct rowfile *rf);

/* ---- reading */
static inline const uint8_t *rowfile_base(const struct rowfile *rf, enum row_stream_kind stream)
{
    return __atomic_load_n(&rf->streams[stream].base, __ATOMIC_ACQUIRE);
}
static inline const uint8_t *rowfile_row(const struct rowfile *rf, uint64_t row)
{
    return rowfile_base(rf, STREAM_ROWS) + row * rf->row_bytes;
}
static inline uint64_t rowfile_rows(const struct rowfile *rf)
{
    return __atomic_load_n(&rf->rows, __ATOMIC_ACQUIRE);
}
static inline uint64_t rowfile_record_bytes(const struct rowfile *rf)
{
    return __atomic_load_n(&rf->streams[STREAM_RECORDS].end, __ATOMIC_ACQUIRE);
}
/* The record at `at` of the stream; *next is where the one behind it begins. CORRUPT when there is
 * none of sound structure. */
syna_rc rowfile_record(const struct rowfile *rf, uint64_t at, struct row_record *out,
                       uint64_t *next);
/* Where a byte of a stream stands in the file. */
uint64_t rowfile_offset(const struct rowfile *rf, enum row_stream_kind stream, uint64_t at);
uint64_t rowfile_file_bytes(const struct rowfile *rf);
uint64_t rowfile_memory_bytes(const struct rowfile *rf); /* heap, mappings not counted */

/* ---- rowfile_check.c */
/* Before rows [first, first + count) are first used: their blocks match their CRCs. Any thread; cheap
 * when everything was checked. CORRUPT names the block's offset. */
syna_rc rowfile_touch_blocks(struct rowfile *rf, enum row_stream_kind stream, uint64_t from,
                             uint64_t to);
static inline syna_rc rowfile_touch(struct rowfile *rf, uint64_t first, uint64_t count)
{
    if (LIKELY(__atomic_load_n(&rf->streams[STREAM_ROWS].waiting, __ATOMIC_ACQUIRE) == 0))
        return SYNA_SUCCESS;
    return rowfile_touch_blocks(rf, STREAM_ROWS, first * rf->row_bytes,
                                (first + count) * rf->row_bytes);
}

/* ---- rowfile_write.c */
/* Room for `rows` more rows and `record_bytes` more bytes of records, on disk and mapped, so that
 * storing them cannot fail. When the file has to grow it grows by half, or up to `rows_hint` rows in
 * all if that is more, and by just what is needed when the disk has no more. On failure nothing has
 * changed. */
syna_rc rowfile_reserve(struct rowfile *rf, uint64_t rows, uint64_t record_bytes,
                        uint64_t rows_hint);
/* Where new rows and records are stored, behind the committed ones. */
static inline uint8_t *rowfile_next_row(const struct rowfile *rf)
{
    return (uint8_t *)(uintptr_t)rowfile_row(rf, rowfile_rows(rf));
}
static inline uint8_t *rowfile_next_record(const struct rowfile *rf)
{
    return (uint8_t *)(uintptr_t)rowfile_base(rf, STREAM_RECORDS) + rowfile_record_bytes(rf);
}
/* So many rows and bytes of records, with so many record sequences, were stored there, and count from
 * now on. */
void rowfile_commit(struct rowfile *rf, uint64_t rows, uint64_t record_bytes, uint64_t records);
/* So many were stored and do not count. */
void rowfile_abandon(struct rowfile *rf, uint64_t rows);

/* (x) Another row length and configuration, while there are no rows. */
void rowfile_configure(struct rowfile *rf, uint32_t row_bytes, const void *config,
                       uint32_t config_len);

/* Is there anything that the newest slot does not cover? */
bool rowfile_changed(const struct rowfile *rf);
/* What a checkpoint shall cover: as it is now. Excludes commits for the moment of the call. */
void rowfile_capture(const struct rowfile *rf, struct row_slot *slot);
/* Make what was captured durable: rows, records and CRCs, sync, the older slot, sync. Commits may go
 * on meanwhile. After a failed sync the file takes no more writes (SYNC_FAILED). */
syna_rc rowfile_checkpoint(struct rowfile *rf, const struct row_slot *slot);
/* The newest slot, which this handle found and did not write, may never have been synced: sync it
 * once. */
syna_rc rowfile_settle(struct rowfile *rf);
static inline bool rowfile_failed(const struct rowfile *rf)
{
    return __atomic_load_n(&rf->failed, __ATOMIC_ACQUIRE);
}

/* ---- shared by the rowfile*.c files */
/* Map segments so that the stream has them all; the file has them already. On failure the stream is
 * as it was. */
syna_rc stream_add_segment(struct row_stream *s, const struct file *f, bool writable,
                           struct row_segment segment);
/* Where in the file a new segment of so many bytes begins best, at file_end or a little behind it. */
uint64_t stream_place_for(const struct row_stream *s, uint64_t file_end, uint64_t bytes);
void stream_dispose(struct row_stream *s);
/* Place in the file of block b, and of its CRC. */
uint64_t stream_block_offset(const struct row_stream *s, uint64_t block);
uint64_t stream_sum_offset(const struct row_stream *s, uint64_t block);
/* Take over the CRCs of blocks [sum_count, blocks): they are to be checked when first touched. */
syna_rc rowfile_load_sums(struct rowfile *rf, enum row_stream_kind stream, uint64_t blocks);
/* The unfinished last block of a stream against the CRC in a slot. */
syna_rc rowfile_check_tail(const struct rowfile *rf, enum row_stream_kind stream,
                           const struct row_slot *slot);
/* The CRC of what a stream has of block `block` up to `end`. */
uint32_t rowfile_tail_sum(const struct rowfile *rf, enum row_stream_kind stream, uint64_t end);

#endif
