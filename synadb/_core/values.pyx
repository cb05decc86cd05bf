"""Python values <-> the typed values of the store, and times.

A float, int (of 64 bits), str, bytes or None is stored as what it is; a vector is written only on
request. Everything else becomes a packed value (pack.pyx), and so does an int that does not fit or
a str that UTF-8 cannot encode: every value comes back with its own type.
"""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    long long PyLong_AsLongLongAndOverflow(object n, int *overflow) except? -1
    object PyNumber_Index(object n)

from synadb._core.libsynadb cimport (
    SYNA_TYPE_BLOB, SYNA_TYPE_BYTES, SYNA_TYPE_FLOAT, SYNA_TYPE_INT, SYNA_TYPE_NULL,
    SYNA_TYPE_PACKED, SYNA_TYPE_TEXT, SYNA_TYPE_VECTOR, syna_put)
from synadb._core.pack cimport Packer
from synadb._core.unpack cimport unpack_from

import datetime as _dt

import numpy as np

from synadb.errors import ArgumentError, FormatVersionError, IntegerRangeError, Reason

_EPOCH = _dt.datetime(1970, 1, 1, tzinfo=_dt.timezone.utc)
_MICROSECOND = _dt.timedelta(microseconds=1)
_NAMES = ("null", "float", "int", "text", "bytes", "vector", "packed", "blob")


cdef object atom_of(object value, Atom *a, Packer packer):
    cdef object t = type(value)
    cdef int overflow = 0
    cdef Py_ssize_t size = 0
    cdef double number
    a.data = &a.word
    a.len = 8
    if t is float:
        number = value
        memcpy(&a.word, &number, 8)
        a.type = SYNA_TYPE_FLOAT
        return None
    if t is int:
        a.word = <uint64_t>PyLong_AsLongLongAndOverflow(value, &overflow)
        if not overflow:
            a.type = SYNA_TYPE_INT
            return None
    elif t is str:
        try:
            a.data = PyUnicode_AsUTF8AndSize(value, &size)
            a.len = size
            a.type = SYNA_TYPE_TEXT
            return None
        except UnicodeEncodeError:
            pass
    elif t is bytes:
        a.data = PyBytes_AS_STRING(value)
        a.len = PyBytes_GET_SIZE(value)
        a.type = SYNA_TYPE_BYTES
        return None
    elif value is None:
        a.len = 0
        a.type = SYNA_TYPE_NULL
        return None
    if packer is None:
        packer = Packer()
    packer.encode(value)
    a.type = SYNA_TYPE_PACKED
    a.data = packer.buf
    a.len = packer.len
    return packer


cdef object value_of(int32_t type, const void *data, size_t len):
    cdef double number
    cdef int64_t integer
    cdef float[::1] floats
    if type == SYNA_TYPE_FLOAT:
        memcpy(&number, data, 8)
        return number
    if type == SYNA_TYPE_TEXT:
        return PyUnicode_DecodeUTF8(<const char *>data, len, NULL)
    if type == SYNA_TYPE_BYTES or type == SYNA_TYPE_BLOB:
        return PyBytes_FromStringAndSize(<const char *>data, len)
    if type == SYNA_TYPE_INT:
        memcpy(&integer, data, 8)
        return integer
    if type == SYNA_TYPE_PACKED:
        return unpack_from(<const unsigned char *>data, len)
    if type == SYNA_TYPE_NULL:
        return None
    if type == SYNA_TYPE_VECTOR:
        vector = np.empty(len // 4, dtype=np.float32)
        floats = vector
        memcpy(&floats[0], data, len)
        return vector
    raise FormatVersionError(-4, f"a value of unknown type {type}", reason=Reason.NEWER_FORMAT)


cdef str type_name(int32_t type):
    return _NAMES[type] if 0 <= type < len(_NAMES) else f"unknown ({type})"


# ----------------------------------------------------------------------------- typed arguments

cdef int64_t int64_of(object value) except? -1:
    cdef int overflow = 0
    cdef int64_t number
    if type(value) is not int:
        value = PyNumber_Index(value)
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        raise IntegerRangeError(
            0, f"integer of {value.bit_length()} bits; expected -2**63 to 2**63 - 1",
            reason=Reason.ARGUMENT)
    return number


cdef const char *text_of(object key, object value, Py_ssize_t *len) except NULL:
    if not isinstance(value, str):
        raise TypeError(f"key {key!r:.80}: the text is a str, not {type(value).__name__}")
    try:
        return PyUnicode_AsUTF8AndSize(value, len)
    except UnicodeEncodeError as error:
        raise ArgumentError(
            0, f"key {key!r}: the text cannot be encoded as UTF-8: {error.reason} at character "
            f"{error.start}", reason=Reason.ARGUMENT) from None


cdef const float[::1] vector_of(object value):
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a vector of numbers is expected, not of dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ArgumentError(
            0, f"a vector has shape (n,) with n of 1 to 65535, not {array.shape}",
            reason=Reason.ARGUMENT)
    with np.errstate(over="ignore"):  # the core refuses the infinity that comes of it
        return np.ascontiguousarray(array, dtype=np.float32)


# ---------------------------------------------------------------------------------------- times

cdef uint64_t now_us() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <uint64_t>now.tv_sec * 1_000_000 + <uint64_t>now.tv_nsec // 1000


cdef uint64_t checked_us(object microseconds, object when) except 0:
    if not 0 < microseconds < 1 << 63:
        raise ArgumentError(
            0, f"time {when!r} is outside what can be stored: after 1970-01-01 and below 2**63 us",
            reason=Reason.ARGUMENT)
    return microseconds


cdef uint64_t time_us(object when) except 0:
    if isinstance(when, _dt.datetime):
        if when.tzinfo is None:
            when = when.astimezone()
        return checked_us((when - _EPOCH) // _MICROSECOND, when)
    if isinstance(when, np.datetime64):
        if np.isnat(when):
            raise ArgumentError(0, "time is NaT", reason=Reason.ARGUMENT)
        return checked_us(int(when.astype("datetime64[us]").astype(np.int64)), when)
    if isinstance(when, (float, np.floating)):
        if not isfinite(when):
            raise ArgumentError(0, f"time is {when!r}", reason=Reason.ARGUMENT)
        return checked_us(round(float(when) * 1e6), when)
    if isinstance(when, (int, np.integer)) and not isinstance(when, bool):
        return checked_us(int(when), when)
    raise TypeError(
        "a time is a datetime, a numpy.datetime64, seconds since 1970 as a float or microseconds "
        f"since 1970 as an int, not {type(when).__name__}")


cdef uint64_t expiry_us(object ttl) except 0:
    cdef double seconds
    if isinstance(ttl, _dt.timedelta):
        seconds = ttl.total_seconds()
    elif isinstance(ttl, (int, float, np.integer, np.floating)) and not isinstance(ttl, bool):
        seconds = ttl
    else:
        raise TypeError(f"ttl is a number of seconds or a timedelta, not {type(ttl).__name__}")
    if not 0 < seconds <= 1e12:
        raise ArgumentError(
            0, f"ttl is {ttl!r}; expected more than 0 seconds and at most 1e12",
            reason=Reason.ARGUMENT)
    return now_us() + <uint64_t>(seconds * 1e6) + 1


cdef syna_put *how_of(object ttl, object when, syna_put *how) except? NULL:
    if ttl is None and when is None:
        return NULL
    how.size = sizeof(syna_put)
    how.when_us = 0 if when is None else time_us(when)
    how.expires_us = 0 if ttl is None else expiry_us(ttl)
    return how


def times_us(times):
    """Times for appended values as an array of uint64 microseconds since 1970.

    `times` is an array_like of datetime64 (UTC), of floats (seconds) or of integers
    (microseconds), or a sequence of datetimes.
    """
    array = np.asarray(times)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise ArgumentError(0, "a time is NaT", reason=Reason.ARGUMENT)
        array = array.astype("datetime64[us]").astype(np.int64)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ArgumentError(0, "a time is not finite", reason=Reason.ARGUMENT)
        array = np.rint(array.astype(np.float64) * 1e6)
    elif array.dtype.kind == "O":
        array = np.array([time_us(when) for when in array.flat], dtype=np.uint64)
    elif array.dtype.kind not in "iu":
        raise TypeError(f"times of dtype {array.dtype}; expected datetime64, floats or integers")
    if array.size and not (0 < int(array.min()) and int(array.max()) < 1 << 63):
        raise ArgumentError(
            0, "a time is outside what can be stored: after 1970-01-01 and below 2**63 us",
            reason=Reason.ARGUMENT)
    return np.ascontiguousarray(array.reshape(-1), dtype=np.uint64)
