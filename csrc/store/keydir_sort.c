/* keydir_sort.c - entry numbers in the order of their keys.
 *
 * Eight bytes of every key are gathered as a number and the pairs (number, entry) are sorted; where
 * numbers are equal, the same is done with the next eight bytes behind what those keys have in
 * common. All sorts are stable: keys not yet told apart stay in the order in which they came, which
 * is mostly the order in which they lie in the log, so that gathering reads it from front to back.
 * What remains to be sorted deeper is kept on a stack of our own, as keys may share 64 KiB. */
#include "base/internal.h"

#include "base/vec.h"
#include "store/keydir_core.h"

#define INSERTION_MAX 24u /* up to here insertion beats merging */
#define RADIX_MIN 2048u   /* from here on eight counting passes beat merging */
#define AHEAD 8u          /* keys fetched ahead of use */

struct sorter {
    const struct keydir *dir;
    struct map_walk *walk; /* through the log */
    uint64_t *chunks; /* what is sorted by, per place */
    uint64_t *spare_chunks;
    uint32_t *ids, *spare_ids;
    struct buf stack; /* struct span[] */
};

/* Places [from, to) hold keys that agree in their first `depth` bytes. */
struct span {
    uint32_t from, to, depth;
};

static uint64_t chunk_at(const uint8_t *key, size_t key_len, size_t depth)
{
    uint64_t chunk = 0;
    size_t left = key_len > depth ? key_len - depth : 0;
    memcpy(&chunk, key + MIN(depth, key_len), MIN(left, sizeof chunk));
    return __builtin_bswap64(chunk);
}

uint64_t key_prefix(const uint8_t *key, size_t key_len)
{
    return chunk_at(key, key_len, 0);
}

int key_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int sign = memcmp(a, b, MIN(a_len, b_len));
    return sign ? sign : (a_len > b_len) - (a_len < b_len);
}

/* ---------------------------------------------------------------- sorting pairs, stable */

static void insertion_sort(uint64_t *chunks, uint32_t *ids, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t chunk = chunks[i];
        uint32_t id = ids[i];
        size_t j = i;
        for (; j > 0 && chunks[j - 1] > chunk; j--) {
            chunks[j] = chunks[j - 1];
            ids[j] = ids[j - 1];
        }
        chunks[j] = chunk;
        ids[j] = id;
    }
}

static void merge_sort(struct sorter *s, uint64_t *chunks, uint32_t *ids, size_t count)
{
    if (count <= INSERTION_MAX) {
        insertion_sort(chunks, ids, count);
        return;
    }
    size_t half = count / 2;
    merge_sort(s, chunks, ids, half);
    merge_sort(s, chunks + half, ids + half, count - half);
    if (chunks[half - 1] <= chunks[half])
        return;
    memcpy(s->spare_chunks, chunks, half * sizeof *chunks);
    memcpy(s->spare_ids, ids, half * sizeof *ids);
    for (size_t a = 0, b = half, to = 0; a < half; to++) {
        bool second = b < count && chunks[b] < s->spare_chunks[a];
        chunks[to] = second ? chunks[b] : s->spare_chunks[a];
        ids[to] = second ? ids[b] : s->spare_ids[a];
        b += second;
        a += !second;
    }
}

/* One counting pass by the byte at `shift`, into the other pair of arrays. */
static void radix_pass(const uint64_t *chunks, const uint32_t *ids, size_t count, unsigned shift,
                       const uint32_t counts[256], uint64_t *to_chunks, uint32_t *to_ids)
{
    uint32_t at[256], sum = 0;
    for (unsigned i = 0; i < 256; i++) {
        at[i] = sum;
        sum += counts[i];
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t to = at[chunks[i] >> shift & 0xff]++;
        to_chunks[to] = chunks[i];
        to_ids[to] = ids[i];
    }
}

static void radix_sort(struct sorter *s, uint64_t *chunks, uint32_t *ids, size_t count)
{
    uint32_t counts[8][256] = {{0}};
    for (size_t i = 0; i < count; i++)
        for (unsigned b = 0; b < 8; b++)
            counts[b][chunks[i] >> (8 * b) & 0xff]++;

    bool swapped = false;
    for (unsigned b = 0; b < 8; b++) {
        if (counts[b][chunks[0] >> (8 * b) & 0xff] == count)
            continue; /* all the same */
        if (swapped)
            radix_pass(s->spare_chunks, s->spare_ids, count, 8 * b, counts[b], chunks, ids);
        else
            radix_pass(chunks, ids, count, 8 * b, counts[b], s->spare_chunks, s->spare_ids);
        swapped = !swapped;
    }
    if (swapped) {
        memcpy(chunks, s->spare_chunks, count * sizeof *chunks);
        memcpy(ids, s->spare_ids, count * sizeof *ids);
    }
}

static void sort_pairs(struct sorter *s, uint64_t *chunks, uint32_t *ids, size_t count)
{
    if (count >= RADIX_MIN)
        radix_sort(s, chunks, ids, count);
    else
        merge_sort(s, chunks, ids, count);
}

/* ---------------------------------------------------------------- equal pairs */

/* An entry whose key has been gathered before, so it is known to lie in the log. */
static const uint8_t *key_of(const struct sorter *s, uint32_t id, size_t *len)
{
    const struct packed_entry *p = entry_at(s->dir, id);
    *len = packed_key_len(p);
    const uint8_t *key = kvlog_key(s->dir->log, packed_offset(p));
    map_walked(&s->dir->log->map, s->walk, key, *len);
    return key;
}

static void sort_few(const struct sorter *s, uint32_t *ids, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint32_t id = ids[i];
        size_t len, j = i;
        const uint8_t *key = key_of(s, id, &len);
        for (; j > 0; j--) {
            size_t other_len;
            const uint8_t *other = key_of(s, ids[j - 1], &other_len);
            if (key_compare(other, other_len, key, len) <= 0)
                break;
            ids[j] = ids[j - 1];
        }
        ids[j] = id;
    }
}

/* Look for equal chunks in [from, to), sorted down to `depth`, and see to their order. */
static bool push_equal(struct sorter *s, const uint64_t *chunks, uint32_t from, uint32_t to,
                       size_t depth)
{
    for (uint32_t i = from, next; i < to; i = next) {
        for (next = i + 1; next < to && chunks[next] == chunks[i];)
            next++;
        if (next - i <= INSERTION_MAX) {
            sort_few(s, s->ids + i, next - i);
            continue;
        }
        struct span span = {i, next, (uint32_t)depth};
        if (!buf_append(&s->stack, &span, sizeof span))
            return false;
    }
    return true;
}

/* How many bytes all keys of the span have in common: at least span->depth, padding left out. */
static size_t common_length(const struct sorter *s, const struct span *span)
{
    size_t common, len;
    const uint8_t *first = key_of(s, s->ids[span->from], &common);
    for (uint32_t i = span->from + 1; i < span->to; i++) {
        const uint8_t *key = key_of(s, s->ids[i], &len);
        size_t most = MIN(common, len), at = MIN(most, span->depth);
        if (key == first)
            continue;
        while (at + 8 <= most && load_u64(first + at) == load_u64(key + at))
            at += 8;
        while (at < most && first[at] == key[at])
            at++;
        common = at;
    }
    return common;
}

/* Move keys that end at `depth` to the front, in order of length. Returns how many. (More than one
 * is possible only where keys hold NUL bytes or a checkpoint tells lies.) */
static uint32_t put_ended_first(struct sorter *s, const struct span *span, size_t depth)
{
    uint32_t ended = 0, rest = 0;
    for (uint32_t i = span->from; i < span->to; i++) {
        size_t len;
        uint32_t id = s->ids[i];
        key_of(s, id, &len);
        if (len > depth) {
            s->spare_ids[rest++] = id;
        } else {
            s->chunks[span->from + ended] = len;
            s->ids[span->from + ended++] = id;
        }
    }
    memcpy(s->ids + span->from + ended, s->spare_ids, rest * sizeof *s->ids);
    merge_sort(s, s->chunks + span->from, s->ids + span->from, ended);
    return ended;
}

static bool sort_span(struct sorter *s, struct span span)
{
    size_t depth = common_length(s, &span);
    span.from += put_ended_first(s, &span, depth);
    for (uint32_t i = span.from; i < span.to; i++) {
        size_t len;
        const uint8_t *key = key_of(s, s->ids[i], &len);
        s->chunks[i] = chunk_at(key, len, depth);
    }
    sort_pairs(s, s->chunks + span.from, s->ids + span.from, span.to - span.from);
    return push_equal(s, s->chunks, span.from, span.to, depth);
}

/* ---------------------------------------------------------------- the whole */

static bool run_new(struct order_run *run, uint32_t count)
{
    run->prefixes = mem_alloc((size_t)count * sizeof *run->prefixes);
    run->ids = mem_alloc((size_t)count * sizeof *run->ids);
    run->count = run->cap = count;
    return run->prefixes && run->ids;
}

void order_run_free(struct order_run *run)
{
    mem_free(run->prefixes);
    mem_free(run->ids);
    *run = (struct order_run){0};
}

static void fetch_ahead(const struct keydir *dir, uint32_t id, uint32_t to)
{
    if (to - id <= AHEAD || id + AHEAD < dir->mapped_entries)
        return;
    const uint8_t *key = entry_key(dir, entry_at(dir, id + AHEAD));
    if (key)
        __builtin_prefetch(key);
}

/* Prefixes in the order of entries. This is where every key is read and compared with its hash. */
static syna_rc gather(const struct keydir *dir, uint32_t from, uint32_t to, struct map_walk *walk,
                      struct order_run *run)
{
    for (uint32_t id = from; id < to; id++) {
        fetch_ahead(dir, id, to);
        const struct packed_entry *p = entry_get(dir, id);
        const uint8_t *key = p ? entry_key(dir, p) : NULL;
        if (UNLIKELY(!key))
            return KEYDIR_DAMAGED;
        uint16_t len = packed_key_len(p);
        map_walked(&dir->log->map, walk, key, len);
        if (UNLIKELY((uint32_t)keydir_hash(dir, key, len) != p->hash))
            return keydir_judge(dir, p); /* never a key of the same hash: the hash is what differs */
        run->prefixes[id - from] = key_prefix(key, len);
        run->ids[id - from] = id;
    }
    return SYNA_SUCCESS;
}

static bool sort_all(struct sorter *s, struct order_run *run)
{
    s->ids = run->ids;
    s->chunks = run->prefixes;
    sort_pairs(s, run->prefixes, run->ids, run->count);
    if (!push_equal(s, run->prefixes, 0, run->count, 0))
        return false;
    if (s->stack.len == 0)
        return true;

    /* Prefixes stay; deeper chunks need a place of their own. */
    s->chunks = mem_alloc((size_t)run->count * sizeof *s->chunks);
    bool ok = s->chunks != NULL;
    while (ok && s->stack.len) {
        struct span span;
        s->stack.len -= sizeof span;
        memcpy(&span, s->stack.bytes + s->stack.len, sizeof span);
        ok = sort_span(s, span);
    }
    mem_free(s->chunks);
    return ok;
}

static syna_rc sort_run(const struct keydir *dir, struct map_walk *walk, struct order_run *run)
{
    struct sorter s = {.dir = dir, .walk = walk};
    s.spare_chunks = mem_alloc((size_t)run->count * sizeof *s.spare_chunks);
    s.spare_ids = mem_alloc((size_t)run->count * sizeof *s.spare_ids);
    bool ok = s.spare_chunks && s.spare_ids && sort_all(&s, run);
    mem_free(s.spare_chunks);
    mem_free(s.spare_ids);
    buf_dispose(&s.stack);
    return ok ? SYNA_SUCCESS : syna_no_memory((size_t)run->count * sizeof *run->prefixes);
}

syna_rc order_sort(const struct keydir *dir, uint32_t from, uint32_t to, struct order_run *run)
{
    struct map_walk walk = {0};
    syna_rc rc = run_new(run, to - from) ? gather(dir, from, to, &walk, run)
                                         : syna_no_memory((size_t)(to - from) * sizeof *run->ids);
    if (rc == SYNA_SUCCESS)
        rc = sort_run(dir, &walk, run);
    if (rc != SYNA_SUCCESS)
        order_run_free(run);
    return rc;
}
