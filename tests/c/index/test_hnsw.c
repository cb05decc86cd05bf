/* The graph against scoring every row: recall, reach, determinism, later rows, dead rows, snapshots. */
#include "rows_fixture.h"

#include "index/hnsw.h"

enum { DIMS = 24, ROWS = 6000, K = 10, ASKED = 60 };

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};

/* Points on a curved sheet of few dimensions in a space of many, as embeddings are. */
static float *make_sheet(size_t rows)
{
    float *data = malloc(rows * DIMS * sizeof *data);
    for (size_t r = 0; r < rows; r++) {
        float at[4] = {even(), even(), even(), even()};
        for (size_t i = 0; i < DIMS; i++)
            data[r * DIMS + i] = sinf(3 * at[i % 4] + (float)i) + at[(i * 7 + 1) % 4] + 0.05f * even();
    }
    return data;
}

/* Of the k nearest rows to `count` queries, the share that is found. */
static double recall_for(struct hnsw *graph, const struct row_set *set, uint32_t rows, const float *queries,
                         size_t count, uint32_t ef, const uint64_t *chosen, uint32_t k)
{
    size_t right = 0, wanted = 0;
    for (size_t q = 0; q < count; q++) {
        const float *query = queries + q * DIMS;
        struct topk found, truth;
        struct hnsw_query ask = {query, vector_norm(set->kernels, query, DIMS), ef, chosen};
        topk_init(&found, k, FLT_MAX);
        topk_init(&truth, k, FLT_MAX);
        CHECK_OK(hnsw_search(graph, set, &ask, &found, NULL));
        for (uint32_t row = 0; row < rows; row++)
            if (!chosen || chosen[row / 64] >> row % 64 & 1)
                CHECK(topk_offer(&truth, row_set_rank(set, query, ask.norm, row), row));
        topk_sort(&found);
        topk_sort(&truth);
        for (size_t i = 0; i < found.count; i++) {
            uint32_t row = found.items[i].row;
            float rank = row_set_rank(set, query, ask.norm, row);
            CHECK(row < rows && (!chosen || chosen[row / 64] >> row % 64 & 1));
            CHECK_MEM(&found.items[i].rank, &rank, sizeof rank); /* exact, always */
            CHECK(i == 0 || found.items[i - 1].row != row);
            right += rank <= truth.items[truth.count - 1].rank;
        }
        wanted += truth.count;
        topk_dispose(&found);
        topk_dispose(&truth);
    }
    return (double)right / (double)wanted;
}

static double recall_of(struct hnsw *graph, const struct row_set *set, uint32_t rows, uint32_t ef,
                        const uint64_t *chosen, uint32_t k)
{
    float *queries = make_sheet(ASKED);
    double recall = recall_for(graph, set, rows, queries, ASKED, ef, chosen, k);
    free(queries);
    return recall;
}

/* Every row can be come to from the entries, links name rows of the graph, none twice, none itself. */
static uint32_t check_structure(const struct hnsw *graph, const uint64_t *live)
{
    uint8_t *seen = calloc(graph->linked, 1);
    uint32_t *stack = malloc(graph->linked * sizeof *stack), depth = 0, reached = 0, missing = 0;
    for (uint32_t e = 0; e < graph->entry_count; e++) {
        CHECK(graph->entries[e] < graph->linked);
        if (!seen[graph->entries[e]])
            stack[depth++] = graph->entries[e];
        seen[graph->entries[e]] = 1;
    }
    while (depth > 0) {
        uint32_t row = stack[--depth], count = hnsw_link_count(graph, row);
        const uint32_t *links = hnsw_links(graph, row);
        reached++;
        for (uint32_t i = 0; i < count; i++) {
            CHECK(links[i] < graph->linked && links[i] != row);
            for (uint32_t j = 0; j < i; j++)
                CHECK(links[i] != links[j]);
            if (!seen[links[i]])
                stack[depth++] = links[i];
            seen[links[i]] = 1;
        }
    }
    for (uint32_t row = 0; row < graph->linked; row++)
        missing += !seen[row] && (!live || (live[row / 64] >> row % 64 & 1));
    free(seen);
    free(stack);
    return missing;
}

TEST(a_built_graph_finds_nearly_all_and_misses_no_row)
{
    float *data = make_sheet(ROWS);
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture f;
        struct hnsw graph;
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        CHECK_OK(hnsw_init(&graph, 16, 200));
        CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
        CHECK_EQ(graph.linked, ROWS);
        CHECK_EQ(check_structure(&graph, NULL), 0);
        check_note("metric %d", metrics[m]);
        CHECK(recall_of(&graph, &f.set, ROWS, 100, NULL, K) >= (m == 2 ? 0.85 : 0.99));
        CHECK(recall_of(&graph, &f.set, ROWS, 100, NULL, 1) >= (m == 2 ? 0.85 : 0.99));
        hnsw_dispose(&graph);
        fixture_dispose(&f);
    }
    free(data);
}

TEST(the_number_of_threads_leaves_no_trace)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct hnsw one, four;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&one, 16, 200));
    CHECK_OK(hnsw_init(&four, 16, 200));
    CHECK_OK(hnsw_build(&one, &f.set, ROWS, 1, NULL));
    CHECK_OK(hnsw_build(&four, &f.set, ROWS, 4, NULL));
    for (uint32_t row = 0; row < ROWS; row++)
        CHECK_MEM(hnsw_links(&one, row), hnsw_links(&four, row), one.degree * sizeof(uint32_t));
    hnsw_dispose(&one);
    hnsw_dispose(&four);
    fixture_dispose(&f);
    free(data);
}

/* Groups that lie apart, rows that are all the same: still every row is reached. */
TEST(data_of_every_unpleasant_kind_is_linked_up)
{
    enum { SOME = 1500 };
    float *data = malloc(SOME * DIMS * sizeof *data);
    for (int kind = 0; kind < KINDS; kind++) {
        struct fixture f;
        struct hnsw graph;
        check_note("kind %d", kind);
        fixture_fill((enum kind)kind, data, SOME, DIMS);
        fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, SOME, DIMS, SOME, 0);
        CHECK_OK(hnsw_init(&graph, 8, 50));
        CHECK_OK(hnsw_build(&graph, &f.set, SOME, 2, NULL));
        CHECK_EQ(check_structure(&graph, NULL), 0);
        hnsw_dispose(&graph);
        fixture_dispose(&f);
    }
    free(data);
}

static void insert_rows(struct hnsw *graph, const struct row_set *set, uint32_t count)
{
    struct hnsw_plan plan;
    CHECK_OK(hnsw_plan_insert(graph, set, count, &plan));
    CHECK_OK(hnsw_apply(graph, set, &plan));
    hnsw_plan_dispose(&plan);
}

TEST(rows_that_come_later_are_found_as_well)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct hnsw graph;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 16, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, 1000, 1, NULL));
    static const uint32_t steps[] = {1, 2, 700, 1, 2000, 2296};
    for (size_t i = 0; i < COUNT_OF(steps); i++)
        insert_rows(&graph, &f.set, steps[i]);
    CHECK_EQ(graph.linked, ROWS);
    CHECK_EQ(check_structure(&graph, NULL), 0);
    CHECK(recall_of(&graph, &f.set, ROWS, 100, NULL, K) >= 0.98);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

TEST(dead_rows_are_passed_over_and_led_past)
{
    float *data = make_sheet(ROWS);
    uint64_t live[ROWS / 64 + 1] = {0};
    struct fixture f;
    struct hnsw graph;
    struct hnsw_plan plan;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 16, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
    for (uint32_t row = 0; row < ROWS; row++)
        if (check_random() % 5 != 0 && row % 1000 > 30) /* at random, and some whole stretches */
            live[row / 64] |= 1ull << row % 64;
    CHECK(recall_of(&graph, &f.set, ROWS, 100, live, K) >= 0.98);
    CHECK_OK(hnsw_plan_repair(&graph, &f.set, live, &plan));
    CHECK_OK(hnsw_apply(&graph, &f.set, &plan));
    hnsw_plan_dispose(&plan);
    CHECK_EQ(check_structure(&graph, live), 0);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t i = 0; i < hnsw_link_count(&graph, row); i++)
            CHECK(live[hnsw_links(&graph, row)[i] / 64] >> hnsw_links(&graph, row)[i] % 64 & 1);
    CHECK(recall_of(&graph, &f.set, ROWS, 100, live, K) >= 0.98);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

enum { ROUNDS = 5, REPLACED = ROWS / 5, EVER = ROWS + ROUNDS * REPLACED, CHURN_ASKED = 400 };

/* A fifth of the live rows dies, as many come; every other time the dead ones are led past, so that in the
 * end a sixth of the graph's rows are in the way. */
static void churn_once(struct hnsw *graph, const struct row_set *set, uint32_t round, uint64_t *live)
{
    struct hnsw_plan plan;
    for (uint32_t gone = 0; gone < REPLACED;) {
        uint32_t row = (uint32_t)(check_random() % graph->linked);
        gone += (uint32_t)(live[row / 64] >> row % 64 & 1);
        live[row / 64] &= ~(1ull << row % 64);
    }
    for (uint32_t row = graph->linked; row < graph->linked + REPLACED; row++)
        live[row / 64] |= 1ull << row % 64;
    insert_rows(graph, set, REPLACED);
    if (round % 2 == 0)
        return;
    CHECK_OK(hnsw_plan_repair(graph, set, live, &plan));
    CHECK_OK(hnsw_apply(graph, set, &plan));
    hnsw_plan_dispose(&plan);
}

TEST(churn_leaves_as_much_recall_as_a_fresh_graph_has_and_no_row_out_of_reach)
{
    static const uint32_t efs[] = {10, 12, 16};
    float *data = make_sheet(EVER), *alive = malloc(ROWS * DIMS * sizeof *alive);
    float *queries = make_sheet(CHURN_ASKED);
    uint64_t live[EVER / 64 + 1] = {0};
    struct fixture f, g;
    struct hnsw graph, fresh;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, EVER, DIMS, EVER, 0);
    CHECK_OK(hnsw_init(&graph, 4, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 1, NULL));
    for (uint32_t row = 0; row < ROWS; row++)
        live[row / 64] |= 1ull << row % 64;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        churn_once(&graph, &f.set, round, live);
        CHECK_EQ(check_structure(&graph, live), 0);
    }
    uint32_t count = 0;
    for (uint32_t row = 0; row < EVER; row++)
        if (live[row / 64] >> row % 64 & 1)
            memcpy(alive + (size_t)count++ * DIMS, data + (size_t)row * DIMS, DIMS * sizeof *data);
    CHECK_EQ(count, ROWS);
    fixture_init(&g, kernels_get(), SYNA_METRIC_EUCLIDEAN, alive, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&fresh, 4, 100));
    CHECK_OK(hnsw_build(&fresh, &g.set, ROWS, 1, NULL));
    for (size_t e = 0; e < COUNT_OF(efs); e++) {
        double churned = recall_for(&graph, &f.set, EVER, queries, CHURN_ASKED, efs[e], live, K);
        double built = recall_for(&fresh, &g.set, ROWS, queries, CHURN_ASKED, efs[e], NULL, K);
        check_note("ef %u: %g, fresh %g", efs[e], churned, built);
        CHECK(built < 1); /* else the test says nothing */
        CHECK(churned >= built - 0.005);
    }
    hnsw_dispose(&graph);
    hnsw_dispose(&fresh);
    fixture_dispose(&f);
    fixture_dispose(&g);
    free(data);
    free(alive);
    free(queries);
}

/* Half of the rows at a time die and are led past, until none of those is left that the graph was built of. */
TEST(a_graph_outlives_all_rows_that_it_was_built_of)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct hnsw graph;
    uint64_t live[ROWS / 64 + 1];
    memset(live, 0xff, sizeof live);
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 16, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, ROWS / 2, 1, NULL));
    insert_rows(&graph, &f.set, ROWS / 2);
    for (uint32_t round = 0; round < 2; round++) {
        struct hnsw_plan plan;
        for (uint32_t row = round; row < ROWS / 2; row += 2)
            live[row / 64] &= ~(1ull << row % 64);
        CHECK_OK(hnsw_plan_repair(&graph, &f.set, live, &plan));
        CHECK_OK(hnsw_apply(&graph, &f.set, &plan));
        hnsw_plan_dispose(&plan);
        CHECK_EQ(check_structure(&graph, live), 0);
        for (uint32_t e = 0; e < graph.entry_count; e++)
            CHECK(live[graph.entries[e] / 64] >> graph.entries[e] % 64 & 1);
        CHECK(recall_of(&graph, &f.set, ROWS, 100, live, K) >= 0.98);
    }
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

/* However many take turns, on however many threads, each walk is what it would be alone: the same rows, the
 * same bits, the same work. */
static void check_turns(bool coarse)
{
    enum { MANY = 203 };
    static const uint32_t threads[] = {1, 2, 7};
    float *data = make_sheet(ROWS), *asked = make_sheet(MANY);
    uint64_t chosen[ROWS / 64 + 1];
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture f;
        struct hnsw graph;
        struct hnsw_query queries[MANY];
        struct topk together[COUNT_OF(threads)][MANY];
        struct hnsw_visits all[COUNT_OF(threads)] = {{0}}, each = {0};
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        CHECK_OK(hnsw_init(&graph, 16, 100));
        CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
        graph.measured.coarse = coarse;
        CHECK(f.set.codes.split == coarse);
        for (size_t i = 0; i < COUNT_OF(chosen); i++)
            chosen[i] = check_random();
        for (uint32_t q = 0; q < MANY; q++) { /* of different widths, some for nothing, some filtered */
            const float *v = asked + q * DIMS;
            queries[q] = (struct hnsw_query){v, vector_norm(f.set.kernels, v, DIMS),
                                             5 + 9 * (q % 43), q % 3 ? NULL : chosen};
            for (size_t t = 0; t < COUNT_OF(threads); t++)
                topk_init(&together[t][q], q % 7 == 6 ? 0 : K, FLT_MAX);
        }
        for (size_t t = 0; t < COUNT_OF(threads); t++) {
            graph.search_threads = threads[t];
            CHECK_OK(hnsw_search_many(&graph, &f.set, queries, MANY, together[t], &all[t]));
        }
        for (uint32_t q = 0; q < MANY; q++) {
            struct topk alone;
            topk_init(&alone, together[0][q].k, FLT_MAX);
            CHECK_OK(hnsw_search(&graph, &f.set, &queries[q], &alone, &each));
            topk_sort(&alone);
            for (size_t t = 0; t < COUNT_OF(threads); t++) {
                topk_sort(&together[t][q]);
                CHECK_EQ(alone.count, together[t][q].count);
                for (size_t i = 0; i < alone.count; i++) {
                    CHECK_EQ(alone.items[i].row, together[t][q].items[i].row);
                    CHECK_MEM(&alone.items[i].rank, &together[t][q].items[i].rank, sizeof(float));
                }
                topk_dispose(&together[t][q]);
            }
            topk_dispose(&alone);
        }
        for (size_t t = 0; t < COUNT_OF(threads); t++) {
            CHECK_EQ(all[t].codes, each.codes);
            CHECK_EQ(all[t].full, each.full);
            CHECK_EQ(all[t].hops, each.hops);
        }
        hnsw_dispose(&graph);
        fixture_dispose(&f);
    }
    free(data);
    free(asked);
}

TEST(searches_that_take_turns_find_what_each_finds_alone)
{
    check_turns(false);
    codes_test_split_least = SPLIT_ALL;
    check_turns(true);
    codes_test_split_least = SPLIT_USUAL;
}

/* The graph is that of rows that are not split; a coarse search finds nearly as much, in the same order where it
 * finds the same, and so it does after more rows came. */
TEST(searches_by_half_of_each_code_find_as_much)
{
    float *data = make_sheet(ROWS);
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture f[2];
        struct hnsw graph[2];
        double recall[2];
        for (int s = 0; s < 2; s++) {
            codes_test_split_least = s ? SPLIT_ALL : SPLIT_NONE;
            fixture_init(&f[s], kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
            CHECK_OK(hnsw_init(&graph[s], 16, 200));
            CHECK_OK(hnsw_build(&graph[s], &f[s].set, ROWS - 500, 2, NULL));
            insert_rows(&graph[s], &f[s].set, 500);
            CHECK(!graph[s].measured.coarse);
            CHECK_OK(hnsw_calibrate(&graph[s], &f[s].set, NULL));
            CHECK(!graph[0].measured.coarse);
            CHECK_EQ(check_structure(&graph[s], NULL), 0);
        }
        for (uint32_t row = 0; row < ROWS; row++)
            CHECK_MEM(hnsw_links(&graph[0], row), hnsw_links(&graph[1], row),
                      graph[0].degree * sizeof(uint32_t));
        graph[1].measured.coarse = true; /* whether or not it was found good enough */
        float *queries = make_sheet(ASKED);
        for (int s = 0; s < 2; s++)
            recall[s] = recall_for(&graph[s], &f[s].set, ROWS, queries, ASKED, 100, NULL, K);
        check_note("metric %d: recall %g by whole codes, %g by half of each", metrics[m], recall[0], recall[1]);
        CHECK(recall[1] >= recall[0] - 0.02);
        free(queries);
        for (int s = 0; s < 2; s++) {
            hnsw_dispose(&graph[s]);
            fixture_dispose(&f[s]);
        }
    }
    codes_test_split_least = SPLIT_USUAL;
    free(data);
}

/* Where few elements of a row are much larger than the others, half of a code says nothing of these. */
TEST(calibration_finds_out_whether_half_of_a_code_is_enough)
{
    codes_test_split_least = SPLIT_ALL;
    for (int spoiled = 0; spoiled < 2; spoiled++) {
        float *data = make_sheet(ROWS);
        struct fixture f;
        struct hnsw graph;
        for (size_t i = 0; spoiled && i < ROWS; i++) /* the largest element decides how fine codes are */
            data[i * DIMS + DIMS - 1] = i % 2 ? 60.0f : -60.0f;
        fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
        CHECK_OK(hnsw_init(&graph, 16, 200));
        CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
        CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
        check_note("spoiled %d: recall at 50 is %g", spoiled, (double)hnsw_recall_at(&graph, K, 50));
        CHECK_EQ(graph.measured.coarse, !spoiled);
        hnsw_dispose(&graph);
        fixture_dispose(&f);
        free(data);
    }
    codes_test_split_least = SPLIT_USUAL;
}

/* A walk never meets a row twice, however wide it is: wider than what it remembers word by word, too. */
TEST(a_row_is_found_once)
{
    enum { MANY = 20000, ALL = 3000 };
    float *data = make_sheet(MANY);
    struct fixture f;
    struct hnsw graph;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, MANY, DIMS, MANY, 0);
    CHECK_OK(hnsw_init(&graph, 16, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, MANY, 2, NULL));
    uint8_t *met = malloc(MANY);
    for (uint32_t q = 0; q < 12; q++) { /* wide and narrow in turn, with the same scratch */
        const float *v = data + (size_t)q * 1000 * DIMS;
        struct hnsw_query query = {v, vector_norm(f.set.kernels, v, DIMS), q % 2 ? 12 : ALL, NULL};
        struct topk top;
        topk_init(&top, query.ef, FLT_MAX);
        memset(met, 0, MANY);
        CHECK_OK(hnsw_search(&graph, &f.set, &query, &top, NULL));
        CHECK_EQ(top.count, query.ef);
        for (size_t i = 0; i < top.count; i++)
            CHECK(!met[top.items[i].row]++);
        topk_dispose(&top);
    }
    free(met);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

/* Recall of the ten nearest, and how many codes a search compared. */
static double work_of(struct hnsw *graph, const struct row_set *set, uint32_t rows, const float *queries,
                      size_t count, uint32_t ef, const uint64_t *chosen, double *codes)
{
    struct hnsw_visits visits = {0};
    for (size_t q = 0; q < count; q++) {
        const float *query = queries + q * DIMS;
        struct hnsw_query ask = {query, vector_norm(set->kernels, query, DIMS), ef, chosen};
        struct topk found;
        topk_init(&found, K, FLT_MAX);
        CHECK_OK(hnsw_search(graph, set, &ask, &found, &visits));
        topk_dispose(&found);
    }
    *codes = (double)visits.codes / (double)count;
    return recall_for(graph, set, rows, queries, count, ef, chosen, K);
}

/* Walks that end where the rest is too far find as much as those that follow as many rows for each query, and
 * look at fewer; under every metric, and where not all rows may come back. */
TEST(how_distances_grow_tells_when_to_end)
{
    enum { MANY = 10000, QUERIES = 60, EF = 30 };
    float *data = make_sheet(MANY), *queries = make_sheet(QUERIES);
    uint64_t *chosen = malloc((MANY / 64 + 1) * sizeof *chosen);
    memset(chosen, 0xf7, (MANY / 64 + 1) * sizeof *chosen);
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture f;
        struct hnsw graph;
        fixture_init(&f, kernels_get(), metrics[m], data, MANY, DIMS, MANY, 0);
        CHECK_OK(hnsw_init(&graph, 8, 100));
        CHECK_OK(hnsw_build(&graph, &f.set, MANY, 2, NULL));
        CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
        float growth = graph.measured.growth;
        CHECK(growth > 0.02f && growth <= 1);
        CHECK_EQ(graph.measured.longest > 0, metrics[m] == SYNA_METRIC_DOT_PRODUCT);
        for (int some = 0; some < 2; some++) {
            const uint64_t *may = some ? chosen : NULL;
            double codes, plain_codes, least = INFINITY;
            graph.measured.growth = 0;
            double plain = work_of(&graph, &f.set, MANY, queries, QUERIES, EF, may, &plain_codes);
            graph.measured.growth = growth;
            for (uint32_t ef = K; ef <= 2 * EF; ef += ef / 8) {
                double recall = work_of(&graph, &f.set, MANY, queries, QUERIES, ef, may, &codes);
                least = recall >= plain ? MIN(least, codes) : least;
            }
            check_note("metric %d, some %d, growth %g: recall %g with %g codes, now %g", metrics[m], some,
                       (double)growth, plain, plain_codes, least);
            CHECK(least < 0.97 * plain_codes);
        }
        hnsw_dispose(&graph);
        fixture_dispose(&f);
    }
    free(chosen);
    free(queries);
    free(data);
}

/* Rows so near to each other that codes cannot tell them apart: a walk does not take the first few for the
 * nearest. */
TEST(rows_that_codes_do_not_tell_apart_are_all_looked_at)
{
    enum { EACH = 100, EF = 150 };
    float *data = make_sheet(ROWS), *queries = make_sheet(ASKED);
    struct fixture f;
    struct hnsw graph;
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < DIMS; i++)
            data[r * DIMS + i] = data[r / EACH * EACH * DIMS + i] + 0.001f * even();
    for (size_t q = 0; q < ASKED; q++)
        for (size_t i = 0; i < DIMS; i++)
            queries[q * DIMS + i] = data[q * EACH * DIMS + i] + 0.001f * even();
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 16, 200));
    CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
    CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
    double found = recall_for(&graph, &f.set, ROWS, queries, ASKED, EF, NULL, K);
    graph.measured.growth = 0;
    double plain = recall_for(&graph, &f.set, ROWS, queries, ASKED, EF, NULL, K);
    check_note("%g, %g by the pool alone", found, plain);
    CHECK(found >= plain - 0.01);
    free(queries);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

TEST(calibration_tells_what_recall_to_expect)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct hnsw graph;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 8, 100));
    CHECK_OK(hnsw_build(&graph, &f.set, ROWS, 2, NULL));
    CHECK_EQ(hnsw_ef_for(&graph, 10, 0.95f), HNSW_EF_DEFAULT); /* not measured yet */
    CHECK(hnsw_recall_at(&graph, 10, 50) <= 0);
    CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
    uint32_t ef = hnsw_ef_for(&graph, 10, 0.95f);
    CHECK(ef >= 10 && ef < 100);
    CHECK(hnsw_ef_for(&graph, 10, 0.99f) >= ef);
    CHECK(hnsw_recall_at(&graph, 10, ef) >= 0.94f);
    CHECK(recall_of(&graph, &f.set, ROWS, ef, NULL, 10) >= 0.92);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

static bool stop_soon(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return --*(int *)context > 0;
}

TEST(a_build_can_be_stopped_and_changes_nothing_then)
{
    enum { MANY = 30000 };
    float *data = make_sheet(MANY);
    struct fixture f;
    struct hnsw graph;
    int steps = 1;
    struct hnsw_progress progress = {stop_soon, &steps};
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, MANY, DIMS, MANY, 0);
    CHECK_OK(hnsw_init(&graph, 16, 100));
    CHECK_FAILS(hnsw_build(&graph, &f.set, MANY, 1, &progress), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    CHECK_EQ(graph.linked, 0);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}

TEST(few_rows_and_none)
{
    float *data = make_sheet(40);
    for (uint32_t rows = 0; rows < 40; rows += rows < 4 ? 1 : 9) {
        struct fixture f;
        struct hnsw graph;
        check_note("%u rows", rows);
        fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, 40, DIMS, 40, 0);
        CHECK_OK(hnsw_init(&graph, 16, 100));
        CHECK_OK(hnsw_build(&graph, &f.set, rows, 1, NULL));
        CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
        if (rows > 0)
            CHECK(recall_of(&graph, &f.set, rows, 50, NULL, K) >= 1.0);
        if (rows > 0)
            insert_rows(&graph, &f.set, 40 - rows);
        CHECK_EQ(check_structure(&graph, NULL), 0);
        hnsw_dispose(&graph);
        fixture_dispose(&f);
    }
    free(data);
}

TEST(a_snapshot_brings_the_same_graph_back)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct hnsw graph, loaded;
    struct snapshot_cover cover = {.generation = 1, .end = 10, .purpose = 7};
    struct snapshot_writer *writer;
    struct snapshot *snapshot;
    const char *path = check_path("g.hnsw");
    bool found;
    codes_test_split_least = SPLIT_ALL;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&graph, 12, 90));
    CHECK_OK(hnsw_build(&graph, &f.set, 5000, 2, NULL));
    CHECK_OK(hnsw_calibrate(&graph, &f.set, NULL));
    graph.measured.coarse = true;
    CHECK_OK(snapshot_begin(path, &cover, &writer));
    CHECK_OK(hnsw_save(&graph, writer));
    CHECK_OK(snapshot_commit(writer));

    CHECK_OK(snapshot_open(path, &cover, &snapshot));
    CHECK(snapshot != NULL);
    CHECK_OK(hnsw_init(&loaded, 16, 200));
    CHECK_OK(hnsw_load(&loaded, &f.set, snapshot, false, &found));
    CHECK(found);
    CHECK_EQ(loaded.linked, 5000);
    CHECK(loaded.measured.coarse);
    CHECK_MEM(&loaded.measured, &graph.measured, sizeof loaded.measured);
    CHECK_EQ(loaded.degree, 24);
    CHECK_EQ(hnsw_ef_for(&loaded, 10, 0.95f), hnsw_ef_for(&graph, 10, 0.95f));
    for (uint32_t row = 0; row < 5000; row++)
        CHECK_MEM(hnsw_links(&graph, row), hnsw_links(&loaded, row), 24 * sizeof(uint32_t));
    insert_rows(&loaded, &f.set, 1000); /* on top of the mapped part */
    CHECK_EQ(check_structure(&loaded, NULL), 0);
    CHECK(recall_of(&loaded, &f.set, ROWS, 100, NULL, K) >= 0.97);
    hnsw_dispose(&loaded);

    f.set.codes.split = false; /* rows as they were saved before: there are no halves to walk by */
    CHECK_OK(hnsw_init(&loaded, 16, 200));
    CHECK_OK(hnsw_load(&loaded, &f.set, snapshot, false, &found));
    CHECK(found && !loaded.measured.coarse);
    hnsw_dispose(&loaded);

    f.set.count = 4000; /* a set with fewer rows than the graph speaks of */
    CHECK_OK(hnsw_init(&loaded, 16, 200));
    CHECK_OK(hnsw_load(&loaded, &f.set, snapshot, false, &found));
    CHECK(!found);
    CHECK_EQ(loaded.linked, 0);
    hnsw_dispose(&loaded);
    snapshot_close(snapshot);

    f.set.count = ROWS; /* measures that no graph has */
    static const float wrong[] = {-1, 2, NAN};
    for (size_t w = 0; w < COUNT_OF(wrong); w++) {
        graph.measured.growth = wrong[w];
        CHECK_OK(snapshot_begin(path, &cover, &writer));
        CHECK_OK(hnsw_save(&graph, writer));
        CHECK_OK(snapshot_commit(writer));
        CHECK_OK(snapshot_open(path, &cover, &snapshot));
        CHECK_OK(hnsw_init(&loaded, 16, 200));
        CHECK_OK(hnsw_load(&loaded, &f.set, snapshot, false, &found));
        CHECK(!found);
        hnsw_dispose(&loaded);
        snapshot_close(snapshot);
    }
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    codes_test_split_least = SPLIT_USUAL;
    free(data);
}

static bool fail_at(void *context, size_t bytes)
{
    (void)bytes;
    return --*(int *)context != 0;
}

TEST(without_memory_at_any_call_nothing_changes_and_nothing_leaks)
{
    enum { SOME = 900 };
    float *data = make_sheet(SOME);
    struct fixture f;
    struct hnsw graph;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, SOME, DIMS, SOME, 0);
    int refused = 0;
    for (int k = 1, left = 0; left <= 0; k++) {
        left = k;
        check_note("build, k = %d", k);
        CHECK_OK(hnsw_init(&graph, 8, 40));
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = hnsw_build(&graph, &f.set, 700, 1, NULL);
        syna_test_set_alloc(NULL, NULL);
        if (rc != SYNA_SUCCESS) { /* otherwise it did with less: a smaller reservation */
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            CHECK_EQ(graph.linked, 0);
            refused++;
        }
        if (left <= 0)
            hnsw_dispose(&graph);
    }
    CHECK(refused > 10);
    for (int k = 1, left = 0; left <= 0; k++) {
        struct hnsw_plan plan;
        left = k;
        check_note("insert, k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = hnsw_plan_insert(&graph, &f.set, 200, &plan);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS)
            hnsw_plan_dispose(&plan);
        else
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    }
    CHECK_EQ(check_structure(&graph, NULL), 0);
    hnsw_dispose(&graph);
    fixture_dispose(&f);
    free(data);
}
