/* T7: a disk that is really full, and a limit on file size. A tmpfs of 1 MiB in a mount namespace
 * of its own, so nothing stays mounted whatever happens. Every refused write is a typed error,
 * never a signal (P15); what was acknowledged stays; when space returns, writing continues (P7). */
#include "check.h"

#include "script.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

enum { NO_NAMESPACE = 77 };

static char disk[512], db_file[600], filler[600];

/* ---------------------------------------------------------------- the small disk */

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* In a child: a namespace in which we may mount. */
static bool enter_namespace(void)
{
    char map[64];
    uid_t user = getuid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return false;
        snprintf(map, sizeof map, "0 %u 1", user);
        write_text("/proc/self/uid_map", map);
    }
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", disk, "tmpfs", 0, "size=1m") == 0;
}

static void on_small_disk(void (*body)(void *context), void *context)
{
    snprintf(disk, sizeof disk, "%s", check_path("disk"));
    snprintf(db_file, sizeof db_file, "%s/a.db", disk);
    snprintf(filler, sizeof filler, "%s/filler", disk);
    CHECK_EQ(mkdir(disk, 0700), 0);
    int status = check_child(body, context);
    CHECK_EQ(rmdir(disk), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE) {
        printf("SKIPPED: this process may not mount a tmpfs (not root, no user namespaces)\n");
        return;
    }
    CHECK_EQ(status, 0);
}

/* Leave `bytes` free. */
static void fill_disk(off_t bytes)
{
    static const char zeros[4096];
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK(st.st_size > bytes);
    CHECK_EQ(ftruncate(fd, st.st_size - bytes), 0);
    close(fd);
}

/* ---------------------------------------------------------------- writing until it is full */

struct writer {
    struct script_run run;
    struct script_model *model;
    uint64_t acked;
    uint8_t kind, open_how;
};

static syna_rc write_one(struct writer *w, uint32_t id)
{
    struct script_op op = {.kind = w->kind,
                           .key = (uint8_t)(id % SCRIPT_KEYS),
                           .type = w->kind == DO_APPEND ? SYNA_TYPE_FLOAT : SYNA_TYPE_BYTES,
                           .size = w->kind == DO_BATCH    ? 5u
                                   : w->kind == DO_APPEND ? 1500u
                                                          : 9000u,
                           .id = id};
    syna_rc rc = script_step(&w->run, &op);
    if (rc == SYNA_SUCCESS) {
        script_model_step(w->model, &op);
        w->acked++;
    }
    return rc;
}

static void check_contents(struct writer *w)
{
    struct script_state got, want;
    script_model_state(w->model, &want);
    CHECK_OK(script_read(w->run.db[0], &got));
    CHECK(script_same_values(&got, &want));
}

static void check_full(syna_rc rc, int system)
{
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(status_get()->system, system);
    if (system == ENOSPC)
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_SPACE);
}

static void write_until_refused(struct writer *w, uint32_t *id, int system)
{
    syna_rc rc;
    while ((rc = write_one(w, ++*id)) == SYNA_SUCCESS)
        CHECK(w->acked < 100000);
    check_full(rc, system);
    check_contents(w);
    for (int again = 0; again < 3; again++)
        check_full(write_one(w, ++*id), system);
    check_contents(w);
}

static void open_writer(struct writer *w)
{
    const struct script_op open_it = {.kind = DO_OPEN, .how = w->open_how};
    w->run.path = db_file;
    CHECK_OK(script_step(&w->run, &open_it));
}

static void full_then_free(void *context)
{
    struct writer w = *(const struct writer *)context;
    uint32_t id = 0;
    if (!enter_namespace())
        _exit(NO_NAMESPACE);
    w.model = script_model_new();
    open_writer(&w);
    fill_disk(300000);
    write_until_refused(&w, &id, ENOSPC);
    CHECK_EQ(unlink(filler), 0);
    for (int i = 0; i < 5; i++)
        CHECK_OK(write_one(&w, ++id));
    check_contents(&w);
    script_stop(&w.run);
    open_writer(&w);
    check_contents(&w);
    script_stop(&w.run);
    script_model_free(w.model);
}

TEST(P7_P15_puts_on_a_full_disk)
{
    on_small_disk(full_then_free, &(struct writer){.kind = DO_PUT});
    on_small_disk(full_then_free, &(struct writer){.kind = DO_PUT, .open_how = OPEN_NO_SYNC});
}

TEST(P7_P15_puts_on_a_full_disk_without_mapping_or_shared)
{
    on_small_disk(full_then_free, &(struct writer){.kind = DO_PUT, .open_how = OPEN_NO_MMAP});
    on_small_disk(full_then_free, &(struct writer){.kind = DO_PUT, .open_how = OPEN_SHARED});
}

TEST(P7_batches_histories_and_blobs_on_a_full_disk)
{
    on_small_disk(full_then_free, &(struct writer){.kind = DO_BATCH, .open_how = OPEN_NO_SYNC});
    on_small_disk(full_then_free, &(struct writer){.kind = DO_APPEND});
    on_small_disk(full_then_free, &(struct writer){.kind = DO_BLOB});
}

/* What needs a second copy of everything fails as a whole and leaves no piece of it. */
static void no_room_for_a_copy(void *context)
{
    struct writer w = {.kind = DO_PUT};
    struct script_op op = {.kind = *(const uint8_t *)context, .id = 1};
    syna_check found = {.size = sizeof found};
    uint32_t id = 0;
    if (!enter_namespace())
        _exit(NO_NAMESPACE);
    w.model = script_model_new();
    open_writer(&w);
    while (id < 40)
        CHECK_OK(write_one(&w, ++id));
    fill_disk(20000);
    for (uint8_t how = 0; how < 2; how++) {
        op.how = how;
        if (op.kind == DO_COMPACT && how == SYNA_COMPACT_LATEST)
            continue; /* the newest values alone may fit */
        check_full(script_step(&w.run, &op), ENOSPC);
        check_contents(&w);
    }
    CHECK_EQ(unlink(filler), 0);
    op.how = SYNA_COMPACT_HISTORY;
    CHECK_OK(script_step(&w.run, &op));
    check_contents(&w);
    script_stop(&w.run);
    CHECK_OK(db_verify(db_file, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
    script_model_free(w.model);
}

TEST(P7_compaction_and_backup_on_a_full_disk_leave_everything_as_it_was)
{
    uint8_t kind = DO_COMPACT;
    on_small_disk(no_room_for_a_copy, &kind);
    kind = DO_BACKUP;
    on_small_disk(no_room_for_a_copy, &kind);
}

/* ---------------------------------------------------------------- a limit on the size of files */

static void limited(void *context)
{
    struct writer w = *(const struct writer *)context;
    struct rlimit limit = {400000, RLIM_INFINITY};
    uint32_t id = 0;
    signal(SIGXFSZ, SIG_IGN);
    w.model = script_model_new();
    open_writer(&w);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    write_until_refused(&w, &id, EFBIG);
    limit.rlim_cur = RLIM_INFINITY;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 5; i++)
        CHECK_OK(write_one(&w, ++id));
    script_stop(&w.run);
    open_writer(&w);
    check_contents(&w);
    script_stop(&w.run);
    script_model_free(w.model);
}

TEST(P7_P15_a_file_size_limit)
{
    snprintf(db_file, sizeof db_file, "%s", check_path("a.db"));
    CHECK_EQ(check_child(limited, &(struct writer){.kind = DO_PUT}), 0);
    snprintf(db_file, sizeof db_file, "%s", check_path("b.db"));
    CHECK_EQ(check_child(limited, &(struct writer){.kind = DO_BLOB, .open_how = OPEN_NO_SYNC}), 0);
}
