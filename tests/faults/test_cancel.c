/* T13 in C: the progress callback of every long call asks to stop, at its first question, its
 * second,
 * ... until the call finishes before it is asked again. Each time: reason CANCELLED, everything as
 * it was, and the call works afterwards. (SIGINT in Python: tests/concurrency/test_sigint.py.) */
#include "check.h"

#include "script.h"
#include "vfs_mem.h"

#define PATH MEM_DIR "/a.db"

/* A clock that runs fast: the calls ask at every look at it. */
enum { CLOCK_STEP_US = 60000 };

static struct mem_fs *fs;

struct asker {
    uint64_t asked, stop_at;
    uint64_t done, total;
};

static int32_t ask(void *context, uint64_t done, uint64_t total)
{
    struct asker *a = context;
    CHECK(done >= a->done);
    a->done = done;
    a->total = total;
    return ++a->asked == a->stop_at;
}

typedef syna_rc (*long_call)(syna_db *db, const char *path, struct asker *a);

static syna_rc compact_latest(syna_db *db, const char *path, struct asker *a)
{
    (void)path;
    return db_compact(db, SYNA_COMPACT_LATEST, ask, a);
}

static syna_rc compact_history(syna_db *db, const char *path, struct asker *a)
{
    (void)path;
    return db_compact(db, SYNA_COMPACT_HISTORY, ask, a);
}

static syna_rc back_up(syna_db *db, const char *path, struct asker *a)
{
    (void)path;
    syna_rc rc = db_backup(db, PATH ".copy", ask, a);
    CHECK_EQ(mem_fs_find(fs, PATH ".copy") != 0, rc == SYNA_SUCCESS);
    mem_fs_remove_name(fs, PATH ".copy");
    return rc;
}

static syna_rc verify(syna_db *db, const char *path, struct asker *a)
{
    syna_check found = {.size = sizeof found};
    (void)db;
    return db_verify(path, NULL, a, ask, &found);
}

static syna_rc salvage(syna_db *db, const char *path, struct asker *a)
{
    syna_check found = {.size = sizeof found};
    (void)db;
    syna_rc rc = db_salvage(path, PATH ".saved", NULL, a, ask, &found);
    CHECK_EQ(mem_fs_find(fs, PATH ".saved") != 0, rc == SYNA_SUCCESS);
    mem_fs_remove_name(fs, PATH ".saved");
    return rc;
}

static void fill(struct script_run *run)
{
    const struct script_op open_it = {.kind = DO_OPEN, .how = OPEN_NO_SYNC};
    CHECK_OK(script_step(run, &open_it));
    for (uint32_t id = 1; id <= 300; id++) {
        struct script_op op = {.kind = id % 7 ? DO_PUT : DO_APPEND,
                               .key = (uint8_t)(id % SCRIPT_KEYS),
                               .type = id % 7 ? SYNA_TYPE_BYTES : SYNA_TYPE_FLOAT,
                               .size = id % 7 ? 20000 : 200,
                               .id = id};
        CHECK_OK(script_step(run, &op));
    }
    CHECK_OK(db_flush(run->db[0]));
}

static void cancel_everywhere(long_call call)
{
    struct script_run run = {.path = PATH};
    struct script_state before, after;
    uint64_t cancelled = 0;
    fs = mem_fs_new(1);
    mem_fs_set_clock(fs, SCRIPT_PROBE_US, CLOCK_STEP_US);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    fill(&run);
    CHECK_OK(script_read(run.db[0], &before));
    for (uint64_t k = 1;; k++) {
        struct asker a = {.stop_at = k};
        check_note("question %llu", (unsigned long long)k);
        syna_rc rc = call(run.db[0], run.path, &a);
        if (rc == SYNA_SUCCESS) {
            CHECK(a.asked < k);
            break;
        }
        CHECK_EQ(rc, SYNA_ERR_GENERIC);
        CHECK_EQ(status_get()->reason, SYNA_WHY_CANCELLED);
        CHECK_EQ(a.asked, k);
        cancelled++;
        CHECK_OK(script_read(run.db[0], &after));
        CHECK(script_same(&after, &before));
        CHECK_EQ(mem_fs_open_count(fs), 2); /* the log and its lock */
        for (size_t i = 0; mem_fs_name(fs, i, NULL); i++)
            CHECK(strstr(mem_fs_name(fs, i, NULL), ".tmp-") == NULL);
    }
    printf("cancelled %llu times\n", (unsigned long long)cancelled);
    CHECK(cancelled > 3);
    CHECK_OK(db_put(run.db[0], "k0", 2, SYNA_TYPE_NULL, NULL, 0, NULL, NULL));
    script_stop(&run);
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
}

TEST(P13_compaction_can_be_cancelled)
{
    cancel_everywhere(compact_latest);
}
TEST(P13_compaction_with_history_can_be_cancelled)
{
    cancel_everywhere(compact_history);
}
TEST(P13_backup_can_be_cancelled)
{
    cancel_everywhere(back_up);
}
TEST(P13_verify_can_be_cancelled)
{
    cancel_everywhere(verify);
}
TEST(P13_salvage_can_be_cancelled)
{
    cancel_everywhere(salvage);
}
