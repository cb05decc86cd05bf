/* vectors_tail.c - a long fresh tail in buckets.
 *
 * Rows that are not in the graph yet are searched one after the other. A writer may be many times quicker
 * than the graph grows, and its tail ten thousands of rows long, so from TAIL_PLAIN fresh rows on every
 * further one is put into the bucket of the nearest of BUCKETS leaders, and a search that goes through
 * the graph looks at the PROBES buckets nearest to its query. Leaders are codes of rows, taken evenly.
 *
 *   0 ........ linked ........ from ................ count
 *     graph          every row        buckets
 *
 * A bucket is a string of bits, one for each row from `base` on, and those of 64 rows stand together: a
 * word for each bucket. When the tail has become short again there are none; a longer one begins anew. What
 * is asked to be exact or names a recall, and a search with a filter, looks at all rows. */
#include "base/internal.h"

#include "engine/vectors_search.h"

#define TAIL_PLAIN 2048u
#define BUCKETS 128u
#define PROBES 24u
#define WORTH_ROWS 1024u /* fewer in buckets are looked at all */
#define NONE UINT32_MAX

syna_rc vectors_tail_init(struct fresh_tail *tail)
{
    *tail = (struct fresh_tail){.from = NONE};
    return array_init(&tail->bits, BUCKETS * sizeof(uint64_t), VECTORS_ROWS_MAX / 64 + 2);
}

void vectors_tail_dispose(struct fresh_tail *tail)
{
    array_dispose(&tail->bits);
    mem_free_aligned(tail->leaders);
    *tail = (struct fresh_tail){.from = NONE};
}

static bool may_begin(const syna_vectors *store, size_t rows)
{
    return vectors_trained(store) && store->graph.linked > 0 &&
           rows > (size_t)store->graph.linked + TAIL_PLAIN;
}

/* Room may be wanting when the graph appeared between the promise and now: then there are no buckets. */
syna_rc vectors_tail_reserve(syna_vectors *store, size_t rows)
{
    struct fresh_tail *tail = &store->tail;
    size_t stride = store->set.codes.stride;
    if (!may_begin(store, rows) && tail->from == NONE)
        return SYNA_SUCCESS;
    if (!tail->leaders)
        tail->leaders = mem_alloc_aligned((BUCKETS + 1) * stride, 64); /* and a row as a query */
    if (!tail->leaders)
        return syna_no_memory((BUCKETS + 1) * stride);
    uint32_t base = tail->from == NONE ? store->graph.linked : MIN(tail->base, store->graph.linked);
    return rows > base ? array_reserve(&tail->bits, (rows - base) / 64 + 2) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- putting rows in */

static uint64_t *words_of(const struct fresh_tail *tail, uint32_t row)
{
    return array_at(&tail->bits, (row - tail->base) / 64);
}

static void choose_leaders(syna_vectors *store)
{
    const struct row_set *set = &store->set;
    for (uint32_t b = 0; b < BUCKETS; b++)
        memcpy(store->tail.leaders + (size_t)b * set->codes.stride,
               array_at(&set->code_rows, (uint32_t)((uint64_t)b * set->count / BUCKETS)),
               set->codes.stride);
}

static void put(syna_vectors *store, uint32_t row)
{
    struct fresh_tail *tail = &store->tail;
    const struct row_set *set = &store->set;
    int32_t keys[BUCKETS];
    struct code_query query;
    uint32_t nearest = 0;
    if ((row - tail->base) / 64 >= tail->bits.cap) {
        tail->from = NONE;
        return;
    }
    if ((row - tail->base) % 64 == 0)
        memset(words_of(tail, row), 0, BUCKETS * sizeof(uint64_t));
    codes_query_row(&set->codes, array_at(&set->code_rows, row),
                    tail->leaders + (size_t)BUCKETS * set->codes.stride, &query);
    codes_scan(&set->codes, set->kernels, &query, tail->leaders, BUCKETS, keys);
    for (uint32_t b = 1; b < BUCKETS; b++)
        nearest = keys[b] < keys[nearest] ? b : nearest;
    words_of(tail, row)[nearest] |= 1ull << row % 64;
}

void vectors_tail_add(syna_vectors *store, uint32_t row)
{
    struct fresh_tail *tail = &store->tail;
    if (!may_begin(store, row) || !tail->leaders || tail->bits.cap == 0) {
        tail->from = NONE;
        return;
    }
    if (tail->from == NONE) {
        tail->from = row;
        tail->base = row / 64 * 64;
        choose_leaders(store);
        memset(words_of(tail, row), 0, BUCKETS * sizeof(uint64_t));
    }
    put(store, row);
}

void vectors_tail_renew(syna_vectors *store)
{
    struct fresh_tail *tail = &store->tail;
    if (tail->from == NONE)
        return;
    choose_leaders(store);
    memset(words_of(tail, tail->from), 0, BUCKETS * sizeof(uint64_t));
    for (uint32_t row = tail->from; row < store->set.count && tail->from != NONE; row++)
        put(store, row);
}

void vectors_tail_forget(syna_vectors *store)
{
    store->tail.from = NONE;
}

/* ---------------------------------------------------------------- searching */

struct bucket {
    int32_t key;
    uint32_t number;
};

/* The PROBES nearest ones. */
static syna_rc nearest_buckets(const syna_vectors *store, const float *query, uint32_t *out)
{
    const struct row_set *set = &store->set;
    int32_t keys[BUCKETS];
    struct code_query coded;
    uint8_t *room = mem_alloc_aligned(codes_room(&set->codes), 64);
    if (!room)
        return syna_no_memory(codes_room(&set->codes));
    codes_query(&set->codes, set->kernels, query, room, &coded);
    codes_scan(&set->codes, set->kernels, &coded, store->tail.leaders, BUCKETS, keys);
    mem_free_aligned(room);
    struct bucket best[PROBES];
    for (uint32_t i = 0; i < PROBES; i++)
        best[i] = (struct bucket){INT32_MAX, 0};
    for (uint32_t b = 0; b < BUCKETS; b++) {
        uint32_t at = PROBES;
        while (at > 0 && keys[b] < best[at - 1].key) {
            if (at < PROBES)
                best[at] = best[at - 1];
            at--;
        }
        if (at < PROBES)
            best[at] = (struct bucket){keys[b], b};
    }
    for (uint32_t i = 0; i < PROBES; i++)
        out[i] = best[i].number;
    return SYNA_SUCCESS;
}

/* One bit for each live row of these buckets from `first` on; returns how many. */
static uint64_t gather(const struct searching *s, const uint32_t *buckets, uint32_t first, uint64_t *bits)
{
    const struct fresh_tail *tail = &s->store->tail;
    uint64_t count = 0;
    for (uint32_t row = first / 64 * 64; row < s->store->set.count; row += 64) {
        const uint64_t *words = words_of(tail, row);
        uint64_t any = 0;
        for (uint32_t i = 0; i < PROBES; i++)
            any |= words[buckets[i]];
        if (s->chosen)
            any &= s->chosen[row / 64];
        if (row < first)
            any &= ~0ull << (first - row);
        bits[row / 64] = any;
        count += (uint64_t)__builtin_popcountll(any);
    }
    return count;
}

static syna_rc search_buckets(struct searching *s, uint32_t first, size_t q, uint64_t *bits)
{
    const struct row_set *set = &s->store->set;
    const float *query = s->queries + q * set->codes.dims;
    uint32_t buckets[PROBES] = {0};
    uint64_t full = 0;
    SYNA_TRY(nearest_buckets(s->store, query, buckets));
    s->explain.codes += BUCKETS + gather(s, buckets, first, bits);
    SYNA_TRY(exact_search(set, first, set->count - first, bits, query, 1, s->tops + q, &full));
    s->explain.full += full;
    return SYNA_SUCCESS;
}

syna_rc vectors_search_tail(struct searching *s)
{
    const syna_vectors *store = s->store;
    uint32_t linked = store->graph.linked, count = store->set.count;
    uint32_t first = MAX(store->tail.from, linked); /* in buckets */
    if (store->tail.from == NONE || s->how.recall > 0 || first >= count || count - first < WORTH_ROWS)
        return vectors_search_exact(s, linked, 0, s->count);
    uint64_t *bits = mem_alloc((count / 64 + 1) * sizeof *bits);
    if (!bits)
        return syna_no_memory((count / 64 + 1) * sizeof *bits);
    s->explain.recall = 0; /* that of the buckets is not measured */
    syna_rc rc = vectors_search_range(s, linked, first, 0, s->count);
    for (size_t q = 0; rc == SYNA_SUCCESS && q < s->count; q++)
        rc = search_buckets(s, first, q, bits);
    mem_free(bits);
    return rc;
}
