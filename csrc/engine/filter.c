/* filter.c - filters from JSON text to trees. */
#include "base/internal.h"

#include "base/utf8.h"
#include "engine/filter_core.h"

struct parser {
    struct json j;
    struct filter *filter;
    const char *why; /* what is wrong though the JSON is sound; NULL: out of memory, or the JSON is not */
    const char *where;
    struct json_string name; /* that `why` speaks of; raw NULL: of none */
};

static bool refuse(struct parser *p, const char *why, const struct json_string *name)
{
    if (!p->why && !p->j.expected) {
        p->why = why;
        p->where = p->j.at;
        if (name)
            p->name = *name;
    }
    return false;
}

/* ---------------------------------------------------------------- nodes */

static struct node *new_node(enum node_kind kind)
{
    struct node *node = mem_zalloc(sizeof *node);
    if (node)
        node->kind = kind;
    return node;
}

static void free_nodes(struct node *node)
{
    while (node) {
        struct node *next = node->next;
        free_nodes(node->child);
        if (node->kind == NODE_LEAF)
            leaf_dispose(&node->leaf);
        mem_free(node);
        node = next;
    }
}

static void add_child(struct node *parent, struct node *child)
{
    child->next = parent->child;
    parent->child = child;
}

/* ---------------------------------------------------------------- operands */

static bool take_scalar(struct parser *p, struct scalar *out)
{
    struct json_string s;
    *out = (struct scalar){.type = json_peek(&p->j)};
    switch (out->type) {
    case JSON_NUMBER:
        return json_take_number(&p->j, &out->number);
    case JSON_STRING:
        if (!json_take_string(&p->j, &s))
            return false;
        out->string.bytes = mem_alloc(s.len);
        if (out->string.bytes)
            out->string.len = json_unescape(&s, (char *)(uintptr_t)out->string.bytes);
        return out->string.bytes != NULL;
    case JSON_LIST:
    case JSON_OBJECT:
        return refuse(p, "expected a string, a number, true, false or null to compare with", NULL);
    default:
        return json_skip(&p->j);
    }
}

/* The leaf owns the string of a scalar once that is added. */
static bool keep(bool added, struct scalar *value)
{
    if (!added)
        mem_free((char *)(uintptr_t)value->string.bytes);
    return added;
}

static bool among_one(struct parser *p, struct leaf *leaf)
{
    struct scalar value;
    return take_scalar(p, &value) && keep(leaf_add_among(leaf, &value), &value);
}

static bool among_list(struct parser *p, struct leaf *leaf)
{
    if (json_peek(&p->j) != JSON_LIST)
        return refuse(p, "expected a list of values", NULL);
    json_enter(&p->j);
    while (json_next_item(&p->j))
        if (!among_one(p, leaf))
            return false;
    return !p->j.expected;
}

static bool ordered(struct parser *p, struct leaf *leaf, enum order order)
{
    struct scalar value;
    return take_scalar(p, &value) && keep(leaf_set_order(leaf, order, &value), &value);
}

static bool exists(struct parser *p, struct leaf *leaf)
{
    enum json_type type = json_peek(&p->j);
    if (type != JSON_TRUE && type != JSON_FALSE)
        return refuse(p, "expected true or false", NULL);
    leaf->negated = type == JSON_FALSE;
    return json_skip(&p->j);
}

/* ---------------------------------------------------------------- leaves */

static const struct operator {
    const char *name;
    enum ask ask;
    bool negated, list;
    enum order order;
} operators[] = {
    {"$eq", ASK_AMONG, false, false, 0},          {"$ne", ASK_AMONG, true, false, 0},
    {"$in", ASK_AMONG, false, true, 0},           {"$nin", ASK_AMONG, true, true, 0},
    {"$lt", ASK_ORDER, false, false, ORDER_LT},   {"$lte", ASK_ORDER, false, false, ORDER_LTE},
    {"$gt", ASK_ORDER, false, false, ORDER_GT},   {"$gte", ASK_ORDER, false, false, ORDER_GTE},
    {"$exists", ASK_EXISTS, false, false, 0},     {"$contains", ASK_CONTAINS, false, false, 0},
};

static const struct operator *operator_named(const struct json_string *name)
{
    for (size_t i = 0; i < COUNT_OF(operators); i++)
        if (json_string_is(name, operators[i].name, strlen(operators[i].name)))
            return &operators[i];
    return NULL;
}

static bool take_operand(struct parser *p, const struct operator *op, struct leaf *leaf)
{
    leaf->negated = op->negated;
    if (op->ask == ASK_EXISTS)
        return exists(p, leaf);
    if (op->ask == ASK_ORDER)
        return ordered(p, leaf, op->order);
    bool sound = op->list ? among_list(p, leaf) : among_one(p, leaf);
    leaf_sort(leaf);
    return sound;
}

static bool add_leaf(struct parser *p, struct node *parent, const struct json_string *field,
                     const struct operator *op)
{
    struct node *node = new_node(NODE_LEAF);
    if (!node)
        return false;
    leaf_init(&node->leaf, op->ask);
    add_child(parent, node);
    node->leaf.number = p->filter->leaves++;
    node->leaf.path = mem_alloc(field->len);
    if (!node->leaf.path)
        return false;
    node->leaf.path_len = json_unescape(field, node->leaf.path);
    return take_operand(p, op, &node->leaf);
}

/* {"$lt": 3, ...}: all of them. */
static bool add_operators(struct parser *p, struct node *parent, const struct json_string *field)
{
    struct json_string name;
    bool some = false;
    json_enter(&p->j);
    for (; json_next_member(&p->j, &name); some = true) {
        const struct operator *op = operator_named(&name);
        if (!op)
            return refuse(p,
                          "unknown operator, expected $eq $ne $lt $lte $gt $gte $in $nin $exists or "
                          "$contains",
                          &name);
        if (!add_leaf(p, parent, field, op))
            return false;
    }
    return !p->j.expected && (some || refuse(p, "expected an operator for the field", field));
}

static bool add_field(struct parser *p, struct node *parent, const struct json_string *field)
{
    if (json_peek(&p->j) == JSON_OBJECT)
        return add_operators(p, parent, field);
    return add_leaf(p, parent, field, &operators[0]);
}

/* ---------------------------------------------------------------- trees */

static bool add_object(struct parser *p, struct node *parent);

static bool add_list(struct parser *p, struct node *parent)
{
    if (json_peek(&p->j) != JSON_LIST)
        return refuse(p, "expected a list of filters", NULL);
    json_enter(&p->j);
    while (json_next_item(&p->j))
        if (!add_object(p, parent))
            return false;
    return !p->j.expected;
}

static bool add_logic(struct parser *p, struct node *parent, const struct json_string *name)
{
    bool all = json_string_is(name, "$and", 4), any = json_string_is(name, "$or", 3);
    if (!all && !any && !json_string_is(name, "$not", 4))
        return refuse(p, "unknown operator, expected $and, $or or $not", name);
    struct node *node = new_node(all ? NODE_ALL : any ? NODE_ANY : NODE_NOT);
    if (!node)
        return false;
    add_child(parent, node);
    return all || any ? add_list(p, node) : add_object(p, node);
}

/* One object, all of whose fields must match, as one child of `parent`. */
static bool add_object(struct parser *p, struct node *parent)
{
    struct json_string name;
    struct node *node = new_node(NODE_ALL);
    if (!node)
        return false;
    add_child(parent, node);
    if (json_peek(&p->j) != JSON_OBJECT)
        return refuse(p, "expected a filter, an object", NULL);
    json_enter(&p->j);
    while (json_next_member(&p->j, &name)) {
        bool logic = name.len > 0 && name.raw[0] == '$';
        if (!(logic ? add_logic(p, node, &name) : add_field(p, node, &name)))
            return false;
    }
    return !p->j.expected;
}

static syna_rc fail(const struct parser *p, size_t len)
{
    if (p->j.expected)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "filter: byte %zu: expected %s",
                         (size_t)(p->j.at - p->j.start), p->j.expected);
    if (!p->why)
        return syna_no_memory(len);
    if (!p->name.raw)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "filter: byte %zu: %s",
                         (size_t)(p->where - p->j.start), p->why);
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "filter: byte %zu: \"%.*s\": %s",
                     (size_t)(p->name.raw - p->j.start), (int)MIN(p->name.len, (size_t)100),
                     p->name.raw, p->why);
}

static syna_rc check_utf8(const char *json, size_t len)
{
    if (utf8_valid(json, len))
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "filter: the text is not UTF-8");
}

syna_rc filter_parse(const char *json, size_t len, struct filter **out)
{
    struct parser p = {.filter = mem_zalloc(sizeof *p.filter)};
    if (!p.filter || !(p.filter->root = new_node(NODE_ALL))) {
        mem_free(p.filter);
        return syna_no_memory(sizeof *p.filter);
    }
    json_begin(&p.j, json, len);
    syna_rc rc = check_utf8(json, len);
    if (rc == SYNA_SUCCESS && (!add_object(&p, p.filter->root) || !json_at_end(&p.j)))
        rc = fail(&p, len);
    if (rc != SYNA_SUCCESS) {
        filter_free(p.filter);
        return rc;
    }
    *out = p.filter;
    return SYNA_SUCCESS;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    free_nodes(filter->root);
    mem_free(filter);
}
