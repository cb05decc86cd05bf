/* T10: processes. One writer that compacts now and then, eight readers that refresh, and others
 * that try to write as well. Every value carries its number and a checksum; number n goes to key n
 * % KEYS, so that a reader can tell a prefix of the writer's work (P10) from anything else. */
#include "check.h"

#include "base/crc32c.h"
#include "engine/db.h"

#include <signal.h>
#include <sys/mman.h>

enum { KEYS = 10, READERS = 8, SECONDS = 10, OPENERS = 8, OPENING_ROUNDS = 25 };

/* Shared between the processes of a test. */
struct board {
    uint64_t written, reads, refreshed, refused; /* atomic */
    int stop;                                    /* atomic */
};

static struct board *new_board(void)
{
    void *p =
        mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static bool stopped(const struct board *b)
{
    return __atomic_load_n(&b->stop, __ATOMIC_ACQUIRE) || getppid() == 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---------------------------------------------------------------- self-checking values */

static size_t make_value(uint64_t n, uint8_t out[256])
{
    size_t len = 12 + (size_t)(n * 7 % 200);
    memcpy(out, &n, sizeof n);
    for (size_t i = 12; i < len; i++)
        out[i] = (uint8_t)(n + i);
    uint32_t sum = crc32c(crc32c(7, out, 8), out + 12, len - 12);
    memcpy(out + 8, &sum, sizeof sum);
    return len;
}

static uint64_t check_value(const uint8_t *value, size_t len)
{
    uint64_t n;
    uint32_t sum;
    CHECK(len >= 12 && len <= 256);
    memcpy(&n, value, sizeof n);
    memcpy(&sum, value + 8, sizeof sum);
    CHECK_EQ(sum, crc32c(crc32c(7, value, 8), value + 12, len - 12));
    return n;
}

static void key_of(uint64_t n, char out[8])
{
    snprintf(out, 8, "k%llu", (unsigned long long)(n % KEYS));
}

static void put_number(syna_db *db, uint64_t n)
{
    uint8_t value[256];
    char key[8];
    key_of(n, key);
    CHECK_OK(
        db_put(db, key, strlen(key), SYNA_TYPE_BYTES, value, make_value(n, value), NULL, NULL));
}

/* ---------------------------------------------------------------- one writer, many readers */

struct job {
    const char *path;
    struct board *board;
};

static void write_and_compact(const struct job *job)
{
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    syna_db *db;
    double last = now();
    CHECK_OK(db_open(job->path, &options, &db));
    for (uint64_t n = 0; !stopped(job->board); n++) {
        put_number(db, n);
        __atomic_store_n(&job->board->written, n + 1, __ATOMIC_RELEASE);
        if (n % 64 == 0)
            usleep(200); /* two processors serve nine processes */
        if (now() - last > 0.4) {
            last = now();
            CHECK_OK(db_compact(db, n / 64 % 4 == 0 ? SYNA_COMPACT_LATEST : SYNA_COMPACT_HISTORY,
                                NULL, NULL));
        }
    }
    CHECK_OK(db_close(db));
}

/* The highest number in the view, which must be a prefix of what the writer wrote. */
static uint64_t check_view(syna_db *db)
{
    uint64_t numbers[KEYS], highest = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        uint8_t value[256];
        size_t len;
        int32_t type;
        char key[8];
        key_of(k, key);
        syna_rc rc = db_get(db, key, strlen(key), value, sizeof value, &len, &type);
        numbers[k] = UINT64_MAX;
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            continue;
        CHECK_OK(rc);
        numbers[k] = check_value(value, len);
        CHECK_EQ(numbers[k] % KEYS, k);
        highest = MAX(highest, numbers[k] + 1);
    }
    for (uint64_t back = 1; back <= MIN(highest, (uint64_t)KEYS); back++)
        CHECK_EQ(numbers[(highest - back) % KEYS], highest - back);
    return highest;
}

static void read_and_refresh(const struct job *job, bool no_mmap)
{
    syna_db_options options = {.size = sizeof options, .read_only = 1, .no_mmap = no_mmap};
    uint64_t seen = 0;
    syna_db *db;
    CHECK_OK(db_open(job->path, &options, &db));
    while (!stopped(job->board)) {
        bool changed;
        double start = now();
        uint64_t floor = __atomic_load_n(&job->board->written, __ATOMIC_ACQUIRE);
        CHECK_OK(db_refresh(db, &changed));
        uint64_t highest = check_view(db);
        CHECK(highest >= seen && highest >= floor);
        CHECK(now() - start < 5); /* readers never wait for the writer */
        seen = highest;
        __atomic_fetch_add(&job->board->reads, KEYS, __ATOMIC_RELAXED);
        __atomic_fetch_add(&job->board->refreshed, changed, __ATOMIC_RELAXED);
    }
    CHECK_OK(db_close(db));
}

static void try_to_write_too(const struct job *job)
{
    while (!stopped(job->board)) {
        syna_db *db;
        double start = now();
        CHECK_FAILS(db_open(job->path, NULL, &db), SYNA_ERR_IO, SYNA_WHY_LOCKED);
        CHECK(now() - start < 2);
        __atomic_fetch_add(&job->board->refused, 1, __ATOMIC_RELAXED);
        usleep(20000);
    }
}

static pid_t spawn(const struct job *job, int number)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (number == 0)
        write_and_compact(job);
    else if (number <= READERS)
        read_and_refresh(job, number % 2 == 0);
    else
        try_to_write_too(job);
    fflush(NULL);
    _exit(0);
}

static int reap(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

TEST(P9_P10_readers_see_prefixes_beside_a_writer_that_compacts)
{
    struct job job = {check_path("a.db"), new_board()};
    pid_t pids[READERS + 2];
    pids[0] = spawn(&job, 0);
    while (__atomic_load_n(&job.board->written, __ATOMIC_ACQUIRE) == 0 &&
           waitpid(pids[0], NULL, WNOHANG) == 0)
        usleep(1000);
    for (int i = 1; i < READERS + 2; i++)
        pids[i] = spawn(&job, i);
    for (int64_t ms = check_rounds(SECONDS * 1000); ms > 0; ms -= 10)
        usleep(10000);
    __atomic_store_n(&job.board->stop, 1, __ATOMIC_RELEASE);
    int bad = 0;
    for (int i = READERS + 1; i >= 0; i--)
        bad += reap(pids[i]) != 0;
    printf(
        "%llu written, %llu read by %d readers, %llu refreshes with news, %llu writers refused\n",
        (unsigned long long)job.board->written, (unsigned long long)job.board->reads, READERS,
        (unsigned long long)job.board->refreshed, (unsigned long long)job.board->refused);
    CHECK_EQ(bad, 0);
    CHECK(job.board->refreshed > READERS && job.board->refused > 0);
    munmap(job.board, sizeof *job.board);
}

/* ---------------------------------------------------------------- many at once make the file */

static void open_and_put(const char *path, int number, int start)
{
    syna_db_options options = {.size = sizeof options, .shared = 1, .timeout_ms = 60000};
    char go;
    syna_db *db;
    CHECK_EQ(read(start, &go, 1), 0); /* all begin when the parent closes its end */
    CHECK_OK(db_open(path, &options, &db));
    for (int i = 0; i < 3; i++)
        put_number(db, (uint64_t)(number + i * KEYS));
    CHECK_OK(db_close(db));
}

static void open_at_once(const char *path)
{
    pid_t pids[OPENERS];
    int gate[2], bad = 0;
    CHECK_EQ(pipe(gate), 0);
    fflush(NULL);
    for (int i = 0; i < OPENERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            close(gate[1]);
            open_and_put(path, i, gate[0]);
            fflush(NULL);
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < OPENERS; i++)
        bad += reap(pids[i]) != 0;
    CHECK_EQ(bad, 0);
}

TEST(P1_P9_processes_that_create_the_same_file_at_once_all_find_their_writes)
{
    const char *path = check_path("many.db");
    for (int64_t round = 0; round < check_rounds(OPENING_ROUNDS); round++) {
        syna_db *db;
        unlink(path);
        open_at_once(path);
        CHECK_OK(db_open(path, NULL, &db));
        for (int i = 0; i < OPENERS; i++) {
            uint8_t value[256];
            size_t len;
            int32_t type;
            char key[8];
            key_of((uint64_t)i, key);
            check_note("round %lld, %s", (long long)round, key);
            CHECK_OK(db_get(db, key, strlen(key), value, sizeof value, &len, &type));
            CHECK_EQ(check_value(value, len), (uint64_t)(i + 2 * KEYS));
        }
        CHECK_OK(db_close(db));
    }
}
