"""Reading a file from front to back with every bound checked: what it says of itself may be
wrong."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any

from synadb.errors import CorruptionError, Reason

#: Of a vector, in bytes.
KEY_MAX = 65530


class Ends(Exception):
    """The file ends in the middle of something."""


class Source:
    """The bytes of one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self.bytes: Any = (
                mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ) if self.size else b""
            )
        self.at = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.size:
            self.bytes.close()

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.size - self.at:
            raise Ends
        piece: bytes = self.bytes[self.at : self.at + count]
        self.at += count
        return piece

    def skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise Ends
        self.at += count

    def numbers(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def header(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        """The numbers that the file begins with; they are all there or it is refused."""
        self.at = 0
        try:
            return self.numbers(layout)
        except Ends:
            raise self.damaged(f"{self.size} bytes, too few for the header of {what}") from None

    def damaged(self, why: str) -> CorruptionError:
        return CorruptionError(
            -4, f"{self.path}: {why}", reason=Reason.CORRUPT, path=self.path, offset=self.at
        )

    def rest_is_zero(self) -> bool:
        """Whether nothing but zeros follows."""
        for at in range(self.at, self.size, 1 << 20):
            if self.bytes[at : at + (1 << 20)].strip(b"\0"):
                return False
        return True


def key_of(raw: bytes) -> str:
    """The key that these bytes are; ValueError says what is wrong with them."""
    if not raw:
        raise ValueError("an empty key")
    if len(raw) > KEY_MAX:
        raise ValueError(f"a key of {len(raw)} bytes; expected at most {KEY_MAX}")
    try:
        key = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"a key that is not UTF-8: {raw[:40]!r}") from None
    if "\0" in key:
        raise ValueError(f"a key with a NUL: {key[:40]!r}")
    return key
