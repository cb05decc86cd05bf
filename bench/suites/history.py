"""Histories of floats: size when folded, speed when read, against what compresses arrays best."""

from __future__ import annotations

import importlib.util

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_most

_NEEDS = {"synadb": "synadb", "pcodec": "pcodec", "parquet+zstd": "pyarrow", "npy": "numpy"}
_APPEND, _FOLD, _STORED, _READBACK, _HOT = range(5)
_STORED_LIMIT = {"sensor": 1.0, "noise": 7.2}  # bytes a value


def run(context: Context) -> Section:
    sizes = context.sizes
    floats = sizes.series * sizes.points
    section = Section("history", f"{floats:,} floats in {sizes.series} histories")
    for kind in ("sensor", "noise"):
        _run_kind(context, section, kind)
    section.notes += [
        "sensor: a random walk rounded to two decimals; noise: normal, 52 random bits a value. "
        "npy: raw arrays, the limit. SynaDB appends 1,000 values a call, each call a commit; the "
        "peers get whole series. Every array read is compared bit for bit.",
        "read back: the first reading after opening again, from folded blocks. hot: read before in "
        "this process. The peers keep nothing in memory, so theirs is a second reading.",
    ]
    return section


def _run_kind(context: Context, section: Section, kind: str) -> None:
    sizes = context.sizes
    contestants = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("history", name)
            amount = (sizes.series, sizes.points, context.seed)
            try:
                return run_worker("worker_history.py", name, folder, kind, *amount)
            finally:
                context.discard(folder)

        return one

    results = contest(
        {name: runner(name) for name in contestants}, sizes.repeats, f"history, {kind}"
    )

    def row(what: str, at: int) -> Row:
        return Row(
            f"{kind}_{what}",
            f"{kind}: {what}",
            "GB / CPU-s",
            figures(results, lambda samples: samples[at].per_cpu / 1e9),
        )

    stored = Row(
        f"{kind}_stored",
        f"{kind}: stored",
        "bytes / value",
        figures(results, lambda samples: samples[_STORED].extra["bytes_per_value"]),
        higher_is_better=False,
    )
    append, readback, hot = row("append", _APPEND), row("read back", _READBACK), row("hot", _HOT)
    fold = row("fold (compact with history)", _FOLD)
    fold.cells = {US: fold.cells[US]}
    section.rows += [stored, append, fold, readback, hot]
    section.floors += [
        at_least(hot.value(US), 4.0, "GB/s", f"history hot, {kind}"),
        at_most(stored.value(US), _STORED_LIMIT[kind], "B/value", f"folded blocks, {kind}"),
        at_least(readback.value(US), 2.0, "GB/s", f"history read back, {kind}"),
    ]
