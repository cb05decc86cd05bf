/* Items that never move: address space is reserved once, as much as the items could ever need and the
 * machine could ever fill, and memory is put into it from the front. Address space costs nothing, but
 * it ends too (47 bits), so a reservation is never larger than the machine's memory; and where a process
 * is limited in it (RLIMIT_AS: ulimit -v, batch systems) never more than a part of that limit. */
#include "base/internal.h"

#include "base/mem.h"
#include "index/array.h"

#include <sys/resource.h>

#define RESERVE_LEAST ((size_t)16 << 20)
#define LIMIT_SHARE 32u /* a store has many arrays, and maps its files, too */
#define GROW_SHIFT 3 /* by an eighth */
#define HUGE_PAGE ((uint64_t)2 << 20)

static size_t machine_memory(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t most_bytes(void)
{
    struct rlimit limit;
    size_t most = machine_memory();
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        most = MIN(most, (size_t)limit.rlim_cur / LIMIT_SHARE);
    return MAX(most, RESERVE_LEAST);
}

static size_t round_up(size_t bytes)
{
    return (bytes + MEM_PAGE - 1) & ~(MEM_PAGE - 1);
}

syna_rc array_init_head(struct array *a, size_t item, size_t max, void *head, size_t count)
{
    *a = (struct array){.item = item, .head = head, .head_count = count, .cap = count};
    size_t most = most_bytes();
    size_t items = max - MIN(max, count);
    size_t want = items > most / item ? most : round_up(MAX(items * item, 1));
    for (;; want = round_up(want / 2)) {
        a->tail = mem_space_reserve(want);
        if (a->tail || want <= RESERVE_LEAST)
            break;
    }
    if (!a->tail)
        return syna_no_memory(want);
    a->reserved = want;
    return SYNA_SUCCESS;
}

syna_rc array_init(struct array *a, size_t item, size_t max)
{
    return array_init_head(a, item, max, NULL, 0);
}

void array_dispose(struct array *a)
{
    mem_space_release(a->tail, a->reserved);
    *a = (struct array){0};
}

/* Bytes of the tail that have memory: `cap` is rounded down to whole items, this up to pages again. */
static size_t committed(const struct array *a)
{
    return round_up((a->cap - a->head_count) * a->item);
}

syna_rc array_reserve(struct array *a, size_t count)
{
    if (count <= a->cap) {
        a->used = MAX(a->used, count);
        return SYNA_SUCCESS;
    }
    size_t have = committed(a), most = a->reserved / a->item;
    size_t need = count - a->head_count; /* cap, and so count, is above the head's */
    if (need > most)
        return syna_no_memory(need > SIZE_MAX / a->item ? SIZE_MAX : need * a->item);
    size_t wanted = MIN(most, MAX(need, a->cap - a->head_count + (a->cap >> GROW_SHIFT)));
    size_t bytes = MIN(round_up(wanted * a->item), a->reserved);
    if (!mem_space_commit(a->tail + have, bytes - have))
        return syna_no_memory(bytes - have);
    a->cap = a->head_count + bytes / a->item;
    a->used = count;
    return SYNA_SUCCESS;
}

uint64_t array_bytes(const struct array *a)
{
    uint64_t all = committed(a), page = all < HUGE_PAGE ? (uint64_t)sysconf(_SC_PAGESIZE) : HUGE_PAGE;
    uint64_t items = a->used > a->head_count ? (uint64_t)(a->used - a->head_count) * a->item : 0;
    return MIN(all, (items + page - 1) / page * page);
}
