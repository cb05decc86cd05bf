/* UTF-8: every code point, every one- to three-byte string, and every class of malformed character
 * in every place of the eight-byte steps. */
#include "check.h"

#include "base/utf8.h"

static size_t encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

TEST(every_code_point_but_the_surrogates_is_valid)
{
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t bytes[4];
        size_t len = encode(c, bytes);
        bool good = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
        if (utf8_valid(bytes, len) != good)
            check_fail(__FILE__, __LINE__, "U+%04X", c);
        for (size_t cut = 1; good && cut < len; cut++)
            if (utf8_valid(bytes, cut))
                check_fail(__FILE__, __LINE__, "U+%04X cut to %zu bytes", c, cut);
    }
}

/* All strings of up to three bytes: those that are valid are exactly what encoding gives. */
TEST(short_strings_count_to_what_encodings_give)
{
    const uint32_t one = 0x80, two = 0x800 - 0x80, three = 0x10000 - 0x800 - 0x800;
    uint32_t valid[4] = {0};
    uint8_t s[3];
    for (uint32_t v = 0; v < 1u << 24; v++) {
        s[0] = (uint8_t)v;
        s[1] = (uint8_t)(v >> 8);
        s[2] = (uint8_t)(v >> 16);
        valid[1] += v < 0x100 && utf8_valid(s, 1);
        valid[2] += v < 0x10000 && utf8_valid(s, 2);
        valid[3] += utf8_valid(s, 3);
    }
    CHECK_EQ(valid[1], one);
    CHECK_EQ(valid[2], one * one + two);
    CHECK_EQ(valid[3], one * one * one + 2 * one * two + three);
}

TEST(malformed_characters_are_found_wherever_they_stand)
{
    static const char *const bad[] = {
        "\x80",             /* a continuation alone */
        "\xc0\xaf",         /* overlong / */
        "\xc1\xbf",         /* overlong DEL */
        "\xe0\x80\xaf",     /* overlong / */
        "\xe0\x9f\xbf",     /* overlong U+07FF */
        "\xed\xa0\x80",     /* surrogate D800 */
        "\xed\xbf\xbf",     /* surrogate DFFF */
        "\xf0\x8f\xbf\xbf", /* overlong U+FFFF */
        "\xf4\x90\x80\x80", /* U+110000 */
        "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff",
        "\xc3",             /* cut */
        "\xe2\x82",         /* cut */
        "\xf0\x9f\x98",     /* cut */
        "\xe2\x28\xa1",     /* a letter inside */
        "\xf0\x9f\x28\x80",
    };
    uint8_t text[40];
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        size_t len = strlen(bad[i]);
        for (size_t at = 0; at + len <= sizeof text; at++) {
            memset(text, 'a', sizeof text);
            CHECK(utf8_valid(text, sizeof text));
            memcpy(text + at, bad[i], len);
            check_note("class %zu at %zu", i, at);
            CHECK(!utf8_valid(text, sizeof text));
            CHECK(!utf8_valid(text, at + len));
        }
    }
}

TEST(good_text_of_every_mixture_is_valid)
{
    uint8_t text[4 * 50];
    for (int round = 0; round < 20000; round++) {
        size_t len = 0;
        for (uint64_t n = check_random() % 50; n > 0; n--) {
            uint64_t pick = check_random();
            uint32_t c = (uint32_t)(pick >> 8) % (pick % 3 == 0 ? 0x80 : pick % 3 == 1 ? 0xd800 : 0x110000);
            if (c >= 0xd800 && c <= 0xdfff)
                c = 'x';
            len += encode(c, text + len);
        }
        CHECK(utf8_valid(text, len));
    }
    CHECK(utf8_valid(NULL, 0));
    CHECK(utf8_valid("a\0b", 3));
}
