"""`SynaDB`, the key-value store with full history.

The typed puts and gets are methods of a class it inherits from, `synadb._core.kv.Database`;
exports, imports and tables those of another, `synadb.interchange.methods.Interchange`.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Literal,
    Union,
    overload,
)

import numpy as np
import numpy.typing as npt

from synadb._core import kv, upkeep
from synadb._core.cursor import Batch, Scan
from synadb._core.values import times_us
from synadb.blob import BlobReader, BlobWriter, open_blob
from synadb.errors import ArgumentError, ClosedError, IntegerRangeError, KeyNotFoundError, Reason
from synadb.interchange.methods import Interchange
from synadb.types import CheckReport, History, OpenReport, Stats

if TYPE_CHECKING:
    from synadb.types import Duration, When

Progress = Union[bool, Callable[[int, int], object], None]
_MISSING = object()

atexit.register(kv.close_all)


class SynaDB(Interchange):
    """An embedded database of typed values with full history, in one file.

    Every put appends; the newest record of a key is its value, all of them are its history. The
    object is also a mapping: ``db[key] = value`` keeps any plain Python or numpy value with its
    exact type.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. Opening a file twice in one process
        gives two objects over one open database.
    sync_on_write : bool, default True
        Every write is on disk when its call returns. False: a write survives the end of the
        process at once, and power loss after `flush` or `close`; hundreds of times faster.
    compression : bool, default True
        LZ4 for larger texts, bytes and packed values where it saves space.
    read_only : bool, default False
        Open beside a writer in another process, without a lock; `refresh` shows what is new. The
        file must exist.
    shared : bool, default False
        Several processes write: the file is locked for each commit instead of from open to close.
    timeout : float, default 5.0
        Seconds that a commit to a shared file may wait for its lock.
    must_exist : bool, default False
        A missing file is an error (`FileMissingError`) instead of being created.
    mmap : bool, default True
        False reads with system calls instead of a memory mapping: for files that something else
        may truncate.

    Raises
    ------
    InvalidPathError
        The path is empty, a folder, or not encodable.
    LockedError
        Another process writes to the file.
    WrongKindError, FormatVersionError
        Not a SynaDB file, or one of a later release. It is left untouched.
    CorruptionError
        There is damage in the durable part of the file; nothing was changed. Open it with
        ``read_only=True``, look at `verify`, or copy out what is readable with `salvage`.

    Notes
    -----
    Any method may be called from any thread; the GIL is released while the core works. Keys are
    str of 1 to 65534 bytes in UTF-8, without NUL. After `os.fork` a child may read; its writes
    raise `ForkedError`. A pickled SynaDB is its path and options: it opens at the first use, in
    another process read-only unless it is shared.

    Examples
    --------
    >>> with SynaDB(tmp / "sensors.db") as sensors:
    ...     for reading in (23.5, 24.1, 24.8):
    ...         _ = sensors.put_float("temperature", reading)
    ...     sensors["room"] = {"name": "lab", "floor": 2}
    ...     sensors.get_float("temperature"), sensors["room"]
    (24.8, {'name': 'lab', 'floor': 2})
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sync_on_write: bool = True,
        *,
        compression: bool = True,
        read_only: bool = False,
        shared: bool = False,
        timeout: float = 5.0,
        must_exist: bool = False,
        mmap: bool = True,
    ) -> None:
        self._open(
            path,
            {
                "sync_on_write": bool(sync_on_write),
                "compression": bool(compression),
                "read_only": bool(read_only),
                "shared": bool(shared),
                "timeout_ms": _milliseconds(timeout),
                "must_exist": bool(must_exist),
                "mmap": bool(mmap),
            },
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self.path:
            return f"<{name} never opened>"
        try:
            count = f"{len(self):,} keys"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"
        except Exception as error:
            count = f"unreadable: {error}"
        mode = "read-only" if self.read_only else "shared" if self._options["shared"] else "writer"
        return f"<{name} {self.path!r}, {count}, {mode}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.closed:
            raise ClosedError(
                -1, f"{self.path}: cannot pickle a closed database", reason=Reason.CLOSED
            )
        return _reopen, (type(self), self.path, self._options, os.getpid())

    # ------------------------------------------------------------------------------- numbers

    def append_floats(
        self, key: str, values: npt.ArrayLike, *, times: npt.ArrayLike | None = None
    ) -> int:
        """Append many floats to the history of `key`, atomically and with one sync.

        Parameters
        ----------
        key : str
        values : array_like of real numbers
            Converted to float64; of an array with several dimensions every element is appended,
            in C order. The last one becomes the key's value.
        times : array_like, optional
            The time of each value, not decreasing: datetime64 (UTC), floats (seconds since 1970)
            or integers (microseconds since 1970). Default: now, for all of them.

        Returns
        -------
        int
            How many were appended.

        Notes
        -----
        Stored as compressed column blocks that keep every bit: about 1 byte a value for sensor
        readings with few decimals.

        Examples
        --------
        >>> db.append_floats("load", [0.5, 0.75])
        2
        >>> db.get_history_tensor("load")
        array([0.5 , 0.75])
        """
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"append_floats takes real numbers, not dtype {array.dtype}")
        return self._append(key, _flat(array, np.float64), _times(times, array.size))

    def append_ints(
        self, key: str, values: npt.ArrayLike, *, times: npt.ArrayLike | None = None
    ) -> int:
        """Append many integers to the history of `key`; otherwise as `append_floats`.

        An integer outside 64 signed bits is an `IntegerRangeError` and nothing is written.
        """
        array = np.asarray(values)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.dtype.kind == "O" and all(type(item) is int for item in array.flat):
            raise IntegerRangeError(
                0, "an integer does not fit in 64 signed bits", reason=Reason.ARGUMENT
            )
        if array.dtype.kind not in "iub":
            raise TypeError(f"append_ints takes integers, not dtype {array.dtype}")
        if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
            raise IntegerRangeError(
                0, f"integer {array.max()} does not fit in 64 signed bits", reason=Reason.ARGUMENT
            )
        return self._append(key, _flat(array, np.int64), _times(times, array.size))

    def put_floats_batch(self, key: str, values: npt.ArrayLike) -> int:
        """Append many floats to the history of `key`: `append_floats` without times."""
        return self.append_floats(key, values)

    def put_numpy(
        self,
        key: str,
        array: npt.ArrayLike,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> int:
        """Append the raw bytes of an array, in C order, as a bytes value.

        Its dtype and shape are for the caller to remember (`get_numpy`); ``db[key] = array``
        remembers them. Options and result as in `put_float`.
        """
        data = np.asarray(array)
        if data.dtype.hasobject:
            raise TypeError(f"put_numpy cannot store dtype {data.dtype}: its elements are objects")
        return self.put_bytes(key, data.tobytes(), ttl=ttl, when=when)

    def get_numpy(
        self,
        key: str,
        dtype: npt.DTypeLike = np.float64,
        shape: int | tuple[int, ...] | None = None,
    ) -> npt.NDArray[Any] | None:
        """The newest value of `key`, bytes written by `put_numpy`, as an array of `dtype`.

        One dimension unless `shape` is given; writable, and the caller's own. None when the key
        is missing. A size that does not fit the dtype or the shape is a ValueError.
        """
        data = self.get_bytes(key)
        if data is None:
            return None
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"get_numpy cannot read dtype {kind}: its elements are objects")
        array = np.frombuffer(bytearray(data), dtype=kind).copy()
        return array if shape is None else array.reshape(shape)

    # ------------------------------------------------------------------------------- history

    def get_history(self, key: str) -> History:
        """Everything ever stored under `key`, with times, oldest first.

        Returns
        -------
        History
            ``values``: a float64 or int64 array when all values are of that type, else a list;
            ``timestamps`` and ``deletions``: arrays of datetime64[us], UTC. Empty when the key
            was never written. Reaches back to the last `compact` that kept no history.

        Examples
        --------
        >>> _ = db.put_int("visits", 1, when=1_700_000_000.0)
        >>> _ = db.put_int("visits", 2, when=1_700_000_060.0)
        >>> history = db.get_history("visits")
        >>> history.values, str(history.timestamps[0])
        (array([1, 2]), '2023-11-14T22:13:20.000000')
        """
        return History(*self._history(key))

    # --------------------------------------------------------------------- many keys at once

    def put_many(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> int:
        """Store many values, atomically and with one sync.

        Parameters
        ----------
        items : mapping or iterable of (key, value)
            Values of any type, as in `put`. They are collected in memory first: when one cannot
            be stored, or the iterable raises, nothing is written.
        ttl, when : optional
            For all of them, as in `put_float`.

        Returns
        -------
        int
            How many were stored.

        Examples
        --------
        >>> db.put_many({"a": 1, "b": [2, 3]})
        2
        >>> db.get_many(["a", "b", "absent"])
        [1, [2, 3], None]
        """
        batch = Batch(self)
        batch.update(items, ttl=ttl, when=when)
        count = len(batch)
        batch.commit()
        return count

    def batch(self) -> Batch:
        """A batch of writes that happen together or not at all.

        Use it as a context manager: leaving the block writes everything with one sync, leaving it
        by an exception writes nothing. Reads see the batch only after it is written. A batch
        belongs to one thread.

        Examples
        --------
        >>> with db.batch() as batch:
        ...     batch["balance/anna"] = 90
        ...     batch["balance/bert"] = 110
        ...     batch.put_text("note", "moved 10", ttl=86400)
        """
        return Batch(self)

    @overload
    def scan(
        self,
        prefix: str | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        keys_only: Literal[False] = False,
    ) -> Iterator[tuple[str, Any]]: ...

    @overload
    def scan(
        self,
        prefix: str | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        keys_only: Literal[True],
    ) -> Iterator[str]: ...

    @overload
    def scan(
        self,
        prefix: str | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        keys_only: bool,
    ) -> Iterator[tuple[str, Any]] | Iterator[str]: ...

    def scan(
        self,
        prefix: str | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        keys_only: bool = False,
    ) -> Iterator[tuple[str, Any]] | Iterator[str]:
        """Iterate over live keys in order, with their values.

        Parameters
        ----------
        prefix : str, optional
            Only keys that begin with it.
        start, end : str, optional
            Only keys from `start` on, and before `end`.
        keys_only : bool, default False
            Yield keys instead of (key, value) pairs, without reading values.

        Notes
        -----
        The order is that of the keys' UTF-8 bytes, which is that of their code points. Each key
        is seen once; one that is written or deleted during the scan may or may not be seen.

        Examples
        --------
        >>> _ = db.put_many({"user/1": "anna", "user/2": "bert", "zebra": 0})
        >>> list(db.scan("user/"))
        [('user/1', 'anna'), ('user/2', 'bert')]
        >>> list(db.scan(start="user/2", keys_only=True))
        ['user/2', 'zebra']
        """
        return Scan(self, prefix, start, end, keys_only)

    # --------------------------------------------------------------------------------- blobs

    @overload
    def open_blob(self, key: str, mode: Literal["rb"] = "rb") -> BlobReader: ...

    @overload
    def open_blob(self, key: str, mode: Literal["wb"]) -> BlobWriter: ...

    @overload
    def open_blob(self, key: str, mode: str) -> BlobReader | BlobWriter: ...

    def open_blob(self, key: str, mode: str = "rb") -> BlobReader | BlobWriter:
        """Open a value of any size as a binary file.

        Mode "wb" streams a new value in: it becomes the key's value, atomically, when the file is
        closed, and is forgotten when the ``with`` block is left by an exception. Mode "rb" reads
        a value piece by piece (text and packed values as their stored bytes); it is seekable, and
        works with `shutil.copyfileobj`, `io.BufferedReader` and the like. A missing key is a
        `KeyNotFoundError`. `get`, `get_bytes` and ``db[key]`` return a blob's content as bytes.

        Examples
        --------
        >>> with db.open_blob("video", "wb") as out:
        ...     for _ in range(3):
        ...         _ = out.write(b"frame")
        >>> with db.open_blob("video") as source:
        ...     _ = source.seek(5)
        ...     source.read(5), len(source)
        (b'frame', 15)
        """
        return open_blob(self, key, mode)

    # ------------------------------------------------------------------------- mapping rest

    def __iter__(self) -> Iterator[str]:
        return Scan(self, None, None, None, True)

    def values(self) -> ValuesView[Any]:
        """A view of the values in the order of their keys, read as it is iterated."""
        return _Values(self)

    def items(self) -> ItemsView[str, Any]:
        """A view of the (key, value) pairs in the order of the keys, read as it is iterated."""
        return _Items(self)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Delete `key` and return its value; `default`, or a KeyError, when it is missing."""
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            self.delete(key)
            return value
        if default is _MISSING:
            raise KeyNotFoundError(-5, f"{self.path}: no value under key {key!r}", path=self.path)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Delete the first key in order and return it with its value."""
        for key, value in self.scan():
            self.delete(key)
            return key, value
        raise KeyNotFoundError(-5, f"{self.path}: the database is empty", path=self.path)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of `key`; when it is missing, store `default` first."""
        value = self.get(key, _MISSING)
        if value is _MISSING:
            self[key] = value = default
        return value

    def update(
        self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any
    ) -> None:
        """Store many values, atomically: `put_many`, with keyword arguments as further keys."""
        batch = Batch(self)
        batch.update(items)
        batch.update(more)
        batch.commit()

    def clear(self) -> None:
        """Delete all keys, atomically. Histories stay until the next `compact`."""
        batch = Batch(self)
        for key in self.keys():
            batch.delete(key)
        batch.commit()

    # -------------------------------------------------------------------------------- upkeep

    def compact(
        self, keep_history: bool | Literal["live"] = False, *, progress: Progress = None
    ) -> None:
        """Rewrite the file without what is no longer needed, while readers and writers go on.

        Parameters
        ----------
        keep_history : {False, True, "live"}, default False
            False keeps the newest value of each live key and nothing else: histories shrink to one
            value, deletions and expired values go. True keeps everything, and folds numeric
            histories into compressed column blocks. ``"live"`` does the same for live keys only, as
            they are when it begins: of a key that is deleted, or whose newest value has expired,
            nothing stays, and a key that was deleted and put again keeps what was put since its
            last deletion. For files where whole things are deleted, such as runs of experiments.
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets ``(done, total)`` in bytes about
            every 50 ms, and stops the compaction by raising. Ctrl-C does the same.

        Notes
        -----
        Atomic: after a crash or a cancelled call the file is either the old one or the new one.
        It keeps its permissions and, where the system allows, its owner. Offsets returned by puts
        are no longer valid afterwards. When the file was moved away or deleted since it was opened,
        that is a `SynaIOError` and whatever has its name now stays as it is.

        Examples
        --------
        >>> _ = db.append_floats("kept", [1.0, 2.0, 3.0])
        >>> _ = db.put_text("mail", "to be forgotten")
        >>> _ = db.delete("mail")
        >>> db.compact(keep_history="live")
        >>> len(db.get_history("kept").values), len(db.get_history("mail").values)
        (3, 0)
        """
        upkeep.compact(self, keep_history, progress)

    def backup(self, path: str | os.PathLike[str], *, progress: Progress = None) -> None:
        """Write a consistent copy of the open database to `path`, which must not exist.

        The copy is complete and durable when the call returns, holds at least everything written
        before it began, and has the permissions of the database. `progress` as in `compact`.
        """
        upkeep.backup(self, path, progress)

    def verify(self, *, progress: Progress = None) -> CheckReport:
        """Check every checksum and invariant of the file without writing.

        Damage is no exception: look at ``report.ok`` and ``report.findings``.
        """
        self._check_open()
        return upkeep.verify(self.path, progress)

    def refresh(self) -> bool:
        """See what other processes have written since; True when there was something.

        For a read-only handle beside a writer, and for a shared one. Own writes need no refresh.
        """
        return upkeep.refresh(self)

    def stats(self) -> Stats:
        """Facts and figures about the file and this handle."""
        return upkeep.stats(self)

    @property
    def open_report(self) -> OpenReport:
        """What opening the file found: whether it was closed properly, what was cut."""
        return upkeep.open_report(self)


MutableMapping.register(SynaDB)


class _Values(ValuesView[Any]):
    _mapping: SynaDB

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.scan())


class _Items(ItemsView[str, Any]):
    _mapping: SynaDB

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self._mapping.scan()


def verify(path: str | os.PathLike[str], *, progress: Progress = None) -> CheckReport:
    """Check every checksum and invariant of the database file `path` without writing.

    Works beside a writer, in this process or another. Damage is no exception: look at
    ``report.ok`` and ``report.findings``. `progress` as in `SynaDB.compact`.
    """
    return upkeep.verify(path, progress)


def salvage(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    progress: Progress = None,
) -> CheckReport:
    """Copy everything readable of the damaged file `path` to the new file `to`.

    `path` stays as it is; `to` must not exist. The report lists what could not be read and how
    many records were saved. `progress` as in `SynaDB.compact`.
    """
    return upkeep.salvage(path, to, progress)


def _reopen(cls: Any, path: str, options: dict[str, Any], pid: int) -> SynaDB:
    # The process that pickled may still be the writer.
    if os.getpid() != pid and not options["shared"]:
        options = {**options, "read_only": True}
    db: SynaDB = cls.__new__(cls)
    db._open(path, options, later=True)
    return db


def _milliseconds(timeout: float) -> int:
    milliseconds = math.ceil(float(timeout) * 1000) if math.isfinite(timeout) else -1
    if milliseconds < 0:
        raise ArgumentError(
            0, f"timeout is {timeout!r}; expected seconds >= 0", reason=Reason.ARGUMENT
        )
    return min(max(milliseconds, 1), 2**32 - 1)


def _flat(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.ascontiguousarray(array.reshape(-1), dtype=dtype)


def _times(times: npt.ArrayLike | None, count: int) -> npt.NDArray[np.uint64] | None:
    if times is None:
        return None
    stamps = times_us(times)
    if stamps.size != count:
        raise ArgumentError(0, f"{stamps.size} times for {count} values", reason=Reason.ARGUMENT)
    return stamps
