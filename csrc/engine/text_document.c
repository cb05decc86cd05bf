/* text_document.c - records of documents, and the walk that takes their terms. */
#include "base/internal.h"

#include "base/bytes.h"
#include "base/status.h"
#include "base/utf8.h"
#include "engine/meta.h"
#include "engine/text_document.h"

enum { PACK_VERSION = 0x01, PACK_STR = 0x07, PACK_DICT = 0x0c };

static const char text_name[] = "text", metadata_name[] = "metadata";

/* ---------------------------------------------------------------- records */

static size_t put_string(uint8_t *at, const void *text, size_t len)
{
    size_t n = 0;
    at[n++] = PACK_STR;
    n += varint_put(at + n, len);
    if (len > 0)
        memcpy(at + n, text, len);
    return n + len;
}

syna_rc document_encode(const syna_document *d, struct buf *record)
{
    size_t room = 64 + d->text_len + d->metadata_len;
    record->len = 0;
    uint8_t *at = buf_extend(record, room);
    if (!at)
        return syna_no_memory(room);
    size_t n = 0;
    at[n++] = PACK_VERSION;
    at[n++] = PACK_DICT;
    at[n++] = d->metadata ? 2 : 1;
    n += put_string(at + n, text_name, strlen(text_name));
    n += put_string(at + n, d->text, d->text_len);
    if (d->metadata) {
        n += put_string(at + n, metadata_name, strlen(metadata_name));
        n += put_string(at + n, d->metadata, d->metadata_len);
    }
    record->len = n;
    return SYNA_SUCCESS;
}

bool document_string(struct reader *r, const char **text, size_t *len)
{
    uint64_t n;
    if (reader_u8(r) != PACK_STR)
        return false;
    size_t used = varint_get(r->at, r->end, &n);
    if (used == 0 || n > reader_left(r) - used)
        return false;
    reader_take(r, used);
    *len = (size_t)n;
    *text = (const char *)reader_take(r, *len);
    return *text != NULL;
}

static bool take_name(struct reader *r, const char *name)
{
    const char *text;
    size_t len;
    return document_string(r, &text, &len) && len == strlen(name) && memcmp(text, name, len) == 0;
}

bool document_decode(const void *record, size_t len, syna_document *out)
{
    struct reader r = reader_of(record, len);
    if (reader_u8(&r) != PACK_VERSION || reader_u8(&r) != PACK_DICT)
        return false;
    uint8_t count = reader_u8(&r);
    out->metadata = NULL;
    out->metadata_len = 0;
    if ((count != 1 && count != 2) || !take_name(&r, text_name) ||
        !document_string(&r, &out->text, &out->text_len))
        return false;
    if (count == 2 && (!take_name(&r, metadata_name) ||
                       !document_string(&r, &out->metadata, &out->metadata_len)))
        return false;
    return reader_left(&r) == 0 && utf8_valid(out->text, out->text_len);
}

/* ---------------------------------------------------------------- checks */

syna_rc document_check(const syna_document *d)
{
    int shown = (int)MIN(d->id_len, (size_t)200);
    if (!d->id)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the id is a null pointer");
    if (d->id_len == 0)
        return syna_fail(SYNA_ERR_EMPTY_KEY, SYNA_WHY_ARGUMENT, "the id is empty");
    if (d->id_len > SYNA_TEXT_ID_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the id has %zu bytes, at most %u fit", d->id_len, SYNA_TEXT_ID_MAX);
    if (!d->text && d->text_len > 0)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "document %.*s: no text", shown,
                         d->id);
    if (d->text_len > SYNA_VALUE_MAX - 4096 || d->metadata_len > SYNA_VALUE_MAX - 4096 - d->text_len)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "document %.*s: %zu bytes of text and %zu of metadata are too much", shown,
                         d->id, d->text_len, d->metadata_len);
    if (!utf8_valid(d->text, d->text_len))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "document %.*s: the text is not UTF-8", shown, d->id);
    return d->metadata ? meta_check(d->metadata, d->metadata_len) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- terms */

struct taking {
    struct terms_found *out;
    bool no_memory;
};

static bool take_term(void *context, const struct token *token)
{
    struct taking *t = context;
    uint8_t *at = buf_extend(&t->out->bytes, token->len + 1);
    if (!at) {
        t->no_memory = true;
        return false;
    }
    at[0] = (uint8_t)token->len;
    memcpy(at + 1, token->term, token->len);
    return ++t->out->count <= SYNA_TEXT_WORDS_MAX;
}

syna_rc document_terms(const struct analyzer *analyzer, const syna_document *d,
                       struct terms_found *out)
{
    struct taking t = {.out = out};
    out->bytes.len = 0;
    out->count = 0;
    if (!buf_reserve(&out->bytes, d->text_len + 64))
        return syna_no_memory(d->text_len);
    analyze(analyzer, d->text, d->text_len, ANALYZE_TEXT, take_term, &t);
    if (t.no_memory)
        return syna_no_memory(out->bytes.len);
    if (out->count > SYNA_TEXT_WORDS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "document %.*s has more than %u words", (int)MIN(d->id_len, (size_t)200),
                         d->id, SYNA_TEXT_WORDS_MAX);
    return SYNA_SUCCESS;
}

void terms_found_dispose(struct terms_found *t)
{
    buf_dispose(&t->bytes);
    t->count = 0;
}
