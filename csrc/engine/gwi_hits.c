/* gwi_hits.c - results: one block of memory with everything that it points to, made while a lock is held,
 * so that a caller gets one moment of the index. The hits come first, then their vectors, then their
 * keys and metadata. */
#include "base/internal.h"

#include "engine/gwi_core.h"

syna_rc hit_block_begin(struct hit_block *b, const syna_wells *store, uint32_t flags, size_t count,
                        size_t text_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + text_bytes;
    b->store = store;
    b->hits = mem_alloc(bytes);
    if (!b->hits)
        return syna_no_memory(bytes);
    b->vectors = row_bytes ? (float *)(void *)(b->hits + count) : NULL;
    b->texts = (char *)(b->hits + count) + count * row_bytes;
    b->metadata = flags & SYNA_SEARCH_METADATA;
    return SYNA_SUCCESS;
}

size_t hit_block_text_bytes(const syna_wells *store, uint32_t flags, uint32_t row)
{
    size_t len, meta_len = 0;
    mmap_rows_key(&store->rows, row, &len);
    if ((flags & SYNA_SEARCH_METADATA) && meta_text(store->meta, row, &meta_len))
        len += meta_len + 1;
    return len + 1;
}

static const char *put_text(struct hit_block *b, const char *text, size_t len)
{
    char *to = b->texts;
    memcpy(to, text, len);
    to[len] = '\0';
    b->texts += len + 1;
    return to;
}

void hit_block_add(struct hit_block *b, syna_hit *hit, uint32_t row, float score)
{
    size_t len;
    const char *key = mmap_rows_key(&b->store->rows, row, &len);
    *hit = (syna_hit){.key = put_text(b, key, len), .key_len = (uint32_t)len, .score = score};
    const char *meta = b->metadata ? meta_text(b->store->meta, row, &len) : NULL;
    if (meta) {
        hit->metadata = put_text(b, meta, len);
        hit->metadata_len = len;
    }
    if (b->vectors) {
        memcpy(b->vectors, mmap_rows_vector(&b->store->rows, row), b->store->dims * sizeof(float));
        hit->vector = b->vectors;
        b->vectors += b->store->dims;
    }
}
