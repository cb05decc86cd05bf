/* The table of everything the core asks of the operating system. io/vfs_posix.c is the real one and
 * the only file that calls the kernel; the test tree has one that records and one in memory that
 * loses, tears and fails (tests/c/vfs_record.c, vfs_mem.c).
 *
 * Functions return 0 or a count on success and a negated errno on failure; they do not set the
 * error record (io/file.c does). EINTR and short transfers are the caller's to handle. */
#ifndef SYNA_IO_VFS_H
#define SYNA_IO_VFS_H

#include "base/internal.h"

/* An open file as the table knows it: a descriptor, or an index of the table's own. -1 = none. */
typedef int vfs_fd;

enum vfs_open_flags {
    VFS_READ = 1,
    VFS_WRITE = 2,     /* read and write */
    VFS_CREATE = 4,    /* create, mode 0666 less umask; without it a missing file is -ENOENT */
    VFS_EXCLUSIVE = 8, /* with CREATE: -EEXIST when it is there */
};

struct vfs_stat {
    uint64_t size;
    uint64_t allocated; /* bytes of disk */
    uint64_t device, inode;
    bool is_dir;
};

/* VFS_COLD: the pages need not stay in this process's memory. Only for what is mapped shared: its bytes are
 * in the file, and the next look brings them back. */
enum vfs_advice { VFS_WILLNEED, VFS_SEQUENTIAL, VFS_RANDOM, VFS_HUGE, VFS_COLD };

/* Some of the bytes of a write. */
struct vfs_part {
    const void *bytes;
    size_t len;
};
#define VFS_PARTS_MAX 32 /* of one write */

struct vfs {
    const char *name;
    vfs_fd (*open_file)(const char *path, int flags); /* close-on-exec always */
    int (*close_file)(vfs_fd fd);
    int64_t (*read_at)(vfs_fd fd, void *buf, size_t len, uint64_t offset);
    int64_t (*write_at)(vfs_fd fd, const void *buf, size_t len, uint64_t offset);
    /* The parts one behind the other, as one write: it may be short, even within a part. */
    int64_t (*write_parts)(vfs_fd fd, const struct vfs_part *parts, size_t count, uint64_t offset);
    int (*set_size)(vfs_fd fd, uint64_t size);
    /* Reserve disk blocks for [offset, offset+len) and make the file at least that long; the range
     * reads as zeros. -EOPNOTSUPP where the file system cannot (the caller writes zeros instead). */
    int (*allocate)(vfs_fd fd, uint64_t offset, uint64_t len);
    int (*sync_data)(vfs_fd fd);              /* data and size; stores into maps included */
    int (*sync_dir)(const char *path);        /* the directory that holds `path` */
    int (*replace_name)(const char *from, const char *to);
    int (*give_name)(const char *from, const char *to); /* -EEXIST when `to` is there */
    int (*remove_name)(const char *path);
    int (*stat_fd)(vfs_fd fd, struct vfs_stat *out);
    int (*stat_path)(const char *path, struct vfs_stat *out);
    /* Give an open file the permissions of the file at `path` and, as far as the system lets this
     * process, its owner and group. -ENOENT when there is none. */
    int (*copy_access)(const char *path, vfs_fd to);
    /* For who asks about one path again and again: a descriptor of the directory that holds it, and what
     * the last name of `path` leads to in there; dir -1 = stat_path. */
    vfs_fd (*open_dir)(const char *path);
    int (*stat_in)(vfs_fd dir, const char *path, struct vfs_stat *out);
    /* Exclusive advisory lock of the whole file, owned by this open file description. -EAGAIN when
     * another holds it. Closing the descriptor releases it. */
    int (*lock)(vfs_fd fd);
    int (*unlock)(vfs_fd fd);
    /* A second lock of the same kind, independent of the first: the claim to be its next holder. Where
     * the system cannot lock two parts of a file, both do nothing and succeed. */
    int (*claim)(vfs_fd fd);
    int (*unclaim)(vfs_fd fd);
    /* Address space of `len` bytes that faults on access; parts are then filled by map. */
    void *(*reserve)(size_t len);
    /* Map file bytes [offset, offset+len) at `at` (inside a reservation, page aligned). shared:
     * stores reach the file; otherwise they stay private to this mapping. */
    int (*map)(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared);
    int (*unmap)(void *at, size_t len);
    void (*advise)(void *at, size_t len, enum vfs_advice advice);
    /* Bytes [offset, offset+len) were stored through a shared map at `bytes`. The real table does
     * nothing; the recording ones learn what they could not see. */
    void (*note_store)(vfs_fd fd, uint64_t offset, const void *bytes, size_t len);
    /* Names (not paths) in the directory that holds `path`; visit returns false to stop. */
    int (*list)(const char *path, bool (*visit)(void *context, const char *name), void *context);
    int (*realpath)(const char *path, char *out, size_t cap); /* of an existing file */
    uint64_t (*now_us)(void);                                 /* microseconds since 1970 */
    uint64_t (*ticks_us)(void); /* microseconds of a clock that nobody sets (CLOCK_MONOTONIC) */
    int (*random)(void *out, size_t len);
    int (*pid)(void);
    bool (*process_alive)(int pid); /* true when in doubt */
    void (*pause_us)(uint32_t us);  /* sleep; 0 = let others run */
};

/* The table in use. */
extern const struct vfs *syna_vfs;
extern const struct vfs vfs_posix;

#ifdef SYNA_TESTING
SYNA_API void syna_test_set_vfs(const struct vfs *table); /* NULL = vfs_posix */
#endif

#endif
