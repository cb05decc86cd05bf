/* analyzer.c - the walk over a text: find a word, fold it into a small buffer, leave it out or stem it,
 * hand it on. ASCII is folded by a table; everything else by unicode.h. Nothing is allocated. */
#include "base/internal.h"

#include "index/analyzer.h"
#include "index/stem.h"
#include "index/unicode.h"

#define ANALYZER_VERSION 1u

static bool good_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-");
    return len > 0 && name[len] == '\0' && len < sizeof((struct analyzer *)0)->name;
}

syna_rc analyzer_init(struct analyzer *a, const char *name, analyzer_stem_fn stem, void *context)
{
    bool english = strcmp(name, "english") == 0, standard = strcmp(name, "standard") == 0;
    *a = (struct analyzer){.version = ANALYZER_VERSION};
    if (!good_name(name) || (!english && !standard && !stem))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "analyser \"%.100s\" is not known here; expected \"standard\" or \"english\"",
                         name);
    memcpy(a->name, name, strlen(name) + 1);
    a->stops = a->english = english;
    a->stem = english || standard ? NULL : stem;
    a->context = context;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the walk */

struct walk {
    const struct analyzer *analyzer;
    const uint8_t *text, *at, *end;
    enum analyze_for what;
    token_fn visit;
    void *context;
    uint32_t position;
    struct unicode_memo memo;
    size_t len; /* of the term so far */
    bool full;  /* the rest of the word is passed over */
    char term[TERM_MAX + UNICODE_FOLD_MAX + 4];
};

/* One character of the text. */
struct seen {
    uint32_t c;
    size_t len;
    enum char_class class;
};

/* What an ASCII letter or digit becomes, 0 for everything else. */
static const uint8_t ascii_folded[128] = {
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
    ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',
    ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',
    ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
    ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',
    ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f',
    ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm',
    ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't',
    ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

static struct seen look(struct walk *w, const uint8_t *at)
{
    struct seen s = {.class = CHAR_OTHER};
    if (at >= w->end)
        return s;
    s.c = unicode_decode(at, w->end, &s.len);
    if (s.c >= 0x80)
        s.class = unicode_class(&w->memo, s.c);
    else if (ascii_folded[s.c])
        s.class = s.c <= '9' ? CHAR_DIGIT : CHAR_LETTER;
    return s;
}

static void append(struct walk *w, const struct seen *s)
{
    char folded[UNICODE_FOLD_MAX];
    if (w->full)
        return;
    size_t n = 1;
    if (s->c < 0x80)
        folded[0] = (char)(ascii_folded[s->c] ? ascii_folded[s->c] : s->c);
    else
        n = unicode_fold(&w->memo, s->c, folded);
    if (w->len + n > TERM_MAX) {
        w->full = true;
        return;
    }
    memcpy(w->term + w->len, folded, n);
    w->len += n;
}

/* ---------------------------------------------------------------- words */

static bool hand_on(struct walk *w, const uint8_t *start, const uint8_t *end, bool pair, bool begins)
{
    struct token token = {.term = w->term,
                          .len = w->len,
                          .start = (size_t)(start - w->text),
                          .end = (size_t)(end - w->text),
                          .position = w->position++,
                          .pair = pair,
                          .begins = begins};
    return w->len == 0 || w->visit(w->context, &token);
}

/* What a stemmer gives is cut to fit, and nothing is as if it had not been asked. */
static size_t external_stem(const struct analyzer *a, char *term, size_t len)
{
    size_t stem = len;
    a->stem(a->context, term, &stem, TERM_MAX);
    return stem == 0 ? len : MIN(stem, TERM_MAX);
}

static bool finish_word(struct walk *w, const uint8_t *start)
{
    const struct analyzer *a = w->analyzer;
    if (a->stops && stopword_english(w->term, w->len)) {
        w->position++;
        return true;
    }
    if (a->english)
        w->len = stem_english(w->term, w->len);
    else if (a->stem && w->len > 0)
        w->len = external_stem(a, w->term, w->len);
    return hand_on(w, start, w->at, false, false);
}

/* May a word go on over this character, between `before` and what follows? */
static bool joins(struct walk *w, const struct seen *s, enum char_class before)
{
    enum char_class next;
    if (s->c != '\'' && s->c != 0x2019 && s->c != '.')
        return false;
    next = look(w, w->at + s->len).class;
    return s->c == '.' ? before == CHAR_DIGIT && next == CHAR_DIGIT
                       : before == CHAR_LETTER && next == CHAR_LETTER;
}

/* A word that begins at w->at. */
static bool take_word(struct walk *w)
{
    const uint8_t *start = w->at;
    enum char_class last = CHAR_OTHER;
    w->len = 0;
    w->full = false;
    for (;;) {
        while (w->at < w->end && *w->at < 0x80 && ascii_folded[*w->at] && w->len < TERM_MAX &&
               !w->full) {
            w->term[w->len++] = (char)ascii_folded[*w->at];
            last = *w->at++ <= '9' ? CHAR_DIGIT : CHAR_LETTER;
        }
        struct seen s = look(w, w->at);
        if (s.class == CHAR_LETTER || s.class == CHAR_DIGIT || s.class == CHAR_MARK) {
            append(w, &s);
            last = s.class == CHAR_MARK ? last : s.class;
        } else if (s.len > 0 && joins(w, &s, last)) {
            static const struct seen apostrophe = {.c = '\''};
            append(w, s.c == '.' ? &s : &apostrophe);
        } else {
            break;
        }
        w->at += s.len;
    }
    return finish_word(w, start);
}

/* ---------------------------------------------------------------- pairs */

/* Append the character at w->at with the marks behind it, and step over them. */
static void take_unit(struct walk *w, const uint8_t *at, const uint8_t **behind)
{
    struct seen s = look(w, at);
    do {
        append(w, &s);
        at += s.len;
        s = look(w, at);
    } while (s.class == CHAR_MARK);
    *behind = at;
}

/* A run of characters without spaces that begins at w->at. */
static bool take_run(struct walk *w)
{
    bool first = true;
    for (;; first = false) {
        const uint8_t *start = w->at, *second, *behind;
        w->len = 0;
        w->full = false;
        take_unit(w, start, &second);
        bool last = look(w, second).class != CHAR_IDEOGRAPH;
        behind = second;
        if (!last)
            take_unit(w, second, &behind);
        w->at = second;
        if (last && !first && w->what == ANALYZE_QUERY) {
            w->position++; /* what follows is as far off as in a text */
            return true;
        }
        if (!hand_on(w, start, behind, true, last))
            return false;
        if (last)
            return true;
    }
}

void analyze(const struct analyzer *a, const char *text, size_t len, enum analyze_for what,
             token_fn visit, void *context)
{
    struct walk w = {.analyzer = a,
                     .text = (const uint8_t *)text,
                     .at = (const uint8_t *)text,
                     .end = (const uint8_t *)text + len,
                     .what = what,
                     .visit = visit,
                     .context = context};
    bool more = true;
    while (more && w.at < w.end) {
        if (*w.at < 0x80 && !ascii_folded[*w.at]) {
            w.at++;
            continue;
        }
        struct seen s = look(&w, w.at);
        if (s.class == CHAR_LETTER || s.class == CHAR_DIGIT)
            more = take_word(&w);
        else if (s.class == CHAR_IDEOGRAPH)
            more = take_run(&w);
        else
            w.at += s.len;
    }
}
