/* The k best of a stream, against sorting everything. */
#include "check.h"

#include "math/topk.h"

#include <float.h>

static int by_rank_then_row(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Rows with few different ranks, so that ties decide, in an order of their own. */
static void shuffle(struct ranked *rows, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = check_random() % i;
        struct ranked t = rows[i - 1];
        rows[i - 1] = rows[j];
        rows[j] = t;
    }
}

static void check_against_sorting(size_t n, size_t k, float limit)
{
    struct ranked rows[300];
    struct topk top;
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct ranked){(float)(check_random() % 20), (uint32_t)i};
    shuffle(rows, n);
    topk_init(&top, k, limit);
    for (size_t i = 0; i < n; i++)
        CHECK(topk_offer(&top, rows[i].rank, rows[i].row));
    topk_sort(&top);

    qsort(rows, n, sizeof *rows, by_rank_then_row);
    size_t expected = 0;
    while (expected < n && expected < k && rows[expected].rank <= limit)
        expected++;
    check_note("n = %zu, k = %zu, limit = %g", n, k, (double)limit);
    CHECK_EQ(top.count, expected);
    if (expected)
        CHECK_MEM(top.items, rows, expected * sizeof *rows);
    topk_dispose(&top);
}

TEST(the_best_come_out_sorted_and_ties_go_to_the_earlier_row)
{
    for (int round = 0; round < 300; round++) {
        size_t n = check_random() % 300;
        check_against_sorting(n, check_random() % (n + 3), FLT_MAX);
        check_against_sorting(n, check_random() % (n + 3), (float)(check_random() % 22) - 1);
        check_against_sorting(n, SIZE_MAX, FLT_MAX);
    }
}

TEST(what_is_not_admitted_would_not_be_taken)
{
    struct topk top;
    topk_init(&top, 3, 10);
    for (uint32_t row = 0; row < 200; row++) {
        float rank = (float)(check_random() % 12);
        bool admitted = topk_admits(&top, rank);
        CHECK(topk_offer(&top, rank, row));
        bool taken = false;
        for (size_t i = 0; i < top.count; i++)
            taken |= top.items[i].row == row;
        CHECK_EQ(admitted, taken);
    }
    topk_dispose(&top);
}

static bool refuse(void *context, size_t bytes)
{
    (void)context, (void)bytes;
    return false;
}

TEST(without_memory_the_rows_so_far_stay)
{
    struct topk top;
    topk_init(&top, 1000, FLT_MAX);
    for (uint32_t row = 0; row < 16; row++)
        CHECK(topk_offer(&top, 1, row));
    syna_test_set_alloc(refuse, NULL);
    CHECK(!topk_offer(&top, 0, 16));
    syna_test_set_alloc(NULL, NULL);
    CHECK_EQ(top.count, 16);
    CHECK(topk_offer(&top, 0, 16));
    topk_sort(&top);
    CHECK_EQ(top.items[0].row, 16);
    topk_dispose(&top);
}
