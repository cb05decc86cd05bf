"""Records into files, and a history into DuckDB, against Python's own ways from the same data."""

from __future__ import annotations

import importlib.util

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import Row, Section, at_least_times

_NEEDED = ("pyarrow", "duckdb")
_PYTHON = "python"
_MOST_FLOATS = 10_000_000
# What is measured, and the part of the peer's speed that is wanted.
_PARTS = [
    ("parquet", "export_parquet of a history / pyarrow from numpy", 0.5),
    ("arrow", "export_arrow of a history / pyarrow from numpy", 0.5),
    ("jsonl", "export_jsonl / json.dumps of the same rows", 1.0),
    ("duckdb", "DuckDB count, avg over a History / over the Arrow table", 0.5),
]


def run(context: Context) -> Section:
    floats = min(_MOST_FLOATS, 10 * context.sizes.keys)
    section = Section("interchange", f"{floats:,} floats with their times")
    missing = [name for name in _NEEDED if not importlib.util.find_spec(name)]
    if missing:
        section.notes.append(f"Not measured: {', '.join(missing)} is not installed.")
        return section

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("interchange", name)
            try:
                return run_worker("worker_interchange.py", name, folder, floats, context.seed)
            finally:
                context.discard(folder)

        return one

    results = contest(
        {name: runner(name) for name in ("synadb", _PYTHON)}, context.sizes.repeats, "interchange"
    )
    for at, (part, what, times) in enumerate(_PARTS):
        cells = figures(results, lambda samples, at=at: samples[at].per_cpu / 1e6)
        row = Row(part, what, "M records / CPU-s", cells)
        section.rows.append(row)
        section.floors.append(at_least_times(row, times, [_PYTHON], part))
    section.notes.append(
        "Files of both are on disk when the time ends (fsync). SynaDB's table has one column more, "
        "the expiries. DuckDB runs one thread."
    )
    return section
