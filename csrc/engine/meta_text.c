/* meta_text.c - where the texts of rows stand. Each has its row's number before it, so that a block can be
 * gone through and its live texts moved. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/meta_core.h"

#define BLOCK_BYTES ((size_t)256 << 10)
#define HEAD_BYTES 8u /* u32 row, u32 length */

static struct text_block **block_at(const struct texts *texts, uint32_t number)
{
    return (struct text_block **)(void *)texts->blocks.bytes + number;
}

static size_t block_count(const struct texts *texts)
{
    return texts->blocks.len / sizeof(struct text_block *);
}

void texts_dispose(struct texts *texts)
{
    for (uint32_t i = 0; i < block_count(texts); i++)
        mem_free(*block_at(texts, i));
    buf_dispose(&texts->blocks);
    buf_dispose(&texts->rows);
    *texts = (struct texts){0};
}

uint64_t texts_memory(const struct texts *texts)
{
    return texts->bytes + texts->blocks.cap + texts->rows.cap;
}

/* ---------------------------------------------------------------- blocks */

static struct text_block *new_block(struct texts *texts, size_t room)
{
    uint32_t number = 0;
    while (number < block_count(texts) && *block_at(texts, number))
        number++;
    if (!buf_reserve(&texts->blocks, sizeof(struct text_block *)))
        return NULL;
    size_t cap = MAX(BLOCK_BYTES, room);
    struct text_block *block = mem_alloc(sizeof *block + cap);
    if (!block)
        return NULL;
    *block = (struct text_block){.number = number, .cap = cap};
    if (number == block_count(texts))
        texts->blocks.len += sizeof(struct text_block *);
    *block_at(texts, number) = block;
    texts->bytes += sizeof *block + cap;
    return block;
}

static void free_block(struct texts *texts, struct text_block *block)
{
    texts->bytes -= sizeof *block + block->cap;
    *block_at(texts, block->number) = NULL;
    mem_free(block);
}

/* *slot has room for so many bytes afterwards. */
static bool make_room(struct texts *texts, struct text_block **slot, size_t room)
{
    struct text_block *block = *slot;
    if (!block || block->cap - block->used < room)
        block = new_block(texts, room);
    if (!block)
        return false;
    *slot = block;
    return true;
}

static struct row_text put_text(struct text_block *block, uint32_t row, const char *text, size_t len)
{
    char *at = block->bytes + block->used;
    store_u32(at, row);
    store_u32(at + 4, (uint32_t)len);
    memcpy(at + HEAD_BYTES, text, len);
    block->used += HEAD_BYTES + len;
    return (struct row_text){at + HEAD_BYTES, (uint32_t)len, block->number};
}

/* Most of a block that takes no more texts is dead: give it back, or move what lives. */
static void tidy(struct texts *texts, struct text_block *block)
{
    if (block == texts->fresh || block == texts->moved || block->dead < block->cap / 2)
        return;
    size_t live = block->used - block->dead;
    if (live > 0 && !make_room(texts, &texts->moved, live))
        return; /* it stays as it is; nothing is lost but room */
    for (size_t at = 0; at < block->used;) {
        const char *text = block->bytes + at + HEAD_BYTES;
        uint32_t len = load_u32(text - 4);
        struct row_text *row = texts_row(texts, load_u32(text - HEAD_BYTES));
        if (row && row->text == text)
            *row = put_text(texts->moved, load_u32(text - HEAD_BYTES), text, len);
        at += HEAD_BYTES + len;
    }
    free_block(texts, block);
}

/* ---------------------------------------------------------------- rows */

static bool reserve_rows(struct texts *texts, uint32_t top)
{
    size_t now = texts_top(texts);
    if (top <= now)
        return true;
    size_t more = (top - now) * sizeof(struct row_text);
    uint8_t *rows = buf_extend(&texts->rows, more);
    if (!rows)
        return false;
    memset(rows, 0, more);
    return true;
}

bool texts_reserve(struct texts *texts, uint32_t top, size_t count, size_t bytes)
{
    struct text_block *old = texts->fresh;
    if (!reserve_rows(texts, top) || !make_room(texts, &texts->fresh, count * HEAD_BYTES + bytes))
        return false;
    if (old && old != texts->fresh)
        tidy(texts, old);
    return true;
}

static void kill_text(struct texts *texts, const struct row_text *row)
{
    if (!row->text)
        return;
    struct text_block *block = *block_at(texts, row->block);
    block->dead += HEAD_BYTES + row->len;
    tidy(texts, block);
}

bool texts_set(struct texts *texts, uint32_t row, const char *text, size_t len)
{
    if (!texts_reserve(texts, row + 1, 1, len))
        return false;
    struct row_text *place = texts_row(texts, row), old = *place;
    *place = put_text(texts->fresh, row, text, len);
    kill_text(texts, &old);
    return true;
}

void texts_clear(struct texts *texts, uint32_t row)
{
    struct row_text *place = texts_row(texts, row);
    if (!place)
        return;
    struct row_text old = *place;
    *place = (struct row_text){0};
    kill_text(texts, &old);
}

void texts_move(struct texts *texts, uint32_t from, uint32_t to)
{
    struct row_text *old = texts_row(texts, from);
    if (!old || !old->text)
        return;
    store_u32((char *)(uintptr_t)old->text - HEAD_BYTES, to);
    *texts_row(texts, to) = *old;
    *old = (struct row_text){0};
}
