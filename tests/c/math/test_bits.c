/* Bit strings: every level counts what counting one bit after the other gives, at any length and
 * address, and reads nothing behind the end. */
#include "check.h"

#include "math/bits.h"
#include "math/distance.h"

#include <math.h>

static const char *const level_names[] = {"scalar",     "avx2",       "avx2vnni", "avx512",
                                          "avx512vnni", "avx512vpop", "amx", "neon",     "neondot"};

static uint64_t count(const uint8_t *a, const uint8_t *b, size_t bytes, uint8_t (*join)(uint8_t, uint8_t))
{
    uint64_t bits = 0;
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++)
            bits += join(a[i], b[i]) >> bit & 1;
    return bits;
}

static uint8_t differ(uint8_t a, uint8_t b)
{
    return a ^ b;
}

static uint8_t both(uint8_t a, uint8_t b)
{
    return a & b;
}

static uint8_t either(uint8_t a, uint8_t b)
{
    return a | b;
}

static void check_pair(const struct bits_kernels *k, const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint64_t any;
    CHECK_EQ(k->hamming(a, b, bytes), count(a, b, bytes, differ));
    CHECK_EQ(k->overlap(a, b, bytes, &any), count(a, b, bytes, both));
    CHECK_EQ(any, count(a, b, bytes, either));
}

TEST(bits_are_counted_one_and_all)
{
    uint8_t *bytes = malloc(2 * 8192 + 2);
    for (size_t i = 0; i < 2 * 8192 + 2; i++)
        bytes[i] = i % 5 ? (uint8_t)check_random() : 0xff;
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t n = 0; level && n <= 8192; n += n < 200 ? 1 : 999) {
            check_note("%s, %zu bytes", level->name, n);
            check_pair(level->bits, bytes + 1, bytes + 2 + n, n);
        }
    }
    free(bytes);
}

static void check_rows(const struct kernels *level, size_t bytes, size_t stride, size_t rows_count)
{
    uint8_t query[160], rows[21 * 168 + 3];
    uint32_t out[22];
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = i % 7 ? (uint8_t)check_random() : 0xff;
    for (size_t i = 0; i < sizeof query; i++)
        query[i] = i % 5 ? (uint8_t)check_random() : 0;
    out[rows_count] = 77;
    check_note("%s, %zu rows of %zu bytes, %zu apart", level->name, rows_count, bytes, stride);
    level->bits->hamming_rows(query, rows + 3, stride, rows_count, bytes, out);
    for (size_t r = 0; r < rows_count; r++)
        CHECK_EQ(out[r], count(query, rows + 3 + r * stride, bytes, differ));
    CHECK_EQ(out[rows_count], 77);
}

TEST(rows_are_counted_each)
{
    static const size_t sizes[] = {1, 8, 15, 16, 17, 41, 48, 63, 64, 65, 96, 128, 160};
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t s = 0; level && s < COUNT_OF(sizes); s++)
            for (size_t rows = 0; rows <= 21; rows++)
                for (size_t apart = 0; apart <= 8; apart += 8)
                    check_rows(level, sizes[s], sizes[s] + apart, rows);
    }
}

TEST(the_jaccard_distance_is_one_less_the_common_share)
{
    const struct bits_kernels *k = kernels_get()->bits;
    uint8_t a[3] = {0xf0, 0, 1}, b[3] = {0x30, 0, 3}, none[3] = {0};
    CHECK(bits_jaccard(k, a, b, 3) == 0.5f); /* 3 common of 6 */
    CHECK(bits_jaccard(k, a, a, 3) == 0);
    CHECK(bits_jaccard(k, a, none, 3) == 1);
    CHECK(bits_jaccard(k, none, none, 3) == 0);
    CHECK(bits_jaccard(k, a, b, 0) == 0);
}

TEST(nothing_is_read_behind_the_last_byte)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQ(mprotect(map + page, page, PROT_NONE), 0);
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t n = 0; level && n <= 130; n++) {
            uint64_t any;
            CHECK_EQ(level->bits->hamming(map + page - n, map + page - n, n), 0);
            uint32_t found[9] = {0};
            CHECK_EQ(level->bits->overlap(map + page - n, map + page - n, n, &any), 0);
            level->bits->hamming_rows(map + page - n, map + page - 9 * n, n, 9, n, found);
            CHECK_EQ(found[8], 0);
        }
    }
    munmap(map, 2 * page);
}

/* ---------------------------------------------------------------- 64 values at a time */

static void check_words(const struct bits_kernels *k, const uint64_t *words, uint64_t low, uint64_t span)
{
    uint64_t bits = k->words_within(words, low, span);
    for (size_t i = 0; i < 64; i++)
        CHECK_EQ(bits >> i & 1, words[i] - low <= span);
}

static void check_doubles(const struct bits_kernels *k, const uint64_t *words, double low, double high)
{
    uint64_t bits = k->doubles_within(words, low, high);
    for (size_t i = 0; i < 64; i++) {
        double x;
        memcpy(&x, &words[i], sizeof x);
        CHECK_EQ(bits >> i & 1, x >= low && x <= high);
    }
}

static void check_conditions(const struct bits_kernels *k)
{
    static const uint64_t edges[] = {0, 1, 5, UINT64_MAX, UINT64_MAX - 1, 1ull << 63, (1ull << 63) - 1};
    static const double limits[] = {-INFINITY, -1.5, -0.0, 0.0, 5e-324, 1.5, INFINITY};
    uint64_t words[64], numbers[64];
    uint8_t bytes[64];
    for (size_t i = 0; i < 64; i++) {
        double x = i % 9 ? limits[check_random() % COUNT_OF(limits)] : (double)NAN;
        words[i] = edges[check_random() % COUNT_OF(edges)] + check_random() % 3 - 1;
        memcpy(&numbers[i], &x, sizeof x);
        bytes[i] = i % 3 ? (uint8_t)check_random() : 0xa5;
    }
    for (size_t a = 0; a < COUNT_OF(edges); a++)
        for (size_t b = 0; b < COUNT_OF(edges); b++)
            check_words(k, words, edges[a], edges[b]);
    for (size_t a = 0; a < COUNT_OF(limits); a++)
        for (size_t b = 0; b < COUNT_OF(limits); b++)
            check_doubles(k, numbers, limits[a], limits[b]);
    uint64_t equal = k->bytes_equal(bytes, 0xa5);
    for (size_t i = 0; i < 64; i++)
        CHECK_EQ(equal >> i & 1, bytes[i] == 0xa5);
}

TEST(conditions_are_met_by_the_same_values_on_every_level)
{
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (int round = 0; level && round < 20; round++) {
            check_note("%s, round %d", level->name, round);
            check_conditions(level->bits);
        }
    }
}
