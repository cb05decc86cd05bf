/* Columns that are filled row by row and handed out as Arrow arrays: memory, offsets and bits of
 * validity as the C data interface wants them. What it knows of databases is in arrow_stream.c. */
#ifndef SYNA_ENGINE_ARROW_H
#define SYNA_ENGINE_ARROW_H

#include "base/status.h"
#include "base/vec.h"
#include <synadb/arrow.h>

enum arrow_kind {
    ARROW_NULLS,
    ARROW_FLOAT64,
    ARROW_INT64,
    ARROW_TIME,  /* int64 microseconds, UTC */
    ARROW_TEXT,
    ARROW_BYTES,
    ARROW_FLOATS, /* lists of float32; of one length when `fixed` is not 0 */
};

/* One column without children but that of a list. Start with zeros, kind and fixed filled in. Rows
 * between the last one added and the row added next are nulls. */
struct arrow_leaf {
    enum arrow_kind kind;
    uint32_t fixed;
    uint64_t rows, nulls;
    uint64_t items; /* ARROW_FLOATS: in all lists */
    struct buf valid; /* a bit per row; empty as long as there was no null */
    struct buf offsets, data;
};

/* Make the leaf `rows` long, with nulls. */
syna_rc arrow_pad(struct arrow_leaf *leaf, uint64_t rows);
/* Add rows behind the last: 64-bit values, or one row of bytes. */
syna_rc arrow_add_words(struct arrow_leaf *leaf, const uint64_t *words, size_t count);
syna_rc arrow_add_bytes(struct arrow_leaf *leaf, const void *bytes, size_t len);
/* The same bytes as `count` rows; for kinds with offsets, not for lists. */
syna_rc arrow_repeat_bytes(struct arrow_leaf *leaf, const void *bytes, size_t len, size_t count);
size_t arrow_bytes(const struct arrow_leaf *leaf); /* held by it */
void arrow_leaf_dispose(struct arrow_leaf *leaf);

/* Hand the leaf out as an array; it is empty afterwards. On failure it is as it was. */
syna_rc arrow_take(struct arrow_leaf *leaf, struct ArrowArray *out);
/* An array of `count` children without nulls of its own (a batch, a struct). The children are moved
 * into it, on failure too: then they are released. */
syna_rc arrow_struct(struct ArrowArray *children, size_t count, uint64_t rows, struct ArrowArray *out);

/* The schema of a leaf, and of a struct, whose children are moved as above. Names are copied. */
syna_rc arrow_leaf_schema(enum arrow_kind kind, uint32_t fixed, const char *name, bool nullable,
                          struct ArrowSchema *out);
syna_rc arrow_struct_schema(struct ArrowSchema *children, size_t count, const char *name,
                            struct ArrowSchema *out);

#endif
