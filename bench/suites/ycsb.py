"""YCSB A to F: zipfian (0.99) reads, updates, inserts and scans over records of 1,000 bytes."""

from __future__ import annotations

from pathlib import Path

from context import PYTHON, Context
from measure import Run, Sample, contest, figures
from report import Row, Section, at_least_times
from workloads import (
    YCSB_TITLES,
    YCSB_VALUE_BYTES,
    YCSB_WORKLOADS,
    save_trace,
    trace_inserts,
    ycsb_trace,
)

from suites.kv import LMDB, PER_CPU, load

_UNORDERED = "dict+file"
_FLOORS = {"A": 2.0, "C": 1.3}
_SCAN_SHARE = 10  # a scan reads fifty records on average: workload E asks a tenth as often


def run(context: Context) -> Section:
    sizes = context.sizes
    section = Section("ycsb", f"YCSB, {sizes.ycsb_records:,} records of {YCSB_VALUE_BYTES:,} bytes")
    for language in context.languages():
        _run_language(context, section, language)
    section.notes.append(
        f"{sizes.ycsb_ops:,} operations a run ({sizes.ycsb_ops // _SCAN_SHARE:,} of E), one "
        "thread, the same trace for every store, unsynced as in the table above. The stores age: "
        "workloads run in the order A B C F D E."
    )
    return section


def _run_language(context: Context, section: Section, language: str) -> None:
    sizes = context.sizes
    folders = load(context, language, sizes.ycsb_records, YCSB_VALUE_BYTES)
    records = sizes.ycsb_records
    rows = []
    for workload in YCSB_WORKLOADS:
        names = [n for n in folders if n != _UNORDERED or workload != "E"]
        operations = sizes.ycsb_ops // (_SCAN_SHARE if workload == "E" else 1)
        plan: list[tuple[int, Path]] = []  # records present, and the trace, of each repeat
        for repeat in range(sizes.repeats):
            trace = ycsb_trace(workload, records, operations, context.seed + repeat)
            plan.append((records, context.work / f"{workload}{repeat}.trace"))
            save_trace(trace, plan[-1][1])
            records += trace_inserts(trace)
        results = contest(
            {name: _runner(context, language, name, folders[name], plan) for name in names},
            sizes.repeats,
            f"YCSB {workload}, {language}",
        )
        row = Row(
            f"ycsb_{workload}_{language}",
            f"{YCSB_TITLES[workload]}, {language}",
            PER_CPU,
            figures(results, lambda samples: samples[0].per_cpu),
        )
        rows.append(row)
        if language == PYTHON and workload in _FLOORS:
            section.floors.append(at_least_times(row, _FLOORS[workload], LMDB, f"YCSB {workload}"))
    section.rows += sorted(rows, key=lambda row: row.id)
    for folder in folders.values():
        context.discard(folder)


def _runner(
    context: Context, language: str, name: str, folder: Path, plan: list[tuple[int, Path]]
) -> Run:
    def run(repeat: int) -> list[Sample]:
        records, trace = plan[repeat]
        return context.task(language, name, "ycsb", folder, records, YCSB_VALUE_BYTES, trace)

    return run
