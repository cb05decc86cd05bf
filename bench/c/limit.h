/* limit.h - what bounds durable commits where no database is at work. */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stddef.h>

/* `rounds` times: `commits` records of a key and `value_len` bytes by one thread, then as many by
 * each of `threads`, every one on disk before the next of its thread. A result for each turn. */
void limit_durable(const char *dir, size_t commits, size_t value_len, size_t threads, size_t rounds);

#endif
