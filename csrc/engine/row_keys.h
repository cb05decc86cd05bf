/* Keys of rows: key -> row number, in memory. The keys themselves are not kept: a row knows where its key
 * stands. Open addressing by linear probing; beside each place a byte of the hash, so that other keys
 * are hardly ever looked at. Removal shifts later places back, so look-ups never degrade.
 *
 * Not thread-safe: calls marked (w) need the table exclusively, the others share it. */
#ifndef SYNA_ENGINE_ROW_KEYS_H
#define SYNA_ENGINE_ROW_KEYS_H

#include "base/status.h"
#include "store/snapshot.h"

#define ROW_NONE UINT32_MAX

struct row_keys {
    const char *(*key)(void *context, uint32_t row, size_t *len); /* of a row in the table */
    void *context;
    uint32_t *rows;
    uint8_t *tags;     /* 0 = free */
    size_t place_count; /* a power of two, or 0 */
    size_t used;
    bool borrowed;     /* rows and tags belong to a snapshot */
};

void row_keys_init(struct row_keys *keys,
                   const char *(*key)(void *context, uint32_t row, size_t *len), void *context);
void row_keys_dispose(struct row_keys *keys);

/* (w) Room for this many more keys: later additions cannot fail. */
syna_rc row_keys_reserve(struct row_keys *keys, size_t more);
/* ROW_NONE when there is no such key. */
uint32_t row_keys_find(const struct row_keys *keys, const char *key, size_t len);
/* (w) The key of `row` is in the table from now on, for this row; a row that it named before is no longer
 * named. There must be room. */
void row_keys_set(struct row_keys *keys, uint32_t row);
/* (w) Take a key out; its row still knows it. */
void row_keys_remove(struct row_keys *keys, const char *key, size_t len);

/* (w) Take all keys out; the room stays. */
void row_keys_clear(struct row_keys *keys);

uint64_t row_keys_bytes(const struct row_keys *keys); /* memory of its own */

/* Sections "keyrows" and "keytags". (w) loading: *found false, nothing changed, when they are not there
 * or do not fit `rows` rows. The snapshot must outlive the table. */
syna_rc row_keys_save(const struct row_keys *keys, struct snapshot_writer *writer);
void row_keys_load(struct row_keys *keys, struct snapshot *snapshot, size_t rows, bool *found);

#endif
