/* The byte layout of a log, shared by its readers and writers. FORMATS.md says the same in words,
 * with a hex dump of a real file. All integers are little-endian. */
#ifndef SYNA_STORE_FORMAT_H
#define SYNA_STORE_FORMAT_H

#include "base/bytes.h"

/* ---- header block: the first 128 bytes of every file of ours */
#define HEADER_BYTES 128u
#define HEADER_MAGIC "\x89SYNADB\n\xff\xff\xff\xff\xff\xff\xff\x1a" /* 16 bytes: as a header of the
      ancestor it would be a key of 65,535 bytes with impossible flags */
#define HEADER_MAGIC_BYTES 16u
#define FORMAT_MAJOR 1u
#define FORMAT_MINOR 0u
enum file_kind { KIND_LOG = 1, KIND_ROWS = 2, KIND_SNAPSHOT = 3 };
enum header_at {
    HEADER_AT_MAJOR = 16,        /* u16 */
    HEADER_AT_MINOR = 18,        /* u16 */
    HEADER_AT_KIND = 20,         /* u32, enum file_kind */
    HEADER_AT_UUID = 24,         /* 16 bytes: the identity of the store, kept by compaction */
    HEADER_AT_GENERATION = 40,   /* u64: 1 when new, +1 at every compaction */
    HEADER_AT_INCOMPATIBLE = 48, /* u64: an unknown bit = refuse to open */
    HEADER_AT_READ_ONLY = 56,    /* u64: an unknown bit = open read-only */
    HEADER_AT_COMPATIBLE = 64,   /* u64: an unknown bit = ignore */
    HEADER_AT_CREATED = 72,      /* u64, microseconds since 1970 */
    HEADER_AT_RESERVED = 80,     /* 44 bytes, zero */
    HEADER_AT_CRC = 124,         /* u32, CRC32C of bytes 0..123 */
};

/* ---- frame: 15-byte header, key, value field. The value field ends in a CRC32C over uuid, file
 * offset (u64), header, key and value field without the CRC; val_len counts it. */
#define FRAME_HEADER_BYTES 15u
#define FRAME_CRC_BYTES 4u
#define FRAME_VAL_LEN_MAX 0x40000400u /* SYNA_VALUE_MAX with room for fields, atom head and CRC */
enum frame_at {
    FRAME_AT_STAMP = 0,    /* u64, microseconds since 1970; never decreases along the file */
    FRAME_AT_KEY_LEN = 8,  /* u16, 0 = engine frame */
    FRAME_AT_VAL_LEN = 10, /* u32, CRC included */
    FRAME_AT_FLAGS = 14,   /* u8 */
};
enum frame_flags {
    FRAME_DELTA = 0x01,         /* the ancestor's lossy delta; read in old files, never written */
    FRAME_LZ4 = 0x02,           /* atom = u32 plain length + one LZ4 block */
    FRAME_TOMBSTONE = 0x04,     /* the key is deleted; the atom is Null */
    FRAME_EXT = 0x08,           /* extension fields stand before the atom */
    FRAME_BLOCK = 0x10,         /* the value is a column block (column.h) */
    FRAME_RESERVED = 0x20,      /* must be 0 */
    FRAME_COMMIT = 0x40,        /* last frame of a commit */
    FRAME_PRIOR_DURABLE = 0x80, /* everything before this frame had been synced */
};

/* ---- extension fields: u8 total length of what follows, then (u8 tag, u8 length, bytes)... Unknown
 * tags are skipped. They are never compressed. */
enum ext_tag {
    EXT_EXPIRES = 1, /* u64, microseconds since 1970 */
    EXT_EVENT = 2,   /* u64: the time given by the caller, when the stamp had to differ from it */
    EXT_TYPE = 3,    /* u8: a type >= 6 whose content is carried by a Bytes atom */
};

/* ---- atoms: bincode 1; u32 tag, then the body */
enum atom_tag {
    ATOM_NULL = 0,
    ATOM_FLOAT = 1,  /* f64 */
    ATOM_INT = 2,    /* i64 */
    ATOM_TEXT = 3,   /* u64 length, UTF-8 */
    ATOM_BYTES = 4,  /* u64 length, bytes */
    ATOM_VECTOR = 5, /* u64 count, f32..., u16 dimensions (= count) */
};

/* ---- engine frames: key_len 0; the first byte of the value field is one of these */
enum engine_frame {
    ENGINE_CLOSE = 1, /* clean close; the last frame of the file */
    ENGINE_PAD = 2,   /* fills space so that what follows is aligned; zeros */
    ENGINE_MARK = 3,  /* written by flush after a sync, to carry PRIOR_DURABLE */
    ENGINE_CHUNK = 4, /* a piece of a blob: u8 kind, then at most BLOB_CHUNK_BYTES raw bytes */
};

/* ---- blob manifest: what a frame of type SYNA_TYPE_BLOB holds: u64 total size, u32 chunk count,
 * then per chunk u64 offset of its frame and u32 raw length. */
#define BLOB_CHUNK_BYTES (4u << 20)

#endif
