"""`VectorStore`: vectors under keys, searched for the nearest."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional

import numpy as np
import numpy.typing as npt

from synadb._arrays import many_rows, one_row, refused, search_limit, search_radius
from synadb._core import vectors as _vectors
from synadb._core.rows import HitBlock
from synadb._hits import BatchHits, Hits, StoredRows
from synadb.errors import ClosedError
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts
from synadb.types import SearchResult

if TYPE_CHECKING:
    from synadb._faiss import FaissIndex

_METRICS = {
    "cosine": _vectors.COSINE,
    "euclidean": _vectors.EUCLIDEAN,
    "dot_product": _vectors.DOT_PRODUCT,
}
_BACKENDS = ("auto", "flat", "hnsw", "faiss")  # of the core: by number, the last one as flat
_FLAT = 1
_PLANS = ("scan", "exact", "graph")
_DTYPES = ("float32", "float16", "bfloat16")  # of the core: from 1 on, 0 is the file's
_CODES = ("none", "int8", "binary")  # the same


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
        Memory of its own: codes, graph, key table, metadata. The vectors themselves are in the
        mapped file.
    file_bytes : int
        The log's length.
    simd : str
        The distance kernels in use: ``"scalar"``, or a name that begins with ``"avx2"``,
        ``"avx512"`` or ``"neon"`` (``"avx512vnni"``: with that extension). The
        environment variable ``SYNADB_SIMD`` forces one; results are the same bits with all.
    indexed_rows : int
        Rows in the graph; 0 before there is one.
    dead_rows : int
        Replaced or deleted rows that still take memory; they go when they are many.
    dtype : str
        What the rows are kept as: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    quantization : str
        What stands in memory of a row: ``"int8"``, ``"binary"`` or ``"none"``.
    row_bytes : int
        What the elements of one row take in the file.
    code_bytes : int
        What the code of one row takes in memory; 0 while there are none (below 1,024 rows).
    """

    rows: int
    dimensions: int
    metric: str
    memory_bytes: int
    file_bytes: int
    simd: str
    indexed_rows: int
    dead_rows: int
    dtype: str
    quantization: str
    row_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class SearchPlan:
    """How a search was answered, see `VectorStore.explain`.

    Attributes
    ----------
    plan : str
        ``"scan"``: every row was scored. ``"exact"``: all 8-bit codes were compared, and the rows
        that could matter scored, with the same result. ``"graph"``: a walk over the graph, and the
        rows that are not in it yet. ``"faiss"``: the index of the FAISS backend.
    ef : int
        Candidates kept in the walk; 0 without one.
    recall : float
        Share of the true nearest that is to be expected, as measured on this store: 1.0 is exact,
        0.0 not measured yet.
    codes_compared, rows_scored, hops : int
        The work: codes compared, rows scored in full, rows of the graph walked through.
    matches : int or None
        Rows that the filter chose; without one, all. None where filters are not known.
    """

    plan: str
    ef: int
    recall: float
    codes_compared: int
    rows_scored: int
    hops: int
    matches: int | None = None


class VectorStore(_vectors.VectorHandle, StoredRows):
    """Vectors under keys in one file, searched for the nearest.

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
    backend : {"auto", "flat", "hnsw", "faiss"}, default "auto"
        How searches are answered. ``"auto"`` and ``"hnsw"``: exactly while the store is small, and
        through a graph (HNSW) from 10,000 rows on, which is built by itself. ``"flat"``: always
        exactly. ``"faiss"``: through an index of the package FAISS, see the notes.
    read_only : bool, default False
        Never write; the file may be open in a process that does, see `refresh`.
    absorber : bool, default True
        The graph is kept up by a thread of the store's own, so that no write waits for it, see the
        notes. False: by the write that was one too many, before it returns; the same calls then
        give the same graph.
    m : int, default 16
        Links of a typical row in the graph, 4 to 64.
    ef_construction : int, default 200
        Candidates looked at when a row is linked, 1 to 4096.
    ef_search : int, optional
        Candidates kept by a search that says neither ``ef`` nor ``recall``, 1 to 4096; 100, or 200
        with ``quantization="binary"``.
    threads : int, optional
        Of a build, and of a `search_batch` through the graph; as many as there are processors.
    dtype : {"float32", "float16", "bfloat16"} or numpy dtype, optional
        What the vectors are kept as. The 16-bit forms take half the bytes, in the file and in what
        a search reads of it: vectors are rounded when they are inserted, `get` and the results of
        searches give the rounded ones, as float32, and scores are exact for them. float16 keeps 11
        bits of an element and sizes up to 65504, bfloat16 8 bits and the sizes of float32; larger
        elements are refused. Default: as the file has them; float32 in a new one.
    quantization : {"int8", "binary", "none"}, optional
        What stands in memory of each vector to choose candidates by, which are then scored by the
        vectors themselves: a byte a dimension; a bit a dimension, which is coarser, so that walks
        keep more candidates and exact searches score every row; or nothing, then there is no graph
        and every search scores every row. Default: as the file has it; int8 in a new one.
    faiss_index_type : str, default "IVF1024,Flat"
        What FAISS is to make, in the words of ``faiss.index_factory``: ``"Flat"``,
        ``"HNSW32"``, ``"IVF256,PQ32"``. Only looked at with ``backend="faiss"``, as the next two.
    faiss_nprobe : int, default 10
        Lists of an inverted file (IVF) that a search visits; more find more.
    use_gpu : bool, default False
        Put the index on all GPUs that the installed FAISS sees.
    progress : bool or callable, optional
        Reading the rows at the start: True draws a bar on standard error, a callable gets the
        rows done and in all.

    Raises
    ------
    ValueError
        Dimensions out of range, an unknown metric, backend, dtype or quantization; or the file
        holds vectors of other dimensions, another metric, dtype or quantization. While it holds
        none, the latest opening decides. FAISS does not know the index type, or sees no GPU.
    ImportError
        ``backend="faiss"``, and FAISS is not installed: ``pip install 'synadb[faiss]'``.
    LockedError
        Another process writes to the file.

    Notes
    -----
    The vectors stay in the mapped file; in memory are a code of a byte a dimension (see
    `quantization`), the graph and some 30 bytes more a row. They are saved beside the file, as
    ``<path>.hnsw``, on `close`, so that opening again is quick; that file may be deleted at any
    time. Any method may be called from any thread; the GIL is released while the core works, and
    searches run beside inserts. After `os.fork` a child may search; its writes raise
    `ForkedError`.

    New rows are found at once: by looking at all of them, and where a quick writer leaves more than
    two thousand behind, at those of the rest that are in the buckets nearest to the query, some
    thousands of them. That costs recall until they are in the graph: of 100,000 rows behind, ten
    nearest at ``ef=100``, 0.90 and 0.96 of the true nearest were found on two sets of real vectors,
    0.99 without a tail; `explain` says 0.0 then, not measured. A search that names a ``recall``, is
    ``exact`` or has a filter looks at all of them, so the recall named holds for them, too; what it
    takes grows with them. They are taken into the graph in the background, a thousand and more at a
    time, by a thread with low priority that runs while there is such work; closing the store stops
    it, and what is left is gone on with at the next opening. `absorb` does that work at a time of
    your choosing. Two runs of a program may get graphs that differ, and so results that differ
    within the recall, unless ``absorber=False``.

    With ``backend="faiss"`` the rows, their durability and everything else stay as they are; FAISS
    chooses which rows a search scores. The index is made by `build_index`, or by the first search
    once there are 10,000 rows (and 39 for each list of an inverted file), is kept up by the
    writes of this object, and stands in memory only: it is made again after opening, after
    `delete_where`, and when somebody else wrote to the store. Searches with `radius`, `filter`,
    ``recall``, ``ef`` or ``exact=True``, and those for which it has too few candidates, are
    answered exactly without it. Scores of what it found are summed in double precision.

    A store is a table to readers of the Arrow stream interface, with the columns ``key``,
    ``vector`` and ``metadata`` (JSON): ``pyarrow.table(store)``, ``polars.DataFrame(store)``. It is
    a copy of the rows at that moment. What searches return is one too, see `search`.

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
        read_only: bool = False,
        absorber: bool = True,
        m: int = 16,
        ef_construction: int = 200,
        ef_search: int | None = None,
        threads: int | None = None,
        dtype: npt.DTypeLike | None = None,
        quantization: str | None = None,
        faiss_index_type: str = "IVF1024,Flat",
        faiss_nprobe: int = 10,
        use_gpu: bool = False,
        progress: bool | Callable[[int, int], object] | None = None,
    ) -> None:
        dims = operator.index(dimensions)
        if not 1 <= dims <= _vectors.MAX_DIMENSIONS:
            raise refused(f"{dims} dimensions; expected 1 to {_vectors.MAX_DIMENSIONS}")
        if metric not in _METRICS:
            raise refused(f"metric {metric!r}; expected one of {', '.join(_METRICS)}")
        if backend not in _BACKENDS:
            raise refused(f"backend {backend!r}; expected one of {', '.join(_BACKENDS)}")
        kept_as = _named("dtype", _dtype_name(dtype), _DTYPES)
        coded_as = _named("quantization", quantization, _CODES)
        self._dimensions = dims
        self._metric = metric
        self._backend = backend
        self._faiss_index_type = faiss_index_type
        self._faiss_nprobe = _option("faiss_nprobe", faiss_nprobe, 1, 2**31 - 1)
        self._use_gpu = bool(use_gpu)
        self._faiss: FaissIndex | None = None
        if backend == "faiss":
            from synadb._faiss import FaissIndex

            self._faiss = FaissIndex(
                self, dims, metric, faiss_index_type, self._faiss_nprobe, self._use_gpu
            )
        self._open(
            path,
            dims,
            _METRICS[metric],
            bool(sync_on_write),
            progress,
            index=_FLAT if self._faiss else _BACKENDS.index(backend),
            read_only=bool(read_only),
            absorber=bool(absorber),
            m=_option("m", m, 4, 64),
            ef_construction=_option("ef_construction", ef_construction, 1, 4096),
            ef_search=0 if ef_search is None else _option("ef_search", ef_search, 1, 4096),
            threads=0 if threads is None else _option("threads", threads, 1, 1024),
            dtype=kept_as,
            quantization=coded_as,
        )

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
        """How searches are answered now: ``"flat"``, exactly, ``"hnsw"``, through the graph, or
        ``"faiss"``."""
        if self._faiss and self._faiss.is_built:
            return "faiss"
        return "hnsw" if self._has_index() else "flat"

    @property
    def has_index(self) -> bool:
        """Whether there is a graph, or an index of the FAISS backend."""
        return self._faiss.is_built if self._faiss else self._has_index()

    @property
    def faiss_index_type(self) -> str:
        """What the FAISS backend makes, if it is the one in use."""
        return self._faiss_index_type

    @property
    def faiss_nprobe(self) -> int:
        """Lists of an inverted file that a search of the FAISS backend visits."""
        return self._faiss_nprobe

    @property
    def use_gpu(self) -> bool:
        """Whether the FAISS backend works on GPUs."""
        return self._use_gpu

    @property
    def is_faiss_trained(self) -> bool:
        """Whether the index of the FAISS backend can take rows."""
        return self._faiss is not None and self._faiss.is_trained

    def stats(self) -> VectorStats:
        """Rows, memory and file size, and the kernels in use.

        Examples
        --------
        >>> store.stats().rows == len(store)
        True
        """
        dimensions, metric, rows, memory_bytes, file_bytes, simd, indexed, dead, *kept = (
            self._stats()
        )
        dtype, quantization, row_bytes, code_bytes = kept
        return VectorStats(
            rows=rows,
            dimensions=dimensions,
            metric=list(_METRICS)[metric],
            memory_bytes=memory_bytes,
            file_bytes=file_bytes,
            simd=simd,
            indexed_rows=indexed,
            dead_rows=dead,
            dtype=_DTYPES[dtype - 1],
            quantization=_CODES[quantization - 1],
            row_bytes=row_bytes,
            code_bytes=code_bytes,
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

    def insert(
        self, key: str, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Store `vector` under `key`, replacing the vector that was there and its metadata.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        vector : array_like of `dimensions` real numbers
            Converted to float32 (and rounded to the store's `dtype`) and flattened. NaN and
            infinity are refused, and so is what is too large for the dtype; zero is legal and,
            under cosine, at distance 1 from everything.
        metadata : dict, optional
            Any JSON-like values by name: texts, numbers, booleans, None, lists, dicts. Searches can
            choose by it and return it; it is stored in the same commit as the vector.

        Raises
        ------
        ValueError
            Wrong length, or not finite; NaN in the metadata. Nothing is written.
        TypeError
            Something in the metadata is no JSON value.

        Notes
        -----
        With ``sync_on_write=True`` the row is on disk when the call returns, and searchable.

        Examples
        --------
        >>> store.insert("doc1", np.ones(64))
        >>> "doc1" in store
        True
        >>> store.insert("doc2", np.ones(64), {"lang": "en", "year": 2024, "tags": ["a", "b"]})
        >>> store.get_metadata("doc2")["year"]
        2024
        """
        row = one_row(vector, self._dimensions, "vector", self.path)
        text = metadata_text(metadata)
        if self._faiss:
            self._write([key], row[None], None if text is None else [text])
        else:
            self._insert(key, row, text)

    def insert_batch(
        self,
        keys: Iterable[str],
        vectors: npt.ArrayLike,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Store many vectors in one commit: all of them or, on an error, none.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last vector.
        vectors : array_like, shape (len(keys), dimensions)
            As in `insert`. An error names the row.
        metadata : iterable of dict or None, optional
            One for each row, as in `insert`.

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
        rows = many_rows(vectors, self._dimensions, "vectors", self.path)
        if len(texts) != len(rows):
            raise refused(f"{len(texts)} keys for {len(rows)} vectors")
        return self._write(texts, rows, metadata_texts(metadata, len(rows)))

    def _write(
        self, keys: list[str], rows: npt.NDArray[np.float32], metadata: list[str | None] | None
    ) -> int:
        if not self._faiss:
            return self._insert_batch(keys, rows, metadata)
        with self._faiss.lock:
            before = self._changes()
            added = self._insert_batch(keys, rows, metadata)
            self._faiss.written(before, keys, added)
            return added

    def insert_batch_fast(
        self,
        keys: Iterable[str],
        vectors: npt.ArrayLike,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """The same as `insert_batch`, under the name that older programs use for bulk loads."""
        return self.insert_batch(keys, vectors, metadata)

    def update_metadata(
        self, key: str, metadata: Mapping[str, Any] | None, *, replace: bool = False
    ) -> bool:
        """Change what is stored with the vector under `key`; the vector stays.

        Parameters
        ----------
        key : str
        metadata : dict or None
            Its fields are added to those that are there, or take their place as a whole. None takes
            all metadata away.
        replace : bool, default False
            True: the row has this metadata only.

        Returns
        -------
        bool
            Whether there is such a row.

        Examples
        --------
        >>> store.insert("doc3", np.ones(64), {"lang": "en", "year": 2023})
        >>> store.update_metadata("doc3", {"year": 2024})
        True
        >>> store.get_metadata("doc3")
        {'lang': 'en', 'year': 2024}
        """
        return self._update_metadata(key, metadata_text(metadata), bool(replace))

    def delete_where(self, filter: Mapping[str, Any]) -> int:
        """Remove every row that matches `filter` (see `search`) in one commit; returns how many.

        Examples
        --------
        >>> store.insert("draft", np.ones(64), {"state": "draft"})
        >>> store.delete_where({"state": "draft"})
        1
        """
        return self._delete_where(_filter(filter))

    def delete(self, key: str) -> None:
        """Remove the vector under `key`, and its metadata; a missing key is no error.

        Examples
        --------
        >>> store.insert("old", np.ones(64))
        >>> store.delete("old")
        >>> store.get("old") is None
        True
        """
        if not self._faiss:
            self._delete(key)
            return
        with self._faiss.lock:
            before = self._changes()
            if self._delete(key):
                self._faiss.removed(before, key)

    def build_index(self, *, progress: bool | Callable[[int, int], object] | None = None) -> None:
        """Build the graph over all rows now, whatever their number and the backend.

        A store builds and extends its graph by itself; this does it at a time of your choosing.
        Searches and inserts go on meanwhile.

        Parameters
        ----------
        progress : bool or callable, optional
            True draws a bar on standard error, a callable gets rows done and in all.

        Examples
        --------
        >>> _ = store.insert_batch(["a", "b"], np.eye(2, 64))
        >>> store.build_index()
        >>> store.has_index
        True
        """
        if self._faiss:
            self._faiss.build_with(progress)
        else:
            self._build_index(progress)

    def absorb(self, *, progress: bool | Callable[[int, int], object] | None = None) -> None:
        """Do now what the background thread would do sooner or later.

        When it returns, every row is in the graph, if there is one or the store has 10,000 rows; a
        smaller store needs none. Searches and inserts go on meanwhile.

        Parameters
        ----------
        progress : bool or callable, optional
            As in `build_index`.

        Examples
        --------
        >>> store.absorb()
        """
        self._absorb(progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """The vector under `key`, a new float32 array whatever the store's dtype is, or None."""
        return self._get(key)

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """What is stored with the vector under `key`, a new dict; None when nothing is.

        Examples
        --------
        >>> store.insert("doc4", np.ones(64), {"lang": "fr"})
        >>> store.get_metadata("doc4")
        {'lang': 'fr'}
        """
        return metadata_of(self._metadata(key))

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in store``."""
        return self._contains(key)

    def __contains__(self, key: object) -> bool:
        return self._contains(key)

    def keys(self, filter: Mapping[str, Any] | None = None) -> list[str]:
        """The keys of all vectors, or of those that match, in the order last written."""
        return self._keys(filter_text(filter))

    def rows(self, filter: Mapping[str, Any] | None = None, *, vectors: bool = True) -> Hits:
        """All rows, or those that match, with vectors and metadata; their score is 0.

        Examples
        --------
        >>> store.insert("doc5", np.ones(64), {"lang": "de"})
        >>> [(row.key, row.metadata) for row in store.rows({"lang": "de"})]
        [('doc5', {'lang': 'de'})]
        """
        rows = self._rows(filter_text(filter), bool(vectors))
        return Hits(rows, self._dimensions, bool(vectors), True)

    def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """How many vectors there are, or match `filter` (see `search`).

        Examples
        --------
        >>> store.count() == len(store)
        True
        >>> store.insert("doc6", np.ones(64), {"lang": "it"})
        >>> store.count({"lang": {"$in": ["it", "pt"]}})
        1
        """
        return len(self) if filter is None else self._count_where(_filter(filter))

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
        filter: Mapping[str, Any] | None = None,
        metadata: bool = True,
    ) -> Hits:
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
            Candidates to keep in the walk over the graph, 1 to 4096: more find more. It is what a
            typical query takes; one around which few rows are nearly as near as the `k`-th ends
            sooner, one around which many are goes on to three times as many.
        recall : float, optional
            Share of the true nearest to find, such as 0.95: the store keeps as many candidates as
            its own measurements say that it takes, and looks at all rows that are not in the graph
            yet. 1.0 is exact.
        exact : bool, default False
            Find what scoring every row would find.
        filter : dict, optional
            Only rows whose metadata matches: ``{"lang": "en", "year": {"$gte": 2020}}``. Fields may
            be compared with ``$eq $ne $lt $lte $gt $gte $in $nin $exists $contains`` and joined by
            ``$and``, ``$or`` (lists of filters) and ``$not``; those of nested dicts are named with
            dots. A list matches when one of its elements does. Numbers compare exactly, other types
            only with their own. A row without the field matches ``$ne``, ``$nin`` and ``"$exists":
            False`` only. The `k` nearest of the rows that match come back, or all of them when they
            are fewer.
        metadata : bool, default True
            False leaves ``metadata`` of the results None, which saves reading it.

        Returns
        -------
        list of SearchResult (`Hits`)
            ``score`` is a distance, smaller is nearer: cosine ``1 - cos(a, b)`` in [0, 2];
            euclidean ``sqrt(sum((a - b)**2))``; dot_product ``-sum(a * b)``. Equal scores come in
            the order in which the vectors were last written. The list is also a
            stream of Arrow data with the columns ``key``, ``score``, ``vector`` and ``metadata``
            (JSON): ``pyarrow.table(hits.table())``, ``polars.DataFrame(hits.table())``.

        Raises
        ------
        ValueError
            `query` has the wrong length or is not finite; `k` is less than 1.

        Notes
        -----
        Exact while there is no graph, with `radius`, and with ``exact=True``; otherwise see `ef`
        and `recall`. With a filter that few rows match, all of these are looked at; with one that
        many match, the graph is walked over these. Which rows the last filter chose is remembered
        until a row changes, so asking many questions with one filter costs its evaluation once.
        Scores are those of the full vectors always, and sums are taken in one fixed
        order, so scores are the same bits on every machine.

        Examples
        --------
        >>> store.insert("doc1", np.ones(64))
        >>> store.search(np.ones(64), k=1)[0].key
        'doc1'
        >>> store.insert("doc7", np.ones(64), {"lang": "en", "year": 2024})
        >>> [hit.key for hit in store.search(np.ones(64), filter={"year": {"$gte": 2024}})]
        ['doc7']
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        how = (search_radius(radius), _ef(ef), _recall(recall), bool(exact), filter_text(filter))
        found = self._find(row, search_limit(k), how, bool(vectors), bool(metadata))
        return Hits(found[0], self._dimensions, bool(vectors), bool(metadata))

    def _find(
        self, rows: npt.NDArray[np.float32], k: int | None, how: _How, vectors: bool, metadata: bool
    ) -> HitBlock | list[list[SearchResult]]:
        if self._faiss and k is not None and _plain(how):
            _check_finite(rows, self.path)
            found = self._faiss.search(rows, k, vectors, metadata)
            if found is not None:
                return found
        radius, ef, recall, exact, filter = how
        return self._search(rows, k, radius, vectors, ef, recall, exact, filter, metadata)[0]

    def explain(
        self,
        query: npt.ArrayLike,
        k: int | None = 10,
        *,
        radius: float | None = None,
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
        filter: Mapping[str, Any] | None = None,
    ) -> SearchPlan:
        """Search as `search` does, and tell how instead of what was found.

        Examples
        --------
        >>> store.insert("doc1", np.ones(64))
        >>> store.explain(np.ones(64), k=1).plan
        'scan'
        """
        row = one_row(query, self._dimensions, "query", self.path)[None]
        limit, within, text = search_limit(k), search_radius(radius), filter_text(filter)
        how = (within, _ef(ef), _recall(recall), bool(exact), text)
        if self._faiss and limit is not None and _plain(how):
            _check_finite(row, self.path)
            if self._faiss.search(row, limit, False, False) is not None:
                scored = self._faiss.candidates(limit)
                return SearchPlan("faiss", 0, 0.0, 0, scored, 0, len(self))
        plan, kept, expected, codes, scored, hops, matches = self._search(
            row, limit, within, False, how[1], how[2], how[3], text, False
        )[1]
        return SearchPlan(_PLANS[plan], kept, expected, codes, scored, hops, matches)

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
        filter: Mapping[str, Any] | None = None,
        metadata: bool = True,
    ) -> BatchHits:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        All of them see the same rows. Exact searches are several times faster this way, because
        the rows pass through the processor once for all queries. Results are made when they are
        looked at: who wants columns takes ``found.table()``, which makes none.

        Parameters
        ----------
        queries : array_like, shape (any, dimensions)
        k, radius, vectors, ef, recall, exact, filter, metadata
            As in `search`.

        Examples
        --------
        >>> _ = store.insert_batch(["x", "y"], np.eye(2, 64))
        >>> [hits[0].key for hits in store.search_batch(np.eye(2, 64), k=1)]
        ['x', 'y']
        """
        rows = many_rows(queries, self._dimensions, "queries", self.path)
        how = (search_radius(radius), _ef(ef), _recall(recall), bool(exact), filter_text(filter))
        found = self._find(rows, search_limit(k), how, bool(vectors), bool(metadata))
        return BatchHits(found, self._dimensions, bool(vectors), bool(metadata))


#: Radius, ef (0: not given), recall (0: not given), exact, filter: what FAISS is not asked about.
_How = tuple[Optional[float], int, float, bool, Optional[str]]


def _check_finite(queries: npt.NDArray[np.float32], path: str) -> None:
    for number, query in enumerate(queries):
        if not np.isfinite(query).all():
            raise refused(f"query {number} has elements that are not finite", path)


def _plain(how: _How) -> bool:
    return how == (None, 0, 0.0, False, None)


def _filter(filter: Mapping[str, Any]) -> str:
    """A filter that must be given: None would mean every row."""
    text = filter_text(filter)
    if text is None:
        raise TypeError("filter is a dict, not NoneType")
    return text


def _option(name: str, value: int, low: int, high: int) -> int:
    number = operator.index(value)
    if not low <= number <= high:
        raise refused(f"{name} is {number}; expected {low} to {high}")
    return number


def _dtype_name(dtype: npt.DTypeLike | None) -> str | None:
    if dtype is None or (isinstance(dtype, str) and dtype in _DTYPES):
        return dtype
    try:
        return np.dtype(dtype).name  # ml_dtypes.bfloat16 is a numpy dtype, too
    except TypeError:
        return str(dtype)


def _named(what: str, name: str | None, names: tuple[str, ...]) -> int:
    """Its number in the core, from 1 on; 0: not given."""
    if name is None:
        return 0
    if name not in names:
        raise refused(f"{what} {name!r}; expected one of {', '.join(names)}")
    return names.index(name) + 1


def _ef(ef: int | None) -> int:
    return 0 if ef is None else _option("ef", ef, 1, 4096)


def _recall(recall: float | None) -> float:
    if recall is None:
        return 0.0
    if not 0.0 < recall <= 1.0:
        raise refused(f"recall is {recall}; expected more than 0 and at most 1")
    return float(recall)


__all__ = ["SearchPlan", "SearchResult", "VectorStats", "VectorStore"]
