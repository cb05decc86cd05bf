/* The SparseVectorStore component: rows of (term, weight) pairs in a log, searched through an inverted index.
 * Functions mirror sparse.h of include/ and have its contract; only what differs is said here.
 *
 * Files: sparse_core.h the struct and its locks; sparse.c open, remember, close; sparse_row.c one row as
 * bytes; sparse_rows.c the rows in memory; sparse_file.c the snapshot; sparse_write.c index, change metadata, delete;
 * sparse_search.c; sparse_read.c get, list, facts. The index is index/postings.h. */
#ifndef SYNA_ENGINE_SPARSE_H
#define SYNA_ENGINE_SPARSE_H

#include "engine/db.h"
#include <synadb/sparse.h>

/* A store over an open database, which is borrowed and must outlive it. */
syna_rc sparse_new(syna_db *db, const syna_sparse_options *options, syna_sparse **out);
void sparse_free(syna_sparse *store);
/* Before the last close: write the snapshot when that pays. A failure does no harm. */
void sparse_close_snapshot(syna_sparse *store);
/* One more opening of a store: the same refusals as in sparse_new. */
syna_rc sparse_reopen(syna_sparse *store, const syna_sparse_options *options);
/* The options as they are meant, for callers built against an older, shorter struct; checks them. */
syna_rc sparse_options(const syna_sparse_options *given, syna_sparse_options *out);
syna_db *sparse_db(const syna_sparse *store);
uint32_t sparse_vocabulary(syna_sparse *store);

/* Around fork(): no change is half done in the child, and its copy of the lock is free. */
void sparse_before_fork(syna_sparse *store);
void sparse_after_fork(syna_sparse *store, bool child);

/* *last (may be NULL): the number of the newest row. */
syna_rc sparse_index(syna_sparse *store, const syna_sparse_rows *rows, size_t *added,
                     uint32_t *last);
syna_rc sparse_update_metadata(syna_sparse *store, const char *key, size_t key_len, const char *json,
                               size_t len, bool replace);
syna_rc sparse_delete(syna_sparse *store, const char *key, size_t key_len, int32_t *deleted);
syna_rc sparse_get(syna_sparse *store, const char *key, size_t key_len, syna_sparse_row **row);
syna_rc sparse_get_metadata(syna_sparse *store, const char *key, size_t key_len, char **out,
                            size_t *len);
bool sparse_contains(syna_sparse *store, const char *key, size_t key_len);
uint64_t sparse_count(syna_sparse *store);
syna_rc sparse_search(syna_sparse *store, const syna_sparse_rows *queries,
                      const syna_sparse_search *how, syna_sparse_hit **hits, size_t *counts);
syna_rc sparse_list(syna_sparse *store, uint32_t flags, syna_sparse_hit **hits, size_t *count);
syna_rc sparse_flush(syna_sparse *store);
syna_rc sparse_save(syna_sparse *store);
syna_rc sparse_refresh(syna_sparse *store, bool *changed);
syna_rc sparse_get_stats(syna_sparse *store, syna_sparse_stats *out);

#endif
