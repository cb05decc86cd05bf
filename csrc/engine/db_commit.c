/* db_commit.c - the way of a commit: appended under write_lock, made durable without any lock,
 * published to the index, acknowledged.
 *
 *                append             sync                    publish
 *   thread A  --[write_lock]--> leader: fdatasync --------> [state_lock] --> returns
 *   thread B  ---[write_lock]--> waits ....................> published by A  --> returns
 *   thread C  ----[write_lock]-> waits: A's sync began before C's append, so C leads the next one
 *
 * Invariants: the queue is in log order; whoever finds `leading` false and is not done leads, and a
 * leader hands over to the first who still waits; a pending commit is woken once when it is done and
 * at most once before, to lead; commits are published in log order; when a sync fails every commit in
 * the queue fails, and so does every later append (P8). Two syncs of one log never run at once: each
 * would move `durable`, and an error is reported to one of them only. So a flush is a commit of
 * nothing in the same queue.
 *
 * Without sync_on_write a commit is published at once, under write_lock. In a shared log the leader
 * also takes the process lock and does the appending for the whole queue. */
#include "base/internal.h"

#include "engine/db_core.h"

/* ---------------------------------------------------------------- publishing */

static syna_rc replay_published(const struct generation *gen, struct keydir *fresh)
{
    struct frame f;
    for (uint64_t at = gen->log.start; at < gen->published; at = f.offset + f.len) {
        SYNA_TRY(kvlog_frame(&gen->log, at, &f));
        SYNA_TRY(keydir_apply(fresh, &f));
    }
    return SYNA_SUCCESS;
}

/* Replay the published part of the log into a new index, in which those who wait for their sync have
 * their room again. state_lock is held exclusively. */
static syna_rc rebuild_locked(syna_db *db)
{
    struct generation *gen = db->gen;
    struct keydir *fresh = NULL;
    SYNA_TRY(keydir_new(&gen->log, &fresh));
    syna_rc rc = replay_published(gen, fresh);
    if (rc == SYNA_SUCCESS)
        rc = keydir_reserve(fresh, db->unpublished);
    if (rc != SYNA_SUCCESS) {
        keydir_free(fresh);
        return db_index_rc(rc);
    }
    keydir_free(gen->dir);
    gen->dir = fresh;
    gen->covered = 0;
    return SYNA_SUCCESS;
}

syna_rc db_rebuild_index(syna_db *db)
{
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = rebuild_locked(db);
    pthread_rwlock_unlock(&db->state_lock);
    return db_note_damage(db, rc);
}

/* A batch's keys are looked at this many frames ahead, so that their cache misses overlap: a batch of
 * new keys into a large index is then no longer bound by one miss a key. */
#define LOOK_AHEAD 8

static void look_ahead(struct generation *gen, uint64_t *at, uint64_t end, int frames)
{
    struct frame f;
    for (; frames > 0 && *at < end; frames--, *at += f.len) {
        frame_view(map_base(&gen->log.map) + *at, *at, &f);
        keydir_prefetch(gen->dir, f.key, f.key_len);
    }
}

static syna_rc apply_to(struct generation *gen, uint64_t end)
{
    struct frame f;
    uint64_t ahead = gen->published;
    if (ahead < end) /* the first frame's own look-up needs no help */
        ahead += frame_length(map_base(&gen->log.map) + ahead);
    look_ahead(gen, &ahead, end, LOOK_AHEAD);
    while (gen->published < end) {
        frame_view(map_base(&gen->log.map) + gen->published, gen->published, &f);
        SYNA_TRY(keydir_apply(gen->dir, &f));
        gen->published += f.len;
        look_ahead(gen, &ahead, end, 1);
    }
    return SYNA_SUCCESS;
}

syna_rc db_publish_locked(syna_db *db, uint64_t end)
{
    struct generation *gen = db->gen;
    syna_rc rc = apply_to(gen, end);
    if (LIKELY(rc == SYNA_SUCCESS))
        return rc;
    /* A damaged checkpoint page: the log has everything, so read it from there. */
    gen->published = end;
    return rebuild_locked(db);
}

static syna_rc publish(syna_db *db, uint64_t end, size_t records)
{
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = db_publish_locked(db, end);
    db->unpublished -= MIN(records, db->unpublished);
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- failing */

syna_rc db_check_writable(syna_db *db)
{
    const char *path = db->path;
    if (UNLIKELY(db->inherited))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_FORKED, path, -1, 0,
                            "this handle was inherited by fork(): it reads, but only the process that "
                            "opened it writes; open the database again here");
    if (UNLIKELY(!db->writer))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, path, -1, 0,
                            db->report.legacy
                                ? "a file of the ancestor's format is read-only; migrate it to write"
                                : "the database was opened read-only");
    if (UNLIKELY(__atomic_load_n(&db->damaged, __ATOMIC_RELAXED)))
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, -1, 0,
                            "damage was found in this file, so it is no longer written to; `synadb "
                            "verify` lists it, `synadb salvage` copies out the rest");
    return SYNA_SUCCESS;
}

syna_rc db_note_damage(syna_db *db, syna_rc rc)
{
    if (rc == SYNA_ERR_SERIALIZATION && status_get()->reason == SYNA_WHY_CORRUPT)
        __atomic_store_n(&db->damaged, true, __ATOMIC_RELAXED);
    return rc;
}

/* After a failed sync, write_lock held: what is not durable must vanish from file and index. */
static void cut_back(syna_db *db)
{
    struct status_record why = *status_get();
    struct generation *gen = db->gen;
    kvlog_cut_back(&gen->log);
    pthread_rwlock_wrlock(&db->state_lock);
    db->unpublished = 0;
    if (gen->published > gen->log.end) {
        gen->published = gen->log.end;
        rebuild_locked(db);
    }
    pthread_rwlock_unlock(&db->state_lock);
    status_set(&why);
}

/* ---------------------------------------------------------------- the queue */

static void enqueue(syna_db *db, struct pending *p)
{
    sem_init(&p->wake, 0, 0);
    p->next = NULL;
    p->done = false;
    *db->last = p;
    db->last = &p->next;
    __atomic_fetch_add(&db->queued, 1, __ATOMIC_RELAXED);
}

static void finish(syna_db *db, struct pending *list, syna_rc rc)
{
    struct status_record why = *status_get();
    pthread_mutex_lock(&db->queue_lock);
    for (struct pending *p = list; p; p = p->next) {
        p->rc = rc;
        if (rc != SYNA_SUCCESS)
            p->why = why;
        p->done = true;
    }
    pthread_mutex_unlock(&db->queue_lock);
    for (struct pending *p = list, *next; p; p = next) {
        next = p->next;
        sem_post(&p->wake); /* its owner may now be gone */
    }
}

/* Take from the queue what ends at or before `end`. queue_lock held. Those who wrote at once, taken
 * or still waiting, are likely to write at once again. */
static struct pending *take_until(syna_db *db, uint64_t end, size_t *records)
{
    struct pending *list = db->first, **cut = &db->first;
    size_t taken = 0;
    *records = 0;
    while (*cut && (*cut)->end <= end) {
        *records += (*cut)->count;
        cut = &(*cut)->next;
        taken++;
    }
    __atomic_store_n(&db->expected, db->queued, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&db->queued, taken, __ATOMIC_RELAXED);
    if (cut == &db->first)
        return NULL;
    db->first = *cut;
    *cut = NULL;
    if (!db->first)
        db->last = &db->first;
    return list;
}

/* Let the others catch up, for half a sync at most: one sync for eight commits is cheaper than two for
 * four each. A single writer never waits. The processor is offered, not left: waking up would take
 * as long as the wait. (DeWitt et al., "Implementation techniques for main memory database systems",
 * 1984, section 5.2: group commit.) */
static void wait_for_company(syna_db *db)
{
    uint64_t until = syna_vfs->ticks_us() + db->sync_us / 2;
    while (__atomic_load_n(&db->queued, __ATOMIC_RELAXED) <
               __atomic_load_n(&db->expected, __ATOMIC_RELAXED) &&
           syna_vfs->ticks_us() < until)
        syna_vfs->pause_us(0);
}

/* One sync, unless the oldest commit in the queue became durable with somebody else's. */
static syna_rc sync_for_queue(syna_db *db, struct kvlog *log)
{
    pthread_mutex_lock(&db->queue_lock);
    uint64_t oldest = db->first ? db->first->end : UINT64_MAX;
    pthread_mutex_unlock(&db->queue_lock);
    if (oldest <= __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE))
        return SYNA_SUCCESS;
    wait_for_company(db);
    uint64_t start = syna_vfs->ticks_us();
    syna_rc rc = kvlog_sync(log);
    uint64_t took = syna_vfs->ticks_us() - start;
    __atomic_store_n(&db->sync_us, (3 * db->sync_us + took) / 4, __ATOMIC_RELAXED);
    return rc;
}

/* Sync what is in the log and publish it; the caller has set `leading` and holds no lock but, in a
 * drain, write_lock. */
static syna_rc lead(syna_db *db)
{
    struct kvlog *log = &db->gen->log;
    uint64_t reached;
    size_t records;
    syna_rc rc = sync_for_queue(db, log);
    if (rc == SYNA_SUCCESS)
        reached = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);
    else
        reached = UINT64_MAX; /* a failed sync fails the whole queue */

    pthread_mutex_lock(&db->queue_lock);
    struct pending *list = take_until(db, reached, &records);
    pthread_mutex_unlock(&db->queue_lock);
    if (list && rc == SYNA_SUCCESS)
        rc = publish(db, reached, records);
    finish(db, list, rc);
    return rc;
}

/* queue_lock held: lead from here on, unless somebody does. */
static bool start_leading(syna_db *db)
{
    bool mine = !db->leading;
    db->leading = true;
    return mine;
}

/* Hand over to the first who waits; nobody leads an empty queue. */
static void stop_leading(syna_db *db)
{
    pthread_mutex_lock(&db->queue_lock);
    struct pending *heir = db->first;
    if (!heir) {
        db->leading = false;
        pthread_cond_broadcast(&db->nobody_leads);
    }
    pthread_mutex_unlock(&db->queue_lock);
    if (heir)
        sem_post(&heir->wake);
}

#define QUICK_SYNC_US 200

/* Sleep until woken. Where a sync is quicker than two changes of context, offer the processor to the
 * others for a while instead: a sleeper would be awake too late for the next group. */
static void sleep_on(syna_db *db, struct pending *p)
{
    uint64_t sync_us = __atomic_load_n(&db->sync_us, __ATOMIC_RELAXED);
    if (sem_trywait(&p->wake) == 0)
        return; /* it led, and its own commit was among those */
    if (sync_us <= QUICK_SYNC_US) {
        uint64_t until = syna_vfs->ticks_us() + 2 * sync_us;
        while (syna_vfs->ticks_us() < until) {
            if (sem_trywait(&p->wake) == 0)
                return;
            syna_vfs->pause_us(0);
        }
    }
    while (sem_wait(&p->wake) != 0)
        ; /* a signal handler ran */
}

/* Wait until `p` is done, leading when it is this thread's turn. The result is that of the leading:
 * p->rc tells how the commit went. */
static syna_rc take_turn(syna_db *db, struct pending *p, syna_rc (*serve)(syna_db *db))
{
    syna_rc led = SYNA_SUCCESS;
    pthread_mutex_lock(&db->queue_lock);
    bool done = p->done, leads = !done && start_leading(db);
    pthread_mutex_unlock(&db->queue_lock);
    for (;; leads = !done) {
        if (leads) {
            led = serve(db);
            stop_leading(db);
        }
        sleep_on(db, p);
        if (done || p->done)
            break;
    }
    sem_destroy(&p->wake);
    return led;
}

static syna_rc wait_durable(syna_db *db, struct pending *p)
{
    syna_rc led = take_turn(db, p, lead);
    if (UNLIKELY(led != SYNA_SUCCESS)) {
        /* Only now: somebody who drains holds write_lock and waits for the leader. */
        pthread_mutex_lock(&db->write_lock);
        if (kvlog_failed(&db->gen->log))
            cut_back(db);
        pthread_mutex_unlock(&db->write_lock);
    }
    return LIKELY(p->rc == SYNA_SUCCESS) ? SYNA_SUCCESS : status_set(&p->why);
}

/* In a shared log nothing waits: what is appended was synced and published under the same lock. */
static void drain_queue(syna_db *db)
{
    pthread_mutex_lock(&db->queue_lock);
    /* Nobody can come: the caller holds write_lock. */
    __atomic_store_n(&db->expected, 0, __ATOMIC_RELAXED);
    while (db->first || db->leading) {
        if (!start_leading(db)) {
            pthread_cond_wait(&db->nobody_leads, &db->queue_lock);
            continue;
        }
        pthread_mutex_unlock(&db->queue_lock);
        lead(db);
        stop_leading(db);
        pthread_mutex_lock(&db->queue_lock);
    }
    pthread_mutex_unlock(&db->queue_lock);
}

syna_rc db_drain(syna_db *db)
{
    syna_rc rc = SYNA_SUCCESS;
    if (!db->shared)
        drain_queue(db);

    struct kvlog *log = &db->gen->log;
    if (!kvlog_failed(log) && __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) < log->end)
        rc = kvlog_sync(log);
    if (kvlog_failed(log)) {
        rc = syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, log->file.path, -1,
                          rc == SYNA_SUCCESS ? 0 : status_get()->system,
                          "a sync failed; what was not yet durable is lost");
        cut_back(db);
        return rc;
    }
    return publish(db, log->end, SIZE_MAX);
}

/* ---------------------------------------------------------------- committing */

static syna_rc reserve(syna_db *db, size_t records)
{
    syna_rc rc = keydir_reserve(db->gen->dir, db->unpublished + records);
    if (rc == KEYDIR_DAMAGED) {
        SYNA_TRY(rebuild_locked(db));
        rc = keydir_reserve(db->gen->dir, db->unpublished + records);
    }
    return rc;
}

static syna_rc append(syna_db *db, struct pending *p)
{
    struct kvlog *log = &db->gen->log;
    SYNA_TRY(kvlog_append(log, p->frames->bytes, p->frames->len, p->when_us, &p->offset, NULL));
    p->end = log->end;
    __atomic_fetch_add(&db->commits, 1, __ATOMIC_RELAXED);
    return SYNA_SUCCESS;
}

/* Without sync: reserve, append and publish in one step. write_lock held. */
static syna_rc commit_unsynced(syna_db *db, struct pending *p)
{
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = reserve(db, p->count);
    if (rc == SYNA_SUCCESS)
        rc = append(db, p);
    if (rc == SYNA_SUCCESS) {
        rc = db_publish_locked(db, p->end);
        db->unpublished = 0;
    }
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

static void queue_up(syna_db *db, struct pending *p)
{
    pthread_mutex_lock(&db->queue_lock);
    enqueue(db, p);
    pthread_mutex_unlock(&db->queue_lock);
}

/* Reserve for commits that are published later. write_lock held. */
static syna_rc reserve_ahead(syna_db *db, size_t records)
{
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = reserve(db, records);
    if (rc == SYNA_SUCCESS)
        db->unpublished += records;
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

/* With sync: reserve and append; the commit then waits in the queue. write_lock held. The append holds
 * no readers up: it is a write, which may have to wait for the disk. */
static syna_rc commit_queued(syna_db *db, struct pending *p)
{
    SYNA_TRY(reserve_ahead(db, p->count));
    syna_rc rc = append(db, p);
    if (rc == SYNA_SUCCESS) {
        queue_up(db, p);
        return rc;
    }
    pthread_rwlock_wrlock(&db->state_lock);
    db->unpublished -= MIN(p->count, db->unpublished);
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

static syna_rc commit_own(syna_db *db, struct pending *p)
{
    pthread_mutex_lock(&db->write_lock);
    bool synced = !db->options.no_sync;
    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = synced ? commit_queued(db, p) : commit_unsynced(db, p);
    pthread_mutex_unlock(&db->write_lock);
    if (rc == SYNA_SUCCESS && synced)
        rc = wait_durable(db, p);
    return rc;
}

/* ---------------------------------------------------------------- shared logs */

static syna_rc apply_foreign(void *context, const struct frame *f)
{
    return keydir_apply(((struct generation *)context)->dir, f);
}

/* A commit may be half in the index: go back to what was published, by a new index, and, when the
 * cause was a damaged checkpoint page, replay the rest again. */
static syna_rc follow_again(syna_db *db, uint64_t size, syna_rc why,
                            struct kvlog_recovery *recovery)
{
    struct generation *gen = db->gen;
    struct status_record record = *status_get();
    gen->log.end = gen->published;
    SYNA_TRY(rebuild_locked(db));
    if (why != KEYDIR_DAMAGED)
        return status_set(&record);
    return db_index_rc(kvlog_follow(&gen->log, size, apply_foreign, gen, recovery));
}

/* Scan what other processes have appended to the file, which has `size` bytes. write_lock and the process
 * lock held. */
static syna_rc follow_log(syna_db *db, uint64_t size)
{
    struct generation *gen = db->gen;
    struct kvlog_recovery recovery;
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = kvlog_follow(&gen->log, size, apply_foreign, gen, &recovery);
    if (rc != SYNA_SUCCESS)
        rc = follow_again(db, size, rc, &recovery);
    gen->published = gen->log.end;
    if (rc == SYNA_SUCCESS && gen->log.writable)
        rc = kvlog_cut(&gen->log, &recovery);
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

static syna_rc follow_compaction(syna_db *db, bool writable)
{
    struct generation *fresh;
    struct kvlog_recovery recovery;
    SYNA_TRY(generation_open(db, writable, &fresh, &recovery));
    if (writable) {
        syna_rc rc = kvlog_cut(&fresh->log, &recovery);
        if (rc != SYNA_SUCCESS) {
            generation_unref(fresh);
            return rc;
        }
    }
    generation_swap(db, fresh);
    return SYNA_SUCCESS;
}

syna_rc db_enter_shared(syna_db *db)
{
    struct vfs_stat st;
    if (!db->shared)
        return SYNA_SUCCESS;
    SYNA_TRY(lock_acquire(&db->lock, db->path, db->options.timeout_ms, &st));
    bool same = st.device == db->gen->log.device && st.inode == db->gen->log.inode;
    if (same && kvlog_is_quiet(&db->gen->log, st.size))
        return SYNA_SUCCESS;
    syna_rc rc = same ? follow_log(db, st.size) : follow_compaction(db, true);
    if (rc != SYNA_SUCCESS)
        lock_release(&db->lock);
    return db_note_damage(db, rc);
}

void db_leave_shared(syna_db *db)
{
    if (db->shared)
        lock_leave(&db->lock);
}

static syna_rc append_group(syna_db *db, struct pending *list)
{
    for (struct pending *p = list; p; p = p->next) {
        SYNA_TRY(reserve_ahead(db, p->count));
        SYNA_TRY(append(db, p));
    }
    return db->options.no_sync ? SYNA_SUCCESS : kvlog_sync(&db->gen->log);
}

/* One turn with the process lock: append the whole queue, one sync, publish. */
static syna_rc commit_group(syna_db *db, struct pending *list)
{
    struct kvlog *log = &db->gen->log;
    bool at_once = db->options.no_sync && !list->next;
    syna_rc rc = at_once ? commit_unsynced(db, list) : append_group(db, list);
    if (rc != SYNA_SUCCESS) {
        cut_back(db);
        return rc;
    }
    log->floor = log->end;
    return at_once ? SYNA_SUCCESS : publish(db, log->end, SIZE_MAX);
}

static syna_rc lead_shared(syna_db *db)
{
    pthread_mutex_lock(&db->write_lock);
    pthread_mutex_lock(&db->queue_lock);
    struct pending *list = db->first;
    db->first = NULL;
    db->last = &db->first;
    __atomic_store_n(&db->queued, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&db->queue_lock);

    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = db_enter_shared(db);
    if (rc == SYNA_SUCCESS) {
        rc = commit_group(db, list);
        db_leave_shared(db);
    }
    finish(db, list, rc);
    pthread_mutex_unlock(&db->write_lock);
    return rc;
}

static syna_rc commit_shared(syna_db *db, struct pending *p)
{
    queue_up(db, p);
    take_turn(db, p, lead_shared);
    return p->rc == SYNA_SUCCESS ? SYNA_SUCCESS : status_set(&p->why);
}

/* ---------------------------------------------------------------- public within the engine */

syna_rc db_commit(syna_db *db, struct buf *frames, size_t count, uint64_t when_us,
                  uint64_t *offset)
{
    struct pending p = {.frames = frames, .count = count, .when_us = when_us};
    SYNA_TRY(db_check_writable(db));
    syna_rc rc = db->shared ? commit_shared(db, &p) : commit_own(db, &p);
    if (rc == SYNA_SUCCESS && offset)
        *offset = p.offset;
    return db_note_damage(db, rc);
}

/* A MARK tells a later open that everything before it had been synced. */
static syna_rc append_mark(syna_db *db)
{
    struct kvlog *log = &db->gen->log;
    struct frame last;
    if (!log->last_offset || __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) != log->end)
        return SYNA_SUCCESS;
    frame_view(map_base(&log->map) + log->last_offset, log->last_offset, &last);
    if (last.key_len == 0 || (last.flags & FRAME_PRIOR_DURABLE && !db->options.no_sync))
        return SYNA_SUCCESS;
    SYNA_TRY(kvlog_append_engine(log, ENGINE_MARK));
    return publish(db, log->end, 0);
}

/* Everything is durable, or only a MARK is not. */
static bool nothing_to_flush(const struct kvlog *log)
{
    struct frame last;
    uint64_t durable = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);
    if (durable == log->end)
        return true;
    if (!log->last_offset || durable != log->last_offset)
        return false;
    frame_view(map_base(&log->map) + log->last_offset, log->last_offset, &last);
    return last.key_len == 0;
}

/* Queue a commit of nothing behind everything appended so far; *nothing when there is nothing that it
 * could wait for. write_lock held. */
static syna_rc begin_flush(syna_db *db, struct pending *p, bool *nothing)
{
    const struct kvlog *log = &db->gen->log;
    SYNA_TRY(db_check_writable(db));
    if (kvlog_failed(log))
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, db->path, -1, 0,
                            "an earlier sync failed; reopen the database to continue");
    *nothing = nothing_to_flush(log);
    if (!*nothing) {
        p->end = log->end;
        queue_up(db, p);
    }
    return SYNA_SUCCESS;
}

static syna_rc flush_own(syna_db *db)
{
    struct pending p = {0};
    bool nothing = false;
    pthread_mutex_lock(&db->write_lock);
    syna_rc rc = begin_flush(db, &p, &nothing);
    pthread_mutex_unlock(&db->write_lock);
    if (rc != SYNA_SUCCESS || nothing)
        return rc;
    SYNA_TRY(wait_durable(db, &p));
    pthread_mutex_lock(&db->write_lock);
    rc = append_mark(db);
    pthread_mutex_unlock(&db->write_lock);
    return rc;
}

static syna_rc flush_shared(syna_db *db)
{
    pthread_mutex_lock(&db->write_lock);
    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = db_enter_shared(db);
    if (rc == SYNA_SUCCESS) {
        rc = db_drain(db);
        db_leave_shared(db);
    }
    pthread_mutex_unlock(&db->write_lock);
    return rc;
}

syna_rc db_flush(syna_db *db)
{
    return db->shared ? flush_shared(db) : flush_own(db);
}

void db_require_sync(syna_db *db)
{
    pthread_mutex_lock(&db->write_lock);
    db->options.no_sync = 0;
    db->gen->log.by_write = true;
    pthread_mutex_unlock(&db->write_lock);
}

/* ---------------------------------------------------------------- readers follow writers */

static syna_rc follow_as_reader(syna_db *db)
{
    const struct kvlog *log = &db->gen->log;
    struct vfs_stat st;
    bool gone = syna_vfs->stat_path(db->path, &st) < 0;
    if (gone) /* what is open can still be followed */
        SYNA_TRY(file_stat(&log->file, &st));
    bool same = gone || (st.device == log->device && st.inode == log->inode);
    /* A forked child's first refresh gives it a reading handle of its own. */
    return same && !log->writable ? follow_log(db, st.size) : follow_compaction(db, false);
}

syna_rc db_refresh(syna_db *db, bool *changed)
{
    *changed = false;
    if (db->writer && !db->shared && !db->inherited)
        return SYNA_SUCCESS; /* nobody else writes */

    pthread_mutex_lock(&db->write_lock);
    struct generation *gen = db->gen;
    uint64_t end = gen->log.end;
    syna_rc rc = SYNA_SUCCESS;
    if (db->shared && !db->inherited) {
        rc = db_enter_shared(db);
        if (rc == SYNA_SUCCESS)
            db_leave_shared(db);
    } else {
        rc = follow_as_reader(db);
    }
    *changed = rc == SYNA_SUCCESS && (db->gen != gen || db->gen->log.end != end);
    pthread_mutex_unlock(&db->write_lock);
    return db_note_damage(db, rc);
}
