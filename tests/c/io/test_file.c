/* Whole operations on files: every loop, every errno that means something, names, temp files. Faults
 * come from a table that passes on to the real one. */
#include "check.h"

#include "io/file.h"

#include <signal.h>
#include <sys/resource.h>

/* ---------------------------------------------------------------- a table that fails on purpose */

static struct {
    int interrupt;     /* this many calls return -EINTR first */
    size_t most;       /* transfers at most this long; 0 = whole */
    int fail_after;    /* calls that still work; -1 = all */
    int error;         /* then: this errno, negated */
    int allocate;      /* what allocate returns instead of working; 0 = it works */
    int grow_and_fail; /* allocate half of it, then this errno, negated */
    int sync_dir, give_name, replace_name;
    int calls;
} fault;

static int fault_next(void)
{
    fault.calls++;
    if (fault.interrupt > 0) {
        fault.interrupt--;
        return -EINTR;
    }
    if (fault.fail_after == 0)
        return fault.error;
    if (fault.fail_after > 0)
        fault.fail_after--;
    return 0;
}

static int64_t faulty_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    int rc = fault_next();
    if (rc < 0)
        return rc;
    return vfs_posix.read_at(fd, buf, fault.most ? MIN(len, fault.most) : len, offset);
}

static int64_t faulty_write(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    int rc = fault_next();
    if (rc < 0)
        return rc;
    return vfs_posix.write_at(fd, buf, fault.most ? MIN(len, fault.most) : len, offset);
}

/* Short by `most`, wherever in a part that is. */
static int64_t faulty_write_parts(vfs_fd fd, const struct vfs_part *parts, size_t count,
                                  uint64_t offset)
{
    int rc = fault_next();
    if (rc < 0 || fault.most == 0)
        return rc < 0 ? rc : vfs_posix.write_parts(fd, parts, count, offset);
    size_t done = 0;
    for (size_t i = 0; i < count && done < fault.most; i++) {
        size_t len = MIN(parts[i].len, fault.most - done);
        CHECK_EQ(vfs_posix.write_at(fd, parts[i].bytes, len, offset + done), (int64_t)len);
        done += len;
    }
    return (int64_t)done;
}

static vfs_fd faulty_open(const char *path, int flags)
{
    int rc = fault_next();
    return rc < 0 ? rc : vfs_posix.open_file(path, flags);
}

static int faulty_set_size(vfs_fd fd, uint64_t size)
{
    int rc = fault_next();
    return rc < 0 ? rc : vfs_posix.set_size(fd, size);
}

static int faulty_allocate(vfs_fd fd, uint64_t offset, uint64_t len)
{
    int rc = fault_next();
    if (rc < 0)
        return rc;
    if (fault.allocate)
        return fault.allocate;
    if (fault.grow_and_fail) {
        vfs_posix.allocate(fd, offset, len / 2);
        return fault.grow_and_fail;
    }
    return vfs_posix.allocate(fd, offset, len);
}

static int faulty_sync(vfs_fd fd)
{
    int rc = fault_next();
    return rc < 0 ? rc : vfs_posix.sync_data(fd);
}

static int faulty_sync_dir(const char *path)
{
    return fault.sync_dir ? fault.sync_dir : vfs_posix.sync_dir(path);
}

static int faulty_give_name(const char *from, const char *to)
{
    if (fault.interrupt > 0 && fault.interrupt--)
        return -EINTR;
    return fault.give_name ? fault.give_name : vfs_posix.give_name(from, to);
}

static int faulty_replace_name(const char *from, const char *to)
{
    return fault.replace_name ? fault.replace_name : vfs_posix.replace_name(from, to);
}

static struct vfs faulty;

static void use_faults(void)
{
    memset(&fault, 0, sizeof fault);
    fault.fail_after = -1;
    faulty = vfs_posix;
    faulty.open_file = faulty_open;
    faulty.read_at = faulty_read;
    faulty.write_at = faulty_write;
    faulty.write_parts = faulty_write_parts;
    faulty.set_size = faulty_set_size;
    faulty.allocate = faulty_allocate;
    faulty.sync_data = faulty_sync;
    faulty.sync_dir = faulty_sync_dir;
    faulty.give_name = faulty_give_name;
    faulty.replace_name = faulty_replace_name;
    syna_test_set_vfs(&faulty);
}

static void no_faults(void)
{
    syna_test_set_vfs(NULL);
}

static struct file new_file(const char *name)
{
    struct file f;
    CHECK_OK(file_open(&f, check_path(name), VFS_WRITE | VFS_CREATE));
    return f;
}

static uint64_t size_of(const struct file *f)
{
    struct vfs_stat st;
    CHECK_OK(file_stat(f, &st));
    return st.size;
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---------------------------------------------------------------- opening */

TEST(a_missing_file_is_an_io_error_and_a_missing_folder_a_bad_path)
{
    struct file f;
    CHECK_RC(file_open(&f, check_path("none.db"), VFS_READ), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOENT);
    CHECK_STR(syna_last_path(), check_path("none.db"));
    CHECK_EQ(f.fd, -1);
    CHECK_RC(file_open(&f, check_path("no/such.db"), VFS_READ), SYNA_ERR_INVALID_PATH);
    CHECK_RC(file_open(&f, check_path("no/such.db"), VFS_WRITE | VFS_CREATE), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_last_errno(), ENOENT);
    file_close(&f); /* harmless */
}

TEST(what_cannot_be_a_path_is_refused_as_one)
{
    struct file f, plain = new_file("plain");
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK_FAILS(file_open(&f, NULL, VFS_READ), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(file_open(&f, "", VFS_READ), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    CHECK_RC(file_open(&f, longest, VFS_READ), SYNA_ERR_INVALID_PATH);
    CHECK_RC(file_open(&f, check_path("plain/a.db"), VFS_READ), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(symlink("loop", check_path("loop")), 0);
    CHECK_RC(file_open(&f, check_path("loop"), VFS_READ), SYNA_ERR_INVALID_PATH);
    file_close(&plain);
}

TEST(a_directory_is_refused_with_eisdir_for_reading_too)
{
    struct file f;
    CHECK_RC(file_open(&f, check_path(""), VFS_READ), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EISDIR);
    CHECK_RC(file_open(&f, check_path(""), VFS_WRITE), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EISDIR);
}

TEST(a_pipe_or_a_device_is_refused_without_waiting)
{
    struct file f;
    CHECK_EQ(mkfifo(check_path("pipe"), 0600), 0);
    CHECK_RC(file_open(&f, check_path("pipe"), VFS_READ), SYNA_ERR_INVALID_PATH);
    CHECK_RC(file_open(&f, check_path("pipe"), VFS_WRITE), SYNA_ERR_INVALID_PATH);
    CHECK_RC(file_open(&f, "/dev/null", VFS_WRITE), SYNA_ERR_INVALID_PATH);
}

TEST(descriptors_do_not_leak_into_programs_that_we_start)
{
    struct file f = new_file("a");
    CHECK(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
    file_close(&f);
    CHECK_EQ(f.fd, -1);
    CHECK(f.path == NULL);
    file_close(&f);
}

TEST(exclusive_creation_finds_what_is_there)
{
    struct file a = new_file("a"), b;
    CHECK_RC(file_open(&b, check_path("a"), VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EEXIST);
    file_close(&a);
}

TEST(no_permission_is_told_as_such)
{
    if (geteuid() == 0) { /* root may all: drop to nobody for the attempt */
        struct file f = new_file("mine");
        file_close(&f);
        CHECK_EQ(chmod(check_path("mine"), 0600), 0);
        CHECK_EQ(seteuid(65534), 0);
        syna_rc rc = file_open(&f, check_path("mine"), VFS_READ);
        int system = syna_last_errno();
        CHECK_EQ(seteuid(0), 0);
        CHECK_EQ(rc, SYNA_ERR_IO);
        CHECK_EQ(system, EACCES);
        return;
    }
    struct file f = new_file("closed");
    file_close(&f);
    CHECK_EQ(chmod(check_path("closed"), 0), 0);
    CHECK_RC(file_open(&f, check_path("closed"), VFS_READ), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EACCES);
}

TEST(opening_and_naming_continue_after_an_interruption)
{
    const char *path = check_path("a.db");
    struct file f;
    bool exists;
    use_faults();
    fault.interrupt = 2;
    syna_rc made = file_create_temp(&f, path);
    fault.interrupt = 2;
    syna_rc named = file_publish(&f, path, false, &exists);
    fault.interrupt = 2;
    syna_rc grown = file_allocate(&f, 0, 10000);
    no_faults();
    CHECK_OK(made);
    CHECK_OK(named);
    CHECK_OK(grown);
    CHECK_EQ(size_of(&f), 10000);
    file_close(&f);
}

static int no_stat(vfs_fd fd, struct vfs_stat *out)
{
    (void)fd;
    (void)out;
    return -EIO;
}

TEST(P7_a_file_that_cannot_be_examined_or_resized_is_told_as_such)
{
    struct file f = new_file("a");
    struct vfs_stat st;
    use_faults();
    faulty.stat_fd = no_stat;
    syna_rc examined = file_stat(&f, &st), grown = file_allocate(&f, 0, 10);
    fault.fail_after = 0;
    fault.error = -EFBIG;
    syna_rc resized = file_truncate(&f, 77);
    no_faults();
    CHECK_EQ(examined, SYNA_ERR_IO);
    CHECK_EQ(grown, SYNA_ERR_IO);
    CHECK_EQ(resized, SYNA_ERR_IO);
    CHECK_EQ(syna_last_offset(), 77);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
    CHECK_EQ(size_of(&f), 0);
    file_close(&f);
}

static void in_the_folder(void *context)
{
    (void)context;
    struct file f;
    bool exists;
    CHECK_EQ(chdir(check_path("")), 0);
    CHECK_RC(file_open(&f, "none.db", VFS_READ), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOENT);
    CHECK_RC(file_open(&f, "/none.db", VFS_READ), SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOENT);
    CHECK_OK(file_create_temp(&f, "a.db"));
    CHECK_OK(file_publish(&f, "a.db", false, &exists));
    file_close(&f);
    char left[64];
    snprintf(left, sizeof left, "a.db.tmp-%d-4000000000", (int)getpid());
    CHECK_OK(file_open(&f, left, VFS_WRITE | VFS_CREATE));
    file_close(&f);
    file_sweep_temps("a.db");
    CHECK(!there(left) && there("a.db"));
}

TEST(names_without_a_folder_work_everywhere)
{
    check_path("");
    CHECK_EQ(check_child(in_the_folder, NULL), 0);
}

/* ---------------------------------------------------------------- transfers */

TEST(short_transfers_and_interruptions_are_continued)
{
    char bytes[1000], back[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)check_random();
    struct file f = new_file("a");
    use_faults();
    fault.most = 7;
    fault.interrupt = 3;
    syna_rc wrote = file_write_all(&f, 100, bytes, sizeof bytes);
    int writes = fault.calls;
    fault.calls = 0;
    fault.interrupt = 2;
    size_t got = 0;
    syna_rc read = file_read(&f, 100, back, sizeof back, &got);
    int reads = fault.calls;
    no_faults();
    CHECK_OK(wrote);
    CHECK_OK(read);
    CHECK_EQ(got, 1000);
    CHECK_EQ(writes, 143 + 3);
    CHECK_EQ(reads, 143 + 2);
    CHECK_MEM(back, bytes, sizeof bytes);
    CHECK_EQ(size_of(&f), 1100);
    file_close(&f);
}

TEST(a_failed_transfer_names_the_place)
{
    char bytes[100] = {0};
    struct file f = new_file("a");
    use_faults();
    fault.most = 30;
    fault.fail_after = 2;
    fault.error = -ENOSPC;
    syna_rc rc = file_write_all(&f, 1000, bytes, sizeof bytes);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
    CHECK_EQ(syna_last_offset(), 1060);
    CHECK_STR(syna_last_path(), f.path);

    use_faults();
    fault.fail_after = 0;
    fault.error = -EIO;
    size_t got = 99;
    rc = file_read(&f, 5, bytes, 10, &got);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_offset(), 5);
    CHECK_EQ(got, 0);
    file_close(&f);
}

TEST(parts_are_written_whole_whatever_a_write_takes_of_them)
{
    struct file f = new_file("a");
    for (size_t most = 0; most <= 12; most++) {
        struct vfs_part parts[] = {{"", 0}, {"abc", 3}, {"", 0}, {"defgh", 5}, {"i", 1}, {"", 0}};
        char back[9];
        use_faults();
        fault.most = most;
        fault.interrupt = (int)most % 3;
        syna_rc rc = file_write_parts(&f, most, parts, COUNT_OF(parts));
        no_faults();
        CHECK_OK(rc);
        CHECK_OK(file_read_exactly(&f, most, back, sizeof back));
        CHECK_MEM(back, "abcdefghi", sizeof back);
    }
    struct vfs_part none[] = {{"", 0}}, some[] = {{"abc", 3}, {"def", 3}};
    CHECK_OK(file_write_parts(&f, 0, none, 1));
    CHECK_OK(file_write_parts(&f, 0, NULL, 0));
    use_faults();
    fault.most = 4;
    fault.fail_after = 1;
    fault.error = -ENOSPC;
    syna_rc rc = file_write_parts(&f, 0, some, COUNT_OF(some));
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), ENOSPC);
    CHECK_EQ(syna_last_offset(), 4);
    file_close(&f);
}

static int64_t write_nothing(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    (void)fd;
    (void)buf;
    (void)len;
    (void)offset;
    return 0;
}

TEST(a_write_that_moves_nothing_is_an_error_not_a_loop)
{
    struct file f = new_file("a");
    use_faults();
    faulty.write_at = write_nothing;
    syna_rc rc = file_write_all(&f, 0, "x", 1);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_errno(), EIO);
    file_close(&f);
}

TEST(reading_stops_at_the_end_and_exactly_means_exactly)
{
    struct file f = new_file("a");
    char back[10];
    size_t got;
    CHECK_OK(file_write_all(&f, 0, "12345", 5));
    CHECK_OK(file_read(&f, 2, back, sizeof back, &got));
    CHECK_EQ(got, 3);
    CHECK_OK(file_read(&f, 50, back, sizeof back, &got));
    CHECK_EQ(got, 0);
    CHECK_OK(file_read_exactly(&f, 0, back, 5));
    CHECK_FAILS(file_read_exactly(&f, 1, back, 5), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(syna_last_offset(), 1);
    file_close(&f);
}

TEST(zeros_are_written_over_any_length)
{
    enum { LEN = (2 << 20) + 4321 };
    struct file f = new_file("a");
    uint8_t *bytes = malloc(LEN);
    memset(bytes, 0xaa, LEN);
    CHECK_OK(file_write_all(&f, 0, bytes, LEN));
    CHECK_OK(file_zero(&f, 10, LEN - 20));
    CHECK_OK(file_read_exactly(&f, 0, bytes, LEN));
    for (size_t i = 0; i < LEN; i++)
        if (bytes[i] != (i < 10 || i >= LEN - 10 ? 0xaa : 0))
            check_fail(__FILE__, __LINE__, "byte %zu is %02x", i, bytes[i]);
    CHECK_EQ(size_of(&f), LEN);
    free(bytes);
    file_close(&f);
}

/* ---------------------------------------------------------------- sync and size */

TEST(P8_a_sync_is_tried_once_even_when_interrupted)
{
    struct file f = new_file("a");
    use_faults();
    fault.interrupt = 1;
    syna_rc rc = file_sync(&f);
    int calls = fault.calls;
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_SYNC_FAILED);
    CHECK_EQ(calls, 1);
    CHECK_OK(file_sync(&f));
    file_close(&f);
}

TEST(truncation_continues_after_an_interruption)
{
    struct file f = new_file("a");
    use_faults();
    fault.interrupt = 2;
    syna_rc rc = file_truncate(&f, 12345);
    no_faults();
    CHECK_OK(rc);
    CHECK_EQ(size_of(&f), 12345);
    file_close(&f);
}

TEST(allocated_space_is_on_disk_and_reads_as_zeros)
{
    struct file f = new_file("a");
    CHECK_OK(file_write_all(&f, 0, "abc", 3));
    CHECK_OK(file_allocate(&f, 3, 100000));
    struct vfs_stat st;
    CHECK_OK(file_stat(&f, &st));
    CHECK_EQ(st.size, 100003);
    CHECK(st.allocated >= 100003);
    uint8_t back[100003];
    CHECK_OK(file_read_exactly(&f, 0, back, sizeof back));
    CHECK_MEM(back, "abc", 3);
    for (size_t i = 3; i < sizeof back; i++)
        CHECK_EQ(back[i], 0);
    file_close(&f);
}

TEST(where_the_file_system_cannot_allocate_zeros_are_written)
{
    const int cannot[] = {-EOPNOTSUPP, -ENOSYS};
    for (size_t i = 0; i < COUNT_OF(cannot); i++) {
        struct file f = new_file(i ? "b" : "a");
        use_faults();
        fault.allocate = cannot[i];
        syna_rc rc = file_allocate(&f, 0, (1u << 20) + 17);
        no_faults();
        CHECK_OK(rc);
        struct vfs_stat st;
        CHECK_OK(file_stat(&f, &st));
        CHECK_EQ(st.size, (1u << 20) + 17);
        CHECK(st.allocated >= st.size);
        file_close(&f);
    }
}

TEST(P7_a_failed_allocation_leaves_the_size_as_it_was)
{
    struct file f = new_file("a");
    CHECK_OK(file_write_all(&f, 0, "abc", 3));
    use_faults();
    fault.grow_and_fail = -ENOSPC; /* some file systems grow the file before they find out */
    syna_rc rc = file_allocate(&f, 3, 1u << 20);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
    CHECK_EQ(size_of(&f), 3);

    use_faults();
    fault.allocate = -EOPNOTSUPP;
    fault.fail_after = 2; /* allocate, the first piece of zeros, then no more */
    fault.error = -ENOSPC;
    rc = file_allocate(&f, 3, 3u << 20);
    fault.fail_after = -1;
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_SPACE);
    file_close(&f);
}

static void fill_to_the_limit(void *context)
{
    (void)context;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {100000, 100000};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct file f = new_file("a");
    CHECK_OK(file_write_all(&f, 0, "abc", 3));
    CHECK_FAILS(file_allocate(&f, 3, 200000), SYNA_ERR_IO, SYNA_WHY_NO_SPACE);
    CHECK_EQ(size_of(&f), 3);
    static char big[200000];
    CHECK_FAILS(file_write_all(&f, 3, big, sizeof big), SYNA_ERR_IO, SYNA_WHY_NO_SPACE);
    CHECK_EQ(syna_last_offset(), 100000);
    CHECK_OK(file_truncate(&f, 3));
    CHECK_OK(file_allocate(&f, 3, 50000));

    fault.allocate = 0;
    use_faults();
    fault.allocate = -EOPNOTSUPP;
    syna_rc rc = file_allocate(&f, 50003, 3u << 20);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(size_of(&f), 50003);
    file_close(&f);
}

TEST(P7_a_real_limit_of_the_file_size_is_clean)
{
    CHECK_EQ(check_child(fill_to_the_limit, NULL), 0);
}

/* ---------------------------------------------------------------- names */

TEST(a_temp_file_gets_its_name_by_link)
{
    const char *path = check_path("new.db");
    struct file f;
    CHECK_OK(file_create_temp(&f, path));
    char temp[600];
    snprintf(temp, sizeof temp, "%s", f.path);
    CHECK(strstr(temp, "/new.db.tmp-") != NULL);
    CHECK_OK(file_write_all(&f, 0, "abc", 3));
    CHECK_OK(file_sync(&f));
    bool exists = true;
    CHECK_OK(file_publish(&f, path, false, &exists));
    CHECK(!exists);
    CHECK_STR(f.path, path);
    CHECK(there(path) && !there(temp));
    CHECK_EQ(size_of(&f), 3);
    file_discard_temp(&f); /* closes; a published file is not removed */
    CHECK(there(path));
}

TEST(a_name_that_is_taken_stays_what_it_is)
{
    struct file first = new_file("a.db"), second;
    CHECK_OK(file_write_all(&first, 0, "first", 5));
    CHECK_OK(file_create_temp(&second, first.path));
    char temp[600];
    snprintf(temp, sizeof temp, "%s", second.path);
    bool exists = false;
    CHECK_OK(file_publish(&second, first.path, false, &exists));
    CHECK(exists);
    CHECK(!there(temp));
    CHECK_EQ(size_of(&first), 5);
    file_close(&second);
    file_close(&first);
}

TEST(a_replacement_takes_over_the_name_and_readers_keep_the_old_file)
{
    struct file old = new_file("a.db"), new;
    CHECK_OK(file_write_all(&old, 0, "old", 3));
    CHECK_OK(file_create_temp(&new, old.path));
    CHECK_OK(file_write_all(&new, 0, "newer", 5));
    CHECK_OK(file_publish(&new, old.path, true, NULL));
    CHECK_EQ(size_of(&old), 3);
    struct vfs_stat st;
    CHECK_EQ(vfs_posix.stat_path(old.path, &st), 0);
    CHECK_EQ(st.size, 5);
    file_close(&new);
    file_close(&old);
}

TEST(a_failure_to_name_removes_the_temp_file)
{
    const char *path = check_path("a.db");
    for (int replace = 0; replace < 2; replace++) {
        struct file f;
        CHECK_OK(file_create_temp(&f, path));
        char temp[600];
        snprintf(temp, sizeof temp, "%s", f.path);
        use_faults();
        fault.give_name = fault.replace_name = -EACCES;
        bool exists = true;
        syna_rc rc = file_publish(&f, path, replace, &exists);
        no_faults();
        CHECK_EQ(rc, SYNA_ERR_IO);
        CHECK_EQ(syna_last_errno(), EACCES);
        CHECK(!exists && !there(temp) && !there(path));
        CHECK(f.fd >= 0);
        file_close(&f);
    }
}

TEST(P8_a_failed_sync_of_the_directory_says_that_the_name_is_there)
{
    const char *path = check_path("a.db");
    struct file f;
    CHECK_OK(file_create_temp(&f, path));
    use_faults();
    fault.sync_dir = -EIO;
    bool exists;
    syna_rc rc = file_publish(&f, path, true, &exists);
    no_faults();
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_SYNC_FAILED);
    CHECK_STR(f.path, path);
    CHECK(there(path));
    file_discard_temp(&f);
    CHECK(there(path));
}

static bool count_name(void *context, const char *name)
{
    size_t *count = context;
    *count += name[0] != '.';
    return true;
}

static size_t names(void)
{
    size_t count = 0;
    CHECK_EQ(vfs_posix.list(check_path("x"), count_name, &count), 0);
    return count;
}

TEST(the_sweep_removes_what_the_dead_left_and_nothing_else)
{
    const char *path = check_path("a.db");
    struct file live;
    CHECK_OK(file_create_temp(&live, path));
    pid_t dead = fork(); /* a process id that is surely free: one that just ended */
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);

    char name[100];
    static const char *const kept[] = {"a.db", "b.db.tmp-1-1", "a.db.tmp-", "a.db.tmp-x-1",
                                       "a.db.tmp-12", "a.db.tmp-12-", "a.db.tmp-12-3x",
                                       "a.db.tmp--1-2", "a.db.tmp-99999999999-1", "a.db.tmp-0-1",
                                       "a.db.tmp-1-1" /* process 1 lives */};
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        struct file f = new_file(kept[i]);
        file_close(&f);
    }
    const size_t keep = COUNT_OF(kept) + 1;
    snprintf(name, sizeof name, "a.db.tmp-%d-7", (int)dead);
    struct file f = new_file(name);
    file_close(&f);
    snprintf(name, sizeof name, "a.db.tmp-%d-4000000000", (int)getpid());
    f = new_file(name); /* an earlier process with our id */
    file_close(&f);
    CHECK_EQ(names(), keep + 2);
    file_sweep_temps(path);
    CHECK_EQ(names(), keep);
    CHECK(there(live.path));
    file_discard_temp(&live);
    file_sweep_temps(path);
    CHECK_EQ(names(), keep - 1);
}

TEST(a_temp_name_left_by_an_earlier_process_with_our_id_is_passed_over)
{
    const char *path = check_path("a.db");
    struct file probe, temp;
    CHECK_OK(file_create_temp(&probe, path));
    unsigned number = 0;
    CHECK_EQ(sscanf(strrchr(probe.path, '-'), "-%u", &number), 1);
    char taken[600];
    snprintf(taken, sizeof taken, "a.db.tmp-%d-%u", (int)getpid(), number + 1);
    struct file left = new_file(taken);
    file_close(&left);
    CHECK_OK(file_create_temp(&temp, path));
    snprintf(taken, sizeof taken, "-%u", number + 2);
    CHECK_STR(strrchr(temp.path, '-'), taken);
    file_discard_temp(&temp);
    file_discard_temp(&probe);
}

TEST(too_many_temp_files_at_once_are_refused)
{
    enum { MOST = 256 };
    struct file f[MOST], one_more;
    for (size_t i = 0; i < MOST; i++)
        CHECK_OK(file_create_temp(&f[i], check_path("a.db")));
    CHECK_RC(file_create_temp(&one_more, f[0].path), SYNA_ERR_INTERNAL);
    for (size_t i = 0; i < MOST; i++)
        file_discard_temp(&f[i]);
    CHECK_OK(file_create_temp(&one_more, check_path("a.db")));
    file_discard_temp(&one_more);
}

/* ---------------------------------------------------------------- no memory */

static bool countdown(void *context, size_t bytes)
{
    (void)bytes;
    int *left = context;
    return (*left)-- != 0;
}

TEST(P7_every_refused_allocation_is_a_clean_failure)
{
    const char *path = check_path("a.db");
    for (int k = 0;; k++) {
        int left = k;
        struct file f;
        bool exists;
        syna_test_set_alloc(countdown, &left);
        syna_rc made = file_create_temp(&f, path);
        syna_rc named = made == SYNA_SUCCESS ? file_publish(&f, path, true, &exists) : made;
        syna_test_set_alloc(NULL, NULL);
        file_close(&f);
        check_note("allocation %d", k);
        if (left >= 0) {
            CHECK_OK(named);
            CHECK(k > 1);
            break;
        }
        CHECK_EQ(named, SYNA_ERR_INTERNAL);
        CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_MEMORY);
        CHECK_EQ(names(), 0);
    }
    int none = 0;
    syna_test_set_alloc(countdown, &none);
    file_sweep_temps(path); /* best effort: it must only not fail badly */
    syna_test_set_alloc(NULL, NULL);
}
