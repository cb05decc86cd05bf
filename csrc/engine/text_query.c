/* text_query.c - take a query apart, and look for its phrases in texts. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_query.h"

/* ---------------------------------------------------------------- parsing */

struct parsing {
    const struct analyzer *analyzer;
    struct query *out;
    bool begins; /* of the terms that are taken */
    bool no_memory;
};

static bool take_term(void *context, const struct token *token)
{
    struct parsing *p = context;
    struct query_term term = {.at = p->out->bytes.len,
                              .len = token->len,
                              .position = token->position,
                              .begins = p->begins || token->begins};
    p->no_memory = !buf_append(&p->out->bytes, token->term, token->len) ||
                   !buf_append(&p->out->terms, &term, sizeof term);
    return !p->no_memory;
}

static struct query_term *term_at(struct query *q, size_t i)
{
    return (struct query_term *)(void *)q->terms.bytes + i;
}

/* A word with a star: of the terms that its letters make, not stemmed, the last is what terms begin with; the
 * stem of the whole word will do, too. */
static void take_prefix(struct parsing *p, const char *text, size_t len)
{
    struct analyzer letters = *p->analyzer;
    size_t first = query_term_count(p->out);
    letters.stops = letters.english = false;
    letters.stem = NULL;
    analyze(&letters, text, len, ANALYZE_QUERY, take_term, p);
    size_t count = query_term_count(p->out) - first;
    if (p->no_memory || count == 0)
        return;
    term_at(p->out, query_term_count(p->out) - 1)->begins = true;
    if (count == 1)
        analyze(p->analyzer, text, len, ANALYZE_QUERY, take_term, p);
}

static void end_clause(struct parsing *p, struct query_clause *clause, bool quoted, bool starred)
{
    clause->count = query_term_count(p->out) - clause->first;
    if (p->no_memory || clause->count == 0)
        return;
    clause->prefix = starred && term_at(p->out, clause->first)->begins;
    clause->phrase = clause->count > 1 && !clause->prefix && (quoted || clause->sign);
    p->no_memory = !buf_append(&p->out->clauses, clause, sizeof *clause);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The clause that begins at `at`, which is no space; returns where the next may begin. */
static size_t take_clause(struct parsing *p, const char *text, size_t at, size_t len)
{
    struct query_clause clause = {.first = query_term_count(p->out)};
    if ((text[at] == '+' || text[at] == '-') && at + 1 < len && !is_space(text[at + 1]))
        clause.sign = text[at++];
    bool quoted = text[at] == '"';
    size_t start = at + quoted, end = start;
    while (end < len && (quoted ? text[end] != '"' : !is_space(text[end]) && text[end] != '"'))
        end++;
    bool starred = !quoted && end - start > 1 && text[end - 1] == '*';
    if (starred)
        take_prefix(p, text + start, end - start - 1);
    else
        analyze(p->analyzer, text + start, end - start, ANALYZE_QUERY, take_term, p);
    end_clause(p, &clause, quoted, starred);
    return end + (quoted && end < len);
}

syna_rc query_parse(const struct analyzer *analyzer, const char *text, size_t len,
                    struct query *out)
{
    struct parsing p = {.analyzer = analyzer, .out = out};
    *out = (struct query){0};
    for (size_t at = 0; at < len && !p.no_memory;) {
        if (is_space(text[at]))
            at++;
        else
            at = take_clause(&p, text, at, len);
    }
    return p.no_memory ? syna_no_memory(out->bytes.len) : SYNA_SUCCESS;
}

void query_dispose(struct query *q)
{
    buf_dispose(&q->bytes);
    buf_dispose(&q->terms);
    buf_dispose(&q->clauses);
}

/* ---------------------------------------------------------------- phrases */

/* Term `term` of the phrase stands at this position of the text. */
struct sight {
    uint32_t position, term;
};

struct sighting {
    const struct query *q;
    const struct query_clause *clause;
    struct buf seen; /* struct sight, by position */
    bool no_memory;
};

static bool take_sight(void *context, const struct token *token)
{
    struct sighting *s = context;
    for (uint32_t i = 0; i < s->clause->count; i++) {
        const struct query_term *t = query_terms(s->q) + s->clause->first + i;
        struct sight sight = {token->position, i};
        if (query_matches(s->q, t, token->term, token->len) &&
            !buf_append(&s->seen, &sight, sizeof sight)) {
            s->no_memory = true;
            return false;
        }
    }
    return true;
}

/* Is there, behind sight `from`, each later term of the phrase as far off as in the query? */
static bool complete(const struct sighting *s, size_t from)
{
    const struct sight *seen = (const struct sight *)(const void *)s->seen.bytes;
    const struct query_term *terms = query_terms(s->q) + s->clause->first;
    size_t count = s->seen.len / sizeof *seen, at = from;
    for (uint32_t i = 1; i < s->clause->count; i++) {
        uint32_t position = seen[from].position + terms[i].position - terms[0].position;
        while (at < count && (seen[at].position < position ||
                              (seen[at].position == position && seen[at].term != i)))
            at++;
        if (at == count || seen[at].position != position)
            return false;
    }
    return true;
}

bool query_phrase_in(const struct query *q, const struct query_clause *clause,
                     const struct analyzer *analyzer, const char *text, size_t len, bool *no_memory)
{
    struct sighting s = {.q = q, .clause = clause};
    bool found = false;
    analyze(analyzer, text, len, ANALYZE_TEXT, take_sight, &s);
    const struct sight *seen = (const struct sight *)(const void *)s.seen.bytes;
    for (size_t i = 0; !found && i < s.seen.len / sizeof *seen; i++)
        found = seen[i].term == 0 && complete(&s, i);
    *no_memory = s.no_memory;
    buf_dispose(&s.seen);
    return found && !s.no_memory;
}
