/* synadb/gwi.h - the gravity well index: vectors in an append-only row file, sorted into wells as they
 * come, so that an index of any size is ready as soon as its rows are stored.
 *
 * Every row falls into the list of the centroid (the well) that is nearest to it, where it stands as an
 * 8-bit code. A search looks into the lists of the wells nearest to the query and scores what is left
 * from the full rows, so scores are exact and the same bits on every machine: smaller is nearer, see
 * vector.h for their definitions. Rows are found as soon as they are stored.
 *
 * The wells are trained by themselves: first from the sample of syna_wells_initialize, which must come
 * before the first insert, later from the store's own rows, whenever there are four times as many as in
 * the last training; a well that gets several times its share is split. Up to 4,096 rows all lists are
 * looked into, and every search is exact. Beyond, `nprobe` says how many of the nearest wells a search
 * looks into, and what that finds is measured by the store on its own rows: nprobe = 50 aims at 99 of 100
 * of the 10 nearest rows and 100 at all of them, whatever the data (on data without any structure it takes
 * nearly all lists); 5 looks into a tenth of the lists of 50; from as many as there are wells on it is all
 * of them, and exact. `recall` names the share wanted instead: then each query looks into as many lists as
 * queries took that were as hard as it looks in its first two. Measuring asks 512 of the rows of all lists,
 * which takes a twentieth to a fifth of the time of building, and is due when the rows have doubled.
 *
 * Rows are durable by flush, as in syna_mmap_*: what was inserted before a flush or close that succeeded
 * survives the death of the process and power loss; what came later may be lost, but only as a whole. The
 * lists are derived from the rows; they are saved beside them, in <path>.wells, which may be deleted.
 *
 * Rows may have metadata, a JSON object each, and searches may be filtered by it: {"lang": "en"},
 * {"year": {"$gte": 2020}}, $and $or $not $in $nin $exists $contains. A filtered search returns k rows
 * whenever so many match.
 *
 * One process writes, any number read: a read-only handle shows the last flush, and newer ones after
 * syna_wells_refresh. Two faces as in kv.h: the path-keyed functions of the seeds (syna_gwi_*) over a
 * counted table, and handles (syna_wells_*). Any function may be called from any thread. */
#ifndef SYNADB_GWI_H
#define SYNADB_GWI_H

#include "base.h"
#include "kv.h"
#include "vector.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_GWI_NPROBE 50u /* of a search that names none */

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create an index under the cosine metric; nothing is ever truncated. branching_factor to the
 * power num_levels is the most wells there will be; 0 = as many as the rows want. initial_capacity: rows
 * expected, a hint. Counted: each success is given back with syna_gwi_close. A file that holds rows of
 * other dimensions is refused (0, reason ARGUMENT). */
SYNA_API int32_t syna_gwi_new(const char *path, uint16_t dimensions, uint16_t branching_factor,
                              uint8_t num_levels, size_t initial_capacity);
/* Open an index that exists; dimensions and metric are the file's. */
SYNA_API int32_t syna_gwi_open(const char *path);

/* Place the wells by a sample, `num_vectors` (at least 1) rows of `dimensions` floats. It must come before
 * the first insert, and once is enough: that there was one is part of what a flush makes durable. The
 * sample itself is not stored. An index with rows keeps them, and trains from them where they are more
 * than the sample. */
SYNA_API int32_t syna_gwi_initialize(const char *path, const float *vectors, size_t num_vectors,
                                     uint16_t dimensions);

/* Insert a row, or replace the one of this key. -6 for wrong dimensions. An index that was never given a
 * sample and whose file has no rows, dead ones included, takes none: reason NOT_INITIALIZED (0; from
 * syna_gwi_insert_batch -100), and nothing is changed. */
SYNA_API int32_t syna_gwi_insert(const char *path, const char *key, const float *vector,
                                 uint16_t dimensions);
/* `count` rows, one after the other in `vectors`: all of them or, on an error, none. A key that occurs
 * twice keeps its last row. Returns the number of keys that were new, or a negative code. */
SYNA_API int32_t syna_gwi_insert_batch(const char *path, const char *const *keys,
                                       const float *vectors, uint16_t dimensions, size_t count);

/* The `k` nearest rows as JSON, nearest first: [{"key":"a","score":0.25}, ...]. *out_json is given
 * (syna_free_json), NULL on an error. Returns the number of rows or a negative code. The first form
 * takes nprobe SYNA_GWI_NPROBE; 0 means the same in the second. */
SYNA_API int32_t syna_gwi_search(const char *path, const float *query, uint16_t dimensions, size_t k,
                                 char **out_json);
SYNA_API int32_t syna_gwi_search_nprobe(const char *path, const float *query, uint16_t dimensions,
                                        size_t k, size_t nprobe, char **out_json);

/* Make everything inserted so far durable. */
SYNA_API int32_t syna_gwi_flush(const char *path);
SYNA_API int32_t syna_gwi_close(const char *path);
/* Rows in the index, or a negative code. */
SYNA_API int64_t syna_gwi_len(const char *path);

/* ---------------------------------------------------------------- handles */

typedef struct syna_wells syna_wells;

/* Options of syna_wells_open. Set size = sizeof(syna_wells_options); zero is the default. */
typedef struct syna_wells_options {
    uint32_t size;
    uint32_t dimensions; /* 1..65535; 0 = those of the file, metric included */
    int32_t metric;      /* SYNA_METRIC_* */
    uint8_t read_only;   /* 1: the last flush, without locking out anybody */
    uint8_t reserved[3];
    uint32_t branching_factor; /* 2..65535; with num_levels the most wells: factor ^ levels */
    uint32_t num_levels;       /* 1..8; 0 = as many wells as the rows want, at most 8192 */
    uint32_t threads;          /* of a training; default: the processors there are */
    uint32_t reserved2;
    uint64_t initial_capacity; /* rows that are expected; a hint */
} syna_wells_options;

/* Open (or create) an index. *out is given (syna_wells_close); the same file opened twice gives the same
 * counted handle, reading and writing ones apart. While it has no rows, the latest opening for writing
 * decides dimensions, metric, branching and levels; else other dimensions or another metric are refused
 * (0, reason ARGUMENT). Another process that writes: -3, reason LOCKED. A file of another kind: -4,
 * reason WRONG_KIND. Lists that were not saved are made anew from the rows. */
SYNA_API int32_t syna_wells_open(const char *path, const syna_wells_options *options,
                                 syna_wells **out);
/* Release one opening. The last one waits for calls in progress, makes everything durable, saves the
 * lists and frees the handle. An error (it could not be made durable) is reported after the release. */
SYNA_API int32_t syna_wells_close(syna_wells *index);

/* As syna_gwi_initialize. `progress` (may be NULL) is asked while wells are trained; nonzero stops the
 * call (reason CANCELLED) and leaves the index as it was. */
SYNA_API int32_t syna_wells_initialize(syna_wells *index, const float *vectors, size_t count,
                                       uint32_t dimensions, syna_progress_fn progress, void *context);
/* Train the wells anew from all rows now, and measure what nprobe finds. Inserts and searches go on
 * meanwhile. Never needed: it happens by itself as the index grows. Progress is in rows. */
SYNA_API int32_t syna_wells_train(syna_wells *index, syna_progress_fn progress, void *context);

/* Both refuse rows before there was a sample (0, reason NOT_INITIALIZED), as syna_gwi_insert. */
SYNA_API int32_t syna_wells_insert(syna_wells *index, const char *key, size_t key_len,
                                   const float *vector, uint32_t dimensions);
/* Many rows: all or none. keys[i] has key_lens[i] bytes; key_lens NULL means NUL-terminated keys.
 * metadata (may be NULL): for each row NULL or a JSON object of metadata_lens[i] bytes; a row that
 * replaces another has its own metadata only. *added (may be NULL): keys that were new. */
SYNA_API int32_t syna_wells_insert_batch(syna_wells *index, const char *const *keys,
                                         const size_t *key_lens, const float *vectors,
                                         uint32_t dimensions, const char *const *metadata,
                                         const size_t *metadata_lens, size_t count, size_t *added);
/* Change the metadata of a row: fields that it has not are added, those that it has are replaced as a whole.
 * json (borrowed) NULL takes all metadata away. flags: 0, or SYNA_METADATA_REPLACE: the row has this metadata
 * only. -5 when there is no row; what is no JSON object is refused (reason ARGUMENT) and changes nothing. The
 * row is stored anew, with its vector, so it takes room until `compact`; it is durable as an insert is. Calls
 * of this function on one handle take turns, so none undoes what another one did. */
SYNA_API int32_t syna_wells_update_metadata(syna_wells *index, const char *key, size_t key_len,
                                            const char *json, size_t json_len, uint32_t flags);
/* *deleted (may be NULL): 1 when it was there. A missing key is no error. */
SYNA_API int32_t syna_wells_delete(syna_wells *index, const char *key, size_t key_len,
                                   int32_t *deleted);

/* Copy a row into `out`, which has room for `dimensions` floats. -5 when there is none. */
SYNA_API int32_t syna_wells_get(syna_wells *index, const char *key, size_t key_len, float *out,
                                uint32_t dimensions);
/* The metadata of a row as JSON: *out is given (syna_free_json), NULL when the row has none. -5 when
 * there is no row. */
SYNA_API int32_t syna_wells_get_metadata(syna_wells *index, const char *key, size_t key_len,
                                         char **out, size_t *len);
/* 1, 0 or a negative code. */
SYNA_API int32_t syna_wells_contains(syna_wells *index, const char *key, size_t key_len);
SYNA_API uint64_t syna_wells_count(syna_wells *index);

/* How a search was answered; sums over all queries. Set size before the call. */
typedef struct syna_wells_explain {
    uint32_t size;
    uint32_t wells;   /* there are */
    float recall;     /* expected share of the true nearest: 1 = exact, 0 = not measured */
    uint32_t exact;   /* 1: every row that could matter was looked at */
    uint64_t queries;
    uint64_t lists;   /* looked into */
    uint64_t rows;    /* scored, by their codes or in full */
    uint64_t full;    /* scored in full */
    uint64_t matches; /* rows that match the filter; all of them without one */
    uint64_t total;   /* rows in the index */
} syna_wells_explain;

/* What is searched. Set size; zero is the default. */
typedef struct syna_wells_search_options {
    uint32_t size;
    uint32_t flags;      /* SYNA_SEARCH_VECTORS, METADATA, RADIUS (always exact), EXACT */
    uint64_t k;          /* at most this many rows a query; UINT64_MAX = no limit */
    float radius;
    float recall;        /* share of the true nearest wanted, as measured; 0 = by nprobe */
    uint64_t nprobe;     /* 0 = SYNA_GWI_NPROBE */
    const char *filter;  /* JSON; NULL = none */
    size_t filter_len;
    syna_wells_explain *explain; /* filled in when not NULL */
} syna_wells_search_options;

/* The nearest rows of each of `count` queries, as syna_vectors_search gives them. Many queries at once are
 * quicker than one after the other: each list is read once for all of them. */
SYNA_API int32_t syna_wells_search(syna_wells *index, const float *queries, size_t count,
                                   uint32_t dimensions, const syna_wells_search_options *how,
                                   syna_hit **hits, size_t *counts);
/* Every row in the order written, with score 0. flags: SYNA_SEARCH_VECTORS, METADATA. */
SYNA_API int32_t syna_wells_rows(syna_wells *index, uint32_t flags, syna_hit **hits, size_t *count);

/* Make everything inserted so far durable, and save the lists when many rows are new in them. After a
 * failed sync the handle takes no more rows (reason SYNC_FAILED). */
SYNA_API int32_t syna_wells_flush(syna_wells *index);
/* Read-only handles: show the newest flush. *changed (may be NULL): 1 when it is another one. */
SYNA_API int32_t syna_wells_refresh(syna_wells *index, int32_t *changed);
/* Write the live rows to a new file, durable when the call returns, and put it in the place of the old
 * one; train anew. A failure leaves the index as it was. The callback must not flush or compact. */
SYNA_API int32_t syna_wells_compact(syna_wells *index, syna_progress_fn progress, void *context);

/* Check every checksum and invariant of the last flush in `path` without writing; the file may be open.
 * SYNA_SUCCESS also when damage was found: look at out->damaged. out->frames are rows. */
SYNA_API int32_t syna_wells_verify(const char *path, syna_finding_fn visit, void *context,
                                   syna_progress_fn progress, syna_check *out);

typedef struct syna_wells_stats {
    uint32_t size;
    uint32_t dimensions;
    int32_t metric;
    uint32_t branching_factor, num_levels; /* as given, 0 = not */
    uint32_t wells;        /* lists; 0 = nothing was trained yet */
    uint32_t initialized;  /* 1: a sample was given, or the file has rows, dead ones included */
    uint32_t reserved;
    uint64_t rows;
    uint64_t dead_rows;    /* replaced or deleted: what compaction gives back */
    uint64_t fresh_rows;   /* not in a list yet: each search scores all of them */
    uint64_t trained_rows; /* that the wells were trained from; 0 = from a sample, or not at all */
    uint64_t splits;       /* of wells that became too full, since then */
    uint64_t unsaved_rows; /* stored since the last flush */
    uint64_t generation;   /* 1 for a new file, one more after every compaction */
    uint64_t memory_bytes; /* heap; mapped files are not counted */
    uint64_t file_bytes;   /* of the rows, room included */
    uint8_t uuid[16];
    char simd[16];
} syna_wells_stats;
SYNA_API int32_t syna_wells_get_stats(syna_wells *index, syna_wells_stats *out);

#ifdef __cplusplus
}
#endif
#endif
