/* The byte layout of a row file, shared by its readers and writers. FORMATS.md says the same in words.
 * All integers are little-endian.
 *
 *      0  header block of format.h, kind 2; zeros to 4096
 *   4096  slot 0, two equal copies of 2048 bytes
 *   8192  slot 1, the same; zeros to 65536
 *  65536  segments: each begins at a multiple of 65536 and is a multiple of it long
 *
 * Between segments there may be gaps, which nobody reads. A segment holds blocks of one of the two
 * streams, rows or records, and behind its last block one CRC a block. A stream is the blocks of its
 * segments in the order of the table. */
#ifndef SYNA_STORE_ROWFILE_FORMAT_H
#define SYNA_STORE_ROWFILE_FORMAT_H

#include "base/status.h"
#include "store/format.h"

#define ROWFILE_BLOCK 65536u       /* bytes that one CRC covers; the unit of places in the file */
#define ROWFILE_HUGE (2u << 20)    /* a large page */
#define ROWFILE_ROW_MAX (1u << 20) /* bytes of a row */
#define ROWFILE_ROWS_MAX (1u << 31)
#define ROWFILE_CONFIG_MAX 256u
#define ROWFILE_SEGMENTS_MAX 144u
#define ROWFILE_NONE UINT32_MAX /* no row */

/* ---- slots: sequence n stands in slot n % 2 */
#define SLOT_OFFSET 4096u
#define SLOT_BYTES 4096u
#define SLOT_COPY_BYTES 2048u
enum slot_at {
    SLOT_AT_SEQUENCE = 0,         /* u64, 1 and up: one more at every checkpoint */
    SLOT_AT_ROWS = 8,             /* u64 */
    SLOT_AT_RECORD_BYTES = 16,    /* u64 */
    SLOT_AT_RECORD_SEQUENCE = 24, /* u64: of the last record */
    SLOT_AT_ROW_BYTES = 32,       /* u32, a multiple of 4 */
    SLOT_AT_COMPONENT = 36,       /* u32: four characters */
    SLOT_AT_TAILS = 40,           /* 2 x u32: CRC of the unfinished last block of rows, of records */
    SLOT_AT_SEGMENTS = 48,        /* u32 */
    SLOT_AT_CONFIG_LEN = 52,      /* u32 */
    SLOT_AT_CONFIG = 56,          /* 256 bytes, the component's own */
    SLOT_AT_TABLE = 312,          /* 12 bytes a segment: u32 stream, u32 place, u32 length (blocks) */
    SLOT_AT_CRC = 2044,           /* u32: CRC32C of uuid, then bytes 0..2043 */
};
#define SLOT_SEGMENT_BYTES 12u

enum row_stream_kind { STREAM_ROWS = 0, STREAM_RECORDS = 1, STREAMS = 2 };

struct row_segment {
    uint32_t stream;
    uint32_t place; /* where it begins in the file, in blocks */
    uint32_t units; /* its length in blocks, CRCs included */
};

/* A slot, decoded: everything that a checkpoint covers. */
struct row_slot {
    uint64_t sequence;
    uint64_t rows;
    uint64_t record_bytes;
    uint64_t record_sequence;
    uint32_t row_bytes;
    uint32_t component;
    uint32_t tails[STREAMS];
    uint32_t config_len;
    uint32_t segment_count;
    uint8_t config[ROWFILE_CONFIG_MAX];
    struct row_segment segments[ROWFILE_SEGMENTS_MAX];
};

/* One CRC for each 16,384 blocks takes a block of its own. */
#define SEGMENT_SUMS (ROWFILE_BLOCK / 4u)
static inline uint32_t segment_blocks(uint32_t units)
{
    return units - (uint32_t)(((uint64_t)units + SEGMENT_SUMS) / (SEGMENT_SUMS + 1u));
}
static inline uint64_t segment_units(uint64_t blocks)
{
    return blocks + (blocks + SEGMENT_SUMS - 1) / SEGMENT_SUMS;
}
static inline uint64_t segment_offset(const struct row_segment *s)
{
    return (uint64_t)s->place * ROWFILE_BLOCK;
}
static inline uint64_t segment_end(const struct row_segment *s)
{
    return ((uint64_t)s->place + s->units) * ROWFILE_BLOCK;
}
static inline uint64_t slot_stream_bytes(const struct row_slot *slot, enum row_stream_kind stream)
{
    return stream == STREAM_ROWS ? slot->rows * slot->row_bytes : slot->record_bytes;
}

/* Both copies, ready to be written at SLOT_OFFSET + SLOT_BYTES * (sequence % 2). */
void slot_encode(const struct row_slot *slot, const uint8_t uuid[16], uint8_t out[SLOT_BYTES]);
/* One copy: false when its checksum is wrong. */
bool slot_decode(const uint8_t copy[SLOT_COPY_BYTES], const uint8_t uuid[16], struct row_slot *out);
/* The newest good copy of the two slots; false when there is none. */
bool slot_newest(const uint8_t slots[2 * SLOT_BYTES], const uint8_t uuid[16], struct row_slot *out);
/* Can a file of this size be what the slot says? Its checksum is good already. */
syna_rc slot_judge(const struct row_slot *slot, uint64_t file_size, const char *path);

/* ---- records: 28 bytes, key, metadata, zeros to a multiple of 4 */
#define RECORD_HEAD_BYTES 28u
enum record_at {
    RECORD_AT_SEQUENCE = 0,  /* u64, more than that of the record before */
    RECORD_AT_ROW = 8,       /* u32: the row that the key has now; of a deletion NONE */
    RECORD_AT_REPLACES = 12, /* u32: the row that it had before; NONE = it had none */
    RECORD_AT_WORD = 16,     /* u32, the component's own */
    RECORD_AT_META_LEN = 20, /* u32 */
    RECORD_AT_KEY_LEN = 24,  /* u16 */
    RECORD_AT_KIND = 26,     /* u16, enum record_kind */
};
enum record_kind { RECORD_ROW = 1, RECORD_DELETION = 2 };

struct row_record {
    uint64_t sequence;
    uint32_t row, replaces, word;
    uint32_t meta_len;
    uint16_t key_len;
    uint16_t kind;
    const uint8_t *key; /* borrowed */
    const uint8_t *meta;
};

static inline uint64_t record_bytes(size_t key_len, size_t meta_len)
{
    return (RECORD_HEAD_BYTES + (uint64_t)key_len + meta_len + 3) & ~(uint64_t)3;
}
static inline const uint8_t *record_key(const uint8_t *record, size_t *len)
{
    *len = load_u16(record + RECORD_AT_KEY_LEN);
    return record + RECORD_HEAD_BYTES;
}

/* Write record_bytes(r->key_len, r->meta_len) bytes. */
void record_encode(const struct row_record *r, uint8_t *out);
/* The record that begins at `bytes`; its length, or 0 when its structure is wrong. */
uint64_t record_decode(const uint8_t *bytes, uint64_t avail, struct row_record *out);

#endif
