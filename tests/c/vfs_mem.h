/* A file system in memory behind the table of io/vfs.h. It starts from any image (an empty one, or
 * what a crash left), has a clock, a random source and a process id that the test controls, and
 * watches how the core uses it: a shared map is private memory here, so a store that the core does
 * not announce with note_store never reaches the file, and is reported when the map goes
 * (mem_fs_faults).
 *
 * One mem_fs is in use at a time, process-wide. Calls are serialised by one lock. */
#ifndef SYNA_TESTS_VFS_MEM_H
#define SYNA_TESTS_VFS_MEM_H

#include "io/vfs.h"

extern const struct vfs vfs_mem;

struct mem_fs;

/* The one directory that always exists. */
#define MEM_DIR "/mem"

struct mem_fs *mem_fs_new(uint64_t seed);
void mem_fs_free(struct mem_fs *fs);

/* vfs_mem works on this one from now on (NULL: on none). */
void mem_fs_use(struct mem_fs *fs);

/* dst becomes src: names, bytes, clock, random state, pid. Nothing is open in dst. Cheap: buffers
 * are reused, trailing zeros are not copied. */
void mem_fs_copy(struct mem_fs *dst, const struct mem_fs *src);

/* now_us() returns `us`, then us + step, ... */
void mem_fs_set_clock(struct mem_fs *fs, uint64_t us, uint64_t step);
void mem_fs_set_pid(struct mem_fs *fs, int pid);
void mem_fs_set_seed(struct mem_fs *fs, uint64_t seed);

/* strict: what is reserved and not mapped faults on access, and so do pages behind the end of the
 * file, as in a real process. Slower; off at first. */
void mem_fs_set_strict(struct mem_fs *fs, bool strict);

/* Bytes of disk; 0 = no limit. Growing files beyond gives -ENOSPC after a short write. */
void mem_fs_set_space(struct mem_fs *fs, uint64_t bytes);

/* ---- looking inside, and building images. A file is named by its number, which is its inode. */
uint64_t mem_fs_find(const struct mem_fs *fs, const char *path); /* 0 = no such name */
uint64_t mem_fs_create(struct mem_fs *fs, const char *path);     /* new and empty, named */
/* The file with this number exists from now on (without a name). */
void mem_fs_ensure(struct mem_fs *fs, uint64_t file);
void mem_fs_set_name(struct mem_fs *fs, const char *path, uint64_t file);
void mem_fs_remove_name(struct mem_fs *fs, const char *path);
const uint8_t *mem_fs_bytes(const struct mem_fs *fs, uint64_t file, size_t *size);
void mem_fs_write(struct mem_fs *fs, uint64_t file, uint64_t offset, const void *bytes, size_t len);
void mem_fs_resize(struct mem_fs *fs, uint64_t file, uint64_t size);
/* Names in order of creation; NULL behind the last. */
const char *mem_fs_name(const struct mem_fs *fs, size_t index, uint64_t *file);

/* Open descriptors now, and how many calls have changed something since the last copy. */
size_t mem_fs_open_count(const struct mem_fs *fs);
uint64_t mem_fs_changes(const struct mem_fs *fs);

/* What the core did that it must not do, as text; "" when nothing. Cleared by mem_fs_copy. */
const char *mem_fs_faults(const struct mem_fs *fs);

#endif
