/* The part of the interface that belongs to no component: versions and the calling thread's error
 * record (base/status.c keeps it). */
#include "base/internal.h"

#include "base/status.h"

const char *syna_last_error(void)
{
    return status_get()->message;
}

int32_t syna_last_reason(void)
{
    return status_get()->reason;
}

int32_t syna_last_errno(void)
{
    return status_get()->system;
}

int64_t syna_last_offset(void)
{
    return status_get()->offset;
}

const char *syna_last_path(void)
{
    return status_get()->path;
}

const char *syna_version(void)
{
    return SYNA_VERSION;
}

uint32_t syna_abi_version(void)
{
    return SYNA_ABI_VERSION;
}
