/* Codes of rows in which one element stands for much of the length. */
#include "check.h"

#include "base/rng.h"
#include "index/codes.h"
#include <synadb/vector.h>

#include <math.h>

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

static struct codes trained(int32_t metric)
{
    struct codes codes;
    codes_init(&codes, DIMS, metric);
    CHECK_OK(codes_train(&codes, ROWS, row_at, NULL));
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
    make_rows(1.25f); /* nearly all are below 1: clipped there, a row would lose a twentieth of its length */
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct codes codes = trained(metrics[m]);
        CHECK(worst_error(&codes) < 0.01f);
    }
}

TEST(one_element_far_out_does_not_take_the_others_their_bits)
{
    make_rows(0.5f);
    data[7][3] = 1000;
    struct codes codes = trained(SYNA_METRIC_DOT_PRODUCT);
    CHECK(codes.step * 127 < 1.31f);
}

TEST(the_step_ends_at_the_largest_element)
{
    make_rows(1.1f);
    struct codes codes = trained(SYNA_METRIC_DOT_PRODUCT);
    CHECK(fabsf(codes.step * 127 - 1.1f) < 1e-5f);
    memset(data, 0, sizeof data);
    CHECK(trained(SYNA_METRIC_COSINE).step > 0);
}
