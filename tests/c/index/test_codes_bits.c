/* Codes of one bit a dimension: their integers against a plain loop, on every level of kernels; what a
 * query in four planes means; that the graph over them finds what exact search finds. */
#include "check.h"

#include "base/rng.h"
#include "index/codes.h"
#include "index/hnsw.h"
#include "math/bits.h"
#include <synadb/vector.h>

#include <float.h>
#include <math.h>

#define ROWS 300u

struct sample {
    const float *rows;
    uint32_t dims;
};

static const float *row_of(void *context, size_t i)
{
    const struct sample *s = context;
    return s->rows + i * s->dims;
}

static float *make_rows(size_t count, uint32_t dims, float offset)
{
    uint64_t seed = dims;
    float *rows = mem_alloc(count * dims * sizeof *rows);
    CHECK(rows != NULL);
    for (size_t i = 0; i < count * dims; i++)
        rows[i] = (float)(rng_next(&seed) >> 40) / 16777216.0f + offset;
    return rows;
}

static void train(struct codes *codes, const float *rows, size_t count, uint32_t dims, int32_t metric)
{
    struct sample s = {rows, dims};
    codes_init_bits(codes, dims, metric);
    CHECK_EQ(codes->stride, (dims + 511) / 512 * 64);
    CHECK_OK(codes_train(codes, count, row_of, &s));
    CHECK(codes->step > 0);
}

static bool bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* ---------------------------------------------------------------- integers */

static void check_integers(const char *level, uint32_t dims, int32_t metric)
{
    const struct kernels *kernels = kernels_find(level);
    if (!kernels)
        return;
    check_note("%s, %u dimensions, metric %d", level, dims, metric);
    float *rows = make_rows(ROWS, dims, 3); /* all positive: the mean matters */
    struct codes codes;
    struct code_query query;
    train(&codes, rows, ROWS, dims, metric);
    uint8_t *coded = mem_alloc_aligned(ROWS * (size_t)codes.stride, 64);
    uint8_t *room = mem_alloc_aligned(codes_room(&codes), 64);
    const uint8_t *pointers[ROWS];
    static int32_t many[ROWS], scan[ROWS], tile[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        pointers[i] = coded + (size_t)i * codes.stride;
        CHECK(isinf(codes_encode(&codes, kernels, rows + (size_t)i * dims, coded + (size_t)i * codes.stride)));
    }
    for (int of_row = 0; of_row < 2; of_row++) {
        if (of_row)
            codes_query_row(&codes, pointers[7], room, &query);
        else
            codes_query(&codes, kernels, rows, room, &query);
        codes_many(&codes, kernels, &query, pointers, ROWS, many);
        codes_scan(&codes, kernels, &query, coded, ROWS, scan);
        for (uint32_t i = 0; i < ROWS; i++) {
            int32_t expected = 0;
            for (uint32_t j = 0; j < dims; j++)
                for (uint32_t p = 0; p < query.planes; p++)
                    expected += (bit(room + p * codes.stride, j) != bit(pointers[i], j)) << p;
            CHECK_EQ(many[i], expected);
            CHECK_EQ(scan[i], expected);
        }
    }
    codes_tile(&codes, kernels, pointers + 7, 1, pointers, ROWS, tile, ROWS, NULL);
    CHECK_MEM(tile, many, sizeof tile); /* of row 7 */
    mem_free_aligned(coded);
    mem_free_aligned(room);
    codes_dispose(&codes);
    mem_free(rows);
}

TEST(integers_are_those_of_a_plain_loop_on_every_level)
{
    static const char *const levels[] = {"scalar", "avx2", "avx512", "avx512vpop", "amx", "neon"};
    static const uint32_t dims[] = {1, 7, 64, 384, 513};
    for (size_t l = 0; l < COUNT_OF(levels); l++)
        for (size_t d = 0; d < COUNT_OF(dims); d++)
            for (int32_t metric = 0; metric < 3; metric++)
                check_integers(levels[l], dims[d], metric);
}

TEST(half_of_the_bits_of_every_dimension_are_set)
{
    enum { DIMS = 40 };
    float *rows = make_rows(ROWS, DIMS, 100);
    struct codes codes;
    uint32_t set[DIMS] = {0};
    uint8_t code[64];
    train(&codes, rows, ROWS, DIMS, SYNA_METRIC_EUCLIDEAN);
    for (uint32_t i = 0; i < ROWS; i++) {
        codes_encode(&codes, kernels_get(), rows + i * DIMS, code);
        for (uint32_t j = 0; j < DIMS; j++)
            set[j] += bit(code, j);
    }
    for (uint32_t j = 0; j < DIMS; j++)
        CHECK(set[j] > ROWS / 3 && set[j] < ROWS * 2 / 3);
    codes_dispose(&codes);
    mem_free(rows);
}

/* The integer is the product of the row's signs with the query's levels, turned round: whichever row has the
 * larger product has the smaller integer. */
TEST(a_larger_product_with_the_query_is_a_smaller_integer)
{
    enum { DIMS = 64 };
    float *rows = make_rows(ROWS, DIMS, -0.5f);
    struct codes codes;
    struct code_query query;
    static uint8_t coded[ROWS][64], room[4 * 64];
    train(&codes, rows, ROWS, DIMS, SYNA_METRIC_DOT_PRODUCT);
    codes_query(&codes, kernels_get(), rows, room, &query);
    for (uint32_t i = 0; i < ROWS; i++) {
        const uint8_t *row = coded[i];
        int32_t integer;
        double product = 0;
        codes_encode(&codes, kernels_get(), rows + i * DIMS, coded[i]);
        codes_many(&codes, kernels_get(), &query, &row, 1, &integer);
        for (uint32_t j = 0; j < DIMS; j++) {
            int level = 0;
            for (uint32_t p = 0; p < query.planes; p++)
                level += bit(room + p * codes.stride, j) << p;
            product += (bit(coded[i], j) ? 1 : -1) * (level - 7.5);
        }
        CHECK_EQ(integer, (int32_t)(DIMS * 7.5 - product)); /* sum of 2^p / 2 over all elements, minus it */
    }
    codes_dispose(&codes);
    mem_free(rows);
}

TEST(rows_that_are_all_the_same_and_huge_elements_make_codes_too)
{
    float rows[4 * 3] = {1e30f, -1e30f, 0, 1e30f, -1e30f, 0, 1e30f, -1e30f, 0, 1e30f, -1e30f, 0};
    struct codes codes;
    struct code_query query;
    uint8_t code[64], room[256];
    const uint8_t *row = code;
    int32_t integer;
    train(&codes, rows, 4, 3, SYNA_METRIC_EUCLIDEAN);
    codes_encode(&codes, kernels_get(), rows, code);
    codes_query(&codes, kernels_get(), rows + 3, room, &query);
    codes_many(&codes, kernels_get(), &query, &row, 1, &integer);
    CHECK(integer >= 0 && integer <= 15 * 3);
    codes_dispose(&codes);
}

/* ---------------------------------------------------------------- what recall a graph over them gives */

enum { SPREAD = 4000, WIDE = 48, ASKED = 100, K = 10 };

/* Few degrees of freedom, bent, and as much noise: coarse codes tell near rows apart badly. */
static float *make_bent(size_t count, uint64_t seed)
{
    float *rows = malloc(count * WIDE * sizeof *rows);
    for (size_t r = 0; r < count; r++) {
        float at[8];
        for (int i = 0; i < 8; i++)
            at[i] = (float)(rng_next(&seed) >> 40) / 8388608.0f - 1;
        for (size_t i = 0; i < WIDE; i++)
            rows[r * WIDE + i] = sinf(2 * at[i % 8] + (float)i) + at[(i * 5 + 3) % 8] +
                                 (float)(rng_next(&seed) >> 40) / 8388608.0f - 1;
    }
    return rows;
}

static const float *full_of(void *context, uint32_t row)
{
    return row_of(context, row);
}

static void make_set(struct row_set *set, struct sample *sample)
{
    *set = (struct row_set){.kernels = kernels_get(), .full = full_of, .context = sample, .count = SPREAD};
    train(&set->codes, sample->rows, SPREAD, WIDE, SYNA_METRIC_EUCLIDEAN);
    CHECK_OK(array_init(&set->code_rows, set->codes.stride, SPREAD));
    CHECK_OK(array_init(&set->norms, sizeof(float), SPREAD));
    CHECK_OK(array_init(&set->errors, sizeof(float), SPREAD));
    CHECK_OK(array_reserve(&set->code_rows, SPREAD));
    CHECK_OK(array_reserve(&set->norms, SPREAD));
    CHECK_OK(array_reserve(&set->errors, SPREAD));
    for (uint32_t i = 0; i < SPREAD; i++) {
        const float *row = row_of(sample, i);
        *(float *)array_at(&set->norms, i) = vector_norm(set->kernels, row, WIDE);
        *(float *)array_at(&set->errors, i) =
            codes_encode(&set->codes, set->kernels, row, array_at(&set->code_rows, i));
    }
}

static double recall_at(struct hnsw *graph, const struct row_set *set, const float *queries, uint32_t ef)
{
    size_t right = 0;
    for (size_t q = 0; q < ASKED; q++) {
        struct topk found, truth;
        struct hnsw_query ask = {queries + q * WIDE, vector_norm(set->kernels, queries + q * WIDE, WIDE),
                                 ef, NULL};
        topk_init(&found, K, FLT_MAX);
        topk_init(&truth, K, FLT_MAX);
        CHECK_OK(hnsw_search(graph, set, &ask, &found, NULL));
        CHECK_OK(exact_search(set, 0, SPREAD, NULL, ask.vector, 1, &truth, NULL));
        topk_sort(&found);
        topk_sort(&truth);
        for (size_t i = 0; i < found.count; i++)
            right += found.items[i].rank <= truth.items[K - 1].rank;
        topk_dispose(&found);
        topk_dispose(&truth);
    }
    return (double)right / (ASKED * K);
}

TEST(calibration_aims_right_where_walks_must_be_wide)
{
    struct sample sample = {make_bent(SPREAD, 5), WIDE};
    float *queries = make_bent(ASKED, 1234567);
    struct row_set set;
    struct hnsw graph;
    make_set(&set, &sample);
    CHECK_OK(hnsw_init(&graph, 16, 200));
    CHECK_OK(hnsw_build(&graph, &set, SPREAD, 1, NULL));
    CHECK_OK(hnsw_calibrate(&graph, &set, NULL));
    for (int c = 0; c < HNSW_CURVES; c++) { /* they reach to where recall is full, or a walk widest */
        const struct hnsw_curve *curve = &graph.measured.curves[c];
        check_note("k = %u, ef %u, recall %g", curve->k, curve->ef[curve->count - 1],
                   (double)curve->recall[curve->count - 1]);
        CHECK(curve->recall[curve->count - 1] >= 0.99f || curve->ef[curve->count - 1] == HNSW_EF_MAX);
    }
    uint32_t ef = hnsw_ef_for(&graph, K, 0.95f);
    double found = recall_at(&graph, &set, queries, ef);
    check_note("ef %u, recall %g", ef, found);
    CHECK(ef > 50); /* else the test says nothing */
    CHECK(found >= 0.935 && found <= 0.99);
    hnsw_dispose(&graph);
    array_dispose(&set.code_rows);
    array_dispose(&set.norms);
    array_dispose(&set.errors);
    codes_dispose(&set.codes);
    free((void *)(uintptr_t)sample.rows);
    free(queries);
}
