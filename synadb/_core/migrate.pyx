"""The ancestor's logs into new ones: `copy_log`, documented in `synadb.migrate`."""

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport syna_migrate, syna_migration
from synadb._core.progress cimport Progress, progress_context, progress_step

from synadb.types import Finding


cdef int32_t on_finding(void *context, uint64_t offset, const char *text) noexcept nogil:
    with gil:
        return add_finding(<Progress>(<progress_context *>context).progress, offset, text)


cdef int32_t add_finding(Progress p, uint64_t offset, const char *text) noexcept:
    try:
        p.findings.append(Finding(offset, text.decode("utf-8", "replace")))
    except MemoryError as error:
        p.error = error
        return 1
    return 0


cdef const char **pointers(list keys) except NULL:
    """The keys, which are bytes and outlive this, as C strings; to be freed."""
    cdef const char **names = <const char **>malloc((len(keys) + 1) * sizeof(char *))
    cdef Py_ssize_t i
    if names == NULL:
        raise MemoryError
    for i in range(len(keys)):
        names[i] = <const char *>(<bytes>keys[i])
    return names


def copy_log(path, to, leave_out, progress):
    """Copy the log `path` to the new log `to` without the keys `leave_out`.

    Returns the figures of `syna_migration` as a dict, and the findings.
    """
    cdef bytes source = path_bytes(path)
    cdef bytes target = path_bytes(to)
    cdef const char *c_source = source
    cdef const char *c_target = target
    cdef list keys = [key.encode("utf-8") for key in leave_out]
    cdef size_t count = len(keys)
    cdef Progress p = Progress(progress)
    cdef const char **names = pointers(keys)
    cdef syna_migration result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = syna_migrate(c_source, c_target, names, count, on_finding, &p.context, progress_step,
                          &result)
    free(names)
    p.finish(rc)
    figures = dict(result)
    del figures["size"]
    return figures, p.findings
