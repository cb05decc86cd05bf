"""Killing writers, flipping bits, cutting files: what is lost, what is wrong, what is noticed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from context import Context
from measure import BENCH_DIR, BenchError, Figure, figure, progress, run_worker
from report import US, Floor, Row, Section

_FRESH_EVERY = 10  # every check reads the whole store, so it should not grow for ever


def run(context: Context) -> Section:
    section = Section("recovery", "Faults, Python")
    _kills(context, section)
    _damage(context, section)
    section.notes.append(
        "Kills: a writer of unsynced puts and commits of ten keys reports each as it returns and "
        "dies of SIGKILL at a random moment; the next one continues in the same store. Lost: "
        "acknowledged and not there. Wrong: there with a value never put. Flips and cuts: one "
        "bit, or the end of the file, of a small closed database; noticed: verify, the open report "
        "or a read says so."
    )
    return section


# ---------------------------------------------------------------- kill -9


def _kills(context: Context, section: Section) -> None:
    rng = random.Random(context.seed)
    rows: dict[str, dict[str, Figure]] = {"lost": {}, "wrong": {}, "open": {}}
    for name in context.peers:
        lost, wrong, opens = 0, 0, []
        for kill in range(context.sizes.kills):
            progress(f"kills: {name} {kill + 1}/{context.sizes.kills}")
            if kill % _FRESH_EVERY == 0:
                folder = context.fresh("kills", name)
            acknowledged = _write_and_kill(name, folder, rng.uniform(0.0, 0.15))
            sample = run_worker("worker_recovery.py", name, "check", folder, acknowledged)[0]
            lost += int(sample.extra["lost"])
            wrong += int(sample.extra["wrong"])
            opens.append(1e3 * sample.wall)
        rows["lost"][name], rows["wrong"][name] = figure([lost]), figure([wrong])
        rows["open"][name] = figure(opens)
        context.discard(context.work / "kills")
    kills = context.sizes.kills
    section.rows += [
        Row("lost", f"acknowledged and lost in {kills} kills", "operations", rows["lost"], False),
        Row("wrong", f"wrong values in {kills} kills", "keys", rows["wrong"], False),
        Row("reopen", "opening after a kill", "ms (clock)", rows["open"], False),
    ]
    total = int(rows["lost"][US].value + rows["wrong"][US].value)
    section.floors.append(Floor("kills: lost or wrong", "0", str(total), total == 0))


def _write_and_kill(name: str, folder: Path, seconds: float) -> int:
    """Returns the number of the last operation that was acknowledged, over all kills so far."""
    child = subprocess.Popen(
        [sys.executable, str(BENCH_DIR / "worker_recovery.py"), name, "write", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout and child.stderr
    ready = child.stdout.read(8)  # where it starts
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    acknowledged = ready + child.stdout.read()
    errors = child.stderr.read()
    if child.wait() != -signal.SIGKILL or len(ready) < 8:
        raise BenchError(f"{name}: the writer ended by itself: {errors.decode()[-300:]}")
    whole = len(acknowledged) // 8 * 8
    return int.from_bytes(acknowledged[whole - 8 : whole], "little")


# ---------------------------------------------------------------- damage


def _damage(context: Context, section: Section) -> None:
    for kind, tries in (("flips", context.sizes.flips), ("cuts", context.sizes.flips)):
        progress(kind)
        folder = context.fresh(kind)
        extra = run_worker("worker_recovery.py", US, kind, folder, tries, context.seed)[0].extra
        context.discard(folder)
        section.rows.append(
            Row(
                kind,
                f"wrong values in {tries} {kind}",
                "keys",
                {US: figure([extra["wrong"]])},
                False,
                f"{kind}: {extra['noticed']:.0f} of {tries} noticed.",
            )
        )
        section.floors.append(
            Floor(f"{kind}: wrong values", "0", f"{extra['wrong']:.0f}", extra["wrong"] == 0)
        )
        if kind == "flips":
            section.floors.append(
                Floor(
                    "flips: reported",
                    f"{tries} of {tries}",
                    f"{extra['noticed']:.0f}",
                    extra["noticed"] == tries,
                )
            )
