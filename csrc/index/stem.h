/* English stems: the Snowball English algorithm ("Porter2", M. F. Porter, 2001, as revised in Snowball 3),
 * written from its published description. Pure. */
#ifndef SYNA_INDEX_STEM_H
#define SYNA_INDEX_STEM_H

#include "base/internal.h"

/* Stem a folded word in place; `word` has room for one byte more than len. Words with bytes other than
 * a-z and the apostrophe come back as they are. Returns the new length, never 0 for len > 0. */
size_t stem_english(char *word, size_t len);

#endif
