"""What SynaDB costs before it does anything: import time, foreign modules, size of the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from context import Context
from measure import BENCH_DIR, Run, Sample, contest, figure, figures, progress, run_process
from report import US, Floor, Row, Section, at_most

# Not from the folder this is run in: the package lies there too, without what is compiled.
_IMPORT = """
import json, sys, time
sys.path[:] = filter(None, sys.path)
wall, cpu = time.perf_counter(), time.process_time()
import {module}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({{"ops": 1, "wall": wall, "cpu": cpu}}))
"""

_FOREIGN = """
import json, sys
sys.path[:] = filter(None, sys.path)
import synadb
own = {"synadb", "numpy", "__main__"} | set(sys.stdlib_module_names)
found = {name.split(".")[0] for name in sys.modules} - own
print(json.dumps(sorted(name for name in found if "cython_" not in name)))  # its run-time's own
"""


def run(context: Context) -> Section:
    section = Section("footprint", "Before anything is done")
    _import_time(context, section)
    _foreign_modules(section)
    _wheel(context, section)
    return section


def _import_time(context: Context, section: Section) -> None:
    def runner(module: str) -> Run:
        def one(_repeat: int) -> list[Sample]:
            return run_process([sys.executable, "-c", _IMPORT.format(module=module)])

        return one

    modules = ["synadb", "numpy", *(m for m in ("lmdb", "rocksdict") if m in context.peers)]
    results = contest({m: runner(m) for m in modules}, max(context.sizes.repeats, 5), "import")
    row = Row(
        "import",
        "import, numpy included where it is needed",
        "ms (clock)",
        figures(results, lambda samples: 1e3 * samples[0].wall),
        higher_is_better=False,
    )
    section.rows.append(row)
    section.floors.append(at_most(row.value(US), 150.0, "ms", "import synadb"))


def _foreign_modules(section: Section) -> None:
    """Everything loaded must be ours, numpy, or the standard library (site hooks are not ours)."""
    if sys.version_info < (3, 10):
        section.notes.append("Modules are not listed: sys.stdlib_module_names needs Python 3.10.")
        return

    def loaded(code: str) -> set[str]:
        return set(json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)))

    foreign = loaded(_FOREIGN) - loaded(_FOREIGN.replace("import synadb\n", ""))
    section.floors.append(
        Floor(
            "import synadb loads",
            "numpy and stdlib only",
            ", ".join(sorted(foreign)) or "nothing else",
            not foreign,
        )
    )


def _wheel(context: Context, section: Section) -> None:
    wheel = context.wheel or _build(context)
    if wheel is None:
        section.notes.append("The wheel was not built here.")
    size = wheel.stat().st_size / 1e6 if wheel else None
    if size is not None:
        section.rows.append(
            Row("wheel", "size of the wheel", "MB", {US: figure([size])}, higher_is_better=False)
        )
    section.floors.append(at_most(size, 5.0, "MB", "wheel"))


def _build(context: Context) -> Path | None:
    progress("building the wheel")
    folder = context.fresh("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    subprocess.run([*command, str(BENCH_DIR.parent)], capture_output=True)
    return next(folder.glob("*.whl"), None)
