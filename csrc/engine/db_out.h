/* A new log on its way: written front to back into a temp file beside its future name, every frame a
 * commit of its own. Compaction and salvage write through it.
 *
 * Nobody sees the file before it is synced and published, so every frame truthfully says
 * PRIOR_DURABLE: damage anywhere in it is later told from a torn tail. */
#ifndef SYNA_ENGINE_DB_OUT_H
#define SYNA_ENGINE_DB_OUT_H

#include "engine/progress.h"
#include "io/file.h"
#include "store/frame.h"

struct out_log {
    struct file file;
    uint32_t seed;
    struct buf buffer;   /* not yet written */
    uint64_t flushed;    /* the buffer's first byte goes here */
    uint64_t last_stamp; /* stamps never decrease: smaller ones are raised to this */
    struct progress *progress; /* asked between large writes; its `done` is not moved */
};

/* The new file may be read by whom `source` may be read by, the file that the log is made of. On failure
 * nothing is left. */
syna_rc out_begin(struct out_log *o, const char *path, const char *source,
                  const struct header *header, struct progress *progress);

/* Append one encoded frame; its stamp, flags of place and checksum are made new. offset may be NULL. */
syna_rc out_frame(struct out_log *o, const uint8_t *frame, uint64_t stamp, uint64_t *offset);
/* The same for the chunk frame `f` of another log; its data stay aligned as they are there. */
syna_rc out_chunk(struct out_log *o, const struct frame *f, uint64_t *offset);
/* Append a CLOSE or MARK frame. */
syna_rc out_engine(struct out_log *o, enum engine_frame kind);

static inline uint64_t out_end(const struct out_log *o)
{
    return o->flushed + o->buffer.len;
}
syna_rc out_flush(struct out_log *o);
/* Take back everything from `end` on, an earlier out_end. */
syna_rc out_rewind(struct out_log *o, uint64_t end);

/* Give a synced temp file the new name `to`: file_publish without replacing, and when only the sync of
 * the directory fails the name is taken back, so that a failed call leaves nothing and can be repeated. */
syna_rc out_publish_new(struct file *temp, const char *to, bool *exists);

/* Drop the temp file, if there still is one, and all memory. Keeps the error record. */
void out_discard(struct out_log *o);

#endif
