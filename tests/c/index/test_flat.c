/* The flat index against scoring one row after the other with the scalar kernel. */
#include "check.h"

#include "index/flat.h"

#include <float.h>
#include <math.h>
#include <synadb/vector.h>

static float any_float(void)
{
    return (float)(int32_t)(uint32_t)check_random() / 2147483648.0f;
}

static void fill(float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] = any_float();
}

static void add_random(struct flat *flat, size_t rows)
{
    float *v = malloc(flat->dims * sizeof *v);
    CHECK_OK(flat_reserve(flat, rows));
    for (size_t i = 0; i < rows; i++) {
        fill(v, flat->dims);
        uint32_t row = flat_add(flat, v);
        CHECK_EQ(row, flat->count - 1);
        CHECK_MEM(flat_row(flat, row), v, flat->dims * sizeof *v);
    }
    free(v);
}

static float rank_one(const struct flat *flat, const float *query, uint32_t row)
{
    const struct kernels *k = &kernels_scalar;
    const float *v = flat_row(flat, row);
    if (flat->metric == SYNA_METRIC_EUCLIDEAN)
        return score_rank(flat->metric, k->l2sq(query, v, flat->dims), 0, 0);
    return score_rank(flat->metric, k->dot(query, v, flat->dims),
                      vector_norm(k, query, flat->dims), vector_norm(k, v, flat->dims));
}

static void check_search(const struct flat *flat, size_t queries, size_t k)
{
    float *query = malloc(queries * flat->dims * sizeof *query);
    struct topk tops[8], expected;
    fill(query, queries * flat->dims);
    for (size_t q = 0; q < queries; q++)
        topk_init(&tops[q], k, FLT_MAX);
    CHECK_OK(flat_search(flat, query, queries, tops));
    for (size_t q = 0; q < queries; q++) {
        topk_init(&expected, k, FLT_MAX);
        for (uint32_t row = 0; row < flat->count; row++)
            if (flat_is_live(flat, row))
                CHECK(topk_offer(&expected, rank_one(flat, query + q * flat->dims, row), row));
        topk_sort(&expected);
        topk_sort(&tops[q]);
        CHECK_EQ(tops[q].count, MIN(k, (size_t)flat->live));
        CHECK_EQ(tops[q].count, expected.count);
        if (expected.count)
            CHECK_MEM(tops[q].items, expected.items, expected.count * sizeof *expected.items);
        topk_dispose(&expected);
        topk_dispose(&tops[q]);
    }
    free(query);
}

TEST(search_is_exact_for_every_metric_and_shape)
{
    static const uint32_t dims[] = {1, 3, 16, 31, 64, 100, 384};
    static const size_t rows[] = {0, 1, 63, 64, 65, 700};
    for (int32_t metric = 0; metric < 3; metric++)
        for (size_t d = 0; d < COUNT_OF(dims); d++)
            for (size_t r = 0; r < COUNT_OF(rows); r++) {
                struct flat flat;
                check_note("metric %d, %u dimensions, %zu rows", metric, dims[d], rows[r]);
                flat_init(&flat, dims[d], metric);
                add_random(&flat, rows[r]);
                check_search(&flat, 1, 10);
                check_search(&flat, 5, 3);
                check_search(&flat, 1, 1000);
                flat_dispose(&flat);
            }
}

TEST(search_over_many_chunks_is_exact)
{
    struct flat flat;
    flat_init(&flat, 2000, SYNA_METRIC_EUCLIDEAN);
    add_random(&flat, 400); /* 131 rows of 8 KB fit a megabyte: 128 a chunk */
    CHECK(flat.chunks.len / sizeof(struct flat_chunk) >= 4);
    check_search(&flat, 2, 20);
    flat_dispose(&flat);
}

TEST(the_largest_dimension_works)
{
    struct flat flat;
    flat_init(&flat, SYNA_DIMENSIONS_MAX, SYNA_METRIC_COSINE);
    add_random(&flat, 3);
    check_search(&flat, 1, 3);
    flat_dispose(&flat);
}

TEST(removed_rows_are_not_found)
{
    struct flat flat;
    flat_init(&flat, 8, SYNA_METRIC_DOT_PRODUCT);
    add_random(&flat, 300);
    for (uint32_t row = 0; row < 300; row++)
        if (row % 3 || (row >= 64 && row < 128))
            flat_remove(&flat, row);
    CHECK(!flat_is_live(&flat, 100));
    CHECK(flat_is_live(&flat, 3));
    check_search(&flat, 2, 500);
    flat_dispose(&flat);
}

struct moves {
    uint32_t from[400];
    uint32_t count;
};

static void note_move(void *context, uint32_t from, uint32_t to)
{
    struct moves *moves = context;
    CHECK_EQ(to, moves->count);
    moves->from[moves->count++] = from;
}

TEST(packing_keeps_rows_their_order_and_their_scores)
{
    struct flat flat;
    struct moves moves = {.count = 0};
    float *before = malloc(400 * 5 * sizeof *before);
    flat_init(&flat, 5, SYNA_METRIC_COSINE);
    add_random(&flat, 400);
    for (uint32_t row = 0; row < 400; row++) {
        memcpy(before + row * 5, flat_row(&flat, row), 5 * sizeof *before);
        if (check_random() % 4)
            flat_remove(&flat, row);
    }
    uint32_t live = flat.live;
    flat_pack(&flat, note_move, &moves);
    CHECK_EQ(flat.count, live);
    CHECK_EQ(flat.live, live);
    CHECK_EQ(moves.count, live);
    for (uint32_t row = 0; row < live; row++) {
        CHECK(flat_is_live(&flat, row));
        CHECK_MEM(flat_row(&flat, row), before + moves.from[row] * 5, 5 * sizeof *before);
    }
    check_search(&flat, 3, 400);
    add_random(&flat, 100);
    check_search(&flat, 3, 400);
    flat_dispose(&flat);
    free(before);
}

TEST(a_row_written_in_place_is_the_same_row)
{
    struct flat flat;
    flat_init(&flat, 33, SYNA_METRIC_COSINE);
    CHECK_OK(flat_reserve(&flat, 2));
    float *place = flat_next(&flat), copy[33];
    fill(place, 33);
    memcpy(copy, place, sizeof copy);
    CHECK_EQ(flat_add(&flat, place), 0);
    CHECK(flat_row(&flat, 0) == place);
    CHECK_MEM(place, copy, sizeof copy);
    check_search(&flat, 1, 1);
    flat_dispose(&flat);
}

TEST(more_rows_than_can_be_numbered_are_refused)
{
    struct flat flat;
    flat_init(&flat, 4, SYNA_METRIC_COSINE);
    flat.count = 10; /* as if */
    CHECK_FAILS(flat_reserve(&flat, (size_t)UINT32_MAX - 9), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    flat.count = 0;
    flat_dispose(&flat);
}

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

TEST(without_memory_nothing_changes_and_nothing_leaks)
{
    for (int k = 1;; k++) {
        struct flat flat;
        int left = k;
        float query[4] = {1, 2, 3, 4};
        struct topk top;
        flat_init(&flat, 4, SYNA_METRIC_COSINE);
        topk_init(&top, 5, FLT_MAX);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = flat_reserve(&flat, 40000);
        if (rc == SYNA_SUCCESS) {
            for (int i = 0; i < 40; i++)
                flat_add(&flat, query);
            rc = flat_search(&flat, query, 1, &top);
        }
        syna_test_set_alloc(NULL, NULL);
        if (left > 0)
            CHECK_OK(rc);
        else
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        topk_dispose(&top);
        flat_dispose(&flat);
        if (left > 0)
            break;
    }
}
