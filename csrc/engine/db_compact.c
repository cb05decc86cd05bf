/* db_compact.c - rewrite the log into a new file and swap it in, while readers and writers go on.
 *
 *   snapshot   [write_lock] drain; the end of the log now is the snapshot
 *   copy       what is kept of the snapshot goes to a temp file (db_fold.c, db_copy.c); no lock
 *   index      the new log is replayed into an index of its own; no lock
 *   catch up   frames appended meanwhile, in rounds, until few are left; no lock
 *   save       sync, key checkpoint; no lock
 *   swap       [write_lock] drain, copy the rest, sync, lock the new file, rename over the old one,
 *              sync the directory, put the new generation in place
 *
 *   1. Nothing of the old file is changed, and until the rename a failure leaves everything as it was.
 *   2. The new file is whole, synced and locked before it has the name. A crash before the rename leaves
 *      a temp file that the next writer removes.
 *   3. The key checkpoint on disk is stale, gone or right at any moment: it is replaced or removed
 *      before the rename, and names the generation it belongs to.
 *   4. Readers are never held up but for exchanging one pointer; writers only for the swap. Who pins the
 *      old generation (blobs, scans, backups) keeps its file.
 *
 * Two compactions of one handle run one after the other: the second waits, then does its work on what
 * the first has left. In a shared log another process may swap the file under us: then we start over. */
#include "base/internal.h"

#include "engine/db_compact.h"

/* Stop catching up without the lock when this little is left, or after this many rounds. */
#define REST_BYTES (1u << 20)
#define ROUNDS 4
/* Below this a log is replayed faster than a checkpoint is opened (as in db_open.c). */
#define CHECKPOINT_MIN (1u << 20)
/* Starting over, in a shared log that other processes keep compacting. */
#define ATTEMPTS 3
#define TURN_PAUSE_US 10000u

/* ---------------------------------------------------------------- looking at the old log */

/* Take write_lock and the process lock, with the generation still being the one we compact. On failure
 * no lock is held. */
static syna_rc enter(struct compaction *c)
{
    syna_db *db = c->db;
    pthread_mutex_lock(&db->write_lock);
    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = db_enter_shared(db);
    if (rc == SYNA_SUCCESS) {
        const struct kvlog *log = &db->gen->log;
        rc = c->old && db->gen != c->old ? COMPACTION_MOVED
                                         : file_check_name(db->path, log->device, log->inode);
        if (rc != SYNA_SUCCESS)
            db_leave_shared(db);
    }
    if (rc != SYNA_SUCCESS)
        pthread_mutex_unlock(&db->write_lock);
    return rc;
}

static void leave(struct compaction *c)
{
    db_leave_shared(c->db);
    pthread_mutex_unlock(&c->db->write_lock);
}

static syna_rc take_snapshot(struct compaction *c)
{
    SYNA_TRY(enter(c));
    syna_rc rc = db_drain(c->db);
    c->old = generation_ref(c->db->gen);
    c->snapshot_end = c->old->log.end;
    leave(c);
    SYNA_TRY(rc);

    struct frame first;
    c->at = c->old->log.start;
    c->progress.done = 0;
    c->progress.total = c->snapshot_end - c->at;
    if (c->at < c->snapshot_end) {
        SYNA_TRY(compaction_read_failed(c, kvlog_frame(&c->old->log, c->at, &first)));
        c->first_stamp = first.stamp;
    }
    return progress_ask(&c->progress);
}

/* ---------------------------------------------------------------- the new log */

static syna_rc begin_out(struct compaction *c)
{
    struct header header = c->old->log.header;
    header.generation++;
    return out_begin(&c->out, c->db->path, c->db->path, &header, &c->progress);
}

static syna_rc open_fresh(struct compaction *c)
{
    struct generation *gen = mem_zalloc(sizeof *gen);
    if (!gen)
        return syna_no_memory(sizeof *gen);
    gen->refs = 1;
    syna_rc rc = out_flush(&c->out);
    if (rc == SYNA_SUCCESS)
        rc = kvlog_open(&gen->log, c->out.file.path, true, c->db->options.no_mmap);
    if (rc != SYNA_SUCCESS) {
        mem_free(gen);
        return rc;
    }
    c->fresh = gen;
    return keydir_new(&gen->log, &gen->dir);
}

static syna_rc apply(void *context, const struct frame *f)
{
    struct compaction *c = context;
    SYNA_TRY(keydir_apply(c->fresh->dir, f));
    return progress_tick(&c->progress, f->len);
}

/* Read what has been written into the new log's index. */
static syna_rc index_fresh(struct compaction *c)
{
    struct kvlog_recovery recovery;
    SYNA_TRY(out_flush(&c->out));
    SYNA_TRY(kvlog_replay(&c->fresh->log, apply, c, &recovery));
    c->fresh->published = c->fresh->log.end;
    if (c->fresh->log.end != out_end(&c->out))
        return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, c->out.file.path,
                            (int64_t)c->fresh->log.end, 0,
                            "the new log reads back to here, expected %llu bytes",
                            (unsigned long long)out_end(&c->out));
    return SYNA_SUCCESS;
}

static syna_rc catch_up(struct compaction *c)
{
    for (int round = 0; round < ROUNDS; round++) {
        SYNA_TRY(enter(c));
        uint64_t end = c->old->log.end;
        leave(c);
        if (end - c->at < REST_BYTES)
            return SYNA_SUCCESS;
        SYNA_TRY(compaction_copy(c, end));
        SYNA_TRY(index_fresh(c));
    }
    return SYNA_SUCCESS;
}

/* Everything that can be done before the swap: order the keys if they were in use so, sync, save the
 * key checkpoint. Without one, the old one must go: it could otherwise be taken for the new log's. */
static syna_rc prepare(struct compaction *c)
{
    struct generation *fresh = c->fresh;
    db_begin_read(c->db);
    bool sorted = keydir_sorted(c->old->dir);
    db_end_read(c->db);
    if (sorted)
        SYNA_TRY(keydir_sort(fresh->dir));
    SYNA_TRY(file_sync(&c->out.file));

    struct status_record why = *status_get();
    const struct kvlog *log = &fresh->log;
    bool saved = log->end >= CHECKPOINT_MIN &&
                 keydir_save(fresh->dir, c->db->index_path, log->last_offset, log->end,
                             log->last_crc) == SYNA_SUCCESS;
    if (saved)
        fresh->covered = log->end;
    else
        syna_vfs->remove_name(c->db->index_path);
    status_set(&why);

    pthread_rwlock_wrlock(&c->db->state_lock);
    c->old->covered = 0;
    pthread_rwlock_unlock(&c->db->state_lock);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the swap */

/* Give the new file the name, its lock held. The kernel may report that only the directory's sync
 * failed: then the file has the name, and the new generation must follow, but write no more. */
static syna_rc rename_over(struct compaction *c, struct writer_lock *lock)
{
    syna_db *db = c->db;
    struct kvlog *log = &c->fresh->log;
    char *path = mem_dup(db->path, strlen(db->path));
    if (!path)
        return syna_no_memory(strlen(db->path) + 1);
    syna_rc rc = lock_acquire(lock, c->out.file.path, 0, NULL);
    if (rc == SYNA_SUCCESS)
        rc = file_publish(&c->out.file, db->path, true, NULL);
    bool named = rc == SYNA_SUCCESS || strcmp(c->out.file.path, db->path) == 0;
    if (!named) {
        mem_free(path);
        lock_release(lock);
        return rc;
    }
    mem_free(log->file.path);
    log->file.path = path;
    __atomic_store_n(&log->failed, rc != SYNA_SUCCESS, __ATOMIC_RELEASE);
    generation_swap(db, c->fresh);
    c->fresh = NULL;
    lock_release(&db->lock);
    db->lock = *lock;
    return rc;
}

/* Locks held: the last frames, a mark that all before it is durable, and the exchange. */
static syna_rc swap(struct compaction *c)
{
    struct kvlog *log = &c->fresh->log;
    struct writer_lock lock = WRITER_LOCK_NONE;
    SYNA_TRY(db_drain(c->db));
    SYNA_TRY(compaction_copy(c, c->old->log.end));
    SYNA_TRY(out_engine(&c->out, ENGINE_MARK));
    SYNA_TRY(index_fresh(c));
    SYNA_TRY(file_sync(&c->out.file));
    __atomic_store_n(&log->durable, log->end, __ATOMIC_RELEASE);
    log->grown = true; /* a clean close has a CLOSE frame to append */
    return rename_over(c, &lock);
}

static syna_rc write_new_log(struct compaction *c)
{
    SYNA_TRY(begin_out(c));
    if (c->mode != SYNA_COMPACT_LATEST) {
        SYNA_TRY(compaction_begin_histories(c));
        SYNA_TRY(compaction_fold(c));
    }
    SYNA_TRY(compaction_copy(c, c->snapshot_end));
    SYNA_TRY(open_fresh(c));
    SYNA_TRY(index_fresh(c));
    SYNA_TRY(catch_up(c));
    SYNA_TRY(prepare(c));
    c->progress.done = c->progress.total;
    SYNA_TRY(progress_ask(&c->progress));

    c->progress.ask = NULL; /* from here on it is short, and no caller's code runs under the lock */
    SYNA_TRY(enter(c));
    syna_rc rc = swap(c);
    leave(c);
    return rc;
}

static void dispose(struct compaction *c)
{
    struct status_record why = *status_get();
    out_discard(&c->out);
    generation_unref(c->fresh);
    generation_unref(c->old);
    buf_dispose(&c->kept_from);
    buf_dispose(&c->frame);
    status_set(&why);
}

/* ---------------------------------------------------------------- turns */

static syna_rc take_turn(syna_db *db, struct progress *p)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&db->queue_lock);
    while (db->compacting && rc == SYNA_SUCCESS) {
        pthread_mutex_unlock(&db->queue_lock);
        syna_vfs->pause_us(TURN_PAUSE_US);
        rc = progress_ask(p);
        pthread_mutex_lock(&db->queue_lock);
    }
    if (rc == SYNA_SUCCESS)
        db->compacting = true;
    pthread_mutex_unlock(&db->queue_lock);
    return rc;
}

static void end_turn(syna_db *db)
{
    pthread_mutex_lock(&db->queue_lock);
    db->compacting = false;
    pthread_mutex_unlock(&db->queue_lock);
}

static syna_rc compact_once(syna_db *db, int32_t mode, const struct progress *p)
{
    struct compaction c = {.db = db, .mode = mode, .progress = *p, .out.file = FILE_NONE};
    syna_rc rc = take_snapshot(&c);
    if (rc == SYNA_SUCCESS)
        rc = write_new_log(&c);
    dispose(&c);
    return rc;
}

syna_rc db_compact(syna_db *db, int32_t mode, syna_progress_fn progress, void *context)
{
    struct progress p = {.ask = progress, .context = context, .what = "compaction"};
    if (mode != SYNA_COMPACT_LATEST && mode != SYNA_COMPACT_HISTORY && mode != SYNA_COMPACT_LIVE_HISTORY)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "compaction mode %d, expected SYNA_COMPACT_LATEST, SYNA_COMPACT_HISTORY or "
                         "SYNA_COMPACT_LIVE_HISTORY",
                         mode);
    SYNA_TRY(db_check_writable(db));
    SYNA_TRY(take_turn(db, &p));
    syna_rc rc = COMPACTION_MOVED;
    for (int attempt = 0; attempt < ATTEMPTS && rc == COMPACTION_MOVED; attempt++)
        rc = compact_once(db, mode, &p);
    end_turn(db);
    if (rc == COMPACTION_MOVED)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_LOCKED, db->path, -1, 0,
                            "other processes keep compacting this log");
    return rc;
}
