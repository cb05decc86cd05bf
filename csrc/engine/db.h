/* The SynaDB component: one log with its key index. Everything the C interface of kv.h does, plus
 * what other log-based components (vectors, tensors, models, experiments) build on. Functions that
 * mirror kv.h have its contract; only what differs is said here.
 *
 * Files: db_core.h the struct and its locks; db_open.c open, recover, close; db_commit.c append, group
 * commit, publish; db_write.c puts and deletes; db_batch.c; db_read.c; db_scan.c; db_newest.c;
 * db_blob.c; db_compact.c; db_check.c verify and salvage; db_backup.c; db_fork.c. */
#ifndef SYNA_ENGINE_DB_H
#define SYNA_ENGINE_DB_H

#include "base/vec.h"
#include "store/value.h"
#include <synadb/kv.h>

/* ---- db_open.c. Not counted: api/handles.c counts openings and calls db_close once. */
syna_rc db_open(const char *path, const syna_db_options *options, syna_db **out);
syna_rc db_close(syna_db *db);
const char *db_path(const syna_db *db);
void db_get_report(const syna_db *db, syna_open_report *out);
bool db_is_writer(const syna_db *db);
/* The absolute path, links resolved, of a file that need not exist (its folder must): mem_alloc'ed. */
syna_rc db_canonical_path(const char *path, char **out);
/* From now on every commit is synced (somebody opened the same database with sync). */
void db_require_sync(syna_db *db);
/* Did fork() leave this handle in a child? It reads only. */
bool db_is_inherited(const syna_db *db);
/* Has this handle the file (device, inode) open? */
bool db_is_file(const syna_db *db, uint64_t device, uint64_t inode);

/* ---- db_commit.c */
/* Append the frames in `frames` (made with frame_append, in order) as one commit, make it durable
 * when the handle syncs, publish it to the index. when_us 0 = now. offset may be NULL. */
syna_rc db_commit(syna_db *db, struct buf *frames, size_t count, uint64_t when_us,
                  uint64_t *offset);
syna_rc db_flush(syna_db *db);

/* ---- db_write.c */
syna_rc db_check_key(const void *key, size_t len); /* -7, -8, or ARGUMENT: NUL, not UTF-8 */
syna_rc db_put(syna_db *db, const char *key, size_t key_len, int32_t type, const void *data,
               size_t len, const syna_put *how, uint64_t *offset);
syna_rc db_append_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                          const uint64_t *bits, const uint64_t *times_us, size_t count);
syna_rc db_delete(syna_db *db, const char *key, size_t key_len, int32_t *deleted);

/* ---- db_batch.c */
syna_rc db_batch_new(syna_db *db, syna_batch **out);
syna_rc db_batch_put(syna_batch *batch, const char *key, size_t key_len, int32_t type,
                     const void *data, size_t len, const syna_put *how);
syna_rc db_batch_delete(syna_batch *batch, const char *key, size_t key_len);
size_t db_batch_count(const syna_batch *batch);
syna_rc db_batch_commit(syna_batch *batch);
void db_batch_free(syna_batch *batch);

/* ---- db_read.c */
syna_rc db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap, size_t *len,
               int32_t *type);
/* FLOAT or INT into *bits; any other type is a mismatch. */
syna_rc db_get_number(syna_db *db, const char *key, size_t key_len, int32_t type, uint64_t *bits);
/* The newest value in a block of our own: mem_alloc'ed, one NUL behind it. type < 0: any type,
 * otherwise others are a mismatch. Used by the get functions that give memory to the caller. */
syna_rc db_get_copy(syna_db *db, const char *key, size_t key_len, int32_t type, void **out,
                    size_t *len, int32_t *found_type);
syna_rc db_get_at(syna_db *db, const char *key, size_t key_len, uint64_t at_us, void *buf,
                  size_t cap, size_t *len, int32_t *type);
syna_rc db_exists(syna_db *db, const char *key, size_t key_len, bool *exists);
syna_rc db_count(syna_db *db, uint64_t *count);
syna_rc db_history_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                           uint64_t *bits, uint64_t *times_us, size_t cap, size_t *count);
syna_rc db_history(syna_db *db, const char *key, size_t key_len, syna_record_fn visit,
                   void *context);
syna_rc db_refresh(syna_db *db, bool *changed);
syna_rc db_get_stats(syna_db *db, syna_db_stats *out);

/* ---- db_scan.c */
syna_rc db_scan_new(syna_db *db, const char *prefix, size_t prefix_len, const char *start,
                    size_t start_len, const char *end, size_t end_len, int32_t mode,
                    syna_scan **out);
syna_rc db_scan_next(syna_scan *scan, syna_record *record);
/* The record behind `last`, where it can be had while those since the last db_scan_next stay as they
 * are. false: db_scan_next goes on, and says what is wrong if something is. */
bool db_scan_next_beside(syna_scan *scan, const syna_record *last, syna_record *record);
void db_scan_free(syna_scan *scan);

/* ---- db_newest.c */
/* Visit the newest value of every live key that begins with `prefix` and holds a `type`, in file
 * order: the order in which they were last written. The visitor's pointers are borrowed for the
 * visit; whatever it returns but SYNA_SUCCESS ends the walk and is passed on. *count is written
 * before the first visit. No lock is held during visits; what is written meanwhile is not seen. */
typedef syna_rc (*db_newest_fn)(void *context, const syna_record *record);
syna_rc db_newest(syna_db *db, const char *prefix, size_t prefix_len, int32_t type, uint64_t *count,
                  db_newest_fn visit, void *context);

/* ---- db_blob.c */
syna_rc db_blob_create(syna_db *db, const char *key, size_t key_len, syna_blob **out);
syna_rc db_blob_write(syna_blob *blob, const void *data, size_t len);
syna_rc db_blob_finish(syna_blob *blob);
syna_rc db_blob_open(syna_db *db, const char *key, size_t key_len, syna_blob **out);
uint64_t db_blob_size(const syna_blob *blob);
/* Read it with system calls from now on, through one buffer: what is mapped does not grow with the blob.
 * One thread at a time. */
void db_blob_stream(syna_blob *blob);
syna_rc db_blob_read(syna_blob *blob, uint64_t offset, void *buf, size_t len, size_t *got);
void db_blob_free(syna_blob *blob);

/* ---- db_compact.c, db_backup.c, db_check.c */
syna_rc db_compact(syna_db *db, int32_t mode, syna_progress_fn progress, void *context);
syna_rc db_backup(syna_db *db, const char *to, syna_progress_fn progress, void *context);
syna_rc db_verify(const char *path, syna_finding_fn visit, void *context,
                  syna_progress_fn progress, syna_check *out);
syna_rc db_salvage(const char *path, const char *to, syna_finding_fn visit, void *context,
                   syna_progress_fn progress, syna_check *out);

#endif
