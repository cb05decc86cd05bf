"""`SparseVectorStore`: sparse vectors under keys, searched by dot product."""

from __future__ import annotations

import importlib
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from synadb._arrays import float32, refused, search_limit
from synadb._core import sparse as _sparse
from synadb.errors import ClosedError
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts

#: One sparse vector: ``{index: value}``, pairs ``[(index, value), ...]``, a pair of arrays
#: ``(indices, values)``, a `SparseVector`, or a SciPy row of shape ``(1, vocab_size)``.
SparseLike = Any

_UINT32 = np.dtype(np.uint32)
_Pairs = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]
_Arrays = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.float32]]


class _ResultFields:
    """The places of a result's fields: an object without a dict is made in a third of the time."""

    __slots__ = ("key", "metadata", "score")


@dataclass(frozen=True)
class SparseSearchResult(_ResultFields):
    """One row that a search found.

    Attributes
    ----------
    key : str
    score : float
        The dot product with the query: more is better.
    metadata : dict or None
        What was stored with the row; None when it has none or was not asked for. Results compare by
        key and score alone.
    """

    key: str
    score: float
    metadata: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.score, self.metadata)


# The constructor knows this default; as an attribute of the class it would hide the place.
for _name in ("metadata",):
    delattr(SparseSearchResult, _name)
_RESULTS = _sparse.SparseResults(SparseSearchResult)


@dataclass(frozen=True, eq=False)
class SparseVector:
    """A stored row.

    Attributes
    ----------
    indices : ndarray of uint32
        Ascending.
    values : ndarray of float32
    metadata : dict or None
    """

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[int, float]:
        """``{index: value}``."""
        return dict(zip(self.indices.tolist(), self.values.tolist()))


@dataclass(frozen=True)
class SparseIndexStats:
    """Facts and figures about an open sparse store.

    Attributes
    ----------
    num_vectors : int
        Rows in the store; also ``num_documents``.
    vocab_size : int
        Indices are below it; also ``num_terms``.
    total_postings : int
        Non-zero values in all rows; also ``num_postings``.
    avg_nnz : float
        Of a row; also ``avg_doc_length``.
    memory_bytes : int
        Memory of its own: the inverted index, key table, metadata. The rows are in the mapped file.
    mapped_bytes : int
        The part of the index that is used in place in the saved file.
    file_bytes : int
        The log's length.
    dead_rows : int
        Replaced or deleted rows that still have a number.
    windows, fresh_rows : int
        Sealed parts of the index, and rows that are in none yet: those are searched one by one.
    """

    num_vectors: int
    vocab_size: int
    total_postings: int
    avg_nnz: float
    memory_bytes: int = 0
    mapped_bytes: int = 0
    file_bytes: int = 0
    dead_rows: int = 0
    windows: int = 0
    fresh_rows: int = 0

    @property
    def num_documents(self) -> int:
        """`num_vectors` under another name."""
        return self.num_vectors

    @property
    def num_terms(self) -> int:
        """`vocab_size` under another name."""
        return self.vocab_size

    @property
    def num_postings(self) -> int:
        """`total_postings` under another name."""
        return self.total_postings

    @property
    def avg_doc_length(self) -> float:
        """`avg_nnz` under another name."""
        return self.avg_nnz


@dataclass(frozen=True)
class SparsePlan:
    """How a search was answered, see `SparseVectorStore.explain`.

    Attributes
    ----------
    windows : int
        Windows of rows that were looked into.
    postings : int
        8-bit impacts that were added up.
    rows_scored : int
        Rows whose score was computed exactly.
    matches : int
        Rows that the filter leaves; without one all rows.
    """

    windows: int
    postings: int
    rows_scored: int
    matches: int


class SparseVectorStore(_sparse.SparseHandle):
    """Sparse vectors under keys in one file, searched by dot product, exactly: an inverted index.

    For learned sparse encoders (SPLADE), TF-IDF, BM25 weights, hashed features.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log:
        ``synadb verify``, backups and histories work on it. Opening a file twice in one process
        gives two objects over one open store.
    vocab_size : int, default 30522
        Indices are 0 to ``vocab_size - 1``; the default is BERT's vocabulary. At most 2**32 - 1.
    sync_on_write : bool, default True
        Every write is on disk when its call returns. False: a write survives the end of the
        process at once, and power loss after `flush`, `save` or `close`; hundreds of times faster.
    read_only : bool, default False
        Never write; the file may be open in a process that does, see `refresh`.
    progress : bool or callable, optional
        Reading the rows at the start: True draws a bar on standard error, a callable gets the
        rows done and in all.

    Raises
    ------
    ValueError
        `vocab_size` out of range, or the file holds rows of another vocabulary size: `open` takes
        the file's. While it holds none, the latest opening decides.
    LockedError
        Another process writes to the file.

    Notes
    -----
    The rows stay in the mapped file; in memory is an inverted index of about 3 bytes a non-zero
    value, saved beside the file as ``<path>.postings`` on `save` and `close`, so that opening again
    is quick; that file may be deleted at any time. Any method may be called from any thread; the
    GIL is released while the core works, and searches run beside writes. After `os.fork` a child
    may search; its writes raise `ForkedError`.

    Examples
    --------
    >>> with SparseVectorStore(tmp / "lexical.svs", vocab_size=30522) as store:
    ...     store.index("doc1", indices=[101, 2054, 3000], values=[0.8, 0.5, 0.25])
    ...     store.index("doc2", indices=[101, 5678, 9012], values=[0.5, 0.4, 0.1])
    ...     for hit in store.search(query_indices=[101, 2054], query_values=[0.5, 0.5], k=10):
    ...         print(f"{hit.key}: {hit.score:.4f}")
    doc1: 0.6500
    doc2: 0.2500
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        vocab_size: int = 30522,
        *,
        sync_on_write: bool = True,
        read_only: bool = False,
        progress: bool | Callable[[int, int], object] | None = None,
    ) -> None:
        size = operator.index(vocab_size)
        if not 1 <= size <= _sparse.MAX_VOCABULARY:
            raise refused(f"vocab_size is {size}; expected 1 to {_sparse.MAX_VOCABULARY}")
        self._open(path, size, bool(sync_on_write), bool(read_only), False, progress)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        sync_on_write: bool = True,
        read_only: bool = False,
        progress: bool | Callable[[int, int], object] | None = None,
    ) -> SparseVectorStore:
        """Open a store that exists; the vocabulary's size is the file's.

        Raises
        ------
        SynaIOError
            There is no such file.
        CorruptionError
            It is damaged, or no file of this library.
        ValueError
            No sparse vector was ever stored in it.

        Examples
        --------
        >>> SparseVectorStore(tmp / "few.svs", vocab_size=100).close()
        >>> with SparseVectorStore(tmp / "few.svs", vocab_size=100) as few:
        ...     few.index("a", {7: 1.0})
        >>> with SparseVectorStore.open(tmp / "few.svs") as few:
        ...     few.vocab_size
        100
        """
        store = cls.__new__(cls)
        store._open(path, 0, bool(sync_on_write), bool(read_only), True, progress)
        return store

    # --------------------------------------------------------------------------------- facts

    @property
    def vocab_size(self) -> int:
        """Indices are below it."""
        return self._stats()[0]

    def stats(self) -> SparseIndexStats:
        """Rows, non-zero values, memory and file size.

        Examples
        --------
        >>> sparse.stats().num_vectors == len(sparse)
        True
        """
        vocab, rows, pairs, dead, memory, mapped, file, windows, fresh = self._stats()
        return SparseIndexStats(
            num_vectors=rows,
            vocab_size=vocab,
            total_postings=pairs,
            avg_nnz=pairs / rows if rows else 0.0,
            memory_bytes=memory,
            mapped_bytes=mapped,
            file_bytes=file,
            dead_rows=dead,
            windows=windows,
            fresh_rows=fresh,
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} x {self.vocab_size}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> SparseVectorStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def index(
        self,
        key: str,
        indices: SparseLike,
        values: npt.ArrayLike | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a sparse vector under `key`, replacing the one that was there and its metadata.

        Parameters
        ----------
        key : str
            1 to 65530 bytes of UTF-8 without NUL.
        indices : array_like of int, or a whole vector
            In any order, each in ``[0, vocab_size)``. Without `values`: ``{index: value}``, a list
            of pairs, or a SciPy row.
        values : array_like of float, optional
            As many; finite, of either sign. Values of an index that comes twice are added up, zeros
            are dropped, as SciPy does.
        metadata : mapping, optional
            Anything JSON can say; searches filter by it.

        Raises
        ------
        ValueError
            Lengths differ, an index is outside the vocabulary, a value is not finite. Nothing is
            written.

        Notes
        -----
        With ``sync_on_write=True`` the row is on disk when the call returns, and searchable.

        Examples
        --------
        >>> sparse.index("doc", [4, 9], [0.5, 2.0], metadata={"lang": "en"})
        >>> sparse.index("doc", {4: 0.5, 9: 2.0})
        >>> "doc" in sparse
        True
        """
        terms, weights = _vector(indices, values, "indices")
        facts = None if metadata is None else [metadata_text(metadata)]
        offsets = np.array([0, len(terms)], np.uint64)
        self._index([key], offsets, terms, weights, facts)

    def index_batch(
        self,
        documents: Mapping[str, SparseLike] | Iterable[Any],
        matrix: Any = None,
        *,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Store many sparse vectors in one commit: all of them or, on an error, none.

        Parameters
        ----------
        documents : mapping or iterable
            ``{key: vector}``, or ``(key, vector)`` and ``(key, indices, values)`` tuples; with
            `matrix` the keys alone. A key that occurs twice keeps its last vector.
        matrix : SciPy sparse matrix or array, shape (len(documents), vocab_size), optional
            Row i is the vector of key i.
        metadata : iterable of mapping or None, optional
            One for each row.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Examples
        --------
        >>> sparse.index_batch({"a": {1: 0.5}, "b": {1: 1.0, 2: 3.0}})
        2
        >>> sparse.index_batch([("b", [2], [4.0]), ("c", {2: 1.0})])
        1
        """
        if isinstance(documents, (str, bytes)):
            raise TypeError(f"documents is a mapping or a list, not one {type(documents).__name__}")
        if matrix is not None:
            keys = list(documents)
            offsets, terms, weights = _csr(matrix)
            if len(offsets) - 1 != len(keys):
                raise refused(f"{len(keys)} keys for a matrix of {len(offsets) - 1} rows")
        else:
            pairs = documents.items() if isinstance(documents, Mapping) else documents
            keys, vectors = _documents(pairs)
            offsets, terms, weights = _stack(vectors)
        return self._index(keys, offsets, terms, weights, metadata_texts(metadata, len(keys)))

    def update_metadata(
        self, key: str, metadata: Mapping[str, Any] | None, *, replace: bool = False
    ) -> bool:
        """Change what is stored with the vector under `key`; the vector stays.

        The row is written anew with its vector: it is durable as an indexed one is, and counts as
        the one written last.

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
        >>> sparse.index("note", {3: 1.0}, metadata={"lang": "en", "year": 2023})
        >>> sparse.update_metadata("note", {"year": 2024}), sparse.get_metadata("note")
        (True, {'lang': 'en', 'year': 2024})
        """
        return self._update_metadata(key, metadata_text(metadata), bool(replace))

    def delete(self, key: str) -> bool:
        """Remove the vector under `key`. Returns whether there was one.

        Examples
        --------
        >>> sparse.index("old", {1: 1.0})
        >>> sparse.delete("old"), sparse.delete("old")
        (True, False)
        """
        return self._delete(key)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Make everything durable and save the index beside the file, so that opening is quick.

        Parameters
        ----------
        path : str or os.PathLike, optional
            Copy the store to this new file as well.

        Raises
        ------
        SynaIOError
            The disk refused, or `path` exists.

        Notes
        -----
        Nothing that was acknowledged needs it: rows are in the file already.
        """
        self._save()
        if path is not None:
            from synadb.db import SynaDB

            with SynaDB(self.path, read_only=True) as db:
                db.backup(path)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> SparseVector | None:
        """The vector under `key` with its metadata, or None.

        Examples
        --------
        >>> sparse.index("mine", [9, 4], [2.0, 0.5])
        >>> sparse.get("mine").to_dict()
        {4: 0.5, 9: 2.0}
        """
        row = self._get(key)
        return None if row is None else SparseVector(row[0], row[1], metadata_of(row[2]))

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """What is stored with the vector under `key`, a new dict; None when nothing is."""
        return metadata_of(self._get_metadata(key))

    def contains(self, key: str) -> bool:
        """Whether there is a vector under `key`; also ``key in store``."""
        return self._contains(key)

    def __contains__(self, key: object) -> bool:
        return self._contains(key)

    def keys(self) -> list[str]:
        """The keys of all vectors, in the order in which they were last written."""
        return self._keys()

    def to_csr(self) -> tuple[list[str], Any]:
        """All vectors as the rows of a SciPy CSR array, and their keys.

        Returns
        -------
        keys : list of str
        matrix : scipy.sparse.csr_array of float32, shape (len(keys), vocab_size)

        Notes
        -----
        Needs SciPy. Rows that are written meanwhile may be seen or not.

        ``keys, matrix = sparse.to_csr()`` gives what ``index_batch(keys, matrix)`` takes.
        """
        try:
            csr_array = importlib.import_module("scipy.sparse").csr_array
        except ImportError as error:
            raise ImportError("to_csr needs SciPy: pip install scipy") from error
        keys = []
        rows = []
        for key in self._keys():
            row = self._get(key)
            if row is not None:
                keys.append(key)
                rows.append((row[0], row[1]))
        offsets, terms, weights = _stack(rows)
        shape = (len(keys), self.vocab_size)
        return keys, csr_array((weights, terms.astype(np.int64), offsets.astype(np.int64)), shape)

    # ----------------------------------------------------------------------------- searching

    def search(
        self,
        query_indices: SparseLike,
        query_values: npt.ArrayLike | None = None,
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        recall: float | None = None,
        metadata: bool = True,
    ) -> list[SparseSearchResult]:
        """Return the `k` stored vectors with the largest dot product, best first.

        Parameters
        ----------
        query_indices : array_like of int, or a whole vector
            As in `index`.
        query_values : array_like of float, optional
            As many.
        k : int or None, default 10
            At least 1. Fewer results come back when fewer vectors share an index with the query;
            None: all that do.
        filter : mapping, optional
            Only vectors whose metadata match: ``{"year": 2024}``, ``{"year": {"$gte": 2020}}``, and
            ``$and $or $not $in $nin $exists $contains``.
        min_score : float, optional
            Only vectors with ``score >= min_score``.
        recall : float, optional
            Below 1, searches leave out what adds least for the time it takes, and find about this
            share of the `k` best: the first such search measures how much may be left out, by some
            thousands of searches for queries made of stored vectors, and so does one that finds
            half as many vectors more, or fewer. Queries unlike the stored vectors may find less.
            With a filter, or `k` above 100, all are found, as by default.
        metadata : bool, default True
            False leaves ``metadata`` of the results None.

        Returns
        -------
        list of SparseSearchResult
            ``score`` is ``sum(query[i] * vector[i])``, summed by ascending index in double
            precision and rounded to float32 once: the same bits everywhere. Vectors that score
            exactly 0 are left out; equal scores come in the order in which the vectors were last
            written.

        Raises
        ------
        ValueError
            Lengths differ, an index is outside the vocabulary, a value is not finite, `k` is less
            than 1, or the filter is none.

        Examples
        --------
        >>> rows = {"x": {3: 1.0, 5: 1.0}, "y": {3: 2.0}}
        >>> _ = sparse.index_batch(rows, metadata=[{"n": 1}, {"n": 2}])
        >>> sparse.search([3, 5], [1.0, 0.5], k=1)
        [SparseSearchResult(key='y', score=2.0)]
        >>> sparse.search({3: 1.0}, filter={"n": 1})
        [SparseSearchResult(key='x', score=1.0)]
        """
        if isinstance(query_values, (int, np.integer)) and isinstance(query_indices, Mapping):
            k = int(query_values)  # search({index: value}, k)
            query_values = None
        vector = _vector(query_indices, query_values, "query_indices")
        found, _ = self._search(
            None,
            *vector,
            search_limit(k),
            min_score,
            None if filter is None else filter_text(filter),
            recall,
            metadata,
            _RESULTS,
        )
        return found[0]

    def search_batch(
        self,
        queries: Iterable[SparseLike] | Any,
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        recall: float | None = None,
        metadata: bool = True,
    ) -> list[list[SparseSearchResult]]:
        """`search` for many queries in one call; all of them see the same rows.

        Parameters
        ----------
        queries : iterable of vectors, or a SciPy sparse matrix with a row for each query

        Examples
        --------
        >>> sparse.index("one", {3: 1.0})
        >>> [len(hits) for hits in sparse.search_batch([{3: 1.0}, {1000: 1.0}], k=1)]
        [1, 0]
        """
        arrays = _csr(queries) if _is_scipy(queries) else _stack([_vector(q) for q in queries])
        return self._search(
            *arrays,
            search_limit(k),
            min_score,
            None if filter is None else filter_text(filter),
            recall,
            metadata,
            _RESULTS,
        )[0]

    def explain(
        self,
        query_indices: SparseLike,
        query_values: npt.ArrayLike | None = None,
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        recall: float | None = None,
    ) -> SparsePlan:
        """Search, and tell how the search was answered.

        Examples
        --------
        >>> sparse.explain({3: 1.0}).matches == len(sparse)
        True
        """
        told = self._search(
            None,
            *_vector(query_indices, query_values, "query_indices"),
            search_limit(k),
            None,
            filter_text(filter),
            recall,
            False,
            _RESULTS,
        )[1]
        return SparsePlan(*told)


# ------------------------------------------------------------------------------------- arguments


def _is_scipy(given: Any) -> bool:
    """Whether it is a SciPy sparse matrix or array, without importing SciPy."""
    return hasattr(given, "tocsr") and hasattr(given, "shape")


def _terms(given: npt.ArrayLike, what: str) -> npt.NDArray[np.uint32]:
    array = given if type(given) is np.ndarray else np.asarray(given)
    if array.ndim != 1:
        array = array.reshape(-1)
    if array.dtype == _UINT32:  # the core compares them with the vocabulary
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if array.size == 0:
        return np.empty(0, np.uint32)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what}: expected integers, not dtype {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 0xFFFFFFFF:
        raise refused(f"{what}: {low if low < 0 else high} is outside the vocabulary")
    return np.ascontiguousarray(array, np.uint32)


def _weights(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    array = float32(given, what)
    return array if array.ndim == 1 else array.reshape(-1)


def _two(indices: npt.ArrayLike, values: npt.ArrayLike, what: str) -> _Pairs:
    terms, weights = _terms(indices, what), _weights(values, "values")
    if len(terms) != len(weights):
        raise refused(f"{len(terms)} {what} and {len(weights)} values")
    return terms, weights


def _vector(
    given: SparseLike, values: npt.ArrayLike | None = None, what: str = "indices"
) -> _Pairs:
    """Any form of one sparse vector."""
    if values is not None:
        return _two(given, values, what)
    if isinstance(given, SparseVector):
        return _two(given.indices, given.values, what)
    if isinstance(given, Mapping):
        return _two(list(given.keys()), list(given.values()), what)
    if _is_scipy(given):
        offsets, terms, weights = _csr(given if len(given.shape) == 2 else given.reshape((1, -1)))
        if len(offsets) != 2:
            raise refused(f"a matrix of {len(offsets) - 1} rows, expected one")
        return terms, weights
    if isinstance(given, tuple):
        if len(given) != 2:
            raise refused(f"a tuple of {len(given)} items is no pair of indices and values")
        return _two(given[0], given[1], what)
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        raise TypeError(f"{what}: {type(given).__name__} is no sparse vector")
    pairs = list(given)
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        raise refused(f"{what} without values is a mapping, (index, value) pairs or a SciPy row")
    return _two([pair[0] for pair in pairs], [pair[1] for pair in pairs], what)


def _documents(given: Iterable[Any]) -> tuple[list[str], list[_Pairs]]:
    keys: list[str] = []
    vectors: list[_Pairs] = []
    for document in given:
        if not isinstance(document, (tuple, list)) or len(document) not in (2, 3):
            raise TypeError("a document is (key, vector) or (key, indices, values)")
        keys.append(document[0])
        what = f"document {len(keys) - 1}"
        vectors.append(_vector(document[1], document[2] if len(document) == 3 else None, what))
    return keys, vectors


def _stack(vectors: list[_Pairs]) -> _Arrays:
    if len(vectors) == 1:
        terms, weights = vectors[0]
        return np.array((0, len(terms)), np.uint64), terms, weights
    offsets = np.zeros(len(vectors) + 1, np.uint64)
    if not vectors:
        return offsets, np.empty(0, np.uint32), np.empty(0, np.float32)
    np.cumsum([len(terms) for terms, _ in vectors], out=offsets[1:])
    return (
        offsets,
        np.concatenate([terms for terms, _ in vectors]),
        np.concatenate([weights for _, weights in vectors]),
    )


def _csr(matrix: Any) -> _Arrays:
    """The arrays of a SciPy sparse matrix of any format."""
    if not _is_scipy(matrix):
        raise TypeError(f"expected a SciPy sparse matrix, not {type(matrix).__name__}")
    rows = matrix.tocsr()
    offsets = np.ascontiguousarray(rows.indptr, np.uint64)
    return offsets, _terms(rows.indices, "matrix"), _weights(rows.data, "matrix")
