"""Vectors taken in, and searched while they move, in a process of its own.

    worker_hybrid.py CONTESTANT DIR VECTORS ROWS QUERIES SEED

CONTESTANT is synadb (HybridVectorStore), zvec (inserts into an HNSW collection, not optimized) or
hnswlib (M=16, ef_construction=200). VECTORS is as in worker_cascade.py. One line of JSON each for
    ingest   half of the rows in batches of 1,000, until searches find them
    one      a tenth of the rows one by one, on top
and of SynaDB only, in microseconds a search, "p50" and "p99" of the CPU time of the thread that
searches (what a search does) and "wall p50" and "wall p99" (what it waits for besides):
    idle     half of the rows are cold, half are hot, nothing else is going on
    called   while promote_to_cold moves the hot half
    after    all are cold; "doubled" and "missing" keys of all that were ingested
    unpaced  half of the rows are hot, before a promotion begins by itself
    paced    while one that began by itself goes on, in pauses
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
from worker import report, timed
from worker_cascade import read

K = 10
BATCH = 1_000
WARM = 50


class Syna:
    def __init__(self, folder: Path, dims: int, rows: int, promote_at: int | None = None) -> None:
        from synadb import HybridVectorStore

        files = (folder / f"{promote_at}.gwi", folder / f"{promote_at}.cascade")
        self.store = HybridVectorStore(*files, dims, promote_at=promote_at)

    def batch(self, first: int, rows: np.ndarray) -> None:
        self.store.ingest_batch([str(first + i) for i in range(len(rows))], rows)

    def one(self, number: int, row: np.ndarray) -> None:
        self.store.ingest(str(number), row)


class Zvec:
    def __init__(self, folder: Path, dims: int, rows: int) -> None:
        import zvec

        zvec.init(query_threads=1, optimize_threads=1, log_level=zvec.LogLevel.ERROR)
        index = zvec.HnswIndexParam(zvec.MetricType.COSINE, m=16, ef_construction=200)
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, dims, index)
        schema = zvec.CollectionSchema("rows", None, vector)
        self.rows = zvec.create_and_open(str(folder / "zvec"), schema)
        self.doc = zvec.Doc

    def batch(self, first: int, rows: np.ndarray) -> None:
        doc = self.doc
        self.rows.insert([doc(str(first + i), vectors={"v": row}) for i, row in enumerate(rows)])

    def one(self, number: int, row: np.ndarray) -> None:
        self.rows.insert(self.doc(str(number), vectors={"v": row}))


class Hnswlib:
    def __init__(self, folder: Path, dims: int, rows: int) -> None:
        import hnswlib

        self.index = hnswlib.Index("cosine", dims)
        self.index.init_index(rows, M=16, ef_construction=200)

    def batch(self, first: int, rows: np.ndarray) -> None:
        numbers = np.arange(first, first + len(rows))
        self.index.add_items(rows, numbers, num_threads=1)

    def one(self, number: int, row: np.ndarray) -> None:
        self.index.add_items(row, [number], num_threads=1)


CONTESTANTS: dict[str, Any] = {"synadb": Syna, "zvec": Zvec, "hnswlib": Hnswlib}


def fill(store: Any, first: int, rows: np.ndarray) -> None:
    for at in range(0, len(rows), BATCH):
        store.batch(first + at, rows[at : at + BATCH])


def add(store: Any, first: int, rows: np.ndarray) -> None:
    for i, row in enumerate(rows, first):
        store.one(i, row)


def searches(store: Any, queries: np.ndarray, going_on: Callable[[int], bool]) -> dict[str, float]:
    """Searches, one after the other, as long as `going_on`."""
    took: list[tuple[float, float]] = []
    while going_on(len(took)):
        query = queries[len(took) % len(queries)]
        began, worked = time.perf_counter(), time.thread_time()
        store.search(query, K, vectors=False)
        took.append((time.thread_time() - worked, time.perf_counter() - began))
    (p50, wall50), (p99, wall99) = 1e6 * np.percentile(took or [(0.0, 0.0)], [50, 99], axis=0)
    return {
        "p50": float(p50),
        "p99": float(p99),
        "wall p50": float(wall50),
        "wall p99": float(wall99),
        "searches": float(len(took)),
    }


def tell(figures: dict[str, float], **extra: float) -> None:
    report(figures["searches"], 0.0, 0.0, **figures, **extra)


def idle(store: Any, queries: np.ndarray) -> dict[str, float]:
    searches(store, queries, lambda done: done < WARM)
    return searches(store, queries, lambda done: done < 2 * len(queries))


def while_called(store: Any, queries: np.ndarray) -> dict[str, float]:
    mover = threading.Thread(target=store.promote_to_cold)
    mover.start()
    figures = searches(store, queries, lambda _done: mover.is_alive())
    mover.join()
    return figures


def while_paced(
    folder: Path, rows: np.ndarray, queries: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Of a store that promotes by itself: searches before it does and while it does."""
    half = len(rows) // 2
    paced = Syna(folder, rows.shape[1], len(rows), promote_at=half)
    fill(paced, 0, rows[: half - 1])
    before = idle(paced.store, queries)
    fill(paced, half - 1, rows[half - 1 : half])
    deadline = time.monotonic() + 2
    while not paced.store.stats().promoting and time.monotonic() < deadline:
        time.sleep(0.001)
    most = 4 * len(queries)
    during = searches(
        paced.store, queries, lambda done: done < most and paced.store.stats().promoting
    )
    paced.store.close()
    return before, during


def main() -> None:
    name, folder, source = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    count, asked, seed = map(int, sys.argv[4:7])
    rows, queries = read(source, count, asked, seed)
    half, tenth = len(rows) // 2, len(rows) // 10
    store = CONTESTANTS[name](folder, rows.shape[1], len(rows))
    timed(lambda: fill(store, 0, rows[:half]), half)
    timed(lambda: add(store, half, rows[half : half + tenth]), tenth)
    if not isinstance(store, Syna):
        return
    hybrid = store.store
    hybrid.promote_to_cold()
    fill(store, half + tenth, rows[half + tenth :])
    tell(idle(hybrid, queries))
    tell(while_called(hybrid, queries))
    keys = hybrid.keys()
    lost = len({str(i) for i in range(len(rows))} - set(keys))
    tell(idle(hybrid, queries), doubled=len(keys) - len(set(keys)), missing=lost)
    for figures in while_paced(folder, rows, queries):
        tell(figures)


if __name__ == "__main__":
    main()
