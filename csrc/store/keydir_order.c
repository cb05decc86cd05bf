/* keydir_order.c - the sorted order of a keydir: two runs read as one.
 *
 * The main run holds nearly all keys. Keys that came after it was made go to the late run, which is
 * small enough to insert into (a memory move of at most a few hundred KiB), and which is merged into
 * the main run when it exceeds 1/32 of it: so a scan after a few puts costs microseconds, and a merge
 * of everything is paid for by the many puts before it. */
#include "base/internal.h"

#include "store/keydir_core.h"

#define LATE_MIN 1024u
#define LATE_SHARE 32u

/* One sequence for all keydirs, so that a cursor from an index that has been replaced is never taken
 * for one of its successor. */
static uint64_t next_version(void)
{
    static uint64_t versions;
    return __atomic_add_fetch(&versions, 1, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- comparing */

/* A key to look for, with its first bytes as a number. */
struct probe {
    const uint8_t *key;
    size_t len;
    uint64_t prefix;
};

static syna_rc probe_entry(const struct keydir *dir, uint32_t id, uint64_t prefix,
                           struct probe *out)
{
    const struct packed_entry *p = entry_at(dir, id); /* checked when it was sorted */
    const uint8_t *key = entry_key(dir, p);
    if (UNLIKELY(!key)) /* the log has been cut back meanwhile */
        return KEYDIR_DAMAGED;
    *out = (struct probe){key, packed_key_len(p), prefix};
    return SYNA_SUCCESS;
}

/* *less: is the key at place `at` of the run before the one looked for? */
static syna_rc is_less(const struct keydir *dir, const struct order_run *run, uint32_t at,
                       const struct probe *probe, bool *less)
{
    uint64_t prefix = run->prefixes[at];
    if (prefix != probe->prefix) {
        *less = prefix < probe->prefix;
        return SYNA_SUCCESS;
    }
    struct probe found;
    SYNA_TRY(probe_entry(dir, run->ids[at], prefix, &found));
    *less = key_compare(found.key, found.len, probe->key, probe->len) < 0;
    return SYNA_SUCCESS;
}

/* The first place in [from, to) whose key is not before the one looked for. */
static syna_rc lower_bound(const struct keydir *dir, const struct order_run *run, uint32_t from,
                           uint32_t to, const struct probe *probe, uint32_t *out)
{
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        bool less;
        SYNA_TRY(is_less(dir, run, middle, probe, &less));
        if (less)
            from = middle + 1;
        else
            to = middle;
    }
    *out = from;
    return SYNA_SUCCESS;
}

/* The same in [0, to), quick when the place is near `to`. */
static syna_rc lower_bound_near(const struct keydir *dir, const struct order_run *run, uint32_t to,
                                const struct probe *probe, uint32_t *out)
{
    uint32_t from = to;
    for (uint32_t step = 1; from > 0; step = MIN(step, UINT32_MAX / 2) * 2) {
        bool less;
        from -= MIN(step, from);
        SYNA_TRY(is_less(dir, run, from, probe, &less));
        if (less)
            return lower_bound(dir, run, from + 1, to, probe, out);
        to = from;
    }
    *out = 0;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- merging */

static syna_rc run_reserve(struct order_run *run, uint32_t more, bool ahead)
{
    if (run->cap - run->count >= more)
        return SYNA_SUCCESS;
    size_t cap = (size_t)run->count + more;
    if (ahead)
        cap += cap / 2;
    cap = MIN(cap, (size_t)UINT32_MAX);
    uint64_t *prefixes = mem_resize(run->prefixes, cap * sizeof *prefixes);
    if (!prefixes)
        return syna_no_memory(cap * sizeof *prefixes);
    run->prefixes = prefixes;
    uint32_t *ids = mem_resize(run->ids, cap * sizeof *ids);
    if (!ids)
        return syna_no_memory(cap * sizeof *ids);
    run->ids = ids;
    run->cap = (uint32_t)cap;
    return SYNA_SUCCESS;
}

/* Where each key of `from` belongs in `into`: places[i] keys of `into` are before it. */
static syna_rc find_places(const struct keydir *dir, const struct order_run *into,
                           const struct order_run *from, uint32_t *places)
{
    uint32_t at = into->count;
    for (uint32_t i = from->count; i-- > 0;) {
        struct probe probe;
        SYNA_TRY(probe_entry(dir, from->ids[i], from->prefixes[i], &probe));
        SYNA_TRY(lower_bound_near(dir, into, at, &probe, &at));
        places[i] = at;
    }
    return SYNA_SUCCESS;
}

/* From the back, so that everything moves once and to the right. */
static void insert_at_places(struct order_run *into, const struct order_run *from,
                             const uint32_t *places)
{
    uint32_t end = into->count;
    for (uint32_t i = from->count; i-- > 0;) {
        uint32_t at = places[i], to = at + i + 1;
        memmove(into->prefixes + to, into->prefixes + at, (end - at) * sizeof *into->prefixes);
        memmove(into->ids + to, into->ids + at, (end - at) * sizeof *into->ids);
        into->prefixes[at + i] = from->prefixes[i];
        into->ids[at + i] = from->ids[i];
        end = at;
    }
    into->count += from->count;
}

/* Merge `from` into `into`; on failure both are as they were. */
static syna_rc run_merge(const struct keydir *dir, struct order_run *into,
                         const struct order_run *from, bool ahead)
{
    SYNA_TRY(run_reserve(into, from->count, ahead));
    uint32_t *places = mem_alloc(from->count * sizeof *places);
    if (!places)
        return syna_no_memory(from->count * sizeof *places);
    syna_rc rc = find_places(dir, into, from, places);
    if (rc == SYNA_SUCCESS)
        insert_at_places(into, from, places);
    mem_free(places);
    return rc;
}

static bool late_is_full(const struct keydir *dir)
{
    return dir->late.count > dir->main.count / LATE_SHARE + LATE_MIN;
}

static syna_rc merge_late(struct keydir *dir)
{
    syna_rc rc = run_merge(dir, &dir->main, &dir->late, false);
    if (rc == SYNA_SUCCESS)
        order_run_free(&dir->late);
    return rc;
}

static syna_rc add_fresh(struct keydir *dir, struct order_run *fresh)
{
    struct order_run *into = dir->main.count == 0 ? &dir->main : &dir->late;
    if (into->count == 0) {
        order_run_free(into);
        *into = *fresh;
        return SYNA_SUCCESS;
    }
    syna_rc rc = run_merge(dir, into, fresh, true);
    order_run_free(fresh);
    return rc;
}

syna_rc keydir_sort(struct keydir *dir)
{
    struct order_run fresh = {0};
    if (dir->ordered == dir->count)
        return SYNA_SUCCESS;
    SYNA_TRY(order_sort(dir, dir->ordered, dir->count, &fresh));
    SYNA_TRY(add_fresh(dir, &fresh));
    dir->ordered = dir->count;
    dir->order_version = next_version();
    /* Without memory for the bigger merge the two runs are still right. */
    syna_rc rc = late_is_full(dir) ? merge_late(dir) : SYNA_SUCCESS;
    return rc == SYNA_ERR_INTERNAL ? SYNA_SUCCESS : rc;
}

bool keydir_sorted(const struct keydir *dir)
{
    return dir->ordered == dir->count;
}

uint64_t keydir_order_version(const struct keydir *dir)
{
    return dir->order_version;
}

/* ---------------------------------------------------------------- walking */

syna_rc keydir_order_seek(struct keydir *dir, const void *key, size_t key_len,
                          struct order_cursor *out)
{
    struct probe probe = {key, key_len, key_prefix(key, key_len)};
    out->version = dir->order_version;
    SYNA_TRY(lower_bound(dir, &dir->main, 0, dir->main.count, &probe, &out->main));
    return lower_bound(dir, &dir->late, 0, dir->late.count, &probe, &out->late);
}

syna_rc keydir_order_next(struct keydir *dir, struct order_cursor *c, uint32_t *id)
{
    bool main_left = c->main < dir->main.count, late_left = c->late < dir->late.count;
    bool take_main = main_left;
    assert(c->version == dir->order_version);
    if (!main_left && !late_left)
        return SYNA_ERR_KEY_NOT_FOUND;
    if (main_left && late_left) {
        struct probe late;
        SYNA_TRY(probe_entry(dir, dir->late.ids[c->late], dir->late.prefixes[c->late], &late));
        SYNA_TRY(is_less(dir, &dir->main, c->main, &late, &take_main));
    }
    *id = take_main ? dir->main.ids[c->main++] : dir->late.ids[c->late++];
    return SYNA_SUCCESS;
}

/* The main run alone: the late one is short, and often in the cache. */
void keydir_order_prefetch(const struct keydir *dir, const struct order_cursor *c, uint32_t count)
{
    const struct order_run *run = &dir->main;
    uint32_t end = c->main + MIN(count, run->count - c->main);
    for (uint32_t i = c->main; i < end; i++)
        __builtin_prefetch(entry_at(dir, run->ids[i]));
    for (uint32_t i = c->main; i < end; i++) {
        const uint8_t *key = entry_key(dir, entry_at(dir, run->ids[i]));
        if (LIKELY(key != NULL))
            __builtin_prefetch(key);
    }
}
