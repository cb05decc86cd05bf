/* Where names that came all at once are found: buckets of about six, by hash. Made once, when a snapshot is
 * opened; a name may be taken out, none comes in. So it needs no free places: 5 to 6 bytes a name, where the
 * table that grows (row_keys.h) has 7 to 13.
 *
 * Not thread-safe: calls marked (w) need the table exclusively, the others share it. */
#ifndef SYNA_ENGINE_TEXT_NAME_TABLE_H
#define SYNA_ENGINE_TEXT_NAME_TABLE_H

#include "engine/row_keys.h"

struct name_table {
    uint32_t *starts; /* of each bucket, and where the last one ends */
    uint32_t *numbers;
    uint8_t *tags;    /* of the hash; 0: taken out */
    uint32_t buckets; /* a power of two; 0: there are no names */
    uint32_t held;
};

/* The bytes of a name by its number. */
typedef const char *(*name_fn)(const void *context, uint32_t number, size_t *len);

/* (w) Names [0, count), those whose bit in `live` is set (NULL: all), no two of them the same. A struct of zeros
 * is an empty table. */
syna_rc name_table_make(struct name_table *t, name_fn name, const void *context, uint32_t count,
                        const uint64_t *live);
void name_table_dispose(struct name_table *t);

/* ROW_NONE when there is none. The names must be as they were. */
uint32_t name_table_find(const struct name_table *t, name_fn name_of, const void *context,
                         const char *name, size_t len);
/* (w) It is not found any more. Returns whether it was there. */
bool name_table_remove(struct name_table *t, name_fn name_of, const void *context, const char *name,
                       size_t len);

uint64_t name_table_bytes(const struct name_table *t);

#endif
