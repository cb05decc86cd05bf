/* T8: bytes become operations on a database in memory: puts of every type, deletes, batches,
 * histories, blobs, compactions, flushes, closing and opening again, dying and opening again, a
 * reader beside the writer. What is in it is compared with a model that knows no files.
 *
 * The first byte says how to open; each following four are one operation. */
#include "base/internal.h"

#include "script.h"
#include "vfs_mem.h"

#define PATH MEM_DIR "/a.db"
#define COMPARE_EVERY 5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct mem_fs *fs;
    struct script_run run;
    struct script_model *model;
    syna_db *reader;
    uint8_t open_how;
};

static void must(bool good)
{
    if (!good)
        __builtin_trap();
}

static void open_writer(struct world *w)
{
    const struct script_op open_it = {.kind = DO_OPEN, .how = w->open_how};
    must(script_step(&w->run, &open_it) == SYNA_SUCCESS);
}

static void close_reader(struct world *w)
{
    if (w->reader)
        must(db_close(w->reader) == SYNA_SUCCESS);
    w->reader = NULL;
}

/* The process dies: what it has written stays, nothing is closed. */
static void die(struct world *w)
{
    struct mem_fs *left = mem_fs_new(0);
    close_reader(w);
    mem_fs_copy(left, w->fs);
    script_stop(&w->run);
    must(mem_fs_faults(w->fs)[0] == 0);
    mem_fs_copy(w->fs, left);
    mem_fs_free(left);
    open_writer(w);
}

static void close_and_open(struct world *w)
{
    const struct script_op close_it = {.kind = DO_CLOSE};
    must(script_step(&w->run, &close_it) == SYNA_SUCCESS);
    open_writer(w);
}

static void check(struct world *w, syna_db *db)
{
    struct script_state got, want;
    script_model_state(w->model, &want);
    must(script_read(db, &got) == SYNA_SUCCESS);
    must(script_same_values(&got, &want));
}

static void look(struct world *w)
{
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    bool changed;
    if (!w->reader)
        must(db_open(PATH, &options, &w->reader) == SYNA_SUCCESS);
    must(db_refresh(w->reader, &changed) == SYNA_SUCCESS);
    check(w, w->reader);
}

static void scan(struct world *w)
{
    struct script_state want;
    syna_record r = {.size = sizeof r};
    syna_scan *s;
    uint64_t count = 0;
    script_model_state(w->model, &want);
    must(db_scan_new(w->run.db[0], NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &s) ==
         SYNA_SUCCESS);
    while (db_scan_next(s, &r) == SYNA_SUCCESS)
        count++;
    db_scan_free(s);
    must(count == want.live);
}

static void verify(void)
{
    syna_check found = {.size = sizeof found};
    must(db_verify(PATH, NULL, NULL, NULL, &found) == SYNA_SUCCESS && found.damaged == 0);
}

static void step(struct world *w, const uint8_t *bytes, uint32_t id)
{
    static const uint8_t kinds[] = {DO_PUT,    DO_PUT,  DO_PUT,   DO_DELETE, DO_BATCH,
                                    DO_APPEND, DO_BLOB, DO_FLUSH, DO_COMPACT};
    struct script_op op = {.key = (uint8_t)(bytes[1] % SCRIPT_KEYS),
                           .type = (uint8_t)(bytes[1] / SCRIPT_KEYS % SYNA_TYPE_BLOB),
                           .how = (uint8_t)(bytes[3] % 4),
                           .size = bytes[2] * (bytes[3] < 16 ? 40u : 1u),
                           .id = id};
    uint8_t choice = (uint8_t)(bytes[0] % (COUNT_OF(kinds) + 5));
    if (choice < COUNT_OF(kinds)) {
        op.kind = kinds[choice];
        if (op.kind == DO_APPEND)
            op.type = op.type % 2 ? SYNA_TYPE_FLOAT : SYNA_TYPE_INT;
        if (op.kind == DO_BATCH)
            op.size %= 8;
        if (op.kind == DO_COMPACT)
            op.how %= 3;
        must(script_step(&w->run, &op) == SYNA_SUCCESS);
        script_model_step(w->model, &op);
    } else if (choice == COUNT_OF(kinds)) {
        close_and_open(w);
    } else if (choice == COUNT_OF(kinds) + 1) {
        die(w);
    } else if (choice == COUNT_OF(kinds) + 2) {
        look(w);
    } else if (choice == COUNT_OF(kinds) + 3) {
        scan(w);
    } else {
        verify();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.run = {.path = PATH}};
    if (size < 5 || size > 4 * 200)
        return 0;
    w.fs = mem_fs_new(data[0]);
    w.model = script_model_new();
    w.open_how = data[0] & (OPEN_NO_SYNC | OPEN_PLAIN | OPEN_NO_MMAP | OPEN_SHARED);
    mem_fs_set_clock(w.fs, SCRIPT_PROBE_US, data[0] & 16);
    mem_fs_use(w.fs);
    syna_test_set_vfs(&vfs_mem);
    open_writer(&w);
    for (uint32_t i = 0; 1 + 4 * (i + 1) <= size; i++) {
        step(&w, data + 1 + 4 * i, i + 1);
        if (i % COMPARE_EVERY == 0)
            check(&w, w.run.db[0]);
    }
    close_and_open(&w);
    check(&w, w.run.db[0]);
    close_reader(&w);
    script_stop(&w.run);
    must(mem_fs_open_count(w.fs) == 0 && mem_fs_faults(w.fs)[0] == 0);
    syna_test_set_vfs(NULL);
    script_model_free(w.model);
    mem_fs_free(w.fs);
    return 0;
}
