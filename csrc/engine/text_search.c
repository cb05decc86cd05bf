/* text_search.c - one search: which documents may be found, which are best, and what comes back.
 *
 *   terms      of all clauses but excluded ones: what the score is made of
 *   allowed    a bit a row, where filter or signs say something: rows with the required terms, without
 *              the excluded ones
 *   phrases    are looked for in the texts of the rows that come out best, in their order, until there are
 *              enough: the score does not depend on them
 *
 * A result is one block of memory, made while the lock is held: one moment of the index. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_core.h"
#include "engine/text_order.h"
#include "engine/text_query.h"

#include <float.h>
#include <math.h>

#define PHRASE_FACTOR 4u /* rows ranked for each that is wanted, before phrases are looked for */
#define PHRASE_LEAST 64u
#define PREFIXES_FEW 64u /* each of so many is looked for among all terms; for more, these are sorted */

/* A term of the index, and how often the query has it. */
struct wanted {
    uint32_t number, times;
};

/* The same while a query with many prefixes is taken apart, one for each term of the index. */
struct tally {
    uint32_t times, clause; /* the last one that has it, counted from 1 */
};

struct searching {
    const syna_text *index;
    syna_text_search how;
    struct filter *filter; /* NULL = none */
    syna_text_explain explain;
    struct hit_list hits;
    struct buf order;    /* of the terms; empty until a query has many prefixes */
    /* of one query: */
    struct query query;
    bool crowded;        /* it has many prefixes */
    struct buf tallies;  /* struct tally, when it has */
    uint32_t clause;     /* that is taken apart */
    bool once;           /* in which a term counts once */
    struct buf wanted;   /* struct wanted, ascending, none twice */
    struct buf terms;    /* uint32 of wanted */
    struct buf weights;  /* float of wanted */
    struct buf allowed;  /* uint64; empty = all live rows */
    struct buf group;    /* uint64: the rows of one group of terms */
    struct buf rows;     /* struct ranked: the result */
};

static const struct wanted *wanted_of(const struct searching *s)
{
    return (const struct wanted *)(const void *)s->wanted.bytes;
}
static size_t wanted_count(const struct searching *s)
{
    return s->wanted.len / sizeof(struct wanted);
}
static uint64_t *words_of(const struct buf *b)
{
    return (uint64_t *)(void *)b->bytes;
}
static size_t word_count(const struct searching *s)
{
    return (postings_count(s->index->rows.postings) + 63) / 64;
}

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_text_search *given, struct searching *s)
{
    syna_text_search *how = &s->how;
    if (given->size < offsetof(syna_text_search, explain))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_text_search.size is %u, expected %zu", given->size, sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->flags & ~(SYNA_TEXT_TEXTS | SYNA_TEXT_METADATA | SYNA_TEXT_ALL))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "flags are %u, expected %u at most",
                         how->flags, SYNA_TEXT_TEXTS | SYNA_TEXT_METADATA | SYNA_TEXT_ALL);
    return how->filter ? filter_parse(how->filter, how->filter_len, &s->filter) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- terms */

static syna_rc want(struct searching *s, uint32_t number)
{
    struct wanted w = {number, 1};
    return buf_append(&s->wanted, &w, sizeof w) ? SYNA_SUCCESS : syna_no_memory(s->wanted.len);
}

typedef syna_rc (*number_fn)(struct searching *s, uint32_t number);

static syna_rc mark(struct searching *s, uint32_t number)
{
    postings_mark(s->index->rows.postings, number, words_of(&s->group));
    return SYNA_SUCCESS;
}

static bool begins_with(const char *word, size_t len, const char *bytes, size_t count)
{
    return len >= count && memcmp(word, bytes, count) == 0;
}

/* Every term in use that begins so, by halving the order of all of them. */
static syna_rc each_in_order(struct searching *s, const char *bytes, size_t count, number_fn visit)
{
    const struct text_rows *rows = &s->index->rows;
    const uint32_t *order = (const uint32_t *)(const void *)s->order.bytes;
    for (size_t i = text_order_first(&s->order, &rows->words, bytes, count); i < rows->words.count;
         i++) {
        size_t len;
        const char *word = names_at(&rows->words, order[i], &len);
        if (!begins_with(word, len, bytes, count))
            break;
        if (text_found(rows, order[i]) > 0)
            SYNA_TRY(visit(s, order[i]));
    }
    return SYNA_SUCCESS;
}

/* Every term of the index that live rows have and the query's term means. */
static syna_rc each_number(struct searching *s, const struct query_term *t, number_fn visit)
{
    const struct text_rows *rows = &s->index->rows;
    const char *bytes = query_bytes(&s->query, t);
    if (!t->begins) {
        uint32_t number = names_find(&rows->words, bytes, t->len);
        return number != ROW_NONE && text_found(rows, number) > 0 ? visit(s, number) : SYNA_SUCCESS;
    }
    if (s->crowded)
        return each_in_order(s, bytes, t->len, visit);
    for (uint32_t number = 0; number < rows->words.count; number++) {
        size_t len;
        const char *word = names_at(&rows->words, number, &len);
        if (begins_with(word, len, bytes, t->len) && text_found(rows, number) > 0)
            SYNA_TRY(visit(s, number));
    }
    return SYNA_SUCCESS;
}

static int by_number(const void *left, const void *right)
{
    const struct wanted *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Ascending, none twice. */
static void unite(struct searching *s)
{
    struct wanted *w = (struct wanted *)(void *)s->wanted.bytes;
    size_t count = wanted_count(s), to = 0;
    if (count == 0)
        return;
    qsort(w, count, sizeof *w, by_number);
    for (size_t i = 1; i < count; i++) {
        if (w[i].number == w[to].number)
            w[to].times += w[i].times;
        else
            w[++to] = w[i];
    }
    s->wanted.len = (to + 1) * sizeof *w;
}

/* A prefix names the stem of its word and terms that begin with it: each counts once. */
static void once(struct searching *s, size_t from)
{
    struct wanted *w = (struct wanted *)(void *)s->wanted.bytes;
    size_t count = wanted_count(s), to = from;
    qsort(w + from, count - from, sizeof *w, by_number);
    for (size_t i = from; i < count; i++)
        if (i == from || w[i].number != w[to - 1].number)
            w[to++] = w[i];
    s->wanted.len = to * sizeof *w;
}

/* Prefixes of one another could want the terms of the index many times over: they are counted where they
 * are, so that time and memory depend on the index and not on the query. */
static syna_rc tally(struct searching *s, uint32_t number)
{
    struct tally *t = (struct tally *)(void *)s->tallies.bytes + number;
    if (!s->once || t->clause != s->clause)
        t->times++;
    t->clause = s->clause;
    return SYNA_SUCCESS;
}

static syna_rc collect_tallies(struct searching *s)
{
    const struct tally *tallies = (const struct tally *)(const void *)s->tallies.bytes;
    for (uint32_t number = 0; number < s->index->rows.words.count; number++) {
        struct wanted w = {number, tallies[number].times};
        if (w.times > 0 && !buf_append(&s->wanted, &w, sizeof w))
            return syna_no_memory(s->wanted.len);
    }
    return SYNA_SUCCESS;
}

static syna_rc collect_many(struct searching *s)
{
    const struct query_clause *clauses = query_clauses(&s->query);
    const struct names *words = &s->index->rows.words;
    size_t size = words->count * sizeof(struct tally);
    s->tallies.len = 0;
    uint8_t *tallies = buf_extend(&s->tallies, size);
    if (!tallies)
        return syna_no_memory(size);
    memset(tallies, 0, size);
    if (s->order.len == 0)
        SYNA_TRY(text_order_make(&s->order, words));
    s->clause = 0;
    for (size_t c = 0; c < query_clause_count(&s->query); c++) {
        s->clause++;
        s->once = clauses[c].prefix;
        for (size_t i = 0; i < clauses[c].count && clauses[c].sign != '-'; i++)
            SYNA_TRY(each_number(s, query_terms(&s->query) + clauses[c].first + i, tally));
    }
    return collect_tallies(s);
}

static bool is_crowded(const struct query *q)
{
    size_t prefixes = 0;
    for (size_t i = 0; i < query_term_count(q); i++)
        prefixes += query_terms(q)[i].begins;
    return prefixes > PREFIXES_FEW;
}

static syna_rc collect_terms(struct searching *s)
{
    const struct query_clause *clauses = query_clauses(&s->query);
    s->wanted.len = 0;
    s->crowded = is_crowded(&s->query);
    if (s->crowded)
        return collect_many(s);
    for (size_t c = 0; c < query_clause_count(&s->query); c++) {
        size_t from = wanted_count(s);
        if (clauses[c].sign == '-')
            continue;
        for (size_t i = 0; i < clauses[c].count; i++)
            SYNA_TRY(each_number(s, query_terms(&s->query) + clauses[c].first + i, want));
        if (clauses[c].prefix && wanted_count(s) > from)
            once(s, from);
    }
    unite(s);
    return SYNA_SUCCESS;
}

static syna_rc weigh(struct searching *s)
{
    const struct text_rows *rows = &s->index->rows;
    double documents = postings_live_count(rows->postings);
    size_t count = wanted_count(s);
    s->terms.len = s->weights.len = 0;
    uint32_t *terms = (uint32_t *)(void *)buf_extend(&s->terms, count * sizeof *terms);
    float *weights = (float *)(void *)buf_extend(&s->weights, count * sizeof *weights);
    if (!terms || !weights)
        return syna_no_memory(count * sizeof *terms);
    for (size_t i = 0; i < count; i++) {
        const struct wanted *w = &wanted_of(s)[i];
        double found = text_found(rows, w->number);
        double idf = log(1 + (documents - found + 0.5) / (found + 0.5));
        terms[i] = w->number;
        weights[i] = (float)(w->times * idf * (s->index->k1 + 1));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- allowed rows */

static syna_rc zeroed(struct buf *b, size_t words)
{
    b->len = 0;
    uint8_t *bytes = buf_extend(b, MAX(words, 1u) * sizeof(uint64_t));
    if (!bytes)
        return syna_no_memory(words * sizeof(uint64_t));
    memset(bytes, 0, b->len);
    return SYNA_SUCCESS;
}

/* From now on rows are chosen; to begin with, those that live and that the filter takes. */
static syna_rc begin_allowed(struct searching *s)
{
    const struct text_rows *rows = &s->index->rows;
    size_t words = word_count(s);
    if (s->allowed.len > 0)
        return SYNA_SUCCESS;
    SYNA_TRY(zeroed(&s->allowed, words));
    if (!s->filter) {
        memcpy(s->allowed.bytes, postings_live(rows->postings), words * sizeof(uint64_t));
        return SYNA_SUCCESS;
    }
    uint64_t matches;
    return meta_select(rows->meta, s->filter, postings_count(rows->postings),
                       postings_live(rows->postings), words_of(&s->allowed), &matches);
}

/* Rows with one of the terms [first, first + count) of the query stay, or go. */
static syna_rc restrict_to(struct searching *s, size_t first, size_t count, bool stay)
{
    size_t words = word_count(s);
    SYNA_TRY(begin_allowed(s));
    SYNA_TRY(zeroed(&s->group, words));
    for (size_t i = 0; i < count; i++)
        SYNA_TRY(each_number(s, query_terms(&s->query) + first + i, mark));
    uint64_t *allowed = words_of(&s->allowed), flip = stay ? 0 : ~0ull;
    const uint64_t *group = words_of(&s->group);
    for (size_t i = 0; i < words; i++)
        allowed[i] &= group[i] ^ flip;
    return SYNA_SUCCESS;
}

static bool required(const struct searching *s, const struct query_clause *c)
{
    return c->sign == '+' || (!c->sign && (c->phrase || (s->how.flags & SYNA_TEXT_ALL)));
}

static syna_rc choose_rows(struct searching *s)
{
    const struct query_clause *clauses = query_clauses(&s->query);
    s->allowed.len = 0;
    if (s->filter)
        SYNA_TRY(begin_allowed(s));
    for (size_t i = 0; i < query_clause_count(&s->query); i++) {
        const struct query_clause *c = &clauses[i];
        if (c->sign == '-' && !c->phrase)
            SYNA_TRY(restrict_to(s, c->first, c->count, false));
        if (!required(s, c))
            continue;
        if (c->prefix) {
            SYNA_TRY(restrict_to(s, c->first, c->count, true));
            continue;
        }
        for (size_t t = 0; t < c->count; t++)
            SYNA_TRY(restrict_to(s, c->first + t, 1, true));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- phrases */

static bool has_phrases(const struct searching *s)
{
    const struct query_clause *clauses = query_clauses(&s->query);
    for (size_t i = 0; i < query_clause_count(&s->query); i++)
        if (clauses[i].phrase)
            return true;
    return false;
}

static syna_rc phrases_fit(struct searching *s, uint32_t row, bool *fit)
{
    const struct query_clause *clauses = query_clauses(&s->query);
    syna_document d;
    void *block;
    size_t len, id_len;
    bool no_memory = false;
    const char *id = names_at(&s->index->rows.ids, row, &id_len);
    *fit = false;
    syna_rc rc = text_newest(s->index, id, id_len, text_row_pack(&s->index->rows, row), &block, &len,
                             &d);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS; /* deleted a moment ago */
    SYNA_TRY(rc);
    s->explain.verified++;
    *fit = true;
    for (size_t i = 0; *fit && i < query_clause_count(&s->query); i++)
        if (clauses[i].phrase)
            *fit = query_phrase_in(&s->query, &clauses[i], &s->index->analyzer, d.text, d.text_len,
                                   &no_memory) == (clauses[i].sign != '-');
    mem_free(block);
    return no_memory ? syna_no_memory(len) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- ranking */

static syna_rc rank(struct searching *s, size_t k, struct topk *top)
{
    const struct text_rows *rows = &s->index->rows;
    uint64_t live = postings_live_count(rows->postings);
    double average = live ? (double)rows->live_words / (double)live : 1;
    double k1 = s->index->k1, b = s->index->b;
    struct postings_visits visits = {0};
    struct postings_query query = {
        .terms = (const uint32_t *)(const void *)s->terms.bytes,
        .weights = (const float *)(const void *)s->weights.bytes,
        .count = wanted_count(s),
        .base = (float)(k1 * (1 - b)),
        .slope = average > 0 ? (float)(k1 * b / average) : 0,
        .chosen = s->allowed.len ? words_of(&s->allowed) : NULL,
    };
    topk_init(top, k, FLT_MAX);
    SYNA_TRY(postings_search(rows->postings, &query, top, &visits));
    topk_sort(top);
    s->explain.scored += visits.rows;
    return SYNA_SUCCESS;
}

static syna_rc keep(struct searching *s, const struct ranked *row)
{
    return buf_append(&s->rows, row, sizeof *row) ? SYNA_SUCCESS : syna_no_memory(s->rows.len);
}

/* Of the rows of `top` from *looked on, keep those that have the phrases, until there are k. */
static syna_rc keep_fitting(struct searching *s, const struct topk *top, size_t k, size_t *looked)
{
    for (; *looked < top->count && s->rows.len / sizeof(struct ranked) < k; ++*looked) {
        bool fit;
        SYNA_TRY(phrases_fit(s, top->items[*looked].row, &fit));
        if (fit)
            SYNA_TRY(keep(s, &top->items[*looked]));
    }
    return SYNA_SUCCESS;
}

static syna_rc rank_phrases(struct searching *s, size_t k)
{
    size_t live = postings_live_count(s->index->rows.postings), looked = 0;
    size_t ask = k >= live / PHRASE_FACTOR ? live : MAX(k * PHRASE_FACTOR, (size_t)PHRASE_LEAST);
    for (;;) {
        struct topk top;
        syna_rc rc = rank(s, ask, &top);
        if (rc == SYNA_SUCCESS)
            rc = keep_fitting(s, &top, k, &looked);
        bool all = top.count < ask || ask >= live;
        topk_dispose(&top);
        if (rc != SYNA_SUCCESS || all || s->rows.len / sizeof(struct ranked) == k)
            return rc;
        ask = ask >= live / PHRASE_FACTOR ? live : ask * PHRASE_FACTOR;
    }
}

static syna_rc rank_plain(struct searching *s, size_t k)
{
    struct topk top;
    syna_rc rc = rank(s, k, &top);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < top.count; i++)
        rc = keep(s, &top.items[i]);
    topk_dispose(&top);
    return rc;
}

/* ---------------------------------------------------------------- one query */

static void explain_query(struct searching *s)
{
    const struct text_rows *rows = &s->index->rows;
    s->explain.terms += (uint32_t)wanted_count(s);
    for (size_t i = 0; i < wanted_count(s); i++)
        s->explain.postings += text_found(rows, wanted_of(s)[i].number);
    if (!s->how.explain)
        return;
    uint64_t candidates = postings_live_count(rows->postings);
    if (s->allowed.len > 0) {
        candidates = 0;
        for (size_t i = 0; i < word_count(s); i++)
            candidates += (uint64_t)__builtin_popcountll(words_of(&s->allowed)[i]);
    }
    s->explain.candidates += candidates;
}

static syna_rc find_rows(struct searching *s, const char *text, size_t len)
{
    size_t k = (size_t)MIN(s->how.k, (uint64_t)postings_live_count(s->index->rows.postings));
    s->rows.len = 0;
    SYNA_TRY(query_parse(&s->index->analyzer, text, len, &s->query));
    SYNA_TRY(collect_terms(s));
    if (wanted_count(s) == 0 || k == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(weigh(s));
    SYNA_TRY(choose_rows(s));
    explain_query(s);
    return has_phrases(s) ? rank_phrases(s, k) : rank_plain(s, k);
}

static syna_rc add_hit(struct searching *s, const struct ranked *r)
{
    const struct text_rows *rows = &s->index->rows;
    size_t id_len, len;
    syna_document d = {0};
    void *block = NULL;
    const char *id = names_at(&rows->ids, r->row, &id_len);
    if (s->how.flags & SYNA_TEXT_TEXTS) {
        syna_rc rc = text_newest(s->index, id, id_len, text_row_pack(rows, r->row), &block, &len,
                                 &d);
        if (rc != SYNA_SUCCESS && rc != SYNA_ERR_KEY_NOT_FOUND)
            return rc;
    }
    d.metadata = meta_text(rows->meta, r->row, &d.metadata_len);
    syna_rc rc = hit_list_add(&s->hits, id, id_len, &d, s->how.flags, -r->rank);
    mem_free(block);
    return rc;
}

static syna_rc answer(struct searching *s, const char *text, size_t len, size_t *count)
{
    syna_rc rc = find_rows(s, text, len);
    query_dispose(&s->query);
    SYNA_TRY(rc);
    const struct ranked *rows = (const struct ranked *)(const void *)s->rows.bytes;
    *count = s->rows.len / sizeof *rows;
    for (size_t i = 0; i < *count; i++)
        SYNA_TRY(add_hit(s, &rows[i]));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- all of them */

static void dispose(struct searching *s)
{
    struct buf *bufs[] = {&s->order, &s->tallies, &s->wanted, &s->terms,
                          &s->weights, &s->allowed, &s->group, &s->rows};
    for (size_t i = 0; i < COUNT_OF(bufs); i++)
        buf_dispose(bufs[i]);
    hit_list_dispose(&s->hits);
    if (s->filter)
        filter_free(s->filter);
}

static syna_rc check_query(const char *query, size_t len, size_t i)
{
    if (!query && len > 0)
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "query %zu is a null pointer", i);
    return SYNA_SUCCESS;
}

syna_rc text_find(syna_text *index, const char *const *queries, const size_t *lens, size_t count,
                  const syna_text_search *given, syna_text_hit **hits, size_t *counts)
{
    struct searching s = {.index = index};
    syna_rc rc = check_how(given, &s);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++)
        rc = check_query(queries[i], lens[i], i);
    pthread_rwlock_rdlock(&index->state_lock);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < count; i++)
        rc = answer(&s, queries[i], lens[i], &counts[i]);
    pthread_rwlock_unlock(&index->state_lock);
    if (rc == SYNA_SUCCESS)
        rc = hit_list_finish(&s.hits, hits);
    if (rc == SYNA_SUCCESS && s.how.explain) {
        s.explain.size = s.how.explain->size;
        memcpy(s.how.explain, &s.explain, MIN((size_t)s.explain.size, sizeof s.explain));
    }
    dispose(&s);
    return rc;
}
