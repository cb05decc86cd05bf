/* rowfile_stream.c - a stream's segments, mapped end to end.
 *
 * Address space is reserved ahead and segments are put into it one behind the other. When the stream
 * outgrows it, a larger range gets all segments, `base` moves there with a release store, and the old
 * range stays mapped: a pointer into the stream is valid as long as the file is held. Both ranges show
 * the same pages. */
#include "base/internal.h"

#include "base/mem.h"
#include "store/rowfile.h"

#define RESERVE_LEAST ((uint64_t)1 << 30)
#define RESERVE_TIMES 4u

struct retired_range {
    struct retired_range *next;
    void *range;
    size_t reserved;
};

/* A byte stands as far behind a huge page's boundary in memory as in the file, or the kernel cannot map
 * large pages: storing fresh rows then takes fifteen times as long (measured on ext4, Linux 6.18). */
static uint64_t shift_of(const struct row_segment *first)
{
    return segment_offset(first) % ROWFILE_HUGE;
}

static uint64_t data_bytes(const struct row_segment *segment)
{
    return (uint64_t)segment_blocks(segment->units) * ROWFILE_BLOCK;
}

/* As much address space as the system gives, at least `least`. */
static void *reserve(uint64_t least, uint64_t *reserved)
{
    for (uint64_t want = MAX(RESERVE_LEAST, least * RESERVE_TIMES);; want = MAX(least, want / 2)) {
        want = want / ROWFILE_BLOCK * ROWFILE_BLOCK;
        void *base = want <= SIZE_MAX / 2 ? syna_vfs->reserve((size_t)want) : NULL;
        if (base || want == least) {
            *reserved = want;
            return base;
        }
    }
}

static syna_rc map_segment(uint8_t *at, const struct file *f, bool writable,
                           const struct row_segment *segment)
{
    size_t len = (size_t)data_bytes(segment);
    int rc = syna_vfs->map(at, f->fd, segment_offset(segment), len, writable, true);
    if (rc == -ENOMEM)
        return syna_no_memory(len);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, f->path, (int64_t)segment_offset(segment),
                            -rc, "cannot be mapped");
    if (writable) /* fewer, larger pages: storing rows is mostly the kernel's work on pages */
        syna_vfs->advise(at, len, VFS_HUGE);
    return SYNA_SUCCESS;
}

/* A range with room for `bytes`, all present segments in it; `first` is the first of them. */
static syna_rc move_to_larger(struct row_stream *s, const struct file *f, bool writable,
                              uint64_t bytes, const struct row_segment *first)
{
    struct retired_range *node = mem_alloc(sizeof *node);
    if (!node)
        return syna_no_memory(sizeof *node);
    uint64_t reserved, at = shift_of(first);
    uint8_t *range = reserve(bytes + at, &reserved);
    syna_rc rc = range ? SYNA_SUCCESS : syna_no_memory((size_t)bytes);
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < s->segment_count; i++) {
        rc = map_segment(range + at, f, writable, &s->segments[i]);
        at += data_bytes(&s->segments[i]);
    }
    if (rc != SYNA_SUCCESS) {
        if (range)
            syna_vfs->unmap(range, (size_t)reserved);
        mem_free(node);
        return rc;
    }
    if (s->range) {
        *node = (struct retired_range){s->retired, s->range, (size_t)s->reserved};
        s->retired = node;
    } else {
        mem_free(node);
    }
    s->range = range;
    s->reserved = reserved;
    __atomic_store_n(&s->base, range + shift_of(first), __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

syna_rc stream_add_segment(struct row_stream *s, const struct file *f, bool writable,
                           struct row_segment segment)
{
    uint64_t more = data_bytes(&segment);
    const struct row_segment *first = s->segment_count ? &s->segments[0] : &segment;
    if (shift_of(first) + s->room + more > s->reserved)
        SYNA_TRY(move_to_larger(s, f, writable, s->room + more, first));
    SYNA_TRY(map_segment(s->base + s->room, f, writable, &segment));
    s->segments[s->segment_count++] = segment;
    s->room += more;
    return SYNA_SUCCESS;
}

void stream_dispose(struct row_stream *s)
{
    if (s->range)
        syna_vfs->unmap(s->range, (size_t)s->reserved);
    while (s->retired) {
        struct retired_range *old = s->retired;
        s->retired = old->next;
        syna_vfs->unmap(old->range, old->reserved);
        mem_free(old);
    }
    mem_free(s->sums);
    mem_free(s->unchecked);
    memset(s, 0, sizeof *s);
}

/* The segment that holds a block, which becomes its number in it. */
static const struct row_segment *segment_of(const struct row_stream *s, uint64_t *block)
{
    const struct row_segment *segment = s->segments;
    while (*block >= segment_blocks(segment->units))
        *block -= segment_blocks(segment++->units);
    return segment;
}

uint64_t stream_place_for(const struct row_stream *s, uint64_t file_end, uint64_t bytes)
{
    if (bytes < ROWFILE_HUGE || s->segment_count == 0)
        return file_end;
    uint64_t wanted = shift_of(&s->segments[0]) + s->room;
    return file_end + (wanted - file_end) % ROWFILE_HUGE;
}

uint64_t stream_block_offset(const struct row_stream *s, uint64_t block)
{
    const struct row_segment *segment = segment_of(s, &block);
    return segment_offset(segment) + block * ROWFILE_BLOCK;
}

uint64_t stream_sum_offset(const struct row_stream *s, uint64_t block)
{
    const struct row_segment *segment = segment_of(s, &block);
    return segment_offset(segment) + data_bytes(segment) + block * 4;
}
