"""Keys on their way into the core: UTF-8 without copying."""

from libc.string cimport memchr

from synadb._core.libsynadb cimport SYNA_ERR_EMPTY_KEY, SYNA_ERR_KEY_TOO_LONG, SYNA_KEY_MAX
from synadb._core.status cimport refuse_key

cdef extern from "Python.h":
    # The text is cached in the str and lives as long; NULL with an exception set when it is no str
    # or holds lone surrogates. Declared without `except` so that the fast path is one comparison.
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) noexcept
    int PyUnicode_Check(object text) noexcept


cdef inline const char *key_utf8(object key, Py_ssize_t *size) except NULL:
    cdef const char *utf8 = NULL
    if PyUnicode_Check(key):
        utf8 = PyUnicode_AsUTF8AndSize(key, size)
        if (utf8 is not NULL and 0 < size[0] <= SYNA_KEY_MAX
                and memchr(utf8, 0, size[0]) is NULL):
            return utf8
    refuse_key(key, utf8 is not NULL)
    return NULL
