/* sparse_write.c - index, replace and delete rows, change their metadata. See sparse_core.h for the order of things.
 *
 * Frames are built here, not by a put of the database: a row is read in place, so it must not be
 * compressed. */
#include "base/internal.h"

#include "base/utf8.h"
#include "engine/db_core.h"
#include "engine/meta_merge.h"
#include "engine/sparse_core.h"
#include "store/frame.h"
#include "store/value.h"

/* A key as it stands in the log, SPARSE_PREFIX in front. */
struct name {
    size_t at, len; /* in indexing.names */
    struct sparse_found found;
};

struct indexing {
    syna_sparse *store;
    const syna_sparse_rows *rows;
    uint32_t vocabulary;
    struct buf names;
    struct name *name;
    struct buf frames;
    size_t frame_count;
    size_t metadata_bytes;
    bool with_config; /* nothing, or something else, is remembered in the log */
};

static const char *name_bytes(const struct indexing *in, size_t i)
{
    return (const char *)in->names.bytes + in->name[i].at;
}

/* ---------------------------------------------------------------- checking and encoding */

static syna_rc check_key(const char *key, size_t len)
{
    if (!key)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the key is a null pointer");
    if (len > SYNA_SPARSE_KEY_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes, at most %u fit", len, SYNA_SPARSE_KEY_MAX);
    return db_check_key(key, len);
}

static syna_rc append_name(struct buf *names, const char *key, size_t len)
{
    SYNA_TRY(check_key(key, len));
    if (!buf_append(names, SPARSE_PREFIX, SPARSE_PREFIX_LEN) || !buf_append(names, key, len))
        return syna_no_memory(len);
    return SYNA_SUCCESS;
}

static syna_rc append_frame(struct indexing *in, const char *key, size_t key_len,
                            const struct value *value)
{
    size_t start;
    uint8_t flags = 0;
    SYNA_TRY(value_check(value));
    if (!frame_begin(&in->frames, key, key_len, &start))
        return syna_no_memory(key_len);
    SYNA_TRY(value_encode(value, false, &in->frames, &flags));
    if (!frame_finish(&in->frames, start, flags))
        return syna_no_memory(FRAME_CRC_BYTES);
    in->frame_count++;
    return SYNA_SUCCESS;
}

static syna_rc encode_row(struct indexing *in, size_t i, struct buf *scratch)
{
    const syna_sparse_rows *rows = in->rows;
    const char *metadata = rows->metadata ? rows->metadata[i] : NULL;
    size_t metadata_len = !metadata               ? 0
                          : rows->metadata_lens ? rows->metadata_lens[i]
                                                : strlen(metadata);
    struct name *name = &in->name[i];
    char what[256];
    uint64_t from = rows->offsets[i], to = rows->offsets[i + 1];
    snprintf(what, sizeof what, "row %zu, key %.*s", i,
             (int)MIN(name->len - SPARSE_PREFIX_LEN, (size_t)180),
             name_bytes(in, i) + SPARSE_PREFIX_LEN);
    if (metadata)
        SYNA_TRY(meta_check(metadata, metadata_len));
    if (to < from)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s: its pairs end before they begin",
                         what);
    scratch->len = 0;
    SYNA_TRY(sparse_row_append(scratch, rows->terms ? rows->terms + from : NULL,
                               rows->weights ? rows->weights + from : NULL, to - from,
                               in->vocabulary, metadata, metadata_len, what));
    in->metadata_bytes += metadata_len;
    struct value value = {.type = SYNA_TYPE_BYTES, .data = scratch->bytes, .len = scratch->len};
    return append_frame(in, name_bytes(in, i), name->len, &value);
}

static syna_rc take_names(struct indexing *in)
{
    const syna_sparse_rows *rows = in->rows;
    size_t bytes = rows->count * sizeof *in->name;
    in->name = mem_zalloc(bytes);
    if (!in->name)
        return syna_no_memory(bytes);
    for (size_t i = 0; i < rows->count; i++) {
        const char *key = rows->keys[i];
        size_t len = rows->key_lens ? rows->key_lens[i] : key ? strlen(key) : 0;
        in->name[i].at = in->names.len;
        SYNA_TRY(append_name(&in->names, key, len));
        in->name[i].len = SPARSE_PREFIX_LEN + len;
    }
    return SYNA_SUCCESS;
}

static syna_rc encode_rows(struct indexing *in)
{
    struct buf scratch = {0};
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < in->rows->count; i++)
        rc = encode_row(in, i, &scratch);
    buf_dispose(&scratch);
    return rc;
}

/* ---------------------------------------------------------------- promise, commit, apply */

static syna_rc promise_locked(struct indexing *in)
{
    syna_sparse *store = in->store;
    if (in->vocabulary != store->vocabulary)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "its vocabulary size became %u meanwhile, the rows were checked for %u",
                            store->vocabulary, in->vocabulary);
    if (!db_view_current(store->view))
        SYNA_TRY(sparse_rebase(store));
    SYNA_TRY(sparse_rows_reserve(store, store->promised + in->rows->count, in->metadata_bytes));
    store->promised += in->rows->count;
    in->with_config = store->config_vocabulary != store->vocabulary;
    return SYNA_SUCCESS;
}

static syna_rc promise(struct indexing *in)
{
    pthread_rwlock_wrlock(&in->store->state_lock);
    syna_rc rc = promise_locked(in);
    pthread_rwlock_unlock(&in->store->state_lock);
    return rc;
}

static syna_rc commit(struct indexing *in)
{
    char text[SPARSE_CONFIG_ROOM];
    if (in->with_config) {
        struct value config = {.type = SYNA_TYPE_TEXT, .data = text};
        config.len = sparse_config_text(in->store, text);
        SYNA_TRY(append_frame(in, SPARSE_CONFIG_KEY, strlen(SPARSE_CONFIG_KEY), &config));
    }
    return db_commit(in->store->db, &in->frames, in->frame_count, 0, NULL);
}

static int by_frame(const void *left, const void *right)
{
    uint64_t a = ((const struct name *)left)->found.place.frame;
    uint64_t b = ((const struct name *)right)->found.place.frame;
    return a < b ? -1 : a > b;
}

static void forget_found(struct indexing *in)
{
    for (size_t i = 0; i < in->rows->count; i++) {
        mem_free(in->name[i].found.copy);
        in->name[i].found.copy = NULL;
    }
}

/* Rows are numbered in the order of the log, in which the last of several rows of one key counts. */
static syna_rc apply_all(struct indexing *in, size_t *added)
{
    syna_sparse *store = in->store;
    const struct db_view *view;
    size_t count = in->rows->count;
    if (UNLIKELY(!db_view_current(store->view)))
        SYNA_TRY(sparse_rebase(store));
    do { /* again, should a compaction have come between: places are of one generation */
        view = store->view;
        forget_found(in);
        for (size_t i = 0; i < count; i++)
            SYNA_TRY(sparse_find(store, name_bytes(in, i), in->name[i].len, &in->name[i].found));
    } while (view != store->view);
    if (count > 1)
        qsort(in->name, count, sizeof *in->name, by_frame);
    for (size_t i = 0; i < count; i++) {
        bool is_new;
        SYNA_TRY(sparse_put(store, name_bytes(in, i), in->name[i].len, &in->name[i].found, &is_new));
        *added += is_new;
    }
    return SYNA_SUCCESS;
}

/* After the commit, or to take the promise back when `committed` is a failure. */
static syna_rc settle(struct indexing *in, syna_rc committed, size_t *added, uint32_t *last)
{
    syna_sparse *store = in->store;
    syna_rc rc = committed;
    pthread_rwlock_wrlock(&store->state_lock);
    if (rc == SYNA_SUCCESS)
        rc = apply_all(in, added);
    store->promised -= in->rows->count;
    if (committed == SYNA_SUCCESS && in->with_config)
        store->config_vocabulary = in->vocabulary;
    if (last)
        *last = postings_count(store->post) - (postings_count(store->post) > 0);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* change_lock is held. */
static syna_rc index_rows(syna_sparse *store, const syna_sparse_rows *rows, size_t *added,
                          uint32_t *last)
{
    struct indexing in = {.store = store, .rows = rows, .vocabulary = sparse_vocabulary(store)};
    *added = 0;
    if (rows->count == 0)
        return SYNA_SUCCESS;
    syna_rc rc = take_names(&in);
    if (rc == SYNA_SUCCESS)
        rc = encode_rows(&in);
    if (rc == SYNA_SUCCESS)
        rc = promise(&in);
    if (rc == SYNA_SUCCESS)
        rc = settle(&in, commit(&in), added, last);
    if (in.name)
        forget_found(&in);
    mem_free(in.name);
    buf_dispose(&in.names);
    buf_dispose(&in.frames);
    return rc;
}

syna_rc sparse_index(syna_sparse *store, const syna_sparse_rows *rows, size_t *added, uint32_t *last)
{
    pthread_rwlock_rdlock(&store->change_lock);
    syna_rc rc = index_rows(store, rows, added, last);
    pthread_rwlock_unlock(&store->change_lock);
    if (rc == SYNA_SUCCESS && rows->count)
        sparse_maintain(store);
    return rc;
}

/* ---------------------------------------------------------------- metadata */

/* A row is one record of the log: its pairs are written again, with the new metadata. */
static syna_rc write_again(syna_sparse *store, const char *key, size_t key_len,
                           const syna_sparse_row *row, const char *json, size_t len)
{
    uint64_t offsets[2] = {0, row->count};
    size_t added;
    syna_sparse_rows rows = {.size = sizeof rows,
                             .count = 1,
                             .offsets = offsets,
                             .terms = row->terms,
                             .weights = row->weights,
                             .keys = &key,
                             .key_lens = &key_len,
                             .metadata = &json,
                             .metadata_lens = &len};
    return index_rows(store, &rows, &added, NULL);
}

static syna_rc update_locked(syna_sparse *store, const char *key, size_t key_len, const char *json,
                             size_t len, bool replace)
{
    syna_sparse_row *row;
    struct buf merged = {0};
    SYNA_TRY(sparse_get(store, key, key_len, &row));
    bool merges = json && row->metadata && !replace;
    syna_rc rc = SYNA_SUCCESS;
    if (merges)
        rc = meta_merge(row->metadata, row->metadata_len, json, len, &merged);
    if (rc == SYNA_SUCCESS)
        rc = write_again(store, key, key_len, row, merges ? (const char *)merged.bytes : json,
                         merges ? merged.len : len);
    buf_dispose(&merged);
    mem_free(row);
    return rc;
}

syna_rc sparse_update_metadata(syna_sparse *store, const char *key, size_t key_len, const char *json,
                               size_t len, bool replace)
{
    SYNA_TRY(check_key(key, key_len));
    if (json)
        SYNA_TRY(meta_check(json, len));
    if (!db_is_writer(store->db))
        return db_check_writable(store->db); /* says why, also where there is no such row */
    pthread_rwlock_wrlock(&store->change_lock);
    syna_rc rc = update_locked(store, key, key_len, json, len, replace);
    pthread_rwlock_unlock(&store->change_lock);
    if (rc == SYNA_SUCCESS)
        sparse_maintain(store);
    return rc;
}

/* ---------------------------------------------------------------- deleting */

static syna_rc apply_deletion(syna_sparse *store, const char *name, size_t len)
{
    bool added;
    pthread_rwlock_wrlock(&store->state_lock);
    /* A racing write may have put the key again, so this too may add a row. */
    syna_rc rc = sparse_rows_reserve(store, store->promised + 1, 0);
    if (rc == SYNA_SUCCESS && !db_view_current(store->view))
        rc = sparse_rebase(store);
    if (rc == SYNA_SUCCESS)
        rc = sparse_apply(store, name, len, &added);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* A value under the prefix that is no row of ours stays. */
static syna_rc delete_row(syna_sparse *store, const char *key, size_t key_len, const struct buf *name,
                          int32_t *deleted)
{
    if (!sparse_contains(store, key, key_len))
        return SYNA_SUCCESS;
    SYNA_TRY(db_delete(store->db, (const char *)name->bytes, name->len, deleted));
    return apply_deletion(store, (const char *)name->bytes, name->len);
}

syna_rc sparse_delete(syna_sparse *store, const char *key, size_t key_len, int32_t *deleted)
{
    struct buf name = {0};
    *deleted = 0;
    syna_rc rc = append_name(&name, key, key_len);
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_rdlock(&store->change_lock);
        rc = delete_row(store, key, key_len, &name, deleted);
        pthread_rwlock_unlock(&store->change_lock);
    }
    if (rc == SYNA_SUCCESS && *deleted)
        sparse_maintain(store);
    buf_dispose(&name);
    return rc;
}
