/* text_write.c - put, replace and delete documents. See text_core.h for the order of things. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/db_update.h"
#include "engine/text_core.h"

#define PACK_SLACK 1024u /* dead rows outnumber the live ones by this: number the rows anew */

/* ---------------------------------------------------------------- documents to be written */

/* Of many documents nothing has a block of its own: what is taken at once can be given back at once. */
struct writing {
    const syna_document *d;
    uint64_t hash;    /* of its record */
    size_t at;        /* in `terms`; from the promise on in `numbers`: its numbers and then its counts */
    uint32_t count;   /* terms, repetitions included; from the promise on different ones */
    uint32_t length;  /* repetitions included */
    uint32_t pack;    /* that it was written to; 0: a record of its own */
};

struct storing {
    syna_text *index;
    struct writing *items;
    size_t count;
    struct buf terms;   /* of all items, as in struct terms_found */
    struct buf numbers; /* uint32 */
    struct buf record;  /* of the item at hand */
    struct text_room room;
    bool with_config;
    char config[TEXT_CONFIG_ROOM];
    size_t config_len;
    uint64_t begun, done; /* of the index when this write was promised */
    bool packs_told;
    uint32_t last_pack; /* of the index, and then of this write */
    struct pack pack;   /* documents from `pending` on */
    size_t pending;
};

/* A name in the log, or what is wrong with the id. */
static syna_rc make_name(const char *id, size_t id_len, struct text_name *name)
{
    syna_document d = {.id = id, .id_len = id_len};
    SYNA_TRY(document_check(&d));
    SYNA_TRY(db_check_key(id, id_len));
    text_name_of(id, id_len, name);
    return SYNA_SUCCESS;
}

static syna_rc prepare(struct storing *s, const struct analyzer *analyzer, struct writing *w,
                       struct terms_found *terms)
{
    SYNA_TRY(document_check(w->d));
    SYNA_TRY(db_check_key(w->d->id, w->d->id_len));
    SYNA_TRY(text_hash(w->d, &s->record, &w->hash));
    SYNA_TRY(document_terms(analyzer, w->d, terms));
    w->at = s->terms.len;
    w->count = terms->count;
    return buf_append(&s->terms, terms->bytes.bytes, terms->bytes.len) ? SYNA_SUCCESS
                                                                       : syna_no_memory(terms->bytes.len);
}

static syna_rc prepare_all(struct storing *s, const syna_document *documents)
{
    struct analyzer analyzer;
    struct terms_found terms = {0};
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_rdlock(&s->index->state_lock); /* another opening may choose another one */
    analyzer = s->index->analyzer;
    pthread_rwlock_unlock(&s->index->state_lock);
    for (size_t i = 0; rc == SYNA_SUCCESS && i < s->count; i++) {
        s->items[i].d = &documents[i];
        rc = prepare(s, &analyzer, &s->items[i], &terms);
    }
    terms_found_dispose(&terms);
    return rc;
}

static void free_all(struct storing *s)
{
    buf_dispose(&s->terms);
    buf_dispose(&s->numbers);
    buf_dispose(&s->record);
    pack_dispose(&s->pack);
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

/* Numbers for the terms of an item. */
static syna_rc intern(struct storing *s, struct writing *w, struct row_terms *numbers)
{
    struct terms_found terms = {.bytes = {.bytes = s->terms.bytes + w->at}, .count = w->count};
    SYNA_TRY(text_intern(&s->index->rows, &terms, numbers));
    size_t at = s->numbers.len, bytes = numbers->count * sizeof(uint32_t);
    if (!buf_append(&s->numbers, numbers->numbers.bytes, bytes) ||
        !buf_append(&s->numbers, numbers->counts.bytes, bytes))
        return syna_no_memory(2 * bytes);
    w->at = at;
    w->count = numbers->count;
    w->length = numbers->length;
    text_room_add(&s->room, w->d, numbers);
    return SYNA_SUCCESS;
}

static syna_rc intern_all(struct storing *s)
{
    struct row_terms numbers = {0};
    syna_rc rc = SYNA_SUCCESS;
    for (size_t i = 0; rc == SYNA_SUCCESS && i < s->count; i++)
        rc = intern(s, &s->items[i], &numbers);
    row_terms_dispose(&numbers);
    buf_dispose(&s->terms);
    return rc;
}

/* What intern kept of an item; borrowed. */
static struct row_terms numbers_of(const struct storing *s, const struct writing *w)
{
    size_t bytes = w->count * sizeof(uint32_t);
    uint8_t *at = bytes ? s->numbers.bytes + w->at : NULL;
    return (struct row_terms){.numbers = {.bytes = at, .len = bytes},
                              .counts = {.bytes = at ? at + bytes : NULL, .len = bytes},
                              .count = w->count,
                              .length = w->length};
}

static syna_rc promise_locked(struct storing *s)
{
    syna_text *index = s->index;
    SYNA_TRY(intern_all(s));
    SYNA_TRY(text_rows_reserve(&index->rows, &index->promised, &s->room));
    room_change(&index->promised, &s->room, true);
    s->done = index->done;
    s->begun = ++index->begun;
    s->with_config = !index->configured;
    s->packs_told = index->packs_told;
    s->last_pack = index->last_pack;
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

static syna_rc put_config(const struct storing *s, syna_batch *batch)
{
    return db_batch_put(batch, TEXT_CONFIG_KEY, strlen(TEXT_CONFIG_KEY), SYNA_TYPE_TEXT, s->config,
                        s->config_len, NULL);
}

static syna_rc put_alone(struct storing *s, syna_batch *batch, const struct writing *w)
{
    struct text_name name;
    text_name_of(w->d->id, w->d->id_len, &name);
    SYNA_TRY(document_encode(w->d, &s->record));
    return db_batch_put(batch, name.bytes, name.len, SYNA_TYPE_PACKED, s->record.bytes,
                        s->record.len, NULL);
}

static syna_rc put_in_batch(struct storing *s, syna_batch *batch)
{
    if (s->with_config)
        SYNA_TRY(put_config(s, batch));
    for (size_t i = 0; i < s->count; i++)
        SYNA_TRY(put_alone(s, batch, &s->items[i]));
    return SYNA_SUCCESS;
}

/* The documents that wait, up to `until`, into the batch. */
static syna_rc put_pending(struct storing *s, syna_batch *batch, size_t until)
{
    if (s->pack.count == 0)
        return SYNA_SUCCESS;
    bool one = s->pack.count == 1;
    if (one)
        SYNA_TRY(put_alone(s, batch, &s->items[s->pending]));
    else {
        SYNA_TRY(text_new_pack(s->index, &s->last_pack));
        SYNA_TRY(text_put_pack(batch, s->last_pack, &s->pack));
    }
    for (size_t i = s->pending; i < until; i++)
        s->items[i].pack = one ? 0 : s->last_pack;
    pack_clear(&s->pack);
    return SYNA_SUCCESS;
}

/* Short documents into packs, but for those that have records of their own, which count for more. The records
 * come in the order of the documents. Under the writers' lock; it can be called again. */
static syna_rc put_packed(void *context, syna_batch *batch)
{
    struct storing *s = context;
    uint32_t before = s->last_pack;
    pack_clear(&s->pack);
    for (size_t i = 0; i < s->count; i++) {
        struct writing *w = &s->items[i];
        bool alone = !pack_takes(w->d);
        if (!alone)
            SYNA_TRY(text_stands_alone(s->index, w->d->id, w->d->id_len, &alone));
        w->pack = 0;
        if (alone) {
            SYNA_TRY(put_pending(s, batch, i));
            SYNA_TRY(put_alone(s, batch, w));
            continue;
        }
        if (s->pack.count == 0)
            s->pending = i;
        SYNA_TRY(pack_add(&s->pack, w->d));
        if (pack_full(&s->pack))
            SYNA_TRY(put_pending(s, batch, i + 1));
    }
    SYNA_TRY(put_pending(s, batch, s->count));
    if (s->with_config || (s->last_pack > before && !s->packs_told))
        SYNA_TRY(put_config(s, batch));
    return SYNA_SUCCESS;
}

static const char *id_of(void *context, uint32_t row, size_t *len)
{
    const struct writing *w = (const struct writing *)context + row;
    *len = w->d->id_len;
    return w->d->id;
}

/* Many at once, no id twice: then it does not matter which of them go into packs. */
static syna_rc may_pack(const struct storing *s, bool *may)
{
    struct row_keys keys;
    *may = false;
    if (s->count < PACK_LEAST || s->count > NAMES_MAX)
        return SYNA_SUCCESS;
    row_keys_init(&keys, id_of, s->items);
    syna_rc rc = row_keys_reserve(&keys, s->count);
    *may = rc == SYNA_SUCCESS;
    for (uint32_t i = 0; *may && i < s->count; i++) {
        const struct writing *w = &s->items[i];
        *may = row_keys_find(&keys, w->d->id, w->d->id_len) == ROW_NONE;
        row_keys_set(&keys, i);
    }
    row_keys_dispose(&keys);
    return rc;
}

/* One document alone is a put; everything else is a batch, so that it is there whole or not at all. */
static syna_rc commit(struct storing *s, bool packed)
{
    const syna_document *first = s->items[0].d;
    syna_db *db = s->index->db;
    struct text_name name;
    syna_batch *batch;
    if (packed)
        return db_update(db, put_packed, s);
    if (s->count == 1 && !s->with_config) {
        text_name_of(first->id, first->id_len, &name); /* the record is that of `prepare` */
        return db_put(db, name.bytes, name.len, SYNA_TYPE_PACKED, s->record.bytes, s->record.len,
                      NULL, NULL);
    }
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
    struct text_name name;
    void *record;
    size_t len;
    int32_t type;
    struct status_record why = *status_get();
    text_name_of(w->d->id, w->d->id_len, &name);
    syna_rc rc = db_get_copy(index->db, name.bytes, name.len, SYNA_TYPE_PACKED, &record, &len, &type);
    if (rc != SYNA_SUCCESS) {
        status_set(&why);
        return rc != SYNA_ERR_KEY_NOT_FOUND && rc != SYNA_ERR_TYPE_MISMATCH;
    }
    bool same = record_hash(record, len) == w->hash;
    mem_free(record);
    return same;
}

/* The same for a document in a pack: nothing counts for more than it. */
static bool is_newest_pack(const syna_text *index, const struct writing *w)
{
    bool alone;
    struct status_record why = *status_get();
    uint32_t row = names_find(&index->rows.ids, w->d->id, w->d->id_len);
    if (row != ROW_NONE && text_row_pack(&index->rows, row) > w->pack)
        return false;
    if (text_stands_alone(index, w->d->id, w->d->id_len, &alone) == SYNA_SUCCESS)
        return !alone;
    status_set(&why);
    return true;
}

static void apply_all(struct storing *s, size_t *added)
{
    syna_text *index = s->index;
    bool alone = was_alone(s);
    for (size_t i = 0; i < s->count; i++) {
        const struct writing *w = &s->items[i];
        struct row_terms numbers = numbers_of(s, w);
        if (alone || (w->pack ? is_newest_pack(index, w) : is_newest(index, w)))
            *added += text_rows_put(&index->rows, w->d, &numbers, w->hash, w->pack);
        index->changes++;
    }
    index->packs_told |= s->with_config || s->last_pack > index->last_pack;
    index->last_pack = MAX(index->last_pack, s->last_pack);
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

/* The document is written; that the index could not be brought up to date is no failure of the
 * write. */
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
    bool packed = false;
    syna_rc rc = prepare_all(&s, documents);
    if (rc == SYNA_SUCCESS)
        rc = may_pack(&s, &packed);
    if (packed)
        pthread_mutex_lock(&index->pack_lock);
    if (rc == SYNA_SUCCESS)
        rc = promise(&s);
    if (rc == SYNA_SUCCESS)
        rc = settle(&s, commit(&s, packed), added);
    if (packed)
        pthread_mutex_unlock(&index->pack_lock);
    free_all(&s);
    if (rc == SYNA_SUCCESS)
        maintain(index);
    return rc;
}

/* ---------------------------------------------------------------- metadata */

/* The text is read under the writers' lock, so nobody can replace it between. */
struct metadata_change {
    syna_text *index;
    const syna_document *d; /* id and metadata */
    struct text_name name;
    void *block; /* the record that was read */
    struct buf record;
    uint32_t pack; /* where the document stands if it has no record */
    bool missing;
};

static syna_rc read_and_put(void *context, syna_batch *batch)
{
    struct metadata_change *change = context;
    const struct text_name *name = &change->name;
    syna_document changed;
    size_t len;
    mem_free(change->block);
    change->block = NULL;
    syna_rc rc = text_newest(change->index, change->d->id, change->d->id_len, change->pack,
                             &change->block, &len, &changed);
    change->missing = rc == SYNA_ERR_KEY_NOT_FOUND;
    if (change->missing)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    changed.id = change->d->id;
    changed.id_len = change->d->id_len;
    changed.metadata = change->d->metadata;
    changed.metadata_len = change->d->metadata_len;
    SYNA_TRY(document_check(&changed));
    SYNA_TRY(document_encode(&changed, &change->record));
    return db_batch_put(batch, name->bytes, name->len, SYNA_TYPE_PACKED, change->record.bytes,
                        change->record.len, NULL);
}

/* Around a change that is no put: who puts meanwhile is not alone. Returns the pack that has the id. */
static uint32_t change_begins(syna_text *index, const char *id, size_t id_len)
{
    pthread_rwlock_wrlock(&index->state_lock);
    index->begun++;
    uint32_t row = names_find(&index->rows.ids, id, id_len);
    uint32_t pack = row == ROW_NONE ? 0 : text_row_pack(&index->rows, row);
    pthread_rwlock_unlock(&index->state_lock);
    return pack;
}

/* Make the rows of a name what the log has, unless the change failed. */
static syna_rc change_ends(syna_text *index, const struct text_name *name, syna_rc changed)
{
    pthread_rwlock_wrlock(&index->state_lock);
    syna_rc rc = changed == SYNA_SUCCESS ? text_apply(index, name->bytes, name->len, true) : changed;
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
    struct metadata_change change = {.index = index, .d = &d};
    SYNA_TRY(document_check(&d));
    SYNA_TRY(make_name(id, id_len, &change.name));
    pthread_mutex_lock(&index->pack_lock);
    change.pack = change_begins(index, id, id_len);
    syna_rc rc = db_update(index->db, read_and_put, &change);
    if (rc == SYNA_SUCCESS && change.missing)
        rc = text_missing(index, id, id_len);
    rc = change_ends(index, &change.name, rc);
    pthread_mutex_unlock(&index->pack_lock);
    mem_free(change.block);
    buf_dispose(&change.record);
    return rc;
}

/* ---------------------------------------------------------------- deleting */

/* As long as there has been no pack nothing is left of the document. Otherwise a null stands under its name,
 * until a compaction, since a pack may have it. */
static syna_rc discard(syna_text *index, const struct text_name *name, int32_t *deleted)
{
    pthread_rwlock_rdlock(&index->state_lock);
    bool packs = index->last_pack > 0;
    pthread_rwlock_unlock(&index->state_lock);
    if (!packs)
        return db_delete(index->db, name->bytes, name->len, deleted);
    SYNA_TRY(db_put(index->db, name->bytes, name->len, SYNA_TYPE_NULL, NULL, 0, NULL, NULL));
    *deleted = 1;
    return SYNA_SUCCESS;
}

syna_rc text_delete(syna_text *index, const char *id, size_t id_len, int32_t *deleted)
{
    struct text_name name;
    *deleted = 0;
    SYNA_TRY(make_name(id, id_len, &name));
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&index->pack_lock);
    if (text_contains(index, id, id_len)) { /* a value that is no document of ours stays */
        change_begins(index, id, id_len);
        rc = change_ends(index, &name, discard(index, &name, deleted));
    }
    pthread_mutex_unlock(&index->pack_lock);
    return rc;
}

/* ---------------------------------------------------------------- upkeep */

syna_rc text_flush(syna_text *index)
{
    return db_flush(index->db);
}

/* Rows stand for ids, not for places in the log: but for their packs nothing of them changes. */
syna_rc text_compact(syna_text *index, syna_progress_fn progress, void *context)
{
    SYNA_TRY(text_repack(index));
    return db_compact(index->db, SYNA_COMPACT_LATEST, progress, context);
}

static bool pack_due(const syna_text *index)
{
    const struct text_rows *rows = &index->rows;
    uint64_t live = postings_live_count(rows->postings);
    return index->promised.rows == 0 && rows->ids.count - live > live + PACK_SLACK;
}

enum work { NOTHING, WINDOWS, PACK, SAVE };

static enum work next_work(syna_text *index)
{
    pthread_rwlock_rdlock(&index->state_lock);
    enum work work = pack_due(index)                         ? PACK
                     : postings_due(index->rows.postings) ? WINDOWS
                     : text_save_due(index)               ? SAVE
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
        rc = work == PACK      ? pack(index)
             : work == WINDOWS ? renew_windows(index)
                               : text_save_open(index, true);
    }
    pthread_mutex_unlock(&index->upkeep_lock);
    return rc;
}
