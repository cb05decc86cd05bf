/* One record of a log: the header block, frames, and the ancestor's frames. Pure: bytes in, bytes
 * out, no I/O, no clock.
 *
 *   1. Every length comes from the file: sums are made in 64 bits and compared with the bytes that
 *      remain before anything behind them is read.
 *   2. A frame is GOOD only when its checksum is; the checksum takes in the file's uuid and the
 *      frame's offset, so a frame copied from elsewhere is not one of this file.
 *   3. Zeros never validate: a frame has at least 4 value bytes, and an engine frame a kind above
 * 0.
 *
 * What a value field means is value.c's business, except in the ancestor's format: there, without a
 * checksum, a consistent atom is the only sign that a frame is one. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/utf8.h"
#include "store/frame.h"

#define LEGACY_VALUE_LIMIT 1000000000u
#define LEGACY_KEY_LIMIT 65535u

/* ---- header block */

void header_encode(const struct header *h, uint8_t out[HEADER_BYTES])
{
    memset(out, 0, HEADER_BYTES);
    memcpy(out, HEADER_MAGIC, HEADER_MAGIC_BYTES);
    store_u16(out + HEADER_AT_MAJOR, h->major);
    store_u16(out + HEADER_AT_MINOR, h->minor);
    store_u32(out + HEADER_AT_KIND, h->kind);
    memcpy(out + HEADER_AT_UUID, h->uuid, sizeof h->uuid);
    store_u64(out + HEADER_AT_GENERATION, h->generation);
    store_u64(out + HEADER_AT_INCOMPATIBLE, h->incompatible);
    store_u64(out + HEADER_AT_READ_ONLY, h->read_only);
    store_u64(out + HEADER_AT_COMPATIBLE, h->compatible);
    store_u64(out + HEADER_AT_CREATED, h->created_us);
    store_u32(out + HEADER_AT_CRC, crc32c(0, out, HEADER_AT_CRC));
}

static void header_load(const uint8_t *bytes, struct header *out)
{
    out->major = load_u16(bytes + HEADER_AT_MAJOR);
    out->minor = load_u16(bytes + HEADER_AT_MINOR);
    out->kind = load_u32(bytes + HEADER_AT_KIND);
    memcpy(out->uuid, bytes + HEADER_AT_UUID, sizeof out->uuid);
    out->generation = load_u64(bytes + HEADER_AT_GENERATION);
    out->incompatible = load_u64(bytes + HEADER_AT_INCOMPATIBLE);
    out->read_only = load_u64(bytes + HEADER_AT_READ_ONLY);
    out->compatible = load_u64(bytes + HEADER_AT_COMPATIBLE);
    out->created_us = load_u64(bytes + HEADER_AT_CREATED);
}

static const char *kind_name(uint32_t kind)
{
    switch (kind) {
    case KIND_LOG:
        return "log";
    case KIND_ROWS:
        return "row file";
    case KIND_SNAPSHOT:
        return "snapshot";
    default:
        return "unknown";
    }
}

/* Is this a file that this release can make sense of? The checksum is good already. */
static syna_rc header_judge(const struct header *h, uint32_t kind, const char *path)
{
    if (h->major > FORMAT_MAJOR)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_NEWER_FORMAT, path, HEADER_AT_MAJOR, 0,
                            "format %u.%u, this release reads up to %u.%u", h->major, h->minor,
                            FORMAT_MAJOR, FORMAT_MINOR);
    if (h->major == 0)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, HEADER_AT_MAJOR, 0,
                            "format 0.%u, expected 1.0 or more", h->minor);
    if (h->incompatible != 0) /* no such feature exists yet, so any bit is unknown */
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_NEWER_FORMAT, path,
                            HEADER_AT_INCOMPATIBLE, 0,
                            "needs features 0x%llx, this release knows none of them",
                            (unsigned long long)h->incompatible);
    if (h->kind != kind)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, path, HEADER_AT_KIND, 0,
                            "a file of kind %u (%s), expected %u (%s)", h->kind, kind_name(h->kind),
                            kind, kind_name(kind));
    return SYNA_SUCCESS;
}

syna_rc header_decode(const uint8_t *bytes, size_t len, uint32_t kind, const char *path,
                      struct header *out)
{
    if (len < HEADER_MAGIC_BYTES || memcmp(bytes, HEADER_MAGIC, HEADER_MAGIC_BYTES) != 0)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, path, 0, 0,
                            "no SynaDB file: it does not begin with the magic bytes");
    if (len < HEADER_BYTES)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, 0, 0,
                            "header block of %zu bytes, expected %u", len, HEADER_BYTES);
    /* The place of the checksum and what it covers are the same in every version, so that damage to
     * the version number is not taken for a newer release. */
    uint32_t found = load_u32(bytes + HEADER_AT_CRC);
    uint32_t expected = crc32c(0, bytes, HEADER_AT_CRC);
    if (found != expected)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, HEADER_AT_CRC, 0,
                            "header block: checksum %08x, expected %08x", found, expected);
    struct header h;
    header_load(bytes, &h);
    SYNA_TRY(header_judge(&h, kind, path));
    *out = h;
    return SYNA_SUCCESS;
}

/* ---- frames */

uint32_t frame_seed(const uint8_t uuid[16])
{
    return crc32c(0, uuid, 16);
}

static uint32_t frame_checksum(const uint8_t *bytes, size_t covered, uint64_t offset, uint32_t seed)
{
    uint8_t place[8];
    store_u64(place, offset);
    return crc32c(crc32c(seed, place, sizeof place), bytes, covered);
}

static bool all_zero(const uint8_t *bytes, uint64_t len)
{
    /* Bytes equal to their predecessor, the first of them 0: memcmp runs at memory speed. */
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, (size_t)len - 1) == 0);
}

/* A header that the bytes end inside of: can what is there begin a frame? */
static enum frame_state parse_stump(const uint8_t *bytes, uint64_t avail)
{
    if (all_zero(bytes, avail))
        return FRAME_ZERO;
    if (avail >= FRAME_AT_VAL_LEN && load_u16(bytes + FRAME_AT_KEY_LEN) > SYNA_KEY_MAX)
        return FRAME_BAD;
    if (avail >= FRAME_AT_FLAGS && (load_u32(bytes + FRAME_AT_VAL_LEN) < FRAME_CRC_BYTES ||
                                    load_u32(bytes + FRAME_AT_VAL_LEN) > FRAME_VAL_LEN_MAX))
        return FRAME_BAD;
    return FRAME_SHORT;
}

/* Lengths and flags that a frame can have. */
static bool plausible(uint32_t key_len, uint32_t val_len, uint8_t flags)
{
    uint32_t least = key_len == 0 ? FRAME_CRC_BYTES + 1 : FRAME_CRC_BYTES;
    return key_len <= SYNA_KEY_MAX && val_len >= least && val_len <= FRAME_VAL_LEN_MAX &&
           !(flags & (FRAME_DELTA | FRAME_RESERVED));
}

size_t frame_pad_length(uint64_t end, uint32_t align)
{
    uint64_t data = end + FRAME_HEADER_BYTES + 1;
    size_t pad = (size_t)(-data & (align - 1));
    while (pad != 0 && pad < FRAME_PAD_LEAST)
        pad += align;
    return pad;
}

void frame_pad(uint8_t *p, size_t len)
{
    if (len == 0)
        return;
    memset(p, 0, len);
    store_u32(p + FRAME_AT_VAL_LEN, (uint32_t)(len - FRAME_HEADER_BYTES));
    p[FRAME_HEADER_BYTES] = ENGINE_PAD;
}

enum frame_state frame_parse(const uint8_t *bytes, uint64_t avail, uint64_t offset, uint32_t seed,
                             struct frame *out)
{
    if (UNLIKELY(avail < FRAME_HEADER_BYTES))
        return parse_stump(bytes, avail);
    uint32_t key_len = load_u16(bytes + FRAME_AT_KEY_LEN);
    uint32_t val_len = load_u32(bytes + FRAME_AT_VAL_LEN);
    uint8_t flags = bytes[FRAME_AT_FLAGS];
    if (UNLIKELY(!plausible(key_len, val_len, flags)))
        return all_zero(bytes, FRAME_HEADER_BYTES) && all_zero(bytes, avail) ? FRAME_ZERO
                                                                             : FRAME_BAD;
    uint64_t len = (uint64_t)FRAME_HEADER_BYTES + key_len + val_len;
    if (UNLIKELY(key_len == 0 && avail > FRAME_HEADER_BYTES && bytes[FRAME_HEADER_BYTES] == 0))
        return FRAME_BAD;
    if (UNLIKELY(len > avail))
        return FRAME_SHORT;
    size_t covered = (size_t)len - FRAME_CRC_BYTES;
    uint32_t crc = load_u32(bytes + covered);
    if (UNLIKELY(crc != frame_checksum(bytes, covered, offset, seed)))
        return FRAME_BAD;
    frame_view(bytes, offset, out);
    return FRAME_GOOD;
}

void frame_view(const uint8_t *bytes, uint64_t offset, struct frame *out)
{
    uint16_t key_len = load_u16(bytes + FRAME_AT_KEY_LEN);
    uint32_t val_len = load_u32(bytes + FRAME_AT_VAL_LEN);
    out->offset = offset;
    out->stamp = load_u64(bytes + FRAME_AT_STAMP);
    out->key = bytes + FRAME_HEADER_BYTES;
    out->value = out->key + key_len;
    out->value_len = val_len - FRAME_CRC_BYTES;
    out->key_len = key_len;
    out->flags = bytes[FRAME_AT_FLAGS];
    out->crc = load_u32(out->value + out->value_len);
    out->len = (uint64_t)FRAME_HEADER_BYTES + key_len + val_len;
}

bool frame_append(struct buf *to, const void *key, size_t key_len, uint8_t flags, const void *value,
                  size_t value_len)
{
    assert(key_len <= SYNA_KEY_MAX && value_len <= FRAME_VAL_LEN_MAX - FRAME_CRC_BYTES);
    uint8_t *p = buf_extend(to, FRAME_HEADER_BYTES + key_len + value_len + FRAME_CRC_BYTES);
    if (!p)
        return false;
    store_u64(p + FRAME_AT_STAMP, 0);
    store_u16(p + FRAME_AT_KEY_LEN, (uint16_t)key_len);
    store_u32(p + FRAME_AT_VAL_LEN, (uint32_t)(value_len + FRAME_CRC_BYTES));
    p[FRAME_AT_FLAGS] = flags;
    p += FRAME_HEADER_BYTES;
    if (key_len)
        memcpy(p, key, key_len);
    if (value_len)
        memcpy(p + key_len, value, value_len);
    store_u32(p + key_len + value_len, 0);
    return true;
}

uint32_t frame_seal(uint8_t *bytes, uint64_t offset, uint64_t stamp, uint8_t more_flags,
                    uint32_t seed)
{
    store_u64(bytes + FRAME_AT_STAMP, stamp);
    bytes[FRAME_AT_FLAGS] |= more_flags;
    size_t covered = (size_t)frame_length(bytes) - FRAME_CRC_BYTES;
    uint32_t crc = frame_checksum(bytes, covered, offset, seed);
    store_u32(bytes + covered, crc);
    return crc;
}

/* ---- chunks */

void frame_chunk(uint8_t front[FRAME_CHUNK_FRONT], uint32_t len)
{
    memset(front, 0, FRAME_CHUNK_FRONT);
    store_u32(front + FRAME_AT_VAL_LEN, len + 1 + FRAME_CRC_BYTES);
    front[FRAME_HEADER_BYTES] = ENGINE_CHUNK;
}

uint32_t frame_chunk_seal(uint8_t front[FRAME_CHUNK_FRONT], uint64_t offset, uint64_t stamp,
                          uint8_t more_flags, uint32_t seed, uint32_t len, uint32_t crc)
{
    store_u64(front + FRAME_AT_STAMP, stamp);
    front[FRAME_AT_FLAGS] |= more_flags;
    return crc32c_join(frame_checksum(front, FRAME_CHUNK_FRONT, offset, seed), crc, len);
}

bool frame_chunk_matches(const uint8_t front[FRAME_CHUNK_FRONT], uint64_t offset, uint32_t seed,
                         uint32_t len, uint32_t crc, uint32_t sum)
{
    return load_u16(front + FRAME_AT_KEY_LEN) == 0 &&
           load_u32(front + FRAME_AT_VAL_LEN) == len + 1 + FRAME_CRC_BYTES &&
           front[FRAME_HEADER_BYTES] == ENGINE_CHUNK &&
           crc32c_join(frame_checksum(front, FRAME_CHUNK_FRONT, offset, seed), crc, len) == sum;
}

/* ---- frames of the ancestor */

/* Does an atom of exactly `len` bytes lie here? */
static bool legacy_atom(const uint8_t *atom, uint32_t len)
{
    if (len < 4)
        return false;
    switch (load_u32(atom)) {
    case ATOM_NULL:
        return len == 4;
    case ATOM_FLOAT:
    case ATOM_INT:
        return len == 12;
    case ATOM_TEXT:
    case ATOM_BYTES:
        return len >= 12 && load_u64(atom + 4) == len - 12u;
    case ATOM_VECTOR:
        return len >= 14 && load_u64(atom + 4) <= UINT16_MAX &&
               load_u64(atom + 4) == load_u16(atom + len - 2) &&
               4 * load_u64(atom + 4) == len - 14u;
    default:
        return false;
    }
}

enum frame_state frame_parse_legacy(const uint8_t *bytes, uint64_t avail, uint64_t offset,
                                    struct frame *out)
{
    if (avail < FRAME_HEADER_BYTES)
        return all_zero(bytes, avail) ? FRAME_ZERO : FRAME_SHORT;
    uint32_t key_len = load_u16(bytes + FRAME_AT_KEY_LEN);
    uint32_t val_len = load_u32(bytes + FRAME_AT_VAL_LEN);
    uint8_t flags = bytes[FRAME_AT_FLAGS];
    if (key_len == 0 || key_len == LEGACY_KEY_LIMIT || val_len < 4 ||
        val_len >= LEGACY_VALUE_LIMIT || (flags & ~(FRAME_DELTA | FRAME_LZ4 | FRAME_TOMBSTONE)))
        return all_zero(bytes, FRAME_HEADER_BYTES) && all_zero(bytes, avail) ? FRAME_ZERO
                                                                             : FRAME_BAD;
    uint64_t len = (uint64_t)FRAME_HEADER_BYTES + key_len + val_len;
    if (len > avail)
        return FRAME_SHORT;
    const uint8_t *key = bytes + FRAME_HEADER_BYTES;
    if (!utf8_valid(key, key_len) || (!(flags & FRAME_LZ4) && !legacy_atom(key + key_len, val_len)))
        return FRAME_BAD;
    *out = (struct frame){
        .offset = offset,
        .stamp = load_u64(bytes + FRAME_AT_STAMP),
        .key = key,
        .value = key + key_len,
        .value_len = val_len,
        .key_len = (uint16_t)key_len,
        .flags = flags,
        .crc = 0,
        .len = len,
    };
    return FRAME_GOOD;
}
