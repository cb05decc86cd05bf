"""Experiments and experience: logging beside a table in SQLite, the best run, replay."""

from __future__ import annotations

from context import Context
from measure import Run, Sample, contest, figures, run_worker
from report import US, Row, Section, at_least, at_most

_MOST_RUNS, _MOST_POINTS, _MOST_TRANSITIONS = 1000, 1000, 1_000_000


def run(context: Context) -> Section:
    keys = context.sizes.keys
    runs, points = min(_MOST_RUNS, keys // 100), min(_MOST_POINTS, keys // 100)
    transitions = min(_MOST_TRANSITIONS, max(keys, 10_000))
    section = Section(
        "experiments", f"{runs:,} runs of {points:,} points; {transitions:,} transitions"
    )

    def runner(name: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            folder = context.fresh("experiments", name)
            try:
                return run_worker(
                    "worker_experiment.py", name, folder, runs, points, transitions, context.seed
                )
            finally:
                context.discard(folder)

        return one

    contestants = {name: runner(name) for name in (US, "sqlite3")}
    results = contest(contestants, context.sizes.repeats, "experiments")
    ours = {US: results[US]}

    def waits(part: str, what: str, at: int, of: dict[str, list[list[Sample]]]) -> Row:
        cells = figures(of, lambda samples: samples[at].extra["p50_us"])
        return Row(part, what, "us, median", cells, higher_is_better=False)

    log = waits("log", "log_metric, sync off", 0, results)
    shared = waits("log_shared", "the same, file open to other processes", 1, ours)
    groups = Row(
        "log_durable",
        "syncs a durable log_metric, 8 threads",
        "syncs",
        figures(ours, lambda samples: samples[2].extra["syncs"] / samples[2].extra["commits"]),
        higher_is_better=False,
    )
    best = Row(
        "best_run",
        "best run, first question after an open",
        "ms",
        {
            name: cell
            for of, at in ((ours, 3), ({"sqlite3": results["sqlite3"]}, 1))
            for name, cell in figures(of, lambda samples, at=at: samples[at].wall * 1e3).items()
        },
        higher_is_better=False,
    )
    batched = Row(
        "transitions",
        "transitions logged in batches",
        "transitions / CPU-s",
        figures(ours, lambda samples: samples[4].per_cpu),
    )
    sample = Row(
        "samples",
        "uniform batches of 256 drawn",
        "batches / CPU-s",
        figures(ours, lambda samples: samples[5].per_cpu),
    )
    section.rows += [log, shared, groups, best, batched, sample]
    section.floors += [
        at_most(log.value(US), 5, "us", "log_metric"),
        at_most(shared.value(US), 5, "us", "log_metric, shared"),
        at_most(groups.value(US), 1, "sync", "a durable log_metric"),
        at_most(best.value(US), 10, "ms", "best run"),
        at_least(batched.value(US), 200_000, "/ CPU-s", "transitions"),
        at_least(sample.value(US), 20_000, "/ CPU-s", "samples"),
    ]
    section.notes.append(
        "sqlite3: one table with an index by metric, run and step; WAL, synchronous off."
    )
    return section
