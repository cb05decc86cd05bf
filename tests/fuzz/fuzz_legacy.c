/* Files of the ancestor on any bytes: frames without checksums, then their values. What value_peek
 * says of a value and what value_decode finds must be the same. */
#include "base/internal.h"

#include "base/utf8.h"
#include "store/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const struct frame *f, struct buf *scratch)
{
    struct value decoded, seen;
    if (value_decode(f, "fuzz", scratch, &decoded) != SYNA_SUCCESS) {
        (void)value_peek(f, "fuzz", &seen);
        return;
    }
    if (value_peek(f, "fuzz", &seen) != SYNA_SUCCESS || seen.type != decoded.type ||
        seen.len != decoded.len)
        __builtin_trap();
    bool number = decoded.type == SYNA_TYPE_FLOAT || decoded.type == SYNA_TYPE_INT;
    if (number != (seen.data != NULL) || (number && memcmp(seen.data, decoded.data, 8) != 0))
        __builtin_trap();
    if (decoded.type == SYNA_TYPE_TEXT && !utf8_valid(decoded.data, decoded.len))
        __builtin_trap();
    if (decoded.type > SYNA_TYPE_VECTOR || decoded.expires_us || decoded.event_us)
        __builtin_trap(); /* the old format had none of these */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf scratch = {0};
    for (uint64_t at = 0; at < size;) {
        struct frame f;
        enum frame_state state = frame_parse_legacy(data + at, size - at, at, &f);
        if (state == FRAME_GOOD) {
            if (f.len > size - at || f.key_len == 0 || !utf8_valid(f.key, f.key_len))
                __builtin_trap();
            check_value(&f, &scratch);
        }
        if (state == FRAME_ZERO || state == FRAME_SHORT)
            break;
        at += state == FRAME_GOOD ? f.len : 1;
    }
    buf_dispose(&scratch);
    return 0;
}
