/* The loops over strings of bits, written once over steps of some bytes. Included by a .c file per
 * level, which first defines
 *
 *   KERNEL, INLINE, TABLE
 *   WORD, WORD_BYTES             a register and its bytes, 64 at most
 *   word_load(p)
 *   word_and(a, b), word_or(a, b), word_xor(a, b)
 *   SUM, sum_zero(), sum_add(sum, word), sum_of(sum)    counts the bits set, uint64_t
 *
 * and, if it has bytes_equal, words_within and doubles_within of its own, OWN_CONDITIONS; if it has
 * word_load_tail, OWN_TAIL; if it has hamming_rows, OWN_ROWS. */

#ifndef OWN_TAIL
/* The last bytes, zeros behind them. */
INLINE WORD word_load_tail(const uint8_t *p, size_t n)
{
    uint8_t padded[64] = {0};
    memcpy(padded, p, n);
    return word_load(padded);
}
#endif

KERNEL uint64_t hamming(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;
    SUM sum = sum_zero();
    size_t i = 0;
    for (; i + WORD_BYTES <= bytes; i += WORD_BYTES)
        sum = sum_add(sum, word_xor(word_load(x + i), word_load(y + i)));
    if (i < bytes)
        sum = sum_add(sum, word_xor(word_load_tail(x + i, bytes - i), word_load_tail(y + i, bytes - i)));
    return sum_of(sum);
}

KERNEL uint64_t overlap(const void *a, const void *b, size_t bytes, uint64_t *either)
{
    const uint8_t *x = a, *y = b;
    SUM both = sum_zero(), any = sum_zero();
    for (size_t i = 0; i < bytes; i += WORD_BYTES) {
        bool whole = i + WORD_BYTES <= bytes;
        WORD u = whole ? word_load(x + i) : word_load_tail(x + i, bytes - i);
        WORD v = whole ? word_load(y + i) : word_load_tail(y + i, bytes - i);
        both = sum_add(both, word_and(u, v));
        any = sum_add(any, word_or(u, v));
    }
    *either = sum_of(any);
    return sum_of(both);
}

#ifndef OWN_ROWS
KERNEL void hamming_rows(const void *query, const void *rows, size_t stride, size_t count, size_t bytes,
                         uint32_t *out)
{
    for (size_t r = 0; r < count; r++)
        out[r] = (uint32_t)hamming(query, (const uint8_t *)rows + r * stride, bytes);
}
#endif

#ifndef OWN_CONDITIONS
/* A bit for each of 64 bytes that are 0 or 1: the product brings eight of them side by side. */
INLINE uint64_t bits_of(const uint8_t hits[64])
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < 64; i += 8) {
        uint64_t eight = 0;
        for (uint32_t j = 0; j < 8; j++)
            eight |= (uint64_t)hits[i + j] << 8 * j;
        bits |= (eight * 0x0102040810204080u >> 56) << i;
    }
    return bits;
}

KERNEL uint64_t bytes_equal(const uint8_t *bytes, uint8_t value)
{
    uint8_t hits[64];
    for (uint32_t i = 0; i < 64; i++)
        hits[i] = bytes[i] == value;
    return bits_of(hits);
}

KERNEL uint64_t words_within(const uint64_t *words, uint64_t low, uint64_t span)
{
    uint8_t hits[64];
    for (uint32_t i = 0; i < 64; i++)
        hits[i] = words[i] - low <= span;
    return bits_of(hits);
}

KERNEL uint64_t doubles_within(const uint64_t *words, double low, double high)
{
    uint8_t hits[64];
    for (uint32_t i = 0; i < 64; i++) {
        double x;
        memcpy(&x, &words[i], sizeof x);
        hits[i] = (uint8_t)((int)(x >= low) & (int)(x <= high));
    }
    return bits_of(hits);
}
#endif

const struct bits_kernels TABLE = {hamming,      overlap,      hamming_rows,
                                   bytes_equal, words_within, doubles_within};
