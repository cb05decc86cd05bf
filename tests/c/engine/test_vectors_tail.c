/* A fresh tail that is longer than searches can look at: how many of its rows they look at, what they find,
 * and that deletes, updates, new codes, packing and absorption leave buckets and rows in agreement. */
#include "check.h"

#include "base/rng.h"
#include "engine/vectors_core.h"

#include <math.h>

enum { DIMS = 32, DEGREES = 6, LINKED = 10500, TAIL = 14000, PLAIN = 2048, BATCH = 500, K = 10 };
enum { LEADERS = 1024, LOOK = 6144 + 16 * K, WALK = 4000 };

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

/* Rows of few degrees of freedom, as embeddings are; row i is the same in every run. */
static void make_row(uint32_t i, float *out)
{
    uint64_t seed = i * 7919u + 1, mix = 42;
    float latent[DEGREES];
    for (int d = 0; d < DEGREES; d++)
        latent[d] = (float)(rng_next(&seed) >> 40) / 8388608.0f - 1;
    for (int d = 0; d < DIMS; d++) {
        out[d] = 0;
        for (int l = 0; l < DEGREES; l++)
            out[d] += latent[l] * ((float)(rng_next(&mix) >> 40) / 8388608.0f - 1);
        out[d] = tanhf(out[d]);
    }
}

static void insert_rows(syna_vectors *store, uint32_t first, uint32_t count)
{
    static char names[BATCH][16];
    static float rows[BATCH][DIMS];
    const char *keys[BATCH];
    size_t added;
    for (uint32_t at = first; at < first + count; at += BATCH) {
        uint32_t some = MIN((uint32_t)BATCH, first + count - at);
        for (uint32_t i = 0; i < some; i++) {
            snprintf(names[i], sizeof names[i], "%u", at + i);
            keys[i] = names[i];
            make_row(at + i, rows[i]);
        }
        const struct vectors_batch batch = {
            .keys = keys, .vectors = rows[0], .dims = DIMS, .count = some};
        CHECK_OK(vectors_insert(store, &batch, &added));
    }
}

/* A graph over LINKED rows, and TAIL more that nobody absorbs until absorber_release. */
static void open_long(struct open_store *o, uint8_t quantization)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_vectors_options options = {.size = sizeof options, .dimensions = DIMS, .threads = 1,
                                    .metric = SYNA_METRIC_EUCLIDEAN, .quantization = quantization};
    CHECK_OK(db_open(check_path("v.db"), &log, &o->db));
    CHECK_OK(vectors_new(o->db, &options, &o->store));
    absorber_hold(o->store);
    insert_rows(o->store, 0, LINKED);
    absorber_release(o->store);
    CHECK_OK(vectors_absorb(o->store, NULL, NULL));
    absorber_hold(o->store);
    insert_rows(o->store, LINKED, TAIL);
    CHECK_EQ(o->store->graph.linked, LINKED);
}

static void close_store(struct open_store *o)
{
    absorber_release(o->store);
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

static syna_hit *search(syna_vectors *store, uint32_t row, uint32_t flags, syna_explain *explain,
                        size_t *count)
{
    float query[DIMS];
    *explain = (syna_explain){.size = sizeof *explain};
    syna_search how = {.size = sizeof how, .k = K, .flags = flags, .ef = 200, .explain = explain};
    syna_hit *hits;
    make_row(row, query);
    CHECK_OK(vectors_search(store, query, 1, DIMS, &how, &hits, count));
    return hits;
}

/* Of the K nearest, how many does a search find for queries that are rows, or are near to some? */
static double recall(syna_vectors *store, uint32_t first, uint32_t step, uint64_t *codes)
{
    uint32_t right = 0, queries = 0;
    *codes = 0;
    for (uint32_t row = first; queries < 100; row += step, queries++) {
        syna_explain explain;
        size_t found, truth;
        syna_hit *a = search(store, row, 0, &explain, &found);
        CHECK_EQ(explain.plan, SYNA_PLAN_GRAPH);
        *codes = MAX(*codes, explain.codes);
        syna_hit *b = search(store, row, SYNA_SEARCH_EXACT, &explain, &truth);
        CHECK_EQ(found, K);
        for (size_t i = 0; i < found; i++)
            right += a[i].score <= b[truth - 1].score;
        syna_free_hits(a);
        syna_free_hits(b);
    }
    return right / (100.0 * K);
}

static bool found_first(syna_vectors *store, uint32_t row)
{
    char key[16];
    size_t count, len = (size_t)snprintf(key, sizeof key, "%u", row);
    syna_explain explain;
    syna_hit *hits = search(store, row, 0, &explain, &count);
    bool first = count > 0 && hits[0].key_len == len && memcmp(hits[0].key, key, len) == 0;
    syna_free_hits(hits);
    return first;
}

/* ---------------------------------------------------------------- the tests */

static void look_at_few(uint8_t quantization, double least)
{
    struct open_store o;
    uint64_t codes, after;
    open_long(&o, quantization);
    CHECK(o.store->tail.from > LINKED + PLAIN && o.store->tail.from <= LINKED + PLAIN + 64);
    double unseen = recall(o.store, 1000000, 17, &codes);
    check_note("recall %g, %llu codes", unseen, (unsigned long long)codes);
    CHECK(unseen >= least);
    CHECK(codes < PLAIN + WALK + LEADERS + LOOK);
    for (uint32_t row = LINKED; row < LINKED + TAIL; row += 501)
        CHECK(found_first(o.store, row)); /* what was written is found */
    absorber_release(o.store);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    absorber_hold(o.store);
    CHECK_EQ(o.store->graph.linked, LINKED + TAIL);
    recall(o.store, 1000000, 17, &after);
    CHECK(after < codes);
    insert_rows(o.store, LINKED + TAIL, 100);
    CHECK(o.store->tail.from == UINT32_MAX); /* short again */
    CHECK(found_first(o.store, LINKED + TAIL + 99));
    close_store(&o);
}

TEST(a_search_looks_at_the_part_of_a_long_tail_that_is_near)
{
    look_at_few(SYNA_CODES_INT8, 0.95);
}

TEST(so_it_does_among_codes_of_one_bit)
{
    look_at_few(SYNA_CODES_BINARY, 0.9);
}

TEST(rows_that_go_are_not_found_and_new_ones_of_a_key_are)
{
    struct open_store o;
    int32_t deleted;
    char key[16];
    open_long(&o, SYNA_CODES_INT8);
    for (uint32_t row = LINKED + PLAIN + 200; row < LINKED + TAIL; row += 1000) {
        size_t len = (size_t)snprintf(key, sizeof key, "%u", row);
        CHECK(found_first(o.store, row));
        CHECK_OK(vectors_delete(o.store, key, len, &deleted));
        CHECK(!found_first(o.store, row));
    }
    insert_rows(o.store, 0, 50); /* from the graph into the tail */
    for (uint32_t row = 0; row < 50; row += 7)
        CHECK(found_first(o.store, row));
    close_store(&o);
}

TEST(exact_searches_and_those_that_name_a_recall_look_at_all)
{
    struct open_store o;
    syna_explain explain;
    size_t count;
    open_long(&o, SYNA_CODES_INT8);
    syna_free_hits(search(o.store, 5, SYNA_SEARCH_EXACT, &explain, &count));
    CHECK_EQ(explain.codes, LINKED + TAIL);
    CHECK_EQ(explain.plan, SYNA_PLAN_EXACT);
    float query[DIMS];
    syna_hit *hits;
    syna_search how = {.size = sizeof how, .k = K, .recall = 0.5f, .explain = &explain};
    make_row(1000000, query);
    CHECK_OK(vectors_search(o.store, query, 1, DIMS, &how, &hits, &count));
    CHECK_EQ(explain.plan, SYNA_PLAN_GRAPH);
    CHECK(explain.codes > TAIL); /* who names a recall gets it */
    syna_free_hits(hits);
    close_store(&o);
}

TEST(new_codes_and_packing_agree_with_the_buckets)
{
    struct open_store o;
    uint64_t codes;
    open_long(&o, SYNA_CODES_INT8);
    pthread_mutex_lock(&o.store->index_lock);
    pthread_rwlock_wrlock(&o.store->state_lock);
    CHECK_OK(vectors_train(o.store));
    pthread_rwlock_unlock(&o.store->state_lock);
    pthread_mutex_unlock(&o.store->index_lock);
    CHECK(recall(o.store, 1000000, 17, &codes) >= 0.95);
    CHECK(found_first(o.store, LINKED + TAIL - 1));
    pthread_rwlock_wrlock(&o.store->state_lock);
    CHECK_OK(vectors_pack(o.store));
    pthread_rwlock_unlock(&o.store->state_lock);
    CHECK(found_first(o.store, LINKED + TAIL - 1));
    insert_rows(o.store, LINKED + TAIL, 100);
    CHECK(found_first(o.store, LINKED + TAIL + 99));
    close_store(&o);
}

TEST(what_a_search_looks_at_does_not_grow_with_the_tail)
{
    struct open_store o;
    uint64_t codes, later;
    open_long(&o, SYNA_CODES_INT8);
    recall(o.store, 1000000, 17, &codes);
    insert_rows(o.store, LINKED + TAIL, 3 * TAIL);
    CHECK_EQ(o.store->graph.linked, LINKED);
    double unseen = recall(o.store, 1000000, 17, &later);
    check_note("recall %g, %llu codes, before %llu", unseen, (unsigned long long)later,
               (unsigned long long)codes);
    CHECK(later < PLAIN + WALK + LEADERS + LOOK);
    CHECK(unseen >= 0.9);
    for (uint32_t row = LINKED; row < LINKED + 4 * TAIL; row += 1501)
        CHECK(found_first(o.store, row));
    close_store(&o);
}

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

TEST(without_memory_at_any_call_a_search_fails_and_the_next_is_right)
{
    struct open_store o;
    float query[DIMS];
    size_t count;
    open_long(&o, SYNA_CODES_INT8);
    make_row(LINKED + TAIL - 1, query);
    for (int k = 1;; k++) {
        int left = k;
        syna_search how = {.size = sizeof how, .k = K};
        syna_hit *hits = NULL;
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = vectors_search(o.store, query, 1, DIMS, &how, &hits, &count);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS)
            syna_free_hits(hits);
        else
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        CHECK(found_first(o.store, LINKED + TAIL - 1));
        if (left > 0)
            break;
    }
    close_store(&o);
}
