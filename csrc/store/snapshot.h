/* A derived file saved whole: named, checksummed sections and a footer. Written to a temp file,
 * synced, renamed, directory synced; read through a private map. Used by the key checkpoint and by
 * every index (HNSW, wells, cascade, postings).
 *
 * A snapshot names what it covers: the store's uuid and generation, the end offset covered and the
 * CRC of the frame that ends there. Any mismatch makes it stale, never an error.
 *
 * Sections start on 4,096-byte boundaries. Sections over 1 MiB carry one CRC per 64 KiB page that is
 * checked when the page is first touched; smaller ones are checked on open. */
#ifndef SYNA_STORE_SNAPSHOT_H
#define SYNA_STORE_SNAPSHOT_H

#include "base/status.h"
#include "io/map.h"

#define SNAPSHOT_PAGE (64u << 10)
#define SNAPSHOT_LAZY (1u << 20)
#define SNAPSHOT_SECTIONS_MAX 32u

struct snapshot_cover {
    uint8_t uuid[16];
    uint64_t generation;
    uint64_t end;      /* the log (or row file) up to here is covered */
    uint32_t end_crc;  /* CRC of the last frame covered, 0 = none */
    uint32_t purpose;  /* four characters: what the snapshot is, e.g. SNAPSHOT_KEYS */
};
#define SNAPSHOT_FOURCC(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* ---- writing: begin, then per section begin/append..., then commit or abort. */
struct snapshot_writer;
syna_rc snapshot_begin(const char *path, const struct snapshot_cover *cover,
                       struct snapshot_writer **out);
/* Name: at most 8 characters. Sections are written one after another. */
syna_rc snapshot_section(struct snapshot_writer *w, const char *name);
syna_rc snapshot_append(struct snapshot_writer *w, const void *bytes, size_t len);
syna_rc snapshot_commit(struct snapshot_writer *w); /* frees w, success or not */
void snapshot_abort(struct snapshot_writer *w);

/* ---- reading */
struct snapshot;
/* SYNA_SUCCESS with *out, or *out NULL and success when the file is missing, damaged, of another
 * format, or does not match `cover` in uuid, generation and purpose (the caller rebuilds). Only
 * running out of memory or address space is an error. The found cover is in snapshot_cover_of. */
syna_rc snapshot_open(const char *path, const struct snapshot_cover *cover, struct snapshot **out);
void snapshot_close(struct snapshot *s);
const struct snapshot_cover *snapshot_cover_of(const struct snapshot *s);

/* A section's bytes, mapped privately: stores are allowed and never reach the file. NULL when there
 * is no such section. */
void *snapshot_find(struct snapshot *s, const char *name, size_t *len);

/* Must be called before bytes [at, at+len) of a section are used; cheap after the first time. Any
 * thread. false = the page is damaged. `bytes` is what snapshot_find returned plus an offset. */
bool snapshot_touch(struct snapshot *s, const void *bytes, size_t len);

#endif
