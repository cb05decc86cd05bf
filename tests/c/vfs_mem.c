/* vfs_mem.c - the table over the file system in memory (mem_fs.c).
 *
 * Address space for maps comes from a pool of earlier reservations: a test that opens a database a
 * hundred thousand times would otherwise spend its time in mmap and page faults. */
#include "check.h"

#include "base/rng.h"
#include "vfs_mem_core.h"

enum { POOL = 32 };

static pthread_mutex_t mem_lock = PTHREAD_MUTEX_INITIALIZER;

/* A reservation: kept for the next one of its length. */
static struct reservation {
    uint8_t *at;
    size_t len;
    size_t dirty; /* bytes from `at` on that may not be zero */
    bool taken;
} pool[POOL];

/* ---------------------------------------------------------------- the table: descriptors */

#define LOCKED(type, name, arguments, call)                                                        \
    static type name arguments                                                                     \
    {                                                                                              \
        pthread_mutex_lock(&mem_lock);                                                             \
        type result = call;                                                                        \
        pthread_mutex_unlock(&mem_lock);                                                           \
        return result;                                                                             \
    }

static bool is_dir(const char *path)
{
    return strcmp(path, MEM_DIR) == 0 || strcmp(path, MEM_DIR "/") == 0;
}

static bool in_dir(const char *path)
{
    return strncmp(path, MEM_DIR "/", sizeof MEM_DIR) == 0 && !strchr(path + sizeof MEM_DIR, '/');
}

static struct mem_descriptor *descriptor(vfs_fd fd)
{
    return fd >= 0 && fd < DESCRIPTORS && mem_now->open[fd].file ? &mem_now->open[fd] : NULL;
}

static vfs_fd take_descriptor(uint64_t file, bool writable)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        if (!mem_now->open[fd].file) {
            mem_now->open[fd].file = file;
            mem_now->open[fd].writable = writable;
            return fd;
        }
    }
    return -EMFILE;
}

static vfs_fd do_open(const char *path, int flags)
{
    if (is_dir(path))
        return -EISDIR;
    uint64_t file = mem_fs_find(mem_now, path);
    if (file && (flags & VFS_CREATE) && (flags & VFS_EXCLUSIVE))
        return -EEXIST;
    if (!file && (!(flags & VFS_CREATE) || !in_dir(path)))
        return -ENOENT;
    if (!file) {
        file = mem_fs_create(mem_now, path);
        mem_now->changes++;
    }
    return take_descriptor(file, (flags & VFS_WRITE) != 0);
}
LOCKED(vfs_fd, mem_open, (const char *path, int flags), do_open(path, flags))

static int do_close(vfs_fd fd)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d)
        return -EBADF;
    struct mem_file *f = mem_file_at(mem_now, d->file);
    if (f->locked_by == fd)
        f->locked_by = -1;
    if (f->claimed_by == fd)
        f->claimed_by = -1;
    d->file = 0;
    return 0;
}
LOCKED(int, mem_close, (vfs_fd fd), do_close(fd))

static int64_t do_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d)
        return -EBADF;
    const struct mem_file *f = mem_file_at(mem_now, d->file);
    if (offset >= f->size)
        return 0;
    len = MIN(len, f->size - offset);
    memcpy(buf, f->bytes + offset, len);
    return (int64_t)len;
}
LOCKED(int64_t, mem_read, (vfs_fd fd, void *buf, size_t len, uint64_t offset),
       do_read(fd, buf, len, offset))

/* strict: pages of a map behind the end of its file fault, those before it do not. */
static void guard_map(const struct mem_map *m)
{
    const struct mem_file *f = mem_file_at(mem_now, m->file);
    uint64_t backed = (f->size + PAGE - 1) / PAGE * PAGE;
    size_t good = backed > m->offset ? (size_t)MIN((uint64_t)m->len, backed - m->offset) : 0;
    if (good)
        mprotect(m->at, good, PROT_READ | PROT_WRITE);
    if (good < m->len)
        mprotect(m->at + good, m->len - good, PROT_NONE);
}

static void guard_maps(uint64_t file)
{
    for (size_t i = 0; mem_now->strict && i < mem_now->map_count; i++)
        if (mem_now->maps[i].file == file)
            guard_map(&mem_now->maps[i]);
}

static int64_t do_write(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d || !d->writable)
        return -EBADF;
    if (!buf && len)
        return -EFAULT;
    uint64_t room = mem_room(mem_now, d->file, offset + len);
    if (room <= offset && len > 0)
        return -ENOSPC;
    len = (size_t)MIN((uint64_t)len, room - offset);
    uint64_t size = mem_file_at(mem_now, d->file)->size;
    mem_fs_write(mem_now, d->file, offset, buf, len);
    if (mem_file_at(mem_now, d->file)->size > size)
        guard_maps(d->file);
    mem_now->changes++;
    return (int64_t)len;
}
LOCKED(int64_t, mem_write, (vfs_fd fd, const void *buf, size_t len, uint64_t offset),
       do_write(fd, buf, len, offset))

/* Always a short write: the caller has to come back for each part. */
static int64_t mem_write_parts(vfs_fd fd, const struct vfs_part *parts, size_t count, uint64_t offset)
{
    return count == 0 ? 0 : mem_write(fd, parts->bytes, parts->len, offset);
}

static int do_set_size(vfs_fd fd, uint64_t size)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d || !d->writable)
        return -EBADF;
    if (mem_room(mem_now, d->file, size) < size)
        return -ENOSPC;
    mem_fs_resize(mem_now, d->file, size);
    guard_maps(d->file);
    mem_now->changes++;
    return 0;
}
LOCKED(int, mem_set_size, (vfs_fd fd, uint64_t size), do_set_size(fd, size))

static int do_allocate(vfs_fd fd, uint64_t offset, uint64_t len)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d || !d->writable)
        return -EBADF;
    uint64_t size = MAX((uint64_t)mem_file_at(mem_now, d->file)->size, offset + len);
    if (mem_room(mem_now, d->file, size) < size)
        return -ENOSPC;
    mem_fs_resize(mem_now, d->file, size);
    guard_maps(d->file);
    mem_now->changes++;
    return 0;
}
LOCKED(int, mem_allocate, (vfs_fd fd, uint64_t offset, uint64_t len), do_allocate(fd, offset, len))

static int mem_sync_data(vfs_fd fd)
{
    return descriptor(fd) ? 0 : -EBADF;
}

static int mem_sync_dir(const char *path)
{
    return in_dir(path) ? 0 : -ENOENT;
}

/* ---------------------------------------------------------------- the table: names */

static int do_replace(const char *from, const char *to)
{
    uint64_t file = mem_fs_find(mem_now, from);
    if (!file || !in_dir(to))
        return -ENOENT;
    mem_fs_set_name(mem_now, to, file);
    mem_fs_remove_name(mem_now, from);
    mem_now->changes++;
    return 0;
}
LOCKED(int, mem_replace, (const char *from, const char *to), do_replace(from, to))

static int do_give(const char *from, const char *to)
{
    uint64_t file = mem_fs_find(mem_now, from);
    if (!file || !in_dir(to))
        return -ENOENT;
    if (mem_fs_find(mem_now, to))
        return -EEXIST;
    mem_fs_set_name(mem_now, to, file);
    mem_now->changes++;
    return 0;
}
LOCKED(int, mem_give, (const char *from, const char *to), do_give(from, to))

static int do_remove(const char *path)
{
    if (!mem_fs_find(mem_now, path))
        return -ENOENT;
    mem_fs_remove_name(mem_now, path);
    mem_now->changes++;
    return 0;
}
LOCKED(int, mem_remove, (const char *path), do_remove(path))

static void fill_stat(uint64_t file, struct vfs_stat *out)
{
    memset(out, 0, sizeof *out);
    out->device = 1;
    out->inode = file;
    out->is_dir = file == 0;
    if (file)
        out->size = out->allocated = mem_file_at(mem_now, file)->size;
}

static int do_stat_fd(vfs_fd fd, struct vfs_stat *out)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d)
        return -EBADF;
    fill_stat(d->file, out);
    return 0;
}
LOCKED(int, mem_stat_fd, (vfs_fd fd, struct vfs_stat *out), do_stat_fd(fd, out))

static int do_stat_path(const char *path, struct vfs_stat *out)
{
    uint64_t file = mem_fs_find(mem_now, path);
    if (!file && !is_dir(path))
        return -ENOENT;
    fill_stat(file, out);
    return 0;
}
LOCKED(int, mem_stat_path, (const char *path, struct vfs_stat *out), do_stat_path(path, out))

/* Everybody may do everything here. */
static int mem_copy_access(const char *path, vfs_fd to)
{
    struct vfs_stat st;
    (void)to;
    return mem_stat_path(path, &st);
}

static vfs_fd mem_open_dir(const char *path)
{
    (void)path;
    return -EOPNOTSUPP;
}

static int mem_stat_in(vfs_fd dir, const char *path, struct vfs_stat *out)
{
    (void)dir;
    return mem_stat_path(path, out);
}

static int mem_list(const char *path, bool (*visit)(void *context, const char *name), void *context)
{
    char *names[NAMES];
    size_t count = 0;
    if (!in_dir(path))
        return -ENOENT;
    pthread_mutex_lock(&mem_lock); /* visit may remove files: give it copies, without the lock */
    for (size_t i = 0; i < mem_now->name_count; i++)
        names[count++] = mem_must(strdup(mem_now->names[i].path + sizeof MEM_DIR));
    pthread_mutex_unlock(&mem_lock);
    bool more = true;
    for (size_t i = 0; i < count; i++) {
        if (more)
            more = visit(context, names[i]);
        free(names[i]);
    }
    return 0;
}

static int do_realpath(const char *path, char *out, size_t cap)
{
    const char *full = is_dir(path) ? MEM_DIR : path;
    if (full == path && !mem_fs_find(mem_now, path))
        return -ENOENT;
    if (strlen(full) >= cap)
        return -ENAMETOOLONG;
    strcpy(out, full);
    return 0;
}
LOCKED(int, mem_realpath, (const char *path, char *out, size_t cap), do_realpath(path, out, cap))

/* ---------------------------------------------------------------- the table: locks, clock */

enum mem_lock_kind { THE_LOCK, THE_CLAIM };

static int *holder(vfs_fd fd, enum mem_lock_kind kind)
{
    struct mem_descriptor *d = descriptor(fd);
    struct mem_file *f = d ? mem_file_at(mem_now, d->file) : NULL;
    return !f ? NULL : kind == THE_LOCK ? &f->locked_by : &f->claimed_by;
}

static int do_lock(vfs_fd fd, enum mem_lock_kind kind)
{
    int *by = holder(fd, kind);
    if (!by)
        return -EBADF;
    if (*by >= 0 && *by != fd)
        return -EAGAIN;
    *by = fd;
    return 0;
}
LOCKED(int, mem_take_lock, (vfs_fd fd), do_lock(fd, THE_LOCK))
LOCKED(int, mem_claim, (vfs_fd fd), do_lock(fd, THE_CLAIM))

static int do_unlock(vfs_fd fd, enum mem_lock_kind kind)
{
    int *by = holder(fd, kind);
    if (!by)
        return -EBADF;
    if (*by == fd)
        *by = -1;
    return 0;
}
LOCKED(int, mem_unlock, (vfs_fd fd), do_unlock(fd, THE_LOCK))
LOCKED(int, mem_unclaim, (vfs_fd fd), do_unlock(fd, THE_CLAIM))

static uint64_t do_now(void)
{
    uint64_t us = mem_now->clock;
    mem_now->clock += mem_now->clock_step;
    return us;
}
LOCKED(uint64_t, mem_clock, (void), do_now())

/* Stands still, so that nothing is ever waited for and the clock of the stamps is nobody else's. */
static uint64_t mem_ticks(void)
{
    return 0;
}

static int do_random(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(rng_next(&mem_now->random) >> 32);
    return 0;
}
LOCKED(int, mem_random, (void *out, size_t len), do_random(out, len))

static int mem_pid(void)
{
    return mem_now->pid;
}

static bool mem_process_alive(int pid)
{
    return pid == mem_now->pid;
}

/* Waiting costs no time here, but it takes its time. */
static void mem_pause(uint32_t us)
{
    pthread_mutex_lock(&mem_lock);
    mem_now->clock += us;
    pthread_mutex_unlock(&mem_lock);
}

/* ---------------------------------------------------------------- the table: maps */

static struct reservation *pooled(const uint8_t *at)
{
    for (size_t i = 0; i < POOL; i++)
        if (pool[i].taken && at >= pool[i].at && at < pool[i].at + pool[i].len)
            return &pool[i];
    return NULL;
}

static void *reserve_address(size_t len, int protection)
{
    void *p = mmap(NULL, len, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void *do_reserve(size_t len)
{
    if (mem_now->strict)
        return reserve_address(len, PROT_NONE);
    struct reservation *free_slot = NULL;
    for (size_t i = 0; i < POOL; i++) {
        if (pool[i].at && !pool[i].taken && pool[i].len == len) {
            pool[i].taken = true;
            return pool[i].at;
        }
        if (!pool[i].at)
            free_slot = &pool[i];
    }
    void *p = reserve_address(len, PROT_READ | PROT_WRITE);
    if (p && free_slot)
        *free_slot = (struct reservation){.at = p, .len = len, .taken = true};
    return p;
}
LOCKED(void *, mem_reserve, (size_t len), do_reserve(len))

/* Did the core store through a shared map without saying so? */
static void check_noted(const struct mem_map *m)
{
    const struct mem_file *f = mem_file_at(mem_now, m->file);
    if (!m->shared || !m->writable || m->offset >= f->size)
        return;
    size_t len = MIN(m->len, f->size - m->offset);
    if (memcmp(m->at, f->bytes + m->offset, len) != 0)
        mem_fault(mem_now, "a store into [%llu, %llu) of file %llu was not announced by note_store",
                  (unsigned long long)m->offset, (unsigned long long)(m->offset + len),
                  (unsigned long long)m->file);
}

static void add_map(struct mem_map m)
{
    if (m.len == 0)
        return;
    if (mem_now->map_count == MAPS)
        mem_must(NULL);
    mem_now->maps[mem_now->map_count++] = m;
}

/* Take [at, at+len) out of all maps; what sticks out on either side stays mapped. */
static void forget_maps(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < mem_now->map_count;) {
        struct mem_map m = mem_now->maps[i];
        if (m.at + m.len <= at || at + len <= m.at) {
            i++;
            continue;
        }
        check_noted(&m);
        mem_now->maps[i] = mem_now->maps[--mem_now->map_count];
        struct mem_map head = m, tail = m;
        head.len = m.at < at ? (size_t)(at - m.at) : 0;
        size_t skip = m.at + m.len > at + len ? (size_t)(at + len - m.at) : m.len;
        tail.at += skip;
        tail.offset += skip;
        tail.len -= skip;
        add_map(head);
        add_map(tail);
    }
}

/* Bytes behind the file's end are zeros up to the page's end, and further there is nothing. */
static void fill_map(uint8_t *at, const struct mem_file *f, uint64_t offset, size_t len)
{
    size_t have = offset < f->used ? (size_t)MIN((uint64_t)len, f->used - offset) : 0;
    struct reservation *r = pooled(at);
    size_t start = r ? (size_t)(at - r->at) : 0;
    size_t stale = r && r->dirty > start ? MIN(r->dirty - start, len) : 0;
    if (have)
        memcpy(at, f->bytes + offset, have);
    if (stale > have)
        memset(at + have, 0, stale - have);
    if (r)
        r->dirty = MAX(r->dirty, start + len);
}

static int do_map(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared)
{
    struct mem_descriptor *d = descriptor(fd);
    if (!d)
        return -EBADF;
    if (writable && shared && !d->writable)
        return -EACCES;
    if ((uintptr_t)at % PAGE || offset % PAGE || len == 0)
        return -EINVAL;
    const struct mem_file *f = mem_file_at(mem_now, d->file);
    if (mem_now->strict && mprotect(at, len, PROT_READ | PROT_WRITE) != 0)
        return -errno;
    forget_maps(at, len);
    fill_map(at, f, offset, len);
    add_map((struct mem_map){at, len, d->file, offset, writable, shared});
    if (mem_now->strict)
        guard_map(&mem_now->maps[mem_now->map_count - 1]);
    return 0;
}
LOCKED(int, mem_map_at,
       (void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared),
       do_map(at, fd, offset, len, writable, shared))

static int do_unmap(void *at, size_t len)
{
    forget_maps(at, len);
    struct reservation *r = pooled(at);
    if (!r)
        return munmap(at, len) == 0 ? 0 : -errno;
    if (r->at == at && r->len == len)
        r->taken = false;
    return 0;
}
LOCKED(int, mem_unmap, (void *at, size_t len), do_unmap(at, len))

static void mem_advise(void *at, size_t len, enum vfs_advice advice)
{
    (void)at;
    (void)len;
    (void)advice;
}

static void mem_note_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    pthread_mutex_lock(&mem_lock);
    struct mem_descriptor *d = descriptor(fd);
    if (!d || !d->writable)
        mem_fault(mem_now, "note_store on a descriptor that cannot be written");
    else if (offset + len > mem_file_at(mem_now, d->file)->size)
        mem_fault(mem_now, "a store behind the end of file %llu: [%llu, %llu)",
                  (unsigned long long)d->file, (unsigned long long)offset,
                  (unsigned long long)(offset + len));
    else
        mem_fs_write(mem_now, d->file, offset, bytes, len);
    mem_now->changes++;
    pthread_mutex_unlock(&mem_lock);
}

const struct vfs vfs_mem = {
    .name = "mem",
    .open_file = mem_open,
    .close_file = mem_close,
    .read_at = mem_read,
    .write_at = mem_write,
    .write_parts = mem_write_parts,
    .set_size = mem_set_size,
    .allocate = mem_allocate,
    .sync_data = mem_sync_data,
    .sync_dir = mem_sync_dir,
    .replace_name = mem_replace,
    .give_name = mem_give,
    .remove_name = mem_remove,
    .stat_fd = mem_stat_fd,
    .stat_path = mem_stat_path,
    .copy_access = mem_copy_access,
    .open_dir = mem_open_dir,
    .stat_in = mem_stat_in,
    .lock = mem_take_lock,
    .unlock = mem_unlock,
    .claim = mem_claim,
    .unclaim = mem_unclaim,
    .reserve = mem_reserve,
    .map = mem_map_at,
    .unmap = mem_unmap,
    .advise = mem_advise,
    .note_store = mem_note_store,
    .list = mem_list,
    .realpath = mem_realpath,
    .now_us = mem_clock,
    .ticks_us = mem_ticks,
    .random = mem_random,
    .pid = mem_pid,
    .process_alive = mem_process_alive,
    .pause_us = mem_pause,
};
