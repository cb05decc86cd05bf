/* Whole operations over the table: what to loop on, what an errno means, and how a file gets its name.
 *
 *   1. EINTR and short transfers are repeated here and nowhere else. A sync is never repeated: after
 *      a failure the kernel may have dropped the pages and would report success.
 *   2. A temp file is in the list of this process's temp files from before it exists until after it
 *      is gone, so that a sweep tells what another thread is just writing from what an earlier
 *      process with our id left behind.
 *   3. A file gets its name by link or rename after its caller synced it, and the directory is
 *      synced before that is called done. */
#include "base/internal.h"

#include "base/mem.h"
#include "base/vec.h"
#include "io/file.h"

/* Zeros to write from. Never written; not const, so that it takes no space in the library's file. */
static uint8_t zeros[1u << 20];

static syna_rc fail(const struct file *f, uint64_t offset, int rc, const char *what)
{
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, f->path, (int64_t)offset, -rc, "%s", what);
}

/* ---------------------------------------------------------------- open, close */

static bool directory_missing(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return false;
    char *directory = mem_dup(path, (size_t)(slash - path));
    struct vfs_stat st;
    bool missing = directory && syna_vfs->stat_path(directory, &st) == -ENOENT;
    mem_free(directory);
    return missing;
}

static syna_rc fail_open(const char *path, int flags, int rc)
{
    bool unusable = rc == -ENOTDIR || rc == -ENAMETOOLONG || rc == -ELOOP || rc == -ESPIPE ||
                    (rc == -ENOENT && ((flags & VFS_CREATE) || directory_missing(path)));
    return syna_fail_at(unusable ? SYNA_ERR_INVALID_PATH : SYNA_ERR_IO, SYNA_WHY_NONE, path, -1,
                        rc == -ESPIPE ? 0 : -rc, "%s",
                        rc == -ESPIPE ? "neither a file nor a directory" : "cannot be opened");
}

syna_rc file_open(struct file *f, const char *path, int flags)
{
    *f = (struct file)FILE_NONE;
    if (!path || !path[0])
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the path is %s",
                         path ? "empty" : "a null pointer");
    char *copy = mem_dup(path, strlen(path));
    if (!copy)
        return syna_no_memory(strlen(path) + 1);
    vfs_fd fd;
    do
        fd = syna_vfs->open_file(path, flags);
    while (fd == -EINTR);
    if (fd < 0) {
        mem_free(copy);
        return fail_open(path, flags, fd);
    }
    f->fd = fd;
    f->path = copy;
    return SYNA_SUCCESS;
}

static void temp_forget(struct file *f);

void file_close(struct file *f)
{
    if (f->fd >= 0)
        syna_vfs->close_file(f->fd); /* not repeated on EINTR: the descriptor is gone */
    temp_forget(f);
    mem_free(f->path);
    *f = (struct file)FILE_NONE;
}

/* ---------------------------------------------------------------- transfers */

syna_rc file_write_all(const struct file *f, uint64_t offset, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    while (len > 0) {
        int64_t put = syna_vfs->write_at(f->fd, p, len, offset);
        if (put == -EINTR)
            continue;
        if (put <= 0)
            return fail(f, offset, put < 0 ? (int)put : -EIO, "write failed");
        p += put;
        offset += (uint64_t)put;
        len -= (size_t)put;
    }
    return SYNA_SUCCESS;
}

syna_rc file_read(const struct file *f, uint64_t offset, void *buf, size_t len, size_t *got)
{
    uint8_t *p = buf;
    *got = 0;
    while (*got < len) {
        int64_t n = syna_vfs->read_at(f->fd, p + *got, len - *got, offset + *got);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return fail(f, offset + *got, (int)n, "read failed");
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return SYNA_SUCCESS;
}

syna_rc file_read_exactly(const struct file *f, uint64_t offset, void *buf, size_t len)
{
    size_t got;
    SYNA_TRY(file_read(f, offset, buf, len, &got));
    if (got < len)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, f->path, (int64_t)offset, 0,
                            "the file ends after %zu bytes, expected %zu", got, len);
    return SYNA_SUCCESS;
}

syna_rc file_zero(const struct file *f, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        size_t piece = (size_t)MIN(len, (uint64_t)sizeof zeros);
        SYNA_TRY(file_write_all(f, offset, zeros, piece));
        offset += piece;
        len -= piece;
    }
    return SYNA_SUCCESS;
}

/* Step over `done` bytes, and over parts without any. */
static void skip_written(struct vfs_part **parts, size_t *count, size_t done)
{
    while (*count > 0 && done >= (*parts)->len) {
        done -= (*parts)->len;
        ++*parts;
        --*count;
    }
    if (*count > 0) {
        (*parts)->bytes = (const uint8_t *)(*parts)->bytes + done;
        (*parts)->len -= done;
    }
}

syna_rc file_write_parts(const struct file *f, uint64_t offset, struct vfs_part *parts, size_t count)
{
    skip_written(&parts, &count, 0);
    while (count > 0) {
        int64_t put = syna_vfs->write_parts(f->fd, parts, count, offset);
        if (put == -EINTR)
            continue;
        if (put <= 0)
            return fail(f, offset, put < 0 ? (int)put : -EIO, "write failed");
        offset += (uint64_t)put;
        skip_written(&parts, &count, (size_t)put);
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- size and sync */

syna_rc file_sync(const struct file *f)
{
    int rc = syna_vfs->sync_data(f->fd);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, f->path, -1, -rc, "sync failed");
    return SYNA_SUCCESS;
}

syna_rc file_truncate(const struct file *f, uint64_t size)
{
    int rc;
    do
        rc = syna_vfs->set_size(f->fd, size);
    while (rc == -EINTR);
    return rc < 0 ? fail(f, size, rc, "cannot be given this size") : SYNA_SUCCESS;
}

syna_rc file_stat(const struct file *f, struct vfs_stat *out)
{
    int rc = syna_vfs->stat_fd(f->fd, out);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, f->path, -1, -rc, "cannot be examined");
    return SYNA_SUCCESS;
}

/* After a failed allocate: a part of it may have grown the file. Keeps the error record. */
static void restore_size(const struct file *f, uint64_t size)
{
    struct vfs_stat now;
    if (syna_vfs->stat_fd(f->fd, &now) == 0 && now.size == size)
        return;
    int rc;
    do
        rc = syna_vfs->set_size(f->fd, size);
    while (rc == -EINTR);
}

syna_rc file_allocate(const struct file *f, uint64_t offset, uint64_t len)
{
    struct vfs_stat before;
    SYNA_TRY(file_stat(f, &before));
    int rc;
    do
        rc = syna_vfs->allocate(f->fd, offset, len);
    while (rc == -EINTR);
    syna_rc result = SYNA_SUCCESS;
    if (rc == -EOPNOTSUPP || rc == -ENOSYS)
        result = file_zero(f, offset, len);
    else if (rc < 0)
        result = syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, f->path, (int64_t)offset, -rc,
                              "no room for %llu more bytes", (unsigned long long)len);
    if (result != SYNA_SUCCESS)
        restore_size(f, before.size);
    return result;
}

/* ---------------------------------------------------------------- temp files */

/* Numbers of the temp files that this process has now; 0 = free. Atomics instead of a lock, so that a
 * forked child finds no lock that a thread of its parent held. */
static uint32_t live_temps[256];
static uint32_t last_temp;

static uint32_t temp_register(uint32_t number)
{
    for (uint32_t i = 0; i < COUNT_OF(live_temps); i++) {
        uint32_t none = 0;
        if (__atomic_compare_exchange_n(&live_temps[i], &none, number, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return i + 1;
    }
    return 0;
}

static void temp_forget(struct file *f)
{
    if (f->temp)
        __atomic_store_n(&live_temps[f->temp - 1], 0, __ATOMIC_RELEASE);
    f->temp = 0;
}

static bool temp_is_live(uint64_t number)
{
    for (uint32_t i = 0; i < COUNT_OF(live_temps); i++)
        if (__atomic_load_n(&live_temps[i], __ATOMIC_ACQUIRE) == number)
            return true;
    return false;
}

#define TEMP_MARK ".tmp-"

syna_rc file_create_temp(struct file *f, const char *path)
{
    *f = (struct file)FILE_NONE;
    size_t room = strlen(path) + sizeof TEMP_MARK + 24; /* two 32-bit numbers and a dash */
    char *name = mem_alloc(room);
    if (!name)
        return syna_no_memory(room);
    syna_rc rc;
    do {
        uint32_t number = __atomic_add_fetch(&last_temp, 1, __ATOMIC_RELAXED);
        uint32_t slot = number ? temp_register(number) : 0;
        if (number && !slot) {
            rc = syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, "%zu temp files are in use at once",
                           COUNT_OF(live_temps));
            break;
        }
        snprintf(name, room, "%s" TEMP_MARK "%d-%u", path, syna_vfs->pid(), number);
        rc = file_open(f, name, VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE);
        f->temp = slot;
        if (rc != SYNA_SUCCESS)
            temp_forget(f);
        /* A name that is taken was left by an earlier process with our id. */
    } while (rc != SYNA_SUCCESS && status_get()->system == EEXIST);
    mem_free(name);
    if (rc == SYNA_SUCCESS)
        file_take_access(f, path);
    return rc;
}

syna_rc file_check_name(const char *path, uint64_t device, uint64_t inode)
{
    struct vfs_stat st;
    int found = syna_vfs->stat_path(path, &st);
    if (found < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -found, "cannot be examined");
    if (st.device != device || st.inode != inode)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, 0,
                            "another file has this name now, and stays as it is: the one that is open "
                            "was moved or deleted");
    return SYNA_SUCCESS;
}

void file_take_access(const struct file *f, const char *path)
{
    syna_vfs->copy_access(path, f->fd);
}

/* Remove the name of a temp file; the record of an error that led here stays. */
static void temp_remove(struct file *f)
{
    syna_vfs->remove_name(f->path);
    temp_forget(f);
}

/* Under its name, whether or not the directory could be synced. */
static syna_rc published(struct file *f, char *name)
{
    temp_forget(f);
    mem_free(f->path);
    f->path = name;
    int rc = syna_vfs->sync_dir(name);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED, name, -1, -rc,
                            "the directory's sync failed");
    return SYNA_SUCCESS;
}

syna_rc file_publish(struct file *f, const char *path, bool replace, bool *exists)
{
    if (exists)
        *exists = false;
    char *name = mem_dup(path, strlen(path));
    if (!name) {
        temp_remove(f);
        return syna_no_memory(strlen(path) + 1);
    }
    int rc;
    do
        rc = replace ? syna_vfs->replace_name(f->path, path) : syna_vfs->give_name(f->path, path);
    while (rc == -EINTR);
    if (rc == 0) {
        if (!replace)
            syna_vfs->remove_name(f->path); /* the other name of the same file */
        return published(f, name);
    }
    mem_free(name);
    temp_remove(f);
    if (rc == -EEXIST && !replace) {
        *exists = true;
        return SYNA_SUCCESS;
    }
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, path, -1, -rc, "cannot be put in place");
}

void file_discard_temp(struct file *f)
{
    if (f->temp) /* no longer when it was published: then the name is not ours to remove */
        temp_remove(f);
    file_close(f);
}

/* ---------------------------------------------------------------- the sweep */

struct sweep {
    const char *name; /* of the file whose temps are looked for */
    size_t name_len;
    int pid;
    struct buf found; /* names, each with its NUL */
};

/* The digits at *text as a number; false when there are none or it does not fit. */
static bool take_number(const char **text, uint64_t limit, uint64_t *out)
{
    const char *p = *text;
    uint64_t v = 0;
    while (*p >= '0' && *p <= '9' && v <= limit)
        v = v * 10 + (uint64_t)(*p++ - '0');
    bool any = p > *text;
    *text = p;
    *out = v;
    return any && v <= limit;
}

static bool sweep_visit(void *context, const char *name)
{
    struct sweep *sweep = context;
    uint64_t pid, number;
    if (strncmp(name, sweep->name, sweep->name_len) != 0)
        return true;
    const char *rest = name + sweep->name_len;
    if (strncmp(rest, TEMP_MARK, sizeof TEMP_MARK - 1) != 0)
        return true;
    rest += sizeof TEMP_MARK - 1;
    if (!take_number(&rest, INT32_MAX, &pid) || pid == 0 || *rest++ != '-' ||
        !take_number(&rest, UINT32_MAX, &number) || *rest)
        return true;
    bool ours = (int)pid == sweep->pid;
    if (ours ? temp_is_live(number) : syna_vfs->process_alive((int)pid))
        return true;
    return buf_append(&sweep->found, name, strlen(name) + 1);
}

void file_sweep_temps(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    struct sweep sweep = {name, strlen(name), syna_vfs->pid(), {NULL, 0, 0}};
    syna_vfs->list(path, sweep_visit, &sweep);

    /* The directory is not changed while it is being listed. */
    size_t directory_len = (size_t)(name - path);
    for (size_t at = 0; at < sweep.found.len;) {
        const char *entry = (const char *)sweep.found.bytes + at;
        size_t entry_len = strlen(entry);
        char *full = mem_alloc(directory_len + entry_len + 1);
        if (!full)
            break;
        memcpy(full, path, directory_len);
        memcpy(full + directory_len, entry, entry_len + 1);
        syna_vfs->remove_name(full);
        mem_free(full);
        at += entry_len + 1;
    }
    buf_dispose(&sweep.found);
}
