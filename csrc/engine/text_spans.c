/* text_spans.c - where the words of a query stand in a text, for highlighting. */
#include "base/internal.h"

#include "engine/text_core.h"
#include "engine/text_query.h"

struct marking {
    struct query query;
    struct buf spans;
    bool no_memory;
};

/* Is the term one that the query looks for? Excluded ones are not. */
static bool wanted(const struct query *q, const struct token *token)
{
    const struct query_clause *clauses = query_clauses(q);
    for (size_t c = 0; c < query_clause_count(q); c++) {
        if (clauses[c].sign == '-')
            continue;
        for (size_t i = 0; i < clauses[c].count; i++)
            if (query_matches(q, query_terms(q) + clauses[c].first + i, token->term, token->len))
                return true;
    }
    return false;
}

/* Pairs overlap: what touches the span before makes it longer. */
static bool take_span(void *context, const struct token *token)
{
    struct marking *m = context;
    syna_span span = {token->start, token->end};
    if (!wanted(&m->query, token))
        return true;
    if (m->spans.len > 0) {
        syna_span *last = (syna_span *)(void *)(m->spans.bytes + m->spans.len) - 1;
        if (token->pair && span.start <= last->end) {
            last->end = MAX(last->end, span.end);
            return true;
        }
    }
    m->no_memory = !buf_append(&m->spans, &span, sizeof span);
    return !m->no_memory;
}

syna_rc text_spans(syna_text *index, const char *query, size_t query_len, const char *text,
                   size_t text_len, syna_span **spans, size_t *count)
{
    struct marking m = {0};
    pthread_rwlock_rdlock(&index->state_lock);
    struct analyzer analyzer = index->analyzer;
    pthread_rwlock_unlock(&index->state_lock);
    *spans = NULL;
    *count = 0;
    syna_rc rc = query_parse(&analyzer, query, query_len, &m.query);
    if (rc == SYNA_SUCCESS)
        analyze(&analyzer, text, text_len, ANALYZE_TEXT, take_span, &m);
    if (rc == SYNA_SUCCESS && (m.no_memory || !buf_reserve(&m.spans, 0)))
        rc = syna_no_memory(m.spans.len);
    if (rc == SYNA_SUCCESS) {
        *spans = (syna_span *)(void *)m.spans.bytes;
        *count = m.spans.len / sizeof **spans;
        m.spans = (struct buf){0};
    }
    buf_dispose(&m.spans);
    query_dispose(&m.query);
    return rc;
}
