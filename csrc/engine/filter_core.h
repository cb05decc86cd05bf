/* The inside of filters; for the filter*.c files only. A filter is a tree whose leaves ask something of
 * one field; a leaf is worked out in advance into what an integer, a float, a string, ... must be, so
 * that a cell is matched by a comparison or two. */
#ifndef SYNA_ENGINE_FILTER_CORE_H
#define SYNA_ENGINE_FILTER_CORE_H

#include "engine/meta_core.h"

enum ask {
    ASK_EXISTS,
    ASK_AMONG,    /* $eq, $in */
    ASK_ORDER,    /* $lt, $lte, $gt, $gte */
    ASK_CONTAINS, /* $contains */
};
enum order { ORDER_LT, ORDER_LTE, ORDER_GT, ORDER_GTE };

struct text_span {
    const char *bytes;
    size_t len;
};

/* Numbers of one type: those between the limits (none when low > high), and single ones, ascending. */
struct int_range {
    int64_t low, high;
    struct buf single;
};
struct float_range {
    double low, high;
    struct buf single;
};

struct leaf {
    char *path;
    size_t path_len;
    uint32_t number; /* of the leaf in its filter */
    enum ask ask;
    bool negated; /* what does not match matches, rows without the field included */
    bool null;
    uint8_t bools; /* 1 << false | 1 << true */
    enum order order;
    struct int_range ints;
    struct float_range floats;
    struct buf strings; /* struct text_span[]: sorted; one for ORDER and CONTAINS */
};

enum node_kind { NODE_ALL, NODE_ANY, NODE_NOT, NODE_LEAF };
struct node {
    enum node_kind kind;
    struct node *child, *next;
    struct leaf leaf;
};
struct filter {
    struct node *root;
    uint32_t leaves;
};

/* ---- filter_leaf.c: does a value match, negation left aside? */
bool leaf_int(const struct leaf *leaf, int64_t value);
bool leaf_float(const struct leaf *leaf, double value);
/* element: of a list, of which $contains asks for equality. */
bool leaf_string(const struct leaf *leaf, const char *bytes, size_t len, bool element);
static inline bool leaf_bool(const struct leaf *leaf, bool value)
{
    return leaf->bools >> value & 1;
}

/* The operands, which the parser gives; false = no memory. */
struct scalar {
    enum json_type type;
    struct json_number number;
    struct text_span string; /* copied */
};
bool leaf_add_among(struct leaf *leaf, const struct scalar *value); /* then leaf_sort */
void leaf_sort(struct leaf *leaf);
bool leaf_set_order(struct leaf *leaf, enum order order, const struct scalar *value);
void leaf_init(struct leaf *leaf, enum ask ask);
void leaf_dispose(struct leaf *leaf);

/* ---- filter_text.c */
/* Does the leaf (or the node) match a row by its text, which may be NULL? false: no memory. */
bool leaf_matches_text(const struct leaf *leaf, const char *text, size_t len, bool *matches);
bool node_matches_text(const struct node *node, const char *text, size_t len, bool *matches);

#endif
