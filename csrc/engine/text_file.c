/* text_file.c - the snapshot beside the log, <path>.text, and what came to the log after it.
 *
 *   "text"              struct text_head
 *   "idssstr" "idsslen" ids      "wordstr" "wordlen"  terms (text_names.c)
 *   "hashes"            uint64 a row      "found"  uint32 a term
 *   "packs"             which rows stand in which pack (text_runs.h)
 *   "post..."           the postings (index/postings_file.c)
 *
 * It is derived from the log and names what it covers; whatever does not fit is as if it were not there.
 * Nothing in it is an offset in the log. Metadata are not in it: they are read from the documents; nor are the
 * terms of each row: the postings say them (text_forward.h). */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_core.h"

#define SNAPSHOT_TEXT SNAPSHOT_FOURCC('T', 'E', 'X', 'T')
#define TEXT_VERSION 3u

struct text_head {
    uint32_t version;
    uint32_t analyzer_version;
    char analyzer[32];
    uint32_t rows, words;
    uint64_t live_words, live_postings;
    uint64_t last; /* where the last record covered starts */
    uint64_t with_metadata; /* live rows that have metadata */
    uint32_t last_pack, reserved;
};

/* ---------------------------------------------------------------- writing */

static syna_rc save_array(struct snapshot_writer *w, const char *name, const struct array *a,
                          size_t count)
{
    SYNA_TRY(snapshot_section(w, name));
    return array_save(a, count, w);
}

static uint64_t count_metadata(const struct text_rows *rows)
{
    uint64_t count = 0;
    size_t len;
    for (uint32_t row = 0; row < rows->ids.count; row++)
        count += meta_text(rows->meta, row, &len) != NULL;
    return count;
}

static syna_rc save_sections(const syna_text *index, uint64_t last, struct snapshot_writer *w)
{
    const struct text_rows *rows = &index->rows;
    struct text_head head = {
        .version = TEXT_VERSION,
        .analyzer_version = index->analyzer.version,
        .rows = rows->ids.count,
        .words = rows->words.count,
        .live_words = rows->live_words,
        .live_postings = rows->live_postings,
        .last = last,
        .with_metadata = count_metadata(rows),
        .last_pack = index->last_pack,
    };
    memcpy(head.analyzer, index->analyzer.name, sizeof head.analyzer);
    SYNA_TRY(snapshot_section(w, "text"));
    SYNA_TRY(snapshot_append(w, &head, sizeof head));
    SYNA_TRY(names_save(&rows->ids, "idss", w));
    SYNA_TRY(names_save(&rows->words, "word", w));
    SYNA_TRY(save_array(w, "hashes", &rows->hashes, rows->ids.count));
    SYNA_TRY(runs_save(&rows->packs, w));
    SYNA_TRY(save_array(w, "found", &rows->found, rows->words.count));
    return postings_save(rows->postings, w);
}

syna_rc text_begin_snapshot(syna_text *index, struct snapshot_writer **writer)
{
    struct snapshot_cover cover;
    uint64_t last;
    *writer = NULL;
    db_view_cover(index->view, SNAPSHOT_TEXT, &cover, &last);
    if (last == 0 || cover.end != index->followed)
        return SYNA_SUCCESS;
    SYNA_TRY(postings_settle(index->rows.postings));
    SYNA_TRY(snapshot_begin(index->index_path, &cover, writer));
    syna_rc rc = save_sections(index, last, *writer);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        snapshot_abort(*writer);
        *writer = NULL;
        return status_set(&why);
    }
    return SYNA_SUCCESS;
}

syna_rc text_save_snapshot(syna_text *index)
{
    struct snapshot_writer *writer;
    SYNA_TRY(text_begin_snapshot(index, &writer));
    if (!writer)
        return SYNA_SUCCESS;
    SYNA_TRY(snapshot_commit(writer));
    index->changes = 0;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

static bool read_head(const syna_text *index, struct snapshot *s, struct text_head *head)
{
    size_t len;
    const void *bytes = snapshot_find(s, "text", &len);
    if (!bytes || len != sizeof *head || !snapshot_touch(s, bytes, len))
        return false;
    memcpy(head, bytes, sizeof *head);
    return head->version == TEXT_VERSION && head->analyzer_version == index->analyzer.version &&
           memcmp(head->analyzer, index->analyzer.name, sizeof head->analyzer) == 0 &&
           head->rows > 0 && head->rows <= NAMES_MAX && head->words <= NAMES_MAX;
}

/* `count` items of a section as the beginning of an array that is empty so far. */
static syna_rc take_array(struct snapshot *s, const char *name, struct array *a, size_t count,
                          size_t max, bool *found)
{
    size_t len, item = a->item;
    void *bytes = snapshot_find(s, name, &len);
    *found = bytes && len == count * item && snapshot_touch(s, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(a);
    return array_init_head(a, item, max, bytes, count);
}

static syna_rc take_rows(struct text_rows *rows, struct snapshot *s, const struct text_head *head,
                         bool *found)
{
    SYNA_TRY(postings_load(rows->postings, s, found));
    if (*found)
        *found = postings_count(rows->postings) == head->rows;
    if (*found)
        SYNA_TRY(names_load(&rows->ids, "idss", s, head->rows, postings_live(rows->postings),
                            found));
    if (*found)
        SYNA_TRY(names_load(&rows->words, "word", s, head->words, NULL, found));
    if (*found)
        SYNA_TRY(take_array(s, "hashes", &rows->hashes, head->rows, NAMES_MAX, found));
    if (*found)
        SYNA_TRY(runs_load(&rows->packs, s, head->rows, head->last_pack, found));
    if (*found)
        SYNA_TRY(take_array(s, "found", &rows->found, head->words, NAMES_MAX, found));
    forward_dispose(&rows->forward);
    SYNA_TRY(forward_init(&rows->forward, head->rows));
    rows->live_words = head->live_words;
    rows->live_postings = head->live_postings;
    return SYNA_SUCCESS;
}

struct metadata_loading {
    syna_text *index;
    struct buf scratch;
};

/* Metadata of a row that is of the snapshot, if the document is that of the row. */
static syna_rc take_metadata(const struct text_rows *rows, const syna_document *d, uint64_t hash)
{
    uint32_t row = names_find(&rows->ids, d->id, d->id_len);
    if (row == ROW_NONE || !d->metadata || hash != text_row_hash(rows, row))
        return SYNA_SUCCESS;
    struct status_record why = *status_get();
    if (meta_check(d->metadata, d->metadata_len) != SYNA_SUCCESS) {
        status_set(&why);
        return SYNA_SUCCESS;
    }
    return meta_set(rows->meta, row, d->metadata, d->metadata_len);
}

static syna_rc load_metadata(void *context, const syna_record *record)
{
    struct metadata_loading *loading = context;
    const struct text_rows *rows = &loading->index->rows;
    struct pack_reader pack;
    syna_document d;
    uint64_t hash;
    if (pack_number(record->key, record->key_len)) {
        if (!pack_open(record->data, record->len, &pack))
            return SYNA_SUCCESS;
        while (pack_next(&pack, &d)) {
            SYNA_TRY(text_hash(&d, &loading->scratch, &hash));
            SYNA_TRY(take_metadata(rows, &d, hash));
        }
        return SYNA_SUCCESS;
    }
    if (record->key_len <= DOC_PREFIX_LEN || memcmp(record->key, DOC_PREFIX, DOC_PREFIX_LEN) != 0 ||
        !document_decode(record->data, record->len, &d))
        return SYNA_SUCCESS;
    d.id = record->key + DOC_PREFIX_LEN;
    d.id_len = record->key_len - DOC_PREFIX_LEN;
    return take_metadata(rows, &d, record_hash(record->data, record->len));
}

static syna_rc take_snapshot(const syna_text *index, struct snapshot *s, struct text_head *head,
                             struct text_rows *rows, bool *loaded)
{
    *loaded = read_head(index, s, head) &&
              db_view_covers(index->view, snapshot_cover_of(s), head->last);
    if (!*loaded)
        return SYNA_SUCCESS;
    syna_rc rc = text_rows_init(rows);
    if (rc == SYNA_SUCCESS)
        rc = take_rows(rows, s, head, loaded);
    if (rc != SYNA_SUCCESS || !*loaded)
        text_rows_dispose(rows);
    return rc;
}

/* The rows of the snapshot beside the log, if there is one that fits. */
static syna_rc open_snapshot(const syna_text *index, struct text_head *head, struct text_rows *rows,
                             struct snapshot **out)
{
    struct snapshot_cover cover;
    uint64_t last;
    bool loaded;
    db_view_cover(index->view, SNAPSHOT_TEXT, &cover, &last);
    SYNA_TRY(snapshot_open(index->index_path, &cover, out));
    if (!*out)
        return SYNA_SUCCESS;
    syna_rc rc = take_snapshot(index, *out, head, rows, &loaded);
    if (rc == SYNA_SUCCESS && loaded)
        return SYNA_SUCCESS;
    snapshot_close(*out);
    *out = NULL;
    return rc;
}

syna_rc text_open_snapshot(syna_text *index, struct text_rows *rows, struct snapshot **snapshot)
{
    struct text_head head;
    return open_snapshot(index, &head, rows, snapshot);
}

/* Metadata are with the documents. */
static syna_rc load_all_metadata(syna_text *index)
{
    uint64_t count;
    struct metadata_loading loading = {.index = index};
    syna_rc rc = db_newest(index->db, LOG_PREFIX, LOG_PREFIX_LEN, SYNA_TYPE_PACKED, &count,
                           load_metadata, &loading);
    buf_dispose(&loading.scratch);
    return rc;
}

syna_rc text_load_snapshot(syna_text *index, bool *loaded)
{
    struct text_head head;
    struct text_rows rows;
    struct snapshot *s;
    syna_rc rc = open_snapshot(index, &head, &rows, &s);
    *loaded = rc == SYNA_SUCCESS && s;
    if (!*loaded)
        return rc;
    text_rows_dispose(&index->rows);
    index->rows = rows;
    names_moved(&index->rows.ids);
    names_moved(&index->rows.words);
    index->snapshot = s;
    index->followed = snapshot_cover_of(s)->end;
    index->changes = 0;
    index->last_pack = head.last_pack;
    index->tried = head.rows;
    return head.with_metadata ? load_all_metadata(index) : SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- following the log */

/* Room, terms, all of it. */
syna_rc text_apply_document(syna_text *index, const syna_document *d, uint64_t hash, uint32_t pack)
{
    struct text_rows *rows = &index->rows;
    struct terms_found terms = {0};
    struct row_terms numbers = {0};
    struct text_room room = {0};
    syna_rc rc = document_terms(&index->analyzer, d, &terms);
    if (rc == SYNA_SUCCESS)
        rc = text_intern(rows, &terms, &numbers);
    if (rc == SYNA_SUCCESS) {
        text_room_add(&room, d, &numbers);
        rc = text_rows_reserve(rows, &index->promised, &room);
    }
    if (rc == SYNA_SUCCESS) {
        text_rows_put(rows, d, &numbers, hash, pack);
        index->changes++;
    }
    row_terms_dispose(&numbers);
    terms_found_dispose(&terms);
    return rc;
}

syna_rc text_apply_record(syna_text *index, const char *name, size_t len, const void *record,
                          size_t record_len, bool anew)
{
    syna_document d = {.id = name + DOC_PREFIX_LEN, .id_len = len - DOC_PREFIX_LEN};
    uint64_t hash = record_hash(record, record_len);
    if (len == DOC_PREFIX_LEN)
        return SYNA_SUCCESS; /* an empty id: no document of ours */
    uint32_t row = names_find(&index->rows.ids, d.id, d.id_len);
    if (!anew && row != ROW_NONE && text_row_hash(&index->rows, row) == hash)
        return SYNA_SUCCESS;
    struct status_record why = *status_get();
    if (!document_decode(record, record_len, &d) || document_check(&d) != SYNA_SUCCESS) {
        status_set(&why); /* not written by us: as if there were no document */
        index->changes += text_rows_drop(&index->rows, d.id, d.id_len);
        return SYNA_SUCCESS;
    }
    return text_apply_document(index, &d, hash, 0);
}

/* There is no value under the id's own name: its row is what a pack says, if one has it. */
static syna_rc apply_packed(syna_text *index, const char *id, size_t id_len)
{
    void *block;
    size_t len;
    syna_document d;
    uint64_t hash;
    struct buf scratch = {0};
    uint32_t row = names_find(&index->rows.ids, id, id_len);
    uint32_t pack = row == ROW_NONE ? 0 : text_row_pack(&index->rows, row);
    syna_rc rc = pack ? text_newest(index, id, id_len, pack, &block, &len, &d)
                      : SYNA_ERR_KEY_NOT_FOUND;
    if (rc == SYNA_ERR_KEY_NOT_FOUND) {
        index->changes += text_rows_drop(&index->rows, id, id_len);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(rc);
    rc = text_hash(&d, &scratch, &hash);
    if (rc == SYNA_SUCCESS && hash != text_row_hash(&index->rows, row))
        rc = text_apply_document(index, &d, hash, pack);
    buf_dispose(&scratch);
    mem_free(block);
    return rc;
}

syna_rc text_apply(syna_text *index, const char *name, size_t len, bool anew)
{
    void *record;
    size_t record_len;
    int32_t type;
    if (len == DOC_PREFIX_LEN)
        return SYNA_SUCCESS;
    syna_rc rc = db_get_copy(index->db, name, len, SYNA_TYPE_PACKED, &record, &record_len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return apply_packed(index, name + DOC_PREFIX_LEN, len - DOC_PREFIX_LEN);
    if (rc == SYNA_ERR_TYPE_MISMATCH) {
        index->changes += text_rows_drop(&index->rows, name + DOC_PREFIX_LEN, len - DOC_PREFIX_LEN);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(rc);
    rc = text_apply_record(index, name, len, record, record_len, anew);
    mem_free(record);
    return rc;
}

/* A pack that is gone again left its documents to others, or to nobody. */
static syna_rc follow_pack(syna_text *index, uint32_t pack, const char *name, bool anew)
{
    void *record;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(index->db, name, PACK_NAME_LEN, SYNA_TYPE_PACKED, &record, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    rc = text_apply_pack(index, pack, record, len, anew);
    mem_free(record);
    return rc;
}

/* A writer meets its own writes again, which are applied already; so is nearly everything after a
 * compaction. */
static syna_rc follow_document(void *context, const char *name, size_t len)
{
    syna_text *index = context;
    bool anew = index->followed > 0 && (index->opening || !db_is_writer(index->db));
    uint32_t pack = pack_number(name, len);
    if (pack)
        SYNA_TRY(follow_pack(index, pack, name, anew));
    else if (len > DOC_PREFIX_LEN && memcmp(name, DOC_PREFIX, DOC_PREFIX_LEN) == 0)
        SYNA_TRY(text_apply(index, name, len, anew));
    return postings_due(index->rows.postings) ? postings_settle(index->rows.postings)
                                              : SYNA_SUCCESS;
}

/* After a compaction: documents that were deleted before it left no record to be followed. */
static syna_rc drop_missing(syna_text *index)
{
    struct text_rows *rows = &index->rows;
    char name[DOC_PREFIX_LEN + SYNA_TEXT_ID_MAX];
    memcpy(name, DOC_PREFIX, DOC_PREFIX_LEN);
    for (uint32_t row = 0; row < rows->ids.count; row++) {
        size_t len;
        bool exists;
        const char *id = names_at(&rows->ids, row, &len);
        if (!postings_is_live(rows->postings, row) || len > SYNA_TEXT_ID_MAX)
            continue;
        memcpy(name + DOC_PREFIX_LEN, id, len);
        SYNA_TRY(db_exists(index->db, name, DOC_PREFIX_LEN + len, &exists));
        if (!exists && text_row_pack(rows, row)) {
            char pack[PACK_NAME_LEN];
            pack_name(text_row_pack(rows, row), pack);
            SYNA_TRY(db_exists(index->db, pack, sizeof pack, &exists));
        }
        if (!exists)
            index->changes += text_rows_drop(rows, name + DOC_PREFIX_LEN, len);
    }
    return SYNA_SUCCESS;
}

static syna_rc renew_view(syna_text *index)
{
    struct db_view *view;
    SYNA_TRY(db_view_new(index->db, &view));
    db_view_free(index->view);
    index->view = view;
    index->followed = 0;
    index->changes++;
    return drop_missing(index);
}

/* The analyser of a file that was empty when it was opened. */
static syna_rc follow_config(syna_text *index)
{
    bool exists;
    if (index->configured)
        return SYNA_SUCCESS;
    SYNA_TRY(db_exists(index->db, TEXT_CONFIG_KEY, strlen(TEXT_CONFIG_KEY), &exists));
    return exists ? text_check_config(index) : SYNA_SUCCESS;
}

syna_rc text_follow(syna_text *index)
{
    if (!db_view_current(index->view))
        SYNA_TRY(renew_view(index));
    if (db_view_end(index->view) == index->followed)
        return SYNA_SUCCESS;
    SYNA_TRY(follow_config(index));
    return db_view_walk(index->view, index->followed, LOG_PREFIX, LOG_PREFIX_LEN, follow_document,
                        index, &index->followed);
}

syna_rc text_refresh(syna_text *index, bool *changed)
{
    bool log_changed;
    SYNA_TRY(db_refresh(index->db, &log_changed));
    pthread_mutex_lock(&index->upkeep_lock); /* windows are not exchanged meanwhile */
    pthread_rwlock_wrlock(&index->state_lock);
    uint64_t before = index->changes;
    syna_rc rc = text_follow(index);
    *changed = index->changes != before;
    pthread_rwlock_unlock(&index->state_lock);
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc == SYNA_SUCCESS ? text_maintain(index) : rc;
}
