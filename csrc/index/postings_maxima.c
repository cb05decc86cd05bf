/* postings_maxima.c - what the long lists of a window can add at most to each
 * group of rows, and where in a list a row is.
 *
 * A list with a posting in every sixteenth row is long to add up, and one byte
 * a group of eight rows bounds it well: searches leave such lists out and look
 * at their groups' bounds instead. They are made from the postings when a
 * window is made or loaded; shorter lists would take more room than their
 * postings. Of COUNTS, whose rows are scored from the lists, the same ones have
 * their postings counted by blocks of 64 rows, so that a row is looked for
 * among 64 postings at most. */
#include "base/internal.h"

#include "index/postings_core.h"

#define WIDE_SHARE 16u  /* a list is wide that has a posting in every so many rows */
#define WIDE_ROWS 4096u /* smaller windows have none: adding everything is as cheap */

static bool is_wide(const struct window *w, const struct posting_list *list)
{
    return w->rows >= WIDE_ROWS && (uint64_t)list_rows(list) * WIDE_SHARE >= w->rows;
}

static uint32_t count_wide(const struct window *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->list_count; i++)
        count += is_wide(w, &w->lists[i]);
    return count;
}

static void fill(const struct window *w, const struct posting_list *list, uint8_t *maxima)
{
    const uint16_t *ids = w->ids + list->start;
    const uint8_t *codes = w->codes + list->start;
    for (uint32_t i = 0, n = list_rows(list); i < n; i++) {
        uint8_t *of_group = &maxima[ids[i] / ACCUMULATE_GROUP];
        *of_group = MAX(*of_group, codes[i]);
    }
}

/* starts[b] = postings of rows before block b. */
static void count_starts(const struct window *w, const struct posting_list *list, uint16_t *starts)
{
    const uint16_t *ids = w->ids + list->start;
    uint32_t block = 0, blocks = window_blocks(w), n = list_rows(list);
    for (uint32_t i = 0; i < n; i++)
        while (block < blocks && block <= ids[i] / ACCUMULATE_BLOCK)
            starts[block++] = (uint16_t)i;
    while (block < blocks)
        starts[block++] = (uint16_t)n;
}

syna_rc window_make_maxima(struct window *w)
{
    uint32_t count = count_wide(w), at = 0;
    w->groups =
        (w->rows + ACCUMULATE_BLOCK - 1) / ACCUMULATE_BLOCK * (ACCUMULATE_BLOCK / ACCUMULATE_GROUP);
    if (count == 0)
        return SYNA_SUCCESS;
    size_t starts = w->counts ? (size_t)count * window_blocks(w) * sizeof *w->starts : 0;
    size_t bytes = count * sizeof *w->wide + starts + (size_t)count * w->groups;
    w->wide = mem_zalloc(bytes);
    if (!w->wide)
        return syna_no_memory(bytes);
    w->wide_count = count;
    w->starts = starts ? (uint16_t *)(void *)(w->wide + count) : NULL;
    w->maxima = (uint8_t *)(w->wide + count) + starts;
    for (uint32_t i = 0; i < w->list_count; i++) {
        if (!is_wide(w, &w->lists[i]))
            continue;
        w->wide[at] = i;
        fill(w, &w->lists[i], w->maxima + (size_t)at * w->groups);
        if (starts)
            count_starts(w, &w->lists[i], w->starts + (size_t)at * window_blocks(w));
        at++;
    }
    return SYNA_SUCCESS;
}

/* Which of the wide lists it is; wide_count when it is none. */
static uint32_t find_wide(const struct window *w, const struct posting_list *list)
{
    uint32_t wanted = (uint32_t)(list - w->lists), low = 0, high = w->wide_count;
    if (!is_wide(w, list))
        return w->wide_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (w->wide[mid] < wanted)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const uint8_t *window_maxima(const struct window *w, const struct posting_list *list)
{
    uint32_t at = find_wide(w, list);
    return at < w->wide_count ? w->maxima + (size_t)at * w->groups : NULL;
}

const uint16_t *window_starts(const struct window *w, const struct posting_list *list)
{
    uint32_t at = w->starts ? find_wide(w, list) : w->wide_count;
    return at < w->wide_count ? w->starts + (size_t)at * window_blocks(w) : NULL;
}
