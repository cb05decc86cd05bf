"""The index types of FAISS over the rows of a `VectorStore` (``backend="faiss"``).

The rows stay where they are, in the store's file; the index is derived from them, stands in memory,
and is made again after the store was opened. FAISS chooses candidates; which rows exist and what
they score is the store's own business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synadb._arrays import refused
from synadb._bar import Bar
from synadb._optional import need
from synadb.filters import metadata_of
from synadb.types import SearchResult

if TYPE_CHECKING:
    from synadb._core.vectors import VectorHandle

_AUTO_ROWS = 10_000  # fewer are searched exactly in no more time
_TRAIN_ROWS = 39  # for each list of an inverted file: what FAISS asks for
_ADD_ROWS = 8192  # at a time, between looks at the progress callback
_DEAD_SHARE = 4  # a quarter of the rows in the index are gone: make it anew
_SPARE = 8  # candidates asked for beyond k, for rows that are gone

_Rows = npt.NDArray[np.float32]


class FaissIndex:
    """One index, and which row of it stands for which key.

    Parameters
    ----------
    store : VectorHandle
        Whose rows it is for; every change made through it is told by `written` or `removed`.
        Changes made otherwise (another object over the same file) are noticed by their number.
    dimensions, metric
        Those of the store.
    index_type : str
        As ``faiss.index_factory`` takes it.
    nprobe : int
        Lists of an inverted file that a search visits.
    use_gpu : bool
        Put the index on all GPUs that FAISS sees.

    Raises
    ------
    ImportError
        FAISS is not installed.
    ValueError
        It does not know the index type, or sees no GPU.
    """

    def __init__(
        self,
        store: VectorHandle,
        dimensions: int,
        metric: str,
        index_type: str,
        nprobe: int,
        use_gpu: bool,
    ) -> None:
        self._faiss = need("faiss", "faiss")
        if use_gpu and self._faiss.get_num_gpus() < 1:
            raise refused("use_gpu=True, but the installed FAISS sees no GPU")
        self._store = store
        self._metric = metric
        self._how = (dimensions, index_type, nprobe, use_gpu)
        self.lock = threading.RLock()  # of changes and searches: FAISS takes one of them at a time
        self._index = self._new_index()
        self._keys: list[str | None] = []  # of the rows in the index; None: it is gone
        self._numbers: dict[str, int] = {}
        self._seen = -1  # the store's count of changes that the index is of; -1: it has no rows

    def _new_index(self) -> Any:
        dimensions, index_type, nprobe, use_gpu = self._how
        faiss = self._faiss
        measure = faiss.METRIC_L2 if self._metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(dimensions, index_type, measure)
        except RuntimeError as error:
            raise refused(
                f"faiss_index_type {index_type!r}: FAISS makes no such index of {dimensions} "
                f"dimensions: {str(error).splitlines()[0][-200:]}"
            ) from error
        lists = faiss.try_extract_index_ivf(index)
        self._lists = lists.nlist if lists is not None else 0
        if lists is not None:
            lists.nprobe = nprobe
            lists.cp.min_points_per_centroid = 1  # what is too few is decided here
        return faiss.index_cpu_to_all_gpus(index) if use_gpu else index

    @property
    def is_trained(self) -> bool:
        return bool(self._index.is_trained)

    @property
    def is_built(self) -> bool:
        return self._seen >= 0

    # --------------------------------------------------------------------------------- rows

    def _rows(self, rows: _Rows) -> _Rows:
        """As the index takes them: under cosine of length 1; zeros stay."""
        if self._metric != "cosine":
            return np.ascontiguousarray(rows)
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    def build_with(self, progress: bool | Callable[[int, int], object] | None) -> None:
        """Make it now; `progress` as in `VectorStore.build_index`."""
        if callable(progress):
            self.build(progress)
        elif progress:
            bar = Bar()
            try:
                self.build(bar)
            finally:
                bar.close()
        else:
            self.build(lambda done, total: None)

    def build(self, progress: Callable[[int, int], object]) -> None:
        """Train it, if need be, and add all rows of the store. On an error it is as before."""
        with self.lock:
            seen = self._store._changes()
            texts, rows, _ = self._store._columns(None)
            index = self._new_index()
            if not index.is_trained:
                self._train(index, rows)
            for start in range(0, len(rows), _ADD_ROWS):
                progress(start, len(rows))
                index.add(self._rows(rows[start : start + _ADD_ROWS]))
            progress(len(rows), len(rows))
            keys = texts.list()
            self._index, self._keys, self._seen = index, list(keys), seen
            self._numbers = {key: number for number, key in enumerate(keys)}

    def _train(self, index: Any, rows: _Rows) -> None:
        try:
            index.train(self._rows(rows))
        except RuntimeError as error:
            raise refused(
                f"faiss_index_type {self._how[1]!r} cannot be trained with {len(rows)} rows: "
                f"{str(error).splitlines()[0][-200:]}",
                self._store.path,
            ) from error

    def written(self, before: int, keys: Sequence[str], added: int) -> None:
        """The rows under `keys` were written, `added` of the keys being new. The lock is held, and
        was when the store's count of changes was `before`."""
        names = list(dict.fromkeys(keys))
        if self._seen != before or self._store._changes() != before + 2 * len(names) - added:
            return  # not made yet, or somebody else wrote too: the next search makes it anew
        rows = [self._store._get(key) for key in names]
        there = [(key, row) for key, row in zip(names, rows) if row is not None]
        if len(there) < len(names):
            return
        for key, _ in there:
            self._forget(key)
        self._index.add(self._rows(np.array([row for _, row in there])))
        for key, _ in there:
            self._numbers[key] = len(self._keys)
            self._keys.append(key)
        self._seen = self._store._changes()

    def removed(self, before: int, key: str) -> None:
        """The row under `key` was deleted; otherwise as `written`."""
        if self._seen == before and self._store._changes() == before + 1:
            self._forget(key)
            self._seen = before + 1

    def _forget(self, key: str) -> None:
        number = self._numbers.pop(key, None)
        if number is not None:
            self._keys[number] = None

    # ------------------------------------------------------------------------------- searching

    def candidates(self, k: int) -> int:
        """How many rows a search for `k` scores."""
        gone = len(self._keys) - len(self._numbers)
        return min(k + gone, 2 * k + _SPARE, len(self._keys))

    def _ready(self) -> bool:
        """Make it, or make it anew, when that is due. The lock is held."""
        gone = len(self._keys) - len(self._numbers)
        if self.is_built and self._seen == self._store._changes():
            if gone <= len(self._keys) // _DEAD_SHARE + _SPARE:
                return True
        elif not self.is_built and len(self._store) < max(_AUTO_ROWS, _TRAIN_ROWS * self._lists):
            return False
        self.build(lambda done, total: None)
        return True

    def search(
        self, queries: _Rows, k: int, vectors: bool, metadata: bool
    ) -> list[list[SearchResult]] | None:
        """The `k` nearest rows of each query; None: search exactly instead, because the index is
        not made yet, or has too few candidates for a query."""
        with self.lock:
            if not self._ready():
                return None
            wanted = min(k, len(self._numbers))
            asked = self.candidates(k)
            if asked == 0:
                return [[] for _ in queries]
            _, found = self._index.search(self._rows(queries), asked)
            keys = [[self._keys[n] for n in numbers if n >= 0] for numbers in found]
            results = [
                self._score(query, [key for key in names if key is not None], vectors, metadata)
                for query, names in zip(queries, keys)
            ]
        if any(len(hits) < wanted for hits in results):
            return None
        return [hits[:k] for hits in results]

    def _score(
        self, query: _Rows, keys: list[str], vectors: bool, metadata: bool
    ) -> list[SearchResult]:
        """Exact scores, best first; equal ones in the order in which FAISS gave them."""
        if not keys:
            return []
        rows = [self._store._get(key) for key in keys]
        there = [(key, row) for key, row in zip(keys, rows) if row is not None]
        scores = _scores(self._metric, query, np.array([row for _, row in there]))
        hits = []
        for i in np.argsort(scores, kind="stable").tolist():
            key, row = there[i]
            hits.append(self._hit(key, row, float(scores[i]), vectors, metadata))
        return hits

    def _hit(
        self, key: str, row: _Rows, score: float, vectors: bool, metadata: bool
    ) -> SearchResult:
        known = metadata_of(self._store._metadata(key)) if metadata else None
        return SearchResult(key, score, row if vectors else None, known)


def _scores(metric: str, query: _Rows, rows: _Rows) -> npt.NDArray[np.float32]:
    """Distances as `VectorStore` defines them, summed in double precision."""
    q, r = query.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        exact = np.sqrt(((r - q) ** 2).sum(axis=1))
    elif metric == "dot_product":
        exact = -(r @ q)
    else:
        lengths = np.linalg.norm(r, axis=1) * np.linalg.norm(q)
        exact = 1 - np.divide(r @ q, lengths, out=np.zeros(len(r)), where=lengths > 0)
        exact = np.clip(exact, 0, 2)
    limit = np.finfo(np.float32).max
    return np.asarray(np.clip(exact, -limit, limit), np.float32)


__all__ = ["FaissIndex"]
