/* The option for threads: searches of many queries keep to it, whatever becomes of the graph, and what
 * they find does not depend on it. */
#include "check.h"

#include "engine/vectors_core.h"

enum { DIMS = 16, ROWS = 3000, ASKED = 1100, K = 5 };

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static void open_store(struct open_store *o, const char *path, uint32_t threads)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_vectors_options options = {.size = sizeof options, .dimensions = DIMS, .threads = threads,
                                    .metric = SYNA_METRIC_EUCLIDEAN, .no_absorber = 1};
    CHECK_OK(db_open(path, &log, &o->db));
    CHECK_OK(vectors_new(o->db, &options, &o->store));
}

static void close_store(struct open_store *o)
{
    vectors_save(o->store);
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

static float *make_rows(uint32_t count)
{
    float *rows = malloc((size_t)count * DIMS * sizeof *rows);
    for (size_t i = 0; i < (size_t)count * DIMS; i++)
        rows[i] = (float)(check_random() % 2000) / 1000 - 1;
    return rows;
}

static void insert_rows(syna_vectors *store, const float *rows)
{
    static char names[ROWS][8];
    static const char *keys[ROWS];
    size_t added;
    for (uint32_t i = 0; i < ROWS; i++) {
        snprintf(names[i], sizeof names[i], "%u", i);
        keys[i] = names[i];
    }
    const struct vectors_batch batch = {.keys = keys, .vectors = rows, .dims = DIMS, .count = ROWS};
    CHECK_OK(vectors_insert(store, &batch, &added));
}

/* Hits of all queries, asked `together` at a time. */
static void ask(syna_vectors *store, const float *queries, size_t together, syna_hit *out)
{
    size_t counts[ASKED];
    const syna_search how = {.size = sizeof how, .k = K, .ef = 40};
    for (size_t q = 0; q < ASKED; q += together) {
        size_t some = MIN(together, ASKED - q);
        syna_hit *hits;
        CHECK_OK(vectors_search(store, queries + q * DIMS, some, DIMS, &how, &hits, counts));
        for (size_t i = 0; i < some; i++)
            CHECK_EQ(counts[i], K);
        memcpy(out + q * K, hits, some * K * sizeof *hits);
        for (size_t i = 0; i < some * K; i++) /* a number outlives the block */
            out[q * K + i].key_len = (uint32_t)strtoul(hits[i].key, NULL, 10);
        mem_free(hits);
    }
}

TEST(searches_of_many_queries_use_as_many_threads_as_the_store_may)
{
    float *rows = make_rows(ROWS), *queries = make_rows(ASKED);
    syna_hit *alone = calloc(ASKED * K, sizeof *alone), *many = calloc(ASKED * K, sizeof *many);
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        struct open_store o;
        open_store(&o, check_path("v.db"), threads);
        if (threads == 1)
            insert_rows(o.store, rows);
        CHECK_OK(vectors_build_index(o.store, NULL, NULL));
        CHECK_EQ(o.store->graph.linked, ROWS);
        CHECK_EQ(o.store->graph.search_threads, threads);
        if (threads == 1)
            ask(o.store, queries, 1, alone);
        ask(o.store, queries, ASKED, many);
        for (size_t i = 0; i < ASKED * K; i++) {
            CHECK_EQ(many[i].key_len, alone[i].key_len);
            CHECK_MEM(&many[i].score, &alone[i].score, sizeof many[i].score);
        }
        close_store(&o);
        open_store(&o, check_path("v.db"), threads + 1);
        CHECK_EQ(o.store->graph.linked, ROWS); /* from the snapshot */
        CHECK_EQ(o.store->graph.search_threads, threads + 1);
        close_store(&o);
    }
    free(rows);
    free(queries);
    free(alone);
    free(many);
}
