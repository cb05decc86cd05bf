/* The JSON that the records of runs are: enough of RFC 8259 to check what callers pass, to find the
 * fields of an object and to write strings. Pure: text in, text out. */
#ifndef SYNA_ENGINE_RUN_JSON_H
#define SYNA_ENGINE_RUN_JSON_H

#include "base/vec.h"

/* A value inside a text that outlives it. */
struct json_span {
    const char *at; /* NULL: there is none */
    size_t len;
};

/* Is the text one JSON value, with nothing but space around it and at most 64 deep? */
bool json_valid(const char *text, size_t len);
bool json_is_object(const char *text, size_t len);
/* Is it a list of strings? */
bool json_is_string_list(const char *text, size_t len);

/* The value of a field of an object; the first one where a name occurs twice. Names are compared as
 * they are written, so `name` is one that needs no escapes. */
struct json_span json_field(const char *text, size_t len, const char *name);
/* Is the value this string, the case of ASCII letters left aside? */
bool json_equals_word(struct json_span value, const char *word);

/* Append; false = no memory. Bytes are valid UTF-8. */
bool json_add_text(struct buf *to, const char *text);
bool json_add_span(struct buf *to, struct json_span value, const char *otherwise);
bool json_add_string(struct buf *to, const char *bytes, size_t len);
/* Microseconds since 1970 as seconds with six decimals. */
bool json_add_time(struct buf *to, uint64_t time_us);

#endif
