"""The command ``synadb demo``: arguments, progress, and what is printed."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from synadb._bar import Bar
from synadb.demo.library import DIMENSIONS, QUERY_HISTORY, Answer, BuildReport, Library
from synadb.errors import SynaError

QUERIES = [
    "how do I read a zip archive",
    "compress data with gzip",
    "parse command line arguments",
    "run a subprocess and capture its output",
    "create a temporary file",
    "pick a random element from a list",
]

_STEPS = {
    "read": "reading the docstrings of the standard library",
    "learn": f"learning {DIMENSIONS} dimensions from them",
    "store vectors": "storing the vectors",
    "index words": "indexing the words",
    "store texts": "storing the texts",
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="synadb demo",
        description=(
            "Build a searchable store from the documentation of the installed Python's standard "
            "library, thousands of texts, and answer questions from it."
        ),
    )
    p.add_argument(
        "--out",
        metavar="DIR",
        help="where the store goes (default: a new temporary folder); "
        "one that is there already is used again",
    )
    p.add_argument(
        "-q",
        "--query",
        metavar="TEXT",
        action="append",
        help="ask this instead of the examples; may be repeated",
    )
    p.add_argument("-k", "--k", type=_positive, default=3, help="answers to each (default: 3)")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument("--quiet", action="store_true", help="print the answers only")
    return p


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    folder = options.out or tempfile.mkdtemp(prefix="synadb-demo-")
    screen = Screen(quiet=options.quiet or options.json)
    try:
        with Library(folder) as library:
            result = _run(library, options.query or QUERIES, options.k, screen)
    except (SynaError, OSError, ValueError) as error:
        screen.end_bar()
        print(f"synadb demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        screen.end_bar()
        print("synadb demo: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    elif options.quiet:
        for answer in result["answers"]:
            screen.show_answer(answer, always=True)
    return 0


def _run(library: Library, queries: Sequence[str], k: int, screen: Screen) -> dict[str, Any]:
    started = time.perf_counter()
    python = platform.python_version()
    screen.say(f"SynaDB demo: the standard library of Python {python}, questioned")
    reused = library.is_current
    report = None
    if reused:
        about = library.about
        screen.say(f"  using the store in {library.folder} again: {about['documents']:,} texts")
    else:
        report = library.build(progress=screen.progress)
        screen.show_build(report)
    answers = []
    for query in queries:
        answers.append(_ask(library, query, k))
        screen.show_answer(answers[-1])
    result = {
        "folder": library.folder,
        "files": library.files,
        "reused": reused,
        **{name: library.about[name] for name in ("documents", "modules", "characters", "terms")},
        "dimensions": DIMENSIONS,
        "seconds": {step: round(s, 3) for step, s in report.seconds.items()} if report else {},
        "answers": answers,
        "history": _history(library),
    }
    screen.show_end(result, time.perf_counter() - started)
    return result


def _ask(library: Library, query: str, k: int) -> dict[str, Any]:
    hits = library.ask(query, k)
    return {
        "query": query,
        "ms": round(float(library.texts.get_float(QUERY_HISTORY) or 0.0), 3),
        "hits": [_hit(answer) for answer in hits],
    }


def _hit(answer: Answer) -> dict[str, Any]:
    document = answer.document
    return {
        "score": round(answer.score, 4),
        "vector_rank": answer.vector_rank,
        "word_rank": answer.word_rank,
        "name": document.name,
        "signature": document.signature,
        "summary": document.summary,
        "file": document.file,
        "line": document.line,
    }


def _history(library: Library) -> dict[str, Any]:
    """The latencies of all queries that this store ever answered, read back as one array."""
    latency = library.texts.get_history_tensor(QUERY_HISTORY)
    return {
        "key": QUERY_HISTORY,
        "values": int(latency.size),
        "median_ms": round(float(np.median(latency)), 3),
        "fastest_ms": round(float(latency.min()), 3),
    }


def _ranks(hit: dict[str, Any]) -> str:
    """How the two searches ranked an answer."""
    ranks = (("vectors", hit["vector_rank"]), ("words", hit["word_rank"]))
    return ", ".join(f"{name}: {'-' if rank is None else rank}" for name, rank in ranks)


class Screen:
    """What a person sees: lines on standard output, a bar on a terminal's standard error."""

    def __init__(self, *, quiet: bool, out: TextIO | None = None) -> None:
        self._quiet = quiet
        self._out = out or sys.stdout
        self._width = max(60, min(shutil.get_terminal_size().columns, 110))
        self._step = ""
        self._bar: Bar | None = None

    def say(self, line: str = "") -> None:
        if not self._quiet:
            print(line, file=self._out, flush=True)

    def progress(self, step: str, done: int, total: int) -> None:
        if self._quiet or not sys.stderr.isatty():
            return
        if step != self._step:
            self.end_bar()
            self._step, self._bar = step, Bar()
            print(f"  {_STEPS[step]} ...", file=sys.stderr)
        if self._bar is not None:
            self._bar(done, total)

    def end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def show_build(self, report: BuildReport) -> None:
        self.end_bar()
        found = {
            "read": f"{report.documents:,} texts of {report.modules} modules, "
            f"{report.characters / 1e6:.1f} MB",
            "learn": f"{report.terms:,} terms",
            "store vectors": f"{report.documents:,} x {DIMENSIONS} float32, one commit",
            "index words": "for BM25, one commit",
            "store texts": "with model and metadata, one commit",
        }
        for step, seconds in report.seconds.items():
            self.say(f"  {_STEPS[step]:<47} {seconds:6.2f} s   {found[step]}")

    def show_answer(self, answer: dict[str, Any], always: bool = False) -> None:
        if self._quiet and not always:
            return
        lines = ["", f"{answer['query']}  ({answer['ms']:.1f} ms)"]
        for hit in answer["hits"]:
            name = self._shortened(hit["name"] + hit["signature"], 9)
            lines.append(f"  {hit['score']:.3f}  {name}")
            lines.append(f"         {self._shortened(hit['summary'], 9)}")
            lines.append(f"         {_ranks(hit)}")
        if not answer["hits"]:
            lines.append("  no word of this is in the texts")
        print("\n".join(lines), file=self._out, flush=True)

    def _shortened(self, text: str, indent: int) -> str:
        return textwrap.shorten(text, self._width - indent, placeholder=" ...")

    def show_end(self, result: dict[str, Any], seconds: float) -> None:
        history, files = result["history"], result["files"]
        self.say()
        noun = "value" if history["values"] == 1 else "values"
        self.say(
            f"{history['values']} {noun} in the history {history['key']}: median "
            f"{history['median_ms']:.2f} ms, fastest {history['fastest_ms']:.2f} ms"
        )
        self.say(f"{seconds:.1f} s in all. The files, for `synadb info` and `synadb keys`:")
        for file in files:
            self.say(f"  {file}")
        self.say(f'Ask on with: synadb demo --out {result["folder"]} --query "..."')


__all__: list[str] = ["QUERIES", "main", "parser"]
