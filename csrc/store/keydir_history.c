/* Where histories are kept: encoding, appending, growing. Reading is in history.c.
 *
 * A key gets a history with its second record, or with its first when that is a column block (an
 * entry has no room for a block's count). The structs live in segments that never move. A history
 * that lies in the checkpoint is copied when it is first appended to; its old place stays unused.
 *
 * A reservation cannot know which histories will grow, so it keeps a list with one place for each
 * record to come: what a history has no memory for is spilled there, and put where it belongs as
 * soon as there is memory again. Spilled records of one entry are always its newest, in order. */
#include "base/internal.h"

#include "store/column.h"
#include "store/keydir_core.h"

#define BIG_CAP_MIN 64u

static inline uint64_t records_of(const struct history *h) { return h->head >> 8; }
static inline bool is_big(const struct history *h) { return (h->head & 0xff) == BIG; }
static inline uint64_t small_len(const struct history *h) { return h->head & 0xff; }

/* Restarts of a history with this many records: one before each 64th, but not before the first. */
static inline uint64_t restart_count(uint64_t records)
{
    return records ? (records - 1) / RESTART_EVERY : 0;
}

static struct history *history_at(const struct keydir *dir, uint32_t handle)
{
    uint32_t i = handle - dir->mapped_histories - 1;
    return &dir->history_segments[i >> HISTORY_SEGMENT_BITS][i & (HISTORY_SEGMENT - 1)];
}

/* ---------------------------------------------------------------- structs */

static syna_rc grow_segment_list(struct keydir *dir)
{
    uint32_t cap = MAX(dir->history_segment_cap * 2, 8u);
    struct history **list = mem_resize(dir->history_segments, cap * sizeof *list);
    if (!list)
        return syna_no_memory(cap * sizeof *list);
    dir->history_segments = list;
    dir->history_segment_cap = cap;
    return SYNA_SUCCESS;
}

static syna_rc reserve_structs(struct keydir *dir, size_t histories)
{
    uint64_t own = (uint64_t)dir->history_count - dir->mapped_histories;
    if (UNLIKELY(histories > HISTORY_MAX - dir->history_count))
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%s: at most %u keys of one database can have more than one record",
                         dir->log->file.path, HISTORY_MAX);
    while ((uint64_t)dir->history_segment_count << HISTORY_SEGMENT_BITS < own + histories) {
        if (dir->history_segment_count == dir->history_segment_cap)
            SYNA_TRY(grow_segment_list(dir));
        struct history *segment = mem_alloc(HISTORY_SEGMENT * sizeof *segment);
        if (!segment)
            return syna_no_memory(HISTORY_SEGMENT * sizeof *segment);
        dir->history_segments[dir->history_segment_count++] = segment;
    }
    return SYNA_SUCCESS;
}

/* An empty history; its number is taken only by commit_history. */
static syna_rc new_history(struct keydir *dir, struct history **out)
{
    SYNA_TRY(reserve_structs(dir, 1));
    *out = history_at(dir, dir->history_count + 1);
    memset(*out, 0, sizeof **out);
    return SYNA_SUCCESS;
}

static void commit_history(struct keydir *dir, struct packed_entry *p)
{
    dir->history_count++;
    p->chain = (p->chain & ~(uint32_t)HISTORY_MAX) | dir->history_count;
}

void histories_free(struct keydir *dir)
{
    for (uint32_t handle = dir->mapped_histories + 1; handle <= dir->history_count; handle++) {
        struct history *h = history_at(dir, handle);
        if (is_big(h))
            mem_free(h->big.bytes);
    }
    for (uint32_t i = 0; i < dir->history_segment_count; i++)
        mem_free(dir->history_segments[i]);
    mem_free(dir->history_segments);
    mem_free(dir->spilled);
}

/* ---------------------------------------------------------------- bytes of one history */

static size_t encode(uint64_t distance, uint32_t count, uint8_t out[RECORD_BYTES_MAX])
{
    size_t n = varint_put(out, distance << 1 | (count != 0));
    return count ? n + varint_put(out + n, count) : n;
}

/* A buffer of at least `need` bytes for a history whose bytes are still in the struct. */
static bool make_big(struct keydir *dir, struct history *h, uint64_t need)
{
    uint64_t cap = MAX((need + 15) & ~(uint64_t)15, (uint64_t)BIG_CAP_MIN);
    uint64_t len = small_len(h);
    uint8_t *bytes = mem_alloc((size_t)cap);
    if (!bytes)
        return false;
    memcpy(bytes, h->small, (size_t)len);
    h->big.bytes = bytes;
    h->big.len = len;
    h->big.cap = cap;
    h->head |= BIG;
    dir->history_heap += cap;
    return true;
}

static bool grow_big(struct keydir *dir, struct history *h, uint64_t need)
{
    uint64_t tail = restart_count(records_of(h)) * RESTART_BYTES;
    uint64_t cap = MAX(h->big.cap + h->big.cap / 2, need);
    cap = (cap + 15) & ~(uint64_t)15;
    uint8_t *bytes = mem_resize(h->big.bytes, (size_t)cap);
    if (!bytes)
        return false;
    memmove(bytes + cap - tail, bytes + h->big.cap - tail, (size_t)tail);
    dir->history_heap += cap - h->big.cap;
    h->big.bytes = bytes;
    h->big.cap = cap;
    return true;
}

/* Make sure that `n` more bytes and, when `restart`, one more restart fit. */
static bool make_room(struct keydir *dir, struct history *h, uint64_t n, bool restart)
{
    uint64_t restarts = restart_count(records_of(h)) + restart;
    uint64_t len = is_big(h) ? h->big.len : small_len(h);
    uint64_t need = len + n + restarts * RESTART_BYTES;
    if (is_big(h))
        return need <= h->big.cap || grow_big(dir, h, need);
    return need <= SMALL_BYTES || make_big(dir, h, need);
}

static void add_restart(struct history *h)
{
    uint64_t k = records_of(h) / RESTART_EVERY;
    uint8_t *restart = h->big.bytes + h->big.cap - k * RESTART_BYTES;
    store_u64(restart, h->last);
    store_u64(restart + 8, h->big.len);
}

static bool append(struct keydir *dir, struct history *h, uint64_t offset, uint32_t count)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    size_t n = encode(offset - h->last, count, bytes);
    bool restart = records_of(h) != 0 && records_of(h) % RESTART_EVERY == 0;
    if (!make_room(dir, h, n, restart))
        return false;
    if (restart)
        add_restart(h);
    if (is_big(h)) {
        memcpy(h->big.bytes + h->big.len, bytes, n);
        h->big.len += n;
    } else {
        memcpy(h->small + small_len(h), bytes, n);
        h->head += n;
    }
    h->last = offset;
    h->head += (uint64_t)1 << 8;
    return true;
}

/* ---------------------------------------------------------------- looking */

static bool view_saved(const struct keydir *dir, uint32_t handle, struct history_view *out)
{
    const struct saved_history *s = &dir->saved_histories[handle - 1];
    if (!snapshot_touch(dir->snapshot, s, sizeof *s))
        return false;
    uint64_t left = dir->saved_records_len;
    if (s->records == 0 || s->at > left || s->len > left - s->at || s->records > s->len)
        return false; /* a record is at least one byte */
    uint64_t restarts_at = (s->at + s->len + 7) & ~(uint64_t)7;
    uint64_t restarts_len = restart_count(s->records) * RESTART_BYTES;
    if (restarts_at > left || restarts_len > left - restarts_at)
        return false;
    const uint8_t *bytes = dir->saved_records + s->at;
    out->bytes = bytes;
    out->end = bytes + s->len;
    out->restarts = dir->saved_records + restarts_at;
    out->step = RESTART_BYTES;
    out->records = s->records;
    out->last = s->last;
    return snapshot_touch(dir->snapshot, bytes, (size_t)(restarts_at + restarts_len - s->at));
}

static void view_own(const struct history *h, struct history_view *out)
{
    out->bytes = is_big(h) ? h->big.bytes : h->small;
    out->end = out->bytes + (is_big(h) ? h->big.len : small_len(h));
    out->restarts = is_big(h) ? h->big.bytes + h->big.cap - RESTART_BYTES : NULL;
    out->step = -(ptrdiff_t)RESTART_BYTES;
    out->records = records_of(h);
    out->last = h->last;
}

bool history_get_view(const struct keydir *dir, uint32_t history, struct history_view *out)
{
    if (history > dir->history_count)
        return false;
    if (history <= dir->mapped_histories)
        return view_saved(dir, history, out);
    view_own(history_at(dir, history), out);
    return true;
}

/* ---------------------------------------------------------------- adding records */

/* The second record of a key: the entry still knows the first. A record that does not lie behind
 * the one before it can only come from a checkpoint that tells lies. */
static syna_rc begin_history(struct keydir *dir, struct packed_entry *p, uint64_t offset,
                             uint32_t count)
{
    struct history *h;
    if (UNLIKELY(packed_offset(p) >= offset))
        return KEYDIR_DAMAGED;
    SYNA_TRY(new_history(dir, &h));
    bool fits = append(dir, h, packed_offset(p), 0);
    fits &= append(dir, h, offset, count);
    assert(fits); /* SMALL_BYTES hold two records */
    (void)fits;
    commit_history(dir, p);
    return SYNA_SUCCESS;
}

/* A history of the checkpoint is appended to for the first time: copy it. */
static syna_rc adopt_history(struct keydir *dir, struct packed_entry *p, uint64_t offset,
                             uint32_t count)
{
    struct history_view view;
    struct history *h;
    uint32_t saved = packed_history(p);
    if (!history_get_view(dir, saved, &view) || view.last >= offset)
        return KEYDIR_DAMAGED;
    SYNA_TRY(new_history(dir, &h));

    uint64_t len = (uint64_t)(view.end - view.bytes), restarts = restart_count(view.records);
    uint64_t need = len + RECORD_BYTES_MAX + (restarts + 1) * RESTART_BYTES;
    if (!make_big(dir, h, need))
        return syna_no_memory((size_t)need);
    memcpy(h->big.bytes, view.bytes, (size_t)len);
    for (uint64_t k = 1; k <= restarts; k++)
        memcpy(h->big.bytes + h->big.cap - k * RESTART_BYTES,
               view.restarts + (ptrdiff_t)(k - 1) * view.step, RESTART_BYTES);
    h->big.len = len;
    h->head = view.records << 8 | BIG;
    h->last = view.last;

    bool fits = append(dir, h, offset, count);
    assert(fits); /* `need` had room for it */
    (void)fits;
    commit_history(dir, p);
    caches_move(dir, saved, packed_history(p));
    return SYNA_SUCCESS;
}

static syna_rc add_record(struct keydir *dir, struct packed_entry *p, uint64_t offset,
                          uint32_t count)
{
    uint32_t handle = packed_history(p);
    if (!handle)
        return begin_history(dir, p, offset, count);
    if (handle <= dir->mapped_histories)
        return adopt_history(dir, p, offset, count);
    if (UNLIKELY(handle > dir->history_count))
        return KEYDIR_DAMAGED;
    struct history *h = history_at(dir, handle);
    if (UNLIKELY(h->last >= offset))
        return KEYDIR_DAMAGED;
    return LIKELY(append(dir, h, offset, count)) ? SYNA_SUCCESS : syna_no_memory(BIG_CAP_MIN);
}

syna_rc histories_begin_block(struct keydir *dir, struct packed_entry *p, uint64_t offset,
                              uint32_t count)
{
    struct history *h;
    SYNA_TRY(new_history(dir, &h));
    bool fits = append(dir, h, offset, count);
    assert(fits);
    (void)fits;
    commit_history(dir, p);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- without memory */

uint64_t histories_spilled(const struct keydir *dir, uint32_t id)
{
    uint64_t n = 0;
    for (size_t i = 0; i < dir->spilled_count; i++)
        n += dir->spilled[i].id == id;
    return n;
}

const struct spilled *histories_spilled_at(const struct keydir *dir, uint32_t id, uint64_t index)
{
    for (size_t i = 0; i < dir->spilled_count; i++)
        if (dir->spilled[i].id == id && index-- == 0)
            return &dir->spilled[i];
    return NULL;
}

/* Put spilled records where they belong, as many as there is memory for. Nothing else can be wrong
 * with them: entry and history were looked at when memory was first missing. */
static syna_rc fold_spilled(struct keydir *dir)
{
    size_t done = 0;
    syna_rc rc = SYNA_SUCCESS;
    for (; done < dir->spilled_count; done++) {
        const struct spilled *s = &dir->spilled[done];
        rc = add_record(dir, entry_at(dir, s->id), s->offset, s->count);
        if (rc != SYNA_SUCCESS)
            break;
    }
    dir->spilled_count -= done;
    memmove(dir->spilled, dir->spilled + done, dir->spilled_count * sizeof *dir->spilled);
    return rc;
}

static syna_rc spill(struct keydir *dir, uint32_t id, uint64_t offset, uint32_t count)
{
    if (dir->spilled_count == dir->spilled_cap)
        return syna_no_memory(sizeof *dir->spilled);
    dir->spilled[dir->spilled_count++] = (struct spilled){offset, id, count};
    return SYNA_SUCCESS;
}

syna_rc histories_add(struct keydir *dir, uint32_t id, struct packed_entry *p, uint64_t offset,
                      uint32_t count)
{
    if (UNLIKELY(dir->spilled_count)) {
        (void)fold_spilled(dir); /* what stays spilled is found there */
        if (histories_spilled(dir, id))
            return spill(dir, id, offset, count);
    }
    syna_rc rc = add_record(dir, p, offset, count);
    if (UNLIKELY(rc == SYNA_ERR_INTERNAL) && packed_history(p))
        return spill(dir, id, offset, count);
    return rc;
}

/* No more records than entries are possible, so their size is not near SIZE_MAX. */
static syna_rc reserve_spilled(struct keydir *dir, size_t records)
{
    if (LIKELY(records <= dir->spilled_cap))
        return SYNA_SUCCESS;
    struct spilled *list = mem_resize(dir->spilled, records * sizeof *list);
    if (!list)
        return syna_no_memory(records * sizeof *list);
    dir->spilled = list;
    dir->spilled_cap = records;
    return SYNA_SUCCESS;
}

syna_rc histories_reserve(struct keydir *dir, size_t records)
{
    if (UNLIKELY(dir->spilled_count))
        SYNA_TRY(fold_spilled(dir));
    SYNA_TRY(reserve_spilled(dir, records));
    return reserve_structs(dir, records);
}
