"""CascadeIndex: vectors found at a recall, built, added one by one, searched."""

from __future__ import annotations

import importlib.util
import os

from context import Context
from measure import Figure, Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_least_times, at_most

_NEEDS = {"synadb": "synadb", "hnswlib": "hnswlib", "faiss": "faiss"}
_ROWS = 50_000  # at most; the floors are about these
_QUERIES = 1_000
_RECALL = 0.95


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS: the beginnings of the names of
    <it>_base.npy and <it>_query.npy, several with colons between them; without it made ones."""
    sources = os.environ.get("SYNADB_BENCH_VECTORS", "").split(":")
    section = Section("cascade", f"CascadeIndex: {_RECALL} of the ten nearest")
    for source in [name for name in sources if name] or ["made"]:
        _add_set(section, context, source)
    section.notes.append(
        "One thread, one query a call, by cosine. hnswlib: M=16, ef_construction=200, its vectors "
        "included; faiss: HNSW over 8-bit codes, M=16; both with the narrowest search that reaches "
        "it. made: points on a curved sheet in 128 dimensions."
    )
    return section


def _add_set(section: Section, context: Context, source: str) -> None:
    title = os.path.basename(source)
    count = min(_ROWS, context.sizes.keys)
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("cascade", name, "index")
            try:
                return run_worker(
                    *("worker_cascade.py", name, folder, source, count, _QUERIES, _RECALL),
                    context.seed,
                )
            finally:
                context.discard(folder.parent)

        return one

    repeats = context.sizes.repeats
    results = contest({name: runner(name) for name in names}, repeats, f"cascade {title}")

    def row(id: str, what: str, unit: str, cells: dict[str, Figure], higher: bool = True) -> Row:
        made = Row(f"{title} {id}", f"{title}: {what}", unit, cells, higher_is_better=higher)
        section.rows.append(made)
        return made

    build = row(
        "build", "build, all at once", "rows / CPU-s", figures(results, lambda s: s[0].per_cpu)
    )
    search = row(
        "search",
        "search, ten nearest",
        "queries / CPU-s",
        figures(results, lambda s: s[-1].per_cpu),
    )
    found = row(
        "recall", "recall reached", "share", figures(results, lambda s: s[-1].extra["recall"])
    )
    size = row(
        "bytes",
        "index without keys; SynaDB's without the vectors themselves",
        "bytes / row",
        figures(results, lambda s: s[-1].extra["bytes"]),
        False,
    )
    ours = {US: results[US]} if US in results else {}
    add = row("add", "add one by one", "rows / CPU-s", figures(ours, lambda s: s[1].per_cpu))
    section.floors += [
        at_least(found.value(US), _RECALL, "share", found.what),
        at_least(add.value(US), 20_000, "rows / CPU-s", add.what),
        at_least_times(build, 6.0, ["hnswlib"], build.what),
        at_least_times(search, 1.0, ["hnswlib"], search.what),
    ]
    theirs = size.value("hnswlib")
    if theirs:
        section.floors.append(
            at_most(size.value(US), theirs / 2, "bytes / row", f"{title}: half of hnswlib's")
        )
