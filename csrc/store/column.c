/* Column blocks: the head, the choice of an encoding for the values, and the three parts.
 *
 *     u8 layout (1) | u8 type and COLUMN_STAMPS, COLUMN_EVENTS | u16 count | u64 last value
 *     | u16 length of the values | [stamps: u64 first, u64 last, u16 length]
 *     | values: u8 encoding, ... | [stamps: a stream of integers] | [events: likewise, to the end]
 *
 * The head says what an index needs without decoding. A block is never longer than raw values, raw
 * stamps and raw events would be with a head of 34 bytes and one of 16 for each stream.
 *
 * Decoding trusts nothing: each part must use up its bytes exactly, and last value, first and last
 * stamp must be those of the head. */
#include "base/internal.h"

#include "store/column.h"
#include "store/column_float.h"
#include "store/column_int.h"
#include <synadb/kv.h>

#define COLUMN_LAYOUT 1u
#define COLUMN_TYPE 0x0fu /* mask */
#define COLUMN_STAMPS 0x10u
#define COLUMN_EVENTS 0x20u
#define HEAD_BYTES 14u
#define STAMP_HEAD_BYTES 18u
#define RAW_MAX (8u * COLUMN_MAX)
#define STREAM_MAX (RAW_MAX + 64u) /* a stream of any numbers fits, whatever its head needs */

enum head_at {
    HEAD_AT_LAYOUT = 0,
    HEAD_AT_TYPE = 1,
    HEAD_AT_COUNT = 2,       /* u16 */
    HEAD_AT_LAST = 4,        /* u64 */
    HEAD_AT_VALUES_LEN = 12, /* u16 */
    HEAD_AT_FIRST_STAMP = 14,
    HEAD_AT_LAST_STAMP = 22,
    HEAD_AT_STAMPS_LEN = 30, /* u16 */
};

/* First byte of the values. */
enum encoding {
    ENCODING_RAW = 0,
    ENCODING_INTS = 1,
    ENCODING_ORDERED = 2,
    ENCODING_DECIMAL = 3,
    ENCODING_SPLIT = 4,
};

/* ---- encoding */

typedef size_t (*encoder)(const uint64_t *bits, size_t count, uint8_t *to, size_t cap);

/* Keep what this encoder makes when it is shorter than the best so far (*len, encoding byte
 * included). */
static void try_encoder(encoder encode, enum encoding name, const uint64_t *bits, size_t count,
                        uint8_t *best, size_t *len)
{
    uint8_t candidate[RAW_MAX];
    size_t made = encode(bits, count, candidate, *len - 2);
    if (made == 0)
        return;
    best[0] = (uint8_t)name;
    memcpy(best + 1, candidate, made);
    *len = made + 1;
}

static size_t encode_values(int32_t type, const uint64_t *bits, size_t count, uint8_t *to)
{
    size_t len = 1 + 8 * count;
    to[0] = ENCODING_RAW;
    memcpy(to + 1, bits, 8 * count);
    if (type == SYNA_TYPE_INT) {
        try_encoder(ints_encode, ENCODING_INTS, bits, count, to, &len);
        return len;
    }
    try_encoder(floats_encode_decimal, ENCODING_DECIMAL, bits, count, to, &len);
    if (len <= 3 * count) /* no other comes near where decimals work */
        return len;
    try_encoder(floats_encode_ordered, ENCODING_ORDERED, bits, count, to, &len);
    try_encoder(floats_encode_split, ENCODING_SPLIT, bits, count, to, &len);
    return len;
}

bool column_encode(int32_t type, const uint64_t *bits, const uint64_t *stamps,
                   const uint64_t *events, size_t count, struct buf *to)
{
    assert(count >= 1 && count <= COLUMN_MAX);
    uint8_t part[STREAM_MAX];
    size_t start = to->len;
    uint8_t *head = buf_extend(to, HEAD_BYTES + (stamps ? STAMP_HEAD_BYTES : 0));
    if (!head)
        return false;
    head[HEAD_AT_LAYOUT] = COLUMN_LAYOUT;
    head[HEAD_AT_TYPE] =
        (uint8_t)((uint32_t)type | (stamps ? COLUMN_STAMPS : 0) | (events ? COLUMN_EVENTS : 0));
    store_u16(head + HEAD_AT_COUNT, (uint16_t)count);
    store_u64(head + HEAD_AT_LAST, bits[count - 1]);
    size_t len = encode_values(type, bits, count, part);
    store_u16(head + HEAD_AT_VALUES_LEN, (uint16_t)len);
    bool fits = buf_append(to, part, len);
    if (stamps && fits) {
        head = to->bytes + start;
        len = ints_encode(stamps, count, part, sizeof part);
        store_u64(head + HEAD_AT_FIRST_STAMP, stamps[0]);
        store_u64(head + HEAD_AT_LAST_STAMP, stamps[count - 1]);
        store_u16(head + HEAD_AT_STAMPS_LEN, (uint16_t)len);
        fits = buf_append(to, part, len);
    }
    if (events && fits)
        fits = buf_append(to, part, ints_encode(events, count, part, sizeof part));
    if (!fits)
        to->len = start;
    return fits;
}

/* ---- decoding */

struct parts {
    struct column_info info;
    bool has_stamps;
    struct reader values, stamps, events;
};

static syna_rc corrupt(const struct column_source *from, const char *what, uint64_t found,
                       uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, from->path, (int64_t)from->offset,
                        0, "column block: %s %llu, expected %llu", what, (unsigned long long)found,
                        (unsigned long long)expected);
}

static syna_rc split_head(const struct column_source *from, struct parts *p)
{
    struct reader r = reader_of(from->block, from->len);
    unsigned layout = reader_u8(&r), type = reader_u8(&r);
    p->info.type = (int32_t)(type & COLUMN_TYPE);
    p->info.has_events = (type & COLUMN_EVENTS) != 0;
    p->has_stamps = (type & COLUMN_STAMPS) != 0;
    p->info.count = reader_u16(&r);
    p->info.last_bits = reader_u64(&r);
    size_t values_len = reader_u16(&r), stamps_len = 0;
    p->info.first_stamp = p->info.last_stamp = from->frame_stamp;
    if (p->has_stamps) {
        p->info.first_stamp = reader_u64(&r);
        p->info.last_stamp = reader_u64(&r);
        stamps_len = reader_u16(&r);
    }
    if (r.short_read)
        return corrupt(from, "length", from->len, HEAD_BYTES);
    if (layout != COLUMN_LAYOUT)
        return corrupt(from, "layout", layout, COLUMN_LAYOUT);
    if ((p->info.type != SYNA_TYPE_FLOAT && p->info.type != SYNA_TYPE_INT) ||
        (type & ~(COLUMN_TYPE | COLUMN_STAMPS | COLUMN_EVENTS)))
        return corrupt(from, "type", type, SYNA_TYPE_FLOAT);
    if (p->info.count == 0 || p->info.count > COLUMN_MAX)
        return corrupt(from, "count", p->info.count, COLUMN_MAX);
    const uint8_t *values = reader_take(&r, values_len), *stamps = reader_take(&r, stamps_len);
    if (!values || !stamps)
        return corrupt(from, "parts of (bytes)", values_len + stamps_len, from->len);
    p->values = reader_of(values, values_len);
    p->stamps = reader_of(stamps, stamps_len);
    p->events = r;
    return SYNA_SUCCESS;
}

static bool decode_raw(struct reader *from, size_t count, uint64_t *bits)
{
    const uint8_t *raw = reader_take(from, 8 * count);
    if (raw)
        memcpy(bits, raw, 8 * count);
    return raw != NULL;
}

static bool decode_values(struct reader *from, size_t count, uint64_t *bits)
{
    switch (reader_u8(from)) {
    case ENCODING_RAW:
        return !from->short_read && decode_raw(from, count, bits);
    case ENCODING_INTS:
        return ints_decode(from, count, bits);
    case ENCODING_ORDERED:
        return floats_decode_ordered(from, count, bits);
    case ENCODING_DECIMAL:
        return floats_decode_decimal(from, count, bits);
    case ENCODING_SPLIT:
        return floats_decode_split(from, count, bits);
    default:
        return false;
    }
}

static syna_rc read_values(const struct column_source *from, struct parts *p, uint64_t *bits)
{
    if (!decode_values(&p->values, p->info.count, bits) || reader_left(&p->values) != 0)
        return corrupt(from, "values do not decode; left (bytes)", reader_left(&p->values), 0);
    uint64_t last = bits[p->info.count - 1];
    if (last != p->info.last_bits)
        return corrupt(from, "last value", last, p->info.last_bits);
    return SYNA_SUCCESS;
}

static syna_rc read_stamps(const struct column_source *from, struct parts *p, uint64_t *stamps)
{
    size_t count = p->info.count;
    if (!p->has_stamps) {
        for (size_t i = 0; i < count; i++)
            stamps[i] = from->frame_stamp;
        return SYNA_SUCCESS;
    }
    if (!ints_decode(&p->stamps, count, stamps) || reader_left(&p->stamps) != 0)
        return corrupt(from, "stamps do not decode; left (bytes)", reader_left(&p->stamps), 0);
    if (stamps[0] != p->info.first_stamp || stamps[count - 1] != p->info.last_stamp)
        return corrupt(from, "last stamp", stamps[count - 1], p->info.last_stamp);
    for (size_t i = 1; i < count; i++)
        if (stamps[i] < stamps[i - 1])
            return corrupt(from, "stamp before its predecessor:", stamps[i], stamps[i - 1]);
    return SYNA_SUCCESS;
}

static syna_rc read_events(const struct column_source *from, struct parts *p, uint64_t *events)
{
    if (!p->info.has_events) {
        memset(events, 0, 8 * (size_t)p->info.count);
        return SYNA_SUCCESS;
    }
    if (!ints_decode(&p->events, p->info.count, events) || reader_left(&p->events) != 0)
        return corrupt(from, "events do not decode; left (bytes)", reader_left(&p->events), 0);
    return SYNA_SUCCESS;
}

syna_rc column_peek(const struct column_source *from, struct column_info *out)
{
    struct parts p;
    SYNA_TRY(split_head(from, &p));
    *out = p.info;
    return SYNA_SUCCESS;
}

syna_rc column_decode(const struct column_source *from, uint64_t *bits, uint64_t *stamps,
                      uint64_t *events)
{
    struct parts p;
    SYNA_TRY(split_head(from, &p));
    if (!p.info.has_events && reader_left(&p.events) != 0)
        return corrupt(from, "bytes behind the last part:", reader_left(&p.events), 0);
    if (bits)
        SYNA_TRY(read_values(from, &p, bits));
    if (stamps)
        SYNA_TRY(read_stamps(from, &p, stamps));
    if (events)
        SYNA_TRY(read_events(from, &p, events));
    return SYNA_SUCCESS;
}
