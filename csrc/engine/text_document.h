/* A document as a record of the log, and as what the index takes of it. Pure but for memory. */
#ifndef SYNA_ENGINE_TEXT_DOCUMENT_H
#define SYNA_ENGINE_TEXT_DOCUMENT_H

#include "base/vec.h"
#include "index/analyzer.h"
#include <synadb/text.h>

/* A record is the packed value (synadb/_core/pack.pyx) of {"text": ...} or {"text": ..., "metadata":
 * ...}, both of them strings. */
syna_rc document_encode(const syna_document *d, struct buf *record);
/* text and metadata point into the record. false: it is none of ours. */
bool document_decode(const void *record, size_t len, syna_document *out);
/* A packed string, pointing into what is read. false: there is none. */
struct reader;
bool document_string(struct reader *r, const char **text, size_t *len);

/* What is wrong with what a caller gave: id, text, metadata. */
syna_rc document_check(const syna_document *d);

/* The terms of a document, one after the other: a byte of length and the bytes. */
struct terms_found {
    struct buf bytes;
    uint32_t count;
};
syna_rc document_terms(const struct analyzer *analyzer, const syna_document *d,
                       struct terms_found *out);
void terms_found_dispose(struct terms_found *t);

#endif
