/* The header block on any bytes. The first byte chooses whether they get the magic and the checksum
 * that they would need, so that the fields behind are reached. What decodes must say the same again
 * after it was encoded. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "store/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_decoded(const struct header *h, uint32_t kind)
{
    uint8_t bytes[HEADER_BYTES];
    struct header back;
    header_encode(h, bytes);
    if (header_decode(bytes, sizeof bytes, kind, "again", &back) != SYNA_SUCCESS)
        __builtin_trap();
    if (back.major != h->major || back.minor != h->minor || back.kind != kind ||
        memcmp(back.uuid, h->uuid, sizeof h->uuid) != 0 || back.generation != h->generation ||
        back.incompatible != h->incompatible || back.read_only != h->read_only ||
        back.compatible != h->compatible || back.created_us != h->created_us)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t bytes[HEADER_BYTES] = {0};
    bool mend = data[0] & 1;
    size_t len = MIN(size - 1, sizeof bytes);
    memcpy(bytes, data + 1, len);
    if (mend) {
        len = sizeof bytes;
        memcpy(bytes, HEADER_MAGIC, HEADER_MAGIC_BYTES);
        store_u32(bytes + HEADER_AT_CRC, crc32c(0, bytes, HEADER_AT_CRC));
    }
    struct header h;
    for (uint32_t kind = KIND_LOG; kind <= KIND_SNAPSHOT; kind++)
        if (header_decode(bytes, len, kind, "fuzz", &h) == SYNA_SUCCESS)
            check_decoded(&h, kind);
    return 0;
}
