/* synadb/vector.h - the vector store: rows of float32 under keys, searched for the nearest.
 *
 * A vector store lives in an ordinary SynaDB log. Row `key` is the Vector value of the log key
 * "vec/<key>"; "vec-store/config" remembers dimensions and metric and is written together with the
 * first row. Everything that works on a log (verify, backup, history, compaction) works on it.
 *
 * Search is exact: every row is scored. Scores are distances, smaller is nearer:
 *   cosine       1 - cos(a, b), in [0, 2]; a zero vector is at distance 1 from everything
 *   euclidean    sqrt(sum (a - b)^2)
 *   dot product  -(sum a * b)
 * They are summed in one fixed order on every machine, so the same rows and the same query give the
 * same bits everywhere; what overflows a float saturates at FLT_MAX. Equal scores: the row written
 * earlier comes first.
 *
 * Rows are kept in memory (4 bytes a dimension) while the store is open. Searches run at the same
 * time as each other and as inserts. While a store is open its rows are written through it; what
 * syna_put_vector writes beside it is seen when the store is opened next.
 *
 * Two faces as in kv.h: path-keyed functions over a counted table, and handles. Durability, threads
 * and the errors not named at a function are those of kv.h. Vectors are finite float32 in native
 * byte order; NaN and infinity are refused (reason ARGUMENT), naming the key. */
#ifndef SYNADB_VECTOR_H
#define SYNADB_VECTOR_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_METRIC_COSINE 0
#define SYNA_METRIC_EUCLIDEAN 1
#define SYNA_METRIC_DOT_PRODUCT 2

#define SYNA_DIMENSIONS_MAX 65535u
#define SYNA_VECTOR_KEY_MAX 65530u /* bytes in the key of a row */

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create a store of `dimensions` (1..65535) and a SYNA_METRIC_*. Counted: each success is
 * given back with syna_vector_store_close. A file that holds rows of other dimensions or of another
 * metric is refused (0, reason ARGUMENT); while it holds none, the latest opening decides.
 * sync_on_write: 0 or 1; syna_vector_store_new uses 1. */
SYNA_API int32_t syna_vector_store_new(const char *path, uint16_t dimensions, int32_t metric);
SYNA_API int32_t syna_vector_store_new_with_config(const char *path, uint16_t dimensions,
                                                   int32_t metric, int32_t sync_on_write);

/* Insert a row, or replace the one of this key. 0 with reason ARGUMENT: wrong dimensions, NaN. */
SYNA_API int32_t syna_vector_store_insert(const char *path, const char *key, const float *data,
                                          uint16_t dimensions);

/* `count` rows, one after the other in `data`, in one commit: all of them or, on an error, none. A
 * key that occurs twice keeps its last row. Returns the number of keys that were new, or a negative
 * code (-2 for a bad argument). The _fast form is the same function under the seeds' other name. */
SYNA_API int32_t syna_vector_store_insert_batch(const char *path, const char *const *keys,
                                                const float *data, uint16_t dimensions,
                                                size_t count);
SYNA_API int32_t syna_vector_store_insert_batch_fast(const char *path, const char *const *keys,
                                                     const float *data, uint16_t dimensions,
                                                     size_t count);

/* The `k` nearest rows as JSON, nearest first: [{"key":"a","score":0.25,"vector":[1,2]}, ...].
 * Numbers have nine significant digits, enough to get the same float back. *out_json is given
 * (syna_free_json); NULL on an error. Returns the number of rows or a negative code (-2 for a bad
 * argument). */
SYNA_API int32_t syna_vector_store_search(const char *path, const float *query,
                                          uint16_t dimensions, size_t k, char **out_json);
SYNA_API void syna_free_json(char *json);

/* Make everything inserted so far durable. */
SYNA_API int32_t syna_vector_store_flush(const char *path);
SYNA_API int32_t syna_vector_store_close(const char *path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_vectors syna_vectors;

/* Options of syna_vectors_open. Set size = sizeof(syna_vectors_options); zero is the default. */
typedef struct syna_vectors_options {
    uint32_t size;
    uint32_t dimensions; /* 1..65535 */
    int32_t metric;      /* SYNA_METRIC_* */
    uint8_t no_sync;     /* 1: writes are not synced one by one */
    uint8_t reserved[3];
    syna_progress_fn progress; /* called while the rows are read, in rows; NULL = not */
    void *context;
} syna_vectors_options;

/* Open (or create) a store; the rules of syna_vector_store_new. *out is given
 * (syna_vectors_close); the same file opened twice gives the same counted handle. */
SYNA_API int32_t syna_vectors_open(const char *path, const syna_vectors_options *options,
                                   syna_vectors **out);

/* Release one opening. The last one waits for calls in progress, makes everything durable and frees
 * the handle. An error (the data could not be made durable) is reported after the release. */
SYNA_API int32_t syna_vectors_close(syna_vectors *store);

/* Insert a row, or replace the one of this key. */
SYNA_API int32_t syna_vectors_insert(syna_vectors *store, const char *key, size_t key_len,
                                     const float *vector, uint32_t dimensions);

/* `count` rows in one commit: all or none. keys[i] has key_lens[i] bytes; key_lens NULL means
 * NUL-terminated keys. *added (may be NULL) is the number of keys that were new. */
SYNA_API int32_t syna_vectors_insert_batch(syna_vectors *store, const char *const *keys,
                                           const size_t *key_lens, const float *vectors,
                                           uint32_t dimensions, size_t count, size_t *added);

/* Delete a row. *deleted (may be NULL): 1 when it was there. A missing key is no error and writes
 * nothing. */
SYNA_API int32_t syna_vectors_delete(syna_vectors *store, const char *key, size_t key_len,
                                     int32_t *deleted);

/* Copy a row into `out`, which has room for `dimensions` floats. -5 when there is none. */
SYNA_API int32_t syna_vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out,
                                  uint32_t dimensions);

/* 1, 0 or a negative code. */
SYNA_API int32_t syna_vectors_contains(syna_vectors *store, const char *key, size_t key_len);

/* Rows in the store. */
SYNA_API uint64_t syna_vectors_count(syna_vectors *store);

/* One row of a result. */
typedef struct syna_hit {
    const char *key;     /* key_len bytes and a NUL */
    const float *vector; /* `dimensions` floats; NULL unless asked for */
    uint32_t key_len;
    float score;
} syna_hit;

#define SYNA_SEARCH_VECTORS 1u /* fill in syna_hit.vector */
#define SYNA_SEARCH_RADIUS 2u  /* only rows with score <= radius */

typedef struct syna_search {
    uint32_t size;
    uint32_t flags; /* SYNA_SEARCH_* */
    uint64_t k;     /* at most this many rows a query; UINT64_MAX = no limit */
    float radius;
    uint32_t reserved;
} syna_search;

/* The nearest rows of each of `count` queries, which stand one after the other in `queries`. The
 * hits of query 0 come first, nearest first, counts[0] of them, then those of query 1. *hits is
 * given: one block (syna_free_hits) with everything that it points to. All queries see the same
 * rows. */
SYNA_API int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
                                     uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                     size_t *counts);

/* Every row in the order written, with score 0. flags: 0 or SYNA_SEARCH_VECTORS. */
SYNA_API int32_t syna_vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits,
                                   size_t *count);
SYNA_API void syna_free_hits(syna_hit *hits);

SYNA_API int32_t syna_vectors_flush(syna_vectors *store);

typedef struct syna_vectors_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint32_t reserved;
    uint64_t rows;
    uint64_t memory_bytes; /* heap used by rows, keys and the key table */
    uint64_t file_bytes;   /* of the log, up to its end */
    char simd[16];         /* the kernels in use: "scalar", "avx2", "avx512", "neon" */
} syna_vectors_stats;
SYNA_API int32_t syna_vectors_get_stats(syna_vectors *store, syna_vectors_stats *out);

#ifdef __cplusplus
}
#endif
#endif
