/* synadb/sparse.h - the sparse vector store: rows of few (term, weight) pairs under keys, searched by dot
 * product. For learned sparse encoders (SPLADE), TF-IDF, hashed features, ready-made BM25 weights.
 *
 * A sparse store lives in an ordinary SynaDB log. Row `key` is a Bytes value of the log key "svs/<key>"
 * (csrc/FORMATS.md); "svs-store/config" remembers the vocabulary's size and is written together with the
 * first row. Everything that works on a log (verify, backup, history, compaction) works on it.
 *
 * The score of a row is the sum of query weight * row weight over the terms that both have, summed in
 * ascending order of terms in double precision and rounded to float once: the same bits on every
 * machine. More is better; rows that score exactly 0 are left out; of equal scores the row that was
 * written earlier comes first. Searches give what scoring every row would give, through an inverted
 * index of 8-bit impacts (3 to 4 bytes a posting) whose bounds are safe; with `recall` below 1 they are
 * approximate. Weights of either sign are legal.
 *
 * The rows stay in the log, which is mapped; the index is saved beside it, in <path>.postings, when a
 * store is saved or closed; that file is derived, and may be deleted. Searches run at the same time as each
 * other and as writes.
 *
 * Two faces as in kv.h: path-keyed functions over a counted table, and handles. Durability, threads and
 * the errors not named at a function are those of kv.h. */
#ifndef SYNADB_SPARSE_H
#define SYNADB_SPARSE_H

#include "base.h"
#include "kv.h"
#include "vector.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_SPARSE_KEY_MAX 65530u        /* bytes in the key of a row */
#define SYNA_SPARSE_TERMS_MAX (1u << 20)  /* pairs in one row or query */
#define SYNA_SPARSE_VOCABULARY_MAX UINT32_MAX

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create a store. Counted: each success is given back with syna_svs_close. A new store takes any
 * term below SYNA_SPARSE_VOCABULARY_MAX. Every write is synced. */
SYNA_API int32_t syna_svs_new(const char *path);
/* Open the store in `file_path` (NULL: in `path`), which must exist. With two different paths the store is
 * copied to `path` first, which must not exist. */
SYNA_API int32_t syna_svs_open(const char *path, const char *file_path);
SYNA_API int32_t syna_svs_close(const char *path);

/* Index a row of `count` pairs, or replace the one of this key. Terms may come in any order; weights of a
 * term that comes twice are added up, weights of 0 are dropped. Returns a number >= 0, or a negative code
 * (-2 for a bad argument: NaN, a term outside the vocabulary). Numbers grow with every row. */
SYNA_API int64_t syna_svs_index(const char *path, const char *key, const uint32_t *term_ids,
                                const float *weights, uint32_t count);

/* The `k` best rows, best first. out_keys and out_scores have room for k; *out_count is how many were
 * found. Each key is given (syna_svs_free_key). */
SYNA_API int32_t syna_svs_search(const char *path, const uint32_t *term_ids, const float *weights,
                                 uint32_t count, uint32_t k, char **out_keys, float *out_scores,
                                 uint32_t *out_count);
SYNA_API void syna_svs_free_key(char *key);

/* Rows in the store, or a negative code. */
SYNA_API int64_t syna_svs_len(const char *path);
/* SYNA_SUCCESS; -5 when there is no such row. */
SYNA_API int32_t syna_svs_delete(const char *path, const char *key);
/* Rows, vocabulary size, pairs in all rows (at most UINT32_MAX is shown), pairs a row. Each may be NULL. */
SYNA_API int32_t syna_svs_stats(const char *path, uint32_t *out_num_docs, uint32_t *out_num_terms,
                                uint32_t *out_num_postings, float *out_avg_doc_len);
/* Is a store open in this process under this path? 1, 0 or a negative code. */
SYNA_API int32_t syna_svs_exists(const char *path);
/* Make everything durable and save the index. A file_path (not NULL) that is another one: copy the store
 * there as well; it must not exist. */
SYNA_API int32_t syna_svs_save(const char *path, const char *file_path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_sparse syna_sparse;

/* Options of syna_sparse_open. Set size = sizeof(syna_sparse_options); zero is the default. */
typedef struct syna_sparse_options {
    uint32_t size;
    uint32_t vocab_size; /* terms are below it; 0 = as the file has it, else the largest there is */
    uint8_t no_sync;     /* 1: writes are not synced one by one */
    uint8_t read_only;   /* 1: never write; may be opened beside a writer in another process */
    uint8_t must_exist;  /* 1: a missing file, or one that never was a sparse store, is an error */
    uint8_t reserved;
    syna_progress_fn progress; /* called while the rows are read, in rows; NULL = not */
    void *context;
} syna_sparse_options;

/* Open (or create) a store. A file that holds rows of another vocabulary size is refused (0, reason
 * ARGUMENT); while it holds none, the latest opening decides. *out is given (syna_sparse_close); the same
 * file opened twice gives the same counted handle. */
SYNA_API int32_t syna_sparse_open(const char *path, const syna_sparse_options *options,
                                  syna_sparse **out);
/* Release one opening. The last one waits for calls in progress, makes everything durable, saves the index
 * where that pays and frees the handle. */
SYNA_API int32_t syna_sparse_close(syna_sparse *store);

/* Rows in compressed form: row i has the pairs [offsets[i], offsets[i + 1]). Borrowed. Set size. */
typedef struct syna_sparse_rows {
    uint32_t size;
    uint32_t reserved;
    uint64_t count;
    const uint64_t *offsets; /* count + 1, not decreasing */
    const uint32_t *terms;
    const float *weights; /* finite */
    /* Of queries NULL: */
    const char *const *keys;
    const size_t *key_lens;      /* NULL: the keys end in NUL */
    const char *const *metadata; /* JSON objects; an item, or all of it, may be NULL */
    const size_t *metadata_lens; /* NULL: they end in NUL */
} syna_sparse_rows;

/* Index rows in one commit: all of them or, on an error, none. A key that is there is replaced, with its
 * metadata; a key that occurs twice keeps its last row. *added (may be NULL): keys that were new. */
SYNA_API int32_t syna_sparse_index(syna_sparse *store, const syna_sparse_rows *rows, size_t *added);

/* Change the metadata of a row: fields that it has not are added, those that it has are replaced as a whole.
 * json (borrowed) NULL takes all metadata away. flags: 0, or SYNA_METADATA_REPLACE (vector.h): the row has
 * this metadata only. -5 when there is no row; what is no JSON object is refused (reason ARGUMENT) and changes
 * nothing. The row is written anew with its pairs, so it is durable as an indexed row is, and counts as the
 * one written last. Other writes through this handle wait meanwhile, so none undoes what another one did. */
SYNA_API int32_t syna_sparse_update_metadata(syna_sparse *store, const char *key, size_t key_len,
                                             const char *json, size_t json_len, uint32_t flags);
/* Delete a row. *deleted (may be NULL): 1 when it was there. A missing key is no error and writes
 * nothing. */
SYNA_API int32_t syna_sparse_delete(syna_sparse *store, const char *key, size_t key_len,
                                    int32_t *deleted);

/* One row: its pairs by ascending term, and its metadata, NULL when it has none. *row is given: one block
 * (syna_free_sparse_row) with everything that it points to. -5 when there is none. */
typedef struct syna_sparse_row {
    const uint32_t *terms;
    const float *weights;
    const char *metadata; /* metadata_len bytes and a NUL */
    uint32_t count;
    uint32_t metadata_len;
} syna_sparse_row;
SYNA_API int32_t syna_sparse_get(syna_sparse *store, const char *key, size_t key_len,
                                 syna_sparse_row **row);
SYNA_API void syna_free_sparse_row(syna_sparse_row *row);

/* The metadata of a row as JSON: *out is given (syna_free_json), NULL when the row has none; *len (may be
 * NULL) its bytes. -5 when there is no row. */
SYNA_API int32_t syna_sparse_get_metadata(syna_sparse *store, const char *key, size_t key_len,
                                          char **out, size_t *len);

/* 1, 0 or a negative code. */
SYNA_API int32_t syna_sparse_contains(syna_sparse *store, const char *key, size_t key_len);
/* Rows in the store. */
SYNA_API uint64_t syna_sparse_count(syna_sparse *store);

/* One row of a result. */
typedef struct syna_sparse_hit {
    const char *key;      /* key_len bytes and a NUL */
    const char *metadata; /* metadata_len bytes and a NUL; NULL when not asked for, or none */
    uint32_t key_len;
    uint32_t metadata_len;
    float score;
    uint32_t reserved;
} syna_sparse_hit;

#define SYNA_SPARSE_METADATA 1u  /* fill in syna_sparse_hit.metadata */
#define SYNA_SPARSE_MIN_SCORE 2u /* only rows with score >= min_score */

/* How a search was answered. Set size before the call. */
typedef struct syna_sparse_explain {
    uint32_t size;
    uint32_t windows;  /* windows of rows that were looked into, over all queries */
    uint64_t postings; /* postings added up */
    uint64_t scored;   /* rows scored exactly */
    uint64_t matches;  /* rows that the filter leaves; all rows without one */
} syna_sparse_explain;

typedef struct syna_sparse_search {
    uint32_t size;
    uint32_t flags;  /* SYNA_SPARSE_* */
    uint64_t k;      /* at most this many rows a query; UINT64_MAX = no limit */
    float min_score;
    float recall;    /* 0 or 1: exact; below: about so large a share of the k best is found, measured
                        on the store's own rows by the first such search; with a filter or k above
                        256: exact */
    const char *filter; /* JSON, NULL = none: only rows whose metadata match */
    size_t filter_len;
    syna_sparse_explain *explain; /* filled in when not NULL */
} syna_sparse_search;

/* The best rows of each query. The hits of query 0 come first, best first, counts[0] of them, then those of
 * query 1. *hits is given: one block (syna_free_sparse_hits) with everything that it points to. All
 * queries see the same rows. A term outside the vocabulary is an error (ARGUMENT). */
SYNA_API int32_t syna_sparse_search_many(syna_sparse *store, const syna_sparse_rows *queries,
                                         const syna_sparse_search *how, syna_sparse_hit **hits,
                                         size_t *counts);
/* Every row in the order written, with score 0. flags: 0 or SYNA_SPARSE_METADATA. */
SYNA_API int32_t syna_sparse_list(syna_sparse *store, uint32_t flags, syna_sparse_hit **hits,
                                  size_t *count);
SYNA_API void syna_free_sparse_hits(syna_sparse_hit *hits);

SYNA_API int32_t syna_sparse_flush(syna_sparse *store);
/* Make everything durable and save the index beside the log. */
SYNA_API int32_t syna_sparse_save(syna_sparse *store);
/* In a store opened read only: see what the writer has done since. *changed (may be NULL): 1 when rows
 * came, went or changed. */
SYNA_API int32_t syna_sparse_refresh(syna_sparse *store, int32_t *changed);

typedef struct syna_sparse_stats {
    uint32_t size;
    uint32_t vocab_size;
    uint64_t rows;
    uint64_t pairs;         /* in live rows */
    uint64_t dead_rows;     /* replaced or deleted; they go when the file is opened without its index */
    uint64_t memory_bytes;  /* of its own: postings, places, key table, metadata; not what is mapped */
    uint64_t mapped_bytes;  /* postings used in place in the saved index */
    uint64_t file_bytes;    /* of the log, up to its end */
    uint32_t windows;       /* sealed parts of the index */
    uint32_t fresh_rows;    /* rows that are in no window yet */
} syna_sparse_stats;
SYNA_API int32_t syna_sparse_get_stats(syna_sparse *store, syna_sparse_stats *out);

#ifdef __cplusplus
}
#endif
#endif
