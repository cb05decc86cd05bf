/* A mapped file region that never moves and never shrinks while a pointer into it may be held:
 * address space is reserved ahead, file pieces are mapped into it as the file grows, and when the
 * reservation is outgrown the old one stays until dispose. */
#ifndef SYNA_IO_MAP_H
#define SYNA_IO_MAP_H

#include "io/file.h"

struct map {
    const uint8_t *base; /* byte 0 of the file; valid up to len. Read it with map_base() */
    size_t len;          /* mapped bytes */
    size_t reserved;
    bool writable;
    bool copy;
    struct map_retired *retired;
};

/* Byte 0 of the file as mapped now; safe beside a map_grow on another thread. */
static inline const uint8_t *map_base(const struct map *m)
{
    return __atomic_load_n(&m->base, __ATOMIC_ACQUIRE);
}

/* Nothing is mapped yet. copy: the bytes are read into memory of our own instead of being mapped; a
 * writer then writes through the file and calls map_fill. */
void map_init(struct map *m, bool writable, bool copy);

/* Make at least [0, len) of the file mapped. The file must already be that long. Earlier pointers
 * stay valid. Not for two threads at once; readers may go on reading below the old len. */
syna_rc map_grow(struct map *m, const struct file *f, uint64_t len);
/* copy mode only: bytes [offset, offset+len) of the file changed to these (NULL: to zeros). map_grow
 * reads exactly [old len, len) in this mode. */
void map_fill(struct map *m, uint64_t offset, const void *bytes, size_t len);
void map_dispose(struct map *m);

/* The caller is about to fill `len` bytes at `at`, memory that may never have been touched: let the kernel
 * bring it in by large pages. For less than some of those it does nothing. */
void map_advise_fresh(void *at, size_t len);

/* Bytes of a map that a walk of a whole file keeps in this process's memory. Pages that nobody looks at any
 * more cost nothing, but they count as memory in use, by which processes are judged and limited. */
#define MAP_WALK_BYTES ((size_t)32 << 20)
/* A file of no more than this stays: to bring its pages in again would cost milliseconds. */
#define MAP_KEEP_BYTES ((size_t)96 << 20)
/* One touch can bring in a huge page. */
#define MAP_WINDOW_BITS 21

/* What a walk has brought in since it last let go. Start with zeros. */
struct map_walk {
    uintptr_t window; /* the last one touched */
    size_t windows;
};

/* Give back the memory that the pages of the map take in this process; they are read from the page cache
 * again when somebody looks. For any thread, beside readers, the writer and map_grow. */
void map_let_go(const struct map *m);

/* The walk looks at `len` bytes at `at` of the map; let go when it has seen MAP_WALK_BYTES. */
static inline void map_walked(const struct map *m, struct map_walk *walk, const void *at, size_t len)
{
    uintptr_t from = (uintptr_t)at >> MAP_WINDOW_BITS, to = ((uintptr_t)at + len) >> MAP_WINDOW_BITS;
    if ((from == walk->window && to == walk->window) ||
        __atomic_load_n(&m->len, __ATOMIC_RELAXED) <= MAP_KEEP_BYTES)
        return;
    walk->windows += to - from + (from != walk->window);
    walk->window = to;
    if (walk->windows >= MAP_WALK_BYTES >> MAP_WINDOW_BITS) {
        walk->windows = 0;
        map_let_go(m);
    }
}

#endif
