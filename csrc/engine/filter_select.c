/* filter_select.c - a filter over columns: chunk by chunk, a bit for every row.
 *
 * A chunk's cells are matched type by type, each by a loop that yields 64 bits at a time. What strings match is looked up once for each string that occurs, not once a row. */
#include "base/internal.h"

#include "engine/filter_core.h"

/* What one leaf means in these columns. */
struct reading {
    const struct column *column; /* NULL: no row has the field */
    uint8_t *known; /* for each string of the dictionary: 0 not asked yet, 1 no, 2 yes */
};
struct selection {
    const struct meta *meta;
    struct reading *readings; /* of each leaf */
    uint32_t leaves;
};
struct found {
    uint64_t words[CHUNK_WORDS];
};

/* ---------------------------------------------------------------- cells of one type */

/* For each place of a chunk whether MATCH holds of `word`; places beyond the last are not of the type. */
#define EACH_PLACE(TYPE, MATCH)                                              \
    for (uint32_t start = 0; start < chunk->cap; start += 64) {              \
        uint64_t bits = 0;                                                   \
        uint32_t count = MIN(chunk->cap - start, 64u);                       \
        for (uint32_t i = 0; i < count; i++) {                               \
            uint64_t word = chunk->words[start + i];                         \
            (void)word;                                                      \
            bool hit = chunk->kinds[start + i] == (TYPE) && (MATCH);         \
            bits |= (uint64_t)hit << i;                                      \
        }                                                                    \
        places->words[start / 64] |= bits;                                   \
    }

static inline double as_double(uint64_t word)
{
    double d;
    memcpy(&d, &word, sizeof d);
    return d;
}

static void match_ints(const struct leaf *leaf, const struct chunk *chunk, struct found *places)
{
    int64_t low = leaf->ints.low, high = leaf->ints.high;
    if (leaf->ints.single.len > sizeof low)
        EACH_PLACE(CELL_INT, leaf_int(leaf, (int64_t)word))
    else if (low <= high)
        EACH_PLACE(CELL_INT, (int64_t)word >= low && (int64_t)word <= high)
}

static void match_floats(const struct leaf *leaf, const struct chunk *chunk, struct found *places)
{
    double low = leaf->floats.low, high = leaf->floats.high;
    if (leaf->floats.single.len > sizeof low)
        EACH_PLACE(CELL_FLOAT, leaf_float(leaf, as_double(word)))
    else if (low <= high)
        EACH_PLACE(CELL_FLOAT, as_double(word) >= low && as_double(word) <= high)
}

static bool match_word(const struct selection *s, const struct leaf *leaf, uint32_t number)
{
    uint8_t *known = &s->readings[leaf->number].known[number];
    if (*known == 0) {
        const struct dict_word *word = dict_at(&s->meta->columns.strings, number);
        *known = leaf_string(leaf, word->bytes, word->len, false) ? 2 : 1;
    }
    return *known == 2;
}

static bool one_string(const struct leaf *leaf)
{
    return leaf->ask == ASK_AMONG && leaf->strings.len == sizeof(struct text_span);
}

static void match_strings(const struct selection *s, const struct leaf *leaf,
                          const struct chunk *chunk, struct found *places)
{
    if (one_string(leaf)) {
        const struct text_span *only = (const struct text_span *)(const void *)leaf->strings.bytes;
        uint32_t number = dict_find(&s->meta->columns.strings, only->bytes, only->len);
        EACH_PLACE(CELL_STRING, word == number)
    } else if (leaf->strings.len > 0) {
        EACH_PLACE(CELL_STRING, match_word(s, leaf, (uint32_t)word))
    }
}

static bool match_item(const struct selection *s, const struct leaf *leaf, struct cell cell)
{
    const struct dict_word *string;
    switch (cell.type) {
    case CELL_NULL:
        return leaf->null;
    case CELL_BOOL:
        return leaf_bool(leaf, cell.word);
    case CELL_INT:
        return leaf_int(leaf, (int64_t)cell.word);
    case CELL_FLOAT:
        return leaf_float(leaf, as_double(cell.word));
    case CELL_STRING:
        string = dict_at(&s->meta->columns.strings, (uint32_t)cell.word);
        return leaf_string(leaf, string->bytes, string->len, true);
    default:
        return false;
    }
}

static bool match_list(const struct selection *s, const struct leaf *leaf, uint64_t word)
{
    const struct cell_list *list = (const struct cell_list *)(uintptr_t)word;
    for (size_t i = 0; i < list->count; i++)
        if (match_item(s, leaf, list->cells[i]))
            return true;
    return false;
}

static void match_lists(const struct selection *s, const struct leaf *leaf,
                        const struct chunk *chunk, struct found *places)
{
    EACH_PLACE(CELL_LIST, match_list(s, leaf, word))
}

static uint32_t row_at(const struct chunk *chunk, uint32_t place)
{
    return chunk->number * CHUNK_ROWS + (chunk->rows ? chunk->rows[place] : place);
}

static bool match_texts(const struct selection *s, const struct leaf *leaf,
                        const struct chunk *chunk, struct found *places)
{
    for (uint32_t place = 0; place < chunk->cap; place++) {
        if (chunk->kinds[place] != CELL_TEXT)
            continue;
        size_t len;
        bool matches;
        const char *text = meta_text(s->meta, row_at(chunk, place), &len);
        if (!leaf_matches_text(leaf, text, len, &matches))
            return false;
        places->words[place / 64] |= (uint64_t)(matches != leaf->negated) << place % 64;
    }
    return true;
}

/* ---------------------------------------------------------------- a leaf */

static bool match_places(const struct selection *s, const struct leaf *leaf,
                         const struct chunk *chunk, struct found *places)
{
    uint32_t types = chunk->types;
    if (leaf->ask == ASK_EXISTS) {
        EACH_PLACE(CELL_NONE, true)
        for (uint32_t i = 0; i < CHUNK_WORDS; i++)
            places->words[i] = ~places->words[i];
        return true;
    }
    if (types & 1u << CELL_LIST)
        match_lists(s, leaf, chunk, places);
    if (leaf->ask != ASK_CONTAINS) { /* which is asked of lists and strings only */
        if (types & 1u << CELL_INT)
            match_ints(leaf, chunk, places);
        if (types & 1u << CELL_FLOAT)
            match_floats(leaf, chunk, places);
        if (leaf->null && types & 1u << CELL_NULL)
            EACH_PLACE(CELL_NULL, true)
        if (leaf->bools && types & 1u << CELL_BOOL)
            EACH_PLACE(CELL_BOOL, leaf->bools >> (word & 1) & 1)
    }
    if (types & 1u << CELL_STRING)
        match_strings(s, leaf, chunk, places);
    return !(types & 1u << CELL_TEXT) || match_texts(s, leaf, chunk, places);
}

/* Places to rows, where they are not the same. */
static void spread(const struct chunk *chunk, const struct found *places, struct found *rows)
{
    *rows = (struct found){{0}};
    for (uint32_t place = 0; place < chunk->count; place++)
        if (places->words[place / 64] >> place % 64 & 1)
            rows->words[chunk->rows[place] / 64] |= 1ull << chunk->rows[place] % 64;
}

static bool match_leaf(const struct selection *s, const struct leaf *leaf, uint32_t number,
                       struct found *out)
{
    const struct column *column = s->readings[leaf->number].column;
    const struct chunk *chunk = column ? column_chunk(column, number) : NULL;
    struct found places = {{0}};
    *out = places;
    if (chunk) {
        if (!match_places(s, leaf, chunk, &places))
            return false;
        if (chunk->rows)
            spread(chunk, &places, out);
        else
            *out = places;
    }
    for (uint32_t i = 0; leaf->negated && i < CHUNK_WORDS; i++)
        out->words[i] = ~out->words[i];
    return true;
}

/* ---------------------------------------------------------------- the tree */

static bool match_node(const struct selection *s, const struct node *node, uint32_t number,
                       struct found *out)
{
    if (node->kind == NODE_LEAF)
        return match_leaf(s, &node->leaf, number, out);
    bool any = node->kind == NODE_ANY;
    memset(out, any ? 0 : 0xff, sizeof *out);
    for (const struct node *child = node->child; child; child = child->next) {
        struct found one;
        if (!match_node(s, child, number, &one))
            return false;
        for (uint32_t i = 0; i < CHUNK_WORDS; i++)
            out->words[i] = any ? out->words[i] | one.words[i] : out->words[i] & one.words[i];
    }
    for (uint32_t i = 0; node->kind == NODE_NOT && i < CHUNK_WORDS; i++)
        out->words[i] = ~out->words[i];
    return true;
}

/* Rows whose fields are not in columns are matched by their texts. */
static bool match_loose(const struct selection *s, const struct node *root, uint32_t number,
                        struct found *out)
{
    for (uint32_t i = 0; i < CHUNK_WORDS; i++) {
        size_t word = (size_t)number * CHUNK_WORDS + i;
        for (uint64_t left = meta_loose_word(s->meta, word); left; left &= left - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(left);
            size_t len;
            bool matches;
            const char *text = meta_text(s->meta, (uint32_t)(word * 64 + bit), &len);
            if (!node_matches_text(root, text, len, &matches))
                return false;
            out->words[i] = (out->words[i] & ~(1ull << bit)) | (uint64_t)matches << bit;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- beginning and end */

static bool read_leaf(struct selection *s, const struct leaf *leaf)
{
    struct reading *reading = &s->readings[leaf->number];
    reading->column = columns_find(&s->meta->columns, leaf->path, leaf->path_len);
    if (!reading->column || leaf->strings.len == 0 || one_string(leaf))
        return true;
    reading->known = mem_zalloc(dict_top(&s->meta->columns.strings));
    return reading->known != NULL;
}

static bool read_leaves(struct selection *s, const struct node *node)
{
    if (node->kind == NODE_LEAF)
        return read_leaf(s, &node->leaf);
    for (const struct node *child = node->child; child; child = child->next)
        if (!read_leaves(s, child))
            return false;
    return true;
}

/* The words of one chunk, in which rows beyond the last are cleared. */
static uint64_t put_words(const struct found *found, uint32_t number, uint32_t rows,
                          const uint64_t *live, uint64_t *bits)
{
    uint64_t matches = 0;
    size_t first = (size_t)number * CHUNK_WORDS, words = ((size_t)rows + 63) / 64;
    for (size_t word = first; word < MIN(first + CHUNK_WORDS, words); word++) {
        uint64_t mask = word == rows / 64 ? (1ull << rows % 64) - 1 : ~0ull;
        bits[word] = found->words[word - first] & mask & (live ? live[word] : ~0ull);
        matches += (uint64_t)__builtin_popcountll(bits[word]);
    }
    return matches;
}

static bool select_rows(struct selection *s, const struct node *root, uint32_t rows,
                        const uint64_t *live, uint64_t *bits, uint64_t *matches)
{
    if (!read_leaves(s, root))
        return false;
    for (uint32_t number = 0; (uint64_t)number * CHUNK_ROWS < rows; number++) {
        struct found found;
        if (!match_node(s, root, number, &found) || !match_loose(s, root, number, &found))
            return false;
        *matches += put_words(&found, number, rows, live, bits);
    }
    return true;
}

syna_rc meta_select(const struct meta *meta, const struct filter *filter, uint32_t rows,
                    const uint64_t *live, uint64_t *bits, uint64_t *matches)
{
    struct selection s = {.meta = meta, .leaves = filter->leaves};
    *matches = 0;
    s.readings = mem_zalloc(filter->leaves * sizeof *s.readings);
    if (!s.readings)
        return syna_no_memory(filter->leaves * sizeof *s.readings);
    bool enough = select_rows(&s, filter->root, rows, live, bits, matches);
    for (uint32_t i = 0; i < s.leaves; i++)
        mem_free(s.readings[i].known);
    mem_free(s.readings);
    return enough ? SYNA_SUCCESS : syna_no_memory(dict_top(&meta->columns.strings));
}
