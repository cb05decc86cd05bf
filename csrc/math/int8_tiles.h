/* The matrix product of 8-bit codes by tile registers (AMX: 16 rows of 64 bytes each), written over what the
 * processor does with them, so that the same loops run on a model of the registers where there are none
 * (tests/c/math/test_int8_tiles.c). Before it is included:
 *
 *   TILES_KERNEL                 how functions are declared
 *   TILES_BEGIN(), TILES_END()   take and give back the registers; all have 16 rows of 64 bytes
 *   TILE_ZERO(t)                 register t, a constant, is 16 x 16 sums of 0
 *   TILE_LOAD(t, from, stride)   16 rows of 64 bytes, `stride` bytes apart
 *   TILE_PRODUCT(s, a, b)        sums s[i][j] += a[i][4k..4k+3] * b[k][4j..4j+3], a unsigned, b signed
 *   TILE_STORE(t, to, stride)    the sums, as int32_t
 *   TILES_SQUARES(row, n)        the sum of a row's squares
 *   TILES_FINISH(sums, shift, add, others, out, columns)   out[i] = (sums[i] << shift) + add + others[i] of
 *                                that many columns, up to 16; others may be out, and is not read beyond them
 *
 * The bytes of a panel (int8.h) are what a product takes as `b`: row k of step i holds bytes 4k..4k+3 of 16
 * columns. Rows are gathered, 32 at a time and TILES_PART bytes of each, so that a panel is read once for 32
 * rows; four registers hold their sums with two panels, two the rows, two the panels. Sixteen rows or fewer
 * leave out the half that would be of none. The products take less time than what is done with their sums,
 * unless that is done sixteen at a time, too. (Intel, Software Developer's Manual 1, chapter 18: tiles;
 * 2A-2D: TDPBUSD.) */

#define TILES_ROWS 32u
#define TILES_HALF 16u
#define TILES_COLUMNS 32u
#define TILES_PART 1024u /* a multiple of INT8_STEP */

/* Some rows, of their bytes some. */
struct tiles_part {
    uint8_t bytes[TILES_ROWS * TILES_PART]; /* row after row, `len` bytes each */
    int32_t squares[TILES_ROWS];            /* of the whole rows; 0 under products */
    size_t rows, from, len;
};

TILES_KERNEL void tiles_gather(struct tiles_part *part, const uint8_t *const *rows, size_t n)
{
    part->len = MIN((size_t)TILES_PART, n - part->from);
    size_t count = part->rows > TILES_HALF ? TILES_ROWS : TILES_HALF;
    for (size_t r = 0; r < count; r++) { /* the last row repeated */
        const uint8_t *row = rows[MIN(r, part->rows - 1)] + part->from;
        for (size_t i = 0; i < part->len; i += INT8_STEP)
            memcpy(part->bytes + r * part->len + i, row + i, INT8_STEP);
    }
}

/* The sums of 16 rows with two panels; a second panel that does not exist is the first again. */
TILES_KERNEL void tiles_multiply_half(const struct tiles_part *part, const int8_t *first,
                                      const int8_t *second, int32_t sums[TILES_ROWS][TILES_COLUMNS])
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    for (size_t i = 0; i < part->len; i += INT8_STEP) {
        TILE_LOAD(4, part->bytes + i, part->len);
        TILE_LOAD(6, first + i * INT8_PANEL, INT8_STEP);
        TILE_LOAD(7, second + i * INT8_PANEL, INT8_STEP);
        TILE_PRODUCT(0, 4, 6);
        TILE_PRODUCT(1, 4, 7);
    }
    TILE_STORE(0, &sums[0][0], sizeof sums[0]);
    TILE_STORE(1, &sums[0][INT8_PANEL], sizeof sums[0]);
}

/* The same of 32 rows. */
TILES_KERNEL void tiles_multiply(const struct tiles_part *part, const int8_t *first,
                                 const int8_t *second, int32_t sums[TILES_ROWS][TILES_COLUMNS])
{
    const uint8_t *rows = part->bytes;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (size_t i = 0; i < part->len; i += INT8_STEP) {
        TILE_LOAD(4, rows + i, part->len);
        TILE_LOAD(5, rows + 16 * part->len + i, part->len);
        TILE_LOAD(6, first + i * INT8_PANEL, INT8_STEP);
        TILE_LOAD(7, second + i * INT8_PANEL, INT8_STEP);
        TILE_PRODUCT(0, 4, 6);
        TILE_PRODUCT(1, 4, 7);
        TILE_PRODUCT(2, 5, 6);
        TILE_PRODUCT(3, 5, 7);
    }
    TILE_STORE(0, &sums[0][0], sizeof sums[0]);
    TILE_STORE(1, &sums[0][INT8_PANEL], sizeof sums[0]);
    TILE_STORE(2, &sums[16][0], sizeof sums[0]);
    TILE_STORE(3, &sums[16][INT8_PANEL], sizeof sums[0]);
}

/* What the first part of the rows writes, later ones add to. A difference is
 * |row|^2 + |column|^2 - 2 * product, and the panels' columns are negated. */
TILES_KERNEL void tiles_finish(const struct int8_panels *panels, size_t column, const struct tiles_part *part,
                         int32_t sums[TILES_ROWS][TILES_COLUMNS], int32_t *out, size_t out_stride)
{
    int shift = panels->difference ? 1 : 0;
    for (size_t first = 0; first < TILES_COLUMNS && column + first < panels->columns; first += INT8_PANEL) {
        size_t columns = MIN((size_t)INT8_PANEL, panels->columns - column - first);
        const int32_t *bases = panels->bases + column + first;
        for (size_t r = 0; r < part->rows; r++) {
            int32_t *to = out + r * out_stride + first;
            if (part->from == 0)
                TILES_FINISH(sums[r] + first, shift, part->squares[r], bases, to, columns);
            else
                TILES_FINISH(sums[r] + first, shift, 0, to, to, columns);
        }
    }
}

TILES_KERNEL void tiles_part_product(const struct int8_panels *panels, size_t first,
                                     const struct tiles_part *part, int32_t *out, size_t out_stride)
{
    int32_t sums[TILES_ROWS][TILES_COLUMNS];
    for (size_t c = first; c < panels->columns; c += TILES_COLUMNS) {
        const int8_t *panel = panels->bytes + c * panels->n + part->from * INT8_PANEL;
        bool two = c + INT8_PANEL < panels->columns;
        const int8_t *second = two ? panel + INT8_PANEL * panels->n : panel;
        if (part->rows > TILES_HALF)
            tiles_multiply(part, panel, second, sums);
        else
            tiles_multiply_half(part, panel, second, sums);
        tiles_finish(panels, c, part, sums, out + (c - first), out_stride);
    }
}

/* As `tile` of int8.h. */
TILES_KERNEL void tiles_product(const struct int8_panels *panels, size_t first,
                                const uint8_t *const *rows, size_t row_count, int32_t *out,
                                size_t out_stride)
{
    struct tiles_part part;
    TILES_BEGIN();
    for (size_t r = 0; r < row_count; r += TILES_ROWS) {
        part.rows = MIN(row_count - r, (size_t)TILES_ROWS);
        for (size_t i = 0; i < part.rows; i++)
            part.squares[i] = panels->difference ? TILES_SQUARES(rows[r + i], panels->n) : 0;
        for (part.from = 0; part.from < panels->n; part.from += part.len) {
            tiles_gather(&part, rows + r, panels->n);
            tiles_part_product(panels, first, &part, out + r * out_stride, out_stride);
        }
    }
    TILES_END();
}
