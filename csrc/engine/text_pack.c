/* text_pack.c - the record of a pack: written piece by piece, read with every length compared with what
 * remains. */
#include "base/internal.h"

#include "base/status.h"
#include "base/utf8.h"
#include "engine/text_document.h"
#include "engine/text_pack.h"

enum { PACK_VERSION = 0x01, PACK_NONE = 0x00, PACK_STR = 0x07, PACK_LIST = 0x0a };

#define HEAD_ROOM 12u      /* version, tag, count: written when it is known */
#define DOCUMENT_ITEMS 3u  /* id, text, metadata */
#define STRING_HEAD 11u    /* at most */

/* ---------------------------------------------------------------- names */

void pack_name(uint32_t number, char name[PACK_NAME_LEN])
{
    char text[PACK_NAME_LEN + 1];
    snprintf(text, sizeof text, PACK_PREFIX "%010u", number);
    memcpy(name, text, PACK_NAME_LEN);
}

uint32_t pack_number(const char *name, size_t len)
{
    uint64_t number = 0;
    if (len != PACK_NAME_LEN || memcmp(name, PACK_PREFIX, PACK_PREFIX_LEN) != 0)
        return 0;
    for (size_t i = PACK_PREFIX_LEN; i < len; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    return number < UINT32_MAX ? (uint32_t)number : 0;
}

/* ---------------------------------------------------------------- writing */

static uint8_t *put_string(uint8_t *at, const char *text, size_t len)
{
    *at++ = PACK_STR;
    at += varint_put(at, len);
    if (len > 0)
        memcpy(at, text, len);
    return at + len;
}

syna_rc pack_add(struct pack *p, const syna_document *d)
{
    size_t room = HEAD_ROOM + d->id_len + d->text_len + d->metadata_len +
                  DOCUMENT_ITEMS * (size_t)STRING_HEAD;
    if (!buf_reserve(&p->bytes, room))
        return syna_no_memory(room);
    if (p->count == 0)
        p->bytes.len = HEAD_ROOM;
    uint8_t *at = p->bytes.bytes + p->bytes.len;
    at = put_string(at, d->id, d->id_len);
    at = put_string(at, d->text, d->text_len);
    if (d->metadata)
        at = put_string(at, d->metadata, d->metadata_len);
    else
        *at++ = PACK_NONE;
    p->bytes.len = (size_t)(at - p->bytes.bytes);
    p->count++;
    return SYNA_SUCCESS;
}

const uint8_t *pack_record(struct pack *p, size_t *len)
{
    uint8_t head[HEAD_ROOM] = {PACK_VERSION, PACK_LIST};
    size_t head_len = 2 + varint_put(head + 2, p->count * DOCUMENT_ITEMS);
    uint8_t *start = p->bytes.bytes + HEAD_ROOM - head_len;
    memcpy(start, head, head_len);
    *len = p->bytes.len - HEAD_ROOM + head_len;
    return start;
}

void pack_clear(struct pack *p)
{
    p->count = 0;
    p->bytes.len = 0;
}

void pack_dispose(struct pack *p)
{
    buf_dispose(&p->bytes);
    p->count = 0;
}

/* ---------------------------------------------------------------- reading */

bool pack_open(const void *record, size_t len, struct pack_reader *out)
{
    struct reader *r = &out->bytes;
    uint64_t items;
    *r = reader_of(record, len);
    out->left = 0;
    if (reader_u8(r) != PACK_VERSION || reader_u8(r) != PACK_LIST)
        return false;
    size_t used = varint_get(r->at, r->end, &items);
    if (used == 0 || items % DOCUMENT_ITEMS != 0)
        return false;
    reader_take(r, used);
    if (items > reader_left(r)) /* an item has a byte at least */
        return false;
    out->left = items / DOCUMENT_ITEMS;
    return true;
}

bool pack_next(struct pack_reader *p, syna_document *out)
{
    struct reader *r = &p->bytes;
    *out = (syna_document){0};
    if (p->left == 0 || !document_string(r, &out->id, &out->id_len) ||
        !document_string(r, &out->text, &out->text_len))
        return false;
    if (reader_left(r) > 0 && *r->at == PACK_NONE)
        reader_take(r, 1);
    else if (!document_string(r, &out->metadata, &out->metadata_len))
        return false;
    p->left--;
    return true;
}

bool pack_find(const void *record, size_t len, const char *id, size_t id_len, syna_document *out)
{
    struct pack_reader p;
    syna_document d;
    bool found = false;
    if (!pack_open(record, len, &p))
        return false;
    while (pack_next(&p, &d)) {
        if (d.id_len != id_len || memcmp(d.id, id, id_len) != 0)
            continue;
        *out = d;
        found = true;
    }
    return found && utf8_valid(out->text, out->text_len);
}
