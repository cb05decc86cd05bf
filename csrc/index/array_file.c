/* array_file.c - an array as the bytes of a snapshot section. */
#include "base/internal.h"

#include "index/array.h"
#include "store/snapshot.h"

syna_rc array_save(const struct array *a, size_t count, struct snapshot_writer *writer)
{
    size_t head = MIN(count, a->head_count);
    if (head > 0)
        SYNA_TRY(snapshot_append(writer, a->head, head * a->item));
    if (count > head)
        SYNA_TRY(snapshot_append(writer, a->tail, (count - head) * a->item));
    return SYNA_SUCCESS;
}
