/* Migration of any bytes. The first byte chooses which key is left out. What was made of them is a sound
 * log that holds as many records as the migration says, and nothing else is left. */
#include "base/internal.h"

#include "engine/db_ancestor_copy.h"
#include "vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OLD MEM_DIR "/old"
#define NEW MEM_DIR "/new"

static void must(bool good)
{
    if (!good)
        __builtin_trap();
}

static void check_new(const syna_migration *m)
{
    syna_db_stats stats = {.size = sizeof stats};
    syna_check found = {.size = sizeof found};
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    syna_db *db;
    must(db_verify(NEW, NULL, NULL, NULL, &found) == SYNA_SUCCESS);
    must(found.damaged == 0 && found.torn_bytes == 0);
    must(db_open(NEW, &options, &db) == SYNA_SUCCESS);
    must(db_get_stats(db, &stats) == SYNA_SUCCESS);
    must(stats.frames == m->values + m->deletions);
    must(db_close(db) == SYNA_SUCCESS);
    must(m->frames == m->values + m->deletions + m->left_out + m->lost);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    char key[2] = {(char)data[0], 0};
    const char *leave_out = key;
    syna_migration m;
    struct mem_fs *fs = mem_fs_new(0);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    uint64_t old = mem_fs_create(fs, OLD);
    mem_fs_resize(fs, old, size - 1);
    mem_fs_write(fs, old, 0, data + 1, size - 1);
    if (db_migrate(OLD, NEW, &leave_out, 1, NULL, NULL, NULL, &m) == SYNA_SUCCESS)
        check_new(&m);
    else
        must(mem_fs_find(fs, NEW) == 0);
    must(mem_fs_faults(fs)[0] == 0 && mem_fs_open_count(fs) == 0);
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    return 0;
}
