/* Exact search by codes against scoring every row: the same rows, the same bits, the same order, on
 * data with ties, zero rows and outliers, for every way of choosing rows; and it scores few of them. */
#include "rows_fixture.h"

#include "math/int8.h"

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};
#define EACH_METRIC(m) for (size_t m = 0; m < COUNT_OF(metrics); m++)
#define ALL ((size_t)-1)

struct question {
    uint32_t first, count;
    const uint64_t *chosen;
    size_t k;
    float limit;
};

/* Row numbers and bits of ranks. */
static void check_same(struct topk *got, struct topk *want)
{
    topk_sort(got);
    topk_sort(want);
    CHECK_EQ(got->count, want->count);
    for (size_t i = 0; i < want->count; i++) {
        CHECK_EQ(got->items[i].row, want->items[i].row);
        CHECK_MEM(&got->items[i].rank, &want->items[i].rank, sizeof(float));
    }
}

static void score_all(const struct row_set *set, const struct question *ask, const float *query,
                      struct topk *top)
{
    float norm = vector_norm(&kernels_scalar, query, set->codes.dims);
    for (uint32_t row = ask->first; row < ask->first + ask->count; row++)
        if (!ask->chosen || ask->chosen[row / 64] >> row % 64 & 1)
            CHECK(topk_offer(top, row_set_rank(set, query, norm, row), row));
}

static uint64_t check_question(const struct row_set *set, const struct question *ask,
                               const float *queries, size_t count)
{
    struct topk *tops = calloc(count, sizeof *tops), want;
    uint64_t scored = UINT64_MAX;
    for (size_t q = 0; q < count; q++)
        topk_init(&tops[q], ask->k, ask->limit);
    CHECK_OK(exact_search(set, ask->first, ask->count, ask->chosen, queries, count, tops, &scored));
    for (size_t q = 0; q < count; q++) {
        check_note("metric %d, dims %u, [%u, +%u), k %zu, limit %g, query %zu of %zu",
                   set->codes.metric, set->codes.dims, ask->first, ask->count, ask->k,
                   (double)ask->limit, q, count);
        topk_init(&want, ask->k, ask->limit);
        score_all(set, ask, queries + q * set->codes.dims, &want);
        check_same(&tops[q], &want);
        topk_dispose(&tops[q]);
        topk_dispose(&want);
    }
    free(tops);
    return scored;
}

static void some_bits(uint64_t *bits, size_t rows, unsigned one_in)
{
    memset(bits, 0, (rows + 63) / 64 * 8);
    for (size_t i = 0; i < rows; i++)
        if (check_random() % one_in == 0)
            bits[i / 64] |= (uint64_t)1 << i % 64;
}

static void check_kind(enum kind kind, int32_t metric, uint32_t dims, size_t rows, size_t queries)
{
    struct fixture f;
    float *data = malloc((rows + queries) * dims * sizeof *data), *query = data + rows * dims;
    uint64_t *chosen = malloc((rows + 63) / 64 * 8);
    static const size_t ks[] = {1, 10, 150, ALL};
    fixture_fill(kind, data, rows, dims);
    fixture_fill(kind, query, queries, dims);
    fixture_init(&f, kernels_get(), metric, data, rows, dims, rows / 2 + 1, rows / 3);
    memcpy(query, data + rows / 2 * dims, dims * sizeof *data); /* a row itself */
    for (size_t i = 0; i < COUNT_OF(ks); i++) {
        struct question ask = {0, (uint32_t)rows, NULL, ks[i], FLT_MAX};
        check_question(&f.set, &ask, query, queries);
        ask.first = (uint32_t)rows / 5, ask.count = (uint32_t)rows / 2 + 1;
        check_question(&f.set, &ask, query, 1);
        ask.limit = row_set_rank(&f.set, query, vector_norm(&kernels_scalar, query, dims),
                                 (uint32_t)(check_random() % rows));
        check_question(&f.set, &ask, query, queries);
        some_bits(chosen, rows, i % 2 ? 40 : 2);
        ask.chosen = chosen;
        check_question(&f.set, &ask, query, queries);
    }
    fixture_dispose(&f);
    free(chosen);
    free(data);
}

TEST(every_kind_of_row_gives_what_scoring_all_gives)
{
    static const uint32_t dims[] = {1, 3, 64, 100};
    for (enum kind kind = PLAIN; kind < KINDS; kind++)
        EACH_METRIC(m)
            for (size_t d = 0; d < 2 * COUNT_OF(dims); d++) {
                codes_test_split_least = d < COUNT_OF(dims) ? SPLIT_NONE : SPLIT_ALL;
                check_kind(kind, metrics[m], dims[d % COUNT_OF(dims)], 700, d % 2 ? 2 : 19);
            }
    codes_test_split_least = SPLIT_USUAL;
}

TEST(more_queries_than_a_batch_and_more_rows_than_a_block)
{
    EACH_METRIC(m)
        check_kind(CLUSTERED, metrics[m], 33, 3000, 270);
}

/* Long stretches of long rows, where some rows are left out, nearly all, or none. */
TEST(few_queries_of_long_stretches)
{
    enum { ROWS = 4500, DIMS = 330, WORDS = (ROWS + 63) / 64 };
    static const unsigned left_out[] = {ROWS, 40, 7, 2};
    float *data = malloc((ROWS + 2) * DIMS * sizeof *data), *query = data + ROWS * DIMS;
    uint64_t chosen[WORDS], rest[WORDS];
    fixture_fill(CLUSTERED, data, ROWS + 2, DIMS);
    EACH_METRIC(m) {
        struct fixture f;
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        for (size_t i = 0; i < COUNT_OF(left_out); i++) {
            struct question ask = {i % 2 ? 77 : 0, ROWS - 100, chosen, 10, FLT_MAX};
            some_bits(rest, ROWS, left_out[i]);
            for (size_t w = 0; w < WORDS; w++)
                chosen[w] = ~rest[w] & (w < WORDS / 2 ? ~0ull : w % 9 ? ~0ull : 0);
            CHECK(check_question(&f.set, &ask, query, 2) < 2 * ROWS / 4);
            ask.k = ROWS / 2; /* codes say nothing: every row is scored */
            check_question(&f.set, &ask, query, 1);
        }
        struct question all = {0, ROWS, NULL, 10, FLT_MAX};
        CHECK(check_question(&f.set, &all, query, 2) < 2 * ROWS / 4);
        fixture_dispose(&f);
    }
    free(data);
}

TEST(rows_without_codes_are_scored)
{
    enum { ROWS = 300, DIMS = 20 };
    float data[ROWS * DIMS];
    fixture_fill(PLAIN, data, ROWS, DIMS);
    EACH_METRIC(m) {
        struct fixture f;
        struct question ask = {0, ROWS, NULL, 7, FLT_MAX};
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, 0, 0);
        CHECK_EQ(check_question(&f.set, &ask, data, 9), 9 * ROWS);
        fixture_dispose(&f);
    }
}

TEST(nothing_to_search_offers_nothing)
{
    enum { ROWS = 10, DIMS = 8 };
    float data[ROWS * DIMS];
    uint64_t none = 0;
    struct fixture f;
    fixture_fill(PLAIN, data, ROWS, DIMS);
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    struct question asks[] = {{0, 0, NULL, 5, FLT_MAX},      {10, 0, NULL, 5, FLT_MAX},
                              {0, ROWS, &none, 5, FLT_MAX},  {0, ROWS, NULL, 0, FLT_MAX},
                              {0, ROWS, NULL, 5, -FLT_MAX}};
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        CHECK_EQ(check_question(&f.set, &asks[i], data, 7), 0);
    CHECK_OK(exact_search(&f.set, 0, ROWS, NULL, data, 0, NULL, NULL));
    fixture_dispose(&f);
}

/* What another index found already counts. */
TEST(rows_found_before_stay_and_lower_the_limit)
{
    enum { ROWS = 2000, DIMS = 48 };
    float *data = malloc(ROWS * DIMS * sizeof *data);
    fixture_fill(CLUSTERED, data, ROWS, DIMS);
    EACH_METRIC(m) {
        struct fixture f;
        struct topk got, want;
        struct question all = {0, ROWS, NULL, 20, FLT_MAX}, first = {0, 900, NULL, 20, FLT_MAX};
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        topk_init(&got, 20, FLT_MAX);
        topk_init(&want, 20, FLT_MAX);
        score_all(&f.set, &first, data, &got);
        CHECK_OK(exact_search(&f.set, 900, ROWS - 900, NULL, data, 1, &got, NULL));
        score_all(&f.set, &all, data, &want);
        check_same(&got, &want);
        topk_dispose(&got);
        topk_dispose(&want);
        fixture_dispose(&f);
    }
    free(data);
}

/* Rows of any set that $SYNADB_DATA names, else clustered ones; few are scored in full. */
static float *real_rows(size_t *rows, uint32_t *dims)
{
    const char *folder = getenv("SYNADB_DATA");
    char path[4096];
    snprintf(path, sizeof path, "%s/sift100k_base.npy", folder ? folder : "");
    FILE *file = folder ? fopen(path, "rb") : NULL;
    *rows = 20000, *dims = 128;
    float *data = malloc(*rows * *dims * sizeof *data);
    if (!file) {
        float *centres = malloc(200 * *dims * sizeof *centres);
        fixture_fill(PLAIN, centres, 200, *dims);
        for (size_t i = 0; i < *rows * *dims; i++)
            data[i] = centres[i / *dims % 200 * *dims + i % *dims] + 0.3f * even();
        free(centres);
        return data;
    }
    uint8_t row[128];
    CHECK_EQ(fseek(file, 128, SEEK_SET), 0);
    for (size_t i = 0; i < *rows; i++) {
        CHECK_EQ(fread(row, 1, sizeof row, file), sizeof row);
        for (size_t j = 0; j < sizeof row; j++)
            data[i * *dims + j] = row[j];
    }
    fclose(file);
    return data;
}

TEST(real_rows_give_what_scoring_every_row_gives_and_few_are_scored)
{
    enum { QUERIES = 40 };
    size_t rows;
    uint32_t dims;
    float *data = real_rows(&rows, &dims);
    EACH_METRIC(m) {
        struct fixture f;
        struct topk got[QUERIES], want[QUERIES];
        const struct question all = {.count = (uint32_t)rows};
        uint64_t scored;
        fixture_init(&f, kernels_get(), metrics[m], data, rows, dims, rows, 0);
        for (int q = 0; q < QUERIES; q++) {
            topk_init(&got[q], 10, FLT_MAX);
            topk_init(&want[q], 10, FLT_MAX);
            score_all(&f.set, &all, data + (77 + (size_t)q) * dims, &want[q]);
        }
        CHECK_OK(exact_search(&f.set, 0, (uint32_t)rows, NULL, data + 77 * dims, QUERIES, got, &scored));
        for (int q = 0; q < QUERIES; q++) {
            check_same(&got[q], &want[q]);
            topk_dispose(&got[q]);
            topk_dispose(&want[q]);
        }
        check_note("metric %d: %llu of %zu rows scored for each query", metrics[m],
                   (unsigned long long)scored / QUERIES, rows);
        CHECK(scored < QUERIES * rows / 20);
        fixture_dispose(&f);
    }
    free(data);
}

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

TEST(without_memory_a_search_fails_and_gives_everything_back)
{
    enum { ROWS = 1000, DIMS = 16, QUERIES = 8 };
    float *data = malloc(ROWS * DIMS * sizeof *data);
    struct fixture f;
    fixture_fill(PLAIN, data, ROWS, DIMS);
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    for (size_t queries = 1; queries <= QUERIES; queries += 7) {
        for (int k = 1, left = 0; left <= 0; k++) {
            struct topk tops[QUERIES];
            for (size_t q = 0; q < queries; q++)
                topk_init(&tops[q], 30, FLT_MAX);
            left = k;
            syna_test_set_alloc(fail_at, &left);
            syna_rc rc = exact_search(&f.set, 0, ROWS, NULL, data, queries, tops, NULL);
            syna_test_set_alloc(NULL, NULL);
            if (left > 0)
                CHECK_OK(rc);
            else
                CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            for (size_t q = 0; q < queries; q++)
                topk_dispose(&tops[q]);
        }
    }
    fixture_dispose(&f);
    free(data);
}
