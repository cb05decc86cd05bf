/* Packs of documents on any bytes: no document reaches beyond them, and those of a pack that is whole come back
 * from a pack that is made of them. */
#include "base/internal.h"

#include "engine/text_pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(const uint8_t *data, size_t size, const char *text, size_t len)
{
    const uint8_t *at = (const uint8_t *)text;
    return !text || (at >= data && at <= data + size && len <= (size_t)(data + size - at));
}

static void check_same(const syna_document *a, const syna_document *b)
{
    if (a->id_len != b->id_len || a->text_len != b->text_len || !a->metadata != !b->metadata ||
        a->metadata_len != b->metadata_len || memcmp(a->id, b->id, a->id_len) != 0 ||
        memcmp(a->text, b->text, a->text_len) != 0 ||
        (a->metadata && memcmp(a->metadata, b->metadata, a->metadata_len) != 0))
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pack again = {0};
    struct pack_reader from, back;
    syna_document d, e;
    size_t len;
    if (!pack_open(data, size, &from))
        return 0;
    while (pack_next(&from, &d)) {
        if (!within(data, size, d.id, d.id_len) || !within(data, size, d.text, d.text_len) ||
            !within(data, size, d.metadata, d.metadata_len))
            __builtin_trap();
        if (pack_add(&again, &d) != SYNA_SUCCESS)
            __builtin_trap();
        pack_find(data, size, d.id, d.id_len, &e);
    }
    if (again.count > 0) {
        const uint8_t *record = pack_record(&again, &len);
        if (!pack_open(record, len, &back) || !pack_open(data, size, &from))
            __builtin_trap();
        while (pack_next(&back, &e)) {
            if (!pack_next(&from, &d))
                __builtin_trap();
            check_same(&d, &e);
        }
        if (back.left > 0)
            __builtin_trap();
    }
    pack_dispose(&again);
    return 0;
}
