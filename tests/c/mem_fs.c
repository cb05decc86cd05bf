/* mem_fs.c - files and names of the file system in memory, and images of it.
 *
 * Invariants: (1) bytes of a file behind `used` are zero up to `cap`; (2) every shared map shows
 * its file's bytes, because each change is copied into the maps; (3) numbers of files are never
 * reused inside one mem_fs, so that a trace and its images mean the same file by the same number.
 */
#include "check.h"

#include "vfs_mem_core.h"

#include <stdarg.h>

struct mem_fs *mem_now;

void *mem_must(void *block)
{
    if (!block) {
        fprintf(stderr, "vfs_mem: out of memory\n");
        abort();
    }
    return block;
}

void mem_fault(struct mem_fs *fs, const char *format, ...)
{
    va_list args;
    if (fs->faults[0])
        return;
    va_start(args, format);
    vsnprintf(fs->faults, sizeof fs->faults, format, args);
    va_end(args);
}

/* ---------------------------------------------------------------- files */

static void file_reserve(struct mem_file *f, size_t cap)
{
    if (cap <= f->cap)
        return;
    cap = MAX(cap, f->cap * 2);
    f->bytes = mem_must(realloc(f->bytes, cap));
    memset(f->bytes + f->cap, 0, cap - f->cap);
    f->cap = cap;
}

void mem_fs_ensure(struct mem_fs *fs, uint64_t file)
{
    if (file > fs->file_cap) {
        size_t cap = MAX((size_t)file, fs->file_cap * 2);
        fs->files = mem_must(realloc(fs->files, cap * sizeof *fs->files));
        memset(fs->files + fs->file_cap, 0, (cap - fs->file_cap) * sizeof *fs->files);
        fs->file_cap = cap;
    }
    while (fs->file_count < file) {
        struct mem_file *f = &fs->files[fs->file_count++];
        if (f->used)
            memset(f->bytes, 0, f->used);
        f->size = f->used = 0;
        f->locked_by = f->claimed_by = -1;
    }
}

/* Show [offset, offset+len) of a file, as it is mem_now, in its shared maps. */
static void show_in_maps(struct mem_fs *fs, uint64_t file, uint64_t offset, uint64_t len)
{
    const struct mem_file *f = mem_file_at(fs, file);
    for (size_t i = 0; i < fs->map_count; i++) {
        const struct mem_map *m = &fs->maps[i];
        if (m->file != file || !m->shared)
            continue;
        uint64_t from = MAX(offset, m->offset), to = MIN(offset + len, m->offset + m->len);
        to = MIN(to, (uint64_t)MIN(f->cap, (f->size + PAGE - 1) / PAGE * PAGE));
        if (from < to && memcmp(m->at + (from - m->offset), f->bytes + from, to - from) != 0)
            memcpy(m->at + (from - m->offset), f->bytes + from, to - from);
    }
}

void mem_fs_resize(struct mem_fs *fs, uint64_t file, uint64_t size)
{
    struct mem_file *f = mem_file_at(fs, file);
    if (size < f->used) {
        size_t was = f->used;
        memset(f->bytes + size, 0, was - size);
        f->used = size;
        show_in_maps(fs, file, size, was - size);
    }
    f->size = size;
    file_reserve(f, size);
}

void mem_fs_write(struct mem_fs *fs, uint64_t file, uint64_t offset, const void *bytes, size_t len)
{
    struct mem_file *f = mem_file_at(fs, file);
    if (len == 0)
        return;
    file_reserve(f, offset + len);
    memmove(f->bytes + offset, bytes, len);
    f->size = MAX(f->size, offset + len);
    f->used = MAX(f->used, offset + len);
    show_in_maps(fs, file, offset, len);
}

const uint8_t *mem_fs_bytes(const struct mem_fs *fs, uint64_t file, size_t *size)
{
    *size = mem_file_at(fs, file)->size;
    return mem_file_at(fs, file)->bytes;
}

static uint64_t bytes_in_use(const struct mem_fs *fs)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < fs->name_count; i++)
        sum += mem_file_at(fs, fs->names[i].file)->size;
    return sum;
}

/* How far may this file grow towards `size`? */
uint64_t mem_room(const struct mem_fs *fs, uint64_t file, uint64_t size)
{
    uint64_t have = mem_file_at(fs, file)->size;
    if (fs->space == 0 || size <= have)
        return size;
    uint64_t in_use = bytes_in_use(fs);
    uint64_t left = fs->space > in_use ? fs->space - in_use : 0;
    return MIN(size, have + left);
}

/* ---------------------------------------------------------------- names */

static size_t name_index(const struct mem_fs *fs, const char *path)
{
    for (size_t i = 0; i < fs->name_count; i++)
        if (strcmp(fs->names[i].path, path) == 0)
            return i;
    return SIZE_MAX;
}

uint64_t mem_fs_find(const struct mem_fs *fs, const char *path)
{
    size_t i = name_index(fs, path);
    return i == SIZE_MAX ? 0 : fs->names[i].file;
}

void mem_fs_set_name(struct mem_fs *fs, const char *path, uint64_t file)
{
    size_t i = name_index(fs, path);
    if (i == SIZE_MAX) {
        if (fs->name_count == NAMES)
            mem_must(NULL);
        i = fs->name_count++;
        fs->names[i].path = mem_must(strdup(path));
    }
    fs->names[i].file = file;
}

void mem_fs_remove_name(struct mem_fs *fs, const char *path)
{
    size_t i = name_index(fs, path);
    if (i == SIZE_MAX)
        return;
    free(fs->names[i].path);
    fs->name_count--;
    memmove(&fs->names[i], &fs->names[i + 1], (fs->name_count - i) * sizeof fs->names[0]);
}

uint64_t mem_fs_create(struct mem_fs *fs, const char *path)
{
    uint64_t file = fs->file_count + 1;
    mem_fs_ensure(fs, file);
    mem_fs_set_name(fs, path, file);
    return file;
}

const char *mem_fs_name(const struct mem_fs *fs, size_t index, uint64_t *file)
{
    if (index >= fs->name_count)
        return NULL;
    if (file)
        *file = fs->names[index].file;
    return fs->names[index].path;
}

/* ---------------------------------------------------------------- the whole */

struct mem_fs *mem_fs_new(uint64_t seed)
{
    struct mem_fs *fs = mem_must(calloc(1, sizeof *fs));
    fs->clock = 1700000000000000u;
    fs->clock_step = 1;
    fs->random = seed;
    fs->pid = 4000;
    return fs;
}

static void drop_names(struct mem_fs *fs)
{
    while (fs->name_count)
        free(fs->names[--fs->name_count].path);
}

void mem_fs_free(struct mem_fs *fs)
{
    if (!fs)
        return;
    if (mem_now == fs)
        mem_now = NULL;
    drop_names(fs);
    for (size_t i = 0; i < fs->file_cap; i++)
        free(fs->files[i].bytes);
    free(fs->files);
    free(fs);
}

void mem_fs_use(struct mem_fs *fs)
{
    mem_now = fs;
}

static void copy_names(struct mem_fs *dst, const struct mem_fs *src)
{
    bool same = dst->name_count == src->name_count;
    for (size_t i = 0; same && i < src->name_count; i++)
        same = strcmp(dst->names[i].path, src->names[i].path) == 0;
    if (!same) {
        drop_names(dst);
        for (size_t i = 0; i < src->name_count; i++)
            dst->names[i].path = mem_must(strdup(src->names[i].path));
        dst->name_count = src->name_count;
    }
    for (size_t i = 0; i < src->name_count; i++)
        dst->names[i].file = src->names[i].file;
}

void mem_fs_copy(struct mem_fs *dst, const struct mem_fs *src)
{
    mem_fs_ensure(dst, src->file_count);
    for (size_t i = 0; i < src->file_count; i++) {
        struct mem_file *to = &dst->files[i];
        const struct mem_file *from = &src->files[i];
        file_reserve(to, from->size);
        if (from->used)
            memcpy(to->bytes, from->bytes, from->used);
        if (to->used > from->used)
            memset(to->bytes + from->used, 0, to->used - from->used);
        to->used = from->used;
        to->size = from->size;
        to->locked_by = to->claimed_by = -1;
    }
    dst->file_count = src->file_count;
    copy_names(dst, src);
    memset(dst->open, 0, sizeof dst->open);
    dst->map_count = 0;
    dst->clock = src->clock;
    dst->clock_step = src->clock_step;
    dst->random = src->random;
    dst->pid = src->pid;
    dst->space = src->space;
    dst->strict = src->strict;
    dst->changes = 0;
    dst->faults[0] = 0;
}

void mem_fs_set_clock(struct mem_fs *fs, uint64_t us, uint64_t step)
{
    fs->clock = us;
    fs->clock_step = step;
}

void mem_fs_set_pid(struct mem_fs *fs, int pid)
{
    fs->pid = pid;
}

void mem_fs_set_seed(struct mem_fs *fs, uint64_t seed)
{
    fs->random = seed;
}

void mem_fs_set_strict(struct mem_fs *fs, bool strict)
{
    fs->strict = strict;
}

void mem_fs_set_space(struct mem_fs *fs, uint64_t bytes)
{
    fs->space = bytes;
}

size_t mem_fs_open_count(const struct mem_fs *fs)
{
    size_t count = 0;
    for (size_t i = 0; i < DESCRIPTORS; i++)
        count += fs->open[i].file != 0;
    return count;
}

uint64_t mem_fs_changes(const struct mem_fs *fs)
{
    return fs->changes;
}

const char *mem_fs_faults(const struct mem_fs *fs)
{
    return fs->faults;
}
