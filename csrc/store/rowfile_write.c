/* rowfile_write.c - room, commit and checkpoint.
 *
 * Room is made before anything is stored into it: file blocks first, then the mapping, then the entry
 * in the handle's table of segments, which the next checkpoint writes. So a full disk is an error
 * return, and a crash in between leaves at most unused bytes behind the last segment.
 *
 * The order of a checkpoint is all that makes it one:
 *
 *   CRCs of the blocks finished since the last one  ->  sync  ->  the older slot  ->  sync
 *
 * The first sync covers the rows and records stored into the mapping, too. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/rowfile.h"

#define GROW_LEAST ((uint64_t)ROWFILE_BLOCK)
#define SUMS_AT_ONCE 1024u /* CRCs collected before they are written */

static uint64_t blocks_of(uint64_t bytes)
{
    return (bytes + ROWFILE_BLOCK - 1) / ROWFILE_BLOCK;
}

/* ---------------------------------------------------------------- room */

/* A crash can have left bytes behind the last segment, which nobody has mapped. */
static syna_rc drop_leftovers(const struct rowfile *rf)
{
    struct vfs_stat st;
    SYNA_TRY(file_stat(&rf->file, &st));
    return st.size > rf->file_end ? file_truncate(&rf->file, rf->file_end) : SYNA_SUCCESS;
}

static syna_rc add_segment(struct rowfile *rf, enum row_stream_kind stream, uint64_t bytes)
{
    uint64_t offset = stream_place_for(&rf->streams[stream], rf->file_end, bytes);
    uint64_t units = segment_units(blocks_of(bytes)), place = offset / ROWFILE_BLOCK;
    if (place + units > UINT32_MAX)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NO_SPACE, rf->file.path, -1, EFBIG,
                            "a row file has at most 256 TiB");
    struct row_segment segment = {stream, (uint32_t)place, (uint32_t)units};
    SYNA_TRY(drop_leftovers(rf));
    SYNA_TRY(file_allocate(&rf->file, offset, units * ROWFILE_BLOCK));
    SYNA_TRY(stream_add_segment(&rf->streams[stream], &rf->file, rf->writable, segment));
    rf->file_end = segment_end(&segment);
    return SYNA_SUCCESS;
}

static syna_rc grow(struct rowfile *rf, enum row_stream_kind stream, uint64_t need, uint64_t hint)
{
    const struct row_stream *s = &rf->streams[stream];
    if (need <= s->room)
        return SYNA_SUCCESS;
    uint32_t segments = rf->streams[0].segment_count + rf->streams[1].segment_count;
    if (segments >= ROWFILE_SEGMENTS_MAX)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NO_SPACE, rf->file.path, -1, 0,
                            "all %u segments are in use; compacting merges them",
                            ROWFILE_SEGMENTS_MAX);
    uint64_t least = need - s->room, ahead = MAX(s->room / 2, GROW_LEAST);
    if (hint > s->room)
        ahead = MAX(ahead, hint - s->room);
    if (ahead > least && add_segment(rf, stream, ahead) == SYNA_SUCCESS)
        return SYNA_SUCCESS;
    return add_segment(rf, stream, least);
}

syna_rc rowfile_reserve(struct rowfile *rf, uint64_t rows, uint64_t record_bytes,
                        uint64_t rows_hint)
{
    if (rows > ROWFILE_ROWS_MAX - rf->rows)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NO_SPACE, rf->file.path, -1, EFBIG,
                            "%llu rows and %llu more; a row file holds at most %u",
                            (unsigned long long)rf->rows, (unsigned long long)rows,
                            ROWFILE_ROWS_MAX);
    uint64_t most = MIN(rows_hint, (uint64_t)ROWFILE_ROWS_MAX) * rf->row_bytes;
    SYNA_TRY(grow(rf, STREAM_ROWS, (rf->rows + rows) * rf->row_bytes, most));
    return grow(rf, STREAM_RECORDS, rf->streams[STREAM_RECORDS].end + record_bytes, 0);
}

/* ---------------------------------------------------------------- commit */

/* Tell the table what was stored into the mapping; a segment at a time, as the file has them. */
static void note(const struct rowfile *rf, enum row_stream_kind stream, uint64_t from, uint64_t to)
{
    const struct row_stream *s = &rf->streams[stream];
    while (from < to) {
        uint64_t offset = rowfile_offset(rf, stream, from), len = ROWFILE_BLOCK - from % ROWFILE_BLOCK;
        while (from + len < to && rowfile_offset(rf, stream, from + len) == offset + len)
            len += ROWFILE_BLOCK;
        len = MIN(len, to - from);
        syna_vfs->note_store(rf->file.fd, offset, s->base + from, (size_t)len);
        from += len;
    }
}

void rowfile_commit(struct rowfile *rf, uint64_t rows, uint64_t record_bytes, uint64_t records)
{
    struct row_stream *row = &rf->streams[STREAM_ROWS], *record = &rf->streams[STREAM_RECORDS];
    uint64_t row_end = row->end + rows * rf->row_bytes, record_end = record->end + record_bytes;
    note(rf, STREAM_ROWS, row->end, row_end);
    note(rf, STREAM_RECORDS, record->end, record_end);
    rf->record_sequence += records;
    __atomic_store_n(&record->end, record_end, __ATOMIC_RELEASE);
    __atomic_store_n(&row->end, row_end, __ATOMIC_RELEASE);
    __atomic_store_n(&rf->rows, rf->rows + rows, __ATOMIC_RELEASE);
}

void rowfile_abandon(struct rowfile *rf, uint64_t rows)
{
    uint64_t end = rf->streams[STREAM_ROWS].end;
    note(rf, STREAM_ROWS, end, end + rows * rf->row_bytes);
}

void rowfile_configure(struct rowfile *rf, uint32_t row_bytes, const void *config,
                       uint32_t config_len)
{
    rf->row_bytes = row_bytes;
    rf->config_len = config_len;
    memset(rf->config, 0, sizeof rf->config);
    memcpy(rf->config, config, config_len);
    rf->config_changed = true;
}

/* ---------------------------------------------------------------- checkpoint */

bool rowfile_changed(const struct rowfile *rf)
{
    return rf->config_changed || rf->rows != rf->checkpoint_rows ||
           rf->streams[STREAM_RECORDS].end != rf->checkpoint_record_bytes;
}

void rowfile_capture(const struct rowfile *rf, struct row_slot *slot)
{
    memset(slot, 0, sizeof *slot);
    slot->sequence = rf->sequence + 1;
    slot->rows = rf->rows;
    slot->record_bytes = rf->streams[STREAM_RECORDS].end;
    slot->record_sequence = rf->record_sequence;
    slot->row_bytes = rf->row_bytes;
    slot->component = rf->component;
    slot->config_len = rf->config_len;
    memcpy(slot->config, rf->config, sizeof slot->config);

    /* In the order of the file: each stream has its own in this order already. */
    uint32_t next[STREAMS] = {0, 0};
    for (;;) {
        const struct row_segment *first = NULL;
        for (uint32_t i = 0; i < STREAMS; i++) {
            const struct row_stream *s = &rf->streams[i];
            if (next[i] < s->segment_count &&
                (!first || s->segments[next[i]].place < first->place))
                first = &s->segments[next[i]];
        }
        if (!first)
            return;
        slot->segments[slot->segment_count++] = *first;
        next[first->stream]++;
    }
}

/* The CRCs of blocks [sealed, end) into their places in the file. */
static syna_rc write_sums(struct rowfile *rf, enum row_stream_kind stream, uint64_t end)
{
    const struct row_stream *s = &rf->streams[stream];
    uint8_t sums[SUMS_AT_ONCE * 4];
    for (uint64_t block = s->sealed; block < end;) {
        uint64_t place = stream_sum_offset(s, block), count = 0;
        while (block < end && count < SUMS_AT_ONCE &&
               stream_sum_offset(s, block) == place + count * 4) {
            const uint8_t *bytes = rowfile_base(rf, stream) + block * ROWFILE_BLOCK;
            store_u32(sums + 4 * count, crc32c(0, bytes, ROWFILE_BLOCK));
            count++;
            block++;
        }
        SYNA_TRY(file_write_all(&rf->file, place, sums, (size_t)count * 4));
    }
    return SYNA_SUCCESS;
}

static syna_rc sync_or_fail(struct rowfile *rf)
{
    syna_rc rc = file_sync(&rf->file);
    if (rc != SYNA_SUCCESS) /* the kernel may have dropped the dirty pages, and says so only once */
        __atomic_store_n(&rf->failed, true, __ATOMIC_RELEASE);
    return rc;
}

static syna_rc check_not_failed(const struct rowfile *rf)
{
    if (rowfile_failed(rf))
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, rf->file.path, -1, 0,
                            "an earlier sync failed; reopen the file to continue");
    return SYNA_SUCCESS;
}

syna_rc rowfile_settle(struct rowfile *rf)
{
    SYNA_TRY(check_not_failed(rf));
    if (!rf->settled)
        SYNA_TRY(sync_or_fail(rf));
    rf->settled = true;
    return SYNA_SUCCESS;
}

static void checkpoint_made(struct rowfile *rf, const struct row_slot *slot)
{
    rf->config_changed = false;
    rf->settled = true;
    for (int i = 0; i < STREAMS; i++)
        rf->streams[i].sealed = slot_stream_bytes(slot, (enum row_stream_kind)i) / ROWFILE_BLOCK;
    __atomic_store_n(&rf->checkpoint_rows, slot->rows, __ATOMIC_RELAXED);
    __atomic_store_n(&rf->checkpoint_record_bytes, slot->record_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&rf->sequence, slot->sequence, __ATOMIC_RELEASE);
}

syna_rc rowfile_checkpoint(struct rowfile *rf, const struct row_slot *slot)
{
    struct row_slot next = *slot;
    uint8_t bytes[SLOT_BYTES];
    SYNA_TRY(check_not_failed(rf));
    for (int i = 0; i < STREAMS; i++) {
        enum row_stream_kind stream = (enum row_stream_kind)i;
        uint64_t end = slot_stream_bytes(slot, stream);
        SYNA_TRY(write_sums(rf, stream, end / ROWFILE_BLOCK));
        next.tails[i] = rowfile_tail_sum(rf, stream, end);
    }
    SYNA_TRY(sync_or_fail(rf));
    slot_encode(&next, rf->header.uuid, bytes);
    SYNA_TRY(file_write_all(&rf->file, SLOT_OFFSET + SLOT_BYTES * (next.sequence % 2), bytes,
                            sizeof bytes));
    SYNA_TRY(sync_or_fail(rf));
    checkpoint_made(rf, &next);
    return SYNA_SUCCESS;
}
