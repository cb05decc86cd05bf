/* The one place that allocates. With SYNA_TESTING a hook can make any call fail. */
#ifndef SYNA_BASE_MEM_H
#define SYNA_BASE_MEM_H

#include "base/internal.h"

/* NULL when there is no memory; the caller reports syna_no_memory(). Size 0 gives a valid pointer.
 * mem_free(NULL) is fine. */
void *mem_alloc(size_t bytes);
void *mem_zalloc(size_t bytes);
void *mem_resize(void *block, size_t bytes); /* on failure the old block stays */
void mem_free(void *block);
/* The block starts at a multiple of `align`, a power of two. Freed with mem_free_aligned only. */
void *mem_alloc_aligned(size_t bytes, size_t align);
void mem_free_aligned(void *block);
char *mem_dup(const void *bytes, size_t len); /* with a NUL behind it */

/* Memory that grows where it is. mem_space_reserve takes address space only, from a huge page's boundary;
 * mem_space_commit puts zeroed memory into [at, at + bytes) of it, page boundaries both; mem_space_release gives
 * all back. Huge pages are asked for. */
#define MEM_PAGE ((size_t)64 << 10) /* a multiple of every page size */
void *mem_space_reserve(size_t bytes);
bool mem_space_commit(void *at, size_t bytes);
void mem_space_release(void *at, size_t bytes); /* as reserved; NULL is fine */

#ifdef SYNA_TESTING
/* Called before each allocation with its size; return false to make it fail. NULL = off. */
typedef bool (*mem_test_hook)(void *context, size_t bytes);
SYNA_API void syna_test_set_alloc(mem_test_hook hook, void *context);
SYNA_API int64_t syna_test_live_blocks(void); /* allocated and not yet freed */
#endif

#endif
