"""The progress bar that ``progress=True`` draws on standard error."""

from __future__ import annotations

import sys
from typing import TextIO

_WIDTH = 30


class Bar:
    """A callable ``bar(done, total)`` that redraws one line; `close` ends the line.

    Examples
    --------
    >>> import io
    >>> out = io.StringIO()
    >>> bar = Bar(out)
    >>> bar(1, 2)
    >>> out.getvalue()
    '\\r[###############               ]  50%'
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._drawn = ""

    def __call__(self, done: int, total: int) -> None:
        if total:
            part = min(done / total, 1.0)
            marks = "#" * int(part * _WIDTH)
            line = f"[{marks:<{_WIDTH}}] {part:4.0%}"
        else:
            line = f"{done:,} done"
        if line != self._drawn:
            self._out.write("\r" + line)
            self._out.flush()
            self._drawn = line

    def close(self) -> None:
        """End the line, if anything was drawn."""
        if self._drawn:
            self._out.write("\n")
            self._out.flush()
            self._drawn = ""
