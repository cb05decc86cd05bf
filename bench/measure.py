"""Repeated, interleaved runs in processes of their own, and what is made of the samples.

A run is one process on one store. Its CPU time is that of all its threads, kernel time included,
so background work is charged to the store that causes it. The order of the contestants moves by
one place from repeat to repeat: whoever profits from what ran before profits in turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH_DIR = Path(__file__).resolve().parent


# Idle threads of a linear algebra library would be charged to whoever imports numpy.
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class BenchError(Exception):
    """A contestant failed; the message is its own."""


@dataclass(frozen=True)
class Sample:
    """One timed result of one run."""

    operations: float
    wall: float
    cpu: float
    extra: dict[str, float]

    @property
    def per_cpu(self) -> float:
        return self.operations / max(self.cpu, 1e-9)

    @property
    def per_wall(self) -> float:
        return self.operations / max(self.wall, 1e-9)


def run_process(command: Sequence[str | Path], timeout: float = 3600) -> list[Sample]:
    """Run a worker; every line of JSON on its standard output is one sample."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **_QUIET},
    )
    if done.returncode != 0:
        tail = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise BenchError(f"{' '.join(map(str, command[:4]))}: {tail[0]}")
    return [_sample(line) for line in done.stdout.splitlines() if line.startswith("{")]


def run_worker(script: str, *arguments: object) -> list[Sample]:
    """Run one of the Python workers beside this file."""
    return run_process([sys.executable, BENCH_DIR / script, *map(str, arguments)])


def _sample(line: str) -> Sample:
    data = json.loads(line)
    return Sample(data.pop("ops", 0), data.pop("wall", 0.0), data.pop("cpu", 0.0), data)


Run = Callable[[int], list[Sample]]


def contest(contestants: dict[str, Run], repeats: int, label: str) -> dict[str, list[list[Sample]]]:
    """Run every contestant `repeats` times, taking turns. A result per contestant and repeat.

    A contestant that fails is reported and left out; SynaDB's own failure ends the benchmark.
    """
    results: dict[str, list[list[Sample]]] = {name: [] for name in contestants}
    names = list(contestants)
    for repeat in range(repeats):
        turn = repeat % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            progress(f"{label}: {name} {repeat + 1}/{repeats}")
            try:
                results[name].append(contestants[name](repeat))
            except (BenchError, subprocess.TimeoutExpired) as error:
                if name == "synadb":
                    raise
                print(f"\nbench: {label}: {name} is left out: {error}", file=sys.stderr)
                names = [other for other in names if other != name]
                results.pop(name)
    progress("")
    return results


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Figure:
    """A median with the range it came from."""

    value: float
    low: float
    high: float
    runs: int

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "runs": self.runs}


def figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values), len(values))


def figures(
    results: dict[str, list[list[Sample]]], pick: Callable[[list[Sample]], float]
) -> dict[str, Figure]:
    """One figure per contestant; `pick` turns the samples of one run into a number."""
    return {name: figure([pick(run) for run in runs]) for name, runs in results.items() if runs}
