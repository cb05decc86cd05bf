"""`GravityWellIndex`: vectors that fall into wells as they come, searched well by well."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np
import numpy.typing as npt

from synadb._arrays import many_rows, one_row, refused, search_limit, search_radius
from synadb._core import gwi as _gwi
from synadb._hits import ListedRows
from synadb.errors import ClosedError
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts
from synadb.types import CheckReport, SearchResult

_METRICS = {
    "cosine": _gwi.COSINE,
    "euclidean": _gwi.EUCLIDEAN,
    "dot_product": _gwi.DOT_PRODUCT,
}
_BRANCHING = 16  # what the properties say when nothing was asked for
_LEVELS = 3

#: Whether a long call shows a bar (True) or tells a callable how far it is.
Progress = Union[bool, Callable[[int, int], object], None]

#: Results have one type in all stores; this is its name in older programs.
GwiSearchResult = SearchResult


@dataclass(frozen=True)
class GwiStats:
    """Facts and figures about an open index.

    Attributes
    ----------
    rows, dead_rows : int
        Vectors in the index, and those replaced or deleted, whose room `compact` gives back.
    fresh_rows : int
        Vectors that are in no well yet: every search scores all of them.
    dimensions : int
    metric : str
        ``"cosine"``, ``"euclidean"`` or ``"dot_product"``.
    wells : int
        Lists that the vectors are parted into; 0 before anything was trained.
    trained_rows, splits : int
        Vectors that the wells were trained from (0: from a sample); wells split since then.
    unsaved_rows : int
        Vectors stored since the last `save`.
    generation : int
        1 more than compactions.
    memory_bytes : int
        Memory of the process; mapped files are not counted.
    file_bytes : int
        Length of the file of the vectors, its room included.
    uuid : str
        The index's identity, 32 hexadecimal digits; compaction keeps it.
    simd : str
        The kernels in use: ``"scalar"``, or a name that begins with ``"avx2"``, ``"avx512"`` or
        ``"neon"``.
    """

    rows: int
    dead_rows: int
    fresh_rows: int
    dimensions: int
    metric: str
    wells: int
    trained_rows: int
    splits: int
    unsaved_rows: int
    generation: int
    memory_bytes: int
    file_bytes: int
    uuid: str
    simd: str


@dataclass(frozen=True)
class GwiPlan:
    """How a search was answered, see `GravityWellIndex.explain`.

    Attributes
    ----------
    wells, probed : int
        Wells there are, and those whose lists were looked into.
    rows_scored : int
        Vectors compared with the query, nearly all of them by their 8-bit codes. One that stands
        in two of the lists counts twice.
    rows_scored_in_full : int
        Those of them scored from all their floats.
    matches, total : int
        Vectors that the filter admits, and vectors in the index.
    exact : bool
        Nothing that could matter was left out.
    recall : float or None
        Share of the true nearest that is to be expected, as measured on this index; 1.0 when the
        search was exact, None when it was not measured yet.
    """

    wells: int
    probed: int
    rows_scored: int
    rows_scored_in_full: int
    matches: int
    total: int
    exact: bool
    recall: float | None

    @property
    def share(self) -> float:
        """`rows_scored` as a share of all vectors."""
        return self.rows_scored / self.total if self.total else 0.0


class GravityWellIndex(_gwi.WellsHandle, ListedRows):
    """Vectors under keys in an append-only file, ready to be searched as soon as they are stored.

    Every vector falls into the wells whose centres are nearest to it; a search looks into the
    wells nearest to the query. Wells are trained by themselves as the index grows, so building is
    as fast as storing: use it where vectors stream in or the time to build counts. Scores are
    exact, and the same bits on every machine.

    Vectors become durable together, by `save`, `flush` or `close`; what came after the last one
    may be lost in a crash, but only as a whole. The lists of the wells are derived from them, and
    are saved beside the file, in ``<path>.wells``, which may be deleted.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. Opening a file twice in one process
        gives two objects over one open index.
    dimensions : int, default 768
        Length of every vector, 1 to 65535.
    branching_factor, num_levels : int, optional
        ``branching_factor ** num_levels`` is the most wells there will be, where at least one is
        given; otherwise as many as the vectors want, four to eight times the root of their number.
    initial_capacity : int, default 100000
        How many vectors are expected: room for them, 64 MiB at most, is made when the first one
        comes. A hint; the file grows by itself.
    metric : {"cosine", "euclidean", "dot_product"}, default "cosine"
        What ``score`` means, see `search`.
    read_only : bool, default False
        Look at what was saved last, also while another process writes; see `refresh`.

    Raises
    ------
    ValueError
        An argument out of range; or the file holds vectors of other dimensions or another metric.
        While it holds none, the latest opening decides.
    LockedError
        Another process writes to the file.
    WrongKindError, CorruptionError
        Not a file of this kind, or a damaged one. It was left untouched.

    Notes
    -----
    An inverted file (Jegou, Douze, Schmid 2011) over 8-bit codes; every vector stands in two
    lists, the second chosen where the first is blind (SOAR, Sun et al. 2023). Memory: two bytes a
    dimension and about 60 bytes for each vector.

    Any method may be called from any thread; the GIL is released while the core works, and
    searches run beside inserts and trainings. After `os.fork` a child may search; its writes raise
    `ForkedError`.

    Examples
    --------
    >>> rng = np.random.default_rng(7)
    >>> gwi = GravityWellIndex(tmp / "vectors.gwi", dimensions=64)
    >>> gwi.initialize(rng.normal(size=(1000, 64)))
    >>> keys = [f"doc_{i}" for i in range(2000)]
    >>> vectors = rng.normal(size=(2000, 64))
    >>> gwi.insert_batch(keys, vectors)
    2000
    >>> gwi.search(vectors[42], k=10, nprobe=50)[0].key
    'doc_42'
    >>> gwi.save()
    >>> gwi.close()
    """

    COSINE: int = _gwi.COSINE
    EUCLIDEAN: int = _gwi.EUCLIDEAN
    DOT_PRODUCT: int = _gwi.DOT_PRODUCT

    def __init__(
        self,
        path: str | os.PathLike[str],
        dimensions: int = 768,
        branching_factor: int | None = None,
        num_levels: int | None = None,
        initial_capacity: int = 100000,
        *,
        metric: str = "cosine",
        read_only: bool = False,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _gwi.MAX_DIMENSIONS:
            raise refused(f"{dims} dimensions; expected 1 to {_gwi.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        capacity = operator.index(initial_capacity)
        if not 0 <= capacity < 2**63:
            raise refused(f"an initial capacity of {capacity}; expected 0 or more vectors")
        branching = _within("branching factor", branching_factor, 2, 65535)
        levels = _within("number of levels", num_levels, 1, 8)
        self._dimensions = dims
        self._metric = metric
        self._open(path, dims, _METRICS[metric], branching, levels, capacity, bool(read_only))

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
    def branching_factor(self) -> int:
        """What the index was opened with, 16 if nothing was said."""
        return self._stats()["branching_factor"] or _BRANCHING

    @property
    def num_levels(self) -> int:
        """What the index was opened with, 3 if nothing was said."""
        return self._stats()["num_levels"] or _LEVELS

    @property
    def num_clusters(self) -> int:
        """Wells there are; 0 before anything was trained."""
        wells: int = self._stats()["wells"]
        return wells

    @property
    def initialized(self) -> bool:
        """Whether `initialize` was called, or the file has vectors, deleted ones included."""
        initialized: bool = self._stats()["initialized"]
        return initialized

    def stats(self) -> GwiStats:
        """Vectors, wells, memory and file size.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "facts.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2])
        ...     print(gwi.stats().rows, gwi.stats().unsaved_rows)
        1 1
        """
        facts = self._stats()
        facts["metric"] = list(_METRICS)[facts["metric"]]
        return GwiStats(**{name: facts[name] for name in GwiStats.__dataclass_fields__})

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} x {self._dimensions}, {self._metric}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> GravityWellIndex:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ training

    def initialize(self, sample_vectors: npt.ArrayLike, *, progress: Progress = None) -> None:
        """Place the wells by a sample of the vectors that will come, before the first insert.

        The sample is not stored. A thousand vectors will do: the wells are trained again from the
        index's own vectors as it grows. Once is enough for the life of the file; that it happened
        is durable after the next `save` or `close`. An index with vectors keeps them.

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
        >>> with GravityWellIndex(tmp / "placed.gwi", 8) as gwi:
        ...     gwi.initialize(np.random.default_rng(7).normal(size=(1000, 8)))
        ...     print(gwi.initialized, gwi.num_clusters)
        True 62
        """
        self._initialize(
            many_rows(sample_vectors, self._dimensions, "sample_vectors", self.path), progress
        )

    def train(self, *, progress: Progress = None) -> None:
        """Train the wells again from all vectors, and measure what `nprobe` finds.

        Never needed: it happens by itself whenever there are four times as many vectors as the
        last time. Inserts and searches go on meanwhile. Ctrl-C leaves the wells as they were.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `initialize`.
        """
        self._train(progress)

    # ------------------------------------------------------------------------------- writing

    def insert(
        self, key: str, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Store `vector` under `key`, replacing the vector and the metadata that were there.

        Searches find it at once; it is durable after the next `save`.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        vector : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused; zero is legal and,
            under cosine, at distance 1 from everything.
        metadata : mapping, optional
            What `search` can filter by: anything that JSON can say.

        Raises
        ------
        ValueError
            Wrong length, or not finite. Nothing is stored.
        NotInitializedError
            `initialize` was never called, and the file has no vectors. Nothing is stored. It is
            a `RuntimeError`, too.
        SynaIOError
            The disk is full. Nothing is stored.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "one.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2], {"lang": "en"})
        ...     print("a" in gwi, gwi.get_metadata("a"))
        True {'lang': 'en'}
        """
        row = one_row(vector, self._dimensions, "vector", self.path)[None]
        self._insert_batch([key], row, None if metadata is None else [metadata_text(metadata)])

    def insert_batch(
        self,
        keys: Iterable[str],
        vectors: npt.ArrayLike,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Store many vectors: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `insert`. A contiguous float32 array is taken as it is. An error names the row.
        metadata : iterable of mapping or None, optional
            One for each vector.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Raises
        ------
        ValueError, NotInitializedError, SynaIOError
            As in `insert`.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "many.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     print(gwi.insert_batch(["a", "b"], np.eye(2)))
        ...     print(gwi.insert_batch(["b", "c"], np.eye(2)))
        2
        1
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys is a sequence of str, not one {type(keys).__name__}")
        texts = list(keys)
        rows = many_rows(vectors, self._dimensions, "vectors", self.path)
        if len(texts) != len(rows):
            raise refused(f"{len(texts)} keys for {len(rows)} vectors", self.path)
        return self._insert_batch(texts, rows, metadata_texts(metadata, len(rows)))

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
        >>> with GravityWellIndex(tmp / "notes.gwi", 2) as gwi:
        ...     gwi.initialize([[0.0, 1.0]])
        ...     gwi.insert("a", [0.0, 1.0], {"lang": "en", "year": 2023})
        ...     print(gwi.update_metadata("a", {"year": 2024}), gwi.get_metadata("a"))
        True {'lang': 'en', 'year': 2024}
        """
        return self._update_metadata(key, metadata_text(metadata), bool(replace))

    def delete(self, key: str) -> None:
        """Remove the vector under `key`; a missing key is no error.

        Its room is given back by `compact`.
        """
        self._delete(key)

    # -------------------------------------------------------------------------------- upkeep

    def save(self) -> None:
        """Make everything stored so far durable.

        When it returns, all of it survives the end of the process and power loss. Searches go on
        meanwhile. The lists are saved, too, when a quarter of the vectors is new in them; what is
        missing there is put into lists again by the next opening.

        Raises
        ------
        SynaIOError
            The disk could not make it durable. After a failed sync the index takes no more
            vectors until it is opened again.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "saved.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2])
        ...     gwi.save()
        ...     print(gwi.stats().unsaved_rows)
        0
        """
        self._flush()

    def flush(self) -> None:
        """The same as `save`."""
        self._flush()

    def refresh(self) -> bool:
        """Of an index opened with ``read_only=True``: show what was saved since.

        Returns
        -------
        bool
            Whether there was anything. Always False for the writer, who sees everything.
        """
        return self._refresh()

    def compact(self, *, progress: Progress = None) -> None:
        """Write the live vectors to a new file and put it in the place of the old one.

        Gives back the room of vectors that were replaced or deleted, makes everything durable and
        trains the wells again. Readers in other processes keep the old file until they `refresh`.
        Ctrl-C or a failure leaves the index as it was.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `initialize`.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "tidy.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2])
        ...     gwi.insert("a", [3, 4])
        ...     gwi.compact()
        ...     print(gwi.stats().dead_rows)
        0
        """
        self._compact(progress)

    def verify(self, *, progress: Progress = None) -> CheckReport:
        """Read what was saved last and check every checksum and invariant. Nothing is written.

        Returns
        -------
        CheckReport
            ``ok`` when nothing is wrong; ``frames`` counts vectors, dead ones included.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "sound.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2])
        ...     gwi.save()
        ...     print(gwi.verify().ok)
        True
        """
        return _gwi.verify(self.path, progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """A copy of the vector under `key`, or None."""
        return self._get(key)

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """The metadata of the vector under `key`; None when it has none, or is not there."""
        return metadata_of(self._get_metadata(key))

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in gwi``."""
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
        nprobe: int = _gwi.NPROBE,
        *,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[SearchResult]:
        """Return the `k` stored vectors nearest to `query`, best first.

        Parameters
        ----------
        query : array_like of `dimensions` real numbers
            Converted to float32 and flattened. NaN and infinity are refused.
        k : int or None, default 10
            At least 1. Fewer results come back only when there are fewer vectors; None: no limit.
        nprobe : int, default 50
            How far to look: 50 aims at 99 of 100 of the 10 nearest, and 100 at all of them, as
            measured on the index's own vectors, whatever these are. Smaller and larger numbers
            look into wells in proportion; as many as there are wells: all of them, exactly. Up to
            4,096 vectors every search is exact.
        recall : float, optional
            The share of the true nearest wanted, 0 to 1, instead of `nprobe`. Each query looks into
            as many wells as the index's own vectors took that were as hard to find as it looks in
            its first two.
        filter : mapping, optional
            Only vectors whose metadata match: ``{"lang": "en"}``, ``{"year": {"$gte": 2020}}``,
            ``$and``, ``$or``, ``$not``, ``$in``, ``$nin``, ``$exists``, ``$contains``.
        radius : float, optional
            Only vectors with ``score <= radius``; such a search is exact.
        exact : bool, default False
            Leave out nothing that could matter.
        vectors, metadata : bool, default True
            False leaves ``vector`` or ``metadata`` of the results None, which saves copying.

        Returns
        -------
        list of SearchResult
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; `k` or `nprobe` is less than 1; `recall`
            is not in (0, 1]; the filter is not one.
        CorruptionError
            A block of the file does not match its checksum.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "near.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     _ = gwi.insert_batch(["x", "y"], np.eye(2), [{"n": 1}, {"n": 2}])
        ...     print(gwi.search([1, 0.1], k=1)[0].key)
        ...     print(gwi.search([1, 0.1], k=1, filter={"n": {"$gt": 1}})[0].key)
        x
        y
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        return self._run(row, k, nprobe, recall, filter, radius, exact, vectors, metadata)[0][0]

    def search_batch(
        self,
        queries: npt.ArrayLike,
        k: int | None = 10,
        nprobe: int = _gwi.NPROBE,
        *,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
        vectors: bool = True,
        metadata: bool = True,
    ) -> list[list[SearchResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        Faster than one search after the other, because each list is read once for all queries that
        look into it; and all of them see the same vectors.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, nprobe, recall, filter, radius, exact, vectors, metadata
            As in `search`.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "pairs.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     _ = gwi.insert_batch(["x", "y"], np.eye(2))
        ...     print([hits[0].key for hits in gwi.search_batch(np.eye(2), k=1)])
        ['x', 'y']
        """
        rows = many_rows(queries, self._dimensions, "queries", self.path)
        return self._run(rows, k, nprobe, recall, filter, radius, exact, vectors, metadata)[0]

    def explain(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        nprobe: int = _gwi.NPROBE,
        *,
        recall: float | None = None,
        filter: Mapping[str, Any] | None = None,
        radius: float | None = None,
        exact: bool = False,
    ) -> GwiPlan:
        """Search as `search` does, and say how it was answered instead of what was found.

        Examples
        --------
        >>> with GravityWellIndex(tmp / "why.gwi", 2) as gwi:
        ...     gwi.initialize([[1, 2]])
        ...     gwi.insert("a", [1, 2])
        ...     print(gwi.explain([1, 2]).exact)
        True
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        told = self._run(row, k, nprobe, recall, filter, radius, exact, False, False)[1]
        return GwiPlan(
            wells=told["wells"],
            probed=told["lists"],
            rows_scored=told["rows"],
            rows_scored_in_full=told["full"],
            matches=told["matches"],
            total=told["total"],
            exact=told["exact"],
            recall=told["recall"],
        )

    def _run(
        self,
        rows: npt.NDArray[np.float32],
        k: int | None,
        nprobe: int,
        recall: float | None,
        given: Mapping[str, Any] | None,
        radius: float | None,
        exact: bool,
        vectors: bool,
        metadata: bool,
    ) -> tuple[list[list[SearchResult]], dict[str, Any]]:
        probes = operator.index(nprobe)
        if probes < 1:
            raise refused(f"nprobe is {probes}; expected at least 1")
        if recall is not None and not 0 < recall <= 1:
            raise refused(f"recall is {recall}; expected more than 0 and at most 1")
        return self._search(
            rows,
            search_limit(k),
            min(probes, 2**63),
            recall or 0.0,
            search_radius(radius),
            filter_text(given),
            bool(exact),
            bool(vectors),
            bool(metadata),
        )


def _within(what: str, given: int | None, least: int, most: int) -> int:
    if given is None:
        return 0
    number = operator.index(given)
    if not least <= number <= most:
        raise refused(f"a {what} of {number}; expected {least} to {most}")
    return number


__all__ = ["GravityWellIndex", "GwiPlan", "GwiSearchResult", "GwiStats", "SearchResult"]
