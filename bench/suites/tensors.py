"""A large array: stored, loaded as a whole, and read by shuffled batches of rows."""

from __future__ import annotations

import importlib.util

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least_times, at_most

_NEEDS = {
    "synadb": "synadb",
    "npy": "numpy",
    "safetensors": "safetensors",
    "h5py": "h5py",
    "raw": "numpy",
}
_ROW_BYTES = 784 * 4
_MOST_BYTES = 1 << 30
# Of the sizes' own numbers: 512 MiB for the quick run.
_BYTES_A_KEY = 5369


def run(context: Context) -> Section:
    rows = min(_MOST_BYTES, context.sizes.keys * _BYTES_A_KEY) // _ROW_BYTES
    mib = rows * _ROW_BYTES >> 20
    section = Section("tensors", f"A float32 array of {rows:,} x 784, {mib} MiB")
    names = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module)]

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("tensors", name)
            try:
                return run_worker("worker_tensor.py", name, folder, rows, context.seed)
            finally:
                context.discard(folder)

        return one

    results = contest({name: runner(name) for name in names}, context.sizes.repeats, "tensors")
    by_rows = {name: runs for name, runs in results.items() if name in (US, "npy", "h5py")}

    def row(part: str, what: str, at: int, of: dict[str, list[list[Sample]]] = results) -> Row:
        cells = figures(of, lambda samples: samples[at].per_cpu / 1e9)
        return Row(part, what, "GB / CPU-s", cells)

    store = row("store", "store, until on disk", 0)
    load = row("load", "load as a copy, hot", 1)
    batches = row("rows", "shuffled batches of 256 rows, hot", -1, by_rows)
    view = Row(
        "view",
        "load as a mapped view, hot",
        "us",
        figures({US: results[US]}, lambda samples: samples[2].wall * 1e6),
        higher_is_better=False,
    )
    section.rows += [store, load, view, batches]
    section.floors += [
        at_least_times(store, 0.8, ["raw"], "store"),
        at_least_times(load, 1.0, [n for n in ("npy", "safetensors") if n in names], "load"),
        at_most(view.value(US), 1000, "us", "view"),
        at_least_times(batches, 1.0, ["npy"], "rows beside a memory map"),
        at_least_times(batches, 5.0, ["h5py"], "rows beside h5py"),
    ]
    section.notes.append(
        "raw: write and fsync of the same bytes, and numpy.fromfile. npy reads rows by fancy "
        "indexing of its memory map. Hot: the same was read before in the process; SynaDB has then "
        "compared every chunk's checksum, once."
    )
    return section
