"""``synadb export`` and ``synadb import``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from synadb import SynaDB
from synadb.cli.output import Output
from synadb.errors import ArgumentError

#: Formats by the ends of file names. A pickle is read only when it is asked for by name.
ENDS = {
    ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv",
    ".pickle": "pickle", ".pkl": "pickle", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".msgpack": "msgpack", ".mp": "msgpack",
}  # fmt: skip


def add_commands(b: Any) -> None:
    """Add both commands to the parser's builder."""
    from synadb.interchange import FORMATS

    formats = {"choices": list(FORMATS), "metavar": "FORMAT"}
    said = "json, jsonl, csv, pickle, msgpack, parquet or arrow; default: what FILE ends in"

    p = b.add("export", export_records, "write records to a file, or text formats to stdout")
    p.add_argument("path", metavar="PATH")
    p.add_argument("-o", "--output", metavar="FILE", default="-", help="- (default) is stdout")
    p.add_argument("-f", "--format", help=said, **formats)
    p.add_argument("-p", "--pattern", metavar="GLOB", help="only keys that match; * crosses /")
    p.add_argument("-t", "--type", metavar="TYPE", help="only values of this type")
    p.add_argument(
        "--history", action="store_true", help="every record ever written, with times and deletions"
    )

    p = b.add("import", import_records, "store the records of a file; creates the database")
    p.add_argument("path", metavar="PATH")
    p.add_argument("file", metavar="FILE")
    help = said + "; a pickle must be named, for it is a program"
    p.add_argument("-f", "--format", help=help, **formats)
    p.add_argument("--prefix", default="", metavar="TEXT", help="put TEXT before each key")


def _format(a: argparse.Namespace, name: str, default: str | None = None) -> str:
    found = a.format or ENDS.get(os.path.splitext(name)[1].lower()) or default
    if found is None:
        raise ArgumentError(0, f"{name!r} does not say what format it is; use --format")
    return str(found)


def export_records(a: argparse.Namespace, out: Output) -> int:
    from synadb.interchange import export_file, export_stream

    with SynaDB(a.path, read_only=True) as db:
        selected: dict[str, Any] = {"history": a.history, "type": a.type}
        if a.output == "-":
            export_stream(db, sys.stdout.buffer, _format(a, "-", "jsonl"), a.pattern, **selected)
            sys.stdout.buffer.flush()
            return 0
        format = _format(a, a.output)
        count = export_file(db, a.output, format, a.pattern, **selected, progress=out.progress())
    out.record({"to": a.output, "records": count}, f"{count:,} records to {a.output}")
    return 0


def import_records(a: argparse.Namespace, out: Output) -> int:
    from synadb.interchange import import_file

    format = _format(a, a.file)
    if format == "pickle" and a.format != "pickle":
        raise ArgumentError(
            0, f"{a.file}: a pickle can run anything when it is read; if you trust it: -f pickle"
        )
    os.stat(a.file)  # a missing file creates no database
    with SynaDB(a.path) as db:
        count = import_file(db, a.file, format, a.prefix, progress=out.progress())
    out.record({"from": a.file, "records": count}, f"{count:,} records from {a.file}")
    return 0
