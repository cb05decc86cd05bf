/* Numbered byte strings, found by their bytes: the ids of documents and the terms of a text index. The
 * strings stand one after the other and never move; a number is never used again.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_ENGINE_TEXT_NAMES_H
#define SYNA_ENGINE_TEXT_NAMES_H

#include "engine/row_keys.h"
#include "index/array.h"

#define NAMES_MAX 0x7fffffffu
#define NAMES_BLOCK 65536u
#define NAME_LEN_MAX 65535u

struct names {
    struct array bytes;
    struct array ends; /* uint32 a name: where it ends, less where the names of its block start */
    struct array bases; /* uint64 a block of NAMES_BLOCK names: where they start in bytes */
    uint32_t count;
    struct row_keys table;
};

/* A struct of zeros may be disposed of. */
syna_rc names_init(struct names *n);
/* It stands somewhere else now. */
static inline void names_moved(struct names *n)
{
    n->table.context = n;
}
void names_dispose(struct names *n);

/* (w) Room for this many more names of so many bytes in all, none longer than NAME_LEN_MAX. */
syna_rc names_reserve(struct names *n, size_t more, size_t bytes);
/* (w) The next number is this name's; the table finds it from now on. There must be room. */
uint32_t names_add(struct names *n, const char *name, size_t len);
/* (w) The table does not find the name any more. */
static inline void names_forget(struct names *n, const char *name, size_t len)
{
    row_keys_remove(&n->table, name, len);
}
/* ROW_NONE when there is none. */
static inline uint32_t names_find(const struct names *n, const char *name, size_t len)
{
    return row_keys_find(&n->table, name, len);
}
const char *names_at(const struct names *n, uint32_t number, size_t *len);
uint64_t names_memory(const struct names *n);

/* ---- snapshot sections "<tag>str" and "<tag>len"; tag: four characters. (w) loading into one that is
 * empty: *found false when they are not there or not sound; then dispose of it. The snapshot must outlive
 * the names. Only those whose bit in `live` is set (NULL: all) are found by the table. */
syna_rc names_save(const struct names *n, const char *tag, struct snapshot_writer *writer);
syna_rc names_load(struct names *n, const char *tag, struct snapshot *snapshot, uint32_t count,
                   const uint64_t *live, bool *found);

#endif
