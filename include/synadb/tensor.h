/* synadb/tensor.h - tensors: typed arrays of any size and shape, stored and loaded as a whole.
 *
 * A tensor lives in an ordinary SynaDB log, under a key prefix. Its elements have virtual keys, the
 * prefix and the element's index with leading zeros ("train/X/0000", "train/X/0001", ...; four digits,
 * or as many as the last index needs), so that the order of names is the order of elements. A *chunked*
 * tensor has a virtual key per chunk instead ("train/X/chunk_0000"). Nothing in the log is per element:
 * the bytes lie in aligned chunks of up to 4 MiB, each with its checksum, and a put is one commit:
 * readers and crashes see the old tensor or the new one, never parts of both.
 *
 * Patterns are shell patterns (`*` crosses '/') over virtual keys and over the keys of plain Float and
 * Int values in the same file. What matches is a set: a fixed view of the moment, in the order of names.
 * Where a tensor's element and a plain value have the same name, the element counts.
 *
 * Data is little-endian, C order. Durability, threads and the errors not named at a function are those
 * of kv.h; damage is -4, naming tensor and chunk. A chunk's checksum is compared when the chunk is first
 * used through a handle. Since 0.1. */
#ifndef SYNADB_TENSOR_H
#define SYNADB_TENSOR_H

#include "base.h"
#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_DTYPE_FLOAT32 0
#define SYNA_DTYPE_FLOAT64 1
#define SYNA_DTYPE_INT32 2
#define SYNA_DTYPE_INT64 3
#define SYNA_DTYPE_FLOAT16 4
#define SYNA_DTYPE_BFLOAT16 5
#define SYNA_DTYPE_FLOAT8_E4M3 6 /* the variant without infinities (e4m3fn) */
#define SYNA_DTYPE_FLOAT8_E5M2 7
#define SYNA_DTYPE_INT8 8
#define SYNA_DTYPE_INT16 9
#define SYNA_DTYPE_UINT8 10
#define SYNA_DTYPE_UINT16 11
#define SYNA_DTYPE_UINT32 12
#define SYNA_DTYPE_UINT64 13
#define SYNA_DTYPE_BOOL 14 /* a byte, 0 or 1 */
#define SYNA_DTYPE_COMPLEX64 15
#define SYNA_DTYPE_COMPLEX128 16

#define SYNA_TENSOR_DIMS_MAX 64u

/* ---------------------------------------------------------------- path-keyed face
 * The path is open as a database (syna_open). */

/* Store `len` elements of dtype FLOAT32, FLOAT64, INT32 or INT64 as a one-dimensional tensor under the
 * prefix; what was stored under it before is replaced. Returns the number of elements, INT32_MAX where
 * they are more, or a negative code (-2 for a bad argument). */
SYNA_API int32_t syna_tensor_put(const char *path, const char *key_prefix, const void *data,
                                 size_t len, int32_t dtype);

/* Everything that the pattern matches, converted by value to one of the same four dtypes: *out_data is
 * given (syna_free_tensor_data), *out_len is in elements. Nothing matches: success with length 0. -6
 * when a value cannot be had in an integer dtype (a fraction, NaN, out of range), naming its place. */
SYNA_API int32_t syna_tensor_get(const char *path, const char *pattern, int32_t dtype,
                                 void **out_data, size_t *out_len);
SYNA_API void syna_free_tensor_data(void *data, size_t len, int32_t dtype);

/* ---------------------------------------------------------------- handles */

typedef struct syna_tensors syna_tensors;

/* Open (or create) the log; the options are those of syna_db_open, NULL for defaults, and the database
 * is shared with whoever has it open. *out is given (syna_tensors_close). */
SYNA_API int32_t syna_tensors_open(const char *path, const syna_db_options *options,
                                   syna_tensors **out);
/* Release the handle, when no call on it is in progress and its sets are freed. Pins may stay. */
SYNA_API int32_t syna_tensors_close(syna_tensors *tensors);
SYNA_API int32_t syna_tensors_flush(syna_tensors *tensors);

#define SYNA_TENSOR_CHUNKED 1u /* keys name chunks of per_chunk elements */
#define SYNA_CODEC_NONE 0
#define SYNA_CODEC_LZ4 1 /* bytes of equal significance together, then LZ4, chunk by chunk */

/* What a tensor is. Set size = sizeof(syna_tensor_spec). */
typedef struct syna_tensor_spec {
    uint32_t size;
    int32_t dtype;
    int32_t codec;
    uint32_t flags; /* SYNA_TENSOR_CHUNKED */
    uint32_t dims;  /* 0 to SYNA_TENSOR_DIMS_MAX; 0 = one element */
    uint32_t reserved;
    uint64_t per_chunk; /* 1 or more when chunked */
    const uint64_t *shape;
} syna_tensor_spec;

/* Store a tensor in the place of what the prefix held of the same kind (elements or chunks). */
SYNA_API int32_t syna_tensors_put(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                                  const syna_tensor_spec *spec, const void *data);

/* Add `rows` rows behind those of an existing tensor of at least one dimension; `spec` is that of the
 * rows: dtype, CHUNKED or not, dims and shape (shape[0] = rows) are compared with the tensor's (0, reason
 * ARGUMENT). Costs what the rows cost, and at most as much again. *total (may be NULL) is the number of
 * rows afterwards. -5 when there is no such tensor. */
SYNA_API int32_t syna_tensors_append(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                                     const syna_tensor_spec *spec, const void *data,
                                     uint64_t *total);

#define SYNA_SELECT_ELEMENTS 1u /* keys of elements */
#define SYNA_SELECT_CHUNKS 2u   /* keys of chunks */
#define SYNA_SELECT_PLAIN 4u    /* keys of plain Float and Int values */
#define SYNA_SELECT_NAME 8u     /* the pattern is a prefix as it was given to put, and means all of it */

/* Delete what matches, in one commit; *deleted (may be NULL) counts keys. A tensor of which only some
 * keys match is refused (0, reason ARGUMENT), and nothing is deleted. */
SYNA_API int32_t syna_tensors_delete(syna_tensors *tensors, const char *pattern,
                                     size_t pattern_len, uint32_t select, uint64_t *deleted);

/* What matches now. *out is given (syna_tensor_set_free); it stays as it is whatever is written. */
typedef struct syna_tensor_set syna_tensor_set;
SYNA_API int32_t syna_tensors_select(syna_tensors *tensors, const char *pattern,
                                     size_t pattern_len, uint32_t select, syna_tensor_set **out);
SYNA_API void syna_tensor_set_free(syna_tensor_set *set);

/* Elements in the set; parts: runs of consecutive elements of one tensor, or of plain values of one
 * type; the common dtype, -1 when there are several (of an empty set, FLOAT32). */
SYNA_API uint64_t syna_tensor_set_count(const syna_tensor_set *set);
SYNA_API size_t syna_tensor_set_parts(const syna_tensor_set *set);
SYNA_API int32_t syna_tensor_set_dtype(const syna_tensor_set *set);

typedef struct syna_tensor_part {
    uint32_t size;
    int32_t dtype;
    int32_t codec;
    uint32_t flags;      /* SYNA_TENSOR_CHUNKED */
    uint32_t plain;      /* 1: plain values, without the fields below but first_key, keys, count */
    uint32_t dims;
    uint64_t shape[SYNA_TENSOR_DIMS_MAX]; /* of the whole tensor */
    uint64_t first, count;     /* elements of the tensor that the part holds */
    uint64_t elements;         /* of the whole tensor */
    uint64_t first_key, keys;  /* the virtual keys that it stands for: numbers of elements or chunks */
    uint64_t per_chunk;
    uint64_t stored_bytes;     /* of the whole tensor in the log */
    uint32_t digits;           /* of the numbers in its keys */
    uint32_t prefix_len;
    const char *prefix;        /* lives as long as the set */
} syna_tensor_part;
SYNA_API int32_t syna_tensor_set_part(const syna_tensor_set *set, size_t index,
                                      syna_tensor_part *out);
/* Key number `index` (first_key <= index) of the plain values in the set; lives as long as the set. */
SYNA_API const char *syna_tensor_set_plain_key(const syna_tensor_set *set, uint64_t index,
                                               size_t *len);

/* Elements [first, first + count) of the set into `out`, as they are stored; they must be of one dtype
 * (-6). 0, reason ARGUMENT, when the set has fewer. */
SYNA_API int32_t syna_tensor_set_read(syna_tensor_set *set, uint64_t first, uint64_t count,
                                      void *out);
/* The same, converted by value to FLOAT32, FLOAT64, INT32 or INT64; the errors of syna_tensor_get. */
SYNA_API int32_t syna_tensor_set_read_as(syna_tensor_set *set, uint64_t first, uint64_t count,
                                         int32_t dtype, void *out);
/* Rows of `row` elements: number rows[0], rows[1], ... of the set, one after the other in `out`. The set
 * is of one dtype, and its count a multiple of `row`. */
SYNA_API int32_t syna_tensor_set_rows(syna_tensor_set *set, uint64_t row, const int64_t *rows,
                                      size_t count, void *out);

/* The bytes of a set of one part where they are mapped: not to be written to, unchanged and readable
 * until syna_tensor_unpin, whatever is written, compacted or closed. *data is NULL (and the call still
 * succeeds) when they do not lie in one piece: compressed, in several parts, appended to by and by,
 * moved by a compaction, or read without mapping. *pin is given. */
typedef struct syna_tensor_pin syna_tensor_pin;
SYNA_API int32_t syna_tensor_set_view(syna_tensor_set *set, const void **data,
                                      syna_tensor_pin **pin);
SYNA_API void syna_tensor_unpin(syna_tensor_pin *pin);

#ifdef __cplusplus
}
#endif
#endif
