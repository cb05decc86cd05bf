/* The CascadeIndex component: float32 rows in a row file, found through index/cascade.h. Functions mirror
 * synadb/cascade.h and have its contract; only what differs is said here.
 *
 * Files: row_store.h what it shares with its siblings; cascade_store_core.h the struct; cascade_store.c
 * options, figures; cascade_store_search.c which way a search takes; cascade_store_index.c when the index is
 * built and linked; cascade_store_file.c its snapshot. */
#ifndef SYNA_ENGINE_CASCADE_STORE_H
#define SYNA_ENGINE_CASCADE_STORE_H

#include "engine/row_store.h"
#include <synadb/cascade.h>

/* ---- cascade_store.c. Not counted: api/api_cascade.c counts openings and calls close once. */
syna_rc cascade_store_open(const char *path, const syna_buckets_options *options,
                           syna_buckets **out);
/* One more opening: the same refusals; an empty store takes the new dimensions and metric, any the other
 * options. */
syna_rc cascade_store_again(syna_buckets *store, const syna_buckets_options *options);
syna_rc cascade_store_close(syna_buckets *store);
bool cascade_store_is_file(const syna_buckets *store, uint64_t device, uint64_t inode);
/* The options as they are meant, for callers built against an older, shorter struct; checks them and
 * fills in what is left to the preset. */
syna_rc cascade_store_options(const syna_buckets_options *given, syna_buckets_options *out);
void cascade_store_before_fork(syna_buckets *store);
void cascade_store_after_fork(syna_buckets *store, bool child);

syna_rc cascade_store_insert(syna_buckets *store, const struct row_batch *batch,
                             size_t *added);
/* See row_store_update_metadata. */
syna_rc cascade_store_update_metadata(syna_buckets *store, const char *key, size_t key_len,
                                      const char *json, size_t len, bool replace);
syna_rc cascade_store_delete(syna_buckets *store, const char *key, size_t key_len,
                             int32_t *deleted);
syna_rc cascade_store_get(syna_buckets *store, const char *key, size_t key_len, float *out,
                          uint32_t dims);
/* *out: mem_alloc'ed with a NUL, or NULL. */
syna_rc cascade_store_get_metadata(syna_buckets *store, const char *key, size_t key_len, char **out,
                                   size_t *len);
syna_rc cascade_store_contains(syna_buckets *store, const char *key, size_t key_len, bool *found);
uint64_t cascade_store_count(syna_buckets *store);
syna_rc cascade_store_rows(syna_buckets *store, uint32_t flags, syna_hit **hits, size_t *count);
syna_rc cascade_store_get_stats(syna_buckets *store, syna_buckets_stats *out);

/* ---- cascade_store_search.c */
syna_rc cascade_store_search(syna_buckets *store, const float *queries, size_t count, uint32_t dims,
                             const syna_buckets_search_options *how, syna_hit **hits,
                             size_t *counts);

syna_rc cascade_store_flush(syna_buckets *store);
/* The same, and the index with it. */
syna_rc cascade_store_save(syna_buckets *store);
syna_rc cascade_store_refresh(syna_buckets *store, bool *changed);
/* A refresh in two steps: newer rows are there after the first, in the index after the second. */
syna_rc cascade_store_look(syna_buckets *store, bool *changed);
syna_rc cascade_store_tend(syna_buckets *store);
syna_rc cascade_store_compact(syna_buckets *store, syna_progress_fn progress, void *context);
syna_rc cascade_store_verify(const char *path, syna_finding_fn visit, void *context,
                             syna_progress_fn progress, syna_check *out);

#endif
