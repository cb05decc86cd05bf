/* The writer lock.
 *
 * Compaction swaps the file under its name, so whoever waited for the lock may hold that of a file
 * which is not the database any more: after locking, the path must still lead to the same inode, or
 * all starts over.
 *
 * Waiting is by trying again, with growing pauses: a lock call that blocks could neither time out nor
 * notice that the file was swapped. */
#include "base/internal.h"

#include "io/lock.h"

/* Short pauses: a busy writer of a shared log lets go for microseconds between syncs of milliseconds. */
enum { FIRST_PAUSE_US = 50, LONGEST_PAUSE_US = 500 };

static syna_rc open_descriptor(struct writer_lock *lock, const char *path)
{
    struct file f;
    struct vfs_stat st;
    if (lock->fd >= 0)
        return SYNA_SUCCESS;
    SYNA_TRY(file_open(&f, path, VFS_WRITE));
    syna_rc rc = file_stat(&f, &st);
    if (rc == SYNA_SUCCESS) {
        *lock = (struct writer_lock){.fd = f.fd, .device = st.device, .inode = st.inode};
        f.fd = -1; /* kept open: closing it would release the lock */
    }
    file_close(&f);
    return rc;
}

/* Does the path lead to the file that is locked? */
static syna_rc compare(const struct writer_lock *lock, const char *path, struct vfs_stat *named,
                       int *refusal)
{
    int found = syna_vfs->stat_path(path, named);
    if (found < 0 && found != -ENOENT)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -found, "cannot be examined");
    if (found < 0 || lock->inode != named->inode || lock->device != named->device)
        *refusal = -ESTALE;
    return SYNA_SUCCESS;
}

/* One try. *refusal: 0 = locked; -EAGAIN: somebody else has it; else it was not the right file any
 * more, or a signal came. The descriptor stays open only with the lock. */
static syna_rc try_lock(struct writer_lock *lock, const char *path, struct vfs_stat *named,
                        int *refusal)
{
    SYNA_TRY(open_descriptor(lock, path));
    *refusal = syna_vfs->lock(lock->fd);
    syna_rc rc = SYNA_SUCCESS;
    if (*refusal == 0) {
        rc = compare(lock, path, named, refusal);
        if (rc != SYNA_SUCCESS || *refusal != 0)
            lock_release(lock);
        return rc;
    }
    if (*refusal != -EAGAIN && *refusal != -EINTR)
        rc = syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -*refusal, "cannot be locked");
    lock_forget(lock);
    return rc;
}

syna_rc lock_acquire(struct writer_lock *lock, const char *path, uint32_t timeout_ms,
                     struct vfs_stat *same_as)
{
    uint64_t waited = 0, limit = (uint64_t)timeout_ms * 1000;
    uint32_t pause = FIRST_PAUSE_US;
    for (;;) {
        struct vfs_stat named = {0};
        int refusal;
        SYNA_TRY(try_lock(lock, path, &named, &refusal));
        if (refusal == 0) {
            if (same_as)
                *same_as = named;
            return SYNA_SUCCESS;
        }
        if (refusal != -EAGAIN)
            continue; /* swapped or interrupted: try the file that is there now */
        if (waited >= limit)
            return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_LOCKED, path, -1, EAGAIN,
                                "another process is writing to it (waited %u ms)", timeout_ms);
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
    lock->fd = -1;
}
