/* The golden files: tests/formats/v<major>/<name>.db, each with <name>.txt, what a reader sees in
 * it. They were written by the release that introduced the format and are never written again; a
 * new format version adds a folder. */
#ifndef SYNA_TESTS_GOLDEN_H
#define SYNA_TESTS_GOLDEN_H

#include "script.h"
#include "vfs_mem.h"

struct golden {
    const char *name;
    const char *script; /* what was written; without a last close the file is as a crash left it */
};

static const struct golden goldens[] = {
    {"values", "open 0 0 null 0 0 0\n"
               "put 0 0 null 0 1 0\n"
               "put 0 0 float 0 2 0\n"
               "put 0 1 int 0 3 0\n"
               "put 0 2 text 12 4 0\n"
               "put 0 2 text 300 5 0\n"
               "put 0 3 bytes 9 6 0\n"
               "put 0 3 bytes 0 7 0\n"
               "put 0 4 vector 5 8 0\n"
               "put 0 5 packed 11 9 0\n"
               "put 0 0 text 9 10 2\n"
               "put 0 1 text 9 11 1\n"
               "put 0 4 int 0 12 3\n"
               "delete 0 3 null 0 0 0\n"
               "close 0 0 null 0 0 0\n"},
    {"histories", "open 0 0 null 0 0 0\n"
                  "append 0 0 float 40 1 0\n"
                  "append 0 1 int 40 2 0\n"
                  "append 0 0 float 3 3 0\n"
                  "put 0 0 float 0 4 0\n"
                  "batch 0 2 null 5 5 0\n"
                  "batch 0 0 null 4 6 0\n"
                  "close 0 0 null 0 0 0\n"},
    {"blobs", "open 0 0 null 0 0 0\n"
              "blob 0 0 blob 200 1 0\n"
              "blob 0 1 blob 0 2 0\n"
              "put 0 2 int 0 3 0\n"
              "blob 0 0 blob 50 4 0\n"
              "close 0 0 null 0 0 0\n"},
    {"compacted", "open 0 0 null 0 0 0\n"
                  "put 0 0 int 0 1 0\n"
                  "put 0 0 int 0 2 0\n"
                  "append 0 1 float 12 3 0\n"
                  "put 0 1 float 0 4 0\n"
                  "put 0 2 text 20 5 2\n"
                  "blob 0 3 blob 30 6 0\n"
                  "delete 0 0 null 0 0 0\n"
                  "compact 0 0 null 0 0 1\n"
                  "put 0 0 int 0 7 0\n"
                  "close 0 0 null 0 0 0\n"},
    {"not-closed", "open 0 0 null 0 0 1\n"
                   "put 0 0 int 0 1 0\n"
                   "put 0 1 text 20 2 0\n"
                   "flush 0 0 null 0 0 0\n"
                   "put 0 0 int 0 3 0\n"
                   "batch 0 2 null 3 4 0\n"},
};

#define GOLDEN_PATH MEM_DIR "/golden.db"

static inline const char *golden_file(const char *name, const char *end, char *out, size_t cap)
{
    snprintf(out, cap, "%s/formats/v1/%s%s", SYNA_TESTS_FOLDER, name, end);
    return out;
}

static inline size_t golden_read(const char *path, uint8_t *out, size_t cap)
{
    FILE *f = fopen(path, "rb");
    size_t len = f ? fread(out, 1, cap, f) : 0;
    if (f)
        fclose(f);
    CHECK(f != NULL);
    CHECK(len < cap);
    return len;
}

/* The file as the script writes it today: clock, random bytes and everything else are fixed.
 * states[n] is what n operations lead to; the number of operations is returned. */
static inline size_t golden_make(const struct golden *g, struct mem_fs *fs,
                                 struct script_state *states)
{
    struct script_run run = {.path = GOLDEN_PATH};
    struct script_model *m = script_model_new();
    struct script script;
    CHECK(script_parse(&script, g->script));
    mem_fs_set_clock(fs, SCRIPT_PROBE_US, 1000);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    script_model_state(m, &states[0]);
    for (size_t i = 0; i < script.count; i++) {
        CHECK_OK(script_step(&run, &script.ops[i]));
        states[i + 1] = states[i];
        if (run.db[0])
            CHECK_OK(script_read(run.db[0], &states[i + 1]));
    }
    script_model_free(m);
    if (run.db[0]) { /* as a crash leaves it, without the room that was made ahead */
        struct mem_fs *copy = mem_fs_new(0);
        size_t size;
        mem_fs_copy(copy, fs);
        script_stop(&run);
        mem_fs_copy(fs, copy);
        mem_fs_free(copy);
        const uint8_t *bytes = mem_fs_bytes(fs, mem_fs_find(fs, GOLDEN_PATH), &size);
        while (size > 0 && bytes[size - 1] == 0)
            size--;
        mem_fs_resize(fs, mem_fs_find(fs, GOLDEN_PATH), size);
    }
    syna_test_set_vfs(NULL);
    return script.count;
}

#endif
