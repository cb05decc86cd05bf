/* text_write.c - put, replace and delete documents. See text_core.h for the order of things. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/db_update.h"
#include "engine/text_core.h"

#define PACK_SLACK 1024u /* dead rows outnumber the live ones by this: number the rows anew */

/* ---------------------------------------------------------------- documents to be written */

struct writing {
    const syna_document *d;
    char *name; /* DOC_PREFIX and the id */
    size_t name_len;
    struct buf record;
    struct terms_found terms;
    struct row_terms numbers;
    uint64_t hash;
};

struct storing {
    syna_text *index;
    struct writing *items;
    size_t count;
    struct text_room room;
    bool with_config;
    char config[TEXT_CONFIG_ROOM];
    size_t config_len;
    uint64_t begun, done; /* of the index when this write was promised */
};

static syna_rc make_name(const char *id, size_t id_len, char **name, size_t *len)
{
    syna_document d = {.id = id, .id_len = id_len};
    SYNA_TRY(document_check(&d));
    SYNA_TRY(db_check_key(id, id_len));
    *len = DOC_PREFIX_LEN + id_len;
    *name = mem_alloc(*len);
    if (!*name)
        return syna_no_memory(*len);
    memcpy(*name, DOC_PREFIX, DOC_PREFIX_LEN);
    memcpy(*name + DOC_PREFIX_LEN, id, id_len);
    return SYNA_SUCCESS;
}

static syna_rc prepare(const struct analyzer *analyzer, struct writing *w)
{
    SYNA_TRY(document_check(w->d));
    SYNA_TRY(make_name(w->d->id, w->d->id_len, &w->name, &w->name_len));
    SYNA_TRY(document_encode(w->d, &w->record));
    w->hash = record_hash(w->record.bytes, w->record.len);
    return document_terms(analyzer, w->d, &w->terms);
}

static syna_rc prepare_all(struct storing *s, const syna_document *documents)
{
    struct analyzer analyzer;
    pthread_rwlock_rdlock(&s->index->state_lock); /* another opening may choose another one */
    analyzer = s->index->analyzer;
    pthread_rwlock_unlock(&s->index->state_lock);
    for (size_t i = 0; i < s->count; i++) {
        s->items[i].d = &documents[i];
        SYNA_TRY(prepare(&analyzer, &s->items[i]));
    }
    return SYNA_SUCCESS;
}

static void free_items(struct storing *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mem_free(s->items[i].name);
        buf_dispose(&s->items[i].record);
        terms_found_dispose(&s->items[i].terms);
        row_terms_dispose(&s->items[i].numbers);
    }
    mem_free(s->items);
}

/* ---------------------------------------------------------------- promise */

static void room_change(struct text_room *sum, const struct text_room *room, bool add)
{
    size_t sign = add ? 1 : (size_t)-1; /* wraps round as it should */
    sum->rows += sign * room->rows;
    sum->ids += sign * room->ids;
    sum->postings += sign * room->postings;
    sum->metadata += sign * room->metadata;
}

static syna_rc promise_locked(struct storing *s)
{
    syna_text *index = s->index;
    for (size_t i = 0; i < s->count; i++) {
        struct writing *w = &s->items[i];
        SYNA_TRY(text_intern(&index->rows, &w->terms, &w->numbers));
        terms_found_dispose(&w->terms);
        text_room_add(&s->room, w->d, &w->numbers);
    }
    SYNA_TRY(text_rows_reserve(&index->rows, &index->promised, &s->room));
    room_change(&index->promised, &s->room, true);
    s->done = index->done;
    s->begun = ++index->begun;
    s->with_config = !index->configured;
    s->config_len = text_config_text(index, s->config);
    return SYNA_SUCCESS;
}

static syna_rc promise(struct storing *s)
{
    pthread_rwlock_wrlock(&s->index->state_lock);
    syna_rc rc = promise_locked(s);
    pthread_rwlock_unlock(&s->index->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- commit */

static syna_rc put_in_batch(const struct storing *s, syna_batch *batch)
{
    if (s->with_config)
        SYNA_TRY(db_batch_put(batch, TEXT_CONFIG_KEY, strlen(TEXT_CONFIG_KEY), SYNA_TYPE_TEXT,
                              s->config, s->config_len, NULL));
    for (size_t i = 0; i < s->count; i++) {
        const struct writing *w = &s->items[i];
        SYNA_TRY(db_batch_put(batch, w->name, w->name_len, SYNA_TYPE_PACKED, w->record.bytes,
                              w->record.len, NULL));
    }
    return SYNA_SUCCESS;
}

/* One document alone is a put; everything else is a batch, so that it is there whole or not at all. */
static syna_rc commit(const struct storing *s)
{
    const struct writing *first = &s->items[0];
    syna_db *db = s->index->db;
    if (s->count == 1 && !s->with_config)
        return db_put(db, first->name, first->name_len, SYNA_TYPE_PACKED, first->record.bytes,
                      first->record.len, NULL, NULL);
    syna_batch *batch;
    SYNA_TRY(db_batch_new(db, &batch));
    syna_rc rc = put_in_batch(s, batch);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc;
}

/* ---------------------------------------------------------------- apply */

/* Was no other write under way at any time between the promise and now? */
static bool was_alone(const struct storing *s)
{
    const syna_text *index = s->index;
    return index->begun == s->begun && s->done == s->begun - 1;
}

/* Is this record what the log has newest? If not, whoever wrote that applies it. When this cannot be
 * found out it is applied: the next opening reads the log anyhow. */
static bool is_newest(const syna_text *index, const struct writing *w)
{
    void *record;
    size_t len;
    int32_t type;
    struct status_record why = *status_get();
    syna_rc rc = db_get_copy(index->db, w->name, w->name_len, SYNA_TYPE_PACKED, &record, &len, &type);
    if (rc != SYNA_SUCCESS) {
        status_set(&why);
        return rc != SYNA_ERR_KEY_NOT_FOUND && rc != SYNA_ERR_TYPE_MISMATCH;
    }
    bool same = len == w->record.len && memcmp(record, w->record.bytes, len) == 0;
    mem_free(record);
    return same;
}

static void apply_all(struct storing *s, size_t *added)
{
    syna_text *index = s->index;
    bool alone = was_alone(s);
    for (size_t i = 0; i < s->count; i++) {
        const struct writing *w = &s->items[i];
        if (alone || is_newest(index, w))
            *added += text_rows_put(&index->rows, w->d, &w->numbers, w->hash);
        index->changes++;
    }
    index->configured = true;
}

/* After the commit, or to take the promise back when `committed` is a failure. */
static syna_rc settle(struct storing *s, syna_rc committed, size_t *added)
{
    syna_text *index = s->index;
    pthread_rwlock_wrlock(&index->state_lock);
    if (committed == SYNA_SUCCESS)
        apply_all(s, added);
    room_change(&index->promised, &s->room, false);
    index->done++;
    pthread_rwlock_unlock(&index->state_lock);
    return committed;
}

/* The document is written; that the index could not be brought up to date is no failure of the s. */
static void maintain(syna_text *index)
{
    struct status_record why = *status_get();
    if (text_maintain(index) != SYNA_SUCCESS)
        status_set(&why);
}

syna_rc text_put(syna_text *index, const syna_document *documents, size_t count, size_t *added)
{
    struct storing s = {.index = index, .count = count};
    *added = 0;
    if (count == 0)
        return SYNA_SUCCESS;
    s.items = mem_zalloc(count * sizeof *s.items);
    if (!s.items)
        return syna_no_memory(count * sizeof *s.items);
    syna_rc rc = prepare_all(&s, documents);
    if (rc == SYNA_SUCCESS)
        rc = promise(&s);
    if (rc == SYNA_SUCCESS)
        rc = settle(&s, commit(&s), added);
    free_items(&s);
    if (rc == SYNA_SUCCESS)
        maintain(index);
    return rc;
}

/* ---------------------------------------------------------------- metadata */

/* The text is read under the writers' lock, so nobody can replace it between. */
struct metadata_change {
    struct storing *storing;
    void *block; /* the record that was read */
    bool missing;
};

static syna_rc read_and_put(void *context, syna_batch *batch)
{
    struct metadata_change *change = context;
    struct writing *w = &change->storing->items[0];
    syna_document old;
    size_t len;
    int32_t type;
    mem_free(change->block);
    change->block = NULL;
    syna_rc rc = db_get_copy(change->storing->index->db, w->name, w->name_len, SYNA_TYPE_PACKED,
                             &change->block, &len, &type);
    change->missing = rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH ||
                      (rc == SYNA_SUCCESS && !document_decode(change->block, len, &old));
    if (change->missing)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    old.id = w->d->id;
    old.id_len = w->d->id_len;
    old.metadata = w->d->metadata;
    old.metadata_len = w->d->metadata_len;
    SYNA_TRY(document_check(&old));
    SYNA_TRY(document_encode(&old, &w->record));
    return db_batch_put(batch, w->name, w->name_len, SYNA_TYPE_PACKED, w->record.bytes,
                        w->record.len, NULL);
}

/* Around a change that is no put: who puts meanwhile is not alone. */
static void change_begins(syna_text *index)
{
    pthread_rwlock_wrlock(&index->state_lock);
    index->begun++;
    pthread_rwlock_unlock(&index->state_lock);
}

/* Make the rows of a name what the log has, unless the change failed. */
static syna_rc change_ends(syna_text *index, const char *name, size_t len, syna_rc changed)
{
    pthread_rwlock_wrlock(&index->state_lock);
    syna_rc rc = changed == SYNA_SUCCESS ? text_apply(index, name, len, true) : changed;
    index->done++;
    pthread_rwlock_unlock(&index->state_lock);
    if (rc == SYNA_SUCCESS)
        maintain(index);
    return rc;
}

syna_rc text_set_metadata(syna_text *index, const char *id, size_t id_len, const char *metadata,
                          size_t metadata_len)
{
    syna_document d = {.id = id, .id_len = id_len, .metadata = metadata,
                       .metadata_len = metadata_len};
    struct writing item = {.d = &d};
    struct storing s = {.index = index, .items = &item, .count = 1};
    struct metadata_change change = {.storing = &s};
    SYNA_TRY(document_check(&d));
    SYNA_TRY(make_name(id, id_len, &item.name, &item.name_len));
    change_begins(index);
    syna_rc rc = db_update(index->db, read_and_put, &change);
    if (rc == SYNA_SUCCESS && change.missing)
        rc = text_missing(index, id, id_len);
    rc = change_ends(index, item.name, item.name_len, rc);
    mem_free(change.block);
    mem_free(item.name);
    buf_dispose(&item.record);
    return rc;
}

/* ---------------------------------------------------------------- deleting */

syna_rc text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted)
{
    char *name;
    size_t len;
    *deleted = 0;
    SYNA_TRY(make_name(id, id_len, &name, &len));
    syna_rc rc = SYNA_SUCCESS;
    if (text_contains(index, id, id_len)) { /* a value that is no document of ours stays */
        change_begins(index);
        rc = change_ends(index, name, len, db_delete(index->db, name, len, deleted));
    }
    mem_free(name);
    return rc;
}

/* ---------------------------------------------------------------- upkeep */

syna_rc text_flush(syna_text *index)
{
    return db_flush(index->db);
}

/* Rows stand for ids, not for places in the log: nothing of them changes. */
syna_rc text_compact(syna_text *index, syna_progress_fn progress, void *context)
{
    return db_compact(index->db, SYNA_COMPACT_LATEST, progress, context);
}

static bool pack_due(const syna_text *index)
{
    const struct text_rows *rows = &index->rows;
    uint64_t live = postings_live_count(rows->postings);
    return index->promised.rows == 0 && rows->ids.count - live > live + PACK_SLACK;
}

enum work { NOTHING, WINDOWS, PACK };

static enum work next_work(syna_text *index)
{
    pthread_rwlock_rdlock(&index->state_lock);
    enum work work = pack_due(index)                         ? PACK
                     : postings_due(index->rows.postings) ? WINDOWS
                                                          : NOTHING;
    pthread_rwlock_unlock(&index->state_lock);
    return work;
}

static syna_rc pack(syna_text *index)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&index->state_lock);
    if (pack_due(index))
        rc = text_rows_pack(&index->rows);
    index->changes += rc == SYNA_SUCCESS ? index->rows.ids.count : 0;
    pthread_rwlock_unlock(&index->state_lock);
    return rc;
}

static syna_rc renew_windows(syna_text *index)
{
    struct postings_job *job = NULL;
    pthread_rwlock_rdlock(&index->state_lock);
    syna_rc rc = postings_prepare(index->rows.postings, &job);
    pthread_rwlock_unlock(&index->state_lock);
    SYNA_TRY(rc);
    pthread_rwlock_wrlock(&index->state_lock);
    postings_install(index->rows.postings, job);
    pthread_rwlock_unlock(&index->state_lock);
    return SYNA_SUCCESS;
}

/* Whoever finds somebody at work leaves it to him: the rows are searchable as they are. */
syna_rc text_maintain(syna_text *index)
{
    syna_rc rc = SYNA_SUCCESS;
    if (LIKELY(next_work(index) == NOTHING) || pthread_mutex_trylock(&index->upkeep_lock) != 0)
        return SYNA_SUCCESS;
    for (int rounds = 0; rc == SYNA_SUCCESS && rounds < 64; rounds++) {
        enum work work = next_work(index);
        if (work == NOTHING)
            break;
        rc = work == PACK ? pack(index) : renew_windows(index);
    }
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc;
}
