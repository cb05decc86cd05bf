/* T3: a child writes and reports each acknowledged operation over a pipe; the parent kills it at a
 * random moment with SIGKILL, opens the database and compares: everything acknowledged is there,
 * and at most one operation more. The page cache survives such a kill, so this says nothing about
 * syncs (that is T1); it is what users do. */
#include "check.h"

#include "script.h"

#include <poll.h>
#include <signal.h>

enum { KILLS = 10, KILLS_PER_FILE = 5, CHILDREN = 2 };

struct variant {
    const char *name;
    uint8_t kinds[8];
    size_t kind_count;
    uint8_t open_how;
    int children;
};

/* ---------------------------------------------------------------- the child */

/* Children of a shared log have keys of their own, so that each has a history of its own. */
static struct script_op op_of(const struct variant *v, uint64_t seed, int child, uint32_t id)
{
    struct script_op op = script_op_at(seed + (uint64_t)child, id, v->kinds, v->kind_count);
    if (v->children > 1)
        op.key = (uint8_t)(op.key % (SCRIPT_KEYS / CHILDREN) * CHILDREN + (unsigned)child);
    return op;
}

_Noreturn static void write_for_ever(const struct variant *v, const char *path, uint64_t seed,
                                     int child, uint32_t next, int pipe_end)
{
    struct script_run run = {.path = path};
    const struct script_op open_it = {.kind = DO_OPEN, .how = v->open_how};
    if (script_step(&run, &open_it) != SYNA_SUCCESS)
        _exit(1);
    for (;; next++) {
        struct script_op op = op_of(v, seed, child, next);
        if (script_step(&run, &op) != SYNA_SUCCESS) {
            fprintf(stderr, "operation %u: %s\n", next, status_get()->message);
            _exit(2);
        }
        if (write(pipe_end, &next, sizeof next) != sizeof next)
            _exit(3);
    }
}

struct child {
    pid_t pid;
    int pipe_end;
    uint32_t done; /* operations acknowledged or found, so far */
    struct script_model *model;
};

static void start(struct child *c, const struct variant *v, const char *path, uint64_t seed,
                  int number)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) {
        close(ends[0]);
        write_for_ever(v, path, seed, number, c->done + 1, ends[1]);
    }
    close(ends[1]);
    c->pipe_end = ends[0];
}

/* Kill it and read what it had acknowledged. */
static void finish(struct child *c)
{
    uint32_t id;
    int status;
    kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    while (read(c->pipe_end, &id, sizeof id) == sizeof id) {
        CHECK_EQ(id, c->done + 1);
        c->done = id;
    }
    close(c->pipe_end);
    CHECK(WIFSIGNALED(status));
}

/* ---------------------------------------------------------------- the parent */

static bool keys_agree(const struct script_state *got, const struct script_model *m, int child,
                       int children)
{
    struct script_state want;
    script_model_state(m, &want);
    for (uint32_t key = (uint32_t)child; key < SCRIPT_KEYS; key += (uint32_t)children) {
        struct script_key_state g = got->key[key];
        g.times = 0;
        if (memcmp(&g, &want.key[key], sizeof g) != 0)
            return false;
    }
    return true;
}

/* Move the model to what was acknowledged, and one further when that is what is there. */
static void compare(struct child *c, const struct variant *v, uint64_t seed, int number,
                    uint32_t from, const struct script_state *got)
{
    struct script_op op;
    for (uint32_t id = from + 1; id <= c->done; id++) {
        op = op_of(v, seed, number, id);
        script_model_step(c->model, &op);
    }
    if (keys_agree(got, c->model, number, v->children))
        return;
    op = op_of(v, seed, number, ++c->done);
    script_model_step(c->model, &op);
    check_note("%s: neither %u nor %u operations (seed %llu)", v->name, c->done - 1, c->done,
               (unsigned long long)seed);
    CHECK(keys_agree(got, c->model, number, v->children));
}

static void read_after_kill(const struct variant *v, const char *path, struct script_state *got)
{
    struct script_run run = {.path = path};
    const struct script_op open_it = {.kind = DO_OPEN, .how = v->open_how & OPEN_SHARED};
    syna_check found = {.size = sizeof found};
    CHECK_OK(db_verify(path, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 0);
    CHECK_OK(script_step(&run, &open_it));
    CHECK_OK(script_read(run.db[0], got));
    script_stop(&run);
}

/* patient: not before the first child has acknowledged something, however slow the machine is. */
static uint64_t kill_once(const struct variant *v, const char *path, uint64_t seed,
                          struct child *children, bool patient)
{
    struct script_state got;
    uint32_t from[CHILDREN];
    uint64_t acked = 0;
    for (int i = 0; i < v->children; i++) {
        from[i] = children[i].done;
        start(&children[i], v, path, seed, i);
    }
    struct pollfd first = {.fd = children[0].pipe_end, .events = POLLIN};
    if (patient)
        CHECK_EQ(poll(&first, 1, 60000), 1);
    usleep((useconds_t)(check_random() % 40000));
    for (int i = 0; i < v->children; i++) {
        if (i > 0) /* the other writer of a shared log goes on without it */
            usleep((useconds_t)(check_random() % 10000));
        finish(&children[i]);
    }
    if (access(path, F_OK) != 0) { /* killed before the file had its name */
        CHECK_EQ(children[0].done, 0);
        return 0;
    }
    read_after_kill(v, path, &got);
    for (int i = 0; i < v->children; i++) {
        acked += children[i].done - from[i];
        compare(&children[i], v, seed, i, from[i], &got);
    }
    return acked;
}

static void kill_and_compare(const struct variant *v)
{
    uint64_t acked = 0, kills = 0;
    const char *path = check_path("kill.db");
    for (int64_t file = 0; file < check_rounds(KILLS) / KILLS_PER_FILE + 1; file++) {
        struct child children[CHILDREN] = {{0}};
        uint64_t seed = check_random();
        unlink(path); /* a key checkpoint of the file before may stay: it must not be believed */
        for (int i = 0; i < v->children; i++)
            children[i].model = script_model_new();
        for (int i = 0; i < KILLS_PER_FILE; i++, kills++) {
            check_note("%s, file seed %llu, kill %d", v->name, (unsigned long long)seed, i);
            acked += kill_once(v, path, seed, children, i % 2 == 1);
        }
        for (int i = 0; i < v->children; i++)
            script_model_free(children[i].model);
    }
    printf("%s: %llu kills, %llu operations acknowledged, 0 lost\n", v->name,
           (unsigned long long)kills, (unsigned long long)acked);
    CHECK(acked > 0);
}

TEST(P1_P2_kills_while_every_write_is_synced)
{
    kill_and_compare(&(struct variant){
        "synced", {DO_PUT, DO_PUT, DO_PUT, DO_DELETE, DO_APPEND, DO_BLOB}, 6, 0, 1});
}

TEST(P1_P2_kills_without_syncs_lose_nothing)
{
    kill_and_compare(&(struct variant){
        "unsynced", {DO_PUT, DO_PUT, DO_PUT, DO_DELETE, DO_APPEND, DO_FLUSH}, 6, OPEN_NO_SYNC, 1});
}

TEST(P3_kills_leave_batches_whole)
{
    kill_and_compare(&(struct variant){"batches", {DO_BATCH, DO_BLOB}, 2, OPEN_NO_SYNC, 1});
}

TEST(P3_kills_while_compacting)
{
    kill_and_compare(&(struct variant){
        "compacting",
        {DO_PUT, DO_PUT, DO_APPEND, DO_APPEND, DO_BLOB, DO_DELETE, DO_PUT, DO_COMPACT},
        8,
        OPEN_NO_SYNC,
        1});
}

TEST(P1_P9_kills_of_two_writers_of_a_shared_log)
{
    kill_and_compare(
        &(struct variant){"shared", {DO_PUT, DO_PUT, DO_APPEND}, 3, OPEN_SHARED, CHILDREN});
}
