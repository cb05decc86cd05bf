/* Value fields on any bytes; the first byte is the frame's flags. A value that decodes and passes
 * value_check comes back from its own encoding, compressed and not. */
#include "base/internal.h"

#include "store/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct value *a, const struct value *b)
{
    if (a->type != b->type || a->len != b->len || a->expires_us != b->expires_us ||
        a->event_us != b->event_us || (a->len && memcmp(a->data, b->data, a->len) != 0))
        __builtin_trap();
}

static void check_again(const struct value *v, bool compress)
{
    struct buf bytes = {0}, scratch = {0};
    struct value back, seen;
    uint8_t flags = 0;
    if (value_encode(v, compress, &bytes, &flags) != SYNA_SUCCESS)
        __builtin_trap();
    struct frame f = {
        .value = bytes.bytes, .value_len = (uint32_t)bytes.len, .flags = flags, .crc = 1};
    if (value_decode(&f, "again", &scratch, &back) != SYNA_SUCCESS ||
        value_peek(&f, "again", &seen) != SYNA_SUCCESS)
        __builtin_trap();
    check_same(&back, v);
    if (seen.type != v->type || seen.len != v->len)
        __builtin_trap();
    buf_dispose(&bytes);
    buf_dispose(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct buf scratch = {0};
    struct value v, seen;
    struct frame f = {.value = data + 1,
                      .value_len = (uint32_t)(size - 1),
                      .flags = data[0] & (FRAME_LZ4 | FRAME_EXT | FRAME_TOMBSTONE),
                      .crc = data[0] >> 7};
    syna_rc peeked = value_peek(&f, "fuzz", &seen);
    if (value_decode(&f, "fuzz", &scratch, &v) == SYNA_SUCCESS) {
        if (peeked != SYNA_SUCCESS || seen.type != v.type || seen.len != v.len ||
            seen.expires_us != v.expires_us || seen.event_us != v.event_us)
            __builtin_trap();
        if (v.len > 255 * size)
            __builtin_trap();
        if (value_check(&v) == SYNA_SUCCESS) {
            check_again(&v, false);
            check_again(&v, true);
        }
    }
    buf_dispose(&scratch);
    return 0;
}
