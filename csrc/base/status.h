/* The one record of the last error: thread-local, fixed size, set where a fault is detected and
 * passed up untouched. Reporting out-of-memory must not allocate. */
#ifndef SYNA_BASE_STATUS_H
#define SYNA_BASE_STATUS_H

#include "base/internal.h"

struct status_record {
    syna_rc code;
    int32_t reason; /* syna_reason */
    int32_t system; /* errno, 0 = none */
    int64_t offset; /* byte offset, -1 = none */
    char path[256]; /* the last 255 bytes of a longer path */
    char message[512];
};

/* Set the record and return `code`, so that `return syna_fail(...)` is one line. */
syna_rc syna_fail(syna_rc code, syna_reason why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a fault in a file: path (may be NULL), byte offset (-1 = none) and errno (0 = none).
 * The message becomes "<path>: offset <n>: <format...>: <text of errno>", so `format` repeats none of
 * them. ENOSPC, EDQUOT and EFBIG turn `why` NONE into NO_SPACE. */
syna_rc syna_fail_at(syna_rc code, syna_reason why, const char *path, int64_t offset, int system,
                     const char *format, ...) __attribute__((format(printf, 6, 7)));

syna_rc syna_no_memory(size_t bytes); /* SYNA_ERR_INTERNAL, NO_MEMORY */

/* The calling thread's record; also used to carry an error from a group leader to its followers:
 * copy the struct out, and restore it with status_set on the other thread. */
const struct status_record *status_get(void);
syna_rc status_set(const struct status_record *record); /* returns record->code */

#endif
