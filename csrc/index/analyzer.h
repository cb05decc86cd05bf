/* Texts into terms, the same way for what is stored and for what is searched.
 *
 * A word is a run of letters, digits and marks of any script. It goes on over an apostrophe between
 * letters (don't) and a full stop between digits (6.1.0); a hyphen, an underscore, a slash end it. Terms
 * are folded: upper and lower case, accents, full and half width, ligatures do not matter. Scripts
 * written without spaces (Chinese, Japanese, Korean, Thai, ...) give a term for each pair of neighbouring
 * characters, and one for the last of a run, so that every character begins a term.
 *
 * A file remembers its analyser's name and version: another version of one makes other terms. */
#ifndef SYNA_INDEX_ANALYZER_H
#define SYNA_INDEX_ANALYZER_H

#include "base/status.h"

/* Longer words are cut to so many bytes, at a character. */
#define TERM_MAX 120u

/* A stemmer from outside: *len bytes at `word` become its stem in place, of at most `room` bytes. */
typedef void (*analyzer_stem_fn)(void *context, char *word, size_t *len, size_t room);

struct analyzer {
    char name[32];
    uint32_t version;
    bool stops;   /* English words that say nothing are left out; they still count as positions */
    bool english; /* stems of the Snowball English algorithm */
    analyzer_stem_fn stem; /* NULL = none */
    void *context;
};

/* "standard": folded words. "english": the same without stop words, stemmed. ARGUMENT for other names,
 * unless `stem` is given: then it is a standard analyser with that stemmer, under that name (at most 31
 * letters, digits and ":._-"). */
syna_rc analyzer_init(struct analyzer *a, const char *name, analyzer_stem_fn stem, void *context);

struct token {
    const char *term; /* borrowed for the call; len bytes, at least 1 */
    size_t len;
    size_t start, end; /* bytes in the text that it came from */
    uint32_t position; /* 0, 1, ...: words of the text, stop words counted */
    bool pair;         /* of a script without spaces */
    bool begins;       /* one character of such a script: terms that begin with it are meant (queries) */
};

/* Called for each token in order; false ends the walk. */
typedef bool (*token_fn)(void *context, const struct token *token);

/* `query`: as ANALYZE_QUERY. Any bytes are a text: what is no UTF-8 is between words. */
enum analyze_for {
    ANALYZE_TEXT,
    ANALYZE_QUERY, /* no term for the last character of a run of two and more: its pair says it */
};
void analyze(const struct analyzer *a, const char *text, size_t len, enum analyze_for what,
             token_fn visit, void *context);

/* Is this folded word left out by the stop list? */
bool stopword_english(const char *word, size_t len);

#endif
