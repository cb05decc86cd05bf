/* Streamed values: how a blob lies in a log. Its bytes are CHUNK frames of at most BLOB_CHUNK_BYTES,
 * its value is a manifest that names them by offset; the chunks always stand before the manifest.
 * For the db_*.c files that meet manifests: reading, compaction, verify, salvage. */
#ifndef SYNA_ENGINE_DB_BLOB_H
#define SYNA_ENGINE_DB_BLOB_H

#include "engine/db_core.h"

/* A manifest taken apart. */
struct blob_manifest {
    uint64_t size;         /* of the whole content */
    uint32_t count;        /* chunks */
    const uint8_t *chunks; /* BLOB_ENTRY_BYTES each; borrows the frame, or `scratch` */
    struct value value;    /* as decoded: expiry and event time */
    struct buf scratch;
};
#define BLOB_HEAD_BYTES 12u
#define BLOB_ENTRY_BYTES 12u

static inline struct blob_chunk blob_entry(const struct blob_manifest *m, uint32_t i)
{
    const uint8_t *p = m->chunks + (size_t)i * BLOB_ENTRY_BYTES;
    struct blob_chunk chunk = {load_u64(p), load_u32(p + 8), 0};
    return chunk;
}

/* Take the manifest in `f` (a checked frame of type BLOB) apart and check that it adds up: sizes,
 * counts, chunks that stand before it. Free with blob_manifest_dispose, on failure too. */
syna_rc blob_parse(const struct frame *f, const char *path, struct blob_manifest *out);
void blob_manifest_dispose(struct blob_manifest *m);

/* Encode a manifest of these chunks (struct blob_chunk[]). false = no memory. */
bool blob_encode(const struct blob_chunk *chunks, size_t count, struct buf *to);

/* Is `f` the chunk frame that holds `len` bytes? They are then at f->value + 1. */
bool blob_is_chunk(const struct frame *f, uint32_t len);
/* The chunk of a log, checksum verified; SYNA_ERR_SERIALIZATION when there is none. */
syna_rc blob_chunk_at(const struct kvlog *log, const struct blob_chunk *chunk, struct frame *f);

/* ---- for components whose content has a checksum of its own */

/* Everything read is shown in order, in parts of at most BLOB_WATCH_BYTES, as it comes; when the call then
 * fails with damage, some of what was shown is damaged. */
#define BLOB_WATCH_BYTES (128u << 10)
struct blob_watch {
    void (*see)(void *context, const uint8_t *bytes, size_t len);
    void *context;
};
syna_rc db_blob_read_watched(syna_blob *blob, uint64_t offset, void *buf, size_t len,
                             const struct blob_watch *watch, size_t *got);

/* How many bytes the chunk being filled still takes; BLOB_CHUNK_BYTES when a new one begins. Then a
 * whole chunk may be written from where it is, its crc32c(0, data, BLOB_CHUNK_BYTES) known already. */
size_t db_blob_room(const syna_blob *blob);
syna_rc db_blob_write_chunk(syna_blob *blob, const void *data, uint32_t crc);

/* ---- for db_read.c: a blob met by a plain get. `f` is a checked frame of type BLOB. */
syna_rc blob_read_manifest(struct generation *gen, const struct frame *f, uint64_t *size);
/* The content, into a buffer that has room for all of it. */
syna_rc blob_copy(struct generation *gen, const struct frame *f, void *buf, size_t cap);

#endif
