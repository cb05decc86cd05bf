/* The analyser: where words begin and end, what they become, stems, stop words, pairs, offsets. */
#include "check.h"

#include "base/utf8.h"
#include "index/analyzer.h"
#include "index/stem.h"
#include "index/unicode.h"

/* ---------------------------------------------------------------- what comes out, as text */

struct lines {
    char text[4096];
    size_t len;
    bool offsets;
};

static bool add_line(void *context, const struct token *t)
{
    struct lines *l = context;
    int n = l->offsets
                ? snprintf(l->text + l->len, sizeof l->text - l->len, "%.*s@%zu-%zu#%u ",
                           (int)t->len, t->term, t->start, t->end, t->position)
                : snprintf(l->text + l->len, sizeof l->text - l->len, "%.*s%s ", (int)t->len,
                           t->term, t->begins ? "*" : "");
    CHECK(n > 0);
    l->len += (size_t)n;
    CHECK(l->len < sizeof l->text);
    return true;
}

static const char *run(const char *name, const char *text, enum analyze_for what, bool offsets)
{
    static struct lines lines;
    struct analyzer a;
    lines = (struct lines){.offsets = offsets};
    CHECK_OK(analyzer_init(&a, name, NULL, NULL));
    analyze(&a, text, strlen(text), what, add_line, &lines);
    if (lines.len > 0)
        lines.text[lines.len - 1] = '\0';
    return lines.text;
}
static const char *standard(const char *text)
{
    return run("standard", text, ANALYZE_TEXT, false);
}
static const char *english(const char *text)
{
    return run("english", text, ANALYZE_TEXT, false);
}

/* ---------------------------------------------------------------- words */

TEST(words_are_runs_of_letters_and_digits)
{
    CHECK_STR(standard("Hello, world! foo_bar well-known a/b"),
              "hello world foo bar well known a b");
    CHECK_STR(standard("  ...  "), "");
    CHECK_STR(standard(""), "");
    CHECK_STR(standard("x86-64 C++ utf8"), "x86 64 c utf8");
}

TEST(apostrophes_join_letters_and_full_stops_digits)
{
    CHECK_STR(standard("don't O\xe2\x80\x99Neil 'quoted' rock'"), "don't o'neil quoted rock");
    CHECK_STR(standard("6.1.0 3.14. v2.x end."), "6.1.0 3.14 v2 x end");
}

TEST(case_accents_and_widths_are_folded)
{
    CHECK_STR(standard("\xc3\x89" "COLE \xc3\xa9" "cole e\xcc\x81" "cole"), "ecole ecole ecole");
    CHECK_STR(standard("Stra\xc3\x9f" "e \xc3\x86ther \xc5\x81\xc3\xb3" "d\xc5\xba"),
              "strasse aether lodz");
    CHECK_STR(standard("\xef\xbc\xa1\xef\xbc\xa2 \xef\xac\x81ne"), "ab fine"); /* full width, fi */
    CHECK_STR(standard("\xd0\x9c\xd0\x9e\xd0\xa1\xd0\x9a\xd0\x92\xd0\x90"),
              "\xd0\xbc\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0");
    CHECK_STR(standard("\xce\xa3\xce\xaf\xcf\x83\xcf\x85\xcf\x86\xce\xbf\xcf\x82"),
              "\xcf\x83\xce\xb9\xcf\x83\xcf\x85\xcf\x86\xce\xbf\xcf\x83"); /* both sigmas */
    CHECK_STR(standard("co\xc2\xadop"), "coop"); /* a soft hyphen */
}

TEST(marks_that_are_no_accents_stay)
{
    CHECK_STR(standard("\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80"),
              "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80");
}

TEST(scripts_without_spaces_give_pairs)
{
    CHECK_STR(standard("\xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd"),
              "\xe6\x9d\xb1\xe4\xba\xac \xe4\xba\xac\xe9\x83\xbd \xe9\x83\xbd*");
    CHECK_STR(run("standard", "\xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd", ANALYZE_QUERY, false),
              "\xe6\x9d\xb1\xe4\xba\xac \xe4\xba\xac\xe9\x83\xbd");
    CHECK_STR(run("standard", "\xe7\x8c\xab", ANALYZE_QUERY, false), "\xe7\x8c\xab*");
    CHECK_STR(standard("GPU\xe6\x9d\xb1" "1"), "gpu \xe6\x9d\xb1* 1");
}

TEST(bytes_that_are_no_utf8_are_between_words)
{
    CHECK_STR(standard("a\xff" "b \xc3 c\xe2\x82 d\xed\xa0\x80" "e \xf5x"), "a b c d e x");
    CHECK_STR(standard("abc\xc3"), "abc");
}

TEST(offsets_and_positions_are_those_of_the_text)
{
    CHECK_STR(run("english", "The \xc3\xa9t\xc3\xa9 of libraries", ANALYZE_TEXT, true),
              "ete@4-9#1 librari@13-22#3");
    CHECK_STR(run("standard", "\xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd", ANALYZE_TEXT, true),
              "\xe6\x9d\xb1\xe4\xba\xac@0-6#0 \xe4\xba\xac\xe9\x83\xbd@3-9#1 \xe9\x83\xbd@6-9#2");
}

TEST(long_words_are_cut_at_a_character)
{
    char text[1000];
    struct lines lines = {.len = 0};
    struct analyzer a;
    memset(text, 'a', 500);
    text[119] = '\xc3'; /* stays e-acute, one byte when folded */
    text[120] = '\xa9';
    CHECK_OK(analyzer_init(&a, "standard", NULL, NULL));
    analyze(&a, text, 500, ANALYZE_TEXT, add_line, &lines);
    CHECK_EQ(lines.len, TERM_MAX + 1);
    for (int i = 0; i < 500; i += 2)
        memcpy(text + i, "\xd0\xb1", 2); /* 250 Cyrillic letters */
    lines.len = 0;
    analyze(&a, text, 500, ANALYZE_TEXT, add_line, &lines);
    CHECK_EQ(lines.len, TERM_MAX + 1);
    CHECK(utf8_valid(lines.text, TERM_MAX));
    memcpy(text, "a", 1); /* now the limit falls into a letter */
    memmove(text + 1, text + 2, 498);
    memcpy(text, "a", 1);
    lines.len = 0;
    analyze(&a, text, 499, ANALYZE_TEXT, add_line, &lines);
    CHECK(utf8_valid(lines.text, lines.len));
}

static bool stop_at_once(void *context, const struct token *t)
{
    (void)t;
    ++*(int *)context;
    return false;
}

TEST(a_visitor_can_end_the_walk)
{
    struct analyzer a;
    int count = 0;
    CHECK_OK(analyzer_init(&a, "standard", NULL, NULL));
    analyze(&a, "one two three", 13, ANALYZE_TEXT, stop_at_once, &count);
    CHECK_EQ(count, 1);
}

/* ---------------------------------------------------------------- folding */

static size_t fold_text(const char *in, size_t len, char *out)
{
    struct unicode_memo memo = {0};
    size_t n = 0, used;
    for (const uint8_t *at = (const uint8_t *)in, *end = at + len; at < end; at += used) {
        uint32_t c = unicode_decode(at, end, &used);
        if (c < 0x80)
            out[n++] = (char)c;
        else
            n += unicode_fold(&memo, c, out + n);
    }
    return n;
}

TEST(every_folding_is_valid_text_that_folds_to_itself)
{
    struct unicode_memo memo = {0};
    uint32_t changed = 0;
    for (uint32_t c = 0x80; c < 0x110000; c++) {
        char once[UNICODE_FOLD_MAX], twice[UNICODE_FOLD_MAX * 4];
        if (c >= 0xd800 && c < 0xe000)
            continue;
        check_note("U+%04X", c);
        size_t len = unicode_fold(&memo, c, once);
        CHECK(len <= UNICODE_FOLD_MAX);
        CHECK(utf8_valid(once, len));
        CHECK_EQ(fold_text(once, len, twice), len);
        CHECK_MEM(twice, once, len);
        size_t used;
        changed += len == 0 || unicode_decode((uint8_t *)once, (uint8_t *)once + len, &used) != c;
    }
    CHECK(changed > 4000);
}

TEST(classes_are_the_same_whatever_was_asked_before)
{
    struct unicode_memo memo = {0};
    for (int i = 0; i < 200000; i++) {
        struct unicode_memo fresh = {0};
        uint32_t c = 0x80 + (uint32_t)(check_random() % 0x10ff80);
        char a[UNICODE_FOLD_MAX], b[UNICODE_FOLD_MAX];
        if (c >= 0xd800 && c < 0xe000)
            continue;
        CHECK_EQ(unicode_class(&memo, c), unicode_class(&fresh, c));
        size_t n = unicode_fold(&memo, c, a);
        CHECK_EQ(unicode_fold(&fresh, c, b), n);
        CHECK_MEM(a, b, n);
    }
}

/* ---------------------------------------------------------------- English */

TEST(stop_words_are_left_out_and_keep_their_places)
{
    CHECK_STR(run("english", "the cat and the hat", ANALYZE_TEXT, true), "cat@4-7#1 hat@16-19#4");
    CHECK(stopword_english("the", 3));
    CHECK(stopword_english("these", 5));
    CHECK(!stopword_english("he", 2)); /* a part of one */
    CHECK(!stopword_english("th", 2));
    CHECK(!stopword_english("", 0));
}

/* By hand from the rules; step and rule at the side. */
static const char *const stems[][2] = {
    {"caresses", "caress"},       /* 1a sses */
    {"ties", "tie"},              /* 1a ies, one letter before */
    {"cries", "cri"},             /* 1a ies, more */
    {"gas", "gas"},               /* 1a s, a vowel right before only */
    {"this", "this"},
    {"gaps", "gap"},
    {"kiwis", "kiwi"},
    {"cactus", "cactus"},         /* 1a us */
    {"agreed", "agre"},           /* 1b eed, then 5 e */
    {"feed", "feed"},             /* 1b eed, not in R1 */
    {"luxuriated", "luxuri"},     /* 1b ed: at -> ate; 4 ate */
    {"hopping", "hop"},           /* 1b ing: double */
    {"hoping", "hope"},           /* 1b ing: short word */
    {"falling", "fall"},          /* l is no double here */
    {"added", "add"},             /* double behind a vowel at the start */
    {"sing", "sing"},             /* no vowel before ing */
    {"dying", "die"},             /* y before ing */
    {"evening", "evening"},       /* exception of 1b */
    {"exceeded", "exceed"},
    {"happy", "happi"},           /* 1c */
    {"by", "by"},
    {"say", "say"},               /* 1c: a vowel before */
    {"relational", "relat"},      /* 2 ational, 5 e */
    {"conditional", "condit"},    /* 2 tional, 4 ion */
    {"digitizer", "digit"},       /* 2 izer, 4 ize */
    {"decisiveness", "decis"},    /* 2 iveness, 4 ive */
    {"analogousli", "analog"},    /* 2 ousli, 4 ous */
    {"geology", "geolog"},        /* 1c, 2 logi */
    {"biologists", "biolog"},     /* 1a, 2 ogist */
    {"sensibilities", "sensibl"}, /* 1a, 2 biliti -> ble; 5 e */
    {"radically", "radic"},       /* 2 alli, 4 al */
    {"quickly", "quick"},         /* 2 li behind k */
    {"triplicate", "triplic"},    /* 3 icate */
    {"electrical", "electr"},     /* 3 ical, 4 ic */
    {"hopefulness", "hope"},      /* 2 fulness, 3 ful */
    {"formative", "format"},      /* 3 ative not in R2; 4 ive */
    {"adoption", "adopt"},        /* 4 ion behind t */
    {"replacement", "replac"},    /* 4 ement */
    {"adjustable", "adjust"},
    {"rate", "rate"},             /* 5 e behind a short syllable */
    {"cease", "ceas"},            /* 5 e */
    {"controll", "control"},      /* 5 l */
    {"generate", "generat"},      /* R1 of gener */
    {"general", "general"},
    {"communism", "communism"},
    {"skies", "sky"},             /* exceptions */
    {"early", "earli"},
    {"news", "news"},
    {"dog's", "dog"},             /* 0 */
    {"dogs'", "dog"},
    {"yes", "yes"},               /* a y at the start is a consonant */
    {"youth", "youth"},
    {"boyish", "boyish"},
    {"paste", "paste"},           /* "past" is a short syllable */
    {"a", "a"},
    {"is", "is"},
};

TEST(stems_follow_the_rules)
{
    for (size_t i = 0; i < COUNT_OF(stems); i++) {
        char word[40];
        size_t len = strlen(stems[i][0]);
        check_note("%s", stems[i][0]);
        memcpy(word, stems[i][0], len);
        len = stem_english(word, len);
        word[len] = '\0';
        CHECK_STR(word, stems[i][1]);
    }
}

TEST(words_of_other_letters_are_not_stemmed)
{
    char word[] = "caf\xc3\xa9s";
    CHECK_EQ(stem_english(word, 6), 6);
    CHECK_STR(english("caf\xc3\xa9s mp3s"), "cafe mp3s"); /* folded first, and then it is English */
}

TEST(any_letters_keep_at_least_one)
{
    static const char letters[] = "aeiouysltndgr'ecm";
    for (int i = 0; i < 200000; i++) {
        char word[16];
        size_t len = 1 + check_random() % 12;
        for (size_t j = 0; j < len; j++)
            word[j] = letters[check_random() % (sizeof letters - 1)];
        check_note("%.*s", (int)len, word);
        size_t stem = stem_english(word, len);
        CHECK(stem >= 1 && stem <= len + 1);
        for (size_t j = 0; j < stem; j++)
            CHECK((word[j] >= 'a' && word[j] <= 'z') || word[j] == '\'');
    }
}

/* ---------------------------------------------------------------- names, stemmers from outside */

static void first_letter(void *context, char *word, size_t *len, size_t room)
{
    (void)word;
    CHECK_EQ(room, TERM_MAX);
    *len = *(size_t *)context;
}

TEST(a_stemmer_from_outside_is_asked)
{
    struct analyzer a;
    struct lines lines = {.len = 0};
    size_t len = 1;
    CHECK_OK(analyzer_init(&a, "letters:1", first_letter, &len));
    analyze(&a, "abc def", 7, ANALYZE_TEXT, add_line, &lines);
    CHECK_STR(lines.text, "a d ");
    lines.len = 0;
    len = 0; /* nothing is as if it had not been asked */
    analyze(&a, "abc", 3, ANALYZE_TEXT, add_line, &lines);
    CHECK_STR(lines.text, "abc ");
}

TEST(names_that_are_not_known_are_refused)
{
    struct analyzer a;
    CHECK_FAILS(analyzer_init(&a, "klingon", NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(analyzer_init(&a, "", first_letter, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(analyzer_init(&a, "with \"quotes\"", first_letter, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(analyzer_init(&a, "a-name-of-more-than-thirty-one-bytes", first_letter, NULL),
                SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}
