/* The writer lock.
 *
 * Compaction swaps the file under its name, so whoever waited for the lock may hold that of a file
 * which is not the database any more: after locking, the path must still lead to the same inode, or
 * all starts over.
 *
 * Waiting is by trying again, with growing pauses: a lock call that blocks could neither time out nor
 * notice that the file was swapped.
 *
 * A busy writer of a shared log lets go for microseconds between syncs of milliseconds, and whoever
 * tries now and then would hardly ever hit them. So the first of those who wait holds the claim, and a
 * writer whose turn has lasted TURN_US asks for the claim before the lock: the lock stays free until the
 * one who waited has it, and the claim goes to the next. Turns are that long because each hand-over
 * costs a pause. */
#include "base/internal.h"

#include "io/lock.h"

enum { FIRST_PAUSE_US = 50, LONGEST_PAUSE_US = 500, TURN_US = 5000, WALK_US = 10000 };

static syna_rc open_descriptor(struct writer_lock *lock, const char *path)
{
    struct file f;
    struct vfs_stat st;
    if (lock->fd >= 0)
        return SYNA_SUCCESS;
    SYNA_TRY(file_open(&f, path, VFS_WRITE));
    syna_rc rc = file_stat(&f, &st);
    if (rc == SYNA_SUCCESS) {
        lock->fd = f.fd;
        lock->device = st.device;
        lock->inode = st.inode;
        lock->walked_us = 0;
        f.fd = -1; /* kept open: closing it would release the lock */
    }
    file_close(&f);
    return rc;
}

/* What the path leads to. Every swap is seen in the directory; that a directory was moved, when the path
 * is next walked. */
static int look(struct writer_lock *lock, const char *path, struct vfs_stat *named)
{
    uint64_t now = syna_vfs->ticks_us();
    if (now - lock->walked_us >= WALK_US) {
        lock->walked_us = now;
        return syna_vfs->stat_path(path, named);
    }
    if (lock->dir < 0)
        lock->dir = syna_vfs->open_dir(path);
    return syna_vfs->stat_in(lock->dir, path, named);
}

/* Does the path lead to the file that is locked? */
static syna_rc compare(struct writer_lock *lock, const char *path, struct vfs_stat *named,
                       int *refusal)
{
    int found = look(lock, path, named);
    if (found < 0 && found != -ENOENT)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -found, "cannot be examined");
    if (found < 0 || lock->inode != named->inode || lock->device != named->device)
        *refusal = -ESTALE;
    return SYNA_SUCCESS;
}

static void claim(struct writer_lock *lock, int *refusal)
{
    *refusal = lock->claimed ? 0 : syna_vfs->claim(lock->fd);
    lock->claimed = *refusal == 0;
}

/* With the lock: the claim is for the next one who waits. */
static void begin_turn(struct writer_lock *lock)
{
    if (!lock->claimed)
        return; /* nobody was asked: the turn goes on */
    syna_vfs->unclaim(lock->fd);
    lock->claimed = lock->gives_way = false;
    lock->turn_us = syna_vfs->ticks_us();
}

/* The lock, in the order of the claims when this writer gives way; without it at least the claim, when
 * it will `wait`. */
static void lock_or_claim(struct writer_lock *lock, bool wait, int *refusal)
{
    *refusal = 0;
    if (lock->gives_way)
        claim(lock, refusal);
    if (*refusal == 0)
        *refusal = syna_vfs->lock(lock->fd);
    if (*refusal == 0) {
        begin_turn(lock);
    } else if (*refusal == -EAGAIN && wait) {
        int ignored; /* -EAGAIN as well: not the first who waits */
        claim(lock, &ignored);
    }
}

/* One try. *refusal: 0 = locked; -EAGAIN: somebody else has it, or goes first; else it was not the
 * right file any more, or a signal came. The descriptor stays open only with the lock or the claim. */
static syna_rc try_lock(struct writer_lock *lock, const char *path, bool wait,
                        struct vfs_stat *named, int *refusal)
{
    SYNA_TRY(open_descriptor(lock, path));
    lock_or_claim(lock, wait, refusal);
    syna_rc rc = SYNA_SUCCESS;
    if (*refusal == 0) {
        rc = compare(lock, path, named, refusal);
        if (rc != SYNA_SUCCESS || *refusal != 0)
            lock_release(lock);
        return rc;
    }
    if (*refusal != -EAGAIN && *refusal != -EINTR)
        rc = syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -*refusal, "cannot be locked");
    if (rc != SYNA_SUCCESS || !lock->claimed)
        lock_forget(lock);
    return rc;
}

syna_rc lock_acquire(struct writer_lock *lock, const char *path, uint32_t timeout_ms,
                     struct vfs_stat *same_as)
{
    uint64_t waited = 0, limit = (uint64_t)timeout_ms * 1000;
    /* Who just had a turn does not look more often than those who wait for theirs. */
    uint32_t pause = lock->gives_way ? LONGEST_PAUSE_US : FIRST_PAUSE_US;
    for (;;) {
        struct vfs_stat named = {0};
        int refusal;
        SYNA_TRY(try_lock(lock, path, waited < limit, &named, &refusal));
        if (refusal == 0) {
            if (same_as)
                *same_as = named;
            return SYNA_SUCCESS;
        }
        if (refusal != -EAGAIN)
            continue; /* swapped or interrupted: try the file that is there now */
        if (waited >= limit) {
            lock_forget(lock);
            return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_LOCKED, path, -1, EAGAIN,
                                "another process is writing to it (waited %u ms)", timeout_ms);
        }
        pause = (uint32_t)MIN((uint64_t)pause, limit - waited);
        syna_vfs->pause_us(pause);
        waited += pause;
        pause = MIN(pause * 2, (uint32_t)LONGEST_PAUSE_US);
    }
}

void lock_leave(struct writer_lock *lock)
{
    /* A forked child may hold the same open file: unlocking, unlike closing, is final for it too. */
    if (lock->fd >= 0)
        syna_vfs->unlock(lock->fd);
    lock->gives_way = syna_vfs->ticks_us() - lock->turn_us >= TURN_US;
}

void lock_release(struct writer_lock *lock)
{
    lock_leave(lock);
    lock_forget(lock);
}

void lock_forget(struct writer_lock *lock)
{
    if (lock->fd >= 0)
        syna_vfs->close_file(lock->fd);
    if (lock->dir >= 0)
        syna_vfs->close_file(lock->dir);
    lock->fd = lock->dir = -1;
    lock->claimed = false;
}
