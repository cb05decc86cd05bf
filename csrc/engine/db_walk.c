/* db_walk.c - walk over a log that may be damaged (db_walk.h).
 *
 * The search for the next frame behind damage tries every byte. Most are ruled out by the header
 * they would make; what remains is checksummed. Honest files cost one look a byte: stamps of a log
 * hardly change in their upper bytes, so candidates are first limited to stamps between the last good one and
 * tomorrow. Only if that finds nothing are any stamps allowed. A budget for the whole walk keeps a
 * file made of plausible headers from taking time squared. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/db_walk.h"
#include "store/value.h"

#define WINDOW_BYTES (1u << 20)
#define EMPTY_FILE_MAX 4096u
#define SEARCH_BUDGET (64ull << 20) /* and 4 times the file's size */
#define DAY_US 86400000000ull
/* The ancestor's own recovery takes only times from 2000 to 2100 (or 0) for plausible. */
#define LEGACY_TIME_MIN 946684800000000ull
#define LEGACY_TIME_MAX 4102444800000000ull
/* A frame beside a writer may be half stored: look again before believing it is bad. */
#define LOOKS 3
#define LOOK_PAUSE_US 500u

/* ---------------------------------------------------------------- bytes */

/* At least `want` bytes at `at`, or all there are, in *window. Only the walk's own window reads ahead. */
static syna_rc fetch(const struct walk *w, struct buf *window, uint64_t *window_at, uint64_t at,
                     uint64_t want, const uint8_t **bytes, uint64_t *avail)
{
    static const uint8_t nothing[1];
    want = at < w->size ? MIN(want, w->size - at) : 0;
    *bytes = nothing;
    *avail = 0;
    if (want == 0)
        return SYNA_SUCCESS;
    bool inside = at >= *window_at && at - *window_at <= window->len;
    if (!inside || window->len - (size_t)(at - *window_at) < want) {
        uint64_t ahead = window == &w->window ? WINDOW_BYTES : want;
        size_t len = (size_t)MIN(MAX(want, ahead), w->size - at);
        size_t got = 0;
        window->len = 0;
        if (!buf_extend(window, len))
            return syna_no_memory(len);
        window->len = 0;
        SYNA_TRY(file_read(&w->file, at, window->bytes, len, &got));
        window->len = got; /* shorter: someone trimmed the file */
        *window_at = at;
    }
    *bytes = window->bytes + (at - *window_at);
    *avail = window->len - (size_t)(at - *window_at);
    return SYNA_SUCCESS;
}

static syna_rc parse(const struct walk *w, struct buf *window, uint64_t *window_at, uint64_t at,
                     enum frame_state *state, struct frame *f)
{
    const uint8_t *bytes;
    uint64_t avail;
    SYNA_TRY(fetch(w, window, window_at, at, FRAME_HEADER_BYTES, &bytes, &avail));
    if (avail >= FRAME_HEADER_BYTES && load_u32(bytes + FRAME_AT_VAL_LEN) <= FRAME_VAL_LEN_MAX &&
        frame_length(bytes) <= w->size - at)
        SYNA_TRY(fetch(w, window, window_at, at, frame_length(bytes), &bytes, &avail));
    *state = w->legacy ? frame_parse_legacy(bytes, avail, at, f)
                       : frame_parse(bytes, avail, at, w->seed, f);
    return SYNA_SUCCESS;
}

syna_rc walk_look(struct walk *w, uint64_t offset, struct buf *bytes, struct frame *f, bool *good)
{
    enum frame_state state = FRAME_BAD;
    uint64_t at = 0;
    bytes->len = 0;
    if (offset >= w->start && offset < w->size)
        SYNA_TRY(parse(w, bytes, &at, offset, &state, f));
    *good = state == FRAME_GOOD;
    return SYNA_SUCCESS;
}

/* The first byte at or behind `at` that is not zero; `size` when there is none. */
static syna_rc find_data(struct walk *w, uint64_t at, uint64_t *data)
{
    *data = w->size;
    while (at < w->size) {
        const uint8_t *bytes;
        uint64_t avail;
        SYNA_TRY(fetch(w, &w->window, &w->window_at, at, WINDOW_BYTES, &bytes, &avail));
        size_t start = nonzero_start(bytes, (size_t)avail);
        if (start < avail) {
            *data = at + start;
            return SYNA_SUCCESS;
        }
        if (avail == 0)
            return SYNA_SUCCESS;
        at += avail;
        SYNA_TRY(progress_tick(w->progress, avail));
    }
    return SYNA_SUCCESS;
}

/* Where the bytes behind `at` that are not zero end. */
static syna_rc find_data_end(struct walk *w)
{
    uint64_t at = w->at;
    w->data_end = at;
    while (at < w->size) {
        const uint8_t *bytes;
        uint64_t avail;
        SYNA_TRY(fetch(w, &w->window, &w->window_at, at, WINDOW_BYTES, &bytes, &avail));
        size_t end = nonzero_end(bytes, (size_t)avail);
        if (end > 0)
            w->data_end = at + end;
        if (avail == 0)
            return SYNA_SUCCESS;
        at += avail;
        SYNA_TRY(progress_tick(w->progress, avail));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the header block */

/* The checksum of the header block tells which one bit of it is wrong, if it is one. */
static bool mend_one_bit(uint8_t block[HEADER_BYTES])
{
    for (unsigned bit = 0; bit < HEADER_BYTES * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (memcmp(block, HEADER_MAGIC, HEADER_MAGIC_BYTES) == 0 &&
            load_u32(block + HEADER_AT_CRC) == crc32c(0, block, HEADER_AT_CRC))
            return true;
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return false;
}

/* The key checkpoint beside a log carries the log's identity in a header block of its own. */
static bool borrow_header(const struct walk *w, struct header *h)
{
    struct file idx = FILE_NONE;
    uint8_t block[HEADER_BYTES];
    size_t got = 0;
    struct buf path = {0};
    bool ok = buf_append(&path, w->file.path, strlen(w->file.path)) && buf_append(&path, ".idx", 5) &&
              file_open(&idx, (const char *)path.bytes, VFS_READ) == SYNA_SUCCESS;
    if (ok)
        ok = file_read(&idx, 0, block, sizeof block, &got) == SYNA_SUCCESS &&
             header_decode(block, got, KIND_SNAPSHOT, idx.path, h) == SYNA_SUCCESS;
    file_close(&idx);
    buf_dispose(&path);
    return ok;
}

/* A log's header block that does not decode. `why` is what decoding said. */
static syna_rc recover_header(struct walk *w, const uint8_t *bytes, uint64_t avail,
                              const struct status_record *why)
{
    uint8_t block[HEADER_BYTES];
    if (why->reason == SYNA_WHY_NEWER_FORMAT || avail < HEADER_BYTES)
        return status_set(why);
    memcpy(block, bytes, sizeof block);
    if (mend_one_bit(block)) {
        w->mended = true;
        return header_decode(block, sizeof block, KIND_LOG, w->file.path, &w->header);
    }
    if (why->reason == SYNA_WHY_WRONG_KIND &&
        memcmp(block, HEADER_MAGIC, HEADER_MAGIC_BYTES) == 0)
        return status_set(why); /* sound, but another kind of file */
    w->mended = borrow_header(w, &w->header);
    return w->mended ? SYNA_SUCCESS : status_set(why);
}

static syna_rc read_header(struct walk *w)
{
    const uint8_t *bytes;
    uint64_t avail;
    struct frame f;
    SYNA_TRY(fetch(w, &w->window, &w->window_at, 0, EMPTY_FILE_MAX, &bytes, &avail));
    w->empty = w->size <= EMPTY_FILE_MAX && nonzero_end(bytes, (size_t)avail) == 0;
    if (w->empty) {
        w->at = w->start = w->size;
        return SYNA_SUCCESS;
    }
    w->start = HEADER_BYTES;
    if (header_decode(bytes, (size_t)avail, KIND_LOG, w->file.path, &w->header) == SYNA_SUCCESS)
        return SYNA_SUCCESS;
    struct status_record why = *status_get();
    enum frame_state state;
    w->legacy = true;
    SYNA_TRY(parse(w, &w->window, &w->window_at, 0, &state, &f));
    w->legacy = state == FRAME_GOOD;
    if (w->legacy) {
        w->start = 0;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(fetch(w, &w->window, &w->window_at, 0, HEADER_BYTES, &bytes, &avail));
    return recover_header(w, bytes, avail, &why);
}

syna_rc walk_open(struct walk *w, const char *path, struct progress *progress)
{
    struct vfs_stat st;
    memset(w, 0, sizeof *w);
    w->file.fd = -1;
    w->progress = progress;
    SYNA_TRY(file_open(&w->file, path, VFS_READ));
    SYNA_TRY(file_stat(&w->file, &st));
    w->size = st.size;
    SYNA_TRY(read_header(w));
    w->seed = frame_seed(w->header.uuid);
    w->at = w->start;
    w->budget = SEARCH_BUDGET + 4 * w->size;
    progress->total = w->size;
    return SYNA_SUCCESS;
}

void walk_close(struct walk *w)
{
    file_close(&w->file);
    buf_dispose(&w->window);
    buf_dispose(&w->probe);
}

/* ---------------------------------------------------------------- searching */

/* Can a frame begin with this header, `left` bytes from the end of the file? */
static bool plausible(const struct walk *w, const uint8_t *head, uint64_t left, uint64_t newest)
{
    uint32_t key_len = load_u16(head + FRAME_AT_KEY_LEN), val_len = load_u32(head + FRAME_AT_VAL_LEN);
    uint64_t stamp = load_u64(head + FRAME_AT_STAMP);
    if (key_len > SYNA_KEY_MAX || frame_length(head) > left)
        return false;
    if (w->legacy)
        return key_len > 0 && val_len >= 4 && head[FRAME_AT_FLAGS] < 8 &&
               stamp >= LEGACY_TIME_MIN && stamp < LEGACY_TIME_MAX;
    return val_len >= FRAME_CRC_BYTES && val_len <= FRAME_VAL_LEN_MAX &&
           !(head[FRAME_AT_FLAGS] & (FRAME_DELTA | FRAME_RESERVED)) && stamp >= w->last_stamp &&
           stamp <= newest;
}

/* Is there a frame at `at`, whose header is plausible? */
static syna_rc probe(struct walk *w, uint64_t at, bool *good)
{
    struct frame f;
    SYNA_TRY(walk_look(w, at, &w->probe, &f, good));
    if (*good && w->legacy && f.flags & FRAME_LZ4) {
        struct buf scratch = {0}; /* no checksum: only what unpacks is taken */
        struct value v;
        *good = value_decode(&f, w->file.path, &scratch, &v) == SYNA_SUCCESS;
        buf_dispose(&scratch);
    }
    return SYNA_SUCCESS;
}

/* Every byte looked at and every byte checksummed costs budget. */
static bool spend(struct walk *w, uint64_t cost)
{
    w->gave_up = w->budget < cost;
    w->budget -= MIN(cost, w->budget);
    return !w->gave_up;
}

/* The next valid frame at or behind `from` with a stamp up to `newest`. *found is `size` when there
 * is none. */
static syna_rc search(struct walk *w, uint64_t from, uint64_t newest, uint64_t *found)
{
    *found = w->size;
    for (uint64_t at = from; at + FRAME_HEADER_BYTES < w->size && spend(w, 1); at++) {
        const uint8_t *bytes;
        uint64_t avail;
        bool good = false;
        SYNA_TRY(fetch(w, &w->window, &w->window_at, at, FRAME_HEADER_BYTES, &bytes, &avail));
        if (avail < FRAME_HEADER_BYTES)
            return SYNA_SUCCESS;
        SYNA_TRY(progress_tick(w->progress, 1));
        if (!plausible(w, bytes, w->size - at, newest))
            continue;
        if (!spend(w, frame_length(bytes)))
            return SYNA_SUCCESS;
        SYNA_TRY(probe(w, at, &good));
        if (good) {
            *found = at;
            return SYNA_SUCCESS;
        }
    }
    return SYNA_SUCCESS;
}

static syna_rc find_next(struct walk *w, uint64_t from, uint64_t *found)
{
    uint64_t newest = MAX(syna_vfs->now_us(), w->last_stamp) + DAY_US;
    SYNA_TRY(search(w, from, newest, found));
    if (*found < w->size || w->gave_up || w->legacy)
        return SYNA_SUCCESS;
    return search(w, from, UINT64_MAX, found);
}

/* ---------------------------------------------------------------- walking */

/* Is there a frame at `at` after all, in fresh bytes? A writer may have been half way through a store.
 * A file that grew meanwhile is read to its new end. */
static syna_rc look_again(struct walk *w, bool *good)
{
    struct vfs_stat st;
    SYNA_TRY(file_stat(&w->file, &st));
    w->size = st.size;
    w->window.len = 0;
    return walk_look(w, w->at, &w->probe, &w->frame, good);
}

/* Before calling the rest a tail, give a writer time to finish its store. */
static syna_rc look_patiently(struct walk *w, bool *good)
{
    *good = false;
    for (int look = 0; look < LOOKS && !*good; look++) {
        if (look > 0)
            syna_vfs->pause_us(LOOK_PAUSE_US);
        SYNA_TRY(look_again(w, good));
    }
    return SYNA_SUCCESS;
}

static syna_rc at_bad_place(struct walk *w, enum frame_state state, enum walk_event *event)
{
    uint64_t next, from = w->at + 1;
    bool good;
    if (state == FRAME_ZERO) {
        SYNA_TRY(find_data(w, w->at, &next));
        if (next == w->size)
            return SYNA_SUCCESS; /* the log ends here */
        from = MAX(from, next - MIN(next, (uint64_t)FRAME_HEADER_BYTES));
    }
    SYNA_TRY(find_next(w, from, &next));
    SYNA_TRY(next < w->size ? look_again(w, &good) : look_patiently(w, &good));
    if (good)
        return walk_next(w, event);
    if (next >= w->size)
        return find_data_end(w);
    *event = WALK_GAP;
    w->gap_start = w->at;
    w->gap_end = w->at = next;
    return SYNA_SUCCESS;
}

syna_rc walk_next(struct walk *w, enum walk_event *event)
{
    enum frame_state state;
    *event = WALK_END;
    w->data_end = w->at;
    if (w->at >= w->size)
        return SYNA_SUCCESS;
    SYNA_TRY(parse(w, &w->window, &w->window_at, w->at, &state, &w->frame));
    if (state != FRAME_GOOD)
        return at_bad_place(w, state, event);
    *event = WALK_FRAME;
    w->at += w->frame.len;
    w->last_stamp = MAX(w->last_stamp, w->frame.stamp);
    return progress_step(w->progress, w->frame.len);
}
