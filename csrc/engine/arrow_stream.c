/* arrow_stream.c - from walked records to batches.
 *
 * A batch is a struct of the columns asked for. `value` is one leaf when one type was asked for,
 * otherwise a struct of a leaf per type: each row adds to the leaf of its type only, and the others are
 * padded with nulls when they are next touched, or at the end of the batch.
 *
 * An error ends the stream: what was read before it has been handed out in whole batches. */
#include "base/internal.h"

#include "engine/arrow_stream.h"

#include "engine/arrow.h"

#define BATCH_ROWS 65536u
#define BATCH_BYTES ((size_t)8 << 20)

/* The leaves in the order of the columns; those behind FIRST_VALUE are fields of the struct `value`. */
enum leaf_place {
    LEAF_KEY,
    LEAF_TYPE,
    LEAF_TIME,
    LEAF_EXPIRES,
    LEAF_FLOAT, /* or the only value column, whatever its type */
    LEAF_INT,
    LEAF_TEXT,
    LEAF_BYTES,
    LEAF_VECTOR,
    LEAF_PACKED,
    LEAVES,
};
#define FIRST_VALUE LEAF_FLOAT
#define TYPE_DELETED (SYNA_TYPE_BLOB + 1)

struct layout {
    int32_t type;
    uint32_t columns, dimensions;
};

struct stream {
    struct layout layout;
    syna_records *records;
    struct record_run run; /* what did not fit into the last batch */
    size_t used;           /* of its records */
    uint64_t rows, batch_rows;
    struct arrow_leaf leaves[LEAVES];
    bool ended;
    struct status_record error;
};

static const char *const type_names[] = {"null",   "float",  "int",  "text",   "bytes",
                                         "vector", "packed", "blob", "deleted"};

static bool has(const struct layout *l, uint32_t column)
{
    return (l->columns & column) != 0;
}

static enum arrow_kind kind_of_type(int32_t type)
{
    switch (type) {
    case SYNA_TYPE_NULL:
        return ARROW_NULLS;
    case SYNA_TYPE_FLOAT:
        return ARROW_FLOAT64;
    case SYNA_TYPE_INT:
        return ARROW_INT64;
    case SYNA_TYPE_TEXT:
        return ARROW_TEXT;
    case SYNA_TYPE_VECTOR:
        return ARROW_FLOATS;
    default:
        return ARROW_BYTES;
    }
}

/* Where values of a type stand in a struct; LEAVES = in none. */
static enum leaf_place place_of_type(int32_t type)
{
    static const enum leaf_place places[] = {
        [SYNA_TYPE_NULL] = LEAVES,        [SYNA_TYPE_FLOAT] = LEAF_FLOAT,
        [SYNA_TYPE_INT] = LEAF_INT,       [SYNA_TYPE_TEXT] = LEAF_TEXT,
        [SYNA_TYPE_BYTES] = LEAF_BYTES,   [SYNA_TYPE_VECTOR] = LEAF_VECTOR,
        [SYNA_TYPE_PACKED] = LEAF_PACKED, [SYNA_TYPE_BLOB] = LEAF_BYTES};
    return places[type];
}

static syna_rc layout_of(const syna_records_options *o, struct layout *l)
{
    l->type = o->type;
    l->columns = o->columns ? o->columns : SYNA_COLUMNS_ALL;
    l->dimensions = o->dimensions;
    if (l->columns & ~SYNA_COLUMNS_ALL)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "columns 0x%x, expected bits of 0x%x",
                         l->columns, SYNA_COLUMNS_ALL);
    if (l->dimensions && (l->type != SYNA_TYPE_VECTOR || l->dimensions > UINT16_MAX))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%u dimensions with type %d; only vectors have dimensions, at most 65535",
                         l->dimensions, l->type);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the schema */

static syna_rc value_struct_schema(struct ArrowSchema *out)
{
    static const int32_t types[] = {SYNA_TYPE_FLOAT, SYNA_TYPE_INT,    SYNA_TYPE_TEXT,
                                    SYNA_TYPE_BYTES, SYNA_TYPE_VECTOR, SYNA_TYPE_PACKED};
    struct ArrowSchema fields[COUNT_OF(types)] = {0};
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < COUNT_OF(types); i++)
        rc = arrow_leaf_schema(kind_of_type(types[i]), 0, type_names[types[i]], true, &fields[i]);
    if (rc == SYNA_SUCCESS)
        return arrow_struct_schema(fields, COUNT_OF(types), "value", out);
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (fields[i].release)
            fields[i].release(&fields[i]);
    return rc;
}

static syna_rc value_schema(const struct layout *l, struct ArrowSchema *out)
{
    if (l->type == SYNA_TYPE_ANY)
        return value_struct_schema(out);
    return arrow_leaf_schema(kind_of_type(l->type), l->dimensions, "value", l->type == SYNA_TYPE_NULL,
                             out);
}

static syna_rc schema_of(const struct layout *l, struct ArrowSchema *out)
{
    struct ArrowSchema columns[5] = {0};
    size_t n = 0;
    syna_rc rc = SYNA_SUCCESS;
    if (has(l, SYNA_COLUMN_KEY))
        rc = arrow_leaf_schema(ARROW_TEXT, 0, "key", false, &columns[n++]);
    if (rc == SYNA_SUCCESS && has(l, SYNA_COLUMN_TYPE))
        rc = arrow_leaf_schema(ARROW_TEXT, 0, "type", false, &columns[n++]);
    if (rc == SYNA_SUCCESS && has(l, SYNA_COLUMN_TIME))
        rc = arrow_leaf_schema(ARROW_TIME, 0, "time", false, &columns[n++]);
    if (rc == SYNA_SUCCESS && has(l, SYNA_COLUMN_EXPIRES))
        rc = arrow_leaf_schema(ARROW_TIME, 0, "expires", true, &columns[n++]);
    if (rc == SYNA_SUCCESS && has(l, SYNA_COLUMN_VALUE))
        rc = value_schema(l, &columns[n++]);
    if (rc == SYNA_SUCCESS)
        return arrow_struct_schema(columns, n, "", out);
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        if (columns[i].release)
            columns[i].release(&columns[i]);
    return rc;
}

syna_rc arrow_stream_schema(const syna_records_options *options, struct ArrowSchema *out)
{
    struct layout l;
    SYNA_TRY(layout_of(options, &l));
    return schema_of(&l, out);
}

/* ---------------------------------------------------------------- rows */

static void start_leaves(struct stream *s)
{
    static const enum arrow_kind kinds[LEAVES] = {
        [LEAF_KEY] = ARROW_TEXT,      [LEAF_TYPE] = ARROW_TEXT,   [LEAF_TIME] = ARROW_TIME,
        [LEAF_EXPIRES] = ARROW_TIME,  [LEAF_FLOAT] = ARROW_FLOAT64, [LEAF_INT] = ARROW_INT64,
        [LEAF_TEXT] = ARROW_TEXT,     [LEAF_BYTES] = ARROW_BYTES, [LEAF_VECTOR] = ARROW_FLOATS,
        [LEAF_PACKED] = ARROW_BYTES};
    for (size_t i = 0; i < LEAVES; i++)
        s->leaves[i] = (struct arrow_leaf){.kind = kinds[i]};
    if (s->layout.type != SYNA_TYPE_ANY) {
        s->leaves[FIRST_VALUE].kind = kind_of_type(s->layout.type);
        s->leaves[FIRST_VALUE].fixed = s->layout.dimensions;
    }
    s->rows = 0;
}

/* The value of one record into its leaf, or the values of a run. */
static syna_rc add_values(struct stream *s, const syna_record *record, const uint64_t *bits, size_t count)
{
    bool any = s->layout.type == SYNA_TYPE_ANY;
    if (any && record->deleted)
        return SYNA_SUCCESS;
    enum leaf_place place = any ? place_of_type(record->type) : FIRST_VALUE;
    if (place == LEAVES)
        return SYNA_SUCCESS;
    struct arrow_leaf *leaf = &s->leaves[place];
    if (leaf->fixed && record->len != leaf->fixed * sizeof(float))
        return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                         "key '%.*s' holds a vector of %zu dimensions, expected %u",
                         (int)MIN(record->key_len, (size_t)200), record->key,
                         record->len / sizeof(float), leaf->fixed);
    if (record->len > INT32_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "key '%.*s' holds %zu bytes; an Arrow column holds at most %d",
                         (int)MIN(record->key_len, (size_t)200), record->key, record->len, INT32_MAX);
    if (leaf->kind == ARROW_NULLS)
        return arrow_pad(leaf, s->rows + count);
    SYNA_TRY(arrow_pad(leaf, s->rows));
    return leaf->kind == ARROW_FLOAT64 || leaf->kind == ARROW_INT64
               ? arrow_add_words(leaf, bits, count)
               : arrow_add_bytes(leaf, record->data, record->len);
}

/* `count` records out of the run, from `at` on. */
static syna_rc add_rows(struct stream *s, const struct record_run *run, size_t at, size_t count)
{
    const struct layout *l = &s->layout;
    const syna_record *record = &run->first;
    const char *name = type_names[record->deleted ? TYPE_DELETED : record->type];
    const uint64_t *bits = run->count > 1 ? run->bits + at : record->data;
    const uint64_t *times = run->count > 1 ? run->times + at : &record->time_us;
    if (has(l, SYNA_COLUMN_KEY))
        SYNA_TRY(arrow_repeat_bytes(&s->leaves[LEAF_KEY], record->key, record->key_len, count));
    if (has(l, SYNA_COLUMN_TYPE))
        SYNA_TRY(arrow_repeat_bytes(&s->leaves[LEAF_TYPE], name, strlen(name), count));
    if (has(l, SYNA_COLUMN_TIME))
        SYNA_TRY(arrow_add_words(&s->leaves[LEAF_TIME], times, count));
    if (has(l, SYNA_COLUMN_EXPIRES) && record->expires_us) {
        SYNA_TRY(arrow_pad(&s->leaves[LEAF_EXPIRES], s->rows));
        SYNA_TRY(arrow_add_words(&s->leaves[LEAF_EXPIRES], &record->expires_us, 1));
    }
    if (has(l, SYNA_COLUMN_VALUE))
        SYNA_TRY(add_values(s, record, bits, count));
    s->rows += count;
    return SYNA_SUCCESS;
}

static size_t batch_bytes(const struct stream *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < LEAVES; i++)
        bytes += arrow_bytes(&s->leaves[i]);
    return bytes;
}

/* Would the record make the batch too large? Then it is the next one's first. */
static bool overflows(const struct stream *s)
{
    const syna_record *first = &s->run.first;
    return s->rows > 0 && first->len + first->key_len > BATCH_BYTES / 2 &&
           batch_bytes(s) + first->len + first->key_len > BATCH_BYTES;
}

static syna_rc fill(struct stream *s)
{
    start_leaves(s);
    while (s->rows < s->batch_rows && batch_bytes(s) < BATCH_BYTES) {
        if (s->used == s->run.count) {
            s->used = s->run.count = 0;
            syna_rc rc = records_next_run(s->records, &s->run);
            s->ended = rc == SYNA_ERR_KEY_NOT_FOUND;
            if (s->ended)
                return SYNA_SUCCESS;
            SYNA_TRY(rc);
        }
        if (overflows(s))
            return SYNA_SUCCESS;
        size_t count = MIN(s->run.count - s->used, (size_t)(s->batch_rows - s->rows));
        SYNA_TRY(add_rows(s, &s->run, s->used, count));
        s->used += count;
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- batches */

static syna_rc take_leaf(struct stream *s, enum leaf_place place, struct ArrowArray *out)
{
    SYNA_TRY(arrow_pad(&s->leaves[place], s->rows));
    return arrow_take(&s->leaves[place], out);
}

static void release_arrays(struct ArrowArray *arrays, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (arrays[i].release)
            arrays[i].release(&arrays[i]);
}

static syna_rc take_value(struct stream *s, struct ArrowArray *out)
{
    struct ArrowArray fields[LEAVES - FIRST_VALUE] = {0};
    if (s->layout.type != SYNA_TYPE_ANY)
        return take_leaf(s, FIRST_VALUE, out);
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < COUNT_OF(fields); i++)
        rc = take_leaf(s, FIRST_VALUE + (enum leaf_place)i, &fields[i]);
    if (rc == SYNA_SUCCESS)
        return arrow_struct(fields, COUNT_OF(fields), s->rows, out);
    release_arrays(fields, COUNT_OF(fields));
    return rc;
}

static syna_rc take_batch(struct stream *s, struct ArrowArray *out)
{
    struct ArrowArray columns[5] = {0};
    size_t n = 0;
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < FIRST_VALUE; i++)
        if (has(&s->layout, 1u << i))
            rc = take_leaf(s, (enum leaf_place)i, &columns[n++]);
    if (rc == SYNA_SUCCESS && has(&s->layout, SYNA_COLUMN_VALUE))
        rc = take_value(s, &columns[n++]);
    if (rc == SYNA_SUCCESS)
        return arrow_struct(columns, n, s->rows, out);
    release_arrays(columns, COUNT_OF(columns));
    return rc;
}

static syna_rc next_batch(struct stream *s, struct ArrowArray *out)
{
    out->release = NULL; /* the end of the stream */
    if (s->ended)
        return SYNA_SUCCESS;
    SYNA_TRY(fill(s));
    return s->rows ? take_batch(s, out) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the stream */

static void free_leaves(struct stream *s)
{
    for (size_t i = 0; i < LEAVES; i++)
        arrow_leaf_dispose(&s->leaves[i]);
}

/* The code of the interface for an error of ours, which is kept for get_last_error. */
static int note(struct stream *s, syna_rc rc)
{
    if (rc == SYNA_SUCCESS)
        return 0;
    s->error = *status_get();
    return s->error.reason == SYNA_WHY_NO_MEMORY ? ENOMEM
           : s->error.reason == SYNA_WHY_ARGUMENT || rc == SYNA_ERR_TYPE_MISMATCH ? EINVAL
                                                                                  : EIO;
}

static int stream_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
    struct stream *s = stream->private_data;
    return note(s, schema_of(&s->layout, out));
}

static int stream_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
    struct stream *s = stream->private_data;
    syna_rc rc = next_batch(s, out);
    free_leaves(s);
    if (rc != SYNA_SUCCESS)
        s->ended = true;
    return note(s, rc);
}

static const char *stream_error(struct ArrowArrayStream *stream)
{
    const struct stream *s = stream->private_data;
    return s->error.message[0] ? s->error.message : NULL;
}

static void stream_release(struct ArrowArrayStream *stream)
{
    struct stream *s = stream->private_data;
    records_free(s->records);
    free_leaves(s);
    mem_free(s);
    stream->release = NULL;
}

syna_rc arrow_stream(syna_db *db, const syna_records_options *options, struct ArrowArrayStream *out)
{
    struct layout l;
    SYNA_TRY(layout_of(options, &l));
    struct stream *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->layout = l;
    s->batch_rows = options->batch_rows ? options->batch_rows : BATCH_ROWS;
    syna_rc rc = records_new(db, options, &s->records);
    if (rc != SYNA_SUCCESS) {
        mem_free(s);
        return rc;
    }
    if (!has(&l, SYNA_COLUMN_TIME))
        records_without_times(s->records);
    *out = (struct ArrowArrayStream){.get_schema = stream_schema,
                                     .get_next = stream_next,
                                     .get_last_error = stream_error,
                                     .release = stream_release,
                                     .private_data = s};
    return SYNA_SUCCESS;
}
