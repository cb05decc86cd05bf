/* JSON text (RFC 8259): a cursor that checks while it reads, and appending to a buffer. Nothing is
 * built in memory, numbers have a point for their decimals whatever the program's locale says.
 *
 * Strict: nothing but what the RFC allows, no unpaired surrogates, no number outside float64's range,
 * at most JSON_DEPTH_MAX lists and objects inside each other. UTF-8 is checked by json_check only. */
#ifndef SYNA_BASE_JSON_H
#define SYNA_BASE_JSON_H

#include "base/vec.h"

#define JSON_DEPTH_MAX 64

enum json_type {
    JSON_NOTHING, /* no value begins here; the cursor is wrong */
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_LIST,
    JSON_OBJECT,
};

/* A place in a text, which is borrowed. Once something is wrong, every call fails, `at` stays where it
 * was found and `expected` says what should have stood there. */
struct json {
    const char *start, *at, *end;
    const char *expected; /* NULL: sound so far */
    unsigned depth;
    bool first; /* just behind an opening bracket */
};

/* A string as it is written between its quotes. */
struct json_string {
    const char *raw;
    size_t len;
    bool escaped; /* there are backslashes in it */
};

struct json_number {
    bool is_int; /* written without point and exponent, and an int64 */
    int64_t i;
    double d; /* the nearest float64, always */
};

void json_begin(struct json *j, const char *text, size_t len);
/* The type of the value that comes next; it is not taken. */
enum json_type json_peek(struct json *j);
/* Take the next value. false: it is of another type, or not sound. */
bool json_take_string(struct json *j, struct json_string *out);
bool json_take_number(struct json *j, struct json_number *out);
bool json_skip(struct json *j); /* any value */
/* Enter a list or an object, then take a value after each true; false at its end or when wrong. */
bool json_enter(struct json *j);
bool json_next_item(struct json *j);
bool json_next_member(struct json *j, struct json_string *name);
/* Nothing but space is left. */
bool json_at_end(struct json *j);
/* Mark the text as wrong at this place; returns false. */
bool json_wrong(struct json *j, const char *expected);

/* Is this one JSON value in UTF-8? Otherwise *at is the byte and *expected what should stand there. */
bool json_check(const char *text, size_t len, size_t *at, const char **expected);

/* The bytes that a string of a sound text means; `out` has room for s->len of them. Returns how many. */
size_t json_unescape(const struct json_string *s, char *out);
/* Does it mean these bytes? Do the bytes that it means begin with it (json_string_starts: and is what
 * stands behind it in them *rest)? */
bool json_string_is(const struct json_string *s, const char *bytes, size_t len);
bool json_string_starts(const struct json_string *s, const char *bytes, size_t len, size_t *rest);

/* Append; false = no memory. Strings are valid UTF-8. */
bool json_put_text(struct buf *to, const char *text); /* as it is */
bool json_put_string(struct buf *to, const char *bytes, size_t len);
bool json_put_int(struct buf *to, int64_t value);
bool json_put_double(struct buf *to, double value); /* finite; the shortest text that reads back as it */

#endif
