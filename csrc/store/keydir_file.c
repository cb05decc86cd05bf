/* keydir_file.c - the key checkpoint: a keydir as a snapshot whose sections are used where they are
 * mapped. Opening checks the small section `meta` and the lengths of the others, nothing per key.
 *
 *   meta      struct saved_meta
 *   groups    the table
 *   old       the table that entries are being moved from; absent when no move is in progress
 *   entries   struct packed_entry by entry number
 *   history   struct saved_history by history number - 1
 *   records   encoded histories, each followed by its restarts
 *
 * Histories are numbered anew in the order of their entries, so that what the checkpoint before had
 * left unused is dropped. */
#include "base/internal.h"

#include "base/vec.h"
#include "store/keydir_core.h"

#define META_VERSION 1u
/* The table's layout follows from the hash: another hash function makes another file. */
#define HASH_PROBE "synadb key checkpoint"
#define CHUNK (256u << 10)

struct saved_meta {
    uint32_t version;
    uint32_t count; /* entries */
    uint64_t hash_probe;
    uint64_t groups, old_groups, moved;
    uint64_t histories, records_len;
    uint64_t deleted, expiring, records, live_bytes;
    uint64_t last_offset; /* of the last frame covered */
};
static_assert(sizeof(struct saved_meta) == 96, "no padding");

static uint64_t hash_probe(const struct keydir *dir)
{
    return keydir_hash(dir, HASH_PROBE, sizeof HASH_PROBE - 1);
}

/* ---------------------------------------------------------------- saving */

struct saver {
    struct keydir *dir;
    struct snapshot_writer *out;
    struct buf chunk; /* bytes on their way to the snapshot */
    struct saved_meta meta;
};

static syna_rc flush(struct saver *s)
{
    size_t len = s->chunk.len;
    s->chunk.len = 0;
    return len ? snapshot_append(s->out, s->chunk.bytes, len) : SYNA_SUCCESS;
}

/* Add bytes to the section; the chunk has room for one item at least. */
static syna_rc add(struct saver *s, const void *bytes, size_t len)
{
    if (s->chunk.len + len > CHUNK)
        SYNA_TRY(flush(s));
    if (len > CHUNK)
        return snapshot_append(s->out, bytes, len);
    memcpy(s->chunk.bytes + s->chunk.len, bytes, len);
    s->chunk.len += len;
    return SYNA_SUCCESS;
}

static syna_rc save_meta(struct saver *s)
{
    SYNA_TRY(snapshot_section(s->out, "meta"));
    return snapshot_append(s->out, &s->meta, sizeof s->meta);
}

static syna_rc save_table(struct saver *s, const char *name, const struct table *t)
{
    size_t len = (size_t)(t->mask + 1) * sizeof *t->groups;
    if (!t->groups)
        return SYNA_SUCCESS;
    if (!t->block && !snapshot_touch(s->dir->snapshot, t->groups, len))
        return KEYDIR_DAMAGED;
    SYNA_TRY(snapshot_section(s->out, name));
    return snapshot_append(s->out, t->groups, len);
}

/* Entries with the histories numbered anew. */
static syna_rc save_entries(struct saver *s)
{
    SYNA_TRY(snapshot_section(s->out, "entries"));
    for (uint32_t id = 0; id < s->dir->count; id++) {
        const struct packed_entry *p = entry_get(s->dir, id);
        if (!p)
            return KEYDIR_DAMAGED;
        struct packed_entry copy = *p;
        if (packed_history(p))
            copy.chain = (p->chain & ~HISTORY_MAX) | (uint32_t)++s->meta.histories;
        SYNA_TRY(add(s, &copy, sizeof copy));
    }
    return flush(s);
}

static uint64_t restarts_of(const struct history_view *view)
{
    return (view->records - 1) / RESTART_EVERY; /* no history is empty */
}

static size_t padding(uint64_t len)
{
    return (size_t)(-len & 7);
}

/* Call `each` for every history, in the order of entries. */
static syna_rc each_history(struct saver *s,
                            syna_rc (*each)(struct saver *s, const struct history_view *view))
{
    struct history_view view;
    for (uint32_t id = 0; id < s->dir->count; id++) {
        const struct packed_entry *p = entry_at(s->dir, id); /* save_entries has checked it */
        if (!packed_history(p))
            continue;
        if (!history_get_view(s->dir, packed_history(p), &view))
            return KEYDIR_DAMAGED;
        SYNA_TRY(each(s, &view));
    }
    return flush(s);
}

static syna_rc save_history(struct saver *s, const struct history_view *view)
{
    uint64_t len = (uint64_t)(view->end - view->bytes);
    struct saved_history h = {view->last, view->records, s->meta.records_len, len};
    s->meta.records_len += len + padding(len) + restarts_of(view) * RESTART_BYTES;
    return add(s, &h, sizeof h);
}

static syna_rc save_records(struct saver *s, const struct history_view *view)
{
    static const uint8_t zeros[8];
    size_t len = (size_t)(view->end - view->bytes);
    SYNA_TRY(add(s, view->bytes, len));
    SYNA_TRY(add(s, zeros, padding(len)));
    for (uint64_t k = 0; k < restarts_of(view); k++)
        SYNA_TRY(add(s, view->restarts + (ptrdiff_t)k * view->step, RESTART_BYTES));
    return SYNA_SUCCESS;
}

static syna_rc save_sections(struct saver *s)
{
    SYNA_TRY(save_table(s, "groups", &s->dir->table));
    SYNA_TRY(save_table(s, "old", &s->dir->old));
    SYNA_TRY(save_entries(s));
    SYNA_TRY(snapshot_section(s->out, "history"));
    SYNA_TRY(each_history(s, save_history));
    SYNA_TRY(snapshot_section(s->out, "records"));
    SYNA_TRY(each_history(s, save_records));
    return save_meta(s);
}

static void fill_meta(const struct keydir *dir, uint64_t last_offset, struct saved_meta *meta)
{
    *meta = (struct saved_meta){
        .version = META_VERSION,
        .count = dir->count,
        .hash_probe = hash_probe(dir),
        .groups = dir->table.mask + 1,
        .old_groups = dir->old.groups ? dir->old.mask + 1 : 0,
        .moved = dir->old.groups ? dir->moved : 0,
        .deleted = dir->deleted,
        .expiring = dir->expiring,
        .records = dir->records,
        .live_bytes = dir->live_bytes,
        .last_offset = last_offset,
    };
}

syna_rc keydir_save(struct keydir *dir, const char *path, uint64_t last_offset, uint64_t end,
                    uint32_t end_crc)
{
    struct saver s = {.dir = dir};
    struct snapshot_cover cover = {.generation = dir->log->header.generation,
                                   .end = end,
                                   .end_crc = end_crc,
                                   .purpose = SNAPSHOT_KEYS};
    if (dir->spilled_count)
        return syna_no_memory(dir->spilled_count * sizeof *dir->spilled);
    memcpy(cover.uuid, dir->log->header.uuid, sizeof cover.uuid);
    fill_meta(dir, last_offset, &s.meta);
    if (!buf_reserve(&s.chunk, CHUNK))
        return syna_no_memory(CHUNK);
    syna_rc rc = snapshot_begin(path, &cover, &s.out);
    if (rc == SYNA_SUCCESS) {
        rc = save_sections(&s);
        if (rc == SYNA_SUCCESS)
            rc = snapshot_commit(s.out);
        else
            snapshot_abort(s.out);
    }
    buf_dispose(&s.chunk);
    return rc;
}

/* ---------------------------------------------------------------- opening */

static bool power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* A section that holds exactly `count` items of `size` bytes. */
static void *find_section(struct snapshot *snap, const char *name, uint64_t count, size_t size)
{
    size_t len;
    void *bytes = snapshot_find(snap, name, &len);
    return bytes && len / size == count && len % size == 0 ? bytes : NULL;
}

static bool meta_adds_up(const struct keydir *dir, const struct saved_meta *meta)
{
    return meta->version == META_VERSION && meta->hash_probe == hash_probe(dir) &&
           meta->count <= ENTRIES_MAX && meta->histories <= MIN(meta->count, HISTORY_MAX) &&
           power_of_two(meta->groups) && meta->groups >= GROUPS_MIN &&
           meta->count <= table_limit(meta->groups) &&
           (meta->old_groups == 0 || power_of_two(meta->old_groups)) &&
           meta->old_groups <= meta->groups && meta->moved <= meta->old_groups;
}

static bool use_tables(struct keydir *dir, const struct saved_meta *meta)
{
    table_free(&dir->table);
    dir->table.groups = find_section(dir->snapshot, "groups", meta->groups, sizeof(struct group));
    dir->table.mask = meta->groups - 1;
    if (meta->old_groups == 0)
        return dir->table.groups != NULL;
    dir->old.groups = find_section(dir->snapshot, "old", meta->old_groups, sizeof(struct group));
    dir->old.mask = meta->old_groups - 1;
    dir->moved = meta->moved;
    return dir->table.groups && dir->old.groups;
}

static bool use_histories(struct keydir *dir, const struct saved_meta *meta)
{
    struct snapshot *snap = dir->snapshot;
    dir->saved_histories =
        find_section(snap, "history", meta->histories, sizeof *dir->saved_histories);
    dir->saved_records = find_section(snap, "records", meta->records_len, 1);
    dir->saved_records_len = meta->records_len;
    dir->history_count = dir->mapped_histories = (uint32_t)meta->histories;
    return dir->saved_histories && dir->saved_records;
}

/* false also when there is no memory for the list of segments: *rc tells. */
static bool use_entries(struct keydir *dir, const struct saved_meta *meta, syna_rc *rc)
{
    uint32_t segments = (uint32_t)(((uint64_t)meta->count + SEGMENT_ENTRIES - 1) >> SEGMENT_BITS);
    struct packed_entry *entries =
        find_section(dir->snapshot, "entries", meta->count, sizeof *entries);
    if (!entries)
        return false;
    dir->segments = mem_alloc((segments + 1) * sizeof *dir->segments);
    if (!dir->segments) {
        *rc = syna_no_memory((segments + 1) * sizeof *dir->segments);
        return false;
    }
    for (uint32_t i = 0; i < segments; i++)
        dir->segments[i] = entries + ((size_t)i << SEGMENT_BITS);
    dir->segment_count = segments;
    dir->segment_cap = segments + 1;
    dir->count = dir->mapped_entries = meta->count;
    return true;
}

static bool use_snapshot(struct keydir *dir, struct kvlog *log, syna_rc *rc)
{
    const struct snapshot_cover *cover = snapshot_cover_of(dir->snapshot);
    struct saved_meta meta;
    const void *bytes = find_section(dir->snapshot, "meta", 1, sizeof meta);
    if (!bytes) /* so small a section has been checked by the opening */
        return false;
    memcpy(&meta, bytes, sizeof meta);
    if (!meta_adds_up(dir, &meta) || !use_tables(dir, &meta) || !use_histories(dir, &meta) ||
        !use_entries(dir, &meta, rc))
        return false;
    dir->deleted = meta.deleted;
    dir->expiring = meta.expiring;
    dir->records = meta.records;
    dir->live_bytes = meta.live_bytes;
    return kvlog_trust(log, meta.last_offset, cover->end, cover->end_crc);
}

syna_rc keydir_load(struct kvlog *log, const char *path, struct keydir **out)
{
    struct snapshot_cover cover = {.generation = log->header.generation, .purpose = SNAPSHOT_KEYS};
    struct snapshot *snap;
    struct keydir *dir;
    *out = NULL;
    memcpy(cover.uuid, log->header.uuid, sizeof cover.uuid);
    SYNA_TRY(snapshot_open(path, &cover, &snap));
    if (!snap)
        return SYNA_SUCCESS;
    syna_rc rc = keydir_new(log, &dir);
    if (rc != SYNA_SUCCESS) {
        snapshot_close(snap);
        return rc;
    }
    dir->snapshot = snap;
    if (use_snapshot(dir, log, &rc))
        *out = dir;
    else
        keydir_free(dir);
    return rc;
}
