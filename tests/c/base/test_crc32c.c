/* CRC32C: published values, and the instruction's path against the table and against the definition. */
#include "check.h"

#include "base/crc32c.h"

/* Bit by bit, from the definition. */
static uint32_t by_bits(uint32_t so_far, const uint8_t *p, size_t len)
{
    uint32_t crc = ~so_far;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void fill(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)check_random();
}

/* RFC 3720, appendix B.4, and the check value of the CRC catalogues. */
TEST(published_values)
{
    uint8_t bytes[48];
    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c(0, "", 0), 0);
    memset(bytes, 0, 32);
    CHECK_EQ(crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    CHECK_EQ(crc32c(0, bytes, 32), 0x62a8ab43u);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    CHECK_EQ(crc32c(0, bytes, 32), 0x46dd794eu);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    CHECK_EQ(crc32c(0, bytes, 32), 0x113fdb5cu);
    const uint8_t command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0,    0, 0,    0, 0,
                                 0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0,    0, 0x14, 0, 0,    0, 0x18,
                                 0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0,    0, 0,    0, 0,    0, 0};
    CHECK_EQ(crc32c(0, command, 48), 0xd9963a56u);
}

TEST(both_paths_agree_with_the_definition_at_every_length_and_alignment)
{
    static uint8_t bytes[1100];
    fill(bytes, sizeof bytes);
    for (size_t align = 0; align < 9; align++) {
        for (size_t len = 0; len < 1024; len++) {
            uint32_t seed = (uint32_t)check_random();
            uint32_t truth = by_bits(seed, bytes + align, len);
            check_note("alignment %zu, length %zu", align, len);
            CHECK_EQ(crc32c_table(seed, bytes + align, len), truth);
            CHECK_EQ(crc32c(seed, bytes + align, len), truth);
        }
    }
}

TEST(both_paths_agree_around_the_long_stripes)
{
    enum { MOST = 3 * 2048 * 2 + 3 * 128 * 2 };
    uint8_t *bytes = malloc(MOST + 64);
    fill(bytes, MOST + 64);
    for (size_t len = 6000; len <= MOST; len += 1 + check_random() % 5) {
        size_t align = check_random() % 16;
        check_note("alignment %zu, length %zu", align, len);
        CHECK_EQ(crc32c(1, bytes + align, len), crc32c_table(1, bytes + align, len));
    }
    free(bytes);
}

TEST(both_paths_agree_around_the_wide_stripes)
{
    enum { WIDE = 3 * 65536, MOST = 2 * WIDE + 3 * 2048 + 3 * 128 };
    uint8_t *bytes = malloc(MOST + 16);
    fill(bytes, MOST + 16);
    for (size_t len = WIDE - 300; len <= MOST; len += 1 + check_random() % 2000) {
        size_t align = check_random() % 16;
        check_note("alignment %zu, length %zu", align, len);
        CHECK_EQ(crc32c(1, bytes + align, len), crc32c_table(1, bytes + align, len));
    }
    for (size_t len = WIDE - 9; len <= WIDE + 9; len++)
        CHECK_EQ(crc32c(1, bytes, len), crc32c_table(1, bytes, len));
    free(bytes);
}

TEST(a_checksum_can_be_continued_at_any_point)
{
    uint8_t bytes[900];
    fill(bytes, sizeof bytes);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        CHECK_EQ(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

/* x^n mod P, in the bit order of CRC32C: bit 31 is x^0. */
static uint32_t power_of_x(unsigned n)
{
    uint32_t r = 0x80000000u;
    while (n-- > 0)
        r = (r >> 1) ^ (r & 1 ? 0x82f63b78u : 0);
    return r;
}

/* Moving a checksum past n bytes is what its factor is for; here the factors in crc32c.c are derived. */
TEST(the_stripe_factors_are_what_their_comment_says)
{
    CHECK_EQ(power_of_x(8 * 32 - 33), 0xba4fc28eu);
    CHECK_EQ(power_of_x(8 * 64 - 33), 0x9e4addf8u);
    CHECK_EQ(power_of_x(8 * 128 - 33), 0x0d3b6092u);
    CHECK_EQ(power_of_x(8 * 256 - 33), 0xb9e02b86u);
    CHECK_EQ(power_of_x(8 * 2048 - 33), 0xa51b6135u);
    CHECK_EQ(power_of_x(8 * 4096 - 33), 0x82f89c77u);
    CHECK_EQ(power_of_x(8 * 65536 - 33), 0xc5013a36u);
    CHECK_EQ(power_of_x(8 * 131072 - 33), 0xac2ac6ddu);
}

TEST(every_single_bit_matters)
{
    uint8_t bytes[100];
    fill(bytes, sizeof bytes);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(crc32c(0, bytes, sizeof bytes) != whole);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

/* The choice is made on the first call, so it takes a process in which there was none. */
TEST(the_table_can_be_forced)
{
    FILE *out = check_run_self("SYNADB_SIMD=scalar", "published both_paths");
    while (fgetc(out) != EOF)
        continue;
    CHECK_EQ(pclose(out), 0);
}

TEST(checksums_of_two_runs_join_to_that_of_both)
{
    uint8_t bytes[600];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + (i >> 3));
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t first = crc32c(0, bytes, cut), second = crc32c(0, bytes + cut, sizeof bytes - cut);
        CHECK_EQ(crc32c_join(first, second, sizeof bytes - cut), crc32c(0, bytes, sizeof bytes));
        CHECK_EQ(crc32c_join(5, second, sizeof bytes - cut), crc32c(5, bytes + cut, sizeof bytes - cut));
    }
}
