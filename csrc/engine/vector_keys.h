/* The keys of a vector store's rows: key -> row number and row number -> key, in memory. Rows are
 * numbers of index/flat.h. Not thread-safe: the store's lock covers it. */
#ifndef SYNA_ENGINE_VECTOR_KEYS_H
#define SYNA_ENGINE_VECTOR_KEYS_H

#include "base/status.h"
#include "base/vec.h"

#define ROW_PREFIX "vec/"
#define ROW_PREFIX_LEN 4u
#define ROW_NONE UINT32_MAX

/* A key as it stands in the log, ROW_PREFIX in front and a NUL behind. */
struct row_name {
    uint32_t len; /* with the prefix, without the NUL */
    char bytes[];
};

/* The user's part of it. */
static inline const char *row_name_key(const struct row_name *name)
{
    return name->bytes + ROW_PREFIX_LEN;
}
static inline uint32_t row_name_key_len(const struct row_name *name)
{
    return name->len - ROW_PREFIX_LEN;
}

/* Check a user's key (-7, -8, ARGUMENT) and make its name. */
syna_rc row_name_new(const char *key, size_t key_len, struct row_name **out);
void row_name_free(struct row_name *name);

struct vector_keys {
    struct buf names; /* struct row_name *[]: one a row, NULL when the row was removed */
    uint32_t *slots;  /* open addressing by linear probing: row + 1, 0 = free */
    size_t slot_count; /* a power of two, at least twice the keys */
    size_t used;
    uint64_t name_bytes;
};

void vector_keys_dispose(struct vector_keys *keys);

/* Room for this many more keys, with row numbers below `rows`: later additions cannot fail. */
syna_rc vector_keys_reserve(struct vector_keys *keys, size_t more, size_t rows);

/* ROW_NONE when there is no such key. */
uint32_t vector_keys_find(const struct vector_keys *keys, const char *key, size_t key_len);
/* NULL when the row was removed. */
const struct row_name *vector_keys_name(const struct vector_keys *keys, uint32_t row);

/* A new key for `row`; the name now belongs to the table. */
void vector_keys_add(struct vector_keys *keys, uint32_t row, struct row_name *name);
/* The key of row `from` now has row `to`, which has none. */
void vector_keys_move(struct vector_keys *keys, uint32_t from, uint32_t to);
void vector_keys_remove(struct vector_keys *keys, uint32_t row);
/* Forget the numbers from `rows` on; no key has one of them. */
void vector_keys_truncate(struct vector_keys *keys, uint32_t rows);

uint64_t vector_keys_bytes(const struct vector_keys *keys); /* heap in use */

#endif
