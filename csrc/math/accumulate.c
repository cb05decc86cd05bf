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

/* ---------------------------------------------------------------- bounds of groups */

/* What accumulate_add adds for this code, 0 for none. The factor's two bytes apart, so that no product needs
 * more than the 16 bits of a lane. */
static inline uint16_t step(uint8_t code, uint16_t high, uint16_t low)
{
    uint16_t whole = (uint16_t)(code * high), part = (uint16_t)((uint16_t)(code * low) >> 8);
    return (uint16_t)(whole + part + (code != 0));
}

static inline __attribute__((always_inline)) void raise_all(uint16_t *bounds, const uint8_t *maxima,
                                                           size_t groups, uint32_t factor)
{
    uint16_t high = (uint16_t)(factor >> 8), low = factor & 0xff;
    for (size_t i = 0; i < groups; i++)
        bounds[i] = (uint16_t)(bounds[i] + step(maxima[i], high, low));
}

static inline __attribute__((always_inline)) void lower_all(uint16_t *bounds, const uint8_t *maxima,
                                                           size_t groups, uint32_t factor)
{
    uint16_t high = (uint16_t)(factor >> 8), low = factor & 0xff;
    for (size_t i = 0; i < groups; i++)
        bounds[i] = (uint16_t)(bounds[i] - step(maxima[i], high, low));
}

#if defined(__x86_64__)
/* The same loops with twice as many lanes, where the machine has them. */
__attribute__((target("avx2"))) static void raise_avx2(uint16_t *bounds, const uint8_t *maxima,
                                                       size_t groups, uint32_t factor)
{
    raise_all(bounds, maxima, groups, factor);
}

__attribute__((target("avx2"))) static void lower_avx2(uint16_t *bounds, const uint8_t *maxima,
                                                       size_t groups, uint32_t factor)
{
    lower_all(bounds, maxima, groups, factor);
}
#define WIDER(name, fallback) (__builtin_cpu_supports("avx2") ? (name) : (fallback))
#else
#define WIDER(name, fallback) (fallback)
#endif

static void raise_any(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor)
{
    raise_all(bounds, maxima, groups, factor);
}

static void lower_any(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor)
{
    lower_all(bounds, maxima, groups, factor);
}

void accumulate_raise(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor)
{
    WIDER(raise_avx2, raise_any)(bounds, maxima, groups, factor);
}

void accumulate_lower(uint16_t *bounds, const uint8_t *maxima, size_t groups, uint32_t factor)
{
    WIDER(lower_avx2, lower_any)(bounds, maxima, groups, factor);
}

/* The sums of a group side by side: a register of every machine that this is built for. */
typedef uint16_t group __attribute__((vector_size(2 * ACCUMULATE_GROUP)));

static inline group load_group(const uint16_t *sums)
{
    group g;
    memcpy(&g, sums, sizeof g);
    return g;
}

size_t accumulate_collect_bounded(const uint16_t *sums, const uint16_t *bounds, size_t count,
                                  uint16_t limit, uint32_t *out, size_t room)
{
    size_t found = 0;
    for (size_t g = 0; g < count / ACCUMULATE_GROUP; g++) {
        group both = load_group(sums + g * ACCUMULATE_GROUP) + bounds[g];
        group reach = (group)(both >= limit);
        uint64_t any[sizeof reach / sizeof(uint64_t)];
        memcpy(any, &reach, sizeof reach);
        if (LIKELY(!(any[0] | any[1])))
            continue;
        for (size_t i = 0; i < ACCUMULATE_GROUP && found < room; i++)
            if (reach[i])
                out[found++] = (uint32_t)both[i] << 16 | (uint32_t)(g * ACCUMULATE_GROUP + i);
    }
    return found;
}
