/* The scalar level of the 8-bit kernels, which is their definition, and the packing of columns, which
 * all levels share. */
#include "base/internal.h"

#include "math/int8.h"

/* ---------------------------------------------------------------- packing */

size_t int8_room(size_t columns, size_t n)
{
    size_t panels = (columns + INT8_PANEL - 1) / INT8_PANEL;
    return panels * INT8_PANEL * (n + sizeof(int32_t));
}

/* The column of some bytes of a row (a loop that compilers make vectors of), and what its base adds up:
 * its elements or, under `difference`, their squares. */
static int32_t column_of(bool difference, const uint8_t *row, int8_t column[INT8_STEP])
{
    int32_t sum = 0, squares = 0;
    uint8_t zero = difference ? 0 : 128;
    for (size_t i = 0; i < INT8_STEP; i++) {
        int8_t element = (int8_t)(uint8_t)(zero - row[i]);
        column[i] = element;
        sum += element;
        squares += (int16_t)(element * element);
    }
    return difference ? squares : sum;
}

/* A row goes into column `c` of a panel, four bytes together. */
static int32_t pack_column(bool difference, const uint8_t *row, size_t n, size_t c, int8_t *panel)
{
    int32_t sum = 0;
    int8_t column[INT8_STEP];
    for (size_t i = 0; i < n; i += INT8_STEP) {
        sum += column_of(difference, row + i, column);
        for (size_t b = 0; b < INT8_STEP; b += 4, panel += 4 * INT8_PANEL)
            memcpy(panel + 4 * c, column + b, 4);
    }
    return sum;
}

static void pack_some(bool difference, const uint8_t *const *rows, size_t used, size_t n,
                      int8_t *panel, int32_t *sums)
{
    for (size_t c = 0; c < used; c++)
        sums[c] = pack_column(difference, rows[c], n, c, panel);
}

void int8_pack(const struct int8_kernels *kernels, bool difference, const uint8_t *const *rows,
               size_t columns, size_t n, void *room, struct int8_panels *out)
{
    size_t padded = (columns + INT8_PANEL - 1) / INT8_PANEL * INT8_PANEL;
    int8_t *bytes = room;
    int32_t *bases = (int32_t *)(void *)(bytes + padded * n);
    if (padded > columns) {
        memset(bytes + (padded - INT8_PANEL) * n, 0, INT8_PANEL * n);
        memset(bases + padded - INT8_PANEL, 0, INT8_PANEL * sizeof *bases);
    }
    for (size_t c = 0; c < columns; c += INT8_PANEL) {
        size_t used = MIN(columns - c, (size_t)INT8_PANEL);
        if (kernels->pack && used == INT8_PANEL)
            kernels->pack(difference, rows + c, n, bytes + c * n, bases + c);
        else
            pack_some(difference, rows + c, used, n, bytes + c * n, bases + c);
        for (size_t i = c; !difference && i < c + used; i++)
            bases[i] = kernels->unsigned_rows ? -128 * bases[i] : 0;
    }
    *out = (struct int8_panels){bytes, bases, columns, n, difference};
}

/* ---------------------------------------------------------------- splitting */

void int8_split(bool difference, const uint8_t *elements, size_t at, size_t count, size_t n, uint8_t *out)
{
    for (size_t i = 0, each; i < count; i += 2 * each, elements += 2 * each) {
        uint8_t *upper = out + (at + i) / 2, *lower = upper + n / 2;
        each = MIN(count - i, 2 * INT8_STEP) / 2;
        for (size_t j = 0; j < each; j++) {
            uint8_t first = (uint8_t)(elements[j] << difference);
            uint8_t second = (uint8_t)(elements[each + j] << difference);
            upper[j] = (uint8_t)(first >> 4 | (second & 0xf0));
            lower[j] = (uint8_t)((first & 15) | second << 4);
        }
    }
}

/* ---------------------------------------------------------------- scalar */

#define KERNEL static
#define INLINE static inline
#define NAME(x) x
#define TABLE int8_scalar
#define UNSIGNED_ROWS true
#define STEP const void *
#define SUM int32_t
#define STEP_LOAD(p) (p)
#define SUM_ZERO() 0
#define SUM_PRODUCT(sum, row, step) sum_product(sum, row, step)
#define SUM_DIFFERENCE(sum, row, step) sum_difference(sum, row, step)
#define SUM_OF(sum) (sum)
#define TILE_ROWS 1
#define TILE_PANELS 1
#define ACC struct acc
#define WITHIN_16(values, limits) within_16(values, limits)
#define PACK NULL
#define TILE_BLOCK tile_block
#define ACC_FINISH acc_finish

struct acc {
    int32_t sums[INT8_PANEL];
};

static inline uint32_t within_16(const int32_t *values, const int32_t *limits)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 16; i++)
        bits |= (uint32_t)(values[i] <= limits[i]) << i;
    return bits;
}

static inline int32_t sum_product(int32_t sum, const uint8_t *row, const int8_t *step)
{
    for (size_t i = 0; i < INT8_STEP; i++)
        sum += row[i] * step[i];
    return sum;
}

static inline int32_t sum_difference(int32_t sum, const uint8_t *row, const uint8_t *step)
{
    for (size_t i = 0; i < INT8_STEP; i++)
        sum += (row[i] - step[i]) * (row[i] - step[i]);
    return sum;
}

static inline void tile_block(struct acc acc[TILE_ROWS][TILE_PANELS], const uint8_t *const *rows,
                              const int8_t *panels, size_t n, size_t used, bool difference)
{
    (void)used;
    (void)difference;
    acc[0][0] = (struct acc){{0}};
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < INT8_PANEL; c++)
            acc[0][0].sums[c] += rows[0][i] * panels[(i / 4 * INT8_PANEL + c) * 4 + i % 4];
}

static inline void acc_finish(struct acc acc, int shift, int32_t row_base, const int32_t *bases,
                              int32_t *out, size_t columns)
{
    for (size_t c = 0; c < MIN(columns, (size_t)INT8_PANEL); c++)
        out[c] = acc.sums[c] * (1 << shift) + row_base + bases[c];
}

#include "math/int8_loops.h"
