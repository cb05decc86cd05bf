"""JSON Lines: an object a line.

``{"key": "a", "type": "float", "value": 1.5}``, and in histories ``"time"`` and ``"expires"``, in
microseconds since 1970, before the value. Bytes and blobs are hexadecimal text, vectors lists of
numbers, packed values JSON (values.py). A reader takes lines without ``type``, too: the value then
says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import Selection, unpack
from synadb.errors import CorruptionError
from synadb.interchange.exporting import total_of
from synadb.interchange.rows import Progress, Record, Row, chunks
from synadb.interchange.values import (
    float_json,
    from_json,
    json_text,
    text_float,
    vector_json,
    vector_of,
)

if TYPE_CHECKING:
    from synadb.db import SynaDB


def value_json(kind: str, value: Any) -> str:
    """The JSON text of a value whose type is written beside it."""
    if kind == "float":
        finite = value - value == 0.0
        return repr(value) if finite else json.dumps(float_json(value))
    if kind == "text":
        return encode_basestring(value)
    if kind == "int":
        return repr(value)
    if kind == "bytes" or kind == "blob":
        return f'"{value.hex()}"'
    if kind == "vector":
        return json.dumps(vector_json(value))
    return "null" if value is None else json_text(unpack(value))


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many."""
    count = 0
    lines = history_lines if selected["history"] else newest_lines
    for chunk in chunks(db, Selection(**selected), progress, total_of(db, selected)):
        out.write(lines(chunk).encode("utf-8"))
        count += len(chunk)
    return count


def newest_lines(chunk: list[Row]) -> str:
    text, quoted = value_json, encode_basestring
    return "".join(
        [
            f'{{"key": {quoted(key)}, "type": "{kind}", "value": {text(kind, value)}}}\n'
            for key, kind, _, _, value in chunk
        ]
    )


def history_lines(chunk: list[Row]) -> str:
    text, quoted = value_json, encode_basestring
    return "".join(
        [
            f'{{"key": {quoted(key)}, "type": "{kind}", "time": {time}, '
            f'{_expiry(expires)}"value": {text(kind, value)}}}\n'
            for key, kind, time, expires, value in chunk
        ]
    )


def _expiry(expires: int) -> str:
    return f'"expires": {expires}, ' if expires else ""


# ------------------------------------------------------------------------------------- reading


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            yield record_of(json.loads(line))
        except (ValueError, TypeError, RecursionError, CorruptionError) as error:
            raise CorruptionError(-4, f"line {number}: {error}") from None


def record_of(fields: Any) -> Record:
    """The record of the fields of a line; those of pickles and MessagePack are the same but for the
    value, which is decoded already."""
    key, kind, value, time, expires = checked(fields)
    if kind is None:
        return Record(key, None, from_json(value), time, expires)
    return Record(key, kind, value_of(kind, value), time, expires)


def checked(fields: Any) -> tuple[str, str | None, Any, int, int]:
    """The fields of a record with their types checked, all but that of the value."""
    if type(fields) is not dict or "key" not in fields or "value" not in fields:
        raise ValueError("no record; expected key, type and value")
    key, kind = fields["key"], fields.get("type")
    time, expires = fields.get("time", 0), fields.get("expires", 0)
    if type(key) is not str or not (kind is None or type(kind) is str):
        raise ValueError(f"key {key!r:.80} of type {kind!r:.80}; expected two texts")
    for moment in (time, expires):
        if type(moment) is not int or not 0 <= moment < 1 << 63:
            raise ValueError(f"a time of {moment!r:.80}; expected microseconds since 1970")
    return key, kind, fields["value"], time, expires


def value_of(kind: str, value: Any) -> Any:
    """The value that `value_json` wrote, parsed."""
    if kind == "float":
        return text_float(value)
    if kind == "bytes" or kind == "blob":
        return bytes.fromhex(value)
    if kind == "vector":
        return vector_of(value)
    return from_json(value) if kind == "packed" else value
