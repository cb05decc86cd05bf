/* A change of metadata: the fields of two JSON objects as one. */
#ifndef SYNA_ENGINE_META_MERGE_H
#define SYNA_ENGINE_META_MERGE_H

#include "base/status.h"
#include "base/vec.h"

/* Append to *out the object with the fields of `old` (NULL: none) and of `json`, whose fields count where
 * both have one of a name. Both texts passed meta_check. */
syna_rc meta_merge(const char *old, size_t old_len, const char *json, size_t len, struct buf *out);

#endif
