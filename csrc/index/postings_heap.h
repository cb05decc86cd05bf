/* What a search puts in order. Candidates as a heap, the largest on top: sum << 16 | row of the window, so that
 * they compare as their sums do. Which sums are large, by counting them. Keys of lists. For postings*.c
 * files only. */
#ifndef SYNA_INDEX_POSTINGS_HEAP_H
#define SYNA_INDEX_POSTINGS_HEAP_H

#include "base/internal.h"

static inline void sink(uint32_t *heap, size_t count, size_t at)
{
    uint32_t item = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= item)
            break;
        heap[at] = heap[child];
    }
    heap[at] = item;
}

static inline void make_heap(uint32_t *heap, size_t count)
{
    for (size_t at = count / 2; at-- > 0;)
        sink(heap, count, at);
}

static inline uint32_t take_largest(uint32_t *heap, size_t *count)
{
    uint32_t largest = heap[0];
    heap[0] = heap[--*count];
    if (*count)
        sink(heap, *count, 0);
    return largest;
}

/* How many sums there are of each high byte. Neighbours are often alike: counted in turns in four places,
 * none waits for the one before. */
#define BINS 256u
struct bins {
    uint32_t counts[4][BINS];
};

static inline void bins_count(struct bins *b, size_t turn, uint16_t sum)
{
    b->counts[turn % 4][sum >> 8]++;
}

/* What at least `wanted` of the sums reach, rounded down to 256 units; 0 when fewer do. */
static inline uint16_t bins_reached(const struct bins *b, size_t wanted)
{
    size_t above = 0;
    for (uint32_t bin = BINS - 1; bin > 0; bin--) {
        above += b->counts[0][bin] + b->counts[1][bin] + b->counts[2][bin] + b->counts[3][bin];
        if (above >= wanted)
            return (uint16_t)(bin << 8);
    }
    return 0;
}

/* The same of block maxima. */
static inline uint16_t common_maximum(const uint16_t *maxima, uint32_t blocks, size_t wanted)
{
    struct bins bins = {0};
    for (uint32_t i = 0; i < blocks; i++)
        bins_count(&bins, i, maxima[i]);
    return bins_reached(&bins, wanted);
}

/* ---- keys of the lists of a query, ascending */

#define INSERTION_MAX 64u /* of an everyday query: no call a compare */

static inline int by_key(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static inline void sort_keys(uint64_t *keys, uint32_t count)
{
    if (count > INSERTION_MAX) {
        qsort(keys, count, sizeof *keys, by_key);
        return;
    }
    for (uint32_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        uint32_t at = i;
        for (; at > 0 && key < keys[at - 1]; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

#endif
