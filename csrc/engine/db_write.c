/* db_write.c - puts, appended histories, deletes: check the arguments, encode the frames, hand them to
 * db_commit. Nothing here holds a lock; bad input is refused before anything is encoded. */
#include "base/internal.h"

#include "base/utf8.h"
#include "engine/db_core.h"
#include "store/column.h"

/* Frames of small values are built on the stack. */
#define SMALL_FRAME 512u
/* Room a frame needs beside key and value: header, extension fields, atom head, vector tail, CRC. */
#define FRAME_EXTRA 96u

syna_rc db_check_key(const void *key, size_t len)
{
    if (UNLIKELY(len == 0))
        return syna_fail(SYNA_ERR_EMPTY_KEY, SYNA_WHY_ARGUMENT,
                         "the key is empty; expected 1 to %u bytes of UTF-8", SYNA_KEY_MAX);
    if (UNLIKELY(len > SYNA_KEY_MAX))
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the key has %zu bytes; expected 1 to %u", len, SYNA_KEY_MAX);
    if (UNLIKELY(memchr(key, 0, len) != NULL))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "the key contains a NUL byte; expected UTF-8 text without one");
    if (UNLIKELY(!utf8_valid(key, len)))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT,
                         "the key is not UTF-8: %zu bytes that do not decode", len);
    return SYNA_SUCCESS;
}

syna_rc db_encode(syna_db *db, struct buf *frames, const char *key, size_t key_len,
                  const struct value *v)
{
    size_t start;
    uint8_t flags = 0;
    size_t before = frames->len;
    if (!frame_begin(frames, key, key_len, &start))
        return syna_no_memory(key_len);
    syna_rc rc = value_encode(v, !db->options.no_compression, frames, &flags);
    if (rc == SYNA_SUCCESS && !frame_finish(frames, start, flags))
        rc = syna_no_memory(FRAME_CRC_BYTES);
    if (rc != SYNA_SUCCESS)
        frames->len = before;
    return rc;
}

static bool is_small(const syna_db *db, size_t key_len, size_t len)
{
    return key_len + len + FRAME_EXTRA <= SMALL_FRAME && (len <= 64 || db->options.no_compression);
}

static syna_rc put_value(syna_db *db, const char *key, size_t key_len, const struct value *v,
                         uint64_t when_us, uint64_t *offset)
{
    uint8_t small[SMALL_FRAME];
    struct buf frames = {0};
    bool on_stack = is_small(db, key_len, v->len);
    if (on_stack)
        frames = (struct buf){small, 0, sizeof small};
    syna_rc rc = db_encode(db, &frames, key, key_len, v);
    if (rc == SYNA_SUCCESS)
        rc = db_commit(db, &frames, 1, when_us, offset);
    if (!on_stack)
        buf_dispose(&frames);
    return rc;
}

syna_rc db_put(syna_db *db, const char *key, size_t key_len, int32_t type, const void *data,
               size_t len, const syna_put *how, uint64_t *offset)
{
    struct value v = {.type = type, .data = data, .len = len};
    uint64_t when_us = 0;
    if (how) {
        v.expires_us = how->expires_us;
        v.event_us = when_us = how->when_us;
    }
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(value_check(&v));
    return put_value(db, key, key_len, &v, when_us, offset);
}

/* ---------------------------------------------------------------- histories */

static syna_rc check_times(const uint64_t *times_us, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (times_us[i] < times_us[i - 1])
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "time %zu is %llu, before its predecessor %llu; expected times that do "
                             "not decrease",
                             i, (unsigned long long)times_us[i],
                             (unsigned long long)times_us[i - 1]);
    return SYNA_SUCCESS;
}

static syna_rc encode_block(struct buf *frames, const char *key, size_t key_len, int32_t type,
                            const uint64_t *bits, const uint64_t *times_us, size_t count)
{
    size_t start;
    if (!frame_begin(frames, key, key_len, &start) ||
        !column_encode(type, bits, NULL, times_us, count, frames) ||
        !frame_finish(frames, start, FRAME_BLOCK))
        return syna_no_memory(count * sizeof *bits);
    return SYNA_SUCCESS;
}

static syna_rc encode_plain(syna_db *db, struct buf *frames, const char *key, size_t key_len,
                            int32_t type, const uint64_t *bits, const uint64_t *times_us,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct value v = {.type = type,
                          .data = &bits[i],
                          .len = sizeof bits[i],
                          .event_us = times_us ? times_us[i] : 0};
        SYNA_TRY(db_encode(db, frames, key, key_len, &v));
    }
    return SYNA_SUCCESS;
}

/* Whole blocks of COLUMN_MAX, then a shorter one, or plain frames when only a few are left. */
static syna_rc encode_numbers(syna_db *db, struct buf *frames, const char *key, size_t key_len,
                              int32_t type, const uint64_t *bits, const uint64_t *times_us,
                              size_t count, size_t *frame_count)
{
    *frame_count = 0;
    while (count >= COLUMN_MIN) {
        size_t n = MIN(count, (size_t)COLUMN_MAX);
        SYNA_TRY(encode_block(frames, key, key_len, type, bits, times_us, n));
        ++*frame_count;
        bits += n;
        times_us = times_us ? times_us + n : NULL;
        count -= n;
    }
    *frame_count += count;
    return encode_plain(db, frames, key, key_len, type, bits, times_us, count);
}

syna_rc db_append_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                          const uint64_t *bits, const uint64_t *times_us, size_t count)
{
    struct buf frames = {0};
    size_t frame_count;
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(db_check_writable(db));
    if (times_us)
        SYNA_TRY(check_times(times_us, count));
    if (count == 0)
        return SYNA_SUCCESS;
    syna_rc rc = encode_numbers(db, &frames, key, key_len, type, bits, times_us, count,
                                &frame_count);
    if (rc == SYNA_SUCCESS)
        rc = db_commit(db, &frames, frame_count, times_us ? times_us[count - 1] : 0, NULL);
    buf_dispose(&frames);
    return rc;
}

/* ---------------------------------------------------------------- deletes */

bool db_encode_tombstone(struct buf *frames, const char *key, size_t key_len)
{
    static const uint8_t null_atom[4] = {ATOM_NULL, 0, 0, 0};
    return frame_append(frames, key, key_len, FRAME_TOMBSTONE, null_atom, sizeof null_atom);
}

syna_rc db_delete(syna_db *db, const char *key, size_t key_len, int32_t *deleted)
{
    bool exists;
    if (deleted)
        *deleted = 0;
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(db_check_writable(db));
    if (db->shared) {
        bool changed; /* another process may have put it */
        SYNA_TRY(db_refresh(db, &changed));
    }
    SYNA_TRY(db_exists(db, key, key_len, &exists));
    if (!exists)
        return SYNA_SUCCESS;

    struct buf frames = {0};
    syna_rc rc = db_encode_tombstone(&frames, key, key_len) ? db_commit(db, &frames, 1, 0, NULL)
                                                         : syna_no_memory(key_len);
    buf_dispose(&frames);
    if (rc == SYNA_SUCCESS && deleted)
        *deleted = 1;
    return rc;
}
