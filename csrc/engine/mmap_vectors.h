/* The MmapVectorStore component: float32 rows in a row file, searched where they are mapped, durable
 * by checkpoint. Functions mirror the mmap part of vector.h and have its contract; only what differs
 * is said here.
 *
 * Files: row_store.h what it shares with its siblings; mmap_vectors_core.h the struct; mmap_vectors.c
 * options, figures, views; mmap_vectors_search.c which way a search takes; mmap_index.[ch] and
 * mmap_index_file.c codes and graph; mmap_vectors_index.c their upkeep. */
#ifndef SYNA_ENGINE_MMAP_VECTORS_H
#define SYNA_ENGINE_MMAP_VECTORS_H

#include "engine/db.h"
#include <synadb/vector.h>

/* ---- mmap_vectors.c. Not counted: api/api_mmap.c counts openings and calls close once. */
syna_rc mmap_vectors_open(const char *path, const syna_mmap_options *options, syna_mmap **out);
/* One more opening: the same refusals, and an empty store takes the new dimensions and metric. */
syna_rc mmap_vectors_again(syna_mmap *store, const syna_mmap_options *options);
syna_rc mmap_vectors_close(syna_mmap *store);
bool mmap_vectors_is_file(const syna_mmap *store, uint64_t device, uint64_t inode);
/* The options as they are meant, for callers built against an older, shorter struct; checks them. */
syna_rc mmap_vectors_options(const syna_mmap_options *given, syna_mmap_options *out);

/* Around fork(): no change is half done in the child, and its copies of the locks are free. */
void mmap_vectors_before_fork(syna_mmap *store);
void mmap_vectors_after_fork(syna_mmap *store, bool child);

syna_rc mmap_vectors_insert(syna_mmap *store, const char *const *keys, const size_t *key_lens,
                            const float *vectors, uint32_t dims, size_t count, size_t *added);
syna_rc mmap_vectors_delete(syna_mmap *store, const char *key, size_t key_len, int32_t *deleted);
syna_rc mmap_vectors_get(syna_mmap *store, const char *key, size_t key_len, float *out,
                         uint32_t dims);
syna_rc mmap_vectors_view(syna_mmap *store, const char *key, size_t key_len, const float **out,
                          syna_mmap_pin **pin);
void mmap_vectors_unpin(syna_mmap_pin *pin);
syna_rc mmap_vectors_contains(syna_mmap *store, const char *key, size_t key_len, bool *found);
uint64_t mmap_vectors_count(syna_mmap *store);
syna_rc mmap_vectors_rows(syna_mmap *store, uint32_t flags, syna_hit **hits, size_t *count);
syna_rc mmap_vectors_search(syna_mmap *store, const float *queries, size_t count, uint32_t dims,
                            const syna_search *how, syna_hit **hits, size_t *counts);
syna_rc mmap_vectors_get_stats(syna_mmap *store, syna_mmap_stats *out);

/* ---- mmap_vectors_index.c */
syna_rc mmap_vectors_build_index(syna_mmap *store, syna_progress_fn progress, void *context);
bool mmap_vectors_has_index(syna_mmap *store);

syna_rc mmap_vectors_checkpoint(syna_mmap *store);
syna_rc mmap_vectors_refresh(syna_mmap *store, bool *changed);
syna_rc mmap_vectors_compact(syna_mmap *store, syna_progress_fn progress, void *context);

syna_rc mmap_vectors_verify(const char *path, syna_finding_fn visit, void *context,
                            syna_progress_fn progress, syna_check *out);

#endif
