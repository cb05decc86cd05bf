/* sparse_read.c - one row, and facts about all. */
#include "base/internal.h"

#include "engine/sparse_core.h"

static syna_rc copy_row(const struct sparse_row *at, syna_sparse_row **out)
{
    size_t pairs = (size_t)at->count * 4;
    size_t bytes = sizeof(syna_sparse_row) + 2 * pairs + at->metadata_len + 1;
    syna_sparse_row *row = mem_alloc(bytes);
    if (!row)
        return syna_no_memory(bytes);
    uint8_t *terms = (uint8_t *)(row + 1), *text = terms + 2 * pairs;
    if (pairs) {
        memcpy(terms, at->terms, pairs);
        memcpy(terms + pairs, at->weights, pairs);
    }
    if (at->metadata)
        memcpy(text, at->metadata, at->metadata_len);
    text[at->metadata_len] = '\0';
    *row = (syna_sparse_row){
        .terms = (const uint32_t *)(const void *)terms,
        .weights = (const float *)(const void *)(terms + pairs),
        .metadata = at->metadata ? (const char *)text : NULL,
        .count = at->count,
        .metadata_len = at->metadata_len,
    };
    *out = row;
    return SYNA_SUCCESS;
}

static syna_rc no_row(const syna_sparse *store, const char *key, size_t key_len)
{
    return syna_fail_at(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                        "no row has the key %.*s", (int)MIN(key_len, (size_t)200), key);
}

syna_rc sparse_get(syna_sparse *store, const char *key, size_t key_len, syna_sparse_row **out)
{
    struct sparse_row at;
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t row = row_keys_find(&store->keys, key, key_len);
    if (row != ROW_NONE) {
        sparse_row_at(store, row, &at);
        rc = sparse_damage(store);
        if (rc == SYNA_SUCCESS)
            rc = copy_row(&at, out);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return row == ROW_NONE ? no_row(store, key, key_len) : rc;
}

static syna_rc copy_metadata(const struct sparse_row *at, char **out, size_t *len)
{
    if (!at->metadata)
        return SYNA_SUCCESS;
    *out = mem_dup(at->metadata, at->metadata_len);
    if (!*out)
        return syna_no_memory(at->metadata_len);
    *len = at->metadata_len;
    return SYNA_SUCCESS;
}

syna_rc sparse_get_metadata(syna_sparse *store, const char *key, size_t key_len, char **out,
                            size_t *len)
{
    struct sparse_row at;
    syna_rc rc = SYNA_SUCCESS;
    *out = NULL;
    *len = 0;
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t row = row_keys_find(&store->keys, key, key_len);
    if (row != ROW_NONE) {
        sparse_row_at(store, row, &at);
        rc = sparse_damage(store);
        if (rc == SYNA_SUCCESS)
            rc = copy_metadata(&at, out, len);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return row == ROW_NONE ? no_row(store, key, key_len) : rc;
}

bool sparse_contains(syna_sparse *store, const char *key, size_t key_len)
{
    pthread_rwlock_rdlock(&store->state_lock);
    bool found = row_keys_find(&store->keys, key, key_len) != ROW_NONE;
    pthread_rwlock_unlock(&store->state_lock);
    return found;
}

uint64_t sparse_count(syna_sparse *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint64_t count = postings_live_count(store->post);
    pthread_rwlock_unlock(&store->state_lock);
    return count;
}

static uint64_t memory_of(const syna_sparse *store, const struct postings_facts *facts)
{
    return facts->memory_bytes + array_bytes(&store->places) + array_bytes(&store->checked) +
           array_bytes(&store->described) + row_keys_bytes(&store->keys) + meta_bytes(store->meta);
}

syna_rc sparse_get_stats(syna_sparse *store, syna_sparse_stats *out)
{
    struct postings_facts facts;
    syna_db_stats log = {.size = sizeof log};
    SYNA_TRY(db_get_stats(store->db, &log));
    pthread_rwlock_rdlock(&store->state_lock);
    postings_get_facts(store->post, &facts);
    syna_sparse_stats stats = {
        .size = out->size,
        .vocab_size = store->vocabulary,
        .rows = postings_live_count(store->post),
        .pairs = store->pairs,
        .dead_rows = postings_count(store->post) - postings_live_count(store->post),
        .memory_bytes = memory_of(store, &facts),
        .mapped_bytes = facts.mapped_bytes,
        .file_bytes = log.file_bytes,
        .windows = facts.windows,
        .fresh_rows = facts.fresh_rows,
    };
    pthread_rwlock_unlock(&store->state_lock);
    memcpy(out, &stats, MIN((size_t)out->size, sizeof stats));
    return SYNA_SUCCESS;
}
