/* Migrate one of the ancestor's logs: every record into a new log of ours, in order, with its time.
 * Component files whose layout changed too are put together above this (synadb/migrate.py), which
 * names the keys that are to stay behind. */
#ifndef SYNA_ENGINE_DB_ANCESTOR_COPY_H
#define SYNA_ENGINE_DB_ANCESTOR_COPY_H

#include "engine/db.h"
#include <synadb/migrate.h>

/* The contract of syna_migrate. */
syna_rc db_migrate(const char *path, const char *to, const char *const *leave_out,
                   size_t leave_out_count, syna_finding_fn visit, void *context,
                   syna_progress_fn progress, syna_migration *out);

#endif
