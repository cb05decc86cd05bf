/* synadb/text.h - the text index: documents under ids, found by their words (BM25).
 *
 * A text index lives in an ordinary SynaDB log. Document `id` is the value of the log key
 * "doc/<id>": a packed {"text": ..., "metadata": ...}, the metadata as JSON text. Short ones (2 KiB at most) that
 * are written together, eight or more and no id twice, stand in "doc-pack/<number>" instead, many in a record,
 * which takes half the space; syna_text_compact makes packs of those that were written one by one.
 * "text-index/config" remembers the analyser and is written together with the first document. Everything
 * that works on a log (verify, backup, history, compaction) works on it.
 *
 * An analyser makes terms of texts and of queries: "english" (folded words without stop words, stemmed by
 * the Snowball English algorithm) or "standard" (folded words of any language). Scripts without spaces
 * are searched by pairs of characters. Its name and version are fixed by the first document; a file of an
 * analyser that is not known here is refused.
 *
 * The score of a document is the sum over the different terms of the query of
 *   count * idf(term) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average length))
 *   idf = ln(1 + (N - n + 0.5) / (n + 0.5))
 * with N documents, n of them with the term, tf times the term in the document, `count` times in the
 * query; length counts terms. It is summed in double and rounded to float once. Larger is better; equal
 * scores: the document written earlier comes first. Results are exact, deletions and changes included.
 *
 * In memory are postings (a few bytes for each term of each document), ids and metadata; texts stay
 * in the log. Postings are saved beside the log, in <path>.text, when an index is closed; the file is
 * derived, and may be deleted. Searches run at the same time as each other and as changes. While an index
 * is open its documents are written through it.
 *
 * Durability, threads and the errors not named at a function are those of kv.h. */
#ifndef SYNADB_TEXT_H
#define SYNADB_TEXT_H

#include "base.h"
#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_TEXT_ID_MAX 65000u /* bytes in the id of a document */

typedef struct syna_text syna_text;

/* A stemmer from outside: the word of *len bytes at `word` (folded UTF-8) becomes its stem in place, at
 * most `room` bytes. It must give the same stem for the same word for ever, may be called by any thread that
 * uses the index, and `context` must live as long as the index is open anywhere in the process. */
typedef void (*syna_stem_fn)(void *context, char *word, size_t *len, size_t room);

/* Options of syna_text_open. Set size = sizeof(syna_text_options); zero is the default. */
typedef struct syna_text_options {
    uint32_t size;
    uint8_t no_sync;    /* 1: writes are not synced one by one */
    uint8_t read_only;  /* 1: never write; may be opened beside a writer in another process */
    uint8_t must_exist; /* 1: a missing file is an error instead of being created */
    uint8_t bm25_given; /* 1: k1 and b are meant; 0: 1.2 and 0.75 */
    double k1;          /* 0..1000: how much a repeated word counts */
    double b;           /* 0..1: how much long documents are held back */
    const char *analyzer; /* NULL: that of the file, "english" for a new one */
    syna_stem_fn stem;    /* for an analyser of another name than those above; NULL = none */
    void *stem_context;
    syna_progress_fn progress; /* called while the documents are read, in documents; NULL = not */
    void *context;
} syna_text_options;

/* Open (or create) an index. *out is given (syna_text_close); the same file opened twice gives the same
 * counted handle, with the k1 and b of the first opening. 0 with reason ARGUMENT: the file was made with
 * another analyser (it holds documents), or with one that is not known. */
SYNA_API int32_t syna_text_open(const char *path, const syna_text_options *options, syna_text **out);
/* Release one opening. The last one waits for calls in progress, makes everything durable and frees the
 * handle. An error (the data could not be made durable) is reported after the release. */
SYNA_API int32_t syna_text_close(syna_text *index);

/* One document to be stored. Borrowed. */
typedef struct syna_document {
    const char *id; /* id_len bytes of UTF-8 without NUL, 1..65000 */
    size_t id_len;
    const char *text; /* UTF-8; may be empty */
    size_t text_len;
    const char *metadata; /* a JSON object, NULL = none */
    size_t metadata_len;
} syna_document;

#define SYNA_TEXT_WORDS_MAX (1u << 20) /* words in one document */

/* Store documents in one commit: all or, on an error, none. One that has the id of another replaces it,
 * metadata included, and an id that occurs twice keeps its last document. *added (may be NULL): how many ids
 * were new. */
SYNA_API int32_t syna_text_put(syna_text *index, const syna_document *documents, size_t count,
                               size_t *added);

/* Delete a document. *deleted (may be NULL): 1 when it was there. */
SYNA_API int32_t syna_text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted);

/* Replace the metadata of a document, as if it were put again with the text that it has; NULL: it has
 * none now. -5 when there is no such document. */
SYNA_API int32_t syna_text_set_metadata(syna_text *index, const char *id, size_t id_len,
                                        const char *metadata, size_t metadata_len);

/* A document, or a part of a result. */
typedef struct syna_text_hit {
    const char *id; /* id_len bytes and a NUL */
    const char *text;     /* text_len bytes and a NUL; NULL unless asked for */
    const char *metadata; /* JSON and a NUL; NULL unless asked for, or when there is none */
    size_t text_len, metadata_len;
    uint32_t id_len;
    float score;
} syna_text_hit;

/* Read a document: *out is given (syna_free_text_hits). -5 when there is none. */
SYNA_API int32_t syna_text_get(syna_text *index, const char *id, size_t id_len, syna_text_hit **out);
SYNA_API int32_t syna_text_contains(syna_text *index, const char *id, size_t id_len); /* 1, 0, code */
SYNA_API uint64_t syna_text_count(syna_text *index);
/* Every id in the order in which the documents were written, with score 0. *hits is given. */
SYNA_API int32_t syna_text_ids(syna_text *index, syna_text_hit **hits, size_t *count);

#define SYNA_TEXT_TEXTS 1u    /* fill in syna_text_hit.text */
#define SYNA_TEXT_METADATA 2u /* fill in syna_text_hit.metadata */
#define SYNA_TEXT_ALL 4u      /* a document must have every word; otherwise one of them suffices */

/* How a search was answered. Set size before the call. */
typedef struct syna_text_explain {
    uint32_t size;
    uint32_t terms;      /* different terms that were searched */
    uint64_t postings;   /* postings of these terms */
    uint64_t scored;     /* documents whose score was computed in full */
    uint64_t candidates; /* documents that the words, the filter and the signs admit */
    uint64_t verified;   /* documents whose text was read for a phrase */
} syna_text_explain;

/* A query is words, each perhaps with a sign:
 *   word     counts for the score; one of them, or with SYNA_TEXT_ALL each, must be there
 *   +word    must be there
 *   -word    must not be there
 *   "a b"    these words one after the other; counts as its words do, and must be there as with +;
 *            -"a b" must not be there
 *   pre*     every term that begins so (folded, not stemmed); all terms of the index are looked at, or
 *            sorted once when the query has more than 64 such words
 * Signs mean something at the start of a word only. A word that the analyser makes several terms of
 * (well-known) is each of them; with a sign it is a phrase. Words of the stop list count for nothing, but keep their place in phrases. A
 * query of excluded words alone finds nothing. */
typedef struct syna_text_search {
    uint32_t size;
    uint32_t flags;     /* SYNA_TEXT_* */
    uint64_t k;         /* at most this many documents; UINT64_MAX = no limit */
    const char *filter; /* JSON as in filters of vectors; NULL = none */
    size_t filter_len;
    syna_text_explain *explain; /* filled in when not NULL */
} syna_text_search;

/* The best documents of each of `count` queries, UTF-8 of lens[i] bytes. The hits of query 0 come first,
 * best first, counts[0] of them, then those of query 1. *hits is given: one block (syna_free_text_hits) with
 * everything that it points to. All queries see the same documents. */
SYNA_API int32_t syna_text_find(syna_text *index, const char *const *queries, const size_t *lens,
                                size_t count, const syna_text_search *how, syna_text_hit **hits,
                                size_t *counts);
SYNA_API void syna_free_text_hits(syna_text_hit *hits);

/* Where the words of a query stand in a text: `count` spans of bytes, in order, that do not overlap. *spans
 * is given (syna_free_spans). The text need not be of the index. */
typedef struct syna_span {
    uint64_t start, end;
} syna_span;
SYNA_API int32_t syna_text_spans(syna_text *index, const char *query, size_t query_len,
                                 const char *text, size_t text_len, syna_span **spans, size_t *count);
SYNA_API void syna_free_spans(syna_span *spans);

/* The terms that the index makes of a text, one per line: given (syna_free_text, *len + 1). */
SYNA_API int32_t syna_text_terms(syna_text *index, const char *text, size_t text_len, char **out,
                                 size_t *len);
/* Documents with a term, as the analyser writes it. */
SYNA_API int32_t syna_text_frequency(syna_text *index, const char *term, size_t term_len,
                                     uint64_t *documents);

SYNA_API int32_t syna_text_flush(syna_text *index);
/* Rewrite the log with the newest documents only, short ones in packs. Durable when it returns; a crash or a
 * failure at any moment leaves every document as it was. */
SYNA_API int32_t syna_text_compact(syna_text *index, syna_progress_fn progress, void *context);
/* In an index opened read only: see what the writer has done since. *changed (may be NULL): 1 when documents
 * came, went or changed. */
SYNA_API int32_t syna_text_refresh(syna_text *index, int32_t *changed);

typedef struct syna_text_stats {
    uint32_t size;
    uint32_t analyzer_version;
    char analyzer[32];
    double k1, b;
    uint64_t documents;
    uint64_t dead_rows; /* replaced or deleted, and not packed away yet */
    uint64_t terms;     /* different ones, of dead documents too */
    uint64_t postings;  /* different terms of each document, summed */
    double average_length;
    uint64_t memory_bytes; /* of its own; not what is mapped */
    uint64_t file_bytes;   /* of the log, up to its end */
} syna_text_stats;
SYNA_API int32_t syna_text_get_stats(syna_text *index, syna_text_stats *out);

#ifdef __cplusplus
}
#endif
#endif
