"""Results of vector searches as tables: what Arrow readers get from a list of hits, or a store."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from synadb._core.arrow import Column, Columns
from synadb._core.rows import HitBlock, Texts
from synadb.filters import metadata_text
from synadb.types import SearchResult

__doctest_requires__ = ("pyarrow",)

_Bytes = npt.NDArray[np.uint8]


class Hits(list[SearchResult]):
    """Results of one search, best first: a list that is also a stream of Arrow data.

    ``pyarrow.RecordBatchReader.from_stream(hits)`` reads it as it is. Readers to whom a list is
    rows, pandas, polars and ``pyarrow.table`` among them, get `table`. The columns are ``key``,
    ``score`` (float32), ``vector`` (a fixed-size list of float32) and ``metadata`` (JSON, null
    where a row has none); the last two only when the search returned them.

    Examples
    --------
    >>> import pyarrow as pa
    >>> store.insert("doc1", np.ones(64), {"lang": "en"})
    >>> hits = store.search(np.ones(64), k=1)
    >>> hits[0].key
    'doc1'
    >>> pa.table(hits.table()).column_names
    ['key', 'score', 'vector', 'metadata']
    >>> pa.table(hits.table())["metadata"][0].as_py()
    '{"lang":"en"}'
    """

    __slots__ = ("_form",)

    def __init__(
        self, hits: Iterable[SearchResult], dimensions: int, vectors: bool, metadata: bool
    ) -> None:
        list.__init__(self, hits)
        self._form = (dimensions, vectors, metadata)

    def __reduce__(self) -> Any:
        return Hits, (list(self), *self._form)

    def table(self) -> Columns:
        """The results as nothing but a table: ``pyarrow.table(hits.table())``,
        ``polars.DataFrame(hits.table())``."""
        return Columns(_columns(self, *self._form))

    def __arrow_c_schema__(self) -> object:
        return self.table().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table().__arrow_c_stream__(requested_schema)


class BatchHits(Sequence[Hits]):
    """Results of a batch of searches, a list for each query. Each list is made when it is first
    looked at, so that a batch of thousands costs no more than what is used of it; ``list(found)``
    makes all. As a table they are one below the other, with the number of the query in a column
    ``query`` of its own, and no result is made for that.

    Examples
    --------
    >>> import pyarrow as pa
    >>> _ = store.insert_batch(["x", "y"], np.eye(2, 64))
    >>> found = store.search_batch(np.eye(2, 64), k=1, vectors=False, metadata=False)
    >>> pa.table(found.table()).to_pydict()
    {'query': [0, 1], 'key': ['x', 'y'], 'score': [0.0, 0.0]}
    """

    __slots__ = ("_form", "_found", "_made")

    def __init__(
        self,
        found: HitBlock | list[list[SearchResult]],
        dimensions: int,
        vectors: bool,
        metadata: bool,
    ) -> None:
        self._found = found
        self._made: dict[int, Hits] = {}
        self._form = (dimensions, vectors, metadata)

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, query: SupportsIndex) -> Hits: ...
    @overload
    def __getitem__(self, query: slice) -> list[Hits]: ...
    def __getitem__(self, query: SupportsIndex | slice) -> Hits | list[Hits]:
        if isinstance(query, slice):
            return [self._hits(at) for at in range(*query.indices(len(self)))]
        at = operator.index(query)
        if not -len(self) <= at < len(self):
            raise IndexError(f"query {at} of {len(self)}")
        return self._hits(at % len(self))

    def __iter__(self) -> Iterator[Hits]:
        return map(self._hits, range(len(self)))

    def _hits(self, query: int) -> Hits:
        made = self._made.get(query)
        if made is None:  # of two threads that make it both get the same
            made = self._made.setdefault(query, Hits(self._found[query], *self._form))
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (BatchHits, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # lists have none

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> Any:
        return BatchHits, ([list(hits) for hits in self], *self._form)

    def table(self) -> Columns:
        """All results as one table, see `Hits.table`."""
        if self._made or isinstance(self._found, list):
            counts, columns = self._columns_of_lists()
        else:
            counts, columns = self._columns_of_block(self._found)
        query = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return Columns([Column("query", "l", len(query), (None, query)), *columns])

    def _columns_of_lists(self) -> tuple[list[int], list[Column]]:
        """Whoever looked at a list may have changed it."""
        hits = [hit for one in self for hit in one]
        return [len(one) for one in self], _columns(hits, *self._form)

    def _columns_of_block(self, block: HitBlock) -> tuple[list[int], list[Column]]:
        counts, keys, scores, rows, metadata = block.columns()
        columns = [_stored("key", keys), Column("score", "f", len(scores), (None, scores))]
        if self._form[1]:
            columns.append(vector_column(rows))
        if self._form[2]:
            columns.append(_stored("metadata", metadata))
        return counts, columns

    def __arrow_c_schema__(self) -> object:
        return self.table().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table().__arrow_c_stream__(requested_schema)


class StoredRows:
    """What every store of vectors is to readers of tables: a row for each vector, with the columns
    ``key``, ``vector`` (a fixed-size list of float32) and ``metadata`` (JSON, null where a row has
    none; not there where a store has no metadata), in the order last written.

    Examples
    --------
    >>> import pyarrow as pa
    >>> store.insert("doc1", np.ones(64), {"lang": "en"})
    >>> pa.table(store).column_names
    ['key', 'vector', 'metadata']
    """

    _has_metadata = True

    def _columns(self) -> tuple[Texts, npt.NDArray[np.float32], Texts]:
        """Of the class over the core."""
        raise NotImplementedError

    def _table(self) -> Columns:
        keys, matrix, metadata = self._columns()
        texts = [("metadata", metadata)] if self._has_metadata else []
        return Columns([_stored("key", keys), vector_column(matrix), *(_stored(*t) for t in texts)])

    def __arrow_c_schema__(self) -> object:
        return self._table().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table().__arrow_c_stream__(requested_schema)


class ListedRows(StoredRows):
    """A store whose rows are listed without a filter."""

    _dimensions: int

    def _rows(self, vectors: bool) -> list[SearchResult]:
        """Of the class over the core."""
        raise NotImplementedError

    def rows(self, *, vectors: bool = True) -> Hits:
        """All rows in the order last written, with their vectors and metadata; their score is 0.

        ``vectors=False`` leaves the vectors out. For large stores an Arrow reader that is given
        the store itself takes less time and memory.

        Examples
        --------
        >>> from synadb import CascadeIndex
        >>> with CascadeIndex(tmp / "listed.cascade", 2) as index:
        ...     index.insert("a", [0.0, 1.0], {"lang": "en"})
        ...     print([(row.key, row.metadata) for row in index.rows()])
        [('a', {'lang': 'en'})]
        """
        rows = self._rows(bool(vectors))
        return Hits(rows, self._dimensions, bool(vectors), self._has_metadata)


def _stored(name: str, texts: Texts) -> Column:
    return text_column(name, texts.offsets, texts.data, texts.valid, texts.missing)


def _columns(
    hits: list[SearchResult], dimensions: int, vectors: bool, metadata: bool
) -> list[Column]:
    count = len(hits)
    scores = np.array([hit.score for hit in hits], np.float32)
    columns = [
        _texts("key", [hit.key.encode() for hit in hits]),
        Column("score", "f", count, (None, scores)),
    ]
    if vectors:
        rows = np.empty((count, dimensions), np.float32)
        for row, hit in zip(rows, hits):
            row[:] = hit.vector
        columns.append(vector_column(rows))
    if metadata:
        texts = [metadata_text(hit.metadata) for hit in hits]
        columns.append(_texts("metadata", [None if t is None else t.encode() for t in texts]))
    return columns


def _texts(name: str, texts: list[bytes] | list[bytes | None]) -> Column:
    lengths = [0 if text is None else len(text) for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = b"".join(text for text in texts if text is not None)
    there = np.array([text is not None for text in texts], bool)
    valid = np.packbits(there, bitorder="little")
    return text_column(name, offsets, data, valid, len(texts) - int(there.sum()))


def text_column(
    name: str, offsets: npt.NDArray[np.int64], data: _Bytes | bytes, valid: _Bytes, missing: int
) -> Column:
    """UTF-8 with offsets of 64 bits: no number of rows is too many for it."""
    return Column(
        name, "U", len(offsets) - 1, (valid if missing else None, offsets, data), nulls=missing
    )


def vector_column(rows: npt.NDArray[np.float32]) -> Column:
    """The rows of a matrix as lists of one length."""
    count, dimensions = rows.shape
    items = Column("item", "f", rows.size, (None, rows))
    return Column("vector", f"+w:{dimensions}", count, (None,), [items])


__all__ = ["BatchHits", "Hits", "ListedRows", "StoredRows"]
