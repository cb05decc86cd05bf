/* cascade_store_hits.c - results: one block of memory with everything that it points to, made while a
 * lock is held, so that a caller gets one moment of the index. The hits come first, then their vectors,
 * then their keys and metadata. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

syna_rc bucket_hits_begin(struct bucket_hits *b, const syna_buckets *store, uint32_t flags,
                          size_t count, size_t text_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + text_bytes;
    b->store = store;
    b->metadata = flags & SYNA_SEARCH_METADATA;
    b->hits = mem_alloc(bytes);
    if (!b->hits)
        return syna_no_memory(bytes);
    b->vectors = row_bytes ? (float *)(void *)(b->hits + count) : NULL;
    b->texts = (char *)(b->hits + count) + count * row_bytes;
    return SYNA_SUCCESS;
}

size_t bucket_hits_text_bytes(const syna_buckets *store, uint32_t flags, uint32_t row)
{
    size_t key_len, meta_len;
    mmap_rows_key(&store->rows, row, &key_len);
    if (flags & SYNA_SEARCH_METADATA && meta_text(store->meta, row, &meta_len))
        return key_len + 1 + meta_len + 1;
    return key_len + 1;
}

static const char *add_text(struct bucket_hits *b, const char *text, size_t len)
{
    char *at = b->texts;
    memcpy(at, text, len);
    at[len] = '\0';
    b->texts += len + 1;
    return at;
}

void bucket_hits_add(struct bucket_hits *b, syna_hit *hit, uint32_t row, float score)
{
    const syna_buckets *store = b->store;
    size_t len;
    const char *key = mmap_rows_key(&store->rows, row, &len);
    *hit = (syna_hit){.key = add_text(b, key, len), .key_len = (uint32_t)len, .score = score};
    const char *metadata = b->metadata ? meta_text(store->meta, row, &len) : NULL;
    if (metadata) {
        hit->metadata = add_text(b, metadata, len);
        hit->metadata_len = len;
    }
    if (b->vectors) {
        memcpy(b->vectors, mmap_rows_vector(&store->rows, row), store->dims * sizeof(float));
        hit->vector = b->vectors;
        b->vectors += store->dims;
    }
}
