/* T5 and T6: make the k-th allocation, and the k-th call of the system, fail in every operation of
 * the engine, for k = 1, 2, ... until the operation passes. Each time: a typed error, the state
 * from before readable, nothing leaked, and the operation succeeds when it is tried again (P7);
 * after a failed sync the handle refuses writes until the database is opened again (P8). */
#include "check.h"

#include "script.h"
#include "store/frame.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#define PATH MEM_DIR "/a.db"

/* ---------------------------------------------------------------- what can fail, and how */

struct failure {
    const char *name;
    bool memory;
    struct fault fault;
};

#define RESTARTED                                                                                  \
    (1u << FAULT_OPEN | 1u << FAULT_READ | 1u << FAULT_WRITE | 1u << FAULT_SET_SIZE |              \
     1u << FAULT_ALLOCATE | 1u << FAULT_REPLACE | 1u << FAULT_GIVE)

#define FILLS_UP                                                                                   \
    (1u << FAULT_OPEN | 1u << FAULT_WRITE | 1u << FAULT_SET_SIZE | 1u << FAULT_ALLOCATE |          \
     1u << FAULT_SYNC | 1u << FAULT_SYNC_DIR | 1u << FAULT_REPLACE | 1u << FAULT_GIVE)

static const struct failure failures[] = {
    {"no memory once", true, {.forever = false}},
    {"no memory from then on", true, {.forever = true}},
    {"EIO once", false, {.system = EIO}},
    {"EIO from then on", false, {.system = EIO, .forever = true}},
    {"ENOSPC once", false, {.system = ENOSPC, .only = FILLS_UP}},
    {"ENOSPC from then on, after half a write",
     false,
     {.system = ENOSPC, .only = FILLS_UP, .forever = true, .short_io = true}},
    {"EINTR once", false, {.system = EINTR, .only = RESTARTED}},
    {"half a transfer, then EINTR",
     false,
     {.system = EINTR, .only = 1u << FAULT_READ | 1u << FAULT_WRITE, .short_io = true}},
};

static void arm(const struct failure *f, int64_t k)
{
    struct fault fault = f->fault;
    fault.at = k;
    if (f->memory)
        fault_alloc(k, fault.forever);
    else
        fault_arm(&fault);
}

static bool disarm(const struct failure *f)
{
    bool fired = f->memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
    fault_alloc(0, false);
    if (!f->memory)
        fault_arm(NULL);
    return fired;
}

/* ---------------------------------------------------------------- the operations */

struct world {
    struct mem_fs *fs;
    struct script_run run;
    struct script_state states[SCRIPT_OPS + 1]; /* after n operations of the setup */
    size_t count;                               /* operations of the setup */
    size_t durable;                             /* the last one that promised durability */
};

typedef syna_rc (*operation)(struct world *w);

struct scenario {
    const char *name;
    const char *setup;
    const char *op; /* a script line, or */
    operation call;
    bool reads; /* changes nothing */
    bool torn;  /* the writer died after the setup, with a tail that is torn */
};

static int32_t stop_never(void *context, const syna_record *record)
{
    (void)context;
    (void)record;
    return 0;
}

static syna_rc do_read(struct world *w)
{
    struct script_state state;
    syna_rc rc = script_read(w->run.db[0], &state);
    if (rc == SYNA_SUCCESS)
        CHECK(script_same(&state, &w->states[w->count]));
    return rc;
}

static syna_rc do_scan(struct world *w)
{
    syna_scan *scan = NULL;
    syna_record record = {.size = sizeof record};
    syna_rc rc = db_scan_new(w->run.db[0], "k", 1, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &scan);
    while (rc == SYNA_SUCCESS)
        rc = db_scan_next(scan, &record);
    if (scan)
        db_scan_free(scan);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

static syna_rc do_time_travel(struct world *w)
{
    uint8_t buf[64];
    size_t len;
    int32_t type;
    syna_rc rc = db_get_at(w->run.db[0], "k0", 2, UINT64_MAX, buf, sizeof buf, &len, &type);
    return rc == SYNA_SUCCESS ? db_history(w->run.db[0], "k1", 2, stop_never, NULL) : rc;
}

static syna_rc do_blob_read(struct world *w)
{
    syna_blob *blob = NULL;
    uint8_t buf[512];
    size_t got = 0;
    syna_rc rc = db_blob_open(w->run.db[0], "k2", 2, &blob);
    for (uint64_t at = 0; rc == SYNA_SUCCESS && at < db_blob_size(blob); at += got)
        rc = db_blob_read(blob, at, buf, sizeof buf, &got);
    if (blob)
        db_blob_free(blob);
    return rc;
}

static syna_rc do_verify(struct world *w)
{
    (void)w;
    syna_check found = {.size = sizeof found};
    syna_rc rc = db_verify(PATH, NULL, NULL, NULL, &found);
    if (rc == SYNA_SUCCESS)
        CHECK_EQ(found.damaged, 0);
    return rc;
}

static syna_rc do_salvage(struct world *w)
{
    syna_check found = {.size = sizeof found};
    syna_rc rc = db_salvage(PATH, MEM_DIR "/saved.db", NULL, NULL, NULL, &found);
    if (rc == SYNA_SUCCESS)
        mem_fs_remove_name(w->fs, MEM_DIR "/saved.db");
    return rc;
}

static syna_rc do_open_reader(struct world *w)
{
    syna_db_options options = {.size = sizeof options, .read_only = 1};
    struct script_state state;
    syna_db *db;
    syna_rc rc = db_open(PATH, &options, &db);
    if (rc != SYNA_SUCCESS)
        return rc;
    rc = script_read(db, &state);
    if (rc == SYNA_SUCCESS)
        CHECK(script_same(&state, &w->states[w->count]));
    db_close(db);
    return rc;
}

#define FILLED                                                                                     \
    "open 0 0 null 0 0 0\n"                                                                        \
    "put 0 0 int 0 1 0\n"                                                                          \
    "put 0 0 float 0 2 0\n"                                                                        \
    "put 0 1 text 900 3 2\n"                                                                       \
    "blob 0 2 blob 700 4 0\n"                                                                      \
    "append 0 3 float 30 5 0\n"                                                                    \
    "append 0 3 int 10 6 0\n"                                                                      \
    "put 0 4 int 0 7 1\n"
#define FILLED_UNSYNCED                                                                            \
    "open 0 0 null 0 0 1\n"                                                                        \
    "put 0 0 int 0 1 0\n"                                                                          \
    "flush 0 0 null 0 0 0\n"                                                                       \
    "put 0 1 text 900 3 0\n"                                                                       \
    "blob 0 2 blob 700 4 0\n"                                                                      \
    "put 0 0 int 0 5 0\n"
#define FILLED_SHARED                                                                              \
    "open 0 0 null 0 0 2\n"                                                                        \
    "put 0 0 int 0 1 0\n"                                                                          \
    "open 1 0 null 0 0 2\n"                                                                        \
    "put 1 1 text 30 2 0\n"                                                                        \
    "blob 1 2 blob 100 3 0\n"
#define FILLED_CALLS                                                                               \
    "open 0 0 null 0 0 8\n"                                                                        \
    "put 0 0 int 0 1 0\n"                                                                          \
    "put 0 1 text 900 2 0\n"                                                                       \
    "blob 0 2 blob 700 3 0\n"
#define FILLED_CALLS_UNSYNCED                                                                      \
    "open 0 0 null 0 0 9\n"                                                                        \
    "put 0 0 int 0 1 0\n"                                                                          \
    "flush 0 0 null 0 0 0\n"                                                                       \
    "put 0 1 text 900 2 0\n"
#define LARGE "put 0 5 bytes 1100000 8 0\n"
#define CLOSED "close 0 0 null 0 0 0\n"

static const struct scenario scenarios[] = {
    {"create", "", "open 0 0 null 0 0 0\n", NULL, false, false},
    {"open", FILLED CLOSED, "open 0 0 null 0 0 0\n", NULL, false, false},
    {"open, reading with calls", FILLED CLOSED, "open 0 0 null 0 0 8\n", NULL, false, false},
    {"put", FILLED, "put 0 1 text 300 20 2\n", NULL, false, false},
    {"put beyond the room", FILLED, "put 0 5 bytes 100000 20 0\n", NULL, false, false},
    {"put unsynced", FILLED_UNSYNCED, "put 0 0 int 0 20 0\n", NULL, false, false},
    {"put unsynced beyond the room", FILLED_UNSYNCED, "put 0 5 bytes 100000 20 0\n", NULL, false,
     false},
    {"put shared", FILLED_SHARED, "put 0 1 int 0 20 0\n", NULL, false, false},
    {"delete", FILLED, "delete 0 1 null 0 0 0\n", NULL, false, false},
    {"batch", FILLED, "batch 0 0 null 5 20 0\n", NULL, false, false},
    {"append", FILLED, "append 0 3 float 100 20 0\n", NULL, false, false},
    {"blob", FILLED, "blob 0 2 blob 3000 20 0\n", NULL, false, false},
    {"blob unsynced", FILLED_UNSYNCED, "blob 0 2 blob 3000 20 0\n", NULL, false, false},
    {"flush", FILLED_UNSYNCED, "flush 0 0 null 0 0 0\n", NULL, false, false},
    {"compact", FILLED, "compact 0 0 null 0 0 0\n", NULL, false, false},
    {"compact with history", FILLED, "compact 0 0 null 0 0 1\n", NULL, false, false},
    {"compact unsynced", FILLED_UNSYNCED, "compact 0 0 null 0 0 0\n", NULL, false, false},
    {"compact shared", FILLED_SHARED, "compact 0 0 null 0 0 0\n", NULL, false, false},
    {"backup", FILLED, "backup 0 0 null 0 20 0\n", NULL, false, false},
    {"close", FILLED, CLOSED, NULL, false, false},
    {"close unsynced", FILLED_UNSYNCED, CLOSED, NULL, false, false},
    {"read", FILLED, NULL, do_read, true, false},
    {"scan", FILLED, NULL, do_scan, true, false},
    {"time travel", FILLED, NULL, do_time_travel, true, false},
    {"blob read", FILLED, NULL, do_blob_read, true, false},
    {"verify", FILLED, NULL, do_verify, true, false},
    {"salvage", FILLED, NULL, do_salvage, true, false},
    {"open a reader", FILLED, NULL, do_open_reader, true, false},
    {"open and cut a tail", FILLED, "open 0 0 null 0 0 0\n", NULL, false, true},
    {"open and cut a tail, reading with calls", FILLED, "open 0 0 null 0 0 8\n", NULL, false, true},
    {"open and cut a tail, shared", FILLED_SHARED, "open 0 0 null 0 0 2\n", NULL, false, true},
    {"put, reading with calls", FILLED_CALLS, "put 0 1 text 300 20 2\n", NULL, false, false},
    {"put unsynced, reading with calls", FILLED_CALLS_UNSYNCED, "put 0 1 text 300 20 2\n", NULL,
     false, false},
    {"flush, reading with calls", FILLED_CALLS_UNSYNCED, "flush 0 0 null 0 0 0\n", NULL, false,
     false},
    {"compact, reading with calls", FILLED_CALLS, "compact 0 0 null 0 0 1\n", NULL, false, false},
    {"close with a key checkpoint", FILLED LARGE, CLOSED, NULL, false, false},
    {"open by a key checkpoint", FILLED LARGE CLOSED, "open 0 0 null 0 0 0\n", NULL, false, false},
    {"close with a newer key checkpoint", FILLED LARGE CLOSED "open 0 0 null 0 0 0\n" LARGE, CLOSED,
     NULL, false, false},
};

/* ---------------------------------------------------------------- one attempt */

/* The writer dies; behind its last frame stands one that looks whole and is not: a copy of the
 * first with another offset than its checksum knows. */
static void die_with_a_torn_tail(struct world *w)
{
    struct mem_fs *left = mem_fs_new(0);
    uint64_t file = mem_fs_find(w->fs, PATH);
    uint8_t frame[64];
    size_t size;
    mem_fs_copy(left, w->fs);
    script_stop(&w->run);
    mem_fs_copy(w->fs, left);
    mem_fs_free(left);
    const uint8_t *bytes = mem_fs_bytes(w->fs, file, &size);
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    size_t len = (size_t)frame_length(bytes + HEADER_BYTES);
    CHECK(len <= sizeof frame);
    memcpy(frame, bytes + HEADER_BYTES, len);
    mem_fs_write(w->fs, file, size, frame, len);
}

static void begin(struct world *w, const char *setup, bool torn)
{
    struct script script;
    struct script_model *m = script_model_new();
    bool synced = true;
    memset(w, 0, sizeof *w);
    w->fs = mem_fs_new(1);
    w->run.path = PATH;
    mem_fs_set_clock(w->fs, SCRIPT_PROBE_US, 1);
    mem_fs_use(w->fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    CHECK(script_parse(&script, setup));
    script_model_state(m, &w->states[0]);
    for (size_t i = 0; i < script.count; i++) {
        const struct script_op *op = &script.ops[i];
        CHECK_OK(script_step(&w->run, op));
        w->states[i + 1] = w->states[i];
        if (w->run.db[op->handle])
            CHECK_OK(script_read(w->run.db[op->handle], &w->states[i + 1]));
        if (op->kind == DO_OPEN)
            synced = !(op->how & OPEN_NO_SYNC);
        if (synced || op->kind == DO_FLUSH || op->kind == DO_CLOSE)
            w->durable = i + 1;
    }
    w->count = script.count;
    script_model_free(m);
    if (torn)
        die_with_a_torn_tail(w);
}

/* A temp file whose removal failed is removed by the next writer's open; those of a backup or a
 * salvage have no next writer. */
static bool may_stay(const char *temp, bool removal_failed)
{
    return removal_failed && strncmp(temp, PATH ".tmp-", sizeof PATH ".tmp-" - 1) != 0;
}

static void check_nothing_left(struct world *w, int64_t blocks, bool removal_failed)
{
    const char *name;
    CHECK_STR(mem_fs_faults(w->fs), "");
    CHECK_EQ(mem_fs_open_count(w->fs), 0);
    CHECK_EQ(syna_test_live_blocks(), blocks);
    for (size_t i = 0; (name = mem_fs_name(w->fs, i, NULL)); i++)
        CHECK(strstr(name, ".tmp-") == NULL || may_stay(name, removal_failed));
}

static void end(struct world *w, int64_t blocks, bool removal_failed)
{
    script_stop(&w->run);
    syna_test_set_vfs(NULL);
    check_nothing_left(w, blocks, removal_failed);
    mem_fs_free(w->fs);
}

static syna_rc attempt(struct world *w, const struct scenario *s)
{
    struct script one;
    if (s->call)
        return s->call(w);
    CHECK(script_parse(&one, s->op));
    return script_step(&w->run, &one.ops[0]);
}

/* The state that the operation leads to. */
static void expected_after(const struct scenario *s, struct script_state *out)
{
    struct world w;
    struct script one = {0};
    begin(&w, s->setup, s->torn);
    CHECK_OK(attempt(&w, s));
    *out = w.states[w.count];
    if (s->op)
        CHECK(script_parse(&one, s->op));
    if (s->op && w.run.db[one.ops[0].handle])
        CHECK_OK(script_read(w.run.db[one.ops[0].handle], out));
    script_stop(&w.run);
    syna_test_set_vfs(NULL);
    mem_fs_free(w.fs);
}

/* A typed error that says what happened: memory or the system's own errno. */
static void check_error(const struct failure *f, syna_rc rc)
{
    const struct status_record *r = status_get();
    check_note("%s: rc %d reason %d errno %d: %.150s", f->name, rc, r->reason, r->system,
               r->message);
    CHECK_EQ(r->code, rc);
    if (f->memory) {
        CHECK_EQ(rc, SYNA_ERR_INTERNAL);
        CHECK_EQ(r->reason, SYNA_WHY_NO_MEMORY);
        return;
    }
    CHECK(f->fault.system != EINTR || fault_first() == FAULT_SYNC);
    if (rc == SYNA_ERR_INTERNAL) { /* no address space is no memory */
        CHECK_EQ(r->reason, SYNA_WHY_NO_MEMORY);
        return;
    }
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(r->system, f->fault.system);
    if (f->fault.system == ENOSPC)
        CHECK(r->reason == SYNA_WHY_NO_SPACE || r->reason == SYNA_WHY_SYNC_FAILED);
}

static bool is_one_of(const struct world *w, const struct script_state *got,
                      const struct script_state *after)
{
    if (script_same_values(got, after))
        return true;
    for (size_t n = w->durable; n <= w->count; n++)
        if (script_same_values(got, &w->states[n]))
            return true;
    return false;
}

/* After a failure through an open handle: readable as before, or, when a sync failed, as of some
 * operation since the last durable one. Then the operation works, here or after reopening. */
static void check_recovers(struct world *w, const struct scenario *s,
                           const struct script_state *after, bool removal_failed)
{
    struct script_state got;
    if (removal_failed) { /* the copy could not be taken back, and is in the way of the next one */
        mem_fs_remove_name(w->fs, PATH ".backup20");
        mem_fs_remove_name(w->fs, MEM_DIR "/saved.db");
    }
    syna_db *db = w->run.db[0];
    bool changed; /* a shared log: see what the other handle wrote */
    CHECK_OK(db_refresh(db, &changed));
    CHECK_OK(script_read(db, &got));
    syna_rc rc = attempt(w, s);
    bool refused = rc != SYNA_SUCCESS && status_get()->reason == SYNA_WHY_SYNC_FAILED;
    if (!refused) {
        CHECK_OK(rc);
        CHECK(script_same_values(&got, &w->states[w->count]) || script_same_values(&got, after));
        return;
    }
    CHECK(!s->reads);
    CHECK(is_one_of(w, &got, after));
    CHECK_FAILS(db_put(db, "k5", 2, SYNA_TYPE_NULL, NULL, 0, NULL, NULL), SYNA_ERR_IO,
                SYNA_WHY_SYNC_FAILED);
    script_stop(&w->run);
    CHECK_OK(db_open(PATH, NULL, &w->run.db[0]));
    CHECK_OK(script_read(w->run.db[0], &got));
    CHECK(is_one_of(w, &got, after));
}

static void check_reopens(struct world *w, const struct script_state *after)
{
    struct script_state got;
    script_stop(&w->run);
    CHECK_OK(db_open(PATH, NULL, &w->run.db[0]));
    CHECK_OK(script_read(w->run.db[0], &got));
    CHECK(is_one_of(w, &got, after));
    CHECK_OK(db_put(w->run.db[0], "k5", 2, SYNA_TYPE_TEXT, "works", 5, NULL, NULL));
}

/* false: the operation passed before its k-th call. */
static bool fail_kth(const struct scenario *s, const struct failure *f, int64_t k,
                     const struct script_state *after)
{
    struct world w;
    int64_t blocks = syna_test_live_blocks();
    begin(&w, s->setup, s->torn);
    arm(f, k);
    syna_rc rc = attempt(&w, s);
    enum fault_call first = fault_first();
    bool fired = disarm(f), removal_failed = f->fault.forever || first == FAULT_REMOVE;
    check_note("%s, %s, k = %lld (%s)", s->name, f->name, (long long)k,
               fired && !f->memory ? fault_call_name(first) : "memory");
    if (!fired)
        CHECK_OK(rc);
    else if (rc != SYNA_SUCCESS)
        check_error(f, rc);
    check_note("%s, %s, k = %lld (%s), rc %d", s->name, f->name, (long long)k,
               fired && !f->memory ? fault_call_name(first) : "memory", rc);
    if (rc != SYNA_SUCCESS && w.run.db[0])
        check_recovers(&w, s, after, removal_failed);
    else if (rc == SYNA_SUCCESS && w.run.db[0] && !s->reads) {
        struct script_state got;
        CHECK_OK(script_read(w.run.db[0], &got));
        CHECK(script_same_values(&got, after));
    }
    check_reopens(&w, after);
    end(&w, blocks, removal_failed);
    return fired;
}

static void fail_everywhere(const struct failure *f)
{
    int64_t total = 0;
    for (size_t i = 0; i < COUNT_OF(scenarios); i++) {
        struct script_state after;
        int64_t k = 1;
        check_note("%s", scenarios[i].name);
        expected_after(&scenarios[i], &after);
        while (fail_kth(&scenarios[i], f, k, &after)) {
            CHECK(k < 5000);
            k++;
        }
        total += k - 1;
    }
    printf("%s: %lld failures\n", f->name, (long long)total);
    CHECK(total > 20);
}

TEST(P7_no_memory_once)
{
    fail_everywhere(&failures[0]);
}
TEST(P7_no_memory_from_then_on)
{
    fail_everywhere(&failures[1]);
}
TEST(P7_P8_an_io_error_once)
{
    fail_everywhere(&failures[2]);
}
TEST(P7_P8_io_errors_from_then_on)
{
    fail_everywhere(&failures[3]);
}
TEST(P7_P8_a_full_disk_once)
{
    fail_everywhere(&failures[4]);
}
TEST(P7_P8_a_full_disk_from_then_on)
{
    fail_everywhere(&failures[5]);
}
TEST(P7_interrupted_calls_are_repeated)
{
    fail_everywhere(&failures[6]);
}
TEST(P7_short_transfers_are_continued)
{
    fail_everywhere(&failures[7]);
}
