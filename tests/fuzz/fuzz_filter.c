/* Any bytes as a filter and as metadata, split at the first zero byte. What is refused names a byte; what
 * passes is matched alike through columns and by reading the text, and cleared without a trace. */
#include "base/internal.h"

#include "engine/filter_core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool by_columns(const struct meta *meta, const struct filter *filter)
{
    uint64_t bits = 0, count = 0;
    if (meta_select(meta, filter, 1, NULL, &bits, &count) != SYNA_SUCCESS || count != bits || bits > 1)
        __builtin_trap();
    return bits;
}

static bool by_text(const struct filter *filter, const char *json, size_t len)
{
    bool matches;
    if (!node_matches_text(filter->root, json, len, &matches))
        __builtin_trap();
    return matches;
}

static void compare(const struct filter *filter, const char *json, size_t len)
{
    struct meta *meta;
    if (meta_new(&meta) != SYNA_SUCCESS)
        __builtin_trap();
    bool sound = json && meta_check(json, len) == SYNA_SUCCESS;
    if (sound && meta_set(meta, 0, json, len) != SYNA_SUCCESS)
        __builtin_trap();
    if (filter && by_columns(meta, filter) != by_text(filter, sound ? json : NULL, sound ? len : 0))
        __builtin_trap();
    meta_clear(meta, 0);
    if (meta->columns.names.used || meta->columns.strings.used || meta->columns.bytes)
        __builtin_trap();
    meta_free(meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct filter *filter = NULL;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t len = zero ? (size_t)(zero - data) : size;
    if (filter_parse((const char *)data, len, &filter) != SYNA_SUCCESS)
        filter = NULL;
    compare(filter, zero ? (const char *)zero + 1 : NULL, zero ? size - len - 1 : 0);
    filter_free(filter);
    return 0;
}
