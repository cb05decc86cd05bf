/* synadb/hybrid.h - the hybrid vector store: a gravity well index that takes rows in as fast as they come
 * (the hot layer, gwi.h), a cascade index that keeps and searches them (the cold layer, cascade.h), and
 * one set of keys over both.
 *
 * Every key has one row, the newest, wherever it stands. A row is ingested into the hot layer; a promotion
 * moves what is hot to the cold one, called for or by itself when the hot layer has become large, while
 * rows are ingested, deleted and searched for. What is changed meanwhile wins: no promotion loses a row,
 * shows one twice or brings one back. A search looks at both layers and merges them by their scores,
 * which are exact, and the same bits in both: smaller is nearer, see vector.h. Each hit says which layer
 * it came from.
 *
 * Each layer is an ordinary file of its kind, and there is no third one. Rows are durable by layer:
 * flush_hot covers everything ingested and deleted before it, save_cold what had been promoted before it,
 * save and close everything; a promotion that has returned is durable. What came after may be lost in a
 * crash, and then the key has the row that was durable before. A promotion is made by one record, the
 * checkpoint of the cold layer: only rows that it covers are taken out of the hot layer. After a crash in
 * between a key stands in both files, the hot one has the newer row, and the next promotion goes on.
 *
 * While rows are ingested, recall in the hot layer is not measured anew; the first search does that when
 * there are twice as many rows as in the last measuring, and takes some tenths of a second at most.
 *
 * Rows may have metadata and searches may be filtered by it, as in gwi.h; a filter holds for both layers.
 *
 * One process writes the two files at a time; others may open them read-only meanwhile. What such a handle
 * shows are the newest checkpoints of both layers when it was opened, and newer ones after
 * syna_layers_refresh: of one moment, as a crash then would have left them.
 *
 * Two faces as in kv.h: path-keyed functions (syna_hybrid_*, named by the path of the hot layer) over a
 * counted table, and handles (syna_layers_*). Any function may be called from any thread. */
#ifndef SYNADB_HYBRID_H
#define SYNADB_HYBRID_H

#include "base.h"
#include "cascade.h"
#include "gwi.h"
#include "kv.h"
#include "vector.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_LAYER_COLD 0u /* where a row stands */
#define SYNA_LAYER_HOT 1u

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create a store under the cosine metric, the cold layer with the preset "large"; it promotes when
 * asked to only. Counted: each success is given back with syna_hybrid_close. All other functions take the
 * path of the hot layer. Files that hold rows of other dimensions are refused (0, reason ARGUMENT). */
SYNA_API int32_t syna_hybrid_new(const char *hot_path, const char *cold_path, uint16_t dimensions);

/* Place the wells of the hot layer by a sample, as syna_gwi_initialize. */
SYNA_API int32_t syna_hybrid_initialize_hot(const char *hot_path, const float *vectors,
                                            size_t num_vectors, uint16_t dimensions);

/* Store a row in the hot layer; the one of this key, in whichever layer, is replaced. -6 for wrong
 * dimensions. */
SYNA_API int32_t syna_hybrid_ingest(const char *hot_path, const char *key, const float *vector,
                                    uint16_t dimensions);
/* `count` rows, one after the other in `vectors`: all of them or, on an error, none. A key that occurs
 * twice keeps its last row. Returns the number of keys that were new, or a negative code. */
SYNA_API int32_t syna_hybrid_ingest_batch(const char *hot_path, const char *const *keys,
                                          const float *vectors, uint16_t dimensions, size_t count);
/* 1 when the key was there, 0 when not, or a negative code. */
SYNA_API int32_t syna_hybrid_delete(const char *hot_path, const char *key);

/* The `k` nearest rows as JSON, nearest first: [{"key":"a","score":0.25,"source":"hot"}, ...]. *out_json is
 * given (syna_free_json), NULL on an error. Returns the number of rows or a negative code. The second and
 * the third form look at one layer. */
SYNA_API int32_t syna_hybrid_search(const char *hot_path, const float *query, uint16_t dimensions,
                                    size_t k, char **out_json);
SYNA_API int32_t syna_hybrid_search_hot(const char *hot_path, const float *query,
                                        uint16_t dimensions, size_t k, char **out_json);
SYNA_API int32_t syna_hybrid_search_cold(const char *hot_path, const float *query,
                                         uint16_t dimensions, size_t k, char **out_json);

/* Move the rows that are hot now to the cold layer. Returns how many were moved or a negative code. */
SYNA_API int64_t syna_hybrid_promote_to_cold(const char *hot_path);
/* Make what was ingested and deleted so far durable. */
SYNA_API int32_t syna_hybrid_flush_hot(const char *hot_path);
/* Make what was promoted so far durable, and save the index of the cold layer. */
SYNA_API int32_t syna_hybrid_save_cold(const char *hot_path);
SYNA_API int32_t syna_hybrid_close(const char *hot_path);

/* Rows whose newest version is in the layer, and in both together, or a negative code. */
SYNA_API int64_t syna_hybrid_hot_count(const char *hot_path);
SYNA_API int64_t syna_hybrid_cold_count(const char *hot_path);
SYNA_API int64_t syna_hybrid_len(const char *hot_path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_layers syna_layers;

/* Options of syna_layers_open. Set size = sizeof(syna_layers_options); zero is the default. */
typedef struct syna_layers_options {
    uint32_t size;
    uint32_t dimensions;    /* 1..65535; 0 = those of the files, metric included */
    int32_t metric;         /* SYNA_METRIC_* */
    uint8_t preset;         /* SYNA_CASCADE_* of the cold layer */
    uint8_t read_only;      /* 1: the newest checkpoints, without locking out anybody */
    uint8_t reserved[2];
    float recall;           /* that searches of the cold layer aim at; 0 = the preset's */
    uint32_t threads;       /* of a training or building; default: the processors there are */
    uint64_t promote_rows;  /* promote by itself from so many hot rows on; 0 = when asked to only */
    uint64_t hot_capacity;  /* rows that are expected in the hot layer; a hint */
} syna_layers_options;

/* Open (or create) a store of two files. *out is given (syna_layers_close); the same files opened twice
 * give the same counted handle, whose latest opening decides promote_rows and recall. While neither has
 * rows, the latest opening decides dimensions and metric; else others are refused (0, reason ARGUMENT), as
 * are two paths of one file, and a hot file that is open with another cold one. A file that is open
 * otherwise, in this process or in another: -3, reason LOCKED. A read-only handle of the same files is another
 * one; it needs files that are there, and promotes nothing. Calls that would change something through it: 0,
 * reason READ_ONLY. */
SYNA_API int32_t syna_layers_open(const char *hot_path, const char *cold_path,
                                  const syna_layers_options *options, syna_layers **out);
/* Release one opening. The last one stops a promotion that goes on by itself, waits for calls in progress,
 * makes everything durable and frees the handle. An error (it could not be made durable) is reported after
 * the release. */
SYNA_API int32_t syna_layers_close(syna_layers *store);

/* As syna_wells_initialize, of the hot layer. */
SYNA_API int32_t syna_layers_initialize_hot(syna_layers *store, const float *vectors, size_t count,
                                            uint32_t dimensions, syna_progress_fn progress,
                                            void *context);

/* Many rows: all or none. Arguments as of syna_wells_insert_batch. *added (may be NULL): keys that were in
 * neither layer. */
SYNA_API int32_t syna_layers_ingest_batch(syna_layers *store, const char *const *keys,
                                          const size_t *key_lens, const float *vectors,
                                          uint32_t dimensions, const char *const *metadata,
                                          const size_t *metadata_lens, size_t count, size_t *added);
/* Change what is stored with a row: the fields of `json`, an object of `len` bytes, are added to those that
 * are there or take their places; `replace` 1: only these are left; json NULL: none. The row is hot then.
 * -5 when there is none. */
SYNA_API int32_t syna_layers_update_metadata(syna_layers *store, const char *key, size_t key_len,
                                             const char *json, size_t len, int32_t replace);
/* Out of both layers. *deleted (may be NULL): 1 when it was there. A missing key is no error. */
SYNA_API int32_t syna_layers_delete(syna_layers *store, const char *key, size_t key_len,
                                    int32_t *deleted);

/* Copy the newest row into `out`, which has room for `dimensions` floats. -5 when there is none. */
SYNA_API int32_t syna_layers_get(syna_layers *store, const char *key, size_t key_len, float *out,
                                 uint32_t dimensions);
/* The metadata of a row as JSON: *out is given (syna_free_json), NULL when the row has none. -5 when
 * there is no row. */
SYNA_API int32_t syna_layers_get_metadata(syna_layers *store, const char *key, size_t key_len,
                                          char **out, size_t *len);
/* 1, 0 or a negative code. */
SYNA_API int32_t syna_layers_contains(syna_layers *store, const char *key, size_t key_len);

/* How a search was answered; sums over all queries. Set size of all three before the call. */
typedef struct syna_layers_explain {
    uint32_t size;
    uint32_t rounds;  /* of searching: more than 1 when rows moved between layers meanwhile, or many of the
                         cold hits have newer rows in the hot layer */
    uint64_t passed;  /* hits of the cold layer that did not count: their keys have newer rows */
    syna_wells_explain hot;
    syna_buckets_explain cold;
} syna_layers_explain;

/* What is searched. Set size; zero is the default. */
typedef struct syna_layers_search_options {
    uint32_t size;
    uint32_t flags;       /* SYNA_SEARCH_VECTORS, METADATA, RADIUS (always exact), EXACT */
    uint64_t k;           /* at most this many rows a query; UINT64_MAX = no limit */
    float radius;
    float recall;         /* share of the true nearest wanted in each layer; 0 = by what follows */
    uint64_t nprobe;      /* of the hot layer; 0 = SYNA_GWI_NPROBE */
    uint32_t ef_search;   /* of the cold layer, at most 8192; 0 = by the recall it aims at */
    uint32_t layers;      /* 0 = both, 1 = the hot one, 2 = the cold one */
    const char *filter;   /* JSON; NULL = none */
    size_t filter_len;
    syna_layers_explain *explain; /* filled in when not NULL */
} syna_layers_search_options;

/* The nearest rows of each of `count` queries, as syna_vectors_search gives them; equal scores in the order
 * in which the rows were ingested. sources (may be NULL): where each hit stands, SYNA_LAYER_*, in the same
 * memory as the hits. */
SYNA_API int32_t syna_layers_search(syna_layers *store, const float *queries, size_t count,
                                    uint32_t dimensions, const syna_layers_search_options *how,
                                    syna_hit **hits, uint8_t **sources, size_t *counts);
/* Every row with score 0, the cold ones first, each layer in the order written. flags:
 * SYNA_SEARCH_VECTORS, METADATA. */
SYNA_API int32_t syna_layers_rows(syna_layers *store, uint32_t flags, syna_hit **hits,
                                  uint8_t **sources, size_t *count);

/* Move the rows that are hot when the call begins to the cold layer, durable when it returns; rows that
 * are changed meanwhile stay hot. Everything else goes on meanwhile. `progress` (may be NULL) is asked
 * between steps; nonzero stops the call (reason CANCELLED): the next one goes on, and nothing is lost. A
 * failure likewise. *moved (may be NULL): rows that were. */
SYNA_API int32_t syna_layers_promote(syna_layers *store, syna_progress_fn progress, void *context,
                                     size_t *moved);
/* See the top. After a failed sync a layer takes no more rows (reason SYNC_FAILED). */
SYNA_API int32_t syna_layers_flush_hot(syna_layers *store);
SYNA_API int32_t syna_layers_save_cold(syna_layers *store);
SYNA_API int32_t syna_layers_save(syna_layers *store);
/* Of a read-only handle: show what became durable since. *changed (may be NULL): 1 when there was something;
 * 0 always for the writer. Searches wait while rows are taken over, not while they are indexed. After an error
 * in the middle all reads fail (-3) until a refresh succeeds. */
SYNA_API int32_t syna_layers_refresh(syna_layers *store, int32_t *changed);
/* Write the live rows of each layer to a new file in the place of the old one, as syna_wells_compact and
 * syna_buckets_compact. Promotions do this with the hot layer by themselves. */
SYNA_API int32_t syna_layers_compact(syna_layers *store, syna_progress_fn progress, void *context);

typedef struct syna_layers_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint32_t promoting;   /* 1: a promotion is going on */
    uint64_t rows;        /* keys */
    uint64_t hot_rows, cold_rows; /* whose newest row is there; together `rows` */
    uint64_t outdated_rows; /* in the cold layer, with newer ones in the hot layer */
    uint64_t promotions, promoted_rows; /* by this handle */
    uint64_t promote_rows; /* as given */
    syna_wells_stats hot;  /* set size of both before the call */
    syna_buckets_stats cold;
} syna_layers_stats;
SYNA_API int32_t syna_layers_get_stats(syna_layers *store, syna_layers_stats *out);

/* Rows whose newest version is in the layer (SYNA_LAYER_*), and all. */
SYNA_API uint64_t syna_layers_count_in(syna_layers *store, uint32_t layer);
SYNA_API uint64_t syna_layers_count(syna_layers *store);

#ifdef __cplusplus
}
#endif
#endif
