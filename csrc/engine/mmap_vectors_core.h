/* The inside of a mapped vector store; for the mmap_vectors*.c files only. Rows, keys, locks and files are
 * those of row_store.h; what is added is the index, a graph that outlives compactions. Building one takes
 * minutes, so upkeep of the rows does not wait for it (index_apart). */
#ifndef SYNA_ENGINE_MMAP_VECTORS_CORE_H
#define SYNA_ENGINE_MMAP_VECTORS_CORE_H

#include "engine/mmap_index.h"
#include "engine/mmap_vectors.h"
#include "engine/row_store.h"

struct syna_mmap {
    struct row_store base;
    struct mmap_index *index; /* NULL: none. Replaced with write_lock and state_lock held */
    struct mmap_renumbering renumbering; /* of a compaction that is about to end; index_lock */
};
static inline syna_mmap *mmap_of(struct row_store *base)
{
    return (syna_mmap *)(void *)base;
}

/* mmap_vectors_index.c */
extern const struct row_store_kind mmap_vectors_kind;

#endif
