/* db_fold.c - the numeric beginnings of histories become column blocks at the front of the new log.
 *
 * A history that starts with a run of numbers of one type (single values, blocks, any mix, none with
 * an expiry) is written key by key as blocks of COLUMN_MAX values, each value with its own stamp
 * and event time. The blocks' frames carry the smallest stamp of the old log, so file order and stamp
 * order still agree, and a key's records stay in order because the rest of its history follows
 * behind. The run ends at the first record that cannot go into it.
 *
 * A full block that stands at the front already, from an earlier compaction, is copied as it is. */
#include "base/internal.h"

#include "engine/db_compact.h"
#include "store/column.h"

/* Records looked up under one hold of the lock. */
#define BATCH 512u

/* The run of one key. */
struct run {
    struct compaction *c;
    uint32_t id;
    int32_t type;      /* 0: no value yet */
    uint64_t from;     /* offset where the history begins */
    uint64_t skipped;  /* records before that */
    uint64_t values;   /* in the run */
    uint64_t records;  /* in the run */
    uint64_t until;    /* offset of the first record that is not in the run */
    bool ended;
    bool written;      /* at least one block is in the new log */
    bool has_events;
    uint32_t count;    /* values waiting */
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX], events[COLUMN_MAX];
    /* a block taken apart */
    uint64_t more_bits[COLUMN_MAX], more_stamps[COLUMN_MAX], more_events[COLUMN_MAX];
    uint64_t offsets[BATCH];
};

static syna_rc write_block(struct run *r, const struct frame *f)
{
    struct compaction *c = r->c;
    size_t start;
    c->frame.len = 0;
    if (!frame_begin(&c->frame, f->key, f->key_len, &start) ||
        !column_encode(r->type, r->bits, r->stamps, r->has_events ? r->events : NULL, r->count,
                       &c->frame) ||
        !frame_finish(&c->frame, start, FRAME_BLOCK))
        return syna_no_memory(r->count * sizeof *r->bits);
    r->count = 0;
    r->has_events = false;
    r->written = true;
    return out_frame(&c->out, c->frame.bytes, c->first_stamp, NULL);
}

static syna_rc add(struct run *r, const struct frame *f, uint64_t bits, uint64_t stamp, uint64_t event)
{
    r->bits[r->count] = bits;
    r->stamps[r->count] = stamp;
    r->events[r->count] = event;
    r->has_events |= event != 0;
    r->count++;
    r->values++;
    return r->count == COLUMN_MAX ? write_block(r, f) : SYNA_SUCCESS;
}

static bool takes(struct run *r, int32_t type)
{
    if (type != SYNA_TYPE_FLOAT && type != SYNA_TYPE_INT)
        return false;
    if (r->type == 0)
        r->type = type;
    return r->type == type;
}

static syna_rc add_block(struct run *r, const struct frame *f)
{
    struct column_source from = {f->value, f->value_len, f->stamp, r->c->db->path, f->offset};
    struct column_info info;
    SYNA_TRY(column_peek(&from, &info));
    if (!takes(r, info.type)) {
        r->ended = true;
        return SYNA_SUCCESS;
    }
    if (r->count == 0 && info.count == COLUMN_MAX && f->stamp == r->c->first_stamp) {
        r->values += info.count;
        r->written = true;
        return out_frame(&r->c->out, map_base(&r->c->old->log.map) + f->offset, f->stamp, NULL);
    }
    memset(r->more_events, 0, sizeof r->more_events);
    SYNA_TRY(column_decode(&from, r->more_bits, r->more_stamps,
                           info.has_events ? r->more_events : NULL));
    for (uint32_t i = 0; i < info.count; i++)
        SYNA_TRY(add(r, f, r->more_bits[i], r->more_stamps[i], r->more_events[i]));
    return SYNA_SUCCESS;
}

static syna_rc add_plain(struct run *r, const struct frame *f)
{
    struct value v;
    if (f->flags & FRAME_TOMBSTONE) {
        r->ended = true;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(value_peek(f, r->c->db->path, &v));
    if (v.expires_us || !takes(r, v.type)) {
        r->ended = true;
        return SYNA_SUCCESS;
    }
    return add(r, f, load_u64(v.data), f->stamp, v.event_us);
}

/* The offsets of the next records of the key, *count 0 behind the last. */
static syna_rc next_offsets(struct run *r, uint32_t *count)
{
    struct history_cursor cursor;
    struct entry e;
    uint64_t skipped = 0;
    struct generation *gen = db_begin_read(r->c->db);
    syna_rc rc = gen == r->c->old ? keydir_entry(gen->dir, r->id, &e) : COMPACTION_MOVED;
    *count = 0;
    /* A single record is copied in its place. */
    if (rc == SYNA_SUCCESS && e.history)
        rc = history_seek(gen->dir, &e, r->skipped + r->records, &cursor);
    else if (rc == SYNA_SUCCESS)
        rc = SYNA_ERR_KEY_NOT_FOUND;
    while (rc == SYNA_SUCCESS && *count < BATCH && cursor.offset < r->c->snapshot_end) {
        if (cursor.offset < r->from)
            skipped++;
        else
            r->offsets[(*count)++] = cursor.offset;
        rc = history_next(&cursor);
    }
    db_end_read(r->c->db);
    if (rc != KEYDIR_DAMAGED) {
        r->skipped += skipped;
        return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
    }
    SYNA_TRY(db_rebuild_index(r->c->db));
    return next_offsets(r, count);
}

static syna_rc add_records(struct run *r, uint32_t count, struct frame *last)
{
    for (uint32_t i = 0; i < count && !r->ended; i++) {
        struct frame f;
        SYNA_TRY(kvlog_frame(&r->c->old->log, r->offsets[i], &f));
        SYNA_TRY(f.flags & FRAME_BLOCK ? add_block(r, &f) : add_plain(r, &f));
        if (r->ended) {
            r->until = f.offset;
        } else {
            *last = f;
            r->records++;
        }
        SYNA_TRY(progress_tick(&r->c->progress, f.len));
    }
    return SYNA_SUCCESS;
}

/* Fold the beginning of one history. *from is where it begins, then where it goes on unfolded. */
static syna_rc fold_key(struct compaction *c, struct run *r, uint32_t id, uint64_t *from)
{
    struct frame last = {0};
    uint32_t count;
    memset(r, 0, offsetof(struct run, bits));
    r->c = c;
    r->id = id;
    r->from = *from;
    r->until = c->snapshot_end;
    do {
        SYNA_TRY(next_offsets(r, &count));
        SYNA_TRY(add_records(r, count, &last));
    } while (count > 0 && !r->ended);

    bool pays = r->written || (r->values >= COLUMN_MIN && r->records > 1);
    if (pays)
        *from = r->until;
    return pays && r->count > 0 ? write_block(r, &last) : SYNA_SUCCESS;
}

static syna_rc fold_all(struct compaction *c, struct run *r)
{
    uint8_t *end = c->kept_from.bytes + c->kept_from.len;
    uint32_t id = 0;
    for (uint8_t *at = c->kept_from.bytes; at < end; at += sizeof(uint64_t)) {
        uint64_t from = load_u64(at);
        SYNA_TRY(fold_key(c, r, id++, &from));
        store_u64(at, from);
    }
    return SYNA_SUCCESS;
}

syna_rc compaction_fold(struct compaction *c)
{
    struct run *r = mem_alloc(sizeof *r);
    if (!r)
        return syna_no_memory(sizeof *r);
    syna_rc rc = compaction_read_failed(c, fold_all(c, r));
    mem_free(r);
    return rc;
}
