/* postings_strong.c - the k best rows of a query, approximately.
 *
 * Lists of a WEIGHTS index have their strongest postings in front (postings_window.c), so that a search can
 * read of each list what adds most, and stop. What counts as strong is one share of what the query's strongest
 * lists add, for all lists (postings_near.c measures which), times the root of the share of rows that a list
 * has: a long list costs more, and tells rows apart less. Of each window the rows with the largest sums go into one
 * pool; the best of the pool are scored exactly when all windows are through, their bytes asked for while
 * others are scored. Scores are exact therefore; a row that has many weak postings and no strong one may be
 * missing. */
#include "base/internal.h"

#include "index/postings_heap.h"
#include "index/postings_searching.h"

#include <math.h>

#define POOL_ROWS 10u     /* so many rows are scored exactly, and for each of the k best */
#define POOL_ROWS_EACH 3u /* so many more */
#define LEFT_SHARE 0.1    /* what postings that are left out are taken to add, of what they may */
#define ROWS_LEAST 4096u  /* no list is long in a window of a few rows */
#define STEP 32u          /* postings from one look at their class to the next */
#define SAMPLE_SHARE 2u   /* the limit of a pool with room is found on half of the rows */
#define ROWS_AHEAD 16u    /* rows whose bytes are on their way */

/* ---------------------------------------------------------------- the pool */

size_t search_near_size(size_t k)
{
    return POOL_ROWS + POOL_ROWS_EACH * k;
}

static uint64_t pool_key(float score, uint32_t row)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return (uint64_t)bits << 32 | (UINT32_MAX - row);
}

static uint32_t pool_row(const struct near_pool *pool, size_t i)
{
    return UINT32_MAX - (uint32_t)pool->keys[i];
}

static float pool_score(const struct near_pool *pool, size_t i)
{
    uint32_t bits = (uint32_t)(pool->keys[i] >> 32);
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static bool pool_admits(const struct near_pool *pool, uint64_t key)
{
    return pool->count < pool->size || key > pool->keys[pool->count - 1];
}

static void pool_put(struct near_pool *pool, uint64_t key)
{
    size_t at = pool->count < pool->size ? pool->count++ : pool->count - 1;
    for (; at > 0 && pool->keys[at - 1] < key; at--)
        pool->keys[at] = pool->keys[at - 1];
    pool->keys[at] = key;
}

/* ---------------------------------------------------------------- a window */

/* The least code of the part whose posting is added, 256: none is. `weak`: the least score that is added, of a
 * list with a single row. */
static uint32_t least_code(const struct part *part, double weak)
{
    double code = weak * sqrt((double)list_rows(part->list)) / part->bound * 255;
    return code < 256 ? (uint32_t)code : 256;
}

/* About how many postings of the part that is, for asking ahead: what is heavy is rare. */
static uint32_t expected_postings(const struct part *part, uint32_t least)
{
    double above = 1 - least / 256.0, n = list_rows(part->list);
    return (uint32_t)MIN(n, n * above * above * above * above + STEP / 2);
}

static void add_front(struct searching *s, const struct part *part, uint32_t least)
{
    const uint16_t *ids = s->w->ids + part->list->start;
    const uint8_t *codes = s->w->codes + part->list->start;
    uint32_t at = 0, to, n = list_rows(part->list), class = code_strength((uint8_t)least);
    for (; at < n && code_strength(codes[at]) >= class; at = to) {
        to = at + STEP;
        while (to < n && to - at < AT_ONCE && code_strength(codes[to]) >= class)
            to += STEP;
        to = MIN(to, n);
        search_expect_postings(s, to - at);
        s->sums_by->add(s->scratch->sums, ids + at, codes + at, to - at, part->factor);
    }
    s->visits.postings += at;
}

/* What cuts are shares of: the fourth root of the sum of the lists' bounds to the fourth, most of which are
 * the strongest few. The plain sum grows with the number of terms, and so would what long queries lose. */
static double strength_of(const struct searching *s)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->part_count; i++) {
        double square = s->parts[i].bound * s->parts[i].bound;
        sum += square * square;
    }
    return sqrt(sqrt(sum));
}

static void add_fronts(struct searching *s)
{
    double left = 0;
    double weak = s->cut * strength_of(s) / sqrt((double)MAX(s->w->rows, ROWS_LEAST));
    for (uint32_t i = 0; i < s->part_count; i++) {
        struct part *part = &s->parts[i];
        part->least = least_code(part, weak);
        part->expected = part->least < 256 ? expected_postings(part, part->least) : 0;
        left += MIN(part->least, 255u) / 255.0 * part->bound;
    }
    s->near_left = MAX(s->near_left, left);
    search_expect_parts(s, 0, s->part_count);
    for (uint32_t i = 0; i < s->part_count; i++)
        if (s->parts[i].least < 256)
            add_front(s, &s->parts[i], s->parts[i].least);
}

static uint16_t common_sum(const struct searching *s, size_t wanted)
{
    struct bins bins = {0};
    for (uint32_t i = 0; i < s->rows; i++)
        bins_count(&bins, i, s->scratch->sums[i]);
    return bins_reached(&bins, wanted);
}

/* What sums reach that may come into a pool with room: at least as many rows do as the pool may have, if as many
 * have any. Found on the maxima of some of the rows, where these have blocks enough. */
static uint16_t limit_of_some(struct searching *s)
{
    size_t wanted = s->near.size;
    uint32_t some = s->rows / SAMPLE_SHARE / ACCUMULATE_BLOCK * ACCUMULATE_BLOCK;
    if (wanted * 2 * ACCUMULATE_BLOCK > s->rows)
        return common_sum(s, wanted);
    return search_find_maxima(s, MAX(some, (uint32_t)wanted * 2 * ACCUMULATE_BLOCK), wanted);
}

static uint16_t limit_of_pool(const struct searching *s)
{
    double worst = (double)pool_score(&s->near, s->near.count - 1) / s->unit;
    return (uint16_t)MIN(worst, 65535.0);
}

static void pool_found(struct searching *s, uint32_t first, size_t found)
{
    for (size_t i = 0; i < found; i++) {
        uint32_t row = s->w->first + first + (s->scratch->found[i] & UINT16_MAX);
        uint64_t key = pool_key((float)((s->scratch->found[i] >> 16) * s->unit), row);
        if (pool_admits(&s->near, key) && chosen(s, row))
            pool_put(&s->near, key);
    }
}

void search_strong(struct searching *s)
{
    add_fronts(s);
    bool full = s->near.count == s->near.size;
    uint16_t limit = full ? limit_of_pool(s) : limit_of_some(s);
    for (size_t at = 0, swept; at < s->rows; at += swept) {
        size_t found = s->sums_by->sweep(s->scratch->sums + at, s->rows - at, MAX(limit, 1),
                                         s->scratch->found, &swept);
        pool_found(s, (uint32_t)at, found);
        if (s->near.count < s->near.size)
            continue;
        uint16_t needed = limit_of_pool(s);
        limit = MAX(limit, needed);
    }
}

/* ---------------------------------------------------------------- all windows are through */

syna_rc search_near_rows(struct searching *s)
{
    const struct near_pool *pool = &s->near;
    double left = s->near_left * LEFT_SHARE;
    for (size_t i = 0; i < pool->count; i++)
        search_expect_row(s, pool_row(pool, i), POSTINGS_PLACE);
    for (size_t i = 0; i < MIN(pool->count, (size_t)ROWS_AHEAD); i++)
        search_expect_row(s, pool_row(pool, i), POSTINGS_ROW);
    for (size_t i = 0; i < pool->count; i++) {
        uint32_t row = pool_row(pool, i);
        struct postings_row shown;
        if (left + (double)pool_score(pool, i) < (double)threshold(s))
            break;
        if (i + ROWS_AHEAD < pool->count)
            search_expect_row(s, pool_row(pool, i + ROWS_AHEAD), POSTINGS_ROW);
        postings_show(s->p, row, &shown);
        SYNA_TRY(search_offer_score(s, row, scorer_row(&s->scorer, &shown)));
    }
    return SYNA_SUCCESS;
}
