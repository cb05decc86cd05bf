/* db_check.c - verify: read a whole log and say what is wrong with it.
 *
 * Damage and a torn tail are told apart as recovery does it: bytes that are no frame are damage when a
 * valid frame with PRIOR_DURABLE stands behind them, because then they had been synced; without one
 * they, and everything behind them, are a tail that was never acknowledged as durable. So a gap
 * waits in `gaps` until such a frame is seen or the file ends. */
#include "base/internal.h"

#include <stdarg.h>

#include "base/utf8.h"
#include "engine/db_blob.h"
#include "engine/db_check.h"
#include "store/column.h"

/* ---------------------------------------------------------------- findings */

__attribute__((format(printf, 3, 0))) static void
report(struct findings *to, uint64_t offset, const char *format, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    if (to->visit && !to->stopped)
        to->stopped = to->visit(to->context, offset, text) != 0;
}

const char *finding_reason(const char *path, uint64_t offset)
{
    const char *message = status_get()->message;
    char place[32];
    size_t len = strlen(path);
    snprintf(place, sizeof place, ": offset %llu: ", (unsigned long long)offset);
    if (strncmp(message, path, len) == 0 && strncmp(message + len, place, strlen(place)) == 0)
        return message + len + strlen(place);
    return message;
}

syna_rc finding_status(const struct findings *to)
{
    return to->stopped ? syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED,
                                   "cancelled by the function that gets the findings")
                       : SYNA_SUCCESS;
}

void finding_note(struct findings *to, uint64_t offset, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(to, offset, format, args);
    va_end(args);
}

void finding_damage(struct findings *to, uint64_t offset, const char *format, ...)
{
    va_list args;
    to->out->damaged++;
    va_start(args, format);
    report(to, offset, format, args);
    va_end(args);
}

/* ---------------------------------------------------------------- one frame */

static syna_rc unsound(const struct frame *f, const char *path, const char *what, uint64_t found)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, (int64_t)f->offset, 0,
                        "%s (%llu)", what, (unsigned long long)found);
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static syna_rc check_engine_frame(const struct frame *f, const char *path)
{
    uint8_t kind = f->value[0];
    if (f->flags & ~(FRAME_COMMIT | FRAME_PRIOR_DURABLE))
        return unsound(f, path, "engine frame with flags of a value", f->flags);
    switch (kind) {
    case ENGINE_CLOSE:
    case ENGINE_MARK:
        return f->value_len == 1 ? SYNA_SUCCESS
                                 : unsound(f, path, "CLOSE or MARK frame with more bytes than 1",
                                           f->value_len);
    case ENGINE_PAD:
        return all_zero(f->value + 1, f->value_len - 1)
                   ? SYNA_SUCCESS
                   : unsound(f, path, "PAD frame with bytes that are not zero", f->value_len);
    case ENGINE_CHUNK:
        return f->value_len > 1 && f->value_len <= BLOB_CHUNK_BYTES + 1
                   ? SYNA_SUCCESS
                   : unsound(f, path, "CHUNK frame of impossible length", f->value_len);
    default:
        return unsound(f, path, "engine frame of unknown kind", kind);
    }
}

static syna_rc check_block(const struct frame *f, const char *path)
{
    struct column_source from = {f->value, f->value_len, f->stamp, path, f->offset};
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX], events[COLUMN_MAX];
    struct column_info info;
    if (f->flags & (FRAME_TOMBSTONE | FRAME_LZ4 | FRAME_EXT))
        return unsound(f, path, "column block with flags of a plain value", f->flags);
    SYNA_TRY(column_peek(&from, &info));
    SYNA_TRY(column_decode(&from, bits, stamps, events));
    for (uint32_t i = 1; i < info.count; i++)
        if (stamps[i] < stamps[i - 1])
            return unsound(f, path, "column block whose stamps decrease, at value", i);
    return SYNA_SUCCESS;
}

static syna_rc check_value(const struct frame *f, const char *path, struct buf *scratch,
                           struct value *v)
{
    SYNA_TRY(value_decode(f, path, scratch, v));
    if (f->flags & FRAME_TOMBSTONE && v->type != SYNA_TYPE_NULL)
        return unsound(f, path, "deletion that carries a value of type", (uint64_t)v->type);
    if (v->type > SYNA_TYPE_BLOB)
        return unsound(f, path, "value of unknown type", (uint64_t)v->type);
    if (v->type == SYNA_TYPE_TEXT && !utf8_valid(v->data, v->len))
        return unsound(f, path, "text that is not UTF-8, bytes", v->len);
    return SYNA_SUCCESS;
}

syna_rc check_frame(const struct frame *f, const char *path, struct buf *scratch, struct value *v)
{
    memset(v, 0, sizeof *v);
    if (f->key_len == 0)
        return check_engine_frame(f, path);
    if (!utf8_valid(f->key, f->key_len))
        return unsound(f, path, "key that is not UTF-8, bytes", f->key_len);
    return f->flags & FRAME_BLOCK ? check_block(f, path) : check_value(f, path, scratch, v);
}

/* ---------------------------------------------------------------- the walk */

/* Bytes that are no frame, and what had been counted before them. */
struct gap {
    uint64_t start, end;
    uint64_t frames, bytes;
};

/* What is wrong with a frame behind a gap: a blob, say, misses a chunk that lay in it. */
struct doubt {
    uint64_t offset;
    char reason[160];
};

struct verify {
    struct walk walk;
    struct progress progress;
    struct findings to;
    struct buf gaps;   /* struct gap[]: not yet known to be damage */
    struct buf doubts; /* struct doubt[]: findings behind them, which may be due to a torn tail */
    struct buf chunks; /* struct blob_chunk[]: all that were seen, by offset */
    struct buf scratch;
    uint64_t stamp;
    /* The commit that is being read, as it was before its first frame. */
    bool commit_open;
    struct gap commit;
};

static syna_rc note_chunk(struct verify *v, const struct frame *f)
{
    struct blob_chunk chunk = {f->offset, f->value_len - 1, 0};
    return buf_append(&v->chunks, &chunk, sizeof chunk) ? SYNA_SUCCESS : syna_no_memory(sizeof chunk);
}

static bool chunk_seen(const struct verify *v, const struct blob_chunk *wanted)
{
    const struct blob_chunk *chunks = (const void *)v->chunks.bytes;
    size_t low = 0, high = v->chunks.len / sizeof *chunks;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (chunks[middle].offset < wanted->offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->chunks.len / sizeof *chunks && chunks[low].offset == wanted->offset &&
           chunks[low].len == wanted->len;
}

static syna_rc check_blob(struct verify *v, const struct frame *f)
{
    struct blob_manifest m;
    syna_rc rc = blob_parse(f, v->walk.file.path, &m);
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < m.count; i++) {
        struct blob_chunk chunk = blob_entry(&m, i);
        if (!chunk_seen(v, &chunk))
            rc = unsound(f, v->walk.file.path, "blob with a missing chunk; it should be at",
                         chunk.offset);
    }
    blob_manifest_dispose(&m);
    return rc;
}

static syna_rc check_content(struct verify *v, const struct frame *f)
{
    struct value value;
    SYNA_TRY(check_frame(f, v->walk.file.path, &v->scratch, &value));
    if (v->walk.legacy)
        return SYNA_SUCCESS;
    if (f->key_len == 0 && f->value[0] == ENGINE_CHUNK)
        SYNA_TRY(note_chunk(v, f));
    if (value.type == SYNA_TYPE_BLOB)
        SYNA_TRY(check_blob(v, f));
    if (f->stamp < v->stamp)
        return unsound(f, v->walk.file.path, "stamp before that of the frame before it, by us",
                       v->stamp - f->stamp);
    return SYNA_SUCCESS;
}

/* The bytes of all waiting gaps had been synced, so they are damaged. */
static void gaps_are_damage(struct verify *v)
{
    const struct gap *gaps = (const void *)v->gaps.bytes;
    for (size_t i = 0; i < v->gaps.len / sizeof *gaps; i++)
        finding_damage(&v->to, gaps[i].start,
                       "damaged: %llu bytes are no frame with a valid checksum; the next is at %llu",
                       (unsigned long long)(gaps[i].end - gaps[i].start),
                       (unsigned long long)gaps[i].end);
    const struct doubt *doubts = (const void *)v->doubts.bytes;
    for (size_t i = 0; i < v->doubts.len / sizeof *doubts; i++)
        finding_damage(&v->to, doubts[i].offset, "valid checksum, but %s", doubts[i].reason);
    v->gaps.len = v->doubts.len = 0;
}

static syna_rc on_unsound(struct verify *v, const struct frame *f)
{
    struct doubt doubt = {.offset = f->offset};
    snprintf(doubt.reason, sizeof doubt.reason, "%.*s", (int)sizeof doubt.reason - 1,
             finding_reason(v->walk.file.path, f->offset));
    if (!buf_append(&v->doubts, &doubt, sizeof doubt))
        return syna_no_memory(sizeof doubt);
    if (v->gaps.len == 0)
        gaps_are_damage(v);
    return SYNA_SUCCESS;
}

static struct gap here(const struct verify *v, uint64_t start, uint64_t end)
{
    struct gap gap = {start, end, v->to.out->frames, v->to.out->bytes};
    return gap;
}

static syna_rc on_gap(struct verify *v)
{
    struct gap gap = here(v, v->walk.gap_start, v->walk.gap_end);
    if (!buf_append(&v->gaps, &gap, sizeof gap))
        return syna_no_memory(sizeof gap);
    v->commit_open = false; /* the end of that commit may lie in the gap */
    if (v->walk.legacy)
        gaps_are_damage(v);
    return SYNA_SUCCESS;
}

static syna_rc on_frame(struct verify *v)
{
    const struct frame *f = &v->walk.frame;
    if (f->flags & FRAME_PRIOR_DURABLE)
        gaps_are_damage(v);
    if (!v->commit_open)
        v->commit = here(v, f->offset, f->offset);
    v->commit_open = !v->walk.legacy && !(f->flags & FRAME_COMMIT);

    syna_rc rc = check_content(v, f);
    if (rc == SYNA_ERR_SERIALIZATION)
        rc = on_unsound(v, f);
    SYNA_TRY(rc);
    v->stamp = MAX(v->stamp, f->stamp);
    v->to.out->frames++;
    v->to.out->bytes += f->len;
    return SYNA_SUCCESS;
}

/* What stands behind the last whole commit was never acknowledged as durable. */
static void on_end(struct verify *v)
{
    const struct walk *w = &v->walk;
    struct gap tail = here(v, w->at, w->at);
    if (w->gave_up) {
        gaps_are_damage(v);
        finding_damage(&v->to, w->at, "no frame here, and too many bytes behind it look like frames; "
                                      "gave up searching");
        return;
    }
    if (v->gaps.len > 0)
        tail = *(const struct gap *)(const void *)v->gaps.bytes;
    else if (v->commit_open)
        tail = v->commit;
    v->to.out->frames = tail.frames;
    v->to.out->bytes = tail.bytes;
    if (tail.start >= w->data_end)
        return;
    v->to.out->torn_bytes = w->data_end - tail.start;
    finding_note(&v->to, tail.start,
                 "unfinished tail of %llu bytes: no whole commit, or damage to what was written last",
                 (unsigned long long)v->to.out->torn_bytes);
}

static syna_rc verify_frames(struct verify *v)
{
    enum walk_event event;
    do {
        SYNA_TRY(walk_next(&v->walk, &event));
        if (event == WALK_FRAME)
            SYNA_TRY(on_frame(v));
        else if (event == WALK_GAP)
            SYNA_TRY(on_gap(v));
        SYNA_TRY(finding_status(&v->to));
    } while (event != WALK_END);
    on_end(v);
    return SYNA_SUCCESS;
}

/* A header block that cannot be read ends the check, and is a finding like any other. */
static syna_rc open_walk(struct verify *v, const char *path, bool *readable)
{
    syna_rc rc = walk_open(&v->walk, path, &v->progress);
    *readable = rc == SYNA_SUCCESS;
    if (rc == SYNA_ERR_SERIALIZATION && status_get()->reason == SYNA_WHY_CORRUPT) {
        finding_damage(&v->to, 0, "%s", status_get()->message);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(rc);
    if (v->walk.mended)
        finding_damage(&v->to, 0, "the header block is damaged; expected checksum and contents agree");
    if (v->walk.legacy)
        finding_note(&v->to, 0, "the ancestor's format: without checksums, so only the structure is "
                                "checked");
    if (v->walk.empty)
        finding_note(&v->to, 0, "no header block: the file is empty");
    v->to.out->bytes = v->walk.empty ? 0 : v->walk.start;
    return SYNA_SUCCESS;
}

static syna_rc verify_path(struct verify *v, const char *path)
{
    bool readable;
    SYNA_TRY(open_walk(v, path, &readable));
    if (!readable)
        return SYNA_SUCCESS;
    SYNA_TRY(progress_ask(&v->progress));
    SYNA_TRY(verify_frames(v));
    if (v->to.out->damaged == 0 && !v->walk.legacy && !v->walk.empty)
        SYNA_TRY(check_index(path, &v->progress, &v->to));
    SYNA_TRY(finding_status(&v->to));
    v->progress.done = v->progress.total;
    return progress_ask(&v->progress);
}

syna_rc db_verify(const char *path, syna_finding_fn visit, void *context,
                  syna_progress_fn progress, syna_check *out)
{
    struct verify v = {.walk.file = FILE_NONE,
                       .progress = {.ask = progress, .context = context, .what = "verify"},
                       .to = {.visit = visit, .context = context, .out = out}};
    char *canonical;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    SYNA_TRY(db_canonical_path(path, &canonical));
    syna_rc rc = verify_path(&v, canonical);
    struct status_record why = *status_get();
    walk_close(&v.walk);
    buf_dispose(&v.gaps);
    buf_dispose(&v.doubts);
    buf_dispose(&v.chunks);
    buf_dispose(&v.scratch);
    mem_free(canonical);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}
