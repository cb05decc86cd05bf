/* The C interface of sparse vector stores (synadb/sparse.h): check pointers, find the store, call the
 * engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"
#include "api/log_handles.h"
#include "base/mem.h"
#include "engine/sparse.h"

/* ---------------------------------------------------------------- the open stores */

static syna_rc store_create(syna_db *db, const void *options, void **out)
{
    syna_sparse *store;
    SYNA_TRY(sparse_new(db, options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc store_again(void *store, const void *options)
{
    return sparse_reopen(store, options);
}

static void store_finish(void *store)
{
    sparse_close_snapshot(store);
    sparse_free(store);
}

static void store_before_fork(void *store)
{
    sparse_before_fork(store);
}

static void store_after_fork(void *store, bool child)
{
    sparse_after_fork(store, child);
}

static const struct log_component component = {
    .noun = "a sparse store", .opener = "syna_svs_new", .create = store_create, .again = store_again,
    .finish = store_finish, .before_fork = store_before_fork, .after_fork = store_after_fork};
static struct log_table stores = LOG_TABLE_INIT(&component);

/* ---------------------------------------------------------------- handles */

int32_t syna_sparse_open(const char *path, const syna_sparse_options *given, syna_sparse **out)
{
    syna_sparse_options options;
    void *store;
    REQUIRE(given);
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    SYNA_TRY(sparse_options(given, &options));
    syna_db_options log = {.size = sizeof log, .no_sync = options.no_sync,
                           .read_only = options.read_only, .must_exist = options.must_exist};
    SYNA_TRY(log_table_open(&stores, path, &log, &options, &store));
    *out = store;
    return SYNA_SUCCESS;
}

int32_t syna_sparse_close(syna_sparse *store)
{
    REQUIRE(store);
    return log_table_close(&stores, store);
}

/* What every list of rows must have. */
static syna_rc take_rows(const syna_sparse_rows *given, syna_sparse_rows *rows)
{
    *rows = (syna_sparse_rows){0};
    REQUIRE(given);
    if (given->size < offsetof(syna_sparse_rows, keys))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_sparse_rows.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(rows, given, MIN((size_t)given->size, sizeof *rows));
    if (rows->count == 0)
        return SYNA_SUCCESS;
    REQUIRE(rows->offsets);
    if (rows->offsets[rows->count] > rows->offsets[0]) {
        REQUIRE(rows->terms);
        REQUIRE(rows->weights);
    }
    return SYNA_SUCCESS;
}

int32_t syna_sparse_index(syna_sparse *store, const syna_sparse_rows *given, size_t *added)
{
    syna_sparse_rows rows;
    size_t fresh = 0;
    REQUIRE(store);
    SYNA_TRY(take_rows(given, &rows));
    if (rows.count)
        REQUIRE(rows.keys);
    syna_rc rc = sparse_index(store, &rows, &fresh, NULL);
    if (added)
        *added = fresh;
    return rc;
}

int32_t syna_sparse_update_metadata(syna_sparse *store, const char *key, size_t key_len,
                                    const char *json, size_t json_len, uint32_t flags)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    return check_missing(sparse_update_metadata(store, key, key_len, json, json_len,
                                                flags & SYNA_METADATA_REPLACE),
                         key, key_len);
}

int32_t syna_sparse_delete(syna_sparse *store, const char *key, size_t key_len, int32_t *deleted)
{
    int32_t was_there;
    REQUIRE(store);
    REQUIRE(key);
    return sparse_delete(store, key, key_len, deleted ? deleted : &was_there);
}

int32_t syna_sparse_get(syna_sparse *store, const char *key, size_t key_len, syna_sparse_row **row)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    REQUIRE(row);
    *row = NULL;
    return check_missing(sparse_get(store, key, key_len, row), key, key_len);
}

int32_t syna_sparse_get_metadata(syna_sparse *store, const char *key, size_t key_len, char **out,
                                 size_t *len)
{
    size_t ignored;
    REQUIRE(store);
    REQUIRE(out);
    *out = NULL;
    REQUIRE_KEY(key, key_len);
    return check_missing(sparse_get_metadata(store, key, key_len, out, len ? len : &ignored), key,
                         key_len);
}

void syna_free_sparse_row(syna_sparse_row *row)
{
    mem_free(row);
}

int32_t syna_sparse_contains(syna_sparse *store, const char *key, size_t key_len)
{
    REQUIRE(store);
    REQUIRE_KEY(key, key_len);
    return sparse_contains(store, key, key_len);
}

uint64_t syna_sparse_count(syna_sparse *store)
{
    return store ? sparse_count(store) : 0;
}

int32_t syna_sparse_search_many(syna_sparse *store, const syna_sparse_rows *given,
                                const syna_sparse_search *how, syna_sparse_hit **hits, size_t *counts)
{
    syna_sparse_rows queries;
    REQUIRE(store);
    REQUIRE(how);
    REQUIRE(hits);
    *hits = NULL;
    SYNA_TRY(take_rows(given, &queries));
    if (queries.count)
        REQUIRE(counts);
    return sparse_search(store, &queries, how, hits, counts);
}

int32_t syna_sparse_list(syna_sparse *store, uint32_t flags, syna_sparse_hit **hits, size_t *count)
{
    REQUIRE(store);
    REQUIRE(hits);
    REQUIRE(count);
    *hits = NULL;
    return sparse_list(store, flags, hits, count);
}

void syna_free_sparse_hits(syna_sparse_hit *hits)
{
    mem_free(hits);
}

int32_t syna_sparse_flush(syna_sparse *store)
{
    REQUIRE(store);
    return sparse_flush(store);
}

int32_t syna_sparse_save(syna_sparse *store)
{
    REQUIRE(store);
    return sparse_save(store);
}

int32_t syna_sparse_refresh(syna_sparse *store, int32_t *changed)
{
    bool differs = false;
    REQUIRE(store);
    syna_rc rc = sparse_refresh(store, &differs);
    if (changed)
        *changed = differs;
    return rc;
}

int32_t syna_sparse_get_stats(syna_sparse *store, syna_sparse_stats *out)
{
    REQUIRE(store);
    REQUIRE(out);
    if (out->size < offsetof(syna_sparse_stats, rows))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_sparse_stats.size is %u, expected %zu", out->size, sizeof *out);
    return sparse_get_stats(store, out);
}

/* ---------------------------------------------------------------- by path */

int32_t syna_svs_new(const char *path)
{
    syna_sparse *store;
    syna_sparse_options options = {.size = sizeof options};
    return syna_sparse_open(path, &options, &store);
}

/* Copy the file of a store to another path; neither needs to be open. */
static syna_rc copy_store(const char *from, const char *to)
{
    syna_db *db;
    syna_db_options options = {.size = sizeof options, .read_only = 1, .must_exist = 1};
    SYNA_TRY(handles_open(from, &options, &db));
    syna_rc rc = db_backup(db, to, NULL, NULL);
    struct status_record why = *status_get();
    handles_close(db);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

int32_t syna_svs_open(const char *path, const char *file_path)
{
    syna_sparse *store;
    syna_sparse_options options = {.size = sizeof options, .must_exist = 1};
    SYNA_TRY(check_path(path));
    if (file_path && strcmp(path, file_path) != 0) {
        SYNA_TRY(check_path(file_path));
        SYNA_TRY(copy_store(file_path, path));
    }
    return syna_sparse_open(path, &options, &store);
}

int32_t syna_svs_close(const char *path)
{
    syna_rc rc;
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    log_table_leave(&stores, store);
    return log_table_close(&stores, store);
}

int64_t syna_svs_index(const char *path, const char *key, const uint32_t *term_ids,
                       const float *weights, uint32_t count)
{
    syna_rc rc;
    size_t added;
    uint32_t last = 0;
    uint64_t offsets[2] = {0, count};
    syna_sparse_rows rows = {.size = sizeof rows,
                             .count = 1,
                             .offsets = offsets,
                             .terms = term_ids,
                             .weights = weights,
                             .keys = &key};
    REQUIRE(key);
    if (count) {
        REQUIRE(term_ids);
        REQUIRE(weights);
    }
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = sparse_index(store, &rows, &added, &last);
    log_table_leave(&stores, store);
    return rc == SYNA_SUCCESS ? (int64_t)last : not_zero(rc);
}

static syna_rc give_keys(const syna_sparse_hit *hits, size_t count, char **keys, float *scores)
{
    for (size_t i = 0; i < count; i++) {
        keys[i] = mem_dup(hits[i].key, hits[i].key_len);
        scores[i] = hits[i].score;
        if (keys[i])
            continue;
        while (i-- > 0)
            mem_free(keys[i]);
        return syna_no_memory(hits[0].key_len);
    }
    return SYNA_SUCCESS;
}

int32_t syna_svs_search(const char *path, const uint32_t *term_ids, const float *weights,
                        uint32_t count, uint32_t k, char **out_keys, float *out_scores,
                        uint32_t *out_count)
{
    syna_rc rc;
    syna_sparse_hit *hits = NULL;
    size_t found = 0;
    uint64_t offsets[2] = {0, count};
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = term_ids, .weights = weights};
    syna_sparse_search how = {.size = sizeof how, .k = k};
    REQUIRE(out_count);
    *out_count = 0;
    if (k) {
        REQUIRE(out_keys);
        REQUIRE(out_scores);
    }
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = syna_sparse_search_many(store, &query, &how, &hits, &found);
    log_table_leave(&stores, store);
    if (rc == SYNA_SUCCESS)
        rc = give_keys(hits, found, out_keys, out_scores);
    if (rc == SYNA_SUCCESS)
        *out_count = (uint32_t)found;
    mem_free(hits);
    return rc;
}

void syna_svs_free_key(char *key)
{
    mem_free(key);
}

int64_t syna_svs_len(const char *path)
{
    syna_rc rc;
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return not_zero(rc);
    uint64_t count = sparse_count(store);
    log_table_leave(&stores, store);
    return (int64_t)count;
}

int32_t syna_svs_delete(const char *path, const char *key)
{
    syna_rc rc;
    int32_t deleted = 0;
    REQUIRE(key);
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = sparse_delete(store, key, strlen(key), &deleted);
    log_table_leave(&stores, store);
    if (rc == SYNA_SUCCESS && !deleted)
        rc = syna_fail(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, "%s: no row has the key %.200s", path,
                       key);
    return rc;
}

int32_t syna_svs_stats(const char *path, uint32_t *out_num_docs, uint32_t *out_num_terms,
                       uint32_t *out_num_postings, float *out_avg_doc_len)
{
    syna_rc rc;
    syna_sparse_stats stats = {.size = sizeof stats};
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = sparse_get_stats(store, &stats);
    log_table_leave(&stores, store);
    SYNA_TRY(rc);
    if (out_num_docs)
        *out_num_docs = (uint32_t)stats.rows;
    if (out_num_terms)
        *out_num_terms = stats.vocab_size;
    if (out_num_postings)
        *out_num_postings = (uint32_t)MIN(stats.pairs, (uint64_t)UINT32_MAX);
    if (out_avg_doc_len)
        *out_avg_doc_len =
            stats.rows ? (float)((double)stats.pairs / (double)stats.rows) : 0.0f;
    return SYNA_SUCCESS;
}

int32_t syna_svs_exists(const char *path)
{
    syna_rc rc;
    struct status_record before = *status_get();
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (store) {
        log_table_leave(&stores, store);
        return 1;
    }
    if (rc != SYNA_ERR_DB_NOT_FOUND)
        return not_zero(rc);
    status_set(&before); /* not open is an answer */
    return 0;
}

int32_t syna_svs_save(const char *path, const char *file_path)
{
    syna_rc rc;
    syna_sparse *store = log_table_enter(&stores, path, &rc);
    if (!store)
        return rc;
    rc = sparse_save(store);
    if (rc == SYNA_SUCCESS && file_path && strcmp(path, file_path) != 0)
        rc = db_backup(sparse_db(store), file_path, NULL, NULL);
    log_table_leave(&stores, store);
    return rc;
}
