"""Repeated, interleaved runs in processes of their own, and what is made of the samples.

A run is one process on one store. Its CPU time is that of all its threads, kernel time included,
so background work is charged to the store that causes it. The order of the contestants moves by
one place from repeat to repeat: whoever profits from what ran before profits in turn.

A worker that takes longer than its time limit is killed with all that it started. Whoever is left
out for that, or because it failed, is written down (`left_out`), and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH_DIR = Path(__file__).resolve().parent


# Idle threads of a linear algebra library would be charged to whoever imports numpy.
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


# Seconds that a worker may take unless its suite says otherwise.
WORKER_SECONDS = 600.0


class BenchError(Exception):
    """A contestant failed; the message is its own."""


class TimedOut(BenchError):
    """A worker was killed at its time limit; `samples` are what it had reported by then."""

    def __init__(self, seconds: float, samples: list[Sample]) -> None:
        super().__init__(f"timed out after {seconds:g} s")
        self.samples = samples


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


def run_process(command: Sequence[str | Path], timeout: float = WORKER_SECONDS) -> list[Sample]:
    """Run a worker; every line of JSON on its standard output is one sample."""
    words = [str(part) for part in command]
    code, out, err = run_to_end(words, timeout)
    if code != 0:
        tail = err.strip().splitlines()[-1:] or [f"exit status {code}"]
        what = " ".join(Path(word).name for word in words[:4])
        raise BenchError(f"{what}: {tail[0]}")
    return _samples(out)


def run_to_end(words: Sequence[str], timeout: float) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a process that is its group's leader, so
    that what it started can be killed with it."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **_QUIET},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TimedOut(timeout, _samples(_end(process))) from None
    except BaseException:
        _end(process)
        raise
    return process.returncode, out, err


def _end(process: subprocess.Popen[str]) -> str:
    """Kill it and its children, which may hold its pipes open; what it had written."""
    os.killpg(process.pid, signal.SIGKILL)  # it was not waited for, so the number is its own
    return process.communicate()[0]


def run_worker(script: str, *arguments: object, timeout: float = WORKER_SECONDS) -> list[Sample]:
    """Run one of the Python workers beside this file."""
    return run_process([sys.executable, BENCH_DIR / script, *map(str, arguments)], timeout)


def _samples(out: str) -> list[Sample]:
    """A line cut short by a kill is none."""
    lines = [line for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    return [_sample(line) for line in lines]


def _sample(line: str) -> Sample:
    data = json.loads(line)
    return Sample(data.pop("ops", 0), data.pop("wall", 0.0), data.pop("cpu", 0.0), data)


Run = Callable[[int], list[Sample]]

# "label: name: why", of this run of the benchmark.
left_out: list[str] = []


def leave_out(label: str, name: str, error: Exception) -> None:
    left_out.append(f"{label}: {name}: {error}")
    print(f"\nbench: {label}: {name} is left out: {error}", file=sys.stderr)


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
            except (BenchError, ValueError) as error:  # ValueError: no JSON
                if name == "synadb":
                    raise
                leave_out(label, name, error)
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
