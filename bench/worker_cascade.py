"""Vectors found at a recall, in a process of its own.

    worker_cascade.py CONTESTANT DIR VECTORS ROWS QUERIES SEED

CONTESTANT is synadb (CascadeIndex), hnswlib (M=16, ef_construction=200) or faiss (HNSW over 8-bit
codes). VECTORS is the beginning of the names of two files, <VECTORS>_base.npy and
<VECTORS>_query.npy (of integers: compared by euclidean distance, others by cosine), or "made":
points on a curved sheet of few dimensions in 128. One line of JSON each for
    build    all rows in one go, until they can be searched
    search   at 0.95, 0.99 and 0.90 of the ten nearest, one query after the other: SynaDB by the
             presets large, high_recall and fast_search, a peer by the narrowest search that reaches
             it on these queries; "recall", and "bytes": of the index a row, without keys
and for SynaDB
    search   by the preset small, and by num_hyperplanes=16, bucket_capacity=128, nprobe=8
    add      a tenth of the rows one by one, on top of the others
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker import timed

K = 10
PRESETS = {"large": 0.95, "high_recall": 0.99, "fast_search": 0.90}
FURTHER: dict[str, dict[str, Any]] = {
    "small": {"preset": "small"},
    "custom": {"num_hyperplanes": 16, "bucket_capacity": 128, "nprobe": 8},
}
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


def is_euclidean(name: str) -> bool:
    return name != "made" and np.load(f"{name}_base.npy", mmap_mode="r").dtype.kind in "iu"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def truth_of(rows: np.ndarray, queries: np.ndarray, euclidean: bool) -> np.ndarray:
    norms = (rows * rows).sum(axis=1) / 2 if euclidean else np.float32(0)
    compared = rows if euclidean else unit(rows)
    near = [norms - part @ compared.T for part in np.array_split(queries, len(queries) // 100 + 1)]
    return np.concatenate([np.argpartition(far, K, axis=1)[:, :K] for far in near])


class Syna:
    def __init__(self, folder: Path, dims: int, euclidean: bool, **how: Any) -> None:
        from synadb import CascadeIndex

        metric = "euclidean" if euclidean else "cosine"
        file = folder / f"{len(list(folder.iterdir()))}.cascade"
        self.index = CascadeIndex(file, dims, metric=metric, threads=1, **how)

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
    def __init__(self, _folder: Path, dims: int, euclidean: bool) -> None:
        import hnswlib

        self.dims, self.index = dims, hnswlib.Index("l2" if euclidean else "cosine", dims)

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
    def __init__(self, _folder: Path, dims: int, euclidean: bool) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss, self.euclidean = faiss, euclidean
        self.index = faiss.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_8bit, 16)
        self.index.hnsw.efConstruction = 200

    def build(self, rows: np.ndarray) -> None:
        self.count = len(rows)
        fitted = rows if self.euclidean else unit(rows)
        self.index.train(fitted[:20_000])
        self.index.add(fitted)

    def search(self, queries: np.ndarray, width: int) -> list[list[int]]:
        self.index.hnsw.efSearch = width
        fitted = queries if self.euclidean else unit(queries)
        return [self.index.search(q[None], K)[1][0].tolist() for q in fitted]

    def bytes(self) -> float:
        return len(self.faiss.serialize_index(self.index)) / self.count


CONTESTANTS: dict[str, Any] = {"hnswlib": Hnswlib, "faiss": Faiss}


def recall_of(found: list[list[int]], truth: np.ndarray) -> float:
    right = sum(len(set(got) & set(want)) for got, want in zip(found, truth.tolist()))
    return right / truth.size


def width_for(store: Any, queries: np.ndarray, truth: np.ndarray, recall: float) -> int:
    for width in WIDTHS:
        if recall_of(store.search(queries, width), truth) >= recall:
            return width
    return WIDTHS[-1]


def tell(store: Any, queries: np.ndarray, truth: np.ndarray, width: int = 0) -> None:
    found = recall_of(store.search(queries, width), truth)
    timed(lambda: store.search(queries, width), len(queries), recall=found, bytes=store.bytes())


def run_peer(store: Any, rows: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> None:
    timed(lambda: store.build(rows), len(rows))
    for recall in PRESETS.values():
        tell(store, queries, truth, width_for(store, queries, truth, recall))


def run_syna(
    folder: Path, euclidean: bool, rows: np.ndarray, queries: np.ndarray, truth: np.ndarray
) -> None:
    def made(**how: Any) -> Syna:
        return Syna(folder, rows.shape[1], euclidean, **how)

    first = made(preset="large")
    timed(lambda: first.build(rows), len(rows))
    tell(first, queries, truth)
    for how in [{"preset": "high_recall"}, {"preset": "fast_search"}, *FURTHER.values()]:
        store = made(**how)
        store.build(rows)
        tell(store, queries, truth)
        store.index.close()
    base, aside = len(rows) * 9 // 10, made(preset="large")
    aside.build(rows[:base])
    timed(lambda: aside.add(rows[base:], base), len(rows) - base)


def main() -> None:
    name, folder, source = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    count, asked, seed = map(int, sys.argv[4:7])
    rows, queries = read(source, count, asked, seed)
    euclidean = is_euclidean(source)
    truth = truth_of(rows, queries, euclidean)
    if name == "synadb":
        run_syna(folder, euclidean, rows, queries, truth)
    else:
        run_peer(CONTESTANTS[name](folder, rows.shape[1], euclidean), rows, queries, truth)


if __name__ == "__main__":
    main()
