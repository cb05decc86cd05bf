/* Numbered names and the packs of rows: what was added, what came with a snapshot, and both together, against
 * plain arrays. */
#include "check.h"

#include "engine/text_names.h"
#include "engine/text_runs.h"
#include "store/snapshot.h"

static const struct snapshot_cover cover = {.purpose = SNAPSHOT_FOURCC('T', 'E', 'S', 'T')};

static char path_room[300];
static const char *file(void)
{
    snprintf(path_room, sizeof path_room, "%s/s", check_path(""));
    return path_room;
}

/* ---------------------------------------------------------------- names */

enum { NAMES = 3000, LONG_NAME = 400 };

/* Of 1 to 12 bytes; where `long_ones`, some have more than a byte of a length can tell. */
static size_t name_of(uint32_t i, bool long_ones, char name[LONG_NAME + 16])
{
    int len = snprintf(name, 16, "n%u", i * 7919u);
    if (!long_ones || i % 100 != 3)
        return (size_t)len;
    memset(name + len, 'x', LONG_NAME);
    return (size_t)len + LONG_NAME;
}

struct known {
    struct names names;
    bool long_ones;
    uint64_t live[(NAMES + 63) / 64];
    uint32_t count;
};

static void add(struct known *k, uint32_t upto)
{
    char name[LONG_NAME + 16];
    for (; k->count < upto; k->count++) {
        size_t len = name_of(k->count, k->long_ones, name);
        CHECK_OK(names_reserve(&k->names, 1, len));
        CHECK_EQ(names_add(&k->names, name, len), k->count);
        k->live[k->count / 64] |= 1ull << k->count % 64;
    }
}

static void forget(struct known *k, uint32_t i)
{
    char name[LONG_NAME + 16];
    names_forget(&k->names, name, name_of(i, k->long_ones, name));
    k->live[i / 64] &= ~(1ull << i % 64);
}

static void check_names(const struct known *k)
{
    char name[LONG_NAME + 16];
    for (uint32_t i = 0; i < k->count; i++) {
        size_t len = name_of(i, k->long_ones, name), have_len;
        const char *have = names_at(&k->names, i, &have_len);
        CHECK_EQ(have_len, len);
        CHECK(memcmp(have, name, len) == 0);
        bool live = k->live[i / 64] >> i % 64 & 1;
        CHECK_EQ(names_find(&k->names, name, len), live ? i : ROW_NONE);
        CHECK_EQ(names_find(&k->names, name, len - 1) == i, false);
    }
    CHECK_EQ(names_find(&k->names, "none", 4), ROW_NONE);
    CHECK_EQ(names_find(&k->names, "", 0), ROW_NONE);
}

static struct snapshot *save_and_load(struct known *k)
{
    struct snapshot_writer *writer;
    struct snapshot *s;
    bool found;
    CHECK_OK(snapshot_begin(file(), &cover, &writer));
    CHECK_OK(names_save(&k->names, "name", writer));
    CHECK_OK(snapshot_commit(writer));
    names_dispose(&k->names);
    CHECK_OK(snapshot_open(file(), &cover, &s));
    CHECK_OK(names_init(&k->names));
    CHECK_OK(names_load(&k->names, "name", s, k->count, k->live, &found));
    CHECK(found);
    return s;
}

static void names_go_round(bool long_ones)
{
    struct known k = {.long_ones = long_ones};
    struct snapshot *first, *second;
    CHECK_OK(names_init(&k.names));
    add(&k, 1001);
    forget(&k, 7);
    forget(&k, 16);
    first = save_and_load(&k);
    CHECK_EQ(k.names.mapped, long_ones ? 0 : 1001);
    check_names(&k);
    forget(&k, 0);
    forget(&k, 103); /* a long one */
    add(&k, 2222);
    forget(&k, 1000);
    forget(&k, 1001);
    forget(&k, 2221);
    check_names(&k);
    second = save_and_load(&k);
    add(&k, NAMES);
    check_names(&k);
    names_dispose(&k.names);
    snapshot_close(first);
    snapshot_close(second);
}

TEST(names_are_found_whether_they_were_added_or_came_with_a_snapshot)
{
    names_go_round(false);
    names_go_round(true);
}

TEST(names_of_a_snapshot_take_six_bytes_of_memory_each_and_no_more)
{
    struct known k = {0};
    CHECK_OK(names_init(&k.names));
    add(&k, NAMES);
    uint64_t before = names_memory(&k.names);
    struct snapshot *s = save_and_load(&k);
    CHECK(names_memory(&k.names) <= NAMES * 7);
    CHECK(names_memory(&k.names) * 2 < before);
    names_dispose(&k.names);
    snapshot_close(s);
}

/* Sections that disagree are not taken: other counts, lengths that do not make up the bytes. */
TEST(names_that_do_not_fit_their_lengths_are_refused)
{
    static const struct {
        const char *bytes, *lengths;
        uint32_t count;
    } bad[] = {{"abc", "\1\1", 2}, {"abc", "\1\2", 3}, {"abc", "\2\2", 2}, {"abc", "\1\2\1", 2},
               {"abc", "\203", 1}, {"", "\1", 1}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct snapshot_writer *writer;
        struct snapshot *s;
        struct names n;
        bool found;
        check_note("case %zu", i);
        CHECK_OK(snapshot_begin(file(), &cover, &writer));
        CHECK_OK(snapshot_section(writer, "namestr"));
        CHECK_OK(snapshot_append(writer, bad[i].bytes, strlen(bad[i].bytes)));
        CHECK_OK(snapshot_section(writer, "namelen"));
        CHECK_OK(snapshot_append(writer, bad[i].lengths, strlen(bad[i].lengths)));
        CHECK_OK(snapshot_commit(writer));
        CHECK_OK(snapshot_open(file(), &cover, &s));
        CHECK_OK(names_init(&n));
        CHECK_OK(names_load(&n, "name", s, bad[i].count, NULL, &found));
        CHECK(!found);
        names_dispose(&n);
        snapshot_close(s);
    }
}

/* ---------------------------------------------------------------- packs of rows */

enum { ROWS = 2000 };

struct packed {
    struct runs runs;
    uint32_t expected[ROWS];
};

static void add_rows(struct packed *p, uint32_t count)
{
    static uint32_t pack;
    CHECK_OK(runs_reserve(&p->runs, count));
    for (uint32_t i = 0; i < count; i++) {
        if (check_random() % 20 == 0)
            pack = (uint32_t)(check_random() % 5);
        p->expected[p->runs.rows] = pack;
        runs_add(&p->runs, pack);
    }
}

static void check_packs(const struct packed *p)
{
    for (uint32_t row = 0; row < p->runs.rows; row++)
        CHECK_EQ(runs_pack(&p->runs, row), p->expected[row]);
}

static struct snapshot *move_runs(struct packed *p)
{
    struct snapshot_writer *writer;
    struct snapshot *s;
    uint32_t rows = p->runs.rows;
    bool found;
    CHECK_OK(snapshot_begin(file(), &cover, &writer));
    CHECK_OK(runs_save(&p->runs, writer));
    CHECK_OK(snapshot_commit(writer));
    runs_dispose(&p->runs);
    CHECK_OK(snapshot_open(file(), &cover, &s));
    CHECK_OK(runs_init(&p->runs));
    CHECK_OK(runs_load(&p->runs, s, rows, 4, &found));
    CHECK(found);
    return s;
}

static void set_pack(struct packed *p, uint32_t row, uint32_t pack)
{
    CHECK_OK(runs_set(&p->runs, row, pack));
    p->expected[row] = pack;
}

TEST(packs_of_rows_are_those_that_were_given)
{
    struct packed p = {0};
    struct snapshot *first, *second;
    CHECK_OK(runs_init(&p.runs));
    add_rows(&p, 500);
    check_packs(&p);
    first = move_runs(&p);
    add_rows(&p, 300);
    check_packs(&p);
    set_pack(&p, 3, p.expected[3]);
    CHECK(!p.runs.spread); /* nothing changed */
    CHECK_OK(runs_reserve(&p.runs, 700));
    set_pack(&p, 400, (p.expected[400] + 1) % 5); /* one of the snapshot's */
    CHECK(p.runs.spread);
    for (int i = 0; i < 700; i++) { /* the room is still there */
        p.expected[p.runs.rows] = 2;
        runs_add(&p.runs, 2);
    }
    for (int i = 0; i < 300; i++)
        set_pack(&p, (uint32_t)(check_random() % p.runs.rows), (uint32_t)(check_random() % 5));
    check_packs(&p);
    second = move_runs(&p);
    CHECK(!p.runs.spread);
    add_rows(&p, ROWS - p.runs.rows);
    check_packs(&p);
    runs_dispose(&p.runs);
    snapshot_close(first);
    snapshot_close(second);
}

TEST(rows_of_one_pack_take_eight_bytes_together)
{
    struct packed p = {0};
    CHECK_OK(runs_init(&p.runs));
    CHECK_OK(runs_reserve(&p.runs, ROWS));
    for (uint32_t i = 0; i < ROWS; i++)
        runs_add(&p.runs, 1 + i / 1000);
    CHECK_EQ(runs_memory(&p.runs), 2 * sizeof(struct run));
    struct snapshot *s = move_runs(&p);
    CHECK_EQ(runs_memory(&p.runs), 0);
    runs_dispose(&p.runs);
    snapshot_close(s);
}

TEST(runs_that_are_out_of_order_or_of_packs_that_there_are_not_are_refused)
{
    static const struct run bad[][3] = {{{1, 1}, {2, 2}, {3, 1}}, {{0, 1}, {2, 2}, {2, 1}},
                                        {{0, 1}, {2, 5}, {3, 1}}, {{0, 1}, {2, 2}, {10, 1}}};
    for (size_t i = 0; i <= COUNT_OF(bad); i++) {
        struct snapshot_writer *writer;
        struct snapshot *s;
        struct runs r;
        bool found;
        CHECK_OK(snapshot_begin(file(), &cover, &writer));
        CHECK_OK(snapshot_section(writer, "packs"));
        if (i < COUNT_OF(bad))
            CHECK_OK(snapshot_append(writer, bad[i], sizeof bad[i]));
        CHECK_OK(snapshot_commit(writer));
        CHECK_OK(snapshot_open(file(), &cover, &s));
        CHECK_OK(runs_init(&r));
        CHECK_OK(runs_load(&r, s, 10, 4, &found));
        CHECK(!found);
        runs_dispose(&r);
        snapshot_close(s);
    }
}
