/* Column blocks on any bytes. The first byte chooses: the rest is a block to decode, or numbers to
 * encode. Whatever was decoded must come back from its own encoding, bit for bit, from the wide and
 * from the plain path. */
#include "base/internal.h"

#include "store/column.h"
#include "store/column_bits.h"
#include <synadb/kv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct numbers {
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX], events[COLUMN_MAX];
};

static bool decode(const struct column_source *from, struct numbers *to, bool wide)
{
    bits_test_force(wide ? -1 : 0);
    syna_rc rc = column_decode(from, to->bits, to->stamps, to->events);
    bits_test_force(-1);
    if (rc != SYNA_SUCCESS && rc != SYNA_ERR_SERIALIZATION)
        __builtin_trap();
    return rc == SYNA_SUCCESS;
}

static void check_equal(const struct numbers *a, const struct numbers *b, size_t count)
{
    if (memcmp(a->bits, b->bits, 8 * count) || memcmp(a->stamps, b->stamps, 8 * count) ||
        memcmp(a->events, b->events, 8 * count))
        __builtin_trap();
}

/* Stamps must not decrease. */
static void check_again(int32_t type, const struct numbers *n, size_t count)
{
    static struct numbers back;
    struct buf b = {0};
    if (!column_encode(type, n->bits, n->stamps, n->events, count, &b))
        __builtin_trap();
    struct column_source from = {b.bytes, b.len, 0, "again", 0};
    struct column_info info;
    if (column_peek(&from, &info) != SYNA_SUCCESS || info.count != count || info.type != type)
        __builtin_trap();
    for (int wide = 0; wide <= 1; wide++) {
        if (!decode(&from, &back, wide))
            __builtin_trap();
        check_equal(&back, n, count);
    }
    if (b.len > 3 * (8 * count + 64))
        __builtin_trap();
    buf_dispose(&b);
}

static void fuzz_block(const uint8_t *data, size_t size)
{
    static struct numbers plain, wide;
    struct column_source from = {data, size, 99, "fuzz", 0};
    struct column_info info;
    if (column_peek(&from, &info) != SYNA_SUCCESS)
        return;
    bool good = decode(&from, &plain, false);
    if (good != decode(&from, &wide, true))
        __builtin_trap();
    if (!good)
        return;
    check_equal(&plain, &wide, info.count);
    if (plain.bits[info.count - 1] != info.last_bits)
        __builtin_trap();
    check_again(info.type, &plain, info.count);
}

static void fuzz_numbers(int32_t type, const uint8_t *data, size_t size)
{
    static struct numbers n;
    size_t count = MIN(size / 8, (size_t)COLUMN_MAX);
    if (count == 0)
        return;
    memcpy(n.bits, data, 8 * count);
    for (size_t i = 0; i < count; i++) {
        n.events[i] = n.bits[count - 1 - i] >> 3;
        n.stamps[i] = (i ? n.stamps[i - 1] : 0) + (n.bits[i] >> 56);
    }
    check_again(type, &n, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] % 3 == 0)
        fuzz_block(data + 1, size - 1);
    else
        fuzz_numbers(data[0] % 3 == 1 ? SYNA_TYPE_FLOAT : SYNA_TYPE_INT, data + 1, size - 1);
    return 0;
}
