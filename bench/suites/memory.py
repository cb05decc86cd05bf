"""Memory a key, and the size of a tiny database."""

from __future__ import annotations

from context import PYTHON, Context
from measure import contest, figures
from report import US, Row, Section, at_most


def run(context: Context) -> Section:
    keys = context.sizes.memory_keys
    section = Section("memory", f"Memory after {keys:,} puts of 20-byte keys; size on disk, Python")
    results = contest(
        {name: context.on_fresh_folder(PYTHON, name, "memory", keys) for name in context.peers},
        min(context.sizes.repeats, 3),
        "memory",
    )
    for part, what, limit in (
        ("puts", "private dirty memory a key, after the puts", 40.0),
        ("scans", "the same, after ordered scans", 54.0),
    ):
        row = Row(
            part,
            what,
            "bytes / key",
            figures(results, lambda samples, part=part: samples[0].extra[part]),
            higher_is_better=False,
        )
        section.rows.append(row)
        section.floors.append(at_most(row.value(US), limit, "B/key", what))
    _small(context, section)
    section.notes.append(
        "Private_Dirty of /proc/self/smaps_rollup after a sync, less what it was after 1,000 puts, "
        "in the process that made the puts. The sync makes file pages clean, so a store that lives "
        "in its mapped file shows little here."
    )
    return section


def _small(context: Context, section: Section) -> None:
    results = contest(
        {name: context.on_fresh_folder(PYTHON, name, "small") for name in context.peers},
        1,
        "ten small values",
    )
    row = Row(
        "small",
        "ten small values, closed, on disk",
        "bytes",
        figures(results, lambda samples: samples[0].extra["disk"]),
        higher_is_better=False,
    )
    section.rows.append(row)
    section.floors.append(at_most(row.value(US), 4096, "bytes", "ten small values on disk"))
