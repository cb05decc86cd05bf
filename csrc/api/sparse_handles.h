/* The open sparse stores: database -> counted store, beside the table of handles.h. A path finds its
 * database there, the database finds its store here; so every spelling of a path, and a SynaDB that
 * has the same file open, mean one log. */
#ifndef SYNA_API_SPARSE_HANDLES_H
#define SYNA_API_SPARSE_HANDLES_H

#include "engine/sparse.h"

/* Open or count one more opening. */
syna_rc sparse_handles_open(const char *path, const syna_sparse_options *options,
                            syna_sparse **out);
/* Give back one opening; the last one waits for path-keyed calls in progress and closes. */
syna_rc sparse_handles_close(syna_sparse *store);

/* Pin the store of a path for the length of one call; NULL (error record set, *code: -1 or -2) when
 * it is not open as one. Every enter is followed by sparse_handles_leave. */
syna_sparse *sparse_handles_enter(const char *path, syna_rc *code);
void sparse_handles_leave(syna_sparse *store);

#endif
