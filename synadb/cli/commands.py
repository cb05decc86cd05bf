"""What each command does. Reading commands open the file read-only: they work beside a writer and
never create anything."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import fnmatch
import itertools
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np

from synadb import SynaDB
from synadb import salvage as salvage_file
from synadb import verify as verify_file
from synadb._core.status import version as core_version
from synadb._core.values import times_us
from synadb.cli.output import Output, printable, shortened, table, time_text, value_text
from synadb.errors import ArgumentError, IntegerRangeError, KeyNotFoundError, Reason

TOP_PREFIXES = 10
# Suggesting a key compares it with all others, which is for databases that people look at by hand.
SUGGEST_AMONG = 50_000
COPY_BYTES = 1 << 20

Arguments = argparse.Namespace


def version() -> str:
    """What ``synadb --version`` prints."""
    return f"synadb {core_version()}"


def reading(path: str) -> SynaDB:
    return SynaDB(path, read_only=True)


# ------------------------------------------------------------------------------------- reading


def info(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        keys = db.keys()
        report = db.open_report
        size = os.path.getsize(a.path)
        facts: dict[str, Any] = {
            "path": db.path,
            "bytes": size,
            "kilobytes": round(size / 1024, 1),
            "keys": len(keys),
            "format": report.format,
            "legacy": report.legacy,
            "closed_properly": report.clean,
        }
    prefixes = Counter(key.split("/", 1)[0] + "/" for key in keys if "/" in key)
    top = _most_common(prefixes)
    if out.json:
        out.record({**facts, "prefixes": [{"prefix": name, "keys": n} for name, n in top]})
        return 0
    out.record(facts)
    if top:
        print()
        table(["prefix", "keys"], [[name, n] for name, n in top])
    return 0


def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """The ten most frequent, those of equal frequency in the order of their names."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_PREFIXES]


def get(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        kind = db.type_of(a.key, at=a.at)
        if kind is None:
            raise missing(db, a.key, " at that time" if a.at is not None else "")
        if a.output is not None:
            _write_bytes(db, a, kind)
            return 0
        value = db.get(a.key, at=a.at)
    text = value_text(value)
    if kind != "text":
        text = f"{text} [{kind}]"
    elif sys.stdout.isatty():
        text = f"{printable(text)} [text]"
    out.record({"key": a.key, "type": kind, "value": value}, text)
    return 0


def _write_bytes(db: SynaDB, a: Arguments, kind: str) -> None:
    """The content of a value as it is: what `put -t bytes -` or `put -` took."""
    if kind not in ("text", "bytes", "blob"):
        raise ArgumentError(
            0, f"key {a.key!r} holds a value of type {kind}; -o writes text or bytes"
        )
    target = sys.stdout.buffer if a.output == "-" else open(a.output, "wb")
    try:
        if a.at is None:
            with db.open_blob(a.key) as source:
                while True:
                    piece = source.read(COPY_BYTES)
                    if not piece:
                        break
                    target.write(piece)
        else:
            value = db.get(a.key, at=a.at)
            target.write(value.encode("utf-8") if isinstance(value, str) else value)
        target.flush()
    finally:
        if a.output != "-":
            target.close()


def keys(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        names = tensor_keys(a.path, a.pattern) if a.tensors else matching(db, a.pattern)
        found = itertools.islice(names, a.limit)
        if a.long:
            rows = ({"key": key, **_described(db, key, out)} for key in found)
            out.rows(rows, ["key", "type", "value"])
        elif out.json:
            out.record({"keys": list(found)})
        else:
            for key in found:
                print(printable(key))
    return 0


def tensor_keys(path: str, pattern: str | None) -> Iterator[str]:
    """The virtual keys of tensors' elements and chunks; a prefix is a pattern, as in `matching`."""
    from synadb import TensorEngine

    pattern = pattern or "*"
    with TensorEngine(path, read_only=True) as engine:
        yield from engine.keys(pattern if set("*?[") & set(pattern) else pattern + "*")


def matching(db: SynaDB, pattern: str | None) -> Iterator[str]:
    """The keys with a prefix, or that match a glob: then its literal beginning limits the scan."""
    if pattern is None:
        return db.scan(keys_only=True)
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    if literal == pattern:
        return db.scan(prefix=pattern, keys_only=True)
    matches = re.compile(fnmatch.translate(pattern)).match
    return (key for key in db.scan(prefix=literal, keys_only=True) if matches(key))


def _described(db: SynaDB, key: str, out: Output) -> dict[str, Any]:
    value = db.get(key)
    return {
        "type": db.type_of(key),
        "value": value if out.json else shortened(printable(value_text(value))),
    }


def history(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        records = db.get_history(a.key)
        if not len(records) and not len(records.deletions):
            raise missing(db, a.key)
    # Two sequences in time order, merged; a deletion comes after a value of the same moment.
    events = [(when, 0, value) for when, value in records]
    events += [(when, 1, None) for when in records.deletions]
    events.sort(key=lambda event: event[:2])
    if a.since is not None:
        since = times_us([a.since])[0].astype("datetime64[us]")
        events = [event for event in events if event[0] >= since]
    if a.limit is not None:
        events = events[len(events) - min(a.limit, len(events)) :]
    out.rows((_event(event, out) for event in events), ["time", "value"])
    return 0


def _event(event: tuple[np.datetime64, int, Any], out: Output) -> dict[str, Any]:
    when, deleted, value = event
    row: dict[str, Any] = {"time": time_text(when)}
    if out.json:
        row["deleted"] = bool(deleted)
        row["value"] = value
    elif deleted:
        row["value"] = "(deleted)"
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        row["value"] = value.item() if isinstance(value, np.generic) else value
    else:
        row["value"] = shortened(printable(value_text(value)))
    return row


def stats(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        out.record(dataclasses.asdict(db.stats()))
    return 0


# ------------------------------------------------------------------------------------- writing


def put(a: Arguments, out: Output) -> int:
    value = _parse_value(a)
    with SynaDB(a.path) as db:
        offset = db.put(a.key, value, ttl=a.ttl)
    out.record({"key": a.key, "offset": offset}, f"{offset}")
    return 0


def _parse_value(a: Arguments) -> Any:
    raw: bytes | None = sys.stdin.buffer.read() if a.value == "-" else None
    if a.type == "bytes":
        return raw if raw is not None else _from_hex(a.value)
    text: str = a.value if raw is None else raw.decode("utf-8")
    if a.type == "text":
        return text
    parse: Callable[[str], Any] = {"float": float, "int": int}.get(a.type, json.loads)
    try:
        value = parse(text)
    except ValueError as error:
        raise ArgumentError(0, f"{shortened(text)!r} is no {a.type}: {error}") from None
    if a.type == "int" and not -(2**63) <= value < 2**63:
        raise IntegerRangeError(
            0,
            f"{shortened(text)!r} does not fit in 64 signed bits; -t json stores larger integers",
            reason=Reason.ARGUMENT,
        )
    return value


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ArgumentError(0, f"{shortened(text)!r} is no hex: {error}") from None


def delete(a: Arguments, out: Output) -> int:
    with SynaDB(a.path, must_exist=True) as db:
        absent = [key for key in a.keys if key not in db]
        if absent:
            raise missing(db, absent[0])
        with db.batch() as batch:
            for key in a.keys:
                batch.delete(key)
    out.record({"deleted": a.keys}, f"{len(a.keys)} deleted")
    return 0


# -------------------------------------------------------------------------------------- upkeep


_HISTORIES = {"exp/.run/": "the metrics of experiments", "fs/": "the features of a feature store"}


def _refuse_to_drop(db: SynaDB) -> None:
    for prefix, what in _HISTORIES.items():
        if any(True for _ in db.scan(prefix, keys_only=True)):
            raise ArgumentError(
                0,
                f"{db.path}: {what} ({prefix}...) are histories, of which this keeps the newest "
                "value only; --keep-history or --live-history keeps them, --drop-history says "
                "that it is meant",
                reason=Reason.ARGUMENT,
                path=db.path,
            )


def compact(a: Arguments, out: Output) -> int:
    before = os.path.getsize(a.path) if os.path.exists(a.path) else 0
    with SynaDB(a.path, must_exist=True) as db:
        if not (a.keep_history or a.drop_history):
            _refuse_to_drop(db)
        db.compact(a.keep_history, progress=out.progress())
    after = os.path.getsize(a.path)
    out.record({"bytes_before": before, "bytes_after": after, "saved": before - after})
    return 0


def verify(a: Arguments, out: Output) -> int:
    report = verify_file(a.path, progress=out.progress())
    if out.json:
        out.record({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        _print_findings(report.findings)
        verdict = "sound" if report.ok else f"{report.damaged:,} damaged places"
        torn = f", an unfinished tail of {report.torn_bytes:,} bytes" if report.torn_bytes else ""
        print(f"{verdict}: {report.frames:,} frames, {report.bytes:,} bytes{torn}")
    return 0 if report.ok else 1


def salvage(a: Arguments, out: Output) -> int:
    report = salvage_file(a.path, a.to, progress=out.progress())
    if out.json:
        out.record({"to": a.to, **dataclasses.asdict(report)})
    else:
        _print_findings(report.findings)
        print(
            f"{report.records_saved:,} records saved to {a.to}; "
            f"{report.damaged:,} damaged places in {a.path}, which is unchanged"
        )
    return 0


def _print_findings(findings: Any) -> None:
    if findings:
        table(["offset", "finding"], [[finding.offset, finding.text] for finding in findings])


def backup(a: Arguments, out: Output) -> int:
    with reading(a.path) as db:
        db.backup(a.to, progress=out.progress())
        count = len(db)
    size = os.path.getsize(a.to)
    out.record(
        {"to": a.to, "keys": count, "bytes": size}, f"{a.to}: {count:,} keys, {size:,} bytes"
    )
    return 0


# ---------------------------------------------------------------------------------- and others


def demo(a: Arguments, out: Output) -> int:
    from synadb.demo import main

    return int(main(a.rest) or 0)


def completion(a: Arguments, out: Output) -> int:
    from synadb.cli.completion import script

    print(script(a.shell))
    return 0


def missing(db: SynaDB, key: str, when: str = "") -> KeyNotFoundError:
    """The error for a key that is not there, with the keys that were probably meant."""
    close: list[str] = []
    if len(db) <= SUGGEST_AMONG and key not in db:
        close = difflib.get_close_matches(key, db.keys(), n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return KeyNotFoundError(-5, f"{db.path}: no value under key {key!r}{when}{hint}", path=db.path)
