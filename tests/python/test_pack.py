"""Packed values: every type comes back exactly, nothing else is accepted, and no bytes do harm."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import struct
import uuid
import zoneinfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synadb import CorruptionError, SynaError, TypeMismatchError
from synadb._core.pack import pack
from synadb._core.unpack import unpack

DEEPEST = 512


def same(a, b):
    """Equal in type, value and bits, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return same_arrays(a, b)
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) for x, y in zip(sum(a.items(), ()), sum(b.items(), ()))
        )
    if isinstance(a, (set, frozenset)):
        return canonical(a) == canonical(b)
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (dt.datetime, dt.time)):
        return repr(a) == repr(b) and a.fold == b.fold
    return a == b


def canonical(value):
    """A text that is equal for equal sets, whatever the order of their elements."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({','.join(sorted(map(canonical, value)))})"
    if isinstance(value, tuple):
        return f"tuple({','.join(map(canonical, value))})"
    return f"{type(value).__name__}:{value!r}"


def same_arrays(a, b):
    if (
        a.dtype != b.dtype
        or a.shape != b.shape
        or a.dtype.isalignedstruct != b.dtype.isalignedstruct
    ):
        return False
    if a.dtype.kind in "OT":
        return all(map(same, a.ravel(), b.ravel()))
    return a.tobytes() == b.tobytes()


def check(value):
    back = unpack(pack(value))
    assert same(value, back), f"{value!r} came back as {back!r}"
    return back


# ------------------------------------------------------------------------------------ the types

PLAIN = [
    None, True, False, 0, 1, 127, 128, -1, -128, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63,
    -(2**63) - 1, 2**70, -(2**70), 10**400, 0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324,
    complex(1, -0.0), "", "text", "nul\0inside", "\u00fc\u4e2d\U0001f600", "lone \ud800 surrogate",
    b"", b"\0\xff", bytearray(b""), bytearray(b"abc"), [], (), {}, set(), frozenset(),
    [1, [2, (3, {"four": 5})]], (1,), {1: "a", "1": "b", (1, 2): None, 2.5: [], b"k": ()},
    {"z": 1, "a": 2, "m": 3}, {1, "a", (2, 3)}, frozenset({frozenset({1})}),
    range(0), range(1, 10, 3), range(10, 0, -1), range(2**80),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    fractions.Fraction(-3, 7), fractions.Fraction(2**90, 3),
]  # fmt: skip

DECIMALS = [
    "0",
    "-0",
    "1.10",
    "1E+500",
    "-1E-500",
    "NaN",
    "sNaN",
    "NaN123",
    "Infinity",
    "-Infinity",
]

ZONED = dt.timezone(dt.timedelta(hours=5, minutes=45, seconds=1, microseconds=3))
TIMES = [
    dt.date.min, dt.date.max, dt.date(2024, 2, 29), dt.time.min, dt.time.max,
    dt.time(1, 2, 3, 4, tzinfo=dt.timezone.utc), dt.time(2, fold=1),
    dt.datetime.min, dt.datetime.max, dt.datetime(2024, 1, 2, 3, 4, 5, 6),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc), dt.datetime(2024, 1, 2, tzinfo=ZONED),
    dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-8), "PST")),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    dt.timedelta.min, dt.timedelta.max, dt.timedelta(microseconds=-1), dt.timedelta(0),
]  # fmt: skip

DTYPES = [
    "?", "i1", "u1", "<i2", ">i2", "<u4", ">u8", "<i8", "<f2", ">f4", "<f8", "<c8", ">c16",
    "S5", "U3", ">U3", "V4", "<M8[s]", "<M8[25us]", ">m8[ns]", "<m8[D]", "g", "G",
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda v: f"{type(v).__name__}:{v!r:.30}")
def test_plain_types_come_back_exactly(value):
    check(value)


@pytest.mark.parametrize("text", DECIMALS)
def test_decimals_keep_digits_exponent_and_sign(text):
    check(decimal.Decimal(text))


def test_decimals_do_not_depend_on_the_context():
    with decimal.localcontext() as context:
        context.prec = 3
        context.capitals = 0
        check(decimal.Decimal("1.23456789012345678901234567890E+99"))


@pytest.mark.parametrize("value", TIMES, ids=repr)
def test_dates_and_times_keep_zone_and_fold(value):
    back = check(value)
    if getattr(value, "tzinfo", None) is not None:
        assert type(back.tzinfo) is type(value.tzinfo)
        assert str(back.tzinfo) == str(value.tzinfo)


def test_nan_keeps_its_payload():
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF80000DEADBEEF))[0]
    assert struct.pack("<d", unpack(pack([nan]))[0]) == struct.pack("<d", nan)


def test_the_order_of_a_dict_is_kept():
    assert list(unpack(pack({"b": 1, "a": 2, "c": 3}))) == ["b", "a", "c"]


def test_true_is_not_one():
    assert unpack(pack([True, 1, 1.0])) == [True, 1, 1.0]
    assert [type(v) for v in unpack(pack([True, 1, 1.0]))] == [bool, int, float]


# ---------------------------------------------------------------------------------------- numpy


def filled(dtype, shape):
    """An array of arbitrary bytes that are legal for the dtype."""
    rng = np.random.default_rng(7)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "U":
        return np.resize(np.array(["a", "\u00fc", "xyz", ""]), shape).astype(dtype)
    if dtype.char in "gG":
        return np.array(rng.standard_normal(shape) / 3, dtype=dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    raw = rng.integers(0, 256, count, dtype=np.uint8)
    return np.frombuffer(raw.tobytes(), dtype=dtype).reshape(shape).copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 0, 3), (2, 3, 4)], ids=str)
def test_arrays_of_every_dtype_and_shape(dtype, shape):
    array = filled(dtype, shape)
    back = check(array)
    assert back.flags.writeable and back.flags.owndata
    check(np.asfortranarray(array))
    if array.ndim and array.size:
        check(array[..., ::-1])
        check(array.T)
        check(array[:1])


def test_fortran_order_is_kept():
    back = unpack(pack(np.asfortranarray(np.arange(6.0).reshape(2, 3))))
    assert back.flags.f_contiguous and not back.flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_of_every_dtype(dtype):
    check(filled(dtype, (1,))[0])


@pytest.mark.parametrize("value", [np.str_("a\0"), np.str_(""), np.bytes_(b"a\0"), np.bytes_(b"")])
def test_numpy_strings_keep_trailing_zeros(value):
    check(value)


STRUCTURED = [
    np.dtype([("a", "<i4"), ("b", "<f8")]),
    np.dtype([("a", "i1"), ("b", "<f8")], align=True),
    np.dtype({"names": ["x", "y"], "formats": ["<i2", "S3"], "offsets": [4, 1], "itemsize": 12}),
    np.dtype([(("title", "a"), "<i4"), ("b", "<u2", (2, 3))]),
    np.dtype([("outer", [("inner", "<M8[ms]"), ("deep", [("er", ">c8")])]), ("n", "U2")]),
    np.dtype([]),
]


@pytest.mark.parametrize("dtype", STRUCTURED, ids=str)
def test_structured_dtypes(dtype):
    array = np.zeros((2, 3), dtype)
    for name in dtype.names:
        if array[name].dtype.kind in "iuf":
            array[name] = 7
    back = check(array)
    assert back.dtype.fields == dtype.fields or dtype.fields is None
    assert back.dtype.itemsize == dtype.itemsize
    if dtype.itemsize:
        check(array[0, 0])


def test_arrays_of_objects_hold_what_can_be_packed():
    array = np.empty((2, 2), dtype=object)
    array[:] = [[1, "two"], [[3], None]]
    back = check(array)
    assert back[1, 0] == [3]
    array[1, 1] = object()
    with pytest.raises(TypeError, match=r"value\.flat\[3\]: .*type object"):
        pack(array)


@pytest.mark.skipif(
    not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="numpy 1"
)
def test_arrays_of_variable_strings():
    check(np.array(["a", "", "long" * 100, "\u00fc"], dtype=np.dtypes.StringDType()))
    check(np.array(["a"], dtype=np.dtypes.StringDType(coerce=False)))
    with pytest.raises(TypeError, match="na_object"):
        pack(np.array(["a"], dtype=np.dtypes.StringDType(na_object=None)))


# -------------------------------------------------------------------------------------- refusals


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


class MyDict(dict):
    pass


Pair = collections.namedtuple("Pair", "a b")

REFUSED = [
    (Colour.RED, "Colour.*store its .value"),
    (Point(1), "Point.*asdict"),
    (Pair(1, 2), "Pair.*tuple or its _asdict"),
    (MyDict(a=1), r"MyDict.*convert it with dict\(\)"),
    (collections.OrderedDict(a=1), "OrderedDict.*dict"),
    (np.ma.masked_array([1]), r"MaskedArray.*numpy.asarray\(\)"),
    (object(), "type object"),
    (len, "builtin_function"),
    (int, "type type"),
    (memoryview(b"a"), "memoryview"),
    (..., "ellipsis"),
    (np.zeros(1, [("o", object)]), "object fields"),
    (np.zeros(1, np.dtype("f8", metadata={"a": 1})), "metadata"),
    (dt.datetime(2024, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {"utcoffset": lambda s, d: None})()),
     "type .*Z; use datetime.timezone"),
]  # fmt: skip


@pytest.mark.parametrize("value, message", REFUSED, ids=[m for _, m in REFUSED])
def test_what_cannot_come_back_exactly_is_refused(value, message):
    with pytest.raises(TypeMismatchError, match=message) as caught:
        pack(value)
    assert isinstance(caught.value, TypeError) and caught.value.code == -6


def test_a_refusal_names_the_place_inside_the_value():
    with pytest.raises(
        TypeError, match=r"^value\['layers'\]\[1\]\[3\]: cannot store an object of type"
    ):
        pack({"layers": [0, (0, 0, 0, object())]})
    with pytest.raises(TypeError, match=r"^value\[\(1, \.\.\.|^value\['k'\]\{\.\.\.\}: "):
        pack({"k": {object()}})


def test_nesting_has_a_limit_and_cycles_meet_it():
    deep = []
    for _ in range(DEEPEST - 1):
        deep = [deep]
    back, depth = unpack(pack(deep)), 1
    while back:
        (back,) = back
        depth += 1
    assert depth == DEEPEST
    with pytest.raises(TypeError, match="nested more than 512 deep"):
        pack([deep])
    cycle = []
    cycle.append(cycle)
    with pytest.raises(TypeError, match="contains itself"):
        pack({"a": cycle})


# --------------------------------------------------------------------------------- hypothesis

hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.dates() | st.times() | st.datetimes() | st.timedeltas() | st.uuids()
    | st.decimals(allow_nan=False) | st.fractions(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
surrogates = st.text(st.characters(exclude_categories=()))
zones = st.timezones() | st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(
    dt.timezone
)
values = st.recursive(
    hashable | st.floats() | st.complex_numbers() | surrogates | st.binary().map(bytearray)
    | st.datetimes(timezones=zones),
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple)
    | st.dictionaries(hashable, inner, max_size=5) | st.sets(hashable, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(values)
def test_any_nesting_comes_back(value):
    check(value)


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from([d for d in DTYPES if d not in "gG" and "U" not in d])))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        raw = bytes(b & 1 for b in raw)
    array = np.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array


@given(arrays())
def test_any_array_comes_back(array):
    back = unpack(pack(array))
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(values, values)
def test_different_values_are_different_bytes(a, b):
    if pack(a) == pack(b):
        assert same(a, b)


# ---------------------------------------------------------------------------- hostile input

SAMPLE = {
    "list": [1, -5, 2**80, 1.5, None, True], "text": "\u00fcber", "bytes": b"abc",
    "when": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc), "zone": TIMES[13],
    "array": np.arange(6, dtype=">i4").reshape(2, 3), "rows": np.zeros(2, STRUCTURED[3]),
    "objects": np.array([None, "x"], dtype=object), "scalar": np.float32(1.5),
    "set": {1, 2}, "decimal": decimal.Decimal("1.5"), "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5), "range": range(3), "delta": dt.timedelta(1, 2, 3),
}  # fmt: skip


def survives(data):
    try:
        unpack(data)
    except SynaError as error:
        # Sound bytes that only another machine or numpy can read are no damage.
        elsewhere = "this machine" in str(error) or "numpy 2" in str(error)
        assert isinstance(error, CorruptionError) or elsewhere, error


def test_every_truncation_is_damage():
    data = pack(SAMPLE)
    for cut in range(len(data)):
        with pytest.raises(CorruptionError):
            unpack(data[:cut])


def test_every_bit_flip_gives_a_value_or_a_typed_error():
    data = pack(SAMPLE)
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            survives(flipped)


@settings(max_examples=500)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x01")
@example(b"\x02\x00")
def test_no_bytes_do_harm(data):
    survives(data)
    survives(b"\x01" + data)


@given(values, st.data())
def test_no_splice_does_harm(value, data):
    packed = pack(value)
    at = data.draw(st.integers(0, len(packed)))
    survives(packed[:at] + data.draw(st.binary(max_size=8)) + packed[at:])


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


HUGE = varint(2**62)
BOMBS = [
    b"\x07" + HUGE, b"\x08" + HUGE, b"\x0a" + HUGE, b"\x0c" + HUGE, b"\x04" + HUGE,
    b"\x20\x00\x03<f8\x00\x02" + varint(2**31) + varint(2**31),
    b"\x20\x00\x03<f8\x00\x03" + HUGE + HUGE + b"\x00",
    b"\x20\x03\x00\x01" + HUGE,
    b"\x20\x00\x0b<U100000000\x00\x01\x01", b"\x21\x00\x0b<U100000000",
    b"\x20\x00\x03<f8\x00\xff", b"\x20\x01" + HUGE + b"\x00\x00\x00\x00",
    b"\x20" + b"\x02" * 100, b"\x20\x00\x05O,i4i", b"\x21\x00\x02|O", b"\x21\x03",
    b"\x0a\x01" * 600 + b"\x00", b"\x0c\x01\x0a\x00\x00", b"\x0d\x02\x80\x80",
    b"\x0c\x02\x80\x00\x80\x00", b"\x0f\x80\x80\x80", b"\x15\x81\x80", b"\x14\x03abc",
    b"\x10\x00\x00\x01\x01", b"\x11\x63\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x13" + HUGE + b"\x00\x00", b"\x03" + b"\xff" * 10, b"\x99\x99", b"\x7f",
    b"\x11\x00\x00\x00\x00\x00\x00\x00\x00\x03\x0b../../etc/x",
    b"\x07\x02\xff\xff", b"\x16abc", b"\x15\x00\x00", b"\x0f\x05\x80\x80",
]  # fmt: skip


@pytest.mark.parametrize("body", BOMBS, ids=lambda b: b[:12].hex())
def test_crafted_values_reserve_nothing_and_raise(body):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SynaError):
        unpack(b"\x01" + body)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_an_unknown_time_zone_is_no_damage():
    data = pack(dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))
    with pytest.raises(SynaError, match=r"Europe/Berlix.*tzdata") as caught:
        unpack(data.replace(b"Berlin", b"Berlix"))
    assert not isinstance(caught.value, CorruptionError)


def test_the_bytes_are_those_of_the_documented_format():
    assert pack(1.0) == b"\x01\x05" + struct.pack("<d", 1.0)
    assert pack([5, -1, "a", None]) == bytes.fromhex("01 0a 04 85 03 01 07 01 61 00")
