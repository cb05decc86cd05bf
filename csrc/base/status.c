/* The record of the last error, one per thread.
 *
 *   1. Nothing here allocates: the record is fixed, and texts that do not fit are cut.
 *   2. A cut never leaves half a UTF-8 character at the end of a message or at the start of a path.
 *
 * It knows nothing of what the codes mean to callers; api/api_base.c shows the record to them. */
#include "base/internal.h"

#include "base/status.h"

#include <stdarg.h>

static _Thread_local struct status_record record = {.code = SYNA_SUCCESS, .offset = -1};

/* A path longer than this is shown by its end, so that it leaves room for what happened. */
#define SHOWN_PATH 200u

static bool is_continuation(char c)
{
    return ((uint8_t)c & 0xc0) == 0x80;
}

/* The last `room` bytes of the text, from a character's start. */
static const char *text_end(const char *text, size_t room)
{
    size_t len = strlen(text);
    if (len <= room)
        return text;
    text += len - room;
    while (is_continuation(*text))
        text++;
    return text;
}

/* Remove the first part of a character whose rest was cut off. */
static void drop_half_character(char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && is_continuation(text[start - 1]))
        start--;
    if (start == 0)
        return;
    uint8_t lead = (uint8_t)text[start - 1];
    size_t needs = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (len - (start - 1) < needs)
        text[start - 1] = 0;
}

__attribute__((format(printf, 2, 0)))
static size_t append(size_t at, const char *format, va_list args)
{
    size_t room = sizeof record.message - at;
    int wrote = vsnprintf(record.message + at, room, format, args);
    if (wrote < 0)
        return at;
    if ((size_t)wrote < room)
        return at + (size_t)wrote;
    drop_half_character(record.message, sizeof record.message - 1);
    return sizeof record.message - 1;
}

__attribute__((format(printf, 2, 3)))
static size_t append_text(size_t at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    at = append(at, format, args);
    va_end(args);
    return at;
}

static const char *system_text(int system, char *room, size_t size)
{
#if defined(__GLIBC__)
    return strerror_r(system, room, size);
#else
    return strerror_r(system, room, size) == 0 ? room : "unknown error";
#endif
}

static syna_rc begin(syna_rc code, syna_reason why, const char *path, int64_t offset, int system)
{
    record.code = code;
    record.reason = (int32_t)why;
    record.system = system;
    record.offset = offset;
    snprintf(record.path, sizeof record.path, "%s",
             path ? text_end(path, sizeof record.path - 1) : "");
    record.message[0] = 0;
    return code;
}

syna_rc syna_fail(syna_rc code, syna_reason why, const char *format, ...)
{
    begin(code, why, NULL, -1, 0);
    va_list args;
    va_start(args, format);
    append(0, format, args);
    va_end(args);
    return code;
}

syna_rc syna_fail_at(syna_rc code, syna_reason why, const char *path, int64_t offset, int system,
                     const char *format, ...)
{
    bool full = system == ENOSPC || system == EDQUOT || system == EFBIG;
    begin(code, why == SYNA_WHY_NONE && full ? SYNA_WHY_NO_SPACE : why, path, offset, system);
    size_t at = 0;
    if (path) {
        const char *shown = text_end(path, SHOWN_PATH);
        at = append_text(at, "%s%s: ", shown == path ? "" : "...", shown);
    }
    if (offset >= 0)
        at = append_text(at, "offset %lld: ", (long long)offset);
    va_list args;
    va_start(args, format);
    at = append(at, format, args);
    va_end(args);
    if (system) {
        char room[128];
        append_text(at, ": %s", system_text(system, room, sizeof room));
    }
    return code;
}

syna_rc syna_no_memory(size_t bytes)
{
    return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY, "no memory for %zu bytes", bytes);
}

const struct status_record *status_get(void)
{
    return &record;
}

syna_rc status_set(const struct status_record *from)
{
    if (from != &record)
        record = *from;
    return record.code;
}
