/* Packs: many short documents in one record of the log, so that they share a frame, a key and the compressor's
 * window. Pure but for memory.
 *
 * A pack is the packed value of a list: id, text, metadata (a str, or None) of each document in turn. It
 * stands under "doc-pack/" and a number, and never changes; no number is given out twice while a pack of
 * that number or a higher one is there. Which documents of a pack count:
 *
 *   1. A value under "doc/<id>", of whatever type, is newer than all packs: a document there replaces the
 *      one in a pack, a null there says that it was deleted.
 *   2. Of several packs that have an id, the one with the highest number counts.
 *
 * Nothing depends on the order of the records, so a compaction of the log may do as it likes. */
#ifndef SYNA_ENGINE_TEXT_PACK_H
#define SYNA_ENGINE_TEXT_PACK_H

#include "base/bytes.h"
#include "base/vec.h"
#include <synadb/text.h>

#define PACK_PREFIX "doc-pack/"
#define PACK_PREFIX_LEN 9u
#define PACK_NAME_LEN (PACK_PREFIX_LEN + 10u)
#define PACK_BYTES 4096u     /* a pack is full; reading one document unpacks all of them */
#define PACK_DOCUMENT 2048u  /* a longer one stands alone */
#define PACK_LEAST 8u        /* fewer documents written at once stand alone */

/* Written: PACK_PREFIX and ten digits. */
void pack_name(uint32_t number, char name[PACK_NAME_LEN]);
/* 0: no name of a pack. */
uint32_t pack_number(const char *name, size_t len);

/* ---- writing. A struct of zeros is an empty one. */
struct pack {
    struct buf bytes; /* room for a head, and the documents */
    size_t count;
};
syna_rc pack_add(struct pack *p, const syna_document *d);
static inline bool pack_full(const struct pack *p)
{
    return p->bytes.len >= PACK_BYTES;
}
static inline bool pack_takes(const syna_document *d)
{
    return d->id_len + d->text_len + d->metadata_len <= PACK_DOCUMENT;
}
/* The record; borrowed until the next call. There is a document. */
const uint8_t *pack_record(struct pack *p, size_t *len);
void pack_clear(struct pack *p); /* no documents; the memory stays */
void pack_dispose(struct pack *p);

/* ---- reading; safe on any bytes */
struct pack_reader {
    struct reader bytes;
    uint64_t left; /* documents */
};
bool pack_open(const void *record, size_t len, struct pack_reader *out);
/* The next document, whose strings point into the record; false at the end, or where it is damaged. Only
 * the shape is checked. */
bool pack_next(struct pack_reader *p, syna_document *out);
/* The last document of this id. */
bool pack_find(const void *record, size_t len, const char *id, size_t id_len, syna_document *out);

#endif
