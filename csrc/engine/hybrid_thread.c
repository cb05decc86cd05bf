/* hybrid_thread.c - promotions by themselves: a thread that waits until the hot layer has so many rows. It is
 * started by the first ingest that finds that many, so small stores have none.
 *
 * It works a twentieth of the time, so that ingests and searches hardly feel it, and without a pause when
 * the hot layer has grown to several times what it should have. What it cannot do it tries again when an
 * eighth more rows have come. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

#include <signal.h>

#define DUTY 20u          /* pauses for 19 times what a step took */
#define HURRY 4u          /* times the rows from which it works */
#define NAP_US 20000u     /* how soon it notices that it is to end */
#define LESS_IMPORTANT 5  /* added to the nice value */

void promoter_init(struct promoter *p)
{
    *p = (struct promoter){0};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
}

void promoter_set(struct promoter *p, uint64_t rows)
{
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->rows, rows, __ATOMIC_RELAXED);
    p->next = rows;
    pthread_mutex_unlock(&p->lock);
}

static bool is_stopped(struct promoter *p)
{
    return __atomic_load_n(&p->stop, __ATOMIC_ACQUIRE);
}

/* ---------------------------------------------------------------- one promotion */

static int32_t ask_stop(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return is_stopped(context);
}

static void pause_for(void *context, uint64_t took_us)
{
    syna_layers *store = context;
    uint64_t rows = __atomic_load_n(&store->promoter.rows, __ATOMIC_RELAXED);
    for (uint64_t left = took_us * (DUTY - 1); left > 0 && !is_stopped(&store->promoter);) {
        uint32_t nap = (uint32_t)MIN(left, (uint64_t)NAP_US);
        if (rows == 0 || gwi_count(store->hot) / HURRY >= rows)
            return;
        syna_vfs->pause_us(nap);
        left -= nap;
    }
}

static void work(syna_layers *store)
{
    struct promoter *p = &store->promoter;
    struct hybrid_pace pace = {pause_for, store};
    size_t moved;
    syna_rc rc = hybrid_promote_at(store, ask_stop, p, &pace, &moved);
    uint64_t hot = gwi_count(store->hot);
    pthread_mutex_lock(&p->lock);
    uint64_t rows = __atomic_load_n(&p->rows, __ATOMIC_RELAXED);
    p->next = rc == SYNA_SUCCESS ? rows : MAX(rows, hot + rows / 8);
    p->wanted |= rc == SYNA_SUCCESS && moved > 0 && rows > 0 && hot >= rows; /* came meanwhile */
    pthread_mutex_unlock(&p->lock);
}

/* ---------------------------------------------------------------- the thread */

/* Searches and writers come first. On Linux both calls mean this thread and those that it starts. */
static void step_back(void)
{
#ifdef __linux__
    struct sched_param none = {0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
    int given = nice(LESS_IMPORTANT); /* not given: it runs as it is */
    (void)given;
#endif
}

static bool wait_for_work(struct promoter *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->wanted && !is_stopped(p))
        pthread_cond_wait(&p->moved, &p->lock);
    p->wanted = false;
    pthread_mutex_unlock(&p->lock);
    return !is_stopped(p);
}

static void *promoter_main(void *context)
{
    syna_layers *store = context;
    step_back();
    while (wait_for_work(&store->promoter))
        work(store);
    return NULL;
}

/* Signals are for the threads of the program. p->lock is held. */
static void start(syna_layers *store)
{
    struct promoter *p = &store->promoter;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    p->started = pthread_create(&p->thread, NULL, promoter_main, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void promoter_wake(syna_layers *store)
{
    struct promoter *p = &store->promoter;
    uint64_t rows = __atomic_load_n(&p->rows, __ATOMIC_RELAXED);
    if (rows == 0)
        return;
    uint64_t hot = gwi_count(store->hot);
    if (hot < rows)
        return;
    pthread_mutex_lock(&p->lock);
    if (p->rows && hot >= p->next && !p->wanted && !is_stopped(p)) {
        if (!p->started)
            start(store);
        p->wanted = true;
        pthread_cond_signal(&p->moved);
    }
    pthread_mutex_unlock(&p->lock);
}

void promoter_stop(struct promoter *p)
{
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
    pthread_cond_signal(&p->moved);
    bool started = p->started;
    p->started = false;
    pthread_mutex_unlock(&p->lock);
    if (started)
        pthread_join(p->thread, NULL);
}

void promoter_dispose(struct promoter *p)
{
    promoter_stop(p);
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
}

void promoter_forget(struct promoter *p)
{
    promoter_init(p);
    p->stop = true;
}
