/* postings.c - the rows of an inverted index: adding, dropping, facts about them.
 *
 * Holds what changes all the time: which rows are live, and the fresh rows, which no window has yet. Of a
 * WEIGHTS index the rows themselves are their owner's; of a COUNTS index they stand in `fresh` until
 * they are sealed, and in the windows afterwards. */
#include "base/internal.h"

#include "index/postings_core.h"

syna_rc postings_new(enum postings_kind kind, postings_row_fn row, void *context,
                     struct postings **out)
{
    struct postings *p = mem_zalloc(sizeof *p);
    if (!p)
        return syna_no_memory(sizeof *p);
    p->kind = kind;
    p->row = row;
    p->context = context;
    p->base = 0.3f;
    p->slope = 0.9f;
    pthread_mutex_init(&p->idle_lock, NULL);
    *out = p;
    return SYNA_SUCCESS;
}

void postings_free(struct postings *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->window_count; i++)
        window_dispose(&p->windows[i]);
    mem_free(p->windows);
    mem_free(p->live);
    buf_dispose(&p->lengths);
    buf_dispose(&p->fresh);
    buf_dispose(&p->fresh_rows);
    search_scratch_free(p->idle);
    pthread_mutex_destroy(&p->idle_lock);
    mem_free(p);
}

void postings_tell(struct postings *p, postings_expect_fn expect)
{
    p->expect = expect;
}

void postings_before_fork(struct postings *p)
{
    pthread_mutex_lock(&p->idle_lock);
}

void postings_after_fork(struct postings *p, bool child)
{
    if (child)
        pthread_mutex_init(&p->idle_lock, NULL);
    else
        pthread_mutex_unlock(&p->idle_lock);
}

void postings_expect(struct postings *p, float base, float slope)
{
    p->base = base;
    p->slope = slope;
}

/* ---------------------------------------------------------------- adding and dropping */

static syna_rc reserve_live(struct postings *p, size_t rows)
{
    size_t words = rows / 64 + 1;
    if (words <= p->live_words)
        return SYNA_SUCCESS;
    words = MAX(words, p->live_words + p->live_words / 2);
    uint64_t *live = mem_resize(p->live, words * sizeof *live);
    if (!live)
        return syna_no_memory(words * sizeof *live);
    memset(live + p->live_words, 0, (words - p->live_words) * sizeof *live);
    p->live = live;
    p->live_words = words;
    return SYNA_SUCCESS;
}

syna_rc postings_reserve_rows(struct postings *p, size_t rows)
{
    if (rows > POSTINGS_ROWS_MAX - p->count)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%zu rows more than the %u that there are, expected at most %u in all", rows,
                         p->count, POSTINGS_ROWS_MAX);
    SYNA_TRY(reserve_live(p, p->count + rows));
    if (p->kind == POSTINGS_COUNTS && !buf_reserve(&p->lengths, rows * sizeof(uint32_t)))
        return syna_no_memory(rows * sizeof(uint32_t));
    return SYNA_SUCCESS;
}

syna_rc postings_reserve(struct postings *p, size_t rows, size_t values)
{
    SYNA_TRY(postings_reserve_rows(p, rows));
    if (p->kind == POSTINGS_WEIGHTS)
        return SYNA_SUCCESS;
    if (values > SIZE_MAX / 16 || !buf_reserve(&p->fresh, values * 8) ||
        !buf_reserve(&p->fresh_rows, rows * sizeof(struct fresh_row)))
        return syna_no_memory(values * 8);
    return SYNA_SUCCESS;
}

static void keep_fresh(struct postings *p, const struct postings_row *row)
{
    struct fresh_row fresh = {p->fresh.len, row->count};
    buf_append(&p->fresh_rows, &fresh, sizeof fresh);
    buf_append(&p->fresh, row->terms, (size_t)row->count * 4);
    buf_append(&p->fresh, row->values, (size_t)row->count * 4);
    buf_append(&p->lengths, &row->length, sizeof row->length);
    p->length_sum += row->length;
}

uint32_t postings_add(struct postings *p, const struct postings_row *row)
{
    uint32_t number = p->count++;
    if (p->kind == POSTINGS_COUNTS)
        keep_fresh(p, row);
    p->live[number / 64] |= 1ull << number % 64;
    p->live_count++;
    p->fresh_values += row->count;
    return number;
}

void postings_drop(struct postings *p, uint32_t row)
{
    if (!postings_is_live(p, row))
        return;
    p->live[row / 64] &= ~(1ull << row % 64);
    p->live_count--;
    struct window *w = (struct window *)(uintptr_t)postings_window_of(p, row);
    if (w)
        w->live--;
    if (p->kind == POSTINGS_COUNTS)
        p->length_sum -= row_length(p, row);
}

/* ---------------------------------------------------------------- facts */

uint32_t postings_count(const struct postings *p)
{
    return p->count;
}

uint32_t postings_live_count(const struct postings *p)
{
    return p->live_count;
}

const uint64_t *postings_live(const struct postings *p)
{
    return p->live;
}

uint32_t postings_length(const struct postings *p, uint32_t row)
{
    return row_length(p, row);
}

uint32_t postings_live_in(const struct postings *p, uint32_t first, uint32_t rows)
{
    uint32_t live = 0;
    for (uint32_t row = first; row < first + rows;) {
        uint32_t left = MIN(64 - row % 64, first + rows - row);
        uint64_t bits = p->live[row / 64] >> row % 64;
        live += (uint32_t)__builtin_popcountll(left < 64 ? bits & ((1ull << left) - 1) : bits);
        row += left;
    }
    return live;
}

void postings_show(const struct postings *p, uint32_t row, struct postings_row *out)
{
    if (p->kind == POSTINGS_WEIGHTS) {
        p->row(p->context, row, out);
        return;
    }
    struct fresh_row fresh;
    memcpy(&fresh, p->fresh_rows.bytes + (size_t)(row - p->sealed) * sizeof fresh, sizeof fresh);
    const uint8_t *terms = p->fresh.bytes + fresh.at;
    *out = (struct postings_row){terms, terms + (size_t)fresh.count * 4, fresh.count,
                                 row_length(p, row)};
}

const struct window *postings_window_of(const struct postings *p, uint32_t row)
{
    uint32_t low = 0, high = p->window_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct window *w = &p->windows[mid];
        if (row < w->first)
            high = mid;
        else if (row - w->first >= w->rows)
            low = mid + 1;
        else
            return w;
    }
    return NULL;
}

/* Where a term stands in a row, row->count when it is not in it. */
static uint32_t find_term(const struct postings_row *row, uint32_t term)
{
    uint32_t low = 0, high = row->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (row_term(row, mid) < term)
            low = mid + 1;
        else
            high = mid;
    }
    return low < row->count && row_term(row, low) == term ? low : row->count;
}

static bool fresh_has(const struct postings *p, uint32_t row, uint32_t term)
{
    struct postings_row shown;
    if (!postings_is_live(p, row))
        return false;
    postings_show(p, row, &shown);
    return find_term(&shown, term) < shown.count;
}

uint64_t postings_term_rows(const struct postings *p, uint32_t term)
{
    uint64_t rows = 0;
    uint32_t found;
    for (uint32_t i = 0; i < p->window_count; i++) {
        const struct posting_list *list = window_find(&p->windows[i], term, &found);
        for (uint32_t j = 0; j < found; j++)
            rows += list_rows(&list[j]);
    }
    for (uint32_t row = p->sealed; row < p->count; row++)
        rows += fresh_has(p, row, term);
    return rows;
}

uint32_t postings_term_count(const struct postings *p, uint32_t row, uint32_t term)
{
    const struct window *w = postings_window_of(p, row);
    uint32_t found;
    if (w) {
        const struct posting_list *list = window_find(w, term, &found);
        struct list_ref ref = {list, NULL};
        uint32_t posting = found ? window_posting(w, &ref, row) : UINT32_MAX;
        return posting == UINT32_MAX ? 0 : window_count_at(w, posting);
    }
    if (row < p->sealed || row >= p->count)
        return 0; /* dead, and of a window that is gone */
    struct postings_row shown;
    postings_show(p, row, &shown);
    uint32_t at = find_term(&shown, term);
    return at < shown.count ? load_u32((const uint8_t *)shown.values + (size_t)at * 4) : 0;
}

static void mark_list(const struct postings *p, const struct window *w,
                      const struct posting_list *list, uint64_t *bits)
{
    const uint16_t *ids = w->ids + list->start;
    for (uint32_t i = 0, n = list_rows(list); i < n; i++) {
        uint32_t row = w->first + ids[i];
        if (row < p->count) /* a number of a snapshot is not trusted */
            bits[row / 64] |= 1ull << row % 64;
    }
}

void postings_mark(const struct postings *p, uint32_t term, uint64_t *bits)
{
    uint32_t found;
    for (uint32_t i = 0; i < p->window_count; i++) {
        const struct posting_list *list = window_find(&p->windows[i], term, &found);
        for (uint32_t j = 0; j < found; j++)
            mark_list(p, &p->windows[i], &list[j], bits);
    }
    for (uint32_t row = p->sealed; row < p->count; row++)
        if (fresh_has(p, row, term))
            bits[row / 64] |= 1ull << row % 64;
}

static uint64_t window_bytes(const struct postings *p, const struct window *w)
{
    return (uint64_t)w->list_count * sizeof *w->lists + (uint64_t)w->posting_count * 3 +
           (p->kind == POSTINGS_COUNTS ? w->posting_count : 0) +
           (uint64_t)w->large_count * sizeof *w->large;
}

void postings_get_facts(const struct postings *p, struct postings_facts *out)
{
    *out = (struct postings_facts){
        .memory_bytes = p->live_words * sizeof *p->live + p->lengths.cap + p->fresh.cap +
                        p->fresh_rows.cap + p->window_count * sizeof *p->windows,
        .postings = p->fresh_values,
        .windows = p->window_count,
        .fresh_rows = p->count - p->sealed,
    };
    for (uint32_t i = 0; i < p->window_count; i++) {
        const struct window *w = &p->windows[i];
        out->memory_bytes += w->bucket_count * sizeof *w->buckets + w->block_bytes +
                             w->wide_count * (sizeof *w->wide + (uint64_t)w->groups);
        if (w->starts)
            out->memory_bytes += (uint64_t)w->wide_count * window_blocks(w) * sizeof *w->starts;
        out->mapped_bytes += w->block ? 0 : window_bytes(p, w);
        out->postings += w->posting_count;
        out->terms += w->list_count;
    }
}
