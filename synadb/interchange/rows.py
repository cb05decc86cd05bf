"""Records on their way through an export or import, a few thousand at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from synadb._bar import Bar
from synadb._core.arrow import Rows, Selection

if TYPE_CHECKING:
    from synadb._core.kv import Database

ROWS = 4096
BYTES = 4 << 20
EVERY_S = 0.05

#: What a `progress` argument may be.
ProgressArgument = Union[bool, Callable[[int, int], object], None]
#: (key, type, time, expires, value): `Rows` says what they are.
Row = tuple[str, str, int, int, Any]


class Record(NamedTuple):
    """What an importer read: `type` None means that of the value. Times 0: now, never."""

    key: str
    type: str | None
    value: Any
    time: int = 0
    expires: int = 0


class Progress:
    """Tells a callable, at most every 50 ms, how far something is."""

    def __init__(self, progress: ProgressArgument) -> None:
        self._bar = Bar() if progress is True else None
        if progress is True:
            self._call: Callable[[int, int], object] | None = self._bar
        elif progress is None or progress is False:
            self._call = None
        elif callable(progress):
            self._call = progress
        else:
            raise TypeError(
                f"progress is True, False, None or a callable, not {type(progress).__name__}"
            )
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._call is None:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_S
            self._call(done, total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def chunks(
    db: Database, selection: Selection, progress: Progress, total: int
) -> Iterator[list[Row]]:
    """The records selected, in lists; packed values as their bytes."""
    done = 0
    rows = Rows(db, selection)
    try:
        while True:
            chunk = rows.take(ROWS, BYTES)
            if not chunk:
                return
            yield chunk
            done += len(chunk)
            progress(done, total)
    finally:
        rows.close()
