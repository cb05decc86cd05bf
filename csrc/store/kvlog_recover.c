/* kvlog_recover.c - find the end of a log: replay whole commits, and tell a torn tail from damage.
 *
 *   zeros to the end of the file   the log ends here; in a log that is followed, not opened, a header
 *                                  of zeros is enough
 *   anything else                  look further: a valid frame with PRIOR_DURABLE behind it proves
 *                                  that these bytes had been synced, so they are damaged (P5);
 *                                  without one they are a tail that was never acknowledged as durable
 *
 * A writer holds the lock and reads through its map. A reader may have a writer beside it, who can
 * trim zeros off the end at any time: so bytes behind the validated end are read with pread, never
 * through the map (P15), and a suspicious place is read twice, because a pread is not atomic against
 * a store. */
#include "base/internal.h"

#include "store/kvlog.h"

#define WINDOW_BYTES (1u << 20)
/* A follower mostly finds nothing new. */
#define FIRST_WINDOW_BYTES 4096u
/* How much checksumming a search for durable frames may cost before the bytes count as damage. */
#define SEARCH_BUDGET (256ull << 20)

/* The last frame may end in zeros that belong to it: those of its checksum. */
#define ZEROS_OF_CRC (FRAME_CRC_BYTES - 1)

/* Not a code for others: kvlog_replay makes it SYNA_ERR_SERIALIZATION. */
#define FRAME_DAMAGED (-1001)

/* Bytes of the file behind the validated end. */
struct source {
    const struct kvlog *log;
    uint64_t size; /* the file's */
    bool mapped;
    bool followed; /* a header of zeros is the end */
    struct buf window;
    uint64_t window_at, window_bytes;
};

static syna_rc source_init(struct source *s, struct kvlog *log, uint64_t size, bool followed)
{
    memset(s, 0, sizeof *s);
    s->log = log;
    s->followed = followed;
    s->window_bytes = followed ? FIRST_WINDOW_BYTES : WINDOW_BYTES;
    s->size = size;
    log->allocated = size;
    s->mapped = log->writable && !log->map.copy;
    if (s->mapped)
        SYNA_TRY(map_grow(&log->map, &log->file, s->size));
    return SYNA_SUCCESS;
}

static syna_rc source_fill(struct source *s, uint64_t at, uint64_t want)
{
    size_t got = 0;
    size_t len = (size_t)MIN(MAX(want, s->window_bytes), s->size - at);
    s->window_bytes = WINDOW_BYTES;
    s->window.len = 0;
    if (!buf_extend(&s->window, len))
        return syna_no_memory(len);
    s->window_at = at;
    SYNA_TRY(file_read(&s->log->file, at, s->window.bytes, len, &got));
    s->window.len = got; /* shorter: the writer trimmed its zeros meanwhile */
    if (got < len)
        s->size = at + got;
    return SYNA_SUCCESS;
}

/* At least `want` bytes at `at`, or all there are. */
static syna_rc source_at(struct source *s, uint64_t at, uint64_t want, const uint8_t **bytes,
                         uint64_t *avail)
{
    static const uint8_t nothing[1];
    *bytes = nothing;
    *avail = 0;
    if (at >= s->size)
        return SYNA_SUCCESS;
    if (s->mapped) {
        *bytes = map_base(&s->log->map) + at;
        *avail = s->size - at;
        return SYNA_SUCCESS;
    }
    bool inside = s->window.len > 0 && at >= s->window_at && at < s->window_at + s->window.len;
    uint64_t have = inside ? s->window_at + s->window.len - at : 0;
    if (have < MIN(want, s->size - at)) {
        SYNA_TRY(source_fill(s, at, want));
        have = s->window.len;
    }
    *bytes = s->window.bytes + (at - s->window_at);
    *avail = have;
    return SYNA_SUCCESS;
}

/* Length of the frame whose header stands at `bytes`, for reading it whole. */
static uint64_t length_at(const uint8_t *bytes, uint64_t avail)
{
    return avail < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : frame_length(bytes);
}

static bool is_followed_end(const struct source *s, const uint8_t *bytes, uint64_t avail)
{
    return s->followed && avail >= FRAME_HEADER_BYTES && nonzero_end(bytes, FRAME_HEADER_BYTES) == 0;
}

static syna_rc parse_at(struct source *s, uint64_t at, enum frame_state *state, struct frame *f)
{
    const uint8_t *bytes;
    uint64_t avail;
    SYNA_TRY(source_at(s, at, FRAME_HEADER_BYTES, &bytes, &avail));
    if (avail == 0) {
        *state = FRAME_ZERO;
        return SYNA_SUCCESS;
    }
    if (is_followed_end(s, bytes, avail)) {
        *state = FRAME_ZERO;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(source_at(s, at, length_at(bytes, avail), &bytes, &avail));
    *state = s->log->legacy ? frame_parse_legacy(bytes, avail, at, f)
                            : frame_parse(bytes, avail, at, s->log->seed, f);
    return SYNA_SUCCESS;
}

/* Is everything from `at` on zero? *last becomes the end of the last byte that is not. */
static syna_rc find_nonzero_end(struct source *s, uint64_t at, uint64_t *last)
{
    *last = at;
    while (at < s->size) {
        const uint8_t *bytes;
        uint64_t avail;
        SYNA_TRY(source_at(s, at, WINDOW_BYTES, &bytes, &avail));
        if (avail == 0)
            break;
        avail = MIN(avail, (uint64_t)WINDOW_BYTES);
        size_t end = nonzero_end(bytes, (size_t)avail);
        if (end > 0)
            *last = at + end;
        at += avail;
    }
    return SYNA_SUCCESS;
}

/* Could a frame with PRIOR_DURABLE start at these bytes? Cheap, and false for nearly all bytes that
 * are not frames: stamps do not decrease, and their upper bytes hardly change. */
static bool may_be_durable_frame(const struct kvlog *log, const uint8_t *bytes, uint64_t left)
{
    uint8_t flags = bytes[FRAME_AT_FLAGS];
    uint64_t stamp = load_u64(bytes + FRAME_AT_STAMP);
    if (!(flags & FRAME_PRIOR_DURABLE) || (flags & (FRAME_RESERVED | FRAME_DELTA)))
        return false;
    return stamp >= log->last_stamp && stamp >> 56 == 0 &&
           load_u32(bytes + FRAME_AT_VAL_LEN) >= FRAME_CRC_BYTES && frame_length(bytes) <= left;
}

/* Search (from, size) for a valid frame that says PRIOR_DURABLE. A search that would cost too much
 * counts as found: then the file is refused, which loses nothing. */
static syna_rc find_durable_frame(struct source *s, uint64_t from, uint64_t size, bool *found)
{
    uint64_t budget = SEARCH_BUDGET;
    *found = false;
    for (uint64_t at = from; at + FRAME_HEADER_BYTES < size; at++) {
        const uint8_t *bytes;
        uint64_t avail;
        struct frame f;
        SYNA_TRY(source_at(s, at, FRAME_HEADER_BYTES, &bytes, &avail));
        if (avail < FRAME_HEADER_BYTES)
            break;
        if (!may_be_durable_frame(s->log, bytes, size - at))
            continue;
        uint64_t len = frame_length(bytes);
        enum frame_state state;
        if (len > budget) {
            *found = true;
            return SYNA_SUCCESS;
        }
        budget -= len;
        SYNA_TRY(parse_at(s, at, &state, &f));
        if (state == FRAME_GOOD) {
            *found = true;
            return SYNA_SUCCESS;
        }
    }
    return SYNA_SUCCESS;
}

static syna_rc damage(const struct kvlog *log, uint64_t at)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, log->file.path, (int64_t)at, 0,
                        "damaged frame: its bytes do not match their checksum, and frames behind it "
                        "show that it had been durable; `synadb salvage` copies out the rest");
}

/* What stands behind the last whole commit? */
static syna_rc judge_rest(struct source *s, uint64_t at, struct kvlog_recovery *r)
{
    const uint8_t *bytes;
    uint64_t avail, last;
    bool durable_behind;
    SYNA_TRY(source_at(s, at, FRAME_HEADER_BYTES, &bytes, &avail));
    if (is_followed_end(s, bytes, avail))
        return SYNA_SUCCESS;
    SYNA_TRY(find_nonzero_end(s, at, &last));
    if (last == at)
        return SYNA_SUCCESS;
    SYNA_TRY(find_durable_frame(s, at + 1, MIN(last + ZEROS_OF_CRC, s->size), &durable_behind));
    if (durable_behind)
        return FRAME_DAMAGED;
    r->cut_offset = at;
    r->cut_bytes = last - at;
    return SYNA_SUCCESS;
}

/* Find the end of the commit that starts at `at`; *end == at when there is no whole one. */
static syna_rc find_commit(struct source *s, uint64_t at, uint64_t *end)
{
    uint64_t next = at;
    *end = at;
    for (;;) {
        enum frame_state state;
        struct frame f;
        SYNA_TRY(parse_at(s, next, &state, &f));
        if (state != FRAME_GOOD)
            return SYNA_SUCCESS;
        next += f.len;
        if (s->log->legacy || (f.flags & FRAME_COMMIT)) {
            *end = next;
            return SYNA_SUCCESS;
        }
    }
}

static void view_at(const struct kvlog *log, uint64_t at, uint64_t end, struct frame *f)
{
    const uint8_t *bytes = map_base(&log->map) + at;
    if (log->legacy)
        frame_parse_legacy(bytes, end - at, at, f);
    else
        frame_view(bytes, at, f);
}

/* A frame without a key has a kind: frame_parse sees to it. */
static bool is_close(const struct frame *f)
{
    return f->key_len == 0 && f->value[0] == ENGINE_CLOSE;
}

/* Move the log's end behind a validated commit and hand out its frames: a visitor may follow offsets
 * to any of them. When it fails the caller starts over from a place of its own. */
static syna_rc accept_commit(struct kvlog *log, uint64_t end,
                             syna_rc (*visit)(void *context, const struct frame *f), void *context,
                             struct kvlog_recovery *r)
{
    uint64_t start = log->end;
    struct frame f;
    SYNA_TRY(map_grow(&log->map, &log->file, log->map.copy ? end : MAX(end, log->allocated)));
    __atomic_store_n(&log->end, end, __ATOMIC_RELEASE);
    for (uint64_t at = start; at < end; at += f.len) {
        view_at(log, at, end, &f);
        log->last_offset = at;
        log->last_stamp = MAX(log->last_stamp, f.stamp);
        log->last_crc = f.crc;
        SYNA_TRY(visit(context, &f));
        r->frames++;
        r->clean = is_close(&f);
    }
    return SYNA_SUCCESS;
}

static syna_rc replay_from(struct source *s, struct kvlog *log,
                           syna_rc (*visit)(void *context, const struct frame *f), void *context,
                           struct kvlog_recovery *r)
{
    for (;;) {
        uint64_t end;
        SYNA_TRY(find_commit(s, log->end, &end));
        if (end == log->end)
            return SYNA_SUCCESS;
        SYNA_TRY(accept_commit(log, end, visit, context, r));
    }
}

/* Replay, and look at what is left. FRAME_DAMAGED tells damage found there from an error of the
 * visitor, whose commit must not be passed over by a second try. */
static syna_rc replay_and_judge(struct source *s, struct kvlog *log,
                                syna_rc (*visit)(void *context, const struct frame *f), void *context,
                                struct kvlog_recovery *r)
{
    SYNA_TRY(replay_from(s, log, visit, context, r));
    return log->legacy ? SYNA_SUCCESS : judge_rest(s, log->end, r);
}

static syna_rc replay(struct kvlog *log, uint64_t size, bool followed,
                      syna_rc (*visit)(void *context, const struct frame *f), void *context,
                      struct kvlog_recovery *r)
{
    struct source s;
    memset(r, 0, sizeof *r);
    if (log->last_offset) {
        struct frame last;
        view_at(log, log->last_offset, log->end, &last);
        r->clean = is_close(&last);
    }
    SYNA_TRY(source_init(&s, log, size, followed));
    syna_rc rc = replay_and_judge(&s, log, visit, context, r);
    if (rc == FRAME_DAMAGED && !s.mapped) {
        /* A reader beside a writer may have looked at a store half done. */
        s.window.len = 0;
        rc = replay_and_judge(&s, log, visit, context, r);
    }
    if (rc == FRAME_DAMAGED)
        rc = damage(log, log->end);
    if (r->cut_bytes > 0)
        r->clean = false;
    log->floor = log->end;
    buf_dispose(&s.window);
    return rc;
}

syna_rc kvlog_replay(struct kvlog *log, syna_rc (*visit)(void *context, const struct frame *f),
                     void *context, struct kvlog_recovery *r)
{
    struct vfs_stat st;
    memset(r, 0, sizeof *r);
    SYNA_TRY(file_stat(&log->file, &st));
    return replay(log, st.size, false, visit, context, r);
}

syna_rc kvlog_follow(struct kvlog *log, uint64_t size,
                     syna_rc (*visit)(void *context, const struct frame *f), void *context,
                     struct kvlog_recovery *r)
{
    return replay(log, size, true, visit, context, r);
}

bool kvlog_is_quiet(const struct kvlog *log, uint64_t size)
{
    if (!log->writable || log->map.copy || size != log->allocated ||
        log->map.len < log->end + FRAME_HEADER_BYTES)
        return false;
    return nonzero_end(map_base(&log->map) + log->end, FRAME_HEADER_BYTES) == 0;
}

/* Does the tail start with a whole frame whose checksum is wrong? Then someone may want to see it. */
static bool tail_looks_complete(const uint8_t *tail, uint64_t len)
{
    return len >= FRAME_HEADER_BYTES && load_u16(tail + FRAME_AT_KEY_LEN) > 0 &&
           load_u32(tail + FRAME_AT_VAL_LEN) > FRAME_CRC_BYTES && frame_length(tail) <= len + ZEROS_OF_CRC;
}

static syna_rc save_tail(const struct kvlog *log, const uint8_t *tail, uint64_t len)
{
    size_t room = strlen(log->file.path) + sizeof KVLOG_CUT_SUFFIX;
    char *path = mem_alloc(room);
    struct file out = FILE_NONE;
    bool exists;
    if (!path)
        return syna_no_memory(room);
    snprintf(path, room, "%s" KVLOG_CUT_SUFFIX, log->file.path);

    syna_rc rc = file_create_temp(&out, path);
    if (rc == SYNA_SUCCESS) {
        file_take_access(&out, log->file.path);
        rc = file_write_all(&out, 0, tail, (size_t)len);
        if (rc == SYNA_SUCCESS)
            rc = file_sync(&out);
        if (rc == SYNA_SUCCESS)
            rc = file_publish(&out, path, true, &exists);
        if (rc == SYNA_SUCCESS)
            file_close(&out);
        else
            file_discard_temp(&out);
    }
    mem_free(path);
    return rc;
}

/* The bytes of the tail: mapped, or read into `room`. */
static syna_rc tail_bytes(const struct kvlog *log, const struct kvlog_recovery *r, struct buf *room,
                          const uint8_t **tail)
{
    *tail = map_base(&log->map) + r->cut_offset;
    if (!log->map.copy)
        return SYNA_SUCCESS;
    uint8_t *bytes = buf_extend(room, (size_t)r->cut_bytes);
    if (!bytes)
        return syna_no_memory((size_t)r->cut_bytes);
    *tail = bytes;
    return file_read_exactly(&log->file, r->cut_offset, bytes, (size_t)r->cut_bytes);
}

static syna_rc keep_tail(const struct kvlog *log, struct kvlog_recovery *r)
{
    struct buf room = {0};
    const uint8_t *tail;
    syna_rc rc = tail_bytes(log, r, &room, &tail);
    if (rc == SYNA_SUCCESS && tail_looks_complete(tail, r->cut_bytes)) {
        rc = save_tail(log, tail, r->cut_bytes);
        r->cut_saved = rc == SYNA_SUCCESS;
    }
    buf_dispose(&room);
    return rc;
}

syna_rc kvlog_cut(struct kvlog *log, struct kvlog_recovery *r)
{
    if (r->cut_bytes == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(keep_tail(log, r));
    /* All of it: zeroing only its first bytes lets a later, shorter tail join up with what is left. */
    SYNA_TRY(kvlog_zero(log, r->cut_offset, r->cut_bytes));
    SYNA_TRY(file_sync(&log->file));
    __atomic_store_n(&log->durable, log->end, __ATOMIC_RELEASE);
    log->grown = true; /* so that a clean close says so */
    return SYNA_SUCCESS;
}
