"""Rows, floors and tables: what a section hands back, and how it is shown.

A results file is JSON: {"machine", "run", "sections": {name: section}}. The tables in README.md
and RESULTS.md are written from it between markers, so that no figure there was ever typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import machine
from measure import Figure

US = "synadb"


@dataclass
class Row:
    """One line of a table: the same work done by every contestant."""

    id: str
    what: str
    unit: str
    cells: dict[str, Figure]
    higher_is_better: bool = True
    note: str = ""

    def value(self, name: str) -> float | None:
        return self.cells[name].value if name in self.cells else None

    def best(self, names: Iterable[str]) -> float | None:
        found = [self.cells[name].value for name in names if name in self.cells]
        if not found:
            return None
        return max(found) if self.higher_is_better else min(found)


@dataclass
class Floor:
    """A figure that has to be reached. `passed` is None where a peer was missing."""

    what: str
    limit: str
    measured: str
    passed: bool | None


@dataclass
class Section:
    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# ---------------------------------------------------------------- floors


def at_least_times(row: Row, times: float, peers: list[str], what: str) -> Floor:
    """Our figure is at least `times` that of the best of `peers`."""
    ours, theirs = row.value(US), row.best(peers)
    limit = f">= {times:g}x {' / '.join(peers)}"
    if ours is None or not theirs:
        return Floor(what, limit, "not measured", None)
    return Floor(what, limit, f"{ours / theirs:.2f}x", ours >= times * theirs)


def at_most(value: float | None, limit: float, unit: str, what: str) -> Floor:
    if value is None:
        return Floor(what, f"<= {limit:g} {unit}", "not measured", None)
    return Floor(what, f"<= {limit:g} {unit}", f"{shorten(value)} {unit}", value <= limit)


def at_least(value: float | None, limit: float, unit: str, what: str) -> Floor:
    if value is None:
        return Floor(what, f">= {limit:g} {unit}", "not measured", None)
    return Floor(what, f">= {limit:g} {unit}", f"{shorten(value)} {unit}", value >= limit)


# ---------------------------------------------------------------- tables


def shorten(value: float) -> str:
    """Three significant digits and an SI letter for the large ones."""
    if abs(value) >= 10_000:
        for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
            if abs(value) >= 0.9995 * factor:
                return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _cell(row: dict[str, Any], name: str) -> str:
    cell = row["cells"].get(name)
    if cell is None:
        return "-"
    text = shorten(cell["value"])
    if name == US:
        return f"**{text}** ({_spread(cell)})" if cell["runs"] > 1 else f"**{text}**"
    ours = row["cells"].get(US)
    if not ours or not cell["value"] or not ours["value"]:
        return text
    ratio = ours["value"] / cell["value"]
    times = ratio if row["higher_is_better"] else 1 / ratio
    return f"{text} ({times:,.0f}x)" if times >= 99.5 else f"{text} ({times:.2g}x)"


def _spread(cell: dict[str, float]) -> str:
    middle = cell["value"] or 1.0
    return f"±{max(cell['high'] - middle, middle - cell['low']) / middle:.0%}"


def table(section: dict[str, Any]) -> str:
    names: list[str] = []
    for row in section["rows"]:
        names += [name for name in row["cells"] if name not in names]
    names.sort(key=lambda name: name != US)
    lines = [
        f"| {section['title']} | unit | " + " | ".join(names) + " |",
        "|---|---|" + "---:|" * len(names),
    ]
    for row in section["rows"]:
        cells = " | ".join(_cell(row, name) for name in names)
        lines.append(f"| {row['what']} | {row['unit']} | {cells} |")
    notes = section["notes"] + [row["note"] for row in section["rows"] if row["note"]]
    return "\n".join(lines + [""] + [f"{note}  " for note in notes]).rstrip() + "\n"


def floors_table(sections: Iterable[dict[str, Any]]) -> str:
    lines = ["| section | floor | wanted | measured | |", "|---|---|---|---|---|"]
    for section in sections:
        for floor in section["floors"]:
            verdict = {True: "PASS", False: "**FAIL**", None: "not measured"}[floor["passed"]]
            cells = (section["name"], floor["what"], floor["limit"], floor["measured"], verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine_text(results: dict[str, Any]) -> str:
    run = results["run"]
    lines = [
        f"Machine: {machine.describe(results['machine'])}.",
        f"Run: `{run['command']}`, {run['date']}, seed {run['seed']}. Figures are medians of "
        "repeated, interleaved runs, each in a process of its own; ± is the widest deviation of a "
        "run. In parentheses beside a peer: how many times better SynaDB is.",
    ]
    return "\n".join(lines + [f"Warning: {text}." for text in run["warnings"]]) + "\n"


def markdown(results: dict[str, Any]) -> str:
    sections = list(results["sections"].values())
    parts = ["# Benchmark", machine_text(results)]
    for section in sections:
        parts += [f"## {section['title']}", table(section)]
    return "\n".join([*parts, "## Floors", floors_table(sections)])


# ---------------------------------------------------------------- the published tables


def update_page(path: Path, results: dict[str, Any]) -> list[str]:
    """Write the tables between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.

    Returns the names that were written. A marker without its partner is an error; a marker whose
    section was not run keeps its old text.
    """
    text = path.read_text(encoding="utf-8")
    blocks = {name: table(section) for name, section in results["sections"].items()}
    blocks["machine"] = machine_text(results)
    blocks["floors"] = floors_table(results["sections"].values())
    written = []
    for name in re.findall(r"<!-- bench:(\w+) -->", text):
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
            raise ValueError(f"{path}: marker bench:{name} is not a pair")
        if name in blocks:
            head, rest = text.split(begin)
            tail = rest.split(end)[1]
            text = f"{head}{begin}\n{blocks[name]}{end}{tail}"
            written.append(name)
    path.write_text(text, encoding="utf-8")
    return written
