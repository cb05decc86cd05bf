"""MessagePack, written and read without another package.

Every value of Python's plain types as MessagePack has it: nil, booleans, integers of 64 bits
(signed, or unsigned when larger), floats as float 64, texts, bytes, arrays, maps. Two extension
types hold the rest:

====  =================================================================================
code  content
====  =================================================================================
0     float32, little-endian, one behind the other: a stored vector, a numpy float32 row
1     a packed value as its stored bytes: tuples, sets, larger integers, arrays, times, ...
====  =================================================================================

A reader that does not know them gets their bytes. The reader here compares every length with what
is left of the file before it takes memory for it, and nests `DEPTH` deep at most."""

from __future__ import annotations

import struct
from typing import IO, Any, Callable

import numpy as np

from synadb._core.arrow import pack, unpack
from synadb.errors import ArgumentError, Reason

VECTOR = 0
PACKED = 1
DEPTH = 512
_LONGEST = (1 << 32) - 1


class TooDeep(Exception):
    """A value that nests deeper than is written; it goes as packed bytes instead."""


def _head(out: bytearray, count: int, *forms: tuple[int, int, str]) -> None:
    """A length in the shortest of the forms (first length too large for it, tag, struct format)."""
    for limit, tag, form in forms:
        if count < limit:
            out += struct.pack(form, tag, count)
            return
    raise ArgumentError(
        0, f"a length of {count}; MessagePack holds at most {_LONGEST}", reason=Reason.ARGUMENT
    )


_STR = ((1 << 8, 0xD9, ">BB"), (1 << 16, 0xDA, ">BH"), (1 << 32, 0xDB, ">BI"))
_BIN = ((1 << 8, 0xC4, ">BB"), (1 << 16, 0xC5, ">BH"), (1 << 32, 0xC6, ">BI"))
_EXT = ((1 << 8, 0xC7, ">BB"), (1 << 16, 0xC8, ">BH"), (1 << 32, 0xC9, ">BI"))
_ARRAY = ((1 << 16, 0xDC, ">BH"), (1 << 32, 0xDD, ">BI"))
_MAP = ((1 << 16, 0xDE, ">BH"), (1 << 32, 0xDF, ">BI"))


def write(out: bytearray, value: Any) -> None:
    """Append a value; a float32 vector as extension 0."""
    start = len(out)
    try:
        _write(out, value, 0)
    except TooDeep:
        del out[start:]
        write_ext(out, PACKED, pack(value))


def _write(out: bytearray, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        write_text(out, value)
    elif kind is float:
        out += struct.pack(">Bd", 0xCB, value)
    elif kind is int:
        _write_int(out, value)
    elif value is None:
        out.append(0xC0)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    elif kind is bytes:
        _head(out, len(value), *_BIN)
        out += value
    elif kind is list or kind is dict:
        if depth == DEPTH // 2:
            raise TooDeep
        _write_many(out, value, depth + 1)
    else:
        write_ext(out, PACKED, pack(value))


def write_text(out: bytearray, text: str) -> None:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates
        write_ext(out, PACKED, pack(text))
        return
    if len(data) < 32:
        out.append(0xA0 | len(data))
    else:
        _head(out, len(data), *_STR)
    out += data


def _write_int(out: bytearray, value: int) -> None:
    if -32 <= value < 128:
        out += struct.pack("b", value)
    elif -(1 << 63) <= value < 1 << 63:
        out += struct.pack(">Bq", 0xD3, value)
    elif 0 < value < 1 << 64:
        out += struct.pack(">BQ", 0xCF, value)
    else:
        write_ext(out, PACKED, pack(value))


def _write_many(out: bytearray, value: Any, depth: int) -> None:
    if type(value) is list:
        if len(value) < 16:
            out.append(0x90 | len(value))
        else:
            _head(out, len(value), *_ARRAY)
        for item in value:
            _write(out, item, depth)
        return
    if len(value) < 16:
        out.append(0x80 | len(value))
    else:
        _head(out, len(value), *_MAP)
    for key, item in value.items():
        _write(out, key, depth)
        _write(out, item, depth)


def write_ext(out: bytearray, code: int, data: bytes) -> None:
    """Append an extension."""
    _head(out, len(data), *_EXT)
    out.append(code)
    out += data


def array_head(count: int) -> bytes:
    """The head of an array in its longest form, which can be written over when the count is
    known."""
    if count > _LONGEST:
        raise ArgumentError(
            0, f"{count} records; MessagePack holds at most {_LONGEST}", reason=Reason.ARGUMENT
        )
    return struct.pack(">BI", 0xDD, count)


# ------------------------------------------------------------------------------------- reading


class Reader:
    """Values out of a file, one after another."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        here = source.tell()
        self._left = source.seek(0, 2) - here
        source.seek(here)

    @property
    def left(self) -> int:
        """Bytes behind what was read."""
        return self._left

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError(f"{count} bytes announced, {self._left} left")
        self._left -= count
        data = self._source.read(count)
        if len(data) < count:
            raise ValueError("the file was cut short while it was read")
        return data

    def _number(self, form: str, size: int) -> Any:
        return struct.unpack(form, self._take(size))[0]

    def array(self) -> int:
        """The number of elements of the array that comes next; they are to be read one by one."""
        tag = self._take(1)[0]
        if tag >> 4 == 9:
            return tag & 15
        if tag == 0xDC or tag == 0xDD:
            return int(self._number(">H" if tag == 0xDC else ">I", 2 if tag == 0xDC else 4))
        raise ValueError(f"tag 0x{tag:02x}, expected an array")

    def value(self, depth: int = 0) -> Any:
        """The next value."""
        if depth > DEPTH:
            raise ValueError(f"nested more than {DEPTH} deep")
        tag = self._take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if tag >= 0xC0:
            return self._tagged(tag, depth)
        if tag >= 0xA0:
            return self._take(tag & 31).decode("utf-8")
        return self._list(tag & 15, depth) if tag >= 0x90 else self._dict(tag & 15, depth)

    def _tagged(self, tag: int, depth: int) -> Any:
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(*_NUMBERS[tag])
        if tag in _LENGTHS:
            make, form, size = _LENGTHS[tag]
            return make(self, self._number(form, size), depth)
        if 0xD4 <= tag <= 0xD8:
            return self._ext(1 << (tag - 0xD4), depth)
        raise ValueError(f"tag 0x{tag:02x}, which MessagePack does not have")

    def _text(self, count: int, depth: int) -> str:
        return self._take(count).decode("utf-8")

    def _bytes(self, count: int, depth: int) -> bytes:
        return self._take(count)

    def _list(self, count: int, depth: int) -> list[Any]:
        if count > self._left:
            raise ValueError(f"{count} elements announced, {self._left} bytes left")
        return [self.value(depth + 1) for _ in range(count)]

    def _dict(self, count: int, depth: int) -> dict[Any, Any]:
        if 2 * count > self._left:
            raise ValueError(f"{count} pairs announced, {self._left} bytes left")
        found = {}
        for _ in range(count):
            key = self.value(depth + 1)
            found[key] = self.value(depth + 1)
        return found

    def _ext(self, count: int, depth: int) -> Any:
        code = self._take(1)[0]
        data = self._take(count)
        if code == PACKED:
            return unpack(data)
        if code == VECTOR and count % 4 == 0:
            return np.frombuffer(data, "<f4").astype(np.float32)
        raise ValueError(f"extension {code} of {count} bytes, which is not one of ours")


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: (">f", 4), 0xCB: (">d", 8),
    0xCC: (">B", 1), 0xCD: (">H", 2), 0xCE: (">I", 4), 0xCF: (">Q", 8),
    0xD0: (">b", 1), 0xD1: (">h", 2), 0xD2: (">i", 4), 0xD3: (">q", 8),
}  # fmt: skip
_LENGTHS: dict[int, tuple[Callable[[Reader, int, int], Any], str, int]] = {
    0xC4: (Reader._bytes, ">B", 1), 0xC5: (Reader._bytes, ">H", 2), 0xC6: (Reader._bytes, ">I", 4),
    0xC7: (Reader._ext, ">B", 1), 0xC8: (Reader._ext, ">H", 2), 0xC9: (Reader._ext, ">I", 4),
    0xD9: (Reader._text, ">B", 1), 0xDA: (Reader._text, ">H", 2), 0xDB: (Reader._text, ">I", 4),
    0xDC: (Reader._list, ">H", 2), 0xDD: (Reader._list, ">I", 4),
    0xDE: (Reader._dict, ">H", 2), 0xDF: (Reader._dict, ">I", 4),
}  # fmt: skip
