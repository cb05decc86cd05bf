/* text_repack.c - before a compaction: packs with dead documents are written again without them, and short
 * documents that stand alone go into packs.
 *
 *   survey   which packs have dead documents, which short ones stand alone; from the first row that these
 *            concern on, all rows are written again, so that the order in the log is that of the rows
 *   copy     commit by commit, documents into new packs (long ones into records anew); then the rows know
 *            their packs. A record of its own still counts for more than its copy
 *   drop     records that were copied and have not changed since; old packs
 *   marks    nulls of deleted documents, which no pack has any more
 *
 *   1. After each commit the log says the same as before it, by the rules of text_pack.h: a crash at any moment
 *      leaves copies that the next compaction takes away.
 *   2. pack_lock keeps other packs, deletions and changes of metadata out; single documents are still written.
 *      What such a write made of a document after its copy was taken stays, as the record has changed.
 *   3. upkeep_lock keeps rows from being numbered anew. Ids never move, so they are borrowed.
 *   4. A record is dropped only when the index has its contents in memory: whoever has committed the same id
 *      and not applied it yet finds the record still there, or nothing to do. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/db_update.h"
#include "engine/text_core.h"

#define COMMIT_ROWS 8192u

struct pack_use {
    uint32_t held, live; /* documents, and those of them that count */
    uint32_t first, last; /* rows */
};

/* A row to be copied, or that was. */
struct moving {
    const char *id;
    uint32_t id_len;
    uint32_t pack;    /* where it stood before; 0: in none */
    uint32_t to;      /* the pack that has its copy */
    uint64_t hash;    /* of the record of its own that was copied */
    bool own, copied; /* it had such a record; it goes into a pack */
};

struct repacking {
    syna_text *index;
    uint32_t before;  /* the packs that there were have numbers up to this one */
    struct buf uses;  /* struct pack_use, by number */
    uint32_t from, stop; /* rows to be copied */
    uint32_t row;     /* the next one */
    uint32_t last_pack;
    struct pack pack;
    size_t pending;   /* documents from this one of `moving` on are in `pack` */
    struct buf moving; /* struct moving, of one commit */
    struct buf own;   /* struct moving: records to be dropped */
    size_t dropped;   /* of `own` */
    uint32_t block_pack; /* the pack that was read last */
    void *block;
    size_t block_len;
};

static struct pack_use *use_of(const struct repacking *r, uint32_t pack)
{
    return (struct pack_use *)(void *)r->uses.bytes + pack;
}
static struct moving *moving_of(const struct buf *b)
{
    return (struct moving *)(void *)b->bytes;
}
static size_t moving_count(const struct buf *b)
{
    return b->len / sizeof(struct moving);
}

/* false: the row is dead. */
static bool look_at(const struct repacking *r, uint32_t row, struct moving *m)
{
    syna_text *index = r->index;
    size_t len;
    *m = (struct moving){0};
    pthread_rwlock_rdlock(&index->state_lock);
    bool live = postings_is_live(index->rows.postings, row);
    m->id = names_at(&index->rows.ids, row, &len);
    m->pack = text_row_pack(&index->rows, row);
    pthread_rwlock_unlock(&index->state_lock);
    m->id_len = (uint32_t)len;
    return live;
}

/* ---------------------------------------------------------------- survey */

static syna_rc count_held(void *context, const syna_record *record)
{
    struct repacking *r = context;
    struct pack_reader pack;
    uint32_t number = pack_number(record->key, record->key_len);
    if (number && number <= r->before && pack_open(record->data, record->len, &pack))
        use_of(r, number)->held = (uint32_t)MAX(pack.left, (uint64_t)1);
    return SYNA_SUCCESS;
}

/* Is it a document with a short record of its own? */
static syna_rc is_short(const struct repacking *r, const struct moving *m, bool *is)
{
    void *block;
    size_t len;
    syna_document d;
    *is = false;
    syna_rc rc = text_newest(r->index, m->id, m->id_len, 0, &block, &len, &d);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    *is = pack_takes(&d);
    mem_free(block);
    return SYNA_SUCCESS;
}

static syna_rc survey_row(struct repacking *r, uint32_t row, uint32_t *alone, uint32_t *first_alone)
{
    struct moving m;
    bool own, brief;
    if (!look_at(r, row, &m))
        return SYNA_SUCCESS;
    SYNA_TRY(text_stands_alone(r->index, m.id, m.id_len, &own));
    if (!own) {
        struct pack_use *use = use_of(r, MIN(m.pack, r->before));
        use->first = use->live ? use->first : row;
        use->last = row;
        use->live++;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(is_short(r, &m, &brief));
    if (brief && (*alone)++ == 0)
        *first_alone = row;
    return SYNA_SUCCESS;
}

/* A pack whose rows are in part behind `from` goes as a whole. */
static void choose_from(struct repacking *r)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t p = 1; p <= r->before; p++) {
            const struct pack_use *use = use_of(r, p);
            if (use->live == 0 || use->first >= r->from ||
                (use->live == use->held && use->last < r->from))
                continue;
            r->from = use->first;
            changed = true;
        }
    }
}

static syna_rc survey(struct repacking *r)
{
    uint64_t packs;
    uint32_t alone = 0, first_alone = 0;
    size_t bytes = ((size_t)r->before + 1) * sizeof(struct pack_use);
    uint8_t *uses = buf_extend(&r->uses, bytes);
    if (!uses)
        return syna_no_memory(bytes);
    memset(uses, 0, bytes);
    SYNA_TRY(db_newest(r->index->db, PACK_PREFIX, PACK_PREFIX_LEN, SYNA_TYPE_PACKED, &packs,
                       count_held, r));
    for (uint32_t row = 0; row < r->stop; row++)
        SYNA_TRY(survey_row(r, row, &alone, &first_alone));
    r->from = alone >= PACK_LEAST ? first_alone : r->stop;
    choose_from(r);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- copying */

/* The rows of the next commit. */
static syna_rc gather(struct repacking *r)
{
    r->moving.len = 0;
    for (size_t i = 0; r->row < r->stop && i < COMMIT_ROWS; r->row++) {
        struct moving m;
        if (!look_at(r, r->row, &m))
            continue;
        if (!buf_append(&r->moving, &m, sizeof m))
            return syna_no_memory(r->moving.len);
        i++;
    }
    return SYNA_SUCCESS;
}

/* The document as it is now: of a pack that was read before, or *given, which is to be freed. */
static syna_rc fetch(struct repacking *r, struct moving *m, void **given, syna_document *d)
{
    size_t len;
    SYNA_TRY(text_stands_alone(r->index, m->id, m->id_len, &m->own));
    *given = NULL;
    if (!m->own && m->pack && m->pack == r->block_pack)
        return pack_find(r->block, r->block_len, m->id, m->id_len, d) ? SYNA_SUCCESS
                                                                      : SYNA_ERR_KEY_NOT_FOUND;
    SYNA_TRY(text_newest(r->index, m->id, m->id_len, m->pack, given, &len, d));
    if (m->own) {
        m->hash = record_hash(*given, len);
        return SYNA_SUCCESS;
    }
    mem_free(r->block);
    r->block = *given;
    r->block_len = len;
    r->block_pack = m->pack;
    *given = NULL;
    return SYNA_SUCCESS;
}

static syna_rc put_alone(syna_batch *batch, struct moving *m, const syna_document *d)
{
    char name[DOC_PREFIX_LEN + SYNA_TEXT_ID_MAX];
    struct buf record = {0};
    memcpy(name, DOC_PREFIX, DOC_PREFIX_LEN);
    memcpy(name + DOC_PREFIX_LEN, d->id, d->id_len);
    syna_rc rc = document_encode(d, &record);
    if (rc == SYNA_SUCCESS)
        rc = db_batch_put(batch, name, DOC_PREFIX_LEN + d->id_len, SYNA_TYPE_PACKED, record.bytes,
                          record.len, NULL);
    buf_dispose(&record);
    m->own = m->copied = false; /* the record is the new one */
    return rc;
}

/* What is in r->pack, up to document `until` of the commit, into the batch. */
static syna_rc put_pending(struct repacking *r, syna_batch *batch, size_t until)
{
    if (r->pack.count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(text_new_pack(r->index, &r->last_pack));
    SYNA_TRY(text_put_pack(batch, r->last_pack, &r->pack));
    for (size_t i = r->pending; i < until; i++)
        if (moving_of(&r->moving)[i].copied)
            moving_of(&r->moving)[i].to = r->last_pack;
    pack_clear(&r->pack);
    return SYNA_SUCCESS;
}

static syna_rc copy_one(struct repacking *r, syna_batch *batch, size_t i)
{
    struct moving *m = moving_of(&r->moving) + i;
    void *given;
    syna_document d = {0};
    m->copied = false;
    syna_rc rc = fetch(r, m, &given, &d);
    if (rc == SYNA_ERR_KEY_NOT_FOUND) {
        m->own = false;
        return SYNA_SUCCESS; /* not written by us, or gone */
    }
    SYNA_TRY(rc);
    d.id = m->id;
    d.id_len = m->id_len;
    if (pack_takes(&d)) {
        if (r->pack.count == 0)
            r->pending = i;
        rc = pack_add(&r->pack, &d);
        m->copied = rc == SYNA_SUCCESS;
        if (rc == SYNA_SUCCESS && pack_full(&r->pack))
            rc = put_pending(r, batch, i + 1);
    } else {
        rc = put_pending(r, batch, i);
        if (rc == SYNA_SUCCESS)
            rc = put_alone(batch, m, &d);
    }
    mem_free(given);
    return rc;
}

/* The rows of one commit. It can be called again, with an empty batch. */
static syna_rc copy_rows(void *context, syna_batch *batch)
{
    struct repacking *r = context;
    size_t count = moving_count(&r->moving);
    pack_clear(&r->pack);
    for (size_t i = 0; i < count; i++)
        SYNA_TRY(copy_one(r, batch, i));
    return put_pending(r, batch, count);
}

/* The rows know where their documents stand; a newer row of the same id, too. */
static syna_rc settle_copies(struct repacking *r)
{
    struct text_rows *rows = &r->index->rows;
    r->index->last_pack = MAX(r->index->last_pack, r->last_pack);
    for (size_t i = 0; i < moving_count(&r->moving); i++) {
        struct moving *m = moving_of(&r->moving) + i;
        uint32_t row = m->copied ? names_find(&rows->ids, m->id, m->id_len) : ROW_NONE;
        if (row == ROW_NONE)
            continue;
        SYNA_TRY(runs_set(&rows->packs, row, m->to));
        r->index->changes++;
        if (m->own && m->hash == text_row_hash(rows, row) && !buf_append(&r->own, m, sizeof *m))
            return syna_no_memory(r->own.len);
    }
    return SYNA_SUCCESS;
}

static syna_rc copy_all(struct repacking *r)
{
    r->row = r->from;
    while (r->row < r->stop) {
        SYNA_TRY(gather(r));
        SYNA_TRY(db_update(r->index->db, copy_rows, r));
        pthread_rwlock_wrlock(&r->index->state_lock);
        syna_rc rc = settle_copies(r);
        pthread_rwlock_unlock(&r->index->state_lock);
        SYNA_TRY(rc);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- dropping */

/* Records that are still what was copied. */
static syna_rc drop_copied(void *context, syna_batch *batch)
{
    struct repacking *r = context;
    char name[DOC_PREFIX_LEN + SYNA_TEXT_ID_MAX];
    size_t stop = MIN(moving_count(&r->own), r->dropped + COMMIT_ROWS);
    memcpy(name, DOC_PREFIX, DOC_PREFIX_LEN);
    for (size_t i = r->dropped; i < stop; i++) {
        const struct moving *m = moving_of(&r->own) + i;
        void *block;
        size_t len;
        syna_document d;
        syna_rc rc = text_newest(r->index, m->id, m->id_len, 0, &block, &len, &d);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            continue;
        SYNA_TRY(rc);
        bool same = record_hash(block, len) == m->hash;
        mem_free(block);
        memcpy(name + DOC_PREFIX_LEN, m->id, m->id_len);
        if (same)
            SYNA_TRY(db_batch_delete(batch, name, DOC_PREFIX_LEN + m->id_len));
    }
    return SYNA_SUCCESS;
}

static syna_rc drop_packs(void *context, syna_batch *batch)
{
    struct repacking *r = context;
    char name[PACK_NAME_LEN];
    for (uint32_t p = 1; p <= r->before; p++) {
        const struct pack_use *use = use_of(r, p);
        if (use->held == 0 || (use->live > 0 && use->first < r->from))
            continue;
        pack_name(p, name);
        SYNA_TRY(db_batch_delete(batch, name, sizeof name));
    }
    return SYNA_SUCCESS;
}

static syna_rc drop_all(struct repacking *r)
{
    for (r->dropped = 0; r->dropped < moving_count(&r->own); r->dropped += COMMIT_ROWS)
        SYNA_TRY(db_update(r->index->db, drop_copied, r));
    return db_update(r->index->db, drop_packs, r);
}

/* ---------------------------------------------------------------- marks */

static syna_rc note_mark(void *context, const syna_record *record)
{
    struct buf *names = context;
    uint32_t len = (uint32_t)record->key_len;
    bool enough = buf_append(names, &len, sizeof len) && buf_append(names, record->key, len);
    return enough ? SYNA_SUCCESS : syna_no_memory(names->len);
}

struct marks {
    syna_db *db;
    struct buf names; /* u32 length and bytes of each */
};

static syna_rc drop_marks(void *context, syna_batch *batch)
{
    const struct marks *marks = context;
    uint32_t len;
    for (size_t at = 0; at < marks->names.len; at += sizeof len + len) {
        const char *name = (const char *)marks->names.bytes + at + sizeof len;
        void *block;
        size_t size;
        int32_t type;
        memcpy(&len, marks->names.bytes + at, sizeof len);
        struct status_record why = *status_get();
        syna_rc rc = db_get_copy(marks->db, name, len, SYNA_TYPE_NULL, &block, &size, &type);
        if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH) {
            status_set(&why);
            continue; /* added again */
        }
        SYNA_TRY(rc);
        mem_free(block);
        SYNA_TRY(db_batch_delete(batch, name, len));
    }
    return SYNA_SUCCESS;
}

static syna_rc drop_all_marks(syna_text *index)
{
    struct marks marks = {.db = index->db};
    uint64_t count;
    syna_rc rc = db_newest(index->db, DOC_PREFIX, DOC_PREFIX_LEN, SYNA_TYPE_NULL, &count, note_mark,
                           &marks.names);
    if (rc == SYNA_SUCCESS && marks.names.len > 0)
        rc = db_update(index->db, drop_marks, &marks);
    buf_dispose(&marks.names);
    return rc;
}

/* ---------------------------------------------------------------- all of it */

static syna_rc tell_of_packs(void *context, syna_batch *batch)
{
    char config[TEXT_CONFIG_ROOM];
    size_t len = text_config_text(context, config);
    return db_batch_put(batch, TEXT_CONFIG_KEY, strlen(TEXT_CONFIG_KEY), SYNA_TYPE_TEXT, config, len,
                        NULL);
}

static syna_rc repack(struct repacking *r, bool told)
{
    SYNA_TRY(survey(r));
    if (r->from < r->stop && !told)
        SYNA_TRY(db_update(r->index->db, tell_of_packs, r->index));
    SYNA_TRY(copy_all(r));
    SYNA_TRY(drop_all(r));
    return drop_all_marks(r->index);
}

syna_rc text_repack(syna_text *index)
{
    struct repacking r = {.index = index};
    pthread_mutex_lock(&index->pack_lock);
    pthread_mutex_lock(&index->upkeep_lock);
    pthread_rwlock_rdlock(&index->state_lock);
    r.stop = index->rows.ids.count;
    r.before = r.last_pack = index->last_pack;
    bool told = index->packs_told;
    pthread_rwlock_unlock(&index->state_lock);
    syna_rc rc = r.stop || r.before ? repack(&r, told) : SYNA_SUCCESS;
    pthread_mutex_unlock(&index->upkeep_lock);
    pthread_mutex_unlock(&index->pack_lock);
    mem_free(r.block);
    pack_dispose(&r.pack);
    buf_dispose(&r.uses);
    buf_dispose(&r.moving);
    buf_dispose(&r.own);
    return rc;
}
