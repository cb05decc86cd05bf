/* db_copy.c - which frames a compaction keeps, and how they look in the new log.
 *
 *   LATEST        a frame goes over when the index says that it is its key's newest record and lives; of
 *                 a column block only the last value does
 *   HISTORY       all records and deletions go over, but those that db_fold.c has folded already
 *   LIVE_HISTORY  as HISTORY, without the records of keys whose newest one is a deletion or has expired,
 *                 and without the last deletion of any other key and all before it
 *
 * Frames behind the snapshot were appended while the compaction ran and all go over, deletions too: a
 * key may have been copied before it was deleted. So the histories of LIVE_HISTORY are as they were at
 * the snapshot, however its keys fare meanwhile. Chunks of blobs go over with the manifest that names
 * them, which is rewritten, and stay aligned as they were; other engine frames do not. Stamps and
 * extension fields stay. */
#include "base/internal.h"

#include "engine/db_blob.h"
#include "engine/db_compact.h"
#include "store/column.h"

syna_rc compaction_read_failed(struct compaction *c, syna_rc rc)
{
    if (rc != SYNA_ERR_SERIALIZATION)
        return rc;
    if (kvlog_failed(&c->old->log))
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, c->db->path, -1, 0,
                            "a sync failed during the compaction; nothing was changed");
    return db_note_damage(c->db, rc);
}

/* The index's entry for the key of a frame, and whether its newest record lives. */
static syna_rc find_entry(struct compaction *c, const struct frame *f, struct entry *e, bool *live)
{
    for (;;) {
        struct generation *gen = db_begin_read(c->db);
        syna_rc rc = gen == c->old ? keydir_find(gen->dir, f->key, f->key_len, e) : COMPACTION_MOVED;
        if (rc == SYNA_SUCCESS)
            rc = db_entry_live(gen, e, live);
        db_end_read(c->db);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, c->db->path, (int64_t)f->offset, 0,
                                "the index does not know the key of this frame");
        if (rc != KEYDIR_DAMAGED)
            return rc;
        SYNA_TRY(db_rebuild_index(c->db));
    }
}

static syna_rc is_kept(struct compaction *c, const struct frame *f, bool *kept)
{
    struct entry e;
    bool live;
    *kept = f->key_len > 0;
    if (!*kept || f->offset >= c->snapshot_end)
        return SYNA_SUCCESS;
    SYNA_TRY(find_entry(c, f, &e, &live));
    if (c->mode == SYNA_COMPACT_LATEST)
        *kept = live && e.offset == f->offset;
    else if (e.id < c->kept_from.len / sizeof(uint64_t)) /* not one of the keys that came later */
        *kept = f->offset >= load_u64(c->kept_from.bytes + (size_t)e.id * sizeof(uint64_t));
    return SYNA_SUCCESS;
}

static syna_rc copy_whole(struct compaction *c, const struct frame *f)
{
    return out_frame(&c->out, map_base(&c->old->log.map) + f->offset, f->stamp, NULL);
}

/* ---------------------------------------------------------------- where histories begin */

static void begin_history(struct compaction *c, uint32_t id, uint64_t offset)
{
    if (id < c->kept_from.len / sizeof offset) /* not one of the keys that came later */
        store_u64(c->kept_from.bytes + (size_t)id * sizeof offset, offset);
}

/* Behind each key's last deletion. */
static syna_rc begin_behind_deletions(struct compaction *c)
{
    for (uint64_t at = c->at; at < c->snapshot_end;) {
        struct frame f;
        struct entry e;
        bool live;
        SYNA_TRY(kvlog_frame(&c->old->log, at, &f));
        at += f.len;
        if (f.flags & FRAME_TOMBSTONE) {
            SYNA_TRY(find_entry(c, &f, &e, &live));
            begin_history(c, e.id, at);
        }
        SYNA_TRY(progress_tick(&c->progress, f.len));
    }
    return SYNA_SUCCESS;
}

/* The end of the snapshot, when the newest record of a key stands in it and has expired. */
static syna_rc begin_behind_expired(struct compaction *c, uint32_t id)
{
    for (;;) {
        struct entry e = {0};
        bool live = true;
        struct generation *gen = db_begin_read(c->db);
        syna_rc rc = gen == c->old ? keydir_entry(gen->dir, id, &e) : COMPACTION_MOVED;
        if (rc == SYNA_SUCCESS)
            rc = db_entry_live(gen, &e, &live);
        db_end_read(c->db);
        if (rc == SYNA_SUCCESS && !live && e.offset < c->snapshot_end)
            begin_history(c, id, c->snapshot_end);
        if (rc != KEYDIR_DAMAGED)
            return rc;
        SYNA_TRY(db_rebuild_index(c->db));
    }
}

static syna_rc begin_live_histories(struct compaction *c, uint32_t keys)
{
    SYNA_TRY(begin_behind_deletions(c));
    for (uint32_t id = 0; id < keys; id++)
        SYNA_TRY(begin_behind_expired(c, id));
    return SYNA_SUCCESS;
}

syna_rc compaction_begin_histories(struct compaction *c)
{
    struct generation *gen = db_begin_read(c->db);
    uint32_t keys = keydir_count(gen->dir);
    db_end_read(c->db);
    size_t len = (size_t)keys * sizeof(uint64_t);
    if (!buf_reserve(&c->kept_from, len))
        return syna_no_memory(len);
    memset(c->kept_from.bytes, 0, len);
    c->kept_from.len = len;
    return c->mode == SYNA_COMPACT_LIVE_HISTORY
               ? compaction_read_failed(c, begin_live_histories(c, keys))
               : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- blobs */

static syna_rc copy_chunks(struct compaction *c, const struct blob_manifest *m, struct buf *chunks)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct blob_chunk chunk = blob_entry(m, i);
        struct frame f;
        SYNA_TRY(blob_chunk_at(&c->old->log, &chunk, &f));
        SYNA_TRY(out_chunk(&c->out, &f, &chunk.offset));
        if (!buf_append(chunks, &chunk, sizeof chunk))
            return syna_no_memory(sizeof chunk);
        SYNA_TRY(progress_tick(&c->progress, f.len));
    }
    return SYNA_SUCCESS;
}

static syna_rc write_manifest(struct compaction *c, const struct frame *f, struct value *v,
                              const struct buf *chunks)
{
    struct buf manifest = {0};
    syna_rc rc = blob_encode((const void *)chunks->bytes, chunks->len / sizeof(struct blob_chunk),
                             &manifest)
                     ? SYNA_SUCCESS
                     : syna_no_memory(chunks->len);
    v->data = manifest.bytes;
    v->len = manifest.len;
    c->frame.len = 0;
    if (rc == SYNA_SUCCESS)
        rc = db_encode(c->db, &c->frame, (const char *)f->key, f->key_len, v);
    if (rc == SYNA_SUCCESS)
        rc = out_frame(&c->out, c->frame.bytes, f->stamp, NULL);
    buf_dispose(&manifest);
    return rc;
}

static syna_rc copy_blob(struct compaction *c, const struct frame *f)
{
    struct blob_manifest m;
    struct buf chunks = {0};
    syna_rc rc = blob_parse(f, c->db->path, &m);
    if (rc == SYNA_SUCCESS)
        rc = copy_chunks(c, &m, &chunks);
    if (rc == SYNA_SUCCESS)
        rc = write_manifest(c, f, &m.value, &chunks);
    buf_dispose(&chunks);
    blob_manifest_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- column blocks */

/* One value with its own stamp: a plain frame where the frame's stamp can be that, else a block. */
static syna_rc encode_number(struct compaction *c, const struct frame *f, int32_t type, uint64_t bits,
                             uint64_t stamp, uint64_t event)
{
    size_t start;
    c->frame.len = 0;
    if (stamp == f->stamp) {
        struct value v = {.type = type, .data = &bits, .len = sizeof bits, .event_us = event};
        return db_encode(c->db, &c->frame, (const char *)f->key, f->key_len, &v);
    }
    if (!frame_begin(&c->frame, f->key, f->key_len, &start) ||
        !column_encode(type, &bits, &stamp, event ? &event : NULL, 1, &c->frame) ||
        !frame_finish(&c->frame, start, FRAME_BLOCK))
        return syna_no_memory(sizeof bits);
    return SYNA_SUCCESS;
}

static syna_rc copy_last_of_block(struct compaction *c, const struct frame *f)
{
    struct column_source from = {f->value, f->value_len, f->stamp, c->db->path, f->offset};
    struct column_info info;
    uint64_t events[COLUMN_MAX] = {0};
    SYNA_TRY(column_peek(&from, &info));
    if (info.count == 1)
        return copy_whole(c, f);
    if (info.has_events)
        SYNA_TRY(column_decode(&from, NULL, NULL, events));
    SYNA_TRY(encode_number(c, f, info.type, info.last_bits, info.last_stamp, events[info.count - 1]));
    return out_frame(&c->out, c->frame.bytes, f->stamp, NULL);
}

/* ---------------------------------------------------------------- the walk */

static syna_rc copy_frame(struct compaction *c, const struct frame *f)
{
    struct value v = {0};
    if (f->flags & FRAME_BLOCK)
        return c->mode == SYNA_COMPACT_LATEST && f->offset < c->snapshot_end
                   ? copy_last_of_block(c, f)
                   : copy_whole(c, f);
    if (f->flags & FRAME_EXT)
        SYNA_TRY(value_peek(f, c->db->path, &v));
    return v.type == SYNA_TYPE_BLOB ? copy_blob(c, f) : copy_whole(c, f);
}

static syna_rc copy_range(struct compaction *c, uint64_t end)
{
    while (c->at < end) {
        struct frame f;
        bool kept;
        SYNA_TRY(kvlog_frame(&c->old->log, c->at, &f));
        SYNA_TRY(is_kept(c, &f, &kept));
        if (kept)
            SYNA_TRY(copy_frame(c, &f));
        c->at += f.len;
        SYNA_TRY(progress_step(&c->progress, f.len));
    }
    return SYNA_SUCCESS;
}

syna_rc compaction_copy(struct compaction *c, uint64_t end)
{
    return compaction_read_failed(c, copy_range(c, end));
}
