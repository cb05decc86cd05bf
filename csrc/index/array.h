/* A growing array of items of one size that never move: whoever reads item i need not fear whoever
 * appends item j. It may begin with a part that belongs to somebody else, usually a section of a mapped
 * snapshot; what is appended stands in memory of its own, at addresses that were reserved for it. */
#ifndef SYNA_INDEX_ARRAY_H
#define SYNA_INDEX_ARRAY_H

#include "base/status.h"

struct array {
    size_t item;         /* bytes of an item */
    uint8_t *head;       /* items [0, head_count), borrowed; stores are allowed */
    size_t head_count;
    uint8_t *tail;       /* item head_count on; starts on a page boundary */
    size_t cap;          /* items that have memory, the head's included */
    size_t used;         /* the most that were reserved */
    size_t reserved;     /* bytes of address space behind `tail` */
};

/* `max` items at most; memory is used as they come. An array of zeros is a valid empty one for
 * array_dispose only. */
syna_rc array_init(struct array *a, size_t item, size_t max);
/* The same with a beginning: `count` items at `head`, which stay valid until array_dispose. */
syna_rc array_init_head(struct array *a, size_t item, size_t max, void *head, size_t count);
void array_dispose(struct array *a);

/* Memory for items [0, count), new ones zeroed. Grows by at least an eighth. */
syna_rc array_reserve(struct array *a, size_t count);

static inline void *array_at(const struct array *a, size_t i)
{
    return i < a->head_count ? a->head + i * a->item : a->tail + (i - a->head_count) * a->item;
}

/* Items [0, count) into the section that was begun (array_file.c). */
struct snapshot_writer;
syna_rc array_save(const struct array *a, size_t count, struct snapshot_writer *writer);

/* Memory of its own: the system gives pages as they are touched, so the room behind the items that were reserved
 * counts only as far as huge pages may reach. */
uint64_t array_bytes(const struct array *a);

#endif
