"""Packed values: any combination of Python's and numpy's plain types as self-describing bytes.

What goes in comes out with exactly the same type and value: a tuple stays a tuple, `True` stays
`True`, 2**70 stays an int, a NaN keeps its bits, ``np.float32(1)`` stays a numpy scalar, a
Fortran-ordered array stays one. No pickle, no code: reading damaged or hostile bytes gives
CorruptionError and nothing else. Types that are not in the table, subclasses of those that are
(enums, named tuples, ordered dicts) and dataclasses are refused rather than silently changed.

The format, version 1
---------------------
A packed value is the byte 1 (the version), then one *value*. A value is a tag byte and a body.
Fixed-size numbers are little-endian. *varint*: LEB128, 7 bits a byte, low bits first, at most 64
bits. *zigzag*: the varint of ``(n << 1) ^ (n >> 63)``. *text*: varint length in bytes, then UTF-8,
where lone surrogates are encoded like any other code point (three bytes).

====  ===============  ======================================================================
tag   type             body
====  ===============  ======================================================================
00    None
01    False
02    True
03    int              zigzag; for integers that fit in 64 signed bits
04    int              varint length, then two's complement, least significant byte first
05    float            8 bytes
06    complex          8 bytes real, 8 bytes imaginary
07    str              text
08    bytes            varint length, then the bytes
09    bytearray        the same
0a    list             varint count, then the values
0b    tuple            the same
0c    dict             varint count, then key and value in turn, in order
0d    set              varint count, then the values; unhashable and equal ones are damage
0e    frozenset        the same
0f    range            start, stop and step, each a value of type int
10    date             u16 year, u8 month, u8 day
11    time             u8 hour, u8 minute, u8 second, u32 microsecond, u8 fold, *zone*
12    datetime         the body of a date, then that of a time
13    timedelta        zigzag days, varint seconds, varint microseconds
14    Decimal          text, as ``str()`` shows it
15    Fraction         numerator and denominator, each a value of type int
16    UUID             16 bytes, most significant first
20    numpy.ndarray    *dtype*, *layout*, data
21    numpy scalar     *dtype*, data of one element
22    numpy.str_       text
23    numpy.bytes_     varint length, then the bytes
80+n  int              none; n is 0..127
====  ===============  ======================================================================

*zone*: u8 0 for none; 1 and zigzag microseconds east of UTC; 2, the same and a text, its name; 3
and a text, the key of a ``zoneinfo.ZoneInfo``.

*layout*: u8 order (0 = C, 1 = Fortran), u8 number of dimensions, a varint per dimension. Data: the
elements in that order, as they lie in memory; for the dtypes 3 and 4, a value per element in C
order.

*dtype*: u8 kind, then by kind
  0  text, as ``dtype.str`` shows it: byte order, letter, item size, unit (``<f8``, ``<M8[us]``)
  1  a structured type: varint item size, u8 1 when made with ``align=True``, varint number of
     fields, and for each a text (name), a varint (offset), u8 1 and a text for a title or u8 0, a
     dtype
  2  a sub-array (only inside a field): dtype, u8 number of dimensions, a varint per dimension
  3  object
  4  ``numpy.dtypes.StringDType``: u8 1 when it coerces
  5  a long double: text as in 0, u8 number of mantissa bits; another machine's kind is refused

Containers nest at most 512 deep. Objects that occur twice are stored twice.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object s, Py_ssize_t *size)
    long long PyLong_AsLongLongAndOverflow(object n, int *overflow) except? -1

import datetime as _dt
import re
import sys

import numpy as np

from synadb.errors import TypeMismatchError

# What dtype.str can look like for the types of kind 0; anything else would let np.dtype() parse
# field lists and Python names out of stored bytes.
PLAIN_DTYPE = re.compile(r"[<>|=][biufcSUVmM][0-9]{1,10}(\[[0-9]{0,9}[A-Za-z]{1,7}\])?")

_MICROSECOND = _dt.timedelta(microseconds=1)


class Unpackable(TypeMismatchError):
    """A value that cannot be packed; the message names its type and its place in the value."""

    def __init__(self, code, message, **details):
        super().__init__(code, message, **details)
        self.where = ""
        self.why = message

    def at(self, step):
        """The same error, seen from one container further out."""
        self.where = step + self.where
        return self

    def finished(self):
        """The error to show: a plain TypeMismatchError with the place spelled out."""
        place = f"value{self.where}: " if self.where else ""
        return TypeMismatchError(self.code, place + self.why)


cdef object refusal(object v, str hint=""):
    cdef object t = type(v)
    cdef str name = t.__qualname__
    if t.__module__ != "builtins":
        name = f"{t.__module__}.{name}"
    return Unpackable(-6, f"cannot store an object of type {name}{hint}")


# ------------------------------------------------------------------------------------ encoding

cdef class Packer:
    def __dealloc__(self):
        PyMem_Free(self.buf)

    cdef int encode(self, object value) except -1:
        self.len = 0
        self.byte(VERSION)
        try:
            self.value(value, 0)
        except Unpackable as error:
            raise error.finished() from None
        return 0

    cdef int room(self, size_t more) except -1:
        cdef size_t want = self.len + more
        cdef void *grown
        if want <= self.cap:
            return 0
        want += want // 2 + 64
        grown = PyMem_Realloc(self.buf, want)
        if grown is NULL:
            raise MemoryError()
        self.buf = <uint8_t *>grown
        self.cap = want
        return 0

    cdef int byte(self, uint8_t b) except -1:
        if self.len == self.cap:
            self.room(1)
        self.buf[self.len] = b
        self.len += 1
        return 0

    cdef int raw(self, const void *data, size_t size) except -1:
        self.room(size)
        if size:
            memcpy(self.buf + self.len, data, size)
        self.len += size
        return 0

    cdef int varint(self, uint64_t n) except -1:
        self.room(10)
        while n >= 0x80:
            self.buf[self.len] = <uint8_t>(n & 0x7F) | 0x80
            self.len += 1
            n >>= 7
        self.buf[self.len] = <uint8_t>n
        self.len += 1
        return 0

    cdef int zigzag(self, object n) except -1:
        cdef int64_t v = n
        return self.varint((<uint64_t>v << 1) ^ <uint64_t>(v >> 63))

    cdef int text(self, str s) except -1:
        cdef Py_ssize_t size = 0
        cdef const char *utf8
        cdef bytes encoded
        try:
            utf8 = PyUnicode_AsUTF8AndSize(s, &size)
            if utf8 is NULL:
                raise_pending()
        except UnicodeEncodeError:
            encoded = s.encode("utf-8", "surrogatepass")
            utf8 = PyBytes_AS_STRING(encoded)
            size = PyBytes_GET_SIZE(encoded)
        self.varint(size)
        return self.raw(utf8, size)

    cdef int value(self, object v, int depth) except -1:
        cdef object t = type(v)
        cdef double number
        if v is None:
            return self.byte(T_NONE)
        if t is bool:
            return self.byte(T_TRUE if v is True else T_FALSE)
        if t is int:
            return self.integer(v)
        if t is float:
            number = v
            self.byte(T_FLOAT)
            return self.raw(&number, 8)
        if t is str:
            self.byte(T_STR)
            return self.text(v)
        if t is bytes:
            self.byte(T_BYTES)
            self.varint(PyBytes_GET_SIZE(v))
            return self.raw(PyBytes_AS_STRING(v), PyBytes_GET_SIZE(v))
        if depth >= DEPTH_MAX:
            raise Unpackable(
                -6, f"nested more than {DEPTH_MAX} deep (or a container that contains itself)")
        if t is list:
            return self.sequence(T_LIST, v, depth)
        if t is dict:
            return self.mapping(v, depth)
        if t is tuple:
            return self.sequence(T_TUPLE, v, depth)
        if t is np.ndarray:
            return self.array(v, depth)
        return self.rare(v, depth)

    cdef int integer(self, object v) except -1:
        cdef int overflow = 0
        cdef int64_t n = PyLong_AsLongLongAndOverflow(v, &overflow)
        cdef bytes digits
        if overflow:
            digits = v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True)
            self.byte(T_BIGINT)
            self.varint(PyBytes_GET_SIZE(digits))
            return self.raw(PyBytes_AS_STRING(digits), PyBytes_GET_SIZE(digits))
        if 0 <= n < 128:
            return self.byte(<uint8_t>(T_SMALL + n))
        self.byte(T_INT)
        return self.varint((<uint64_t>n << 1) ^ <uint64_t>(n >> 63))

    cdef int sequence(self, uint8_t tag, object items, int depth) except -1:
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t count = len(items)
        cdef object item
        self.byte(tag)
        self.varint(count)
        try:
            for item in items:
                self.value(item, depth + 1)
                i += 1
        except Unpackable as error:
            raise error.at(f"[{i}]" if tag <= T_TUPLE else "{...}")
        if i != count:
            raise RuntimeError("a container changed while it was being stored")
        return 0

    cdef int mapping(self, dict items, int depth) except -1:
        cdef object key = None
        cdef object item
        self.byte(T_DICT)
        self.varint(len(items))
        try:
            for key, item in items.items():
                self.value(key, depth + 1)
                self.value(item, depth + 1)
        except Unpackable as error:
            raise error.at(f"[{key!r:.60}]")
        return 0

    cdef int clock(self, object t) except -1:
        cdef uint32_t microsecond = t.microsecond
        self.byte(t.hour)
        self.byte(t.minute)
        self.byte(t.second)
        self.raw(&microsecond, 4)
        self.byte(t.fold)
        return self.zone(t.tzinfo)

    cdef int zone(self, object tz) except -1:
        if tz is None:
            return self.byte(Z_NONE)
        if type(tz) is _dt.timezone:
            arguments = tz.__getinitargs__()
            self.byte(Z_OFFSET if len(arguments) == 1 else Z_NAMED)
            self.zigzag(arguments[0] // _MICROSECOND)
            return 0 if len(arguments) == 1 else self.text(arguments[1])
        zoneinfo = sys.modules.get("zoneinfo")
        if zoneinfo is not None and type(tz) is zoneinfo.ZoneInfo and tz.key is not None:
            self.byte(Z_KEY)
            return self.text(tz.key)
        raise refusal(tz, "; use datetime.timezone or a zoneinfo.ZoneInfo with a key")

    cdef int rare(self, object v, int depth) except -1:
        cdef object t = type(v)
        cdef double part
        cdef uint16_t year
        if t is bytearray:
            self.byte(T_BYTEARRAY)
            self.varint(PyByteArray_GET_SIZE(v))
            return self.raw(PyByteArray_AS_STRING(v), PyByteArray_GET_SIZE(v))
        if t is set:
            return self.sequence(T_SET, v, depth)
        if t is frozenset:
            return self.sequence(T_FROZENSET, v, depth)
        if t is complex:
            self.byte(T_COMPLEX)
            part = v.real
            self.raw(&part, 8)
            part = v.imag
            return self.raw(&part, 8)
        if t is _dt.datetime or t is _dt.date:
            self.byte(T_DATETIME if t is _dt.datetime else T_DATE)
            year = v.year
            self.raw(&year, 2)
            self.byte(v.month)
            self.byte(v.day)
            return self.clock(v) if t is _dt.datetime else 0
        if t is _dt.time:
            self.byte(T_TIME)
            return self.clock(v)
        if t is _dt.timedelta:
            self.byte(T_TIMEDELTA)
            self.zigzag(v.days)
            self.varint(v.seconds)
            return self.varint(v.microseconds)
        if t is range:
            self.byte(T_RANGE)
            self.integer(v.start)
            self.integer(v.stop)
            return self.integer(v.step)
        if isinstance(v, np.generic):
            return self.scalar(v)
        name = (t.__module__, t.__qualname__)
        if name == ("decimal", "Decimal"):
            self.byte(T_DECIMAL)
            return self.text(str(v))
        if name == ("fractions", "Fraction"):
            self.byte(T_FRACTION)
            self.integer(v.numerator)
            return self.integer(v.denominator)
        if name == ("uuid", "UUID"):
            self.byte(T_UUID)
            return self.raw(PyBytes_AS_STRING(v.bytes), 16)
        raise refusal(v, advice(v))

    cdef int array(self, object a, int depth) except -1:
        cdef object n
        self.byte(T_ARRAY)
        self.dtype(a.dtype)
        self.byte(1 if a.flags.f_contiguous and not a.flags.c_contiguous else 0)
        self.byte(a.ndim)
        for n in a.shape:
            self.varint(n)
        return self.array_data(a, depth)

    cdef int array_data(self, object a, int depth) except -1:
        cdef const uint8_t[::1] data
        cdef Py_ssize_t i
        if a.dtype.kind in "OT":
            for i, element in enumerate(a.flat):
                try:
                    self.value(element, depth + 1)
                except Unpackable as error:
                    raise error.at(f".flat[{i}]")
            return 0
        if a.nbytes == 0:
            return 0
        if a.flags.f_contiguous and not a.flags.c_contiguous:
            a = a.T
        data = np.ascontiguousarray(a).reshape(-1).view(np.uint8)
        return self.raw(&data[0], data.shape[0])

    cdef int scalar(self, object v) except -1:
        cdef object t = type(v)
        cdef object a
        if t is np.str_:
            self.byte(T_NP_STR)
            return self.text(str.__str__(v))  # str(v) would drop trailing NULs
        if t is np.bytes_:
            self.byte(T_NP_BYTES)
            plain = bytes(v)
            self.varint(PyBytes_GET_SIZE(plain))
            return self.raw(PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain))
        a = np.asarray(v)
        if type(a[()]) is not t or a.dtype.kind in "OT":
            raise refusal(v)
        self.byte(T_SCALAR)
        self.dtype(a.dtype)
        return self.array_data(a, 0)

    cdef int dtype(self, object dt) except -1:
        cdef object n
        if dt.metadata:  # numpy 2.0 unpickles dates with an empty one
            raise Unpackable(-6, f"cannot store the metadata of dtype {dt}; drop it first")
        if dt.names is not None:
            return pack_fields(self, dt)
        if dt.subdtype is not None:
            self.byte(D_SUBARRAY)
            self.dtype(dt.subdtype[0])
            self.byte(len(dt.shape))
            for n in dt.shape:
                self.varint(n)
            return 0
        if dt.kind == "O":
            return self.byte(D_OBJECT)
        if dt.kind == "T":
            if hasattr(dt, "na_object"):
                raise Unpackable(-6, "cannot store a StringDType with an na_object")
            self.byte(D_STRING)
            return self.byte(1 if dt.coerce else 0)
        if dt.char in "gG":
            self.byte(D_LONG)
            self.text(dt.str)
            return self.byte(np.finfo(dt).nmant)
        if not PLAIN_DTYPE.fullmatch(dt.str) or np.dtype(dt.str) != dt:
            raise Unpackable(-6, f"cannot store arrays of dtype {dt}; view them as a numpy type")
        self.byte(D_PLAIN)
        return self.text(dt.str)


cdef int pack_fields(Packer p, object dt) except -1:
    if dt.hasobject:
        raise Unpackable(-6, f"cannot store a structured dtype with object fields: {dt}")
    p.byte(D_STRUCT)
    p.varint(dt.itemsize)
    p.byte(1 if dt.isalignedstruct else 0)
    p.varint(len(dt.names))
    for name in dt.names:
        field = dt.fields[name]
        p.text(name)
        p.varint(field[1])
        if len(field) == 3:
            if type(field[2]) is not str:
                raise Unpackable(-6, f"cannot store the title {field[2]!r} of a dtype: not a str")
            p.byte(1)
            p.text(field[2])
        else:
            p.byte(0)
        p.dtype(field[0])
    return 0


cdef int raise_pending() except -1:
    # An error is already set by the C function that returned NULL.
    return -1


cdef str advice(object v):
    """What to do instead, for the types that people most often try."""
    import enum

    if isinstance(v, enum.Enum):
        return "; store its .value"
    if hasattr(v, "__dataclass_fields__"):
        return "; store dataclasses.asdict() of it"
    if hasattr(v, "_asdict"):
        return "; store it as a tuple or its _asdict()"
    for plain in (bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set,
                  frozenset, np.ndarray, _dt.datetime, _dt.date):
        if isinstance(v, plain):
            name = "numpy.asarray" if plain is np.ndarray else plain.__name__
            return f", a subclass of {plain.__name__}; convert it with {name}() first"
    if hasattr(v, "__array__"):
        return "; store numpy.asarray() of it"
    return ""


def pack(value):
    """Encode `value` as a packed value: bytes."""
    cdef Packer packer = Packer()
    packer.encode(value)
    return PyBytes_FromStringAndSize(<const char *>packer.buf, packer.len)
