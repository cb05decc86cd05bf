/* The inside of metadata; for the meta*.c and filter*.c files only.
 *
 * A row's text is kept as it was given. Beside it its fields stand in columns: a column is cut into
 * chunks of 1,024 rows, of which those exist that hold anything; a chunk lists its few cells by row,
 * or has a place for every row once it holds many. Strings are numbers of a dictionary that all
 * columns share; names of columns are numbers of a second one.
 *
 * Columns are a help, the text is what counts: a row whose fields could not be put into columns for
 * want of memory is `loose`, and is matched by reading its text. So once the text of a row has its
 * place nothing can fail any more, and a row's texts are all that meta_reserve makes room for. */
#ifndef SYNA_ENGINE_META_CORE_H
#define SYNA_ENGINE_META_CORE_H

#include "base/json.h"
#include "engine/meta.h"

/* ---------------------------------------------------------------- meta_dict.c */

/* Strings with numbers. A number is good until its last reference is given back. */
#define DICT_NONE UINT32_MAX
struct dict_word {
    char *bytes; /* NULL: the number is free, `len` is the next free one */
    uint32_t len, refs;
    uint64_t hash;
};
struct dict {
    struct buf words; /* struct dict_word[] */
    uint32_t *places; /* numbers by hash, DICT_NONE = free */
    size_t place_count, used;
    uint32_t next_free;
    uint64_t bytes; /* of the strings */
};
void dict_init(struct dict *dict);
void dict_dispose(struct dict *dict);
/* The number of a string, which gets one reference more; DICT_NONE = no memory. */
uint32_t dict_take(struct dict *dict, const char *bytes, size_t len);
void dict_give(struct dict *dict, uint32_t number);
uint32_t dict_find(const struct dict *dict, const char *bytes, size_t len);
static inline struct dict_word *dict_at(const struct dict *dict, uint32_t number)
{
    return (struct dict_word *)(void *)dict->words.bytes + number;
}
static inline size_t dict_top(const struct dict *dict) /* every number is below it */
{
    return dict->words.len / sizeof(struct dict_word);
}
uint64_t dict_memory(const struct dict *dict);

/* ---------------------------------------------------------------- meta_columns.c */

#define CHUNK_ROWS 1024u
#define CHUNK_WORDS (CHUNK_ROWS / 64)
#define CELL_STRING_MAX 255u /* longer strings stay in the text alone */

enum cell_type {
    CELL_NONE,
    CELL_NULL,
    CELL_BOOL,   /* word: 0 or 1 */
    CELL_INT,    /* int64 */
    CELL_FLOAT,  /* double */
    CELL_STRING, /* a number of the dictionary */
    CELL_LIST,   /* a struct cell_list * */
    CELL_OBJECT, /* or a list's element that is no scalar */
    CELL_TEXT,   /* to be looked up in the row's text */
};
struct cell {
    uint64_t word;
    enum cell_type type;
};
struct cell_list {
    size_t count;
    struct cell cells[];
};

struct chunk {
    uint32_t number; /* of rows [number * CHUNK_ROWS, ...) */
    uint32_t count;  /* cells in it */
    uint32_t cap;    /* places; CHUNK_ROWS = one for every row */
    uint32_t types;  /* 1 << cell_type of what it may hold */
    uint64_t *words;
    uint16_t *rows; /* ascending, within the chunk; NULL with a place for every row */
    uint8_t *kinds; /* cell_type; CELL_NONE in places without a cell */
};
struct column {
    struct chunk *chunks; /* ascending */
    uint32_t count, cap;
};
struct columns {
    struct dict names, strings;
    struct buf by_name; /* struct column[]: of each number of `names` */
    struct buf path;    /* the name of the field that is being looked at */
    uint64_t bytes;     /* of chunks and lists */
};

void columns_init(struct columns *columns);
void columns_dispose(struct columns *columns);
/* Put the fields of a row into columns, or take them out again; the text has passed meta_check. false =
 * no memory: none of them is in. Taking out what was put in cannot fail. */
bool columns_add(struct columns *columns, uint32_t row, const char *text, size_t len);
void columns_drop(struct columns *columns, uint32_t row, const char *text, size_t len);
/* The column of a field, NULL when no row has it. */
const struct column *columns_find(const struct columns *columns, const char *path, size_t len);
const struct chunk *column_chunk(const struct column *column, uint32_t number); /* NULL: empty */
uint64_t columns_memory(const struct columns *columns);

/* ---------------------------------------------------------------- meta_text.c */

/* Texts in blocks, so that many small ones cost little. A block of which most is dead is emptied into
 * others and given back. */
struct text_block {
    uint32_t number;
    size_t cap, used, dead;
    char bytes[];
};
struct row_text {
    const char *text; /* NULL: the row has none */
    uint32_t len;
    uint32_t block; /* its number */
};
struct texts {
    struct buf rows;   /* struct row_text[] */
    struct buf blocks; /* struct text_block *[]; NULL: the number is free */
    struct text_block *fresh; /* new texts go here */
    struct text_block *moved; /* texts of emptied blocks go here, never into room that was reserved */
    uint64_t bytes; /* of the blocks */
};
void texts_dispose(struct texts *texts);
/* Room for this many texts of rows below `top`, `bytes` together. false = no memory. */
bool texts_reserve(struct texts *texts, uint32_t top, size_t count, size_t bytes);
bool texts_set(struct texts *texts, uint32_t row, const char *text, size_t len);
void texts_clear(struct texts *texts, uint32_t row);
void texts_move(struct texts *texts, uint32_t from, uint32_t to);
static inline size_t texts_top(const struct texts *texts)
{
    return texts->rows.len / sizeof(struct row_text);
}
static inline struct row_text *texts_row(const struct texts *texts, uint32_t row)
{
    return row < texts_top(texts) ? (struct row_text *)(void *)texts->rows.bytes + row : NULL;
}
uint64_t texts_memory(const struct texts *texts);

/* ---------------------------------------------------------------- meta.c */

struct meta {
    struct texts texts;
    struct columns columns;
    struct buf loose; /* uint64 words, one bit a row: its fields are not in columns */
};

static inline uint64_t meta_loose_word(const struct meta *meta, size_t word)
{
    return word < meta->loose.len / sizeof(uint64_t)
               ? ((const uint64_t *)(const void *)meta->loose.bytes)[word]
               : 0;
}

#endif
