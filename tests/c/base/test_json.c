/* JSON: what RFC 8259 allows and nothing else, numbers to the bit, strings there and back, texts cut and
 * changed anywhere. */
#include "check.h"

#include "base/json.h"

#include <locale.h>
#include <math.h>

static bool sound(const char *text, size_t len)
{
    size_t at;
    const char *expected;
    char *copy = malloc(len ? len : 1); /* so that reading behind its end is seen */
    memcpy(copy, text, len);
    bool good = json_check(copy, len, &at, &expected);
    if (!good)
        CHECK(at <= len && expected != NULL);
    free(copy);
    return good;
}

TEST(what_the_rfc_allows_is_sound)
{
    static const char *const texts[] = {
        "null", " true ", "false", "0", "-0", "-0.0", "10", "1.5", "1e5", "1E+5", "1e-5", "0.0e0",
        "123456789012345678901234567890", "[]", "{}", "[1,[2],{\"a\":3}]", " { \"a\" : 1 , \"b\" : [ ] } ",
        "\"\"", "\"\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0000 \\u00e9 \\ud83d\\ude00\"",
        "\"\xc3\xa9 \xf0\x9f\x98\x80\"", "\t\r\n1\t\r\n", "1e308", "1e-400", "\"\x7f\""};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!sound(texts[i], strlen(texts[i])))
            check_fail(__FILE__, __LINE__, "refused: %s", texts[i]);
}

TEST(anything_else_is_refused)
{
    static const char *const texts[] = {
        "", " ", "nul", "True", "nan", "Infinity", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+",
        "0x10", "1 2", "[1,]", "[,1]", "[1 2]", "[", "]", "{", "}", "{\"a\"}", "{\"a\":}", "{a:1}",
        "{\"a\":1,}", "{\"a\" 1}", "{1:2}", "'a'", "\"", "\"a", "\"\\\"", "\"\\x\"", "\"\\u12\"",
        "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\n\"",
        "\"\x01\"", "\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "1e309", "-1e999", "//", "1//", "\xef\xbb\xbf[]"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (sound(texts[i], strlen(texts[i])))
            check_fail(__FILE__, __LINE__, "accepted: %s", texts[i]);
    CHECK(!sound("\"a\0b\"", 5));
    CHECK(!sound("1\0", 2));
}

TEST(the_byte_and_what_was_expected_are_told)
{
    static const struct {
        const char *text;
        size_t at;
        const char *expected;
    } cases[] = {{"{\"a\":1,}", 7, "a name in quotes"}, {"[1 2]", 3, "a comma or the end of the list"},
                 {"\"ab\xff\"", 3, "UTF-8"}, {"[1e999]", 1, "a number within the range of float64"},
                 {"{\"a\":01}", 6, "no digit behind a leading zero"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t at;
        const char *expected;
        CHECK(!json_check(cases[i].text, strlen(cases[i].text), &at, &expected));
        CHECK_EQ(at, cases[i].at);
        CHECK_STR(expected, cases[i].expected);
    }
}

TEST(depth_ends_at_64)
{
    char text[200];
    for (size_t depth = 63; depth <= 66; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        CHECK_EQ(sound(text, 2 * depth), depth <= JSON_DEPTH_MAX);
        CHECK(!sound(text, depth));
    }
}

static struct json_number number(const char *text)
{
    struct json j;
    struct json_number n = {0};
    json_begin(&j, text, strlen(text));
    if (!json_take_number(&j, &n) || !json_at_end(&j))
        check_fail(__FILE__, __LINE__, "not a number: %s", text);
    return n;
}

TEST(integers_are_exact_up_to_the_ends_of_int64)
{
    CHECK(number("9223372036854775807").is_int && number("9223372036854775807").i == INT64_MAX);
    CHECK(number("-9223372036854775808").is_int && number("-9223372036854775808").i == INT64_MIN);
    CHECK(!number("9223372036854775808").is_int && number("9223372036854775808").d == 0x1p63);
    CHECK(!number("-9223372036854775809").is_int);
    CHECK(!number("1.0").is_int && !number("1e2").is_int);
    CHECK(number("-0").is_int && number("-0").i == 0 && !signbit(number("-0").d));
    CHECK(!number("-0.0").is_int && signbit(number("-0.0").d));
}

/* Every float64 reads back as itself from every way of writing it, and as strtod reads it. */
TEST(floats_are_the_nearest_to_the_bit)
{
    char text[80];
    struct buf out = {0};
    for (int64_t round = 0; round < check_rounds(30000); round++) {
        uint64_t bits = check_random();
        double d, back;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d))
            continue;
        snprintf(text, sizeof text, round % 2 ? "%.*g" : "%.*e", (int)(bits % 30), d);
        back = strtod(text, NULL);
        if (!isinf(back) && number(text).d != back)
            check_fail(__FILE__, __LINE__, "%s is %a, expected %a", text, number(text).d, back);
        out.len = 0;
        CHECK(json_put_double(&out, d) && buf_append(&out, "", 1));
        CHECK(!number((const char *)out.bytes).is_int);
        CHECK(number((const char *)out.bytes).d == d);
    }
    buf_dispose(&out);
}

TEST(numbers_of_a_thousand_digits_are_rounded_right)
{
    char text[2100];
    /* 2^53 + 1 lies between two floats: one digit far behind decides */
    snprintf(text, sizeof text, "9007199254740993.%0*d", 1990, 0);
    CHECK(number(text).d == 9007199254740992.0);
    text[strlen(text) - 1] = '1';
    CHECK(number(text).d == 9007199254740994.0);
    memset(text, '0', 2000);
    memcpy(text, "0.", 2);
    memcpy(text + 1000, "5e998", 6);
    CHECK(number(text).d == 0.5);
    CHECK(number("123456789012345678901234567890e-29").d == 1.2345678901234567890);
    CHECK(number("0e999999999999999999999").d == 0);
    CHECK(number("1e-999999999999999999999").d == 0);
}

TEST(a_locale_with_a_comma_changes_nothing)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ps_AF.UTF-8"};
    struct buf out = {0};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (setlocale(LC_NUMERIC, names[i]))
            break;
    CHECK(number("1234567890.12345678901234567890").d == 1234567890.1234567);
    CHECK(json_put_double(&out, 0.5) && buf_append(&out, "", 1));
    CHECK_STR((const char *)out.bytes, "0.5");
    setlocale(LC_NUMERIC, "C");
    buf_dispose(&out);
}

TEST(strings_come_back_as_they_were)
{
    struct buf out = {0};
    for (int64_t round = 0; round < check_rounds(3000); round++) {
        char bytes[64], back[400];
        size_t len = check_random() % 40, rest;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(check_random() % 128);
        out.len = 0;
        CHECK(json_put_string(&out, bytes, len));
        CHECK(sound((const char *)out.bytes, out.len));
        struct json j;
        struct json_string s;
        json_begin(&j, (const char *)out.bytes, out.len);
        CHECK(json_take_string(&j, &s) && json_at_end(&j));
        CHECK_EQ(json_unescape(&s, back), len);
        CHECK_MEM(back, bytes, len);
        CHECK(json_string_is(&s, bytes, len));
        CHECK(len == 0 || !json_string_is(&s, bytes, len - 1));
        bytes[len] = '.';
        CHECK(json_string_starts(&s, bytes, len + 1, &rest) && rest == len);
    }
    buf_dispose(&out);
}

TEST(escapes_mean_what_the_rfc_says)
{
    static const char text[] = "\"\\u00e9\\u20AC\\ud83d\\ude00\\b\\f\\n\\r\\t\\/\\u0000\"";
    struct json j;
    struct json_string s;
    char out[64];
    json_begin(&j, text, strlen(text));
    CHECK(json_take_string(&j, &s));
    CHECK_EQ(json_unescape(&s, out), 16);
    CHECK_MEM(out, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\b\f\n\r\t/\0", 16);
}

static size_t sum_of_members(struct json *j)
{
    struct json_string name;
    struct json_number n;
    size_t sum = 0;
    switch (json_peek(j)) {
    case JSON_OBJECT:
        json_enter(j);
        while (json_next_member(j, &name))
            sum += name.len + sum_of_members(j);
        return sum;
    case JSON_LIST:
        json_enter(j);
        while (json_next_item(j))
            sum += sum_of_members(j);
        return sum;
    case JSON_NUMBER:
        return json_take_number(j, &n) ? (size_t)n.i : 0;
    default:
        json_skip(j);
        return 0;
    }
}

TEST(a_cursor_goes_through_lists_in_objects_in_lists)
{
    static const char text[] = "[1,{\"ab\":[2,[],3],\"c\":{\"d\":4},\"e\":{}},[[5]],null,\"7\"]";
    struct json j;
    json_begin(&j, text, strlen(text));
    CHECK_EQ(sum_of_members(&j), 1 + 2 + 5 + 1 + 1 + 4 + 1 + 5);
    CHECK(json_at_end(&j));
}

/* A text cut or changed anywhere is refused or is another sound one; nothing behind it is read. */
TEST(damaged_texts_are_never_read_beyond_their_end)
{
    static const char text[] = "{\"a\\u00e9\":[1.5e3,-2,\"x\\ud83d\\ude00\"],\"b\":{\"c\":null,\"d\":true}}";
    size_t len = strlen(text);
    for (size_t cut = 0; cut < len; cut++)
        CHECK(!sound(text, cut));
    for (int64_t round = 0; round < check_rounds(20000); round++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof copy);
        copy[check_random() % len] = (char)check_random();
        copy[check_random() % len] = text[check_random() % len];
        sound(copy, len);
    }
}
