/* The real table: one kernel call each, errors as negated errno. Nothing is retried, looped or
 * reported here (io/file.c and its callers do that), so that every call of the kernel is one call of
 * the table and can be made to fail. This is the only file that calls the kernel. */
#define SYNA_MAY_CALL_KERNEL
#include "base/internal.h"

#include "io/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/random.h>
#endif

#define HUGE_PAGE ((size_t)2 << 20)

static int result(int rc)
{
    return rc < 0 ? -errno : 0;
}

/* ---------------------------------------------------------------- files */

static int check_kind(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    return S_ISREG(st.st_mode) ? 0 : -ESPIPE;
}

static vfs_fd posix_open(const char *path, int flags)
{
    /* O_NONBLOCK: opening a pipe that somebody put there must not wait for its other end. */
    int how = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & VFS_WRITE ? O_RDWR : O_RDONLY);
    if (flags & VFS_CREATE)
        how |= O_CREAT;
    if (flags & VFS_EXCLUSIVE)
        how |= O_EXCL;
    int fd = open(path, how, 0666);
    if (fd < 0)
        return -errno;
    int rc = check_kind(fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static int posix_close(vfs_fd fd)
{
    return result(close(fd));
}

static int64_t posix_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    ssize_t got = pread(fd, buf, len, (off_t)offset);
    return got < 0 ? -errno : got;
}

static int64_t posix_write(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    ssize_t put = pwrite(fd, buf, len, (off_t)offset);
    return put < 0 ? -errno : put;
}

static int64_t posix_write_parts(vfs_fd fd, const struct vfs_part *parts, size_t count,
                                 uint64_t offset)
{
    struct iovec list[VFS_PARTS_MAX];
    if (count > VFS_PARTS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        list[i] = (struct iovec){(void *)(uintptr_t)parts[i].bytes, parts[i].len};
    ssize_t put = pwritev(fd, list, (int)count, (off_t)offset);
    return put < 0 ? -errno : put;
}

static int posix_set_size(vfs_fd fd, uint64_t size)
{
    return result(ftruncate(fd, (off_t)size));
}

static int posix_allocate(vfs_fd fd, uint64_t offset, uint64_t len)
{
#if defined(__linux__)
    /* Not posix_fallocate: where the file system cannot, it would write one byte a block, which is
     * slower than our own zeros and cannot be told from success. */
    return result(fallocate(fd, 0, (off_t)offset, (off_t)len));
#else
    (void)fd;
    (void)offset;
    (void)len;
    return -EOPNOTSUPP;
#endif
}

static int posix_sync(vfs_fd fd)
{
#if defined(F_FULLFSYNC)
    return result(fcntl(fd, F_FULLFSYNC)); /* elsewhere fsync stops at the drive's cache */
#else
    return result(fdatasync(fd));
#endif
}

/* ---------------------------------------------------------------- names */

/* The directory that holds `path`, as something that open takes. */
static int directory_of(const char *path, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= PATH_MAX)
        return -ENAMETOOLONG;
    if (!slash)
        memcpy(out, ".", 2);
    else if (len == 0)
        memcpy(out, "/", 2);
    else {
        memcpy(out, path, len);
        out[len] = 0;
    }
    return 0;
}

static int posix_sync_dir(const char *path)
{
    char directory[PATH_MAX];
    int rc = directory_of(path, directory);
    if (rc < 0)
        return rc;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = result(fsync(fd));
    close(fd);
    return rc == -EINVAL || rc == -ENOTSUP ? 0 : rc; /* file systems whose names are always synced */
}

static int posix_rename(const char *from, const char *to)
{
    return result(rename(from, to));
}

static int posix_link(const char *from, const char *to)
{
    if (link(from, to) == 0)
        return 0;
    int rc = -errno;
#if defined(RENAME_NOREPLACE)
    /* File systems without hard links; as with link, a name that is taken stays what it is. */
    if (rc == -EPERM || rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EMLINK)
        rc = result(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
#endif
    return rc;
}

static int posix_unlink(const char *path)
{
    return result(unlink(path));
}

static int fill_stat(int rc, const struct stat *st, struct vfs_stat *out)
{
    if (rc < 0)
        return -errno;
    out->size = (uint64_t)st->st_size;
    out->allocated = (uint64_t)st->st_blocks * 512;
    out->device = (uint64_t)st->st_dev;
    out->inode = (uint64_t)st->st_ino;
    out->is_dir = S_ISDIR(st->st_mode);
    return 0;
}

static int posix_fstat(vfs_fd fd, struct vfs_stat *out)
{
    struct stat st;
    return fill_stat(fstat(fd, &st), &st, out);
}

static int posix_stat(const char *path, struct vfs_stat *out)
{
    struct stat st;
    return fill_stat(stat(path, &st), &st, out);
}

/* Permissions of a group are for that group only: they go when the file cannot be given to it. */
static int posix_copy_access(const char *path, vfs_fd to)
{
    struct stat from, st;
    if (stat(path, &from) < 0 || fstat(to, &st) < 0)
        return -errno;
    bool other_owner = from.st_uid != st.st_uid, other_group = from.st_gid != st.st_gid;
    mode_t mode = from.st_mode & 0777;
    if ((other_owner || other_group) && fchown(to, from.st_uid, from.st_gid) < 0 && other_group &&
        fchown(to, (uid_t)-1, from.st_gid) < 0)
        mode &= ~(mode_t)S_IRWXG;
    return result(fchmod(to, mode));
}

#if !defined(O_PATH)
#define O_PATH O_RDONLY
#endif

static vfs_fd posix_open_dir(const char *path)
{
    char directory[PATH_MAX];
    int rc = directory_of(path, directory);
    if (rc < 0)
        return rc;
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int posix_stat_in(vfs_fd dir, const char *path, struct vfs_stat *out)
{
    struct stat st;
    const char *slash = strrchr(path, '/');
    if (dir < 0)
        return posix_stat(path, out);
    return fill_stat(fstatat(dir, slash ? slash + 1 : path, &st, 0), &st, out);
}

static int posix_list(const char *path, bool (*visit)(void *context, const char *name),
                      void *context)
{
    char directory[PATH_MAX];
    int rc = directory_of(path, directory);
    if (rc < 0)
        return rc;
    DIR *dir = opendir(directory);
    if (!dir)
        return -errno;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            rc = -errno;
            break;
        }
        if (!visit(context, entry->d_name))
            break;
    }
    closedir(dir);
    return rc;
}

static int posix_realpath(const char *path, char *out, size_t cap)
{
    char resolved[PATH_MAX];
    if (!realpath(path, resolved))
        return -errno;
    size_t len = strlen(resolved);
    if (len >= cap)
        return -ENAMETOOLONG;
    memcpy(out, resolved, len + 1);
    return 0;
}

/* ---------------------------------------------------------------- locks */

/* The bytes that stand for the two locks; no file is that long. */
#define LOCK_AT ((off_t)0)
#define LOCK_BYTES ((off_t)1 << 62)
#define CLAIM_AT LOCK_BYTES
#define CLAIM_BYTES ((off_t)1)

/* -EINVAL: a kernel that has no locks of open files. */
static int ofd_lock(vfs_fd fd, short type, off_t at, off_t len)
{
#if defined(F_OFD_SETLK)
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len};
    return result(fcntl(fd, F_OFD_SETLK, &range));
#else
    (void)fd, (void)type, (void)at, (void)len;
    return -EINVAL;
#endif
}

static int held_by_another(int rc)
{
    return rc == -EACCES || rc == -EWOULDBLOCK ? -EAGAIN : rc;
}

static int posix_lock(vfs_fd fd)
{
    int rc = ofd_lock(fd, F_WRLCK, LOCK_AT, LOCK_BYTES);
    if (rc == -EINVAL) /* flock belongs to the open file as well */
        rc = result(flock(fd, LOCK_EX | LOCK_NB));
    return held_by_another(rc);
}

static int posix_unlock(vfs_fd fd)
{
    int rc = ofd_lock(fd, F_UNLCK, LOCK_AT, LOCK_BYTES);
    return rc == -EINVAL ? result(flock(fd, LOCK_UN)) : rc;
}

static int posix_claim(vfs_fd fd)
{
    int rc = ofd_lock(fd, F_WRLCK, CLAIM_AT, CLAIM_BYTES);
    return rc == -EINVAL ? 0 : held_by_another(rc);
}

static int posix_unclaim(vfs_fd fd)
{
    int rc = ofd_lock(fd, F_UNLCK, CLAIM_AT, CLAIM_BYTES);
    return rc == -EINVAL ? 0 : rc;
}

/* ---------------------------------------------------------------- memory */

#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0
#endif

/* Aligned to a huge page, so that the kernel can map a file in pieces of that size. */
static void *posix_reserve(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (len > SIZE_MAX - HUGE_PAGE - page)
        return NULL;
    len = (len + page - 1) & ~(page - 1);
    uint8_t *at = mmap(NULL, len + HUGE_PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - ((uintptr_t)at & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    if (before)
        munmap(at, before);
    munmap(at + before + len, HUGE_PAGE - before);
    return at + before;
}

static int posix_map(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable,
                     bool shared)
{
    int access = PROT_READ | (writable ? PROT_WRITE : 0);
    int how = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE);
    return mmap(at, len, access, how, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}

static int posix_unmap(void *at, size_t len)
{
    return result(munmap(at, len));
}

static void posix_advise(void *at, size_t len, enum vfs_advice advice)
{
    int how = advice == VFS_WILLNEED     ? MADV_WILLNEED
              : advice == VFS_SEQUENTIAL ? MADV_SEQUENTIAL
              : advice == VFS_COLD       ? MADV_DONTNEED
                                         : MADV_RANDOM;
#if defined(MADV_HUGEPAGE)
    if (advice == VFS_HUGE)
        how = MADV_HUGEPAGE;
#else
    if (advice == VFS_HUGE)
        return;
#endif
    (void)madvise(at, len, how); /* advice may be refused */
}

static void posix_note_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    (void)fd;
    (void)offset;
    (void)bytes;
    (void)len;
}

/* ---------------------------------------------------------------- the rest */

static uint64_t posix_ticks_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t posix_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static int posix_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        size_t take = MIN(len, (size_t)256); /* what getentropy gives at once */
        if (getentropy(p, take) < 0)
            return -errno;
        p += take;
        len -= take;
    }
    return 0;
}

static int posix_pid(void)
{
    return (int)getpid();
}

static bool posix_process_alive(int pid)
{
    return kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

static void posix_pause_us(uint32_t us)
{
    struct timespec time = {us / 1000000u, (long)(us % 1000000u) * 1000};
    if (us == 0)
        sched_yield();
    else
        nanosleep(&time, NULL);
}

const struct vfs vfs_posix = {
    .name = "posix",
    .open_file = posix_open,
    .close_file = posix_close,
    .read_at = posix_read,
    .write_at = posix_write,
    .write_parts = posix_write_parts,
    .set_size = posix_set_size,
    .allocate = posix_allocate,
    .sync_data = posix_sync,
    .sync_dir = posix_sync_dir,
    .replace_name = posix_rename,
    .give_name = posix_link,
    .remove_name = posix_unlink,
    .stat_fd = posix_fstat,
    .stat_path = posix_stat,
    .copy_access = posix_copy_access,
    .open_dir = posix_open_dir,
    .stat_in = posix_stat_in,
    .lock = posix_lock,
    .unlock = posix_unlock,
    .claim = posix_claim,
    .unclaim = posix_unclaim,
    .reserve = posix_reserve,
    .map = posix_map,
    .unmap = posix_unmap,
    .advise = posix_advise,
    .note_store = posix_note_store,
    .list = posix_list,
    .realpath = posix_realpath,
    .now_us = posix_now_us,
    .ticks_us = posix_ticks_us,
    .random = posix_random,
    .pid = posix_pid,
    .process_alive = posix_process_alive,
    .pause_us = posix_pause_us,
};

const struct vfs *syna_vfs = &vfs_posix;

#ifdef SYNA_TESTING
void syna_test_set_vfs(const struct vfs *table)
{
    syna_vfs = table ? table : &vfs_posix;
}
#endif
