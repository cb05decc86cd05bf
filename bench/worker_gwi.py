"""Vectors parted into lists, in a process of its own.

    worker_gwi.py CONTESTANT DIR VECTORS ROWS QUERIES SEED

CONTESTANT is synadb (GravityWellIndex), faiss-flat, faiss-pq (4-bit FastScan, re-ranked),
faiss-rabitq (1-bit, re-ranked), scann or hnswlib (M=16, ef_construction=200). All but the last have
as many lists as SynaDB has wells. VECTORS is the beginning of the names of two files,
<VECTORS>_base.npy and <VECTORS>_query.npy (of integers: compared by euclidean distance, others by
cosine), or "made" (points on a curved sheet of few dimensions in 128), or "random" (normal, no
direction preferred; SynaDB alone, for what nprobe promises). One line of JSON each:

    build    all rows in one go on one processor, and then on two: training and adding
    search   at 0.95 and at 0.98 of the ten nearest, one query a call; "recall" is what was reached.
             SynaDB is asked for it, a peer takes the quickest setting that reaches it here
and for SynaDB
    nprobe   5, 50 and 100: "recall", and "share" of the rows that were scored
    add      a tenth of the rows one by one, on top of the others
    order    the rows region by region, a hundred at a time, and then "at95", "at98" (asked for so
             much), "at_nprobe50", "at_nprobe100"; "share" at nprobe=50
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from worker import report, timed
from worker_cascade import made

K = 10
TARGETS = (0.95, 0.98)
TRIES = 200  # queries that a setting is timed with before one is chosen
REGIONS = 40
STEP = 100
SAMPLE = 1000
PROBES = [*range(1, 16), 17, 20, 24, 28, 33, 40, 48, 56, 66, 80, 96, 115, 140, 180, 250, 400, 800]
WIDTHS = [10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 104, 125, 150, 180, 216, 300, 500]

Rows = np.ndarray
Setting = Any


def read(name: str, count: int, asked: int, seed: int) -> tuple[Rows, Rows, bool]:
    """Rows, queries, and whether euclidean distance compares them."""
    if name == "made":
        return (*made(count, asked, seed), False)
    if name == "random":
        rows = np.random.default_rng(seed).normal(size=(count + asked, 128)).astype(np.float32)
        return rows[:count], rows[count:], False
    rows, queries = (np.load(f"{name}_{part}.npy") for part in ("base", "query"))
    integers = rows.dtype.kind in "iu"
    return rows[:count].astype(np.float32), queries[:asked].astype(np.float32), integers


def unit(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def truth_of(rows: Rows, queries: Rows, euclidean: bool) -> Rows:
    if euclidean:
        far = (rows * rows).sum(axis=1) - 2 * (queries @ rows.T)
    else:
        far = -(queries @ unit(rows).T)
    return np.argpartition(far, K, axis=1)[:, :K]


def recall_of(found: Sequence[Sequence[int]], truth: Rows) -> float:
    right = sum(len(set(got) & set(want)) for got, want in zip(found, truth.tolist()))
    return right / truth.size


def processors(count: int) -> None:
    """Threads that libraries start from now on have no more to run on."""
    os.sched_setaffinity(0, set(sorted(ALLOWED)[:count]))


ALLOWED = os.sched_getaffinity(0)

# ---------------------------------------------------------------- contestants


class Syna:
    def __init__(self, folder: Path, dims: int, euclidean: bool, name: str = "rows") -> None:
        from synadb import GravityWellIndex

        metric = "euclidean" if euclidean else "cosine"
        self.index = GravityWellIndex(folder / f"{name}.gwi", dims, metric=metric)

    def build(self, rows: Rows, first: int = 0) -> None:
        if first == 0:  # before the first rows it has to be given a sample
            self.index.initialize(rows[:SAMPLE])
        self.index.insert_batch(list(map(str, range(first, first + len(rows)))), rows)

    def add(self, rows: Rows, first: int) -> None:
        insert = self.index.insert
        for i, row in enumerate(rows, first):
            insert(str(i), row)

    def search(self, queries: Rows, **how: Any) -> list[list[int]]:
        search = self.index.search
        return [[int(hit.key) for hit in search(q, K, vectors=False, **how)] for q in queries]

    def share(self, queries: Rows, **how: Any) -> float:
        return float(np.mean([self.index.explain(q, K, **how).share for q in queries]))


class Peer:
    """`settings`: searches, in groups; within a group a later one finds more and takes longer."""

    module = ""
    settings: Sequence[Sequence[Setting]] = (PROBES,)

    def __init__(self, dims: int, euclidean: bool, lists: int) -> None:
        self.dims, self.euclidean, self.lists = dims, euclidean, lists
        self.library = importlib.import_module(self.module)

    def fitted(self, rows: Rows) -> Rows:
        return rows if self.euclidean else unit(rows)

    def build(self, rows: Rows, threads: int) -> None:
        raise NotImplementedError

    def search(self, queries: Rows, setting: Setting) -> list[list[int]]:
        """One after the other, of rows that are `fitted`."""
        raise NotImplementedError


class FaissFlat(Peer):
    module = "faiss"

    def make(self, faiss: Any, metric: int) -> Any:
        self.coarse = faiss.IndexFlat(self.dims, metric)  # kept: the index only borrows it
        return faiss.IndexIVFFlat(self.coarse, self.dims, self.lists, metric)

    def build(self, rows: Rows, threads: int) -> None:
        faiss = self.library
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_L2 if self.euclidean else faiss.METRIC_INNER_PRODUCT
        self.index = self.make(faiss, metric)
        self.index.train(rows)
        self.index.add(rows)
        faiss.omp_set_num_threads(1)

    def use(self, setting: Setting) -> None:
        self.index.nprobe = setting

    def search(self, queries: Rows, setting: Setting) -> list[list[int]]:
        self.use(setting)
        ask = self.index.search
        return [ask(queries[i : i + 1], K)[1][0].tolist() for i in range(len(queries))]


class FaissRefined(FaissFlat):
    """A quick estimate for all rows of a list, then full rows for a few times K."""

    settings = tuple([(probes, factor) for probes in PROBES] for factor in (2, 4, 10, 25))

    def make(self, faiss: Any, metric: int) -> Any:
        self.coarse = faiss.IndexFlat(self.dims, metric)
        self.inner = self.lists_of(faiss, metric)
        return faiss.IndexRefineFlat(self.inner)

    def lists_of(self, faiss: Any, metric: int) -> Any:
        raise NotImplementedError

    def use(self, setting: Setting) -> None:
        self.inner.nprobe, self.index.k_factor = setting


class FaissPq(FaissRefined):
    def lists_of(self, faiss: Any, metric: int) -> Any:
        return faiss.IndexIVFPQFastScan(
            self.coarse, self.dims, self.lists, self.dims // 2, 4, metric
        )


class FaissRabitq(FaissRefined):
    def lists_of(self, faiss: Any, metric: int) -> Any:
        kind = getattr(faiss, "IndexIVFRaBitQFastScan", faiss.IndexIVFRaBitQ)
        return kind(self.coarse, self.dims, self.lists, metric)


class Scann(Peer):
    module = "scann.scann_ops.py.scann_ops_pybind"
    settings = tuple([(probes, again) for probes in PROBES] for again in (20, 40, 100, 250))

    def build(self, rows: Rows, threads: int) -> None:
        measure = "squared_l2" if self.euclidean else "dot_product"
        builder = self.library.builder(rows, K, measure).set_n_training_threads(threads)
        builder.tree(self.lists, 10, training_sample_size=len(rows))
        builder.score_ah(
            2, anisotropic_quantization_threshold=float("nan") if self.euclidean else 0.2
        )
        self.index = builder.reorder(100).build()

    def search(self, queries: Rows, setting: Setting) -> list[list[int]]:
        probes, again = setting
        ask, probes = self.index.search, min(probes, self.lists)
        return [
            ask(q, K, pre_reorder_num_neighbors=again, leaves_to_search=probes)[0].tolist()
            for q in queries
        ]


class Hnswlib(Peer):
    module = "hnswlib"
    settings = (WIDTHS,)

    def build(self, rows: Rows, threads: int) -> None:
        self.index = self.library.Index("l2" if self.euclidean else "ip", self.dims)
        self.index.init_index(len(rows), M=16, ef_construction=200)
        self.index.add_items(rows, num_threads=threads)

    def search(self, queries: Rows, setting: Setting) -> list[list[int]]:
        self.index.set_ef(setting)
        ask = self.index.knn_query
        return [ask(q, K, num_threads=1)[0][0].tolist() for q in queries]


PEERS: dict[str, type[Peer]] = {
    "faiss-flat": FaissFlat,
    "faiss-pq": FaissPq,
    "faiss-rabitq": FaissRabitq,
    "scann": Scann,
    "hnswlib": Hnswlib,
}

# ---------------------------------------------------------------- choosing a setting


def first_that(reaches: Callable[[int], bool], count: int) -> int | None:
    """The first place of `count` that reaches it; from there on all do."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low if low < count else None


def quickest(peer: Peer, queries: Rows, truth: Rows, recall: float) -> Setting:
    best, least = peer.settings[-1][-1], float("inf")
    for group in peer.settings:
        at = first_that(
            lambda i, group=group: recall_of(peer.search(queries, group[i]), truth) >= recall,
            len(group),
        )
        if at is None:
            continue
        start = time.process_time()
        peer.search(queries[:TRIES], group[at])
        took = time.process_time() - start
        if took < least:
            best, least = group[at], took
    return best


# ---------------------------------------------------------------- tasks


def run_peer(peer: Peer, rows: Rows, queries: Rows, truth: Rows) -> None:
    fitted, asked = peer.fitted(rows), peer.fitted(queries)
    processors(1)
    timed(lambda: peer.build(fitted, 1), len(rows))
    if isinstance(peer, Hnswlib):  # a second build of it takes as long as all the rest
        report(0, 0.0, 0.0)
    else:
        processors(2)
        timed(lambda: peer.build(fitted, 2), len(rows))
    processors(1)
    for target in TARGETS:
        setting = quickest(peer, asked, truth, target)
        found = recall_of(peer.search(asked, setting), truth)
        timed(partial(peer.search, asked, setting), len(queries), recall=found)


def by_region(rows: Rows, seed: int) -> np.ndarray:
    middles = np.random.default_rng(seed).choice(len(rows), REGIONS, replace=False)
    return np.argsort(np.argmax(unit(rows) @ unit(rows[middles]).T, axis=1), kind="stable")


def run_regions(store: Syna, rows: Rows, queries: Rows, truth: Rows, seed: int) -> None:
    order = by_region(rows, seed)
    moved, place = np.ascontiguousarray(rows[order]), np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))

    def insert() -> None:
        for first in range(0, len(moved), STEP):
            store.build(moved[first : first + STEP], first)

    start = time.perf_counter(), time.process_time()
    insert()
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    ways = {"at95": {"recall": 0.95}, "at98": {"recall": 0.98}}
    ways |= {f"at_nprobe{n}": {"nprobe": n} for n in (50, 100)}
    told = {
        name: recall_of(store.search(queries, **how), place[truth]) for name, how in ways.items()
    }
    report(len(rows), wall, cpu, **told, share=store.share(queries[:100], nprobe=50))


def run_syna(
    folder: Path, rows: Rows, queries: Rows, truth: Rows, euclidean: bool, seed: int
) -> None:
    dims = rows.shape[1]
    for threads in (1, 2):
        processors(threads)
        store = Syna(folder, dims, euclidean, f"rows{threads}")
        timed(partial(store.build, rows), len(rows))
    processors(1)
    for target in TARGETS:
        found = recall_of(store.search(queries, recall=target), truth)
        timed(partial(store.search, queries, recall=target), len(queries), recall=found)
    for probes in (5, 50, 100):
        found = recall_of(store.search(queries, nprobe=probes), truth)
        share = store.share(queries[:100], nprobe=probes)
        timed(
            partial(store.search, queries, nprobe=probes), len(queries), recall=found, share=share
        )
    base, aside = len(rows) * 9 // 10, Syna(folder, dims, euclidean, "aside")
    aside.build(rows[:base])
    timed(lambda: aside.add(rows[base:], base), len(rows) - base)
    run_regions(Syna(folder, dims, euclidean, "regions"), rows, queries, truth, seed)


def main() -> None:
    name, folder, source = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    count, asked, seed = map(int, sys.argv[4:7])
    rows, queries, euclidean = read(source, count, asked, seed)
    truth = truth_of(rows, queries, euclidean)
    if name == "synadb":
        run_syna(folder, rows, queries, truth, euclidean, seed)
        return
    lists = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // 16))  # as SynaDB has wells
    run_peer(PEERS[name](rows.shape[1], euclidean, lists), rows, queries, truth)


if __name__ == "__main__":
    main()
