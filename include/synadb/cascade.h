/* synadb/cascade.h - the cascade index: vectors in an append-only row file, found in three stages that
 * each narrow down what the next one looks at.
 *
 *   hash     sign bits along a few random hyperplanes choose a cell, and cells beside it, nearest first
 *   buckets  in each cell a tree parts a bucket in two when it is full; the rows of the nearest buckets
 *            are ranked by one bit a dimension
 *   graph    sixteen links a row: a walk from the best of those on 8-bit codes; the last candidates are
 *            scored from the full rows
 *
 * So scores are exact and the same bits on every machine: smaller is nearer, see vector.h for their
 * definitions. Nothing is trained: a row is routed, linked, and found as soon as the call that stores it
 * returns. Up to 2,048 rows every search is exact.
 *
 * How wide a walk has to be is measured, not fixed: the index searches for some of its own rows before it
 * takes them in, or as if they were not there, compares with exact search, and remembers what each width
 * finds, less two standard errors; at every building and whenever the rows have doubled. A search aims at
 * a recall: that of its own, or the preset's. On data without any structure, where no walk is better than looking
 * at every code, it looks at every code, and is exact.
 *
 * Rows are durable by flush, as in syna_mmap_*: what was inserted before a flush, save or close that
 * succeeded survives the death of the process and power loss; what came later may be lost, but only as a
 * whole. The index is derived from the rows; it is saved beside them, in <path>.index, which may be
 * deleted: then it is built anew when the file is opened.
 *
 * Rows may have metadata, a JSON object each, and searches may be filtered by it: {"lang": "en"},
 * {"year": {"$gte": 2020}}, $and $or $not $in $nin $exists $contains. A filtered search returns k rows
 * whenever so many match.
 *
 * One process writes, any number read: a read-only handle shows the last flush, and newer ones after
 * syna_buckets_refresh. Two faces as in kv.h: the path-keyed functions of the seeds (syna_cascade_*) over
 * a counted table, and handles (syna_buckets_*). Any function may be called from any thread. */
#ifndef SYNADB_CASCADE_H
#define SYNADB_CASCADE_H

#include "base.h"
#include "kv.h"
#include "vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Recall that searches aim at, unless they name one: 0.95, 0.95, 0.99, 0.90. */
#define SYNA_CASCADE_LARGE 0
#define SYNA_CASCADE_SMALL 1
#define SYNA_CASCADE_HIGH_RECALL 2
#define SYNA_CASCADE_FAST_SEARCH 3

#define SYNA_CASCADE_HYPERPLANES 16u /* defaults */
#define SYNA_CASCADE_CAPACITY 128u

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create an index under the cosine metric with the preset "large". Counted: each success is given
 * back with syna_cascade_close. A file that holds rows of other dimensions is refused (0, reason
 * ARGUMENT). */
SYNA_API int32_t syna_cascade_new(const char *path, uint16_t dimensions);

/* Insert a row, or replace the one of this key. -6 for wrong dimensions. */
SYNA_API int32_t syna_cascade_insert(const char *path, const char *key, const float *vector,
                                     uint16_t dimensions);
/* `count` rows, one after the other in `vectors`: all of them or, on an error, none. A key that occurs
 * twice keeps its last row. Returns the number of keys that were new, or a negative code. */
SYNA_API int32_t syna_cascade_insert_batch(const char *path, const char *const *keys,
                                           const float *vectors, uint16_t dimensions, size_t count);

/* The `k` nearest rows as JSON, nearest first: [{"key":"a","score":0.25}, ...]. *out_json is given
 * (syna_free_json), NULL on an error. Returns the number of rows or a negative code. The second form
 * names the buckets that are looked at (at most 256; 0 = the preset's) and the candidates that the walk
 * keeps (at most 8192; 0 = as many as the preset's recall takes). */
SYNA_API int32_t syna_cascade_search(const char *path, const float *query, uint16_t dimensions,
                                     size_t k, char **out_json);
SYNA_API int32_t syna_cascade_search_params(const char *path, const float *query,
                                            uint16_t dimensions, size_t k, size_t num_probes,
                                            size_t ef_search, char **out_json);

/* Make everything inserted so far durable, and save the index. */
SYNA_API int32_t syna_cascade_flush(const char *path);
SYNA_API int32_t syna_cascade_close(const char *path);
/* Rows in the index, or a negative code. */
SYNA_API int64_t syna_cascade_len(const char *path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_buckets syna_buckets;

/* Options of syna_buckets_open. Set size = sizeof(syna_buckets_options); zero is the default. */
typedef struct syna_buckets_options {
    uint32_t size;
    uint32_t dimensions; /* 1..65535; 0 = those of the file, metric included */
    int32_t metric;      /* SYNA_METRIC_* */
    uint8_t read_only;   /* 1: the last flush, without locking out anybody */
    uint8_t preset;      /* SYNA_CASCADE_*; what is named below goes before it */
    uint8_t reserved[2];
    uint32_t num_hyperplanes; /* hash bits at most, 1..64; as many are used as there are rows for */
    uint32_t bucket_capacity; /* rows of a bucket, 16..4096 */
    uint32_t nprobe;          /* buckets that a search looks at, 1..256 */
    uint32_t threads;         /* of a building; default: the processors there are */
    float recall;             /* that searches aim at unless they name one, up to 1 */
    uint32_t reserved2;
    uint64_t initial_capacity; /* rows that are expected; a hint */
    syna_progress_fn progress; /* asked while an index is built on opening; NULL = not */
    void *context;
} syna_buckets_options;

/* Open (or create) an index. *out is given (syna_buckets_close); the same file opened twice gives the same
 * counted handle, reading and writing ones apart; the latest opening's tuning holds. While it has no rows,
 * the latest opening for writing decides dimensions and metric; else others are refused (0, reason
 * ARGUMENT). Another process that writes: -3, reason LOCKED. A file of another kind: -4, reason
 * WRONG_KIND. An index that was not saved, or was saved with other buckets, is built anew. */
SYNA_API int32_t syna_buckets_open(const char *path, const syna_buckets_options *options,
                                   syna_buckets **out);
/* Release one opening. The last one waits for calls in progress, makes everything durable, saves the
 * index and frees the handle. An error (it could not be made durable) is reported after the release. */
SYNA_API int32_t syna_buckets_close(syna_buckets *index);

SYNA_API int32_t syna_buckets_insert(syna_buckets *index, const char *key, size_t key_len,
                                     const float *vector, uint32_t dimensions);
/* Many rows: all or none. keys[i] has key_lens[i] bytes; key_lens NULL means NUL-terminated keys.
 * metadata (may be NULL): for each row NULL or a JSON object of metadata_lens[i] bytes; a row that
 * replaces another has its own metadata only. *added (may be NULL): keys that were new. `progress` (may be
 * NULL) is asked while the rows are linked; nonzero stops that (reason CANCELLED): the rows are stored
 * and searches find them, and the next call goes on. */
SYNA_API int32_t syna_buckets_insert_batch(syna_buckets *index, const char *const *keys,
                                           const size_t *key_lens, const float *vectors,
                                           uint32_t dimensions, const char *const *metadata,
                                           const size_t *metadata_lens, size_t count,
                                           syna_progress_fn progress, void *context, size_t *added);
/* Change the metadata of a row: fields that it has not are added, those that it has are replaced as a whole.
 * json (borrowed) NULL takes all metadata away. flags: 0, or SYNA_METADATA_REPLACE: the row has this metadata
 * only. -5 when there is no row; what is no JSON object is refused (reason ARGUMENT) and changes nothing. The
 * row is stored anew, with its vector, so it takes room until `compact`; it is durable as an insert is. Calls
 * of this function on one handle take turns, so none undoes what another one did. */
SYNA_API int32_t syna_buckets_update_metadata(syna_buckets *index, const char *key, size_t key_len,
                                              const char *json, size_t json_len, uint32_t flags);
/* *deleted (may be NULL): 1 when it was there. A missing key is no error. */
SYNA_API int32_t syna_buckets_delete(syna_buckets *index, const char *key, size_t key_len,
                                     int32_t *deleted);

/* Copy a row into `out`, which has room for `dimensions` floats. -5 when there is none. */
SYNA_API int32_t syna_buckets_get(syna_buckets *index, const char *key, size_t key_len, float *out,
                                  uint32_t dimensions);
/* The metadata of a row as JSON: *out is given (syna_free_json), NULL when the row has none. -5 when
 * there is no row. */
SYNA_API int32_t syna_buckets_get_metadata(syna_buckets *index, const char *key, size_t key_len,
                                           char **out, size_t *len);
/* 1, 0 or a negative code. */
SYNA_API int32_t syna_buckets_contains(syna_buckets *index, const char *key, size_t key_len);
SYNA_API uint64_t syna_buckets_count(syna_buckets *index);

/* How a search was answered; sums over all queries. Set size before the call. */
typedef struct syna_buckets_explain {
    uint32_t size;
    int32_t plan;     /* SYNA_PLAN_SCAN, EXACT, or GRAPH: all three stages */
    uint32_t ef;      /* candidates that the walk kept; 0 = there was none */
    float recall;     /* expected share of the true nearest: 1 = exact, 0 = not measured */
    uint64_t buckets; /* whose rows were ranked */
    uint64_t codes;   /* compared */
    uint64_t full;    /* rows scored in full */
    uint64_t hops;    /* rows whose links were followed */
    uint64_t matches; /* rows that match the filter; all of them without one */
    uint64_t total;   /* rows in the index */
    uint64_t buckets_there;
} syna_buckets_explain;

/* What is searched. Set size; zero is the default. */
typedef struct syna_buckets_search_options {
    uint32_t size;
    uint32_t flags;     /* SYNA_SEARCH_VECTORS, METADATA, RADIUS (always exact), EXACT */
    uint64_t k;         /* at most this many rows a query; UINT64_MAX = no limit */
    float radius;
    float recall;       /* share of the true nearest to aim at; 0 = by ef_search, or the preset's */
    uint32_t nprobe;    /* buckets, at most 256; 0 = the preset's */
    uint32_t ef_search; /* candidates that the walk keeps, at most 8192; 0 = by recall */
    const char *filter; /* JSON; NULL = none */
    size_t filter_len;
    syna_buckets_explain *explain; /* filled in when not NULL */
} syna_buckets_search_options;

/* The nearest rows of each of `count` queries, as syna_vectors_search gives them. */
SYNA_API int32_t syna_buckets_search(syna_buckets *index, const float *queries, size_t count,
                                     uint32_t dimensions, const syna_buckets_search_options *how,
                                     syna_hit **hits, size_t *counts);
/* Every row in the order written, with score 0. flags: SYNA_SEARCH_VECTORS, METADATA. */
SYNA_API int32_t syna_buckets_rows(syna_buckets *index, uint32_t flags, syna_hit **hits,
                                   size_t *count);

/* Make everything inserted so far durable, and save the index when a quarter of its rows is new. After a
 * failed sync the handle takes no more rows (reason SYNC_FAILED). */
SYNA_API int32_t syna_buckets_flush(syna_buckets *index);
/* The same, and save the index in any case; inserts wait while it is written, searches do not. */
SYNA_API int32_t syna_buckets_save(syna_buckets *index);
/* Read-only handles: show the newest flush. *changed (may be NULL): 1 when it is another one. */
SYNA_API int32_t syna_buckets_refresh(syna_buckets *index, int32_t *changed);
/* Write the live rows to a new file, durable when the call returns, and put it in the place of the old
 * one; build the index anew. A failure leaves the rows as they were. The callback must not flush or
 * compact. */
SYNA_API int32_t syna_buckets_compact(syna_buckets *index, syna_progress_fn progress,
                                      void *context);

/* Check every checksum and invariant of the last flush in `path` without writing; the file may be open.
 * SYNA_SUCCESS also when damage was found: look at out->damaged. out->frames are rows. */
SYNA_API int32_t syna_buckets_verify(const char *path, syna_finding_fn visit, void *context,
                                     syna_progress_fn progress, syna_check *out);

typedef struct syna_buckets_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint32_t num_hyperplanes, bucket_capacity, nprobe; /* in force */
    float recall;          /* that searches aim at */
    uint32_t hash_bits;    /* in use */
    uint64_t buckets;
    uint64_t rows;
    uint64_t dead_rows;    /* replaced or deleted: what compaction gives back */
    uint64_t indexed_rows; /* linked, dead ones included; each search scores the others */
    uint64_t unsaved_rows; /* stored since the last flush */
    uint64_t generation;   /* 1 for a new file, one more after every compaction */
    uint64_t index_bytes;  /* of codes, buckets and graph, wherever they stand */
    uint64_t memory_bytes; /* heap; mapped files are not counted */
    uint64_t file_bytes;   /* of the rows, room included */
    uint8_t uuid[16];
    char simd[16];
} syna_buckets_stats;
SYNA_API int32_t syna_buckets_get_stats(syna_buckets *index, syna_buckets_stats *out);

#ifdef __cplusplus
}
#endif
#endif
