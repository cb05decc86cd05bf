"""One task of the dense bench with one engine, in a process of its own.

    worker_vectors.py ENGINE TASK DATA FOLDER PASSES ROWS

    search   build, the curve, then one query at a time and all at once
    build    build on two threads
    add      ROWS rows one by one while another thread searches
    exact    256 queries and single ones, every row compared
    filter   the ten nearest of 1, 10 and 50 % of the rows by chance, and of those that lie together

DATA is a folder of worker_vectors_data.py. Results are lines of JSON, each named by "row".
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from worker import report
from worker_vectors_data import K, Set, load, nearest
from worker_vectors_peers import ENGINES, Engine

RECALLS = {"95": 0.95, "99": 0.99}
SELECTIVITIES = (1, 10, 50)  # percent
_PASS_SECONDS = 0.5  # of a timed pass, about
_PAUSE = 0.005  # between two searches beside inserts
_IDLE_SEARCHES = 300


def numbers(found: Any) -> list[int]:
    return [int(getattr(one, "key", one)) for one in found]


def recall_of(found: Any, truth: np.ndarray) -> float:
    """`truth` has -1 behind the last where fewer rows exist."""
    wanted = [set(line[line >= 0].tolist()) for line in truth]
    right = sum(len(want & set(numbers(got))) for got, want in zip(found, wanted))
    return right / max(sum(map(len, wanted)), 1)


class _Asked(Sequence[bool]):
    """Answers about widths, each asked for when it is looked at."""

    def __init__(self, widths: Sequence[int], answer: Callable[[int], bool]) -> None:
        self._widths, self._answer = widths, answer

    def __len__(self) -> int:
        return len(self._widths)

    def __getitem__(self, at: Any) -> Any:
        return self._answer(self._widths[at])


def narrowest(engine: Engine, recall: Callable[[], float], wanted: float) -> float:
    """Set the smallest width that reaches `wanted`, or the largest; the recall there."""

    def reached(width: int) -> float:
        engine.width = width
        return recall()

    at = bisect_left(_Asked(engine.widths, lambda width: reached(width) >= wanted), True)
    return reached(engine.widths[min(at, len(engine.widths) - 1)])


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def passes(
    name: str, ask: Callable[[Any], object], queries: Any, times: int, **extra: float
) -> None:
    """Report the median of passes of about _PASS_SECONDS: over as many of the queries as there is
    time for, and again if that is over sooner."""
    some = queries[:100]
    first = clocked(lambda: [ask(query) for query in some])[0] / len(some)
    wanted = max(10, int(_PASS_SECONDS / max(first, 1e-9)))
    count, rounds = min(len(queries), wanted), max(1, wanted // len(queries))

    def work() -> None:
        for _ in range(rounds):
            for query in queries[:count]:  # what was found is dropped, not kept
                ask(query)

    taken = [clocked(work) for _ in range(times)]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    report(rounds * count, wall, cpu, row=name, **extra)


def resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) * 1024
    return 0.0


def search(engine: Engine, data: Set, times: int, _rows: int) -> None:
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    wall, cpu = clocked(lambda: engine.build(data.base))
    peak, after = resident("VmHWM") - before, resident("VmRSS") - before
    count = len(data.base)
    if engine.threads == 1:
        size, peak = engine.bytes(count), peak / max(after, 1)
        report(*(count, wall, cpu), row="build", bytes=size, peak=peak)
    engine.keep()

    def recall() -> float:
        return recall_of(engine.many(data.query, 1), data.truth)

    for name, wanted in RECALLS.items():
        found = narrowest(engine, recall, wanted)
        if found < wanted:
            continue
        passes(f"one{name}", engine.one, data.query, times, recall=found, width=engine.width)
        if name == "95":
            _batches(engine, data.query, times)


def _batches(engine: Engine, queries: np.ndarray, times: int) -> None:
    """All queries in a call, on two threads; a call is too short to be timed alone."""
    if type(engine).many is type(engine).one or engine.module in ("zvec", "lancedb", "sqlite_vec"):
        return  # no batches of their own
    engine.many(queries, 2)  # two threads from here on, and everything was touched once
    once = clocked(lambda: engine.many(queries, 2))[0]
    calls = max(1, int(_PASS_SECONDS / max(once, 1e-9)))

    def work() -> None:
        for _ in range(calls):  # what was found is used and dropped, not kept
            engine.many(queries, 2)

    taken = [clocked(work) for _ in range(times)]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    report(calls * len(queries), wall, cpu, row="batch")


def build(engine: Engine, data: Set, _times: int, _rows: int) -> None:
    wall, cpu = clocked(lambda: engine.build(data.base))
    report(len(data.base), wall, cpu, row="build2")


# ---------------------------------------------------------------- one by one


class Searcher(threading.Thread):
    """Searches every few milliseconds and writes down how long each took: by the clock, in which
    the wait for the interpreter's lock counts, and in CPU time of this thread."""

    def __init__(self, engine: Engine, queries: np.ndarray) -> None:
        super().__init__()
        self.engine, self.queries = engine, queries
        self.end = threading.Event()
        self.taken: list[float] = []
        self.own: list[float] = []
        self.cpu = 0.0

    def run(self) -> None:
        while not self.end.wait(_PAUSE):
            self.once()
        self.cpu = time.thread_time()

    def once(self) -> None:
        query = self.queries[len(self.taken) % len(self.queries)]
        begin, own = time.perf_counter(), time.thread_time()
        self.engine.one(query)
        self.own.append(time.thread_time() - own)
        self.taken.append(time.perf_counter() - begin)


def percentile(taken: list[float], share: float) -> float:
    return sorted(taken)[int(share * (len(taken) - 1))]


def add(engine: Engine, data: Set, _times: int, rows: int) -> None:
    """The rows are those of the set again, each moved a little."""
    base = data.base[: len(data.base) // 2]
    rng = np.random.default_rng(3)
    spread = 0.3 * float(np.std(data.base[:1000]))
    more = np.resize(data.base[len(base) :], (rows, data.dims))
    more += rng.normal(0, spread, more.shape).astype(np.float32)
    engine.begin_add(base)
    engine.width = 40
    idle = Searcher(engine, data.query)
    for _ in range(_IDLE_SEARCHES):
        time.sleep(_PAUSE)
        idle.once()
    sys.setswitchinterval(0.0005)
    beside = Searcher(engine, data.query)
    if engine.module != "hnswlib":  # which forbids searches beside inserts
        beside.start()

    def insert() -> None:
        for i in range(rows):
            engine.add(len(base) + i, more[i])

    wall, cpu = clocked(insert)
    beside.end.set()
    if beside.ident:
        beside.join()
    report(rows, wall, cpu - beside.cpu, row="insert")
    settled = clocked(engine.settle)[1]  # by the clock nobody waits for it
    report(rows, wall, cpu - beside.cpu + settled, row="add")
    if beside.taken:
        clock, own = percentile(beside.taken, 0.99), percentile(beside.own, 0.99)
        report(
            len(beside.taken),
            *(clock, own),
            row="beside",
            times_idle=own / percentile(idle.own, 0.99),
            times_idle_clock=clock / percentile(idle.taken, 0.99),
        )


# ---------------------------------------------------------------- exact


def exact(engine: Engine, data: Set, times: int, _rows: int) -> None:
    engine.build(data.base)
    if engine.module == "synadb":
        store, plain = engine.store, {"vectors": False, "metadata": False, "exact": True}
        one: Any = lambda query: store.search(query, K, **plain)  # noqa: E731
        many: Any = lambda queries: store.search_batch(queries, K, **plain)  # noqa: E731
    else:
        one, many = engine.one, lambda queries: engine.many(queries, 1)
    queries = np.resize(data.query, (256, data.dims))
    found = recall_of(many(queries), np.resize(data.truth, (256, K)))
    taken = [clocked(lambda: many(queries)) for _ in range(times)]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    report(256, wall, cpu, row="exact256", recall=found)
    passes("exact1", one, data.query, times)


# ---------------------------------------------------------------- filters


def filtered(engine: Any, data: Set, times: int, _rows: int) -> None:
    engine.threads = 2
    engine.build_labelled(data.base, data.labels, data.section)
    engine.many(data.query[:1], 1)  # one thread from here on
    queries = data.query[:200]
    for percent in SELECTIVITIES:
        _chosen(engine, data, queries, times, f"filter{percent}", "n", percent)
    _chosen(engine, data, queries, times, "filter_together", "s", data.together)


def _chosen(
    engine: Any, data: Set, queries: np.ndarray, times: int, name: str, field: str, value: int
) -> None:
    chosen = data.labels < value if field == "n" else data.section == value
    truth = nearest(data.base, queries, K, chosen)
    engine.choose(chosen, field, value)

    def recall() -> float:
        return recall_of([engine.one_filtered(query) for query in queries], truth)

    found = narrowest(engine, recall, RECALLS["95"])
    if found < RECALLS["95"]:
        return
    wanted = min(K, int(np.count_nonzero(chosen)))
    short = sum(len(engine.one_filtered(query)) < wanted for query in queries)
    passes(name, engine.one_filtered, queries, times, recall=found, short=short)


TASKS: dict[str, Callable[..., None]] = {
    "search": search,
    "build": build,
    "add": add,
    "exact": exact,
    "filter": filtered,
}


def main() -> None:
    name, task, folder = sys.argv[1], sys.argv[2], Path(sys.argv[4])
    data = load(Path(sys.argv[3]))
    kind = ENGINES[name]
    threads = {"build": 2, "search": kind.search_build_threads}.get(task, 1)
    engine = kind(folder, data.dims, data.cosine, threads)
    engine.kept = Path(sys.argv[3])
    TASKS[task](engine, data, int(sys.argv[5]), int(sys.argv[6]))


if __name__ == "__main__":
    main()
