/* postings_candidates.c - which rows of a window are scored: those whose sums, and what is left to be added,
 * reach the k-th best score, the most promising first. postings_search.c says what sums are. */
#include "base/internal.h"

#include "index/postings_heap.h"
#include "index/postings_searching.h"

#define BATCH_ROWS 8u       /* candidates whose bytes are asked for together */
#define BLOCK_WIDE 256u     /* rows with one maximum, if that makes */
#define BLOCKS_EACH 2u      /* so many blocks at least for each row that is wanted */
#define ROUNDING_SHARE 128u /* of a sum: codes are made for another average length than a query's */

/* Candidates that are about to be scored. Their bytes are anywhere in memory:
 * those of several rows are asked for at once, and the time to get them is that
 * of scoring a few. */
struct batch {
    uint32_t count;
    uint32_t candidates[BATCH_ROWS];
    struct postings_row rows[BATCH_ROWS]; /* WEIGHTS only */
};

static void expect_row(const struct postings_row *row)
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
    for (uint32_t i = 0; i < batch->count; i++)
        search_expect_row(s, s->w->first + (batch->candidates[i] & UINT16_MAX), POSTINGS_PLACE);
    for (uint32_t i = 0; i < batch->count; i++)
        search_expect_row(s, s->w->first + (batch->candidates[i] & UINT16_MAX), POSTINGS_ROW);
    for (uint32_t i = 0; i < batch->count; i++)
        postings_show(s->p, s->w->first + (batch->candidates[i] & UINT16_MAX), &batch->rows[i]);
    for (uint32_t i = 0; i < batch->count; i++)
        expect_row(&batch->rows[i]);
}

static syna_rc score_batch_row(struct searching *s, const struct batch *batch, uint32_t i)
{
    uint32_t row = s->w->first + (batch->candidates[i] & UINT16_MAX);
    if (s->p->kind == POSTINGS_COUNTS)
        return search_offer_score(s, row, scorer_score(&s->scorer, s->w, s->refs, row));
    return search_offer_score(s, row, scorer_row(&s->scorer, &batch->rows[i]));
}

bool search_are_short(const struct searching *s, uint32_t parts)
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

uint16_t search_find_maxima(struct searching *s, uint32_t rows, size_t wanted)
{
    s->block = wanted * BLOCKS_EACH <= rows / BLOCK_WIDE ? BLOCK_WIDE : ACCUMULATE_BLOCK;
    s->blocks = (rows + s->block - 1) / s->block;
    s->sums_by->maxima(s->scratch->sums, rows, s->block, s->scratch->maxima);
    return common_maximum(s->scratch->maxima, s->blocks, wanted);
}

/* Few blocks have any. */
size_t search_collect_blocks(const struct searching *s, uint16_t limit, size_t room)
{
    uint32_t *out = s->scratch->found;
    size_t found = 0;
    for (uint32_t b = 0; b < s->blocks && found < room; b++) {
        uint32_t first = b * s->block, rows = MIN(s->block, s->rows - first);
        if (s->scratch->maxima[b] < limit)
            continue;
        size_t more = s->sums_by->collect(s->scratch->sums + first, NULL, rows, limit, out + found,
                                          room - found);
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
    bool listed = search_are_short(s, parts);
    wanted *= listed ? parts : 1; /* a row is in each list at most once */
    s->primed = !listed;
    if (!listed && wanted > blocks / 2)
        return 0;
    uint16_t limit = listed ? common_sum(s, parts, wanted) : search_find_maxima(s, s->rows, wanted);
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

syna_rc search_score_candidates(struct searching *s, uint32_t i, size_t count)
{
    uint32_t *heap = s->scratch->found;
    struct batch batch;
    make_heap(heap, count);
    do {
        take_batch(s, heap, &count, BATCH_ROWS, search_sum_needed(s, i), &batch);
        for (uint32_t j = 0; j < batch.count; j++) /* the sum that is needed grows */
            if (batch.candidates[j] >> 16 >= search_sum_needed(s, i))
                SYNA_TRY(score_batch_row(s, &batch, j));
    } while (batch.count > 0);
    return SYNA_SUCCESS;
}

/* Score about k rows with large sums, so that there is a threshold: of each
 * block whose maximum is among the k largest, one row at least reaches the
 * least of them. `parts` are added up. */
syna_rc search_prime(struct searching *s, uint32_t parts)
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
    return s->whole ? search_score_candidates(s, parts, found) : SYNA_SUCCESS;
}

size_t search_collect(const struct searching *s, uint32_t i, size_t room)
{
    const uint16_t *bounds = s->scratch->bounds;
    if (s->listed)
        return collect_listed(s, s->listed, bounds, search_sum_needed(s, i), room);
    return s->sums_by->collect(s->scratch->sums, bounds, s->rows, search_sum_needed(s, i),
                               s->scratch->found, room);
}
