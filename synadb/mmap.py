"""`MmapVectorStore`: vectors in a mapped file, stored at memory speed and durable by checkpoint."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable, Union

import numpy as np
import numpy.typing as npt

from synadb._arrays import many_rows, one_row, refused, search_limit, search_radius
from synadb._core import mmap as _mmap
from synadb._hits import ListedRows
from synadb.errors import ClosedError
from synadb.types import CheckReport, SearchResult
from synadb.vector import SearchPlan

_METRICS = {
    "cosine": _mmap.COSINE,
    "euclidean": _mmap.EUCLIDEAN,
    "dot_product": _mmap.DOT_PRODUCT,
}

_PLANS = ("scan", "exact", "graph")

#: Whether a long call shows a bar (True) or tells a callable how far it is.
Progress = Union[bool, Callable[[int, int], object], None]

#: Results have one type in all stores; this is its name in older programs.
MmapSearchResult = SearchResult


@dataclass(frozen=True)
class MmapStats:
    """Facts and figures about an open mapped vector store.

    Attributes
    ----------
    rows, dead_rows : int
        Vectors in the store, and those replaced or deleted, whose room `compact` gives back.
    dimensions : int
    metric : str
        ``"cosine"``, ``"euclidean"`` or ``"dot_product"``.
    capacity : int
        Vectors that the file has room for before it grows.
    unsaved_rows : int
        Vectors stored since the last checkpoint.
    checkpoints, generation : int
        Checkpoints since the file was made or compacted; 1 more than compactions.
    memory_bytes : int
        Memory of the process, the index included; the mapped file is not counted.
    file_bytes : int
        The file's length, its room included.
    uuid : str
        The store's identity, 32 hexadecimal digits; compaction keeps it.
    simd : str
        The distance kernels in use: ``"scalar"``, or a name that begins with ``"avx2"``,
        ``"avx512"`` or ``"neon"`` (``"avx512vnni"``: with that extension).
    indexed_rows : int
        Vectors in the graph; 0 before `build_index`.
    """

    rows: int
    dead_rows: int
    dimensions: int
    metric: str
    capacity: int
    unsaved_rows: int
    checkpoints: int
    generation: int
    memory_bytes: int
    file_bytes: int
    uuid: str
    simd: str
    indexed_rows: int


class MmapVectorStore(_mmap.MmapHandle, ListedRows):
    """Vectors under keys in a memory-mapped file: for bulk loads and for more than fits in memory.

    Vectors are stored into the mapped file and searched there. They become durable together, by
    `checkpoint`, `flush` or `close`; what came after the last one may be lost in a crash, but
    only as a whole: the next opening finds the state of that checkpoint or of a later one. Use
    `VectorStore` where every single write has to be durable.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. Opening a file twice in one process
        gives two objects over one open store.
    dimensions : int
        Length of every vector, 1 to 65535.
    initial_capacity : int, default 10000
        How many vectors are expected: room for them, 64 MiB at most, is made when the first one
        comes. A hint; the file grows by itself.
    metric : {"cosine", "euclidean", "dot_product"}, default "cosine"
        What ``score`` means, see `search`.
    read_only : bool, default False
        Look at the last checkpoint, also while another process writes; see `refresh`.

    Raises
    ------
    ValueError
        Dimensions or capacity out of range, an unknown metric; or the file holds vectors of other
        dimensions or another metric. While it holds none, the latest opening decides.
    LockedError
        Another process writes to the file.
    WrongKindError, CorruptionError
        Not a file of this kind, or a damaged one. It was left untouched.

    Notes
    -----
    Room is made on disk before it is used: a full disk raises `SynaIOError` and changes nothing.
    Every block of the file has a checksum that is compared when it is used for the first time.
    Any method may be called from any thread; the GIL is released while the core works, and
    searches run beside inserts and checkpoints. After `os.fork` a child may search; its writes
    raise `ForkedError`.

    Examples
    --------
    >>> with MmapVectorStore(tmp / "vectors.mmap", dimensions=768) as store:
    ...     keys = [f"doc{i}" for i in range(1000)]
    ...     vectors = np.random.default_rng(7).normal(size=(1000, 768))
    ...     print(store.insert_batch(keys, vectors))
    ...     store.checkpoint()
    ...     print(store.search(vectors[42], k=1)[0].key)
    1000
    doc42
    """

    COSINE: int = _mmap.COSINE
    EUCLIDEAN: int = _mmap.EUCLIDEAN
    DOT_PRODUCT: int = _mmap.DOT_PRODUCT

    _has_metadata = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        dimensions: int = 768,
        initial_capacity: int = 10000,
        *,
        metric: str = "cosine",
        read_only: bool = False,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _mmap.MAX_DIMENSIONS:
            raise refused(f"{dims} dimensions; expected 1 to {_mmap.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        capacity = operator.index(initial_capacity)
        if not 0 <= capacity < 2**63:
            raise refused(f"an initial capacity of {capacity}; expected 0 or more vectors")
        self._dimensions = dims
        self._metric = metric
        self._open(path, dims, _METRICS[metric], capacity, bool(read_only))

    # --------------------------------------------------------------------------------- facts

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def metric(self) -> str:
        """``"cosine"``, ``"euclidean"`` or ``"dot_product"``."""
        return self._metric

    def stats(self) -> MmapStats:
        """Rows, room, memory and file size.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "facts.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     print(store.stats().rows, store.stats().unsaved_rows)
        1 1
        """
        facts = self._stats()
        facts["metric"] = list(_METRICS)[facts["metric"]]
        return MmapStats(**facts)

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} x {self._dimensions}, {self._metric}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> MmapVectorStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def insert(self, key: str, vector: npt.ArrayLike) -> None:
        """Store `vector` under `key`, replacing the vector that was there.

        Searches find it at once; it is durable after the next `checkpoint`.

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
            Wrong length, or not finite. Nothing is stored.
        SynaIOError
            The disk is full. Nothing is stored.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "one.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     print("a" in store)
        True
        """
        self._insert(key, one_row(vector, self._dimensions, "vector", self.path))

    def insert_batch(self, keys: Iterable[str], vectors: npt.ArrayLike) -> int:
        """Store many vectors: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `insert`. A contiguous float32 array is taken as it is. An error names the row.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Notes
        -----
        About as fast as copying the vectors in memory.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "many.mmap", 2) as store:
        ...     print(store.insert_batch(["a", "b"], np.eye(2)))
        ...     print(store.insert_batch(["b", "c"], np.eye(2)))
        2
        1
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys is a sequence of str, not one {type(keys).__name__}")
        texts = list(keys)
        rows = many_rows(vectors, self._dimensions, "vectors", self.path)
        if len(texts) != len(rows):
            raise refused(f"{len(texts)} keys for {len(rows)} vectors", self.path)
        return self._insert_batch(texts, rows)

    def delete(self, key: str) -> None:
        """Remove the vector under `key`; a missing key is no error.

        Its room is given back by `compact`.
        """
        self._delete(key)

    # -------------------------------------------------------------------------------- upkeep

    def checkpoint(self) -> None:
        """Make everything stored so far durable.

        When it returns, all of it survives the end of the process and power loss. Inserts and
        searches go on meanwhile. Nothing is written when nothing was stored since the last one.

        Raises
        ------
        SynaIOError
            The disk could not make it durable. After a failed sync the store takes no more
            vectors until it is opened again.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "saved.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     store.checkpoint()
        ...     print(store.stats().unsaved_rows)
        0
        """
        self._checkpoint()

    def flush(self) -> None:
        """The same as `checkpoint`."""
        self._checkpoint()

    def refresh(self) -> bool:
        """Of a store opened with ``read_only=True``: show the newest checkpoint.

        Returns
        -------
        bool
            Whether there was a newer one. Always False for the writer, who sees everything.
        """
        return self._refresh()

    def compact(self, *, progress: Progress = None) -> None:
        """Write the live vectors to a new file and put it in the place of the old one.

        Gives back the room of vectors that were replaced or deleted, and makes everything
        durable. Inserts and searches go on meanwhile; readers in other processes keep the old
        file until they `refresh`. Ctrl-C or a failure leaves the store as it was.

        Parameters
        ----------
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets the vectors done and in all.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "tidy.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     store.insert("a", [3, 4])
        ...     store.compact()
        ...     print(store.stats().dead_rows)
        0
        """
        self._compact(progress)

    def build_index(self, *, progress: Progress = None) -> None:
        """Build the index or bring it up to date: 8-bit codes of all vectors and a graph over them.

        Load first, build then. Inserts stay as fast as they were; what they bring is found exactly
        and at once, at a cost that grows with its number, and linked into the graph by this
        call, or some thousands at a time by `checkpoint`. Searches, inserts and deletes go on
        meanwhile. Ctrl-C or a failure leaves the index as it was.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `compact`.

        Notes
        -----
        Takes a byte a dimension and some 140 bytes a vector in memory, and the same again in
        ``<path>.hnsw``, where the index is saved; the vectors themselves stay in the mapped file.
        When the call returns everything is durable, as after `checkpoint`. The file is derived
        from the store and may be deleted; when it does not fit the store, searches score every
        vector until the next `build_index`.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "quick.mmap", 64) as store:
        ...     vectors = np.random.default_rng(1).normal(size=(2000, 64))
        ...     _ = store.insert_batch([str(i) for i in range(2000)], vectors)
        ...     store.build_index()
        ...     print(store.has_index, store.explain(vectors[5]).plan)
        True graph
        """
        self._build_index(progress)

    @property
    def has_index(self) -> bool:
        """Whether there is a graph, see `build_index`."""
        return self._has_index()

    def verify(self, *, progress: Progress = None) -> CheckReport:
        """Read the last checkpoint in the file and check every checksum and invariant.

        Nothing is written. Vectors stored since the last checkpoint are not looked at.

        Returns
        -------
        CheckReport
            ``ok`` when nothing is wrong; ``frames`` counts vectors.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "sound.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     store.checkpoint()
        ...     print(store.verify().ok)
        True
        """
        return _mmap.verify(self.path, progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str, *, view: bool = False) -> npt.NDArray[np.float32] | None:
        """The vector under `key`, or None.

        Parameters
        ----------
        key : str
        view : bool, default False
            False: a new array. True: a read-only array over the mapped file, without a copy. It
            never changes and stays valid as long as it is held, whatever becomes of the key and
            the store.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "view.mmap", 2) as store:
        ...     store.insert("a", [1, 2])
        ...     row = store.get("a", view=True)
        >>> row
        array([1., 2.], dtype=float32)
        """
        return self._view(key) if view else self._get(key)

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
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
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
        ef : int, optional
            Candidates to keep in the walk over the graph, 1 to 4096: more find more. 100 when
            neither this nor `recall` is given. It is what a typical query takes, see
            `VectorStore.search`.
        recall : float, optional
            Share of the true nearest to find, such as 0.95: the store keeps as many candidates as
            its own measurements say that it takes. 1.0 is exact.
        exact : bool, default False
            Find what scoring every vector would find.

        Returns
        -------
        list of SearchResult
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; `k` is less than 1; `ef` or `recall` is
            out of range.
        CorruptionError
            A block of the file does not match its checksum.

        Notes
        -----
        Exact before `build_index`, with `radius`, and with ``exact=True``; otherwise see `ef` and
        `recall`. Scores are those of the full vectors always, and sums are taken in one fixed
        order, so scores are the same bits on every machine.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "near.mmap", 2) as store:
        ...     _ = store.insert_batch(["x", "y"], np.eye(2))
        ...     print(store.search([1, 0.1], k=1)[0].key)
        x
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        return self._search(
            row, search_limit(k), search_radius(radius), vectors, _ef(ef), _recall(recall), exact
        )[0][0]

    def explain(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> SearchPlan:
        """Search as `search` does, and tell how instead of what was found.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "how.mmap", 2) as store:
        ...     store.insert("x", [1, 0])
        ...     print(store.explain([1, 0.1], k=1).plan)
        scan
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        plan, kept, expected, codes, scored, hops = self._search(
            row, search_limit(k), search_radius(radius), False, _ef(ef), _recall(recall), exact
        )[1]
        return SearchPlan(_PLANS[plan], kept, expected, codes, scored, hops)

    def search_batch(
        self,
        queries: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        vectors: bool = True,
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> list[list[SearchResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        Faster than one search after the other: exact searches pass through the vectors once for
        all queries, and walks over the graph take turns, so that one computes while another
        waits for memory. All of them see the same vectors.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, radius, vectors, ef, recall, exact
            As in `search`.

        Examples
        --------
        >>> with MmapVectorStore(tmp / "pairs.mmap", 2) as store:
        ...     _ = store.insert_batch(["x", "y"], np.eye(2))
        ...     print([hits[0].key for hits in store.search_batch(np.eye(2), k=1)])
        ['x', 'y']
        """
        rows = many_rows(queries, self._dimensions, "queries", self.path)
        return self._search(
            rows, search_limit(k), search_radius(radius), vectors, _ef(ef), _recall(recall), exact
        )[0]


def _ef(ef: int | None) -> int:
    if ef is None:
        return 0
    number = operator.index(ef)
    if not 1 <= number <= 4096:
        raise refused(f"ef is {number}; expected 1 to 4096")
    return number


def _recall(recall: float | None) -> float:
    if recall is None:
        return 0.0
    if not 0.0 < recall <= 1.0:
        raise refused(f"recall is {recall}; expected more than 0 and at most 1")
    return float(recall)


__all__ = ["MmapSearchResult", "MmapStats", "MmapVectorStore", "SearchPlan", "SearchResult"]
