/* cascade_store_hits.c - results: one block of memory with everything that it points to, made while
 * a lock is held, so that a caller gets one moment of the index. The hits come first, then their
 * vectors, then their keys. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"

syna_rc bucket_hits_begin(struct bucket_hits *b, const syna_buckets *store, uint32_t flags,
                          size_t count, size_t key_bytes)
{
    size_t row_bytes = flags & SYNA_SEARCH_VECTORS ? store->dims * sizeof(float) : 0;
    size_t bytes = count * (sizeof(syna_hit) + row_bytes) + key_bytes;
    b->store = store;
    b->hits = mem_alloc(bytes);
    if (!b->hits)
        return syna_no_memory(bytes);
    b->vectors = row_bytes ? (float *)(void *)(b->hits + count) : NULL;
    b->keys = (char *)(b->hits + count) + count * row_bytes;
    return SYNA_SUCCESS;
}

size_t bucket_hits_key_bytes(const syna_buckets *store, uint32_t row)
{
    size_t len;
    mmap_rows_key(&store->rows, row, &len);
    return len + 1;
}

void bucket_hits_add(struct bucket_hits *b, syna_hit *hit, uint32_t row, float score)
{
    size_t len;
    const char *key = mmap_rows_key(&b->store->rows, row, &len);
    *hit = (syna_hit){.key = b->keys, .key_len = (uint32_t)len, .score = score};
    memcpy(b->keys, key, len);
    b->keys[len] = '\0';
    b->keys += len + 1;
    if (b->vectors) {
        memcpy(b->vectors, mmap_rows_vector(&b->store->rows, row), b->store->dims * sizeof(float));
        hit->vector = b->vectors;
        b->vectors += b->store->dims;
    }
}
