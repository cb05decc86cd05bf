/* The terms of an index in the order of their bytes, for queries with many prefixes: a prefix is then a
 * range, found by halving, instead of a walk over all terms. Made for one search, and thrown away. */
#ifndef SYNA_ENGINE_TEXT_ORDER_H
#define SYNA_ENGINE_TEXT_ORDER_H

#include "base/vec.h"
#include "engine/text_names.h"

/* `order` is empty, and becomes the numbers of all names, uint32. */
syna_rc text_order_make(struct buf *order, const struct names *names);
/* Where in the order the first name stands that is not before these bytes; names that begin with them
 * follow one another from there. */
size_t text_order_first(const struct buf *order, const struct names *names, const char *bytes,
                        size_t len);

#endif
