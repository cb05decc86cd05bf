/* The inverted index against scoring every row: same rows, same floats, same order, whatever was added,
 * dropped, sealed, joined, saved and filtered. */
#include "check.h"

#include "index/postings.h"

#include <float.h>
#include <math.h>

/* ---------------------------------------------------------------- a model: all rows in plain memory */

struct document {
    uint32_t *terms;
    uint32_t *values; /* counts, or the bits of floats */
    uint32_t count, length;
    bool live;
};

struct model {
    enum postings_kind kind;
    struct postings *p;
    struct document *rows;
    uint32_t count, cap;
    uint32_t vocabulary;
    uint32_t spread; /* distance of term numbers */
    bool negatives;
};

static void show(void *context, uint32_t row, struct postings_row *out)
{
    struct model *m = context;
    struct document *d = &m->rows[row];
    CHECK(d->live);
    *out = (struct postings_row){d->terms, d->values, d->count, d->length};
}

static void model_init(struct model *m, enum postings_kind kind, uint32_t vocabulary)
{
    *m = (struct model){.kind = kind, .vocabulary = vocabulary, .spread = 1};
    CHECK_OK(postings_new(kind, kind == POSTINGS_WEIGHTS ? show : NULL, m, &m->p));
}

static void model_dispose(struct model *m)
{
    postings_free(m->p);
    for (uint32_t i = 0; i < m->count; i++) {
        free(m->rows[i].terms);
        free(m->rows[i].values);
    }
    free(m->rows);
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(check_random() % n);
}

/* Few different values, so that scores tie. */
static float any_weight(const struct model *m)
{
    float w = (float)(1 + below(12)) / 8;
    if (below(30) == 0)
        w *= 7;
    return m->negatives && below(3) == 0 ? -w : w;
}

/* Some terms are in many rows, most in few. */
static uint32_t any_term(const struct model *m)
{
    uint32_t a = below(m->vocabulary), b = below(m->vocabulary), c = below(m->vocabulary);
    return MIN(a, MIN(b, c)) * m->spread;
}

static int by_number(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static uint32_t any_terms(const struct model *m, uint32_t *terms, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        terms[i] = any_term(m);
    qsort(terms, count, sizeof *terms, by_number);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || terms[kept - 1] != terms[i])
            terms[kept++] = terms[i];
    return kept;
}

static void add_row(struct model *m, uint32_t terms)
{
    if (m->count == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 1024;
        m->rows = realloc(m->rows, m->cap * sizeof *m->rows);
    }
    struct document *d = &m->rows[m->count];
    *d = (struct document){.live = true};
    d->terms = malloc((terms + 1) * sizeof *d->terms);
    d->values = malloc((terms + 1) * sizeof *d->values);
    d->count = any_terms(m, d->terms, terms);
    for (uint32_t i = 0; i < d->count; i++) {
        float weight = any_weight(m);
        d->values[i] = below(500) == 0 ? 200 + below(400) : 1 + below(4);
        if (m->kind == POSTINGS_WEIGHTS)
            memcpy(&d->values[i], &weight, 4);
        d->length += d->values[i] & 0xffff;
    }
    struct postings_row row = {d->terms, d->values, d->count, d->length};
    CHECK_OK(postings_reserve(m->p, 1, d->count));
    m->count++;
    CHECK_EQ(postings_add(m->p, &row), m->count - 1);
}

static void drop_row(struct model *m, uint32_t row)
{
    m->rows[row].live = false;
    postings_drop(m->p, row);
    CHECK(!postings_is_live(m->p, row));
}

static void upkeep(struct model *m)
{
    while (postings_due(m->p)) {
        struct postings_job *job;
        CHECK_OK(postings_prepare(m->p, &job));
        CHECK(job != NULL);
        postings_install(m->p, job);
    }
}

/* ---------------------------------------------------------------- comparing */

static float score_of(const struct model *m, const struct document *d,
                      const struct postings_query *q)
{
    double sum = 0;
    for (size_t i = 0, j = 0; i < q->count; i++) {
        while (j < d->count && d->terms[j] < q->terms[i])
            j++;
        if (j == d->count || d->terms[j] != q->terms[i])
            continue;
        float value;
        memcpy(&value, &d->values[j], 4);
        if (m->kind == POSTINGS_COUNTS)
            value = (float)d->values[j] /
                    ((float)d->values[j] + q->base + q->slope * (float)d->length);
        sum += (double)q->weights[i] * value;
    }
    return sum > FLT_MAX ? FLT_MAX : sum < -FLT_MAX ? -FLT_MAX : (float)sum;
}

static bool wanted(const struct postings_query *q, uint32_t row)
{
    return !q->chosen || (q->chosen[row / 64] >> row % 64 & 1);
}

static void compare(const struct model *m, const struct postings_query *q, size_t k, float limit)
{
    struct topk top, expected;
    struct postings_visits visits = {0};
    topk_init(&top, k, limit);
    topk_init(&expected, k, limit);
    CHECK_OK(postings_search(m->p, q, &top, &visits));
    for (uint32_t row = 0; row < m->count; row++) {
        float score = m->rows[row].live && wanted(q, row) ? score_of(m, &m->rows[row], q) : 0;
        if (score != 0) {
            CHECK(postings_score(m->p, q, row) == score);
            CHECK(topk_offer(&expected, -score, row));
        }
    }
    topk_sort(&top);
    topk_sort(&expected);
    CHECK_EQ(top.count, expected.count);
    for (size_t i = 0; i < top.count; i++) {
        check_note("hit %zu of %zu", i, top.count);
        CHECK_EQ(top.items[i].row, expected.items[i].row);
        CHECK(top.items[i].rank == expected.items[i].rank);
    }
    topk_dispose(&top);
    topk_dispose(&expected);
}

static void compare_random(const struct model *m, int queries)
{
    static const size_t ks[] = {1, 10, 10, 100, 1000, SIZE_MAX};
    size_t words = m->count / 64 + 1;
    uint64_t *chosen = malloc(words * sizeof *chosen);
    for (int i = 0; i < queries; i++) {
        uint32_t terms[200];
        float weights[200];
        uint32_t count = any_terms(m, terms, 1 + below(i % 5 == 0 ? 150 : 12));
        for (uint32_t j = 0; j < count; j++)
            weights[j] = below(20) == 0 ? 0 : any_weight(m);
        uint32_t share = 1 + below(60);
        for (size_t w = 0; w < words; w++) {
            chosen[w] = 0;
            for (uint32_t b = 0; b < 64; b++)
                chosen[w] |= (uint64_t)(below(share) == 0) << b;
        }
        struct postings_query q = {terms, weights, count, .base = 0.3f, .slope = 0.02f};
        if (i % 7 == 3)
            q.base = 1.5f, q.slope = 0.3f;
        if (i % 7 == 4)
            q.base = 0.01f, q.slope = 0;
        if (i % 3 == 1)
            q.chosen = chosen;
        check_note("query %d", i);
        compare(m, &q, ks[below(COUNT_OF(ks))], i % 11 == 5 ? -2.5f : FLT_MAX);
    }
    free(chosen);
}

static void grow(struct model *m, uint32_t rows, uint32_t terms, uint32_t drop_one_of)
{
    for (uint32_t i = 0; i < rows; i++) {
        add_row(m, below(2 * terms));
        if (drop_one_of && below(drop_one_of) == 0) {
            uint32_t row = below(m->count);
            if (m->rows[row].live)
                drop_row(m, row);
        }
        upkeep(m);
    }
}

/* ---------------------------------------------------------------- tests */

static void follow(enum postings_kind kind, bool negatives, uint32_t spread)
{
    struct model m;
    model_init(&m, kind, 3000);
    m.negatives = negatives;
    m.spread = spread;
    compare_random(&m, 3);
    grow(&m, 50, 20, 0);
    compare_random(&m, 40);
    grow(&m, 9000, 30, 3);
    compare_random(&m, 40);
    grow(&m, 4000, 20, 0);
    CHECK_OK(postings_settle(m.p));
    compare_random(&m, 40);
    struct postings_facts facts;
    postings_get_facts(m.p, &facts);
    CHECK_EQ(facts.fresh_rows, 0u);
    CHECK(facts.windows > 0 && facts.windows < 8);
    model_dispose(&m);
}

TEST(weights_are_ranked_as_if_every_row_had_been_scored)
{
    follow(POSTINGS_WEIGHTS, false, 1);
}

TEST(weights_of_either_sign_are_ranked_as_if_every_row_had_been_scored)
{
    follow(POSTINGS_WEIGHTS, true, 1);
}

TEST(terms_may_be_any_numbers)
{
    follow(POSTINGS_WEIGHTS, true, UINT32_MAX / 3000);
}

TEST(counts_are_ranked_as_if_every_row_had_been_scored)
{
    follow(POSTINGS_COUNTS, false, 1);
}

TEST(counts_with_negative_queries_are_ranked_as_if_every_row_had_been_scored)
{
    follow(POSTINGS_COUNTS, true, 70000);
}

/* Few terms, so that many of their lists have maxima of groups of rows. */
static void follow_wide(enum postings_kind kind, bool negatives)
{
    struct model m;
    struct postings_facts facts;
    model_init(&m, kind, 80);
    m.negatives = negatives;
    grow(&m, 9000, 10, 6);
    CHECK_OK(postings_settle(m.p));
    postings_get_facts(m.p, &facts);
    CHECK(facts.postings * 16 > 80ull * 9000); /* the average list is wide */
    CHECK(facts.windows <= 3);
    compare_random(&m, 80);
    model_dispose(&m);
}

TEST(long_lists_that_are_not_added_up_change_no_ranking)
{
    follow_wide(POSTINGS_WEIGHTS, false);
    follow_wide(POSTINGS_WEIGHTS, true);
}

TEST(long_lists_of_counts_that_are_not_added_up_change_no_ranking)
{
    follow_wide(POSTINGS_COUNTS, false);
    follow_wide(POSTINGS_COUNTS, true);
}

/* More rows than one window holds, and k so large that there is no early threshold. */
/* Terms 0, 1, 2 and 3 are in every row, every second, every 97th and every 1,013th. */
static void add_rows_of_rare_words(struct model *m, uint32_t rows)
{
    static const uint32_t every[] = {1, 2, 97, 1013};
    m->cap = rows;
    m->rows = realloc(m->rows, rows * sizeof *m->rows);
    for (uint32_t row = 0; row < rows; row++) {
        struct document *d = &m->rows[row];
        *d = (struct document){.live = true};
        d->terms = malloc(4 * sizeof *d->terms);
        d->values = malloc(4 * sizeof *d->values);
        for (uint32_t term = 0; term < 4; term++) {
            if (row % every[term])
                continue;
            d->terms[d->count] = term;
            d->values[d->count++] = 1 + below(5);
        }
        d->length = 20 + below(60);
        struct postings_row shown = {d->terms, d->values, d->count, d->length};
        CHECK_OK(postings_reserve(m->p, 1, d->count));
        m->count++;
        postings_add(m->p, &shown);
    }
    CHECK_OK(postings_settle(m->p));
}

TEST(queries_of_rare_and_common_words_read_the_lists_of_the_rare_ones)
{
    static const uint32_t terms[] = {0, 1, 2, 3};
    static const float weights[] = {0.02f, 0.5f, 9, 14};
    struct postings_visits visits = {0};
    struct postings_query q = {
        .terms = terms, .weights = weights, .count = 4, .base = 0.3f, .slope = 0.9f / 50};
    struct model m;
    struct topk top;
    model_init(&m, POSTINGS_COUNTS, 4);
    add_rows_of_rare_words(&m, 20000);
    for (size_t k = 1; k <= 300; k += k / 2 + 1) /* up to more rows than have a rare one */
        compare(&m, &q, k, FLT_MAX);
    topk_init(&top, 10, FLT_MAX);
    CHECK_OK(postings_search(m.p, &q, &top, &visits));
    CHECK_EQ(top.count, 10u);
    CHECK(visits.postings <= 20000 / 97 + 20000 / 1013 + 2);
    CHECK(visits.rows <= 60);
    topk_dispose(&top);
    model_dispose(&m);
}

TEST(windows_are_full_and_joined_across_their_border)
{
    struct model m;
    model_init(&m, POSTINGS_WEIGHTS, 500);
    for (uint32_t i = 0; i < 70000; i++) {
        add_row(&m, 4);
        if (i % 997 == 0)
            upkeep(&m);
    }
    upkeep(&m);
    compare_random(&m, 30);
    for (uint32_t row = 0; row < 66000; row++)
        if (row % 8 != 0)
            drop_row(&m, row);
    upkeep(&m);
    compare_random(&m, 30);
    for (uint32_t row = 0; row < m.count; row++)
        if (m.rows[row].live)
            drop_row(&m, row);
    upkeep(&m);
    compare_random(&m, 3);
    struct postings_facts facts;
    CHECK_OK(postings_settle(m.p));
    postings_get_facts(m.p, &facts);
    CHECK_EQ(facts.windows, 0u);
    CHECK_EQ(facts.postings, 0u);
    model_dispose(&m);
}

TEST(facts_about_terms_and_rows)
{
    struct model m;
    model_init(&m, POSTINGS_COUNTS, 400);
    grow(&m, 6000, 20, 0);
    upkeep(&m);
    add_row(&m, 10); /* a fresh one */
    uint64_t *bits = malloc((m.count / 64 + 1) * sizeof *bits);
    for (uint32_t term = 0; term < 400; term += 7) {
        uint64_t rows = 0;
        memset(bits, 0, (m.count / 64 + 1) * sizeof *bits);
        postings_mark(m.p, term, bits);
        for (uint32_t row = 0; row < m.count; row++) {
            struct document *d = &m.rows[row];
            uint32_t count = 0;
            for (uint32_t i = 0; i < d->count; i++)
                if (d->terms[i] == term)
                    count = d->values[i];
            CHECK_EQ(postings_term_count(m.p, row, term), count);
            CHECK_EQ(postings_length(m.p, row), d->length);
            CHECK_EQ((bits[row / 64] >> row % 64 & 1), (uint64_t)(count > 0));
            rows += count > 0;
        }
        CHECK_EQ(postings_term_rows(m.p, term), rows);
    }
    free(bits);
    model_dispose(&m);
}

/* ---------------------------------------------------------------- snapshots */

static const struct snapshot_cover cover = {.generation = 1, .end = 10, .purpose = 0x50505050};

static void save(const struct model *m, const char *path)
{
    struct snapshot_writer *writer;
    CHECK_OK(snapshot_begin(path, &cover, &writer));
    CHECK_OK(postings_save(m->p, writer));
    CHECK_OK(snapshot_commit(writer));
}

static void survive(enum postings_kind kind)
{
    struct model m;
    struct snapshot *s;
    bool found;
    model_init(&m, kind, 3000);
    m.negatives = kind == POSTINGS_WEIGHTS;
    grow(&m, 6000, 30, 5);
    CHECK_OK(postings_settle(m.p));
    save(&m, check_path("a.post"));
    postings_free(m.p);
    CHECK_OK(postings_new(kind, kind == POSTINGS_WEIGHTS ? show : NULL, &m, &m.p));
    CHECK_OK(snapshot_open(check_path("a.post"), &cover, &s));
    CHECK(s != NULL);
    CHECK_OK(postings_load(m.p, s, &found));
    CHECK(found);
    CHECK_EQ(postings_count(m.p), m.count);
    compare_random(&m, 40);
    struct postings_facts facts;
    postings_get_facts(m.p, &facts);
    CHECK(facts.mapped_bytes > 0);
    grow(&m, 6000, 30, 3); /* windows of the snapshot are replaced, rows of it are dropped */
    compare_random(&m, 40);
    model_dispose(&m);
    snapshot_close(s);
}

TEST(weights_survive_a_snapshot)
{
    survive(POSTINGS_WEIGHTS);
}

TEST(counts_survive_a_snapshot)
{
    survive(POSTINGS_COUNTS);
}

TEST(an_empty_index_survives_a_snapshot)
{
    struct model m;
    struct snapshot *s;
    bool found;
    model_init(&m, POSTINGS_WEIGHTS, 10);
    save(&m, check_path("a.post"));
    CHECK_OK(snapshot_open(check_path("a.post"), &cover, &s));
    CHECK_OK(postings_load(m.p, s, &found));
    CHECK(found);
    compare_random(&m, 3);
    model_dispose(&m);
    snapshot_close(s);
}

TEST(a_snapshot_of_the_other_kind_is_not_taken)
{
    struct model m, other;
    struct snapshot *s;
    bool found;
    model_init(&m, POSTINGS_COUNTS, 100);
    grow(&m, 100, 10, 0);
    CHECK_OK(postings_settle(m.p));
    save(&m, check_path("a.post"));
    model_init(&other, POSTINGS_WEIGHTS, 100);
    CHECK_OK(snapshot_open(check_path("a.post"), &cover, &s));
    CHECK_OK(postings_load(other.p, s, &found));
    CHECK(!found);
    CHECK_EQ(postings_count(other.p), 0u);
    model_dispose(&other);
    model_dispose(&m);
    snapshot_close(s);
}

/* The snapshot of `from` anew as `to`, one row number of its postings changed. */
static void forge_row(const char *from, const char *to, size_t posting, uint16_t row)
{
    static const char *const names[] = {"post",     "postwin", "postlist", "postids", "postcode",
                                        "postlive", "postcnt", "postbig",  "postlen"};
    struct snapshot *s;
    struct snapshot_writer *writer;
    uint16_t *forged = NULL;
    CHECK_OK(snapshot_open(from, &cover, &s));
    CHECK_OK(snapshot_begin(to, &cover, &writer));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        size_t len;
        const void *bytes = snapshot_find(s, names[i], &len);
        if (!bytes)
            continue;
        if (strcmp(names[i], "postids") == 0) {
            bytes = forged = memcpy(malloc(len), bytes, len);
            forged[posting] = row;
        }
        CHECK_OK(snapshot_section(writer, names[i]));
        CHECK_OK(snapshot_append(writer, bytes, len));
    }
    CHECK_OK(snapshot_commit(writer));
    free(forged);
    snapshot_close(s);
}

static void load_forged(enum postings_kind kind, uint16_t row, bool taken)
{
    struct model m;
    struct snapshot *s;
    bool found;
    model_init(&m, kind, 100);
    grow(&m, 100, 10, 0); /* one window of 100 rows */
    CHECK_OK(postings_settle(m.p));
    save(&m, check_path("a.post"));
    forge_row(check_path("a.post"), check_path("b.post"), 7, row);
    postings_free(m.p);
    CHECK_OK(postings_new(kind, kind == POSTINGS_WEIGHTS ? show : NULL, &m, &m.p));
    CHECK_OK(snapshot_open(check_path("b.post"), &cover, &s));
    CHECK_OK(postings_load(m.p, s, &found));
    CHECK_EQ(found, taken);
    CHECK_EQ(postings_count(m.p), taken ? 100u : 0u);
    model_dispose(&m);
    snapshot_close(s);
}

TEST(a_snapshot_with_rows_outside_their_window_is_not_taken)
{
    for (int kind = POSTINGS_WEIGHTS; kind <= POSTINGS_COUNTS; kind++) {
        load_forged((enum postings_kind)kind, 99, true);
        load_forged((enum postings_kind)kind, 100, false);
        load_forged((enum postings_kind)kind, UINT16_MAX, false);
    }
}

/* ---------------------------------------------------------------- memory that is not there */

static bool refuse_after(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return (*left)-- > 0;
}

TEST(any_allocation_may_fail_and_nothing_changes)
{
    struct model m;
    model_init(&m, POSTINGS_WEIGHTS, 300);
    for (int i = 0; i < 4200; i++)
        add_row(&m, 20);
    for (int fail_at = 0;; fail_at++) {
        int left = fail_at;
        struct postings_job *job;
        syna_test_set_alloc(refuse_after, &left);
        syna_rc rc = postings_prepare(m.p, &job);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS) {
            CHECK(fail_at > 3);
            postings_install(m.p, job);
            break;
        }
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
        CHECK(job == NULL);
    }
    compare_random(&m, 10);
    for (int fail_at = 0;; fail_at++) {
        int left = fail_at;
        struct topk top;
        uint32_t term = 3;
        float weight = 1;
        struct postings_query q = {&term, &weight, 1, .base = 0};
        topk_init(&top, 20, FLT_MAX);
        syna_test_set_alloc(refuse_after, &left);
        syna_rc rc = postings_search(m.p, &q, &top, NULL);
        syna_test_set_alloc(NULL, NULL);
        topk_dispose(&top);
        if (rc == SYNA_SUCCESS)
            break;
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
    }
    compare_random(&m, 10);
    model_dispose(&m);
}

/* ---------------------------------------------------------------- approximately */

/* Half of a row's or a query's terms are near each other, as those of texts on one subject are; without
 * subjects, none are. */
static uint32_t near_terms(const struct model *m, bool subjects, uint32_t *terms, uint32_t count)
{
    uint32_t about = below(m->vocabulary - 100), kept = 0;
    for (uint32_t i = 0; i < count; i++)
        terms[i] = subjects && i % 2 ? about + below(100) : any_term(m);
    qsort(terms, count, sizeof *terms, by_number);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || terms[kept - 1] != terms[i])
            terms[kept++] = terms[i];
    return kept;
}

/* Of a log-normal kind: most are small, few are large. */
static float near_weight(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)below(1000) / 1000;
    return expf(sum - 2);
}

static void fill_near(struct model *m, bool subjects, uint32_t rows)
{
    uint32_t terms[60];
    for (uint32_t i = 0; i < rows; i++) {
        add_row(m, 60);
        struct document *d = &m->rows[m->count - 1];
        d->count = MIN(d->count, near_terms(m, subjects, terms, 60));
        memcpy(d->terms, terms, d->count * sizeof *terms);
        for (uint32_t j = 0; j < d->count; j++) {
            float weight = near_weight();
            memcpy(&d->values[j], &weight, 4);
        }
        upkeep(m);
    }
    CHECK_OK(postings_settle(m->p));
}

/* The k best with this recall; the rows in `best`. Returns how many. */
static size_t best_of(const struct model *m, struct postings_query *q, size_t k, float recall,
                      uint32_t *best, struct postings_visits *visits)
{
    struct topk top;
    topk_init(&top, k, FLT_MAX);
    q->recall = recall;
    CHECK_OK(postings_search(m->p, q, &top, visits));
    topk_sort(&top);
    size_t count = top.count;
    for (size_t i = 0; i < count; i++) {
        best[i] = top.items[i].row;
        CHECK(-top.items[i].rank == score_of(m, &m->rows[best[i]], q));
    }
    topk_dispose(&top);
    return count;
}

/* The share of the ten best that queries find which no row was measured with. */
static double share_found(const struct model *m, bool subjects, float recall, bool repeat,
                          struct postings_visits *visits)
{
    size_t wanted = 0, found = 0;
    for (int i = 0; i < 60; i++) {
        uint32_t terms[30], exact[10], near[10], again[10];
        float weights[30];
        struct postings_query q = {terms, weights, near_terms(m, subjects, terms, 30), .base = 0};
        for (uint32_t j = 0; j < q.count; j++)
            weights[j] = near_weight();
        size_t best = best_of(m, &q, 10, 0, exact, NULL), got = best_of(m, &q, 10, recall, near, visits);
        if (repeat) {
            CHECK_EQ(best_of(m, &q, 10, recall, again, NULL), got);
            CHECK(memcmp(near, again, got * sizeof *near) == 0);
        }
        wanted += best;
        for (size_t a = 0; a < best; a++)
            for (size_t b = 0; b < got; b++)
                found += exact[a] == near[b];
    }
    return (double)found / (double)wanted;
}

static void follow_near(bool subjects)
{
    struct model m;
    struct postings_visits all = {0}, high = {0}, low = {0};
    model_init(&m, POSTINGS_WEIGHTS, 3000);
    fill_near(&m, subjects, 9000);
    CHECK(share_found(&m, subjects, 1, false, &all) == 1);
    double reached = share_found(&m, subjects, 0.97f, true, &high);
    check_note("0.97 was asked for, %.3f reached", reached);
    CHECK(reached >= 0.94);
    double less = share_found(&m, subjects, 0.8f, false, &low);
    check_note("0.8 was asked for, %.3f reached", less);
    CHECK(less >= 0.75);
    CHECK(low.postings < high.postings && high.postings < all.postings);
    model_dispose(&m);
}

TEST(approximate_searches_find_about_the_share_that_they_are_asked_for)
{
    follow_near(false);
}

TEST(and_so_they_do_where_rows_have_subjects)
{
    follow_near(true);
}

/* However many rows are wanted of however few: no fewer come back than exact searches find, and about the share
 * that was asked for is among them. */
static void check_numbers(uint32_t rows)
{
    static const size_t ks[] = {1, 10, 11, 40, 100, 300};
    struct model m;
    model_init(&m, POSTINGS_WEIGHTS, 3000);
    fill_near(&m, true, rows);
    for (size_t k = 0; k < COUNT_OF(ks); k++) {
        size_t wanted = 0, found = 0;
        for (int i = 0; i < 20; i++) {
            uint32_t terms[30], exact[300], near[300];
            float weights[30];
            struct postings_query q = {terms, weights, near_terms(&m, true, terms, 30), .base = 0};
            for (uint32_t j = 0; j < q.count; j++)
                weights[j] = near_weight();
            size_t best = best_of(&m, &q, ks[k], 0, exact, NULL);
            CHECK_EQ(best_of(&m, &q, ks[k], 0.9f, near, NULL), best);
            wanted += best;
            for (size_t a = 0; a < best; a++)
                for (size_t b = 0; b < best; b++)
                    found += exact[a] == near[b];
        }
        check_note("%u rows, %zu wanted: %zu of %zu found", rows, ks[k], found, wanted);
        CHECK((double)found >= (ks[k] > 100 ? 1 : 0.85) * (double)wanted);
    }
    model_dispose(&m);
}

TEST(approximate_searches_find_as_many_rows_as_exact_ones)
{
    check_numbers(70);
    check_numbers(500);
    check_numbers(3000);
    check_numbers(9000);
}

/* The best rows have a term of their own and stand in a small window behind a large one, which has some that are
 * worth little: the best are found, whatever the pool has from the first. */
static void check_last(uint32_t rows, size_t k)
{
    struct model m;
    uint32_t found[300], terms[] = {5, 2999};
    float weights[] = {0.01f, 2};
    struct postings_query q = {terms, weights, 2, .base = 0};
    model_init(&m, POSTINGS_WEIGHTS, 2900);
    fill_near(&m, true, 9000);
    for (uint32_t i = 0; i < rows; i++) {
        add_row(&m, 60);
        struct document *d = &m.rows[m.count - 1];
        d->terms[d->count - 1] = 2999;
        float weight = 3 + (float)i;
        memcpy(&d->values[d->count - 1], &weight, 4);
    }
    CHECK_OK(postings_settle(m.p));
    CHECK_EQ(best_of(&m, &q, k, 0.9f, found, NULL), k);
    for (size_t i = 0; i < MIN(k, (size_t)rows); i++)
        CHECK_EQ(found[i], m.count - 1 - i);
    model_dispose(&m);
}

TEST(rows_of_a_small_last_window_are_found)
{
    for (uint32_t rows = 1; rows <= 260; rows = rows * 2 + 1) {
        check_last(rows, 1);
        check_last(rows, 10);
        check_last(rows, 100);
    }
}

TEST(approximate_searches_of_any_rows_are_legal)
{
    struct model m;
    uint32_t best[10], terms[] = {1, 2, 900};
    float weights[] = {1, -2, 0.5f};
    struct postings_query q = {terms, weights, 3, .base = 0};
    model_init(&m, POSTINGS_WEIGHTS, 300);
    m.negatives = true;
    CHECK_EQ(best_of(&m, &q, 10, 0.5f, best, NULL), 0u);
    for (int i = 0; i < 5000; i++)
        add_row(&m, i % 2 ? 0 : 12);
    CHECK_OK(postings_settle(m.p));
    best_of(&m, &q, 10, 0.001f, best, NULL);
    CHECK_EQ(best_of(&m, &q, 10, 0.999f, best, NULL), 10u);
    for (uint32_t row = 0; row < m.count; row++)
        if (row % 1000)
            drop_row(&m, row);
    best_of(&m, &q, 10, 0.5f, best, NULL);
    CHECK_OK(postings_settle(m.p));
    best_of(&m, &q, 10, 0.5f, best, NULL);
    model_dispose(&m);
}

TEST(a_filter_makes_any_search_exact)
{
    struct model m;
    uint32_t terms[30], exact[10], near[10];
    float weights[30];
    model_init(&m, POSTINGS_WEIGHTS, 3000);
    fill_near(&m, true, 6000);
    size_t words = m.count / 64 + 1;
    uint64_t *all = malloc(words * sizeof *all);
    memset(all, 0xff, words * sizeof *all);
    for (int i = 0; i < 20; i++) {
        struct postings_query q = {terms, weights, near_terms(&m, true, terms, 30), .chosen = all};
        for (uint32_t j = 0; j < q.count; j++)
            weights[j] = near_weight();
        CHECK_EQ(best_of(&m, &q, 10, 0.01f, near, NULL), best_of(&m, &q, 10, 0, exact, NULL));
        CHECK(memcmp(near, exact, sizeof exact) == 0);
    }
    free(all);
    model_dispose(&m);
}

TEST(any_allocation_may_fail_while_recall_is_measured)
{
    struct model m;
    uint32_t term = 3;
    float weight = 1;
    struct postings_query q = {&term, &weight, 1, .recall = 0.9f};
    model_init(&m, POSTINGS_WEIGHTS, 300);
    for (int i = 0; i < 4200; i++)
        add_row(&m, 20);
    CHECK_OK(postings_settle(m.p));
    for (int fail_at = 0;; fail_at += fail_at < 40 ? 1 : 13) { /* calls repeat themselves */
        int left = fail_at;
        struct topk top;
        topk_init(&top, 10, FLT_MAX);
        syna_test_set_alloc(refuse_after, &left);
        syna_rc rc = postings_search(m.p, &q, &top, NULL);
        syna_test_set_alloc(NULL, NULL);
        topk_dispose(&top);
        if (rc == SYNA_SUCCESS) {
            CHECK(fail_at > 100); /* two hundred searches and more */
            break;
        }
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
    }
    compare_random(&m, 5);
    model_dispose(&m);
}
