"""CSV: the columns ``key,type,value``, in histories ``key,type,time,expires,value``, under a
header.

UTF-8, lines end with a newline, fields are quoted where they must be. Floats as Python shows them,
bytes and blobs as hexadecimal digits, vectors as a JSON list, packed values as JSON (values.py),
null and deletions empty. A reader takes the columns in any order, and a file without ``type``,
whose values are texts; of other columns it says that it does not know them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import Selection, unpack
from synadb.errors import CorruptionError
from synadb.interchange.exporting import total_of
from synadb.interchange.rows import Progress, Record, chunks
from synadb.interchange.values import (
    float_of,
    float_text,
    from_json,
    json_text,
    vector_json,
    vector_of,
)

if TYPE_CHECKING:
    from synadb.db import SynaDB

NEWEST = ["key", "type", "value"]
HISTORY = ["key", "type", "time", "expires", "value"]
_MUST_QUOTE = re.compile('[",\r\n]').search


def field(text: str) -> str:
    """A text as a field, quoted if it must be."""
    return '"' + text.replace('"', '""') + '"' if _MUST_QUOTE(text) else text


def value_text(kind: str, value: Any) -> str:
    """A value as a field."""
    if kind == "float":
        return float_text(value)
    if kind == "int":
        return str(value)
    if kind == "text":
        return field(value)
    if kind == "bytes" or kind == "blob":
        digits: str = value.hex()
        return digits
    if kind == "vector":
        return field(json.dumps(vector_json(value)))
    return "" if value is None else field(json_text(unpack(value)))


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many."""
    count = 0
    history = selected["history"]
    out.write((",".join(HISTORY if history else NEWEST) + "\n").encode())
    for chunk in chunks(db, Selection(**selected), progress, total_of(db, selected)):
        if history:
            lines = [
                f"{field(key)},{kind},{time},{expires or ''},{value_text(kind, value)}\n"
                for key, kind, time, expires, value in chunk
            ]
        else:
            lines = [
                f"{field(key)},{kind},{value_text(kind, value)}\n"
                for key, kind, _, _, value in chunk
            ]
        out.write("".join(lines).encode("utf-8"))
        count += len(chunk)
    return count


# ------------------------------------------------------------------------------------- reading


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    number = 1
    try:
        lines = _lines(source)
        header = _header(next(lines, []))
        for cells in lines:
            number += 1
            if cells == [""]:
                continue
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} fields, expected {len(header)}")
            yield _record(dict(zip(header, cells)))
    except (ValueError, TypeError, RecursionError, CorruptionError) as error:
        raise CorruptionError(-4, f"row {number}: {error}") from None


def _header(cells: list[str]) -> list[str]:
    unknown = set(cells) - set(HISTORY)
    if unknown or "key" not in cells or "value" not in cells or len(set(cells)) < len(cells):
        raise ValueError(f"the header is {','.join(cells)!r:.200}; expected {','.join(NEWEST)}")
    return cells


def _record(cells: dict[str, str]) -> Record:
    kind = cells.get("type", "text")
    time, expires = int(cells.get("time") or 0), int(cells.get("expires") or 0)
    if min(time, expires) < 0 or max(time, expires) >= 1 << 63:
        raise ValueError("a time outside what can be stored")
    return Record(cells["key"], kind, value_of(kind, cells["value"]), time, expires)


def value_of(kind: str, text: str) -> Any:
    """The value that `value_text` wrote."""
    if kind == "float":
        return float_of(text)
    if kind == "int":
        return int(text)
    if kind == "bytes" or kind == "blob":
        return bytes.fromhex(text)
    if kind == "vector":
        return vector_of(json.loads(text))
    if kind == "packed":
        return from_json(json.loads(text))
    return text if kind == "text" else None


def _lines(source: IO[bytes]) -> Iterator[list[str]]:
    """The rows as lists of fields. A quoted field may go over many lines."""
    parts: list[str] = []
    inside = False
    for line in _decoded(source):
        parts.append(line)
        inside ^= line.count('"') % 2 == 1
        if not inside:
            yield _split("".join(parts))
            parts.clear()
    if parts:
        raise ValueError("the file ends within quotes")


def _decoded(source: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(source):
        yield line.decode("utf-8" if number else "utf-8-sig")


def _split(line: str) -> list[str]:
    line = line[:-1] if line.endswith("\n") else line
    line = line[:-1] if line.endswith("\r") else line
    if '"' not in line:
        return line.split(",")
    cells = []
    at = 0
    while True:
        if line.startswith('"', at):
            end = _closing_quote(line, at + 1)
            cells.append(line[at + 1 : end].replace('""', '"'))
            at = end + 1
            if at < len(line) and line[at] != ",":
                raise ValueError(f"{line[at]!r} behind a closing quote, expected a comma")
        else:
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            cells.append(line[at:end])
            at = end
        if at >= len(line):
            return cells
        at += 1


def _closing_quote(line: str, at: int) -> int:
    while True:
        at = line.find('"', at)
        if at < 0:
            raise ValueError("a quote is not closed")
        if not line.startswith('"', at + 1):
            return at
        at += 2
