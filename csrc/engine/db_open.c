/* db_open.c - open a database, load or rebuild its index, close it. Nothing here changes an existing
 * file except what recovery must: a torn tail is cut once nothing durable is found behind it. */
#include "base/internal.h"

#include "engine/db_core.h"

/* A checkpoint is written when the log has this many bytes and grew by 1/64 since the last one: below
 * it, replaying is faster than opening a second file. */
#define CHECKPOINT_MIN (1u << 20)
#define CHECKPOINT_GROWTH 64u
/* After a crash, a log whose replay was longer than this gets its checkpoint at once, so that the
 * next crash does not cost the same again. */
#define CHECKPOINT_AT_OPEN (64u << 20)

#define DEFAULT_TIMEOUT_MS 5000u

/* ---------------------------------------------------------------- generations */

static syna_rc apply_frame(void *context, const struct frame *f)
{
    return keydir_apply(((struct generation *)context)->dir, f);
}

/* The checkpoint was damaged in a page that the replay touched: start again without it. */
static syna_rc replay_whole(struct generation *gen, struct kvlog_recovery *recovery)
{
    keydir_free(gen->dir);
    gen->dir = NULL;
    gen->covered = 0;
    gen->log.end = gen->log.start;
    gen->log.last_offset = 0;
    SYNA_TRY(keydir_new(&gen->log, &gen->dir));
    return kvlog_replay(&gen->log, apply_frame, gen, recovery);
}

static syna_rc load_index(syna_db *db, struct generation *gen, struct kvlog_recovery *recovery)
{
    if (!gen->log.legacy)
        SYNA_TRY(keydir_load(&gen->log, db->index_path, &gen->dir));
    if (gen->dir)
        gen->covered = gen->log.end;
    else
        SYNA_TRY(keydir_new(&gen->log, &gen->dir));

    syna_rc rc = kvlog_replay(&gen->log, apply_frame, gen, recovery);
    if (rc == KEYDIR_DAMAGED)
        rc = replay_whole(gen, recovery);
    gen->published = gen->log.end;
    return db_index_rc(rc);
}

syna_rc generation_open(syna_db *db, bool writable, struct generation **out,
                        struct kvlog_recovery *recovery)
{
    struct generation *gen = mem_zalloc(sizeof *gen);
    if (!gen)
        return syna_no_memory(sizeof *gen);
    gen->refs = 1;
    gen->log.file.fd = -1;
    syna_rc rc = kvlog_open(&gen->log, db->path, writable, db->options.no_mmap);
    if (rc != SYNA_SUCCESS) {
        mem_free(gen);
        return rc;
    }
    gen->log.by_write = !db->options.no_sync;
    rc = load_index(db, gen, recovery);
    if (rc != SYNA_SUCCESS) {
        generation_unref(gen);
        return rc;
    }
    *out = gen;
    return SYNA_SUCCESS;
}

struct generation *generation_ref(struct generation *gen)
{
    __atomic_fetch_add(&gen->refs, 1, __ATOMIC_RELAXED);
    return gen;
}

void generation_unref(struct generation *gen)
{
    if (!gen || __atomic_sub_fetch(&gen->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    keydir_free(gen->dir);
    kvlog_close(&gen->log);
    mem_free(gen);
}

static void remember_identity(syna_db *db)
{
    __atomic_store_n(&db->device, db->gen->log.device, __ATOMIC_RELAXED);
    __atomic_store_n(&db->inode, db->gen->log.inode, __ATOMIC_RELAXED);
}

void generation_swap(syna_db *db, struct generation *fresh)
{
    fresh->log.by_write = !db->options.no_sync;
    pthread_rwlock_wrlock(&db->state_lock);
    struct generation *old = db->gen;
    db->past_syncs += __atomic_load_n(&old->log.syncs, __ATOMIC_RELAXED);
    db->gen = fresh;
    db->unpublished = 0;
    remember_identity(db);
    pthread_rwlock_unlock(&db->state_lock);
    generation_unref(old);
}

/* ---------------------------------------------------------------- paths */

static char *join(const char *a, const char *b)
{
    size_t len_a = strlen(a), len_b = strlen(b);
    char *s = mem_alloc(len_a + len_b + 1);
    if (s) {
        memcpy(s, a, len_a);
        memcpy(s + len_a, b, len_b + 1);
    }
    return s;
}

/* A path that cannot name a database is the caller's mistake; what the system could not do is not. */
static syna_rc bad_path(const char *path, int system)
{
    if (system != ENOENT && system != ENOTDIR && system != EISDIR && system != ENAMETOOLONG &&
        system != ELOOP)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, system,
                            "the path cannot be followed");
    return syna_fail_at(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, path, -1, system,
                        "not a path that a database can have");
}

syna_rc db_canonical_path(const char *path, char **out)
{
    char full[4096 + 256];
    if (path[0] == '\0')
        return bad_path(path, ENOENT);
    int rc = syna_vfs->realpath(path, full, sizeof full);
    if (rc == -ENOENT) {
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return bad_path(path, EISDIR);
        char *folder = mem_dup(slash ? path : ".", slash ? (size_t)(slash - path + 1) : 1);
        if (!folder)
            return syna_no_memory(strlen(path));
        rc = syna_vfs->realpath(folder, full, sizeof full - 256);
        mem_free(folder);
        if (rc == 0 && strlen(name) < 256) {
            if (strcmp(full, "/") != 0)
                strcat(full, "/");
            strcat(full, name);
        } else if (rc == 0) {
            rc = -ENAMETOOLONG;
        }
    }
    if (rc < 0)
        return bad_path(path, -rc);
    *out = mem_dup(full, strlen(full));
    return *out ? SYNA_SUCCESS : syna_no_memory(strlen(full));
}

/* ---------------------------------------------------------------- opening */

void db_init_locks(syna_db *db)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Readers in a tight loop must not keep a publishing writer out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&db->state_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutexattr_t brief;
    pthread_mutexattr_init(&brief);
#ifdef __GLIBC__
    /* Held for about a microsecond: sleeping and waking would take longer. */
    pthread_mutexattr_settype(&brief, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(&db->write_lock, &brief);
    pthread_mutex_init(&db->queue_lock, &brief);
    pthread_mutexattr_destroy(&brief);
    pthread_cond_init(&db->nobody_leads, NULL);
}

static void dispose(syna_db *db)
{
    generation_unref(db->gen);
    lock_release(&db->lock);
    pthread_cond_destroy(&db->nobody_leads);
    pthread_mutex_destroy(&db->queue_lock);
    pthread_mutex_destroy(&db->write_lock);
    pthread_rwlock_destroy(&db->state_lock);
    mem_free(db->index_path);
    mem_free(db->path);
    mem_free(db);
}

static syna_rc copy_options(syna_db *db, const syna_db_options *options)
{
    if (options) {
        if (options->size < offsetof(syna_db_options, timeout_ms))
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "syna_db_options.size is %u, expected sizeof(syna_db_options) = %zu",
                             options->size, sizeof *options);
        memcpy(&db->options, options, MIN((size_t)options->size, sizeof *options));
    }
    db->options.size = sizeof db->options;
    if (db->options.timeout_ms == 0)
        db->options.timeout_ms = DEFAULT_TIMEOUT_MS;
    if (db->options.read_only && db->options.shared)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "read_only and shared exclude each other: a shared log is one that several "
                         "processes write");
    db->writer = !db->options.read_only;
    db->shared = db->options.shared;
    return SYNA_SUCCESS;
}

static syna_rc ensure_file(syna_db *db)
{
    struct vfs_stat st;
    int rc = syna_vfs->stat_path(db->path, &st);
    if (rc == 0 && st.is_dir)
        return bad_path(db->path, EISDIR);
    if (rc == 0)
        return SYNA_SUCCESS;
    if (rc != -ENOENT || db->options.must_exist || db->options.read_only)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, db->path, -1, -rc, "cannot open the database");
    bool exists;
    SYNA_TRY(kvlog_create(db->path, &exists));
    db->report.created = !exists;
    return SYNA_SUCCESS;
}

/* What processes that died left half-written: a compaction, a checkpoint, a saved tail. */
static syna_rc sweep_temps(syna_db *db)
{
    char *cut_path = join(db->path, KVLOG_CUT_SUFFIX);
    if (!cut_path)
        return syna_no_memory(strlen(db->path) + sizeof KVLOG_CUT_SUFFIX);
    file_sweep_temps(db->path);
    file_sweep_temps(db->index_path);
    file_sweep_temps(cut_path);
    mem_free(cut_path);
    return SYNA_SUCCESS;
}

/* Open for writing with the writer lock held. A file that cannot be written (the ancestor's format)
 * gives the lock back and leaves a reader. */
static syna_rc open_writer(syna_db *db, struct kvlog_recovery *recovery)
{
    SYNA_TRY(lock_acquire(&db->lock, db->path, db->shared ? db->options.timeout_ms : 0, NULL));
    SYNA_TRY(sweep_temps(db));
    SYNA_TRY(generation_open(db, true, &db->gen, recovery));
    if (!db->gen->log.writable) {
        lock_release(&db->lock);
        db->writer = db->shared = false;
        return SYNA_SUCCESS;
    }
    /* A log that was not closed properly gets its CLOSE frame even if nothing more is written. */
    struct kvlog *log = &db->gen->log;
    log->grown = !recovery->clean && log->end > log->start;
    return kvlog_cut(log, recovery);
}

static void fill_report(syna_db *db, const struct kvlog_recovery *recovery)
{
    syna_open_report *r = &db->report;
    const struct kvlog *log = &db->gen->log;
    r->size = sizeof *r;
    r->clean = recovery->clean || (log->end == log->start && recovery->cut_bytes == 0);
    r->legacy = log->legacy;
    r->rebuilt = db->gen->covered == 0 && log->end > CHECKPOINT_MIN;
    r->read_only = !db->writer;
    r->format_major = log->header.major;
    r->format_minor = log->header.minor;
    r->frames_scanned = recovery->frames;
    r->cut_offset = recovery->cut_bytes ? recovery->cut_offset : 0;
    r->cut_bytes = recovery->cut_bytes;
    r->cut_saved = recovery->cut_saved;
}

/* After a long replay: make the log durable, then save the index. */
static void checkpoint_after_recovery(syna_db *db)
{
    struct generation *gen = db->gen;
    if (!db->writer || db->shared || gen->log.end - gen->covered < CHECKPOINT_AT_OPEN)
        return;
    if (kvlog_sync(&gen->log) == SYNA_SUCCESS)
        db_save_index(db);
}

static syna_rc open_into(syna_db *db, const char *path, const syna_db_options *options)
{
    struct kvlog_recovery recovery = {0};
    SYNA_TRY(copy_options(db, options));
    SYNA_TRY(db_canonical_path(path, &db->path));
    db->index_path = join(db->path, ".idx");
    if (!db->index_path)
        return syna_no_memory(strlen(db->path) + 5);
    SYNA_TRY(ensure_file(db));
    if (db->writer)
        SYNA_TRY(open_writer(db, &recovery));
    else
        SYNA_TRY(generation_open(db, false, &db->gen, &recovery));
    remember_identity(db);
    fill_report(db, &recovery);
    checkpoint_after_recovery(db);
    if (db->shared)
        db_leave_shared(db);
    return SYNA_SUCCESS;
}

syna_rc db_open(const char *path, const syna_db_options *options, syna_db **out)
{
    syna_db *db = mem_zalloc(sizeof *db);
    if (!db)
        return syna_no_memory(sizeof *db);
    db->lock = (struct writer_lock)WRITER_LOCK_NONE;
    db_init_locks(db);
    db->last = &db->first;
    syna_rc rc = open_into(db, path, options);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        dispose(db);
        return status_set(&why);
    }
    db_fork_add(db);
    *out = db;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- closing */

void db_save_index(syna_db *db)
{
    struct status_record why = *status_get();
    struct generation *gen = db_begin_read(db);
    const struct kvlog *log = &gen->log;
    uint64_t end = gen->published;
    bool pays = end >= CHECKPOINT_MIN && end - gen->covered > end / CHECKPOINT_GROWTH;
    bool whole = end == log->end && __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) == end;
    if (pays && whole && !log->legacy &&
        keydir_save(gen->dir, db->index_path, log->last_offset, end, log->last_crc) == SYNA_SUCCESS)
        gen->covered = end;
    db_end_read(db);
    status_set(&why);
}

static syna_rc finish_writer(syna_db *db)
{
    SYNA_TRY(db_enter_shared(db));
    syna_rc rc = db_drain(db);
    if (rc == SYNA_SUCCESS)
        rc = kvlog_finish(&db->gen->log);
    if (rc == SYNA_SUCCESS) {
        db->gen->published = db->gen->log.end;
        db_save_index(db);
    }
    db_leave_shared(db);
    return rc;
}

syna_rc db_close(syna_db *db)
{
    syna_rc rc = SYNA_SUCCESS;
    db_fork_remove(db);
    if (db->writer && !db->inherited && !kvlog_failed(&db->gen->log)) {
        pthread_mutex_lock(&db->write_lock);
        rc = finish_writer(db);
        pthread_mutex_unlock(&db->write_lock);
    }
    struct status_record why = *status_get();
    dispose(db);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- facts */

const char *db_path(const syna_db *db)
{
    return db->path;
}

void db_get_report(const syna_db *db, syna_open_report *out)
{
    *out = db->report;
}

bool db_is_writer(const syna_db *db)
{
    return db->writer;
}

bool db_is_inherited(const syna_db *db)
{
    return db->inherited;
}

bool db_is_file(const syna_db *db, uint64_t device, uint64_t inode)
{
    return __atomic_load_n(&db->device, __ATOMIC_RELAXED) == device &&
           __atomic_load_n(&db->inode, __ATOMIC_RELAXED) == inode;
}
