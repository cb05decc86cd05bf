/* The loops over sums for one instruction set, which defines
 *
 *   KERNEL, INLINE         static, for the instruction set; and always inlined
 *   WORD, LANES            a register of 16-bit numbers, and how many it has
 *   word_load(p) word_store(p, w) word_set(n) word_add(a, b) word_sub(a, b) word_max(a, b)
 *   word_steps(p, factor)  what LANES codes at p add, factor in every lane
 *   word_nonzero(p, w)     w where the code at p is not 0, else 0
 *   word_bounds(p)         LANES / ACCUMULATE_GROUP bounds at p, each for the lanes of its group
 *   word_reach(w, limit)   one bit for each lane that is limit or more
 *   word_largest(w)        the largest lane
 *   DOT                    its dot product
 *   TABLE, NAME
 *
 * No include guard: included once by each accumulate_*.c. */

KERNEL void add(uint16_t *sums, const uint16_t *ids, const uint8_t *codes, size_t count,
                uint32_t factor)
{
    const WORD factors = word_set(factor), one = word_set(1);
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        uint64_t steps[LANES / 4]; /* four 16-bit numbers each */
        word_store(steps, word_add(word_steps(codes + i, factors), one));
        for (size_t four = 0; four < LANES / 4; four++) {
            const uint16_t *id = ids + i + 4 * four;
            sums[id[0]] = (uint16_t)(sums[id[0]] + steps[four]);
            sums[id[1]] = (uint16_t)(sums[id[1]] + (steps[four] >> 16));
            sums[id[2]] = (uint16_t)(sums[id[2]] + (steps[four] >> 32));
            sums[id[3]] = (uint16_t)(sums[id[3]] + (steps[four] >> 48));
        }
    }
    accumulate_add_rest(sums, ids + i, codes + i, count - i, factor);
}

KERNEL void raise_bounds(uint16_t *bounds, const uint8_t *largest, size_t groups, uint32_t factor)
{
    const WORD factors = word_set(factor), one = word_set(1);
    size_t i = 0;
    for (; i + LANES <= groups; i += LANES) {
        WORD steps = word_add(word_steps(largest + i, factors), word_nonzero(largest + i, one));
        word_store(bounds + i, word_add(word_load(bounds + i), steps));
    }
    if (i < groups)
        accumulate_plain.raise(bounds + i, largest + i, groups - i, factor);
}

KERNEL void lower_bounds(uint16_t *bounds, const uint8_t *largest, size_t groups, uint32_t factor)
{
    const WORD factors = word_set(factor), one = word_set(1);
    size_t i = 0;
    for (; i + LANES <= groups; i += LANES) {
        WORD steps = word_add(word_steps(largest + i, factors), word_nonzero(largest + i, one));
        word_store(bounds + i, word_sub(word_load(bounds + i), steps));
    }
    if (i < groups)
        accumulate_plain.lower(bounds + i, largest + i, groups - i, factor);
}

INLINE size_t put_reached(const uint16_t *sums, const uint16_t *bounds, size_t at, uint64_t reached,
                          uint32_t *out, size_t room)
{
    size_t found = 0;
    for (; reached && found < room; reached &= reached - 1) {
        size_t id = at + (size_t)__builtin_ctzll(reached);
        uint32_t sum = (uint32_t)sums[id] + (bounds ? bounds[id / ACCUMULATE_GROUP] : 0u);
        out[found++] = sum << 16 | (uint32_t)id;
    }
    return found;
}

/* One block at a time: a bit of `reached` is a row of it. */
INLINE size_t collect_all(const uint16_t *sums, const uint16_t *bounds, size_t count, uint16_t limit,
                          uint32_t *out, size_t room)
{
    const WORD limits = word_set(limit);
    size_t found = 0;
    for (size_t at = 0; at < count; at += ACCUMULATE_BLOCK) {
        uint64_t reached = 0;
        for (size_t i = 0; i < ACCUMULATE_BLOCK; i += LANES) {
            WORD both = word_load(sums + at + i);
            if (bounds)
                both = word_add(both, word_bounds(bounds + (at + i) / ACCUMULATE_GROUP));
            reached |= (uint64_t)word_reach(both, limits) << i;
        }
        if (UNLIKELY(reached))
            found += put_reached(sums, bounds, at, reached, out + found, room - found);
    }
    return found;
}

KERNEL size_t collect(const uint16_t *sums, const uint16_t *bounds, size_t count, uint16_t limit,
                      uint32_t *out, size_t room)
{
    return bounds ? collect_all(sums, bounds, count, limit, out, room)
                  : collect_all(sums, NULL, count, limit, out, room);
}

KERNEL void maxima(const uint16_t *sums, size_t count, size_t block, uint16_t *out)
{
    for (size_t at = 0; at < count;) {
        size_t end = MIN(count, at + block);
        WORD max = word_load(sums + at);
        for (at += LANES; at < end; at += LANES)
            max = word_max(max, word_load(sums + at));
        *out++ = word_largest(max);
    }
}

KERNEL size_t sweep(uint16_t *sums, size_t count, uint16_t limit, uint32_t *out, size_t *swept)
{
    const WORD limits = word_set(limit), none = word_set(0);
    size_t found = 0, at = 0;
    for (; at < count && found == 0; at += ACCUMULATE_BLOCK) {
        uint64_t reached = 0;
        for (size_t i = 0; i < ACCUMULATE_BLOCK; i += LANES)
            reached |= (uint64_t)word_reach(word_load(sums + at + i), limits) << i;
        if (UNLIKELY(reached))
            found = put_reached(sums, NULL, at, reached, out, ACCUMULATE_BLOCK);
        for (size_t i = 0; i < ACCUMULATE_BLOCK; i += LANES)
            word_store(sums + at + i, none);
    }
    *swept = at;
    return found;
}

const struct accumulate TABLE = {
    NAME, add, raise_bounds, lower_bounds, collect, maxima, sweep, DOT,
};
