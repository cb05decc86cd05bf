/* The cascade against scoring every row: recall, the buckets' and the graph's structure, determinism, later
 * rows, dead rows, what is without structure, snapshots, failures. */
#include "rows_fixture.h"

#include "index/cascade_core.h"
#include "store/snapshot.h"

enum { DIMS = 24, ROWS = 4000, K = 10, ASKED = 50 };

static const struct cascade_params plain = {16, 64, 4};
static const int32_t metrics[] = {SYNA_METRIC_COSINE, SYNA_METRIC_EUCLIDEAN, SYNA_METRIC_DOT_PRODUCT};

/* Points on a curved sheet of few dimensions in a space of many, as embeddings are. */
static float *make_sheet(size_t rows)
{
    float *data = malloc(rows * DIMS * sizeof *data);
    for (size_t r = 0; r < rows; r++) {
        float at[4] = {even(), even(), even(), even()};
        for (size_t i = 0; i < DIMS; i++)
            data[r * DIMS + i] = sinf(3 * at[i % 4] + (float)i) + at[(i * 7 + 1) % 4] + 0.05f * even();
    }
    return data;
}

static bool is_chosen(const uint64_t *chosen, uint32_t row)
{
    return !chosen || (chosen[row / 64] >> row % 64 & 1);
}

/* Share of the true nearest that searches of this width find; what they return is always sound. */
static double recall_of(struct cascade *c, const struct row_set *set, uint32_t ef,
                        const uint64_t *chosen)
{
    size_t right = 0, wanted = 0;
    float *queries = make_sheet(ASKED);
    for (size_t q = 0; q < ASKED; q++) {
        const float *query = queries + q * DIMS;
        struct topk found, truth;
        struct cascade_query ask = {.vector = query, .norm = vector_norm(set->kernels, query, DIMS),
                                    .ef = ef, .chosen = chosen, .without = CASCADE_NONE};
        topk_init(&found, K, FLT_MAX);
        topk_init(&truth, K, FLT_MAX);
        CHECK_OK(cascade_search(c, set, &ask, &found, NULL));
        for (uint32_t row = 0; row < c->linked; row++)
            if (is_chosen(chosen, row))
                CHECK(topk_offer(&truth, row_set_rank(set, query, ask.norm, row), row));
        topk_sort(&found);
        topk_sort(&truth);
        for (size_t i = 0; i < found.count; i++) {
            uint32_t row = found.items[i].row;
            float rank = row_set_rank(set, query, ask.norm, row);
            CHECK(row < c->linked && is_chosen(chosen, row));
            CHECK_MEM(&found.items[i].rank, &rank, sizeof rank); /* exact, always */
            CHECK(i == 0 || found.items[i - 1].row != row);
            right += rank <= truth.items[truth.count - 1].rank;
        }
        wanted += truth.count;
        topk_dispose(&found);
        topk_dispose(&truth);
    }
    free(queries);
    return (double)right / (double)wanted;
}

/* Every live row stands in one bucket, which knows its sign code; links name rows, none twice. */
static void check_structure(const struct cascade *c, const struct row_set *set, const uint64_t *live)
{
    uint8_t signs[DIMS + 64];
    uint32_t filed = 0;
    for (uint32_t leaf = 0; leaf < c->leaf_count; leaf++) {
        const struct cascade_leaf *l = leaf_at(c, leaf);
        CHECK(l->count <= c->params.capacity);
        for (uint32_t i = 0; i < l->count; i++) {
            CHECK_EQ(*leaf_of(c, l->rows[i]), leaf);
            sign_code(array_at(&set->code_rows, l->rows[i]), c->centre, c->stride, signs);
            CHECK_MEM(leaf_signs(c, l, i), signs, sign_bytes(c));
        }
        filed += l->count;
    }
    CHECK_EQ(filed, c->filed);
    for (uint32_t row = 0; row < c->linked; row++) {
        const uint32_t *links = links_of(c, row);
        CHECK_EQ(*leaf_of(c, row) != CASCADE_NONE, is_chosen(live, row));
        for (uint32_t i = 0; i < CASCADE_DEGREE && links[i] != CASCADE_NONE; i++) {
            CHECK(links[i] < c->linked && links[i] != row);
            for (uint32_t j = 0; j < i; j++)
                CHECK(links[j] != links[i]);
        }
    }
}

static void build(struct cascade *c, const struct fixture *f, const uint64_t *live, uint32_t count,
                  unsigned threads)
{
    CHECK_OK(cascade_init(c, &plain, f->set.codes.stride));
    CHECK_OK(cascade_build(c, &f->set, live, count, threads, NULL));
    CHECK_EQ(c->linked, count);
}

static void add_rows(struct cascade *c, const struct row_set *set, uint32_t end, const uint64_t *live)
{
    while (c->linked < end) {
        struct cascade_change change;
        CHECK_OK(cascade_reserve(c));
        CHECK(cascade_has_room(c));
        CHECK_OK(cascade_plan(c, set, live, &change));
        cascade_apply(c, set, &change);
    }
}

/* ---------------------------------------------------------------- what it finds */

TEST(the_index_finds_the_nearest_under_every_metric)
{
    float *data = make_sheet(ROWS);
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture f;
        struct cascade c;
        float expected;
        check_note("metric %d", metrics[m]);
        fixture_init(&f, kernels_get(), metrics[m], data, ROWS, DIMS, ROWS, 0);
        build(&c, &f, NULL, ROWS, 2);
        check_structure(&c, &f.set, NULL);
        uint32_t ef = cascade_ef_for(&c, K, 0.96f, &expected);
        CHECK(ef > 0 && expected >= 0.95f);
        CHECK(recall_of(&c, &f.set, ef, NULL) >= 0.93);
        CHECK(recall_of(&c, &f.set, 400, NULL) >= 0.98);
        cascade_dispose(&c);
        fixture_dispose(&f);
    }
    free(data);
}

TEST(rows_that_come_one_by_one_are_found_as_well)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct cascade c;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    build(&c, &f, NULL, 300, 1);
    add_rows(&c, &f.set, ROWS, NULL);
    check_structure(&c, &f.set, NULL);
    CHECK(c.leaf_count > ROWS / plain.capacity);
    CHECK(recall_of(&c, &f.set, 100, NULL) >= 0.95);
    /* Each row finds itself: nothing is out of reach of its own neighbourhood. */
    for (uint32_t row = 0; row < ROWS; row += 7) {
        struct topk top;
        struct cascade_query ask = {.vector = data + row * DIMS, .ef = 40, .without = CASCADE_NONE};
        ask.norm = vector_norm(f.set.kernels, ask.vector, DIMS);
        topk_init(&top, 1, FLT_MAX);
        CHECK_OK(cascade_search(&c, &f.set, &ask, &top, NULL));
        check_note("row %u", row);
        CHECK_EQ(top.items[0].row, row);
        topk_dispose(&top);
    }
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}

static bool finds_itself(struct cascade *c, const struct row_set *set, const float *data, uint32_t row)
{
    const float *query = data + (size_t)row * DIMS;
    struct cascade_query ask = {.vector = query, .norm = vector_norm(set->kernels, query, DIMS),
                                .ef = 64, .without = CASCADE_NONE};
    struct topk top;
    bool found = false;
    topk_init(&top, K, FLT_MAX);
    CHECK_OK(cascade_search(c, set, &ask, &top, NULL));
    for (size_t i = 0; i < top.count; i++)
        found = found || top.items[i].row == row;
    topk_dispose(&top);
    return found;
}

/* Rows that the building holds back to measure with (one of 32, from 1,024 rows on) are in the end like all
 * others: each filed once (check_structure), linked to and from, found. */
TEST(rows_that_were_held_back_for_the_measuring_are_filed_linked_and_found)
{
    float *data = make_sheet(ROWS);
    for (int dying = 0; dying < 2; dying++) {
        uint64_t *live = calloc(ROWS / 64 + 1, sizeof *live);
        uint8_t *named = calloc(ROWS, 1);
        struct fixture f;
        struct cascade c;
        uint32_t alive = 0, lost = 0, unnamed = 0;
        fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
        for (uint32_t row = 0; row < ROWS; row++)
            if (!dying || row % 3) {
                live[row / 64] |= 1ull << row % 64;
                alive++;
            }
        build(&c, &f, dying ? live : NULL, ROWS, 2);
        check_structure(&c, &f.set, live);
        CHECK_EQ(c.filed, alive);
        CHECK_EQ(c.calibrated, alive);
        for (uint32_t row = 0; row < ROWS; row++) {
            if (!is_chosen(live, row))
                continue;
            CHECK(links_of(&c, row)[0] != CASCADE_NONE);
            for (uint32_t i = 0; i < CASCADE_DEGREE && links_of(&c, row)[i] != CASCADE_NONE; i++)
                named[links_of(&c, row)[i]] = 1;
            lost += !finds_itself(&c, &f.set, data, row);
        }
        for (uint32_t row = 0; row < ROWS; row++)
            unnamed += is_chosen(live, row) && !named[row];
        check_note("%u of %u rows do not find themselves, %u have no link to them", lost, alive, unnamed);
        CHECK(lost <= alive / 500); /* 31 in 1,000 were held back */
        CHECK(unnamed <= alive / 100);
        cascade_dispose(&c);
        fixture_dispose(&f);
        free(live);
        free(named);
    }
    free(data);
}

TEST(the_walk_is_wider_for_rows_that_came_after_the_measuring)
{
    float *data = make_sheet(ROWS), expected;
    struct fixture f;
    struct cascade c;
    struct cascade_curve curves[CASCADE_CURVES];
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    build(&c, &f, NULL, ROWS / 2, 1);
    uint32_t measured = cascade_ef_for(&c, K, 0.9f, &expected);
    add_rows(&c, &f.set, ROWS * 3 / 4, NULL);
    uint32_t some = cascade_ef_for(&c, K, 0.9f, &expected);
    add_rows(&c, &f.set, ROWS, NULL);
    uint32_t more = cascade_ef_for(&c, K, 0.9f, &expected);
    CHECK(0 < measured && measured < some && some < more);
    CHECK(recall_of(&c, &f.set, more, NULL) >= 0.9);
    CHECK_OK(cascade_measure(&c, &f.set, NULL, 1, curves));
    cascade_take_curves(&c, curves);
    CHECK_EQ(c.calibrated, c.filed);
    CHECK(recall_of(&c, &f.set, cascade_ef_for(&c, K, 0.91f, &expected), NULL) >= 0.9);
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}

TEST(dead_rows_are_never_returned_and_do_not_bar_the_way)
{
    float *data = make_sheet(ROWS);
    uint64_t *live = calloc(ROWS / 64 + 1, sizeof *live);
    struct fixture f;
    struct cascade c;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    for (uint32_t row = 0; row < ROWS; row++)
        live[row / 64] |= 1ull << row % 64;
    build(&c, &f, NULL, ROWS - 500, 2);
    for (uint32_t row = 0; row < ROWS - 500; row += 3) {
        live[row / 64] &= ~(1ull << row % 64);
        cascade_remove(&c, row);
        cascade_remove(&c, row); /* telling it twice does no harm */
    }
    check_structure(&c, &f.set, live);
    add_rows(&c, &f.set, ROWS, live);
    check_structure(&c, &f.set, live);
    CHECK(recall_of(&c, &f.set, 150, live) >= 0.95);
    /* Built anew, dead rows are in no bucket and nobody's neighbour. */
    CHECK_OK(cascade_build(&c, &f.set, live, ROWS, 2, NULL));
    check_structure(&c, &f.set, live);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t i = 0; i < CASCADE_DEGREE && links_of(&c, row)[i] != CASCADE_NONE; i++)
            CHECK(is_chosen(live, row) && is_chosen(live, links_of(&c, row)[i]));
    CHECK(recall_of(&c, &f.set, 150, live) >= 0.95);
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(live);
    free(data);
}

TEST(a_row_that_is_left_out_is_not_found)
{
    float *data = make_sheet(1000);
    struct fixture f;
    struct cascade c;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, 1000, DIMS, 1000, 0);
    build(&c, &f, NULL, 1000, 1);
    for (uint32_t row = 0; row < 1000; row += 50) {
        struct topk top;
        struct cascade_query ask = {.vector = data + row * DIMS, .norm = 1, .ef = 100, .without = row};
        topk_init(&top, K, FLT_MAX);
        CHECK_OK(cascade_search(&c, &f.set, &ask, &top, NULL));
        CHECK_EQ(top.count, K);
        for (size_t i = 0; i < top.count; i++)
            CHECK(top.items[i].row != row);
        topk_dispose(&top);
    }
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}

/* ---------------------------------------------------------------- data of every unpleasant kind */

TEST(every_kind_of_rows_gives_a_sound_index)
{
    enum { SOME = 900, FEW_DIMS = 9 };
    float *data = malloc(SOME * FEW_DIMS * sizeof *data);
    for (enum kind kind = PLAIN; kind < KINDS; kind++)
        for (size_t m = 0; m < COUNT_OF(metrics); m++) {
            struct fixture f;
            struct cascade c;
            struct topk top;
            check_note("kind %d, metric %d", (int)kind, metrics[m]);
            fixture_fill(kind, data, SOME, FEW_DIMS);
            fixture_init(&f, kernels_get(), metrics[m], data, SOME, FEW_DIMS, SOME, 0);
            build(&c, &f, NULL, SOME / 2, 2);
            add_rows(&c, &f.set, SOME, NULL);
            check_structure(&c, &f.set, NULL);
            struct cascade_query ask = {.vector = data, .ef = 50, .without = CASCADE_NONE};
            ask.norm = vector_norm(f.set.kernels, data, FEW_DIMS);
            topk_init(&top, K, FLT_MAX);
            CHECK_OK(cascade_search(&c, &f.set, &ask, &top, NULL));
            CHECK_EQ(top.count, K);
            topk_dispose(&top);
            cascade_dispose(&c);
            fixture_dispose(&f);
        }
    free(data);
}

TEST(where_no_walk_helps_looking_at_every_code_is_advised)
{
    enum { NOISE = 2500, MANY = 512 };
    float *data = malloc((size_t)NOISE * MANY * sizeof *data), expected;
    struct fixture f;
    struct cascade c;
    fixture_fill(PLAIN, data, NOISE, MANY);
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, NOISE, MANY, NOISE, 0);
    build(&c, &f, NULL, NOISE, 2);
    CHECK_EQ(cascade_ef_for(&c, K, 0.96f, &expected), 0);
    CHECK(expected >= 1);
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}

TEST(parameters_are_checked)
{
    static const struct cascade_params bad[] = {{0, 64, 4},  {65, 64, 4}, {16, 15, 4},
                                                {16, 4097, 4}, {16, 64, 0}, {16, 64, 257}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct cascade c;
        CHECK_FAILS(cascade_init(&c, &bad[i], 64), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    }
}

/* ---------------------------------------------------------------- the same everywhere */

static void check_same(const struct cascade *a, const struct cascade *b)
{
    CHECK_EQ(a->linked, b->linked);
    CHECK_EQ(a->leaf_count, b->leaf_count);
    CHECK_EQ(a->node_count, b->node_count);
    CHECK_EQ(a->plane_count, b->plane_count);
    CHECK_EQ(a->hash_bits, b->hash_bits);
    CHECK_MEM(a->curves, b->curves, sizeof a->curves);
    CHECK_MEM(a->centre, b->centre, a->stride);
    for (uint32_t i = 0; i < a->node_count; i++)
        CHECK_MEM(array_at(&a->nodes, i), array_at(&b->nodes, i), a->nodes.item);
    for (uint32_t i = 0; i < a->linked; i++) {
        CHECK_MEM(links_of(a, i), links_of(b, i), a->links.item);
        CHECK_EQ(*leaf_of(a, i), *leaf_of(b, i));
    }
}

TEST(the_index_is_the_same_for_any_number_of_threads_and_any_kernels)
{
    float *data = make_sheet(ROWS);
    struct fixture f, g;
    struct cascade one, three, scalar;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    fixture_init(&g, kernels_find("scalar"), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    build(&one, &f, NULL, ROWS - 200, 1);
    build(&three, &f, NULL, ROWS - 200, 3);
    build(&scalar, &g, NULL, ROWS - 200, 2);
    add_rows(&one, &f.set, ROWS, NULL);
    add_rows(&three, &f.set, ROWS, NULL);
    add_rows(&scalar, &g.set, ROWS, NULL);
    check_same(&one, &three);
    check_same(&one, &scalar);
    cascade_dispose(&one);
    cascade_dispose(&three);
    cascade_dispose(&scalar);
    fixture_dispose(&f);
    fixture_dispose(&g);
    free(data);
}

/* ---------------------------------------------------------------- snapshots */

static struct snapshot_cover cover = {.generation = 1, .end = 1, .purpose = SNAPSHOT_FOURCC('T', 'E', 'S', 'T')};

static void save(const struct cascade *c, const char *path)
{
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    CHECK_OK(cascade_save(c, w));
    CHECK_OK(snapshot_commit(w));
}

TEST(a_saved_index_is_the_same_and_goes_on)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct cascade c, d;
    struct snapshot *s;
    bool found;
    fixture_init(&f, kernels_get(), SYNA_METRIC_EUCLIDEAN, data, ROWS, DIMS, ROWS, 0);
    build(&c, &f, NULL, ROWS - 1200, 2);
    save(&c, check_path("a.index"));
    CHECK_OK(snapshot_open(check_path("a.index"), &cover, &s));
    CHECK_OK(cascade_init(&d, &plain, f.set.codes.stride));
    CHECK_OK(cascade_load(&d, &f.set, s, &found));
    CHECK(found);
    check_same(&c, &d);
    add_rows(&c, &f.set, ROWS, NULL);
    add_rows(&d, &f.set, ROWS, NULL);
    for (uint32_t row = 0; row < ROWS; row += 5) {
        cascade_remove(&c, row);
        cascade_remove(&d, row);
    }
    check_same(&c, &d);
    cascade_dispose(&c);
    cascade_dispose(&d);
    snapshot_close(s);
    fixture_dispose(&f);
    free(data);
}

TEST(P14_an_index_of_wrong_meaning_is_not_taken_or_does_no_harm)
{
    enum { SOME = 700 };
    float *data = make_sheet(SOME);
    struct fixture f;
    struct cascade c, d;
    struct snapshot *s, *good;
    bool found;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, SOME, DIMS, SOME, 0);
    build(&c, &f, NULL, SOME, 1);
    save(&c, check_path("a.index"));
    cascade_dispose(&c);
    for (int64_t round = 0; round < check_rounds(150); round++) {
        CHECK_OK(snapshot_open(check_path("a.index"), &cover, &good));
        CHECK_OK(cascade_init(&c, &plain, f.set.codes.stride));
        CHECK_OK(cascade_load(&c, &f.set, good, &found));
        CHECK(found);
        struct array *arrays[] = {&c.nodes, &c.leaves, &c.leaf_of, &c.links, &c.planes};
        uint32_t counts[] = {c.node_count, c.leaf_count, c.linked, c.linked, c.plane_count};
        size_t which = check_random() % COUNT_OF(arrays);
        uint8_t *item = array_at(arrays[which], check_random() % counts[which]);
        item[check_random() % arrays[which]->item] = (uint8_t)check_random();
        save(&c, check_path("b.index"));
        cascade_dispose(&c);
        snapshot_close(good);
        CHECK_OK(snapshot_open(check_path("b.index"), &cover, &s));
        CHECK_OK(cascade_init(&d, &plain, f.set.codes.stride));
        CHECK_OK(cascade_load(&d, &f.set, s, &found));
        if (found) {
            struct topk top;
            struct cascade_query ask = {.vector = data, .norm = 1, .ef = 60, .without = CASCADE_NONE};
            topk_init(&top, K, FLT_MAX);
            CHECK_OK(cascade_search(&d, &f.set, &ask, &top, NULL));
            for (size_t i = 0; i < top.count; i++)
                CHECK(top.items[i].row < SOME);
            topk_dispose(&top);
            for (uint32_t row = 0; row < SOME; row += 3)
                cascade_remove(&d, row);
        }
        cascade_dispose(&d);
        snapshot_close(s);
    }
    fixture_dispose(&f);
    free(data);
}

/* ---------------------------------------------------------------- failures */

static int64_t allocations_left;

static bool fail_one(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return allocations_left-- != 0;
}

/* `count` rows are built, one more is inserted. */
static void fail_everywhere(uint32_t count)
{
    const uint32_t some = count + 100;
    float *data = make_sheet(some);
    struct fixture f;
    struct cascade c;
    bool failed = true;
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, some, DIMS, some, 0);
    build(&c, &f, NULL, count - 100, 1);
    /* Those of the measuring are thousands, all of one kind. */
    for (int64_t k = 0; failed; k += 1 + k / 16) {
        struct cascade_change change;
        check_note("allocation %lld", (long long)k);
        allocations_left = k;
        syna_test_set_alloc(fail_one, NULL);
        syna_rc rc = cascade_build(&c, &f.set, NULL, count, 1, NULL);
        if (rc == SYNA_SUCCESS)
            rc = cascade_reserve(&c);
        if (rc == SYNA_SUCCESS)
            rc = cascade_plan(&c, &f.set, NULL, &change);
        failed = allocations_left < 0;
        if (rc == SYNA_SUCCESS)
            cascade_apply(&c, &f.set, &change);
        syna_test_set_alloc(NULL, NULL);
        if (!failed)
            CHECK_OK(rc);
        else if (rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        check_structure(&c, &f.set, NULL);
        CHECK_EQ(c.filed, c.linked);
    }
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}

TEST(P7_every_allocation_of_a_build_and_an_insert_may_fail)
{
    fail_everywhere(500);
}

TEST(P7_every_allocation_may_fail_where_rows_are_held_back)
{
    fail_everywhere(1100);
}

static bool stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(int *)context;
    return false;
}

TEST(P13_a_build_that_is_stopped_leaves_the_index_as_it_was)
{
    float *data = make_sheet(ROWS);
    struct fixture f;
    struct cascade c;
    int asked = 0;
    struct cascade_progress progress = {stop_at_once, &asked};
    fixture_init(&f, kernels_get(), SYNA_METRIC_COSINE, data, ROWS, DIMS, ROWS, 0);
    build(&c, &f, NULL, 500, 2);
    syna_rc rc = cascade_build(&c, &f.set, NULL, ROWS, 2, &progress);
    if (asked) {
        CHECK_FAILS(rc, SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
        CHECK_EQ(c.linked, 500);
    }
    check_structure(&c, &f.set, NULL);
    cascade_dispose(&c);
    fixture_dispose(&f);
    free(data);
}
