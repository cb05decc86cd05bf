/* The VectorStore component: vectors in a log, found exactly or through a graph. Functions mirror vector.h
 * and have its contract; only what differs is said here.
 *
 * Files: vectors_core.h the struct and its locks; vectors.c open and remember; vectors_rows.c the rows in
 * memory; row_keys.[ch] keys -> rows; vectors_file.c the snapshot; vectors_write.c insert and delete;
 * vectors_read.c get and list; vectors_search.c; vectors_index.c the graph's upkeep;
 * vectors_absorber.c the thread that does it; vectors_tail.c rows that wait for it; vectors_recall.c its recall, measured; vectors_meta.c metadata; vectors_choice.c what filters choose; vectors_filter.c the nearest of it; db_view.[ch] the log by place. */
#ifndef SYNA_ENGINE_VECTORS_H
#define SYNA_ENGINE_VECTORS_H

#include "engine/db.h"
#include "engine/meta.h"
#include <synadb/vector.h>

/* A store over an open database, which is borrowed and must outlive it. */
syna_rc vectors_new(syna_db *db, const syna_vectors_options *options, syna_vectors **out);
void vectors_free(syna_vectors *store);
/* Before the last close: write the snapshot when that pays. A failure does no harm. */
void vectors_save(syna_vectors *store);
/* See what other processes wrote, in a store over a log that is read only. */
syna_rc vectors_refresh(syna_vectors *store, bool *changed);

/* One more opening of a store: the same refusals as in vectors_new, and an empty store takes the new
 * dimensions and metric. */
syna_rc vectors_reopen(syna_vectors *store, const syna_vectors_options *options);

/* The options as they are meant, for callers built against an older, shorter struct; checks them. */
syna_rc vectors_options(const syna_vectors_options *given, syna_vectors_options *out);

/* Around fork(): no change is half done in the child, and its copy of the lock is free. */
void vectors_before_fork(syna_vectors *store);
void vectors_after_fork(syna_vectors *store, bool child);

/* ---- vectors_write.c */
struct vectors_batch {
    const char *const *keys;
    const size_t *key_lens; /* NULL: keys end with a NUL */
    const float *vectors;
    const char *const *metadata; /* NULL: none; of each row its JSON or NULL */
    const size_t *metadata_lens; /* NULL: texts end with a NUL */
    uint32_t dims;
    size_t count;
};
syna_rc vectors_insert(syna_vectors *store, const struct vectors_batch *batch, size_t *added);
syna_rc vectors_delete(syna_vectors *store, const char *key, size_t key_len, int32_t *deleted);
syna_rc vectors_delete_where(syna_vectors *store, const struct filter *filter, uint64_t *deleted);
syna_rc vectors_flush(syna_vectors *store);

/* ---- vectors_update.c */
syna_rc vectors_update_metadata(syna_vectors *store, const char *key, size_t key_len, const char *json,
                                size_t len, bool replace);

/* ---- vectors_index.c */
syna_rc vectors_build_index(syna_vectors *store, syna_progress_fn progress, void *context);
syna_rc vectors_absorb(syna_vectors *store, syna_progress_fn progress, void *context);
bool vectors_has_index(syna_vectors *store);

/* ---- vectors_read.c, vectors_search.c */
syna_rc vectors_get(syna_vectors *store, const char *key, size_t key_len, float *out, uint32_t dims);
bool vectors_contains(syna_vectors *store, const char *key, size_t key_len);
uint64_t vectors_count(syna_vectors *store);
syna_rc vectors_search(syna_vectors *store, const float *queries, size_t count, uint32_t dims,
                       const syna_search *how, syna_hit **hits, size_t *counts);
/* filter NULL: all rows. */
syna_rc vectors_rows(syna_vectors *store, const struct filter *filter, uint32_t flags, syna_hit **hits,
                     size_t *count);
syna_rc vectors_count_where(syna_vectors *store, const struct filter *filter, uint64_t *count);
/* *out is given (mem_free), NULL when the row has no metadata. */
syna_rc vectors_get_metadata(syna_vectors *store, const char *key, size_t key_len, char **out,
                             size_t *len);
syna_rc vectors_get_stats(syna_vectors *store, syna_vectors_stats *out);

#endif
