/* The one file that calls the heap. A size of 0 is asked for as 1, so that NULL always means failure.
 *
 * With SYNA_TESTING every allocation first asks the test's hook, and blocks are counted, so that tests
 * can make any allocation fail and see every block come back. */
#define SYNA_MAY_CALL_HEAP
#include "base/internal.h"

#include "base/mem.h"

#include <stdlib.h>

#ifdef SYNA_TESTING
static mem_test_hook test_hook;
static void *test_context;
static int64_t live_blocks;

void syna_test_set_alloc(mem_test_hook hook, void *context)
{
    test_context = context;
    __atomic_store_n(&test_hook, hook, __ATOMIC_RELEASE);
}

int64_t syna_test_live_blocks(void)
{
    return __atomic_load_n(&live_blocks, __ATOMIC_ACQUIRE);
}

static bool allowed(size_t bytes)
{
    mem_test_hook hook = __atomic_load_n(&test_hook, __ATOMIC_ACQUIRE);
    return !hook || hook(test_context, bytes);
}

static void *count(void *block)
{
    if (block)
        __atomic_add_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
    return block;
}

static void count_free(void)
{
    __atomic_sub_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
}
#else
static inline bool allowed(size_t bytes)
{
    (void)bytes;
    return true;
}
static inline void *count(void *block)
{
    return block;
}
static inline void count_free(void) {}
#endif

void *mem_alloc(size_t bytes)
{
    return allowed(bytes) ? count(malloc(bytes ? bytes : 1)) : NULL;
}

void *mem_zalloc(size_t bytes)
{
    return allowed(bytes) ? count(calloc(1, bytes ? bytes : 1)) : NULL;
}

void *mem_resize(void *block, size_t bytes)
{
    if (!block)
        return mem_alloc(bytes);
    return allowed(bytes) ? realloc(block, bytes ? bytes : 1) : NULL;
}

void mem_free(void *block)
{
    if (!block)
        return;
    free(block);
    count_free();
}

char *mem_dup(const void *bytes, size_t len)
{
    char *copy = len < SIZE_MAX ? mem_alloc(len + 1) : NULL;
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, bytes, len);
    copy[len] = 0;
    return copy;
}
