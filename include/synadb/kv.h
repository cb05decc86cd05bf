/* synadb/kv.h - the key-value store with full history.
 *
 * A database is one append-only file. Every put appends a frame; the newest frame of a key is its
 * value, all of them are its history. Two faces:
 *
 *   path-keyed   syna_open(path) once, then pass the same path to every call. Any spelling that
 *                leads to the same file means the same open database. Openings are counted: the
 *                last syna_close closes.
 *   handles      syna_db_open gives a `syna_db *`. Same engine, no look-up, lengths instead of NUL
 *                termination, options, batches, scans. A handle is released with syna_db_close.
 *
 * Keys are 1..65534 bytes of UTF-8 without NUL. Durability: with sync (the default) a write that
 * returned success survives power loss; without it, it survives the death of the process, and power
 * loss only after syna_db_flush or a close. See README "Durability".
 *
 * Errors not named at a function: -1 not open, -2 null pointer or bad UTF-8, -3 the system refused,
 * -4 damage, -7 empty key, -8 key too long, -100 internal or out of memory. */
#ifndef SYNADB_KV_H
#define SYNADB_KV_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_KEY_MAX 65534u          /* bytes in a key */
#define SYNA_VALUE_MAX 0x3fffffffu   /* bytes in one value (1 GiB - 1); larger: syna_blob_* */

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create the database file. SYNA_SUCCESS, or a code <= 0: -2 not a usable path, -3 with
 * reason LOCKED when another process writes to it, -4 with reason WRONG_KIND for a file that is not
 * a SynaDB log (it is left untouched). sync_on_write: 0 or 1; syna_open uses 1. */
SYNA_API int32_t syna_open(const char *path);
SYNA_API int32_t syna_open_with_config(const char *path, int32_t sync_on_write);
SYNA_API int32_t syna_close(const char *path);

/* Append a value. Returns the offset of its frame (>= 0) or a negative code. All arguments are
 * borrowed. Text must be UTF-8 (it ends at its NUL); `data` may be NULL when len is 0. */
SYNA_API int64_t syna_put_float(const char *path, const char *key, double value);
SYNA_API int64_t syna_put_int(const char *path, const char *key, int64_t value);
SYNA_API int64_t syna_put_text(const char *path, const char *key, const char *value);
SYNA_API int64_t syna_put_bytes(const char *path, const char *key, const uint8_t *data, size_t len);

/* Append `count` floats to the history of one key, atomically and with one sync. Returns the number
 * written (0 for count 0) or a negative code. */
SYNA_API int64_t syna_put_floats_batch(const char *path, const char *key, const double *values,
                                       size_t count);

/* Append one vector of 1..65535 finite float32. */
SYNA_API int64_t syna_put_vector(const char *path, const char *key, const float *data,
                                 uint16_t dimensions);

/* Read the newest value. *out is written only on success. -5 missing or deleted, -6 other type. */
SYNA_API int32_t syna_get_float(const char *path, const char *key, double *out);
SYNA_API int32_t syna_get_int(const char *path, const char *key, int64_t *out);

/* Read the newest text or bytes: given, to be freed with syna_free_text / syna_free_bytes. NULL on
 * failure (syna_last_error tells why; *out_len is then 0). An empty value is a non-NULL pointer
 * with length 0. Text is NUL-terminated; *out_len does not count the NUL and may be NULL. */
SYNA_API char *syna_get_text(const char *path, const char *key, size_t *out_len);
SYNA_API uint8_t *syna_get_bytes(const char *path, const char *key, size_t *out_len);
SYNA_API void syna_free_text(char *text, size_t len);
SYNA_API void syna_free_bytes(uint8_t *data, size_t len);

/* Read the newest vector: *out_data is given (syna_free_vector). */
SYNA_API int32_t syna_get_vector(const char *path, const char *key, float **out_data,
                                 uint16_t *out_dimensions);
SYNA_API void syna_free_vector(float *data, uint16_t dimensions);

/* Every float ever put under the key, oldest first, as one array: given (syna_free_tensor). Values
 * of other types and deletions are left out; values from before a deletion stay. NULL with
 * *out_len 0 when there are none, or on failure (then syna_last_error tells why). */
SYNA_API double *syna_get_history_tensor(const char *path, const char *key, size_t *out_len);
SYNA_API void syna_free_tensor(double *data, size_t len);

/* Delete the key; deleting a missing key succeeds and writes nothing. */
SYNA_API int32_t syna_delete(const char *path, const char *key);

/* 1 exists, 0 does not, negative code on failure. */
SYNA_API int32_t syna_exists(const char *path, const char *key);

/* The live keys, sorted by their bytes: given (syna_free_keys). NULL and 0 when there are none. */
SYNA_API char **syna_keys(const char *path, size_t *out_len);
SYNA_API void syna_free_keys(char **keys, size_t len);

/* Rewrite the file with the newest value of each live key only. Readers and writers go on. */
SYNA_API int32_t syna_compact(const char *path);

/* ---------------------------------------------------------------- handles */

/* Structs begin with their size: set it to sizeof. In one that the library fills, it says afterwards how
 * much was filled (0 before a call is taken for the layout of the first release). Batches, scans and
 * blobs of a database are freed before the database is closed. */

typedef struct syna_db syna_db;

/* The types a value can have. 0..5 are the file format's atoms. */
typedef enum syna_type {
    SYNA_TYPE_NULL = 0,
    SYNA_TYPE_FLOAT = 1,
    SYNA_TYPE_INT = 2,
    SYNA_TYPE_TEXT = 3,
    SYNA_TYPE_BYTES = 4,
    SYNA_TYPE_VECTOR = 5,
    SYNA_TYPE_PACKED = 6, /* a self-describing packed value (csrc/FORMATS.md) */
    SYNA_TYPE_BLOB = 7    /* streamed: read it with syna_blob_open */
} syna_type;

/* Options of syna_db_open. Set size = sizeof(syna_db_options) and leave the rest zero for defaults. */
typedef struct syna_db_options {
    uint32_t size;
    uint8_t no_sync;        /* 1: writes are not synced one by one */
    uint8_t no_compression; /* 1: never LZ4 */
    uint8_t read_only;      /* 1: never write; may be opened beside a writer in another process */
    uint8_t shared;         /* 1: several writing processes; the lock is taken per commit */
    uint8_t must_exist;     /* 1: a missing file is an error instead of being created */
    uint8_t no_mmap;        /* 1: read with pread only (for files that outsiders may truncate) */
    uint8_t reserved[2];
    uint32_t timeout_ms; /* shared: how long a commit may wait for the lock; 0 = 5,000 */
} syna_db_options;

/* What opening found. */
typedef struct syna_open_report {
    uint32_t size;
    uint8_t clean;      /* the file had been closed properly */
    uint8_t created;    /* the file is new */
    uint8_t legacy;     /* a file of the ancestor: no checksums, read-only */
    uint8_t rebuilt;    /* the key checkpoint was missing or stale: whole file scanned */
    uint8_t read_only;  /* this handle cannot write */
    uint8_t reserved[3];
    uint32_t format_major, format_minor;
    uint64_t frames_scanned;
    uint64_t cut_offset; /* where a torn tail began */
    uint64_t cut_bytes;  /* its length; 0 = none */
    uint8_t cut_saved;   /* 1: a copy is in <path>.cut */
    uint8_t reserved2[7];
} syna_open_report;

/* Open (or create) `path`. Opening a file twice in one process gives the same counted handle; the
 * second opening's options must be compatible (no write access through a read-only first opening
 * and the reverse are separate handles). options may be NULL. *out is given (syna_db_close). */
SYNA_API int32_t syna_db_open(const char *path, const syna_db_options *options, syna_db **out);

/* Release one opening. The last one waits for calls in progress, makes everything durable and
 * frees the handle. An error (the data could not be made durable) is reported after the release. */
SYNA_API int32_t syna_db_close(syna_db *db);

SYNA_API int32_t syna_db_report(syna_db *db, syna_open_report *out);
SYNA_API const char *syna_db_path(syna_db *db); /* absolute path; lives as long as the handle */

/* ---- writing. Keys are (pointer, length), borrowed. On success *offset (may be NULL) is where the
 * frame starts, valid until the next compaction. `when_us`: microseconds since 1970 as the value's
 * time, 0 = now. `expires_us`: absolute expiry, 0 = never. Both live in syna_put. */
typedef struct syna_put {
    uint32_t size;
    uint64_t when_us;
    uint64_t expires_us;
} syna_put;

/* One value of any type, as data: FLOAT 8 bytes, INT 8 bytes, TEXT/BYTES/PACKED raw bytes, VECTOR
 * 4*dims bytes, NULL nothing. `how` may be NULL. */
SYNA_API int32_t syna_db_put(syna_db *db, const char *key, size_t key_len, int32_t type,
                             const void *data, size_t len, const syna_put *how, uint64_t *offset);
SYNA_API int32_t syna_db_put_float(syna_db *db, const char *key, size_t key_len, double value,
                                   uint64_t *offset);
SYNA_API int32_t syna_db_put_int(syna_db *db, const char *key, size_t key_len, int64_t value,
                                 uint64_t *offset);

/* Append `count` floats or ints to a history in one commit, stored as compressed column blocks.
 * times_us: count non-decreasing times, or NULL for now. */
SYNA_API int32_t syna_db_append_floats(syna_db *db, const char *key, size_t key_len,
                                       const double *values, const uint64_t *times_us, size_t count);
SYNA_API int32_t syna_db_append_ints(syna_db *db, const char *key, size_t key_len,
                                     const int64_t *values, const uint64_t *times_us, size_t count);

/* *deleted (may be NULL): 1 when the key was there. */
SYNA_API int32_t syna_db_delete(syna_db *db, const char *key, size_t key_len, int32_t *deleted);

/* Make everything written so far durable. */
SYNA_API int32_t syna_db_flush(syna_db *db);

/* ---- atomic batches: collected in memory, applied by commit as a whole, with one sync. A batch
 * belongs to one thread. The database is unchanged until syna_batch_commit returns success. */
typedef struct syna_batch syna_batch;
SYNA_API int32_t syna_batch_new(syna_db *db, syna_batch **out);
SYNA_API int32_t syna_batch_put(syna_batch *batch, const char *key, size_t key_len, int32_t type,
                                const void *data, size_t len, const syna_put *how);
SYNA_API int32_t syna_batch_delete(syna_batch *batch, const char *key, size_t key_len);
SYNA_API size_t syna_batch_count(const syna_batch *batch);
SYNA_API int32_t syna_batch_commit(syna_batch *batch); /* empties it; it can be filled again */
SYNA_API void syna_batch_free(syna_batch *batch);      /* not committed = forgotten */

/* ---- reading */

/* Read the newest value of any type into `buf` (cap bytes). *len is the value's full length and
 * *type its type; when *len > cap nothing is copied and the call still succeeds: call again with
 * room. This is the fast path: one look-up, one copy, no allocation. */
SYNA_API int32_t syna_db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap,
                             size_t *len, int32_t *type);
SYNA_API int32_t syna_db_get_float(syna_db *db, const char *key, size_t key_len, double *out);
SYNA_API int32_t syna_db_get_int(syna_db *db, const char *key, size_t key_len, int64_t *out);

/* The same as it was at time `at_us`: the last value put or imported with a stamp <= at_us. */
SYNA_API int32_t syna_db_get_at(syna_db *db, const char *key, size_t key_len, uint64_t at_us,
                                void *buf, size_t cap, size_t *len, int32_t *type);

/* 1, 0 or a negative code. */
SYNA_API int32_t syna_db_exists(syna_db *db, const char *key, size_t key_len);
/* Live keys; negative code on failure. */
SYNA_API int64_t syna_db_count(syna_db *db);

/* All floats (or ints) of a history. *count is what there is; at most cap values are written, the
 * oldest first. times_us may be NULL. Call with cap 0 to learn the count. */
SYNA_API int32_t syna_db_history_floats(syna_db *db, const char *key, size_t key_len,
                                        double *values, uint64_t *times_us, size_t cap,
                                        size_t *count);
SYNA_API int32_t syna_db_history_ints(syna_db *db, const char *key, size_t key_len,
                                      int64_t *values, uint64_t *times_us, size_t cap,
                                      size_t *count);

/* Walk the whole history of a key, oldest first: values of every type and deletions. The visitor's
 * `data` is borrowed for the visit; `deleted` marks a deletion. Return non-zero to stop. */
typedef struct syna_record {
    uint32_t size;
    int32_t type;
    int32_t deleted;
    uint64_t time_us;
    uint64_t expires_us;
    const char *key;
    size_t key_len;
    const void *data;
    size_t len;
} syna_record;
typedef int32_t (*syna_record_fn)(void *context, const syna_record *record);
SYNA_API int32_t syna_db_history(syna_db *db, const char *key, size_t key_len, syna_record_fn visit,
                                 void *context);

/* ---- ordered scans: live keys in byte order, starting at `start` (inclusive; NULL = first) and
 * ending before `end` (exclusive; NULL = none), only keys that begin with `prefix` (NULL = all).
 * The scan sees each key once; a key written or deleted meanwhile may or may not be seen. Of a blob
 * only the size comes (len, with data NULL); damage to one record is that record's error, and the
 * next call goes on behind it. */
typedef struct syna_scan syna_scan;
#define SYNA_SCAN_KEYS 0   /* records carry keys only */
#define SYNA_SCAN_VALUES 1 /* and the newest values */
SYNA_API int32_t syna_scan_new(syna_db *db, const char *prefix, size_t prefix_len,
                               const char *start, size_t start_len, const char *end, size_t end_len,
                               int32_t mode, syna_scan **out);
/* SYNA_SUCCESS with a record (its pointers live until the next call), SYNA_ERR_KEY_NOT_FOUND at the
 * end. A record of type SYNA_TYPE_BLOB has data NULL, in both modes: read it with syna_blob_open. */
SYNA_API int32_t syna_scan_next(syna_scan *scan, syna_record *record);
/* The same for up to `cap` (1 or more) records in an array whose first one says their size: *count of
 * them, 1 or more, on success, whose pointers all live until the next call. Spares a call in each
 * record where a call costs something, as from Python. */
SYNA_API int32_t syna_scan_next_many(syna_scan *scan, syna_record *records, size_t cap,
                                     size_t *count);
SYNA_API void syna_scan_free(syna_scan *scan);

/* ---- streamed values of any size */
typedef struct syna_blob syna_blob;
/* Write: bytes arrive in pieces; nothing is visible before syna_blob_finish returns success. After a
 * failed write or finish the blob can only be freed. No lock is held between the calls. */
SYNA_API int32_t syna_blob_create(syna_db *db, const char *key, size_t key_len, syna_blob **out);
SYNA_API int32_t syna_blob_write(syna_blob *blob, const void *data, size_t len);
SYNA_API int32_t syna_blob_finish(syna_blob *blob);
/* Read: works for BLOB, BYTES, TEXT and PACKED values; the version opened is pinned. */
SYNA_API int32_t syna_blob_open(syna_db *db, const char *key, size_t key_len, syna_blob **out);
SYNA_API uint64_t syna_blob_size(const syna_blob *blob);
SYNA_API int32_t syna_blob_read(syna_blob *blob, uint64_t offset, void *buf, size_t len,
                                size_t *got);
SYNA_API void syna_blob_free(syna_blob *blob); /* an unfinished write is forgotten */

/* ---- upkeep */
#define SYNA_COMPACT_LATEST 0  /* the newest value of each live key */
#define SYNA_COMPACT_HISTORY 1 /* everything, with numeric histories folded into column blocks */
/* The same for keys that are live, from behind their last deletion on: a key that was deleted and put
 * again keeps what was put since. Of keys that are deleted, or whose newest value has expired, nothing. */
#define SYNA_COMPACT_LIVE_HISTORY 2
/* Readers and writers go on meanwhile. A failure leaves the database as it was; damage met on the way
 * refuses the compaction and makes the handle read-only. A second compaction of the same database
 * waits for the first. The new file has the permissions of the old one; -3 when another file, or
 * none, has the path by now. */
SYNA_API int32_t syna_db_compact(syna_db *db, int32_t mode, syna_progress_fn progress,
                                 void *context);

/* Read-only handles and shared logs: see what other processes have written since. *changed (may be
 * NULL) is 1 when there was something. */
SYNA_API int32_t syna_db_refresh(syna_db *db, int32_t *changed);

/* A consistent copy of the open database in a new file, which must not exist. It gets the permissions of
 * the database. */
SYNA_API int32_t syna_db_backup(syna_db *db, const char *to, syna_progress_fn progress,
                                void *context);

typedef struct syna_db_stats {
    uint32_t size;
    uint32_t format_major, format_minor;
    uint64_t keys;          /* live */
    uint64_t deleted_keys;  /* whose newest record is a deletion (or expired) */
    uint64_t frames;        /* value frames, deletions and column blocks in the file */
    uint64_t file_bytes;    /* up to the end of the log */
    uint64_t allocated_bytes;
    uint64_t live_bytes;    /* frames that compaction would keep */
    uint64_t index_bytes;   /* heap in use by the key index; what is only reserved is not counted */
    uint64_t history_bytes; /* heap in use by histories */
    uint64_t commits, syncs; /* since this handle was opened */
    uint64_t durable_bytes;  /* this handle has synced the log up to here; a reader syncs nothing */
    uint64_t generation;
    uint8_t uuid[16];
} syna_db_stats;
SYNA_API int32_t syna_db_get_stats(syna_db *db, syna_db_stats *out);

/* ---- files that are not open (or open elsewhere, for verify) */

/* What a check or a salvage found. `visit` (may be NULL) gets one line of text a finding; return 0 to
 * go on, anything else to stop: the call then fails with reason CANCELLED. `visit` and `progress` of
 * one call are given the same `context`. */
typedef struct syna_check {
    uint32_t size;
    uint64_t frames, bytes;  /* read and found good */
    uint64_t damaged;        /* places with damage */
    uint64_t torn_bytes;     /* an unfinished tail (not damage) */
    uint64_t records_saved;  /* salvage: records copied */
} syna_check;
typedef int32_t (*syna_finding_fn)(void *context, uint64_t offset, const char *text);

/* Check every checksum and invariant of `path` without writing. SYNA_SUCCESS also when damage was
 * found: look at out->damaged. */
SYNA_API int32_t syna_verify(const char *path, syna_finding_fn visit, void *context,
                             syna_progress_fn progress, syna_check *out);

/* Copy everything readable of a damaged log to the new file `to` (which must not exist). `path` is
 * left as it is. */
SYNA_API int32_t syna_salvage(const char *path, const char *to, syna_finding_fn visit,
                              void *context, syna_progress_fn progress, syna_check *out);

#ifdef __cplusplus
}
#endif
#endif
