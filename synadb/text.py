"""`TextIndex`: documents under keys, found by their words (BM25)."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import index as index_of
from typing import Any, Callable

from synadb._arrays import refused, search_limit
from synadb._core import text as _text
from synadb.errors import ArgumentError, ClosedError, KeyNotFoundError, Reason
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts

_OPERATORS = ("or", "and")
_SNOWBALL = "snowball:"
_CONFIG_KEY = "text-index/config"
_SPACE = re.compile(r"\s+")

#: Functions from word to stem, one a language; a core that was given one may keep it for ever.
_stemmers: dict[str, Callable[[str], str]] = {}


@dataclass(frozen=True)
class Document:
    """A document as it was stored.

    Attributes
    ----------
    key : str
    text : str
    metadata : dict or None
    """

    key: str
    text: str
    metadata: dict[str, Any] | None = None


class _ResultFields:
    """The places of a result's fields: an object without a dict is made in a third of the time."""

    __slots__ = ("key", "metadata", "score", "snippet", "text")


@dataclass(frozen=True)
class TextResult(_ResultFields):
    """One document that a text search found.

    Attributes
    ----------
    key : str
    score : float
        Larger is better.
    text : str or None
        None when the search was asked to leave it out.
    metadata : dict or None
    snippet : str or None
        The part of the text where most words of the query are, with the words marked; None
        unless the search was asked for it. Results compare by key and score alone.
    """

    key: str
    score: float
    text: str | None = field(default=None, repr=False, compare=False)
    metadata: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    snippet: str | None = field(default=None, repr=False, compare=False)
    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.score, self.text, self.metadata, self.snippet)


# The constructor knows these defaults; as attributes of the class they would hide the places.
for _name in ("text", "metadata", "snippet"):
    delattr(TextResult, _name)
_RESULTS = _text.TextResults(TextResult)


@dataclass(frozen=True)
class TextStats:
    """Facts and figures about an open text index.

    Attributes
    ----------
    documents : int
    analyzer : str
        What makes terms of texts here, and ``analyzer_version``, both fixed by the first document.
    analyzer_version : int
    k1, b : float
        The parameters of BM25 in use.
    terms : int
        Different terms, those of replaced and deleted documents included.
    postings : int
        Different terms of each document, summed.
    average_length : float
        Terms of a document, repetitions included.
    dead_rows : int
        Replaced or deleted documents that still take memory; they go when they are many.
    memory_bytes : int
        Memory of its own; what is mapped from the file is not counted.
    file_bytes : int
        The log's length.
    """

    documents: int
    analyzer: str
    analyzer_version: int
    k1: float
    b: float
    terms: int
    postings: int
    average_length: float
    dead_rows: int
    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class TextPlan:
    """How a text search was answered, see `TextIndex.explain`.

    Attributes
    ----------
    terms : int
        Different terms that were searched.
    postings : int
        Documents that have them, summed over the terms.
    candidates : int
        Documents that the filter, required and excluded words admit.
    documents_scored : int
        Documents whose score was computed in full.
    documents_read : int
        Documents whose text was read to look for a phrase.
    """

    terms: int
    postings: int
    candidates: int
    documents_scored: int
    documents_read: int


class TextIndex(_text.TextHandle):
    """Documents under keys in one file, found by their words.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log:
        ``synadb verify``, backups and histories work on it. Opening a file twice in one process
        gives two objects over one open index.
    analyzer : str, optional
        What makes terms of texts and of queries; fixed by the first document. None: that of the
        file, and ``"english"`` for a new one.

        ``"english"``: folded words without stop words (*the*, *of*, ...), stemmed, so that
        *libraries* finds *library*. ``"standard"``: folded words of any language. The name of
        another language such as ``"german"``: folded words with the Snowball stems of that
        language, by the package PyStemmer (``pip install 'synadb[text]'``). With all of them upper
        and lower case and accents do not matter, and scripts without spaces are searched by pairs
        of characters.
    k1 : float, default 1.2
        How much a repeated word counts, 0 to 1000.
    b : float, default 0.75
        How much long documents are held back, 0 to 1.
    sync_on_write : bool, default True
        Every write is on disk when its call returns. False: a write survives the end of the process
        at once, and power loss after `flush` or `close`.
    read_only : bool, default False
        Never write; the file may be open in a process that does, see `refresh`.
    progress : bool or callable, optional
        Reading the documents at the start: True draws a bar on standard error, a callable gets
        the documents done and in all.

    Raises
    ------
    ValueError
        The file was made with another analyser, or with one that is not known here.
    FormatVersionError
        The file was made with another version of its analyser.
    LockedError
        Another process writes to the file.

    Notes
    -----
    Texts stay in the log; in memory are postings, keys and metadata. All but metadata are saved
    beside the file, as ``<path>.text``, on `close` and when a quarter of many documents is new, so
    that opening again is quick and the index takes little memory of its own (6 bytes a posting or
    less); that file may be deleted at any time, and is made anew by the next writer; it is removed
    when an index that was emptied is closed. Any method may be called from any thread; the GIL is
    released while the core works, and searches run beside writes. After `os.fork` a child may
    search; its writes raise `ForkedError`.

    Examples
    --------
    >>> with TextIndex(tmp / "notes.db") as index:
    ...     index.add("a", "Machine learning for vector databases")
    ...     index.add("b", "Neural networks and deep learning", {"year": 2024})
    ...     for hit in index.search("deep network"):
    ...         print(hit.key, round(hit.score, 3), hit.metadata)
    b 1.386 {'year': 2024}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        analyzer: str | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        sync_on_write: bool = True,
        read_only: bool = False,
        progress: bool | Callable[[int, int], object] | None = None,
    ) -> None:
        name, stemmer = _resolve(analyzer)

        def attempt() -> None:
            self._open(
                path, bool(sync_on_write), bool(read_only), bool(read_only), float(k1), float(b),
                name, stemmer, progress,
            )  # fmt: skip

        try:
            attempt()
        except ArgumentError:
            remembered = _remembered(path) if analyzer is None else None
            if remembered is None or not remembered.startswith(_SNOWBALL):
                raise
            name, stemmer = _resolve(remembered)
            attempt()

    # --------------------------------------------------------------------------------- facts

    def stats(self) -> TextStats:
        """Documents, terms, memory and file size, and the analyser.

        Examples
        --------
        >>> index.stats().documents == len(index)
        True
        """
        name, version, k1, b, documents, dead, terms, postings, average, memory, file = (
            self._stats()
        )
        return TextStats(
            documents=documents,
            analyzer=name,
            analyzer_version=version,
            k1=k1,
            b=b,
            terms=terms,
            postings=postings,
            average_length=average,
            dead_rows=dead,
            memory_bytes=memory,
            file_bytes=file,
        )

    @property
    def analyzer(self) -> str:
        """What makes terms of texts here."""
        return self._stats()[0]

    def __repr__(self) -> str:
        name = type(self).__name__
        try:
            return f"<{name} {self.path!r}, {len(self):,} documents, {self.analyzer}>"
        except ClosedError:
            return f"<{name} {self.path!r}, closed>"

    def __enter__(self) -> TextIndex:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- writing

    def add(self, key: str, text: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a document, replacing the one of this key, its metadata included.

        Parameters
        ----------
        key : str
            1 to 65000 bytes of UTF-8 without NUL.
        text : str
            May be empty; at most 1,048,576 words.
        metadata : mapping, optional
            What JSON can hold; `search` filters by it.

        Notes
        -----
        With ``sync_on_write=True`` the document is on disk when the call returns, and searchable.

        Examples
        --------
        >>> index.add("greeting", "Hello, world!", {"lang": "en"})
        >>> "greeting" in index
        True
        """
        self._put([(key, text, metadata_text(metadata))])

    def add_batch(
        self,
        keys: Iterable[str],
        texts: Iterable[str],
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Store many documents in one commit: all of them or, on an error, none.

        Short ones (2 KiB at most) are compressed together, about 4 KiB in one record of the log,
        which halves the file; reading one of them takes some microseconds more.

        Parameters
        ----------
        keys : iterable of str
            A key that occurs twice keeps its last document.
        texts : iterable of str
        metadata : iterable of mapping or None, optional
            One for each document.

        Returns
        -------
        int
            How many keys were new; the others were replaced.

        Examples
        --------
        >>> index.add_batch(["x", "y"], ["one text", "another text"])
        2
        """
        for name, given in (("keys", keys), ("texts", texts)):
            if isinstance(given, (str, bytes)):
                raise TypeError(f"{name} is a sequence of str, not one {type(given).__name__}")
        names, words = list(keys), list(texts)
        if len(names) != len(words):
            raise refused(f"{len(names)} keys, {len(words)} texts")
        facts = metadata_texts(metadata, len(names)) or [None] * len(names)
        return self._put(list(zip(names, words, facts)))

    def update(
        self,
        key: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the text, the metadata or both of a document that exists.

        What is None stays as it is. To take metadata away, `add` the document again.

        Raises
        ------
        KeyNotFoundError
            There is no document of this key.

        Examples
        --------
        >>> index.add("note", "first words", {"n": 1})
        >>> index.update("note", metadata={"n": 2})
        >>> index.get("note")
        Document(key='note', text='first words', metadata={'n': 2})
        """
        if text is None:
            if metadata is None and not self._contains(key):
                raise _missing(key, self.path)
            if metadata is not None:
                self._set_metadata(key, metadata_text(metadata))
            return
        old = self._get(key)
        if old is None:
            raise _missing(key, self.path)
        self._put([(key, text, old[3] if metadata is None else metadata_text(metadata))])

    def update_metadata(self, key: str, metadata: Mapping[str, Any] | None) -> None:
        """Replace the metadata of a document; None: it has none now.

        Raises
        ------
        KeyNotFoundError
            There is no document of this key.
        """
        self._set_metadata(key, metadata_text(metadata))

    def delete(self, key: str) -> bool:
        """Remove the document under `key`, and tell whether there was one.

        Examples
        --------
        >>> index.add("old", "some text")
        >>> index.delete("old"), index.delete("old")
        (True, False)
        """
        return self._delete(key)

    def compact(self, *, progress: bool | Callable[[int, int], object] | None = None) -> None:
        """Rewrite the file with the newest version of each document only.

        Short documents that were added one by one are compressed together, as in `add_batch`.
        Readers and writers go on meanwhile. Histories of replaced documents are gone afterwards.

        Parameters
        ----------
        progress : bool or callable, optional
            True draws a bar on standard error, a callable gets bytes done and in all.
        """
        self._compact(progress)

    # ------------------------------------------------------------------------------- reading

    def get(self, key: str) -> Document | None:
        """The document under `key`, or None."""
        hit = self._get(key)
        if hit is None:
            return None
        return Document(key, hit[2] or "", metadata_of(hit[3]))

    def contains(self, key: str) -> bool:
        """Whether there is a document under `key`; also ``key in index``."""
        return self._contains(key)

    def __contains__(self, key: object) -> bool:
        return self._contains(key)

    def keys(self) -> list[str]:
        """The keys of all documents, in the order in which they were last written."""
        return self._keys()

    def terms(self, text: str) -> list[str]:
        """The terms that the index makes of a text: what is stored of it, and searched.

        Examples
        --------
        >>> index.terms("The Libraries of Babel")
        ['librari', 'babel']
        """
        return self._terms(text)

    def document_frequency(self, term: str) -> int:
        """Documents that have a term, written as `terms` gives it."""
        return self._frequency(term)

    # ----------------------------------------------------------------------------- searching

    def search(
        self,
        query: str,
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        operator: str = "or",
        texts: bool = True,
        snippets: bool = False,
    ) -> list[TextResult]:
        """Return the `k` documents that fit the query best, best first.

        Parameters
        ----------
        query : str
            Words. ``+word`` must be there, ``-word`` must not, ``"two words"`` must be there one
            after the other (``-"two words"`` must not), ``pre*`` stands for every term that begins
            so.
        k : int or None, default 10
            At least 1. None: no limit.
        filter : mapping, optional
            Only documents whose metadata match: ``{"year": 2024}``,
            ``{"year": {"$gte": 2020}, "lang": {"$in": ["en", "de"]}}``, ``{"$or": [...]}``.
        operator : {"or", "and"}, default "or"
            Whether one word suffices or every one must be there.
        texts : bool, default True
            False leaves ``text`` of the results None, which saves reading them.
        snippets : bool, default False
            Fill in ``snippet``, as `snippet` makes it.

        Returns
        -------
        list of TextResult
            Scores are those of BM25, larger is better; equal scores come in the order in which the
            documents were last written. A query without words that count finds nothing.

        Raises
        ------
        ValueError
            `k` is less than 1, an unknown operator, or a filter that is none.

        Notes
        -----
        Exact. ``score = sum(n * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average)))``
        over the different terms, with ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))`` and n times the
        term in the query (Robertson and Zaragoza 2009; the idf as in Lucene). Phrases count as
        their words do, and are looked for in the texts of the best documents until there are `k`:
        positions are not stored.

        Examples
        --------
        >>> index.add("p", "a shared library of functions", {"section": "libs"})
        >>> index.add("q", "functions that share nothing", {"section": "misc"})
        >>> [hit.key for hit in index.search("+function librar*")]
        ['p', 'q']
        >>> [hit.key for hit in index.search("functions", filter={"section": "misc"})]
        ['q']
        >>> index.search('"shared library"', snippets=True)[0].snippet
        'a <b>shared</b> <b>library</b> of functions'
        """
        return self._results([query], k, filter, operator, texts, snippets)[0]

    def search_batch(
        self,
        queries: Iterable[str],
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        operator: str = "or",
        texts: bool = True,
        snippets: bool = False,
    ) -> list[list[TextResult]]:
        """Search for many queries at once: a list of results for each, as `search` gives them.

        All of them see the same documents.

        Examples
        --------
        >>> index.add("z", "zebra crossing")
        >>> [len(hits) for hits in index.search_batch(["zebra", "giraffe"])]
        [1, 0]
        """
        if isinstance(queries, str):
            raise TypeError("queries is a sequence of str, not one str")
        return self._results(list(queries), k, filter, operator, texts, snippets)

    def explain(
        self,
        query: str,
        k: int | None = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        operator: str = "or",
    ) -> TextPlan:
        """Search as `search` does, and tell how instead of what was found.

        Examples
        --------
        >>> index.add("doc", "some words")
        >>> index.explain("words").terms
        1
        """
        told = self._find(
            [query], search_limit(k), filter_text(filter), _every(operator), False, _RESULTS
        )[1]
        terms, postings, scored, candidates, read = told
        return TextPlan(terms, postings, candidates, scored, read)

    def _results(
        self,
        queries: list[str],
        k: int | None,
        filter: Mapping[str, Any] | None,
        operator: str,
        texts: bool,
        snippets: bool,
    ) -> list[list[TextResult]]:
        found = self._find(
            queries,
            search_limit(k),
            None if filter is None else filter_text(filter),
            _every(operator),
            texts or snippets,
            _RESULTS,
        )[0]
        if not snippets:
            return found
        return [
            [
                replace(
                    hit,
                    text=hit.text if texts else None,
                    snippet=self.snippet(query, hit.text or ""),
                )
                for hit in hits
            ]
            for query, hits in zip(queries, found)
        ]

    # --------------------------------------------------------------------------- highlighting

    def highlight(self, query: str, text: str, *, before: str = "<b>", after: str = "</b>") -> str:
        """The text with `before` and `after` around the words that the query looks for.

        Nothing else of the text is changed: escape it first where it is to be shown as HTML.

        Examples
        --------
        >>> index.highlight("librar* babel", "The Library of Babel", before="[", after="]")
        'The [Library] of [Babel]'
        """
        spans = _characters(text, self._spans(query, text))
        return _marked(text, spans, 0, len(text), before, after)

    def snippet(
        self,
        query: str,
        text: str,
        *,
        length: int = 160,
        before: str = "<b>",
        after: str = "</b>",
    ) -> str:
        """The part of about `length` characters where most words of the query are, marked.

        It begins and ends at a word; ``...`` stands where text was left out. `length` is at least
        1, and does not count the marks.

        Raises
        ------
        ValueError
            `length` is less than 1.

        Examples
        --------
        >>> long = "nothing here " * 20 + "but a zebra " + "and more of it " * 20
        >>> index.snippet("zebra", long, length=40)
        '... here but a <b>zebra</b> and more of it ...'
        """
        wanted = index_of(length)
        if wanted < 1:
            raise refused(f"length is {wanted}; expected at least 1")
        spans = _characters(text, self._spans(query, text))
        start, end = _window(text, spans, wanted)
        part = _marked(text, spans, start, end, before, after)
        return ("... " if start > 0 else "") + part + (" ..." if end < len(text) else "")


# ------------------------------------------------------------------------------------ helpers


def _resolve(analyzer: str | None) -> tuple[str | None, Callable[[str], str] | None]:
    """The core's name of an analyser, and the stemmer that goes with it."""
    if analyzer is not None and not isinstance(analyzer, str):
        raise TypeError(f"analyzer is a str, not {type(analyzer).__name__}")
    if analyzer is None or analyzer in ("english", "standard"):
        return analyzer, None
    if not analyzer.isprintable() or analyzer in ("", _SNOWBALL):
        raise refused(f"analyzer {analyzer!r}; expected 'english', 'standard' or a language")
    language = analyzer[len(_SNOWBALL) :] if analyzer.startswith(_SNOWBALL) else analyzer
    if language not in _stemmers:
        try:
            snowball: Any = importlib.import_module("Stemmer")
        except ImportError:
            raise ImportError(
                f"the analyser {analyzer!r} needs PyStemmer: pip install 'synadb[text]'"
            ) from None
        if language not in snowball.algorithms():
            raise refused(
                f"analyzer {analyzer!r}; expected 'english', 'standard' or one of "
                + ", ".join(sorted(snowball.algorithms()))
            )
        _stemmers[language] = snowball.Stemmer(language).stemWord
    return _SNOWBALL + language, _stemmers[language]


def _remembered(path: str | os.PathLike[str]) -> str | None:
    """The analyser that a file was made with."""
    from synadb.db import SynaDB

    if not os.path.exists(path):
        return None
    with SynaDB(path, read_only=True) as db:
        config = db.get_text(_CONFIG_KEY)
    name = json.loads(config).get("analyzer") if config else None
    return name if isinstance(name, str) else None


def _every(operator: str) -> bool:
    if operator not in _OPERATORS:
        raise refused(f"operator {operator!r}; expected 'or' or 'and'")
    return operator == "and"


def _missing(key: str, path: str) -> KeyNotFoundError:
    return KeyNotFoundError(
        -5, f"{path}: no document has the id {key}", reason=Reason.NONE, path=path
    )


def _characters(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of UTF-8 bytes as spans of characters. They are in order, so one pass does."""
    if text.isascii():
        return spans
    raw = text.encode()
    found: list[tuple[int, int]] = []
    byte = character = 0
    for start, end in spans:
        first = character + len(raw[byte:start].decode())
        byte, character = end, first + len(raw[start:end].decode())
        found.append((first, character))
    return found


def _marked(
    text: str, spans: list[tuple[int, int]], start: int, end: int, before: str, after: str
) -> str:
    """text[start:end] with marks around the spans that are within."""
    parts: list[str] = []
    at = start
    for first, last in spans:
        if first < start or last > end:
            continue
        parts += (text[at:first], before, text[first:last], after)
        at = last
    parts.append(text[at:end])
    return "".join(parts)


def _window(text: str, spans: list[tuple[int, int]], length: int) -> tuple[int, int]:
    """Where a snippet is: the `length` characters with the most spans, ending at whole words."""
    if len(text) <= length:
        return 0, len(text)
    best, most, first = (0, 0), 0, 0
    for last, (_, end) in enumerate(spans):
        while end - spans[first][0] > length and first < last:
            first += 1
        if last + 1 - first > most:
            most, best = last + 1 - first, (spans[first][0], end)
    slack = max(length - (best[1] - best[0]), 0)
    start = max(0, min(best[0] - math.ceil(slack / 2), len(text) - length))
    end = min(len(text), max(start + length, best[1]))
    return _word_start(text, start, best[0]), _word_end(text, end, best[1])


def _word_start(text: str, at: int, limit: int) -> int:
    """The first word that begins at `at` or later, up to `limit`; `at` when none does."""
    if at == 0:
        return 0
    space = _SPACE.search(text, at - 1, max(limit, at))
    return space.end() if space else at


def _word_end(text: str, at: int, limit: int) -> int:
    """The end of the last whole word between `limit` and `at`; `at` when there is none."""
    if at >= len(text):
        return len(text)
    for end in range(at, limit - 1, -1):
        if text[end].isspace():
            return end
    return at


__all__ = ["Document", "TextIndex", "TextPlan", "TextResult", "TextStats"]
