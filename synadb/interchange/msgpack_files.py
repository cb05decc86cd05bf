"""MessagePack: an array of maps ``{"key", "type", "value"}``, in histories with ``"time"`` and
``"expires"``. msgpack.py says how values are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from synadb._core.arrow import Selection
from synadb.errors import ArgumentError, CorruptionError, Reason
from synadb.interchange import msgpack
from synadb.interchange.exporting import total_of
from synadb.interchange.jsonl_files import checked
from synadb.interchange.pickle_files import fields
from synadb.interchange.rows import Progress, Record, Row, chunks

if TYPE_CHECKING:
    from synadb.db import SynaDB


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many. The count stands in front and is filled in at the end."""
    count = 0
    out.write(msgpack.array_head(0))
    for chunk in chunks(db, Selection(**selected), progress, total_of(db, selected)):
        text = bytearray()
        for row in chunk:
            _write_record(text, row, selected["history"])
        out.write(text)
        count += len(chunk)
    out.seek(0)
    out.write(msgpack.array_head(count))
    out.seek(0, 2)
    return count


def _write_record(out: bytearray, row: Row, history: bool) -> None:
    record = fields(row, history)
    value = record.pop("value")
    out.append(0x80 | len(record) + 1)
    for name, field in record.items():
        msgpack.write(out, name)
        msgpack.write(out, field)
    msgpack.write(out, "value")
    try:
        if row[1] == "vector":
            msgpack.write_ext(out, msgpack.VECTOR, value.astype("<f4").tobytes())
        else:
            msgpack.write(out, value)
    except ArgumentError as error:
        raise ArgumentError(
            0, f"key {row[0]!r:.200}: {error.message}", reason=Reason.ARGUMENT
        ) from None


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    number = 0
    try:
        reader = msgpack.Reader(source)
        count = reader.array()
        while number < count:
            number += 1
            yield _record(reader.value())
        if reader.left:
            raise ValueError(f"{reader.left} bytes behind the records")
    except (ValueError, TypeError, RecursionError, CorruptionError) as error:
        raise CorruptionError(-4, f"record {number}: {error}") from None


def _record(found: Any) -> Record:
    key, kind, value, time, expires = checked(found)
    if kind == "vector" and not isinstance(value, np.ndarray):
        value = np.array(value, dtype=np.float32)
    return Record(key, kind, value, time, expires)
