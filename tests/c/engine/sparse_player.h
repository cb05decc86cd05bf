/* A sparse vector store for player.h: rows of one term each, whose value is in their metadata, or else
 * their weight. */
#ifndef SYNA_TESTS_SPARSE_PLAYER_H
#define SYNA_TESTS_SPARSE_PLAYER_H

#include "check.h"

#include "engine/sparse.h"
#include "player.h"

#define SPARSE_PATH MEM_DIR "/a.svs"
enum { TERM = 7 };

struct sparse_store {
    bool no_sync;
    syna_db *db;
    syna_sparse *rows; /* NULL: not open */
};

static inline syna_rc sparse_player_open(void *store)
{
    struct sparse_store *s = store;
    syna_sparse_options options = {.size = sizeof options, .vocab_size = 100};
    syna_db_options log = {.size = sizeof log, .no_sync = s->no_sync};
    SYNA_TRY(db_open(SPARSE_PATH, &log, &s->db));
    syna_rc rc = sparse_new(s->db, &options, &s->rows);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        db_close(s->db);
        s->rows = NULL;
        return status_set(&why);
    }
    return rc;
}

static inline syna_rc sparse_player_close(void *store)
{
    struct sparse_store *s = store;
    if (!s->rows)
        return SYNA_SUCCESS;
    sparse_close_snapshot(s->rows);
    sparse_free(s->rows);
    s->rows = NULL;
    return db_close(s->db);
}

/* What a search finds. */
static inline syna_rc sparse_player_read(void *store, long found[PLAYER_KEYS])
{
    struct sparse_store *s = store;
    uint64_t offsets[2] = {0, 1};
    uint32_t term = TERM;
    float weight = 1;
    syna_sparse_hit *hits = NULL;
    size_t count;
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = &term, .weights = &weight};
    syna_sparse_search how = {.size = sizeof how, .flags = SYNA_SPARSE_METADATA, .k = UINT64_MAX};
    for (int key = 0; key < PLAYER_KEYS; key++)
        found[key] = PLAYER_GONE;
    SYNA_TRY(sparse_search(s->rows, &query, &how, &hits, &count));
    for (size_t i = 0; i < count; i++) {
        int key = hits[i].key[1] - '0';
        CHECK(hits[i].key_len == 2 && key >= 0 && key < PLAYER_KEYS);
        CHECK_EQ(found[key], PLAYER_GONE);
        found[key] = (long)hits[i].score;
        if (hits[i].metadata)
            CHECK_EQ(sscanf(hits[i].metadata, "{\"v\":%ld}", &found[key]), 1);
    }
    CHECK_EQ(count, sparse_count(s->rows));
    syna_free_sparse_hits(hits);
    return SYNA_SUCCESS;
}

static inline syna_rc sparse_player_put(struct player *p, int first, int count)
{
    struct sparse_store *s = p->store;
    char names[PLAYER_KEYS][8];
    const char *keys[PLAYER_KEYS];
    uint32_t terms[PLAYER_KEYS];
    float weights[PLAYER_KEYS];
    uint64_t offsets[PLAYER_KEYS + 1] = {0};
    size_t added;
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "k%d", first + i);
        keys[i] = names[i];
        terms[i] = TERM;
        weights[i] = (float)player_row(p, first + i);
        offsets[i + 1] = (uint64_t)i + 1;
    }
    syna_sparse_rows rows = {.size = sizeof rows, .count = (uint64_t)count, .offsets = offsets,
                             .terms = terms, .weights = weights, .keys = keys};
    return sparse_index(s->rows, &rows, &added, NULL);
}

/* Another value for a row that is there; its weight stays. */
static inline syna_rc sparse_player_describe(struct player *p, int key)
{
    struct sparse_store *s = p->store;
    char name[8], json[32];
    snprintf(name, sizeof name, "k%d", key);
    snprintf(json, sizeof json, "{\"v\":%ld}", player_row(p, key));
    return sparse_update_metadata(s->rows, name, strlen(name), json, strlen(json), false);
}

static inline syna_rc sparse_player_delete(struct player *p, int key)
{
    struct sparse_store *s = p->store;
    char name[8];
    int32_t deleted;
    snprintf(name, sizeof name, "k%d", key);
    player_drop(p, key);
    return sparse_delete(s->rows, name, strlen(name), &deleted);
}

#endif
