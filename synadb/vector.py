"""`VectorStore`: vectors under keys, searched for the nearest."""

from __future__ import annotations

import atexit
import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from synadb._core import vectors as _vectors
from synadb.errors import ArgumentError, ClosedError, Reason
from synadb.types import SearchResult

_METRICS = {
    "cosine": _vectors.COSINE,
    "euclidean": _vectors.EUCLIDEAN,
    "dot_product": _vectors.DOT_PRODUCT,
}
_BACKENDS = ("auto", "flat")

atexit.register(_vectors.close_all)


@dataclass(frozen=True)
class VectorStats:
    """Facts and figures about an open vector store.

    Attributes
    ----------
    rows : int
        Vectors in the store.
    dimensions : int
    metric : str
        ``"cosine"``, ``"euclidean"`` or ``"dot_product"``.
    memory_bytes : int
        Memory used by rows, keys and the key table.
    file_bytes : int
        The log's length.
    simd : str
        The distance kernels in use: ``"scalar"``, ``"avx2"``, ``"avx512"`` or ``"neon"``. The
        environment variable ``SYNADB_SIMD`` forces one; results are the same bits with all.
    """

    rows: int
    dimensions: int
    metric: str
    memory_bytes: int
    file_bytes: int
    simd: str


class VectorStore(_vectors.VectorHandle):
    """Vectors under keys in one file, with exact nearest-neighbour search.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log:
        ``synadb verify``, backups and histories work on it. Opening a file twice in one process
        gives two objects over one open store.
    dimensions : int
        Length of every vector, 1 to 65535.
    metric : {"cosine", "euclidean", "dot_product"}, default "cosine"
        What ``score`` means, see `search`.
    sync_on_write : bool, default True
        Every write is on disk when its call returns. False: a write survives the end of the
        process at once, and power loss after `flush` or `close`; hundreds of times faster.
    backend : {"auto", "flat"}, default "auto"
        How searches are answered. ``"flat"``, at present what ``"auto"`` means, scores every row.
    progress : bool or callable, optional
        Reading the rows at the start: True draws a bar on standard error, a callable gets the
        rows done and in all.

    Raises
    ------
    ValueError
        Dimensions out of range, an unknown metric or backend; or the file holds vectors of other
        dimensions or another metric. While it holds none, the latest opening decides.
    LockedError
        Another process writes to the file.

    Notes
    -----
    Rows are kept in memory (4 bytes a dimension) while the store is open, and in the file for
    good. Any method may be called from any thread; the GIL is released while the core works, and
    searches run beside inserts. After `os.fork` a child may search; its writes raise
    `ForkedError`.

    Examples
    --------
    >>> with VectorStore(tmp / "vectors.db", dimensions=3) as store:
    ...     store.insert("red", [1.0, 0.0, 0.0])
    ...     store.insert("green", [0.0, 1.0, 0.0])
    ...     for hit in store.search([0.9, 0.1, 0.0], k=2):
    ...         print(f"{hit.key}: {hit.score:.4f}")
    red: 0.0061
    green: 0.8896
    """

    COSINE: int = _vectors.COSINE
    EUCLIDEAN: int = _vectors.EUCLIDEAN
    DOT_PRODUCT: int = _vectors.DOT_PRODUCT

    def __init__(
        self,
        path: str | os.PathLike[str],
        dimensions: int,
        metric: str = "cosine",
        sync_on_write: bool = True,
        *,
        backend: str = "auto",
        progress: bool | Callable[[int, int], object] | None = None,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _vectors.MAX_DIMENSIONS:
            raise _refused(f"{dims} dimensions; expected 1 to {_vectors.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise _refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        if backend not in _BACKENDS:
            raise _refused(f"backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
        self._dimensions = dims
        self._metric = metric
        self._backend = backend
        self._open(path, dims, _METRICS[metric], bool(sync_on_write), progress)

    # --------------------------------------------------------------------------------- facts

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def metric_name(self) -> str:
        """``"cosine"``, ``"euclidean"`` or ``"dot_product"``."""
        return self._metric

    @property
    def backend(self) -> str:
        """What the store was opened with."""
        return self._backend

    @property
    def resolved_backend(self) -> str:
        """How searches are answered: ``"flat"``, by scoring every row."""
        return "flat"

    def stats(self) -> VectorStats:
        """Rows, memory and file size, and the kernels in use.

        Examples
        --------
        >>> store.stats().rows == len(store)
        True
        """
        dimensions, metric, rows, memory_bytes, file_bytes, simd = self._stats()
        return VectorStats(
            rows=rows,
            dimensions=dimensions,
            metric=list(_METRICS)[metric],
            memory_bytes=memory_bytes,
            file_bytes=file_bytes,
            simd=simd,
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} x {self._dimensions}, {self._metric}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def insert(self, key: str, vector: npt.ArrayLike) -> None:
        """Store `vector` under `key`, replacing the vector that was there.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        vector : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused; zero is legal and,
            under cosine, at distance 1 from everything.

        Raises
        ------
        ValueError
            Wrong length, or not finite. Nothing is written.

        Notes
        -----
        With ``sync_on_write=True`` the row is on disk when the call returns, and searchable.

        Examples
        --------
        >>> store.insert("doc1", np.ones(64))
        >>> "doc1" in store
        True
        """
        self._insert(key, self._row(vector, "vector"))

    def insert_batch(self, keys: Iterable[str], vectors: npt.ArrayLike) -> int:
        """Store many vectors in one commit: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `insert`. An error names the row.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Examples
        --------
        >>> store.insert_batch(["a", "b"], np.eye(2, 64))
        2
        >>> store.insert_batch(["b", "c"], np.eye(2, 64))
        1
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys is a sequence of str, not one {type(keys).__name__}")
        texts = list(keys)
        rows = self._rows(vectors, "vectors")
        if len(texts) != len(rows):
            raise _refused(f"{len(texts)} keys for {len(rows)} vectors")
        return self._insert_batch(texts, rows)

    def insert_batch_fast(self, keys: Iterable[str], vectors: npt.ArrayLike) -> int:
        """The same as `insert_batch`, under the name that older programs use for bulk loads."""
        return self.insert_batch(keys, vectors)

    def delete(self, key: str) -> None:
        """Remove the vector under `key`; a missing key is no error.

        Examples
        --------
        >>> store.insert("old", np.ones(64))
        >>> store.delete("old")
        >>> store.get("old") is None
        True
        """
        self._delete(key)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """The vector under `key`, a new float32 array, or None."""
        return self._get(key)

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in store``."""
        return self._contains(key)

    def __contains__(self, key: object) -> bool:
        return self._contains(key)

    def keys(self) -> list[str]:
        """The keys of all vectors, in the order in which they were last written."""
        return self._keys()

    def search(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        vectors: bool = True,
    ) -> list[SearchResult]:
        """Return the `k` stored vectors nearest to `query`, best first.

        Parameters
        ----------
        query : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused.
        k : int or None, default 10
            At least 1. Fewer results come back when there are fewer vectors; None: no limit.
        radius : float, optional
            Only vectors with ``score <= radius``.
        vectors : bool, default True
            False leaves ``vector`` of the results None, which saves copying.

        Returns
        -------
        list of SearchResult
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; `k` is less than 1.

        Notes
        -----
        Exact: every row is scored, at memory speed. Sums are taken in one fixed order, so scores
        are the same bits on every machine.

        Examples
        --------
        >>> store.insert("doc1", np.ones(64))
        >>> store.search(np.ones(64), k=1)[0].key
        'doc1'
        """
        row = self._row(query, "query")[None]
        return self._search(row, _limit(k), _radius(radius), vectors)[0]

    def search_batch(
        self,
        queries: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        vectors: bool = True,
    ) -> list[list[SearchResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        Faster than one search after the other, because the rows pass through the processor once
        for all queries; and all of them see the same rows.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, radius, vectors
            As in `search`.

        Examples
        --------
        >>> _ = store.insert_batch(["x", "y"], np.eye(2, 64))
        >>> [hits[0].key for hits in store.search_batch(np.eye(2, 64), k=1)]
        ['x', 'y']
        """
        rows = self._rows(queries, "queries")
        return self._search(rows, _limit(k), _radius(radius), vectors)

    # ----------------------------------------------------------------------------- arguments

    def _row(self, given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
        row = _float32(given, what).reshape(-1)
        if row.size != self._dimensions:
            raise _refused(
                f"{what} has {row.size} dimensions, this store has {self._dimensions}", self.path
            )
        return row

    def _rows(self, given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
        rows = _float32(given, what)
        if rows.size == 0 and rows.ndim < 2:
            rows = rows.reshape(0, self._dimensions)
        if rows.ndim != 2 or rows.shape[1] != self._dimensions:
            raise _refused(
                f"{what} has shape {rows.shape}, this store takes (any, {self._dimensions})",
                self.path,
            )
        return rows


def _refused(message: str, path: str | None = None) -> ArgumentError:
    return ArgumentError(0, message, reason=Reason.ARGUMENT, path=path)


def _float32(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    array: npt.NDArray[Any] = np.asarray(given)
    if array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected real numbers, not dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused by the core
        return np.ascontiguousarray(array, dtype=np.float32)


def _limit(k: int | None) -> int | None:
    if k is None:
        return None
    limit = operator.index(k)
    if limit < 1:
        raise _refused(f"k is {limit}; expected at least 1, or None for no limit")
    return min(limit, 2**63)


def _radius(radius: float | None) -> float | None:
    if radius is not None and math.isnan(radius):
        raise _refused("the radius is NaN")
    return radius


__all__ = ["SearchResult", "VectorStats", "VectorStore"]
