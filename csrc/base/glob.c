/* Shell patterns. A pattern is a row of items: `*`, or something that matches exactly one character
 * (`?`, a set, itself). Only the last `*` seen needs to be taken back: what an earlier one swallowed
 * can be swallowed by the later one too. So the work is at most pattern x text, without recursion.
 *
 * Text and pattern may be any bytes; a byte that begins no well-formed character counts as one. */
#include "base/internal.h"

#include "base/glob.h"

struct text {
    const uint8_t *bytes;
    size_t len;
};

struct pattern {
    struct text text;
    size_t last_close; /* where its last `]` is, 0 = none (or first, where it closes nothing) */
};

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Decode the character at `at` (< len) and return its length. Bytes outside a character decode to
 * themselves plus 0x110000, so that they equal no character. */
static size_t decode(struct text t, size_t at, uint32_t *character)
{
    const uint8_t *p = t.bytes + at;
    size_t left = t.len - at;
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    uint32_t c = len <= 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if (i >= left || !is_continuation(p[i])) {
            len = 0;
            break;
        }
        c = c << 6 | (p[i] & 0x3fu);
    }
    *character = len ? c : 0x110000u + p[0];
    return len ? len : 1;
}

static struct pattern pattern_of(const char *bytes, size_t len)
{
    struct pattern p = {{(const uint8_t *)bytes, len}, 0};
    for (size_t i = len; i > 0 && p.last_close == 0; i--)
        if (bytes[i - 1] == ']')
            p.last_close = i - 1;
    return p;
}

/* The offset behind the `]` that closes the set whose `[` is at `at`, 0 when nothing does. A `]` in
 * the first place is a member. Looks no further than the set is long. */
static size_t set_end(const struct pattern *pattern, size_t at)
{
    const uint8_t *p = pattern->text.bytes;
    size_t i = at + 1;
    if (i < pattern->text.len && p[i] == '!')
        i++;
    for (i++; i <= pattern->last_close; i++)
        if (p[i] == ']')
            return i + 1;
    return 0;
}

/* Is the character in the set between `[` at `at` and `end`? */
static bool set_has(struct text pattern, size_t at, size_t end, uint32_t character)
{
    struct text members = {pattern.bytes, end - 1};
    size_t i = at + 1;
    bool negated = members.bytes[i] == '!';
    if (negated)
        i++;
    bool found = false;
    while (i < members.len) {
        uint32_t low, high;
        i += decode(members, i, &low);
        high = low;
        if (i + 1 < members.len && members.bytes[i] == '-')
            i += 1 + decode(members, i + 1, &high);
        found |= low <= character && character <= high;
    }
    return found != negated;
}

/* Match the item at *p (not a star) with the character at *t; move both behind on a match. */
static bool match_one(const struct pattern *pattern, size_t *p, struct text text, size_t *t)
{
    uint32_t wanted, found;
    size_t found_len = decode(text, *t, &found);
    size_t item_len = decode(pattern->text, *p, &wanted);
    bool same = wanted == found;
    if (wanted == '?') {
        same = true;
    } else if (wanted == '[') {
        size_t end = set_end(pattern, *p);
        if (end) {
            same = set_has(pattern->text, *p, end, found);
            item_len = end - *p;
        }
    }
    if (same) {
        *p += item_len;
        *t += found_len;
    }
    return same;
}

bool glob_match(const char *pattern_bytes, size_t pattern_len, const char *text_bytes,
                size_t text_len)
{
    struct pattern pattern = pattern_of(pattern_bytes, pattern_len);
    struct text text = {(const uint8_t *)text_bytes, text_len};
    size_t p = 0, t = 0;
    bool starred = false;
    size_t behind_star = 0, star_takes_to = 0;

    while (t < text.len) {
        if (p < pattern_len && pattern_bytes[p] == '*') {
            starred = true;
            behind_star = ++p;
            star_takes_to = t;
        } else if (p >= pattern_len || !match_one(&pattern, &p, text, &t)) {
            if (!starred)
                return false;
            uint32_t taken;
            star_takes_to += decode(text, star_takes_to, &taken);
            t = star_takes_to;
            p = behind_star;
        }
    }
    while (p < pattern_len && pattern_bytes[p] == '*')
        p++;
    return p == pattern_len;
}

size_t glob_literal_prefix(const char *pattern_bytes, size_t pattern_len)
{
    struct pattern pattern = pattern_of(pattern_bytes, pattern_len);
    for (size_t i = 0; i < pattern_len; i++) {
        char c = pattern_bytes[i];
        if (c == '*' || c == '?' || (c == '[' && set_end(&pattern, i)))
            return i;
    }
    return pattern_len;
}
