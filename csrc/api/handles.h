/* path -> counted handle of a database. The table's lock is held for the look-up, never during the
 * operation, an opening or a closing. Stores that lie in a database have tables beside it
 * (log_handles.h), those with a file of another kind tables of their own (file_handles.h).
 *
 * Every way to write the name of a file means the same open database: absolute spellings are
 * remembered, others are told by the file's (device, inode). A read-only handle and a writing one of
 * the same file are two handles. */
#ifndef SYNA_API_HANDLES_H
#define SYNA_API_HANDLES_H

#include "engine/db.h"

/* Open or count one more opening. An opening that asks for synced writes makes the shared handle
 * sync; one that differs in `shared` is refused (ARGUMENT). */
syna_rc handles_open(const char *path, const syna_db_options *options, syna_db **out);
/* The same with `shared`, for components that several processes write to; a database that this process
 * has open for itself is used as it is. */
syna_rc handles_open_shared(const char *path, const syna_db_options *options);
/* Give back one opening; the last one waits for pinned calls and closes. */
syna_rc handles_close(syna_db *db);
syna_rc handles_close_path(const char *path);

/* Pin the handle of a path for the length of one call, a writing handle before a read-only one; NULL
 * (error record set, *code: -1 or -2) when the path is not open. Every enter that returned a handle
 * is followed by handles_leave. */
syna_db *handles_enter(const char *path, syna_rc *code);
void handles_leave(syna_db *db);

#endif
