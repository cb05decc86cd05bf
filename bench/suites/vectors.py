"""VectorStore beside the graph and list indexes that people use, on real vectors."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from context import Context
from measure import (
    BENCH_DIR,
    BenchError,
    Figure,
    Sample,
    TimedOut,
    figure,
    leave_out,
    left_out,
    progress,
    run_to_end,
    run_worker,
)
from report import US, Floor, Row, Section, at_least, at_least_times, at_most

_MODULES = {
    "synadb": "synadb",
    "svs-lvq8": "svs",
    "svs-lvq4x8": "svs",
    "svs-f16": "svs",
    "hnswlib": "hnswlib",
    "faiss-hnsw": "faiss",
    "faiss-ivf": "faiss",
    "faiss-flat": "faiss",
    "usearch-i8": "usearch",
    "usearch-bf16": "usearch",
    "zvec": "zvec",
    "lancedb": "lancedb",
    "sqlite-vec": "sqlite_vec",
}
_TASKS = {
    "search": (
        *("synadb", "svs-lvq8", "svs-lvq4x8", "svs-f16", "hnswlib", "faiss-hnsw", "usearch-i8"),
        *("usearch-bf16", "zvec", "lancedb", "sqlite-vec"),
    ),
    "build": ("synadb", "hnswlib", "usearch-i8", "svs-lvq8"),
    "add": ("synadb", "zvec", "hnswlib"),
    "exact": ("synadb", "faiss-flat"),
    "filter": ("synadb", "faiss-ivf", "hnswlib", "zvec", "lancedb", "sqlite-vec"),
}
# Of several sets in one run: what has a floor, with the peers it names; the first one is whole.
_BRIEF = {
    "search": ("synadb", "svs-lvq8", "svs-lvq4x8", "svs-f16", "hnswlib"),
    "build": ("synadb", "hnswlib"),
    "add": ("synadb", "zvec", "hnswlib"),
    "exact": ("synadb", "faiss-flat"),
    "filter": ("synadb", "faiss-ivf", "hnswlib", "zvec"),
}
_LATER = {task: _BRIEF[task] for task in ("search", "exact")}
_FILTERS = {"1": "1 %", "10": "10 %", "50": "50 %", "_together": "of a section"}
_BUILD_TIMES, _ADD_TIMES = 6.0, 6.0
_MANY_ROWS, _MANY_TIMES = 1_000_000, 2.0  # from so many rows on, one query beside hnswlib
_KILLED = -signal.SIGKILL
# Seconds a worker may take. Slow builds of peers take some 100 on a quiet machine; what hangs does
# so for ever, and nobody else's inserts or filters take a minute.
_PEER_SECONDS = {"search": 240.0, "build": 180.0}
_PEER_SECONDS_ELSE, _OUR_SECONDS = 120.0, 400.0

# rows, queries, rows added one by one (by peers), rows of the opening, rows of the mapped file
_AMOUNTS = {
    "tiny": (11_000, 200, 2_000, 500, 11_000, 2_000),
    "quick": (15_000, 500, 10_000, 2_000, 50_000, 20_000),
    "full": (1_000_000, 1_000, 200_000, 10_000, 1_000_000, 50_000),
}

Results = dict[str, dict[str, dict[str, Sample]]]  # task, engine, row


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS: "made", the begin of <it>_base.npy and
    <it>_query.npy, one .npy, .fvecs or .bvecs file, or a folder of such pairs, those that have a
    <it>_section.npy before others; several of these with colons between. The first set is measured
    whole."""
    sources = _sources(os.environ.get("SYNADB_BENCH_VECTORS", "made"))
    kinds = ", ".join("made vectors" if one == "made" else _name(one) for one in sources)
    section = Section("vectors", f"VectorStore: {kinds}, ten nearest")
    missing = sorted({module for module in _MODULES.values() if not _installed(module)})
    if missing:
        section.notes.append(f"Not installed, so left out: {', '.join(missing)}.")
    _whole_set(context, section, sources[0], _TASKS if len(sources) == 1 else _BRIEF)
    for source in sources[1:]:
        _further_set(context, section, source)
    section.notes += [who for who in dict.fromkeys(left_out) if who.startswith("vectors: ")]
    section.notes.append(
        "One process a line; a search figure is the median of passes in it. Each engine takes the "
        "narrowest search that reaches the recall; graphs of M=16, ef_construction=200."
    )
    return section


def _name(source: str) -> str:
    return os.path.basename(source.rstrip("/"))


def _sources(given: str) -> list[str]:
    """The first is measured whole."""
    return [one for part in given.split(os.pathsep) for one in _sources_in(part)]


def _sources_in(given: str) -> list[str]:
    if not os.path.isdir(given):
        return [given]
    found = sorted(str(path)[: -len("_base.npy")] for path in Path(given).glob("*_base.npy"))
    found = [one for one in found if os.path.exists(f"{one}_query.npy")]
    if not found:
        raise BenchError(f"{given}: no <name>_base.npy with a <name>_query.npy")
    return sorted(found, key=lambda one: not os.path.exists(f"{one}_section.npy"))


def _data(context: Context, source: str) -> Path:
    rows, queries = _AMOUNTS[_size(context)][:2]
    if source == "made":
        rows = min(rows, 50_000)
    data = context.fresh("vectors", "data")
    run_worker("worker_vectors_data.py", source, data, rows, queries, context.seed)
    return data


def _whole_set(
    context: Context, section: Section, source: str, tasks: dict[str, tuple[str, ...]]
) -> None:
    data = _data(context, source)
    _, _, added, peers_added, opened, mapped = _AMOUNTS[_size(context)]
    found = {
        task: _all(context, task, names, data, added, peers_added) for task, names in tasks.items()
    }
    ours = _ours(context, data, opened, mapped)
    _searches(section, found, _rows_of(data))
    _builds(section, found)
    _exact(section, found)
    _asked(section, ours)
    _filters(section, found, ours)
    _facts(section, ours)


def _further_set(context: Context, section: Section, source: str) -> None:
    """Searches, the build on one thread, exact searches, and the recall that is asked for."""
    data, part = _data(context, source), Section("vectors", source)
    found = {task: _all(context, task, names, data, 0, 0) for task, names in _LATER.items()}
    ours = _task_of_ours(context, "asked", data, 0)
    _searches(part, found, _rows_of(data))
    row = _row(found["search"], "build", "build, 1 thread", "rows / CPU-s")
    _beats(part, row, _BUILD_TIMES, "build, 1 thread", ["hnswlib"])
    _exact(part, found)
    _asked(part, ours)
    for row in part.rows:
        row.id, row.what = f"{row.id}_{_name(source)}", f"{_name(source)}: {row.what}"
    for floor in part.floors:
        floor.what = f"{floor.what} ({_name(source)})"
    section.rows += part.rows
    section.floors += part.floors


def _size(context: Context) -> str:
    if context.sizes.keys >= 1_000_000:
        return "full"
    return "quick" if context.sizes.keys >= 100_000 else "tiny"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


# ---------------------------------------------------------------- running


def _all(
    context: Context,
    task: str,
    names: tuple[str, ...],
    data: Path,
    added: int,
    peers_added: int,
) -> dict[str, dict[str, Sample]]:
    results = {}
    for name in names:
        if not _installed(_MODULES[name]):
            continue
        progress(f"vectors: {task}: {name}")
        folder = context.fresh("vectors", name)
        count = added if name in (US, "zvec") else peers_added
        arguments = (name, task, data, folder, context.sizes.repeats, count)
        limit = _OUR_SECONDS if name == US else _PEER_SECONDS.get(task, _PEER_SECONDS_ELSE)
        try:
            results[name] = _named(run_worker("worker_vectors.py", *arguments, timeout=limit))
            if not results[name]:
                raise BenchError("it gave no results")
        except (BenchError, ValueError) as error:
            if name == US:
                raise
            leave_out(f"vectors: {task}", name, error)
            if isinstance(error, TimedOut) and error.samples:
                results[name] = _named(error.samples)
        context.discard(folder)
    progress("")
    return results


def _named(samples: Iterable[Sample]) -> dict[str, Sample]:
    """The last of each name."""
    return {str(sample.extra["row"]): sample for sample in samples}


def _ours(context: Context, data: Path, opened: int, mapped: int) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for task, rows in (("asked", 0), ("churn", 0), ("mmap", mapped)):
        found.update(_task_of_ours(context, task, data, rows))
    progress("vectors: reopen")
    folder = context.fresh("vectors", "reopen")
    fill = (BENCH_DIR / "worker_vectors_ours.py", "fill", data, folder, opened)
    code, _, error = run_to_end([sys.executable, *map(str, fill)], 2 * _OUR_SECONDS)
    if code != _KILLED:
        raise BenchError(f"vectors: fill: {error.strip()[-300:]}")
    for name in ("killed", "closed"):  # the one that was killed as it was left
        found.update(_named(run_worker("worker_vectors_ours.py", name, data, folder, opened)))
    found["closed"].extra["rows"] = opened
    context.discard(folder)
    progress("")
    return found


def _task_of_ours(context: Context, task: str, data: Path, rows: int) -> dict[str, Sample]:
    """Of several samples of a name the quickest."""
    progress(f"vectors: {task}")
    folder = context.fresh("vectors", task)
    samples = run_worker("worker_vectors_ours.py", task, data, folder, rows)
    context.discard(folder)
    return _named(sorted(samples, key=lambda s: s.per_wall))


# ---------------------------------------------------------------- rows and floors


def _row(
    results: dict[str, dict[str, Sample]], name: str, what: str, unit: str, wall: bool = False
) -> Row:
    cells = {
        engine: _one(samples[name].per_wall if wall else samples[name].per_cpu)
        for engine, samples in results.items()
        if name in samples
    }
    return Row(name, what, unit, cells)


def _one(value: float) -> Figure:
    return figure([value])


def _extra(
    results: dict[str, dict[str, Sample]], row: str, field: str, what: str, unit: str
) -> Row:
    cells = {
        engine: _one(samples[row].extra[field])
        for engine, samples in results.items()
        if samples.get(row) and samples[row].extra.get(field)
    }
    return Row(f"{row}_{field}", what, unit, cells)


def _peers(row: Row) -> list[str]:
    return [name for name in row.cells if name != US] or ["peers"]


def _beats(
    section: Section, row: Row, times: float, what: str, peers: list[str] | None = None
) -> None:
    section.rows.append(row)
    section.floors.append(at_least_times(row, times, peers or _peers(row), what))


def _rows_of(data: Path) -> int:
    return len(np.load(data / "base.npy", mmap_mode="r"))


def _searches(section: Section, found: Results, rows: int) -> None:
    search, unit = found["search"], "queries / CPU-s"
    for name, share in (("95", "0.95"), ("99", "0.99")):
        row = _row(search, f"one{name}", f"one query a call, recall {share}", unit)
        _beats(section, row, 1.0, f"single query, {share}")
        if name == "95" and rows >= _MANY_ROWS:
            what = f"single query, {share}, beside hnswlib"
            section.floors.append(at_least_times(row, _MANY_TIMES, ["hnswlib"], what))
    _beats(
        section,
        _row(search, "batch", "batch, 0.95, 2 threads", "queries / s", wall=True),
        1.0,
        "batch",
    )
    again = _row(search, "batch", "the same", unit)
    again.id = "batch_cpu"
    section.rows.append(again)
    section.rows.append(_extra(search, "one95", "recall", "recall of those at 0.95", "share"))


def _builds(section: Section, found: Results) -> None:
    search, hnswlib = found["search"], ["hnswlib"]
    row = _row(search, "build", "build, 1 thread", "rows / CPU-s")
    _beats(section, row, _BUILD_TIMES, "build, 1 thread", hnswlib)
    row = _row(found["build"], "build2", "build, 2 threads", "rows / s", wall=True)
    _beats(section, row, _BUILD_TIMES, "build, 2 threads", hnswlib)
    size = _extra(search, "build", "bytes", "index; SynaDB's beside the vectors", "bytes / row")
    size.higher_is_better = False
    peak = _extra(search, "build", "peak", "memory while building", "x of the built")
    peak.higher_is_better = False
    section.rows += [size, peak]
    section.floors.append(at_most(size.value(US), 560, "bytes / row", "index"))
    section.floors.append(at_most(peak.value(US), 1.5, "x", "memory while building"))
    insert = _row(found["add"], "insert", "one by one, searches beside", "rows / CPU-s")
    _beats(section, insert, 1.0, "one by one", ["zvec"])
    add = _row(found["add"], "add", "the same until all are in the graph", "rows / CPU-s")
    _beats(section, add, _ADD_TIMES, "one by one with absorption", hnswlib)
    wall = _row(found["add"], "insert", "one by one, by the clock", "rows / s", wall=True)
    wall.id = "insert_wall"
    section.rows.append(wall)
    _beside(section, found["add"])


def _beside(section: Section, add: dict[str, dict[str, Sample]]) -> None:
    """Time spent waiting for Python's interpreter lock is not the search's: it has no floor."""
    what = "search p99 beside inserts, CPU time of its thread"
    own = _extra(add, "beside", "times_idle", what, "x idle")
    clock = _extra(add, "beside", "times_idle_clock", "the same by the clock", "x idle")
    own.higher_is_better = clock.higher_is_better = False
    section.rows += [own, clock]
    section.floors.append(at_most(own.value(US), 5, "x idle", what))


def _exact(section: Section, found: Results) -> None:
    for name, what, times in (
        ("exact256", "exact, 256 queries", 5.0),
        ("exact1", "exact, one", 3.0),
    ):
        row = _row(found["exact"], name, what, "queries / CPU-s")
        _beats(section, row, times, what, ["faiss-flat"])


def _filters(section: Section, found: Results, ours: dict[str, Sample]) -> None:
    for name, what in _FILTERS.items():
        row = _row(found["filter"], f"filter{name}", f"rows {what} only, 0.95", "queries / CPU-s")
        _beats(section, row, 2.0, f"filter, {what}")
    complete = sum(
        int(sample.extra.get("short", 0))
        for name, sample in [*found["filter"].get(US, {}).items(), *ours.items()]
        if name.startswith(("filter", "asked"))
    )
    section.floors.append(at_most(complete, 0, "results", "filters, incomplete"))
    wanted = ours["asked"].extra["recall"] - 0.01
    for name, rows in _FILTERS.items():
        recall = ours[f"asked{name}"].extra["recall"]
        _fact(section, f"asked{name}", f"the same of rows {rows} only", "share", recall)
        what = f"recall of a filter, {rows}"
        section.floors.append(at_least(recall, wanted, "share", what))


def _fact(
    section: Section, id: str, what: str, unit: str, value: float, higher: bool = True
) -> None:
    section.rows.append(Row(id, what, unit, {US: _one(value)}, higher_is_better=higher))


def _asked(section: Section, ours: dict[str, Sample]) -> None:
    asked = ours["asked"].extra["recall"]
    _fact(section, "asked", "recall of searches that ask for 0.95", "share", asked)
    section.floors.append(
        Floor(
            "recall=0.95",
            "0.945 to 0.985 share",
            f"{asked:.3f} share",
            0.945 <= asked <= 0.985,
        )
    )


def _facts(section: Section, ours: dict[str, Sample]) -> None:
    churn = ours["churn"].extra
    _fact(section, "churn", "recall after 5 rounds of 20 % replaced", "share", churn["recall"])
    _fact(section, "fresh", "the same rows in a fresh store", "share", churn["fresh"])
    least = churn["fresh"] - 0.005
    section.floors.append(at_least(churn["recall"], least, "share", "recall after churn"))
    section.floors.append(at_most(churn["lost"], 0, "rows", "out of reach after churn"))
    rows = int(ours["closed"].extra["rows"])
    for name, what, limit in (
        ("closed", "a close", 50.0),
        ("killed", "kill -9, 10 % fresh", 500.0),
    ):
        taken = ours[name].wall * 1e3
        _fact(section, name, f"{rows:,} x 128 reopened after {what}", "ms", taken, higher=False)
        section.floors.append(at_most(taken, limit, "ms", f"reopened after {what}"))
    mapped, copied = ours["mmap"].per_wall, ours["copy"].per_wall
    section.rows.append(
        Row(
            "mmap",
            "MmapVectorStore.insert_batch, 768",
            "rows / s",
            {US: _one(mapped), "memcpy": _one(copied)},
        )
    )
    section.floors.append(
        at_least(mapped, min(0.8 * copied, 500_000), "rows / s", "mapped insert_batch")
    )
