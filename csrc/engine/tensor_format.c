/* tensor_format.c - the header of a stored tensor, and its one codec. Bytes in, bytes out. */
#include "base/internal.h"

#include "engine/tensor_core.h"

#include <lz4.h>

static const uint8_t item_bytes[] = {4, 8, 4, 8, 2, 2, 1, 1, 1, 2, 1, 2, 4, 8, 1, 8, 16};

size_t tensor_item_bytes(int32_t dtype)
{
    return dtype >= 0 && (size_t)dtype < COUNT_OF(item_bytes) ? item_bytes[dtype] : 0;
}

/* ---------------------------------------------------------------- shapes */

syna_rc tensor_shape_count(struct tensor_shape *shape)
{
    uint64_t count = 1, item = tensor_item_bytes(shape->dtype);
    bool empty = false, over = false;
    for (uint32_t i = 0; i < shape->dims; i++) {
        empty |= shape->shape[i] == 0;
        if (shape->shape[i])
            over |= __builtin_mul_overflow(count, shape->shape[i], &count);
    }
    shape->count = empty ? 0 : count;
    over |= __builtin_mul_overflow(shape->count, item, &shape->bytes);
    if (over || shape->bytes > INT64_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the shape has more elements than memory can hold");
    return SYNA_SUCCESS;
}

syna_rc tensor_shape_from(const syna_tensor_spec *spec, struct tensor_shape *out)
{
    if (spec->size < sizeof *spec)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_tensor_spec.size is %u, expected %zu", spec->size, sizeof *spec);
    if (!tensor_item_bytes(spec->dtype))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "dtype %d, expected 0 to %d",
                         spec->dtype, SYNA_DTYPE_COMPLEX128);
    if (spec->codec != SYNA_CODEC_NONE && spec->codec != SYNA_CODEC_LZ4)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "codec %d, expected SYNA_CODEC_NONE or SYNA_CODEC_LZ4", spec->codec);
    if (spec->dims > SYNA_TENSOR_DIMS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected at most %u",
                         spec->dims, SYNA_TENSOR_DIMS_MAX);
    bool chunked = (spec->flags & SYNA_TENSOR_CHUNKED) != 0;
    if (chunked && spec->per_chunk == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "0 elements in a chunk, expected 1 or more");
    memset(out, 0, sizeof *out);
    out->dtype = spec->dtype;
    out->codec = spec->codec;
    out->dims = spec->dims;
    out->per_chunk = chunked ? spec->per_chunk : 0;
    if (spec->dims)
        memcpy(out->shape, spec->shape, spec->dims * sizeof *spec->shape);
    return tensor_shape_count(out);
}

/* ---------------------------------------------------------------- the header */

bool tensor_header_encode(const struct tensor_shape *shape, const struct tensor_chunk *chunks,
                          size_t count, struct buf *to)
{
    uint8_t *p = buf_extend(to, TENSOR_HEAD_BYTES + shape->dims * sizeof(uint64_t) +
                                    count * sizeof(uint32_t));
    if (!p)
        return false;
    store_u32(p, TENSOR_MAGIC);
    p[4] = TENSOR_FORMAT;
    p[5] = (uint8_t)shape->dtype;
    p[6] = (uint8_t)shape->codec;
    p[7] = (uint8_t)shape->dims;
    store_u64(p + 8, shape->per_chunk);
    store_u32(p + 16, (uint32_t)count);
    store_u32(p + 20, 0);
    p += TENSOR_HEAD_BYTES;
    for (uint32_t i = 0; i < shape->dims; i++, p += sizeof(uint64_t))
        store_u64(p, shape->shape[i]);
    for (size_t i = 0; i < count; i++, p += sizeof(uint32_t))
        store_u32(p, chunks[i].plain);
    return true;
}

bool tensor_header_is(const uint8_t *bytes, size_t len)
{
    return len >= TENSOR_HEAD_BYTES && load_u32(bytes) == TENSOR_MAGIC;
}

static syna_rc bad_header(const char *path, int64_t offset, const char *what, uint64_t found,
                          uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, offset, 0,
                        "tensor header: %s %llu, expected %llu", what, (unsigned long long)found,
                        (unsigned long long)expected);
}

syna_rc tensor_header_decode(const uint8_t *bytes, size_t len, const char *path, int64_t offset,
                             struct tensor_shape *out, struct tensor_chunk *chunks, size_t count)
{
    memset(out, 0, sizeof *out);
    if (bytes[4] > TENSOR_FORMAT)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_NEWER_FORMAT, path, offset, 0,
                            "tensor of format %u, expected %u", bytes[4], TENSOR_FORMAT);
    out->dtype = bytes[5];
    out->codec = bytes[6];
    out->dims = bytes[7];
    out->per_chunk = load_u64(bytes + 8);
    if (!tensor_item_bytes(out->dtype))
        return bad_header(path, offset, "dtype", bytes[5], SYNA_DTYPE_COMPLEX128);
    if (out->codec > SYNA_CODEC_LZ4)
        return bad_header(path, offset, "codec", bytes[6], SYNA_CODEC_LZ4);
    if (out->dims > SYNA_TENSOR_DIMS_MAX)
        return bad_header(path, offset, "dimensions", out->dims, SYNA_TENSOR_DIMS_MAX);
    if (load_u32(bytes + 16) != count)
        return bad_header(path, offset, "number of chunks", load_u32(bytes + 16), count);
    size_t expected = TENSOR_HEAD_BYTES + out->dims * sizeof(uint64_t) + count * sizeof(uint32_t);
    if (len != expected)
        return bad_header(path, offset, "length", len, expected);
    const uint8_t *p = bytes + TENSOR_HEAD_BYTES;
    for (uint32_t i = 0; i < out->dims; i++, p += sizeof(uint64_t))
        out->shape[i] = load_u64(p);
    if (tensor_shape_count(out) != SYNA_SUCCESS)
        return bad_header(path, offset, "elements", UINT64_MAX, INT64_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++, p += sizeof(uint32_t)) {
        chunks[i].start = sum;
        chunks[i].plain = load_u32(p);
        if (chunks[i].plain == 0 || chunks[i].plain > BLOB_CHUNK_BYTES)
            return bad_header(path, offset, "chunk length", chunks[i].plain, BLOB_CHUNK_BYTES);
        sum += chunks[i].plain;
    }
    return sum == out->bytes ? SYNA_SUCCESS : bad_header(path, offset, "bytes", sum, out->bytes);
}

/* ---------------------------------------------------------------- the codec */

/* A chunk may end inside an element: those bytes stay as they are, at the end. */
void tensor_shuffle(const uint8_t *from, uint8_t *to, size_t bytes, size_t item)
{
    size_t n = bytes / item;
    for (size_t k = 0; k < item; k++)
        for (size_t i = 0; i < n; i++)
            to[k * n + i] = from[i * item + k];
    memcpy(to + n * item, from + n * item, bytes - n * item);
}

void tensor_unshuffle(const uint8_t *from, uint8_t *to, size_t bytes, size_t item)
{
    size_t n = bytes / item;
    for (size_t k = 0; k < item; k++)
        for (size_t i = 0; i < n; i++)
            to[i * item + k] = from[k * n + i];
    memcpy(to + n * item, from + n * item, bytes - n * item);
}

/* Pack a chunk into fewer than `len` bytes; 0 when that would not save a tenth. `scratch` has room for
 * `len`. */
size_t tensor_pack(const uint8_t *plain, uint8_t *to, size_t len, size_t item, uint8_t *scratch)
{
    LZ4_stream_t state;
    tensor_shuffle(plain, scratch, len, item);
    int n = LZ4_compress_fast_extState(&state, (const char *)scratch, (char *)to, (int)len,
                                       (int)(len - len / 10), 1);
    return n > 0 ? (size_t)n : 0;
}

bool tensor_unpack(const uint8_t *packed, size_t packed_len, uint8_t *to, size_t len, size_t item,
                   uint8_t *scratch)
{
    int n = LZ4_decompress_safe((const char *)packed, (char *)scratch, (int)packed_len, (int)len);
    if (n < 0 || (size_t)n != len)
        return false;
    tensor_unshuffle(scratch, to, len, item);
    return true;
}
