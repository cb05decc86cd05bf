/* The writer lock: an OFD lock on a descriptor of its own for the data file, so that closing any
 * other descriptor of the file, in this process or a forked child, cannot lose it. */
#ifndef SYNA_IO_LOCK_H
#define SYNA_IO_LOCK_H

#include "io/file.h"

struct writer_lock {
    vfs_fd fd;              /* -1 = none; after lock_leave open, but not held */
    uint64_t device, inode; /* of the file that fd is open on */
    vfs_fd dir;             /* the directory that holds it, once asked for while fd is open */
    uint64_t walked_us;     /* when the path was last walked from its start; 0 = not since fd was opened */
    uint64_t turn_us;       /* when it was last taken by claim: the turn began */
    bool gives_way;         /* the turn is over: the next lock_acquire claims before it locks */
    bool claimed;           /* while waiting: next in line */
};

#define WRITER_LOCK_NONE {.fd = -1, .dir = -1}

/* Take the lock of the file that `path` names now: lock, then compare fstat with stat of the path
 * and start over when a compaction swapped it. Waits up to timeout_ms (0 = not at all); then
 * SYNA_ERR_IO, reason LOCKED. `same_as` (may be NULL) returns what was locked. */
syna_rc lock_acquire(struct writer_lock *lock, const char *path, uint32_t timeout_ms,
                     struct vfs_stat *same_as);
void lock_release(struct writer_lock *lock);
/* Give it back and keep the descriptor: for who takes it again and again. The next lock_acquire opens
 * nothing when the path still leads to the same file, and after a turn of some milliseconds lets those
 * who waited meanwhile go first. lock_release, held or not, is the end of it. */
void lock_leave(struct writer_lock *lock);
/* In a forked child: close without unlocking; the parent keeps the lock. */
void lock_forget(struct writer_lock *lock);

#endif
