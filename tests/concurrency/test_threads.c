/* T11: threads, to be run under TSan as well. Writers with and without sync, readers, scans,
 * flushes and compactions on one handle; closing while calls are under way. Every value carries its
 * number and a checksum. Times are short because TSan makes them long; CHECK_SCALE stretches them.
 */
#include "check.h"

#include "api/handles.h"
#include "base/crc32c.h"

enum { WRITERS = 4, READERS = 3, THREADS = WRITERS + READERS + 3, MILLISECONDS = 1500 };

struct team {
    const char *path;
    uint64_t written[WRITERS]; /* atomic: acknowledged by each writer */
    uint64_t begun[WRITERS];   /* atomic */
    uint64_t reads, closed;    /* atomic */
    int stop;                  /* atomic */
    bool closing;              /* the handle may be closed under the threads */
};

struct member {
    struct team *team;
    int number;
};

static bool stopped(const struct team *t)
{
    return __atomic_load_n(&t->stop, __ATOMIC_ACQUIRE) != 0;
}

/* ---------------------------------------------------------------- values */

struct value32 {
    uint64_t number;
    uint32_t writer, sum;
    uint64_t filler[2];
};

static struct value32 value_of(int writer, uint64_t number)
{
    struct value32 v = {
        .number = number, .writer = (uint32_t)writer, .filler = {~number, number * 3}};
    v.sum = crc32c(9, &v, sizeof v);
    return v;
}

static uint64_t check_value(const void *data, size_t len, int writer)
{
    struct value32 v;
    CHECK_EQ(len, sizeof v);
    memcpy(&v, data, sizeof v);
    struct value32 want = value_of(writer, v.number);
    CHECK_MEM(&v, &want, sizeof v);
    return v.number;
}

static size_t key_of(int writer, char key[16])
{
    return (size_t)snprintf(key, 16, "writer-%d", writer);
}

/* ---------------------------------------------------------------- the members */

/* The handle for one call, or NULL when it has been closed. */
static syna_db *enter(struct team *t)
{
    syna_rc code = SYNA_SUCCESS;
    syna_db *db = handles_enter(t->path, &code);
    if (!db) {
        CHECK(t->closing);
        CHECK_EQ(code, SYNA_ERR_DB_NOT_FOUND);
        __atomic_fetch_add(&t->closed, 1, __ATOMIC_RELAXED);
    }
    return db;
}

static void write_one(struct team *t, syna_db *db, int writer, uint64_t number)
{
    struct value32 v = value_of(writer, number);
    char key[16];
    size_t key_len = key_of(writer, key);
    __atomic_store_n(&t->begun[writer], number, __ATOMIC_RELEASE);
    if (number % 8 == 7) {
        syna_batch *batch;
        double x = (double)number;
        CHECK_OK(db_batch_new(db, &batch));
        CHECK_OK(db_batch_put(batch, key, key_len, SYNA_TYPE_BYTES, &v, sizeof v, NULL));
        CHECK_OK(db_batch_put(batch, "numbers", 7, SYNA_TYPE_FLOAT, &x, sizeof x, NULL));
        CHECK_OK(db_batch_commit(batch));
        db_batch_free(batch);
    } else {
        CHECK_OK(db_put(db, key, key_len, SYNA_TYPE_BYTES, &v, sizeof v, NULL, NULL));
    }
    __atomic_store_n(&t->written[writer], number, __ATOMIC_RELEASE);
}

static void *writer_main(void *context)
{
    struct member *m = context;
    for (uint64_t number = 1; !stopped(m->team); number++) {
        syna_db *db = enter(m->team);
        if (!db)
            break;
        write_one(m->team, db, m->number, number);
        handles_leave(db);
    }
    return NULL;
}

/* What a writer had acknowledged before the read is there, and nothing that was not begun. */
static void read_one(struct team *t, syna_db *db, int writer)
{
    uint8_t value[64];
    size_t len = 0;
    int32_t type;
    char key[16];
    size_t key_len = key_of(writer, key);
    uint64_t low = __atomic_load_n(&t->written[writer], __ATOMIC_ACQUIRE);
    syna_rc rc = db_get(db, key, key_len, value, sizeof value, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND && low == 0)
        return;
    CHECK_OK(rc);
    uint64_t number = check_value(value, len, writer);
    CHECK(number >= low && number <= __atomic_load_n(&t->begun[writer], __ATOMIC_ACQUIRE));
    __atomic_fetch_add(&t->reads, 1, __ATOMIC_RELAXED);
}

static void *reader_main(void *context)
{
    struct member *m = context;
    for (int i = 0; !stopped(m->team); i++) {
        syna_db *db = enter(m->team);
        double numbers[64];
        size_t count;
        if (!db)
            break;
        read_one(m->team, db, i % WRITERS);
        if (i % 16 == 0)
            CHECK_OK(db_history_numbers(db, "numbers", 7, SYNA_TYPE_FLOAT,
                                        (uint64_t *)(void *)numbers, NULL, COUNT_OF(numbers),
                                        &count));
        handles_leave(db);
    }
    return NULL;
}

static void *scanner_main(void *context)
{
    struct member *m = context;
    while (!stopped(m->team)) {
        syna_db *db = enter(m->team);
        syna_scan *scan;
        syna_record r = {.size = sizeof r};
        if (!db)
            break;
        CHECK_OK(db_scan_new(db, "writer-", 7, NULL, 0, NULL, 0, SYNA_SCAN_VALUES, &scan));
        while (db_scan_next(scan, &r) == SYNA_SUCCESS)
            check_value(r.data, r.len, r.key[7] - '0');
        db_scan_free(scan);
        handles_leave(db);
        usleep(1000);
    }
    return NULL;
}

static void *keeper_main(void *context)
{
    struct member *m = context;
    for (int round = 0; !stopped(m->team); round++) {
        syna_db *db = enter(m->team);
        if (!db)
            break;
        if (m->number == 0)
            CHECK_OK(db_flush(db));
        else
            CHECK_OK(db_compact(db, round % 3 == 0 ? SYNA_COMPACT_LATEST : SYNA_COMPACT_HISTORY,
                                NULL, NULL));
        handles_leave(db);
        usleep(m->number == 0 ? 5000 : 60000);
    }
    return NULL;
}

/* ---------------------------------------------------------------- the team */

static void start(struct team *t, struct member *members, pthread_t *threads)
{
    for (int i = 0; i < THREADS; i++) {
        void *(*body)(void *) = i < WRITERS             ? writer_main
                                : i < WRITERS + READERS ? reader_main
                                : i == THREADS - 1      ? scanner_main
                                                        : keeper_main;
        members[i] = (struct member){t, i < WRITERS ? i : i - WRITERS - READERS};
        CHECK_EQ(pthread_create(&threads[i], NULL, body, &members[i]), 0);
    }
}

static void wait_ms(int64_t ms)
{
    for (; ms > 0; ms -= 10)
        usleep(10000);
}

static void check_last_values(const struct team *t)
{
    syna_db *db;
    CHECK_OK(handles_open(t->path, NULL, &db));
    for (int w = 0; w < WRITERS; w++) {
        uint8_t value[64];
        size_t len = 0;
        int32_t type;
        char key[16];
        size_t key_len = key_of(w, key);
        if (t->written[w] == 0)
            continue;
        CHECK_OK(db_get(db, key, key_len, value, sizeof value, &len, &type));
        CHECK_EQ(check_value(value, len, w), t->written[w]);
    }
    CHECK_OK(handles_close(db));
}

static void work_together(uint8_t no_sync)
{
    struct team t = {.path = check_path("a.db")};
    syna_db_options options = {.size = sizeof options, .no_sync = no_sync};
    struct member members[THREADS];
    pthread_t threads[THREADS];
    uint64_t written = 0;
    syna_db *db;
    CHECK_OK(handles_open(t.path, &options, &db));
    start(&t, members, threads);
    wait_ms(check_rounds(MILLISECONDS));
    __atomic_store_n(&t.stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_OK(handles_close(db));
    for (int w = 0; w < WRITERS; w++)
        written += t.written[w];
    printf("%llu writes, %llu reads\n", (unsigned long long)written, (unsigned long long)t.reads);
    CHECK(written > 0 && t.reads > 0);
    check_last_values(&t);
}

TEST(P12_threads_write_read_scan_flush_and_compact_together)
{
    work_together(0);
}

TEST(P12_the_same_without_syncs)
{
    work_together(1);
}

TEST(P12_closing_waits_for_calls_and_later_calls_are_refused)
{
    const char *path = check_path("closing.db");
    for (int64_t round = 0; round < check_rounds(12); round++) {
        struct team t = {.path = path, .closing = true};
        syna_db_options options = {.size = sizeof options, .no_sync = 1};
        struct member members[THREADS];
        pthread_t threads[THREADS];
        syna_db *db;
        unlink(path);
        check_note("round %lld", (long long)round);
        CHECK_OK(handles_open(path, &options, &db));
        start(&t, members, threads);
        wait_ms((int64_t)(check_random() % 60));
        CHECK_OK(handles_close(db));
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL); /* each stops by itself: the handle is gone */
        CHECK(t.closed == THREADS);
        check_last_values(&t);
    }
}

/* ---------------------------------------------------------------- group commit */

enum { COMMITTERS = 8, COMMITS = 40 };

static void *committer_main(void *context)
{
    struct member *m = context;
    for (uint64_t n = 1; n <= COMMITS; n++) {
        syna_db *db = enter(m->team);
        CHECK_OK(db_put(db, "same key", 8, SYNA_TYPE_INT, &n, sizeof n, NULL, NULL));
        handles_leave(db);
    }
    return NULL;
}

/* Eight threads share syncs: there are fewer than commits, and every commit is in the history. */
TEST(P1_P12_commits_of_many_threads_share_their_syncs)
{
    struct team t = {.path = check_path("group.db")};
    struct member m = {&t, 0};
    pthread_t threads[COMMITTERS];
    syna_db_stats stats = {.size = sizeof stats};
    uint64_t bits[COMMITTERS * COMMITS], sum = 0;
    size_t count;
    syna_db *db;
    CHECK_OK(handles_open(t.path, NULL, &db));
    for (int i = 0; i < COMMITTERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, committer_main, &m), 0);
    for (int i = 0; i < COMMITTERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_OK(db_get_stats(db, &stats));
    CHECK_OK(
        db_history_numbers(db, "same key", 8, SYNA_TYPE_INT, bits, NULL, COUNT_OF(bits), &count));
    CHECK_OK(handles_close(db));
    CHECK_EQ(count, COMMITTERS * COMMITS);
    for (size_t i = 0; i < count; i++)
        sum += bits[i];
    CHECK_EQ(sum, (uint64_t)COMMITTERS * COMMITS * (COMMITS + 1) / 2);
    printf("%llu commits, %llu syncs\n", (unsigned long long)stats.commits,
           (unsigned long long)stats.syncs);
    CHECK_EQ(stats.commits, COMMITTERS * COMMITS);
    CHECK(stats.syncs <= stats.commits);
}
