/* Threads on one sparse vector store: two write, each rows of its own, enough that windows are
 * sealed and joined meanwhile; two search, exactly and approximately; one changes metadata, which
 * must not bring a replaced row back; one saves. A search shows every key at most once and no row
 * that was not written; in the end every key has its last row. Under ThreadSanitizer a race fails
 * the test. */
#include "check.h"

#include "engine/sparse.h"

#include <sched.h>

enum { WRITERS = 2, BATCHES = 14, BATCH = 200, PAIRS = 60, VOCABULARY = 400, ROUNDS = 40, K = 20 };
enum { KEYS = WRITERS * BATCHES * BATCH / 2 }; /* each is written twice */

struct world {
    syna_sparse *store;
    uint32_t writing; /* atomic: writers that are not done */
};

struct worker {
    struct world *world;
    int number;
    float recall;
};

/* Any PAIRS terms, ascending: of every VOCABULARY / PAIRS one. */
static void make_row(uint32_t key, uint32_t version, uint32_t *terms, float *weights)
{
    const uint32_t step = VOCABULARY / PAIRS;
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint32_t mix = (key * 2654435761u ^ i * 40503u ^ version * 97u) >> 7;
        terms[i] = i * step + mix % step;
        weights[i] = (float)(1 + mix % 31) / 8;
    }
}

static void write_batch(const struct worker *w, uint32_t batch)
{
    static _Thread_local uint32_t terms[BATCH * PAIRS];
    static _Thread_local float weights[BATCH * PAIRS];
    static _Thread_local char names[BATCH][16];
    const char *keys[BATCH];
    uint64_t offsets[BATCH + 1] = {0};
    uint32_t half = BATCHES / 2, owned = KEYS / WRITERS;
    size_t added;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t key = (uint32_t)w->number * owned + batch % half * BATCH + i;
        make_row(key, batch / half, terms + i * PAIRS, weights + i * PAIRS);
        snprintf(names[i], sizeof names[i], "%u", key);
        keys[i] = names[i];
        offsets[i + 1] = (uint64_t)(i + 1) * PAIRS;
    }
    syna_sparse_rows rows = {.size = sizeof rows,
                             .count = BATCH,
                             .offsets = offsets,
                             .terms = terms,
                             .weights = weights,
                             .keys = keys};
    CHECK_OK(sparse_index(w->world->store, &rows, &added, NULL));
}

static void *write_rows(void *context)
{
    const struct worker *w = context;
    for (uint32_t batch = 0; batch < BATCHES; batch++)
        write_batch(w, batch);
    __atomic_sub_fetch(&w->world->writing, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void check_hits(const syna_sparse_hit *hits, size_t count)
{
    CHECK(count <= K);
    for (size_t i = 0; i < count; i++) {
        CHECK(strtoul(hits[i].key, NULL, 10) < KEYS);
        CHECK(i == 0 || hits[i].score <= hits[i - 1].score);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(hits[i].key, hits[j].key) != 0);
    }
}

static size_t search(const struct worker *w, uint32_t key, float *best)
{
    uint32_t terms[PAIRS];
    float weights[PAIRS];
    uint64_t offsets[2] = {0, PAIRS};
    syna_sparse_hit *hits = NULL;
    size_t count;
    make_row(key, 1, terms, weights);
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = terms, .weights = weights};
    syna_sparse_search how = {.size = sizeof how, .k = K, .recall = w->recall};
    CHECK_OK(sparse_search(w->world->store, &query, &how, &hits, &count));
    check_hits(hits, count);
    *best = count ? hits[0].score : 0;
    syna_free_sparse_hits(hits);
    return count;
}

static void *search_rows(void *context)
{
    const struct worker *w = context;
    float best;
    for (uint32_t i = 0; i < ROUNDS || __atomic_load_n(&w->world->writing, __ATOMIC_ACQUIRE); i++)
        search(w, i * 37 % KEYS, &best);
    return NULL;
}

static void *describe_rows(void *context)
{
    const struct worker *w = context;
    for (uint32_t i = 0; i < ROUNDS || __atomic_load_n(&w->world->writing, __ATOMIC_ACQUIRE); i++) {
        char key[16], json[32];
        snprintf(key, sizeof key, "%u", i * 29 % KEYS);
        snprintf(json, sizeof json, "{\"n\":%u}", i);
        syna_rc rc = sparse_update_metadata(w->world->store, key, strlen(key), json, strlen(json), false);
        CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND);
    }
    return NULL;
}

static void *save_rows(void *context)
{
    const struct worker *w = context;
    do
        CHECK_OK(sparse_save(w->world->store));
    while (__atomic_load_n(&w->world->writing, __ATOMIC_ACQUIRE));
    return NULL;
}

/* The row that a query was made of is found, with what it was written with last. */
static void check_rows(struct world *world)
{
    const struct worker exact = {.world = world};
    CHECK_EQ(sparse_count(world->store), (uint64_t)KEYS);
    for (uint32_t key = 0; key < KEYS; key += 17) {
        uint32_t terms[PAIRS];
        float weights[PAIRS], best;
        double own = 0;
        make_row(key, 1, terms, weights);
        for (int i = 0; i < PAIRS; i++)
            own += (double)weights[i] * (double)weights[i];
        CHECK_EQ(search(&exact, key, &best), (size_t)K);
        CHECK(best >= (float)own);
    }
}

TEST(threads_write_search_and_save_one_store)
{
    static void *(*const works[])(void *) = {write_rows, write_rows, search_rows, search_rows,
                                             save_rows,  describe_rows};
    struct world world = {.writing = WRITERS};
    struct worker workers[COUNT_OF(works)];
    pthread_t threads[COUNT_OF(works)];
    syna_sparse_options options = {.size = sizeof options, .vocab_size = VOCABULARY};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_db *db;
    CHECK_OK(db_open(check_path("threads.svs"), &log, &db));
    CHECK_OK(sparse_new(db, &options, &world.store));
    for (size_t i = 0; i < COUNT_OF(works); i++) {
        workers[i] = (struct worker){.world = &world, .number = (int)i};
        workers[i].recall = i == 3 ? 0.9f : 0;
        CHECK_EQ(pthread_create(&threads[i], NULL, works[i], &workers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(works); i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    check_rows(&world);
    sparse_free(world.store);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- one row, changed from both sides */

enum { VERSIONS = 3000 };

struct duel {
    syna_sparse *store;
    bool over;        /* atomic, */
    uint32_t changes; /* likewise: made so far */
};

static void *describe_one(void *context)
{
    struct duel *duel = context;
    for (int i = 0; !__atomic_load_n(&duel->over, __ATOMIC_ACQUIRE); i++) {
        CHECK_OK(sparse_update_metadata(duel->store, "a", 1, "{\"n\":1}", 7, i % 2));
        __atomic_add_fetch(&duel->changes, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void index_one(struct duel *duel, float version)
{
    const char *key = "a";
    uint32_t term = 3;
    uint64_t offsets[2] = {0, 1};
    size_t added;
    syna_sparse_rows rows = {.size = sizeof rows,
                             .count = 1,
                             .offsets = offsets,
                             .terms = &term,
                             .weights = &version,
                             .keys = &key};
    CHECK_OK(sparse_index(duel->store, &rows, &added, NULL));
}

/* Until a change that is under way is made. */
static void wait_for_change(struct duel *duel)
{
    uint32_t before = __atomic_load_n(&duel->changes, __ATOMIC_ACQUIRE);
    while (__atomic_load_n(&duel->changes, __ATOMIC_ACQUIRE) == before)
        sched_yield();
}

TEST(a_change_of_metadata_brings_no_replaced_row_back)
{
    struct duel duel = {.over = false};
    pthread_t thread;
    syna_sparse_options options = {.size = sizeof options, .vocab_size = VOCABULARY};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_db *db;
    CHECK_OK(db_open(check_path("duel.svs"), &log, &db));
    CHECK_OK(sparse_new(db, &options, &duel.store));
    index_one(&duel, 1);
    CHECK_EQ(pthread_create(&thread, NULL, describe_one, &duel), 0);
    for (int version = 2; version < VERSIONS; version++) {
        syna_sparse_row *row;
        index_one(&duel, (float)version);
        wait_for_change(&duel);
        CHECK_OK(sparse_get(duel.store, "a", 1, &row));
        CHECK(row->count == 1 && row->weights[0] == (float)version);
        syna_free_sparse_row(row);
    }
    __atomic_store_n(&duel.over, true, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(sparse_count(duel.store), 1u);
    sparse_free(duel.store);
    CHECK_OK(db_close(db));
}
