"""Documents searched by words, in a process of its own.

    worker_text.py CONTESTANT DIR TEXTS DOCUMENTS QUERIES SEED

CONTESTANT is synadb, bm25s (its numba backend), tantivy or tantivy-bare, which keeps no texts.
TEXTS is a file of JSON lines with a field "text" (plain or .zst), of which more documents are put
together where it has fewer, or "made": words drawn by Zipf's law. Queries are words of documents.
One line of JSON each for
    build    all documents in one go, until they can be searched
    add      SynaDB only: documents one by one, unsynced
    open     SynaDB only: opened again, from the snapshot beside its log
    search   the ten best of every query, one after the other; "disk": bytes of all files, with the
             texts but for bm25s and tantivy-bare; "index": SynaDB's snapshot alone, all files of
             the others; SynaDB: "memory", bytes a posting of its own
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker import timed

K = 10
MADE_WORDS = 60_000
MADE_LENGTH = 90


def made(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = np.array([f"w{n:x}q" for n in range(MADE_WORDS)])
    chance = 1 / np.arange(1, MADE_WORDS + 1) ** 1.05
    chance /= chance.sum()
    lengths = rng.integers(MADE_LENGTH // 3, 2 * MADE_LENGTH, count)
    drawn = rng.choice(MADE_WORDS, int(lengths.sum()), p=chance)
    ends = np.cumsum(lengths)
    return [" ".join(words[drawn[end - n : end]]) for n, end in zip(lengths, ends)]


def read(path: str, count: int, seed: int) -> list[str]:
    if path == "made":
        return made(count, seed)
    raw = Path(path).read_bytes()
    if path.endswith(".zst"):
        raw = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    texts = [json.loads(line)["text"] for line in raw.splitlines()[:count]]
    return texts + joined(texts, count - len(texts), seed)


def joined(texts: list[str], count: int, seed: int) -> list[str]:
    """More documents than there are: one to four of the texts one after the other."""
    rng = np.random.default_rng(seed + 2)
    lengths = rng.integers(1, 5, count)
    drawn = rng.integers(0, len(texts), int(lengths.sum()))
    ends = np.cumsum(lengths)
    return [" ".join(texts[i] for i in drawn[end - n : end]) for n, end in zip(lengths, ends)]


def queries_of(texts: list[str], count: int, seed: int) -> list[str]:
    """Two to six words of a document each."""
    rng = np.random.default_rng(seed + 1)
    queries = []
    for row in rng.integers(0, len(texts), count):
        words = texts[row].replace('"', " ").split() or ["none"]
        queries.append(" ".join(rng.choice(words, min(len(words), int(rng.integers(2, 7))))))
    return queries


class Syna:
    def __init__(self, folder: Path) -> None:
        from synadb import TextIndex

        self.index = TextIndex(folder / "texts.db", sync_on_write=False)
        self.one = TextIndex(folder / "one.db", sync_on_write=False)

    def build(self, texts: list[str]) -> None:
        self.index.add_batch([str(n) for n in range(len(texts))], texts)

    def add(self, texts: list[str]) -> None:
        for n, text in enumerate(texts):
            self.one.add(str(n), text)

    def search(self, queries: list[str]) -> list[list[str]]:
        return [[hit.key for hit in self.index.search(q, K, texts=False)] for q in queries]

    def close(self) -> None:
        self.one.delete("0")
        self.index.close()
        self.one.close()

    def reopen(self, folder: Path) -> None:
        from synadb import TextIndex

        self.index = TextIndex(folder / "texts.db", sync_on_write=False)


class Bm25s:
    def __init__(self, folder: Path) -> None:
        import bm25s

        self.lib, self.folder = bm25s, folder
        self.model: Any = None

    def build(self, texts: list[str]) -> None:
        tokens = self.lib.tokenize(texts, stopwords="en", show_progress=False)
        self.model = self.lib.BM25(backend="numba")
        self.model.index(tokens, show_progress=False)

    def search(self, queries: list[str]) -> list[list[str]]:
        tokens = self.lib.tokenize(queries, stopwords="en", show_progress=False)
        found, _ = self.model.retrieve(tokens, k=K, n_threads=1, show_progress=False)
        return [[str(row) for row in rows] for rows in found]

    def close(self) -> None:
        self.model.save(str(self.folder / "texts.bm25s"), show_progress=False)


class Tantivy:
    stored = True

    def __init__(self, folder: Path) -> None:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_text_field("text", stored=self.stored, tokenizer_name="en_stem")
        schema.add_unsigned_field("row", stored=True)
        path = folder / "texts.tantivy"
        path.mkdir()
        self.lib, self.index = tantivy, tantivy.Index(schema.build(), path=str(path))

    def build(self, texts: list[str]) -> None:
        writer = self.index.writer(num_threads=1)
        for row, text in enumerate(texts):
            writer.add_document(self.lib.Document(text=text, row=row))
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()

    def search(self, queries: list[str]) -> list[list[str]]:
        searcher, results = self.index.searcher(), []
        for query in queries:
            parsed = self.index.parse_query_lenient(query, ["text"])[0]
            hits = searcher.search(parsed, K, count=False).hits
            results.append([str(searcher.doc(at)["row"][0]) for _, at in hits])
        return results

    def close(self) -> None:
        pass


class TantivyBare(Tantivy):
    stored = False


CONTESTANTS = {"synadb": Syna, "bm25s": Bm25s, "tantivy": Tantivy, "tantivy-bare": TantivyBare}


def main() -> None:
    name, folder, source = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    count, asked, seed = map(int, sys.argv[4:7])
    texts = read(source, count, seed)
    queries = queries_of(texts, asked, seed)
    store = CONTESTANTS[name](folder)
    timed(lambda: store.build(texts), len(texts))
    if isinstance(store, Syna):
        timed(lambda: store.add(texts), len(texts))
    found = store.search(queries)  # everything is compiled, mapped and in the caches afterwards
    if sum(map(bool, found)) < len(queries) * 0.9:
        raise SystemExit(f"{name} found something for {sum(map(bool, found))} of {len(queries)}")
    store.close()
    sizes = {
        file.name: file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith("one.")
    }
    disk = sum(sizes.values())
    extra = {"disk": disk, "index": sizes.get("texts.db.text", disk)}
    if isinstance(store, Syna):
        timed(lambda: store.reopen(folder), len(texts))
        stats = store.index.stats()
        extra["memory"] = stats.memory_bytes / max(stats.postings, 1)
    timed(lambda: store.search(queries), len(queries), **extra)


if __name__ == "__main__":
    main()
