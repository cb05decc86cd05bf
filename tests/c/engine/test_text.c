/* The text index over a real log: what a failure at any call leaves behind, snapshots that were damaged,
 * races, and what the handles refuse. What searches find is tested in tests/python/test_text.py. */
#include "db_fixture.h"

#include "engine/text.h"

/* ---------------------------------------------------------------- an index for a test */

struct open_index {
    syna_db *db;
    syna_text *index;
};

/* Many files in one test: the folder is asked for once. */
static char folder[200], path_room[300];
static void begin(void)
{
    snprintf(folder, sizeof folder, "%s", check_path(""));
}
static const char *path_of(const char *name)
{
    snprintf(path_room, sizeof path_room, "%s/%s", folder, name);
    return path_room;
}

static syna_db *open_log(const char *name)
{
    syna_db *db = NULL;
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    CHECK_OK(db_open(path_of(name), &options, &db));
    return db;
}

static void store_file(const char *name, const void *bytes, size_t len)
{
    int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC, 0666);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    close(fd);
}

static syna_rc open_as(struct open_index *o, const char *name)
{
    syna_text_options given = {.size = sizeof given, .analyzer = "standard"}, options;
    CHECK_OK(text_options(&given, &options));
    o->db = open_log(name);
    syna_rc rc = text_new(o->db, &options, &o->index);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        CHECK_OK(db_close(o->db));
        return status_set(&why);
    }
    return rc;
}

static void close_index(struct open_index *o)
{
    text_save(o->index);
    text_free(o->index);
    CHECK_OK(db_close(o->db));
}

static syna_rc put_document(syna_text *index, const char *id, const char *text, const char *metadata)
{
    size_t added;
    syna_document d = {.id = id, .id_len = strlen(id), .text = text, .text_len = strlen(text)};
    if (metadata) {
        d.metadata = metadata;
        d.metadata_len = strlen(metadata);
    }
    return text_put(index, &d, 1, &added);
}

/* Ids found, best first, joined by spaces. */
static syna_rc find(syna_text *index, const char *query, char found[256])
{
    syna_text_search how = {.size = sizeof how, .k = UINT64_MAX};
    syna_text_hit *hits = NULL;
    size_t len = strlen(query), count = 0;
    SYNA_TRY(text_find(index, &query, &len, 1, &how, &hits, &count));
    found[0] = '\0';
    for (size_t i = 0; i < count; i++)
        snprintf(found + strlen(found), 256 - strlen(found), "%s%s", i ? " " : "", hits[i].id);
    mem_free(hits);
    return SYNA_SUCCESS;
}

static void check_found(syna_text *index, const char *query, const char *expected)
{
    char found[256];
    CHECK_OK(find(index, query, found));
    CHECK_STR(found, expected);
}

/* ---------------------------------------------------------------- what it does */

TEST(documents_are_found_by_their_words)
{
    begin();
    struct open_index o;
    size_t added;
    CHECK_OK(open_as(&o, "t.db"));
    check_found(o.index, "red", "");
    syna_document d[] = {{.id = "a", .id_len = 1, .text = "red red house", .text_len = 13},
                         {.id = "b", .id_len = 1, .text = "red house green", .text_len = 15},
                         {.id = "a", .id_len = 1, .text = "blue house", .text_len = 10}};
    CHECK_OK(text_put(o.index, d, 3, &added));
    CHECK_EQ(added, 2);
    check_found(o.index, "red", "b");
    check_found(o.index, "house", "a b");
    check_found(o.index, "\"house green\"", "b");
    check_found(o.index, "house -green", "a");
    close_index(&o);
    CHECK_OK(open_as(&o, "t.db"));
    check_found(o.index, "house", "a b");
    close_index(&o);
}

TEST(what_is_no_document_is_refused_and_changes_nothing)
{
    begin();
    struct open_index o;
    size_t added;
    CHECK_OK(open_as(&o, "t.db"));
    syna_document d[] = {{.id = "a", .id_len = 1, .text = "x", .text_len = 1},
                         {.id = "b", .id_len = 1, .text = "\xff", .text_len = 1}};
    CHECK_FAILS(text_put(o.index, d, 2, &added), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(put_document(o.index, "a", "x", "[1]"), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(put_document(o.index, "a", "x", "{\"a\":"), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(put_document(o.index, "", "x", NULL), SYNA_ERR_EMPTY_KEY);
    CHECK_EQ(text_count(o.index), 0);
    CHECK_EQ(count_of(o.db), 0);
    close_index(&o);
}

TEST(a_document_of_too_many_words_is_refused)
{
    begin();
    struct open_index o;
    size_t words = SYNA_TEXT_WORDS_MAX, added;
    char *text = malloc(2 * (words + 1));
    CHECK(text);
    for (size_t i = 0; i <= words; i++)
        memcpy(text + 2 * i, "a ", 2);
    CHECK_OK(open_as(&o, "t.db"));
    syna_document d = {.id = "a", .id_len = 1, .text = text, .text_len = 2 * words};
    CHECK_OK(text_put(o.index, &d, 1, &added));
    d.text_len = 2 * (words + 1);
    CHECK_FAILS(text_put(o.index, &d, 1, &added), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    check_found(o.index, "a", "a");
    close_index(&o);
    free(text);
}

/* ---------------------------------------------------------------- snapshots */

static void fill(syna_text *index, int from, int to)
{
    for (int i = from; i < to; i++) {
        char id[16], text[64];
        snprintf(id, sizeof id, "d%d", i);
        snprintf(text, sizeof text, "number%d of all part%d", i, i % 10);
        CHECK_OK(put_document(index, id, text, i % 3 ? NULL : "{\"third\":true}"));
    }
}

static void check_filled(syna_text *index, int count)
{
    char query[32], found[256];
    CHECK_EQ(text_count(index), count);
    for (int i = 0; i < count; i += 97) {
        snprintf(query, sizeof query, "number%d", i);
        snprintf(found, sizeof found, "d%d", i);
        check_found(index, query, found);
    }
}

/* Whatever bit of the snapshot is flipped: the same is found as without it. */
TEST(P14_a_damaged_snapshot_is_made_anew_or_found_sound)
{
    begin();
    struct open_index o;
    CHECK_OK(open_as(&o, "t.db"));
    fill(o.index, 0, 1200);
    close_index(&o);
    CHECK(there("t.db.text"));
    size_t len;
    uint8_t *whole = slurp("t.db.text", &len);
    for (int round = 0; round < 60; round++) {
        uint64_t at = check_random() % len;
        uint8_t bit = (uint8_t)(1u << check_random() % 8);
        check_note("bit of byte %llu of %zu", (unsigned long long)at, len);
        whole[at] ^= bit;
        store_file("t.db.text", whole, len);
        whole[at] ^= bit;
        CHECK_OK(open_as(&o, "t.db"));
        check_filled(o.index, 1200);
        text_free(o.index);
        CHECK_OK(db_close(o.db));
    }
    for (int round = 0; round < 20; round++) {
        store_file("t.db.text", whole, check_random() % len);
        CHECK_OK(open_as(&o, "t.db"));
        check_filled(o.index, 1200);
        text_free(o.index);
        CHECK_OK(db_close(o.db));
    }
    free(whole);
}

TEST(a_snapshot_of_another_moment_is_caught_up_with)
{
    begin();
    struct open_index o;
    CHECK_OK(open_as(&o, "t.db"));
    fill(o.index, 0, 1100);
    close_index(&o);
    size_t len;
    uint8_t *old = slurp("t.db.text", &len);
    CHECK_OK(open_as(&o, "t.db"));
    fill(o.index, 1000, 1500);
    close_index(&o);
    store_file("t.db.text", old, len);
    CHECK_OK(open_as(&o, "t.db"));
    check_filled(o.index, 1500);
    CHECK_OK(text_compact(o.index, NULL, NULL));
    close_index(&o);
    store_file("t.db.text", old, len); /* of another generation now */
    CHECK_OK(open_as(&o, "t.db"));
    check_filled(o.index, 1500);
    close_index(&o);
    free(old);
}

/* ---------------------------------------------------------------- failures at every call */

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

/* So many are looked for in sorted terms. */
#define TEN(words) words words words words words words words words words words
static const char many_prefixes[] = TEN("a* be* gam* wo* x* y* z* ");

static syna_rc change_and_search(syna_text *index)
{
    char found[256];
    size_t added;
    int32_t deleted;
    syna_text_hit *hit = NULL;
    syna_span *spans = NULL;
    syna_document two[] = {{.id = "b", .id_len = 1, .text = "beta words", .text_len = 10},
                           {.id = "c", .id_len = 1, .text = "gamma words", .text_len = 11}};
    SYNA_TRY(put_document(index, "a", "alpha words", "{\"n\":1}"));
    SYNA_TRY(text_put(index, two, 2, &added));
    SYNA_TRY(text_delete(index, "b", 1, &deleted));
    SYNA_TRY(find(index, "words +gam* -\"alpha words\"", found));
    SYNA_TRY(find(index, many_prefixes, found));
    SYNA_TRY(text_get(index, "c", 1, &hit));
    mem_free(hit);
    SYNA_TRY(text_spans(index, "words", 5, "some words", 10, &spans, &added));
    mem_free(spans);
    return SYNA_SUCCESS;
}

/* Whatever fails, memory and log agree: a reopened index holds the same documents. */
TEST(P7_without_memory_at_any_call_the_index_agrees_with_its_log)
{
    begin();
    for (int k = 1;; k++) {
        struct open_index o;
        char name[24], before[3], after[3], found[256];
        int left = k;
        snprintf(name, sizeof name, "f%d.db", k);
        check_note("k = %d", k);
        CHECK_OK(open_as(&o, name));
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = change_and_search(o.index);
        syna_test_set_alloc(NULL, NULL);
        if (rc != SYNA_SUCCESS)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        for (int i = 0; i < 3; i++)
            before[i] = (char)text_contains(o.index, &"abc"[i], 1);
        CHECK_OK(put_document(o.index, "later", "later words", NULL));
        check_found(o.index, "later", "later");
        CHECK_OK(find(o.index, "words", found));
        CHECK(!before[0] == !strchr(found, 'a') || strstr(found, "later"));
        close_index(&o);
        CHECK_OK(open_as(&o, name));
        for (int i = 0; i < 3; i++)
            after[i] = (char)text_contains(o.index, &"abc"[i], 1);
        CHECK_MEM(after, before, 3);
        CHECK_EQ(before[1] && !before[2], 0); /* b came in one batch with c */
        close_index(&o);
        if (left > 0) {
            CHECK_OK(rc);
            break;
        }
    }
}

TEST(P7_without_memory_while_opening_nothing_leaks)
{
    begin();
    struct open_index o;
    CHECK_OK(open_as(&o, "t.db"));
    fill(o.index, 0, 1001);
    close_index(&o);
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        for (int k = 1; k < 400; k++) {
            int left = k;
            if (!snapshot)
                unlink(path_of("t.db.text")); /* an opening before may have made it */
            syna_text_options given = {.size = sizeof given}, options;
            CHECK_OK(text_options(&given, &options));
            check_note("k = %d", k);
            syna_db *db = open_log("t.db");
            syna_text *index = NULL;
            syna_test_set_alloc(fail_at, &left);
            syna_rc rc = text_new(db, &options, &index);
            syna_test_set_alloc(NULL, NULL);
            if (rc == SYNA_SUCCESS) {
                CHECK_EQ(text_count(index), 1001);
                if (left > 0 && snapshot == 0)
                    text_save(index);
                text_free(index);
            } else {
                CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            }
            CHECK_OK(db_close(db));
            if (left > 0)
                break;
        }
    }
}

/* ---------------------------------------------------------------- races */

#define THREADS 4

struct racer {
    pthread_t thread;
    syna_text *index;
    int number;
};

/* All write the same ids: with texts of their own, and deletions in between. */
static void *race(void *context)
{
    struct racer *r = context;
    for (int i = 0; i < 200; i++) {
        char id[16], text[64], found[256];
        int32_t deleted;
        snprintf(id, sizeof id, "id%d", i % 5);
        snprintf(text, sizeof text, "from%d at%d", r->number, i);
        CHECK_OK(put_document(r->index, id, text, i % 2 ? "{\"odd\":1}" : NULL));
        if (i % 11 == 0)
            CHECK_OK(text_delete(r->index, id, strlen(id), &deleted));
        if (i % 7 == 0)
            CHECK_OK(find(r->index, "from0 \"from1 at5\"", found));
        if (i % 13 == 0) {
            syna_rc rc = text_set_metadata(r->index, id, strlen(id), "{\"changed\":2}", 13);
            CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND);
        }
    }
    return NULL;
}

/* Every id as the index shows it: text, metadata, and whether its words find it. */
static void describe(syna_text *index, char out[2048])
{
    out[0] = '\0';
    for (int i = 0; i < 5; i++) {
        char id[16], query[80], found[256];
        syna_text_hit *hit = NULL;
        snprintf(id, sizeof id, "id%d", i);
        if (!text_contains(index, id, strlen(id)))
            continue;
        CHECK_OK(text_get(index, id, strlen(id), &hit));
        snprintf(query, sizeof query, "\"%s\"", hit->text);
        CHECK_OK(find(index, query, found));
        CHECK(strstr(found, id) != NULL);
        snprintf(out + strlen(out), 2048 - strlen(out), "%s: %s %s; ", id, hit->text,
                 hit->metadata ? hit->metadata : "");
        mem_free(hit);
    }
}

TEST(after_races_of_writers_memory_is_as_the_log)
{
    begin();
    struct open_index o;
    struct racer racers[THREADS];
    char before[2048], after[2048];
    CHECK_OK(open_as(&o, "t.db"));
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){.index = o.index, .number = i};
        CHECK_EQ(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(racers[i].thread, NULL);
    describe(o.index, before);
    uint64_t count = text_count(o.index);
    close_index(&o);
    CHECK_OK(open_as(&o, "t.db"));
    describe(o.index, after);
    CHECK_STR(after, before);
    CHECK_EQ(text_count(o.index), count);
    close_index(&o);
}

/* ---------------------------------------------------------------- the interface */

TEST(handles_are_counted_and_null_pointers_refused)
{
    syna_text *one, *two;
    const char *path = check_path("h.db");
    syna_document d = {.id = "a", .id_len = 1, .text = "word", .text_len = 4};
    CHECK_OK(syna_text_open(path, NULL, &one));
    CHECK_OK(syna_text_open(path, NULL, &two));
    CHECK(one == two);
    CHECK_OK(syna_text_put(one, &d, 1, NULL));
    CHECK_OK(syna_text_close(one));
    CHECK_EQ(syna_text_count(two), 1);
    CHECK_FAILS(syna_text_put(two, NULL, 1, NULL), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_text_find(two, NULL, NULL, 1, NULL, NULL, NULL), SYNA_ERR_INVALID_PATH,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_text_delete(NULL, "a", 1, NULL), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_OK(syna_text_close(two));
    CHECK_FAILS(syna_text_close(two), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    syna_text_options wrong = {.size = sizeof wrong, .bm25_given = 1, .k1 = -1};
    CHECK_FAILS(syna_text_open(path, &wrong, &one), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    wrong = (syna_text_options){.size = sizeof wrong, .analyzer = "klingon"};
    CHECK_FAILS(syna_text_open(check_path("k.db"), &wrong, &one), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    wrong = (syna_text_options){.size = 4};
    CHECK_FAILS(syna_text_open(path, &wrong, &one), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}
