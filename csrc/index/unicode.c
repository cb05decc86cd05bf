/* unicode.c - ranges of characters, found by halving; a memo of the last one makes runs of one script
 * cheap. */
#include "base/internal.h"

#include "index/unicode.h"

struct class_range {
    uint32_t first, last;
    uint8_t class;
};
/* first, first + step, ..., last become themselves + delta. */
struct fold_range {
    uint32_t first, last;
    int32_t step, delta;
};
struct fold_text {
    uint32_t c;
    uint16_t at, len;
};

#include "index/unicode_classes.h"
#include "index/unicode_folds.h"

#define REPLACEMENT 0xfffdu

/* ---------------------------------------------------------------- UTF-8 */

static bool is_more(const uint8_t *at, const uint8_t *end, size_t i)
{
    return at + i < end && (at[i] & 0xc0) == 0x80;
}

uint32_t unicode_decode(const uint8_t *at, const uint8_t *end, size_t *len)
{
    uint8_t b = at[0];
    uint32_t c;
    *len = 1;
    if (b < 0x80)
        return b;
    if (b >= 0xc2 && b < 0xe0 && is_more(at, end, 1)) {
        *len = 2;
        return (uint32_t)(b & 0x1f) << 6 | (at[1] & 0x3f);
    }
    if (b >= 0xe0 && b < 0xf0 && is_more(at, end, 1) && is_more(at, end, 2)) {
        c = (uint32_t)(b & 0x0f) << 12 | (uint32_t)(at[1] & 0x3f) << 6 | (at[2] & 0x3f);
        if (c < 0x800 || (c >= 0xd800 && c < 0xe000))
            return REPLACEMENT;
        *len = 3;
        return c;
    }
    if (b >= 0xf0 && b < 0xf5 && is_more(at, end, 1) && is_more(at, end, 2) &&
        is_more(at, end, 3)) {
        c = (uint32_t)(b & 0x07) << 18 | (uint32_t)(at[1] & 0x3f) << 12 |
            (uint32_t)(at[2] & 0x3f) << 6 | (at[3] & 0x3f);
        if (c < 0x10000 || c > 0x10ffff)
            return REPLACEMENT;
        *len = 4;
        return c;
    }
    return REPLACEMENT;
}

static size_t encode(uint32_t c, char *out)
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

/* ---------------------------------------------------------------- classes */

enum char_class unicode_class(struct unicode_memo *memo, uint32_t c)
{
    if (LIKELY(c >= memo->first && c <= memo->last))
        return memo->class;
    size_t low = 0, high = COUNT_OF(class_ranges); /* the first range that ends at or behind c */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (class_ranges[mid].last < c)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < COUNT_OF(class_ranges) && class_ranges[low].first <= c) {
        memo->first = class_ranges[low].first;
        memo->last = class_ranges[low].last;
        memo->class = (enum char_class)class_ranges[low].class;
    } else {
        memo->first = low > 0 ? class_ranges[low - 1].last + 1 : 0x80;
        memo->last = low < COUNT_OF(class_ranges) ? class_ranges[low].first - 1 : UINT32_MAX;
        memo->class = CHAR_OTHER;
    }
    return memo->class;
}

/* ---------------------------------------------------------------- folding */

/* The first folding range that ends at or behind c. */
static size_t fold_range_of(uint32_t c)
{
    size_t low = 0, high = COUNT_OF(fold_ranges);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (fold_ranges[mid].last < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t fold_place_of(uint32_t c)
{
    size_t low = 0, high = COUNT_OF(fold_places);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (fold_places[mid].c < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The characters around c that neither table knows. */
static void remember_plain(struct unicode_memo *memo, size_t range, size_t place)
{
    uint32_t first = 0x80, last = UINT32_MAX;
    if (range > 0)
        first = fold_ranges[range - 1].last + 1;
    if (place > 0)
        first = MAX(first, fold_places[place - 1].c + 1);
    if (range < COUNT_OF(fold_ranges))
        last = fold_ranges[range].first - 1;
    if (place < COUNT_OF(fold_places))
        last = MIN(last, fold_places[place].c - 1);
    memo->plain_first = first;
    memo->plain_last = last;
}

size_t unicode_fold(struct unicode_memo *memo, uint32_t c, char *out)
{
    if (c >= memo->plain_first && c <= memo->plain_last)
        return encode(c, out);
    size_t place = fold_place_of(c);
    if (place < COUNT_OF(fold_places) && fold_places[place].c == c) {
        memcpy(out, fold_texts + fold_places[place].at, fold_places[place].len);
        return fold_places[place].len;
    }
    size_t range = fold_range_of(c);
    const struct fold_range *r = range < COUNT_OF(fold_ranges) ? &fold_ranges[range] : NULL;
    if (!r || r->first > c)
        remember_plain(memo, range, place);
    else if ((c - r->first) % (uint32_t)r->step == 0)
        c = (uint32_t)((int32_t)c + r->delta);
    return encode(c, out);
}
