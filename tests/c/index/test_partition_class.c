/* Queries by how hard they are: the codes that say it, against sorting; what is measured for each class;
 * searches look into as many lists as their class has, alone as together; snapshots keep the classes. */
#include "rows_fixture.h"

#include "index/partition_core.h"
#include "store/snapshot.h"

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};
#define EACH_METRIC(m) for (size_t m = 0; m < COUNT_OF(metrics); m++)
#define ROWS 6000u
#define DIMS 16u

/* ---------------------------------------------------------------- the nearest codes */

struct coded {
    int32_t integer;
    uint32_t row;
};

static int by_integer(const void *a, const void *b)
{
    const struct coded *x = a, *y = b;
    return (x->integer > y->integer) - (x->integer < y->integer);
}

TEST(the_nearest_codes_are_the_least_of_different_rows_without_the_one_that_asks)
{
    for (int round = 0; round < 200; round++) {
        uint32_t count = (uint32_t)(check_random() % 400), rows = 1 + (uint32_t)(check_random() % 300);
        uint32_t k = 1 + (uint32_t)(check_random() % 100), without = (uint32_t)(check_random() % rows);
        int32_t integers[400], of_row[300], span = round % 2 ? 7 : 100000;
        uint32_t numbers[400], different = 0;
        struct coded met[300];
        bool seen[300] = {false};
        struct nearest_codes near;
        for (uint32_t row = 0; row < rows; row++)
            of_row[row] = (int32_t)(check_random() % (uint64_t)span) - span / 2;
        for (uint32_t i = 0; i < count; i++) {
            numbers[i] = (uint32_t)(check_random() % rows);
            integers[i] = of_row[numbers[i]];
            if (!seen[numbers[i]] && numbers[i] != without)
                met[different++] = (struct coded){integers[i], numbers[i]};
            seen[numbers[i]] = true;
        }
        nearest_codes_init(&near, k, without);
        for (uint32_t at = 0; at < count; at += 37)
            nearest_codes_take(&near, integers + at, numbers + at, MIN(count - at, 37u));
        qsort(met, different, sizeof *met, by_integer);
        CHECK_EQ(near.count, MIN(k, different));
        for (uint32_t i = 0; i < near.count; i++)
            CHECK_EQ(near.least[i], met[i].integer);
    }
}

TEST(a_query_is_harder_the_farther_its_nearest_are_and_hardest_without_them)
{
    const float bounds[PARTITION_CLASSES - 1] = {-0.6f, -0.5f, -0.4f, -0.3f, -0.2f, -0.1f, 0};
    for (int kind = 0; kind < 2; kind++) {
        struct code_query query = {.scale = 2, .offset = kind ? 1 : 0};
        struct nearest_codes near;
        uint32_t class = 0;
        nearest_codes_init(&near, 1, UINT32_MAX);
        CHECK_EQ(partition_class_of(bounds, partition_hardness(&query, &near, 100)),
                 PARTITION_CLASSES - 1);
        for (int32_t far = 0; far < 200; far += 10) {
            uint32_t row = 1;
            nearest_codes_init(&near, 1, UINT32_MAX);
            nearest_codes_take(&near, &far, &row, 1);
            uint32_t now = partition_class_of(bounds, partition_hardness(&query, &near, 100));
            CHECK(now >= class);
            class = now;
        }
        CHECK_EQ(class, PARTITION_CLASSES - 1);
    }
}

/* ---------------------------------------------------------------- rows in lists */

struct pond {
    struct fixture rows;
    struct partition part;
    float *data;
};

/* Half of the rows stand close together, the others are spread wide. */
static void pond_make(struct pond *p, int32_t metric)
{
    p->data = malloc(ROWS * DIMS * sizeof *p->data);
    fixture_fill(PLAIN, p->data, ROWS, DIMS);
    for (uint32_t row = 0; row < ROWS; row += 2)
        for (uint32_t i = 0; i < DIMS; i++)
            p->data[row * DIMS + i] =
                0.05f * p->data[row * DIMS + i] + p->data[(2 * (row % 80) + 1) * DIMS + i];
    fixture_init(&p->rows, kernels_get(), metric, p->data, ROWS, DIMS, 0, 0);
    partition_init(&p->part, DIMS, metric);
    struct partition_source source = {.kernels = kernels_get(), .row = matrix_row,
                                      .context = &p->rows.matrix, .count = ROWS, .threads = 2};
    CHECK_OK(partition_build(&p->part, &source, PARTITION_WELLS_MAX, false));
    p->rows.set.codes = p->part.codes;
    struct partition_curves curves;
    CHECK_OK(partition_measure(&p->part, &p->rows.set, NULL, ROWS, &curves));
    partition_take_curves(&p->part, &curves);
    partition_curves_dispose(&curves);
}

static void pond_free(struct pond *p)
{
    partition_dispose(&p->part);
    fixture_dispose(&p->rows);
    free(p->data);
}

static struct partition_visits search(struct pond *p, const float *queries, size_t count,
                                      const struct partition_reach *reach, struct topk *tops)
{
    struct partition_visits visits = {0};
    for (size_t q = 0; q < count; q++)
        topk_init(&tops[q], 10, FLT_MAX);
    CHECK_OK(partition_search(&p->part, &p->rows.set, queries, count, reach, NULL, tops, &visits));
    for (size_t q = 0; q < count; q++)
        topk_sort(&tops[q]);
    return visits;
}

TEST(classes_add_up_to_the_curve_and_are_given_what_reaches_the_recall)
{
    EACH_METRIC(m) {
        struct pond p;
        struct partition_reach reach;
        pond_make(&p, metrics[m]);
        for (size_t c = 0; c < PARTITION_CURVES; c++) {
            const struct probe_curve *curve = &p.part.curves[c];
            uint64_t total = 0;
            for (uint32_t place = 0; place < curve->lists; place++) {
                uint32_t found = 0;
                for (size_t class = 0; class < PARTITION_CLASSES; class++)
                    found += curve->by_class[class * curve->lists + place];
                CHECK_EQ(found, curve->found[place]);
            }
            for (size_t class = 0; class < PARTITION_CLASSES; class++) {
                total += curve->totals[class];
                CHECK(c > 0 || curve->totals[class] > 0); /* two lists may hold fewer than a hundred */
                CHECK(class == 0 || class == PARTITION_CLASSES - 1 ||
                      curve->bounds[class] >= curve->bounds[class - 1]);
            }
            CHECK_EQ(total, curve->total);
        }
        uint32_t before[PARTITION_CLASSES] = {0};
        for (float recall = 0.5f; recall < 1; recall += 0.1f) {
            partition_reach_for(&p.part, 10, recall, &reach);
            CHECK_EQ(reach.nearest, 10);
            CHECK(partition_recall_of(&p.part, 10, &reach) >= recall);
            for (size_t class = 0; class < PARTITION_CLASSES; class++) {
                CHECK(reach.by_class[class] >= MAX(before[class], 1u));
                CHECK(reach.by_class[class] <= reach.lists);
                before[class] = reach.by_class[class];
            }
            CHECK(partition_usual_lists(&reach) <= reach.lists);
        }
        CHECK(before[0] < before[PARTITION_CLASSES - 1]);
        partition_reach_for(&p.part, 100, 0.9f, &reach);
        CHECK_EQ(reach.nearest, 100);
        partition_widen(&reach, 1e9, p.part.count);
        CHECK_EQ(partition_usual_lists(&reach), p.part.count);
        partition_reach_for(&p.part, 10, 1, &reach);
        CHECK(reach.nearest == 0 && reach.lists == p.part.count);
        pond_free(&p);
    }
}

TEST(a_query_looks_into_the_lists_of_its_class_alone_as_among_many)
{
    EACH_METRIC(m) {
        enum { ASKED = 60 };
        struct pond p;
        struct topk alone[ASKED], together[ASKED];
        struct partition_visits sum = {0};
        pond_make(&p, metrics[m]);
        struct partition_reach reach;
        partition_reach_for(&p.part, 10, 0.95f, &reach);
        bool used[PARTITION_CLASSES] = {false};
        uint32_t right = 0;
        for (uint32_t class = 0; class < PARTITION_CLASSES; class++)
            reach.by_class[class] = MAX(reach.by_class[class], CLASS_LISTS) + class * 5;
        reach.lists = p.part.count;
        for (uint32_t q = 0; q < ASKED; q++) {
            struct partition_visits v = search(&p, p.data + q * DIMS, 1, &reach, &alone[q]);
            for (uint32_t class = 0; class < PARTITION_CLASSES; class++)
                if (v.lists == reach.by_class[class])
                    used[class] = true;
            sum.lists += v.lists;
            sum.codes += v.codes;
        }
        struct partition_visits all = search(&p, p.data, ASKED, &reach, together);
        CHECK_EQ(all.lists, sum.lists);
        CHECK_EQ(all.codes, sum.codes);
        for (uint32_t q = 0; q < ASKED; q++) {
            CHECK_EQ(alone[q].count, together[q].count);
            for (size_t i = 0; i < alone[q].count; i++)
                right += alone[q].items[i].row == together[q].items[i].row;
            topk_dispose(&alone[q]);
            topk_dispose(&together[q]);
        }
        CHECK_EQ(right, ASKED * 10);
        CHECK(used[0] || used[1]);
        CHECK(used[PARTITION_CLASSES - 1] || used[PARTITION_CLASSES - 2]);
        pond_free(&p);
    }
}

/* ---------------------------------------------------------------- snapshots */

static const struct snapshot_cover cover = {.generation = 1, .purpose = SNAPSHOT_FOURCC('T', 'E', 'S', 'T')};

static void save_and_load(const struct partition *p, struct partition *into, struct snapshot **s)
{
    const char *path = check_path("wells");
    struct snapshot_writer *w;
    bool found;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    CHECK_OK(partition_save(p, w));
    CHECK_OK(snapshot_commit(w));
    CHECK_OK(snapshot_open(path, &cover, s));
    partition_init(into, DIMS, p->codes.metric);
    CHECK_OK(partition_load(into, *s, ROWS, &found));
    CHECK(found);
}

TEST(classes_come_back_from_a_snapshot_and_without_them_measuring_is_due)
{
    struct pond p;
    struct partition again;
    struct snapshot *s;
    struct partition_reach want, got;
    pond_make(&p, SYNA_METRIC_EUCLIDEAN);
    save_and_load(&p.part, &again, &s);
    for (int k = 10; k <= 100; k += 90) {
        partition_reach_for(&p.part, (uint64_t)k, 0.97f, &want);
        partition_reach_for(&again, (uint64_t)k, 0.97f, &got);
        CHECK_EQ(got.nearest, want.nearest);
        CHECK_MEM(got.by_class, want.by_class, sizeof want.by_class);
        CHECK_MEM(got.bounds, want.bounds, sizeof want.bounds);
    }
    CHECK_EQ(again.calibrated, p.part.calibrated);
    partition_dispose(&again);
    snapshot_close(s);

    struct partition bare = p.part; /* as if none had been measured */
    bare.curves[0].by_class = NULL;
    save_and_load(&bare, &again, &s);
    partition_reach_for(&again, 10, 0.97f, &got);
    CHECK_EQ(got.nearest, 0);
    CHECK_EQ(got.lists, partition_lists_for(&p.part, 10, 0.97f));
    CHECK_EQ(again.calibrated, 1);
    partition_dispose(&again);
    snapshot_close(s);
    pond_free(&p);
}

