/* Shell patterns over byte strings: `*` any run (it crosses '/'), `?` one UTF-8 character, `[a-z]`
 * `[!a-z]` one character of a set; an unclosed `[` is itself. Linear time in pattern x text. */
#ifndef SYNA_BASE_GLOB_H
#define SYNA_BASE_GLOB_H

#include "base/internal.h"

bool glob_match(const char *pattern, size_t pattern_len, const char *text, size_t text_len);

/* Bytes at the start of the pattern that match only themselves: a scan can start there. */
size_t glob_literal_prefix(const char *pattern, size_t pattern_len);

#endif
