/* accumulate.c - see accumulate.h: the plain level, and which level is used. Adding is bound by loads and
 * stores of single sums, which no instruction set scatters at 16 bits; the other loops are written so that
 * compilers take as many sums at a time as the machine's baseline has room for. */
#include "base/internal.h"

#include "math/accumulate.h"
#include "math/distance.h"

static void add(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
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
    accumulate_add_rest(sums, ids + i, codes + i, count - i, factor);
}

static void maxima(const uint16_t *sums, size_t count, size_t block, uint16_t *out)
{
    for (size_t at = 0; at < count;) {
        uint16_t max = 0;
        for (size_t end = MIN(count, at + block); at < end; at++)
            max = MAX(max, sums[at]);
        *out++ = max;
    }
}

/* What a code adds, 0 for none. As a product of 16 bits by 16 whose upper half is taken: an instruction
 * that every machine has. */
static inline uint16_t step(uint8_t code, uint16_t factor)
{
    return (uint16_t)(((uint32_t)(uint16_t)(code << 8) * factor >> 16) + (code != 0));
}

static void raise_bounds(uint16_t *bounds, const uint8_t *largest, size_t groups, uint32_t factor)
{
    for (size_t i = 0; i < groups; i++)
        bounds[i] = (uint16_t)(bounds[i] + step(largest[i], (uint16_t)factor));
}

static void lower_bounds(uint16_t *bounds, const uint8_t *largest, size_t groups, uint32_t factor)
{
    for (size_t i = 0; i < groups; i++)
        bounds[i] = (uint16_t)(bounds[i] - step(largest[i], (uint16_t)factor));
}

/* The sums of a group side by side: a register of every machine that this is built for. */
typedef uint16_t group __attribute__((vector_size(2 * ACCUMULATE_GROUP)));

static inline group load_group(const uint16_t *sums)
{
    group g;
    memcpy(&g, sums, sizeof g);
    return g;
}

static size_t collect(const uint16_t *sums, const uint16_t *bounds, size_t count, uint16_t limit,
                      uint32_t *out, size_t room)
{
    size_t found = 0;
    for (size_t g = 0; g < count / ACCUMULATE_GROUP; g++) {
        uint16_t bound = bounds ? bounds[g] : 0;
        group both = load_group(sums + g * ACCUMULATE_GROUP) + bound;
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

static size_t sweep(uint16_t *sums, size_t count, uint16_t limit, uint32_t *out, size_t *swept)
{
    size_t found = 0;
    for (*swept = 0; *swept < count && found == 0; *swept += ACCUMULATE_BLOCK) {
        uint16_t *block = sums + *swept;
        found = collect(block, NULL, ACCUMULATE_BLOCK, limit, out, ACCUMULATE_BLOCK);
        for (size_t i = 0; i < found; i++)
            out[i] += (uint32_t)*swept;
        memset(block, 0, ACCUMULATE_BLOCK * sizeof *block);
    }
    return found;
}

double accumulate_dot(const struct query_table *query, const uint8_t *terms, const uint8_t *values,
                      size_t count)
{
    struct shared_terms shared;
    double sum = 0;
    for (size_t at = 0; at < count; at += SHARED_AT_ONCE) {
        shared.count = 0;
        for (size_t i = at; i < MIN(count, at + SHARED_AT_ONCE); i++)
            shared_add(&shared, query, terms, values, i);
        sum = shared_sum(&shared, sum);
    }
    return sum;
}

const struct accumulate accumulate_plain = {
    "plain", add, raise_bounds, lower_bounds, collect, maxima, sweep, accumulate_dot,
};

/* ---------------------------------------------------------------- levels */

const struct accumulate *accumulate_find(const char *name)
{
    const struct kernels *kernels = kernels_find(name);
    if (strcmp(name, accumulate_plain.name) == 0)
        return &accumulate_plain;
    return kernels && strcmp(kernels->accumulate->name, name) == 0 ? kernels->accumulate : NULL;
}

const struct accumulate *accumulate_get(void)
{
    return kernels_get()->accumulate;
}
