/* Walks among chosen rows against scoring each of them: recall, exact ranks, and giving up. */
#include "rows_fixture.h"

#include "index/hnsw_filtered.h"

enum { DIMS = 24, ROWS = 6000, K = 10, ASKED = 40, EF = 60, WORDS = ROWS / 64 + 1 };

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

struct world {
    float *data, *queries;
    struct fixture f;
    struct hnsw graph;
};

static void begin(struct world *w, int32_t metric)
{
    w->data = make_sheet(ROWS);
    w->queries = make_sheet(ASKED);
    fixture_init(&w->f, kernels_get(), metric, w->data, ROWS, DIMS, ROWS, 0);
    CHECK_OK(hnsw_init(&w->graph, 16, 100));
    CHECK_OK(hnsw_build(&w->graph, &w->f.set, ROWS, 1, NULL));
}

/* The same with codes of one bit a dimension. */
static void begin_bits(struct world *w)
{
    struct row_set *set = &w->f.set;
    w->data = make_sheet(ROWS);
    w->queries = make_sheet(ASKED);
    fixture_init(&w->f, kernels_get(), SYNA_METRIC_COSINE, w->data, ROWS, DIMS, ROWS, 0);
    array_dispose(&set->code_rows);
    codes_init_bits(&set->codes, DIMS, SYNA_METRIC_COSINE);
    CHECK_OK(codes_train(&set->codes, ROWS, matrix_row, &w->f.matrix));
    fixture_array(&set->code_rows, set->codes.stride, ROWS, 0, &w->f.head[0]);
    for (uint32_t row = 0; row < ROWS; row++)
        *(float *)array_at(&set->errors, row) = codes_encode(
            &set->codes, set->kernels, w->data + row * DIMS, array_at(&set->code_rows, row));
    CHECK_OK(hnsw_init(&w->graph, 16, 100));
    CHECK_OK(hnsw_build(&w->graph, set, ROWS, 1, NULL));
}

static void end(struct world *w)
{
    codes_dispose(&w->f.set.codes);
    hnsw_dispose(&w->graph);
    fixture_dispose(&w->f);
    free(w->data);
    free(w->queries);
}

/* A share of the rows by chance, or those on one side of the sheet. */
static uint32_t choose(const struct world *w, uint64_t chosen[WORDS], uint32_t percent, bool together)
{
    uint32_t count = 0;
    memset(chosen, 0, WORDS * sizeof *chosen);
    for (uint32_t row = 0; row < ROWS; row++) {
        bool is = together ? w->data[row * DIMS] > 0.8f : check_random() % 100 < percent;
        chosen[row / 64] |= (uint64_t)is << row % 64;
        count += is;
    }
    return count;
}

static syna_rc ask(struct world *w, size_t q, const uint64_t *chosen, uint64_t most, struct topk *top,
                   struct hnsw_visits *visits, bool *found)
{
    const float *query = w->queries + q * DIMS;
    struct hnsw_query hq = {query, vector_norm(w->f.set.kernels, query, DIMS), EF, chosen};
    return hnsw_search_chosen(&w->graph, &w->f.set, &hq, most, top, visits, found);
}

/* How many of the nearest chosen rows come back; all that come back are chosen, and their ranks exact. */
static double recall_of(struct world *w, const uint64_t *chosen, struct hnsw_visits *visits)
{
    const struct row_set *set = &w->f.set;
    size_t right = 0;
    for (size_t q = 0; q < ASKED; q++) {
        const float *query = w->queries + q * DIMS;
        float norm = vector_norm(set->kernels, query, DIMS);
        struct topk top, truth;
        bool found;
        topk_init(&top, K, FLT_MAX);
        topk_init(&truth, K, FLT_MAX);
        CHECK_OK(ask(w, q, chosen, UINT64_MAX, &top, visits, &found));
        CHECK(found && top.count == K);
        for (uint32_t row = 0; row < ROWS; row++)
            if (chosen[row / 64] >> row % 64 & 1)
                CHECK(topk_offer(&truth, row_set_rank(set, query, norm, row), row));
        topk_sort(&top);
        topk_sort(&truth);
        for (size_t i = 0; i < K; i++) {
            uint32_t row = top.items[i].row;
            float rank = row_set_rank(set, query, norm, row);
            CHECK(chosen[row / 64] >> row % 64 & 1);
            CHECK_MEM(&top.items[i].rank, &rank, sizeof rank);
            CHECK(i == 0 || top.items[i - 1].row != row);
            right += rank <= truth.items[K - 1].rank;
        }
        topk_dispose(&top);
        topk_dispose(&truth);
    }
    return (double)right / (ASKED * K);
}

TEST(a_walk_finds_nearly_all_of_the_nearest_chosen_rows)
{
    static const uint32_t shares[] = {3, 10, 30, 60, 97};
    uint64_t chosen[WORDS];
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct world w;
        begin(&w, metrics[m]);
        for (size_t i = 0; i <= COUNT_OF(shares); i++) {
            bool together = i == COUNT_OF(shares);
            uint32_t count = choose(&w, chosen, together ? 0 : shares[i], together);
            struct hnsw_visits visits = {0};
            double recall = recall_of(&w, chosen, &visits);
            check_note("metric %d, %u rows: recall %.3f", metrics[m], count, recall);
            CHECK(recall >= (m == 2 ? 0.85 : 0.95));
            CHECK(visits.hops >= ASKED && visits.full >= ASKED * K);
            CHECK(visits.codes < (uint64_t)ASKED * (256 + count)); /* and no row twice */
        }
        end(&w);
    }
}

TEST(with_codes_of_bits_every_row_that_was_kept_is_scored)
{
    struct world w;
    uint64_t chosen[WORDS];
    begin_bits(&w);
    for (uint32_t percent = 10; percent < 100; percent += 40) {
        struct hnsw_visits visits = {0};
        choose(&w, chosen, percent, false);
        double recall = recall_of(&w, chosen, &visits);
        check_note("%u %%: recall %.3f", percent, recall);
        CHECK(recall >= 0.5); /* 24 bits tell little */
        CHECK_EQ(visits.full, ASKED * EF);
    }
    end(&w);
}

TEST(a_walk_that_takes_too_long_or_finds_too_few_says_so)
{
    struct world w;
    struct topk top;
    uint64_t chosen[WORDS] = {0};
    bool found = true;
    begin(&w, SYNA_METRIC_COSINE);
    topk_init(&top, K, FLT_MAX);
    CHECK_OK(ask(&w, 0, chosen, UINT64_MAX, &top, NULL, &found));
    CHECK(!found && top.count == 0); /* no row is chosen */
    for (uint32_t row = 0; row < K - 1; row++)
        chosen[0] |= 1ull << 7 * row;
    found = true;
    CHECK_OK(ask(&w, 0, chosen, UINT64_MAX, &top, NULL, &found));
    CHECK(!found && top.count == 0);
    choose(&w, chosen, 50, false);
    CHECK_OK(ask(&w, 0, chosen, 300, &top, NULL, &found));
    CHECK(!found && top.count == 0);
    CHECK_OK(ask(&w, 0, chosen, UINT64_MAX, &top, NULL, &found)); /* and leaves no trace */
    CHECK(found && top.count == K);
    topk_dispose(&top);
    end(&w);
}

TEST(rows_that_are_not_in_the_graph_are_left_to_the_caller)
{
    struct world w;
    struct topk top;
    uint64_t chosen[WORDS];
    bool found;
    begin(&w, SYNA_METRIC_EUCLIDEAN);
    choose(&w, chosen, 40, false);
    uint32_t all = w.graph.linked;
    w.graph.linked = 0;
    topk_init(&top, K, FLT_MAX);
    CHECK_OK(ask(&w, 0, chosen, UINT64_MAX, &top, NULL, &found));
    CHECK(!found);
    w.graph.linked = all / 2; /* links that lead beyond are as good as damaged */
    for (uint32_t i = 0; i < w.graph.entry_count; i++)
        if (w.graph.entries[i] >= all / 2)
            chosen[w.graph.entries[i] / 64] &= ~(1ull << w.graph.entries[i] % 64);
    for (size_t q = 0; q < ASKED; q++) {
        top.count = 0;
        CHECK_OK(ask(&w, q, chosen, UINT64_MAX, &top, NULL, &found));
        for (size_t i = 0; i < top.count; i++)
            CHECK(top.items[i].row < all / 2);
    }
    w.graph.linked = all;
    topk_dispose(&top);
    end(&w);
}

static bool fail_at(void *context, size_t bytes)
{
    (void)bytes;
    int64_t *left = context;
    return (*left)-- != 0;
}

TEST(any_allocation_may_fail)
{
    struct world w;
    uint64_t chosen[WORDS];
    bool found = false;
    begin(&w, SYNA_METRIC_COSINE);
    choose(&w, chosen, 20, false);
    int64_t k = 0;
    for (bool done = false; !done; k++) {
        struct hnsw_query hq = {w.queries, 1, 4000, chosen};
        struct topk top;
        int64_t left = k;
        topk_init(&top, 900, FLT_MAX);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = hnsw_search_chosen(&w.graph, &w.f.set, &hq, UINT64_MAX, &top, NULL, &found);
        syna_test_set_alloc(NULL, NULL);
        done = left >= 0;
        CHECK(done ? rc == SYNA_SUCCESS && found && top.count == 900 : rc == SYNA_ERR_INTERNAL);
        topk_dispose(&top);
    }
    CHECK(k > 3);
    end(&w);
}
