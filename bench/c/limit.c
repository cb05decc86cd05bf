/* limit.c - what no group commit can pass on this disk and these processors: threads that write a
 * record and wait until it is synced, with nothing else to do. No checksum, no index, no queue, no
 * error that anybody could be told of.
 *
 * One thread syncs for all who have written (one sync at a time: each takes about as long as two at
 * once), after waiting up to half a sync for those who are still on their way. The others offer the
 * processor some times, which is quicker than sleeping, and then sleep. */
#include "limit.h"

#include "engine.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POLLS 20
#define ROOM ((size_t)1 << 26) /* written before the start: a sync then changes no metadata */

struct limit {
    int fd;
    pthread_mutex_t lock;
    char *record;
    size_t len, threads, commits;
    size_t written, durable, synced; /* records; `synced` is what the last sync began with */
    bool leading;
    int turn; /* counts syncs: what sleepers wait for */
    double sync_us;
};

static double clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static size_t write_record(struct limit *l)
{
    pthread_mutex_lock(&l->lock);
    off_t at = (off_t)(l->written * l->len % (ROOM - l->len));
    if (pwrite(l->fd, l->record, l->len, at) != (ssize_t)l->len)
        die("limit", "cannot write");
    size_t mine = __atomic_add_fetch(&l->written, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&l->lock);
    return mine;
}

static void wait_for_company(struct limit *l)
{
    double until = clock_us() + l->sync_us / 2;
    while (__atomic_load_n(&l->written, __ATOMIC_ACQUIRE) - l->synced < l->threads &&
           clock_us() < until)
        sched_yield();
}

static void sync_for_all(struct limit *l)
{
    wait_for_company(l);
    size_t end = l->synced = __atomic_load_n(&l->written, __ATOMIC_ACQUIRE);
    double start = clock_us();
    if (fdatasync(l->fd) != 0)
        die("limit", "cannot sync");
    l->sync_us = (3 * l->sync_us + clock_us() - start) / 4;
    __atomic_store_n(&l->durable, end, __ATOMIC_RELEASE);
    __atomic_store_n(&l->leading, false, __ATOMIC_RELEASE);
    __atomic_add_fetch(&l->turn, 1, __ATOMIC_SEQ_CST);
    if (l->threads > 1)
        syscall(SYS_futex, &l->turn, FUTEX_WAKE_PRIVATE, (int)l->threads, NULL, NULL, 0);
}

static void commit(struct limit *l)
{
    size_t mine = write_record(l);
    for (int polls = 0;; polls++) {
        int turn = __atomic_load_n(&l->turn, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&l->durable, __ATOMIC_ACQUIRE) >= mine)
            return;
        if (!__atomic_exchange_n(&l->leading, true, __ATOMIC_ACQ_REL)) {
            if (__atomic_load_n(&l->durable, __ATOMIC_ACQUIRE) < mine)
                sync_for_all(l);
            else
                __atomic_store_n(&l->leading, false, __ATOMIC_RELEASE);
        } else if (polls < POLLS) {
            sched_yield();
        } else {
            syscall(SYS_futex, &l->turn, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
        }
    }
}

static void *commit_all(void *context)
{
    struct limit *l = context;
    for (size_t i = 0; i < l->commits; i++)
        commit(l);
    return NULL;
}

static void commit_by(struct limit *l, size_t threads)
{
    pthread_t others[64];
    l->threads = threads;
    double start = clock_us();
    for (size_t i = 0; i < threads; i++)
        if (pthread_create(&others[i], NULL, commit_all, l) != 0)
            die("limit", "cannot start a thread");
    for (size_t i = 0; i < threads; i++)
        pthread_join(others[i], NULL);
    printf("{\"ops\": %zu, \"wall\": %.9f, \"cpu\": 0}\n", l->commits * threads,
           1e-6 * (clock_us() - start));
}

static void make_room(struct limit *l, const char *dir)
{
    char path[4096];
    store_path(path, sizeof path, dir, "limit");
    char *zeros = calloc(1, ROOM);
    l->fd = open(path, O_RDWR | O_CREAT, 0644);
    if (!zeros || l->fd < 0 || write(l->fd, zeros, ROOM) != (ssize_t)ROOM || fsync(l->fd) != 0)
        die(path, "cannot be filled");
    free(zeros);
}

void limit_durable(const char *dir, size_t commits, size_t value_len, size_t threads, size_t rounds)
{
    struct limit l = {.lock = PTHREAD_MUTEX_INITIALIZER, .commits = commits};
    if (threads > 64 || value_len > 4096)
        die("limit", "at most 64 threads and 4096 bytes");
    l.len = KEY_BYTES + value_len;
    l.record = calloc(1, l.len);
    make_room(&l, dir);
    for (size_t i = 0; i < rounds; i++) {
        commit_by(&l, 1);
        commit_by(&l, threads);
    }
    close(l.fd);
    free(l.record);
}
