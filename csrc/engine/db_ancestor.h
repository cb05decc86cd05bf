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
        double error; /* how far `running` may be from the float that was put */
    } *slots;
    size_t count, cap; /* cap: a power of two */
    double whole;      /* the float that the last value decoded stands for */
    /* What the differences did, over all keys. A writer rounds each difference once and a reader each
     * sum, by at most half a unit in the last place, and neither error is ever taken back before the
     * next float that is stored whole. */
    uint64_t differences; /* floats that were differences */
    uint64_t poisoned;    /* of these: added to a sum that was NaN or infinite, and lost in it */
    double rounding;      /* the largest error that a sum may have; sums that are not finite left out */
};

void ancestor_dispose(struct ancestor *a);

/* Decode the record in `f`. A float is made whole; out->data then points into *a. */
syna_rc ancestor_value(struct ancestor *a, const struct frame *f, const char *path,
                       struct buf *scratch, struct value *out);

#endif
