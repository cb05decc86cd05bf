/* run_json.c - a cursor over JSON text that checks while it skips. Nothing is built in memory: the few
 * fields that are wanted are found again each time, which for records of some hundred bytes costs less
 * than allocating would. */
#include "base/internal.h"

#include "base/utf8.h"
#include "engine/run_json.h"

#include <strings.h>

#define DEPTH_MAX 64

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind a backslash. */
static bool skip_escape(struct cursor *c)
{
    if (c->at == c->end)
        return false;
    char kind = *c->at++;
    if (kind != 'u')
        return strchr("\"\\/bfnrt", kind) != NULL && kind != 0;
    for (int i = 0; i < 4; i++, c->at++)
        if (c->at == c->end || !is_hex(*c->at))
            return false;
    return true;
}

static bool is_plain(const char *text, size_t len)
{
    bool plain = true;
    for (size_t i = 0; i < len; i++)
        plain &= (unsigned char)text[i] >= 0x20 && text[i] != '\\';
    return plain;
}

/* *inner: what is between the quotes. */
static bool skip_string(struct cursor *c, struct json_span *inner)
{
    if (!take(c, '"'))
        return false;
    inner->at = c->at;
    const char *quote = memchr(c->at, '"', (size_t)(c->end - c->at));
    if (quote && is_plain(c->at, (size_t)(quote - c->at)))
        c->at = quote; /* nearly always; the loop ends at once */
    while (c->at < c->end && *c->at != '"') {
        char byte = *c->at++;
        if ((unsigned char)byte < 0x20 || (byte == '\\' && !skip_escape(c)))
            return false;
    }
    inner->len = (size_t)(c->at - inner->at);
    return take(c, '"');
}

static bool skip_digits(struct cursor *c)
{
    const char *start = c->at;
    while (c->at < c->end && is_digit(*c->at))
        c->at++;
    return c->at > start;
}

static bool skip_number(struct cursor *c)
{
    if (c->at < c->end && *c->at == '-')
        c->at++;
    bool zero = c->at < c->end && *c->at == '0';
    const char *whole = c->at;
    if (!skip_digits(c) || (zero && c->at - whole > 1))
        return false;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!skip_digits(c))
            return false;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        return skip_digits(c);
    }
    return true;
}

static bool skip_word(struct cursor *c, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
        return false;
    c->at += len;
    return true;
}

static bool skip_value(struct cursor *c, int depth);

static bool skip_member(struct cursor *c, int depth)
{
    struct json_span name;
    return skip_string(c, &name) && take(c, ':') && skip_value(c, depth);
}

/* A list or an object, behind its opening bracket. */
static bool skip_items(struct cursor *c, char closing, int depth)
{
    if (take(c, closing))
        return true;
    do {
        if (closing == '}' ? !skip_member(c, depth) : !skip_value(c, depth))
            return false;
    } while (take(c, ','));
    return take(c, closing);
}

static bool skip_value(struct cursor *c, int depth)
{
    struct json_span inner;
    skip_space(c);
    if (c->at == c->end || depth > DEPTH_MAX)
        return false;
    switch (*c->at) {
    case '{':
        c->at++;
        return skip_items(c, '}', depth + 1);
    case '[':
        c->at++;
        return skip_items(c, ']', depth + 1);
    case '"':
        return skip_string(c, &inner);
    case 't':
        return skip_word(c, "true");
    case 'f':
        return skip_word(c, "false");
    case 'n':
        return skip_word(c, "null");
    default:
        return skip_number(c);
    }
}

bool json_valid(const char *text, size_t len)
{
    struct cursor c = {text, text + len};
    if (!utf8_valid(text, len) || !skip_value(&c, 0))
        return false;
    skip_space(&c);
    return c.at == c.end;
}

static bool begins_with(const char *text, size_t len, char first)
{
    struct cursor c = {text, text + len};
    return take(&c, first);
}

bool json_is_object(const char *text, size_t len)
{
    return begins_with(text, len, '{') && json_valid(text, len);
}

bool json_is_string_list(const char *text, size_t len)
{
    struct cursor c = {text, text + len};
    struct json_span inner;
    if (!json_valid(text, len) || !take(&c, '['))
        return false;
    if (take(&c, ']'))
        return true;
    do {
        if (!skip_string(&c, &inner))
            return false;
    } while (take(&c, ','));
    return take(&c, ']');
}

struct json_span json_field(const char *text, size_t len, const char *name)
{
    struct cursor c = {text, text + len};
    struct json_span key, none = {NULL, 0};
    size_t name_len = strlen(name);
    if (!take(&c, '{'))
        return none;
    while (skip_string(&c, &key) && take(&c, ':')) {
        skip_space(&c);
        const char *start = c.at;
        if (!skip_value(&c, 1))
            return none;
        if (key.len == name_len && memcmp(key.at, name, name_len) == 0)
            return (struct json_span){start, (size_t)(c.at - start)};
        if (!take(&c, ','))
            return none;
    }
    return none;
}

bool json_equals_word(struct json_span value, const char *word)
{
    size_t len = strlen(word);
    return value.at && value.len == len + 2 && value.at[0] == '"' &&
           strncasecmp(value.at + 1, word, len) == 0;
}

/* ---------------------------------------------------------------- writing */

bool json_add_text(struct buf *to, const char *text)
{
    return buf_append(to, text, strlen(text));
}

bool json_add_span(struct buf *to, struct json_span value, const char *otherwise)
{
    return value.at ? buf_append(to, value.at, value.len) : json_add_text(to, otherwise);
}

bool json_add_string(struct buf *to, const char *bytes, size_t len)
{
    bool enough = json_add_text(to, "\"");
    for (size_t i = 0; i < len && enough; i++) {
        char escaped[8];
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        enough = c == '"' || c == '\\' || c < 0x20 ? json_add_text(to, escaped)
                                                   : buf_append(to, &c, 1);
    }
    return enough && json_add_text(to, "\"");
}

bool json_add_time(struct buf *to, uint64_t time_us)
{
    char text[40];
    snprintf(text, sizeof text, "%llu.%06u", (unsigned long long)(time_us / 1000000),
             (unsigned)(time_us % 1000000));
    return json_add_text(to, text);
}
