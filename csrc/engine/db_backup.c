/* db_backup.c - a consistent copy of an open database in a new file.
 *
 * The copy is the log's bytes up to the end of a commit, verbatim: same uuid and generation, so every
 * checksum and every offset in a manifest holds; a CLOSE frame behind them says that the copy is
 * whole. Writers go on meanwhile, compaction too: the generation is pinned. Every frame's checksum is
 * verified on the way, so a backup never carries damage along unseen. The file gets its name only
 * when all of it is on disk. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/db_out.h"

#define PIECE (4u << 20)

struct backup {
    struct generation *gen; /* referenced */
    uint64_t end;           /* copy up to here */
    uint64_t stamp;         /* of the last frame */
    bool closed;            /* the last frame is CLOSE already */
    struct file file;
    struct progress progress;
};

static syna_rc taken(const char *to)
{
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, to, -1, EEXIST, "a backup goes to a new file");
}

/* Pin what is to be copied. A writer copies what it knows to be durable: everything acknowledged
 * before this call, and nothing that a failing sync could still take back. */
static syna_rc choose_end(syna_db *db, struct backup *b)
{
    bool writer = db->writer && !db->inherited;
    if (writer)
        SYNA_TRY(db_flush(db));
    b->gen = generation_ref(db_begin_read(db));
    db_end_read(db);
    const struct kvlog *log = &b->gen->log;
    uint64_t durable = MAX(__atomic_load_n(&log->durable, __ATOMIC_ACQUIRE), log->start);
    b->end = writer ? durable : __atomic_load_n(&log->end, __ATOMIC_ACQUIRE);
    b->progress.total = b->end;
    return SYNA_SUCCESS;
}

static syna_rc copy_bytes(struct backup *b, uint64_t from, uint64_t to)
{
    const uint8_t *base = map_base(&b->gen->log.map);
    while (from < to) {
        uint64_t piece = MIN(to - from, (uint64_t)PIECE);
        SYNA_TRY(file_write_all(&b->file, from, base + from, (size_t)piece));
        SYNA_TRY(progress_step(&b->progress, piece));
        from += piece;
    }
    return SYNA_SUCCESS;
}

/* Check frames until there are enough bytes for a large write. */
static syna_rc copy_frames(struct backup *b)
{
    const struct kvlog *log = &b->gen->log;
    uint64_t copied = 0, at = log->start;
    while (at < b->end) {
        struct frame f;
        SYNA_TRY(kvlog_frame(log, at, &f));
        at += f.len;
        b->stamp = f.stamp;
        b->closed = f.key_len == 0 && f.value[0] == ENGINE_CLOSE;
        if (at - copied >= PIECE) {
            SYNA_TRY(copy_bytes(b, copied, at));
            copied = at;
        }
    }
    return copy_bytes(b, copied, at);
}

static syna_rc append_close(struct backup *b)
{
    const uint8_t kind = ENGINE_CLOSE;
    struct buf frame = {0};
    if (b->closed || b->gen->log.legacy)
        return SYNA_SUCCESS;
    if (!frame_append(&frame, NULL, 0, 0, &kind, 1)) {
        buf_dispose(&frame);
        return syna_no_memory(FRAME_HEADER_BYTES);
    }
    uint64_t stamp = MAX(b->stamp, b->gen->log.header.created_us);
    frame_seal(frame.bytes, b->end, stamp, FRAME_COMMIT | FRAME_PRIOR_DURABLE, b->gen->log.seed);
    syna_rc rc = file_write_all(&b->file, b->end, frame.bytes, frame.len);
    buf_dispose(&frame);
    return rc;
}

static syna_rc write_copy(struct backup *b, const char *to)
{
    bool exists = false;
    SYNA_TRY(progress_ask(&b->progress));
    SYNA_TRY(copy_frames(b));
    SYNA_TRY(append_close(b));
    SYNA_TRY(file_sync(&b->file));
    b->progress.done = b->progress.total;
    SYNA_TRY(progress_ask(&b->progress));
    SYNA_TRY(out_publish_new(&b->file, to, &exists));
    return exists ? taken(to) : SYNA_SUCCESS;
}

syna_rc db_backup(syna_db *db, const char *to, syna_progress_fn progress, void *context)
{
    struct backup b = {.file = FILE_NONE,
                       .progress = {.ask = progress, .context = context, .what = "backup"}};
    struct vfs_stat st;
    if (syna_vfs->stat_path(to, &st) == 0)
        return taken(to);
    SYNA_TRY(choose_end(db, &b));
    syna_rc rc = file_create_temp(&b.file, to);
    if (rc == SYNA_SUCCESS) {
        file_take_access(&b.file, db->path);
        rc = write_copy(&b, to);
        if (rc == SYNA_SUCCESS)
            file_close(&b.file);
        else
            file_discard_temp(&b.file);
    }
    bool source = rc == SYNA_ERR_SERIALIZATION && !kvlog_failed(&b.gen->log);
    generation_unref(b.gen);
    return source ? db_note_damage(db, rc) : rc;
}
