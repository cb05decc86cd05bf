/* postings_file.c - the windows as sections of a snapshot, used in place:
 *
 *   "post"      struct postings_head
 *   "postwin"   struct window_head of each window
 *   "postlist"  the lists of all windows, one window after the other
 *   "postids"   likewise the 16-bit row numbers      "postcode"  the codes
 *   "postcnt"   COUNTS: the counts                   "postbig"   COUNTS: the large counts
 *   "postlen"   COUNTS: uint32 a row                 "postlive"  one bit a row
 *
 * Nothing is fresh when it is saved. Loading compares checksums, sizes, the range of every list, and every
 * row number with the rows of its window. */
#include "base/internal.h"

#include "index/postings_core.h"

#include <math.h>

/* Version 2: the strongest postings of a list come first. One that does not hold to it is only searched
 * less well when that is done approximately. */
#define COUNTS_VERSION 1u
#define WEIGHTS_VERSION 2u

struct postings_head {
    uint32_t version;
    uint32_t kind;
    uint32_t count;
    uint32_t window_count;
    float base, slope;
    uint64_t lists, postings, large; /* of all windows */
};

struct window_head {
    uint32_t first, rows, held;
    uint32_t list_count, posting_count, large_count;
    float base, slope;
};

static uint32_t version_of(enum postings_kind kind)
{
    return kind == POSTINGS_COUNTS ? COUNTS_VERSION : WEIGHTS_VERSION;
}

/* ---------------------------------------------------------------- saving */

static struct postings_head head_of(const struct postings *p)
{
    struct postings_head head = {
        .version = version_of(p->kind),
        .kind = p->kind,
        .count = p->count,
        .window_count = p->window_count,
        .base = p->base,
        .slope = p->slope,
    };
    for (uint32_t i = 0; i < p->window_count; i++) {
        head.lists += p->windows[i].list_count;
        head.postings += p->windows[i].posting_count;
        head.large += p->windows[i].large_count;
    }
    return head;
}

static syna_rc save_heads(const struct postings *p, struct snapshot_writer *writer)
{
    struct postings_head head = head_of(p);
    SYNA_TRY(snapshot_section(writer, "post"));
    SYNA_TRY(snapshot_append(writer, &head, sizeof head));
    SYNA_TRY(snapshot_section(writer, "postwin"));
    for (uint32_t i = 0; i < p->window_count; i++) {
        const struct window *w = &p->windows[i];
        struct window_head wh = {w->first,         w->rows,        w->held, w->list_count,
                                 w->posting_count, w->large_count, w->base, w->slope};
        SYNA_TRY(snapshot_append(writer, &wh, sizeof wh));
    }
    return SYNA_SUCCESS;
}

enum part_of { LISTS, IDS, CODES, COUNTS, LARGE };

static const void *part_bytes(const struct window *w, enum part_of part, size_t *len)
{
    switch (part) {
    case LISTS:
        *len = w->list_count * sizeof *w->lists;
        return w->lists;
    case IDS:
        *len = w->posting_count * sizeof *w->ids;
        return w->ids;
    case CODES:
        *len = w->posting_count;
        return w->codes;
    case COUNTS:
        *len = w->posting_count;
        return w->counts;
    default:
        *len = w->large_count * sizeof *w->large;
        return w->large;
    }
}

static syna_rc save_part(const struct postings *p, const char *name, enum part_of part,
                         struct snapshot_writer *writer)
{
    SYNA_TRY(snapshot_section(writer, name));
    for (uint32_t i = 0; i < p->window_count; i++) {
        size_t len;
        const void *bytes = part_bytes(&p->windows[i], part, &len);
        if (len)
            SYNA_TRY(snapshot_append(writer, bytes, len));
    }
    return SYNA_SUCCESS;
}

syna_rc postings_save(const struct postings *p, struct snapshot_writer *writer)
{
    SYNA_TRY(save_heads(p, writer));
    SYNA_TRY(save_part(p, "postlist", LISTS, writer));
    SYNA_TRY(save_part(p, "postids", IDS, writer));
    SYNA_TRY(save_part(p, "postcode", CODES, writer));
    if (p->kind == POSTINGS_COUNTS) {
        SYNA_TRY(save_part(p, "postcnt", COUNTS, writer));
        SYNA_TRY(save_part(p, "postbig", LARGE, writer));
        SYNA_TRY(snapshot_section(writer, "postlen"));
        SYNA_TRY(snapshot_append(writer, p->lengths.bytes, (size_t)p->count * 4));
    }
    SYNA_TRY(snapshot_section(writer, "postlive"));
    return snapshot_append(writer, p->live, p->live ? ((size_t)p->count + 63) / 64 * 8 : 0);
}

/* ---------------------------------------------------------------- loading */

/* Exactly `len` bytes of a section, their checksums compared; NULL when it is not so. */
static const void *take(struct snapshot *s, const char *name, uint64_t len)
{
    size_t found;
    const void *bytes = snapshot_find(s, name, &found);
    return bytes && found == len && snapshot_touch(s, bytes, found) ? bytes : NULL;
}

struct loading {
    struct postings_head head;
    const struct window_head *windows;
    const struct posting_list *lists;
    const uint16_t *ids;
    const uint8_t *codes, *counts;
    const struct large_count *large;
    const void *lengths;
    const uint64_t *live;
};

static bool not_negative(float x)
{
    return isfinite(x) && x >= 0;
}

static bool take_head(struct loading *l, struct snapshot *s, enum postings_kind kind)
{
    const void *head = take(s, "post", sizeof l->head);
    if (!head)
        return false;
    memcpy(&l->head, head, sizeof l->head);
    return l->head.version == version_of(kind) && l->head.kind == (uint32_t)kind &&
           l->head.count <= POSTINGS_ROWS_MAX && l->head.window_count <= l->head.count &&
           l->head.lists < UINT64_MAX / 64 && l->head.postings < UINT64_MAX / 64 &&
           l->head.large < UINT64_MAX / 64 && not_negative(l->head.base) &&
           not_negative(l->head.slope);
}

static bool take_sections(struct loading *l, struct snapshot *s)
{
    const struct postings_head *h = &l->head;
    l->windows = take(s, "postwin", h->window_count * sizeof *l->windows);
    l->lists = take(s, "postlist", h->lists * sizeof *l->lists);
    l->ids = take(s, "postids", h->postings * sizeof *l->ids);
    l->codes = take(s, "postcode", h->postings);
    l->live = take(s, "postlive", ((uint64_t)h->count + 63) / 64 * 8);
    if (!l->windows || !l->lists || !l->ids || !l->codes || !l->live)
        return false;
    if (h->kind == POSTINGS_WEIGHTS)
        return h->large == 0;
    l->counts = take(s, "postcnt", h->postings);
    l->large = take(s, "postbig", h->large * sizeof *l->large);
    l->lengths = take(s, "postlen", (uint64_t)h->count * 4);
    return l->counts && l->large && l->lengths;
}

static bool lists_sound(const struct window *w, bool negatives)
{
    for (uint32_t i = 0; i < w->list_count; i++) {
        const struct posting_list *list = &w->lists[i], *before = list - 1;
        if (list_rows(list) > w->rows || list->start > w->posting_count ||
            list_rows(list) > w->posting_count - list->start || !not_negative(list->scale) ||
            (list_negative(list) && !negatives))
            return false;
        if (i > 0 && (list->term < before->term ||
                      (list->term == before->term && list_negative(list) <= list_negative(before))))
            return false;
    }
    return true;
}

static bool rows_sound(const struct window *w)
{
    bool sound = true;
    for (uint32_t i = 0; i < w->posting_count; i++)
        sound &= w->ids[i] < w->rows;
    return sound;
}

/* Window i as it stands in the sections, whose unused parts begin at the three positions. */
static bool take_window(const struct loading *l, uint32_t i, uint64_t *list, uint64_t *posting,
                        uint64_t *large, struct window *out)
{
    const struct window_head *wh = &l->windows[i];
    uint64_t free_from = i ? (uint64_t)wh[-1].first + wh[-1].rows : 0;
    if (wh->rows == 0 || wh->rows > POSTINGS_WINDOW || wh->held > wh->rows ||
        wh->first < free_from || (uint64_t)wh->first + wh->rows > l->head.count ||
        wh->list_count > l->head.lists - *list ||
        wh->posting_count > l->head.postings - *posting ||
        wh->large_count > l->head.large - *large || !not_negative(wh->base) ||
        !not_negative(wh->slope))
        return false;
    *out = (struct window){
        .first = wh->first,
        .rows = wh->rows,
        .held = wh->held,
        .list_count = wh->list_count,
        .posting_count = wh->posting_count,
        .large_count = wh->large_count,
        .base = wh->base,
        .slope = wh->slope,
        .lists = l->lists + *list,
        .ids = l->ids + *posting,
        .codes = l->codes + *posting,
        .counts = l->counts ? l->counts + *posting : NULL,
        .large = l->large ? l->large + *large : NULL,
    };
    *list += wh->list_count;
    *posting += wh->posting_count;
    *large += wh->large_count;
    return lists_sound(out, l->head.kind == POSTINGS_WEIGHTS) && rows_sound(out);
}

static syna_rc take_windows(const struct loading *l, struct postings *p, bool *sound)
{
    uint64_t list = 0, posting = 0, large = 0;
    size_t bytes = l->head.window_count * sizeof *p->windows;
    *sound = true;
    if (bytes == 0)
        return SYNA_SUCCESS;
    p->windows = mem_alloc(bytes);
    if (!p->windows)
        return syna_no_memory(bytes);
    for (uint32_t i = 0; i < l->head.window_count; i++) {
        struct window *w = &p->windows[i];
        *sound = take_window(l, i, &list, &posting, &large, w);
        if (!*sound)
            return SYNA_SUCCESS;
        p->window_count++; /* whatever fails from here on, it is disposed of */
        SYNA_TRY(window_make_maxima(w));
        SYNA_TRY(window_make_buckets(w));
    }
    return SYNA_SUCCESS;
}

static syna_rc take_rows(const struct loading *l, struct postings *p, bool *sound)
{
    uint32_t count = l->head.count;
    size_t words = ((size_t)count + 63) / 64;
    *sound = count % 64 == 0 || l->live[words - 1] >> count % 64 == 0;
    if (!*sound)
        return SYNA_SUCCESS;
    SYNA_TRY(postings_reserve_rows(p, count));
    memcpy(p->live, l->live, words * 8);
    if (l->lengths)
        buf_append(&p->lengths, l->lengths, (size_t)count * 4);
    p->count = p->sealed = count;
    for (uint32_t row = 0; row < count; row++) {
        if (!postings_is_live(p, row))
            continue;
        p->live_count++;
        if (l->lengths)
            p->length_sum += row_length(p, row);
    }
    for (uint32_t i = 0; i < p->window_count; i++) {
        struct window *w = &p->windows[i];
        w->live = postings_live_in(p, w->first, w->rows);
    }
    return SYNA_SUCCESS;
}

/* Back to an empty index. */
static void forget(struct postings *p)
{
    for (uint32_t i = 0; i < p->window_count; i++)
        window_dispose(&p->windows[i]);
    mem_free(p->windows);
    p->windows = NULL;
    p->window_count = p->count = p->sealed = p->live_count = 0;
    p->length_sum = 0;
    p->lengths.len = 0;
    if (p->live)
        memset(p->live, 0, p->live_words * sizeof *p->live);
}

syna_rc postings_load(struct postings *p, struct snapshot *snapshot, bool *found)
{
    struct loading l = {0};
    *found = take_head(&l, snapshot, p->kind) && take_sections(&l, snapshot);
    if (!*found)
        return SYNA_SUCCESS;
    syna_rc rc = take_windows(&l, p, found);
    if (rc == SYNA_SUCCESS && *found)
        rc = take_rows(&l, p, found);
    if (rc != SYNA_SUCCESS || !*found) {
        forget(p);
        return rc;
    }
    p->base = l.head.base;
    p->slope = l.head.slope;
    return SYNA_SUCCESS;
}
