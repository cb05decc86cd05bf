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
    uint16_t largest[ROWS / ACCUMULATE_BLOCK + 1];
    for (uint32_t at = 0; at < ACCUMULATE_BLOCK; at++) {
        memset(sums, 0, sizeof sums);
        sums[at] = 65535;
        level->maxima(sums, ACCUMULATE_BLOCK, ACCUMULATE_BLOCK, largest);
        CHECK_EQ(largest[0], 65535);
    }
    for (size_t i = 0; i < ROWS; i++)
        sums[i] = (uint16_t)check_random();
    for (size_t block = ACCUMULATE_BLOCK; block <= 5 * ACCUMULATE_BLOCK; block += ACCUMULATE_BLOCK) {
        size_t blocks = (ROWS + block - 1) / block; /* the last one may be smaller */
        largest[blocks] = 77;
        level->maxima(sums, ROWS, block, largest);
        CHECK_EQ(largest[blocks], 77);
        for (size_t b = 0; b < blocks; b++) {
            uint16_t expected = 0;
            for (size_t i = b * block; i < MIN((size_t)ROWS, (b + 1) * block); i++)
                expected = MAX(expected, sums[i]);
            CHECK_EQ(largest[b], expected);
        }
    }
}

TEST(the_largest_sum_of_a_block_is_found_at_every_place)
{
    each_level(check_largest);
}

/* A few of the sums are not 0; what is swept is what `collect` would find, and every sum is 0 afterwards. */
static void check_swept(const struct accumulate *level)
{
    static const uint16_t limits[] = {1, 2, 30000, 32768, 65535};
    static uint32_t found[ACCUMULATE_BLOCK], expected[ROWS];
    for (size_t l = 0; l < COUNT_OF(limits); l++) {
        memset(sums, 0, sizeof sums);
        for (size_t i = 0; i < ROWS; i++)
            sums[i] = check_random() % 40 && (i < 512 || i >= 640) ? 0 : (uint16_t)check_random();
        memset(sums + 512, 0xff, 64 * sizeof *sums); /* a full block */
        sums[ROWS] = 9;                              /* behind what is swept */
        size_t all = accumulate_plain.collect(sums, NULL, ROWS, limits[l], expected, ROWS), seen = 0;
        for (size_t at = 0, swept; at < ROWS; at += swept) {
            size_t count = level->sweep(sums + at, ROWS - at, limits[l], found, &swept);
            CHECK(swept > 0 && swept % ACCUMULATE_BLOCK == 0 && (count > 0 || at + swept == ROWS));
            CHECK(seen + count <= all);
            for (size_t i = 0; i < count; i++)
                CHECK_EQ(found[i] + at, expected[seen + i]);
            seen += count;
        }
        CHECK_EQ(seen, all);
        for (size_t i = 0; i < ROWS; i++)
            CHECK_EQ(sums[i], 0);
        CHECK_EQ(sums[ROWS], 9);
    }
}

TEST(sums_are_found_and_made_0_at_once)
{
    each_level(check_swept);
}

/* ---------------------------------------------------------------- scores of single rows */

#define SLOTS 4096u /* 1 << 32 - shift */
static struct query_slot slots[SLOTS];

/* A query of about `count` terms below `vocabulary`, term 0 in it or not: those whose slots are free. */
static void make_query(struct query_table *t, uint32_t count, uint32_t vocabulary, bool with_0)
{
    memset(slots, 0, sizeof slots);
    *t = (struct query_table){.slots = slots, .factor = 0x9e3779b1u, .shift = 20};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t term = i == 0 && with_0 ? 0 : 1 + (uint32_t)check_random() % (vocabulary - 1);
        struct query_slot *slot = &slots[term * t->factor >> t->shift];
        if (slot->weight != 0)
            continue;
        *slot = (struct query_slot){term, (float)((double)(check_random() % 2000) / 700 - 1.4)};
        t->filter[query_bit(t, term) / 32] |= 1u << query_bit(t, term) % 32;
    }
}

static double plain_dot(const struct query_table *t, const uint32_t *terms, const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const struct query_slot *slot = &slots[terms[i] * t->factor >> t->shift];
        if (slot->weight != 0 && slot->term == terms[i])
            sum += (double)slot->weight * (double)values[i];
    }
    return sum;
}

/* Terms ascend, some from the query; lengths around what is taken at a time; any alignment. */
static void check_dot(const struct accumulate *level)
{
    static uint32_t terms[1100];
    static float values[1100];
    static uint8_t bytes[8 * 1100 + 8];
    static const uint32_t asked[] = {1, 5, 40, 300}, vocabularies[] = {30, 3000, 4000000000u};
    struct query_table query;
    for (size_t count = 0; count < 1100; count += count < 40 ? 1 : 53) {
        uint32_t vocabulary = vocabularies[count % 3];
        make_query(&query, asked[count % 4], vocabulary, count % 2);
        for (size_t i = 0; i < count; i++) {
            uint32_t slot = (uint32_t)check_random() % SLOTS;
            bool own = slots[slot].weight != 0 && check_random() % 2;
            terms[i] = own ? slots[slot].term : (uint32_t)check_random() % vocabulary;
            values[i] = (float)((double)(check_random() % 4000) / 900 - 2);
        }
        for (size_t shift = 0; shift < 4; shift++) {
            uint8_t *at = bytes + shift;
            memcpy(at, terms, count * 4);
            memcpy(at + count * 4, values, count * 4);
            double sum = level->dot(&query, at, at + count * 4, count);
            double expected = plain_dot(&query, terms, values, count);
            CHECK(memcmp(&sum, &expected, sizeof sum) == 0);
        }
    }
}

TEST(rows_are_scored_by_the_terms_that_they_share_with_a_query)
{
    each_level(check_dot);
}
