/* What measured curves make of a recall: as few lists as any choice of them needs, class by class; and when a
 * query is stopped. */
#include "check.h"

#include "index/partition_core.h"

#include <math.h>

#define LISTS 48u
#define ASKED 100u /* of the nearest rows, in each class */
#define BUDGET (PARTITION_CLASSES * LISTS)

struct measured {
    struct partition part;
    uint32_t found[LISTS], by_class[PARTITION_CLASSES * LISTS], stopped[LISTS];
};

/* Some of a hundred nearest rows come to each list, fewer the farther it is, or anyhow. */
static void fill_class(uint32_t *counted, bool falling)
{
    uint32_t left = ASKED;
    for (uint32_t place = 0; place < LISTS; place++)
        counted[place] = 0;
    while (left-- > 0) {
        uint64_t place = check_random() % LISTS;
        for (int halves = (int)(check_random() % 4); halves > 0; halves--)
            place = check_random() % (place + 1);
        counted[place]++;
    }
    for (uint32_t i = 1; falling && i < LISTS; i++)
        for (uint32_t j = i; j > 0 && counted[j] > counted[j - 1]; j--) {
            uint32_t more = counted[j];
            counted[j] = counted[j - 1];
            counted[j - 1] = more;
        }
}

static void make(struct measured *m, bool falling)
{
    struct probe_curve *curve = &m->part.curves[0];
    *m = (struct measured){.part = {.count = LISTS, .calibrated = 1000, .rows = 1000}};
    *curve = (struct probe_curve){.k = 10, .lists = LISTS, .total = PARTITION_CLASSES * ASKED,
                                  .found = m->found, .by_class = m->by_class, .stopped = m->stopped};
    for (uint32_t class = 0; class < PARTITION_CLASSES; class++) {
        fill_class(m->by_class + class * LISTS, falling);
        curve->totals[class] = ASKED;
        for (uint32_t place = 0; place < LISTS; place++)
            m->found[place] += m->by_class[class * LISTS + place];
    }
    memcpy(m->stopped, m->found, sizeof m->found);
    partition_make_steps(curve);
    CHECK(curve->steps);
}

/* most[b]: the most that is found with b lists beyond those that every query looks into. */
static void best_of_all(const struct measured *m, uint32_t most[BUDGET + 1])
{
    memset(most, 0, (BUDGET + 1) * sizeof *most);
    for (uint32_t class = 0; class < PARTITION_CLASSES; class++) {
        const uint32_t *counted = m->by_class + class * LISTS;
        for (uint32_t budget = BUDGET + 1; budget-- > 0;) {
            uint32_t found = 0, best = 0;
            for (uint32_t place = 0; place < LISTS; place++) {
                found += counted[place];
                uint32_t more = place + 1 < CLASS_LISTS ? 0 : place + 1 - CLASS_LISTS;
                if (place + 1 >= CLASS_LISTS && more <= budget)
                    best = MAX(best, most[budget - more] + found);
            }
            most[budget] = best;
        }
    }
}

static uint32_t found_by(const struct measured *m, const struct partition_reach *reach, uint32_t *lists)
{
    uint32_t found = 0;
    *lists = 0;
    for (uint32_t class = 0; class < PARTITION_CLASSES; class++) {
        CHECK(reach->by_class[class] >= CLASS_LISTS && reach->by_class[class] <= LISTS);
        *lists += reach->by_class[class] - CLASS_LISTS;
        for (uint32_t place = 0; place < reach->by_class[class]; place++)
            found += m->by_class[class * LISTS + place];
    }
    return found;
}

/* What lists bring only together (a chord over a hollow) may be taken in part, so a share of them is over. */
TEST(a_recall_is_reached_with_the_fewest_lists_that_any_choice_needs)
{
    for (int round = 0; round < 20; round++) {
        bool falling = round % 2;
        struct measured m;
        uint32_t most[BUDGET + 1], lists, longest = 0;
        make(&m, falling);
        best_of_all(&m, most);
        for (float recall = 0.3f; recall < 1; recall += 0.07f) {
            struct partition_reach reach;
            partition_reach_for(&m.part, 10, recall, &reach);
            uint32_t found = found_by(&m, &reach, &lists), fewest = 0;
            while (most[fewest] < found)
                fewest++;
            check_note("round %d, recall %.2f: %u lists find %u, %u do", round, (double)recall, lists,
                       found, fewest);
            CHECK((double)found >= (double)recall * PARTITION_CLASSES * ASKED);
            longest = MAX(longest, lists - fewest);
            CHECK(!falling || lists == fewest);
            CHECK_EQ(lround(800 * (double)partition_recall_of(&m.part, 10, &reach)), found);
            CHECK_EQ(partition_usual_lists(&reach),
                     (lists + PARTITION_CLASSES * CLASS_LISTS) / PARTITION_CLASSES);
        }
        CHECK(longest < LISTS / 2);
        mem_free(m.part.curves[0].steps);
    }
}

TEST(a_class_gets_more_lists_where_they_bring_more)
{
    struct measured m;
    struct partition_reach reach;
    make(&m, true);
    struct probe_curve *curve = &m.part.curves[0];
    mem_free(curve->steps);
    memset(m.by_class, 0, sizeof m.by_class);
    for (uint32_t class = 0; class < PARTITION_CLASSES; class++) { /* class c has them in 2 + 4 c lists */
        uint32_t wide = CLASS_LISTS + 4 * class;
        for (uint32_t i = 0; i < ASKED; i++)
            m.by_class[class * LISTS + i % wide]++;
    }
    partition_make_steps(curve);
    partition_reach_for(&m.part, 10, 0.9f, &reach);
    for (uint32_t class = 1; class < PARTITION_CLASSES - 2; class++) /* the last two bring the same */
        CHECK_EQ(reach.by_class[class], CLASS_LISTS + 4 * class);
    CHECK_EQ(reach.by_class[0], CLASS_LISTS);
    CHECK(reach.by_class[PARTITION_CLASSES - 1] < CLASS_LISTS + 4 * (PARTITION_CLASSES - 1));
    mem_free(curve->steps);
}

TEST(a_query_is_stopped_unless_that_misses_what_its_lists_have)
{
    struct measured m;
    make(&m, true);
    struct probe_curve *curve = &m.part.curves[0];
    uint32_t few = LISTS / 10; /* of which a query may be stopped */
    CHECK(partition_stop(&m.part) > 200 && partition_stop(&m.part) <= 250);
    CHECK_EQ(partition_codes_of(&m.part, 50, few), partition_stop(&m.part));
    CHECK_EQ(partition_codes_of(&m.part, 50, LISTS / 2), 0);
    CHECK_EQ(partition_codes_of(&m.part, 100, few), 0);
    struct partition_reach reach = {.lists = few, .codes = partition_stop(&m.part)};
    CHECK(partition_recall_of(&m.part, 10, &reach) == partition_recall_at(&m.part, 10, few));
    m.stopped[1] = m.found[1] - 3; /* four in a thousand */
    CHECK(partition_codes_of(&m.part, 50, few) > 0);
    CHECK(partition_recall_of(&m.part, 10, &reach) < partition_recall_at(&m.part, 10, few));
    m.stopped[1] = m.found[1] - 5;
    CHECK_EQ(partition_codes_of(&m.part, 50, few), 0);
    CHECK(partition_codes_of(&m.part, 1, 1) > 0); /* before the list that it misses */
    curve->stopped = NULL;
    CHECK_EQ(partition_codes_of(&m.part, 50, few), 0);
    mem_free(curve->steps);
}
