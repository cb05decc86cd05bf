/* The terms of rows, as they were added and as they are made of postings, against a table of them. */
#include "check.h"

#include "base/mem.h"
#include "engine/text_forward.h"

enum { ROWS = 700, TERMS = 300, MOST = 40 };

struct table {
    bool has[ROWS][TERMS];
};

static void add_row(struct table *t, struct postings *p, struct forward *f, uint32_t row)
{
    uint32_t terms[MOST], counts[MOST], count = 0, length = 0;
    for (uint32_t term = (uint32_t)(check_random() % 20); term < TERMS && count < MOST;
         term += 1 + (uint32_t)(check_random() % (row % 7 ? 30 : 290))) {
        t->has[row][term] = true;
        terms[count] = term;
        counts[count++] = 1 + (uint32_t)(check_random() % 3);
        length += counts[count - 1];
    }
    struct postings_row added = {terms, counts, count, length};
    CHECK_OK(postings_reserve(p, 1, count));
    CHECK_EQ(postings_add(p, &added), row);
    if (f) {
        CHECK_OK(forward_reserve(f, 1, count));
        forward_put(f, terms, count);
    }
}

/* Rows [0, old) came with a snapshot; some of them are gone. */
static void make(struct table *t, uint32_t old, struct postings **p, struct forward *f)
{
    memset(t, 0, sizeof *t);
    CHECK_OK(postings_new(POSTINGS_COUNTS, NULL, NULL, p));
    CHECK_OK(forward_init(f, old));
    for (uint32_t row = 0; row < ROWS; row++) {
        add_row(t, *p, row < old ? NULL : f, row);
        if (row + 1 == old)
            CHECK_OK(postings_settle(*p));
    }
    for (uint32_t row = 3; row < old; row += 50)
        postings_drop(*p, row);
}

struct comparing {
    const bool *has;
    uint32_t next; /* no term below it is expected any more */
};

static void compare(void *context, uint32_t term)
{
    struct comparing *c = context;
    for (; c->next < term; c->next++)
        CHECK(!c->has[c->next]);
    CHECK_EQ(c->next, term);
    CHECK(c->has[term]);
    c->next++;
}

static void check_row(const struct table *t, const struct postings *p, struct forward *f, uint32_t row)
{
    struct comparing c = {.has = t->has[row]};
    check_note("row %u", row);
    forward_each(f, p, TERMS, row, compare, &c);
    for (; c.next < TERMS; c.next++)
        CHECK(!c.has[c.next]);
}

static void check_rows(const struct table *t, const struct postings *p, struct forward *f)
{
    for (uint32_t row = 0; row < ROWS; row++)
        if (postings_is_live(p, row))
            check_row(t, p, f, row);
}

TEST(each_row_has_its_terms_whether_it_was_added_or_came_with_a_snapshot)
{
    static const uint32_t olds[] = {0, 1, 63, 64, 500, ROWS};
    static struct table t;
    for (size_t i = 0; i < COUNT_OF(olds); i++) {
        struct postings *p;
        struct forward f;
        make(&t, olds[i], &p, &f);
        for (int round = 0; round < 3; round++)
            check_rows(&t, p, &f);
        if (olds[i] < 2 || olds[i] >= 500) /* few are asked for one by one */
            CHECK_EQ(f.old_ends != NULL, olds[i] >= 500);
        CHECK_OK(forward_recall(&f, p, TERMS));
        check_rows(&t, p, &f);
        CHECK_EQ(f.old_ends != NULL, olds[i] > 0);
        forward_dispose(&f);
        postings_free(p);
    }
}

static bool refuse(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return false;
}

TEST(P7_without_memory_rows_are_looked_for_one_by_one)
{
    static struct table t;
    struct postings *p;
    struct forward f;
    make(&t, 300, &p, &f);
    syna_test_set_alloc(refuse, NULL);
    for (int round = 0; round < 4; round++)
        check_rows(&t, p, &f);
    CHECK(f.old_ends == NULL);
    CHECK_FAILS(forward_recall(&f, p, TERMS), SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    syna_test_set_alloc(NULL, NULL);
    check_rows(&t, p, &f);
    CHECK(f.old_ends != NULL);
    CHECK(forward_memory(&f) > 300 * sizeof(uint64_t));
    forward_dispose(&f);
    postings_free(p);
}
