/* The loops over 8-bit codes, written once over steps of 64 bytes. Included by a .c file for each of
 * its levels, which first defines
 *
 *   KERNEL, INLINE              how functions of this level are declared
 *   NAME(x)                     the name of function x in this level
 *   TABLE                       the table to define
 *   UNSIGNED_ROWS               products leave the 128 of the rows to `base`
 *   STEP                        struct of 64 query bytes in registers
 *   STEP_LOAD(p), SUM, SUM_ZERO()
 *   SUM_PRODUCT(sum, row, step), SUM_DIFFERENCE(sum, row, step)
 *   SUM_OF(sum)                 int32_t
 *   UNITE(upper, lower, each, coarse, shift, out)
 *                               twice `each` elements, 64 or 32, from as many bytes of each half of a
 *                               split row, brought down by `shift` bits; may be left out
 *   SUMS_OF(sum, base, out)     out[r] = SUM_OF(sum[r]) + base for a GROUP; may be left out
 *
 * for the matrix product
 *
 *   TILE_ROWS, TILE_PANELS      rows and panels whose sums fit the registers
 *   ACC                         the sums of one row with the 16 columns of a panel
 *   TILE_BLOCK(acc, rows, panels, n, used, difference)
 *                               acc[r][p] for TILE_ROWS rows and `used` panels; the last two are
 *                               constants in each call
 *   WITHIN_16(values, limits)   a bit for each of 16 values[i] <= limits[i]
 *   PACK                        the level's own packing of 16 rows, or NULL
 *   ACC_FINISH(acc, shift, row_base, bases, out, columns)
 *                               out[c] = (sum << shift) + row_base + bases[c], 16 columns at most
 */

#define GROUP 4 /* rows that share the query's registers */
#define EACH_OF_GROUP(r) _Pragma("GCC unroll 4") for (size_t r = 0; r < GROUP; r++)
#ifndef SUMS_OF
#define SUMS_OF(sum, base, out) \
    EACH_OF_GROUP(r)            \
        (out)[r] = SUM_OF((sum)[r]) + (base)
#endif
#ifndef UNITE
#define UNITE(upper, lower, each, coarse, shift, out) NAME(unite_step)(upper, lower, each, coarse, shift, out)
#define UNITE_PLAINLY
#endif
#define MIDDLE 8 /* of the lower bits that a coarse comparison does not read */
#define FETCH_BYTES 1024 /* of a row ahead; the processor follows a longer one by itself */
#define APART_BYTES 128  /* rows from this size on are scanned in four places at once */

INLINE void NAME(fetch)(const uint8_t *row, size_t n)
{
    for (size_t i = 0; i < MIN(n, (size_t)FETCH_BYTES); i += 64)
        __builtin_prefetch(row + i);
}

#ifdef UNITE_PLAINLY
INLINE void NAME(unite_step)(const uint8_t *upper, const uint8_t *lower, size_t each, bool coarse,
                             int shift, uint8_t *out)
{
    for (size_t j = 0; j < each; j++) {
        uint8_t first = coarse ? MIDDLE : lower[j] & 15, second = coarse ? MIDDLE : lower[j] >> 4;
        out[j] = (uint8_t)(((upper[j] << 4 & 0xf0) | first) >> shift);
        out[each + j] = (uint8_t)(((upper[j] & 0xf0) | second) >> shift);
    }
}
#endif

#define PAIR (2 * INT8_STEP)

/* Elements [i, i + 128) of a split row of n bytes, or the last 64. */
INLINE void NAME(unite_at)(enum int8_form form, bool difference, const uint8_t *row, size_t i,
                           size_t n, size_t elements, uint8_t *room)
{
    UNITE(row + i / 2, row + n / 2 + i / 2, elements / 2, form == INT8_COARSE, difference ? 1 : 0, room);
}

/* Elements [i, i + 64) of a row, the last ones of a split row, where they stand or in `room`. */
INLINE const uint8_t *NAME(elements)(enum int8_form form, bool difference, const uint8_t *row,
                                     size_t i, size_t n, uint8_t room[INT8_STEP])
{
    if (form == INT8_PLAIN)
        return row + i;
    NAME(unite_at)(form, difference, row, i, n, INT8_STEP, room);
    return room;
}

INLINE void NAME(product_group)(enum int8_form form, const int8_t *query, int32_t base,
                                const uint8_t *const *rows, size_t n, int32_t *out)
{
    SUM sum[GROUP];
    uint8_t room[PAIR];
    size_t i = 0;
    EACH_OF_GROUP(r)
        sum[r] = SUM_ZERO();
    for (; form != INT8_PLAIN && i + PAIR <= n; i += PAIR) {
        STEP q = STEP_LOAD(query + i);
        STEP q2 = STEP_LOAD(query + i + INT8_STEP);
        EACH_OF_GROUP(r) {
            NAME(unite_at)(form, false, rows[r], i, n, PAIR, room);
            sum[r] = SUM_PRODUCT(sum[r], room, q);
            sum[r] = SUM_PRODUCT(sum[r], room + INT8_STEP, q2);
        }
    }
    for (; i < n; i += INT8_STEP) {
        STEP q = STEP_LOAD(query + i);
        EACH_OF_GROUP(r)
            sum[r] = SUM_PRODUCT(sum[r], NAME(elements)(form, false, rows[r], i, n, room), q);
    }
    SUMS_OF(sum, base, out);
}

INLINE int32_t NAME(product_one)(enum int8_form form, const int8_t *query, int32_t base,
                                 const uint8_t *row, size_t n)
{
    SUM sum = SUM_ZERO();
    uint8_t room[PAIR];
    size_t i = 0;
    for (; form != INT8_PLAIN && i + PAIR <= n; i += PAIR) {
        NAME(unite_at)(form, false, row, i, n, PAIR, room);
        sum = SUM_PRODUCT(sum, room, STEP_LOAD(query + i));
        sum = SUM_PRODUCT(sum, room + INT8_STEP, STEP_LOAD(query + i + INT8_STEP));
    }
    for (; i < n; i += INT8_STEP)
        sum = SUM_PRODUCT(sum, NAME(elements)(form, false, row, i, n, room), STEP_LOAD(query + i));
    return SUM_OF(sum) + base;
}

INLINE void NAME(difference_group)(enum int8_form form, const uint8_t *query,
                                   const uint8_t *const *rows, size_t n, int32_t *out)
{
    SUM sum[GROUP];
    uint8_t room[PAIR];
    size_t i = 0;
    EACH_OF_GROUP(r)
        sum[r] = SUM_ZERO();
    for (; form != INT8_PLAIN && i + PAIR <= n; i += PAIR) {
        STEP q = STEP_LOAD(query + i);
        STEP q2 = STEP_LOAD(query + i + INT8_STEP);
        EACH_OF_GROUP(r) {
            NAME(unite_at)(form, true, rows[r], i, n, PAIR, room);
            sum[r] = SUM_DIFFERENCE(sum[r], room, q);
            sum[r] = SUM_DIFFERENCE(sum[r], room + INT8_STEP, q2);
        }
    }
    for (; i < n; i += INT8_STEP) {
        STEP q = STEP_LOAD(query + i);
        EACH_OF_GROUP(r)
            sum[r] = SUM_DIFFERENCE(sum[r], NAME(elements)(form, true, rows[r], i, n, room), q);
    }
    SUMS_OF(sum, 0, out);
}

INLINE int32_t NAME(difference_one)(enum int8_form form, const uint8_t *query, const uint8_t *row,
                                    size_t n)
{
    SUM sum = SUM_ZERO();
    uint8_t room[PAIR];
    size_t i = 0;
    for (; form != INT8_PLAIN && i + PAIR <= n; i += PAIR) {
        NAME(unite_at)(form, true, row, i, n, PAIR, room);
        sum = SUM_DIFFERENCE(sum, room, STEP_LOAD(query + i));
        sum = SUM_DIFFERENCE(sum, room + INT8_STEP, STEP_LOAD(query + i + INT8_STEP));
    }
    for (; i < n; i += INT8_STEP)
        sum = SUM_DIFFERENCE(sum, NAME(elements)(form, true, row, i, n, room), STEP_LOAD(query + i));
    return SUM_OF(sum);
}

INLINE void NAME(product_many_of)(enum int8_form form, const int8_t *query, int32_t base,
                                  const uint8_t *const *rows, size_t count, size_t n, int32_t *out)
{
    if (!UNSIGNED_ROWS)
        base = 0;
    size_t r = 0;
    for (; r + GROUP <= count; r += GROUP) {
        for (size_t next = r + GROUP; next < MIN(r + 2 * GROUP, count); next++)
            NAME(fetch)(rows[next], form == INT8_COARSE ? n / 2 : n);
        NAME(product_group)(form, query, base, rows + r, n, out + r);
    }
    for (; r < count; r++)
        out[r] = NAME(product_one)(form, query, base, rows[r], n);
}

INLINE void NAME(difference_many_of)(enum int8_form form, const uint8_t *query,
                                     const uint8_t *const *rows, size_t count, size_t n,
                                     int32_t *out)
{
    size_t r = 0;
    for (; r + GROUP <= count; r += GROUP) {
        for (size_t next = r + GROUP; next < MIN(r + 2 * GROUP, count); next++)
            NAME(fetch)(rows[next], form == INT8_COARSE ? n / 2 : n);
        NAME(difference_group)(form, query, rows + r, n, out + r);
    }
    for (; r < count; r++)
        out[r] = NAME(difference_one)(form, query, rows[r], n);
}

/* Row i of each quarter of 4 * `quarter` rows. Memory that is followed in four places comes up to twice as
 * quickly as the same bytes in one; short rows of a group are one place as they are. The two halves of split
 * rows are more places than the processor follows by itself. */
INLINE void NAME(product_apart)(enum int8_form form, const int8_t *query, int32_t base,
                                const uint8_t *rows, size_t quarter, size_t n, int32_t *out)
{
    int32_t found[GROUP];
    for (size_t i = 0; i < quarter; i++) {
        const uint8_t *row = rows + i * n;
        const uint8_t *const group[GROUP] = {row, row + quarter * n, row + 2 * quarter * n,
                                             row + 3 * quarter * n};
        EACH_OF_GROUP(r)
            if (form != INT8_PLAIN && i + 2 < quarter)
                NAME(fetch)(group[r] + 2 * n, n);
        NAME(product_group)(form, query, base, group, n, found);
        EACH_OF_GROUP(r)
            out[r * quarter + i] = found[r];
    }
}

INLINE void NAME(product_scan_of)(enum int8_form form, const int8_t *query, int32_t base,
                                  const uint8_t *rows, size_t count, size_t n, int32_t *out)
{
    size_t r = 0;
    if (!UNSIGNED_ROWS)
        base = 0;
    if (n >= APART_BYTES) {
        NAME(product_apart)(form, query, base, rows, count / GROUP, n, out);
        r = count / GROUP * GROUP;
    }
    for (; r + GROUP <= count; r += GROUP) {
        const uint8_t *row = rows + r * n;
        const uint8_t *const group[GROUP] = {row, row + n, row + 2 * n, row + 3 * n};
        NAME(product_group)(form, query, base, group, n, out + r);
    }
    for (; r < count; r++)
        out[r] = NAME(product_one)(form, query, base, rows + r * n, n);
}

INLINE void NAME(difference_apart)(enum int8_form form, const uint8_t *query, const uint8_t *rows,
                                   size_t quarter, size_t n, int32_t *out)
{
    int32_t found[GROUP];
    for (size_t i = 0; i < quarter; i++) {
        const uint8_t *row = rows + i * n;
        const uint8_t *const group[GROUP] = {row, row + quarter * n, row + 2 * quarter * n,
                                             row + 3 * quarter * n};
        EACH_OF_GROUP(r)
            if (form != INT8_PLAIN && i + 2 < quarter)
                NAME(fetch)(group[r] + 2 * n, n);
        NAME(difference_group)(form, query, group, n, found);
        EACH_OF_GROUP(r)
            out[r * quarter + i] = found[r];
    }
}

INLINE void NAME(difference_scan_of)(enum int8_form form, const uint8_t *query, const uint8_t *rows,
                                     size_t count, size_t n, int32_t *out)
{
    size_t r = 0;
    if (n >= APART_BYTES) {
        NAME(difference_apart)(form, query, rows, count / GROUP, n, out);
        r = count / GROUP * GROUP;
    }
    for (; r + GROUP <= count; r += GROUP) {
        const uint8_t *row = rows + r * n;
        const uint8_t *const group[GROUP] = {row, row + n, row + 2 * n, row + 3 * n};
        NAME(difference_group)(form, query, group, n, out + r);
    }
    for (; r < count; r++)
        out[r] = NAME(difference_one)(form, query, rows + r * n, n);
}

/* ---------------------------------------------------------------- each form of a row */

#define KERNEL_MANY(name, form)                                                                          \
    KERNEL void NAME(product_##name)(const int8_t *query, int32_t base, const uint8_t *const *rows,     \
                                     size_t count, size_t n, int32_t *out)                               \
    {                                                                                                    \
        NAME(product_many_of)(form, query, base, rows, count, n, out);                                   \
    }                                                                                                    \
    KERNEL void NAME(difference_##name)(const uint8_t *query, const uint8_t *const *rows, size_t count, \
                                        size_t n, int32_t *out)                                          \
    {                                                                                                    \
        NAME(difference_many_of)(form, query, rows, count, n, out);                                      \
    }
#define KERNEL_SCAN(name, form)                                                                          \
    KERNEL void NAME(product_##name)(const int8_t *query, int32_t base, const uint8_t *rows,            \
                                     size_t count, size_t n, int32_t *out)                               \
    {                                                                                                    \
        NAME(product_scan_of)(form, query, base, rows, count, n, out);                                   \
    }                                                                                                    \
    KERNEL void NAME(difference_##name)(const uint8_t *query, const uint8_t *rows, size_t count,        \
                                        size_t n, int32_t *out)                                          \
    {                                                                                                    \
        NAME(difference_scan_of)(form, query, rows, count, n, out);                                      \
    }

KERNEL_MANY(many, INT8_PLAIN)
KERNEL_MANY(split_many, INT8_SPLIT)
KERNEL_MANY(coarse_many, INT8_COARSE)
KERNEL_SCAN(scan, INT8_PLAIN)
KERNEL_SCAN(split_scan, INT8_SPLIT)

KERNEL void NAME(unite)(bool difference, const uint8_t *row, size_t n, uint8_t *out)
{
    size_t i = 0;
    for (; i + PAIR <= n; i += PAIR)
        NAME(unite_at)(INT8_SPLIT, difference, row, i, n, PAIR, out + i);
    if (i < n)
        NAME(unite_at)(INT8_SPLIT, difference, row, i, n, INT8_STEP, out + i);
}

/* ---------------------------------------------------------------- matrix product */

/* Squares of a row: its differences from nothing. */
INLINE int32_t NAME(squares)(const uint8_t *row, size_t n)
{
    static const uint8_t nothing[INT8_STEP];
    SUM sum = SUM_ZERO();
    for (size_t i = 0; i < n; i += INT8_STEP)
        sum = SUM_DIFFERENCE(sum, row + i, STEP_LOAD(nothing));
    return SUM_OF(sum);
}

#define EACH_TILE_ROW(r) _Pragma("GCC unroll 8") for (size_t r = 0; r < TILE_ROWS; r++)
#define EACH_TILE_PANEL(p, used) _Pragma("GCC unroll 4") for (size_t p = 0; p < (used); p++)

/* TILE_ROWS rows with `used` panels from column `first` on; `row_count` rows are written. A difference
 * is |row|^2 + |column|^2 - 2 * product. */
INLINE void NAME(tile_group)(const struct int8_panels *panels, size_t first, size_t used,
                             const uint8_t *const *rows, size_t row_count, bool difference,
                             int32_t *out, size_t out_stride)
{
    ACC acc[TILE_ROWS][TILE_PANELS];
    TILE_BLOCK(acc, rows, panels->bytes + first * panels->n, panels->n, used, difference);
    EACH_TILE_ROW(r) {
        if (r >= row_count)
            break;
        int32_t row_base = difference ? NAME(squares)(rows[r], panels->n) : 0;
        EACH_TILE_PANEL(p, used) {
            size_t column = first + p * INT8_PANEL;
            ACC_FINISH(acc[r][p], difference ? 1 : 0, row_base, panels->bases + column,
                       out + r * out_stride + p * INT8_PANEL, panels->columns - column);
        }
    }
}

/* `used` panels with all rows: the panels stay in the cache while the rows pass. */
INLINE void NAME(tile_columns)(const struct int8_panels *panels, size_t first, size_t used,
                               const uint8_t *const *rows, size_t row_count, bool difference,
                               int32_t *out, size_t out_stride)
{
    for (size_t r = 0; r < row_count; r += TILE_ROWS) {
        const uint8_t *some[TILE_ROWS]; /* the last one repeated */
        for (size_t i = 0; i < TILE_ROWS; i++)
            some[i] = rows[MIN(r + i, row_count - 1)];
        NAME(tile_group)(panels, first, used, some, row_count - r, difference,
                         out + r * out_stride, out_stride);
    }
}

INLINE void NAME(tile_all)(const struct int8_panels *panels, size_t first,
                           const uint8_t *const *rows, size_t row_count, bool difference,
                           int32_t *out, size_t out_stride)
{
    size_t c = first, wide = TILE_PANELS * INT8_PANEL;
    for (; c + wide - INT8_PANEL < panels->columns; c += wide)
        NAME(tile_columns)(panels, c, TILE_PANELS, rows, row_count, difference, out + (c - first),
                           out_stride);
    for (; c < panels->columns; c += INT8_PANEL)
        NAME(tile_columns)(panels, c, 1, rows, row_count, difference, out + (c - first),
                           out_stride);
}

KERNEL void NAME(tile)(const struct int8_panels *panels, size_t first, const uint8_t *const *rows,
                       size_t row_count, int32_t *out, size_t out_stride)
{
    if (panels->difference)
        NAME(tile_all)(panels, first, rows, row_count, true, out, out_stride);
    else
        NAME(tile_all)(panels, first, rows, row_count, false, out, out_stride);
}

KERNEL size_t NAME(within)(const int32_t *values, const int32_t *limits, size_t count, uint32_t *out)
{
    size_t found = 0, i = 0;
    for (; i + 16 <= count; i += 16)
        for (uint32_t bits = WITHIN_16(values + i, limits + i); UNLIKELY(bits); bits &= bits - 1)
            out[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(bits);
    for (; i < count; i++)
        if (values[i] <= limits[i])
            out[found++] = (uint32_t)i;
    return found;
}

/* Loops that compilers make vectors of, for the level's instruction set. */
KERNEL int32_t NAME(turn)(const uint8_t *row, size_t n, int8_t *out)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i += INT8_STEP) {
        int16_t part = 0; /* of 64 elements up to 128 */
        for (size_t j = i; j < i + INT8_STEP; j++) {
            out[j] = (int8_t)(uint8_t)(128 - row[j]);
            part = (int16_t)(part + out[j]);
        }
        sum += part;
    }
    return sum;
}

KERNEL void NAME(least)(const int32_t *values, size_t count, int32_t out[16])
{
    int32_t lanes[16];
    memcpy(lanes, values, sizeof lanes);
    for (size_t i = 16; i + 16 <= count; i += 16)
        for (size_t j = 0; j < 16; j++)
            lanes[j] = MIN(lanes[j], values[i + j]);
    memcpy(out, lanes, sizeof lanes);
}

const struct int8_kernels TABLE = {UNSIGNED_ROWS,      NAME(product_many),    NAME(difference_many),
                                   NAME(product_scan), NAME(difference_scan), NAME(tile),
                                   NAME(product_split_many),  NAME(difference_split_many),
                                   NAME(product_split_scan),  NAME(difference_split_scan),
                                   NAME(product_coarse_many), NAME(difference_coarse_many),
                                   NAME(unite),
                                   NAME(within),       NAME(turn),            NAME(least),
                                   PACK};

#undef GROUP
#undef EACH_OF_GROUP
#undef FETCH_BYTES
#undef APART_BYTES
#undef SUMS_OF
#undef KERNEL_MANY
#undef KERNEL_SCAN
#undef MIDDLE
#undef PAIR
#ifdef UNITE_PLAINLY
#undef UNITE
#undef UNITE_PLAINLY
#endif
#undef EACH_TILE_ROW
#undef EACH_TILE_PANEL
