/* rowfile_check.c - the CRCs of blocks: loaded on opening, compared when a block is first used.
 *
 * Two threads may check one block at the same time; both find the same, and the one that clears the
 * bit counts it. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/rowfile.h"

static syna_rc mismatch(const struct rowfile *rf, enum row_stream_kind stream, uint64_t block,
                        uint32_t found, uint32_t expected)
{
    uint64_t offset = stream_block_offset(&rf->streams[stream], block);
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rf->file.path, (int64_t)offset, 0,
                        "block of %s: checksum %08x, expected %08x",
                        stream == STREAM_ROWS ? "rows" : "records", found, expected);
}

uint32_t rowfile_tail_sum(const struct rowfile *rf, enum row_stream_kind stream, uint64_t end)
{
    uint64_t start = end / ROWFILE_BLOCK * ROWFILE_BLOCK;
    return start == end ? 0 : crc32c(0, rowfile_base(rf, stream) + start, (size_t)(end - start));
}

syna_rc rowfile_check_tail(const struct rowfile *rf, enum row_stream_kind stream,
                           const struct row_slot *slot)
{
    uint64_t end = slot_stream_bytes(slot, stream);
    uint32_t found = rowfile_tail_sum(rf, stream, end);
    return found == slot->tails[stream]
               ? SYNA_SUCCESS
               : mismatch(rf, stream, end / ROWFILE_BLOCK, found, slot->tails[stream]);
}

/* CRCs of consecutive blocks stand one behind the other within a segment. */
static syna_rc read_sums(const struct rowfile *rf, const struct row_stream *s, uint64_t from,
                         uint64_t to, uint32_t *sums)
{
    while (from < to) {
        uint64_t offset = stream_sum_offset(s, from), next = from + 1;
        while (next < to && stream_sum_offset(s, next) == offset + (next - from) * 4)
            next++;
        SYNA_TRY(file_read_exactly(&rf->file, offset, sums + from, (size_t)(next - from) * 4));
        from = next;
    }
    return SYNA_SUCCESS;
}

syna_rc rowfile_load_sums(struct rowfile *rf, enum row_stream_kind stream, uint64_t blocks)
{
    struct row_stream *s = &rf->streams[stream];
    if (blocks <= s->sum_count)
        return SYNA_SUCCESS;
    size_t words = (size_t)(blocks + 63) / 64, had = (size_t)(s->sum_count + 63) / 64;
    uint32_t *sums = mem_resize(s->sums, (size_t)blocks * sizeof *sums);
    if (!sums)
        return syna_no_memory((size_t)blocks * sizeof *sums);
    s->sums = sums;
    uint64_t *unchecked = mem_resize(s->unchecked, words * sizeof *unchecked);
    if (!unchecked)
        return syna_no_memory(words * sizeof *unchecked);
    s->unchecked = unchecked;
    memset(unchecked + had, 0, (words - had) * sizeof *unchecked);
    SYNA_TRY(read_sums(rf, s, s->sum_count, blocks, sums));
    for (uint64_t b = s->sum_count; b < blocks; b++)
        unchecked[b / 64] |= (uint64_t)1 << b % 64;
    __atomic_fetch_add(&s->waiting, blocks - s->sum_count, __ATOMIC_RELEASE);
    s->sum_count = blocks;
    return SYNA_SUCCESS;
}

static syna_rc check_block(struct rowfile *rf, enum row_stream_kind stream, uint64_t block)
{
    struct row_stream *s = &rf->streams[stream];
    uint64_t bit = (uint64_t)1 << block % 64, *word = &s->unchecked[block / 64];
    if (!(__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit))
        return SYNA_SUCCESS;
    const uint8_t *bytes = rowfile_base(rf, stream) + block * ROWFILE_BLOCK;
    uint32_t found = crc32c(0, bytes, ROWFILE_BLOCK);
    if (found != s->sums[block])
        return mismatch(rf, stream, block, found, s->sums[block]);
    if (__atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit)
        __atomic_fetch_sub(&s->waiting, 1, __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

syna_rc rowfile_touch_blocks(struct rowfile *rf, enum row_stream_kind stream, uint64_t from,
                             uint64_t to)
{
    const struct row_stream *s = &rf->streams[stream];
    uint64_t last = MIN((to + ROWFILE_BLOCK - 1) / ROWFILE_BLOCK, s->sum_count);
    for (uint64_t block = from / ROWFILE_BLOCK; block < last; block++)
        SYNA_TRY(check_block(rf, stream, block));
    return SYNA_SUCCESS;
}

syna_rc rowfile_record(const struct rowfile *rf, uint64_t at, struct row_record *out, uint64_t *next)
{
    uint64_t end = rowfile_record_bytes(rf);
    uint64_t len =
        at < end ? record_decode(rowfile_base(rf, STREAM_RECORDS) + at, end - at, out) : 0;
    if (len == 0)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rf->file.path,
                            (int64_t)rowfile_offset(rf, STREAM_RECORDS, at), 0,
                            "no record of sound structure begins here");
    *next = at + len;
    return SYNA_SUCCESS;
}
