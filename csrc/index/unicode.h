/* What the text analyser knows of Unicode: which characters make words, and what they become so that
 * case, accents, widths and ligatures do not matter. Tables made by make_unicode.py. Pure. */
#ifndef SYNA_INDEX_UNICODE_H
#define SYNA_INDEX_UNICODE_H

#include "base/internal.h"

enum char_class {
    CHAR_OTHER,     /* between words */
    CHAR_LETTER,
    CHAR_DIGIT,
    CHAR_MARK,      /* part of a word that has begun; joiners and soft hyphens too */
    CHAR_IDEOGRAPH, /* of a script written without spaces: Chinese, Japanese, Korean, Thai ... */
};

/* The last range looked at: neighbours in a text are mostly of one script. Begins as all zeros. */
struct unicode_memo {
    uint32_t first, last;
    enum char_class class;
    uint32_t plain_first, plain_last; /* characters that stay as they are when folded */
};

/* The character at `at`, which is before `end`, and its length; 0xfffd of one byte where there is no
 * valid UTF-8. */
uint32_t unicode_decode(const uint8_t *at, const uint8_t *end, size_t *len);

/* For c >= 0x80; ASCII is the caller's. */
enum char_class unicode_class(struct unicode_memo *memo, uint32_t c);

/* The folded form as UTF-8, at most UNICODE_FOLD_MAX bytes; returns how many, perhaps 0. c >= 0x80. */
#define UNICODE_FOLD_MAX 40u
size_t unicode_fold(struct unicode_memo *memo, uint32_t c, char *out);

#endif
