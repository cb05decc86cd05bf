/* Results of vector searches as JSON: [{"key":"a","score":0.25,"vector":[1,2],"metadata":{"a":1}}, ...];
 * metadata where a hit has some. */
#ifndef SYNA_API_HITS_JSON_H
#define SYNA_API_HITS_JSON_H

#include "base/status.h"
#include <synadb/vector.h>

/* *out is mem_alloc'ed, with a NUL; *len (may be NULL) is its length without it. dims 0: no vectors. */
syna_rc hits_json(const syna_hit *hits, size_t count, uint32_t dims, char **out, size_t *len);

#endif
