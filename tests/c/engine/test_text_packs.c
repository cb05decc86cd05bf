/* Packs of documents: their format on any bytes, and the index over them against a model, through all that
 * moves documents between packs and records of their own. */
#include "check.h"

#include <semaphore.h>

#include "engine/db_core.h"
#include "engine/text_core.h"
#include "engine/text_pack.h"

/* ---------------------------------------------------------------- the format */

static syna_document document(const char *id, const char *text, const char *metadata)
{
    syna_document d = {.id = id, .id_len = strlen(id), .text = text, .text_len = strlen(text)};
    d.metadata = metadata;
    d.metadata_len = metadata ? strlen(metadata) : 0;
    return d;
}

static void fill_pack(struct pack *pack)
{
    syna_document documents[] = {document("a", "first", NULL), document("b", "", "{\"n\":1}"),
                                 document("c", "third", NULL), document("a", "again", "{}")};
    for (size_t i = 0; i < COUNT_OF(documents); i++)
        CHECK_OK(pack_add(pack, &documents[i]));
}

TEST(what_is_written_into_a_pack_is_read_from_it)
{
    struct pack pack = {0};
    struct pack_reader reader;
    syna_document d;
    size_t len, count = 0;
    fill_pack(&pack);
    const uint8_t *record = pack_record(&pack, &len);
    CHECK(pack_open(record, len, &reader));
    while (pack_next(&reader, &d))
        count++;
    CHECK_EQ(count, 4);
    CHECK(pack_find(record, len, "b", 1, &d));
    CHECK(d.text_len == 0 && d.metadata_len == 7 && memcmp(d.metadata, "{\"n\":1}", 7) == 0);
    CHECK(pack_find(record, len, "a", 1, &d)); /* the last one */
    CHECK(d.text_len == 5 && memcmp(d.text, "again", 5) == 0 && d.metadata);
    CHECK(pack_find(record, len, "c", 1, &d) && !d.metadata);
    CHECK(!pack_find(record, len, "d", 1, &d) && !pack_find(record, len, "", 0, &d));
    pack_clear(&pack);
    CHECK_EQ(pack.count, 0);
    pack_dispose(&pack);
}

TEST(names_of_packs_are_told_from_others)
{
    char name[PACK_NAME_LEN + 1] = "";
    pack_name(17, name);
    CHECK_STR(name, "doc-pack/0000000017");
    CHECK_EQ(pack_number(name, PACK_NAME_LEN), 17);
    CHECK_EQ(pack_number(name, PACK_NAME_LEN - 1), 0);
    CHECK_EQ(pack_number("doc-pack/9999999999", PACK_NAME_LEN), 0);
    CHECK_EQ(pack_number("doc-pack/000000001x", PACK_NAME_LEN), 0);
    CHECK_EQ(pack_number("doc/00000000000017", PACK_NAME_LEN), 0);
}

/* A damaged pack gives fewer documents or others, and never reaches beyond its bytes. */
TEST(a_pack_that_is_cut_or_changed_is_read_as_far_as_it_goes)
{
    struct pack pack = {0};
    size_t len;
    fill_pack(&pack);
    const uint8_t *record = pack_record(&pack, &len);
    for (int round = 0; round < 20000; round++) {
        size_t kept = round % 2 ? len : check_random() % (len + 1), count = 0;
        uint8_t *bytes = malloc(kept ? kept : 1);
        struct pack_reader reader;
        syna_document d;
        CHECK(bytes);
        memcpy(bytes, record, kept);
        for (uint64_t n = kept ? check_random() % 3 : 0; n > 0; n--)
            bytes[check_random() % kept] = (uint8_t)check_random();
        if (pack_open(bytes, kept, &reader))
            for (; pack_next(&reader, &d); count++)
                CHECK(d.id >= (char *)bytes && d.text + d.text_len <= (char *)bytes + kept);
        CHECK(count <= kept);
        pack_find(bytes, kept, "a", 1, &d);
        free(bytes);
    }
    pack_dispose(&pack);
}

/* ---------------------------------------------------------------- the model */

enum { IDS = 300, LONG = PACK_DOCUMENT + 500 };

struct expected {
    long value;  /* 0: there is none */
    bool metadata, is_long;
    uint64_t order;
};

struct world {
    syna_db *db;
    syna_text *index;
    struct expected ids[IDS];
    uint64_t order;
    long next;
};

static char path_room[300];
static void begin(void)
{
    snprintf(path_room, sizeof path_room, "%s/t.db", check_path(""));
}

static void open_world(struct world *w)
{
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    syna_text_options given = {.size = sizeof given, .analyzer = "standard"}, options;
    CHECK_OK(text_options(&given, &options));
    CHECK_OK(db_open(path_room, &log, &w->db));
    CHECK_OK(text_new(w->db, &options, &w->index));
}

static void close_world(struct world *w, bool save)
{
    char snapshot[310];
    if (save)
        text_save(w->index);
    text_free(w->index);
    CHECK_OK(db_close(w->db));
    snprintf(snapshot, sizeof snapshot, "%s.text", path_room);
    if (!save)
        unlink(snapshot);
}

static void write_text(const struct expected *e, char *text, size_t room)
{
    int used = snprintf(text, room, "w%ld common", e->value);
    if (e->is_long) {
        memset(text + used, ' ', LONG);
        text[used + LONG] = '\0';
    }
}

/* `count` documents from `first` on in one call. */
static void put_some(struct world *w, uint32_t first, uint32_t count)
{
    static char texts[IDS][LONG + 64];
    static char names[IDS][12], facts[IDS][24];
    syna_document documents[IDS];
    size_t added;
    bool one_long = check_random() % 4 == 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = (first + i) % IDS;
        struct expected *e = &w->ids[id];
        *e = (struct expected){.value = ++w->next, .metadata = check_random() % 3 == 0,
                               .is_long = one_long && check_random() % 8 == 0, .order = ++w->order};
        snprintf(names[i], sizeof names[i], "id%u", id);
        write_text(e, texts[i], sizeof texts[i]);
        snprintf(facts[i], sizeof facts[i], "{\"n\":%ld}", e->value);
        documents[i] = document(names[i], texts[i], e->metadata ? facts[i] : NULL);
    }
    CHECK_OK(text_put(w->index, documents, count, &added));
}

static void drop(struct world *w, uint32_t id)
{
    char name[12];
    int32_t deleted;
    snprintf(name, sizeof name, "id%u", id);
    CHECK_OK(text_delete(w->index, name, strlen(name), &deleted));
    CHECK_EQ(deleted, w->ids[id].value != 0);
    w->ids[id].value = 0;
}

static void set_metadata(struct world *w, uint32_t id)
{
    char name[12], facts[24];
    struct expected *e = &w->ids[id];
    if (e->value == 0)
        return;
    snprintf(name, sizeof name, "id%u", id);
    snprintf(facts, sizeof facts, "{\"n\":%ld}", e->value);
    e->metadata = !e->metadata;
    e->order = ++w->order;
    CHECK_OK(text_set_metadata(w->index, name, strlen(name), e->metadata ? facts : NULL,
                               e->metadata ? strlen(facts) : 0));
}

static void check_one(struct world *w, uint32_t id)
{
    char name[12], word[24], text[LONG + 64];
    const struct expected *e = &w->ids[id];
    syna_text_hit *hit = NULL;
    uint64_t found;
    snprintf(name, sizeof name, "id%u", id);
    if (e->value == 0) {
        CHECK_FAILS(text_get(w->index, name, strlen(name), &hit), SYNA_ERR_KEY_NOT_FOUND,
                    SYNA_WHY_NONE);
        return;
    }
    write_text(e, text, sizeof text);
    CHECK_OK(text_get(w->index, name, strlen(name), &hit));
    CHECK_STR(hit->text, text);
    CHECK_EQ(hit->metadata != NULL, e->metadata);
    mem_free(hit);
    snprintf(word, sizeof word, "w%ld", e->value);
    CHECK_OK(text_frequency(w->index, word, strlen(word), &found));
    CHECK_EQ(found, 1);
}

/* All documents, and their order: that in which they were last written. */
static void check_world(struct world *w)
{
    syna_text_hit *hits;
    size_t count, expected = 0;
    uint64_t last = 0;
    for (uint32_t id = 0; id < IDS; id++) {
        expected += w->ids[id].value != 0;
        check_one(w, id);
    }
    CHECK_OK(text_ids(w->index, &hits, &count));
    CHECK_EQ(count, expected);
    for (size_t i = 0; i < count; i++) {
        uint64_t order = w->ids[atoi(hits[i].id + 2)].order;
        CHECK(order > last);
        last = order;
    }
    mem_free(hits);
}

/* Every document is found with its text. */
static void check_search(struct world *w)
{
    const char *query = "common";
    syna_text_search how = {.size = sizeof how, .k = UINT64_MAX, .flags = SYNA_TEXT_TEXTS};
    syna_text_hit *hits;
    size_t len = strlen(query), count;
    char text[LONG + 64];
    CHECK_OK(text_find(w->index, &query, &len, 1, &how, &hits, &count));
    CHECK_EQ(count, text_count(w->index));
    for (size_t i = 0; i < count; i++) {
        write_text(&w->ids[atoi(hits[i].id + 2)], text, sizeof text);
        CHECK_STR(hits[i].text, text);
    }
    mem_free(hits);
}

/* What a quarter of changed rows brings about, in an index of many. */
static void save_open(syna_text *index)
{
    pthread_mutex_lock(&index->upkeep_lock);
    CHECK_OK(text_save_open(index, false));
    pthread_mutex_unlock(&index->upkeep_lock);
}

static void step(struct world *w)
{
    uint32_t id = (uint32_t)(check_random() % IDS);
    switch (check_random() % 14) {
    case 0:
    case 1:
        put_some(w, id, PACK_LEAST + (uint32_t)(check_random() % (IDS - PACK_LEAST)));
        break;
    case 2:
    case 3:
    case 4:
        put_some(w, id, 1 + (uint32_t)(check_random() % 5));
        break;
    case 5:
    case 6:
        drop(w, id);
        break;
    case 7:
        for (uint32_t i = 0; i < 40; i++)
            drop(w, (id + i) % IDS);
        break;
    case 8:
        set_metadata(w, id);
        break;
    case 9:
        CHECK_OK(text_compact(w->index, NULL, NULL));
        break;
    case 10:
    case 11:
        save_open(w->index);
        break;
    default:
        close_world(w, check_random() % 2);
        open_world(w);
    }
}

TEST(whatever_moves_documents_between_packs_and_records_they_are_as_last_written)
{
    for (int64_t round = check_rounds(12); round > 0; round--) {
        begin();
        unlink(path_room);
        struct world w = {0};
        open_world(&w);
        for (int i = 0; i < 60; i++) {
            step(&w);
            if (i % 7 == 0)
                check_world(&w);
        }
        check_world(&w);
        check_search(&w);
        close_world(&w, false);
        open_world(&w);
        check_world(&w);
        close_world(&w, true);
        char index[310];
        snprintf(index, sizeof index, "%s.idx", path_room);
        unlink(index);
        snprintf(index, sizeof index, "%s.text", path_room);
        unlink(index);
    }
}

/* ---------------------------------------------------------------- what it is for */


static syna_rc count_record(void *context, const syna_record *record)
{
    (void)record;
    ++*(uint64_t *)context;
    return SYNA_SUCCESS;
}
static uint64_t records_of(syna_db *db, const char *prefix, int32_t type)
{
    uint64_t count, seen = 0;
    CHECK_OK(db_newest(db, prefix, strlen(prefix), type, &count, count_record, &seen));
    return seen;
}

TEST(a_compaction_leaves_full_packs_and_nothing_of_what_was_deleted)
{
    begin();
    struct world w = {0};
    open_world(&w);
    for (uint32_t id = 0; id < IDS; id++)
        put_some(&w, id, 1);
    CHECK_EQ(records_of(w.db, "doc-pack/", SYNA_TYPE_PACKED), 0);
    CHECK_OK(text_compact(w.index, NULL, NULL));
    uint64_t packs = records_of(w.db, "doc-pack/", SYNA_TYPE_PACKED);
    CHECK(packs >= 1 && packs <= 60);
    CHECK(records_of(w.db, "doc/", SYNA_TYPE_PACKED) <= 60); /* the long ones, about 9 */
    for (uint32_t id = 0; id < IDS; id += 2)
        drop(&w, id);
    CHECK_EQ(records_of(w.db, "doc/", SYNA_TYPE_NULL), IDS / 2);
    check_world(&w);
    CHECK_OK(text_compact(w.index, NULL, NULL));
    CHECK_EQ(records_of(w.db, "doc/", SYNA_TYPE_NULL), 0);
    check_world(&w);
    for (uint32_t id = 1; id < IDS; id += 2)
        drop(&w, id);
    CHECK_OK(text_compact(w.index, NULL, NULL));
    CHECK_EQ(records_of(w.db, "doc", SYNA_TYPE_PACKED), 0);
    close_world(&w, false);
    open_world(&w);
    check_world(&w);
    close_world(&w, false);
}

static syna_rc sum_numbers(void *context, const syna_record *record)
{
    *(uint64_t *)context += pack_number(record->key, record->key_len);
    return SYNA_SUCCESS;
}

TEST(a_clean_index_is_compacted_without_writing_its_packs_again)
{
    begin();
    struct world w = {0};
    uint64_t first = 0, again = 0, count;
    open_world(&w);
    put_some(&w, 0, IDS);
    CHECK_OK(text_compact(w.index, NULL, NULL));
    CHECK_OK(db_newest(w.db, "doc-pack/", 9, SYNA_TYPE_PACKED, &count, sum_numbers, &first));
    CHECK(first > 0);
    CHECK_OK(text_compact(w.index, NULL, NULL));
    CHECK_OK(db_newest(w.db, "doc-pack/", 9, SYNA_TYPE_PACKED, &count, sum_numbers, &again));
    CHECK_EQ(again, first);
    check_world(&w);
    close_world(&w, false);
}

/* ---------------------------------------------------------------- changes at a bad moment */

enum { ALONE = 12, CHANGED = 5 };

static void put_text(syna_text *index, int id, int version)
{
    char name[12], text[40];
    size_t added;
    snprintf(name, sizeof name, "id%d", id);
    snprintf(text, sizeof text, "version%d of id%d", version, id);
    syna_document d = document(name, text, NULL);
    CHECK_OK(text_put(index, &d, 1, &added));
}

/* version 0: there is no such document. */
static void check_version(syna_text *index, int id, int version)
{
    char name[12], text[40] = "", query[24];
    syna_text_hit *hit = NULL;
    syna_text_search how = {.size = sizeof how, .k = 3};
    size_t len, count;
    snprintf(name, sizeof name, "id%d", id);
    if (version)
        snprintf(text, sizeof text, "version%d of id%d", version, id);
    syna_rc rc = text_get(index, name, strlen(name), &hit);
    CHECK_STR(rc == SYNA_SUCCESS ? hit->text : "", text);
    mem_free(hit);
    snprintf(query, sizeof query, "+version%d +id%d", version, id);
    const char *queries = query;
    len = strlen(query);
    CHECK_OK(text_find(index, &queries, &len, 1, &how, &hit, &count));
    CHECK_EQ(count, version != 0);
    mem_free(hit);
}

/* At the first allocation from number `left` on at which nobody has a lock that a document needs. */
struct meddler {
    struct world *w;
    int left;
    bool busy, done;
};

static bool is_free(struct world *w)
{
    pthread_rwlock_t *locks[] = {&w->index->state_lock, &w->db->state_lock};
    for (size_t i = 0; i < COUNT_OF(locks); i++) {
        if (pthread_rwlock_trywrlock(locks[i]) != 0)
            return false;
        pthread_rwlock_unlock(locks[i]);
    }
    if (pthread_mutex_trylock(&w->db->write_lock) != 0)
        return false;
    pthread_mutex_unlock(&w->db->write_lock);
    return true;
}

static bool meddle(void *context, size_t bytes)
{
    struct meddler *m = context;
    (void)bytes;
    if (m->busy || m->done || --m->left > 0 || !is_free(m->w))
        return true;
    m->busy = true;
    put_text(m->w->index, CHANGED, 2);
    m->done = true;
    return true;
}

static syna_rc save_open_rc(syna_text *index)
{
    save_open(index);
    return SYNA_SUCCESS;
}

/* A document is put while `work` is done, at each moment of it at which that can be, one after the other. */
static void meddle_everywhere(syna_rc (*work)(syna_text *index))
{
    bool done = true;
    for (int k = 1; done; k++) {
        struct world w = {0};
        struct meddler m = {.w = &w, .left = k};
        check_note("k = %d", k);
        begin();
        unlink(path_room);
        open_world(&w);
        for (int id = 0; id < ALONE; id++)
            put_text(w.index, id, 1);
        syna_test_set_alloc(meddle, &m);
        CHECK_OK(work(w.index));
        syna_test_set_alloc(NULL, NULL);
        done = m.done;
        CHECK(done || k > 15); /* there were many such moments */
        for (int again = 0; again < 3; again++) {
            for (int id = 0; id < ALONE; id++)
                check_version(w.index, id, id == CHANGED && done ? 2 : 1);
            if (again == 0)
                save_open(w.index);
            else
                close_world(&w, false);
            if (again > 0)
                open_world(&w);
        }
        close_world(&w, false);
    }
}

TEST(a_document_that_is_changed_while_it_goes_into_a_pack_stays_as_it_was_changed)
{
    meddle_everywhere(text_repack);
}

TEST(a_document_that_is_changed_while_a_snapshot_is_gone_over_to_stays_as_it_was_changed)
{
    meddle_everywhere(save_open_rc);
}

/* What stands in the pack counts again when the record that replaced it is deleted by somebody who knows of no
 * packs: at once, as when the log is read anew. */
TEST(a_document_in_a_pack_comes_back_when_the_record_that_replaced_it_is_deleted)
{
    begin();
    struct world w = {0};
    int32_t deleted;
    bool changed;
    open_world(&w);
    for (int id = 0; id < ALONE; id++)
        put_text(w.index, id, 1);
    CHECK_OK(text_repack(w.index));
    CHECK_EQ(records_of(w.db, "doc/", SYNA_TYPE_PACKED), 0);
    for (int snapshot = 0; snapshot < 2; snapshot++) {
        put_text(w.index, 3, 2);
        put_text(w.index, 3, 3); /* a row that replaces one that replaced one */
        put_text(w.index, 4, 2);
        if (snapshot)
            save_open(w.index);
        CHECK_OK(db_delete(w.db, "doc/id3", 7, &deleted));
        CHECK_EQ(deleted, 1);
        CHECK_OK(text_refresh(w.index, &changed));
        CHECK(changed);
        for (int again = 0; again < 2; again++) {
            check_version(w.index, 3, 1);
            check_version(w.index, 4, 2);
            check_version(w.index, 5, 1);
            CHECK_EQ(text_count(w.index), ALONE);
            close_world(&w, false);
            open_world(&w);
        }
    }
    close_world(&w, false);
}

/* ---------------------------------------------------------------- races */

enum { SHARED = 24, TURNS = 150 };

struct writer {
    syna_text *index;
    pthread_t thread;
    int kind;
};

static void *write_some(void *context)
{
    struct writer *w = context;
    char names[SHARED][8], texts[SHARED][40];
    syna_document documents[SHARED];
    for (int turn = 0; turn < TURNS; turn++) {
        size_t added;
        int32_t deleted;
        for (int i = 0; i < SHARED; i++) {
            snprintf(names[i], sizeof names[i], "s%d", i);
            snprintf(texts[i], sizeof texts[i], "k%d t%d of s%d", w->kind, turn, i);
            documents[i] = document(names[i], texts[i], NULL);
        }
        int one = turn % SHARED;
        if (w->kind == 0)
            CHECK_OK(text_put(w->index, documents, SHARED, &added));
        else if (w->kind == 1)
            CHECK_OK(text_put(w->index, &documents[one], 1, &added));
        else if (w->kind == 2)
            CHECK_OK(text_delete(w->index, names[one], strlen(names[one]), &deleted));
        else if (turn % 15 == 0)
            CHECK_OK(text_compact(w->index, NULL, NULL));
        else if (turn % 5 == 0)
            save_open(w->index);
        else {
            syna_text_hit *hit;
            if (text_get(w->index, names[one], strlen(names[one]), &hit) == SYNA_SUCCESS)
                mem_free(hit);
        }
    }
    return NULL;
}

/* What the index has in memory is what it finds in the log when it is opened again. */
TEST(after_races_of_batches_documents_deletions_and_compactions_memory_is_as_the_log)
{
    begin();
    for (int64_t round = check_rounds(3); round > 0; round--) {
        struct world w = {0};
        struct writer writers[4];
        char before[SHARED][40], name[8];
        open_world(&w);
        for (int i = 0; i < 4; i++) {
            writers[i] = (struct writer){.index = w.index, .kind = i};
            CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_some, &writers[i]), 0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(writers[i].thread, NULL);
        for (int again = 0; again < 2; again++) {
            for (int i = 0; i < SHARED; i++) {
                syna_text_hit *hit = NULL;
                char now[40] = "";
                const char *query = name;
                size_t len, count;
                syna_text_search how = {.size = sizeof how, .k = 3, .flags = SYNA_TEXT_TEXTS};
                snprintf(name, sizeof name, "s%d", i);
                if (text_get(w.index, name, strlen(name), &hit) == SYNA_SUCCESS)
                    snprintf(now, sizeof now, "%s", hit->text);
                mem_free(hit);
                len = strlen(name);
                CHECK_OK(text_find(w.index, &query, &len, 1, &how, &hit, &count));
                CHECK_EQ(count, now[0] != '\0');
                if (count)
                    CHECK_STR(hit->text, now);
                mem_free(hit);
                if (again)
                    CHECK_STR(now, before[i]);
                memcpy(before[i], now, sizeof now);
            }
            close_world(&w, false);
            open_world(&w);
        }
        close_world(&w, false);
    }
}
