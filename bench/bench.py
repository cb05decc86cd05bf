"""SynaDB beside lmdb, rocksdict, sqlite3 and a dict with a file: the one entry point.

    python bench/bench.py all --size quick --out results.json --markdown results.md
    python bench/bench.py report --out results.json --readme

Sections are the names in SECTIONS below, several at once, or all of them; `report` measures nothing
and shows the results file named by --out. With --add the sections go into that file beside those
which it has. With --readme the tables between the markers of README.md and RESULTS.md are
rewritten. Needs `pip install '.[bench]'` and a C compiler; whoever is missing is left out and said
so.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import machine
import native
import peers
import report
from context import Context
from measure import BENCH_DIR, BenchError
from suites import (
    cascade,
    experiments,
    footprint,
    gwi,
    history,
    hybrid,
    interchange,
    kv,
    loaders,
    memory,
    models,
    opening,
    recovery,
    sparse,
    tensors,
    text,
    vectors,
    ycsb,
)
from workloads import SIZES

SECTIONS: dict[str, Callable[[Context], report.Section]] = {
    "kv": kv.run,
    "ycsb": ycsb.run,
    "history": history.run,
    "open": opening.run,
    "memory": memory.run,
    "tensors": tensors.run,
    "vectors": vectors.run,
    "cascade": cascade.run,
    "gwi": gwi.run,
    "hybrid": hybrid.run,
    "text": text.run,
    "sparse": sparse.run,
    "interchange": interchange.run,
    "loaders": loaders.run,
    "models": models.run,
    "experiments": experiments.run,
    "recovery": recovery.run,
    "footprint": footprint.run,
}
PAGES = (BENCH_DIR.parent / "README.md", BENCH_DIR / "RESULTS.md")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", nargs="+", choices=[*SECTIONS, "all", "report"])
    parser.add_argument(
        "--size", choices=list(SIZES), default="quick", help="full: what the floors are about"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path("bench-results.json"), help="results as JSON"
    )
    parser.add_argument("--add", action="store_true", help="keep the other sections of --out")
    parser.add_argument("--markdown", type=Path, help="results as Markdown")
    parser.add_argument(
        "--readme", action="store_true", help="rewrite the tables of README.md and RESULTS.md"
    )
    parser.add_argument("--dir", type=Path, help="where the stores lie while they are measured")
    parser.add_argument("--peers", help="comma-separated, default all that are installed")
    parser.add_argument("--repeats", type=int, help="instead of the size's own number")
    parser.add_argument("--wheel", type=Path, help="weigh this wheel instead of building one")
    parser.add_argument("--no-c", action="store_true", help="Python only")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a floor is not reached")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the sections. The results file is written after each: an interrupted run keeps them."""
    sizes = SIZES[options.size]
    if options.repeats:
        sizes = type(sizes)(**{**vars(sizes), "repeats": options.repeats})
    names = peers.available(["synadb", *options.peers.split(",")] if options.peers else None)
    if "synadb" not in names:
        raise BenchError("synadb is not installed for this Python: pip install .")
    program = None if options.no_c else native.build(_cache())
    engines = native.engines(program) if program else []
    if options.peers:
        engines = [engine for engine in engines if engine in names]
    context = Context(sizes, options.seed, work, names, program, engines, options.wheel)
    results: dict[str, Any] = {
        "machine": machine.facts(work),
        "run": {
            "command": _command(options),
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "size": options.size,
            "seed": options.seed,
            "warnings": [],
        },
        "sections": {},
    }
    if options.add and options.out.exists():
        _take_over(results, json.loads(options.out.read_text()))
    for name in SECTIONS if "all" in options.section else options.section:
        _warn(results, name)
        print(f"bench: {name}", file=sys.stderr)
        results["sections"][name] = SECTIONS[name](context).as_dict()
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return results


def _command(options: argparse.Namespace) -> str:
    """What measures the same again: where results and stores went is not part of it."""
    words = ["python", "bench/bench.py", *options.section, "--size", options.size]
    for name in ("repeats", "peers"):
        given = getattr(options, name)
        if given is not None:
            words += [f"--{name}", str(given)]
    return shlex.join(words + ["--no-c"] * options.no_c)


def _take_over(results: dict[str, Any], before: dict[str, Any]) -> None:
    """Sections of an earlier run stay, with its command and what it had to warn of."""
    if before["machine"] != results["machine"] or before["run"]["size"] != results["run"]["size"]:
        raise BenchError("--add: the results there are of another machine or size")
    results["sections"] = before["sections"]
    results["run"]["command"] = f"{before['run']['command']}; {results['run']['command']}"
    results["run"]["warnings"] = before["run"]["warnings"]


def _warn(results: dict[str, Any], name: str) -> None:
    warning = machine.load_warning()
    if warning:
        print(f"bench: {warning}", file=sys.stderr)
        results["run"]["warnings"].append(f"before {name}: {warning}")


def _cache() -> Path:
    """Where kvbench and the sources of its peers are kept between runs."""
    return Path.home() / ".cache" / "synadb-bench"


def show(options: argparse.Namespace, results: dict[str, Any]) -> int:
    text = report.markdown(results)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.readme:
        for page in PAGES:
            written = report.update_page(page, results)
            print(f"bench: {page.name}: {', '.join(written)}", file=sys.stderr)
    missed = [
        floor
        for section in results["sections"].values()
        for floor in section["floors"]
        if floor["passed"] is False
    ]
    return 1 if missed and options.strict else 0


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        if options.section == ["report"]:
            return show(options, json.loads(options.out.read_text()))
        with tempfile.TemporaryDirectory(prefix="synadb-bench-", dir=options.dir) as work:
            return show(options, measure(options, Path(work)))
    except (BenchError, OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
