/* A table that passes calls on to another one, counts them, and makes chosen ones fail. Calls that
 * can fail in the field are numbered from 1 on after fault_arm; the k-th one fails, or it and all
 * that follow:
 *
 *     for (int k = 1; ; k++) {
 *         fault_arm(&(struct fault){.at = k, .system = EIO});
 *         rc = operation();
 *         if (!fault_fired())
 *             break;          // the operation has fewer than k calls: done
 *         check(rc);
 *     }
 *
 * A failing write can be short instead: it does half, and the next one fails. EINTR fails once and
 * the core must simply try again. Counting is process-wide and atomic. */
#ifndef SYNA_TESTS_VFS_FAULT_H
#define SYNA_TESTS_VFS_FAULT_H

#include "io/vfs.h"

extern const struct vfs vfs_fault;

enum fault_call {
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SET_SIZE,
    FAULT_ALLOCATE,
    FAULT_SYNC,
    FAULT_SYNC_DIR,
    FAULT_REPLACE,
    FAULT_GIVE,
    FAULT_REMOVE,
    FAULT_STAT,
    FAULT_LOCK,
    FAULT_RESERVE,
    FAULT_MAP,
    FAULT_LIST,
    FAULT_REALPATH,
    FAULT_RANDOM,
    FAULT_CALLS
};
const char *fault_call_name(enum fault_call call);

struct fault {
    int64_t at;    /* the call that fails; 0 = none */
    int system;    /* errno */
    uint32_t only; /* bits 1 << fault_call that count; 0 = all */
    bool forever;  /* all later ones fail as well */
    bool short_io; /* the first failing write or read does half of its bytes */
};

/* Calls go to `below` (vfs_posix, &vfs_mem, ...). Disarms. */
void fault_begin(const struct vfs *below);
/* Start counting again; NULL = count only. */
void fault_arm(const struct fault *fault);
/* How many failures were delivered since fault_arm, and of which call the first was. */
int64_t fault_fired(void);
enum fault_call fault_first(void);
/* Calls since fault_arm, of one kind. */
int64_t fault_count(enum fault_call call);
int64_t fault_count_all(void);

/* ---- the same for memory: syna_test_set_alloc with a counting hook. at 0 = off. */
void fault_alloc(int64_t at, bool forever);
int64_t fault_alloc_fired(void);
int64_t fault_alloc_count(void);

#endif
