"""The ancestor's files of vectors: ``.mmap``, ``.gwi`` and ``.cascade`` (`API` of the formats: the
head of each reader below). None of them has a checksum, and the counts in their headers are as old
as the last flush; so every length is compared with what the file has, and where the rows end is
compared with where the header says that they do. Their wells, trees and graphs are made anew.

A row that no store takes (a key of no use, NaN) is told of and skipped. Where a length leads out of
the file, or a key is no text, the place of the next row is unknown, and reading ends there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synadb._migrate.place import Place
from synadb._migrate.reading import Ends, Source, key_of
from synadb._migrate.report import Findings
from synadb._migrate.targets import open_target
from synadb._migrate.vectors import METRICS

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 10_000
_SAMPLE_ROWS = 1000  # what wells are placed by before the first insert

#: 0 magic, 4 version, 8 dimensions, 10 metric, 16 count, 24 write offset; rows from 64 on.
_MMAP = struct.Struct("<4sIHB5xQQ")
#: 8 dimensions, 10 branching, 12 levels, 13 metric, 16 count, 24 write offset, 32 attractors,
#: 40 clusters, 48 rows.
_GWI = struct.Struct("<4sIHHBB2xQQQQQ")
#: 8 dimensions, 10 metric, 11 seven numbers, 39 length of the hash tables, which follow.
_CASCADE = struct.Struct("<4sIHB7IQ")
_COUNT = struct.Struct("<Q")
_HEADER_BYTES = 64
_NEIGHBOUR_BYTES = 12

_KEY16 = struct.Struct("<H")
_KEY_AND_CLUSTER = struct.Struct("<HH")
_KEY32 = struct.Struct("<I")


@dataclass
class Table:
    """Where the rows of a file are."""

    dimensions: int
    metric: str
    count: int
    start: int
    ends: tuple[int, ...]  # where the rows may end, as the header has it; empty: it does not say
    key: struct.Struct  # what a row begins with; the key's length comes first
    neighbours: bool = False  # a row ends in a list of them


def read_mmap(source: Source) -> Table:
    _, _, dimensions, metric, count, end = source.header(_MMAP, "an .mmap file")
    return _table(source, dimensions, metric, count, _HEADER_BYTES, end, _KEY16)


def read_gwi(source: Source) -> Table:
    head = source.header(_GWI, "a .gwi file")
    dimensions, metric, count, end, start = head[2], head[5], head[6], head[7], head[10]
    if not _HEADER_BYTES <= start <= source.size:
        raise source.damaged(f"its rows begin at {start:,}; the file has {source.size:,} bytes")
    return _table(source, dimensions, metric, count, start, end, _KEY_AND_CLUSTER)


def read_cascade(source: Source) -> Table:
    head = source.header(_CASCADE, "a .cascade file")
    dimensions, metric, length = head[2], head[3], head[11]
    try:
        source.skip(length)
        (count,) = source.numbers(_COUNT)
    except Ends:
        raise source.damaged(
            f"its hash tables have {length:,} bytes, the file {source.size:,}"
        ) from None
    table = _table(source, dimensions, metric, count, source.at, 0, _KEY32)
    table.ends = (source.size,)
    table.neighbours = True
    return table


def _table(
    source: Source,
    dimensions: int,
    metric: int,
    count: int,
    start: int,
    end: int,
    key: struct.Struct,
) -> Table:
    if dimensions == 0:
        raise source.damaged("0 dimensions, expected 1 to 65535")
    if metric >= len(METRICS):
        raise source.damaged(f"metric {metric}, expected 0, 1 or 2")
    # Of the write offset nothing says whether it counts from the file's start or from the rows'.
    ends = (end, start + end)
    return Table(dimensions, METRICS[metric], count, start, ends, key)


# ------------------------------------------------------------------------------------------ reading


def batches(
    source: Source, table: Table, findings: Findings
) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """The good rows, in the order of the file, some at a time."""
    room = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * table.dimensions)))
    keys: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    for key, row in _rows(source, table, findings):
        keys.append(key)
        rows.append(row)
        if len(keys) == room:
            yield keys, np.stack(rows)
            keys, rows = [], []
    if keys:
        yield keys, np.stack(rows)


def _rows(
    source: Source, table: Table, findings: Findings
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    source.at = table.start
    for number in range(table.count):
        at = source.at
        try:
            raw, row = _row(source, table)
        except Ends:
            findings.lose(
                f"offset {at}", f"the file ends in row {number:,} of {table.count:,}",
                table.count - number,
            )  # fmt: skip
            return
        try:
            key = key_of(raw)
        except ValueError as error:
            findings.lose(f"offset {at}", f"row {number:,} has {error}")
            if b"\0" in raw or not raw:
                continue
            _give_up(source, table, findings, number + 1)
            return
        if not np.isfinite(row).all():
            findings.lose(repr(key), f"row {number:,} holds NaN or infinity")
            continue
        yield key, row
    _compare_end(source, table, findings)


def _row(source: Source, table: Table) -> tuple[bytes, npt.NDArray[np.float32]]:
    length = source.numbers(table.key)[0]
    raw = source.take(length)
    row = np.frombuffer(source.take(4 * table.dimensions), "<f4")
    if table.neighbours:
        (count,) = source.numbers(_KEY32)
        source.skip(_NEIGHBOUR_BYTES * count)
    return raw, row


def _give_up(source: Source, table: Table, findings: Findings, number: int) -> None:
    rest = table.count - number
    if rest > 0:
        findings.lose(
            f"offset {source.at}", f"{rest:,} rows behind it: where they begin is not known", rest
        )


def _compare_end(source: Source, table: Table, findings: Findings) -> None:
    """Rows that end elsewhere than the header says have been misread somewhere."""
    if source.at in table.ends:
        if not source.rest_is_zero():
            findings.note(
                f"there are bytes behind the {table.count:,} rows that the header counts; they "
                "were never flushed, and are left out"
            )
        return
    findings.lose(
        f"offset {source.at}",
        f"the rows end here, and the header says at {' or '.join(f'{e:,}' for e in table.ends)}: "
        "the file is damaged, and some rows may be wrong",
    )


# ------------------------------------------------------------------------------------------ writing


Reader = Callable[[Source], Table]


def migrate_rows(
    place: Place,
    findings: Findings,
    kind: str,
    read: Reader,
    metric: str | None,
    tell: Callable[[int, int], object],
) -> None:
    findings.kind = kind
    with Source(findings.old) as source:
        table = read(source)
        store = open_target(
            place, findings, kind, table.dimensions, metric or table.metric, table.count
        )
        with store:
            given = 0
            for keys, rows in batches(source, table, findings):
                tell(source.at, source.size)
                if kind == "gwi" and given == 0:
                    store.initialize(rows[:_SAMPLE_ROWS])
                store.insert_batch(keys, rows)
                given += len(keys)
            kept = len(store)
    findings.came["vectors"] += kept
    if kept < given:
        findings.note(f"{given - kept:,} rows were replaced by later ones with the same key")
