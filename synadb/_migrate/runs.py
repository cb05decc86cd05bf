"""Experiments: ``exp/<experiment>/run/<id>/...``. A run's keys are read and written anew, since
ours escape the experiment's name, name each run by a pointer, and keep a metric as one history of
points where the ancestor had a key for each step. Its Python and its Rust side wrote different
records; both are understood.

Of a metric the ancestor's Python wrote each value twice: under its step, and in
``metric_ts/<name>``. The second is left out when it says nothing more than the first."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from synadb._migrate.crc import crc32c
from synadb._migrate.parts import Plan, json_object, last_time, value_of
from synadb._migrate.report import Findings
from synadb._transitions import escape
from synadb.db import SynaDB

_META = re.compile(r"exp/(.+)/run/([^/]+)/meta\Z", re.S)
_STEP = re.compile(r"(.+)/(\d{1,19})\Z", re.S)
_STATUS = ("running", "completed", "failed", "killed")
_ID_MAX = 36
#: csrc/engine/metric_point.h: version, flags, 0, records covered, CRC; step, highest step; value,
#: value at the highest step, least, greatest, sum.
_HEAD = struct.Struct("<BBHII")
_NARROW, _WIDE = struct.Struct("<II5d"), struct.Struct("<QQ5d")
_ROUGH, _IS_WIDE, _FIRST = 2, 4, 8

Point = tuple[np.datetime64, int, float]


@dataclass
class _Run:
    """One run of the ancestor's, taken apart."""

    experiment: str
    run_id: str
    prefix: str
    record: dict[str, Any]
    params: dict[str, str] = field(default_factory=dict)  # name -> key
    artifacts: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # what is written anew


def plan(db: SynaDB, findings: Findings) -> Plan | None:
    """None when there are no runs."""
    found = Plan()
    taken: set[str] = set()
    for key in db.scan("exp/", keys_only=True):
        match = _META.match(key)
        if not match or match[1].startswith(".run"):
            continue
        value = value_of(db, key)
        record = json_object(value) if isinstance(value, str) else None
        why = _refused(match[2], record, taken)
        if why:
            findings.lose(key, f"{why}; kept under ancestor/")
            found.aside(key)
            continue
        assert record is not None
        taken.add(match[2])
        run = _read(db, findings, match[1], match[2], key[: -len("/meta")], record)
        findings.came["runs"] += 1
        findings.came["metric points"] += sum(map(len, run.metrics.values()))
        found.leave_out += run.keys
        found.writers.append(partial(_write, run))
    if taken:
        findings.component("Experiment")
    return found if taken or found.leave_out else None


def _refused(run_id: str, record: dict[str, Any] | None, taken: set[str]) -> str | None:
    if record is None or not ({"id", "run_id", "status", "started_at"} & record.keys()):
        return "no record of a run"
    if len(run_id.encode()) > _ID_MAX:
        return f"the run's id has more than {_ID_MAX} bytes"
    return f"there are two runs with the id {run_id}" if run_id in taken else None


# ----------------------------------------------------------------------------------------- reading


def _read(
    db: SynaDB, findings: Findings, name: str, run_id: str, prefix: str, record: dict[str, Any]
) -> _Run:
    given = record.get("experiment_name") or record.get("experiment")
    run = _Run(given if isinstance(given, str) else name, run_id, prefix, record)
    run.keys.append(f"{prefix}/meta")
    series: dict[str, list[tuple[np.datetime64, float]]] = {}
    for key in db.scan(f"{prefix}/", keys_only=True):
        part, _, rest = key[len(prefix) + 1 :].partition("/")
        if part == "param" and db.type_of(key) == "text":
            run.params[rest] = key
        elif part == "artifact" and db.type_of(key) in ("bytes", "text"):
            run.artifacts[rest] = key
        elif part == "metric" and _take_step(db, run, key, rest):
            pass
        elif part == "metric_ts" and db.type_of(key) == "float":
            series[rest] = _floats(db, key)
            continue
        elif key != f"{prefix}/meta":
            findings.note(f"{key!r} is no part of a run that is known; it came over as it is")
            continue
        if key != f"{prefix}/meta":
            run.keys.append(key)
    for metric, values in series.items():
        _take_series(findings, run, metric, values)
    for points in run.metrics.values():
        points.sort(key=lambda point: (point[0], point[1]))
    return run


def _floats(db: SynaDB, key: str) -> list[tuple[np.datetime64, float]]:
    return [(when, float(value)) for when, value in db.get_history(key) if _is_float(value)]


def _is_float(value: Any) -> bool:
    return isinstance(value, (float, np.floating))


def _take_step(db: SynaDB, run: _Run, key: str, rest: str) -> bool:
    """A key ``metric/<name>/<step>``; all that was ever logged for the step."""
    match = _STEP.match(rest)
    if not match or int(match[2]) >= 2**63 or db.type_of(key) != "float":
        return False
    points = run.metrics.setdefault(match[1], [])
    points += [(when, int(match[2]), value) for when, value in _floats(db, key)]
    return True


def _take_series(
    findings: Findings, run: _Run, metric: str, values: list[tuple[np.datetime64, float]]
) -> None:
    key = f"{run.prefix}/metric_ts/{metric}"
    points = run.metrics.get(metric)
    if points is None:  # the values alone: steps are counted
        run.metrics[metric] = [(when, step, value) for step, (when, value) in enumerate(values)]
    elif _same(points, values):
        pass
    else:
        findings.note(f"{key!r} holds values that are under no step; it came over as it is")
        return
    run.keys.append(key)


def _same(points: list[Point], values: list[tuple[np.datetime64, float]]) -> bool:
    """The same floats, bit by bit, in whatever order."""
    a = np.sort(np.array([value for _, _, value in points]).view(np.uint64))
    return np.array_equal(a, np.sort(np.array([value for _, value in values]).view(np.uint64)))


# ----------------------------------------------------------------------------------------- writing


def _write(run: _Run, old: SynaDB, new: SynaDB) -> None:
    base = f"exp/{escape(run.experiment)}/run/{run.run_id}"
    when = last_time(old, f"{run.prefix}/meta")
    with new.batch() as batch:
        batch.put_text(f"exp/.run/{run.run_id}", base, when=when)
        batch.put_text(f"{base}/meta", json.dumps(_meta(run)), when=when)
        for name, text in _params(old, run).items():
            batch.put_text(f"{base}/param/{name}", text, when=when)
        for name, key in run.artifacts.items():
            batch.put(f"{base}/artifact/{name}", _bytes(old.get(key)), when=last_time(old, key))
        for metric, points in run.metrics.items():
            for (time, _, _), record in zip(points, _records(points)):
                batch.put_bytes(f"{base}/metric/{metric}", record, when=time)


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else bytes(value)


def _meta(run: _Run) -> dict[str, Any]:
    record = run.record
    status = str(record.get("status") or "running").lower()
    tags = record.get("tags")
    return {
        "id": run.run_id,
        "experiment_name": run.experiment,
        "status": status if status in _STATUS else "running",
        "started_at": _seconds(record.get("started_at")),
        "ended_at": _seconds(record.get("ended_at")),
        "tags": [str(tag) for tag in tags] if isinstance(tags, list) else [],
        "parent": None,
    }


def _seconds(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _params(old: SynaDB, run: _Run) -> dict[str, str]:
    """Those in the record, which Rust wrote, and those with keys of their own."""
    given = run.record.get("params")
    params = given if isinstance(given, dict) else {}
    found = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in params.items()
        if name and "\0" not in name
    }
    found.update({name: str(old.get_text(key)) for name, key in run.params.items()})
    return found


def _records(points: list[Point]) -> list[bytes]:
    """The points as the records of a metric, each with the summary of those before it."""
    records: list[bytes] = []
    top_step, top_value, total = 0, 0.0, 0.0
    least = greatest = math.nan
    rough, crc = False, 0
    for number, (_, step, value) in enumerate(points):
        wide = max(step, top_step) > 0xFFFFFFFF
        flags = (_ROUGH if rough else 0) | (_IS_WIDE if wide else 0) | (0 if number else _FIRST)
        body = (_WIDE if wide else _NARROW).pack(
            step, top_step, value, top_value, least, greatest, total
        )
        records.append(_HEAD.pack(1, flags, 0, min(number, 0xFFFFFFFF), crc) + body)
        crc = crc32c(records[-1])
        rough = rough or (number > 0 and step <= top_step)
        if number == 0 or step >= top_step:
            top_step, top_value = step, value
        least, greatest = float(np.fmin(least, value)), float(np.fmax(greatest, value))
        total += value
    return records
