/* All records of one key, oldest first, for keys that have more than one record or a column block. A
 * history is a run of frame offsets as delta varints, so it costs 1-3 bytes a record; the values stay
 * in the log. Numeric values are cached as a plain array when a history is first read, which makes
 * the next read a memory copy. Column blocks at the start are decoded straight into the caller's
 * array by the first read, and kept by the second, as long as all caches together are below 256 MiB.
 *
 * Part of keydir (one owner, same locks). */
#ifndef SYNA_STORE_HISTORY_H
#define SYNA_STORE_HISTORY_H

#include "store/keydir.h"

/* A cursor over the records of one key. Good while the lock under which it was made is held. Reads
 * of a keydir opened from a checkpoint can return KEYDIR_DAMAGED, as those of keydir.h. */
struct history_cursor {
    struct keydir *dir;
    uint32_t history;   /* 0: the single record of the entry */
    uint32_t id;        /* the entry */
    uint64_t offset;    /* of the current record's frame */
    uint32_t count;     /* values in it: 1, or those of a column block */
    bool block;
    uint64_t index;     /* record number, 0 = oldest */
    uint64_t encoded;   /* records that [.., end) holds; later ones had to be spilled */
    const uint8_t *at, *end;
};

/* Records (frames) of the key of `e`: 1 without a history; 0 when a page of the checkpoint is
 * damaged. */
uint64_t history_records(struct keydir *dir, const struct entry *e);

/* Stand on record `index` (0 = oldest), or past the end: then SYNA_ERR_KEY_NOT_FOUND. O(64). */
syna_rc history_seek(struct keydir *dir, const struct entry *e, uint64_t index,
                     struct history_cursor *out);
syna_rc history_next(struct history_cursor *c); /* SYNA_ERR_KEY_NOT_FOUND at the end */

/* The values of one numeric type (SYNA_TYPE_FLOAT or _INT) of a history as 64-bit patterns, oldest
 * first: *count is how many there are, at most cap are written. Shared lock; the caches inside have
 * locks of their own. A frame is verified when it is read, not again when its values are cached. */
syna_rc history_values(struct keydir *dir, const struct entry *e, int32_t type, uint64_t *bits,
                       size_t cap, size_t *count);

/* (w) Drop cached values of all histories; returns the bytes freed. */
size_t history_drop_caches(struct keydir *dir);

#endif
