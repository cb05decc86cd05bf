/* synadb/vector.h - the vector store: rows of float32 under keys, searched for the nearest.
 *
 * A vector store lives in an ordinary SynaDB log. Row `key` is the Vector value of the log key
 * "vec/<key>"; "vec-store/config" remembers dimensions and metric and is written together with the
 * first row. Everything that works on a log (verify, backup, history, compaction) works on it.
 *
 * Searches are exact while a store is small; from 10,000 rows on they go through a graph (HNSW) that is
 * built by itself or by syna_vectors_build_index, and find nearly all of the nearest rows (how many, and
 * how fast, is what `ef` and `recall` of syna_search choose). Rows that are not in the graph yet are looked
 * at by every search, all of them while they are at most some two thousand or when a recall is named; of a
 * longer tail other searches look at a part (see no_absorber). Scores are distances, smaller is nearer:
 *   cosine       1 - cos(a, b), in [0, 2]; a zero vector is at distance 1 from everything
 *   euclidean    sqrt(sum (a - b)^2)
 *   dot product  -(sum a * b)
 * They are summed in one fixed order on every machine, so the same rows and the same query give the
 * same bits everywhere; what overflows a float saturates at FLT_MAX. Equal scores: the row written
 * earlier comes first.
 *
 * The vectors stay in the log, which is mapped; in memory are an 8-bit code of each (a byte a dimension),
 * the graph (4 bytes a link, 2 * m links a row) and some 30 bytes more a row. They are saved beside the
 * log, in <path>.hnsw, when a store is closed; the file is derived, and may be deleted. Searches run at
 * the same time as each other and as inserts. While a store is open its rows are written through it; what
 * syna_put_vector writes beside it is seen when the store is opened next.
 *
 * A row may have metadata, a JSON object (RFC 8259, UTF-8, at most 64 deep): Text under "vecm/<key>",
 * written in the same commit behind the row, and gone with it. Where a function takes a filter, it is
 * JSON too:
 *   {"field": value}  {"field": {"$eq" "$ne" "$lt" "$lte" "$gt" "$gte": value}}
 *   {"field": {"$in": [..]}} {"field": {"$nin": [..]}} {"field": {"$exists": true}}
 *   {"field": {"$contains": value}} (a list has it, or a string has it as a part)
 *   {"$and": [..]} {"$or": [..]} {"$not": {..}}; several fields in one object: all of them
 * Fields of nested objects are named with dots ("author.name"); a list matches when one of its elements
 * does. Integers and floats compare exactly; other types never equal each other, and order only within
 * their type. A row without the field matches $ne, $nin and "$exists": false only. A filtered search
 * returns the k nearest of the rows that match, or all of them when they are fewer.
 *
 * Two faces as in kv.h: path-keyed functions over a counted table, and handles. Durability, threads
 * and the errors not named at a function are those of kv.h. Vectors are finite float32 in native
 * byte order; NaN and infinity are refused (reason ARGUMENT), naming the key. */
#ifndef SYNADB_VECTOR_H
#define SYNADB_VECTOR_H

#include "base.h"
#include "kv.h"

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

/* The same with metadata: of one row (a JSON object; NULL = none), and in the JSON of a search, where each
 * row that has some has it as "metadata". filter: JSON; NULL = none. */
SYNA_API int32_t syna_vector_store_insert_with_metadata(const char *path, const char *key,
                                                        const float *data, uint16_t dimensions,
                                                        const char *metadata);
SYNA_API int32_t syna_vector_store_search_filtered(const char *path, const float *query,
                                                   uint16_t dimensions, size_t k,
                                                   const char *filter, char **out_json);
/* The metadata of a row: *out_json is given, NULL when it has none. -5 when there is no row. */
SYNA_API int32_t syna_vector_store_get_metadata(const char *path, const char *key, char **out_json);

/* Build the graph now (over all rows), and tell whether there is one: 1, 0 or a negative code. */
SYNA_API int32_t syna_vector_store_build_index(const char *path);
SYNA_API int32_t syna_vector_store_has_index(const char *path);

/* Make everything inserted so far durable. */
SYNA_API int32_t syna_vector_store_flush(const char *path);
SYNA_API int32_t syna_vector_store_close(const char *path);

/* ---- the same store under the names of its index (the seeds'). `m` links of a typical row (4..64) and
 * `ef_construction` candidates (1..4096) take effect when the graph is built next. */
SYNA_API int32_t syna_hnsw_create(const char *path, uint16_t dimensions, int32_t metric, size_t m,
                                  size_t ef_construction);
/* Open a store that exists; dimensions and metric are the file's. */
SYNA_API int32_t syna_hnsw_load(const char *path);
SYNA_API int32_t syna_hnsw_insert(const char *path, const char *key, const float *data,
                                  uint16_t dimensions);
/* ef_search: candidates kept, 1..4096; 0 = the default. JSON and result as syna_vector_store_search. */
SYNA_API int32_t syna_hnsw_search(const char *path, const float *query, uint16_t dimensions,
                                  size_t k, size_t ef_search, char **out_json);
/* Link every row into the graph and make everything durable. */
SYNA_API int32_t syna_hnsw_save(const char *path);
/* {"num_vectors":..,"dimensions":..,"metric":"cosine","indexed":..,"memory_bytes":..}; given. */
SYNA_API int32_t syna_hnsw_stats(const char *path, char **out_json);
SYNA_API int32_t syna_hnsw_close(const char *path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_vectors syna_vectors;

/* Options of syna_vectors_open. Set size = sizeof(syna_vectors_options); zero is the default. */
typedef struct syna_vectors_options {
    uint32_t size;
    uint32_t dimensions; /* 1..65535; 0 = those of the file, metric included */
    int32_t metric;      /* SYNA_METRIC_* */
    uint8_t no_sync;     /* 1: writes are not synced one by one */
    uint8_t index;       /* SYNA_INDEX_* */
    uint8_t read_only;   /* 1: never write; may be opened beside a writer in another process */
    uint8_t no_absorber; /* 1: the graph is kept up by the calls that write, see below */
    syna_progress_fn progress; /* called while the rows are read, in rows; NULL = not */
    void *context;
    uint32_t m;               /* links of a typical row, 4..64; default 16 */
    uint32_t ef_construction; /* candidates when a row is linked, 1..4096; default 200 */
    uint32_t ef_search;       /* candidates of a search that names none, 1..4096; default 100 (bits: 200) */
    uint32_t threads;         /* of a build, or a search of many queries; default: the processors there are */
    uint8_t dtype;            /* SYNA_ROWS_*: what the rows are kept as */
    uint8_t quantization;     /* SYNA_CODES_*: what stands in memory of a row */
    uint8_t reserved[6];
} syna_vectors_options;

/* What rows are kept as, remembered in the file as dimensions and metric are: another than the file's is
 * refused (ARGUMENT) while the store holds rows. Rows go in and come out as floats whatever it is. The
 * 16-bit forms take half the bytes, in the file and in what a search reads of it. A row is rounded to
 * them (to nearest, ties to even) when it is inserted: float16 keeps 11 bits of an element and sizes up
 * to 65,504, bfloat16 8 bits and the sizes of float32. An element that would become infinite is refused
 * (ARGUMENT). What the store gives back are the rounded rows, and its scores are exact for them. */
#define SYNA_ROWS_DEFAULT 0 /* as the file has them; float32 in a new one */
#define SYNA_ROWS_FLOAT32 1
#define SYNA_ROWS_FLOAT16 2
#define SYNA_ROWS_BFLOAT16 3

/* What searches look at first; candidates are scored by the rows themselves, so every score that comes
 * back is exact. Remembered and refused as dtype is. A byte a dimension bounds distances on both sides:
 * exact search scores few rows. A bit a dimension takes an eighth of that (rounded up to 64 bytes) and is
 * coarser: a walk through the graph needs some times the candidates for the same recall (options.ef_search
 * is 200 by default; `recall` of a search is measured on the store as ever), and whatever is exact scores
 * every row. Without codes there is no graph: every search scores every row, from the mapped file, and
 * nothing is saved beside it. */
#define SYNA_CODES_DEFAULT 0 /* as the file has it; int8 in a new one */
#define SYNA_CODES_NONE 1
#define SYNA_CODES_INT8 2
#define SYNA_CODES_BINARY 3

/* The graph is kept up by a thread of the store, the absorber: it takes the rows that are new, once they
 * are some hundreds, builds the graph anew when they are many, and leads links past rows that died. No
 * write waits for it. It runs while there is such work and with a lower priority; searches answer the
 * same rows all the time, new ones by looking at all of them, or, where they are more than two thousand
 * behind, at those of the rest that are in the buckets nearest to the query, some thousands: that costs
 * recall until they are in the graph (of 100,000 rows behind, ten nearest, ef 100: 0.90 and 0.96 of the true
 * nearest on two sets of real vectors, 0.99 without a tail), and explain then says 0, not measured. A search
 * that names a recall, is exact, has a filter or a radius looks at all of them, so that the recall named holds
 * for them, too; what it takes grows with them. Two runs of one program may so get graphs
 * that differ, and results that differ within the recall. With no_absorber = 1 a write that leaves too
 * much behind does the work itself before it returns, and the same calls give the same graph. A store
 * opened read only has no such thread: syna_vectors_open and syna_vectors_refresh do the work. */

#define SYNA_INDEX_AUTO 0 /* a graph from 10,000 rows on, or when it is asked for */
#define SYNA_INDEX_FLAT 1 /* always exact; no graph is made by itself */
#define SYNA_INDEX_HNSW 2 /* the same as AUTO: small stores need no graph to be as quick */

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

/* The same with metadata: for each row NULL or a JSON object of metadata_lens[i] bytes (metadata_lens
 * NULL: NUL-terminated). A row that replaces another has its own metadata only. What is no JSON object is
 * refused (reason ARGUMENT), naming the row and the byte. */
SYNA_API int32_t syna_vectors_insert_rows(syna_vectors *store, const char *const *keys,
                                          const size_t *key_lens, const float *vectors,
                                          uint32_t dimensions, const char *const *metadata,
                                          const size_t *metadata_lens, size_t count, size_t *added);

#define SYNA_METADATA_REPLACE 1u /* the row has this metadata only */

/* Change the metadata of a row: fields that it has not are added, those that it has are replaced as a
 * whole. json NULL takes all metadata away. -5 when there is no row. Calls of this function on one handle
 * take turns, so none undoes what another one did. */
SYNA_API int32_t syna_vectors_update_metadata(syna_vectors *store, const char *key, size_t key_len,
                                              const char *json, size_t json_len, uint32_t flags);

/* The metadata of a row: *json is given (syna_free_json), NULL when it has none. -5 when there is no
 * row. *json_len may be NULL. */
SYNA_API int32_t syna_vectors_get_metadata(syna_vectors *store, const char *key, size_t key_len,
                                           char **json, size_t *json_len);

/* Delete the rows that match, in one commit: those that did when the call began. *deleted (may be
 * NULL): how many. */
SYNA_API int32_t syna_vectors_delete_where(syna_vectors *store, const char *filter, size_t filter_len,
                                           uint64_t *deleted);

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

/* Rows that match. */
SYNA_API int32_t syna_vectors_count_where(syna_vectors *store, const char *filter, size_t filter_len,
                                          uint64_t *count);

/* One row of a result. Arrays of it cross this interface, so it has no size and its layout is fixed: 40
 * bytes where pointers have 8. What a later version has to say about a row will stand in an array of its
 * own beside this one. */
typedef struct syna_hit {
    const char *key;     /* key_len bytes and a NUL */
    const float *vector; /* `dimensions` floats; NULL unless asked for */
    uint32_t key_len;
    float score;
    const char *metadata; /* metadata_len bytes of JSON and a NUL; NULL: none, or not asked for */
    size_t metadata_len;
} syna_hit;

#define SYNA_SEARCH_VECTORS 1u /* fill in syna_hit.vector */
#define SYNA_SEARCH_RADIUS 2u  /* only rows with score <= radius; always exact */
#define SYNA_SEARCH_EXACT 4u   /* as if every row had been scored */
#define SYNA_SEARCH_METADATA 8u /* fill in syna_hit.metadata */

#define SYNA_PLAN_SCAN 0  /* every row was scored */
#define SYNA_PLAN_EXACT 1 /* all codes were looked at, and the rows that could matter scored: exact */
#define SYNA_PLAN_GRAPH 2 /* the graph, and the rows that are not in it yet; see the absorber */

/* How a search was answered. Set size before the call. */
typedef struct syna_explain {
    uint32_t size;
    int32_t plan;   /* SYNA_PLAN_* */
    uint32_t ef;    /* candidates kept in the graph; 0 = it was not used */
    float recall;   /* expected share of the true nearest: 1 = exact, 0 = not measured yet */
    uint64_t codes; /* codes compared, over all queries */
    uint64_t full;  /* rows scored in full */
    uint64_t hops;  /* rows of the graph that were walked through */
    uint64_t matches; /* rows that match the filter; without one, all */
} syna_explain;

typedef struct syna_search {
    uint32_t size;
    uint32_t flags; /* SYNA_SEARCH_* */
    uint64_t k;     /* at most this many rows a query; UINT64_MAX = no limit */
    float radius;
    uint32_t ef;  /* candidates to keep in the graph, 1..4096; more finds more; 0: by recall, or ef_search. It is what
                   * a typical query takes: one around which few rows are nearly as near as the k-th ends sooner,
                   * one around which many are goes on to three times as many */
    float recall; /* share of the true nearest to aim at, as measured on this store; 0 = by ef. Of rows that are
                     not in the graph all are looked at */
    uint32_t reserved;
    syna_explain *explain; /* filled in when not NULL */
    const char *filter;    /* filter_len bytes of JSON; NULL = none */
    size_t filter_len;
} syna_search;

/* The nearest rows of each of `count` queries, which stand one after the other in `queries`. The
 * hits of query 0 come first, nearest first, counts[0] of them, then those of query 1. *hits is
 * given: one block (syna_free_hits) with everything that it points to. All queries see the same
 * rows. */
SYNA_API int32_t syna_vectors_search(syna_vectors *store, const float *queries, size_t count,
                                     uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                     size_t *counts);

/* Every row in the order written, with score 0. flags: SYNA_SEARCH_VECTORS, SYNA_SEARCH_METADATA. */
SYNA_API int32_t syna_vectors_rows(syna_vectors *store, uint32_t flags, syna_hit **hits,
                                   size_t *count);
/* Those of them that match. */
SYNA_API int32_t syna_vectors_rows_where(syna_vectors *store, const char *filter, size_t filter_len,
                                         uint32_t flags, syna_hit **hits, size_t *count);
SYNA_API void syna_free_hits(syna_hit *hits);

/* Build the graph over all rows, whatever options.index says; a store without codes refuses (ARGUMENT). Searches and inserts go on meanwhile. */
SYNA_API int32_t syna_vectors_build_index(syna_vectors *store, syna_progress_fn progress,
                                          void *context);
/* Do now, in the calling thread, what the store would do by itself sooner or later: take all fresh rows
 * into the graph (with a graph, or from 10,000 rows on). Searches and inserts go on meanwhile; what was
 * stopped by the callback is gone on with later. Since 0.1. */
SYNA_API int32_t syna_vectors_absorb(syna_vectors *store, syna_progress_fn progress, void *context);
SYNA_API int32_t syna_vectors_has_index(syna_vectors *store); /* 1, 0 or a negative code */

SYNA_API int32_t syna_vectors_flush(syna_vectors *store);

/* In a store opened read only: see what the writer has done since. *changed (may be NULL): 1 when rows
 * came, went or changed. */
SYNA_API int32_t syna_vectors_refresh(syna_vectors *store, int32_t *changed);

typedef struct syna_vectors_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint8_t dtype;        /* SYNA_ROWS_FLOAT32, ... */
    uint8_t quantization; /* SYNA_CODES_NONE, ... */
    uint8_t reserved[2];
    uint64_t rows;
    uint64_t memory_bytes; /* memory of its own: codes, graph, key table, metadata; not what is mapped */
    uint64_t file_bytes;   /* of the log, up to its end */
    char simd[16];         /* the kernels in use: "scalar", "avx2...", "avx512...", "neon..." */
    uint64_t indexed_rows; /* rows in the graph, dead ones included */
    uint64_t dead_rows;    /* replaced or deleted, and not packed away yet */
    uint64_t changes;      /* goes up with every row that comes or goes while the store is open */
    uint32_t row_bytes;    /* of one row's elements in the file */
    uint32_t code_bytes;   /* of one row's code in memory */
} syna_vectors_stats;
SYNA_API int32_t syna_vectors_get_stats(syna_vectors *store, syna_vectors_stats *out);

/* ---------------------------------------------------------------- memory-mapped vector stores
 *
 * The same searches over a row file: rows are stored into the mapped file at memory speed, never
 * copied into the process, and become durable together, by checkpoint. What was inserted before a
 * checkpoint, flush or close that succeeded survives the death of the process and power loss; what
 * came later may be lost, but only as a whole: the next opening finds the state of that checkpoint or
 * of a later one.
 *
 * One process writes, any number read: a read-only handle shows the last checkpoint, and newer ones
 * after syna_mmap_refresh. Room is made before it is used, so a full disk is an error return (reason
 * NO_SPACE) that changes nothing. A block of the file is compared with its checksum before it is used
 * for the first time; one that does not match is an error (-4, reason CORRUPT) naming its offset, and
 * the handle then takes no more rows. */

/* ---- path-keyed face (the seeds') */

/* Open or create a store; the rules of syna_vector_store_new. initial_capacity: rows that are expected,
 * for which room is made when the first row comes, 64 MiB at most; any number will do, the file grows. */
SYNA_API int32_t syna_mmap_vector_store_new(const char *path, uint16_t dimensions, int32_t metric,
                                            size_t initial_capacity);

/* Insert a row, or replace the one of this key. -6 for wrong dimensions. */
SYNA_API int32_t syna_mmap_vector_store_insert(const char *path, const char *key,
                                               const float *vector, uint16_t dimensions);

/* `count` rows, one after the other in `vectors`: all of them or, on an error, none. A key that occurs
 * twice keeps its last row. Returns the number of keys that were new, or a negative code. */
SYNA_API int32_t syna_mmap_vector_store_insert_batch(const char *path, const char *const *keys,
                                                     const float *vectors, uint16_t dimensions,
                                                     size_t count);

/* The `k` nearest rows as JSON, nearest first: [{"key":"a","score":0.25}, ...]. *out_json is given
 * (syna_free_json), NULL on an error; *out_len (may be NULL) is its length without the NUL. Returns
 * the number of rows or a negative code. */
SYNA_API int32_t syna_mmap_vector_store_search(const char *path, const float *query,
                                               uint16_t dimensions, size_t k, char **out_json,
                                               size_t *out_len);

SYNA_API int32_t syna_mmap_vector_store_build_index(const char *path);
/* Make everything inserted so far durable: a checkpoint. */
SYNA_API int32_t syna_mmap_vector_store_flush(const char *path);
SYNA_API int32_t syna_mmap_vector_store_close(const char *path);
/* Rows in the store, or a negative code. */
SYNA_API int64_t syna_mmap_vector_store_len(const char *path);

/* ---- handles */

typedef struct syna_mmap syna_mmap;

/* Options of syna_mmap_open. Set size = sizeof(syna_mmap_options); zero is the default. */
typedef struct syna_mmap_options {
    uint32_t size;
    uint32_t dimensions;       /* 1..65535 */
    int32_t metric;            /* SYNA_METRIC_* */
    uint8_t read_only;         /* 1: the last checkpoint, without locking out anybody */
    uint8_t reserved[3];
    uint64_t initial_capacity; /* rows that are expected; a hint */
} syna_mmap_options;

/* Open (or create) a store. *out is given (syna_mmap_close); the same file opened twice gives the same
 * counted handle, reading and writing ones apart. While the store has no rows, the latest opening for
 * writing decides dimensions and metric; else others are refused (0, reason ARGUMENT). Another process
 * that writes: -3, reason LOCKED. A file of another kind: -4, reason WRONG_KIND. */
SYNA_API int32_t syna_mmap_open(const char *path, const syna_mmap_options *options,
                                syna_mmap **out);

/* Release one opening. The last one waits for calls in progress, makes everything durable and frees
 * the handle. An error (it could not be made durable) is reported after the release. */
SYNA_API int32_t syna_mmap_close(syna_mmap *store);

SYNA_API int32_t syna_mmap_insert(syna_mmap *store, const char *key, size_t key_len,
                                  const float *vector, uint32_t dimensions);
/* keys[i] has key_lens[i] bytes; key_lens NULL means NUL-terminated keys. All rows or none. *added (may
 * be NULL) is the number of keys that were new. */
SYNA_API int32_t syna_mmap_insert_batch(syna_mmap *store, const char *const *keys,
                                        const size_t *key_lens, const float *vectors,
                                        uint32_t dimensions, size_t count, size_t *added);
/* *deleted (may be NULL): 1 when it was there. A missing key is no error. */
SYNA_API int32_t syna_mmap_delete(syna_mmap *store, const char *key, size_t key_len,
                                  int32_t *deleted);

/* Copy a row into `out`, which has room for `dimensions` floats. -5 when there is none. */
SYNA_API int32_t syna_mmap_get(syna_mmap *store, const char *key, size_t key_len, float *out,
                               uint32_t dimensions);

/* A row where it is mapped, without a copy: the dimensions of the store, not to be written to. It never
 * changes, and stays valid until syna_mmap_unpin, also when the row is replaced and the store compacted
 * or closed. *pin is given. */
typedef struct syna_mmap_pin syna_mmap_pin;
SYNA_API int32_t syna_mmap_view(syna_mmap *store, const char *key, size_t key_len,
                                const float **out, syna_mmap_pin **pin);
SYNA_API void syna_mmap_unpin(syna_mmap_pin *pin);

/* 1, 0 or a negative code. */
SYNA_API int32_t syna_mmap_contains(syna_mmap *store, const char *key, size_t key_len);
SYNA_API uint64_t syna_mmap_count(syna_mmap *store);

/* As syna_vectors_search and syna_vectors_rows. Without an index every row is scored; with one, see
 * syna_mmap_build_index. A search that names neither `ef` nor `recall` keeps 100 candidates. */
SYNA_API int32_t syna_mmap_search(syna_mmap *store, const float *queries, size_t count,
                                  uint32_t dimensions, const syna_search *how, syna_hit **hits,
                                  size_t *counts);
SYNA_API int32_t syna_mmap_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count);

/* Build the index, or bring it up to date: an 8-bit code of every row, and a graph (as that of a vector
 * store, with its defaults) over all of them. In memory they take a byte a dimension and some 140 bytes a
 * row. Searches, inserts and deletes go on meanwhile; a failure or a callback that says stop leaves the
 * index as it was. When the call returns, rows and index are durable: the index is saved in
 * <path>.hnsw, which may be deleted, and which is passed over when it does not fit.
 *
 * Rows that come later are found exactly, at the speed of their number; each checkpoint links up to
 * 8,192 of them into the graph, and this call all. Rows that die are stepping stones until this call or
 * syna_mmap_compact leads past them. Progress is in rows; the callback must not checkpoint, compact or
 * build. */
SYNA_API int32_t syna_mmap_build_index(syna_mmap *store, syna_progress_fn progress, void *context);
SYNA_API int32_t syna_mmap_has_index(syna_mmap *store); /* 1, 0 or a negative code */

/* Make everything inserted so far durable. Inserts and searches go on meanwhile. After a failed sync
 * the handle takes no more rows (reason SYNC_FAILED). */
SYNA_API int32_t syna_mmap_checkpoint(syna_mmap *store);

/* Read-only handles: show the newest checkpoint. *changed (may be NULL): 1 when it is another one. */
SYNA_API int32_t syna_mmap_refresh(syna_mmap *store, int32_t *changed);

/* Write the live rows to a new file, durable when the call returns, and put it in the place of the old
 * one. Inserts and searches go on meanwhile; a failure leaves the store as it was. The callback must
 * not checkpoint or compact this store. */
SYNA_API int32_t syna_mmap_compact(syna_mmap *store, syna_progress_fn progress, void *context);

/* Check every checksum and invariant of the last checkpoint in `path` without writing; the file may be
 * open. SYNA_SUCCESS also when damage was found: look at out->damaged. out->frames are rows. */
SYNA_API int32_t syna_mmap_verify(const char *path, syna_finding_fn visit, void *context,
                                  syna_progress_fn progress, syna_check *out);

typedef struct syna_mmap_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint32_t reserved;
    uint64_t rows;
    uint64_t dead_rows;    /* replaced or deleted: what compaction gives back */
    uint64_t capacity;     /* rows that the file has room for */
    uint64_t unsaved_rows; /* stored since the last checkpoint */
    uint64_t checkpoints;  /* since the file was made or compacted */
    uint64_t generation;   /* 1 for a new file, one more after every compaction */
    uint64_t memory_bytes; /* index included; the mapped file is not counted */
    uint64_t file_bytes;   /* room included */
    uint8_t uuid[16];      /* the store's identity; compaction keeps it */
    char simd[16];
    uint64_t indexed_rows; /* rows in the graph, dead ones included */
} syna_mmap_stats;
SYNA_API int32_t syna_mmap_get_stats(syna_mmap *store, syna_mmap_stats *out);

#ifdef __cplusplus
}
#endif
#endif
