/* Group commit under a disk that does what the test says: syncs that wait until everybody has
 * written, that fail, that are held while others come; clocks that stand still. What must hold: one
 * sync for a group, one for each commit of a lone writer, never two at once on one file; a failed
 * sync fails everyone who waited for it and nothing acknowledged is lost; nobody hangs. */
#include "check.h"

#include <semaphore.h>
#include <signal.h>

#include "engine/db_core.h"
#include "vfs_fault.h"

enum { THREADS = 8, FILES = 1024, LONGEST_WAIT_MS = 10000 };

/* ---------------------------------------------------------------- the disk */

static struct {
    int64_t syncs, overlaps, pauses, stores, writes; /* atomic, since begin() */
    int64_t inside[FILES];                           /* atomic: syncs running on this descriptor */
    int64_t fail_at;                                 /* this sync fails; 0 = none */
    bool fail_on;                                    /* and all after it */
    useconds_t slow_us;
    syna_db *gather;   /* a sync lasts until every running thread has a commit in its queue */
    int64_t running;   /* atomic */
    bool clock_stands; /* ticks pass by syncs only, or when a thread has ended */
    uint64_t clock;    /* atomic */
    bool hold;         /* atomic: syncs wait until it is false */
    int64_t held;      /* atomic: syncs that wait */
    bool watch_write;  /* a write lasts until `reads` is not 0 */
    int64_t in_write, reads, unread; /* atomic; unread: writes in which nobody could read */
} disk;

static struct vfs table;

#define READ(field) __atomic_load_n(&disk.field, __ATOMIC_ACQUIRE)
#define SET(field, value) __atomic_store_n(&disk.field, value, __ATOMIC_RELEASE)
#define ADD(field, value) __atomic_add_fetch(&disk.field, value, __ATOMIC_ACQ_REL)

static bool all_have_queued(void)
{
    return __atomic_load_n(&disk.gather->queued, __ATOMIC_RELAXED) >= (size_t)READ(running);
}

static bool nothing_is_held(void)
{
    return !READ(hold);
}

static bool somebody_read(void)
{
    return READ(reads) > 0;
}

static bool wait_until(bool (*reached)(void))
{
    for (int i = 0; i < LONGEST_WAIT_MS * 5; i++) {
        if (reached())
            return true;
        usleep(200);
    }
    return false;
}

static int disk_sync(vfs_fd fd)
{
    int64_t number = ADD(syncs, 1);
    if (ADD(inside[fd % FILES], 1) > 1)
        ADD(overlaps, 1);
    if (disk.gather)
        wait_until(all_have_queued);
    if (READ(hold)) {
        ADD(held, 1);
        wait_until(nothing_is_held);
        ADD(held, -1);
    }
    if (disk.slow_us)
        usleep(disk.slow_us);
    ADD(clock, 1000);
    bool fails = disk.fail_at && (number == disk.fail_at || (disk.fail_on && number > disk.fail_at));
    int rc = fails ? -EIO : vfs_posix.sync_data(fd);
    ADD(inside[fd % FILES], -1);
    return rc;
}

static int64_t disk_write(vfs_fd fd, const void *bytes, size_t len, uint64_t offset)
{
    ADD(writes, 1);
    if (disk.watch_write) {
        ADD(in_write, 1);
        if (!wait_until(somebody_read))
            ADD(unread, 1);
    }
    return vfs_posix.write_at(fd, bytes, len, offset);
}

static void disk_note_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    (void)fd, (void)offset, (void)bytes, (void)len;
    ADD(stores, 1);
}

static uint64_t disk_ticks(void)
{
    return disk.clock_stands ? READ(clock) : vfs_posix.ticks_us();
}

static void disk_pause(uint32_t us)
{
    ADD(pauses, 1);
    if (READ(running) < THREADS)
        ADD(clock, 1000);
    vfs_posix.pause_us(us);
}

static void begin(void)
{
    memset(&disk, 0, sizeof disk);
    table = vfs_posix;
    table.sync_data = disk_sync;
    table.write_at = disk_write;
    table.note_store = disk_note_store;
    table.ticks_us = disk_ticks;
    table.pause_us = disk_pause;
    syna_test_set_vfs(&table);
}

static void end(void)
{
    syna_test_set_vfs(NULL);
}

/* ---------------------------------------------------------------- databases */

static syna_db *open_with(const char *name, syna_db_options options)
{
    syna_db *db = NULL;
    options.size = sizeof options;
    CHECK_OK(db_open(check_path(name), &options, &db));
    return db;
}

static syna_db *durable(const char *name)
{
    return open_with(name, (syna_db_options){0});
}

static syna_rc try_put(syna_db *db, const char *key, uint64_t value)
{
    return db_put(db, key, strlen(key), SYNA_TYPE_INT, &value, sizeof value, NULL, NULL);
}

/* 0 when there is none. */
static uint64_t value_of(syna_db *db, const char *key)
{
    uint64_t bits = 0;
    syna_rc rc = db_get_number(db, key, strlen(key), SYNA_TYPE_INT, &bits);
    if (rc != SYNA_ERR_KEY_NOT_FOUND)
        CHECK_OK(rc);
    return bits;
}

static syna_db_stats stats_of(syna_db *db)
{
    syna_db_stats stats = {.size = sizeof stats};
    CHECK_OK(db_get_stats(db, &stats));
    return stats;
}

struct worker {
    syna_db *db;
    char key[8];
    uint64_t most;  /* puts to do */
    uint64_t acked; /* the last one that was acknowledged */
    syna_rc rc;
    int32_t reason;
    pthread_t thread;
};

/* Put 1, 2, 3 ... under a key of its own until refused. */
static void *put_main(void *context)
{
    struct worker *w = context;
    for (uint64_t n = 1; n <= w->most; n++) {
        w->rc = try_put(w->db, w->key, n);
        w->reason = status_get()->reason;
        if (w->rc != SYNA_SUCCESS)
            break;
        w->acked = n;
    }
    ADD(running, -1);
    return NULL;
}

static void start(struct worker *w, syna_db *db, int number, uint64_t most)
{
    *w = (struct worker){.db = db, .most = most};
    snprintf(w->key, sizeof w->key, "w%d", number);
    CHECK_EQ(pthread_create(&w->thread, NULL, put_main, w), 0);
}

static void start_all(struct worker *workers, syna_db *db, uint64_t most)
{
    SET(running, THREADS);
    for (int i = 0; i < THREADS; i++)
        start(&workers[i], db, i, most);
}

static void join_all(struct worker *workers, int count)
{
    for (int i = 0; i < count; i++)
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
}

static void check_values(syna_db *db, const struct worker *workers)
{
    for (int i = 0; i < THREADS; i++) {
        check_note("%s", workers[i].key);
        CHECK_EQ(value_of(db, workers[i].key), workers[i].acked);
    }
}

/* ---------------------------------------------------------------- groups */

TEST(P1_P12_eight_threads_share_one_sync_each_time)
{
    enum { EACH = 25 };
    struct worker workers[THREADS];
    begin();
    syna_db *db = durable("a.db");
    uint64_t before = stats_of(db).syncs;
    disk.clock_stands = true; /* so that the leader waits for company as long as it takes */
    disk.gather = db;
    start_all(workers, db, EACH);
    join_all(workers, THREADS);
    disk.gather = NULL;
    syna_db_stats after = stats_of(db);
    CHECK_EQ(after.commits, THREADS * EACH);
    /* The first sync may be for one commit only; from then on all eight are in every group, but in
     * the last ones, when the first have come to their end. (Two syncs a group would be 50.) */
    CHECK(after.syncs - before <= EACH + 1 + THREADS);
    CHECK_EQ(after.durable_bytes, after.file_bytes);
    check_values(db, workers);
    CHECK_OK(db_close(db));
    db = durable("a.db");
    check_values(db, workers);
    CHECK_OK(db_close(db));
    end();
}

TEST(P1_a_lone_writer_has_a_sync_for_each_commit_and_waits_for_nobody)
{
    begin();
    syna_db *db = durable("a.db");
    SET(running, THREADS);
    CHECK_OK(try_put(db, "k", 1));
    int64_t syncs = READ(syncs);
    for (uint64_t n = 2; n <= 60; n++)
        CHECK_OK(try_put(db, "k", n));
    CHECK_EQ(READ(syncs) - syncs, 59);
    CHECK_EQ(READ(pauses), 0);
    CHECK_OK(db_close(db));
    end();
}

TEST(P1_who_is_left_alone_by_the_others_waits_for_them_once)
{
    struct worker workers[THREADS];
    begin();
    syna_db *db = durable("a.db");
    disk.gather = db;
    start_all(workers, db, 5);
    join_all(workers, THREADS);
    disk.gather = NULL;
    CHECK_OK(try_put(db, "k", 1)); /* may hope for the seven others in vain */
    int64_t pauses = READ(pauses), syncs = READ(syncs);
    for (uint64_t n = 2; n <= 40; n++)
        CHECK_OK(try_put(db, "k", n));
    CHECK_EQ(READ(pauses), pauses);
    CHECK_EQ(READ(syncs) - syncs, 39);
    CHECK_OK(db_close(db));
    end();
}

TEST(readers_go_on_while_a_commit_is_being_written)
{
    struct worker w;
    begin();
    syna_db *db = durable("a.db");
    CHECK_OK(try_put(db, "k", 7));
    disk.watch_write = true;
    start(&w, db, 0, 1);
    while (READ(in_write) == 0)
        usleep(100);
    CHECK_EQ(value_of(db, "k"), 7);
    SET(reads, 1);
    join_all(&w, 1);
    CHECK_EQ(READ(unread), 0);
    disk.watch_write = false;
    CHECK_EQ(value_of(db, "w0"), 1);
    CHECK_OK(db_close(db));
    end();
}

TEST(synced_commits_are_written_and_not_stored_after_a_compaction_too)
{
    begin();
    syna_db *db = durable("a.db");
    for (int round = 0; round < 2; round++) {
        int64_t stores = READ(stores), writes = READ(writes);
        for (uint64_t n = 1; n <= 5; n++)
            CHECK_OK(try_put(db, "k", n));
        CHECK_EQ(READ(stores), stores);
        CHECK_EQ(READ(writes), writes + 5);
        CHECK_OK(db_compact(db, SYNA_COMPACT_LATEST, NULL, NULL));
    }
    CHECK_EQ(value_of(db, "k"), 5);
    CHECK_OK(db_close(db));
    end();
}

/* ---------------------------------------------------------------- beside others */

struct keeper {
    syna_db *db;
    int *stop;
    int kind;
    int64_t rounds;
    pthread_t thread;
};

static void keep(struct keeper *k)
{
    char path[256];
    if (k->kind < 2) {
        CHECK_OK(db_flush(k->db));
    } else if (k->kind == 2) {
        CHECK_OK(db_compact(k->db, k->rounds % 2 ? SYNA_COMPACT_LATEST : SYNA_COMPACT_HISTORY, NULL,
                            NULL));
    } else {
        snprintf(path, sizeof path, "%s.copy-%lld", db_path(k->db), (long long)k->rounds);
        CHECK_OK(db_backup(k->db, path, NULL, NULL));
        CHECK_EQ(unlink(path), 0);
    }
}

static void *keeper_main(void *context)
{
    struct keeper *k = context;
    do {
        keep(k);
        k->rounds++;
        usleep(1000);
    } while (!__atomic_load_n(k->stop, __ATOMIC_ACQUIRE));
    return NULL;
}

/* Two threads that flush, one that compacts, one that makes backups, and eight that commit. */
static void work_beside_keepers(syna_db_options options)
{
    enum { KEEPERS = 4 };
    struct worker workers[THREADS];
    struct keeper keepers[KEEPERS];
    int stop = 0;
    begin();
    disk.slow_us = 200; /* long enough for another sync to come in between */
    syna_db *db = open_with("a.db", options);
    start_all(workers, db, (uint64_t)check_rounds(options.no_sync ? 20000 : 150));
    for (int i = 0; i < KEEPERS; i++) {
        keepers[i] = (struct keeper){.db = db, .stop = &stop, .kind = i};
        CHECK_EQ(pthread_create(&keepers[i].thread, NULL, keeper_main, &keepers[i]), 0);
    }
    join_all(workers, THREADS);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < KEEPERS; i++)
        CHECK_EQ(pthread_join(keepers[i].thread, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(workers[i].acked, workers[i].most);
    CHECK_EQ(READ(overlaps), 0);
    check_values(db, workers);
    CHECK_OK(db_flush(db));
    CHECK(stats_of(db).durable_bytes + 64 >= stats_of(db).file_bytes); /* a mark may not be */
    CHECK_OK(db_close(db));
    db = durable("a.db");
    check_values(db, workers);
    CHECK_OK(db_close(db));
    end();
}

TEST(P8_P12_one_sync_at_a_time_beside_flushes_and_compactions)
{
    work_beside_keepers((syna_db_options){0});
}

TEST(P8_P12_the_same_where_only_flushes_sync)
{
    work_beside_keepers((syna_db_options){.no_sync = 1});
}

TEST(P8_P12_the_same_in_a_shared_log)
{
    work_beside_keepers((syna_db_options){.shared = 1});
}

/* ---------------------------------------------------------------- failing syncs */

/* The sync number `at` fails, and all later ones when `on`, while eight threads commit. */
static void fail_under_threads(syna_db_options options, int64_t at, bool on)
{
    struct worker workers[THREADS];
    char name[32];
    snprintf(name, sizeof name, "%lld-%d.db", (long long)at, on);
    check_note("%s", name);
    begin();
    syna_db *db = open_with(name, options);
    CHECK_OK(try_put(db, "before", 1));
    disk.fail_on = on;
    disk.slow_us = 100;
    disk.fail_at = READ(syncs) + at;
    start_all(workers, db, UINT64_MAX);
    join_all(workers, THREADS);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(workers[i].rc, SYNA_ERR_IO);
        CHECK_EQ(workers[i].reason, SYNA_WHY_SYNC_FAILED);
    }
    CHECK_EQ(READ(overlaps), 0);
    CHECK_FAILS(try_put(db, "after", 1), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    CHECK_FAILS(db_flush(db), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
    check_values(db, workers);
    CHECK_OK(db_close(db));
    disk.fail_at = 0;
    db = open_with(name, options);
    check_values(db, workers);
    CHECK_EQ(value_of(db, "before"), 1);
    CHECK_EQ(value_of(db, "after"), 0);
    CHECK_OK(try_put(db, "after", 2));
    CHECK_OK(db_close(db));
    end();
}

TEST(P8_a_failed_sync_fails_all_who_wait_and_takes_nothing_acknowledged)
{
    for (int64_t at = 1; at <= check_rounds(6); at++) {
        fail_under_threads((syna_db_options){0}, at, false);
        fail_under_threads((syna_db_options){0}, 2 * at, true);
    }
}

TEST(P8_the_same_in_a_shared_log)
{
    for (int64_t at = 1; at <= check_rounds(3); at++) {
        fail_under_threads((syna_db_options){.shared = 1}, at, false);
        fail_under_threads((syna_db_options){.shared = 1}, 2 * at, true);
    }
}

TEST(P8_the_same_without_mapping)
{
    fail_under_threads((syna_db_options){.no_mmap = 1}, 3, false);
}

/* ---------------------------------------------------------------- held syncs */

static void *compact_main(void *context)
{
    struct worker *w = context;
    w->rc = db_compact(w->db, SYNA_COMPACT_LATEST, NULL, NULL);
    w->reason = status_get()->reason;
    return NULL;
}

static bool one_is_held(void)
{
    return READ(held) == 1;
}

static syna_db *watched;

static bool writers_are_locked_out(void)
{
    if (pthread_mutex_trylock(&watched->write_lock) != 0)
        return true;
    pthread_mutex_unlock(&watched->write_lock);
    return false;
}

/* One commit is in its sync, a compaction waits for it with the write lock, a second commit waits for
 * that; then the sync ends. */
static void drain_behind_a_sync(bool fails)
{
    struct worker first, second, compaction = {0};
    begin();
    syna_db *db = watched = durable("a.db");
    CHECK_OK(try_put(db, "k", 1));
    SET(hold, true);
    disk.fail_at = fails ? READ(syncs) + 1 : 0;
    start(&first, db, 1, 1);
    CHECK(wait_until(one_is_held));
    compaction.db = db;
    CHECK_EQ(pthread_create(&compaction.thread, NULL, compact_main, &compaction), 0);
    CHECK(wait_until(writers_are_locked_out));
    start(&second, db, 2, 1);
    usleep(2000);
    CHECK_EQ(value_of(db, "k"), 1); /* readers wait for none of them */
    SET(hold, false);
    join_all(&first, 1);
    join_all(&second, 1);
    join_all(&compaction, 1);
    syna_rc want = fails ? SYNA_ERR_IO : SYNA_SUCCESS;
    CHECK_EQ(first.rc, want);
    CHECK_EQ(compaction.rc, want);
    CHECK_EQ(second.rc, want);
    if (fails) {
        CHECK_EQ(first.reason, SYNA_WHY_SYNC_FAILED);
        CHECK_EQ(compaction.reason, SYNA_WHY_SYNC_FAILED);
        CHECK_EQ(second.reason, SYNA_WHY_SYNC_FAILED);
    }
    CHECK_EQ(value_of(db, "k"), 1);
    CHECK_EQ(value_of(db, "w1"), first.acked);
    CHECK_EQ(value_of(db, "w2"), second.acked);
    CHECK_OK(db_close(db));
    db = durable("a.db");
    CHECK_EQ(value_of(db, "w1"), fails ? 0 : 1);
    CHECK_EQ(value_of(db, "w2"), fails ? 0 : 1);
    CHECK_OK(db_close(db));
    end();
}

TEST(P12_a_compaction_waits_for_the_commits_in_their_sync)
{
    drain_behind_a_sync(false);
}

TEST(P8_a_compaction_behind_a_sync_that_fails_fails_with_it)
{
    drain_behind_a_sync(true);
}

static void ignore_signal(int number)
{
    (void)number;
}

static bool all_but_the_leader_queued(void)
{
    return READ(held) == 1 && __atomic_load_n(&watched->queued, __ATOMIC_RELAXED) == THREADS;
}

TEST(P12_signals_neither_acknowledge_a_waiting_commit_nor_lose_its_wakeup)
{
    struct worker workers[THREADS];
    struct sigaction quiet = {.sa_handler = ignore_signal}, old; /* no SA_RESTART: calls see EINTR */
    CHECK_EQ(sigaction(SIGUSR1, &quiet, &old), 0);
    begin();
    syna_db *db = watched = durable("a.db");
    SET(hold, true);
    start_all(workers, db, 2);
    CHECK(wait_until(all_but_the_leader_queued));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_kill(workers[i].thread, SIGUSR1), 0);
        usleep(200);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(value_of(db, workers[i].key), 0); /* nothing is durable yet, so nothing shows */
    CHECK_EQ(READ(running), THREADS);
    SET(hold, false);
    join_all(workers, THREADS);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(workers[i].acked, 2);
    check_values(db, workers);
    CHECK_OK(db_close(db));
    sigaction(SIGUSR1, &old, NULL);
    end();
}

static void read_in_child(void *context)
{
    syna_db *db = context;
    alarm(60);
    CHECK_EQ(value_of(db, "k"), 1);
    CHECK_EQ(value_of(db, "w1"), 0);
    CHECK_FAILS(try_put(db, "k", 2), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_FAILS(db_flush(db), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_OK(db_close(db));
}

TEST(P11_a_fork_in_the_middle_of_a_group_leaves_parent_and_child_whole)
{
    struct worker first, second;
    begin();
    syna_db *db = watched = durable("a.db");
    CHECK_OK(try_put(db, "k", 1));
    SET(hold, true);
    start(&first, db, 1, 1);
    CHECK(wait_until(one_is_held));
    start(&second, db, 2, 1);
    while (__atomic_load_n(&db->queued, __ATOMIC_RELAXED) < 2)
        usleep(100);
    CHECK_EQ(check_child(read_in_child, db), 0);
    SET(hold, false);
    join_all(&first, 1);
    join_all(&second, 1);
    CHECK_EQ(first.acked + second.acked, 2);
    CHECK_EQ(value_of(db, "w1"), 1);
    CHECK_EQ(value_of(db, "w2"), 1);
    CHECK_OK(db_close(db));
    end();
}

/* What a commit was promised when it was appended holds for the index that takes the place of a damaged
 * one, too. */
TEST(P7_a_commit_in_its_sync_keeps_its_room_when_the_index_is_built_anew)
{
    struct worker w;
    begin();
    syna_db *db = watched = durable("a.db");
    SET(hold, true);
    start(&w, db, 1, 1);
    CHECK(wait_until(one_is_held));
    CHECK_OK(db_rebuild_index(db));
    fault_alloc(1, true);
    SET(hold, false);
    join_all(&w, 1);
    fault_alloc(0, false);
    CHECK_RC(w.rc, SYNA_SUCCESS);
    CHECK_EQ(value_of(db, "w1"), 1);
    CHECK_OK(db_close(db));
    end();
}
