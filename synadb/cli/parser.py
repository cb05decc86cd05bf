"""The command line: commands, options, help texts."""

from __future__ import annotations

import argparse
import datetime as dt
import difflib
import re
from typing import Any, Callable, NoReturn

from synadb.cli import commands, migrate_command, search_command, transfer

EPILOG = """\
examples:
  synadb put sensors.db temperature 23.5 -t float
  synadb get sensors.db temperature
  synadb keys sensors.db -p 'room/*'
  synadb history sensors.db temperature --since 2h
  synadb demo

A TIME is ISO 8601 (2024-05-01T12:00, local time unless it says otherwise), seconds since 1970,
or how long ago it was: 30s, 15m, 2h, 7d. KEY and VALUE may begin with a dash after `--`.
"""

# The types of `put`, with their other names.
TYPES: dict[str, str] = {
    "float": "float", "f": "float", "f64": "float",
    "int": "int", "i": "int", "i64": "int",
    "text": "text", "t": "text", "string": "text", "str": "text",
    "bytes": "bytes", "b": "bytes", "hex": "bytes",
    "json": "json", "j": "json",
}  # fmt: skip

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def time(text: str) -> Any:
    """A TIME argument as what `SynaDB.get` takes."""
    ago = _AGO.fullmatch(text)
    if ago:
        length = dt.timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        return dt.datetime.now(dt.timezone.utc) - length
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return dt.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: see synadb --help") from None


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


class Parser(argparse.ArgumentParser):
    """Suggests the command that was probably meant."""

    known: Any = ()  # the names of the commands

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)'", message)
        if wrong and "COMMAND" in message:
            message = f"unknown command {wrong[1]!r}" + did_you_mean(wrong[1], self.known)
        super().error(message)


def did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


Command = Callable[[argparse.Namespace, Any], int]


class Builder:
    """Adds commands that share the options which every command has."""

    def __init__(self) -> None:
        self.parser = Parser(
            prog="synadb",
            description="Look into SynaDB files and change them.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.parser.add_argument("--version", action="version", version=commands.version())
        self.parser.add_argument("--json", action="store_true", help="print JSON")
        self.commands = self.parser.add_subparsers(
            dest="command", metavar="COMMAND", required=True, parser_class=Parser
        )
        self.parser.known = self.commands.choices

    def add(
        self, name: str, run: Command, help: str, *, aliases: Any = (), error_status: int = 1
    ) -> argparse.ArgumentParser:
        parser = self.commands.add_parser(name, help=help, description=help, aliases=list(aliases))
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )
        parser.set_defaults(run=run, error_status=error_status)
        return parser


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    b = Builder()
    _add_reading(b)
    _add_writing(b)
    _add_upkeep(b)
    transfer.add_commands(b)

    p = b.add("demo", commands.demo, "build a searchable store from real text and query it")
    p.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    p = b.add("completion", commands.completion, "print a script that teaches a shell to complete")
    p.add_argument("shell", choices=["bash", "zsh", "fish"])
    return b.parser


def _add_reading(b: Builder) -> None:
    p = b.add("info", commands.info, "path, size, number of keys, most frequent prefixes")
    p.add_argument("path", metavar="PATH")

    p = b.add("get", commands.get, "print the value of a key")
    p.add_argument("path", metavar="PATH")
    p.add_argument("key", metavar="KEY")
    p.add_argument("--at", type=time, metavar="TIME", help="the value as it was at that time")
    p.add_argument(
        "-o", "--output", metavar="FILE", help="write the bytes of the value to FILE, - for stdout"
    )

    p = b.add("keys", commands.keys, "list the keys, sorted")
    p.add_argument("path", metavar="PATH")
    p.add_argument(
        "-p", "--pattern", metavar="PATTERN",
        help="only keys with this prefix, or matching it when it holds one of *?[",
    )  # fmt: skip
    how = p.add_mutually_exclusive_group()
    how.add_argument("-l", "--long", action="store_true", help="with types and values")
    how.add_argument(
        "--tensors", action="store_true", help="the keys of tensors' elements and chunks instead"
    )
    p.add_argument("--limit", type=count, metavar="N", help="at most N keys")

    p = b.add("history", commands.history, "list what was ever stored under a key")
    p.add_argument("path", metavar="PATH")
    p.add_argument("key", metavar="KEY")
    p.add_argument("--limit", type=count, metavar="N", help="only the last N records")
    p.add_argument("--since", type=time, metavar="TIME", help="only records from that time on")

    p = b.add("search", search_command.search, "find the documents of a text index by words")
    p.add_argument("path", metavar="PATH")
    p.add_argument(
        "words", metavar="WORDS", nargs="+",
        help='words, "+word" must be there, "-word" must not, "pre*", and quoted phrases',
    )  # fmt: skip
    p.add_argument(
        "-k", type=search_command.limit, default=10, metavar="N", help="at most N (default: 10)"
    )
    p.add_argument("--all", action="store_true", help="every word must be there")
    p.add_argument(
        "--filter", type=search_command.filter_of, metavar="JSON",
        help='only documents whose metadata match, such as \'{"year": {"$gte": 2020}}\'',
    )  # fmt: skip

    p = b.add("stats", commands.stats, "print facts and figures")
    p.add_argument("path", metavar="PATH")


def _add_writing(b: Builder) -> None:
    p = b.add("put", commands.put, "store a value; creates the file if it is missing")
    p.add_argument("path", metavar="PATH")
    p.add_argument("key", metavar="KEY")
    p.add_argument("value", metavar="VALUE", help="bytes as hex; - reads standard input")
    p.add_argument(
        "-t", "--type", choices=list(TYPES), default="text", metavar="TYPE",
        help="float, int, text (default), bytes or json",
    )  # fmt: skip
    p.add_argument("--ttl", type=float, metavar="SECONDS", help="expire after so many seconds")

    p = b.add("delete", commands.delete, "delete keys")
    p.add_argument("path", metavar="PATH")
    p.add_argument("keys", metavar="KEY", nargs="+")


def _add_upkeep(b: Builder) -> None:
    p = b.add("compact", commands.compact, "rewrite the file without what is no longer needed")
    p.add_argument("path", metavar="PATH")
    p.add_argument(
        "--keep-history", action="store_true", help="keep everything, fold numeric histories"
    )
    p.add_argument(
        "--live-history", dest="keep_history", action="store_const", const="live",
        help="keep the histories of live keys, since their last deletion",
    )  # fmt: skip
    p.add_argument(
        "--drop-history", action="store_true",
        help="keep only newest values even where metrics or features are histories",
    )  # fmt: skip

    p = b.add(
        "verify", commands.verify, "check every checksum without writing",
        aliases=["check"], error_status=2,
    )  # fmt: skip
    p.add_argument("path", metavar="PATH")

    p = b.add("salvage", commands.salvage, "copy everything readable of a damaged file")
    p.add_argument("path", metavar="PATH")
    p.add_argument("to", metavar="OUT", help="the new file, which must not exist")

    p = b.add(
        "migrate", migrate_command.migrate,
        "make a file of this library from one of the ancestor's; status 1 when not all came over",
    )  # fmt: skip
    p.add_argument("path", metavar="OLD", help="a log, .mmap, .gwi, .cascade or .svs file")
    p.add_argument("to", metavar="NEW", help="the new file, which must not exist")
    p.add_argument(
        "--metric", choices=["cosine", "euclidean", "dot_product"],
        help="how its vectors are compared, where the old file does not say",
    )  # fmt: skip
    p.add_argument(
        "--tensor", type=migrate_command.tensor, action="append", default=[],
        metavar="PREFIX=DTYPE", help="what tensors in chunks hold; * stands for all prefixes",
    )  # fmt: skip

    p = b.add("backup", commands.backup, "write a consistent copy of a file that may be in use")
    p.add_argument("path", metavar="PATH")
    p.add_argument("to", metavar="OUT", help="the new file, which must not exist")


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line; leaves by SystemExit(2) when it makes no sense."""
    if argv[:1] == ["demo"]:  # it has a command line of its own
        return argparse.Namespace(
            run=commands.demo, rest=argv[1:], json=False, error_status=1, command="demo"
        )
    arguments: argparse.Namespace | None = build().parse_args(argv)
    assert arguments is not None
    if arguments.command == "put":
        arguments.type = TYPES[arguments.type]
    return arguments
