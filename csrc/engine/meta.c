/* meta.c - the metadata of rows: their texts, and which of them stand in columns. */
#include "base/internal.h"

#include "engine/meta_core.h"

#define TEXT_MAX ((size_t)1 << 30)

syna_rc meta_new(struct meta **out)
{
    struct meta *meta = mem_zalloc(sizeof *meta);
    if (!meta)
        return syna_no_memory(sizeof *meta);
    columns_init(&meta->columns);
    *out = meta;
    return SYNA_SUCCESS;
}

void meta_free(struct meta *meta)
{
    if (!meta)
        return;
    texts_dispose(&meta->texts);
    columns_dispose(&meta->columns);
    buf_dispose(&meta->loose);
    mem_free(meta);
}

syna_rc meta_check(const char *json, size_t len)
{
    struct json j;
    size_t at = 0;
    const char *expected = "an object";
    if (len > TEXT_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metadata of %zu bytes, at most %zu fit", len, TEXT_MAX);
    json_begin(&j, json, len);
    if (json_peek(&j) == JSON_OBJECT && json_check(json, len, &at, &expected))
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "metadata is no JSON object: byte %zu: expected %s", at, expected);
}

/* ---------------------------------------------------------------- rows */

static bool reserve_loose(struct meta *meta, uint32_t top)
{
    size_t now = meta->loose.len, wanted = ((size_t)top + 63) / 64 * sizeof(uint64_t);
    if (wanted <= now)
        return true;
    uint8_t *words = buf_extend(&meta->loose, wanted - now);
    if (!words)
        return false;
    memset(words, 0, wanted - now);
    return true;
}

syna_rc meta_reserve(struct meta *meta, uint32_t top, size_t rows, size_t bytes)
{
    if (rows == 0)
        return SYNA_SUCCESS;
    if (!reserve_loose(meta, top) || !texts_reserve(&meta->texts, top, rows, bytes))
        return syna_no_memory(bytes);
    return SYNA_SUCCESS;
}

static bool is_loose(const struct meta *meta, uint32_t row)
{
    return meta_loose_word(meta, row / 64) >> row % 64 & 1;
}

static void set_loose(struct meta *meta, uint32_t row, bool loose)
{
    uint64_t *words = (uint64_t *)(void *)meta->loose.bytes, bit = 1ull << row % 64;
    words[row / 64] = loose ? words[row / 64] | bit : words[row / 64] & ~bit;
}

/* Its fields go into columns, or have to be read from its text. */
static void add_columns(struct meta *meta, uint32_t row)
{
    const struct row_text *text = texts_row(&meta->texts, row);
    set_loose(meta, row, !columns_add(&meta->columns, row, text->text, text->len));
}

static void drop_columns(struct meta *meta, uint32_t row)
{
    const struct row_text *text = texts_row(&meta->texts, row);
    if (text && text->text && !is_loose(meta, row))
        columns_drop(&meta->columns, row, text->text, text->len);
}

syna_rc meta_set(struct meta *meta, uint32_t row, const char *json, size_t len)
{
    if (!json) {
        meta_clear(meta, row);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(meta_reserve(meta, row + 1, 1, len));
    drop_columns(meta, row);
    texts_set(&meta->texts, row, json, len); /* there is room */
    add_columns(meta, row);
    return SYNA_SUCCESS;
}

void meta_clear(struct meta *meta, uint32_t row)
{
    drop_columns(meta, row);
    if (meta->loose.len > row / 64 * sizeof(uint64_t))
        set_loose(meta, row, false);
    texts_clear(&meta->texts, row);
}

void meta_move(struct meta *meta, uint32_t from, uint32_t to)
{
    const struct row_text *text = texts_row(&meta->texts, from);
    if (from == to || !text || !text->text)
        return;
    drop_columns(meta, from);
    set_loose(meta, from, false);
    texts_move(&meta->texts, from, to);
    add_columns(meta, to);
}

const char *meta_text(const struct meta *meta, uint32_t row, size_t *len)
{
    const struct row_text *text = texts_row(&meta->texts, row);
    *len = text && text->text ? text->len : 0;
    return text ? text->text : NULL;
}

uint64_t meta_bytes(const struct meta *meta)
{
    if (!meta)
        return 0;
    return sizeof *meta + texts_memory(&meta->texts) + columns_memory(&meta->columns) +
           meta->loose.cap;
}
