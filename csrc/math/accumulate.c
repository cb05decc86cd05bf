/* accumulate.c - see accumulate.h. Adding is bound by loads and stores of single sums, which no instruction
 * set scatters faster at 16 bits; the loops over all sums are plain, so that compilers take as many at a
 * time as the machine's baseline has room for. */
#include "base/internal.h"

#include "math/accumulate.h"

void accumulate_add(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
                    uint32_t factor)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4) { /* no id is twice in a list: four sums do not depend on each other */
        uint32_t a = (codes[i] * factor >> 8) + 1, b = (codes[i + 1] * factor >> 8) + 1;
        uint32_t c = (codes[i + 2] * factor >> 8) + 1, d = (codes[i + 3] * factor >> 8) + 1;
        sums[ids[i]] = (uint16_t)(sums[ids[i]] + a);
        sums[ids[i + 1]] = (uint16_t)(sums[ids[i + 1]] + b);
        sums[ids[i + 2]] = (uint16_t)(sums[ids[i + 2]] + c);
        sums[ids[i + 3]] = (uint16_t)(sums[ids[i + 3]] + d);
    }
    for (; i < count; i++)
        sums[ids[i]] = (uint16_t)(sums[ids[i]] + (codes[i] * factor >> 8) + 1);
}

/* Written for one block, so that its counter fits 16 bits and the compiler can use as many lanes. */
static uint16_t count_block(const uint16_t *sums, uint16_t limit)
{
    uint16_t count = 0;
    for (size_t i = 0; i < ACCUMULATE_BLOCK; i++)
        count = (uint16_t)(count + (sums[i] >= limit));
    return count;
}

size_t accumulate_count(const uint16_t *sums, size_t count, uint16_t limit)
{
    size_t total = 0;
    for (size_t at = 0; at < count; at += ACCUMULATE_BLOCK)
        total += count_block(sums + at, limit);
    return total;
}

size_t accumulate_collect(const uint16_t *sums, size_t count, uint16_t limit, uint32_t *out,
                          size_t room)
{
    size_t found = 0;
    for (size_t at = 0; at < count; at += ACCUMULATE_BLOCK) {
        if (count_block(sums + at, limit) == 0)
            continue;
        for (size_t i = at; i < at + ACCUMULATE_BLOCK && found < room; i++)
            if (sums[i] >= limit)
                out[found++] = (uint32_t)sums[i] << 16 | (uint32_t)i;
    }
    return found;
}

void accumulate_maxima(const uint16_t *sums, size_t count, uint16_t *out)
{
    for (size_t at = 0; at < count; at += ACCUMULATE_BLOCK) {
        uint16_t max = 0;
        for (size_t i = 0; i < ACCUMULATE_BLOCK; i++)
            max = MAX(max, sums[at + i]);
        out[at / ACCUMULATE_BLOCK] = max;
    }
}
