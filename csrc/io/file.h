/* Whole operations on files over the table: loops for short transfers and EINTR, errors turned into
 * the error record, atomic creation and replacement. */
#ifndef SYNA_IO_FILE_H
#define SYNA_IO_FILE_H

#include "base/status.h"
#include "io/vfs.h"

struct file {
    vfs_fd fd;
    char *path; /* owned */
};

#define FILE_NONE {-1, NULL}

/* flags: vfs_open_flags. A missing file is SYNA_ERR_IO with errno ENOENT; a directory EISDIR; a path
 * that cannot be one (empty, component missing, too long) SYNA_ERR_INVALID_PATH. */
syna_rc file_open(struct file *f, const char *path, int flags);
void file_close(struct file *f); /* harmless when not open */

syna_rc file_write_all(const struct file *f, uint64_t offset, const void *bytes, size_t len);
/* Reads until len or the end of the file; *got says which. */
syna_rc file_read(const struct file *f, uint64_t offset, void *buf, size_t len, size_t *got);
/* An end before len is SYNA_ERR_SERIALIZATION. */
syna_rc file_read_exactly(const struct file *f, uint64_t offset, void *buf, size_t len);
syna_rc file_sync(const struct file *f);
syna_rc file_truncate(const struct file *f, uint64_t size);
syna_rc file_stat(const struct file *f, struct vfs_stat *out);
/* Make [offset, offset+len) exist on disk as zeros, growing the file. */
syna_rc file_allocate(const struct file *f, uint64_t offset, uint64_t len);
/* Write zeros over [offset, offset+len). */
syna_rc file_zero(const struct file *f, uint64_t offset, uint64_t len);

/* A new file `<path>.tmp-<pid>-<n>` beside `path`, open for writing. */
syna_rc file_create_temp(struct file *f, const char *path);
/* Give a synced temp file its name, with the directory synced. replace: rename over what is there;
 * otherwise link, and *exists becomes true (success, nothing done) when the name is taken. On
 * success f->path is `path`. On failure the temp file is removed; f stays open. */
syna_rc file_publish(struct file *f, const char *path, bool replace, bool *exists);
/* Close and remove a temp file. */
void file_discard_temp(struct file *f);
/* Remove temp files of dead processes (and of `own_too` this one) left beside `path`. */
void file_sweep_temps(const char *path);

#endif
