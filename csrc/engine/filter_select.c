/* filter_select.c - a filter over columns: chunk by chunk, a bit for every row.
 *
 * A chunk's cells are matched type by type, 64 of them at a time by the kernels of math/bits.h where a
 * comparison tells. What strings match is looked up once for each string that occurs, not once a row. */
#include "base/internal.h"

#include "engine/filter_core.h"
#include "math/bits.h"
#include "math/distance.h"

#define FEW_NUMBERS 16u /* are compared one after the other, more are looked up */

/* What one leaf means in these columns. */
struct reading {
    const struct column *column; /* NULL: no row has the field */
    uint8_t *known; /* for each string of the dictionary: 0 not asked yet, 1 no, 2 yes */
};
struct selection {
    const struct meta *meta;
    const struct bits_kernels *bits;
    struct reading *readings; /* of each leaf */
    uint32_t leaves;
};
struct found {
    uint64_t words[CHUNK_WORDS];
};

/* ---------------------------------------------------------------- cells of one type */

/* 64 places of a chunk, those beyond its last without a cell. */
struct places_64 {
    const uint64_t *words;
    const uint8_t *kinds;
    uint64_t padded_words[64];
    uint8_t padded_kinds[64];
};

static inline void take_64(const struct chunk *chunk, uint32_t start, struct places_64 *out)
{
    out->words = chunk->words + start;
    out->kinds = chunk->kinds + start;
    uint32_t count = chunk->cap - start;
    if (count >= 64)
        return;
    memset(out->padded_kinds, CELL_NONE, sizeof out->padded_kinds);
    memset(out->padded_words, 0, sizeof out->padded_words);
    memcpy(out->padded_kinds, out->kinds, count);
    memcpy(out->padded_words, out->words, count * sizeof *out->words);
    out->words = out->padded_words;
    out->kinds = out->padded_kinds;
}

/* For each 64 places of a chunk those of the type of which MATCH, 64 bits worked out from `words`, holds.
 * No branch depends on a row: nothing could foresee which way it goes. */
#define EACH_64(TYPE, MATCH)                                                            \
    for (uint32_t start = 0; start < chunk->cap; start += 64) {                         \
        struct places_64 some;                                                          \
        take_64(chunk, start, &some);                                                   \
        const uint64_t *words = some.words;                                             \
        (void)words;                                                                    \
        places->words[start / 64] |= bits->bytes_equal(some.kinds, (TYPE)) & (MATCH);   \
    }

/* The same place by place, where MATCH of a `word` takes more than a comparison. */
#define EACH_PLACE(TYPE, MATCH)                                              \
    for (uint32_t start = 0; start < chunk->cap; start += 64) {              \
        uint64_t found = 0;                                                  \
        uint32_t count = MIN(chunk->cap - start, 64u);                       \
        for (uint32_t i = 0; i < count; i++) {                               \
            uint64_t word = chunk->words[start + i];                         \
            bool hit = chunk->kinds[start + i] == (TYPE) && (MATCH);         \
            found |= (uint64_t)hit << i;                                     \
        }                                                                    \
        places->words[start / 64] |= found;                                  \
    }

static inline double as_double(uint64_t word)
{
    double d;
    memcpy(&d, &word, sizeof d);
    return d;
}

/* Those of 64 integers that match by the limits or are one of a few. */
static uint64_t ints_among(const struct bits_kernels *bits, const struct leaf *leaf,
                           const uint64_t *words)
{
    const int64_t *single = (const int64_t *)(const void *)leaf->ints.single.bytes;
    uint64_t low = (uint64_t)leaf->ints.low, span = (uint64_t)leaf->ints.high - low;
    uint64_t found = leaf->ints.low <= leaf->ints.high ? bits->words_within(words, low, span) : 0;
    size_t singles = leaf->ints.single.len / sizeof *single;
    for (size_t i = 0; singles > 1 && i < singles; i++) /* a single one is the limits, too */
        found |= bits->words_within(words, (uint64_t)single[i], 0);
    return found;
}

static void match_ints(const struct bits_kernels *bits, const struct leaf *leaf,
                       const struct chunk *chunk, struct found *places)
{
    size_t singles = leaf->ints.single.len / sizeof(int64_t);
    if (singles > FEW_NUMBERS)
        EACH_PLACE(CELL_INT, leaf_int(leaf, (int64_t)word))
    else if (singles > 1 || leaf->ints.low <= leaf->ints.high)
        EACH_64(CELL_INT, ints_among(bits, leaf, words))
}

static void match_floats(const struct bits_kernels *bits, const struct leaf *leaf,
                         const struct chunk *chunk, struct found *places)
{
    double low = leaf->floats.low, high = leaf->floats.high;
    if (leaf->floats.single.len > sizeof low)
        EACH_PLACE(CELL_FLOAT, leaf_float(leaf, as_double(word)))
    else if (low <= high)
        EACH_64(CELL_FLOAT, bits->doubles_within(words, low, high))
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
    const struct bits_kernels *bits = s->bits;
    if (one_string(leaf)) {
        const struct text_span *only = (const struct text_span *)(const void *)leaf->strings.bytes;
        uint32_t number = dict_find(&s->meta->columns.strings, only->bytes, only->len);
        EACH_64(CELL_STRING, bits->words_within(words, number, 0))
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
    const struct bits_kernels *bits = s->bits;
    uint32_t types = chunk->types;
    if (leaf->ask == ASK_EXISTS) {
        EACH_64(CELL_NONE, ~0ull)
        for (uint32_t i = 0; i < CHUNK_WORDS; i++)
            places->words[i] = ~places->words[i];
        return true;
    }
    if (types & 1u << CELL_LIST)
        match_lists(s, leaf, chunk, places);
    if (leaf->ask != ASK_CONTAINS) { /* which is asked of lists and strings only */
        if (types & 1u << CELL_INT)
            match_ints(bits, leaf, chunk, places);
        if (types & 1u << CELL_FLOAT)
            match_floats(bits, leaf, chunk, places);
        if (leaf->null && types & 1u << CELL_NULL)
            EACH_64(CELL_NULL, ~0ull)
        if (leaf->bools && types & 1u << CELL_BOOL)
            EACH_64(CELL_BOOL, bits->words_within(words, leaf->bools == 2, leaf->bools == 3))
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
    struct selection s = {.meta = meta, .bits = kernels_get()->bits, .leaves = filter->leaves};
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
