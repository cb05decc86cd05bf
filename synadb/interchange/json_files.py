"""JSON: one object ``{key: value}``.

Values carry their types by themselves (values.py). In a history a key's value is ``{"$history":
[{"time": t, "value": v}, {"time": t, "deleted": true}, ...]}``, with ``"expires"`` where there is
one. Files are read piece by piece, whatever they hold: a value must fit into memory, a history need
not."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import DELETED, Selection, unpack
from synadb.errors import CorruptionError
from synadb.interchange.exporting import total_of
from synadb.interchange.jsonl_files import value_json
from synadb.interchange.rows import Progress, Record, Row, chunks
from synadb.interchange.values import from_json, json_text, vector_of

if TYPE_CHECKING:
    from synadb.db import SynaDB

READ_CHARS = 1 << 18
VALUE_CHARS = 3 << 30  # more than the largest value takes
_SPACE = re.compile(r"[ \t\r\n]*")
_HISTORY = re.compile(r'\{[ \t\r\n]*"\$history"[ \t\r\n]*:[ \t\r\n]*\[')


def own_json(kind: str, value: Any) -> str:
    """The JSON text of a value that carries its type."""
    if kind == "packed":
        return json_text(unpack(value))
    text = value_json(kind, value)
    return f'{{"${kind}": {text}}}' if kind in ("bytes", "blob", "vector") else text


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many."""
    found = chunks(db, Selection(**selected), progress, total_of(db, selected))
    out.write(b"{")
    count = (_write_histories if selected["history"] else _write_newest)(out, found)
    out.write(b"\n}\n" if count else b"}\n")
    return count


def _write_newest(out: IO[bytes], found: Iterator[list[Row]]) -> int:
    count = 0
    for chunk in found:
        text = ",\n".join(
            [f"{encode_basestring(key)}: {own_json(kind, v)}" for key, kind, _, _, v in chunk]
        )
        out.write((",\n" if count else "\n").encode() + text.encode("utf-8"))
        count += len(chunk)
    return count


def _write_histories(out: IO[bytes], found: Iterator[list[Row]]) -> int:
    count = 0
    current: str | None = None
    for chunk in found:
        parts = []
        for row in chunk:
            if row[0] != current:
                parts.append("\n" if current is None else "\n]},\n")
                parts.append(f'{encode_basestring(row[0])}: {{"$history": [\n')
                current = row[0]
            else:
                parts.append(",\n")
            parts.append(_event(row))
        out.write("".join(parts).encode("utf-8"))
        count += len(chunk)
    if count:
        out.write(b"\n]}")
    return count


def _event(row: Row) -> str:
    _, kind, time, expires, value = row
    if kind == DELETED:
        return f'{{"time": {time}, "deleted": true}}'
    expiry = f'"expires": {expires}, ' if expires else ""
    return f'{{"time": {time}, {expiry}"value": {own_json(kind, value)}}}'


# ------------------------------------------------------------------------------------- reading


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    text = Text(source)
    try:
        text.take("{")
        if text.next() == "}":
            text.take("}")
        else:
            yield from _members(text)
        if text.next():
            raise ValueError("more behind the object")
    except (ValueError, TypeError, RecursionError, CorruptionError) as error:
        raise CorruptionError(-4, f"character {text.place():,}: {error}") from None


def _members(text: Text) -> Iterator[Record]:
    while True:
        key = text.value()
        if type(key) is not str:
            raise ValueError(f"a key is {key!r:.80}; expected a text")
        text.take(":")
        if text.take_history():
            yield from _events(text, key)
            text.take("}")
        else:
            yield _record(key, text.value(), 0, 0)
        if text.take(",}") == "}":
            return


def _events(text: Text, key: str) -> Iterator[Record]:
    if text.next() == "]":
        text.take("]")
        return
    while True:
        event = text.value()
        if type(event) is not dict or type(event.get("time")) is not int:
            raise ValueError(f"key {key!r:.80}: no record of a history; expected time and value")
        if event.get("deleted"):
            yield Record(key, DELETED, None, event["time"])
        else:
            yield _record(key, event["value"], event["time"], event.get("expires", 0))
        if text.take(",]") == "]":
            return


def _record(key: str, value: Any, time: int, expires: int) -> Record:
    kind = None
    if type(value) is dict and len(value) == 1:
        name, content = next(iter(value.items()))
        if name == "$vector":
            return Record(key, "vector", vector_of(content), time, expires)
        kind = "blob" if name == "$blob" else None
    return Record(key, kind, from_json(value), time, expires)


class Text:
    """JSON out of a file, of which only the piece that is looked at is in memory."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._passed = 0
        self._ended = False

    def place(self) -> int:
        """How many characters were taken."""
        return self._passed + self._at

    def _fill(self) -> None:
        self._passed += self._at
        rest = self._text[self._at :]
        self._at = 0
        if len(rest) > VALUE_CHARS:
            raise ValueError("a value is larger than any that can be stored")
        raw = self._source.read(max(READ_CHARS, len(rest)))
        self._ended = not raw
        self._text = rest + self._decoder.decode(raw, final=not raw)

    def next(self) -> str:
        """The next character that is no space, "" at the end; it is not taken."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill()

    def take(self, expected: str) -> str:
        """Take the next character, which is one of `expected`."""
        found = self.next()
        if not found or found not in expected:
            raise ValueError(f"found {found or 'the end'!r}, expected {' or '.join(expected)}")
        self._at += 1
        return found

    def take_history(self) -> bool:
        """Take the beginning of a history, if that comes next."""
        if self.next() != "{":
            return False
        while len(self._text) - self._at < 64 and not self._ended:
            self._fill()
        found = _HISTORY.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found is not None

    def value(self) -> Any:
        """Take a whole value."""
        self.next()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not _cut_short(error, len(self._text)):
                    self._at = error.pos
                    raise ValueError(error.msg) from None
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            self._fill()


def _cut_short(error: json.JSONDecodeError, length: int) -> bool:
    """Could more text make it valid?"""
    return error.msg.startswith("Unterminated string") or error.pos > length - 16
