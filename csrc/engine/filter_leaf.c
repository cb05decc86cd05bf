/* filter_leaf.c - what a leaf asks of values of each type.
 *
 * Integers and floats compare exactly: a limit of one kind is turned into the outermost value of the
 * other kind that is still inside, so no comparison ever rounds. */
#include "base/internal.h"

#include "engine/filter_core.h"

#include <math.h>

#define TWO_63 9223372036854775808.0

/* ---------------------------------------------------------------- limits */

static int compare_int_double(int64_t i, double d)
{
    if (d >= TWO_63)
        return -1;
    if (d < -TWO_63)
        return 1;
    int64_t whole = (int64_t)d;
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static void limit_ints_by_int(struct int_range *range, enum order order, int64_t i)
{
    bool none = (order == ORDER_LT && i == INT64_MIN) || (order == ORDER_GT && i == INT64_MAX);
    if (none)
        *range = (struct int_range){.low = 1, .high = 0};
    else if (order == ORDER_LT || order == ORDER_LTE)
        *range = (struct int_range){.low = INT64_MIN, .high = i - (order == ORDER_LT)};
    else
        *range = (struct int_range){.low = i + (order == ORDER_GT), .high = INT64_MAX};
}

static void limit_ints_by_double(struct int_range *range, enum order order, double d)
{
    bool below = order == ORDER_LT || order == ORDER_LTE;
    double whole = below ? floor(d) : ceil(d);
    if (whole >= TWO_63 || whole < -TWO_63) { /* every integer is on one side of it */
        bool all = below ? whole > 0 : whole < 0;
        *range = all ? (struct int_range){.low = INT64_MIN, .high = INT64_MAX}
                     : (struct int_range){.low = 1, .high = 0};
        return;
    }
    bool itself = whole == d;
    enum order exact = below ? (itself ? order : ORDER_LTE) : (itself ? order : ORDER_GTE);
    limit_ints_by_int(range, exact, (int64_t)whole);
}

static void limit_floats(struct float_range *range, enum order order, const struct json_number *n)
{
    double d = n->d;
    int side = n->is_int ? compare_int_double(n->i, d) : 0; /* of the number as seen from d */
    *range = (struct float_range){.low = -INFINITY, .high = INFINITY};
    switch (order) {
    case ORDER_LT:
        range->high = side <= 0 ? nextafter(d, -INFINITY) : d;
        break;
    case ORDER_LTE:
        range->high = side < 0 ? nextafter(d, -INFINITY) : d;
        break;
    case ORDER_GT:
        range->low = side >= 0 ? nextafter(d, INFINITY) : d;
        break;
    case ORDER_GTE:
        range->low = side > 0 ? nextafter(d, INFINITY) : d;
        break;
    }
}

bool leaf_set_order(struct leaf *leaf, enum order order, const struct scalar *value)
{
    leaf->order = order;
    bool low = order == ORDER_LT || order == ORDER_LTE, same = order == ORDER_LTE || order == ORDER_GTE;
    switch (value->type) {
    case JSON_NUMBER:
        if (value->number.is_int)
            limit_ints_by_int(&leaf->ints, order, value->number.i);
        else
            limit_ints_by_double(&leaf->ints, order, value->number.d);
        limit_floats(&leaf->floats, order, &value->number);
        return true;
    case JSON_STRING:
        return buf_append(&leaf->strings, &value->string, sizeof value->string);
    case JSON_NULL:
        leaf->null = same;
        return true;
    default: /* false stands before true */
        leaf->bools = (uint8_t)((same ? 1u << (value->type == JSON_TRUE) : 0u) |
                                (low && value->type == JSON_TRUE ? 1u : 0u) |
                                (!low && value->type == JSON_FALSE ? 2u : 0u));
        return true;
    }
}

/* ---------------------------------------------------------------- single values */

static bool add_number(struct leaf *leaf, const struct json_number *n)
{
    double d = n->d;
    int64_t i = n->i;
    bool int_too = n->is_int, float_too = !n->is_int || compare_int_double(i, d) == 0;
    if (!n->is_int && d >= -TWO_63 && d < TWO_63 && floor(d) == d) {
        i = (int64_t)d;
        int_too = true;
    }
    return (!int_too || buf_append(&leaf->ints.single, &i, sizeof i)) &&
           (!float_too || buf_append(&leaf->floats.single, &d, sizeof d));
}

bool leaf_add_among(struct leaf *leaf, const struct scalar *value)
{
    switch (value->type) {
    case JSON_NUMBER:
        return add_number(leaf, &value->number);
    case JSON_STRING:
        return buf_append(&leaf->strings, &value->string, sizeof value->string);
    case JSON_NULL:
        leaf->null = true;
        return true;
    default:
        leaf->bools |= (uint8_t)(1u << (value->type == JSON_TRUE));
        return true;
    }
}

static int by_int(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

static int by_double(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int first = memcmp(a, b, MIN(a_len, b_len));
    return first ? first : a_len < b_len ? -1 : a_len > b_len;
}

static int by_bytes(const void *left, const void *right)
{
    const struct text_span *a = left, *b = right;
    return compare_bytes(a->bytes, a->len, b->bytes, b->len);
}

static void sort(struct buf *items, size_t size, int (*compare)(const void *, const void *))
{
    if (items->len > size)
        qsort(items->bytes, items->len / size, size, compare);
}

void leaf_sort(struct leaf *leaf)
{
    sort(&leaf->ints.single, sizeof(int64_t), by_int);
    sort(&leaf->floats.single, sizeof(double), by_double);
    sort(&leaf->strings, sizeof(struct text_span), by_bytes);
    if (leaf->ints.single.len == sizeof(int64_t)) /* one: a range of one */
        leaf->ints.low = leaf->ints.high = *(int64_t *)(void *)leaf->ints.single.bytes;
    if (leaf->floats.single.len == sizeof(double))
        leaf->floats.low = leaf->floats.high = *(double *)(void *)leaf->floats.single.bytes;
}

void leaf_init(struct leaf *leaf, enum ask ask)
{
    *leaf = (struct leaf){.ask = ask, .ints = {.low = 1}, .floats = {.low = 1}};
}

void leaf_dispose(struct leaf *leaf)
{
    struct text_span *strings = (struct text_span *)(void *)leaf->strings.bytes;
    for (size_t i = 0; i < leaf->strings.len / sizeof *strings; i++)
        mem_free((char *)(uintptr_t)strings[i].bytes);
    buf_dispose(&leaf->strings);
    buf_dispose(&leaf->ints.single);
    buf_dispose(&leaf->floats.single);
    mem_free(leaf->path);
}

/* ---------------------------------------------------------------- matching */

bool leaf_int(const struct leaf *leaf, int64_t value)
{
    const struct buf *single = &leaf->ints.single;
    if (value >= leaf->ints.low && value <= leaf->ints.high)
        return true;
    return single->len > sizeof value &&
           bsearch(&value, single->bytes, single->len / sizeof value, sizeof value, by_int);
}

bool leaf_float(const struct leaf *leaf, double value)
{
    const struct buf *single = &leaf->floats.single;
    if (value >= leaf->floats.low && value <= leaf->floats.high)
        return true;
    return single->len > sizeof value &&
           bsearch(&value, single->bytes, single->len / sizeof value, sizeof value, by_double);
}

static bool in_order(enum order order, int compared)
{
    switch (order) {
    case ORDER_LT:
        return compared < 0;
    case ORDER_LTE:
        return compared <= 0;
    case ORDER_GT:
        return compared > 0;
    default:
        return compared >= 0;
    }
}

bool leaf_string(const struct leaf *leaf, const char *bytes, size_t len, bool element)
{
    const struct text_span *strings = (const struct text_span *)(const void *)leaf->strings.bytes;
    size_t count = leaf->strings.len / sizeof *strings;
    struct text_span value = {bytes, len};
    if (count == 0)
        return false;
    if (leaf->ask == ASK_ORDER)
        return in_order(leaf->order, by_bytes(&value, strings));
    if (leaf->ask == ASK_CONTAINS && !element)
        return memmem(bytes, len, strings->bytes, strings->len) != NULL;
    return bsearch(&value, strings, count, sizeof *strings, by_bytes) != NULL;
}
