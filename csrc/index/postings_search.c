/* postings_search.c - the k best rows of a query, exactly.
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

#include "index/postings_heap.h"
#include "index/postings_searching.h"

#include <float.h>
#include <math.h>

#define WORDS (POSTINGS_WINDOW / 64)
#define LISTS_MAX 16384u    /* of a query in a window; more: every row is scored */
#define SUM_MAX 65000u      /* what sums of a window stay below, with 3 a list for rounding */
#define GROWTH_MAX 16.0     /* bounds so much too high say nothing */
#define COST_LOOK 24u       /* finding a row in a list, in postings added */
#define COST_TERM 3u        /* a term of a row, likewise */
#define COST_ROW 60u        /* reaching a row, likewise */
#define FOUND_MAX 65536u    /* lists of terms in windows that a search remembers */
#define BATCH_ROWS 8u       /* candidates whose bytes are asked for together */
#define LISTED_SHARE 16u    /* lists with a posting in every so many rows are not short against it */
#define LOOK_SHARE 8u       /* looking at all sums: a posting added for every so many rows */
#define CHEAP 2u            /* what may be saved is worth half the price */
#define ROUNDING_SHARE 128u /* of a sum: codes are made for another average length than a query's */
#define PRIME_AT 3u         /* the k-th best is looked for when a third of the bound is left */

/* ---------------------------------------------------------------- scoring
 * single rows */

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

/* ---------------------------------------------------------------- plans */

static bool raises(const struct searching *s, size_t term, const struct posting_list *list)
{
    return (s->q->weights[term] < 0) == list_negative(list);
}

/* COUNTS: codes were made for another base and slope, by which an impact grows
 * at most by the larger of the two ratios. Infinite when a query has none of
 * what a window counts on. */
static double growth_of(const struct searching *s, const struct window *w)
{
    double growth = 1;
    if (s->p->kind == POSTINGS_WEIGHTS)
        return 1;
    if (s->q->base < w->base)
        growth = (double)w->base / (double)s->q->base;
    if (s->q->slope < w->slope)
        growth = MAX(growth, (double)w->slope / (double)s->q->slope);
    return growth;
}

/* `again`: they were looked up before. */
static const struct posting_list *lists_of_term(const struct searching *s, const struct window *w,
                                                size_t term, bool again, uint32_t *count)
{
    if (!s->found)
        return window_find(w, s->q->terms[term], count);
    struct found_lists *f = &s->found[(size_t)(w - s->p->windows) * s->q->count + term];
    if (!again)
        f->first = window_find(w, s->q->terms[term], &f->count);
    *count = f->count;
    return f->first;
}

/* Terms lie anywhere in a window: asked for together, they come at the price of
 * a few. */
static void expect_lists(const struct searching *s, const struct window *w)
{
    for (size_t i = 0; i < s->q->count; i++)
        window_expect_bucket(w, s->q->terms[i]);
    for (size_t i = 0; i < s->q->count; i++)
        window_expect_list(w, s->q->terms[i]);
}

static void refer(struct searching *s, const struct window *w, size_t term,
                  const struct posting_list *list)
{
    s->refs[term] = (struct list_ref){list, list ? window_starts(w, list) : NULL};
}

/* The lists of the query in a window; *bound of all that raise scores. */
static void find_parts(struct searching *s, const struct window *w, bool again, double *bound)
{
    double growth = growth_of(s, w) * (1 + MARGIN);
    *bound = 0;
    s->part_count = 0;
    for (size_t i = 0; i < s->q->count; i++) {
        uint32_t found;
        const struct posting_list *list = lists_of_term(s, w, i, again, &found);
        if (s->refs)
            refer(s, w, i, list);
        if (s->q->weights[i] == 0)
            continue;
        for (uint32_t j = 0; j < found; j++) {
            if (!raises(s, i, &list[j])) {
                s->lowers = true;
                continue;
            }
            struct part *part = &s->unordered[s->part_count++];
            part->list = &list[j];
            part->expected = list_rows(&list[j]);
            part->bound = fabs((double)s->q->weights[i]) * (double)list[j].scale * 255 * growth;
            *bound += part->bound;
        }
    }
}

static int by_plan_bound(const void *left, const void *right)
{
    const struct plan *a = left, *b = right;
    if (a->bound != b->bound)
        return a->bound > b->bound ? -1 : 1;
    return a->window < b->window ? -1 : a->window > b->window;
}

/* A sort key that puts wide lists behind all others, first among them those
 * that add most for each of their postings. Positive floats compare as their
 * bits do. */
static uint64_t key_of(const struct part *part, bool wide, uint32_t place)
{
    float first = (float)(wide ? part->bound / list_rows(part->list) : part->bound);
    uint32_t bits;
    memcpy(&bits, &first, sizeof bits);
    return (uint64_t)wide << 63 | (uint64_t)(0x7fffffffu - bits) << 32 | place;
}

/* The parts that were found, in the order in which they are added. */
static void order_parts(struct searching *s)
{
    uint64_t *keys = s->keys;
    s->narrow = s->part_count;
    if (s->cut > 0) {
        memcpy(s->parts, s->unordered, s->part_count * sizeof *s->parts);
        return;
    }
    for (uint32_t i = 0; i < s->part_count; i++) {
        s->unordered[i].maxima = window_maxima(s->w, s->unordered[i].list);
        keys[i] = key_of(&s->unordered[i], s->unordered[i].maxima, i);
    }
    sort_keys(keys, s->part_count);
    for (uint32_t i = 0; i < s->part_count; i++)
        s->parts[i] = s->unordered[(uint32_t)keys[i]];
    while (s->narrow > 0 && s->parts[s->narrow - 1].maxima)
        s->narrow--;
}

static void plan_windows(struct searching *s)
{
    for (uint32_t i = 0; i < s->p->window_count; i++) {
        s->plans[i].window = i;
        expect_lists(s, &s->p->windows[i]);
        find_parts(s, &s->p->windows[i], false, &s->plans[i].bound);
    }
    qsort(s->plans, s->p->window_count, sizeof *s->plans, by_plan_bound);
}

/* The unit of sums, the factors of parts, and what is left behind each. */
static void scale_parts(struct searching *s, double bound)
{
    s->unit = bound / (SUM_MAX - 3 * s->part_count);
    s->left[s->part_count] = 0;
    for (uint32_t i = s->part_count; i-- > 0;) {
        struct part *part = &s->parts[i];
        double units = part->bound / s->unit;
        part->factor = (uint32_t)(units / 255 * 256) + 1;
        s->left[i] = s->left[i + 1] + units + 3;
    }
}

/* ---------------------------------------------------------------- one window
 */

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

/* The least whole bound, in units, of a row that is worth scoring. */
static double needed(const struct searching *s)
{
    double score = (double)threshold(s) * (1 - MARGIN);
    return score > 0 ? score / s->unit : 0;
}

/* The same of a sum, bound of its group included, when the parts from i on are
 * not in it. */
static uint16_t sum_needed(const struct searching *s, uint32_t i)
{
    double beside = i < s->narrow ? s->left[i] - s->left[s->narrow] : 0;
    double sum = floor(needed(s) - beside);
    return sum <= 1 ? 1 : sum >= UINT16_MAX ? UINT16_MAX : (uint16_t)sum;
}

/* Candidates that are about to be scored. Their bytes are anywhere in memory:
 * those of several rows are asked for at once, and the time to get them is that
 * of scoring a few. */
struct batch {
    uint32_t count;
    uint32_t candidates[BATCH_ROWS];
    struct postings_row rows[BATCH_ROWS]; /* WEIGHTS only */
};

void search_expect_row(const struct postings_row *row)
{
    for (size_t at = 0; at < (size_t)MIN(row->count, 256u) * 4; at += 64) {
        __builtin_prefetch((const uint8_t *)row->terms + at);
        __builtin_prefetch((const uint8_t *)row->values + at);
    }
}

/* Postings of the row, about: the block's first ones of wide lists. */
static void expect_sealed(const struct searching *s, uint32_t id)
{
    __builtin_prefetch(s->p->lengths.bytes + (size_t)(s->w->first + id) * 4);
    for (size_t i = 0; i < s->q->count; i++) {
        const struct list_ref *ref = &s->refs[i];
        if (!ref->starts)
            continue;
        uint32_t at = ref->list->start + ref->starts[id / ACCUMULATE_BLOCK];
        __builtin_prefetch(s->w->ids + at);
        __builtin_prefetch(s->w->ids + at + 32);
        __builtin_prefetch(s->w->counts + at);
    }
}

/* Move up to `room` candidates that reach `least` from the heap into the batch,
 * the best first; those that were scored before, or are not to be, are left
 * out. */
static void take_batch(struct searching *s, uint32_t *heap, size_t *count, size_t room,
                       uint32_t least, struct batch *batch)
{
    batch->count = 0;
    while (batch->count < MIN(room, (size_t)BATCH_ROWS) && *count > 0 && heap[0] >> 16 >= least) {
        uint32_t candidate = take_largest(heap, count), id = candidate & UINT16_MAX;
        uint64_t *word = &s->scratch->scored[id / 64], bit = 1ull << id % 64;
        if ((*word & bit) || id >= s->w->rows || !chosen(s, s->w->first + id))
            continue;
        *word |= bit;
        batch->candidates[batch->count++] = candidate;
    }
    if (s->p->kind == POSTINGS_COUNTS) {
        for (uint32_t i = 0; i < batch->count; i++)
            expect_sealed(s, batch->candidates[i] & UINT16_MAX);
        return;
    }
    for (uint32_t i = 0; s->p->expect && i < batch->count; i++)
        s->p->expect(s->p->context, s->w->first + (batch->candidates[i] & UINT16_MAX));
    for (uint32_t i = 0; i < batch->count; i++)
        postings_show(s->p, s->w->first + (batch->candidates[i] & UINT16_MAX), &batch->rows[i]);
    for (uint32_t i = 0; i < batch->count; i++)
        search_expect_row(&batch->rows[i]);
}

static syna_rc score_batch_row(struct searching *s, const struct batch *batch, uint32_t i)
{
    uint32_t row = s->w->first + (batch->candidates[i] & UINT16_MAX);
    if (s->p->kind == POSTINGS_COUNTS)
        return offer(s, s->w, row, ABOVE);
    return offer_score(s, row, scorer_row(&s->scorer, &batch->rows[i]), ABOVE);
}

/* Are the lists of the first `parts` parts short against the window? */
static bool are_short(const struct searching *s, uint32_t parts)
{
    uint64_t postings = 0;
    for (uint32_t i = 0; i < parts; i++)
        postings += list_rows(s->parts[i].list);
    return postings <= s->rows / LISTED_SHARE;
}

/* As accumulate's collect, but of the rows in the lists of the first `parts`
 * parts only, in their order; a row may come once for each list. */
static size_t collect_listed(const struct searching *s, uint32_t parts, const uint16_t *bounds,
                             uint32_t limit, size_t room)
{
    const uint16_t *sums = s->scratch->sums;
    uint32_t *out = s->scratch->found;
    size_t found = 0;
    for (uint32_t i = 0; i < parts; i++) {
        const uint16_t *ids = s->w->ids + s->parts[i].list->start;
        for (uint32_t j = 0, n = list_rows(s->parts[i].list); j < n && found < room; j++) {
            uint32_t sum = sums[ids[j]] + (bounds ? bounds[ids[j] / ACCUMULATE_GROUP] : 0u);
            out[found] = sum << 16 | ids[j];
            found += sum >= limit;
        }
    }
    return found;
}

/* What at least `wanted` of the sums in these lists reach, as common_maximum
 * says it. */
static uint16_t common_sum(const struct searching *s, uint32_t parts, size_t wanted)
{
    struct bins bins = {0};
    for (uint32_t i = 0; i < parts; i++) {
        const uint16_t *ids = s->w->ids + s->parts[i].list->start;
        for (uint32_t j = 0, n = list_rows(s->parts[i].list); j < n; j++)
            bins_count(&bins, j, s->scratch->sums[ids[j]]);
    }
    return bins_reached(&bins, wanted);
}

/* The sums that reach the limit, of blocks whose maxima are known: few blocks have any. */
size_t search_collect_blocks(const struct searching *s, uint16_t limit, size_t room)
{
    uint32_t *out = s->scratch->found;
    size_t found = 0;
    for (uint32_t b = 0; b < s->rows / ACCUMULATE_BLOCK && found < room; b++) {
        uint32_t first = b * ACCUMULATE_BLOCK;
        if (s->scratch->maxima[b] < limit)
            continue;
        size_t more = s->sums_by->collect(s->scratch->sums + first, NULL, ACCUMULATE_BLOCK, limit,
                                          out + found, room - found);
        for (; more > 0; more--)
            out[found++] += first;
    }
    return found;
}

/* All lists are added up, and enough rows have sums of `limit` and more. Their
 * scores are less by what rounding added at most, so rows below this limit are
 * most likely none of the best (is_done tells). */
static uint16_t limit_of_all(const struct searching *s, uint16_t limit)
{
    uint32_t rounding = limit / ROUNDING_SHARE;
    for (uint32_t i = 0; i < s->part_count; i++)
        rounding += s->parts[i].factor / 256 + 2;
    return rounding < limit ? (uint16_t)(limit - rounding) : 1;
}

/* Candidates of priming; without any the next call tries again when lists are
 * short. */
static size_t collect_prime(struct searching *s, uint32_t parts, size_t wanted)
{
    uint32_t blocks = s->rows / ACCUMULATE_BLOCK;
    bool listed = are_short(s, parts);
    wanted *= listed ? parts : 1; /* a row is in each list at most once */
    s->primed = !listed;
    if (!listed && wanted > blocks / 2)
        return 0;
    if (!listed)
        s->sums_by->maxima(s->scratch->sums, s->rows, s->scratch->maxima);
    uint16_t limit =
        listed ? common_sum(s, parts, wanted) : common_maximum(s->scratch->maxima, blocks, wanted);
    if (limit == 0)
        return 0;
    s->primed = true;
    size_t room = MIN(4 * wanted + 16, (size_t)ACCUMULATE_ROWS);
    if (parts == s->part_count) {
        limit = s->whole = limit_of_all(s, limit);
        room = ACCUMULATE_ROWS;
    }
    return listed ? collect_listed(s, parts, NULL, limit, room) : search_collect_blocks(s, limit, room);
}

/* Score the candidates, the most promising first, until none that is left can
 * be among the best. */
static syna_rc score_candidates(struct searching *s, uint32_t i, size_t count)
{
    uint32_t *heap = s->scratch->found;
    struct batch batch;
    make_heap(heap, count);
    do {
        take_batch(s, heap, &count, BATCH_ROWS, sum_needed(s, i), &batch);
        for (uint32_t j = 0; j < batch.count; j++) /* the sum that is needed grows */
            if (batch.candidates[j] >> 16 >= sum_needed(s, i))
                SYNA_TRY(score_batch_row(s, &batch, j));
    } while (batch.count > 0);
    return SYNA_SUCCESS;
}

/* Score about k rows with large sums, so that there is a threshold: of each
 * block whose maximum is among the k largest, one row at least reaches the
 * least of them. `parts` are added up. */
static syna_rc prime(struct searching *s, uint32_t parts)
{
    size_t wanted = s->top->count < s->top->k ? s->top->k - s->top->count : s->top->k;
    uint32_t *heap = s->scratch->found;
    size_t found = collect_prime(s, parts, wanted);
    s->primed_left = s->left[parts];
    make_heap(heap, found);
    struct batch batch;
    for (wanted += wanted / 4; wanted > 0; wanted -= batch.count) {
        take_batch(s, heap, &found, wanted, 0, &batch);
        if (batch.count == 0)
            break;
        for (uint32_t i = 0; i < batch.count; i++)
            SYNA_TRY(score_batch_row(s, &batch, i));
    }
    return s->whole ? score_candidates(s, parts, found) : SYNA_SUCCESS;
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
    while (i < s->narrow && (needed(s) == 0 || s->left[i] >= needed(s))) {
        add_part(s, i++);
        if (!s->primed && (is_time_to_prime(s, i) || i == s->narrow))
            SYNA_TRY(prime(s, i));
    }
    bool enough = needed(s) > 0 && s->left[i] < needed(s);
    s->listed = enough && are_short(s, i) ? i : 0;
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

static size_t collect_candidates(const struct searching *s, uint32_t i, size_t room)
{
    const uint16_t *bounds = s->scratch->bounds;
    if (s->listed)
        return collect_listed(s, s->listed, bounds, sum_needed(s, i), room);
    return s->sums_by->collect(s->scratch->sums, bounds, s->rows, sum_needed(s, i),
                               s->scratch->found, room);
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
    return s->whole && sum_needed(s, s->part_count) >= s->whole;
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
        *count = collect_candidates(s, i, room);
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
            SYNA_TRY(prime(s, i));
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
    return score_candidates(s, i, count);
}

static void mark_rows(struct searching *s, const struct window *w, uint64_t *bits)
{
    uint32_t found;
    for (size_t i = 0; i < s->q->count; i++) {
        const struct posting_list *list = window_find(w, s->q->terms[i], &found);
        if (s->refs)
            refer(s, w, i, list);
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
    if (!are_short(s, s->added)) {
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
    find_parts(s, w, true, &bound);
    if (s->part_count == 0 || bound <= 0)
        return SYNA_SUCCESS;
    s->visits.windows++;
    order_parts(s);
    if (s->part_count > LISTS_MAX ||
        chosen_in(s, w) * row_cost(s) <= postings_from(s, 0) + s->rows / 8)
        return offer_rows(s, w, w->first, w->rows, NULL, ABOVE);
    if (growth_of(s, w) > GROWTH_MAX)
        return score_marked(s, w, ABOVE);
    scale_parts(s, bound);
    s->primed = s->top->count == s->top->k;
    s->primed_left = s->left[0];
    s->added = s->listed = 0;
    s->whole = 0;
    syna_rc rc = s->cut > 0 ? search_strong(s) : add_and_score(s);
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
    plan_windows(s);
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
    size_t bytes = parts * (2 * sizeof *s->parts + sizeof *s->left + sizeof *s->keys) +
                   plans * sizeof *s->plans + refs * sizeof *s->refs + found * sizeof *s->found;
    s->parts = mem_alloc(bytes);
    if (!s->parts)
        return syna_no_memory(bytes);
    s->unordered = s->parts + parts;
    s->left = (double *)(void *)(s->unordered + parts);
    s->keys = (uint64_t *)(void *)(s->left + parts);
    s->plans = (struct plan *)(void *)(s->keys + parts);
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
    syna_rc rc = take_room(&s);
    if (rc == SYNA_SUCCESS) {
        scorer_init(&s.scorer, p, query, s.scratch->slots);
        topk_init(&s.near, cut > 0 ? search_near_pool(top->k) : 0, FLT_MAX);
        rc = search(&s);
        topk_dispose(&s.near);
        scorer_dispose(&s.scorer);
        scratch_give(p, s.scratch);
    }
    mem_free(s.parts);
    if (rc == SYNA_SUCCESS && visits) {
        visits->postings += s.visits.postings;
        visits->rows += s.visits.rows;
        visits->windows += s.visits.windows;
    }
    return rc;
}

syna_rc postings_search(const struct postings *p, const struct postings_query *query,
                        struct topk *top, struct postings_visits *visits)
{
    double cut = 0;
    if (query->recall > 0 && query->recall < 1 && !query->chosen && top->k <= NEAR_K_MAX)
        SYNA_TRY(near_cut(p, query->recall, &cut));
    return search_cut(p, query, cut, top, visits);
}
