/* db_out.c - write a new log front to back into a temp file (db_out.h). */
#include "base/internal.h"

#include "engine/db_out.h"

/* Written in pieces of this size: few system calls, and a progress question between two of them even
 * while one frame of a gigabyte goes out. */
#define OUT_PIECE (4u << 20)

/* What chunks of tensors are aligned to (tensor_core.h). */
enum { ALIGNED_LINE = 64, ALIGNED_PAGE = 4096 };

static syna_rc write_header(struct out_log *o, const struct header *header)
{
    uint8_t *block = buf_extend(&o->buffer, HEADER_BYTES);
    if (!block)
        return syna_no_memory(HEADER_BYTES);
    header_encode(header, block);
    return SYNA_SUCCESS;
}

syna_rc out_begin(struct out_log *o, const char *path, const char *source,
                  const struct header *header, struct progress *progress)
{
    memset(o, 0, sizeof *o);
    o->file.fd = -1;
    o->seed = frame_seed(header->uuid);
    o->progress = progress;
    SYNA_TRY(file_create_temp(&o->file, path));
    file_take_access(&o->file, source);
    syna_rc rc = write_header(o, header);
    if (rc != SYNA_SUCCESS)
        out_discard(o);
    return rc;
}

syna_rc out_flush(struct out_log *o)
{
    size_t written = 0;
    while (written < o->buffer.len) {
        size_t piece = MIN(o->buffer.len - written, (size_t)OUT_PIECE);
        SYNA_TRY(file_write_all(&o->file, o->flushed + written, o->buffer.bytes + written, piece));
        written += piece;
        if (written < o->buffer.len)
            SYNA_TRY(progress_ask(o->progress));
    }
    o->flushed += written;
    o->buffer.len = 0;
    if (o->buffer.cap > 4 * OUT_PIECE)
        buf_dispose(&o->buffer); /* one huge frame went through */
    return SYNA_SUCCESS;
}

syna_rc out_rewind(struct out_log *o, uint64_t end)
{
    if (end >= o->flushed) {
        o->buffer.len = (size_t)(end - o->flushed);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(file_truncate(&o->file, end));
    o->flushed = end;
    o->buffer.len = 0;
    return SYNA_SUCCESS;
}

syna_rc out_frame(struct out_log *o, const uint8_t *frame, uint64_t stamp, uint64_t *offset)
{
    size_t len = (size_t)frame_length(frame);
    uint64_t at = out_end(o);
    uint8_t *copy = buf_extend(&o->buffer, len);
    if (!copy)
        return syna_no_memory(len);
    memcpy(copy, frame, len);
    copy[FRAME_AT_FLAGS] &= (uint8_t) ~(FRAME_COMMIT | FRAME_PRIOR_DURABLE);
    o->last_stamp = MAX(o->last_stamp, stamp);
    frame_seal(copy, at, o->last_stamp, FRAME_COMMIT | FRAME_PRIOR_DURABLE, o->seed);
    if (offset)
        *offset = at;
    return o->buffer.len >= OUT_PIECE ? out_flush(o) : SYNA_SUCCESS;
}

syna_rc out_engine(struct out_log *o, enum engine_frame kind)
{
    uint8_t body = (uint8_t)kind;
    struct buf frame = {0};
    if (!frame_append(&frame, NULL, 0, 0, &body, 1)) {
        buf_dispose(&frame);
        return syna_no_memory(FRAME_HEADER_BYTES + 1 + FRAME_CRC_BYTES);
    }
    syna_rc rc = out_frame(o, frame.bytes, o->last_stamp, NULL);
    buf_dispose(&frame);
    return rc;
}

/* What a chunk's data is aligned to: a page, a line of the cache, or nothing that anyone asked for. */
static uint32_t chunk_alignment(uint64_t offset)
{
    uint64_t data = offset + FRAME_HEADER_BYTES + 1;
    return data % ALIGNED_PAGE == 0 ? ALIGNED_PAGE : data % ALIGNED_LINE == 0 ? ALIGNED_LINE : 1;
}

syna_rc out_chunk(struct out_log *o, const struct frame *f, uint64_t *offset)
{
    uint8_t pad[FRAME_PAD_MAX(ALIGNED_PAGE)];
    size_t len = frame_pad_length(out_end(o), chunk_alignment(f->offset));
    if (len > 0) {
        frame_pad(pad, len);
        SYNA_TRY(out_frame(o, pad, o->last_stamp, NULL));
    }
    return out_frame(o, frame_start(f), f->stamp, offset);
}

syna_rc out_publish_new(struct file *temp, const char *to, bool *exists)
{
    syna_rc rc = file_publish(temp, to, false, exists);
    if (rc != SYNA_SUCCESS && strcmp(temp->path, to) == 0)
        syna_vfs->remove_name(to);
    return rc;
}

void out_discard(struct out_log *o)
{
    struct status_record why = *status_get();
    if (o->file.path)
        file_discard_temp(&o->file);
    buf_dispose(&o->buffer);
    status_set(&why);
}
