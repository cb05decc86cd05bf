/* The inside of tensors; for the tensor*.c files only.
 *
 * A tensor is a blob (db_blob.h) under "tensor/<prefix>", or "tensor-chunks/<prefix>" when its keys name
 * chunks. The blob's first chunk is the tensor's header, the others are its data. They are ordinary
 * CHUNK frames, so checks, salvage, compaction, backups and histories need to know nothing of tensors;
 * what this component adds is where they are put: a PAD frame in front lets the data begin at a multiple
 * of 64, or of a page when there are several chunks or a large one. Pages can then be mapped side by
 * side, as one array.
 *
 * A version is one stored state of a tensor, taken apart; it pins the generation of the log that it lies
 * in. Versions are immutable but for two caches: which chunks were checked, and the mapping. They are
 * counted: by the cache of the handle, by sets, by pins.
 *
 * Lock order: cache_lock and a version's map_lock are innermost and never held together. */
#ifndef SYNA_ENGINE_TENSOR_CORE_H
#define SYNA_ENGINE_TENSOR_CORE_H

#include "engine/db_blob.h"
#include "engine/tensor.h"

#define TENSOR_PREFIX "tensor/"
#define TENSOR_CHUNKS_PREFIX "tensor-chunks/"
#define TENSOR_KEY_PREFIX_MAX (sizeof TENSOR_CHUNKS_PREFIX - 1)

#define TENSOR_ALIGN 64u
#define TENSOR_PAGE 4096u
#define TENSOR_PAGE_FROM (1u << 20) /* single chunks from this size on begin on a page */

/* ---- tensor_format.c: the header of a stored tensor
 *
 *  0 u32 magic, 4 u8 version, 5 u8 dtype, 6 u8 codec, 7 u8 dims, 8 u64 elements per chunk key (0: keys
 *  are of elements), 16 u32 number of data chunks, 20 u32 zero, 24 u64 shape[dims],
 *  then u32 plain length of each data chunk. */
#define TENSOR_MAGIC 0x534e4554u /* "TENS" */
#define TENSOR_FORMAT 1u
#define TENSOR_HEAD_BYTES 24u

struct tensor_shape {
    int32_t dtype, codec;
    uint32_t dims;
    uint64_t per_chunk; /* 0 = keys are of elements */
    uint64_t shape[SYNA_TENSOR_DIMS_MAX];
    uint64_t count; /* elements */
    uint64_t bytes; /* count times bytes of one */
};

/* One data chunk. */
struct tensor_chunk {
    uint64_t offset; /* of its frame */
    uint64_t start;  /* its first byte's place in the tensor */
    uint32_t stored; /* bytes in the frame; == plain when not compressed */
    uint32_t plain;
};

/* Fill in count and bytes; ARGUMENT when there are too many. */
syna_rc tensor_shape_count(struct tensor_shape *shape);
/* Check what a caller passed. */
syna_rc tensor_shape_from(const syna_tensor_spec *spec, struct tensor_shape *out);
bool tensor_header_encode(const struct tensor_shape *shape, const struct tensor_chunk *chunks,
                          size_t count, struct buf *to);
/* Is this a header at all? */
bool tensor_header_is(const uint8_t *bytes, size_t len);
/* Take it apart; `chunks` has room for `count` and gets start and plain. CORRUPT when it does not add up. */
syna_rc tensor_header_decode(const uint8_t *bytes, size_t len, const char *path, int64_t offset,
                             struct tensor_shape *out, struct tensor_chunk *chunks, size_t count);

/* Bytes of equal significance together, and back. */
void tensor_shuffle(const uint8_t *from, uint8_t *to, size_t bytes, size_t item);
void tensor_unshuffle(const uint8_t *from, uint8_t *to, size_t bytes, size_t item);
size_t tensor_pack(const uint8_t *plain, uint8_t *to, size_t len, size_t item, uint8_t *scratch);
bool tensor_unpack(const uint8_t *packed, size_t packed_len, uint8_t *to, size_t len, size_t item,
                   uint8_t *scratch);

/* ---- tensor_version.c */
struct tensor_version {
    uint32_t refs; /* atomic */
    bool chunked;
    char *prefix;
    size_t prefix_len;
    struct generation *gen; /* referenced */
    uint64_t frame;         /* where its manifest starts */
    uint64_t stored_bytes;
    struct tensor_shape shape;
    size_t chunk_count;
    struct tensor_chunk *chunks;
    uint8_t *checked; /* bit per chunk (atomic) */
    bool one_piece;   /* chunks can be mapped side by side */
    pthread_mutex_t map_lock;
    void *mapped; /* atomic: all of it in one piece, NULL until asked for */
    bool unmappable; /* it was tried */
};

struct syna_tensors {
    syna_db *db;
    pthread_mutex_t cache_lock;
    int pid; /* of the process that may trust lock and cache */
    struct tensor_version **cache; /* sorted by kind and prefix */
    size_t cached, cache_room;
};

/* The newest version under a prefix, one reference to the caller; SYNA_ERR_KEY_NOT_FOUND without an
 * error record when there is none. */
syna_rc tensor_version_find(syna_tensors *tensors, bool chunked, const char *prefix,
                            size_t prefix_len, struct tensor_version **out);
struct tensor_version *tensor_version_ref(struct tensor_version *v);
void tensor_version_unref(struct tensor_version *v);
/* Chunk i, its checksum compared once; *bytes are as stored. */
syna_rc tensor_version_chunk(struct tensor_version *v, size_t i, const uint8_t **bytes);
/* The chunk that holds byte `at`. */
size_t tensor_version_holding(const struct tensor_version *v, uint64_t at);
/* Bytes [at, at + len) of the tensor. */
struct tensor_reader {
    struct tensor_version *v;
    size_t unpacked;   /* the chunk that `plain` holds; SIZE_MAX = none */
    struct buf plain, scratch;
};
syna_rc tensor_reader_copy(struct tensor_reader *r, uint64_t at, void *to, size_t len);
void tensor_reader_dispose(struct tensor_reader *r);
/* Bytes [at, at + len) in one piece, checked; NULL with success when that cannot be. */
syna_rc tensor_version_view(struct tensor_version *v, uint64_t at, uint64_t len,
                            const uint8_t **bytes);

/* The log key of a tensor, into `key` (room for TENSOR_KEY_PREFIX_MAX + prefix_len). */
size_t tensor_log_key(bool chunked, const char *prefix, size_t prefix_len, char *key);

/* ---- tensor_select.c: sets */
struct tensor_run {
    struct tensor_version *v; /* NULL: plain values; a reference each */
    uint64_t first_key, keys; /* plain: into the set's arrays */
    uint64_t first, count;    /* elements */
    int32_t dtype;
};

struct syna_tensor_set {
    syna_db *db;
    struct tensor_run *runs;
    uint64_t *starts; /* elements before run i; one more at the end */
    size_t run_count;
    uint64_t *numbers;  /* of plain values: bits */
    uint64_t *key_at;   /* where their keys begin in `names`; one more at the end */
    char *names;
    uint64_t plain_count;
    int32_t dtype;
};

/* Keys of a version, and what one stands for. */
uint64_t tensor_keys_of(const struct tensor_version *v);
uint32_t tensor_digits(uint64_t keys);

/* ---- tensor_convert.c */
/* `count` elements of dtype `from` as `to` (FLOAT32, FLOAT64, INT32, INT64). The first that cannot be
 * had goes to *bad; count when there is none. */
void tensor_convert(int32_t from, const void *in, int32_t to, void *out, size_t count, size_t *bad);

#endif
