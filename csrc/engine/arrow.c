/* arrow.c - Arrow arrays and schemas out of growing buffers.
 *
 * An array handed out owns its buffers through private_data; nothing of it refers to the leaf, the
 * stream or the database. Whoever holds it calls release, from any thread; children that the holder has
 * moved out are marked by release == NULL, as the interface says, and left alone. */
#include "base/internal.h"

#include "engine/arrow.h"

#include "base/bytes.h"

/* What an array keeps: buffers, and its children with the pointers to them. */
struct kept {
    struct buf bufs[3];
    const void *pointers[3];
    struct ArrowArray **children;
    size_t count;
};

/* ---------------------------------------------------------------- filling */

static bool is_words(enum arrow_kind kind)
{
    return kind == ARROW_FLOAT64 || kind == ARROW_INT64 || kind == ARROW_TIME;
}

static bool has_offsets(const struct arrow_leaf *leaf)
{
    return leaf->kind == ARROW_TEXT || leaf->kind == ARROW_BYTES ||
           (leaf->kind == ARROW_FLOATS && leaf->fixed == 0);
}

/* Offset entries for `rows` more rows that all end here; the first row also needs where it starts. */
static bool end_rows(struct arrow_leaf *leaf, uint64_t rows, uint64_t at)
{
    size_t more = (size_t)rows + (leaf->offsets.len == 0);
    uint8_t *p = buf_extend(&leaf->offsets, more * sizeof(uint32_t));
    if (!p)
        return false;
    bool first = more > rows;
    if (first)
        store_u32(p, 0);
    for (size_t i = first; i < more; i++)
        store_u32(p + i * sizeof(uint32_t), (uint32_t)at);
    return true;
}

/* Bits of validity for rows [leaf->rows, rows). */
static bool mark(struct arrow_leaf *leaf, uint64_t rows, bool valid)
{
    size_t need = (size_t)(rows + 7) / 8;
    if (valid && leaf->nulls == 0)
        return true; /* no bitmap yet, none needed */
    size_t had = leaf->valid.len;
    if (need > had) {
        uint8_t *p = buf_extend(&leaf->valid, need - had);
        if (!p)
            return false;
        memset(p, 0, need - had);
    }
    uint64_t from = leaf->nulls == 0 ? 0 : leaf->rows; /* the first null: all before it are valid */
    uint64_t to = valid ? rows : leaf->rows;
    for (uint64_t i = from; i < to; i++)
        leaf->valid.bytes[i / 8] |= (uint8_t)(1u << (i % 8));
    return true;
}

/* `more` zeroed bytes, or float32 items, where nulls need room. */
static bool zeros(struct arrow_leaf *leaf, size_t bytes)
{
    uint8_t *p = buf_extend(&leaf->data, bytes);
    if (p)
        memset(p, 0, bytes);
    return p != NULL;
}

syna_rc arrow_pad(struct arrow_leaf *leaf, uint64_t rows)
{
    uint64_t more = rows - leaf->rows;
    if (more == 0)
        return SYNA_SUCCESS;
    size_t width = is_words(leaf->kind) ? sizeof(uint64_t) : (size_t)leaf->fixed * sizeof(float);
    uint64_t end = leaf->kind == ARROW_FLOATS ? leaf->items : leaf->data.len;
    bool ok = leaf->kind == ARROW_NULLS || mark(leaf, rows, false);
    ok = ok && (!has_offsets(leaf) || end_rows(leaf, more, end));
    ok = ok && (width == 0 || zeros(leaf, (size_t)more * width));
    if (!ok)
        return syna_no_memory((size_t)more);
    leaf->items += more * leaf->fixed;
    leaf->rows = rows;
    leaf->nulls += more;
    return SYNA_SUCCESS;
}

syna_rc arrow_add_words(struct arrow_leaf *leaf, const uint64_t *words, size_t count)
{
    if (!mark(leaf, leaf->rows + count, true) ||
        !buf_append(&leaf->data, words, count * sizeof *words))
        return syna_no_memory(count * sizeof *words);
    leaf->rows += count;
    return SYNA_SUCCESS;
}

syna_rc arrow_add_bytes(struct arrow_leaf *leaf, const void *bytes, size_t len)
{
    uint64_t items = leaf->kind == ARROW_FLOATS ? len / sizeof(float) : 0;
    uint64_t end = items ? leaf->items + items : leaf->data.len + len;
    if (end > INT32_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "a value of %zu bytes behind %zu; an Arrow column holds at most %d", len,
                         leaf->data.len, INT32_MAX);
    if (!mark(leaf, leaf->rows + 1, true) || (has_offsets(leaf) && !end_rows(leaf, 1, end)) ||
        !buf_append(&leaf->data, bytes, len))
        return syna_no_memory(len);
    leaf->rows++;
    leaf->items += items;
    return SYNA_SUCCESS;
}

syna_rc arrow_repeat_bytes(struct arrow_leaf *leaf, const void *bytes, size_t len, size_t count)
{
    size_t start = leaf->data.len;
    if (len > 0 && count > (INT32_MAX - start) / len)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%zu values of %zu bytes behind %zu; an Arrow column holds at most %d", count, len,
                         start, INT32_MAX);
    bool first = leaf->offsets.len == 0;
    if (!mark(leaf, leaf->rows + count, true) ||
        !buf_reserve(&leaf->offsets, (count + 1) * sizeof(uint32_t)) ||
        !buf_reserve(&leaf->data, count * len + 1))
        return syna_no_memory(count * len);
    if (first)
        end_rows(leaf, 0, 0);
    uint8_t *offsets = buf_extend(&leaf->offsets, count * sizeof(uint32_t));
    uint8_t *data = buf_extend(&leaf->data, count * len);
    for (size_t i = 0; i < count; i++)
        store_u32(offsets + i * sizeof(uint32_t), (uint32_t)(start + (i + 1) * len));
    /* What stands there already is copied behind itself, twice as much each time. */
    size_t done = MIN(len, count * len);
    memcpy(data, bytes, done);
    for (size_t part; done < count * len; done += part) {
        part = MIN(done, count * len - done);
        memcpy(data + done, data, part);
    }
    leaf->rows += count;
    return SYNA_SUCCESS;
}

size_t arrow_bytes(const struct arrow_leaf *leaf)
{
    return leaf->valid.len + leaf->offsets.len + leaf->data.len;
}

void arrow_leaf_dispose(struct arrow_leaf *leaf)
{
    buf_dispose(&leaf->valid);
    buf_dispose(&leaf->offsets);
    buf_dispose(&leaf->data);
    leaf->rows = leaf->nulls = leaf->items = 0;
}

/* ---------------------------------------------------------------- arrays */

static void release_array(struct ArrowArray *array)
{
    struct kept *k = array->private_data;
    for (size_t i = 0; i < k->count; i++) {
        if (k->children[i]->release)
            k->children[i]->release(k->children[i]);
        mem_free(k->children[i]);
    }
    for (size_t i = 0; i < COUNT_OF(k->bufs); i++)
        buf_dispose(&k->bufs[i]);
    mem_free(k->children);
    mem_free(k);
    array->release = NULL;
}

/* An array with room for `count` children, which are allocated and empty. */
static struct kept *array_new(struct ArrowArray *out, uint64_t rows, size_t count)
{
    struct kept *k = mem_zalloc(sizeof *k);
    if (!k)
        return NULL;
    k->children = count ? mem_zalloc(count * sizeof *k->children) : NULL;
    *out = (struct ArrowArray){.length = (int64_t)rows,
                               .buffers = k->pointers,
                               .children = k->children,
                               .n_children = (int64_t)count,
                               .release = release_array,
                               .private_data = k};
    bool ok = count == 0 || k->children;
    for (; ok && k->count < count; k->count += ok) {
        k->children[k->count] = mem_zalloc(sizeof(struct ArrowArray));
        ok = k->children[k->count] != NULL;
    }
    if (!ok) {
        release_array(out);
        return NULL;
    }
    return k;
}

static void give(struct kept *k, struct ArrowArray *array, struct buf *buf)
{
    size_t i = (size_t)array->n_buffers++;
    k->bufs[i] = *buf;
    k->pointers[i] = buf->bytes;
    memset(buf, 0, sizeof *buf);
}

/* The float32 items of lists: the one child of their array. */
static syna_rc items_array(struct arrow_leaf *leaf, struct ArrowArray *out)
{
    struct buf none = {0};
    struct kept *k = array_new(out, leaf->items, 0);
    if (!k)
        return syna_no_memory(sizeof *k);
    give(k, out, &none);
    give(k, out, &leaf->data);
    return SYNA_SUCCESS;
}

/* Readers may look at the first offset of a column without rows, and at data that is empty. */
static bool make_readable(struct arrow_leaf *leaf)
{
    return (!has_offsets(leaf) || leaf->offsets.len || end_rows(leaf, 0, 0)) &&
           buf_reserve(&leaf->data, 1);
}

syna_rc arrow_take(struct arrow_leaf *leaf, struct ArrowArray *out)
{
    bool lists = leaf->kind == ARROW_FLOATS;
    if (!make_readable(leaf))
        return syna_no_memory(1);
    struct kept *k = array_new(out, leaf->rows, lists);
    if (!k)
        return syna_no_memory(sizeof *k);
    if (lists) {
        syna_rc rc = items_array(leaf, out->children[0]);
        if (rc != SYNA_SUCCESS) {
            release_array(out);
            return rc;
        }
    }
    out->null_count = (int64_t)leaf->nulls;
    if (leaf->kind != ARROW_NULLS)
        give(k, out, &leaf->valid);
    if (has_offsets(leaf))
        give(k, out, &leaf->offsets);
    if (!lists && leaf->kind != ARROW_NULLS)
        give(k, out, &leaf->data);
    arrow_leaf_dispose(leaf);
    return SYNA_SUCCESS;
}

syna_rc arrow_struct(struct ArrowArray *children, size_t count, uint64_t rows, struct ArrowArray *out)
{
    struct kept *k = array_new(out, rows, count);
    for (size_t i = 0; i < count; i++) {
        if (k)
            *out->children[i] = children[i];
        else if (children[i].release)
            children[i].release(&children[i]);
        children[i].release = NULL;
    }
    if (!k)
        return syna_no_memory(sizeof *k);
    out->n_buffers = 1; /* the bits of validity, which are not needed */
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- schemas */

struct kept_schema {
    char format[24];
    struct ArrowSchema **children;
    size_t count;
    char name[]; /* with its NUL */
};

static void release_schema(struct ArrowSchema *schema)
{
    struct kept_schema *k = schema->private_data;
    for (size_t i = 0; i < k->count; i++) {
        if (k->children[i]->release)
            k->children[i]->release(k->children[i]);
        mem_free(k->children[i]);
    }
    mem_free(k->children);
    mem_free(k);
    schema->release = NULL;
}

static struct kept_schema *schema_new(struct ArrowSchema *out, const char *name, bool nullable,
                                      size_t count)
{
    size_t size = strlen(name) + 1;
    struct kept_schema *k = mem_zalloc(sizeof *k + size);
    if (!k)
        return NULL;
    memcpy(k->name, name, size);
    k->children = count ? mem_zalloc(count * sizeof *k->children) : NULL;
    *out = (struct ArrowSchema){.format = k->format,
                                .name = k->name,
                                .flags = nullable ? ARROW_FLAG_NULLABLE : 0,
                                .n_children = (int64_t)count,
                                .children = k->children,
                                .release = release_schema,
                                .private_data = k};
    bool ok = count == 0 || k->children;
    for (; ok && k->count < count; k->count += ok) {
        k->children[k->count] = mem_zalloc(sizeof(struct ArrowSchema));
        ok = k->children[k->count] != NULL;
    }
    if (!ok) {
        release_schema(out);
        return NULL;
    }
    return k;
}

static const char *format_of(enum arrow_kind kind)
{
    static const char *const formats[] = {[ARROW_NULLS] = "n",     [ARROW_FLOAT64] = "g",
                                          [ARROW_INT64] = "l",     [ARROW_TIME] = "tsu:UTC",
                                          [ARROW_TEXT] = "u",      [ARROW_BYTES] = "z",
                                          [ARROW_FLOATS] = "+l"};
    return formats[kind];
}

syna_rc arrow_leaf_schema(enum arrow_kind kind, uint32_t fixed, const char *name, bool nullable,
                          struct ArrowSchema *out)
{
    bool lists = kind == ARROW_FLOATS;
    struct kept_schema *k = schema_new(out, name, nullable, lists);
    if (!k)
        return syna_no_memory(sizeof *k);
    if (lists && fixed)
        snprintf(k->format, sizeof k->format, "+w:%u", fixed);
    else
        snprintf(k->format, sizeof k->format, "%s", format_of(kind));
    if (!lists)
        return SYNA_SUCCESS;
    struct kept_schema *item = schema_new(out->children[0], "item", true, 0);
    if (!item) {
        release_schema(out);
        return syna_no_memory(sizeof *item);
    }
    memcpy(item->format, "f", 2);
    return SYNA_SUCCESS;
}

syna_rc arrow_struct_schema(struct ArrowSchema *children, size_t count, const char *name,
                            struct ArrowSchema *out)
{
    struct kept_schema *k = schema_new(out, name, false, count);
    for (size_t i = 0; i < count; i++) {
        if (k)
            *out->children[i] = children[i];
        else if (children[i].release)
            children[i].release(&children[i]);
        children[i].release = NULL;
    }
    if (!k)
        return syna_no_memory(sizeof *k);
    memcpy(k->format, "+s", 3);
    return SYNA_SUCCESS;
}
