"""What only SynaDB is measured on in the dense bench, one task in a process of its own.

worker_vectors_ours.py TASK DATA FOLDER ROWS

asked    recall that queries find who ask for 0.95, with and without a filter
churn    recall after five rounds in which a fifth of the rows was replaced, and when fresh
fill     ROWS rows of 128 dimensions in a graph, closed; or a tenth of them fresh, then SIGKILL
closed   that store opened anew, until its first answer; killed: the other
mmap     MmapVectorStore.insert_batch of 768 dimensions, beside a copy in memory
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from worker import report
from worker_vectors import SELECTIVITIES, numbers, recall_of
from worker_vectors_data import K, Set, load, made, nearest

ROUNDS, REPLACED = 5, 0.2
_PLAIN: dict[str, Any] = {"vectors": False, "metadata": False}
_EF = 40
_DIMS, _WIDE = 128, 768


def _open(folder: Path, name: str, data: Set) -> Any:
    from synadb import VectorStore

    metric = "cosine" if data.cosine else "euclidean"
    return VectorStore(folder / name, data.dims, metric, sync_on_write=False)


def asked(data: Set, folder: Path, _rows: int) -> None:
    store = _open(folder, "rows.db", data)
    keys = list(map(str, range(len(data.base))))
    labels = [{"n": int(n), "s": int(s)} for n, s in zip(data.labels, data.section)]
    store.insert_batch(keys, data.base, labels)
    if store.stats().indexed_rows < len(data.base):
        store.build_index()
    found = store.search_batch(data.query, K, recall=0.95, **_PLAIN)
    report(1, 0, 0, row="asked", recall=recall_of(found, data.truth))
    together = data.together
    chosen: list[tuple[str, Any, np.ndarray]] = [
        (str(percent), {"n": {"$lt": percent}}, data.labels < percent) for percent in SELECTIVITIES
    ]
    chosen.append(("_together", {"s": together}, data.section == together))
    for name, filter, rows in chosen:
        truth, wanted = nearest(data.base, data.query, K, rows), min(K, np.count_nonzero(rows))
        found = store.search_batch(data.query, K, recall=0.95, filter=filter, **_PLAIN)
        short = sum(len(hits) < wanted for hits in found)
        report(1, 0, 0, row=f"asked{name}", recall=recall_of(found, truth), short=short)


# ---------------------------------------------------------------- churn


def churn(data: Set, folder: Path, _rows: int) -> None:
    """The rows that come are old ones moved a little; rows are numbered as they come."""
    rng = np.random.default_rng(5)
    rows = data.base.copy()
    alive = np.arange(len(rows))
    store = _open(folder, "churned.db", data)
    store.insert_batch(list(map(str, range(len(rows)))), rows)
    spread = 0.3 * float(np.std(rows[:1000]))
    for _ in range(ROUNDS):
        gone = rng.choice(alive, int(len(alive) * REPLACED), replace=False)
        for number in gone:
            store.delete(str(number))
        come = rows[gone] + rng.normal(0, spread, (len(gone), data.dims)).astype(np.float32)
        first = len(rows)
        store.insert_batch([str(first + i) for i in range(len(come))], come)
        rows = np.concatenate([rows, come])
        alive = np.concatenate([np.setdiff1d(alive, gone), np.arange(first, len(rows))])
    fresh = _open(folder, "fresh.db", data)
    fresh.insert_batch([str(number) for number in alive], rows[alive])
    for one in (store, fresh):
        one.absorb()  # both are measured through their graphs
    living = np.zeros(len(rows), bool)
    living[alive] = True
    truth = nearest(rows, data.query, K, living)
    churned, built = (
        recall_of(one.search_batch(data.query, K, ef=_EF, **_PLAIN), truth)
        for one in (store, fresh)
    )
    sample = rng.choice(alive, min(2000, len(alive)), replace=False)
    own = store.search_batch(rows[sample], 1, ef=200, **_PLAIN)
    lost = sum(numbers(hits) != [int(number)] for hits, number in zip(own, sample))
    report(1, 0, 0, row="churn", recall=churned, fresh=built, lost=lost)


# ---------------------------------------------------------------- opening


def fill(_data: Set, folder: Path, rows: int) -> None:
    """Closed in folder/closed.db; killed with a tenth of the rows fresh in folder/killed.db. All
    other rows are in the graph."""
    from synadb import VectorStore

    vectors = made(rows, 7, _DIMS)
    keys = list(map(str, range(rows)))
    tail = rows // 10
    closed, killed = folder / "closed.db", folder / "killed.db"
    with VectorStore(closed, _DIMS, sync_on_write=False) as store:
        store.insert_batch(keys[:-tail], vectors[:-tail])
        store.build_index()
    for part in folder.glob("closed.db*"):
        shutil.copyfile(part, folder / part.name.replace(closed.name, killed.name))
    with VectorStore(closed, _DIMS, sync_on_write=False) as store:
        store.insert_batch(keys[-tail:], vectors[-tail:])
        store.absorb()
    store = VectorStore(killed, _DIMS, sync_on_write=False)
    store.insert_batch(keys[-tail:], vectors[-tail:])
    os.kill(os.getpid(), signal.SIGKILL)


def _reopen(folder: Path, name: str) -> None:
    """Each in a process of its own: no other store works beside it or is closed meanwhile."""
    from synadb import VectorStore

    query = made(1, 8, _DIMS)[0]
    begin, cpu = time.perf_counter(), time.process_time()
    store = VectorStore(folder / f"{name}.db", _DIMS, sync_on_write=False)
    store.search(query, K, **_PLAIN)
    report(1, time.perf_counter() - begin, time.process_time() - cpu, row=name)


def closed(_data: Set, folder: Path, _rows: int) -> None:
    _reopen(folder, "closed")


def killed(_data: Set, folder: Path, _rows: int) -> None:
    _reopen(folder, "killed")


# ---------------------------------------------------------------- rows of a mapped file


def mmap(_data: Set, folder: Path, rows: int) -> None:
    from synadb import MmapVectorStore

    vectors = np.random.default_rng(1).normal(size=(rows, _WIDE)).astype(np.float32)
    keys = list(map(str, range(rows)))
    for turn in range(3):
        store = MmapVectorStore(folder / f"rows{turn}.mmap", _WIDE, initial_capacity=rows)
        begin, cpu = time.perf_counter(), time.process_time()
        store.insert_batch(keys, vectors)
        report(rows, time.perf_counter() - begin, time.process_time() - cpu, row="mmap")
        store.close()
        begin, cpu = time.perf_counter(), time.process_time()
        copy = np.empty_like(vectors)
        np.copyto(copy, vectors)
        report(rows, time.perf_counter() - begin, time.process_time() - cpu, row="copy")
        del copy


TASKS = {
    "asked": asked,
    "churn": churn,
    "fill": fill,
    "closed": closed,
    "killed": killed,
    "mmap": mmap,
}


def main() -> None:
    task, folder, rows = sys.argv[1], Path(sys.argv[3]), int(sys.argv[4])
    TASKS[task](load(Path(sys.argv[2])), folder, rows)


if __name__ == "__main__":
    main()
