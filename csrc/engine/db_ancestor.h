/* Records of the ancestor's format as values of ours. Its delta flag makes a float the difference to
 * the float before it under the same key, so a reader keeps a running float per key over all entries in
 * file order (API.md 3.1). */
#ifndef SYNA_ENGINE_DB_ANCESTOR_H
#define SYNA_ENGINE_DB_ANCESTOR_H

#include "store/value.h"

/* The running floats: an open-addressing table of keys, copied. */
struct ancestor {
    struct buf keys;  /* key bytes, one after another */
    struct ancestor_slot {
        uint64_t hash; /* 0 = free */
        size_t at;
        uint16_t len;
        double running;
    } *slots;
    size_t count, cap; /* cap: a power of two */
    double whole;      /* the float that the last value decoded stands for */
};

void ancestor_dispose(struct ancestor *a);

/* Decode the record in `f`. A float is made whole; out->data then points into *a. */
syna_rc ancestor_value(struct ancestor *a, const struct frame *f, const char *path,
                       struct buf *scratch, struct value *out);

#endif
