/* The thread that keeps the graph of a vector store up to date: rows get into the graph although no
 * write waits for it, searches are right at every moment, and it is out of the way of closing, building,
 * compaction and fork. */
#include "check.h"

#include "engine/vectors.h"

#include <float.h>
#include <sys/wait.h>

enum { DIMS = 8, AUTO_ROWS = 10000, BATCH = 500, TAIL = 1024 };

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static void open_with(struct open_store *o, syna_vectors_options options)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1, .read_only = options.read_only};
    options.size = sizeof options;
    options.dimensions = DIMS;
    options.metric = SYNA_METRIC_EUCLIDEAN;
    CHECK_OK(db_open(check_path("v.db"), &log, &o->db));
    CHECK_OK(vectors_new(o->db, &options, &o->store));
}

static void open_store(struct open_store *o)
{
    open_with(o, (syna_vectors_options){0});
}

static void close_store(struct open_store *o)
{
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

/* Row i is the same in every run; no two rows are equal. */
static void make_row(uint32_t i, float *out)
{
    uint64_t seed = i * 0x9e3779b97f4a7c15ull + 1;
    for (int d = 0; d < DIMS; d++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        out[d] = (float)(seed >> 40) / (float)(1 << 20);
    }
}

/* Rows [first, first + count) in batches. */
static void insert_rows(syna_vectors *store, uint32_t first, uint32_t count)
{
    static _Thread_local char names[BATCH][16];
    static _Thread_local float rows[BATCH][DIMS];
    const char *keys[BATCH];
    size_t added;
    for (uint32_t at = first; at < first + count;) {
        uint32_t some = MIN((uint32_t)BATCH, first + count - at);
        for (uint32_t i = 0; i < some; i++) {
            snprintf(names[i], sizeof names[i], "%u", at + i);
            keys[i] = names[i];
            make_row(at + i, rows[i]);
        }
        struct vectors_batch batch = {.keys = keys, .vectors = rows[0], .dims = DIMS, .count = some};
        CHECK_OK(vectors_insert(store, &batch, &added));
        at += some;
    }
}

static syna_vectors_stats stats_of(syna_vectors *store)
{
    syna_vectors_stats stats = {.size = sizeof stats};
    CHECK_OK(vectors_get_stats(store, &stats));
    return stats;
}

/* Until no more than a short tail is left. It ends, or the test runs out of its time. */
static void wait_for_graph(syna_vectors *store)
{
    for (;;) {
        syna_vectors_stats stats = stats_of(store);
        if (stats.indexed_rows > 0 && stats.rows + stats.dead_rows - stats.indexed_rows <= TAIL)
            return;
        usleep(1000);
    }
}

/* Is row i the nearest to itself? */
static void check_finds(syna_vectors *store, uint32_t i)
{
    float row[DIMS];
    char expected[16];
    syna_search how = {.size = sizeof how, .k = 1};
    syna_hit *hits;
    size_t count;
    make_row(i, row);
    snprintf(expected, sizeof expected, "%u", i);
    CHECK_OK(vectors_search(store, row, 1, DIMS, &how, &hits, &count));
    CHECK_EQ(count, 1);
    CHECK_STR(hits[0].key, expected);
    syna_free_hits(hits);
}

TEST(rows_get_into_the_graph_beside_the_writer)
{
    struct open_store o;
    open_store(&o);
    insert_rows(o.store, 0, AUTO_ROWS - 1);
    CHECK_EQ(stats_of(o.store).indexed_rows, 0);
    insert_rows(o.store, AUTO_ROWS - 1, 5000);
    for (uint32_t i = 0; i < AUTO_ROWS + 4999; i += 777)
        check_finds(o.store, i); /* whether or not they are in it by now */
    wait_for_graph(o.store);
    for (uint32_t i = 0; i < AUTO_ROWS + 4999; i += 777)
        check_finds(o.store, i);
    close_store(&o);
}

TEST(without_it_the_same_calls_give_the_same_graph_at_once)
{
    uint64_t hops[2];
    for (int run = 0; run < 2; run++) {
        struct open_store o;
        float query[DIMS] = {3, 1, 4, 1, 5, 9, 2, 6};
        syna_explain told = {.size = sizeof told};
        syna_search how = {.size = sizeof how, .k = 10, .explain = &told};
        syna_hit *hits;
        size_t count;
        open_with(&o, (syna_vectors_options){.no_absorber = 1, .threads = (uint32_t)run + 1});
        insert_rows(o.store, 0, AUTO_ROWS);
        CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS);
        insert_rows(o.store, AUTO_ROWS, 4000); /* a writer waits for longer tails only */
        CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS);
        CHECK_OK(vectors_search(o.store, query, 1, DIMS, &how, &hits, &count));
        hops[run] = told.hops;
        CHECK_EQ(told.plan, SYNA_PLAN_GRAPH);
        syna_free_hits(hits);
        close_store(&o);
        CHECK_EQ(unlink(check_path("v.db")), 0);
    }
    CHECK_EQ(hops[0], hops[1]);
}

TEST(closing_does_not_wait_for_a_graph_and_loses_no_row)
{
    struct open_store o;
    for (uint32_t round = 0; round < 4; round++) {
        open_store(&o);
        CHECK_EQ(vectors_count(o.store), round * 4000);
        insert_rows(o.store, round * 4000, 4000); /* leaves work behind */
        close_store(&o);
    }
    open_store(&o);
    wait_for_graph(o.store);
    for (uint32_t i = 0; i < 16000; i += 999)
        check_finds(o.store, i);
    close_store(&o);
}

static int32_t stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(int *)context;
    return 1;
}

TEST(absorb_leaves_no_row_behind_and_can_be_stopped)
{
    struct open_store o;
    int calls = 0;
    open_with(&o, (syna_vectors_options){.no_absorber = 1});
    insert_rows(o.store, 0, 2000);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    CHECK_EQ(stats_of(o.store).indexed_rows, 0); /* a small store needs no graph */
    insert_rows(o.store, 2000, AUTO_ROWS);
    uint64_t indexed = stats_of(o.store).indexed_rows;
    CHECK(indexed >= AUTO_ROWS && indexed < AUTO_ROWS + 2000);
    CHECK_FAILS(vectors_absorb(o.store, stop_at_once, &calls), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_EQ(calls, 1);
    CHECK_EQ(stats_of(o.store).indexed_rows, indexed);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS + 2000);
    check_finds(o.store, AUTO_ROWS + 1999);
    close_store(&o);

    open_store(&o); /* beside the thread: it gives way */
    insert_rows(o.store, AUTO_ROWS + 2000, 2000);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS + 4000);
    insert_rows(o.store, AUTO_ROWS + 4000, 2000);
    CHECK_OK(vectors_build_index(o.store, NULL, NULL));
    CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS + 6000);
    close_store(&o);
}

TEST(a_reader_has_no_thread)
{
    struct open_store o;
    open_with(&o, (syna_vectors_options){.index = SYNA_INDEX_FLAT});
    insert_rows(o.store, 0, AUTO_ROWS + 500);
    CHECK_EQ(stats_of(o.store).indexed_rows, 0);
    close_store(&o);
    open_with(&o, (syna_vectors_options){.read_only = 1});
    CHECK_EQ(stats_of(o.store).indexed_rows, AUTO_ROWS + 500); /* its opening did the work */
    close_store(&o);
}

/* ---------------------------------------------------------------- beside everything else */

struct crowd {
    syna_vectors *store;
    syna_db *db;
    bool stop; /* atomic */
    uint32_t written; /* atomic: rows below this one are there */
};

static void *crowd_write(void *context)
{
    struct crowd *c = context;
    size_t len;
    char key[16];
    for (uint32_t i = 0; i < 13000; i += BATCH) {
        int32_t deleted;
        insert_rows(c->store, i, BATCH);
        __atomic_store_n(&c->written, i + BATCH, __ATOMIC_RELEASE);
        for (uint32_t d = i + 1; d < i + BATCH; d += 10) { /* rows 1, 11, 21, ... die */
            len = (size_t)snprintf(key, sizeof key, "%u", d);
            CHECK_OK(vectors_delete(c->store, key, len, &deleted));
            CHECK_EQ(deleted, 1);
        }
    }
    __atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
    return NULL;
}

static void *crowd_search(void *context)
{
    struct crowd *c = context;
    uint32_t n = 0;
    while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE)) {
        uint32_t written = __atomic_load_n(&c->written, __ATOMIC_ACQUIRE);
        if (written > 0)
            check_finds(c->store, n++ * 7919u % written / 10 * 10);
    }
    return NULL;
}

static void *crowd_disturb(void *context)
{
    struct crowd *c = context;
    while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE)) {
        CHECK_OK(db_compact(c->db, SYNA_COMPACT_LATEST, NULL, NULL));
        usleep(20000);
        CHECK_OK(vectors_absorb(c->store, NULL, NULL));
        usleep(20000);
    }
    return NULL;
}

TEST(writers_searches_compaction_and_the_thread_get_along)
{
    struct open_store o;
    pthread_t threads[4];
    static void *(*const mains[])(void *) = {crowd_write, crowd_search, crowd_search, crowd_disturb};
    open_store(&o);
    struct crowd crowd = {.store = o.store, .db = o.db};
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, mains[i], &crowd), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(vectors_count(o.store), 13000 - 1300);
    wait_for_graph(o.store);
    for (uint32_t i = 0; i < 13000; i += 500)
        check_finds(o.store, i);
    close_store(&o);
}

TEST(a_child_of_fork_goes_on_without_the_thread)
{
    struct open_store o;
    open_with(&o, (syna_vectors_options){.threads = 1}); /* the child starts none of its own */
    for (uint32_t round = 0; round < 5; round++) {
        int status;
        insert_rows(o.store, round * 3000, 3000); /* from the fourth on, something is under way */
        vectors_before_fork(o.store);
        pid_t child = fork();
        CHECK(child >= 0);
        vectors_after_fork(o.store, child == 0);
        if (child == 0) {
            alarm(60); /* a lock that nobody gives back would hang it */
            check_finds(o.store, round * 3000);
            CHECK_OK(vectors_absorb(o.store, NULL, NULL)); /* in its own memory */
            vectors_free(o.store);
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    wait_for_graph(o.store);
    check_finds(o.store, 14999);
    close_store(&o);
}
