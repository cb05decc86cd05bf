"""Pickle: a list of dicts ``{"key", "type", "value"}``, in histories with ``"time"`` and
``"expires"``.

`pickle.load` gives the whole list. The list is written in pieces, each of them a frame of the
pickle protocol that stands alone, so that reading it here takes the memory of one piece. Pickles of
another origin are read, too, as a whole.

A pickle is a program: reading one can run anything that the machine has. The reader here gives it
only the classes below, which make plain values; everything else is refused by its name."""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import struct
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import Selection, unpack
from synadb.errors import CorruptionError
from synadb.interchange.exporting import total_of
from synadb.interchange.jsonl_files import checked
from synadb.interchange.rows import Progress, Record, Row, chunks

if TYPE_CHECKING:
    from synadb.db import SynaDB

_HEAD = b"\x80\x05]"  # PROTO 5, EMPTY_LIST
_FRAME = b"\x95"
_STOP = b"."

_PLAIN = {
    "builtins": ("set", "frozenset", "bytearray", "complex", "range"),
    "datetime": ("date", "time", "datetime", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID", "SafeUUID"),
    "zoneinfo": ("ZoneInfo",),
    "_codecs": ("encode",),
    "numpy": ("dtype", "ndarray", "str_", "bytes_"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core._internal": ("_convert_to_stringdtype_kwargs",),
    "numpy._core.numeric": ("_frombuffer",),
}
# Where numpy 1 had what numpy 2 has elsewhere, and the reverse.
_MOVED = ("numpy._core.", "numpy.core.")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _zone_only
        known = module.replace("numpy.core.", "numpy._core.")
        if name not in _PLAIN.get(known, ()):
            raise CorruptionError(
                -4, f"the pickle asks for {module}.{name}, which makes no plain value"
            )
        return getattr(_module(known), name)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return importlib.import_module(name.replace(*_MOVED))


def _zone_only(thing: Any, name: str) -> Any:
    """What a pickled ZoneInfo calls, and nothing else."""
    zone_info = _module("zoneinfo").ZoneInfo
    if thing is zone_info and name == "_unpickle":
        return zone_info._unpickle
    raise CorruptionError(-4, f"the pickle asks for the attribute {name!r:.80}")


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many."""
    count = 0
    out.write(_HEAD)
    for chunk in chunks(db, Selection(**selected), progress, total_of(db, selected)):
        piece = _piece([fields(row, selected["history"]) for row in chunk])
        out.write(_FRAME + struct.pack("<Q", len(piece)))
        out.write(piece)
        count += len(chunk)
    out.write(_STOP)
    return count


def fields(row: Row, history: bool) -> dict[str, Any]:
    """A record as a dict of plain values, for pickles and MessagePack."""
    key, kind, time, expires, value = row
    if kind == "packed":
        value = unpack(value)
    if not history:
        return {"key": key, "type": kind, "value": value}
    if expires:
        return {"key": key, "type": kind, "time": time, "expires": expires, "value": value}
    return {"key": key, "type": kind, "time": time, "value": value}


def _piece(records: list[dict[str, Any]]) -> bytes:
    """The opcodes that append the records to the list on the stack. Without a memo: numbers in it
    would go on counting from piece to piece."""
    body = io.BytesIO()
    pickler = pickle.Pickler(body, 5)
    pickler.fast = True
    pickler.dump(records)
    data = _without_frames(body.getvalue())
    assert data.startswith(_HEAD) and data.endswith(_STOP)
    return data[len(_HEAD) : -1]


def _without_frames(data: bytes) -> bytes:
    """A pickle as the same opcodes without frames; what is large stands between frames."""
    parts = [data[:2]]
    at = 2
    while data[at : at + 1] == _FRAME:
        end = at + 9 + struct.unpack_from("<Q", data, at + 1)[0]
        parts.append(data[at + 9 : end])
        at = end
    if at >= len(data) - 3:  # fewer than four bytes have no frame
        return b"".join(parts) + data[at:]
    starts = [(code.name, place) for code, _, place in pickletools.genops(data)]
    ends = [place for _, place in starts[1:]] + [len(data)]
    return b"".join(data[place:end] for (name, place), end in zip(starts, ends) if name != "FRAME")


# ------------------------------------------------------------------------------------- reading


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    number = 0
    try:
        for found in _records(source):
            key, kind, value, time, expires = checked(found)
            yield Record(key, kind, value, time, expires)
            number += 1
    except CorruptionError as error:
        raise CorruptionError(-4, f"record {number + 1}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a broken pickle makes the reader raise
        raise CorruptionError(-4, f"record {number + 1}: {error}") from None


def _records(source: IO[bytes]) -> Iterator[Any]:
    start = source.tell()
    size = source.seek(0, 2) - start
    source.seek(start)
    if source.read(len(_HEAD)) != _HEAD:
        source.seek(start)
        yield from _whole(source)
        return
    while True:
        opcode = source.read(1)
        if opcode == _STOP:
            return
        head = source.read(8)
        if opcode != _FRAME or len(head) < 8:
            source.seek(start)  # a list that another program wrote
            yield from _whole(source)
            return
        (length,) = struct.unpack("<Q", head)
        if length > size:
            raise ValueError(f"a frame of {length} bytes in a file of {size}")
        piece = source.read(length)
        if len(piece) < length:
            raise ValueError("the file ends within a frame")
        yield from _load(io.BytesIO(_HEAD + piece + _STOP))


def _whole(source: IO[bytes]) -> Iterator[Any]:
    yield from _load(source)


def _load(source: IO[bytes]) -> list[Any]:
    found = _Reader(source).load()
    if type(found) is not list:
        raise ValueError(f"the pickle holds a {type(found).__name__}, expected a list")
    return found
