/* db_salvage.c - copy everything readable of a damaged log, or of one of the ancestor's files, into a
 * new log.
 *
 *   1. The source is only read. The target gets its name when it is complete and on disk.
 *   2. Records keep their order, stamps and event times; a stamp that would go backwards (the
 *      ancestor's files may) is raised, and the time it had is kept as event time.
 *   3. A blob is saved when all its chunks are readable, else not at all.
 *   4. Behind a gap reading goes on. An unfinished commit at the end is left out, as recovery would. */
#include "base/internal.h"

#include "engine/db_ancestor.h"
#include "engine/db_blob.h"
#include "engine/db_check.h"
#include "engine/db_out.h"

struct salvage {
    struct walk walk;
    struct progress progress;
    struct findings to;
    struct out_log out;
    struct ancestor ancestor;
    struct buf scratch, frame, chunk;
    /* The commit being read: where it began in the source and in the target. */
    bool commit_open;
    uint64_t commit_at, commit_out, commit_saved;
};

static syna_rc write_value(struct salvage *s, const struct frame *f, struct value *v)
{
    size_t start;
    uint8_t flags = f->flags & FRAME_TOMBSTONE;
    if (f->stamp < s->out.last_stamp && !v->event_us)
        v->event_us = f->stamp;
    s->frame.len = 0;
    if (!frame_begin(&s->frame, f->key, f->key_len, &start))
        return syna_no_memory(f->key_len);
    SYNA_TRY(value_encode(v, f->flags & FRAME_LZ4, &s->frame, &flags));
    if (!frame_finish(&s->frame, start, flags))
        return syna_no_memory(FRAME_CRC_BYTES);
    return out_frame(&s->out, s->frame.bytes, f->stamp, NULL);
}

/* ---------------------------------------------------------------- blobs */

static syna_rc read_chunk(struct salvage *s, const struct blob_chunk *chunk, struct frame *f, bool *good)
{
    SYNA_TRY(walk_look(&s->walk, chunk->offset, &s->chunk, f, good));
    *good = *good && blob_is_chunk(f, chunk->len);
    return progress_tick(&s->progress, chunk->len);
}

/* The chunks of a manifest into the target; *missing is the offset of one that is not readable. */
static syna_rc copy_chunks(struct salvage *s, const struct blob_manifest *m, struct buf *chunks,
                           uint64_t *missing)
{
    *missing = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct blob_chunk chunk = blob_entry(m, i);
        struct frame f;
        bool good;
        SYNA_TRY(read_chunk(s, &chunk, &f, &good));
        if (!good) {
            *missing = chunk.offset;
            return SYNA_SUCCESS;
        }
        SYNA_TRY(out_chunk(&s->out, &f, &chunk.offset));
        if (!buf_append(chunks, &chunk, sizeof chunk))
            return syna_no_memory(sizeof chunk);
    }
    return SYNA_SUCCESS;
}

static syna_rc write_blob(struct salvage *s, const struct frame *f, struct blob_manifest *m,
                          const struct buf *chunks)
{
    struct buf manifest = {0};
    syna_rc rc = blob_encode((const void *)chunks->bytes, chunks->len / sizeof(struct blob_chunk),
                             &manifest)
                     ? SYNA_SUCCESS
                     : syna_no_memory(chunks->len);
    m->value.data = manifest.bytes;
    m->value.len = manifest.len;
    if (rc == SYNA_SUCCESS)
        rc = write_value(s, f, &m->value);
    buf_dispose(&manifest);
    return rc;
}

static syna_rc save_blob(struct salvage *s, const struct frame *f, bool *saved)
{
    struct blob_manifest m;
    struct buf chunks = {0};
    uint64_t missing = 0, before = out_end(&s->out);
    syna_rc rc = blob_parse(f, s->walk.file.path, &m);
    if (rc == SYNA_SUCCESS)
        rc = copy_chunks(s, &m, &chunks, &missing);
    *saved = rc == SYNA_SUCCESS && !missing;
    if (rc == SYNA_SUCCESS && missing) {
        finding_damage(&s->to, f->offset, "lost: blob \"%.*s\", its chunk at %llu is not readable",
                       (int)MIN(f->key_len, 200), (const char *)f->key, (unsigned long long)missing);
        rc = out_rewind(&s->out, before);
    } else if (rc == SYNA_SUCCESS) {
        rc = write_blob(s, f, &m, &chunks);
    }
    buf_dispose(&chunks);
    blob_manifest_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- records */

/* What a deletion of the ancestor's carries says nothing; ours carries nothing. */
static syna_rc save_ancestor(struct salvage *s, const struct frame *f)
{
    struct value v = {.type = SYNA_TYPE_NULL};
    if (f->flags & FRAME_TOMBSTONE)
        return write_value(s, f, &v);
    SYNA_TRY(ancestor_value(&s->ancestor, f, s->walk.file.path, &s->scratch, &v));
    return write_value(s, f, &v);
}

static syna_rc save_ours(struct salvage *s, const struct frame *f, bool *saved)
{
    struct value v;
    SYNA_TRY(check_frame(f, s->walk.file.path, &s->scratch, &v));
    if (v.type == SYNA_TYPE_BLOB)
        return save_blob(s, f, saved);
    if (f->stamp < s->out.last_stamp && !(f->flags & FRAME_BLOCK))
        return write_value(s, f, &v);
    return out_frame(&s->out, frame_start(f), f->stamp, NULL);
}

static syna_rc save_record(struct salvage *s, const struct frame *f)
{
    bool saved = true;
    syna_rc rc = s->walk.legacy ? save_ancestor(s, f) : save_ours(s, f, &saved);
    if (rc == SYNA_ERR_SERIALIZATION) {
        finding_damage(&s->to, f->offset, "lost: record of \"%.*s\": %s", (int)MIN(f->key_len, 200),
                       (const char *)f->key, finding_reason(s->walk.file.path, f->offset));
        return SYNA_SUCCESS;
    }
    if (rc == SYNA_SUCCESS && saved)
        s->to.out->records_saved++;
    return rc;
}

static syna_rc on_frame(struct salvage *s)
{
    const struct frame *f = &s->walk.frame;
    if (!s->commit_open) {
        s->commit_at = f->offset;
        s->commit_out = out_end(&s->out);
        s->commit_saved = s->to.out->records_saved;
    }
    s->commit_open = !s->walk.legacy && !(f->flags & FRAME_COMMIT);
    s->to.out->frames++;
    s->to.out->bytes += f->len;
    return f->key_len ? save_record(s, f) : SYNA_SUCCESS;
}

static void on_gap(struct salvage *s)
{
    s->commit_open = false;
    finding_damage(&s->to, s->walk.gap_start,
                   "lost: %llu bytes are no frame with a valid checksum; reading goes on at %llu",
                   (unsigned long long)(s->walk.gap_end - s->walk.gap_start),
                   (unsigned long long)s->walk.gap_end);
}

static syna_rc on_end(struct salvage *s)
{
    uint64_t tail = s->commit_open ? s->commit_at : s->walk.at;
    if (s->commit_open) {
        SYNA_TRY(out_rewind(&s->out, s->commit_out));
        s->to.out->records_saved = s->commit_saved;
    }
    if (s->walk.gave_up)
        finding_damage(&s->to, s->walk.at, "lost: all behind here; too much of it looks like frames");
    if (s->walk.data_end <= tail)
        return SYNA_SUCCESS;
    s->to.out->torn_bytes = s->walk.data_end - tail;
    finding_note(&s->to, tail, "left out: %llu bytes at the end that are no whole commit",
                 (unsigned long long)s->to.out->torn_bytes);
    return SYNA_SUCCESS;
}

static syna_rc save_all(struct salvage *s)
{
    enum walk_event event;
    do {
        SYNA_TRY(walk_next(&s->walk, &event));
        if (event == WALK_FRAME)
            SYNA_TRY(on_frame(s));
        else if (event == WALK_GAP)
            on_gap(s);
        SYNA_TRY(finding_status(&s->to));
    } while (event != WALK_END);
    return on_end(s);
}

/* ---------------------------------------------------------------- files */

static syna_rc taken(const char *to)
{
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, to, -1, EEXIST, "a salvage goes to a new file");
}

/* The new log's identity is its own; its time of creation must not lie behind its records' stamps. */
static syna_rc begin_out(struct salvage *s, const char *to)
{
    struct header h = {.major = FORMAT_MAJOR, .minor = FORMAT_MINOR, .kind = KIND_LOG, .generation = 1};
    if (!s->walk.legacy && !s->walk.mended)
        h.created_us = s->walk.header.created_us;
    int rc = syna_vfs->random(h.uuid, sizeof h.uuid);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, to, -1, -rc,
                            "the system gave no random bytes for a new file's identity");
    return out_begin(&s->out, to, s->walk.file.path, &h, &s->progress);
}

static syna_rc finish_out(struct salvage *s, const char *to)
{
    bool exists = false;
    SYNA_TRY(out_engine(&s->out, ENGINE_CLOSE));
    SYNA_TRY(out_flush(&s->out));
    SYNA_TRY(file_sync(&s->out.file));
    s->progress.done = s->progress.total;
    SYNA_TRY(progress_ask(&s->progress));
    SYNA_TRY(out_publish_new(&s->out.file, to, &exists));
    return exists ? taken(to) : SYNA_SUCCESS;
}

static syna_rc salvage_path(struct salvage *s, const char *path, const char *to)
{
    struct vfs_stat st;
    if (syna_vfs->stat_path(to, &st) == 0)
        return taken(to);
    SYNA_TRY(walk_open(&s->walk, path, &s->progress));
    if (s->walk.mended)
        finding_damage(&s->to, 0, "the header block is damaged");
    SYNA_TRY(progress_ask(&s->progress));
    SYNA_TRY(begin_out(s, to));
    SYNA_TRY(save_all(s));
    return finish_out(s, to);
}

syna_rc db_salvage(const char *path, const char *to, syna_finding_fn visit, void *context,
                   syna_progress_fn progress, syna_check *out)
{
    struct salvage s = {.walk.file = FILE_NONE,
                        .out.file = FILE_NONE,
                        .progress = {.ask = progress, .context = context, .what = "salvage"},
                        .to = {.visit = visit, .context = context, .out = out}};
    char *canonical;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    SYNA_TRY(db_canonical_path(path, &canonical));
    syna_rc rc = salvage_path(&s, canonical, to);
    struct status_record why = *status_get();
    walk_close(&s.walk);
    out_discard(&s.out);
    ancestor_dispose(&s.ancestor);
    buf_dispose(&s.scratch);
    buf_dispose(&s.frame);
    buf_dispose(&s.chunk);
    mem_free(canonical);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}
