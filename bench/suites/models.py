"""A large model: saved, loaded and streamed, beside a plain file with a SHA-256."""

from __future__ import annotations

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least_times, at_most

_MOST_BYTES = 500_000_000
# Of the sizes' own numbers: some 250 MB for the quick run.
_BYTES_A_KEY = 2_500


def figures_of_memory(context: Context, runner: Run) -> list[Row]:
    results = contest({US: runner}, context.sizes.repeats, "models, memory")
    rows = []
    for at, what in enumerate(("save a file and export it", "save bytes", "load bytes")):
        cells = figures(results, lambda samples, at=at: samples[at].extra["peak_mb"])
        rows.append(Row(f"memory_{at}", f"memory to {what}", "MB", cells, higher_is_better=False))
    return rows


def run(context: Context) -> Section:
    size = min(_MOST_BYTES, context.sizes.keys * _BYTES_A_KEY)
    section = Section("models", f"A model of {size / 1e6:,.0f} MB")

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("models", name)
            try:
                return run_worker("worker_model.py", name, folder, size, context.seed)
            finally:
                context.discard(folder)

        return one

    contestants = {name: runner(name) for name in ("synadb", "plain")}
    results = contest(contestants, context.sizes.repeats, "models")

    def row(part: str, what: str, at: int) -> Row:
        cells = figures(results, lambda samples: samples[at].per_cpu / 1e9)
        return Row(part, what, "GB / CPU-s", cells)

    save = row("save", "save, until on disk", 0)
    load = row("load", "load, checksum compared", 1)
    stream = row("stream", "save a file and export it", 2)
    memory = figures_of_memory(context, runner("memory"))
    section.rows += [save, load, stream, *memory]
    section.floors += [
        at_least_times(save, 1.0, ["plain"], "save"),
        at_least_times(load, 1.0, ["plain"], "load"),
        at_most(memory[0].value(US), 64, "MB", "memory, streaming"),
        at_most(memory[1].value(US), 64, "MB", "memory beside the bytes, saving"),
        at_most(memory[2].value(US), size / 1e6 + 64, "MB", "memory, loading"),
    ]
    section.notes.append("plain: the bytes in a file, synced; hashlib.sha256 of them, compared.")
    return section
