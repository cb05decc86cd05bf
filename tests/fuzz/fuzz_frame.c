/* Frames on any bytes: walked as a scan does, from each place that parses to the next. The first
 * byte chooses whether each frame gets the checksum that it would need. A good frame, taken apart
 * and put together again, must give the same bytes. */
#include "base/internal.h"

#include "store/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t uuid[16] = {1, 2, 3};

static void check_good(const struct frame *f, const uint8_t *bytes, uint64_t avail, uint32_t seed)
{
    struct buf again = {0};
    if (f->len > avail || f->key + f->key_len != f->value ||
        f->value + f->value_len + FRAME_CRC_BYTES != bytes + f->len ||
        frame_length(bytes) != f->len)
        __builtin_trap();
    if (!frame_append(&again, f->key, f->key_len, f->flags, f->value, f->value_len))
        __builtin_trap();
    if (frame_seal(again.bytes, f->offset, f->stamp, 0, seed) != f->crc || again.len != f->len ||
        memcmp(again.bytes, bytes, again.len) != 0)
        __builtin_trap();
    buf_dispose(&again);
}

/* Where a frame seems to begin, give it its checksum if all of it is there. */
static void mend(uint8_t *bytes, uint64_t avail, uint64_t offset, uint32_t seed)
{
    if (avail < FRAME_HEADER_BYTES)
        return;
    if (load_u32(bytes + FRAME_AT_VAL_LEN) >= FRAME_CRC_BYTES && frame_length(bytes) <= avail)
        frame_seal(bytes, offset, load_u64(bytes), 0, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t len = size - 1;
    uint8_t *copy =
        mem_alloc(len); /* not a byte more, so that a sanitizer sees one read too much */
    if (!copy)
        return 0;
    memcpy(copy, data + 1, len);
    uint32_t seed = frame_seed(uuid);
    for (uint64_t at = 0; at < len;) {
        struct frame f;
        uint8_t *bytes = copy + at;
        uint64_t avail = len - at;
        if (data[0] & 1)
            mend(bytes, avail, at, seed);
        enum frame_state state = frame_parse(bytes, avail, at, seed, &f);
        if (state == FRAME_GOOD)
            check_good(&f, bytes, avail, seed);
        if (state == FRAME_ZERO) /* then every beginning is zeros too */
            if (frame_parse(bytes, avail / 2, at, seed, &f) != FRAME_ZERO)
                __builtin_trap();
        if (state == FRAME_ZERO || state == FRAME_SHORT)
            break;
        at += state == FRAME_GOOD ? f.len : 1;
    }
    mem_free(copy);
    return 0;
}
