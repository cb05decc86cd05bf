/* The C interface of text indexes (synadb/text.h): check pointers, call the engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/log_handles.h"
#include "base/mem.h"
#include "engine/text.h"

/* ---------------------------------------------------------------- the open indexes */

static syna_rc store_create(syna_db *db, const void *options, void **out)
{
    syna_text *store;
    SYNA_TRY(text_new(db, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return text_reopen(store, options);
}

static void store_finish(void *store)
{
    text_save(store);
    text_free(store);
}

static void store_before_fork(void *store)
{
    text_before_fork(store);
}

static void store_after_fork(void *store, bool child)
{
    text_after_fork(store, child);
}

static const struct log_component component = {
    .noun = "a text index", .opener = "syna_text_open", .create = store_create, .again = store_again,
    .finish = store_finish, .before_fork = store_before_fork, .after_fork = store_after_fork};
static struct log_table stores = LOG_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_text_open(const char *path, const syna_text_options *given, syna_text **out)
{
    static const syna_text_options defaults = {.size = sizeof defaults};
    syna_text_options options;
    void *store;
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(text_options(given ? given : &defaults, &options));
    syna_db_options log = {.size = sizeof log, .no_sync = options.no_sync,
                           .read_only = options.read_only, .must_exist = options.must_exist};
    SYNA_TRY(log_table_open(&stores, path, &log, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_text_close(syna_text *index)
{
    REQUIRE(index);
    return log_table_close(&stores, index);
}

int32_t syna_text_put(syna_text *index, const syna_document *documents, size_t count, size_t *added)
{
    size_t ignored;
    REQUIRE(index);
    if (count > 0)
        REQUIRE(documents);
    return text_put(index, documents, count, added ? added : &ignored);
}

int32_t syna_text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted)
{
    int32_t ignored;
    REQUIRE(index);
    REQUIRE(id);
    return text_delete(index, id, id_len, deleted ? deleted : &ignored);
}

int32_t syna_text_set_metadata(syna_text *index, const char *id, size_t id_len,
                               const char *metadata, size_t metadata_len)
{
    REQUIRE(index);
    REQUIRE(id);
    return text_set_metadata(index, id, id_len, metadata, metadata_len);
}

int32_t syna_text_get(syna_text *index, const char *id, size_t id_len, syna_text_hit **out)
{
    REQUIRE(index);
    REQUIRE(id);
    REQUIRE(out);
    *out = NULL;
    return text_get(index, id, id_len, out);
}

int32_t syna_text_contains(syna_text *index, const char *id, size_t id_len)
{
    REQUIRE(index);
    REQUIRE(id);
    return text_contains(index, id, id_len);
}

uint64_t syna_text_count(syna_text *index)
{
    return index ? text_count(index) : 0;
}

int32_t syna_text_ids(syna_text *index, syna_text_hit **hits, size_t *count)
{
    REQUIRE(index);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return text_ids(index, hits, count);
}

int32_t syna_text_find(syna_text *index, const char *const *queries, const size_t *lens,
                       size_t count, const syna_text_search *how, syna_text_hit **hits,
                       size_t *counts)
{
    REQUIRE(index);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    if (count > 0) {
        REQUIRE(queries);
        REQUIRE(lens);
        REQUIRE(counts);
    }
    return text_find(index, queries, lens, count, how, hits, counts);
}

void syna_free_text_hits(syna_text_hit *hits)
{
    mem_free(hits);
}

int32_t syna_text_spans(syna_text *index, const char *query, size_t query_len, const char *text,
                        size_t text_len, syna_span **spans, size_t *count)
{
    REQUIRE(index);
    REQUIRE(query);
    REQUIRE(text);
    REQUIRE(spans);
    REQUIRE(count);
    return text_spans(index, query, query_len, text, text_len, spans, count);
}

void syna_free_spans(syna_span *spans)
{
    mem_free(spans);
}

int32_t syna_text_terms(syna_text *index, const char *text, size_t text_len, char **out,
                        size_t *len)
{
    REQUIRE(index);
    REQUIRE(text);
    REQUIRE(out);
    REQUIRE(len);
    return text_terms(index, text, text_len, out, len);
}

int32_t syna_text_frequency(syna_text *index, const char *term, size_t term_len,
                            uint64_t *documents)
{
    REQUIRE(index);
    REQUIRE(term);
    REQUIRE(documents);
    return text_frequency(index, term, term_len, documents);
}

int32_t syna_text_flush(syna_text *index)
{
    REQUIRE(index);
    return text_flush(index);
}

int32_t syna_text_compact(syna_text *index, syna_progress_fn progress, void *context)
{
    REQUIRE(index);
    return text_compact(index, progress, context);
}

int32_t syna_text_refresh(syna_text *index, int32_t *changed)
{
    bool is;
    REQUIRE(index);
    SYNA_TRY(text_refresh(index, &is));
    if (changed)
        *changed = is;
    return SYNA_SUCCESS;
}

int32_t syna_text_get_stats(syna_text *index, syna_text_stats *out)
{
    REQUIRE(index);
    REQUIRE(out);
    return text_get_stats(index, out);
}
