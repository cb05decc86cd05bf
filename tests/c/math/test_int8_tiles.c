/* The loops over tile registers, on a model of the registers: this shows that they multiply what they should
 * on every machine. Where the processor has the registers, test_int8 runs the same loops on them. */
#include "check.h"

#include "base/mem.h"
#include "math/distance.h"
#include "math/int8.h"

static union {
    uint8_t bytes[16][64];
    int8_t signs[16][64];
    int32_t sums[16][16];
} tiles[8];
static bool taken;

static void tiles_begin(void)
{
    CHECK(!taken);
    memset(tiles, 0x99, sizeof tiles); /* whatever is in them then must not count */
    taken = true;
}

static void tile_load(int t, const void *from, size_t stride)
{
    CHECK(taken);
    for (size_t i = 0; i < 16; i++)
        memcpy(tiles[t].bytes[i], (const uint8_t *)from + i * stride, 64);
}

static void tile_store(int t, void *to, size_t stride)
{
    CHECK(taken);
    for (size_t i = 0; i < 16; i++)
        memcpy((uint8_t *)to + i * stride, tiles[t].bytes[i], 64);
}

/* TDPBUSD: sums wrap around. */
static void tile_product(int s, int a, int b)
{
    CHECK(taken);
    for (size_t i = 0; i < 16; i++)
        for (size_t k = 0; k < 16; k++)
            for (size_t j = 0; j < 16; j++)
                for (size_t l = 0; l < 4; l++)
                    tiles[s].sums[i][j] = (int32_t)((uint32_t)tiles[s].sums[i][j] +
                                                    (uint32_t)(tiles[a].bytes[i][4 * k + l] *
                                                               tiles[b].signs[k][4 * j + l]));
}

static int32_t squares(const uint8_t *row, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += row[i] * row[i];
    return sum;
}

static void finish(const int32_t *sums, int shift, int32_t add, const int32_t *others, int32_t *out,
                   size_t columns)
{
    CHECK(columns >= 1 && columns <= 16);
    for (size_t i = 0; i < columns; i++)
        out[i] = (int32_t)(((uint32_t)sums[i] << shift) + (uint32_t)add + (uint32_t)others[i]);
}

#define TILES_KERNEL static
#define TILES_BEGIN() tiles_begin()
#define TILES_END() (taken = false)
#define TILE_ZERO(t) memset(&tiles[t], 0, sizeof tiles[t])
#define TILE_LOAD(t, from, stride) tile_load(t, from, stride)
#define TILE_PRODUCT(s, a, b) tile_product(s, a, b)
#define TILE_STORE(t, to, stride) tile_store(t, to, stride)
#define TILES_SQUARES(row, n) squares(row, n)
#define TILES_FINISH(sums, shift, add, others, out, columns) finish(sums, shift, add, others, out, columns)
#include "math/int8_tiles.h"

/* The panels of a level whose rows are unsigned: those that tiles are given. */
static const struct int8_kernels unsigned_rows = {.unsigned_rows = true};

static uint8_t code(bool difference, int fill)
{
    uint64_t random = check_random();
    if (fill == 0)
        return difference ? 127 : 255;
    return (uint8_t)(difference ? random % 128 : 1 + random % 255);
}

static void check_product(bool difference, size_t n, size_t rows, size_t columns, int fill)
{
    size_t stride = columns + 3, first = columns > 16 && rows % 2 ? 16 : 0;
    uint8_t *block = malloc((rows + columns) * n + 1);
    const uint8_t **a = malloc(rows * sizeof *a), **b = malloc(columns * sizeof *b);
    int32_t *out = malloc(rows * stride * sizeof *out);
    void *room = mem_alloc_aligned(int8_room(columns, n), 64);
    struct int8_panels panels;
    for (size_t i = 0; i < (rows + columns) * n + 1; i++)
        block[i] = code(difference, fill);
    for (size_t r = 0; r < rows; r++)
        a[r] = block + 1 + (rows - 1 - r) * n;
    for (size_t c = 0; c < columns; c++)
        b[c] = block + 1 + (rows + c) * n;
    memset(out, 0x55, rows * stride * sizeof *out);
    int8_pack(&unsigned_rows, difference, b, columns, n, room, &panels);
    tiles_product(&panels, first, a, rows, out, stride);
    CHECK(!taken);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < stride; c++) {
            check_note("difference %d, n = %zu, [%zu, %zu] of %zu x %zu", difference, n, r, c, rows,
                       columns);
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
    static const size_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 65};
    for (size_t r = 0; r < COUNT_OF(sizes); r++)
        for (size_t c = 0; c < COUNT_OF(sizes); c++)
            check_product((r + c) % 2, 64 * (1 + (r * 7 + c) % 3), sizes[r], sizes[c],
                          (int)(r + c / 2) % 3);
}

TEST(rows_longer_than_a_part_are_added_up)
{
    static const size_t lengths[] = {TILES_PART - 64, TILES_PART, TILES_PART + 64,
                                     2 * TILES_PART + 128};
    for (size_t i = 0; i < 2 * COUNT_OF(lengths); i++)
        check_product(i % 2, lengths[i / 2], 35, 37, 1);
}

TEST(the_longest_rows_do_not_overflow)
{
    for (int shape = 0; shape < 4; shape++)
        check_product(shape % 2, 65536, 3, 2, shape / 2);
}
