/* vectors_tail.c - a long fresh tail in buckets.
 *
 * Rows that are not in the graph yet are searched one after the other. A writer may be many times quicker
 * than the graph grows, and its tail a hundred thousand rows long, so from TAIL_PLAIN fresh rows on every
 * further one is put into the bucket of a leader near it, and a search that goes through the graph looks at
 * the buckets nearest to its query, LOOK_ROWS rows of them: what it takes does not grow with the tail.
 * Leaders are codes of rows, taken evenly. They stand in groups of near ones, a leader above each, so that a
 * row is compared with the leaders of its nearest groups alone.
 *
 *   0 ........ linked ........ from ................ count
 *     graph          every row        buckets
 *
 * A bucket is a chain of chunks of row numbers, newest first: rows that went into the graph stand at its end,
 * where a search stops. When the tail has become short again there are none; a longer one begins anew. What
 * is asked to be exact or names a recall, and a search with a filter, looks at all rows; other searches score
 * of a tail in buckets no more rows than of what a walk finds. */
#include "base/internal.h"

#include "engine/vectors_search.h"

#define TAIL_PLAIN 2048u
#define LEADERS 1024u
#define GROUPS 32u
#define GROUPS_NEAR 2u   /* whose leaders a row is compared with */
#define LOOK_ROWS 6144u  /* of buckets, in a search; and LOOK_EACH for each result more */
#define LOOK_EACH 16u
#define WORTH_ROWS 1024u /* fewer in buckets are looked at all */
#define CHUNK_ROWS 14u
#define NONE UINT32_MAX

/* As long as a cache line. */
struct chunk {
    uint32_t before; /* the next older one of the bucket; NONE */
    uint32_t used;
    uint32_t rows[CHUNK_ROWS]; /* ascending */
};

/* What a bucket is of. Codes stand behind the struct. */
struct tail_leaders {
    uint32_t newest[LEADERS];    /* chunk of each bucket; NONE */
    uint32_t starts[GROUPS + 1]; /* the leaders of group g are [starts[g], starts[g + 1]) */
    uint32_t chunks;             /* in use */
    uint8_t *tops;               /* a code row a group */
    uint8_t *codes;              /* a code row a leader */
    uint8_t *query;              /* room for a row as a query */
};

syna_rc vectors_tail_init(struct fresh_tail *tail)
{
    *tail = (struct fresh_tail){.from = NONE};
    return array_init(&tail->chunks, sizeof(struct chunk), VECTORS_ROWS_MAX / CHUNK_ROWS + LEADERS + 1);
}

void vectors_tail_dispose(struct fresh_tail *tail)
{
    array_dispose(&tail->chunks);
    mem_free_aligned(tail->leaders);
    *tail = (struct fresh_tail){.from = NONE};
}

static bool may_begin(const syna_vectors *store, size_t rows)
{
    return vectors_trained(store) && store->graph.linked > 0 &&
           rows > (size_t)store->graph.linked + TAIL_PLAIN;
}

static syna_rc make_leaders(syna_vectors *store)
{
    size_t stride = store->set.codes.stride, head = (sizeof(struct tail_leaders) + 63) / 64 * 64;
    size_t bytes = head + (GROUPS + LEADERS + 1) * stride;
    uint8_t *block = mem_alloc_aligned(bytes, 64);
    if (!block)
        return syna_no_memory(bytes);
    struct tail_leaders *leaders = (struct tail_leaders *)(void *)block;
    leaders->tops = block + head;
    leaders->codes = leaders->tops + GROUPS * stride;
    leaders->query = leaders->codes + LEADERS * stride;
    store->tail.leaders = leaders;
    return SYNA_SUCCESS;
}

/* Room may be wanting when the graph appeared between the promise and now: then there are no buckets. */
syna_rc vectors_tail_reserve(syna_vectors *store, size_t rows)
{
    struct fresh_tail *tail = &store->tail;
    if (!may_begin(store, rows) && tail->from == NONE)
        return SYNA_SUCCESS;
    if (!tail->leaders)
        SYNA_TRY(make_leaders(store));
    uint32_t base = tail->from == NONE ? store->graph.linked : MIN(tail->from, store->graph.linked);
    return rows > base ? array_reserve(&tail->chunks, (rows - base) / CHUNK_ROWS + LEADERS + 1)
                       : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- leaders */

static const uint8_t *leader_row(const syna_vectors *store, uint32_t l)
{
    return array_at(&store->set.code_rows, (uint32_t)((uint64_t)l * store->set.count / LEADERS));
}

/* Keys of `count` code rows, seen from one. */
static void compare(const syna_vectors *store, const uint8_t *row, const uint8_t *codes, uint32_t count,
                    int32_t *keys)
{
    const struct row_set *set = &store->set;
    struct code_query query;
    codes_query_row(&set->codes, row, store->tail.leaders->query, &query);
    codes_scan(&set->codes, set->kernels, &query, codes, count, keys);
}

static uint32_t least_of(const int32_t *keys, uint32_t count)
{
    uint32_t least = 0;
    for (uint32_t i = 1; i < count; i++)
        least = keys[i] < keys[least] ? i : least;
    return least;
}

/* Begin without a row in any bucket. */
static void choose_leaders(syna_vectors *store)
{
    struct tail_leaders *leaders = store->tail.leaders;
    size_t stride = store->set.codes.stride;
    uint32_t fill[GROUPS + 2] = {0};
    uint8_t group[LEADERS];
    int32_t keys[GROUPS];
    for (uint32_t g = 0; g < GROUPS; g++)
        memcpy(leaders->tops + g * stride, leader_row(store, g * (LEADERS / GROUPS)), stride);
    for (uint32_t l = 0; l < LEADERS; l++) {
        compare(store, leader_row(store, l), leaders->tops, GROUPS, keys);
        group[l] = (uint8_t)least_of(keys, GROUPS);
        fill[group[l] + 2]++;
    }
    for (uint32_t g = 2; g < GROUPS + 2; g++)
        fill[g] += fill[g - 1];
    for (uint32_t l = 0; l < LEADERS; l++)
        memcpy(leaders->codes + fill[group[l] + 1]++ * stride, leader_row(store, l), stride);
    memcpy(leaders->starts, fill, sizeof leaders->starts);
    memset(leaders->newest, 0xff, sizeof leaders->newest);
    leaders->chunks = 0;
}

/* The nearest leader of the group nearest to a row, and of the next ones; groups may be empty. */
static uint32_t bucket_of(const syna_vectors *store, const uint8_t *row)
{
    const struct tail_leaders *leaders = store->tail.leaders;
    int32_t tops[GROUPS], keys[LEADERS], least = INT32_MAX;
    uint32_t bucket = 0;
    compare(store, row, leaders->tops, GROUPS, tops);
    for (uint32_t near = 0; near < GROUPS_NEAR; near++) {
        uint32_t g = least_of(tops, GROUPS), start = leaders->starts[g];
        uint32_t count = leaders->starts[g + 1] - start;
        tops[g] = INT32_MAX;
        if (count == 0)
            continue;
        compare(store, row, leaders->codes + (size_t)start * store->set.codes.stride, count, keys);
        uint32_t at = least_of(keys, count);
        if (keys[at] < least) {
            least = keys[at];
            bucket = start + at;
        }
    }
    return bucket;
}

/* ---------------------------------------------------------------- putting rows in */

static struct chunk *chunk_at(const struct fresh_tail *tail, uint32_t i)
{
    return array_at(&tail->chunks, i);
}

static void put(syna_vectors *store, uint32_t row)
{
    struct fresh_tail *tail = &store->tail;
    struct tail_leaders *leaders = tail->leaders;
    uint32_t *newest = &leaders->newest[bucket_of(store, array_at(&store->set.code_rows, row))];
    if (*newest == NONE || chunk_at(tail, *newest)->used == CHUNK_ROWS) {
        if (leaders->chunks >= tail->chunks.cap) {
            tail->from = NONE;
            return;
        }
        *chunk_at(tail, leaders->chunks) = (struct chunk){.before = *newest};
        *newest = leaders->chunks++;
    }
    struct chunk *chunk = chunk_at(tail, *newest);
    chunk->rows[chunk->used++] = row;
}

void vectors_tail_add(syna_vectors *store, uint32_t row)
{
    struct fresh_tail *tail = &store->tail;
    if (!may_begin(store, row) || !tail->leaders || tail->chunks.cap == 0) {
        tail->from = NONE;
        return;
    }
    if (tail->from == NONE) {
        tail->from = row;
        choose_leaders(store);
    }
    put(store, row);
}

void vectors_tail_renew(syna_vectors *store)
{
    struct fresh_tail *tail = &store->tail;
    if (tail->from == NONE)
        return;
    choose_leaders(store);
    tail->from = MAX(tail->from, store->graph.linked); /* those before are in the graph */
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

/* A heap: no bucket is nearer than the one at half its place. Put the first in its place. */
static void sink(struct bucket *heap, uint32_t count, uint32_t at)
{
    struct bucket moved = heap[at];
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1].key < heap[child].key)
            child++;
        if (heap[child].key >= moved.key)
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* The buckets that hold rows from `first` on, as a heap. */
static syna_rc rank_buckets(const syna_vectors *store, const float *query, uint32_t first,
                            struct bucket *heap, uint32_t *count)
{
    const struct row_set *set = &store->set;
    const struct tail_leaders *leaders = store->tail.leaders;
    int32_t keys[LEADERS];
    struct code_query coded;
    uint8_t *room = mem_alloc_aligned(codes_room(&set->codes), 64);
    if (!room)
        return syna_no_memory(codes_room(&set->codes));
    codes_query(&set->codes, set->kernels, query, room, &coded);
    codes_scan(&set->codes, set->kernels, &coded, leaders->codes, LEADERS, keys);
    mem_free_aligned(room);
    *count = 0;
    for (uint32_t b = 0; b < LEADERS; b++) {
        if (leaders->newest[b] == NONE)
            continue;
        const struct chunk *chunk = chunk_at(&store->tail, leaders->newest[b]);
        if (chunk->rows[chunk->used - 1] >= first)
            heap[(*count)++] = (struct bucket){keys[b], b};
    }
    for (uint32_t at = *count / 2; at-- > 0;)
        sink(heap, *count, at);
    return SYNA_SUCCESS;
}

/* The newest live rows of a bucket, at most `most`; returns how many. */
static uint32_t take(const struct searching *s, uint32_t bucket, uint32_t first, uint32_t *out,
                     uint32_t most)
{
    const struct fresh_tail *tail = &s->store->tail;
    uint32_t count = 0;
    for (uint32_t c = tail->leaders->newest[bucket]; c != NONE;) {
        const struct chunk *chunk = chunk_at(tail, c);
        for (uint32_t i = chunk->used; i-- > 0;) {
            uint32_t row = chunk->rows[i];
            if (row < first || count == most)
                return count;
            out[count] = row;
            count += !s->chosen || (s->chosen[row / 64] >> row % 64 & 1);
        }
        c = chunk->before;
    }
    return count;
}

/* At most `look` rows from `first` on out of the buckets nearest to the query. */
static syna_rc gather(const struct searching *s, const float *query, uint32_t first, uint32_t *rows,
                      uint32_t look, uint32_t *found)
{
    struct bucket heap[LEADERS];
    uint32_t count = 0;
    *found = 0;
    SYNA_TRY(rank_buckets(s->store, query, first, heap, &count));
    while (count > 0 && *found < look) {
        *found += take(s, heap[0].number, first, rows + *found, look - *found);
        heap[0] = heap[--count];
        sink(heap, count, 0);
    }
    return SYNA_SUCCESS;
}

/* Every row from the graph on to `first`, and of those behind what is near. */
static syna_rc search_near(struct searching *s, uint32_t first, size_t q, uint32_t *rows, uint32_t look)
{
    const syna_vectors *store = s->store;
    const struct row_set *set = &store->set;
    struct hnsw *graph = (struct hnsw *)(uintptr_t)&store->graph; /* its scratch has a lock of its own */
    const float *vector = s->queries + q * set->codes.dims;
    struct hnsw_query query = {vector, vector_norm(set->kernels, vector, set->codes.dims), s->explain.ef,
                               s->chosen};
    struct hnsw_visits visits = {0};
    uint32_t found;
    SYNA_TRY(gather(s, vector, first, rows, look, &found));
    SYNA_TRY(hnsw_scan(graph, set, &query, graph->linked, first, rows, found, s->tops + q, &visits));
    s->explain.codes += LEADERS + visits.codes;
    s->explain.full += visits.full;
    return SYNA_SUCCESS;
}

syna_rc vectors_search_tail(struct searching *s)
{
    const syna_vectors *store = s->store;
    uint32_t linked = store->graph.linked, count = store->set.count;
    uint32_t first = MAX(store->tail.from, linked); /* in buckets */
    if (store->tail.from == NONE || s->how.recall > 0 || first >= count || count - first < WORTH_ROWS)
        return vectors_search_exact(s, linked, 0, s->count);
    uint32_t look = (uint32_t)MIN(LOOK_ROWS + (uint64_t)s->how.k * LOOK_EACH, count - first);
    uint32_t *rows = mem_alloc((look + 1) * sizeof *rows); /* and one that was looked at in vain */
    if (!rows)
        return syna_no_memory(look * sizeof *rows);
    s->explain.recall = 0; /* that of the buckets is not measured */
    syna_rc rc = SYNA_SUCCESS;
    for (size_t q = 0; rc == SYNA_SUCCESS && q < s->count; q++)
        rc = search_near(s, first, q, rows, look);
    mem_free(rows);
    return rc;
}
