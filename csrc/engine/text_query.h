/* What a query means: its words, their signs, the terms that the analyser makes of them. Pure but for
 * memory. The language is described in synadb/text.h. */
#ifndef SYNA_ENGINE_TEXT_QUERY_H
#define SYNA_ENGINE_TEXT_QUERY_H

#include "base/vec.h"
#include "index/analyzer.h"

/* One term of a clause. With `begins`, every term that starts so. */
struct query_term {
    size_t at, len; /* in query.bytes */
    uint32_t position;
    bool begins;
};

/* One word, quoted part or prefix of the query: terms [first, first + count). */
struct query_clause {
    char sign; /* '+', '-' or 0 */
    bool phrase; /* the terms one after the other; there are at least two */
    bool prefix; /* any of the terms will do */
    size_t first, count;
};

struct query {
    struct buf bytes;   /* of the terms */
    struct buf terms;   /* struct query_term */
    struct buf clauses; /* struct query_clause; each has terms */
};

/* On failure, for want of memory, it is to be disposed of too. */
syna_rc query_parse(const struct analyzer *analyzer, const char *text, size_t len,
                    struct query *out);
void query_dispose(struct query *q);

static inline const struct query_term *query_terms(const struct query *q)
{
    return (const struct query_term *)(const void *)q->terms.bytes;
}
static inline size_t query_term_count(const struct query *q)
{
    return q->terms.len / sizeof(struct query_term);
}
static inline const struct query_clause *query_clauses(const struct query *q)
{
    return (const struct query_clause *)(const void *)q->clauses.bytes;
}
static inline size_t query_clause_count(const struct query *q)
{
    return q->clauses.len / sizeof(struct query_clause);
}
static inline const char *query_bytes(const struct query *q, const struct query_term *t)
{
    return (const char *)q->bytes.bytes + t->at;
}

/* Does a term of a text match one of a query? */
static inline bool query_matches(const struct query *q, const struct query_term *t, const char *term,
                                 size_t len)
{
    return (t->begins ? len >= t->len : len == t->len) &&
           memcmp(term, query_bytes(q, t), t->len) == 0;
}

/* Does the text have the phrase? *no_memory when that cannot be said. */
bool query_phrase_in(const struct query *q, const struct query_clause *clause,
                     const struct analyzer *analyzer, const char *text, size_t len, bool *no_memory);

#endif
