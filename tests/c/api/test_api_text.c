/* The C interface of text indexes, as a program uses it, and what each of its functions refuses. */
#include "check.h"

#include <synadb.h>

static syna_document document(const char *id, const char *text, const char *metadata)
{
    return (syna_document){.id = id,
                           .id_len = strlen(id),
                           .text = text,
                           .text_len = strlen(text),
                           .metadata = metadata,
                           .metadata_len = metadata ? strlen(metadata) : 0};
}

static syna_text *new_index(const char *path)
{
    const syna_document documents[] = {
        document("a", "Machine learning for vector databases", "{\"year\":2023}"),
        document("b", "Neural networks and deep learning", "{\"year\":2024}"),
        document("c", "Growing tomatoes", NULL),
    };
    syna_text *index = NULL;
    size_t added = 0;
    CHECK_OK(syna_text_open(path, NULL, &index));
    CHECK_OK(syna_text_put(index, documents, 3, &added));
    CHECK_EQ(added, 3);
    return index;
}

TEST(a_program_stores_searches_changes_and_opens_again)
{
    const char *path = check_path("notes.db");
    syna_text *index = new_index(path);
    const char *queries[] = {"learned networks", "tomato*", "zebra"};
    const size_t lens[] = {16, 7, 5};
    size_t counts[3];
    syna_text_hit *hits = NULL, *hit = NULL;
    syna_text_explain told = {.size = sizeof told};
    syna_text_search how = {.size = sizeof how,
                            .k = 10,
                            .flags = SYNA_TEXT_TEXTS | SYNA_TEXT_METADATA,
                            .explain = &told};
    CHECK_OK(syna_text_find(index, queries, lens, 3, &how, &hits, counts));
    CHECK_EQ(counts[0], 2);
    CHECK_EQ(counts[1], 1);
    CHECK_EQ(counts[2], 0);
    CHECK_STR(hits[0].id, "b");
    CHECK_STR(hits[0].text, "Neural networks and deep learning");
    CHECK_STR(hits[0].metadata, "{\"year\":2024}");
    CHECK_STR(hits[1].id, "a");
    CHECK(hits[0].score > hits[1].score && hits[1].score > 0);
    CHECK_STR(hits[2].id, "c");
    CHECK(hits[2].metadata == NULL);
    CHECK_EQ(told.terms, 3);
    syna_free_text_hits(hits);

    how = (syna_text_search){.size = sizeof how, .k = 10, .filter = "{\"year\":2023}", .filter_len = 13};
    const char *one[] = {"learning"};
    const size_t one_len[] = {8};
    CHECK_OK(syna_text_find(index, one, one_len, 1, &how, &hits, counts));
    CHECK_EQ(counts[0], 1);
    CHECK_STR(hits[0].id, "a");
    CHECK(hits[0].text == NULL);
    syna_free_text_hits(hits);

    int32_t deleted = 0;
    CHECK_OK(syna_text_set_metadata(index, "c", 1, "{\"garden\":true}", 15));
    CHECK_OK(syna_text_delete(index, "a", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(syna_text_close(index));
    CHECK_OK(syna_text_open(path, NULL, &index));
    CHECK_EQ(syna_text_count(index), 2);
    CHECK_EQ(syna_text_contains(index, "a", 1), 0);
    CHECK_OK(syna_text_get(index, "c", 1, &hit));
    CHECK_STR(hit->metadata, "{\"garden\":true}");
    syna_free_text_hits(hit);
    CHECK_OK(syna_text_close(index));
}

TEST(facts_ids_terms_and_places_of_words)
{
    syna_text *index = new_index(check_path("notes.db"));
    syna_text_hit *ids;
    syna_span *spans;
    syna_text_stats stats = {.size = sizeof stats};
    size_t count, len;
    uint64_t documents;
    char *terms;
    CHECK_OK(syna_text_ids(index, &ids, &count));
    CHECK_EQ(count, 3);
    CHECK_STR(ids[2].id, "c");
    syna_free_text_hits(ids);
    CHECK_OK(syna_text_terms(index, "The Libraries", 13, &terms, &len));
    CHECK_STR(terms, "librari\n");
    syna_free_text(terms, len);
    CHECK_OK(syna_text_frequency(index, "learn", 5, &documents));
    CHECK_EQ(documents, 2);
    CHECK_OK(syna_text_spans(index, "libraries", 9, "A library", 9, &spans, &count));
    CHECK_EQ(count, 1);
    CHECK(spans[0].start == 2 && spans[0].end == 9);
    syna_free_spans(spans);
    CHECK_OK(syna_text_get_stats(index, &stats));
    CHECK_EQ(stats.documents, 3);
    CHECK_STR(stats.analyzer, "english");
    CHECK_OK(syna_text_flush(index));
    CHECK_OK(syna_text_compact(index, NULL, NULL));
    CHECK_EQ(syna_text_count(index), 3);
    CHECK_OK(syna_text_close(index));
}

#define REFUSED(call) CHECK_FAILS(call, SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT)

TEST(null_pointers_are_refused_everywhere)
{
    syna_text *index = new_index(check_path("notes.db"));
    const char *query = "word";
    const size_t len = 4;
    size_t count;
    uint64_t documents;
    char *terms;
    syna_span *spans;
    syna_text_hit *hits;
    syna_text_search how = {.size = sizeof how, .k = 1};
    syna_text *none;
    REFUSED(syna_text_open(NULL, NULL, &none));
    CHECK(none == NULL);
    REFUSED(syna_text_open("x.db", NULL, NULL));
    REFUSED(syna_text_close(NULL));
    REFUSED(syna_text_put(NULL, NULL, 0, NULL));
    REFUSED(syna_text_put(index, NULL, 1, NULL));
    REFUSED(syna_text_delete(index, NULL, 0, NULL));
    REFUSED(syna_text_set_metadata(index, NULL, 0, NULL, 0));
    REFUSED(syna_text_get(index, "a", 1, NULL));
    REFUSED(syna_text_get(index, NULL, 1, &hits));
    REFUSED(syna_text_contains(NULL, "a", 1));
    CHECK_EQ(syna_text_count(NULL), 0);
    REFUSED(syna_text_ids(index, NULL, &count));
    REFUSED(syna_text_find(index, &query, &len, 1, &how, NULL, &count));
    REFUSED(syna_text_find(index, &query, &len, 1, NULL, &hits, &count));
    REFUSED(syna_text_find(index, NULL, &len, 1, &how, &hits, &count));
    REFUSED(syna_text_find(index, &query, NULL, 1, &how, &hits, &count));
    REFUSED(syna_text_find(index, &query, &len, 1, &how, &hits, NULL));
    REFUSED(syna_text_spans(index, NULL, 0, "", 0, &spans, &count));
    REFUSED(syna_text_spans(index, "", 0, "", 0, NULL, &count));
    REFUSED(syna_text_terms(index, NULL, 0, &terms, &count));
    REFUSED(syna_text_frequency(index, NULL, 0, &documents));
    REFUSED(syna_text_flush(NULL));
    REFUSED(syna_text_compact(NULL, NULL, NULL));
    REFUSED(syna_text_refresh(NULL, NULL));
    REFUSED(syna_text_get_stats(index, NULL));
    syna_free_text_hits(NULL);
    syna_free_spans(NULL);
    CHECK_EQ(syna_text_count(index), 3); /* nothing of that changed anything */
    CHECK_OK(syna_text_close(index));
}
