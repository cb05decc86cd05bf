"""CascadeIndex: vectors found at a recall, built, added one by one, searched."""

from __future__ import annotations

import importlib.util
import os

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_least_times, at_most

_NEEDS = {"synadb": "synadb", "hnswlib": "hnswlib", "faiss": "faiss"}
_ROWS = 50_000  # at most; the floors are about these
_QUERIES = 1_000
_RECALL = 0.95


def run(context: Context) -> Section:
    """The vectors are those of $SYNADB_BENCH_VECTORS: <it>_base.npy and <it>_query.npy."""
    source = os.environ.get("SYNADB_BENCH_VECTORS", "made")
    kind = "made vectors" if source == "made" else os.path.basename(source)
    section = Section("cascade", f"CascadeIndex: {kind}, {_RECALL} of the ten nearest")
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

    results = contest({name: runner(name) for name in names}, context.sizes.repeats, "cascade")
    build = Row("build", "all at once", "rows / CPU-s", figures(results, lambda s: s[0].per_cpu))
    search = Row(
        "search", "ten nearest", "queries / CPU-s", figures(results, lambda s: s[-1].per_cpu)
    )
    found = Row("recall", "reached", "share", figures(results, lambda s: s[-1].extra["recall"]))
    size = Row(
        "bytes",
        "index without keys; SynaDB's without the vectors themselves",
        "bytes / row",
        figures(results, lambda s: s[-1].extra["bytes"]),
        higher_is_better=False,
    )
    ours = {US: results[US]} if US in results else {}
    add = Row("add", "one by one", "rows / CPU-s", figures(ours, lambda s: s[1].per_cpu))
    section.rows += [build, add, search, found, size]
    section.floors += [
        at_least(found.value(US), _RECALL, "share", "recall"),
        at_least(add.value(US), 20_000, "rows / CPU-s", "one by one"),
        at_least_times(build, 6.0, ["hnswlib"], "build"),
        at_least_times(search, 1.0, ["hnswlib"], "search"),
    ]
    theirs = size.value("hnswlib")
    if theirs:
        section.floors.append(
            at_most(size.value(US), theirs / 2, "bytes / row", "half of hnswlib's")
        )
    section.notes.append(
        "One thread, one query a call. hnswlib: M=16, ef_construction=200, its vectors included; "
        "faiss: HNSW over 8-bit codes, M=16; both with the narrowest search that reaches it."
    )
    return section
