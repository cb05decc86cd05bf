/* arrow_records.c - walks over records.
 *
 * Newest values are an ordered scan (db_scan.c), with the content of blobs added. Histories are walked by
 * entry number, which needs no sorted order and also meets deleted keys: entry after entry, and of each
 * its record offsets in pieces of PIECE, collected under the shared lock; frames are read without it. The
 * walk pins the generation it began with, whose frames never change.
 *
 * 1. A record that cannot be read is its call's error, and the next call goes on behind it.
 * 2. Records appended after the walk reached a key are not seen: `records` was counted then.
 * 3. One run, and one decoded value, are in memory at a time. Pages of the log that the walk is done with
 *    are let go (io/map.h): a walk of a file larger than the memory allowed does not exceed it. */
#include "base/internal.h"

#include "engine/arrow_records.h"

#include "base/glob.h"
#include "engine/db_blob.h"
#include "engine/db_update.h"
#include "store/column.h"

#define PIECE 256u
/* Entries looked at under one hold of the lock. */
#define ENTRIES_SEEN 4096u

struct syna_records {
    syna_db *db;
    int32_t type;
    bool history, strict, untimed;
    bool exact; /* one key only: `key` */
    bool all;   /* no pattern */
    struct buf key, pattern;

    syna_scan *scan; /* newest values */

    struct generation *gen;
    struct map_walk walk; /* through its log */
    uint32_t id;       /* of the entry that is walked, or looked at next */
    bool inside;       /* the entry `id` has records to come */
    uint64_t index, records; /* of its records: the next one, and how many it had */
    uint64_t offsets[PIECE];
    uint32_t count, next;
    double running; /* the ancestor's differences add up */

    struct buf scratch, content;
    struct record_run run; /* what records_next hands out one by one */
    size_t at;
    uint64_t number;
    uint64_t bits[COLUMN_MAX], times[COLUMN_MAX], events[COLUMN_MAX];
};

static bool wanted_key(const syna_records *r, const void *key, size_t len)
{
    return r->all || glob_match((const char *)r->pattern.bytes, r->pattern.len, key, len);
}

/* Is the record of the type asked for? In a strict walk every record must be. */
static syna_rc check_type(const syna_records *r, const syna_record *record, bool *wanted)
{
    *wanted = r->type == SYNA_TYPE_ANY || (!record->deleted && record->type == r->type);
    if (*wanted || !r->strict)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                     "key '%.*s' holds a record of type %d%s, expected type %d",
                     (int)MIN(record->key_len, (size_t)200), record->key, record->type,
                     record->deleted ? " (a deletion)" : "", r->type);
}

/* ---------------------------------------------------------------- newest values */

static void pin(syna_records *r)
{
    r->gen = generation_ref(db_begin_read(r->db));
    db_end_read(r->db);
}

/* The scan covers as few keys as the pattern allows. */
static syna_rc begin_scan(syna_records *r)
{
    const char *text = (const char *)r->pattern.bytes;
    if (!r->exact)
        return db_scan_new(r->db, text, r->all ? 0 : glob_literal_prefix(text, r->pattern.len), NULL, 0,
                           NULL, 0, SYNA_SCAN_VALUES, &r->scan);
    if (!buf_append(&r->key, "", 1)) /* the least key behind it */
        return syna_no_memory(1);
    const char *key = (const char *)r->key.bytes;
    return db_scan_new(r->db, NULL, 0, key, r->key.len - 1, key, r->key.len, SYNA_SCAN_VALUES, &r->scan);
}

/* The content of a blob that a scan met; KEY_NOT_FOUND when it has gone since. */
static syna_rc read_blob(syna_records *r, syna_record *record)
{
    syna_blob *blob;
    size_t got;
    SYNA_TRY(db_blob_open(r->db, record->key, record->key_len, &blob));
    size_t size = (size_t)db_blob_size(blob);
    r->content.len = 0;
    uint8_t *to = buf_extend(&r->content, size);
    syna_rc rc = to ? db_blob_read(blob, 0, to, size, &got) : syna_no_memory(size);
    db_blob_free(blob);
    record->data = to;
    record->len = size;
    return rc;
}

static syna_rc next_newest(syna_records *r, struct record_run *run)
{
    for (;;) {
        syna_record *record = &run->first;
        SYNA_TRY(db_scan_next(r->scan, record));
        map_walked(&r->gen->log.map, &r->walk, record->key, record->key_len + record->len);
        bool wanted = wanted_key(r, record->key, record->key_len);
        if (wanted)
            SYNA_TRY(check_type(r, record, &wanted));
        if (!wanted)
            continue;
        if (record->type == SYNA_TYPE_BLOB) {
            syna_rc rc = read_blob(r, record);
            if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
                continue;
            SYNA_TRY(rc);
        }
        run->count = 1;
        return SYNA_SUCCESS;
    }
}

/* ---------------------------------------------------------------- histories */

/* Under the shared lock: go to the next entry whose key is wanted. KEY_NOT_FOUND behind the last. */
static syna_rc find_entry(syna_records *r, struct entry *e)
{
    struct keydir *dir = r->gen->dir;
    if (r->exact) {
        SYNA_TRY(r->id == 0 ? keydir_find(dir, r->key.bytes, r->key.len, e) : SYNA_ERR_KEY_NOT_FOUND);
        return SYNA_SUCCESS;
    }
    uint32_t end = keydir_count(dir);
    for (uint32_t seen = 0; r->id < end && seen < ENTRIES_SEEN; r->id++, seen++) {
        SYNA_TRY(keydir_entry(dir, r->id, e));
        if (wanted_key(r, kvlog_key(&r->gen->log, e->offset), e->key_len))
            return SYNA_SUCCESS;
    }
    return r->id < end ? SYNA_SUCCESS : SYNA_ERR_KEY_NOT_FOUND;
}

/* The entry that is being walked, as it is now. */
static syna_rc same_entry(syna_records *r, struct entry *e)
{
    return r->exact ? keydir_find(r->gen->dir, r->key.bytes, r->key.len, e)
                    : keydir_entry(r->gen->dir, r->id, e);
}

/* Under the shared lock: the offsets of the next records of the entry. */
static syna_rc collect_piece(syna_records *r, const struct entry *e)
{
    struct history_cursor c;
    r->count = r->next = 0;
    if (r->index == 0)
        r->records = history_records(r->gen->dir, e);
    if (r->records == 0)
        return KEYDIR_DAMAGED;
    syna_rc rc = history_seek(r->gen->dir, e, r->index, &c);
    while (rc == SYNA_SUCCESS && r->count < PIECE && r->index + r->count < r->records) {
        r->offsets[r->count++] = c.offset;
        rc = history_next(&c);
    }
    if (rc != SYNA_SUCCESS && rc != SYNA_ERR_KEY_NOT_FOUND) {
        r->count = 0;
        return rc;
    }
    r->index += r->count;
    r->inside = r->count > 0 && r->index < r->records;
    return SYNA_SUCCESS;
}

static syna_rc next_piece_locked(syna_records *r)
{
    struct entry e;
    if (r->inside) {
        SYNA_TRY(same_entry(r, &e));
    } else {
        SYNA_TRY(find_entry(r, &e));
        r->index = 0;
        r->running = 0;
        if (!r->exact && !wanted_key(r, kvlog_key(&r->gen->log, e.offset), e.key_len)) {
            r->count = r->next = 0; /* ENTRIES_SEEN: give the lock back and go on */
            return SYNA_SUCCESS;
        }
    }
    SYNA_TRY(collect_piece(r, &e));
    if (!r->inside)
        r->id++;
    return SYNA_SUCCESS;
}

/* A page of the key checkpoint is damaged: the index is made anew from the log, in the same order. */
static syna_rc mend(syna_records *r)
{
    struct generation *gen = generation_ref(db_begin_read(r->db));
    db_end_read(r->db);
    bool live = gen == r->gen;
    bool same = gen->log.header.generation == r->gen->log.header.generation;
    generation_unref(r->gen);
    r->gen = gen;
    if (live)
        return db_rebuild_index(r->db);
    return same ? SYNA_SUCCESS
                : syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_CORRUPT, r->db->path, -1, 0,
                               "the key checkpoint was damaged, and the file compacted during the walk");
}

static syna_rc next_piece(syna_records *r)
{
    for (int tries = 0;; tries++) {
        db_begin_read(r->db);
        syna_rc rc = next_piece_locked(r);
        db_end_read(r->db);
        if (rc != KEYDIR_DAMAGED)
            return rc;
        if (tries == 2)
            return db_index_rc(rc);
        SYNA_TRY(mend(r));
    }
}

/* ---------------------------------------------------------------- frames */

static syna_rc unfold(syna_records *r, const struct frame *f, struct record_run *run)
{
    struct column_info info;
    struct column_source from = {f->value, f->value_len, f->stamp, r->gen->log.file.path, f->offset};
    SYNA_TRY(column_peek(&from, &info));
    bool wanted;
    run->first.type = info.type;
    SYNA_TRY(check_type(r, &run->first, &wanted));
    if (!wanted)
        return SYNA_SUCCESS;
    bool events = info.has_events && !r->untimed;
    r->times[0] = info.first_stamp;
    SYNA_TRY(column_decode(&from, r->bits, r->untimed ? NULL : r->times, events ? r->events : NULL));
    for (uint32_t i = 0; events && i < info.count; i++)
        if (r->events[i])
            r->times[i] = r->events[i];
    run->first.data = r->bits;
    run->first.len = sizeof r->bits[0];
    run->first.time_us = r->times[0];
    run->count = info.count;
    run->bits = r->bits;
    run->times = r->times;
    return SYNA_SUCCESS;
}

static syna_rc blob_content(syna_records *r, const struct frame *f, struct value *v)
{
    uint64_t size;
    SYNA_TRY(blob_read_manifest(r->gen, f, &size));
    r->content.len = 0;
    uint8_t *to = buf_extend(&r->content, (size_t)size);
    if (!to)
        return syna_no_memory((size_t)size);
    v->data = to;
    v->len = (size_t)size;
    SYNA_TRY(blob_copy(r->gen, f, to, (size_t)size));
    map_walked(&r->gen->log.map, &r->walk, f->key, (size_t)size); /* its pieces are as long */
    return SYNA_SUCCESS;
}

static syna_rc decode(syna_records *r, const struct frame *f, struct record_run *run)
{
    struct value v = {0};
    syna_record *record = &run->first;
    record->deleted = (f->flags & FRAME_TOMBSTONE) != 0;
    SYNA_TRY(value_decode(f, r->gen->log.file.path, &r->scratch, &v));
    if (v.type == SYNA_TYPE_FLOAT && !record->deleted) {
        double value = load_f64(v.data);
        r->running = f->flags & FRAME_DELTA ? r->running + value : value;
        r->number = load_u64(&r->running);
        v.data = &r->number;
    }
    bool wanted;
    record->type = v.type;
    SYNA_TRY(check_type(r, record, &wanted));
    run->count = wanted;
    if (run->count && v.type == SYNA_TYPE_BLOB)
        SYNA_TRY(blob_content(r, f, &v));
    record->data = v.data;
    record->len = v.len;
    record->expires_us = v.expires_us;
    record->time_us = v.event_us ? v.event_us : f->stamp;
    return SYNA_SUCCESS;
}

static syna_rc next_record(syna_records *r, struct record_run *run)
{
    for (;;) {
        struct frame f;
        while (r->next == r->count)
            SYNA_TRY(next_piece(r));
        memset(run, 0, sizeof *run);
        SYNA_TRY(kvlog_frame(&r->gen->log, r->offsets[r->next++], &f));
        map_walked(&r->gen->log.map, &r->walk, f.key, (size_t)f.len);
        run->first.key = (const char *)f.key;
        run->first.key_len = f.key_len;
        SYNA_TRY(f.flags & FRAME_BLOCK ? unfold(r, &f, run) : decode(r, &f, run));
        if (run->count)
            return SYNA_SUCCESS;
    }
}

/* ---------------------------------------------------------------- the walk */

static syna_rc take_options(syna_records *r, const syna_records_options *o)
{
    r->type = o->type;
    r->history = o->history != 0;
    r->strict = o->strict != 0;
    r->exact = o->key != NULL;
    r->all = o->pattern == NULL;
    if (o->key)
        SYNA_TRY(db_check_key(o->key, o->key_len));
    if ((o->key && !buf_append(&r->key, o->key, o->key_len)) ||
        (o->pattern && (!buf_reserve(&r->pattern, o->pattern_len) ||
                        !buf_append(&r->pattern, o->pattern, o->pattern_len))))
        return syna_no_memory(o->key_len + o->pattern_len);
    return SYNA_SUCCESS;
}

syna_rc records_new(syna_db *db, const syna_records_options *options, syna_records **out)
{
    syna_records *r = mem_zalloc(sizeof *r);
    if (!r)
        return syna_no_memory(sizeof *r);
    r->db = db;
    syna_rc rc = take_options(r, options);
    pin(r);
    if (rc == SYNA_SUCCESS && !r->history)
        rc = begin_scan(r);
    if (rc != SYNA_SUCCESS) {
        records_free(r);
        return rc;
    }
    *out = r;
    return SYNA_SUCCESS;
}

void records_without_times(syna_records *r)
{
    r->untimed = true;
}

syna_rc records_next_run(syna_records *r, struct record_run *run)
{
    memset(run, 0, sizeof *run);
    syna_rc rc = r->history ? next_record(r, run) : next_newest(r, run);
    run->first.size = sizeof run->first;
    return rc == SYNA_ERR_KEY_NOT_FOUND ? rc : db_note_damage(r->db, rc);
}

syna_rc records_next(syna_records *r, syna_record *record)
{
    if (r->at + 1 < r->run.count) {
        r->at++;
        r->run.first.data = &r->run.bits[r->at];
        r->run.first.time_us = r->run.times[r->at];
    } else {
        r->at = 0;
        r->run.count = 0;
        SYNA_TRY(records_next_run(r, &r->run));
    }
    *record = r->run.first;
    return SYNA_SUCCESS;
}

void records_free(syna_records *r)
{
    if (!r)
        return;
    db_scan_free(r->scan);
    generation_unref(r->gen);
    buf_dispose(&r->key);
    buf_dispose(&r->pattern);
    buf_dispose(&r->scratch);
    buf_dispose(&r->content);
    mem_free(r);
}

/* ---------------------------------------------------------------- importing */

void records_let_go(syna_db *db)
{
    struct generation *gen = generation_ref(db_begin_read(db));
    db_end_read(db);
    map_let_go(&gen->log.map);
    generation_unref(gen);
}

syna_rc records_batch_delete(syna_batch *batch, const char *key, size_t key_len, uint64_t when_us)
{
    if (when_us == 0)
        return db_batch_delete(batch, key, key_len);
    syna_put how = {.size = sizeof how, .when_us = when_us};
    struct buf *frames = db_batch_frames(batch);
    size_t start = frames->len;
    SYNA_TRY(db_batch_put(batch, key, key_len, SYNA_TYPE_NULL, NULL, 0, &how));
    frames->bytes[start + FRAME_AT_FLAGS] |= FRAME_TOMBSTONE;
    return SYNA_SUCCESS;
}
