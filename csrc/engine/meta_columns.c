/* meta_columns.c - fields of rows as typed cells in chunks. A cell holds one reference to its column's
 * name and, if it is a string, to that; a column without cells is gone. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/meta_core.h"

#define LISTED_MAX 192u /* cells that are listed by row; with more a chunk has a place for every row */
#define LISTED_FIRST 4u

void columns_init(struct columns *columns)
{
    *columns = (struct columns){0};
    dict_init(&columns->names);
    dict_init(&columns->strings);
}

static struct column *column_at(const struct columns *columns, uint32_t name)
{
    return (struct column *)(void *)columns->by_name.bytes + name;
}

static size_t column_top(const struct columns *columns)
{
    return columns->by_name.len / sizeof(struct column);
}

uint64_t columns_memory(const struct columns *columns)
{
    return dict_memory(&columns->names) + dict_memory(&columns->strings) + columns->by_name.cap +
           columns->path.cap + columns->bytes;
}

/* ---------------------------------------------------------------- cells */

static struct cell_list *list_of(uint64_t word)
{
    return (struct cell_list *)(uintptr_t)word;
}

static size_t list_bytes(const struct cell_list *list)
{
    return sizeof *list + list->count * sizeof list->cells[0];
}

static void release(struct columns *columns, uint64_t word, enum cell_type type)
{
    if (type == CELL_STRING)
        dict_give(&columns->strings, (uint32_t)word);
    if (type != CELL_LIST)
        return;
    struct cell_list *list = list_of(word);
    for (size_t i = 0; i < list->count; i++)
        release(columns, list->cells[i].word, list->cells[i].type);
    columns->bytes -= list_bytes(list);
    mem_free(list);
}

static bool string_cell(struct columns *columns, struct json *j, struct cell *out)
{
    struct json_string s;
    char bytes[CELL_STRING_MAX];
    json_take_string(j, &s);
    *out = (struct cell){.type = CELL_TEXT};
    if (s.len > CELL_STRING_MAX)
        return true;
    uint32_t number = dict_take(&columns->strings, bytes, json_unescape(&s, bytes));
    *out = (struct cell){number, CELL_STRING};
    return number != DICT_NONE;
}

static struct cell number_cell(struct json *j)
{
    struct json_number n;
    struct cell cell = {.type = CELL_FLOAT};
    json_take_number(j, &n);
    memcpy(&cell.word, &n.d, sizeof cell.word);
    return n.is_int ? (struct cell){(uint64_t)n.i, CELL_INT} : cell;
}

/* Take a value; of a list's element no more than that it is one when it is no scalar. */
static bool scalar_cell(struct columns *columns, struct json *j, struct cell *out)
{
    enum json_type type = json_peek(j);
    switch (type) {
    case JSON_STRING:
        return string_cell(columns, j, out);
    case JSON_NUMBER:
        *out = number_cell(j);
        return true;
    case JSON_LIST:
    case JSON_OBJECT:
        *out = (struct cell){.type = CELL_OBJECT};
        break;
    default:
        *out = (struct cell){type == JSON_TRUE, type == JSON_NULL ? CELL_NULL : CELL_BOOL};
    }
    json_skip(j);
    return true;
}

static bool list_items(struct columns *columns, struct json *j, struct cell_list *list, bool *in_text)
{
    json_enter(j);
    while (json_next_item(j)) {
        struct cell cell;
        if (!scalar_cell(columns, j, &cell))
            return false;
        *in_text |= cell.type == CELL_TEXT;
        list->cells[list->count++] = cell;
    }
    return true;
}

static size_t count_items(struct json j)
{
    size_t count = 0;
    json_enter(&j);
    for (; json_next_item(&j); count++)
        json_skip(&j);
    return count;
}

static bool list_cell(struct columns *columns, struct json *j, struct cell *out)
{
    struct cell_list *list = mem_alloc(sizeof *list + count_items(*j) * sizeof list->cells[0]);
    bool in_text = false;
    if (!list)
        return false;
    list->count = 0;
    bool enough = list_items(columns, j, list, &in_text);
    columns->bytes += list_bytes(list);
    *out = (struct cell){(uintptr_t)list, CELL_LIST};
    if (enough && !in_text)
        return true;
    release(columns, out->word, CELL_LIST);
    *out = (struct cell){.type = CELL_TEXT};
    return enough;
}

/* ---------------------------------------------------------------- chunks */

static size_t chunk_bytes(uint32_t cap)
{
    return cap * (sizeof(uint64_t) + sizeof(uint8_t) + (cap < CHUNK_ROWS ? sizeof(uint16_t) : 0));
}

static void set_places(struct chunk *chunk, uint64_t *block, uint32_t cap)
{
    chunk->cap = cap;
    chunk->words = block;
    chunk->rows = cap < CHUNK_ROWS ? (uint16_t *)(void *)(block + cap) : NULL;
    chunk->kinds = (uint8_t *)(block + cap) + (cap < CHUNK_ROWS ? cap * sizeof(uint16_t) : 0);
}

/* More places, or one for every row. */
static bool grow_chunk(struct columns *columns, struct chunk *chunk)
{
    struct chunk old = *chunk;
    uint32_t cap = MAX(LISTED_FIRST, old.cap * 2);
    if (cap > LISTED_MAX)
        cap = CHUNK_ROWS;
    uint64_t *block = mem_zalloc(chunk_bytes(cap));
    if (!block)
        return false;
    set_places(chunk, block, cap);
    for (uint32_t i = 0; i < old.count; i++) {
        uint32_t to = cap < CHUNK_ROWS ? i : old.rows[i];
        chunk->words[to] = old.words[i];
        chunk->kinds[to] = old.kinds[i];
        if (chunk->rows)
            chunk->rows[to] = old.rows[i];
    }
    columns->bytes += chunk_bytes(cap) - chunk_bytes(old.cap);
    mem_free(old.words);
    return true;
}

/* Where the row's cell stands or would be put. */
static uint32_t place_in(const struct chunk *chunk, uint32_t row, bool *there)
{
    if (!chunk->rows) {
        *there = chunk->cap > 0 && chunk->kinds[row] != CELL_NONE;
        return row;
    }
    uint32_t low = 0, high = chunk->count;
    if (high > 0 && chunk->rows[high - 1] < row)
        low = high; /* rows mostly come in their order */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (chunk->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    *there = low < chunk->count && chunk->rows[low] == row;
    return low;
}

/* Move the listed cells from `at` on by one place, up or down. */
static void shift_cells(struct chunk *chunk, uint32_t from, uint32_t to, uint32_t count)
{
    memmove(chunk->words + to, chunk->words + from, count * sizeof *chunk->words);
    memmove(chunk->rows + to, chunk->rows + from, count * sizeof *chunk->rows);
    memmove(chunk->kinds + to, chunk->kinds + from, count);
}

static bool put_cell(struct columns *columns, struct chunk *chunk, uint32_t row, struct cell cell)
{
    if ((chunk->rows || chunk->cap == 0) && chunk->count == chunk->cap &&
        !grow_chunk(columns, chunk))
        return false;
    bool there;
    uint32_t at = place_in(chunk, row, &there);
    if (chunk->rows) {
        shift_cells(chunk, at, at + 1, chunk->count - at);
        chunk->rows[at] = (uint16_t)row;
    }
    chunk->words[at] = cell.word;
    chunk->kinds[at] = (uint8_t)cell.type;
    chunk->types |= 1u << cell.type;
    chunk->count++;
    return true;
}

/* ---------------------------------------------------------------- columns */

static uint32_t chunk_place(const struct column *column, uint32_t number)
{
    uint32_t low = 0, high = column->count;
    if (number < high && column->chunks[number].number == number)
        return number; /* no chunk before it is missing */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (column->chunks[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct chunk *column_chunk(const struct column *column, uint32_t number)
{
    uint32_t at = chunk_place(column, number);
    return at < column->count && column->chunks[at].number == number ? &column->chunks[at] : NULL;
}

static struct chunk *make_chunk(struct columns *columns, struct column *column, uint32_t number)
{
    uint32_t at = chunk_place(column, number);
    if (at < column->count && column->chunks[at].number == number)
        return &column->chunks[at];
    if (column->count == column->cap) {
        uint32_t cap = column->cap + column->cap / 2 + 1;
        struct chunk *chunks = mem_resize(column->chunks, cap * sizeof *chunks);
        if (!chunks)
            return NULL;
        columns->bytes += (cap - column->cap) * sizeof *chunks;
        column->chunks = chunks;
        column->cap = cap;
    }
    memmove(column->chunks + at + 1, column->chunks + at,
            (column->count - at) * sizeof *column->chunks);
    column->chunks[at] = (struct chunk){.number = number};
    column->count++;
    return &column->chunks[at];
}

/* Give an empty chunk back, and what its column has when that is empty too. */
static void drop_if_empty(struct columns *columns, struct column *column, struct chunk *chunk)
{
    if (chunk->count > 0)
        return;
    columns->bytes -= chunk_bytes(chunk->cap);
    mem_free(chunk->words);
    column->count--;
    memmove(chunk, chunk + 1,
            (size_t)(column->chunks + column->count - chunk) * sizeof *chunk);
    if (column->count > 0)
        return;
    columns->bytes -= column->cap * sizeof *chunk;
    mem_free(column->chunks);
    *column = (struct column){0};
}

void columns_dispose(struct columns *columns)
{
    for (uint32_t i = 0; i < column_top(columns); i++) {
        struct column *column = column_at(columns, i);
        for (uint32_t c = 0; c < column->count; c++) {
            struct chunk *chunk = &column->chunks[c];
            for (uint32_t at = 0; at < chunk->cap; at++)
                if (chunk->kinds[at] == CELL_LIST)
                    release(columns, chunk->words[at], CELL_LIST);
            mem_free(chunk->words);
        }
        mem_free(column->chunks);
    }
    dict_dispose(&columns->names);
    dict_dispose(&columns->strings);
    buf_dispose(&columns->by_name);
    buf_dispose(&columns->path);
    columns_init(columns);
}

const struct column *columns_find(const struct columns *columns, const char *path, size_t len)
{
    uint32_t name = dict_find(&columns->names, path, len);
    return name == DICT_NONE ? NULL : column_at(columns, name);
}

/* Take the cell of a row out, if there is one, with its reference to the name. */
static void drop_cell(struct columns *columns, uint32_t name, uint32_t row)
{
    struct column *column = column_at(columns, name);
    struct chunk *chunk = (struct chunk *)(uintptr_t)column_chunk(column, row / CHUNK_ROWS);
    bool there = false;
    uint32_t at = chunk ? place_in(chunk, row % CHUNK_ROWS, &there) : 0;
    if (!there)
        return;
    release(columns, chunk->words[at], chunk->kinds[at]);
    chunk->count--;
    chunk->kinds[at] = CELL_NONE;
    if (chunk->rows) {
        shift_cells(chunk, at + 1, at, chunk->count - at);
        chunk->kinds[chunk->count] = CELL_NONE;
    }
    drop_if_empty(columns, column, chunk);
    dict_give(&columns->names, name);
}

/* A column for the number of a name that may be new. */
static struct column *make_column(struct columns *columns, uint32_t name)
{
    size_t now = column_top(columns);
    if (name < now)
        return column_at(columns, name);
    size_t more = (name + 1 - now) * sizeof(struct column);
    uint8_t *added = buf_extend(&columns->by_name, more);
    if (!added)
        return NULL;
    memset(added, 0, more);
    return column_at(columns, name);
}

/* The field named by columns->path is this cell, which is released when there is no memory. */
static bool set_cell(struct columns *columns, uint32_t row, struct cell cell)
{
    uint32_t name = dict_take(&columns->names, (const char *)columns->path.bytes, columns->path.len);
    struct column *column = name == DICT_NONE ? NULL : make_column(columns, name);
    struct chunk *chunk = NULL;
    if (column) {
        drop_cell(columns, name, row); /* of two fields of one name the later counts */
        chunk = make_chunk(columns, column, row / CHUNK_ROWS);
    }
    if (chunk && put_cell(columns, chunk, row % CHUNK_ROWS, cell))
        return true;
    if (chunk)
        drop_if_empty(columns, column, chunk);
    if (name != DICT_NONE)
        dict_give(&columns->names, name);
    release(columns, cell.word, cell.type);
    return false;
}

/* ---------------------------------------------------------------- rows */

/* Name the field below `parent`, the length of the name of the object that it is in. The buffer is as long
 * as the text, which is longer than any name in it. */
static void name_field(struct buf *path, size_t parent, bool nested, const struct json_string *name)
{
    path->len = parent;
    if (nested)
        path->bytes[path->len++] = '.';
    path->len += json_unescape(name, (char *)path->bytes + path->len);
}

static bool add_fields(struct columns *columns, uint32_t row, struct json *j, bool nested)
{
    struct json_string name;
    size_t parent = columns->path.len;
    json_enter(j);
    while (json_next_member(j, &name)) {
        struct cell cell = {.type = CELL_OBJECT};
        enum json_type type = json_peek(j);
        bool enough = true;
        name_field(&columns->path, parent, nested, &name);
        if (type == JSON_LIST)
            enough = list_cell(columns, j, &cell);
        else if (type != JSON_OBJECT)
            enough = scalar_cell(columns, j, &cell);
        if (!enough || !set_cell(columns, row, cell))
            return false;
        if (type == JSON_OBJECT && !add_fields(columns, row, j, true))
            return false;
    }
    return true;
}

static void drop_fields(struct columns *columns, uint32_t row, struct json *j, bool nested)
{
    struct json_string name;
    size_t parent = columns->path.len;
    json_enter(j);
    while (json_next_member(j, &name)) {
        name_field(&columns->path, parent, nested, &name);
        uint32_t number =
            dict_find(&columns->names, (const char *)columns->path.bytes, columns->path.len);
        if (number != DICT_NONE)
            drop_cell(columns, number, row);
        if (json_peek(j) == JSON_OBJECT)
            drop_fields(columns, row, j, true);
        else
            json_skip(j);
    }
}

void columns_drop(struct columns *columns, uint32_t row, const char *text, size_t len)
{
    struct json j;
    json_begin(&j, text, len);
    columns->path.len = 0;
    drop_fields(columns, row, &j, false);
}

bool columns_add(struct columns *columns, uint32_t row, const char *text, size_t len)
{
    struct json j;
    json_begin(&j, text, len);
    columns->path.len = 0;
    if (!buf_reserve(&columns->path, len))
        return false;
    if (add_fields(columns, row, &j, false))
        return true;
    columns_drop(columns, row, text, len);
    return false;
}
