/* Partitions: searching all lists is scoring every row, bit for bit; lists do not depend on threads or on the
 * level of the kernels; every row stands where it belongs, also after adding and splitting; snapshots;
 * no memory at any call. */
#include "rows_fixture.h"

#include "index/partition_core.h"
#include "store/snapshot.h"

static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};
#define EACH_METRIC(m) for (size_t m = 0; m < COUNT_OF(metrics); m++)

struct lake { /* rows, a partition of them, and what scores them in full */
    struct fixture rows;
    struct partition part;
    uint64_t *live;
    float *data;
    uint32_t count, dims;
    unsigned threads;
};

static struct partition_source source_of(struct lake *l, uint32_t count)
{
    return (struct partition_source){.kernels = l->rows.set.kernels,
                                     .row = matrix_row,
                                     .context = &l->rows.matrix,
                                     .live = l->live,
                                     .count = count,
                                     .threads = l->threads};
}

static void lake_rows(struct lake *l, const struct kernels *kernels, int32_t metric, enum kind kind,
                      uint32_t count, uint32_t dims)
{
    *l = (struct lake){.count = count, .dims = dims, .threads = 2};
    l->data = malloc(count * dims * sizeof *l->data);
    fixture_fill(kind, l->data, count, dims);
    fixture_init(&l->rows, kernels, metric, l->data, count, dims, 0, 0);
    l->live = malloc((count / 64 + 1) * sizeof *l->live);
    memset(l->live, 0xff, (count / 64 + 1) * sizeof *l->live);
    partition_init(&l->part, dims, metric);
}

static void lake_build(struct lake *l, uint32_t from, uint32_t most)
{
    struct partition_source source = source_of(l, from);
    CHECK_OK(partition_build(&l->part, &source, most, false));
    l->rows.set.codes = l->part.codes;
}

static void lake_free(struct lake *l)
{
    partition_dispose(&l->part);
    fixture_dispose(&l->rows);
    free(l->data);
    free(l->live);
}

static void kill_row(struct lake *l, uint32_t row)
{
    l->live[row / 64] &= ~((uint64_t)1 << row % 64);
}

static bool is_live(const struct lake *l, uint32_t row)
{
    return l->live[row / 64] >> row % 64 & 1;
}

static const struct snapshot_cover cover = {.generation = 1, .purpose = SNAPSHOT_FOURCC('T', 'E', 'S', 'T')};

static void save(const struct partition *p, const char *path)
{
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    CHECK_OK(partition_save(p, w));
    CHECK_OK(snapshot_commit(w));
}

/* Into a partition like another; false: there was none that fits so many rows. */
static bool load(const char *path, const struct partition *like, uint32_t rows, struct partition *into,
                 struct snapshot **s)
{
    bool found;
    partition_init(into, like->codes.dims, like->codes.metric);
    CHECK_OK(snapshot_open(path, &cover, s));
    CHECK_OK(partition_load(into, *s, rows, &found));
    return found;
}

/* ---------------------------------------------------------------- invariants */

static uint32_t entry(const struct well *w, uint32_t i)
{
    return i < w->head_count ? w->head_rows[i] : w->rows[i - w->head_count];
}

/* Every live row below `end` stands in one list or in two different ones, under its own code. */
static void check_lists(const struct lake *l)
{
    const struct partition *p = &l->part;
    uint8_t *copies = calloc(l->count, 1), *code = malloc(p->codes.stride);
    uint64_t entries = 0;
    for (uint32_t w = 0; w < p->count; w++) {
        const struct well *well = &p->wells[w];
        uint32_t before = UINT32_MAX;
        entries += well_rows(well);
        for (uint32_t i = 0; i < well_rows(well); i++) {
            uint32_t row = entry(well, i);
            bool head = i < well->head_count;
            const uint8_t *got = head ? well->head_codes + i * p->codes.stride
                                      : well->codes + (i - well->head_count) * p->codes.stride;
            CHECK(row < p->end);
            CHECK(i == 0 || i == well->head_count || row > before);
            before = row;
            copies[row]++;
            float error = codes_encode(&p->codes, l->rows.set.kernels, l->data + row * l->dims, code);
            CHECK_MEM(got, code, p->codes.stride);
            CHECK_MEM(&error, array_at(&p->errors, row), sizeof error);
            CHECK(error <= well->error || error > FLT_MAX);
        }
    }
    CHECK_EQ(entries, p->entries);
    for (uint32_t row = 0; row < p->end; row++) {
        check_note("row %u", row);
        CHECK(!is_live(l, row) || (copies[row] >= 1 && copies[row] <= PARTITION_COPIES));
    }
    free(copies);
    free(code);
}

static void check_exact(struct lake *l, size_t queries, size_t k, uint32_t probes)
{
    struct topk *tops = calloc(queries, sizeof *tops), want;
    float *asked = malloc(queries * l->dims * sizeof *asked);
    struct partition_visits visits = {0};
    for (size_t q = 0; q < queries; q++) {
        topk_init(&tops[q], k, FLT_MAX);
        for (uint32_t i = 0; i < l->dims; i++)
            asked[q * l->dims + i] = q % 3 ? l->data[(q * 7 % l->count) * l->dims + i] : even();
    }
    CHECK_OK(partition_search(&l->part, &l->rows.set, asked, queries,
                              &(struct partition_reach){.lists = probes, .exact = true}, l->live,
                              tops, &visits));
    for (size_t q = 0; q < queries; q++) {
        const float *query = asked + q * l->dims;
        float norm = vector_norm(&kernels_scalar, query, l->dims);
        check_note("metric %d, dims %u, query %zu of %zu, k %zu", l->part.codes.metric, l->dims, q,
                   queries, k);
        topk_init(&want, k, FLT_MAX);
        for (uint32_t row = 0; row < l->part.end; row++)
            if (is_live(l, row))
                CHECK(topk_offer(&want, row_set_rank(&l->rows.set, query, norm, row), row));
        topk_sort(&want);
        topk_sort(&tops[q]);
        CHECK_EQ(tops[q].count, want.count);
        for (size_t i = 0; i < want.count; i++) {
            CHECK_EQ(tops[q].items[i].row, want.items[i].row);
            CHECK_MEM(&tops[q].items[i].rank, &want.items[i].rank, sizeof(float));
        }
        topk_dispose(&tops[q]);
        topk_dispose(&want);
    }
    free(tops);
    free(asked);
}

/* ---------------------------------------------------------------- what they hold */

TEST(all_lists_together_give_what_scoring_every_row_gives)
{
    EACH_METRIC(m)
        for (int kind = 0; kind < KINDS; kind++) {
            struct lake l;
            lake_rows(&l, kernels_get(), metrics[m], (enum kind)kind, 700, 40);
            for (uint32_t row = 0; row < 700; row += 9)
                kill_row(&l, row);
            lake_build(&l, 700, PARTITION_WELLS_MAX);
            check_note("kind %d", kind);
            check_lists(&l);
            check_exact(&l, 3, 10, UINT32_MAX);
            check_exact(&l, 40, 7, UINT32_MAX); /* lists shared by queries */
            lake_free(&l);
        }
}

TEST(one_row_or_one_well_is_enough)
{
    EACH_METRIC(m) {
        struct lake l;
        lake_rows(&l, kernels_get(), metrics[m], PLAIN, 40, 5);
        lake_build(&l, 1, PARTITION_WELLS_MAX);
        CHECK_EQ(l.part.count, 1);
        check_lists(&l);
        check_exact(&l, 2, 3, 1);
        struct partition_plan plan;
        struct partition_source source = source_of(&l, 40);
        CHECK_OK(partition_plan_add(&l.part, &source, 39, &plan));
        CHECK_OK(partition_add(&l.part, &plan));
        partition_plan_dispose(&plan);
        check_lists(&l);
        check_exact(&l, 12, 3, 1);
        lake_free(&l);
    }
}

static void check_same_lists(const struct partition *a, const struct partition *b)
{
    CHECK_EQ(a->count, b->count);
    CHECK_MEM(a->centroids, b->centroids, a->count * a->codes.stride);
    for (uint32_t w = 0; w < a->count; w++) {
        CHECK_EQ(well_rows(&a->wells[w]), well_rows(&b->wells[w]));
        for (uint32_t i = 0; i < well_rows(&a->wells[w]); i++)
            CHECK_EQ(entry(&a->wells[w], i), entry(&b->wells[w], i));
    }
}

TEST(lists_do_not_depend_on_threads_or_kernels)
{
    static const char *const levels[] = {"scalar", "avx2", "avx2vnni", "avx512", "avx512vnni", "neon"};
    EACH_METRIC(m) {
        struct lake first;
        lake_rows(&first, kernels_get(), metrics[m], CLUSTERED, 1500, 70);
        first.threads = 1;
        lake_build(&first, 1500, PARTITION_WELLS_MAX);
        for (size_t i = 0; i < COUNT_OF(levels); i++) {
            const struct kernels *kernels = kernels_find(levels[i]);
            if (!kernels)
                continue; /* this machine has no such level */
            struct lake other = first;
            partition_init(&other.part, 70, metrics[m]);
            other.rows.set.kernels = kernels;
            other.threads = 5;
            check_note("%s", levels[i]);
            lake_build(&other, 1500, PARTITION_WELLS_MAX);
            check_same_lists(&first.part, &other.part);
            partition_dispose(&other.part);
        }
        lake_free(&first);
    }
}

/* ---------------------------------------------------------------- many wells */

enum { MANY = 5000 }; /* rows whose wells are enough to stand in groups */

/* The row's nearest centroid, of all of them. */
static void find_nearest(const struct lake *l, const uint8_t *codes, uint32_t *near)
{
    const struct partition *p = &l->part;
    size_t stride = p->codes.stride;
    int32_t *keys = malloc(MANY * sizeof *keys), *least = malloc(MANY * sizeof *least);
    uint8_t *room = aligned_alloc(64, stride);
    for (uint32_t w = 0; w < p->count; w++) {
        struct code_query query;
        codes_query_row(&p->codes, p->centroids + w * stride, room, &query);
        codes_scan(&p->codes, l->rows.set.kernels, &query, codes, MANY, keys);
        for (uint32_t i = 0; i < MANY; i++) {
            if (w > 0 && keys[i] + p->weights[w] >= least[i])
                continue;
            least[i] = keys[i] + p->weights[w];
            near[i] = w;
        }
    }
    free(keys);
    free(least);
    free(room);
}

TEST(rows_find_their_nearest_of_many_wells_though_they_see_a_part_of_them)
{
    EACH_METRIC(m) {
        struct lake l;
        lake_rows(&l, kernels_get(), metrics[m], PLAIN, MANY, 12);
        lake_build(&l, MANY, PARTITION_WELLS_MAX);
        size_t stride = l.part.codes.stride;
        uint8_t *codes = aligned_alloc(64, MANY * stride);
        uint32_t *near = malloc(2 * MANY * sizeof *near), *second = near + MANY;
        uint32_t *want = malloc(MANY * sizeof *want), right = 0;
        struct centers *centers;
        for (uint32_t i = 0; i < MANY; i++)
            codes_encode(&l.part.codes, l.rows.set.kernels, l.data + i * l.dims, codes + i * stride);
        struct code_rows rows = {.kernels = l.rows.set.kernels, .codes = &l.part.codes, .rows = codes,
                                 .count = MANY, .of = MANY, .threads = 2};
        CHECK_OK(centers_new(rows.kernels, rows.codes, l.part.centroids, l.part.weights, l.part.count,
                             &centers));
        CHECK(centers->groups > 1);
        CHECK(centers_bytes(centers) > l.part.count * stride);
        CHECK_OK(partition_assign(&rows, centers, near, second));
        find_nearest(&l, codes, want);
        for (uint32_t i = 0; i < MANY; i++) {
            CHECK(near[i] < l.part.count && second[i] < l.part.count && near[i] != second[i]);
            right += near[i] == want[i];
        }
        check_note("metric %d: %u of %d", metrics[m], right, MANY);
        CHECK(right >= MANY * 97 / 100);
        centers_free(centers);
        free(codes);
        free(near);
        free(want);
        lake_free(&l);
    }
}

TEST(many_wells_of_rows_that_are_all_alike_leave_nobody_without_a_list)
{
    static const enum kind kinds[] = {EQUAL, DUPLICATES, ZEROS};
    EACH_METRIC(m)
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            struct lake l;
            lake_rows(&l, kernels_get(), metrics[m], kinds[kind], MANY, 9);
            check_note("kind %zu", kind);
            lake_build(&l, MANY, PARTITION_WELLS_MAX);
            CHECK(l.part.count >= 256);
            check_lists(&l);
            check_exact(&l, 2, 10, UINT32_MAX);
            lake_free(&l);
        }
}

TEST(lists_of_many_wells_do_not_depend_on_threads_or_kernels)
{
    for (size_t m = 0; m < 2; m++) {
        struct lake first;
        lake_rows(&first, kernels_get(), metrics[m], CLUSTERED, MANY, 20);
        first.threads = 1;
        lake_build(&first, MANY, PARTITION_WELLS_MAX);
        for (unsigned threads = 2; threads <= 7; threads += 5) {
            struct lake other = first;
            partition_init(&other.part, 20, metrics[m]);
            other.rows.set.kernels = threads == 2 ? &kernels_scalar : kernels_get();
            other.threads = threads;
            lake_build(&other, MANY, PARTITION_WELLS_MAX);
            check_same_lists(&first.part, &other.part);
            partition_dispose(&other.part);
        }
        lake_free(&first);
    }
}

TEST(a_sample_places_wells_and_leaves_the_lists_empty)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_COSINE, PLAIN, 500, 16);
    struct partition_source sample = source_of(&l, 300);
    CHECK_OK(partition_build(&l.part, &sample, PARTITION_WELLS_MAX, true));
    l.rows.set.codes = l.part.codes;
    CHECK_EQ(l.part.count, partition_wells_for(300, PARTITION_WELLS_MAX));
    CHECK_EQ(l.part.entries + l.part.end + l.part.rows, 0);
    CHECK_EQ(l.part.trained, 0);
    struct partition_plan plan;
    struct partition_source source = source_of(&l, 500);
    CHECK_OK(partition_plan_add(&l.part, &source, 500, &plan));
    CHECK_OK(partition_add(&l.part, &plan));
    partition_plan_dispose(&plan);
    check_lists(&l);
    check_exact(&l, 9, 10, UINT32_MAX);
    lake_free(&l);
}

/* ---------------------------------------------------------------- adding and splitting */

static void add_rows(struct lake *l, uint32_t count)
{
    struct partition_plan plan;
    struct partition_source source = source_of(l, l->count);
    CHECK_OK(partition_plan_add(&l->part, &source, count, &plan));
    CHECK_OK(partition_add(&l->part, &plan));
    partition_plan_dispose(&plan);
}

static void split(struct lake *l, uint32_t well)
{
    struct partition_split halves;
    struct partition_source source = source_of(l, l->count);
    CHECK_OK(partition_plan_split(&l->part, &source, well, &halves));
    CHECK_OK(partition_apply_split(&l->part, &halves));
    partition_split_dispose(&halves);
}

TEST(rows_that_are_added_one_by_one_or_together_go_to_the_same_lists)
{
    EACH_METRIC(m) {
        struct lake l;
        lake_rows(&l, kernels_get(), metrics[m], CLUSTERED, 900, 24);
        lake_build(&l, 400, PARTITION_WELLS_MAX);
        struct lake other = l;
        partition_init(&other.part, 24, metrics[m]);
        lake_build(&other, 400, PARTITION_WELLS_MAX);
        kill_row(&l, 500);
        add_rows(&l, 500);
        for (int i = 0; i < 500; i++)
            add_rows(&other, 1);
        check_same_lists(&l.part, &other.part);
        check_lists(&l);
        check_exact(&l, 10, 5, UINT32_MAX);
        partition_dispose(&other.part);
        lake_free(&l);
    }
}

TEST(an_overfull_list_is_parted_and_rows_that_cannot_be_parted_stay)
{
    EACH_METRIC(m) {
        struct lake l;
        lake_rows(&l, kernels_get(), metrics[m], PLAIN, 6000, 8);
        for (uint32_t i = 1000 * 8; i < 3000 * 8; i++)
            l.data[i] = 10 + even(); /* far from the sample: a few wells get them all */
        for (uint32_t i = 3000 * 8; i < 6000 * 8; i++)
            l.data[i] = -20; /* all alike */
        struct partition_source sample = source_of(&l, 1000);
        CHECK_OK(partition_build(&l.part, &sample, PARTITION_WELLS_MAX, true));
        l.rows.set.codes = l.part.codes;
        CHECK_EQ(partition_overfull(&l.part), UINT32_MAX);
        add_rows(&l, 6000);
        uint32_t before = l.part.count;
        for (int i = 0; i < 200 && partition_overfull(&l.part) != UINT32_MAX; i++)
            split(&l, partition_overfull(&l.part));
        CHECK(l.part.count > before);
        CHECK_EQ(l.part.splits, l.part.count - before);
        CHECK_EQ(partition_overfull(&l.part), UINT32_MAX); /* and it ends */
        l.rows.set.codes = l.part.codes;
        check_lists(&l);
        add_rows(&l, 0);
        lake_free(&l);
    }
}

TEST(a_list_whose_rows_all_died_splits_into_two_empty_ones)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_EUCLIDEAN, CLUSTERED, 400, 8);
    lake_build(&l, 400, PARTITION_WELLS_MAX);
    memset(l.live, 0, (l.count / 64 + 1) * sizeof *l.live);
    uint32_t before = l.part.count;
    split(&l, 3);
    CHECK_EQ(l.part.count, before + 1);
    CHECK_EQ(well_rows(&l.part.wells[3]) + well_rows(&l.part.wells[before]), 0);
    lake_free(&l);
}

/* ---------------------------------------------------------------- groups of wells */

enum { GROUPED = 20000 }; /* rows that have wells enough for groups */

static void check_groups(const struct partition *p, uint32_t wells)
{
    const struct well_groups *g = &p->groups;
    CHECK(g->count > 1 && g->count <= PARTITION_GROUPS_MAX);
    CHECK_EQ(g->starts[0], 0);
    CHECK_EQ(g->starts[g->count], wells);
    for (uint32_t group = 0; group < g->count; group++)
        CHECK(g->starts[group] < g->starts[group + 1]);
}

static void rank(struct lake *l, const float *query, uint32_t probes, struct well_ranking *r)
{
    uint8_t *room = aligned_alloc(64, l->part.codes.stride);
    struct code_query code;
    codes_query(&l->part.codes, l->rows.set.kernels, query, room, &code);
    partition_rank_near(&l->part, l->rows.set.kernels, &code, probes, r);
    partition_sort(r->keys, r->order, probes);
    free(room);
}

/* Of the nearest few lists those that a query is compared with are in order, and nearly all are among them. */
static void check_near(struct lake *l, uint32_t probes)
{
    struct well_ranking few, all;
    uint32_t found = 0, asked = 0;
    CHECK(partition_ranking_init(&few, l->part.count) && partition_ranking_init(&all, l->part.count));
    for (uint32_t q = 0; q < 100; q++) {
        rank(l, l->data + (size_t)q * l->dims, probes, &few);
        rank(l, l->data + (size_t)q * l->dims, l->part.count, &all);
        CHECK_EQ(all.count, l->part.count);
        CHECK(few.count >= l->part.count / 4 && few.count < l->part.count);
        for (uint32_t i = 1; i < few.count; i++)
            CHECK(few.wells[i] > few.wells[i - 1]);
        for (uint32_t i = 0; i < few.count; i++)
            CHECK_EQ(few.keys[i], all.keys[few.wells[i]]);
        for (uint32_t i = 0; i < probes; i++, asked++)
            for (uint32_t j = 0; j < probes; j++)
                found += few.wells[few.order[j]] == all.order[i];
    }
    check_note("%u of %u", found, asked);
    CHECK(found >= asked * 9 / 10);
    partition_ranking_dispose(&few);
    partition_ranking_dispose(&all);
}

TEST(a_query_for_few_lists_is_compared_with_the_nearest_groups_of_wells)
{
    EACH_METRIC(m) {
        struct lake l;
        const char *path = check_path("wells");
        struct snapshot *s;
        lake_rows(&l, kernels_get(), metrics[m], CLUSTERED, GROUPED, 16);
        lake_build(&l, GROUPED, PARTITION_WELLS_MAX);
        uint32_t wells = l.part.count, most = partition_near_most(&l.part);
        check_groups(&l.part, wells);
        CHECK(most >= 10 && most < wells / 4);
        CHECK_EQ(l.part.groups.share, 1); /* nothing was measured */
        l.part.groups.share = 4;
        check_near(&l, 5);
        check_near(&l, most);
        check_lists(&l);
        split(&l, 3);
        check_groups(&l.part, wells); /* the new well is in none */
        check_near(&l, most);
        save(&l.part, path);
        struct lake again = l;
        CHECK(load(path, &l.part, GROUPED, &again.part, &s));
        check_groups(&again.part, wells);
        CHECK_EQ(again.part.groups.share, 4);
        check_near(&again, most);
        partition_dispose(&again.part);
        snapshot_close(s);
        lake_free(&l);
    }
}

TEST(groups_that_cannot_be_are_as_if_they_were_not_there)
{
    struct lake l;
    const char *path = check_path("wells");
    lake_rows(&l, kernels_get(), SYNA_METRIC_COSINE, CLUSTERED, GROUPED, 8);
    lake_build(&l, GROUPED, PARTITION_WELLS_MAX);
    uint32_t *starts = l.part.groups.starts, count = l.part.groups.count;
    for (int spoil = 0; spoil < 6; spoil++) {
        struct partition into;
        struct snapshot *s;
        uint32_t *spoiled = spoil >= 4   ? &l.part.groups.share
                            : spoil == 0 ? &starts[0]
                            : spoil == 1 ? &starts[count]
                                         : &starts[2];
        const uint32_t bad[] = {1, l.part.count + 1, starts[1], UINT32_MAX, 0, 5};
        uint32_t good = *spoiled;
        *spoiled = bad[spoil];
        save(&l.part, path);
        *spoiled = good;
        check_note("spoiled %d", spoil);
        CHECK(load(path, &l.part, GROUPED, &into, &s) && into.groups.count == 0);
        snapshot_close(s);
        partition_dispose(&into);
    }
    lake_free(&l);
}

/* ---------------------------------------------------------------- ranking lists, recall */

TEST(the_nearest_lists_are_ranked_as_sorting_ranks_them)
{
    int32_t keys[700];
    uint32_t out[700];
    for (int round = 0; round < 60; round++) {
        uint32_t wells = 1 + (uint32_t)(check_random() % 700);
        uint32_t probes = 1 + (uint32_t)(check_random() % wells);
        uint64_t spread = round % 3 == 0 ? 3 : round % 3 == 1 ? 5000 : UINT32_MAX;
        for (uint32_t w = 0; w < wells; w++)
            keys[w] = (int32_t)(uint32_t)(check_random() % spread);
        partition_rank(keys, wells, probes, out);
        for (uint32_t i = 0; i < probes; i++) {
            uint32_t before = 0, among = 0;
            for (uint32_t w = 0; w < wells; w++)
                before += keys[w] < keys[out[i]] || (keys[w] == keys[out[i]] && w < out[i]);
            for (uint32_t j = 0; j < probes; j++)
                among += out[j] == out[i];
            CHECK(before < probes && among == 1);
        }
    }
}

static void measure(struct lake *l)
{
    struct partition_curves curves;
    CHECK_OK(partition_measure(&l->part, &l->rows.set, l->live, l->count, &curves));
    partition_take_curves(&l->part, &curves);
    partition_curves_dispose(&curves);
}

TEST(a_search_stops_before_its_lists_have_more_rows_than_it_may_look_at)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_COSINE, CLUSTERED, 1500, 20);
    lake_build(&l, 1500, PARTITION_WELLS_MAX);
    uint64_t longest = 0;
    for (uint32_t w = 0; w < l.part.count; w++)
        longest = MAX(longest, well_rows(&l.part.wells[w]));
    for (uint64_t most = 1; most < 3000; most = most * 3 + 7)
        for (size_t count = 1; count <= 40; count += 39) { /* alone, together */
            struct topk tops[40];
            struct partition_visits all = {0}, some = {0};
            struct partition_reach reach = {.lists = l.part.count};
            for (int limited = 0; limited < 2; limited++) {
                for (size_t q = 0; q < count; q++)
                    topk_init(&tops[q], 5, FLT_MAX);
                reach.codes = limited ? most : 0;
                CHECK_OK(partition_search(&l.part, &l.rows.set, l.data, count, &reach, NULL, tops,
                                          limited ? &some : &all));
                for (size_t q = 0; q < count; q++)
                    topk_dispose(&tops[q]);
            }
            check_note("%llu codes, %zu queries", (unsigned long long)most, count);
            CHECK_EQ(all.codes, (uint64_t)l.part.entries * count);
            CHECK(some.lists >= count && some.codes <= MAX(most, longest) * count);
            CHECK(some.codes + longest * count > MIN(most, (uint64_t)l.part.entries) * count);
        }
    lake_free(&l);
}

TEST(more_recall_takes_more_lists_and_nprobe_is_monotone)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_EUCLIDEAN, PLAIN, 5000, 6);
    lake_build(&l, 5000, PARTITION_WELLS_MAX);
    CHECK_EQ(partition_lists_of(&l.part, 1), l.part.count); /* nothing was measured */
    CHECK_EQ(partition_lists_for(&l.part, 10, 0.5f), l.part.count);
    measure(&l);
    uint32_t before = 0;
    for (uint64_t nprobe = 1; nprobe < 600; nprobe++) {
        uint32_t lists = partition_lists_of(&l.part, nprobe);
        CHECK(lists >= before && lists <= l.part.count);
        before = lists;
    }
    CHECK_EQ(before, l.part.count);
    CHECK(partition_lists_of(&l.part, 5) < partition_lists_of(&l.part, 50));
    CHECK(partition_recall_at(&l.part, 10, partition_lists_of(&l.part, 50)) >= 0.985f);
    CHECK(partition_recall_at(&l.part, 10, partition_lists_of(&l.part, 100)) >= 1.0f);
    for (float recall = 0.1f; recall < 1; recall += 0.1f) {
        uint32_t lists = partition_lists_for(&l.part, 10, recall);
        CHECK(partition_recall_at(&l.part, 10, lists) >= recall);
        CHECK(lists <= partition_lists_for(&l.part, 10, recall + 0.1f));
        CHECK(lists <= partition_lists_for(&l.part, 100, recall) + 1);
    }
    CHECK_EQ(partition_lists_for(&l.part, 10, 1), l.part.count);
    lake_free(&l);
}

TEST(rows_from_elsewhere_make_measuring_and_training_due_and_more_of_the_same_do_not)
{
    EACH_METRIC(m) {
        struct lake l;
        lake_rows(&l, kernels_get(), metrics[m], PLAIN, 9000, 8);
        for (uint32_t row = 4500; row < 9000; row++) /* along one direction */
            for (uint32_t i = 0; i < 8; i++)
                l.data[row * 8 + i] = (i % 2 ? 1.0f : -1.0f) + 0.2f * even();
        lake_build(&l, 3000, PARTITION_WELLS_MAX);
        l.rows.set.codes = l.part.codes;
        struct partition_curves curves;
        CHECK_OK(partition_measure(&l.part, &l.rows.set, l.live, 3000, &curves));
        partition_take_curves(&l.part, &curves);
        partition_curves_dispose(&curves);
        uint32_t lists = partition_lists_for(&l.part, 10, 0.9f);
        add_rows(&l, 1500); /* as those before */
        CHECK_EQ(l.part.trained, 3000);
        CHECK_EQ(l.part.calibrated, 3000);
        CHECK(l.part.drift < 0.1f);
        add_rows(&l, 300);
        CHECK(l.part.drift > 0.03f);
        CHECK(partition_lists_for(&l.part, 10, 0.9f) >= lists);
        CHECK_EQ(l.part.trained, 3000);
        for (int i = 0; i < 14; i++)
            add_rows(&l, 300);
        CHECK(l.part.drift > 0.25f);
        CHECK_EQ(l.part.calibrated, 1);
        CHECK_EQ(l.part.trained, 9000 / PARTITION_GROWTH);
        CHECK(partition_lists_for(&l.part, 10, 0.9f) > lists);
        lake_free(&l);
    }
}

/* ---------------------------------------------------------------- snapshots */

TEST(a_partition_comes_back_from_its_snapshot_and_grows_on)
{
    EACH_METRIC(m) {
        struct lake l;
        const char *path = check_path("wells");
        lake_rows(&l, kernels_get(), metrics[m], CLUSTERED, 2000, 30);
        lake_build(&l, 1200, PARTITION_WELLS_MAX);
        add_rows(&l, 300);
        split(&l, 0);
        measure(&l);
        save(&l.part, path);
        struct lake again = l;
        struct snapshot *s;
        bool found;
        partition_init(&again.part, 30, metrics[m]);
        CHECK_OK(snapshot_open(path, &cover, &s));
        CHECK_OK(partition_load(&again.part, s, 1499, &found));
        CHECK(!found); /* of more rows than there are */
        CHECK_OK(partition_load(&again.part, s, 1500, &found));
        CHECK(found);
        check_same_lists(&l.part, &again.part);
        for (uint64_t nprobe = 1; nprobe < 200; nprobe += 9)
            CHECK_EQ(partition_lists_of(&again.part, nprobe), partition_lists_of(&l.part, nprobe));
        add_rows(&again, 500);
        check_lists(&again);
        check_exact(&again, 10, 10, UINT32_MAX);
        partition_dispose(&again.part);
        snapshot_close(s);
        lake_free(&l);
    }
}

TEST(sections_that_do_not_fit_together_are_refused)
{
    struct lake l;
    const char *path = check_path("wells");
    lake_rows(&l, kernels_get(), SYNA_METRIC_EUCLIDEAN, CLUSTERED, 600, 16);
    lake_build(&l, 600, PARTITION_WELLS_MAX);
    for (int spoil = 0; spoil < 4; spoil++) {
        struct partition bad = l.part;
        struct snapshot *s;
        uint32_t row = 0;
        uint32_t *entry_at = (uint32_t *)(uintptr_t)bad.wells[0].head_rows;
        switch (spoil) {
        case 0:
            row = entry_at[0];
            entry_at[0] = 600; /* no such row */
            break;
        case 1:
            bad.entries++;
            break;
        case 2:
            bad.rows = bad.end + 1;
            break;
        default:
            bad.count--;
        }
        save(&bad, path);
        if (spoil == 0)
            entry_at[0] = row;
        struct partition into;
        check_note("spoiled %d", spoil);
        CHECK(!load(path, &l.part, 600, &into, &s) && into.count == 0);
        snapshot_close(s);
        partition_dispose(&into);
    }
    lake_free(&l);
}

/* ---------------------------------------------------------------- no memory */

static bool fail_at(void *context, size_t bytes)
{
    (void)bytes;
    int *left = context;
    return __atomic_sub_fetch(left, 1, __ATOMIC_RELAXED) != 0;
}

static syna_rc do_everything(struct lake *l)
{
    struct partition_source source = source_of(l, 300), more = source_of(l, 400);
    struct partition_plan plan;
    struct partition_split halves;
    struct partition_curves curves;
    struct topk tops[12];
    SYNA_TRY(partition_build(&l->part, &source, PARTITION_WELLS_MAX, false));
    l->rows.set.codes = l->part.codes;
    SYNA_TRY(partition_plan_add(&l->part, &more, 100, &plan));
    syna_rc rc = partition_add(&l->part, &plan);
    partition_plan_dispose(&plan);
    SYNA_TRY(rc);
    SYNA_TRY(partition_plan_split(&l->part, &more, 0, &halves));
    rc = partition_apply_split(&l->part, &halves);
    partition_split_dispose(&halves);
    SYNA_TRY(rc);
    SYNA_TRY(partition_measure(&l->part, &l->rows.set, l->live, 400, &curves));
    partition_take_curves(&l->part, &curves);
    for (size_t q = 0; q < COUNT_OF(tops); q++)
        topk_init(&tops[q], 5, FLT_MAX);
    rc = partition_search(&l->part, &l->rows.set, l->data, COUNT_OF(tops),
                          &(struct partition_reach){.lists = 4}, l->live, tops, NULL);
    for (size_t q = 0; q < COUNT_OF(tops); q++)
        topk_dispose(&tops[q]);
    return rc;
}

TEST(without_memory_at_any_call_nothing_leaks_and_what_there_is_stays_sound)
{
    for (int k = 1;; k += 1 + k / 32) { /* each query of the measuring takes the same few */
        struct lake l;
        int left = k;
        lake_rows(&l, kernels_get(), SYNA_METRIC_DOT_PRODUCT, CLUSTERED, 400, 8);
        l.threads = 1;
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = do_everything(&l);
        syna_test_set_alloc(NULL, NULL);
        check_note("k = %d", k);
        if (left > 0) {
            CHECK_OK(rc);
            lake_free(&l);
            break;
        }
        if (rc != SYNA_SUCCESS) /* an address range may come smaller instead */
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        if (l.part.rows > 0)
            check_lists(&l);
        lake_free(&l);
    }
}

TEST(without_memory_at_any_call_wells_keep_their_numbers_and_nothing_leaks)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_EUCLIDEAN, CLUSTERED, GROUPED, 8);
    struct partition_source source = source_of(&l, GROUPED);
    CHECK_OK(partition_build(&l.part, &source, PARTITION_WELLS_MAX, true));
    size_t bytes = l.part.count * (size_t)l.part.codes.stride;
    uint8_t *before = malloc(bytes);
    memcpy(before, l.part.centroids, bytes);
    for (int k = 1;; k++) {
        int left = k;
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = partition_group_wells(&l.part, l.rows.set.kernels);
        syna_test_set_alloc(NULL, NULL);
        check_note("k = %d", k);
        if (left > 0) {
            CHECK_OK(rc);
            check_groups(&l.part, l.part.count);
            break;
        }
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        CHECK(l.part.groups.count == 0 || memcmp(before, l.part.centroids, bytes) == 0);
    }
    free(before);
    lake_free(&l);
}

TEST(without_memory_at_any_call_centroids_are_not_packed_and_nothing_leaks)
{
    struct lake l;
    lake_rows(&l, kernels_get(), SYNA_METRIC_EUCLIDEAN, CLUSTERED, MANY, 8);
    lake_build(&l, MANY, PARTITION_WELLS_MAX);
    for (int k = 1;; k++) {
        struct centers *centers = NULL;
        int left = k;
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = centers_new(l.rows.set.kernels, &l.part.codes, l.part.centroids, l.part.weights,
                                 l.part.count, &centers);
        syna_test_set_alloc(NULL, NULL);
        check_note("k = %d", k);
        if (left > 0) {
            CHECK_OK(rc);
            CHECK(centers->above != NULL);
            centers_free(centers);
            break;
        }
        CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    }
    lake_free(&l);
}
