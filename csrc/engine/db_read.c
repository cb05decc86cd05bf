/* db_read.c - look-ups, time travel, histories, facts. Readers share state_lock for the look-up and
 * the copy; nothing of the caller's runs under it. Every byte returned comes from a frame whose
 * checksum was verified in this call, or from the index, which was built from such frames. */
#include "base/internal.h"

#include "engine/db_blob.h"
#include "engine/db_core.h"
#include "store/column.h"

/* ---------------------------------------------------------------- finding */

static syna_rc not_found(const syna_db *db, const void *key, size_t key_len)
{
    return syna_fail(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, "%s: no value under key \"%.*s\"",
                     db->path, (int)MIN(key_len, (size_t)200), (const char *)key);
}

static syna_rc mismatch(const syna_db *db, const void *key, size_t key_len, int32_t found,
                        int32_t expected)
{
    static const char *const names[] = {"null",  "float",  "int",    "text",
                                        "bytes", "vector", "packed", "blob"};
    return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                     "%s: key \"%.*s\" holds a value of type %s, expected %s", db->path,
                     (int)MIN(key_len, (size_t)200), (const char *)key,
                     (size_t)found < COUNT_OF(names) ? names[found] : "unknown",
                     (size_t)expected < COUNT_OF(names) ? names[expected] : "unknown");
}

static syna_rc expired(struct generation *gen, const struct frame *f, uint64_t now, bool *is)
{
    struct value v;
    SYNA_TRY(value_peek(f, gen->log.file.path, &v));
    *is = v.expires_us != 0 && v.expires_us <= now;
    return SYNA_SUCCESS;
}

syna_rc db_entry_live(struct generation *gen, const struct entry *e, bool *live)
{
    struct frame f;
    bool over = false;
    *live = !(e->flags & ENTRY_DELETED);
    if (!*live || LIKELY(!(e->flags & ENTRY_EXPIRES)))
        return SYNA_SUCCESS;
    SYNA_TRY(kvlog_frame(&gen->log, e->offset, &f));
    SYNA_TRY(expired(gen, &f, syna_vfs->now_us(), &over));
    *live = !over;
    return SYNA_SUCCESS;
}

/* The newest record of a key, deleted ones included; *found false when there is none at all. */
static syna_rc find_record(syna_db *db, struct generation **gen, const void *key, size_t key_len,
                           struct entry *e, bool *found)
{
    syna_rc rc = keydir_find((*gen)->dir, key, key_len, e);
    while (UNLIKELY(rc == KEYDIR_DAMAGED)) {
        db_end_read(db);
        rc = db_rebuild_index(db);
        *gen = db_begin_read(db);
        if (rc == SYNA_SUCCESS)
            rc = keydir_find((*gen)->dir, key, key_len, e);
    }
    *found = rc == SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    return db_note_damage(db, rc);
}

static syna_rc find_live(syna_db *db, struct generation **gen, const void *key, size_t key_len,
                         struct entry *e, bool *live)
{
    SYNA_TRY(find_record(db, gen, key, key_len, e, live));
    return *live ? db_note_damage(db, db_entry_live(*gen, e, live)) : SYNA_SUCCESS;
}

#define CACHE_LINE 64u
/* Behind these bytes the processor has seen where reading goes. */
#define PREFETCH_BYTES 1024u

void db_prefetch_value(const struct generation *gen, const struct entry *e)
{
    if (e->flags & ENTRY_INLINE)
        return;
    const uint8_t *frame = map_base(&gen->log.map) + e->offset;
    uint64_t len = MIN(e->payload, (uint64_t)PREFETCH_BYTES);
    for (uint64_t at = CACHE_LINE; at < len; at += CACHE_LINE)
        __builtin_prefetch(frame + at);
}

syna_rc db_find(syna_db *db, struct generation **gen, const void *key, size_t key_len,
                struct entry *e, struct frame *f)
{
    bool live;
    SYNA_TRY(find_live(db, gen, key, key_len, e, &live));
    if (!live)
        return not_found(db, key, key_len);
    return f ? db_note_damage(db, kvlog_frame(&(*gen)->log, e->offset, f)) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the newest value */

/* The length and type of a frame's value; nothing is decompressed. */
static syna_rc measure_frame_value(struct generation *gen, const struct frame *f, size_t *len,
                                   int32_t *type)
{
    struct value v;
    SYNA_TRY(value_peek(f, gen->log.file.path, &v));
    uint64_t size = v.len;
    if (v.type == SYNA_TYPE_BLOB)
        SYNA_TRY(blob_read_manifest(gen, f, &size));
    *len = (size_t)size;
    *type = v.type;
    return SYNA_SUCCESS;
}

/* Copy the value of a frame; its full length goes to *len whether it fits or not. */
static syna_rc copy_frame_value(struct generation *gen, const struct frame *f, void *buf, size_t cap,
                                size_t *len, int32_t *type)
{
    struct buf scratch = {0};
    struct value v;
    if (f->flags & FRAME_LZ4) { /* is not unpacked for a buffer that is too small */
        SYNA_TRY(measure_frame_value(gen, f, len, type));
        if (*len > cap)
            return SYNA_SUCCESS;
    }
    syna_rc rc = value_decode(f, gen->log.file.path, &scratch, &v);
    if (rc == SYNA_SUCCESS && v.type == SYNA_TYPE_BLOB) {
        uint64_t size = 0;
        rc = blob_read_manifest(gen, f, &size);
        *len = (size_t)size;
        *type = SYNA_TYPE_BLOB;
        if (rc == SYNA_SUCCESS && size <= cap)
            rc = blob_copy(gen, f, buf, cap);
    } else if (rc == SYNA_SUCCESS) {
        *len = v.len;
        *type = v.type;
        if (v.len && v.len <= cap)
            memcpy(buf, v.data, v.len);
    }
    buf_dispose(&scratch);
    return rc;
}

static syna_rc copy_newest(struct generation *gen, const struct entry *e, void *buf, size_t cap,
                           size_t *len, int32_t *type)
{
    struct frame f;
    if (e->flags & ENTRY_INLINE) {
        *len = sizeof e->payload;
        *type = e->type;
        if (cap >= sizeof e->payload)
            memcpy(buf, &e->payload, sizeof e->payload);
        return SYNA_SUCCESS;
    }
    db_prefetch_value(gen, e);
    SYNA_TRY(kvlog_frame(&gen->log, e->offset, &f));
    return copy_frame_value(gen, &f, buf, cap, len, type);
}

syna_rc db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap, size_t *len,
               int32_t *type)
{
    struct entry e;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = db_find(db, &gen, key, key_len, &e, NULL);
    if (rc == SYNA_SUCCESS)
        rc = db_note_damage(db, copy_newest(gen, &e, buf, cap, len, type));
    db_end_read(db);
    return rc;
}

syna_rc db_get_number(syna_db *db, const char *key, size_t key_len, int32_t type, uint64_t *bits)
{
    struct entry e;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = db_find(db, &gen, key, key_len, &e, NULL);
    db_end_read(db);
    if (rc != SYNA_SUCCESS)
        return rc;
    if (e.type != type)
        return mismatch(db, key, key_len, e.type, type);
    *bits = e.payload;
    return SYNA_SUCCESS;
}

static syna_rc copy_to_heap(struct generation *gen, const struct entry *e, void **out, size_t *len,
                            int32_t *type)
{
    struct frame f;
    bool in_index = e->flags & ENTRY_INLINE;
    *len = sizeof e->payload;
    if (!in_index) {
        db_prefetch_value(gen, e);
        SYNA_TRY(kvlog_frame(&gen->log, e->offset, &f));
        SYNA_TRY(measure_frame_value(gen, &f, len, type));
    }
    size_t cap = *len;
    uint8_t *block = mem_alloc(cap + 1);
    if (!block)
        return syna_no_memory(cap + 1);
    syna_rc rc = in_index ? copy_newest(gen, e, block, cap, len, type)
                          : copy_frame_value(gen, &f, block, cap, len, type);
    block[cap] = 0;
    if (rc == SYNA_SUCCESS)
        *out = block;
    else
        mem_free(block);
    return rc;
}

syna_rc db_get_copy(syna_db *db, const char *key, size_t key_len, int32_t type, void **out,
                    size_t *len, int32_t *found_type)
{
    struct entry e;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = db_find(db, &gen, key, key_len, &e, NULL);
    if (rc == SYNA_SUCCESS && type >= 0 && e.type != type)
        rc = mismatch(db, key, key_len, e.type, type);
    if (rc == SYNA_SUCCESS)
        rc = db_note_damage(db, copy_to_heap(gen, &e, out, len, found_type));
    db_end_read(db);
    return rc;
}

syna_rc db_exists(syna_db *db, const char *key, size_t key_len, bool *exists)
{
    struct entry e;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = find_live(db, &gen, key, key_len, &e, exists);
    db_end_read(db);
    return rc;
}

/* ---------------------------------------------------------------- the ancestor's deltas */

/* In the ancestor's files a float may be stored as the difference to the float before it under the same
 * key. Walking the records of one key from the first on makes it whole. */
static void make_whole(const struct frame *f, struct value *v, double *running)
{
    if (v->type != SYNA_TYPE_FLOAT)
        return;
    double value = load_f64(v->data);
    *running = f->flags & FRAME_DELTA ? *running + value : value;
    v->data = running;
}

/* The whole float of the record the cursor stands on, which is a delta. */
static syna_rc sum_deltas(struct generation *gen, const struct entry *e, uint64_t index, double *sum)
{
    struct history_cursor c;
    syna_rc rc = history_seek(gen->dir, e, 0, &c);
    *sum = 0;
    for (uint64_t i = 0; rc == SYNA_SUCCESS && i <= index; i++, rc = history_next(&c)) {
        struct frame f;
        struct value v;
        SYNA_TRY(kvlog_frame(&gen->log, c.offset, &f));
        if (f.flags & FRAME_TOMBSTONE)
            continue;
        SYNA_TRY(value_peek(&f, gen->log.file.path, &v));
        make_whole(&f, &v, sum);
    }
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

/* ---------------------------------------------------------------- time travel */

/* The stamp a record begins at: a column block spans several. */
static syna_rc record_stamp(struct generation *gen, const struct history_cursor *c, uint64_t *stamp)
{
    struct frame f;
    SYNA_TRY(kvlog_frame(&gen->log, c->offset, &f));
    *stamp = f.stamp;
    if (c->block) {
        struct column_info info;
        struct column_source from = {f.value, f.value_len, f.stamp, gen->log.file.path, f.offset};
        SYNA_TRY(column_peek(&from, &info));
        *stamp = info.first_stamp;
    }
    return SYNA_SUCCESS;
}

/* The last record that begins at or before `at_us`, by bisection: stamps do not decrease. */
static syna_rc seek_time(struct generation *gen, const struct entry *e, uint64_t at_us,
                         struct history_cursor *c, bool *found)
{
    uint64_t low = 0, high = history_records(gen->dir, e);
    if (high == 0)
        return KEYDIR_DAMAGED;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, stamp;
        SYNA_TRY(history_seek(gen->dir, e, middle, c));
        SYNA_TRY(record_stamp(gen, c, &stamp));
        if (stamp <= at_us)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low > 0;
    return *found ? history_seek(gen->dir, e, low - 1, c) : SYNA_SUCCESS;
}

static syna_rc block_value_at(struct generation *gen, const struct frame *f, uint64_t at_us,
                              uint64_t *bits, int32_t *type)
{
    uint64_t values[COLUMN_MAX], stamps[COLUMN_MAX];
    struct column_source from = {f->value, f->value_len, f->stamp, gen->log.file.path, f->offset};
    struct column_info info;
    SYNA_TRY(column_peek(&from, &info));
    SYNA_TRY(column_decode(&from, values, stamps, NULL));
    uint32_t i = info.count - 1;
    while (i > 0 && stamps[i] > at_us)
        i--;
    *bits = values[i];
    *type = info.type;
    return SYNA_SUCCESS;
}

static syna_rc put_bits(uint64_t bits, void *buf, size_t cap, size_t *len)
{
    *len = sizeof bits;
    if (cap >= sizeof bits)
        memcpy(buf, &bits, sizeof bits);
    return SYNA_SUCCESS;
}

static syna_rc value_at(struct generation *gen, const struct entry *e,
                        const struct history_cursor *c, uint64_t at_us, void *buf, size_t cap,
                        size_t *len, int32_t *type, bool *found)
{
    struct frame f;
    bool over = false;
    SYNA_TRY(kvlog_frame(&gen->log, c->offset, &f));
    *found = !(f.flags & FRAME_TOMBSTONE);
    if (!*found)
        return SYNA_SUCCESS;
    if (c->block) {
        uint64_t bits;
        SYNA_TRY(block_value_at(gen, &f, at_us, &bits, type));
        return put_bits(bits, buf, cap, len);
    }
    if (f.flags & FRAME_DELTA) {
        double sum;
        *type = SYNA_TYPE_FLOAT;
        SYNA_TRY(sum_deltas(gen, e, c->index, &sum));
        return put_bits(load_u64(&sum), buf, cap, len);
    }
    SYNA_TRY(expired(gen, &f, at_us, &over));
    *found = !over;
    return over ? SYNA_SUCCESS : copy_frame_value(gen, &f, buf, cap, len, type);
}

static syna_rc get_at_locked(syna_db *db, struct generation **gen, const char *key, size_t key_len,
                             uint64_t at_us, void *buf, size_t cap, size_t *len, int32_t *type)
{
    struct entry e;
    struct history_cursor c;
    bool found;
    SYNA_TRY(find_record(db, gen, key, key_len, &e, &found));
    if (found)
        SYNA_TRY(seek_time(*gen, &e, at_us, &c, &found));
    if (found)
        SYNA_TRY(value_at(*gen, &e, &c, at_us, buf, cap, len, type, &found));
    return found ? SYNA_SUCCESS : not_found(db, key, key_len);
}

syna_rc db_get_at(syna_db *db, const char *key, size_t key_len, uint64_t at_us, void *buf,
                  size_t cap, size_t *len, int32_t *type)
{
    struct generation *gen = db_begin_read(db);
    syna_rc rc = get_at_locked(db, &gen, key, key_len, at_us, buf, cap, len, type);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(db);
        rc = db_rebuild_index(db);
        gen = db_begin_read(db);
        if (rc == SYNA_SUCCESS)
            rc = get_at_locked(db, &gen, key, key_len, at_us, buf, cap, len, type);
    }
    db_end_read(db);
    return db_note_damage(db, rc);
}

/* ---------------------------------------------------------------- histories */

/* The places of a key's records, collected under the lock, so that frames are read and visitors run
 * without it: frames below a published end never change. */
struct places {
    struct generation *gen; /* referenced */
    struct buf offsets;     /* uint64_t[] */
};

static size_t places_count(const struct places *p)
{
    return p->offsets.len / sizeof(uint64_t);
}

static uint64_t places_at(const struct places *p, size_t i)
{
    return load_u64(p->offsets.bytes + i * sizeof(uint64_t));
}

static void places_dispose(struct places *p)
{
    buf_dispose(&p->offsets);
    generation_unref(p->gen);
    p->gen = NULL;
}

static syna_rc collect_locked(syna_db *db, struct generation **gen, const char *key, size_t key_len,
                              struct places *p)
{
    struct entry e;
    struct history_cursor c;
    bool found;
    p->offsets.len = 0;
    SYNA_TRY(find_record(db, gen, key, key_len, &e, &found));
    if (!found)
        return SYNA_SUCCESS;
    syna_rc rc = history_seek((*gen)->dir, &e, 0, &c);
    for (; rc == SYNA_SUCCESS; rc = history_next(&c))
        if (!buf_append(&p->offsets, &c.offset, sizeof c.offset))
            return syna_no_memory(sizeof c.offset);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

static syna_rc collect(syna_db *db, const char *key, size_t key_len, struct places *p)
{
    memset(p, 0, sizeof *p);
    struct generation *gen = db_begin_read(db);
    syna_rc rc = collect_locked(db, &gen, key, key_len, p);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(db);
        rc = db_rebuild_index(db);
        gen = db_begin_read(db);
        if (rc == SYNA_SUCCESS)
            rc = collect_locked(db, &gen, key, key_len, p);
    }
    p->gen = generation_ref(gen);
    db_end_read(db);
    if (rc != SYNA_SUCCESS)
        places_dispose(p);
    return db_note_damage(db, rc);
}

/* A column block unfolded: what its values and times are. */
struct unfolded {
    struct column_info info;
    uint64_t bits[COLUMN_MAX], times[COLUMN_MAX];
};

static syna_rc unfold(struct generation *gen, const struct frame *f, struct unfolded *u)
{
    uint64_t events[COLUMN_MAX];
    struct column_source from = {f->value, f->value_len, f->stamp, gen->log.file.path, f->offset};
    SYNA_TRY(column_peek(&from, &u->info));
    SYNA_TRY(column_decode(&from, u->bits, u->times, u->info.has_events ? events : NULL));
    for (uint32_t i = 0; u->info.has_events && i < u->info.count; i++)
        if (events[i])
            u->times[i] = events[i];
    return SYNA_SUCCESS;
}

/* Where numbers with times go. */
struct numbers_out {
    uint64_t *bits, *times;
    size_t cap, count;
    double running; /* make_whole */
};

static void add_number(struct numbers_out *out, uint64_t bits, uint64_t time)
{
    if (out->count < out->cap) {
        out->bits[out->count] = bits;
        out->times[out->count] = time;
    }
    out->count++;
}

static syna_rc add_frame_numbers(struct generation *gen, const struct frame *f, int32_t type,
                                 struct unfolded *u, struct numbers_out *out)
{
    struct value v;
    if (f->flags & FRAME_TOMBSTONE)
        return SYNA_SUCCESS;
    if (f->flags & FRAME_BLOCK) {
        SYNA_TRY(unfold(gen, f, u));
        for (uint32_t i = 0; u->info.type == type && i < u->info.count; i++)
            add_number(out, u->bits[i], u->times[i]);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(value_peek(f, gen->log.file.path, &v));
    make_whole(f, &v, &out->running);
    if (v.type == type)
        add_number(out, load_u64(v.data), v.event_us ? v.event_us : f->stamp);
    return SYNA_SUCCESS;
}

static syna_rc numbers_with_times(syna_db *db, const char *key, size_t key_len, int32_t type,
                                  struct numbers_out *out)
{
    struct places p;
    struct frame f;
    SYNA_TRY(collect(db, key, key_len, &p));
    struct unfolded *u = mem_alloc(sizeof *u);
    syna_rc rc = u ? SYNA_SUCCESS : syna_no_memory(sizeof *u);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < places_count(&p); i++) {
        rc = kvlog_frame(&p.gen->log, places_at(&p, i), &f);
        if (rc == SYNA_SUCCESS)
            rc = add_frame_numbers(p.gen, &f, type, u, out);
    }
    mem_free(u);
    places_dispose(&p);
    return db_note_damage(db, rc);
}

static syna_rc numbers_alone(syna_db *db, const char *key, size_t key_len, int32_t type,
                             uint64_t *bits, size_t cap, size_t *count)
{
    struct entry e;
    bool found;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = find_record(db, &gen, key, key_len, &e, &found);
    *count = 0;
    if (rc == SYNA_SUCCESS && found)
        rc = history_values(gen->dir, &e, type, bits, cap, count);
    db_end_read(db);
    return rc;
}

syna_rc db_history_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                           uint64_t *bits, uint64_t *times_us, size_t cap, size_t *count)
{
    if (times_us && cap > 0) {
        struct numbers_out out = {.bits = bits, .times = times_us, .cap = cap};
        SYNA_TRY(numbers_with_times(db, key, key_len, type, &out));
        *count = out.count;
        return SYNA_SUCCESS;
    }
    syna_rc rc = numbers_alone(db, key, key_len, type, bits, cap, count);
    if (rc == KEYDIR_DAMAGED) {
        SYNA_TRY(db_rebuild_index(db));
        rc = numbers_alone(db, key, key_len, type, bits, cap, count);
    }
    return db_note_damage(db, rc);
}

/* ---- visiting records of any type */

static int32_t visit_block(struct generation *gen, const struct frame *f, syna_record *record,
                           syna_record_fn visit, void *context, syna_rc *rc)
{
    int32_t stop = 0;
    struct unfolded *u = mem_alloc(sizeof *u);
    *rc = u ? unfold(gen, f, u) : syna_no_memory(sizeof *u);
    if (*rc == SYNA_SUCCESS) {
        record->type = u->info.type;
        record->len = sizeof u->bits[0];
        for (uint32_t i = 0; !stop && i < u->info.count; i++) {
            record->data = &u->bits[i];
            record->time_us = u->times[i];
            stop = visit(context, record);
        }
    }
    mem_free(u);
    return stop;
}

/* The content of a blob stands in the log as chunks: put it together for the visitor. */
static syna_rc read_blob(struct generation *gen, const struct frame *f, struct buf *scratch,
                         struct value *v)
{
    uint64_t size;
    SYNA_TRY(blob_read_manifest(gen, f, &size));
    scratch->len = 0;
    uint8_t *content = buf_extend(scratch, (size_t)size);
    if (!content)
        return syna_no_memory((size_t)size);
    v->data = content;
    v->len = (size_t)size;
    return blob_copy(gen, f, content, (size_t)size);
}

static int32_t visit_plain(struct generation *gen, const struct frame *f, syna_record *record,
                           struct buf *scratch, double *running, syna_record_fn visit, void *context,
                           syna_rc *rc)
{
    struct value v = {0};
    record->deleted = (f->flags & FRAME_TOMBSTONE) != 0;
    *rc = value_decode(f, gen->log.file.path, scratch, &v);
    if (*rc == SYNA_SUCCESS && v.type == SYNA_TYPE_BLOB)
        *rc = read_blob(gen, f, scratch, &v);
    if (*rc != SYNA_SUCCESS)
        return 1;
    if (!record->deleted)
        make_whole(f, &v, running);
    record->type = v.type;
    record->data = v.data;
    record->len = v.len;
    record->expires_us = v.expires_us;
    record->time_us = v.event_us ? v.event_us : f->stamp;
    return visit(context, record);
}

syna_rc db_history(syna_db *db, const char *key, size_t key_len, syna_record_fn visit,
                   void *context)
{
    struct places p;
    struct buf scratch = {0};
    double running = 0;
    int32_t stop = 0;
    SYNA_TRY(collect(db, key, key_len, &p));
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && !stop && i < places_count(&p); i++) {
        struct frame f;
        syna_record record = {.size = sizeof record, .key = key, .key_len = key_len};
        rc = kvlog_frame(&p.gen->log, places_at(&p, i), &f);
        if (rc != SYNA_SUCCESS)
            break;
        stop = f.flags & FRAME_BLOCK
                   ? visit_block(p.gen, &f, &record, visit, context, &rc)
                   : visit_plain(p.gen, &f, &record, &scratch, &running, visit, context, &rc);
    }
    buf_dispose(&scratch);
    places_dispose(&p);
    return db_note_damage(db, rc);
}
