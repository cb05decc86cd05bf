/* db_newest.c - the newest values under a prefix in the order of the log. Components that keep their
 * rows in a log read them back with this: one pass from front to back, and rows come in the order in
 * which they were last written, which a scan by key does not know. */
#include "base/internal.h"

#include "engine/db_core.h"

static bool begins_with(const struct generation *gen, const struct entry *e, const char *prefix,
                        size_t prefix_len)
{
    return e->key_len >= prefix_len &&
           memcmp(kvlog_key(&gen->log, e->offset), prefix, prefix_len) == 0;
}

/* The offsets of the frames wanted, in the order of the index. Under the shared state lock. */
static syna_rc collect(struct generation *gen, const char *prefix, size_t prefix_len, int32_t type,
                       struct buf *offsets)
{
    struct entry e;
    uint32_t count = keydir_count(gen->dir);
    offsets->len = 0;
    for (uint32_t id = 0; id < count; id++) {
        bool live;
        SYNA_TRY(keydir_entry(gen->dir, id, &e));
        if ((e.flags & ENTRY_DELETED) || e.type != type || !begins_with(gen, &e, prefix, prefix_len))
            continue;
        SYNA_TRY(db_entry_live(gen, &e, &live));
        if (live && !buf_append(offsets, &e.offset, sizeof e.offset))
            return syna_no_memory(offsets->len);
    }
    return SYNA_SUCCESS;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = load_u64(a), y = load_u64(b);
    return x < y ? -1 : x > y;
}

/* A damaged checkpoint page is mended once by replaying the log. *gen is given with a reference. */
static syna_rc collect_or_mend(syna_db *db, const char *prefix, size_t prefix_len, int32_t type,
                               struct buf *offsets, struct generation **gen)
{
    *gen = NULL;
    struct generation *now = db_begin_read(db);
    syna_rc rc = collect(now, prefix, prefix_len, type, offsets);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(db);
        SYNA_TRY(db_rebuild_index(db));
        now = db_begin_read(db);
        rc = collect(now, prefix, prefix_len, type, offsets);
    }
    if (rc == SYNA_SUCCESS)
        *gen = generation_ref(now);
    db_end_read(db);
    return rc == KEYDIR_DAMAGED ? syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                                            "%s: the rebuilt index is damaged", db->path)
                                : rc;
}

static syna_rc visit_frame(syna_db *db, struct generation *gen, uint64_t offset,
                           struct buf *scratch, db_newest_fn visit, void *context)
{
    struct frame f;
    struct value v;
    SYNA_TRY(kvlog_frame(&gen->log, offset, &f));
    SYNA_TRY(value_decode(&f, db->path, scratch, &v));
    syna_record record = {.size = sizeof record,
                          .type = v.type,
                          .time_us = v.event_us ? v.event_us : f.stamp,
                          .expires_us = v.expires_us,
                          .key = (const char *)f.key,
                          .key_len = f.key_len,
                          .data = v.data,
                          .len = v.len};
    return visit(context, &record);
}

syna_rc db_newest(syna_db *db, const char *prefix, size_t prefix_len, int32_t type, uint64_t *count,
                  db_newest_fn visit, void *context)
{
    struct buf offsets = {0}, scratch = {0};
    struct generation *gen;
    syna_rc rc = collect_or_mend(db, prefix, prefix_len, type, &offsets, &gen);
    if (rc == SYNA_SUCCESS) {
        *count = offsets.len / sizeof(uint64_t);
        if (*count)
            qsort(offsets.bytes, *count, sizeof(uint64_t), by_offset);
    }
    for (size_t at = 0; rc == SYNA_SUCCESS && at < offsets.len; at += sizeof(uint64_t))
        rc = visit_frame(db, gen, load_u64(offsets.bytes + at), &scratch, visit, context);
    generation_unref(gen);
    buf_dispose(&scratch);
    buf_dispose(&offsets);
    return db_note_damage(db, rc);
}
