/* Metadata and filters: every operator against written-out answers, columns against reading the texts,
 * memory that ends at every call. */
#include "check.h"

#include "engine/filter_core.h"
#include "engine/meta.h"

static struct filter *filter_of(const char *json)
{
    struct filter *filter = NULL;
    if (filter_parse(json, strlen(json), &filter) != SYNA_SUCCESS)
        check_fail(__FILE__, __LINE__, "%s: %s", json, status_get()->message);
    return filter;
}

static void set(struct meta *meta, uint32_t row, const char *json)
{
    CHECK_OK(meta_check(json, strlen(json)));
    CHECK_OK(meta_set(meta, row, json, strlen(json)));
}

/* The rows below 64 that match, as bits. */
static uint64_t matches(const struct meta *meta, const char *json, uint32_t rows)
{
    uint64_t bits = 0, count;
    struct filter *filter = filter_of(json);
    CHECK_OK(meta_select(meta, filter, rows, NULL, &bits, &count));
    CHECK_EQ(count, __builtin_popcountll(bits));
    filter_free(filter);
    return bits;
}

/* ---------------------------------------------------------------- what filters mean */

static const char *const values[] = {
    "{}",                          /* 0 */
    "{\"a\":1}",                   /* 1 */
    "{\"a\":1.0}",                 /* 2 */
    "{\"a\":true}",                /* 3 */
    "{\"a\":\"1\"}",               /* 4 */
    "{\"a\":null}",                /* 5 */
    "{\"a\":[]}",                  /* 6 */
    "{\"a\":[1,\"x\",null]}",      /* 7 */
    "{\"a\":{\"b\":1}}",           /* 8 */
    "{\"a\":[{\"b\":1},[1]]}",     /* 9 */
    "{\"a\":9007199254740993}",    /* 10 */
    "{\"a\":9007199254740992.0}",  /* 11 */
    "{\"a\":false}",               /* 12 */
    "{\"a\":\"xyz\"}",             /* 13 */
    "{\"a\":-0.0}",                /* 14 */
    "{\"a\":2,\"a\":3}",           /* 15 */
    "{\"a.b\":1}",                 /* 16 */
    "{\"a\":\"\\u0078\\u00e9\"}",  /* 17: xé */
};
#define ROWS ((uint32_t)COUNT_OF(values))
#define R(n) (1ull << (n))
#define ALL (R(ROWS) - 1)

static const struct {
    const char *filter;
    uint64_t rows;
} meanings[] = {
    {"{}", ALL},
    {"{\"$and\":[]}", ALL},
    {"{\"$or\":[]}", 0},
    {"{\"$not\":{}}", 0},
    {"{\"a\":1}", R(1) | R(2) | R(7)},
    {"{\"a\":{\"$eq\":1.0}}", R(1) | R(2) | R(7)},
    {"{\"a\":true}", R(3)},
    {"{\"a\":\"1\"}", R(4)},
    {"{\"a\":null}", R(5) | R(7)},
    {"{\"a\":{\"$ne\":1}}", ALL & ~(R(1) | R(2) | R(7))},
    {"{\"a\":{\"$in\":[1,\"1\",false]}}", R(1) | R(2) | R(4) | R(7) | R(12)},
    {"{\"a\":{\"$in\":[]}}", 0},
    {"{\"a\":{\"$nin\":[]}}", ALL},
    {"{\"a\":{\"$nin\":[1,null]}}", ALL & ~(R(1) | R(2) | R(5) | R(7))},
    {"{\"a\":{\"$exists\":true}}", ALL & ~(R(0) | R(16))},
    {"{\"a\":{\"$exists\":false}}", R(0) | R(16)},
    {"{\"a.b\":1}", R(8) | R(16)},
    {"{\"a.b\":{\"$exists\":true}}", R(8) | R(16)},
    {"{\"a\":9007199254740993}", R(10)},
    {"{\"a\":9007199254740992}", R(11)},
    {"{\"a\":{\"$gt\":9007199254740992}}", R(10)},
    {"{\"a\":{\"$gte\":9007199254740992.0}}", R(10) | R(11)},
    {"{\"a\":{\"$lt\":9007199254740993,\"$gt\":3}}", R(11)},
    {"{\"a\":{\"$lt\":1}}", R(14)},
    {"{\"a\":{\"$lte\":1}}", R(1) | R(2) | R(7) | R(14)},
    {"{\"a\":{\"$lt\":1.5,\"$gt\":0.5}}", R(1) | R(2) | R(7)},
    {"{\"a\":{\"$gt\":2.9}}", R(10) | R(11) | R(15)},
    {"{\"a\":0}", R(14)},
    {"{\"a\":3}", R(15)},
    {"{\"a\":2}", 0},
    {"{\"a\":{\"$lt\":true}}", R(12)},
    {"{\"a\":{\"$lte\":true}}", R(3) | R(12)},
    {"{\"a\":{\"$gt\":false}}", R(3)},
    {"{\"a\":{\"$gte\":true}}", R(3)},
    {"{\"a\":{\"$lte\":null}}", R(5) | R(7)},
    {"{\"a\":{\"$lt\":null}}", 0},
    {"{\"a\":{\"$gte\":\"x\"}}", R(7) | R(13) | R(17)},
    {"{\"a\":{\"$gt\":\"x\"}}", R(13) | R(17)},
    {"{\"a\":{\"$gt\":\"xy\"}}", R(13) | R(17)},
    {"{\"a\":{\"$gt\":\"xz\"}}", R(17)},
    {"{\"a\":{\"$contains\":\"x\"}}", R(7) | R(13) | R(17)},
    {"{\"a\":{\"$contains\":\"yz\"}}", R(13)},
    {"{\"a\":{\"$contains\":1}}", R(7)},
    {"{\"a\":{\"$contains\":null}}", R(7)},
    {"{\"a\":{\"$contains\":\"\"}}", R(4) | R(13) | R(17)},
    {"{\"a\":\"x\\u00e9\"}", R(17)},
    {"{\"a\":1e300}", 0},
    {"{\"a\":{\"$lt\":-1e300}}", 0},
    {"{\"a\":{\"$lt\":1e300}}", R(1) | R(2) | R(7) | R(10) | R(11) | R(14) | R(15)},
    {"{\"nothing\":{\"$ne\":1}}", ALL},
    {"{\"nothing\":1}", 0},
    {"{\"$or\":[{\"a\":true},{\"a\":false}]}", R(3) | R(12)},
    {"{\"$not\":{\"a\":{\"$exists\":true}}}", R(0) | R(16)},
    {"{\"$and\":[{\"a\":{\"$gt\":0}},{\"$not\":{\"a\":1}}]}", R(10) | R(11) | R(15)},
    {"{\"a\":{\"$gt\":0},\"$or\":[{\"a\":3},{\"a\":\"x\"}]}", R(7) | R(15)},
};

TEST(every_operator_means_what_the_header_says)
{
    struct meta *meta;
    CHECK_OK(meta_new(&meta));
    for (uint32_t i = 0; i < ROWS; i++)
        set(meta, i, values[i]);
    for (size_t i = 0; i < COUNT_OF(meanings); i++) {
        check_note("%s", meanings[i].filter);
        CHECK_EQ(matches(meta, meanings[i].filter, ROWS), meanings[i].rows);
    }
    meta_free(meta);
}

TEST(reading_the_texts_gives_the_same)
{
    for (size_t i = 0; i < COUNT_OF(meanings); i++) {
        struct filter *filter = filter_of(meanings[i].filter);
        for (uint32_t row = 0; row < ROWS; row++) {
            bool match;
            CHECK(node_matches_text(filter->root, values[row], strlen(values[row]), &match));
            check_note("%s on %s", meanings[i].filter, values[row]);
            CHECK_EQ(match, meanings[i].rows >> row & 1);
        }
        filter_free(filter);
    }
}

/* Rows far apart stand in chunks that list their cells, dense ones in chunks with a place for each. */
TEST(sparse_and_dense_chunks_answer_alike)
{
    static const uint32_t steps[] = {1, 3, 7, 500, 1024, 5000};
    for (size_t s = 0; s < COUNT_OF(steps); s++) {
        struct meta *meta;
        uint64_t bits[2000], count;
        uint32_t rows = MIN(ROWS * 40 * steps[s], 128000u - 1);
        CHECK_OK(meta_new(&meta));
        for (uint32_t row = 0; row < rows; row += steps[s])
            set(meta, row, values[row / steps[s] % ROWS]);
        for (size_t i = 0; i < COUNT_OF(meanings); i += 3) {
            struct filter *filter = filter_of(meanings[i].filter);
            bool bare; /* what a row without metadata answers */
            CHECK(node_matches_text(filter->root, NULL, 0, &bare));
            CHECK_OK(meta_select(meta, filter, rows, NULL, bits, &count));
            for (uint32_t row = 0; row < rows; row++) {
                bool want = row % steps[s] ? bare : meanings[i].rows >> row / steps[s] % ROWS & 1;
                if ((bits[row / 64] >> row % 64 & 1) != want)
                    check_fail(__FILE__, __LINE__, "%s, row %u", meanings[i].filter, row);
                count -= want;
            }
            CHECK_EQ(count, 0);
            if (rows % 64)
                CHECK_EQ(bits[rows / 64] >> rows % 64, 0);
            filter_free(filter);
        }
        meta_free(meta);
    }
}

TEST(only_live_rows_are_selected)
{
    struct meta *meta;
    uint64_t live[3] = {0xf0f0f0f0f0f0f0f0u, 0, ~0ull}, bits[3], count;
    CHECK_OK(meta_new(&meta));
    struct filter *filter = filter_of("{\"a\":{\"$exists\":false}}");
    CHECK_OK(meta_select(meta, filter, 130, live, bits, &count));
    CHECK_EQ(count, 34);
    CHECK_EQ(bits[0], live[0]);
    CHECK_EQ(bits[1], 0);
    CHECK_EQ(bits[2], 3);
    CHECK_OK(meta_select(meta, filter, 0, live, bits, &count));
    CHECK_EQ(count, 0);
    filter_free(filter);
    meta_free(meta);
}

/* ---------------------------------------------------------------- refusals */

TEST(what_is_no_filter_is_refused_by_name)
{
    static const struct {
        const char *filter, *message;
    } cases[] = {
        {"[]", "filter: byte 0: expected a filter, an object"},
        {"", "filter: byte 0: expected a value"},
        {"{\"a\":{\"$foo\":1}}", "filter: byte 7: \"$foo\": unknown operator"},
        {"{\"$xor\":[]}", "filter: byte 2: \"$xor\": unknown operator, expected $and"},
        {"{\"a\":{}}", "filter: byte 2: \"a\": expected an operator"},
        {"{\"a\":[1]}", "filter: byte 5: expected a string, a number"},
        {"{\"a\":{\"$in\":1}}", "filter: byte 12: expected a list of values"},
        {"{\"a\":{\"$in\":[[1]]}}", "filter: byte 13: expected a string"},
        {"{\"a\":{\"$exists\":1}}", "filter: byte 16: expected true or false"},
        {"{\"$and\":{}}", "filter: byte 8: expected a list of filters"},
        {"{\"$or\":[1]}", "filter: byte 8: expected a filter"},
        {"{\"$not\":[]}", "filter: byte 8: expected a filter"},
        {"{\"a\":{\"$lt\":{}}}", "filter: byte 12: expected a string"},
        {"{\"a\":1} x", "filter: byte 8: expected nothing more"},
        {"{\"a\":\"\xff\"}", "filter: the text is not UTF-8"},
        {"{\"a\":{\"b\":1}}", "filter: byte 7: \"b\": unknown operator"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct filter *filter = NULL;
        check_note("%s", cases[i].filter);
        CHECK_FAILS(filter_parse(cases[i].filter, strlen(cases[i].filter), &filter), SYNA_ERR_GENERIC,
                    SYNA_WHY_ARGUMENT);
        if (strncmp(status_get()->message, cases[i].message, strlen(cases[i].message)) != 0)
            check_fail(__FILE__, __LINE__, "%s: %s", cases[i].filter, status_get()->message);
    }
}

TEST(a_filter_may_be_31_deep_and_no_deeper)
{
    for (int depth = 30; depth < 70; depth += 10) {
        char text[1000] = "";
        struct filter *filter = NULL;
        for (int i = 0; i < depth; i++)
            strcat(text, "{\"$not\":");
        strcat(text, "{}");
        for (int i = 0; i < depth; i++)
            strcat(text, "}");
        syna_rc rc = filter_parse(text, strlen(text), &filter);
        CHECK_EQ(rc == SYNA_SUCCESS, depth < JSON_DEPTH_MAX);
        if (rc == SYNA_SUCCESS)
            filter_free(filter);
    }
}

TEST(what_is_no_object_is_refused_as_metadata)
{
    static const char *const texts[] = {"", "[]", "1", "null", "{\"a\":}", "{\"a\":NaN}", "{\"a\":1e999}",
                                        "{\"a\":\"\\ud800\"}", "{\"\xff\":1}", "{} {}"};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        CHECK_FAILS(meta_check(texts[i], strlen(texts[i])), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

/* ---------------------------------------------------------------- changes */

#define MODEL_ROWS 3000u

static void random_text(char *out, size_t room)
{
    static const char *const forms[] = {"%d", "%d.5", "\"s%d\"", "[%d,\"s1\"]", "{\"y\":%d}",
                                        "\"long %0300d\"", "[\"s1\",\"long %0280d\"]"};
    char value[400];
    size_t len = (size_t)snprintf(out, room, "{\"n\":%d", (int)(check_random() % 5));
    for (int field = 0; field < 3; field++) {
        snprintf(value, sizeof value, forms[check_random() % COUNT_OF(forms)], (int)(check_random() % 4));
        len += (size_t)snprintf(out + len, room - len, ",\"f%d\":%s",
                                (int)(check_random() % (field ? 4 : 40)), value);
    }
    snprintf(out + len, room - len, "}");
}

static const char *const questions[] = {
    "{\"f1\":{\"$gt\":1}}", "{\"f2\":{\"$ne\":\"s1\"}}", "{\"f0\":{\"$contains\":\"1\"}}",
    "{\"f3\":{\"$exists\":false},\"n\":{\"$in\":[1,3,4]}}", "{\"f1.y\":{\"$lte\":2}}",
    "{\"f2\":{\"$in\":[\"s1\",\"s2\",1.5]}}", "{\"f17\":{\"$exists\":true}}",
    "{\"$not\":{\"$or\":[{\"f1\":{\"$contains\":\"long\"}},{\"n\":2}]}}"};

static void compare_with_texts(const struct meta *meta, char *const *texts, bool full)
{
    uint64_t bits[(MODEL_ROWS + 63) / 64], count;
    for (size_t q = 0; q < COUNT_OF(questions); q++) {
        struct filter *filter = filter_of(questions[q]);
        CHECK_OK(meta_select(meta, filter, MODEL_ROWS, NULL, bits, &count));
        for (uint32_t row = 0; row < MODEL_ROWS; row += full ? 1 : 7) {
            bool want;
            CHECK(node_matches_text(filter->root, texts[row], texts[row] ? strlen(texts[row]) : 0,
                                    &want));
            if ((bits[row / 64] >> row % 64 & 1) != want)
                check_fail(__FILE__, __LINE__, "%s, row %u: %s", questions[q], row,
                           texts[row] ? texts[row] : "none");
        }
        filter_free(filter);
    }
    for (uint32_t row = 0; row < MODEL_ROWS; row++) {
        size_t len;
        const char *text = meta_text(meta, row, &len);
        CHECK_EQ(text != NULL, texts[row] != NULL);
        if (text) {
            CHECK_EQ(len, strlen(texts[row]));
            CHECK_MEM(text, texts[row], len);
        }
    }
}

static void change(struct meta *meta, char **texts)
{
    char text[1400];
    uint32_t row = (uint32_t)(check_random() % MODEL_ROWS), to = (uint32_t)(check_random() % (row + 1));
    uint64_t what = check_random() % 10;
    if (what < 7) {
        random_text(text, sizeof text);
        set(meta, row, text);
        free(texts[row]);
        texts[row] = strdup(text);
    } else if (what < 8) {
        meta_clear(meta, row);
        free(texts[row]);
        texts[row] = NULL;
    } else if (!texts[to]) {
        meta_move(meta, row, to);
        texts[to] = texts[row];
        texts[row] = NULL;
    }
}

TEST(rows_set_cleared_and_moved_stay_what_a_plain_array_says)
{
    struct meta *meta;
    static char *texts[MODEL_ROWS];
    CHECK_OK(meta_new(&meta));
    for (int64_t round = 0; round < check_rounds(8); round++) {
        for (int i = 0; i < 4000; i++)
            change(meta, texts);
        compare_with_texts(meta, texts, round % 4 == 0);
    }
    for (uint32_t row = 0; row < MODEL_ROWS; row++) {
        meta_clear(meta, row);
        free(texts[row]);
        texts[row] = NULL;
    }
    compare_with_texts(meta, texts, true);
    CHECK_EQ(dict_memory(&meta->columns.strings) < 4096 && meta->columns.strings.used == 0, 1);
    CHECK_EQ(meta->columns.names.used, 0);
    CHECK_EQ(meta->columns.bytes, 0);
    CHECK(meta->texts.bytes < (1u << 20)); /* dead texts were given back */
    meta_free(meta);
}

/* ---------------------------------------------------------------- no memory */

static bool refuse_after(void *context, size_t bytes)
{
    (void)bytes;
    return --*(int64_t *)context >= 0;
}

TEST(after_a_reserve_nothing_fails_though_there_is_no_memory)
{
    char text[1400], *texts[MODEL_ROWS] = {0};
    struct meta *meta;
    int64_t left;
    CHECK_OK(meta_new(&meta));
    for (uint32_t row = 0; row < 600; row++) {
        random_text(text, sizeof text);
        CHECK_OK(meta_reserve(meta, MODEL_ROWS, 1, strlen(text)));
        left = (int64_t)(check_random() % 12);
        syna_test_set_alloc(refuse_after, &left);
        syna_rc rc = meta_set(meta, row, text, strlen(text));
        syna_test_set_alloc(NULL, NULL);
        CHECK_EQ(rc, SYNA_SUCCESS);
        texts[row] = strdup(text);
    }
    for (uint32_t row = 0; row < 600; row += 5) {
        left = 0;
        syna_test_set_alloc(refuse_after, &left);
        meta_clear(meta, row);
        meta_move(meta, row + 1, row);
        meta_clear(meta, row + 2);
        syna_test_set_alloc(NULL, NULL);
        free(texts[row + 2]);
        texts[row + 2] = NULL;
        free(texts[row]);
        texts[row] = texts[row + 1];
        texts[row + 1] = NULL;
    }
    (void)left;
    compare_with_texts(meta, texts, true);
    for (uint32_t row = 0; row < MODEL_ROWS; row++)
        free(texts[row]);
    meta_free(meta);
}

TEST(every_allocation_of_a_filter_and_of_a_selection_may_fail)
{
    static const char text[] = "{\"a\":{\"$in\":[\"x\",2,null]},\"$or\":[{\"b\":{\"$contains\":\"s\"}},{\"c\":1}]}";
    struct meta *meta;
    uint64_t bits[1], count, want = 0;
    CHECK_OK(meta_new(&meta));
    set(meta, 3, "{\"a\":\"x\",\"b\":\"some\"}");
    set(meta, 5, "{\"a\":2,\"c\":1}");
    for (int64_t calls = 0;; calls++) {
        struct filter *filter = NULL;
        int64_t left = calls;
        syna_test_set_alloc(refuse_after, &left);
        syna_rc rc = filter_parse(text, strlen(text), &filter);
        if (rc == SYNA_SUCCESS)
            rc = meta_select(meta, filter, 64, NULL, bits, &count);
        syna_test_set_alloc(NULL, NULL);
        filter_free(filter);
        if (rc == SYNA_SUCCESS) {
            want = bits[0];
            break;
        }
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
    }
    CHECK_EQ(want, R(3) | R(5));
    meta_free(meta);
}
