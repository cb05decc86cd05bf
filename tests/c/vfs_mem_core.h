/* The inside of the file system in memory: mem_fs.c holds files and names, vfs_mem.c is the table.
 */
#ifndef SYNA_TESTS_VFS_MEM_CORE_H
#define SYNA_TESTS_VFS_MEM_CORE_H

#include "vfs_mem.h"

enum { PAGE = 4096, NAMES = 64, DESCRIPTORS = 128, MAPS = 256 };

struct mem_file {
    uint8_t *bytes;
    size_t size, used, cap;
    int locked_by, claimed_by; /* descriptor, -1 = none */
};

struct mem_name {
    char *path;
    uint64_t file;
};

struct mem_descriptor {
    uint64_t file; /* 0 = free */
    bool writable;
};

struct mem_map {
    uint8_t *at;
    size_t len;
    uint64_t file, offset;
    bool writable, shared;
};

struct mem_fs {
    struct mem_file *files; /* number - 1 */
    size_t file_count, file_cap;
    struct mem_name names[NAMES];
    size_t name_count;
    struct mem_descriptor open[DESCRIPTORS];
    struct mem_map maps[MAPS];
    size_t map_count;
    uint64_t clock, clock_step, random, changes, space;
    int pid;
    bool strict;
    char faults[256];
};

/* The one that vfs_mem works on. */
extern struct mem_fs *mem_now;

/* Ends the program when there is none. */
void *mem_must(void *block);
/* Note what the core must not do; the first one stays. */
void mem_fault(struct mem_fs *fs, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* How far may this file grow towards `size`? */
uint64_t mem_room(const struct mem_fs *fs, uint64_t file, uint64_t size);

static inline struct mem_file *mem_file_at(const struct mem_fs *fs, uint64_t number)
{
    return &fs->files[number - 1];
}

#endif
