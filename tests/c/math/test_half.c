/* 16-bit floats: every half converts to the right float and back, every level gives the scalar bits,
 * conversion rounds to the nearest, and distances are those of the widened row. */
#include "check.h"

#include "math/distance.h"
#include "math/half.h"

#include <math.h>

static const char *const level_names[] = {"scalar",     "avx2",       "avx2vnni", "avx512",
                                          "avx512vnni", "avx512vpop", "amx", "neon",     "neondot"};

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The value of a binary16 by its definition. */
static double value_of(uint16_t half)
{
    int exponent = half >> 10 & 31;
    double mantissa = (double)(half & 0x3ff) / 1024, sign = half >> 15 ? -1 : 1;
    if (exponent == 31)
        return half & 0x3ff ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1 + mantissa, exponent - 15) : ldexp(mantissa, -14));
}

TEST(every_half_is_its_value_and_comes_back)
{
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t half = (uint16_t)h;
        double value = value_of(half);
        float f = half_from_f16(half), b = half_from_bf16(half);
        check_note("half %04x", h);
        if (isnan(value)) {
            CHECK(isnan(f));
            CHECK_EQ(half_to_f16(f), half | 0x200);
        } else {
            CHECK((double)f == value && !signbit(f) == !signbit(value));
            CHECK_EQ(half_to_f16(f), half);
        }
        CHECK_EQ(bits_of(b), h << 16);
        CHECK_EQ(half_to_bf16(b), isnan(b) ? half | 0x40 : half);
    }
}

/* Between two neighbours the nearer one, and of equally near ones the even. */
TEST(conversion_rounds_to_the_nearest)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = half_from_f16((uint16_t)h), high = half_from_f16((uint16_t)(h + 1));
        float middle = (low + high) / 2;
        uint16_t even = (uint16_t)(h % 2 ? h + 1 : h);
        CHECK_EQ(half_to_f16(middle), even);
        CHECK_EQ(half_to_f16(nextafterf(middle, 0)), h);
        CHECK_EQ(half_to_f16(nextafterf(middle, INFINITY)), h + 1);
        CHECK_EQ(half_to_f16(-middle), even | 0x8000);
    }
    CHECK_EQ(half_to_f16(65519.996f), 0x7bff);
    CHECK_EQ(half_to_f16(65520), 0x7c00);
    CHECK_EQ(half_to_f16(-1e30f), 0xfc00);
    CHECK_EQ(half_to_f16(1e-30f), 0);
    for (uint32_t h = 0; h < 0x7f80; h++) {
        uint32_t middle = h << 16 | 0x8000;
        CHECK_EQ(half_to_bf16(float_of(middle)), h % 2 ? h + 1 : h);
        CHECK_EQ(half_to_bf16(float_of(middle - 1)), h);
        CHECK_EQ(half_to_bf16(float_of(middle + 1)), h + 1);
    }
}

static void check_conversions(const struct half_kernels *k, const float *floats, size_t n)
{
    char halves[400 * 2 + 1];
    float back[400];
    uint16_t half;
    k->f32_to_f16(floats, n, halves + 1);
    k->f16_to_f32(halves + 1, n, back);
    for (size_t i = 0; i < n; i++) {
        memcpy(&half, halves + 1 + 2 * i, sizeof half);
        check_note("element %zu of %zu: %08x", i, n, bits_of(floats[i]));
        CHECK_EQ(half, half_to_f16(floats[i]));
        CHECK_EQ(bits_of(back[i]), bits_of(half_from_f16(half)));
    }
    k->f32_to_bf16(floats, n, halves + 1);
    k->bf16_to_f32(halves + 1, n, back);
    for (size_t i = 0; i < n; i++) {
        memcpy(&half, halves + 1 + 2 * i, sizeof half);
        check_note("element %zu of %zu: %08x", i, n, bits_of(floats[i]));
        CHECK_EQ(half, half_to_bf16(floats[i]));
        CHECK_EQ(bits_of(back[i]), bits_of(half_from_bf16(half)));
    }
}

TEST(every_level_converts_as_the_scalar_one)
{
    float floats[400];
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (int round = 0; level && round < 300; round++) {
            size_t n = (size_t)round % 131;
            for (size_t i = 0; i < n; i++) /* any bits; every other one near the halves' range */
                floats[i] = float_of(i % 2 ? (uint32_t)check_random()
                                           : ((uint32_t)check_random() & 0x8fffffff) | 0x30000000);
            check_conversions(level->half, floats, n);
        }
        /* Every half that there is, signalling NaNs too. */
        for (uint32_t h = 0; level && h < 65536; h += 128) {
            uint16_t halves[128];
            float out[128];
            for (uint32_t i = 0; i < 128; i++)
                halves[i] = (uint16_t)(h + i);
            level->half->f16_to_f32(halves, 128, out);
            for (uint32_t i = 0; i < 128; i++)
                CHECK_EQ(bits_of(out[i]), bits_of(half_from_f16(halves[i])));
        }
    }
}

TEST(distances_are_those_of_the_widened_row)
{
    enum { MOST = 65535 };
    float *query = malloc(MOST * sizeof *query), *wide = malloc(MOST * sizeof *wide);
    char *row = malloc(MOST * 2 + 1);
    for (size_t i = 0; i < MOST; i++)
        query[i] = ldexpf((float)(int32_t)(uint32_t)check_random(), (int)(i % 40) - 50);
    for (size_t n = 1; n <= MOST; n = n < 130 ? n + 1 : n < 8192 ? n * 2 : MOST) {
        for (size_t l = 0; l < COUNT_OF(level_names); l++) {
            const struct kernels *level = kernels_find(level_names[l]);
            if (!level)
                continue;
            check_note("%s, n = %zu", level->name, n);
            level->half->f32_to_f16(query, n, row + 1);
            level->half->f16_to_f32(row + 1, n, wide);
            CHECK_EQ(bits_of(level->half->dot_f16(query, row + 1, n)),
                     bits_of(kernels_scalar.dot(query, wide, n)));
            CHECK_EQ(bits_of(level->half->l2sq_f16(query, row + 1, n)),
                     bits_of(kernels_scalar.l2sq(query, wide, n)));
            level->half->f32_to_bf16(query, n, row + 1);
            level->half->bf16_to_f32(row + 1, n, wide);
            CHECK_EQ(bits_of(level->half->dot_bf16(query, row + 1, n)),
                     bits_of(kernels_scalar.dot(query, wide, n)));
            CHECK_EQ(bits_of(level->half->l2sq_bf16(query, row + 1, n)),
                     bits_of(kernels_scalar.l2sq(query, wide, n)));
        }
        if (n == MOST)
            break;
    }
    free(query);
    free(wide);
    free(row);
}
