/* One record of a log: encode, decode, validate. Bytes in, bytes out; no I/O, no clock. */
#ifndef SYNA_STORE_FRAME_H
#define SYNA_STORE_FRAME_H

#include "base/status.h"
#include "base/vec.h"
#include "store/format.h"
#include <synadb/kv.h>

/* The header block, decoded. */
struct header {
    uint16_t major, minor;
    uint32_t kind;
    uint8_t uuid[16];
    uint64_t generation;
    uint64_t incompatible, read_only, compatible;
    uint64_t created_us;
};

void header_encode(const struct header *h, uint8_t out[HEADER_BYTES]);
/* Fails with WRONG_KIND (no magic, or another kind than `kind`), NEWER_FORMAT (major, or an unknown
 * incompatible bit) or CORRUPT (checksum); `path` is for the message. */
syna_rc header_decode(const uint8_t *bytes, size_t len, uint32_t kind, const char *path,
                      struct header *out);

/* A frame as it lies in memory; pointers borrow the bytes it was parsed from. */
struct frame {
    uint64_t offset; /* in the file */
    uint64_t stamp;
    const uint8_t *key;
    const uint8_t *value; /* value field without its CRC */
    uint32_t value_len;
    uint16_t key_len;
    uint8_t flags;
    uint32_t crc;
    uint64_t len; /* of the whole frame; the next one starts at offset + len */
};

/* PAD frames: the data of the CHUNK frame that follows one at `end` is aligned to `align`, a power of
 * two. frame_pad_length says how long it must be, 0 = none is needed, never over FRAME_PAD_MAX(align);
 * frame_pad makes it at `p`, unsealed. */
#define FRAME_PAD_LEAST (FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES)
#define FRAME_PAD_MAX(align) ((align) + FRAME_PAD_LEAST)
size_t frame_pad_length(uint64_t end, uint32_t align);
void frame_pad(uint8_t *p, size_t len);

/* The encoded frame that `f` was parsed from. */
static inline const uint8_t *frame_start(const struct frame *f)
{
    return f->key - FRAME_HEADER_BYTES;
}

/* A CHUNK frame whose data stand elsewhere: frame_chunk makes what goes before them; once the place is
 * known frame_chunk_seal completes that and returns the checksum that goes behind them. `crc` is
 * crc32c(0, data, len). */
#define FRAME_CHUNK_FRONT (FRAME_HEADER_BYTES + 1)
void frame_chunk(uint8_t front[FRAME_CHUNK_FRONT], uint32_t len);
uint32_t frame_chunk_seal(uint8_t front[FRAME_CHUNK_FRONT], uint64_t offset, uint64_t stamp,
                          uint8_t more_flags, uint32_t seed, uint32_t len, uint32_t crc);
/* Is that a valid frame: this front, data of `len` bytes and this checksum, `sum` behind them? */
bool frame_chunk_matches(const uint8_t front[FRAME_CHUNK_FRONT], uint64_t offset, uint32_t seed,
                         uint32_t len, uint32_t crc, uint32_t sum);

enum frame_state {
    FRAME_GOOD,
    FRAME_SHORT, /* plausible so far, but the bytes end inside it */
    FRAME_ZERO,  /* nothing but zeros in [bytes, bytes+avail): end of the log, not damage */
    FRAME_BAD,
};

/* The CRC state all frames of a file start from. */
uint32_t frame_seed(const uint8_t uuid[16]);

/* Parse and check the frame that starts at `bytes` (avail bytes are readable) and stands at
 * `offset` of the file. FRAME_GOOD means: structure, flags and CRC are right. */
enum frame_state frame_parse(const uint8_t *bytes, uint64_t avail, uint64_t offset, uint32_t seed,
                             struct frame *out);

/* The same without the checksum, for bytes already checked on this open. */
void frame_view(const uint8_t *bytes, uint64_t offset, struct frame *out);

/* Append a frame to `to` with stamp, COMMIT, PRIOR_DURABLE and CRC left open; they are filled by
 * frame_seal when its place is known. false = no memory. */
bool frame_append(struct buf *to, const void *key, size_t key_len, uint8_t flags, const void *value,
                  size_t value_len);

/* The same in two steps, for a value field that is encoded in place: frame_begin leaves room for the
 * header and copies the key; the value field is then appended to `to`; frame_finish adds the room
 * for the CRC and fills in lengths and flags of the frame that began at `start`. */
static inline bool frame_begin(struct buf *to, const void *key, size_t key_len, size_t *start)
{
    *start = to->len;
    uint8_t *p = buf_extend(to, FRAME_HEADER_BYTES + key_len);
    if (!p)
        return false;
    store_u16(p + FRAME_AT_KEY_LEN, (uint16_t)key_len);
    if (key_len)
        memcpy(p + FRAME_HEADER_BYTES, key, key_len);
    return true;
}
static inline bool frame_finish(struct buf *to, size_t start, uint8_t flags)
{
    if (!buf_extend(to, FRAME_CRC_BYTES))
        return false;
    uint8_t *p = to->bytes + start;
    size_t head = FRAME_HEADER_BYTES + (size_t)load_u16(p + FRAME_AT_KEY_LEN);
    store_u32(p + FRAME_AT_VAL_LEN, (uint32_t)(to->len - start - head));
    p[FRAME_AT_FLAGS] = flags;
    return true;
}

/* Fill in what depends on the place: stamp, extra flags, CRC. `bytes` is one whole frame. Returns
 * its CRC; its length is frame_length(bytes). */
uint32_t frame_seal(uint8_t *bytes, uint64_t offset, uint64_t stamp, uint8_t more_flags,
                    uint32_t seed);
static inline uint64_t frame_length(const uint8_t *bytes)
{
    return (uint64_t)FRAME_HEADER_BYTES + load_u16(bytes + FRAME_AT_KEY_LEN) +
           load_u32(bytes + FRAME_AT_VAL_LEN);
}

/* A frame of the ancestor's format: no checksum; the value field is atom alone. FRAME_GOOD when
 * plausible by API rules (flags < 8, key_len 1..65534, UTF-8 key, tag 0..5 or LZ4). */
enum frame_state frame_parse_legacy(const uint8_t *bytes, uint64_t avail, uint64_t offset,
                                    struct frame *out);

#endif
