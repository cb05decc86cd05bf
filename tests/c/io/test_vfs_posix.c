/* The real table, where io/file.c does not exercise it: names, listing, time, randomness, advice, and
 * what it does on kernels and file systems that lack something. */
#include "check.h"

#include "io/vfs.h"

#include <dirent.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static bool collect(void *context, const char *name)
{
    char *all = context;
    if (name[0] != '.')
        strcat(strcat(all, name), " ");
    return strstr(all, "stop") == NULL;
}

static void touch(const char *path)
{
    int fd = vfs_posix.open_file(path, VFS_WRITE | VFS_CREATE);
    CHECK(fd >= 0);
    CHECK_EQ(vfs_posix.close_file(fd), 0);
}

TEST(listing_names_the_directory_that_holds_the_path)
{
    char all[300] = "";
    touch(check_path("one"));
    CHECK_EQ(vfs_posix.list(check_path("anything"), collect, all), 0);
    CHECK_STR(all, "one ");
    touch(check_path("stop"));
    all[0] = 0;
    CHECK_EQ(vfs_posix.list(check_path("anything"), collect, all), 0);
    CHECK(strstr(all, "stop") != NULL);
    CHECK_EQ(vfs_posix.list(check_path("no/such"), collect, all), -ENOENT);
}

static bool count_names(void *count, const char *name)
{
    *(size_t *)count += name[0] != 0;
    return true;
}

static size_t names_in_root(void)
{
    DIR *dir = opendir("/");
    size_t count = 0;
    while (dir && readdir(dir))
        count++;
    closedir(dir);
    return count;
}

TEST(paths_without_a_folder_and_in_the_root_have_a_directory)
{
    CHECK_EQ(vfs_posix.sync_dir("name-only"), 0);
    size_t count = 0;
    CHECK_EQ(vfs_posix.list("/x", count_names, &count), 0);
    CHECK_EQ(count, names_in_root());
    static char longest[PATH_MAX + 10];
    memset(longest, 'a', sizeof longest - 3);
    longest[sizeof longest - 3] = '/';
    longest[sizeof longest - 2] = 'b';
    CHECK_EQ(vfs_posix.sync_dir(longest), -ENAMETOOLONG);
    CHECK_EQ(vfs_posix.list(longest, count_names, &count), -ENAMETOOLONG);
    CHECK_EQ(vfs_posix.sync_dir(check_path("no/such")), -ENOENT);
}

TEST(real_paths_follow_links)
{
    touch(check_path("file"));
    CHECK_EQ(symlink(check_path("file"), check_path("link")), 0);
    char out[PATH_MAX], plain[PATH_MAX];
    CHECK_EQ(vfs_posix.realpath(check_path("link"), out, sizeof out), 0);
    CHECK_EQ(vfs_posix.realpath(check_path("file"), plain, sizeof plain), 0);
    CHECK_STR(out, plain);
    CHECK_EQ(vfs_posix.realpath(check_path("none"), out, sizeof out), -ENOENT);
    CHECK_EQ(vfs_posix.realpath(check_path("file"), out, 3), -ENAMETOOLONG);
}

TEST(a_link_never_replaces)
{
    touch(check_path("a"));
    touch(check_path("b"));
    CHECK_EQ(vfs_posix.give_name(check_path("a"), check_path("b")), -EEXIST);
    CHECK_EQ(vfs_posix.give_name(check_path("a"), check_path("c")), 0);
    struct vfs_stat a, c;
    CHECK_EQ(vfs_posix.stat_path(check_path("a"), &a), 0);
    CHECK_EQ(vfs_posix.stat_path(check_path("c"), &c), 0);
    CHECK_EQ(a.inode, c.inode);
    CHECK_EQ(vfs_posix.remove_name(check_path("c")), 0);
    CHECK_EQ(vfs_posix.remove_name(check_path("c")), -ENOENT);
    CHECK_EQ(vfs_posix.stat_path(check_path("c"), &c), -ENOENT);
    CHECK_EQ(vfs_posix.stat_path(check_path(""), &c), 0);
    CHECK(c.is_dir && !a.is_dir);
}

TEST(errors_come_back_negated)
{
    char byte = 0;
    struct vfs_stat st;
    CHECK_EQ(vfs_posix.read_at(-1, &byte, 1, 0), -EBADF);
    CHECK_EQ(vfs_posix.write_at(-1, &byte, 1, 0), -EBADF);
    CHECK_EQ(vfs_posix.write_parts(-1, &(struct vfs_part){&byte, 1}, 1, 0), -EBADF);
    CHECK_EQ(vfs_posix.write_parts(-1, NULL, VFS_PARTS_MAX + 1, 0), -EINVAL);
    CHECK_EQ(vfs_posix.close_file(-1), -EBADF);
    CHECK_EQ(vfs_posix.sync_data(-1), -EBADF);
    CHECK_EQ(vfs_posix.set_size(-1, 0), -EBADF);
    CHECK_EQ(vfs_posix.allocate(-1, 0, 1), -EBADF);
    CHECK_EQ(vfs_posix.stat_fd(-1, &st), -EBADF);
    CHECK_EQ(vfs_posix.lock(-1), -EBADF);
    CHECK_EQ(vfs_posix.claim(-1), -EBADF);
    CHECK_EQ(vfs_posix.unlock(-1), -EBADF);
    CHECK_EQ(vfs_posix.replace_name(check_path("x"), check_path("y")), -ENOENT);
    CHECK_EQ(vfs_posix.map(NULL, -1, 0, 4096, false, true), -EBADF);
    CHECK(vfs_posix.reserve(SIZE_MAX / 2) == NULL);
}

TEST(time_is_now_and_passes)
{
    uint64_t before = vfs_posix.now_us();
    CHECK(before > 1600000000000000u && before < 8000000000000000u);
    vfs_posix.pause_us(2000);
    CHECK(vfs_posix.now_us() >= before + 2000);
}

TEST(randomness_fills_any_length)
{
    uint8_t a[1000] = {0}, b[1000] = {0};
    CHECK_EQ(vfs_posix.random(a, sizeof a), 0);
    CHECK_EQ(vfs_posix.random(b, sizeof b), 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(memcmp(a + 900, b + 900, 100) != 0);
    CHECK_EQ(vfs_posix.random(a, 0), 0);
}

TEST(processes_are_known_to_live_or_not)
{
    CHECK_EQ(vfs_posix.pid(), getpid());
    CHECK(vfs_posix.process_alive(getpid()));
    CHECK(vfs_posix.process_alive(1)); /* though we may not be allowed to signal it */
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    CHECK(!vfs_posix.process_alive(child));
}

TEST(advice_is_taken_or_ignored_but_never_fails)
{
    uint8_t *at = vfs_posix.reserve(1u << 22);
    CHECK(at != NULL);
    vfs_posix.advise(at, 1u << 22, VFS_WILLNEED);
    vfs_posix.advise(at, 1u << 22, VFS_SEQUENTIAL);
    vfs_posix.advise(at, 1u << 22, VFS_RANDOM);
    vfs_posix.advise(at, 1u << 22, VFS_HUGE);
    vfs_posix.advise(at + 1, 5, VFS_HUGE);
    vfs_posix.advise(at, 1u << 22, VFS_COLD);
    vfs_posix.note_store(-1, 0, at, 0);
    CHECK_EQ(vfs_posix.unmap(at, 1u << 22), 0);
}

TEST(a_private_mapping_keeps_its_stores_to_itself)
{
    int fd = vfs_posix.open_file(check_path("a"), VFS_WRITE | VFS_CREATE);
    CHECK_EQ(vfs_posix.write_at(fd, "file", 4, 0), 4);
    uint8_t *at = vfs_posix.reserve(4096);
    CHECK_EQ(vfs_posix.map(at, fd, 0, 4096, true, false), 0);
    memcpy(at, "mine", 4);
    char back[4];
    CHECK_EQ(vfs_posix.read_at(fd, back, 4, 0), 4);
    CHECK_MEM(back, "file", 4);
    CHECK_EQ(vfs_posix.unmap(at, 4096), 0);
    CHECK_EQ(vfs_posix.close_file(fd), 0);
}

/* ---------------------------------------------------------------- a kernel that lacks something */

/* Make one system call fail with `error` from now on in this process, when its second argument is
 * `argument` (-1 = always). False where the system has no such filters (under an emulator). */
static bool deny(unsigned call, int argument, unsigned error)
{
    const uint32_t second = offsetof(struct seccomp_data, args[1]);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, argument < 0 ? 2 : 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, second),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)argument, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT_OF(filter), filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void without_links(void *context)
{
    unsigned error = *(const unsigned *)context;
    const char *a = check_path("a"), *b = check_path("b");
    touch(a);
#if defined(SYS_link)
    if (!deny(SYS_link, -1, error))
        return;
#endif
    if (!deny(SYS_linkat, -1, error))
        return;
    CHECK(link(a, b) != 0);
    if (error == EACCES) { /* that is about this folder, not about links */
        CHECK_EQ(vfs_posix.give_name(a, b), -EACCES);
        return;
    }
    CHECK_EQ(vfs_posix.give_name(a, b), 0);
    struct vfs_stat st;
    CHECK_EQ(vfs_posix.stat_path(a, &st), -ENOENT); /* moved, not linked */
    touch(a);
    CHECK_EQ(vfs_posix.give_name(a, b), -EEXIST);
    CHECK_EQ(vfs_posix.stat_path(a, &st), 0);
}

TEST(without_hard_links_a_name_is_given_by_a_rename_that_never_replaces)
{
    unsigned errors[] = {EPERM, EOPNOTSUPP, ENOSYS, EMLINK, EACCES};
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        unlink(check_path("b"));
        CHECK_EQ(check_child(without_links, &errors[i]), 0);
    }
}

static void without_ofd_locks(void *context)
{
    (void)context;
    const char *path = check_path("a");
    touch(path);
    if (!deny(SYS_fcntl, F_OFD_SETLK, EINVAL))
        return;
    int first = vfs_posix.open_file(path, VFS_WRITE), second = vfs_posix.open_file(path, VFS_WRITE);
    CHECK_EQ(vfs_posix.lock(first), 0);
    CHECK_EQ(vfs_posix.lock(second), -EAGAIN);
    CHECK_EQ(vfs_posix.unlock(first), 0);
    CHECK_EQ(vfs_posix.lock(second), 0);
    /* No order among those who wait. */
    CHECK_EQ(vfs_posix.claim(first), 0);
    CHECK_EQ(vfs_posix.claim(second), 0);
    CHECK_EQ(vfs_posix.unclaim(first), 0);
}

TEST(P9_without_locks_of_open_files_flock_does_the_same)
{
    CHECK_EQ(check_child(without_ofd_locks, NULL), 0);
}

static void without_directory_sync(void *context)
{
    unsigned error = *(const unsigned *)context;
    touch(check_path("a"));
    if (!deny(SYS_fsync, -1, error))
        return;
    CHECK_EQ(vfs_posix.sync_dir(check_path("a")), error == EIO ? -EIO : 0);
}

TEST(a_file_system_that_cannot_sync_directories_is_taken_at_its_word)
{
    unsigned errors[] = {EINVAL, ENOTSUP, EIO};
    for (size_t i = 0; i < COUNT_OF(errors); i++)
        CHECK_EQ(check_child(without_directory_sync, &errors[i]), 0);
}

static void without_answers(void *context)
{
    (void)context;
    char byte;
    if (!deny(SYS_getrandom, -1, ENOSYS) || !deny(SYS_kill, -1, EPERM))
        return;
    CHECK_EQ(vfs_posix.random(&byte, 1), -ENOSYS);
    CHECK(vfs_posix.process_alive(getppid())); /* in doubt: alive */
}

TEST(no_randomness_is_an_error_and_an_unknown_process_counts_as_alive)
{
    CHECK_EQ(check_child(without_answers, NULL), 0);
}

/* Some systems say EACCES where another holds the lock (fcntl(2)). */
static void with_another_word_for_locked(void *context)
{
    (void)context;
    const char *path = check_path("a");
    touch(path);
    int fd = vfs_posix.open_file(path, VFS_WRITE);
    if (!deny(SYS_fcntl, F_OFD_SETLK, EACCES))
        return;
    CHECK_EQ(vfs_posix.lock(fd), -EAGAIN);
}

TEST(P9_a_lock_that_is_denied_is_held_by_another)
{
    CHECK_EQ(check_child(with_another_word_for_locked, NULL), 0);
}

TEST(more_address_space_than_there_is_cannot_be_reserved)
{
    CHECK(vfs_posix.reserve(SIZE_MAX) == NULL);
    CHECK(vfs_posix.reserve(SIZE_MAX / 2) == NULL);
}
