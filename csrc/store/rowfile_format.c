/* rowfile_format.c - slots and records of a row file as bytes. Pure: no file, no memory of its own.
 *
 * A slot is written as two equal copies. A crash may tear both, and then the slot before it counts; a
 * single flipped bit can only spoil one of them, and loses no checkpoint. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "store/rowfile_format.h"

/* ---------------------------------------------------------------- slots */

static uint32_t slot_checksum(const uint8_t *copy, const uint8_t uuid[16])
{
    return crc32c(crc32c(0, uuid, 16), copy, SLOT_AT_CRC);
}

void slot_encode(const struct row_slot *slot, const uint8_t uuid[16], uint8_t out[SLOT_BYTES])
{
    memset(out, 0, SLOT_BYTES);
    store_u64(out + SLOT_AT_SEQUENCE, slot->sequence);
    store_u64(out + SLOT_AT_ROWS, slot->rows);
    store_u64(out + SLOT_AT_RECORD_BYTES, slot->record_bytes);
    store_u64(out + SLOT_AT_RECORD_SEQUENCE, slot->record_sequence);
    store_u32(out + SLOT_AT_ROW_BYTES, slot->row_bytes);
    store_u32(out + SLOT_AT_COMPONENT, slot->component);
    for (size_t i = 0; i < STREAMS; i++)
        store_u32(out + SLOT_AT_TAILS + 4 * i, slot->tails[i]);
    store_u32(out + SLOT_AT_SEGMENTS, slot->segment_count);
    store_u32(out + SLOT_AT_CONFIG_LEN, slot->config_len);
    memcpy(out + SLOT_AT_CONFIG, slot->config, slot->config_len);
    for (uint32_t i = 0; i < slot->segment_count; i++) {
        uint8_t *entry = out + SLOT_AT_TABLE + SLOT_SEGMENT_BYTES * i;
        store_u32(entry, slot->segments[i].stream);
        store_u32(entry + 4, slot->segments[i].place);
        store_u32(entry + 8, slot->segments[i].units);
    }
    store_u32(out + SLOT_AT_CRC, slot_checksum(out, uuid));
    memcpy(out + SLOT_COPY_BYTES, out, SLOT_COPY_BYTES);
}

bool slot_decode(const uint8_t copy[SLOT_COPY_BYTES], const uint8_t uuid[16], struct row_slot *out)
{
    uint32_t segments = load_u32(copy + SLOT_AT_SEGMENTS);
    uint32_t config_len = load_u32(copy + SLOT_AT_CONFIG_LEN);
    if (load_u32(copy + SLOT_AT_CRC) != slot_checksum(copy, uuid) ||
        segments > ROWFILE_SEGMENTS_MAX || config_len > ROWFILE_CONFIG_MAX)
        return false;
    memset(out, 0, sizeof *out);
    out->sequence = load_u64(copy + SLOT_AT_SEQUENCE);
    out->rows = load_u64(copy + SLOT_AT_ROWS);
    out->record_bytes = load_u64(copy + SLOT_AT_RECORD_BYTES);
    out->record_sequence = load_u64(copy + SLOT_AT_RECORD_SEQUENCE);
    out->row_bytes = load_u32(copy + SLOT_AT_ROW_BYTES);
    out->component = load_u32(copy + SLOT_AT_COMPONENT);
    for (size_t i = 0; i < STREAMS; i++)
        out->tails[i] = load_u32(copy + SLOT_AT_TAILS + 4 * i);
    out->config_len = config_len;
    memcpy(out->config, copy + SLOT_AT_CONFIG, config_len);
    out->segment_count = segments;
    for (uint32_t i = 0; i < segments; i++) {
        const uint8_t *entry = copy + SLOT_AT_TABLE + SLOT_SEGMENT_BYTES * i;
        out->segments[i] =
            (struct row_segment){load_u32(entry), load_u32(entry + 4), load_u32(entry + 8)};
    }
    return true;
}

bool slot_newest(const uint8_t slots[2 * SLOT_BYTES], const uint8_t uuid[16], struct row_slot *out)
{
    struct row_slot copy;
    bool found = false;
    for (size_t at = 0; at < 2 * SLOT_BYTES; at += SLOT_COPY_BYTES) {
        if (!slot_decode(slots + at, uuid, &copy) || copy.sequence == 0)
            continue;
        if (copy.sequence % 2 != at / SLOT_BYTES)
            continue;
        if (!found || copy.sequence > out->sequence)
            *out = copy;
        found = true;
    }
    return found;
}

static syna_rc unsound(const char *path, const char *what, uint64_t found, uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, SLOT_OFFSET, 0,
                        "header slot: %s %llu, expected %llu", what, (unsigned long long)found,
                        (unsigned long long)expected);
}

static syna_rc judge_segments(const struct row_slot *slot, uint64_t file_size, const char *path,
                              uint64_t room[STREAMS])
{
    uint64_t end = ROWFILE_BLOCK;
    for (uint32_t i = 0; i < slot->segment_count; i++) {
        const struct row_segment *s = &slot->segments[i];
        if (s->stream >= STREAMS)
            return unsound(path, "a segment of stream", s->stream, STREAM_RECORDS);
        if (s->units < 2 || segment_offset(s) < end)
            return unsound(path, "a segment at", segment_offset(s), end);
        end = segment_end(s);
        if (end > file_size)
            return unsound(path, "a file of bytes", file_size, end);
        room[s->stream] += (uint64_t)segment_blocks(s->units) * ROWFILE_BLOCK;
    }
    return SYNA_SUCCESS;
}

syna_rc slot_judge(const struct row_slot *slot, uint64_t file_size, const char *path)
{
    uint64_t room[STREAMS] = {0, 0};
    if (slot->row_bytes == 0 || slot->row_bytes % 4 || slot->row_bytes > ROWFILE_ROW_MAX)
        return unsound(path, "bytes in a row", slot->row_bytes, 64);
    if (slot->rows > ROWFILE_ROWS_MAX)
        return unsound(path, "rows", slot->rows, ROWFILE_ROWS_MAX);
    SYNA_TRY(judge_segments(slot, file_size, path, room));
    for (int i = 0; i < STREAMS; i++)
        if (slot_stream_bytes(slot, (enum row_stream_kind)i) > room[i])
            return unsound(path, i == STREAM_ROWS ? "bytes of rows" : "bytes of records",
                           slot_stream_bytes(slot, (enum row_stream_kind)i), room[i]);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- records */

void record_encode(const struct row_record *r, uint8_t *out)
{
    size_t used = RECORD_HEAD_BYTES + (size_t)r->key_len + r->meta_len;
    store_u64(out + RECORD_AT_SEQUENCE, r->sequence);
    store_u32(out + RECORD_AT_ROW, r->row);
    store_u32(out + RECORD_AT_REPLACES, r->replaces);
    store_u32(out + RECORD_AT_WORD, r->word);
    store_u32(out + RECORD_AT_META_LEN, r->meta_len);
    store_u16(out + RECORD_AT_KEY_LEN, r->key_len);
    store_u16(out + RECORD_AT_KIND, r->kind);
    memcpy(out + RECORD_HEAD_BYTES, r->key, r->key_len);
    if (r->meta_len)
        memcpy(out + RECORD_HEAD_BYTES + r->key_len, r->meta, r->meta_len);
    memset(out + used, 0, (size_t)record_bytes(r->key_len, r->meta_len) - used);
}

uint64_t record_decode(const uint8_t *bytes, uint64_t avail, struct row_record *out)
{
    if (avail < RECORD_HEAD_BYTES)
        return 0;
    out->sequence = load_u64(bytes + RECORD_AT_SEQUENCE);
    out->row = load_u32(bytes + RECORD_AT_ROW);
    out->replaces = load_u32(bytes + RECORD_AT_REPLACES);
    out->word = load_u32(bytes + RECORD_AT_WORD);
    out->meta_len = load_u32(bytes + RECORD_AT_META_LEN);
    out->key_len = load_u16(bytes + RECORD_AT_KEY_LEN);
    out->kind = load_u16(bytes + RECORD_AT_KIND);
    out->key = bytes + RECORD_HEAD_BYTES;
    out->meta = out->key + out->key_len;
    uint64_t len = record_bytes(out->key_len, out->meta_len);
    bool row = out->kind == RECORD_ROW && out->row != ROWFILE_NONE;
    bool deletion = out->kind == RECORD_DELETION && out->row == ROWFILE_NONE &&
                    out->replaces != ROWFILE_NONE;
    return len <= avail && out->key_len > 0 && out->sequence > 0 && (row || deletion) ? len : 0;
}
