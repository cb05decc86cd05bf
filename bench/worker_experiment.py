"""Logging of runs and of experience, in a process of its own.

    worker_experiment.py CONTESTANT DIR RUNS POINTS TRANSITIONS SEED

CONTESTANT is synadb or sqlite3 (a table with an index; WAL, no sync, one transaction a point). One
line of JSON each for
    log       POINTS metrics of one run, one by one; "p50_us"
    shared    synadb only: the same into a file that several processes may write
    durable   synadb only: 8 threads log durably; "syncs" and "commits"
    best      the best of RUNS runs with POINTS points each, asked for the first time after an open
    batched   synadb only: TRANSITIONS transitions in batches of 10,000
    sample    synadb only: uniform batches of 256 of them
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from worker import report, timed

SAMPLE = 256
SAMPLES = 20_000
BATCH = 10_000
THREADS = 8
DURABLE = 100


def one_by_one(log: Callable[[float, int], object], points: int) -> None:
    """Time every call: the median is what the caller of a training loop waits for."""
    waits = np.empty(points)
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(points):
        start = time.perf_counter()
        log(1 / (step + 1), step)
        waits[step] = time.perf_counter() - start
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    report(points, wall, cpu, p50_us=float(np.median(waits) * 1e6))


def final(run: int) -> float:
    """What a run's metric ends with: all different, the best one somewhere in the middle."""
    return float(run * 7919 % 10_007)


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.sqlite"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma synchronous=off")
        self.connection.execute(
            "create table if not exists metrics (run integer, name text, value real, step integer)"
        )
        self.connection.execute("create index if not exists of_run on metrics (name, run, step)")

    def log(self, points: int) -> None:
        insert = "insert into metrics values (0, 'warm', ?, ?)"
        one_by_one(lambda value, step: self.connection.execute(insert, (value, step)), points)

    def fill(self, runs: int, points: int) -> None:
        self.connection.execute("begin")
        for run in range(runs):
            rows = ((run, "loss", final(run) + 1 / (i + 1), i) for i in range(points))
            self.connection.executemany("insert into metrics values (?, ?, ?, ?)", rows)
        self.connection.execute("commit")

    def best(self, points: int) -> int:
        query = "select run from metrics where name = 'loss' and step = ? order by value limit 1"
        return int(self.connection.execute(query, (points - 1,)).fetchone()[0])

    def close(self) -> None:
        self.connection.close()


class Syna:
    def __init__(self, folder: Path, name: str = "runs", **options: bool) -> None:
        from synadb import Experiment

        self.experiment = Experiment(name, folder / f"{name}.db", **{"shared": False, **options})

    def log(self, points: int) -> None:
        run = self.experiment.start_run()
        one_by_one(lambda value, step: run.log_metric("warm", value, step), points)

    def fill(self, runs: int, points: int) -> None:
        steps = list(range(points))
        falling = 1 / (np.arange(points) + 1)
        for run in range(runs):
            with self.experiment.start_run(tags=[f"number {run}"]) as one:
                for step, value in zip(steps, (final(run) + falling).tolist()):
                    one.log_metric("loss", value, step)

    def best(self, points: int) -> int:
        best = self.experiment.get_best_run("loss")
        return int(best.tags[0].split()[1])

    def close(self) -> None:
        self.experiment.close()


def durable(folder: Path) -> None:
    """A point a call, each acknowledged when it is on disk; threads share the syncs."""
    store = Syna(folder, "durable", sync_on_write=True)
    runs = [store.experiment.start_run() for _ in range(THREADS)]
    before = store.experiment.db.stats().syncs

    def log(run: object) -> None:
        for step in range(DURABLE):
            run.log_metric("loss", 1.0, step)

    threads = [threading.Thread(target=log, args=(run,)) for run in runs]
    wall, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    commits = THREADS * DURABLE
    report(commits, wall, cpu, syncs=store.experiment.db.stats().syncs - before, commits=commits)
    store.close()


def experience(folder: Path, count: int, seed: int) -> None:
    from synadb import ExperienceCollector

    rng = np.random.default_rng(seed)
    states, nexts = rng.random((BATCH, 8), np.float32), rng.random((BATCH, 8), np.float32)
    actions, rewards = rng.integers(0, 4, BATCH), rng.random(BATCH)
    with ExperienceCollector(folder / "experience.db") as collector:

        def fill() -> None:
            for _ in range(count // BATCH):
                collector.log_transitions(states, actions, rewards, nexts)

        timed(fill, count // BATCH * BATCH)
        collector.sample(SAMPLE)

        def draw() -> None:
            for _ in range(SAMPLES):
                collector.sample(SAMPLE)

        timed(draw, SAMPLES)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    runs, points, transitions, seed = map(int, sys.argv[3:7])
    contestant = Syna if name == "synadb" else Sqlite
    store = contestant(folder)
    store.log(points * 10)
    if name == "synadb":
        beside = Syna(folder, "beside", shared=True)
        beside.log(points * 10)
        beside.close()
        durable(folder)
    store.fill(runs, points)
    store.close()
    store = contestant(folder)
    found: list[int] = []
    timed(lambda: found.append(store.best(points)), 1)
    if found != [min(range(runs), key=final)]:
        raise SystemExit(f"run {found} was called the best")
    store.close()
    if name == "synadb":
        experience(folder, transitions, seed)


if __name__ == "__main__":
    main()
