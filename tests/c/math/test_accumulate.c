/* Sums and bounds of groups, against one row at a time. */
#include "check.h"

#include "math/accumulate.h"

#define ROWS 4096u
#define GROUPS (ROWS / ACCUMULATE_GROUP)

static uint16_t sums[ACCUMULATE_ROWS], bounds[GROUPS];
static uint8_t maxima[GROUPS], codes[ROWS];
static uint16_t ids[ROWS];

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

TEST(a_list_adds_to_no_row_more_than_its_group_is_raised)
{
    static const uint32_t factors[] = {1, 255, 256, 257, 3000, 40000, 65000};
    for (uint32_t f = 0; f < COUNT_OF(factors); f++) {
        size_t count = any_list(1 + f);
        memset(sums, 0, sizeof sums);
        memset(bounds, 0, sizeof bounds);
        accumulate_add(sums, ids, codes, count, factors[f]);
        accumulate_raise(bounds, maxima, GROUPS, factors[f]);
        for (size_t g = 0; g < GROUPS; g++) {
            uint16_t largest = 0;
            for (size_t i = 0; i < ACCUMULATE_GROUP; i++)
                largest = MAX(largest, sums[g * ACCUMULATE_GROUP + i]);
            check_note("factor %u, group %zu", factors[f], g);
            CHECK_EQ(bounds[g], largest);
        }
    }
}

TEST(what_was_raised_is_lowered_again)
{
    memset(bounds, 0, sizeof bounds);
    any_list(3);
    accumulate_raise(bounds, maxima, GROUPS, 700);
    accumulate_raise(bounds, maxima, GROUPS, 12345);
    accumulate_lower(bounds, maxima, GROUPS, 12345);
    accumulate_lower(bounds, maxima, GROUPS, 700);
    for (size_t g = 0; g < GROUPS; g++)
        CHECK_EQ(bounds[g], 0);
}

TEST(rows_are_collected_by_their_sum_and_the_bound_of_their_group)
{
    static const uint16_t limits[] = {1, 2, 300, 32767, 32768, 65000, 65535};
    static uint32_t found[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        sums[i] = (uint16_t)(check_random() % 32768);
    for (size_t g = 0; g < GROUPS; g++)
        bounds[g] = (uint16_t)(check_random() % 32768);
    for (size_t l = 0; l < COUNT_OF(limits); l++) {
        size_t count = accumulate_collect_bounded(sums, bounds, ROWS, limits[l], found, ROWS);
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
        CHECK_EQ(accumulate_collect_bounded(sums, bounds, ROWS, limits[l], found, room), room);
    }
}
