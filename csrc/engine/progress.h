/* Progress of a long call: asks the caller's function whether to go on, at least every 50 ms of
 * work. The clock is looked at only every 64 KiB of work done, so a step costs next to nothing. */
#ifndef SYNA_ENGINE_PROGRESS_H
#define SYNA_ENGINE_PROGRESS_H

#include "base/status.h"
#include "io/vfs.h"

#define PROGRESS_EVERY_US 50000u
#define PROGRESS_LOOK_BYTES (64u << 10)

struct progress {
    syna_progress_fn ask; /* may be NULL */
    void *context;
    const char *what; /* for the message, e.g. "compaction" */
    uint64_t done, total;
    uint64_t asked_us;
    uint64_t unlooked; /* work since the clock was looked at */
};

/* Ask now, whatever the clock says. */
static inline syna_rc progress_ask(struct progress *p)
{
    if (!p->ask)
        return SYNA_SUCCESS;
    p->unlooked = 0;
    p->asked_us = syna_vfs->now_us();
    if (p->ask(p->context, MIN(p->done, p->total), p->total) == 0)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED, "%s: cancelled by its progress callback",
                     p->what);
}

/* `bytes` of work that does not count as progress. Fails with CANCELLED when the caller wants to stop. */
static inline syna_rc progress_tick(struct progress *p, uint64_t bytes)
{
    p->unlooked += bytes;
    if (!p->ask || p->unlooked < PROGRESS_LOOK_BYTES)
        return SYNA_SUCCESS;
    p->unlooked = 0;
    uint64_t now = syna_vfs->now_us();
    /* A clock that was set back must not silence the callback. */
    if (now >= p->asked_us && now - p->asked_us < PROGRESS_EVERY_US)
        return SYNA_SUCCESS;
    return progress_ask(p);
}

/* `bytes` more are done. */
static inline syna_rc progress_step(struct progress *p, uint64_t bytes)
{
    p->done += bytes;
    return progress_tick(p, bytes);
}

#endif
