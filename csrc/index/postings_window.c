/* postings_window.c - one window: made from rows, or from the windows that it
 * replaces; lists and postings found in it.
 *
 * From rows in two passes: the first counts the postings of each list and finds
 * its largest value, which gives each list its place and its scale; the second
 * puts the postings there, in the order of rows, so that the numbers in a list
 * ascend. A COUNTS index has no rows once they are sealed: there, windows are
 * joined list by list, and the codes are made anew from counts and lengths, so
 * nothing gets coarser. */
#include "base/internal.h"

#include "index/postings_core.h"

#include <math.h>

#define CODE_MAX 255u

/* ---------------------------------------------------------------- the memory
 * of a window */

static size_t round_up(size_t bytes)
{
    return (bytes + 15) & ~(size_t)15;
}

/* Room for a window of these sizes, in one block. The arrays are written
 * through the casts below. */
static syna_rc window_alloc(struct window *w, bool counts, uint32_t lists, uint32_t postings,
                            uint32_t large)
{
    size_t list_bytes = round_up(lists * sizeof *w->lists);
    size_t large_bytes = round_up(large * sizeof *w->large);
    size_t id_bytes = round_up(postings * sizeof *w->ids), code_bytes = round_up(postings);
    size_t bytes = list_bytes + large_bytes + id_bytes + code_bytes * (counts ? 2 : 1);
    uint8_t *block = mem_alloc(bytes);
    if (!block)
        return syna_no_memory(bytes);
    w->block = block;
    w->block_bytes = bytes;
    w->list_count = lists;
    w->posting_count = postings;
    w->large_count = large;
    w->lists = (void *)block;
    w->large = (void *)(block + list_bytes);
    w->ids = (void *)(block + list_bytes + large_bytes);
    w->codes = block + list_bytes + large_bytes + id_bytes;
    w->counts = counts ? w->codes + code_bytes : NULL;
    return SYNA_SUCCESS;
}

/* While a window is made, its arrays may be written. */
static struct posting_list *lists_of(const struct window *w)
{
    return (struct posting_list *)(uintptr_t)w->lists;
}
static uint16_t *ids_of(const struct window *w)
{
    return (uint16_t *)(uintptr_t)w->ids;
}
static uint8_t *codes_of(const struct window *w)
{
    return (uint8_t *)(uintptr_t)w->codes;
}
static uint8_t *counts_of(const struct window *w)
{
    return (uint8_t *)(uintptr_t)w->counts;
}
static struct large_count *large_of(const struct window *w)
{
    return (struct large_count *)(uintptr_t)w->large;
}

void window_dispose(struct window *w)
{
    mem_free(w->block);
    mem_free(w->buckets);
    mem_free(w->wide);
    *w = (struct window){0};
}

/* Buckets by the high bits of terms, about one a list: dense numbers have a
 * bucket each, and what clusters is searched in its bucket. */
syna_rc window_make_buckets(struct window *w)
{
    uint32_t last = w->list_count ? w->lists[w->list_count - 1].term : 0;
    uint32_t shift = 0;
    while (last >> shift > 2 * w->list_count)
        shift++;
    uint32_t count = (last >> shift) + 2;
    w->buckets = mem_alloc(count * sizeof *w->buckets);
    if (!w->buckets)
        return syna_no_memory(count * sizeof *w->buckets);
    w->bucket_count = count;
    w->shift = shift;
    for (uint32_t b = 0, i = 0; b < count; b++) {
        while (i < w->list_count && w->lists[i].term >> shift < b)
            i++;
        w->buckets[b] = i;
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- finding */

const struct posting_list *window_find(const struct window *w, uint32_t term, uint32_t *found)
{
    uint32_t bucket = term >> w->shift;
    *found = 0;
    if (bucket >= w->bucket_count - 1)
        return NULL;
    uint32_t low = w->buckets[bucket], high = w->buckets[bucket + 1], end = high;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (w->lists[mid].term < term)
            low = mid + 1;
        else
            high = mid;
    }
    while (low + *found < end && w->lists[low + *found].term == term && *found < 2)
        ++*found;
    return *found ? &w->lists[low] : NULL;
}

/* Among the postings of the row's block: at most 64 of them in a sound list. */
static uint32_t find_in_block(const struct window *w, const struct list_ref *ref, uint32_t id)
{
    const uint16_t *ids = w->ids + ref->list->start;
    uint32_t block = id / ACCUMULATE_BLOCK, at = ref->starts[block], before = 0;
    uint32_t end = block + 1 < window_blocks(w) ? ref->starts[block + 1] : list_rows(ref->list);
    for (uint32_t i = at; i < end; i++)
        before += ids[i] < id;
    at += before;
    return at < end && ids[at] == id ? ref->list->start + at : UINT32_MAX;
}

uint32_t window_posting(const struct window *w, const struct list_ref *ref, uint32_t row)
{
    const uint16_t *ids = w->ids + ref->list->start;
    uint32_t id = row - w->first, at = 0, left = list_rows(ref->list);
    if (ref->starts)
        return find_in_block(w, ref, id);
    while (left > 1) { /* no branch that could be guessed wrong */
        uint32_t half = left / 2;
        at = ids[at + half] <= id ? at + half : at;
        left -= half;
    }
    return left && ids[at] == id ? ref->list->start + at : UINT32_MAX;
}

uint32_t window_count_at(const struct window *w, uint32_t posting)
{
    if (w->counts[posting] < COUNT_LARGE)
        return w->counts[posting];
    uint32_t low = 0, high = w->large_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (w->large[mid].posting < posting)
            low = mid + 1;
        else
            high = mid;
    }
    return low < w->large_count && w->large[low].posting == posting ? w->large[low].count
                                                                    : COUNT_LARGE;
}

/* ---------------------------------------------------------------- the lists of
 * a window to be */

/* key: term << 1 | negative, and KEY_USED. In the second pass `count` is where
 * the next posting goes and `max` what a value is multiplied with. */
struct term_slot {
    uint64_t key;
    uint32_t count;
    float max;
};

#define KEY_USED (1ull << 40)
#define KEY_FACTOR 0x9e3779b97f4a7c15ull

struct term_table {
    struct term_slot *slots;
    uint32_t bits; /* 1 << bits slots */
    uint32_t used;
};

static struct term_slot *table_find(const struct term_table *t, uint64_t key)
{
    uint64_t mask = (1ull << t->bits) - 1;
    uint64_t at = key * KEY_FACTOR >> (64 - t->bits);
    while (t->slots[at].key != key && t->slots[at].key)
        at = (at + 1) & mask;
    return &t->slots[at];
}

static syna_rc table_grow(struct term_table *t)
{
    struct term_table bigger = {.bits = t->slots ? t->bits + 1 : 10, .used = t->used};
    bigger.slots = mem_zalloc(sizeof *bigger.slots << bigger.bits);
    if (!bigger.slots)
        return syna_no_memory(sizeof *bigger.slots << bigger.bits);
    for (size_t i = 0; t->slots && i < (size_t)1 << t->bits; i++)
        if (t->slots[i].key)
            *table_find(&bigger, t->slots[i].key) = t->slots[i];
    mem_free(t->slots);
    *t = bigger;
    return SYNA_SUCCESS;
}

/* The slot of a key, made when it is not there. */
static inline syna_rc table_take(struct term_table *t, uint64_t key, struct term_slot **out)
{
    struct term_slot *slot = table_find(t, key);
    if (UNLIKELY(!slot->key)) {
        if (2 * (t->used + 1) > 1u << t->bits) {
            SYNA_TRY(table_grow(t));
            slot = table_find(t, key);
        }
        slot->key = key;
        t->used++;
    }
    *out = slot;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- from rows */

struct building {
    const struct postings *p;
    struct window *w;
    struct term_table table;
    uint64_t values;
    uint32_t large;
};

static float expected_slope(const struct postings *p)
{
    return p->length_sum ? p->slope * (float)((double)p->live_count / (double)p->length_sum)
                         : p->slope;
}

/* What a posting is worth, without its sign, and the key of its list. */
static inline float value_of(const struct building *b, const struct postings_row *row, uint32_t i,
                             uint64_t *key)
{
    const uint8_t *at = (const uint8_t *)row->values + (size_t)i * 4;
    uint64_t term = row_term(row, i);
    if (b->p->kind == POSTINGS_COUNTS) {
        *key = KEY_USED | term << 1;
        return count_impact(load_u32(at), row->length, b->w->base, b->w->slope);
    }
    float weight = load_f32(at);
    *key = KEY_USED | term << 1 | (weight < 0);
    return fabsf(weight);
}

static syna_rc measure_row(struct building *b, const struct postings_row *row)
{
    b->values += row->count;
    if (b->values > WINDOW_VALUES_MAX)
        return SYNA_SUCCESS;
    for (uint32_t i = 0; i < row->count; i++) {
        struct term_slot *slot;
        uint64_t key;
        float value = value_of(b, row, i, &key);
        SYNA_TRY(table_take(&b->table, key, &slot));
        slot->count++;
        slot->max = MAX(slot->max, value);
        if (b->p->kind == POSTINGS_COUNTS)
            b->large += load_u32((const uint8_t *)row->values + (size_t)i * 4) >= COUNT_LARGE;
    }
    return SYNA_SUCCESS;
}

/* Up to w->rows rows; fewer when they have too many values for a window. */
static syna_rc measure(struct building *b)
{
    struct window *w = b->w;
    for (uint32_t i = 0; i < w->rows; i++) {
        struct postings_row row;
        if (!postings_is_live(b->p, w->first + i))
            continue;
        postings_show(b->p, w->first + i, &row);
        SYNA_TRY(measure_row(b, &row));
        if (b->values > WINDOW_VALUES_MAX) {
            b->values -= row.count;
            w->rows = i;
            return SYNA_SUCCESS;
        }
        w->held++;
    }
    return SYNA_SUCCESS;
}

static int by_key(const void *left, const void *right)
{
    const struct term_slot *a = left, *b = right;
    return a->key < b->key ? -1 : a->key > b->key;
}

static float scale_of(float max)
{
    return max > 0 ? max / (float)CODE_MAX : 0;
}

/* Places and scales of the lists, in the order of terms. */
static syna_rc lay_out(struct building *b)
{
    struct term_table *t = &b->table;
    size_t bytes = MAX((size_t)t->used, (size_t)1) * sizeof(struct term_slot);
    struct term_slot *sorted = mem_alloc(bytes);
    if (!sorted)
        return syna_no_memory(bytes);
    uint32_t count = 0, at = 0;
    for (size_t i = 0; t->slots && i < (size_t)1 << t->bits; i++)
        if (t->slots[i].key)
            sorted[count++] = t->slots[i];
    qsort(sorted, count, sizeof *sorted, by_key);
    syna_rc rc =
        window_alloc(b->w, b->p->kind == POSTINGS_COUNTS, count, (uint32_t)b->values, b->large);
    struct posting_list *lists = rc == SYNA_SUCCESS ? lists_of(b->w) : NULL;
    for (uint32_t i = 0; lists && i < count; i++) {
        struct term_slot *slot = table_find(t, sorted[i].key);
        lists[i] = (struct posting_list){
            .term = (uint32_t)((sorted[i].key & ~KEY_USED) >> 1),
            .start = at,
            .count = sorted[i].count | (sorted[i].key & 1 ? LIST_NEGATIVE : 0),
            .scale = scale_of(sorted[i].max),
        };
        slot->count = at;
        slot->max = sorted[i].max > 0 ? (float)CODE_MAX / sorted[i].max : 0;
        at += sorted[i].count;
    }
    mem_free(sorted);
    return rc;
}

/* Rounded up. What float arithmetic may still lack is less than the margin that
 * searches add. */
static inline uint8_t code_of(float value, float factor)
{
    float code = ceilf(value * factor);
    return code <= 1 ? 1 : code >= (float)CODE_MAX ? (uint8_t)CODE_MAX : (uint8_t)code;
}

static int by_posting(const void *left, const void *right)
{
    const struct large_count *a = left, *b = right;
    return a->posting < b->posting ? -1 : a->posting > b->posting;
}

static void place_row(struct building *b, const struct postings_row *row, uint16_t id)
{
    const struct window *w = b->w;
    for (uint32_t i = 0; i < row->count; i++) {
        uint64_t key;
        float value = value_of(b, row, i, &key);
        struct term_slot *slot = table_find(&b->table, key);
        uint32_t at = slot->count++;
        ids_of(w)[at] = id;
        codes_of(w)[at] = code_of(value, slot->max);
        if (b->p->kind == POSTINGS_COUNTS) {
            uint32_t count = load_u32((const uint8_t *)row->values + (size_t)i * 4);
            counts_of(w)[at] = (uint8_t)MIN(count, COUNT_LARGE);
            if (count >= COUNT_LARGE)
                large_of(w)[b->large++] = (struct large_count){at, count};
        }
    }
}

static void place(struct building *b)
{
    const struct window *w = b->w;
    b->large = 0;
    for (uint32_t i = 0; i < w->rows; i++) {
        struct postings_row row;
        if (!postings_is_live(b->p, w->first + i))
            continue;
        postings_show(b->p, w->first + i, &row);
        place_row(b, &row, (uint16_t)i);
    }
    if (b->large)
        qsort(large_of(w), b->large, sizeof *w->large, by_posting);
}

/* ---------------------------------------------------------------- the strongest first */

struct ordering {
    uint16_t ids[POSTINGS_WINDOW];
    uint8_t codes[POSTINGS_WINDOW];
};

static void order_list(const struct window *w, const struct posting_list *list, struct ordering *o)
{
    uint32_t n = list_rows(list), next[STRENGTHS + 1] = {0};
    uint16_t *ids = ids_of(w) + list->start;
    uint8_t *codes = codes_of(w) + list->start;
    memcpy(o->ids, ids, n * sizeof *ids);
    memcpy(o->codes, codes, n);
    for (uint32_t i = 0; i < n; i++)
        next[STRENGTHS - code_strength(o->codes[i])]++;
    for (uint32_t i = 0; i < STRENGTHS; i++)
        next[i + 1] += next[i];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = next[STRENGTHS - 1 - code_strength(o->codes[i])]++;
        ids[at] = o->ids[i];
        codes[at] = o->codes[i];
    }
}

/* WEIGHTS: approximate searches read the front of a list only. Nobody looks for a row in such a list, so
 * that its numbers need not ascend. */
static syna_rc order_lists(const struct window *w)
{
    struct ordering *o = mem_alloc(sizeof *o);
    if (!o)
        return syna_no_memory(sizeof *o);
    for (uint32_t i = 0; i < w->list_count; i++)
        order_list(w, &w->lists[i], o);
    mem_free(o);
    return SYNA_SUCCESS;
}

static syna_rc build(struct building *b)
{
    SYNA_TRY(table_grow(&b->table));
    SYNA_TRY(measure(b));
    SYNA_TRY(lay_out(b));
    place(b);
    if (b->p->kind == POSTINGS_WEIGHTS)
        SYNA_TRY(order_lists(b->w));
    SYNA_TRY(window_make_maxima(b->w));
    return window_make_buckets(b->w);
}

syna_rc window_build(const struct postings *p, uint32_t first, uint32_t rows, struct window *out)
{
    *out =
        (struct window){.first = first, .rows = rows, .base = p->base, .slope = expected_slope(p)};
    struct building b = {.p = p, .w = out};
    syna_rc rc = build(&b);
    mem_free(b.table.slots);
    if (rc != SYNA_SUCCESS)
        window_dispose(out);
    return rc;
}

/* ---------------------------------------------------------------- from windows
 * of counts */

struct joining {
    const struct postings *p;
    const struct window *parts;
    uint32_t part_count;
    uint32_t *next; /* of each part, its next list */
    struct window *w;
    float *impacts; /* of the list that is made */
    uint32_t lists, postings, large;
};

/* The smallest term that a part has next; false when all are at their end. */
static bool next_term(const struct joining *j, uint32_t *term)
{
    bool found = false;
    for (uint32_t i = 0; i < j->part_count; i++) {
        if (j->next[i] == j->parts[i].list_count)
            continue;
        uint32_t t = j->parts[i].lists[j->next[i]].term;
        if (!found || t < *term)
            *term = t;
        found = true;
    }
    return found;
}

/* Go over the live postings of a term in all parts. Counting only, or
 * (w->block) writing them. */
static uint32_t join_list(struct joining *j, uint32_t term)
{
    const struct window *w = j->w;
    uint32_t start = j->postings, at = start;
    for (uint32_t i = 0; i < j->part_count; i++) {
        const struct window *part = &j->parts[i];
        if (j->next[i] == part->list_count || part->lists[j->next[i]].term != term)
            continue;
        const struct posting_list *list = &part->lists[j->next[i]++];
        for (uint32_t k = list->start, end = k + list_rows(list); k < end; k++) {
            uint32_t row = part->first + part->ids[k];
            if (!postings_is_live(j->p, row))
                continue;
            if (w->block) {
                uint32_t count = window_count_at(part, k);
                ids_of(w)[at] = (uint16_t)(row - w->first);
                counts_of(w)[at] = part->counts[k];
                j->impacts[at - start] =
                    count_impact(count, row_length(j->p, row), w->base, w->slope);
                if (part->counts[k] == COUNT_LARGE)
                    large_of(w)[j->large] = (struct large_count){at, count};
            }
            j->large += part->counts[k] == COUNT_LARGE;
            at++;
        }
    }
    j->postings = at;
    return at - start;
}

static void finish_list(const struct joining *j, uint32_t term, uint32_t count)
{
    const struct window *w = j->w;
    uint32_t start = j->postings - count;
    float max = 0;
    for (uint32_t i = 0; i < count; i++)
        max = MAX(max, j->impacts[i]);
    for (uint32_t i = 0; i < count; i++)
        codes_of(w)[start + i] = code_of(j->impacts[i], max > 0 ? (float)CODE_MAX / max : 0);
    lists_of(w)[j->lists] = (struct posting_list){term, start, count, scale_of(max)};
}

static void join_lists(struct joining *j)
{
    uint32_t term = 0;
    memset(j->next, 0, j->part_count * sizeof *j->next);
    j->lists = j->postings = j->large = 0;
    while (next_term(j, &term)) {
        uint32_t count = join_list(j, term);
        if (count == 0)
            continue;
        if (j->w->block)
            finish_list(j, term, count);
        j->lists++;
    }
}

static syna_rc join(struct joining *j)
{
    join_lists(j);
    SYNA_TRY(window_alloc(j->w, true, j->lists, j->postings, j->large));
    join_lists(j);
    SYNA_TRY(window_make_maxima(j->w));
    return window_make_buckets(j->w);
}

syna_rc window_join(const struct postings *p, const struct window *parts, uint32_t count,
                    struct window *out)
{
    const struct window *last = &parts[count - 1];
    *out = (struct window){.first = parts[0].first,
                           .rows = last->first + last->rows - parts[0].first,
                           .base = p->base,
                           .slope = expected_slope(p)};
    out->held = postings_live_in(p, out->first, out->rows);
    struct joining j = {.p = p, .parts = parts, .part_count = count, .w = out};
    size_t bytes = count * sizeof *j.next + POSTINGS_WINDOW * sizeof *j.impacts;
    syna_rc rc = SYNA_SUCCESS;
    j.next = mem_alloc(bytes);
    if (j.next) {
        j.impacts = (float *)(void *)(j.next + count);
        rc = join(&j);
        mem_free(j.next);
    } else {
        rc = syna_no_memory(bytes);
    }
    if (rc != SYNA_SUCCESS)
        window_dispose(out);
    return rc;
}
