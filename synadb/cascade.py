"""`CascadeIndex`: vectors found in three stages, at the recall you name."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np
import numpy.typing as npt

from synadb._arrays import many_rows, one_row, refused, search_limit, search_radius
from synadb._core import cascade as _cascade
from synadb._hits import ListedRows
from synadb.errors import ClosedError
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts
from synadb.types import CheckReport, SearchResult

_METRICS = {
    "cosine": _cascade.COSINE,
    "euclidean": _cascade.EUCLIDEAN,
    "dot_product": _cascade.DOT_PRODUCT,
}

#: Whether a long call shows a bar (True) or tells a callable how far it is.
Progress = Union[bool, Callable[[int, int], object], None]

#: Results have one type in all stores; this is its name in older programs.
CascadeSearchResult = SearchResult


@dataclass(frozen=True)
class CascadeStats:
    """Facts and figures about an open cascade index.

    Attributes
    ----------
    rows, dead_rows : int
        Vectors in the index, and those replaced or deleted, whose room `CascadeIndex.compact` gives
        back.
    indexed_rows : int
        Rows that are linked, dead ones included; each search scores the others. 0 up to 2,048 rows.
    unsaved_rows : int
        Vectors stored since the last `CascadeIndex.flush`.
    dimensions : int
    metric : str
        ``"cosine"``, ``"euclidean"`` or ``"dot_product"``.
    num_hyperplanes, bucket_capacity, nprobe : int
        In force.
    recall : float
        That searches aim at unless they name one.
    hash_bits, buckets : int
        In use, as many as there are rows for.
    generation : int
        1 more than compactions.
    index_bytes : int
        Of codes, buckets and graph, beside the vectors themselves.
    memory_bytes : int
        Memory of the process; mapped files are not counted.
    file_bytes : int
        The length of the file with the vectors, its room included.
    uuid : str
        The index's identity, 32 hexadecimal digits; compaction keeps it.
    simd : str
        The distance kernels in use, see `synadb.MmapVectorStore`.
    """

    rows: int
    dead_rows: int
    indexed_rows: int
    unsaved_rows: int
    dimensions: int
    metric: str
    num_hyperplanes: int
    bucket_capacity: int
    nprobe: int
    recall: float
    hash_bits: int
    buckets: int
    generation: int
    index_bytes: int
    memory_bytes: int
    file_bytes: int
    uuid: str
    simd: str


@dataclass(frozen=True)
class CascadePlan:
    """How a search was answered, see `CascadeIndex.explain`.

    Attributes
    ----------
    plan : str
        ``"scan"``: every matching vector was scored. ``"exact"``: all 8-bit codes were compared,
        and the vectors that could matter scored, with the same result. ``"cascade"``: hash, buckets
        and graph, and rows that are not linked yet exactly.
    ef_search : int
        Candidates that the walk kept; 0 without one.
    recall : float
        Share of the true nearest that is to be expected, as measured on this index: 1.0 is exact,
        0.0 not measured.
    buckets, codes, rows_scored, hops : int
        The work: buckets whose rows were ranked, 8-bit codes compared, vectors scored in full, rows
        whose links were followed.
    matches, rows : int
        Vectors that match the filter, and vectors in the index.
    """

    plan: str
    ef_search: int
    recall: float
    buckets: int
    codes: int
    rows_scored: int
    hops: int
    matches: int
    rows: int


class CascadeIndex(_cascade.CascadeHandle, ListedRows):
    """Vectors under keys, found through a hash, a tree of buckets and a sparse graph.

    Each stage narrows down what the next one looks at: sign bits along random hyperplanes choose a
    cell and those beside it; in each cell a tree of buckets, which split when they are full, leads
    to a few hundred rows that are ranked by one bit a dimension; from the best of these a walk over
    sixteen links a row finds the nearest by 8-bit codes, and the last candidates are scored from
    the full vectors. Nothing has to be trained: a vector is found as soon as `insert` returns. How
    wide the walk has to be for a recall is measured by the index on its own rows.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. The index itself is saved beside it, in
        ``<path>.index``, which is derived and may be deleted. Opening a file twice in one process
        gives two objects over one open index.
    dimensions : int
        Length of every vector, 1 to 65535.
    preset : {"large", "small", "high_recall", "fast_search"}, default "large"
        The recall that searches aim at: 0.95, 0.95, 0.99, 0.90; what was measured counts for two
        standard errors less.
    num_hyperplanes : int, default 16
        Hash bits at most, 1 to 64; as many are used as there are rows for.
    bucket_capacity : int, default 128
        Rows of a bucket, 16 to 4096. Other values than those that the index was saved with build it
        anew.
    nprobe : int, optional
        Buckets that a search looks at, 1 to 256; default 4, of "high_recall" 8, of "fast_search" 2.
    metric : {"cosine", "euclidean", "dot_product"}, default "cosine"
        What ``score`` means, see `search`.
    recall : float, optional
        The recall that searches aim at, in place of the preset's.
    initial_capacity : int, default 0
        How many vectors are expected; a hint.
    threads : int, optional
        Of a building; default: the processors there are.
    read_only : bool, default False
        Look at the last `flush`, also while another process writes; see `refresh`.
    progress : bool or callable, optional
        True draws a bar on standard error while an index that was not saved is built; a callable
        gets the rows done and in all.

    Raises
    ------
    ValueError
        A number out of range, an unknown preset or metric; or the file holds vectors of other
        dimensions or another metric. While it holds none, the latest opening decides.
    LockedError
        Another process writes to the file.
    WrongKindError, CorruptionError
        Not a file of this kind, or a damaged one. It was left untouched.

    Notes
    -----
    Vectors become durable together, by `flush`, `save` or `close`: what came after the last one may
    be lost in a crash, but only as a whole. Up to 2,048 vectors every search is exact. Then the
    index is built; vectors that come one by one are linked as they come, many at once are built
    into a new index. Any method may be called from any thread; the GIL is released while the core
    works, and searches run beside inserts. After `os.fork` a child may search; its writes raise
    `ForkedError`.

    Examples
    --------
    >>> with CascadeIndex(tmp / "vectors.cascade", dimensions=768, preset="large") as index:
    ...     keys = [f"doc_{i}" for i in range(500)]
    ...     vectors = np.random.default_rng(7).normal(size=(500, 768))
    ...     print(index.insert_batch(keys, vectors))
    ...     index.save()
    ...     print(index.search(vectors[42], k=1)[0].key)
    500
    doc_42
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dimensions: int = 768,
        preset: str = "large",
        *,
        num_hyperplanes: int | None = None,
        bucket_capacity: int | None = None,
        nprobe: int | None = None,
        metric: str = "cosine",
        recall: float | None = None,
        initial_capacity: int = 0,
        threads: int | None = None,
        read_only: bool = False,
        progress: Progress = None,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _cascade.MAX_DIMENSIONS:
            raise refused(f"{dims} dimensions; expected 1 to {_cascade.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        if preset not in _cascade.PRESETS:
            raise refused(f"preset {preset!r}; expected one of {', '.join(_cascade.PRESETS)}")
        capacity = operator.index(initial_capacity)
        if not 0 <= capacity < 2**63:
            raise refused(f"an initial capacity of {capacity}; expected 0 or more vectors")
        self._dimensions = dims
        self._metric = metric
        self._preset = preset
        self._open(
            path,
            dims,
            _METRICS[metric],
            _cascade.PRESETS[preset],
            _number(num_hyperplanes, "num_hyperplanes", 64),
            _number(bucket_capacity, "bucket_capacity", 4096, 16),
            _number(nprobe, "nprobe", 256),
            _share(recall),
            _number(threads, "threads", 4096),
            capacity,
            bool(read_only),
            progress,
        )

    # --------------------------------------------------------------------------------- facts

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        return self._dimensions

    @property
    def metric(self) -> str:
        """``"cosine"``, ``"euclidean"`` or ``"dot_product"``."""
        return self._metric

    @property
    def preset(self) -> str:
        """The preset that was asked for."""
        return self._preset

    def stats(self) -> CascadeStats:
        """Rows, buckets, memory and file size.

        Examples
        --------
        >>> with CascadeIndex(tmp / "facts.cascade", 2) as index:
        ...     index.insert("a", [1, 2])
        ...     print(index.stats().rows, index.stats().unsaved_rows)
        1 1
        """
        facts = self._stats()
        facts["metric"] = list(_METRICS)[facts["metric"]]
        facts["recall"] = round(facts["recall"], 6)
        return CascadeStats(**facts)

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} x {self._dimensions}, {self._metric}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> CascadeIndex:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def insert(
        self, key: str, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Store `vector` under `key`, replacing the vector and the metadata that were there.

        Searches find it at once; it is durable after the next `flush`.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        vector : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused; zero is legal and,
            under cosine, at distance 1 from everything.
        metadata : mapping, optional
            What JSON can hold; `search` filters by it.

        Raises
        ------
        ValueError
            Wrong length, or not finite. Nothing is stored.
        SynaIOError
            The disk is full. Nothing is stored.

        Examples
        --------
        >>> with CascadeIndex(tmp / "one.cascade", 2) as index:
        ...     index.insert("a", [1, 2], {"lang": "en"})
        ...     print("a" in index, index.get_metadata("a"))
        True {'lang': 'en'}
        """
        row = one_row(vector, self._dimensions, "vector", self.path)
        if metadata is None:
            self._insert(key, row)
        else:
            self._insert_batch([key], row[None], [metadata_text(metadata)], None)

    def insert_batch(
        self,
        keys: Iterable[str],
        vectors: npt.ArrayLike,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        progress: Progress = None,
    ) -> int:
        """Store many vectors: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `insert`. A contiguous float32 array is taken as it is. An error names the row.
        metadata : iterable of mappings or None, optional
            As many as keys.
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets the rows linked and in all. Ctrl-C
            stops the linking: the vectors are stored and found all the same, and the next call
            goes on.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Examples
        --------
        >>> with CascadeIndex(tmp / "many.cascade", 2) as index:
        ...     print(index.insert_batch(["a", "b"], np.eye(2)))
        ...     print(index.insert_batch(["b", "c"], np.eye(2), [{"n": 1}, None]))
        2
        1
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys is a sequence of str, not one {type(keys).__name__}")
        names = list(keys)
        rows = many_rows(vectors, self._dimensions, "vectors", self.path)
        if len(names) != len(rows):
            raise refused(f"{len(names)} keys for {len(rows)} vectors", self.path)
        return self._insert_batch(names, rows, metadata_texts(metadata, len(rows)), progress)

    def update_metadata(
        self, key: str, metadata: Mapping[str, Any] | None, *, replace: bool = False
    ) -> bool:
        """Change what is stored with the vector under `key`; the vector stays.

        The row is stored anew with its vector, so it is durable as an insert is, and its old room
        is given back by `compact`.

        Parameters
        ----------
        key : str
        metadata : mapping or None
            Its fields are added to those that are there, or take their place as a whole. None takes
            all metadata away.
        replace : bool, default False
            True: the row has this metadata only.

        Returns
        -------
        bool
            Whether there is such a row.

        Raises
        ------
        ValueError
            The metadata are no mapping of names to what JSON has; nothing is changed.

        Examples
        --------
        >>> with CascadeIndex(tmp / "notes.cascade", 2) as index:
        ...     index.insert("a", [0.0, 1.0], {"lang": "en", "year": 2023})
        ...     print(index.update_metadata("a", {"year": 2024}), index.get_metadata("a"))
        True {'lang': 'en', 'year': 2024}
        """
        return self._update_metadata(key, metadata_text(metadata), bool(replace))

    def delete(self, key: str) -> bool:
        """Remove the vector under `key`; a missing key is no error.

        Returns
        -------
        bool
            Whether it was there. Its room is given back by `compact`.
        """
        return self._delete(key)

    # -------------------------------------------------------------------------------- upkeep

    def flush(self) -> None:
        """Make everything stored so far durable.

        When it returns, all of it survives the end of the process and power loss. The index is
        saved with it when a quarter of its rows is new; what is not saved is linked anew on
        opening.

        Raises
        ------
        SynaIOError
            The disk could not make it durable. After a failed sync the index takes no more
            vectors until it is opened again.
        """
        self._flush()

    def save(self) -> None:
        """Make everything stored so far durable, and save the index, so that it opens quickly.

        Inserts wait while the index is written, searches do not. `close` does the same.

        Raises
        ------
        SynaIOError
            As in `flush`; or the index could not be written, and the vectors are durable.

        Examples
        --------
        >>> with CascadeIndex(tmp / "saved.cascade", 2) as index:
        ...     index.insert("a", [1, 2])
        ...     index.save()
        ...     print(index.stats().unsaved_rows)
        0
        """
        self._save()

    def refresh(self) -> bool:
        """Of an index opened with ``read_only=True``: show the newest flush.

        Returns
        -------
        bool
            Whether there was a newer one. Always False for the writer, who sees everything.
        """
        return self._refresh()

    def compact(self, *, progress: Progress = None) -> None:
        """Write the live vectors to a new file in the place of the old one, and build the index
        anew.

        Gives back the room of vectors that were replaced or deleted, and makes everything durable.
        Readers in other processes keep the old file until they `refresh`. Ctrl-C or a failure
        leaves the vectors as they were.

        Parameters
        ----------
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets the rows done and in all.

        Examples
        --------
        >>> with CascadeIndex(tmp / "tidy.cascade", 2) as index:
        ...     index.insert("a", [1, 2])
        ...     index.insert("a", [3, 4])
        ...     index.compact()
        ...     print(index.stats().dead_rows)
        0
        """
        self._compact(progress)

    def verify(self, *, progress: Progress = None) -> CheckReport:
        """Read the last flush in the file and check every checksum and invariant.

        Nothing is written. Vectors stored since the last flush are not looked at.

        Returns
        -------
        CheckReport
            ``ok`` when nothing is wrong; ``frames`` counts vectors.
        """
        return _cascade.verify(self.path, progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """A copy of the vector under `key`, or None.

        Examples
        --------
        >>> with CascadeIndex(tmp / "get.cascade", 2) as index:
        ...     index.insert("a", [1, 2])
        ...     print(index.get("a"), index.get("b"))
        [1. 2.] None
        """
        return self._get(key)

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """The metadata of the vector under `key`; None when it has none, or there is no vector."""
        return metadata_of(self._metadata(key))

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in index``."""
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
        filter: Mapping[str, Any] | None = None,
        recall: float | None = None,
        exact: bool = False,
        num_probes: int | None = None,
        ef_search: int | None = None,
        metadata: bool = True,
    ) -> list[SearchResult]:
        """Return the `k` stored vectors nearest to `query`, best first.

        Parameters
        ----------
        query : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused.
        k : int or None, default 10
            At least 1. Fewer results come back when there are fewer vectors; None: no limit.
        radius : float, optional
            Only vectors with ``score <= radius``; always exact.
        vectors : bool, default True
            False leaves ``vector`` of the results None, which saves copying.
        filter : mapping, optional
            Only vectors whose metadata match: ``{"lang": "en"}``, ``{"year": {"$gte": 2020}}``,
            ``$and $or $not $in $nin $exists $contains``. As many results as match, up to `k`.
        recall : float, optional
            Share of the true nearest to aim at, in place of the preset's; 1 is exact.
        exact : bool, default False
            Find what scoring every vector would find.
        num_probes : int, optional
            Buckets to look at, up to 256.
        ef_search : int, optional
            Candidates that the walk keeps, up to 8192, in place of what the recall asks for.
        metadata : bool, default True
            False leaves ``metadata`` of the results None, which saves reading it.

        Returns
        -------
        list of SearchResult
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; `k`, `recall`, `num_probes` or
            `ef_search` is out of range; the filter is none.
        CorruptionError
            A block of the file does not match its checksum.

        Notes
        -----
        Where a walk would cost more than looking at every code, as on data without any structure,
        every code is looked at, and the result is exact. Scores are those of the full vectors
        always, and sums are taken in one fixed order, so they are the same bits on every machine.

        Examples
        --------
        >>> with CascadeIndex(tmp / "near.cascade", 2) as index:
        ...     _ = index.insert_batch(["x", "y"], np.eye(2), [{"n": 1}, {"n": 2}])
        ...     print(index.search([1, 0.1], k=1)[0].key)
        ...     print(index.search([1, 0.1], k=1, filter={"n": {"$gt": 1}})[0].key)
        x
        y
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        return self._ask(
            row, k, radius, vectors, filter, recall, exact, num_probes, ef_search, metadata
        )[0][0]

    def search_batch(
        self,
        queries: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        vectors: bool = True,
        filter: Mapping[str, Any] | None = None,
        recall: float | None = None,
        exact: bool = False,
        num_probes: int | None = None,
        ef_search: int | None = None,
        metadata: bool = True,
    ) -> list[list[SearchResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        All of them see the same vectors. Exact searches are several times faster this way, because
        the codes pass through the processor once for all queries.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, radius, vectors, filter, recall, exact, num_probes, ef_search, metadata
            As in `search`.

        Examples
        --------
        >>> with CascadeIndex(tmp / "pairs.cascade", 2) as index:
        ...     _ = index.insert_batch(["x", "y"], np.eye(2))
        ...     print([hits[0].key for hits in index.search_batch(np.eye(2), k=1)])
        ['x', 'y']
        """
        rows = many_rows(queries, self._dimensions, "queries", self.path)
        return self._ask(
            rows, k, radius, vectors, filter, recall, exact, num_probes, ef_search, metadata
        )[0]

    def explain(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        filter: Mapping[str, Any] | None = None,
        recall: float | None = None,
        exact: bool = False,
        num_probes: int | None = None,
        ef_search: int | None = None,
    ) -> CascadePlan:
        """Search as `search` does, and tell how instead of what was found.

        Examples
        --------
        >>> with CascadeIndex(tmp / "how.cascade", 2) as index:
        ...     index.insert("a", [1, 2])
        ...     print(index.explain([1, 2]).plan)
        scan
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        facts = self._ask(
            row, k, radius, False, filter, recall, exact, num_probes, ef_search, False
        )[1]
        return CascadePlan(**facts)

    def _ask(
        self,
        rows: npt.NDArray[np.float32],
        k: int | None,
        radius: float | None,
        vectors: bool,
        filter: Mapping[str, Any] | None,
        recall: float | None,
        exact: bool,
        num_probes: int | None,
        ef_search: int | None,
        metadata: bool,
    ) -> tuple[list[list[SearchResult]], dict[str, Any]]:
        return self._search(
            rows,
            search_limit(k),
            search_radius(radius),
            vectors,
            _share(recall),
            exact,
            _number(num_probes, "num_probes", 256),
            _number(ef_search, "ef_search", 8192),
            filter_text(filter),
            metadata,
        )


def _number(given: int | None, what: str, most: int, least: int = 1) -> int:
    """A positive number; None: 0, which means the default."""
    if given is None:
        return 0
    number = operator.index(given)
    if not least <= number <= most:
        raise refused(f"{what} is {number}; expected {least} to {most}")
    return number


def _share(recall: float | None) -> float:
    """A recall; None: 0, which means the default."""
    if recall is None:
        return 0.0
    if not 0 < recall <= 1:
        raise refused(f"recall is {recall}; expected more than 0, up to 1")
    return float(recall)


__all__ = ["CascadeIndex", "CascadePlan", "CascadeSearchResult", "CascadeStats", "SearchResult"]
