/* Column blocks: up to COLUMN_MAX consecutive numeric values of one key with their times, in one
 * frame. Bit-exact: NaN payloads, -0.0 and denormals included. Per block the shortest of these is taken:
 * doubles as decimal integers, as ordered bit patterns, or split into exponents and mantissas
 * (column_float.h); integers predicted, reduced and bit-packed or Rice-coded (column_int.h,
 * column_bits.h); raw. Pure: bytes in, bytes out. */
#ifndef SYNA_STORE_COLUMN_H
#define SYNA_STORE_COLUMN_H

#include "base/status.h"
#include "base/vec.h"

#define COLUMN_MAX 1024u
/* Fewer values than this are better off as plain frames. */
#define COLUMN_MIN 8u

/* What the head of a block says without decoding it (fixed layout, FORMATS.md). */
struct column_info {
    int32_t type; /* SYNA_TYPE_FLOAT or SYNA_TYPE_INT */
    uint32_t count;
    uint64_t last_bits;             /* the last value's 64 bits */
    uint64_t first_stamp, last_stamp;
    bool has_events; /* some value has an event time other than its stamp */
};

/* Encode 1..COLUMN_MAX values. bits: the values' 64-bit patterns. stamps: non-decreasing, or NULL when
 * all are the stamp that the frame will get. events: NULL, or per value the event time (0 = same as
 * its stamp). false = no memory. */
bool column_encode(int32_t type, const uint64_t *bits, const uint64_t *stamps,
                   const uint64_t *events, size_t count, struct buf *to);

/* A block as it lies in a frame. path and offset are for messages. */
struct column_source {
    const uint8_t *block;
    size_t len;
    uint64_t frame_stamp;
    const char *path;
    uint64_t offset;
};

syna_rc column_peek(const struct column_source *from, struct column_info *out);

/* Decode all values: bits, stamps and events may each be NULL; each has room for info.count. Never
 * reads out of bounds; a block whose parts do not add up is CORRUPT. */
syna_rc column_decode(const struct column_source *from, uint64_t *bits, uint64_t *stamps,
                      uint64_t *events);

#endif
