/* db_tail.c - reading a part of a history by record number. The places are collected under the state
 * lock; frames below a published end never change, so they are read and visited without it. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/db_tail.h"

/* Small parts, which are what this is for, need no memory. */
#define FEW 8u

struct places {
    struct generation *gen; /* referenced, once collected */
    uint64_t few[FEW];
    struct buf more;
    size_t count;
};

static syna_rc add_place(struct places *p, uint64_t offset)
{
    if (p->count < FEW)
        p->few[p->count] = offset;
    else if (!buf_append(&p->more, &offset, sizeof offset))
        return syna_no_memory(p->more.len);
    p->count++;
    return SYNA_SUCCESS;
}

static uint64_t place_at(const struct places *p, size_t i)
{
    return i < FEW ? p->few[i] : load_u64(p->more.bytes + (i - FEW) * sizeof(uint64_t));
}

/* Under the shared state lock. */
static syna_rc collect(struct generation *gen, const char *key, size_t key_len, uint64_t first,
                       uint64_t count, struct places *p, uint64_t *records)
{
    struct entry e;
    struct history_cursor c;
    p->count = 0;
    p->more.len = 0;
    *records = 0;
    syna_rc rc = keydir_find(gen->dir, key, key_len, &e);
    if (rc != SYNA_SUCCESS)
        return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
    *records = history_records(gen->dir, &e);
    if (*records == 0)
        return KEYDIR_DAMAGED;
    if (first == DB_TAIL_LAST)
        first = *records - MIN(count, *records);
    rc = count > 0 ? history_seek(gen->dir, &e, first, &c) : SYNA_ERR_KEY_NOT_FOUND;
    while (rc == SYNA_SUCCESS) {
        SYNA_TRY(add_place(p, c.offset));
        rc = p->count < count ? history_next(&c) : SYNA_ERR_KEY_NOT_FOUND;
    }
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

static syna_rc collect_or_mend(syna_db *db, const char *key, size_t key_len, uint64_t first,
                               uint64_t count, struct places *p, uint64_t *records)
{
    struct generation *gen = db_begin_read(db);
    syna_rc rc = collect(gen, key, key_len, first, count, p, records);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(db);
        SYNA_TRY(db_rebuild_index(db));
        gen = db_begin_read(db);
        rc = db_index_rc(collect(gen, key, key_len, first, count, p, records));
    }
    if (rc == SYNA_SUCCESS)
        p->gen = generation_ref(gen);
    db_end_read(db);
    return rc;
}

static syna_rc visit_place(const struct places *p, size_t i, const char *key, size_t key_len,
                           struct buf *scratch, db_tail_fn visit, void *context)
{
    struct frame f;
    struct value v;
    const char *path = p->gen->log.file.path;
    SYNA_TRY(kvlog_frame(&p->gen->log, place_at(p, i), &f));
    if (f.flags & FRAME_BLOCK)
        return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, path, (int64_t)f.offset, 0,
                            "key \"%.*s\" holds a series of numbers, expected single records",
                            (int)MIN(key_len, (size_t)200), key);
    SYNA_TRY(value_decode(&f, path, scratch, &v));
    syna_record record = {.size = sizeof record,
                          .type = v.type,
                          .deleted = (f.flags & FRAME_TOMBSTONE) != 0,
                          .time_us = v.event_us ? v.event_us : f.stamp,
                          .expires_us = v.expires_us,
                          .key = key,
                          .key_len = key_len,
                          .data = v.data,
                          .len = v.len};
    return visit(context, &record);
}

syna_rc db_tail(syna_db *db, const char *key, size_t key_len, uint64_t first, uint64_t count,
                db_tail_fn visit, void *context, uint64_t *records)
{
    struct places p = {0};
    struct buf scratch = {0};
    syna_rc rc = collect_or_mend(db, key, key_len, first, count, &p, records);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < p.count; i++)
        rc = visit_place(&p, i, key, key_len, &scratch, visit, context);
    generation_unref(p.gen);
    buf_dispose(&scratch);
    buf_dispose(&p.more);
    return db_note_damage(db, rc);
}
