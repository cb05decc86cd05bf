/* Mapped regions that grow without moving.
 *
 *   1. Address space is reserved ahead of the file; pages of the file are put into it one after the
 *      other and never taken out, so a pointer stays valid as long as the map.
 *   2. When the file outgrows the reservation a larger one is made and filled, then `base` is
 *      published with a release store. The old one is kept, mapped to the same file.
 *   3. Only pages that the file has are mapped, so no access below `len` can raise SIGBUS while
 *      nobody truncates the file.
 *
 * In copy mode the same holds for blocks of heap: an outgrown block is kept until dispose. */
#include "base/internal.h"

#include "base/mem.h"
#include "io/map.h"

#define RESERVE_LEAST ((size_t)1 << 30)
#define RESERVE_TIMES 4u
#define COPY_LEAST ((size_t)64 << 10)

struct map_retired {
    struct map_retired *next;
    void *base;
    size_t reserved;
};

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t round_up(size_t len)
{
    size_t page = page_size();
    return (len + page - 1) & ~(page - 1);
}

void map_init(struct map *m, bool writable, bool copy)
{
    *m = (struct map){.writable = writable, .copy = copy};
}

static void release(const struct map *m, void *base, size_t reserved)
{
    if (m->copy)
        mem_free(base);
    else
        syna_vfs->unmap(base, reserved);
}

/* Make `base` the place of the map; the one before it is kept for those who read there. `node` was
 * allocated ahead, so that this cannot fail. */
static void publish(struct map *m, uint8_t *base, size_t reserved, struct map_retired *node)
{
    if (m->base) {
        *node = (struct map_retired){m->retired, (void *)(uintptr_t)m->base, m->reserved};
        m->retired = node;
        map_let_go(m); /* its pages are in the new one, too */
    } else {
        mem_free(node);
    }
    m->reserved = reserved;
    __atomic_store_n(&m->base, base, __ATOMIC_RELEASE);
}

/* ---------------------------------------------------------------- mapping */

/* As much address space as the system gives, at least `least`. */
static void *reserve(size_t least, size_t *reserved)
{
    size_t want = least > SIZE_MAX / 8 ? least : MAX(RESERVE_LEAST, least * RESERVE_TIMES);
    for (;; want = MAX(least, round_up(want / 2))) {
        void *base = syna_vfs->reserve(want);
        if (base || want == least) {
            *reserved = want;
            return base;
        }
    }
}

/* Huge pages spare a look-up most of its TLB misses (random reads of a 128 MiB file: 228 against 157
 * ns), but a cold read then fetches one whole: so only for files that will stay in memory. */
static size_t huge_page_limit(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) / 8 * page_size();
}

static syna_rc map_pages(const struct map *m, const struct file *f, uint8_t *base, size_t from,
                         size_t to)
{
    int rc = syna_vfs->map(base + from, f->fd, from, to - from, m->writable, true);
    if (rc == -ENOMEM)
        return syna_no_memory(to - from);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, f->path, (int64_t)from, -rc,
                            "cannot be mapped");
    if (m->writable || to <= huge_page_limit())
        syna_vfs->advise(base + from, to - from, VFS_HUGE);
    return SYNA_SUCCESS;
}

static syna_rc move_to_larger(struct map *m, const struct file *f, size_t pages)
{
    struct map_retired *node = mem_alloc(sizeof *node);
    if (!node)
        return syna_no_memory(sizeof *node);
    size_t reserved;
    uint8_t *base = reserve(pages, &reserved);
    syna_rc rc = base ? map_pages(m, f, base, 0, pages) : syna_no_memory(pages);
    if (rc == SYNA_SUCCESS) {
        publish(m, base, reserved, node);
        return SYNA_SUCCESS;
    }
    if (base)
        syna_vfs->unmap(base, reserved);
    mem_free(node);
    return rc;
}

static syna_rc grow_mapping(struct map *m, const struct file *f, size_t len)
{
    size_t have = round_up(m->len), pages = round_up(len);
    if (pages > m->reserved)
        return move_to_larger(m, f, pages);
    if (pages > have)
        return map_pages(m, f, (uint8_t *)(uintptr_t)m->base, have, pages);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- copying */

static syna_rc grow_copy(struct map *m, const struct file *f, size_t len)
{
    if (len <= m->reserved)
        return file_read_exactly(f, m->len, (uint8_t *)(uintptr_t)m->base + m->len, len - m->len);

    size_t room = MAX(COPY_LEAST, MAX(len, m->reserved * 2));
    struct map_retired *node = mem_alloc(sizeof *node);
    uint8_t *block = node ? mem_alloc(room) : NULL;
    if (!block) {
        mem_free(node);
        return syna_no_memory(room);
    }
    if (m->len)
        memcpy(block, m->base, m->len);
    syna_rc rc = file_read_exactly(f, m->len, block + m->len, len - m->len);
    if (rc != SYNA_SUCCESS) {
        mem_free(block);
        mem_free(node);
        return rc;
    }
    publish(m, block, room, node);
    return SYNA_SUCCESS;
}

void map_fill(struct map *m, uint64_t offset, const void *bytes, size_t len)
{
    if (!m->copy || offset >= m->len)
        return;
    uint8_t *to = (uint8_t *)(uintptr_t)m->base + offset;
    len = MIN(len, m->len - (size_t)offset);
    if (bytes)
        memcpy(to, bytes, len);
    else
        memset(to, 0, len);
}

/* ---------------------------------------------------------------- both */

syna_rc map_grow(struct map *m, const struct file *f, uint64_t len)
{
    if (len <= m->len)
        return SYNA_SUCCESS;
    if (len > SIZE_MAX / 2)
        return syna_no_memory(SIZE_MAX);
    SYNA_TRY(m->copy ? grow_copy(m, f, (size_t)len) : grow_mapping(m, f, (size_t)len));
    __atomic_store_n(&m->len, (size_t)len, __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

void map_dispose(struct map *m)
{
    if (m->base)
        release(m, (void *)(uintptr_t)m->base, m->reserved);
    while (m->retired) {
        struct map_retired *old = m->retired;
        m->retired = old->next;
        release(m, old->base, old->reserved);
        mem_free(old);
    }
    map_init(m, m->writable, m->copy);
}

void map_let_go(const struct map *m)
{
    /* In this order: a base is never older than a length that was read before it. */
    size_t len = __atomic_load_n(&m->len, __ATOMIC_ACQUIRE);
    uint8_t *base = (uint8_t *)(uintptr_t)map_base(m);
    if (len > 0 && !m->copy)
        syna_vfs->advise(base, len, VFS_COLD);
}

/* Of the kernel's own on x86-64 and on aarch64 with pages of 4 KiB. */
#define HUGE_PAGE ((uintptr_t)2 << 20)

void map_advise_fresh(void *at, size_t len)
{
    uintptr_t from = ((uintptr_t)at + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t to = ((uintptr_t)at + len) / HUGE_PAGE * HUGE_PAGE;
    if (len >= 4 * HUGE_PAGE && to > from)
        syna_vfs->advise((void *)from, to - from, VFS_HUGE);
}
