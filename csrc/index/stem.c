/* stem.c - the Snowball English stemmer. The steps have the names of the description; a y that is a
 * consonant is an upper-case Y while they run. `r1` and `r2` are where the regions of these names begin:
 * behind the first consonant that follows a vowel, and the same again from there. */
#include "base/internal.h"

#include "index/stem.h"

struct stemming {
    char *w;
    size_t len, r1, r2;
};

/* ---------------------------------------------------------------- letters */

static bool vowel(char c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

static bool has_vowel(const char *w, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (vowel(w[i]))
            return true;
    return false;
}

static bool is(const struct stemming *s, const char *word)
{
    return strlen(word) == s->len && memcmp(s->w, word, s->len) == 0;
}

static bool starts(const struct stemming *s, const char *word)
{
    size_t n = strlen(word);
    return s->len >= n && memcmp(s->w, word, n) == 0;
}

static bool ends(const struct stemming *s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s->len >= n && memcmp(s->w + s->len - n, suffix, n) == 0;
}

/* The last `drop` letters become `with`. */
static void replace(struct stemming *s, size_t drop, const char *with)
{
    size_t n = strlen(with);
    s->len -= drop;
    memcpy(s->w + s->len, with, n);
    s->len += n;
}

/* Does w end in a short syllable? "past" is taken for one, so that it is no stem of paste. */
static bool short_syllable(const char *w, size_t len)
{
    if (len == 2)
        return vowel(w[0]) && !vowel(w[1]);
    if (len >= 4 && memcmp(w + len - 4, "past", 4) == 0)
        return true;
    if (len < 3)
        return false;
    char last = w[len - 1];
    return !vowel(last) && last != 'w' && last != 'x' && last != 'Y' && vowel(w[len - 2]) &&
           !vowel(w[len - 3]);
}

/* ---------------------------------------------------------------- regions */

static size_t region_from(const struct stemming *s, size_t at)
{
    while (at < s->len && !vowel(s->w[at]))
        at++;
    while (at < s->len && vowel(s->w[at]))
        at++;
    return at < s->len ? at + 1 : s->len;
}

static void find_regions(struct stemming *s)
{
    static const char *const starting[] = {"gener", "commun", "arsen", "past", "univers",
                                           "later", "emerg",  "organ", "inter"};
    s->r1 = 0;
    for (size_t i = 0; i < COUNT_OF(starting); i++)
        if (starts(s, starting[i]))
            s->r1 = strlen(starting[i]);
    if (s->r1 == 0)
        s->r1 = region_from(s, 0);
    s->r2 = region_from(s, s->r1);
}

static bool in_r1(const struct stemming *s, size_t suffix)
{
    return s->len - suffix >= s->r1;
}
static bool in_r2(const struct stemming *s, size_t suffix)
{
    return s->len - suffix >= s->r2;
}

static void mark_consonant_y(struct stemming *s)
{
    for (size_t i = 0; i < s->len; i++)
        if (s->w[i] == 'y' && (i == 0 || vowel(s->w[i - 1])))
            s->w[i] = 'Y';
}

/* ---------------------------------------------------------------- steps 0 and 1 */

static void step_0(struct stemming *s)
{
    if (ends(s, "'s'"))
        s->len -= 3;
    else if (ends(s, "'s"))
        s->len -= 2;
    else if (ends(s, "'"))
        s->len -= 1;
}

static void step_1a(struct stemming *s)
{
    if (ends(s, "sses"))
        s->len -= 2;
    else if (ends(s, "ied") || ends(s, "ies"))
        replace(s, 3, s->len > 4 ? "i" : "ie");
    else if (ends(s, "us") || ends(s, "ss"))
        return;
    else if (ends(s, "s") && s->len > 2 && has_vowel(s->w, s->len - 2))
        s->len--;
}

/* What is left when "ed" or "ing" went: hop(p)ing, luxuriat(e)d, hop(e)d. */
static void mend(struct stemming *s)
{
    if (ends(s, "at") || ends(s, "bl") || ends(s, "iz")) {
        replace(s, 0, "e");
        return;
    }
    char last = s->len ? s->w[s->len - 1] : '\0';
    if (s->len >= 2 && last == s->w[s->len - 2] && last && strchr("bdfgmnprt", last)) {
        /* add, egg, off keep both */
        if (s->len > 3 || !strchr("aeo", s->w[0]))
            s->len--;
    } else if (s->len <= s->r1 && short_syllable(s->w, s->len)) {
        replace(s, 0, "e");
    }
}

/* dying -> die; inning, outing ... stay. True when there is nothing more to do in this step. */
static bool special_ing(struct stemming *s)
{
    static const char *const whole[] = {"inn", "out", "cann", "herr", "earr", "even"};
    size_t stem = s->len - 3;
    if (stem == 2 && s->w[1] == 'y' && !vowel(s->w[0])) {
        replace(s, 4, "ie");
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(whole); i++)
        if (strlen(whole[i]) == stem && memcmp(s->w, whole[i], stem) == 0)
            return true;
    return false;
}

static void step_1b_eed(struct stemming *s, size_t suffix)
{
    static const char *const kept[] = {"proc", "exc", "succ"};
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (s->len - suffix == strlen(kept[i]) && starts(s, kept[i]))
            return;
    if (in_r1(s, suffix))
        replace(s, suffix, "ee");
}

static void step_1b(struct stemming *s)
{
    static const char *const suffixes[] = {"ingly", "edly", "ing", "ed"};
    if (ends(s, "eedly") || ends(s, "eed")) {
        step_1b_eed(s, ends(s, "eed") ? 3 : 5);
        return;
    }
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        size_t n = strlen(suffixes[i]);
        if (!ends(s, suffixes[i]))
            continue;
        if (n == 3 && special_ing(s))
            return;
        if (has_vowel(s->w, s->len - n)) {
            s->len -= n;
            mend(s);
        }
        return;
    }
}

static void step_1c(struct stemming *s)
{
    char last = s->w[s->len - 1];
    if (s->len > 2 && (last == 'y' || last == 'Y') && !vowel(s->w[s->len - 2]))
        s->w[s->len - 1] = 'i';
}

/* ---------------------------------------------------------------- steps 2 to 5 */

struct rule {
    const char *suffix, *with;
    char condition; /* of the letters before, or of the region; see allowed */
};

static bool allowed(const struct stemming *s, const struct rule *rule)
{
    size_t n = strlen(rule->suffix);
    char before = s->len > n ? s->w[s->len - n - 1] : '\0';
    switch (rule->condition) {
    case 'l': /* logi */
        return before == 'l';
    case 'v': /* a valid li-ending */
        return before && strchr("cdeghkmnrt", before);
    case '2':
        return in_r2(s, n);
    case 's': /* sion, tion */
        return before == 's' || before == 't';
    default:
        return true;
    }
}

/* The first rule whose suffix is there decides; longer suffixes come first. */
static void apply(struct stemming *s, const struct rule *rules, size_t count, size_t region)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(rules[i].suffix);
        if (!ends(s, rules[i].suffix))
            continue;
        if (s->len - n >= region && allowed(s, &rules[i]))
            replace(s, n, rules[i].with);
        return;
    }
}

static const struct rule step_2[] = {
    {"ational", "ate", 0}, {"fulness", "ful", 0}, {"iveness", "ive", 0}, {"ization", "ize", 0},
    {"ousness", "ous", 0}, {"biliti", "ble", 0},  {"lessli", "less", 0}, {"tional", "tion", 0},
    {"alism", "al", 0},    {"aliti", "al", 0},    {"ation", "ate", 0},   {"entli", "ent", 0},
    {"fulli", "ful", 0},   {"iviti", "ive", 0},   {"ousli", "ous", 0},   {"ogist", "og", 0},
    {"abli", "able", 0},   {"alli", "al", 0},     {"anci", "ance", 0},   {"ator", "ate", 0},
    {"enci", "ence", 0},   {"izer", "ize", 0},    {"bli", "ble", 0},     {"ogi", "og", 'l'},
    {"li", "", 'v'},
};
static const struct rule step_3[] = {
    {"ational", "ate", 0}, {"tional", "tion", 0}, {"alize", "al", 0}, {"ative", "", '2'},
    {"icate", "ic", 0},    {"iciti", "ic", 0},    {"ical", "ic", 0},  {"ness", "", 0},
    {"ful", "", 0},
};
static const struct rule step_4[] = {
    {"ement", "", 0}, {"able", "", 0}, {"ance", "", 0}, {"ence", "", 0}, {"ible", "", 0},
    {"ment", "", 0},  {"ant", "", 0},  {"ate", "", 0},  {"ent", "", 0},  {"ion", "", 's'},
    {"ism", "", 0},   {"iti", "", 0},  {"ive", "", 0},  {"ize", "", 0},  {"ous", "", 0},
    {"al", "", 0},    {"er", "", 0},   {"ic", "", 0},
};

static void step_5(struct stemming *s)
{
    char last = s->w[s->len - 1];
    if (last == 'e' &&
        (in_r2(s, 1) || (in_r1(s, 1) && !short_syllable(s->w, s->len - 1))))
        s->len--;
    else if (last == 'l' && s->len > 1 && s->w[s->len - 2] == 'l' && in_r2(s, 1))
        s->len--;
}

/* ---------------------------------------------------------------- words that no rule fits */

static bool exception(struct stemming *s)
{
    static const char *const pairs[][2] = {
        {"skis", "ski"},    {"skies", "sky"},    {"idly", "idl"},   {"gently", "gentl"},
        {"ugly", "ugli"},   {"early", "earli"},  {"only", "onli"},  {"singly", "singl"},
        {"sky", "sky"},     {"news", "news"},    {"howe", "howe"},  {"atlas", "atlas"},
        {"cosmos", "cosmos"}, {"bias", "bias"},  {"andes", "andes"},
    };
    if (s->len < 3 || s->len > 6 || !strchr("skiguenoahcb", s->w[0]))
        return false;
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        if (is(s, pairs[i][0])) {
            replace(s, s->len, pairs[i][1]);
            return true;
        }
    return false;
}

static bool english_letters(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(word[i] >= 'a' && word[i] <= 'z') && word[i] != '\'')
            return false;
    return true;
}

size_t stem_english(char *word, size_t len)
{
    struct stemming s = {.w = word, .len = len};
    if (len < 3 || !english_letters(word, len) || exception(&s))
        return s.len;
    if (word[0] == '\'') {
        s.len--;
        memmove(word, word + 1, s.len);
    }
    mark_consonant_y(&s);
    find_regions(&s);
    step_0(&s);
    step_1a(&s);
    if (s.len > 0)
        step_1b(&s);
    if (s.len > 0)
        step_1c(&s);
    apply(&s, step_2, COUNT_OF(step_2), s.r1);
    apply(&s, step_3, COUNT_OF(step_3), s.r1);
    apply(&s, step_4, COUNT_OF(step_4), s.r2);
    if (s.len > 0)
        step_5(&s);
    for (size_t i = 0; i < s.len; i++)
        if (word[i] == 'Y')
            word[i] = 'y';
    return s.len > 0 ? s.len : len;
}
