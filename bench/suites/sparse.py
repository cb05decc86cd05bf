"""SparseVectorStore: exact and approximate search of made vectors like a learned encoder's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from context import Context
from measure import (
    WORKER_SECONDS,
    Run,
    Sample,
    contest,
    figures,
    left_out,
    run_worker,
)
from report import US, Floor, Row, Section, at_least, at_least_times, at_most

_NEEDS = {"synadb": "synadb", "scipy": "scipy", "seismic": "seismic"}
_ONCE = ("seismic",)  # slow to build, so its first run stands for all
_SECONDS = 120.0  # for a run of seismic, which is left out beyond: the suite ends in four minutes
_KEPT = Path.home() / ".cache" / "synadb-bench"  # where seismic's index stays for the next run
_REPEATS = 5
_ROWS = 100_000  # at most; the floors are about these
_PAIRS = 120
_QUERIES = 200
_RECALL = 0.97
_BUILD, _MEMORY, _SEARCH, _BATCH, _NEAR, _ADD = range(6)  # the samples of a run


def run(context: Context) -> Section:
    count = min(_ROWS, context.sizes.keys)
    section = Section(
        "sparse",
        f"SparseVectorStore: {count:,} made vectors of about {_PAIRS} non-zeros, queries of 40",
    )
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]
    missing = [name for name in _NEEDS if name not in names]
    if "scipy" in missing:  # the vectors are made as its matrices
        section.notes.append("Not measured: scipy is not installed.")
        section.floors.append(Floor("all", "scipy", "not measured: scipy is not installed", None))
        return section
    if missing:
        section.notes.append(f"Left out, not installed: {', '.join(missing)}.")

    kept: dict[str, list[Sample]] = {}

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            if name in kept:
                return kept[name]
            folder = _KEPT if name in _ONCE else context.fresh("sparse", name)
            try:
                samples = run_worker(
                    *("worker_sparse.py", name, folder, count, _PAIRS, _QUERIES, _RECALL),
                    context.seed,
                    timeout=_SECONDS if name in _ONCE else WORKER_SECONDS,
                )
                if name in _ONCE:
                    kept[name] = samples
                return samples
            finally:
                if name not in _ONCE:
                    context.discard(folder)

        return one

    results = contest(
        {name: runner(name) for name in names}, min(context.sizes.repeats, _REPEATS), "sparse"
    )
    ours = {US: results[US]} if US in results else {}
    exact = {name: runs for name, runs in results.items() if name != "seismic"}
    per_query = "queries / CPU-s"
    build = Row("build", "in bulk", "rows / CPU-s", figures(results, lambda s: s[_BUILD].per_cpu))
    add = Row(
        "add", "one by one, unsynced", "rows / CPU-s", figures(ours, lambda s: s[_ADD].per_cpu)
    )
    search = Row("search", "ten best", per_query, figures(results, lambda s: s[_SEARCH].per_cpu))
    batch = Row("batch", "in one call", per_query, figures(exact, lambda s: s[_BATCH].per_cpu))
    near = Row("near", f"recall={_RECALL}", per_query, figures(ours, lambda s: s[_NEAR].per_cpu))
    faster = Row(
        "faster",
        f"recall={_RECALL} beside exact search, run by run",
        "times",
        figures(ours, lambda s: s[_NEAR].per_cpu / s[_SEARCH].per_cpu),
    )
    reached = Row(
        "reached",
        "of the ten best",
        "share",
        figures(results, lambda s: s[_SEARCH].extra["recall"]),
    )
    held = Row(
        "held", f"with recall={_RECALL}", "share", figures(ours, lambda s: s[_NEAR].extra["recall"])
    )
    memory = Row(
        "memory",
        "index in memory",
        "bytes / posting",
        figures(results, lambda s: s[_MEMORY].extra["memory"]),
        higher_is_better=False,
    )
    resident = Row(
        "resident",
        "the process grows by, opening and searching; mapped pages of the file included",
        "bytes / posting",
        figures(ours, lambda s: s[_MEMORY].extra["resident"]),
        higher_is_better=False,
    )
    disk = Row(
        "disk",
        "log with the vectors, and snapshot",
        "MB",
        figures(ours, lambda s: s[_SEARCH].extra["disk"] / 1e6),
        higher_is_better=False,
    )
    section.rows += [build, add, search, batch, near, faster]
    section.rows += [reached, held, memory, resident, disk]
    section.floors += [
        at_least_times(search, 10.0, ["scipy"], "search beside scipy's columns"),
        at_least_times(search, 1.0, ["seismic"], "search beside pyseismic"),
        at_least(held.value(US), _RECALL, "share", f"recall={_RECALL}"),
        at_most(memory.value(US), 6.0, "bytes / posting", "memory"),
        at_least(add.value(US), 20_000, "rows / CPU-s", "one by one"),
        at_least(faster.value(US), 2.0, "x", "beside exact search"),
    ]
    section.notes += [who for who in dict.fromkeys(left_out) if who.startswith("sparse: ")]
    section.notes.append(
        "One thread, one query a call. scipy: the query's columns of a CSC matrix times its "
        "weights, then the best selected; its memory is the matrix. seismic: pyseismic's defaults, "
        f"run once, its memory as saved, the cheapest of ten searches that reaches {_RECALL} on "
        f"these queries, or else the last. A run beyond {_SECONDS:.0f} s is "
        "left out, unless worker_sparse.py has built it once into ~/.cache/synadb-bench."
    )
    return section
