"""What calls return when one value is not enough: small frozen dataclasses."""

from __future__ import annotations

import datetime as _dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from synadb._core.arrow import BufferOfValues

#: A moment: a datetime (local time when it has no zone), a datetime64 (UTC), seconds since 1970
#: as a float, or microseconds since 1970 as an int.
When = Union[_dt.datetime, np.datetime64, float, int]
#: A length of time: seconds or a timedelta.
Duration = Union[float, int, _dt.timedelta]


@dataclass(frozen=True, eq=False)
class History(BufferOfValues):
    """Everything ever stored under a key, oldest first.

    Values of one numeric type go to other libraries without being copied: `numpy.asarray`,
    `memoryview`, ``torch.from_dlpack`` and the like read `values`. pandas, polars, DuckDB and
    pyarrow read the history as a table with the columns ``time`` and ``value``.

    Attributes
    ----------
    values : ndarray or list
        A float64 array when every value is a float, an int64 array when every one is an int, else
        a list of values with the types they were stored with. Empty: a float64 array.
    timestamps : ndarray of datetime64[us], UTC
        When each value was put, or the time that was given with it. As long as `values`.
    deletions : ndarray of datetime64[us], UTC
        When the key was deleted, if ever.

    Examples
    --------
    >>> _ = db.append_floats("history", [20.5, 21.0])
    >>> history = db.get_history("history")
    >>> history.values
    array([20.5, 21. ])
    >>> for when, value in history:
    ...     print(value)
    20.5
    21.0
    """

    values: npt.NDArray[np.float64] | npt.NDArray[np.int64] | list[Any]
    timestamps: npt.NDArray[np.datetime64]
    deletions: npt.NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.timestamps)

    def __iter__(self) -> Iterator[tuple[np.datetime64, Any]]:
        """Pairs of time and value, oldest first."""
        return iter(zip(self.timestamps, self.values))

    def _numbers(self) -> npt.NDArray[Any]:
        if isinstance(self.values, np.ndarray):
            return self.values
        raise BufferError("values of several types are no array")

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        values = np.asarray(self.values, dtype)
        if copy is False and values is not self.values:
            raise ValueError("the values cannot be shown as this array without a copy")
        return values.copy() if copy and values is self.values else values

    def __dlpack__(self, **options: Any) -> Any:
        return self._numbers().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self._numbers().__dlpack_device__()
        return int(kind), int(number)

    def __arrow_c_schema__(self) -> object:
        from synadb.interchange.tables import history_columns

        return history_columns(self).__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        from synadb.interchange.tables import history_columns

        return history_columns(self).__arrow_c_stream__(requested_schema)


class _ResultFields:
    """The places of a result's fields. An object without a dict is made in a third of the time, and
    searches make thousands."""

    __slots__ = ("key", "metadata", "score", "vector")


@dataclass(frozen=True)
class SearchResult(_ResultFields):
    """One row that a vector search found.

    Attributes
    ----------
    key : str
    score : float
        The distance from the query: smaller is nearer.
    vector : ndarray of float32 or None
        A copy of the stored vector, or None when the search was asked to leave it out. Results
        compare by key and score alone.
    metadata : dict or None
        What was stored with the vector, or None when nothing was or the search was asked to leave
        it out.
    """

    key: str
    score: float
    vector: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    metadata: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.score, self.vector, self.metadata)


# The constructor knows these defaults; as attributes of the class they would hide the places.
for _name in ("vector", "metadata"):
    delattr(SearchResult, _name)


@dataclass(frozen=True)
class HybridSearchResult:
    """One row that a search of a `HybridVectorStore` found.

    Attributes
    ----------
    key : str
    score : float
        The distance from the query: smaller is nearer.
    source : str
        The layer that the row is in: ``"hot"`` or ``"cold"``.
    vector : ndarray of float32 or None
        As of a `SearchResult`. Results compare by key, score and source alone.
    metadata : dict or None
        As of a `SearchResult`.
    """

    key: str
    score: float
    source: str
    vector: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    metadata: dict[str, Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class OpenReport:
    """What opening a database file found.

    Attributes
    ----------
    clean : bool
        The file had been closed properly; False after a crash, which is no error.
    created : bool
        The file is new.
    legacy : bool
        A file of the ancestor: without checksums, opened read-only.
    rebuilt : bool
        The key checkpoint was missing or stale, so the whole file was read.
    read_only : bool
        This handle cannot write.
    format : str
        Format version of the file.
    frames_scanned : int
        Records that were read and checked.
    cut_offset, cut_bytes : int or None, int
        Where a torn tail began, and how long it was; None and 0 when there was none.
    cut_saved : bool
        A copy of that tail is in the file ``<path>.cut``.
    """

    clean: bool
    created: bool
    legacy: bool
    rebuilt: bool
    read_only: bool
    format: str
    frames_scanned: int
    cut_offset: int | None
    cut_bytes: int
    cut_saved: bool


@dataclass(frozen=True)
class Stats:
    """Facts and figures about an open database.

    Attributes
    ----------
    keys : int
        Live keys.
    deleted_keys : int
        Keys whose newest record is a deletion.
    frames : int
        Records in the file: values, deletions, column blocks.
    file_bytes, allocated_bytes : int
        The log's length, and the file's size with the space reserved behind it.
    live_bytes : int
        What ``compact()`` would keep.
    index_bytes, history_bytes : int
        Memory used by the key index and by histories.
    commits, syncs : int
        Since this handle was opened.
    durable_bytes : int
        Up to where this handle has synced the log; a reader syncs nothing.
    generation : int
        1 for a new file, one more after every compaction.
    uuid : str
        The file's identity, 32 hexadecimal digits; compaction keeps it.
    format : str
        Format version of the file.
    """

    keys: int
    deleted_keys: int
    frames: int
    file_bytes: int
    allocated_bytes: int
    live_bytes: int
    index_bytes: int
    history_bytes: int
    commits: int
    syncs: int
    durable_bytes: int
    generation: int
    uuid: str
    format: str


@dataclass(frozen=True)
class Finding:
    """One thing that `verify` or `salvage` found: where in the file, and what."""

    offset: int
    text: str


@dataclass(frozen=True)
class CheckReport:
    """What `verify` or `salvage` found.

    Attributes
    ----------
    path : str
    frames, bytes : int
        Read and found good.
    damaged : int
        Places with damage.
    torn_bytes : int
        An unfinished tail, which is no damage: a writer is at work or has crashed.
    records_saved : int
        Records that `salvage` copied; 0 from `verify`.
    findings : tuple of Finding
        Every place with its explanation.
    """

    path: str
    frames: int
    bytes: int
    damaged: int
    torn_bytes: int
    records_saved: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no damage was found."""
        return self.damaged == 0


__all__ = [
    "CheckReport",
    "Duration",
    "Finding",
    "History",
    "OpenReport",
    "SearchResult",
    "Stats",
    "When",
]
