"""Tables for readers of Arrow: pandas, polars, DuckDB, pyarrow. Each offers the Arrow PyCapsule
interface (``__arrow_c_stream__``, ``__arrow_c_schema__``), so that none of these is needed here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synadb._core.arrow import Column, Columns, Selection, pack
from synadb.errors import ArgumentError, Reason

if TYPE_CHECKING:
    from synadb.db import SynaDB
    from synadb.types import History


class Table:
    """Records of a database as an Arrow table that is read when somebody asks for it:
    `SynaDB.table`.

    Holds no rows. Each reader gets a stream of its own, which reads the database batch by batch;
    what is written meanwhile may be seen or not. A stream ends with an error when its database is
    closed."""

    def __init__(self, db: SynaDB, selection: Selection) -> None:
        self._db = db
        self._selection = selection

    def __repr__(self) -> str:
        s = self._selection
        which = repr(s.key) if s.key is not None else repr(s.pattern or "*")
        what = f"{s.type or 'any type'}, {'history' if s.history else 'newest'}"
        return f"<Table of {self._db.path!r}: {which}, {what}; {', '.join(s.columns)}>"

    def __arrow_c_schema__(self) -> object:
        return self._selection.schema()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._selection.stream(self._db)


# ------------------------------------------------------------------------- columns over arrays


def numbers(name: str, values: npt.NDArray[Any]) -> Column:
    """A column over float64, int64, uint64, float32 or datetime64[us] numbers, without copying."""
    formats = {"<f8": "g", "<f4": "f", "<i8": "l", "<u8": "L", "<M8[us]": "tsu:UTC"}
    array = np.ascontiguousarray(values)
    format = formats[array.dtype.newbyteorder("<").str]
    return Column(name, format, len(array), (None, array.view(np.uint8)))


def bits(valid: Iterable[bool]) -> tuple[npt.NDArray[np.uint8], int]:
    """A bitmap of validity, and how many are not valid."""
    array = np.fromiter(valid, dtype=bool)
    return np.packbits(array, bitorder="little"), int(array.size - array.sum())


def _bytes_column(name: str, format: str, items: Sequence[bytes | None]) -> Column:
    lengths = np.fromiter((len(item or b"") for item in items), np.int64, len(items))
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] >= 1 << 31:
        raise ArgumentError(
            0, f"column {name!r} holds {offsets[-1]} bytes; expected less than 2 GiB",
            reason=Reason.ARGUMENT,
        )  # fmt: skip
    valid, nulls = bits(item is not None for item in items)
    data = b"".join(item or b"" for item in items)
    buffers = (valid if nulls else None, offsets.astype(np.int32).view(np.uint8), data)
    return Column(name, format, len(items), buffers, (), nulls)


def texts(name: str, items: Sequence[str | None]) -> Column:
    """A column of texts; None is null. A lone surrogate becomes a question mark."""
    encoded = [None if item is None else item.encode("utf-8", "replace") for item in items]
    return _bytes_column(name, "u", encoded)


def blobs(name: str, items: Sequence[bytes | None]) -> Column:
    """A column of bytes; None is null."""
    return _bytes_column(name, "z", items)


def optional_numbers(name: str, dtype: str, items: Sequence[Any]) -> Column:
    """A column of numbers; None is null."""
    valid, nulls = bits(item is not None for item in items)
    array = np.array([0 if item is None else item for item in items], dtype=dtype)
    formats = {"f8": "g", "i8": "l", "M8[us]": "tsu:UTC"}
    buffers = (valid if nulls else None, array.view(np.uint8))
    return Column(name, formats[dtype], len(items), buffers, (), nulls)


def vectors(name: str, rows: Sequence[npt.NDArray[np.float32] | None]) -> Column:
    """A column of float32 vectors of one length; None is null."""
    found = [row for row in rows if row is not None]
    dims = len(found[0]) if found else 1
    valid, nulls = bits(row is not None for row in rows)
    data = np.zeros((len(rows), dims), np.float32)
    for i, row in enumerate(rows):
        if row is not None:
            data[i] = row
    items = Column("item", "f", data.size, (None, data.reshape(-1).view(np.uint8)))
    return Column(name, f"+w:{dims}", len(rows), (valid if nulls else None,), (items,), nulls)


def text_lists(name: str, rows: Sequence[Sequence[str]]) -> Column:
    """A column of lists of texts."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=offsets[1:])
    items = texts("item", [item for row in rows for item in row])
    return Column(name, "+l", len(rows), (None, offsets.view(np.uint8)), (items,))


# ---------------------------------------------------------------------------------- the tables


def history_columns(history: History) -> Columns:
    """A history as the columns ``time`` and ``value``.

    The values are float64 or int64, over the arrays of the history; of several types, bytes: the
    values as `synadb` packs them."""
    values = history.values
    if isinstance(values, np.ndarray):
        value = numbers("value", values)
    elif all(isinstance(item, str) for item in values):
        value = texts("value", values)
    elif all(isinstance(item, bytes) for item in values):
        value = blobs("value", values)
    else:
        value = blobs("packed", [pack(item) for item in values])
    return Columns([numbers("time", history.timestamps), value])


def hits_table(results: Iterable[Any]) -> Columns:
    """What a search found as an Arrow table.

    Takes the results of any search of this package. The columns are ``key`` and ``score``,
    ``source`` where the results have one, and ``vector``, a fixed-size list of float32, where they
    hold vectors.

    Examples
    --------
    >>> from synadb import SearchResult
    >>> from synadb.interchange import hits_table
    >>> hits = [SearchResult("a", 0.1), SearchResult("b", 0.4)]
    >>> [column.name for column in hits_table(hits).columns]
    ['key', 'score']
    """
    found = list(results)
    columns = [
        texts("key", [hit.key for hit in found]),
        numbers("score", np.array([hit.score for hit in found], dtype=np.float64)),
    ]
    if found and hasattr(found[0], "source"):
        columns.append(texts("source", [str(hit.source) for hit in found]))
    held = [getattr(hit, "vector", None) for hit in found]
    if any(vector is not None for vector in held):
        columns.append(vectors("vector", held))
    return Columns(columns)


def runs_table(runs: Iterable[Any]) -> Columns:
    """Experiment runs as an Arrow table, a row each.

    The columns are ``id``, ``experiment``, ``status``, ``started_at`` and ``ended_at`` (timestamps,
    null while it runs), ``tags`` (lists of texts) and a column ``params.<name>`` of texts for each
    parameter that any of the runs has.

    Examples
    --------
    >>> from synadb import Experiment
    >>> from synadb.interchange import runs_table
    >>> with Experiment("mnist", tmp / "runs.db") as mnist:
    ...     with mnist.start_run(tags=["base"]) as run:
    ...         run.log_param("lr", 0.1)
    ...     table = runs_table(mnist.list_runs())
    >>> [column.name for column in table.columns][-2:]
    ['tags', 'params.lr']
    """
    found = list(runs)
    names = sorted({name for run in found for name in run.params})
    columns = [
        texts("id", [run.id for run in found]),
        texts("experiment", [run.experiment_name for run in found]),
        texts("status", [_status(run.status) for run in found]),
        optional_numbers("started_at", "M8[us]", [_moment(run.started_at) for run in found]),
        optional_numbers("ended_at", "M8[us]", [_moment(run.ended_at) for run in found]),
        text_lists("tags", [list(run.tags) for run in found]),
    ]
    columns += [texts(f"params.{name}", [run.params.get(name) for run in found]) for name in names]
    return Columns(columns)


def _status(status: Any) -> str:
    return str(getattr(status, "value", status))


def _moment(when: Any) -> Any:
    """A run's time as datetime64; runs show theirs as datetimes or seconds."""
    if when is None:
        return None
    if isinstance(when, (int, float)):
        return np.datetime64(round(when * 1e6), "us")
    return np.datetime64(when.replace(tzinfo=None), "us")
