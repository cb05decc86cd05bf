/* meta_merge.c - the fields of two objects as one, value by value as they are written. Names may be written
 * in several ways: they are compared by what they mean. */
#include "base/internal.h"

#include "base/json.h"
#include "engine/meta_merge.h"

static bool add_member(struct buf *to, const struct json_string *name, const char *value, size_t len)
{
    return (to->len == 1 || buf_append(to, ",", 1)) && buf_append(to, "\"", 1) &&
           buf_append(to, name->raw, name->len) && buf_append(to, "\":", 2) &&
           buf_append(to, value, len);
}

static bool same_name(const struct json_string *a, const struct json_string *b, struct buf *room)
{
    if (!a->escaped)
        return json_string_is(b, a->raw, a->len);
    room->len = 0;
    if (!buf_reserve(room, a->len))
        return false;
    return json_string_is(b, (const char *)room->bytes, json_unescape(a, (char *)room->bytes));
}

static bool has_member(const char *json, size_t len, const struct json_string *wanted, struct buf *room)
{
    struct json j;
    struct json_string name;
    json_begin(&j, json, len);
    json_enter(&j);
    while (json_next_member(&j, &name)) {
        if (same_name(&name, wanted, room))
            return true;
        json_skip(&j);
    }
    return false;
}

/* Append the members of an object, but those whose names another one has. */
static bool add_members(struct buf *to, const char *json, size_t len, const char *but, size_t but_len,
                        struct buf *room)
{
    struct json j;
    struct json_string name;
    bool enough = true;
    json_begin(&j, json, len);
    json_enter(&j);
    while (enough && json_next_member(&j, &name)) {
        const char *value = j.at;
        json_skip(&j);
        if (!but || !has_member(but, but_len, &name, room))
            enough = add_member(to, &name, value, (size_t)(j.at - value));
    }
    return enough;
}

syna_rc meta_merge(const char *old, size_t old_len, const char *json, size_t len, struct buf *out)
{
    struct buf room = {0};
    bool enough = buf_reserve(&room, len + old_len) && buf_append(out, "{", 1) &&
                  (!old || add_members(out, old, old_len, json, len, &room)) &&
                  add_members(out, json, len, NULL, 0, &room) && buf_append(out, "}", 1);
    buf_dispose(&room);
    return enough ? SYNA_SUCCESS : syna_no_memory(len + old_len);
}
