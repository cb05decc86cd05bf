/* A loop whose rounds run on several threads. Threads live for one call only, so nothing of them is
 * left for a fork to break. */
#ifndef SYNA_INDEX_WORKERS_H
#define SYNA_INDEX_WORKERS_H

#include "base/status.h"

/* Run work(context, thread, i) for every i below `rounds`, thread being 0..threads-1: what a thread
 * writes must be its own or guarded. An error ends the loop early and is returned. `step` (may be
 * NULL) is called between rounds on the calling thread, about every 50 ms; false ends the loop with
 * CANCELLED. When threads cannot be had, fewer do the work. */
typedef syna_rc (*workers_fn)(void *context, unsigned thread, uint64_t i);
syna_rc workers_run(unsigned threads, uint64_t rounds, workers_fn work, void *context,
                    bool (*step)(void *context, uint64_t done, uint64_t total), void *step_context);

/* Processors this process may use, at least 1. */
unsigned workers_available(void);

#endif
