"""Vectors found at a recall, in a process of its own.

    worker_cascade.py CONTESTANT DIR VECTORS ROWS QUERIES RECALL SEED

CONTESTANT is synadb (CascadeIndex), hnswlib (M=16, ef_construction=200) or faiss (HNSW over 8-bit
codes). VECTORS is the beginning of the names of two files, <VECTORS>_base.npy and
<VECTORS>_query.npy, or "made": points on a curved sheet of few dimensions in 128. RECALL is what
the ten nearest found are to hold of the true ones: SynaDB is asked for it, a peer takes the
narrowest search that reaches it on these queries. One line of JSON each for
    build    all rows in one go, until they can be searched
    add      SynaDB only: a tenth of the rows one by one, on top of the others
    search   one query after the other; "recall", "bytes": of the index a row, without keys
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker import timed

K = 10
WIDTHS = [
    *(10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 104, 125, 150, 180, 216, 300, 500, 1000)
]


def made(count: int, asked: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(24, 128))
    at = rng.uniform(-1, 1, (count + asked, 12))
    wide = np.concatenate([np.sin(3 * at), at], axis=1) @ mix
    rows = (wide + 0.2 * rng.normal(size=wide.shape)).astype(np.float32)
    return rows[:count], rows[count:]


def read(name: str, count: int, asked: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if name == "made":
        return made(count, asked, seed)
    rows, queries = (np.load(f"{name}_{part}.npy") for part in ("base", "query"))
    return rows[:count].astype(np.float32), queries[:asked].astype(np.float32)


def truth_of(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """By cosine, the metric that all contestants know."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return np.argsort(-(queries @ unit.T), axis=1)[:, :K]


class Syna:
    def __init__(self, folder: Path, dims: int, recall: float) -> None:
        from synadb import CascadeIndex

        self.index = CascadeIndex(folder / "rows.cascade", dims, recall=recall, threads=1)

    def build(self, rows: np.ndarray) -> None:
        self.index.insert_batch(list(map(str, range(len(rows)))), rows)

    def add(self, rows: np.ndarray, first: int) -> None:
        for i, row in enumerate(rows, first):
            self.index.insert(str(i), row)

    def search(self, queries: np.ndarray, _width: int) -> list[list[int]]:
        search = self.index.search
        return [[int(hit.key) for hit in search(q, K, vectors=False)] for q in queries]

    def bytes(self) -> float:
        facts = self.index.stats()
        return facts.index_bytes / facts.rows


class Hnswlib:
    def __init__(self, _folder: Path, dims: int, _recall: float) -> None:
        import hnswlib

        self.dims, self.index = dims, hnswlib.Index("cosine", dims)

    def build(self, rows: np.ndarray) -> None:
        self.count = len(rows)
        self.index.init_index(len(rows), M=16, ef_construction=200)
        self.index.add_items(rows, num_threads=1)

    def search(self, queries: np.ndarray, width: int) -> list[list[int]]:
        self.index.set_ef(width)
        ask = self.index.knn_query
        return [ask(q, K, num_threads=1)[0][0].tolist() for q in queries]

    def bytes(self) -> float:
        return self.index.index_file_size() / self.count


class Faiss:
    def __init__(self, _folder: Path, dims: int, _recall: float) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss = faiss
        self.index = faiss.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_8bit, 16)
        self.index.hnsw.efConstruction = 200

    def build(self, rows: np.ndarray) -> None:
        self.count = len(rows)
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        self.index.train(unit[:20_000])
        self.index.add(unit)

    def search(self, queries: np.ndarray, width: int) -> list[list[int]]:
        self.index.hnsw.efSearch = width
        unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
        return [self.index.search(q[None], K)[1][0].tolist() for q in unit]

    def bytes(self) -> float:
        return len(self.faiss.serialize_index(self.index)) / self.count


CONTESTANTS: dict[str, Any] = {"synadb": Syna, "hnswlib": Hnswlib, "faiss": Faiss}


def recall_of(found: list[list[int]], truth: np.ndarray) -> float:
    right = sum(len(set(got) & set(want)) for got, want in zip(found, truth.tolist()))
    return right / truth.size


def width_for(store: Any, queries: np.ndarray, truth: np.ndarray, recall: float) -> int:
    for width in WIDTHS:
        if recall_of(store.search(queries, width), truth) >= recall:
            return width
    return WIDTHS[-1]


def main() -> None:
    name, folder, source = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    count, asked, seed = int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[7])
    recall = float(sys.argv[6])
    rows, queries = read(source, count, asked, seed)
    truth = truth_of(rows, queries)
    store = CONTESTANTS[name](folder, rows.shape[1], recall)
    if isinstance(store, Syna):
        base = len(rows) * 9 // 10
        aside = Syna(folder / "..", rows.shape[1], recall)
        aside.build(rows[:base])
        timed(lambda: store.build(rows), len(rows))
        timed(lambda: aside.add(rows[base:], base), len(rows) - base)
    else:
        timed(lambda: store.build(rows), len(rows))
    width = 0 if isinstance(store, Syna) else width_for(store, queries, truth, recall)
    found = recall_of(store.search(queries, width), truth)
    timed(lambda: store.search(queries, width), len(queries), recall=found, bytes=store.bytes())


if __name__ == "__main__":
    main()
