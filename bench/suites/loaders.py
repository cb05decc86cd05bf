"""Training batches through PyTorch's DataLoader, beside the same loader over a .npy file."""

from __future__ import annotations

import importlib.util

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import Row, Section, at_least_times

_MOST_ROWS = 200_000
_WORKERS = (0, 2)


def run(context: Context) -> Section:
    rows = min(_MOST_ROWS, context.sizes.keys)
    section = Section("loaders", f"Shuffled batches of 256 of {rows:,} x 784 float32, PyTorch")
    if not importlib.util.find_spec("torch"):
        section.notes.append(
            "Not measured: PyTorch is not installed (`pip install 'synadb[torch]'`)."
        )
        return section

    def runner(name: str, workers: int) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("loaders", name)
            try:
                return run_worker("worker_loader.py", name, folder, rows, workers, context.seed)
            finally:
                context.discard(folder)

        return one

    for workers in _WORKERS:
        contestants = {name: runner(name, workers) for name in ("synadb", "npy")}
        results = contest(contestants, context.sizes.repeats, f"loaders, {workers} workers")
        # Time on the clock: the processor time of the workers is not the parent's.
        cells = figures(results, lambda samples: samples[0].per_wall)
        row = Row(f"workers_{workers}", f"{workers} worker processes", "rows / s", cells)
        section.rows.append(row)
        if workers:
            section.floors.append(at_least_times(row, 2.0, ["npy"], f"{workers} workers"))
    return section
