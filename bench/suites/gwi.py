"""GravityWellIndex: how fast lists are built, searched and added to, and what nprobe finds."""

from __future__ import annotations

import importlib.util
import os
from typing import Callable

from context import Context
from measure import Figure, Run, Sample, contest, figures, run_worker
from report import US, Floor, Row, Section, at_least, at_least_times, at_most

_NEEDS = {
    "synadb": "synadb",
    "faiss-flat": "faiss",
    "faiss-pq": "faiss",
    "faiss-rabitq": "faiss",
    "scann": "scann",
    "hnswlib": "hnswlib",
}
_LISTS = ["faiss-flat", "faiss-pq", "faiss-rabitq"]
_REFINED = ["faiss-pq", "faiss-rabitq"]
_MADE_ROWS, _RANDOM_ROWS = 30_000, 20_000
_LARGE = 200_000  # rows from which hnswlib's speed is a floor
_REAL = 50_000  # rows from which one run is enough, and a share is promised
_QUERIES, _REPEATS = 500, 2

Results = dict[str, list[list[Sample]]]
Pick = Callable[[list[Sample]], float]


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS: the beginnings of the names of
    <it>_base.npy and <it>_query.npy, several with colons between them, or "made"; made ones when
    none are named. Random ones are always added."""
    given = [name for name in os.environ.get("SYNADB_BENCH_VECTORS", "").split(":") if name]
    section = Section("gwi", "GravityWellIndex: ten nearest out of lists")
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]
    for source in [*(given or ["made"]), "random"]:
        _add_set(section, context, source, names, source in given and source != "made")
    missing = sorted(set(_NEEDS) - set(names))
    section.notes += [
        "Builds: training and adding, all rows in one call, on one processor and on two. Searches: "
        "one thread, one query a call. faiss and scann have as many lists as SynaDB has wells; "
        "faiss-pq (4-bit FastScan), faiss-rabitq and scann re-rank from full rows, each with the "
        "quickest setting that reaches the recall. hnswlib: M=16, ef_construction=200.",
        "made: points on a curved sheet in 128 dimensions; random: normal in 128 dimensions.",
        *([f"Left out, not installed: {', '.join(missing)}."] if missing else []),
    ]
    return section


def _rows_of(source: str, context: Context) -> int:
    most = {"made": _MADE_ROWS, "random": _RANDOM_ROWS}.get(source, context.sizes.keys)
    if source in ("made", "random"):
        return min(most, context.sizes.keys)
    import numpy as np

    return min(most, len(np.load(f"{source}_base.npy", mmap_mode="r")))


def _add_set(section: Section, context: Context, source: str, names: list[str], real: bool) -> None:
    count = _rows_of(source, context)
    title = os.path.basename(source)
    if source == "random":
        names = [name for name in names if name == US]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("gwi", name, title)
            try:
                return run_worker(
                    *("worker_gwi.py", name, folder, source, count, _QUERIES), context.seed
                )
            finally:
                context.discard(folder)

        return one

    repeats = 1 if count >= _REAL else min(_REPEATS, context.sizes.repeats)
    results = contest({name: runner(name) for name in names}, repeats, f"gwi {title}")
    if source != "random":
        _add_speeds(section, results, title, count)
    if US in results:
        _add_promises(section, results, title, count >= _REAL and real)


def _cells(results: Results, pick: Pick) -> dict[str, Figure]:
    """Without those who did not take part."""
    return {name: cell for name, cell in figures(results, pick).items() if cell.value > 0}


def _speed(place: int) -> Pick:
    return lambda samples: samples[place].per_cpu if samples[place].operations else 0.0


def _extra(place: int, name: str) -> Pick:
    return lambda samples: samples[place].extra[name]


def _add_speeds(section: Section, results: Results, title: str, count: int) -> None:
    rows = [
        Row(f"{title} build1", f"{title}: build, one thread", "rows / CPU-s", {}),
        Row(f"{title} build2", f"{title}: build, two threads", "rows / CPU-s", {}),
        Row(f"{title} at95", f"{title}: search at 0.95", "queries / CPU-s", {}),
        Row(f"{title} at98", f"{title}: search at 0.98", "queries / CPU-s", {}),
    ]
    for place, row in enumerate(rows):
        row.cells = _cells(results, _speed(place))
    section.rows += rows
    one, two, at95, at98 = rows
    for row, target in ((at95, 0.95), (at98, 0.98)):
        place = rows.index(row)
        reached = Row(row.id + " recall", row.what + ", recall", "share", {})
        reached.cells = _cells(results, _extra(place, "recall"))
        section.rows.append(reached)
        section.floors.append(at_least(reached.value(US), target, "share", reached.what))
    section.floors += [
        at_least_times(_kindest(one, two), 5.0, _LISTS, two.what),
        at_least_times(one, 20.0, ["hnswlib"], one.what),
        at_least_times(at95, 1.0, _REFINED, at95.what),
        at_least_times(at98, 1.0, _REFINED, at98.what),
    ]
    if count >= _LARGE:
        section.floors.append(at_least_times(at95, 1.0, ["hnswlib"], at95.what))


def _kindest(one: Row, two: Row) -> Row:
    """The second row; peers as in the better of both: threads that wait by spinning cost them."""
    cells = dict(two.cells)
    for name, cell in one.cells.items():
        if name != US and (name not in cells or cell.value > cells[name].value):
            cells[name] = cell
    return Row(two.id, two.what, two.unit, cells)


def _add_promises(section: Section, results: Results, title: str, real: bool) -> None:
    ours = {US: results[US]}

    def row(what: str, unit: str, pick: Pick) -> Row:
        made = Row(f"{title} {what}", f"{title}: {what}", unit, figures(ours, pick))
        section.rows.append(made)
        return made

    def floor(made: Row, least: float) -> Floor:
        return at_least(made.value(US), least, made.unit, made.what)

    shares = []
    for place, (probes, least) in enumerate(((5, 0.0), (50, 0.98), (100, 0.999)), start=4):
        found = row(f"recall, nprobe={probes}", "share", _extra(place, "recall"))
        shares.append(row(f"rows scored, nprobe={probes}", "share", _extra(place, "share")))
        if least:
            section.floors.append(floor(found, least))
    few, good = shares[0], shares[1]
    if real:
        section.floors.append(at_most(good.value(US), 0.25, "share", good.what))
        section.floors.append(at_most(few.value(US), (good.value(US) or 0) / 2, "share", few.what))
    add = row("inserts one by one", "rows / CPU-s", _speed(7))
    order = row("inserts region by region", "rows / CPU-s", _speed(8))
    section.floors += [floor(add, 20_000), floor(order, 20_000)]
    for what, name, least in (
        ("region by region, recall=0.95", "at95", 0.95),
        ("region by region, recall=0.98", "at98", 0.98),
        ("region by region, nprobe=50", "at_nprobe50", 0.98),
        ("region by region, nprobe=100", "at_nprobe100", 0.999),
    ):
        section.floors.append(floor(row(what, "share", _extra(8, name)), least))
    if real:
        share = row("region by region, rows scored, nprobe=50", "share", _extra(8, "share"))
        section.floors.append(at_most(share.value(US), 0.25, "share", share.what))
