/* text_order.c - the terms of an index in the order of their bytes. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_order.h"

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int differ = memcmp(a, b, MIN(a_len, b_len));
    return differ ? differ : (a_len > b_len) - (a_len < b_len);
}

static int by_bytes(const void *left, const void *right, void *context)
{
    size_t a_len, b_len;
    const char *a = names_at(context, *(const uint32_t *)left, &a_len);
    const char *b = names_at(context, *(const uint32_t *)right, &b_len);
    return compare(a, a_len, b, b_len);
}

syna_rc text_order_make(struct buf *order, const struct names *names)
{
    struct names *context = (struct names *)(uintptr_t)names; /* only read */
    uint32_t *numbers = (uint32_t *)(void *)buf_extend(order, names->count * sizeof *numbers);
    if (!numbers)
        return syna_no_memory(names->count * sizeof *numbers);
    for (uint32_t i = 0; i < names->count; i++)
        numbers[i] = i;
    qsort_r(numbers, names->count, sizeof *numbers, by_bytes, context);
    return SYNA_SUCCESS;
}

size_t text_order_first(const struct buf *order, const struct names *names, const char *bytes,
                        size_t len)
{
    const uint32_t *numbers = (const uint32_t *)(const void *)order->bytes;
    size_t low = 0, high = order->len / sizeof *numbers;
    while (low < high) {
        size_t middle = low + (high - low) / 2, name_len;
        const char *name = names_at(names, numbers[middle], &name_len);
        if (compare(name, name_len, bytes, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
