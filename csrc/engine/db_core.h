/* The inside of a database handle; for the db_*.c files only.
 *
 * Locks, in the order in which they are taken:
 *   write_lock   one writer at a time: stamping, appending, compaction's last step
 *   queue_lock   the commit queue: who leads, who waits
 *   state_lock   the index and `gen`: readers share it, publishing takes it exclusively
 * No lock is held across a sync but write_lock in compaction's swap, for the manifest of a blob, in
 * close, and in shared logs, where the whole commit is one critical section between processes anyway.
 *
 * One put, as it moves:  db_put -> frame_append (no lock) -> db_commit: write_lock, kvlog_append,
 * unlock -> take_turn: the leader syncs -> publish: state_lock, keydir_apply -> back to the caller. */
#ifndef SYNA_ENGINE_DB_CORE_H
#define SYNA_ENGINE_DB_CORE_H

#include "base/status.h"
#include "engine/db.h"
#include "io/lock.h"
#include "store/history.h"
#include "store/keydir.h"
#include "store/kvlog.h"

/* One log file with the index over it. Compaction and refresh replace it as a whole; whoever still
 * reads the old one (a blob, a scan) holds a reference. */
struct generation {
    struct kvlog log;
    struct keydir *dir;
    uint64_t published; /* the index holds the frames below; the rest of the log waits for its sync */
    uint64_t covered;   /* the key checkpoint on disk covers the log up to here; 0 = there is none */
    uint32_t refs;      /* atomic */
};

/* A commit on its way. It lives on its thread's stack: in the queue it is in the log and waits to be
 * durable and published; in a shared log it waits for a leader to append it, too. */
struct pending {
    struct pending *next;
    struct buf *frames;
    size_t count;     /* frames */
    uint64_t when_us;
    uint64_t offset;  /* where its first frame starts, once appended */
    uint64_t end;     /* behind its last frame */
    sem_t wake;       /* its thread sleeps here */
    bool done;
    syna_rc rc;
    struct status_record why; /* when rc is a failure */
};

/* A piece of a streamed value, in the generation that its blob pins (db_blob.c). */
struct blob_chunk {
    uint64_t offset;
    uint32_t len;
    uint32_t zero;
};

struct syna_db {
    char *path;       /* absolute */
    char *index_path; /* <path>.idx, the key checkpoint */
    syna_db_options options;
    syna_open_report report;
    bool writer;  /* may write at all */
    bool shared;  /* the writer lock is taken per commit */

    pthread_mutex_t write_lock;
    struct writer_lock lock; /* held from open to close; in shared mode per commit */

    pthread_mutex_t queue_lock;
    pthread_cond_t nobody_leads;
    bool leading; /* a leader is syncing, or was told to */
    bool compacting; /* one compaction at a time */
    struct pending *first, **last;
    size_t unpublished; /* records appended and not yet in the index */
    size_t queued;      /* atomic: commits in the queue */
    size_t expected;    /* atomic: commits that the next sync may hope for, as many as just wrote at once */
    uint64_t sync_us;   /* atomic: what a sync takes, smoothed; written by the leader */

    pthread_rwlock_t state_lock;
    struct generation *gen;

    uint64_t device, inode; /* atomic: of the current log file */
    bool damaged;  /* damage was met in the durable part: no more writes (atomic) */
    bool inherited; /* in a forked child: reads only */
    uint64_t commits; /* atomic */
    uint64_t past_syncs; /* of earlier generations */
    syna_db *next_live, **prev_live; /* db_fork.c: all live handles */
};

/* ---- db_open.c */
/* Open the log (existing, header checked), load or rebuild its index. *gen has one reference. */
syna_rc generation_open(syna_db *db, bool writable, struct generation **gen,
                        struct kvlog_recovery *recovery);
struct generation *generation_ref(struct generation *gen);
void generation_unref(struct generation *gen); /* closes and frees with the last one */
/* Put `fresh` in the place of db->gen and drop the old one; state_lock is taken inside. */
void generation_swap(syna_db *db, struct generation *fresh);
/* Write the key checkpoint when it pays (big log, stale checkpoint). Failures are ignored: it is
 * derived data. Call with no lock held but, at close, alone. */
void db_save_index(syna_db *db);

/* ---- reading under the state lock */
static inline struct generation *db_begin_read(syna_db *db)
{
    pthread_rwlock_rdlock(&db->state_lock);
    return db->gen;
}
static inline void db_end_read(syna_db *db)
{
    pthread_rwlock_unlock(&db->state_lock);
}

/* Look up the newest record under the shared state lock. A damaged checkpoint page is mended first:
 * the lock is dropped, the index rebuilt, the lock taken again (so re-read db->gen: *gen is updated).
 * Expired and deleted keys are SYNA_ERR_KEY_NOT_FOUND; `f` (may be NULL) gets the verified frame. */
syna_rc db_find(syna_db *db, struct generation **gen, const void *key, size_t key_len,
                struct entry *e, struct frame *f);
/* Ask for the lines of an entry's frame behind its first, so that they are waited for together. */
void db_prefetch_value(const struct generation *gen, const struct entry *e);
/* Is the record of `e` deleted or past its expiry? */
syna_rc db_entry_live(struct generation *gen, const struct entry *e, bool *live);
/* KEYDIR_DAMAGED never leaves the engine: from an index that was just rebuilt it is a fault of ours. */
static inline syna_rc db_index_rc(syna_rc rc)
{
    return rc == KEYDIR_DAMAGED
               ? syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_CORRUPT, "a rebuilt index is damaged again")
               : rc;
}
/* Replace the index by a replay of the whole log. Takes state_lock exclusively. */
syna_rc db_rebuild_index(syna_db *db);
/* Pass on an error; when it is damage in the log, the handle becomes read-only (ARCHITECTURE 2.4). */
syna_rc db_note_damage(syna_db *db, syna_rc rc);

/* ---- writing */
/* May this handle write now? READ_ONLY, FORKED, CORRUPT or SYNC_FAILED otherwise. */
syna_rc db_check_writable(syna_db *db);
/* Encode one value as a frame behind the others. */
syna_rc db_encode(syna_db *db, struct buf *frames, const char *key, size_t key_len,
                  const struct value *v);
/* state_lock held exclusively: bring the index up to `end` of the log. */
syna_rc db_publish_locked(syna_db *db, uint64_t end);
/* Append the frame of a deletion. */
bool db_encode_tombstone(struct buf *frames, const char *key, size_t key_len);
/* write_lock held: sync and publish everything appended so far, so that log, index and disk agree. */
syna_rc db_drain(syna_db *db);
/* Shared logs: write_lock held; take the process lock, follow a compaction by another process, scan
 * foreign frames into the index. db_leave_shared gives the lock back. No-ops for others. */
syna_rc db_enter_shared(syna_db *db);
void db_leave_shared(syna_db *db);

void db_init_locks(syna_db *db); /* db_open.c; again in a forked child */

/* ---- db_fork.c */
void db_fork_add(syna_db *db);
void db_fork_remove(syna_db *db);

#endif
