/* Codes of rows in which one element stands for much of the length. */
#include "check.h"

#include "base/rng.h"
#include "index/code_reach.h"
#include <synadb/vector.h>

#define ROWS 4000u
#define DIMS 64u

static float data[ROWS][DIMS];

static const float *row_at(void *context, size_t i)
{
    (void)context;
    return data[i];
}

static float chance(uint64_t *seed)
{
    return (float)(rng_next(seed) >> 40) / (float)(1u << 24);
}

/* One row in a hundred has an element of `peak`, the others lie in [0, 1). */
static void make_rows(float peak)
{
    uint64_t seed = 5;
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t d = 0; d < DIMS; d++)
            data[r][d] = chance(&seed);
        if (r % 100 == 0)
            data[r][r / 100 % DIMS] = peak;
    }
}

static struct codes trained(int32_t metric, bool reach)
{
    struct codes codes;
    codes_init(&codes, DIMS, metric);
    CHECK_OK(codes_train(&codes, ROWS, row_at, NULL));
    if (reach)
        code_reach(&codes, kernels_get(), ROWS, row_at, NULL);
    return codes;
}

/* The largest share of a row's length that its code leaves out. */
static float worst_error(const struct codes *codes)
{
    uint8_t code[DIMS];
    float worst = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        float error = codes_encode(codes, kernels_get(), data[r], code);
        if (codes->metric != SYNA_METRIC_COSINE)
            error /= vector_norm(kernels_get(), data[r], DIMS);
        worst = MAX(worst, error);
    }
    return worst;
}

TEST(a_row_with_one_large_element_keeps_its_code)
{
    static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_DOT_PRODUCT};
    make_rows(1.4f);
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct codes before = trained(metrics[m], false), after = trained(metrics[m], true);
        CHECK(worst_error(&before) > 0.04f);
        CHECK(worst_error(&after) < 0.01f);
    }
}

TEST(one_element_far_out_does_not_take_the_others_their_bits)
{
    make_rows(1.4f);
    data[7][3] = 1000;
    struct codes before = trained(SYNA_METRIC_DOT_PRODUCT, false);
    struct codes after = trained(SYNA_METRIC_DOT_PRODUCT, true);
    CHECK(after.step == before.step * 1.5f);
}

TEST(differences_need_no_reach_and_rows_without_length_ask_for_none)
{
    make_rows(1.4f);
    CHECK(trained(SYNA_METRIC_EUCLIDEAN, true).step == trained(SYNA_METRIC_EUCLIDEAN, false).step);
    memset(data, 0, sizeof data);
    CHECK(trained(SYNA_METRIC_COSINE, true).step == trained(SYNA_METRIC_COSINE, false).step);
}
