/* Compaction beside readers, writers and other processes. */
#include "db_dump.h"

struct beside {
    syna_db *db;
    int index;
    bool *stop;
    int64_t last[8]; /* acknowledged value of each key; atomic */
    bool failed;
};

static void *write_beside(void *context)
{
    struct beside *b = context;
    for (int64_t n = 1; !__atomic_load_n(b->stop, __ATOMIC_RELAXED) && !b->failed; n++) {
        char key[32];
        int i = (int)(n % 8);
        key_of(key, b->index, i);
        if (n % 64 == 0)
            usleep(500); /* the test is about overlap, not about load */
        if (n % 50 == 0) {
            b->failed |= db_delete(b->db, key, strlen(key), NULL) != SYNA_SUCCESS;
            __atomic_store_n(&b->last[i], 0, __ATOMIC_RELEASE);
        } else {
            b->failed |= db_put(b->db, key, strlen(key), SYNA_TYPE_INT, &n, 8, NULL, NULL) !=
                         SYNA_SUCCESS;
            __atomic_store_n(&b->last[i], n, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

/* Values of a key never go back while it is read, whatever is swapped underneath. */
static void *read_beside(void *context)
{
    struct beside *b = context;
    int64_t seen[8] = {0};
    uint64_t state = (uint64_t)b->index;
    while (!__atomic_load_n(b->stop, __ATOMIC_RELAXED) && !b->failed) {
        char key[32];
        uint64_t bits;
        int i = (int)(rng_next(&state) % 8);
        key_of(key, b->index, i);
        syna_rc rc = db_get_number(b->db, key, strlen(key), SYNA_TYPE_INT, &bits);
        if (rc == SYNA_SUCCESS) {
            b->failed |= (int64_t)bits < seen[i];
            seen[i] = (int64_t)bits;
        } else {
            b->failed |= rc != SYNA_ERR_KEY_NOT_FOUND;
        }
    }
    return NULL;
}

static void acknowledged_is_there(syna_db *db, const struct beside *writers)
{
    for (int w = 0; w < 2; w++)
        for (int i = 0; i < 8; i++) {
            char key[32];
            key_of(key, w, i);
            if (writers[w].last[i])
                CHECK_EQ(int_of(db, key), writers[w].last[i]);
            else
                CHECK(!has(db, key));
        }
}

TEST(P3_P12_readers_and_writers_go_on_beside_compactions)
{
    for (int sync = 0; sync < 2; sync++) {
        bool stop = false;
        syna_db *db = open_with("a.db", (syna_db_options){.no_sync = !sync});
        struct beside all[4];
        pthread_t threads[4];
        memset(all, 0, sizeof all);
        for (int i = 0; i < 4; i++) {
            all[i] = (struct beside){.db = db, .index = i % 2, .stop = &stop};
            CHECK_EQ(pthread_create(&threads[i], NULL, i < 2 ? write_beside : read_beside, &all[i]), 0);
        }
        for (int64_t i = 0; i < check_rounds(30); i++) {
            compact(db, i % 3 == 0 ? SYNA_COMPACT_HISTORY : SYNA_COMPACT_LATEST);
            usleep(2000);
        }
        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(!all[i].failed);
        }
        acknowledged_is_there(db, all);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = fast("a.db");
        acknowledged_is_there(db, all);
        CHECK_OK(db_close(db));
        unlink(check_path("a.db"));
    }
}

static void *compact_some(void *context)
{
    for (int i = 0; i < 5; i++)
        if (db_compact(context, i % 2, NULL, NULL) != SYNA_SUCCESS)
            return context;
    return NULL;
}

TEST(compactions_of_one_handle_wait_for_each_other)
{
    syna_db *db = fast("a.db");
    pthread_t threads[3];
    for (int i = 0; i < 2000; i++)
        put_int(db, "k", i);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, compact_some, db), 0);
    for (int i = 0; i < 3; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(!failed);
    }
    CHECK_EQ(stats_of(db).generation, 16);
    CHECK_EQ(int_of(db, "k"), 1999);
    CHECK_OK(db_close(db));
}

TEST(P10_readers_keep_their_view_until_they_refresh)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    put_int(db, "gone", 1);
    syna_db *beside = reader("a.db");
    bool changed;
    del(db, "gone");
    compact(db, SYNA_COMPACT_LATEST);
    put_int(db, "k", 2);
    CHECK_EQ(int_of(beside, "k"), 1);
    CHECK(has(beside, "gone"));
    CHECK_OK(db_refresh(beside, &changed));
    CHECK(changed);
    CHECK_EQ(int_of(beside, "k"), 2);
    CHECK(!has(beside, "gone"));
    CHECK_OK(db_close(beside));
    CHECK_OK(db_close(db));
}

static void open_second(void *context)
{
    syna_db *db;
    syna_db_options options = {.size = sizeof options};
    CHECK_FAILS(db_open(context, &options, &db), SYNA_ERR_IO, SYNA_WHY_LOCKED);
}

TEST(P9_the_new_file_is_locked_from_its_first_moment_on)
{
    syna_db *db = fast("a.db");
    put_int(db, "k", 1);
    for (int i = 0; i < 3; i++) {
        compact(db, SYNA_COMPACT_LATEST);
        CHECK_EQ(check_child(open_second, (void *)(uintptr_t)check_path("a.db")), 0);
    }
    CHECK_OK(db_close(db));
}

/* ---- shared logs */

static void write_and_compact_shared(void *context)
{
    int me = *(int *)context;
    syna_db *db = open_with("a.db", (syna_db_options){.shared = 1, .no_sync = 1, .timeout_ms = 60000});
    for (int i = 0; i < 300; i++) {
        char key[32];
        key_of(key, me, i);
        put_int(db, key, i);
        if (i % 60 == 59) {
            syna_rc rc = db_compact(db, i % 120 == 59, NULL, NULL);
            /* Losing the race again and again is allowed, and says so. */
            CHECK(rc == SYNA_SUCCESS ||
                  (rc == SYNA_ERR_IO && status_get()->reason == SYNA_WHY_LOCKED));
        }
    }
    CHECK_OK(db_close(db));
}

TEST(P9_processes_that_share_a_log_compact_it_without_losing_anything)
{
    pid_t children[3];
    check_path("a.db"); /* one directory for all */
    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            write_and_compact_shared(&i);
            _exit(0);
        }
    }
    for (int i = 0; i < 3; i++) {
        int status;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, 0);
    }
    syna_db *db = fast("a.db");
    for (int me = 0; me < 3; me++)
        for (int i = 0; i < 300; i++) {
            char key[32];
            key_of(key, me, i);
            CHECK_EQ(int_of(db, key), i);
        }
    CHECK_OK(db_close(db));
    sound("a.db");
}
