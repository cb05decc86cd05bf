/* db_scan.c - ordered scans.
 *
 * A scan walks in slices: under the state lock it copies some entries, going on where its cursor in
 * the order stands; between two calls it holds no lock. It pins the generation it began with, so what
 * the entries point to stays, whatever is written or compacted meanwhile. When the order has been
 * made anew since the last slice, the place is found again by the last key seen. Keys put after the
 * scan began are seen only if that happens.
 *
 * Keys and values are handed out only after a check: small frames by their checksum, the key of a large
 * one by the index, whose hash of it is as strong, so that listing keys does not read large values. */
#include "base/internal.h"

#include "engine/db_blob.h"
#include "store/column.h"

#define SLICE 128u
/* The first slice is short, each later one twice as long: few keys are looked at for nothing when the
 * caller wants only some. */
#define SLICE_FIRST 16u
/* Entries looked at under one hold of the lock, deleted ones included. */
#define SLICE_SEEN 4096u
/* Frames up to this long are checked whole even when only the key is wanted. */
#define CHECK_WHOLE 4096u

struct syna_scan {
    syna_db *db;
    struct generation *gen;
    int32_t mode;
    struct buf prefix, end;
    bool has_end;
    struct buf from;            /* the least key wanted next */
    struct order_cursor cursor; /* the same as a place in the order of `version`; 0 = not yet sought */
    bool finished;
    uint32_t wanted; /* entries of the next slice */
    uint32_t count, next;
    struct entry slice[SLICE];
    uint64_t numbers[SLICE]; /* the values of its numeric records */
    struct buf scratch;      /* a value that had to be unpacked */
};

/* Does the record's value lie in the scratch, of which there is one? */
static bool is_unpacked(const struct syna_scan *s, const syna_record *r)
{
    const uint8_t *data = r->data;
    return s->scratch.cap && data >= s->scratch.bytes && data < s->scratch.bytes + s->scratch.cap;
}

static bool starts_with(const uint8_t *key, size_t len, const struct buf *prefix)
{
    return len >= prefix->len && (prefix->len == 0 || memcmp(key, prefix->bytes, prefix->len) == 0);
}

static int compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int order = MIN(a_len, b_len) ? memcmp(a, b, MIN(a_len, b_len)) : 0;
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* The greater of start and prefix is where the scan begins. */
static bool set_bounds(struct syna_scan *s, const char *prefix, size_t prefix_len, const char *start,
                       size_t start_len, const char *end, size_t end_len)
{
    const uint8_t *first = (const uint8_t *)start;
    size_t first_len = start_len;
    if (!start || (prefix && compare((const uint8_t *)prefix, prefix_len, first, first_len) > 0)) {
        first = (const uint8_t *)prefix;
        first_len = prefix ? prefix_len : 0;
    }
    s->has_end = end != NULL;
    return (!prefix || buf_append(&s->prefix, prefix, prefix_len)) &&
           (!first || buf_append(&s->from, first, first_len)) &&
           (!end || buf_append(&s->end, end, end_len));
}

syna_rc db_scan_new(syna_db *db, const char *prefix, size_t prefix_len, const char *start,
                    size_t start_len, const char *end, size_t end_len, int32_t mode,
                    syna_scan **out)
{
    struct syna_scan *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->db = db;
    s->mode = mode;
    s->wanted = SLICE_FIRST;
    if (!set_bounds(s, prefix, prefix_len, start, start_len, end, end_len)) {
        db_scan_free(s);
        return syna_no_memory(prefix_len + start_len + end_len);
    }
    s->gen = generation_ref(db_begin_read(db));
    db_end_read(db);
    *out = s;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- slices */

/* May the scan hand out this key? false at the first key behind the range, too: then finished. */
static bool in_range(struct syna_scan *s, const uint8_t *key, size_t len)
{
    if (s->has_end && compare(key, len, s->end.bytes, s->end.len) >= 0)
        s->finished = true;
    if (!starts_with(key, len, &s->prefix))
        s->finished = true;
    return !s->finished;
}

/* The least key behind this one is the key itself and a zero byte. */
static syna_rc go_on_behind(struct syna_scan *s, const uint8_t *key, size_t len)
{
    s->from.len = 0;
    uint8_t *p = buf_extend(&s->from, len + 1);
    if (!p)
        return syna_no_memory(len + 1);
    memcpy(p, key, len);
    p[len] = 0;
    return SYNA_SUCCESS;
}

/* Copy live entries into the slice. A lock is held, so a long run of deleted keys ends it early. */
static syna_rc take_entries(struct syna_scan *s)
{
    struct keydir *dir = s->gen->dir;
    const uint8_t *key = NULL;
    size_t key_len = 0;
    keydir_order_prefetch(dir, &s->cursor, s->wanted);
    for (uint32_t seen = 0; s->count < s->wanted && seen < SLICE_SEEN; seen++) {
        struct entry e;
        uint32_t id;
        bool live;
        syna_rc rc = keydir_order_next(dir, &s->cursor, &id);
        s->finished = rc == SYNA_ERR_KEY_NOT_FOUND;
        if (s->finished)
            return SYNA_SUCCESS;
        SYNA_TRY(rc);
        SYNA_TRY(keydir_entry(dir, id, &e));
        key = kvlog_key(&s->gen->log, e.offset);
        key_len = e.key_len;
        if (!in_range(s, key, key_len))
            return SYNA_SUCCESS;
        /* What cannot be read fails when its turn comes, not the keys around it. */
        if (db_entry_live(s->gen, &e, &live) != SYNA_SUCCESS || live)
            s->slice[s->count++] = e;
    }
    s->wanted = MIN(2 * s->wanted, SLICE);
    return go_on_behind(s, key, key_len);
}

/* The next slice, if the scan can go on in the order as it is; *stale when it must be sorted first.
 * Only the first slice wants an order with every key in it. */
static syna_rc take_slice(struct syna_scan *s, bool *stale)
{
    struct keydir *dir = s->gen->dir;
    *stale = s->cursor.version == 0 && !keydir_sorted(dir);
    if (*stale)
        return SYNA_SUCCESS;
    if (s->cursor.version != keydir_order_version(dir))
        SYNA_TRY(keydir_order_seek(dir, s->from.len ? s->from.bytes : (const uint8_t *)"", s->from.len,
                                   &s->cursor));
    return take_entries(s);
}

static syna_rc sort_and_take(struct syna_scan *s)
{
    bool stale;
    pthread_rwlock_wrlock(&s->db->state_lock);
    syna_rc rc = keydir_sort(s->gen->dir);
    if (rc == SYNA_SUCCESS)
        rc = take_slice(s, &stale);
    pthread_rwlock_unlock(&s->db->state_lock);
    return rc;
}

/* A page of the key checkpoint is damaged. The live index is rebuilt from the log; a scan that still
 * has an older generation goes on in the live one. */
static syna_rc mend(struct syna_scan *s)
{
    struct generation *gen = generation_ref(db_begin_read(s->db));
    db_end_read(s->db);
    bool live = gen == s->gen;
    generation_unref(s->gen);
    s->gen = gen;
    s->cursor.version = 0;
    return live ? db_rebuild_index(s->db) : SYNA_SUCCESS;
}

static syna_rc fill_slice(struct syna_scan *s)
{
    bool stale = false;
    s->count = s->next = 0;
    db_begin_read(s->db);
    syna_rc rc = take_slice(s, &stale);
    db_end_read(s->db);
    if (rc == SYNA_SUCCESS && stale)
        rc = sort_and_take(s);
    if (rc != SYNA_SUCCESS) {
        s->count = 0;
        s->cursor.version = 0; /* it may have moved past keys that were not handed out */
    }
    return rc;
}

/* ---------------------------------------------------------------- records */

/* The newest value of a column block is its last. */
static syna_rc read_block(struct syna_scan *s, const struct frame *f, uint64_t *number,
                          syna_record *r)
{
    struct column_source from = {f->value, f->value_len, f->stamp, s->gen->log.file.path, f->offset};
    struct column_info info;
    uint64_t events[COLUMN_MAX];
    SYNA_TRY(column_peek(&from, &info));
    uint64_t event = 0;
    if (info.has_events) {
        SYNA_TRY(column_decode(&from, NULL, NULL, events));
        event = events[info.count - 1];
    }
    *number = info.last_bits;
    r->type = info.type;
    r->data = number;
    r->len = sizeof *number;
    r->time_us = event ? event : info.last_stamp;
    return SYNA_SUCCESS;
}

static syna_rc read_value(struct syna_scan *s, const struct frame *f, syna_record *r)
{
    struct value v;
    SYNA_TRY(value_decode(f, s->gen->log.file.path, &s->scratch, &v));
    r->type = v.type;
    r->data = v.data;
    r->len = v.len;
    r->expires_us = v.expires_us;
    r->time_us = v.event_us ? v.event_us : f->stamp;
    if (v.type == SYNA_TYPE_BLOB) {
        uint64_t size;
        SYNA_TRY(blob_read_manifest(s->gen, f, &size));
        r->data = NULL; /* a scan does not load streamed content; syna_blob_open does */
        r->len = (size_t)size;
    }
    return SYNA_SUCCESS;
}

/* Is the key of an entry what the index says it is? */
static syna_rc check_key(struct syna_scan *s, const struct entry *e)
{
    const struct kvlog *log = &s->gen->log;
    struct frame f;
    if (frame_length(map_base(&log->map) + e->offset) > CHECK_WHOLE) {
        struct entry found;
        db_begin_read(s->db);
        syna_rc rc = keydir_find(s->gen->dir, kvlog_key(log, e->offset), e->key_len, &found);
        db_end_read(s->db);
        if (rc == SYNA_SUCCESS && found.id == e->id)
            return SYNA_SUCCESS;
    }
    return kvlog_frame(log, e->offset, &f);
}

/* Record `at` of the slice. Values need no lock: bytes below a published end do not change, and the
 * generation is pinned. */
static syna_rc read_record(struct syna_scan *s, uint32_t at, syna_record *r)
{
    const struct entry *e = &s->slice[at];
    struct frame f;
    memset(r, 0, sizeof *r);
    r->size = sizeof *r;
    r->type = e->type;
    r->key = (const char *)kvlog_key(&s->gen->log, e->offset);
    r->key_len = e->key_len;
    if (s->mode == SYNA_SCAN_KEYS)
        return check_key(s, e);
    if (at + 1 < s->count)
        db_prefetch_value(s->gen, &s->slice[at + 1]);
    SYNA_TRY(kvlog_frame(&s->gen->log, e->offset, &f));
    if (f.flags & FRAME_BLOCK)
        return read_block(s, &f, &s->numbers[at], r);
    SYNA_TRY(read_value(s, &f, r));
    if (e->flags & ENTRY_INLINE) { /* the ancestor's frames may hold a difference; the index the sum */
        s->numbers[at] = e->payload;
        r->data = &s->numbers[at];
    }
    return SYNA_SUCCESS;
}

syna_rc db_scan_next(syna_scan *scan, syna_record *record)
{
    while (scan->next == scan->count) {
        if (scan->finished)
            return syna_fail(SYNA_ERR_KEY_NOT_FOUND, SYNA_WHY_NONE, "the scan is at its end");
        syna_rc rc = fill_slice(scan);
        if (rc == KEYDIR_DAMAGED)
            rc = mend(scan);
        if (rc != SYNA_SUCCESS)
            return db_note_damage(scan->db, rc);
    }
    return db_note_damage(scan->db, read_record(scan, scan->next++, record));
}

bool db_scan_next_beside(syna_scan *scan, const syna_record *last, syna_record *record)
{
    if (scan->next == scan->count || is_unpacked(scan, last) ||
        read_record(scan, scan->next, record) != SYNA_SUCCESS)
        return false;
    scan->next++;
    return true;
}

void db_scan_free(syna_scan *scan)
{
    if (!scan)
        return;
    generation_unref(scan->gen);
    buf_dispose(&scan->prefix);
    buf_dispose(&scan->from);
    buf_dispose(&scan->end);
    buf_dispose(&scan->scratch);
    mem_free(scan);
}
