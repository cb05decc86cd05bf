/* The HybridVectorStore component: a gravity well index and a cascade index under one set of keys.
 * Functions mirror synadb/hybrid.h and have its contract; only what differs is said here.
 *
 * Files: hybrid_core.h the struct, its locks and why nothing is lost; hybrid.c open, close, fork;
 * hybrid_keys.c keys whose cold row is out of date; hybrid_write.c ingest, delete; hybrid_update.c
 * metadata; hybrid_read.c look-ups, lists, figures; hybrid_search.c; hybrid_promote.c promotions;
 * hybrid_save.c what makes rows durable, and in which order; hybrid_thread.c promotions by themselves;
 * hybrid_refresh.c what a store that is opened read-only sees. */
#ifndef SYNA_ENGINE_HYBRID_H
#define SYNA_ENGINE_HYBRID_H

#include "engine/cascade_store.h"
#include "engine/gwi.h"
#include <synadb/hybrid.h>

/* What is opened: file tables know stores by one path and hand on the rest. */
struct hybrid_setup {
    const char *cold_path;
    syna_layers_options options; /* as hybrid_options gave them */
};
/* ---- hybrid.c. Not counted: api/api_hybrid.c counts openings and calls close once. */
syna_rc hybrid_open(const char *hot_path, const struct hybrid_setup *setup, syna_layers **out);
syna_rc hybrid_again(syna_layers *store, const struct hybrid_setup *setup);
syna_rc hybrid_close(syna_layers *store);
bool hybrid_is_file(const syna_layers *store, uint64_t device, uint64_t inode); /* the hot one */
syna_rc hybrid_options(const syna_layers_options *given, syna_layers_options *out);
void hybrid_before_fork(syna_layers *store);
void hybrid_after_fork(syna_layers *store, bool child);

/* ---- hybrid_write.c, hybrid_update.c */
syna_rc hybrid_initialize_hot(syna_layers *store, const float *vectors, size_t count, uint32_t dims,
                              syna_progress_fn progress, void *context);
syna_rc hybrid_ingest(syna_layers *store, const struct gwi_batch *batch, size_t *added);
syna_rc hybrid_delete(syna_layers *store, const char *key, size_t key_len, int32_t *deleted);
syna_rc hybrid_update_metadata(syna_layers *store, const char *key, size_t key_len, const char *json,
                               size_t len, bool replace);

/* ---- hybrid_read.c, hybrid_search.c */
syna_rc hybrid_get(syna_layers *store, const char *key, size_t key_len, float *out, uint32_t dims);
syna_rc hybrid_get_metadata(syna_layers *store, const char *key, size_t key_len, char **out,
                            size_t *len);
syna_rc hybrid_contains(syna_layers *store, const char *key, size_t key_len, bool *found);
uint64_t hybrid_count(syna_layers *store);
uint64_t hybrid_count_in(syna_layers *store, uint32_t layer);
syna_rc hybrid_rows(syna_layers *store, uint32_t flags, syna_hit **hits, uint8_t **sources,
                    size_t *count);
syna_rc hybrid_get_stats(syna_layers *store, syna_layers_stats *out);
syna_rc hybrid_search(syna_layers *store, const float *queries, size_t count, uint32_t dims,
                      const syna_layers_search_options *how, syna_hit **hits, uint8_t **sources,
                      size_t *counts);

/* ---- hybrid_promote.c, hybrid_save.c */
syna_rc hybrid_promote(syna_layers *store, syna_progress_fn progress, void *context, size_t *moved);
syna_rc hybrid_flush_hot(syna_layers *store);
syna_rc hybrid_save_cold(syna_layers *store);
syna_rc hybrid_save(syna_layers *store);
syna_rc hybrid_compact(syna_layers *store, syna_progress_fn progress, void *context);

/* ---- hybrid_refresh.c */
syna_rc hybrid_refresh(syna_layers *store, bool *changed);

#endif
