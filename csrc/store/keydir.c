/* keydir.c - what an entry says, how a look-up finds it and how a frame of the log changes it. How
 * entries are found is in keydir_table.c, what is kept of older records in keydir_history.c.
 *
 * A frame is applied in two parts: everything that can fail first (memory, a damaged page of the
 * checkpoint, a value field that makes no sense), then the entry is stored. */
#include "base/internal.h"

#include "store/column.h"
#include "store/keydir_core.h"
#include "store/value.h"

#ifdef SYNA_TESTING
uint64_t keydir_test_hash_mask = UINT64_MAX;
#endif

/* ---------------------------------------------------------------- life */

static uint64_t seed_of(const struct kvlog *log)
{
    return load_u64(log->header.uuid) ^ load_u64(log->header.uuid + 8);
}

syna_rc keydir_new(const struct kvlog *log, struct keydir **out)
{
    struct keydir *dir = mem_zalloc(sizeof *dir);
    if (!dir)
        return syna_no_memory(sizeof *dir);
    dir->log = log;
    dir->seed = seed_of(log);
    dir->keep_max = KEEP_MAX;
    if (!table_new(&dir->table, GROUPS_MIN)) {
        mem_free(dir);
        return syna_no_memory(GROUPS_MIN * sizeof(struct group));
    }
    pthread_mutex_init(&dir->cache_mutex, NULL);
    *out = dir;
    return SYNA_SUCCESS;
}

/* Is segment `i` of the entries in the checkpoint? */
static bool segment_is_mapped(const struct keydir *dir, uint32_t i)
{
    return (uint64_t)i << SEGMENT_BITS < dir->mapped_entries;
}

void keydir_free(struct keydir *dir)
{
    if (!dir)
        return;
    caches_free(dir);
    histories_free(dir);
    order_run_free(&dir->main);
    order_run_free(&dir->late);
    for (uint32_t i = 0; i < dir->segment_count; i++)
        if (!segment_is_mapped(dir, i))
            mem_free(dir->segments[i]);
    mem_free(dir->segments);
    table_free(&dir->table);
    table_free(&dir->old);
    snapshot_close(dir->snapshot);
    pthread_mutex_destroy(&dir->cache_mutex);
    mem_free(dir);
}

/* ---------------------------------------------------------------- reading */

static inline void unpack(const struct packed_entry *p, uint32_t id, struct entry *out)
{
    out->offset = packed_offset(p);
    out->payload = p->payload;
    out->id = id;
    out->history = packed_history(p);
    out->key_len = packed_key_len(p);
    out->type = (uint8_t)(p->chain >> HISTORY_BITS);
    out->flags = packed_flags(p);
}

syna_rc keydir_find(struct keydir *dir, const void *key, size_t key_len, struct entry *out)
{
    uint32_t id;
    syna_rc rc = table_find(dir, keydir_hash(dir, key, key_len), key, key_len, &id);
    if (LIKELY(rc == SYNA_SUCCESS))
        unpack(entry_at(dir, id), id, out);
    return rc;
}

__attribute__((noinline)) syna_rc keydir_judge(const struct keydir *dir,
                                               const struct packed_entry *p)
{
    struct frame f;
    SYNA_TRY(kvlog_frame(dir->log, packed_offset(p), &f));
    if (f.key_len != packed_key_len(p) || (uint32_t)keydir_hash(dir, f.key, f.key_len) != p->hash)
        return KEYDIR_DAMAGED;
    return SYNA_ERR_KEY_NOT_FOUND;
}

uint32_t keydir_count(const struct keydir *dir)
{
    return dir->count;
}

syna_rc keydir_entry(struct keydir *dir, uint32_t id, struct entry *out)
{
    assert(id < dir->count);
    const struct packed_entry *p = entry_get(dir, id);
    if (UNLIKELY(!p || !entry_key(dir, p)))
        return KEYDIR_DAMAGED;
    unpack(p, id, out);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- room */

static syna_rc grow_segment_list(struct keydir *dir, uint32_t need)
{
    uint32_t cap = MAX(need, MAX(dir->segment_cap * 2, 16u));
    struct packed_entry **list = mem_resize(dir->segments, cap * sizeof *list);
    if (!list)
        return syna_no_memory(cap * sizeof *list);
    dir->segments = list;
    dir->segment_cap = cap;
    return SYNA_SUCCESS;
}

/* The checkpoint's last entries fill only part of a segment: from the first new key on they live in
 * a segment of our own. */
static syna_rc take_last_segment(struct keydir *dir)
{
    uint32_t last = dir->mapped_entries >> SEGMENT_BITS;
    uint32_t first_id = last << SEGMENT_BITS;
    size_t len = (dir->mapped_entries - first_id) * sizeof(struct packed_entry);
    if (!snapshot_touch(dir->snapshot, dir->segments[last], len))
        return KEYDIR_DAMAGED;
    struct packed_entry *copy = mem_alloc(SEGMENT_ENTRIES * sizeof *copy);
    if (!copy)
        return syna_no_memory(SEGMENT_ENTRIES * sizeof *copy);
    memcpy(copy, dir->segments[last], len);
    dir->segments[last] = copy;
    dir->mapped_entries = first_id;
    return SYNA_SUCCESS;
}

static syna_rc reserve_entries(struct keydir *dir, uint64_t entries)
{
    if (UNLIKELY(dir->mapped_entries & (SEGMENT_ENTRIES - 1)))
        SYNA_TRY(take_last_segment(dir));
    while ((uint64_t)dir->segment_count << SEGMENT_BITS < entries) {
        if (dir->segment_count == dir->segment_cap)
            SYNA_TRY(grow_segment_list(dir, dir->segment_count + 1));
        struct packed_entry *segment = mem_alloc(SEGMENT_ENTRIES * sizeof *segment);
        if (!segment)
            return syna_no_memory(SEGMENT_ENTRIES * sizeof *segment);
        dir->segments[dir->segment_count++] = segment;
    }
    return SYNA_SUCCESS;
}

static syna_rc reserve_keys(struct keydir *dir, size_t keys)
{
    if (UNLIKELY(keys > ENTRIES_MAX - dir->count))
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%s: %u keys and %zu more; at most %u fit in one database",
                         dir->log->file.path, dir->count, keys, ENTRIES_MAX);
    SYNA_TRY(reserve_entries(dir, (uint64_t)dir->count + keys));
    return table_reserve(dir, (uint64_t)dir->count + keys);
}

syna_rc keydir_reserve(struct keydir *dir, size_t records)
{
    SYNA_TRY(reserve_keys(dir, records));
    return histories_reserve(dir, records);
}

/* ---------------------------------------------------------------- applying */

static uint64_t stored_len(const struct frame *f)
{
    return f->len - FRAME_HEADER_BYTES - f->key_len;
}

static syna_rc inspect_block(const struct kvlog *log, const struct frame *f, struct frame_news *out)
{
    struct column_source from = {f->value, f->value_len, f->stamp, log->file.path, f->offset};
    struct column_info info;
    SYNA_TRY(column_peek(&from, &info));
    *out = (struct frame_news){.payload = info.last_bits,
                         .block = info.count,
                         .type = (uint8_t)info.type,
                         .flags = ENTRY_INLINE | ENTRY_BLOCK};
    return SYNA_SUCCESS;
}

static syna_rc inspect_value(const struct kvlog *log, const struct frame *f, struct frame_news *out)
{
    struct value v;
    SYNA_TRY(value_peek(f, log->file.path, &v));
    *out = (struct frame_news){.payload = stored_len(f), .type = (uint8_t)v.type};
    if (v.expires_us)
        out->flags |= ENTRY_EXPIRES;
    if (v.type != SYNA_TYPE_FLOAT && v.type != SYNA_TYPE_INT)
        return SYNA_SUCCESS;
    out->flags |= ENTRY_INLINE;
    out->delta = v.type == SYNA_TYPE_FLOAT && (f->flags & FRAME_DELTA);
    out->payload = load_u64(v.data);
    return SYNA_SUCCESS;
}

syna_rc keydir_inspect(const struct kvlog *log, const struct frame *f, struct frame_news *out)
{
    if (f->flags & FRAME_TOMBSTONE) {
        *out = (struct frame_news){
            .payload = stored_len(f), .type = SYNA_TYPE_NULL, .flags = ENTRY_DELETED};
        return SYNA_SUCCESS;
    }
    return f->flags & FRAME_BLOCK ? inspect_block(log, f, out) : inspect_value(log, f, out);
}

/* A delta says how much a float differs from the key's float before it, wherever that is. */
static syna_rc add_delta(struct keydir *dir, uint32_t id, struct frame_news *news)
{
    struct entry e;
    bool found;
    uint64_t before;
    unpack(entry_at(dir, id), id, &e);
    SYNA_TRY(history_last_float(dir, &e, &found, &before));
    if (found) {
        double sum = load_f64(&before) + load_f64(&news->payload);
        store_f64(&news->payload, sum);
    }
    return SYNA_SUCCESS;
}

static void store_entry(struct packed_entry *p, const struct frame *f, const struct frame_news *news)
{
    p->place = f->offset | (uint64_t)news->flags << OFFSET_BITS | (uint64_t)f->key_len << 48;
    p->chain = packed_history(p) | (uint32_t)news->type << HISTORY_BITS;
    p->payload = news->payload;
}

/* Bytes of the frame of an entry whose key has just been compared in the log. An inline payload hides
 * the length; the frame has it. */
static uint64_t frame_bytes(const struct keydir *dir, const struct packed_entry *p)
{
    return frame_length(kvlog_key(dir->log, packed_offset(p)) - FRAME_HEADER_BYTES);
}

static bool is_expiring(unsigned flags)
{
    return (flags & (ENTRY_EXPIRES | ENTRY_DELETED)) == ENTRY_EXPIRES;
}

static void count_record(struct keydir *dir, const struct frame *f, const struct frame_news *news)
{
    dir->records++;
    if (news->flags & ENTRY_DELETED)
        dir->deleted++;
    else
        dir->live_bytes += f->len;
    dir->expiring += is_expiring(news->flags);
}

static syna_rc add_key(struct keydir *dir, uint64_t hash, const struct frame *f,
                       const struct frame_news *news)
{
    SYNA_TRY(reserve_keys(dir, 1));
    uint32_t id = dir->count;
    struct packed_entry *p = entry_at(dir, id);
    *p = (struct packed_entry){.hash = (uint32_t)hash};
    if (news->block)
        SYNA_TRY(histories_begin_block(dir, p, f->offset, news->block));
    SYNA_TRY(table_add(dir, hash, id));
    store_entry(p, f, news);
    dir->count++;
    count_record(dir, f, news);
    return SYNA_SUCCESS;
}

static syna_rc change_key(struct keydir *dir, uint32_t id, const struct frame *f, struct frame_news *news)
{
    struct packed_entry *p = entry_at(dir, id);
    if (news->delta)
        SYNA_TRY(add_delta(dir, id, news));
    SYNA_TRY(histories_add(dir, id, p, f->offset, news->block));
    if (packed_flags(p) & ENTRY_DELETED)
        dir->deleted -= MIN(dir->deleted, (uint64_t)1);
    else
        dir->live_bytes -= MIN(dir->live_bytes, frame_bytes(dir, p));
    if (is_expiring(packed_flags(p)))
        dir->expiring -= MIN(dir->expiring, (uint64_t)1);
    store_entry(p, f, news);
    count_record(dir, f, news);
    return SYNA_SUCCESS;
}

void keydir_prefetch(const struct keydir *dir, const void *key, size_t key_len)
{
    uint64_t hash = keydir_hash(dir, key, key_len);
    __builtin_prefetch(&dir->table.groups[(uint32_t)hash & dir->table.mask], 1);
}

syna_rc keydir_apply(struct keydir *dir, const struct frame *f)
{
    struct frame_news news;
    uint32_t id;
    if (f->key_len == 0)
        return SYNA_SUCCESS;
    if (UNLIKELY(f->offset > OFFSET_MAX))
        return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, dir->log->file.path,
                            (int64_t)f->offset, 0, "a log larger than 2^%u bytes cannot be indexed",
                            OFFSET_BITS);
    SYNA_TRY(keydir_inspect(dir->log, f, &news));
    uint64_t hash = keydir_hash(dir, f->key, f->key_len);
    syna_rc rc = table_find(dir, hash, f->key, f->key_len, &id);
    if (rc == SYNA_SUCCESS)
        return change_key(dir, id, f, &news);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? add_key(dir, hash, f, &news) : rc;
}

/* ---------------------------------------------------------------- statistics */

static uint64_t table_heap(const struct table *t)
{
    return t->block ? (t->mask + 1) * sizeof(struct group) : 0;
}

/* mapped_entries is where our own segments begin: see take_last_segment. */
static uint64_t segments_heap(const struct keydir *dir)
{
    return dir->segment_cap * sizeof *dir->segments +
           (uint64_t)(dir->count - dir->mapped_entries) * sizeof(struct packed_entry);
}

static uint64_t histories_heap(const struct keydir *dir)
{
    uint64_t own = dir->history_count - dir->mapped_histories;
    return dir->history_heap + own * sizeof(struct history) +
           dir->history_segment_cap * sizeof *dir->history_segments +
           dir->spilled_cap * sizeof *dir->spilled +
           __atomic_load_n(&dir->cache_bytes, __ATOMIC_RELAXED);
}

static uint64_t run_heap(const struct order_run *run)
{
    return (uint64_t)run->cap * (sizeof *run->prefixes + sizeof *run->ids);
}

void keydir_get_stats(const struct keydir *dir, struct keydir_stats *out)
{
    *out = (struct keydir_stats){
        .keys = dir->count,
        .deleted = dir->deleted,
        .expiring = dir->expiring,
        .records = dir->records,
        .live_bytes = dir->live_bytes,
        .index_bytes =
            sizeof *dir + table_heap(&dir->table) + table_heap(&dir->old) + segments_heap(dir),
        .history_bytes = histories_heap(dir),
        .order_bytes = run_heap(&dir->main) + run_heap(&dir->late),
    };
}
