/* Argument checks that the files of this layer share. */
#ifndef SYNA_API_ARGS_H
#define SYNA_API_ARGS_H

#include "base/status.h"
#include "base/utf8.h"
#include "engine/db.h"

static inline syna_rc null_pointer(const char *what)
{
    return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "%s is a null pointer", what);
}

#define REQUIRE(pointer)                   \
    do {                                   \
        if (UNLIKELY(!(pointer)))          \
            return null_pointer(#pointer); \
    } while (0)

/* Functions that return an offset, a count or a truth value cannot return 0 for an error. */
static inline syna_rc not_zero(syna_rc rc)
{
    if (rc != SYNA_ERR_GENERIC)
        return rc;
    return status_get()->reason == SYNA_WHY_ARGUMENT ? SYNA_ERR_INVALID_PATH : SYNA_ERR_INTERNAL;
}

static inline int32_t count_or_code(syna_rc rc, size_t count)
{
    return rc == SYNA_SUCCESS ? (int32_t)MIN(count, (size_t)INT32_MAX) : not_zero(rc);
}

static inline syna_rc check_path(const char *path)
{
    REQUIRE(path);
    if (!utf8_valid(path, strlen(path)))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the path is not UTF-8");
    return SYNA_SUCCESS;
}

static inline syna_rc check_text(const char *text, const char *what)
{
    if (!text)
        return null_pointer(what);
    if (!utf8_valid(text, strlen(text)))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "%s is not UTF-8", what);
    return SYNA_SUCCESS;
}

#define REQUIRE_TEXT(text) SYNA_TRY(check_text(text, #text))

/* A key that is looked up: there, and of a length that a key can have. What else is wrong with it is told
 * from mere absence only once the look-up has failed: hits pay nothing. */
#define REQUIRE_KEY(key, key_len)                                \
    do {                                                         \
        REQUIRE(key);                                            \
        if (UNLIKELY((key_len) - 1 >= (size_t)SYNA_KEY_MAX))     \
            return db_check_key(key, key_len);                   \
    } while (0)
static inline syna_rc check_missing(syna_rc rc, const char *key, size_t key_len)
{
    if (LIKELY(rc != SYNA_ERR_KEY_NOT_FOUND))
        return rc;
    struct status_record why = *status_get();
    SYNA_TRY(db_check_key(key, key_len));
    return status_set(&why);
}

#endif
