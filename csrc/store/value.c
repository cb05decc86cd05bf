/* Typed values <-> the value field of a frame: extension fields, then the atom (bincode 1), the
 * whole atom perhaps as one LZ4 block. Pure, and safe on any bytes: every length is compared with
 * what remains before it is used, and nothing is allocated that the stored bytes cannot fill.
 *
 * Types from 6 on did not exist in the ancestor's format. Their content is a Bytes atom and their
 * number an extension field, so a reader that does not know them still sees the bytes. */
#include "base/internal.h"

#include <lz4.h>

#include "base/utf8.h"
#include "store/value.h"

#define ATOM_HEAD 12u          /* u32 tag, u64 length or 8 bytes of content */
#define MANIFEST_HEAD 12u      /* u64 total size, u32 chunk count */
#define MANIFEST_CHUNK 12u     /* u64 offset, u32 length */
#define COMPRESS_MORE_THAN 64u /* shorter contents stay plain */
#define SAMPLE_BYTES 4096u
#define LZ4_MAX_RATIO 255u /* one more stored byte makes at most 255 more plain bytes */

/* ---- checking what a caller passed */

static syna_rc bad_argument(const char *what, size_t found, size_t expected)
{
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s: %zu bytes, expected %zu", what,
                     found, expected);
}

static syna_rc check_vector(const uint8_t *data, size_t len)
{
    if (len == 0 || len % 4 != 0 || len / 4 > UINT16_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "vector: %zu bytes, expected 4 for each of 1..%u dimensions", len,
                         (unsigned)UINT16_MAX);
    for (size_t i = 0; i < len; i += 4)
        if ((load_u32(data + i) & 0x7f800000u) == 0x7f800000u)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "vector: component %zu is NaN or infinite, expected a finite number",
                             i / 4);
    return SYNA_SUCCESS;
}

/* The length that a manifest with this beginning must have. */
static uint64_t manifest_length(const uint8_t *data, size_t len)
{
    uint64_t chunks = len >= MANIFEST_HEAD ? load_u32(data + 8) : 0;
    return MANIFEST_HEAD + chunks * MANIFEST_CHUNK;
}

syna_rc value_check(const struct value *v)
{
    if (v->data == NULL && v->len != 0)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT,
                         "value: null pointer with length %zu", v->len);
    if (v->len > SYNA_VALUE_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "value: %zu bytes, at most %u fit in one value", v->len, SYNA_VALUE_MAX);
    switch (v->type) {
    case SYNA_TYPE_NULL:
        return v->len == 0 ? SYNA_SUCCESS : bad_argument("null", v->len, 0);
    case SYNA_TYPE_FLOAT:
        return v->len == 8 ? SYNA_SUCCESS : bad_argument("float", v->len, 8);
    case SYNA_TYPE_INT:
        return v->len == 8 ? SYNA_SUCCESS : bad_argument("int", v->len, 8);
    case SYNA_TYPE_TEXT:
        if (!utf8_valid(v->data, v->len))
            return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "text: not valid UTF-8");
        return SYNA_SUCCESS;
    case SYNA_TYPE_BYTES:
    case SYNA_TYPE_PACKED:
        return SYNA_SUCCESS;
    case SYNA_TYPE_VECTOR:
        return check_vector(v->data, v->len);
    case SYNA_TYPE_BLOB:
        if (v->len != manifest_length(v->data, v->len))
            return bad_argument("blob manifest", v->len, (size_t)manifest_length(v->data, v->len));
        return SYNA_SUCCESS;
    default:
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "type %d, expected %d..%d", v->type,
                         SYNA_TYPE_NULL, SYNA_TYPE_BLOB);
    }
}

/* ---- encoding */

static uint8_t *put_field(uint8_t *p, enum ext_tag tag, const void *bytes, uint8_t len)
{
    p[0] = (uint8_t)tag;
    p[1] = len;
    memcpy(p + 2, bytes, len);
    return p + 2 + len;
}

/* The extension fields, if there are any. */
static bool encode_fields(const struct value *v, struct buf *to, uint8_t *flags)
{
    uint8_t fields[32], *p = fields + 1;
    if (v->expires_us != 0)
        p = put_field(p, EXT_EXPIRES, &v->expires_us, 8);
    if (v->event_us != 0)
        p = put_field(p, EXT_EVENT, &v->event_us, 8);
    if (v->type > SYNA_TYPE_VECTOR) {
        uint8_t type = (uint8_t)v->type;
        p = put_field(p, EXT_TYPE, &type, 1);
    }
    if (p == fields + 1)
        return true;
    fields[0] = (uint8_t)(p - fields - 1);
    *flags |= FRAME_EXT;
    return buf_append(to, fields, (size_t)(p - fields));
}

static size_t atom_length(const struct value *v)
{
    switch (v->type) {
    case SYNA_TYPE_NULL:
        return 4;
    case SYNA_TYPE_FLOAT:
    case SYNA_TYPE_INT:
        return ATOM_HEAD;
    case SYNA_TYPE_VECTOR:
        return ATOM_HEAD + v->len + 2;
    default:
        return ATOM_HEAD + v->len;
    }
}

static void write_atom(const struct value *v, uint8_t *p)
{
    store_u32(p, v->type <= SYNA_TYPE_VECTOR ? (uint32_t)v->type : ATOM_BYTES);
    if (v->type == SYNA_TYPE_NULL)
        return;
    p += 4;
    if (v->type == SYNA_TYPE_FLOAT || v->type == SYNA_TYPE_INT) {
        memcpy(p, v->data, 8);
        return;
    }
    bool vector = v->type == SYNA_TYPE_VECTOR;
    store_u64(p, vector ? v->len / 4 : v->len);
    if (v->len)
        memcpy(p + 8, v->data, v->len);
    if (vector)
        store_u16(p + 8 + v->len, (uint16_t)(v->len / 4));
}

/* The room a block of `plain` bytes may take to be worth keeping. */
static size_t worthwhile(size_t plain)
{
    return plain - plain / 10 - 1;
}

/* A block of LZ4 in at most `cap` bytes, 0 = does not fit. The state lives on the stack: liblz4
 * allocates nothing, and threads share nothing. */
static size_t lz4_pack(const uint8_t *plain, size_t len, uint8_t *to, size_t cap)
{
    LZ4_stream_t state;
    int n =
        LZ4_compress_fast_extState(&state, (const char *)plain, (char *)to, (int)len, (int)cap, 1);
    return n > 0 ? (size_t)n : 0;
}

static bool sample_pays(const uint8_t *sample)
{
    uint8_t packed[SAMPLE_BYTES];
    return lz4_pack(sample, SAMPLE_BYTES, packed, worthwhile(SAMPLE_BYTES)) != 0;
}

/* The beginning may be a header unlike the rest, so a long value gets a second chance in its
 * middle. */
static bool may_pay(const uint8_t *atom, size_t len)
{
    if (len <= SAMPLE_BYTES)
        return true;
    if (sample_pays(atom))
        return true;
    return len >= 4 * SAMPLE_BYTES && sample_pays(atom + len / 2);
}

/* Replace the plain atom that ends `to` by its compressed form when that pays. */
static bool compress_atom(struct buf *to, size_t atom_at, uint8_t *flags)
{
    size_t plain = to->len - atom_at;
    if (!may_pay(to->bytes + atom_at, plain))
        return true;
    size_t cap = worthwhile(plain) - 4;
    if (!buf_reserve(to, cap))
        return false;
    uint8_t *atom = to->bytes + atom_at;
    size_t packed = lz4_pack(atom, plain, atom + plain, cap);
    if (packed == 0)
        return true;
    store_u32(atom, (uint32_t)plain);
    memmove(atom + 4, atom + plain, packed);
    to->len = atom_at + 4 + packed;
    *flags |= FRAME_LZ4;
    return true;
}

static bool compressible(const struct value *v)
{
    return v->len > COMPRESS_MORE_THAN &&
           (v->type == SYNA_TYPE_TEXT || v->type == SYNA_TYPE_BYTES || v->type == SYNA_TYPE_PACKED);
}

syna_rc value_encode(const struct value *v, bool compress, struct buf *to, uint8_t *flags)
{
    size_t start = to->len, need = atom_length(v);
    uint8_t used = 0;
    if (!encode_fields(v, to, &used))
        goto no_memory;
    size_t atom_at = to->len;
    uint8_t *atom = buf_extend(to, need);
    if (!atom)
        goto no_memory;
    write_atom(v, atom);
    if (compress && compressible(v) && !compress_atom(to, atom_at, &used))
        goto no_memory;
    *flags |= used;
    return SYNA_SUCCESS;
no_memory:
    to->len = start;
    return syna_no_memory(need);
}

/* ---- decoding */

static syna_rc corrupt(const struct frame *f, const char *path, const char *what, uint64_t found,
                       uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, (int64_t)f->offset, 0,
                        "value of the frame: %s %llu, expected %llu", what,
                        (unsigned long long)found, (unsigned long long)expected);
}

/* Take the extension fields off the front. *type is 0 when there is no EXT_TYPE. */
static syna_rc decode_fields(const struct frame *f, const char *path, struct reader *r,
                             struct value *out, uint8_t *type)
{
    uint8_t total = reader_u8(r);
    const uint8_t *bytes = reader_take(r, total);
    if (!bytes)
        return corrupt(f, path, "extension fields of length", total, f->value_len);
    struct reader fields = reader_of(bytes, total);
    while (reader_left(&fields) > 0) {
        uint8_t tag = reader_u8(&fields), len = reader_u8(&fields);
        const uint8_t *field = reader_take(&fields, len);
        uint8_t expected = tag == EXT_TYPE ? 1 : 8;
        if (fields.short_read || (tag >= EXT_EXPIRES && tag <= EXT_TYPE && len != expected))
            return corrupt(f, path, "an extension field of length", len, expected);
        if (tag == EXT_EXPIRES)
            out->expires_us = load_u64(field);
        else if (tag == EXT_EVENT)
            out->event_us = load_u64(field);
        else if (tag == EXT_TYPE)
            *type = *field;
    }
    return SYNA_SUCCESS;
}

/* What an atom's first bytes say of one that is `len` bytes long in all; data is left alone. */
static syna_rc decode_head(const struct frame *f, const char *path, const uint8_t *head,
                           uint64_t len, struct value *out)
{
    uint32_t tag = len >= 4 ? load_u32(head) : UINT32_MAX;
    uint64_t room = len >= ATOM_HEAD ? len - ATOM_HEAD : 0, expected = ATOM_HEAD;
    switch (tag) {
    case ATOM_NULL:
        expected = 4;
        out->len = 0;
        break;
    case ATOM_FLOAT:
    case ATOM_INT:
        out->len = 8;
        break;
    case ATOM_TEXT:
    case ATOM_BYTES:
        if (len >= ATOM_HEAD)
            expected = load_u64(head + 4) <= room ? ATOM_HEAD + load_u64(head + 4) : UINT64_MAX;
        out->len = (size_t)room;
        break;
    case ATOM_VECTOR:
        if (len >= ATOM_HEAD)
            expected = load_u64(head + 4) <= UINT16_MAX ? ATOM_HEAD + 4 * load_u64(head + 4) + 2
                                                        : UINT64_MAX;
        out->len = room >= 2 ? (size_t)room - 2 : 0;
        break;
    default:
        return corrupt(f, path, "atom tag", tag, ATOM_VECTOR);
    }
    if (len != expected)
        return corrupt(f, path, "atom of length", len, expected);
    out->type = (int32_t)tag;
    return SYNA_SUCCESS;
}

/* A type from the extension fields replaces that of the atom. */
static syna_rc apply_type(const struct frame *f, const char *path, uint8_t type, struct value *out)
{
    if (type == 0)
        return SYNA_SUCCESS;
    if (type <= SYNA_TYPE_VECTOR || out->type != SYNA_TYPE_BYTES)
        return corrupt(f, path, "extended type over atom", (uint64_t)out->type, ATOM_BYTES);
    out->type = type;
    if (type == SYNA_TYPE_BLOB && out->data && out->len != manifest_length(out->data, out->len))
        return corrupt(f, path, "blob manifest of length", out->len,
                       manifest_length(out->data, out->len));
    return SYNA_SUCCESS;
}

/* Plain length of the LZ4 block in `r`, which then stands at the block itself. */
static syna_rc lz4_length(const struct frame *f, const char *path, struct reader *r,
                          uint32_t *plain)
{
    *plain = reader_u32(r);
    uint64_t stored = reader_left(r);
    uint64_t most = MIN(stored * LZ4_MAX_RATIO, (uint64_t)FRAME_VAL_LEN_MAX);
    if (r->short_read || *plain < 4 || *plain > most)
        return corrupt(f, path, "LZ4 block with a plain length of", *plain, most);
    return SYNA_SUCCESS;
}

/* Undo LZ4 into *scratch; *r then reads the plain atom. */
static syna_rc lz4_unpack(const struct frame *f, const char *path, struct reader *r,
                          struct buf *scratch)
{
    uint32_t plain;
    SYNA_TRY(lz4_length(f, path, r, &plain));
    scratch->len = 0;
    uint8_t *to = buf_extend(scratch, plain);
    if (!to)
        return syna_no_memory(plain);
    int n = LZ4_decompress_safe((const char *)r->at, (char *)to, (int)reader_left(r), (int)plain);
    if (n < 0 || (uint32_t)n != plain)
        return corrupt(f, path, "LZ4 block that gives (bytes)", n < 0 ? 0 : (uint64_t)n, plain);
    *r = reader_of(to, plain);
    return SYNA_SUCCESS;
}

/* Where the content of an atom that decode_head accepted begins, and what only a full look finds.
 */
static syna_rc decode_content(const struct frame *f, const char *path, const uint8_t *atom,
                              struct value *out)
{
    out->data = out->type == SYNA_TYPE_NULL                                  ? NULL
                : out->type == SYNA_TYPE_FLOAT || out->type == SYNA_TYPE_INT ? atom + 4
                                                                             : atom + ATOM_HEAD;
    if (out->type == SYNA_TYPE_VECTOR &&
        load_u16(atom + ATOM_HEAD + out->len) != load_u64(atom + 4))
        return corrupt(f, path, "vector dimensions", load_u16(atom + ATOM_HEAD + out->len),
                       load_u64(atom + 4));
    /* Text of our own was checked before its checksum was made; frames of the ancestor (checksum 0)
     * may hold anything. */
    if (out->type == SYNA_TYPE_TEXT && f->crc == 0 && !utf8_valid(out->data, out->len))
        return corrupt(f, path, "text that is not UTF-8; valid", 0, 1);
    return SYNA_SUCCESS;
}

static syna_rc refuse_block(const struct frame *f, const char *path)
{
    return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, path, (int64_t)f->offset, 0,
                        "the frame is a column block, expected a value");
}

syna_rc value_decode(const struct frame *f, const char *path, struct buf *scratch,
                     struct value *out)
{
    if (f->flags & FRAME_BLOCK)
        return refuse_block(f, path);
    struct reader r = reader_of(f->value, f->value_len);
    uint8_t type = 0;
    *out = (struct value){0};
    if (f->flags & FRAME_EXT)
        SYNA_TRY(decode_fields(f, path, &r, out, &type));
    if (f->flags & FRAME_LZ4)
        SYNA_TRY(lz4_unpack(f, path, &r, scratch));
    SYNA_TRY(decode_head(f, path, r.at, reader_left(&r), out));
    SYNA_TRY(decode_content(f, path, r.at, out));
    return apply_type(f, path, type, out);
}

/* The head of a compressed atom, without decompressing what follows. */
static syna_rc peek_packed(const struct frame *f, const char *path, struct reader *r,
                           struct value *out)
{
    uint8_t head[ATOM_HEAD] = {0};
    uint32_t plain;
    SYNA_TRY(lz4_length(f, path, r, &plain));
    int want = (int)MIN(plain, ATOM_HEAD);
    int n = LZ4_decompress_safe_partial((const char *)r->at, (char *)head, (int)reader_left(r),
                                        want, (int)sizeof head);
    if (n < want)
        return corrupt(f, path, "LZ4 block that gives (bytes)", n < 0 ? 0 : (uint64_t)n,
                       (uint64_t)want);
    SYNA_TRY(decode_head(f, path, head, plain, out));
    out->number = load_u64(head + 4);
    return SYNA_SUCCESS;
}

syna_rc value_peek(const struct frame *f, const char *path, struct value *out)
{
    if (f->flags & FRAME_BLOCK)
        return refuse_block(f, path);
    struct reader r = reader_of(f->value, f->value_len);
    uint8_t type = 0;
    *out = (struct value){0};
    if (f->flags & FRAME_EXT)
        SYNA_TRY(decode_fields(f, path, &r, out, &type));
    if (f->flags & FRAME_LZ4)
        SYNA_TRY(peek_packed(f, path, &r, out));
    else
        SYNA_TRY(decode_head(f, path, r.at, reader_left(&r), out));
    if (out->type == SYNA_TYPE_FLOAT || out->type == SYNA_TYPE_INT)
        out->data = f->flags & FRAME_LZ4 ? (const void *)&out->number : r.at + 4;
    return apply_type(f, path, type, out);
}
