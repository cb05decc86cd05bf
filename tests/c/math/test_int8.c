/* The 8-bit kernels: every level of this machine against sums taken one element at a time, at every
 * number of steps, with the extreme codes, at any address, and in tiles of every shape. */
#include "check.h"

#include "math/distance.h"
#include "math/int8.h"

#define N_MAX 65536u

static const char *const level_names[] = {"scalar",  "avx2", "avx2vnni", "avx512",
                                          "avx512vnni", "avx512vpop", "amx", "neon", "neondot"};

enum fill { ANY, MOST, LEAST, FILLS };

static uint8_t code(enum fill fill, bool difference)
{
    if (fill == MOST)
        return difference ? 127 : 255;
    if (fill == LEAST)
        return difference ? 0 : 1;
    uint64_t random = check_random();
    return (uint8_t)(difference ? random % 128 : 1 + random % 255);
}

static void fill_codes(uint8_t *out, size_t n, enum fill fill, bool difference)
{
    for (size_t i = 0; i < n; i++)
        out[i] = code(fill, difference);
}

static int32_t expected(bool difference, const uint8_t *row, const uint8_t *query, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += difference ? (row[i] - query[i]) * (row[i] - query[i])
                          : (row[i] - 128) * (int8_t)query[i];
    CHECK(sum >= INT32_MIN && sum <= INT32_MAX);
    return (int32_t)sum;
}

/* A query out of a code row: as it is for differences, 128 less for products. */
static int32_t make_query(bool difference, uint8_t *query, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n && !difference; i++) {
        query[i] = (uint8_t)(query[i] - 128);
        sum += (int8_t)query[i];
    }
    return -128 * sum;
}

static void run(const struct int8_kernels *k, bool difference, const uint8_t *query, int32_t base,
                const uint8_t *const *rows, size_t count, size_t n, int32_t *many, int32_t *scan)
{
    if (difference) {
        k->difference_many(query, rows, count, n, many);
        k->difference_scan(query, rows[0], count, n, scan);
    } else {
        k->product_many((const int8_t *)query, base, rows, count, n, many);
        k->product_scan((const int8_t *)query, base, rows[0], count, n, scan);
    }
}

static void check_rows(const struct kernels *level, bool difference, size_t n, size_t count,
                       enum fill fill)
{
    uint8_t *block = malloc((count + 1) * n + 1), *query = block + 1 + count * n;
    const uint8_t *rows[16];
    int32_t many[16], scan[16];
    fill_codes(block, (count + 1) * n + 1, fill, difference);
    if (fill == MOST) /* against the other extreme, too */
        fill_codes(query, n, check_random() % 2 ? MOST : LEAST, difference);
    for (size_t r = 0; r < count; r++)
        rows[r] = block + 1 + r * n; /* odd addresses */
    int32_t base = make_query(difference, query, n);
    run(level->int8, difference, query, base, rows, count, n, many, scan);
    for (size_t r = 0; r < count; r++) {
        check_note("%s, difference %d, n = %zu, row %zu of %zu", level->name, difference, n, r, count);
        int32_t want = expected(difference, rows[r], query, n);
        CHECK_EQ(many[r], want);
        CHECK_EQ(scan[r], want);
    }
    free(block);
}

TEST(rows_compare_as_one_element_after_the_other)
{
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (int difference = 0; level && difference < 2; difference++) {
            for (size_t n = 64; n <= 8192; n += n < 640 ? 64 : 1216)
                for (size_t count = 1; count <= 9; count++)
                    check_rows(level, difference, n, count, (enum fill)(n / 64 % FILLS));
            for (int fill = 0; fill < FILLS; fill++)
                check_rows(level, difference, N_MAX, 5, (enum fill)fill);
        }
    }
}

/* What a row looks like to a coarse comparison: the lower half of each element in its middle. Elements of
 * differences are split as twice what they are. */
static uint8_t coarse(bool difference, uint8_t element)
{
    uint8_t split = (uint8_t)(element << difference);
    return (uint8_t)((split / 16 * 16 + 8) >> difference);
}

/* `plain`, split by its definition, one element after the other. */
static void split(bool difference, const uint8_t *plain, size_t n, uint8_t *out)
{
    memset(out, 0, n);
    for (size_t i = 0; i < n; i++) {
        uint8_t element = (uint8_t)(plain[i] << difference);
        size_t each = i / 128 * 128 + 128 <= n ? 64 : 32, at = i / 128 * 64 + i % each;
        int upper_of_byte = i / each % 2 ? 4 : 0;
        out[at] = (uint8_t)(out[at] | element / 16 << upper_of_byte);
        out[n / 2 + at] = (uint8_t)(out[n / 2 + at] | element % 16 << upper_of_byte);
    }
}

static void run_split(const struct int8_kernels *k, bool difference, const uint8_t *query, int32_t base,
                      const uint8_t *const *rows, size_t count, size_t n, int32_t out[3][16])
{
    if (difference) {
        k->difference_split_many(query, rows, count, n, out[0]);
        k->difference_split_scan(query, rows[0], count, n, out[1]);
        k->difference_coarse_many(query, rows, count, n, out[2]);
    } else {
        k->product_split_many((const int8_t *)query, base, rows, count, n, out[0]);
        k->product_split_scan((const int8_t *)query, base, rows[0], count, n, out[1]);
        k->product_coarse_many((const int8_t *)query, base, rows, count, n, out[2]);
    }
}

static void check_split(const struct kernels *level, bool difference, size_t n, size_t count,
                        enum fill fill)
{
    uint8_t *plain = malloc((count + 1) * n), *block = malloc(count * n + 1), *query = plain + count * n;
    uint8_t *again = malloc(n + 1), *half = malloc(n);
    const uint8_t *rows[16];
    int32_t out[3][16];
    fill_codes(plain, (count + 1) * n, fill, difference);
    if (fill == MOST) /* against the other extreme, too */
        fill_codes(query, n, check_random() % 2 ? MOST : LEAST, difference);
    int32_t base = make_query(difference, query, n);
    for (size_t r = 0; r < count; r++) {
        rows[r] = block + 1 + r * n; /* odd addresses */
        split(difference, plain + r * n, n, block + 1 + r * n);
    }
    run_split(level->int8, difference, query, base, rows, count, n, out);
    for (size_t r = 0; r < count; r++) {
        const uint8_t *row = plain + r * n;
        check_note("%s, difference %d, n = %zu, row %zu of %zu", level->name, difference, n, r, count);
        for (size_t i = 0; i < n; i++)
            half[i] = coarse(difference, row[i]);
        int32_t want = expected(difference, row, query, n);
        CHECK_EQ(out[0][r], want);
        CHECK_EQ(out[1][r], want);
        CHECK_EQ(out[2][r], expected(difference, half, query, n));
        again[n] = 77;
        level->int8->unite(difference, rows[r], n, again);
        CHECK_MEM(again, row, n);
        CHECK_EQ(again[n], 77);
    }
    free(plain);
    free(block);
    free(again);
    free(half);
}

TEST(split_rows_compare_as_whole_ones_and_coarsely_by_their_first_half)
{
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (int difference = 0; level && difference < 2; difference++) {
            for (size_t n = 64; n <= 8192; n += n < 640 ? 64 : 1216)
                for (size_t count = 1; count <= 9; count++)
                    check_split(level, difference, n, count, (enum fill)(n / 64 % FILLS));
            for (int fill = 0; fill < FILLS; fill++)
                check_split(level, difference, N_MAX, 5, (enum fill)fill);
        }
    }
}

/* The second half of a row is memory that a coarse comparison must not need. */
TEST(coarse_comparisons_do_not_read_second_halves)
{
    enum { N = 384, ROWS = 7 };
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        uint8_t block[2][ROWS * N], query[N];
        const uint8_t *rows[2][ROWS];
        int32_t out[2][ROWS];
        fill_codes(query, N, ANY, true);
        fill_codes(block[0], sizeof block[0], ANY, false);
        memcpy(block[1], block[0], sizeof block[0]);
        for (size_t r = 0; r < ROWS; r++) {
            fill_codes(block[1] + r * N + N / 2, N / 2, ANY, false);
            rows[0][r] = block[0] + r * N;
            rows[1][r] = block[1] + r * N;
        }
        for (int side = 0; level && side < 2; side++)
            level->int8->product_coarse_many((const int8_t *)query, 5, rows[side], ROWS, N, out[side]);
        CHECK(!level || memcmp(out[0], out[1], sizeof out[0]) == 0);
        for (int side = 0; level && side < 2; side++)
            level->int8->difference_coarse_many(query, rows[side], ROWS, N, out[side]);
        CHECK(!level || memcmp(out[0], out[1], sizeof out[0]) == 0);
    }
}

TEST(rows_are_split_in_pieces)
{
    enum { N = 448 };
    for (int difference = 0; difference < 2; difference++) {
        uint8_t plain[N], want[N], found[N];
        fill_codes(plain, N, ANY, difference);
        split(difference, plain, N, want);
        memset(found, 0x55, N);
        int8_split(difference, plain, 0, 256, N, found);
        int8_split(difference, plain + 256, 256, 192, N, found);
        CHECK_MEM(found, want, N);
    }
}

static void check_turned(const struct kernels *level, size_t n, enum fill fill)
{
    static uint8_t row[N_MAX + 1];
    static int8_t out[N_MAX + 1];
    int32_t sum = 0;
    CHECK(n <= N_MAX);
    fill_codes(row, n + 1, fill, false);
    check_note("%s, n = %zu, fill %d", level->name, n, (int)fill);
    out[n] = 77;
    int32_t turned = level->int8->turn(row + 1, n, out);
    for (size_t j = 0; j < n; j++) {
        CHECK_EQ(out[j], 128 - row[1 + j]);
        sum += 128 - row[1 + j];
    }
    CHECK_EQ(turned, sum);
    CHECK_EQ(out[n], 77);
}

TEST(turned_rows_are_queries_of_products)
{
    static const size_t sizes[] = {64, 128, 192, 1984, N_MAX};
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t i = 0; level && i < COUNT_OF(sizes); i++)
            for (int fill = 0; fill < FILLS; fill++)
                check_turned(level, sizes[i], (enum fill)fill);
    }
}

TEST(the_least_of_each_lane_is_found)
{
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t count = 16; level && count < 100; count++) {
            int32_t values[100], least[16];
            for (size_t i = 0; i < count; i++)
                values[i] = (int32_t)check_random();
            level->int8->least(values, count, least);
            for (size_t j = 0; j < 16; j++) {
                int32_t want = values[j];
                for (size_t i = j; i < count / 16 * 16; i += 16)
                    want = MIN(want, values[i]);
                CHECK_EQ(least[j], want);
            }
        }
    }
}

static void check_tile(const struct kernels *level, bool difference, size_t n, size_t rows,
                       size_t columns, enum fill fill)
{
    size_t stride = columns + 3;
    uint8_t *block = malloc((rows + columns) * n + 1);
    const uint8_t **a = malloc(rows * sizeof *a), **b = malloc(columns * sizeof *b);
    int32_t *out = malloc(rows * stride * sizeof *out);
    void *room = mem_alloc_aligned(int8_room(columns, n), 64);
    struct int8_panels panels;
    fill_codes(block, (rows + columns) * n + 1, fill, difference);
    for (size_t r = 0; r < rows; r++)
        a[r] = block + 1 + r * n;
    for (size_t c = 0; c < columns; c++)
        b[c] = block + 1 + (rows + c) * n;
    memset(out, 0x55, rows * stride * sizeof *out);
    int8_pack(level->int8, difference, b, columns, n, room, &panels);
    size_t first = columns > 16 && rows % 2 ? 16 : 0;
    level->int8->tile(&panels, first, a, rows, out, stride);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < stride; c++) {
            check_note("%s, difference %d, n = %zu, [%zu, %zu] of %zu x %zu", level->name,
                       difference, n, r, c, rows, columns);
            int64_t want = 0;
            for (size_t i = 0; c < columns - first && i < n; i++)
                want += difference ? (a[r][i] - b[first + c][i]) * (a[r][i] - b[first + c][i])
                                   : (a[r][i] - 128) * (128 - b[first + c][i]);
            CHECK_EQ(out[r * stride + c], c < columns - first ? want : 0x55555555);
        }
    }
    mem_free_aligned(room);
    free(block);
    free(a);
    free(b);
    free(out);
}

TEST(tiles_of_every_shape_hold_every_pair)
{
    static const size_t sizes[] = {1, 2, 5, 6, 7, 12, 15, 16, 17, 31, 48, 63, 64, 65, 81};
    for (size_t l = 0; l < COUNT_OF(level_names); l++) {
        const struct kernels *level = kernels_find(level_names[l]);
        for (size_t r = 0; level && r < COUNT_OF(sizes); r++)
            for (size_t c = 0; c < COUNT_OF(sizes); c++)
                check_tile(level, (r + c) % 2, 64 * (1 + (r * 7 + c) % 3), sizes[r], sizes[c],
                           (enum fill)((r + c / 2) % FILLS));
    }
}

TEST(tiles_of_the_longest_rows_do_not_overflow)
{
    for (size_t l = 0; l < COUNT_OF(level_names); l++)
        for (int shape = 0; kernels_find(level_names[l]) && shape < 2 * FILLS; shape++)
            check_tile(kernels_find(level_names[l]), shape % 2, N_MAX, 3, 5, (enum fill)(shape / 2));
}

TEST(values_within_their_limits_are_found)
{
    int32_t values[100], limits[100];
    uint32_t out[100];
    for (int round = 0; round < 300; round++) {
        size_t n = (size_t)(check_random() % 101);
        for (size_t i = 0; i < n; i++) {
            values[i] = (int32_t)check_random() >> check_random() % 32;
            limits[i] = check_random() % 3 ? (int32_t)((uint32_t)values[i] + 1 - (uint32_t)(check_random() % 3)) : INT32_MIN;
        }
        for (size_t l = 0; l < COUNT_OF(level_names); l++) {
            const struct kernels *level = kernels_find(level_names[l]);
            size_t want = 0, found = level ? level->int8->within(values, limits, n, out) : 0;
            for (size_t i = 0; level && i < n; i++)
                if (values[i] <= limits[i])
                    CHECK_EQ(out[want++], i);
            CHECK_EQ(found, want);
        }
    }
}
