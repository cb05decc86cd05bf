/* history.c - reading histories: cursors over records, and numeric values as one array.
 *
 * Values come from three places. Big column blocks at the start of a history, its lead, are decoded
 * into the caller's array: most histories are read once, and need no memory for that. What follows
 * them is decoded once, into a cache. A key with one record needs neither. The second read of a lead
 * puts it into the cache as well, within a limit for all caches together: decoding gives 2 to 3 GB/s,
 * copying 9.
 *
 * A cache only ever grows, as a history does. Its lock is shared by those who copy out and exclusive
 * for the one who extends it, so readers of different keys never wait for each other; the keydir's
 * mutex covers the array of caches and is never held while values are decoded or copied. */
#include "base/internal.h"

#include "store/column.h"
#include "store/keydir_core.h"

/* Smaller blocks at the start are cached like plain records: reading them costs more than their
 * values are worth. */
#define LEAD_MIN 256u

/* ---------------------------------------------------------------- cursors */

/* Is there room for a frame with this entry's key? Keeps hostile distances inside the log. */
static bool in_log(const struct keydir *dir, uint64_t offset)
{
    uint64_t end = __atomic_load_n(&dir->log->end, __ATOMIC_ACQUIRE);
    return offset >= dir->log->start && offset < end;
}

static syna_rc decode_record(struct history_cursor *c)
{
    uint64_t head, count = 1;
    size_t n = varint_get(c->at, c->end, &head);
    if (n == 0)
        return KEYDIR_DAMAGED;
    c->at += n;
    c->offset += head >> 1;
    c->block = head & 1;
    if (c->block) {
        n = varint_get(c->at, c->end, &count);
        if (n == 0 || count == 0 || count > COLUMN_MAX)
            return KEYDIR_DAMAGED;
        c->at += n;
    }
    c->count = (uint32_t)count;
    return in_log(c->dir, c->offset) ? SYNA_SUCCESS : KEYDIR_DAMAGED;
}

static syna_rc stand_on_spilled(struct history_cursor *c, uint64_t index)
{
    const struct spilled *s = histories_spilled_at(c->dir, c->id, index - c->encoded);
    if (!s)
        return SYNA_ERR_KEY_NOT_FOUND;
    c->index = index;
    c->offset = s->offset;
    c->block = s->count != 0;
    c->count = s->count ? s->count : 1;
    return SYNA_SUCCESS;
}

static syna_rc seek_encoded(struct history_cursor *c, const struct history_view *view,
                            uint64_t index)
{
    uint64_t k = index / RESTART_EVERY;
    c->offset = 0;
    c->at = view->bytes;
    c->end = view->end;
    c->index = k * RESTART_EVERY;
    if (k > 0) {
        const uint8_t *restart = view->restarts + (ptrdiff_t)(k - 1) * view->step;
        uint64_t at = load_u64(restart + 8);
        if (at > (uint64_t)(view->end - view->bytes))
            return KEYDIR_DAMAGED;
        c->offset = load_u64(restart);
        c->at = view->bytes + at;
    }
    SYNA_TRY(decode_record(c));
    while (c->index < index) {
        SYNA_TRY(decode_record(c));
        c->index++;
    }
    return SYNA_SUCCESS;
}

syna_rc history_seek(struct keydir *dir, const struct entry *e, uint64_t index,
                     struct history_cursor *out)
{
    struct history_view view;
    *out = (struct history_cursor){.dir = dir, .history = e->history, .id = e->id, .encoded = 1};
    if (!e->history) {
        out->offset = e->offset;
        out->count = 1;
        return index == 0 ? SYNA_SUCCESS : SYNA_ERR_KEY_NOT_FOUND;
    }
    if (!history_get_view(dir, e->history, &view))
        return KEYDIR_DAMAGED;
    out->encoded = view.records;
    return LIKELY(index < view.records) ? seek_encoded(out, &view, index)
                                        : stand_on_spilled(out, index);
}

syna_rc history_next(struct history_cursor *c)
{
    if (c->index + 1 >= c->encoded)
        return c->history ? stand_on_spilled(c, c->index + 1) : SYNA_ERR_KEY_NOT_FOUND;
    SYNA_TRY(decode_record(c));
    c->index++;
    return SYNA_SUCCESS;
}

uint64_t history_records(struct keydir *dir, const struct entry *e)
{
    struct history_view view;
    if (!e->history)
        return 1;
    if (!history_get_view(dir, e->history, &view))
        return 0;
    return view.records + histories_spilled(dir, e->id);
}

/* ---------------------------------------------------------------- one record */

/* The verified frame a cursor stands on; it must be of the entry's key and what the cursor says. */
static syna_rc read_record(const struct history_cursor *c, const struct entry *e, struct frame *f)
{
    const struct kvlog *log = c->dir->log;
    SYNA_TRY(kvlog_frame(log, c->offset, f));
    if (f->key_len != e->key_len || memcmp(f->key, kvlog_key(log, e->offset), e->key_len) != 0 ||
        ((f->flags & FRAME_BLOCK) != 0) != c->block)
        return KEYDIR_DAMAGED;
    return SYNA_SUCCESS;
}

static struct column_source source_of(const struct keydir *dir, const struct frame *f)
{
    return (struct column_source){f->value, f->value_len, f->stamp, dir->log->file.path, f->offset};
}

/* An array that takes the first `cap` values and counts all. */
struct taker {
    uint64_t *bits;
    size_t cap, count;
};

static size_t room(const struct taker *t)
{
    return t->cap > t->count ? t->cap - t->count : 0;
}

static void take_values(struct taker *t, const uint64_t *bits, size_t count)
{
    size_t n = MIN(count, room(t));
    if (n)
        memcpy(t->bits + t->count, bits, n * sizeof *bits);
    t->count += count;
}

static syna_rc take_block(const struct keydir *dir, const struct frame *f, size_t count,
                          struct taker *t)
{
    struct column_source from = source_of(dir, f);
    if (room(t) >= count) {
        SYNA_TRY(column_decode(&from, t->bits + t->count, NULL, NULL));
        t->count += count;
        return SYNA_SUCCESS;
    }
    uint64_t whole[COLUMN_MAX];
    if (room(t))
        SYNA_TRY(column_decode(&from, whole, NULL, NULL));
    take_values(t, whole, count);
    return SYNA_SUCCESS;
}

/* The values of one column block, when they are of this type. */
static syna_rc take_block_record(const struct history_cursor *c, const struct entry *e,
                                 int32_t type, struct taker *t)
{
    struct frame f;
    struct column_info info;
    SYNA_TRY(read_record(c, e, &f));
    struct column_source from = source_of(c->dir, &f);
    SYNA_TRY(column_peek(&from, &info));
    if (info.count != c->count)
        return KEYDIR_DAMAGED;
    return info.type == type ? take_block(c->dir, &f, info.count, t) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- caches */

static void cache_free(struct value_cache *cache)
{
    if (!cache)
        return;
    mem_free(cache->floats.bits);
    mem_free(cache->ints.bits);
    pthread_rwlock_destroy(&cache->lock);
    mem_free(cache);
}

size_t history_drop_caches(struct keydir *dir)
{
    for (uint32_t i = 0; i < dir->cache_cap; i++)
        cache_free(dir->caches[i]);
    mem_free(dir->caches);
    size_t freed = (size_t)dir->cache_bytes;
    dir->caches = NULL;
    dir->cache_cap = 0;
    dir->cache_bytes = 0;
    return freed;
}

void caches_free(struct keydir *dir)
{
    history_drop_caches(dir);
}

static void count_bytes(struct keydir *dir, uint64_t bytes)
{
    __atomic_fetch_add(&dir->cache_bytes, bytes, __ATOMIC_RELAXED);
}

static bool grow_cache_list(struct keydir *dir, uint32_t need)
{
    uint32_t cap = MAX(need, MAX(dir->cache_cap * 2, 64u));
    struct value_cache **list = mem_zalloc(cap * sizeof *list);
    if (!list)
        return false;
    if (dir->caches)
        memcpy(list, dir->caches, dir->cache_cap * sizeof *list);
    mem_free(dir->caches);
    count_bytes(dir, (cap - dir->cache_cap) * sizeof *list);
    dir->caches = list;
    dir->cache_cap = cap;
    return true;
}

void caches_move(struct keydir *dir, uint32_t from, uint32_t to)
{
    if (from > dir->cache_cap || !dir->caches[from - 1])
        return;
    struct value_cache *cache = dir->caches[from - 1];
    dir->caches[from - 1] = NULL;
    if (to <= dir->cache_cap || grow_cache_list(dir, to))
        dir->caches[to - 1] = cache;
    else
        cache_free(cache); /* it can be read again */
}

static struct value_cache *new_cache(struct keydir *dir)
{
    struct value_cache *cache = mem_zalloc(sizeof *cache);
    if (!cache)
        return NULL;
    pthread_rwlock_init(&cache->lock, NULL);
    count_bytes(dir, sizeof *cache);
    return cache;
}

/* The cache of a history if it has one. */
static struct value_cache *find_cache(struct keydir *dir, uint32_t history)
{
    pthread_mutex_lock(&dir->cache_mutex);
    struct value_cache *cache = history <= dir->cache_cap ? dir->caches[history - 1] : NULL;
    pthread_mutex_unlock(&dir->cache_mutex);
    return cache;
}

static syna_rc get_cache(struct keydir *dir, uint32_t history, struct value_cache **out)
{
    *out = NULL;
    pthread_mutex_lock(&dir->cache_mutex);
    if (history <= dir->cache_cap || grow_cache_list(dir, history)) {
        if (!dir->caches[history - 1])
            dir->caches[history - 1] = new_cache(dir);
        *out = dir->caches[history - 1];
    }
    pthread_mutex_unlock(&dir->cache_mutex);
    return *out ? SYNA_SUCCESS : syna_no_memory(sizeof **out);
}

static bool is_whole(const struct value_cache *cache)
{
    return __atomic_load_n(&cache->whole, __ATOMIC_ACQUIRE);
}

static struct column_cache *column_of(struct value_cache *cache, int32_t type)
{
    return type == SYNA_TYPE_FLOAT ? &cache->floats : &cache->ints;
}

static void drop_values(struct keydir *dir, struct column_cache *col)
{
    __atomic_fetch_sub(&dir->cache_bytes, col->cap * sizeof *col->bits, __ATOMIC_RELAXED);
    mem_free(col->bits);
    *col = (struct column_cache){0};
}

/* Keep the lead from now on, when it has been read before and is not too much; drop it again when the
 * caches have outgrown their limit. */
static void reconsider_lead(struct keydir *dir, struct value_cache *cache)
{
    uint64_t used = __atomic_load_n(&dir->cache_bytes, __ATOMIC_RELAXED);
    uint64_t values = __atomic_load_n(&cache->lead_values, __ATOMIC_RELAXED);
    bool whole = is_whole(cache);
    bool keep = whole ? used <= dir->keep_max
                      : values && used + values * sizeof(uint64_t) <= dir->keep_max;
    if (LIKELY(keep == whole))
        return;
    pthread_rwlock_wrlock(&cache->lock);
    if (cache->whole == whole) {
        drop_values(dir, &cache->floats);
        drop_values(dir, &cache->ints);
        __atomic_store_n(&cache->lead_values, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&cache->whole, keep, __ATOMIC_RELEASE);
    }
    pthread_rwlock_unlock(&cache->lock);
}

static syna_rc reserve_values(struct keydir *dir, struct column_cache *col, uint64_t more)
{
    if (col->cap - col->count >= more)
        return SYNA_SUCCESS;
    size_t cap = MAX(col->count + (size_t)more, col->cap + col->cap / 4);
    uint64_t *bits = mem_resize(col->bits, cap * sizeof *bits);
    if (!bits)
        return syna_no_memory(cap * sizeof *bits);
    count_bytes(dir, (cap - col->cap) * sizeof *bits);
    col->bits = bits;
    col->cap = cap;
    return SYNA_SUCCESS;
}

static syna_rc cache_block(const struct history_cursor *c, const struct entry *e, int32_t type,
                           struct column_cache *col)
{
    SYNA_TRY(reserve_values(c->dir, col, c->count));
    struct taker t = {col->bits, col->cap, col->count};
    SYNA_TRY(take_block_record(c, e, type, &t));
    col->count = t.count;
    return SYNA_SUCCESS;
}

static syna_rc cache_plain(const struct history_cursor *c, const struct entry *e, int32_t type,
                           struct column_cache *col)
{
    struct frame f;
    struct frame_news news;
    SYNA_TRY(read_record(c, e, &f));
    SYNA_TRY(keydir_inspect(c->dir->log, &f, &news));
    if (news.type != type)
        return SYNA_SUCCESS;
    if (news.delta && col->count) {
        double sum = load_f64(&col->bits[col->count - 1]) + load_f64(&news.payload);
        store_f64(&news.payload, sum);
    }
    SYNA_TRY(reserve_values(c->dir, col, 1));
    col->bits[col->count++] = news.payload;
    return SYNA_SUCCESS;
}

/* Read the records that the cache does not have yet. It is right after a failure, too. */
static syna_rc extend(struct keydir *dir, const struct entry *e, int32_t type, uint64_t records,
                      struct column_cache *col)
{
    struct history_cursor c;
    if (col->next >= records)
        return SYNA_SUCCESS;
    SYNA_TRY(reserve_values(dir, col, records - col->next));
    syna_rc rc = history_seek(dir, e, col->next, &c);
    for (; rc == SYNA_SUCCESS; rc = history_next(&c)) {
        SYNA_TRY(c.block ? cache_block(&c, e, type, col) : cache_plain(&c, e, type, col));
        col->next++;
    }
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

/* Have all records in the cache but those of the lead, which end at `lead` (all records when it is
 * whole). Does nothing to a cache that is not what the caller takes it for. */
static syna_rc extend_to_end(struct keydir *dir, const struct entry *e, int32_t type, uint64_t lead,
                             bool whole, uint64_t records, struct value_cache *cache)
{
    struct column_cache *col = column_of(cache, type);
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&cache->lock);
    if (cache->whole == whole) {
        if (!whole && lead > col->next)
            col->next = lead;
        rc = extend(dir, e, type, records, col);
    }
    pthread_rwlock_unlock(&cache->lock);
    return rc;
}

/* Add what is cached to what was taken from the lead. *fits is false, and nothing was taken, when
 * another thread has just made the cache whole or dropped its values. */
static syna_rc take_cached(struct keydir *dir, const struct entry *e, int32_t type, uint64_t lead,
                           bool whole, struct taker *t, bool *fits)
{
    struct value_cache *cache;
    uint64_t records = history_records(dir, e); /* the state lock keeps more from coming in */
    SYNA_TRY(get_cache(dir, e->history, &cache));
    const struct column_cache *col = column_of(cache, type);

    pthread_rwlock_rdlock(&cache->lock);
    if (UNLIKELY(col->next < records)) {
        pthread_rwlock_unlock(&cache->lock);
        SYNA_TRY(extend_to_end(dir, e, type, lead, whole, records, cache));
        pthread_rwlock_rdlock(&cache->lock);
    }
    *fits = cache->whole == whole && col->next >= records;
    if (*fits)
        take_values(t, col->bits, col->count);
    pthread_rwlock_unlock(&cache->lock);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- values */

static syna_rc take_single(struct keydir *dir, const struct entry *e, int32_t type,
                           struct taker *t)
{
    struct history_cursor c;
    struct frame f;
    if (e->type != type || !(e->flags & ENTRY_INLINE))
        return SYNA_SUCCESS;
    SYNA_TRY(history_seek(dir, e, 0, &c));
    SYNA_TRY(read_record(&c, e, &f));
    take_values(t, &e->payload, 1);
    return SYNA_SUCCESS;
}

/* Remember that a lead has been decoded. Without memory for that it is merely read again. */
static void note_lead(struct keydir *dir, const struct entry *e, const struct taker *t)
{
    struct value_cache *cache;
    if (t->cap && t->count && get_cache(dir, e->history, &cache) == SYNA_SUCCESS)
        __atomic_store_n(&cache->lead_values, t->count, __ATOMIC_RELAXED);
}

/* One attempt; *fits as in take_cached. */
static syna_rc try_history(struct keydir *dir, const struct entry *e, int32_t type,
                           struct taker *t, bool *fits)
{
    struct history_cursor c;
    struct value_cache *cache = find_cache(dir, e->history);
    *fits = true;
    if (cache && t->cap)
        reconsider_lead(dir, cache);
    if (cache && is_whole(cache))
        return take_cached(dir, e, type, 0, true, t, fits);

    syna_rc rc = history_seek(dir, e, 0, &c);
    while (rc == SYNA_SUCCESS && c.block && c.count >= LEAD_MIN) {
        SYNA_TRY(take_block_record(&c, e, type, t));
        rc = history_next(&c);
    }
    note_lead(dir, e, t);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    return rc == SYNA_SUCCESS ? take_cached(dir, e, type, c.index, false, t, fits) : rc;
}

static syna_rc take_history(struct keydir *dir, const struct entry *e, int32_t type,
                            struct taker *t)
{
    for (bool fits = false; !fits;) {
        t->count = 0;
        SYNA_TRY(try_history(dir, e, type, t, &fits));
    }
    return SYNA_SUCCESS;
}

syna_rc history_values(struct keydir *dir, const struct entry *e, int32_t type, uint64_t *bits,
                       size_t cap, size_t *count)
{
    struct taker t = {bits, cap, 0};
    assert(type == SYNA_TYPE_FLOAT || type == SYNA_TYPE_INT);
    SYNA_TRY(e->history ? take_history(dir, e, type, &t) : take_single(dir, e, type, &t));
    *count = t.count;
    return SYNA_SUCCESS;
}

/* Files of the ancestor have no column blocks, so the cache has all values; and this is called when
 * frames are applied, with no reader beside. */
syna_rc history_last_float(struct keydir *dir, const struct entry *e, bool *found, uint64_t *bits)
{
    struct value_cache *cache;
    *found = e->type == SYNA_TYPE_FLOAT;
    *bits = e->payload;
    if (*found || !e->history)
        return SYNA_SUCCESS;
    SYNA_TRY(get_cache(dir, e->history, &cache));
    SYNA_TRY(extend_to_end(dir, e, SYNA_TYPE_FLOAT, 0, false, history_records(dir, e), cache));
    *found = cache->floats.count != 0;
    if (*found)
        *bits = cache->floats.bits[cache->floats.count - 1];
    return SYNA_SUCCESS;
}
