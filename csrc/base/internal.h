/* Included first by every .c file of the core: feature macros, the types and macros used
 * everywhere, and the poisoning that keeps heap calls in base/mem.c and system calls in
 * io/vfs_posix.c, so that fault injection covers everything by construction. */
#ifndef SYNA_BASE_INTERNAL_H
#define SYNA_BASE_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if !defined(SYNA_MAY_CALL_HEAP) || !defined(SYNA_MAY_CALL_KERNEL)
/* Headers that mention the poisoned names must come before the poison. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#endif

#include <synadb/base.h>

/* A status code: SYNA_SUCCESS or one of SYNA_ERR_*. */
typedef int32_t syna_rc;

/* Return from the enclosing function unless `call` succeeds. The only macro that hides a return. */
#define SYNA_TRY(call)                   \
    do {                                 \
        syna_rc try_rc_ = (call);        \
        if (try_rc_ != SYNA_SUCCESS)     \
            return try_rc_;              \
    } while (0)

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#ifndef SYNA_MAY_CALL_HEAP
#pragma GCC poison malloc calloc realloc free strdup strndup posix_memalign aligned_alloc
#endif
#ifndef SYNA_MAY_CALL_KERNEL
#pragma GCC poison open openat creat close read write pread pwrite pwritev preadv lseek fsync
#pragma GCC poison fdatasync ftruncate fallocate posix_fallocate mmap munmap msync mremap madvise
#pragma GCC poison rename link unlink stat fstat lstat fstatat fcntl flock mkdir opendir readdir
#pragma GCC poison fchmod fchown
#endif

#endif
