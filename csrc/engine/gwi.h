/* The GravityWellIndex component: float32 rows in a row file, their codes in the lists of a partition.
 * Functions mirror gwi.h and have its contract; only what differs is said here.
 *
 * Files: row_store.h what it shares with its siblings; gwi_core.h the struct; gwi.c options, configuration,
 * figures; gwi_search.c which way a search takes; gwi_index.c training, lists, calibration; gwi_file.c the
 * snapshot of the lists. */
#ifndef SYNA_ENGINE_GWI_H
#define SYNA_ENGINE_GWI_H

#include "engine/db.h"
#include <synadb/gwi.h>

/* ---- gwi.c. Not counted: api/api_gwi.c counts openings and calls close once. */
syna_rc gwi_open(const char *path, const syna_wells_options *options, syna_wells **out);
/* One more opening: the same refusals, and an empty store takes the new configuration. */
syna_rc gwi_again(syna_wells *store, const syna_wells_options *options);
syna_rc gwi_close(syna_wells *store);
bool gwi_is_file(const syna_wells *store, uint64_t device, uint64_t inode);
/* The options as they are meant, for callers built against an older, shorter struct; checks them. */
syna_rc gwi_options(const syna_wells_options *given, syna_wells_options *out);
void gwi_before_fork(syna_wells *store);
void gwi_after_fork(syna_wells *store, bool child);

struct gwi_batch {
    const char *const *keys;
    const size_t *key_lens;      /* NULL: keys end with a NUL */
    const float *vectors;
    const char *const *metadata; /* NULL: none */
    const size_t *metadata_lens; /* NULL: texts end with a NUL */
    uint32_t dims;
    size_t count;
};
/* NOT_INITIALIZED when no sample was ever given and the file has no rows. The hot layer of a hybrid store
 * does not ask: its rows are sample enough. */
syna_rc gwi_check_initialized(syna_wells *store);
syna_rc gwi_insert(syna_wells *store, const struct gwi_batch *batch, size_t *added);
syna_rc gwi_delete(syna_wells *store, const char *key, size_t key_len, int32_t *deleted);
syna_rc gwi_get(syna_wells *store, const char *key, size_t key_len, float *out, uint32_t dims);
/* *out: mem_alloc'ed with a NUL, or NULL. */
/* See row_store_update_metadata. */
syna_rc gwi_update_metadata(syna_wells *store, const char *key, size_t key_len, const char *json,
                            size_t len, bool replace);
syna_rc gwi_get_metadata(syna_wells *store, const char *key, size_t key_len, char **out, size_t *len);
syna_rc gwi_contains(syna_wells *store, const char *key, size_t key_len, bool *found);
uint64_t gwi_count(syna_wells *store);
syna_rc gwi_rows(syna_wells *store, uint32_t flags, syna_hit **hits, size_t *count);
syna_rc gwi_get_stats(syna_wells *store, syna_wells_stats *out);

/* ---- gwi_search.c */
syna_rc gwi_search(syna_wells *store, const float *queries, size_t count, uint32_t dims,
                   const syna_wells_search_options *how, syna_hit **hits, size_t *counts);

/* ---- gwi_index.c */
syna_rc gwi_initialize(syna_wells *store, const float *vectors, size_t count, uint32_t dims,
                       syna_progress_fn progress, void *context);
syna_rc gwi_train(syna_wells *store, syna_progress_fn progress, void *context);
/* Rows only pass through this index on their way to another one: wells are trained anew half as often, and
 * recall is measured when the first search wants it, not while rows come. Before the first search. */
void gwi_pass_on(syna_wells *store);

syna_rc gwi_flush(syna_wells *store);
syna_rc gwi_refresh(syna_wells *store, bool *changed);
/* A refresh in two steps: newer rows are there after the first, in the lists after the second. */
syna_rc gwi_look(syna_wells *store, bool *changed);
syna_rc gwi_tend(syna_wells *store);
syna_rc gwi_compact(syna_wells *store, syna_progress_fn progress, void *context);
syna_rc gwi_verify(const char *path, syna_finding_fn visit, void *context, syna_progress_fn progress,
                   syna_check *out);

#endif
