/* filter_text.c - matching a row by its text: for rows and fields that columns do not hold. */
#include "base/internal.h"

#include "engine/filter_core.h"

#define PLAIN_MAX 512u /* longer strings are unescaped in memory of their own */

/* ---------------------------------------------------------------- finding the field */

/* Look for the field in an object; of several with this name *found is the last. */
static void find_field(struct json *j, const char *path, size_t len, struct json *found)
{
    struct json_string name;
    json_enter(j);
    while (json_next_member(j, &name)) {
        size_t used;
        bool object = json_peek(j) == JSON_OBJECT;
        if (!json_string_starts(&name, path, len, &used)) {
            json_skip(j);
            continue;
        }
        if (used == len)
            *found = *j;
        if (object && used < len && path[used] == '.')
            find_field(j, path + used + 1, len - used - 1, found);
        else
            json_skip(j);
    }
}

/* ---------------------------------------------------------------- one value */

static bool match_string(const struct leaf *leaf, struct json *j, bool element, bool *matches)
{
    struct json_string s;
    char room[PLAIN_MAX], *bytes = room;
    json_take_string(j, &s);
    if (!s.escaped) {
        *matches = leaf_string(leaf, s.raw, s.len, element);
        return true;
    }
    if (s.len > sizeof room && !(bytes = mem_alloc(s.len)))
        return false;
    *matches = leaf_string(leaf, bytes, json_unescape(&s, bytes), element);
    if (bytes != room)
        mem_free(bytes);
    return true;
}

static bool match_scalar(const struct leaf *leaf, struct json *j, bool element, bool *matches)
{
    struct json_number n;
    enum json_type type = json_peek(j);
    *matches = false;
    if (leaf->ask == ASK_CONTAINS && !element && type != JSON_STRING)
        return true; /* asked of a list or a string only */
    switch (type) {
    case JSON_STRING:
        return match_string(leaf, j, element, matches);
    case JSON_NUMBER:
        json_take_number(j, &n);
        *matches = n.is_int ? leaf_int(leaf, n.i) : leaf_float(leaf, n.d);
        return true;
    case JSON_NULL:
        *matches = leaf->null;
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *matches = leaf_bool(leaf, type == JSON_TRUE);
        break;
    default:
        break;
    }
    return json_skip(j);
}

static bool match_value(const struct leaf *leaf, struct json *j, bool *matches)
{
    *matches = leaf->ask == ASK_EXISTS;
    if (*matches)
        return true;
    if (json_peek(j) != JSON_LIST)
        return match_scalar(leaf, j, false, matches);
    json_enter(j);
    while (!*matches && json_next_item(j))
        if (!match_scalar(leaf, j, true, matches))
            return false;
    return true;
}

bool leaf_matches_text(const struct leaf *leaf, const char *text, size_t len, bool *matches)
{
    struct json j, found = {.start = NULL};
    bool field = false;
    if (text) {
        json_begin(&j, text, len);
        find_field(&j, leaf->path, leaf->path_len, &found);
        if (found.start && !match_value(leaf, &found, &field))
            return false;
    }
    *matches = field != leaf->negated;
    return true;
}

bool node_matches_text(const struct node *node, const char *text, size_t len, bool *matches)
{
    if (node->kind == NODE_LEAF)
        return leaf_matches_text(&node->leaf, text, len, matches);
    bool any = node->kind == NODE_ANY;
    *matches = !any;
    for (const struct node *child = node->child; child && *matches != any; child = child->next)
        if (!node_matches_text(child, text, len, matches))
            return false;
    if (node->kind == NODE_NOT)
        *matches = !*matches;
    return true;
}
