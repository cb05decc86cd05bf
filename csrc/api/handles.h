/* path -> counted handle; the only global table of the library. Its lock is held for the look-up,
 * never during the operation.
 *
 * A path finds its handle by its spelling first, then by its canonical form, then by (device, inode),
 * so that every way to write the name of a file means the same open database. A read-only handle
 * and a writing one of the same file are two handles. */
#ifndef SYNA_API_HANDLES_H
#define SYNA_API_HANDLES_H

#include "engine/db.h"

/* Open or count one more opening. */
syna_rc handles_open(const char *path, const syna_db_options *options, syna_db **out);
/* Give back one opening; the last one waits for calls in progress and closes. */
syna_rc handles_close(syna_db *db);

/* Pin the handle of a path for the length of one call; NULL (error record set, *code: -1 or -2) when
 * it is not open. Every enter is followed by handles_leave. */
syna_db *handles_enter(const char *path, syna_rc *code);
void handles_leave(syna_db *db);

#endif
