"""Key-value logs. The core copies every record; the components' parts are put into their new form.

A first copy holds everything; from it the parts tell which keys they will write anew. If there are
any, the old log is copied a second time, without those, and that copy becomes the new file: so
nothing is in it twice, and the order and the times of all other records are those of the old
file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from synadb._core.migrate import copy_log
from synadb._migrate import registry, runs, tensors, transitions, vectors
from synadb._migrate.parts import Plan
from synadb._migrate.place import Place
from synadb._migrate.report import Findings
from synadb.db import SynaDB


def migrate_log(
    place: Place,
    findings: Findings,
    metric: str | None,
    dtypes: dict[str, np.dtype[Any]],
    progress: Any,
) -> None:
    findings.kind = "log"
    findings.component("SynaDB")
    whole = place.beside("whole")
    figures, told = copy_log(findings.old, whole, [], progress)
    with SynaDB(whole, sync_on_write=False) as old:
        plans = _plans(old, findings, metric, dtypes)
        leave_out = [key for plan in plans for key in plan.leave_out]
        if leave_out:
            figures, told = copy_log(findings.old, place.path, leave_out, progress)
            with SynaDB(place.path, sync_on_write=False) as new:
                _write(plans, old, new)
        else:
            _write(plans, old, old)
    if not leave_out:
        os.rename(whole, place.path)
    _tell(findings, figures, told)


def _write(plans: list[Plan], old: SynaDB, new: SynaDB) -> None:
    for plan in plans:
        for write in plan.writers:
            write(old, new)


def _plans(
    db: SynaDB, findings: Findings, metric: str | None, dtypes: dict[str, np.dtype[Any]]
) -> list[Plan]:
    experiments = runs.plan(db, findings)
    of_runs = set(experiments.leave_out) if experiments else set()
    found = [
        vectors.plan(db, findings, metric),
        registry.plan(db, findings),
        experiments,
        transitions.plan(db, findings, of_runs),
        tensors.plan(db, findings, dtypes),
    ]
    return [plan for plan in found if plan is not None]


def _tell(findings: Findings, figures: dict[str, Any], told: list[Any]) -> None:
    findings.came["values"] += figures["values"]
    findings.came["deletions"] += figures["deletions"]
    findings.torn_bytes = figures["torn_bytes"]
    findings.differences = figures["differences"]
    findings.rounding = figures["rounding"]
    for finding in told:
        what, _, why = finding.text.partition(": ")
        if what == "lost":
            findings.lose(f"offset {finding.offset}", why)
        else:
            findings.note(f"offset {finding.offset}: {finding.text}")
    if findings.differences:
        findings.note(
            f"{findings.differences:,} floats were stored as differences to the float before; each "
            "is now the sum of the differences, as the ancestor read it. Adding rounds: no sum is "
            f"further than {findings.rounding:.3g} from what was put"
        )
    if figures["poisoned"]:
        findings.note(
            f"{figures['poisoned']:,} of these sums are NaN or infinite because a float before "
            "them was: what was put is not in the old file"
        )
