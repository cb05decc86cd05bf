/* Changes that depend on what is stored: read and write under one hold of the writers' lock, in shared
 * logs also of the lock between processes, so that nobody writes in between. For numbers that are given
 * out once, and records that are rewritten. The change is durable (if the handle syncs) and visible
 * when the lock is given back, so the next one reads it. */
#ifndef SYNA_ENGINE_DB_UPDATE_H
#define SYNA_ENGINE_DB_UPDATE_H

#include "engine/db.h"

/* Puts into `batch` what is to be written; may read the database, not write to it. A failure is passed
 * on and nothing is written. It can be called a second time, for an empty batch. */
typedef syna_rc (*db_update_fn)(void *context, syna_batch *batch);

/* One commit of what `build` makes; none when that is nothing. */
syna_rc db_update(syna_db *db, db_update_fn build, void *context);

/* db_blob_finish, and in the same commit what `build` makes. It may name the blob anew with
 * db_blob_rename. */
syna_rc db_blob_finish_with(syna_blob *blob, db_update_fn build, void *context);
syna_rc db_blob_rename(syna_blob *blob, const char *key, size_t key_len);

/* ---- for db_update.c and db_blob.c */
/* Take write_lock and the process lock; on failure none is held. */
syna_rc db_write_enter(syna_db *db);
void db_write_leave(syna_db *db);
/* Locks held: append these frames as one commit. KEYDIR_DAMAGED: rebuild the index and start over. */
syna_rc db_write_append(syna_db *db, struct buf *frames, size_t count);
/* Locks held: make what was appended durable, if this handle syncs, and visible. */
syna_rc db_write_publish(syna_db *db);
/* db_batch.c: the encoded frames of a batch, borrowed. */
struct buf *db_batch_frames(syna_batch *batch);

#endif
