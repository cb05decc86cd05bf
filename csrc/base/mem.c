/* The one file that calls the heap, and the system's calls for memory that is no file's. A size of 0 is
 * asked for as 1, so that NULL always means failure.
 *
 * With SYNA_TESTING every allocation first asks the test's hook, and blocks are counted, so that tests
 * can make any allocation fail and see every block come back. */
#define SYNA_MAY_CALL_HEAP
#define SYNA_MAY_CALL_KERNEL
#include "base/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <sys/mman.h>

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

/* In front of an aligned block stands the address that mem_alloc gave. */
void *mem_alloc_aligned(size_t bytes, size_t align)
{
    size_t extra = sizeof(void *) + align;
    uint8_t *block = bytes < SIZE_MAX - extra ? mem_alloc(bytes + extra) : NULL;
    if (!block)
        return NULL;
    size_t skip = sizeof(void *) + (align - 1 - ((uintptr_t)block + sizeof(void *) + align - 1) % align);
    memcpy(block + skip - sizeof(void *), &block, sizeof block);
    return block + skip;
}

void mem_free_aligned(void *block)
{
    void *given;
    if (!block)
        return;
    memcpy(&given, (uint8_t *)block - sizeof(void *), sizeof given);
    mem_free(given);
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

/* ---------------------------------------------------------------- memory that grows where it is */

#define HUGE_PAGE ((size_t)2 << 20)
#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0
#endif

/* More than asked for is taken and the ends are given back, so that the start is aligned. */
void *mem_space_reserve(size_t bytes)
{
    if (bytes > SIZE_MAX - 2 * HUGE_PAGE || !allowed(bytes))
        return NULL;
    bytes = (bytes + MEM_PAGE - 1) & ~(MEM_PAGE - 1);
    uint8_t *at = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - ((uintptr_t)at & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    if (before)
        munmap(at, before);
    if (before < HUGE_PAGE)
        munmap(at + before + bytes, HUGE_PAGE - before);
    return count(at + before);
}

bool mem_space_commit(void *at, size_t bytes)
{
    if (!allowed(bytes) || mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0)
        return false;
#if defined(MADV_HUGEPAGE)
    (void)madvise(at, bytes, MADV_HUGEPAGE); /* may be refused */
#endif
    return true;
}

void mem_space_release(void *at, size_t bytes)
{
    if (!at)
        return;
    munmap(at, (bytes + MEM_PAGE - 1) & ~(MEM_PAGE - 1));
    count_free();
}
