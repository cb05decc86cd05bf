"""`HybridRetriever`: one search over vectors and over words, the two lists made one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synadb._arrays import refused, search_limit

_METHODS = ("rrf", "weighted")
_DEPTH_LEAST = 50
_DEPTH_FACTOR = 4


@dataclass(frozen=True)
class SourceHit:
    """What one of the two searches said of a document.

    Attributes
    ----------
    rank : int
        1 for its best.
    score : float
        As that store gives it: a distance, smaller is nearer, from vectors; larger is better from
        words.
    share : float
        What it adds to the score of the whole.
    """

    rank: int
    score: float
    share: float


@dataclass(frozen=True)
class HybridResult:
    """One document that a hybrid search found.

    Attributes
    ----------
    key : str
    score : float
        The sum of the shares of the sources; larger is better.
    dense, lexical : SourceHit or None
        None where that search did not have it among its best.
    text : str or None
        The text, when the lexical search found the document and stores texts.
    metadata : dict or None
        The metadata, when one of the stores gave them.
    """

    key: str
    score: float
    dense: SourceHit | None
    lexical: SourceHit | None
    text: str | None = field(default=None, repr=False, compare=False)
    metadata: dict[str, Any] | None = field(default=None, repr=False, compare=False)


class _Source:
    """One of the two stores: what of our arguments its ``search`` takes."""

    def __init__(self, store: Any, name: str) -> None:
        if not callable(getattr(store, "search", None)):
            raise TypeError(f"{name} has no method `search`: {type(store).__name__}")
        self.store = store
        self.name = name
        parameters = inspect.signature(store.search).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self.filters = takes_all or "filter" in parameters
        self.fixed: dict[str, Any] = {"vectors": False} if "vectors" in parameters else {}

    def search(
        self, query: Any, depth: int, filter: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> list[Any]:
        given = {**self.fixed, **options}
        if filter is not None:
            if not self.filters:
                raise refused(f"{type(self.store).__name__}, the {self.name} store, has no filter")
            given["filter"] = filter
        found: list[Any] = self.store.search(query, k=depth, **given)
        return found


class HybridRetriever:
    """Search vectors and words at once.

    Documents are told apart by their keys: store each under one key in both. The stores stay
    yours to open, to fill and to close.

    Parameters
    ----------
    dense : VectorStore, MmapVectorStore, GravityWellIndex, CascadeIndex, ...
        Anything with ``search(query, k=...)`` that returns results with ``key`` and ``score``, best
        first.
    lexical : TextIndex, SparseVectorStore, ...
        The same, for the query in words (or for a sparse vector, with a store of those).
    method : {"rrf", "weighted"}, default "rrf"
        How the two lists become one. ``"rrf"``: by ranks alone, each list adds
        ``weight / (rrf_k + rank)``. ``"weighted"``: by scores, each list's scores brought to 0 to 1
        between its worst and its best and weighted.
    alpha : float, default 0.5
        Weight of the dense list, 0 to 1; the lexical one has ``1 - alpha``. With ``"rrf"`` both are
        doubled, so that 0.5 gives the usual sum of ``1 / (rrf_k + rank)``.
    rrf_k : float, default 60
        How much the first ranks stand out: less, more. 60 as in Cormack, Clarke and Buettcher 2009.
    depth : int, optional
        How many results of each list are looked at; default four times `k`, at least 50.

    Examples
    --------
    >>> import numpy as np
    >>> from synadb import TextIndex, VectorStore
    >>> with VectorStore(tmp / "v.db", 2) as vectors, TextIndex(tmp / "t.db") as words:
    ...     _ = vectors.insert_batch(["cat", "dog"], np.eye(2))
    ...     _ = words.add_batch(["cat", "dog"], ["a small cat", "a small dog"])
    ...     retriever = HybridRetriever(vectors, words)
    ...     best = retriever.search([0.9, 0.1], "small cat", k=1)[0]
    ...     best.key, best.dense.rank, best.lexical.rank
    ('cat', 1, 1)
    """

    def __init__(
        self,
        dense: Any,
        lexical: Any,
        *,
        method: str = "rrf",
        alpha: float = 0.5,
        rrf_k: float = 60.0,
        depth: int | None = None,
    ) -> None:
        self._dense = _Source(dense, "dense")
        self._lexical = _Source(lexical, "lexical")
        self.method = _checked_method(method)
        self.alpha = _checked_alpha(alpha)
        self.rrf_k = _real(rrf_k, "rrf_k")
        if not 0.0 <= self.rrf_k < float("inf"):
            raise refused(f"rrf_k is {rrf_k}; expected at least 0")
        self.depth = search_limit(depth)

    @property
    def dense(self) -> Any:
        """The store of vectors."""
        return self._dense.store

    @property
    def lexical(self) -> Any:
        """The store of words."""
        return self._lexical.store

    def __repr__(self) -> str:
        dense, lexical = type(self.dense).__name__, type(self.lexical).__name__
        return f"<{type(self).__name__} {dense} + {lexical}, {self.method}, alpha {self.alpha:g}>"

    def search(
        self,
        vector: Any = None,
        text: Any = None,
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        method: str | None = None,
        alpha: float | None = None,
        depth: int | None = None,
        dense_options: Mapping[str, Any] | None = None,
        lexical_options: Mapping[str, Any] | None = None,
    ) -> list[HybridResult]:
        """Return the `k` documents that fit best, best first.

        Parameters
        ----------
        vector : array_like, optional
            The query for the dense store. None: words alone.
        text : str, optional
            The query for the lexical store (a sparse vector where it is a store of those). None:
            vectors alone.
        k : int, default 10
            At least 1.
        filter : mapping, optional
            As in the stores' own searches; handed to both, so both have to hold the metadata.
        method, alpha, depth
            As for the retriever, for this search alone.
        dense_options, lexical_options : mapping, optional
            More keywords for one of the stores' ``search``, such as ``{"recall": 0.95}`` or
            ``{"operator": "and"}``.

        Returns
        -------
        list of HybridResult
            Equal scores: what the dense store ranks higher comes first, then what the lexical one
            does.

        Raises
        ------
        ValueError
            Neither a vector nor a text, arguments out of range, or a filter for a store that has
            none.

        Examples
        --------
        >>> from synadb import TextIndex, VectorStore
        >>> with VectorStore(tmp / "v.db", 2) as vectors, TextIndex(tmp / "t.db") as words:
        ...     vectors.insert("a", [1.0, 0.0])
        ...     words.add("b", "some words")
        ...     hits = HybridRetriever(vectors, words).search([1.0, 0.0], "words")
        >>> [(hit.key, round(hit.score, 4)) for hit in hits]
        [('a', 0.0164), ('b', 0.0164)]
        """
        limit = search_limit(k)
        if limit is None:
            raise refused("k is None; expected at least 1")
        if vector is None and text is None:
            raise refused("neither a vector nor a text to search for")
        how = self.method if method is None else _checked_method(method)
        weight = self.alpha if alpha is None else _checked_alpha(alpha)
        deep = search_limit(depth) or self.depth or max(_DEPTH_FACTOR * limit, _DEPTH_LEAST)
        deep = max(deep, limit)
        dense = (
            [] if vector is None else self._dense.search(vector, deep, filter, dense_options or {})
        )
        lexical = (
            [] if text is None else self._lexical.search(text, deep, filter, lexical_options or {})
        )
        return self._merge(dense, lexical, limit, how, weight)

    def _merge(
        self, dense: list[Any], lexical: list[Any], k: int, method: str, alpha: float
    ) -> list[HybridResult]:
        shares = _by_rank if method == "rrf" else _by_score
        left = _source_hits(dense, shares(dense, alpha, self.rrf_k))
        right = _source_hits(lexical, shares(lexical, 1.0 - alpha, self.rrf_k))
        facts = {hit.key: hit for hit in dense}
        words = {hit.key: hit for hit in lexical}
        scores = {
            key: sum(source[key].share for source in (left, right) if key in source)
            for key in {**left, **right}
        }
        last = len(left) + len(right) + 1

        def order(key: str) -> tuple[float, int, int]:
            first, second = left.get(key), right.get(key)
            return (-scores[key], first.rank if first else last, second.rank if second else last)

        return [
            HybridResult(
                key,
                scores[key],
                left.get(key),
                right.get(key),
                getattr(words.get(key), "text", None),
                _first_metadata(words.get(key), facts.get(key)),
            )
            for key in sorted(scores, key=order)[:k]
        ]


def _by_rank(hits: Sequence[Any], weight: float, rrf_k: float) -> list[float]:
    return [2.0 * weight / (rrf_k + rank) for rank in range(1, len(hits) + 1)]


def _by_score(hits: Sequence[Any], weight: float, rrf_k: float) -> list[float]:
    """Between the worst (0) and the best (1) of the list, whichever way its scores run."""
    if not hits:
        return []
    best, worst = float(hits[0].score), float(hits[-1].score)
    if best == worst:
        return [weight] * len(hits)
    return [weight * (float(hit.score) - worst) / (best - worst) for hit in hits]


def _source_hits(hits: Sequence[Any], shares: list[float]) -> dict[str, SourceHit]:
    return {
        hit.key: SourceHit(rank, float(hit.score), share)
        for rank, (hit, share) in enumerate(zip(hits, shares), 1)
    }


def _first_metadata(*hits: Any) -> dict[str, Any] | None:
    for hit in hits:
        metadata: dict[str, Any] | None = getattr(hit, "metadata", None)
        if metadata is not None:
            return metadata
    return None


def _checked_method(method: str) -> str:
    if method not in _METHODS:
        raise refused(f"method {method!r}; expected 'rrf' or 'weighted'")
    return method


def _checked_alpha(alpha: float) -> float:
    weight = _real(alpha, "alpha")
    if not 0.0 <= weight <= 1.0:
        raise refused(f"alpha is {alpha}; expected 0 to 1")
    return weight


def _real(given: Any, what: str) -> float:
    if isinstance(given, (str, bytes)):  # float() reads them
        raise TypeError(f"{what} is a number, not {type(given).__name__}")
    return float(given)


__all__ = ["HybridResult", "HybridRetriever", "SourceHit"]
