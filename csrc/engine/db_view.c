/* db_view.c - see db_view.h. Offsets below the published end need no lock: those bytes never change,
 * and the pinned generation keeps them mapped. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/db_view.h"

struct db_view {
    syna_db *db;
    struct generation *gen;
};

syna_rc db_view_new(syna_db *db, struct db_view **out)
{
    struct db_view *view = mem_zalloc(sizeof *view);
    if (!view)
        return syna_no_memory(sizeof *view);
    view->db = db;
    view->gen = generation_ref(db_begin_read(db));
    db_end_read(db);
    *out = view;
    return SYNA_SUCCESS;
}

void db_view_free(struct db_view *view)
{
    if (!view)
        return;
    generation_unref(view->gen);
    mem_free(view);
}

bool db_view_current(const struct db_view *view)
{
    bool current = db_begin_read(view->db) == view->gen;
    db_end_read(view->db);
    return current;
}

const uint8_t *db_view_bytes(const struct db_view *view, uint64_t offset)
{
    return map_base(&view->gen->log.map) + offset;
}

const char *db_view_key(const struct db_view *view, uint64_t frame, size_t *len)
{
    const uint8_t *bytes = db_view_bytes(view, frame);
    *len = load_u16(bytes + FRAME_AT_KEY_LEN);
    return (const char *)bytes + FRAME_HEADER_BYTES;
}

syna_rc db_view_check(const struct db_view *view, uint64_t frame)
{
    struct frame f;
    return db_note_damage(view->db, kvlog_frame(&view->gen->log, frame, &f));
}

/* ---------------------------------------------------------------- finding */

static syna_rc place_of(const struct db_view *view, const struct frame *f, struct db_place *place)
{
    struct buf scratch = {0};
    struct value v;
    SYNA_TRY(value_decode(f, view->db->path, &scratch, &v));
    bool plain = scratch.bytes == NULL;
    buf_dispose(&scratch);
    if (!plain)
        return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, view->db->path,
                            (int64_t)f->offset, 0,
                            "key \"%.*s\" is stored compressed, expected plain bytes",
                            (int)MIN(f->key_len, 200u), (const char *)f->key);
    *place = (struct db_place){
        .frame = f->offset,
        .data = (uint64_t)((const uint8_t *)v.data - map_base(&view->gen->log.map)),
        .len = v.len,
        .type = v.type,
    };
    return SYNA_SUCCESS;
}

syna_rc db_view_find(const struct db_view *view, const char *key, size_t key_len,
                     struct db_place *place)
{
    struct entry e;
    struct frame f;
    bool live = false;
    struct generation *gen = db_begin_read(view->db);
    syna_rc rc = keydir_find(gen->dir, key, key_len, &e);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(view->db);
        SYNA_TRY(db_rebuild_index(view->db));
        gen = db_begin_read(view->db);
        rc = keydir_find(gen->dir, key, key_len, &e);
    }
    if (rc == SYNA_SUCCESS)
        rc = db_entry_live(gen, &e, &live);
    if (rc == SYNA_SUCCESS && live)
        rc = kvlog_frame(&gen->log, e.offset, &f);
    bool current = gen == view->gen;
    db_end_read(view->db);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || (rc == SYNA_SUCCESS && !live))
        return SYNA_ERR_KEY_NOT_FOUND;
    SYNA_TRY(db_note_damage(view->db, db_index_rc(rc)));
    if (!current)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, "a view of %s is not current",
                         view->db->path);
    return place_of(view, &f, place);
}

/* ---------------------------------------------------------------- following */

uint64_t db_view_end(const struct db_view *view)
{
    db_begin_read(view->db);
    uint64_t end = view->gen->published;
    db_end_read(view->db);
    return end;
}

/* Does a walk to `to` come to a later record of the key? Rows stand in the order of their last writes, so
 * it is that one's turn. */
static bool comes_again(const struct db_view *view, const struct frame *f, uint64_t to)
{
    struct entry e;
    struct generation *gen = db_begin_read(view->db);
    bool again = gen == view->gen &&
                 keydir_find(gen->dir, f->key, f->key_len, &e) == SYNA_SUCCESS &&
                 e.offset > f->offset && e.offset < to;
    db_end_read(view->db);
    return again;
}

syna_rc db_view_walk(const struct db_view *view, uint64_t from, const char *prefix,
                     size_t prefix_len, db_view_fn visit, void *context, uint64_t *end)
{
    struct frame f;
    uint64_t to = db_view_end(view);
    for (uint64_t at = MAX(from, view->gen->log.start); at < to; at = f.offset + f.len) {
        if (view->gen->log.legacy)
            SYNA_TRY(kvlog_frame(&view->gen->log, at, &f));
        else
            frame_view(db_view_bytes(view, at), at, &f);
        if (f.key_len >= prefix_len && memcmp(f.key, prefix, prefix_len) == 0 &&
            !comes_again(view, &f, to))
            SYNA_TRY(visit(context, (const char *)f.key, f.key_len));
    }
    *end = to;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- snapshots */

/* The frame that ends at the published end; 0 when commits wait to be published. */
static uint64_t last_frame(const struct generation *gen)
{
    return gen->published == gen->log.end ? gen->log.last_offset : 0;
}

void db_view_cover(const struct db_view *view, uint32_t purpose, struct snapshot_cover *cover,
                   uint64_t *last)
{
    struct generation *gen = view->gen;
    *cover = (struct snapshot_cover){.generation = gen->log.header.generation, .purpose = purpose};
    memcpy(cover->uuid, gen->log.header.uuid, sizeof cover->uuid);
    pthread_mutex_lock(&view->db->write_lock); /* appending moves the log's end and its last record */
    db_begin_read(view->db);
    *last = last_frame(gen);
    if (*last) {
        cover->end = gen->published;
        cover->end_crc = gen->log.last_crc;
    }
    db_end_read(view->db);
    pthread_mutex_unlock(&view->db->write_lock);
}

bool db_view_covers(const struct db_view *view, const struct snapshot_cover *cover, uint64_t last)
{
    struct frame f;
    if (last < view->gen->log.start || cover->end > db_view_end(view) || last >= cover->end)
        return false;
    struct status_record why = *status_get();
    bool good = kvlog_frame(&view->gen->log, last, &f) == SYNA_SUCCESS &&
                f.offset + f.len == cover->end && f.crc == cover->end_crc;
    status_set(&why);
    return good;
}
