"""Experiences: ``exp/<session>/<micros>_<hash>``, JSON in bytes. They get the records and keys that
`ExperienceCollector` writes, in which equal transitions are found again wherever they come from.
Rewards that the ancestor kept once more (``idx/reward/<session>``) come over as the history that
they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from synadb._migrate.parts import Plan, json_object, last_time, value_of
from synadb._migrate.report import Findings
from synadb._transitions import Transition, escape, from_json
from synadb.db import SynaDB
from synadb.errors import SynaError

_KEY = re.compile(r"exp/(.+)/(\d{1,18})_([^/]+)\Z", re.S)
_SESSION = "meta/session/"
_MACHINE = "meta/machine"
_PER_BATCH = 1000

Move = tuple[str, Transition]


def plan(db: SynaDB, findings: Findings, of_runs: set[str]) -> Plan | None:
    """None when there are no transitions. `of_runs`: keys that belong to experiments."""
    found = Plan()
    machine = db.get(_MACHINE)
    moves: list[Move] = []
    taken: set[str] = set()
    for key in db.scan("exp/", keys_only=True):
        match = _KEY.match(key)
        value = value_of(db, key) if match and key not in of_runs else None
        if not match or not isinstance(value, bytes):
            continue
        try:
            transition = _transition(match, value, machine if isinstance(machine, str) else "")
        except (SynaError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            if "/run/" in key:  # part of an experiment's run that has lost its record
                continue
            findings.lose(key, f"no transition: {error}; kept under ancestor/")
            found.aside(key)
            continue
        while transition.key() in taken:  # the ancestor told two equal ones apart by their keys
            transition = replace(transition, timestamp=transition.timestamp + 1)
        taken.add(transition.key())
        moves.append((key, transition))
    if not moves:
        return found if found.leave_out else None
    findings.component("ExperienceCollector")
    findings.came["transitions"] += len(moves)
    found.leave_out += [key for key, _ in moves]
    found.writers.append(partial(_write, moves))
    _plan_sessions(db, found)
    return found


def _transition(match: re.Match[str], value: bytes, machine: str) -> Transition:
    line = json_object(value)
    if line is None:
        raise ValueError("its bytes are no JSON object")
    if not isinstance(line.get("session_id"), str) or not line["session_id"]:
        line["session_id"] = match[1]
    if not isinstance(line.get("machine_id"), str):
        line["machine_id"] = machine
    if not isinstance(line.get("metadata"), dict):
        line["metadata"] = {}
    return from_json(line, machine, int(match[2]))


def _write(moves: list[Move], old: SynaDB, new: SynaDB) -> None:
    for some in _pieces(moves):
        with new.batch() as batch:
            for key, transition in some:
                batch.put(transition.key(), transition.record(), when=last_time(old, key))


def _pieces(moves: list[Move]) -> Iterator[list[Move]]:
    return (moves[i : i + _PER_BATCH] for i in range(0, len(moves), _PER_BATCH))


def _plan_sessions(db: SynaDB, found: Plan) -> None:
    """What was said about sessions: JSON there, a packed dict here."""
    for key in db.scan(_SESSION, keys_only=True):
        facts = json_object(value_of(db, key))
        if facts is not None:
            found.leave_out.append(key)
            found.writers.append(partial(_write_session, key, facts))


def _write_session(key: str, facts: dict[str, Any], old: SynaDB, new: SynaDB) -> None:
    metadata, machine = facts.get("metadata"), facts.get("machine_id")
    record = {
        "metadata": metadata if isinstance(metadata, dict) else facts,
        "machine_id": machine if isinstance(machine, str) else "",
    }
    new.put(_SESSION + escape(key[len(_SESSION) :]), record, when=last_time(old, key))
