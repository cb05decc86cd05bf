/* vfs_fault.c - the failing table and the failing allocator. */
#include "check.h"

#include "vfs_fault.h"

static const struct vfs *below = &vfs_posix;
static struct fault armed;
static int64_t numbered, fired, counts[FAULT_CALLS]; /* atomic */
static int first_call;
static bool half_done;

static const char *const call_names[FAULT_CALLS] = {
    "open",   "read", "write", "set_size", "allocate", "sync", "sync_dir", "replace", "give",
    "remove", "stat", "lock",  "reserve",  "map",      "list", "realpath", "random",
};

const char *fault_call_name(enum fault_call call)
{
    return call_names[call];
}

void fault_begin(const struct vfs *table)
{
    below = table;
    fault_arm(NULL);
}

void fault_arm(const struct fault *fault)
{
    memset(&armed, 0, sizeof armed);
    __atomic_store_n(&numbered, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&fired, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < FAULT_CALLS; i++)
        __atomic_store_n(&counts[i], 0, __ATOMIC_RELAXED);
    half_done = false;
    if (fault)
        armed = *fault;
}

int64_t fault_fired(void)
{
    return __atomic_load_n(&fired, __ATOMIC_RELAXED);
}

enum fault_call fault_first(void)
{
    return (enum fault_call)first_call;
}

int64_t fault_count(enum fault_call call)
{
    return __atomic_load_n(&counts[call], __ATOMIC_RELAXED);
}

int64_t fault_count_all(void)
{
    int64_t sum = 0;
    for (int i = 0; i < FAULT_CALLS; i++)
        sum += fault_count((enum fault_call)i);
    return sum;
}

/* 0: pass the call on. Otherwise it fails with this negated errno. */
static int hit(enum fault_call call)
{
    __atomic_fetch_add(&counts[call], 1, __ATOMIC_RELAXED);
    if (armed.at == 0 || (armed.only && !(armed.only & 1u << call)))
        return 0;
    int64_t number = __atomic_add_fetch(&numbered, 1, __ATOMIC_RELAXED);
    if (number < armed.at || (number > armed.at && !armed.forever))
        return 0;
    if (__atomic_fetch_add(&fired, 1, __ATOMIC_RELAXED) == 0)
        first_call = (int)call;
    return -armed.system;
}

#define FAIL_IF_HIT(call)                                                                          \
    do {                                                                                           \
        int hit_ = hit(call);                                                                      \
        if (hit_)                                                                                  \
            return hit_;                                                                           \
    } while (0)

static vfs_fd fault_open(const char *path, int flags)
{
    FAIL_IF_HIT(FAULT_OPEN);
    return below->open_file(path, flags);
}

static int fault_close(vfs_fd fd)
{
    return below->close_file(fd);
}

/* Should the failing transfer do a part first? Then the rest is refused by the next call. */
static bool shorten(int rc, size_t len)
{
    if (!rc || !armed.short_io || half_done || len < 2)
        return false;
    half_done = true;
    if (!armed.forever)
        armed.at++;
    return true;
}

static int64_t fault_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    int rc = hit(FAULT_READ);
    if (shorten(rc, len))
        return below->read_at(fd, buf, len / 2, offset);
    return rc ? rc : below->read_at(fd, buf, len, offset);
}

static int64_t fault_write(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    int rc = hit(FAULT_WRITE);
    if (shorten(rc, len))
        return below->write_at(fd, buf, len / 2, offset);
    return rc ? rc : below->write_at(fd, buf, len, offset);
}

/* Always a short write: the caller has to come back for each part. */
static int64_t fault_write_parts(vfs_fd fd, const struct vfs_part *parts, size_t count, uint64_t offset)
{
    return count == 0 ? 0 : fault_write(fd, parts->bytes, parts->len, offset);
}

static int fault_set_size(vfs_fd fd, uint64_t size)
{
    FAIL_IF_HIT(FAULT_SET_SIZE);
    return below->set_size(fd, size);
}

static int fault_allocate(vfs_fd fd, uint64_t offset, uint64_t len)
{
    FAIL_IF_HIT(FAULT_ALLOCATE);
    return below->allocate(fd, offset, len);
}

static int fault_sync(vfs_fd fd)
{
    FAIL_IF_HIT(FAULT_SYNC);
    return below->sync_data(fd);
}

static int fault_sync_dir(const char *path)
{
    FAIL_IF_HIT(FAULT_SYNC_DIR);
    return below->sync_dir(path);
}

static int fault_replace(const char *from, const char *to)
{
    FAIL_IF_HIT(FAULT_REPLACE);
    return below->replace_name(from, to);
}

static int fault_give(const char *from, const char *to)
{
    FAIL_IF_HIT(FAULT_GIVE);
    return below->give_name(from, to);
}

static int fault_remove(const char *path)
{
    FAIL_IF_HIT(FAULT_REMOVE);
    return below->remove_name(path);
}

static int fault_stat_fd(vfs_fd fd, struct vfs_stat *out)
{
    FAIL_IF_HIT(FAULT_STAT);
    return below->stat_fd(fd, out);
}

static int fault_stat_path(const char *path, struct vfs_stat *out)
{
    FAIL_IF_HIT(FAULT_STAT);
    return below->stat_path(path, out);
}

/* Not one of the calls that fail: what it cannot do is no error (file_take_access). */
static int fault_copy_access(const char *path, vfs_fd to)
{
    return below->copy_access(path, to);
}

/* Not one of the calls that fail: nobody depends on it (test_lock). */
static vfs_fd fault_open_dir(const char *path)
{
    return below->open_dir(path);
}

static int fault_stat_in(vfs_fd dir, const char *path, struct vfs_stat *out)
{
    FAIL_IF_HIT(FAULT_STAT);
    return below->stat_in(dir, path, out);
}

static int fault_take_lock(vfs_fd fd)
{
    FAIL_IF_HIT(FAULT_LOCK);
    return below->lock(fd);
}

static int fault_unlock(vfs_fd fd)
{
    return below->unlock(fd);
}

static int fault_claim(vfs_fd fd)
{
    FAIL_IF_HIT(FAULT_LOCK);
    return below->claim(fd);
}

static int fault_unclaim(vfs_fd fd)
{
    return below->unclaim(fd);
}

static void *fault_reserve(size_t len)
{
    return hit(FAULT_RESERVE) ? NULL : below->reserve(len);
}

static int fault_map(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared)
{
    FAIL_IF_HIT(FAULT_MAP);
    return below->map(at, fd, offset, len, writable, shared);
}

static int fault_unmap(void *at, size_t len)
{
    return below->unmap(at, len);
}

static void fault_advise(void *at, size_t len, enum vfs_advice advice)
{
    below->advise(at, len, advice);
}

static void fault_note_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    below->note_store(fd, offset, bytes, len);
}

static int fault_list(const char *path, bool (*visit)(void *context, const char *name),
                      void *context)
{
    FAIL_IF_HIT(FAULT_LIST);
    return below->list(path, visit, context);
}

static int fault_realpath(const char *path, char *out, size_t cap)
{
    FAIL_IF_HIT(FAULT_REALPATH);
    return below->realpath(path, out, cap);
}

static uint64_t fault_now(void)
{
    return below->now_us();
}

static uint64_t fault_ticks(void)
{
    return below->ticks_us();
}

static int fault_random(void *out, size_t len)
{
    FAIL_IF_HIT(FAULT_RANDOM);
    return below->random(out, len);
}

static int fault_pid(void)
{
    return below->pid();
}

static bool fault_process_alive(int pid)
{
    return below->process_alive(pid);
}

static void fault_pause(uint32_t us)
{
    below->pause_us(us);
}

const struct vfs vfs_fault = {
    .name = "fault",
    .open_file = fault_open,
    .close_file = fault_close,
    .read_at = fault_read,
    .write_at = fault_write,
    .write_parts = fault_write_parts,
    .set_size = fault_set_size,
    .allocate = fault_allocate,
    .sync_data = fault_sync,
    .sync_dir = fault_sync_dir,
    .replace_name = fault_replace,
    .give_name = fault_give,
    .remove_name = fault_remove,
    .stat_fd = fault_stat_fd,
    .stat_path = fault_stat_path,
    .copy_access = fault_copy_access,
    .open_dir = fault_open_dir,
    .stat_in = fault_stat_in,
    .lock = fault_take_lock,
    .unlock = fault_unlock,
    .claim = fault_claim,
    .unclaim = fault_unclaim,
    .reserve = fault_reserve,
    .map = fault_map,
    .unmap = fault_unmap,
    .advise = fault_advise,
    .note_store = fault_note_store,
    .list = fault_list,
    .realpath = fault_realpath,
    .now_us = fault_now,
    .ticks_us = fault_ticks,
    .random = fault_random,
    .pid = fault_pid,
    .process_alive = fault_process_alive,
    .pause_us = fault_pause,
};

/* ---------------------------------------------------------------- memory */

static int64_t alloc_at, alloc_numbered, alloc_fired;
static bool alloc_forever;

static bool alloc_hook(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    int64_t number = __atomic_add_fetch(&alloc_numbered, 1, __ATOMIC_RELAXED);
    if (alloc_at == 0 || number < alloc_at || (number > alloc_at && !alloc_forever))
        return true;
    __atomic_fetch_add(&alloc_fired, 1, __ATOMIC_RELAXED);
    return false;
}

void fault_alloc(int64_t at, bool forever)
{
    syna_test_set_alloc(NULL, NULL);
    alloc_at = at;
    alloc_forever = forever;
    alloc_numbered = alloc_fired = 0;
    if (at)
        syna_test_set_alloc(alloc_hook, NULL);
}

int64_t fault_alloc_fired(void)
{
    return __atomic_load_n(&alloc_fired, __ATOMIC_RELAXED);
}

int64_t fault_alloc_count(void)
{
    return __atomic_load_n(&alloc_numbered, __ATOMIC_RELAXED);
}
