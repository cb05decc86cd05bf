/* The distance kernels: every level this machine has gives the bits of the scalar one, the scalar one
 * keeps the error bound against exact products summed in long double, and scores follow their
 * definitions at the edges. */
#include "check.h"

#include "base/rng.h"
#include "math/distance.h"

#include <float.h>
#include <math.h>
#include <synadb/vector.h>

static const char *const level_names[] = {"scalar",     "avx2", "avx2vnni", "avx512",
                                          "avx512vnni", "avx512vpop", "amx", "neon", "neondot"}; /* best last */

/* Magnitudes from 2^-40 to 2^40 and both signs: cancellation everywhere. */
static float wild(void)
{
    uint64_t bits = check_random();
    float mantissa = 1.0f + (float)(bits & 0x7fffff) / 8388608.0f;
    float value = ldexpf(mantissa, (int)((bits >> 32) % 81) - 40);
    return bits >> 63 ? -value : value;
}

static float tame(void)
{
    return (float)(int32_t)(uint32_t)check_random() / 2147483648.0f;
}

static float *make(size_t n, float (*value)(void))
{
    float *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = value();
    return v;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

#define CHECK_SAME(got, want) CHECK_EQ(bits_of(got), bits_of(want))

static void check_level_at(const struct kernels *level, const float *a, const float *b, size_t n)
{
    check_note("%s, n = %zu", level->name, n);
    CHECK_SAME(level->dot(a, b, n), kernels_scalar.dot(a, b, n));
    CHECK_SAME(level->l2sq(a, b, n), kernels_scalar.l2sq(a, b, n));
}

TEST(every_level_gives_the_scalar_bits_at_every_length)
{
    float *a = make(8192 + 1, wild), *b = make(8192 + 1, wild);
    size_t compared = 0;
    for (size_t l = 1; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        if (!level)
            continue;
        /* One float off, so that nothing is aligned. */
        for (size_t n = 0; n <= 8192; n += n < 600 ? 1 : 37, compared++)
            check_level_at(level, a + 1, b + 1, n);
        check_level_at(level, a + 1, b + 1, 8192);
    }
#if defined(__aarch64__)
    CHECK(compared > 0);
#endif
    free(a);
    free(b);
}

TEST(every_level_gives_the_scalar_bits_at_the_largest_length)
{
    float *a = make(65535, wild), *b = make(65535, tame);
    for (size_t l = 1; l < COUNT_OF(level_names); l++)
        if (kernels_find(level_names[l]))
            check_level_at(kernels_find(level_names[l]), a, b, 65535);
    free(a);
    free(b);
}

TEST(underflow_and_overflow_give_the_same_bits_too)
{
    enum { N = 95 };
    float tiny[N], huge[N];
    for (int i = 0; i < N; i++) {
        tiny[i] = (i % 3 ? 1 : -1) * ldexpf(1.5f, -140 + i % 9);
        huge[i] = (i % 2 ? 1 : -1) * ldexpf(1.5f, 100 + i % 27);
    }
    for (size_t l = 1; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        if (!level)
            continue;
        check_level_at(level, tiny, tiny, N);
        check_level_at(level, tiny, huge, N);
        /* NaN has many bit patterns, and no score lets one out. */
        float got = level->dot(huge, huge, N), want = kernels_scalar.dot(huge, huge, N);
        CHECK(isinf(want) && bits_of(got) == bits_of(want));
    }
}

/* Rows from odd addresses give what rows of a matrix gave. */
static void check_many(const struct kernels *level, const float *query, const float *rows,
                       size_t stride, size_t count, size_t n, const float *dots, const float *l2sqs)
{
    char bytes[16 * 113 * sizeof(float)];
    const void *pointers[16];
    float out[16];
    for (size_t r = 0; r < count; r++) {
        pointers[r] = bytes + 1 + r * (n * sizeof(float) + 1);
        memcpy(bytes + 1 + r * (n * sizeof(float) + 1), rows + r * stride, n * sizeof(float));
    }
    level->dot_many(query, pointers, count, n, out);
    CHECK_MEM(out, dots, count * sizeof *out);
    level->l2sq_many(query, pointers, count, n, out);
    CHECK_MEM(out, l2sqs, count * sizeof *out);
}

TEST(a_row_scores_the_same_alone_and_among_others)
{
    enum { ROWS = 11, STRIDE = 112 };
    float *rows = make((size_t)ROWS * STRIDE, wild), *query = make(STRIDE, wild);
    float dots[ROWS], l2sqs[ROWS];
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t n = 1; level && n <= STRIDE; n++) {
            for (size_t count = 1; count <= ROWS; count++) {
                level->dot_rows(query, rows, STRIDE, count, n, dots);
                level->l2sq_rows(query, rows, STRIDE, count, n, l2sqs);
                check_many(level, query, rows, STRIDE, count, n, dots, l2sqs);
                for (size_t r = 0; r < count; r++) {
                    check_note("%s, n = %zu, row %zu of %zu", level->name, n, r, count);
                    CHECK_SAME(dots[r], kernels_scalar.dot(query, rows + r * STRIDE, n));
                    CHECK_SAME(l2sqs[r], kernels_scalar.l2sq(query, rows + r * STRIDE, n));
                }
            }
        }
    }
    free(rows);
    free(query);
}

TEST(nothing_is_read_behind_the_last_element)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQ(mprotect(map + page, page, PROT_NONE), 0);
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t n = 1; level && n <= 70; n++) {
            const float *v = (const float *)(void *)(map + page) - n;
            float out[1];
            check_note("%s, n = %zu", level->name, n);
            CHECK(level->dot(v, v, n) == 0);
            CHECK(level->l2sq(v, v, n) == 0);
            level->dot_rows(v, v, n, 1, n, out);
            level->l2sq_rows(v, v, n, 1, n, out);
        }
    }
    munmap(map, 2 * page);
}

/* Lane sums of at most n/32 + 1 steps and five more in the tree, each with a relative error of 2^-24. */
static void check_error(const float *a, const float *b, size_t n)
{
    const struct kernels *k = kernels_find("scalar");
    long double dot = 0, dot_size = 0, l2sq = 0;
    for (size_t i = 0; i < n; i++) {
        long double product = (long double)a[i] * b[i], d = (long double)a[i] - b[i];
        dot += product;
        dot_size += fabsl(product);
        l2sq += d * d;
    }
    long double unit = ldexpl(1, -24) * ((long double)n / 32 + 8);
    check_note("n = %zu", n);
    CHECK(fabsl(k->dot(a, b, n) - dot) <= unit * dot_size);
    CHECK(fabsl(k->l2sq(a, b, n) - l2sq) <= (unit + 2 * ldexpl(1, -24)) * l2sq);
}

TEST(sums_keep_the_error_bound_against_exact_products)
{
    float *a = make(65535, wild), *b = make(65535, wild), *c = make(65535, tame);
    for (size_t n = 1; n <= 8192; n = n < 130 ? n + 1 : n * 2) {
        check_error(a, b, n);
        check_error(c, c + 1, n);
        check_error(a, a, n);
    }
    check_error(a, b, 65535);
    check_error(c, a, 65535);
    free(a);
    free(b);
    free(c);
}

TEST(lanes_are_32_and_the_tree_halves_them)
{
    /* 2^24 + 1 + 1 is 2^24 when added one by one and 2^24 + 2 when the ones meet first. */
    float a[64] = {0}, one[64];
    for (int i = 0; i < 64; i++)
        one[i] = 1;
    a[0] = 16777216, a[1] = 1, a[9] = 1; /* lanes 1 and 9 meet before they meet lane 0 */
    CHECK(kernels_scalar.dot(a, one, 64) == 16777218);
    memset(a, 0, sizeof a);
    a[0] = 16777216, a[32] = 1; /* the same lane */
    a[16] = 1;                  /* meets lane 0 alone */
    CHECK(kernels_scalar.dot(a, one, 64) == 16777216);
}

TEST(scores_follow_their_definitions)
{
    const struct kernels *k = &kernels_scalar;
    float a[3] = {3, 0, 4}, b[3] = {0, 0, 2}, zero[3] = {0};
    CHECK(vector_norm(k, a, 3) == 5);
    CHECK(score_rank(SYNA_METRIC_DOT_PRODUCT, k->dot(a, b, 3), 5, 2) == -8);
    CHECK(score_final(SYNA_METRIC_EUCLIDEAN, score_rank(SYNA_METRIC_EUCLIDEAN, 25, 0, 0)) == 5);
    CHECK(score_rank(SYNA_METRIC_COSINE, 8, 5, 2) == 1 - 0.8f);
    CHECK(score_rank(SYNA_METRIC_COSINE, k->dot(a, zero, 3), 5, 0) == 1);
    CHECK(score_rank(SYNA_METRIC_COSINE, 0, 0, 0) == 1);
}

TEST(a_cosine_distance_stays_in_its_range)
{
    for (int i = 0; i < 20000; i++) {
        float v[8], w[8];
        for (int j = 0; j < 8; j++) {
            v[j] = tame();
            w[j] = -v[j];
        }
        float norm = vector_norm(&kernels_scalar, v, 8);
        float same = score_rank(SYNA_METRIC_COSINE, kernels_scalar.dot(v, v, 8), norm, norm);
        float opposite = score_rank(SYNA_METRIC_COSINE, kernels_scalar.dot(v, w, 8), norm, norm);
        CHECK(same >= 0 && same < 1e-6f);
        CHECK(opposite <= 2 && opposite > 2 - 1e-6f);
    }
}

TEST(what_overflows_saturates_and_sorts_last)
{
    CHECK(score_rank(SYNA_METRIC_EUCLIDEAN, INFINITY, 0, 0) == FLT_MAX);
    CHECK(score_final(SYNA_METRIC_EUCLIDEAN, FLT_MAX) == FLT_MAX);
    CHECK(score_rank(SYNA_METRIC_DOT_PRODUCT, -INFINITY, 0, 0) == FLT_MAX);
    CHECK(score_rank(SYNA_METRIC_DOT_PRODUCT, INFINITY, 0, 0) == -FLT_MAX);
    CHECK(score_rank(SYNA_METRIC_DOT_PRODUCT, NAN, 0, 0) == FLT_MAX);
    CHECK(score_rank(SYNA_METRIC_COSINE, INFINITY, INFINITY, INFINITY) == FLT_MAX);
    /* The norms' product would overflow, the quotient does not. */
    CHECK(score_rank(SYNA_METRIC_COSINE, 3e37f, 1e19f, 6e18f) == 1 - 3e37f / 1e19f / 6e18f);
}

TEST(a_radius_admits_exactly_the_scores_up_to_it)
{
    for (int i = 0; i < 2000; i++) {
        float radius = fabsf(wild());
        float limit = score_rank_limit(SYNA_METRIC_EUCLIDEAN, radius);
        CHECK(score_final(SYNA_METRIC_EUCLIDEAN, limit) <= radius);
        CHECK(score_final(SYNA_METRIC_EUCLIDEAN, nextafterf(limit, FLT_MAX)) > radius);
    }
    CHECK(score_rank_limit(SYNA_METRIC_EUCLIDEAN, 0) == 0);
    CHECK(score_rank_limit(SYNA_METRIC_EUCLIDEAN, -1) < 0);
    CHECK(score_rank_limit(SYNA_METRIC_EUCLIDEAN, INFINITY) == FLT_MAX);
    CHECK(score_rank_limit(SYNA_METRIC_EUCLIDEAN, 1e30f) < FLT_MAX);
    CHECK(score_rank_limit(SYNA_METRIC_COSINE, 0.5f) == 0.5f);
}

TEST(the_first_element_that_is_not_finite_is_found)
{
    float v[40] = {0};
    CHECK_EQ(vector_first_not_finite(v, 40), 40);
    v[33] = NAN;
    CHECK_EQ(vector_first_not_finite(v, 40), 33);
    v[7] = -INFINITY;
    CHECK_EQ(vector_first_not_finite(v, 40), 7);
    CHECK_EQ(vector_first_not_finite(v, 7), 7);
}

static void choose_under(void *context)
{
    const char *const *pair = context;
    if (pair[0])
        setenv("SYNADB_SIMD", pair[0], 1);
    else
        unsetenv("SYNADB_SIMD");
    CHECK_STR(kernels_get()->name, pair[1]);
    CHECK(kernels_get() == kernels_get());
}

/* In children, because the choice is made once. No test of this file makes it here. */
TEST(the_environment_forces_a_level)
{
    const char *best = "scalar";
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        if (!level)
            continue;
        best = level->name;
        const char *forced[2] = {level_names[l], level_names[l]};
        CHECK_EQ(check_child(choose_under, forced), 0);
    }
    const char *unforced[2] = {NULL, best}, *unknown[2] = {"mmx", best};
    CHECK_EQ(check_child(choose_under, unforced), 0);
    CHECK_EQ(check_child(choose_under, unknown), 0);
    CHECK(!kernels_find("mmx"));
}

/* The same on every machine and for ever: scores that users stored stay comparable. */
TEST(fixed_vectors_have_fixed_bits)
{
    float a[1000], b[1000];
    uint64_t seed = 1;
    for (size_t i = 0; i < 1000; i++) {
        a[i] = (float)(int32_t)(uint32_t)rng_next(&seed) / 65536.0f;
        b[i] = (float)(int32_t)(uint32_t)rng_next(&seed) / 65536.0f;
    }
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        if (!level)
            continue;
        CHECK_EQ(bits_of(level->dot(a, b, 1000)), 0xd032dfbc);
        CHECK_EQ(bits_of(level->l2sq(a, b, 1000)), 0x532d100d);
        CHECK_EQ(bits_of(vector_norm(level, a, 1000)), 0x4911307f);
    }
}
