/* Whole operations on files over the table: loops for short transfers and EINTR, errors turned into
 * the error record, atomic creation and replacement. */
#ifndef SYNA_IO_FILE_H
#define SYNA_IO_FILE_H

#include "base/status.h"
#include "io/vfs.h"

struct file {
    vfs_fd fd;
    char *path; /* owned */
    uint32_t temp; /* a temp file: 1 + its slot in the list of this process's temp files; else 0 */
};

#define FILE_NONE {-1, NULL, 0}

/* flags: vfs_open_flags. A missing file is SYNA_ERR_IO with errno ENOENT; a directory EISDIR; a path
 * that cannot be one (null, empty, component missing, too long, not a regular file)
 * SYNA_ERR_INVALID_PATH. */
syna_rc file_open(struct file *f, const char *path, int flags);
void file_close(struct file *f); /* harmless when not open */

syna_rc file_write_all(const struct file *f, uint64_t offset, const void *bytes, size_t len);
/* The same for bytes that lie in up to VFS_PARTS_MAX places; `parts` is used up. One large write keeps
 * the page cache in large folios where several small ones would split them. */
syna_rc file_write_parts(const struct file *f, uint64_t offset, struct vfs_part *parts, size_t count);
/* Reads until len or the end of the file; *got says which. */
syna_rc file_read(const struct file *f, uint64_t offset, void *buf, size_t len, size_t *got);
/* An end before len is SYNA_ERR_SERIALIZATION. */
syna_rc file_read_exactly(const struct file *f, uint64_t offset, void *buf, size_t len);
/* A failure has reason SYNC_FAILED. */
syna_rc file_sync(const struct file *f);
syna_rc file_truncate(const struct file *f, uint64_t size);
syna_rc file_stat(const struct file *f, struct vfs_stat *out);
/* Make [offset, offset+len) exist on disk as zeros, growing the file. On failure the file has the
 * size that it had. offset is not below the present size. */
syna_rc file_allocate(const struct file *f, uint64_t offset, uint64_t len);
/* Write zeros over [offset, offset+len). */
syna_rc file_zero(const struct file *f, uint64_t offset, uint64_t len);

/* A new file `<path>.tmp-<pid>-<n>` beside `path`, open for writing. When there is a file at `path`, to
 * be replaced, the new one has its permissions and owner. */
syna_rc file_create_temp(struct file *f, const char *path);
/* The same for a file that holds what the one at `path` holds: nobody else may read it here. Before
 * anything is written; where it cannot be done, all stays as it is. */
void file_take_access(const struct file *f, const char *path);
/* Give a synced temp file its name, with the directory synced. replace: rename over what is there;
 * otherwise link, and *exists (may be NULL with replace) becomes true when the name is taken: success,
 * the temp file is removed, f stays open. On success f->path is `path`. On failure the temp file is
 * removed and f stays open; reason SYNC_FAILED means that the file has its name already, f->path
 * says so, and only the directory's sync failed. */
syna_rc file_publish(struct file *f, const char *path, bool replace, bool *exists);
/* Does `path` still lead to this file? Who swaps in a copy of an open file asks first: when somebody has
 * moved it away meanwhile, the copy would take the place of what is there now. */
syna_rc file_check_name(const char *path, uint64_t device, uint64_t inode);
/* Close, and remove the file if it is still a temp file. */
void file_discard_temp(struct file *f);
/* Remove temp files that dead processes left beside `path`, and this one, but for those it still has
 * open. Caller holds the writer lock of `path`. */
void file_sweep_temps(const char *path);

#endif
