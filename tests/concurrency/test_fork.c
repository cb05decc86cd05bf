/* T12 in C: fork while other threads write. In the child reads work, writes are refused with
 * FORKED, and closing neither flushes nor unlocks; the parent goes on, and its lock lives exactly
 * as long as it keeps the database open, whatever its children do. (Python's workers:
 * test_fork.py.) */
#include "check.h"

#include "engine/db.h"

#include <signal.h>

enum { FORKS = 20, WRITERS = 2 };

struct work {
    syna_db *db;
    int stop;               /* atomic */
    uint64_t done[WRITERS]; /* atomic */
};

struct member {
    struct work *work;
    int number;
};

static void *writer_main(void *context)
{
    struct member *m = context;
    char key[8];
    snprintf(key, sizeof key, "w%d", m->number);
    for (uint64_t n = 1; !__atomic_load_n(&m->work->stop, __ATOMIC_ACQUIRE); n++) {
        CHECK_OK(db_put(m->work->db, key, 2, SYNA_TYPE_INT, &n, sizeof n, NULL, NULL));
        __atomic_store_n(&m->work->done[m->number], n, __ATOMIC_RELEASE);
        usleep(20); /* a child that refreshes reads the whole log again */
    }
    return NULL;
}

static void start(struct work *w, struct member *members, pthread_t *threads)
{
    for (int i = 0; i < WRITERS; i++) {
        members[i] = (struct member){w, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, writer_main, &members[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++)
        while (__atomic_load_n(&w->done[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
}

static void stop(struct work *w, pthread_t *threads)
{
    __atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

static void reads_and_is_refused(void *context)
{
    struct work *w = context;
    uint64_t low[WRITERS], bits, x = 1;
    syna_batch *batch;
    bool changed;
    alarm(60); /* a lock inherited in the locked state would hang the child */
    for (int i = 0; i < WRITERS; i++)
        low[i] = __atomic_load_n(&w->done[i], __ATOMIC_ACQUIRE);
    for (int i = 0; i < WRITERS; i++) {
        char key[8];
        snprintf(key, sizeof key, "w%d", i);
        CHECK_OK(db_get_number(w->db, key, 2, SYNA_TYPE_INT, &bits));
        CHECK(bits >= low[i] && bits <= low[i] + 1);
    }
    CHECK_FAILS(db_put(w->db, "x", 1, SYNA_TYPE_INT, &x, sizeof x, NULL, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_FORKED);
    CHECK_FAILS(db_delete(w->db, "w0", 2, NULL), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_FAILS(db_batch_new(w->db, &batch), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_FAILS(db_flush(w->db), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_FAILS(db_compact(w->db, SYNA_COMPACT_LATEST, NULL, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_FORKED);
    CHECK_OK(db_refresh(w->db, &changed));
    CHECK_OK(db_get_number(w->db, "w0", 2, SYNA_TYPE_INT, &bits));
    CHECK(bits >= low[0]);
    CHECK_OK(db_close(w->db));
}

TEST(P11_children_read_and_cannot_write_while_threads_of_the_parent_write)
{
    for (uint8_t no_sync = 0; no_sync < 2; no_sync++) {
        struct work w = {0};
        struct member members[WRITERS];
        pthread_t threads[WRITERS];
        syna_db_options options = {.size = sizeof options, .no_sync = no_sync};
        uint64_t bits;
        CHECK_OK(db_open(check_path(no_sync ? "a.db" : "b.db"), &options, &w.db));
        start(&w, members, threads);
        for (int64_t i = 0; i < check_rounds(FORKS); i++) {
            check_note("fork %lld", (long long)i);
            CHECK_EQ(check_child(reads_and_is_refused, &w), 0);
        }
        stop(&w, threads);
        for (int i = 0; i < WRITERS; i++) {
            char key[8];
            snprintf(key, sizeof key, "w%d", i);
            CHECK_OK(db_get_number(w.db, key, 2, SYNA_TYPE_INT, &bits));
            CHECK_EQ(bits, w.done[i]);
        }
        CHECK_OK(db_close(w.db));
    }
}

/* ---------------------------------------------------------------- the lock */

static void try_to_open(void *context)
{
    syna_db *db;
    CHECK_OK(db_open(context, NULL, &db));
    CHECK_OK(db_close(db));
}

static bool opens_elsewhere(const char *path)
{
    char copy[1024];
    int ends[2], status;
    char answer = 0;
    snprintf(copy, sizeof copy, "%s", path);
    CHECK_EQ(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        syna_db *db;
        syna_rc rc = db_open(copy, NULL, &db);
        answer = rc == SYNA_SUCCESS ? 'y' : 'n';
        if (rc == SYNA_SUCCESS)
            db_close(db);
        _exit(write(ends[1], &answer, 1) != 1);
    }
    close(ends[1]);
    CHECK_EQ(read(ends[0], &answer, 1), 1);
    close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    return answer == 'y';
}

static pid_t sleeping_child(syna_db *db, bool closes)
{
    int ends[2];
    char ready;
    CHECK_EQ(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        if (closes)
            db_close(db);
        if (write(ends[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    CHECK_EQ(read(ends[0], &ready, 1), 1);
    close(ends[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(P9_P11_a_child_neither_frees_nor_keeps_the_lock_of_its_parent)
{
    const char *path = check_path("a.db");
    for (int closes = 0; closes < 2; closes++) {
        syna_db *db;
        CHECK_OK(db_open(path, NULL, &db));
        pid_t child = sleeping_child(db, closes);
        CHECK(!opens_elsewhere(path));
        if (closes)
            end(child); /* its end must not unlock either */
        CHECK(!opens_elsewhere(path));
        CHECK_OK(db_put(db, "k", 1, SYNA_TYPE_NULL, NULL, 0, NULL, NULL));
        CHECK_OK(db_close(db));
        CHECK(opens_elsewhere(path)); /* although the child still lives */
        if (!closes)
            end(child);
    }
}

TEST(P11_a_child_opens_the_database_again_once_the_parent_has_closed_it)
{
    const char *path = check_path("a.db");
    char copy[1024];
    syna_db *db;
    snprintf(copy, sizeof copy, "%s", path);
    CHECK_OK(db_open(path, NULL, &db));
    CHECK_OK(db_put(db, "k", 1, SYNA_TYPE_NULL, NULL, 0, NULL, NULL));
    CHECK_OK(db_close(db));
    CHECK_EQ(check_child(try_to_open, copy), 0);
}

/* What the parent has not flushed must not be flushed, or closed, by a child that exits. */
TEST(P11_a_child_that_closes_and_exits_writes_nothing)
{
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    struct work w = {0};
    struct stat before, after;
    const char *path = check_path("a.db");
    uint64_t x = 5;
    CHECK_OK(db_open(path, &options, &w.db));
    for (int i = 0; i < WRITERS; i++)
        CHECK_OK(db_put(w.db, i ? "w1" : "w0", 2, SYNA_TYPE_INT, &x, sizeof x, NULL, NULL));
    w.done[0] = w.done[1] = 5;
    CHECK_EQ(stat(path, &before), 0);
    CHECK_EQ(check_child(reads_and_is_refused, &w), 0);
    CHECK_EQ(stat(path, &after), 0);
    CHECK_EQ(after.st_size, before.st_size);
    CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    CHECK_OK(db_put(w.db, "w0", 2, SYNA_TYPE_INT, &x, sizeof x, NULL, NULL));
    CHECK_OK(db_close(w.db));
}
