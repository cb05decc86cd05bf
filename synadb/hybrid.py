"""`HybridVectorStore`: vectors taken in by a hot layer, kept and searched in a cold one."""

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
from synadb._core import gwi as _gwi
from synadb._core import hybrid as _hybrid
from synadb._hits import ListedRows
from synadb.errors import ClosedError
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts
from synadb.types import CheckReport, HybridSearchResult, SearchResult

_METRICS = {
    "cosine": _hybrid.COSINE,
    "euclidean": _hybrid.EUCLIDEAN,
    "dot_product": _hybrid.DOT_PRODUCT,
}
_MOST_EF = 8192

#: Whether a long call shows a bar (True) or tells a callable how far it is.
Progress = Union[bool, Callable[[int, int], object], None]


@dataclass(frozen=True)
class HybridStats:
    """Facts and figures about an open hybrid store.

    Attributes
    ----------
    rows, hot_rows, cold_rows : int
        Keys, and how many of them have their vector in each layer.
    outdated_rows : int
        Vectors of the cold layer that were replaced by newer ones in the hot layer; the next
        promotion takes them away.
    dimensions : int
    metric : str
        ``"cosine"``, ``"euclidean"`` or ``"dot_product"``.
    promoting : bool
        Whether a promotion is going on.
    promotions, promoted_rows : int
        Promotions that moved something and what they moved, since the store was opened.
    promote_at : int
        Hot vectors from which on promotions happen by themselves; 0: only when asked for.
    hot_dead_rows, cold_dead_rows : int
        Vectors replaced, promoted or deleted, whose room `compact` gives back.
    hot_unsaved_rows, cold_unsaved_rows : int
        Vectors stored since the layer was last made durable.
    wells, buckets : int
        What the hot and the cold layer are parted into.
    memory_bytes : int
        Memory of the process; mapped files are not counted.
    hot_file_bytes, cold_file_bytes : int
        Lengths of the files, their room included.
    simd : str
        The kernels in use.
    """

    rows: int
    hot_rows: int
    cold_rows: int
    outdated_rows: int
    dimensions: int
    metric: str
    promoting: bool
    promotions: int
    promoted_rows: int
    promote_at: int
    hot_dead_rows: int
    cold_dead_rows: int
    hot_unsaved_rows: int
    cold_unsaved_rows: int
    wells: int
    buckets: int
    memory_bytes: int
    hot_file_bytes: int
    cold_file_bytes: int
    simd: str


@dataclass(frozen=True)
class HybridPlan:
    """How a search was answered, see `HybridVectorStore.explain`.

    Attributes
    ----------
    rounds : int
        1, or more when vectors moved between the layers meanwhile or many cold ones were outdated.
    passed : int
        Cold vectors that were found and do not count, because they have newer ones.
    hot_rows, cold_rows : int
        Vectors in each layer.
    hot_rows_scored, hot_wells_probed : int
        What the hot layer compared, nearly all of it by 8-bit codes.
    cold_codes, cold_rows_scored : int
        What the cold layer compared by codes, and scored from all floats.
    hot_recall, cold_recall : float or None
        Share of the layer's true nearest that is to be expected, as measured; 1.0 when the search
        was exact, None when it was not measured yet.
    """

    rounds: int
    passed: int
    hot_rows: int
    cold_rows: int
    hot_rows_scored: int
    hot_wells_probed: int
    cold_codes: int
    cold_rows_scored: int
    hot_recall: float | None
    cold_recall: float | None


class HybridVectorStore(_hybrid.LayersHandle, ListedRows):
    """Vectors under keys in two layers: one that takes them in, one that keeps them.

    New vectors go to the hot layer, a `GravityWellIndex`; `promote_to_cold` moves them to the cold
    one, a `CascadeIndex`, when you call it or by itself when there are many. Searches look into
    both, and every key is found once, with its newest vector, also while a promotion is going on:
    what is ingested or deleted meanwhile wins.

    Each layer is durable for itself: what was ingested and deleted before a `flush_hot`, promoted
    before a `save_cold`, or either before a `save` or `close` survives a crash and power loss. A
    promotion that returned is durable. Of what came after, a crash may leave nothing, and then a
    key has the vector that was durable before. Wherever a crash interrupts a promotion, every key
    is there once.

    Parameters
    ----------
    hot_path, cold_path : str or os.PathLike
        The two files; created if missing. Opening them twice in one process gives two objects over
        one open store; a file cannot be open as an index of its own at the same time.
    dimensions : int, default 768
        Length of every vector, 1 to 65535.
    metric : {"cosine", "euclidean", "dot_product"}, default "cosine"
        What ``score`` means, see `search`.
    preset : {"large", "small", "high_recall", "fast_search"}, default "large"
        Of the cold layer, see `CascadeIndex`.
    recall : float, optional
        The recall that searches of the cold layer aim at, in place of the preset's.
    promote_at : int or None, default 50000
        Promote by itself, on a thread of its own, when the hot layer has so many vectors. None:
        only when asked.
    hot_capacity : int, default 0
        How many vectors are expected in the hot layer. A hint; the file grows by itself.
    read_only : bool, default False
        Look at what was made durable last, also while another process writes; see `refresh`. Calls
        that would change something raise `ReadOnlyError`.

    Raises
    ------
    ValueError
        An argument out of range, one file for both layers; or the files hold vectors of other
        dimensions or another metric. While neither holds any, the latest opening decides.
    LockedError
        One of the files is open elsewhere, and not read-only.
    WrongKindError, CorruptionError
        Not a file of its kind, or a damaged one. It was left untouched.

    Notes
    -----
    A promotion is made by one record, the checkpoint of the cold file; what it covers then leaves
    the hot file. Any method may be called from any thread; the GIL is released while the core
    works. After `os.fork` a child may search; its writes raise `ForkedError`.

    Examples
    --------
    >>> rng = np.random.default_rng(7)
    >>> store = HybridVectorStore(
    ...     hot_path=tmp / "vectors.gwi", cold_path=tmp / "vectors.cascade", dimensions=64)
    >>> store.initialize_hot(rng.normal(size=(1000, 64)))
    >>> vectors = rng.normal(size=(500, 64))
    >>> store.ingest_batch([f"doc{i}" for i in range(500)], vectors)
    500
    >>> store.promote_to_cold()
    500
    >>> store.ingest("new", vectors[3] + 0.01)
    >>> [(hit.key, hit.source) for hit in store.search(vectors[3], k=2)]
    [('doc3', 'cold'), ('new', 'hot')]
    >>> store.close()
    """

    COSINE: int = _hybrid.COSINE
    EUCLIDEAN: int = _hybrid.EUCLIDEAN
    DOT_PRODUCT: int = _hybrid.DOT_PRODUCT

    def __init__(
        self,
        hot_path: str | os.PathLike[str],
        cold_path: str | os.PathLike[str],
        dimensions: int = 768,
        *,
        metric: str = "cosine",
        preset: str = "large",
        recall: float | None = None,
        promote_at: int | None = 50000,
        hot_capacity: int = 0,
        read_only: bool = False,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _hybrid.MAX_DIMENSIONS:
            raise refused(f"{dims} dimensions; expected 1 to {_hybrid.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        if preset not in _hybrid.PRESETS:
            raise refused(f"preset {preset!r}; expected one of {', '.join(_hybrid.PRESETS)}")
        capacity = operator.index(hot_capacity)
        if not 0 <= capacity < 2**63:
            raise refused(f"a hot capacity of {capacity}; expected 0 or more vectors")
        promote = 0 if promote_at is None else operator.index(promote_at)
        if promote_at is not None and not 1 <= promote < 2**63:
            raise refused(f"promote_at is {promote}; expected at least 1, or None")
        self._dimensions = dims
        self._metric = metric
        self._open(
            hot_path,
            cold_path,
            dims,
            _METRICS[metric],
            _hybrid.PRESETS[preset],
            _share(recall),
            promote,
            capacity,
            bool(read_only),
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

    def hot_count(self) -> int:
        """How many keys have their vector in the hot layer."""
        return self._count_in(True)

    def cold_count(self) -> int:
        """How many keys have their vector in the cold layer; with `hot_count` it is ``len(store)``.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "c.gwi", tmp / "c.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     _ = store.promote_to_cold()
        ...     store.ingest("b", [3, 4])
        ...     print(store.hot_count(), store.cold_count(), len(store))
        1 1 2
        """
        return self._count_in(False)

    def stats(self) -> HybridStats:
        """Vectors, layers, memory and file sizes.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "f.gwi", tmp / "f.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     print(store.stats().rows, store.stats().hot_unsaved_rows)
        1 1
        """
        facts = self._stats()
        facts["metric"] = list(_METRICS)[facts["metric"]]
        return HybridStats(**facts)

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return (
                f"<{name} {self.hot_path!r} + {self.cold_path!r}, "
                f"{len(self):,} x {self._dimensions}, {self._metric}>"
            )
        except ClosedError:
            return f"<{name} {self.hot_path!r} + {self.cold_path!r}, closed>"

    def __enter__(self) -> HybridVectorStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def initialize_hot(self, sample_vectors: npt.ArrayLike, *, progress: Progress = None) -> None:
        """Place the wells of the hot layer by a sample of the vectors that will come.

        The sample is not stored; a thousand vectors will do. Without it the hot layer learns from
        what it gets, see `GravityWellIndex.initialize`.

        Parameters
        ----------
        sample_vectors : array_like, shape (at least 1, dimensions)
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets the vectors done and in all.

        Raises
        ------
        ValueError
            No vectors, the wrong shape, or not finite.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "i.gwi", tmp / "i.cascade", 8) as store:
        ...     store.initialize_hot(np.random.default_rng(7).normal(size=(1000, 8)))
        ...     print(store.stats().wells)
        62
        """
        sample = many_rows(sample_vectors, self._dimensions, "sample_vectors", self.hot_path)
        self._initialize_hot(sample, progress)

    def ingest(
        self, key: str, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Store `vector` under `key` in the hot layer, in place of what the key had in either.

        Searches find it at once; it is durable after the next `flush_hot`.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        vector : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused; zero is legal.
        metadata : mapping, optional
            What `search` can filter by: anything that JSON can say.

        Raises
        ------
        ValueError
            Wrong length, or not finite. Nothing is stored.
        SynaIOError
            The disk is full. Nothing is stored.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "o.gwi", tmp / "o.cascade", 2) as store:
        ...     store.ingest("a", [1, 2], {"lang": "en"})
        ...     print("a" in store, store.get_metadata("a"))
        True {'lang': 'en'}
        """
        row = one_row(vector, self._dimensions, "vector", self.hot_path)[None]
        self._ingest_batch([key], row, None if metadata is None else [metadata_text(metadata)])

    def ingest_batch(
        self,
        keys: Iterable[str],
        vectors: npt.ArrayLike,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Store many vectors in the hot layer: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `ingest`. A contiguous float32 array is taken as it is. An error names the row.
        metadata : iterable of mapping or None, optional
            One for each vector.

        Returns
        -------
        int
            How many keys were in neither layer; the others were replaced.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "m.gwi", tmp / "m.cascade", 2) as store:
        ...     print(store.ingest_batch(["a", "b"], np.eye(2)))
        ...     print(store.ingest_batch(["b", "c"], np.eye(2)))
        2
        1
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys is a sequence of str, not one {type(keys).__name__}")
        texts = list(keys)
        rows = many_rows(vectors, self._dimensions, "vectors", self.hot_path)
        if len(texts) != len(rows):
            raise refused(f"{len(texts)} keys for {len(rows)} vectors", self.hot_path)
        return self._ingest_batch(texts, rows, metadata_texts(metadata, len(rows)))

    def update_metadata(
        self, key: str, metadata: Mapping[str, Any] | None, *, replace: bool = False
    ) -> bool:
        """Change what is stored with the vector under `key`; the vector stays, and is hot then.

        Parameters
        ----------
        key : str
        metadata : mapping or None
            Its fields are added to those that are there, or take their place as a whole. None takes
            all metadata away.
        replace : bool, default False
            True: the vector has this metadata only.

        Returns
        -------
        bool
            Whether there is such a vector.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "u.gwi", tmp / "u.cascade", 2) as store:
        ...     store.ingest("a", [1, 2], {"lang": "en", "year": 2023})
        ...     _ = store.update_metadata("a", {"year": 2024})
        ...     print(store.get_metadata("a"))
        {'lang': 'en', 'year': 2024}
        """
        return self._update_metadata(key, metadata_text(metadata), bool(replace))

    def delete(self, key: str) -> bool:
        """Remove the vector under `key`, whichever layer it is in.

        Returns
        -------
        bool
            Whether there was one.
        """
        return self._delete(key)

    # -------------------------------------------------------------------------------- upkeep

    def promote_to_cold(self, *, progress: Progress = None) -> int:
        """Move the vectors that are hot now to the cold layer.

        Durable when it returns. Ingests, deletes and searches go on meanwhile; vectors that are
        changed meanwhile stay hot. Ctrl-C or a failure stops it without losing anything: the next
        call goes on.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `initialize_hot`.

        Returns
        -------
        int
            How many were moved.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "p.gwi", tmp / "p.cascade", 2) as store:
        ...     _ = store.ingest_batch(["a", "b"], np.eye(2))
        ...     print(store.promote_to_cold(), store.hot_count(), store.promote_to_cold())
        2 0 0
        """
        return self._promote(progress)

    def flush_hot(self) -> None:
        """Make everything ingested and deleted so far durable.

        Raises
        ------
        SynaIOError
            The disk could not make it durable. After a failed sync the store takes no more vectors
            until it is opened again.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "h.gwi", tmp / "h.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     store.flush_hot()
        ...     print(store.stats().hot_unsaved_rows)
        0
        """
        self._flush_hot()

    def save_cold(self) -> None:
        """Make everything promoted so far durable, and save the index of the cold layer.

        Raises
        ------
        SynaIOError
            As in `flush_hot`.
        """
        self._save_cold()

    def save(self) -> None:
        """`save_cold` and `flush_hot`: make everything durable."""
        self._save()

    def refresh(self) -> bool:
        """Of a store opened with ``read_only=True``: show what became durable since.

        What is shown is one moment of both layers: each key once, also when vectors were promoted
        in between.

        Returns
        -------
        bool
            Whether there was anything. Always False for the writer, who sees everything.

        Raises
        ------
        SynaIOError, CorruptionError
            A file is gone, or damaged. Searches and look-ups then raise as well until a refresh
            succeeds.

        Examples
        --------
        >>> files = tmp / "r.gwi", tmp / "r.cascade"
        >>> with HybridVectorStore(*files, 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     store.save()
        ...     with HybridVectorStore(*files, 2, read_only=True) as reader:
        ...         store.ingest("b", [3, 4])
        ...         _ = store.promote_to_cold()
        ...         print(len(reader), reader.refresh(), len(reader))
        1 True 2
        """
        return self._refresh()

    def compact(self, *, progress: Progress = None) -> None:
        """Write the live vectors of each layer to a new file in the place of the old one.

        Gives back the room of vectors that were replaced, promoted or deleted. Promotions do so
        with the hot layer by themselves.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `initialize_hot`.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "t.gwi", tmp / "t.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     store.ingest("a", [3, 4])
        ...     store.compact()
        ...     print(store.stats().hot_dead_rows)
        0
        """
        self._compact(progress)

    def verify(self, *, progress: Progress = None) -> tuple[CheckReport, CheckReport]:
        """Read what was made durable last and check every checksum and invariant.

        Nothing is written.

        Returns
        -------
        tuple of CheckReport
            Of the hot and of the cold file.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "v.gwi", tmp / "v.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     store.save()
        ...     print([report.ok for report in store.verify()])
        [True, True]
        """
        return _gwi.verify(self.hot_path, progress), _cascade.verify(self.cold_path, progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """A copy of the newest vector under `key`, or None."""
        return self._get(key)

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """The metadata of the vector under `key`; None when it has none, or is not there."""
        return metadata_of(self._get_metadata(key))

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in store``."""
        return self._contains(key)

    def __contains__(self, key: object) -> bool:
        return self._contains(key)

    def keys(self) -> list[str]:
        """All keys: those of the cold layer, then those of the hot one, each as last written."""
        return self._keys()

    def search(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        nprobe: int = _hybrid.NPROBE,
        ef_search: int | None = None,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[HybridSearchResult]:
        """Return the `k` vectors of both layers nearest to `query`, best first, each key once.

        Parameters
        ----------
        query : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused.
        k : int or None, default 10
            At least 1. Fewer results come back only when there are fewer vectors; None: no limit.
        nprobe : int, default 50
            How far to look in the hot layer, see `GravityWellIndex.search`.
        ef_search : int, optional
            Candidates of the walk through the cold layer, 1 to 8192; by default as many as the
            recall takes that it aims at.
        recall : float, optional
            The share of the true nearest wanted, more than 0 to 1, of each layer, instead.
        filter : mapping, optional
            Only vectors whose metadata match, in both layers: ``{"lang": "en"}``,
            ``{"year": {"$gte": 2020}}``, ``$and``, ``$or``, ``$not``, ``$in``, ``$nin``,
            ``$exists``, ``$contains``.
        radius : float, optional
            Only vectors with ``score <= radius``; such a search is exact.
        exact : bool, default False
            Leave out nothing that could matter.
        vectors, metadata : bool, default True
            False leaves ``vector`` or ``metadata`` of the results None, which saves copying.

        Returns
        -------
        list of HybridSearchResult
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written. ``source`` is ``"hot"`` or
            ``"cold"``, where the vector is.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; a number is out of its range; the filter
            is not one.
        CorruptionError
            A block of a file does not match its checksum.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "s.gwi", tmp / "s.cascade", 2) as store:
        ...     store.ingest("x", [1, 0], {"n": 1})
        ...     _ = store.promote_to_cold()
        ...     store.ingest("y", [0, 1], {"n": 2})
        ...     print([(hit.key, hit.source) for hit in store.search([1, 0.1])])
        ...     print(store.search([1, 0.1], filter={"n": {"$gt": 1}})[0].key)
        [('x', 'cold'), ('y', 'hot')]
        y
        """
        row = one_row(query, self._dimensions, "query", self.hot_path)[None]
        found, _ = self._ask(
            row, k, 0, nprobe, ef_search, recall, filter, radius, exact, vectors, metadata
        )
        return found[0]

    def search_hot(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        nprobe: int = _hybrid.NPROBE,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[SearchResult]:
        """Return the `k` vectors of the hot layer nearest to `query`; otherwise as `search`."""
        row = one_row(query, self._dimensions, "query", self.hot_path)[None]
        found, _ = self._ask(
            row, k, 1, nprobe, None, recall, filter, radius, exact, vectors, metadata
        )
        return found[0]

    def search_cold(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        ef_search: int | None = None,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[SearchResult]:
        """Return the `k` vectors of the cold layer nearest to `query`; otherwise as `search`.

        Vectors that have newer ones in the hot layer are left out.
        """
        row = one_row(query, self._dimensions, "query", self.hot_path)[None]
        wells = _hybrid.NPROBE
        found, _ = self._ask(
            row, k, 2, wells, ef_search, recall, filter, radius, exact, vectors, metadata
        )
        return found[0]

    def search_batch(
        self,
        queries: npt.ArrayLike,
        k: int | None = 10,
        *,
        nprobe: int = _hybrid.NPROBE,
        ef_search: int | None = None,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[list[HybridSearchResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        Faster than one search after the other, because each list of the hot layer is read once for
        all queries that look into it.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, nprobe, ef_search, recall, filter, radius, exact, vectors, metadata
            As in `search`.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "b.gwi", tmp / "b.cascade", 2) as store:
        ...     _ = store.ingest_batch(["x", "y"], np.eye(2))
        ...     print([hits[0].key for hits in store.search_batch(np.eye(2), k=1)])
        ['x', 'y']
        """
        rows = many_rows(queries, self._dimensions, "queries", self.hot_path)
        found, _ = self._ask(
            rows, k, 0, nprobe, ef_search, recall, filter, radius, exact, vectors, metadata
        )
        return found

    def explain(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        nprobe: int = _hybrid.NPROBE,
        ef_search: int | None = None,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
    ) -> HybridPlan:
        """Search as `search` does, and say how it was answered instead of what was found.

        Examples
        --------
        >>> with HybridVectorStore(tmp / "w.gwi", tmp / "w.cascade", 2) as store:
        ...     store.ingest("a", [1, 2])
        ...     plan = store.explain([1, 2])
        ...     print(plan.hot_rows, plan.cold_rows, plan.hot_recall)
        1 0 1.0
        """
        row = one_row(query, self._dimensions, "query", self.hot_path)[None]
        _, told = self._ask(
            row, k, 0, nprobe, ef_search, recall, filter, radius, exact, False, False
        )
        told["hot_recall"] = told["hot_recall"] or None
        told["cold_recall"] = told["cold_recall"] or None
        return HybridPlan(**told)

    def _ask(
        self,
        rows: npt.NDArray[np.float32],
        k: int | None,
        layers: int,
        nprobe: int,
        ef_search: int | None,
        recall: float | None,
        given: Mapping[str, Any] | None,
        radius: float | None,
        exact: bool,
        vectors: bool,
        metadata: bool,
    ) -> tuple[list[list[Any]], dict[str, Any]]:
        probes = operator.index(nprobe)
        if probes < 1:
            raise refused(f"nprobe is {probes}; expected at least 1")
        ef = 0 if ef_search is None else operator.index(ef_search)
        if ef_search is not None and not 1 <= ef <= _MOST_EF:
            raise refused(f"ef_search is {ef}; expected 1 to {_MOST_EF}")
        return self._search(
            rows,
            search_limit(k),
            layers,
            min(probes, 2**63),
            ef,
            _share(recall),
            search_radius(radius),
            filter_text(given),
            bool(exact),
            bool(vectors),
            bool(metadata),
        )


def _share(recall: float | None) -> float:
    if recall is None:
        return 0.0
    if not 0 < recall <= 1:
        raise refused(f"recall is {recall}; expected more than 0 and at most 1")
    return float(recall)


__all__ = [
    "HybridPlan",
    "HybridSearchResult",
    "HybridStats",
    "HybridVectorStore",
    "SearchResult",
]
