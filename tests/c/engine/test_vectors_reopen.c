/* What a store reads when it is opened: of rows that its snapshot covers nothing in the log, of the graph's
 * links nothing at all; behind it, every row once. And what becomes of links that turn out damaged. */
#include "check.h"

#include "base/rng.h"
#include "engine/vectors_core.h"

enum { DIMS = 32, LINKED = 12000, TAIL = 1300, BATCH = 500, K = 10, CORRUPT_ROW = 6000 };

extern size_t hnsw_test_later_bytes;

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static void make_row(uint32_t i, float *out)
{
    uint64_t seed = i * 7919u + 1;
    for (int d = 0; d < DIMS; d++)
        out[d] = (float)(rng_next(&seed) >> 40) / 8388608.0f - 1;
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

static void open_store(struct open_store *o, uint8_t no_absorber)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_vectors_options options = {.size = sizeof options, .dimensions = DIMS, .threads = 2,
                                    .metric = SYNA_METRIC_EUCLIDEAN, .no_absorber = no_absorber};
    CHECK_OK(db_open(check_path("v.db"), &log, &o->db));
    CHECK_OK(vectors_new(o->db, &options, &o->store));
}

/* The snapshot stays what it was when vectors_save was last called. */
static void drop_store(struct open_store *o)
{
    vectors_free(o->store);
    CHECK_OK(db_close(o->db));
}

/* LINKED rows in a graph and in the snapshot, TAIL rows in the log alone. */
static void make_store(void)
{
    struct open_store o;
    open_store(&o, 1);
    insert_rows(o.store, 0, LINKED);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    vectors_save(o.store);
    insert_rows(o.store, LINKED, TAIL);
    CHECK_EQ(o.store->graph.linked, LINKED);
    drop_store(&o);
}

static uint32_t rows_read(const syna_vectors *store)
{
    uint32_t count = 0;
    for (uint32_t word = 0; word <= store->set.count / 64; word++)
        count += (uint32_t)__builtin_popcountll(*(const uint64_t *)array_at(&store->checked, word));
    return count;
}

static size_t search(syna_vectors *store, uint32_t row, uint32_t flags, syna_hit **hits,
                     syna_explain *explain)
{
    float query[DIMS];
    size_t count;
    *explain = (syna_explain){.size = sizeof *explain};
    syna_search how = {.size = sizeof how, .k = K, .flags = flags, .ef = 200, .explain = explain};
    make_row(row, query);
    CHECK_OK(vectors_search(store, query, 1, DIMS, &how, hits, &count));
    return count;
}

static int32_t plan_of(syna_vectors *store, uint32_t row)
{
    syna_explain explain;
    syna_hit *hits;
    char key[16];
    size_t len = (size_t)snprintf(key, sizeof key, "%u", row);
    CHECK_EQ(search(store, row, 0, &hits, &explain), K);
    CHECK_EQ(hits[0].key_len, len);
    CHECK_MEM(hits[0].key, key, len);
    syna_free_hits(hits);
    return (int32_t)explain.plan;
}

TEST(an_opening_reads_the_rows_behind_the_snapshot_and_no_links)
{
    struct open_store o;
    hnsw_test_later_bytes = 0;
    make_store();
    open_store(&o, 1);
    CHECK_EQ(o.store->set.count, LINKED + TAIL);
    CHECK_EQ(o.store->graph.linked, LINKED);
    CHECK_EQ(rows_read(o.store), TAIL);
    CHECK(o.store->graph.unsure != NULL);
    CHECK_EQ(plan_of(o.store, 17), SYNA_PLAN_GRAPH);
    CHECK_EQ(plan_of(o.store, LINKED + 5), SYNA_PLAN_GRAPH);
    CHECK(rows_read(o.store) <= TAIL + 2 * 200);
    CHECK(o.store->graph.unsure != NULL);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL)); /* needs all links */
    CHECK(o.store->graph.unsure == NULL && !o.store->graph.damaged);
    CHECK_EQ(o.store->graph.linked, LINKED + TAIL);
    CHECK_EQ(plan_of(o.store, 17), SYNA_PLAN_GRAPH);
    drop_store(&o);
}

TEST(few_links_are_checked_at_once)
{
    struct open_store o;
    hnsw_test_later_bytes = 16 << 20;
    make_store();
    open_store(&o, 1);
    CHECK(o.store->graph.unsure == NULL);
    CHECK_EQ(o.store->graph.linked, LINKED);
    drop_store(&o);
}

TEST(the_absorber_checks_what_an_opening_left)
{
    struct open_store o;
    hnsw_test_later_bytes = 0;
    make_store();
    open_store(&o, 0);
    for (int i = 0; i < 2000 && vectors_needs_upkeep(o.store); i++)
        usleep(5000);
    absorber_hold(o.store);
    CHECK(o.store->graph.unsure == NULL && !o.store->graph.damaged);
    absorber_release(o.store);
    drop_store(&o);
}

/* ---------------------------------------------------------------- damage */

static uint8_t *read_snapshot(size_t *len)
{
    FILE *f = fopen(check_path("v.db.hnsw"), "rb");
    CHECK(f != NULL);
    CHECK_EQ(fseek(f, 0, SEEK_END), 0);
    *len = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*len);
    CHECK(bytes != NULL);
    CHECK_EQ(fread(bytes, 1, *len, f), *len);
    fclose(f);
    return bytes;
}

/* Links of CORRUPT_ROW lead elsewhere: to rows that exist. */
static void corrupt_links(const uint32_t *links, size_t bytes)
{
    size_t len;
    uint8_t *snapshot = read_snapshot(&len);
    uint8_t *at = memmem(snapshot, len, links, bytes);
    CHECK(at != NULL);
    FILE *f = fopen(check_path("v.db.hnsw"), "r+b");
    CHECK(f != NULL);
    CHECK_EQ(fseek(f, (long)(at - snapshot), SEEK_SET), 0);
    CHECK_EQ(fputc(*at ^ 1, f), *at ^ 1);
    fclose(f);
    free(snapshot);
}

static void make_corrupt_store(void)
{
    struct open_store o;
    make_store();
    open_store(&o, 1);
    size_t bytes = o.store->graph.links.item;
    uint32_t *links = malloc(bytes);
    CHECK(links != NULL);
    memcpy(links, hnsw_links(&o.store->graph, CORRUPT_ROW), bytes);
    drop_store(&o);
    corrupt_links(links, bytes);
    free(links);
}

static void check_as_exact(syna_vectors *store, uint32_t row)
{
    syna_explain explain;
    syna_hit *hits, *exact;
    CHECK_EQ(search(store, row, 0, &hits, &explain), K);
    CHECK_EQ(search(store, row, SYNA_SEARCH_EXACT, &exact, &explain), K);
    for (size_t i = 0; i < K; i++) {
        CHECK_EQ(hits[i].key_len, exact[i].key_len);
        CHECK_MEM(hits[i].key, exact[i].key, exact[i].key_len);
    }
    syna_free_hits(hits);
    syna_free_hits(exact);
}

TEST(damaged_links_make_searches_exact_until_they_are_built_anew)
{
    struct open_store o;
    hnsw_test_later_bytes = 0;
    make_corrupt_store();
    open_store(&o, 1);
    CHECK(o.store->graph.unsure != NULL);
    for (uint32_t row = 0; !o.store->graph.damaged && row < 200; row++)
        CHECK(plan_of(o.store, row) == SYNA_PLAN_GRAPH || o.store->graph.damaged);
    CHECK(o.store->graph.damaged); /* walks have come by */
    for (uint32_t row = 20000; row < 20010; row++)
        check_as_exact(o.store, row);
    CHECK_EQ(plan_of(o.store, CORRUPT_ROW), SYNA_PLAN_EXACT);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    CHECK(!o.store->graph.damaged && o.store->graph.unsure == NULL);
    CHECK_EQ(o.store->graph.linked, LINKED + TAIL);
    CHECK_EQ(plan_of(o.store, CORRUPT_ROW), SYNA_PLAN_GRAPH);
    drop_store(&o);
}

TEST(damaged_links_are_never_saved_with_new_checksums)
{
    struct open_store o;
    size_t len, after_len;
    hnsw_test_later_bytes = 0;
    make_corrupt_store();
    uint8_t *before = read_snapshot(&len);
    open_store(&o, 1);
    absorber_hold(o.store);
    insert_rows(o.store, LINKED + TAIL, 1500); /* so that a save pays */
    vectors_save(o.store);
    uint8_t *after = read_snapshot(&after_len);
    CHECK_EQ(after_len, len);
    CHECK_MEM(before, after, len);
    free(before);
    free(after);
    absorber_release(o.store);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    vectors_save(o.store);
    drop_store(&o);
    open_store(&o, 1);
    CHECK_OK(vectors_absorb(o.store, NULL, NULL));
    CHECK(!o.store->graph.damaged);
    CHECK_EQ(o.store->graph.linked, LINKED + TAIL + 1500);
    drop_store(&o);
}

TEST(a_filter_checks_the_links_before_it_walks)
{
    struct open_store o;
    hnsw_test_later_bytes = 0;
    make_corrupt_store();
    open_store(&o, 1);
    CHECK(!hnsw_check(&o.store->graph, NULL));
    CHECK(o.store->graph.damaged);
    check_as_exact(o.store, 20000);
    drop_store(&o);
}

extern uint32_t codes_test_split_least;

static uint64_t found_in_all(syna_vectors *store)
{
    uint64_t sum = 0;
    for (uint32_t row = 0; row < LINKED; row += 500) {
        syna_explain explain;
        syna_hit *hits;
        size_t count = search(store, row, 0, &hits, &explain);
        for (size_t i = 0; i < count; i++)
            sum = sum * 31 + strtoul(hits[i].key, NULL, 10);
        syna_free_hits(hits);
    }
    return sum;
}

/* Snapshots of before, in which rows are not split: what is found is the same, and so is what is saved as if the
 * store had been made with rows that are. */
TEST(rows_of_snapshots_that_are_not_split_become_so)
{
    struct open_store o;
    codes_test_split_least = UINT32_MAX;
    make_store();
    open_store(&o, 1);
    CHECK(!o.store->set.codes.split);
    uint64_t whole = found_in_all(o.store);
    uint8_t row[64], split[64];
    CHECK_EQ(o.store->set.codes.stride, sizeof row);
    memcpy(row, array_at(&o.store->set.code_rows, 77), sizeof row);
    drop_store(&o);

    codes_test_split_least = 64;
    for (int again = 0; again < 2; again++) { /* the second time as it was saved */
        open_store(&o, 1);
        CHECK(o.store->set.codes.split);
        CHECK_EQ(rows_read(o.store), again ? 0 : TAIL); /* of the others the snapshot knew */
        CHECK_EQ(o.store->set.code_rows.head_count > 0, again == 1);
        codes_split_row(&o.store->set.codes, row, split);
        CHECK_MEM(array_at(&o.store->set.code_rows, 77), split, sizeof split);
        CHECK(again || found_in_all(o.store) == whole);
        CHECK_OK(vectors_absorb(o.store, NULL, NULL));
        vectors_save(o.store);
        drop_store(&o);
    }

    codes_test_split_least = UINT32_MAX; /* who knows no split rows leaves them and reads the log */
    open_store(&o, 1);
    CHECK(!o.store->set.codes.split);
    CHECK_MEM(array_at(&o.store->set.code_rows, 77), row, sizeof row);
    drop_store(&o);
    codes_test_split_least = 256;
}

/* It is the copy of a graph that is measured: what was found out has to come back to the store, and into
 * its snapshot. */
TEST(searches_walk_by_halves_of_codes_once_these_were_found_to_do)
{
    struct open_store o;
    codes_test_split_least = 64;
    make_store();
    open_store(&o, 1);
    CHECK(o.store->graph.measured.calibrated > 0);
    CHECK(o.store->graph.measured.coarse);
    o.store->graph.measured.coarse = false;
    CHECK_OK(vectors_calibrate(o.store));
    CHECK(o.store->graph.measured.coarse);
    check_as_exact(o.store, 20000);
    drop_store(&o);
    codes_test_split_least = 256;
}
