"""``synadb migrate OLD NEW``."""

from __future__ import annotations

import argparse
import dataclasses

from synadb.cli.output import Output, printable, table

SHOWN = 50


def tensor(text: str) -> tuple[str, str]:
    """An argument PREFIX=DTYPE."""
    prefix, equals, dtype = text.rpartition("=")
    if not equals or not prefix or not dtype:
        raise argparse.ArgumentTypeError(f"{text!r} is not PREFIX=DTYPE")
    return prefix, dtype


def migrate(a: argparse.Namespace, out: Output) -> int:
    from synadb.migrate import migrate as run

    report = run(a.path, a.to, metric=a.metric, tensors=dict(a.tensor), progress=out.progress())
    if out.json:
        out.record({"complete": report.complete, **dataclasses.asdict(report)})
        return 0 if report.complete else 1
    for what, count in report.came.items():
        print(f"{count:>12,}  {what}")
    if report.lost:
        print("\nnot come over:")
        table(
            ["where", "why"],
            [[printable(lost.where), printable(lost.why)] for lost in report.lost[:SHOWN]],
        )
        if report.lost_count > SHOWN:
            print(f"... and more; --json lists {len(report.lost):,}")
    for note in report.notes:
        print(f"\nnote: {printable(note)}")
    verdict = "everything" if report.complete else f"all but {report.lost_count:,}"
    print(f"\n{report.new}: {verdict} came over, for {', '.join(report.components)}")
    return 0 if report.complete else 1
