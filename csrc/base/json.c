/* json.c - reading and writing JSON text.
 *
 * Numbers that fit 19 digits and a small power of ten are converted exactly with one multiplication or
 * division (Clinger 1990); others go through strtod, without a decimal point, so that no locale has a
 * say: "12.5e3" is handed over as "125e2". */
#include "base/internal.h"

#include "base/bytes.h"
#include "base/json.h"
#include "base/utf8.h"

#include <math.h>

#define EXACT_POWER 22      /* 10^22 is the largest power of ten that a float64 holds */
#define EXACT_DIGITS 53     /* bits of an integer that it holds */
#define DIGITS_KEPT 800     /* more cannot matter but by not being zero (Clinger: 767) */
#define EXPONENT_FAR 100000 /* beyond, a number is zero or out of range whatever its digits */

void json_begin(struct json *j, const char *text, size_t len)
{
    *j = (struct json){.start = text, .at = text, .end = text + len};
}

bool json_wrong(struct json *j, const char *expected)
{
    if (!j->expected)
        j->expected = expected;
    return false;
}

static void skip_space(struct json *j)
{
    while (j->at < j->end &&
           (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r'))
        j->at++;
}

static bool next_is(struct json *j, char wanted)
{
    skip_space(j);
    return j->at < j->end && *j->at == wanted;
}

/* ---------------------------------------------------------------- words */

static bool is_word(const struct json *j, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(j->end - j->at) >= len && memcmp(j->at, word, len) == 0;
}

enum json_type json_peek(struct json *j)
{
    if (j->expected)
        return JSON_NOTHING;
    skip_space(j);
    char c = j->at < j->end ? *j->at : '\0';
    if (c == '"')
        return JSON_STRING;
    if (c == '{')
        return JSON_OBJECT;
    if (c == '[')
        return JSON_LIST;
    if (c == '-' || (c >= '0' && c <= '9'))
        return JSON_NUMBER;
    if (c == 't' && is_word(j, "true"))
        return JSON_TRUE;
    if (c == 'f' && is_word(j, "false"))
        return JSON_FALSE;
    if (c == 'n' && is_word(j, "null"))
        return JSON_NULL;
    json_wrong(j, "a value");
    return JSON_NOTHING;
}

/* ---------------------------------------------------------------- strings */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits at `at`; -1 when they are none. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static bool is_high(int32_t unit)
{
    return unit >= 0xd800 && unit < 0xdc00;
}
static bool is_low(int32_t unit)
{
    return unit >= 0xdc00 && unit < 0xe000;
}

/* Behind "\u". */
static bool skip_code(struct json *j)
{
    int32_t unit = hex4(j->at, j->end);
    if (unit < 0)
        return json_wrong(j, "four hexadecimal digits");
    if (is_low(unit))
        return json_wrong(j, "no second half of a surrogate pair");
    j->at += 4;
    if (!is_high(unit))
        return true;
    if (j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u' || !is_low(hex4(j->at + 2, j->end)))
        return json_wrong(j, "the second half of a surrogate pair");
    j->at += 6;
    return true;
}

/* At a backslash. */
static bool skip_escape(struct json *j)
{
    if (j->end - j->at < 2)
        return json_wrong(j, "a character behind the backslash");
    char kind = j->at[1];
    if (kind == 'u') {
        j->at += 2;
        return skip_code(j);
    }
    if (kind == '\0' || !strchr("\"\\/bfnrt", kind))
        return json_wrong(j, "one of \" \\ / b f n r t u behind the backslash");
    j->at += 2;
    return true;
}

#define EACH_BYTE 0x0101010101010101ull
static uint64_t has_zero_byte(uint64_t v)
{
    return (v - EACH_BYTE) & ~v & 0x80 * EACH_BYTE;
}

/* Up to the next byte that means something in a string; eight at a time. */
static void skip_plain(struct json *j)
{
    while (j->end - j->at >= 8) {
        uint64_t v = load_u64(j->at);
        uint64_t control = (v - 0x20 * EACH_BYTE) & ~v & 0x80 * EACH_BYTE;
        if (control | has_zero_byte(v ^ '"' * EACH_BYTE) | has_zero_byte(v ^ '\\' * EACH_BYTE))
            break;
        j->at += 8;
    }
    while (j->at < j->end && *j->at != '"' && *j->at != '\\' && (unsigned char)*j->at >= 0x20)
        j->at++;
}

bool json_take_string(struct json *j, struct json_string *out)
{
    if (j->expected)
        return false;
    if (!next_is(j, '"'))
        return json_wrong(j, "a string");
    out->raw = ++j->at;
    out->escaped = false;
    for (;;) {
        skip_plain(j);
        if (j->at == j->end)
            return json_wrong(j, "the end of the string");
        if (*j->at == '"')
            break;
        if (*j->at != '\\')
            return json_wrong(j, "no control character in a string");
        out->escaped = true;
        if (!skip_escape(j))
            return false;
    }
    out->len = (size_t)(j->at - out->raw);
    j->at++;
    return true;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* What the escape at *at means; *at moves behind it. The text is sound. */
static size_t take_escape(const char **at, const char *end, char out[4])
{
    static const char kinds[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char kind = (*at)[1];
    if (kind != 'u') {
        *at += 2;
        out[0] = meant[strchr(kinds, kind) - kinds];
        return 1;
    }
    int32_t unit = hex4(*at + 2, end);
    *at += 6;
    if (!is_high(unit))
        return put_utf8(out, (uint32_t)unit);
    int32_t low = hex4(*at + 2, end);
    *at += 6;
    return put_utf8(out, 0x10000u + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
}

size_t json_unescape(const struct json_string *s, char *out)
{
    const char *at = s->raw, *end = s->raw + s->len;
    char *to = out;
    if (!s->escaped) {
        memcpy(out, s->raw, s->len);
        return s->len;
    }
    while (at < end) {
        const char *next = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((next ? next : end) - at);
        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (at < end)
            to += take_escape(&at, end, to);
    }
    return (size_t)(to - out);
}

bool json_string_starts(const struct json_string *s, const char *bytes, size_t len, size_t *rest)
{
    const char *at = s->raw, *end = s->raw + s->len;
    size_t used = 0;
    while (at < end) {
        char meant[4] = {*at};
        size_t count = 1;
        if (*at == '\\')
            count = take_escape(&at, end, meant);
        else
            at++;
        if (len - used < count || memcmp(bytes + used, meant, count) != 0)
            return false;
        used += count;
    }
    *rest = used;
    return true;
}

bool json_string_is(const struct json_string *s, const char *bytes, size_t len)
{
    size_t rest;
    if (!s->escaped)
        return s->len == len && memcmp(s->raw, bytes, len) == 0;
    return json_string_starts(s, bytes, len, &rest) && rest == len;
}

/* ---------------------------------------------------------------- numbers */

/* A number as it is written. */
struct digits {
    const char *text, *end;
    bool negative, whole; /* whole: no point, no exponent */
    uint64_t first;       /* the digits as one number, while they are at most 19 */
    size_t count;         /* of them, from the first that is not zero */
    int64_t power;        /* of ten, that `first` is to be multiplied by */
};

static bool is_digit(const struct json *j)
{
    return j->at < j->end && *j->at >= '0' && *j->at <= '9';
}

static bool take_digits(struct json *j, struct digits *d, bool fraction)
{
    if (!is_digit(j))
        return json_wrong(j, "a digit");
    for (; is_digit(j); j->at++) {
        uint64_t digit = (uint64_t)(*j->at - '0');
        if (d->count > 0 || digit)
            d->count++;
        if (d->count <= 19)
            d->first = d->first * 10 + digit;
        d->power -= fraction;
    }
    return true;
}

static bool take_exponent(struct json *j, struct digits *d)
{
    int64_t power = 0;
    bool negative = ++j->at < j->end && *j->at == '-';
    if (j->at < j->end && (*j->at == '-' || *j->at == '+'))
        j->at++;
    if (!is_digit(j))
        return json_wrong(j, "a digit of the exponent");
    for (; is_digit(j); j->at++)
        power = MIN(power * 10 + (*j->at - '0'), (int64_t)EXPONENT_FAR << 32);
    d->power += negative ? -power : power;
    return true;
}

static bool scan_number(struct json *j, struct digits *d)
{
    *d = (struct digits){.text = j->at, .whole = true};
    if (j->at < j->end && *j->at == '-') {
        d->negative = true;
        j->at++;
    }
    const char *whole = j->at;
    if (!take_digits(j, d, false))
        return false;
    if (*whole == '0' && j->at - whole > 1) {
        j->at = whole + 1;
        return json_wrong(j, "no digit behind a leading zero");
    }
    if (j->at < j->end && *j->at == '.') {
        d->whole = false;
        j->at++;
        if (!take_digits(j, d, true))
            return false;
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        d->whole = false;
        if (!take_exponent(j, d))
            return false;
    }
    d->end = j->at;
    return true;
}

/* Through strtod, the digits without their point and the power of ten set right. */
static double convert_far(const struct digits *d)
{
    char text[DIGITS_KEPT + 40];
    size_t len = 0, seen = 0;
    bool cut = false;
    for (const char *at = d->text; at < d->end && *at != 'e' && *at != 'E'; at++) {
        if (*at < '0' || *at > '9' || (seen == 0 && *at == '0'))
            continue;
        seen++;
        if (seen <= DIGITS_KEPT)
            text[len++] = *at;
        else
            cut |= *at != '0';
    }
    int64_t power = d->power + (int64_t)(seen > DIGITS_KEPT ? seen - DIGITS_KEPT : 0);
    if (cut) { /* anything that is not zero decides a tie the same way */
        text[len++] = '1';
        power--;
    }
    power = MAX(MIN(power, (int64_t)EXPONENT_FAR), -(int64_t)EXPONENT_FAR);
    snprintf(text + len, sizeof text - len, "e%lld", (long long)power);
    return strtod(text, NULL);
}

static double convert(const struct digits *d)
{
    static const double powers[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (d->count == 0)
        return 0;
    if (d->count > 19 || d->first >> EXACT_DIGITS || d->power < -EXACT_POWER ||
        d->power > EXACT_POWER)
        return convert_far(d);
    double first = (double)d->first;
    return d->power < 0 ? first / powers[-d->power] : first * powers[d->power];
}

bool json_take_number(struct json *j, struct json_number *out)
{
    struct digits d;
    if (j->expected)
        return false;
    skip_space(j);
    if (!scan_number(j, &d))
        return false;
    double size = convert(&d);
    if (isinf(size)) {
        j->at = d.text;
        return json_wrong(j, "a number within the range of float64");
    }
    uint64_t limit = (uint64_t)INT64_MAX + d.negative;
    out->d = d.negative ? -size : size;
    out->is_int = d.whole && d.count <= 19 && d.first <= limit;
    out->i = !out->is_int ? 0 : d.negative ? (int64_t)(0 - d.first) : (int64_t)d.first;
    if (out->is_int && out->i == 0)
        out->d = 0; /* "-0" is the integer */
    return true;
}

/* ---------------------------------------------------------------- lists and objects */

bool json_enter(struct json *j)
{
    enum json_type type = json_peek(j);
    if (type != JSON_LIST && type != JSON_OBJECT)
        return json_wrong(j, "a list or an object");
    if (j->depth == JSON_DEPTH_MAX)
        return json_wrong(j, "at most 64 lists and objects inside each other");
    j->at++;
    j->depth++;
    j->first = true;
    return true;
}

/* Is there one more? Takes the comma before it, or the closing bracket. */
static bool next_one(struct json *j, char closing, const char *expected)
{
    if (j->expected)
        return false;
    bool first = j->first;
    j->first = false;
    if (next_is(j, closing)) {
        j->at++;
        j->depth--;
        return false;
    }
    if (first)
        return true;
    if (!next_is(j, ','))
        return json_wrong(j, expected);
    j->at++;
    return true;
}

bool json_next_item(struct json *j)
{
    return next_one(j, ']', "a comma or the end of the list") && json_peek(j) != JSON_NOTHING;
}

bool json_next_member(struct json *j, struct json_string *name)
{
    if (!next_one(j, '}', "a comma or the end of the object"))
        return false;
    if (!next_is(j, '"'))
        return json_wrong(j, "a name in quotes");
    if (!json_take_string(j, name))
        return false;
    if (!next_is(j, ':'))
        return json_wrong(j, "a colon");
    j->at++;
    return json_peek(j) != JSON_NOTHING;
}

static bool skip_list(struct json *j)
{
    if (!json_enter(j))
        return false;
    while (json_next_item(j))
        if (!json_skip(j))
            return false;
    return !j->expected;
}

static bool skip_object(struct json *j)
{
    struct json_string name;
    if (!json_enter(j))
        return false;
    while (json_next_member(j, &name))
        if (!json_skip(j))
            return false;
    return !j->expected;
}

bool json_skip(struct json *j)
{
    struct json_string string;
    struct json_number number;
    switch (json_peek(j)) {
    case JSON_NULL:
    case JSON_TRUE:
        j->at += 4;
        return true;
    case JSON_FALSE:
        j->at += 5;
        return true;
    case JSON_NUMBER:
        return json_take_number(j, &number);
    case JSON_STRING:
        return json_take_string(j, &string);
    case JSON_LIST:
        return skip_list(j);
    case JSON_OBJECT:
        return skip_object(j);
    default:
        return false;
    }
}

bool json_at_end(struct json *j)
{
    if (j->expected)
        return false;
    skip_space(j);
    return j->at == j->end || json_wrong(j, "nothing more");
}

/* The valid bytes at the beginning of a text that is not UTF-8. */
static size_t valid_start(const char *text, size_t len)
{
    size_t at = 0, step = 1;
    while (step <= 4 && step <= len - at) {
        if (utf8_valid(text + at, step)) {
            at += step;
            step = 1;
        } else {
            step++;
        }
    }
    return at;
}

bool json_check(const char *text, size_t len, size_t *at, const char **expected)
{
    struct json j;
    json_begin(&j, text, len);
    if (json_skip(&j) && json_at_end(&j)) {
        if (utf8_valid(text, len))
            return true;
        size_t good = valid_start(text, len);
        j.at = text + good;
        json_wrong(&j, "UTF-8");
    }
    *at = (size_t)(j.at - text);
    *expected = j.expected;
    return false;
}

/* ---------------------------------------------------------------- writing */

bool json_put_text(struct buf *to, const char *text)
{
    return buf_append(to, text, strlen(text));
}

static bool put_escape(struct buf *to, unsigned char c)
{
    static const char kinds[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    char text[8];
    const char *kind = c ? strchr(kinds, c) : NULL;
    if (kind)
        snprintf(text, sizeof text, "\\%c", names[kind - kinds]);
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    return json_put_text(to, text);
}

bool json_put_string(struct buf *to, const char *bytes, size_t len)
{
    bool enough = json_put_text(to, "\"");
    for (size_t at = 0; at < len && enough;) {
        size_t end = at;
        while (end < len && bytes[end] != '"' && bytes[end] != '\\' && (unsigned char)bytes[end] >= 0x20)
            end++;
        enough = buf_append(to, bytes + at, end - at);
        if (end < len && enough)
            enough = put_escape(to, (unsigned char)bytes[end++]);
        at = end;
    }
    return enough && json_put_text(to, "\"");
}

bool json_put_int(struct buf *to, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return json_put_text(to, text);
}

/* The text of a number with the locale's decimal point, of any bytes, made JSON's. */
static void set_point(char *text)
{
    char *to = text;
    for (const char *at = text; *at; at++) {
        bool plain = (*at >= '0' && *at <= '9') || strchr("+-e", *at);
        if (plain)
            *to++ = *at;
        else if (to == text || to[-1] != '.')
            *to++ = '.';
    }
    *to = '\0';
}

bool json_put_double(struct buf *to, double value)
{
    char text[48];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (digits == 17 || strtod(text, NULL) == value)
            break;
    }
    set_point(text);
    if (!strpbrk(text, ".e")) /* it stays a float when it is read again */
        strcat(text, ".0");
    return json_put_text(to, text);
}
