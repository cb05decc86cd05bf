/* The graph under a mapped vector store: what it finds against scoring every row, what comes after it was
 * built, what is saved and when that is believed, compaction, failures at any call. */
#include "mmap_fixture.h"

#include "store/rowfile.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#include <math.h>

enum { DIMS = 16, ROWS = 3000, K = 10, ASKED = 60 };

static float even(void)
{
    return (float)(int32_t)(uint32_t)check_random() / 2147483648.0f;
}

/* Points on a curved sheet of few dimensions in a space of many, as embeddings are. */
static void sheet(float *row)
{
    float at[3] = {even(), even(), even()};
    for (size_t i = 0; i < DIMS; i++)
        row[i] = sinf(3 * at[i % 3] + (float)i) + at[(i * 7 + 1) % 3] + 0.05f * even();
}

static void put_sheet(syna_mmap *store, int first, int count)
{
    for (int at = first; at < first + count;) {
        const char *keys[500];
        static _Thread_local char names[500][16];
        static _Thread_local float rows[500][DIMS];
        int some = MIN(500, first + count - at);
        size_t added;
        for (int i = 0; i < some; i++) {
            snprintf(names[i], sizeof names[i], "%d", at + i);
            keys[i] = names[i];
            sheet(rows[i]);
        }
        CHECK_OK(mmap_vectors_insert(store, keys, NULL, rows[0], DIMS, (size_t)some, &added));
        at += some;
    }
}

static void build(syna_mmap *store)
{
    CHECK_OK(mmap_vectors_build_index(store, NULL, NULL));
    CHECK(mmap_vectors_has_index(store));
}

static syna_mmap *indexed_store(const char *path, int rows)
{
    syna_mmap *store = open_store(path, DIMS);
    put_sheet(store, 0, rows);
    build(store);
    return store;
}

static uint64_t indexed_rows(syna_mmap *store)
{
    syna_mmap_stats stats = {.size = sizeof stats};
    CHECK_OK(mmap_vectors_get_stats(store, &stats));
    return stats.indexed_rows;
}

/* ---------------------------------------------------------------- against scoring every row */

struct hits {
    syna_hit *hits;
    size_t count;
    syna_explain explain;
};

static struct hits ask(syna_mmap *store, const float *query, uint32_t flags, uint32_t ef)
{
    struct hits h = {.explain = {.size = sizeof h.explain}};
    syna_search how = {.size = sizeof how, .k = K, .flags = flags, .ef = ef, .explain = &h.explain};
    CHECK_OK(mmap_vectors_search(store, query, 1, DIMS, &how, &h.hits, &h.count));
    return h;
}

/* The truth, from the rows themselves. */
static size_t score_rows(syna_mmap *store, const float *query, float *best)
{
    syna_hit *rows;
    size_t count, kept = 0;
    CHECK_OK(mmap_vectors_rows(store, SYNA_SEARCH_VECTORS, &rows, &count));
    for (size_t r = 0; r < count; r++) {
        double sum = 0;
        for (size_t i = 0; i < DIMS; i++)
            sum += pow((double)query[i] - (double)rows[r].vector[i], 2);
        float score = (float)sqrt(sum);
        size_t at = MIN(kept, (size_t)K);
        for (; at > 0 && best[at - 1] > score; at--)
            if (at < K)
                best[at] = best[at - 1];
        if (at < K)
            best[at] = score;
        kept = MIN(kept + 1, (size_t)K);
    }
    syna_free_hits(rows);
    return kept;
}

/* Share of the true nearest that the graph finds; the exact search must find all. */
static double recall(syna_mmap *store, uint32_t ef)
{
    size_t right = 0, wanted = 0;
    for (int q = 0; q < ASKED; q++) {
        float query[DIMS], best[K];
        sheet(query);
        size_t kept = score_rows(store, query, best);
        struct hits found = ask(store, query, 0, ef), exact = ask(store, query, SYNA_SEARCH_EXACT, 0);
        CHECK_EQ(found.explain.plan, SYNA_PLAN_GRAPH);
        CHECK_EQ(exact.explain.plan, SYNA_PLAN_EXACT);
        CHECK_EQ(exact.count, kept);
        CHECK_EQ(found.count, kept);
        for (size_t i = 0; i < kept; i++) {
            CHECK(fabsf(exact.hits[i].score - best[i]) < 1e-4f);
            right += found.hits[i].score <= exact.hits[kept - 1].score;
        }
        wanted += kept;
        syna_free_hits(found.hits);
        syna_free_hits(exact.hits);
    }
    return (double)right / (double)wanted;
}

TEST(the_graph_finds_nearly_all_and_scores_are_exact)
{
    syna_mmap *store = open_store(check_path("a.mmap"), DIMS);
    CHECK(!mmap_vectors_has_index(store));
    CHECK_OK(mmap_vectors_build_index(store, NULL, NULL)); /* of nothing */
    CHECK(!mmap_vectors_has_index(store));
    put_sheet(store, 0, ROWS);
    float query[DIMS];
    sheet(query);
    struct hits before = ask(store, query, 0, 0);
    CHECK_EQ(before.explain.plan, SYNA_PLAN_SCAN);
    CHECK_EQ(before.explain.full, ROWS);
    build(store);
    CHECK_EQ(indexed_rows(store), ROWS);
    struct hits after = ask(store, query, SYNA_SEARCH_EXACT, 0);
    CHECK_EQ(after.count, before.count);
    for (size_t i = 0; i < after.count; i++) {
        CHECK_STR(after.hits[i].key, before.hits[i].key);
        CHECK_MEM(&after.hits[i].score, &before.hits[i].score, sizeof(float));
    }
    syna_free_hits(before.hits);
    syna_free_hits(after.hits);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(check_path("a.mmap"));
}

TEST(a_batch_finds_what_single_searches_find)
{
    enum { MANY = 37 };
    syna_mmap *store = indexed_store(check_path("a.mmap"), ROWS);
    static float queries[MANY][DIMS];
    size_t counts[MANY];
    for (int q = 0; q < MANY; q++)
        sheet(queries[q]);
    put_sheet(store, 100, 50); /* some are dead */
    for (uint32_t ef = 10; ef <= 160; ef *= 4) {
        syna_explain all = {.size = sizeof all};
        syna_search how = {.size = sizeof how, .k = K, .ef = ef, .explain = &all};
        syna_hit *hits;
        CHECK_OK(mmap_vectors_search(store, queries[0], MANY, DIMS, &how, &hits, counts));
        const syna_hit *hit = hits;
        uint64_t codes = 0, full = 0, hops = 0;
        for (int q = 0; q < MANY; q++) {
            struct hits one = ask(store, queries[q], 0, ef);
            CHECK_EQ(one.count, counts[q]);
            for (size_t i = 0; i < one.count; i++, hit++) {
                CHECK_STR(hit->key, one.hits[i].key);
                CHECK_MEM(&hit->score, &one.hits[i].score, sizeof(float));
            }
            codes += one.explain.codes;
            full += one.explain.full;
            hops += one.explain.hops;
            syna_free_hits(one.hits);
        }
        CHECK(codes == all.codes && hops == all.hops);
        CHECK(full + MANY * 100 >= all.full); /* the fresh rows are searched together */
        syna_free_hits(hits);
    }
    CHECK_OK(mmap_vectors_close(store));
}

TEST(ef_and_recall_choose_the_work_and_bad_ones_are_refused)
{
    syna_mmap *store = indexed_store(check_path("a.mmap"), ROWS);
    float query[DIMS];
    sheet(query);
    syna_explain low = {.size = sizeof low}, high = {.size = sizeof high};
    syna_search how = {.size = sizeof how, .k = K, .recall = 0.5f, .explain = &low};
    syna_hit *hits;
    size_t count;
    CHECK_OK(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count));
    syna_free_hits(hits);
    how.recall = 0.999f;
    how.explain = &high;
    CHECK_OK(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count));
    syna_free_hits(hits);
    CHECK(low.ef < high.ef && low.recall >= 0.5f && high.recall >= low.recall);
    how.recall = 1;
    CHECK_OK(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count));
    syna_free_hits(hits);
    CHECK_EQ(high.plan, SYNA_PLAN_EXACT);
    how.recall = 1.5f;
    CHECK_FAILS(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    how.recall = NAN;
    CHECK_FAILS(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    how.recall = 0;
    how.ef = 5000;
    CHECK_FAILS(mmap_vectors_search(store, query, 1, DIMS, &how, &hits, &count), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- after it was built */

static bool finds(syna_mmap *store, const char *key, const float *at)
{
    struct hits h = ask(store, at, 0, 0);
    CHECK_EQ(h.explain.plan, SYNA_PLAN_GRAPH);
    bool found = false;
    for (size_t i = 0; i < h.count; i++)
        found |= strcmp(h.hits[i].key, key) == 0;
    syna_free_hits(h.hits);
    return found;
}

TEST(later_rows_are_found_and_replaced_and_deleted_ones_are_not)
{
    syna_mmap *store = indexed_store(check_path("a.mmap"), ROWS);
    float old[DIMS], far[DIMS];
    CHECK_OK(mmap_vectors_get(store, "17", 2, old, DIMS));
    CHECK(finds(store, "17", old));
    for (int i = 0; i < DIMS; i++)
        far[i] = 50 + (float)i;
    CHECK_OK(insert(store, "17", far, DIMS));
    CHECK(!finds(store, "17", old));
    CHECK(finds(store, "17", far));
    drop(store, "17");
    CHECK(!finds(store, "17", far));
    CHECK_OK(insert(store, "fresh", far, DIMS));
    CHECK(finds(store, "fresh", far));
    CHECK_EQ(indexed_rows(store), ROWS);
    build(store); /* links it */
    CHECK_EQ(indexed_rows(store), ROWS + 2);
    CHECK(finds(store, "fresh", far));
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
}

TEST(a_checkpoint_links_some_of_many_fresh_rows)
{
    syna_mmap *store = indexed_store(check_path("a.mmap"), ROWS);
    put_sheet(store, ROWS, 4000);
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_EQ(indexed_rows(store), ROWS); /* so many are searched exactly */
    put_sheet(store, ROWS + 4000, 5000);
    CHECK_EQ(indexed_rows(store), ROWS); /* an insert links none */
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_EQ(indexed_rows(store), ROWS + 8192);
    CHECK(recall(store, 100) >= 0.98);
    build(store);
    CHECK_EQ(indexed_rows(store), ROWS + 9000);
    CHECK_OK(mmap_vectors_close(store));
}

/* Every walk passes through the dead, and none is returned. */
TEST(recall_survives_five_rounds_of_churn)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, ROWS);
    double fresh = recall(store, 40);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < ROWS / 5; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", round * ROWS / 5 + i);
            drop(store, key);
        }
        CHECK(recall(store, 100) >= 0.98);
        put_sheet(store, round * ROWS / 5, ROWS / 5);
        build(store);
        check_note("round %d", round);
        CHECK(recall(store, 40) >= fresh - 0.02);
        CHECK_EQ(mmap_vectors_count(store), ROWS);
    }
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

TEST(a_search_returns_k_rows_however_many_died)
{
    syna_mmap *store = indexed_store(check_path("a.mmap"), ROWS);
    for (int i = 0; i < ROWS - 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        drop(store, key);
    }
    float query[DIMS];
    sheet(query);
    struct hits h = ask(store, query, 0, K);
    CHECK_EQ(h.count, K);
    syna_free_hits(h.hits);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- what is saved */

static char *index_path(const char *path)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s.hnsw", path);
    return text;
}

TEST(a_reopened_store_has_its_graph_and_takes_up_what_came_later)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, ROWS);
    put_sheet(store, ROWS, 20);
    drop(store, "3");
    float query[DIMS];
    sheet(query);
    struct hits before = ask(store, query, 0, 0);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, DIMS);
    CHECK_EQ(indexed_rows(store), ROWS);
    struct hits after = ask(store, query, 0, 0);
    CHECK_EQ(after.explain.plan, SYNA_PLAN_GRAPH);
    CHECK_EQ(after.explain.codes, before.explain.codes);
    for (size_t i = 0; i < after.count; i++)
        CHECK_STR(after.hits[i].key, before.hits[i].key);
    syna_free_hits(before.hits);
    syna_free_hits(after.hits);
    put_sheet(store, ROWS + 20, 20); /* behind rows that stand in the snapshot */
    build(store);
    CHECK_EQ(indexed_rows(store), ROWS + 40);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
}

extern uint32_t codes_test_split_least;

/* Snapshots of before, in which rows are not split. */
TEST(a_graph_saved_with_rows_that_are_not_split_is_taken_over)
{
    const char *path = check_path("s.mmap");
    float query[DIMS];
    struct hits found[3];
    sheet(query);
    codes_test_split_least = UINT32_MAX;
    syna_mmap *store = indexed_store(path, ROWS);
    found[0] = ask(store, query, 0, 50);
    CHECK_OK(mmap_vectors_close(store));
    codes_test_split_least = 64;
    for (int again = 0; again < 2; again++) { /* the second time as it was saved */
        store = open_store(path, DIMS);
        CHECK_EQ(indexed_rows(store), ROWS + 20 * again);
        found[1 + again] = ask(store, query, 0, 50);
        CHECK_EQ(found[1 + again].explain.plan, SYNA_PLAN_GRAPH);
        CHECK(recall(store, 100) >= 0.99);
        put_sheet(store, ROWS + 20 * again, 20);
        build(store);
        CHECK_OK(mmap_vectors_close(store));
    }
    for (size_t i = 0; i < found[0].count; i++)
        CHECK_STR(found[1].hits[i].key, found[0].hits[i].key);
    codes_test_split_least = UINT32_MAX; /* who knows no split rows does without the graph */
    store = open_store(path, DIMS);
    CHECK_EQ(indexed_rows(store), 0);
    CHECK_OK(mmap_vectors_close(store));
    codes_test_split_least = 256;
    for (size_t i = 0; i < COUNT_OF(found); i++)
        syna_free_hits(found[i].hits);
}

static void build_and_go_on(syna_mmap *store)
{
    put_sheet(store, 0, 1000);
    build(store);
    put_sheet(store, 1000, 300);
    CHECK_OK(mmap_vectors_checkpoint(store));
    put_sheet(store, 500, 1000); /* is lost */
    drop(store, "1");
}

struct crash_wide {
    const char *path;
};

static void crash_wide_child(void *context)
{
    const struct crash_wide *c = context;
    build_and_go_on(open_store(c->path, DIMS));
    _exit(0);
}

TEST(P1_after_a_crash_the_graph_is_that_of_the_build)
{
    const char *path = check_path("a.mmap");
    struct crash_wide c = {path};
    CHECK_EQ(check_child(crash_wide_child, &c), 0);
    syna_mmap *store = open_store(path, DIMS);
    CHECK_EQ(mmap_vectors_count(store), 1300);
    CHECK_EQ(indexed_rows(store), 1000);
    CHECK(recall(store, 100) >= 0.99);
    put_sheet(store, 5000, 500); /* where the lost rows were */
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

static void copy_file(const char *from, const char *to)
{
    size_t len;
    uint8_t *bytes = file_bytes(from, &len);
    write_file(to, bytes, len);
    free(bytes);
}

TEST(a_graph_of_other_rows_is_not_believed)
{
    char mine[512], other[512], saved[512];
    snprintf(mine, sizeof mine, "%s", check_path("mine.mmap"));
    snprintf(other, sizeof other, "%s", check_path("other.mmap"));
    snprintf(saved, sizeof saved, "%s", check_path("saved.mmap"));
    CHECK_OK(mmap_vectors_close(indexed_store(other, 600)));
    syna_mmap *store = open_store(mine, DIMS);
    put_sheet(store, 0, 300);
    CHECK_OK(mmap_vectors_close(store));
    copy_file(mine, saved); /* a backup, to which other rows are added than to the store */
    store = open_store(mine, DIMS);
    put_sheet(store, 300, 300);
    build(store);
    CHECK_OK(mmap_vectors_close(store));

    store = open_store(saved, DIMS);
    put_sheet(store, 300, 300);
    CHECK_OK(mmap_vectors_close(store));
    char to[1024];
    snprintf(to, sizeof to, "%s", index_path(saved));
    copy_file(index_path(mine), to); /* the same store and count, not the same rows */
    store = open_store(saved, DIMS);
    CHECK_EQ(indexed_rows(store), 0);
    CHECK_OK(mmap_vectors_close(store));

    snprintf(to, sizeof to, "%s", index_path(mine));
    copy_file(index_path(other), to);
    store = open_store(mine, DIMS);
    CHECK_EQ(indexed_rows(store), 0);
    float query[DIMS];
    sheet(query);
    struct hits h = ask(store, query, 0, 0);
    CHECK_EQ(h.explain.plan, SYNA_PLAN_SCAN);
    syna_free_hits(h.hits);
    build(store);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(mine, DIMS);
    CHECK_EQ(indexed_rows(store), 600);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- readers, compaction, fork */

TEST(P10_a_reader_has_the_graph_that_was_saved_and_newer_ones)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, 1000), *reader = open_reader(path, DIMS);
    bool changed;
    CHECK_EQ(indexed_rows(reader), 1000);
    put_sheet(store, 1000, 500);
    drop(store, "5");
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK(changed);
    CHECK_EQ(indexed_rows(reader), 1000);
    CHECK(recall(reader, 100) >= 0.99);
    CHECK_FAILS(mmap_vectors_build_index(reader, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    put_sheet(store, 2000, 6000);
    build(store);
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK_EQ(indexed_rows(reader), 7500);
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK_EQ(indexed_rows(reader), 7499);
    CHECK(recall(reader, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(reader));
    CHECK_OK(mmap_vectors_close(store));
}

struct meddler {
    syna_mmap *store;
    int calls;
};

static int32_t meddle(void *context, uint64_t done, uint64_t total)
{
    struct meddler *m = context;
    CHECK(done <= total);
    if (m->calls++ < 3) {
        char key[16];
        put_sheet(m->store, 10000 + 100 * m->calls, 100);
        snprintf(key, sizeof key, "%d", m->calls);
        drop(m->store, key);
    }
    return 0;
}

TEST(compaction_keeps_the_graph_under_new_numbers)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, ROWS);
    for (int i = 0; i < 400; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", 7 * i);
        drop(store, key);
    }
    struct meddler m = {store, 0};
    CHECK_OK(mmap_vectors_compact(store, meddle, &m));
    CHECK(m.calls > 0);
    uint64_t linked = indexed_rows(store);
    CHECK(linked >= ROWS - 400 - 3 && linked <= ROWS - 400 + 3);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
    store = open_store(path, DIMS);
    CHECK_EQ(indexed_rows(store), linked); /* saved with the new file */
    CHECK(recall(store, 100) >= 0.99);
    for (int i = 0; i < ROWS; i++) { /* little is left: the graph goes, too */
        char key[16];
        int32_t deleted;
        snprintf(key, sizeof key, "%d", i);
        CHECK_OK(mmap_vectors_delete(store, key, strlen(key), &deleted));
    }
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    CHECK(!mmap_vectors_has_index(store));
    float query[DIMS];
    sheet(query);
    struct hits h = ask(store, query, 0, 0);
    CHECK_EQ(h.count, K);
    syna_free_hits(h.hits);
    CHECK_OK(mmap_vectors_close(store));
}

TEST(an_emptied_store_takes_other_dimensions)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, 100);
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        drop(store, key);
    }
    syna_mmap_options other = {.size = sizeof other, .dimensions = 2, .metric = 0};
    CHECK_OK(mmap_vectors_again(store, &other));
    CHECK(!mmap_vectors_has_index(store));
    const float v[] = {1, 2};
    CHECK_OK(insert(store, "a", v, 2));
    build(store);
    CHECK_OK(mmap_vectors_close(store));
}

static int32_t stop(void *context, uint64_t done, uint64_t total)
{
    int *left = context;
    CHECK(done <= total);
    return (*left)-- <= 0;
}

TEST(P13_a_stopped_build_leaves_what_was_there)
{
    syna_mmap *store = open_store(check_path("a.mmap"), DIMS);
    put_sheet(store, 0, 1000);
    int left = 0;
    CHECK_FAILS(mmap_vectors_build_index(store, stop, &left), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK(!mmap_vectors_has_index(store));
    build(store);
    put_sheet(store, 1000, 900);
    left = 0;
    CHECK_FAILS(mmap_vectors_build_index(store, stop, &left), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_EQ(indexed_rows(store), 1000);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
}

static void forked(void *context)
{
    syna_mmap *store = context;
    mmap_vectors_after_fork(store, true);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_FAILS(mmap_vectors_build_index(store, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_OK(mmap_vectors_close(store));
    _exit(0);
}

TEST(P11_a_forked_child_searches_the_graph)
{
    syna_mmap *store = indexed_store(check_path("a.mmap"), 1000);
    mmap_vectors_before_fork(store);
    CHECK_EQ(check_child(forked, store), 0);
    mmap_vectors_after_fork(store, false);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- damage */

static void flip(const char *path, size_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 0x41;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

/* Whatever byte of the saved index is another: the graph is what it was, or there is none. */
TEST(P4_P14_a_flip_of_any_byte_of_the_saved_graph_is_noticed_or_harmless)
{
    const char *path = check_path("a.mmap");
    CHECK_OK(mmap_vectors_close(indexed_store(path, 40)));
    size_t len, refused = 0, kept = 0;
    uint8_t *good = file_bytes(index_path(path), &len);
    for (size_t at = 0; at < len; at++) {
        if (at > 4096 && at % 4096 >= 1024 && good[at] == 0 && at % 64)
            continue; /* the padding between sections: every 64th byte of it will do */
        check_note("byte %zu", at);
        flip(index_path(path), at);
        syna_mmap *store = open_store(path, DIMS);
        uint64_t linked = indexed_rows(store);
        CHECK(linked == 40 || linked == 0);
        refused += linked == 0;
        kept += linked != 0;
        float query[DIMS] = {1};
        struct hits h = ask(store, query, 0, 0);
        CHECK_EQ(h.count, K);
        syna_free_hits(h.hits);
        CHECK_OK(mmap_vectors_close(store));
        flip(index_path(path), at);
    }
    CHECK(refused > 3000);
    check_note("%zu refused, %zu without effect", refused, kept);
    for (size_t cut = 0; cut < len; cut += 97) {
        check_note("cut at %zu", cut);
        write_file(index_path(path), good, cut);
        syna_mmap *store = open_store(path, DIMS);
        CHECK_EQ(indexed_rows(store), 0);
        CHECK_OK(mmap_vectors_close(store));
    }
    free(good);
}

TEST(P4_a_changed_row_is_never_returned_through_the_graph)
{
    const char *path = check_path("a.mmap");
    CHECK_OK(mmap_vectors_close(indexed_store(path, 2500)));
    flip(path, ROWFILE_BLOCK + 1); /* of row 0, not of the last */
    syna_mmap *store = open_store(path, DIMS);
    CHECK_EQ(indexed_rows(store), 2500);
    float v[DIMS];
    CHECK_OK(mmap_vectors_get(store, "2400", 4, v, DIMS)); /* another block */
    syna_search how = {.size = sizeof how, .k = 100, .ef = 1000};
    syna_hit *hits;
    size_t count, failed = 0;
    for (int q = 0; q < 20; q++) {
        sheet(v);
        syna_rc rc = mmap_vectors_search(store, v, 1, DIMS, &how, &hits, &count);
        failed += rc != SYNA_SUCCESS;
        if (rc == SYNA_SUCCESS)
            syna_free_hits(hits);
        else
            CHECK_FAILS(rc, SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    }
    CHECK(failed > 0);
    CHECK_FAILS(mmap_vectors_build_index(store, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- failures */

static syna_rc work(syna_mmap *store)
{
    const float x[] = {3, 3.5f};
    const char *keys[] = {"x", "y"};
    size_t added;
    SYNA_TRY(mmap_vectors_build_index(store, NULL, NULL));
    SYNA_TRY(mmap_vectors_insert(store, keys, NULL, x, 1, 2, &added));
    SYNA_TRY(mmap_vectors_build_index(store, NULL, NULL));
    syna_search how = {.size = sizeof how, .k = 1, .ef = 10};
    syna_hit *hits;
    size_t counts[2];
    SYNA_TRY(mmap_vectors_search(store, x, 2, 1, &how, &hits, counts));
    CHECK_STR(hits[0].key, "x");
    CHECK_STR(hits[1].key, "y");
    syna_free_hits(hits);
    return mmap_vectors_compact(store, NULL, NULL);
}

static void fail_each(bool memory, bool forever, int system)
{
    for (int64_t k = 1;; k++) {
        struct mem_fs *fs = mem_fs_new(5);
        mem_fs_use(fs);
        fault_begin(&vfs_mem);
        syna_test_set_vfs(&vfs_fault);
        check_note("%s %lld%s, errno %d", memory ? "allocation" : "call", (long long)k,
                   forever ? " and all after it" : "", system);
        syna_mmap *store = open_store(MEM_DIR "/a.mmap", 1);
        for (int i = 0; i < 40; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            put(store, key, (float)(10 * i));
        }
        CHECK_OK(mmap_vectors_close(store));
        if (memory)
            fault_alloc(k, forever);
        else
            fault_arm(&(struct fault){.at = k, .system = system, .forever = forever});
        store = NULL;
        syna_rc rc = open_as(MEM_DIR "/a.mmap", 1, SYNA_METRIC_EUCLIDEAN, false, &store);
        if (rc == SYNA_SUCCESS)
            rc = work(store);
        if (store) {
            syna_rc closed = mmap_vectors_close(store);
            rc = rc == SYNA_SUCCESS ? closed : rc;
        }
        bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
        fault_alloc(0, false);
        fault_arm(NULL);
        if (!fired)
            CHECK_OK(rc);
        store = open_store(MEM_DIR "/a.mmap", 1);
        uint64_t count = mmap_vectors_count(store);
        CHECK(count == 40 || count == 42);
        if (rc == SYNA_SUCCESS)
            CHECK_EQ(count, 42);
        if (!fired)
            CHECK_EQ(indexed_rows(store), 42);
        check_found(store, 101, 2, "10 11");
        CHECK_OK(mmap_vectors_close(store));
        check_sound(MEM_DIR "/a.mmap");
        CHECK_EQ(mem_fs_open_count(fs), 0);
        CHECK_STR(mem_fs_faults(fs), "");
        const char *name;
        uint64_t file;
        for (size_t i = 0; (name = mem_fs_name(fs, i, &file)); i++) /* no temp file is left */
            CHECK(strcmp(name, MEM_DIR "/a.mmap") == 0 || strcmp(name, MEM_DIR "/a.mmap.hnsw") == 0);
        syna_test_set_vfs(NULL);
        mem_fs_free(fs);
        if (!fired)
            return;
    }
}

TEST(P7_every_allocation_may_fail)
{
    fail_each(true, false, 0);
    fail_each(true, true, 0);
}

TEST(P7_every_call_to_the_system_may_fail)
{
    fail_each(false, false, EIO);
    fail_each(false, true, ENOSPC);
}

/* ---------------------------------------------------------------- threads */

struct shared {
    syna_mmap *store;
    int number;
    bool stop;
};

static void *writer_thread(void *context)
{
    struct shared *s = context;
    for (int round = 0; round < 6; round++) {
        put_sheet(s->store, 1000 + s->number * 2000 + round * 100, 300);
        if (s->number == 0)
            build(s->store);
        else if (round % 2)
            CHECK_OK(mmap_vectors_compact(s->store, NULL, NULL));
        else
            CHECK_OK(mmap_vectors_checkpoint(s->store));
    }
    return NULL;
}

/* Row "7" never changes: whatever happens meanwhile, it is the nearest to itself. */
static void *reader_thread(void *context)
{
    struct shared *s = context;
    float v[DIMS];
    CHECK_OK(mmap_vectors_get(s->store, "7", 1, v, DIMS));
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        struct hits h = ask(s->store, v, 0, 0);
        CHECK_EQ(h.count, K);
        CHECK_STR(h.hits[0].key, "7");
        syna_free_hits(h.hits);
    }
    return NULL;
}

TEST(P12_builds_inserts_searches_and_compactions_at_once)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = indexed_store(path, 1000);
    pthread_t writers[2], readers[2];
    struct shared w[2] = {{store, 0, false}, {store, 1, false}}, r = {store, 0, false};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&writers[i], NULL, writer_thread, &w[i]), 0);
        CHECK_EQ(pthread_create(&readers[i], NULL, reader_thread, &r), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    CHECK_EQ(mmap_vectors_count(store), 1000 + 2 * 800);
    build(store);
    CHECK(recall(store, 100) >= 0.99);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}
