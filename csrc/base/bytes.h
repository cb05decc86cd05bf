/* Little-endian loads and stores, and bounds-checked cursors over byte ranges. */
#ifndef SYNA_BASE_BYTES_H
#define SYNA_BASE_BYTES_H

#include "base/internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the formats are little-endian and so are the machines this library runs on"
#endif

static inline uint16_t load_u16(const void *p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint32_t load_u32(const void *p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint64_t load_u64(const void *p) { uint64_t v; memcpy(&v, p, sizeof v); return v; }
static inline double load_f64(const void *p) { double v; memcpy(&v, p, sizeof v); return v; }
static inline void store_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void store_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void store_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }
static inline void store_f64(void *p, double v) { memcpy(p, &v, sizeof v); }

/* The first byte that is not zero; len when all are zero. Eight at a time. */
static inline size_t nonzero_start(const uint8_t *p, size_t len)
{
    size_t at = 0;
    while (len - at >= 8 && load_u64(p + at) == 0)
        at += 8;
    while (at < len && p[at] == 0)
        at++;
    return at;
}

/* Where the bytes that are not zero end: 0 when all are zero. Eight at a time. */
static inline size_t nonzero_end(const uint8_t *p, size_t len)
{
    while (len >= 8 && load_u64(p + len - 8) == 0)
        len -= 8;
    while (len > 0 && p[len - 1] == 0)
        len--;
    return len;
}

/* LEB128. `p` needs room for 10 bytes; returns the bytes written. */
static inline size_t varint_put(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

/* Bytes read from [p, end), 0 when they end inside the number or it exceeds 64 bits. */
static inline size_t varint_get(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned n = 0; n < 10 && p + n < end; n++) {
        uint64_t bits = p[n] & 0x7f;
        if (n == 9 && bits > 1)
            return 0;
        v |= bits << (7 * n);
        if (!(p[n] & 0x80)) {
            *out = v;
            return n + 1;
        }
    }
    return 0;
}

/* A reader over [at, end). A read past the end gives zeros and sets `short_read`, so a parser can
 * read a whole structure and check once. */
struct reader {
    const uint8_t *at, *end;
    bool short_read;
};

static inline struct reader reader_of(const void *bytes, size_t len)
{
    struct reader r = {bytes, (const uint8_t *)bytes + len, false};
    return r;
}
static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->at); }
static inline const uint8_t *reader_take(struct reader *r, size_t len)
{
    if (reader_left(r) < len) {
        r->short_read = true;
        r->at = r->end;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += len;
    return p;
}
static inline uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p ? *p : 0;
}
static inline uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p ? load_u16(p) : 0;
}
static inline uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p ? load_u32(p) : 0;
}
static inline uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p ? load_u64(p) : 0;
}

#endif
