/* The TextIndex component: documents in a log, found by their words. Functions mirror synadb/text.h and
 * have its contract; only what differs is said here.
 *
 * Files: text_core.h the struct and its locks; text.c open and remember; text_document.[ch] records and
 * their words; text_rows.c the rows in memory; text_names.[ch] ids and terms, text_name_table.[ch] how those
 * of a snapshot are found; text_runs.[ch] the packs of rows; text_forward.[ch] the terms of each row;
 * text_pack.[ch] many documents in one record, text_packs.c what they mean, text_repack.c their compaction;
 * text_file.c the snapshot and following the log, text_save.c when it is written; text_write.c;
 * text_read.c; text_query.[ch] what a query means; text_search.c; text_spans.c. */
#ifndef SYNA_ENGINE_TEXT_H
#define SYNA_ENGINE_TEXT_H

#include "engine/db.h"
#include <synadb/text.h>

/* The options as they are meant, for callers built against an older, shorter struct; checks them. */
syna_rc text_options(const syna_text_options *given, syna_text_options *out);

/* An index over an open database, which is borrowed and must outlive it. Options as text_options gives
 * them; `analyzer` is copied. */
syna_rc text_new(syna_db *db, const syna_text_options *options, syna_text **out);
/* One more opening: the refusals of text_new; an empty index takes the new analyser. */
syna_rc text_reopen(syna_text *index, const syna_text_options *options);
/* Before the last close: write the snapshot when that pays. A failure does no harm. (text_save.c) */
void text_save(syna_text *index);
void text_free(syna_text *index);

/* Around fork(): no change is half done in the child, and its copies of the locks are free. */
void text_before_fork(syna_text *index);
void text_after_fork(syna_text *index, bool child);

/* ---- text_write.c */
syna_rc text_put(syna_text *index, const syna_document *documents, size_t count, size_t *added);
syna_rc text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted);
syna_rc text_set_metadata(syna_text *index, const char *id, size_t id_len, const char *metadata,
                          size_t metadata_len);
syna_rc text_flush(syna_text *index);
syna_rc text_compact(syna_text *index, syna_progress_fn progress, void *context);

/* ---- text_read.c */
syna_rc text_get(syna_text *index, const char *id, size_t id_len, syna_text_hit **out);
bool text_contains(syna_text *index, const char *id, size_t id_len);
uint64_t text_count(syna_text *index);
syna_rc text_ids(syna_text *index, syna_text_hit **hits, size_t *count);
syna_rc text_terms(syna_text *index, const char *text, size_t len, char **out, size_t *out_len);
syna_rc text_frequency(syna_text *index, const char *term, size_t len, uint64_t *documents);
syna_rc text_get_stats(syna_text *index, syna_text_stats *out);

/* ---- text_search.c, text_spans.c */
syna_rc text_find(syna_text *index, const char *const *queries, const size_t *lens, size_t count,
                  const syna_text_search *how, syna_text_hit **hits, size_t *counts);
syna_rc text_spans(syna_text *index, const char *query, size_t query_len, const char *text,
                   size_t text_len, syna_span **spans, size_t *count);

/* ---- text_file.c */
/* See what other processes wrote, in an index over a log that is read only. */
syna_rc text_refresh(syna_text *index, bool *changed);

#endif
