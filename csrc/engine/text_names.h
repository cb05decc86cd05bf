/* Numbered byte strings, found by their bytes: the ids of documents and the terms of a text index. The
 * strings stand one after the other and never move; a number is never used again.
 *
 * Of names that came with a snapshot nothing is copied: their bytes and, when none is longer than a byte can
 * tell, their lengths are used where they are mapped, with a mark for each sixteen of them.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_ENGINE_TEXT_NAMES_H
#define SYNA_ENGINE_TEXT_NAMES_H

#include "engine/row_keys.h"
#include "engine/text_name_table.h"
#include "index/array.h"

#define NAMES_MAX 0x7fffffffu
#define NAMES_BLOCK 65536u
#define NAMES_MARKED 16u
#define NAME_LEN_MAX 65535u

struct names {
    struct array bytes;
    uint32_t mapped;       /* names before it have their lengths in a snapshot */
    const uint8_t *lengths; /* of each of them */
    uint64_t *marks;       /* of each NAMES_MARKED of them: where these start in bytes */
    struct array ends; /* uint32 a name from `mapped` on: where it ends, less where its block starts */
    struct array bases; /* uint64 a block of NAMES_BLOCK such names: where they start in bytes */
    uint32_t count;
    struct name_table old; /* finds the names that came with a snapshot */
    struct row_keys table; /* and the others */
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
/* (w) The next number is this name's, which is found from now on. No such name is found now. There must be
 * room. */
uint32_t names_add(struct names *n, const char *name, size_t len);
/* (w) The name is not found any more. */
void names_forget(struct names *n, const char *name, size_t len);
/* ROW_NONE when there is none. */
uint32_t names_find(const struct names *n, const char *name, size_t len);
const char *names_at(const struct names *n, uint32_t number, size_t *len);
uint64_t names_memory(const struct names *n); /* what is in use */

/* ---- snapshot sections "<tag>str" and "<tag>len"; tag: four characters. (w) loading into one that is
 * empty: *found false when they are not there or not sound; then dispose of it. The snapshot must outlive
 * the names. Only those whose bit in `live` is set (NULL: all) are found. */
syna_rc names_save(const struct names *n, const char *tag, struct snapshot_writer *writer);
syna_rc names_load(struct names *n, const char *tag, struct snapshot *snapshot, uint32_t count,
                   const uint64_t *live, bool *found);

#endif
