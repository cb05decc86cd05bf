/* The open vector stores: database -> counted store, beside the table of handles.h. A path finds its
 * database there, the database finds its store here; so every spelling of a path, and a SynaDB that
 * has the same file open, mean one log. */
#ifndef SYNA_API_VECTOR_HANDLES_H
#define SYNA_API_VECTOR_HANDLES_H

#include "engine/vectors.h"

/* Open or count one more opening. */
syna_rc vector_handles_open(const char *path, const syna_vectors_options *options,
                            syna_vectors **out);
/* Give back one opening; the last one waits for path-keyed calls in progress and closes. */
syna_rc vector_handles_close(syna_vectors *store);

/* Pin the store of a path for the length of one call; NULL (error record set, *code: -1 or -2) when
 * it is not open as one. Every enter is followed by vector_handles_leave. */
syna_vectors *vector_handles_enter(const char *path, syna_rc *code);
void vector_handles_leave(syna_vectors *store);

#endif
