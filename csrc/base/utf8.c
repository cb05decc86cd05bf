/* UTF-8 validation. Keys and texts are mostly ASCII, so that is tested eight bytes at a time; other
 * characters are decoded by their lead byte, whose second byte has the ranges of Unicode's table 3-7
 * (which is what excludes overlong forms, surrogates and numbers above U+10FFFF). */
#include "base/internal.h"

#include "base/bytes.h"
#include "base/utf8.h"

#define HIGH_BITS 0x8080808080808080u

static inline bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The length of the valid character of two bytes or more at p, 0 when it is none. */
static size_t multibyte(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    if (lead < 0xc2 || lead > 0xf4 || left < 2)
        return 0;
    if (lead < 0xe0)
        return is_continuation(p[1]) ? 2 : 0;

    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    size_t len = lead < 0xf0 ? 3 : 4;
    if (left < len || p[1] < low || p[1] > high || !is_continuation(p[2]))
        return 0;
    if (len == 4 && !is_continuation(p[3]))
        return 0;
    return len;
}

bool utf8_valid(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    size_t at = 0;
    while (at < len) {
        if (len - at >= 8 && !(load_u64(p + at) & HIGH_BITS)) {
            at += 8;
        } else if (p[at] < 0x80) {
            at++;
        } else {
            size_t step = multibyte(p + at, len - at);
            if (step == 0)
                return false;
            at += step;
        }
    }
    return true;
}
