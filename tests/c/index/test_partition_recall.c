/* Recall that was measured is recall that searches have, also where codes tell rows apart badly: one list has
 * nearly all rows, or what codes leave out is much of a product. What it depends on is saved. */
#include "rows_fixture.h"

#include "index/partition_core.h"
#include "store/snapshot.h"

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};
#define EACH_METRIC(m) for (size_t m = 0; m < COUNT_OF(metrics); m++)
enum { ASKED = 120, K = 10 };

enum stretch { NONE, LONG_ROWS, LOG_NORMAL, HEAVY_TAILS, FEW_LONG_ELEMENTS, STRETCHES };

struct pool {
    struct fixture rows;
    struct partition part;
    float *data, *queries; /* queries of the same kind as the rows */
    uint32_t count, dims;
};

static float normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += even();
    return sum / 2;
}

static void fill(enum stretch stretch, float *out, size_t count, uint32_t dims)
{
    for (size_t row = 0; row < count; row++, out += dims) {
        float length = stretch == LOG_NORMAL                      ? expf(2 * normal())
                       : stretch == LONG_ROWS && row % 50 == 0 ? 1000
                                                                  : 1;
        for (uint32_t i = 0; i < dims; i++) {
            float width = stretch == HEAVY_TAILS ? sqrtf(fabsf(1 / (0.5f + even() / 2 + 1e-4f))) : 1;
            out[i] = normal() * length * width;
        }
        for (int i = 0; stretch == FEW_LONG_ELEMENTS && row % 17 == 0 && i < 2; i++)
            out[check_random() % 3] = (check_random() % 2 ? 300.0f : -300.0f) * (1 + 0.5f * even());
    }
}

static void pool_make(struct pool *p, int32_t metric, enum stretch stretch, uint32_t count, uint32_t dims)
{
    *p = (struct pool){.count = count, .dims = dims};
    p->data = malloc((size_t)count * dims * sizeof *p->data);
    p->queries = malloc((size_t)ASKED * dims * sizeof *p->queries);
    fill(stretch, p->data, count, dims);
    fill(stretch, p->queries, ASKED, dims);
    fixture_init(&p->rows, kernels_get(), metric, p->data, count, dims, 0, 0);
    partition_init(&p->part, dims, metric);
    struct partition_source source = {.kernels = kernels_get(), .row = matrix_row,
                                      .context = &p->rows.matrix, .count = count, .threads = 2};
    CHECK_OK(partition_build(&p->part, &source, PARTITION_WELLS_MAX, false));
    p->rows.set.codes = p->part.codes;
    struct partition_curves curves;
    CHECK_OK(partition_measure(&p->part, &p->rows.set, NULL, count, &curves));
    partition_take_curves(&p->part, &curves);
    partition_curves_dispose(&curves);
}

static void pool_free(struct pool *p)
{
    partition_dispose(&p->part);
    fixture_dispose(&p->rows);
    free(p->data);
    free(p->queries);
}

static void search(struct pool *p, size_t first, size_t count, const struct partition_reach *reach,
                   struct topk *tops)
{
    for (size_t q = first; q < first + count; q++)
        topk_init(&tops[q], K, FLT_MAX);
    CHECK_OK(partition_search(&p->part, &p->rows.set, p->queries + first * p->dims, count, reach, NULL,
                              tops + first, NULL));
    for (size_t q = first; q < first + count; q++)
        topk_sort(&tops[q]);
}

/* Share of the true nearest that queries find, one by one or together. */
static double found_by(struct pool *p, const struct partition_reach *reach, bool together)
{
    struct topk tops[ASKED], truth[ASKED];
    size_t right = 0;
    for (size_t q = 0; q < ASKED; q += together ? ASKED : 1)
        search(p, q, together ? ASKED : 1, reach, tops);
    search(p, 0, ASKED, &(struct partition_reach){.lists = p->part.count, .exact = true}, truth);
    for (size_t q = 0; q < ASKED; q++) {
        for (size_t i = 0; i < tops[q].count; i++)
            right += tops[q].items[i].rank <= truth[q].items[K - 1].rank;
        topk_dispose(&tops[q]);
        topk_dispose(&truth[q]);
    }
    return (double)right / (ASKED * K);
}

static void check_reached(struct pool *p, const struct partition_reach *reach, double least)
{
    double says = (double)partition_recall_of(&p->part, K, reach);
    for (int together = 0; together < 2; together++) {
        double found = found_by(p, reach, together);
        check_note("metric %d: %u lists, %llu codes find %.3f, say %.3f", p->part.codes.metric,
                   reach->lists, (unsigned long long)reach->codes, found, says);
        CHECK(found >= least);
        CHECK(found >= says - 0.03 - (1 - says) / 4); /* chance; and queries are harder than rows */
    }
}

TEST(what_is_measured_is_what_searches_find_also_where_codes_tell_rows_apart_badly)
{
    for (enum stretch stretch = NONE; stretch < STRETCHES; stretch++)
        EACH_METRIC(m) {
            struct pool p;
            struct partition_reach reach;
            pool_make(&p, metrics[m], stretch, 5000, stretch == FEW_LONG_ELEMENTS ? 256 : 24);
            for (uint64_t nprobe = 25; nprobe <= 100; nprobe *= 2) {
                reach = (struct partition_reach){.lists = partition_lists_of(&p.part, nprobe)};
                reach.codes = partition_codes_of(&p.part, nprobe, reach.lists);
                check_reached(&p, &reach, nprobe >= 100 ? 0.995 : nprobe >= 50 ? 0.95 : 0);
            }
            for (float recall = 0.8f; recall < 1; recall += 0.15f) {
                partition_reach_for(&p.part, K, recall, &reach);
                check_reached(&p, &reach, (double)recall - 0.04);
            }
            pool_free(&p);
        }
}

TEST(a_query_is_not_stopped_before_the_one_list_that_has_nearly_all_rows)
{
    struct pool p;
    pool_make(&p, SYNA_METRIC_DOT_PRODUCT, LONG_ROWS, 5000, 24);
    uint32_t lists = partition_lists_of(&p.part, 50), longest = 0;
    for (uint32_t w = 0; w < p.part.count; w++)
        longest = MAX(longest, well_rows(&p.part.wells[w]));
    CHECK(longest > 4000);
    struct partition_reach stopped = {.lists = lists, .codes = partition_stop(&p.part)};
    double found = found_by(&p, &stopped, false);
    double says = (double)partition_recall_of(&p.part, K, &stopped);
    check_note("stopped it finds %.3f, says %.3f", found, says);
    CHECK(found < 0.9 && says < found + 0.04);
    CHECK_EQ(partition_codes_of(&p.part, 50, lists), 0);
    pool_free(&p);
}

/* Two rows that both have some of these elements are near by them; their codes do not show it, and 6 standard
 * deviations of what is by chance do not cover it. */
TEST(searches_take_all_that_is_possible_where_less_was_seen_to_lose_rows)
{
    struct pool p;
    pool_make(&p, SYNA_METRIC_DOT_PRODUCT, FEW_LONG_ELEMENTS, 5000, 256);
    struct partition_reach all = {.lists = p.part.count};
    bool certain = p.part.certain;
    p.part.certain = false;
    double lost = 1 - found_by(&p, &all, false);
    check_note("%.3f lost", lost);
    CHECK(lost > 0.01); /* or the data does not show it */
    CHECK(certain);
    p.part.certain = true;
    CHECK(found_by(&p, &all, false) >= 1 && found_by(&p, &all, true) >= 1);
    pool_free(&p);
    EACH_METRIC(m) {
        pool_make(&p, metrics[m], NONE, 3000, 24);
        CHECK(!p.part.certain);
        pool_free(&p);
    }
}

/* In few dimensions groups of wells are apart, and in many they are not. */
TEST(queries_are_compared_with_a_part_of_the_wells_where_that_loses_nothing)
{
    static const struct {
        uint32_t dims, share;
    } pools[] = {{3, 4}, {64, 1}};
    for (size_t i = 0; i < COUNT_OF(pools); i++) {
        struct pool p;
        struct partition_reach reach;
        pool_make(&p, SYNA_METRIC_EUCLIDEAN, NONE, 20000, pools[i].dims);
        check_note("%u dimensions: 1 / %u", pools[i].dims, p.part.groups.share);
        CHECK(p.part.groups.count > 1);
        CHECK_EQ(p.part.groups.share, pools[i].share);
        for (float recall = 0.8f; recall < 1; recall += 0.15f) {
            partition_reach_for(&p.part, K, recall, &reach);
            check_reached(&p, &reach, (double)recall - 0.04);
        }
        pool_free(&p);
    }
}

/* ---------------------------------------------------------------- snapshots */

static const struct snapshot_cover cover = {.generation = 1, .purpose = SNAPSHOT_FOURCC('T', 'E', 'S', 'T')};

static void save_and_load(const struct pool *p, const struct partition *part, struct partition *into,
                          struct snapshot **s)
{
    const char *path = check_path("wells");
    struct snapshot_writer *w;
    bool found;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    CHECK_OK(partition_save(part, w));
    CHECK_OK(snapshot_commit(w));
    CHECK_OK(snapshot_open(path, &cover, s));
    partition_init(into, p->dims, part->codes.metric);
    CHECK_OK(partition_load(into, *s, p->count, &found));
    CHECK(found);
}

TEST(what_stops_miss_and_whether_codes_are_trusted_come_back_or_measuring_is_due)
{
    struct pool p;
    struct partition again;
    struct snapshot *s;
    pool_make(&p, SYNA_METRIC_DOT_PRODUCT, LONG_ROWS, 5000, 24);
    for (int certain = 0; certain < 2; certain++) {
        p.part.certain = certain;
        save_and_load(&p, &p.part, &again, &s);
        CHECK_EQ(again.certain, certain);
        CHECK_EQ(again.calibrated, p.part.calibrated);
        for (size_t c = 0; c < PARTITION_CURVES; c++)
            CHECK_MEM(again.curves[c].stopped, p.part.curves[c].stopped,
                      again.curves[c].lists * sizeof(uint32_t));
        partition_dispose(&again);
        snapshot_close(s);
    }
    struct partition bare = p.part;
    bare.curves[0].stopped = NULL; /* as in a file from before */
    save_and_load(&p, &bare, &again, &s);
    CHECK(!again.curves[0].stopped && again.curves[0].by_class);
    CHECK_EQ(again.calibrated, 1);
    CHECK_EQ(partition_codes_of(&again, 50, 5), 0);
    partition_dispose(&again);
    snapshot_close(s);
    pool_free(&p);
}
