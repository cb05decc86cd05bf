/* postings_scratch.c - what searches work in, kept from one to the next: about
 * a megabyte that is zero between windows is not to be allocated and cleared
 * for each query. As many pieces stay as searches ever ran at the same time. */
#include "base/internal.h"

#include "index/postings_core.h"

#define BLOCKS (ACCUMULATE_ROWS / ACCUMULATE_BLOCK)
#define GROUPS (ACCUMULATE_ROWS / ACCUMULATE_GROUP)
#define WORDS (POSTINGS_WINDOW / 64)

static void scratch_dispose(struct search_scratch *scratch)
{
    mem_free_aligned(scratch->sums);
    mem_free(scratch);
}

void search_scratch_free(struct search_scratch *scratch)
{
    for (struct search_scratch *next; scratch; scratch = next) {
        next = scratch->next;
        scratch_dispose(scratch);
    }
}

static syna_rc scratch_new(struct search_scratch **out)
{
    size_t sums = ACCUMULATE_ROWS * sizeof(uint16_t), scored = WORDS * sizeof(uint64_t);
    size_t found = ACCUMULATE_ROWS * sizeof(uint32_t), maxima = BLOCKS * sizeof(uint16_t);
    size_t bounds = GROUPS * sizeof(uint16_t);
    size_t bytes =
        sums + scored + found + maxima + bounds + SCORER_SLOTS_MAX * sizeof(struct query_slot);
    struct search_scratch *scratch = mem_zalloc(sizeof *scratch);
    uint8_t *block = scratch ? mem_alloc_aligned(bytes, 64) : NULL;
    if (!block) {
        mem_free(scratch);
        return syna_no_memory(bytes);
    }
    memset(block, 0, bytes);
    scratch->sums = (void *)block;
    scratch->scored = (void *)(block + sums);
    scratch->found = (void *)(block + sums + scored);
    scratch->maxima = (void *)(block + sums + scored + found);
    scratch->bounds = (void *)(block + sums + scored + found + maxima);
    scratch->slots = (void *)(block + sums + scored + found + maxima + bounds);
    *out = scratch;
    return SYNA_SUCCESS;
}

/* The pool has a lock of its own, so that searches may share the index. */
static struct postings *pool_of(const struct postings *p)
{
    return (struct postings *)(uintptr_t)p;
}

syna_rc scratch_take(const struct postings *p, struct search_scratch **out)
{
    struct postings *pool = pool_of(p);
    pthread_mutex_lock(&pool->idle_lock);
    *out = pool->idle;
    if (*out)
        pool->idle = (*out)->next;
    pthread_mutex_unlock(&pool->idle_lock);
    return *out ? SYNA_SUCCESS : scratch_new(out);
}

void scratch_give(const struct postings *p, struct search_scratch *scratch)
{
    struct postings *pool = pool_of(p);
    pthread_mutex_lock(&pool->idle_lock);
    scratch->next = pool->idle;
    pool->idle = scratch;
    pthread_mutex_unlock(&pool->idle_lock);
}
