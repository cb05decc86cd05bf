/* Glob against a slow recursive reference on every short pattern and text over a small alphabet, and
 * on the cases that people get wrong. */
#include "check.h"

#include "base/glob.h"

static bool match(const char *pattern, const char *text)
{
    return glob_match(pattern, strlen(pattern), text, strlen(text));
}

/* The definition, written as a definition; ASCII only. */
static bool reference(const char *p, const char *t)
{
    if (!*p)
        return !*t;
    if (*p == '*')
        return reference(p + 1, t) || (*t && reference(p, t + 1));
    if (!*t)
        return false;
    if (*p == '?')
        return reference(p + 1, t + 1);
    if (*p == '[') {
        const char *first = p + 1 + (p[1] == '!');
        const char *end = *first ? strchr(first + 1, ']') : NULL;
        if (end) {
            bool in = false;
            for (const char *m = first; m < end; m++) {
                if (m + 2 < end && m[1] == '-') {
                    in |= m[0] <= *t && *t <= m[2];
                    m += 2;
                } else {
                    in |= *m == *t;
                }
            }
            return in != (p[1] == '!') && reference(end + 1, t + 1);
        }
    }
    return *p == *t && reference(p + 1, t + 1);
}

/* The v-th string over the alphabet, counting by length first. */
static void string_number(const char *alphabet, uint32_t v, char *out)
{
    uint32_t base = (uint32_t)strlen(alphabet);
    size_t len = 0;
    for (; v > 0; v = (v - 1) / base)
        out[len++] = alphabet[(v - 1) % base];
    out[len] = 0;
}

TEST(agrees_with_the_reference_on_every_short_pattern)
{
    char pattern[12], text[12];
    for (uint32_t p = 0; p < 5461 * 4; p++) { /* all of up to 5 over 7 letters, some of 6 */
        string_number("ab*?[]!", p, pattern);
        for (uint32_t t = 0; t < 121; t++) {
            string_number("ab]", t, text);
            if (match(pattern, text) != reference(pattern, text))
                check_fail(__FILE__, __LINE__, "\"%s\" on \"%s\": expected %d", pattern, text,
                           reference(pattern, text));
        }
    }
}

TEST(agrees_with_the_reference_on_random_patterns)
{
    char pattern[12], text[12];
    for (int64_t round = check_rounds(300000); round > 0; round--) {
        size_t pl = check_random() % 11, tl = check_random() % 11;
        for (size_t i = 0; i < pl; i++)
            pattern[i] = "ab*?[]!-c*"[check_random() % 10];
        for (size_t i = 0; i < tl; i++)
            text[i] = "abc-]"[check_random() % 5];
        pattern[pl] = text[tl] = 0;
        if (match(pattern, text) != reference(pattern, text))
            check_fail(__FILE__, __LINE__, "\"%s\" on \"%s\": expected %d", pattern, text,
                       reference(pattern, text));
    }
}

TEST(what_people_expect)
{
    CHECK(match("user:*:name", "user:42:name"));
    CHECK(match("*", ""));
    CHECK(match("a*", "a/b/c")); /* a key is not a path */
    CHECK(match("[a-c]x", "bx") && !match("[a-c]x", "dx"));
    CHECK(match("[!a-c]x", "dx") && !match("[!a-c]x", "bx"));
    CHECK(match("[]]", "]") && match("[]a]", "a") && match("[!]]", "a") && !match("[!]]", "]"));
    CHECK(match("[a-]", "-") && match("[a-]", "a") && match("[-a]", "-"));
    CHECK(match("[", "[") && match("a[b", "a[b") && match("[!", "[!") && match("[]", "[]"));
    CHECK(!match("[c-a]", "b"));
    CHECK(!match("", "a") && match("", ""));
    CHECK(match("[*]", "*") && !match("[*]", "a"));
}

TEST(a_character_is_a_character_not_a_byte)
{
    CHECK(match("?", "\xc3\xa9") && !match("??", "\xc3\xa9"));
    CHECK(match("?", "\xf0\x9f\x98\x80"));
    CHECK(match("[\xc3\xa0-\xc3\xbf]", "\xc3\xa9") && !match("[\xc3\xa0-\xc3\xa2]", "\xc3\xa9"));
    CHECK(match("[!a]", "\xe2\x82\xac") && match("*\xac", "x\xac"));
    CHECK(!match("*\xa9", "\xc3\xa9")); /* half a character is in no character */
    CHECK(match("?b", "\xff" "b") && match("\xff*", "\xff\xfe") && match("?", "\xc3"));
    CHECK(!match("[\xc3\xa0-\xc3\xbf]", "\xe9"));
}

/* Patterns that are exponential or cubic where stars, or brackets that nothing closes, are naive. */
TEST(hostile_patterns_take_no_time)
{
    enum { LEN = 20000 };
    static char pattern[LEN], text[LEN];
    for (size_t i = 0; i < LEN; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    pattern[LEN - 1] = 'b';
    memset(text, 'a', LEN);
    CHECK(!glob_match(pattern, LEN, text, LEN));

    memset(pattern, '[', LEN);
    CHECK(!glob_match(pattern, LEN, text, LEN));
    memset(text, '[', LEN);
    CHECK(glob_match(pattern, LEN, text, LEN));
    pattern[0] = '*';
    CHECK(glob_match(pattern, LEN, text, LEN));
    CHECK_EQ(glob_literal_prefix(pattern + 1, LEN - 1), LEN - 1);
}

TEST(the_literal_prefix_ends_at_the_first_thing_that_is_not_itself)
{
    static const struct {
        const char *pattern;
        size_t len;
    } cases[] = {{"", 0},      {"abc", 3},   {"a*b", 1},   {"ab?", 2},  {"*", 0},
                 {"a[bc]", 1}, {"a[bc", 4},  {"a[]", 3},   {"a[]]", 1}, {"\xc3\xa9?", 2},
                 {"a]b*", 3},  {"[!]x*", 4}, {"[!]x]*", 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("%s", cases[i].pattern);
        CHECK_EQ(glob_literal_prefix(cases[i].pattern, strlen(cases[i].pattern)), cases[i].len);
    }
}
