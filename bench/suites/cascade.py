"""CascadeIndex: what its presets find and how fast, built, added to, searched."""

from __future__ import annotations

import importlib.util
import os

from context import Context
from measure import Figure, Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_least_times, at_most

_NEEDS = {"synadb": "synadb", "hnswlib": "hnswlib", "faiss": "faiss"}
_MADE_ROWS = 50_000
_LARGE = 50_000  # rows from which one run is enough
_QUERIES, _REPEATS = 1_000, 2
# Places of the samples, see worker_cascade.py, and the share of the ten nearest that is promised.
_BUILD, _ADD = 0, 6
_SEARCHES = {"large": (1, 0.95), "high_recall": (2, 0.99), "fast_search": (3, 0.90)}
_OURS = {"small": (4, 0.95), "16 hyperplanes, buckets of 128, nprobe=8": (5, 0.90)}


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS: the beginnings of the names of
    <it>_base.npy and <it>_query.npy, several with colons between them; without it made ones."""
    sources = os.environ.get("SYNADB_BENCH_VECTORS", "").split(":")
    section = Section("cascade", "CascadeIndex: the ten nearest by its presets")
    for source in [name for name in sources if name] or ["made"]:
        _add_set(section, context, source)
    section.notes.append(
        "One thread, one query a call, by cosine; integers by euclidean distance. large promises "
        "0.95 of the ten nearest, high_recall 0.99, fast_search 0.90; hnswlib (M=16, "
        "ef_construction=200, its vectors included) and faiss (HNSW over 8-bit codes, M=16) search "
        "as narrowly as reaches that. made: points on a curved sheet in 128 dimensions."
    )
    return section


def _rows_of(source: str, context: Context) -> int:
    if source == "made":
        return min(_MADE_ROWS, context.sizes.keys)
    import numpy as np

    return min(context.sizes.keys, len(np.load(f"{source}_base.npy", mmap_mode="r")))


def _add_set(section: Section, context: Context, source: str) -> None:
    title = os.path.basename(source)
    count = _rows_of(source, context)
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("cascade", name, "index")
            try:
                return run_worker(
                    *("worker_cascade.py", name, folder, source, count, _QUERIES), context.seed
                )
            finally:
                context.discard(folder.parent)

        return one

    repeats = 1 if count >= _LARGE else min(_REPEATS, context.sizes.repeats)
    results = contest({name: runner(name) for name in names}, repeats, f"cascade {title}")

    def row(id: str, what: str, unit: str, cells: dict[str, Figure], higher: bool = True) -> Row:
        made = Row(f"{title} {id}", f"{title}: {what}", unit, cells, higher_is_better=higher)
        section.rows.append(made)
        return made

    ours = {US: results[US]} if US in results else {}
    build = row(
        "build", "build, all at once", "rows / CPU-s", figures(results, lambda s: s[_BUILD].per_cpu)
    )
    add = row("add", "add one by one", "rows / CPU-s", figures(ours, lambda s: s[_ADD].per_cpu))
    size = row(
        "bytes",
        "index without keys; SynaDB's without the vectors themselves",
        "bytes / row",
        figures(results, lambda s: s[1].extra["bytes"]),
        False,
    )
    section.floors += [
        at_least_times(build, 6.0, ["hnswlib"], build.what),
        at_least(add.value(US), 20_000, "rows / CPU-s", add.what),
    ]
    theirs = size.value("hnswlib")
    if theirs:
        section.floors.append(
            at_most(size.value(US), theirs / 2, "bytes / row", f"{title}: half of hnswlib's")
        )
    for preset, (place, share) in {**_SEARCHES, **_OURS}.items():
        known = results if preset in _SEARCHES else ours
        search = row(
            f"{preset} search",
            f"search, {preset}",
            "queries / CPU-s",
            figures(known, lambda s, place=place: s[place].per_cpu),
        )
        found = row(
            f"{preset} recall",
            f"recall, {preset}",
            "share",
            figures(known, lambda s, place=place: s[place].extra["recall"]),
        )
        section.floors.append(at_least(found.value(US), share, "share", found.what))
        if preset in _SEARCHES:
            section.floors.append(at_least_times(search, 1.0, ["hnswlib"], search.what))
