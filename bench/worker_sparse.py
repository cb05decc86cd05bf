"""Sparse vectors by inner product, in a process of its own.

    worker_sparse.py CONTESTANT DIR ROWS PAIRS QUERIES RECALL SEED

CONTESTANT is synadb, scipy (the columns of a query gathered from a CSC matrix, then the best
selected) or seismic (pyseismic, the cheapest of its searches that reaches RECALL). The vectors are
made, ROWS of about PAIRS non-zeros in a vocabulary of 30,522, as learned sparse encoders give
them: terms by Zipf's law, half of a row's terms from a few subjects, rare terms heavier. A query
has 40 terms: some of a row, more of its subjects, and any. One line of JSON each for
    build    all rows in one go, until they can be searched; seismic takes minutes: what it built is
             kept in DIR, and taken from there by the next run, with what it cost
    memory   "memory": bytes a non-zero that the index takes; synadb: opened again, and "resident",
             what the process grew by when it had opened the file and answered all queries
    search   the ten best, one query after the other; "recall", "disk"; seismic: its cheapest search
    batch    synadb and scipy: all queries in one call
    near     synadb: with recall=RECALL; "recall": what was found of the ten best
    add      synadb: rows one by one, unsynced
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from worker import report, timed

VOCABULARY = 30_522
TERMS_ASKED = 40
SUBJECT_TERMS = 400
K = 10
ADDED = 10_000


def draw(rng: np.random.Generator, cumulated: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.minimum(np.searchsorted(cumulated, rng.random(shape)), len(cumulated) - 1)


class Maker:
    """Rows and queries from the same terms and subjects."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        chance = 1 / (np.arange(VOCABULARY) + 50.0) ** 0.9
        self.cumulated = np.cumsum(chance / chance.sum())
        self.numbers = rng.permutation(VOCABULARY).astype(np.int32)
        self.heavy = (0.3 + 0.15 * np.log1p(chance.sum() / (200 * chance))).astype(np.float32)
        self.subjects = draw(rng, self.cumulated, (max(rows // 50, 10), SUBJECT_TERMS))
        within = 1 / np.arange(1, SUBJECT_TERMS + 1) ** 0.7
        self.within = np.cumsum(within / within.sum())

    def terms(self, subjects: np.ndarray, count: int) -> np.ndarray:
        """`count` of a row's subjects, two a row, one after the other."""
        which = draw(self.rng, np.array([0.7, 1.0]), (len(subjects), count))
        pick = np.take_along_axis(subjects, which, axis=1)
        return self.subjects[pick, draw(self.rng, self.within, pick.shape)]

    def matrix(self, terms: np.ndarray) -> sp.csr_matrix:
        weights = self.rng.lognormal(-0.5, 0.7, terms.shape).astype(np.float32) * self.heavy[terms]
        starts = np.arange(0, terms.size + 1, terms.shape[1])
        made = sp.csr_matrix(
            (weights.ravel(), self.numbers[terms].ravel(), starts), (len(terms), VOCABULARY)
        )
        made.sum_duplicates()
        made.data = np.log1p(made.data)  # as the encoders do
        return made

    def rows(self, count: int, pairs: int) -> tuple[sp.csr_matrix, np.ndarray]:
        drawn = round(pairs * 1.09)  # some are drawn twice
        subjects = self.rng.integers(0, len(self.subjects), (count, 2))
        about = self.terms(subjects, drawn // 2)
        rest = draw(self.rng, self.cumulated, (count, drawn - drawn // 2))
        return self.matrix(np.concatenate([about, rest], axis=1)), subjects

    def queries(self, rows: sp.csr_matrix, subjects: np.ndarray, count: int) -> sp.csr_matrix:
        back = np.argsort(self.numbers)
        of, asked = self.rng.integers(0, rows.shape[0], count), []
        about = self.terms(subjects[of], TERMS_ASKED)
        any_terms = draw(self.rng, self.cumulated, (count, TERMS_ASKED))
        for row, *others in zip(of, about, any_terms):
            at = slice(rows.indptr[row], rows.indptr[row + 1])
            own = self.rng.permutation(back[rows.indices[at]])
            distinct = dict.fromkeys(own[: TERMS_ASKED // 4].tolist())
            distinct |= dict.fromkeys(others[0][: TERMS_ASKED // 2].tolist())
            distinct |= dict.fromkeys(others[1].tolist())
            asked.append(list(distinct)[:TERMS_ASKED])
        return self.matrix(np.array(asked))


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def best(scores: np.ndarray) -> list[int]:
    top = np.argpartition(-scores, K)[:K]
    return list(map(int, top[np.lexsort((top, -scores[top]))]))


def share(found: list[list[int]], truth: list[list[int]]) -> float:
    return float(np.mean([len(set(f) & set(t)) / max(len(t), 1) for f, t in zip(found, truth)]))


class Syna:
    def __init__(self, folder: Path, name: str = "rows") -> None:
        from synadb import SparseVectorStore

        self.path = folder / f"{name}.svs"
        self.store = SparseVectorStore(self.path, VOCABULARY, sync_on_write=False)

    def build(self, rows: sp.csr_matrix) -> None:
        keys = list(map(str, range(rows.shape[0])))
        for at in range(0, len(keys), 10_000):
            self.store.index_batch(keys[at : at + 10_000], rows[at : at + 10_000])

    def search(self, queries: list[Any], recall: float | None = None) -> list[list[int]]:
        ask = self.store.search
        return [[int(hit.key) for hit in ask(*q, K, recall=recall)] for q in queries]

    def add(self, pairs: list[Any]) -> None:
        for row, (terms, weights) in enumerate(pairs):
            self.store.index(str(row), terms, weights)


class Scipy:
    def build(self, rows: sp.csr_matrix) -> None:
        self.columns = rows.tocsc()

    def search(self, queries: list[Any]) -> list[list[int]]:
        return [best(self.columns[:, terms] @ weights) for terms, weights in queries]

    def batch(self, queries: sp.csr_matrix) -> list[list[int]]:
        scores = (self.columns @ queries.T.tocsc()).tocsc()
        return [best(scores[:, [i]].toarray().ravel()) for i in range(queries.shape[0])]


class Seismic:
    def __init__(self) -> None:
        import seismic

        self.lib = seismic
        self.names = np.arange(VOCABULARY).astype(seismic.get_seismic_string())

    def build(self, rows: sp.csr_matrix) -> None:
        dataset = self.lib.SeismicDataset()
        for row in range(rows.shape[0]):
            at = slice(rows.indptr[row], rows.indptr[row + 1])
            dataset.add_document(str(row), self.names[rows.indices[at]], rows.data[at])
        self.index = self.lib.SeismicIndex.build_from_dataset(
            dataset, num_threads=os.cpu_count() or 1
        )

    def search(self, queries: list[Any], cut: int, factor: float) -> list[list[int]]:
        ask, found = self.index.search, []
        for terms, weights in queries:
            hits = ask("q", self.names[terms], weights, k=K, query_cut=cut, heap_factor=factor)
            found.append([int(hit[2]) for hit in hits])
        return found

    def build_once(self, rows: sp.csr_matrix, folder: Path) -> tuple[list[float], int]:
        """Seconds of the clock and of the processor that it took, now or in an earlier run, and the
        bytes of the index as a file, near what it takes in memory."""
        cost = folder / "cost.json"  # written last
        if not cost.exists():
            folder.mkdir(parents=True, exist_ok=True)
            wall, cpu = time.perf_counter(), time.process_time()
            self.build(rows)
            took = [time.perf_counter() - wall, time.process_time() - cpu]
            self.index.save(str(folder / "index"))
            cost.write_text(json.dumps(took))
        files = [file for file in folder.iterdir() if file.name.startswith("index")]
        self.index = self.lib.SeismicIndex.load(str(files[0]))
        return json.loads(cost.read_text()), sum(file.stat().st_size for file in files)


# The narrowest first.
SEISMIC = [(5, 0.9), (8, 0.9), (8, 0.8), (12, 0.8), (16, 0.8), (16, 0.7), (24, 0.7), (40, 0.7)]
SEISMIC += [(40, 0.6), (40, 0.4)]


def pairs_of(rows: sp.csr_matrix) -> list[Any]:
    ends = rows.indptr
    terms = rows.indices.astype(np.uint32)
    return [(terms[a:b], rows.data[a:b]) for a, b in zip(ends, ends[1:])]


def run_synadb(folder: Path, rows: Any, queries: Any, truth: Any, recall: float) -> None:
    store, count, asked = Syna(folder), rows.shape[0], pairs_of(queries)
    timed(lambda: store.build(rows), count)
    store.search(asked)
    store.store.close()
    before = resident()
    store = Syna(folder)
    store.search(asked)
    stats, grown = store.store.stats(), resident() - before
    memory = (stats.memory_bytes + stats.mapped_bytes) / rows.nnz
    report(count, 0, 0, memory=memory, resident=grown / rows.nnz)
    disk = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    found = store.search(asked)
    timed(lambda: store.search(asked), len(asked), recall=share(found, truth), disk=disk)
    timed(lambda: store.store.search_batch(queries, K), len(asked))
    near = store.search(asked, recall)
    timed(lambda: store.search(asked, recall), len(asked), recall=share(near, found))
    one, given = Syna(folder, "one"), pairs_of(rows[:ADDED])
    timed(lambda: one.add(given), len(given))


def run_scipy(rows: Any, queries: Any) -> None:
    store, asked = Scipy(), pairs_of(queries)
    timed(lambda: store.build(rows), rows.shape[0])
    store.search(asked[:10])
    held = sum(part.nbytes for part in (store.columns.data, store.columns.indices))
    report(rows.shape[0], 0, 0, memory=held / rows.nnz)
    timed(lambda: store.search(asked), len(asked), recall=1.0, disk=0)
    timed(lambda: store.batch(queries), len(asked))


def run_seismic(folder: Path, rows: Any, queries: Any, truth: Any, recall: float) -> None:
    store, asked = Seismic(), pairs_of(queries)
    took, size = store.build_once(rows, folder)
    report(rows.shape[0], *took)
    report(rows.shape[0], 0, 0, memory=size / rows.nnz)
    for cut, factor in SEISMIC:
        reached = share(store.search(asked, cut, factor), truth)
        if reached >= recall:
            break
    timed(lambda: store.search(asked, cut, factor), len(asked), recall=reached, disk=0)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    count, pairs, asked = map(int, sys.argv[3:6])
    recall, seed = float(sys.argv[6]), int(sys.argv[7])
    maker = Maker(count, seed)
    rows, subjects = maker.rows(count, pairs)
    queries = maker.queries(rows, subjects, asked)
    if name == "scipy":
        run_scipy(rows, queries)
        return
    columns = Scipy()
    columns.build(rows)
    truth = columns.search(pairs_of(queries))
    del columns
    if name == "synadb":
        run_synadb(folder, rows, queries, truth, recall)
    else:
        made = f"seismic-{version('pyseismic-lsr')}-{count}-{rows.nnz}-{seed}"
        run_seismic(folder / made, rows, queries, truth, recall)


if __name__ == "__main__":
    main()
