"""HybridVectorStore: how fast vectors are taken in, and what a search feels while they move."""

from __future__ import annotations

import importlib.util
import os
from typing import Callable

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least_times, at_most

_NEEDS = {"synadb": "synadb", "zvec": "zvec", "hnswlib": "hnswlib"}
_MADE_ROWS, _QUERIES, _REPEATS = 50_000, 1_000, 2
_LARGE = 50_000  # rows from which one run is enough
# Places of the samples, see worker_hybrid.py.
_INGEST, _ONE, _IDLE, _CALLED, _AFTER, _UNPACED, _PACED = range(7)


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS, as in the section cascade."""
    given = [name for name in os.environ.get("SYNADB_BENCH_VECTORS", "").split(":") if name]
    section = Section("hybrid", "HybridVectorStore: taking in, moving, searching")
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]
    for source in given or ["made"]:
        _add_set(section, context, source, names)
    section.notes.append(
        "By cosine, one thread. zvec: inserts into a collection with an HNSW index that is not "
        "optimized; hnswlib: add_items, M=16, ef_construction=200. Searches ask for ten at the "
        "default recall, one query after the other. Their p50 and p99 are CPU time of the thread "
        "that searches, which another process does not lengthen; the wall times hold what it waits "
        "for as well. made: points on a curved sheet in 128 dimensions."
    )
    missing = sorted(set(_NEEDS) - set(names))
    if missing:
        section.notes.append(f"Left out, not installed: {', '.join(missing)}.")
    return section


def _rows_of(source: str, context: Context) -> int:
    if source == "made":
        return min(_MADE_ROWS, context.sizes.keys)
    import numpy as np

    return min(context.sizes.keys, len(np.load(f"{source}_base.npy", mmap_mode="r")))


def _add_set(section: Section, context: Context, source: str, names: list[str]) -> None:
    title = os.path.basename(source)
    count = _rows_of(source, context)

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("hybrid", name, title)
            try:
                return run_worker(
                    *("worker_hybrid.py", name, folder, source, count, _QUERIES), context.seed
                )
            finally:
                context.discard(folder)

        return one

    runners = {name: runner(name) for name in names}
    repeats = 1 if count >= _LARGE else min(_REPEATS, context.sizes.repeats)
    results = contest(runners, repeats, f"hybrid {title}")

    def speed(id: str, what: str, place: int) -> Row:
        cells = figures(results, lambda samples: samples[place].per_cpu)
        row = Row(f"{title} {id}", f"{title}: {what}", "rows / CPU-s", cells)
        section.rows.append(row)
        return row

    ingest = speed("ingest", "ingest, 1,000 a call", _INGEST)
    single = speed("one", "ingest, one a call", _ONE)
    section.floors += [
        at_least_times(ingest, 1.0, ["zvec"], ingest.what),
        at_least_times(ingest, 30.0, ["hnswlib"], ingest.what),
        at_least_times(single, 1.0, ["zvec"], single.what),
    ]
    _add_waits(section, results, title)


def _extra(place: int, name: str) -> Callable[[list[Sample]], float]:
    return lambda samples: samples[place].extra[name]


def _add_waits(section: Section, results: dict[str, list[list[Sample]]], title: str) -> None:
    ours = {US: results[US]}

    def wait(what: str, place: int, name: str) -> float:
        cells = figures(ours, _extra(place, name))
        row = Row(f"{title} {what} {name}", f"{title}: search, {name}, {what}", "us", cells)
        row.higher_is_better = False
        section.rows.append(row)
        return row.value(US) or 0.0

    for name in ("p50", "p99", "wall p50", "wall p99"):
        idle = max(wait("half of it hot", _IDLE, name), wait("all cold", _AFTER, name))
        called = wait("while promote_to_cold runs", _CALLED, name)
        before = max(idle, wait("before a promotion by itself", _UNPACED, name))
        paced = wait("during a promotion by itself", _PACED, name)
        if name == "p99" and idle:
            for what, value, limit in (("called", called, idle), ("by itself", paced, before)):
                title_of = f"{title}: search p99, promotion {what}"
                section.floors.append(at_most(value / limit, 2.0, "x idle", title_of))
    for name in ("doubled", "missing"):
        cells = figures(ours, _extra(_AFTER, name))
        what = f"{title}: keys {name} after a promotion"
        row = Row(f"{title} {name}", what, "keys", cells, higher_is_better=False)
        section.rows.append(row)
        section.floors.append(at_most(row.value(US), 0, "keys", what))
