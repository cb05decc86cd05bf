"""``synadb search FILE WORDS``: the documents of a text index."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from synadb.cli.output import Output, printable
from synadb.errors import ArgumentError


def filter_of(text: str) -> dict[str, Any]:
    """An argument that is a filter as JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def limit(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def search(a: argparse.Namespace, out: Output) -> int:
    """Status 1 when nothing was found."""
    from synadb.text import TextIndex

    words = " ".join(a.words)
    with TextIndex(a.path, read_only=True) as index:
        if len(index) == 0:
            raise ArgumentError(0, f"{a.path} holds no documents of a text index")
        hits = index.search(
            words, a.k, filter=a.filter, operator="and" if a.all else "or", snippets=True
        )
        if out.json:
            out.rows(
                (
                    {
                        "key": hit.key,
                        "score": hit.score,
                        "snippet": hit.snippet,
                        "metadata": hit.metadata,
                    }
                    for hit in hits
                ),
                ["key"],
            )
            return 0 if hits else 1
        bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
        for hit in hits:
            text = index.snippet(words, hit.text or "", before="\x02", after="\x03")
            shown = "".join(
                bold[0] if c == "\x02" else bold[1] if c == "\x03" else printable(c)
                for c in " ".join(text.split())
            )
            print(f"{hit.score:7.3f}  {printable(hit.key)}\n         {shown}")
    if not hits:
        out.error("nothing found")
    return 0 if hits else 1


__all__ = ["filter_of", "limit", "search"]
