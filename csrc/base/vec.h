/* A growable byte buffer, and through it growable arrays. */
#ifndef SYNA_BASE_VEC_H
#define SYNA_BASE_VEC_H

#include "base/mem.h"

struct buf {
    uint8_t *bytes;
    size_t len, cap;
};

static inline void buf_dispose(struct buf *b)
{
    mem_free(b->bytes);
    b->bytes = NULL;
    b->len = b->cap = 0;
}

/* Room for `more` bytes behind len, and a place even for 0. false = no memory; the buffer is as it
 * was. */
static inline bool buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len >= more && b->bytes)
        return true;
    if (more > SIZE_MAX / 2 - b->len)
        return false;
    size_t cap = MAX(b->cap + b->cap / 2, b->len + more);
    cap = MAX(cap, (size_t)64);
    uint8_t *bytes = mem_resize(b->bytes, cap);
    if (!bytes)
        return false;
    b->bytes = bytes;
    b->cap = cap;
    return true;
}

/* The place of `len` new bytes at the end, NULL = no memory. */
static inline uint8_t *buf_extend(struct buf *b, size_t len)
{
    if (!buf_reserve(b, len))
        return NULL;
    uint8_t *p = b->bytes + b->len;
    b->len += len;
    return p;
}

static inline bool buf_append(struct buf *b, const void *bytes, size_t len)
{
    if (len == 0) /* no memory is needed, and an empty buffer has none to point to */
        return true;
    uint8_t *p = buf_extend(b, len);
    if (!p)
        return false;
    memcpy(p, bytes, len);
    return true;
}

#endif
