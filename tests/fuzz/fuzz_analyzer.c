/* Any bytes as a text, and as a query: terms are whole UTF-8, not too long, from within the text and in
 * order; a query's terms are found in the same bytes as a text. */
#include "base/internal.h"

#include "base/utf8.h"
#include "engine/text_query.h"
#include "index/analyzer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct checking {
    size_t size, last_start, last_end;
    uint32_t next;
};

static bool check_token(void *context, const struct token *t)
{
    struct checking *c = context;
    if (t->len == 0 || t->len > TERM_MAX || !utf8_valid(t->term, t->len))
        __builtin_trap();
    if (t->start >= t->end || t->end > c->size || t->position < c->next)
        __builtin_trap();
    if (t->start < c->last_start || (!t->pair && t->start < c->last_end))
        __builtin_trap();
    c->last_start = t->start;
    c->last_end = t->end;
    c->next = t->position + 1;
    return true;
}

static void check_analyzer(const char *name, const char *text, size_t size)
{
    struct analyzer a;
    struct query q;
    if (analyzer_init(&a, name, NULL, NULL) != SYNA_SUCCESS)
        __builtin_trap();
    struct checking as_text = {.size = size}, as_query = {.size = size};
    analyze(&a, text, size, ANALYZE_TEXT, check_token, &as_text);
    analyze(&a, text, size, ANALYZE_QUERY, check_token, &as_query);
    if (query_parse(&a, text, size, &q) != SYNA_SUCCESS)
        __builtin_trap();
    for (size_t i = 0; i < query_clause_count(&q); i++) {
        const struct query_clause *c = &query_clauses(&q)[i];
        bool no_memory;
        if (c->count == 0 || c->first + c->count > query_term_count(&q))
            __builtin_trap();
        if (c->phrase && !query_phrase_in(&q, c, &a, text, size, &no_memory) &&
            query_clause_count(&q) == 1 && size > 0 && text[0] == '"')
            __builtin_trap(); /* a quoted text has itself as a phrase */
    }
    query_dispose(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_analyzer("standard", (const char *)data, size);
    check_analyzer("english", (const char *)data, size);
    return 0;
}
