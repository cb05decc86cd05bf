/* Typed values <-> the value field of a frame: extension fields, bincode atom, LZ4. Pure. */
#ifndef SYNA_STORE_VALUE_H
#define SYNA_STORE_VALUE_H

#include "base/vec.h"
#include "store/frame.h"
#include <synadb/kv.h>

/* data: FLOAT and INT 8 bytes, TEXT, BYTES, PACKED, BLOB (manifest) raw bytes, VECTOR 4*dims bytes,
 * NULL nothing. */
struct value {
    int32_t type; /* syna_type */
    const void *data;
    size_t len;
    uint64_t expires_us; /* 0 = never */
    uint64_t event_us;   /* 0 = the frame's stamp is the time */
    uint64_t number;     /* room for value_peek; nobody else looks at it */
};

/* Check what a caller passed: known type, length fits the type, text is UTF-8, vector finite and
 * 1..65535 long, size <= SYNA_VALUE_MAX. */
syna_rc value_check(const struct value *v);

/* Append the value field (without CRC) to `to`; *flags gets FRAME_EXT and FRAME_LZ4 as used.
 * Text, bytes and packed values over 64 bytes are compressed when `compress` and a sample says it
 * pays (stored < 0.9 plain); LZ4 never makes a value larger. */
syna_rc value_encode(const struct value *v, bool compress, struct buf *to, uint8_t *flags);

/* Decode the value field of `f`. Where LZ4 has to be undone the plain bytes go to *scratch
 * (grown as needed) and out->data points into it, otherwise into the frame. `path` is for messages.
 * Never reads out of bounds; allocates at most 255x the stored bytes. Not for column blocks. */
syna_rc value_decode(const struct frame *f, const char *path, struct buf *scratch,
                     struct value *out);

/* Type, length and extension fields only: nothing is decompressed but an atom's head. data is NULL
 * except for FLOAT and INT; of a compressed one (none of ours is, an ancestor's file may have them)
 * it points to out->number. */
syna_rc value_peek(const struct frame *f, const char *path, struct value *out);

#endif
