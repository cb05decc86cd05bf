"""A searchable store of texts: the texts in a `SynaDB`, their vectors in a `VectorStore`, their
words in a `TextIndex`, and both searched at once by a `HybridRetriever`.

=========================  ======================================================================
file, key                  what
=========================  ======================================================================
texts.db  doc/<name>       one docstring: a dict of its fields
texts.db  model/...        terms, their weights and the projection that makes vectors of texts
texts.db  library/about    Python version and counts; written in the same commit as all of these
texts.db  history/...      floats that grow with use: query latency, documents per second
vectors.db  <name>         its vector
words.db  doc/<name>       its name and text, for the search by words
=========================  ======================================================================
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from synadb import HybridRetriever, SynaDB, TextIndex, VectorStore
from synadb.demo import lsa, words
from synadb.demo.corpus import Document, collect, library_folder

DIMENSIONS = 256
QUERY_HISTORY = "history/query_ms"
BUILD_HISTORY = "history/documents_per_second"

_ABOUT = "library/about"
_FORMAT = 2
# What a word in the name, in the first paragraph and in the module's first paragraph counts, beside
# 1 in the text. Chosen on fifty questions with known answers: these put the right module among
# the first five for 45 of them.
_NAME_WEIGHT = 2.0
_SUMMARY_WEIGHT = 1.0
_MODULE_WEIGHT = 1.0
_COMMON_WORD = 3  # documents that use a word before it counts as part of a compound

#: progress(step, done, total)
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Answer:
    """One hit of a query: the document, its score (larger is better), and its ranks in the searches
    by vectors and by words; None where it was not among the best of that one."""

    score: float
    document: Document
    vector_rank: int | None = None
    word_rank: int | None = None


@dataclass
class BuildReport:
    """How building went: counts, and the seconds of each step by name."""

    documents: int = 0
    characters: int = 0
    modules: int = 0
    terms: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Library:
    """The store in `folder`, which is created if missing. Use it as a context manager.

    Examples
    --------
    >>> from synadb.demo.library import Library
    >>> from synadb.demo.corpus import Document
    >>> documents = [
    ...     Document("zipfile", "zipfile", "", "zipfile.py", 1, "", "Read a zip archive."),
    ...     Document("tarfile", "tarfile", "", "tarfile.py", 1, "", "Read a tar archive."),
    ...     Document("json", "json", "", "json.py", 1, "", "Read and write JSON."),
    ...     Document("csv", "csv", "", "csv.py", 1, "", "Read and write tables."),
    ... ]
    >>> with Library(tmp / "library") as library:
    ...     _ = library.build(documents)
    ...     [answer.document.name for answer in library.ask("which archives can be read", k=2)]
    ['zipfile', 'tarfile']
    """

    def __init__(self, folder: os.PathLike[str] | str) -> None:
        self.folder = os.path.abspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.texts = SynaDB(os.path.join(self.folder, "texts.db"))
        try:
            self.vectors = VectorStore(os.path.join(self.folder, "vectors.db"), DIMENSIONS)
            try:
                self.words = TextIndex(os.path.join(self.folder, "words.db"))
            except BaseException:
                self.vectors.close()
                raise
        except BaseException:
            self.texts.close()
            raise
        self._retriever = HybridRetriever(self.vectors, self.words)
        self._model: lsa.Model | None = None

    def close(self) -> None:
        try:
            self.words.close()
        finally:
            try:
                self.vectors.close()
            finally:
                self.texts.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def files(self) -> list[str]:
        return [self.texts.path, self.vectors.path, self.words.path]

    @property
    def is_current(self) -> bool:
        """Whether a whole library of the running Python is there already."""
        about = self.texts.get(_ABOUT)
        return (
            isinstance(about, dict)
            and about["format"] == _FORMAT
            and about["python"] == platform.python_version()
            and about["documents"] == len(self.vectors) == len(self.words)
        )

    @property
    def about(self) -> dict[str, Any]:
        """What was built, and when: empty before the first build."""
        return dict(self.texts.get(_ABOUT) or {})

    # ------------------------------------------------------------------------------ building

    def build(
        self,
        documents: Sequence[Document] | None = None,
        progress: Progress | None = None,
    ) -> BuildReport:
        """Fill the store with `documents`, by default those of the standard library.

        Texts, model and the record that says so are one atomic commit, after vectors and words: a
        library whose building was interrupted is not current, and the next build replaces it.
        """
        report = BuildReport()

        def timed(step: str) -> Callable[[int, int], object]:
            report.seconds[step] = time.perf_counter()
            return lambda done, total: progress(step, done, total) if progress else None

        def finish(step: str) -> None:
            report.seconds[step] = time.perf_counter() - report.seconds[step]

        note = timed("read")
        texts = list(documents) if documents is not None else collect(progress=note)
        finish("read")
        if not texts:
            raise ValueError(f"{library_folder()} holds no Python sources with docstrings")

        note = timed("learn")
        counts = _count_terms(texts)
        model = lsa.train(counts, DIMENSIONS, note)
        vectors = _padded(model.embed(counts))
        finish("learn")

        timed("store vectors")
        names = [document.name for document in texts]
        for stale in set(self.vectors.keys()).difference(names):
            self.vectors.delete(stale)
        self.vectors.insert_batch(names, vectors)
        finish("store vectors")

        timed("index words")
        for stale in set(self.words.keys()).difference(names):
            self.words.delete(stale)
        self.words.add_batch(names, [_searched(document) for document in texts])
        finish("index words")

        report.documents = len(texts)
        report.characters = sum(len(document.text) for document in texts)
        report.modules = len({document.module for document in texts})
        report.terms = len(model.vocabulary)
        timed("store texts")
        self._store_texts(texts, model, report)
        finish("store texts")
        self._model = model
        self.texts.put_float(BUILD_HISTORY, len(texts) / sum(report.seconds.values()))
        return report

    def _store_texts(
        self, texts: Sequence[Document], model: lsa.Model, report: BuildReport
    ) -> None:
        stale = set(self.texts.scan("doc/", keys_only=True))
        with self.texts.batch() as batch:
            for key in stale.difference("doc/" + document.name for document in texts):
                batch.delete(key)
            batch.update(self._records(texts, model, report))

    def _records(
        self, texts: Sequence[Document], model: lsa.Model, report: BuildReport
    ) -> Iterator[tuple[str, Any]]:
        for document in texts:
            yield "doc/" + document.name, asdict(document)
        yield "model/terms", list(model.vocabulary)
        yield "model/idf", model.idf
        yield "model/projection", model.projection
        yield (
            _ABOUT,
            {
                "format": _FORMAT,
                "python": platform.python_version(),
                "documents": report.documents,
                "characters": report.characters,
                "modules": report.modules,
                "terms": report.terms,
            },
        )

    # ------------------------------------------------------------------------------- asking

    def ask(self, question: str, k: int = 5) -> list[Answer]:
        """The `k` texts that answer the question best; none when no word of it is known.

        The time it took, in milliseconds, goes into the history `QUERY_HISTORY`.
        """
        model = self._load_model()
        started = time.perf_counter()
        vector = _padded(model.embed([words.weighted([(question, 1.0)])]))[0]
        hits = self._retriever.search(
            vector if vector.any() else None, question, k, lexical_options={"texts": False}
        )
        answers = [
            Answer(
                hit.score,
                Document(**self.texts["doc/" + hit.key]),
                hit.dense.rank if hit.dense else None,
                hit.lexical.rank if hit.lexical else None,
            )
            for hit in hits
        ]
        self.texts.put_float(QUERY_HISTORY, 1e3 * (time.perf_counter() - started))
        return answers

    def _load_model(self) -> lsa.Model:
        if self._model is None:
            terms = self.texts["model/terms"]
            vocabulary = {term: column for column, term in enumerate(terms)}
            idf, projection = self.texts["model/idf"], self.texts["model/projection"]
            self._model = lsa.Model(vocabulary, idf, projection)
        return self._model


def _padded(vectors: lsa.Matrix) -> npt.NDArray[np.float32]:
    """With zeros up to `DIMENSIONS`: a library of few texts has fewer directions."""
    return np.pad(vectors, ((0, 0), (0, DIMENSIONS - vectors.shape[1])))


def _searched(document: Document) -> str:
    """What the search by words sees: the parts of the name count as words of the text."""
    name = document.name.replace(".", " ").replace("_", " ")
    return f"{name}\n{document.summary}\n{document.text}"


def _count_terms(documents: Sequence[Document]) -> list[dict[str, float]]:
    summaries = {d.module: d.summary for d in documents if not d.qualname}
    used_by: dict[str, int] = {}
    for document in documents:
        for word in set(words.plain_words(document.text)):
            used_by[word] = used_by.get(word, 0) + 1

    def is_word(word: str) -> bool:
        return used_by.get(word, 0) >= _COMMON_WORD

    def count(document: Document) -> dict[str, float]:
        module = summaries.get(document.module, "") if document.qualname else ""
        return words.weighted(
            [
                (_name_text(document.name, is_word), _NAME_WEIGHT),
                (document.summary, _SUMMARY_WEIGHT),
                (document.text, 1.0),
                (module, _MODULE_WEIGHT),
            ]
        )

    return [count(document) for document in documents]


def _name_text(name: str, is_word: Callable[[str], bool]) -> str:
    """The parts of a dotted name, and the words that a part like ``zipfile`` is made of."""
    parts = []
    for part in name.replace(".", " ").replace("_", " ").split():
        parts.append(part)
        for word in words.plain_words(part):
            parts.extend(words.compound_parts(word, is_word))
    return " ".join(parts)


__all__ = ["BUILD_HISTORY", "DIMENSIONS", "QUERY_HISTORY", "Answer", "BuildReport", "Library"]
