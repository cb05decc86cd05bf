/* The k best rows: a binary heap of the rows kept, worst on top, sorted by taking the top off. */
#include "base/internal.h"

#include "math/topk.h"

static bool better(struct ranked a, struct ranked b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.row < b.row);
}

void topk_init(struct topk *t, size_t k, float limit)
{
    *t = (struct topk){.k = k, .limit = limit};
}

void topk_dispose(struct topk *t)
{
    mem_free(t->items);
    *t = (struct topk){0};
}

static bool reserve_one(struct topk *t)
{
    if (t->count < t->cap)
        return true;
    size_t cap = MIN(t->k, t->cap ? 2 * t->cap : 16);
    struct ranked *items = mem_resize(t->items, cap * sizeof *items);
    if (!items)
        return false;
    t->items = items;
    t->cap = cap;
    return true;
}

/* Let `item` rise from the free place `at`. */
static void sift_up(struct ranked *heap, size_t at, struct ranked item)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!better(heap[parent], item))
            break;
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = item;
}

/* Let `item` sink from the free top of a heap of `count`. */
static void sift_down(struct ranked *heap, size_t count, struct ranked item)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && better(heap[child], heap[child + 1]))
            child++;
        if (!better(item, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = item;
}

bool topk_offer(struct topk *t, float rank, uint32_t row)
{
    struct ranked item = {rank, row};
    if (t->k == 0 || rank > t->limit)
        return true;
    if (t->count < t->k) {
        if (!reserve_one(t))
            return false;
        sift_up(t->items, t->count++, item);
    } else if (better(item, t->items[0])) {
        sift_down(t->items, t->count, item);
    }
    return true;
}

void topk_sort(struct topk *t)
{
    for (size_t count = t->count; count > 1; count--) {
        struct ranked worst = t->items[0];
        sift_down(t->items, count - 1, t->items[count - 1]);
        t->items[count - 1] = worst;
    }
}
