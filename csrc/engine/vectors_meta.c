/* vectors_meta.c - metadata of rows between the log and memory.
 *
 * The metadata of row `key` is the Text value of the log key "vecm/<key>", a JSON object, if that record
 * stands behind the row's own: a row that is written without metadata leaves that of its predecessor
 * behind, and no reader and no crash can pair the two. A row and its metadata are written in one
 * commit, the row first; compaction keeps the order. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/vectors_core.h"

#define PLAIN_MORE 64u /* what is before and behind the text in a decompressed value, and more */
#define NAME_ROOM (META_PREFIX_LEN + SYNA_VECTOR_KEY_MAX)

syna_rc vectors_meta_enable(syna_vectors *store)
{
    if (LIKELY(store->has_meta))
        return SYNA_SUCCESS;
    if (!buf_reserve(&store->meta_name, NAME_ROOM) || !buf_reserve(&store->row_name, NAME_ROOM))
        return syna_no_memory(NAME_ROOM);
    store->has_meta = true;
    return SYNA_SUCCESS;
}

syna_rc vectors_meta_reserve(syna_vectors *store, size_t longest)
{
    if (store->has_meta && !buf_reserve(&store->meta_plain, longest + PLAIN_MORE))
        return syna_no_memory(longest);
    size_t top = store->set.count + store->promised;
    return meta_reserve(store->meta, (uint32_t)MIN(top, (size_t)VECTORS_ROWS_MAX), store->meta_rows,
                        store->meta_bytes);
}

static const char *named(struct buf *room, const char *prefix, size_t prefix_len, const char *key,
                         size_t key_len)
{
    memcpy(room->bytes, prefix, prefix_len);
    memcpy(room->bytes + prefix_len, key, key_len);
    room->len = prefix_len + key_len;
    return (const char *)room->bytes;
}

const char *vectors_meta_row_name(syna_vectors *store, const char *name, size_t *len)
{
    const char *row_name = named(&store->row_name, ROW_PREFIX, ROW_PREFIX_LEN,
                                 name + META_PREFIX_LEN, *len - META_PREFIX_LEN);
    *len = store->row_name.len;
    return row_name;
}

/* ---------------------------------------------------------------- reading the log */

/* The newest record of a key as it stands in the log; *offset 0: there is none. Frames are never at 0. */
static syna_rc find_frame(syna_db *db, const void *name, size_t len, struct frame *f)
{
    struct entry e;
    bool live = false;
    f->offset = 0;
    struct generation *gen = db_begin_read(db);
    syna_rc rc = keydir_find(gen->dir, name, len, &e);
    if (rc == KEYDIR_DAMAGED) {
        db_end_read(db);
        SYNA_TRY(db_rebuild_index(db));
        gen = db_begin_read(db);
        rc = keydir_find(gen->dir, name, len, &e);
    }
    if (rc == SYNA_SUCCESS)
        rc = db_entry_live(gen, &e, &live);
    if (rc == SYNA_SUCCESS && live)
        rc = kvlog_frame(&gen->log, e.offset, f);
    db_end_read(db);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : db_note_damage(db, db_index_rc(rc));
}

/* Whether the record is metadata of the row at `row_frame`; others are left alone. Its text is borrowed
 * from the log or from store->meta_plain. */
static syna_rc read_text(syna_vectors *store, const struct frame *f, uint64_t row_frame,
                         struct value *v)
{
    v->data = NULL;
    if (f->offset <= row_frame)
        return SYNA_SUCCESS;
    SYNA_TRY(value_decode(f, db_path(store->db), &store->meta_plain, v));
    struct status_record why = *status_get();
    if (v->type != SYNA_TYPE_TEXT || meta_check(v->data, v->len) != SYNA_SUCCESS)
        v->data = NULL;
    status_set(&why);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- applying it */

static syna_rc set_text(syna_vectors *store, uint32_t row, const struct value *v)
{
    size_t len;
    const char *old = meta_text(store->meta, row, &len);
    bool same = old ? v->data && v->len == len && memcmp(v->data, old, len) == 0 : !v->data;
    if (same)
        return SYNA_SUCCESS;
    store->changes++;
    store->revision++;
    return meta_set(store->meta, row, v->data, v->data ? v->len : 0);
}

/* Row and metadata are looked up one after the other while others commit: they belong together when the
 * row is the newest still after the metadata was found. */
syna_rc vectors_meta_apply(syna_vectors *store, const char *name, size_t len)
{
    const char *key = name + ROW_PREFIX_LEN;
    struct db_place place;
    struct frame f;
    struct value v = {0};
    if (!store->has_meta)
        return SYNA_SUCCESS;
    const char *meta_name =
        named(&store->meta_name, META_PREFIX, META_PREFIX_LEN, key, len - ROW_PREFIX_LEN);
    for (;;) {
        uint32_t row = row_keys_find(&store->keys, key, len - ROW_PREFIX_LEN);
        if (row == ROW_NONE)
            return SYNA_SUCCESS;
        uint64_t rebased = store->rebased;
        SYNA_TRY(find_frame(store->db, meta_name, store->meta_name.len, &f));
        SYNA_TRY(vectors_find(store, name, len, &place));
        if (!db_view_current(store->view))
            SYNA_TRY(vectors_rebase(store));
        if (rebased != store->rebased)
            continue;
        if (place.frame != vectors_row_frame(store, row)) {
            vectors_put(store, name, len, &place);
            continue;
        }
        SYNA_TRY(read_text(store, &f, place.frame, &v));
        return set_text(store, row, &v);
    }
}
