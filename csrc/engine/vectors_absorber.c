/* vectors_absorber.c - the thread that keeps the graph up to date beside writers and searches.
 *
 * There is one only while there is work: a write that leaves some behind starts it, and it ends when
 * there is none. Everything it does is done under index_lock by vectors_upkeep, as a writer would do it; a
 * failure (memory, say) ends it, and the next write starts it again. Calls that need the graph to
 * themselves hold it: the work under way is given up at its next step, and none is begun.
 *
 *   idle --wake--> busy --no work, failure, hold--> idle
 *
 * `lock` is taken before every other lock of the store, and never while one of them is held. */
#include "base/internal.h"

#include "engine/vectors_core.h"

#include <signal.h>

#define LESS_IMPORTANT 5 /* added to the nice value */

void absorber_init(struct absorber *a, bool on)
{
    *a = (struct absorber){.on = on};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->idle, NULL);
}

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

/* Is there more to do? Decided under the lock, so that no write is left waiting for a thread that had
 * just made up its mind to end. */
static bool goes_on(syna_vectors *store, syna_rc rc)
{
    struct absorber *a = &store->absorber;
    pthread_mutex_lock(&a->lock);
    if (rc != SYNA_SUCCESS || a->holders > 0 || !vectors_needs_upkeep(store)) {
        a->busy = false;
        pthread_cond_broadcast(&a->idle);
    }
    bool more = a->busy;
    pthread_mutex_unlock(&a->lock);
    return more;
}

static void *absorber_main(void *context)
{
    syna_vectors *store = context;
    syna_rc rc = SYNA_SUCCESS;
    step_back();
    while (goes_on(store, rc)) {
        pthread_mutex_lock(&store->index_lock);
        rc = vectors_upkeep(store, &store->absorber.stop);
        pthread_mutex_unlock(&store->index_lock);
    }
    return NULL;
}

/* Signals are for the threads of the program. */
static bool start(syna_vectors *store)
{
    struct absorber *a = &store->absorber;
    sigset_t all, before;
    if (a->started)
        pthread_join(a->thread, NULL); /* it is not busy: it is ending, or has ended */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    a->started = a->busy = pthread_create(&a->thread, NULL, absorber_main, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return a->started;
}

bool absorber_wake(syna_vectors *store)
{
    struct absorber *a = &store->absorber;
    if (!a->on)
        return false;
    pthread_mutex_lock(&a->lock);
    bool taken = a->busy || a->holders > 0 || start(store);
    pthread_mutex_unlock(&a->lock);
    return taken;
}

void absorber_hold(syna_vectors *store)
{
    struct absorber *a = &store->absorber;
    pthread_mutex_lock(&a->lock);
    a->holders++;
    __atomic_store_n(&a->stop, true, __ATOMIC_RELAXED);
    while (a->busy)
        pthread_cond_wait(&a->idle, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

void absorber_release(syna_vectors *store)
{
    struct absorber *a = &store->absorber;
    pthread_mutex_lock(&a->lock);
    if (--a->holders == 0)
        __atomic_store_n(&a->stop, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&a->lock);
}

void absorber_resume(syna_vectors *store)
{
    absorber_release(store);
    if (vectors_needs_upkeep(store)) /* what was given up */
        absorber_wake(store);
}

void absorber_dispose(syna_vectors *store)
{
    struct absorber *a = &store->absorber;
    absorber_hold(store);
    if (a->started)
        pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->idle);
    pthread_mutex_destroy(&a->lock);
}
