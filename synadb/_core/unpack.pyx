"""Decoding packed values; the format is described in pack.pyx.

The bytes may come from a damaged or hostile file: every length and count is compared with the
bytes that are left before memory is reserved for it, nesting is bounded, and nothing in the bytes
is ever imported, called or evaluated. What does not fit is a CorruptionError.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8

from synadb._core.pack cimport (
    D_LONG, D_OBJECT, D_PLAIN, D_STRING, D_STRUCT, D_SUBARRAY, DEPTH_MAX, T_ARRAY, T_BIGINT,
    T_BYTEARRAY, T_BYTES, T_COMPLEX, T_DATE, T_DATETIME, T_DECIMAL, T_DICT, T_FALSE, T_FLOAT,
    T_FRACTION, T_FROZENSET, T_INT, T_LIST, T_NONE, T_NP_BYTES, T_NP_STR, T_RANGE, T_SCALAR,
    T_SET, T_SMALL, T_STR, T_TIME, T_TIMEDELTA, T_TRUE, T_TUPLE, T_UUID, VERSION, Z_KEY, Z_NAMED,
    Z_NONE, Z_OFFSET)

import datetime as _dt

import numpy as np

from synadb._core.pack import PLAIN_DTYPE
from synadb.errors import CorruptionError, SynaError

cdef enum:
    DTYPE_DEPTH_MAX = 32
    NDIM_MAX = 64

_MICROSECOND = _dt.timedelta(microseconds=1)


cdef struct Cursor:
    const uint8_t *start
    const uint8_t *at
    const uint8_t *end


class Malformed(ValueError):
    """The bytes are not a packed value."""


cdef object unpack_from(const uint8_t *data, size_t size):
    cdef Cursor c
    c.start = data
    c.at = data
    c.end = data + size
    try:
        if take_byte(&c) != VERSION:
            raise Malformed(f"version {data[0]}, expected {VERSION}")
        value = take(&c, 0)
        if c.at != c.end:
            raise Malformed(f"{c.end - c.at} bytes behind the value")
        return value
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CorruptionError(
            -4, f"packed value: byte {c.at - c.start} of {size}: {error}") from None


cdef int take_byte(Cursor *c) except -1:
    if c.at >= c.end:
        raise Malformed("ends too early")
    c.at += 1
    return c.at[-1]


cdef const uint8_t *take_raw(Cursor *c, uint64_t size) except NULL:
    if size > <uint64_t>(c.end - c.at):
        raise Malformed(f"{size} bytes announced, {c.end - c.at} left")
    c.at += size
    return c.at - size


cdef uint64_t take_varint(Cursor *c) except? 0xFFFFFFFFFFFFFFFF:
    cdef uint64_t n = 0
    cdef int shift = 0
    cdef int b
    while shift < 64:
        b = take_byte(c)
        if shift == 63 and b > 1:
            break
        n |= <uint64_t>(b & 0x7F) << shift
        if b < 0x80:
            return n
        shift += 7
    raise Malformed("a number of more than 64 bits")


cdef int64_t take_zigzag(Cursor *c) except? -1:
    cdef uint64_t n = take_varint(c)
    return <int64_t>(n >> 1) ^ -<int64_t>(n & 1)


# A count of things that take at least one byte each, so that memory is never reserved for more.
cdef Py_ssize_t take_count(Cursor *c) except -1:
    cdef uint64_t n = take_varint(c)
    if n > <uint64_t>(c.end - c.at):
        raise Malformed(f"{n} elements announced, {c.end - c.at} bytes left")
    return <Py_ssize_t>n


cdef str take_text(Cursor *c):
    cdef Py_ssize_t size = take_count(c)
    return PyUnicode_DecodeUTF8(<const char *>c_raw(c, size), size, "surrogatepass")


# take_raw for sizes that are known to fit.
cdef inline const uint8_t *c_raw(Cursor *c, Py_ssize_t size) noexcept:
    c.at += size
    return c.at - size


cdef bytes take_bytes(Cursor *c):
    cdef Py_ssize_t size = take_count(c)
    return PyBytes_FromStringAndSize(<const char *>c_raw(c, size), size)


cdef double take_double(Cursor *c) except? -1.0:
    cdef double d
    memcpy(&d, take_raw(c, 8), 8)
    return d


cdef object take(Cursor *c, int depth):
    cdef int tag = take_byte(c)
    cdef Py_ssize_t size
    if tag >= T_SMALL:
        return tag - T_SMALL
    if tag == T_STR:
        return take_text(c)
    if tag == T_FLOAT:
        return take_double(c)
    if tag == T_INT:
        return take_zigzag(c)
    if tag == T_NONE:
        return None
    if tag == T_TRUE:
        return True
    if tag == T_FALSE:
        return False
    if tag == T_BYTES:
        return take_bytes(c)
    if tag == T_BYTEARRAY:
        size = take_count(c)
        return PyByteArray_FromStringAndSize(<const char *>c_raw(c, size), size)
    if tag == T_BIGINT:
        return int.from_bytes(take_bytes(c), "little", signed=True)
    if depth >= DEPTH_MAX:
        raise Malformed(f"nested more than {DEPTH_MAX} deep")
    if tag == T_LIST:
        return take_list(c, depth)
    if tag == T_TUPLE:
        return tuple(take_list(c, depth))
    if tag == T_DICT:
        return take_dict(c, depth)
    if tag == T_SET or tag == T_FROZENSET:
        items = take_list(c, depth)
        found = set(items)
        if len(found) != len(items):
            raise Malformed("a set with equal elements")
        return found if tag == T_SET else frozenset(found)
    if tag == T_ARRAY:
        return take_array(c, depth)
    return take_rare(c, tag)


cdef list take_list(Cursor *c, int depth):
    cdef Py_ssize_t count = take_count(c)
    cdef list items = [None] * count
    cdef Py_ssize_t i
    for i in range(count):
        items[i] = take(c, depth + 1)
    return items


cdef dict take_dict(Cursor *c, int depth):
    cdef Py_ssize_t count = take_count(c)
    cdef dict items = {}
    cdef Py_ssize_t i
    cdef object key
    for i in range(count):
        key = take(c, depth + 1)
        items[key] = take(c, depth + 1)
    if len(items) != count:
        raise Malformed("a dict with equal keys")
    return items


cdef object take_int(Cursor *c):
    value = take(c, DEPTH_MAX)
    if type(value) is not int:
        raise Malformed(f"{type(value).__name__} where an int belongs")
    return value


cdef object take_rare(Cursor *c, int tag):
    if tag == T_COMPLEX:
        real = take_double(c)
        return complex(real, take_double(c))
    if tag == T_RANGE:
        start = take_int(c)
        stop = take_int(c)
        return range(start, stop, take_int(c))
    if tag == T_DATE:
        return _dt.date(*take_date(c))
    if tag == T_TIME:
        clock, fold, zone = take_clock(c)
        return _dt.time(*clock, tzinfo=zone, fold=fold)
    if tag == T_DATETIME:
        day = take_date(c)
        clock, fold, zone = take_clock(c)
        return _dt.datetime(*day, *clock, tzinfo=zone, fold=fold)
    if tag == T_TIMEDELTA:
        days = take_zigzag(c)
        seconds = take_varint(c)
        return _dt.timedelta(days, seconds, take_varint(c))
    if tag == T_DECIMAL:
        import decimal

        return decimal.Decimal(take_text(c))
    if tag == T_FRACTION:
        import fractions

        numerator = take_int(c)
        return fractions.Fraction(numerator, take_int(c))
    if tag == T_UUID:
        import uuid

        return uuid.UUID(bytes=PyBytes_FromStringAndSize(<const char *>take_raw(c, 16), 16))
    if tag == T_SCALAR:
        return take_scalar(c)
    if tag == T_NP_STR:
        return np.str_(take_text(c))
    if tag == T_NP_BYTES:
        return np.bytes_(take_bytes(c))
    raise Malformed(f"unknown tag {tag:#04x}")


cdef tuple take_date(Cursor *c):
    cdef uint16_t year
    memcpy(&year, take_raw(c, 2), 2)
    month = take_byte(c)
    return year, month, take_byte(c)


cdef tuple take_clock(Cursor *c):
    cdef uint32_t microsecond
    hour = take_byte(c)
    minute = take_byte(c)
    second = take_byte(c)
    memcpy(&microsecond, take_raw(c, 4), 4)
    fold = take_byte(c)
    return (hour, minute, second, microsecond), fold, take_zone(c)


cdef object take_zone(Cursor *c):
    cdef int kind = take_byte(c)
    if kind == Z_NONE:
        return None
    if kind == Z_OFFSET:
        return _dt.timezone(take_zigzag(c) * _MICROSECOND)
    if kind == Z_NAMED:
        offset = take_zigzag(c) * _MICROSECOND
        return _dt.timezone(offset, take_text(c))
    if kind != Z_KEY:
        raise Malformed(f"unknown kind of time zone {kind}")
    import zoneinfo

    key = take_text(c)
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise SynaError(
            0, f"time zone {key!r} is not known on this machine: install tzdata") from error


# ------------------------------------------------------------------------------ numpy, decoding

cdef tuple take_shape(Cursor *c):
    cdef int ndim = take_byte(c)
    if ndim > NDIM_MAX:
        raise Malformed(f"{ndim} dimensions")
    shape = []
    for _ in range(ndim):
        shape.append(take_varint(c))
    return tuple(shape)


cdef object take_array(Cursor *c, int depth):
    dt = take_dtype(c, 0)
    order = take_byte(c)
    if order > 1:
        raise Malformed(f"unknown order {order}")
    shape = take_shape(c)
    count = 1
    for n in shape:
        count *= n
    if dt.kind in "OT":
        return take_objects(c, dt, shape, count, order, depth)
    if count * dt.itemsize > c.end - c.at:
        raise Malformed(f"{count} elements of {dt} announced, {c.end - c.at} bytes left")
    a = np.empty(shape, dtype=dt, order="F" if order else "C")
    fill(c, a)
    return a


cdef int fill(Cursor *c, object a) except -1:
    """Copy the elements of `a`, which is contiguous, from the cursor."""
    cdef uint8_t[::1] raw
    cdef size_t size = a.nbytes
    if size:
        raw = (a if a.flags.c_contiguous else a.T).reshape(-1).view(np.uint8)
        memcpy(&raw[0], take_raw(c, size), size)
    return 0


cdef object take_objects(Cursor *c, object dt, tuple shape, object count, int order, int depth):
    if count > c.end - c.at:
        raise Malformed(f"{count} elements announced, {c.end - c.at} bytes left")
    a = np.empty(shape, dtype=dt, order="F" if order else "C")
    # Filled through a C-ordered array of objects: only element assignment takes lists as they are.
    flat = np.empty(count, dtype=object)
    for i in range(count):
        flat[i] = take(c, depth + 1)
        if dt.kind == "T" and type(flat[i]) is not str:
            raise Malformed(f"{type(flat[i]).__name__} in an array of strings")
    a[...] = flat.reshape(shape)
    return a


cdef object take_scalar(Cursor *c):
    dt = take_dtype(c, 0)
    if dt.kind in "OT":
        raise Malformed(f"a scalar of dtype {dt}")
    if dt.itemsize > c.end - c.at:
        raise Malformed(f"an element of {dt} announced, {c.end - c.at} bytes left")
    a = np.empty((), dtype=dt)
    fill(c, a)
    return a[()]


cdef object take_dtype(Cursor *c, int depth):
    cdef int kind = take_byte(c)
    if depth > DTYPE_DEPTH_MAX:
        raise Malformed(f"a dtype nested more than {DTYPE_DEPTH_MAX} deep")
    if kind == D_PLAIN:
        return plain_dtype(take_text(c))
    if kind == D_STRUCT:
        return take_fields(c, depth)
    if kind == D_SUBARRAY:
        base = take_dtype(c, depth + 1)
        return np.dtype((base, take_shape(c)))
    if kind == D_OBJECT and depth == 0:
        return np.dtype(object)
    if kind == D_STRING and depth == 0:
        coerce = take_byte(c) != 0
        if not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"):
            raise SynaError(0, "an array of dtype StringDType: reading it needs numpy 2")
        return np.dtypes.StringDType(coerce=coerce)
    if kind == D_LONG:
        name = take_text(c)
        bits = take_byte(c)
        dt = plain_dtype(name)
        if dt.char not in "gG" or np.finfo(dt).nmant != bits:
            raise SynaError(
                0, f"long doubles with {bits} mantissa bits ({name}) do not exist on this machine")
        return dt
    raise Malformed(f"unknown kind of dtype {kind}")


cdef object plain_dtype(str name):
    if not PLAIN_DTYPE.fullmatch(name):
        raise Malformed(f"unknown dtype {name!r:.40}")
    return np.dtype(name)


cdef object take_fields(Cursor *c, int depth):
    itemsize = take_varint(c)
    aligned = take_byte(c) != 0
    cdef Py_ssize_t count = take_count(c)
    names, titles, offsets, formats = [], [], [], []
    for _ in range(count):
        names.append(take_text(c))
        offsets.append(take_varint(c))
        titles.append(take_text(c) if take_byte(c) else None)
        formats.append(take_dtype(c, depth + 1))
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "titles": titles,
                     "itemsize": itemsize, "aligned": aligned})


def unpack(data):
    """Decode what `pack` returned. Bytes that are no packed value raise CorruptionError."""
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return unpack_from(NULL, 0)
    return unpack_from(&view[0], view.shape[0])
