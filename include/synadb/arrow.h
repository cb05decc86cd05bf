/* synadb/arrow.h - records of a database as a stream, one by one or as Arrow batches.
 *
 * The Arrow C data interface is three structs that any number of libraries read without sharing code:
 * pyarrow, polars, pandas, DuckDB. A stream made here reads the database as it is pulled, batch by batch,
 * so that its memory does not grow with the database. Batches own their memory and outlive the stream,
 * the database and this library's handles.
 *
 * Errors not named at a function: as in kv.h. Since 0.1. */
#ifndef SYNADB_ARROW_H
#define SYNADB_ARROW_H

#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The structs of the Arrow C data interface. Their layout and the names of the guards are part of that
 * interface: a header of another library that declares them too does no harm. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

#endif

/* ---- which records */

/* Columns of a stream, in the order in which they come. */
#define SYNA_COLUMN_KEY 1u     /* text */
#define SYNA_COLUMN_TYPE 2u    /* text: null float int text bytes vector packed blob deleted */
#define SYNA_COLUMN_TIME 4u    /* timestamp in microseconds, UTC */
#define SYNA_COLUMN_EXPIRES 8u /* the same, null = never */
#define SYNA_COLUMN_VALUE 16u
#define SYNA_COLUMNS_ALL 31u

#define SYNA_TYPE_ANY (-1)

/* What a walk or a stream covers. Set size = sizeof(syna_records_options); everything else zero but
 * `type` is: the newest value of every live key. All pointers are borrowed for the call. */
typedef struct syna_records_options {
    uint32_t size;
    int32_t type;        /* only values of this syna_type; SYNA_TYPE_ANY = all */
    const char *key;     /* only this key; NULL = all */
    size_t key_len;
    const char *pattern; /* only keys that match this glob (`*` crosses '/'); NULL = all */
    size_t pattern_len;
    uint8_t history;     /* 1: every record ever written, deletions included */
    uint8_t strict;      /* 1: a record that is not of `type` is SYNA_ERR_TYPE_MISMATCH, not left out */
    uint8_t reserved[2];
    uint32_t columns;    /* streams: SYNA_COLUMN_* together; 0 = all */
    uint32_t dimensions; /* streams of vectors: all have this many, and come as fixed-size lists; 0 = lists */
    uint32_t batch_rows; /* streams: rows in a batch at most; 0 = 65,536. A batch of large values is
                            shorter: it ends once it holds 8 MiB. */
} syna_records_options;

/* ---- one by one. Newest values come in the byte order of their keys; histories come key after key, in
 * the order in which keys first appeared, each oldest first. Deletions are no values: they come when
 * type is SYNA_TYPE_ANY. The content of blobs is read. What is written during a walk may be seen or
 * not. Free a walk before its database is closed; it belongs to one thread at a time. */
typedef struct syna_records syna_records;
SYNA_API int32_t syna_records_new(syna_db *db, const syna_records_options *options,
                                  syna_records **out);
/* SYNA_SUCCESS with a record (its pointers live until the next call), SYNA_ERR_KEY_NOT_FOUND at the end. */
SYNA_API int32_t syna_records_next(syna_records *records, syna_record *record);
SYNA_API void syna_records_free(syna_records *records);

/* ---- as Arrow batches. The column `value` has the type asked for, and then never holds a null; with
 * SYNA_TYPE_ANY it is a struct with one nullable field per type (float int text bytes vector packed; a
 * blob is in bytes), of which the one that the column `type` names is set.
 *
 * The stream reads `db` as it is pulled: release it before the database is closed. get_next returns an
 * errno, and get_last_error then says what syna_last_error would. A value of 2 GiB or more does not fit
 * into Arrow's 32-bit offsets: the stream ends with an error that names its key. *out is written only on
 * success and given: release it. */
SYNA_API int32_t syna_arrow_stream(syna_db *db, const syna_records_options *options,
                                   struct ArrowArrayStream *out);
/* The schema of such a stream. */
SYNA_API int32_t syna_arrow_schema(const syna_records_options *options, struct ArrowSchema *out);

/* ---- for importing histories: syna_batch_delete with a time, shown in histories as the time of the
 * deletion; 0 = now. */
SYNA_API int32_t syna_batch_delete_at(syna_batch *batch, const char *key, size_t key_len,
                                      uint64_t when_us);

/* ---- Give back the memory that the pages of the file take in this process. What was read or written stays
 * mapped, and counts as resident, until the system wants the memory; the next access maps it again, from the
 * page cache. Walks and streams do this by themselves; a program that writes gigabytes can do it after
 * every commit. Fails only for want of a handle. Any thread. */
SYNA_API int32_t syna_db_let_go(syna_db *db);

#ifdef __cplusplus
}
#endif
#endif
