/* synadb/base.h - what every part of the C interface shares: the export macro, versions, status
 * codes, the record of the last error, and the rules for memory that crosses the interface.
 *
 * Strings are NUL-terminated UTF-8. Words used for pointers in all headers:
 *   borrowed  yours only during the call; the library keeps nothing of it
 *   copied    the library makes its own copy before it returns
 *   given     you own it now and pass it to the function named beside it
 *
 * Every function may be called from any thread. None prints, exits, or unwinds. */
#ifndef SYNADB_BASE_H
#define SYNADB_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define SYNA_API __declspec(dllimport)
#elif defined(__GNUC__)
#define SYNA_API __attribute__((visibility("default")))
#else
#define SYNA_API
#endif

#define SYNA_VERSION_MAJOR 0
#define SYNA_VERSION_MINOR 1
#define SYNA_VERSION_PATCH 0
#define SYNA_VERSION "0.1.0"

/* Grows by one when a function is added, and only then; a program built against a smaller number
 * runs with a library of a larger one. */
#define SYNA_ABI_VERSION 1

/* Status codes. These eleven are the whole set; what exactly went wrong is told by
 * syna_last_reason(). Functions that return a count, an offset or a truth value never use 0 for an
 * error: they return one of the negative codes. */
#define SYNA_SUCCESS 1
#define SYNA_ERR_GENERIC 0         /* bad argument, or a refusal named by the reason */
#define SYNA_ERR_DB_NOT_FOUND (-1) /* the path (or handle) is not open */
#define SYNA_ERR_INVALID_PATH (-2) /* null pointer, bad UTF-8, not a usable path */
#define SYNA_ERR_IO (-3)           /* the operating system refused; see syna_last_errno() */
#define SYNA_ERR_SERIALIZATION (-4) /* damaged or foreign bytes; see syna_last_offset() */
#define SYNA_ERR_KEY_NOT_FOUND (-5)
#define SYNA_ERR_TYPE_MISMATCH (-6)
#define SYNA_ERR_EMPTY_KEY (-7)
#define SYNA_ERR_KEY_TOO_LONG (-8)
#define SYNA_ERR_INTERNAL (-100)
#define SYNA_ERR_INTERNAL_PANIC SYNA_ERR_INTERNAL /* the seeds' name */

/* Why the last call on this thread failed. */
typedef enum syna_reason {
    SYNA_WHY_NONE = 0,
    SYNA_WHY_ARGUMENT = 1,     /* an argument outside its documented range */
    SYNA_WHY_LOCKED = 2,       /* another process (or handle) is the writer */
    SYNA_WHY_NO_SPACE = 3,     /* disk or quota full; the write did not happen */
    SYNA_WHY_SYNC_FAILED = 4,  /* an fsync failed; the handle refuses writes until reopened */
    SYNA_WHY_FORKED = 5,       /* writing through a handle inherited by fork() */
    SYNA_WHY_CLOSED = 6,       /* the handle was closed */
    SYNA_WHY_CORRUPT = 7,      /* a checksum or structure does not match */
    SYNA_WHY_NEWER_FORMAT = 8, /* written by a later release */
    SYNA_WHY_WRONG_KIND = 9,   /* a file of another kind, or not ours at all */
    SYNA_WHY_NO_MEMORY = 10,
    SYNA_WHY_CANCELLED = 11, /* the progress callback asked to stop */
    SYNA_WHY_READ_ONLY = 12, /* writing through a read-only handle */
    SYNA_WHY_NOT_INITIALIZED = 13 /* rows for an index that was given no sample */
} syna_reason;

/* The record of the last failure on the calling thread. A success does not clear it, so look at it
 * only after a call has failed. The text is valid until the next failure on this thread; it names
 * the file, the offset or key, what was found and what was expected, and is not part of the ABI. */
SYNA_API const char *syna_last_error(void);
SYNA_API int32_t syna_last_reason(void); /* a syna_reason */
SYNA_API int32_t syna_last_errno(void);  /* 0 when the system was not involved */
SYNA_API int64_t syna_last_offset(void); /* byte offset in the file, -1 when not about one */
SYNA_API const char *syna_last_path(void); /* the file concerned, "" when none */

/* The library's own version, for comparison with the macros above. */
SYNA_API const char *syna_version(void);
SYNA_API uint32_t syna_abi_version(void);

/* Progress of a long call. `done` of `total` units (bytes or rows; total 0 = not known yet). Called
 * on the calling thread, at least every 100 ms. Return 0 to go on, anything else to stop: the call
 * then fails with reason CANCELLED and leaves everything as it was. */
typedef int32_t (*syna_progress_fn)(void *context, uint64_t done, uint64_t total);

#ifdef __cplusplus
}
#endif
#endif
