/* Snapshots that are written while the index is open: what the index goes on with, what memory that takes, and
 * what happens when there can be none. */
#include "check.h"

#include "engine/text_core.h"

enum { MANY = 20000, LESS = 1200 };

static char path_room[300], snapshot_room[310];
static void begin(void)
{
    snprintf(path_room, sizeof path_room, "%s/t.db", check_path(""));
    snprintf(snapshot_room, sizeof snapshot_room, "%s.text", path_room);
}

struct opened {
    syna_db *db;
    syna_text *index;
};

static struct opened open_as(bool read_only)
{
    struct opened o = {0};
    syna_db_options log = {.size = sizeof log, .no_sync = 1, .read_only = read_only};
    syna_text_options given = {.size = sizeof given}, options;
    CHECK_OK(text_options(&given, &options));
    CHECK_OK(db_open(path_room, &log, &o.db));
    CHECK_OK(text_new(o.db, &options, &o.index));
    return o;
}

static void close_index(struct opened *o, bool save)
{
    if (save)
        text_save(o->index);
    text_free(o->index);
    CHECK_OK(db_close(o->db));
}

static bool there(void)
{
    struct stat st;
    return stat(snapshot_room, &st) == 0 && S_ISREG(st.st_mode);
}

static ino_t inode(void)
{
    struct stat st;
    CHECK_EQ(stat(snapshot_room, &st), 0);
    return st.st_ino;
}

/* About 48 bytes each. */
static void write_text(int i, int version, char text[96])
{
    snprintf(text, 96, "number%d version%d of library files group%d part%d", i, version, i % 50, i % 977);
}

static void put_many(syna_text *index, int from, int to, int version)
{
    static char ids[MANY][12], texts[MANY][96];
    static syna_document documents[MANY];
    size_t added;
    for (int i = from; i < to; i++) {
        snprintf(ids[i - from], sizeof ids[0], "d%d", i);
        write_text(i, version, texts[i - from]);
        documents[i - from] =
            (syna_document){.id = ids[i - from], .id_len = strlen(ids[i - from]),
                            .text = texts[i - from], .text_len = strlen(texts[i - from])};
        if (i % 7 == 0) {
            documents[i - from].metadata = "{\"seventh\":true}";
            documents[i - from].metadata_len = 16;
        }
    }
    CHECK_OK(text_put(index, documents, (size_t)(to - from), &added));
}

static size_t find(syna_text *index, const char *query, const char *filter, char id[16])
{
    syna_text_search how = {.size = sizeof how, .k = 3, .filter = filter,
                            .filter_len = filter ? strlen(filter) : 0};
    syna_text_hit *hits;
    size_t len = strlen(query), count;
    CHECK_OK(text_find(index, &query, &len, 1, &how, &hits, &count));
    snprintf(id, 16, "%s", count ? hits[0].id : "");
    mem_free(hits);
    return count;
}

static void check_document(syna_text *index, int i, int version)
{
    char id[16], text[96], query[32], found[16];
    syna_text_hit *hit;
    snprintf(id, sizeof id, "d%d", i);
    write_text(i, version, text);
    CHECK_OK(text_get(index, id, strlen(id), &hit));
    CHECK_STR(hit->text, text);
    CHECK_EQ(hit->metadata != NULL, i % 7 == 0);
    mem_free(hit);
    snprintf(query, sizeof query, "number%d", i);
    CHECK_EQ(find(index, query, NULL, found), 1);
    CHECK_STR(found, id);
    CHECK_EQ(find(index, query, "{\"seventh\":true}", found), i % 7 == 0);
}

/* ---------------------------------------------------------------- many documents */

/* Texts of about 48 bytes and words as in language: some frequent, none of one document alone. */
static void put_short(syna_text *index)
{
    static char ids[MANY][12], texts[MANY][96];
    static syna_document documents[MANY];
    size_t added;
    for (int i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof ids[0], "d%d", i);
        snprintf(texts[i], sizeof texts[0], "library files a%d b%d c%d d%d e%d for programs", i % 7,
                 i % 50, i % 311, i % 977, i % 2003);
        documents[i] = (syna_document){.id = ids[i], .id_len = strlen(ids[i]), .text = texts[i],
                                       .text_len = strlen(texts[i])};
    }
    CHECK_OK(text_put(index, documents, MANY, &added));
}

TEST(after_many_documents_a_posting_takes_six_bytes_though_the_index_was_never_closed)
{
    begin();
    struct opened o = open_as(false);
    syna_text_stats stats = {.size = sizeof stats};
    put_short(o.index);
    CHECK(there());
    CHECK(o.index->snapshot != NULL);
    CHECK_EQ(o.index->changes, 0);
    for (int again = 0; again < 2; again++) {
        CHECK_OK(text_get_stats(o.index, &stats));
        CHECK_EQ(stats.postings, MANY * 8);
        check_note("%.2f bytes a posting", (double)stats.memory_bytes / (double)stats.postings);
        CHECK(stats.memory_bytes <= 6 * stats.postings);
        close_index(&o, true);
        o = open_as(false);
    }
    close_index(&o, false);
}

TEST(an_index_that_goes_on_with_its_snapshot_takes_changes_and_writes_the_next_one)
{
    begin();
    struct opened o = open_as(false);
    int32_t deleted;
    put_many(o.index, 0, MANY, 0);
    ino_t first = inode();
    put_many(o.index, 100, 1100, 1); /* few: no other snapshot */
    CHECK_EQ(inode(), first);
    CHECK_OK(text_delete(o.index, "d5", 2, &deleted));
    CHECK_OK(text_set_metadata(o.index, "d8", 2, "{\"seventh\":true}", 16));
    check_document(o.index, 99, 0);
    check_document(o.index, 100, 1);
    put_many(o.index, 2000, 8000, 2);
    CHECK(inode() != first);
    for (int again = 0; again < 3; again++) {
        char found[16];
        CHECK_EQ(text_count(o.index), MANY - 1);
        CHECK(!text_contains(o.index, "d5", 2));
        CHECK_EQ(find(o.index, "number5", NULL, found), 0);
        CHECK_EQ(find(o.index, "number8", "{\"seventh\":true}", found), 1);
        for (int i = 10; i < MANY; i += 487)
            check_document(o.index, i, i >= 2000 && i < 8000 ? 2 : i >= 100 && i < 1100);
        close_index(&o, again == 0);
        if (again == 1)
            CHECK_EQ(unlink(snapshot_room), 0);
        o = open_as(false);
    }
    close_index(&o, false);
}

/* ---------------------------------------------------------------- when it cannot be */

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left != 0;
}

static syna_rc save_open(syna_text *index)
{
    pthread_mutex_lock(&index->upkeep_lock);
    syna_rc rc = text_save_open(index, false);
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc;
}

TEST(P7_without_memory_at_any_call_of_a_save_the_documents_are_as_before)
{
    begin();
    struct opened o = open_as(false);
    put_many(o.index, 0, 400, 0);
    CHECK_OK(save_open(o.index)); /* so that the log is followed to its end */
    for (int k = 1;; k++) {
        int left = k;
        check_note("k = %d", k);
        syna_test_set_alloc(fail_at, &left);
        syna_rc rc = save_open(o.index);
        syna_test_set_alloc(NULL, NULL);
        CHECK_EQ(text_count(o.index), 400);
        for (int i = 0; i < 400; i += 133)
            check_document(o.index, i, 0);
        if (left > 0) {
            CHECK_OK(rc);
            break;
        }
        if (rc != SYNA_SUCCESS) /* the snapshot may be there, and not be gone on with */
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    }
    put_many(o.index, 57, 58, 1);
    check_document(o.index, 57, 1);
    close_index(&o, false);
}

/* A folder in the place of the snapshot: documents are taken all the same, and it is not tried each time. */
TEST(a_snapshot_that_cannot_be_written_refuses_no_document)
{
    begin();
    CHECK_EQ(mkdir(snapshot_room, 0777), 0);
    struct opened o = open_as(false);
    put_many(o.index, 0, MANY, 0);
    CHECK(!o.index->snapshot);
    CHECK_EQ(o.index->tried, MANY);
    CHECK(!text_save_due(o.index));
    check_document(o.index, 1234, 0);
    CHECK_EQ(rmdir(snapshot_room), 0);
    put_many(o.index, 0, 100, 1);
    CHECK(!there());
    put_many(o.index, 100, 100 + MANY / 8, 1); /* an eighth more rows */
    CHECK(there() && o.index->snapshot);
    check_document(o.index, 50, 1);
    check_document(o.index, MANY - 1, 0);
    close_index(&o, false);
}

/* Who writes between the sections and the exchange keeps the old rows in use, and loses nothing. */
enum { TURNS = 400 };

static void *write_some(void *context)
{
    for (int turn = 1; turn <= TURNS; turn++) {
        char text[96], id[12];
        size_t added;
        snprintf(id, sizeof id, "d%d", turn % 5);
        write_text(turn % 5, turn, text);
        syna_document d = {.id = id, .id_len = strlen(id), .text = text, .text_len = strlen(text)};
        CHECK_OK(text_put(context, &d, 1, &added));
    }
    return NULL;
}

TEST(documents_that_are_written_while_snapshots_are_synced_are_not_lost)
{
    begin();
    struct opened o = open_as(false);
    pthread_t thread;
    put_many(o.index, 0, 400, 0);
    CHECK_EQ(pthread_create(&thread, NULL, write_some, o.index), 0);
    for (int i = 0; i < 100; i++)
        CHECK_OK(save_open(o.index));
    pthread_join(thread, NULL);
    CHECK_OK(save_open(o.index));
    for (int again = 0; again < 2; again++) {
        CHECK_EQ(text_count(o.index), 400);
        for (int i = 0; i < 5; i++) {
            char query[32], found[16], id[8];
            snprintf(id, sizeof id, "d%d", i);
            snprintf(query, sizeof query, "version%d", TURNS - 5 + (i ? i : 5));
            CHECK_EQ(find(o.index, query, NULL, found), 1);
            CHECK_STR(found, id);
        }
        check_document(o.index, 57, 0);
        close_index(&o, false);
        o = open_as(false);
    }
    close_index(&o, false);
}

/* ---------------------------------------------------------------- snapshots of another format */

/* What a program of another version wrote: `version` in the first section, checksums as they should be. */
static void make_version(uint32_t version)
{
    struct snapshot_cover cover;
    struct snapshot_writer *writer;
    struct opened o = open_as(true);
    uint64_t last;
    struct {
        uint32_t version;
        uint8_t rest[84];
    } head = {.version = version};
    db_view_cover(o.index->view, SNAPSHOT_FOURCC('T', 'E', 'X', 'T'), &cover, &last);
    CHECK_OK(snapshot_begin(snapshot_room, &cover, &writer));
    CHECK_OK(snapshot_section(writer, "text"));
    CHECK_OK(snapshot_append(writer, &head, sizeof head));
    CHECK_OK(snapshot_commit(writer));
    close_index(&o, false);
}

TEST(a_snapshot_of_another_format_is_replaced_when_a_writer_opens_the_index)
{
    begin();
    struct opened o = open_as(false);
    put_many(o.index, 0, LESS, 0);
    close_index(&o, false);
    for (uint32_t version = 1; version <= 4; version++) {
        make_version(version == 3 ? 0 : version);
        ino_t foreign = inode();
        o = open_as(true); /* a reader reads the documents, each time */
        CHECK(!o.index->snapshot);
        check_document(o.index, 7, 0);
        close_index(&o, true);
        CHECK_EQ(inode(), foreign);
        o = open_as(false);
        CHECK(inode() != foreign);
        CHECK(o.index->snapshot != NULL);
        check_document(o.index, 7, 0);
        close_index(&o, false); /* no more than opened */
        o = open_as(true);
        CHECK(o.index->snapshot != NULL);
        check_document(o.index, 14, 0);
        CHECK_EQ(text_count(o.index), LESS);
        close_index(&o, false);
    }
}

TEST(an_index_without_its_snapshot_gets_one_when_a_writer_opens_it)
{
    begin();
    struct opened o = open_as(false);
    put_many(o.index, 0, LESS, 0);
    close_index(&o, false); /* as after a crash */
    CHECK(!there());
    o = open_as(true);
    close_index(&o, true);
    CHECK(!there());
    o = open_as(false);
    CHECK(there());
    ino_t made = inode();
    close_index(&o, true);
    o = open_as(false);
    CHECK_EQ(inode(), made); /* it fits, and nothing changed */
    close_index(&o, false);
}
