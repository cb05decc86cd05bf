/* UTF-8 validation (Unicode 15, table 3-7: no surrogates, no overlong forms, <= U+10FFFF). */
#ifndef SYNA_BASE_UTF8_H
#define SYNA_BASE_UTF8_H

#include "base/internal.h"

bool utf8_valid(const void *bytes, size_t len);

#endif
