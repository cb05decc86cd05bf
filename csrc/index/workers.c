/* workers.c - a parallel loop. The rounds are handed out one by one from a counter; the calling thread
 * works too, and is the only one that reports progress. */
#include "base/internal.h"

#include "index/workers.h"

#define THREADS_MAX 64u
#define STEP_US 50000u

struct loop {
    workers_fn work;
    void *context;
    uint64_t rounds;
    uint64_t next;    /* atomic */
    bool stop;        /* atomic */
    pthread_mutex_t lock;
    syna_rc rc;       /* under lock: of the first failure */
    struct status_record why;
    bool (*step)(void *context, uint64_t done, uint64_t total);
    void *step_context;
};

struct worker {
    struct loop *loop;
    unsigned number;
    pthread_t thread;
};

static uint64_t ticks_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void fail(struct loop *loop, syna_rc rc)
{
    pthread_mutex_lock(&loop->lock);
    if (loop->rc == SYNA_SUCCESS) {
        loop->rc = rc;
        loop->why = *status_get();
    }
    pthread_mutex_unlock(&loop->lock);
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELAXED);
}

/* Only worker 0, the calling thread, has a step to make. */
static bool report(struct loop *loop, uint64_t done, uint64_t *asked_us)
{
    uint64_t now = ticks_us();
    if (now - *asked_us < STEP_US)
        return true;
    *asked_us = now;
    if (loop->step(loop->step_context, MIN(done, loop->rounds), loop->rounds))
        return true;
    fail(loop, syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED, "stopped by the progress callback"));
    return false;
}

static void run(struct worker *w)
{
    struct loop *loop = w->loop;
    uint64_t asked_us = ticks_us();
    while (!__atomic_load_n(&loop->stop, __ATOMIC_RELAXED)) {
        uint64_t i = __atomic_fetch_add(&loop->next, 1, __ATOMIC_RELAXED);
        if (i >= loop->rounds)
            return;
        syna_rc rc = loop->work(loop->context, w->number, i);
        if (rc != SYNA_SUCCESS) {
            fail(loop, rc);
            return;
        }
        if (w->number == 0 && loop->step && !report(loop, i + 1, &asked_us))
            return;
    }
}

static void *thread_main(void *context)
{
    run(context);
    return NULL;
}

syna_rc workers_run(unsigned threads, uint64_t rounds, workers_fn work, void *context,
                    bool (*step)(void *context, uint64_t done, uint64_t total), void *step_context)
{
    struct worker workers[THREADS_MAX];
    struct loop loop = {.work = work, .context = context, .rounds = rounds, .rc = SYNA_SUCCESS,
                        .step = step, .step_context = step_context};
    unsigned started = 1;
    pthread_mutex_init(&loop.lock, NULL);
    threads = (unsigned)MIN(MAX((uint64_t)MIN(threads, THREADS_MAX), 1u), MAX(rounds, 1u));
    for (unsigned t = 0; t < threads; t++)
        workers[t] = (struct worker){.loop = &loop, .number = t};
    while (started < threads &&
           pthread_create(&workers[started].thread, NULL, thread_main, &workers[started]) == 0)
        started++;
    run(&workers[0]);
    for (unsigned t = 1; t < started; t++)
        pthread_join(workers[t].thread, NULL);
    pthread_mutex_destroy(&loop.lock);
    return loop.rc == SYNA_SUCCESS ? SYNA_SUCCESS : status_set(&loop.why);
}

unsigned workers_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return MIN(MAX((unsigned)CPU_COUNT(&set), 1u), THREADS_MAX);
}
