"""Opening a large store: after a clean close, without its checkpoint, and after kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from context import PYTHON, Context
from measure import BENCH_DIR, BenchError, Run, Sample, contest, figures, progress
from report import US, Row, Section, at_most
from workloads import VALUE_BYTES

from suites.kv import load

_SIGKILLED = -9


def run(context: Context) -> Section:
    keys = context.sizes.open_keys
    section = Section("open", f"Opening {keys:,} keys and reading one, Python")
    clean = load(context, PYTHON, keys, VALUE_BYTES)
    row = _row(context, "clean", "after a clean close", clean)
    section.rows.append(row)
    section.floors.append(at_most(row.value(US), 10.0, "ms", "open, clean close"))

    checkpoint = clean[US] / "bench.db.idx"
    without = {US: _copy(clean[US], context.fresh(PYTHON, "without"))}
    (without[US] / checkpoint.name).unlink(missing_ok=True)
    section.rows.append(_row(context, "rebuild", "without the key checkpoint", without))
    for folder in [*clean.values(), *without.values()]:
        context.discard(folder)

    killed = {name: _killed(context, name, keys) for name in context.peers}
    row = _row(context, "killed", "after kill -9 behind as many puts", killed)
    section.rows.append(row)
    section.floors.append(at_most(row.value(US), 1000.0, "ms", "open, after kill -9"))
    for folder in killed.values():
        context.discard(folder)
    section.notes.append(
        "By the clock, files in the page cache; every run opens a fresh copy in a new process. The "
        "module is imported before the clock starts."
    )
    return section


def _row(context: Context, id: str, what: str, folders: dict[str, Path]) -> Row:
    """Open a copy of each folder: opening changes a store that was not closed."""

    keys = context.sizes.open_keys

    def runner(name: str, folder: Path) -> Run:
        def one(_repeat: int) -> list[Sample]:
            copy = _copy(folder, context.fresh(PYTHON, name, "copy"))
            try:
                return context.task(PYTHON, name, "open", copy, keys, VALUE_BYTES)
            finally:
                context.discard(copy)

        return one

    results = contest(
        {name: runner(name, folder) for name, folder in folders.items()},
        context.sizes.repeats,
        f"open, {what}",
    )
    return Row(
        id,
        what,
        "ms (clock)",
        figures(results, lambda samples: 1e3 * samples[0].wall),
        higher_is_better=False,
    )


def _copy(source: Path, target: Path) -> Path:
    """With holes kept: LMDB's file is as large as its map. Synced, so that no write-back of the
    copy runs beside the clock."""
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    return target


def _killed(context: Context, name: str, keys: int) -> Path:
    """A store whose writer died of SIGKILL right after its last put."""
    folder = context.fresh(PYTHON, name, "killed")
    progress(f"writing, then killing: {name}")
    arguments = [name, "die", str(folder), str(keys), str(VALUE_BYTES)]
    command = [sys.executable, str(BENCH_DIR / "worker.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != _SIGKILLED:
        raise BenchError(f"{name} should have been killed: {done.returncode} {done.stderr[-300:]}")
    return folder
