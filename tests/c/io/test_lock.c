/* The writer lock: who gets it, for how long, and what cannot take it away (P9). */
#include "check.h"

#include "io/lock.h"

#include <signal.h>

static const char *database(void)
{
    struct file f;
    const char *path = check_path("a.db");
    CHECK_OK(file_open(&f, path, VFS_WRITE | VFS_CREATE));
    file_close(&f);
    return path;
}

TEST(P9_the_second_writer_is_refused_at_once_and_gets_in_after_the_first)
{
    const char *path = database();
    struct writer_lock first = WRITER_LOCK_NONE, second = WRITER_LOCK_NONE;
    struct vfs_stat st = {0}, named;
    CHECK_OK(lock_acquire(&first, path, 0, &st));
    CHECK_EQ(vfs_posix.stat_path(path, &named), 0);
    CHECK_EQ(st.inode, named.inode);
    CHECK_FAILS(lock_acquire(&second, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    CHECK_STR(syna_last_path(), path);
    CHECK_EQ(second.fd, -1);
    lock_release(&first);
    CHECK_EQ(first.fd, -1);
    lock_release(&first); /* harmless */
    CHECK_OK(lock_acquire(&second, path, 0, NULL));
    lock_release(&second);
}

TEST(P9_closing_another_descriptor_of_the_file_does_not_lose_the_lock)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, other = WRITER_LOCK_NONE;
    struct file f;
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    CHECK_OK(file_open(&f, path, VFS_WRITE));
    file_close(&f);
    CHECK_FAILS(lock_acquire(&other, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    lock_release(&lock);
}

static void expect_locked(void *path)
{
    struct writer_lock lock = WRITER_LOCK_NONE;
    CHECK_FAILS(lock_acquire(&lock, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
}

static void expect_free(void *path)
{
    struct writer_lock lock = WRITER_LOCK_NONE;
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
}

static struct writer_lock inherited = WRITER_LOCK_NONE;

static void forget_and_end(void *path)
{
    lock_forget(&inherited);
    expect_locked(path);
}

TEST(P11_a_child_that_forgets_the_lock_leaves_it_to_its_parent)
{
    const char *path = database();
    CHECK_OK(lock_acquire(&inherited, path, 0, NULL));
    CHECK_EQ(check_child(forget_and_end, (void *)(uintptr_t)path), 0);
    CHECK_EQ(check_child(expect_locked, (void *)(uintptr_t)path), 0);
    lock_release(&inherited);
    CHECK_EQ(check_child(expect_free, (void *)(uintptr_t)path), 0);
}

/* A child that never noticed its copy must not pin the lock after its parent gave it back. */
TEST(P11_release_frees_the_lock_though_a_child_still_holds_the_descriptor)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, next = WRITER_LOCK_NONE;
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    lock_release(&lock);
    syna_rc rc = lock_acquire(&next, path, 0, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_OK(rc);
    lock_release(&next);
}

TEST(P9_the_lock_dies_with_its_process)
{
    const char *path = database();
    int ready[2];
    CHECK_EQ(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct writer_lock lock = WRITER_LOCK_NONE;
        char ok = lock_acquire(&lock, path, 0, NULL) == SYNA_SUCCESS;
        (void)!write(ready[1], &ok, 1);
        pause();
        _exit(0);
    }
    char ok = 0;
    CHECK_EQ(read(ready[0], &ok, 1), 1);
    CHECK(ok);
    struct writer_lock lock = WRITER_LOCK_NONE;
    CHECK_FAILS(lock_acquire(&lock, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    lock_release(&lock);
    close(ready[0]);
    close(ready[1]);
}

/* ---------------------------------------------------------------- waiting */

static uint64_t milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

TEST(waiting_ends_with_the_timeout)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, other = WRITER_LOCK_NONE;
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    uint64_t start = milliseconds();
    CHECK_FAILS(lock_acquire(&other, path, 100, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    CHECK(milliseconds() - start >= 100);
    lock_release(&lock);
}

static void *release_later(void *lock)
{
    usleep(30000);
    lock_release(lock);
    return NULL;
}

TEST(who_waits_gets_the_lock_when_it_becomes_free)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, other = WRITER_LOCK_NONE;
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, release_later, &lock), 0);
    CHECK_OK(lock_acquire(&other, path, 60000, NULL));
    pthread_join(thread, NULL);
    lock_release(&other);
}

/* ---------------------------------------------------------------- who goes first */

struct waiter {
    struct writer_lock lock;
    const char *path;
    syna_rc rc;
};

static void *wait_for_lock(void *context)
{
    struct waiter *w = context;
    w->rc = lock_acquire(&w->lock, w->path, 60000, NULL);
    return NULL;
}

static bool is_claimed(vfs_fd probe)
{
    int rc = vfs_posix.claim(probe);
    if (rc == 0)
        CHECK_EQ(vfs_posix.unclaim(probe), 0);
    return rc == -EAGAIN;
}

static uint64_t passed_us;

static uint64_t passing_ticks(void)
{
    return __atomic_load_n(&passed_us, __ATOMIC_RELAXED);
}

static void pass_time(uint64_t us)
{
    __atomic_fetch_add(&passed_us, us, __ATOMIC_RELAXED);
}

/* The real table with a clock that stands still unless time is passed. */
static void stop_the_clock(void)
{
    static struct vfs table;
    table = vfs_posix;
    table.ticks_us = passing_ticks;
    passed_us = 1000000;
    syna_test_set_vfs(&table);
}

/* Else a writer that only lets go between two syncs would keep everyone else out. */
TEST(P9_after_a_turn_those_who_waited_go_first)
{
    const char *path = database();
    struct writer_lock busy = WRITER_LOCK_NONE;
    struct waiter waiter = {.lock = WRITER_LOCK_NONE, .path = path};
    stop_the_clock();
    vfs_fd probe = vfs_posix.open_file(path, VFS_WRITE);
    CHECK_OK(lock_acquire(&busy, path, 0, NULL));
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_lock, &waiter), 0);
    while (!is_claimed(probe))
        usleep(100);
    pass_time(6000);
    lock_leave(&busy);
    CHECK_FAILS(lock_acquire(&busy, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    pthread_join(thread, NULL);
    CHECK_OK(waiter.rc);
    CHECK(!is_claimed(probe)); /* it has the lock now, and the next may wait for it */
    lock_release(&waiter.lock);
    CHECK_OK(lock_acquire(&busy, path, 0, NULL));
    lock_release(&busy);
    syna_test_set_vfs(NULL);
    CHECK_EQ(vfs_posix.close_file(probe), 0);
}

TEST(until_its_turn_is_over_a_writer_asks_nobody)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE;
    stop_the_clock();
    vfs_fd other = vfs_posix.open_file(path, VFS_WRITE);
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    lock_leave(&lock); /* long since the clock began: over */
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    CHECK_EQ(vfs_posix.claim(other), 0);
    pass_time(4000);
    lock_leave(&lock);
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    pass_time(1000);
    lock_leave(&lock);
    CHECK_FAILS(lock_acquire(&lock, path, 20, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    CHECK_EQ(lock.fd, -1);
    CHECK_EQ(vfs_posix.close_file(other), 0);
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    lock_release(&lock);
    syna_test_set_vfs(NULL);
}

TEST(who_waited_in_vain_leaves_no_claim)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, other = WRITER_LOCK_NONE;
    vfs_fd probe = vfs_posix.open_file(path, VFS_WRITE);
    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    CHECK_FAILS(lock_acquire(&other, path, 20, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    CHECK_EQ(other.fd, -1);
    CHECK(!is_claimed(probe));
    lock_release(&lock);
    CHECK_EQ(vfs_posix.close_file(probe), 0);
}

/* ---------------------------------------------------------------- the file under the name changes */

static int swaps_left;
static const char *swap_path;
static char swap_other[600];

/* A compaction by another process between our open and our lock. */
static int lock_after_swap(vfs_fd fd)
{
    if (swaps_left > 0) {
        swaps_left--;
        int new = open(swap_other, O_CREAT | O_RDWR, 0600);
        close(new);
        if (rename(swap_other, swap_path) != 0)
            return -errno;
    }
    return vfs_posix.lock(fd);
}

TEST(a_file_that_was_swapped_while_waiting_is_let_go_and_the_new_one_locked)
{
    swap_path = database();
    snprintf(swap_other, sizeof swap_other, "%s.new", swap_path);
    struct vfs table = vfs_posix;
    table.lock = lock_after_swap;
    swaps_left = 3;
    struct writer_lock lock = WRITER_LOCK_NONE;
    struct vfs_stat st, named, held;
    syna_test_set_vfs(&table);
    syna_rc rc = lock_acquire(&lock, swap_path, 0, &st);
    syna_test_set_vfs(NULL);
    CHECK_OK(rc);
    CHECK_EQ(swaps_left, 0);
    CHECK_EQ(vfs_posix.stat_path(swap_path, &named), 0);
    CHECK_EQ(vfs_posix.stat_fd(lock.fd, &held), 0);
    CHECK_EQ(st.inode, named.inode);
    CHECK_EQ(held.inode, named.inode);
    lock_release(&lock);
}

static int files_opened;

static vfs_fd count_open(const char *path, int flags)
{
    files_opened++;
    return vfs_posix.open_file(path, flags);
}

TEST(P9_a_lock_that_was_left_is_free_and_taken_again_without_opening_the_file)
{
    const char *path = database();
    struct vfs table = vfs_posix;
    table.open_file = count_open;
    files_opened = 0;
    struct writer_lock lock = WRITER_LOCK_NONE;
    struct vfs_stat st, named;
    syna_test_set_vfs(&table);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(lock_acquire(&lock, path, 0, &st));
        CHECK_EQ(check_child(expect_locked, (void *)(uintptr_t)path), 0);
        lock_leave(&lock);
        CHECK_EQ(check_child(expect_free, (void *)(uintptr_t)path), 0);
    }
    CHECK_EQ(files_opened, 1);

    /* Swapped while it was left: the new file is locked. */
    char other[1024];
    snprintf(other, sizeof other, "%s.new", path);
    close(open(other, O_CREAT | O_RDWR, 0600));
    CHECK_EQ(rename(other, path), 0);
    CHECK_OK(lock_acquire(&lock, path, 0, &st));
    syna_test_set_vfs(NULL);
    CHECK_EQ(vfs_posix.stat_path(path, &named), 0);
    CHECK_EQ(st.inode, named.inode);
    CHECK_EQ(lock.inode, named.inode);
    CHECK_EQ(files_opened, 2);
    CHECK_EQ(check_child(expect_locked, (void *)(uintptr_t)path), 0);
    lock_release(&lock);
    CHECK_EQ(lock.fd, -1);
    CHECK_EQ(check_child(expect_free, (void *)(uintptr_t)path), 0);
}

static int paths_walked;

static int count_walk(const char *path, struct vfs_stat *out)
{
    paths_walked++;
    return vfs_posix.stat_path(path, out);
}

static vfs_fd no_dir(const char *path)
{
    (void)path;
    return -EACCES;
}

/* A database in a directory of its own, a table whose clock stands still, and the lock after its first look. */
static const char *begin_looks(struct vfs *table, struct writer_lock *lock)
{
    mkdir(check_path("dir"), 0700);
    const char *path = check_path("dir/a.db");
    close(open(path, O_CREAT | O_RDWR, 0600));
    *table = vfs_posix;
    table->ticks_us = passing_ticks;
    table->stat_path = count_walk;
    passed_us = 1000000;
    paths_walked = 0;
    syna_test_set_vfs(table);
    CHECK_OK(lock_acquire(lock, path, 0, NULL));
    lock_leave(lock);
    CHECK_EQ(paths_walked, 1);
    return path;
}

static uint64_t locked_inode(struct writer_lock *lock, const char *path)
{
    struct vfs_stat st = {0};
    CHECK_OK(lock_acquire(lock, path, 0, &st));
    lock_leave(lock);
    return st.inode;
}

static uint64_t inode_of(const char *path)
{
    struct vfs_stat st = {0};
    CHECK_EQ(vfs_posix.stat_path(path, &st), 0);
    return st.inode;
}

TEST(P9_a_swap_is_seen_at_once_although_the_path_is_walked_every_ten_milliseconds)
{
    struct vfs table;
    struct writer_lock lock = WRITER_LOCK_NONE;
    const char *path = begin_looks(&table, &lock), *other = check_path("dir/b.db");
    uint64_t first = inode_of(path);
    CHECK_EQ(locked_inode(&lock, path), first);
    CHECK_EQ(paths_walked, 1);
    close(open(other, O_CREAT | O_RDWR, 0600));
    CHECK_EQ(link(path, check_path("dir/kept.db")), 0); /* the old file keeps a name */
    CHECK_EQ(rename(other, path), 0);
    CHECK(inode_of(path) != first);
    CHECK_EQ(locked_inode(&lock, path), inode_of(path));
    syna_test_set_vfs(NULL);
    lock_release(&lock);
}

TEST(P9_a_directory_that_was_moved_is_noticed_after_ten_milliseconds)
{
    struct vfs table;
    struct writer_lock lock = WRITER_LOCK_NONE;
    const char *path = begin_looks(&table, &lock);
    uint64_t first = locked_inode(&lock, path);
    CHECK_EQ(rename(check_path("dir"), check_path("moved")), 0);
    mkdir(check_path("dir"), 0700);
    close(open(path, O_CREAT | O_RDWR, 0600));
    CHECK_EQ(locked_inode(&lock, path), first);
    pass_time(10000);
    CHECK_EQ(locked_inode(&lock, path), inode_of(path));
    CHECK(inode_of(path) != first);
    syna_test_set_vfs(NULL);
    lock_release(&lock);
}

TEST(P9_without_a_descriptor_of_the_directory_the_path_is_walked_every_time)
{
    struct vfs table;
    struct writer_lock lock = WRITER_LOCK_NONE;
    const char *path = begin_looks(&table, &lock), *other = check_path("dir/b.db");
    table.open_dir = no_dir;
    CHECK_EQ(locked_inode(&lock, path), inode_of(path));
    close(open(other, O_CREAT | O_RDWR, 0600));
    CHECK_EQ(rename(other, path), 0);
    CHECK_EQ(locked_inode(&lock, path), inode_of(path));
    syna_test_set_vfs(NULL);
    lock_release(&lock);
    CHECK_EQ(lock.dir, -1);
}

static int lock_after_removal(vfs_fd fd)
{
    unlink(swap_path);
    return vfs_posix.lock(fd);
}

TEST(a_file_that_was_removed_meanwhile_is_missing)
{
    swap_path = database();
    struct vfs table = vfs_posix;
    table.lock = lock_after_removal;
    struct writer_lock lock = WRITER_LOCK_NONE;
    syna_test_set_vfs(&table);
    syna_rc rc = lock_acquire(&lock, swap_path, 0, NULL);
    syna_test_set_vfs(NULL);
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOENT);
    CHECK_EQ(lock.fd, -1);
}

static int lock_fails(vfs_fd fd)
{
    (void)fd;
    return -ENOLCK;
}

static int interruptions;

static int lock_is_interrupted(vfs_fd fd)
{
    return interruptions-- > 0 ? -EINTR : vfs_posix.lock(fd);
}

TEST(P9_an_interrupted_lock_is_tried_again_at_once)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE, other = WRITER_LOCK_NONE;
    struct vfs table = vfs_posix;
    table.lock = lock_is_interrupted;
    interruptions = 3;
    syna_test_set_vfs(&table);
    syna_rc rc = lock_acquire(&lock, path, 0, NULL);
    syna_test_set_vfs(NULL);
    CHECK_OK(rc);
    CHECK_EQ(interruptions, -1);
    CHECK_FAILS(lock_acquire(&other, path, 0, NULL), SYNA_ERR_IO, SYNA_WHY_LOCKED);
    lock_release(&lock);
}

static int other_devices;

static int stat_on_another_device(const char *path, struct vfs_stat *out)
{
    int rc = vfs_posix.stat_path(path, out);
    if (other_devices-- > 0)
        out->device++;
    return rc;
}

TEST(P9_a_file_of_the_same_number_on_another_device_is_not_the_one_that_was_locked)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE;
    struct vfs table = vfs_posix;
    table.stat_path = stat_on_another_device;
    other_devices = 2;
    syna_test_set_vfs(&table);
    syna_rc rc = lock_acquire(&lock, path, 0, NULL);
    syna_test_set_vfs(NULL);
    CHECK_OK(rc);
    CHECK_EQ(other_devices, -1); /* two were let go */
    lock_release(&lock);
}

static int stat_fails(const char *path, struct vfs_stat *out)
{
    (void)path;
    (void)out;
    return -EIO;
}

TEST(P7_failures_of_the_system_are_told_and_leave_nothing_locked)
{
    const char *path = database();
    struct writer_lock lock = WRITER_LOCK_NONE;
    struct vfs table = vfs_posix;
    table.lock = lock_fails;
    syna_test_set_vfs(&table);
    syna_rc rc = lock_acquire(&lock, path, 1000, NULL);
    syna_test_set_vfs(NULL);
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOLCK);

    table = vfs_posix;
    table.stat_path = stat_fails;
    syna_test_set_vfs(&table);
    rc = lock_acquire(&lock, path, 1000, NULL);
    syna_test_set_vfs(NULL);
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EIO);
    CHECK_EQ(lock.fd, -1);

    CHECK_OK(lock_acquire(&lock, path, 0, NULL));
    lock_release(&lock);
    CHECK_RC(lock_acquire(&lock, check_path("none.db"), 0, NULL), SYNA_ERR_IO);
}

/* ---------------------------------------------------------------- one at a time, really */

static void count_up(void *path)
{
    const char *counter = (const char *)path + strlen(path) + 1;
    for (int i = 0; i < 50; i++) {
        struct writer_lock lock = WRITER_LOCK_NONE;
        CHECK_OK(lock_acquire(&lock, path, 60000, NULL));
        int fd = open(counter, O_RDWR), value = 0;
        CHECK_EQ(pread(fd, &value, sizeof value, 0), sizeof value);
        value++;
        CHECK_EQ(pwrite(fd, &value, sizeof value, 0), sizeof value);
        close(fd);
        lock_release(&lock);
    }
}

TEST(P9_processes_take_turns)
{
    char paths[1200];
    const char *path = database(), *counter = check_path("counter");
    snprintf(paths, 600, "%s", path);
    snprintf(paths + strlen(path) + 1, 600, "%s", counter);
    int fd = open(counter, O_CREAT | O_RDWR, 0600), value = 0;
    CHECK_EQ(write(fd, &value, sizeof value), sizeof value);
    pid_t child[4];
    for (size_t i = 0; i < COUNT_OF(child); i++) {
        child[i] = fork();
        if (child[i] == 0) {
            count_up(paths);
            _exit(0);
        }
    }
    for (size_t i = 0; i < COUNT_OF(child); i++) {
        int status = -1;
        waitpid(child[i], &status, 0);
        CHECK_EQ(status, 0);
    }
    CHECK_EQ(pread(fd, &value, sizeof value, 0), sizeof value);
    close(fd);
    CHECK_EQ(value, 200);
}
