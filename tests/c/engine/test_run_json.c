/* The JSON of runs' records: what is refused, what is found, what is written. */
#include "check.h"

#include "engine/run_json.h"

static bool valid(const char *text)
{
    return json_valid(text, strlen(text));
}

TEST(json_is_told_from_what_only_looks_like_it)
{
    static const char *const good[] = {"null", " true ", "-0.5e+10", "[]", "{}", "\"\\u00e9\\n\"",
                                       "[1,[2,{\"a\":[null]}],\"x\"]", "{\"a\":1,\"a\":2}", "0"};
    static const char *const bad[] = {"",     "nul",  "01",     "1.",    "[1,]",  "{\"a\"}",
                                      "\"\\x\"", "\"\n\"", "[1 2]", "{a:1}", "1e",  "\"open",
                                      "[]]",  "{\"a\":}", "\"\\u12g4\"", "-", "\"\xff\"", "[\"\xc0\x80\"]"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        check_note("%s", good[i]);
        CHECK(valid(good[i]));
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        check_note("%s", bad[i]);
        CHECK(!valid(bad[i]));
    }
}

TEST(nesting_has_a_limit)
{
    char text[400];
    memset(text, '[', 200);
    memset(text + 200, ']', 200);
    CHECK(!json_valid(text, 400));
    CHECK(json_valid(text + 150, 100));
}

TEST(every_cut_of_a_text_is_refused_and_read_within_its_bounds)
{
    const char *text = "{\"a\":[1.5e3,\"\\u0041\",true,null],\"b\":{\"c\":\"d\"}}";
    size_t len = strlen(text);
    for (size_t cut = 0; cut < len; cut++) {
        char *copy = malloc(cut ? cut : 1); /* the sanitizer sees a step too far */
        memcpy(copy, text, cut);
        CHECK(!json_valid(copy, cut));
        json_field(copy, cut, "b");
        CHECK(!json_is_string_list(copy, cut));
        free(copy);
    }
    CHECK(json_is_object(text, len));
}

TEST(lists_of_strings_are_nothing_else)
{
    CHECK(json_is_string_list("[]", 2));
    CHECK(json_is_string_list(" [ \"a\" , \"b\" ] ", 15));
    CHECK(!json_is_string_list("[1]", 3));
    CHECK(!json_is_string_list("[\"a\",null]", 10));
    CHECK(!json_is_string_list("\"a\"", 3));
    CHECK(!json_is_string_list("{}", 2));
}

TEST(fields_are_found_by_name_at_the_top_only)
{
    const char *text = "{\"x\":{\"status\":\"no\"},\"status\":\"Running\",\"n\":12}";
    struct json_span s = json_field(text, strlen(text), "status");
    CHECK(json_equals_word(s, "running"));
    CHECK(!json_equals_word(s, "run"));
    s = json_field(text, strlen(text), "n");
    CHECK_EQ(s.len, 2);
    CHECK_MEM(s.at, "12", 2);
    CHECK(json_field(text, strlen(text), "none").at == NULL);
    CHECK(json_field("[1]", 3, "none").at == NULL);
}

TEST(strings_and_times_are_written_as_json)
{
    struct buf b = {0};
    CHECK(json_add_string(&b, "a\"\\\n\x01\xc3\xa9", 7));
    CHECK(json_add_text(&b, ","));
    CHECK(json_add_time(&b, 1700000000000042u));
    CHECK(json_add_span(&b, (struct json_span){NULL, 0}, ",null"));
    CHECK(buf_append(&b, "", 1));
    CHECK_STR((char *)b.bytes, "\"a\\\"\\\\\\u000a\\u0001\xc3\xa9\",1700000000.000042,null");
    buf_dispose(&b);
}
