/* postings_search.c - the k best rows of a query, exactly. Which lists a window has for it, and in which
 * order they are added, is postings_plan.c's; which rows are scored, postings_candidates.c's.
 *
 * Windows are taken from the one with the highest bound on. In a window the
 * lists that can raise a score are added up, those with the largest impacts
 * first, until a row that was in none of them so far cannot be among the k best
 * any more. Wide lists (postings_maxima.c) come last: what they can add to a
 * row is bounded by the largest impact in its group of rows, so most of them
 * need not be added. Rows whose sum so far, and what is left, reach the k-th
 * best score are candidates, and are scored exactly. It is added on where that
 * is cheaper than scoring the candidates that there are. About k rows of the
 * first window are scored early, so that there is a k-th best score; where all
 * lists are added up by then, those whose sums are less by no more than rounding
 * are scored with them, and that is the whole window. Where the lists that were
 * added up are short against the window, as those of rare words are, it is
 * their rows that are looked at, not all sums.
 *
 * Codes are rounded up, and so is every step from them to a sum, so a sum is
 * never less than the score that it stands for (1e-5 is added for what float
 * arithmetic drops). Postings that lower a score are left out of sums. Sums of
 * 0 cannot be positive scores; scores below zero count only when there are
 * fewer than k above, and are then looked for row by row.
 *
 * Approximate searches are in postings_strong.c. With a filter every search is
 * exact.
 *
 * Where a filter leaves few rows of a window, these are scored and no list is
 * read. */
#include "base/internal.h"

#include "index/postings_searching.h"

#include <float.h>

#define WORDS (POSTINGS_WINDOW / 64)
#define LISTS_MAX 16384u    /* of a query in a window; more: every row is scored */
#define GROWTH_MAX 16.0     /* bounds so much too high say nothing */
#define COST_LOOK 24u       /* finding a row in a list, in postings added */
#define COST_TERM 3u        /* a term of a row, likewise */
#define COST_ROW 60u        /* reaching a row, likewise */
#define FOUND_MAX 65536u    /* lists of terms in windows that a search remembers */
#define LOOK_SHARE 8u       /* looking at all sums: a posting added for every so many rows */
#define CHEAP 2u            /* what may be saved is worth half the price */
#define PRIME_AT 3u         /* the k-th best is looked for when a third of the bound is left */

/* ---------------------------------------------------------------- scoring single rows */

static uint64_t chosen_word(const struct searching *s, uint32_t first, uint32_t word)
{
    uint32_t at = first + word * 64; /* any row, so two words of the bits take part */
    uint64_t bits = 0;
    for (uint32_t part = 0; part < 2; part++) {
        size_t i = at / 64 + part;
        if (i * 64 >= s->p->count)
            break;
        uint64_t both = s->p->live[i] & (s->q->chosen ? s->q->chosen[i] : ~0ull);
        if (part == 0)
            bits = both >> at % 64;
        else if (at % 64)
            bits |= both << (64 - at % 64);
    }
    return bits;
}

enum sign { ANY, ABOVE, BELOW };

static syna_rc offer_score(struct searching *s, uint32_t row, float score, enum sign sign)
{
    s->visits.rows++;
    if (score == 0 || (sign == ABOVE && score < 0) || (sign == BELOW && score > 0))
        return SYNA_SUCCESS;
    if (!topk_offer(s->top, -score, row))
        return syna_no_memory(s->top->count * sizeof(struct ranked));
    return SYNA_SUCCESS;
}

syna_rc search_offer_score(struct searching *s, uint32_t row, float score)
{
    return offer_score(s, row, score, ABOVE);
}

static syna_rc offer(struct searching *s, const struct window *w, uint32_t row, enum sign sign)
{
    return offer_score(s, row, scorer_score(&s->scorer, w, s->refs, row), sign);
}

/* Rows [first, first + rows) whose bit is in `within` (NULL: all). */
static syna_rc offer_rows(struct searching *s, const struct window *w, uint32_t first,
                          uint32_t rows, const uint64_t *within, enum sign sign)
{
    for (uint32_t word = 0; word * 64 < rows; word++) {
        uint64_t bits = chosen_word(s, first, word);
        if (rows - word * 64 < 64)
            bits &= (1ull << (rows - word * 64)) - 1;
        if (within)
            bits &= within[word];
        for (; bits; bits &= bits - 1)
            SYNA_TRY(offer(s, w, first + word * 64 + (uint32_t)__builtin_ctzll(bits), sign));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- one window */

/* Ask for the next `count` postings of the lists that are going to be added. Lists
 * lie anywhere in an index larger than the caches, and most are too short for the
 * processor to see a stride: without this, half of a search is waiting. */
void search_expect_postings(struct searching *s, uint32_t count)
{
    while (count > 0 && s->next_part < s->expected) {
        const struct posting_list *list = s->parts[s->next_part].list;
        const uint16_t *ids = s->w->ids + list->start;
        const uint8_t *codes = s->w->codes + list->start;
        uint32_t whole = s->parts[s->next_part].expected;
        uint32_t end = MIN(whole, s->next_posting + count);
        count -= end - s->next_posting;
        for (uint32_t at = s->next_posting; at < end; at += LINE) {
            __builtin_prefetch(ids + at, 0, 2);
            __builtin_prefetch(ids + at + LINE / 2, 0, 2);
            __builtin_prefetch(codes + at, 0, 2);
        }
        s->next_posting = end;
        if (end == whole) {
            s->next_part++;
            s->next_posting = 0;
        }
    }
}

/* The parts [from, to) are going to be added, one after the other. */
void search_expect_parts(struct searching *s, uint32_t from, uint32_t to)
{
    s->next_part = from;
    s->next_posting = 0;
    s->expected = to;
    search_expect_postings(s, AHEAD);
}

static void add_part(struct searching *s, uint32_t i)
{
    const struct posting_list *list = s->parts[i].list;
    if (i >= s->expected)
        search_expect_parts(s, i, i + 1);
    for (uint32_t at = 0, n = list_rows(list); at < n; at += AT_ONCE) {
        uint32_t count = MIN(n - at, AT_ONCE), start = list->start + at;
        search_expect_postings(s, count);
        s->sums_by->add(s->scratch->sums, s->w->ids + start, s->w->codes + start, count,
                        s->parts[i].factor);
    }
    s->visits.postings += list_rows(list);
    s->added = i + 1;
}

static uint64_t row_cost(const struct searching *s)
{
    if (s->p->kind == POSTINGS_COUNTS)
        return COST_ROW + s->part_count * COST_LOOK;
    return COST_ROW + COST_TERM * (uint64_t)s->w->posting_count / MAX(s->w->held, 1u);
}

static uint64_t postings_from(const struct searching *s, uint32_t i)
{
    uint64_t count = 0;
    for (; i < s->part_count; i++)
        count += list_rows(s->parts[i].list);
    return count;
}

/* A k-th best score may spare what is left, unless that is added sooner. */
static bool is_time_to_prime(const struct searching *s, uint32_t i)
{
    bool short_left =
        s->narrow == s->part_count && postings_from(s, i) <= s->rows / LISTED_SHARE;
    return s->left[i] * PRIME_AT <= s->left[0] && !short_left;
}

/* Add parts whose lists are not wide until no row that is in none of them can
 * be among the best. Returns where it stopped. */
static syna_rc add_essential(struct searching *s, uint32_t *at)
{
    uint32_t i = 0;
    search_expect_parts(s, 0, s->narrow);
    while (i < s->narrow && (search_needed(s) == 0 || s->left[i] >= search_needed(s))) {
        add_part(s, i++);
        if (!s->primed && (is_time_to_prime(s, i) || i == s->narrow))
            SYNA_TRY(search_prime(s, i));
    }
    bool enough = search_needed(s) > 0 && s->left[i] < search_needed(s);
    s->listed = enough && search_are_short(s, i) ? i : 0;
    *at = i;
    return SYNA_SUCCESS;
}

static uint32_t groups_of(const struct searching *s)
{
    return s->rows / ACCUMULATE_GROUP;
}

/* What the wide lists from part i on can add to the rows of each group. */
static void bound_groups(struct searching *s, uint32_t i)
{
    memset(s->scratch->bounds, 0, groups_of(s) * sizeof *s->scratch->bounds);
    for (i = MAX(i, s->narrow); i < s->part_count; i++)
        s->sums_by->raise(s->scratch->bounds, s->parts[i].maxima, groups_of(s), s->parts[i].factor);
}

/* Is the next part added up, and all looked at again, for a fraction of what
 * scoring the candidates costs? */
static bool is_cheap(const struct searching *s, uint32_t i, uint64_t scoring)
{
    uint64_t again = s->listed ? s->rows / LISTED_SHARE : s->rows / LOOK_SHARE;
    return (list_rows(s->parts[i].list) + again) * CHEAP <= scoring;
}

/* Is no row among the best that was not a candidate of priming? */
static bool is_done(const struct searching *s)
{
    return s->whole && search_sum_needed(s, s->part_count) >= s->whole;
}

/* Collect the candidates. While there are so many that scoring them costs more
 * than adding what is left, which may rule them out, parts are added. */
static syna_rc find_candidates(struct searching *s, uint32_t *at, size_t *count)
{
    uint64_t cost = row_cost(s), left = postings_from(s, *at);
    uint32_t i = *at;
    bound_groups(s, i);
    for (;;) {
        bool all = i == s->part_count;
        size_t room =
            (size_t)MIN((left + s->rows / LOOK_SHARE) / cost + 1, (uint64_t)ACCUMULATE_ROWS);
        room = all ? ACCUMULATE_ROWS : room;
        *count = search_collect(s, i, room);
        *at = i;
        if (all || (*count < room && !is_cheap(s, i, *count * cost)))
            return SYNA_SUCCESS;
        uint64_t goal = *count < room ? left : left - left / 3;
        uint64_t before = left;
        do {
            left -= list_rows(s->parts[i].list);
            add_part(s, i);
            if (i >= s->narrow)
                s->sums_by->lower(s->scratch->bounds, s->parts[i].maxima, groups_of(s),
                                  s->parts[i].factor);
            i++;
        } while (i < s->part_count && left > goal &&
                 list_rows(s->parts[i].list) <= 2 * (before - left) + s->rows / LOOK_SHARE);
        if (!s->primed || (!s->listed && s->left[i] * PRIME_AT <= s->primed_left))
            SYNA_TRY(search_prime(s, i));
        if (is_done(s)) {
            *count = 0;
            return SYNA_SUCCESS;
        }
    }
}

static uint32_t chosen_in(const struct searching *s, const struct window *w)
{
    uint32_t count = 0;
    if (!s->q->chosen)
        return w->live;
    for (uint32_t word = 0; word * 64 < w->rows; word++)
        count += (uint32_t)__builtin_popcountll(chosen_word(s, w->first, word));
    return count;
}

static syna_rc add_and_score(struct searching *s)
{
    uint32_t i;
    size_t count;
    SYNA_TRY(add_essential(s, &i));
    if (is_done(s))
        return SYNA_SUCCESS;
    SYNA_TRY(find_candidates(s, &i, &count));
    return search_score_candidates(s, i, count);
}

static void mark_rows(struct searching *s, const struct window *w, uint64_t *bits)
{
    uint32_t found;
    for (size_t i = 0; i < s->q->count; i++) {
        const struct posting_list *list = window_find(w, s->q->terms[i], &found);
        if (s->refs)
            search_refer(s, w, i, list);
        for (uint32_t j = 0; j < found; j++) {
            const uint16_t *ids = w->ids + list[j].start;
            for (uint32_t k = 0, n = list_rows(&list[j]); k < n; k++)
                bits[ids[k] / 64] |= 1ull << ids[k] % 64;
        }
    }
}

/* Score every row that shares a term with the query. */
static syna_rc score_marked(struct searching *s, const struct window *w, enum sign sign)
{
    uint64_t *bits = s->scratch->scored;
    mark_rows(s, w, bits);
    syna_rc rc = offer_rows(s, w, w->first, w->rows, bits, sign);
    memset(bits, 0, WORDS * sizeof *bits);
    return rc;
}

/* Sums and marks are 0 again, those that are not. */
static void clear_window(struct searching *s)
{
    memset(s->scratch->scored, 0, s->rows / 64 * sizeof *s->scratch->scored);
    if (!search_are_short(s, s->added)) {
        memset(s->scratch->sums, 0, s->rows * sizeof *s->scratch->sums);
        return;
    }
    for (uint32_t i = 0; i < s->added; i++) {
        const uint16_t *ids = s->w->ids + s->parts[i].list->start;
        for (uint32_t j = 0, n = list_rows(s->parts[i].list); j < n; j++)
            s->scratch->sums[ids[j]] = 0;
    }
}

static syna_rc search_window(struct searching *s, const struct window *w)
{
    double bound;
    s->w = w;
    s->rows = (w->rows + ACCUMULATE_BLOCK - 1) / ACCUMULATE_BLOCK * ACCUMULATE_BLOCK;
    search_find_parts(s, w, true, &bound);
    if (s->part_count == 0 || bound <= 0)
        return SYNA_SUCCESS;
    s->visits.windows++;
    search_order_parts(s);
    if (s->part_count > LISTS_MAX ||
        chosen_in(s, w) * row_cost(s) <= postings_from(s, 0) + s->rows / 8)
        return offer_rows(s, w, w->first, w->rows, NULL, ABOVE);
    if (search_growth(s, w) > GROWTH_MAX)
        return score_marked(s, w, ABOVE);
    search_scale_parts(s, bound);
    if (s->cut > 0) {
        search_strong(s);
        return SYNA_SUCCESS;
    }
    s->primed = s->top->count == s->top->k;
    s->primed_left = s->left[0];
    s->added = s->listed = 0;
    s->whole = 0;
    syna_rc rc = add_and_score(s);
    clear_window(s);
    return rc;
}

/* Scores below zero: they are not bounded. */
static syna_rc search_below(struct searching *s)
{
    for (uint32_t i = 0; i < s->p->window_count; i++)
        SYNA_TRY(score_marked(s, &s->p->windows[i], BELOW));
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the whole */

static syna_rc search(struct searching *s)
{
    const struct postings *p = s->p;
    struct list_ref *refs = s->refs;
    s->refs = NULL; /* fresh rows have none */
    SYNA_TRY(offer_rows(s, NULL, p->sealed, p->count - p->sealed, NULL, ANY));
    s->refs = refs;
    search_plan_windows(s);
    for (uint32_t i = 0; i < p->window_count; i++) {
        if (s->plans[i].bound < (double)threshold(s) * (1 - MARGIN))
            break;
        SYNA_TRY(search_window(s, &p->windows[s->plans[i].window]));
    }
    if (s->cut > 0)
        SYNA_TRY(search_near_rows(s));
    return s->lowers && threshold(s) < 0 ? search_below(s) : SYNA_SUCCESS;
}

static syna_rc take_room(struct searching *s)
{
    size_t parts = 2 * s->q->count + 1, plans = s->p->window_count;
    size_t refs = s->p->kind == POSTINGS_COUNTS ? s->q->count + 1 : 0;
    size_t found = plans * s->q->count <= FOUND_MAX ? plans * s->q->count : 0;
    size_t near = s->cut > 0 ? search_near_size(s->top->k) : 0;
    size_t bytes = parts * (2 * sizeof *s->parts + sizeof *s->left + sizeof *s->keys) +
                   near * sizeof *s->near.keys + plans * sizeof *s->plans +
                   refs * sizeof *s->refs + found * sizeof *s->found;
    s->parts = mem_alloc(bytes);
    if (!s->parts)
        return syna_no_memory(bytes);
    s->unordered = s->parts + parts;
    s->left = (double *)(void *)(s->unordered + parts);
    s->keys = (uint64_t *)(void *)(s->left + parts);
    s->near = (struct near_pool){.keys = s->keys + parts, .size = near};
    s->plans = (struct plan *)(void *)(s->near.keys + near);
    struct found_lists *behind = (struct found_lists *)(void *)(s->plans + plans);
    s->found = found ? behind : NULL;
    s->refs = refs ? (struct list_ref *)(void *)(behind + found) : NULL;
    return scratch_take(s->p, &s->scratch);
}

syna_rc search_cut(const struct postings *p, const struct postings_query *query, double cut,
                   struct topk *top, struct postings_visits *visits)
{
    struct searching s = {.p = p, .q = query, .top = top, .cut = cut, .sums_by = accumulate_get()};
    if (query->count == 0 || top->k == 0 || p->live_count == 0)
        return SYNA_SUCCESS;
    bool few = false;
    syna_rc rc = take_room(&s);
    if (rc == SYNA_SUCCESS) {
        scorer_init(&s.scorer, p, query, s.scratch->slots);
        rc = search(&s);
        few = cut > 0 && s.near.count < top->k;
        scorer_dispose(&s.scorer);
        scratch_give(p, s.scratch);
    }
    mem_free(s.parts);
    if (rc == SYNA_SUCCESS && visits) {
        visits->postings += s.visits.postings;
        visits->rows += s.visits.rows;
        visits->windows += s.visits.windows;
    }
    if (rc != SYNA_SUCCESS || !few)
        return rc;
    top->count = 0; /* fewer rows than are wanted have strong postings: weak ones count */
    return search_cut(p, query, 0, top, visits);
}

syna_rc postings_search(const struct postings *p, const struct postings_query *query,
                        struct topk *top, struct postings_visits *visits)
{
    double cut = 0;
    if (query->recall > 0 && query->recall < 1 && !query->chosen && top->k <= NEAR_K_MAX)
        SYNA_TRY(near_cut(p, top->k, query->recall, &cut));
    return search_cut(p, query, cut, top, visits);
}
