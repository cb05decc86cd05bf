"""How results are shown: aligned tables for people, JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Union

import numpy as np

Cell = Union[str, int, float, None]


class Output:
    """Writes a command's results in one of the two forms."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def record(self, fields: dict[str, Any], text: str | None = None) -> None:
        """One result: a JSON object, or `text`, or a line per field."""
        if self.json:
            print(json_text(fields))
        elif text is not None:
            print(text)
        else:
            width = max(map(len, fields))
            for name, value in fields.items():
                print(f"{name.replace('_', ' '):<{width}}  {field_text(value)}")

    def rows(self, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
        """Many results: a JSON array with an object a line, or a table."""
        if not self.json:
            table(columns, [[row[column] for column in columns] for row in rows])
            return
        print("[", end="")
        separator = "\n"
        for row in rows:
            print(separator + json_text(row), end="")
            separator = ",\n"
        print("\n]" if separator != "\n" else "]")

    def error(self, message: str, **details: Any) -> None:
        """Say on standard error what went wrong."""
        if self.json:
            print(json_text({"error": message, **details}), file=sys.stderr)
        else:
            print(f"synadb: {message}", file=sys.stderr)

    def progress(self) -> bool:
        """Whether long work should draw a bar: only for somebody who looks at it."""
        return sys.stderr.isatty()


def table(columns: Sequence[str], rows: list[list[Cell]]) -> None:
    """Print rows under their titles, numbers to the right, the rest to the left."""
    texts = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts)]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        for i in range(len(columns))
    ]
    for line in [list(columns), *texts]:
        cells = [
            f"{cell:>{width}}" if to_right else f"{cell:<{width}}"
            for cell, width, to_right in zip(line, widths, right)
        ]
        print("  ".join(cells).rstrip())


def cell_text(cell: Cell) -> str:
    if isinstance(cell, bool) or cell is None:
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else printable(str(cell))


def field_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def printable(text: str) -> str:
    """The text on one line, with control characters escaped so that no terminal obeys them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def value_text(value: Any) -> str:
    """A value for people: text as it is, bytes as hex, everything else as Python shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, np.ndarray):
        return np.array2string(value, separator=", ", threshold=64)
    return repr(value)


def json_text(value: Any) -> str:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(plain(value), ensure_ascii=not unicode, allow_nan=False)


def plain(value: Any) -> Any:
    """The value in JSON's types: NaN and infinities as text, bytes as hex, times in ISO 8601."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        # Lone surrogates have no UTF-8.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(plain(key)): plain(v) for key, v in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [plain(item) for item in value]
    if isinstance(value, np.datetime64):
        return time_text(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist()) if value.dtype.kind not in "MmV" else str(value)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    return str(value)


def time_text(when: np.datetime64) -> str:
    """A stored time in UTC, ISO 8601."""
    return f"{np.datetime_as_string(when, unit='us')}Z"
