/* Sums and bounds of groups, against one row at a time, at every level that this machine has. */
#include "check.h"

#include "math/accumulate.h"
#include "math/distance.h"

#define ROWS 4096u
#define GROUPS (ROWS / ACCUMULATE_GROUP)

static uint16_t sums[ACCUMULATE_ROWS], bounds[GROUPS];
static uint8_t maxima[GROUPS], codes[ROWS];
static uint16_t ids[ROWS];

static const char *const names[] = {"plain", "avx2", "avx512"};

/* A level is no matter of names: "amx" has the sums of "avx512". */
TEST(kernels_of_every_level_come_with_sums_as_wide_as_theirs)
{
    static const struct {
        const char *kernels, *sums;
    } pairs[] = {
        {"scalar", "plain"},        {"avx2", "avx2"},         {"avx2vnni", "avx2"},
        {"avx512", "avx512"},       {"avx512vnni", "avx512"}, {"avx512vpop", "avx512"},
        {"amx", "avx512"},          {"neon", "plain"},        {"neondot", "plain"},
    };
    bool known = false;
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        const struct kernels *kernels = kernels_find(pairs[i].kernels);
        check_note("%s", pairs[i].kernels);
        if (kernels)
            CHECK(strcmp(kernels->accumulate->name, pairs[i].sums) == 0);
        known = known || kernels == kernels_get();
    }
    CHECK(known); /* a new level belongs into the list above */
    CHECK(accumulate_get() == kernels_get()->accumulate);
}

/* Call `check` with each level. */
static void each_level(void (*check)(const struct accumulate *level))
{
    CHECK(accumulate_find(accumulate_get()->name) == accumulate_get());
    CHECK(accumulate_find("none") == NULL);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct accumulate *level = accumulate_find(names[i]);
        check_note("%s", names[i]);
        if (level)
            check(level);
        else
            CHECK(i > 0);
    }
}

/* A list of every `step`-th row or so; its maxima, too. */
static size_t any_list(uint32_t step)
{
    size_t count = 0;
    memset(maxima, 0, sizeof maxima);
    for (uint32_t row = 0; row < ROWS; row++) {
        if (check_random() % step)
            continue;
        ids[count] = (uint16_t)row;
        codes[count] = (uint8_t)(1 + check_random() % 255);
        uint8_t *max = &maxima[row / ACCUMULATE_GROUP];
        *max = MAX(*max, codes[count]);
        count++;
    }
    return count;
}

static void check_raised(const struct accumulate *level)
{
    static const uint32_t factors[] = {1, 255, 256, 257, 3000, 40000, 65000};
    for (uint32_t f = 0; f < COUNT_OF(factors); f++) {
        size_t count = any_list(1 + f);
        memset(sums, 0, sizeof sums);
        memset(bounds, 0, sizeof bounds);
        level->add(sums, ids, codes, count, factors[f]);
        level->raise(bounds, maxima, GROUPS, factors[f]);
        for (size_t g = 0; g < GROUPS; g++) {
            uint16_t largest = 0;
            for (size_t i = 0; i < ACCUMULATE_GROUP; i++)
                largest = MAX(largest, sums[g * ACCUMULATE_GROUP + i]);
            check_note("%s, factor %u, group %zu", level->name, factors[f], g);
            CHECK_EQ(bounds[g], largest);
        }
    }
}

TEST(a_list_adds_to_no_row_more_than_its_group_is_raised)
{
    each_level(check_raised);
}

static void check_lowered(const struct accumulate *level)
{
    memset(bounds, 0, sizeof bounds);
    any_list(3);
    level->raise(bounds, maxima, GROUPS, 700);
    level->raise(bounds, maxima, GROUPS, 12345);
    level->lower(bounds, maxima, GROUPS, 12345);
    level->lower(bounds, maxima, GROUPS, 700);
    for (size_t g = 0; g < GROUPS; g++)
        CHECK_EQ(bounds[g], 0);
}

TEST(what_was_raised_is_lowered_again)
{
    each_level(check_lowered);
}

static void check_collected(const struct accumulate *level)
{
    static const uint16_t limits[] = {1, 2, 300, 32767, 32768, 65000, 65535};
    static uint32_t found[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        sums[i] = (uint16_t)(check_random() % 32768);
    for (size_t g = 0; g < GROUPS; g++)
        bounds[g] = (uint16_t)(check_random() % 32768);
    for (size_t l = 0; l < COUNT_OF(limits); l++) {
        size_t count = level->collect(sums, bounds, ROWS, limits[l], found, ROWS);
        size_t expected = 0;
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t both = (uint32_t)sums[i] + bounds[i / ACCUMULATE_GROUP];
            if (both < limits[l])
                continue;
            CHECK(expected < count);
            CHECK_EQ(found[expected], both << 16 | i);
            expected++;
        }
        CHECK_EQ(count, expected);
        size_t room = MIN(count, (size_t)5);
        CHECK_EQ(level->collect(sums, bounds, ROWS, limits[l], found, room), room);
    }
}

TEST(rows_are_collected_by_their_sum_and_the_bound_of_their_group)
{
    each_level(check_collected);
}

/* All levels with the same numbers, sizes that are no multiple of a register among them. */
static void check_alike(const struct accumulate *level)
{
    static uint16_t other[ACCUMULATE_ROWS], other_bounds[GROUPS];
    static uint16_t largest[ROWS / ACCUMULATE_BLOCK], expected[ROWS / ACCUMULATE_BLOCK];
    static uint32_t found[ROWS], wanted[ROWS];
    static const uint32_t factors[] = {1, 255, 256, 257, 1000, 20000, 32768, 40000, 65535};
    memset(sums, 0, sizeof sums);
    memset(other, 0, sizeof other);
    for (uint32_t f = 0; f < COUNT_OF(factors); f++) {
        size_t count = any_list(1 + f % 4);
        count -= MIN(count, (size_t)f);
        level->add(sums, ids, codes, count, factors[f] / 9 + 1);
        accumulate_plain.add(other, ids, codes, count, factors[f] / 9 + 1);
        CHECK(memcmp(sums, other, sizeof sums) == 0);
        memset(bounds, 0, sizeof bounds);
        memset(other_bounds, 0, sizeof other_bounds);
        for (size_t groups = 8; groups <= GROUPS; groups = groups * 2 + 8) {
            level->raise(bounds, maxima, groups, factors[f] / 9);
            accumulate_plain.raise(other_bounds, maxima, groups, factors[f] / 9);
            CHECK(memcmp(bounds, other_bounds, sizeof bounds) == 0);
            level->lower(bounds, maxima, groups, factors[f] / 10);
            accumulate_plain.lower(other_bounds, maxima, groups, factors[f] / 10);
            CHECK(memcmp(bounds, other_bounds, sizeof bounds) == 0);
        }
    }
    level->maxima(sums, ROWS, largest);
    accumulate_plain.maxima(sums, ROWS, expected);
    CHECK(memcmp(largest, expected, sizeof largest) == 0);
    for (uint32_t limit = 1; limit <= UINT16_MAX; limit = limit * 3 + 1) {
        size_t count = level->collect(sums, NULL, ROWS, (uint16_t)limit, found, ROWS);
        CHECK_EQ(count, accumulate_plain.collect(sums, NULL, ROWS, (uint16_t)limit, wanted, ROWS));
        CHECK(memcmp(found, wanted, count * sizeof *found) == 0);
        for (size_t room = 0; room <= MIN(count, (size_t)70); room += 7)
            CHECK_EQ(level->collect(sums, NULL, ROWS, (uint16_t)limit, found, room), room);
    }
}

TEST(every_level_gives_the_numbers_of_the_plain_one)
{
    each_level(check_alike);
}

static void check_largest(const struct accumulate *level)
{
    uint16_t largest;
    for (uint32_t at = 0; at < ACCUMULATE_BLOCK; at++) {
        memset(sums, 0, sizeof sums);
        sums[at] = 65535;
        level->maxima(sums, ACCUMULATE_BLOCK, &largest);
        CHECK_EQ(largest, 65535);
    }
}

TEST(the_largest_sum_of_a_block_is_found_at_every_place)
{
    each_level(check_largest);
}
