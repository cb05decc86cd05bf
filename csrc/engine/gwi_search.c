/* gwi_search.c - one search: which way it takes, and what comes back.
 *
 *   no lists yet, k close to all rows, few rows match   every matching row is scored
 *   otherwise                                           the nearest lists, and all fresh rows
 *
 * A search that comes home with fewer rows than there are, because they are dead or filtered out, looks
 * into all lists. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#include <float.h>
#include <math.h>

#define SCORE_ROWS 64u   /* a word of live bits */
#define EXACT_SHARE 4u   /* asking for a quarter of the rows: scoring all of them is as quick */
#define DIRECT_ROWS 256u /* so few matches are always scored */
#define DIRECT_COST 6u   /* codes that cost as much as a full row */

struct searching {
    const syna_wells *store;
    const float *queries;
    size_t count;
    syna_wells_search_options how;
    syna_wells_explain explain;
    struct gwi_rows rows;
    struct row_set set;
    struct filter *filter;
    uint64_t *bits; /* of the filter; NULL: none */
    const uint64_t *chosen;
    uint64_t matches;
    struct topk *tops;
};

/* ---------------------------------------------------------------- full rows */

static const float *full_row(void *context, uint32_t row)
{
    struct gwi_rows *rows = context;
    if (rowfile_touch(rows->store->rows.file, row, 1) != SYNA_SUCCESS && !rows->damaged) {
        rows->damaged = true;
        rows->why = *status_get();
    }
    return mmap_rows_vector(&rows->store->rows, row);
}

void gwi_row_set(struct gwi_rows *rows, struct row_set *out)
{
    const syna_wells *store = rows->store;
    *out = (struct row_set){.kernels = store->kernels,
                            .codes = store->part.codes,
                            .count = store->rows.count,
                            .full = full_row,
                            .context = rows};
    out->norms = (struct array){.item = sizeof(float),
                                .head = (uint8_t *)mmap_rows_norms(&store->rows),
                                .head_count = store->rows.count};
}

/* ---------------------------------------------------------------- arguments */

static syna_rc check_how(const syna_wells_search_options *given, syna_wells_search_options *how)
{
    *how = (syna_wells_search_options){0};
    if (given->size < offsetof(syna_wells_search_options, radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_wells_search_options.size is %u, expected %zu", given->size,
                         sizeof *given);
    memcpy(how, given, MIN((size_t)given->size, sizeof *how));
    if (how->flags & ~(SYNA_SEARCH_VECTORS | SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT |
                       SYNA_SEARCH_METADATA))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "flags are %#x; this index takes VECTORS, RADIUS, EXACT and METADATA",
                         how->flags);
    if ((how->flags & SYNA_SEARCH_RADIUS) && isnan(how->radius))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the radius is NaN");
    if (!(how->recall >= 0 && how->recall <= 1))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "recall is %g, expected 0..1",
                         (double)how->recall);
    if (how->nprobe == 0)
        how->nprobe = SYNA_GWI_NPROBE;
    return SYNA_SUCCESS;
}

static syna_rc check_queries(const struct searching *s, uint32_t dims)
{
    for (size_t q = 0; q < s->count; q++) {
        size_t at = vector_first_not_finite(s->queries + q * dims, dims);
        if (at < dims)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "query %zu: element %zu is %f, expected a finite number", q, at,
                             (double)s->queries[q * dims + at]);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- scoring in full */

struct few_rows {
    uint32_t rows[SCORE_ROWS];
    const void *full[SCORE_ROWS];
    uint32_t count;
};

static syna_rc take_word(struct searching *s, uint32_t word, uint32_t first, struct few_rows *out)
{
    const struct mmap_rows *rows = &s->store->rows;
    uint32_t start = word * SCORE_ROWS, some = MIN(rows->count - start, SCORE_ROWS);
    uint64_t bits = s->chosen[word];
    out->count = 0;
    if (first > start)
        bits &= UINT64_MAX << (first - start);
    if (bits == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_touch(rows->file, start, some));
    for (; bits; bits &= bits - 1) {
        uint32_t row = start + (uint32_t)__builtin_ctzll(bits);
        out->full[out->count] = mmap_rows_vector(rows, row);
        out->rows[out->count++] = row;
    }
    return SYNA_SUCCESS;
}

static bool score_few(struct searching *s, const struct few_rows *few, size_t q, float query_norm)
{
    const syna_wells *store = s->store;
    const float *query = s->queries + q * store->dims, *norms = mmap_rows_norms(&store->rows);
    float sums[SCORE_ROWS];
    if (store->metric == SYNA_METRIC_EUCLIDEAN)
        store->kernels->l2sq_many(query, few->full, few->count, store->dims, sums);
    else
        store->kernels->dot_many(query, few->full, few->count, store->dims, sums);
    for (uint32_t i = 0; i < few->count; i++) {
        float rank = score_rank(store->metric, sums[i], query_norm, norms[few->rows[i]]);
        if (!topk_offer(&s->tops[q], rank, few->rows[i]))
            return false;
    }
    s->explain.full += few->count;
    s->explain.rows += few->count;
    return true;
}

/* Every chosen row from `first` on. */
static syna_rc score_from(struct searching *s, uint32_t first)
{
    const syna_wells *store = s->store;
    uint32_t words = (store->rows.count + SCORE_ROWS - 1) / SCORE_ROWS;
    if (first >= store->rows.count)
        return SYNA_SUCCESS;
    float *norms = mem_alloc(s->count * sizeof *norms);
    syna_rc rc = norms ? SYNA_SUCCESS : syna_no_memory(s->count * sizeof *norms);
    for (size_t q = 0; norms && q < s->count; q++)
        norms[q] = vector_norm(store->kernels, s->queries + q * store->dims, store->dims);
    for (uint32_t word = first / SCORE_ROWS; rc == SYNA_SUCCESS && word < words; word++) {
        struct few_rows few;
        rc = take_word(s, word, first, &few);
        for (size_t q = 0; rc == SYNA_SUCCESS && few.count && q < s->count; q++)
            if (!score_few(s, &few, q, norms[q]))
                rc = syna_no_memory(sizeof(struct ranked));
    }
    mem_free(norms);
    return rc;
}

/* ---------------------------------------------------------------- lists */

static bool must_be_exact(const struct searching *s)
{
    return (s->how.flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) || s->how.recall >= 1;
}

/* Matches that are spread over the lists are found farther away. */
static uint32_t lists_wanted(const struct searching *s)
{
    const struct partition *part = &s->store->part;
    uint64_t live = s->store->rows.live;
    if (must_be_exact(s) || live <= GWI_SMALL)
        return part->count;
    uint32_t lists = s->how.recall > 0 ? partition_lists_for(part, s->how.k, s->how.recall)
                                       : partition_lists_of(part, s->how.nprobe);
    if (s->matches < live)
        lists = (uint32_t)MIN(ceil(lists * sqrt((double)live / (double)MAX(s->matches, 1u))),
                              part->count);
    return lists;
}

static bool lists_pay(const struct searching *s, uint32_t lists)
{
    const struct partition *part = &s->store->part;
    if (!partition_trained(part) || part->rows == 0 || s->how.k > s->matches / EXACT_SHARE)
        return false;
    if (s->matches == s->store->rows.live)
        return true;
    uint64_t codes = (uint64_t)part->entries * lists / part->count;
    return s->matches > DIRECT_ROWS && s->matches * DIRECT_COST > codes;
}

static syna_rc search_lists(struct searching *s, uint32_t lists)
{
    const struct partition *part = &s->store->part;
    struct partition_visits visits = {0};
    SYNA_TRY(partition_search(part, &s->set, s->queries, s->count, lists, lists == part->count,
                              s->chosen, s->tops, &visits));
    s->explain.lists += visits.lists;
    s->explain.rows += visits.codes;
    s->explain.full += visits.full;
    s->explain.exact = lists == part->count;
    s->explain.recall = s->explain.exact ? 1 : partition_recall_at(part, s->how.k, lists);
    return score_from(s, part->end);
}

static bool complete(const struct searching *s)
{
    size_t wanted = (size_t)MIN(s->how.k, s->matches);
    for (size_t q = 0; q < s->count; q++)
        if (s->tops[q].count < wanted)
            return false;
    return true;
}

/* ---------------------------------------------------------------- the search */

static syna_rc choose_rows(struct searching *s)
{
    const struct mmap_rows *rows = &s->store->rows;
    s->chosen = mmap_rows_live(rows);
    s->matches = rows->live;
    if (!s->filter || rows->count == 0)
        return SYNA_SUCCESS;
    size_t words = (rows->count + 63) / 64;
    s->bits = mem_alloc(words * sizeof *s->bits);
    if (!s->bits)
        return syna_no_memory(words * sizeof *s->bits);
    SYNA_TRY(meta_select(s->store->meta, s->filter, rows->count, s->chosen, s->bits, &s->matches));
    s->chosen = s->bits;
    return SYNA_SUCCESS;
}

static void start_tops(struct searching *s)
{
    bool within = s->how.flags & SYNA_SEARCH_RADIUS;
    float limit = within ? score_rank_limit(s->store->metric, s->how.radius) : FLT_MAX;
    for (size_t q = 0; q < s->count; q++) {
        topk_dispose(&s->tops[q]);
        topk_init(&s->tops[q], (size_t)MIN(s->how.k, s->matches), limit);
    }
}

static syna_rc rank_rows(struct searching *s)
{
    uint32_t lists = lists_wanted(s);
    start_tops(s);
    if (!lists_pay(s, lists)) {
        s->explain.exact = 1;
        s->explain.recall = 1;
        return score_from(s, 0);
    }
    SYNA_TRY(search_lists(s, lists));
    if (lists == s->store->part.count || complete(s))
        return SYNA_SUCCESS;
    start_tops(s);
    return search_lists(s, s->store->part.count);
}

static syna_rc collect_hits(const struct searching *s, syna_hit **hits, size_t *counts)
{
    const syna_wells *store = s->store;
    size_t total = 0, text_bytes = 0;
    for (size_t q = 0; q < s->count; q++) {
        topk_sort(&s->tops[q]);
        total += s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            text_bytes += hit_block_text_bytes(store, s->how.flags, s->tops[q].items[i].row);
    }
    struct hit_block b;
    SYNA_TRY(hit_block_begin(&b, store, s->how.flags, total, text_bytes));
    syna_hit *hit = b.hits;
    for (size_t q = 0; q < s->count; q++) {
        counts[q] = s->tops[q].count;
        for (size_t i = 0; i < s->tops[q].count; i++)
            hit_block_add(&b, hit++, s->tops[q].items[i].row,
                          score_final(store->metric, s->tops[q].items[i].rank));
    }
    *hits = b.hits;
    return SYNA_SUCCESS;
}

static syna_rc search_locked(struct searching *s, uint32_t dims, syna_hit **hits, size_t *counts)
{
    SYNA_TRY(gwi_check_dims(s->store, "query", dims));
    SYNA_TRY(check_queries(s, dims));
    gwi_row_set(&s->rows, &s->set);
    SYNA_TRY(choose_rows(s));
    SYNA_TRY(rank_rows(s));
    if (s->rows.damaged)
        return status_set(&s->rows.why);
    s->explain.wells = s->store->part.count;
    s->explain.queries = s->count;
    s->explain.matches = s->matches;
    s->explain.total = s->store->rows.live;
    return collect_hits(s, hits, counts);
}

static void give_explain(const struct searching *s)
{
    syna_wells_explain *to = s->how.explain, from = s->explain;
    if (!to)
        return;
    from.size = to->size;
    memcpy(to, &from, MIN((size_t)to->size, sizeof from));
}

syna_rc gwi_search(syna_wells *store, const float *queries, size_t count, uint32_t dims,
                   const syna_wells_search_options *given, syna_hit **hits, size_t *counts)
{
    struct searching s = {.store = store, .queries = queries, .count = count, .rows.store = store};
    SYNA_TRY(check_how(given, &s.how));
    if (s.how.filter)
        SYNA_TRY(filter_parse(s.how.filter, s.how.filter_len, &s.filter));
    s.tops = mem_zalloc(count * sizeof *s.tops);
    syna_rc rc = s.tops ? SYNA_SUCCESS : syna_no_memory(count * sizeof *s.tops);
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_rdlock(&store->state_lock);
        rc = gwi_note_damage(store, search_locked(&s, dims, hits, counts));
        pthread_rwlock_unlock(&store->state_lock);
        for (size_t q = 0; q < count; q++)
            topk_dispose(&s.tops[q]);
    }
    if (rc == SYNA_SUCCESS)
        give_explain(&s);
    mem_free(s.tops);
    mem_free(s.bits);
    if (s.filter)
        filter_free(s.filter);
    return rc;
}
